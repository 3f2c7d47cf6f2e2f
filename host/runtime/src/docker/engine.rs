//! Asking the engine, with a deadline on every question. An engine that is absent, slow or being
//! replaced is [`RuntimeError::Unavailable`] and nothing worse.

use std::collections::HashMap;
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum as Status, ContainerSummary,
};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use twobox_shared::ids::InstallId;

use super::NAME;
use super::body::INSTALL_LABEL;
use super::facts::Facts;
use super::words;
use crate::RuntimeError;
use twobox_system::lock::lock;

/// How long the engine may take to answer a simple question.
pub(super) const QUICK: Duration = Duration::from_secs(10);
/// How long a container may take to be gone after the engine was told to end it.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// The client's own deadline, in seconds. It only has to be longer than all of ours.
const CLIENT_TIMEOUT: u64 = 24 * 60 * 60;

/// One engine, which may come and go. Clones share the connection.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    pub(super) install: InstallId,
    pub(super) socket: Arc<str>,
    /// Made when the socket exists for the first time, with the version that both sides speak.
    client: Arc<OnceCell<bollard::Docker>>,
    /// What it said of itself; forgotten when it may be another one.
    facts: Arc<Mutex<Option<Facts>>>,
}

impl Engine {
    pub(super) fn new(install: InstallId, socket: &str) -> Self {
        Self { install, socket: socket.into(), client: Arc::default(), facts: Arc::default() }
    }

    /// The client, connected and agreed on a version.
    pub(super) async fn client(&self) -> Result<&bollard::Docker, RuntimeError> {
        let connect = async {
            let latest = bollard::API_DEFAULT_VERSION;
            let client = bollard::Docker::connect_with_unix(&self.socket, CLIENT_TIMEOUT, latest);
            let client = client.map_err(|error| self.unavailable(&error.to_string()))?;
            self.within(QUICK, client.negotiate_version()).await
        };
        self.client.get_or_try_init(|| connect).await
    }

    /// As [`Engine::client`], after asking for the version again: the engine may be another one.
    pub(super) async fn renegotiate(&self) -> Result<&bollard::Docker, RuntimeError> {
        let client = self.client().await?;
        *lock(&self.facts) = None;
        // Clones share the version.
        self.within(QUICK, client.clone().negotiate_version()).await?;
        Ok(client)
    }

    /// What kind of engine it is.
    pub(super) async fn facts(&self) -> Result<Facts, RuntimeError> {
        // Never held while the engine is asked: nobody waits for somebody else's answer.
        let known = || lock(&self.facts);
        if let Some(facts) = &*known() {
            return Ok(facts.clone());
        }
        let client = self.client().await?;
        let version = self.within(QUICK, client.version()).await?;
        let info = self.within(QUICK, client.info()).await?;
        let owner = std::fs::metadata(&*self.socket).map(|meta| meta.uid()).ok();
        Ok(known().insert(Facts::of(version, info.security_options, owner)).clone())
    }

