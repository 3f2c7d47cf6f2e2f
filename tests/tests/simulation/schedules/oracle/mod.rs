//! The verdict on schedules: what was done, what is stored after it, and whether the one may come from
//! the other. It reads `host.db` with statements of its own, reckons slots by itself ([`super::grid`])
//! and takes nobody's word for what changed.

mod claim;
mod costs;
mod kept;
mod rows;
mod starts;

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

pub(super) use self::kept::{Kept, Rule};
use self::rows::Change;
pub(super) use self::rows::Row;
use super::store::Touched;

/// While somebody chats, a firing is put off by this much, in milliseconds,
const CHAT_PAUSE: i64 = 30_000;

/// but never for longer than this in all.
const CHAT_PAUSE_MAX: i64 = 600_000;

/// What was done in a step, whether its doer knows or not.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    Nothing,
    Added {
        schedule: String,
        rule: Rule,
    },
    Edited {
        schedule: String,
        rule: Rule,
    },
    Paused {
        schedule: String,
    },
    Resumed {
        schedule: String,
    },
    Removed {
        schedule: String,
    },
    /// `now` and `chats` are what the decision went by.
    PutOff {
        schedule: String,
        until: i64,
        now: i64,
        chats: usize,
    },
    /// `now` is the time that the decision went by.
    Claimed {
        schedule: String,
        now: i64,
    },
    Started {
        run: String,
        owner: String,
    },
    /// Nothing could be started.
    NotStarted,
    Executed {
        schedule: String,
        run: String,
        owner: String,
        forced: bool,
    },
    Backfilled {
        schedule: String,
    },
    Advanced {
        run: String,
        owner: String,
    },
    TookOver {
        run: String,
        from: String,
        to: String,
    },
    Cancelled {
        run: String,
    },
    Finished {
        run: String,
        owner: String,
    },
    Pruned {
        before: i64,
    },
}

impl Deed {
    /// Whether a run must be another one after it.
    fn moves_a_run(&self) -> bool {
        matches!(
            self,
            Self::Started { .. }
                | Self::Executed { .. }
                | Self::Advanced { .. }
                | Self::TookOver { .. }
                | Self::Cancelled { .. }
                | Self::Finished { .. }
        )
    }
}

/// When it was done, and how many runs may go on at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct When {
    pub(super) now: i64,
    pub(super) cap: usize,
}

#[derive(Default)]
pub(super) struct Oracle {
    pub(super) schedules: BTreeMap<String, Kept>,
    /// By their numbers in the table.
    rows: BTreeMap<i64, Row>,
    /// Whose costs are recorded, by their numbers in the table.
    metrics: BTreeMap<i64, String>,
}

impl Oracle {
    pub(super) fn runs(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// Judges a step.
    pub(super) fn see(
        &mut self,
        db: &Connection,
        touched: &BTreeSet<Touched>,
        deed: &Deed,
        when: When,
    ) -> Result<(), String> {
        let of = |wanted: &'static str| {
            touched.iter().filter(move |(table, _)| table == wanted).map(|(_, number)| *number)
        };
        self.check_start(deed, when)?;
        let mut changes = Vec::new();
        for number in of("runs") {
            let old = self.rows.remove(&number);
            let new = Row::read(db, number).map_err(|error| error.to_string())?;
            if let Some(new) = &new {
                self.rows.insert(number, new.clone());
            }
            changes.push(Change { old, new });
        }
        if let Some(wrong) = changes.iter().find(|change| !change.is_permitted(deed)) {
            return Err(format!("may not be: {wrong:#?}"));
        }
        changes.retain(|change| change.old != change.new);
        if changes.is_empty() && deed.moves_a_run() {
            return Err("no run was moved by it".to_owned());
        }
        self.apply(deed, &changes, when)?;
        self.check_metrics(db, of("run_metrics"), deed)?;
        self.check_audit(db, of("audit"), deed)?;
        self.check_schedules(db, deed)?;
        self.check_queued()
    }

