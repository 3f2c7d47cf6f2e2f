//! What a server says by itself, heard for as long as there is a session, or anybody who would ask it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::answers::parsed;
use super::{PAUSE, PAUSE_MAX, Session, Shared, headers, pause};
use crate::mcp::letter::{Letter, Opened};
use crate::mcp::link::{Asked, Trouble, Until};
use crate::say::say;
use crate::sse::Events;

/// How often in a row a server is listened to in vain.
const VAIN_MAX: u32 = 10;

/// Listens in a thread of its own to what the server says by itself.
pub(super) fn listen(shared: &Arc<Shared>, subscription: Option<Map<String, Value>>) {
    if !shared.may_listen {
        return;
    }
    let (own, session) = (Arc::clone(shared), shared.known());
    let thread = std::thread::Builder::new().name("mcp-listen".to_owned());
    let begun = thread.spawn(move || {
        own.listen(&session, subscription);
        // Whoever listens to a later session says so.
        if own.known().number == session.number {
            own.hears.store(false, Ordering::Relaxed);
        }
    });
    if let Err(error) = begun {
        say!("the MCP server {} is not listened to: {error}", shared.door.server);
    }
}

impl Shared {
    fn listen(&self, session: &Session, subscription: Option<Map<String, Value>>) {
        let (mut vain, mut last, mut first) = (0, None::<String>, true);
        let is_over = || {
            self.over.load(Ordering::Relaxed)
                || self.gone.load(Ordering::Relaxed)
                || self.known().number != session.number
        };
        while vain < VAIN_MAX && !is_over() {
            let forever = Instant::now() + Duration::from_secs(24 * 60 * 60);
            let until = Until { deadline: forever, cancelled: &self.over };
            let mut events = Events::default();
            match self.begin_listening(session, subscription.as_ref(), last.as_deref(), until) {
                Ok(mut opened) if opened.head.status == 200 && opened.is_stream() => {
                    // What was said before it was heard again, nobody knows.
                    self.changed.fetch_or(!first, Ordering::Relaxed);
                    self.hears.store(true, Ordering::Relaxed);
                    (first, vain) = (false, 0);
                    let mut replies = 0;
                    let hear = |data: &str| {
                        drop(self.take(parsed(data), None, session, &mut replies));
                        is_over().then_some(())
                    };
                    drop(opened.events(&mut events, hear)); // it is listened to again
                    last = events.last_id().map(str::to_owned).or(last);
                }
                Ok(opened) if (400..500).contains(&opened.head.status) => return, // it has nothing to tell
                Ok(_) | Err(_) => {}
            }
            self.hears.store(false, Ordering::Relaxed);
            let usual = events.retry().unwrap_or(PAUSE).clamp(PAUSE, PAUSE_MAX);
            let wait = usual.saturating_mul(2_u32.saturating_pow(vain)).min(PAUSE_MAX);
            vain += 1;
            if pause(wait, until).is_err() {
                return;
            }
        }
    }

    fn begin_listening<'a>(
        &self,
        session: &Session,
        subscription: Option<&Map<String, Value>>,
        last: Option<&str>,
        until: Until<'a>,
    ) -> Result<Opened<'a>, Trouble> {
        let Some(params) = subscription else {
            let mut headers = headers(session, None);
            headers.extend(last.map(|id| ("last-event-id".to_owned(), id.to_owned())));
            return self.door.send(&Letter { method: "GET", headers: &headers, body: "" }, until);
        };
        let method = "subscriptions/listen";
        let asked = Asked { method, params: params.clone(), beside: Vec::new() };
        let (headers, (_, body)) = (headers(session, Some(&asked)), self.message(&asked));
        self.door.send(&Letter { method: "POST", headers: &headers, body: &body }, until)
    }
}
