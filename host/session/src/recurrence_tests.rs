use std::collections::HashMap;

use proptest::prelude::*;
use twobox_shared::content::Failure;
use twobox_shared::ids::SystemIds;
use twobox_shared::outbox::{Ack, AckStatus};
use twobox_shared::seq::Seq;

use super::*;

fn at(text: &str) -> UnixMillis {
    UnixMillis::parse(text).unwrap()
}

fn row(recurrence: &str, zone: &str, nominal: &str) -> Occurrence {
    Occurrence {
        id: occurrence_id("task-1", 2, at(nominal)),
        seq: Seq(4),
        series: "task-1".into(),
        status: Status::Pending,
        tries: 0,
        process_after: Some(at(nominal)),
        recurrence: Some(recurrence.into()),
        zone: Some(zone.into()),
        nominal: Some(at(nominal)),
        generation: 2,
    }
}

fn completed(row: &Occurrence) -> Vec<Action> {
    vec![Action::Complete { message: row.id.clone() }]
}

fn acked(row: &Occurrence, when: &str) -> Acks {
    let changed_at = Some(at(when));
    let ack = Ack { status: AckStatus::Completed, changed_at, ..Ack::default() };
    HashMap::from([(row.id.clone(), ack)])
}

#[test]
fn the_next_time_follows_from_the_nominal_one_and_what_was_missed_collapses_into_one() {
    let cases = [
        // recurrence, zone, nominal time, answered, noticed, next
        (
            "in time",
            ("daily 09:00", "UTC"),
            ["2026-03-02T09:00:00Z", "2026-03-02T09:01:00Z", "2026-03-02T09:01:00Z"],
            "2026-03-03T09:00:00Z",
        ),
        (
            "late by two days, because there was no host: it stood for what was missed",
            ("daily 09:00", "UTC"),
            ["2026-03-02T09:00:00Z", "2026-03-04T10:00:00Z", "2026-03-04T10:00:00Z"],
            "2026-03-05T09:00:00Z",
        ),
        (
            "answered, and then there was no host for two days",
            ("daily 09:00", "UTC"),
            ["2026-03-02T09:00:00Z", "2026-03-02T09:01:00Z", "2026-03-04T10:00:00Z"],
            "2026-03-04T09:00:00Z",
        ),
        (
            "at work for longer than the interval",
            ("0 * * * *", "UTC"),
            ["2026-03-02T09:00:00Z", "2026-03-02T11:05:00Z", "2026-03-02T11:05:00Z"],
            "2026-03-02T12:00:00Z",
        ),
        (
            "intervals count from the nominal time",
            ("every 90m", "UTC"),
            ["2026-03-02T09:00:00Z", "2026-03-02T09:04:11Z", "2026-03-02T09:04:11Z"],
            "2026-03-02T10:30:00Z",
        ),
        (
            "intervals that were missed",
            ("every 90m", "UTC"),
            ["2026-03-02T09:00:00Z", "2026-03-02T09:04:11Z", "2026-03-03T09:01:00Z"],
            "2026-03-03T09:00:00Z",
        ),
        (
            "an hour is lost in its zone",
            ("30 2 * * *", "Europe/Berlin"),
            ["2026-03-28T01:30:00Z", "2026-03-28T01:31:00Z", "2026-03-28T01:31:00Z"],
            "2026-03-29T01:00:00Z",
        ),
        (
            "the clock was set back",
            ("daily 09:00", "UTC"),
            ["2026-03-02T09:00:00Z", "2026-03-01T03:00:00Z", "2026-03-01T03:00:00Z"],
            "2026-03-03T09:00:00Z",
        ),
        (
            "the container says that it answered before it was asked",
            ("daily 09:00", "UTC"),
            ["2026-03-02T09:00:00Z", "1970-01-01T00:00:00Z", "2026-03-02T09:01:00Z"],
            "2026-03-03T09:00:00Z",
        ),
        (
            "the container says that it answered in the future",
            ("daily 09:00", "UTC"),
            ["2026-03-02T09:00:00Z", "2099-01-01T00:00:00Z", "2026-03-02T09:01:00Z"],
            "2026-03-03T09:00:00Z",
        ),
        (
            "it was due when the epoch began, and each minute since",
            ("* * * * *", "Europe/London"),
            ["1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z", "2026-03-02T09:01:59Z"],
            "2026-03-02T09:01:00Z",
        ),
    ];
    for (case, (recurrence, zone), [nominal, answered, now], expected) in cases {
        let row = row(recurrence, zone, nominal);
        let acks = acked(&row, answered);
        let [Succession { before, next: Ok(next) }] =
            &successions(std::slice::from_ref(&row), &completed(&row), &acks, at(now))[..]
        else {
            panic!("{case}");
        };
        assert_eq!((before, next.nominal), (&row.id, at(expected)), "{case}: {next:?}");
        assert_eq!(next.id, occurrence_id("task-1", 2, at(expected)), "{case}");
        assert_eq!((&next.recurrence, &next.zone), (&row.recurrence, &row.zone), "{case}");
        assert!(!next.paused && next.generation == 2, "{case}");
    }
}

