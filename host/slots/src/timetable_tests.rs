use super::*;
use crate::cadence::Kind;

fn at(text: &str) -> UnixMillis {
    UnixMillis(text.parse::<Timestamp>().unwrap().as_millisecond())
}

fn timetable(kind: Kind, value: &str, zone: &str) -> Timetable {
    let cadence = Cadence::parse(kind, value).unwrap();
    Timetable::new(&cadence, zone.parse().unwrap(), UnixMillis(0), Bounds::default())
}

/// The slots after `from` until `until`, each as a reading in `zone` with its offset.
fn shown(timetable: &Timetable, from: &str, until: &str) -> Vec<String> {
    let slots = timetable.slots(just_after(at(from)), just_after(at(until)));
    slots
        .map(|slot| {
            let instant = nearest_timestamp(slot.0);
            let (offset, _) = timetable.zone.stretch(instant);
            format!("{}{offset}", timetable.zone.reading(instant).strftime("%m-%d %H:%M"))
        })
        .collect()
}

const BERLIN: &str = "Europe/Berlin";
const NEW_YORK: &str = "America/New_York";

#[test]
fn a_late_daily_time_fires_on_the_night_before_and_on_the_day_of_the_spring_change() {
    for time in ["23:00", "23:30"] {
        let daily = timetable(Kind::Daily, time, NEW_YORK);
        let slots = shown(&daily, "2026-03-07T12:00Z", "2026-03-10T12:00Z");
        let expected = ["03-07", "03-08", "03-09"]
            .map(|day| format!("{day} {time}{}", if day == "03-07" { "-05" } else { "-04" }));
        assert_eq!(slots, expected);
    }
}

#[test]
fn a_sunday_of_23_hours_keeps_its_weekly_slot() {
    let saturday_at_2330 = "2026-03-28T22:30Z";
    for (value, expected) in [
        ("sunday@00:30", "03-29 00:30+01"),
        ("sunday@23:00", "03-29 23:00+02"),
        ("sunday@23:30", "03-29 23:30+02"),
    ] {
        let weekly = timetable(Kind::Weekly, value, BERLIN);
        assert_eq!(shown(&weekly, saturday_at_2330, "2026-04-04T12:00Z"), [expected]);
    }
}

#[test]
fn what_the_calendar_names_in_a_gap_fires_once_at_its_end() {
    let cases: [(&str, &[&str]); 6] = [
        ("30 2 * * *", &["03-28 02:30+01", "03-29 03:00+02", "03-30 02:30+02"]),
        ("0,15,30 2 29 3 *", &["03-29 03:00+02"]),
        // The end of the gap is named itself.
        ("30 2,3 29 3 *", &["03-29 03:00+02", "03-29 03:30+02"]),
        ("0 2,3 29 3 *", &["03-29 03:00+02"]),
        ("0-58/2 2 29 3 *", &["03-29 03:00+02"]),
        // It follows elapsed time: that hour is not there.
        ("*/2 2 29 3 *", &[]),
    ];
    for (expression, expected) in cases {
        let cron = timetable(Kind::Cron, expression, BERLIN);
        let slots = shown(&cron, "2026-03-27T12:00Z", "2026-03-30T12:00Z");
        assert_eq!(slots, expected, "{expression}");
    }
}

#[test]
fn what_the_calendar_names_in_an_overlap_fires_once_when_first_shown() {
    for (kind, value) in [(Kind::Daily, "01:30"), (Kind::Cron, "30 1 * * *")] {
        let daily = timetable(kind, value, NEW_YORK);
        assert_eq!(
            shown(&daily, "2026-10-31T12:00Z", "2026-11-02T12:00Z"),
            ["11-01 01:30-04", "11-02 01:30-05"]
        );
        // Also if it is asked between the two.
        let next = daily.first_after(at("2026-11-01T05:45Z"));
        assert_eq!(next, Some(Slot(at("2026-11-02T06:30Z"))));
    }
}

#[test]
fn elapsed_time_knows_no_gap_and_no_overlap() {
    let hourly = timetable(Kind::Hourly, "30", NEW_YORK);
    assert_eq!(
        shown(&hourly, "2026-11-01T04:00Z", "2026-11-01T08:00Z"),
        ["11-01 00:30-04", "11-01 01:30-04", "11-01 01:30-05", "11-01 02:30-05"]
    );
    for (zone, from, until) in [
        (NEW_YORK, "2026-01-01T00:00Z", "2028-01-01T00:00Z"),
        ("Africa/Casablanca", "2026-01-01T00:00Z", "2028-01-01T00:00Z"),
        ("Asia/Kolkata", "2026-01-01T00:00Z", "2026-02-01T00:00Z"),
    ] {
        for cadence in [(Kind::Hourly, "30"), (Kind::Cron, "30 * * * *")] {
            let hourly = timetable(cadence.0, cadence.1, zone);
            let hours = at(until).since(at(from)).as_secs() / 3600;
            assert_eq!(hourly.count(at(from), at(until)), hours, "{zone} {cadence:?}");
        }
    }
}

