//! What a server says to a request, in one message or in a stream, and what else it says in between.

use std::sync::atomic::Ordering;

use serde_json::Value;
use twobox_shared::content::shorten;
use twobox_shared::visible;

use super::{ASIDE, Miss, PAUSE, PAUSE_MIN, Session, Shared, headers, pause, place};
use crate::mcp::letter::{Letter, Opened};
use crate::mcp::link::{CHANGED, Heard, Trouble, Until, is_answered, outcome, reply};
use crate::sse::Events;

/// How many questions of a server are answered in the course of one answer.
const REPLIES_MAX: u32 = 16;

/// How often a stream that broke off is asked for again without anything new.
const RESUMES_MAX: u32 = 3;

impl Shared {
    /// What `opened` says to the request with `id`.
    pub(super) fn answer(
        &self,
        opened: &mut Opened<'_>,
        id: u64,
        session: &Session,
        until: Until<'_>,
    ) -> Result<Value, Miss> {
        let status = opened.head.status;
        if !(200..300).contains(&status) {
            return Err(refused(opened, session));
        }
        if opened.is_stream() {
            return self.hear_out(opened, id, session, until).map_err(Miss::from);
        }
        if !opened.is_json() {
            let kind = opened.head.kind.clone().unwrap_or_default();
            let kind = shorten(&visible::line(&kind), 60);
            let why = match status {
                200 => format!("it is {kind:?}"),
                _ => format!("it is nothing, with the HTTP status {status}"),
            };
            return Err(Trouble::NoMcp(why).into());
        }
        let mut replies = 0;
        let found = self.take(opened.message()?, Some(id), session, &mut replies, until);
        let none = || Trouble::NoMcp("it is no answer to what was asked".to_owned());
        found.unwrap_or_else(|| Err(none())).map_err(Miss::from)
    }

    /// Reads a stream until the answer to the request with `id` has come. One that ends before goes on where the
    /// server has said that it does. What was asked was taken by then: whatever becomes of the stream, it is not
    /// asked again.
    fn hear_out(
        &self,
        opened: &mut Opened<'_>,
        id: u64,
        session: &Session,
        until: Until<'_>,
    ) -> Heard {
        let (mut replies, mut vain) = (0, 0);
        let mut events = Events::default();
        let mut hear = |data: &str| self.take(parsed(data), Some(id), session, &mut replies, until);
        let mut ended = opened.events(&mut events, &mut hear);
        loop {
            let why = match ended {
                Ok(Some(heard)) => return heard,
                Ok(None) => "it ended without the answer".to_owned(),
                Err(Trouble::Cut(why)) => why,
                Err(trouble) => return Err(trouble),
            };
            let Some(last) = place(&events).filter(|_| vain < RESUMES_MAX) else {
                return Err(Trouble::Cut(why));
            };
            pause(events.retry().unwrap_or(PAUSE).max(PAUSE_MIN), until)?;
            let mut headers = headers(session, None);
            headers.push(("last-event-id".to_owned(), last.clone()));
            let letter = Letter { method: "GET", headers: &headers, body: "" };
            let mut next = match self.door.send(&letter, until) {
                Ok(next) if next.head.status == 200 && next.is_stream() => next,
                Ok(next) if matches!(next.head.status, 400 | 404 | 405) => {
                    return Err(Trouble::Cut(format!("{why}, and it goes on nowhere")));
                }
                Err(Trouble::Forbidden(no)) => return Err(Trouble::Cut(format!("{why}: {no}"))),
                Err(over @ (Trouble::Silent | Trouble::Cancelled)) => return Err(over),
                Ok(_) | Err(_) => {
                    vain += 1;
                    ended = Err(Trouble::Cut(why));
                    continue;
                }
            };
            let mut goes_on = Events::of(&events);
            ended = next.events(&mut goes_on, &mut hear);
            vain = if goes_on.last_id() == Some(&last) { vain + 1 } else { 0 };
            events = goes_on;
        }
    }

    /// Takes in what a server says, one message or several. Returns the answer to the request with `id` if it is
    /// among them.
    pub(super) fn take(
        &self,
        said: Value,
        id: Option<u64>,
        session: &Session,
        replies: &mut u32,
        until: Until<'_>,
    ) -> Option<Heard> {
        let all = match said {
            Value::Array(all) => all,
            one => vec![one],
        };
        let mut found = None;
        for message in all {
            let Value::Object(mut message) = message else { continue };
            let method = message.get("method").and_then(Value::as_str);
            match (method, message.get("id")) {
                (Some(CHANGED), None) => self.changed.store(true, Ordering::Relaxed),
                (Some(method), Some(asks)) if *replies < REPLIES_MAX && is_answered(asks) => {
                    *replies += 1;
                    // In the newer form no server asks anything. Nor is it told anything any more once the answer
                    // is not wanted.
                    if session.version.is_some() && until.over().is_none() {
                        self.tell(&reply(method, asks), until.at_most(ASIDE));
                    }
                }
                (Some(_), _) | (None, None) => {}
                (None, Some(of)) => {
                    let is_answer = message.contains_key("result") || message.contains_key("error");
                    if is_answer && id.is_some() && (of.as_u64() == id || of.is_null()) {
                        found = Some(outcome(&mut message));
                    }
                }
            }
        }
        found
    }
}

/// What an answer means that says no. A session that is not known is answered with 404; older servers of the
/// TypeScript library answer 400, and say in words that it is about the session.
fn refused(opened: &mut Opened<'_>, session: &Session) -> Miss {
    let status = opened.head.status;
    let (mut said, words) = opened.no();
    let about_it = || words.to_ascii_lowercase().contains("session");
    if session.id.is_some() && (status == 404 || (status == 400 && about_it())) {
        return Miss::Forgotten;
    }
    match said.as_object_mut().filter(|it| it.get("error").is_some_and(Value::is_object)) {
        Some(message) => {
            message.remove("result");
            let why = outcome(message).err();
            Miss::Trouble(why.unwrap_or(Trouble::Status(status, words)))
        }
        None => Miss::Trouble(Trouble::Status(status, words)),
    }
}

/// What stands in an event. One without words only says where the stream is.
pub(super) fn parsed(data: &str) -> Value {
    serde_json::from_str(data).unwrap_or_default()
}
