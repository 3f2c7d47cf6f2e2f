//! The configuration: `<data>/twobox.toml`, every key also as `TWOBOX_…` in the environment.
//!
//! This file says what can be set and what is used when nothing is; `keys` says how each key is
//! called, read and checked; `load` reads a file and an environment; `template` writes a first file.

mod keys;
mod load;
mod span;
mod template;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Serialize;
use twobox_shared::durability::Durability;

pub use keys::{KEYS, Key};
pub use load::{ConfigError, is_channel_id};
pub use span::span;
pub use template::template;

/// Everything that an operator can set. Each field's default is what the program uses when the key
/// is absent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// What runs the agent-runners.
    pub runtime: RuntimeKind,
    /// How file changes are noticed.
    pub watch: WatchMode,
    /// What a commit survives.
    pub durability: Durability,
    /// The containers.
    pub containers: Containers,
    /// What a running container may do before it is stopped.
    pub limits: Limits,
    /// Where messages come from and go to, besides the terminal.
    pub channels: Channels,
    /// How answers leave.
    pub delivery: DeliveryConfig,
    /// How long people are asked.
    pub approvals: Approvals,
    /// `[alerts]`
    pub alerts: AlertsConfig,
    /// How long what is settled is kept.
    pub history: History,
    /// What is done at its time.
    pub schedule: Schedule,
    /// The way to models.
    pub gateway: Gateway,
    /// The HTTP API.
    pub api: Api,
    /// What happens when the host stops.
    pub shutdown: Shutdown,
}

/// What runs the agent-runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// The Engine API of Docker or Podman.
    Docker,
    /// Namespaces of the kernel, by bubblewrap.
    Sandbox,
    /// Child processes: no isolation boundary.
    Process,
}

/// How file changes are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WatchMode {
    /// By events, or by polling where a test at start-up shows that events do not come.
    Auto,
    /// By polling every 250 ms.
    Poll,
}

/// `[containers]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Containers {
    /// How many may run at once.
    pub max_running: usize,
    /// A runner with nothing to do leaves after this time.
    pub idle: Duration,
    /// How long a runner may take to end its turn when it is told to leave.
    pub stop_grace: Duration,
    /// The engine's socket; empty means `DOCKER_HOST` or the usual place.
    pub socket: String,
    /// The runner's image.
    pub image: String,
    /// Memory limit in MiB.
    pub memory_mb: u64,
    /// CPU limit in cores.
    pub cpus: f64,
    /// Limit on processes and threads.
    pub pids: i64,
    /// The network that containers join; `none` for none.
    pub network: String,
    /// `uid:gid` inside the container; empty means the host's own, or 65532 when the host is root.
    pub user: String,
    /// Whether settings that take a wall of the container down are accepted.
    pub allow_unsafe: bool,
    /// Path of the `agent-runner` binary for the sandbox and process runtimes; empty means beside `twobox`.
    pub runner: String,
    /// The folder with the vendors' programs; empty means `clis` in the data directory.
    pub clis: String,
}

/// How often a runner gives a sign of life that is told nothing else.
pub const HEARTBEAT: Duration = Duration::from_secs(10);

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// How often a runner gives a sign of life.
    pub heartbeat: Duration,
    /// A container without a sign of life for this long is stopped.
    pub heartbeat_ceiling: Duration,
    /// A claim without any sign of life since it was made is stuck after this long.
    pub claim_tolerance: Duration,
    /// A new container is not judged before this long after its start.
    pub start_grace: Duration,
    /// The most that a declared tool timeout counts.
    pub max_tool: Duration,
    /// No turn lasts longer than this, whatever signs of life it gives.
    pub turn_ceiling: Duration,
    /// Attempts that a message gets.
    pub max_tries: i64,
    /// The most bytes that the files of a container's `out/` may have when they are copied for
    /// repair.
    pub outbox_quota_mb: u64,
    /// New sessions that one chat may begin with an agent within an hour.
    pub new_sessions_per_hour: usize,
}

/// `[channels]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Channels {
    /// The program that the `command` channel runs for each message; empty means no such channel.
    pub command: String,
    /// Whether that program drops a message whose key it has taken before.
    pub command_keys: bool,
    /// How long one run of it may take.
    pub command_timeout: Duration,
    /// The most MiB of a file that somebody sends to an agent.
    pub max_file_mb: u64,
    /// Channels that have a section of their own, `[channels.ID]`.
    #[serde(skip)] // its keys are those of its kind
    pub sections: BTreeMap<String, ChannelSettings>,
    /// Those whose section says `enabled = false`: as if they were not there.
    #[serde(skip)]
    pub disabled: BTreeMap<String, ChannelSettings>,
}

/// What is set of one channel.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelSettings {
    /// Its kind, which knows the rest.
    pub kind: String,
    /// The settings of that kind.
    pub settings: toml::Table,
}

impl Channels {
    /// Every channel that is set, by its id. `channels.command` is short for a section `command`.
    pub fn all(&self) -> BTreeMap<String, ChannelSettings> {
        let mut all = self.sections.clone();
        if !self.command.is_empty() {
            let mut settings = toml::Table::new();
            settings.insert("program".to_owned(), self.command.clone().into());
            settings.insert("keys".to_owned(), self.command_keys.into());
            let timeout = humantime::format_duration(self.command_timeout).to_string();
            settings.insert("timeout".to_owned(), timeout.into());
            let kind = COMMAND.to_owned();
            all.insert(COMMAND.to_owned(), ChannelSettings { kind, settings });
        }
        all
    }

