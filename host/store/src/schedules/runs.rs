//! Runs as they stand, for those who decide and those who look.

use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::Serialize;
use twobox_shared::ids::{HostId, MessageId, RunId, ScheduleId, SessionId};
use twobox_shared::inbox::Origin;
use twobox_shared::time::UnixMillis;

use super::definitions::to_from_row;
use super::listed::{Listed, listed};
use super::words::{Phase, Status, Trigger};
use crate::word::{word, word_or_null};
use crate::{Operation, Runs, failed};
use twobox_slots::reason::Reason;

/// A run, or a slot that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Whose it is.
    pub schedule: ScheduleId,
    /// Its nominal time; a manual run has none.
    pub slot: Option<UnixMillis>,
    /// From when on it may start.
    pub due: UnixMillis,
    /// What made it.
    pub trigger: Trigger,
    /// How far it is.
    pub status: Status,
    /// Why it did not complete.
    pub reason: Option<Reason>,
    /// The same for people.
    pub error: Option<String>,
    /// What the host holds of it, from its start on.
    pub hold: Option<Hold>,
    /// What the agent is told, as the schedule said when it fired.
    pub prompt: String,
    /// To which chat its answer goes, as the schedule said then; empty if it is only kept.
    pub to: Origin,
    /// How many turns it may take.
    pub max_turns: Option<i64>,
    /// How long it may go on.
    pub max_run_ms: Option<i64>,
    /// How many turns it took.
    pub turns: Option<i64>,
    /// What came of it.
    pub output: Option<String>,
    /// When somebody wanted it to end.
    pub cancel_requested_at: Option<UnixMillis>,
    /// For how many slots this row stands; more than one only if they were missed.
    pub slot_count: i64,
    /// The last of these slots, if there are several.
    pub last_slot: Option<UnixMillis>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
}

/// What a run has from its start on. All of it was chosen before anything was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// How far it came.
    pub phase: Phase,
    /// The host that started it, or took it over.
    pub owner: HostId,
    /// Until when the owner is trusted to be at it.
    pub lease_until: UnixMillis,
    /// Where it runs.
    pub session: SessionId,
    /// Its message in that session.
    pub message: MessageId,
    /// When it started.
    pub started_at: UnixMillis,
}

impl Run {
    /// The columns of a run, for `SELECT` and `RETURNING`.
    pub(super) const COLUMNS: &str = "
        id, schedule_id, slot_ms, due_ms, trigger, status, reason, error, phase, owner,
        lease_until_ms, session_id, message_id, prompt, to_channel_type, to_platform_id,
        to_thread_id, max_turns, max_run_ms, turns, output,
        cancel_requested_at_ms, slot_count, last_slot_ms, created_at_ms, started_at_ms, ended_at_ms";

    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let hold = match word_or_null(row, "phase")? {
            None => None,
            Some(phase) => Some(Hold {
                phase,
                owner: row.get("owner")?,
                lease_until: row.get("lease_until_ms")?,
                session: row.get("session_id")?,
                message: row.get("message_id")?,
                started_at: row.get("started_at_ms")?,
            }),
        };
        Ok(Self {
            id: row.get("id")?,
            schedule: row.get("schedule_id")?,
            slot: row.get("slot_ms")?,
            due: row.get("due_ms")?,
            trigger: word(row, "trigger")?,
            status: word(row, "status")?,
            reason: word_or_null(row, "reason")?,
            error: row.get("error")?,
            hold,
            prompt: row.get("prompt")?,
            to: to_from_row(row)?,
            max_turns: row.get("max_turns")?,
            max_run_ms: row.get("max_run_ms")?,
            turns: row.get("turns")?,
            output: row.get("output")?,
            cancel_requested_at: row.get("cancel_requested_at_ms")?,
            slot_count: row.get("slot_count")?,
            last_slot: row.get("last_slot_ms")?,
            created_at: row.get("created_at_ms")?,
            ended_at: row.get("ended_at_ms")?,
        })
    }
}

/// Selects runs; `rest` is everything after the table.
pub(super) fn select(rest: &str) -> String {
    format!("SELECT {} FROM runs {rest}", Run::COLUMNS)
}

