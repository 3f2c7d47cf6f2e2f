//! Rooms that are behind, read page by page from where they are, oldest first.
//!
//! Pages are in the order of the room's history. What comes to it meanwhile may stand before what was read
//! already, if it is of another homeserver. So a room in which something was said meanwhile is read once more,
//! from where that was said.

use std::time::{Duration, Instant};

use serde_json::json;
use twobox_system::lock::lock;
use twobox_system::repeat::warned;

use super::super::client::Ask;
use super::super::events::{Page, TYPES};
use super::super::kept::Behind;
use super::super::path::{step, value};
use super::super::trouble::Trouble;
use super::super::{Account, MatrixChannel};
use super::Stop;
use crate::instance::Surroundings;
use crate::pauses::{PAUSE, Pauses};

/// How many pages of one room are read before the others have their turn again, and how long each is.
const PAGES: usize = 10;
const PAGE: usize = 100;

/// How far a room has come.
enum Came {
    /// It is behind no more.
    There,
    /// There is more.
    Further,
    /// There may be more; in what was read there was nothing.
    Quietly,
    /// It takes nothing at the moment, or nothing of it can be read.
    Stuck(String, Option<Duration>),
    /// Nothing of it can be read any more.
    Gone(String),
    /// No room can be read.
    Stopped(Trouble),
}

impl MatrixChannel {
    /// Brings each room forward that is behind and whose time has come.
    pub(super) async fn catch_up(
        &self,
        surroundings: &Surroundings,
        account: &Account,
        pauses: &mut Pauses,
    ) -> Result<(), Stop> {
        let behind = lock(&self.kept).behind.clone();
        pauses.retain(|room| behind.contains_key(room));
        for (room, mut at) in behind {
            if !pauses.is_due(&room, Instant::now()) {
                continue;
            }
            self.rooms.forget_people(&room);
            let came = self.bring_forward(surroundings, account, &room, &mut at).await;
            let is_over = self.is_over(&came, &room, pauses);
            // Also when all stops: what was read is read.
            let written = self.keep(|kept| {
                if matches!(came, Came::Gone(_)) {
                    kept.last.remove(&room);
                }
                match is_over {
                    true => drop(kept.behind.remove(&room)),
                    false => drop(kept.behind.insert(room, at)),
                }
            });
            written.await.map_err(|why| Stop::Trouble { why, wait: None })?;
            if let Came::Stopped(trouble) = came {
                return Err(trouble.into());
            }
        }
        Ok(())
    }

    /// Whether a room is behind no more. Otherwise it has its pause, and the operator a word.
    fn is_over(&self, came: &Came, room: &str, pauses: &mut Pauses) -> bool {
        let now = Instant::now();
        match came {
            Came::There => {}
            Came::Further => pauses.go_on(room, now, Duration::ZERO),
            // Some say for ever that there is more.
            Came::Quietly => pauses.go_on(room, now, PAUSE.first),
            Came::Stuck(why, wait) => {
                pauses.fail(room, now, *wait);
                if let Some(before) = warned("room behind", &format!("{room} {why}")) {
                    tracing::warn!(channel = self.id, room, why, before, "messages of a room wait");
                }
            }
            Came::Gone(why) => {
                tracing::warn!(
                    channel = self.id,
                    room,
                    why,
                    "what was said in a room cannot be read any more"
                );
            }
            Came::Stopped(_) => {}
        }
        let is_over = matches!(came, Came::There | Came::Gone(_));
        if is_over {
            pauses.end(room);
        }
        is_over
    }

    /// Reads a room on from where it is, and says how far it came.
    async fn bring_forward(
        &self,
        surroundings: &Surroundings,
        account: &Account,
        room: &str,
        at: &mut Behind,
    ) -> Came {
        let mut is_quiet = true;
        for _ in 0..PAGES {
            let page = match self.page(account, room, at).await {
                Ok(page) => page,
                Err(trouble) if trouble.is_final() => return Came::Gone(trouble.to_string()),
                Err(trouble @ Trouble::NotReached(_)) => return Came::Stopped(trouble),
                Err(trouble) if trouble.refused(401).is_some() => return Came::Stopped(trouble),
                Err(trouble) => return Came::Stuck(trouble.to_string(), trouble.busy()),
            };
            if let Err(why) = self.hear(surroundings, account, room, &page.chunk).await {
                return Came::Stuck(why, None);
            }
            is_quiet &= page.chunk.is_empty();
            at.after = None;
            // A page may be empty of what is asked for, and not be the last.
            match page.end.filter(|end| *end != at.from) {
                Some(end) => at.from = end,
                None => match at.again.take() {
                    Some(again) => at.from = again,
                    None => return Came::There,
                },
            }
        }
        if is_quiet { Came::Quietly } else { Came::Further }
    }

    /// The page from where a room is.
    async fn page(&self, account: &Account, room: &str, at: &Behind) -> Result<Page, Trouble> {
        let filter = value(&json!({ "types": TYPES }).to_string());
        let room = step(room);
        let path = match &at.after {
            Some(event) => format!("client/v3/rooms/{room}/context/{}?limit=0", step(event)),
            None => format!(
                "client/v3/rooms/{room}/messages?dir=f&limit={PAGE}&filter={filter}&from={}",
                value(&at.from)
            ),
        };
        self.client.ask(Ask::get(&account.token, path)).await
    }
}
