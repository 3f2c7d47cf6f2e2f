//! The channel with a homeserver in its place that says what a test wants it to say, also what no good one says.

mod homeserver;
mod life;
mod reading;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tempfile::TempDir;
use twobox_config::ChannelSettings;
use twobox_model::channel::{self, Address, Inbound, Outbound, Outcome, Receipt, Refusal};
use twobox_shared::clock::SystemClock;
use twobox_shared::ids::MessageId;
use twobox_system::lock::lock;

use self::homeserver::{Asked, Homeserver, Said};
use super::MatrixChannel;
use super::kept::{Kept, folder};
use crate::instance::{Instance, Lives};
use crate::kinds::{SecretOf, Setup};
use crate::{Channel, Intake};

/// A deadline that only something that hangs reaches.
const LONG: Duration = Duration::from_secs(30);

/// What people said, in the order in which it was taken.
#[derive(Default)]
struct Ear {
    heard: Mutex<Vec<String>>,
    /// What nobody listens to when it is said first.
    unwired: Mutex<Vec<String>>,
}

impl Intake for Ear {
    fn accept(&self, message: Inbound) -> BoxFuture<'_, Result<Vec<Receipt>, Refusal>> {
        let text = message.chat.text;
        let mut unwired = lock(&self.unwired);
        let answer = match unwired.iter().position(|it| *it == text) {
            Some(index) => {
                unwired.remove(index);
                let Address { channel_type, platform_id, .. } = message.address;
                Err(Refusal::NobodyListens { channel_type, platform_id })
            }
            None => {
                lock(&self.heard).push(text);
                Ok(Vec::new())
            }
        };
        async { answer }.boxed()
    }

    fn asked<'a>(
        &'a self,
        _address: &'a Address,
        _id: &'a MessageId,
        _text: &'a str,
    ) -> BoxFuture<'a, channel::Asked> {
        Box::pin(async { channel::Asked::Over })
    }

    fn takes_files<'a>(&'a self, _message: &'a Inbound) -> BoxFuture<'a, bool> {
        Box::pin(async { true })
    }

    fn ready(&self, _address: &Address) {}

    fn up(&self, _channel: &str) {}
}

/// A channel with its homeserver.
struct Place {
    homeserver: Homeserver,
    dir: TempDir,
    credential: &'static str,
    ear: Arc<Ear>,
}

/// One that lives.
struct Alive {
    channel: Arc<MatrixChannel>,
    instance: Arc<Instance>,
    _lives: Lives,
}

impl Place {
    /// With a homeserver that says what `says` says, and else what a quiet one does.
    fn new(says: impl FnMut(&Asked) -> Option<Said> + Send + 'static) -> Self {
        Self {
            homeserver: Homeserver::begin(says),
            dir: tempfile::tempdir().unwrap(),
            credential: "token_secret",
            ear: Arc::default(),
        }
    }

    /// Hands out what the channel is set to.
    fn with_setup<T>(&self, work: impl FnOnce(&Setup<'_>) -> T) -> T {
        let settings = json!({
            "homeserver": self.homeserver.url(), "user": "@bot:x", self.credential: "s",
            "senders": ["@a:x"], "groups": "always",
        });
        let settings = toml::Table::try_from(settings).unwrap();
        let settings = &ChannelSettings { kind: "matrix".to_owned(), settings };
        let (folder, scratch) = (self.dir.path(), &self.dir.path().join("scratch"));
        let secrets: SecretOf = Arc::new(|_: &str| Ok(Some("secret".to_owned())));
        let name_of = &str::to_owned;
        let journal = Arc::new(crate::parts::MemoryJournal::default());
        work(&Setup {
            id: "m",
            settings,
            name_of,
            folder,
            scratch,
            secrets,
            journal,
            file_max: 20 << 20,
        })
    }

    fn channel(&self) -> Arc<MatrixChannel> {
        Arc::new(self.with_setup(MatrixChannel::new).unwrap())
    }

    fn live(&self) -> Alive {
        let channel = self.channel();
        let other = Arc::clone(&channel) as Arc<dyn Channel>;
        let instance = Arc::new(Instance::new("m", "matrix", other, Arc::new(SystemClock)));
        let ear = Arc::clone(&self.ear) as Arc<dyn Intake>;
        let lives = Lives::begin(vec![Arc::clone(&instance)], &ear);
        Alive { channel, instance, _lives: lives }
    }

    fn folder(&self) -> std::path::PathBuf {
        folder(self.dir.path(), "m")
    }

    fn kept(&self) -> Kept {
        Kept::read(&self.folder()).unwrap()
    }

    fn heard(&self) -> Vec<String> {
        lock(&self.ear.heard).clone()
    }

    /// Waits until that was heard, in that order.
    async fn wait_heard(&self, texts: &[&str]) {
        wait(|| self.heard() == texts, || format!("{:?}, not {texts:?}", self.heard())).await;
    }

    /// Waits until the homeserver was asked so.
    async fn wait_asked(&self, is: impl Fn(&Asked) -> bool) {
        let asked = || self.homeserver.asked();
        wait(|| asked().iter().any(&is), || format!("{:#?}", asked())).await;
    }
}

/// Waits until something is so.
async fn wait(is: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < LONG, "{}", otherwise());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Somebody says `text`.
fn said(text: &str) -> Value {
    json!({
        "type": "m.room.message", "event_id": format!("${text}"), "sender": "@a:x",
        "content": { "msgtype": "m.text", "body": text },
    })
}

/// The answer to a look: what is new in rooms, and where that ends.
fn news(next: &str, rooms: Value) -> Option<Said> {
    Some(Said::Json(json!({ "next_batch": next, "rooms": { "join": rooms } }).to_string()))
}

/// What is new in one.
fn timeline(events: &[Value]) -> Value {
    json!({ "timeline": { "events": events } })
}

/// More is new than is said.
fn gap() -> Value {
    json!({ "timeline": { "events": [], "limited": true } })
}

fn page(events: &[Value], end: Option<&str>) -> Option<Said> {
    Some(Said::Json(json!({ "chunk": events, "end": end }).to_string()))
}

async fn send(channel: &MatrixChannel, outbound: Outbound) -> Outcome {
    let address = Address { channel_type: "m".into(), platform_id: "!r:x".into(), thread_id: None };
    channel.deliver(&address, vec![outbound]).await.remove(0)
}

fn outbound(key: &str) -> Outbound {
    Outbound {
        key: key.to_owned(),
        in_reply_to: None,
        answers: Vec::new(),
        text: "hello".to_owned(),
        files: Vec::new(),
        shelf: None,
        failed: false,
        prompt: None,
    }
}
