//! What `agents add` and `agents edit` set of how an agent runs. Everything else is for an editor.

use std::collections::BTreeMap;
use std::env::VarError;

use clap::Args;
use twobox_shared::agent_config::{Claude, Codex, Model, ModelName, Provider, Servers, Written};

use super::provider::one;
use crate::cli::Context;
use crate::cli::output::Failure;
use twobox_config::{Config, RuntimeKind};
use twobox_gateway::Upstreams;
use twobox_model::egress::{Egress, Rule};
use twobox_runtime::profile::File;

/// What an agent of Claude Code may have at least where nobody says another limit: it reserves more than the
/// usual one, and ends as it begins where that is counted.
const CLAUDE_MEMORY_MB: u64 = 2048;

/// How an agent runs, where it is not as `[containers]` in twobox.toml says.
#[derive(Debug, Args)]
pub(in crate::cli) struct Settings {
    /// The model that answers, as UPSTREAM/MODEL, such as anthropic/claude-opus-5-5. Given several times,
    /// those after the first are asked where the one before does not answer.
    #[arg(long = "model", value_name = "UPSTREAM/MODEL", value_parser = model_name)]
    models: Vec<ModelName>,
    /// The image of its containers.
    #[arg(long)]
    image: Option<String>,
    /// The network that they join; `none` for none.
    #[arg(long)]
    network: Option<String>,
    /// What of the network it may reach through the host, as HOST or HOST:PORT (443 if left out), such as
    /// "*.wikipedia.org". May be given several times, in place of all that was there; `none` for nothing.
    #[arg(long, value_name = "HOST[:PORT]", value_parser = rule)]
    egress: Vec<Reached>,
    /// Memory for a conversation, in MiB.
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// Processors for a conversation.
    #[arg(long)]
    cpus: Option<f64>,
    /// A variable for its program, as NAME=VALUE, or NAME alone, which takes the value from this
    /// command's own environment and so shows it to nobody. May be given several times.
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    environment: Vec<String>,
}

impl Settings {
    /// Whether nothing is set.
    pub(in crate::cli) fn is_empty(&self) -> bool {
        let Self { models, image, network, egress, memory, cpus, environment } = self;
        (image, network, memory, cpus) == (&None, &None, &None, &None)
            && environment.is_empty()
            && models.is_empty()
            && egress.is_empty()
    }

    /// Whether the upstreams of the models that are named are there.
    pub(in crate::cli) fn check_models(&self, context: &Context) -> Result<(), Failure> {
        if self.models.is_empty() {
            return Ok(());
        }
        let (config, _) = context.load_config(&context.data.join("twobox.toml"))?;
        let upstreams = Upstreams::read(&config)?;
        let known = |model| upstreams.route(model).map(drop).map_err(Failure::usage);
        self.models.iter().try_for_each(known)
    }

    /// The models that are named.
    pub(super) fn models(&self) -> &[ModelName] {
        &self.models
    }

    /// Sets it in `file`, of an agent that is new.
    pub(super) fn begin(self, file: &mut File, config: &Config) -> Result<(), Failure> {
        self.put(file)?;
        make_room(file, config);
        Ok(())
    }

    /// Sets it in `file`. What is not given stays.
    pub(in crate::cli) fn put(self, file: &mut File) -> Result<(), Failure> {
        let Self { models, image, network, egress, memory, cpus, environment } = self;
        if !egress.is_empty() {
            file.egress = reached(egress)?;
        }
        if !models.is_empty() {
            ask(file, models)?;
        }
        file.image = image.or(file.image.take());
        file.network = network.or(file.network.take());
        file.limits.memory_mb = memory.or(file.limits.memory_mb);
        file.limits.cpus = cpus.or(file.limits.cpus);
        for given in environment {
            let (name, value) = match given.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => (given.as_str(), own(&given, std::env::var(&given))?),
            };
            file.environment.insert(name.to_owned(), value);
        }
        Ok(())
    }
}

