//! What a turn that is stopped has asked people: nobody waits for it any more, so it ends with the turn, as a no of
//! whoever stopped that. What is to start a turn of its own once it is decided is left alone.

use std::sync::Arc;

use twobox_shared::content::Chat;
use twobox_shared::errors::chain;
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::NewMessage;
use twobox_shared::open::BoxError;

use crate::boxes::{Boxes, Writers};
use crate::task::{Task, Trouble};
use twobox_model::approval::{Approval, Verdict};
use twobox_model::people::Speaker;
use twobox_store::approvals::Decide;

impl Boxes {
    /// Those of `rows` that a turn for one of `messages` wrote.
    fn rows_for(
        &self,
        writers: Writers,
        rows: &[MessageId],
        messages: &[MessageId],
    ) -> Result<Vec<MessageId>, BoxError> {
        let found = self.read(writers, |outbox| {
            let newest = outbox.newest()?;
            outbox.rows_of(rows, newest)
        })?;
        let is_for = |answers: &str| messages.iter().any(|message| message.as_str() == answers);
        let rows = found.unwrap_or_default().into_iter();
        Ok(rows
            .filter(|row| row.in_reply_to.as_deref().is_some_and(is_for))
            .map(|row| row.id)
            .collect())
    }
}

impl Task {
    /// Ends what the turns for `stopped` have asked and nobody has decided, in the name of whoever said `word`.
    /// Again, it changes nothing.
    pub(super) async fn end_questions(
        &mut self,
        word: &NewMessage,
        stopped: &[MessageId],
    ) -> Result<(), Trouble> {
        self.load_people().await?;
        let pending = self.people.waited_for();
        if pending.is_empty() || stopped.is_empty() {
            return Ok(());
        }
        let rows: Vec<MessageId> =
            pending.iter().filter_map(|it| MessageId::parse(&it.request).ok()).collect();
        let (boxes, writers, messages) =
            (Arc::clone(&self.boxes), self.writers(), stopped.to_vec());
        let found = self.at_its_expense(move || boxes.rows_for(writers, &rows, &messages)).await;
        let asked = match found {
            Ok(asked) => asked,
            // A container that keeps its host from its outbox has its questions end when their time is over.
            Err(error) => {
                tracing::debug!(session = %self.id, error = chain(&error),
                    "which questions are those of what was stopped cannot be seen");
                return Ok(());
            }
        };
        let sender = Chat::from_content(&word.content).sender;
        let by = sender.map_or_else(|| "/stop".to_owned(), |it| format!("{it}, who stopped it"));
        for Approval { session, id, digest, request, .. } in pending {
            if asked.iter().any(|row| row.as_str() == request) {
                let (verdict, by) = (Verdict::Deny, by.clone());
                // Whoever may stop a turn may end what it asks.
                let speaker = Speaker::Operator;
                let order = Decide { session, id, digest, verdict, by, speaker, said_in: None };
                // Whoever was faster has decided it.
                drop(self.decide(order).await?);
            }
        }
        Ok(())
    }
}
