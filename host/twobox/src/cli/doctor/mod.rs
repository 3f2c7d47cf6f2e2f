//! `twobox doctor`: everything that the daemon needs, looked at one by one, each with what to do.

mod agents;
mod api;
mod channels;
mod gateway;
mod place;

pub(super) use self::agents::cannot_run;
pub(super) use self::channels::trouble as channel_trouble;

use std::borrow::Cow;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use serde::Serialize;
use serde_json::{Value, json};
use twobox_shared::errors::chain;

use super::Context;
use super::client::Client;
use super::output::{self, Failure, Output, note, printable, say};
use twobox_channels::socket::{Event, Request};
use twobox_config::{Config, RuntimeKind, WatchMode};
use twobox_runtime as runtime;
use twobox_runtime::RuntimeError;
use twobox_runtime::docker::prove_writable;
use twobox_runtime::probe::{Difference, Probed};
use twobox_session::watch;
use twobox_slots::zone::{self, Zone};
use twobox_store::agents::AgentGroup;
use twobox_store::overview::FailedStarts;
use twobox_store::{DbHealth, Store};
use twobox_system::data::DataDir;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "level", rename_all = "lowercase")]
pub enum Finding {
    /// As it should be.
    Ok {
        /// What was seen.
        detail: String,
    },
    /// Twobox runs, but.
    Warn {
        /// What was seen.
        detail: String,
        /// What to do.
        help: String,
    },
    /// Twobox does not run like this.
    Fail {
        /// What was seen.
        detail: String,
        /// What to do.
        help: String,
    },
}

impl Finding {
    /// As it should be.
    pub fn ok(detail: impl Into<String>) -> Self {
        Self::Ok { detail: detail.into() }
    }

    /// Something to know.
    pub fn warn(detail: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Warn { detail: detail.into(), help: help.into() }
    }

    /// Something to mend.
    pub fn fail(detail: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Fail { detail: detail.into(), help: help.into() }
    }

    /// With what to do about the data directory that was named.
    fn advised(self, output: Output) -> Self {
        match self {
            Self::Ok { detail } => Self::Ok { detail },
            Self::Warn { detail, help } => Self::Warn { detail, help: output.advise(&help) },
            Self::Fail { detail, help } => Self::Fail { detail, help: output.advise(&help) },
        }
    }
}

/// One thing to look at.
pub struct Check {
    /// What it is about, in a word or two.
    pub name: Cow<'static, str>,
    /// The look.
    pub run: BoxFuture<'static, Finding>,
}

impl Check {
    /// A check that needs not wait.
    fn now(
        name: impl Into<Cow<'static, str>>,
        look: impl FnOnce() -> Finding + Send + 'static,
    ) -> Self {
        Self { name: name.into(), run: async move { look() }.boxed() }
    }
}

/// Says what keeps an agent that was made or changed from answering, as far as is seen from here.
pub(super) fn tell_of(context: &Context, data: &DataDir, store: Store, agent: &AgentGroup) {
    // Where nobody can read the settings, that is said by whoever needs them.
    let Ok((config, _)) = context.load_config(&data.config()) else { return };
    let found = super::in_tokio(async {
        let found = agents::one(data, &config, agent).await;
        let mut wrong = gateway::one(context, data, &config, (agent.clone(), store));
        if let Finding::Warn { detail, help } | Finding::Fail { detail, help } = found {
            let detail = detail.strip_prefix(&format!("{}: ", agent.name)).unwrap_or(&detail);
            wrong.insert(0, (detail.to_owned(), help));
        }
        Ok(wrong)
    });
    for (what, help) in found.unwrap_or_default() {
        let (name, help) = (&agent.name, context.output.advise(&help));
        note(&printable(&format!("{name} wants something yet: {what} -> {help}")));
    }
}

pub(super) async fn run(context: &Context) -> Result<ExitCode, Failure> {
    let mut checks = Vec::new();
    match DataDir::open(&context.data) {
        Err(error) => {
            checks.push(place::refused(&error));
            checks.extend(place::owners(&context.data));
        }
        Ok(data) => {
            let loaded = context.load_config(&data.config());
            checks.push(place::closed(data.clone(), context.became));
            checks.extend(place::owners(data.root()));
            checks.extend(place::sockets(&data));
            checks.push(configuration(&data, loaded.as_ref()));
            checks.push(host_db(data.clone()));
            checks.push(identity(data.clone()));
            checks.push(daemon(data.clone()));
            checks.push(channels::alive(data.clone()));
            if let Ok((config, _)) = loaded {
                checks.push(runtime(config.clone()));
                checks.push(start(&data, config.clone()));
                checks.push(failed_starts(data.clone()));
                checks.push(time_zones(config.schedule.timezone.clone()));
                checks.push(file_events(data.clone(), config.watch));
                checks.extend(agents::check(&data, &config));
                checks.extend(channels::settings(&data, &config.channels, &context.env));
                checks.extend(channels::alerts(&config));
                checks.extend(gateway::checks(&data, &config, &context.env));
                checks.extend(api::checks(&data, config.api.listen));
                checks.push(folders(data, config));
            }
        }
    }
    report(context, checks).await
}