impl Runs<'_> {
    /// The run with this id.
    pub fn find(&self, id: RunId) -> Operation<Option<Run>> {
        self.0.operation("find a run", move |db| by_id(db, id))
    }

    /// What people call that of which the run with this id is one.
    pub fn names(&self, run: RunId) -> Operation<Option<Names>> {
        self.0.operation("find the names of a run", move |db| {
            db.query_row(
                "SELECT s.name, g.folder FROM runs r
                 JOIN schedules s ON s.id = r.schedule_id
                 JOIN agent_groups g ON g.id = s.agent_group_id
                 WHERE r.id = :run",
                named_params! { ":run": run },
                |row| Ok(Names { schedule: row.get(0)?, agent: row.get(1)? }),
            )
            .optional()
        })
    }

    /// The runs of a schedule that are not ended, in the order in which they were made.
    pub fn open_of(&self, schedule: ScheduleId) -> Operation<Listed<Run>> {
        self.0.operation("list the open runs of a schedule", move |db| {
            listed(db, &select(OPEN), named_params! { ":schedule": schedule }, Run::from_row)
        })
    }

    /// The runs that go on, whoever owns them, the oldest first.
    pub fn running(&self) -> Operation<Listed<Run>> {
        self.0.compound(move |db| {
            let select = select("WHERE status = 'running' ORDER BY started_at_ms, id");
            listed(db, &select, [], Run::from_row).map_err(failed("list running runs"))
        })
    }

    /// At most `limit` runs of a schedule, or of all, that were made before the run `before`; the newest
    /// first. The last one's id is `before` of the next page.
    pub fn page(
        &self,
        schedule: Option<ScheduleId>,
        before: Option<RunId>,
        limit: u32,
    ) -> Operation<Listed<Run>> {
        self.0.compound(move |db| {
            let before = before.map_or_else(|| AFTER_ALL_IDS.to_owned(), |id| id.to_string());
            match schedule {
                Some(schedule) => listed(
                    db,
                    &select(PAGE_OF_SCHEDULE),
                    named_params! { ":schedule": schedule, ":before": before, ":limit": limit },
                    Run::from_row,
                ),
                None => listed(
                    db,
                    &select(PAGE_OF_ALL),
                    named_params! { ":before": before, ":limit": limit },
                    Run::from_row,
                ),
            }
            .map_err(failed("list runs"))
        })
    }

    /// Counts the runs that are not ended.
    pub fn counts(&self) -> Operation<Counts> {
        self.0.operation("count runs", move |db| {
            db.query_row(
                "SELECT (SELECT count(*) FROM runs WHERE status = 'queued'),
                (SELECT count(*) FROM runs WHERE status = 'running')",
                [],
                |row| Ok(Counts { queued: row.get(0)?, running: row.get(1)? }),
            )
        })
    }

    /// What the last `limit` completed runs of a schedule took, the newest first.
    pub fn past(&self, schedule: ScheduleId, limit: u32) -> Operation<Vec<Past>> {
        self.0.operation("read what runs took", move |db| {
            let from_row = |row: &Row<'_>| {
                Ok(Past { duration_ms: row.get("duration_ms")?, turns: row.get("turns")? })
            };
            db.prepare_cached(PAST).and_then(|mut select| {
                let params = named_params! { ":schedule": schedule, ":limit": limit };
                select.query_map(params, from_row)?.collect()
            })
        })
    }

    /// Forgets at most `limit` runs that ended before `before`, the oldest first, and returns how many.
    /// A forgotten slot is not run again by its cadence, which only moves on; a backfill could.
    pub fn prune(&self, before: UnixMillis, limit: u32) -> Operation<usize> {
        self.0.operation("forget old runs", move |db| {
            db.execute(PRUNE, named_params! { ":before": before, ":limit": limit })
        })
    }
}

/// What people call a run's schedule, and its agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The schedule's name.
    pub schedule: String,
    /// The agent's.
    pub agent: String,
}

pub(super) fn by_id(db: &Connection, id: RunId) -> rusqlite::Result<Option<Run>> {
    db.prepare_cached(&select("WHERE id = :id"))?
        .query_row(named_params! { ":id": id }, Run::from_row)
        .optional()
}

/// Of two indexes in this order SQLite may take the one that has all runs, ended ones too.
pub(super) const OPEN: &str = "INDEXED BY runs_open
    WHERE schedule_id = :schedule AND ended_at_ms IS NULL ORDER BY id";

pub(super) const PAGE_OF_SCHEDULE: &str =
    "WHERE schedule_id = :schedule AND id < :before ORDER BY id DESC LIMIT :limit";
pub(super) const PAGE_OF_ALL: &str = "WHERE id < :before ORDER BY id DESC LIMIT :limit";

/// Ids are made of digits and the letters `a` to `f`: each comes before this.
const AFTER_ALL_IDS: &str = "g";

/// How many runs are not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// They wait for their turn.
    pub queued: i64,
    /// They go on.
    pub running: i64,
}

/// What a completed run took, to estimate others by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// From its start to its end.
    pub duration_ms: i64,
    /// Its turns, if they are known.
    pub turns: Option<i64>,
}

pub(super) const PAST: &str = "
    SELECT max(ended_at_ms - started_at_ms, 0) AS duration_ms, turns FROM runs
    WHERE schedule_id = :schedule AND status = 'completed' ORDER BY id DESC LIMIT :limit";

pub(super) const CANCEL_QUEUED: &str = "
    UPDATE runs SET status = 'cancelled', reason = :reason, ended_at_ms = :now
    WHERE schedule_id = :schedule AND ended_at_ms IS NULL AND status = 'queued'
      AND (:all OR trigger <> 'manual')";

/// Cancels the runs of a schedule that wait for their turn: all of them when it is removed, and
/// those that its cadence or a backfill made when it is paused.
pub(super) fn cancel_queued(
    tx: &Connection,
    schedule: ScheduleId,
    reason: Reason,
    now: UnixMillis,
) -> rusqlite::Result<usize> {
    tx.execute(
        CANCEL_QUEUED,
        named_params! {
            ":schedule": schedule,
            ":reason": reason.as_str(),
            ":now": now,
            ":all": reason == Reason::Removed,
        },
    )
}

pub(super) const PRUNE: &str = "
    DELETE FROM runs WHERE id IN
      (SELECT id FROM runs WHERE ended_at_ms IS NOT NULL AND ended_at_ms < :before
       ORDER BY ended_at_ms LIMIT :limit)";
