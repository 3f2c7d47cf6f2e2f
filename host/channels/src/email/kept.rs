//! What an instance keeps from one life to the next: how far the folder was read, which mail was heard, and what its
//! threads are about. Pure; [`crate::state`] writes it down.
//!
//! The position is that behind which all mail is durable elsewhere, or done with, or `waiting`. A server that has lost
//! its list gives all mail new numbers, and does not always say so: what was heard is also known by its id, and
//! what is older than that goes back is known by its date.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use twobox_shared::content::digest16;
use twobox_shared::time::UnixMillis;

/// How many mails are remembered as heard.
const HEARD_MAX: usize = 5_000;

/// How many mails may wait until they can be taken.
pub(super) const WAITING_MAX: usize = 1_000;

/// How many threads are remembered, and how many mails of each.
const THREADS_MAX: usize = 2_000;
const IDS_MAX: usize = 12;

/// How far the dates of mail may be apart that came at once.
const SLACK: Duration = Duration::from_secs(24 * 60 * 60);

/// The state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    /// Whose mailbox the rest is about, and which folder.
    pub(super) whose: String,
    /// As long as the server says this, its numbers mean the same mail.
    pub(super) uid_validity: u32,
    /// Up to which number everything was read.
    pub(super) read: u32,
    /// Mail up to there that could not be taken yet.
    pub(super) waiting: BTreeSet<u32>,
    /// What was heard or passed over, oldest first.
    heard: VecDeque<Heard>,
    /// What came before that is not heard any more.
    floor: Option<UnixMillis>,
    /// What is known of threads, by chat and thread.
    threads: BTreeMap<String, Thread>,
}

/// A mail that is done with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Heard {
    mark: String,
    /// When the server got it.
    at: Option<UnixMillis>,
}

/// What is known of a thread.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Thread {
    /// What it is about.
    pub(super) subject: String,
    /// The ids of its mails: the first, and the last ones.
    pub(super) ids: Vec<String>,
    /// When something came in it.
    at: UnixMillis,
}

/// By what a mail is known: who has written it, and its id. Somebody else's id takes no mail of theirs away.
pub(super) fn mark(chat: &str, id: &str) -> String {
    digest16(&format!("{chat:?} {id:?}"))
}

impl Kept {
    /// What is kept of this mailbox; nothing, if this is of another.
    pub(super) fn of(self, whose: &str) -> Self {
        match self.whose == whose {
            true => self,
            false => Self { whose: whose.to_owned(), ..Self::default() },
        }
    }

    /// Whether the folder was never read before.
    pub(super) fn is_new(&self) -> bool {
        self.uid_validity == 0
    }

    /// Begins behind the mail `last`; what is there already, known by its marks and when it came, is not heard.
    pub(super) fn begin(
        &mut self,
        uid_validity: u32,
        last: u32,
        there: impl IntoIterator<Item = (String, Option<UnixMillis>)>,
    ) {
        (self.uid_validity, self.read) = (uid_validity, last);
        for (mark, at) in there {
            self.floor = self.floor.max(at);
            self.done(mark, at);
        }
    }

    /// The numbers mean nothing any more: all mail is looked at again, and what was heard is known by its id.
    pub(super) fn begin_anew(&mut self, uid_validity: u32) {
        (self.uid_validity, self.read) = (uid_validity, 0);
        self.waiting.clear();
    }

    /// Whether the mail with this mark, which the server got then, was heard or is too old to be.
    pub(super) fn knows(
        &self,
        heard: &HashSet<String>,
        mark: &str,
        at: Option<UnixMillis>,
    ) -> bool {
        let is_old = |floor: UnixMillis| at.is_some_and(|at| at + SLACK < floor);
        heard.contains(mark) || self.floor.is_some_and(is_old)
    }

    /// The marks of all that was heard.
    pub(super) fn marks(&self) -> HashSet<String> {
        self.heard.iter().map(|it| it.mark.clone()).collect()
    }

    /// The mail with this mark is done with.
    pub(super) fn done(&mut self, mark: String, at: Option<UnixMillis>) {
        self.heard.push_back(Heard { mark, at });
        while self.heard.len() > HEARD_MAX {
            let gone = self.heard.pop_front().and_then(|it| it.at);
            self.floor = self.floor.max(gone.map(|at| at + SLACK + Duration::from_millis(1)));
        }
    }

    /// Everything up to the mail `uid` was read; that one waits, if it could not be taken.
    pub(super) fn pass(&mut self, uid: u32, waits: bool) {
        self.read = self.read.max(uid);
        match waits {
            true => self.waiting.insert(uid),
            false => self.waiting.remove(&uid),
        };
    }

