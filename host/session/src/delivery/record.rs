//! What a record becomes: when a send is announced, when a channel has said what came of it, and when
//! nobody will.

use std::time::Duration;

use twobox_model::backoff::Backoff;
use twobox_model::channel::Outcome;
use twobox_shared::dead_letter::ONCE_MORE;
use twobox_shared::inbox::{Delivery, DeliveryStatus};
use twobox_shared::time::UnixMillis;

/// The pauses between two attempts that are chosen here.
const PAUSE: Backoff = Backoff { first: Duration::from_secs(2), most: Duration::from_secs(5 * 60) };

/// Why a row is given up that its container removed.
pub const GONE: &str = "its row is gone from the outbox";

/// The longest pause that a channel may ask for.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
const _: () = assert!(RETRY_AFTER_MAX.as_secs() >= PAUSE.most.as_secs());

/// The record that announces a send.
pub fn announced(record: Option<&Delivery>, now: UnixMillis) -> Delivery {
    Delivery {
        status: DeliveryStatus::Sending,
        attempts: record.map_or(0, |record| record.attempts),
        next_attempt_at: None,
        changed_at: held_since(record, now),
        error: once_more(record, None),
        platform_message_id: None,
    }
}

/// What became of a batch whose channel broke or said nothing, which tells why: one that honours `keys` may
/// be called again, of any other nobody knows whether it was sent.
pub fn broken(keys: bool, error: String) -> Outcome {
    match keys {
        true => Outcome::Transient { error, retry_after: None },
        false => Outcome::Uncertain { error },
    }
}

/// The new record after a channel said what became of a row or a notice; `None` if that is what `record`
/// says already.
pub fn after(outcome: &Outcome, record: Option<&Delivery>, now: UnixMillis) -> Option<Delivery> {
    let next = outcome_of(outcome, record, now);
    let same = |record: &Delivery| record.status == next.status && record.attempts == next.attempts;
    (!record.is_some_and(same)).then_some(next)
}

fn outcome_of(outcome: &Outcome, record: Option<&Delivery>, now: UnixMillis) -> Delivery {
    let attempts = record.map_or(0, |record| record.attempts);
    let held_since = held_since(record, now);
    match outcome {
        Outcome::Delivered { platform_message_id } => Delivery {
            status: DeliveryStatus::Delivered,
            attempts: attempts + 1,
            next_attempt_at: None,
            changed_at: now,
            error: None,
            platform_message_id: platform_message_id.clone(),
        },
        Outcome::Permanent { error } => Delivery {
            status: DeliveryStatus::Failed,
            attempts: attempts + 1,
            next_attempt_at: None,
            changed_at: now,
            error: Some(error.clone()),
            platform_message_id: None,
        },
        Outcome::Uncertain { error } => Delivery {
            status: DeliveryStatus::Uncertain,
            attempts: attempts + 1,
            next_attempt_at: None,
            changed_at: now,
            error: Some(error.clone()),
            platform_message_id: None,
        },
        Outcome::Transient { error, retry_after } => {
            let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
            let pause = pause(attempts + 1).max(asked);
            held(held_since, attempts + 1, Some(now + pause), once_more(record, Some(error)))
        }
        Outcome::Unavailable => held(held_since, attempts, None, once_more(record, None)),
    }
}

/// The error of a row that is still to be sent: what was said just now, and, however often it is tried,
/// that the agent believes it lost.
fn once_more(record: Option<&Delivery>, error: Option<&String>) -> Option<String> {
    match (record.filter(|record| record.is_believed_lost()), error) {
        (Some(_), Some(error)) => Some(format!("{ONCE_MORE}{error}")),
        (Some(record), None) => record.error.clone(),
        (None, error) => error.cloned(),
    }
}

/// The final record of a row that was to be sent and is not in the outbox any more.
pub fn gone(record: &Delivery, now: UnixMillis) -> Delivery {
    Delivery {
        // Whether an announced one was sent is as unknown as it was before.
        status: match record.status {
            DeliveryStatus::Sending => DeliveryStatus::Uncertain,
            DeliveryStatus::Held
            | DeliveryStatus::Delivered
            | DeliveryStatus::Failed
            | DeliveryStatus::Uncertain => DeliveryStatus::Failed,
        },
        next_attempt_at: None,
        changed_at: now,
        error: Some(GONE.to_owned()),
        ..record.clone()
    }
}

/// Since when a row waits for success: each further attempt counts from there, or it would never
/// expire.
fn held_since(record: Option<&Delivery>, now: UnixMillis) -> UnixMillis {
    let waits = |status| matches!(status, DeliveryStatus::Held | DeliveryStatus::Sending);
    record.filter(|record| waits(record.status)).map_or(now, |record| record.changed_at)
}

pub(super) fn held(
    since: UnixMillis,
    attempts: i64,
    next_attempt_at: Option<UnixMillis>,
    error: Option<String>,
) -> Delivery {
    Delivery {
        status: DeliveryStatus::Held,
        attempts,
        next_attempt_at,
        changed_at: since,
        error,
        platform_message_id: None,
    }
}

/// The end of the pause before the next attempt, if it lies ahead. A pause that is longer than any
/// was recorded before the clock was set back, and is over.
pub(super) fn waits(next_attempt_at: Option<UnixMillis>, now: UnixMillis) -> Option<UnixMillis> {
    next_attempt_at.filter(|retry| *retry > now && retry.since(now) <= RETRY_AFTER_MAX)
}

/// How long after its `attempts`-th failed attempt a row waits: 2 s, 4 s, 8 s, … up to a maximum.
fn pause(attempts: i64) -> Duration {
    PAUSE.after(attempts.max(1))
}

/// The final record of a row that was not sent.
pub(super) fn failed(record: Option<&Delivery>, now: UnixMillis, error: String) -> Delivery {
    Delivery {
        status: DeliveryStatus::Failed,
        attempts: record.map_or(0, |record| record.attempts),
        next_attempt_at: None,
        changed_at: now,
        error: Some(error),
        platform_message_id: None,
    }
}
