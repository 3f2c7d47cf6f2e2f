//! The session's container: finding it, stopping it, and recording its end. Its start is in `starting`.

use std::sync::Arc;
use std::time::Duration;

use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::RunnerId;
use twobox_shared::outbox::{Ack, AckStatus};
use twobox_shared::time::UnixMillis;

use super::boxes::BoxSnapshot;
use super::decide::{self, Alive};
use super::door::Way;
use super::limits::Vitals;
use super::signal::{Reason, Reasons};
use super::task::{Task, Trouble};
use twobox_model::backoff::Backoff;
use twobox_runtime::log::rotate_live;
use twobox_runtime::{Condition, Incarnation, RUNNER_LOG, RuntimeError};
use twobox_store::notices::Notice;
use twobox_store::sessions::{StartTrouble, StopCause};
use twobox_system::blocking::blocking;
use twobox_system::repeat::warned;

/// After this many failed starts in a row the person who waits is told.
const FAILED_STARTS_TOLD: i64 = 3;

/// The pauses before a runtime that did not answer is asked again.
const SILENCE: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(30) };

/// What the task knows of a container that it believes to live.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) vitals: Vitals,
    /// Whether it has claimed or acked anything.
    pub(crate) acked: bool,
    /// When this task started it; of one that it found, the past is unknown.
    pub(super) started_at: Option<UnixMillis>,
    /// What it was started from, if that is known.
    pub(super) stamp: Option<String>,
    /// Its way to models.
    pub(super) way: Way,
}

impl Container {
    /// Whether it wrote `ack`. A runner of version 0 does not say who it is: of one that was started
    /// here is what was written since, and one that was found is believed to have written all of it.
    fn has_written(&self, ack: &Ack) -> bool {
        match ack.runner {
            Some(runner) => runner == self.vitals.runner,
            None => {
                self.started_at.is_none_or(|start| ack.changed_at.is_some_and(|at| at >= start))
            }
        }
    }
}

impl Task {
    /// Which incarnation lives, by the runtime's word.
    pub(crate) async fn ask(&mut self) -> Result<Alive, Trouble> {
        let (runtime, id) = (Arc::clone(&self.core.parts.runtime), self.id);
        let sightings = match self.while_accepting(runtime.of_session(id)).await {
            Ok(sightings) => sightings,
            Err(error) => {
                self.runtime_trouble(&error);
                return Ok(Alive::Unknown);
            }
        };
        self.runtime_silent = 0;
        let mut alive = Alive::None;
        for sighting in sightings {
            let Incarnation { runner, .. } = sighting.incarnation;
            match sighting.condition {
                Condition::Running if self.record.runner == Some(runner) => {
                    self.adopt(runner).await;
                    alive = Alive::Runner(runner);
                }
                Condition::Running => {
                    // Not the one that was recorded last: superseded, or somebody else's start.
                    if let Some(before) = warned("unexpected", &runner.to_string()) {
                        tracing::warn!(session = %id, %runner, before,
                            "stopping an unexpected container");
                    }
                    if !self.stop(runner).await {
                        return Ok(Alive::Unknown);
                    }
                    self.clear(runner).await;
                }
                Condition::Exited { code } => {
                    tracing::debug!(session = %id, %runner, ?code, "the container has ended");
                    if self.record.runner != Some(runner) {
                        self.clear(runner).await; // its end is recorded, or was never ours
                    }
                }
            }
        }
        Ok(alive)
    }

    async fn adopt(&mut self, runner: RunnerId) {
        let known = self.container.as_ref().is_some_and(|known| known.vitals.runner == runner);
        if known {
            self.mend_way().await;
        } else {
            tracing::info!(session = %self.id, %runner, "adopted a running container");
            let way = self.open_way().await;
            let now = self.core.parts.clock.monotonic();
            let vitals = Vitals::new(runner, now, self.boxes.heartbeat());
            let stamp = self.boxes.stamp();
            self.container = Some(Container { vitals, acked: false, started_at: None, stamp, way });
            self.core.adopt_place(self.id, self.record.seat(self.asker));
        }
    }

    /// Takes in what a look showed of the living container.
    pub(crate) fn observe(&mut self, snapshot: &BoxSnapshot) {
        let now = self.core.parts.clock.monotonic();
        let heartbeat = self.boxes.heartbeat();
        let Some(container) = &mut self.container else { return };
        container.acked |= snapshot.acks.values().any(|ack| container.has_written(ack));
        let claims: Vec<_> = snapshot
            .acks
            .iter()
            .filter(|(_, ack)| container.has_written(ack) && ack.status == AckStatus::Processing)
            .map(|(message, ack)| (message.clone(), ack.attempt.unwrap_or(0)))
            .collect();
        container.vitals.observe(now, heartbeat, claims.clone(), snapshot.tool.declared_timeout);
        self.note_held(snapshot, &claims);
    }

