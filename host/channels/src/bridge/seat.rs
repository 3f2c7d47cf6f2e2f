//! The seat of a bridge: who is connected, and what it was handed and has not answered.
//!
//! There is one seat for each channel. A second program is refused while the first is connected: both would hand in
//! what was said, and nobody could say which of them has taken a message.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::timeout;
use twobox_system::lock::lock;

use crate::socket::{Event, Hello, Told};

/// The least that a bridge may take at once, in bytes.
const LONGEST_MIN: usize = 100;

/// A bridge's place at the host's socket.
#[derive(Debug)]
pub struct Seat {
    id: String,
    /// What people call the setting that says so, and whether only a program may sit here that drops keys which it
    /// knows.
    keys: (String, bool),
    state: Mutex<State>,
    /// The number of who is connected.
    here: watch::Sender<Option<u64>>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    guest: Option<Guest>,
    /// What was handed over and is not answered, by key.
    pending: HashMap<String, Pending>,
}

#[derive(Debug)]
struct Pending {
    /// The call that waits for it.
    call: u64,
    told: oneshot::Sender<Told>,
}

/// The program that is connected.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    number: u64,
    pub(super) hello: Hello,
    queue: mpsc::Sender<Event>,
    dismissed: Arc<Notify>,
}

/// What came of handing something over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Handed {
    /// The program has said so.
    Told(Told),
    /// It was not handed over.
    Not(String),
    /// It was, and nobody knows what came of it.
    Unknown(String),
}

impl Seat {
    /// The seat of the channel with this id, in which nobody sits. `keys` is whether whoever does has to drop keys
    /// that it knows, which people call `setting`.
    pub(super) fn new(id: &str, setting: String, keys: bool) -> Arc<Self> {
        let here = watch::Sender::new(None);
        Arc::new(Self { id: id.to_owned(), keys: (setting, keys), state: Mutex::default(), here })
    }

    /// Every change below is one that a panic cannot leave half done.
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Who comes and goes, by number.
    pub(super) fn watch(&self) -> watch::Receiver<Option<u64>> {
        self.here.subscribe()
    }

    /// Who is connected.
    pub(super) fn guest(&self) -> Option<Guest> {
        self.state().guest.clone()
    }

    /// Somebody sits down, who is sent events by `queue` and told to leave by `dismissed`.
    ///
    /// # Errors
    /// A sentence for people, if the seat is taken.
    pub(crate) fn sit(
        self: &Arc<Self>,
        hello: Hello,
        queue: mpsc::Sender<Event>,
        dismissed: Arc<Notify>,
    ) -> Result<Seated, String> {
        let (setting, keys) = &self.keys;
        if *keys && !hello.keys {
            return Err(format!(
                "{setting} = true promises that the bridge drops keys that it knows, and this one does not say so: \
                 say \"keys\":true, or set it to false"
            ));
        }
        if hello.longest.is_some_and(|longest| longest < LONGEST_MIN) {
            return Err(format!("longest: say {LONGEST_MIN} bytes or more, or leave it out"));
        }
        let mut state = self.state();
        if let Some(guest) = &state.guest {
            let id = &self.id;
            let name = guest.hello.name.as_ref().map(|name| format!(" ({name})"));
            return Err(format!(
                "another bridge is connected for {id}{}: end it first",
                name.unwrap_or_default()
            ));
        }
        // It hears that before anything that it is handed.
        let greeting = Event::Bridging { channel: self.id.clone() };
        queue.try_send(greeting).map_err(|_| "read what you are sent first".to_owned())?;
        state.last += 1;
        let number = state.last;
        state.guest = Some(Guest { number, hello, queue, dismissed });
        drop(state);
        self.here.send_replace(Some(number));
        Ok(Seated { seat: Arc::clone(self), number })
    }

    fn leave(&self, number: u64) {
        let mut state = self.state();
        if state.guest.as_ref().is_none_or(|guest| guest.number != number) {
            return;
        }
        state.guest = None;
        state.pending.clear(); // dropping the senders tells the waiting calls
        drop(state);
        self.here.send_replace(None);
    }

    /// Hands `event` over, which has this key, and waits for `patience` for what the program says. One that says
    /// nothing is sent away: what is not answered would otherwise cost one message after the other.
    pub(super) async fn hand(
        &self,
        guest: &Guest,
        key: &str,
        event: Event,
        patience: Duration,
    ) -> Handed {
        let (told, waiting) = oneshot::channel();
        let _forget = {
            let mut state = self.state();
            if state.guest.as_ref().is_none_or(|here| here.number != guest.number) {
                return Handed::Not("the bridge has left".to_owned());
            }
            // Announced before it is sent: an answer never finds nobody waiting.
            if state.pending.contains_key(key) {
                return Handed::Not("the bridge is at work on it".to_owned());
            }
            state.last += 1;
            let call = state.last;
            state.pending.insert(key.to_owned(), Pending { call, told });
            Forget { seat: self, key, call }
        };
        let seconds = humantime::format_duration(patience);
        match timeout(patience, guest.queue.send(event)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Handed::Not("the bridge has left".to_owned()),
            Err(_) => {
                guest.dismissed.notify_one();
                return Handed::Not(format!("the bridge read nothing for {seconds}"));
            }
        }
        match timeout(patience, waiting).await {
            Ok(Ok(told)) => Handed::Told(told),
            Ok(Err(_)) => Handed::Unknown("the bridge left before it had answered".to_owned()),
            Err(_) => {
                guest.dismissed.notify_one();
                Handed::Unknown(format!("the bridge did not answer within {seconds}"))
            }
        }
    }

    /// Tells the program something that it does not answer, if there is room for it.
    pub(super) fn tell(&self, event: impl FnOnce(&Hello) -> Option<Event>) {
        let state = self.state();
        if let Some(guest) = &state.guest
            && let Some(event) = event(&guest.hello)
        {
            // Whoever has not read what came before misses it.
            drop(guest.queue.try_send(event));
        }
    }
}

/// Forgets that somebody waits for an answer, also when nobody does any more.
struct Forget<'a> {
    seat: &'a Seat,
    key: &'a str,
    call: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let mut state = self.seat.state();
        if state.pending.get(self.key).is_some_and(|pending| pending.call == self.call) {
            state.pending.remove(self.key);
        }
    }
}

/// A program that sits there. It leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Seated {
    seat: Arc<Seat>,
    number: u64,
}

impl Seated {
    /// The program says what became of a message. Returns whether somebody waited for that.
    pub(crate) fn answer(&self, told: Told) -> bool {
        let pending = self.seat.state().pending.remove(&told.key);
        pending.is_some_and(|pending| pending.told.send(told).is_ok())
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.seat.leave(self.number);
    }
}
