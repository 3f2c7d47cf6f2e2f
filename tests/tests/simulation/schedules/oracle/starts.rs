//! Which runs may begin.

use twobox_slots::overlap;

use super::{Deed, Oracle, Row, When};

impl Oracle {
    /// A start keeps to the cap and to the order, and what may start does.
    pub(super) fn check_start(&self, deed: &Deed, when: When) -> Result<(), String> {
        let running = self.runs().filter(|row| row.is("running")).count();
        match deed {
            Deed::Started { run, .. } => {
                let run = self.runs().find(|row| row.id == *run).ok_or("started out of nothing")?;
                let first = self.first_to_start(when);
                if running >= when.cap {
                    return Err(format!("{running} runs went on already: {run:?}"));
                }
                match first.is_some_and(|first| first.id == run.id) {
                    true => Ok(()),
                    false => Err(format!("it was not its turn: {run:?}, but {first:?}")),
                }
            }
            Deed::NotStarted if running < when.cap => match self.first_to_start(when) {
                None => Ok(()),
                Some(run) => Err(format!("it could have been started: {run:?}")),
            },
            Deed::Executed { schedule, forced, .. } => {
                if running >= when.cap && !forced {
                    return Err(format!("{running} runs went on already"));
                }
                match self.may_begin(schedule) {
                    true => Ok(()),
                    false => Err("another run of it went on already".to_owned()),
                }
            }
            _ => Ok(()),
        }
    }

    /// What is due now before what makes up for the past, which leaves a place free; of several schedules
    /// the one of which fewer go on, and of those that make up the one that waits for longest.
    fn first_to_start(&self, when: When) -> Option<&Row> {
        let running = |row: &&Row| row.is("running");
        let made_up = self.runs().filter(running).filter(|row| row.is_made_up()).count();
        let has_place = made_up < when.cap.saturating_sub(1).max(1);
        let may = |row: &&Row| {
            row.is("queued")
                && row.due <= when.now
                && self.may_begin(&row.schedule)
                && (has_place || !row.is_made_up())
        };
        self.runs().filter(may).min_by_key(|row| {
            let of_it = |other: &&Row| other.schedule == row.schedule;
            let last = self.runs().filter(of_it).filter_map(|other| other.started).max();
            let rests = last.filter(|_| row.is_made_up());
            let going_on = self.runs().filter(running).filter(of_it).count();
            (row.is_made_up(), going_on, rests, row.due, &row.id)
        })
    }

    /// Whether a run of a schedule may begin beside those that go on.
    fn may_begin(&self, schedule: &str) -> bool {
        let rule = &self.schedules[schedule].rule;
        let beside = |row: &Row| row.schedule == schedule && row.is("running");
        let at_home =
            |row: &Row| row.is("running") && self.schedules[&row.schedule].rule.is_at_home;
        (rule.overlap == overlap::Policy::Allow || !self.runs().any(beside))
            && !(rule.is_at_home && self.runs().any(at_home))
    }
}
