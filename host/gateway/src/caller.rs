//! Who asks: one session, for as long as one of its containers lives.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use twobox_shared::agent_config::ModelName;
use twobox_shared::ids::{AgentGroupId, SessionId};
use twobox_store::usage::Limit;
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

use crate::body::{self, BODY_MAX};
use crate::pace::Pace;

/// How many requests a session may have under way. Those beyond wait for their turn.
const TURNS_MAX: usize = 8;

/// Says what the agent may use in a day, now. It may look at files.
pub type Allowance = Arc<dyn Fn() -> Limit + Send + Sync>;

/// Who asks.
pub struct Caller {
    /// The session.
    pub session: SessionId,
    /// Its agent.
    pub agent: AgentGroupId,
    /// What its requests have to give as their credential.
    pub key: String,
    /// The models that it may ask.
    pub models: Arc<[ModelName]>,
    allowance: Allowance,
    /// For the bodies that it has under way.
    pub(crate) room: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    pace: Arc<Mutex<Pace>>,
}

impl Caller {
    /// A session of `agent` that may ask `models` for as much as `allowance` says.
    pub fn new(
        session: SessionId,
        agent: AgentGroupId,
        key: String,
        models: Vec<ModelName>,
        allowance: Allowance,
    ) -> Self {
        let (models, room) = (models.into(), body::room(BODY_MAX));
        let (turns, pace) = (Semaphore::new(TURNS_MAX), Mutex::new(Pace::new(Instant::now())));
        let (turns, pace) = (Arc::new(turns), Arc::new(pace));
        Self { session, agent, key, models, allowance, room, turns, pace }
    }

    /// Whether it may make one more request at `now`, or asks too fast.
    pub(crate) fn may_come(&self, now: Instant) -> bool {
        lock(&self.pace).take(now)
    }

    /// Waits until it has few enough requests under way. This one is, until what is returned is dropped.
    pub(crate) async fn turn(&self) -> OwnedSemaphorePermit {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        turn.expect("nobody closes it")
    }

    /// What its agent may use in a day, as it is now.
    pub(crate) async fn limit(&self) -> Limit {
        let allowance = Arc::clone(&self.allowance);
        blocking(move || allowance()).await
    }

    /// Whether it may ask `model` of `upstream`.
    pub fn may_ask(&self, upstream: &str, model: &str) -> bool {
        self.models.iter().any(|it| it.upstream() == upstream && it.model() == model)
    }
}

impl fmt::Debug for Caller {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session, agent, models, .. } = self;
        f.debug_struct("Caller")
            .field("session", session)
            .field("agent", agent)
            .field("models", models)
            .finish_non_exhaustive()
    }
}
