//! What each side has noted of the other's rows: acks, deliveries and the cursor.
//!
//! An ack or a journal that the host has not taken in yet is how any session looks while it works,
//! and after a crash. It is told only when the session is not marked as due, because then nobody is
//! going to take it in.

use std::collections::{HashMap, HashSet};

use twobox_shared::audit::{AckRow, DeliveryRow, InboxAudit, MessageRow, OutboxAudit, ReplyRow};
use twobox_shared::inbox::{Cursor, DeliveryStatus};
use twobox_shared::seq::{SEQ_MAX, Seq};

use super::evidence::Evidence;
use super::finding::{Finding, Name, Repair};

/// `outbox` is `None` if nothing is known of it, and `Some(None)` if there is none.
pub(super) fn check(
    evidence: &Evidence,
    inbox: &InboxAudit,
    outbox: Option<Option<&OutboxAudit>>,
    findings: &mut Vec<Finding>,
) {
    let nothing = OutboxAudit::default();
    if let Some(outbox) = outbox {
        let outbox = outbox.unwrap_or(&nothing);
        let whole = !inbox.cut && !outbox.cut;
        acks(evidence, inbox, outbox, whole, findings);
        deliveries(evidence, inbox, outbox, whole, findings);
        cursor(inbox, Some(outbox).filter(|_| whole), findings);
    } else {
        cursor(inbox, None, findings);
    }
    let told = findings.iter().any(|finding| finding.repair == Some(Repair::MarkDue));
    if !told && let Some(finding) = unmarked(evidence, inbox, outbox.flatten()) {
        findings.push(finding);
    }
}

fn acks(
    evidence: &Evidence,
    inbox: &InboxAudit,
    outbox: &OutboxAudit,
    whole: bool,
    findings: &mut Vec<Finding>,
) {
    let messages: HashMap<&str, &MessageRow> =
        inbox.messages.iter().map(|message| (message.id.as_str(), message)).collect();
    for ack in &outbox.acks {
        let known = ["processing", "completed", "failed"].contains(&ack.status.as_str());
        if !known || ack.attempt.is_some_and(|attempt| attempt < 0) {
            let meaning = format!(
                "its ack says {:?} for attempt {:?}, which the protocol does not know: the runner is \
                 not one that follows it",
                ack.status, ack.attempt
            );
            findings.push(Finding::new(Name::AckInvalid, &ack.message, meaning));
            continue;
        }
        match messages.get(ack.message.as_str()) {
            None if whole => findings.push(Finding::new(
                Name::AckWithoutMessage,
                &ack.message,
                "the outbox has an ack for a message that the inbox does not have. The host passes \
                 it over; either a container wrote nonsense, or the inbox is an older copy",
            )),
            Some(message) if message.status == "pending" => {
                findings.extend(ack_of_pending(evidence, message, ack));
            }
            _ => {}
        }
    }
}

fn ack_of_pending(evidence: &Evidence, message: &MessageRow, ack: &AckRow) -> Option<Finding> {
    let attempt = ack.attempt.unwrap_or(0);
    if attempt > message.tries {
        let meaning = format!(
            "its ack names attempt {attempt}, but attempt {} is the next: a container made it up, or \
             the inbox is an older copy. It blocks the message until attempts have caught up",
            message.tries
        );
        return Some(Finding::new(Name::AckAhead, &message.id, meaning));
    }
    if evidence.is_marked() || evidence.session.quarantine.is_some() {
        return None;
    }
    let (name, meaning) = match ack.status.as_str() {
        "completed" => (
            Name::CompletedNotTakenIn,
            "it is answered, but still pending: the host has not taken in the ack, and the session \
             is not marked as due",
        ),
        "failed" if attempt == message.tries => (
            Name::FailureNotCharged,
            "an attempt failed that the host has not counted, so it will not be tried again: the \
             session is not marked as due",
        ),
        "processing" if attempt == message.tries && !is_ours(evidence, ack) => (
            Name::OrphanClaim,
            "it is claimed by a runner that is not the one on record, so nobody works on it, and the \
             session is not marked as due",
        ),
        _ => return None,
    };
    Some(Finding::new(name, &message.id, meaning).mended_by(Repair::MarkDue))
}

/// Whether the claim is that of the recorded incarnation.
fn is_ours(evidence: &Evidence, ack: &AckRow) -> bool {
    ack.runner.is_some() && ack.runner == evidence.session.runner
}

/// As the host takes it: a word that nobody knows is as good as failed.
fn is_settled(record: &DeliveryRow) -> bool {
    DeliveryStatus::parse(&record.status).is_none_or(DeliveryStatus::is_settled)
}

