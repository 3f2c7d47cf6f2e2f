use super::*;
use crate::cadence::{Cadence, Kind};
use crate::timetable::Bounds;
use proptest::prelude::*;

const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;
const GRACE: Duration = Duration::from_secs(10);

fn slot(at: i64) -> Slot {
    Slot(UnixMillis(at))
}

fn timetable(kind: Kind, value: &str) -> Timetable {
    let cadence = Cadence::parse(kind, value).unwrap();
    Timetable::new(&cadence, "Europe/Berlin".parse().unwrap(), UnixMillis(0), Bounds::default())
}

fn hourly() -> Timetable {
    timetable(Kind::Every, "1h")
}

fn reckoned(policy: Policy, stored: i64, now: i64) -> Reckoning {
    let catch_up = CatchUp { policy, ..CatchUp::default() };
    reckon(&hourly(), slot(stored), UnixMillis(now), GRACE, catch_up)
}

fn missed(first: i64, last: i64, count: u64, reason: Reason) -> Missed {
    Missed { first: slot(first), last: slot(last), count, reason }
}

#[test]
fn a_slot_that_is_on_time_runs_whatever_the_policy_is() {
    for policy in [Policy::Skip, Policy::Latest, Policy::All] {
        for delay in [0, 10 * SECOND] {
            let expected =
                Reckoning { run: vec![slot(HOUR)], missed: vec![], next: Some(slot(2 * HOUR)) };
            assert_eq!(reckoned(policy, HOUR, HOUR + delay), expected, "{policy:?} {delay}");
        }
        let early = Reckoning { next: Some(slot(HOUR)), ..Reckoning::default() };
        assert_eq!(reckoned(policy, HOUR, HOUR - 1), early, "{policy:?}");
    }
}

#[test]
fn late_slots_are_run_or_recorded_as_the_policy_says() {
    // Five slots have come; the newest is late by half an hour.
    let now = 5 * HOUR + HOUR / 2;
    let cases = [
        (Policy::Skip, vec![], vec![missed(HOUR, 5 * HOUR, 5, Reason::Policy)]),
        (Policy::Latest, vec![slot(5 * HOUR)], vec![missed(HOUR, 4 * HOUR, 4, Reason::Policy)]),
        (Policy::All, (1..=5).map(|hour| slot(hour * HOUR)).collect(), vec![]),
    ];
    for (policy, run, missed) in cases {
        let expected = Reckoning { run, missed, next: Some(slot(6 * HOUR)) };
        assert_eq!(reckoned(policy, HOUR, now), expected, "{policy:?}");
    }
    // The newest is on time.
    let cases = [
        (Policy::Skip, vec![slot(2 * HOUR)], vec![missed(HOUR, HOUR, 1, Reason::Policy)]),
        (Policy::Latest, vec![slot(2 * HOUR)], vec![missed(HOUR, HOUR, 1, Reason::Policy)]),
        (Policy::All, vec![slot(HOUR), slot(2 * HOUR)], vec![]),
    ];
    for (policy, run, missed) in cases {
        let expected = Reckoning { run, missed, next: Some(slot(3 * HOUR)) };
        assert_eq!(reckoned(policy, HOUR, 2 * HOUR), expected, "{policy:?}");
    }
}

#[test]
fn what_lies_outside_of_window_and_limit_is_recorded_once_with_its_number() {
    let now = 10 * DAY + 1;
    let reckoning = reckoned(Policy::All, HOUR, now);
    assert_eq!(
        reckoning.run,
        (0..24).map(|hour| slot(9 * DAY + (hour + 1) * HOUR)).collect::<Vec<_>>()
    );
    assert_eq!(reckoning.missed, [missed(HOUR, 9 * DAY, 9 * 24, Reason::Window)]);

    let catch_up = CatchUp { policy: Policy::All, limit: 2, ..CatchUp::default() };
    let reckoning = reckon(&hourly(), slot(HOUR), UnixMillis(now), GRACE, catch_up);
    assert_eq!(reckoning.run, [slot(10 * DAY - HOUR), slot(10 * DAY)]);
    assert_eq!(
        reckoning.missed,
        [
            missed(HOUR, 9 * DAY, 9 * 24, Reason::Window),
            missed(9 * DAY + HOUR, 10 * DAY - 2 * HOUR, 22, Reason::Limit),
        ]
    );

    let none = CatchUp { policy: Policy::Latest, window: Duration::ZERO, limit: 0 };
    let reckoning = reckon(&hourly(), slot(HOUR), UnixMillis(DAY), GRACE, none);
    assert_eq!(reckoning.run, [slot(DAY)], "a slot on time is within any window and limit");
    assert_eq!(reckoning.missed, [missed(HOUR, DAY - HOUR, 23, Reason::Window)]);
}

#[test]
fn a_year_of_seconds_costs_no_more_than_a_few_rows() {
    let seconds = timetable(Kind::Every, "1s");
    let now = UnixMillis(365 * DAY);
    let catch_up = CatchUp { policy: Policy::All, ..CatchUp::default() };
    let reckoning = reckon(&seconds, slot(SECOND), now, GRACE, catch_up);
    assert_eq!(reckoning.run.len(), 100);
    assert_eq!(
        reckoning.missed,
        [
            missed(SECOND, 364 * DAY - SECOND, 364 * 86_400 - 1, Reason::Window),
            missed(364 * DAY, 365 * DAY - 100 * SECOND, 86_400 - 99, Reason::Limit),
        ]
    );
    assert_eq!(reckoning.next, Some(slot(365 * DAY + SECOND)));
    // Ten years of minutes, with all the changes of a clock.
    let minutes = timetable(Kind::Cron, "* * * * *");
    let now = UnixMillis(3652 * DAY + 1);
    let reckoning = reckon(&minutes, slot(0), now, GRACE, CatchUp::default());
    assert_eq!(reckoning.run, [slot(3652 * DAY)]);
    let counts: Vec<u64> = reckoning.missed.iter().map(|missed| missed.count).collect();
    assert_eq!(counts, [3651 * 1440 + 1, 1439]);
}

