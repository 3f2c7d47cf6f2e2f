//! `twobox people`: who is known, who may do what, and letting strangers in. Works with and without a host, which sees
//! each change with the next message.

mod shown;

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;
use twobox_app::intake::fresh_claim_code;
use twobox_model::channel::{COMMAND, TERMINAL};
use twobox_model::people::Role;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::ids::{SystemIds, UserId};
use twobox_shared::visible;
use twobox_store::Store;
use twobox_store::people::{Granting, Let, Person, Who};
use twobox_system::data::DataDir;

use super::Context;
use super::output::{Failure, printable};

/// What can be done with people.
#[derive(Debug, Subcommand)]
pub(super) enum PeopleCommand {
    /// List who is known, and which strangers were told a code.
    List,
    /// Show all of one person.
    Show {
        /// Their name, their id, or CHANNEL:ID.
        who: String,
    },
    /// Let the stranger in who was told this code.
    Pair {
        /// The code, as they say it.
        code: String,
        /// They are somebody who is known, on another channel: their name, id, or CHANNEL:ID.
        #[arg(long = "as", value_name = "WHO")]
        known: Option<String>,
    },
    /// Give somebody a role.
    Grant {
        /// owner, admin or member.
        #[arg(value_parser = role)]
        role: Role,
        /// Their name, their id, or CHANNEL:ID, such as matrix:@ann:example.org.
        who: String,
        /// For this agent alone.
        #[arg(long)]
        agent: Option<String>,
    },
    /// Take a role away.
    Revoke {
        /// owner, admin or member.
        #[arg(value_parser = role)]
        role: Role,
        /// Their name, their id, or CHANNEL:ID.
        who: String,
        /// That for this agent.
        #[arg(long)]
        agent: Option<String>,
    },
    /// Hear somebody nowhere, whatever they may do.
    Block {
        /// Their name, their id, or CHANNEL:ID.
        who: String,
    },
    /// Hear somebody again as their roles say.
    Unblock {
        /// Their name, their id, or CHANNEL:ID.
        who: String,
    },
    /// Forget somebody, with their roles. What they said stays.
    Forget {
        /// Their name, their id, or CHANNEL:ID.
        who: String,
    },
    /// Make a code by which somebody becomes an owner: whoever says `/claim CODE` in a chat.
    ClaimCode,
}

fn role(word: &str) -> Result<Role, String> {
    Role::parse(word).ok_or_else(|| "use owner, admin or member".to_owned())
}

