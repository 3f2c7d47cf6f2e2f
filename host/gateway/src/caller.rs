//! Who asks: one session, for as long as one of its containers lives.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use twobox_model::egress::Egress;
use twobox_shared::agent_config::{ModelName, Provider, Remote};
use twobox_shared::ids::{AgentGroupId, SessionId};
use twobox_store::usage::Limit;
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;
use twobox_system::repeat::Repeats;

use crate::body::{self, BODY_MAX};
use crate::egress::TUNNELS_MAX;
use crate::pace::Pace;

/// How many requests a session may have under way. Those beyond wait for their turn.
const TURNS_MAX: usize = 8;

/// How many names a session may have looked up at once.
const LOOKUPS_MAX: usize = 4;

/// What an agent may do.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    /// What it may use in a day.
    pub limit: Limit,
    /// What a run may cost, in nano-USD; `None` is no limit.
    pub run: Option<i64>,
    /// What it may reach of the network.
    pub egress: Arc<Egress>,
    /// Whether what its models answer is recorded.
    pub records: bool,
    /// The servers of MCP that the host asks for it.
    pub servers: Arc<BTreeMap<String, Remote>>,
}

impl Allowed {
    /// The servers of MCP that the host asks for an agent with `provider`, by their names.
    pub fn servers_of(provider: &Provider) -> Arc<BTreeMap<String, Remote>> {
        let servers = provider.remote_servers();
        Arc::new(servers.map(|(name, remote)| (name.to_owned(), remote.clone())).collect())
    }
}

/// What a session's requests depend on, anew for each of them.
pub trait Terms: Send + Sync {
    /// What the agent may do now. It may look at files.
    fn allowed(&self) -> Allowed;

    /// Where what its models answer is recorded.
    fn recording(&self) -> Option<PathBuf> {
        None
    }

    /// Waits until the host has seen what the container had done by now: it may have ended a run, whose budget
    /// is not that of what it asks for next.
    fn taken_in(&self) -> TakenIn {
        Box::pin(std::future::ready(true))
    }
}

/// A wait for the host, and whether it has seen it.
pub type TakenIn = Pin<Box<dyn Future<Output = bool> + Send>>;

impl<F: Fn() -> Allowed + Send + Sync> Terms for F {
    fn allowed(&self) -> Allowed {
        self()
    }
}

/// Says what the agent may do.
pub type Allowance = Arc<dyn Terms>;

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
    pub(crate) allowance: Allowance,
    /// For the bodies that it has under way.
    pub(crate) room: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    tunnels: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    pace: Arc<Mutex<Pace>>,
    /// What was said of the hosts that it reached, and of those that it may not. Containers name them: in the
    /// table of the host's own warnings, or in each other's, they would crowd out the rest.
    pub(crate) reached: Repeats,
    pub(crate) refused: Repeats,
}

impl Caller {
    /// A session of `agent` that may ask `models`, and do what `allowance` says.
    pub fn new(
        session: SessionId,
        agent: AgentGroupId,
        key: String,
        models: Vec<ModelName>,
        allowance: Allowance,
    ) -> Self {
        let (models, room) = (models.into(), body::room(BODY_MAX));
        let [turns, tunnels, lookups] =
            [TURNS_MAX, TUNNELS_MAX, LOOKUPS_MAX].map(|most| Arc::new(Semaphore::new(most)));
        let pace = Arc::new(Mutex::new(Pace::new(Instant::now())));
        let (reached, refused) = <(Repeats, Repeats)>::default();
        Self {
            session,
            agent,
            key,
            models,
            allowance,
            room,
            turns,
            tunnels,
            lookups,
            pace,
            reached,
            refused,
        }
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

    /// One more tunnel, until what is returned is dropped; `None` if it has as many as it may.
    pub(crate) fn tunnel(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.tunnels).try_acquire_owned().ok()
    }

    /// How many more it may have.
    pub(crate) fn tunnels_left(&self) -> usize {
        self.tunnels.available_permits()
    }

    /// Waits until it may have one more name looked up.
    pub(crate) async fn lookup(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.lookups).acquire_owned().await.expect("nobody closes it")
    }

    /// What its agent may do, as it is now.
    pub(crate) async fn allowed(&self) -> Allowed {
        let allowance = Arc::clone(&self.allowance);
        blocking(move || allowance.allowed()).await
    }

    /// Whether any of its agent's models is of `upstream`.
    pub(crate) fn knows(&self, upstream: &str) -> bool {
        self.models.iter().any(|it| it.upstream() == upstream)
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
