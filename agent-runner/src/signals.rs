//! SIGTERM and SIGINT: both mean "finish or give back what you have, then leave".

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::event::Event;
use crate::exit::Exit;
use crate::say::say;

/// Whether the runner was told to leave. It never becomes untrue.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether a signal has come.
    pub(crate) fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Starts the thread that waits for signals.
pub(crate) fn listen(events: Sender<Event>) -> Result<Stop, Exit> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|error| {
        say!("could not listen for signals: {error}");
        Exit::System
    })?;
    let stop = Stop::default();
    let flag = stop.clone();
    spawn("signals", move || {
        for _ in signals.forever() {
            flag.0.store(true, Ordering::SeqCst);
            if events.send(Event::Terminate).is_err() {
                return; // the main thread is leaving already
            }
        }
    })?;
    Ok(stop)
}

/// Starts a thread that lives as long as the process.
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Exit> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(|error| {
        say!("could not start the thread {name:?}: {error}");
        Exit::System
    })
}
