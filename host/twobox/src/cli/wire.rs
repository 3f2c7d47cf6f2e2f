//! `twobox wire`: which agent listens to which chat: add, list, remove.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::ids::SystemIds;

use super::Context;
use super::output::{Failure, printable, table};
use twobox_model::channel::COMMAND;
use twobox_model::people::Engage;
use twobox_store::messaging::{NewWiring, SessionMode};
use twobox_store::wirings::WireError;

/// What can be done with wirings.
#[derive(Debug, Subcommand)]
pub(super) enum WireCommand {
    /// Have an agent listen to a chat. It may also send there.
    Add {
        /// The agent's name or id.
        agent: String,
        /// `terminal`, `command`, or the id of a channel of the configuration.
        channel: String,
        /// The chat's id on its platform; for a terminal the name of its agent.
        #[arg(allow_negative_numbers = true)]
        chat: String,
        /// What agents call the chat; without it its id, or the name that it has.
        #[arg(long)]
        name: Option<String>,
        /// One session for all, or one for each thread.
        #[arg(long, value_parser = super::agents::session_mode(), default_value = "shared")]
        session_mode: SessionMode,
        /// What of a chat with several people starts a turn: mention, always or context. Without it, what the
        /// channel's `groups` says, or what the wiring that is there has.
        #[arg(long, value_parser = engage)]
        engage: Option<Engage>,
    },
    /// List who listens where.
    List,
    /// Have an agent listen to a chat no longer. Its sessions stay.
    Remove {
        /// The agent's name or id.
        agent: String,
        /// The channel's id, as `wire list` shows it.
        channel: String,
        /// The chat.
        #[arg(allow_negative_numbers = true)]
        chat: String,
    },
}

pub(super) fn run(context: &Context, command: &WireCommand) -> Result<ExitCode, Failure> {
    match command {
        WireCommand::Add { agent, channel, chat, name, session_mode, engage } => {
            let new = NewWiring {
                channel_type: channel.clone(),
                platform_id: chat.clone(),
                name: name.clone(),
                mode: *session_mode,
                engage: *engage,
            };
            add(context, agent, new)
        }
        WireCommand::List => list(context),
        WireCommand::Remove { agent, channel, chat } => remove(context, agent, channel, chat),
    }
}

fn engage(word: &str) -> Result<Engage, String> {
    Engage::parse(word).ok_or_else(|| "use mention, always or context".to_owned())
}

fn add(context: &Context, agent: &str, new: NewWiring) -> Result<ExitCode, Failure> {
    let (data, store) = context.open_store()?;
    let agent = store.agents().find(agent).wait()?;
    // A wiring stands whatever the configuration says: both can be made in any order.
    let config = context.load_config(&data.config()).map(|(config, _)| config).ok();
    let set = config.as_ref().map(|config| config.channels.all()).unwrap_or_default();
    let known: Vec<&str> = set.keys().map(String::as_str).collect();
    let wiring = store.wirings().wire(&agent, new, &known, &SystemIds, SystemClock.now());
    let wired = wiring.wait().map_err(|error| match error {
        WireError::Bad { .. } | WireError::UnknownChannel { .. } => {
            Failure::usage(error.to_string())
        }
        other => other.into(),
    })?;
    context.output.show(&json!({ "wiring": wired }), |_| {
        printable(&format!(
            "{} listens to {} {} ({}), and calls it {:?}",
            wired.agent,
            wired.channel_type,
            wired.platform_id,
            wired.mode.as_str(),
            wired.name
        ))
    });
    if config.is_some() && wired.channel_type == COMMAND && !set.contains_key(COMMAND) {
        context.output.warn("channels.command is not set: until it is, nothing is sent there");
    }
    Ok(ExitCode::SUCCESS)
}

fn list(context: &Context) -> Result<ExitCode, Failure> {
    let (_, store) = context.look_store()?;
    let wirings = store.wirings().list().wait()?;
    context.output.show(&json!({ "wirings": wirings }), |_| {
        let rows: Vec<_> = wirings
            .iter()
            .map(|wiring| {
                [
                    wiring.agent.clone(),
                    wiring.channel_type.clone(),
                    wiring.platform_id.clone(),
                    wiring.name.clone(),
                    wiring.mode.as_str().to_owned(),
                    wiring.engage.map_or("", Engage::as_str).to_owned(),
                ]
            })
            .collect();
        match rows.is_empty() {
            true => context
                .output
                .advise("no agent listens anywhere: `twobox agents add NAME` makes one"),
            false => table(["AGENT", "CHANNEL", "CHAT", "NAME", "SESSIONS", "ENGAGE"], &rows),
        }
    });
    Ok(ExitCode::SUCCESS)
}

fn remove(context: &Context, agent: &str, channel: &str, chat: &str) -> Result<ExitCode, Failure> {
    let (_, store) = context.open_store()?;
    let agent = store.agents().find(agent).wait()?;
    store.wirings().unwire(&agent, channel, chat).wait()?;
    let answer = json!({ "removed": {
        "agent": agent.name, "channel_type": channel, "platform_id": chat,
    } });
    context.output.show(&answer, |_| {
        printable(&format!("{} no longer listens to {channel} {chat}", agent.name))
    });
    Ok(ExitCode::SUCCESS)
}
