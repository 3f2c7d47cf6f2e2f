//! Looking at channels: by the configuration, by the word of the host that runs, and by that of their platforms.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use url::Url;

use crate::channel_secrets::secret_of;
use crate::cli::Context;
use crate::cli::doctor::status_of;
use crate::cli::output::{Failure, printable, table};
use twobox_channels::kinds::{self, Found};
use twobox_config::{ChannelSettings, Channels};
use twobox_model::channel::TERMINAL;
use twobox_store::Store;
use twobox_system::data::DataDir;

/// How long a platform is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn list(context: &Context) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    let (config, _) = context.load_config(&data.config())?;
    let status = status_of(&data).await.ok();
    let secrets = secret_of(&data, &context.env);
    // What is set wrongly is told of each.
    let rows = all(&config.channels).into_iter().map(|(id, (kind, enabled))| {
        let health = status.as_ref().map(|status| &status["channels"][&id]);
        let (state, reason) = match (enabled, health) {
            (false, _) => ("disabled".to_owned(), None),
            (true, Some(health)) => match health["state"].as_str() {
                Some(state) => (state.to_owned(), health["reason"].as_str().map(str::to_owned)),
                None => ("new".to_owned(), Some("the host has it when it starts anew".to_owned())),
            },
            (true, None) if kind == TERMINAL => ("no host".to_owned(), None),
            (true, None) => {
                let one = only(&config.channels, &id);
                match kinds::usable(&one, data.root(), &secrets) {
                    Ok(usable) => match usable.into_iter().next() {
                        Some((_, Err(reason))) => ("no host".to_owned(), Some(reason)),
                        Some((_, Ok(_))) | None => ("no host".to_owned(), None),
                    },
                    Err(error) => ("wrong".to_owned(), Some(error.reason)),
                }
            }
        };
        let chats = chats(&data, &id);
        json!({ "id": id, "kind": kind, "state": state, "reason": reason, "wired": chats })
    });
    let rows: Vec<Value> = rows.collect();
    context.output.show(&json!({ "channels": rows }), |_| {
        let cells = rows.iter().map(|row| {
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            let chats = row["wired"].as_array().map_or(0, Vec::len).to_string();
            [text("id"), text("kind"), text("state"), chats, text("reason")]
        });
        table(["ID", "KIND", "STATE", "CHATS", "WHY"], &cells.collect::<Vec<_>>())
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn show(context: &Context, id: &str) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    let (config, _) = context.load_config(&data.config())?;
    let (settings, enabled) = find(&config.channels, id)?;
    let health = status_of(&data).await.ok().map(|status| status["channels"][id].clone());
    let one = with(id, settings.clone());
    let wanted = kinds::secrets(&one, data.root()).unwrap_or_default();
    let secrets = secret_of(&data, &context.env);
    let secrets_there: BTreeMap<String, String> = wanted
        .into_iter()
        .flat_map(|(_, names)| names)
        .map(|name| {
            let state = match secrets(&name) {
                Ok(Some(_)) => "is there".to_owned(),
                Ok(None) => format!("is missing: `twobox secrets set {name}`"),
                Err(error) => error,
            };
            (name, state)
        })
        .collect();
    let probed = probe(context, &data, id, settings.clone()).await;
    let chats = chats(&data, id);
    let shown: BTreeMap<&str, Value> =
        settings.settings.iter().map(|(name, value)| (name.as_str(), shown(value))).collect();
    let answer = json!({
        "id": id, "kind": settings.kind, "enabled": enabled, "settings": shown, "secrets": secrets_there,
        "wired": chats, "host": health,
        "platform": probed.as_ref().map_or_else(|reason| json!({ "error": reason }), |found| json!({
            "found": found.what, "warnings": found.warnings,
        })),
    });
    context.output.show(&answer, |_| {
        let mut lines = vec![("kind", settings.kind.clone())];
        if !enabled {
            lines.push(("disabled", format!("`twobox channels enable {id}` has it used again")));
        }
        lines.extend(shown.iter().map(|(name, value)| ("set", format!("{name} = {value}"))));
        lines.extend(
            secrets_there.iter().map(|(name, state)| ("secret", format!("{name} {state}"))),
        );
        lines.push(("host", of_host(health.as_ref())));
        match &probed {
            Ok(found) => {
                lines.push(("platform", found.what.clone()));
                lines.extend(found.warnings.iter().map(|warning| ("warning", warning.clone())));
            }
            Err(reason) => lines.push(("platform", format!("cannot be used: {reason}"))),
        }
        for chat in &chats {
            lines.push((
                "wired",
                format!("{} hears {}", words(&chat["agent"]), words(&chat["chat"])),
            ));
        }
        let lines: Vec<String> =
            lines.iter().map(|(name, value)| printable(&format!("{name:<9} {value}"))).collect();
        lines.join("\n")
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn test(context: &Context, id: &str) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    let (config, _) = context.load_config(&data.config())?;
    let (settings, _) = find(&config.channels, id)?;
    let found = probe(context, &data, id, settings.clone()).await.map_err(Failure::new)?;
    context.output.show(&json!({ "found": found.what, "warnings": found.warnings }), |_| {
        let warnings = found.warnings.iter().map(|warning| format!("\nwarning: {warning}"));
        printable(&format!("ok: {}", found.what))
            + &warnings.map(|it| it.replace('\r', "")).collect::<String>()
    });
    Ok(ExitCode::SUCCESS)
}

/// What the platform of a channel that is set so says; or why it cannot be used.
pub(super) async fn probe(
    context: &Context,
    data: &DataDir,
    id: &str,
    settings: ChannelSettings,
) -> Result<Found, String> {
    let one = with(id, settings);
    let secrets = secret_of(data, &context.env);
    let usable = kinds::usable(&one, data.root(), &secrets).map_err(|error| error.reason)?;
    let what = usable.into_iter().next().map_or_else(|| Ok(String::new()), |(_, usable)| usable)?;
    let probes = kinds::probes(&one, data.root(), &secrets).map_err(|error| error.reason)?;
    match probes.into_iter().next() {
        None => Ok(Found { what, warnings: Vec::new() }),
        Some((_, probing)) => match tokio::time::timeout(PATIENCE, probing).await {
            Ok(found) => found,
            Err(_) => Err(format!("nothing came within {} s", PATIENCE.as_secs())),
        },
    }
}

/// Who is wired to chats of a channel. A damaged `host.db` is told of elsewhere.
pub(super) fn chats(data: &DataDir, id: &str) -> Vec<Value> {
    let opened = Store::look(&data.host_db()).ok();
    let wirings = opened.and_then(|store| store.wirings().list().wait().ok()).unwrap_or_default();
    let ours = wirings.into_iter().filter(|wiring| wiring.channel_type == id);
    ours.map(|it| json!({ "agent": it.agent, "chat": it.platform_id, "name": it.name })).collect()
}

/// A configuration in which this is the only channel.
pub(super) fn with(id: &str, settings: ChannelSettings) -> Channels {
    let mut channels = twobox_config::Config::default().channels;
    channels.sections.insert(id.to_owned(), settings);
    channels
}

fn only(channels: &Channels, id: &str) -> Channels {
    let mut only = channels.clone();
    only.sections.retain(|other, _| other == id);
    if id != twobox_model::channel::COMMAND {
        only.command.clear();
    }
    only
}

/// Every channel with its kind, and whether it is enabled: the terminal first.
fn all(channels: &Channels) -> Vec<(String, (String, bool))> {
    let set = channels.all().into_iter().map(|(id, settings)| (id, (settings.kind, true)));
    let off = channels.disabled.iter().map(|(id, it)| (id.clone(), (it.kind.clone(), false)));
    let set: BTreeMap<String, (String, bool)> = set.chain(off).collect();
    let terminal = (TERMINAL.to_owned(), (TERMINAL.to_owned(), true));
    std::iter::once(terminal).chain(set).collect()
}

fn find(channels: &Channels, id: &str) -> Result<(ChannelSettings, bool), Failure> {
    if let Some(settings) = channels.all().remove(id) {
        return Ok((settings, true));
    }
    if let Some(settings) = channels.disabled.get(id) {
        return Ok((settings.clone(), false));
    }
    Err(Failure::new(match id == TERMINAL {
        true => "the terminal is always there, and nothing of it is set".to_owned(),
        false => format!("there is no channel {id}: `twobox channels list` shows which there are"),
    }))
}

/// A setting as it is shown: of an address nothing but whose it is, for the rest may be nobody's business.
fn shown(value: &toml::Value) -> Value {
    if let Some(url) = value.as_str().and_then(|text| Url::parse(text).ok())
        && url.has_host()
    {
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let more = if bare { "" } else { "/…" };
        return format!("{}{more}", url.origin().ascii_serialization()).into();
    }
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// How it does, by the word of the host that runs.
fn of_host(health: Option<&Value>) -> String {
    let Some(health) = health else { return "no host runs".to_owned() };
    let Some(state) = health["state"].as_str() else {
        return "the host has it when it starts anew".to_owned();
    };
    let reason = health["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
    let can = health["capabilities"].as_object().into_iter().flatten();
    let can: Vec<&str> =
        can.filter(|(_, value)| **value == true).map(|(name, _)| name.as_str()).collect();
    let can = if can.is_empty() { String::new() } else { format!("; it has {}", can.join(", ")) };
    format!("{state}{reason}{can}")
}

fn words(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_only_whose_it_is_is_shown() {
        let cases = [
            ("https://h.example/in?token=s3cret", json!("https://h.example/…")),
            ("https://me:s3cret@h.example/", json!("https://h.example")),
            ("https://h.example:81", json!("https://h.example:81")),
            ("/var/lib/hook.sh", json!("/var/lib/hook.sh")),
            ("@me:example.org", json!("@me:example.org")),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(&text.into()), expected, "{text}");
        }
        assert_eq!(shown(&toml::Value::Boolean(true)), json!(true));
    }
}
