//! What was said, as a message for the host. Pure.

use std::collections::HashMap;

use twobox_model::people::{self, Form};
use twobox_shared::bounds;
use twobox_shared::content::{About, Chat, digest16};
use twobox_shared::ids::MessageId;
use twobox_shared::time::UnixMillis;

use super::server::Server;
use super::wire::Message;
use crate::format::irc::plain;

/// Tags of those who say of themselves that they are programs.
const BOT: [&str; 4] = ["bot", "draft/bot", "inspircd.org/bot", "inspircd.org/service"];

/// How many different messages with one time are told apart.
const SAME_TIME_MAX: usize = 1_000;

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// The channel, or who has said it to nobody else.
    pub(super) platform_id: String,
    /// The server's id for it, or one that is made of what is always the same of it.
    pub(super) id: Option<MessageId>,
    pub(super) chat: Chat,
}

/// Who listens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ears<'a> {
    pub(super) server: &'a Server,
    /// What it is called there.
    pub(super) nick: &'a str,
    /// What it would be called, could that be had.
    pub(super) wanted: &'a str,
}

impl Ears<'_> {
    /// What `message` says, if a person says something to somebody.
    pub(super) fn hear(self, message: &Message, times: &mut Times) -> Option<Said> {
        // To a NOTICE nothing may be answered, whoever says it.
        if message.command != "PRIVMSG" || BOT.iter().any(|tag| message.has_tag(tag)) {
            return None;
        }
        let (nick, target) = (message.nick(), message.param(0));
        // A server itself, and its own word.
        if nick.is_empty() || !message.source.contains('!') || self.server.alike(nick, self.nick) {
            return None;
        }
        let (text, acts) = match message.last().strip_prefix('\u{1}') {
            Some(asked) => {
                let asked = asked.strip_suffix('\u{1}').unwrap_or(asked);
                (asked.strip_prefix("ACTION ")?, true) // whatever else: no person says it
            }
            None => (message.last(), false),
        };
        let text = plain(text);
        let text = text.trim();
        let group = self.server.channel(target).is_some();
        if text.is_empty() || (!group && !self.server.alike(target, self.nick)) {
            return None;
        }
        let addressed = self.addressed(text);
        let text = match acts {
            true => format!("* {nick} {text}"),
            false => addressed.text.to_owned(),
        };
        let platform_id = self.server.folded(if group { target } else { nick });
        let sender_id = match message.tag("account") {
            Some(account) => format!("account:{account}"),
            None => format!("nick:{}", message.source),
        };
        let fits = |text: &str| text.len() <= bounds::NAME.most;
        if !fits(&platform_id) || !fits(&sender_id) {
            return None;
        }
        Some(Said {
            id: times.id_of(message),
            platform_id,
            chat: Chat {
                text,
                sender: Some(nick.to_owned()),
                about: Some(About {
                    sender_id: Some(sender_id),
                    group: Some(group),
                    mentioned: addressed.mentioned,
                    reply_to: None,
                    sent_at: message.tag("time").and_then(UnixMillis::parse),
                }),
                ..Chat::default()
            },
        })
    }

    fn addressed(self, text: &str) -> Addressed<'_> {
        let names = [self.nick, self.wanted];
        let rest = names.iter().find_map(|name| self.after_name(text, name));
        let at = |word: &str| {
            let name =
                word.strip_prefix('@').map(|it| it.trim_end_matches([':', ',', '.', '!', '?']));
            name.is_some_and(|name| names.iter().any(|it| self.server.alike(name, it)))
        };
        let mentioned = rest.is_some() || text.split_whitespace().any(at);
        let rest = rest.unwrap_or(text);
        // What is for the host is judged by its words alone.
        let to_host = people::form(rest) != Form::Text;
        Addressed { mentioned, text: if to_host { rest } else { text } }
    }

    /// What follows `name` at the beginning of `text`, where that is how somebody is spoken to: `name: …`, `name, …`.
    fn after_name<'a>(self, text: &'a str, name: &str) -> Option<&'a str> {
        let text = text.strip_prefix('@').unwrap_or(text);
        let (begin, rest) = text.split_at_checked(name.len())?;
        let is_spoken_to = self.server.alike(begin, name) && rest.starts_with([':', ',']);
        is_spoken_to.then(|| rest.trim_start_matches([':', ',']).trim_start())
    }
}

struct Addressed<'a> {
    mentioned: bool,
    /// Without the name before it, where what is left is for the host.
    text: &'a str,
}

/// Tells messages apart that were said at the same time and have no id: what is told twice, by something that repeats
/// what was said, is the same then.
#[derive(Debug, Default)]
pub(super) struct Times {
    at: String,
    seen: HashMap<String, u32>,
}

impl Times {
    /// The id of a message, if it has one or can be known by what is always the same of it.
    fn id_of(&mut self, message: &Message) -> Option<MessageId> {
        if let Some(id) = message.tag("msgid") {
            let named = MessageId::parse(id).ok();
            return named.or_else(|| MessageId::parse(&digest16(id)).ok());
        }
        let time = message.tag("time")?;
        if self.at != time || self.seen.len() >= SAME_TIME_MAX {
            time.clone_into(&mut self.at);
            self.seen.clear();
        }
        let (source, target, text) = (&message.source, message.param(0), message.last());
        let digest = digest16(&format!("{time:?} {source:?} {target:?} {text:?}"));
        let times = self.seen.entry(digest.clone()).or_default();
        *times += 1;
        MessageId::parse(&format!("{digest}-{times}")).ok()
    }
}

#[cfg(test)]
#[path = "hear_tests.rs"]
mod tests;
