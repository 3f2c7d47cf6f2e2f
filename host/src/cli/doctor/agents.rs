//! Whether every agent has what it needs, and nobody else can change it.

use twobox_shared::agent_config::{AgentConfig, ProviderKind};

use super::{Check, Finding};
use crate::data::DataDir;
use crate::db::agents::{self, AgentGroup};
use crate::db::audit;
use crate::program::{EXPOSED_HELP, exposed};
use crate::runtime::AgentFolders;

/// Nothing if there are no agents; a damaged host.db has a check of its own.
pub(super) fn check(data: &DataDir) -> Option<Check> {
    let known = audit::open(&data.host_db()).ok().and_then(|db| agents::list(&db).ok())?;
    let data = data.clone();
    (!known.is_empty()).then(|| {
        Check::now("agents", move || {
            let mut findings = known.iter().map(|agent| look(&data, agent));
            let wrong = findings.find(|finding| !matches!(finding, Finding::Ok { .. }));
            wrong.unwrap_or_else(|| Finding::ok(format!("{} with all that they need", known.len())))
        })
    })
}

fn look(data: &DataDir, agent: &AgentGroup) -> Finding {
    let name = &agent.name;
    let config = match AgentConfig::load(&data.agent_config(&agent.folder)) {
        Ok(config) => config,
        Err(error) => {
            return Finding::fail(format!("{name}: {error}"), format!("twobox agents edit {name}"));
        }
    };
    let folders = AgentFolders {
        program: data.program_folder(&agent.folder),
        shared: data.group_folder(&agent.folder),
        access: config.shared_folder,
    };
    if let Err(reason) = folders.check() {
        return Finding::fail(format!("{name}: {reason}"), "until then it cannot start");
    }
    if let Some(word) = exposed(&config, &folders.shared) {
        let detail = format!("{name}: every conversation can change {word}, which it runs");
        return Finding::warn(detail, EXPOSED_HELP);
    }
    let script = folders.program.join("script.json");
    if config.provider == ProviderKind::Scripted && !script.is_file() {
        let detail = format!("{name}: {} is missing", script.display());
        return Finding::warn(detail, format!("twobox agents edit {name} script.json"));
    }
    Finding::ok(name)
}