    /// A mail with this id, about `subject`, belongs to that thread. `before` is what came before it.
    pub(super) fn note(
        &mut self,
        chat: &str,
        thread: &str,
        subject: Option<&str>,
        before: &[String],
        id: &str,
        now: UnixMillis,
    ) {
        let key = mark(chat, thread);
        if !self.threads.contains_key(&key) && self.threads.len() >= THREADS_MAX {
            let oldest =
                self.threads.iter().min_by_key(|(_, it)| it.at).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.threads.remove(&key));
        }
        let known = self.threads.entry(key).or_default();
        known.at = now;
        if let Some(subject) = subject.filter(|_| known.subject.is_empty()) {
            subject.clone_into(&mut known.subject);
        }
        let first = known.ids.is_empty();
        for id in before.iter().filter(|_| first).map(String::as_str).chain([id]) {
            known.ids.retain(|other| other != id);
            known.ids.push(id.to_owned());
        }
        if known.ids.len() > IDS_MAX {
            let too_many = known.ids.len() - IDS_MAX;
            known.ids.drain(1..=too_many);
        }
    }

    /// What is known of a thread.
    pub(super) fn thread(&self, chat: &str, thread: &str) -> Option<&Thread> {
        self.threads.get(&mark(chat, thread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: i64) -> Option<UnixMillis> {
        Some(UnixMillis(days * 24 * 60 * 60 * 1000))
    }

    #[test]
    fn what_was_there_before_is_never_heard_whatever_number_it_gets() {
        let mut kept = Kept::default();
        kept.begin(7, 40, [("a".to_owned(), at(9)), ("b".to_owned(), at(10))]);
        let heard = kept.marks();
        assert!(kept.knows(&heard, "b", at(10)), "it was there");
        assert!(kept.knows(&heard, "older", at(3)), "it was there before, and is not remembered");
        assert!(!kept.knows(&heard, "new", at(11)));
        assert!(!kept.knows(&heard, "new", at(10)), "it came at the same time");
        assert!(!kept.knows(&heard, "new", None), "of which nobody knows when it came");
        kept.begin_anew(8);
        assert_eq!((kept.read, kept.is_new()), (0, false));
        assert!(kept.knows(&kept.marks(), "a", at(9)));
        let empty = Kept { uid_validity: 1, ..Kept::default() };
        assert!(!empty.knows(&empty.marks(), "first", at(1)), "an empty folder has no past");
    }

    #[test]
    fn what_is_forgotten_is_known_by_its_date() {
        let mut kept = Kept::default();
        for number in 0..HEARD_MAX + 10 {
            kept.done(format!("m{number}"), at(number as i64));
        }
        let heard = kept.marks();
        assert_eq!(heard.len(), HEARD_MAX);
        assert!(kept.knows(&heard, "m9", at(9)), "the last that was forgotten");
        assert!(kept.knows(&heard, "m10", at(10)));
        assert!(!kept.knows(&heard, "new", at(11)));
    }

    #[test]
    fn a_position_moves_behind_what_waits_and_never_back() {
        let mut kept = Kept::default();
        kept.pass(5, false);
        kept.pass(6, true);
        kept.pass(7, false);
        assert_eq!((kept.read, kept.waiting.iter().copied().collect::<Vec<_>>()), (7, vec![6]));
        kept.pass(6, false);
        assert_eq!((kept.read, kept.waiting.len()), (7, 0));
    }

    #[test]
    fn a_thread_keeps_its_first_mail_and_the_last_ones() {
        let mut kept = Kept::default();
        let ids =
            |range: std::ops::Range<usize>| range.map(|it| format!("{it}@x")).collect::<Vec<_>>();
        kept.note("ada", "t", Some("lunch"), &ids(0..3), "3@x", UnixMillis(1));
        for id in ids(4..40) {
            kept.note("ada", "t", Some("other"), &[], &id, UnixMillis(2));
        }
        let thread = kept.thread("ada", "t").unwrap();
        assert_eq!((thread.subject.as_str(), thread.ids.len()), ("lunch", IDS_MAX));
        assert_eq!((thread.ids[0].as_str(), thread.ids[IDS_MAX - 1].as_str()), ("0@x", "39@x"));
        assert_eq!(kept.thread("eve", "t"), None, "it is one in a chat");
        for number in 0..THREADS_MAX {
            kept.note("ada", &format!("u{number}"), None, &[], "a@x", UnixMillis(3));
        }
        assert_eq!((kept.threads.len(), kept.thread("ada", "t")), (THREADS_MAX, None));
    }

    #[test]
    fn what_is_kept_of_another_mailbox_is_not_used() {
        let kept = Kept { whose: "a".to_owned(), read: 5, ..Kept::default() };
        assert_eq!(kept.clone().of("a").read, 5);
        assert_eq!(kept.of("b"), Kept { whose: "b".to_owned(), ..Kept::default() });
    }
}
