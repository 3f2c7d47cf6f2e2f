//! The real `twobox chat` and `twobox send` against the real socket server, with a host that echoes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{HashSet, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use twobox_channels::terminal::Terminal;
use twobox_channels::{Channel, Intake, Operations, socket};
use twobox_model::approval::{Approval, ApprovalOrder};
use twobox_model::channel::{
    Address, Asked, Inbound, Outbound, Outcome, Receipt, Refusal, ScheduleOrder, Stopped,
};
use twobox_model::dead_letter::{DeadLetterOrder, Handled};
use twobox_shared::ids::{MessageId, SessionId, SystemIds};

/// Answers every message, or several with one message, with an echo of the newest, first in, first
/// out. What it stored outlives a host.
struct EchoHost {
    stored: Arc<Stored>,
}

#[derive(Default)]
struct Stored {
    ids: Mutex<HashSet<MessageId>>,
    /// What was said, in order.
    said: Mutex<Vec<String>>,
    /// Messages that no listener has acknowledged, the oldest first.
    outbounds: Mutex<VecDeque<(Address, Outbound)>>,
    /// There may be something to deliver; remembered while a delivery is under way.
    changed: Notify,
    silent: Mutex<bool>,
    /// Whether it says that messages have failed instead of answering them.
    fails: Mutex<bool>,
    /// How many messages one message answers; 0 is 1.
    batch: Mutex<usize>,
    unanswered: Mutex<Vec<MessageId>>,
    /// What it says when it is asked to stop something, in turn; then that it has told somebody.
    stops: Mutex<VecDeque<Stopped>>,
}

impl Stored {
    /// Waits until `count` messages have come.
    async fn heard(&self, count: usize) {
        let come = async {
            while self.ids.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, come).await.expect("the messages did not come");
    }
}

/// Delivers the oldest message until nobody takes it, and again when something changes.
async fn pump(terminal: Arc<Terminal>, stored: Arc<Stored>) {
    loop {
        let oldest = stored.outbounds.lock().unwrap().front().cloned();
        if let Some((address, outbound)) = oldest
            && let [Outcome::Delivered { .. }] =
                terminal.deliver(&address, vec![outbound]).await[..]
        {
            stored.outbounds.lock().unwrap().pop_front();
            continue;
        }
        stored.changed.notified().await;
    }
}

impl Intake for EchoHost {
    fn accept(&self, message: Inbound) -> BoxFuture<'_, Result<Vec<Receipt>, Refusal>> {
        Box::pin(async move {
            let fresh = self.stored.ids.lock().unwrap().insert(message.id.clone());
            if fresh {
                self.stored.said.lock().unwrap().push(message.chat.text.clone());
            }
            let answers = {
                let mut unanswered = self.stored.unanswered.lock().unwrap();
                unanswered.extend(fresh.then(|| message.id.clone()));
                let enough = unanswered.len() >= *self.stored.batch.lock().unwrap();
                if fresh && enough { std::mem::take(&mut *unanswered) } else { Vec::new() }
            };
            if !answers.is_empty() && !*self.stored.silent.lock().unwrap() {
                let failed = *self.stored.fails.lock().unwrap();
                let outbound = Outbound {
                    key: format!("key-{}", message.id),
                    in_reply_to: (!failed).then(|| message.id.clone()),
                    answers,
                    text: format!("echo: {}\x1b[2J", message.chat.text),
                    files: vec![],
                    shelf: None,
                    failed,
                    prompt: None,
                };
                self.stored.outbounds.lock().unwrap().push_back((message.address, outbound));
                self.stored.changed.notify_one();
            }
            let session = SessionId::generate(&SystemIds);
            Ok(vec![Receipt { session, id: message.id, seq: 2 }])
        })
    }

    fn asked<'a>(
        &'a self,
        _address: &'a Address,
        _id: &'a MessageId,
        _text: &'a str,
    ) -> BoxFuture<'a, Asked> {
        Box::pin(async { Asked::Over })
    }

    fn takes_files<'a>(&'a self, _message: &'a Inbound) -> BoxFuture<'a, bool> {
        Box::pin(async { true })
    }

    fn ready(&self, _place: &Address) {
        self.stored.changed.notify_one();
    }

    fn up(&self, channel: &str) {
        panic!("no {channel} lives here");
    }
}

impl Operations for EchoHost {
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