#[test]
fn a_one_shot_obeys_the_policy_and_has_no_next_slot() {
    let once = timetable(Kind::Once, "1970-01-01T01:00:00Z");
    for (policy, late, run, count) in [
        (Policy::Skip, 5 * SECOND, 1, 0),
        (Policy::Skip, HOUR, 0, 1),
        (Policy::Latest, HOUR, 1, 0),
        (Policy::All, HOUR, 1, 0),
        (Policy::All, 2 * DAY, 0, 1),
    ] {
        let catch_up = CatchUp { policy, ..CatchUp::default() };
        let reckoning = reckon(&once, slot(HOUR), UnixMillis(HOUR + late), GRACE, catch_up);
        let found = (reckoning.run.len(), reckoning.missed.len(), reckoning.next);
        assert_eq!(found, (run, count, None), "{policy:?} {late}");
    }
}

#[test]
fn a_stored_slot_that_the_timetable_no_longer_has_is_still_a_slot() {
    let stored = HOUR + 1;
    let reckoning = reckoned(Policy::Latest, stored, stored);
    assert_eq!((reckoning.run, reckoning.next), (vec![slot(stored)], Some(slot(2 * HOUR))));
    let reckoning = reckoned(Policy::Latest, stored, 2 * HOUR);
    assert_eq!(reckoning.run, [slot(2 * HOUR)]);
    assert_eq!(reckoning.missed, [missed(stored, stored, 1, Reason::Policy)]);
}

#[test]
fn an_edit_or_a_resume_reckons_from_then_and_floods_nothing() {
    let resumed_at = UnixMillis(100 * DAY + 1);
    let next = hourly().first_after(resumed_at).unwrap();
    assert_eq!(next, slot(100 * DAY + HOUR));
    let reckoning = reckon(&hourly(), next, next.0, GRACE, CatchUp::default());
    assert_eq!((reckoning.run.len(), reckoning.missed.len()), (1, 0));
}

proptest! {
    /// Nothing is lost, nothing comes twice, and the next slot is the one after all of these.
    #[test]
    fn every_slot_is_run_or_recorded(
        policy in prop::sample::select(vec![Policy::Skip, Policy::Latest, Policy::All]),
        value in prop::sample::select(vec!["*/7 * * * *", "30 2 * * *", "0,1 9 * * mon", "0 * 1 * *"]),
        window in 0..3 * 86_400_u64,
        limit in 0..40_u64,
        grace in 0..7200_u64,
        // Around the spring change of Berlin in 2026.
        start in 1_774_500_000_000..1_774_800_000_000_i64,
        away in 0..5 * DAY,
    ) {
        let timetable = timetable(Kind::Cron, value);
        let stored = timetable.first_after(UnixMillis(start)).unwrap();
        let now = UnixMillis(stored.0.0 + away);
        let grace = Duration::from_secs(grace);
        let catch_up = CatchUp { policy, window: Duration::from_secs(window), limit };
        let reckoning = reckon(&timetable, stored, now, grace, catch_up);

        let all: Vec<Slot> = timetable.slots(stored.0, UnixMillis(now.0 + 1)).collect();
        let mut accounted = reckoning.run.clone();
        for missed in &reckoning.missed {
            let these: Vec<Slot> =
                timetable.slots(missed.first.0, UnixMillis(missed.last.0.0 + 1)).collect();
            prop_assert_eq!(these.len() as u64, missed.count);
            prop_assert_eq!(these.last(), Some(&missed.last));
            accounted.extend(these);
        }
        prop_assert!(reckoning.run.is_sorted());
        accounted.sort();
        prop_assert_eq!(&accounted, &all);
        prop_assert_eq!(reckoning.next, timetable.next_after(all[all.len() - 1]));

        prop_assert!(reckoning.run.len() as u64 <= limit.max(1));
        let on_time = |slot: &Slot| now.since(slot.0) <= grace;
        let late = reckoning.run.iter().filter(|slot| !on_time(slot)).count();
        prop_assert!(reckoning.run.iter().all(|slot| on_time(slot) || now.since(slot.0) <= catch_up.window));
        match policy {
            Policy::Skip => prop_assert_eq!(late, 0),
            Policy::Latest => prop_assert!(late == 0 || reckoning.run.len() == 1),
            Policy::All => {}
        }
    }
}

#[test]
fn what_has_a_row_is_left_out_of_the_missed_slots_and_the_rest_stays() {
    let policy = Reason::Policy;
    let of = |first, last, count| missed(first * HOUR, last * HOUR, count, policy);
    let row = |first, last| (slot(first * HOUR), slot(last * HOUR));
    let cases = [
        ("nothing", vec![], vec![of(2, 6, 5)]),
        ("the first", vec![row(2, 2)], vec![of(3, 6, 4)]),
        ("the last", vec![row(6, 6)], vec![of(2, 5, 4)]),
        ("one between", vec![row(4, 4)], vec![of(2, 3, 2), of(5, 6, 2)]),
        ("some between", vec![row(3, 3), row(4, 5)], vec![of(2, 2, 1), of(6, 6, 1)]),
        ("all, and more", vec![row(1, 3), row(4, 9)], vec![]),
        ("others", vec![row(1, 1), row(7, 8)], vec![of(2, 6, 5)]),
    ];
    for (case, taken, expected) in cases {
        assert_eq!(of(2, 6, 5).without(&hourly(), &taken), expected, "{case}");
    }
}
