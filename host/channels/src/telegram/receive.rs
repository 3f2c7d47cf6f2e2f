//! Hearing what is said: one question to Telegram after the other, each of which is answered when there is
//! something, or after a while. By each question Telegram is told what it may forget: what is durable, in inboxes
//! or in the file of this instance.
//!
//! A chat that takes nothing at the moment is *held*: its updates are written into that file, in their order, and
//! tried again less and less often, while others are heard.

mod attached;
mod hear;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;
use twobox_model::backoff::Backoff;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;
use twobox_system::repeat::warned;

use super::api::Token;
use super::kept::{Kept, TELEGRAM_KEEPS};
use super::trouble::Trouble;
use super::updates::{self, ALLOWED, Batch, Bot, Update};
use super::{Entered, TelegramChannel};
use crate::http::PATIENCE;
use crate::instance::Surroundings;
use crate::pauses::{self, Pauses};

/// How long Telegram waits for something to be said. It allows up to 50 s.
const LONG: Duration = Duration::from_secs(45);

/// How many updates come at once, at most. Telegram allows up to 100.
const AT_ONCE: usize = 100;

/// The pauses after trouble with Telegram.
const PAUSE: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };

/// After how long the state is written although nothing was said: it says when this life was.
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
        /// For how long Telegram wants to be left alone.
        wait: Option<Duration>,
    },
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        let wait = trouble.busy();
        let why = match trouble.refused(409) {
            Some(refused) if refused.why.to_ascii_lowercase().contains("webhook") => {
                "a webhook is set for this bot, so that what is said to it goes there and not here; `twobox \
                 doctor` says where to, and how it is taken away"
                    .to_owned()
            }
            Some(_) => "another program asks what is said to this bot, and each takes it away from the other: \
                        end that one, or make another bot for it"
                .to_owned(),
            None => trouble.to_string(),
        };
        Self::Trouble { why, wait }
    }
}

impl Stop {
    fn later(why: String) -> Self {
        Self::Trouble { why, wait: None }
    }
}

impl TelegramChannel {
    /// Lives until a person has to mend something.
    ///
    /// # Errors
    /// What, and how.
    pub(super) async fn live(&self, surroundings: &Surroundings) -> Result<(), String> {
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
        let entered = self.enter().await?;
        // What could not be written down before is not confirmed to Telegram before it is.
        self.write_down().await?;
        let mut pauses = Pauses::new(pauses::PAUSE);
        let mut written = Instant::now();
        let mut has_begun = false;
        loop {
            // The first answer of a life comes at once: whether it is up is not to be waited for.
            let wait = if has_begun { pauses.left(LONG) } else { Duration::ZERO };
            let said = tokio::select! {
                said = self.listen(&entered.token, wait) => said?,
                () = self.in_doubt.notified() => {
                    return Err(Stop::later("Telegram does not know the token any more".to_owned()));
                }
            };
            has_begun = true;
            let is_news = !said.0.is_empty();
            let is_full = self.take_in(surroundings, &entered, said, &mut pauses).await;
            if is_news || written.elapsed() > ALIVE {
                self.write_down().await?;
                written = Instant::now();
            }
            surroundings.up();
            self.bring_forward(surroundings, &entered, &mut pauses).await?;
            failures.store(0, Ordering::Relaxed);
            if is_full {
                sleep(pauses.left(PAUSE.most).max(PAUSE.first)).await;
            }
        }
    }

    /// Asks what was said, and says what was taken in.
    async fn listen(&self, token: &Token, wait: Duration) -> Result<Batch, Trouble> {
        let mut parameters = json!({
            // Rounded up: a question that does not wait would be asked again at once.
            "timeout": wait.as_millis().div_ceil(1000) as u64, "limit": AT_ONCE, "allowed_updates": ALLOWED,
        });
        if let Some(next) = lock(&self.kept).next {
            parameters["offset"] = json!(next);
        }
        let patience = wait + PATIENCE;
        self.api.call_within(token, "getUpdates", &parameters, patience).await
    }

    /// Is let in as the bot whose token it has.
    async fn enter(&self) -> Result<std::sync::Arc<Entered>, Stop> {
        let name = self.settings.token_secret.clone();
        let secrets = std::sync::Arc::clone(&self.secrets);
        let secret = blocking(move || secrets(&name)).await.map_err(Stop::later)?;
        let secret = secret.ok_or_else(|| Stop::Refused(self.settings.missing()))?;
        let unknown = |what: &str| {
            let name = &self.settings.token_secret;
            Stop::Refused(format!(
                "{what}: is the secret {name:?} the token that @BotFather shows? `twobox secrets set {name}`"
            ))
        };
        let token =
            Token::parse(&secret).ok_or_else(|| unknown("the secret is no token of a bot"))?;
        let bot: Bot = match self.api.call(&token, "getMe", &json!({})).await {
            Ok(bot) => bot,
            Err(trouble) if trouble.is_about_token() => return Err(unknown(&trouble.to_string())),
            Err(trouble) => return Err(trouble.into()),
        };
        let (folder, whose) = (self.folder.clone(), bot.id.to_string());
        if lock(&self.kept).whose != whose {
            let kept = blocking(move || Kept::of(&folder, &whose)).await.map_err(Stop::Refused)?;
            self.tell_gap(&kept);
            *lock(&self.kept) = kept;
        }
        let entered = std::sync::Arc::new(Entered { token, bot });
        *lock(&self.entered) = Some(std::sync::Arc::clone(&entered));
        Ok(entered)
    }

