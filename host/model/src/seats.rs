//! For whom a container's place is asked: what admission shares places out by.

use std::collections::HashMap;

use twobox_shared::ids::{AgentGroupId, MessagingGroupId};

/// Somebody who talks to an agent, as far as admission tells them apart: a digest of the channel's
/// kind and the name that it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sender(u64);

impl Sender {
    /// The sender whom the channel of this kind calls `name`.
    pub fn new(channel_type: &str, name: &str) -> Self {
        let digest = twobox_shared::content::digest16(&format!("{channel_type}\0{name}"));
        Self(u64::from_str_radix(&digest, 16).expect("sixteen hexadecimal digits"))
    }
}

/// For whom a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// Whose agent works there.
    pub group: AgentGroupId,
    /// In which chat it was asked for.
    pub chat: MessagingGroupId,
    /// By whom, if the channel said so.
    pub sender: Option<Sender>,
}

/// The agent groups that there are, and to how many chats each listens.
pub type Population = HashMap<AgentGroupId, usize>;
