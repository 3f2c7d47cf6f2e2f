//! The end of a run: once, by its owner, together with what it means for the schedule.

use rusqlite::{Connection, TransactionBehavior, named_params};
use twobox_shared::ids::{HostId, RunId, SessionId};
use twobox_shared::time::UnixMillis;

use super::changes::exactly_one;
use super::definitions::{Schedule, by_id};
use super::metrics::{self, Load};
use super::runs::{self, Run};
use super::self_pause::{PausedItself, SelfPause, pause_itself_in, tell_in};
use super::words::Status;
use crate::{Operation, Runs, failed, is_unreadable};
use twobox_slots::reason::Reason;
use twobox_slots::streak::Streaks;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunOutcome {
    /// Well.
    Completed,
    /// Without success.
    Failed {
        /// Why.
        reason: Reason,
        /// The same for people.
        error: String,
    },
    /// Somebody did not want it any more.
    Cancelled {
        /// Why.
        reason: Reason,
        /// What went wrong with that, for people.
        error: Option<String>,
    },
}

impl RunOutcome {
    /// The state that the run ends in, and why if it did not complete: for the host and for people.
    pub fn parts(&self) -> (Status, Option<Reason>, Option<&str>) {
        match self {
            Self::Completed => (Status::Completed, None, None),
            Self::Failed { reason, error } => (Status::Failed, Some(*reason), Some(error)),
            Self::Cancelled { reason, error } => {
                (Status::Cancelled, Some(*reason), error.as_deref())
            }
        }
    }
}

/// The end of a run.
#[derive(Debug, Clone)]
pub struct End {
    /// How it ended.
    pub outcome: RunOutcome,
    /// How many turns it took, if that is known.
    pub turns: Option<i64>,
    /// What came of it.
    pub output: Option<String>,
    /// What else the host had to do.
    pub load: Load,
    /// The time.
    pub now: UnixMillis,
}

/// What the end of a run means for its schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What went wrong in a row, with this run.
    pub streaks: Streaks,
    /// Why the schedule has to be paused, if it has to.
    pub pause: Option<SelfPause>,
    /// What a person is told of the end of a schedule that goes on no further.
    pub news: Option<News>,
}

/// What a person is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The words.
    pub text: String,
    /// The session that tells it, if the chat has none yet.
    pub session: SessionId,
}

/// What came of ending a run. Only [`Finished::Done`] changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// The run is ended.
    Done {
        /// Whether the schedule paused itself with it, and who tells a person.
        paused: Option<PausedItself>,
        /// Who tells a person of the end.
        teller: Option<SessionId>,
    },
    /// It does not run, or has another owner: whoever ended it or has it now speaks for it.
    NotOurs,
}

impl Runs<'_> {
    /// Ends a run of `owner`, once: its row, its metrics, and what `judge` makes of the schedule and the
    /// ended run, in one transaction. `judge` is called while the write lock is held, with the schedule
    /// as it was before. A schedule that is paused keeps its reason.
    ///
    /// # Errors
    /// [`DbError::Sqlite`](crate::DbError::Sqlite); then the run goes on.
    pub fn finish(
        &self,
        run: RunId,
        owner: HostId,
        end: End,
        judge: impl FnOnce(&Schedule, &Run) -> Verdict + Send + 'static,
    ) -> Operation<Finished> {
        self.0.compound(move |db| {
            let step = failed("end a run");
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
            let judged = finish_in(&tx, run, owner, &end, judge).map_err(&step)?;
            let Some(judged) = judged else { return Ok(Finished::NotOurs) };
            let (mut paused, mut teller) = (None, None);
            if let Some((schedule, Verdict { pause, news, .. })) = judged {
                if let Some(pause) = pause {
                    paused = pause_itself_in(&tx, &schedule, &pause, end.now)?;
                }
                if let Some(news) = news {
                    let cause = format!("ended:{run}");
                    teller = tell_in(&tx, &schedule, cause, &news.text, news.session, end.now)?;
                }
            }
            tx.commit().map_err(&step)?;
            Ok(Finished::Done { paused, teller })
        })
    }
}

/// Returns the schedule as it was before, and the verdict; outside of that, `None` if the run does not run
/// or has another owner. A schedule that cannot be read is not judged: it keeps no run from its end.
fn finish_in(
    tx: &Connection,
    run: RunId,
    owner: HostId,
    end: &End,
    judge: impl FnOnce(&Schedule, &Run) -> Verdict,
) -> rusqlite::Result<Option<Option<(Schedule, Verdict)>>> {
    if !record(tx, run, owner, end)? {
        return Ok(None);
    }
    metrics::record(tx, run, &end.load)?;
    let ended = runs::by_id(tx, run)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let schedule = match by_id(tx, ended.schedule) {
        Err(error) if is_unreadable(&error) => return Ok(Some(None)),
        found => found?.ok_or(rusqlite::Error::QueryReturnedNoRows)?,
    };
    let verdict = judge(&schedule, &ended);
    let counted = tx.execute(
        "UPDATE schedules SET breach_streak = :breaches, failure_streak = :failures WHERE id = :id",
        named_params! {
            ":id": schedule.id,
            ":breaches": verdict.streaks.breaches,
            ":failures": verdict.streaks.failures,
        },
    )?;
    exactly_one(counted)?;
    Ok(Some(Some((schedule, verdict))))
}

/// Returns whether the run was running and `owner` had it.
fn record(tx: &Connection, run: RunId, owner: HostId, end: &End) -> rusqlite::Result<bool> {
    let (status, reason, error) = end.outcome.parts();
    let changed = tx.execute(
        "UPDATE runs
         SET status = :status, reason = :reason, error = :error, turns = :turns, output = :output,
             ended_at_ms = :now
         WHERE id = :id AND status = 'running' AND owner = :owner",
        named_params! {
            ":id": run,
            ":owner": owner,
            ":status": status.as_str(),
            ":reason": reason.map(Reason::as_str),
            ":error": error,
            ":turns": end.turns,
            ":output": end.output,
            ":now": end.now,
        },
    )?;
    Ok(changed == 1)
}
