//! How approvals end of which nobody has decided, and what becomes of those that are over.

use rusqlite::{Connection, TransactionBehavior, named_params};
use twobox_shared::ids::{ApprovalId, SessionId};
use twobox_shared::time::UnixMillis;

use super::reading::find;
use super::{ASKS, DAY_MS, TELLS, tell};
use crate::notices::Notice;
use crate::{Approvals, Operation, failed};
use twobox_model::approval::{Approval, Happening, Status, after};

impl Approvals<'_> {
    /// Ends those of a conversation whose time is over.
    pub fn expire(&self, session: SessionId, now: UnixMillis) -> Operation<Vec<Approval>> {
        self.0.compound(move |db| {
            let step = failed("end approvals");
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
            let due: Vec<ApprovalId> = tx
                .prepare_cached(
                    "SELECT id FROM approvals
                     WHERE session_id = :session AND status = 'pending' AND due_at_ms <= :now",
                )
                .and_then(|mut select| {
                    let params = named_params! { ":session": session, ":now": now };
                    select.query_map(params, |row| row.get(0))?.collect()
                })
                .map_err(&step)?;
            let mut ended = Vec::new();
            for id in due {
                if let Some(approval) = expire(&tx, id, now).map_err(&step)? {
                    tell(&tx, &approval, None, now)?;
                    ended.push(approval);
                }
            }
            tx.commit().map_err(step)?;
            Ok(ended)
        })
    }

    /// Deletes those of a conversation that were told before `horizon` and asked a day or more before `now`,
    /// with their notices, which are settled; and what was said of answers that were none. Returns how many.
    pub fn forget(
        &self,
        session: SessionId,
        horizon: UnixMillis,
        now: UnixMillis,
    ) -> Operation<usize> {
        let day_ago = UnixMillis(now.0.saturating_sub(DAY_MS));
        self.0.operation("forget approvals", move |db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let old: Vec<ApprovalId> = tx
                .prepare_cached(&format!(
                    "SELECT id FROM approvals a
                     WHERE session_id = :session AND told_at_ms < :horizon
                       AND created_at_ms <= :day_ago
                       AND NOT EXISTS (
                         SELECT 1 FROM notices n
                         WHERE n.session_id = a.session_id
                           AND n.cause IN ('{ASKS}' || a.id, '{TELLS}' || a.id)
                           AND n.status IN ('held', 'sending'))"
                ))?
                .query_map(
                    named_params! {
                        ":session": session, ":horizon": horizon, ":day_ago": day_ago,
                    },
                    |row| row.get(0),
                )?
                .collect::<Result<_, _>>()?;
            for id in &old {
                tx.execute(
                    "DELETE FROM notices WHERE session_id = :session AND cause IN (:asks, :tells)",
                    named_params! {
                        ":session": session,
                        ":asks": format!("{ASKS}{id}"),
                        ":tells": format!("{TELLS}{id}"),
                    },
                )?;
                tx.execute("DELETE FROM approvals WHERE id = :id", named_params! { ":id": id })?;
            }
            tx.execute(
                "DELETE FROM notices
                 WHERE session_id = :session AND cause >= :begins AND cause < :ends
                   AND status NOT IN ('held', 'sending') AND created_at_ms < :horizon",
                named_params! {
                    ":session": session,
                    ":begins": Notice::UNCLEAR,
                    ":ends": "unclear;", // what follows a colon
                    ":horizon": horizon.min(day_ago),
                },
            )?;
            tx.commit()?;
            Ok(old.len())
        })
    }
}

/// Ends one whose time is over. Returns it, if it was pending.
fn expire(tx: &Connection, id: ApprovalId, now: UnixMillis) -> rusqlite::Result<Option<Approval>> {
    let Some(approval) = find(tx, id)? else { return Ok(None) };
    let state = (approval.subject.kind, approval.status, approval.subject.choices.len());
    let Ok((status, _)) = after(state, Happening::Expire) else { return Ok(None) };
    let changed = tx.execute(
        "UPDATE approvals SET status = :status, decided_at_ms = :now
         WHERE id = :id AND status = 'pending' AND due_at_ms <= :now",
        named_params! { ":id": id, ":now": now, ":status": status.as_str() },
    )?;
    if changed == 1 { find(tx, id) } else { Ok(None) }
}

/// Ends all that is open: they are another installation's. Returns how many.
pub(crate) fn end_all(tx: &Connection, now: UnixMillis) -> rusqlite::Result<usize> {
    tx.execute(
        "UPDATE approvals SET status = :expired, decided_at_ms = :now WHERE status = 'pending'",
        named_params! { ":now": now, ":expired": Status::Expired.as_str() },
    )
}
