//! Whether models can be asked: the settings of upstreams, the secrets that they want, what agents need of both,
//! and whether the upstreams answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{FutureExt, join_all};
use tokio::time::timeout;
use twobox_shared::agent_config::ModelName;
use twobox_shared::clock::SystemClock;
use twobox_shared::errors::chain;

use super::{Check, Finding};
use crate::cli::Context;
use crate::cli::models::is_listed;
use crate::cli::output::{count_of, printable};
use crate::unpriced::{self, Agent};
use twobox_config::Config;
use twobox_gateway::secrets::Secrets;
use twobox_gateway::{Gateway, Unoffered};
use twobox_store::Store;
use twobox_store::agents::AgentGroup;
use twobox_system::data::DataDir;

/// How long an upstream may take to tell which models it has.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is to be looked at, where there is anything of it.
pub(super) fn checks(
    data: &DataDir,
    config: &Config,
    environment: &BTreeMap<String, String>,
) -> Vec<Check> {
    let secrets = Secrets::new(data.secrets(), environment);
    let mut checks = Vec::new();
    if data.secrets().symlink_metadata().is_ok() {
        let secrets = secrets.clone();
        checks.push(Check::now("secrets", move || closed(&secrets)));
    }
    // A damaged host.db has a check of its own.
    let Ok(store) = Store::look(&data.host_db()) else { return checks };
    let known = store.agents().list().wait().unwrap_or_default();
    let agents = unpriced::agents(known, data, config);
    if agents.is_empty() && config.gateway.upstreams.is_empty() {
        return checks;
    }
    match Gateway::of(config, data, environment, store, Arc::new(SystemClock)) {
        Err(error) => checks.push(Check::now("models", move || {
            Finding::fail(chain(&error), "mend twobox.toml: the host does not start before")
        })),
        Ok(gateway) => {
            let found = models(&gateway, &secrets, &agents);
            checks.push(Check::now("models", move || found));
            let asked = asked(&gateway, &secrets, &agents);
            if !asked.is_empty() {
                let look = upstreams(gateway, asked).boxed();
                checks.push(Check { name: "upstreams".into(), run: look });
            }
        }
    }
    checks
}

/// What keeps the models and the servers of MCP of one agent from being asked, and what helps, as the settings are.
pub(super) fn one(
    context: &Context,
    data: &DataDir,
    config: &Config,
    (agent, store): (AgentGroup, Store),
) -> Vec<(String, String)> {
    let secrets = Secrets::new(data.secrets(), &context.env);
    let gateway = Gateway::of(config, data, &context.env, store, Arc::new(SystemClock));
    let agents = unpriced::agents(vec![agent], data, config);
    let found =
        gateway.map(|it| agents.iter().flat_map(|agent| lacks(&it, &secrets, agent)).collect());
    found.unwrap_or_default() // what is wrong in the settings is no matter of this agent
}

/// Whether the folder with secrets is this user's alone.
fn closed(secrets: &Secrets) -> Finding {
    match secrets.exposed() {
        Err(error) => Finding::fail(chain(&error), "mend the permissions of the folder"),
        Ok(found) if found.is_empty() => Finding::ok("nobody else can read them"),
        Ok(found) => {
            let found: Vec<String> =
                found.iter().map(|(path, what)| format!("{} {what}", path.display())).collect();
            Finding::warn(
                found.join("; "),
                "`twobox secrets set` makes a file of its own; who may have read a key, has it: take \
                 another",
            )
        }
    }
}

/// Whether what agents ask is set up, and its key is there.
fn models(gateway: &Gateway, secrets: &Secrets, agents: &[Agent]) -> Finding {
    let upstreams = gateway.upstreams();
    let (mut wrong, mut helps) = (Vec::new(), Vec::new());
    for agent in agents {
        for (what, help) in lacks(gateway, secrets, agent) {
            wrong.push(format!("{}: {what}", agent.name));
            helps.push(help);
        }
    }
    helps.dedup();
    match (wrong.is_empty(), unpriced::unbounded(agents, upstreams)) {
        (false, _) => Finding::fail(wrong.join("; "), helps.join("; ")),
        (true, Some(doubtful)) => Finding::warn(doubtful, unpriced::HELP),
        (true, None) => Finding::ok(format!(
            "{} known, with the secrets that agents need",
            count_of(
                upstreams.all().filter(|it| !it.guessed).count(),
                "upstream is",
                "upstreams are"
            )
        )),
    }
}

/// What keeps the models and the servers of MCP of an agent from being asked, and what helps.
fn lacks(gateway: &Gateway, secrets: &Secrets, agent: &Agent) -> Vec<(String, String)> {
    let mut lacks = needs(gateway, secrets, agent);
    for (server, remote) in agent.provider.remote_servers() {
        let user = format!("MCP server {server}");
        let wanted = remote.secrets().into_iter();
        lacks.extend(wanted.filter_map(|secret| is_missing(secrets, secret, &user)));
    }
    lacks
}

