//! The `webhook` channel, with a receiver that checks every signature and does what a text says.

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

use super::{BUSY, Bench, Weather, conforms};
use crate::Channel;
use crate::kinds::Setup;
use crate::parts::MemoryJournal;
use crate::webhook::{WebhookChannel, is_signed};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[derive(Default)]
struct Receiver {
    shown: Vec<(String, String)>,
    keys: bool,
    mended: bool,
    cut: bool,
}

/// A status and when to come again; `None` is silence.
type Answer = Option<(u16, Option<u64>)>;

impl Receiver {
    fn answer(&mut self, key: &str, message: &Value) -> Answer {
        let text = message["text"].as_str().unwrap();
        assert_eq!(message["key"], key, "in its head and in its body");
        if self.cut {
            return Some((503, None));
        }
        let weather = Weather::of(text).filter(|_| !self.mended);
        match weather {
            Some(Weather::Busy) => return Some((429, Some(BUSY.as_secs()))),
            Some(Weather::Never) => return Some((422, None)),
            Some(Weather::Silent) | None => {}
        }
        if !self.keys || self.shown.iter().all(|(other, _)| other != key) {
            self.shown.push((key.to_owned(), text.to_owned()));
        }
        weather.is_none().then_some((202, None))
    }
}

struct WebhookBench {
    receiver: Arc<Mutex<Receiver>>,
    journal: Arc<MemoryJournal>,
    keys: bool,
    address: String,
    folder: TempDir,
}

impl WebhookBench {
    fn new(keys: bool) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let receiver = Arc::new(Mutex::new(Receiver { keys, ..Receiver::default() }));
        tokio::spawn(serve(TcpListener::from_std(listener).unwrap(), Arc::clone(&receiver)));
        let (journal, folder) = (Arc::default(), tempfile::tempdir().unwrap());
        Self { receiver, journal, keys, address, folder }
    }
}

async fn serve(listener: TcpListener, receiver: Arc<Mutex<Receiver>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let receiver = Arc::clone(&receiver);
        let service = service_fn(move |request: Request<Incoming>| {
            let receiver = Arc::clone(&receiver);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                assert_eq!(parts.uri.path_and_query().unwrap().as_str(), "/in?room=1");
                assert!(is_signed(SECRET, &parts.headers, &body));
                let key = parts.headers["idempotency-key"].to_str().unwrap().to_owned();
                let answer = lock(&receiver).answer(&key, &serde_json::from_slice(&body).unwrap());
                // An error has the connection closed without a word.
                let (status, after) = answer.ok_or("silence")?;
                let mut response = Response::builder().status(status);
                if let Some(seconds) = after {
                    response = response.header("retry-after", seconds);
                }
                let body = Full::new(Bytes::from(json!({ "ok": true }).to_string()));
                Ok::<_, &'static str>(response.body(body).unwrap())
            }
        });
        let connection = hyper::server::conn::http1::Builder::new();
        tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
    }
}

impl Bench for WebhookBench {
    fn begin(&mut self) -> Arc<dyn Channel> {
        let settings = json!({
            "url": format!("{}/in?room=1", self.address), "signing_secret": "s", "keys": self.keys,
        });
        let settings = toml::Table::try_from(settings).unwrap();
        let settings = &ChannelSettings { kind: "webhook".to_owned(), settings };
        let folder = self.folder.path();
        let setup = Setup {
            id: "c",
            settings,
            name_of: &str::to_owned,
            folder,
            scratch: &folder.join("scratch"),
            secrets: Arc::new(|_: &str| Ok(Some(SECRET.to_owned()))),
            journal: Arc::clone(&self.journal) as _,
            file_max: 0,
        };
        Arc::new(WebhookChannel::new(&setup).unwrap())
    }

    fn shown(&self) -> Vec<String> {
        lock(&self.receiver).shown.iter().map(|(_, text)| text.clone()).collect()
    }

    fn knows(&self, _weather: Weather) -> bool {
        true
    }

    fn mend(&mut self) {
        lock(&self.receiver).mended = true;
    }

    fn cut(&mut self, cut: bool) {
        lock(&self.receiver).cut = cut;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_conforms_with_keys_and_without() {
    for keys in [false, true] {
        conforms(|| WebhookBench::new(keys)).await;
    }
}
