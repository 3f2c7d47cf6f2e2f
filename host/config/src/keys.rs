//! The keys: one table with the name, the meaning, the range and the field of each. The file, the
//! environment, the first file that `init` writes and `docs/configuration.md` all follow it.

use std::net::SocketAddr;
use std::time::Duration;

use twobox_shared::durability::Durability;

use super::span::{show_span, span};
use super::{Config, OnShutdown, RuntimeKind, WatchMode};

/// What is written where there is no limit.
const NONE: &str = "none";

/// One thing that can be set.
pub struct Key {
    /// `key`, or `section.key`.
    pub name: &'static str,
    /// One sentence for people.
    pub meaning: &'static str,
    /// The smallest and largest number; of a span, the shortest in seconds; ignored for words and
    /// texts.
    range: (f64, f64),
    field: for<'a> fn(&'a mut Config) -> Field<'a>,
}

/// A field of [`Config`], with the type that decides how its value is written.
pub(super) enum Field<'a> {
    Runtime(&'a mut RuntimeKind),
    Watch(&'a mut WatchMode),
    Durability(&'a mut Durability),
    OnShutdown(&'a mut OnShutdown),
    Bool(&'a mut bool),
    Text(&'a mut String),
    Address(&'a mut Option<SocketAddr>),
    Span(&'a mut Duration),
    Usize(&'a mut usize),
    U64(&'a mut u64),
    I64(&'a mut i64),
    F64(&'a mut f64),
    Money(&'a mut Option<f64>),
    Count(&'a mut Option<u64>),
}

const fn key(
    name: &'static str,
    meaning: &'static str,
    field: for<'a> fn(&'a mut Config) -> Field<'a>,
) -> Key {
    Key { name, meaning, range: (0.0, 0.0), field }
}

const fn number(
    name: &'static str,
    range: (f64, f64),
    meaning: &'static str,
    field: for<'a> fn(&'a mut Config) -> Field<'a>,
) -> Key {
    Key { name, meaning, range, field }
}

/// Every key, in the order in which people read them.
pub const KEYS: &[Key] = &[
    key("runtime", "What runs the agent-runners. `process` is no isolation boundary.", |c| {
        Field::Runtime(&mut c.runtime)
    }),
    key("watch", "How file changes are noticed: by events where they work, or by polling.", |c| {
        Field::Watch(&mut c.watch)
    }),
    key(
        "durability",
        "What a commit survives: a `power-loss`, or only a `process-crash`, which is faster.",
        |c| Field::Durability(&mut c.durability),
    ),
    number("containers.max_running", (1.0, 10_000.0), "How many may run at once.", |c| {
        Field::Usize(&mut c.containers.max_running)
    }),
    key("containers.idle", "A runner with nothing to do leaves after this time.", |c| {
        Field::Span(&mut c.containers.idle)
    }),
    key("containers.stop_grace", "How long a runner may take to end its turn when told to.", |c| {
        Field::Span(&mut c.containers.stop_grace)
    }),
    key(
        "containers.socket",
        "The engine's socket. Empty: `DOCKER_HOST` or the usual place.",
        |c| Field::Text(&mut c.containers.socket),
    ),
    key("containers.image", "The runner's image.", |c| Field::Text(&mut c.containers.image)),
    number("containers.memory_mb", (16.0, 16_777_216.0), "Memory limit in MiB.", |c| {
        Field::U64(&mut c.containers.memory_mb)
    }),
    number("containers.cpus", (0.01, 4096.0), "CPU limit in cores.", |c| {
        Field::F64(&mut c.containers.cpus)
    }),
    number("containers.pids", (16.0, 4_194_304.0), "Limit on processes and threads.", |c| {
        Field::I64(&mut c.containers.pids)
    }),
    key("containers.network", "The network that containers join; `none` for none.", |c| {
        Field::Text(&mut c.containers.network)
    }),
    key(
        "containers.user",
        "`uid:gid` inside the container. Empty: the host's own, or 65532 when the host is root. With \
         Docker that is rootless: `\"0:0\"`, which is the host's own user there.",
        |c| Field::Text(&mut c.containers.user),
    ),
    key(
        "containers.allow_unsafe",
        "Whether the network `host` or of another container, and root inside, are accepted.",
        |c| Field::Bool(&mut c.containers.allow_unsafe),
    ),
    key(
        "containers.runner",
        "Path of `agent-runner` for the sandbox and process runtimes. Empty: beside `twobox`.",
        |c| Field::Text(&mut c.containers.runner),
    ),
    key(
        "containers.clis",
        "Folder of the vendors' programs that `scripts/fetch-cli` fetches. Empty: `clis` in the data \
         directory.",
        |c| Field::Text(&mut c.containers.clis),
    ),
    key("limits.heartbeat", "How often a runner gives a sign of life.", |c| {
        Field::Span(&mut c.limits.heartbeat)
    }),
    key(
        "limits.heartbeat_ceiling",
        "A container without a sign of life for this long is stopped; not less than `limits.heartbeat`.",
        |c| Field::Span(&mut c.limits.heartbeat_ceiling),
    ),
    key(
        "limits.claim_tolerance",
        "A claim without any sign of life since it was made is stuck after this long; not less than \
         `limits.heartbeat`.",
        |c| Field::Span(&mut c.limits.claim_tolerance),
    ),
    key(
        "limits.start_grace",
        "A new container is not judged before this long after its start.",
        |c| Field::Span(&mut c.limits.start_grace),
    ),
    key("limits.max_tool", "The most that a declared tool timeout counts.", |c| {
        Field::Span(&mut c.limits.max_tool)
    }),
    key("limits.turn_ceiling", "No turn lasts longer, whatever signs of life it gives.", |c| {
        Field::Span(&mut c.limits.turn_ceiling)
    }),
    number("limits.max_tries", (1.0, 100.0), "Attempts that a message gets.", |c| {
        Field::I64(&mut c.limits.max_tries)
    }),
    number(
        "limits.outbox_quota_mb",
        (1.0, 1_048_576.0),
        "The most MiB that a container's `out/` may have when it is copied for repair.",
        |c| Field::U64(&mut c.limits.outbox_quota_mb),
    ),
    number(
        "limits.new_sessions_per_hour",
        (1.0, 1_000_000.0),
        "New sessions that one chat may begin with an agent within an hour.",
        |c| Field::Usize(&mut c.limits.new_sessions_per_hour),
    ),
    key(
        "channels.command",
        "Path of the program that takes messages to a chat platform. Empty: no `command` channel.",
        |c| Field::Text(&mut c.channels.command),
    ),
    key(
        "channels.command_keys",
        "Whether that program drops a message whose key it has taken before.",
        |c| Field::Bool(&mut c.channels.command_keys),
    ),
    key("channels.command_timeout", "That program is killed after this time.", |c| {
        Field::Span(&mut c.channels.command_timeout)
    }),
    number(
        "channels.max_file_mb",
        (0.0, 1024.0),
        "The most MiB of a file that somebody sends to an agent. 0: files are named, and none is taken.",
        |c| Field::U64(&mut c.channels.max_file_mb),
    ),
    key("delivery.max_hold", "A row that its channel cannot take is kept for this long.", |c| {
        Field::Span(&mut c.delivery.max_hold)
    }),
    key(
        "approvals.expire",
        "What a person was asked and nobody has decided is denied after this time.",
        |c| Field::Span(&mut c.approvals.expire),
    ),
    key(
        "alerts.to",
        "The chat in which the operator is told what is wrong: a channel's id and the chat. Empty: nowhere.",
        |c| Field::Text(&mut c.alerts.to),
    ),
    key("alerts.after", "A channel that is down is told of after this time.", |c| {
        Field::Span(&mut c.alerts.after)
    }),
    key("history.keep", "What is answered and delivered is deleted after this time.", |c| {
        Field::Span(&mut c.history.keep)
    }),
    number(
        "schedule.min_interval",
        (1.0, 0.0),
        "The shortest time between two occurrences of a task or schedule; a second or more.",
        |c| Field::Span(&mut c.schedule.min_interval),
    ),
    number(
        "schedule.max_concurrent",
        (1.0, 1000.0),
        "How many scheduled runs may be under way at once.",
        |c| Field::Usize(&mut c.schedule.max_concurrent),
    ),
    key("schedule.max_run", "How long a run may take whose schedule does not say.", |c| {
        Field::Span(&mut c.schedule.max_run)
    }),
    key(
        "schedule.chat_pause",
        "By how much a firing is put off while somebody waits in a chat, for 10 minutes in all at most.",
        |c| Field::Span(&mut c.schedule.chat_pause),
    ),
    key(
        "schedule.agent_tasks",
        "Whether agents may put tasks off. Those that there are stay.",
        |c| Field::Bool(&mut c.schedule.agent_tasks),
    ),
    key(
        "schedule.history",
        "Runs that have ended are deleted after this time, with the sessions that were made for them.",
        |c| Field::Span(&mut c.schedule.history),
    ),
    key("schedule.timezone", "The zone of a schedule that does not say one: an IANA name.", |c| {
        Field::Text(&mut c.schedule.timezone)
    }),
    number(
        "gateway.usd_per_day",
        (0.0, 1_000_000.0),
        "What all agents together may spend on models in a day, in USD; `none` is no limit.",
        |c| Field::Money(&mut c.gateway.usd_per_day),
    ),
    number(
        "gateway.tokens_per_day",
        (0.0, 1e15),
        "How many tokens all agents together may use in a day; `none` is no limit.",
        |c| Field::Count(&mut c.gateway.tokens_per_day),
    ),
    key("api.listen", "Address and port of the HTTP API. Empty: only its socket.", |c| {
        Field::Address(&mut c.api.listen)
    }),
    key(
        "shutdown.containers",
        "Containers when the host stops: `leave` them for the next host, or `stop` them.",
        |c| Field::OnShutdown(&mut c.shutdown.containers),
    ),
    key("shutdown.grace", "How long sends under way may take when the host stops.", |c| {
        Field::Span(&mut c.shutdown.grace)
    }),
];

impl Key {
    /// The environment variable that overrides the key: `TWOBOX_LIMITS_MAX_TOOL`.
    pub fn variable(&self) -> String {
        format!("TWOBOX_{}", self.name.replace('.', "_").to_uppercase())
    }

    /// The value in `config`, as the file writes it.
    pub fn show(&self, config: &Config) -> String {
        let mut config = config.clone(); // a field is only handed out for writing
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        match (self.field)(&mut config) {
            Field::Runtime(value) => quoted(value.word()),
            Field::Watch(value) => quoted(value.word()),
            Field::Durability(value) => quoted(value.word()),
            Field::OnShutdown(value) => quoted(value.word()),
            Field::Bool(value) => value.to_string(),
            Field::Text(value) => quoted(value),
            Field::Address(value) => quoted(&value.map_or_else(String::new, |at| at.to_string())),
            Field::Span(value) => quoted(&show_span(*value)),
            Field::Usize(value) => value.to_string(),
            Field::U64(value) => value.to_string(),
            Field::I64(value) => value.to_string(),
            Field::F64(value) => format!("{value:?}"),
            Field::Money(value) => value.map_or_else(|| quoted(NONE), |it| format!("{it:?}")),
            Field::Count(value) => value.map_or_else(|| quoted(NONE), |it| it.to_string()),
        }
    }

    /// Whether a number is within the range of the key.
    pub fn takes(&self, number: f64) -> bool {
        (self.range.0..=self.range.1).contains(&number)
    }

    /// What may stand there, for people.
    pub fn allowed(&self) -> String {
        let mut config = Config::default();
        match (self.field)(&mut config) {
            Field::Runtime(_) => words(&RuntimeKind::WORDS),
            Field::Watch(_) => words(&WatchMode::WORDS),
            Field::Durability(_) => words(&Durability::WORDS),
            Field::OnShutdown(_) => words(&OnShutdown::WORDS),
            Field::Bool(_) => "true or false".to_owned(),
            Field::Text(_) => "text in quotes".to_owned(),
            Field::Address(_) => {
                "an IP address with a port, such as \"127.0.0.1:28642\", or \"\"".to_owned()
            }
            Field::Span(_) if self.range.0 > 0.0 => {
                format!("a time of {}s or more and up to a year, such as \"10m\"", self.range.0)
            }
            Field::Span(_) => "a time above zero and up to a year, such as \"10m\"".to_owned(),
            Field::Usize(_) | Field::U64(_) | Field::I64(_) => {
                format!("a whole number from {} to {}", self.range.0, self.range.1)
            }
            Field::F64(_) => format!("a number from {} to {}", self.range.0, self.range.1),
            Field::Money(_) => {
                format!("a number from {} to {}, or \"{NONE}\"", self.range.0, self.range.1)
            }
            Field::Count(_) => {
                format!("a whole number from {} to {}, or \"{NONE}\"", self.range.0, self.range.1)
            }
        }
    }

    /// Whether a bad override in the environment is passed over with a warning: numbers and times.
    /// A word is not, because a misspelt `docker` must not mean `process`, nor `yes` mean `false`;
    /// nor is an address, because nobody would look for the API at another one; nor a budget, which
    /// would be none.
    pub(super) fn falls_back(&self) -> bool {
        !matches!(
            (self.field)(&mut Config::default()),
            Field::Runtime(_)
                | Field::Watch(_)
                | Field::Durability(_)
                | Field::OnShutdown(_)
                | Field::Bool(_)
                | Field::Address(_)
                | Field::Money(_)
                | Field::Count(_)
        )
    }

    /// Sets the key from a value of the file. Returns `false`, with nothing changed, if that value
    /// is not allowed.
    pub(super) fn set(&self, config: &mut Config, value: &toml::Value) -> bool {
        let range = self.range.0..=self.range.1;
        let whole = || value.as_integer().filter(|whole| range.contains(&(*whole as f64)));
        let text = value.as_str();
        match (self.field)(config) {
            Field::Runtime(field) => put(field, text.and_then(RuntimeKind::parse)),
            Field::Watch(field) => put(field, text.and_then(WatchMode::parse)),
            Field::Durability(field) => put(field, text.and_then(Durability::parse)),
            Field::OnShutdown(field) => put(field, text.and_then(OnShutdown::parse)),
            Field::Bool(field) => put(field, value.as_bool()),
            Field::Text(field) => put(field, text.map(str::to_owned)),
            Field::Address(field) => match text.map(str::trim) {
                Some("") => put(field, Some(None)),
                text => put(field, text.and_then(|text| text.parse().ok()).map(Some)),
            },
            Field::Span(field) => {
                let least = |span: &Duration| span.as_secs_f64() >= self.range.0;
                put(field, text.and_then(span).filter(least))
            }
            Field::Usize(field) => put(field, whole().and_then(|n| n.try_into().ok())),
            Field::U64(field) => put(field, whole().and_then(|n| n.try_into().ok())),
            Field::I64(field) => put(field, whole()),
            Field::F64(field) => {
                let number = value.as_float().or(value.as_integer().map(|whole| whole as f64));
                put(field, number.filter(|number| range.contains(number)))
            }
            Field::Money(field) if text == Some(NONE) => put(field, Some(None)),
            Field::Money(field) => {
                let number = value.as_float().or(value.as_integer().map(|whole| whole as f64));
                put(field, number.filter(|number| range.contains(number)).map(Some))
            }
            Field::Count(field) if text == Some(NONE) => put(field, Some(None)),
            Field::Count(field) => put(field, whole().and_then(|n| n.try_into().ok()).map(Some)),
        }
    }

    /// As [`Key::set`], from the bare text of an environment variable.
    pub(super) fn set_text(&self, config: &mut Config, text: &str) -> bool {
        let value = match (self.field)(config) {
            Field::Money(_) | Field::Count(_) if text.trim() == NONE => {
                Some(toml::Value::String(NONE.to_owned()))
            }
            Field::Usize(_) | Field::U64(_) | Field::I64(_) | Field::Count(_) => {
                text.trim().parse().ok().map(toml::Value::Integer)
            }
            Field::F64(_) | Field::Money(_) => text.trim().parse().ok().map(toml::Value::Float),
            Field::Bool(_) => text.trim().parse().ok().map(toml::Value::Boolean),
            _ => Some(toml::Value::String(text.to_owned())),
        };
        value.is_some_and(|value| self.set(config, &value))
    }
}

fn put<T>(field: &mut T, value: Option<T>) -> bool {
    value.map(|value| *field = value).is_some()
}

fn words(words: &[&str]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" or ")
}

/// The words of an enum, in both directions.
macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $name {
            const WORDS: [&str; [$($word),+].len()] = [$($word),+];

            /// The word in the configuration.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The word read back.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words!(RuntimeKind { Docker = "docker", Sandbox = "sandbox", Process = "process" });
words!(WatchMode { Auto = "auto", Poll = "poll" });
words!(OnShutdown { Leave = "leave", Stop = "stop" });