    fn restart(&self, _session: SessionId) -> BoxFuture<'_, Result<bool, String>> {
        Box::pin(async { Ok(false) })
    }

    fn stop(
        &self,
        _session: SessionId,
        _message: MessageId,
        force: bool,
    ) -> BoxFuture<'_, Result<Stopped, String>> {
        let next = self.stored.stops.lock().unwrap().pop_front();
        let outcome = if force { Stopped::Stopped } else { next.unwrap_or(Stopped::Told) };
        Box::pin(async move { Ok(outcome) })
    }

    fn schedules(&self, _order: ScheduleOrder) -> BoxFuture<'_, Result<Value, String>> {
        Box::pin(async { Err("there are no schedules here".to_owned()) })
    }

    fn decide(&self, _order: ApprovalOrder) -> BoxFuture<'_, Result<Approval, String>> {
        Box::pin(async { Err("nothing is asked here".to_owned()) })
    }

    fn dead(
        &self,
        _session: SessionId,
        _order: DeadLetterOrder,
    ) -> BoxFuture<'_, Result<Vec<Handled>, String>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

struct Host {
    shutdown: watch::Sender<bool>,
    serving: JoinHandle<()>,
    pump: JoinHandle<()>,
}

impl Host {
    fn start(data: &Path, stored: &Arc<Stored>) -> Self {
        let terminal = Arc::new(Terminal::new());
        let host = Arc::new(EchoHost { stored: Arc::clone(stored) });
        let (shutdown, down) = watch::channel(false);
        let bound = socket::bind(&data.join("host.sock")).unwrap();
        let pump = tokio::spawn(pump(Arc::clone(&terminal), Arc::clone(stored)));
        Self {
            shutdown,
            serving: tokio::spawn(bound.serve(terminal, Arc::clone(&host) as _, host, down)),
            pump,
        }
    }

    async fn stop(self) {
        self.shutdown.send(true).unwrap();
        self.serving.await.unwrap();
        self.pump.abort();
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
    init.args(["init", "--runtime", "process"]);
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
    let expected: String = (0..300).map(|n| format!("echo: line {n}\\u{{1b}}[2J\n")).collect();
    assert_eq!(text(&output.stdout), expected);
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
    send.args(["send", "--agent", "assistant", "--thread", "my t", "--wait", "0.2", "anybody?"]);
    let output = finish(send, "").await;
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let address = data.display();
    assert_eq!(
        text(&output.stderr),
        format!(
            "twobox: no answer came in time: if one comes later, `twobox --data {address} chat --agent \
             assistant --thread 'my t'` shows it\n"
        )
    );
    let mut chat = twobox(&data);
    chat.args(["chat", "--wait", "0.2"]);
    assert_eq!(finish(chat, "hello?\n").await.status.code(), Some(3));
    let mut status = twobox(&data);
    status.arg("status");
    assert_eq!(text(&finish(status, "").await.stdout), "running  true\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_outbound_answers_everybody_whom_it_names() {
    let (_dir, data) = initialised().await;
    let stored: Arc<Stored> = Arc::default();
    *stored.batch.lock().unwrap() = 2;
    let _host = Host::start(&data, &stored);
    let send = |text: &str| {
        let mut send = twobox(&data);
        send.args(["send", "--wait", "30", text]);
        finish(send, "")
    };
    let first = tokio::spawn(send("first"));
    stored.heard(1).await;
    let second = send("second").await;
    for output in [first.await.unwrap(), second] {
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "echo: second\\u{1b}[2J\n");
    }
    let mut chat = twobox(&data);
    chat.args(["chat", "--wait", "30"]);
    let output = finish(chat, "third\nfourth\n").await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "echo: fourth\\u{1b}[2J\n");
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
    stored.heard(1).await;
    host.stop().await;
    assert!(errors.next().unwrap().unwrap().contains("the host is gone"));
    writeln!(input, "meanwhile").unwrap();
    let host = Host::start(&data, &stored);
    assert!(errors.next().unwrap().unwrap().contains("the host is back"));
    writeln!(input, "after").unwrap();
    stored.heard(3).await;
    drop(input);
    let output = tokio::task::spawn_blocking(move || chat.wait_with_output().unwrap()).await;
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0));
    let expected =
        ["before", "meanwhile", "after"].map(|line| format!("echo: {line}\\u{{1b}}[2J\n"));
    assert_eq!(text(&output.stdout), expected.concat());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_failed_ends_the_wait_at_once_with_its_reason() {
    let (_dir, data) = initialised().await;
    let stored: Arc<Stored> = Arc::default();
    *stored.fails.lock().unwrap() = true;
    let _host = Host::start(&data, &stored);
    let run = |arguments: &[&str], input: &'static str| {
        let mut command = twobox(&data);
        command.args(arguments);
        finish(command, input)
    };
    let sent = run(&["send", "--wait", "600", "hi"], "").await;
    assert_eq!((sent.status.code(), text(&sent.stdout).as_str()), (Some(1), ""));
    assert_eq!(text(&sent.stderr), "twobox: echo: hi\\u{1b}[2J\n", "the reason and nothing else");
    let json = run(&["--json", "send", "--id", "m", "--wait", "600", "hi"], "").await;
    assert_eq!(json.status.code(), Some(1));
    let outbound: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&outbound["answers"], &outbound["failed"]), (&json!(["m"]), &json!(true)));
    let error: Value = serde_json::from_slice(&json.stderr).unwrap();
    assert_eq!(error["error"], outbound["text"]);
    let piped = run(&["chat", "--wait", "600"], "one\ntwo\n").await;
    assert_eq!(piped.status.code(), Some(1));
    assert!(text(&piped.stderr).contains("2 messages were not answered, because they failed"));
    assert_eq!(text(&piped.stdout).lines().count(), 2, "each is told");
}

