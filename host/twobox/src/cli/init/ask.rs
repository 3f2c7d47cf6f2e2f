//! Asks the person at the terminal who is to answer for the first agent: a vendor, whose key is tried before it
//! is kept, a program of this machine that serves models, or nobody yet.

use std::io::{BufRead, IsTerminal, stdin, stdout};
use std::sync::Arc;

use twobox_config::Config;
use twobox_gateway::secrets::{Secret, VALUE_MAX};
use twobox_gateway::settings::{Kind, Upstream};
use twobox_gateway::{Gateway, Secrets};
use twobox_shared::agent_config::ModelName;
use twobox_shared::clock::SystemClock;
use twobox_store::Store;
use twobox_system::data::DataDir;

use crate::cli::output::{Failure, printable, say};
use crate::cli::{Context, hidden};

/// How many models are shown at once.
const SHOWN: usize = 20;

/// Whether somebody is there to be asked.
pub(super) fn somebody(context: &Context) -> bool {
    !context.output.json && stdin().is_terminal() && stdout().is_terminal()
}

/// Somebody who can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    upstream: String,
    told: String,
    /// The secret that it wants.
    secret: Option<String>,
    /// The same, if it is nowhere.
    lacks: Option<String>,
}

/// The model that the person chooses; `None` for an echo.
///
/// # Errors
/// What is wrong with the settings, or the terminal.
pub(super) async fn model(
    context: &Context,
    config: &Config,
    data: &DataDir,
    store: &Store,
) -> Result<Option<ModelName>, Failure> {
    let gateway = Gateway::of(config, data, &context.env, store.clone(), Arc::new(SystemClock))?;
    let secrets = Secrets::new(data.secrets(), &context.env);
    let candidates = candidates(&gateway, &secrets).await;
    say("who is to answer for the first agent?");
    for (at, candidate) in candidates.iter().enumerate() {
        say(&format!("  {}  {}", at + 1, candidate.told));
    }
    loop {
        let Some(typed) = line("a number, or Enter for an echo for now:")? else { return Ok(None) };
        let chosen = match pick(&typed, candidates.len()) {
            Pick::Nobody => return Ok(None),
            Pick::One(at) => &candidates[at],
            Pick::Other(_) => {
                say(&format!("use a number from 1 to {}", candidates.len()));
                continue;
            }
        };
        if let Some(model) = model_of(context, &gateway, &secrets, chosen).await? {
            return Ok(Some(model));
        }
    }
}

/// Vendors, and what listens on this machine.
async fn candidates(gateway: &Gateway, secrets: &Secrets) -> Vec<Candidate> {
    let mut found = Vec::new();
    for upstream in gateway.upstreams().all() {
        if upstream.guessed && !upstream.listens().await {
            continue;
        }
        let lacks = upstream.secret.clone().filter(|name| matches!(secrets.find(name), Ok(None)));
        found.push(Candidate {
            told: told(upstream, lacks.is_some()),
            lacks,
            secret: upstream.secret.clone(),
            upstream: upstream.name.clone(),
        });
    }
    // Those that need nothing more come first.
    found.sort_by_key(|candidate| candidate.lacks.is_some());
    found
}

fn told(upstream: &Upstream, lacks_key: bool) -> String {
    match (upstream.guessed, lacks_key) {
        (true, _) => format!("{}: something listens at its port on this machine", upstream.name),
        (false, true) => format!("{}, which wants a key", upstream.name),
        (false, false) => format!("{}, whose key is there", upstream.name),
    }
}

/// A model of that upstream, which tells its models first; `None` if the person thought better of it.
async fn model_of(
    context: &Context,
    gateway: &Gateway,
    secrets: &Secrets,
    chosen: &Candidate,
) -> Result<Option<ModelName>, Failure> {
    let kind = gateway.upstreams().get(&chosen.upstream).map(|it| it.kind);
    let offered = loop {
        let fresh = match &chosen.lacks {
            None => None,
            Some(name) => match key(context, kind, name)? {
                None => return Ok(None),
                Some(key) => Some((name, key)),
            },
        };
        let key = fresh.as_ref().map(|(_, key)| key);
        match (gateway.offered(&chosen.upstream, key).await, &fresh) {
            (Ok(models), Some((name, key))) => {
                secrets.set(name, key)?;
                say(&format!("the key works, and is kept as the secret {name}"));
                break models;
            }
            (Ok(models), None) => break models,
            (Err(reason), Some(_)) => say(&format!("{}; the key was not kept", printable(&reason))),
            (Err(reason), None) => {
                say(&printable(&reason));
                if let Some(name) = &chosen.secret {
                    say(&format!("another key: `twobox secrets set {name}`"));
                }
                return Ok(None);
            }
        }
    };
    choose_model(&chosen.upstream, &offered)
}

