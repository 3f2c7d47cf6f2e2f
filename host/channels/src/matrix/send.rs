//! Sending one message: its parts, its files, and what became of them.
//!
//! Each part has a transaction id of its own, made of the message's key: the homeserver makes one event of it
//! however often it is sent. It remembers that for a day. What may be older, or may have been sent as another
//! device, is looked for in the room first, by a mark that is in every event.

use std::collections::HashMap;
use std::time::Instant;

use serde::Deserialize;
use serde_json::Value;
use twobox_model::channel::{Address, Outbound, Outcome};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

use super::client::Ask;
use super::compose::{self, Kind, MARK, Relation};
use super::enter::CAUTION;
use super::events::Page;
use super::kept::UNSURE_MAX;
use super::path::{step, transaction, value};
use super::trouble::Trouble;
use super::{Account, MatrixChannel};

/// How many messages are remembered that are not wholly there.
const BEGUN_MAX: usize = 10_000;

/// How many pages of a room are looked through for what was said there, and how long each is.
const PAST_PAGES: usize = 20;
const PAGE: usize = 100;

/// A message that is not wholly there yet.
#[derive(Debug, Clone)]
pub(super) struct Begun {
    /// When it was tried first.
    pub(super) at: Instant,
    /// The events of its parts, by their transactions.
    taken: HashMap<String, String>,
    /// What was uploaded of its files, by their number.
    pub(super) uploaded: HashMap<usize, String>,
    /// How often the homeserver broke off while a file was uploaded.
    pub(super) broken: HashMap<usize, u32>,
    /// Whether the room was looked at for it.
    looked: bool,
}

/// What the account has said in a room: events by their marks.
pub(super) type Past = HashMap<String, String>;

#[derive(Deserialize)]
struct Sent {
    event_id: String,
}

/// One message on its way.
pub(super) struct Letter<'a> {
    pub(super) account: &'a Account,
    pub(super) room: &'a str,
    pub(super) key: &'a str,
    pub(super) relation: Relation,
}

impl MatrixChannel {
    /// Sends one message, as far as that was not done before.
    pub(super) async fn send(&self, address: &Address, outbound: &Outbound) -> Outcome {
        let Some(account) = self.account() else { return Outcome::Unavailable };
        match self.send_all(&account, address, outbound).await {
            Ok(event) => {
                self.forget_key(&outbound.key);
                Outcome::Delivered { platform_message_id: event }
            }
            Err(trouble) => self.take_note(&outbound.key, &trouble).await,
        }
    }

    async fn send_all(
        &self,
        account: &Account,
        address: &Address,
        outbound: &Outbound,
    ) -> Result<Option<String>, Trouble> {
        let room = address.platform_id.as_str();
        if self.rooms.is_encrypted(&self.client, &account.token, room).await? {
            return Err(Trouble::Refused(super::trouble::Refused {
                status: 400,
                errcode: "encrypted".to_owned(),
                error: "the room is encrypted, and nothing is sent there in the clear".to_owned(),
                retry_after: None,
            }));
        }
        let relation = self.relation(account, address, outbound).await;
        let letter = Letter { account, room, key: &outbound.key, relation };
        self.look_first(&letter).await?;
        let kind = if outbound.is_notice() { Kind::Notice } else { Kind::Text };
        let text = outbound.text.clone();
        let mut texts = blocking(move || compose::texts(&text)).await;
        if texts.is_empty() && outbound.files.is_empty() {
            texts.push(outbound.text.trim().to_owned());
        }
        let (mut first, mut relation) = (None, letter.relation.clone());
        for (index, text) in texts.iter().enumerate() {
            let transaction = transaction(&outbound.key, &(index + 1).to_string());
            let event = compose::event(kind, text, &relation, &transaction);
            let sent = self.put(&letter, &transaction, &event).await?;
            first = first.or(Some(sent));
            relation = relation.following();
        }
        if !outbound.files.is_empty() {
            let sent = self.send_files(&letter, outbound, &relation).await?;
            first = first.or(sent);
        }
        Ok(first)
    }

    /// What the first part is said about. Who is alone with somebody quotes nobody.
    async fn relation(
        &self,
        account: &Account,
        address: &Address,
        outbound: &Outbound,
    ) -> Relation {
        let thread = address.thread_id.clone();
        let quoted = outbound.in_reply_to.as_ref().map(|id| id.as_str().replace("%2F", "/"));
        // A message that somebody else handed in for this room has an id that no event has.
        let quoted = quoted.filter(|id| id.starts_with('$'));
        let (client, token, us) = (&self.client, &account.token, account.user.as_str());
        let direct = match (&thread, &quoted) {
            (None, Some(_)) => {
                let who = self.rooms.who(client, token, &address.platform_id, us, us).await;
                who.is_ok_and(|who| who.direct)
            }
            (Some(_), _) | (None, None) => false,
        };
        Relation { thread, reply_to: quoted.filter(|_| !direct) }
    }

