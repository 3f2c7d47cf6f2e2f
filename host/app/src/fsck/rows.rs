//! The rows by themselves: numbers, their order, states and counters.

use std::collections::{HashMap, HashSet};

use twobox_shared::audit::{InboxAudit, OutboxAudit};
use twobox_shared::seq::{SEQ_LEAP_MAX, SEQ_MAX};

use super::boxes::refused;
use super::finding::{Finding, Name};

const STATES: [&str; 5] = ["pending", "completed", "failed", "paused", "cancelled"];

pub(super) fn check(inbox: &InboxAudit, outbox: Option<&OutboxAudit>, findings: &mut Vec<Finding>) {
    let numbers = inbox.messages.iter().map(|row| (row.id.as_str(), row.seq));
    self::numbers(numbers, 0, (Name::InboxSeqInvalid, Name::InboxSeqTwice), findings);
    for message in &inbox.messages {
        if !STATES.contains(&message.status.as_str()) {
            let meaning = format!(
                "its status {:?} is no word of the protocol, so nobody works on it: the file was \
                 changed by something other than this host",
                message.status
            );
            findings.push(Finding::new(Name::MessageStateInvalid, &message.id, meaning));
        }
        if message.tries < 0 || !(0..=message.tries).contains(&message.forgiven) {
            let meaning = format!(
                "it counts {} tries of which {} are forgiven, which cannot be: the file was changed \
                 by something other than this host",
                message.tries, message.forgiven
            );
            findings.push(Finding::new(Name::CountersInvalid, &message.id, meaning));
        }
    }
    let Some(outbox) = outbox else { return };
    let before = findings.len();
    let numbers = outbox.rows.iter().map(|row| (row.id.as_str(), row.seq));
    self::numbers(numbers, 1, (Name::OutboxSeqInvalid, Name::OutboxSeqTwice), findings);
    leaps(inbox, outbox, findings);
    if let Some(reason) = outbox.refusal.as_ref().filter(|_| findings.len() == before) {
        findings.push(Finding::new(Name::OutboxRefused, "out/outbound.db", refused(reason)));
    }
    answers(inbox, outbox, findings);
}

/// Parity, range and uniqueness.
fn numbers<'a>(
    rows: impl Iterator<Item = (&'a str, Option<i64>)>,
    parity: i64,
    (invalid, twice): (Name, Name),
    findings: &mut Vec<Finding>,
) {
    let word = if parity == 0 { "even" } else { "odd" };
    let mut seen = HashSet::new();
    for (id, seq) in rows {
        match seq {
            Some(seq) if seq > 0 && seq <= SEQ_MAX && seq % 2 == parity => {
                if !seen.insert(seq) {
                    let meaning = format!(
                        "its number {seq} is there twice, so the order of the two is lost and the \
                         other side may see only one"
                    );
                    findings.push(Finding::new(twice, id, meaning));
                }
            }
            other => {
                let shown = other.map_or_else(|| "none".to_owned(), |seq| seq.to_string());
                let meaning = format!(
                    "its number is {shown}; this side's numbers are {word}, above 0 and at most \
                     2^53, and the other side refuses the rest"
                );
                findings.push(Finding::new(invalid, id, meaning));
            }
        }
    }
}

/// The rule that the host reads by, for every row.
fn leaps(inbox: &InboxAudit, outbox: &OutboxAudit, findings: &mut Vec<Finding>) {
    let seen = inbox.cursor.map_or(0, |cursor| cursor.seen.0);
    let mut high = inbox.messages.iter().filter_map(|row| row.seq).fold(seen, i64::max);
    for row in &outbox.rows {
        let Some(seq) = row.seq else { continue };
        if (0..=SEQ_MAX).contains(&seq) && seq > high.saturating_add(SEQ_LEAP_MAX) {
            let meaning = format!(
                "its number {seq} lies more than {SEQ_LEAP_MAX} above {high}, the highest before it: \
                 numbers run out that way, and the host refuses the outbox"
            );
            findings.push(Finding::new(Name::OutboxSeqImplausible, &row.id, meaning));
        }
        high = high.max(seq);
    }
}

fn answers(inbox: &InboxAudit, outbox: &OutboxAudit, findings: &mut Vec<Finding>) {
    let numbers: HashMap<&str, i64> =
        inbox.messages.iter().filter_map(|row| Some((row.id.as_str(), row.seq?))).collect();
    for row in &outbox.rows {
        let asked = row.in_reply_to.as_deref().and_then(|id| Some((id, *numbers.get(id)?)));
        if let (Some((message, asked)), Some(seq)) = (asked, row.seq)
            && (0..asked).contains(&seq)
        {
            let meaning = format!(
                "it has number {seq} and answers message {message}, which has number {asked}: the \
                 runner does not keep the order, and people may see the answer above the question"
            );
            findings.push(Finding::new(Name::AnswerBeforeMessage, &row.id, meaning));
        }
    }
}
