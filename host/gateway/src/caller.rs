//! Who asks: one session, for as long as one of its containers lives.

use std::sync::Arc;

use tokio::sync::Semaphore;
use twobox_shared::agent_config::ModelName;
use twobox_shared::ids::{AgentGroupId, SessionId};
use twobox_store::usage::Limit;

use crate::body::{self, BODY_MAX};

/// Who asks.
#[derive(Debug)]
pub struct Caller {
    /// The session.
    pub session: SessionId,
    /// Its agent.
    pub agent: AgentGroupId,
    /// What its requests have to give as their credential.
    pub key: String,
    /// The models that it may ask.
    pub models: Vec<ModelName>,
    /// What its agent may use in a day.
    pub limit: Limit,
    /// For the bodies that it has under way.
    pub(crate) room: Arc<Semaphore>,
}

impl Caller {
    /// A session of `agent` that may ask `models`.
    pub fn new(
        session: SessionId,
        agent: AgentGroupId,
        key: String,
        models: Vec<ModelName>,
        limit: Limit,
    ) -> Self {
        Self { session, agent, key, models, limit, room: body::room(BODY_MAX) }
    }

    /// Whether it may ask `model` of `upstream`.
    pub fn may_ask(&self, upstream: &str, model: &str) -> bool {
        self.models.iter().any(|it| it.upstream() == upstream && it.model() == model)
    }
}
