//! What people said that starts no turn: an agent is told of the newest of it when its next turn comes. In a chat
//! in which nobody speaks to an agent it would wait without end, so it is bounded, by number and by age.

use std::time::Duration;

use rusqlite::named_params;

use super::{InboxTx, failed};
use crate::claim::CONTEXT_MAX;
use crate::content::KIND_CHAT;
use crate::open::BoxError;
use crate::time::UnixMillis;

/// How much of it one session keeps, of whatever threads. One turn is told [`CONTEXT_MAX`] of its own.
pub const CONTEXT_KEPT: usize = 200;

/// How old it may become.
pub const CONTEXT_AGE: Duration = Duration::from_secs(24 * 60 * 60);

const _: () = assert!(CONTEXT_KEPT >= CONTEXT_MAX);

impl InboxTx<'_> {
    /// Gives up what is too old at `now`, and the oldest of what is too much: in one chat or thread more than a
    /// turn is told, or in all of them more than [`CONTEXT_KEPT`]. It stays as something that was accepted, so that it
    /// is no other message when its channel hands it in again. Returns how many.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn trim_context(&self, now: UnixMillis) -> Result<usize, BoxError> {
        const UPDATE: &str = "
            UPDATE messages_in SET status = 'cancelled', process_after = NULL
            WHERE status = 'pending' AND id IN (
              SELECT id FROM (
                SELECT id, timestamp,
                       row_number() OVER (ORDER BY seq DESC) AS in_all,
                       row_number() OVER (PARTITION BY channel_type, platform_id, thread_id
                                          ORDER BY seq DESC) AS in_chat
                FROM messages_in
                WHERE status = 'pending' AND trigger = 0 AND kind = :kind
                  AND run_id IS NULL AND series_id IS NULL)
              WHERE timestamp < :oldest OR in_all > :in_all OR in_chat > :in_chat)";
        let most = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.conn()
            .prepare_cached(UPDATE)
            .and_then(|mut update| {
                update.execute(named_params! {
                    ":kind": KIND_CHAT,
                    ":oldest": (now - CONTEXT_AGE).to_rfc3339(),
                    ":in_all": most(CONTEXT_KEPT),
                    ":in_chat": most(CONTEXT_MAX),
                })
            })
            .map_err(failed("give up old context"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::MessageId;
    use crate::inbox::{Inbox, NewMessage, Origin};
    use crate::seq::Seq;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn said(thread: &str, number: usize, trigger: bool) -> NewMessage {
        NewMessage {
            id: MessageId::parse(&format!("{thread}-{number}")).unwrap(),
            kind: KIND_CHAT.to_owned(),
            content: format!("{{\"text\":\"{number}\"}}"),
            origin: Origin {
                channel_type: Some("m".to_owned()),
                platform_id: Some("room".to_owned()),
                thread_id: Some(thread.to_owned()),
            },
            trigger,
            process_after: None,
            source_session: None,
            run_id: None,
        }
    }

    #[test]
    fn context_is_bounded_by_number_and_age_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let mut inbox = Inbox::open(&dir.path().join("inbound.db")).unwrap();
        let tx = inbox.write().unwrap();
        let accept = |message: &NewMessage, at| tx.accept(message, Seq(0), at).unwrap();
        let early = NOW - CONTEXT_AGE - Duration::from_secs(1);
        accept(&said("old", 1, false), early);
        accept(&said("old", 2, true), early);
        let note = NewMessage::note(MessageId::parse("note").unwrap(), "{}".to_owned());
        accept(&note, early);
        for number in 0..60 {
            accept(&said("a", number, false), NOW);
        }
        let left = || -> Vec<String> {
            let pending = tx.pending().unwrap();
            pending.into_iter().map(|message| message.id.to_string()).collect()
        };
        assert_eq!(tx.trim_context(NOW).unwrap(), 1 + 10);
        let first = left();
        assert_eq!(first.len(), 2 + CONTEXT_MAX);
        assert_eq!(first[..3], ["old-2", "note", "a-10"].map(str::to_owned));
        for thread in ["b", "c", "d", "e"] {
            for number in 0..40 {
                accept(&said(thread, number, false), NOW);
            }
        }
        assert_eq!(tx.trim_context(NOW).unwrap(), CONTEXT_MAX + 160 - CONTEXT_KEPT);
        assert_eq!(left()[2], "a-20", "the oldest go");
        assert_eq!(tx.trim_context(NOW).unwrap(), 0);
        let again = accept(&said("a", 3, false), NOW);
        assert!(again.duplicate, "it was accepted before");
        assert!(tx.taken_back(9).unwrap().is_empty(), "nobody has taken it back");
    }
}
