//! Which conversations are behind, and what was said there meanwhile. No I/O.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use twobox_model::backoff::Backoff;
use twobox_system::lock::lock;

use super::super::events::Message;
use super::super::ts::Ts;

/// The pauses of a conversation of which nothing can be taken.
const PAUSE: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };

/// How many messages wait for their conversations. What is more is not acknowledged and forgotten: Slack hands it
/// over again, or it is read.
const WAITING_MAX: usize = 2_000;

/// How something is acknowledged: on the connection over which it came.
#[derive(Debug, Clone)]
pub(super) struct Ack {
    pub(super) line: mpsc::UnboundedSender<String>,
    pub(super) envelope: String,
}

impl Ack {
    /// It is durable, or done with.
    pub(super) fn send(self) {
        // Of a connection that is gone Slack wants none; what came over it comes over another.
        drop(self.line.send(self.envelope));
    }
}

/// The conversations.
#[derive(Debug, Default)]
pub(in super::super) struct Chats {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    behind: BTreeMap<String, Behind>,
    /// Any conversation may be behind: it is not known yet which there are.
    is_listing: bool,
    failures: i64,
    list_at: Option<Instant>,
    /// How often it was begun to look back, so that what began before is not taken for an end of this.
    round: u64,
    waiting: usize,
}

#[derive(Debug, Default)]
struct Behind {
    failures: i64,
    next: Option<Instant>,
    waiting: Vec<(Message, Ack)>,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Find out which conversations there are.
    List,
    /// Read this one.
    Read(String),
    /// Nothing before that time; all is heard if there is none.
    Nothing(Option<Instant>),
}

impl Chats {
    /// Something may have been said that was not heard, anywhere.
    pub(in super::super) fn look_back(&self) {
        let mut inner = lock(&self.inner);
        inner.is_listing = true;
        inner.list_at = None;
        inner.round += 1;
        drop(inner);
        self.changed.notify_one();
    }

    /// Returns when something has changed.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Has a message wait if its conversation is behind; otherwise hands it back.
    pub(super) fn wait(&self, message: Message, ack: Ack) -> Option<(Message, Ack)> {
        let mut inner = lock(&self.inner);
        if !inner.is_listing && !inner.behind.contains_key(&message.chat) {
            return Some((message, ack));
        }
        inner.put(message, ack);
        drop(inner);
        self.changed.notify_one();
        None
    }

    /// A message could not be taken: its conversation is behind, and has a pause.
    pub(super) fn fall_behind(&self, message: Message, ack: Ack) {
        let mut inner = lock(&self.inner);
        let chat = message.chat.clone();
        inner.put(message, ack);
        inner.fail(&chat, None);
        drop(inner);
        self.changed.notify_one();
    }

    /// What is to be done now; `recent` are conversations by when they were heard, the last first.
    pub(super) fn next(&self, now: Instant, last: impl Fn(&str) -> Option<Ts>) -> Next {
        let inner = lock(&self.inner);
        let due = |at: Option<Instant>| at.is_none_or(|at| at <= now);
        let ready = inner.behind.iter().filter(|(_, behind)| due(behind.next));
        // Where somebody waits first, and then where something was said lately.
        let first = ready.max_by_key(|(chat, behind)| (!behind.waiting.is_empty(), last(chat)));
        let waits = first.is_some_and(|(_, behind)| !behind.waiting.is_empty());
        if inner.is_listing && due(inner.list_at) && !waits {
            return Next::List;
        }
        match first {
            Some((chat, _)) => Next::Read(chat.clone()),
            None => {
                let pauses = inner.behind.values().filter_map(|behind| behind.next);
                Next::Nothing(pauses.chain(inner.list_at.filter(|_| inner.is_listing)).min())
            }
        }
    }

    /// A number that changes when it is begun to look back.
    pub(super) fn round(&self) -> u64 {
        lock(&self.inner).round
    }

    /// These conversations are there, as of that round: each has to be read.
    pub(super) fn listed(&self, round: u64, chats: impl IntoIterator<Item = String>) {
        let mut inner = lock(&self.inner);
        for chat in chats {
            inner.behind.entry(chat).or_default();
        }
        if inner.round == round {
            inner.is_listing = false;
            inner.failures = 0;
        }
    }

    /// Which there are could not be found out.
    pub(super) fn list_later(&self, now: Instant, wait: Option<Duration>) {
        let mut inner = lock(&self.inner);
        inner.failures += 1;
        let pause = PAUSE.after(inner.failures).max(wait.unwrap_or_default());
        inner.list_at = Some(now + pause);
    }

    /// A conversation could not be read on, or nothing of it can be taken: it has a pause.
    pub(super) fn fail(&self, chat: &str, wait: Option<Duration>) {
        lock(&self.inner).fail(chat, wait);
    }

    /// A conversation was read up to now: what was said meanwhile and waits, in its order. Once there is nothing,
    /// it is behind no more.
    pub(super) fn catch(&self, chat: &str) -> Vec<(Message, Ack)> {
        let mut inner = lock(&self.inner);
        let Some(behind) = inner.behind.get_mut(chat) else { return Vec::new() };
        let mut waiting = std::mem::take(&mut behind.waiting);
        if waiting.is_empty() {
            inner.behind.remove(chat);
        }
        inner.waiting -= waiting.len();
        waiting.sort_by_key(|(message, _)| message.ts);
        waiting
    }

