//! Who is connected: strangers at the port, who give way to those that come after them, and those
//! that are known, who keep their places.
//!
//! Anybody on this machine can connect to the port. If idle connections could fill all places, one
//! user of the machine would shut out everybody. So a stranger has a place only until others need
//! it, and gets another one by showing the token. The socket has places of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use twobox_system::lock::lock;

/// How many strangers may be connected at once. The oldest gives way to the next.
pub(super) const STRANGERS_MAX: usize = 64;

/// How many that have shown the token may be connected at once, and as many on the socket. Others
/// wait.
pub(super) const KNOWN_MAX: usize = 64;

/// How many may be connected to the port at once, those that wait to be known and those that are on
/// their way out among them.
pub(super) const CONNECTIONS_MAX: usize = STRANGERS_MAX + 2 * KNOWN_MAX;

/// The places at the port.
#[derive(Debug)]
pub(super) struct Places {
    strangers: Mutex<Strangers>,
    known: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Strangers {
    last: u64,
    /// By the order in which they came.
    here: BTreeMap<u64, Arc<Notify>>,
}

impl Places {
    pub(super) fn new() -> Arc<Self> {
        let known = Arc::new(Semaphore::new(KNOWN_MAX));
        Arc::new(Self { strangers: Mutex::default(), known })
    }

    /// Somebody has connected to the port. If there is no room for one more stranger, the one that is
    /// here for the longest time is asked to leave.
    pub(super) fn arrive(self: &Arc<Self>) -> Arc<Visitor> {
        let mut strangers = lock(&self.strangers);
        if strangers.here.len() >= STRANGERS_MAX
            && let Some((_, oldest)) = strangers.here.pop_first()
        {
            oldest.notify_one();
        }
        strangers.last += 1;
        let (number, leave) = (strangers.last, Arc::new(Notify::new()));
        strangers.here.insert(number, Arc::clone(&leave));
        let port = Some(Port { places: Arc::clone(self), number });
        Arc::new(Visitor { port, leave, place: OnceLock::new() })
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Visitor {
    port: Option<Port>,
    leave: Arc<Notify>,
    /// Of one that is known.
    place: OnceLock<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Port {
    places: Arc<Places>,
    number: u64,
}

impl Visitor {
    /// Somebody on the socket, where only this user gets in, with a place there.
    pub(super) fn trusted(place: OwnedSemaphorePermit) -> Arc<Self> {
        Arc::new(Self { port: None, leave: Arc::default(), place: OnceLock::from(place) })
    }

    /// Whether it came by the socket.
    pub(super) fn is_trusted(&self) -> bool {
        self.port.is_none()
    }

    /// It has shown the token: from now on it gives way to nobody. Waits for a place among those that
    /// are known. Returns whether it may go on; not if it was asked to leave before.
    pub(super) async fn recognise(&self) -> bool {
        let Some(Port { places, number }) = &self.port else { return true };
        if self.place.get().is_some() {
            return true;
        }
        if lock(&places.strangers).here.remove(number).is_none() {
            return false;
        }
        let place = Arc::clone(&places.known).acquire_owned().await;
        // A connection has one request at a time, so nobody else has put one there.
        drop(self.place.set(place.expect("the semaphore is never closed")));
        true
    }

    /// Waits until it has to leave. One that is known never has to.
    pub(super) async fn has_to_leave(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        if let Some(Port { places, number }) = &self.port {
            lock(&places.strangers).here.remove(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::FutureExt;

    fn leaves(visitor: &Visitor) -> bool {
        visitor.has_to_leave().now_or_never().is_some()
    }

    #[tokio::test]
    async fn the_oldest_stranger_gives_way_and_the_known_never_do() {
        let places = Places::new();
        let all: Vec<_> = (0..STRANGERS_MAX).map(|_| places.arrive()).collect();
        assert!(all[0].recognise().await, "the oldest shows the token in time");
        let next = places.arrive();
        assert!(!all.iter().any(|visitor| leaves(visitor)), "there was room again");
        let _one_more = places.arrive();
        assert!(leaves(&all[1]) && !leaves(&all[0]) && !leaves(&all[2]) && !leaves(&next));
        assert!(!all[1].recognise().await, "too late");
        assert!(all[0].recognise().await, "it is known");
        let flood: Vec<_> = (0..3 * STRANGERS_MAX).map(|_| places.arrive()).collect();
        assert!(!leaves(&all[0]));
        assert_eq!(lock(&places.strangers).here.len(), STRANGERS_MAX);
        drop((flood, all, next, _one_more));
        assert_eq!(lock(&places.strangers).here.len(), 0, "whoever has left takes no place");
        assert_eq!(places.known.available_permits(), KNOWN_MAX);
    }

    #[tokio::test]
    async fn whoever_is_known_beyond_the_limit_waits_without_giving_way() {
        let places = Places::new();
        let mut known = Vec::new();
        for _ in 0..KNOWN_MAX {
            let visitor = places.arrive();
            assert!(visitor.recognise().await);
            known.push(visitor);
        }
        let late = places.arrive();
        let mut waits = Box::pin(late.recognise());
        assert!((&mut waits).now_or_never().is_none());
        let _flood: Vec<_> = (0..2 * STRANGERS_MAX).map(|_| places.arrive()).collect();
        drop(known.pop());
        assert!(waits.await);
        assert!(!leaves(&late));
    }
}
