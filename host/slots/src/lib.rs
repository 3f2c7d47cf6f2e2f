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
//! - Any slot that is not run is a [`missed::Missed`] or a skipped one, with the reason; none is
//!   dropped in silence.
//! - Work is bounded by the days in question, never by the slots of a fine interval.
//!
//! The order of questions for a schedule whose due time has come: [`missed::reckon`] says which of
//! its slots are to run and what the next slot is, [`overlap::decide`] what each of them does beside
//! the runs that have not ended, [`jitter::due`] when the next slot is due. When a run has ended,
//! [`streak::Streaks::after`] says whether the schedule is paused. [`collision::warnings`] is asked
//! when a schedule is saved, [`eta::seconds`] when a person's run finds no capacity.
//!
//! Elsewhere: rows, claims, leases and the cap (`store`), the effects of a run (`session`), `max_runs`,
//! which is a count of rows, and putting off for chat, which moves due times only.

pub mod cadence;
pub mod collision;
pub mod eta;
pub mod jitter;
pub mod missed;
pub mod overlap;
pub mod reason;
pub mod streak;
pub mod timetable;
pub mod zone;

use twobox_shared::time::UnixMillis;

/// One nominal firing time of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub UnixMillis);
