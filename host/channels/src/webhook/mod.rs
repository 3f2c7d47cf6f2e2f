//! The `webhook` channel: messages are posted to the host's HTTP API, and the host posts messages to an address of
//! the operator's, each signed with one secret. `docs/channels/webhook.md` is the description for people.
//!
//! In (`hook`): what is signed, and was signed about now, is handed to the intake, and answered when it is durable.
//! Out: one POST for each message, under its key. Where what receives it drops keys that it knows, it is posted
//! until it is taken; elsewhere the journal of parts sees to it that it is posted once, and what nobody knows is
//! uncertain.
//!
//! Decisions, and pure, are `sign` and `judge`. Not here: the path, which is in the API of `twobox`.

mod hook;
mod judge;
mod probe;
mod settings;
mod sign;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::sync::Semaphore;
use twobox_model::approval::Prompt;
use twobox_model::channel::{Address, Capabilities, Formatting, Outbound, Outcome};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::ids::MessageId;
use twobox_shared::time::UnixMillis;

pub use hook::{Hook, Posted, Rejected};
pub use sign::{Forged, Head, ID, SIGNATURE, TIMESTAMP};

use self::settings::Settings;
use crate::hears::Hears;
use crate::http::{Ask, Client, HeaderName};
use crate::instance::Surroundings;
use crate::kinds::{Kind, Setup};
use crate::parts::{self, Journal, Looked, Part, Platform, Sent};
use crate::{Channel, Door, in_order};

/// The name of the kind.
pub const WEBHOOK: &str = "webhook";

/// How many messages are posted at once; further ones wait.
const AT_ONCE: usize = 16;

/// The most bytes of an answer that are read.
const ANSWER_MAX: usize = 64 << 10;

/// The header with a message's key, by which a receiver knows what it has taken.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The kind.
pub const KIND: Kind = Kind {
    name: WEBHOOK,
    build: |setup| Ok(Arc::new(WebhookChannel::new(setup)?)),
    usable: |setup| {
        let settings = Settings::of(setup)?;
        let key = hook::key_of(&setup.secrets, &settings.secret);
        Ok(key.map(|_| described(setup.id, &settings)))
    },
    secrets: |setup| Ok(vec![Settings::of(setup)?.secret]),
    probe: Some(probe::begin),
    hears: Hears::OPEN,
};

/// Where it posts, and where it is posted to, in a few words.
fn described(id: &str, settings: &Settings) -> String {
    let keys = if settings.keys { ", which drops keys that it knows" } else { "" };
    format!("posts to {}{keys}; is posted to at /hooks/{id}", settings.place())
}

/// The channel.
pub struct WebhookChannel {
    id: String,
    hook: Arc<Hook>,
    keys: bool,
    timeout: Duration,
    client: Client,
    /// Below the client's base.
    path: String,
    journal: Arc<dyn Journal>,
    permits: Semaphore,
}

impl WebhookChannel {
    /// The channel that is set so.
    ///
    /// # Errors
    /// A sentence that names the setting that is wrong.
    pub fn new(setup: &Setup<'_>) -> Result<Self, String> {
        let settings = Settings::of(setup)?;
        let window = settings.window.as_secs();
        let (client, path) = client_of(&settings);
        Ok(Self {
            id: setup.id.to_owned(),
            hook: Hook::new(setup.id, &settings.secret, Arc::clone(&setup.secrets), window),
            keys: settings.keys,
            timeout: settings.timeout,
            client,
            path,
            journal: Arc::clone(&setup.journal),
            permits: Semaphore::new(AT_ONCE),
        })
    }

    async fn send(&self, address: &Address, outbound: &Outbound) -> Outcome {
        let _place = self.permits.acquire().await.expect("it is never closed");
        let body = Told::of(&self.id, address, outbound).to_json();
        let part = Part { name: "1".to_owned(), what: body };
        let way = Way { channel: self, id: header_of(&outbound.key) };
        if !self.keys {
            return parts::deliver(&*self.journal, &outbound.key, &[part], &way).await;
        }
        match way.send(&part).await {
            Sent::Taken(platform_message_id) => Outcome::Delivered { platform_message_id },
            Sent::NotSent { error, retry_after } => Outcome::Transient { error, retry_after },
            Sent::Unknown(error) => Outcome::Transient { error, retry_after: None },
            Sent::Refused(error) => Outcome::Permanent { error },
        }
    }
}

/// What asks there, and the path below its base.
fn client_of(settings: &Settings) -> (Client, String) {
    let url = &settings.url;
    let path = url.path().trim_start_matches('/');
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut base = url.clone();
    base.set_path("");
    base.set_query(None);
    (Client::new(base), format!("{path}{query}"))
}

