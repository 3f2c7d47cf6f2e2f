//! `twobox init`: a data directory that `twobox up` can run on. Safe to run again: what is there
//! stays as it is.

pub(super) mod ask;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;
use twobox_runtime::profile::File;
use twobox_shared::agent_config::{AgentConfig, ModelName};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::errors::chain;
use twobox_shared::ids::SystemIds;

use super::output::{Failure, flag, json_line, say};
use super::{Context, agents};
use twobox_app::intake::fresh_claim_code;
use twobox_app::place;
use twobox_app::token::Token;
use twobox_config as config;
use twobox_config::{Config, RuntimeKind};
use twobox_gateway::{Secrets, Upstreams};
use twobox_runtime as runtime;
use twobox_runtime::RuntimeError;
use twobox_runtime::probe::Difference;
use twobox_slots::zone::Zone;
use twobox_store::Store;
use twobox_store::messaging::SessionMode;
use twobox_system::data::DataDir;

/// The first agent.
const FIRST_AGENT: &str = "assistant";

pub(super) async fn run(
    context: &Context,
    asked: Option<RuntimeKind>,
    model: Option<ModelName>,
) -> Result<ExitCode, Failure> {
    let now = SystemClock.now();
    let data = DataDir::create(&context.data)?;
    // Only where nothing is: a new one beside the sessions of an old one would forget them all.
    if twobox_store::is_blank(&data.host_db())? && data.was_used() {
        return Err(data.lost().into());
    }
    let closed = data.close_to_others()?;
    let config_exists = data.config().exists();
    let (runtime, why) = match (config_exists, asked) {
        (true, _) => (context.load_config(&data.config())?.0.runtime, "as twobox.toml says".into()),
        (false, Some(asked)) => (asked, "as you asked".to_owned()),
        (false, None) => choose(context, &data).await?,
    };
    let zone = Zone::of_machine(context.env.get("TZ").map(String::as_str));
    let host = Store::create(&data.host_db())?;
    place::settle(&host, &data, now)?;
    let install = host.installation().id_or_new(&SystemIds, now).wait()?;
    let mut made = Vec::new();
    if write_new(&data.config(), &config::template(runtime, zone.name()))? {
        made.push("twobox.toml".to_owned());
    }
    if Token::read(&data.api_token())?.is_none() {
        Token::at(&data.api_token())?;
        made.push("api.token".to_owned());
    }
    if host.agents().list().wait()?.is_empty() {
        host.agents().add(FIRST_AGENT, SessionMode::Shared, &SystemIds, now).wait()?;
        made.push(format!("agent {FIRST_AGENT}"));
    }
    let claim = match host.people().was_claimable().wait()? {
        true => None,
        false => {
            let code = fresh_claim_code().map_err(Failure::new)?;
            let until = host.people().make_claim(&code, now).wait()?;
            Some((code, until))
        }
    };
    let model = match model {
        None if ask::somebody(context) && !data.agent_config(FIRST_AGENT).exists() => {
            let (config, _) = context.load_config(&data.config())?;
            ask::model(context, &config, &data, &host).await?
        }
        model => model,
    };
    let (config, _) = context.load_config(&data.config())?;
    if let Some(model) = &model {
        // Before an agent has it that could not be asked.
        Upstreams::read(&config)?.route(model).map_err(Failure::new)?;
    }
    let (taken_over, keeps) = files_of_agents(&data, &host, model.as_ref())?;
    let mut next = next_steps(context, &config, &data, model.as_ref()).await?;
    next.extend(keeps);
    if context.output.json {
        let answer = json!({
            "data": data.root(), "install_id": install, "runtime": runtime, "why": why,
            "image": (runtime == RuntimeKind::Docker).then_some(&config.containers.image),
            "timezone": config.schedule.timezone,
            "claim_code": claim.as_ref().map(|(code, _)| code),
            "made": made, "programs": taken_over, "closed": closed, "next": next,
        });
        json_line(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    tell_what_was_made(&data, &config, (runtime, &why), &made, &taken_over);
    if !closed.is_empty() {
        say(&format!("closed         what other users could look at: {}", listed(&closed)));
    }
    if asked.is_some_and(|asked| asked != runtime) {
        say("               twobox.toml was there: change its runtime by hand");
    }
    for step in next {
        say(&format!("next           {step}"));
    }
    if let Some((code, until)) = claim {
        say(&format!(
            "owner          whoever says /claim {code} in a chat of yours, once, until {until}"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes what is missing of every agent's files, for a run that was interrupted may have left one without;
/// `model` answers for the first agent, if that is new. Returns which programs were taken over, and what to
/// do where the agent was there.
fn files_of_agents(
    data: &DataDir,
    host: &Store,
    model: Option<&ModelName>,
) -> Result<(Vec<String>, Option<String>), Failure> {
    let (mut taken_over, mut keeps) = (Vec::new(), None);
    for agent in host.agents().list().wait()? {
        let mut file = File::of(&AgentConfig::default());
        let model = model.filter(|_| agent.name == FIRST_AGENT);
        if let Some(model) = model {
            agents::ask(&mut file, vec![model.clone()])?;
        }
        let agents::Made { config: fresh, migrated } = agents::make_files(data, &agent, &file)?;
        if let Some(model) = model.filter(|_| !fresh) {
            keeps = Some(format!(
                "agent {FIRST_AGENT} was there and stays as it is: `twobox agents edit {FIRST_AGENT} \
                 --model {model}`"
            ));
        }
        if let Some(migrated) = migrated {
            taken_over.push(agents::told(&agent.name, &migrated.to_string()));
        }
    }
    Ok((taken_over, keeps))
}

fn tell_what_was_made(
    data: &DataDir,
    config: &Config,
    (runtime, why): (RuntimeKind, &str),
    made: &[String],
    taken_over: &[String],
) {
    say(&format!("data directory {}", data.root().display()));
    say(&format!("runtime        {} ({why})", runtime.word()));
    if runtime == RuntimeKind::Process {
        say("               agents run as child processes: no isolation boundary");
    }
    say(&format!("time zone      {} (schedule.timezone)", config.schedule.timezone));
    match made.is_empty() {
        true => say("made           nothing, everything was there already"),
        false => say(&format!("made           {}", made.join(", "))),
    }
    for line in taken_over {
        say(&format!("program        {line}"));
    }
}

/// The first few of some paths, and how many more there are.
pub(super) fn listed(paths: &[PathBuf]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> =
        paths.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
    match paths.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{}, and {more} more", shown.join(", ")),
    }
}

/// What can run agents on this machine, and why: Docker if a container starts, else a sandbox if one
/// starts. Never processes, which isolate nothing: those have to be asked for.
///
/// # Errors
/// Why neither can, and what to do.
async fn choose(context: &Context, data: &DataDir) -> Result<(RuntimeKind, String), Failure> {
    let (config, _) = context.load_config(&data.config())?;
    let mut reasons = Vec::new();
    let mut lacks_something = false;
    for runtime in [RuntimeKind::Docker, RuntimeKind::Sandbox] {
        let config = Config { runtime, ..config.clone() };
        match runtime::probe(&config, &data.scratch()).await {
            Ok(probed) if !probed.is_fatal() => return Ok((runtime, probed.line)),
            Ok(probed) => {
                let fatal = probed.differences.first();
                reasons
                    .push(fatal.map(|it| format!("{}: {}", it.what, it.help)).unwrap_or_default());
                lacks_something |= runtime == RuntimeKind::Docker;
            }
            Err(RuntimeError::Start { reason }) => {
                lacks_something |= runtime == RuntimeKind::Docker;
                reasons.push(reason);
            }
            Err(error) => reasons.push(chain(&error)),
        }
    }
    // An engine that lacks something, usually the image, has a next step of its own.
    match (lacks_something, &reasons[..]) {
        (true, _) => Ok((RuntimeKind::Docker, "a container engine answers".to_owned())),
        (false, reasons) => Err(Failure::new(format!(
            "nothing here can run agents apart from the host. docker: {}. sandbox: {}. Mend one of \
             them and run this again. For development, `--runtime process` runs agents without any \
             isolation",
            reasons.first().map_or("", String::as_str),
            reasons.get(1).map_or("", String::as_str),
        ))),
    }
}

/// What to do before an agent can answer; with `model`, before that can.
async fn next_steps(
    context: &Context,
    config: &Config,
    data: &DataDir,
    model: Option<&ModelName>,
) -> Result<Vec<String>, Failure> {
    let mut steps = Vec::new();
    let place = flag("data", &context.data.to_string_lossy());
    match runtime::probe(config, &data.scratch()).await {
        Ok(probed) => steps.extend(
            probed
                .differences
                .into_iter()
                .map(|Difference { what, help, .. }| format!("{what}: {help}")),
        ),
        Err(RuntimeError::Start { reason } | RuntimeError::Misconfigured { reason }) => {
            steps.push(reason);
        }
        Err(error) => steps.push(chain(&error)),
    }
    if let Some(model) = model {
        steps.extend(missing_secret(context, config, data, model)?.map(|secret| {
            format!("twobox {place} secrets set {secret}   (the key of {})", model.upstream())
        }));
    }
    steps.push(format!("twobox {place} up"));
    steps.push(format!("twobox {place} chat   (in another terminal)"));
    if model.is_none() {
        steps.push(format!(
            "the first agent only echoes: `twobox {place} agents edit {FIRST_AGENT} --model \
             UPSTREAM/MODEL` has a model answer, see docs/agents.md"
        ));
    }
    Ok(steps)
}

/// The secret that the upstream of `model` wants and that is nowhere.
///
/// # Errors
/// What is wrong with the settings.
fn missing_secret(
    context: &Context,
    config: &Config,
    data: &DataDir,
    model: &ModelName,
) -> Result<Option<String>, Failure> {
    let upstreams = Upstreams::read(config)?;
    let wanted = upstreams.get(model.upstream()).and_then(|upstream| upstream.secret.clone());
    let secrets = Secrets::new(data.secrets(), &context.env);
    match wanted {
        Some(name) if secrets.find(&name)?.is_none() => Ok(Some(name)),
        Some(_) | None => Ok(None),
    }
}

/// Writes a file that is not there yet. Returns whether it did.
pub(super) fn write_new(path: &Path, text: &str) -> Result<bool, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format!("could not write {}: {error}", path.display()))
    };
    if path.exists() {
        return Ok(false);
    }
    // A file of another name first: a crash or a full disk never leaves half a file behind.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let mut file = std::fs::File::create(&fresh).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&fresh, path).map_err(failed)?;
    Ok(true)
}
