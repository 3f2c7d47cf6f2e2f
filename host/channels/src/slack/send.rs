//! Sending one message: its texts, its files, and what became of them.
//!
//! Slack shows what it is sent twice twice. So each part has a record, and a mark in what Slack keeps beside its
//! text: a part of which nobody knows is looked for in the conversation by that, and sent again only once it
//! could not be on its way any more.
//!
//! Source: <https://docs.slack.dev/reference/methods/chat.postMessage>.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;
use twobox_model::channel::{Address, Outbound, Outcome};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::ids::MessageId;
use twobox_shared::time::UnixMillis;
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

use super::compose::{self, Said};
use super::events::{Page, Raw};
use super::files::File;
use super::trouble::Trouble;
use super::ts::Ts;
use super::{Account, SlackChannel};
use crate::parts::{self, Looked, Part, Platform, Sent};

/// After how long what was handed to Slack is in the conversation, or never will be: as long as it is waited for, and
/// then some.
const SETTLED: Duration = Duration::from_secs(20 + 5);

/// The same of a file, which is uploaded before it is shown.
const FILE_SETTLED: Duration = Duration::from_secs(5 * 60 + 3 * 20 + 30);

/// How far the clocks of Slack and this machine may be apart.
const CLOCKS: Duration = Duration::from_secs(15 * 60);

/// How many pages of a conversation are looked through.
const PAGES: usize = 10;

/// How many messages a conversation takes at once, and after how long the next: one in a second.
const BURST: u32 = 4;
const PACE: Duration = Duration::from_secs(1);

/// How many conversations have a pace at once.
const PACED_MAX: usize = 1_000;

/// One part of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// A text.
    Text(Said),
    /// A file, which lies ready.
    File(File),
}

/// One message on its way.
pub(super) struct Letter<'a> {
    pub(super) channel: &'a SlackChannel,
    pub(super) account: &'a Account,
    pub(super) chat: &'a str,
    pub(super) thread: Option<&'a str>,
    pub(super) key: &'a str,
}

#[derive(Deserialize)]
struct Posted {
    ts: String,
}

/// When each conversation takes the next message.
#[derive(Debug, Default)]
pub(super) struct Pace(HashMap<String, Instant>);

impl Pace {
    /// For how long a message has to wait that is sent to `chat` at `now`. It has its place then.
    fn wait(&mut self, chat: &str, now: Instant) -> Duration {
        if self.0.len() >= PACED_MAX {
            self.0.retain(|_, full| *full > now);
        }
        let full = self.0.entry(chat.to_owned()).or_insert(now);
        *full = (*full).max(now) + PACE;
        full.saturating_duration_since(now).saturating_sub(PACE * BURST)
    }
}

impl SlackChannel {
    /// Sends one message, as far as that was not done before.
    pub(super) async fn send(&self, address: &Address, outbound: &Outbound) -> Outcome {
        let Some(account) = self.account() else { return Outcome::Unavailable };
        let letter = Letter {
            channel: self,
            account: &account,
            chat: &address.platform_id,
            thread: address.thread_id.as_deref().filter(|thread| Ts::parse(thread).is_some()),
            key: &outbound.key,
        };
        let (text, prompt) = (outbound.text.clone(), outbound.prompt.clone());
        let mut texts = blocking(move || compose::said(&text, prompt.as_ref())).await;
        if texts.is_empty() && outbound.files.is_empty() {
            texts.push(Said { text: "(nothing)".to_owned(), prompt: None });
        }
        let name = |(index, said)| Part { name: format!("{}", index + 1), what: What::Text(said) };
        let mut all: Vec<Part<What>> = texts.into_iter().enumerate().map(name).collect();
        let parcel = match self.pack(outbound).await {
            Ok(parcel) => parcel,
            Err(error) => {
                let error = format!("the files could not be put ready: {error}");
                return Outcome::Transient { error, retry_after: None };
            }
        };
        all.extend(super::files::parts(&parcel));
        let outcome = parts::deliver(&*self.journal, &outbound.key, &all, &letter).await;
        parcel.end().await;
        outcome
    }

    /// Says something to one person, in the conversation in which they said the message `id`, and not to the
    /// others; at most once.
    pub(super) async fn whisper(&self, address: &Address, to: &str, id: &MessageId, text: &str) {
        let Some(account) = self.account() else { return };
        let (chat, thread) = (&address.platform_id, address.thread_id.as_deref());
        let whisper = Whisper { channel: self, account: &account, chat, thread, to };
        let said = compose::said(text, None).into_iter().next();
        let Some(said) = said else { return };
        let part = Part { name: "1".to_owned(), what: said };
        let key = format!("host:{id}");
        let outcome = parts::deliver(&*self.journal, &key, &[part], &whisper).await;
        if !matches!(outcome, Outcome::Delivered { .. }) {
            tracing::debug!(channel = self.id, ?outcome, "somebody was not told");
        }
    }
}