    /// The answer to a question, within `limit`; every failure means that nothing is known.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        question: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, RuntimeError> {
        self.answer(limit, question).await?.map_err(|error| self.unavailable(&error.to_string()))
    }

    /// As [`Engine::within`], but what the engine itself refuses is left to the caller.
    pub(super) async fn answer<T>(
        &self,
        limit: Duration,
        question: impl Future<Output = Result<T, Error>>,
    ) -> Result<Result<T, Error>, RuntimeError> {
        match tokio::time::timeout(limit, question).await {
            Ok(Ok(answer)) => Ok(Ok(answer)),
            Ok(Err(refusal @ Error::DockerResponseServerError { .. })) => Ok(Err(refusal)),
            Ok(Err(error)) => Err(self.unavailable(&error.to_string())),
            Err(_) => Err(self.unavailable(&format!("no answer within {} s", limit.as_secs()))),
        }
    }

    /// The containers with our id, running or not, that carry `label` too if one is given.
    pub(super) async fn containers(
        &self,
        label: Option<String>,
    ) -> Result<Vec<ContainerSummary>, RuntimeError> {
        let ours = format!("{INSTALL_LABEL}={}", self.install);
        let labels: Vec<String> = [Some(ours), label].into_iter().flatten().collect();
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let client = self.client().await?;
        let listed = client.list_containers(Some(options));
        self.within(QUICK, async { words::of_docker(listed.await) }).await
    }

    /// What the engine knows of a container; `None` if it knows none of this id.
    pub(super) async fn inspect(
        &self,
        id: &str,
    ) -> Result<Option<ContainerInspectResponse>, RuntimeError> {
        let question = self.client().await?.inspect_container(id, None::<InspectContainerOptions>);
        match self.answer(QUICK, async { words::of_docker(question.await) }).await? {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.unavailable(&error.to_string())),
        }
    }

    /// Whether the container has ended, or ends within a short while.
    pub(super) async fn await_end(&self, id: &str) -> Result<bool, RuntimeError> {
        self.await_state(id, |found| found.is_none_or(|found| !runs(found))).await
    }

    /// Whether the container is gone, or goes within a short while.
    pub(super) async fn await_removal(&self, id: &str) -> Result<bool, RuntimeError> {
        self.await_state(id, |found| found.is_none()).await
    }

    /// Whether a container of this name shows itself within a short while: its creation may be under
    /// way.
    pub(super) async fn await_sight(&self, name: &str) -> Result<bool, RuntimeError> {
        self.await_state(name, |found| found.is_some()).await
    }

    async fn await_state(
        &self,
        id: &str,
        reached: impl Fn(Option<&ContainerInspectResponse>) -> bool,
    ) -> Result<bool, RuntimeError> {
        let deadline = Instant::now() + END_PATIENCE;
        loop {
            if reached(self.inspect(id).await?.as_ref()) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(super) fn unavailable(&self, reason: &str) -> RuntimeError {
        RuntimeError::Unavailable { runtime: NAME, reason: format!("{}: {reason}", self.socket) }
    }
}

/// Whether a process of the container may live: if the engine says so, shows a process of it, or
/// calls it anything but created, exited or dead. Podman says `Running: false` of one that is being
/// stopped and works on. An engine that does not say is not believed.
pub(super) fn runs(found: &ContainerInspectResponse) -> bool {
    let Some(state) = &found.state else { return true };
    let over = match state.status {
        Some(Status::CREATED | Status::EXITED | Status::DEAD) => true,
        // The engine has no word for it: then the rest has to do.
        Some(Status::EMPTY) | None => state.running == Some(false),
        Some(
            Status::RUNNING
            | Status::PAUSED
            | Status::RESTARTING
            | Status::REMOVING
            | Status::STOPPING,
        ) => false,
    };
    !over || state.running == Some(true) || state.pid.is_some_and(|pid| pid > 0)
}

/// Whether somebody removes the container, which is then gone soon.
pub(super) fn is_going(found: &ContainerInspectResponse) -> bool {
    found
        .state
        .as_ref()
        .is_some_and(|state| state.status == Some(Status::REMOVING) && state.running != Some(true))
}

/// Whether an answer says that another container has the name: 409, and in Podman before 2026 500.
pub(super) fn is_name_conflict(error: &Error) -> bool {
    match error {
        Error::DockerResponseServerError { status_code: 409, .. } => true,
        Error::DockerResponseServerError { status_code: 500, message } => {
            message.contains("already in use")
        }
        _ => false,
    }
}

/// Whether an answer says that there is no such container: 404, and in Podman 500 if somebody removed
/// it while the engine looked.
pub(super) fn is_missing(error: &Error) -> bool {
    match error {
        Error::DockerResponseServerError { status_code: 404, .. } => true,
        Error::DockerResponseServerError { status_code: 500, message } => {
            message.contains("no such container")
        }
        _ => false,
    }
}

/// The status of an answer that refuses; 0 if it is another error.
pub(super) fn status(error: &Error) -> u16 {
    match error {
        Error::DockerResponseServerError { status_code, .. } => *status_code,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ContainerState;

    use super::*;

    #[test]
    fn alive_is_whatever_is_not_surely_over() {
        let cases = [
            ("Docker, running", Some(Status::RUNNING), Some(true), Some(7), true),
            ("Podman, being stopped", Some(Status::STOPPING), Some(false), Some(7), true),
            (
                "being stopped, without a process",
                Some(Status::STOPPING),
                Some(false),
                Some(0),
                true,
            ),
            ("paused", Some(Status::PAUSED), Some(true), Some(7), true),
            ("exited with a process", Some(Status::EXITED), Some(false), Some(7), true),
            ("exited, and running", Some(Status::EXITED), Some(true), None, true),
            ("being removed", Some(Status::REMOVING), Some(false), Some(0), true),
            ("restarting", Some(Status::RESTARTING), Some(false), Some(0), true),
            ("exited", Some(Status::EXITED), Some(false), Some(0), false),
            ("exited, and nothing else is said", Some(Status::EXITED), None, None, false),
            ("created", Some(Status::CREATED), Some(false), Some(0), false),
            ("dead", Some(Status::DEAD), Some(false), Some(0), false),
            ("no word, not running", None, Some(false), Some(0), false),
            ("no word, with a process", Some(Status::EMPTY), Some(false), Some(7), true),
            ("nothing is said", None, None, None, true),
        ];
        for (case, status, running, pid, expected) in cases {
            let state = ContainerState { status, running, pid, ..ContainerState::default() };
            let found = ContainerInspectResponse {
                state: Some(state),
                ..ContainerInspectResponse::default()
            };
            assert_eq!(runs(&found), expected, "{case}");
        }
        assert!(runs(&ContainerInspectResponse::default()), "an engine that says nothing");
    }

    #[test]
    fn what_is_removed_during_the_question_is_missing() {
        let gone = "container 7 does not exist in database: no such container";
        let cases = [
            (404, "no container with name or ID \"x\" found: no such container", true),
            (500, gone, true),
            (500, "container 7 is being removed", false),
            (409, gone, false),
        ];
        for (status_code, message, expected) in cases {
            let error =
                Error::DockerResponseServerError { status_code, message: message.to_owned() };
            assert_eq!(is_missing(&error), expected, "{status_code} {message}");
        }
    }

    #[test]
    fn a_name_that_is_taken_is_recognised_in_both_engines() {
        let cases = [
            (409, "Conflict. The container name \"/x\" is already in use by container 7", true),
            (
                500,
                "creating container storage: the container name \"x\" is already in use by 7",
                true,
            ),
            (500, "crun: unknown error", false),
            (404, "no such image, name already in use or not", false),
        ];
        for (status_code, message, expected) in cases {
            let error =
                Error::DockerResponseServerError { status_code, message: message.to_owned() };
            assert_eq!(is_name_conflict(&error), expected, "{status_code} {message}");
        }
    }
}
