//! Which runs may begin.

use twobox_host::schedule::overlap;

use super::{Deed, Oracle, Row, When};

impl Oracle {
    /// A start keeps to the cap and to the order, and what may start does.
    pub(super) fn check_start(&self, deed: &Deed, when: When) -> Result<(), String> {
        let running = self.runs().filter(|row| row.is("running")).count();
        match deed {
            Deed::Started { run, .. } => {
                let run = self.runs().find(|row| row.id == *run).ok_or("started out of nothing")?;
                let first = self.first_to_start(when.now);
                if running >= when.cap {
                    return Err(format!("{running} runs went on already: {run:?}"));
                }
                match first.is_some_and(|first| first.id == run.id) {
                    true => Ok(()),
                    false => Err(format!("it was not its turn: {run:?}, but {first:?}")),
                }
            }
            Deed::NotStarted if running < when.cap => match self.first_to_start(when.now) {
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

    fn first_to_start(&self, now: i64) -> Option<&Row> {
        self.runs()
            .filter(|row| row.is("queued") && row.due <= now && self.may_begin(&row.schedule))
            .min_by_key(|row| (row.due, &row.id))
    }

    /// Whether a run of a schedule may begin beside those that go on.
    fn may_begin(&self, schedule: &str) -> bool {
        let beside = |row: &Row| row.schedule == schedule && row.is("running");
        self.schedules[schedule].rule.overlap == overlap::Policy::Allow || !self.runs().any(beside)
    }
}
