//! What agents do with the messages of runs. It goes on whatever becomes of the hosts.

use twobox_slots::reason::Reason;

/// How the runs of a schedule tend to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    Failing,
    Wordy,
    Hanging,
    Mixed,
}

impl Mood {
    pub(super) fn roll(rng: &mut fastrand::Rng) -> Self {
        let all = [Self::Well, Self::Well, Self::Failing, Self::Wordy, Self::Hanging, Self::Mixed];
        all[rng.usize(..all.len())]
    }
}

/// How far the message of a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Going,
    Completed,
    Failed(Reason),
    Withdrawn,
}

/// How a turn ends that comes to its end now; `None` if it goes on.
pub(super) fn ending(mood: Mood, rng: &mut fastrand::Rng) -> Option<Work> {
    const FAILURES: [Reason; 5] = [
        Reason::ProviderError,
        Reason::AuthFailed,
        Reason::RateLimited,
        Reason::Timeout,
        Reason::BudgetExceeded,
    ];
    let failure = Work::Failed(FAILURES[rng.usize(..FAILURES.len())]);
    let wordy = Work::Failed(Reason::TurnLimitExceeded);
    match (mood, rng.u8(..)) {
        (Mood::Hanging, _) | (_, 0..100) => None,
        (Mood::Well, _) | (Mood::Mixed, 100..170) => Some(Work::Completed),
        (Mood::Failing, _) | (Mood::Mixed, 170..215) => Some(failure),
        (Mood::Wordy, _) | (Mood::Mixed, 215..) => Some(wordy),
    }
}
