//! Agents that a model answers, and which of them no budget in USD bounds.

use twobox_config::Config;
use twobox_gateway::settings::Upstreams;
use twobox_runtime::Profile;
use twobox_shared::agent_config::{ModelName, Provider};
use twobox_store::agents::AgentGroup;
use twobox_system::data::DataDir;

/// An agent that a model answers.
pub(crate) struct Agent {
    /// Its name.
    pub(crate) name: String,
    /// What answers for it, by models.
    pub(crate) provider: Provider,
    /// Whether it has a budget in USD.
    has_budget: bool,
}

/// Those of `known` that a model answers. What cannot be read is told of elsewhere.
pub(crate) fn agents(known: Vec<AgentGroup>, data: &DataDir, config: &Config) -> Vec<Agent> {
    let agent = |agent: AgentGroup| {
        let path = data.agent_config(&agent.folder);
        let profile = Profile::load(&path, &config.containers).ok()?;
        let has_budget = profile.budget.usd_per_day.or(profile.budget.usd_per_run).is_some();
        let provider = profile.agent.provider;
        (!provider.models().is_empty()).then_some(Agent { name: agent.name, provider, has_budget })
    };
    known.into_iter().filter_map(agent).collect()
}

/// The models of `agents` that have a budget in USD and no price, so that it does not bound them; `None` if
/// there are none.
pub(crate) fn unbounded(agents: &[Agent], upstreams: &Upstreams) -> Option<String> {
    let is_priced = |model: &ModelName| {
        let upstream = upstreams.get(model.upstream());
        upstream.is_none_or(|it| it.model(model.model()).prices.is_some())
    };
    let found: Vec<String> = agents
        .iter()
        .filter(|agent| agent.has_budget || upstreams.limit.nano_usd.is_some())
        .flat_map(|agent| agent.provider.models().iter().map(move |model| (agent, model)))
        .filter(|(_, model)| !is_priced(model))
        .map(|(agent, model)| format!("{}: {model} has no price", agent.name))
        .collect();
    (!found.is_empty()).then(|| format!("{}, so no budget in USD bounds it", found.join("; ")))
}

/// What helps against it.
pub(crate) const HELP: &str =
    "set input_usd and output_usd in its section, or a budget in tokens (docs/gateway.md)";
