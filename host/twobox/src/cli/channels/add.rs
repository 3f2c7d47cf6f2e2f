//! `twobox channels add`: sets a channel up. What is given on the command line is taken; what is missing is asked for,
//! if somebody is at a terminal, as the guide of its kind has it.

use std::io::{self, Read, stdin};
use std::process::ExitCode;

use clap::Args;
use rustix::rand::{GetRandomFlags, getrandom};
use serde_json::json;
use toml::{Table, Value};

use super::{file, look, section};
use crate::channel_secrets::secret_of;
use crate::cli::init::ask::{self, Stop, agreed, line, somebody};
use crate::cli::output::{Failure, printable, say};
use crate::cli::{Context, hidden};
use twobox_channels::guide::{self, Form, Guide, Question};
use twobox_channels::kinds::{self, KINDS};
use twobox_config::{ChannelSettings, is_channel_id};
use twobox_gateway::Secrets;
use twobox_gateway::secrets::{Secret, VALUE_MAX};
use twobox_system::data::DataDir;

/// What is to be set up.
#[derive(Debug, Args)]
pub(in crate::cli) struct AddArguments {
    /// Its kind, such as `matrix`.
    kind: String,
    /// Its id, a-z, 0-9 and -; without it its kind.
    #[arg(long)]
    id: Option<String>,
    /// A setting, as often as you like: a number, true, false, a list in brackets, or text.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = assignment)]
    set: Vec<(String, Value)>,
    /// Read the secret that it wants from standard input.
    #[arg(long)]
    secret: bool,
}

/// `NAME=VALUE`: as TOML, else as text.
fn assignment(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("say NAME=VALUE")?;
    let (name, value) = (name.trim(), value.trim());
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        return Err(format!("{name:?} is no name of a setting"));
    }
    if ["kind", "enabled"].contains(&name) {
        return Err(format!("{name} is said in another way: see `twobox channels --help`"));
    }
    // A date or a time is text here: no setting is one.
    let read = format!("value = {value}").parse::<Table>().ok().filter(|table| table.len() == 1);
    let read = read.and_then(|mut table| table.remove("value"));
    let value = match read {
        Some(Value::Datetime(_)) | None => Value::String(value.to_owned()),
        Some(value) => value,
    };
    Ok((name.to_owned(), value))
}

/// A channel while it is set up.
struct Draft {
    id: String,
    kind: String,
    settings: Table,
    /// Secrets that are to be kept, by name.
    secrets: Vec<(String, Secret)>,
}

pub(super) async fn run(context: &Context, arguments: AddArguments) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    let (config, _) = context.load_config(&data.config())?;
    let AddArguments { kind, id, set, secret } = arguments;
    if KINDS.iter().all(|known| known.name != kind) {
        let known: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        return Err(Failure::usage(format!("there is no kind {kind:?}: use {}", known.join(", "))));
    }
    let id = id.unwrap_or_else(|| kind.clone());
    if !is_channel_id(&id) {
        return Err(Failure::usage(format!(
            "{id:?} is no id: use a-z, 0-9 and -, at most 64 of them"
        )));
    }
    let channels = &config.channels;
    if channels.all().contains_key(&id) || channels.disabled.contains_key(&id) {
        return Err(Failure::new(section::SectionError::IsThere(id).to_string()));
    }
    let guide = guide::of(&kind);
    let mut draft = Draft { id, kind, settings: set.into_iter().collect(), secrets: Vec::new() };
    if secret {
        draft.secrets.push(given(&draft, guide, &data)?);
    } else if somebody(context)
        && let Some(guide) = guide
    {
        match walk(&mut draft, guide, context, &data) {
            Ok(()) => {}
            Err(Stop::End) => {
                say("the input ended before everything was said: nothing was changed");
                return Ok(ExitCode::FAILURE);
            }
            Err(Stop::Failed(failure)) => return Err(failure),
        }
    }
    draft.names_secrets(guide);
    // Whether its kind understands it, before anything is kept.
    draft
        .mistake(context, &data)
        .map_or(Ok(()), |reason| Err(Failure::new(format!("{reason}; nothing was changed"))))?;
    let Draft { id, kind, settings, secrets } = &draft;
    let store = Secrets::new(data.secrets(), &context.env);
    let mut written = settings.clone();
    written.insert("kind".to_owned(), kind.clone().into());
    // First, for it may fail: until the host starts anew nobody misses the secret.
    file::change(&data.config(), |text| section::add(text, id, &written))?;
    for (name, secret) in secrets {
        store.set(name, secret)?;
    }
    let probed = look::probe(context, &data, id, draft.channel()).await;
    let kept: Vec<&String> = secrets.iter().map(|(name, _)| name).collect();
    let answer = json!({
        "channel": id, "kind": kind, "secrets": kept,
        "platform": probed.as_ref().map_or_else(|reason| json!({ "error": reason }), |found| json!({
            "found": found.what, "warnings": found.warnings,
        })),
    });
    context.output.show(&answer, |_| {
        let mut lines = vec![format!("{id} is set in {}", data.config().display())];
        lines.extend(kept.iter().map(|name| format!("its secret is kept as {name}")));
        match &probed {
            Ok(found) => {
                lines.push(format!("looked at: {}", found.what));
                lines.extend(found.warnings.iter().map(|warning| format!("warning: {warning}")));
            }
            Err(reason) => lines.push(format!("it cannot be used yet: {reason}")),
        }
        let steps = [
            "next: have the host start anew, which then has it".to_owned(),
            guide.map_or_else(String::new, |guide| format!("a chat there is {}", guide.chat)),
            format!("next: `twobox wire add AGENT {id} CHAT` has an agent listen"),
            "whom it hears is in docs/people.md: `twobox people claim-code` is a way to begin"
                .to_owned(),
            guide.map_or_else(String::new, |guide| format!("{} has it all", guide.page)),
        ];
        let steps = steps.iter().filter(|step| !step.is_empty());
        lines.extend(steps.map(|step| context.output.advise(step)));
        let lines: Vec<String> = lines.iter().map(|line| printable(line)).collect();
        lines.join("\n")
    });
    Ok(ExitCode::SUCCESS)
}

