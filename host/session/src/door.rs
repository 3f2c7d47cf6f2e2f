//! The session's way to models: a socket that is there while its container lives.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::oneshot;
use twobox_config::Containers;
use twobox_gateway::{Allowed, Door, TakenIn, Terms};
use twobox_runtime::Profile;
use twobox_shared::agent_config::{AgentConfig, AgentConfigError, Gateway};
use twobox_shared::errors::chain;
use twobox_shared::ids::SessionId;
use twobox_system::blocking::blocking;
use twobox_system::repeat::warned;

use super::command::Command;
use super::task::Task;
use crate::allowance::{self, Allowance};
use crate::core::Core;
use crate::over_budget::BudgetHeld;

/// Whether the container that lives has a way to models.
#[derive(Debug)]
pub(crate) enum Way {
    /// It was told of none.
    None,
    /// Its socket is served until this is dropped.
    Open(#[expect(dead_code, reason = "it is held to be dropped")] Door),
    /// It was told of one, or may have been, and nothing is served there: that is tried again.
    Shut,
}

/// What a runner was told of its way, and what its agent may use there.
struct Told {
    way: Gateway,
    allowance: Allowance,
}

/// What the requests of a session depend on.
struct OfSession {
    allowance: Allowance,
    held: BudgetHeld,
    core: Arc<Core>,
    id: SessionId,
    recording: PathBuf,
}

impl Terms for OfSession {
    fn allowed(&self) -> Allowed {
        let allowed = self.allowance.now();
        self.held.note(self.core.limits(allowed.limit));
        allowed
    }

    fn recording(&self) -> Option<PathBuf> {
        Some(self.recording.clone())
    }

    fn taken_in(&self) -> TakenIn {
        let (core, id) = (Arc::clone(&self.core), self.id);
        Box::pin(async move {
            let (done, is_done) = oneshot::channel();
            core.send(id, Command::TakeIn { done }).await;
            is_done.await.is_ok()
        })
    }
}

impl Task {
    /// Opens the way that a runner with `profile` is told of.
    pub(super) async fn open_way_of(&mut self, profile: &Profile) -> Way {
        let Some(way) = profile.agent.gateway.clone() else { return Way::None };
        let source = self.core.parts.data.agent_config(&self.record.agent_folder);
        let settings = self.core.parts.config.containers.clone();
        let allowance = Allowance::new(source, settings, allowance::of(profile));
        self.serve_way(Told { way, allowance }).await
    }

    /// Opens the way that the runner which lives was told of in its configuration, which only the host
    /// writes.
    pub(super) async fn open_way(&mut self) -> Way {
        let (boxes, core) = (Arc::clone(&self.boxes), Arc::clone(&self.core));
        let source = self.core.parts.data.agent_config(&self.record.agent_folder);
        let read = blocking(move || {
            told(&boxes.paths().agent_config(), &source, &core.parts.config.containers)
        });
        match read.await {
            Ok(None) => Way::None,
            Ok(Some(told)) => self.serve_way(told).await,
            Err(error) => self.shut(&error.to_string()),
        }
    }

    async fn serve_way(&mut self, Told { way, allowance }: Told) -> Way {
        self.may_have_run = true;
        let (boxes, core, agent) =
            (Arc::clone(&self.boxes), Arc::clone(&self.core), self.record.agent_group);
        let (id, held) = (self.id, self.budget_held.clone());
        let recordings = core.parts.data.recordings().join(&self.record.agent_folder);
        let recording = recordings.join(format!("{id}.jsonl"));
        // Opened inside tokio, which the threads for blocking work belong to.
        let opened = blocking(move || {
            let socket = boxes.paths().gateway_socket();
            let terms = OfSession { allowance, held, core: Arc::clone(&core), id, recording };
            core.parts.gateway.open(id, agent, &way, Arc::new(terms), &socket)
        });
        match opened.await {
            Ok(door) => Way::Open(door),
            Err(error) => self.shut(&error.to_string()),
        }
    }

    fn shut(&self, error: &str) -> Way {
        if let Some(before) = warned("gateway.open", error) {
            tracing::warn!(session = %self.id, error, before,
                "the way to models could not be opened, which is tried again");
        }
        Way::Shut
    }

    /// Says that what models cost from now on is of another run, for the host has settled a message. Where that
    /// cannot be said, the next message counts together with this one, which is the stricter reading.
    pub(super) async fn end_run(&mut self) {
        let has_way = self.container.as_ref().is_some_and(|it| !matches!(it.way, Way::None));
        if !self.may_have_run && !has_way {
            return;
        }
        match self.core.parts.store.usage().end_run(self.id).await {
            Ok(_) => self.may_have_run = has_way,
            Err(error) => {
                let error = chain(&error);
                if let Some(before) = warned("gateway.run", &error) {
                    tracing::warn!(session = %self.id, error, before, "the end of a run was not written down");
                }
            }
        }
    }

    /// Opens the way again if that has failed.
    pub(super) async fn mend_way(&mut self) {
        let shut = |way: &Way| matches!(way, Way::Shut);
        if self.container.as_ref().is_some_and(|container| shut(&container.way)) {
            let way = self.open_way().await;
            if let Some(container) = &mut self.container {
                container.way = way;
            }
        }
    }
}

/// What the runner was told whose configuration is at `written`, of an agent whose own is `source`; `None` if
/// it was told of no way. What cannot be read is no way without a limit, and none that there is not.
fn told(
    written: &Path,
    source: &Path,
    settings: &Containers,
) -> Result<Option<Told>, AgentConfigError> {
    let Some(way) = AgentConfig::load(written)?.gateway else { return Ok(None) };
    let allowance = Allowance::load(source.to_owned(), settings.clone())?;
    Ok(Some(Told { way, allowance }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_runner_that_was_told_of_no_way_has_none_and_no_mistake_lifts_a_budget() {
        let dir = tempfile::tempdir().unwrap();
        let (written, source) = (dir.path().join("told.json"), dir.path().join("agent.json"));
        let settings = twobox_config::Config::default().containers;
        let of = |inbox: Option<&str>, agent: Option<&str>| {
            for (file, text) in [(&written, inbox), (&source, agent)] {
                match text {
                    Some(text) => std::fs::write(file, text).unwrap(),
                    None => drop(std::fs::remove_file(file)),
                }
            }
            told(&written, &source, &settings)
                .map(|told| told.map(|it| it.allowance.now().limit.tokens))
        };
        let (way, budget) =
            (r#"{"gateway": {"key": "k", "routes": []}}"#, r#"{"budget": {"tokens_per_day": 7}}"#);
        assert_eq!(of(None, Some(budget)).unwrap(), None, "nothing is written");
        assert_eq!(of(Some("{}"), Some(budget)).unwrap(), None, "no way is written");
        assert!(of(Some("{"), Some(budget)).is_err(), "something is written");
        assert_eq!(of(Some(way), Some(budget)).unwrap(), Some(Some(7)));
        assert!(of(Some(way), Some("{")).is_err(), "a budget that nobody can read");
        assert!(of(Some(way), None).is_err(), "a budget that is gone");
        std::fs::remove_file(&written).unwrap();
        std::fs::create_dir(&written).unwrap();
        assert!(told(&written, &source, &settings).is_err(), "an error of the disk");
    }
}
