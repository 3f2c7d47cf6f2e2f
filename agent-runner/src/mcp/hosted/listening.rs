//! What a server says by itself, heard for as long as there is a session, or anybody who would ask it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::answers::parsed;
use super::leave::Reads;
use super::{Ear, PAUSE, PAUSE_MAX, Session, Shared, headers, place};
use crate::mcp::letter::{Letter, Opened};
use crate::mcp::link::{Asked, Trouble, Until};
use crate::say::say;
use crate::sse::Events;

/// How often in a row a server is listened to in vain,
const VAIN_MAX: u32 = 10;

/// and how long one is listened to that has told nothing until that was not in vain.
const SETTLED: Duration = Duration::from_secs(60);

/// How long it is waited for what is said, at most.
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Listens in a thread of its own to what the server says by itself.
pub(super) fn listen(shared: &Arc<Shared>, subscription: Option<Map<String, Value>>) {
    let (own, session) = (Arc::clone(shared), shared.known());
    if !shared.may_listen || session.ear.listens.swap(true, Ordering::Relaxed) {
        return;
    }
    let thread = std::thread::Builder::new().name("mcp-listen".to_owned());
    let begun = thread.spawn(move || {
        own.listen(&session, subscription);
        session.ear.hears.store(false, Ordering::Relaxed);
    });
    if let Err(error) = begun {
        say!("the MCP server {} is not listened to: {error}", shared.door.server);
    }
}

/// How often it was in vain.
#[derive(Default)]
struct Vain(u32);

impl Vain {
    /// How long to wait after one more time, of which something was `heard` or not, and which lasted so long.
    /// `None` if it is of no use to listen again.
    fn pause(
        &mut self,
        heard: bool,
        lasted: Duration,
        retry: Option<Duration>,
    ) -> Option<Duration> {
        if heard || lasted >= SETTLED {
            self.0 = 0;
        }
        let usual = retry.unwrap_or(PAUSE).clamp(PAUSE, PAUSE_MAX);
        let wait = usual.saturating_mul(2_u32.saturating_pow(self.0)).min(PAUSE_MAX);
        self.0 += 1;
        (self.0 < VAIN_MAX).then_some(wait)
    }
}

impl Shared {
    fn listen(&self, session: &Session, subscription: Option<Map<String, Value>>) {
        let (mut vain, mut last, mut first) = (Vain::default(), None::<String>, true);
        let ear = &session.ear;
        let is_over = || ear.leave.is_said() || self.gone.load(Ordering::Relaxed);
        while !is_over() {
            let until = ear.leave.or(Instant::now() + FOREVER);
            let (mut events, mut heard, mut lasted) = (Events::default(), false, Duration::ZERO);
            match self.begin_listening(session, subscription.as_ref(), last.as_deref(), until) {
                Ok((mut opened, _reads)) if opened.head.status == 200 && opened.is_stream() => {
                    // What was said in between is said again only by one that knows where it was.
                    ear.missed.fetch_or(!first && last.is_none(), Ordering::Relaxed);
                    ear.hears.store(true, Ordering::Relaxed);
                    first = false;
                    let (mut replies, begun) = (0, Instant::now());
                    let hear = |data: &str| {
                        let said = parsed(data);
                        heard |= !said.is_null();
                        drop(self.take(said, None, session, &mut replies, until));
                        is_over().then_some(())
                    };
                    drop(opened.events(&mut events, hear)); // it is listened to again
                    lasted = begun.elapsed();
                    if events.last_id().is_some() {
                        last = place(&events);
                    }
                }
                Ok((opened, _)) if (400..500).contains(&opened.head.status) => return, // it has nothing to tell
                Err(Trouble::Forbidden(_)) => return,
                Ok(_) | Err(_) => {}
            }
            ear.hears.store(false, Ordering::Relaxed);
            let Some(wait) = vain.pause(heard, lasted, events.retry()) else { return };
            if ear.leave.pause(wait) {
                return;
            }
        }
    }

    fn begin_listening<'a>(
        &self,
        session: &'a Session,
        subscription: Option<&Map<String, Value>>,
        last: Option<&str>,
        until: Until<'a>,
    ) -> Result<(Opened<'a>, Reads<'a>), Trouble> {
        let Some(params) = subscription else {
            let mut headers = headers(session, None);
            headers.extend(last.map(|id| ("last-event-id".to_owned(), id.to_owned())));
            let letter = Letter { method: "GET", headers: &headers, body: "" };
            return self.listen_to(&letter, &session.ear, until);
        };
        let method = "subscriptions/listen";
        let asked = Asked { method, params: params.clone(), beside: Vec::new() };
        let (headers, (_, body)) = (headers(session, Some(&asked)), self.message(&asked));
        let letter = Letter { method: "POST", headers: &headers, body: &body };
        self.listen_to(&letter, &session.ear, until)
    }

    /// Sends `letter`, to which the answer may be silent for as long as anybody listens.
    fn listen_to<'a>(
        &self,
        letter: &Letter<'_>,
        ear: &'a Ear,
        until: Until<'a>,
    ) -> Result<(Opened<'a>, Reads<'a>), Trouble> {
        let stream = self.door.open(until)?;
        let reads = ear.leave.ends(&stream, until.deadline)?;
        Ok((self.door.send_on(stream, letter, until)?, reads))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_ends_at_once_is_listened_to_ever_more_seldom_and_no_more_in_the_end() {
        let mut vain = Vain::default();
        let waits: Vec<_> =
            std::iter::from_fn(|| vain.pause(false, Duration::ZERO, None)).collect();
        let seconds: Vec<_> = waits.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn one_that_tells_something_or_stays_is_listened_to_again_and_again() {
        for (heard, lasted) in [(true, Duration::ZERO), (false, SETTLED)] {
            let mut vain = Vain::default();
            for _ in 0..2 * VAIN_MAX {
                assert_eq!(vain.pause(heard, lasted, None), Some(PAUSE));
            }
            assert_eq!(vain.pause(false, Duration::ZERO, None), Some(2 * PAUSE));
        }
    }

    #[test]
    fn a_server_says_how_long_to_wait_within_bounds() {
        for (retry, expected) in [(0, PAUSE), (5_000, 5 * PAUSE), (u64::MAX, PAUSE_MAX)] {
            let retry = Some(Duration::from_millis(retry));
            assert_eq!(Vain::default().pause(false, Duration::ZERO, retry), Some(expected));
        }
    }
}
