//! A schedule that pauses itself, and the notice of it: stored together, so that no crash keeps the
//! news from the person who has to know.

use rusqlite::{Connection, TransactionBehavior};
use twobox_shared::ids::{ScheduleId, SessionId};
use twobox_shared::time::UnixMillis;

use super::changes::{Paused, pause_in};
use super::definitions::{Schedule, by_id};
use crate::notices::{self, Notice};
use crate::routing;
use crate::sessions::{self, DUE_NOW};
use crate::{DbError, Operation, Schedules, failed, messaging};
use twobox_model::channel::{Address, SCHEDULE_CHANNEL};

/// Why a schedule has to be paused though nobody wished it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfPause {
    /// Why.
    pub reason: String,
    /// What a person is told.
    pub text: String,
    /// The session that tells it, if the chat has none yet.
    pub session: SessionId,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PausedItself {
    /// The session that tells a person, and has to look for that; `None` if the schedule's agent
    /// listens to nobody.
    pub teller: Option<SessionId>,
}

impl Schedules<'_> {
    /// Pauses a schedule that still has the revision that was read, and stores the notice of it. `None`
    /// if it was changed, paused or removed meanwhile: nothing was stored.
    pub fn pause_itself(
        &self,
        id: ScheduleId,
        revision: i64,
        pause: SelfPause,
        now: UnixMillis,
    ) -> Operation<Option<PausedItself>> {
        self.0.compound(move |db| {
            let step = failed("pause a schedule");
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
            let found = by_id(&tx, id).map_err(&step)?;
            let Some(schedule) = found.filter(|schedule| schedule.revision == revision) else {
                return Ok(None);
            };
            let paused = pause_itself_in(&tx, &schedule, &pause, now)?;
            tx.commit().map_err(&step)?;
            Ok(paused)
        })
    }
}

/// The same inside a transaction that has just read `schedule`.
pub(super) fn pause_itself_in(
    tx: &Connection,
    schedule: &Schedule,
    pause: &SelfPause,
    now: UnixMillis,
) -> Result<Option<PausedItself>, DbError> {
    let paused = pause_in(tx, schedule.id, &pause.reason, now);
    if !matches!(paused.map_err(failed("pause a schedule"))?, Paused::Done { .. }) {
        return Ok(None);
    }
    // Each pause has a revision of its own.
    let cause = format!("paused:{}/{}", schedule.id, schedule.revision);
    let teller = tell_in(tx, schedule, cause, &pause.text, pause.session, now)?;
    Ok(Some(PausedItself { teller }))
}

/// Stores a notice for whoever listens to the schedule's agent, once for each `cause`. Returns the session
/// that tells it, which is marked; `fresh` is its id if the chat has none yet.
pub(super) fn tell_in(
    tx: &Connection,
    schedule: &Schedule,
    cause: String,
    text: &str,
    fresh: SessionId,
    now: UnixMillis,
) -> Result<Option<SessionId>, DbError> {
    let Some((teller, address)) = who_listens(tx, schedule, fresh, now)? else { return Ok(None) };
    notices::add(tx, teller, &Notice::held(cause, address, text.to_owned(), now))?;
    sessions::mark(tx, teller, Some(DUE_NOW))?;
    Ok(Some(teller))
}

/// Where a person hears of it: in the chat that the schedule's session belongs to, or the first one
/// that its agent listens to.
fn who_listens(
    tx: &Connection,
    schedule: &Schedule,
    fresh: SessionId,
    now: UnixMillis,
) -> Result<Option<(SessionId, Address)>, DbError> {
    if let Some(session) = schedule.definition.session
        && let Some(record) = sessions::find(tx, session)?
        && record.channel_type != SCHEDULE_CHANNEL
    {
        return Ok(Some((session, record.reply_address())));
    }
    let addresses = messaging::addresses_of(tx, schedule.agent_group)?;
    let Some(first) = addresses.into_iter().next() else { return Ok(None) };
    let (agent, chat) = (schedule.agent_group, first.messaging_group);
    let session = routing::resolve(tx, agent, chat, "", fresh, now)?;
    let address = Address {
        channel_type: first.channel_type,
        platform_id: first.platform_id,
        thread_id: None,
    };
    Ok(Some((session, address)))
}