/// Just as much of a terminal as the program uses: what is on its screen, line by line.
#[derive(Debug, Default)]
struct Screen {
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

/// Wide enough that no line of these tests is broken.
const COLUMNS: u16 = 10_000;

impl Screen {
    /// What is shown after `bytes`.
    fn after(bytes: &[u8]) -> Vec<String> {
        let mut screen = Self::default();
        let text = String::from_utf8_lossy(bytes);
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '\x1b' if rest.peek() == Some(&'[') => {
                    rest.next();
                    let mut parameters = String::new();
                    let end = loop {
                        match rest.next() {
                            Some(c @ ('0'..='9' | ';' | '?' | '>')) => parameters.push(c),
                            other => break other.unwrap_or('m'),
                        }
                    };
                    screen.control(end, &parameters);
                }
                '\r' => screen.column = 0,
                '\n' => {
                    screen.row += 1;
                    screen.column = 0; // the terminal turns it into both
                }
                c if c.is_control() => {}
                c => screen.put(c),
            }
        }
        let lines = screen.lines.into_iter().map(|line| line.into_iter().collect::<String>());
        lines.map(|line| line.trim_end().to_owned()).collect()
    }

    fn line(&mut self) -> &mut Vec<char> {
        let most = self.lines.len().max(self.row + 1);
        self.lines.resize(most, Vec::new());
        &mut self.lines[self.row]
    }

    fn put(&mut self, c: char) {
        let column = self.column;
        let line = self.line();
        let most = line.len().max(column + 1);
        line.resize(most, ' ');
        line[column] = c;
        self.column += 1;
    }

    fn control(&mut self, end: char, parameters: &str) {
        let count = parameters.parse().unwrap_or(1);
        match end {
            'A' => self.row = self.row.saturating_sub(count),
            'B' => self.row += count,
            'C' => self.column += count,
            'D' => self.column = self.column.saturating_sub(count),
            'G' => self.column = count - 1,
            'J' | 'K' => {
                let column = self.column;
                self.line().truncate(column);
                let row = self.row;
                if end == 'J' {
                    self.lines.truncate(row + 1);
                }
            }
            _ => {}
        }
    }
}

/// `twobox chat` at a terminal of its own.
struct AtTerminal {
    /// Until somebody waits for its end.
    child: Option<std::process::Child>,
    keys: std::fs::File,
    shown: Arc<Mutex<Vec<u8>>>,
    _slave: std::os::fd::OwnedFd,
}

