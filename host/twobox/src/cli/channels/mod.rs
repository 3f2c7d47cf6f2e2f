//! `twobox channels`: ways for messages in and out, as they are set in `twobox.toml` and as the host that runs has
//! them.

mod add;
mod file;
mod look;
mod section;

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::Context;
use super::output::{Failure, printable};

/// What can be done with channels.
#[derive(Debug, Subcommand)]
pub(super) enum ChannelsCommand {
    /// List them: of which kind each is, how it does, and which chats are wired.
    List,
    /// Show what is set of one, which secrets it wants, and what its platform says.
    Show {
        /// Its id.
        id: String,
    },
    /// Have the platform of one looked at. Ends with 0 if it can be used.
    Test {
        /// Its id.
        id: String,
    },
    /// Set one up. On a terminal it says what to do and asks for what is missing.
    Add(add::AddArguments),
    /// Have one no longer used from the next start of the host on. Its section and its wirings stay.
    Disable {
        /// Its id.
        id: String,
    },
    /// Have one used again.
    Enable {
        /// Its id.
        id: String,
    },
    /// Remove the section of one. Its secrets, its wirings and what it keeps stay.
    Remove {
        /// Its id.
        id: String,
    },
}

pub(super) async fn run(context: &Context, command: ChannelsCommand) -> Result<ExitCode, Failure> {
    match command {
        ChannelsCommand::List => look::list(context).await,
        ChannelsCommand::Show { id } => look::show(context, &id).await,
        ChannelsCommand::Test { id } => look::test(context, &id).await,
        ChannelsCommand::Add(arguments) => add::run(context, arguments).await,
        ChannelsCommand::Disable { id } => switch(context, &id, false),
        ChannelsCommand::Enable { id } => switch(context, &id, true),
        ChannelsCommand::Remove { id } => remove(context, &id),
    }
}

fn switch(context: &Context, id: &str, enabled: bool) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    file::change(&data.config(), |text| section::enable(text, id, enabled))?;
    let state = if enabled { "enabled" } else { "disabled" };
    context.output.show(&json!({ "channel": id, "enabled": enabled }), |_| {
        printable(&format!("{id} is {state} from the next start of the host on"))
    });
    Ok(ExitCode::SUCCESS)
}

fn remove(context: &Context, id: &str) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    let mut removed = String::new();
    file::change(&data.config(), |text| {
        let (changed, section) = section::remove(text, id)?;
        removed = section;
        Ok(changed)
    })?;
    let chats = look::chats(&data, id);
    context.output.show(&json!({ "removed": id, "section": removed, "wired": chats }), |_| {
        let mut text = format!(
            "{id} is removed from the next start of the host on. This was there:\n{removed}"
        );
        for chat in &chats {
            let Some((agent, chat)) = chat["agent"].as_str().zip(chat["chat"].as_str()) else {
                continue;
            };
            let how =
                format!("\n{agent} is still wired: `twobox wire remove {agent} {id} '{chat}'`");
            text.push_str(&context.output.advise(&printable(&how)));
        }
        text
    });
    Ok(ExitCode::SUCCESS)
}
