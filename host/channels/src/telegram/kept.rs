//! What an instance keeps from one life to the next: how far it has heard, what it holds that could not be taken
//! in yet, and which groups have become other chats. It is the instance's [state](crate::state).
//!
//! The position is written when everything before it is durable: in an inbox, or here. What Telegram was told to
//! forget it has forgotten.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use twobox_shared::time::UnixMillis;

use crate::state;

/// How many updates are held at most, and how many bytes they have.
const HELD_MAX: usize = 2_000;
const HELD_BYTES: usize = 4 << 20;
const _: () = assert!((HELD_BYTES as u64) < state::FILE_MAX);

/// How many groups are kept that have become other chats.
const MOVED_MAX: usize = 2_000;

/// For how long Telegram keeps what nobody has fetched.
pub(super) const TELEGRAM_KEEPS: Duration = Duration::from_secs(24 * 60 * 60);

/// The state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    /// The id of the bot that the rest is about.
    pub(super) whose: String,
    /// The first update that was not taken in.
    pub(super) next: Option<i64>,
    /// When this was written last.
    pub(super) alive_at: Option<UnixMillis>,
    /// Updates that their chats could not take yet, in their order.
    pub(super) held: BTreeMap<i64, VecDeque<Value>>,
    /// How many updates that are, and how many bytes they have.
    #[serde(skip)]
    room: (usize, usize),
    /// Chats that were groups before, by what they are now: what is said there is said in the group.
    pub(super) moved: BTreeMap<i64, i64>,
}

impl Kept {
    /// What is kept in `folder` for the bot with the id `whose`. What is there of another one is put aside.
    /// Blocks.
    ///
    /// # Errors
    /// Why it cannot be read, for people.
    pub(super) fn of(folder: &Path, whose: &str) -> Result<Self, String> {
        let file = state::file(folder);
        let remedy = "then the host goes on with what Telegram still has";
        let mut kept: Self = state::read(&file, remedy)?;
        if kept.whose == whose {
            let held = kept.held.values().flatten();
            kept.room = held.fold((0, 0), |(count, bytes), it| (count + 1, bytes + size(it)));
            return Ok(kept);
        }
        if !kept.whose.is_empty() {
            let aside = folder.join("state.json.before");
            std::fs::rename(&file, &aside)
                .map_err(|error| format!("cannot rename {}: {error}", file.display()))?;
            tracing::info!(
                before = kept.whose,
                now = whose,
                aside = %aside.display(),
                "the token is another bot's than before; what was kept of that is put aside"
            );
        }
        Ok(Self { whose: whose.to_owned(), ..Self::default() })
    }

    /// Writes it in `folder`. Returns when it is on the disk. Blocks.
    ///
    /// # Errors
    /// The system's reason.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        state::write(folder, self)
    }

    /// Holds an update of `chat`. Returns whether there was room for it.
    pub(super) fn hold(&mut self, chat: i64, update: Value) -> bool {
        let (count, bytes) = (self.room.0 + 1, self.room.1 + size(&update));
        let has_room = count <= HELD_MAX && bytes <= HELD_BYTES;
        if has_room {
            self.room = (count, bytes);
            self.held.entry(chat).or_default().push_back(update);
        }
        has_room
    }

    /// The first update that is held of `chat` was taken in.
    pub(super) fn release(&mut self, chat: i64) {
        if let Some(held) = self.held.get_mut(&chat) {
            if let Some(update) = held.pop_front() {
                self.room.0 = self.room.0.saturating_sub(1);
                self.room.1 = self.room.1.saturating_sub(size(&update));
            }
            if held.is_empty() {
                self.held.remove(&chat);
            }
        }
    }

    /// The group `from` is the chat `to` from now on. Returns whether that is news.
    pub(super) fn move_group(&mut self, from: i64, to: i64) -> bool {
        let from = self.name_of(from);
        let is_news = from != to && self.moved.get(&to) != Some(&from);
        if is_news {
            self.moved.retain(|_, before| *before != from);
            if self.moved.len() < MOVED_MAX {
                self.moved.insert(to, from);
            }
        }
        is_news
    }

    /// What `chat` is called here: what it was when an agent was wired to it.
    pub(super) fn name_of(&self, chat: i64) -> i64 {
        self.moved.get(&chat).copied().unwrap_or(chat)
    }

    /// What the chat is now that is called `name` here.
    pub(super) fn chat_of(&self, name: i64) -> i64 {
        let now = self.moved.iter().find(|(_, before)| **before == name);
        now.map_or(name, |(now, _)| *now)
    }
}

/// How many bytes an update has where it is held.
fn size(update: &Value) -> usize {
    update.to_string().len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_another_bots_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::of(dir.path(), "7").unwrap();
        assert_eq!(kept, Kept { whose: "7".to_owned(), ..Kept::default() });
        kept.next = Some(5);
        assert!(kept.hold(-1, json!({ "update_id": 4 })));
        kept.write(dir.path()).unwrap();
        assert_eq!(Kept::of(dir.path(), "7"), Ok(kept));
        let other = Kept::of(dir.path(), "8").unwrap();
        assert_eq!((other.next, other.held.len()), (None, 0));
        assert!(dir.path().join("state.json.before").exists());
        std::fs::write(dir.path().join("state.json"), "{").unwrap();
        assert!(Kept::of(dir.path(), "8").unwrap_err().contains("damaged"));
    }

    #[test]
    fn what_is_held_is_bounded_and_in_its_order() {
        let mut kept = Kept::default();
        for number in 0..HELD_MAX {
            assert!(kept.hold((number % 2) as i64, json!(number)));
        }
        assert!(!kept.hold(0, json!(0)), "there is no room");
        kept.release(1);
        assert_eq!(kept.held[&1].front(), Some(&json!(3)));
        assert!(kept.hold(0, json!(0)));
        let mut large = Kept::default();
        assert!(large.hold(1, json!("x".repeat(HELD_BYTES / 2))));
        assert!(!large.hold(2, json!("x".repeat(HELD_BYTES / 2))));
        large.release(1);
        assert!(large.held.is_empty());
    }

    #[test]
    fn a_group_keeps_its_name_whatever_it_becomes() {
        let mut kept = Kept::default();
        assert!(kept.move_group(-5, -1001));
        assert!(!kept.move_group(-5, -1001), "it is told twice");
        assert_eq!((kept.name_of(-1001), kept.chat_of(-5)), (-5, -1001));
        assert_eq!((kept.name_of(42), kept.chat_of(42)), (42, 42));
        assert!(kept.move_group(-1001, -1002));
        assert_eq!((kept.name_of(-1002), kept.chat_of(-5)), (-5, -1002));
    }
}