    /// Puts back what waited and could not be taken.
    pub(super) fn put_back(&self, waiting: impl IntoIterator<Item = (Message, Ack)>) {
        let mut inner = lock(&self.inner);
        waiting.into_iter().for_each(|(message, ack)| inner.put(message, ack));
    }

    /// Whether every conversation was heard up to now.
    pub(super) fn is_up_to_date(&self) -> bool {
        let inner = lock(&self.inner);
        !inner.is_listing && inner.behind.is_empty()
    }
}

impl Inner {
    fn put(&mut self, message: Message, ack: Ack) {
        let behind = self.behind.entry(message.chat.clone()).or_default();
        // What Slack hands over again is the same message, and its last connection is asked.
        if let Some(known) = behind.waiting.iter_mut().find(|(known, _)| known.ts == message.ts) {
            known.1 = ack;
        } else if self.waiting < WAITING_MAX {
            behind.waiting.push((message, ack));
            self.waiting += 1;
        }
    }

    fn fail(&mut self, chat: &str, wait: Option<Duration>) {
        let behind = self.behind.entry(chat.to_owned()).or_default();
        behind.failures += 1;
        let pause = PAUSE.after(behind.failures).max(wait.unwrap_or_default());
        behind.next = Some(Instant::now() + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(chat: &str, second: u64) -> (Message, Ack) {
        let message = Message {
            chat: chat.to_owned(),
            ts: Ts::parse(&format!("{second}.000000")).unwrap(),
            sender: "U1".to_owned(),
            text: "hello".to_owned(),
            thread: None,
            direct: None,
        };
        (message, Ack { line: mpsc::unbounded_channel().0, envelope: second.to_string() })
    }

    fn put(chats: &Chats, chat: &str, second: u64) -> bool {
        let (message, ack) = message(chat, second);
        chats.wait(message, ack).is_none()
    }

    fn waiting(chats: &Chats, chat: &str) -> Vec<String> {
        chats.catch(chat).into_iter().map(|(_, ack)| ack.envelope).collect()
    }

    #[test]
    fn what_is_said_waits_until_its_conversation_was_read() {
        let chats = Chats::default();
        assert!(!put(&chats, "C1", 1), "nothing is behind");
        chats.look_back();
        assert!(put(&chats, "C1", 3) && put(&chats, "C1", 2));
        let none = |_: &str| None;
        // Where somebody waits it is read even before it is known which conversations there are.
        assert_eq!(chats.next(Instant::now(), none), Next::Read("C1".to_owned()));
        assert_eq!(waiting(&chats, "C1"), ["2", "3"], "in their order");
        assert!(put(&chats, "C1", 4), "until nothing waits");
        assert_eq!(waiting(&chats, "C1"), ["4"]);
        assert_eq!(waiting(&chats, "C1"), Vec::<String>::new());
        assert_eq!(chats.next(Instant::now(), none), Next::List);
        let round = chats.round();
        chats.listed(round, ["C2".to_owned(), "C3".to_owned()]);
        assert!(!put(&chats, "C1", 5) && put(&chats, "C2", 5));
        let last = |chat: &str| Ts::parse(if chat == "C3" { "9.000000" } else { "8.000000" });
        assert_eq!(chats.next(Instant::now(), last), Next::Read("C2".to_owned()));
        assert_eq!(waiting(&chats, "C2"), ["5"]);
        assert_eq!(chats.next(Instant::now(), last), Next::Read("C3".to_owned()), "lately heard");
        for chat in ["C2", "C3"] {
            assert!(!chats.is_up_to_date());
            assert!(waiting(&chats, chat).is_empty());
        }
        assert!(chats.is_up_to_date() && chats.next(Instant::now(), none) == Next::Nothing(None));
    }

    #[test]
    fn a_conversation_that_takes_nothing_has_a_pause_and_keeps_no_other_waiting() {
        let chats = Chats::default();
        let (said, ack) = message("C1", 1);
        chats.fall_behind(said, ack);
        assert!(put(&chats, "C1", 1) && put(&chats, "C1", 2) && !put(&chats, "C2", 1));
        let Next::Nothing(Some(at)) = chats.next(Instant::now(), |_| None) else { panic!() };
        assert_eq!(chats.next(at, |_| None), Next::Read("C1".to_owned()));
        let taken = chats.catch("C1");
        assert_eq!(taken.len(), 2, "what is handed over again is not another one");
        chats.put_back(taken);
        chats.fail("C1", Some(Duration::from_secs(100)));
        assert_eq!(chats.next(at + Duration::from_secs(90), |_| None), {
            let Next::Nothing(at) = chats.next(at, |_| None) else { panic!() };
            Next::Nothing(at)
        });
    }

    #[test]
    fn a_look_back_that_began_later_is_not_over_with_one_before() {
        let chats = Chats::default();
        chats.look_back();
        let round = chats.round();
        chats.look_back();
        chats.listed(round, []);
        assert!(!chats.is_up_to_date());
        chats.listed(chats.round(), []);
        assert!(chats.is_up_to_date());
    }

    #[test]
    fn what_waits_is_bounded() {
        let chats = Chats::default();
        chats.look_back();
        for second in 0..WAITING_MAX as u64 + 10 {
            put(&chats, "C1", second);
        }
        assert_eq!(chats.catch("C1").len(), WAITING_MAX);
    }
}
