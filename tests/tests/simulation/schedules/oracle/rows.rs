//! Runs as they are stored, read by a statement of the oracle's own, and what may become of each.

use rusqlite::{Connection, OptionalExtension};

use super::Deed;

/// A row of `runs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) schedule: String,
    pub(crate) slot: Option<i64>,
    pub(super) due: i64,
    pub(super) trigger: String,
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(super) phase: Option<String>,
    pub(crate) owner: Option<String>,
    pub(super) lease: Option<i64>,
    pub(super) count: i64,
    pub(super) last: Option<i64>,
    pub(crate) message: Option<String>,
    pub(super) started: Option<i64>,
    pub(super) ended: Option<i64>,
    pub(super) cancel: Option<i64>,
    created: i64,
}

impl Row {
    pub(super) fn read(db: &Connection, number: i64) -> rusqlite::Result<Option<Self>> {
        db.prepare_cached(
            "SELECT id, schedule_id, slot_ms, due_ms, trigger, status, reason, phase, owner,
                    lease_until_ms, slot_count, last_slot_ms, message_id, started_at_ms,
                    ended_at_ms, cancel_requested_at_ms, created_at_ms
             FROM runs WHERE rowid = ?1",
        )?
        .query_row([number], |row| {
            Ok(Self {
                id: row.get(0)?,
                schedule: row.get(1)?,
                slot: row.get(2)?,
                due: row.get(3)?,
                trigger: row.get(4)?,
                status: row.get(5)?,
                reason: row.get(6)?,
                phase: row.get(7)?,
                owner: row.get(8)?,
                lease: row.get(9)?,
                count: row.get(10)?,
                last: row.get(11)?,
                message: row.get(12)?,
                started: row.get(13)?,
                ended: row.get(14)?,
                cancel: row.get(15)?,
                created: row.get(16)?,
            })
        })
        .optional()
    }

    pub(crate) fn is(&self, status: &str) -> bool {
        self.status == status
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is("queued") || self.is("running")
    }

    /// Whether a cadence made it.
    pub(super) fn is_scheduled(&self) -> bool {
        self.trigger == "scheduled"
    }

    /// Whether it makes up for a slot of the past.
    pub(super) fn is_made_up(&self) -> bool {
        let late = self.created - self.due > 11 * 60 * 1000;
        self.trigger == "backfill" || (self.is_scheduled() && late)
    }

    /// The slots that it stands for, from the first to the last.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        self.slot.map(|slot| (slot, self.last.unwrap_or(slot)))
    }
}

/// A row before a step and after it.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) old: Option<Row>,
    pub(super) new: Option<Row>,
}

impl Change {
    /// Whether what was done may do this to a row. Everything that is not said here may not be: an
    /// ended run, for one, changes only when a backfill runs a slot that had been left out.
    pub(super) fn is_permitted(&self, deed: &Deed) -> bool {
        match (&self.old, &self.new) {
            (None, Some(new)) => may_appear(new, deed),
            (Some(old), None) => {
                matches!(deed, Deed::Pruned { before } if old.ended.is_some_and(|at| at < *before))
            }
            (Some(old), Some(new)) => old == new || may_become(old, new, deed),
            (None, None) => true,
        }
    }
}

fn may_appear(new: &Row, deed: &Deed) -> bool {
    let left_out = new.is("skipped") || new.is("missed");
    match (new.trigger.as_str(), deed) {
        ("scheduled", Deed::Claimed { schedule, .. }) => {
            new.schedule == *schedule && (new.is("queued") || left_out)
        }
        ("scheduled", Deed::Edited { schedule, .. }) => {
            new.schedule == *schedule && new.is("missed") && new.reason.as_deref() == Some("edited")
        }
        ("scheduled", Deed::Paused { schedule }) => {
            new.schedule == *schedule && new.is("missed") && new.reason.as_deref() == Some("paused")
        }
        ("manual", Deed::Executed { run, owner, .. }) => {
            new.id == *run && new.is("running") && new.owner.as_ref() == Some(owner)
        }
        ("backfill", Deed::Backfilled { schedule }) => {
            new.schedule == *schedule && new.is("queued")
        }
        _ => false,
    }
}

/// Whether `new` stands for the last of the slots that `old` stood for: the others have runs of their
/// own, and the very last may have one in this row.
fn is_rest(old: &Row, new: &Row) -> bool {
    let Some(((from, to), (first, last))) = old.span().zip(new.span()) else { return false };
    let same = (&old.id, &old.schedule, to) == (&new.id, &new.schedule, last);
    let still_missed = new.is("missed") && new.reason == old.reason && new.count < old.count;
    let runs = new.is("queued") && new.trigger == "backfill" && new.count == 1 && first == last;
    same && from < first && (still_missed || runs)
}

fn may_become(old: &Row, new: &Row, deed: &Deed) -> bool {
    if old.is("missed") && old.count > 1 && matches!(deed, Deed::Backfilled { .. }) {
        return is_rest(old, new);
    }
    let identity = |row: &Row| (row.id.clone(), row.schedule.clone(), row.slot, row.span());
    if identity(old) != identity(new) {
        return false;
    }
    let same_hold = (&old.message, old.started) == (&new.message, new.started);
    let same_owner = old.owner == new.owner;
    match (old.status.as_str(), new.status.as_str()) {
        ("skipped" | "missed", "queued") => {
            matches!(deed, Deed::Backfilled { .. }) && old.count == 1 && new.trigger == "backfill"
        }
        ("cancelled", "queued") => {
            matches!(deed, Deed::Backfilled { .. })
                && old.started.is_none()
                && new.trigger == "backfill"
        }
        ("queued", "running") => {
            matches!(deed, Deed::Started { run, owner }
                if *run == new.id && new.owner.as_ref() == Some(owner))
        }
        ("queued", "cancelled") => match (deed, new.reason.as_deref()) {
            (Deed::Claimed { .. }, Some("replaced")) => true,
            (Deed::Removed { schedule }, Some("removed")) => old.schedule == *schedule,
            (Deed::Paused { schedule }, Some("paused")) => {
                old.schedule == *schedule && old.trigger != "manual"
            }
            // The end of another run of the schedule may pause it.
            (Deed::Finished { run, .. }, Some("paused")) => {
                old.id != *run && old.trigger != "manual"
            }
            (Deed::Cancelled { run }, Some("aborted")) => old.id == *run,
            _ => false,
        },
        ("running", "running") => match deed {
            Deed::TookOver { run, from, to } => {
                let owners = (old.owner.as_ref(), new.owner.as_ref());
                *run == old.id && owners == (Some(from), Some(to)) && old.lease == new.lease
            }
            Deed::Advanced { run, owner } => {
                *run == old.id
                    && same_owner
                    && same_hold
                    && old.owner.as_ref() == Some(owner)
                    && old.phase != new.phase
            }
            Deed::Cancelled { run } => *run == old.id && old.cancel.is_none() && same_owner,
            Deed::Claimed { .. } => old.cancel.is_none() && new.cancel.is_some() && same_owner,
            _ => false,
        },
        ("running", "completed" | "failed" | "cancelled") => {
            matches!(deed, Deed::Finished { run, owner }
                if *run == old.id && same_owner && same_hold && old.owner.as_ref() == Some(owner))
        }
        _ => false,
    }
}
