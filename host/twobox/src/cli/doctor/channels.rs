//! What `twobox doctor` says of channels.

use std::collections::BTreeMap;

use futures_util::future::FutureExt;
use serde_json::Value;

use super::{Check, Finding, status_of};
use crate::channel_secrets::secret_of;
use crate::cli::output::{self, printable};
use twobox_app::alerts;
use twobox_channels::kinds::{self, Found, Probing};
use twobox_config::{Channels, Config};
use twobox_model::channel::{COMMAND, TERMINAL};
use twobox_store::Store;
use twobox_system::data::DataDir;

/// Whether channels take messages, by the word of the host that runs.
pub(super) fn alive(data: DataDir) -> Check {
    let look = async move {
        let Ok(status) = status_of(&data).await else {
            return Finding::ok("known while a host runs");
        };
        let known = status["channels"].as_object().cloned().unwrap_or_default();
        let told: Vec<String> =
            known.iter().filter_map(|(id, health)| trouble(id, health)).collect();
        match told.is_empty() {
            true => Finding::ok("they take what is sent"),
            false => Finding::warn(
                printable(&told.join("; ")),
                "look at the channel's program and its platform; `twobox sessions show` names the messages",
            ),
        }
    };
    Check { name: "channels".into(), run: look.boxed() }
}

/// What is wrong with a channel, in one line, if anything is.
pub(crate) fn trouble(id: &str, health: &Value) -> Option<String> {
    let waiting =
        output::count(health["waiting"].as_i64().unwrap_or(0), "message waits", "messages wait");
    if health["state"] == "down" {
        let reason = health["reason"].as_str().unwrap_or("it is not known why");
        let since = health["down_since"].as_str().unwrap_or("some time ago");
        let next = health["next_try"].as_str().map(|next| format!(", tried again at {next}"));
        let next = next.unwrap_or_default();
        return Some(format!("{id}: down since {since}: {reason} ({waiting}{next})"));
    }
    let trouble = &health["trouble"];
    let error = trouble["error"].as_str()?;
    let since = trouble["since"].as_str().unwrap_or("some time ago");
    Some(format!("{id}: {error} (since {since}, {waiting})"))
}

/// Whether the channels that are set could be used now, and those to which agents are wired are set;
/// nothing where nobody wants any.
pub(super) fn settings(
    data: &DataDir,
    channels: &Channels,
    environment: &BTreeMap<String, String>,
) -> Vec<Check> {
    let check = |id: &str, find: Finding| Check::now(format!("{id} channel"), move || find);
    let secrets = secret_of(data, environment);
    let set = match kinds::usable(channels, data.root(), &secrets) {
        Ok(set) => set,
        Err(error) => {
            let help = "mend it: until then the host does not start";
            return vec![check(&error.id, Finding::fail(error.reason, help))];
        }
    };
    // A damaged host.db has a check of its own.
    let opened = Store::look(&data.host_db()).ok();
    let wired = opened.and_then(|store| store.wirings().list().wait().ok()).unwrap_or_default();
    let is_set = |id: &str| id == TERMINAL || set.iter().any(|(other, _)| other == id);
    let mut unset: BTreeMap<String, usize> = BTreeMap::new();
    for wiring in wired.into_iter().filter(|wiring| !is_set(&wiring.channel_type)) {
        *unset.entry(wiring.channel_type).or_default() += 1;
    }
    let unset = unset.into_iter().map(|(id, count)| {
        let what = format!("agents are wired to it ({count}), and it is not set");
        let set = match id == COMMAND {
            true => "set channels.command, or write a section [channels.command]".to_owned(),
            false => format!("write a section [channels.{id}], as in docs/channels.md"),
        };
        let help = format!("{set}: until then nothing is sent there");
        check(&id, Finding::warn(what, help))
    });
    // What is set wrongly was told of above.
    let probes = kinds::probes(channels, data.root(), &secrets).unwrap_or_default();
    let mut probes: BTreeMap<String, Probing> = probes.into_iter().collect();
    let usable = set.iter().map(|(id, usable)| match (usable, probes.remove(id)) {
        (Ok(_), Some(probing)) => {
            Check { name: format!("{id} channel").into(), run: probing.map(found).boxed() }
        }
        (Ok(what), None) => check(id, Finding::ok(what.clone())),
        (Err(reason), _) => check(id, useless(reason.clone())),
    });
    usable.chain(unset).collect()
}

/// Whether the operator is told what is wrong, if they want to be.
pub(super) fn alerts(config: &Config) -> Option<Check> {
    let find = match alerts::address(&config.alerts.to) {
        Ok(None) => return None,
        Err(error) => Finding::fail(error, "until then nobody is told"),
        Ok(Some(to))
            if to.channel_type == TERMINAL
                || config.channels.all().contains_key(&to.channel_type) =>
        {
            Finding::ok(printable(&format!("alerts go to {} {}", to.channel_type, to.platform_id)))
        }
        Ok(Some(to)) => Finding::fail(
            printable(&format!(
                "alerts.to names the channel {:?}, and there is none",
                to.channel_type
            )),
            "write a section for it, or name another: until then nobody is told",
        ),
    };
    Some(Check::now("alerts", move || find))
}

/// What was found of a channel's platform.
fn found(found: Result<Found, String>) -> Finding {
    match found {
        Ok(Found { what, warnings }) if warnings.is_empty() => Finding::ok(printable(&what)),
        Ok(Found { what, warnings }) => Finding::warn(
            printable(&format!("{what}; {}", warnings.join("; "))),
            "docs/channels has what that means",
        ),
        Err(reason) => useless(printable(&reason)),
    }
}

fn useless(reason: String) -> Finding {
    Finding::fail(reason, "messages to that channel wait until it is mended")
}