    /// What follows for the schedules.
    fn apply(&mut self, deed: &Deed, changes: &[Change], when: When) -> Result<(), String> {
        let now = when.now;
        match deed {
            Deed::Added { schedule, rule } => {
                drop(self.schedules.insert(schedule.clone(), Kept::new(rule.clone(), now)));
            }
            Deed::Edited { schedule, rule } => {
                if self.kept(schedule).gets_other_slots(rule) {
                    self.leave_out(schedule, changes, now)?;
                } else if changes.iter().any(|change| change.old.is_none()) {
                    return Err("its slots stayed, and yet one was left out".to_owned());
                }
                self.kept(schedule).edit(rule.clone(), now);
            }
            Deed::Paused { schedule } => {
                self.leave_out(schedule, changes, now)?;
                self.kept(schedule).pause();
            }
            Deed::Resumed { schedule } => self.kept(schedule).resume(now),
            Deed::Removed { schedule } => {
                let kept = self.kept(schedule);
                kept.pause();
                kept.removed = true;
            }
            Deed::Claimed { schedule, now } => return self.claim(schedule, changes, *now),
            Deed::Backfilled { schedule } => return self.backfill(schedule, changes, now),
            Deed::Finished { run, .. } => {
                let run = self.runs().find(|row| row.id == *run).cloned().ok_or("which run?")?;
                if run.is_open() {
                    return Err(format!("it did not end: {run:?}"));
                }
                self.kept(&run.schedule).count_end(&run);
            }
            Deed::Pruned { .. } => {
                for old in changes.iter().filter_map(|change| change.old.as_ref()) {
                    let slot = old.slot;
                    let kept = self.kept(&old.schedule);
                    slot.map(|slot| kept.covered.remove(&slot));
                }
            }
            Deed::PutOff { schedule, until, now, chats } => {
                let kept = self.kept(schedule);
                let slot = kept.next.ok_or("it has no slot that could be put off")?;
                let end = slot + kept.rule.jitter_ms + CHAT_PAUSE_MAX;
                if *chats == 0 || *until != (now + CHAT_PAUSE).min(end) || *now >= end {
                    return Err(format!("slot {slot} is put off at {now} for {chats} chats"));
                }
            }
            Deed::Nothing
            | Deed::Started { .. }
            | Deed::NotStarted
            | Deed::Executed { .. }
            | Deed::Advanced { .. }
            | Deed::TookOver { .. }
            | Deed::Cancelled { .. } => {}
        }
        Ok(())
    }

    fn kept(&mut self, schedule: &str) -> &mut Kept {
        self.schedules.get_mut(schedule).expect("the simulation added it")
    }

    /// Slots that have come are not forgotten by a change that takes them away.
    fn leave_out(&mut self, schedule: &str, changes: &[Change], now: i64) -> Result<(), String> {
        let made = changes.iter().filter(|change| change.old.is_none());
        let made: Vec<&Row> = made.filter_map(|change| change.new.as_ref()).collect();
        claim::leave_out(self.kept(schedule), &made, now)
    }

    fn claim(&mut self, schedule: &str, changes: &[Change], now: i64) -> Result<(), String> {
        let made = changes.iter().filter(|change| change.old.is_none());
        let made: Vec<&Row> = made.filter_map(|change| change.new.as_ref()).collect();
        let is_new = |row: &Row| made.iter().any(|made| made.id == row.id);
        // Those that the claim cancelled were open before it.
        let let_go = |row: &Row| {
            changes.iter().any(|change| {
                change.old.as_ref().is_some_and(|old| old.id == row.id && old.is_open())
            })
        };
        let before: Vec<Row> = self
            .runs()
            .filter(|row| row.schedule == schedule && !is_new(row))
            .filter(|row| row.is_open() || let_go(row))
            .cloned()
            .collect();
        let before: Vec<&Row> = before.iter().collect();
        claim::judge(self.kept(schedule), &made, &before, now)
    }

