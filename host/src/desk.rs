//! The desk: what channels and the command line may ask of the running daemon. It finds the session
//! of a message and passes the rest to the session's task.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join_all};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use twobox_shared::content::KIND_CHAT;
use twobox_shared::ids::{MessageId, SessionId};
use twobox_shared::inbox::{NewMessage, Origin};

use crate::channel::{Desk, Inbound, Place, Receipt, Refusal};
use crate::core::Core;
use crate::db::{DbError, messaging, overview, sessions};
use crate::session::signal::Reason;
use crate::session::task::Command;

/// The desk of a running daemon.
#[derive(Debug, Clone)]
pub struct DaemonDesk {
    core: Arc<Core>,
}

impl DaemonDesk {
    /// In front of `core`.
    pub fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// The sessions that a message at `place` is for: one of each agent group that listens there.
    async fn sessions_of(&self, place: Place) -> Result<Vec<SessionId>, DbError> {
        let (ids, now) = (Arc::clone(&self.core.parts.ids), self.core.parts.clock.now());
        self.core
            .parts
            .db
            .call(move |db| {
                let listening = messaging::listening(db, &place.channel_type, &place.platform_id)?;
                listening
                    .iter()
                    .map(|wiring| {
                        let thread = wiring.mode.thread_key(place.thread_id.as_deref());
                        sessions::resolve(
                            db,
                            wiring.agent,
                            wiring.messaging_group,
                            thread,
                            &*ids,
                            now,
                        )
                    })
                    .collect()
            })
            .await
    }

    async fn accept_message(&self, message: Inbound) -> Result<Vec<Receipt>, Refusal> {
        if self.core.is_stopping() {
            return Err(Refusal::TryAgain { reason: "the host is stopping".to_owned() });
        }
        let Place { channel_type, platform_id, .. } = message.place.clone();
        let sessions = self
            .sessions_of(message.place.clone())
            .await
            .map_err(|error| Refusal::TryAgain { reason: crate::session::task::chain(&error) })?;
        if sessions.is_empty() {
            return Err(Refusal::NobodyListens { channel_type, platform_id });
        }
        let new = NewMessage {
            id: message.id,
            kind: KIND_CHAT.to_owned(),
            content: message.chat.to_json(),
            origin: Origin {
                channel_type: Some(channel_type),
                platform_id: Some(platform_id),
                thread_id: message.place.thread_id,
            },
            trigger: true,
            process_after: None,
            source_session: None,
        };
        // All of them or an error: a channel that hears an error hands the message in again, and
        // whoever had it already changes nothing.
        try_join_all(sessions.into_iter().map(|session| self.accept_in(session, new.clone()))).await
    }

    async fn accept_in(&self, session: SessionId, message: NewMessage) -> Result<Receipt, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.core.send(session, Command::Accept { message, reply }).await;
        match answer.await {
            Ok(accepted) => {
                accepted.map(|accepted| Receipt { session, id: accepted.id, seq: accepted.seq.0 })
            }
            Err(_) => Err(Refusal::TryAgain { reason: "the host is stopping".to_owned() }),
        }
    }

    async fn report(&self) -> Value {
        let parts = &self.core.parts;
        let (running, waiting) = self.core.places();
        let runtime = match parts.runtime.list().await {
            Ok(sightings) => json!({
                "name": parts.runtime.name(), "answers": true, "known": sightings.len(),
            }),
            Err(error) => json!({
                "name": parts.runtime.name(), "answers": false, "error": error.to_string(),
            }),
        };
        let counts = match parts.db.call(|db| overview::counts(db)).await {
            Ok(counts) => json!(counts),
            Err(error) => json!({ "error": crate::session::task::chain(&error) }),
        };
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "install": parts.install,
            "pid": std::process::id(),
            "data": parts.data.root(),
            "stopping": self.core.is_stopping(),
            "file_events": parts.watch.is_some(),
            "runtime": runtime,
            "containers": {
                "running": running,
                "waiting": waiting,
                "max_running": parts.config.containers.max_running,
            },
            "sessions": { "awake": self.core.awake().len(), "counts": counts },
        })
    }

    async fn retry_in(
        &self,
        session: SessionId,
        message: Option<MessageId>,
    ) -> Result<usize, String> {
        let known = self.core.parts.db.call(move |db| sessions::find(db, session)).await;
        match known {
            Ok(Some(_)) => {}
            Ok(None) => return Err(format!("there is no session {session}")),
            Err(error) => return Err(crate::session::task::chain(&error)),
        }
        let (reply, answer) = oneshot::channel();
        self.core.send(session, Command::Retry { message, reply }).await;
        answer.await.unwrap_or_else(|_| Err("the host is stopping".to_owned()))
    }
}

impl Desk for DaemonDesk {
    fn accept(&self, message: Inbound) -> BoxFuture<'_, Result<Vec<Receipt>, Refusal>> {
        self.accept_message(message).boxed()
    }

    /// Whoever is awake looks at once; whoever sleeps on undelivered rows is woken.
    fn ready(&self, _place: &Place) {
        self.core.channel_ready();
        let core = Arc::clone(&self.core);
        tokio::spawn(async move {
            match core.parts.db.call(|db| sessions::outstanding(db)).await {
                Ok(outstanding) => {
                    for session in outstanding {
                        core.wake(session, Reason::Channel);
                    }
                }
                Err(error) => {
                    let error = crate::session::task::chain(&error);
                    tracing::warn!(error, "cannot find the sessions that wait for a channel");
                }
            }
        });
    }

    fn status(&self) -> BoxFuture<'_, Value> {
        self.report().boxed()
    }

    fn retry(
        &self,
        session: SessionId,
        message: Option<MessageId>,
    ) -> BoxFuture<'_, Result<usize, String>> {
        self.retry_in(session, message).boxed()
    }
}