impl Draft {
    fn channel(&self) -> ChannelSettings {
        ChannelSettings { kind: self.kind.clone(), settings: self.settings.clone() }
    }

    /// A secret that nobody has named has the name of the channel.
    fn names_secrets(&mut self, guide: Option<&Guide>) {
        if let Some(question) = secret_asked(guide)
            && !self.names_another_secret()
        {
            self.settings.insert(question.setting.to_owned(), self.id.clone().into());
        }
    }

    /// Whether a setting that names a secret is there.
    fn names_another_secret(&self) -> bool {
        self.settings.keys().any(|name| name.ends_with("_secret"))
    }

    /// The name of its secret.
    fn secret_name(&self) -> String {
        let mut named = self.settings.iter().filter(|(name, _)| name.ends_with("_secret"));
        let named = named.next().and_then(|(_, value)| value.as_str());
        named.map_or_else(|| self.id.clone(), str::to_owned)
    }

    /// What its kind does not understand of it. What it merely lacks for now is no mistake.
    fn mistake(&self, context: &Context, data: &DataDir) -> Option<String> {
        let secrets = secret_of(data, &context.env);
        let checked = kinds::usable(&look::with(&self.id, self.channel()), data.root(), &secrets);
        checked.err().map(|error| error.reason)
    }

    /// The same, if it is of this setting.
    fn wrong(&self, setting: &str, context: &Context, data: &DataDir) -> Option<String> {
        let about = format!("channels.{}.{setting}:", self.id);
        self.mistake(context, data).filter(|reason| reason.starts_with(&about))
    }
}

fn secret_asked(guide: Option<&Guide>) -> Option<&Question> {
    guide?.questions.iter().find(|question| matches!(question.form, Form::Secret { .. }))
}

