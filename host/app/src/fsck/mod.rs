//! `sessions fsck`: whether what lies in a session's folder is what the protocol allows.
//!
//! Reading ([`evidence`]) and judging ([`check`]) are apart: a check is a pure function from the
//! evidence to findings, and each finding has a name that never changes and that `docs/fsck.md`
//! explains. Checking changes no file and holds no lock for longer than a read. Only [`repair`]
//! changes anything, only while no host runs, and never in the outbox.
//!
//! A host that works is normal: whatever it will take in at its next look is a finding only if the
//! session is not marked as due, for then nobody will look.

mod boxes;
pub mod evidence;
pub mod examine;
mod files;
mod finding;
mod progress;
pub mod rebuild;
pub mod repair;
mod rows;
mod tasks;

pub use finding::{Finding, Name, Repair};

use evidence::Evidence;

/// Everything that is wrong with one session.
pub fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(reason) = &evidence.session.quarantine {
        findings.push(Finding::new(Name::Quarantined, "session", format!(
            "the host has taken the session out of use: {reason}. Its messages wait. Mend what is \
             named here or below, then put it back with `twobox sessions retry`"
        )));
    }
    let Some(entries) = &evidence.entries else {
        if !evidence.is_young() {
            findings.push(Finding::new(Name::FolderMissing, evidence.folder.display(),
                "host.db knows the session, but its folder is not there, and with it the \
                 conversation. Restore it from a backup; otherwise the next message makes an empty one",
            ));
        }
        return findings;
    };
    files::check(entries, evidence.owner, &mut findings);
    boxes::check(evidence, &mut findings);
    if let Ok(Some(inbox)) = &evidence.inbox {
        let outbox = evidence.outbox.as_ref().ok().and_then(Option::as_ref);
        rows::check(inbox, outbox, &mut findings);
        tasks::check(evidence, inbox, &mut findings);
        let outbox = match &evidence.outbox {
            Ok(outbox) => Some(outbox.as_ref()),
            Err(_) => None, // nothing is known of it
        };
        progress::check(evidence, inbox, outbox, &mut findings);
    }
    findings
}
