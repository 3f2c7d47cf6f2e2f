//! The session's way to models: a socket that is there while its container lives.

use std::sync::Arc;

use twobox_gateway::{Door, price};
use twobox_runtime::Profile;
use twobox_shared::agent_config::AgentConfig;
use twobox_system::blocking::blocking;
use twobox_system::repeat::warned;

use super::task::Task;

/// Whether the container that lives has a way to models.
#[derive(Debug)]
pub(crate) enum Way {
    /// It was told of none.
    None,
    /// Its socket is served until this is dropped.
    Open(#[expect(dead_code, reason = "it is held to be dropped")] Door),
    /// It was told of one, and the socket could not be made: that is tried again.
    Shut,
}

impl Task {
    /// Opens the way that the runner was told of in its configuration, which only the host writes.
    pub(super) async fn open_way(&self) -> Way {
        let (boxes, core, agent) =
            (Arc::clone(&self.boxes), Arc::clone(&self.core), self.record.agent_group);
        let source = self.core.parts.data.agent_config(&self.record.agent_folder);
        let id = self.id;
        // Opened inside tokio, which the threads for blocking work belong to.
        let opened = blocking(move || {
            let told = AgentConfig::load(&boxes.paths().agent_config()).ok()?.gateway?;
            let profile = Profile::load(&source, &core.parts.config.containers).ok();
            let budget = profile.map(|profile| profile.budget).unwrap_or_default();
            let limit = price::limit(budget.usd_per_day, budget.tokens_per_day);
            let socket = boxes.paths().gateway_socket();
            Some(core.parts.gateway.open(id, agent, &told, limit, &socket))
        });
        match opened.await {
            None => Way::None,
            Some(Ok(door)) => Way::Open(door),
            Some(Err(error)) => {
                if let Some(before) = warned("gateway.open", &error.to_string()) {
                    tracing::warn!(session = %self.id, %error, before,
                        "the way to models could not be opened");
                }
                Way::Shut
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
