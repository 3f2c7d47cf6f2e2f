//! What Discord says, as far as it is understood here. Pure; whatever else stands in it is passed over.

use serde::Deserialize;

use super::snowflake::Snowflake;

/// Types of channels that are threads.
const THREADS: std::ops::RangeInclusive<u64> = 10..=12;

/// Somebody.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct User {
    pub(super) id: Snowflake,
    #[serde(default)]
    pub(super) username: String,
    #[serde(default)]
    pub(super) global_name: Option<String>,
    #[serde(default)]
    pub(super) bot: bool,
    /// What they are called where they were named, if it is said there.
    #[serde(default)]
    pub(super) member: Option<Box<Member>>,
}

/// Somebody in a guild.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Member {
    #[serde(default)]
    pub(super) nick: Option<String>,
    #[serde(default)]
    pub(super) user: Option<User>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Message {
    pub(super) id: Snowflake,
    pub(super) channel_id: Snowflake,
    #[serde(default)]
    pub(super) guild_id: Option<Snowflake>,
    #[serde(default)]
    pub(super) channel_type: Option<u64>,
    #[serde(rename = "type", default)]
    pub(super) kind: u64,
    pub(super) author: User,
    #[serde(default)]
    pub(super) member: Option<Member>,
    #[serde(default)]
    pub(super) content: String,
    #[serde(default)]
    pub(super) mentions: Vec<User>,
    #[serde(default)]
    pub(super) mention_roles: Vec<Snowflake>,
    #[serde(default)]
    pub(super) attachments: Vec<Attachment>,
    #[serde(default)]
    pub(super) sticker_items: Vec<Sticker>,
    #[serde(default)]
    pub(super) webhook_id: Option<Snowflake>,
    #[serde(default)]
    pub(super) message_reference: Option<Reference>,
    #[serde(default)]
    pub(super) message_snapshots: Vec<Snapshot>,
    #[serde(default)]
    pub(super) poll: Option<Poll>,
    /// A text, or a number of somebody else's.
    #[serde(default)]
    pub(super) nonce: Option<serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Attachment {
    #[serde(default)]
    pub(super) filename: String,
    #[serde(default)]
    pub(super) content_type: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Sticker {
    #[serde(default)]
    pub(super) name: String,
}

/// What a message is said about; a message that is handed on is of type 1.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Reference {
    #[serde(rename = "type", default)]
    pub(super) kind: u64,
    #[serde(default)]
    pub(super) message_id: Option<Snowflake>,
}

/// A message that was handed on, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Snapshot {
    pub(super) message: Forwarded,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Forwarded {
    #[serde(default)]
    pub(super) content: String,
    #[serde(default)]
    pub(super) attachments: Vec<Attachment>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Poll {
    #[serde(default)]
    pub(super) question: Question,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Question {
    #[serde(default)]
    pub(super) text: String,
}

/// A channel, or a thread.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Channel {
    pub(super) id: Snowflake,
    #[serde(rename = "type", default)]
    pub(super) kind: u64,
    #[serde(default)]
    pub(super) guild_id: Option<Snowflake>,
    #[serde(default)]
    pub(super) parent_id: Option<Snowflake>,
    #[serde(default)]
    pub(super) last_message_id: Option<Snowflake>,
}

impl Channel {
    /// The channel in which it is a thread.
    pub(super) fn thread_of(&self) -> Option<Snowflake> {
        self.parent_id.filter(|_| is_thread(self.kind))
    }
}

/// Whether a channel of this type is a thread.
pub(super) fn is_thread(kind: u64) -> bool {
    THREADS.contains(&kind)
}

/// A guild with what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Guild {
    pub(super) id: Snowflake,
    #[serde(default)]
    pub(super) unavailable: bool,
    #[serde(default)]
    pub(super) channels: Vec<Channel>,
    #[serde(default)]
    pub(super) threads: Vec<Channel>,
    #[serde(default)]
    pub(super) roles: Vec<Role>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Role {
    pub(super) id: Snowflake,
    #[serde(default)]
    pub(super) tags: Tags,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Tags {
    /// The bot whose own role it is.
    #[serde(default)]
    pub(super) bot_id: Option<Snowflake>,
}

/// The answer to an introduction.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Ready {
    pub(super) user: User,
    #[serde(default)]
    pub(super) guilds: Vec<Guild>,
    pub(super) session_id: String,
    pub(super) resume_gateway_url: String,
}

/// Somebody used something in a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Interaction {
    pub(super) id: Snowflake,
    #[serde(rename = "type")]
    pub(super) kind: u64,
    #[serde(default)]
    pub(super) data: Option<Used>,
    #[serde(default)]
    pub(super) guild_id: Option<Snowflake>,
    #[serde(default)]
    pub(super) channel: Option<Channel>,
    #[serde(default)]
    pub(super) channel_id: Option<Snowflake>,
    #[serde(default)]
    pub(super) member: Option<Member>,
    #[serde(default)]
    pub(super) user: Option<User>,
    pub(super) token: String,
    #[serde(default)]
    pub(super) message: Option<Shown>,
}

/// The message in which something was used, with everything that there is to use.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Shown {
    pub(super) id: Snowflake,
    #[serde(default)]
    pub(super) components: serde_json::Value,
}

/// The type of an interaction with a component of a message, such as a button.
pub(super) const COMPONENT: u64 = 3;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Used {
    #[serde(default)]
    pub(super) custom_id: String,
}

/// Something of which only the id matters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Named {
    pub(super) id: Snowflake,
}
