//! The `bridge` channel: a program of the operator's that stays connected to the host's socket and carries
//! messages both ways. `docs/channels/bridge.md` is the description for people, and `docs/socket.md` has the lines.
//!
//! In: the program hands messages in as every client of the socket does. Out: each part of a message is an event
//! that the program answers with what became of it. What it does not answer, because it left or was too slow, is
//! unknown: sent again under its key if the program drops keys that it knows, and otherwise looked up in the
//! journal of parts, and never sent twice.
//!
//! Not here: lines and connections (`socket`).

mod seat;
mod told;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::sync::Semaphore;
use twobox_model::channel::{Address, Capabilities, Formatting, Outbound, Outcome};
use twobox_shared::ids::{IdSource, SystemIds};
use twobox_shared::progress::Progress;
use twobox_shared::time::UnixMillis;
use twobox_system::blocking::blocking;

pub use seat::Seat;
pub(crate) use seat::Seated;
use seat::{Guest, Handed};

use crate::format::split;
use crate::hears::Hears;
use crate::instance::Surroundings;
use crate::kinds::{Kind, Setup, setting};
use crate::parcel::{Attachment, Parcel};
use crate::parts::{self, Journal, Looked, Part, Platform, Sent};
use crate::socket::{Deliver, Event};
use crate::{Channel, Door, in_order};

/// The name of the kind.
pub const BRIDGE: &str = "bridge";

/// How many messages one bridge has at once; further ones wait for it to answer one.
const AT_ONCE: usize = 64;

/// How long a bridge may take to answer, if nothing is set.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why it is down that has nobody in its seat.
const NOBODY: &str = "no bridge is connected: start its program";

/// The kind.
pub const KIND: Kind = Kind {
    name: BRIDGE,
    build: |setup| Ok(Arc::new(BridgeChannel::new(setup)?)),
    usable: |setup| {
        let keys = if Settings::of(setup)?.keys { ", which drops keys that it knows" } else { "" };
        Ok(Ok(format!("a program of yours at host.sock{keys}")))
    },
    secrets: |setup| Settings::of(setup).map(|_| Vec::new()),
    probe: None,
    hears: Hears::OPEN,
};

/// What is set.
#[derive(Debug)]
struct Settings {
    keys: bool,
    timeout: Duration,
}

/// What a section says. What is left out is `None`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, deserialize_with = "yes_or_no")]
    keys: Option<bool>,
    #[serde(default, deserialize_with = "span")]
    timeout: Option<Duration>,
}

impl Settings {
    fn of(setup: &Setup<'_>) -> Result<Self, String> {
        let Written { keys, timeout } = setup.read()?;
        Ok(Self { keys: keys.unwrap_or(false), timeout: timeout.unwrap_or(PATIENCE) })
    }
}

fn yes_or_no<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    setting(deserializer, "true or false", |value| Some(Some(value.as_bool()?)))
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let allowed = "a time above zero and up to a year, such as \"1m\"";
    setting(deserializer, allowed, |value| Some(Some(twobox_config::span(value.as_str()?)?)))
}

/// The channel.
pub struct BridgeChannel {
    seat: Arc<Seat>,
    settings: Settings,
    journal: Arc<dyn Journal>,
    /// Where the files of messages lie while they are sent.
    parcels: PathBuf,
    permits: Semaphore,
}

impl BridgeChannel {
    /// The channel that is set so. Nobody is connected yet.
    ///
    /// # Errors
    /// A sentence that names the setting that is wrong.
    pub fn new(setup: &Setup<'_>) -> Result<Self, String> {
        let settings = Settings::of(setup)?;
        Ok(Self {
            seat: Seat::new(setup.id, (setup.name_of)("keys"), settings.keys),
            settings,
            journal: Arc::clone(&setup.journal),
            parcels: setup.scratch.to_owned(),
            permits: Semaphore::new(AT_ONCE),
        })
    }

    async fn send(&self, address: &Address, outbound: &Outbound) -> Outcome {
        let _place = self.permits.acquire().await.expect("it is never closed");
        let Some(guest) = self.seat.guest() else { return Outcome::Unavailable };
        // It goes when the program has answered, and also when nobody waits for that any more.
        let parcel = match self.pack(outbound).await {
            Ok(parcel) => parcel,
            Err(error) => {
                let error = format!("could not put its files ready: {error}");
                return Outcome::Transient { error, retry_after: None };
            }
        };
        let parts = parts_of(address, outbound, &parcel.attachments, guest.hello.longest);
        let way = Way { seat: &self.seat, guest, patience: self.settings.timeout };
        let outcome = match self.settings.keys {
            true => way.send_again(&parts).await,
            false => parts::deliver(&*self.journal, &outbound.key, &parts, &way).await,
        };
        parcel.end().await;
        outcome
    }

