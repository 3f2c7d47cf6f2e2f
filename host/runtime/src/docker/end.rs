//! Ending containers, and removing what is left of them.

use std::path::Path;
use std::time::Duration;

use bollard::query_parameters::{
    KillContainerOptions, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
};

use super::engine::{QUICK, is_going, is_missing, runs, status};
use super::{Inner, logs, whole_seconds};
use crate::{Incarnation, RuntimeError};

impl Inner {
    pub(super) async fn stop(
        &self,
        incarnation: Incarnation,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        for container in self.of_incarnation(incarnation).await? {
            let id = container.id.unwrap_or_default();
            if let Err(reason) = self.end(&id, grace).await? {
                return Err(RuntimeError::Stop { session: incarnation.session, reason });
            }
        }
        Ok(())
    }

    /// Ends the processes of a container; within, why some may be left.
    pub(super) async fn end(
        &self,
        id: &str,
        grace: Duration,
    ) -> Result<Result<(), String>, RuntimeError> {
        let client = self.engine.client().await?;
        let seconds = whole_seconds(grace);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or(0)) + QUICK;
        let asked = self.engine.answer(limit, client.stop_container(id, Some(options))).await;
        if asked.is_ok_and(|asked| asked.is_ok()) && self.engine.await_end(id).await? {
            return Ok(Ok(()));
        }
        let killed = client.kill_container(id, None::<KillContainerOptions>);
        let killed = self.engine.answer(QUICK, killed).await?;
        if self.engine.await_end(id).await? {
            return Ok(Ok(()));
        }
        Ok(Err(match killed {
            Err(error) => error.to_string(),
            Ok(()) => "it still runs after SIGKILL".to_owned(),
        }))
    }

    /// Ends a container that does no work and removes it.
    pub(super) async fn end_and_remove(&self, id: &str) -> Result<(), RuntimeError> {
        if self.engine.inspect(id).await?.is_some_and(|found| runs(&found)) {
            self.end(id, Duration::ZERO)
                .await?
                .map_err(|reason| self.engine.unavailable(&reason))?;
        }
        self.remove(id).await
    }

    pub(super) async fn clear(
        &self,
        incarnation: Incarnation,
        log: &Path,
    ) -> Result<(), RuntimeError> {
        for container in self.of_incarnation(incarnation).await? {
            let id = container.id.unwrap_or_default();
            logs::save(&self.engine, &id, log).await?;
            self.remove(&id).await?;
        }
        Ok(())
    }

    /// Removes a container in which nothing lives. Podman would also remove one that is being stopped,
    /// and let its processes live on where nobody finds them.
    pub(super) async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        match self.engine.inspect(id).await? {
            None => return Ok(()),
            Some(found) if is_going(&found) => {
                // Somebody else is at it: the place is free when that is done.
                return match self.engine.await_removal(id).await? {
                    true => Ok(()),
                    false => Err(self.engine.unavailable("it is being removed for too long")),
                };
            }
            Some(found) if runs(&found) => {
                return Err(self
                    .engine
                    .unavailable("a container that should have ended still runs"));
            }
            Some(_) => {}
        }
        let options = RemoveContainerOptionsBuilder::new().v(true).force(false).build();
        let removed = self.engine.client().await?.remove_container(id, Some(options));
        match self.engine.answer(QUICK, removed).await? {
            Ok(()) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            // Somebody else is at it: the place is free when that is done.
            Err(error) if status(&error) == 409 && self.engine.await_removal(id).await? => Ok(()),
            Err(error) => Err(self.engine.unavailable(&error.to_string())),
        }
    }
}
