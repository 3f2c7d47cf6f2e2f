//! Channels that are behind, read page by page from where they are, oldest first.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::Value;
use tokio::time::sleep;
use twobox_system::lock::lock;
use twobox_system::repeat::warned;

use super::api::Question;
use super::kept::Progress;
use super::pace::Route;
use super::snowflake::Snowflake;
use super::trouble::Trouble;
use super::wire::{Channel, Message};
use super::{Account, DiscordChannel};
use crate::instance::Surroundings;
use crate::pauses::{PAUSE, Pauses};

/// How many pages of a channel are read before the others have their turn again, and how long each is.
const PAGES: usize = 10;
const PAGE: usize = 100;

/// How many channels are read at a time.
const AT_ONCE: usize = 4;

/// How often is looked for a message that the gateway told of, and that is not there: it was deleted.
const LOOKS: u32 = 3;

/// Why a channel waits of which nothing may be read.
const HIDDEN: &str =
    "the bot may not read what was said there: give it the permission Read Message History";

/// How long nothing is looked at if nothing is said.
const LONG: Duration = Duration::from_secs(60);

/// How far a channel has come.
enum Came {
    /// It is behind no more.
    There,
    /// There is more.
    Further,
    /// Something is not there that was told of, or not yet.
    Missing,
    /// It takes nothing at the moment, or nothing of it can be read.
    Stuck(String, Option<Duration>),
    /// Nothing of it can be read any more.
    Gone(String),
}

impl DiscordChannel {
    /// Brings channels forward, for ever.
    pub(super) async fn catch_up(&self, surroundings: &Surroundings) {
        let mut pauses = Pauses::new(PAUSE);
        loop {
            let (behind, account) = (lock(&self.kept).behind.clone(), self.account());
            let name = Snowflake::to_string;
            pauses.retain(|name| Snowflake::parse(name).is_some_and(|id| behind.contains_key(&id)));
            let now = Instant::now();
            let due: Vec<Snowflake> =
                behind.into_keys().filter(|id| pauses.is_due(&name(id), now)).collect();
            let (Some(account), false) = (account, due.is_empty()) else {
                tokio::select! {
                    () = self.behind.notified() => {}
                    () = sleep(pauses.left(LONG)) => {}
                }
                continue;
            };
            let account = &account;
            let came = stream::iter(due)
                .map(|id| async move { (id, self.bring_forward(surroundings, account, id).await) });
            let mut came = came.buffer_unordered(AT_ONCE);
            while let Some((id, came)) = came.next().await {
                self.note(&mut pauses, id, came);
            }
            drop(came);
            if let Err(error) = self.write_down(account.bot).await {
                tracing::warn!(channel = self.id, error, "how far was read is not written down");
                sleep(PAUSE.first).await;
            }
        }
    }

    fn note(&self, pauses: &mut Pauses, id: Snowflake, came: Came) {
        let (name, now) = (id.to_string(), Instant::now());
        match came {
            Came::There => pauses.end(&name),
            Came::Further => pauses.go_on(&name, now, Duration::ZERO),
            Came::Missing => pauses.fail(&name, now, None),
            Came::Stuck(why, wait) => {
                pauses.fail(&name, now, wait);
                if let Some(before) = warned("channel behind", &format!("{} {id} {why}", self.id)) {
                    tracing::warn!(
                        channel = self.id,
                        chat = name,
                        why,
                        before,
                        "what was said in a channel is not taken in yet; it is tried again"
                    );
                }
            }
            Came::Gone(why) => {
                pauses.end(&name);
                lock(&self.kept).forget_channel(id);
                tracing::warn!(
                    channel = self.id,
                    chat = name,
                    why,
                    "what was said in a channel cannot be read any more: nothing of it is heard"
                );
            }
        }
    }

    async fn bring_forward(
        &self,
        surroundings: &Surroundings,
        account: &Account,
        id: Snowflake,
    ) -> Came {
        for _ in 0..PAGES {
            match self.read_page(surroundings, account, id).await {
                Came::Further => {}
                came => return came,
            }
        }
        Came::Further
    }

