//! How an agent runs, as one value: what answers its turns, and what confines it. What its
//! configuration leaves out are the settings of `[containers]`. [`Profile::of`] merges and checks, and
//! is pure; a runtime turns the profile into confinement, and says what it cannot honour
//! ([`Runtime::accepts`](crate::Runtime::accepts)).
//!
//! The operator writes both files, so an agent may have more than the settings say. What takes a wall
//! down has to be allowed by `containers.allow_unsafe` all the same, whoever asks for it.

mod cli;
mod environment;
mod file;
mod mounts;

use std::path::Path;

use serde::Serialize;
use twobox_shared::agent_config::{
    AgentConfig, AgentConfigError, Place, Provider, Server, Servers, SharedFolder,
};

pub use self::cli::{Cli, Lack};
pub use self::environment::Environment;
pub use self::file::{Budget, File};
pub use self::mounts::ExtraMount;
use crate::settings::{self, Caution};
use twobox_config::{Containers, KEYS};
use twobox_model::egress::Egress;

/// A value, and whether the agent's own configuration says it.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting<T> {
    /// What holds.
    pub value: T,
    /// Whether it is the agent's own; otherwise it is that of `[containers]`.
    pub own: bool,
}

/// How an agent runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// What its runners are told.
    pub agent: AgentConfig,
    /// The image of its containers.
    pub image: Setting<String>,
    /// The network that they join; `none` for none.
    pub network: Setting<String>,
    /// What they may reach of the network through the host, whatever network they join.
    pub egress: Egress,
    /// What each conversation may use up.
    pub limits: Limits,
    /// What its models may use up in a day. It is the agent's alone: `[gateway]` has that of all together.
    pub budget: Budget,
    /// Whether what its models answer is recorded.
    pub record: bool,
    /// Folders of the machine that they are given besides their own.
    pub mounts: Vec<ExtraMount>,
    /// The vendor's program that answers, if one does.
    pub cli: Option<Cli>,
    /// What its program finds in its environment.
    pub environment: Environment,
    /// What people should know of it.
    pub caution: Option<Caution>,
}

/// What a conversation may use up, with all its processes.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Memory in MiB.
    pub memory_mb: Setting<u64>,
    /// Processors.
    pub cpus: Setting<f64>,
    /// Processes and threads.
    pub pids: Setting<i64>,
}

/// One value of a profile, as people are shown it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The field.
    pub name: &'static str,
    /// What holds. Of the environment, the names: its values may be secrets.
    pub value: String,
    /// Whether the agent's own configuration says it.
    pub own: bool,
}

impl Profile {
    /// The profile of an agent whose configuration is the file at `path`, which may be missing.
    ///
    /// # Errors
    /// [`AgentConfigError`] with the field, for anything that is no profile.
    pub fn load(path: &Path, settings: &Containers) -> Result<Self, AgentConfigError> {
        let file = File::load(path)?;
        Self::of(file, settings).map_err(|reason| AgentConfigError::new(path, reason))
    }

    /// The profile of an agent whose configuration says nothing.
    pub fn usual(settings: &Containers) -> Self {
        let default = |value| Setting { value, own: false };
        Self {
            agent: AgentConfig::default(),
            image: default(settings.image.clone()),
            network: default(settings.network.clone()),
            egress: Egress::default(),
            limits: Limits {
                memory_mb: Setting { value: settings.memory_mb, own: false },
                cpus: Setting { value: settings.cpus, own: false },
                pids: Setting { value: settings.pids, own: false },
            },
            budget: Budget::default(),
            record: false,
            mounts: Vec::new(),
            cli: None,
            environment: Environment::default(),
            caution: None,
        }
    }

    /// What `file` says, and `settings` where it says nothing.
    ///
    /// # Errors
    /// A sentence that names the field and says what to write.
    pub fn of(file: File, settings: &Containers) -> Result<Self, String> {
        let usual = Self::usual(settings);
        let agent = file.agent()?;
        let File { image, network, egress, limits, budget, record, mounts, environment, .. } = file;
        let file::Limits { memory_mb, cpus, pids } = limits;
        #[expect(clippy::cast_precision_loss, reason = "compared with the bounds of a setting")]
        let numbers = [
            ("memory_mb", memory_mb.map(|it| it as f64)),
            ("cpus", cpus),
            ("pids", pids.map(|it| it as f64)),
        ];
        for (name, number) in numbers {
            number.map_or(Ok(()), |number| in_range(name, number))?;
        }
        budget.check()?;
        egress.check()?;
        if image.as_deref().is_some_and(|it| it.is_empty() || it.contains(char::is_whitespace)) {
            return Err(
                "image: it names none: write one as \"my-agent:1\", or leave it out".to_owned()
            );
        }
        let caution = match &network {
            Some(network) => settings::network("network", network, settings.allow_unsafe)?,
            None => None,
        };
        mounts::check(&mounts)?;
        let cli = agent.provider.cli().and_then(|name| Cli::pinned(name, &settings.clis));
        Ok(Self {
            agent,
            cli,
            image: usual.image.or(image),
            network: usual.network.or(network),
            egress,
            limits: Limits {
                memory_mb: usual.limits.memory_mb.or(memory_mb),
                cpus: usual.limits.cpus.or(cpus),
                pids: usual.limits.pids.or(pids),
            },
            budget,
            record,
            mounts,
            environment: Environment::of(environment)?,
            caution,
        })
    }

