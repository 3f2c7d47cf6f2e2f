//! Runs that a person asks for. They leave the cadence alone, and paused schedules have them too.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};
use twobox_shared::ids::{RunId, ScheduleId};
use twobox_shared::time::UnixMillis;

use super::changes::is_there;
use crate::{Operation, Runs};

/// What came of asking for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It waits for its turn.
    Done,
    /// There is no such schedule, or it was removed.
    Gone,
}

impl Runs<'_> {
    /// Lets the run `run` of a schedule wait for its turn, now. It has no slot.
    pub fn enqueue_manual(
        &self,
        schedule: ScheduleId,
        run: RunId,
        now: UnixMillis,
    ) -> Operation<Enqueued> {
        self.0.operation("enqueue a run", move |db| insert_manual(db, schedule, run, now))
    }

    /// Lets slots of the past wait for their turn, now, the oldest first. They do not count as firings.
    ///
    /// # Errors
    /// [`DbError::Sqlite`](crate::DbError::Sqlite); then none of them waits.
    pub fn enqueue_backfill(
        &self,
        schedule: ScheduleId,
        slots: &[PastSlot],
        now: UnixMillis,
    ) -> Operation<Backfilled> {
        let slots = slots.to_owned();
        self.0.operation("enqueue a backfill", move |db| backfill(db, schedule, &slots, now))
    }
}

fn backfill(
    db: &mut Connection,
    schedule: ScheduleId,
    slots: &[PastSlot],
    now: UnixMillis,
) -> rusqlite::Result<Backfilled> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if !is_there(&tx, schedule)? {
        return Ok(Backfilled::Gone);
    }
    let mut queued = Vec::new();
    {
        // A row that begins with the slot and stands for others too goes on standing for these.
        let mut shorten = tx.prepare_cached(
            "UPDATE runs
             SET slot_ms = :following, due_ms = :following, slot_count = slot_count - 1,
                 last_slot_ms = CASE WHEN slot_count > 2 THEN last_slot_ms END
             WHERE schedule_id = :schedule AND slot_ms = :slot AND status = 'missed'
               AND slot_count > 1 AND :following <= last_slot_ms
               AND (slot_count = 2) = (:following = last_slot_ms)
               AND NOT EXISTS (SELECT 1 FROM runs r
                               WHERE r.schedule_id = :schedule AND r.slot_ms = :following)",
        )?;
        // A slot that was left out, or whose run was cancelled before it began, has its run after all, in
        // the same row: a slot has one row.
        let mut insert = tx.prepare_cached(
            "INSERT INTO runs (id, schedule_id, slot_ms, due_ms, trigger, status, prompt,
               to_channel_type, to_platform_id, to_thread_id, max_turns, max_run_ms, created_at_ms)
             SELECT :run, id, :slot, :now, 'backfill', 'queued', prompt, to_channel_type,
               to_platform_id, to_thread_id, max_turns, max_run_ms, :now
             FROM schedules WHERE id = :schedule
             ON CONFLICT (schedule_id, slot_ms) DO UPDATE
             SET due_ms = :now, trigger = 'backfill', status = 'queued', reason = NULL,
                 error = NULL, ended_at_ms = NULL, prompt = excluded.prompt,
                 to_channel_type = excluded.to_channel_type,
                 to_platform_id = excluded.to_platform_id, to_thread_id = excluded.to_thread_id,
                 max_turns = excluded.max_turns, max_run_ms = excluded.max_run_ms,
                 cancel_requested_at_ms = NULL
             WHERE (status IN ('skipped', 'missed') AND slot_count = 1)
                OR (status = 'cancelled' AND phase IS NULL)
             RETURNING id",
        )?;
        for PastSlot { run, slot, following } in slots {
            shorten.execute(named_params! {
                ":schedule": schedule, ":slot": slot, ":following": following,
            })?;
            let params =
                named_params! { ":run": run, ":schedule": schedule, ":slot": slot, ":now": now };
            queued.extend(insert.query_row(params, |row| row.get::<_, RunId>(0)).optional()?);
        }
    }
    tx.commit()?;
    let kept = slots.len() - queued.len();
    Ok(Backfilled::Done { queued, kept })
}

pub(super) fn insert_manual(
    db: &Connection,
    schedule: ScheduleId,
    run: RunId,
    now: UnixMillis,
) -> rusqlite::Result<Enqueued> {
    let added = db.execute(
        "INSERT INTO runs (id, schedule_id, due_ms, trigger, status, prompt, to_channel_type,
           to_platform_id, to_thread_id, max_turns, max_run_ms, created_at_ms)
         SELECT :run, id, :now, 'manual', 'queued', prompt, to_channel_type, to_platform_id,
           to_thread_id, max_turns, max_run_ms, :now
         FROM schedules WHERE id = :schedule AND removed_at_ms IS NULL",
        named_params! { ":run": run, ":schedule": schedule, ":now": now },
    )?;
    Ok(match added {
        0 => Enqueued::Gone,
        _ => Enqueued::Done,
    })
}

/// What came of a backfill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backfilled {
    /// What could be run waits for its turn.
    Done {
        /// The runs. That of a slot which had been skipped or missed has the id of that row.
        queued: Vec<RunId>,
        /// How many slots were left as they are, because they have a run, or because the row at
        /// them stands for other missed slots too.
        kept: usize,
    },
    /// There is no such schedule, or it was removed.
    Gone,
}

/// A slot of the past that somebody wants to be run after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastSlot {
    /// The id that its run gets.
    pub run: RunId,
    /// When it was.
    pub slot: UnixMillis,
    /// The slot after it, if there is one: a row for several missed slots begins there from now on.
    pub following: Option<UnixMillis>,
}
