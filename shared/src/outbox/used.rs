//! A person's yes is used once. That it is used is durable before what it allows is done, so that a later
//! attempt that would do it again knows that it may have been done.

use rusqlite::named_params;

use super::writer::require_claim;
use super::{Claim, OutboxWriter, failed};
use crate::ids::MessageId;
use crate::open::BoxError;
use crate::time::UnixMillis;

/// A yes in the name of one message of the turn that uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The claim on the message, with whose ack it is forgotten.
    pub claim: Claim,
    /// The row by which a turn that is for this message first would ask the same.
    pub row: MessageId,
}

impl OutboxWriter {
    /// Notes that a yes is used, in the name of each message that a later turn may be for without the others; also
    /// of one that joins the turn after that.
    /// Returns whether it was not before: all of `uses` are noted then, and else none. What this runner has
    /// noted in the same attempt is no other use: a commit may be durable and yet report an error.
    ///
    /// # Errors
    /// [`BoxError::Fenced`] if a claim is no longer this runner's: what was allowed is not done, leave.
    pub fn use_yes(
        &mut self,
        claims: &[Claim],
        uses: &[Use],
        now: UnixMillis,
    ) -> Result<bool, BoxError> {
        let runner = self.runner();
        let tx = self.begin()?;
        for claim in claims {
            require_claim(&tx, claim, runner)?;
        }
        for Use { claim: Claim { message, attempt }, row } in uses {
            // No id of a message has a line break.
            let value = format!("{message}\n{attempt} {runner}");
            let changed = tx
                .prepare_cached(
                    "INSERT INTO session_state (key, value, updated_at)
                     VALUES ('used:' || :row, :value, :now)
                     ON CONFLICT (key) DO UPDATE SET updated_at = excluded.updated_at
                     WHERE value = excluded.value",
                )
                .and_then(|mut upsert| {
                    let now = now.to_rfc3339();
                    upsert.execute(named_params! { ":row": row, ":value": value, ":now": now })
                })
                .map_err(failed("note that a yes is used"))?;
            if changed == 0 {
                return Ok(false); // and what was noted of the others is rolled back
            }
        }
        tx.commit().map_err(failed("commit that a yes is used"))?;
        Ok(true)
    }

    /// Whether [`OutboxWriter::use_yes`] has noted so of `row`.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn is_used(&self, row: &MessageId) -> Result<bool, BoxError> {
        self.conn()
            .prepare_cached("SELECT 1 FROM session_state WHERE key = 'used:' || :row")
            .and_then(|mut select| select.exists(named_params! { ":row": row }))
            .map_err(failed("look whether a yes is used"))
    }
}
