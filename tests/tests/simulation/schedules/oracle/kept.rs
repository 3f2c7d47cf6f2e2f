//! What is known of a schedule: what people said about it, and what follows from what was done.

use std::collections::BTreeMap;

use twobox_slots::{missed, overlap};

use super::rows::Row;
use crate::schedules::grid::Grid;

/// So many breaches of the turn budget, and so many other failures, in a row pause a schedule.
const BREACHES: i64 = 5;
const FAILURES: i64 = 3;

/// What people said about a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) grid: Grid,
    pub(crate) missed: missed::Policy,
    pub(crate) window_ms: i64,
    pub(crate) overlap: overlap::Policy,
    /// Whether its runs are part of the conversation that several have.
    pub(crate) is_at_home: bool,
    pub(crate) jitter_ms: i64,
    pub(crate) max_runs: Option<i64>,
    pub(crate) max_turns: Option<i64>,
    /// When `max_turns` was edited last.
    pub(crate) turns_edited: Option<i64>,
}

/// A schedule as it has to be.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) rule: Rule,
    pub(crate) enabled: bool,
    pub(crate) removed: bool,
    /// How many of its slots made a run.
    pub(crate) fired: i64,
    /// The slot that comes next.
    pub(crate) next: Option<i64>,
    /// When somebody has to look, as it is stored.
    pub(super) due: Option<i64>,
    pub(super) breaches: i64,
    pub(super) failures: i64,
    /// The slots that rows stand for: from the first of each to its last.
    pub(super) covered: BTreeMap<i64, i64>,
}

impl Kept {
    pub(super) fn new(rule: Rule, now: i64) -> Self {
        let next = rule.grid.after(now);
        Self {
            rule,
            enabled: true,
            removed: false,
            fired: 0,
            next,
            due: None,
            breaches: 0,
            failures: 0,
            covered: BTreeMap::new(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.rule.max_runs.is_some_and(|most| self.fired >= most)
    }

    /// The next slot is reckoned from `now` on, if there may be one.
    pub(super) fn reckon_from(&mut self, now: i64) {
        let goes_on = self.enabled && !self.is_over();
        self.next = goes_on.then(|| self.rule.grid.after(now)).flatten();
        // The clock was set back: what a row said of slots that come once more counts no more, but each
        // that has a row keeps it.
        if let Some(next) = self.next {
            let earlier = self.covered.range_mut(..next).filter(|(_, last)| **last >= next);
            earlier.for_each(|(_, last)| *last = next - 1);
        }
    }

    pub(super) fn gets_other_slots(&self, rule: &Rule) -> bool {
        rule.grid != self.rule.grid
    }

    pub(super) fn edit(&mut self, rule: Rule, now: i64) {
        let has_new_slots = self.gets_other_slots(&rule);
        self.rule = rule;
        if has_new_slots || self.next.is_none() || self.is_over() {
            self.reckon_from(now);
        }
    }

    pub(super) fn pause(&mut self) {
        (self.enabled, self.next) = (false, None);
    }

    pub(super) fn resume(&mut self, now: i64) {
        (self.enabled, self.breaches, self.failures) = (true, 0, 0);
        self.reckon_from(now);
    }

    /// A run of it ended.
    pub(super) fn count_end(&mut self, run: &Row) {
        match (run.status.as_str(), run.reason.as_deref()) {
            _ if run.trigger == "manual" => {} // somebody watches it
            ("completed", _) => (self.breaches, self.failures) = (0, 0),
            ("failed", Some("turn_limit_exceeded")) if self.in_grace(run) => {}
            ("failed", Some("turn_limit_exceeded")) => {
                self.breaches += 1;
                if self.breaches >= BREACHES {
                    self.pause();
                }
            }
            ("failed", Some("interrupted")) | ("cancelled", _) => {}
            _ => {
                self.failures += 1;
                if self.failures >= FAILURES {
                    self.pause();
                }
            }
        }
    }

    /// Before the third slot after an edit of `max_turns`, breaches do not count.
    fn in_grace(&self, run: &Row) -> bool {
        let Some(edited) = self.rule.turns_edited else { return false };
        let mut third = Some(edited);
        for _ in 0..3 {
            third = third.and_then(|slot| self.rule.grid.after(slot));
        }
        let fired = run.slot.or(run.started).expect("an ended run has started");
        third.is_none_or(|third| fired < third)
    }

    /// Whether a row stands for this slot.
    pub(super) fn covers(&self, slot: i64) -> bool {
        self.overlaps(slot, slot)
    }

    /// Whether a row stands for a slot between these.
    pub(super) fn overlaps(&self, first: i64, last: i64) -> bool {
        self.covered.iter().any(|(from, to)| *from <= last && *to >= first)
    }
}
