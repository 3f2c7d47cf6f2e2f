//! Missed slots: what becomes of the slots that came while nobody fired them.

use std::time::Duration;

use twobox_shared::time::UnixMillis;

use super::Slot;
use super::reason::Reason;
use super::timetable::Timetable;
use twobox_model::words;

words! {
    /// Which of the slots that are late are run.
    #[derive(Default)]
    Policy {
        /// None.
        Skip = "skip",
        /// The newest slot that has come, and so none that is late if one is on time.
        #[default]
        Latest = "latest",
        /// All, up to the limit.
        All = "all",
    }
}

/// What a schedule does about late slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatchUp {
    /// Which of them are run.
    pub policy: Policy,
    /// How late a slot may be to be run.
    pub window: Duration,
    /// How many slots are run at once, the newest. One is, even if this is 0.
    pub limit: u64,
}

impl Default for CatchUp {
    fn default() -> Self {
        let window = Duration::from_secs(24 * 60 * 60);
        Self { policy: Policy::default(), window, limit: 100 }
    }
}

/// A row about slots in succession that are not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// The first of them.
    pub first: Slot,
    /// The last of them; the same, if it is one.
    pub last: Slot,
    /// How many they are, both included.
    pub count: u64,
    /// Why they are not run: [`Reason::Window`], [`Reason::Limit`] or [`Reason::Policy`].
    pub reason: Reason,
}

impl Missed {
    /// What is left of it without the slots of `taken`, each from the first to the last of a row that
    /// there is already; oldest first.
    pub fn without(self, timetable: &Timetable, taken: &[(Slot, Slot)]) -> Vec<Self> {
        let backlog = Backlog::new(timetable, self.first);
        let mut left = Vec::new();
        let mut from = self.first.0;
        for (first, last) in taken.iter().filter(|(first, _)| *first <= self.last) {
            left.extend(backlog.newest(0, from, first.0, self.reason).1);
            from = from.max(just_after(*last));
        }
        left.extend(backlog.newest(0, from, just_after(self.last), self.reason).1);
        left
    }
}

/// What has to be done about the slots that have come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reckoning {
    /// These are run, oldest first.
    pub run: Vec<Slot>,
    /// These are recorded as missed, oldest first: at most three rows, however many slots there were.
    pub missed: Vec<Missed>,
    /// The new next slot; `None` if there is none.
    pub next: Option<Slot>,
}

/// Decides what becomes of all slots from `stored`, the next slot as it was last written down, to
/// `now`. A slot that came at most `grace` ago is on time, and is run whatever the policy is.
///
/// This is for a host that was away. When a schedule is edited or resumed, its next slot is
/// [`Timetable::first_after`] that instant: what came before was not missed.
///
/// `stored` counts as a slot even if `timetable` has none there, because the rules of its zone
/// changed with an upgrade: it was promised.
///
/// The work grows with the days since `stored` and with the slots that are run.
pub fn reckon(
    timetable: &Timetable,
    stored: Slot,
    now: UnixMillis,
    grace: Duration,
    catch_up: CatchUp,
) -> Reckoning {
    if stored.0 > now {
        return Reckoning { next: Some(stored), ..Reckoning::default() };
    }
    let CatchUp { policy, window, limit } = catch_up;
    let backlog = Backlog::new(timetable, stored);
    let end = UnixMillis(now.0.saturating_add(1));
    let on_time_from = stored.0.max(now - grace);
    let window_from = stored.0.max(now - window).min(on_time_from);

    let (on_time, excess) = backlog.newest(limit.max(1), on_time_from, end, Reason::Limit);
    let room = limit.max(1).saturating_sub(u64::try_from(on_time.len()).unwrap_or(u64::MAX));
    let (most, reason) = match policy {
        Policy::Skip => (0, Reason::Policy),
        Policy::Latest if on_time.is_empty() => (1, Reason::Policy),
        Policy::Latest => (0, Reason::Policy),
        Policy::All => (room, Reason::Limit),
    };
    let (late, rest) = backlog.newest(most, window_from, on_time_from, reason);
    let (_, outside) = backlog.newest(0, stored.0, window_from, Reason::Window);
    Reckoning {
        run: late.into_iter().chain(on_time).collect(),
        missed: [outside, rest, excess].into_iter().flatten().collect(),
        next: timetable.first_after(now),
    }
}

/// What is recorded of the slots from `stored`, the next slot as it was last written down, to `now` if
/// none of them is to be run any more, for `reason`; without those of `taken`, as in
/// [`Missed::without`].
pub fn passed(
    timetable: &Timetable,
    stored: Slot,
    now: UnixMillis,
    reason: Reason,
    taken: &[(Slot, Slot)],
) -> Vec<Missed> {
    let end = UnixMillis(now.0.saturating_add(1));
    let (_, all) = Backlog::new(timetable, stored).newest(0, stored.0, end, reason);
    all.map(|all| all.without(timetable, taken)).unwrap_or_default()
}

fn just_after(slot: Slot) -> UnixMillis {
    UnixMillis(slot.0.0.saturating_add(1))
}

/// The slots of a timetable from a stored one on.
struct Backlog<'a> {
    timetable: &'a Timetable,
    /// The stored slot, if the timetable does not have it.
    promised: Option<Slot>,
}

impl<'a> Backlog<'a> {
    fn new(timetable: &'a Timetable, stored: Slot) -> Self {
        let is_known = timetable.count(stored.0, just_after(stored)) == 1;
        Self { timetable, promised: (!is_known).then_some(stored) }
    }

    /// The newest `most` slots from `from` up to but without `before`, and what is to be recorded
    /// about older ones.
    fn newest(
        &self,
        most: u64,
        from: UnixMillis,
        before: UnixMillis,
        reason: Reason,
    ) -> (Vec<Slot>, Option<Missed>) {
        let start = first_instant(from, before, |start| self.count(start, before) <= most);
        let missed = self.slots(from, start).next().and_then(|first| {
            // From here on there is one: the last of them.
            let last_from = first_instant(from, start, |instant| self.count(instant, start) <= 1);
            let last = self.slots(last_from, start).next()?;
            Some(Missed { first, last, count: self.count(from, start), reason })
        });
        (self.slots(start, before).collect(), missed)
    }

    fn count(&self, from: UnixMillis, before: UnixMillis) -> u64 {
        let promised = self.promised_in(from, before).map_or(0, |_| 1);
        promised + self.timetable.count(from, before)
    }

    fn slots(&self, from: UnixMillis, before: UnixMillis) -> impl Iterator<Item = Slot> {
        // It is older than all others.
        self.promised_in(from, before).into_iter().chain(self.timetable.slots(from, before))
    }

    fn promised_in(&self, from: UnixMillis, before: UnixMillis) -> Option<Slot> {
        self.promised.filter(|slot| (from..before).contains(&slot.0))
    }
}

/// The first instant from `from` to `before` that `is_late_enough`, which holds for all instants
/// after one for which it holds, and for `before`.
fn first_instant(
    from: UnixMillis,
    before: UnixMillis,
    is_late_enough: impl Fn(UnixMillis) -> bool,
) -> UnixMillis {
    let (mut low, mut high) = (from.0, before.0.max(from.0));
    while low < high {
        let middle = low.midpoint(high);
        match is_late_enough(UnixMillis(middle)) {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    UnixMillis(low)
}

#[cfg(test)]
#[path = "missed_tests.rs"]
mod tests;
