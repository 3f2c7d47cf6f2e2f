//! What an instance keeps from one life to the next: how far each conversation was heard. One file in a folder of
//! the data directory that no container sees, open to its owner alone, and replaced as a whole.
//!
//! A position moves behind a message when that is durable elsewhere, and never before. So whatever is on the disk
//! is no further than what was heard: reading from there on again changes nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ts::Ts;
use crate::state;

/// How many conversations are kept. Of others the position is that of all.
const CHATS_MAX: usize = 2_000;

/// How many threads are kept of a conversation.
const THREADS_MAX: usize = 50;

// A thread and a conversation have some 50 and 150 bytes in the file.
const _: () = assert!((CHATS_MAX * (150 + THREADS_MAX * 50)) as u64 <= state::FILE_MAX);

/// The state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    /// The workspace and the bot that the rest is about.
    pub(super) whose: String,
    /// Up to where everything was heard in conversations that do not stand below.
    pub(super) since: Option<Ts>,
    /// Conversations in which somebody was heard.
    pub(super) chats: BTreeMap<String, Chat>,
}

/// How far a conversation was heard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Chat {
    /// The last that was taken in, or is done with.
    pub(super) last: Option<Ts>,
    /// The last to which nobody listened: what was said before is not handed in again.
    pub(super) unheard: Option<Ts>,
    /// Threads in which somebody was heard, each with the last of it: Slack tells of no thread by itself.
    pub(super) threads: BTreeMap<Ts, Ts>,
}

impl Kept {
    /// Reads the file in `folder`; one that is not there says nothing. Blocks.
    ///
    /// # Errors
    /// Why it cannot be read, for people.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        state::read(&state::file(folder), "then what was said meanwhile is not heard")
    }

    /// From where on a conversation is read.
    pub(super) fn position(&self, chat: &str) -> Option<Ts> {
        self.chats.get(chat).and_then(|chat| chat.last).or(self.since)
    }

    /// The message `ts` of `chat` was taken in, or is done with.
    pub(super) fn hear(&mut self, chat: &str, ts: Ts, thread: Option<Ts>) {
        self.make_room(chat);
        let chat = self.chats.entry(chat.to_owned()).or_default();
        chat.last = chat.last.max(Some(ts));
        if let Some(thread) = thread {
            let last = chat.threads.entry(thread).or_insert(ts);
            *last = (*last).max(ts);
            if chat.threads.len() > THREADS_MAX
                && let Some(oldest) =
                    chat.threads.iter().min_by_key(|(_, last)| **last).map(|it| *it.0)
            {
                chat.threads.remove(&oldest);
            }
        }
    }

    /// Nobody listened to the message `ts` of `chat`.
    pub(super) fn pass_over(&mut self, chat: &str, ts: Ts) {
        self.hear(chat, ts, None);
        if let Some(chat) = self.chats.get_mut(chat) {
            chat.unheard = chat.unheard.max(Some(ts));
        }
    }

    /// Whether the message `ts` of `chat` is one to which nobody listened.
    pub(super) fn is_unheard(&self, chat: &str, ts: Ts) -> bool {
        self.chats.get(chat).and_then(|chat| chat.unheard).is_some_and(|unheard| ts <= unheard)
    }

    /// Forgets the conversation in which nothing was said for the longest time, if `chat` needs its place.
    fn make_room(&mut self, chat: &str) {
        if self.chats.len() < CHATS_MAX || self.chats.contains_key(chat) {
            return;
        }
        let oldest = self.chats.iter().min_by_key(|(_, chat)| chat.last).map(|it| it.0.clone());
        if let Some(oldest) = oldest {
            self.chats.remove(&oldest);
        }
    }
}

/// Puts the file in `folder`, which is another bot's, aside. Returns where it is. Blocks.
///
/// # Errors
/// The system's reason.
pub(super) fn put_aside(folder: &Path) -> io::Result<PathBuf> {
    let aside = folder.join("state.json.before");
    std::fs::rename(state::file(folder), &aside)?;
    File::open(folder)?.sync_all()?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn ts(number: usize) -> Ts {
        Ts::parse(&format!("{number}.000000")).unwrap()
    }

    #[test]
    fn what_is_kept_is_its_owners_alone_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let folder = state::folder(dir.path(), "s");
        assert_eq!(Kept::read(&folder), Ok(Kept::default()));
        let mut kept = Kept { whose: "T1/U1".to_owned(), since: Some(ts(1)), ..Kept::default() };
        kept.hear("C1", ts(3), Some(ts(2)));
        kept.pass_over("C2", ts(4));
        for _ in 0..2 {
            state::write(&folder, &kept).unwrap();
        }
        assert_eq!(Kept::read(&folder), Ok(kept.clone()));
        for path in [folder.clone(), state::file(&folder)] {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", path.display());
        }
        std::fs::write(state::file(&folder), "{\"since\":5}").unwrap();
        let error = Kept::read(&folder).unwrap_err();
        assert!(error.contains("damaged"), "{error}");
        let aside = put_aside(&folder).unwrap();
        assert!(aside.exists() && Kept::read(&folder) == Ok(Kept::default()));
    }

    #[test]
    fn a_position_only_moves_on_and_what_nobody_heard_is_known() {
        let mut kept = Kept { since: Some(ts(5)), ..Kept::default() };
        assert_eq!(kept.position("C1"), Some(ts(5)), "nobody was heard there");
        kept.hear("C1", ts(10), None);
        kept.hear("C1", ts(8), Some(ts(7)));
        assert_eq!(kept.position("C1"), Some(ts(10)));
        assert_eq!(kept.chats["C1"].threads, BTreeMap::from([(ts(7), ts(8))]));
        kept.pass_over("C1", ts(11));
        assert!(kept.is_unheard("C1", ts(11)) && !kept.is_unheard("C1", ts(12)));
        assert!(!kept.is_unheard("C2", ts(1)));
        assert_eq!(kept.position("C1"), Some(ts(11)));
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let mut kept = Kept::default();
        for number in 1..=CHATS_MAX + 10 {
            kept.hear(&format!("C{number}"), ts(number), None);
        }
        assert!(kept.chats.len() == CHATS_MAX && !kept.chats.contains_key("C1"));
        for number in 1..=THREADS_MAX + 10 {
            kept.hear("C9999", ts(number), Some(ts(number)));
        }
        let threads = &kept.chats["C9999"].threads;
        assert!(threads.len() == THREADS_MAX && !threads.contains_key(&ts(1)));
    }
}