fn deliveries(
    evidence: &Evidence,
    inbox: &InboxAudit,
    outbox: &OutboxAudit,
    whole: bool,
    findings: &mut Vec<Finding>,
) {
    let rows: HashSet<&str> = outbox.rows.iter().map(|row| row.id.as_str()).collect();
    let records: HashMap<&str, &DeliveryRow> =
        inbox.deliveries.iter().map(|record| (record.row.as_str(), record)).collect();
    for record in &inbox.deliveries {
        if DeliveryStatus::parse(&record.status).is_none() {
            let meaning = format!("its delivery is {:?}, no word of the protocol", record.status);
            findings.push(Finding::new(Name::DeliveryStateInvalid, &record.row, meaning));
        } else if whole && !rows.contains(record.row.as_str()) {
            findings.push(Finding::new(
                Name::DeliveredWithoutRow,
                &record.row,
                "the host has a delivery record for a row that the outbox does not have: the outbox \
                 was replaced, or its runner removed the row. Nothing is sent again",
            ));
        }
    }
    let cursor = inbox.cursor.map_or(0, |cursor| cursor.seq.0);
    let passed = outbox.rows.iter().filter(|row| row.seq.is_some_and(|seq| seq <= cursor));
    // A record that says "not yet" is a person's order to send the row once more, and a record
    // that is not there may have been forgotten.
    let forgotten = |seq: &i64| *seq <= inbox.forgotten.rows.0;
    let unknown = passed.filter(|row| {
        !records.contains_key(row.id.as_str()) && !row.seq.as_ref().is_some_and(forgotten)
    });
    let ranges = &evidence.session.refused;
    let mut found = vec![0_u64; ranges.len()];
    for row in unknown {
        let range = row.seq.and_then(|seq| ranges.iter().position(|range| range.covers(seq)));
        match range {
            Some(range) => found[range] += 1,
            None => findings.push(Finding::new(
                Name::UndeliveredBelowCursor,
                &row.id,
                "it was never settled, but the host has passed its number and does not read it \
                 again. Read it with `twobox sessions tail` and send it by hand",
            )),
        }
    }
    for (range, found) in ranges.iter().zip(found) {
        // Fewer are no wonder: a runner removes old rows.
        if found > range.count {
            let object = format!("rows {} to {}", range.first.0, range.last.0);
            let meaning = format!(
                "{found} of them were never settled, and the host has refused {} and passed over the \
                 others as well. Read them with `twobox sessions tail` and send by hand what is missing",
                range.count
            );
            findings.push(Finding::new(Name::UndeliveredBelowCursor, &object, meaning));
        }
    }
}

fn cursor(inbox: &InboxAudit, outbox: Option<&OutboxAudit>, findings: &mut Vec<Finding>) {
    const OBJECT: &str = "outbound_cursor";
    let Some(cursor) = inbox.cursor else {
        if inbox.version == twobox_schema::INBOUND_VERSION {
            let finding = Finding::new(
                Name::CursorMissing,
                OBJECT,
                "the row that says how far the host has come in the outbox is gone, so numbers may \
                 be used twice and old rows be sent again",
            );
            findings.push(match outbox {
                Some(outbox) => finding.mended_by(Repair::WriteCursor(found_cursor(inbox, outbox))),
                None => finding,
            });
        }
        return;
    };
    if cursor.seq.0 < 0 || cursor.seen < cursor.seq {
        let meaning = format!(
            "it says that rows up to {} are settled and up to {} were read, which cannot be",
            cursor.seq.0, cursor.seen.0
        );
        findings.push(Finding::new(Name::CursorInvalid, OBJECT, meaning));
        return;
    }
    let Some(outbox) = outbox else { return };
    // With a number that is none of the runner's, nobody knows where the outbox ends.
    let Some(numbers) = outbox
        .rows
        .iter()
        .map(|row| row.seq.filter(|seq| Seq(*seq).plausible_outbound(Seq(SEQ_MAX))))
        .collect::<Option<Vec<i64>>>()
    else {
        return;
    };
    let end = numbers.into_iter().max().unwrap_or(0);
    if cursor.seen.0 > end {
        // The number is part of the object: a later look at a session that works has another one.
        findings.push(Finding::new(
            Name::CursorBeyondEnd,
            format!("{OBJECT} {}", cursor.seen.0),
            format!(
                "the host has read up to {}, but the outbox ends at {end}: it was replaced or cut. \
                 The cursor stays, for it keeps numbers from being used twice; the next runner \
                 continues above it, and then this is gone",
                cursor.seen.0
            ),
        ));
    }
}

/// Where the cursor must have been: behind the settled rows that follow the first record. Rows
/// before that have had theirs pruned; without any record, nothing was delivered.
fn found_cursor(inbox: &InboxAudit, outbox: &OutboxAudit) -> Cursor {
    let settled: HashSet<&str> = inbox
        .deliveries
        .iter()
        .filter(|record| is_settled(record))
        .map(|record| record.row.as_str())
        .collect();
    let is_settled = |row: &&ReplyRow| settled.contains(row.id.as_str());
    let last = outbox
        .rows
        .iter()
        .skip_while(|row| !is_settled(row))
        .take_while(is_settled)
        .filter_map(|row| row.seq)
        .last();
    let seen = outbox.rows.iter().filter_map(|row| row.seq).max();
    Cursor { seq: Seq(last.unwrap_or(0)), seen: Seq(seen.unwrap_or(0)) }
}

/// Something to do, and nobody who will: the mark is what the host goes by.
fn unmarked(
    evidence: &Evidence,
    inbox: &InboxAudit,
    outbox: Option<&OutboxAudit>,
) -> Option<Finding> {
    let session = &evidence.session;
    if session.next_due.is_some() || session.quarantine.is_some() {
        return None;
    }
    let waiting = inbox.messages.iter().filter(|row| row.status == "pending" && row.trigger);
    let records: HashMap<&str, &DeliveryRow> =
        inbox.deliveries.iter().map(|record| (record.row.as_str(), record)).collect();
    let cursor = inbox.cursor.map_or(0, |cursor| cursor.seq.0);
    let undelivered = outbox.into_iter().flat_map(|outbox| &outbox.rows).filter(|row| {
        match records.get(row.id.as_str()) {
            Some(record) => !is_settled(record), // before the cursor too: a person asked for it
            None => row.seq.is_some_and(|seq| seq > cursor),
        }
    });
    let (waiting, undelivered) = (waiting.count(), undelivered.count());
    (waiting + undelivered > 0).then(|| {
        let meaning = format!(
            "{waiting} messages wait for an answer and {undelivered} rows for delivery, but the \
             session is not marked as due, so the host does not look at it"
        );
        Finding::new(Name::WorkNotMarked, "session", meaning).mended_by(Repair::MarkDue)
    })
}
