//! People as they are printed. Names are their owners' words, and in one line.

use twobox_shared::visible;
use twobox_store::people::{Granted, Person, Waiting};

use crate::cli::output::table;

/// What somebody is called.
pub(super) fn name(person: &Person) -> String {
    match &person.name {
        Some(name) => visible::line(name),
        None => person.identities.first().map_or_else(
            || person.id.to_string(),
            |identity| visible::line(&format!("{}:{}", identity.channel, identity.id)),
        ),
    }
}

fn roles(person: &Person) -> String {
    let one = |Granted { role, agent }: &Granted| match agent {
        Some(agent) => format!("{} of {agent}", role.as_str()),
        None => role.as_str().to_owned(),
    };
    let roles: Vec<_> = person.roles.iter().map(one).collect();
    match (person.blocked_at, roles.is_empty()) {
        (Some(_), _) => "blocked".to_owned(),
        (None, true) => "nothing".to_owned(),
        (None, false) => roles.join(", "),
    }
}

fn identities(person: &Person) -> String {
    let one =
        |it: &twobox_store::people::Identity| visible::line(&format!("{}:{}", it.channel, it.id));
    person.identities.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// One person in one line.
pub(super) fn line(person: &Person) -> String {
    format!("{} ({}) is {}", name(person), identities(person), roles(person))
}

/// All of one person.
pub(super) fn whole(person: &Person) -> String {
    let mut lines = vec![
        format!("name     {}", name(person)),
        format!("is       {}", roles(person)),
        format!("on       {}", identities(person)),
        format!("since    {}", person.created_at),
    ];
    lines.extend(person.blocked_at.map(|at| format!("blocked  {at}, whatever they were given")));
    lines.push(format!("id       {}", person.id));
    lines.join("\n")
}

/// Everybody.
pub(super) fn all(people: &[Person], waiting: &[Waiting]) -> String {
    let rows: Vec<_> = people
        .iter()
        .map(|person| [name(person), roles(person), identities(person), person.id.to_string()])
        .collect();
    let mut parts = Vec::new();
    if !rows.is_empty() {
        parts.push(table(["NAME", "IS", "ON", "ID"], &rows));
    }
    if !waiting.is_empty() {
        let rows: Vec<_> = waiting
            .iter()
            .map(|it| {
                let name = it.name.as_deref().map(visible::line).unwrap_or_default();
                let id = visible::line(&format!("{}:{}", it.channel, it.id));
                [name, id, it.told_at.to_string(), it.until.to_string()]
            })
            .collect();
        let table = table(["STRANGER", "ID", "TOLD A CODE", "UNTIL"], &rows);
        parts
            .push(format!("{table}\n\n`twobox people pair CODE` lets in whoever tells you theirs"));
    }
    parts.join("\n\n")
}
