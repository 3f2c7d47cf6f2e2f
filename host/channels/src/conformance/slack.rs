//! The `slack` channel, with a workspace in memory that shows what it is sent as often as it is sent. One that
//! keeps more of Slack's rules is in the tests of the whole system.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use twobox_config::ChannelSettings;
use twobox_system::lock::lock;
use url::form_urlencoded;

use super::{BUSY, Bench, Weather, conforms};
use crate::Channel;
use crate::kinds::Setup;
use crate::parts::{Journal, MemoryJournal};
use crate::slack::SlackChannel;

/// The bot.
const BOT: &str = "UB";

#[derive(Default)]
struct Workspace {
    /// What is shown, oldest first.
    messages: Vec<Value>,
    /// Files by their ids' numbers: the name, and what is in it.
    files: Vec<(String, String)>,
    mended: bool,
    cut: bool,
}

/// What is answered; `None` is silence.
type Answer = Option<(u16, Value)>;

impl Workspace {
    fn answer(&mut self, address: &str, path: &str, body: &[u8]) -> Answer {
        if self.cut {
            return None;
        }
        let text = String::from_utf8(body.to_vec()).unwrap();
        if let Some(number) = path.strip_prefix("/upload/") {
            self.files[number.parse::<usize>().unwrap()].1 = text;
            return Some((200, json!("OK")));
        }
        let json = || serde_json::from_str::<Value>(&text).unwrap();
        match path.strip_prefix("/api/").unwrap() {
            "chat.postMessage" => self.post(json()),
            "conversations.history" => {
                let messages: Vec<&Value> = self.messages.iter().rev().collect();
                Some((200, json!({ "ok": true, "messages": messages })))
            }
            "files.getUploadURLExternal" => {
                let fields = form_urlencoded::parse(text.as_bytes());
                let name = fields.into_owned().find(|(name, _)| name == "filename").unwrap().1;
                let number = self.files.len();
                self.files.push((name, String::new()));
                let url = format!("{address}/upload/{number}");
                Some((
                    200,
                    json!({ "ok": true, "upload_url": url, "file_id": format!("F{number}") }),
                ))
            }
            "files.completeUploadExternal" => {
                let id = json()["files"][0]["id"].clone();
                self.show(json!({ "text": "", "files": [{ "id": id }] }));
                Some((200, json!({ "ok": true })))
            }
            other => panic!("{other}"),
        }
    }

    fn post(&mut self, message: Value) -> Answer {
        let weather = Weather::of(message["text"].as_str().unwrap()).filter(|_| !self.mended);
        match weather {
            Some(Weather::Busy) => {
                return Some((429, json!({ "ok": false, "error": "ratelimited" })));
            }
            Some(Weather::Never) => {
                return Some((200, json!({ "ok": false, "error": "is_archived" })));
            }
            Some(Weather::Silent) | None => {}
        }
        let ts = self.show(message);
        let said = (200, json!({ "ok": true, "ts": ts }));
        (weather != Some(Weather::Silent)).then_some(said)
    }

    fn show(&mut self, mut message: Value) -> String {
        let ts = format!("{}.000000", self.messages.len() + 1);
        message["ts"] = json!(ts);
        message["user"] = json!(BOT);
        self.messages.push(message);
        ts
    }
}

struct SlackBench {
    workspace: Arc<Mutex<Workspace>>,
    address: String,
    folder: TempDir,
    journal: Arc<dyn Journal>,
}

impl SlackBench {
    fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let workspace = Arc::<Mutex<Workspace>>::default();
        let served = serve(TcpListener::from_std(listener).unwrap(), Arc::clone(&workspace));
        tokio::spawn(served);
        let journal = Arc::<MemoryJournal>::default();
        Self { workspace, address, folder: tempfile::tempdir().unwrap(), journal }
    }
}

async fn serve(listener: TcpListener, workspace: Arc<Mutex<Workspace>>) {
    let address = format!("http://{}", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (workspace, address) = (Arc::clone(&workspace), address.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (workspace, address) = (Arc::clone(&workspace), address.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let is_token =
                    parts.headers.get("authorization").is_some_and(|it| it == "Bearer xoxb-1");
                assert_eq!(
                    is_token,
                    parts.uri.path().starts_with("/api/"),
                    "nobody else is shown it"
                );
                let answer = lock(&workspace).answer(&address, parts.uri.path(), &body);
                // An error has the connection closed without a word.
                let (status, body) = answer.ok_or("silence")?;
                let body = Full::new(Bytes::from(body.to_string()));
                let answer =
                    Response::builder().status(status).header("retry-after", BUSY.as_secs());
                Ok::<_, &'static str>(answer.body(body).unwrap())
            }
        });
        let connection = hyper::server::conn::http1::Builder::new();
        tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
    }
}

impl Bench for SlackBench {
    fn begin(&mut self) -> Arc<dyn Channel> {
        let settings = json!({
            "api": format!("{}/api", self.address), "bot_token_secret": "b", "app_token_secret": "a",
        });
        let settings = toml::Table::try_from(settings).unwrap();
        let settings = &ChannelSettings { kind: "slack".to_owned(), settings };
        let folder = self.folder.path();
        let scratch = &folder.join("scratch");
        let secrets = Arc::new(|_: &str| Ok(None));
        let name_of = &str::to_owned;
        let journal = Arc::clone(&self.journal);
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
        let channel = SlackChannel::new(&setup).unwrap();
        channel.let_in("xoxb-1", BOT);
        Arc::new(channel)
    }

    fn shown(&self) -> Vec<String> {
        let workspace = lock(&self.workspace);
        let texts = workspace.messages.iter().map(|it| it["text"].as_str().unwrap().to_owned());
        texts.filter(|text| !text.is_empty() && !text.starts_with("Not sent")).collect()
    }

    fn files(&self) -> Vec<String> {
        let workspace = lock(&self.workspace);
        let shared = workspace.messages.iter().filter_map(|it| {
            let number: usize = it["files"][0]["id"].as_str()?.strip_prefix('F')?.parse().ok()?;
            Some(workspace.files[number].1.clone())
        });
        shared.collect()
    }

    fn knows(&self, _weather: Weather) -> bool {
        true
    }

    fn mend(&mut self) {
        lock(&self.workspace).mended = true;
    }

    fn cut(&mut self, cut: bool) {
        lock(&self.workspace).cut = cut;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_conforms() {
    conforms(SlackBench::new).await;
}
