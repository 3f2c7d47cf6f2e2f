use super::tests::hourly;
use super::*;

#[test]
fn a_firing_waits_for_chat_a_pause_at_a_time_and_ten_minutes_in_all() {
    const SECOND: i64 = 1000;
    const PAUSE: Duration = Duration::from_secs(30);
    const MINUTE: i64 = 60 * SECOND;
    let cases = [
        ("nobody chats", 0, 0, 0, false),
        ("somebody does", 0, 1, 0, true),
        ("many do", 0, 7, 30 * SECOND, true),
        ("it was put off for nearly as long as it may be", 0, 1, 10 * MINUTE - 1, true),
        ("it was put off for so long", 0, 1, 10 * MINUTE, false),
        ("jitter is no part of that", MINUTE, 1, 11 * MINUTE - 1, true),
        ("and it has an end too", MINUTE, 1, 11 * MINUTE, false),
        ("it was missed long ago", 0, 1, 300 * MINUTE, false),
    ];
    for (case, jitter_ms, chat_turns, late, expected) in cases {
        let mut schedule = hourly(missed::Policy::Latest, None);
        schedule.definition.jitter_ms = jitter_ms;
        let slot = schedule.next.unwrap().slot;
        let now = UnixMillis(slot.0 + late);
        let end = slot.0 + jitter_ms + 10 * MINUTE;
        let until = expected.then_some(UnixMillis((now.0 + 30 * SECOND).min(end)));
        // When it was put off before, that says nothing about how long it may be.
        for due in [slot, now] {
            let next = Next { slot, due };
            assert_eq!(put_off(&schedule, next, chat_turns, PAUSE, now), until, "{case}");
        }
    }
}
