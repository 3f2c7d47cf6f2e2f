//! What Claude Code keeps of a conversation in the session's own folder, and what is read of it: whether it
//! is there, and what it answered to a message. Which conversation it is stands in a file beside it, before
//! the program is started.
//!
//! The agent can write there, so all of it may be anything.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use twobox_shared::ids::MessageId;
use uuid::Uuid;

use super::transcript::Transcript;
use crate::provider::model::plain;

/// The folder in the workspace; the `model` provider keeps its own there too.
const FOLDER: &str = ".twobox/claude";

/// The file that names the conversation.
const CONVERSATION: &str = "conversation";

/// The id of a turn's message for Claude Code: the same for the same messages in the same attempt. It never
/// answers one twice, also when another process is told it.
pub(super) fn message_id<'m>(
    messages: impl Iterator<Item = &'m MessageId>,
    attempt: i64,
) -> String {
    let mut digest = Sha256::new();
    for message in messages {
        digest.update(message.as_str());
        digest.update([0]);
    }
    digest.update(attempt.to_be_bytes());
    named(digest).to_string()
}

/// The name of the conversation that a message begins: the same in every attempt.
pub(super) fn begun_by(message: &MessageId) -> Uuid {
    let mut digest = Sha256::new();
    digest.update("conversation");
    digest.update([0]);
    digest.update(message.as_str());
    named(digest)
}

fn named(digest: Sha256) -> Uuid {
    let bytes: [u8; 32] = digest.finalize().into();
    let first = bytes.first_chunk().expect("sixteen of thirty-two bytes");
    uuid::Builder::from_custom_bytes(*first).into_uuid()
}

/// The folder.
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
    transcript: Transcript,
}

impl Kept {
    /// That of the workspace `work`.
    pub(super) fn of(work: &Path) -> Self {
        Self { folder: work.join(FOLDER), transcript: Transcript::default() }
    }

    /// Where Claude Code keeps everything.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The conversation that goes on, or a new one called `fresh`, and whether it is new.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn conversation(&self, fresh: Uuid) -> io::Result<(Uuid, bool)> {
        let mut text = String::new();
        let read = plain::open(&self.folder.join(CONVERSATION))
            .and_then(|file| file.take(64).read_to_string(&mut text));
        let named = read.ok().and_then(|_| text.trim().parse().ok());
        match named {
            Some(id) => Ok((id, self.transcript(id).is_none())),
            None => self.begin(fresh).map(|()| (fresh, true)),
        }
    }

    /// Begins a new conversation called `id`. The old one stays where it is.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn begin(&self, id: Uuid) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        plain::put(&self.folder.join(CONVERSATION), &id.to_string())
    }

    /// Puts the file of a conversation out of the way that Claude Code cannot go on with: then one of the same name
    /// can be begun.
    pub(super) fn set_aside(&self) {
        let conversation = self.conversation(Uuid::nil()).ok();
        if let Some(path) = conversation.and_then(|(id, _)| self.transcript(id)) {
            drop(fs::rename(&path, path.with_extension("lost"))); // or it is found again, and refused again
        }
    }

    /// The file of a conversation, if there is one. It lies in a folder that is named for where it began.
    fn transcript(&self, conversation: Uuid) -> Option<PathBuf> {
        let places = fs::read_dir(self.folder.join("projects")).ok()?.flatten();
        let name = format!("{conversation}.jsonl");
        places.map(|place| place.path().join(&name)).find(|path| path.is_file())
    }

    /// The last words with which `message` was answered, if it was, for itself, and with nothing undone that it was
    /// answered after.
    pub(super) fn answer_to(&mut self, message: &str) -> Option<String> {
        let (conversation, _) = self.conversation(Uuid::nil()).ok()?;
        let path = self.transcript(conversation)?;
        self.transcript.answer_to(&path, message.parse().ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> MessageId {
        MessageId::parse(text).unwrap()
    }

    #[test]
    fn a_message_has_another_id_in_each_attempt_and_with_each_companion() {
        let (a, b) = (id("a"), id("b"));
        let of = |messages: &[&MessageId], attempt| message_id(messages.iter().copied(), attempt);
        assert_eq!(of(&[&a], 0), of(&[&a], 0));
        let all = [of(&[&a], 0), of(&[&a], 1), of(&[&b], 0), of(&[&a, &b], 0), of(&[&id("ab")], 0)];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert!(all.iter().all(|it| it.parse::<Uuid>().is_ok()));
    }

    #[test]
    fn what_a_message_begins_is_called_the_same_in_every_attempt() {
        let (a, b) = (id("a"), id("b"));
        assert_eq!(begun_by(&a), begun_by(&a));
        assert_ne!(begun_by(&a), begun_by(&b));
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::of(dir.path());
        kept.begin(begun_by(&a)).unwrap();
        let place = kept.folder().join("projects/-w");
        fs::create_dir_all(&place).unwrap();
        let m = Uuid::from_u128(1).to_string();
        let text = r#"{"type":"user","uuid":"M","message":{"content":"q"}}
{"type":"assistant","message":{"stop_reason":"end_turn","content":[{"type":"text","text":"a"}]}}
"#;
        let file = place.join(format!("{}.jsonl", begun_by(&a)));
        fs::write(file, text.replace('M', &m)).unwrap();
        kept.begin(begun_by(&a)).unwrap();
        assert_eq!(kept.answer_to(&m).as_deref(), Some("a"), "it is found again");
        kept.set_aside();
        let again = kept.conversation(Uuid::nil()).unwrap();
        assert_eq!(again, (begun_by(&a), true), "what cannot be gone on with is begun again");
    }

    #[test]
    fn a_conversation_goes_on_until_another_one_begins() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::of(dir.path());
        let [one, two] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        assert_eq!(kept.conversation(one).unwrap(), (one, true));
        assert_eq!(kept.conversation(two).unwrap(), (one, true), "nothing was said yet");
        let place = kept.folder().join("projects/-work");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(format!("{one}.jsonl")), "").unwrap();
        assert_eq!(kept.conversation(two).unwrap(), (one, false));
        kept.begin(two).unwrap();
        assert_eq!(kept.conversation(one).unwrap(), (two, true));
        fs::write(kept.folder().join(CONVERSATION), "nonsense").unwrap();
        assert_eq!(kept.conversation(one).unwrap(), (one, true));
    }
}
