//! What people do to schedules: adding, editing, pausing, resuming, removing.
//!
//! Each change raises the revision, so that whoever had read the schedule before claims nothing of
//! it any more.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};
use twobox_shared::ids::{AgentGroupId, ScheduleId, SessionId};
use twobox_shared::time::UnixMillis;

use super::claims::{Claimed, SlotClaim, claim_in};
use super::definitions::{Definition, Next, Schedule, by_id};
use super::runs::cancel_queued;
use crate::{Operation, Schedules, failed};
use twobox_slots::reason::Reason;

/// What came of adding a schedule. Only [`Added::Done`] stored something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is there.
    Done,
    /// Another schedule has the name.
    NameTaken,
    /// There is no such agent group, or it was removed.
    NoAgent,
    /// The agent group has no such session.
    NoSession,
}

const ADD: &str = "
    INSERT INTO schedules (id, agent_group_id, name, prompt, cadence_kind, cadence_value,
      time_zone, anchor_ms, session_id, to_channel_type, to_platform_id, to_thread_id,
      max_turns, max_run_ms, missed, missed_window_ms, overlap, jitter_ms, not_before_ms,
      not_after_ms, max_runs, next_slot_ms, next_due_ms, created_at_ms, updated_at_ms)
    VALUES (:id, :agent, :name, :prompt, :cadence_kind, :cadence_value, :time_zone, :anchor,
      :session, :to_channel, :to_chat, :to_thread, :max_turns, :max_run_ms, :missed,
      :missed_window_ms, :overlap, :jitter_ms, :not_before, :not_after, :max_runs,
      :next_slot, :next_due, :now, :now)
    ON CONFLICT (name) WHERE removed_at_ms IS NULL DO NOTHING";

