//! The `telegram` channel, with a Bot API in memory. The published rules of the real one are kept by the stand-in of
//! the tests of the whole system.

use std::net::SocketAddr;
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
use tokio::task::{AbortHandle, JoinSet};
use twobox_config::ChannelSettings;
use twobox_model::channel::Address;
use twobox_system::lock::lock;

use super::{BUSY, Bench, Weather, conforms};
use crate::Channel;
use crate::kinds::Setup;
use crate::parts::{Journal, MemoryJournal};
use crate::telegram::TelegramChannel;

const TOKEN: &str = "7:a-token-of-a-bot";

#[derive(Default)]
struct BotApi {
    texts: Vec<String>,
    files: Vec<String>,
    mended: bool,
}

impl BotApi {
    /// What is answered; `None` is silence.
    fn answer(&mut self, method: &str, body: &[u8]) -> Option<(u16, Value)> {
        let no = |code: u16, parameters: Value| {
            let said = json!({ "ok": false, "error_code": code, "parameters": parameters });
            Some((code, said))
        };
        let shown = |id: usize| Some((200, json!({ "ok": true, "result": { "message_id": id } })));
        match method {
            "getMe" => Some((200, json!({ "ok": true, "result": {} }))),
            "sendDocument" => {
                let body = String::from_utf8(body.to_vec()).unwrap();
                let (_, file) = body.split_once("Content-Type: text/plain\r\n\r\n").unwrap();
                self.files.push(file.split("\r\n--").next().unwrap().to_owned());
                shown(1000 + self.files.len())
            }
            "sendMessage" => {
                let body: Value = serde_json::from_slice(body).unwrap();
                assert_eq!((&body["chat_id"], &body["message_thread_id"]), (&json!(42), &json!(9)));
                let text = body["text"].as_str().unwrap();
                let weather = Weather::of(text).filter(|_| !self.mended);
                match weather {
                    Some(Weather::Busy) => {
                        return no(429, json!({ "retry_after": BUSY.as_secs() }));
                    }
                    Some(Weather::Never) => return no(403, json!({})),
                    Some(Weather::Silent) | None => {}
                }
                if !text.starts_with("Not sent:") {
                    self.texts.push(text.to_owned());
                }
                shown(self.texts.len()).filter(|_| weather.is_none())
            }
            other => panic!("{other} is not asked for"),
        }
    }
}

struct TelegramBench {
    api: Arc<Mutex<BotApi>>,
    journal: Arc<dyn Journal>,
    address: SocketAddr,
    serving: Option<AbortHandle>,
    channel: Option<Arc<TelegramChannel>>,
    folder: TempDir,
}

impl TelegramBench {
    fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let api = Arc::<Mutex<BotApi>>::default();
        Self {
            address: listener.local_addr().unwrap(),
            serving: Some(serve(listener, Arc::clone(&api))),
            api,
            journal: Arc::new(MemoryJournal::default()),
            channel: None,
            folder: tempfile::tempdir().unwrap(),
        }
    }
}

/// Answers until it is ended; then nobody is there, and every connection is closed.
fn serve(listener: std::net::TcpListener, api: Arc<Mutex<BotApi>>) -> AbortHandle {
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let serving = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let api = Arc::clone(&api);
            let service = service_fn(move |request: Request<Incoming>| {
                let api = Arc::clone(&api);
                async move {
                    let method = request.uri().path().strip_prefix(&format!("/bot{TOKEN}/"));
                    let method = method.expect("the token is in the path").to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    // An error has the connection closed without a word.
                    let (status, body) = lock(&api).answer(&method, &body).ok_or("silence")?;
                    let body = Full::new(Bytes::from(body.to_string()));
                    Ok::<_, &'static str>(Response::builder().status(status).body(body).unwrap())
                }
            });
            let mut connection = hyper::server::conn::http1::Builder::new();
            // So that nothing is sent into a connection that is just closed.
            connection.keep_alive(false);
            connections.spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    serving.abort_handle()
}

impl Bench for TelegramBench {
    fn begin(&mut self) -> Arc<dyn Channel> {
        let api = format!("http://{}", self.address);
        let settings = toml::Table::try_from(json!({ "api": api, "token_secret": "t" })).unwrap();
        let settings = &ChannelSettings { kind: "telegram".to_owned(), settings };
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
        let channel = Arc::new(TelegramChannel::new(&setup).unwrap());
        channel.let_in(TOKEN);
        self.channel = Some(Arc::clone(&channel));
        channel
    }

    fn address(&self) -> Address {
        Address {
            channel_type: "c".to_owned(),
            platform_id: "42".to_owned(),
            thread_id: Some("9".to_owned()),
        }
    }

    fn shown(&self) -> Vec<String> {
        lock(&self.api).texts.clone()
    }

    fn files(&self) -> Vec<String> {
        lock(&self.api).files.clone()
    }

    fn knows(&self, _weather: Weather) -> bool {
        true
    }

    fn mend(&mut self) {
        lock(&self.api).mended = true;
        // It has waited for as long as was wanted.
        self.channel.as_ref().unwrap().rest();
    }

    fn cut(&mut self, cut: bool) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
        if !cut {
            // What was there may hold the address for a moment after it was ended.
            let listener = (0..200).find_map(|_| {
                let bound = std::net::TcpListener::bind(self.address);
                bound.map_err(|_| std::thread::sleep(std::time::Duration::from_millis(5))).ok()
            });
            self.serving = Some(serve(listener.expect("its address"), Arc::clone(&self.api)));
        } else {
            while std::net::TcpStream::connect(self.address).is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_conforms() {
    conforms(TelegramBench::new).await;
}
