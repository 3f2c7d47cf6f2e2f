//! The `slack` channel: conversations of a Slack workspace, by an app with a bot. `docs/channels/slack.md` is the
//! description for people.
//!
//! In (`receive`): what was said comes over a connection that the host makes (Socket Mode), and is acknowledged
//! once it is accepted, durably. What was missed is read from the conversations' histories.
//!
//! Out (`send`): Slack does not honour keys. Each part of a message has a record and a mark: one of which nobody
//! knows is looked for before it is sent again.
//!
//! Decisions, and pure, are `events`, `text`, `compose`, `trouble`, and what `format` does.

mod api;
mod compose;
mod enter;
mod events;
mod files;
mod kept;
mod people;
mod probe;
mod receive;
mod send;
mod settings;
mod text;
mod trouble;
mod ts;
mod typing;

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
use self::enter::Tokens;
use self::kept::Kept;
use self::people::People;
use self::receive::Chats;
use self::send::Pace;
use self::settings::Settings;
use self::trouble::Trouble;
use self::ts::Ts;
use crate::hears::Hears;
use crate::instance::Surroundings;
use crate::kinds::{Kind, SecretOf, Setup};
use crate::parts::Journal;
use crate::typing::Typing;
use crate::{Channel, in_order, state};

/// The name of the kind.
pub const SLACK: &str = "slack";

/// The kind.
pub const KIND: Kind = Kind {
    name: SLACK,
    build: |setup| Ok(Arc::new(SlackChannel::new(setup)?)),
    usable: |setup| {
        let settings = Settings::of(setup)?;
        Ok(Tokens::of(&settings, &setup.secrets).map(|_| described(&settings)))
    },
    probe: Some(probe::begin),
    secrets: |setup| {
        let settings = Settings::of(setup)?;
        Ok(vec![settings.bot_token, settings.app_token])
    },
    hears: Hears::CHAT,
};

/// Where it is, in a few words.
fn described(settings: &Settings) -> String {
    format!("Slack at {}", settings.api)
}

/// Who the instance is to Slack.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    bot: Token,
    app: Token,
    /// The id of the bot, as that of a person.
    user: String,
}

/// The channel.
pub struct SlackChannel {
    id: String,
    settings: Settings,
    secrets: SecretOf,
    /// Where what is kept lies.
    folder: PathBuf,
    /// Where the files of messages lie while they are sent.
    parcels: PathBuf,
    journal: Arc<dyn Journal>,
    api: Api,
    /// Once it is let in.
    account: Mutex<Option<Arc<Account>>>,
    kept: Mutex<Kept>,
    /// Held by whoever writes that down.
    writing: AsyncMutex<()>,
    /// A position has moved.
    moved: Notify,
    chats: Chats,
    /// Held by whoever hands in what came over a connection.
    hearing: AsyncMutex<()>,
    /// Nobody listened for a while: what was said then is read once there is a connection.
    has_gap: AtomicBool,
    /// Whether there was a connection before.
    has_met: AtomicBool,
    /// When the look at all conversations began that is not over.
    look_began: Mutex<Option<Ts>>,
    people: People,
    typing: Typing<typing::Place>,
    pace: Mutex<Pace>,
    /// One file at a time is held in memory.
    uploading: Semaphore,
    /// Slack closes a connection soon.
    refresh: Notify,
    /// Somebody was told that the bot may do nothing.
    in_doubt: Notify,
}

impl SlackChannel {
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
            folder: state::folder(setup.folder, setup.id),
            parcels: setup.scratch.to_owned(),
            journal: Arc::clone(&setup.journal),
            account: Mutex::default(),
            kept: Mutex::default(),
            writing: AsyncMutex::default(),
            moved: Notify::new(),
            chats: Chats::default(),
            hearing: AsyncMutex::default(),
            has_gap: AtomicBool::new(true),
            has_met: AtomicBool::new(false),
            look_began: Mutex::default(),
            people: People::default(),
            typing: Typing::new(typing::AGAIN, typing::THREADS_MAX),
            pace: Mutex::default(),
            uploading: Semaphore::new(1),
            refresh: Notify::new(),
            in_doubt: Notify::new(),
        })
    }

    /// Who it is, once it is let in.
    fn account(&self) -> Option<Arc<Account>> {
        lock(&self.account).clone()
    }

    /// It was let in with this token.
    #[cfg(test)]
    pub(crate) fn let_in(&self, token: &str, user: &str) {
        let (bot, app) = (Token(token.to_owned()), Token(token.to_owned()));
        *lock(&self.account) = Some(Arc::new(Account { bot, app, user: user.to_owned() }));
    }

    /// Takes note of trouble that is about more than what was asked.
    fn take_note(&self, trouble: &Trouble) {
        if trouble.is_access() && trouble.error() != Some("missing_scope") {
            self.in_doubt.notify_one();
        }
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
        let written = blocking(move || state::write(&folder, &kept)).await;
        written.map_err(|error| format!("cannot write in {}: {error}", self.folder.display()))?;
        Ok(done)
    }
}

impl Channel for SlackChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            keys: true,
            threads: true,
            edits: true,
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
                () = self.show_typing() => Ok(()),
                () = told.stopped() => Ok(()),
            };
            let was_in = lock(&self.account).take().is_some();
            if was_in && let Err(error) = self.keep(|_| ()).await {
                tracing::warn!(channel = self.id, error, "how far was heard is not written down");
            }
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
                tracing::debug!(key, error, "what was sent of a message stays recorded");
            }
        });
    }

    fn is_watched(&self, address: &Address) -> bool {
        address.thread_id.is_some() && lock(&self.account).is_some()
    }

    fn show(&self, address: &Address, progress: Option<&Progress>) {
        if let Some(thread) = address.thread_id.as_deref().filter(|it| Ts::parse(it).is_some()) {
            let now = Instant::now();
            self.typing.show(
                (address.platform_id.clone(), thread.to_owned()),
                progress.is_some(),
                now,
            );
        }
    }
}
