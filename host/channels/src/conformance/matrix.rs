//! The `matrix` channel, with a homeserver in memory that takes an event under a transaction once. A real one is
//! asked in the tests of the whole system.

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
use twobox_system::lock::lock;

use super::{BUSY, Bench, Weather, conforms};
use crate::Channel;
use crate::kinds::Setup;
use crate::matrix::MatrixChannel;
use crate::parts::MemoryJournal;

#[derive(Default)]
struct Homeserver {
    /// Events, with the transaction and the device that made each.
    events: Vec<(String, Value)>,
    uploads: Vec<String>,
    mended: bool,
    cut: bool,
}

/// What is answered; `None` is silence.
type Answer = Option<(u16, Value)>;

impl Homeserver {
    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> Answer {
        if self.cut {
            return None;
        }
        let missing = Some((404, json!({ "errcode": "M_NOT_FOUND", "error": "not there" })));
        if path.ends_with("/media/v3/upload") {
            self.uploads.push(String::from_utf8(body.to_vec()).unwrap());
            return Some((
                200,
                json!({ "content_uri": format!("mxc://x/{}", self.uploads.len()) }),
            ));
        }
        match (method, path.rsplit_once("/send/m.room.message/")) {
            (&Method::PUT, Some((_, transaction))) => {
                self.send(transaction, serde_json::from_slice(body).unwrap())
            }
            _ => missing,
        }
    }

    fn send(&mut self, transaction: &str, event: Value) -> Answer {
        let text = event["body"].as_str().unwrap();
        let weather = Weather::of(text).filter(|_| !self.mended);
        match weather {
            Some(Weather::Busy) => {
                let pause = BUSY.as_millis();
                return Some((
                    429,
                    json!({ "errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": pause }),
                ));
            }
            Some(Weather::Never) => return Some((403, json!({ "errcode": "M_FORBIDDEN" }))),
            Some(Weather::Silent) | None => {}
        }
        let known = self.events.iter().position(|(other, _)| other == transaction);
        let index = known.unwrap_or_else(|| {
            self.events.push((transaction.to_owned(), event));
            self.events.len() - 1
        });
        let said = (200, json!({ "event_id": format!("$event{index}") }));
        (weather != Some(Weather::Silent)).then_some(said)
    }

    fn said<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.events.iter().map(|(_, event)| event).filter(move |event| event["msgtype"] == kind)
    }
}

struct MatrixBench {
    homeserver: Arc<Mutex<Homeserver>>,
    address: String,
    folder: TempDir,
}

impl MatrixBench {
    fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let homeserver = Arc::<Mutex<Homeserver>>::default();
        tokio::spawn(serve(TcpListener::from_std(listener).unwrap(), Arc::clone(&homeserver)));
        Self { homeserver, address, folder: tempfile::tempdir().unwrap() }
    }
}

async fn serve(listener: TcpListener, homeserver: Arc<Mutex<Homeserver>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let homeserver = Arc::clone(&homeserver);
        let service = service_fn(move |request: Request<Incoming>| {
            let homeserver = Arc::clone(&homeserver);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                assert_eq!(parts.headers["authorization"], "Bearer token");
                let answer = lock(&homeserver).answer(&parts.method, parts.uri.path(), &body);
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

impl Bench for MatrixBench {
    fn begin(&mut self) -> Arc<dyn Channel> {
        let settings = json!({
            "homeserver": self.address, "user": "@bot:x", "token_secret": "t", "senders": ["@a:x"],
        });
        let settings = toml::Table::try_from(settings).unwrap();
        let settings = &ChannelSettings { kind: "matrix".to_owned(), settings };
        let folder = self.folder.path();
        let scratch = &folder.join("scratch");
        let secrets = Arc::new(|_: &str| Ok(None));
        let name_of = &str::to_owned;
        let journal = Arc::new(MemoryJournal::default());
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
        let channel = MatrixChannel::new(&setup).unwrap();
        channel.let_in("token");
        Arc::new(channel)
    }

    fn shown(&self) -> Vec<String> {
        let text = |event: &Value| event["body"].as_str().unwrap().to_owned();
        lock(&self.homeserver).said("m.text").map(text).collect()
    }

    fn files(&self) -> Vec<String> {
        let homeserver = lock(&self.homeserver);
        let upload = |event: &Value| {
            let number: usize = event["url"].as_str()?.rsplit_once('/')?.1.parse().ok()?;
            homeserver.uploads.get(number - 1).cloned()
        };
        homeserver.said("m.file").filter_map(upload).collect()
    }

    fn knows(&self, _weather: Weather) -> bool {
        true
    }

    fn mend(&mut self) {
        lock(&self.homeserver).mended = true;
    }

    fn cut(&mut self, cut: bool) {
        lock(&self.homeserver).cut = cut;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_conforms() {
    conforms(MatrixBench::new).await;
}
