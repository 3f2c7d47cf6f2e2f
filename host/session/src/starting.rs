//! The start of a session's container: whether there may be one now, what it is given, and the record of it
//! that comes first.

use std::sync::Arc;

use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::RunnerId;
use twobox_shared::inbox::{Destination, Origin};
use twobox_shared::time::UnixMillis;

use super::boxes::BoxSnapshot;
use super::container::Container;
use super::decide;
use super::door::Way;
use super::fit::Unfit;
use super::limits::Vitals;
use super::mark::Mark;
use super::signal::Reason;
use super::stamp;
use super::task::{Task, Trouble};
use crate::admission::Class;
use crate::allowance;
use crate::watch;
use twobox_runtime::{AgentFolders, Incarnation, Profile, RuntimeError, StartSpec};
use twobox_store::sessions::DUE_NOW;
use twobox_system::blocking::blocking;

impl Task {
    /// Starts a container, if there is a place for one. Everything that a crash could leave behind
    /// is recorded first.
    pub(crate) async fn start(
        &mut self,
        class: Class,
        snapshot: &BoxSnapshot,
        now: UnixMillis,
    ) -> Result<(), Trouble> {
        if self.closing || self.core.is_stopping() || self.record.quarantine.is_some() {
            return Ok(());
        }
        if let Some(after) = decide::start_waits(self.record.start_after, now) {
            self.look_in(after.since(now));
            return Ok(());
        }
        let (group, id) = (self.record.agent_group, self.id);
        // The last word before a start: somebody may have removed it a moment ago.
        if self.core.parts.store.sessions().agent_removed(id).await? {
            self.core.release_place(id);
            self.handle.signal.raise(Reason::Runtime);
            return Ok(());
        }
        let stamp = stamp::of(&self.core, &self.record.agent_folder).await;
        let broken = stamp.as_ref().and_then(|stamp| self.core.broken.why(group, stamp, id));
        if let (Some(reason), Some(stamp)) = (broken, &stamp) {
            self.core.release_place(id);
            return self.wait_for_change(&reason, stamp, snapshot, now).await;
        }
        if !self.core.request_place(id, self.record.seat(self.asker), class) {
            return Ok(()); // it is told when there is one
        }
        self.watch_outbox().await;
        self.project_routing().await?;
        let furnished = self.furnish(stamp.clone()).await;
        if let (Err(Unfit::Broken(reason)), Some(stamp)) = (&furnished, &stamp) {
            let folder = &self.record.agent_folder;
            self.core.agent_is_broken(group, None, id, folder, stamp.clone(), reason.clone());
            self.core.release_place(id);
            return self.wait_for_change(reason, stamp, snapshot, now).await;
        }
        self.start_with(furnished, stamp, now).await
    }

    /// Records a start and makes it, with what it is `furnished` with. Where that failed, so has the start.
    async fn start_with(
        &mut self,
        furnished: Result<(AgentFolders, Profile), Unfit>,
        stamp: Option<String>,
        now: UnixMillis,
    ) -> Result<(), Trouble> {
        let core = Arc::clone(&self.core);
        let runner = RunnerId::generate(&*core.parts.ids);
        core.parts.store.sessions().record_start(self.id, runner, now).await?;
        self.record.runner = Some(runner);
        self.record.stop_cause = None;
        self.mark = Mark::Known(Some(DUE_NOW));
        fault::point(CrashPoint::HostStartRecorded);
        // What a predecessor left is no sign of life of this one.
        let vitals = Vitals::new(runner, core.parts.clock.monotonic(), self.boxes.heartbeat());
        let mut way = Way::None;
        let started = match furnished {
            Ok((agent, profile)) => {
                self.budget_held.begin(self.core.limits(allowance::of(&profile).limit));
                way = self.open_way_of(&profile).await; // it may ask as soon as it lives
                let spec = self.start_spec(runner, agent, profile);
                self.while_accepting(core.parts.runtime.start(&spec)).await
            }
            Err(Unfit::Broken(reason) | Unfit::Trouble(reason)) => {
                Err(RuntimeError::Start { reason })
            }
        };
        match started {
            Ok(()) => {
                fault::point(CrashPoint::HostStartDone);
                tracing::info!(session = %self.id, %runner, "started a container");
                self.container =
                    Some(Container { vitals, acked: false, started_at: Some(now), stamp, way });
                self.handle.signal.raise(Reason::Due); // its limits need a first look
                Ok(())
            }
            Err(RuntimeError::Start { reason }) => self.end_of(runner, Some(reason)).await,
            Err(error @ RuntimeError::Occupied { .. }) => {
                self.end_of(runner, Some(error.to_string())).await
            }
            Err(error) => {
                self.runtime_trouble(&error); // it may have started the container all the same
                Ok(())
            }
        }
    }

    fn start_spec(&self, runner: RunnerId, agent: AgentFolders, profile: Profile) -> StartSpec {
        let parts = &self.core.parts;
        StartSpec {
            incarnation: Incarnation { session: self.id, runner },
            folder: parts.data.session_folder(self.record.agent_group, self.id),
            agent,
            profile,
            idle: parts.config.containers.idle,
            grace: parts.config.containers.stop_grace,
            heartbeat: parts.config.limits.heartbeat,
            poll: parts.watch.is_none().then_some(watch::POLL),
            durability: parts.config.durability,
        }
    }

    async fn project_routing(&mut self) -> Result<(), Trouble> {
        let agent = self.record.agent_group;
        let addresses = self.core.parts.store.wirings().addresses_of(agent).await?;
        let destinations: Vec<Destination> = addresses
            .into_iter()
            .map(|address| Destination {
                name: address.name,
                channel_type: address.channel_type,
                platform_id: address.platform_id,
            })
            .collect();
        self.outgoing.allow(&destinations);
        let reply_address = Origin {
            channel_type: Some(self.reply_address.channel_type.clone()),
            platform_id: Some(self.reply_address.platform_id.clone()),
            thread_id: self.reply_address.thread_id.clone(),
        };
        let mut destinations = destinations;
        destinations.sort_by(|a, b| a.name.cmp(&b.name)); // as the inbox lists them
        let boxes = Arc::clone(&self.boxes);
        blocking(move || boxes.project_routing(&reply_address, &destinations)).await?;
        Ok(())
    }
}