/// Runs the checks and prints what they find: exit code 0 unless one fails.
async fn report(context: &Context, checks: Vec<Check>) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Entry {
        check: Cow<'static, str>,
        #[serde(flatten)]
        finding: Finding,
    }
    let mut entries = Vec::new();
    for check in checks {
        let finding = check.run.await.advised(context.output);
        let entry = Entry { check: check.name, finding };
        if !context.output.json {
            let (level, detail, help) = match &entry.finding {
                Finding::Ok { detail } => ("ok  ", detail, None),
                Finding::Warn { detail, help } => ("warn", detail, Some(help)),
                Finding::Fail { detail, help } => ("FAIL", detail, Some(help)),
            };
            say(&format!("{level}  {:<14}  {detail}", entry.check));
            help.into_iter().for_each(|help| say(&format!("      {:<14}  -> {help}", "")));
        }
        entries.push(entry);
    }
    if context.output.json {
        context.output.show(&json!({ "checks": entries }), |_| String::new());
    }
    let failed = entries.iter().any(|entry| matches!(entry.finding, Finding::Fail { .. }));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn configuration(data: &DataDir, loaded: Result<&(Config, Vec<String>), &Failure>) -> Check {
    let place = data.config().display().to_string();
    let finding = match loaded {
        Err(failure) => Finding::fail(failure.reason(), "mend the file or the variable"),
        Ok((_, warnings)) if !warnings.is_empty() => {
            Finding::warn(warnings.join("; "), "mend or unset the variables")
        }
        Ok(_) if !data.config().exists() => {
            Finding::warn(format!("{place} is missing, the defaults are used"), "run `twobox init`")
        }
        Ok(_) => Finding::ok(place),
    };
    Check::now("configuration", move || finding)
}

fn host_db(data: DataDir) -> Check {
    Check::now("host.db", move || {
        let restore = "stop the host and restore host.db from a backup";
        match twobox_store::health(&data.host_db()) {
            Ok(DbHealth::Newer { found, known }) => Finding::fail(
                format!("it has version {found}, this build knows up to {known}"),
                "update Twobox",
            ),
            Ok(DbHealth::Empty) => Finding::fail(
                "it is empty, and no installation",
                "restore it from a backup, or `twobox sessions fsck --rebuild` makes one of what the \
                 sessions' folders tell",
            ),
            Ok(DbHealth::Sound { version }) => {
                Finding::ok(format!("version {version}, no damage found"))
            }
            Ok(DbHealth::Damaged(damage)) => Finding::fail(damage, restore),
            Err(error) => Finding::fail(chain(&error), restore),
        }
    })
}

/// Whether the directory is where its host left it, or is a copy.
fn identity(data: DataDir) -> Check {
    Check::now("identity", move || match Store::look(&data.host_db()) {
        // A damaged host.db has a check of its own.
        Err(_) => Finding::ok("unknown until host.db can be read"),
        Ok(store) => match twobox_app::place::confirm(&store, &data) {
            Ok(()) => Finding::ok("the directory is where its host left it"),
            Err(error) => Finding::fail(chain(&error), "see docs/running.md, \"A restore drill\""),
        },
    })
}

/// What the host says about itself, or why it says nothing.
pub(super) async fn status_of(data: &DataDir) -> Result<Value, String> {
    let mut client = Client::connect(&data.socket()).await.map_err(|error| error.to_string())?;
    let asked = client.answer(&Request::Status);
    match tokio::time::timeout(Duration::from_secs(5), asked).await {
        Ok(Ok(Event::Status { status })) => Ok(status),
        Ok(Ok(other)) => Err(format!("it answered {other:?}")),
        Ok(Err(failure)) => Err(failure.reason().to_owned()),
        Err(_) => Err("it did not answer within 5 s".to_owned()),
    }
}

fn daemon(data: DataDir) -> Check {
    let look = async move {
        let answered = match status_of(&data).await {
            Ok(_) => return Finding::ok("it runs and answers"),
            Err(reason) => reason,
        };
        match data.holder() {
            Ok(None) => Finding::warn("no host runs", "start it with `twobox up`"),
            Ok(Some(holder)) => Finding::fail(
                format!("{holder} holds the data directory, but its socket is silent: {answered}"),
                "look at its log; stop it and start it again",
            ),
            Err(error) => Finding::fail(chain(&error), "mend the permissions"),
        }
    };
    Check { name: "daemon".into(), run: look.boxed() }
}

