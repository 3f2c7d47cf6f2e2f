//! A person's yes is used once. That it is used is durable before what it allows is done, so that a later
//! attempt that would do it again knows that it may have been done.

use rusqlite::named_params;

use super::writer::require_claim;
use super::{Claim, OutboxWriter, failed};
use crate::ids::MessageId;
use crate::open::BoxError;
use crate::time::UnixMillis;

impl OutboxWriter {
    /// Notes that the yes to what `row` has asked, in a turn for `message`, is used. Returns whether it was not
    /// before. It is forgotten with the ack of `message`.
    ///
    /// # Errors
    /// [`BoxError::Fenced`] if a claim is no longer this runner's: what was allowed is not done, leave.
    pub fn use_yes(
        &mut self,
        claims: &[Claim],
        message: &MessageId,
        row: &MessageId,
        now: UnixMillis,
    ) -> Result<bool, BoxError> {
        let runner = self.runner();
        let tx = self.begin()?;
        for claim in claims {
            require_claim(&tx, claim, runner)?;
        }
        let changed = tx
            .execute(
                "INSERT INTO session_state (key, value, updated_at)
                 VALUES ('used:' || :row, :message, :now) ON CONFLICT (key) DO NOTHING",
                named_params! { ":row": row, ":message": message, ":now": now.to_rfc3339() },
            )
            .map_err(failed("note that a yes is used"))?;
        tx.commit().map_err(failed("commit that a yes is used"))?;
        Ok(changed == 1)
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
