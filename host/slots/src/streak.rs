//! Streaks: when a schedule that keeps failing is paused. A failed run never ends a series by itself;
//! some in a row pause it, and a person is told.
//!
//! There are two streaks. Runs that used up their turns are counted on their own: the remedy is an
//! edit of `max_turns`, which then has two slots to prove itself. A success ends both streaks; what
//! adds to one leaves the other as it is.

use std::time::Duration;

use twobox_shared::time::UnixMillis;

use super::reason::Reason;
use super::timetable::Timetable;

/// So many breaches of the turn budget in a row pause a schedule.
pub const BREACHES: u32 = 5;

/// So many other failures in a row pause a schedule.
pub const FAILURES: u32 = 3;

/// For so many slots after an edit of `max_turns`, breaches do not count.
const SLOTS_OF_GRACE: usize = 2;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With success.
    Completed,
    /// Without.
    Failed(Reason),
    /// Somebody did not want it any more, or a newer run took its place.
    Cancelled,
    /// However a run ended that a person started: somebody watches it, and it may be tried while the
    /// schedule is being mended.
    ByHand,
}

/// How often in a row the runs of a schedule have failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Streaks {
    /// Breaches of the turn budget.
    pub breaches: u32,
    /// Other failures.
    pub failures: u32,
}

/// Why a schedule is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// [`BREACHES`] in a row.
    Breaches,
    /// [`FAILURES`] in a row.
    Failures,
}

impl Streaks {
    /// The streaks after a run that ended so, and whether the schedule is to be paused. `grace` says
    /// whether the run was [`in_grace`]. Whoever resumes a paused schedule begins with no streaks.
    pub fn after(self, end: End, grace: bool) -> (Self, Option<Pause>) {
        match end {
            End::Completed => (Self::default(), None),
            // These say nothing about the schedule: a person or another run ended it, the host died,
            // or there was no run at all.
            End::Cancelled
            | End::ByHand
            | End::Failed(
                Reason::Aborted
                | Reason::Interrupted
                | Reason::Overlap
                | Reason::Replaced
                | Reason::Policy
                | Reason::Window
                | Reason::Limit
                | Reason::Edited
                | Reason::Paused
                | Reason::Removed,
            ) => (self, None),
            End::Failed(Reason::TurnLimitExceeded) if grace => (self, None),
            End::Failed(Reason::TurnLimitExceeded) => {
                let breaches = self.breaches.saturating_add(1);
                let pause = (breaches >= BREACHES).then_some(Pause::Breaches);
                (Self { breaches, ..self }, pause)
            }
            End::Failed(
                Reason::Timeout
                | Reason::BudgetExceeded
                | Reason::AuthFailed
                | Reason::RateLimited
                | Reason::LeaseExpired
                | Reason::PrepareFailed
                | Reason::ProviderError,
            ) => {
                let failures = self.failures.saturating_add(1);
                let pause = (failures >= FAILURES).then_some(Pause::Failures);
                (Self { failures, ..self }, pause)
            }
        }
    }
}

