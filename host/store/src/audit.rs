//! The table `audit`: what a person has ordered, of what would not have happened by itself.

use rusqlite::{Connection, named_params};
use twobox_shared::time::UnixMillis;

/// What a row says.
pub(crate) struct Note<'a> {
    /// Who ordered it.
    pub actor: &'a str,
    /// What was done.
    pub action: &'a str,
    /// To what.
    pub subject: &'a str,
    /// With what.
    pub detail: &'a str,
}

/// Writes a row, in the transaction of what it tells.
pub(crate) fn note(tx: &Connection, note: &Note<'_>, now: UnixMillis) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO audit (at_ms, actor, action, subject, detail)
         VALUES (:now, :actor, :action, :subject, :detail)",
        named_params! {
            ":now": now,
            ":actor": note.actor,
            ":action": note.action,
            ":subject": note.subject,
            ":detail": note.detail,
        },
    )
    .map(drop)
}