/// The key of a vendor: that of the environment, if the person wants it, or what is typed.
fn key(context: &Context, kind: Option<Kind>, name: &str) -> Result<Option<Secret>, Failure> {
    let variable = match kind {
        Some(Kind::Anthropic) => "ANTHROPIC_API_KEY",
        Some(Kind::OpenAi) => "OPENAI_API_KEY",
        Some(Kind::Compatible) | None => "",
    };
    let given = context.env.get(variable).filter(|value| !value.is_empty());
    if let Some(given) = given {
        let answer = line(&format!("use the key in {variable}? Enter for yes, n for no:"))?;
        match answer.as_deref() {
            None => return Ok(None),
            Some("" | "y" | "yes") => return secret(given.clone().into_bytes()),
            Some(_) => {}
        }
    }
    say(&format!("the key of {name}, which is not shown as you type it, or Enter to go back:"));
    let failed = |error| Failure::new(format!("could not read the key: {error}"));
    match hidden::line(&stdin(), VALUE_MAX).map_err(failed)? {
        Some(typed) if !typed.is_empty() => secret(typed),
        Some(_) | None => Ok(None),
    }
}

fn secret(bytes: Vec<u8>) -> Result<Option<Secret>, Failure> {
    match Secret::of(bytes) {
        Ok(secret) => Ok(Some(secret)),
        Err(reason) => {
            say(&format!("what was given {reason}"));
            Ok(None)
        }
    }
}

fn choose_model(upstream: &str, offered: &[String]) -> Result<Option<ModelName>, Failure> {
    for (at, model) in offered.iter().take(SHOWN).enumerate() {
        say(&format!("  {}  {}", at + 1, printable(model)));
    }
    if let Some(more) = offered.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        say(&format!("  and {more} more: `twobox models {upstream}`"));
    }
    loop {
        let Some(typed) = line("which model? A number or a name, or Enter to go back:")? else {
            return Ok(None);
        };
        let model = match pick(&typed, offered.len().min(SHOWN)) {
            Pick::Nobody => return Ok(None),
            Pick::One(at) => offered[at].clone(),
            Pick::Other(name) => name,
        };
        match ModelName::try_from(format!("{upstream}/{model}")) {
            Ok(model) => return Ok(Some(model)),
            Err(reason) => say(&reason),
        }
    }
}

/// What a line means where one of some things is to be chosen.
#[derive(Debug, PartialEq, Eq)]
enum Pick {
    /// Nothing was typed.
    Nobody,
    /// The one at this place, from 0.
    One(usize),
    /// Something else was typed.
    Other(String),
}

fn pick(typed: &str, choices: usize) -> Pick {
    if typed.is_empty() {
        return Pick::Nobody;
    }
    match typed.parse::<usize>() {
        Ok(number) if (1..=choices).contains(&number) => Pick::One(number - 1),
        Ok(_) | Err(_) => Pick::Other(typed.to_owned()),
    }
}

/// What the person types, without spaces around it; `None` at the end of the input.
fn line(question: &str) -> Result<Option<String>, Failure> {
    say(question);
    let mut typed = String::new();
    let read = stdin().lock().read_line(&mut typed);
    let read = read.map_err(|error| Failure::new(format!("could not read the answer: {error}")))?;
    Ok((read > 0).then(|| typed.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_the_list_is_that_one_and_anything_else_is_a_name() {
        let other = |text: &str| Pick::Other(text.to_owned());
        let cases = [
            ("", Pick::Nobody),
            ("1", Pick::One(0)),
            ("3", Pick::One(2)),
            ("0", other("0")),
            ("4", other("4")),
            ("-1", other("-1")),
            ("gpt-x", other("gpt-x")),
        ];
        for (typed, expected) in cases {
            assert_eq!(pick(typed, 3), expected, "{typed:?}");
        }
    }
}
