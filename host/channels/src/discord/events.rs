//! What of a message is handed to the host. Pure.

use std::collections::BTreeSet;

use twobox_shared::content::{About, Chat, shorten};
use twobox_shared::visible;

use super::snowflake::Snowflake;
use super::wire::{Attachment, Interaction, Member, Message, User};

/// The longest name that is passed on, in characters.
const NAME_MAX: usize = 100;

/// How many files are named.
const FILES_MAX: usize = 20;

/// Types of messages that people write: plain ones, and replies.
const WRITTEN: [u64; 2] = [0, 19];

/// The type of a reference that is a message handed on.
const FORWARD: u64 = 1;

/// Who the bot is: its id, and the roles that are its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Us {
    pub(super) id: Snowflake,
    pub(super) roles: BTreeSet<Snowflake>,
}

/// Whether a person wrote this message.
pub(super) fn is_said(message: &Message) -> bool {
    WRITTEN.contains(&message.kind) && !message.author.bot && message.webhook_id.is_none()
}

/// What a person said with a message; `None` if it is no message of a person's.
pub(super) fn chat(message: &Message, us: &Us, is_group: bool) -> Option<Chat> {
    if !is_said(message) {
        return None;
    }
    let names_us = message.mentions.iter().any(|user| user.id == us.id);
    let mentioned = names_us || message.mention_roles.iter().any(|role| us.roles.contains(role));
    let mut text = unwritten(&without_name(&message.content, us), &message.mentions);
    for snapshot in &message.message_snapshots {
        let forwarded = &snapshot.message;
        add(&mut text, &format!("[forwarded] {}", forwarded.content));
        name_files(&mut text, &forwarded.attachments);
    }
    name_files(&mut text, &message.attachments);
    for sticker in message.sticker_items.iter().take(FILES_MAX) {
        add(&mut text, &format!("[sticker: {}]", name(&sticker.name)));
    }
    if let Some(poll) = &message.poll {
        add(&mut text, &format!("[poll: {}]", visible::line(&poll.question.text)));
    }
    let reply = message.message_reference.as_ref().filter(|it| it.kind != FORWARD);
    Some(Chat {
        text,
        sender: Some(called(&message.author, message.member.as_ref())),
        about: Some(About {
            sender_id: Some(message.author.id.to_string()),
            group: Some(is_group),
            mentioned,
            reply_to: reply.and_then(|it| it.message_id).map(|id| id.to_string()),
            sent_at: Some(message.id.made_at()),
        }),
        ..Chat::default()
    })
}

/// What a person said by pressing a button; `None` if nobody did.
pub(super) fn pressed(interaction: &Interaction) -> Option<Chat> {
    let text = interaction.data.as_ref().map(|data| data.custom_id.clone())?;
    let member = interaction.member.as_ref();
    let user = member.and_then(|member| member.user.as_ref()).or(interaction.user.as_ref())?;
    Some(Chat {
        text,
        sender: Some(called(user, member)),
        about: Some(About {
            sender_id: Some(user.id.to_string()),
            group: Some(interaction.guild_id.is_some()),
            mentioned: true,
            reply_to: interaction.message.as_ref().map(|message| message.id.to_string()),
            sent_at: Some(interaction.id.made_at()),
        }),
        ..Chat::default()
    })
}

fn called(user: &User, member: Option<&Member>) -> String {
    let nick = member.and_then(|member| member.nick.as_deref());
    let all = [nick, user.global_name.as_deref(), Some(user.username.as_str())];
    let first = all.into_iter().flatten().find(|it| !it.trim().is_empty());
    first.map_or_else(|| user.id.to_string(), name)
}

fn name(text: &str) -> String {
    shorten(&visible::line(text), NAME_MAX)
}

fn add(text: &mut String, line: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(line);
}

fn name_files(text: &mut String, files: &[Attachment]) {
    for file in files.iter().take(FILES_MAX) {
        let kind = file.content_type.as_deref().and_then(|it| it.split('/').next());
        let kind = kind.filter(|it| ["image", "audio", "video"].contains(it)).unwrap_or("file");
        add(text, &format!("[{kind}: {}]", name(&file.filename)));
    }
    if let Some(more) = files.len().checked_sub(FILES_MAX).filter(|more| *more > 0) {
        add(text, &format!("[{more} more files]"));
    }
}

/// The text without the name of the bot before it: `<@ID>`, or its role's.
fn without_name(content: &str, us: &Us) -> String {
    let text = content.trim();
    let named = |text: &str| -> Option<usize> {
        let end = text.find('>')?;
        let inner = text[..end].strip_prefix("<@")?;
        let is_us = match inner.strip_prefix('&') {
            Some(role) => Snowflake::parse(role).is_some_and(|role| us.roles.contains(&role)),
            None => Snowflake::parse(inner.trim_start_matches('!')) == Some(us.id),
        };
        is_us.then_some(end + 1)
    };
    match named(text) {
        Some(end) => text[end..].trim_start_matches([',', ':']).trim_start().to_owned(),
        None => text.to_owned(),
    }
}

/// The text as people see it: names in the place of ids, and emoji by theirs.
fn unwritten(text: &str, named: &[User]) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        shown.push_str(&rest[..at]);
        rest = &rest[at..];
        let token = rest.find('>').map(|end| &rest[1..end]);
        match token.and_then(|token| Some((token, seen(token, named)?))) {
            Some((token, name)) => {
                shown.push_str(&name);
                rest = &rest[token.len() + 2..];
            }
            None => {
                shown.push('<');
                rest = &rest[1..];
            }
        }
    }
    shown + rest
}

/// What is seen of `<token>`.
fn seen(token: &str, named: &[User]) -> Option<String> {
    if let Some(id) = token.strip_prefix('@') {
        let id = Snowflake::parse(id.trim_start_matches('!'))?;
        let user = named.iter().find(|user| user.id == id)?;
        return Some(format!("@{}", called(user, user.member.as_deref())));
    }
    let emoji = token.strip_prefix("a:").or(token.strip_prefix(':'))?;
    let (name, id) = emoji.split_once(':')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (Snowflake::parse(id).is_some() && name.chars().all(plain)).then(|| format!(":{name}:"))
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
