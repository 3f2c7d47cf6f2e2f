//! Sending to platforms that do not honour keys. What a message consists of, texts, files, is handed over part by
//! part, and of each part there is a durable record: that it was begun, before it leaves, and that it was
//! taken. So a message that is sent again goes on where it stopped, and no part is ever sent twice. A part that
//! was begun, and of which nobody knows, is looked for on the platform; where that cannot be told, it stays
//! unknown, what follows is sent all the same, and the message is uncertain.
//!
//! A channel that sends by this honours keys towards the host.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use twobox_shared::time::UnixMillis;
use twobox_system::lock::lock;

use twobox_model::channel::{Outcome, PartRecord, PartState};

#[cfg(test)]
#[path = "parts_tests.rs"]
mod tests;

/// Records of what was handed to platforms, by the key of the message and the name of the part. An error of any is a
/// sentence for people, and nothing was changed.
pub trait Journal: Send + Sync {
    /// What is recorded of the parts of a message.
    fn of<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Vec<PartRecord>, String>>;

    /// A part is about to leave. Durable when it returns.
    fn begin<'a>(&'a self, key: &'a str, part: &'a str) -> BoxFuture<'a, Result<(), String>>;

    /// The platform took a part, under this id.
    fn taken<'a>(
        &'a self,
        key: &'a str,
        part: &'a str,
        platform_id: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), String>>;

    /// A part that was begun has certainly not arrived.
    fn undo<'a>(&'a self, key: &'a str, part: &'a str) -> BoxFuture<'a, Result<(), String>>;

    /// The message is over.
    fn forget<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), String>>;
}

/// One part of a message: `"1"`, `"2"` … of its text, `"file-0"` … of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<P> {
    /// Its name, which is the same for every attempt.
    pub name: String,
    /// What is sent.
    pub what: P,
}

/// What a platform said to a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// It took it, under this id.
    Taken(Option<String>),
    /// It certainly has not, and may later.
    NotSent {
        /// Why.
        error: String,
        /// When, if it said so.
        retry_after: Option<Duration>,
    },
    /// It never will.
    Refused(String),
    /// Nobody knows.
    Unknown(String),
}

/// What a platform says of a part that it may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// It is there, under this id.
    There(Option<String>),
    /// It is certainly not there, and will not be.
    NotThere,
    /// That cannot be told, and never will be.
    Unknown,
    /// That cannot be told now.
    NotNow {
        /// Why.
        error: String,
        /// When, if it said so.
        retry_after: Option<Duration>,
    },
}

/// A platform, for one message.
pub trait Platform<P>: Sync {
    /// Returns when a part may leave, where the platform wants a pace. Nothing is recorded of the part before, so
    /// that who dies while it waits has begun nothing.
    ///
    /// # Errors
    /// What becomes of the message, because that would take too long.
    fn ready<'a>(&'a self, _part: &'a Part<P>) -> BoxFuture<'a, Result<(), Outcome>> {
        Box::pin(async { Ok(()) })
    }

    /// Whether it can be told later, by a look, what became of a part of which nobody knows at once. Then the message
    /// is tried again instead of being uncertain.
    fn tells_later(&self) -> bool {
        false
    }

    /// Sends a part.
    fn send<'a>(&'a self, part: &'a Part<P>) -> BoxFuture<'a, Sent>;

    /// Looks for a part that was begun at that time, by the host's clock, and of which nobody knows.
    fn look<'a>(&'a self, part: &'a Part<P>, begun: UnixMillis) -> BoxFuture<'a, Looked>;
}

/// Hands over the parts of the message with this key, as far as that was not done. The parts of one key are the
/// same each time.
pub async fn deliver<P: Sync>(
    journal: &dyn Journal,
    key: &str,
    parts: &[Part<P>],
    platform: &impl Platform<P>,
) -> Outcome {
    match deliver_all(journal, key, parts, platform).await {
        Ok(outcome) | Err(outcome) => outcome,
    }
}

async fn deliver_all<P: Sync>(
    journal: &dyn Journal,
    key: &str,
    parts: &[Part<P>],
    platform: &impl Platform<P>,
) -> Result<Outcome, Outcome> {
    let known = journal.of(key).await.map_err(unwritten)?;
    let mut known: HashMap<String, PartState> =
        known.into_iter().map(|record| (record.part, record.state)).collect();
    let (mut first, mut unknown) = (None, None);
    for part in parts {
        let taken = match known.remove(&part.name) {
            Some(PartState::Taken { platform_id }) => Taken::Yes(platform_id),
            Some(PartState::Begun { at }) => look_for(journal, key, part, at, platform).await?,
            None => send(journal, key, part, platform).await?,
        };
        match taken {
            Taken::Yes(id) => first = first.or(id),
            Taken::Unknown(error) => {
                let name = &part.name;
                unknown.get_or_insert(match parts.len() {
                    1 => error,
                    many => format!("part {name} of {many}: {error}"),
                });
            }
        }
    }
    Ok(match unknown {
        Some(error) => Outcome::Uncertain { error },
        None => Outcome::Delivered { platform_message_id: first },
    })
}

