//! What the APIs of models are spoken to in: a request written, an answer read event by event. Pure: no
//! sockets, no clock. Each API is a module; what they share is here and in [`turns`].

mod answer;
mod chat;
mod chat_reading;
mod complaint;
mod messages;
mod messages_reading;
mod responses;
mod responses_reading;
mod turns;

#[cfg(test)]
mod chat_tests;
#[cfg(test)]
mod messages_tests;
#[cfg(test)]
mod responses_tests;
#[cfg(test)]
pub(super) mod samples;

use std::fmt;
use std::io::Write;

use serde::Serializer;
use twobox_shared::agent_config::{Api, Route};

use super::conversation::{Answer, Part, Request};
pub(super) use complaint::Complaint;

/// What one upstream wants otherwise than most who speak its API. It is learned from its refusals, for
/// no list of names of models stays true.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Quirks {
    /// Does not give its reasoning away, encrypted or not (Responses).
    pub(super) no_encrypted_reasoning: bool,
    /// Calls the limit of an answer `max_completion_tokens` (Chat). Most compatible servers know
    /// `max_tokens` alone, and newer models of OpenAI refuse just that.
    pub(super) completion_tokens: bool,
    /// Knows no `stream_options` (Chat).
    pub(super) no_stream_options: bool,
    /// Does not take back what it said for itself, such as signed thinking: another stands behind the name
    /// by now. Without this, one such answer would end every later turn of its conversation.
    pub(super) no_opaque: bool,
}

impl Quirks {
    /// What is to be changed after this refusal, if it says something that is not known yet.
    pub(super) fn learn(self, api: Api, complaint: &Complaint) -> Option<Self> {
        if !matches!(complaint.status, Some(400 | 422)) {
            return None;
        }
        let told = complaint.message.to_ascii_lowercase();
        let said = |words: &[&str]| words.iter().any(|words| told.contains(words));
        let mut learned = self;
        match api {
            Api::Messages => {
                learned.no_opaque |= said(&["`signature`", "thinking block", "thinking` block"]);
            }
            Api::Responses => {
                learned.no_encrypted_reasoning |= said(&["encrypted content is not supported"]);
                learned.no_opaque |= complaint.is(&["invalid_encrypted_content"])
                    || said(&["encrypted content could not", "type 'reasoning'"]);
            }
            Api::Chat => {
                learned.completion_tokens |= said(&["max_completion_tokens"]);
                learned.no_stream_options |= said(&["stream_options"]);
                learned.no_opaque |= said(&chat::OPAQUE);
            }
        }
        (learned != self).then_some(learned)
    }
}

/// Writes the body of a request: the same bytes for the same request, and for what was said before in a
/// conversation the same bytes as before, marks of the cache aside.
///
/// # Errors
/// Those of `out`.
pub(super) fn write(
    request: &Request<'_>,
    route: &Route,
    quirks: Quirks,
    out: &mut dyn Write,
) -> serde_json::Result<()> {
    match route.api {
        Api::Messages => serde_json::to_writer(out, &messages::body(request, route, quirks)),
        Api::Responses => serde_json::to_writer(out, &responses::body(request, route, quirks)),
        Api::Chat => serde_json::to_writer(out, &chat::body(request, route, quirks)),
    }
}

/// The headers that an API wants beside the usual ones.
pub(super) fn headers(api: Api) -> &'static [(&'static str, &'static str)] {
    match api {
        Api::Messages => &[("anthropic-version", "2023-06-01")],
        Api::Responses | Api::Chat => &[],
    }
}

/// An answer that is being read.
pub(super) enum Reading {
    Messages(messages_reading::Reading),
    Responses(responses_reading::Reading),
    Chat(chat_reading::Reading),
}

/// How far an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// More is to come.
    More,
    /// Nothing is to come that counts.
    Complete,
}

impl Reading {
    /// An answer of which nothing has come yet.
    pub(super) fn new(route: &Route) -> Self {
        let from = route.name.clone();
        match route.api {
            Api::Messages => Self::Messages(messages_reading::Reading::new(from)),
            Api::Responses => Self::Responses(responses_reading::Reading::new(from)),
            Api::Chat => Self::Chat(chat_reading::Reading::new(from)),
        }
    }

    /// Reads the data of one event. Words are handed to `hear`.
    ///
    /// # Errors
    /// What the upstream, or we about what it said, have to complain of.
    pub(super) fn event(
        &mut self,
        data: &str,
        hear: &mut dyn FnMut(&str),
    ) -> Result<Progress, Complaint> {
        match self {
            Self::Messages(reading) => reading.event(data, hear),
            Self::Responses(reading) => reading.event(data, hear),
            Self::Chat(reading) => reading.event(data, hear),
        }
    }

    /// The answer, once all has come: `None` if it is not whole.
    pub(super) fn finish(self) -> Option<Answer> {
        match self {
            Self::Messages(reading) => reading.finish(),
            Self::Responses(reading) => reading.finish(),
            Self::Chat(reading) => reading.finish(),
        }
    }
}

/// A `data:` URI, written without a copy of the bytes.
struct DataUri<'a> {
    media_type: &'a str,
    data: &'a str,
}

impl serde::Serialize for DataUri<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for DataUri<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "data:{};base64,{}", self.media_type, self.data)
    }
}

/// What a picture or document is to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Image,
    Pdf,
    /// Something that this model is not shown.
    Unseen,
}

impl Kind {
    /// Of a type; `images` as the route says, `pdf` whether the API takes documents.
    fn of(media_type: &str, images: bool, pdf: bool) -> Self {
        match media_type {
            "application/pdf" if images && pdf => Self::Pdf,
            "application/pdf" => Self::Unseen,
            _ if images && Part::MEDIA.contains(&media_type) => Self::Image,
            _ => Self::Unseen,
        }
    }
}

/// What stands where a model cannot be shown something.
fn unseen(name: &str, media_type: &str) -> String {
    format!("[{name} ({media_type}) is not shown: this model is not given files of this type.]")
}

/// FNV-1a, for names that have to be the same in every build. It keeps no secret and guards nothing.
/// Source: <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn fingerprint<'a>(texts: impl IntoIterator<Item = &'a str>) -> u64 {
    let bytes = texts.into_iter().flat_map(|text| text.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
