//! What is posted to the host: whether it is signed and meant, and into the intake with it.
//!
//! Nothing is remembered here of what was posted before: the same message has the same id, and the intake stores it
//! once. So what somebody replays within the window changes nothing, and behind it is refused.

use std::sync::{Arc, Mutex};

use serde::Deserialize;
use twobox_model::channel::{Address, Inbound, Receipt, Refusal};
use twobox_shared::bounds::{self, TooMuch};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::content::{About, Chat};
use twobox_shared::ids::MessageId;
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;
use twobox_system::repeat::warned;

use super::sign::{Forged, Head, Key};
use crate::Intake;
use crate::kinds::SecretOf;
use crate::socket::{check, check_about};

/// What a message says. `id` may be left out: then it is that of its headers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posted {
    chat: String,
    #[serde(default)]
    thread: Option<String>,
    #[serde(default)]
    sender: Option<String>,
    #[serde(default)]
    about: Option<About>,
    #[serde(default)]
    id: Option<MessageId>,
    text: String,
}

/// Why nothing of a message was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejected {
    /// Nobody who knows the secret has sent it.
    Forged(Forged),
    /// A field is not as it has to be.
    Invalid {
        /// Which.
        field: &'static str,
        /// What it has to be.
        reason: String,
    },
    /// It has more than the most bytes of a message.
    TooLarge(TooMuch),
    /// Whether it is meant cannot be told, for there is no secret; or nobody could take it.
    NotReady(String),
    /// As the intake has it.
    Refused(Refusal),
}

impl From<Forged> for Rejected {
    fn from(forged: Forged) -> Self {
        Self::Forged(forged)
    }
}

/// Where what is posted to one channel is looked at.
pub struct Hook {
    id: String,
    secret: String,
    secrets: SecretOf,
    window: u64,
    /// While the channel lives.
    intake: Mutex<Option<Arc<dyn Intake>>>,
}

impl Hook {
    pub(super) fn new(id: &str, secret: &str, secrets: SecretOf, window: u64) -> Arc<Self> {
        let (id, secret, intake) = (id.to_owned(), secret.to_owned(), Mutex::default());
        Arc::new(Self { id, secret, secrets, window, intake })
    }

    /// From now on what is posted goes there, or nowhere.
    pub(super) fn lead(&self, intake: Option<Arc<dyn Intake>>) {
        *lock(&self.intake) = intake;
    }

    /// What signs and checks, as it is now.
    ///
    /// # Errors
    /// Why there is nothing, for the operator.
    pub(super) async fn key(&self) -> Result<Key, String> {
        let (secrets, name) = (Arc::clone(&self.secrets), self.secret.clone());
        blocking(move || key_of(&secrets, &name)).await
    }

    /// Whether a request with this head may be meant, before its body is read.
    ///
    /// # Errors
    /// [`Forged`].
    pub fn glance(&self, head: &Head) -> Result<(), Forged> {
        let checked = head.in_time(SystemClock.now(), self.window);
        checked.inspect_err(|forged| self.note(forged))
    }

    /// Whether somebody who knows the secret has sent it.
    ///
    /// # Errors
    /// [`Rejected::Forged`], or [`Rejected::NotReady`] where that cannot be told.
    pub async fn check(&self, head: &Head, body: &[u8]) -> Result<(), Rejected> {
        let key = self.key().await.map_err(|reason| {
            self.note(&reason);
            // Whoever posts is nobody yet, and learns nothing of how this host is set.
            Rejected::NotReady(
                "this channel cannot take messages now; its operator is told".to_owned(),
            )
        })?;
        match key.admits(head, body) {
            true => Ok(()),
            false => {
                self.note(&Forged::Wrong);
                Err(Forged::Wrong.into())
            }
        }
    }

    /// Takes in what was checked. When this returns `Ok` it is durable.
    ///
    /// # Errors
    /// [`Rejected`].
    pub async fn accept(
        &self,
        head: &Head,
        posted: Posted,
    ) -> Result<(MessageId, Vec<Receipt>), Rejected> {
        let Posted { chat, thread, sender, about, id, text } = posted;
        let invalid = |field| move |reason| Rejected::Invalid { field, reason };
        check("chat", Some(&chat)).map_err(invalid("chat"))?;
        check("thread", thread.as_deref()).map_err(invalid("thread"))?;
        check("sender", sender.as_deref()).map_err(invalid("sender"))?;
        about.as_ref().map_or(Ok(()), check_about).map_err(invalid("about"))?;
        let id = match id {
            Some(id) => id,
            None => MessageId::parse(&head.id).map_err(|error| Rejected::Invalid {
                field: "id",
                reason: format!(
                    "without it the message has the id of its head, and that cannot be one: {error}"
                ),
            })?,
        };
        if text.trim().is_empty() {
            return Err(invalid("text")("the message is empty: say something".to_owned()));
        }
        let said = Chat { sender, about, ..Chat::text(text) };
        bounds::MESSAGE.check("the message", said.to_json().len()).map_err(Rejected::TooLarge)?;
        let intake = lock(&self.intake).clone().ok_or_else(|| {
            Rejected::NotReady("the host is stopping; send it again when it is back".to_owned())
        })?;
        let address =
            Address { channel_type: self.id.clone(), platform_id: chat, thread_id: thread };
        let accepted = intake.accept(Inbound::new(address, id.clone(), said)).await;
        let receipts = accepted.map_err(|refusal| {
            if let Refusal::NobodyListens { channel_type, platform_id } = &refusal
                && let Some(again) = warned("webhook", &format!("{channel_type} {platform_id}"))
            {
                tracing::warn!(
                    channel = channel_type,
                    chat = platform_id,
                    again,
                    "nobody listens to a chat: `twobox wire add AGENT CHANNEL CHAT` has an agent do so"
                );
            }
            Rejected::Refused(refusal)
        })?;
        Ok((id, receipts))
    }

    /// Tells the operator, now and then and with how often it was.
    fn note(&self, why: &dyn std::fmt::Display) {
        let reason = why.to_string();
        if let Some(again) = warned("webhook", &format!("{}: {}", self.id, head_of(&reason))) {
            tracing::warn!(channel = self.id, reason, again, "a message to a webhook is refused");
        }
    }
}

/// What is told apart of a reason: not its numbers, of which a stranger chooses.
fn head_of(reason: &str) -> String {
    reason.chars().filter(|c| !c.is_ascii_digit()).take(60).collect()
}

/// What signs, by the name of its secret. Blocks.
pub(super) fn key_of(secrets: &SecretOf, name: &str) -> Result<Key, String> {
    match secrets(name)? {
        Some(secret) => {
            Key::of(&secret).map_err(|why| format!("the secret {name} is of no use: {why}"))
        }
        None => Err(format!(
            "there is no secret {name}: `openssl rand -hex 32 | twobox secrets set {name}` makes one, and \
             whoever posts has to know it"
        )),
    }
}
