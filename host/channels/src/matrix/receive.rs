//! Hearing what is said: one question to the homeserver after the other, each of which is answered when there
//! is something, or after half a minute. The position is written when everything before it is durable.
//!
//! A room of which not everything could be taken in, because the answer left a gap or a session takes nothing
//! at the moment, is *behind*: it is written down with the position before the gap, read from there page by
//! page, and keeps no other room waiting. What is handed in twice that way changes nothing.

mod attached;
mod catch_up;
mod hear;
mod invitations;

use std::convert::Infallible;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;
use twobox_model::backoff::Backoff;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

use super::client::{Ask, PATIENCE};
use super::events::{Sync, TYPES};
use super::kept::{Behind, Kept, UNSURE_FOR};
use super::path::value;
use super::trouble::Trouble;
use super::{Account, MatrixChannel};
use crate::instance::Surroundings;
use crate::pauses::{self, Pauses};

/// How long the homeserver waits for something to be said.
const LONG: Duration = Duration::from_secs(30);

/// The pauses after trouble with the homeserver.
const PAUSE: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };

/// How long the homeserver may take to tell of all rooms.
const FIRST: Duration = Duration::from_secs(3 * 60);

/// How many events of a room come with an answer; what is more is read page by page.
const EVENTS: usize = 10;

/// After how long the position is written down although it has not moved: it says when this life was.
const ALIVE: Duration = Duration::from_secs(5 * 60);

/// Why it does not go on as it is.
#[derive(Debug)]
pub(super) enum Stop {
    /// A person has to mend something.
    Refused(String),
    /// Later it may do.
    Trouble {
        /// What.
        why: String,
        /// For how long the homeserver wants to be left alone.
        wait: Option<Duration>,
    },
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble { wait: trouble.busy(), why: trouble.to_string() }
    }
}

impl MatrixChannel {
    /// Lives until a person has to mend something.
    ///
    /// # Errors
    /// What, and how.
    pub(super) async fn live(&self, surroundings: &Surroundings) -> Result<(), String> {
        let (folder, user) = (self.folder.clone(), self.settings.user.clone());
        let (mut kept, is_anothers) = blocking(move || Kept::of(&folder, &user)).await?;
        let now = SystemClock.now();
        kept.unsure.retain(|_, at| now.since(*at) < UNSURE_FOR);
        *lock(&self.kept) = kept;
        self.is_anothers.store(is_anothers, Ordering::Relaxed);
        self.rooms.forget();
        let failures = AtomicI64::new(0);
        loop {
            let Err(stop) = self.follow(surroundings, &failures).await;
            match stop {
                Stop::Refused(reason) => return Err(reason),
                Stop::Trouble { why, wait } => {
                    let failed = failures.fetch_add(1, Ordering::Relaxed) + 1;
                    surroundings.down(why);
                    sleep(wait.unwrap_or_default().max(PAUSE.after(failed))).await;
                }
            }
        }
    }

    /// Is let in, and listens until something is in the way.
    async fn follow(
        &self,
        surroundings: &Surroundings,
        failures: &AtomicI64,
    ) -> Result<Infallible, Stop> {
        let account = self.enter().await?;
        self.look_around(&account).await?;
        let mut pauses = Pauses::new(pauses::PAUSE);
        let mut written = Instant::now();
        let mut has_begun = false;
        loop {
            let position = lock(&self.kept).since.clone().unwrap_or_default();
            // The first answer of a life comes at once: whether it is up is not to be waited for.
            let wait = match has_begun {
                true => pauses.left(LONG),
                false => Duration::ZERO,
            };
            let said = tokio::select! {
                said = self.listen(&account, &position, wait) => said,
                () = self.in_doubt.notified() => {
                    let why = "the homeserver does not know the token any more".to_owned();
                    return Err(Stop::Trouble { why, wait: None });
                }
            };
            let said = match said {
                Ok(said) if !is_back(&position, &said.next_batch) => said,
                Ok(_) => {
                    return Err(self.begin_anew("what it says is older than what it said").await?);
                }
                Err(trouble) if trouble.refused(400).is_some() => {
                    return Err(self.begin_anew(&trouble.to_string()).await?);
                }
                Err(trouble) => return Err(trouble.into()),
            };
            has_begun = true;
            let moved = said.next_batch != position;
            self.take_in(surroundings, &account, said, &position).await?;
            if moved || written.elapsed() > ALIVE {
                self.write_down().await?;
                written = Instant::now();
            }
            surroundings.up();
            self.catch_up(surroundings, &account, &mut pauses).await?;
            failures.store(0, Ordering::Relaxed);
        }
    }

    /// Asks what was said since `position`; for less of it, if all of it was too much.
    async fn listen(
        &self,
        account: &Account,
        position: &str,
        wait: Duration,
    ) -> Result<Sync, Trouble> {
        match self.ask(account, position, wait, EVENTS).await {
            Err(Trouble::Strange(_)) => self.ask(account, position, wait, 1).await,
            said => said,
        }
    }