    /// Says what may not be heard: Telegram keeps for a day what nobody fetches.
    fn tell_gap(&self, kept: &Kept) {
        let now = SystemClock.now();
        let Some(since) = kept.alive_at.filter(|at| now.since(*at) > TELEGRAM_KEEPS) else {
            return;
        };
        tracing::warn!(
            channel = self.id,
            %since,
            "the host was away for more than a day, and Telegram keeps what is said for a day only: what was \
             said before that is not heard"
        );
    }

    /// Takes in what was said. Then nothing of it is only in memory or with Telegram, but for what no room is left
    /// for: then the position stays before that. Returns whether that is so.
    async fn take_in(
        &self,
        surroundings: &Surroundings,
        entered: &Entered,
        Batch(batch): Batch,
        pauses: &mut Pauses,
    ) -> bool {
        let Some(last) = batch.last().map(|update| update.id) else { return false };
        let mut chats: BTreeMap<i64, Vec<Update>> = BTreeMap::new();
        for update in batch {
            let chat = update.what.as_ref().and_then(updates::chat_of).unwrap_or_default();
            chats.entry(chat).or_default().push(update);
        }
        let heard = chats.into_iter().map(|(chat, updates)| async move {
            let is_held = lock(&self.kept).held.contains_key(&chat);
            let mut updates = updates.into_iter();
            let mut left = Vec::new();
            while let Some(update) = updates.next() {
                let why = match is_held {
                    true => None,
                    false => match self.hear(surroundings, entered, update.what.as_ref()).await {
                        Ok(()) => continue,
                        Err(why) => Some(why),
                    },
                };
                if let Some(why) = why {
                    tracing::debug!(channel = self.id, chat, why, "a chat takes nothing now");
                }
                left.extend(std::iter::once(update).chain(updates.by_ref()));
            }
            (chat, left)
        });
        let heard = futures_util::future::join_all(heard).await;
        let mut kept = lock(&self.kept);
        let mut next = last + 1;
        for (chat, left) in heard.into_iter().filter(|(_, left)| !left.is_empty()) {
            if !kept.held.contains_key(&chat) {
                pauses.fail(&chat.to_string(), Instant::now(), None);
            }
            for update in left {
                let Some(what) = update.what else { continue };
                // What stands behind one that had no room is left with Telegram, too.
                if next <= update.id || !kept.hold(chat, what) {
                    next = next.min(update.id);
                    break;
                }
            }
        }
        kept.next = Some(next);
        let is_full = next <= last;
        drop(kept);
        if is_full && let Some(before) = warned("telegram holds too much", &self.id) {
            tracing::warn!(
                channel = self.id,
                before,
                "chats take nothing, and no more of what is said in them can be held: nothing is heard in any \
                 chat until some of it was taken"
            );
        }
        is_full
    }

    /// Tries again what is held of each chat whose time has come.
    async fn bring_forward(
        &self,
        surroundings: &Surroundings,
        entered: &Entered,
        pauses: &mut Pauses,
    ) -> Result<(), Stop> {
        let chats: Vec<i64> = lock(&self.kept).held.keys().copied().collect();
        pauses.retain(|chat| chats.iter().any(|it| it.to_string() == chat));
        let due = |chat: &&i64| pauses.is_due(&chat.to_string(), Instant::now());
        let due: Vec<i64> = chats.iter().filter(due).copied().collect();
        if due.is_empty() {
            return Ok(());
        }
        for chat in due {
            let key = chat.to_string();
            let front = || lock(&self.kept).held.get(&chat).and_then(|held| held.front().cloned());
            let mut is_held = false;
            while let Some(update) = front() {
                if let Err(why) = self.hear(surroundings, entered, Some(&update)).await {
                    if let Some(before) =
                        warned("telegram chat held", &format!("{} {chat}", self.id))
                    {
                        tracing::warn!(
                            channel = self.id,
                            chat,
                            why,
                            before,
                            "what is said in a chat cannot be taken; it is held, and tried again"
                        );
                    }
                    pauses.fail(&key, Instant::now(), None);
                    is_held = true;
                    break;
                }
                lock(&self.kept).release(chat);
            }
            if !is_held {
                pauses.end(&key);
            }
        }
        self.write_down().await
    }

    /// Writes down what is known now, and that this life was here.
    async fn write_down(&self) -> Result<(), Stop> {
        let now = SystemClock.now();
        // A disk that is full may have room later.
        self.keep(|kept| kept.alive_at = Some(now)).await.map_err(Stop::later)
    }
}
