//! Whose `host.db` it is: one host at a time changes sessions, runs and slots, and one that was followed
//! by another is refused, not raced.
//!
//! A host takes over when it starts, and the epoch rises by one. From then on its connection has a
//! *fence*: triggers that only it has, before each change of a row, let the statement fail unless owner
//! and epoch still stand in `owner`. So each statement carries them, whoever adds one. Commands beside a
//! host have none: what they change is guarded by what they have read.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};
use twobox_shared::ids::HostId;
use twobox_shared::time::UnixMillis;

use crate::{DbError, Installation, Operation, failed};

/// For how long others take a host for alive that says nothing.
pub const LEASE: Duration = Duration::from_secs(10 * 60);

/// The tables whose rows are states that a running host moves.
const FENCED: [&str; 12] = [
    "sessions",
    "schedules",
    "runs",
    "run_metrics",
    "notices",
    "approvals",
    "refused",
    "applied",
    "audit",
    "usage_open",
    "usage_days",
    "usage_runs",
];

/// What a statement of a host says whose time is over.
const OVER: &str = "twobox: another host has taken over";

/// One life of a host as the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostLife {
    /// A name that no other life has.
    pub owner: HostId,
    /// One more than that of the life before.
    pub epoch: i64,
}

impl Installation<'_> {
    /// Makes `owner`, a name that nobody else ever has, the owner from now on. Whoever calls holds the
    /// data directory, so no earlier host of this installation works any more; one that does all the
    /// same is refused. From here on so is this connection, when somebody takes over from it.
    pub fn take_over(&self, owner: HostId, now: UnixMillis) -> Operation<HostLife> {
        self.0.operation("take host.db over", move |db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let epoch: i64 = tx.query_row(
                "INSERT INTO owner (install_id, owner, epoch, taken_at_ms, lease_until_ms)
                 SELECT install_id, :owner, 1, :now, :until FROM install WHERE id = 1
                 ON CONFLICT (install_id) DO UPDATE
                 SET owner = excluded.owner, epoch = epoch + 1, taken_at_ms = excluded.taken_at_ms,
                     lease_until_ms = excluded.lease_until_ms
                 RETURNING epoch",
                named_params! { ":owner": owner, ":now": now, ":until": now + LEASE },
                |row| row.get(0),
            )?;
            let life = HostLife { owner, epoch };
            raise_fence(&tx, life)?;
            tx.commit()?;
            Ok(life)
        })
    }

    /// Says that the owner lives, once half of its lease is over.
    ///
    /// # Errors
    /// [`DbError::Fenced`] if it is that no more.
    pub fn renew(&self, HostLife { owner, epoch }: HostLife, now: UnixMillis) -> Operation<()> {
        self.0.compound(move |db| {
            let step = failed("renew the lease on host.db");
            let until: Option<UnixMillis> = db
                .prepare_cached(
                    "SELECT lease_until_ms FROM owner WHERE owner = :owner AND epoch = :epoch",
                )
                .and_then(|mut select| {
                    let params = named_params! { ":owner": owner, ":epoch": epoch };
                    select.query_row(params, |row| row.get(0)).optional()
                })
                .map_err(&step)?;
            if until.is_some_and(|until| until.since(now) > LEASE / 2) {
                return Ok(());
            }
            let renewed = db
                .execute(
                    "UPDATE owner SET lease_until_ms = :until WHERE owner = :owner AND epoch = :epoch",
                    named_params! { ":owner": owner, ":epoch": epoch, ":until": now + LEASE },
                )
                .map_err(&step)?;
            match renewed {
                1 => Ok(()),
                _ => Err(DbError::Fenced { action: "renew the lease on host.db" }),
            }
        })
    }
}

fn raise_fence(db: &Connection, HostLife { owner, epoch }: HostLife) -> rusqlite::Result<()> {
    for table in FENCED {
        for change in ["INSERT", "UPDATE", "DELETE"] {
            db.execute_batch(&format!(
                "DROP TRIGGER IF EXISTS temp.fence_{table}_{change};
                 CREATE TEMP TRIGGER fence_{table}_{change} BEFORE {change} ON main.{table}
                 WHEN NOT EXISTS (SELECT 1 FROM main.owner
                                  WHERE owner = '{owner}' AND epoch = {epoch})
                 BEGIN SELECT RAISE(ABORT, '{OVER}'); END"
            ))?;
        }
    }
    Ok(())
}

/// Whether a statement failed at the fence.
pub(crate) fn is_over(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(_, Some(text)) if text == OVER)
}
