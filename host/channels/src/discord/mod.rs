//! The `discord` channel: channels, threads and direct chats of Discord, by a bot of its own.
//! `docs/channels/discord.md` is the description for people.
//!
//! In (`gateway`, `hear`): what the gateway tells is accepted, durably, before the number moves behind which a session
//! goes on. Where a session has ended, what was said meanwhile is read from each channel that has something
//! new (`catch_up`); a channel of which not everything can be taken now is *behind* and keeps no other waiting.
//!
//! Out (`send`): Discord honours a nonce for a few minutes and then forgets it. So there is a record of each part, and
//! of a part of which nobody knows the channel is looked at first, once its nonce may be forgotten.
//!
//! Decisions, and pure, are `wire`, `events`, `gateway::words`, `kept` but for its file, `pace`, `trouble`,
//! `compose`, and what `format` does.

mod api;
mod catch_up;
mod compose;
mod events;
mod gateway;
mod hear;
mod kept;
mod pace;
mod places;
mod probe;
mod send;
mod settings;
mod snowflake;
mod trouble;
mod typing;
mod wire;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::future::BoxFuture;
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore};
use twobox_model::channel::{Address, Capabilities, Formatting, Outbound, Outcome};
use twobox_shared::progress::Progress;
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

use self::api::{Api, Token};
use self::kept::Kept;
use self::places::Places;
use self::settings::Settings;
use self::snowflake::Snowflake;
use crate::hears::Hears;
use crate::instance::Surroundings;
use crate::kinds::{Kind, SecretOf, Setup};
use crate::parts::Journal;
use crate::typing::Typing;
use crate::{Channel, in_order};

/// The name of the kind.
pub const DISCORD: &str = "discord";

/// The kind.
pub const KIND: Kind = Kind {
    name: DISCORD,
    build: |setup| Ok(Arc::new(DiscordChannel::new(setup)?)),
    usable: |setup| {
        let settings = Settings::of(setup)?;
        Ok(match (setup.secrets)(&settings.token_secret) {
            Ok(Some(_)) => Ok(format!("a bot at {}", settings.api)),
            Ok(None) => Err(missing(&settings)),
            Err(error) => Err(error),
        })
    },
    secrets: |setup| Ok(vec![Settings::of(setup)?.token_secret]),
    probe: Some(probe::begin),
    hears: Hears::CHAT,
};

/// That nobody has given the token.
fn missing(settings: &Settings) -> String {
    format!("the bot's token is not there: `twobox secrets set {}`", settings.token_secret)
}

/// Who the instance is to Discord.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    bot: Snowflake,
    token: Token,
}

/// The channel.
pub struct DiscordChannel {
    id: String,
    settings: Settings,
    secrets: SecretOf,
    journal: Arc<dyn Journal>,
    /// The data directory.
    data: PathBuf,
    /// Where the files of messages lie while they are sent.
    parcels: PathBuf,
    api: Api,
    /// Once it is let in.
    account: Mutex<Option<Arc<Account>>>,
    kept: Mutex<Kept>,
    /// Held by whoever writes that down.
    writing: AsyncMutex<()>,
    places: Places,
    typing: Typing<String>,
    /// What the gateway has shown of its own: ids by nonces.
    echoes: Mutex<HashMap<String, Snowflake>>,
    /// How often it was not let in, one time after the other.
    failures: AtomicI64,
    /// When it has introduced itself last, which it may do every five seconds.
    introduced: Mutex<Option<Instant>>,
    /// A channel is behind.
    behind: Notify,
    /// Somebody was told that the token is none.
    in_doubt: Notify,
    /// One file at a time is held in memory.
    uploading: Semaphore,
}

impl DiscordChannel {
    /// The channel that is set so. It does nothing before it lives.
    ///
    /// # Errors
    /// A sentence that names the setting that is wrong.
    pub fn new(setup: &Setup<'_>) -> Result<Self, String> {
        let settings = Settings::of(setup)?;
        Ok(Self {
            id: setup.id.to_owned(),
            api: Api::new(settings.api.clone()),
            settings,
            secrets: Arc::clone(&setup.secrets),
            journal: Arc::clone(&setup.journal),
            data: setup.folder.to_owned(),
            parcels: setup.scratch.to_owned(),
            account: Mutex::default(),
            kept: Mutex::default(),
            writing: AsyncMutex::default(),
            places: Places::default(),
            typing: Typing::new(typing::AGAIN, typing::CHANNELS_MAX),
            echoes: Mutex::default(),
            failures: AtomicI64::new(0),
            introduced: Mutex::default(),
            behind: Notify::new(),
            in_doubt: Notify::new(),
            uploading: Semaphore::new(1),
        })
    }

    /// Who it is, once it is let in.
    fn account(&self) -> Option<Arc<Account>> {
        lock(&self.account).clone()
    }

    /// It was let in with this token.
    #[cfg(test)]
    pub(crate) fn let_in(&self, token: &str) {
        let account = Account { bot: Snowflake(7), token: Token(token.to_owned()) };
        *lock(&self.account) = Some(Arc::new(account));
    }

    /// Writes down what is kept. Returns when it is on the disk.
    ///
    /// # Errors
    /// The disk's reason, for people.
    async fn write_down(&self, bot: Snowflake) -> Result<(), String> {
        let _one_after_the_other = self.writing.lock().await;
        let kept = lock(&self.kept).clone();
        let folder = kept::folder(&self.data, &self.id, bot);
        let written = blocking(move || kept.write(&folder).map_err(|error| (folder, error))).await;
        written.map_err(|(folder, error)| format!("cannot write in {}: {error}", folder.display()))
    }
}

impl Channel for DiscordChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            keys: true,
            threads: true,
            typing: true,
            buttons: true,
            files_out: true,
            formatting: Formatting::Markdown,
            ..Capabilities::TEXT
        }
    }

    fn run(&self, surroundings: Surroundings) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let mut told = surroundings.clone();
            let ended = tokio::select! {
                ended = self.live(&surroundings) => ended,
                () = self.catch_up(&surroundings) => Ok(()),
                () = self.show_typing() => Ok(()),
                () = told.stopped() => Ok(()),
            };
            *lock(&self.account) = None;
            ended
        })
    }

    fn deliver<'a>(
        &'a self,
        address: &'a Address,
        outbounds: Vec<Outbound>,
    ) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move { in_order(&outbounds, |outbound| self.send(address, outbound)).await })
    }

    fn forget(&self, key: &str) {
        let (journal, key) = (Arc::clone(&self.journal), key.to_owned());
        tokio::spawn(async move {
            if let Err(error) = journal.forget(&key).await {
                tracing::debug!(key, error, "a record of a message that is over stays for now");
            }
        });
    }

    fn is_watched(&self, _address: &Address) -> bool {
        lock(&self.account).is_some()
    }

    fn show(&self, address: &Address, progress: Option<&Progress>) {
        let Some(channel) = send::target(address) else { return };
        self.typing.show(channel.to_owned(), progress.is_some(), Instant::now());
    }
}
