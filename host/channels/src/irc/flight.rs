//! One line of a message on its way: what is said of it, what a server answers, and what that means. A server that puts
//! labels on its answers and sends back what it took is known to have taken just that; of another it is known by the
//! answer to a PING that is said behind the line. What a server has cut off is said once more. Pure.
//!
//! Source: <https://ircv3.net/specs/extensions/labeled-response>, <https://ircv3.net/specs/extensions/echo-message>.

use std::time::Duration;

use super::server::Server;
use super::trouble::Refusal;
use super::wire::{self, Message};
use crate::format::irc::plain;
use crate::parts::Sent;

/// What of a line a server may have to itself before and behind it.
const REPLACED: char = char::REPLACEMENT_CHARACTER;

/// A line on its way.
#[derive(Debug)]
pub(super) struct Flight {
    /// Where it is said.
    pub(super) target: String,
    /// By which command.
    command: &'static str,
    /// What of it was not said yet.
    rest: String,
    /// What of it the server has said that it took.
    taken: usize,
    /// The id of the first piece of it that was taken.
    id: Option<String>,
    /// What is known of the piece that was said and not answered.
    piece: Option<Piece>,
}

/// A piece of a line that was said.
#[derive(Debug, Default)]
struct Piece {
    text: String,
    /// What its answer is known by.
    token: String,
    /// Whether that is a label.
    labelled: bool,
    /// The batch that the answer is in.
    batch: Option<String>,
    refusal: Option<Refusal>,
    /// What everybody was shown, and its id.
    shown: Option<(String, Option<String>)>,
}

/// How it goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is not answered yet.
    Waits,
    /// There is more of it to be said.
    Says,
    /// It is over.
    Over(Sent),
}

impl Flight {
    /// `text`, to be said to `target` by `command`. There is something in it, and no break.
    pub(super) fn new(target: String, command: &'static str, text: String) -> Self {
        Self { target, command, rest: text, taken: 0, id: None, piece: None }
    }

    /// Whether a piece was said and not answered.
    pub(super) fn is_flying(&self) -> bool {
        self.piece.is_some()
    }

    /// Says the next piece. Returns the lines for it, with `token` as what the answer is known by; or what became of it,
    /// where none can be said.
    pub(super) fn say(
        &mut self,
        server: &Server,
        nick: &str,
        token: String,
    ) -> Result<Vec<String>, Sent> {
        let room = server.room(nick, self.command, &self.target);
        let end = self
            .rest
            .char_indices()
            .map(|(at, c)| at + c.len_utf8())
            .take_while(|end| *end <= room)
            .last();
        let rest = self.rest.split_off(end.unwrap_or(self.rest.len()));
        let text = std::mem::replace(&mut self.rest, rest);
        let Some(line) = wire::line(&[self.command, &self.target, &text]) else {
            return Err(Sent::Refused("nothing can be said there: its name is none".to_owned()));
        };
        let labelled =
            server.has("labeled-response") && server.has("echo-message") && server.has("batch");
        let lines = match labelled {
            true => vec![format!("@label={token} {line}")],
            false => vec![line, ping(&token)],
        };
        self.piece = Some(Piece { text, token, labelled, ..Piece::default() });
        Ok(lines)
    }

    /// What asks whether a piece was taken of which nothing is heard.
    pub(super) fn ask(&self) -> Option<String> {
        self.piece.as_ref().filter(|piece| piece.labelled).map(|piece| ping(&piece.token))
    }

    /// Takes in a line of the server.
    pub(super) fn take(&mut self, message: &Message, server: &Server, nick: &str) -> Next {
        let Some(piece) = &mut self.piece else { return Next::Waits };
        let is_ours = piece.labelled && piece.is_answered_by(message);
        let is_target = |name: &str| server.alike(name, &self.target);
        let is_echo = ["PRIVMSG", "NOTICE"].contains(&message.command.as_str())
            && server.alike(message.nick(), nick)
            && is_target(message.param(0));
        if is_echo && (is_ours || (!piece.labelled && piece.shows(message.last()))) {
            piece.shown =
                Some((message.last().to_owned(), message.tag("msgid").map(str::to_owned)));
        } else if let Some(refusal) = Refusal::of(message, is_ours, &is_target) {
            piece.refusal.get_or_insert(refusal);
        }
        match piece.is_over(message, is_ours) {
            true => self.settle(),
            false => Next::Waits,
        }
    }

