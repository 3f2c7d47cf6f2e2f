//! `twobox models`: which models an upstream offers, which also tries its key.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::{Map, Value, json};
use twobox_shared::clock::SystemClock;

use super::Context;
use super::output::{Failure, note};
use twobox_gateway::{Gateway, Secrets, Unoffered};

/// Which models.
#[derive(Debug, Args)]
pub(super) struct ModelsArguments {
    /// The upstream, such as anthropic; without it, all whose key is there, and the programs of this
    /// machine that listen at their usual ports.
    upstream: Option<String>,
}

/// Whether an upstream that offers these knows the model. Ollama knows its models without `:latest`, too.
pub(super) fn is_listed(offered: &[String], model: &str) -> bool {
    offered.iter().any(|it| it == model || it.strip_suffix(":latest") == Some(model))
}

pub(super) async fn run(context: &Context, asked: ModelsArguments) -> Result<ExitCode, Failure> {
    let (data, store) = context.look_store()?;
    let (config, _) = context.load_config(&data.config())?;
    let gateway = Gateway::of(&config, &data, &context.env, store, Arc::new(SystemClock))?;
    let named = asked.upstream.is_some();
    let wanted: Vec<String> = match asked.upstream {
        Some(name) => vec![name],
        None => {
            let secrets = Secrets::new(data.secrets(), &context.env);
            let usable = |secret: Option<&String>| {
                // One that cannot be read is an error of its own, which its upstream tells.
                secret.is_none_or(|name| !matches!(secrets.find(name), Ok(None)))
            };
            let mut all = Vec::new();
            for upstream in gateway.upstreams().all() {
                // A program that nobody spoke of may run here or not.
                if usable(upstream.secret.as_ref())
                    && (!upstream.guessed || upstream.listens().await)
                {
                    all.push(upstream.name.clone());
                }
            }
            all
        }
    };
    if wanted.is_empty() {
        return Err(Failure::new(
            "no upstream has a key yet, and no program that serves models listens here: `twobox secrets \
             set anthropic`, or set up another, see docs/gateway.md",
        ));
    }
    let (mut offered, mut lines, mut refused) = (Map::new(), Vec::new(), false);
    for upstream in wanted {
        match gateway.offered(&upstream, None).await {
            Ok(models) => {
                lines.extend(models.iter().map(|model| format!("{upstream}/{model}")));
                offered.insert(upstream, json!(models));
            }
            Err(Unoffered { reason, .. }) => {
                // Something else may listen at the port of a program that nobody spoke of.
                let guessed = gateway.upstreams().get(&upstream).is_some_and(|it| it.guessed);
                refused |= !guessed || named;
                note(&reason);
                offered.insert(upstream, json!({ "error": reason }));
            }
        }
    }
    context.output.show(&json!({ "models": Value::Object(offered) }), |_| lines.join("\n"));
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_listed_by_its_name_or_as_its_latest() {
        let offered = ["qwen3:latest".to_owned(), "m".to_owned()];
        for (model, expected) in [("m", true), ("qwen3", true), ("qwen3:8b", false), ("", false)] {
            assert_eq!(is_listed(&offered, model), expected, "{model}");
        }
    }
}