#[test]
fn only_an_end_has_a_successor_and_failing_is_one() {
    let now = at("2026-03-02T09:01:00Z");
    let pending = row("daily 09:00", "UTC", "2026-03-02T09:00:00Z");
    let message = pending.id.clone();
    let failure = Failure::permanent("auth_failed", "");
    let charge = Action::Charge {
        message: message.clone(),
        attempt: 0,
        forgiven: false,
        process_after: None,
    };
    let fail = Action::Fail { message: message.clone(), attempt: 4, failure };
    let of = |status| Occurrence { status, ..pending.clone() };
    let cases = [
        ("nothing happened", pending.clone(), vec![], 0),
        ("it is tried again", pending.clone(), vec![charge], 0),
        ("it is answered", pending.clone(), completed(&pending), 1),
        ("it failed", pending.clone(), vec![fail], 1),
        ("it failed before", of(Status::Failed), vec![], 1),
        ("it was answered before", of(Status::Completed), vec![], 1),
        ("it is paused", of(Status::Paused), vec![], 0),
        ("it is paused and was answered", of(Status::Paused), completed(&pending), 1),
        ("nobody wants it", of(Status::Cancelled), vec![], 0),
    ];
    for (case, row, actions, expected) in cases {
        let is_paused = row.status == Status::Paused;
        let found = successions(&[row], &actions, &Acks::new(), now);
        assert_eq!(found.len(), expected, "{case}");
        let follows = |it: &Succession| it.next.as_ref().is_ok_and(|it| it.paused == is_paused);
        assert!(found.iter().all(follows), "{case}: {found:?}");
    }
}

#[test]
fn a_recurrence_that_nobody_can_read_ends_its_series_with_the_reason() {
    for (recurrence, zone, reason) in [
        ("every now and then", "UTC", "now and then"),
        ("daily 09:00", "Europe/Belrin", "Europe/Berlin"),
        ("0 9 31 2 *", "UTC", "0 9 31 2 *"),
    ] {
        let row = row(recurrence, zone, "2026-03-02T09:00:00Z");
        let found = successions(
            std::slice::from_ref(&row),
            &completed(&row),
            &Acks::new(),
            at("2026-03-02T09:01:00Z"),
        );
        let [Succession { next: Err(told), .. }] = &found[..] else { panic!("{found:?}") };
        assert!(told.contains(reason), "{told}");
    }
}

#[test]
fn a_row_of_another_implementation_goes_on_from_now_in_utc() {
    let row = Occurrence {
        zone: None,
        nominal: None,
        series: "x".repeat(255),
        ..row("0 9 * * *", "UTC", "2026-03-02T09:00:00Z")
    };
    let now = at("2026-03-02T12:00:00Z");
    let found = successions(
        std::slice::from_ref(&row),
        &completed(&row),
        &acked(&row, "1999-01-01T00:00:00Z"),
        now,
    );
    let Ok(next) = &found[0].next else { panic!("{found:?}") };
    assert_eq!(next.nominal, at("2026-03-03T09:00:00Z"));
    assert!(belongs(next.id.as_str(), &row) && next.id.as_str().len() < 255);
}

