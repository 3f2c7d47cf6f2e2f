//! Making the session of a run ready, in one transaction with the record that it is.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};
use twobox_shared::ids::{IdSource, MessagingGroupId};
use twobox_shared::time::UnixMillis;

use super::life::advance;
use super::runs::{Hold, Run};
use super::words::Phase;
use crate::{Operation, Runs, failed};
use twobox_model::channel::SCHEDULE_CHANNEL;

/// What came of it. Only [`Prepared::Done`] changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prepared {
    /// The session is there, and the run has come to [`Phase::Prepared`].
    Done,
    /// It cannot be: why, for people.
    Refused(String),
    /// The run is another host's by now, or ended.
    NotOurs,
}

impl Runs<'_> {
    /// Makes the session of `run` if it is to have one of its own, and otherwise looks whether the one
    /// that its schedule named can be used. Doing it again changes nothing, and what an edit has made of
    /// the schedule since the run was started is for later runs.
    ///
    /// # Errors
    /// [`DbError::Sqlite`](crate::DbError::Sqlite): nothing was changed.
    pub fn prepare(
        &self,
        run: &Run,
        hold: &Hold,
        ids: &(impl IdSource + ?Sized),
        now: UnixMillis,
    ) -> Operation<Prepared> {
        let (run, fresh) = (run.to_owned(), MessagingGroupId::generate(ids));
        let hold = hold.to_owned();
        self.0.compound(move |db| {
            let step = failed("prepare a run");
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
            if let Some(reason) = ready(&tx, &run, &hold, fresh, now).map_err(&step)? {
                return Ok(Prepared::Refused(reason));
            }
            if !advance(&tx, run.id, hold.owner, Phase::Claimed, Phase::Prepared)? {
                return Ok(Prepared::NotOurs);
            }
            tx.commit().map_err(&step)?;
            Ok(Prepared::Done)
        })
    }
}

/// Why the session cannot be used, if it cannot.
fn ready(
    tx: &Connection,
    run: &Run,
    hold: &Hold,
    fresh: MessagingGroupId,
    now: UnixMillis,
) -> rusqlite::Result<Option<String>> {
    // The id was chosen for a session to be made, unless it is there or the schedule names it.
    let to_be_made: bool = tx.query_row(
        "SELECT session_id IS NOT :session
           AND NOT EXISTS (SELECT 1 FROM sessions WHERE id = :session)
         FROM schedules WHERE id = :schedule",
        named_params! { ":schedule": run.schedule, ":session": hold.session },
        |row| row.get(0),
    )?;
    if to_be_made {
        make_session(tx, run, hold, fresh, now)?;
    }
    let found: Option<(String, Option<i64>)> = tx
        .query_row(
            "SELECT s.status, g.removed_at_ms
             FROM sessions s JOIN agent_groups g ON g.id = s.agent_group_id WHERE s.id = :session",
            named_params! { ":session": hold.session },
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    Ok(match found {
        None => Some(format!("there is no session {}", hold.session)),
        Some((_, Some(_))) => Some("its agent was removed".to_owned()),
        Some((status, None)) if status != "active" => {
            Some(format!("session {} is {status}", hold.session))
        }
        Some(_) => None,
    })
}

/// Makes the session of a run that has one for itself, and the chat of its schedule as `fresh` if this is
/// the first.
fn make_session(
    tx: &Connection,
    run: &Run,
    hold: &Hold,
    fresh: MessagingGroupId,
    now: UnixMillis,
) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO messaging_groups (id, channel_type, platform_id, name, created_at_ms)
         SELECT :id, :channel, id, name, :now FROM schedules WHERE id = :schedule
         ON CONFLICT (channel_type, platform_id) DO NOTHING",
        named_params! {
            ":id": fresh,
            ":channel": SCHEDULE_CHANNEL,
            ":schedule": run.schedule,
            ":now": now,
        },
    )?;
    tx.execute(
        "INSERT INTO sessions (id, agent_group_id, messaging_group_id, thread_id, created_at_ms,
           last_active_at_ms)
         SELECT :session, s.agent_group_id, m.id, :run, :now, :now
         FROM schedules s JOIN messaging_groups m
           ON m.channel_type = :channel AND m.platform_id = s.id
         WHERE s.id = :schedule
         ON CONFLICT DO NOTHING",
        named_params! {
            ":session": hold.session,
            ":channel": SCHEDULE_CHANNEL,
            ":schedule": run.schedule,
            ":run": run.id,
            ":now": now,
        },
    )?;
    Ok(())
}
