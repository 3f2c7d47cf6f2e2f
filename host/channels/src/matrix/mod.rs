//! The `matrix` channel: rooms of a Matrix homeserver, by one ordinary account with one device, which is kept.
//! `docs/channels/matrix.md` is the description for people.
//!
//! In (`receive`): what was said is accepted, durably, before the position moves behind it. A room of which
//! not everything can be taken now is *behind*, with a position of its own, and keeps no other room waiting.
//!
//! Out (`send`): the homeserver honours keys: each part of a message has a transaction id made of its key, so
//! that what is sent again shows once, for a day and to one device. Beyond that the room is looked at first.
//!
//! Decisions, and pure, are `events`, `trouble`, `path`, `compose` and what `format` does. Encrypted rooms
//! are not read, and nothing is sent there.

mod client;
mod compose;
mod enter;
mod events;
mod files;
mod kept;
mod path;
mod probe;
mod receive;
mod rooms;
mod send;
mod settings;
#[cfg(test)]
mod tests;
mod trouble;
mod typing;

use std::collections::{HashMap, HashSet};
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

use self::client::Client;
use self::kept::{Kept, Token};
use self::rooms::Rooms;
use self::send::{Begun, Past};
use self::settings::Settings;
use crate::hears::{self, Hears};
use crate::instance::Surroundings;
use crate::kinds::{Kind, SecretOf, Setup};
use crate::typing::Typing;
use crate::{Channel, in_order};

/// The name of the kind.
pub const MATRIX: &str = "matrix";

/// The kind.
pub const KIND: Kind = Kind {
    name: MATRIX,
    build: |setup| Ok(Arc::new(MatrixChannel::new(setup)?)),
    usable: |setup| {
        let settings = Settings::of(setup)?;
        let credential = &settings.credential;
        Ok(match (setup.secrets)(credential.secret()) {
            Ok(Some(_)) => Ok(described(&settings)),
            Ok(None) => Err(enter::missing(credential)),
            Err(error) => Err(error),
        })
    },
    secrets: |setup| Ok(vec![Settings::of(setup)?.credential.secret().to_owned()]),
    probe: Some(probe::begin),
    hears: HEARS,
};

/// Whom it hears, and how their ids look.
const HEARS: Hears = Hears::CHAT.of(settings::is_user, "@me:example.org");

/// Whose account it is, where, and who is heard, in a few words.
fn described(settings: &Settings) -> String {
    let heard = hears::told(&settings.senders);
    format!("{} at {}, {heard}", settings.user, settings.homeserver)
}

/// Who the instance is to the homeserver.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    user: String,
    token: Token,
}

/// The channel.
pub struct MatrixChannel {
    id: String,
    settings: Settings,
    secrets: SecretOf,
    /// Where what is kept lies.
    folder: PathBuf,
    /// Where the files of messages lie while they are sent, or handed in.
    parcels: PathBuf,
    /// The most bytes of a file that comes in.
    file_max: u64,
    client: Client,
    /// Once it is let in.
    account: Mutex<Option<Arc<Account>>>,
    kept: Mutex<Kept>,
    /// Held by whoever writes that down.
    writing: AsyncMutex<()>,
    rooms: Rooms,
    typing: Typing<String>,
    /// Messages that are not wholly there yet, by their keys.
    begun: Mutex<HashMap<String, Begun>>,
    /// Messages to which nobody listened when they were heard: a page and a look may both have them, and in between
    /// somebody may be wired, who is not to hear what was said before.
    unheard: Mutex<HashSet<String>>,
    /// What the account itself has said in rooms that were looked at.
    past: Mutex<HashMap<String, Past>>,
    /// Whether what lies on the disk is kept of another account.
    is_anothers: AtomicBool,
    /// The most bytes of a file, once that was asked for.
    upload_max: Mutex<Option<u64>>,
    /// One file at a time is held in memory.
    uploading: Semaphore,
    /// It is invited somewhere.
    invited: Notify,
    /// Somebody was told that the token is none.
    in_doubt: Notify,
}

impl MatrixChannel {
    /// The channel that is set so. It does nothing before it lives.
    ///
    /// # Errors
    /// A sentence that names the setting that is wrong.
    pub fn new(setup: &Setup<'_>) -> Result<Self, String> {
        let settings = Settings::of(setup)?;
        Ok(Self {
            id: setup.id.to_owned(),
            client: Client::new(settings.homeserver.clone()),
            settings,
            secrets: Arc::clone(&setup.secrets),
            folder: kept::folder(setup.folder, setup.id),
            parcels: setup.scratch.to_owned(),
            file_max: setup.file_max,
            account: Mutex::default(),
            kept: Mutex::default(),
            writing: AsyncMutex::default(),
            rooms: Rooms::default(),
            typing: Typing::new(typing::AGAIN, typing::ROOMS_MAX),
            begun: Mutex::default(),
            unheard: Mutex::default(),
            past: Mutex::default(),
            is_anothers: AtomicBool::new(false),
            invited: Notify::new(),
            upload_max: Mutex::default(),
            uploading: Semaphore::new(1),
            in_doubt: Notify::new(),
        })
    }

    /// Who it is, once it is let in.
    fn account(&self) -> Option<Arc<Account>> {
        lock(&self.account).clone()
    }

    /// It was let in with this token.
    #[cfg(test)]
    pub(crate) fn let_in(&self, token: &str) {
        let (user, token) = (self.settings.user.clone(), Token(token.to_owned()));
        *lock(&self.account) = Some(Arc::new(Account { user, token }));
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
}

impl Channel for MatrixChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            keys: true,
            threads: true,
            typing: true,
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
                () = self.take_invitations() => Ok(()),
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
        lock(&self.begun).remove(key);
        lock(&self.kept).unsure.remove(key);
    }

    fn is_watched(&self, _address: &Address) -> bool {
        lock(&self.account).is_some()
    }

    fn show(&self, address: &Address, progress: Option<&Progress>) {
        self.typing.show(address.platform_id.clone(), progress.is_some(), Instant::now());
    }
}