/// Whether a request with these headers and this body is signed with `secret`.
#[cfg(test)]
pub(crate) fn is_signed(secret: &str, headers: &hyper::HeaderMap, body: &[u8]) -> bool {
    let head = Head::read(|name| headers.get(name).map(|value| value.as_bytes()));
    let key = sign::Key::of(secret).expect("a secret");
    head.is_ok_and(|head| head.in_time(SystemClock.now(), 60).is_ok() && key.admits(&head, body))
}

/// A key as a header can have it. Two keys are never one.
fn header_of(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'%';
    let one = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    key.bytes().map(one).collect()
}

/// To the address, for one message.
struct Way<'a> {
    channel: &'a WebhookChannel,
    /// The message's key, as a header.
    id: String,
}

impl Platform<String> for Way<'_> {
    fn send<'a>(&'a self, part: &'a Part<String>) -> BoxFuture<'a, Sent> {
        Box::pin(async {
            let channel = self.channel;
            let key = match channel.hook.key().await {
                Ok(key) => key,
                Err(error) => return Sent::NotSent { error, retry_after: None },
            };
            let seconds = SystemClock.now().0.div_euclid(1000);
            let signature = key.sign(&self.id, seconds, part.what.as_bytes());
            let ask = Ask::new(hyper::Method::POST, channel.path.clone())
                .body("application/json", part.what.clone())
                .header(IDEMPOTENCY_KEY, &self.id)
                .header(HeaderName::from_static(ID), &self.id)
                .header(HeaderName::from_static(TIMESTAMP), &seconds.to_string())
                .header(HeaderName::from_static(SIGNATURE), &signature)
                .patient(channel.timeout)
                .at_most(ANSWER_MAX);
            judge::judge(channel.client.ask(ask).await)
        })
    }

    /// There is no question that every receiver understands.
    fn look<'a>(&'a self, _part: &'a Part<String>, _begun: UnixMillis) -> BoxFuture<'a, Looked> {
        Box::pin(async { Looked::Unknown })
    }
}

/// What is posted. It has a `type`, which nothing has that is posted to the host: what is sent back there is none.
#[derive(Debug, Serialize)]
struct Told<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    channel: &'a str,
    key: &'a str,
    chat: &'a str,
    thread: Option<&'a str>,
    text: &'a str,
    files: &'a [String],
    in_reply_to: Option<&'a MessageId>,
    answers: &'a [MessageId],
    failed: bool,
    prompt: Option<&'a Prompt>,
}

impl<'a> Told<'a> {
    fn of(channel: &'a str, address: &'a Address, outbound: &'a Outbound) -> Self {
        Self {
            kind: "message",
            channel,
            key: &outbound.key,
            chat: &address.platform_id,
            thread: address.thread_id.as_deref(),
            text: &outbound.text,
            files: &outbound.files,
            in_reply_to: outbound.in_reply_to.as_ref(),
            answers: &outbound.answers,
            failed: outbound.failed,
            prompt: outbound.prompt.as_ref(),
        }
    }

    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings always serialise")
    }
}

impl Channel for WebhookChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            keys: true,
            threads: true,
            buttons: true,
            formatting: Formatting::Markdown,
            ..Capabilities::TEXT
        }
    }

    fn run(&self, mut surroundings: Surroundings) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            self.hook.lead(Some(Arc::clone(&surroundings.intake)));
            surroundings.up();
            surroundings.stopped().await;
            self.hook.lead(None);
            Ok(())
        })
    }

    fn deliver<'a>(
        &'a self,
        address: &'a Address,
        outbounds: Vec<Outbound>,
    ) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move { in_order(&outbounds, |outbound| self.send(address, outbound)).await })
    }

    fn forget(&self, key: &str) {
        if !self.keys {
            parts::forget(&self.journal, key);
        }
    }

    fn door(&self) -> Option<Door> {
        Some(Door::Webhook(Arc::clone(&self.hook)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_a_header_and_no_two_are_the_same() {
        assert_eq!(header_of("01a-b:c.d_1"), "01a-b:c.d_1");
        let all = ["a b", "a%20b", "aé", "a%C3%A9", "a\u{7f}", "a", "a%", "a%25"];
        let headers: std::collections::BTreeSet<_> = all.map(header_of).into_iter().collect();
        assert_eq!(headers.len(), all.len(), "{headers:?}");
        assert!(headers.iter().all(|header| hyper::header::HeaderValue::from_str(header).is_ok()));
    }
}
