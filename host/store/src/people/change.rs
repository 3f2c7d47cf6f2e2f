//! What the operator changes about people.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};
use twobox_model::people::Role;
use twobox_shared::bounds;
use twobox_shared::content::shorten;
use twobox_shared::ids::{IdSource, UserId};
use twobox_shared::time::UnixMillis;

use super::{OPERATOR, give, kept_name, user_of};
use crate::agents::AgentGroup;
use crate::audit::{self, Note};
use crate::{DbError, Operation, People, failed};

/// How a person is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// By an id on a channel.
    Identity {
        /// The channel's id.
        channel: String,
        /// Their id there.
        sender: String,
    },
    /// By their name, or their id here.
    Named(String),
}

impl Who {
    /// What `text` means: `CHANNEL:ID`, where `CHANNEL` is one of `channels`, or else a name.
    pub fn read(text: &str, channels: &[&str]) -> Self {
        match text.split_once(':') {
            Some((channel, sender)) if channels.contains(&channel) && !sender.is_empty() => {
                Self::Identity { channel: channel.to_owned(), sender: sender.to_owned() }
            }
            Some(_) | None => Self::Named(text.to_owned()),
        }
    }
}

/// A role, for one agent or for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granting {
    /// Which role.
    pub role: Role,
    /// For which agent; without one, for all.
    pub agent: Option<AgentGroup>,
}

impl Granting {
    fn told(&self) -> String {
        let role = self.role.as_str();
        match &self.agent {
            Some(agent) => format!("{role} of {}", agent.name),
            None => role.to_owned(),
        }
    }
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Nobody is called so.
    #[error(
        "nobody is known as {who:?}: `twobox people list` shows who is, and CHANNEL:ID names somebody by their id \
         on a channel, such as matrix:@ann:example.org"
    )]
    Unknown {
        /// What was asked for.
        who: String,
    },
    /// Several are called so.
    #[error(
        "several people are called {who:?}: say CHANNEL:ID, or the id that `twobox people list` shows"
    )]
    Several {
        /// What was asked for.
        who: String,
    },
    /// No id can be this.
    #[error("an id on a channel has 1 to {most} bytes without control characters")]
    BadId {
        /// How many.
        most: usize,
    },
    /// An owner is one everywhere.
    #[error("an owner is one for all agents: leave --agent out, or make them an admin")]
    OwnerOfOne,
    /// They have not got the role.
    #[error("{who} is not {role}; `twobox people show` says what they are")]
    NoSuchRole {
        /// Who.
        who: String,
        /// What was to be taken away.
        role: String,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl People<'_> {
    /// Gives a role. Whoever is named by an id on a channel becomes known by that. Returns who it is.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn grant(
        &self,
        who: Who,
        granting: Granting,
        ids: &(impl IdSource + ?Sized),
        now: UnixMillis,
    ) -> Operation<UserId, ChangeError> {
        let fresh = UserId::generate(ids);
        self.change("give a role", move |tx| {
            if granting.role == Role::Owner && granting.agent.is_some() {
                return Err(ChangeError::OwnerOfOne);
            }
            let user = found_or_made(tx, &who, fresh, now)?;
            let agent = granting.agent.as_ref().map(|agent| agent.id);
            let step = failed("give a role");
            give(tx, user, granting.role, agent, now).map_err(&step)?;
            note(tx, "people.grant", user, &granting.told(), now).map_err(&step)?;
            Ok(user)
        })
    }

    /// Takes a role away. Returns whose it was.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn revoke(
        &self,
        who: Who,
        granting: Granting,
        now: UnixMillis,
    ) -> Operation<UserId, ChangeError> {
        self.change("take a role", move |tx| {
            let user = found(tx, &who)?;
            let agent = granting.agent.as_ref().map(|agent| agent.id);
            let step = failed("take a role");
            let changed = tx
                .execute(
                    "DELETE FROM user_roles
                     WHERE user_id = :user AND role = :role AND agent_group_id IS :agent",
                    named_params! {
                        ":user": user, ":role": granting.role.as_str(), ":agent": agent,
                    },
                )
                .map_err(&step)?;
            if changed == 0 {
                let (who, role) = (told(&who), granting.told());
                return Err(ChangeError::NoSuchRole { who, role });
            }
            note(tx, "people.revoke", user, &granting.told(), now).map_err(&step)?;
            Ok(user)
        })
    }

    /// Has somebody be heard nowhere (`blocked`), or by their roles again. Returns who it is.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn block(
        &self,
        who: Who,
        blocked: bool,
        ids: &(impl IdSource + ?Sized),
        now: UnixMillis,
    ) -> Operation<UserId, ChangeError> {
        let fresh = UserId::generate(ids);
        self.change("block somebody", move |tx| {
            let user = match blocked {
                true => found_or_made(tx, &who, fresh, now)?,
                false => found(tx, &who)?,
            };
            let step = failed("block somebody");
            tx.execute(
                "UPDATE users SET blocked_at_ms = :at WHERE id = :user",
                named_params! { ":at": blocked.then_some(now), ":user": user },
            )
            .map_err(&step)?;
            let action = if blocked { "people.block" } else { "people.unblock" };
            note(tx, action, user, "", now).map_err(&step)?;
            Ok(user)
        })
    }

    /// Forgets who somebody is, with their roles: from then on they are a stranger. What they said stays. Returns who
    /// it was.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn forget(&self, who: Who, now: UnixMillis) -> Operation<UserId, ChangeError> {
        self.change("forget somebody", move |tx| {
            let user = found(tx, &who)?;
            let step = failed("forget somebody");
            for statement in [
                "DELETE FROM pairings WHERE user_id = :user",
                "UPDATE claim SET user_id = NULL, due_at_ms = 0 WHERE user_id = :user",
                "DELETE FROM user_roles WHERE user_id = :user",
                "DELETE FROM identities WHERE user_id = :user",
                "DELETE FROM users WHERE id = :user",
            ] {
                tx.execute(statement, named_params! { ":user": user }).map_err(&step)?;
            }
            note(tx, "people.forget", user, "", now).map_err(&step)?;
            Ok(user)
        })
    }

    fn change<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, ChangeError> + Send + 'static,
    ) -> Operation<T, ChangeError> {
        self.0.compound(move |db| {
            let step = failed(action);
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
            let done = work(&tx)?;
            tx.commit().map_err(&step)?;
            Ok(done)
        })
    }
}

