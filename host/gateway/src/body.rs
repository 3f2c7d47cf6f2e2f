//! The body of a request, read whole: it may have to be sent twice, and what it can cost has to be known
//! first. How much of all bodies is held at once is bounded for each session and for the host.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::refusal::{Refusal, Why};

/// The longest body, in bytes; as much as one session may have under way.
pub(crate) const BODY_MAX: usize = 32 << 20;

/// How much all sessions may have under way, in bytes.
pub(crate) const BODIES_MAX: usize = 512 << 20;

/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A permit of the semaphores stands for that many bytes.
const UNIT: usize = 1024;

/// Semaphores for so many bytes.
pub(crate) fn room(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(bytes / UNIT))
}

/// A body, and the room that it takes until it is dropped.
pub(crate) struct Held {
    /// The bytes.
    pub(crate) bytes: Bytes,
    _room: Vec<OwnedSemaphorePermit>,
}

impl Held {
    /// No body.
    pub(crate) fn nothing() -> Self {
        Self { bytes: Bytes::new(), _room: Vec::new() }
    }
}

/// Reads `body` into the room of the session and of all.
///
/// # Errors
/// If it is too long or too slow, if its client has gone, or there is no room.
pub(crate) async fn read(body: Incoming, rooms: [&Arc<Semaphore>; 2]) -> Result<Held, Refusal> {
    let reading = tokio::time::timeout(PATIENCE, collect(body, rooms));
    reading.await.unwrap_or_else(|_| {
        let detail = format!("the body did not come within {} s", PATIENCE.as_secs());
        Err(Refusal::new(Why::TooSlow, detail))
    })
}

async fn collect(mut body: Incoming, rooms: [&Arc<Semaphore>; 2]) -> Result<Held, Refusal> {
    let too_large = || {
        let detail = format!("the body is longer than {} MiB", BODY_MAX >> 20);
        Refusal::new(Why::TooLarge, detail)
    };
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Err(too_large());
    }
    let mut bytes = BytesMut::new();
    let mut room: Vec<OwnedSemaphorePermit> = Vec::new();
    let mut paid = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Refusal::new(Why::BadRequest, format!("the body broke off: {error}"))
        })?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > BODY_MAX {
            return Err(too_large());
        }
        let needed = (bytes.len() + data.len()).div_ceil(UNIT) - paid;
        paid += needed;
        if !fits(needed, rooms.map(|room| room.available_permits())) {
            return Err(no_room());
        }
        let permits = u32::try_from(needed).expect("a body is smaller");
        for (index, semaphore) in rooms.iter().enumerate() {
            let permit = Arc::clone(semaphore).try_acquire_many_owned(permits);
            let permit = permit.map_err(|_| no_room())?;
            match room.get_mut(index) {
                Some(held) => held.merge(permit),
                None => room.push(permit),
            }
        }
        bytes.extend_from_slice(data);
    }
    Ok(Held { bytes: bytes.freeze(), _room: room })
}

fn no_room() -> Refusal {
    let detail = "more requests are under way than there is room for".to_owned();
    Refusal::new(Why::TooMany, detail)
}

/// Whether a session may take `needed` more, where so much of its own room is free and so much of that of
/// all: it never has more than a quarter of what the others leave, so that a few cannot take it all.
fn fits(needed: usize, [own_free, free]: [usize; 2]) -> bool {
    let held = (BODY_MAX / UNIT).saturating_sub(own_free);
    (held + needed).saturating_mul(4) <= free + held
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_at_most_a_quarter_of_what_others_leave() {
        let (own, all) = (BODY_MAX / UNIT, BODIES_MAX / UNIT);
        assert!(fits(own, [own, all]), "the longest body, where nobody else asks");
        assert!(fits(own, [own, 4 * own]) && !fits(own, [own, 4 * own - 1]));
        assert!(fits(1, [own - 9, 31]) && !fits(1, [own - 9, 30]), "what it has is counted");
        assert!(!fits(1, [own, 3]) && fits(0, [own, 0]));
        let mut free = all;
        for _ in 0..40 {
            let most = (1..=own).rev().find(|needed| fits(*needed, [own, free])).unwrap_or(0);
            free -= most;
        }
        assert!(fits(1, [own, free]), "forty that take what they can leave room: {free}");
    }
}
