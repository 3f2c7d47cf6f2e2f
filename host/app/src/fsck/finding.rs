//! What a check finds: a name for programs, an object, a sentence for people, and the repair.

use std::fmt::Display;
use std::path::PathBuf;

use serde::{Serialize, Serializer};
use twobox_shared::inbox::Cursor;

macro_rules! names {
    ($($variant:ident => $word:literal),* $(,)?) => {
        /// What can be wrong. `docs/fsck.md` explains each by its word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the word beside each says it, and docs/fsck.md explains it")]
        pub enum Name { $($variant),* }

        impl Name {
            /// Every name.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word, which never changes.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    };
}

names! {
    Quarantined => "quarantined",
    FolderMissing => "folder-missing",
    FolderWithoutSession => "folder-without-session",
    StrayFile => "stray-file",
    SymbolicLink => "symbolic-link",
    HardLink => "hard-link",
    WrongFileType => "wrong-file-type",
    WritableByOthers => "writable-by-others",
    WrongOwner => "wrong-owner",
    InboxMissing => "inbox-missing",
    InboxCorrupt => "inbox-corrupt",
    InboxWrongJournalMode => "inbox-wrong-journal-mode",
    InboxNewer => "inbox-newer",
    InboxOlder => "inbox-older",
    InboxHotJournal => "inbox-hot-journal",
    InboxNotChecked => "inbox-not-checked",
    OutboxCorrupt => "outbox-corrupt",
    OutboxRefused => "outbox-refused",
    OutboxWrongJournalMode => "outbox-wrong-journal-mode",
    OutboxNewer => "outbox-newer",
    OutboxOlder => "outbox-older",
    OutboxHotJournal => "outbox-hot-journal",
    OutboxNotChecked => "outbox-not-checked",
    InboxSeqInvalid => "inbox-seq-invalid",
    InboxSeqTwice => "inbox-seq-twice",
    OutboxSeqInvalid => "outbox-seq-invalid",
    OutboxSeqTwice => "outbox-seq-twice",
    OutboxSeqImplausible => "outbox-seq-implausible",
    AnswerBeforeMessage => "answer-before-message",
    MessageStateInvalid => "message-state-invalid",
    CountersInvalid => "counters-invalid",
    TaskTwice => "task-twice",
    RecurrenceInvalid => "recurrence-invalid",
    RecurrenceSettled => "recurrence-settled",
    AckInvalid => "ack-invalid",
    AckWithoutMessage => "ack-without-message",
    AckAhead => "ack-ahead",
    OrphanClaim => "orphan-claim",
    FailureNotCharged => "failure-not-charged",
    CompletedNotTakenIn => "completed-not-taken-in",
    DeliveryStateInvalid => "delivery-state-invalid",
    DeliveredWithoutRow => "delivered-without-row",
    UndeliveredBelowCursor => "undelivered-below-cursor",
    CursorMissing => "cursor-missing",
    CursorInvalid => "cursor-invalid",
    CursorBeyondEnd => "cursor-beyond-end",
    WorkNotMarked => "work-not-marked",
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What `--repair` can do. Paths lie in the session's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// Takes the right to write from everybody but the owner.
    CloseToOthers(PathBuf),
    /// Moves a file to `lost+found/`.
    MoveAside(PathBuf),
    /// Marks the session as due: the host's next sweep does the rest.
    MarkDue,
    /// Writes the cursor's row.
    WriteCursor(Cursor),
    /// Brings the inbox to this build's version.
    MigrateInbox,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub name: Name,
    /// With which file, row or message.
    pub object: String,
    /// What it means and what to do, in a sentence.
    pub meaning: String,
    /// How `--repair` mends it, if it can.
    #[serde(rename = "repairable", serialize_with = "whether")]
    pub repair: Option<Repair>,
}

fn whether<S: Serializer>(repair: &Option<Repair>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(repair.is_some())
}

impl Finding {
    /// One that a person has to mend.
    pub fn new(name: Name, object: impl Display, meaning: impl Into<String>) -> Self {
        Self { name, object: object.to_string(), meaning: meaning.into(), repair: None }
    }

    /// With its repair.
    pub fn mended_by(self, repair: Repair) -> Self {
        Self { repair: Some(repair), ..self }
    }
}
