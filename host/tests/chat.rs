//! The real `twobox chat` and `twobox send` against the real socket server, with a desk that echoes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use twobox_host::channel::socket;
use twobox_host::channel::terminal::Terminal;
use twobox_host::channel::{Channel, Desk, Inbound, Letter, Outcome, Place, Receipt, Refusal};
use twobox_shared::ids::{MessageId, SessionId, SystemIds};

/// Answers every message with an echo, from a task for each answer. What it accepted outlives a host.
struct EchoDesk {
    terminal: Arc<Terminal>,
    stored: Arc<Stored>,
}

#[derive(Default)]
struct Stored {
    ids: Mutex<HashSet<MessageId>>,
    /// Letters that no listener has acknowledged.
    held: Mutex<Vec<(Place, Letter)>>,
    silent: Mutex<bool>,
}

impl EchoDesk {
    fn deliver(&self, place: Place, letter: Letter) {
        let (terminal, stored) = (Arc::clone(&self.terminal), Arc::clone(&self.stored));
        tokio::spawn(async move {
            let outcomes = terminal.deliver(&place, vec![letter.clone()]).await;
            if !matches!(outcomes[..], [Outcome::Delivered { .. }]) {
                stored.held.lock().unwrap().push((place, letter));
            }
        });
    }
}

impl Desk for EchoDesk {
    fn accept(&self, message: Inbound) -> BoxFuture<'_, Result<Vec<Receipt>, Refusal>> {
        Box::pin(async move {
            let fresh = self.stored.ids.lock().unwrap().insert(message.id.clone());
            if fresh && !*self.stored.silent.lock().unwrap() {
                let letter = Letter {
                    key: format!("key-{}", message.id),
                    in_reply_to: Some(message.id.clone()),
                    text: format!("echo: {}\x1b[2J", message.chat.text),
                    files: vec![],
                };
                self.deliver(message.place, letter);
            }
            let session = SessionId::generate(&SystemIds);
            Ok(vec![Receipt { session, id: message.id, seq: 2 }])
        })
    }

    fn ready(&self, _place: &Place) {
        for (place, letter) in self.stored.held.lock().unwrap().drain(..) {
            self.deliver(place, letter);
        }
    }

    fn status(&self) -> BoxFuture<'_, Value> {
        Box::pin(async { json!({ "running": true }) })
    }

    fn retry(
        &self,
        _session: SessionId,
        _message: Option<MessageId>,
    ) -> BoxFuture<'_, Result<usize, String>> {
        Box::pin(async { Ok(0) })
    }
}

struct Host {
    shutdown: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Host {
    fn start(data: &Path, stored: &Arc<Stored>) -> Self {
        let terminal = Arc::new(Terminal::new());
        let desk =
            Arc::new(EchoDesk { terminal: Arc::clone(&terminal), stored: Arc::clone(stored) });
        let (shutdown, down) = watch::channel(false);
        let bound = socket::bind(&data.join("host.sock")).unwrap();
        Self { shutdown, task: tokio::spawn(bound.serve(terminal, desk, down)) }
    }

    async fn stop(self) {
        self.shutdown.send(true).unwrap();
        self.task.await.unwrap();
    }
}

fn twobox(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twobox"));
    command.arg("--data").arg(data).env("DOCKER_HOST", "unix:///nonexistent.sock");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end on a thread of its own, with `input` on its standard input.
async fn finish(mut command: Command, input: &str) -> Output {
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap()
}

async fn initialised() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut init = twobox(&data);
    init.arg("init");
    assert!(finish(init, "").await.status.success());
    (dir, data)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_gets_an_answer_to_every_line_and_nothing_steers_the_terminal() {
    let (_dir, data) = initialised().await;
    let _host = Host::start(&data, &Arc::default());
    let mut chat = twobox(&data);
    chat.arg("chat");
    let lines: String = (0..300).map(|n| format!("line {n}\n")).collect();
    let output = finish(chat, &lines).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let mut answers: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    // The desk delivers from tasks of their own, so the order is not the point here, and the last
    // answer, which ends the chat, may overtake others.
    answers.sort();
    answers.dedup();
    assert!(answers.contains(&"echo: line 299\u{fffd}[2J".to_owned()), "{answers:?}");
    assert!(answers.iter().all(|answer| answer.starts_with("echo: line ")), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn send_prints_the_answer_or_says_that_none_came() {
    let (_dir, data) = initialised().await;
    let stored: Arc<Stored> = Arc::default();
    let _host = Host::start(&data, &stored);
    let mut send = twobox(&data);
    send.args(["send", "hi"]);
    let output = finish(send, "").await;
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "accepted\n"));
    let mut send = twobox(&data);
    send.args(["--json", "send", "--wait", "20", "-"]);
    let output = finish(send, "from a pipe\n").await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["text"], "echo: from a pipe\u{1b}[2J");
    // The answer to the first message waited for a listener, and was shown beside the point.
    assert!(text(&output.stderr).contains("echo: hi"), "{}", text(&output.stderr));
    *stored.silent.lock().unwrap() = true;
    let mut send = twobox(&data);
    send.args(["send", "--wait", "0.2", "anybody?"]);
    let output = finish(send, "").await;
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).starts_with("twobox: no answer came in time"));
    let mut chat = twobox(&data);
    chat.args(["chat", "--wait", "0.2"]);
    assert_eq!(finish(chat, "hello?\n").await.status.code(), Some(3));
    let mut status = twobox(&data);
    status.arg("status");
    assert_eq!(text(&finish(status, "").await.stdout), "running  true\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_outlives_the_host_and_shows_each_answer_once() {
    let (_dir, data) = initialised().await;
    let stored: Arc<Stored> = Arc::default();
    let host = Host::start(&data, &stored);
    let mut chat = twobox(&data);
    let mut chat = chat.args(["chat", "--wait", "30"]).spawn().unwrap();
    let mut input = chat.stdin.take().unwrap();
    let mut errors = BufReader::new(chat.stderr.take().unwrap()).lines();
    writeln!(input, "before").unwrap();
    let heard = |stored: &Stored| stored.ids.lock().unwrap().len();
    while heard(&stored) < 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    host.stop().await;
    assert!(errors.next().unwrap().unwrap().contains("the host is gone"));
    writeln!(input, "meanwhile").unwrap();
    let host = Host::start(&data, &stored);
    assert!(errors.next().unwrap().unwrap().contains("the host is back"));
    writeln!(input, "after").unwrap();
    while heard(&stored) < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(input);
    let output = tokio::task::spawn_blocking(move || chat.wait_with_output().unwrap()).await;
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0));
    for line in ["before", "meanwhile", "after"] {
        let shown = text(&output.stdout).matches(&format!("echo: {line}")).count();
        assert!(shown <= 1 && (line != "after" || shown == 1), "{line}: {shown} times");
    }
    host.stop().await;
}
