//! How many refusals of a session are told one by one: to the agent, in the log, and as what ended
//! without success. An agent that asks again and again for what it does not get must not fill its
//! inbox, the log or the operator's list; what is beyond this is counted.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use twobox_shared::clock::Monotonic;
use twobox_shared::content::{Chat, digest16};
use twobox_shared::ids::{MessageId, SessionId};
use twobox_shared::inbox::NewMessage;
use twobox_shared::seq::Seq;

use twobox_system::repeat::Repeats;

/// The refusals of one session, while it is awake.
#[derive(Debug)]
pub(super) struct Refusals {
    left: u32,
    filled: Option<Monotonic>,
    /// Whether the agent knows that further ones are only counted.
    told: bool,
    /// Requests that were refused and are only counted, until the cursor has passed them.
    judged: HashSet<Seq>,
    /// Why the last of them was.
    last: Option<String>,
    /// What the log was told. An agent chooses its words, so it has a table of its own: one of all
    /// sessions would be full of them.
    logged: Repeats,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            left: Self::BURST,
            filled: None,
            told: false,
            judged: HashSet::new(),
            last: None,
            logged: Repeats::default(),
        }
    }
}

impl Refusals {
    /// So many are told in a row,
    const BURST: u32 = 60;

    /// and one more in each of these.
    const EACH: Duration = Duration::from_secs(60);

    /// How many may be told at `now`.
    pub(super) fn left(&mut self, now: Monotonic) -> usize {
        let filled = *self.filled.get_or_insert(now);
        let more = now.since(filled).as_secs() / Self::EACH.as_secs();
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(more).min(Self::BURST);
        self.filled = Some(filled + Self::EACH.saturating_mul(more));
        self.told &= self.left < Self::BURST / 2;
        self.left as usize
    }

    /// So many were told.
    pub(super) fn spend(&mut self, told: usize) {
        self.left = self.left.saturating_sub(u32::try_from(told).unwrap_or(u32::MAX));
    }

    /// Whether the log is to be told of `cause` at `now`, and if so, how often it was there since it was
    /// told last.
    pub(super) fn log(&self, cause: &str, now: Instant) -> Option<u64> {
        self.logged.tell(cause, now)
    }

    /// A request was refused, and nobody is told.
    pub(super) fn judge(&mut self, row: Seq, refusal: String) {
        self.judged.insert(row);
        self.last = Some(refusal);
    }

    /// Whether that is so of a row.
    pub(super) fn is_judged(&self, row: Seq) -> bool {
        self.judged.contains(&row)
    }

    /// Why the last one was.
    pub(super) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Only these rows are still to be passed: others the cursor has passed, or the container has
    /// taken away.
    pub(super) fn keep(&mut self, rows: impl Iterator<Item = Seq>) {
        if !self.judged.is_empty() {
            let rows: HashSet<Seq> = rows.collect();
            self.judged.retain(|row| rows.contains(row));
        }
    }

    /// What the agent is told when its refusals begin to be counted, once, by the number of the first
    /// row.
    pub(super) fn note(&mut self, session: SessionId, first: Seq) -> Option<NewMessage> {
        if std::mem::replace(&mut self.told, true) {
            return None;
        }
        let id = digest16(&format!("{session}\0{}", first.0));
        let text = format!(
            "More than {} of your requests and messages were refused within a short time. Further \
             ones that are refused are counted, and you are not told of each. What is granted is \
             answered as before.",
            Self::BURST
        );
        let id = MessageId::parse(&format!("refusals-{id}")).expect("letters, digits and a hyphen");
        Some(NewMessage::note(id, Chat::text(text).to_json()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_shared::ids::SystemIds;

    const MINUTE: u64 = 60_000;

    #[test]
    fn so_many_are_told_at_once_and_one_in_each_minute_after_that() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.left(Monotonic(5)), 60);
        refusals.spend(60);
        assert_eq!(refusals.left(Monotonic(6)), 0);
        assert_eq!(refusals.left(Monotonic(5 + MINUTE - 1)), 0);
        assert_eq!(refusals.left(Monotonic(4 + 2 * MINUTE)), 1);
        refusals.spend(1);
        assert_eq!(refusals.left(Monotonic(5 + 2 * MINUTE)), 1, "looks in between lose nothing");
        assert_eq!(refusals.left(Monotonic(5 + 10_000 * MINUTE)), 60, "and no more are saved up");
    }

    #[test]
    fn the_agent_is_told_once_until_it_has_mended_its_ways() {
        let session = SessionId::generate(&SystemIds);
        let mut refusals = Refusals::default();
        refusals.left(Monotonic(0));
        refusals.spend(60);
        assert!(refusals.note(session, Seq(3)).is_some());
        assert!(refusals.note(session, Seq(5)).is_none());
        refusals.left(Monotonic(MINUTE));
        assert!(refusals.note(session, Seq(7)).is_none(), "it goes on");
        refusals.left(Monotonic(40 * MINUTE));
        assert!(refusals.note(session, Seq(9)).is_some());
    }

    #[test]
    fn what_was_judged_is_known_while_it_is_there_and_not_passed() {
        let mut refusals = Refusals::default();
        refusals.judge(Seq(3), "no".to_owned());
        refusals.judge(Seq(5), "never".to_owned());
        assert!(refusals.is_judged(Seq(3)) && !refusals.is_judged(Seq(7)));
        refusals.keep([Seq(5), Seq(7)].into_iter());
        assert!(!refusals.is_judged(Seq(3)) && refusals.is_judged(Seq(5)));
        assert_eq!(refusals.last(), Some("never"));
        refusals.keep(std::iter::empty());
        assert!(!refusals.is_judged(Seq(5)), "a container that takes rows away fills no memory");
    }
}