    /// Copies the files of a message to where the program can have them.
    async fn pack(&self, outbound: &Outbound) -> io::Result<Parcel> {
        let Some(shelf) = outbound.shelf.clone() else { return Ok(Parcel::empty()) };
        let folder = self.parcels.join(SystemIds.uuid().to_string());
        let names = outbound.files.clone();
        blocking(move || Parcel::pack(&folder, &shelf, &names)).await
    }
}

/// A message in as many parts as its bridge wants. The files come with the last; each part has a key of its own, and
/// the first that of the message.
fn parts_of(
    address: &Address,
    outbound: &Outbound,
    attachments: &[Attachment],
    longest: Option<usize>,
) -> Vec<Part<Deliver>> {
    let mut texts = match longest {
        Some(most) => split::parts(&outbound.text, most, &|_| true),
        None => Vec::new(),
    };
    if texts.is_empty() {
        texts.push(outbound.text.clone());
    }
    let last = texts.len() - 1;
    let part = |(index, text): (usize, String)| Part {
        name: (index + 1).to_string(),
        what: Deliver {
            key: match index {
                0 => outbound.key.clone(),
                _ => format!("{}/{}", outbound.key, index + 1),
            },
            chat: address.platform_id.clone(),
            thread: address.thread_id.clone(),
            text,
            files: if index == last { outbound.files.clone() } else { Vec::new() },
            attachments: match index == last {
                true => attachments.iter().map(value).collect(),
                false => Vec::new(),
            },
            in_reply_to: outbound.in_reply_to.clone(),
            answers: outbound.answers.clone(),
            failed: outbound.failed,
            prompt: outbound.prompt.clone().filter(|_| index == last),
        },
    };
    texts.into_iter().enumerate().map(part).collect()
}

fn value(attachment: &Attachment) -> Value {
    serde_json::to_value(attachment).expect("strings always serialise")
}

/// To one program that is connected.
struct Way<'a> {
    seat: &'a Seat,
    guest: Guest,
    patience: Duration,
}

impl Way<'_> {
    async fn hand(&self, part: &Part<Deliver>) -> Handed {
        let event = Event::Deliver(part.what.clone());
        self.seat.hand(&self.guest, &part.what.key, event, self.patience).await
    }

    /// To a program that drops keys which it knows: all of it, as often as it takes.
    async fn send_again(&self, parts: &[Part<Deliver>]) -> Outcome {
        let mut first = None;
        for part in parts {
            let id = match told::sent(self.hand(part).await) {
                Sent::Taken(id) => id,
                Sent::NotSent { error, retry_after } => {
                    return Outcome::Transient { error, retry_after };
                }
                Sent::Unknown(error) => return Outcome::Transient { error, retry_after: None },
                Sent::Refused(error) => return Outcome::Permanent { error },
            };
            first = first.or(id);
        }
        Outcome::Delivered { platform_message_id: first }
    }
}

impl Platform<Deliver> for Way<'_> {
    fn send<'a>(&'a self, part: &'a Part<Deliver>) -> BoxFuture<'a, Sent> {
        Box::pin(async { told::sent(self.hand(part).await) })
    }

    /// Nobody can be asked what another program has done.
    fn look<'a>(&'a self, _part: &'a Part<Deliver>, _begun: UnixMillis) -> BoxFuture<'a, Looked> {
        Box::pin(async { Looked::Unknown })
    }
}

impl Channel for BridgeChannel {
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

    fn run(&self, mut surroundings: Surroundings) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let mut here = self.seat.watch();
            loop {
                let sits = here.borrow_and_update().is_some();
                // One that came at once in the place of another finds what waited for that.
                surroundings.down(NOBODY.to_owned());
                if sits {
                    surroundings.up();
                }
                tokio::select! {
                    _ = here.changed() => {}
                    () = surroundings.stopped() => return Ok(()),
                }
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
        if self.settings.keys {
            self.seat.tell(|_| Some(Event::Forget { key: key.to_owned() }));
            return;
        }
        parts::forget(&self.journal, key);
    }

    fn is_watched(&self, _address: &Address) -> bool {
        self.seat.guest().is_some_and(|guest| guest.hello.progress)
    }

    fn show(&self, address: &Address, progress: Option<&Progress>) {
        self.seat.tell(|hello| {
            hello.progress.then(|| Event::Activity {
                chat: address.platform_id.clone(),
                thread: address.thread_id.clone(),
                progress: progress.cloned(),
            })
        });
    }

    fn door(&self) -> Option<Door> {
        Some(Door::Bridge(Arc::clone(&self.seat)))
    }
}
