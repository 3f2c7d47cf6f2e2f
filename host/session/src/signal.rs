//! Why a session's task has to look: reasons that add up until it does, however often they are
//! raised.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

/// A reason to look at a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The container committed to its outbox.
    Outbox = 1,
    /// The container may have ended: ask the runtime.
    Runtime = 2,
    /// A time has come, or somebody wants a look.
    Due = 4,
    /// There may be a place for a start.
    Place = 8,
    /// Another session needs this one's place.
    Evict = 16,
    /// A channel may take outbound messages that it could not take before.
    Channel = 32,
    /// The container says what it is at, which is no reason to look at its boxes.
    Progress = 64,
    /// A budget was raised since something here was put off for it.
    Budget = 128,
}

/// A set of [`Reason`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reasons(u8);

impl Reasons {
    /// Whether `reason` is among them.
    pub const fn contains(self, reason: Reason) -> bool {
        self.0 & reason as u8 != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    const fn without_progress(self) -> Self {
        Self(self.0 & !(Reason::Progress as u8))
    }

    /// These and `reason`.
    #[must_use]
    pub const fn with(self, reason: Reason) -> Self {
        Self(self.0 | reason as u8)
    }
}

/// The reasons that were raised and not yet taken.
#[derive(Debug, Default)]
pub struct Signal {
    reasons: AtomicU8,
    notify: Notify,
}

impl Signal {
    /// Adds a reason and wakes the task.
    pub fn raise(&self, reason: Reason) {
        self.reasons.fetch_or(reason as u8, Ordering::AcqRel);
        self.notify.notify_one();
    }

    /// Waits until something was raised since the last wait.
    pub async fn raised(&self) {
        self.notify.notified().await;
    }

    /// Whether nothing was raised that was not taken.
    pub fn is_quiet(&self) -> bool {
        self.reasons.load(Ordering::Acquire) == 0
    }

    /// Takes one reason. Returns whether it was raised.
    pub fn take_only(&self, reason: Reason) -> bool {
        self.reasons.fetch_and(!(reason as u8), Ordering::AcqRel) & reason as u8 != 0
    }

    /// Takes all reasons.
    pub fn take(&self) -> Reasons {
        Reasons(self.reasons.swap(0, Ordering::AcqRel))
    }

    /// Takes all reasons to look at the boxes. What is none is left to whoever takes it by itself: it may have
    /// been raised since they did.
    pub fn take_looks(&self) -> Reasons {
        Reasons(self.reasons.fetch_and(Reason::Progress as u8, Ordering::AcqRel)).without_progress()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_reason_to_look_is_left_by_a_look_and_wakes_the_next_time() {
        let signal = Signal::default();
        signal.raise(Reason::Due);
        signal.raised().await;
        assert!(!signal.take_only(Reason::Progress));
        signal.raise(Reason::Progress); // between the two
        assert_eq!(signal.take_looks(), Reasons::default().with(Reason::Due));
        signal.raised().await;
        assert!(signal.take_only(Reason::Progress), "it was not taken for nothing");
        assert!(signal.is_quiet() && signal.take_looks().is_empty());
    }
}
