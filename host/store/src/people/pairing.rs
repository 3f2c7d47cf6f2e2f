//! Letting strangers in: each is told a code, and is heard once somebody says it who may.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};
use twobox_model::people::{PAIRING_LIFE, Role, normal};
use twobox_shared::ids::{AgentGroupId, IdSource, MessageId, UserId};
use twobox_shared::time::UnixMillis;

use super::change::{ChangeError, Who, found};
use super::tries::{count_wrong, tries};
use super::{OPERATOR, give, identify, kept_name, known, user_of, written};
use crate::audit::{self, Note};
use crate::{DbError, Operation, People, failed};

/// How long a stranger is told nothing more.
const SILENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// How many strangers are told a code on one channel within the life of one.
const INVITED_MAX: u32 = 100;

/// Somebody on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// The channel's id.
    pub channel: String,
    /// Their id there.
    pub sender: String,
    /// What they are called there, which is their own word.
    pub name: Option<String>,
}

/// What a stranger is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invited {
    /// Their code.
    pub code: String,
    /// Until when it holds.
    pub until: UnixMillis,
}

/// Who lets somebody in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Let {
    /// The host's own user.
    Operator,
    /// Somebody on a channel, with this id.
    Person {
        /// The channel's id.
        channel: String,
        /// Their id there.
        sender: String,
    },
}

/// Somebody who is heard from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paired {
    /// Who.
    pub user: UserId,
    /// Their channel, and
    pub channel: String,
    /// their id there.
    pub sender: String,
    /// What they call themselves.
    pub name: Option<String>,
    /// Whether the code was used before.
    pub again: bool,
}

/// Why nobody was let in. Nothing was changed, but that a wrong code counts.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// Whoever says it may not.
    #[error(
        "only an owner or an admin may let somebody in, and the operator with `twobox people pair`"
    )]
    NotAllowed,
    /// Too many were wrong: it was not looked at.
    #[error("too many codes were wrong: wait an hour, or use `twobox people pair`")]
    TooMany,
    /// Nobody has it.
    #[error(
        "nobody has that code (any more): a code holds for an hour, and whoever says /pair to an agent is told \
         another one"
    )]
    Wrong,
    /// Whom it is to be cannot be said, or they cannot be that.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl People<'_> {
    /// What `stranger` is told who says `message`: a code, for which `fresh` is taken where it has to be another one.
    /// `None` if nothing: they were told within a day, unless they ask for a code (`wants`) and have none that holds;
    /// or too many others were told. The same message is answered alike.
    pub fn invite(
        &self,
        stranger: Stranger,
        message: &MessageId,
        wants: bool,
        fresh: String,
        now: UnixMillis,
    ) -> Operation<Option<Invited>> {
        let message = message.clone();
        self.0.compound(move |db| {
            let step = failed("tell a stranger");
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
            let invited = invite(&tx, &stranger, &message, wants, fresh, now).map_err(&step)?;
            tx.commit().map_err(&step)?;
            Ok(invited)
        })
    }

    /// Lets the stranger in who was told `code`: as a new person, or as `who`. An owner does it for all agents, an
    /// admin for theirs.
    ///
    /// # Errors
    /// [`PairError`].
    pub fn pair(
        &self,
        by: Let,
        code: &str,
        who: Option<Who>,
        ids: &(impl IdSource + ?Sized),
        now: UnixMillis,
    ) -> Operation<Paired, PairError> {
        let (code, fresh) = (normal(code), UserId::generate(ids));
        self.0.compound(move |db| {
            let step = failed("let somebody in");
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
            let paired = match who.map(|who| found(&tx, &who)).transpose() {
                Ok(who) => pair(&tx, &by, &code, who, fresh, now).map_err(&step)?,
                Err(error) => return Err(error.into()),
            };
            tx.commit().map_err(&step)?; // a wrong one counts
            paired
        })
    }
}