impl Letter<'_> {
    /// Has a text shown, as the part with this name.
    pub(super) async fn post(&self, name: &str, said: &Said) -> Result<String, Trouble> {
        let mark = compose::mark(self.key, name);
        let body = compose::message(self.chat, self.thread, said, &mark);
        let bot = &self.account.bot;
        let posted = self.channel.api.json::<Posted>(bot, "chat.postMessage", &body).await;
        posted.map(|posted| posted.ts).inspect_err(|trouble| self.channel.take_note(trouble))
    }

    /// Looks for what the bot has said since a part was begun, by `is`.
    async fn look_for(
        &self,
        begun: UnixMillis,
        is: impl Fn(&Raw) -> bool + Send,
    ) -> Result<Option<Ts>, Looked> {
        let oldest = Ts::at(begun).before(CLOCKS).to_string();
        let mut cursor = String::new();
        for _ in 0..PAGES {
            let mut fields = vec![
                ("channel", self.chat),
                ("oldest", oldest.as_str()),
                ("limit", "200"),
                ("include_all_metadata", "true"),
                ("cursor", cursor.as_str()),
            ];
            let method = match self.thread {
                Some(thread) => {
                    fields.push(("ts", thread));
                    "conversations.replies"
                }
                None => "conversations.history",
            };
            let bot = &self.account.bot;
            let mut page: Page = self
                .channel
                .api
                .form(bot, method, &fields)
                .await
                .map_err(|trouble| looked(&trouble))?;
            let ours = page.messages.messages.iter().filter(|raw| raw.is_by(&self.account.user));
            if let Some(raw) = ours.into_iter().find(|raw| is(raw)) {
                return Ok(Some(raw.ts));
            }
            match page.next() {
                Some(next) => cursor = next,
                None => return Ok(None),
            }
        }
        Err(Looked::Unknown)
    }

    /// What is known of a part that was begun then, where it was looked for.
    fn settled(found: Result<Option<Ts>, Looked>, begun: UnixMillis, within: Duration) -> Looked {
        match found {
            Ok(Some(ts)) => Looked::There(Some(ts.to_string())),
            Ok(None) => {
                let left = within.saturating_sub(SystemClock.now().since(begun));
                match left.is_zero() {
                    true => Looked::NotThere,
                    false => Looked::NotNow {
                        error: "it is not known yet whether Slack has it".to_owned(),
                        retry_after: Some(left),
                    },
                }
            }
            Err(looked) => looked,
        }
    }
}

/// What trouble with looking means.
fn looked(trouble: &Trouble) -> Looked {
    match trouble.is_final() || trouble.error() == Some("missing_scope") {
        true => Looked::Unknown,
        false => Looked::NotNow { error: trouble.to_string(), retry_after: trouble.busy() },
    }
}

impl Platform<What> for Letter<'_> {
    fn ready<'a>(&'a self, _part: &'a Part<What>) -> BoxFuture<'a, Result<(), Outcome>> {
        async {
            let wait = lock(&self.channel.pace).wait(self.chat, Instant::now());
            sleep(wait).await;
            Ok(())
        }
        .boxed()
    }

    fn tells_later(&self) -> bool {
        true
    }

    fn send<'a>(&'a self, part: &'a Part<What>) -> BoxFuture<'a, Sent> {
        async {
            let sent = match &part.what {
                What::Text(said) => self.post(&part.name, said).await.map(Some),
                What::File(file) => self.share(&part.name, file).await,
            };
            sent.map_or_else(|trouble| trouble.sent(), Sent::Taken)
        }
        .boxed()
    }

    fn look<'a>(&'a self, part: &'a Part<What>, begun: UnixMillis) -> BoxFuture<'a, Looked> {
        async move {
            let mark = compose::mark(self.key, &part.name);
            let is_marked = |raw: &Raw| {
                let metadata = raw.metadata.as_deref().map(|metadata| metadata.get());
                metadata.and_then(compose::mark_of).is_some_and(|found| found == mark)
            };
            let found = match &part.what {
                What::Text(_) => self.look_for(begun, is_marked).await,
                // A file has no mark: it is known by its name and its size. Where it could not be shared there is
                // a text in its place.
                What::File(file) => {
                    self.look_for(begun, |raw| is_marked(raw) || file.is_in(raw)).await
                }
            };
            let within = match &part.what {
                What::Text(_) => SETTLED,
                What::File(_) => FILE_SETTLED,
            };
            Self::settled(found, begun, within)
        }
        .boxed()
    }
}

/// What one person is told.
struct Whisper<'a> {
    channel: &'a SlackChannel,
    account: &'a Account,
    chat: &'a str,
    thread: Option<&'a str>,
    to: &'a str,
}

impl Platform<Said> for Whisper<'_> {
    fn send<'a>(&'a self, part: &'a Part<Said>) -> BoxFuture<'a, Sent> {
        async {
            let mut body = json!({
                "channel": self.chat, "user": self.to, "text": part.what.text, "mrkdwn": true,
            });
            if let Some(thread) = self.thread {
                body["thread_ts"] = json!(thread);
            }
            let bot = &self.account.bot;
            let asked = self.channel.api.json::<Value>(bot, "chat.postEphemeral", &body).await;
            asked.map_or_else(|trouble| trouble.sent(), |_| Sent::Taken(None))
        }
        .boxed()
    }

    /// What one person alone sees stands in no history.
    fn look<'a>(&'a self, _part: &'a Part<Said>, _begun: UnixMillis) -> BoxFuture<'a, Looked> {
        async { Looked::Unknown }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_messages_go_at_once_and_then_one_in_a_second() {
        let mut pace = Pace::default();
        let now = Instant::now();
        let waits: Vec<u64> = (0..6).map(|_| pace.wait("C1", now).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 1, 2]);
        assert_eq!(pace.wait("C2", now), Duration::ZERO, "each conversation has its own");
        assert_eq!(pace.wait("C1", now + Duration::from_secs(60)), Duration::ZERO);
    }
}
