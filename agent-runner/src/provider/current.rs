//! Which turn runs: what the tools of the host have to know of it, whoever uses them.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::{Asked, Event, Said, TurnNumber};

/// The turn that runs now, if one does.
#[derive(Debug, Default)]
pub(super) struct Current(Mutex<Option<Running>>);

#[derive(Debug)]
struct Running {
    number: TurnNumber,
    destinations: Vec<String>,
    said_nothing: bool,
}

impl Current {
    /// A turn begins, which can send to `destinations`.
    pub(super) fn begin(&self, number: TurnNumber, destinations: &[String]) {
        let destinations = destinations.to_owned();
        *self.held() = Some(Running { number, destinations, said_nothing: false });
    }

    /// The turn is over.
    pub(super) fn end(&self) {
        *self.held() = None;
    }

    /// The number of the turn that runs.
    pub(super) fn number(&self) -> Option<TurnNumber> {
        self.held().as_ref().map(|running| running.number)
    }

    /// Where it can send to.
    pub(super) fn destinations(&self) -> Vec<String> {
        self.held().as_ref().map(|running| running.destinations.clone()).unwrap_or_default()
    }

    /// Its agent means to say nothing.
    pub(super) fn say_nothing(&self, number: TurnNumber) {
        if let Some(running) = self.held().as_mut().filter(|running| running.number == number) {
            running.said_nothing = true;
        }
    }

    /// Whether its agent has said that it means to say nothing.
    pub(super) fn said_nothing(&self) -> bool {
        self.held().as_ref().is_some_and(|running| running.said_nothing)
    }

    fn held(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says something in turn `number` and returns where to hear what became of it: nothing, if that turn is
/// over.
pub(super) fn ask(
    events: &Sender<Event>,
    number: TurnNumber,
    said: Said,
) -> Receiver<Result<(), String>> {
    let (answer, heard) = mpsc::channel();
    drop(events.send(Event::Asked(Asked { turn: number, said, answer }))); // the process is leaving
    heard
}
