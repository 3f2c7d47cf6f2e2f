//! Whether the session's agent can be started, and is what its container was started from: letting a
//! container of an older agent go, laying ready what a start needs, and waiting for a broken agent to
//! change.

use std::collections::HashSet;
use std::sync::Arc;

use twobox_shared::agent_config::AgentConfigError;
use twobox_shared::content::Failure;
use twobox_shared::inbox::PendingMessage;
use twobox_shared::open::BoxError;
use twobox_shared::outbox::AckStatus;
use twobox_shared::time::UnixMillis;

use super::boxes::{BoxSnapshot, Changes};
use super::compose::address_of_origin;
use super::decide::{Action, Alive};
use super::signal::Reason;
use super::stamp;
use super::task::{Task, Trouble};
use twobox_runtime::{AgentFolders, Incarnation, Profile};
use twobox_shared::errors::{chain, for_a_terminal};
use twobox_store::notices::Notice;
use twobox_store::sessions::{StartTrouble, StopCause};
use twobox_system::blocking::blocking;

/// Why there is nothing to start a container with.
pub(super) enum Unfit {
    /// The agent has to change first.
    Broken(String),
    /// Something else, which may pass.
    Trouble(String),
}

impl Task {
    /// Whether the container was started from something that the agent is no more.
    pub(super) async fn is_outdated(&self) -> bool {
        let Some(begun) = self.container.as_ref().and_then(|container| container.stamp.as_ref())
        else {
            return false;
        };
        let now = stamp::of(&self.core, &self.record.agent_folder).await;
        now.is_some_and(|now| now != *begun)
    }

    /// Lets an idle container go that was started from something that the agent is no more, before a
    /// message is stored that it would answer. Nothing is accepted meanwhile: messages are stored in
    /// the order in which they came.
    pub(super) async fn renew(&mut self) {
        let Some(container) = &self.container else { return };
        let (runner, busy) = (container.vitals.runner, container.vitals.is_busy());
        if busy || !self.is_outdated().await {
            return;
        }
        tracing::info!(session = %self.id, %runner, "letting the container of an older agent go");
        self.handle.signal.raise(Reason::Runtime); // its end, and a start, are the next sweep's
        if let Err(trouble) = self.record_stop(runner, StopCause::Host).await {
            return self.complain(&trouble);
        }
        let incarnation = Incarnation { session: self.id, runner };
        let grace = self.core.parts.config.containers.stop_grace;
        if let Err(error) = self.core.parts.runtime.stop(incarnation, grace).await {
            self.complain(&error);
        }
    }

    /// Lets the container go, on a person's word, and forgets why none was started. Returns whether
    /// there was one.
    pub(super) async fn restart(&mut self) -> Result<bool, Trouble> {
        for session in self.core.broken.forget(self.record.agent_group) {
            self.core.wake(session, Reason::Due);
        }
        self.handle.signal.raise(Reason::Runtime);
        let Some(runner) = self.record.runner else { return Ok(false) };
        let alive = self.record_and_stop(runner, StopCause::Host).await?;
        match alive {
            Alive::None => Ok(true),
            Alive::Runner(_) | Alive::Unknown => Err(Trouble::Lives),
        }
    }

