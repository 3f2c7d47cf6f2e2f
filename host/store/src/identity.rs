//! A change of the installation's place or id: each one transaction.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, named_params};
use twobox_shared::ids::{IdSource, InstallId, SessionId};
use twobox_shared::time::UnixMillis;

use super::audit::{self, Note};
use super::{DbError, Installation, Operation, approvals, failed, place};
use twobox_model::dead_letter::HELD;
use twobox_model::installation::Place;
use twobox_slots::reason::Reason;

/// Why the schedules of a copy are paused.
pub const PAUSED: &str = "this is a copy, and the original runs it: `twobox schedules resume` it \
                          only if it is to run here as well";

/// What a run of a copy says of its end.
const CANCELLED: &str = "it was open when this copy was made, and goes on in the original";

impl Installation<'_> {
    /// The installation's id, made at the first call.
    pub fn id_or_new(
        &self,
        ids: &(impl IdSource + ?Sized),
        now: UnixMillis,
    ) -> Operation<InstallId> {
        let fresh = InstallId::generate(ids);
        self.0.operation("name the installation", move |db| {
            db.execute(
                "INSERT INTO install (id, install_id, created_at_ms) VALUES (1, ?1, ?2)
                 ON CONFLICT (id) DO NOTHING",
                rusqlite::params![fresh, now],
            )?;
            db.query_row("SELECT install_id FROM install WHERE id = 1", [], |row| row.get(0))
        })
    }

    /// The installation's id, if it has one.
    pub fn id(&self) -> Operation<Option<InstallId>> {
        self.0.compound(move |db| install(db))
    }

    /// Records a new place. If the files are others than before (`other_files`), a container that still
    /// lives has the old ones: it is stopped by the next host, which is not held against its message.
    /// Returns how many containers were on record then.
    pub fn move_to(&self, seen: &Place, other_files: bool, now: UnixMillis) -> Operation<usize> {
        let seen = seen.to_owned();
        self.0.compound(move |db| {
            let step = failed("record a move");
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
            let mut runners = 0;
            if other_files {
                runners = tx
                    .execute(
                        "UPDATE sessions SET stop_requested = 'host', next_due_at_ms = 0
                         WHERE runner_id IS NOT NULL",
                        [],
                    )
                    .map_err(&step)?;
                note(&tx, "moved", &seen.path.display().to_string(), now).map_err(&step)?;
            }
            place::remember(&tx, &seen, now)?;
            tx.commit().map_err(&step)?;
            Ok(runners)
        })
    }

    /// Gives the installation an id of its own. No container on record is one of its own, so none is
    /// waited for; sessions in `broken` are taken out of use; whichever had something outstanding is
    /// looked at once.
    ///
    /// # Errors
    /// [`DbError::Sqlite`]: nothing was changed.
    pub fn become_copy(
        &self,
        fresh: InstallId,
        seen: &Place,
        broken: &[(SessionId, String)],
        now: UnixMillis,
    ) -> Operation<Changed> {
        let seen = seen.to_owned();
        let broken = broken.to_owned();
        self.0.compound(move |db| {
            let step = failed("make this an installation of its own");
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
            let changed = change(&tx, fresh, &seen, &broken, now).map_err(&step)?;
            place::remember(&tx, &seen, now)?;
            tx.commit().map_err(&step)?;
            Ok(changed)
        })
    }
}

pub(crate) fn install(db: &Connection) -> Result<Option<InstallId>, DbError> {
    db.query_row("SELECT install_id FROM install WHERE id = 1", [], |row| row.get(0))
        .optional()
        .map_err(failed("read the installation's id"))
}

/// What a new id has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    /// The old id.
    pub original: InstallId,
    /// Notices that were held back.
    pub notices: usize,
    /// Schedules that were paused.
    pub schedules: usize,
    /// Runs that were cancelled.
    pub runs: usize,
}

fn change(
    tx: &Transaction<'_>,
    fresh: InstallId,
    seen: &Place,
    broken: &[(SessionId, String)],
    now: UnixMillis,
) -> rusqlite::Result<Changed> {
    let original: InstallId =
        tx.query_row("SELECT install_id FROM install WHERE id = 1", [], |row| row.get(0))?;
    tx.execute(
        "UPDATE install SET install_id = :fresh WHERE id = 1",
        named_params! {
            ":fresh": fresh,
        },
    )?;
    // No host has lived here: the original's has its own.
    tx.execute("DELETE FROM owner", [])?;
    tx.execute(
        "UPDATE sessions
         SET runner_id = NULL, runner_started_at_ms = NULL, stop_requested = NULL,
             failed_starts = 0, start_after_ms = NULL, start_error = NULL,
             next_due_at_ms = CASE WHEN status = 'closed' OR next_due_at_ms IS NULL
                                   THEN next_due_at_ms ELSE 0 END",
        [],
    )?;
    for (session, reason) in broken {
        tx.execute(
            "UPDATE sessions SET status = 'quarantined', quarantine_reason = :reason
             WHERE id = :id AND status <> 'closed'",
            named_params! { ":id": session, ":reason": reason },
        )?;
    }
    let (notices, schedules, runs) = hold_back(tx, now)?;
    let detail = format!("{fresh} at {}", seen.path.display());
    note(tx, "copied", &format!("{original}, now {detail}"), now)?;
    Ok(Changed { original, notices, schedules, runs })
}

/// Leaves to the original what is under way there. Returns how many notices, schedules and runs.
fn hold_back(tx: &Connection, now: UnixMillis) -> rusqlite::Result<(usize, usize, usize)> {
    let notices = tx.execute(
        "UPDATE notices
         SET status = CASE status WHEN 'sending' THEN 'uncertain' ELSE 'failed' END,
             next_attempt_at_ms = NULL, error = :held
         WHERE status IN ('held', 'sending')",
        named_params! { ":held": HELD },
    )?;
    approvals::end_all(tx, now)?;
    let schedules = tx.execute(
        "UPDATE schedules
         SET enabled = 0, pause_reason = :reason, next_slot_ms = NULL, next_due_ms = NULL,
             revision = revision + 1, updated_at_ms = :now
         WHERE enabled = 1 AND removed_at_ms IS NULL",
        named_params! { ":reason": PAUSED, ":now": now },
    )?;
    let runs = tx.execute(
        "UPDATE runs
         SET status = 'cancelled', error = :error, cancel_requested_at_ms = :now,
             ended_at_ms = :now,
             reason = CASE status WHEN 'queued' THEN :paused ELSE :aborted END
         WHERE status IN ('queued', 'running')",
        named_params! {
            ":error": CANCELLED,
            ":now": now,
            ":paused": Reason::Paused.as_str(),
            ":aborted": Reason::Aborted.as_str(),
        },
    )?;
    Ok((notices, schedules, runs))
}

fn note(tx: &Connection, action: &str, detail: &str, now: UnixMillis) -> rusqlite::Result<()> {
    audit::note(tx, &Note { actor: "operator", action, subject: "install", detail }, now)
}