impl AtTerminal {
    fn chat(data: &Path, arguments: &[&str]) -> Self {
        let size = nix::pty::Winsize { ws_row: 50, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = nix::pty::openpty(&size, None).unwrap();
        // A program that held the other end itself would never see its terminal go.
        let close = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
        nix::fcntl::fcntl(&pty.master, close).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = twobox(data);
        command.args(arguments).arg("chat").env("TERM", "xterm");
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let keys = std::fs::File::from(pty.master);
        let shown: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (mut output, theirs) = (keys.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = std::io::Read::read(&mut output, &mut buffer) {
                theirs.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { child: Some(child), keys, shown, _slave: pty.slave }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn lines(&self) -> Vec<String> {
        Screen::after(&self.shown.lock().unwrap())
    }

    /// Waits until the screen is as `wanted`.
    async fn wait(&self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        for _ in 0..3000 {
            let lines = self.lines();
            if wanted(&lines) {
                return lines;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}: {:#?}", self.lines());
    }

    /// Waits for the prompt, with nothing typed.
    async fn wait_prompt(&self) {
        self.wait("no prompt", |lines| lines.last().is_some_and(|line| line == ">")).await;
    }

    /// Waits for the program to end, and says how; the terminal has to be as it was.
    async fn wait_end(mut self) -> (Option<i32>, Vec<String>) {
        use nix::sys::termios::{LocalFlags, tcgetattr};
        let mut child = self.child.take().unwrap();
        let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
        let flags = tcgetattr(&self._slave).unwrap().local_flags;
        assert!(flags.contains(LocalFlags::ICANON | LocalFlags::ECHO), "{flags:?}");
        // The end of what it has said, which this end of the terminal may not have read yet.
        self.keys.flush().unwrap();
        (status.code(), Screen::after(&self.shown.lock().unwrap()))
    }
}

impl Drop for AtTerminal {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_takes_long_lines_and_several_as_one_message() {
    let (_dir, data) = initialised().await;
    let stored: Arc<Stored> = Arc::default();
    let _host = Host::start(&data, &stored);
    let mut chat = AtTerminal::chat(&data, &[]);
    chat.wait_prompt().await;
    let long = "long ".repeat(1200); // a terminal that edits lines itself takes 4095 bytes
    chat.press(&format!("{long}\r"));
    stored.heard(1).await;
    chat.press("\x1b[200~one\rtwo\r\rfour\x1b[201~");
    chat.press(" and\x1b\rmore\r");
    stored.heard(2).await;
    chat.press("up\r");
    stored.heard(3).await;
    chat.press("\x1b[A\x1b[D\x1b[D<\r"); // what was typed before, two to the left
    stored.heard(4).await;
    let said = stored.said.lock().unwrap().clone();
    assert_eq!(said, [&long, "one\ntwo\n\nfour and\nmore", "up", "<up"]);
    chat.wait("the answer", |lines| lines.iter().any(|line| line.starts_with("echo: <up"))).await;
    chat.press("\x04");
    assert_eq!(chat.wait_end().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_one_types_stands_above_the_line() {
    let (_dir, data) = initialised().await;
    let stored: Arc<Stored> = Arc::default();
    let _host = Host::start(&data, &stored);
    let mut chat = AtTerminal::chat(&data, &[]);
    chat.wait_prompt().await;
    chat.press("half a");
    chat.wait("what was typed", |lines| lines.last().is_some_and(|line| line == "> half a")).await;
    let address = Address {
        channel_type: "terminal".into(),
        platform_id: "assistant".into(),
        thread_id: None,
    };
    for number in 0..50 {
        let outbound = Outbound {
            key: format!("k{number}"),
            in_reply_to: None,
            answers: vec![],
            text: format!("letter {number}\nof two lines"),
            files: vec!["a.txt".to_owned()],
            shelf: None,
            failed: false,
            prompt: None,
        };
        stored.outbounds.lock().unwrap().push_back((address.clone(), outbound));
    }
    stored.changed.notify_one();
    let last = |line: &String| line.starts_with("letter 49");
    let lines = chat.wait("the letters", |lines| lines.iter().any(last)).await;
    let typed: Vec<_> = lines.iter().filter(|line| line.contains("half")).collect();
    assert_eq!(typed, ["> half a"], "nothing is glued to it: {lines:#?}");
    let lines = chat
        .wait("the line below", |lines| lines.last().is_some_and(|line| line == "> half a"))
        .await;
    let shown: Vec<_> = lines.iter().filter(|line| line.starts_with("letter ")).collect();
    let expected: Vec<_> = (0..50).map(|number| format!("letter {number}")).collect();
    assert_eq!(shown, expected.iter().collect::<Vec<_>>(), "each once, in order");
    chat.press(" line\r");
    stored.heard(1).await;
    assert_eq!(*stored.said.lock().unwrap(), ["half a line"]);
    chat.press("/quit\r");
    let (code, lines) = chat.wait_end().await;
    assert_eq!(code, Some(0), "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn words_to_the_program_do_what_they_say_and_are_not_sent() {
    let (_dir, data) = initialised().await;
    let stored: Arc<Stored> = Arc::default();
    *stored.silent.lock().unwrap() = true;
    let _host = Host::start(&data, &stored);
    let mut chat = AtTerminal::chat(&data, &[]);
    chat.wait_prompt().await;
    let says =
        |part: &'static str| move |lines: &[String]| lines.iter().any(|line| line.contains(part));
    chat.press("/help\r");
    chat.wait("help", says("Alt-Enter")).await;
    chat.press("/stpo\r");
    chat.wait("an explanation", says("there is no /stpo")).await;
    chat.press("hang\r");
    stored.heard(1).await;
    chat.wait("that it works", says("(assistant is working …)")).await;
    chat.press("/stop\r");
    chat.wait("what became of it", says("was told to stop")).await;
    chat.press("/stop\r");
    chat.wait("the end", says("(stopped:")).await;
    chat.press("//stop\r");
    stored.heard(2).await;
    chat.press("/status\r");
    stored.heard(3).await;
    assert_eq!(*stored.said.lock().unwrap(), ["hang", "/stop", "/status"]);
    chat.press("gone\x03");
    chat.wait("how to leave", says("Ctrl-C once more")).await;
    chat.press("\x03");
    assert_eq!(chat.wait_end().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_stopped_is_no_work_and_its_end_is_said_once() {
    let (_dir, data) = initialised().await;
    let stored: Arc<Stored> = Arc::default();
    *stored.silent.lock().unwrap() = true;
    let _host = Host::start(&data, &stored);
    let mut chat = AtTerminal::chat(&data, &[]);
    chat.wait_prompt().await;
    let counted =
        |lines: &[String], part: &str| lines.iter().filter(|line| line.contains(part)).count();
    for count in 1..=2 {
        chat.press("hang\r");
        stored.heard(count).await;
    }
    chat.wait("that it works", |lines| counted(lines, "is working") == 1).await;
    // The second of them was not begun with, and the turn of the first takes its time to end.
    let (told, stopped) = (Stopped::Told, Stopped::Stopped);
    stored.stops.lock().unwrap().extend([told, stopped, told, told, stopped]);
    chat.press("/stop\r");
    chat.wait("that it was told", |lines| counted(lines, "was told to stop") == 1).await;
    let lines = chat.wait("the end", |lines| counted(lines, "(stopped:") == 1).await;
    let said = ["is working", "was told to stop"].map(|part| counted(&lines, part));
    assert_eq!(said, [1, 1], "{lines:#?}");
    assert!(stored.stops.lock().unwrap().is_empty(), "it asked until it was over");
    chat.press("/stop\r");
    stored.heard(3).await; // what others have said is the host's to stop
    assert_eq!(stored.said.lock().unwrap().last().map(String::as_str), Some("/stop"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_when_one_leaves_is_on_the_screen() {
    let (_dir, data) = initialised().await;
    let stored: Arc<Stored> = Arc::default();
    let _host = Host::start(&data, &stored);
    let mut chat = AtTerminal::chat(&data, &[]);
    chat.wait_prompt().await;
    let address = Address {
        channel_type: "terminal".into(),
        platform_id: "assistant".into(),
        thread_id: None,
    };
    let count = 300;
    for number in 0..count {
        let outbound = Outbound {
            key: format!("k{number}"),
            in_reply_to: None,
            answers: vec![],
            text: format!("letter {number}."),
            files: vec![],
            shelf: None,
            failed: false,
            prompt: None,
        };
        stored.outbounds.lock().unwrap().push_back((address.clone(), outbound));
    }
    stored.changed.notify_one();
    let first = |line: &String| line == "letter 0.";
    chat.wait("the first", |lines| lines.iter().any(first)).await;
    chat.press("\x04");
    let shown = Arc::clone(&chat.shown);
    assert_eq!(chat.wait_end().await.0, Some(0));
    let left = stored.outbounds.lock().unwrap().len();
    let last = format!("letter {}.", count - left - 1);
    for _ in 0..3000 {
        let lines = Screen::after(&shown.lock().unwrap());
        if lines.contains(&last) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{last} was taken and is not shown, {left} were left");
}
