//! The code by which somebody becomes an owner: made by the operator, said once by whoever is to be it.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};
use twobox_model::people::{CLAIM_LIFE, Role, normal};
use twobox_shared::content::digest;
use twobox_shared::ids::{IdSource, UserId};
use twobox_shared::time::UnixMillis;

use super::pairing::Stranger;
use super::tries::{count_wrong, tries};
use super::{OPERATOR, give, known, user_of, written};
use crate::audit::{self, Note};
use crate::{DbError, Operation, People, failed};

/// Why somebody has not become an owner. Nothing was changed, but that a wrong code counts.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Too many were wrong: it was not looked at.
    #[error("too many codes were wrong: wait an hour, or use `twobox people grant owner`")]
    TooMany,
    /// It is wrong, was used, or is over.
    #[error(
        "that is no code by which one becomes an owner, or not any more: `twobox people claim-code` makes one, \
         which holds for a day"
    )]
    Wrong,
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Somebody is an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimed {
    /// Who.
    pub user: UserId,
    /// Whether the very same has used the code before.
    pub again: bool,
}

impl People<'_> {
    /// Whether a code was made, or somebody is an owner: then nobody needs another one by itself.
    pub fn was_claimable(&self) -> Operation<bool> {
        self.0.operation("look for an owner", |db| {
            db.query_row(
                "SELECT EXISTS (SELECT 1 FROM claim)
                     OR EXISTS (SELECT 1 FROM user_roles WHERE role = 'owner')",
                [],
                |row| row.get(0),
            )
        })
    }

    /// Has `code` make one owner, and none before it. Returns until when.
    pub fn make_claim(&self, code: &str, now: UnixMillis) -> Operation<UnixMillis> {
        let (digest, due) = (digest(&normal(code)), now + CLAIM_LIFE);
        self.0.compound(move |db| {
            let step = failed("make a code for an owner");
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
            tx.execute(
                "INSERT INTO claim (id, digest, created_at_ms, due_at_ms)
                 VALUES (1, :digest, :now, :due)
                 ON CONFLICT (id) DO UPDATE SET digest = excluded.digest, due_at_ms = excluded.due_at_ms,
                   created_at_ms = excluded.created_at_ms, user_id = NULL",
                named_params! { ":digest": digest, ":now": now, ":due": due },
            )
            .map_err(&step)?;
            let note = Note {
                actor: OPERATOR,
                action: "people.claim-code",
                subject: "people",
                detail: &format!("until {due}"),
            };
            audit::note(&tx, &note, now).map_err(&step)?;
            tx.commit().map_err(&step)?;
            Ok(due)
        })
    }

    /// Makes whoever says the right code an owner, once. Said again by the same person it changes nothing.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub fn claim(
        &self,
        by: Stranger,
        code: &str,
        ids: &(impl IdSource + ?Sized),
        now: UnixMillis,
    ) -> Operation<Claimed, ClaimError> {
        let (digest, fresh) = (digest(&normal(code)), UserId::generate(ids));
        self.0.compound(move |db| {
            let step = failed("make somebody an owner");
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
            let claimed = claim(&tx, &by, &digest, fresh, now).map_err(&step)?;
            tx.commit().map_err(&step)?; // a wrong one counts
            claimed
        })
    }
}

fn claim(
    tx: &Connection,
    by: &Stranger,
    digest: &str,
    fresh: UserId,
    now: UnixMillis,
) -> rusqlite::Result<Result<Claimed, ClaimError>> {
    let id = (by.channel.as_str(), by.sender.as_str());
    if !tries(tx, id, now)?.may_try() {
        return Ok(Err(ClaimError::TooMany));
    }
    let before = known(tx, id.0, id.1)?;
    if before.as_ref().is_some_and(|known| known.blocked) {
        return Ok(Err(ClaimError::TooMany)); // which is not answered
    }
    if let Some(known) = &before
        && used_by(tx, digest)? == Some(known.user)
    {
        return Ok(Ok(Claimed { user: known.user, again: true }));
    }
    let holds: bool = tx.query_row(
        "SELECT EXISTS (SELECT 1 FROM claim
                        WHERE digest = :digest AND user_id IS NULL AND due_at_ms > :now)",
        named_params! { ":digest": digest, ":now": now },
        |row| row.get(0),
    )?;
    if !holds {
        count_wrong(tx, id, now)?;
        return Ok(Err(ClaimError::Wrong));
    }
    let user = user_of(tx, id, by.name.as_deref(), fresh, now)?;
    let changed = tx.execute(
        "UPDATE claim SET user_id = :user
         WHERE digest = :digest AND user_id IS NULL AND due_at_ms > :now",
        named_params! { ":user": user, ":digest": digest, ":now": now },
    )?;
    if changed != 1 {
        return Ok(Err(ClaimError::Wrong)); // nobody else writes in this transaction
    }
    give(tx, user, Role::Owner, None, now)?;
    let who = written(id.0, id.1);
    let note = Note {
        actor: &who,
        action: "people.claim",
        subject: &format!("user {user}"),
        detail: "owner",
    };
    audit::note(tx, &note, now)?;
    Ok(Ok(Claimed { user, again: false }))
}

/// Who has used the code, if it was the last one.
fn used_by(tx: &Connection, digest: &str) -> rusqlite::Result<Option<UserId>> {
    let used = tx
        .query_row(
            "SELECT user_id FROM claim WHERE digest = :digest",
            named_params! { ":digest": digest },
            |row| row.get(0),
        )
        .optional()?;
    Ok(used.flatten())
}