    /// A piece was answered.
    fn settle(&mut self) -> Next {
        let Some(piece) = self.piece.take() else { return Next::Waits };
        match piece.refusal {
            None => {}
            Some(Refusal::Marks { error }) => {
                let text = plain(&piece.text);
                if text == piece.text {
                    return self.over(Sent::Refused(error));
                }
                // Nobody was shown it: it may be said without them.
                self.rest = text + &plain(&self.rest);
                return Next::Says;
            }
            Some(Refusal::Busy { error, retry_after }) => {
                return self.over(Sent::NotSent { error, retry_after: Some(retry_after) });
            }
            Some(Refusal::Final { error }) => return self.over(Sent::Refused(error)),
        }
        let (shown, id) = piece.shown.map_or((None, None), |(text, id)| (Some(text), id));
        self.id = self.id.take().or(id);
        let missing = shown.as_deref().map_or("", |shown| cut_off(&piece.text, shown));
        self.taken += piece.text.len() - missing.len();
        self.rest.insert_str(0, missing);
        match self.rest.trim().is_empty() {
            true => Next::Over(Sent::Taken(self.id.take())),
            false => Next::Says,
        }
    }

    fn over(&self, sent: Sent) -> Next {
        Next::Over(match (self.taken, sent) {
            (0, sent) => sent,
            (_, Sent::Refused(error) | Sent::NotSent { error, .. } | Sent::Unknown(error)) => {
                Sent::Unknown(format!("only the beginning of a line was shown: {error}"))
            }
            (_, sent @ Sent::Taken(_)) => sent,
        })
    }

    /// What became of it, where the connection has ended.
    pub(super) fn cut(self, why: &str) -> Sent {
        let error = why.to_owned();
        match (self.taken, &self.piece) {
            (0, None) => Sent::NotSent { error, retry_after: Some(Duration::ZERO) },
            (_, None) => Sent::Unknown(format!("only the beginning of a line was shown: {error}")),
            (_, Some(_)) => Sent::Unknown(format!("it was said, and not answered for: {error}")),
        }
    }
}

impl Piece {
    /// Whether `message` is an answer to it, or belongs to one.
    fn is_answered_by(&self, message: &Message) -> bool {
        let is_in = self.batch.is_some() && message.tag("batch") == self.batch.as_deref();
        is_in || message.tag("label") == Some(&self.token)
    }

    /// Whether everybody was shown this of it.
    fn shows(&self, shown: &str) -> bool {
        let shown = shown.trim_end_matches(REPLACED);
        !shown.is_empty() && self.text.starts_with(shown)
    }

    /// Whether `message` ends its answer.
    fn is_over(&mut self, message: &Message, is_ours: bool) -> bool {
        if message.command == "PONG" {
            return message.last() == self.token;
        }
        if message.command == "BATCH" {
            let (mark, batch) = message.param(0).split_at_checked(1).unwrap_or_default();
            if is_ours && mark == "+" && self.batch.is_none() {
                self.batch = Some(batch.to_owned());
                return false;
            }
            return mark == "-" && self.batch.as_deref() == Some(batch);
        }
        is_ours && self.batch.is_none()
    }
}

/// What of `text` is missing in `shown`, if that is its beginning.
fn cut_off<'a>(text: &'a str, shown: &str) -> &'a str {
    let shown = shown.trim_end_matches(REPLACED);
    match text.strip_prefix(shown) {
        Some(missing) if !shown.is_empty() => missing,
        // A server may change what is said, as one that takes out colours does.
        Some(_) | None => "",
    }
}

fn ping(token: &str) -> String {
    format!("PING {token}")
}

#[cfg(test)]
#[path = "flight_tests.rs"]
mod tests;
