//! Claiming slots: what a cadence makes, at most once for each slot.

use std::collections::HashSet;

use rusqlite::{Connection, TransactionBehavior, named_params};
use twobox_shared::ids::{RunId, ScheduleId};
use twobox_shared::time::UnixMillis;

use super::changes::exactly_one;
use super::definitions::{Next, Schedule, by_id};
use super::life::cancel_in;
use super::words::Status;
use crate::{Operation, Schedules};
use twobox_slots::Slot;
use twobox_slots::reason::Reason;

/// A slot, and what was decided about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRow {
    /// The id of its row.
    pub id: RunId,
    /// Its nominal time.
    pub slot: UnixMillis,
    /// The same with its jitter: from then on it may start.
    pub due: UnixMillis,
    /// What becomes of it.
    pub fate: SlotFate,
}

/// What becomes of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotFate {
    /// It makes a run, which waits for its turn.
    Run,
    /// It is left out.
    Skipped(Reason),
    /// It was missed, perhaps with others that follow it.
    Missed {
        /// Why it is not run.
        reason: Reason,
        /// How many slots this stands for.
        count: i64,
        /// The last of them.
        last_slot: UnixMillis,
    },
}

/// Everything that was decided about a schedule whose slot came, and what it was decided on.
#[derive(Debug, Clone)]
pub struct SlotClaim {
    /// The schedule.
    pub schedule: ScheduleId,
    /// Its revision, as it was read.
    pub revision: i64,
    /// Its next slot, as it was read.
    pub slot: UnixMillis,
    /// Its runs that were not ended, as they were read.
    pub open: Vec<RunId>,
    /// What to store, the oldest slot first.
    pub rows: Vec<SlotRow>,
    /// Runs that the new one takes the place of: they are cancelled.
    pub replaces: Vec<RunId>,
    /// The slot that comes next, later than `slot`; `None` if there is none.
    pub next: Option<Next>,
    /// The time.
    pub now: UnixMillis,
}

/// What came of a claim. Only [`Claimed::Done`] changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// All rows are stored, and the schedule has moved on.
    Done {
        /// Slots whose row was not stored, because they have one: a backfill ran them ahead of time.
        already: Vec<UnixMillis>,
    },
    /// Another host claimed the slot.
    Taken,
    /// The schedule, which of its runs are open, or which of its missed slots have a row is not what it
    /// was: read and decide again.
    Changed,
    /// A run would lie outside of the schedule's bounds, or be one too many: decide again.
    OutOfBounds,
    /// It is paused.
    Disabled,
    /// There is no such schedule, or it was removed.
    Gone,
}

impl Schedules<'_> {
    /// Claims the next slot of a schedule: stores what was decided about it and the slots after it, and
    /// moves the schedule on, in one transaction that checks again what the decision was based on.
    ///
    /// Runs are stored as queued; prompt and limits are those that the schedule has now.
    ///
    /// # Errors
    /// [`DbError::Sqlite`](crate::DbError::Sqlite); [`DbError::is_busy`](crate::DbError::is_busy) if
    /// somebody else held the write lock for too long.
    pub fn claim_slot(&self, claim: SlotClaim) -> Operation<Claimed> {
        self.0.operation("claim a slot", move |db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let claimed = claim_in(&tx, &claim)?;
            if let Claimed::Done { .. } = claimed {
                tx.commit()?;
            }
            Ok(claimed)
        })
    }

    /// The slots from `from` to `to` that have a row, each from the first to the last that it stands for,
    /// oldest first.
    pub fn taken(
        &self,
        schedule: ScheduleId,
        from: UnixMillis,
        to: UnixMillis,
    ) -> Operation<Vec<(Slot, Slot)>> {
        self.0.operation("list slots that have a row", move |db| taken_in(db, schedule, from, to))
    }

    /// Lets the next slot of a schedule wait until `until`, because chat comes first. The slot stays
    /// what it is. Returns whether it still stood there, under that revision, and was due earlier.
    pub fn put_off(
        &self,
        schedule: ScheduleId,
        revision: i64,
        slot: UnixMillis,
        until: UnixMillis,
    ) -> Operation<bool> {
        self.0.operation("put a slot off", move |db| {
            let params = named_params! {
                ":id": schedule, ":revision": revision, ":slot": slot, ":until": until,
            };
            db.execute(PUT_OFF, params).map(|changed| changed == 1)
        })
    }
}

const PUT_OFF: &str = "
    UPDATE schedules SET next_due_ms = :until
    WHERE id = :id AND revision = :revision AND next_slot_ms = :slot AND enabled = 1
      AND next_due_ms < :until";

/// The same inside a transaction, which must not be committed unless it is done.
pub(super) fn claim_in(tx: &Connection, claim: &SlotClaim) -> rusqlite::Result<Claimed> {
    if let Some(refusal) = refusal(tx, claim)? {
        return Ok(refusal);
    }
    let mut already = Vec::new();
    let mut fired: i64 = 0;
    for row in &claim.rows {
        if stands_for_taken(tx, claim.schedule, row)? {
            return Ok(Claimed::Changed);
        }
        match insert(tx, claim, row)? {
            // The slot is ours, as the schedule still stands at it. Whoever ran it did so without
            // moving the schedule on.
            0 => already.push(row.slot),
            _ => fired += i64::from(row.fate == SlotFate::Run),
        }
    }
    for &run in &claim.replaces {
        cancel_in(tx, run, Reason::Replaced, claim.now)?;
    }
    move_on(tx, claim, fired)?;
    Ok(Claimed::Done { already })
}

/// As `runs::OPEN`, by the index of those that are open.
pub(super) const OPEN_IDS: &str = "SELECT id FROM runs INDEXED BY runs_open
    WHERE schedule_id = :schedule AND ended_at_ms IS NULL";

