//! The `discord` channel, with an API in memory that makes one message under a nonce. A stand-in that has a gateway, too,
//! is asked in the tests of the whole system.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use twobox_config::ChannelSettings;
use twobox_model::channel::{Address, Outcome};
use twobox_system::lock::lock;

use super::{BUSY, Bench, Weather, conforms, outbounds};
use crate::Channel;
use crate::discord::DiscordChannel;
use crate::kinds::Setup;
use crate::parts::MemoryJournal;

#[derive(Default)]
struct Api {
    messages: Vec<Value>,
    files: Vec<String>,
    /// How often one was to be made.
    posts: usize,
    mended: bool,
    cut: bool,
    /// Whether the history is shown to nobody.
    hidden: bool,
}

/// What is answered; `None` is silence.
type Answer = Option<(u16, Value)>;

impl Api {
    fn answer(&mut self, method: &Method, path: &str, kind: &str, body: &[u8]) -> Answer {
        if self.cut {
            return None;
        }
        match (method, path) {
            (&Method::POST, "/api/v10/channels/34/messages") => self.post(kind, body),
            (&Method::GET, "/api/v10/channels/34/messages") if self.hidden => {
                Some((200, json!([])))
            }
            (&Method::GET, "/api/v10/channels/34") => {
                let last = self.messages.last().map(|message| message["id"].clone());
                Some((200, json!({ "id": "34", "type": 0, "last_message_id": last })))
            }
            (&Method::GET, "/api/v10/channels/34/messages") => {
                Some((200, self.messages.iter().rev().cloned().collect()))
            }
            _ => Some((404, json!({ "code": 10_003, "message": "Unknown Channel" }))),
        }
    }

    fn post(&mut self, kind: &str, body: &[u8]) -> Answer {
        self.posts += 1;
        let text = String::from_utf8(body.to_vec()).unwrap();
        let mut file = None;
        let message = match kind.strip_prefix("multipart/form-data; boundary=") {
            None => text,
            Some(boundary) => {
                let mark = format!("--{boundary}");
                let mut pieces = text.split(&mark).skip(1).map(|piece| {
                    piece.split_once("\r\n\r\n").map(|(_, text)| text.trim_end_matches("\r\n"))
                });
                let message = pieces.next().unwrap().unwrap().to_owned();
                file = pieces.next().unwrap().map(str::to_owned);
                message
            }
        };
        let mut message: Value = serde_json::from_str(&message).unwrap();
        assert_eq!(message["enforce_nonce"], true);
        let content = message["content"].as_str().unwrap();
        let weather = Weather::of(content).filter(|_| !self.mended);
        match weather {
            Some(Weather::Busy) => {
                let said = json!({ "retry_after": BUSY.as_secs_f64(), "global": false });
                return Some((429, said));
            }
            Some(Weather::Never) => {
                return Some((403, json!({ "code": 50_013, "message": "Missing Permissions" })));
            }
            Some(Weather::Silent) | None => {}
        }
        let known = self.messages.iter().find(|known| known["nonce"] == message["nonce"]).cloned();
        let made = known.unwrap_or_else(|| {
            message["id"] = json!((1000 + self.messages.len()).to_string());
            message["channel_id"] = json!("34");
            message["author"] = json!({ "id": "7", "bot": true });
            self.messages.push(message.clone());
            self.files.extend(file);
            message
        });
        (weather != Some(Weather::Silent)).then_some((200, made))
    }
}

struct DiscordBench {
    api: Arc<Mutex<Api>>,
    address: String,
    folder: TempDir,
    journal: Arc<MemoryJournal>,
}

impl DiscordBench {
    fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("http://{}/api", listener.local_addr().unwrap());
        let api = Arc::<Mutex<Api>>::default();
        tokio::spawn(serve(TcpListener::from_std(listener).unwrap(), Arc::clone(&api)));
        let (folder, journal) = (tempfile::tempdir().unwrap(), Arc::default());
        Self { api, address, folder, journal }
    }
}

async fn serve(listener: TcpListener, api: Arc<Mutex<Api>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let api = Arc::clone(&api);
        let service = service_fn(move |request: Request<Incoming>| {
            let api = Arc::clone(&api);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                assert_eq!(parts.headers["authorization"], "Bot token");
                let kind = parts.headers.get("content-type").map_or("", |it| it.to_str().unwrap());
                let answer = lock(&api).answer(&parts.method, parts.uri.path(), kind, &body);
                // An error has the connection closed without a word.
                let (status, body) = answer.ok_or("silence")?;
                let body = Full::new(Bytes::from(body.to_string()));
                Ok::<_, &'static str>(Response::builder().status(status).body(body).unwrap())
            }
        });
        let connection = hyper::server::conn::http1::Builder::new();
        tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
    }
}

impl Bench for DiscordBench {
    fn begin(&mut self) -> Arc<dyn Channel> {
        let settings = json!({ "token_secret": "t", "api": self.address });
        let settings = toml::Table::try_from(settings).unwrap();
        let settings = &ChannelSettings { kind: "discord".to_owned(), settings };
        let folder = self.folder.path();
        let scratch = &folder.join("scratch");
        let secrets = Arc::new(|_: &str| Ok(None));
        let name_of = &str::to_owned;
        let journal = Arc::clone(&self.journal) as _;
        let setup = Setup {
            id: "c",
            settings,
            name_of,
            folder,
            scratch,
            secrets,
            journal,
            file_max: 20 << 20,
        };
        let channel = DiscordChannel::new(&setup).unwrap();
        channel.let_in("token");
        Arc::new(channel)
    }

    fn address(&self) -> Address {
        let thread_id = Some("34".to_owned());
        Address { channel_type: "c".to_owned(), platform_id: "12".to_owned(), thread_id }
    }

    fn shown(&self) -> Vec<String> {
        let text = |message: &Value| message["content"].as_str().unwrap().to_owned();
        let is_said = |text: &String| !text.is_empty() && !text.starts_with("Not sent:");
        lock(&self.api).messages.iter().map(text).filter(is_said).collect()
    }

    fn files(&self) -> Vec<String> {
        lock(&self.api).files.clone()
    }

    fn knows(&self, _weather: Weather) -> bool {
        true
    }

    fn mend(&mut self) {
        lock(&self.api).mended = true;
    }

    fn cut(&mut self, cut: bool) {
        lock(&self.api).cut = cut;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_of_a_channel_conforms() {
    conforms(DiscordBench::new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_is_hidden_says_nothing_of_what_was_sent() {
    let mut bench = DiscordBench::new();
    lock(&bench.api).hidden = true;
    let (channel, address) = (bench.begin(), bench.address());
    let deliver = || channel.deliver(&address, outbounds(&["silent weather"]));
    let outcomes = deliver().await;
    assert!(matches!(outcomes[..], [Outcome::Transient { .. }]), "it is looked for: {outcomes:?}");
    let before = lock(&bench.api).posts; // under its nonce it may be sent more than once
    bench.mend();
    let outcomes = deliver().await;
    assert!(matches!(outcomes[..], [Outcome::Uncertain { .. }]), "{outcomes:?}");
    assert_eq!(lock(&bench.api).posts, before, "it is not sent again on a guess");
    lock(&bench.api).hidden = false;
    let outcomes = deliver().await;
    assert!(matches!(outcomes[..], [Outcome::Delivered { .. }]), "{outcomes:?}");
    assert_eq!((bench.shown().len(), lock(&bench.api).posts), (1, before), "it is found");
}