pub(super) fn run(context: &Context, command: PeopleCommand) -> Result<ExitCode, Failure> {
    match command {
        PeopleCommand::List => list(context)?,
        PeopleCommand::Show { who } => {
            let (data, store) = context.look_store()?;
            let person = store.people().show(named(context, &data, &who)).wait()?;
            let answer = json!({ "person": person });
            context.output.show(&answer, |_| printable(&shown::whole(&person)));
        }
        PeopleCommand::Pair { code, known } => pair(context, &code, known.as_deref())?,
        PeopleCommand::Grant { role, who, agent } => {
            let change = |store: &Store, who: Who, granting: Granting| {
                let now = SystemClock.now();
                Ok(store.people().grant(who, granting, &SystemIds, now).wait()?)
            };
            change_role(context, (role, &who, agent.as_deref()), change)?;
        }
        PeopleCommand::Revoke { role, who, agent } => {
            let change = |store: &Store, who: Who, granting: Granting| {
                Ok(store.people().revoke(who, granting, SystemClock.now()).wait()?)
            };
            change_role(context, (role, &who, agent.as_deref()), change)?;
        }
        PeopleCommand::Block { who } => block(context, &who, true)?,
        PeopleCommand::Unblock { who } => block(context, &who, false)?,
        PeopleCommand::Forget { who } => forget(context, &who)?,
        PeopleCommand::ClaimCode => claim_code(context)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Whom a person means. The channels are those that are set and those that are always there.
fn named(context: &Context, data: &DataDir, who: &str) -> Who {
    let config = context.load_config(&data.config()).map(|(config, _)| config).ok();
    let set = config.map(|config| config.channels.all()).unwrap_or_default();
    let ids = set.keys().map(String::as_str).chain([COMMAND, TERMINAL]);
    Who::read(who, &ids.collect::<Vec<_>>())
}

fn list(context: &Context) -> Result<(), Failure> {
    let (_, store) = context.look_store()?;
    let people = store.people().list().wait()?;
    let waiting = store.people().waiting(SystemClock.now()).wait()?;
    let answer = json!({ "people": people, "waiting": waiting });
    context.output.show(&answer, |_| match (people.is_empty(), waiting.is_empty()) {
        (true, true) => context.output.advise(
            "nobody is known yet: `twobox people claim-code` makes a code by which you become an owner in a chat",
        ),
        _ => printable(&shown::all(&people, &waiting)),
    });
    Ok(())
}

fn pair(context: &Context, code: &str, known: Option<&str>) -> Result<(), Failure> {
    let (data, store) = context.open_store()?;
    let known = known.map(|who| named(context, &data, who));
    let (people, now) = (store.people(), SystemClock.now());
    let paired = people.pair(Let::Operator, code, known, &SystemIds, now).wait()?;
    let person = shown(&store, paired.user)?;
    context.output.show(&json!({ "person": person, "again": paired.again }), |_| {
        let whose = format!("{}:{}", paired.channel, paired.sender);
        let who = match &paired.name {
            Some(name) => format!("{} ({whose})", visible::line(name)),
            None => whose,
        };
        printable(&match paired.again {
            false => format!("{who} is let in, and is heard from now on"),
            true => format!("that code was used before: {who} is let in"),
        })
    });
    Ok(())
}

fn change_role(
    context: &Context,
    (role, who, agent): (Role, &str, Option<&str>),
    change: impl FnOnce(&Store, Who, Granting) -> Result<UserId, Failure>,
) -> Result<(), Failure> {
    let (data, store) = context.open_store()?;
    let agent = agent.map(|agent| store.agents().find(agent).wait()).transpose()?;
    let had_owner = store.people().has_owner().wait()?;
    let user = change(&store, named(context, &data, who), Granting { role, agent })?;
    tell(context, &store, user, had_owner)
}

fn block(context: &Context, who: &str, blocked: bool) -> Result<(), Failure> {
    let (data, store) = context.open_store()?;
    let who = named(context, &data, who);
    let user = store.people().block(who, blocked, &SystemIds, SystemClock.now()).wait()?;
    tell(context, &store, user, false)
}

fn forget(context: &Context, who: &str) -> Result<(), Failure> {
    let (data, store) = context.open_store()?;
    let had_owner = store.people().has_owner().wait()?;
    let person = store.people().show(named(context, &data, who)).wait()?;
    let whom = Who::Named(person.id.to_string());
    store.people().forget(whom, SystemClock.now()).wait()?;
    let answer = json!({ "forgotten": person });
    context.output.show(&answer, |_| printable(&format!("{} is forgotten", shown::name(&person))));
    warn_of_no_owner(context, &store, had_owner)
}

fn claim_code(context: &Context) -> Result<(), Failure> {
    let (_, store) = context.open_store()?;
    let code = fresh_claim_code().map_err(Failure::new)?;
    let until = store.people().make_claim(&code, SystemClock.now()).wait()?;
    context.output.show(&json!({ "code": code, "until": until }), |_| {
        format!("say this in a chat until {until}, once, to be an owner: /claim {code}")
    });
    Ok(())
}

fn shown(store: &Store, user: UserId) -> Result<Person, Failure> {
    Ok(store.people().show(Who::Named(user.to_string())).wait()?)
}

/// Says what somebody is now.
fn tell(context: &Context, store: &Store, user: UserId, had_owner: bool) -> Result<(), Failure> {
    let person = shown(store, user)?;
    context.output.show(&json!({ "person": person }), |_| printable(&shown::line(&person)));
    warn_of_no_owner(context, store, had_owner)
}

/// Says that the last owner has gone.
fn warn_of_no_owner(context: &Context, store: &Store, had_owner: bool) -> Result<(), Failure> {
    if had_owner && !store.people().has_owner().wait()? {
        context.output.warn(
            "nobody is an owner any more: where `senders` is \"open\" or a list, whoever is heard decides again \
             what agents ask for",
        );
    }
    Ok(())
}
