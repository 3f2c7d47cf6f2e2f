//! `twobox secrets`: what upstreams, servers of MCP and channels want to see: set, list, remove. No value is ever printed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Read, stdin};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::errors::chain;
use twobox_shared::time::UnixMillis;

use super::output::{Failure, note, table};
use super::{Context, hidden};
use crate::unpriced;
use twobox_channels::kinds;
use twobox_gateway::secrets::{Known, Origin, Secret, Secrets, VALUE_MAX};
use twobox_gateway::settings::Upstreams;
use twobox_store::Store;
use twobox_system::data::DataDir;

/// What can be done with secrets.
#[derive(Debug, Subcommand)]
pub(super) enum SecretsCommand {
    /// Keep one in the data directory, in place of the one of that name. Its value is read from standard
    /// input; on a terminal it is asked for, and not shown.
    Set {
        /// Its name: letters, digits, "-", "_" and ".". An upstream wants the one of its own name, if its
        /// section does not say another.
        name: String,
    },
    /// List their names, where each is from, and what uses it.
    List,
    /// Remove one from the data directory.
    Remove {
        /// Its name.
        name: String,
    },
}

pub(super) fn run(context: &Context, command: &SecretsCommand) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    let secrets = Secrets::new(data.secrets(), &context.env);
    match command {
        SecretsCommand::Set { name } => set(context, &data, &secrets, name),
        SecretsCommand::List => list(context, &data, &secrets),
        SecretsCommand::Remove { name } => remove(context, &secrets, name),
    }
}

fn set(
    context: &Context,
    data: &DataDir,
    secrets: &Secrets,
    name: &str,
) -> Result<ExitCode, Failure> {
    secrets.check(name)?;
    let secret = Secret::of(value(name)?)
        .map_err(|reason| Failure::new(format!("what was given {reason}; nothing was changed")))?;
    let path = secrets.set(name, &secret)?;
    if let Ok(Some((_, origin))) = secrets.find(name)
        && !matches!(origin, Origin::File(_))
    {
        context.output.warn(&format!("{origin} has it too, and comes first"));
    }
    let users = upstreams(context, data).map(|known| used_by(&known, name)).unwrap_or_default();
    let servers = users_of(&servers(context, data), name);
    let channels = users_of(&channels(context, data), name);
    let answer = json!({
        "name": name, "file": path, "upstreams": users, "servers": servers, "channels": channels,
    });
    context.output.show(&answer, |_| {
        let users = [users, servers, named(&channels)].concat();
        let users = match users.is_empty() {
            true => "nothing uses it yet".to_owned(),
            false => format!("used by {}, from the next request on", users.join(", ")),
        };
        format!("{name} is kept in {}; {users}", path.display())
    });
    Ok(ExitCode::SUCCESS)
}

