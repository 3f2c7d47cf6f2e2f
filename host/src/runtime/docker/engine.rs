//! Asking the engine, with a deadline on every question. An engine that is absent, slow or being
//! replaced is [`RuntimeError::Unavailable`] and nothing worse.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, ContainerSummary};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use twobox_shared::ids::InstallId;

use super::NAME;
use super::body::INSTALL_LABEL;
use crate::runtime::RuntimeError;

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
}

impl Engine {
    pub(super) fn new(install: InstallId, socket: &str) -> Self {
        Self { install, socket: socket.into(), client: Arc::default() }
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
        // Clones share the version.
        self.within(QUICK, client.clone().negotiate_version()).await?;
        Ok(client)
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

    /// Our containers, running or not, that carry `label` too if one is given.
    pub(super) async fn containers(
        &self,
        label: Option<String>,
    ) -> Result<Vec<ContainerSummary>, RuntimeError> {
        let ours = format!("{INSTALL_LABEL}={}", self.install);
        let labels: Vec<String> = [Some(ours), label].into_iter().flatten().collect();
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        self.within(QUICK, self.client().await?.list_containers(Some(options))).await
    }

    /// What the engine knows of a container; `None` if it knows none of this id.
    pub(super) async fn inspect(
        &self,
        id: &str,
    ) -> Result<Option<ContainerInspectResponse>, RuntimeError> {
        let question = self.client().await?.inspect_container(id, None::<InspectContainerOptions>);
        match self.answer(QUICK, question).await? {
            Ok(found) => Ok(Some(found)),
            Err(error) if status(&error) == 404 => Ok(None),
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

/// Whether a process of the container may live. An engine that does not say is not believed.
pub(super) fn runs(found: &ContainerInspectResponse) -> bool {
    found.state.as_ref().and_then(|state| state.running).unwrap_or(true)
}

/// The status of an answer that refuses; 0 if it is another error.
pub(super) fn status(error: &Error) -> u16 {
    match error {
        Error::DockerResponseServerError { status_code, .. } => *status_code,
        _ => 0,
    }
}