/// Who is meant.
///
/// # Errors
/// [`ChangeError::Unknown`], [`ChangeError::Several`].
pub(super) fn found(db: &Connection, who: &Who) -> Result<UserId, ChangeError> {
    let unknown = || ChangeError::Unknown { who: told(who) };
    let step = failed("look for a person");
    match who {
        Who::Identity { channel, sender } => {
            let known = super::known(db, channel, sender).map_err(step)?;
            known.map(|known| known.user).ok_or_else(unknown)
        }
        Who::Named(name) => {
            let users: Vec<UserId> = db
                .prepare("SELECT id FROM users WHERE id = :name OR display_name = :name LIMIT 2")
                .and_then(|mut select| {
                    let params = named_params! { ":name": name };
                    select.query_map(params, |row| row.get(0))?.collect()
                })
                .map_err(step)?;
            match users.as_slice() {
                [] => Err(unknown()),
                [user] => Ok(*user),
                _ => Err(ChangeError::Several { who: told(who) }),
            }
        }
    }
}

/// Who is meant; an id that nobody has becomes a person's.
fn found_or_made(
    tx: &Connection,
    who: &Who,
    fresh: UserId,
    now: UnixMillis,
) -> Result<UserId, ChangeError> {
    let Who::Identity { channel, sender } = who else { return found(tx, who) };
    let most = bounds::NAME.most;
    if sender.len() > most || sender.contains(char::is_control) {
        return Err(ChangeError::BadId { most });
    }
    let step = failed("look for a person");
    // What they called themselves when they were told a code.
    let name: Option<String> = tx
        .query_row(
            "SELECT name FROM pairings WHERE channel_id = :channel AND sender_id = :sender",
            named_params! { ":channel": channel, ":sender": sender },
            |row| row.get(0),
        )
        .optional()
        .map_err(&step)?
        .flatten();
    let name = kept_name(name.as_deref());
    user_of(tx, (channel, sender), name.as_deref(), fresh, now).map_err(|error| step(error).into())
}

fn told(who: &Who) -> String {
    let text = match who {
        Who::Identity { channel, sender } => super::written(channel, sender),
        Who::Named(name) => name.clone(),
    };
    shorten(&text, 80)
}

fn note(
    tx: &Connection,
    action: &str,
    user: UserId,
    detail: &str,
    now: UnixMillis,
) -> rusqlite::Result<()> {
    let subject = format!("user {user}");
    audit::note(tx, &Note { actor: OPERATOR, action, subject: &subject, detail }, now)
}