    /// Sees to the folders of the container that is about to start, and gives it the agent's
    /// configuration as it is now, as far as runners are told. Returns what it is given of the agent, and
    /// how the agent runs.
    ///
    /// # Errors
    /// Why there is nothing to start with; about a mistake, the file and the field.
    pub(super) async fn furnish(
        &self,
        stamp: Option<String>,
    ) -> Result<(AgentFolders, Profile), Unfit> {
        let data = &self.core.parts.data;
        let source = data.agent_config(&self.record.agent_folder);
        let program = data.program_folder(&self.record.agent_folder);
        let shared = data.group_folder(&self.record.agent_folder);
        let (boxes, core) = (Arc::clone(&self.boxes), Arc::clone(&self.core));
        blocking(move || {
            let parts = &core.parts;
            let mut profile = Profile::load(&source, &parts.config.containers)
                .map_err(|error| Unfit::Broken(error.to_string()))?;
            let named = |reason: String| AgentConfigError::new(&source, reason).to_string();
            let refused = |reason: String| Unfit::Broken(named(reason));
            parts.runtime.accepts(&profile).map_err(refused)?;
            let way = parts.gateway.way(&profile.agent.provider, &profile.egress);
            profile.agent.gateway = way.map_err(refused)?;
            let access = profile.agent.shared_folder;
            let agent = AgentFolders { program, shared, access };
            agent.check().map_err(Unfit::Trouble)?;
            let missing = |reason: String| Unfit::Trouble(named(reason));
            let profile = profile.with_folders(parts.data.root()).map_err(missing)?;
            let trouble = |error: BoxError| Unfit::Trouble(chain(&error));
            boxes.create().and_then(|()| boxes.create_work()).map_err(trouble)?;
            boxes.project_config(&profile.agent.for_runner()).map_err(trouble)?;
            boxes.record_stamp(stamp.as_deref());
            Ok((agent, profile))
        })
        .await
    }

    /// Takes in that a runner found its agent broken. It has charged nobody, and leaves.
    pub(super) async fn note_broken(&mut self, snapshot: &BoxSnapshot) {
        let found = snapshot.pending.iter().find_map(|message| {
            let ack = snapshot.acks.get(&message.id)?;
            let now = ack.attempt.is_none_or(|attempt| attempt == message.tries);
            let failure = ack.failure.as_ref().filter(|failure| {
                now && ack.status == AckStatus::Failed && failure.reason == Failure::AGENT_BROKEN
            })?;
            Some(failure.detail.clone())
        });
        let Some(reason) = found else { return };
        // What it is now, where nobody knows what it was.
        let begun = self.container.as_ref().and_then(|container| container.stamp.clone());
        let stamp = match begun {
            Some(begun) => Some(begun),
            None => stamp::of(&self.core, &self.record.agent_folder).await,
        };
        if let Some(stamp) = stamp {
            let (group, folder) = (self.record.agent_group, &self.record.agent_folder);
            let (by, reason) = (Some(self.id), for_a_terminal(&reason));
            self.core.agent_is_broken(group, by, self.id, folder, stamp, reason);
        }
    }

    /// Starts nothing until the agent has changed, of which the session is told. Whoever waits hears
    /// why, once for each message and state of the agent; runs end, for their schedules come again.
    pub(super) async fn wait_for_change(
        &mut self,
        reason: &str,
        stamp: &str,
        snapshot: &BoxSnapshot,
        now: UnixMillis,
    ) -> Result<(), Trouble> {
        let due = |message: &&PendingMessage| {
            message.trigger && message.process_after.is_none_or(|due| due <= now)
        };
        let (runs, others): (Vec<_>, Vec<_>) =
            snapshot.pending.iter().filter(due).partition(|message| message.of_run);
        let mut told = HashSet::new();
        for message in others.into_iter().rev() {
            let address = address_of_origin(&message.origin, &self.reply_address);
            if told.insert(address.clone()) {
                let cause = format!("broken:{stamp}:{}", message.id);
                let text = format!(
                    "I cannot answer at the moment: {}. Your message is kept, and I will answer it \
                     once that is mended.",
                    reason.trim_end_matches('.')
                );
                self.notify_person(Notice::held(cause, address, text, now)).await?;
            }
        }
        let failure = Failure::permanent(Failure::AGENT_BROKEN, reason);
        let end = |run: &PendingMessage| Action::Fail {
            message: run.id.clone(),
            attempt: run.tries,
            failure: failure.clone(),
        };
        let actions: Vec<_> = runs.into_iter().map(end).collect();
        if !actions.is_empty() {
            let changes = Changes { actions, cursor: snapshot.cursor, ..Changes::default() };
            self.apply(changes, now).await?;
            self.core.run_moved();
            self.look_once_more();
        }
        if self.record.failed_starts == 0 {
            let error = Some(reason.to_owned());
            let trouble = StartTrouble { failed_starts: 1, start_after: None, error };
            self.core.parts.store.sessions().record_end(self.id, &trouble).await?;
            self.record.failed_starts = 1;
        }
        Ok(())
    }
}
