//! What a runner may say of a scheduled run that is not so: it commits the end of its own message,
//! and says nothing more.

use rusqlite::named_params;

use super::forgery::open;
use super::{Attack, Done, End, Ground, Then};

/// About the turns that a run took, and about how it ended.
pub static LIES: &[Attack] = &[
    lie("turns-below-zero", |ground| ack(ground, "completed", -5, None)),
    lie("turns-beyond-measure", |ground| ack(ground, "completed", i64::MAX, None)),
    lie("turns-withheld", |ground| ack(ground, "completed", 0, None)),
    lie("turns-over-the-limit-with-success", |ground| ack(ground, "completed", 900, None)),
    lie("breach-that-was-none", |ground| ack(ground, "failed", 0, Some("turn_limit_exceeded"))),
    lie("failure-that-only-the-host-knows", |ground| ack(ground, "failed", 1, Some("replaced"))),
];

const fn lie(name: &'static str, act: fn(&Ground) -> Done) -> Attack {
    Attack { name, act, then: Then::FreezesTheRunner, end: End::Endured }
}

/// Ends the message that is worked on.
fn ack(ground: &Ground, status: &str, turns: i64, failure: Option<&str>) -> Done {
    let outbox = open(ground)?;
    outbox.pragma_update(None, "ignore_check_constraints", true)?;
    let failure = failure.map(|reason| {
        format!(r#"{{"reason":"{reason}","detail":"by its own word","retryable":false}}"#)
    });
    let changed = outbox.execute(
        "UPDATE processing_ack SET status = :status, turns = :turns, failure = :failure
         WHERE message_id = :message",
        named_params! {
            ":status": status,
            ":turns": turns,
            ":failure": failure,
            ":message": ground.message,
        },
    )?;
    match changed {
        1 => Ok(()),
        _ => Err("there is no claim to lie about".into()),
    }
}