    fn backfill(&mut self, schedule: &str, changes: &[Change], now: i64) -> Result<(), String> {
        let kept = self.kept(schedule);
        for change in changes.iter().filter(|change| change.old.is_none()) {
            let slot = change.new.as_ref().and_then(|row| row.slot).expect("a slot of the past");
            if slot > now || kept.rule.grid.between(slot, slot).is_empty() {
                return Err(format!("there was no such slot: {change:?}"));
            }
            kept.covered.insert(slot, slot);
        }
        let spans =
            |change: &Change| Some((change.old.as_ref()?.span()?, change.new.as_ref()?.span()?));
        for (old, new) in changes.iter().filter_map(spans).filter(|(old, new)| old != new) {
            if !kept.covered.contains_key(&old.0) {
                return Err(format!("nothing stood for slot {}", old.0));
            }
            kept.covered.insert(new.0, new.1);
        }
        Ok(())
    }

    /// The schedules are what follows from what was done, and nothing else.
    fn check_schedules(&mut self, db: &Connection, deed: &Deed) -> Result<(), String> {
        type Stored = (String, bool, bool, i64, Option<i64>, Option<i64>, i64, i64);
        let select = "SELECT id, enabled, removed_at_ms IS NOT NULL, fired, next_slot_ms,
                             next_due_ms, breach_streak, failure_streak
                      FROM schedules ORDER BY id";
        let stored: Vec<Stored> = db
            .prepare_cached(select)
            .and_then(|mut select| {
                let rows = select.query_map([], |row| row.try_into())?;
                rows.collect()
            })
            .map_err(|error| error.to_string())?;
        if stored.len() != self.schedules.len() {
            return Err(format!("there are {} schedules", stored.len()));
        }
        for (id, enabled, removed, fired, next, due, breaches, failures) in stored {
            let kept = self.schedules.get_mut(&id).ok_or("nobody added it")?;
            let found = (enabled, removed, fired, next, breaches, failures);
            let expected =
                (kept.enabled, kept.removed, kept.fired, kept.next, kept.breaches, kept.failures);
            if found != expected {
                return Err(format!("schedule {id} is {found:?}, and has to be {expected:?}"));
            }
            let is_free = match deed {
                Deed::Added { schedule, .. }
                | Deed::Edited { schedule, .. }
                | Deed::Resumed { schedule }
                | Deed::Claimed { schedule, .. } => *schedule == id,
                _ => false,
            };
            let may_be = |slot: i64, due: i64| match deed {
                Deed::PutOff { schedule, until, .. } if *schedule == id => due == *until,
                _ if Some(due) == kept.due => true,
                _ => is_free && (slot..=slot + kept.rule.jitter_ms).contains(&due),
            };
            if !next.zip(due).is_none_or(|(slot, due)| may_be(slot, due)) {
                return Err(format!("schedule {id} is due at {due:?}, and was at {:?}", kept.due));
            }
            kept.due = due;
        }
        Ok(())
    }

    /// Nothing that a cadence made waits of a schedule that is paused, and nothing of one that is gone.
    fn check_queued(&self) -> Result<(), String> {
        let wrong = |row: &&Row| {
            let kept = &self.schedules[&row.schedule];
            row.is("queued") && (kept.removed || (!kept.enabled && row.is_scheduled()))
        };
        match self.runs().find(wrong) {
            Some(row) => Err(format!("its schedule is paused or gone: {row:?}")),
            None => Ok(()),
        }
    }

    /// Whether nothing is left to be done at `now`.
    pub(super) fn is_at_rest(&self, now: i64) -> bool {
        let waits = |row: &Row| row.is("queued") && row.due > now;
        self.runs().filter(|row| row.is_open()).all(waits)
            && self.schedules.values().all(|kept| kept.due.is_none_or(|due| due > now))
    }
}