#[test]
fn half_an_hour_of_clock_change_moves_hourly_slots_by_as_much() {
    let hourly = timetable(Kind::Hourly, "45", "Australia/Lord_Howe");
    assert_eq!(
        shown(&hourly, "2026-04-04T13:00Z", "2026-04-04T17:00Z"),
        ["04-05 00:45+11", "04-05 01:45+11", "04-05 01:45+10:30", "04-05 02:45+10:30"]
    );
    let hourly = timetable(Kind::Hourly, "15", "Australia/Lord_Howe");
    assert_eq!(
        shown(&hourly, "2026-10-03T14:00Z", "2026-10-03T17:00Z"),
        ["10-04 01:15+10:30", "10-04 03:15+11"]
    );
    let daily = timetable(Kind::Daily, "02:15", "Australia/Lord_Howe");
    assert_eq!(shown(&daily, "2026-10-03T14:00Z", "2026-10-03T17:00Z"), ["10-04 02:30+11"]);
}

#[test]
fn a_day_that_a_zone_left_out_fires_as_the_next_begins() {
    let cases: [(&str, &[&str]); 4] = [
        ("0 9 * * *", &["12-29 09:00-10", "12-31 00:00+14", "12-31 09:00+14"]),
        ("0,30 9-17 30 12 *", &["12-31 00:00+14"]),
        ("0 9 * * fri", &["12-31 00:00+14"]), // the 30th would have been a Friday
        ("0 * 30 12 *", &[]),
    ];
    for (expression, expected) in cases {
        let cron = timetable(Kind::Cron, expression, "Pacific/Apia");
        let slots = shown(&cron, "2011-12-29T12:00Z", "2011-12-31T08:00Z");
        assert_eq!(slots, expected, "{expression}");
    }
}

#[test]
fn a_midnight_that_is_shown_twice_is_counted_once() {
    // Until 2011 the clock of St John's went back from 00:01 to 23:01.
    let daily = timetable(Kind::Daily, "00:00", "America/St_Johns");
    let (from, until) = ("2010-11-05T12:00Z", "2010-11-10T12:00Z");
    let expected =
        ["11-06 00:00-02:30", "11-07 00:00-02:30", "11-08 00:00-03:30", "11-09 00:00-03:30"];
    let slots = shown(&daily, from, until);
    assert_eq!(slots[..4], expected);
    assert_eq!((slots.len(), daily.count(at(from), at(until))), (5, 5));
}

#[test]
fn intervals_count_from_the_anchor_and_never_from_the_clock() {
    let cadence = Cadence::parse(Kind::Every, "90s").unwrap();
    let anchor = at("2026-01-01T00:00:07Z");
    let every = Timetable::new(&cadence, Zone::UTC, anchor, Bounds::default());
    let second = Slot(at("2026-01-01T00:03:07Z"));
    let cases = [
        ("2025-01-01T00:00:00Z", Slot(at("2026-01-01T00:01:37Z"))),
        ("2026-01-01T00:00:07Z", Slot(at("2026-01-01T00:01:37Z"))),
        ("2026-01-01T00:01:37Z", second),
        ("2026-01-01T00:03:06.999Z", second),
    ];
    for (after, expected) in cases {
        assert_eq!(every.first_after(at(after)), Some(expected), "{after}");
    }
    assert_eq!(every.count(anchor, at("2026-01-01T00:03:07Z")), 1);
    assert_eq!(every.count(anchor, at("2026-01-01T00:03:07.001Z")), 2);
    assert_eq!(every.count(at("2025-01-01T00:00Z"), at("2027-01-01T00:00:07Z")), 350_399);
}

#[test]
fn bounds_are_included_and_end_a_timetable() {
    let cadence = Cadence::parse(Kind::Daily, "09:00").unwrap();
    let bounds = Bounds {
        not_before: Some(at("2026-05-02T09:00Z")),
        not_after: Some(at("2026-05-04T09:00Z")),
    };
    let daily = Timetable::new(&cadence, Zone::UTC, UnixMillis(0), bounds);
    let days = ["2026-05-02T09:00Z", "2026-05-03T09:00Z", "2026-05-04T09:00Z"];
    let slots: Vec<Slot> = daily.slots(UnixMillis(0), UnixMillis(i64::MAX)).collect();
    assert_eq!(slots, days.map(|day| Slot(at(day))));
    assert_eq!(daily.count(UnixMillis(0), UnixMillis(i64::MAX)), 3);
    assert_eq!(daily.next_after(slots[2]), None);
    let once = timetable(Kind::Once, "2026-05-02T09:00:00Z", "UTC");
    assert_eq!(once.first_after(at("2026-05-02T08:59Z")), Some(Slot(at("2026-05-02T09:00Z"))));
    assert_eq!(once.first_after(at("2026-05-02T09:00Z")), None);
    assert_eq!(once.count(UnixMillis(0), UnixMillis(i64::MAX)), 1);
}

#[test]
fn no_instant_is_too_far_to_ask() {
    for (kind, value) in
        [(Kind::Cron, "* * * * *"), (Kind::Daily, "09:00"), (Kind::Every, "290000000years")]
    {
        let timetable = timetable(kind, value, BERLIN);
        for instant in [i64::MIN, -1, i64::MAX / 2, i64::MAX] {
            let next = timetable.first_after(UnixMillis(instant));
            assert!(next.is_none_or(|slot| slot.0.0 > instant), "{value} {instant} {next:?}");
        }
    }
}
