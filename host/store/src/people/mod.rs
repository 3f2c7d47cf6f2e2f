//! People: who they are on channels, what they may do, and who was let in.
//!
//! A person is a user with identities, each an id on one channel, and roles. Each change is one transaction with its
//! row in `audit`, and repeats its guards. What follows from a role is [`twobox_model::people`]'s.

mod change;
mod claim;
mod listed;
mod pairing;
#[cfg(test)]
mod tests;
mod tries;

use rusqlite::{Connection, OptionalExtension, named_params};
use twobox_shared::content::shorten;
use twobox_shared::ids::{AgentGroupId, SessionId, UserId};
use twobox_shared::time::UnixMillis;

pub use self::change::{ChangeError, Granting, Who};
pub use self::claim::{ClaimError, Claimed};
pub use self::listed::{Granted, Identity, Person, Waiting};
pub use self::pairing::{Invited, Let, PairError, Paired, Stranger};
use crate::word::word;
use crate::{Operation, People};
use twobox_model::approval::Kind;
use twobox_model::people::{Role, Speaker, Standing};

/// How many characters of a name are kept, which is its owner's word.
const NAME_MAX: usize = 80;

/// What the audit calls the host's own user.
pub const OPERATOR: &str = "operator";

/// Somebody of whom something is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Who it is.
    pub user: UserId,
    /// Whether they are heard nowhere.
    pub blocked: bool,
    /// What they may do: for one agent, or for all.
    pub roles: Vec<(Role, Option<AgentGroupId>)>,
}

impl Known {
    /// Who they are for `agent`.
    pub fn standing(&self, agent: AgentGroupId) -> Standing {
        let holds = |of: &Option<AgentGroupId>| of.is_none_or(|of| of == agent);
        let roles = self.roles.iter().filter(|(_, of)| holds(of)).map(|(role, _)| *role);
        Standing::of(roles, self.blocked)
    }
}

/// Who has this id on the channel, if that is known.
pub(crate) fn known(
    db: &Connection,
    channel: &str,
    sender: &str,
) -> rusqlite::Result<Option<Known>> {
    let found = db
        .prepare_cached(
            "SELECT u.id, u.blocked_at_ms IS NOT NULL AS blocked
             FROM identities i JOIN users u ON u.id = i.user_id
             WHERE i.channel_id = :channel AND i.sender_id = :sender",
        )?
        .query_row(named_params! { ":channel": channel, ":sender": sender }, |row| {
            Ok((row.get("id")?, row.get("blocked")?))
        })
        .optional()?;
    let Some((user, blocked)) = found else { return Ok(None) };
    let roles = db
        .prepare_cached("SELECT role, agent_group_id FROM user_roles WHERE user_id = :user")?
        .query_map(named_params! { ":user": user }, |row| {
            Ok((word(row, "role")?, row.get("agent_group_id")?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Some(Known { user, blocked, roles }))
}

/// Whether anybody is an owner. Without one there is nobody who could have given roles in a chat.
pub(crate) fn has_owner(db: &Connection) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM user_roles WHERE role = 'owner')")?
        .query_row([], |row| row.get(0))
}

/// Whether `speaker` may decide what is asked in `session`, now.
pub(crate) fn may_decide(
    db: &Connection,
    speaker: &Speaker,
    session: SessionId,
    kind: Kind,
) -> rusqlite::Result<bool> {
    let Speaker::Person { channel, sender, lax } = speaker else {
        return Ok(Standing::Operator.may_decide(kind, false));
    };
    let agent: Option<AgentGroupId> = db
        .prepare_cached("SELECT agent_group_id FROM sessions WHERE id = :session")?
        .query_row(named_params! { ":session": session }, |row| row.get(0))
        .optional()?;
    let known = match sender {
        Some(sender) => known(db, channel, sender)?,
        None => None,
    };
    let standing = match (known, agent) {
        (Some(known), Some(agent)) => known.standing(agent),
        (Some(Known { blocked: true, .. }), None) => Standing::Blocked,
        (Some(_) | None, _) => Standing::Stranger,
    };
    Ok(standing.may_decide(kind, *lax && !has_owner(db)?))
}

impl People<'_> {
    /// Who has this id on the channel, if that is known.
    pub fn known(&self, channel: &str, sender: &str) -> Operation<Option<Known>> {
        let (channel, sender) = (channel.to_owned(), sender.to_owned());
        self.0.operation("look for a person", move |db| known(db, &channel, &sender))
    }

    /// Whether anybody is an owner.
    pub fn has_owner(&self) -> Operation<bool> {
        self.0.operation("look for an owner", |db| has_owner(db))
    }
}

/// A name as it is kept; `None` if there is nothing of it.
fn kept_name(name: Option<&str>) -> Option<String> {
    let name = name.map(|name| shorten(name.trim(), NAME_MAX));
    name.filter(|name| !name.is_empty())
}

/// Who it is that has this id, made as `fresh` if nobody has it.
fn user_of(
    tx: &Connection,
    (channel, sender): (&str, &str),
    name: Option<&str>,
    fresh: UserId,
    now: UnixMillis,
) -> rusqlite::Result<UserId> {
    if let Some(known) = known(tx, channel, sender)? {
        return Ok(known.user);
    }
    tx.execute(
        "INSERT INTO users (id, display_name, created_at_ms) VALUES (:id, :name, :now)",
        named_params! { ":id": fresh, ":name": kept_name(name), ":now": now },
    )?;
    identify(tx, (channel, sender), fresh, now)?;
    Ok(fresh)
}

/// Has an id on a channel be that of `user`, whosever it was.
fn identify(
    tx: &Connection,
    (channel, sender): (&str, &str),
    user: UserId,
    now: UnixMillis,
) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO identities (channel_id, sender_id, user_id, created_at_ms)
         VALUES (:channel, :sender, :user, :now)
         ON CONFLICT (channel_id, sender_id) DO UPDATE SET user_id = excluded.user_id",
        named_params! { ":channel": channel, ":sender": sender, ":user": user, ":now": now },
    )
    .map(drop)
}

/// Gives a role. Returns whether they had not got it.
fn give(
    tx: &Connection,
    user: UserId,
    role: Role,
    agent: Option<AgentGroupId>,
    now: UnixMillis,
) -> rusqlite::Result<bool> {
    tx.execute(
        "INSERT INTO user_roles (user_id, role, agent_group_id, granted_at_ms)
         VALUES (:user, :role, :agent, :now) ON CONFLICT DO NOTHING",
        named_params! { ":user": user, ":role": role.as_str(), ":agent": agent, ":now": now },
    )
    .map(|changed| changed == 1)
}

/// An id on a channel as people write it, and as they are told it.
fn written(channel: &str, sender: &str) -> String {
    format!("{channel}:{sender}")
}