/// What is given on standard input; on a terminal a line that nobody sees.
fn value(name: &str) -> Result<Vec<u8>, Failure> {
    let terminal = stdin();
    let failed = |error| Failure::new(format!("could not read the secret: {error}"));
    if terminal.is_terminal() {
        note(&format!("the secret {name}, which is not shown as you type it, and Enter:"));
        let cancelled = || Failure::new("cancelled; nothing was changed");
        return hidden::line(&terminal, VALUE_MAX).map_err(failed)?.ok_or_else(cancelled);
    }
    let mut bytes = Vec::new();
    terminal.lock().take(VALUE_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn list(context: &Context, data: &DataDir, secrets: &Secrets) -> Result<ExitCode, Failure> {
    let upstreams = upstreams(context, data)?;
    let (servers, channels) = (servers(context, data), channels(context, data));
    let mut used: BTreeSet<String> = upstreams.all().filter_map(|it| it.secret.clone()).collect();
    let others = servers.iter().chain(&channels);
    used.extend(others.flat_map(|(_, secrets)| secrets.iter().cloned()));
    let known = secrets.list(&used)?;
    let there: BTreeMap<&str, &Known> = known.iter().map(|it| (it.name.as_str(), it)).collect();
    // Those that are there without a section need no secret as long as nobody asks them.
    let written = upstreams.all().filter(|it| context_names(context, data, &it.name));
    let missing: Vec<(String, String)> = written
        .filter_map(|it| Some((it.name.clone(), it.secret.clone()?)))
        .filter(|(_, secret)| !there.contains_key(secret.as_str()))
        .collect();
    let without = |wanting: &Wanting| -> Vec<(String, String)> {
        let wanted =
            wanting.iter().flat_map(|(user, secrets)| secrets.iter().map(move |it| (user, it)));
        wanted
            .filter(|(_, secret)| !there.contains_key(secret.as_str()))
            .map(|(user, secret)| (user.clone(), secret.clone()))
            .collect()
    };
    let (unserved, mute) = (without(&servers), without(&channels));
    let now = SystemClock.now();
    let rows: Vec<Row> = known
        .iter()
        .map(|it| Row::of(it, secrets, &upstreams, [&servers, &channels], now))
        .collect();
    let answer = json!({
        "secrets": rows.iter().map(Row::json).collect::<Vec<_>>(),
        "missing": missing.iter()
            .map(|(upstream, secret)| json!({ "upstream": upstream, "secret": secret }))
            .chain(unserved.iter().map(|(server, secret)| json!({ "server": server, "secret": secret })))
            .chain(mute.iter().map(|(channel, secret)| json!({ "channel": channel, "secret": secret })))
            .collect::<Vec<_>>(),
    });
    let wanting = missing.iter().map(|(upstream, it)| (format!("upstream {upstream}"), it));
    let wanting = wanting.chain(unserved.iter().map(|(server, it)| (server.clone(), it)));
    let wanting =
        wanting.chain(mute.iter().map(|(channel, it)| (format!("channel {channel}"), it)));
    let wanting: Vec<(String, &String)> = wanting.collect();
    context.output.show(&answer, |_| text(context, &rows, &wanting));
    Ok(ExitCode::SUCCESS)
}

/// Servers of MCP that the host asks for agents, as people call them, or channels, with the secrets that each wants.
type Wanting = Vec<(String, BTreeSet<String>)>;

/// All servers. What cannot be read is told of elsewhere.
fn servers(context: &Context, data: &DataDir) -> Wanting {
    let known =
        Store::look(&data.host_db()).ok().and_then(|store| store.agents().list().wait().ok());
    let Ok((config, _)) = context.load_config(&data.config()) else { return Vec::new() };
    let mut wanting = Vec::new();
    for agent in unpriced::agents(known.unwrap_or_default(), data, &config) {
        for (server, remote) in agent.provider.remote_servers() {
            let secrets = remote.secrets().into_iter().map(str::to_owned).collect();
            wanting.push((format!("MCP server {server} of {}", agent.name), secrets));
        }
    }
    wanting
}

/// All channels that are set, by their ids. What is set wrongly is told of elsewhere.
fn channels(context: &Context, data: &DataDir) -> Wanting {
    let Ok((config, _)) = context.load_config(&data.config()) else { return Vec::new() };
    let known = kinds::secrets(&config.channels, data.root()).unwrap_or_default();
    known.into_iter().map(|(id, secrets)| (id, secrets.into_iter().collect())).collect()
}

/// Channels, as people call them.
fn named(channels: &[String]) -> Vec<String> {
    channels.iter().map(|id| format!("channel {id}")).collect()
}

/// Those that want that secret.
fn users_of(wanting: &Wanting, secret: &str) -> Vec<String> {
    let users = wanting.iter().filter(|(_, secrets)| secrets.contains(secret));
    users.map(|(user, _)| user.clone()).collect()
}

/// Whether the configuration has a section for that upstream.
fn context_names(context: &Context, data: &DataDir, upstream: &str) -> bool {
    let config = context.load_config(&data.config());
    config.is_ok_and(|(config, _)| config.gateway.upstreams.contains_key(upstream))
}

/// A secret as people see it.
struct Row {
    name: String,
    from: String,
    written: Option<UnixMillis>,
    age: Option<Duration>,
    upstreams: Vec<String>,
    servers: Vec<String>,
    channels: Vec<String>,
    trouble: Option<String>,
}

impl Row {
    fn of(
        known: &Known,
        secrets: &Secrets,
        upstreams: &Upstreams,
        [servers, channels]: [&Wanting; 2],
        now: UnixMillis,
    ) -> Self {
        Self {
            name: known.name.clone(),
            from: known.origin.to_string(),
            written: known.written_at,
            age: known.written_at.map(|at| now.since(at)),
            upstreams: used_by(upstreams, &known.name),
            servers: users_of(servers, &known.name),
            channels: users_of(channels, &known.name),
            trouble: secrets.find(&known.name).err().map(|error| chain(&error)),
        }
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name, "from": self.from, "written_at": self.written,
            "upstreams": self.upstreams, "servers": self.servers,
            "channels": self.channels, "trouble": self.trouble,
        })
    }
}

fn text(context: &Context, rows: &[Row], wanting: &[(String, &String)]) -> String {
    let cells = |row: &Row| {
        let age = row.age.map_or_else(|| "-".to_owned(), ago);
        let users = [row.upstreams.clone(), row.servers.clone(), named(&row.channels)].concat();
        let users = match users.is_empty() {
            true => "nothing".to_owned(),
            false => users.join(", "),
        };
        [row.name.clone(), row.from.clone(), age, users]
    };
    let cells: Vec<[String; 4]> = rows.iter().map(cells).collect();
    let mut text = match cells.is_empty() {
        true => "there is none".to_owned(),
        false => table(["NAME", "FROM", "WRITTEN", "USED BY"], &cells),
    };
    let troubles = rows.iter().filter_map(|row| row.trouble.as_ref());
    troubles.for_each(|trouble| text.push_str(&format!("\n{trouble}")));
    for (user, secret) in wanting {
        let advice =
            format!("\nthe {user} wants {secret}, which is nowhere: `twobox secrets set {secret}`");
        text.push_str(&context.output.advise(&advice));
    }
    text
}

/// A span as people say it, in its largest unit.
fn ago(age: Duration) -> String {
    let seconds = age.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let (size, unit) = units.into_iter().find(|(size, _)| seconds >= *size).unwrap_or((1, "s"));
    format!("{} {unit} ago", seconds / size)
}

fn remove(context: &Context, secrets: &Secrets, name: &str) -> Result<ExitCode, Failure> {
    if !secrets.remove(name)? {
        let reason = match secrets.find(name) {
            Ok(Some((_, origin))) => {
                format!("the secret {name} is from {origin}: take it away there")
            }
            _ => format!("there is no secret {name}: `twobox secrets list` shows them"),
        };
        return Err(Failure::new(reason));
    }
    context.output.show(&json!({ "removed": name }), |_| {
        format!("{name} is removed; a host that runs does not use it from the next request on")
    });
    Ok(ExitCode::SUCCESS)
}

fn upstreams(context: &Context, data: &DataDir) -> Result<Upstreams, Failure> {
    Ok(Upstreams::read(&context.load_config(&data.config())?.0)?)
}

/// The upstreams that want that secret.
fn used_by(upstreams: &Upstreams, secret: &str) -> Vec<String> {
    let users = upstreams.all().filter(|it| it.secret.as_deref() == Some(secret));
    users.map(|it| it.name.clone()).collect()
}
