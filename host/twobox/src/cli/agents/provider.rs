//! What answers an agent, as `agents add`, `agents edit` and `agents set` are told it.

use std::collections::BTreeMap;

use clap::ValueEnum;
use twobox_shared::agent_config::{
    Claude, Codex, Lifetime, Model, ModelName, Provider as Kind, Servers, Written,
};

use crate::cli::Context;
use crate::cli::output::Failure;
use twobox_gateway::Upstreams;
use twobox_runtime::profile::File;

/// What can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Provider {
    Echo,
    Scripted,
    Command,
    /// A model, with tools: give it by --model.
    Model,
    /// Claude Code, the vendor's program: give the model by --model.
    Claude,
    /// OpenAI's Codex, with tools of its own: give its model by --model.
    Codex,
}

/// What is said of what is to answer.
#[derive(Debug, Default)]
pub(in crate::cli) struct Wish {
    pub(in crate::cli) provider: Option<Provider>,
    pub(in crate::cli) models: Vec<ModelName>,
    pub(in crate::cli) lifetime: Option<Lifetime>,
    pub(in crate::cli) command: Vec<String>,
}

impl Wish {
    /// Whether nothing is said but perhaps a model.
    pub(in crate::cli) fn is_empty(&self) -> bool {
        let Self { provider, models: _, lifetime, command } = self;
        provider.is_none() && lifetime.is_none() && command.is_empty()
    }

    /// Has `file` say so. What it says of the same provider stays; what it says of another one is not dropped
    /// in silence.
    pub(in crate::cli) fn put(self, file: &mut File) -> Result<(), Failure> {
        // One that cannot be read is about to be mended.
        let before = Kind::of_parts(file.provider.clone(), file.command.clone(), file.lifetime);
        let before = before.ok().filter(|_| file.provider.is_some());
        let made = self.made(before.as_ref())?;
        if let Some(before) = before.filter(|before| before.kind() != made.kind()) {
            let (old, new) = (before.kind(), made.kind());
            if let Some(field) = own_fields(&before).first() {
                return Err(Failure::usage(format!(
                    "provider.{field} is set, which belongs to provider {old:?} and would be lost with \
                     {new:?}: leave it out first, with `twobox agents set NAME provider.{field}=`"
                )));
            }
        }
        file.provider = Some(Written::Object(made));
        (file.command, file.lifetime) = (None, None); // they are in it, or belong to what answered before
        Ok(())
    }

    /// What is to answer where `before` did.
    fn made(self, before: Option<&Kind>) -> Result<Kind, Failure> {
        let Self { provider, models, lifetime, command } = self;
        let kind = provider.or_else(|| before.map(word)).unwrap_or(match models.is_empty() {
            true => Provider::Echo,
            false => Provider::Model,
        });
        if kind != Provider::Command && !command.is_empty() {
            return Err(Failure::usage("only provider \"command\" runs a program"));
        }
        if kind != Provider::Command && lifetime.is_some() {
            return Err(Failure::usage("--lifetime belongs to --provider command"));
        }
        if matches!(kind, Provider::Echo | Provider::Scripted | Provider::Command)
            && !models.is_empty()
        {
            let help = "--model belongs to --provider model, claude or codex";
            return Err(Failure::usage(help));
        }
        let known = before.map(Kind::models).unwrap_or_default();
        let models = if models.is_empty() { known.to_vec() } else { models };
        Ok(match (kind, before) {
            (Provider::Echo, _) => Kind::Echo,
            (Provider::Scripted, _) => Kind::Scripted,
            (Provider::Command, Some(Kind::Command { command: known, lifetime: lives })) => {
                Kind::Command {
                    command: if command.is_empty() { known.clone() } else { command },
                    lifetime: lifetime.unwrap_or(*lives),
                }
            }
            (Provider::Command, _) => {
                Kind::Command { command, lifetime: lifetime.unwrap_or_default() }
            }
            (Provider::Model, Some(Kind::Model(known))) => {
                Kind::Model(Model { models, ..known.clone() })
            }
            (Provider::Model, _) => Kind::Model(Model {
                models: some(models, "anthropic/claude-opus-5-5")?,
                max_output_tokens: None,
                tools: BTreeMap::new(),
                mcp: Servers::default(),
            }),
            (Provider::Claude, Some(Kind::Claude(known))) => {
                Kind::Claude(Claude { model: one(models, "claude")?, ..known.clone() })
            }
            (Provider::Claude, _) => {
                let models = some(models, "anthropic/claude-opus-5-5")?;
                Kind::Claude(Claude::asking(one(models, "claude")?))
            }
            (Provider::Codex, Some(Kind::Codex(known))) => {
                Kind::Codex(Codex { model: one(models, "codex")?, ..known.clone() })
            }
            (Provider::Codex, _) => {
                let models = some(models, "openai/gpt-5.5")?;
                Kind::Codex(Codex::asking(one(models, "codex")?))
            }
        })
    }
}

fn word(provider: &Kind) -> Provider {
    match provider {
        Kind::Echo => Provider::Echo,
        Kind::Scripted => Provider::Scripted,
        Kind::Command { .. } => Provider::Command,
        Kind::Model(_) => Provider::Model,
        Kind::Claude(_) => Provider::Claude,
        Kind::Codex(_) => Provider::Codex,
    }
}

/// The models, if there are any.
fn some(models: Vec<ModelName>, such_as: &str) -> Result<Vec<ModelName>, Failure> {
    match models.is_empty() {
        true => Err(Failure::usage(format!(
            "say which one: --model {such_as}, or another UPSTREAM/MODEL"
        ))),
        false => Ok(models),
    }
}

