//! Jitter: how long after its nominal time a slot is due, so that schedules of the same minute do not
//! all start together.
//!
//! It follows from the schedule and the slot alone. Every host, and every build, reckons the same due
//! time: a run that was claimed by one and is taken up by another waits no second time.

use std::time::Duration;

use sha2::{Digest, Sha256};
use twobox_shared::ids::ScheduleId;
use twobox_shared::time::UnixMillis;

use super::Slot;

/// Names the way in which jitter is reckoned. Another way needs another name.
const NAME: &[u8] = b"twobox schedule jitter 1";

/// When `slot` of `schedule` is due: evenly spread over the time from the slot to `max` after it, and
/// before the slot that follows it.
pub fn due(schedule: ScheduleId, slot: Slot, max: Duration, following: Option<Slot>) -> UnixMillis {
    let until_next = following.map(|next| next.0.since(slot.0));
    let before_next = until_next.map(|span| span.saturating_sub(Duration::from_millis(1)));
    let most = before_next.map_or(max, |span| span.min(max)).as_millis();
    let choices = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let share = (u128::from(draw(schedule, slot)) * u128::from(choices)) >> u64::BITS;
    // Less than `choices`, which is a u64.
    slot.0 + Duration::from_millis(u64::try_from(share).unwrap_or(u64::MAX))
}

/// A number that any schedule and slot determine, evenly spread over its range: the first eight bytes
/// of SHA-256 over the name, the schedule's id, and the slot in milliseconds, both big-endian.
fn draw(schedule: ScheduleId, slot: Slot) -> u64 {
    let digest = Sha256::new()
        .chain_update(NAME)
        .chain_update(schedule.as_uuid().as_bytes())
        .chain_update(slot.0.0.to_be_bytes())
        .finalize();
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    const MINUTE: Duration = Duration::from_secs(60);

    fn jitter(schedule: u128, slot: i64, max: Duration, next: Option<i64>) -> i64 {
        let next = next.map(|at| Slot(UnixMillis(at)));
        due(ScheduleId::from_uuid(Uuid::from_u128(schedule)), Slot(UnixMillis(slot)), max, next).0
            - slot
    }

    #[test]
    fn the_same_slot_has_the_same_jitter_in_every_build() {
        // Reckoned with Python's hashlib. If these change, the name has to change.
        for (schedule, slot, expected) in
            [(0, 0, 1895459), (1, 1779012060000, 3287506), (u128::MAX, 1793520000000, 266888)]
        {
            assert_eq!(jitter(schedule, slot, 60 * MINUTE, None), expected);
        }
    }

    #[test]
    fn jitter_is_spread_evenly() {
        let mut tenths = [0; 10];
        for schedule in 0..100 {
            for slot in 0..100 {
                let jitter = jitter(schedule, slot * 60_000, Duration::from_millis(9_999), None);
                tenths[usize::try_from(jitter / 1_000).unwrap()] += 1;
            }
        }
        // 1000 are expected in each; five standard deviations are 150.
        assert!(tenths.iter().all(|count| (850..1_150).contains(count)), "{tenths:?}");
    }

    proptest! {
        #[test]
        fn a_slot_is_due_within_the_maximum_and_before_the_next_slot(
            schedule: u128,
            slot in 0..i64::from(u32::MAX),
            max in 0..10_000_u64,
            distance in prop::option::of(1..10_000_i64),
        ) {
            let next = distance.map(|distance| slot + distance);
            let jitter = jitter(schedule, slot, Duration::from_millis(max), next);
            prop_assert!(jitter >= 0 && jitter.unsigned_abs() <= max);
            prop_assert!(distance.is_none_or(|distance| jitter < distance));
        }
    }

    #[test]
    fn the_longest_jitter_still_is_an_instant() {
        assert!(jitter(1, 0, Duration::MAX, None) >= 0);
    }
}