    /// The same with the folders that it gives as they are now: canonical, and none that leads to
    /// `data`, the data directory, or to the machine's own insides. Blocks.
    ///
    /// # Errors
    /// Which cannot be given, and what to do.
    pub fn with_folders(mut self, data: &Path) -> Result<Self, String> {
        for mount in &mut self.mounts {
            mount.settle(data)?;
        }
        if let Some(cli) = &mut self.cli {
            cli.settle(data).map_err(|lack| lack.to_string())?;
        }
        Ok(self)
    }

    /// The vendor's program that it needs and that is not there, looked for from `data`, the data directory.
    /// Blocks.
    pub fn lacks_cli(&self, data: &Path) -> Option<Lack> {
        self.cli.clone()?.settle(data).err()
    }

    /// A text that changes whenever something does that a runner is started with, for a digest alone: it has
    /// secrets. The budget, what may be reached and whether answers are recorded are not among it: they are read
    /// anew for each request.
    pub fn secret_text(&self) -> String {
        let (budget, egress, record) = (Budget::default(), Egress::default(), false);
        let started_with = Self { budget, egress, record, ..self.clone() };
        format!("{started_with:?}{}", self.environment.secret_text())
    }

    /// All of it, for people.
    pub fn shown(&self) -> Vec<Shown> {
        let Self {
            agent,
            image,
            network,
            egress,
            limits,
            budget,
            record,
            mounts,
            environment,
            cli: _,
            caution: _,
        } = self;
        let usual = AgentConfig::default();
        let row = |name, value: String, own| Shown { name, value, own };
        let words = |words: Vec<String>| match words.is_empty() {
            true => "none".to_owned(),
            false => words.join(", "),
        };
        let provider = [&[agent.provider.kind().to_owned()], agent.provider.command()].concat();
        let mut shown = vec![row("provider", provider.join(" "), agent.provider != usual.provider)];
        let servers = servers(&agent.provider);
        shown.extend((!servers.is_empty()).then(|| row("provider.mcp", words(servers), true)));
        shown.extend([
            row(
                "shared_folder",
                agent.shared_folder.word().to_owned(),
                agent.shared_folder != SharedFolder::default(),
            ),
            row("max_turns", agent.max_turns.to_string(), agent.max_turns != usual.max_turns),
            row(
                "turn_timeout_sec",
                agent.turn_timeout_sec.to_string(),
                agent.turn_timeout_sec != usual.turn_timeout_sec,
            ),
            row(
                "tool_timeout_sec",
                agent.tool_timeout_sec.to_string(),
                agent.tool_timeout_sec != usual.tool_timeout_sec,
            ),
            row("image", image.value.clone(), image.own),
            row("network", network.value.clone(), network.own),
            row(
                "egress",
                words(egress.rules().iter().map(ToString::to_string).collect()),
                !egress.is_empty(),
            ),
            row("limits.memory_mb", limits.memory_mb.value.to_string(), limits.memory_mb.own),
            row("limits.cpus", limits.cpus.value.to_string(), limits.cpus.own),
            row("limits.pids", limits.pids.value.to_string(), limits.pids.own),
            row(
                "budget.usd_per_day",
                budget.usd_per_day.map_or_else(|| "none".to_owned(), |it| it.to_string()),
                budget.usd_per_day.is_some(),
            ),
            row(
                "budget.tokens_per_day",
                budget.tokens_per_day.map_or_else(|| "none".to_owned(), |it| it.to_string()),
                budget.tokens_per_day.is_some(),
            ),
            row(
                "budget.usd_per_run",
                budget.usd_per_run.map_or_else(|| "none".to_owned(), |it| it.to_string()),
                budget.usd_per_run.is_some(),
            ),
            row("record", record.to_string(), *record),
            row(
                "mounts",
                words(mounts.iter().map(ToString::to_string).collect()),
                !mounts.is_empty(),
            ),
            row(
                "environment",
                words(environment.names().map(str::to_owned).collect()),
                !environment.is_empty(),
            ),
        ]);
        shown
    }
}

/// The servers of MCP of an agent, with where each is. What they are told is shown to nobody.
fn servers(provider: &Provider) -> Vec<String> {
    let server = |(name, server): (&str, &Server)| match &server.place {
        Place::Program { command, .. } => format!("{name} ({})", command.join(" ")),
        // A person may have put a key behind the path.
        Place::Remote(remote) => {
            format!("{name} ({})", remote.url().split('?').next().unwrap_or_default())
        }
    };
    provider.servers().into_iter().flat_map(Servers::iter).map(server).collect()
}

impl<T> Setting<T> {
    fn or(self, own: Option<T>) -> Self {
        own.map_or(self, |value| Self { value, own: true })
    }
}

/// Whether a limit is one that `[containers]` could have.
fn in_range(name: &str, number: f64) -> Result<(), String> {
    let setting = format!("containers.{name}");
    match KEYS.iter().find(|key| key.name == setting) {
        Some(key) if !key.takes(number) => {
            Err(format!("limits.{name}: {number} is not {}", key.allowed()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
