//! Asks the person at the terminal who is to answer for the first agent: a vendor, whose key is tried before it
//! is kept, a program of this machine that serves models, or nobody yet.

use std::io::{BufRead, IsTerminal, stdin, stdout};
use std::sync::Arc;

use twobox_config::Config;
use twobox_gateway::secrets::{Secret, VALUE_MAX};
use twobox_gateway::settings::{Kind, Upstream};
use twobox_gateway::{Gateway, Secrets, Unoffered};
use twobox_shared::agent_config::ModelName;
use twobox_shared::clock::SystemClock;
use twobox_store::Store;
use twobox_system::data::DataDir;

use crate::cli::models::is_listed;
use crate::cli::output::{Failure, printable, say};
use crate::cli::{Context, hidden};

/// How many models are shown at once.
const SHOWN: usize = 20;

/// Whether somebody is there to be asked.
pub(in crate::cli) fn somebody(context: &Context) -> bool {
    !context.output.json && stdin().is_terminal() && stdout().is_terminal()
}

/// Somebody who can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    upstream: String,
    /// The secret that it wants.
    secret: Option<String>,
    /// Whether there is nothing more that it needs.
    ready: bool,
    told: String,
}

/// Why no more is asked.
pub(in crate::cli) enum Stop {
    /// The input has ended.
    End,
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
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
    match choose(context, &gateway, &secrets, &candidates).await {
        Ok(chosen) => Ok(chosen),
        Err(Stop::End) => {
            say("the input ended before a model was chosen: the first agent echoes for now");
            Ok(None)
        }
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

async fn choose(
    context: &Context,
    gateway: &Gateway,
    secrets: &Secrets,
    candidates: &[Candidate],
) -> Result<Option<ModelName>, Stop> {
    loop {
        say("who is to answer for the first agent?");
        for (at, candidate) in candidates.iter().enumerate() {
            say(&format!("  {}  {}", at + 1, candidate.told));
        }
        let names: Vec<&str> = candidates.iter().map(|it| it.upstream.as_str()).collect();
        let chosen = loop {
            let typed = line("a number, or Enter for an echo for now:")?;
            match pick(&typed, &names) {
                Pick::Nobody => return Ok(None),
                Pick::One(at) => break &candidates[at],
                Pick::NoSuch | Pick::Other => say(&no_such(&typed, candidates.len())),
            }
        };
        if let Some(model) = model_of(context, gateway, secrets, chosen).await? {
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
        // One that is there and cannot be read is an error, which it tells when it is used.
        let lacks = |name: &String| matches!(secrets.find(name), Ok(None));
        let ready = !upstream.secret.as_ref().is_some_and(lacks);
        found.push(Candidate {
            told: told(upstream, ready),
            ready,
            secret: upstream.secret.clone(),
            upstream: upstream.name.clone(),
        });
    }
    found.sort_by_key(|candidate| !candidate.ready);
    found
}

fn told(upstream: &Upstream, ready: bool) -> String {
    let Upstream { name, .. } = upstream;
    match (upstream.guessed, &upstream.secret, ready) {
        (true, ..) => format!("{name}: something listens at its port on this machine"),
        (false, None, _) => format!("{name}, which wants no key"),
        (false, Some(_), true) => format!("{name}, whose key is there"),
        (false, Some(_), false) => format!("{name}, which wants a key"),
    }
}

/// A model of that upstream, which tells its models first; `None` if the person thought better of it. A key that
/// is typed is tried before it is kept.
async fn model_of(
    context: &Context,
    gateway: &Gateway,
    secrets: &Secrets,
    chosen: &Candidate,
) -> Result<Option<ModelName>, Stop> {
    let Candidate { upstream, secret, ready, .. } = chosen;
    let kind = gateway.upstreams().get(upstream).map(|it| it.kind);
    let mut fresh = None;
    let mut wants_key = !ready;
    loop {
        if let Some(name) = secret.as_ref().filter(|_| wants_key) {
            fresh = key(context, kind, name)?;
            if fresh.is_none() {
                return Ok(None);
            }
        }
        match gateway.offered(upstream, fresh.as_ref()).await {
            Ok(models) => {
                if let (Some(name), Some(key)) = (secret, &fresh) {
                    secrets.set(name, key)?;
                    say(&format!("the key works, and is kept as the secret {name}"));
                }
                return choose_model(upstream, &models);
            }
            Err(Unoffered { reason, is_of_the_key }) => {
                wants_key = is_of_the_key && secret.is_some();
                let kept = if fresh.is_some() && wants_key { "; the key was not kept" } else { "" };
                say(&format!("{}{kept}", printable(&reason)));
                if is_of_the_key && secret.is_none() {
                    say(&format!(
                        "name a secret for it in a section [gateway.upstreams.{upstream}] of \
                         twobox.toml, see docs/gateway.md"
                    ));
                    return Ok(None);
                }
                if !wants_key && !agreed("try again?", true)? {
                    return Ok(None);
                }
            }
        }
    }
}

/// The key of a vendor: that of the environment, if the person wants it, or what is typed.
fn key(context: &Context, kind: Option<Kind>, name: &str) -> Result<Option<Secret>, Stop> {
    let variable = match kind {
        Some(Kind::Anthropic) => "ANTHROPIC_API_KEY",
        Some(Kind::OpenAi) => "OPENAI_API_KEY",
        Some(Kind::Compatible) | None => "",
    };
    let given = context.env.get(variable).filter(|value| !value.is_empty());
    if let Some(given) = given
        && agreed(&format!("use the key in {variable}?"), true)?
    {
        return Ok(secret(given.clone().into_bytes()));
    }
    loop {
        say(&format!("the key of {name}, which is not shown as you type it, or Enter to go back:"));
        let failed = |error| Failure::new(format!("could not read the key: {error}"));
        let typed = hidden::line(&stdin(), VALUE_MAX).map_err(failed)?;
        let Some(typed) = typed.filter(|typed| !typed.is_empty()) else { return Ok(None) };
        if let Some(key) = secret(typed) {
            return Ok(Some(key));
        }
    }
}

/// What was typed as a secret; if it is none, says why.
pub(in crate::cli) fn secret(bytes: Vec<u8>) -> Option<Secret> {
    Secret::of(bytes).inspect_err(|reason| say(&format!("what was given {reason}"))).ok()
}

fn choose_model(upstream: &str, offered: &[String]) -> Result<Option<ModelName>, Stop> {
    for (at, model) in offered.iter().take(SHOWN).enumerate() {
        say(&format!("  {}  {}", at + 1, printable(model)));
    }
    if let Some(more) = offered.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        say(&format!("  and {more} more: `twobox models {upstream}` in another terminal"));
    }
    let shown: Vec<&str> = offered.iter().take(SHOWN).map(String::as_str).collect();
    loop {
        let typed = line("which model? A number or a name, or Enter to go back:")?;
        let model = match pick(&typed, &shown) {
            Pick::Nobody => return Ok(None),
            Pick::One(at) => offered[at].clone(),
            Pick::NoSuch => {
                say(&no_such(&typed, shown.len()));
                continue;
            }
            Pick::Other => typed,
        };
        let name = match ModelName::try_from(format!("{upstream}/{model}")) {
            Ok(name) => name,
            Err(reason) => {
                say(&reason);
                continue;
            }
        };
        // A vendor may know more names than it lists.
        let doubt = format!("{upstream} does not list {}. Use it all the same?", name.model());
        if is_listed(offered, &model) || agreed(&doubt, false)? {
            return Ok(Some(name));
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
    /// A number that none of them has.
    NoSuch,
    /// Something else was typed.
    Other,
}

fn pick(typed: &str, choices: &[&str]) -> Pick {
    if typed.is_empty() {
        return Pick::Nobody;
    }
    if let Some(at) = choices.iter().position(|it| *it == typed) {
        return Pick::One(at);
    }
    let number = typed.trim_end_matches(['.', ')']);
    match number.parse::<usize>() {
        Ok(number) if (1..=choices.len()).contains(&number) => Pick::One(number - 1),
        Ok(_) => Pick::NoSuch,
        Err(_)
            if number.contains(|it: char| it.is_ascii_digit()) && number.parse::<f64>().is_ok() =>
        {
            Pick::NoSuch
        }
        Err(_) => Pick::Other,
    }
}

fn no_such(typed: &str, choices: usize) -> String {
    match choices {
        0 => format!("there is no {typed}, for nothing is listed: type a name"),
        1 => format!("there is no {typed}: type 1, or its name"),
        _ => {
            format!("there is no {typed}: type a number from 1 to {choices}, or a name of the list")
        }
    }
}

/// Whether the person agrees; what Enter means is `usual`.
pub(in crate::cli) fn agreed(question: &str, usual: bool) -> Result<bool, Stop> {
    let choices = if usual { "Enter for yes, n for no:" } else { "y for yes, Enter for no:" };
    loop {
        match line(&format!("{question} {choices}"))?.to_lowercase().as_str() {
            "" => return Ok(usual),
            "y" | "yes" => return Ok(true),
            "n" | "no" => return Ok(false),
            _ => say("that is neither yes nor no"),
        }
    }
}

/// What the person types, without spaces around it.
pub(in crate::cli) fn line(question: &str) -> Result<String, Stop> {
    say(question);
    let mut typed = String::new();
    let read = stdin().lock().read_line(&mut typed);
    let read = read.map_err(|error| Failure::new(format!("could not read the answer: {error}")))?;
    match read {
        0 => Err(Stop::End),
        _ => Ok(typed.trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_a_number_of_the_list_or_a_name_and_never_another_number() {
        let cases = [
            ("", Pick::Nobody),
            ("1", Pick::One(0)),
            ("3", Pick::One(2)),
            ("2)", Pick::One(1)),
            ("b", Pick::One(1)),
            ("0", Pick::NoSuch),
            ("4", Pick::NoSuch),
            ("-1", Pick::NoSuch),
            ("1.5", Pick::NoSuch),
            ("99999999999999999999", Pick::NoSuch),
            ("gpt-x", Pick::Other),
        ];
        for (typed, expected) in cases {
            assert_eq!(pick(typed, &["a", "b", "c"]), expected, "{typed:?}");
        }
    }
}