/// Whether the configured runtime could start a runner now.
fn runtime(config: Config) -> Check {
    let look = async move {
        match (runtime::check(&config).await, config.runtime) {
            (Ok(line), RuntimeKind::Docker | RuntimeKind::Sandbox) => Finding::ok(line),
            (Ok(line), RuntimeKind::Process) => Finding::warn(
                line,
                "set runtime = \"docker\" or \"sandbox\" where agents are not trusted",
            ),
            (Err(RuntimeError::Start { reason } | RuntimeError::Misconfigured { reason }), _) => {
                Finding::fail(reason, "no agent can start before that")
            }
            (Err(error), RuntimeKind::Docker) => Finding::fail(
                chain(&error),
                "start Docker, or set containers.socket or runtime = \"sandbox\"",
            ),
            (Err(error), RuntimeKind::Sandbox | RuntimeKind::Process) => {
                Finding::fail(chain(&error), "set containers.runner")
            }
        }
    };
    Check { name: "runtime".into(), run: look.boxed() }
}

/// Whether a runner starts now, by starting one that only looks around, and sees what it should.
fn start(data: &DataDir, config: Config) -> Check {
    let place = data.scratch();
    let look = async move {
        match runtime::probe(&config, &place).await {
            Ok(probed) => of_probe(&probed),
            Err(RuntimeError::Start { reason }) => {
                Finding::fail(reason, "no agent can start before that")
            }
            Err(error) => Finding::fail(chain(&error), "see the line above"),
        }
    };
    Check { name: "start".into(), run: look.boxed() }
}

fn of_probe(probed: &Probed) -> Finding {
    let join = |part: fn(&Difference) -> &str| {
        let mut parts: Vec<&str> = Vec::new();
        for text in probed.differences.iter().map(part) {
            if !parts.contains(&text) {
                parts.push(text);
            }
        }
        parts.join("; ")
    };
    let (what, help) = (join(|it| &it.what), join(|it| &it.help));
    match (probed.differences.is_empty(), probed.is_fatal()) {
        (true, _) => Finding::ok(probed.line.clone()),
        (false, true) => Finding::fail(what, help),
        (false, false) => Finding::warn(what, help),
    }
}

/// Which rules of time zones count, and in which zone schedules are that do not say one.
fn time_zones(default: String) -> Check {
    Check::now("time zones", move || match default.parse::<Zone>() {
        Ok(zone) => Finding::ok(format!("rules of {}; schedules are in {zone}", zone::rules())),
        Err(error) => Finding::fail(
            format!("schedule.timezone: {error}"),
            "set it in twobox.toml: schedules that do not say a zone cannot be added before",
        ),
    })
}

/// Whether starts come to nothing for sessions that wait for one.
fn failed_starts(data: DataDir) -> Check {
    Check::now("failed starts", move || {
        // A damaged host.db has a check of its own.
        let found = Store::look(&data.host_db())
            .ok()
            .and_then(|store| store.sessions().failed_starts().wait().ok());
        match found {
            Some(FailedStarts { sessions, last }) if sessions > 0 => Finding::warn(
                format!(
                    "starts come to nothing for {}, the last one because: {}",
                    output::count(sessions, "session", "sessions"),
                    printable(&last.unwrap_or_else(|| "it is not known why".to_owned()))
                ),
                "`twobox sessions list` names them; they are tried again, at the latest every 5 minutes",
            ),
            _ => Finding::ok("none"),
        }
    })
}

/// Whether runners can write their half of a session.
fn folders(data: DataDir, config: Config) -> Check {
    Check::now("folders", move || match config.runtime {
        RuntimeKind::Process => Finding::ok("runners write as the host's own user"),
        RuntimeKind::Sandbox => Finding::ok("runners are given their folders at each start"),
        RuntimeKind::Docker => match prove_writable(&config.containers, &data.scratch()) {
            Ok(line) => Finding::ok(line),
            Err(reason) => Finding::fail(reason, "every container would end at once"),
        },
    })
}

/// Whether the host hears of what a container wrote, or has to look again and again.
fn file_events(data: DataDir, mode: WatchMode) -> Check {
    Check::now("file events", move || {
        let polled = format!("sessions are polled every {} ms", watch::POLL.as_millis());
        let place = data.root().display();
        match (mode, watch::events_come(&data.scratch())) {
            (WatchMode::Poll, _) => Finding::ok(format!("not used, as configured: {polled}")),
            (WatchMode::Auto, Ok(true)) => Finding::ok("they come"),
            (WatchMode::Auto, Ok(false)) => Finding::warn(
                format!("none come in {place}: {polled}"),
                "put the data directory on a local file system",
            ),
            (WatchMode::Auto, Err(error)) => Finding::warn(
                format!("{}: {polled}", chain(&error)),
                "raise fs.inotify.max_user_watches and max_user_instances",
            ),
        }
    })
}
