//! People as they are shown.

use rusqlite::{Connection, Row, named_params};
use serde::Serialize;
use twobox_model::people::Role;
use twobox_shared::ids::UserId;
use twobox_shared::time::UnixMillis;

use super::change::{ChangeError, Who, found};
use crate::word::word;
use crate::{DbError, Operation, People, failed};

/// Somebody who is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Person {
    /// Their id here.
    pub id: UserId,
    /// What they called themselves when they came.
    pub name: Option<String>,
    /// What they may do.
    pub roles: Vec<Granted>,
    /// Who they are on channels.
    pub identities: Vec<Identity>,
    /// Since when they are heard nowhere, if so.
    pub blocked_at: Option<UnixMillis>,
    /// Since when they are known.
    pub created_at: UnixMillis,
}

/// What somebody may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Granted {
    /// The role.
    pub role: Role,
    /// For which agent; without one, for all.
    pub agent: Option<String>,
}

/// Who somebody is on a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The channel's id.
    pub channel: String,
    /// Their id there.
    pub id: String,
}

/// A stranger who was told a code, which is theirs to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// The channel's id.
    pub channel: String,
    /// Their id there.
    pub id: String,
    /// What they call themselves.
    pub name: Option<String>,
    /// When they were told.
    pub told_at: UnixMillis,
    /// Until when their code holds.
    pub until: UnixMillis,
}

impl People<'_> {
    /// Who is known, those with most rights first.
    pub fn list(&self) -> Operation<Vec<Person>> {
        self.0.operation("list people", |db| people(db, None))
    }

    /// Strangers whose codes hold at `now`, the newest first.
    pub fn waiting(&self, now: UnixMillis) -> Operation<Vec<Waiting>> {
        self.0.operation("list strangers", move |db| {
            db.prepare(
                "SELECT channel_id, sender_id, name, told_at_ms, due_at_ms FROM pairings
                 WHERE user_id IS NULL AND due_at_ms > :now ORDER BY told_at_ms DESC",
            )?
            .query_map(named_params! { ":now": now }, |row| {
                Ok(Waiting {
                    channel: row.get("channel_id")?,
                    id: row.get("sender_id")?,
                    name: row.get("name")?,
                    told_at: row.get("told_at_ms")?,
                    until: row.get("due_at_ms")?,
                })
            })?
            .collect()
        })
    }

    /// One of them.
    ///
    /// # Errors
    /// [`ChangeError`]: nobody, or several.
    pub fn show(&self, who: Who) -> Operation<Person, ChangeError> {
        self.0.compound(move |db| {
            let user = found(db, &who)?;
            let mut all = people(db, Some(user)).map_err(failed("show a person"))?;
            all.pop().ok_or(
                DbError::Sqlite {
                    action: "show a person",
                    source: rusqlite::Error::QueryReturnedNoRows,
                }
                .into(),
            )
        })
    }
}

fn people(db: &Connection, one: Option<UserId>) -> rusqlite::Result<Vec<Person>> {
    let from_row = |row: &Row<'_>| {
        Ok(Person {
            id: row.get("id")?,
            name: row.get("display_name")?,
            roles: Vec::new(),
            identities: Vec::new(),
            blocked_at: row.get("blocked_at_ms")?,
            created_at: row.get("created_at_ms")?,
        })
    };
    let mut people: Vec<Person> = db
        .prepare(
            "SELECT id, display_name, blocked_at_ms, created_at_ms FROM users
             WHERE :one IS NULL OR id = :one ORDER BY created_at_ms, id",
        )?
        .query_map(named_params! { ":one": one }, from_row)?
        .collect::<rusqlite::Result<_>>()?;
    for person in &mut people {
        let of = named_params! { ":user": person.id };
        person.roles = db
            .prepare_cached(
                "SELECT r.role, a.name FROM user_roles r
                 LEFT JOIN agent_groups a ON a.id = r.agent_group_id
                 WHERE r.user_id = :user ORDER BY r.role = 'owner' DESC, r.role, a.name",
            )?
            .query_map(of, |row| Ok(Granted { role: word(row, "role")?, agent: row.get("name")? }))?
            .collect::<rusqlite::Result<_>>()?;
        person.identities = db
            .prepare_cached(
                "SELECT channel_id, sender_id FROM identities
                 WHERE user_id = :user ORDER BY channel_id, sender_id",
            )?
            .query_map(of, |row| Ok(Identity { channel: row.get(0)?, id: row.get(1)? }))?
            .collect::<rusqlite::Result<_>>()?;
    }
    let rank = |person: &Person| {
        let is = |role: Role| person.roles.iter().any(|granted| granted.role == role);
        match () {
            () if is(Role::Owner) => 0,
            () if is(Role::Admin) => 1,
            () if is(Role::Member) => 2,
            () => 3,
        }
    };
    people.sort_by_key(rank);
    Ok(people)
}
