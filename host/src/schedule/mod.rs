//! Schedules: which slots they have, and what becomes of each. Pure: no clock, no database, no
//! randomness; what is known comes in as values, and what is to be done goes out as values.
//!
//! | word | meaning |
//! |---|---|
//! | slot | one nominal firing time of a schedule, and with the schedule's id the identity of a firing; a *capacity slot*, of which there are N, is always called so |
//! | nominal time | the instant of a slot, without jitter: what the next slot and collisions are reckoned from |
//! | due time | nominal time + jitter: what a timer waits for |
//! | run | what became of a slot, or of a person's order to run now, from `queued` to its end |
//! | lease | until when a run may hold its capacity slot without being heard of |
//!
//! What holds:
//! - A [`timetable::Timetable`] alone says where the slots are: a function of cadence, zone, anchor
//!   and bounds, of which the clock is no part. Slots strictly increase.
//! - Work is bounded by the days in question, never by the slots of a fine interval.
//!
//! Elsewhere: rows, claims, leases and the cap (`db`), the effects of a run (`session`), `max_runs`,
//! which is a count of rows, and putting off for chat, which moves due times only.

pub mod cadence;
pub mod timetable;
pub mod zone;

use serde::{Deserialize, Serialize};
use twobox_shared::time::UnixMillis;

/// One nominal firing time of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(pub UnixMillis);