/// Whether a run is within two cadence intervals after `max_turns` was edited: it belongs to one of
/// the two slots after the edit, or started before the third. `fired_at` is the run's slot, or the
/// start of a manual run. Runs that went on during the edit, with the old budget, are in grace too.
pub fn in_grace(timetable: &Timetable, edited_at: UnixMillis, fired_at: UnixMillis) -> bool {
    let mut slots = timetable.slots(edited_at + Duration::from_millis(1), UnixMillis(i64::MAX));
    slots.nth(SLOTS_OF_GRACE).is_none_or(|third| fired_at < third.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cadence::{Cadence, Kind};
    use crate::timetable::Bounds;
    use crate::zone::Zone;
    use End::{ByHand, Cancelled, Completed, Failed};
    use Reason::{
        Aborted, AuthFailed, BudgetExceeded, Interrupted, LeaseExpired, PrepareFailed,
        ProviderError, RateLimited, Timeout, TurnLimitExceeded,
    };

    /// After which of `ends`, counted from 1, a schedule is paused, and why.
    fn paused(ends: &[End]) -> Option<(usize, Pause)> {
        let mut streaks = Streaks::default();
        ends.iter().zip(1..).find_map(|(end, at)| {
            let (after, pause) = streaks.after(*end, false);
            streaks = after;
            pause.map(|pause| (at, pause))
        })
    }

    #[test]
    fn each_streak_has_its_own_limit() {
        let breach = Failed(TurnLimitExceeded);
        let failure = Failed(LeaseExpired);
        let cases = [
            ("breaches", vec![breach; 5], Some((5, Pause::Breaches))),
            ("fewer breaches", vec![breach; 4], None),
            ("failures", vec![failure; 3], Some((3, Pause::Failures))),
            ("success between", vec![failure, failure, Completed, failure, failure], None),
            (
                "different failures",
                vec![Failed(AuthFailed), Failed(Timeout), Failed(PrepareFailed)],
                Some((3, Pause::Failures)),
            ),
            (
                "each streak goes on beside the other",
                vec![failure, breach, failure, breach, breach, breach, failure],
                Some((7, Pause::Failures)),
            ),
            (
                "what says nothing about the schedule leaves a streak as it is",
                vec![failure, Cancelled, failure, Failed(Aborted), failure],
                Some((5, Pause::Failures)),
            ),
            (
                "nor does what a person starts",
                vec![failure, ByHand, failure, ByHand, ByHand, failure],
                Some((6, Pause::Failures)),
            ),
        ];
        for (case, ends, expected) in cases {
            assert_eq!(paused(&ends), expected, "{case}");
        }
    }

    #[test]
    fn every_failure_counts_somewhere_or_on_purpose_nowhere() {
        let cases = [
            (TurnLimitExceeded, 1, 0),
            (Timeout, 0, 1),
            (Aborted, 0, 0),
            (BudgetExceeded, 0, 1),
            (AuthFailed, 0, 1),
            (RateLimited, 0, 1),
            (LeaseExpired, 0, 1),
            (PrepareFailed, 0, 1),
            (ProviderError, 0, 1),
            (Interrupted, 0, 0),
        ];
        for (reason, breaches, failures) in cases {
            let (streaks, pause) = Streaks::default().after(Failed(reason), false);
            assert_eq!((streaks, pause), (Streaks { breaches, failures }, None), "{reason:?}");
        }
    }

    #[test]
    fn only_what_adds_to_a_streak_pauses() {
        let full = Streaks { breaches: BREACHES, failures: FAILURES };
        let breach = Failed(TurnLimitExceeded);
        for (end, grace) in [(Completed, false), (Cancelled, false), (breach, true)] {
            assert_eq!(full.after(end, grace).1, None, "{end:?}");
        }
    }

    #[test]
    fn in_grace_breaches_do_not_count_and_failures_do() {
        let four = Streaks { breaches: 4, failures: 0 };
        assert_eq!(four.after(Failed(TurnLimitExceeded), true), (four, None));
        let (streaks, _) = four.after(Failed(ProviderError), true);
        assert_eq!(streaks, Streaks { breaches: 4, failures: 1 });
    }

    #[test]
    fn grace_lasts_for_the_two_slots_after_the_edit() {
        const HOUR: i64 = 3_600_000;
        let cadence = Cadence::parse(Kind::Every, "1h").unwrap();
        let timetable = Timetable::new(&cadence, Zone::UTC, UnixMillis(0), Bounds::default());
        let edited = UnixMillis(10 * HOUR + 1);
        for (fired, grace) in [(10, true), (11, true), (12, true), (13, false), (20, false)] {
            let fired_at = UnixMillis(fired * HOUR);
            assert_eq!(in_grace(&timetable, edited, fired_at), grace, "the slot at {fired} h");
        }
        assert!(in_grace(&timetable, edited, UnixMillis(13 * HOUR - 1)), "started by hand");
        let ends = Bounds { not_after: Some(UnixMillis(12 * HOUR)), ..Bounds::default() };
        let ending = Timetable::new(&cadence, Zone::UTC, UnixMillis(0), ends);
        assert!(in_grace(&ending, edited, UnixMillis(12 * HOUR)), "no third slot comes");
    }
}