    /// What a setting of the channel `id` is called by people: of that which `channels.command` sets,
    /// by its short name.
    pub fn name_of(&self, id: &str, setting: &str) -> String {
        match (self.sections.contains_key(id), setting) {
            (false, "program") => format!("channels.{id}"),
            (false, _) => format!("channels.{id}_{setting}"),
            (true, _) => format!("channels.{id}.{setting}"),
        }
    }
}

/// The kind of the channel that `channels.command` sets, and its id.
const COMMAND: &str = "command";

/// `[delivery]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeliveryConfig {
    /// A row that its channel cannot take is kept for this long.
    pub max_hold: Duration,
}

/// `[alerts]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlertsConfig {
    /// The chat in which the operator is told what is wrong: a channel's id and the chat. Empty: nowhere.
    pub to: String,
    /// A channel that is down is told of after this time.
    pub after: Duration,
}

/// `[approvals]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Approvals {
    /// What nobody has decided by then is denied.
    pub expire: Duration,
}

/// `[history]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct History {
    /// Messages and delivery records that are settled are deleted after this time.
    pub keep: Duration,
}

/// `[schedule]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Schedule {
    /// The shortest time between two occurrences of a task, or two slots of a schedule.
    pub min_interval: Duration,
    /// How many scheduled runs may be under way at once.
    pub max_concurrent: usize,
    /// How long a run may take whose schedule does not say.
    pub max_run: Duration,
    /// By how much a firing is put off while somebody waits in a chat.
    pub chat_pause: Duration,
    /// Whether agents may put tasks off.
    pub agent_tasks: bool,
    /// Ended runs are deleted after this time.
    pub history: Duration,
    /// The zone of a schedule that does not say one: an IANA name.
    pub timezone: String,
}

/// `[gateway]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gateway {
    /// What all agents together may spend in a day, in USD; `None` is no limit.
    pub usd_per_day: Option<f64>,
    /// How many tokens they may use in a day; `None` is no limit.
    pub tokens_per_day: Option<u64>,
    /// Upstreams that have a section of their own, `[gateway.upstreams.NAME]`.
    #[serde(skip)] // its keys are for the gateway to read
    pub upstreams: BTreeMap<String, toml::Table>,
}

/// `[api]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Api {
    /// Where it listens; `None` means that there is none.
    pub listen: Option<SocketAddr>,
}

/// `[shutdown]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shutdown {
    /// What becomes of running containers.
    pub containers: OnShutdown,
    /// How long sends under way may take.
    pub grace: Duration,
}

/// What becomes of running containers when the host stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnShutdown {
    /// They go on, and the next host adopts them.
    Leave,
    /// They end or release their turn, and are gone before the host is.
    Stop,
}

impl Config {
    /// How long sessions may take to come to rest when the host stops.
    pub fn stop_patience(&self) -> Duration {
        match self.shutdown.containers {
            OnShutdown::Leave => self.shutdown.grace,
            OnShutdown::Stop => self.shutdown.grace + self.containers.stop_grace * 2,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            runtime: RuntimeKind::Process,
            watch: WatchMode::Auto,
            durability: Durability::PowerLoss,
            containers: Containers {
                max_running: 16,
                idle: Duration::from_secs(10 * 60),
                stop_grace: Duration::from_secs(8),
                socket: String::new(),
                image: "twobox-runner:local".to_owned(),
                memory_mb: 512,
                cpus: 1.0,
                pids: 256,
                network: "none".to_owned(),
                user: String::new(),
                allow_unsafe: false,
                runner: String::new(),
                clis: String::new(),
            },
            limits: Limits {
                heartbeat: HEARTBEAT,
                heartbeat_ceiling: Duration::from_secs(30 * 60),
                claim_tolerance: Duration::from_secs(60),
                start_grace: Duration::from_secs(30),
                max_tool: Duration::from_secs(2 * 60 * 60),
                turn_ceiling: Duration::from_secs(6 * 60 * 60),
                max_tries: 5,
                outbox_quota_mb: 256,
                new_sessions_per_hour: 60,
            },
            channels: Channels {
                command: String::new(),
                command_keys: false,
                command_timeout: Duration::from_secs(30),
                max_file_mb: 20,
                sections: BTreeMap::new(),
                disabled: BTreeMap::new(),
            },
            delivery: DeliveryConfig { max_hold: Duration::from_secs(7 * 24 * 60 * 60) },
            approvals: Approvals { expire: Duration::from_secs(24 * 60 * 60) },
            alerts: AlertsConfig { to: String::new(), after: Duration::from_secs(2 * 60) },
            history: History { keep: Duration::from_secs(30 * 24 * 60 * 60) },
            schedule: Schedule {
                min_interval: Duration::from_secs(60),
                max_concurrent: 2,
                max_run: Duration::from_secs(20 * 60),
                chat_pause: Duration::from_secs(30),
                agent_tasks: true,
                history: Duration::from_secs(90 * 24 * 60 * 60),
                timezone: "UTC".to_owned(),
            },
            gateway: Gateway {
                usd_per_day: None,
                tokens_per_day: None,
                upstreams: BTreeMap::new(),
            },
            api: Api { listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 28642))) },
            shutdown: Shutdown { containers: OnShutdown::Leave, grace: Duration::from_secs(10) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_may_take_what_the_settings_grant_it() {
        let mut config = Config::default();
        config.shutdown.grace = Duration::from_secs(7);
        config.containers.stop_grace = Duration::from_secs(20);
        config.shutdown.containers = OnShutdown::Leave;
        assert_eq!(config.stop_patience(), Duration::from_secs(7));
        config.shutdown.containers = OnShutdown::Stop;
        assert_eq!(config.stop_patience(), Duration::from_secs(47));
    }
}