    /// Has one event made, unless it is known to be there. Returns its id.
    pub(super) async fn put(
        &self,
        letter: &Letter<'_>,
        transaction: &str,
        event: &Value,
    ) -> Result<String, Trouble> {
        if let Some(sent) = self.taken(letter.key, transaction) {
            return Ok(sent);
        }
        let room = step(letter.room);
        let path = format!("client/v3/rooms/{room}/send/m.room.message/{transaction}");
        let sent: Sent = self.client.ask(Ask::put(&letter.account.token, path, event)).await?;
        self.begun(letter.key, |begun| {
            begun.taken.insert(transaction.to_owned(), sent.event_id.clone())
        });
        Ok(sent.event_id)
    }

    /// The event of this transaction of the message with this key, if it is known to be there.
    pub(super) fn taken(&self, key: &str, transaction: &str) -> Option<String> {
        self.begun(key, |begun| begun.taken.get(transaction).cloned())
    }

    /// What is known of the message with this key.
    pub(super) fn begun<T>(&self, key: &str, work: impl FnOnce(&mut Begun) -> T) -> T {
        let mut all = lock(&self.begun);
        if all.len() >= BEGUN_MAX && !all.contains_key(key) {
            all.clear(); // what was taken is taken again, under its keys
        }
        work(all.entry(key.to_owned()).or_insert_with(|| Begun {
            at: Instant::now(),
            taken: HashMap::new(),
            uploaded: HashMap::new(),
            broken: HashMap::new(),
            looked: false,
        }))
    }

    /// Where what is sent now may have been sent so long ago that the homeserver has forgotten it, takes note
    /// of what is there.
    async fn look_first(&self, letter: &Letter<'_>) -> Result<(), Trouble> {
        let unsure = lock(&self.kept).unsure.get(letter.key).copied();
        let old = self.begun(letter.key, |begun| begun.at.elapsed() > CAUTION && !begun.looked)
            || unsure.is_some_and(Self::is_long_ago);
        let strange = lock(&self.kept).cautious_since.is_some();
        let known = lock(&self.past).contains_key(letter.room);
        if old || (strange && !known) {
            let past = self.past_of(letter).await?;
            lock(&self.past).insert(letter.room.to_owned(), past);
            self.begun(letter.key, |begun| begun.looked = true);
        } else if !known {
            return Ok(());
        }
        let past = lock(&self.past).get(letter.room).cloned().unwrap_or_default();
        self.begun(letter.key, |begun| begun.take_from(letter.key, &past));
        Ok(())
    }

    /// What the account has said in the room lately.
    async fn past_of(&self, letter: &Letter<'_>) -> Result<Past, Trouble> {
        let user = &letter.account.user;
        let filter = serde_json::json!({ "types": ["m.room.message"], "senders": [user] });
        let (room, filter) = (step(letter.room), value(&filter.to_string()));
        let mut past = Past::new();
        let mut from = String::new();
        for _ in 0..PAST_PAGES {
            let path =
                format!("client/v3/rooms/{room}/messages?dir=b&limit={PAGE}&filter={filter}{from}");
            let page: Page = self.client.ask(Ask::get(&letter.account.token, path)).await?;
            for event in &page.chunk.events {
                let mark = event["content"][MARK].as_str();
                if let (Some(mark), Some(id)) = (mark, event["event_id"].as_str())
                    && event["sender"] == *user
                {
                    past.insert(mark.to_owned(), id.to_owned());
                }
            }
            // A page may be empty of what is looked for, and not be the last.
            let next = page.end.map(|end| format!("&from={}", value(&end)));
            match next.filter(|next| *next != from) {
                Some(next) => from = next,
                None => break,
            }
        }
        Ok(past)
    }

    /// What `trouble` means for the message with this key. Of what nobody knows the time is written down, so
    /// that a later life knows it as well.
    async fn take_note(&self, key: &str, trouble: &Trouble) -> Outcome {
        if trouble.refused(401).is_some() {
            self.in_doubt.notify_one();
        }
        let may_be_there = match trouble {
            // What answers in its place does not say what it has done.
            Trouble::Silent(_) | Trouble::Strange(_) => true,
            Trouble::NotReached(_) | Trouble::Refused(_) => false,
        };
        if may_be_there && !lock(&self.kept).unsure.contains_key(key) {
            let (key, now) = (key.to_owned(), SystemClock.now());
            let written = self.keep(move |kept| {
                if kept.unsure.len() < UNSURE_MAX {
                    kept.unsure.insert(key, now);
                }
            });
            if let Err(error) = written.await {
                tracing::warn!(channel = self.id, error, "what is not known is not written down");
            }
        }
        let outcome = trouble.outcome();
        if matches!(outcome, Outcome::Permanent { .. }) {
            self.forget_key(key);
        }
        outcome
    }

    /// A message is over. That nobody knew what became of it is written down with the next change.
    fn forget_key(&self, key: &str) {
        lock(&self.begun).remove(key);
        lock(&self.kept).unsure.remove(key);
    }
}

impl Begun {
    /// Takes what is in `past` of the message with this key for sent.
    fn take_from(&mut self, key: &str, past: &Past) {
        let parts = (1..=200).map(|part| part.to_string());
        let files = (0..64).map(|file| format!("file-{file}"));
        for part in parts.chain(files).chain(["missing".to_owned()]) {
            let transaction = transaction(key, &part);
            if let Some(event) = past.get(&compose::mark(&transaction)) {
                self.taken.insert(transaction, event.clone());
            }
        }
    }
}