    /// Holds the living container to its limits, and stops it if it broke one or if its place is
    /// wanted and it is idle.
    pub(crate) async fn enforce(
        &mut self,
        snapshot: &BoxSnapshot,
        reasons: Reasons,
        now: UnixMillis,
    ) -> Result<Alive, Trouble> {
        if self.container.is_some() {
            self.rotate_log().await;
        }
        let Some(container) = &self.container else { return Ok(Alive::None) };
        let (runner, busy) = (container.vitals.runner, container.vitals.is_busy());
        let config = &self.core.parts.config;
        let monotonic = self.core.parts.clock.monotonic();
        let judged = container.vitals.judge(&config.limits, config.containers.idle, monotonic);
        let waiting = snapshot
            .pending
            .iter()
            .any(|message| message.trigger && message.process_after.is_none_or(|due| due <= now));
        let cause = match judged {
            Err(breach) => {
                tracing::warn!(session = %self.id, %runner, %breach, "stopping the container");
                StopCause::Limit
            }
            // A stop that was begun is carried through: it failed, or its host died.
            Ok(_) if let Some(cause) = self.record.stop_cause => cause,
            Ok(_) if reasons.contains(Reason::Evict) && !busy && !waiting => {
                tracing::info!(session = %self.id, "the idle container makes room for another");
                StopCause::Host
            }
            Ok(_) if self.record.agent_removed => {
                tracing::info!(session = %self.id, %runner, "the agent was removed");
                StopCause::Host
            }
            // Once a minute, and whenever something is said (`renew`).
            Ok(_) if reasons.contains(Reason::Runtime) && !busy && self.is_outdated().await => {
                tracing::info!(session = %self.id, %runner, "letting the container of an older agent go");
                StopCause::Host
            }
            Ok(next) => {
                self.core.set_idle(self.id, !busy && !waiting);
                self.look_in(next);
                return Ok(Alive::Runner(runner));
            }
        };
        self.record_and_stop(runner, cause).await
    }

    /// Keeps what the runner prints small while it lives.
    async fn rotate_log(&self) {
        let log =
            self.core.parts.data.session_folder(self.record.agent_group, self.id).join(RUNNER_LOG);
        let name = log.display().to_string();
        if let Err(error) = blocking(move || rotate_live(&log)).await
            && let Some(before) = warned("runner.log", &error.to_string())
        {
            tracing::warn!(session = %self.id, log = name, %error, before, "a log grows on");
        }
    }

    /// Stops a container that holds a lock against its host.
    pub(crate) async fn stop_offender(&mut self, why: &str) {
        let Some(container) = &self.container else { return };
        let runner = container.vitals.runner;
        tracing::warn!(session = %self.id, %runner, why, "stopping the container");
        match self.record_and_stop(runner, StopCause::Limit).await {
            Ok(_) => self.handle.signal.raise(Reason::Runtime),
            Err(error) => self.complain(&error),
        }
    }

    /// What is left of the limits while the boxes cannot be read: a container that lives is stopped
    /// after a while. Otherwise one that makes its outbox unreadable would have no limits.
    pub(crate) async fn enforce_unread(&mut self, alive: Alive) -> Result<(), Trouble> {
        match alive {
            Alive::Runner(runner) => {
                let now = self.core.parts.clock.monotonic();
                let since = *self.unreadable_since.get_or_insert(now);
                if now.since(since) > self.core.parts.config.limits.claim_tolerance {
                    if let Some(before) = warned("unreadable", &runner.to_string()) {
                        tracing::warn!(session = %self.id, %runner, before,
                            "stopping the container, because its boxes cannot be read");
                    }
                    self.looks.owe(Reason::Runtime);
                    self.record_and_stop(runner, StopCause::Limit).await?;
                }
            }
            Alive::None => self.core.release_place(self.id), // nothing lives that could hold it
            Alive::Unknown => {}
        }
        Ok(())
    }

    /// Stops the container because the host stops, and settles what it leaves.
    pub(crate) async fn stop_for_shutdown(&mut self) -> Result<(), Trouble> {
        if let Some(container) = &self.container {
            let runner = container.vitals.runner;
            self.record_and_stop(runner, StopCause::Host).await?;
            let reasons = self.looks.begin(Reasons::default().with(Reason::Runtime));
            self.sweep(reasons).await?;
        }
        Ok(())
    }

    pub(crate) async fn record_and_stop(
        &mut self,
        runner: RunnerId,
        cause: StopCause,
    ) -> Result<Alive, Trouble> {
        self.record_stop(runner, cause).await?;
        Ok(match self.stop(runner).await {
            true => Alive::None,
            false => Alive::Unknown,
        })
    }