/// Why the claim cannot be carried out, if it cannot.
fn refusal(tx: &Connection, claim: &SlotClaim) -> rusqlite::Result<Option<Claimed>> {
    let Some(schedule) = by_id(tx, claim.schedule)? else { return Ok(Some(Claimed::Gone)) };
    if schedule.removed_at.is_some() {
        return Ok(Some(Claimed::Gone));
    }
    if schedule.pause_reason.is_some() {
        return Ok(Some(Claimed::Disabled));
    }
    if schedule.revision != claim.revision {
        return Ok(Some(Claimed::Changed));
    }
    if schedule.next.map(|next| next.slot) != Some(claim.slot) {
        return Ok(Some(Claimed::Taken));
    }
    let open: HashSet<RunId> = tx
        .prepare_cached(OPEN_IDS)?
        .query_map(named_params! { ":schedule": claim.schedule }, |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    if open != claim.open.iter().copied().collect() {
        return Ok(Some(Claimed::Changed));
    }
    Ok((!in_bounds(&schedule, &claim.rows)).then_some(Claimed::OutOfBounds))
}

fn in_bounds(schedule: &Schedule, rows: &[SlotRow]) -> bool {
    let definition = &schedule.definition;
    let runs = || rows.iter().filter(|row| row.fate == SlotFate::Run);
    let fired = schedule.fired + i64::try_from(runs().count()).unwrap_or(i64::MAX);
    definition.max_runs.is_none_or(|most| fired <= most)
        && runs().all(|row| {
            definition.not_before.is_none_or(|first| first <= row.slot)
                && definition.not_after.is_none_or(|last| row.slot <= last)
        })
}

pub(super) const TAKEN: &str = "
    SELECT slot_ms, coalesce(last_slot_ms, slot_ms) FROM runs
    WHERE schedule_id = :schedule AND slot_ms BETWEEN :from AND :to ORDER BY slot_ms";

fn taken_in(
    db: &Connection,
    schedule: ScheduleId,
    from: UnixMillis,
    to: UnixMillis,
) -> rusqlite::Result<Vec<(Slot, Slot)>> {
    let params = named_params! { ":schedule": schedule, ":from": from, ":to": to };
    db.prepare_cached(TAKEN)?
        .query_map(params, |row| Ok((Slot(row.get(0)?), Slot(row.get(1)?))))?
        .collect()
}

/// Whether a row for several missed slots would stand for one that has a row of its own.
fn stands_for_taken(
    tx: &Connection,
    schedule: ScheduleId,
    row: &SlotRow,
) -> rusqlite::Result<bool> {
    match row.fate {
        SlotFate::Missed { last_slot, .. } if last_slot > row.slot => {
            Ok(!taken_in(tx, schedule, row.slot, last_slot)?.is_empty())
        }
        SlotFate::Missed { .. } | SlotFate::Run | SlotFate::Skipped(_) => Ok(false),
    }
}

/// Stores one row; returns 0 if the slot has one.
fn insert(tx: &Connection, claim: &SlotClaim, row: &SlotRow) -> rusqlite::Result<usize> {
    let (status, reason, count, last_slot) = match row.fate {
        SlotFate::Run => (Status::Queued, None, 1, None),
        SlotFate::Skipped(reason) => (Status::Skipped, Some(reason), 1, None),
        SlotFate::Missed { reason, count, last_slot } => {
            (Status::Missed, Some(reason), count, (count > 1).then_some(last_slot))
        }
    };
    tx.prepare_cached(
        "INSERT INTO runs (id, schedule_id, slot_ms, due_ms, trigger, status, reason, prompt,
           to_channel_type, to_platform_id, to_thread_id, max_turns, max_run_ms, slot_count,
           last_slot_ms, created_at_ms, ended_at_ms)
         SELECT :id, id, :slot, :due, 'scheduled', :status, :reason, prompt, to_channel_type,
           to_platform_id, to_thread_id, max_turns, max_run_ms, :count, :last_slot, :now, :ended
         FROM schedules WHERE id = :schedule
         ON CONFLICT (schedule_id, slot_ms) DO NOTHING",
    )?
    .execute(named_params! {
        ":id": row.id,
        ":schedule": claim.schedule,
        ":slot": row.slot,
        ":due": row.due,
        ":status": status.as_str(),
        ":reason": reason.map(Reason::as_str),
        ":count": count,
        ":last_slot": last_slot,
        ":now": claim.now,
        ":ended": (row.fate != SlotFate::Run).then_some(claim.now),
    })
}

fn move_on(tx: &Connection, claim: &SlotClaim, fired: i64) -> rusqlite::Result<()> {
    // A next slot that is not later would claim the same slots for ever: such a claim is an error.
    let changed = tx
        .prepare_cached(
            "UPDATE schedules
             SET fired = fired + :fired,
                 next_slot_ms =
                   CASE WHEN max_runs IS NULL OR fired + :fired < max_runs THEN :next_slot END,
                 next_due_ms =
                   CASE WHEN max_runs IS NULL OR fired + :fired < max_runs THEN :next_due END
             WHERE id = :id AND revision = :revision AND next_slot_ms = :slot AND enabled = 1
               AND removed_at_ms IS NULL AND (:next_slot IS NULL OR :next_slot > :slot)",
        )?
        .execute(named_params! {
            ":id": claim.schedule,
            ":revision": claim.revision,
            ":slot": claim.slot,
            ":fired": fired,
            ":next_slot": claim.next.map(|next| next.slot),
            ":next_due": claim.next.map(|next| next.due),
        })?;
    exactly_one(changed)
}
