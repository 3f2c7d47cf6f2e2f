//! A homeserver that says what it is told to say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use twobox_system::lock::lock;

/// How long a look takes that has nothing new: a channel asks again at once.
const QUIET: Duration = Duration::from_millis(10);

/// What it was asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// Behind `/_matrix/client/v3/`, as it was written.
    pub(super) path: String,
    pub(super) query: HashMap<String, String>,
    pub(super) token: Option<String>,
    pub(super) body: String,
}

impl Asked {
    /// Whether it is a look from this position.
    pub(super) fn is_look(&self, since: &str) -> bool {
        self.path == "sync" && self.query("since") == since
    }

    /// Whether it is for messages of a room, and from where.
    pub(super) fn page_of(&self, room: &str) -> Option<&str> {
        let is = self.path == format!("rooms/{room}/messages");
        is.then(|| self.query("from"))
    }

    pub(super) fn query(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}

/// What it says.
pub(super) enum Said {
    Json(String),
    No(u16, Value),
    /// Nothing, for ever.
    Silence,
}

type Says = Box<dyn FnMut(&Asked) -> Option<Said> + Send>;

struct Inner {
    says: Says,
    asked: Vec<Asked>,
}

/// The homeserver.
pub(super) struct Homeserver {
    inner: Arc<Mutex<Inner>>,
    url: String,
}

impl Homeserver {
    pub(super) fn begin(says: impl FnMut(&Asked) -> Option<Said> + Send + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Mutex::new(Inner { says: Box::new(says), asked: Vec::new() }));
        tokio::spawn(serve(TcpListener::from_std(listener).unwrap(), Arc::clone(&inner)));
        Self { inner, url }
    }

    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        lock(&self.inner).asked.clone()
    }

    /// From which positions pages of a room were asked for.
    pub(super) fn pages(&self, room: &str) -> Vec<String> {
        self.asked().iter().filter_map(|it| it.page_of(room).map(str::to_owned)).collect()
    }
}

async fn serve(listener: TcpListener, inner: Arc<Mutex<Inner>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let inner = Arc::clone(&inner);
        let service = service_fn(move |request: Request<Incoming>| {
            let inner = Arc::clone(&inner);
            async move {
                let asked = read(request).await;
                let said = {
                    let mut inner = lock(&inner);
                    inner.asked.push(asked.clone());
                    (inner.says)(&asked)
                };
                let (status, body) = match said {
                    Some(Said::Json(text)) => (200, text),
                    Some(Said::No(status, body)) => (status, body.to_string()),
                    Some(Said::Silence) => std::future::pending().await,
                    None => quiet(&asked).await,
                };
                let body = Full::new(Bytes::from(body));
                Ok::<_, hyper::Error>(Response::builder().status(status).body(body).unwrap())
            }
        });
        let connection = hyper::server::conn::http1::Builder::new();
        tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
    }
}

async fn read(request: Request<Incoming>) -> Asked {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let url = url::Url::parse(&format!("http://x{}", parts.uri)).unwrap();
    let token = parts.headers.get("authorization").map(|it| it.to_str().unwrap().to_owned());
    Asked {
        path: parts.uri.path().trim_start_matches("/_matrix/client/v3/").to_owned(),
        query: url.query_pairs().map(|(name, value)| (name.into(), value.into())).collect(),
        token,
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}

/// What one says where nothing happens.
async fn quiet(asked: &Asked) -> (u16, String) {
    let said = match asked.path.as_str() {
        "account/whoami" => json!({ "user_id": "@bot:x", "device_id": "D" }),
        "login" => {
            let body: Value = serde_json::from_str(&asked.body).unwrap();
            let device = &body["device_id"];
            json!({ "access_token": "fresh", "device_id": device, "user_id": "@bot:x" })
        }
        "sync" => {
            let since = asked.query("since");
            if !since.is_empty() {
                tokio::time::sleep(QUIET).await;
            }
            json!({ "next_batch": if since.is_empty() { "s1_0" } else { since } })
        }
        "/_matrix/client/versions" => json!({ "versions": ["v1.11"] }),
        path if path.ends_with("/joined_members") => {
            json!({ "joined": { "@bot:x": {}, "@a:x": { "display_name": "A" } } })
        }
        path if path.contains("/send/m.room.message/") => json!({ "event_id": "$sent" }),
        path if path.starts_with("join/") => json!({}),
        _ => return (404, json!({ "errcode": "M_NOT_FOUND" }).to_string()),
    };
    (200, said.to_string())
}
