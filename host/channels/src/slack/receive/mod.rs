//! Hearing what is said. Slack hands it over a connection (`line`), and it is acknowledged when it is durable, or
//! done with. What Slack does not hand over, because nobody was there or it was not taken, is read from the
//! conversation's history (`catch_up`), from the position on that is kept: a conversation that has to be read is
//! *behind*, what is said there meanwhile waits for that, and keeps no other conversation waiting.
//!
//! What is handed in twice that way changes nothing.

mod catch_up;
mod chats;
mod hear;
mod line;

pub(super) use self::chats::Chats;

use std::convert::Infallible;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;
use twobox_model::backoff::Backoff;
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

use self::line::End;
use super::enter::Stop;
use super::kept::Kept;
use super::{Account, SlackChannel};
use crate::instance::Surroundings;

/// The pauses after trouble with Slack.
const PAUSE: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };

/// How many connections there are while one takes the place of the other.
const LINES_MAX: usize = 2;

/// How often positions are written down, at most.
const WRITING: Duration = Duration::from_secs(1);

impl SlackChannel {
    /// Lives until a person has to mend something.
    ///
    /// # Errors
    /// What, and how.
    pub(in super::super) async fn live(&self, surroundings: &Surroundings) -> Result<(), String> {
        let folder = self.folder.clone();
        *lock(&self.kept) = blocking(move || Kept::read(&folder)).await?;
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
        self.has_gap.store(true, Ordering::Relaxed);
        tokio::select! {
            stop = self.listen(surroundings, &account, failures) => stop,
            stop = self.catch_up(surroundings, &account) => stop,
            stop = self.write_now_and_then() => stop,
            () = self.in_doubt.notified() => {
                let why = "Slack does not let the bot in any more".to_owned();
                Err(Stop::Trouble { why, wait: None })
            }
        }
    }

    /// Has a connection, and another one before Slack closes it.
    async fn listen(
        &self,
        surroundings: &Surroundings,
        account: &Account,
        failures: &AtomicI64,
    ) -> Result<Infallible, Stop> {
        let mut lines = FuturesUnordered::new();
        lines.push(self.line(surroundings, account, failures, false));
        loop {
            tokio::select! {
                Some(end) = lines.next() => {
                    tracing::debug!(channel = self.id, ?end, "a connection to Slack has ended");
                    match (end, lines.is_empty()) {
                        (End::Stopped(stop), _) => return Err(stop),
                        (End::Closed, true) => {
                            let why = "Slack has closed the connection".to_owned();
                            return Err(Stop::Trouble { why, wait: None });
                        }
                        (End::Lost(why), true) => return Err(Stop::Trouble { why, wait: None }),
                        // What Slack has said to that one is not known, or the other is not ready yet: what is said
                        // until then is read once it is.
                        (End::Closed | End::Lost(_), false) => {
                            self.has_gap.store(true, Ordering::Relaxed);
                            self.chats.look_back();
                        }
                    }
                }
                () = self.refresh.notified() => if lines.len() < LINES_MAX {
                    lines.push(self.line(surroundings, account, failures, true));
                }
            }
        }
    }

    /// Writes down how far it has heard, soon after that has changed.
    async fn write_now_and_then(&self) -> Result<Infallible, Stop> {
        loop {
            self.moved.notified().await;
            let written = self.keep(|_| ()).await;
            // A disk that is full may have room later.
            written.map_err(|why| Stop::Trouble { why, wait: None })?;
            sleep(WRITING).await;
        }
    }
}