impl Schedules<'_> {
    /// Adds a schedule, enabled, whose first slot is `next`; `None` if it has none.
    pub fn add(
        &self,
        id: ScheduleId,
        agent: AgentGroupId,
        definition: &Definition,
        next: Option<Next>,
        now: UnixMillis,
    ) -> Operation<Added> {
        let definition = definition.to_owned();
        self.0.operation("add a schedule", move |db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let group = "SELECT 1 FROM agent_groups WHERE id = :id AND removed_at_ms IS NULL";
            if !exists(&tx, group, named_params! { ":id": agent })? {
                return Ok(Added::NoAgent);
            }
            if !has_session(&tx, agent, definition.session)? {
                return Ok(Added::NoSession);
            }
            let (slot, due) = (next.map(|next| next.slot), next.map(|next| next.due));
            let words = definition.words();
            let mut params = definition.params(&words);
            params.extend_from_slice(named_params! {
                ":id": id, ":agent": agent, ":next_slot": slot, ":next_due": due, ":now": now,
            });
            if tx.execute(ADD, params.as_slice())? == 0 {
                return Ok(Added::NameTaken);
            }
            tx.commit()?;
            Ok(Added::Done)
        })
    }

    /// Replaces a schedule's definition, if it still has the revision that was read. A paused schedule
    /// gets no next slot, nor does one that has had all its runs. `passed` records what becomes of slots that
    /// have come already and that the edit takes away.
    pub fn edit(
        &self,
        id: ScheduleId,
        revision: i64,
        definition: &Definition,
        next: NextSlot,
        passed: Option<SlotClaim>,
        now: UnixMillis,
    ) -> Operation<Edited> {
        let definition = definition.to_owned();
        self.0.operation("edit a schedule", move |db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let Some(old) = by_id(&tx, id)?.filter(|old| old.removed_at.is_none()) else {
                return Ok(Edited::Gone);
            };
            if old.revision != revision {
                return Ok(Edited::Stale);
            }
            let namesake = "SELECT 1 FROM schedules
                    WHERE name = :name AND removed_at_ms IS NULL AND id <> :id";
            if exists(&tx, namesake, named_params! { ":name": definition.name, ":id": id })? {
                return Ok(Edited::NameTaken);
            }
            if !has_session(&tx, old.agent_group, definition.session)? {
                return Ok(Edited::NoSession);
            }
            let Some(next) = next_of(&old, next) else { return Ok(Edited::Stale) };
            let over = definition.max_runs.is_some_and(|most| old.fired >= most);
            let next = next.filter(|_| old.pause_reason.is_none() && !over);
            if !leave_out(&tx, passed.as_ref())? {
                return Ok(Edited::Stale);
            }
            let (slot, due) = (next.map(|next| next.slot), next.map(|next| next.due));
            let words = definition.words();
            let mut params = definition.params(&words);
            params.extend_from_slice(named_params! {
                ":id": id, ":revision": revision, ":next_slot": slot, ":next_due": due, ":now": now,
            });
            let changed = tx.execute(
                "UPDATE schedules
                 SET name = :name, prompt = :prompt, cadence_kind = :cadence_kind,
                     cadence_value = :cadence_value, time_zone = :time_zone, anchor_ms = :anchor,
                     session_id = :session, to_channel_type = :to_channel, to_platform_id = :to_chat,
                     to_thread_id = :to_thread, max_run_ms = :max_run_ms, missed = :missed,
                     missed_window_ms = :missed_window_ms, overlap = :overlap, jitter_ms = :jitter_ms,
                     not_before_ms = :not_before, not_after_ms = :not_after, max_runs = :max_runs,
                     turns_edited_at_ms =
                       CASE WHEN max_turns IS :max_turns THEN turns_edited_at_ms ELSE :now END,
                     max_turns = :max_turns, next_slot_ms = :next_slot, next_due_ms = :next_due,
                     revision = revision + 1, updated_at_ms = :now
                 WHERE id = :id AND revision = :revision AND removed_at_ms IS NULL",
                params.as_slice(),
            )?;
            exactly_one(changed)?;
            tx.commit()?;
            Ok(Edited::Done { revision: revision + 1 })
        })
    }

    /// Pauses a schedule: nothing that its cadence made starts any more. What a person asked for still
    /// does, and what runs goes on. `passed` records what becomes of slots that have come already.
    pub fn pause(
        &self,
        id: ScheduleId,
        reason: &str,
        passed: Option<SlotClaim>,
        now: UnixMillis,
    ) -> Operation<Paused> {
        let reason = reason.to_owned();
        self.0.compound(move |db| {
            let step = failed("pause a schedule");
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
            if !leave_out(&tx, passed.as_ref()).map_err(&step)? {
                return Ok(Paused::Stale);
            }
            let paused = pause_in(&tx, id, &reason, now).map_err(&step)?;
            tx.commit().map_err(&step)?;
            Ok(paused)
        })
    }

    /// Resumes a paused schedule, if it still has the revision that was read. `next` is its next slot,
    /// reckoned from now on.
    pub fn resume(
        &self,
        id: ScheduleId,
        revision: i64,
        next: Option<Next>,
        now: UnixMillis,
    ) -> Operation<Resumed> {
        self.0.operation("resume a schedule", move |db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let changed = tx.execute(
                "UPDATE schedules
                 SET enabled = 1, pause_reason = NULL, breach_streak = 0, failure_streak = 0,
                     next_slot_ms = CASE WHEN max_runs IS NULL OR fired < max_runs THEN :next_slot END,
                     next_due_ms = CASE WHEN max_runs IS NULL OR fired < max_runs THEN :next_due END,
                     revision = revision + 1, updated_at_ms = :now
                 WHERE id = :id AND revision = :revision AND enabled = 0 AND removed_at_ms IS NULL
                   AND agent_group_id IN (SELECT id FROM agent_groups WHERE removed_at_ms IS NULL)",
                named_params! {
                    ":id": id,
                    ":revision": revision,
                    ":next_slot": next.map(|next| next.slot),
                    ":next_due": next.map(|next| next.due),
                    ":now": now,
                },
            )?;
            if changed == 1 {
                tx.commit()?;
                return Ok(Resumed::Done);
            }
            Ok(match by_id(&tx, id)? {
                Some(found) if found.removed_at.is_some() => Resumed::Gone,
                Some(found) if found.revision != revision => Resumed::Stale,
                Some(found) if found.pause_reason.is_none() => Resumed::Already,
                Some(_) | None => Resumed::Gone,
            })
        })
    }

    /// Removes a schedule and cancels what waits for its turn. What runs goes on.
    pub fn remove(&self, id: ScheduleId, now: UnixMillis) -> Operation<Removed> {
        self.0.operation("remove a schedule", move |db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let changed = tx.execute(
                "UPDATE schedules
                 SET enabled = 0, pause_reason = coalesce(pause_reason, 'removed'), next_slot_ms = NULL,
                     next_due_ms = NULL, revision = revision + 1, updated_at_ms = :now,
                     removed_at_ms = :now
                 WHERE id = :id AND removed_at_ms IS NULL",
                named_params! { ":id": id, ":now": now },
            )?;
            if changed == 0 {
                return Ok(Removed::Gone);
            }
            let cancelled = cancel_queued(&tx, id, Reason::Removed, now)?;
            tx.commit()?;
            Ok(Removed::Done { cancelled })
        })
    }
}

/// What came of an edit. Only [`Edited::Done`] changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edited {
    /// The schedule says what was given, under this revision.
    Done {
        /// The new revision.
        revision: i64,
    },
    /// It is not what it was when it was read: read it again.
    Stale,
    /// Another schedule has the name.
    NameTaken,
    /// The agent group has no such session.
    NoSession,
    /// It was removed.
    Gone,
}