/// Whether a part is there.
enum Taken {
    Yes(Option<String>),
    Unknown(String),
}

async fn send<P: Sync>(
    journal: &dyn Journal,
    key: &str,
    part: &Part<P>,
    platform: &impl Platform<P>,
) -> Result<Taken, Outcome> {
    let name = part.name.as_str();
    platform.ready(part).await?;
    journal.begin(key, name).await.map_err(unwritten)?;
    match platform.send(part).await {
        Sent::Taken(id) => {
            note_taken(journal, key, name, id.as_deref()).await;
            Ok(Taken::Yes(id))
        }
        Sent::NotSent { error, retry_after } => {
            journal.undo(key, name).await.map_err(unwritten)?;
            Err(Outcome::Transient { error, retry_after })
        }
        Sent::Refused(error) => {
            journal.undo(key, name).await.map_err(unwritten)?;
            Err(Outcome::Permanent { error })
        }
        Sent::Unknown(error) if platform.tells_later() => {
            Err(Outcome::Transient { error, retry_after: None })
        }
        Sent::Unknown(error) => Ok(Taken::Unknown(error)),
    }
}

async fn look_for<P: Sync>(
    journal: &dyn Journal,
    key: &str,
    part: &Part<P>,
    begun: UnixMillis,
    platform: &impl Platform<P>,
) -> Result<Taken, Outcome> {
    match platform.look(part, begun).await {
        Looked::There(id) => {
            note_taken(journal, key, &part.name, id.as_deref()).await;
            Ok(Taken::Yes(id))
        }
        Looked::NotThere => {
            journal.undo(key, &part.name).await.map_err(unwritten)?;
            send(journal, key, part, platform).await
        }
        Looked::Unknown => {
            let error = "it was sent, and nobody knows whether it arrived".to_owned();
            Ok(Taken::Unknown(error))
        }
        Looked::NotNow { error, retry_after } => Err(Outcome::Transient { error, retry_after }),
    }
}

/// What is not written down is looked for, if the message is sent again.
async fn note_taken(journal: &dyn Journal, key: &str, part: &str, id: Option<&str>) {
    if let Err(error) = journal.taken(key, part, id).await {
        tracing::warn!(key, part, error, "that a platform took something is not written down");
    }
}

/// Nothing is sent that cannot be written down.
fn unwritten(error: String) -> Outcome {
    Outcome::Transient { error, retry_after: None }
}

/// Has a message forgotten that waits no more, in a task of its own: within a Tokio runtime.
pub fn forget(journal: &Arc<dyn Journal>, key: &str) {
    let (journal, key) = (Arc::clone(journal), key.to_owned());
    tokio::spawn(async move {
        if let Err(error) = journal.forget(&key).await {
            tracing::warn!(key, error, "records of parts of a message are left");
        }
    });
}

/// Records in memory, for whoever has no `host.db`.
#[derive(Debug, Default)]
pub struct MemoryJournal(Mutex<HashMap<(String, String), PartState>>);

impl Journal for MemoryJournal {
    fn of<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Vec<PartRecord>, String>> {
        let all = lock(&self.0);
        let of_key = all.iter().filter(|((other, _), _)| other == key);
        let record = |((_, part), state): (&(String, String), &PartState)| PartRecord {
            part: part.clone(),
            state: state.clone(),
        };
        let found = of_key.map(record).collect();
        Box::pin(async { Ok(found) })
    }

    fn begin<'a>(&'a self, key: &'a str, part: &'a str) -> BoxFuture<'a, Result<(), String>> {
        self.put(key, part, PartState::Begun { at: UnixMillis(0) })
    }

    fn taken<'a>(
        &'a self,
        key: &'a str,
        part: &'a str,
        platform_id: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), String>> {
        self.put(key, part, PartState::Taken { platform_id: platform_id.map(str::to_owned) })
    }

    fn undo<'a>(&'a self, key: &'a str, part: &'a str) -> BoxFuture<'a, Result<(), String>> {
        lock(&self.0).remove(&(key.to_owned(), part.to_owned()));
        Box::pin(async { Ok(()) })
    }

    fn forget<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), String>> {
        lock(&self.0).retain(|(other, _), _| other != key);
        Box::pin(async { Ok(()) })
    }
}

impl MemoryJournal {
    fn put(&self, key: &str, part: &str, state: PartState) -> BoxFuture<'_, Result<(), String>> {
        lock(&self.0).insert((key.to_owned(), part.to_owned()), state);
        Box::pin(async { Ok(()) })
    }
}
