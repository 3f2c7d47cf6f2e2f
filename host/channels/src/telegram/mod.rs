//! The `telegram` channel: chats with a bot of Telegram's, by its Bot API. `docs/channels/telegram.md` is the
//! description for people.
//!
//! In (`receive`): what was said is accepted, durably, before Telegram is told that it may forget it. A chat that
//! takes nothing at the moment keeps no other waiting: what it was told is held in a file.
//!
//! Out (`send`): Telegram honours no keys, and cannot be asked what a bot has said. Each part of a message is
//! recorded before it leaves and when it was taken; one that was not answered for stays unknown.
//!
//! Decisions, and pure, are `updates`, `trouble`, `pace`, `compose` and what `format` does. The token is in every
//! address that is asked, and in nothing that is said (`api`).

mod api;
mod compose;
mod files;
mod kept;
mod pace;
mod probe;
mod receive;
mod send;
mod settings;
mod trouble;
mod typing;
mod updates;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
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
use self::pace::Pace;
use self::settings::Settings;
use self::updates::Bot;
use crate::hears::Hears;
use crate::instance::Surroundings;
use crate::kinds::{Kind, SecretOf, Setup};
use crate::parts::Journal;
use crate::typing::Typing;
use crate::{Channel, in_order, state};

/// The name of the kind.
pub const TELEGRAM: &str = "telegram";

/// The kind.
pub const KIND: Kind = Kind {
    name: TELEGRAM,
    build: |setup| Ok(Arc::new(TelegramChannel::new(setup)?)),
    usable: |setup| {
        let settings = Settings::of(setup)?;
        Ok(match (setup.secrets)(&settings.token_secret) {
            Ok(Some(_)) => Ok(settings.described()),
            Ok(None) => Err(settings.missing()),
            Err(error) => Err(error),
        })
    },
    secrets: |setup| Ok(vec![Settings::of(setup)?.token_secret]),
    probe: Some(probe::begin),
    hears: Hears::CHAT,
};

/// Who the instance is to Telegram.
#[derive(Debug)]
struct Entered {
    token: Token,
    bot: Bot,
}

/// The channel.
pub struct TelegramChannel {
    id: String,
    settings: Settings,
    secrets: SecretOf,
    journal: Arc<dyn Journal>,
    /// Where what is kept lies.
    folder: PathBuf,
    /// Where the files of messages lie while they are sent, or handed in.
    parcels: PathBuf,
    /// The most bytes of a file that comes in.
    file_max: u64,
    api: Api,
    /// Once it is let in.
    entered: Mutex<Option<Arc<Entered>>>,
    kept: Mutex<Kept>,
    /// Held by whoever writes that down.
    writing: AsyncMutex<()>,
    pace: Mutex<Pace>,
    typing: Typing<typing::Place>,
    /// Where the questions are whose buttons are shown, by their codes: the chat and the message.
    asked: Mutex<HashMap<String, (i64, i64)>>,
    /// The last thing that was sent was not answered for.
    is_suspect: AtomicBool,
    /// One file at a time is held in memory.
    uploading: Semaphore,
    /// Somebody was told that the token is none.
    in_doubt: Notify,
}

impl TelegramChannel {
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
            folder: state::folder(setup.folder, setup.id),
            parcels: setup.scratch.to_owned(),
            file_max: setup.file_max,
            entered: Mutex::default(),
            kept: Mutex::default(),
            writing: AsyncMutex::default(),
            pace: Mutex::default(),
            typing: Typing::new(typing::AGAIN, typing::CHATS_MAX),
            asked: Mutex::default(),
            is_suspect: AtomicBool::new(false),
            uploading: Semaphore::new(1),
            in_doubt: Notify::new(),
        })
    }

    /// Who it is, once it is let in.
    fn entered(&self) -> Option<Arc<Entered>> {
        lock(&self.entered).clone()
    }

    /// It was let in with this token.
    #[cfg(test)]
    pub(crate) fn let_in(&self, token: &str) {
        let token = Token::parse(token).unwrap();
        let bot = Bot { id: 7, username: "bot".to_owned(), can_read_all_group_messages: false };
        *lock(&self.entered) = Some(Arc::new(Entered { token, bot }));
    }

    /// As if a while had gone by in which Telegram wanted nothing.
    #[cfg(test)]
    pub(crate) fn rest(&self) {
        *lock(&self.pace) = Pace::default();
    }

    /// Changes what is kept, and returns when that is on the disk.
    ///
    /// # Errors
    /// The disk's reason, for people. What is kept is changed all the same.
    async fn keep<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> Result<T, String> {
        let _one_after_the_other = self.writing.lock().await;
        let (done, kept) = {
            let mut kept = lock(&self.kept);
            let done = change(&mut kept);
            (done, kept.clone())
        };
        let folder = self.folder.clone();
        let written = blocking(move || kept.write(&folder)).await;
        written.map_err(|error| format!("cannot write in {}: {error}", self.folder.display()))?;
        Ok(done)
    }

    /// A group is another chat from now on. Returns whether that is known now.
    async fn note_moved(&self, from: i64, to: i64) -> bool {
        match self.keep(|kept| kept.move_group(from, to)).await {
            Ok(true) => {
                tracing::info!(
                    channel = self.id,
                    from,
                    to,
                    "a group has become another chat; here it keeps its name, and its wirings"
                );
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(
                    channel = self.id,
                    error,
                    "that a group has moved is not written down"
                );
            }
        }
        let kept = lock(&self.kept);
        kept.name_of(to) == kept.name_of(from) && from != to
    }
}

impl Channel for TelegramChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            keys: true,
            threads: true,
            typing: true,
            buttons: true,
            files_in: true,
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
                () = self.show_typing() => Ok(()),
                () = told.stopped() => Ok(()),
            };
            *lock(&self.entered) = None;
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
        // Whoever has no runtime ends, and what is left is forgotten by its age.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        drop(runtime.spawn(async move {
            if let Err(error) = journal.forget(&key).await {
                tracing::debug!(key, error, "what was sent is not forgotten yet");
            }
        }));
    }

    fn is_watched(&self, _address: &Address) -> bool {
        lock(&self.entered).is_some()
    }

    fn show(&self, address: &Address, progress: Option<&Progress>) {
        if let Some(place) = typing::place(address) {
            self.typing.show(place, progress.is_some(), Instant::now());
        }
    }
}