/// What an edit means for the next slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextSlot {
    /// It stays, as the slots are those that they were. Was it the last one and has fired since
    /// the schedule was read, the edit is [`Edited::Stale`].
    Kept,
    /// It stays too, and is due at another time, as its jitter is another. Has the schedule moved on
    /// from this slot since it was read, the edit is [`Edited::Stale`].
    Moved(Next),
    /// It was reckoned anew, from now on.
    Reckoned(Option<Next>),
}

/// What came of pausing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paused {
    /// It is paused.
    Done {
        /// How many runs that waited for their turn were cancelled.
        cancelled: usize,
    },
    /// It was paused before, for a reason that stays.
    Already,
    /// It has moved on since it was read: read it again.
    Stale,
    /// There is no such schedule, or it was removed.
    Gone,
}

/// The next slot of an edited schedule that was `old`, if it goes on; outside of that, `None` if the edit was
/// decided on another slot than it has.
fn next_of(old: &Schedule, edited: NextSlot) -> Option<Option<Next>> {
    match edited {
        NextSlot::Kept if old.next.is_none() && old.pause_reason.is_none() => None,
        NextSlot::Moved(next) if old.next.is_none_or(|old| old.slot != next.slot) => None,
        NextSlot::Kept => Some(old.next),
        NextSlot::Moved(next) => Some(Some(next)),
        NextSlot::Reckoned(next) => Some(next),
    }
}

/// Records what becomes of slots that a change takes away. Returns whether they are still what they
/// were when they were read.
fn leave_out(tx: &Connection, passed: Option<&SlotClaim>) -> rusqlite::Result<bool> {
    match passed {
        None => Ok(true),
        Some(claim) => Ok(matches!(claim_in(tx, claim)?, Claimed::Done { .. })),
    }
}

/// The same, inside the transaction of another change.
pub(super) fn pause_in(
    tx: &Connection,
    id: ScheduleId,
    reason: &str,
    now: UnixMillis,
) -> rusqlite::Result<Paused> {
    let changed = tx.execute(
        "UPDATE schedules
         SET enabled = 0, pause_reason = :reason, next_slot_ms = NULL, next_due_ms = NULL,
             revision = revision + 1, updated_at_ms = :now
         WHERE id = :id AND enabled = 1",
        named_params! { ":id": id, ":reason": reason, ":now": now },
    )?;
    if changed == 1 {
        return Ok(Paused::Done { cancelled: cancel_queued(tx, id, Reason::Paused, now)? });
    }
    match is_there(tx, id)? {
        true => Ok(Paused::Already),
        false => Ok(Paused::Gone),
    }
}

/// Pauses the enabled schedules of an agent group that is being removed, in that transaction.
pub(crate) fn pause_all_of(
    tx: &Connection,
    agent: AgentGroupId,
    reason: &str,
    now: UnixMillis,
) -> rusqlite::Result<()> {
    let enabled: Vec<ScheduleId> = tx
        .prepare_cached(
            "SELECT id FROM schedules
             WHERE agent_group_id = :agent AND removed_at_ms IS NULL AND enabled = 1",
        )?
        .query_map(named_params! { ":agent": agent }, |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for id in enabled {
        pause_in(tx, id, reason, now)?;
    }
    Ok(())
}

/// What came of resuming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumed {
    /// It is enabled, with no failures behind it.
    Done,
    /// It was not paused.
    Already,
    /// Somebody else changed it since it was read: read it again.
    Stale,
    /// There is no such schedule, or it or its agent group was removed.
    Gone,
}

/// What came of removing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is gone; its runs stay known.
    Done {
        /// How many runs that waited for their turn were cancelled.
        cancelled: usize,
    },
    /// There is no such schedule, or it was removed before.
    Gone,
}

/// Whether there is such a schedule, not removed.
pub(super) fn is_there(db: &Connection, id: ScheduleId) -> rusqlite::Result<bool> {
    let schedule = "SELECT 1 FROM schedules WHERE id = :id AND removed_at_ms IS NULL";
    exists(db, schedule, named_params! { ":id": id })
}

fn has_session(
    db: &Connection,
    agent: AgentGroupId,
    session: Option<SessionId>,
) -> rusqlite::Result<bool> {
    let Some(session) = session else { return Ok(true) };
    let select = "SELECT 1 FROM sessions
                  WHERE id = :session AND agent_group_id = :agent AND status <> 'closed'";
    exists(db, select, named_params! { ":session": session, ":agent": agent })
}

fn exists(
    db: &Connection,
    select: &str,
    params: &[(&str, &dyn rusqlite::ToSql)],
) -> rusqlite::Result<bool> {
    let found = db.prepare_cached(select)?.query_row(params, |_| Ok(())).optional()?;
    Ok(found.is_some())
}

/// A statement of whose guard this transaction has already made sure.
pub(crate) fn exactly_one(changed: usize) -> rusqlite::Result<()> {
    match changed {
        1 => Ok(()),
        _ => Err(rusqlite::Error::StatementChangedRows(changed)),
    }
}