/// Has an agent that Claude Code answers from now on have room for it. In the process runtime nothing is counted but
/// what an agent says itself, so nothing is said there.
pub(in crate::cli) fn make_room(file: &mut File, config: &Config) {
    let is_short =
        config.runtime != RuntimeKind::Process && config.containers.memory_mb < CLAUDE_MEMORY_MB;
    if is_short && is_claude(file) {
        file.limits.memory_mb.get_or_insert(CLAUDE_MEMORY_MB);
    }
}

/// Whether Claude Code answers.
pub(in crate::cli) fn is_claude(file: &File) -> bool {
    matches!(file.provider, Some(Written::Object(Provider::Claude(_))))
}

/// One value of `--egress`.
#[derive(Debug, Clone)]
enum Reached {
    Nothing,
    What(Rule),
}

fn rule(text: &str) -> Result<Reached, String> {
    match text {
        "none" => Ok(Reached::Nothing),
        _ => Rule::try_from(text.to_owned()).map(Reached::What),
    }
}

fn reached(given: Vec<Reached>) -> Result<Egress, Failure> {
    let count = given.len();
    let rules: Vec<_> = given
        .into_iter()
        .filter_map(|it| match it {
            Reached::What(rule) => Some(rule),
            Reached::Nothing => None,
        })
        .collect();
    match rules.is_empty() || rules.len() == count {
        true => Egress::of(rules).map_err(Failure::usage),
        false => Err(Failure::usage("--egress none stands alone")),
    }
}

pub(in crate::cli) fn model_name(text: &str) -> Result<ModelName, String> {
    ModelName::try_from(text.to_owned())
}

/// Has `models` answer, by the vendor's program if one does. What else is said of how they answer stays.
///
/// # Errors
/// There are several for one that asks one.
pub(in crate::cli) fn ask(file: &mut File, models: Vec<ModelName>) -> Result<(), Failure> {
    let provider = match file.provider.take() {
        Some(Written::Object(Provider::Claude(claude))) => {
            Provider::Claude(Claude { model: one(models, "claude")?, ..claude })
        }
        Some(Written::Object(Provider::Codex(codex))) => {
            Provider::Codex(Codex { model: one(models, "codex")?, ..codex })
        }
        Some(Written::Object(Provider::Model(model))) => Provider::Model(Model { models, ..model }),
        _ => Provider::Model(Model {
            models,
            max_output_tokens: None,
            tools: BTreeMap::new(),
            mcp: Servers::default(),
        }),
    };
    (file.command, file.lifetime) = (None, None); // they belong to what answered before
    file.provider = Some(Written::Object(provider));
    Ok(())
}

/// The value of the variable `name` as this command's environment has it. No error says what it is, which
/// may be a secret.
fn own(name: &str, found: Result<String, VarError>) -> Result<String, Failure> {
    let wrong = match found {
        Ok(value) => return Ok(value),
        Err(VarError::NotPresent) => {
            format!("it is not set here: set it, or give it as {name}=VALUE")
        }
        Err(VarError::NotUnicode(_)) => {
            "its value is no valid UTF-8, which the agent's file cannot hold: give it another"
                .to_owned()
        }
    };
    Err(Failure::usage(format!("--env {name}: {wrong}")))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn a_variable_that_cannot_be_taken_is_told_without_its_value() {
        let odd = OsString::from_vec(b"s3cret\xff".to_vec());
        let cases = [
            (
                VarError::NotPresent,
                "--env KEY: it is not set here: set it, or give it as KEY=VALUE",
            ),
            (VarError::NotUnicode(odd), "--env KEY: its value is no valid UTF-8"),
        ];
        for (error, expected) in cases {
            let failure = own("KEY", Err(error)).unwrap_err();
            assert!(failure.reason().starts_with(expected), "{}", failure.reason());
            assert!(!failure.reason().contains("s3cret"), "{}", failure.reason());
        }
        assert_eq!(own("KEY", Ok("s3cret".to_owned())).unwrap(), "s3cret");
    }
}
