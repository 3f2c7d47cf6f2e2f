//! What the rest of the host sees: which way an agent has to models, and the socket of a session.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use twobox_config::Config;
use twobox_model::egress::Egress;
use twobox_shared::agent_config::{self as agent, Api, Provider, Route};
use twobox_shared::clock::Clock;
use twobox_shared::ids::{AgentGroupId, SessionId};
use twobox_slots::zone::{UnknownZone, Zone};
use twobox_store::Store;
use twobox_system::data::DataDir;

use crate::caller::{Allowance, Caller};
use crate::door::Door;
use crate::ledger::Ledger;
use crate::proxy::Proxy;
use crate::recording::Replay;
use crate::refusal::Why;
use crate::secrets::{Secret, Secrets};
use crate::settings::{SettingsError, Upstreams};

/// How many random bytes a session's key has.
const KEY_BYTES: usize = 24;

/// The gateway of a host.
pub struct Gateway {
    proxy: Arc<Proxy>,
}

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// An upstream is set wrongly.
    #[error("twobox.toml: {0}")]
    Settings(#[from] SettingsError),
    /// The zone in which the days of budgets turn is none.
    #[error("twobox.toml: schedule.timezone: {0}")]
    Zone(#[from] UnknownZone),
}

/// Why an upstream does not tell which models it offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unoffered {
    /// In words for people, its own where it has some.
    pub reason: String,
    /// Whether it is the key that it does not take, so that another one may help.
    pub is_of_the_key: bool,
}

impl Upstreams {
    /// The ways to the models of `provider`; `None` for one that asks none.
    ///
    /// # Errors
    /// As of [`Gateway::way`].
    pub fn routes(&self, provider: &Provider) -> Result<Option<Vec<Route>>, String> {
        let route = |name| self.route(name).map_err(|reason| format!("provider.model: {reason}"));
        let routes: Vec<Route> = match provider.models() {
            [] => return Ok(None),
            models => models.iter().map(route).collect::<Result<_, _>>()?,
        };
        let wrong = |wanted: Api| routes.iter().find(|route| route.api != wanted);
        match provider {
            Provider::Claude(_) if let Some(route) = wrong(Api::Messages) => Err(format!(
                "provider.model: Claude Code speaks Anthropic's Messages, and the upstream of {} does \
                 not: take a model of one whose api is \"messages\"",
                route.name
            )),
            Provider::Codex(_) if let Some(route) = wrong(Api::Responses) => Err(format!(
                "provider.model: codex speaks OpenAI's Responses, and the upstream of {} does not: take a \
                 model of one whose api is \"responses\"",
                route.name
            )),
            _ => Ok(Some(routes)),
        }
    }
}

impl Gateway {
    /// The gateway of the installation in `data`, whose command has `environment`.
    ///
    /// # Errors
    /// [`GatewayError`].
    pub fn of(
        config: &Config,
        data: &DataDir,
        environment: &BTreeMap<String, String>,
        store: Store,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, GatewayError> {
        let upstreams = Upstreams::read(config)?;
        let zone: Zone = config.schedule.timezone.parse()?;
        let ledger = Ledger::new(store, clock, zone, upstreams.limit);
        let secrets = Secrets::new(data.secrets(), environment);
        Ok(Self::new(Proxy::new(upstreams, secrets, ledger)))
    }

    /// The gateway whose requests go through `proxy`.
    pub fn new(proxy: Proxy) -> Self {
        Self { proxy: Arc::new(proxy) }
    }

    /// The way that a runner of an agent with `provider` is told, which may reach something of the network
    /// if there is `egress`, with a key of its own; `None` for one that needs none.
    ///
    /// # Errors
    /// A sentence that names the field of the agent's configuration and says what to do.
    pub fn way(
        &self,
        provider: &Provider,
        egress: &Egress,
    ) -> Result<Option<agent::Gateway>, String> {
        let (routes, egress) = (self.routes(provider)?, !egress.is_empty());
        let routes = routes.or_else(|| egress.then(Vec::new));
        let servers = provider.hosted_servers();
        Ok(routes.map(|routes| agent::Gateway { key: fresh_key(), routes, egress, servers }))
    }

    /// The ways to the models of `provider`; `None` for one that asks none.
    ///
    /// # Errors
    /// As of [`Gateway::way`].
    pub fn routes(&self, provider: &Provider) -> Result<Option<Vec<Route>>, String> {
        self.proxy.upstreams().routes(provider)
    }

    /// The names of the models that `upstream` offers to whoever has the host's key, or `key` in its place,
    /// which costs nothing.
    ///
    /// # Errors
    /// Why it does not tell them.
    pub async fn offered(
        &self,
        upstream: &str,
        key: Option<&Secret>,
    ) -> Result<Vec<String>, Unoffered> {
        self.proxy.offered(upstream, key).await.map_err(|refusal| Unoffered {
            is_of_the_key: refusal.why == Why::NotYours,
            reason: refusal.detail,
        })
    }

    /// Answers from `replay` from now on: no upstream is asked, nothing is reserved, and no key is needed.
    pub fn replay(&self, replay: Replay) {
        self.proxy.replay(replay);
    }

    /// Of each upstream that has answered, whether it took the host's key when it was asked last.
    pub fn keys(&self) -> BTreeMap<String, bool> {
        self.proxy.keys()
    }

    /// The upstreams, and what is known of them.
    pub fn upstreams(&self) -> &Upstreams {
        self.proxy.upstreams()
    }

    /// Serves `session` of `agent`, whose runner was told `way`, at `socket`, until the door is dropped. What
    /// it may use in a day and reach of the network `allowance` says anew for each request. Has to be called inside tokio.
    ///
    /// # Errors
    /// The system's reason.
    pub fn open(
        &self,
        session: SessionId,
        agent: AgentGroupId,
        way: &agent::Gateway,
        allowance: Allowance,
        socket: &Path,
    ) -> io::Result<Door> {
        let models = way.routes.iter().map(|route| route.name.clone()).collect();
        let caller = Caller::new(session, agent, way.key.clone(), models, allowance);
        Door::open(Arc::clone(&self.proxy), caller, socket)
    }
}

fn fresh_key() -> String {
    let mut bytes = [0; KEY_BYTES];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    assert_eq!(filled, Ok(KEY_BYTES), "the kernel gives that many at once");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