    pub(super) async fn record_stop(
        &mut self,
        runner: RunnerId,
        cause: StopCause,
    ) -> Result<(), Trouble> {
        if self.record.stop_cause.is_none() && self.record.runner == Some(runner) {
            self.core.parts.store.sessions().record_stop(self.id, runner, cause).await?;
            self.record.stop_cause = Some(cause);
        }
        Ok(())
    }

    /// Whether the runtime confirmed that nothing of the incarnation lives. If not, no other is
    /// started, and the runtime is asked again soon.
    async fn stop(&mut self, runner: RunnerId) -> bool {
        let incarnation = Incarnation { session: self.id, runner };
        let runtime = Arc::clone(&self.core.parts.runtime);
        let grace = self.core.parts.config.containers.stop_grace;
        match self.while_accepting(runtime.stop(incarnation, grace)).await {
            Ok(()) => {
                fault::point(CrashPoint::HostStopDone);
                true
            }
            Err(error) => {
                self.runtime_trouble(&error);
                false
            }
        }
    }

    /// The runtime did not do what it was asked: ask again, ever more rarely.
    pub(super) fn runtime_trouble(&mut self, error: &RuntimeError) {
        self.complain(error);
        self.looks.owe(Reason::Runtime);
        self.runtime_silent += 1;
        self.look_in(SILENCE.after(i64::from(self.runtime_silent)));
    }

    /// After nothing of the recorded incarnation lives and what it left is settled: records its
    /// end, and whether its start counts as failed.
    pub(crate) async fn finish_container(&mut self, snapshot: &BoxSnapshot) -> Result<(), Trouble> {
        let Some(runner) = self.record.runner else {
            self.container = None;
            return Ok(());
        };
        let (started_here, acked) = self.container.as_ref().map_or((false, false), |container| {
            let acks = snapshot.acks.values().any(|ack| container.has_written(ack));
            (container.started_at.is_some(), container.acked || acks)
        });
        let failed = decide::start_failed(started_here, acked, self.record.stop_cause);
        let reason =
            failed.then(|| "the agent's container ended before it did anything".to_owned());
        self.end_of(runner, reason).await
    }

    pub(super) async fn end_of(
        &mut self,
        runner: RunnerId,
        failure: Option<String>,
    ) -> Result<(), Trouble> {
        let now = self.now();
        let trouble = match failure {
            None => StartTrouble {
                failed_starts: self.record.failed_starts,
                start_after: self.record.start_after,
                error: None,
            },
            Some(reason) => {
                let failed_starts = self.record.failed_starts + 1;
                let start_after = Some(now + decide::start_pause(failed_starts));
                tracing::warn!(session = %self.id, failed_starts, reason, "a start led to nothing");
                if failed_starts == FAILED_STARTS_TOLD {
                    self.notify_person(Notice::held(
                        format!("start:{runner}"),
                        self.reply_address.clone(),
                        "I cannot start at the moment. Your message is kept, and I will answer \
                         it as soon as I can."
                            .to_owned(),
                        now,
                    ))
                    .await?;
                }
                StartTrouble { failed_starts, start_after, error: Some(reason) }
            }
        };
        self.core.parts.store.sessions().record_end(self.id, &trouble).await?;
        self.record.runner = None;
        self.record.stop_cause = None;
        self.record.failed_starts = trouble.failed_starts;
        self.record.start_after = trouble.start_after;
        self.container = None;
        self.asker = None;
        self.core.release_place(self.id);
        self.clear(runner).await;
        self.handle.signal.raise(Reason::Due); // what waits may be started now
        Ok(())
    }

    /// Removes what the runtime keeps of an ended incarnation, so that the next start finds the
    /// place free.
    async fn clear(&mut self, runner: RunnerId) {
        let incarnation = Incarnation { session: self.id, runner };
        let folder = self.core.parts.data.session_folder(self.record.agent_group, self.id);
        let log = folder.join(RUNNER_LOG);
        let runtime = Arc::clone(&self.core.parts.runtime);
        if let Err(error) = self.while_accepting(runtime.clear(incarnation, &log)).await {
            self.runtime_trouble(&error);
        }
    }

    /// A runner works: earlier failed starts are history.
    pub(crate) async fn forget_failed_starts(&mut self) -> Result<(), Trouble> {
        let works = self.container.as_ref().is_some_and(|container| container.acked);
        if works && self.record.failed_starts > 0 {
            self.core.parts.store.sessions().clear_start_trouble(self.id).await?;
            self.record.failed_starts = 0;
            self.record.start_after = None;
        }
        Ok(())
    }
}
