//! The safety net: everything is looked over at the start, once a minute, and whenever events may have
//! been lost.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};
use twobox_shared::errors::chain;
use twobox_shared::ids::SessionId;
use twobox_shared::time::UnixMillis;

use super::RUNTIME_PAUSE;
use twobox_gateway::recording;
use twobox_runtime::{Condition, Incarnation, RuntimeError, RuntimeEvent, Sighting};
use twobox_session::core::Core;
use twobox_session::signal::Reason;
use twobox_session::task::RETIRE_BEYOND;
use twobox_store::DbError;
use twobox_store::ownership::HostLife;
use twobox_system::blocking::blocking;
use twobox_system::clock;
use twobox_system::repeat::warned;

/// How often everything is compared, in case an event was lost.
const SAFETY_NET: Duration = Duration::from_secs(60);

/// Listens to the runtime, and looks over everything at the start, once a minute, and whenever
/// events may have been lost. Ends when another host has taken over, with the refusal.
pub(super) async fn keep(
    core: Arc<Core>,
    life: HostLife,
    mut events: mpsc::UnboundedReceiver<RuntimeEvent>,
    came_round: watch::Sender<Option<Instant>>,
) -> DbError {
    let (mut before, mut minds_budgets) = (None, false);
    loop {
        let now = (core.parts.clock.now(), core.parts.clock.monotonic());
        // A due time may lie far ahead only because the clock was set back, before this host started
        // or since. The session's own decision knows.
        let set_back = before.is_none_or(|before| clock::was_set_back(before, now));
        let until = match set_back {
            true => UnixMillis(i64::MAX),
            false => now.0 + RETIRE_BEYOND,
        };
        let renewed = core.parts.store.installation().renew(life, now.0).await;
        if let Err(error @ DbError::Fenced { .. }) = renewed {
            return error;
        }
        // A disk that takes no lease still says what is due.
        let looked = look_over(&core, until).await.and_then(|it| renewed.map(|()| it));
        if !minds_budgets {
            minds_budgets = core.mind_budgets().await.is_ok(); // otherwise the same disk says why
        }
        // The first time everything that was due is awake now. To an engine that is silent nothing is due.
        if looked.is_ok() {
            before = Some(now);
        }
        if looked.is_ok() || came_round.borrow().is_some() {
            came_round.send_replace(Some(Instant::now()));
        }
        let trouble = match &looked {
            Ok(Ok(())) => None,
            Ok(Err(silent)) => Some(chain(silent)),
            Err(error) => Some(chain(error)),
        };
        let pause = match trouble {
            None => SAFETY_NET,
            Some(error) => {
                if let Some(before) = warned("safety net", &error) {
                    tracing::warn!(error, before, "the safety net could not look");
                }
                RUNTIME_PAUSE
            }
        };
        forget_recordings(&core, now.0).await;
        let next = tokio::time::sleep(pause);
        tokio::pin!(next);
        loop {
            tokio::select! {
                () = &mut next => break,
                event = events.recv() => match event {
                    Some(RuntimeEvent::Exited(incarnation)) => {
                        core.wake(incarnation.session, Reason::Runtime);
                    }
                    Some(RuntimeEvent::Interrupted) | None => break,
                },
            }
        }
    }
}

/// Deletes what was recorded longer ago than anything is kept, and what is too much.
async fn forget_recordings(core: &Arc<Core>, now: UnixMillis) {
    let (folder, keep) = (core.parts.data.recordings(), core.parts.config.history.keep);
    let now = UNIX_EPOCH + Duration::from_millis(now.0.max(0).cast_unsigned());
    if let Err(error) = blocking(move || recording::forget(&folder, keep, now)).await
        && let Some(before) = warned("recordings", &error.to_string())
    {
        tracing::warn!(%error, before, "old recordings could not be deleted");
    }
}

/// Wakes the sessions that are due before `until`, and compares the runtime's list with the sessions that are
/// awake. A session at rest is not looked at.
///
/// # Errors
/// [`DbError`] if what is due is not known; within, that the runtime did not answer.
async fn look_over(
    core: &Arc<Core>,
    until: UnixMillis,
) -> Result<Result<(), RuntimeError>, DbError> {
    core.set_population(core.parts.store.agents().population().await?);
    let awake: HashSet<SessionId> = core.awake().into_iter().map(|(session, _)| session).collect();
    // What runs is counted before anything that is due may take its place.
    let listed = core.parts.runtime.list().await;
    for sighting in listed.as_deref().unwrap_or_default() {
        let Sighting { incarnation, condition } = *sighting;
        let session = incarnation.session;
        match core.parts.store.sessions().find(session).await? {
            Some(record) => {
                if condition == Condition::Running && !awake.contains(&session) {
                    core.adopt_place(session, record.seat(None));
                }
                core.wake(session, Reason::Runtime);
            }
            None => {
                let core = Arc::clone(core);
                tokio::spawn(async move {
                    if let Err(error) = remove_stray(&core, incarnation, condition).await {
                        let error = chain(&error);
                        if let Some(before) = warned("stray", &error) {
                            tracing::warn!(error, before, "the stray container is still there");
                        }
                    }
                });
            }
        }
    }
    let due = core.parts.store.sessions().due(until).await?;
    for session in due.iter().filter(|session| !awake.contains(session)) {
        core.wake(*session, Reason::Due);
    }
    if let Err(silent) = listed {
        return Ok(Err(silent));
    }
    for session in &awake {
        core.wake(*session, Reason::Runtime);
    }
    Ok(Ok(()))
}

/// A container of this installation whose session it does not have.
async fn remove_stray(
    core: &Arc<Core>,
    stray: Incarnation,
    condition: Condition,
) -> Result<(), RuntimeError> {
    if let Some(before) = warned("stray", &stray.runner.to_string()) {
        let Incarnation { session, runner } = stray;
        tracing::warn!(%session, %runner, before, "removing a stray container");
    }
    if condition == Condition::Running {
        core.parts.runtime.stop(stray, core.parts.config.containers.stop_grace).await?;
    }
    let log = core.parts.data.root().join("stray.log");
    core.parts.runtime.clear(stray, &log).await?;
    Ok(())
}