#[test]
fn an_id_reaches_its_own_series_and_no_other() {
    let session = SessionId::generate(&SystemIds);
    let series = |row: &str| series_id(session, &MessageId::parse(row).unwrap());
    let of = |series: &str| Occurrence {
        series: series.to_owned(),
        ..row("daily 09:00", "UTC", "2026-03-02T09:00:00Z")
    };
    let (ours, theirs) = (series("r1"), series("r2"));
    assert_eq!(ours, series("r1"));
    assert_ne!(ours, theirs);
    assert_ne!(ours, series_id(SessionId::generate(&SystemIds), &MessageId::parse("r1").unwrap()));
    let long_ago = occurrence_id(&ours, 0, at("2020-01-01T00:00:00Z")).to_string();
    let (plain, at_sign) = (of(&ours), of("ann@example"));
    for (id, row, expected) in [
        (ours.as_str(), &plain, true),
        (&long_ago, &plain, true),
        (plain.id.as_str(), &plain, true),
        (&format!("{long_ago}~0123456789abcdef"), &plain, true),
        (&theirs, &plain, false),
        (occurrence_id(&theirs, 0, UnixMillis(0)).as_str(), &plain, false),
        (&format!("{ours}0@0.0"), &plain, false),
        (&format!("{ours}@0.0 or everything"), &plain, false),
        ("", &plain, false),
        ("@0.0", &plain, false),
        ("ann@example", &at_sign, true),
        (occurrence_id("ann@example", 3, UnixMillis(7)).as_str(), &at_sign, true),
        ("ann@0.0", &at_sign, false),
    ] {
        assert_eq!(belongs(id, row), expected, "{id} of {}", row.series);
    }
}

#[test]
fn what_is_written_is_read_again() {
    let cases = [
        ("0 9 * * 1-5", "0 9 * * 1-5"),
        ("cron 0 9 * * 1-5", "0 9 * * 1-5"),
        (" daily  9:00 ", "daily 09:00"),
        ("weekly sun@23:30", "weekly sunday@23:30"),
        ("every 90m", "every 1h 30m"),
        ("hourly 15", "hourly 15"),
    ];
    for (given, expected) in cases {
        let read = Recurrence::parse(given, Zone::UTC).unwrap();
        assert_eq!(read.text(), expected, "{given}");
        assert_eq!(Recurrence::parse(expected, Zone::UTC).unwrap(), read, "{given}");
    }
    let long = "9".repeat(257);
    for bad in ["", "daily", "sometimes", "once 2026-01-01T00:00:00Z", "every 0s", &long] {
        assert!(Recurrence::parse(bad, Zone::UTC).is_err(), "{bad:?} was accepted");
    }
}

proptest! {
    /// Whatever the clock, the container and the host's absence do, nominal times strictly increase,
    /// and nothing is due that is not the newest.
    #[test]
    fn nominal_times_grow_and_there_is_no_flood(
        cadence in prop::sample::select(vec!["every 1m", "*/7 * * * *", "daily 02:30", "hourly 5"]),
        nominal in 1_770_000_000_i64..1_800_000_000,
        answered in 1_770_000_000_i64..1_800_000_000,
        now in 1_770_000_000_i64..1_800_000_000,
    ) {
        let [nominal, answered, now] = [nominal, answered, now].map(|s| UnixMillis(s * 1000));
        let row = Occurrence {
            nominal: Some(nominal),
            ..row(cadence, "Europe/Berlin", "2026-03-02T09:00:00Z")
        };
        let next = next_of(&row, answered, now).unwrap();
        prop_assert!(next.nominal > nominal);
        let recurrence = Recurrence::of(&row).unwrap().unwrap();
        let further = recurrence.first_after(nominal, next.nominal).unwrap();
        prop_assert!(further > now, "{} and {} are both due", next.nominal, further);
    }
}
