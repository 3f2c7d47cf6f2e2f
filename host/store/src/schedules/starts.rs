//! Starting runs: at most so many at once, of one schedule one after the other, and of several schedules
//! in turn.

use rusqlite::{Connection, OptionalExtension, ToSql, TransactionBehavior, named_params};
use twobox_shared::ids::{HostId, MessageId, RunId, ScheduleId, SessionId};
use twobox_shared::time::UnixMillis;

use super::manual::{Enqueued, insert_manual};
use super::runs::Run;
use crate::audit::{self, Note};
use crate::{Operation, Runs};

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capacity {
    /// Not more than so many.
    AtMost(u32),
    /// One more than there are: on a person's word, which is written down.
    Forced {
        /// Who.
        actor: String,
    },
}

/// What came of trying to start a run. Only [`Started::Run`] changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// It runs.
    Run(Box<Run>),
    /// As many run as may.
    Full,
    /// Nothing may start: no run is queued and due, or only such whose schedule or conversation has a
    /// running one, or that make up for the past and have as many places as they may.
    Nothing,
}

/// How long after it was due a run was made that makes up for a missed slot: later than jitter and chat
/// put a firing off.
const MADE_UP_AFTER_MS: i64 = 11 * 60 * 1000;

/// Whether the run `r` makes up for a slot of the past, so that it waits for all that is due now.
fn is_made_up(r: &str) -> String {
    format!(
        "({r}.trigger = 'backfill'
          OR ({r}.trigger = 'scheduled' AND {r}.created_at_ms > {r}.due_ms + {MADE_UP_AFTER_MS}))"
    )
}

/// Whether a run of the schedule `s` may go beside those that go on. Of one schedule one goes at a time,
/// unless it allows more, and in a conversation that people have with the agent always: whoever says
/// something there waits for the end of one run at most.
fn may_begin(s: &str) -> String {
    format!(
        "(({s}.overlap = 'allow' OR NOT EXISTS (
             SELECT 1 FROM runs r WHERE r.schedule_id = {s}.id AND r.status = 'running'))
          AND ({s}.session_id IS NULL OR NOT EXISTS (
             SELECT 1 FROM runs r WHERE r.status = 'running' AND r.session_id = {s}.session_id)))"
    )
}

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

/// The run whose turn it is. What is due now comes before what makes up for the past, of which at most
/// `:made_up_cap` go on: there is a place for the other, and for people. A schedule of which fewer go on
/// comes first; of those that make up, the one of which nothing was started for longest.
pub(super) fn start_whose_turn_it_is() -> String {
    let oldest = |such: &str| {
        format!(
            "SELECT o.id FROM runs o
             WHERE o.schedule_id = w.schedule AND o.status = 'queued' AND o.due_ms <= :now AND {such}
             ORDER BY o.due_ms, o.id LIMIT 1"
        )
    };
    let (made_up, running) = (is_made_up("o"), is_made_up("r"));
    let due_now = oldest(&format!("NOT {made_up}"));
    let past = oldest(&format!(
        "{made_up} AND (SELECT count(*) FROM runs r WHERE r.status = 'running' AND {running})
                       < :made_up_cap"
    ));
    let (of_the_past, may_begin) = (is_made_up("q"), may_begin("s"));
    update(&format!(
        "WITH RECURSIVE waiting (schedule) AS (
           SELECT min(schedule_id) FROM runs WHERE status = 'queued'
           UNION ALL
           SELECT (SELECT min(r.schedule_id) FROM runs r
                   WHERE r.status = 'queued' AND r.schedule_id > waiting.schedule)
           FROM waiting WHERE schedule IS NOT NULL)
         SELECT q.id
         FROM waiting w JOIN schedules s ON s.id = w.schedule
           JOIN runs q ON q.id = coalesce(({due_now}), ({past}))
         WHERE {may_begin}
         ORDER BY {of_the_past},
           (SELECT count(*) FROM runs r WHERE r.schedule_id = s.id AND r.status = 'running'),
           CASE WHEN {of_the_past}
                THEN (SELECT max(started_at_ms) FROM runs r
                      WHERE r.schedule_id = s.id AND r.started_at_ms IS NOT NULL) END,
           q.due_ms, q.id
         LIMIT 1"
    ))
}

fn start_given() -> String {
    let may_begin = may_begin("s");
    update(&format!(
        "SELECT q.id FROM runs q JOIN schedules s ON s.id = q.schedule_id
         WHERE q.id = :run AND q.status = 'queued' AND {may_begin}"
    ))
}

impl Runs<'_> {
    /// Starts the queued run whose turn it is, if fewer than `cap` run: what is due now, and then what
    /// makes up for slots of the past, which takes all places but one.
    pub fn start_next(&self, cap: u32, start: Start) -> Operation<Started> {
        self.start_in_turn(cap, cap.saturating_sub(1).max(1), start)
    }

    /// The same, but of what makes up for slots of the past nothing is started: somebody wants the place.
    pub fn start_due_now(&self, cap: u32, start: Start) -> Operation<Started> {
        self.start_in_turn(cap, 0, start)
    }

    fn start_in_turn(&self, cap: u32, made_up: u32, start: Start) -> Operation<Started> {
        self.0.operation("start a run", move |db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let params = named_params! { ":made_up_cap": made_up };
            let started = attempt(&tx, &start_whose_turn_it_is(), Some(cap), &start, params)?;
            tx.commit()?;
            Ok(started)
        })
    }

    /// Starts this queued run, whether it is due or not, before all others.
    pub fn start(&self, run: RunId, capacity: Capacity, start: Start) -> Operation<Started> {
        self.0.operation("start a run", move |db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let started = start_in(&tx, run, &capacity, &start)?;
            tx.commit()?;
            Ok(started)
        })
    }

    /// Makes the run `run` of a schedule and starts it, at once or not at all.
    pub fn execute(
        &self,
        schedule: ScheduleId,
        run: RunId,
        capacity: Capacity,
        start: Start,
    ) -> Operation<Executed> {
        self.0.operation("execute a schedule", move |db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if insert_manual(&tx, schedule, run, start.now)? == Enqueued::Gone {
                return Ok(Executed::Gone);
            }
            match start_in(&tx, run, &capacity, &start)? {
                Started::Run(run) => {
                    tx.commit()?;
                    Ok(Executed::Run(run))
                }
                Started::Full => Ok(Executed::Full),
                Started::Nothing => Ok(Executed::Overlaps),
            }
        })
    }
}

/// What came of a manual execution. Only [`Executed::Run`] changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Executed {
    /// It runs.
    Run(Box<Run>),
    /// As many run as may.
    Full,
    /// The schedule, or the conversation that it is part of, has a running run that allows no other
    /// beside it.
    Overlaps,
    /// There is no such schedule, or it was removed.
    Gone,
}

fn start_in(
    tx: &Connection,
    run: RunId,
    capacity: &Capacity,
    start: &Start,
) -> rusqlite::Result<Started> {
    let cap = match capacity {
        Capacity::AtMost(cap) => Some(*cap),
        Capacity::Forced { .. } => None,
    };
    let started = attempt(tx, &start_given(), cap, start, named_params! { ":run": run })?;
    if let (Started::Run(run), Capacity::Forced { actor }) = (&started, capacity) {
        let (subject, detail) = (run.id.to_string(), format!("schedule {}", run.schedule));
        let note = Note { actor, action: "force_run", subject: &subject, detail: &detail };
        audit::note(tx, &note, start.now)?;
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