fn invite(
    tx: &Connection,
    stranger: &Stranger,
    message: &MessageId,
    wants: bool,
    fresh: String,
    now: UnixMillis,
) -> rusqlite::Result<Option<Invited>> {
    struct Told {
        code: String,
        due_at: UnixMillis,
        told_at: UnixMillis,
        told_in: MessageId,
    }
    let Stranger { channel, sender, name } = stranger;
    let told = tx
        .query_row(
            "SELECT code, due_at_ms, told_at_ms, told_in FROM pairings
             WHERE channel_id = :channel AND sender_id = :sender AND user_id IS NULL",
            named_params! { ":channel": channel, ":sender": sender },
            |row| {
                Ok(Told {
                    code: row.get("code")?,
                    due_at: row.get("due_at_ms")?,
                    told_at: row.get("told_at_ms")?,
                    told_in: row.get("told_in")?,
                })
            },
        )
        .optional()?;
    if let Some(told) = told {
        let holds = told.due_at > now;
        if told.told_in == *message {
            return Ok(holds.then_some(Invited { code: told.code, until: told.due_at }));
        }
        // A clock that was set back keeps nobody waiting.
        let is_recent = told.told_at <= now && now.since(told.told_at) < SILENCE;
        if is_recent && (holds || !wants) {
            return Ok(None);
        }
    }
    tx.execute(
        "DELETE FROM pairings WHERE told_at_ms <= :begin OR told_at_ms > :now",
        named_params! { ":begin": now - SILENCE, ":now": now },
    )?;
    let others: u32 = tx.query_row(
        "SELECT count(*) FROM pairings WHERE channel_id = :channel AND told_at_ms > :begin",
        named_params! { ":channel": channel, ":begin": now - PAIRING_LIFE },
        |row| row.get(0),
    )?;
    if others >= INVITED_MAX {
        return Ok(None);
    }
    let until = now + PAIRING_LIFE;
    tx.execute(
        "INSERT INTO pairings (channel_id, sender_id, name, code, created_at_ms, due_at_ms, told_at_ms, told_in)
         VALUES (:channel, :sender, :name, :code, :now, :until, :now, :message)
         ON CONFLICT (channel_id, sender_id) DO UPDATE SET name = excluded.name, code = excluded.code,
           created_at_ms = excluded.created_at_ms, due_at_ms = excluded.due_at_ms,
           told_at_ms = excluded.told_at_ms, told_in = excluded.told_in, user_id = NULL",
        named_params! {
            ":channel": channel,
            ":sender": sender,
            ":name": kept_name(name.as_deref()),
            ":code": fresh,
            ":now": now,
            ":until": until,
            ":message": message,
        },
    )?;
    Ok(Some(Invited { code: fresh, until }))
}

fn pair(
    tx: &Connection,
    by: &Let,
    code: &str,
    who: Option<UserId>,
    fresh: UserId,
    now: UnixMillis,
) -> rusqlite::Result<Result<Paired, PairError>> {
    let (agents, actor) = match by {
        Let::Operator => (vec![None], OPERATOR.to_owned()),
        Let::Person { channel, sender } => {
            (lets_in_for(tx, channel, sender)?, written(channel, sender))
        }
    };
    if agents.is_empty() {
        return Ok(Err(PairError::NotAllowed));
    }
    if let Let::Person { channel, sender } = by
        && !tries(tx, (channel, sender), now)?.may_try()
    {
        return Ok(Err(PairError::TooMany));
    }
    let found = tx
        .query_row(
            "SELECT channel_id, sender_id, name, user_id FROM pairings
             WHERE replace(code, '-', '') = :code AND (due_at_ms > :now OR user_id IS NOT NULL)",
            named_params! { ":code": code, ":now": now },
            |row| {
                let user: Option<UserId> = row.get("user_id")?;
                Ok(Paired {
                    user: user.unwrap_or(fresh),
                    channel: row.get("channel_id")?,
                    sender: row.get("sender_id")?,
                    name: row.get("name")?,
                    again: user.is_some(),
                })
            },
        )
        .optional()?;
    let Some(paired) = found else {
        if let Let::Person { channel, sender } = by {
            count_wrong(tx, (channel, sender), now)?;
        }
        return Ok(Err(PairError::Wrong));
    };
    if paired.again {
        return Ok(Ok(paired));
    }
    let id = (paired.channel.as_str(), paired.sender.as_str());
    let user = match who {
        Some(user) => {
            identify(tx, id, user, now)?;
            user
        }
        None => user_of(tx, id, paired.name.as_deref(), fresh, now)?,
    };
    let mut given = Vec::new();
    for agent in agents {
        give(tx, user, Role::Member, agent, now)?;
        given.push(agent.map_or_else(|| "all agents".to_owned(), |agent| format!("agent {agent}")));
    }
    tx.execute(
        "UPDATE pairings SET user_id = :user
         WHERE channel_id = :channel AND sender_id = :sender AND user_id IS NULL",
        named_params! { ":user": user, ":channel": id.0, ":sender": id.1 },
    )?;
    let note = Note {
        actor: &actor,
        action: "people.pair",
        subject: &format!("user {user}"),
        detail: &format!("{} is a member for {}", written(id.0, id.1), given.join(", ")),
    };
    audit::note(tx, &note, now)?;
    Ok(Ok(Paired { user, ..paired }))
}

/// For which agents somebody may let others in; `None` is all. Empty if for none.
fn lets_in_for(
    tx: &Connection,
    channel: &str,
    sender: &str,
) -> rusqlite::Result<Vec<Option<AgentGroupId>>> {
    let Some(known) = known(tx, channel, sender)?.filter(|known| !known.blocked) else {
        return Ok(Vec::new());
    };
    let rules = |role: &Role| match role {
        Role::Owner | Role::Admin => true,
        Role::Member => false,
    };
    let mut agents: Vec<_> =
        known.roles.iter().filter(|(role, _)| rules(role)).map(|(_, agent)| *agent).collect();
    if agents.contains(&None) {
        agents = vec![None];
    }
    Ok(agents)
}
