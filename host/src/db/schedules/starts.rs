//! Starting runs: at most so many at once, and of one schedule one after the other.

use rusqlite::{Connection, OptionalExtension, ToSql, TransactionBehavior, named_params};
use twobox_shared::ids::{HostId, MessageId, RunId, ScheduleId, SessionId};
use twobox_shared::time::UnixMillis;

use super::changes::exactly_one;
use super::manual::{Enqueued, insert_manual};
use super::runs::Run;
use crate::db::{DbError, failed};

/// What a run gets when it starts. The ids name what is not made yet.
#[derive(Debug, Clone)]
pub struct Start {
    /// Who starts it.
    pub owner: HostId,
    /// How long its owner is trusted to be at it, unless the run says how long it may go on.
    pub lease_ms: i64,
    /// Its session, unless its schedule names one.
    pub session: SessionId,
    /// Its message.
    pub message: MessageId,
    /// The time.
    pub now: UnixMillis,
}

/// How many runs may go on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity<'a> {
    /// Not more than so many.
    AtMost(u32),
    /// One more than there are: on a person's word, which is written down.
    Forced {
        /// Who.
        actor: &'a str,
    },
}

/// What came of trying to start a run. Only [`Started::Run`] changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// It runs.
    Run(Box<Run>),
    /// As many run as may.
    Full,
    /// Nothing may start: no run is queued and due, or only such whose schedule has a running one.
    Nothing,
}

/// Of one schedule one run goes at a time, unless it allows more.
const NOT_BESIDE_ANOTHER: &str = "
    (NOT EXISTS (SELECT 1 FROM runs r
                 WHERE r.schedule_id = q.schedule_id AND r.status = 'running')
     OR (SELECT overlap FROM schedules WHERE id = q.schedule_id) = 'allow')";

fn update(which: &str) -> String {
    format!(
        "UPDATE runs
         SET status = 'running', phase = 'claimed', owner = :owner,
             lease_until_ms = :now + coalesce(max_run_ms, :lease_ms),
             session_id = coalesce(
               (SELECT session_id FROM schedules WHERE id = runs.schedule_id), :session),
             message_id = :message, started_at_ms = :now
         WHERE id = ({which}) AND status = 'queued'
           AND (:cap IS NULL OR (SELECT count(*) FROM runs WHERE status = 'running') < :cap)
         RETURNING {}",
        Run::COLUMNS
    )
}

pub(super) fn start_oldest() -> String {
    update(&format!(
        "SELECT q.id FROM runs q
         WHERE q.status = 'queued' AND q.due_ms <= :now AND {NOT_BESIDE_ANOTHER}
         ORDER BY q.due_ms, q.id LIMIT 1"
    ))
}

fn start_given() -> String {
    update(&format!(
        "SELECT q.id FROM runs q
         WHERE q.id = :run AND q.status = 'queued' AND {NOT_BESIDE_ANOTHER}"
    ))
}

/// Starts the queued run that is due for longest, if fewer than `cap` run.
///
/// # Errors
/// [`DbError::Sqlite`].
pub fn start_next(db: &mut Connection, cap: u32, start: &Start) -> Result<Started, DbError> {
    try_start_next(db, cap, start).map_err(failed("start a run"))
}

fn try_start_next(db: &mut Connection, cap: u32, start: &Start) -> rusqlite::Result<Started> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let started = attempt(&tx, &start_oldest(), Some(cap), start, &[])?;
    tx.commit()?;
    Ok(started)
}

/// Starts this queued run, whether it is due or not, before all others.
///
/// # Errors
/// [`DbError::Sqlite`].
pub fn start_run(
    db: &mut Connection,
    run: RunId,
    capacity: Capacity<'_>,
    start: &Start,
) -> Result<Started, DbError> {
    try_start_run(db, run, capacity, start).map_err(failed("start a run"))
}

fn try_start_run(
    db: &mut Connection,
    run: RunId,
    capacity: Capacity<'_>,
    start: &Start,
) -> rusqlite::Result<Started> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let started = start_in(&tx, run, capacity, start)?;
    tx.commit()?;
    Ok(started)
}

/// What came of a manual execution. Only [`Executed::Run`] changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Executed {
    /// It runs.
    Run(Box<Run>),
    /// As many run as may.
    Full,
    /// The schedule has a running run, and allows no other beside it.
    Overlaps,
    /// There is no such schedule, or it was removed.
    Gone,
}

/// Makes the run `run` of a schedule and starts it, at once or not at all.
///
/// # Errors
/// [`DbError::Sqlite`].
pub fn execute(
    db: &mut Connection,
    schedule: ScheduleId,
    run: RunId,
    capacity: Capacity<'_>,
    start: &Start,
) -> Result<Executed, DbError> {
    try_execute(db, schedule, run, capacity, start).map_err(failed("execute a schedule"))
}

fn try_execute(
    db: &mut Connection,
    schedule: ScheduleId,
    run: RunId,
    capacity: Capacity<'_>,
    start: &Start,
) -> rusqlite::Result<Executed> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if insert_manual(&tx, schedule, run, start.now)? == Enqueued::Gone {
        return Ok(Executed::Gone);
    }
    match start_in(&tx, run, capacity, start)? {
        Started::Run(run) => {
            tx.commit()?;
            Ok(Executed::Run(run))
        }
        Started::Full => Ok(Executed::Full),
        Started::Nothing => Ok(Executed::Overlaps),
    }
}

fn start_in(
    tx: &Connection,
    run: RunId,
    capacity: Capacity<'_>,
    start: &Start,
) -> rusqlite::Result<Started> {
    let cap = match capacity {
        Capacity::AtMost(cap) => Some(cap),
        Capacity::Forced { .. } => None,
    };
    let started = attempt(tx, &start_given(), cap, start, named_params! { ":run": run })?;
    if let (Started::Run(run), Capacity::Forced { actor }) = (&started, capacity) {
        let written = tx.execute(
            "INSERT INTO audit (at_ms, actor, action, subject, detail)
             VALUES (:now, :actor, 'force_run', :run, :detail)",
            named_params! {
                ":now": start.now,
                ":actor": actor,
                ":run": run.id,
                ":detail": format!("schedule {}", run.schedule),
            },
        )?;
        exactly_one(written)?;
    }
    Ok(started)
}

fn attempt(
    tx: &Connection,
    update: &str,
    cap: Option<u32>,
    start: &Start,
    which: &[(&str, &dyn ToSql)],
) -> rusqlite::Result<Started> {
    let params = [
        named_params! {
            ":owner": start.owner,
            ":lease_ms": start.lease_ms,
            ":session": start.session,
            ":message": start.message,
            ":now": start.now,
            ":cap": cap,
        },
        which,
    ]
    .concat();
    let run = tx.prepare_cached(update)?.query_row(params.as_slice(), Run::from_row).optional()?;
    if let Some(run) = run {
        return Ok(Started::Run(Box::new(run)));
    }
    let running: i64 =
        tx.query_row("SELECT count(*) FROM runs WHERE status = 'running'", [], |row| row.get(0))?;
    Ok(match cap {
        Some(cap) if running >= i64::from(cap) => Started::Full,
        Some(_) | None => Started::Nothing,
    })
}
