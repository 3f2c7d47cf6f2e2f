//! What the host of a copy holds back: messages that the original answers.

use rusqlite::named_params;

use super::InboxTx;
use crate::content::Failure;
use crate::ids::MessageId;
use crate::open::BoxError;

impl InboxTx<'_> {
    /// Ends a pending message that is no task as failed, charging nothing. Returns whether it was
    /// pending.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn set_aside(&self, id: &MessageId, failure: &Failure) -> Result<bool, BoxError> {
        self.change(
            "set a message aside",
            "UPDATE messages_in SET status = 'failed', process_after = NULL, failure = :failure
             WHERE id = :id AND status = 'pending' AND series_id IS NULL",
            named_params! { ":id": id, ":failure": failure.to_json() },
        )
    }
}