/// The one model of a vendor's program.
pub(super) fn one(models: Vec<ModelName>, vendor: &str) -> Result<ModelName, Failure> {
    <[ModelName; 1]>::try_from(models).map(|[model]| model).map_err(|_| {
        Failure::usage(format!("--provider {vendor} asks one model: give one --model"))
    })
}

/// What is said of a provider that no other one has in the same sense. Each field is named, so that a new one has
/// to be thought of here.
fn own_fields(provider: &Kind) -> Vec<&'static str> {
    let fields = match provider {
        Kind::Echo | Kind::Scripted => vec![],
        // It is nothing without its program, which so cannot be left out first: whoever replaces it is told.
        Kind::Command { command: _, lifetime: _ } => vec![],
        Kind::Model(Model { models: _, max_output_tokens, tools, mcp }) => vec![
            ("tools", !tools.is_empty()),
            ("mcp", !mcp.is_empty()),
            ("max_output_tokens", max_output_tokens.is_some()),
        ],
        Kind::Claude(Claude { model: _, tools, mcp }) => {
            vec![("tools", !tools.is_empty()), ("mcp", !mcp.is_empty())]
        }
        Kind::Codex(Codex { model: _, reasoning_effort, tools, mcp }) => vec![
            ("reasoning_effort", reasoning_effort.is_some()),
            ("tools", !tools.is_empty()),
            ("mcp", !mcp.is_empty()),
        ],
    };
    fields.into_iter().filter(|(_, is_set)| *is_set).map(|(field, _)| field).collect()
}

/// Whether there are the ways to models that `provider` needs.
pub(in crate::cli) fn check_ways(context: &Context, provider: &Kind) -> Result<(), Failure> {
    if provider.models().is_empty() {
        return Ok(());
    }
    let (config, _) = context.load_config(&context.data.join("twobox.toml"))?;
    Upstreams::read(&config)?.routes(provider).map(drop).map_err(Failure::usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File::parse(text).unwrap()
    }

    fn models(names: &[&str]) -> Vec<ModelName> {
        names.iter().map(|name| ModelName::try_from((*name).to_owned()).unwrap()).collect()
    }

    fn after(before: &str, wish: Wish) -> Result<File, String> {
        let mut file = file(before);
        wish.put(&mut file).map(|()| file).map_err(|failure| failure.reason().to_owned())
    }

    fn to(provider: Provider) -> Wish {
        Wish { provider: Some(provider), ..Wish::default() }
    }

    const MODEL: &str = r#"{"provider": {"kind": "model", "model": "a/x"}, "max_turns": 7}"#;

    #[test]
    fn another_provider_takes_over_what_it_can_have() {
        let program = || vec!["python3".to_owned(), "agent.py".to_owned()];
        let cases = [
            (MODEL, to(Provider::Claude), r#"{"kind": "claude", "model": "a/x"}"#),
            (
                MODEL,
                Wish { models: models(&["b/y"]), ..to(Provider::Codex) },
                r#"{"kind": "codex", "model": "b/y"}"#,
            ),
            (MODEL, to(Provider::Echo), r#"{"kind": "echo"}"#),
            (
                MODEL,
                Wish { command: program(), ..to(Provider::Command) },
                r#"{"kind": "command", "command": ["python3", "agent.py"], "lifetime": "turn"}"#,
            ),
            (
                r#"{"provider": "command", "command": ["a"], "lifetime": "turn", "max_turns": 7}"#,
                Wish { lifetime: Some(Lifetime::Runner), ..Wish::default() },
                r#"{"kind": "command", "command": ["a"], "lifetime": "runner"}"#,
            ),
            (
                r#"{"provider": {"kind": "claude", "model": "a/x", "tools": {"Bash": "deny"}},
                    "max_turns": 7}"#,
                Wish { models: models(&["a/y"]), ..to(Provider::Claude) },
                r#"{"kind": "claude", "model": "a/y", "tools": {"Bash": "deny"}}"#,
            ),
        ];
        for (before, wish, expected) in cases {
            let expected = file(&format!(r#"{{"provider": {expected}, "max_turns": 7}}"#));
            assert_eq!(after(before, wish), Ok(expected), "{before}");
        }
    }

    const SERVED: &str = r#"{"provider": {"kind": "claude", "model": "a/x",
        "mcp": {"files": {"command": ["serve"]}}}}"#;

    #[test]
    fn what_another_provider_lacks_or_would_lose_is_said() {
        let denies =
            r#"{"provider": {"kind": "model", "model": "a/x", "tools": {"bash": "deny"}}}"#;
        let two = r#"{"provider": {"kind": "model", "model": ["a/x", "b/y"]}}"#;
        let codex =
            r#"{"provider": {"kind": "codex", "model": "a/x", "tools": {"shell": "deny"}}}"#;
        let program = vec!["a".to_owned()];
        let cases = [
            ("{}", to(Provider::Claude), "say which one: --model anthropic/"),
            (r#"{"provider": "echo"}"#, to(Provider::Codex), "say which one: --model openai/"),
            (two, to(Provider::Codex), "asks one model"),
            (denies, to(Provider::Claude), "provider.tools is set"),
            (denies, to(Provider::Echo), "agents set NAME provider.tools="),
            (SERVED, to(Provider::Model), "provider.mcp is set"),
            (codex, to(Provider::Echo), "provider.tools is set"),
            (
                MODEL,
                Wish { models: models(&["a/x"]), ..to(Provider::Echo) },
                "--model belongs to --provider model, claude or codex",
            ),
            (MODEL, Wish { command: program, ..Wish::default() }, "only provider \"command\""),
            (
                MODEL,
                Wish { lifetime: Some(Lifetime::Turn), ..to(Provider::Claude) },
                "--lifetime belongs to",
            ),
        ];
        for (before, wish, expected) in cases {
            let reason = after(before, wish).unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        }
    }
}