    async fn read_page(
        &self,
        surroundings: &Surroundings,
        account: &Account,
        id: Snowflake,
    ) -> Came {
        let Some(at) = lock(&self.kept).behind.get(&id).copied() else { return Came::There };
        let stopped = |trouble: Trouble| match &trouble {
            trouble if trouble.is_final() => Came::Gone(trouble.to_string()),
            Trouble::Busy { wait, .. } => Came::Stuck(trouble.to_string(), Some(*wait)),
            trouble => Came::Stuck(trouble.to_string(), None),
        };
        let place = match self.place(account, id).await {
            Ok(place) => place,
            Err(trouble) => return stopped(trouble),
        };
        let path = format!("channels/{id}/messages?limit={PAGE}&after={}", at.after);
        let question = Question::get(Route::new("GET messages", id.to_string()), &path);
        let page: Vec<Value> = match self.api.read(question.by(&account.token)).await {
            Ok(page) => page,
            Err(trouble) => return stopped(trouble),
        };
        // What whoever may not read it is shown as well.
        if page.is_empty() {
            match self.shows_history(account, &id.to_string()).await {
                Ok(true) => {}
                Ok(false) => return Came::Stuck(HIDDEN.to_owned(), None),
                Err(trouble) => return stopped(trouble),
            }
        }
        let is_last = page.len() < PAGE;
        for message in oldest_first(page) {
            let done = match message {
                (message, Some(read)) => {
                    let handed = self.hand_in(surroundings, account, place, &read).await;
                    handed.map(|()| message)
                }
                (message, None) => Ok(message), // nobody can read it
            };
            match done {
                Ok(message) => lock(&self.kept).come_forward(id, message),
                Err(why) => return Came::Stuck(why, None),
            }
        }
        match lock(&self.kept).progress(id, is_last, LOOKS) {
            Progress::There => Came::There,
            Progress::Further => Came::Further,
            Progress::Missing => Came::Missing,
        }
    }
}

impl DiscordChannel {
    /// Whether an empty page of a channel says that nothing is there. Whoever has no leave to read its history is shown
    /// none of it, and no error.
    ///
    /// Source: <https://docs.discord.com/developers/resources/message#get-channel-messages>.
    pub(super) async fn shows_history(&self, account: &Account, id: &str) -> Result<bool, Trouble> {
        let path = format!("channels/{id}/messages?limit=1");
        let question = Question::get(Route::new("GET messages", id), &path);
        let newest: Vec<Value> = self.api.read(question.by(&account.token)).await?;
        if !newest.is_empty() {
            return Ok(true);
        }
        let path = format!("channels/{id}");
        let question = Question::get(Route::new("GET channel", id), &path);
        let channel: Channel = self.api.read(question.by(&account.token)).await?;
        Ok(channel.last_message_id.is_none())
    }
}

/// The messages of a page by their ids, the oldest first, as far as each can be read.
fn oldest_first(page: Vec<Value>) -> Vec<(Snowflake, Option<Message>)> {
    let one = |message: Value| {
        let id = Snowflake::parse(message["id"].as_str()?)?;
        Some((id, serde_json::from_value(message).ok()))
    };
    let mut all: Vec<_> = page.into_iter().filter_map(one).collect();
    all.sort_by_key(|(id, _)| *id);
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_is_read_from_its_end_and_nothing_stops_it() {
        let message = |id: &str| json!({ "id": id, "channel_id": "5", "author": { "id": "1" } });
        let page = vec![message("30"), json!({ "id": "20", "author": 5 }), json!(7), message("9")];
        let read = oldest_first(page);
        let ids: Vec<_> = read.iter().map(|(id, message)| (id.0, message.is_some())).collect();
        assert_eq!(ids, [(9, true), (20, false), (30, true)]);
    }
}
