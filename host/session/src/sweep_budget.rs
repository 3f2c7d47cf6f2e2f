//! The sweep budget: how often a session may sweep, and how long it rests after looks that took long.

use std::time::Duration;

use tokio::time::Instant;

use super::boxes::READ_PATIENCE;
use twobox_model::backoff::Backoff;

/// Keeps a container that commits without end from keeping a core busy. A session may sweep
/// [`SweepBudget::BURST`] times in a row, and after that so often in a second. Most of that it has to
/// earn: what a person says to it and what it says to one buys looks, and commits that lead to
/// neither get [`SweepBudget::UNEARNED`] in a second. A look that gives the processor much to do counts
/// as several, so it is the host's time that is shared out and not the number of looks.
///
/// A look at a container's outbox that takes long, such as one that ends at its deadline, may be the
/// machine's fault once. From the second in a row on it is followed by a rest, and each further one by
/// a longer rest: whatever a container makes the host read, it gets a small share of the host's time.
#[derive(Debug)]
pub(super) struct SweepBudget {
    budget: f64,
    earned: f64,
    filled: Option<Instant>,
    long_looks: u32,
    rested_at: Option<Instant>,
}

impl Default for SweepBudget {
    fn default() -> Self {
        Self {
            budget: Self::BURST,
            earned: Self::PER_MESSAGE,
            filled: None,
            long_looks: 0,
            rested_at: None,
        }
    }
}

impl SweepBudget {
    const BURST: f64 = 300.0;
    const PER_SECOND: f64 = 300.0;
    const UNEARNED: f64 = 4.0;

    /// How many looks can be earned in advance.
    const EARNED_MAX: f64 = 30.0;

    /// With fewer than this left, a session's looks come after all other work.
    const EARNED_LOW: f64 = 5.0;

    /// The processor's time that one look is worth. That of an honest outbox takes one or two
    /// milliseconds, and a slow machine has to be allowed several times as much.
    const LOOK: Duration = Duration::from_millis(5);

    /// How many looks a message is worth, in either direction: it is claimed, answered, delivered
    /// and recorded, and a commit may be announced more than once.
    const PER_MESSAGE: f64 = 10.0;

    /// A look of an honest outbox takes some milliseconds.
    const LONG: Duration = Duration::from_millis(500);

    /// No look takes longer by itself, for it has a deadline: beyond this the machine stood still.
    const STOOD_STILL: Duration = READ_PATIENCE.saturating_mul(2);

    /// How many times as long as the long look before it the first rest is.
    const REST: u32 = 4;

    const REST_MAX: Duration = Duration::from_secs(30);

    /// How long to wait before the sweep that is to begin at `now`.
    pub(super) fn pause(&mut self, now: Instant) -> Option<Duration> {
        let since = self.filled.map_or(Duration::ZERO, |filled| now - filled).as_secs_f64();
        self.filled = Some(now);
        let pay = |budget: f64, rate: f64, most: f64| (budget + since * rate).min(most) - 1.0;
        self.budget = pay(self.budget, Self::PER_SECOND, Self::BURST);
        self.earned = pay(self.earned, Self::UNEARNED, Self::EARNED_MAX);
        let debt = (-self.budget / Self::PER_SECOND).max(-self.earned / Self::UNEARNED);
        (debt > 0.0).then(|| Duration::from_secs_f64(debt))
    }

    /// Takes in how much of the processor's time a look took, or a change that followed from one.
    pub(super) fn pay(&mut self, processor: Duration) {
        let looks = processor.div_duration_f64(Self::LOOK);
        let most = Self::REST_MAX.as_secs_f64() * Self::UNEARNED;
        self.earned = (self.earned - looks).max(-most);
    }

    /// Whether the session has used up so much that others go before it.
    pub(super) fn comes_last(&self) -> bool {
        self.earned < Self::EARNED_LOW
    }

    /// So many messages came from a person or went to one.
    pub(super) fn earn(&mut self, messages: usize) {
        let messages = u16::try_from(messages).unwrap_or(u16::MAX);
        self.earned = (self.earned + f64::from(messages) * Self::PER_MESSAGE).min(Self::EARNED_MAX);
    }

    /// Takes in how long a look took that ended at `now`.
    pub(super) fn looked(&mut self, took: Duration, now: Instant) {
        if took < Self::LONG || took > Self::STOOD_STILL {
            self.wake();
            return;
        }
        if self.long_looks > 0 {
            let rest = Backoff { first: took * Self::REST, most: Self::REST_MAX };
            self.rested_at = Some(now + rest.after(i64::from(self.long_looks)));
        }
        self.long_looks += 1;
    }

    /// How much of a rest is left at `now`.
    pub(super) fn rest(&self, now: Instant) -> Option<Duration> {
        self.rested_at.map(|end| end - now).filter(|left| !left.is_zero())
    }

    /// Ends the rest: something was done about the outbox.
    pub(super) fn wake(&mut self) {
        self.long_looks = 0;
        self.rested_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many sweeps a session gets in ten seconds that wants as many as it can get.
    fn sweeps(mut between: impl FnMut(&mut SweepBudget)) -> u32 {
        let (mut sweep_budget, begin) = (SweepBudget::default(), Instant::now());
        let (mut now, mut sweeps) = (begin, 0);
        while now < begin + Duration::from_secs(10) {
            now += sweep_budget.pause(now).unwrap_or(Duration::from_millis(1));
            between(&mut sweep_budget);
            sweeps += 1;
        }
        sweeps
    }

    #[test]
    fn what_is_said_earns_looks_and_commits_for_nothing_do_not() {
        let idle = sweeps(|_| ());
        assert!((45..60).contains(&idle), "some at first and 4 in a second: {idle}");
        let mut count = 0;
        let busy = sweeps(|sweep_budget| {
            count += 1;
            sweep_budget.earn(usize::from(count % 5 == 0)); // a message for each five looks
        });
        let worker = sweeps(|sweep_budget| sweep_budget.pay(Duration::from_millis(40)));
        assert!((5..10).contains(&worker), "each counts as nine: {worker}");
        assert!((3000..3400).contains(&busy), "a burst and 300 in a second: {busy}");
    }

    #[test]
    fn whoever_takes_long_again_and_again_gets_ever_less_time() {
        let mut sweep_budget = SweepBudget::default();
        let mut now = Instant::now();
        sweep_budget.looked(Duration::from_millis(5), now);
        assert_eq!(sweep_budget.rest(now), None);
        let mut rests = Vec::new();
        for _ in 0..5 {
            sweep_budget.looked(Duration::from_secs(2), now);
            let rest = sweep_budget.rest(now).unwrap_or_default();
            rests.push(rest.as_secs());
            now += rest;
            assert_eq!(sweep_budget.rest(now), None);
        }
        assert_eq!(rests, [0, 8, 16, 30, 30], "the first may be the machine's fault");
        sweep_budget.looked(Duration::from_millis(5), now);
        sweep_budget.looked(Duration::from_secs(1), now);
        sweep_budget.looked(Duration::from_secs(1), now);
        assert_eq!(
            sweep_budget.rest(now),
            Some(Duration::from_secs(4)),
            "a quick look made it good"
        );
        sweep_budget.wake();
        assert_eq!(sweep_budget.rest(now), None);
    }

    #[test]
    fn a_machine_that_stood_still_puts_nothing_off() {
        let (mut sweep_budget, now) = (SweepBudget::default(), Instant::now());
        (0..3).for_each(|_| sweep_budget.looked(Duration::from_secs(16), now));
        assert_eq!(sweep_budget.rest(now), None);
    }
}
