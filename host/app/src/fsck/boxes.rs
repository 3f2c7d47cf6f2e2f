//! The two files as databases: whether each can be read, is whole, and has a version that this
//! build knows.

use twobox_shared::open::{BoxError, Remedy};

use super::evidence::Evidence;
use super::files;
use super::finding::{Finding, Name, Repair};
use twobox_shared::errors::chain;

/// Which box, with the names of what can be wrong with it.
struct Side {
    path: &'static str,
    corrupt: Name,
    refused: Name,
    journal_mode: Name,
    newer: Name,
    hot_journal: Name,
    not_checked: Name,
    /// Who may write it.
    writer: &'static str,
}

const INBOX: Side = Side {
    path: "in/inbound.db",
    corrupt: Name::InboxCorrupt,
    refused: Name::InboxCorrupt,
    journal_mode: Name::InboxWrongJournalMode,
    newer: Name::InboxNewer,
    hot_journal: Name::InboxHotJournal,
    not_checked: Name::InboxNotChecked,
    writer: "host",
};

const OUTBOX: Side = Side {
    path: "out/outbound.db",
    corrupt: Name::OutboxCorrupt,
    refused: Name::OutboxRefused,
    journal_mode: Name::OutboxWrongJournalMode,
    newer: Name::OutboxNewer,
    hot_journal: Name::OutboxHotJournal,
    not_checked: Name::OutboxNotChecked,
    writer: "runner",
};

pub(super) fn check(evidence: &Evidence, findings: &mut Vec<Finding>) {
    let entries = evidence.entries.as_deref().unwrap_or_default();
    // What is not a plain file has been told already, by its own name.
    let sound = |side: &Side| {
        files::is_sound(entries, side.path)
            && files::is_sound(entries, &format!("{}-journal", side.path))
    };
    match &evidence.inbox {
        Err(error) if sound(&INBOX) => findings.extend(unreadable(&INBOX, error, evidence)),
        Err(_) => {}
        Ok(None) if matches!(&evidence.outbox, Ok(Some(outbox)) if !outbox.rows.is_empty()) => {
            findings.push(Finding::new(
                Name::InboxMissing,
                INBOX.path,
                "there is no inbox, but the outbox has rows: the conversation's messages are lost \
                 and numbers may be used twice. Restore in/ from a backup",
            ));
        }
        Ok(None) => {}
        Ok(Some(inbox)) => {
            complaints(&INBOX, &inbox.complaints, findings);
            if inbox.version < twobox_schema::INBOUND_VERSION {
                findings.push(
                    Finding::new(Name::InboxOlder, INBOX.path, format!(
                        "it has version {} and this build writes version {}; the host migrates it \
                         at its next look at the session",
                        inbox.version, twobox_schema::INBOUND_VERSION
                    ))
                    .mended_by(Repair::MigrateInbox),
                );
            }
            cut(&INBOX, inbox.cut, findings);
        }
    }
    match &evidence.outbox {
        Err(error) if sound(&OUTBOX) => findings.extend(unreadable(&OUTBOX, error, evidence)),
        Err(_) | Ok(None) => {}
        Ok(Some(outbox)) => {
            complaints(&OUTBOX, &outbox.complaints, findings);
            if outbox.version < twobox_schema::OUTBOUND_VERSION {
                findings.push(Finding::new(Name::OutboxOlder, OUTBOX.path, format!(
                    "it has version {} and this build knows version {}; it can be read as it is, \
                     and the session's next runner migrates it",
                    outbox.version, twobox_schema::OUTBOUND_VERSION
                )));
            }
            cut(&OUTBOX, outbox.cut, findings);
        }
    }
}

fn complaints(side: &Side, complaints: &[String], findings: &mut Vec<Finding>) {
    if let Some(first) = complaints.first() {
        findings.push(Finding::new(side.corrupt, side.path, format!(
            "SQLite finds it damaged ({} complaints, the first: {first}). Stop the host, keep a copy \
             of the whole folder, and restore the file from a backup or salvage it with sqlite3's \
             .recover",
            complaints.len()
        )));
    }
}

fn cut(side: &Side, cut: bool, findings: &mut Vec<Finding>) {
    if cut {
        findings.push(Finding::new(
            side.not_checked,
            side.path,
            format!(
                "it has more than {} rows: only the newest were looked at",
                twobox_shared::audit::ROWS_MAX
            ),
        ));
    }
}

fn unreadable(side: &Side, error: &BoxError, evidence: &Evidence) -> Option<Finding> {
    let writer = side.writer;
    let find = |name, meaning: String| Some(Finding::new(name, side.path, meaning));
    match error {
        BoxError::HotJournal if evidence.is_marked() || evidence.session.quarantine.is_some() => {
            None // the next sweep's business
        }
        BoxError::HotJournal => find(
            side.hot_journal,
            format!(
                "the {writer} died inside a commit, and its journal waits to be rolled back. Do not \
                 remove the journal. Only a sweep of the host may do it, but the session is not \
                 marked as due"
            ),
        )
        .map(|finding| finding.mended_by(Repair::MarkDue)),
        BoxError::NotDeleteMode { .. } => find(
            side.journal_mode,
            format!(
                "it is in WAL mode, which does not work across a mount: the {writer} refuses it. \
                 With host and container stopped, run sqlite3 on it with PRAGMA journal_mode=DELETE"
            ),
        ),
        BoxError::Newer { found, known } => find(
            side.newer,
            format!("it has version {found} and this build knows up to {known}: update Twobox"),
        ),
        BoxError::Refused { reason } => find(side.refused, refused(reason)),
        other => match other.remedy() {
            Remedy::Quarantine => find(
                side.corrupt,
                format!(
                    "it cannot be read: {}. Keep a copy of the whole folder, and restore the file \
                     from a backup",
                    chain(other)
                ),
            ),
            Remedy::TryAgain | Remedy::Repair | Remedy::Operator => find(
                side.not_checked,
                format!(
                    "it could not be read in time: {}. Check again, with the host stopped if this \
                     stays",
                    chain(other)
                ),
            ),
        },
    }
}

/// What it means that the host refuses an outbox.
pub(super) fn refused(reason: &str) -> String {
    format!(
        "the host does not read it: {reason}. No runner of ours writes that. Look at what runs in \
         the container, then move out/outbound.db away and retry the session"
    )
}