    /// Asks what was said since `position`.
    async fn ask(
        &self,
        account: &Account,
        position: &str,
        wait: Duration,
        events: usize,
    ) -> Result<Sync, Trouble> {
        let nothing = json!({ "not_types": ["*"] });
        let filter = json!({
            "presence": nothing,
            "account_data": nothing,
            "room": {
                "ephemeral": nothing,
                "account_data": nothing,
                "state": { "types": ["m.room.encryption"], "lazy_load_members": true },
                "timeline": { "types": TYPES, "limit": events },
            },
        });
        let since = match position {
            "" => String::new(),
            position => format!("&since={}", value(position)),
        };
        // An account that is in many rooms is long in telling of all of them.
        let patience = if position.is_empty() { FIRST } else { wait + PATIENCE };
        let (wait_ms, filter) = (wait.as_millis(), value(&filter.to_string()));
        let path = format!("client/v3/sync?timeout={wait_ms}&filter={filter}{since}");
        self.client.ask(Ask::get(&account.token, path).patient(patience)).await
    }

    /// Where it is means nothing to the homeserver any more, as when that was restored from a copy: each room is read
    /// from the last event on that was taken in. Returns why it stops for that.
    async fn begin_anew(&self, why: &str) -> Result<Stop, Stop> {
        tracing::warn!(
            channel = self.id,
            why,
            "the homeserver does not know any more how far it was read; was it restored from a copy? Rooms are read \
             from what was heard there last: where the log says that this cannot be found, look there for what was \
             not heard"
        );
        let written = self.keep(Kept::begin_anew).await;
        written.map_err(|why| Stop::Trouble { why, wait: None })?;
        let why = "the homeserver does not know any more how far it was read".to_owned();
        Ok(Stop::Trouble { why, wait: None })
    }

    /// Looks where it is invited, which is said once only, and where it begins to listen if it never has:
    /// what was said before is not heard.
    async fn look_around(&self, account: &Account) -> Result<(), Stop> {
        // A homeserver may answer what was asked before in the same words as it did then. How long it may wait
        // counts for nothing here, and is another time each time.
        let words = u64::try_from(SystemClock.now().0).unwrap_or_default() % 100_000;
        let said = self.ask(account, "", Duration::from_millis(words), 1).await?;
        self.note_invitations(account, &said.rooms.invite);
        lock(&self.kept).since.get_or_insert(said.next_batch);
        self.write_down().await
    }

    /// Takes in what was said. Then nothing of it is only in memory, and the position has moved.
    async fn take_in(
        &self,
        surroundings: &Surroundings,
        account: &Account,
        said: Sync,
        position: &str,
    ) -> Result<(), Stop> {
        self.note_invitations(account, &said.rooms.invite);
        let rooms = said.rooms.join.iter().map(|(room, joined)| async move {
            // Of every room, for nothing is sent in the clear where this says that it is encrypted.
            self.note_state(account, room, &joined.state.events).await;
            self.note_state(account, room, &joined.timeline.events).await;
            let is_behind = lock(&self.kept).behind.contains_key(room);
            let is_empty = joined.timeline.events.is_empty() && !joined.timeline.limited;
            let trouble = match (is_behind, joined.timeline.limited) {
                (true, _) => (!is_empty).then(|| "it was".to_owned()), // its turn comes
                (false, true) => Some("a gap".to_owned()),
                (false, false) => {
                    self.hear(surroundings, account, room, &joined.timeline.events).await.err()
                }
            };
            trouble.map(|why| (room.clone(), why))
        });
        let behind = futures_util::future::join_all(rooms).await;
        let mut kept = lock(&self.kept);
        for (room, why) in behind.into_iter().flatten() {
            tracing::debug!(channel = self.id, room, why, "a room is behind");
            let position = || position.to_owned();
            kept.behind
                .entry(room)
                .and_modify(|at| {
                    at.again.get_or_insert_with(position);
                })
                .or_insert_with(|| Behind { from: position(), ..Behind::default() });
        }
        kept.since = Some(said.next_batch);
        Ok(())
    }

    /// Writes down what is known now, and that this life was here.
    async fn write_down(&self) -> Result<(), Stop> {
        let now = SystemClock.now();
        let written = self.keep(|kept| kept.live(now)).await;
        // A disk that is full may have room later.
        written.map_err(|why| Stop::Trouble { why, wait: None })
    }
}

/// Whether the position `after` is before `before`, which a homeserver says that has forgotten something. Positions are
/// its own words; those of Synapse begin with a number that grows, and of others nobody can tell.
fn is_back(before: &str, after: &str) -> bool {
    let number = |position: &str| -> Option<u64> {
        let (number, _) = position.strip_prefix('s')?.split_once('_')?;
        number.parse().ok()
    };
    matches!((number(before), number(after)), (Some(before), Some(after)) if after < before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_back_where_two_of_synapse_say_so() {
        let cases = [
            ("s9_1_2", "s10_1_2", false),
            ("s9_1_2", "s9_1_3", false),
            ("s10_1_2", "s9_1_2", true),
            ("", "s9_1", false),
            ("m10~1.2_1", "m9~1.2_1", false),
            ("10", "9", false),
        ];
        for (before, after, expected) in cases {
            assert_eq!(is_back(before, after), expected, "{before} {after}");
        }
    }
}
