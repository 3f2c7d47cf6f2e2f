//! Between a run's start and its end: phases, leases, other owners, and the wish that it end.

use rusqlite::{Connection, TransactionBehavior, named_params};
use twobox_shared::ids::{HostId, RunId};
use twobox_shared::time::UnixMillis;

use super::listed::{Listed, Unreadable, listed};
use super::runs::{Run, by_id, select};
use super::words::Phase;
use crate::{DbError, Operation, Runs, failed};
use twobox_slots::reason::Reason;

impl Runs<'_> {
    /// Records that a run came from the phase `from` to `to`. Returns whether `owner` still has it, in
    /// that phase; if not, do nothing more for it.
    pub fn advance(&self, run: RunId, owner: HostId, from: Phase, to: Phase) -> Operation<bool> {
        self.0.compound(move |db| advance(db, run, owner, from, to))
    }

    /// The running runs that `owner` may take over, the oldest first: those whose lease is over at `now`, and
    /// those of a host whose life is over. A host takes over from the earlier lives of its installation
    /// when it starts, with the data directory in its hand: who has no row in `owner` then is one of
    /// them, or is of a build before there was one. A run of another owner that lives is left alone.
    pub fn left_behind(&self, owner: HostId, now: UnixMillis) -> Operation<Listed<Run>> {
        self.0.operation("list the runs that were left behind", move |db| {
            let select = select(
                "WHERE status = 'running' AND owner <> :owner
                   AND (lease_until_ms <= :now
                        OR owner NOT IN (SELECT owner FROM owner WHERE lease_until_ms > :now))
                 ORDER BY started_at_ms, id",
            );
            listed(db, &select, named_params! { ":owner": owner, ":now": now }, Run::from_row)
        })
    }

    /// Makes `to` the owner of a run that `from` had when it was read, with the lease that it had then.
    /// Returns whether it was still so. Its session, its message and its phase stay.
    pub fn take_over(
        &self,
        run: RunId,
        from: HostId,
        lease_seen: UnixMillis,
        to: HostId,
        lease_until: UnixMillis,
    ) -> Operation<bool> {
        self.0.operation("take a run over", move |db| {
            db.execute(
                "UPDATE runs SET owner = :to, lease_until_ms = :lease_until
                 WHERE id = :id AND status = 'running' AND owner = :from AND lease_until_ms = :lease_seen",
                named_params! {
                    ":id": run,
                    ":from": from,
                    ":lease_seen": lease_seen,
                    ":to": to,
                    ":lease_until": lease_until,
                },
            )
            .map(|changed| changed == 1)
        })
    }

    /// Ends the runs that cannot be read, and returns them: nobody can go on with one, and it would keep a
    /// place, or stand before all others that wait, for ever.
    pub fn end_unreadable(&self, now: UnixMillis) -> Operation<Vec<Unreadable>> {
        self.0.compound(move |db| {
            let open = listed(db, &select(NOT_ENDED), [], Run::from_row)
                .map_err(failed("look for runs that cannot be read"))?;
            let mut ended = Vec::new();
            for run in open.unreadable {
                let changed = db
                    .execute(
                        "UPDATE runs
                         SET status = CASE status WHEN 'running' THEN 'failed' ELSE 'cancelled' END,
                             reason = :reason, error = :error, ended_at_ms = :now
                         WHERE id = :id AND ended_at_ms IS NULL",
                        named_params! {
                            ":id": run.id,
                            ":reason": Reason::Interrupted.as_str(),
                            ":error": format!("its row in host.db cannot be read: {}", run.error),
                            ":now": now,
                        },
                    )
                    .map_err(failed("end a run that cannot be read"))?;
                if changed == 1 {
                    ended.push(run);
                }
            }
            Ok(ended)
        })
    }

    /// Cancels a run that waits for its turn, or notes that the owner of a running one has to end it.
    pub fn request_cancel(&self, run: RunId, now: UnixMillis) -> Operation<Cancelled> {
        self.0.compound(move |db| {
            let step = failed("cancel a run");
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
            let cancelled = cancel_in(&tx, run, Reason::Aborted, now).map_err(&step)?;
            tx.commit().map_err(&step)?;
            Ok(cancelled)
        })
    }
}

pub(crate) fn advance(
    db: &Connection,
    run: RunId,
    owner: HostId,
    from: Phase,
    to: Phase,
) -> Result<bool, DbError> {
    db.execute(
        "UPDATE runs SET phase = :to
         WHERE id = :id AND status = 'running' AND phase = :from AND owner = :owner",
        named_params! { ":id": run, ":owner": owner, ":from": from.as_str(), ":to": to.as_str() },
    )
    .map(|changed| changed == 1)
    .map_err(failed("record a run's phase"))
}

pub(super) const NOT_ENDED: &str = "WHERE ended_at_ms IS NULL ORDER BY id";

/// What came of the wish that a run end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It had not begun, and never will.
    BeforeStart,
    /// Its owner has to end it.
    Requested,
    /// Somebody wished that before.
    RequestedBefore,
    /// It is ended.
    Ended,
    /// There is no such run.
    Unknown,
}

/// The same inside a transaction. The reason is that of a run which had not begun; the owner of a
/// running one knows its own.
pub(super) fn cancel_in(
    tx: &Connection,
    run: RunId,
    reason: Reason,
    now: UnixMillis,
) -> rusqlite::Result<Cancelled> {
    let ended = tx.execute(
        "UPDATE runs
         SET status = 'cancelled', reason = :reason, cancel_requested_at_ms = :now,
             ended_at_ms = :now
         WHERE id = :id AND status = 'queued'",
        named_params! { ":id": run, ":reason": reason.as_str(), ":now": now },
    )?;
    if ended == 1 {
        return Ok(Cancelled::BeforeStart);
    }
    let requested = tx.execute(
        "UPDATE runs SET cancel_requested_at_ms = :now
         WHERE id = :id AND status = 'running' AND cancel_requested_at_ms IS NULL",
        named_params! { ":id": run, ":now": now },
    )?;
    if requested == 1 {
        return Ok(Cancelled::Requested);
    }
    Ok(match by_id(tx, run)? {
        None => Cancelled::Unknown,
        Some(run) if run.ended_at.is_some() => Cancelled::Ended,
        Some(_) => Cancelled::RequestedBefore,
    })
}
