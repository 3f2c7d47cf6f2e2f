//! The `irc` channel, with a server in memory of each sort: one that puts labels on what it answers, and one that answers
//! a PING and no more. Real ones are asked in the tests of the whole system.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use twobox_config::ChannelSettings;
use twobox_model::channel::{Address, Asked, Inbound, Receipt, Refusal};
use twobox_shared::clock::SystemClock;
use twobox_shared::ids::MessageId;
use twobox_system::lock::lock;

use super::{BUSY, Bench, Weather, conforms};
use crate::instance::{Instance, Lives};
use crate::irc::{IRC, IrcChannel};
use crate::kinds::Setup;
use crate::parts::MemoryJournal;
use crate::{Channel, Intake};

/// A deadline that only something that hangs reaches.
const LONG: Duration = Duration::from_secs(60);

/// What the server has said and does.
#[derive(Default)]
struct Seen {
    shown: Vec<String>,
    mended: bool,
}

#[derive(Clone)]
struct Server {
    labels: bool,
    seen: Arc<Mutex<Seen>>,
    cut: watch::Sender<bool>,
}

impl Server {
    async fn serve(self, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (server, mut cut) = (self.clone(), self.cut.subscribe());
            tokio::spawn(async move {
                tokio::select! {
                    _ = cut.wait_for(|cut| *cut) => {}
                    () = server.talk(stream) => {}
                }
            });
        }
    }

    /// Answers whoever connects, until there is nothing to be said.
    async fn talk(&self, stream: TcpStream) {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            assert!(line.len() <= 510 + 16, "{line}");
            let Some(answers) = self.answer(&line) else { return };
            for answer in answers {
                if write.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }

    /// What is answered; `None` has the connection closed.
    fn answer(&self, line: &str) -> Option<Vec<String>> {
        let (label, line) = match line.strip_prefix("@label=") {
            Some(rest) => rest.split_once(' ').map(|(label, line)| (Some(label), line)).unwrap(),
            None => (None, line),
        };
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let caps = "batch echo-message labeled-response message-tags";
        Some(match command {
            "CAP" if rest.starts_with("LS") => {
                vec![format!(":s CAP * LS :{}", if self.labels { caps } else { "multi-prefix" })]
            }
            "CAP" if rest.starts_with("REQ") => {
                vec![format!(":s CAP * ACK {}", rest.trim_start_matches("REQ "))]
            }
            "CAP" => [":s 001 bot :Welcome", ":s 422 bot :no MOTD"].map(str::to_owned).to_vec(),
            "PING" => vec![format!(":s PONG s :{rest}")],
            "PRIVMSG" => self.privmsg(label, rest)?,
            "QUIT" => return None,
            _ => Vec::new(),
        })
    }

    fn privmsg(&self, label: Option<&str>, rest: &str) -> Option<Vec<String>> {
        let tag = label.map_or_else(String::new, |label| format!("@label={label} "));
        let (target, text) = rest.split_once(' ').unwrap();
        assert_eq!(target, "ada");
        let text = text.strip_prefix(':').unwrap_or(text);
        let mut seen = lock(&self.seen);
        let weather = Weather::of(text).filter(|_| !seen.mended);
        let refused = match weather {
            Some(Weather::Busy) => {
                let seconds = BUSY.as_secs();
                format!("439 bot ada :Target change too fast. Please wait {seconds} seconds.")
            }
            Some(Weather::Never) => "404 bot ada :You may not say that".to_owned(),
            Some(Weather::Silent) | None => {
                seen.shown.push(text.to_owned());
                if weather.is_some() {
                    return None;
                }
                let echo = label.map(|_| format!("{tag}:bot!b@h PRIVMSG ada :{text}"));
                return Some(echo.into_iter().collect());
            }
        };
        Some(vec![format!("{tag}:s {refused}")])
    }
}

/// Nobody listens.
struct Nobody;

impl Intake for Nobody {
    fn accept(&self, _message: Inbound) -> BoxFuture<'_, Result<Vec<Receipt>, Refusal>> {
        Box::pin(async { Err(Refusal::Unheard { say: None }) })
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
        Box::pin(async { false })
    }

    fn ready(&self, _address: &Address) {}

    fn up(&self, _channel: &str) {}
}

struct IrcBench {
    server: Server,
    port: u16,
    folder: TempDir,
    journal: Arc<MemoryJournal>,
    instance: Option<(Arc<Instance>, Lives)>,
}

impl IrcBench {
    fn new(labels: bool) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Server { labels, seen: Arc::default(), cut: watch::Sender::new(false) };
        tokio::spawn(server.clone().serve(TcpListener::from_std(listener).unwrap()));
        let folder = tempfile::tempdir().unwrap();
        Self { server, port, folder, journal: Arc::default(), instance: None }
    }

    /// Waits until the instance is up, or is not.
    fn wait(&self, up: bool) {
        let (instance, _) = self.instance.as_ref().unwrap();
        block(async {
            while instance.health().life.is_up() != up {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
    }
}

/// Waits in the middle of what does not.
fn block<T>(work: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| {
        let within =
            async { tokio::time::timeout(LONG, work).await.expect("it never comes to that") };
        tokio::runtime::Handle::current().block_on(within)
    })
}

impl Bench for IrcBench {
    fn begin(&mut self) -> Arc<dyn Channel> {
        if let Some((_, lives)) = self.instance.take() {
            block(lives.end(LONG));
        }
        let port = self.port;
        let settings = format!(
            "server = '127.0.0.1:{port}'\ntls = false\nnick = 'bot'\nburst = 20\npause = '100ms'"
        );
        let settings =
            &ChannelSettings { kind: IRC.to_owned(), settings: settings.parse().unwrap() };
        let folder = self.folder.path();
        let scratch = &folder.join("scratch");
        let secrets = Arc::new(|_: &str| Ok(None));
        let name_of = &str::to_owned;
        let journal = Arc::<MemoryJournal>::clone(&self.journal);
        let setup =
            Setup { id: "c", settings, name_of, folder, scratch, secrets, journal, file_max: 0 };
        let channel = Arc::new(IrcChannel::new(&setup).unwrap());
        let instance = Arc::new(Instance::new("c", IRC, channel, Arc::new(SystemClock)));
        let intake: Arc<dyn Intake> = Arc::new(Nobody);
        let lives = Lives::begin(vec![Arc::clone(&instance)], &intake);
        self.instance = Some((Arc::clone(&instance), lives));
        self.wait(true);
        instance
    }

    fn shown(&self) -> Vec<String> {
        let shown = lock(&self.server.seen).shown.clone();
        shown.into_iter().filter(|line| !line.starts_with("[file: ")).collect()
    }

    fn knows(&self, _weather: Weather) -> bool {
        true
    }

    fn mend(&mut self) {
        lock(&self.server.seen).mended = true;
        self.wait(true);
    }

    fn cut(&mut self, cut: bool) {
        self.server.cut.send_replace(cut);
        self.wait(!cut);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_labels_conforms() {
    conforms(|| IrcBench::new(true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_a_ping_alone_conforms() {
    conforms(|| IrcBench::new(false)).await;
}