/// The secret on standard input.
fn given(
    draft: &Draft,
    guide: Option<&Guide>,
    data: &DataDir,
) -> Result<(String, Secret), Failure> {
    if secret_asked(guide).is_none() && !draft.names_another_secret() {
        let kind = &draft.kind;
        return Err(Failure::usage(format!("a channel of kind {kind:?} wants no secret")));
    }
    let name = draft.secret_name();
    let store = Secrets::new(data.secrets(), &Default::default());
    store.check(&name)?;
    if store.find(&name)?.is_some() {
        return Err(Failure::usage(format!(
            "there is a secret {name} already: leave --secret out to use that, choose another name with --set, \
             such as --set token_secret=another, or remove it first with `twobox secrets remove {name}`"
        )));
    }
    let failed = |error| Failure::new(format!("could not read the secret: {error}"));
    let mut bytes = Vec::new();
    stdin().lock().take(VALUE_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    let secret = Secret::of(bytes)
        .map_err(|reason| Failure::new(format!("what was given {reason}; nothing was changed")))?;
    Ok((name, secret))
}

/// Says what to do, and asks for what was not given.
fn walk(draft: &mut Draft, guide: &Guide, context: &Context, data: &DataDir) -> Result<(), Stop> {
    say(&format!("{}: {}", guide.kind, guide.what));
    for step in guide.steps {
        say(&format!("  first: {step}"));
    }
    for question in guide.questions {
        if draft.settings.contains_key(question.setting) {
            continue;
        }
        match question.form {
            // Another setting may name one in its place.
            Form::Secret { .. } if draft.names_another_secret() => {}
            Form::Secret { made } => ask_secret(draft, question, made, context, data)?,
            Form::YesNo => {
                let usual = question.usual == Some("yes");
                if agreed(question.ask, usual)? != usual {
                    draft.settings.insert(question.setting.to_owned(), (!usual).into());
                }
            }
            Form::Text | Form::List => ask_text(draft, question, context, data)?,
        }
    }
    Ok(())
}

fn ask_text(
    draft: &mut Draft,
    question: &Question,
    context: &Context,
    data: &DataDir,
) -> Result<(), Stop> {
    loop {
        let typed = line(question.ask)?;
        let typed = match (typed.as_str(), question.usual) {
            ("", Some("")) => return Ok(()),
            ("", Some(usual)) => usual.to_owned(),
            ("", None) => {
                say("that is needed; Ctrl-D gives up, and changes nothing");
                continue;
            }
            _ => typed,
        };
        let value = match question.form {
            Form::List => {
                let words = typed.split(',').map(str::trim).filter(|word| !word.is_empty());
                Value::Array(words.map(|word| word.to_owned().into()).collect())
            }
            Form::Text | Form::YesNo | Form::Secret { .. } => typed.into(),
        };
        draft.settings.insert(question.setting.to_owned(), value);
        match draft.wrong(question.setting, context, data) {
            None => return Ok(()),
            Some(reason) => {
                say(&printable(&reason));
                draft.settings.remove(question.setting);
            }
        }
    }
}

fn ask_secret(
    draft: &mut Draft,
    question: &Question,
    made: bool,
    context: &Context,
    data: &DataDir,
) -> Result<(), Stop> {
    let name = draft.id.clone();
    draft.settings.insert(question.setting.to_owned(), name.clone().into());
    let secrets = Secrets::new(data.secrets(), &context.env);
    if secrets.find(&name)?.is_some()
        && agreed(&format!("use the secret {name} that is there?"), true)?
    {
        return Ok(());
    }
    let otherwise = if made { ", or Enter for one that is made up" } else { "" };
    loop {
        say(&format!("{}, which is not shown as you type it{otherwise}:", question.ask));
        let failed = |error: io::Error| Failure::new(format!("could not read the secret: {error}"));
        let typed = hidden::line(&stdin(), VALUE_MAX).map_err(failed)?.ok_or(Stop::End)?;
        let typed = match typed.is_empty() {
            true if made => random().map_err(failed)?.into_bytes(),
            true => {
                say("that is needed; Ctrl-D gives up, and changes nothing");
                continue;
            }
            false => typed,
        };
        if let Some(secret) = ask::secret(typed) {
            draft.secrets.push((name, secret));
            return Ok(());
        }
    }
}

/// 32 random bytes, as text.
fn random() -> io::Result<String> {
    let mut bytes = [0_u8; 32];
    getrandom(&mut bytes, GetRandomFlags::empty())?; // so few come all at once
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_given_as_toml_or_as_text() {
        let cases = [
            ("keys=true", Value::Boolean(true)),
            ("port=6697", Value::Integer(6697)),
            ("senders=[\"a\", \"b\"]", Value::Array(vec!["a".into(), "b".into()])),
            ("url=https://h.example/in?a=b", "https://h.example/in?a=b".into()),
            ("name=\"true\"", "true".into()),
            ("at=2027-01-15", "2027-01-15".into()),
            ("program=/a b", "/a b".into()),
            ("x=1\ny = 2", "1\ny = 2".into()),
        ];
        for (text, expected) in cases {
            assert_eq!(assignment(text).unwrap().1, expected, "{text}");
        }
        for bad in ["keys", "=1", "a.b=1", "kind=x", "enabled=true", "K=1"] {
            assert!(assignment(bad).is_err(), "{bad}");
        }
    }
}
