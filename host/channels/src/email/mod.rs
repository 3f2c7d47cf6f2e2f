//! The `email` channel: a mailbox of its own, read by IMAP and answered by SMTP. `docs/channels/email.md` is the
//! description for people.
//!
//! A chat is a correspondent, by their address; a thread is a thread of mail. In (`receive`, `hear`): a mail is
//! durable elsewhere before the position moves behind it. Who has written it is what the receiving server says
//! (`origin`), and not what the mail says. Out (`send`): one mail for each message, under an id that is made of its
//! key; servers do not know keys, so what was handed over is recorded (`crate::parts`).
//!
//! Decisions, and pure, are `letter`, `origin`, `body`, `quoted`, `kept`, `compose` and `imap::syntax`.

mod attached;
mod body;
mod compose;
mod hear;
mod imap;
mod kept;
mod letter;
mod origin;
mod probe;
mod quoted;
mod receive;
mod send;
mod settings;
mod smtp;
mod wire;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use twobox_model::channel::{Address, Capabilities, Formatting, Outbound, Outcome};
use twobox_system::blocking::blocking;

use self::kept::Kept;
use self::receive::Pace;
use self::settings::{Settings, Trust};
use crate::hears::Hears;
use crate::instance::Surroundings;
use crate::kinds::{Kind, SecretOf, Setup};
use crate::parts::Journal;
use crate::{Channel, in_order, state};

/// The name of the kind.
pub const EMAIL: &str = "email";

/// How many mails are handed over at once.
const SENDING_MAX: usize = 4;

/// The kind.
pub const KIND: Kind = Kind {
    name: EMAIL,
    build: |setup| Ok(Arc::new(EmailChannel::new(setup)?)),
    usable: |setup| {
        let settings = Settings::of(setup)?;
        Ok(match (setup.secrets)(&settings.password_secret) {
            Ok(Some(_)) => Ok(described(&settings)),
            Ok(None) => Err(missing(&settings)),
            Err(error) => Err(error),
        })
    },
    secrets: |setup| Ok(vec![Settings::of(setup)?.password_secret]),
    probe: Some(probe::begin),
    // A chat is one correspondent, whom the operator has named by wiring it.
    hears: Hears { such_as: "me@example.org", ..Hears::OPEN },
};

/// Whose mailbox it is, where, and how senders are known, in a few words.
fn described(settings: &Settings) -> String {
    let Settings { address, imap, smtp, .. } = settings;
    let trust = match &settings.trust {
        Trust::Server(id) => format!("believes {id} who has written"),
        Trust::From => "believes mail who has written it".to_owned(),
    };
    format!("{address}, read at {imap} and sent by {smtp}, {trust}")
}

/// That nobody has given the secret.
fn missing(settings: &Settings) -> String {
    format!(
        "the mailbox's password is not there: `twobox secrets set {}`",
        settings.password_secret
    )
}

/// The channel.
pub struct EmailChannel {
    id: String,
    settings: Settings,
    secrets: SecretOf,
    journal: Arc<dyn Journal>,
    /// Where what is kept lies.
    folder: PathBuf,
    /// Where the files of messages lie while they are handed in, or sent.
    parcels: PathBuf,
    /// The most bytes of a file that comes in.
    file_max: u64,
    pace: Pace,
    kept: Mutex<Kept>,
    /// Held by whoever writes that down.
    writing: AsyncMutex<()>,
    sending: Semaphore,
    /// What was said of the host's own about mails behind which the position has not moved yet.
    said: Mutex<Vec<String>>,
}

impl EmailChannel {
    /// The channel that is set so. It does nothing before it lives.
    ///
    /// # Errors
    /// A sentence that names the setting that is wrong.
    pub fn new(setup: &Setup<'_>) -> Result<Self, String> {
        Ok(Self {
            id: setup.id.to_owned(),
            settings: Settings::of(setup)?,
            secrets: Arc::clone(&setup.secrets),
            journal: Arc::clone(&setup.journal),
            folder: state::folder(setup.folder, setup.id),
            parcels: setup.scratch.to_owned(),
            file_max: setup.file_max,
            pace: Pace::default(),
            kept: Mutex::default(),
            writing: AsyncMutex::default(),
            sending: Semaphore::new(SENDING_MAX),
            said: Mutex::default(),
        })
    }

    /// The mailbox's password, as it is now.
    ///
    /// # Errors
    /// Why it is not there, for people.
    async fn password(&self) -> Result<String, String> {
        let (secrets, name) = (Arc::clone(&self.secrets), self.settings.password_secret.clone());
        let given = blocking(move || secrets(&name)).await?;
        given.ok_or_else(|| missing(&self.settings))
    }
}

impl Channel for EmailChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            keys: true,
            threads: true,
            files_in: true,
            files_out: true,
            formatting: Formatting::Markdown,
            ..Capabilities::TEXT
        }
    }

    fn run(&self, surroundings: Surroundings) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let mut told = surroundings.clone();
            tokio::select! {
                ended = self.live(&surroundings) => ended,
                () = told.stopped() => Ok(()),
            }
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
                tracing::debug!(key, error, "what was recorded of a message stays");
            }
        });
    }
}
