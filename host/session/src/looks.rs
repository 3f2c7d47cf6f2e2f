//! When a session's task looks next, and what for: what a sweep leaves to the one after it.

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::signal::{Reason, Reasons};

/// What the task has still to look for. Reasons that were raised and not taken yet are in its signal.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    /// Reasons that no sweep has dealt with to its end; the next one does.
    owed: Reasons,
    /// When to look without being told.
    next: Option<Instant>,
    /// Whether there is something since the present sweep began that it may not have seen.
    overtaken: bool,
}

/// Who hears when a look is over that has shown all that there was when they came.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Vec<oneshot::Sender<()>>);

impl Waiting {
    /// `done` hears of the next look.
    pub(crate) fn add(&mut self, done: oneshot::Sender<()>) {
        self.0.push(done);
    }

    /// A sweep has come to its end, that began after all these came. One of a session in `quarantine` does not look.
    pub(crate) fn tell_unless(&mut self, quarantine: bool) {
        if quarantine {
            return self.wait_on();
        }
        for done in self.0.drain(..) {
            done.send(()).ok(); // they may have given up
        }
    }

    /// A sweep did not: they wait for another, unless they have given up.
    pub(crate) fn wait_on(&mut self) {
        self.0.retain(|done| !done.is_closed());
    }
}

impl Looks {
    /// A sweep begins, which sees everything. Returns what it has to look for: what was `raised`, and what
    /// is owed.
    pub(crate) fn begin(&mut self, raised: Reasons) -> Reasons {
        let Self { owed, .. } = std::mem::take(self);
        raised.and(owed)
    }

    /// The sweep for `reasons` did not come to its end.
    pub(crate) fn broke_off(&mut self, reasons: Reasons) {
        self.owed = self.owed.and(reasons);
    }

    /// The next sweep has to look for this, whoever wants it.
    pub(crate) fn owe(&mut self, reason: Reason) {
        self.owed = self.owed.with(reason);
    }

    /// There is something that the present sweep may not have seen: it may not clear the mark.
    pub(crate) fn overtake(&mut self) {
        self.overtaken = true;
    }

    /// Whether there is.
    pub(crate) fn is_overtaken(&self) -> bool {
        self.overtaken
    }

    /// Look at `when`, or earlier if something else wants that.
    pub(crate) fn at(&mut self, when: Instant) {
        self.next = Some(self.next.map_or(when, |other| other.min(when)));
    }

    /// When to look without being told.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// No time is set any more: it has come, or what it was for is over.
    pub(crate) fn forget_time(&mut self) {
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn runtime() -> Reasons {
        Reasons::default().with(Reason::Runtime)
    }

    #[test]
    fn who_waits_for_a_look_hears_of_none_that_broke_off_or_saw_nothing() {
        let mut waiting = Waiting::default();
        let (done, mut hears) = oneshot::channel();
        let (of_another, gave_up) = oneshot::channel();
        waiting.add(done);
        waiting.add(of_another);
        drop(gave_up);
        waiting.wait_on();
        waiting.tell_unless(true);
        assert_eq!(hears.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        assert_eq!(waiting.0.len(), 1, "nobody is kept who waits no more");
        waiting.tell_unless(false);
        assert_eq!((hears.try_recv(), waiting.0.len()), (Ok(()), 0));
    }

    #[test]
    fn a_sweep_begins_with_all_that_is_owed_and_leaves_what_came_after_it() {
        let due = Reasons::default().with(Reason::Due);
        type Before = fn(&mut Looks);
        let cases: [(&str, Before, Reasons); 4] = [
            ("nothing", |_| {}, due),
            ("broken off", |looks| looks.broke_off(runtime()), due.and(runtime())),
            ("owed meanwhile", |looks| looks.owe(Reason::Runtime), due.and(runtime())),
            ("overtaken", Looks::overtake, due),
        ];
        for (case, before, expected) in cases {
            let mut looks = Looks::default();
            before(&mut looks);
            looks.at(Instant::now());
            assert_eq!(looks.begin(due), expected, "{case}");
            assert_eq!(looks.begin(due), due, "{case}: once");
            assert_eq!((looks.next(), looks.is_overtaken()), (None, false), "{case}");
        }
    }

    #[test]
    fn of_two_times_the_earlier_counts_until_it_has_come() {
        let (mut looks, now) = (Looks::default(), Instant::now());
        for after in [5, 2, 9] {
            looks.at(now + Duration::from_secs(after));
        }
        assert_eq!(looks.next(), Some(now + Duration::from_secs(2)));
        looks.forget_time();
        assert_eq!(looks.next(), None);
    }
}
