//! What each run cost, kept for a time of its own.

use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::Serialize;
use twobox_shared::ids::{RunId, ScheduleId};
use twobox_shared::time::UnixMillis;

use super::changes::exactly_one;
use super::listed::{Listed, listed};
use crate::word::word_or_null;
use crate::{Operation, Runs, failed};
use twobox_slots::reason::Reason;

/// What else the host had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Load {
    /// How late the host's own loop was.
    pub host_loop_lag_ms: i64,
    /// Chat turns at the same time.
    pub chat_turns_in_flight: i64,
    /// Runs at the same time, this one included.
    pub runs_in_flight: i64,
}

/// What one run cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunMetrics {
    /// The run, which may be forgotten already.
    pub run: RunId,
    /// Its schedule.
    pub schedule: ScheduleId,
    /// When it ended.
    pub at: UnixMillis,
    /// How long it was due and waited for its turn.
    pub slot_wait_ms: i64,
    /// From its start to its end.
    pub duration_ms: i64,
    /// How many turns it took, if that is known.
    pub turns: Option<i64>,
    /// How many it was allowed.
    pub max_turns: Option<i64>,
    /// What else went on.
    #[serde(flatten)]
    pub load: Load,
    /// Why it did not complete.
    pub reason: Option<Reason>,
}

impl RunMetrics {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            run: row.get("id")?,
            schedule: row.get("schedule_id")?,
            at: row.get("at_ms")?,
            slot_wait_ms: row.get("slot_wait_ms")?,
            duration_ms: row.get("duration_ms")?,
            turns: row.get("turns")?,
            max_turns: row.get("max_turns")?,
            load: Load {
                host_loop_lag_ms: row.get("host_loop_lag_ms")?,
                chat_turns_in_flight: row.get("chat_turns_in_flight")?,
                runs_in_flight: row.get("runs_in_flight")?,
            },
            reason: word_or_null(row, "reason")?,
        })
    }
}

/// Records what an ended run cost. A clock that went back makes no negative times.
pub(super) fn record(tx: &Connection, run: RunId, load: &Load) -> rusqlite::Result<()> {
    let written = tx.execute(
        "INSERT INTO run_metrics (run_id, schedule_id, at_ms, slot_wait_ms, duration_ms, turns,
           max_turns, host_loop_lag_ms, chat_turns_in_flight,
           runs_in_flight, reason)
         SELECT id, schedule_id, ended_at_ms, max(started_at_ms - max(due_ms, created_at_ms), 0),
           max(ended_at_ms - started_at_ms, 0), turns, max_turns, :lag, :chat_turns, :runs,
           reason
         FROM runs WHERE id = :run AND ended_at_ms IS NOT NULL",
        named_params! {
            ":run": run,
            ":lag": load.host_loop_lag_ms,
            ":chat_turns": load.chat_turns_in_flight,
            ":runs": load.runs_in_flight,
        },
    )?;
    exactly_one(written)
}

/// Which metrics.
#[derive(Debug, Clone, Copy)]
pub struct MetricsPage {
    /// Of this schedule, or of all.
    pub schedule: Option<ScheduleId>,
    /// Only of runs that ended then or later.
    pub since: UnixMillis,
    /// Only what comes after this run in the list.
    pub before: Option<RunId>,
    /// How many at most.
    pub limit: u32,
}

pub(super) const PAGE: &str = "
    SELECT run_id AS id, schedule_id, at_ms, slot_wait_ms, duration_ms, turns, max_turns,
           host_loop_lag_ms, chat_turns_in_flight, runs_in_flight,
           reason
    FROM run_metrics
    WHERE at_ms >= :since AND (at_ms, run_id) < (:before_at, :before)
      AND (:schedule IS NULL OR schedule_id = :schedule)
    ORDER BY at_ms DESC, run_id DESC LIMIT :limit";

impl Runs<'_> {
    /// What runs cost, those that ended last first.
    pub fn metrics(&self, page: &MetricsPage) -> Operation<Listed<RunMetrics>> {
        let page = page.to_owned();
        self.0.compound(move |db| {
            let read = || {
                let before_at = match page.before {
                    None => Some(i64::MAX),
                    Some(run) => db
                        .prepare_cached("SELECT at_ms FROM run_metrics WHERE run_id = :run")?
                        .query_row(named_params! { ":run": run }, |row| row.get("at_ms"))
                        .optional()?,
                };
                // The oldest are forgotten first: nothing is left after one that is forgotten.
                let Some(before_at) = before_at else { return Ok(Listed::default()) };
                let params = named_params! {
                    ":schedule": page.schedule,
                    ":since": page.since,
                    ":before_at": before_at,
                    ":before": page.before.map(|run| run.to_string()).unwrap_or_default(),
                    ":limit": page.limit,
                };
                listed(db, PAGE, params, RunMetrics::from_row)
            };
            read().map_err(failed("list what runs cost"))
        })
    }

    /// Forgets what at most `limit` runs that ended before `before` cost, the oldest first, and returns
    /// how many.
    pub fn prune_metrics(&self, before: UnixMillis, limit: u32) -> Operation<usize> {
        self.0.operation("forget what runs cost", move |db| {
            db.execute(PRUNE, named_params! { ":before": before, ":limit": limit })
        })
    }
}

pub(super) const PRUNE: &str = "
    DELETE FROM run_metrics WHERE run_id IN
      (SELECT run_id FROM run_metrics WHERE at_ms < :before ORDER BY at_ms LIMIT :limit)";