/// What keeps the models of an agent from being asked, and what helps.
fn needs(gateway: &Gateway, secrets: &Secrets, agent: &Agent) -> Vec<(String, String)> {
    if let Err(reason) = gateway.routes(&agent.provider) {
        return vec![(reason, format!("`twobox agents edit {}`", agent.name))];
    }
    let need = |model: &ModelName| {
        let upstream = gateway.upstreams().get(model.upstream()).expect("it has a route");
        let name = upstream.secret.as_ref()?;
        is_missing(secrets, name, &format!("upstream {}", upstream.name))
    };
    agent.provider.models().iter().filter_map(need).collect()
}

/// What is wrong with the secret `name`, which `user` wants, and what helps; `None` if it is there.
fn is_missing(secrets: &Secrets, name: &str, user: &str) -> Option<(String, String)> {
    let what = match secrets.find(name) {
        Ok(Some(_)) => return None,
        Ok(None) => format!("the {user} wants the secret {name}, which is nowhere"),
        Err(error) => chain(&error),
    };
    Some((what, format!("`twobox secrets set {name}`")))
}

/// Which models are to be asked for at each upstream, and by whom.
type Asked = BTreeMap<String, Vec<(String, ModelName)>>;

/// What can be asked for as far as is known here.
fn asked(gateway: &Gateway, secrets: &Secrets, agents: &[Agent]) -> Asked {
    let mut asked = Asked::new();
    for agent in agents.iter().filter(|agent| needs(gateway, secrets, agent).is_empty()) {
        for model in agent.provider.models() {
            let those = asked.entry(model.upstream().to_owned()).or_default();
            those.push((agent.name.clone(), model.clone()));
        }
    }
    asked
}

/// Whether the upstreams of agents answer, take the key, and know the models: they are asked for their lists,
/// which costs nothing.
async fn upstreams(gateway: Gateway, asked: Asked) -> Finding {
    let offers = asked.keys().map(|name| timeout(PATIENCE, gateway.offered(name, None)));
    let offers = join_all(offers).await;
    let (mut failed, mut doubtful) = (Vec::new(), Vec::new());
    for ((name, wanted), offer) in asked.iter().zip(offers) {
        match offer {
            Ok(Ok(listed)) => doubtful.extend(unlisted(name, wanted, &listed)),
            Ok(Err(Unoffered { reason, is_of_the_key: true })) => {
                let secret = gateway.upstreams().get(name).and_then(|it| it.secret.as_deref());
                let help = match secret {
                    Some(secret) => {
                        format!("`twobox secrets set {secret}` with a key that it takes")
                    }
                    None => format!(
                        "it wants a key: name a secret for it in a section [gateway.upstreams.{name}] \
                         of twobox.toml, see docs/gateway.md"
                    ),
                };
                failed.push((printable(&reason), help));
            }
            Ok(Err(Unoffered { reason, is_of_the_key: false })) => {
                doubtful.push((printable(&reason), silent(&gateway, name)));
            }
            Err(_) => {
                let what = format!("{name} did not answer within {} s", PATIENCE.as_secs());
                doubtful.push((what, silent(&gateway, name)));
            }
        }
    }
    let fails = !failed.is_empty();
    let (what, mut helps): (Vec<String>, Vec<String>) = failed.into_iter().chain(doubtful).unzip();
    helps.dedup();
    match (what.is_empty(), fails) {
        (true, _) => {
            let names: Vec<&str> = asked.keys().map(String::as_str).collect();
            Finding::ok(format!("the models of agents are listed by {}", names.join(", ")))
        }
        (false, true) => Finding::fail(what.join("; "), helps.join("; ")),
        (false, false) => Finding::warn(what.join("; "), helps.join("; ")),
    }
}

/// Which models an upstream does not list, and what helps: it may know them all the same.
fn unlisted(
    upstream: &str,
    wanted: &[(String, ModelName)],
    listed: &[String],
) -> Vec<(String, String)> {
    let is_missing = |(_, model): &&(String, ModelName)| !is_listed(listed, model.model());
    let told = |(agent, model): &(String, ModelName)| {
        (
            format!("{agent}: {upstream} does not list {}", model.model()),
            format!(
                "`twobox models {upstream}` says what it lists; `twobox agents edit {agent} --model \
                 {upstream}/MODEL` takes another"
            ),
        )
    };
    wanted.iter().filter(is_missing).map(told).collect()
}

/// What helps where an upstream does not answer as it should.
fn silent(gateway: &Gateway, name: &str) -> String {
    let upstream = gateway.upstreams().get(name);
    match upstream.filter(|it| it.is_here()) {
        Some(it) => format!(
            "start the program that serves models at {}, or set gateway.upstreams.{name}.base_url",
            it.base_url
        ),
        None => "messages are kept and tried again; see whether this machine reaches it".to_owned(),
    }
}
