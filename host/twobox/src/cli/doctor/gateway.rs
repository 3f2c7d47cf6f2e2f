//! Whether models can be asked: the settings of upstreams, the secrets that they want, and what agents need
//! of both.

use std::collections::BTreeMap;

use twobox_shared::agent_config::ModelName;
use twobox_shared::errors::chain;

use super::{Check, Finding};
use crate::unpriced::{self, Agent};
use twobox_config::Config;
use twobox_gateway::secrets::Secrets;
use twobox_gateway::settings::Upstreams;
use twobox_store::Store;
use twobox_system::data::DataDir;

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
    let known =
        Store::look(&data.host_db()).ok().and_then(|store| store.agents().list().wait().ok());
    let agents = unpriced::agents(known.unwrap_or_default(), data, config);
    if !agents.is_empty() || !config.gateway.upstreams.is_empty() {
        let config = config.clone();
        checks.push(Check::now("models", move || models(&config, &secrets, &agents)));
    }
    checks
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

fn models(config: &Config, secrets: &Secrets, agents: &[Agent]) -> Finding {
    let upstreams = match Upstreams::read(config) {
        Ok(upstreams) => upstreams,
        Err(error) => {
            return Finding::fail(
                error.to_string(),
                "mend twobox.toml: the host does not start before",
            );
        }
    };
    let (mut wrong, mut helps) = (Vec::new(), Vec::new());
    for agent in agents {
        for model in &agent.models {
            match needs(&upstreams, secrets, model) {
                Ok(()) => {}
                Err((what, help)) => {
                    wrong.push(format!("{}: {what}", agent.name));
                    helps.push(
                        help.unwrap_or_else(|| format!("`twobox agents edit {}`", agent.name)),
                    );
                }
            }
        }
    }
    helps.dedup();
    match (wrong.is_empty(), unpriced::unbounded(agents, &upstreams)) {
        (false, _) => Finding::fail(wrong.join("; "), helps.join("; ")),
        (true, Some(doubtful)) => Finding::warn(doubtful, unpriced::HELP),
        (true, None) => Finding::ok(format!(
            "{} known, with the secrets that agents need",
            crate::cli::output::count_of(
                upstreams.all().filter(|it| !it.guessed).count(),
                "upstream is",
                "upstreams are"
            )
        )),
    }
}

/// What keeps a model from being asked, and what helps, if that is not the agent's configuration.
fn needs(
    upstreams: &Upstreams,
    secrets: &Secrets,
    model: &ModelName,
) -> Result<(), (String, Option<String>)> {
    upstreams.route(model).map_err(|reason| (reason, None))?;
    let upstream = upstreams.get(model.upstream()).expect("it has a route");
    let Some(name) = &upstream.secret else { return Ok(()) };
    let help = || Some(format!("`twobox secrets set {name}`"));
    match secrets.find(name) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => {
            let what =
                format!("the upstream {} wants the secret {name}, which is nowhere", upstream.name);
            Err((what, help()))
        }
        Err(error) => Err((chain(&error), help())),
    }
}
