use super::*;
use proptest::prelude::*;

fn parse(kind: Kind, value: &str) -> Cadence {
    Cadence::parse(kind, value).unwrap()
}

/// Each kind with a value as typed, as it is kept, in JSON, and for people.
const FORMS: [(Kind, &str, &str, &str, &str); 8] = [
    (
        Kind::Cron,
        " 0  9 * * mon-FRI ",
        "0 9 * * mon-FRI",
        r#"{"kind":"cron","expression":"0 9 * * mon-FRI"}"#,
        "cron 0 9 * * mon-FRI",
    ),
    (Kind::Cron, "@daily", "@daily", r#"{"kind":"cron","expression":"@daily"}"#, "cron @daily"),
    (Kind::Daily, "7:05", "07:05", r#"{"kind":"daily","at":"07:05"}"#, "every day at 07:05"),
    (
        Kind::Weekdays,
        "09:00",
        "09:00",
        r#"{"kind":"weekdays","at":"09:00"}"#,
        "every day from Monday to Friday at 09:00",
    ),
    (
        Kind::Weekly,
        "Sun@23:30",
        "sunday@23:30",
        r#"{"kind":"weekly","day":"sunday","at":"23:30"}"#,
        "every Sunday at 23:30",
    ),
    (Kind::Hourly, "05", "5", r#"{"kind":"hourly","minute":5}"#, "every hour at minute 5"),
    (Kind::Every, "90m", "1h 30m", r#"{"kind":"every","interval":"1h 30m"}"#, "every 1h 30m"),
    (
        Kind::Once,
        "2026-11-01T09:00:00+01:00",
        "2026-11-01T08:00:00.000Z",
        r#"{"kind":"once","at":"2026-11-01T08:00:00.000Z"}"#,
        "once at 2026-11-01T08:00:00.000Z",
    ),
];

#[test]
fn every_form_of_a_cadence_is_read_back() {
    for (kind, typed, kept, json, shown) in FORMS {
        let cadence = parse(kind, typed);
        assert_eq!((cadence.kind(), cadence.value().as_str()), (kind, kept));
        assert_eq!(serde_json::to_string(&cadence).unwrap(), json);
        assert_eq!(cadence.to_string(), shown);
        // The text of a cron expression is the only thing that spaces are taken from.
        assert_eq!(parse(kind, kept), cadence);
        assert_eq!(serde_json::from_str::<Cadence>(json).unwrap(), cadence);
        assert_eq!(Kind::from_word(kind.word()), Some(kind));
    }
    assert_eq!(Kind::from_word("yearly"), None);
}

#[test]
fn impossible_values_are_refused_with_what_to_write() {
    let cases = [
        (Kind::Daily, "24:00", "is not a time of day: write HH:MM, from 00:00 to 23:59"),
        (Kind::Daily, "23:60", "is not a time of day: write HH:MM, from 00:00 to 23:59"),
        (Kind::Daily, "9:5", "is not a time of day: write HH:MM, from 00:00 to 23:59"),
        (Kind::Weekdays, "0900", "is not a time of day: write HH:MM, from 00:00 to 23:59"),
        (Kind::Weekdays, "+9:00", "is not a time of day: write HH:MM, from 00:00 to 23:59"),
        (Kind::Weekly, "sunday", "has no day or no time: write DAY@HH:MM, like sunday@23:30"),
        (Kind::Weekly, "su@10:00", "is not a day: write monday to sunday"),
        (Kind::Weekly, "9@10:00", "is not a day: write monday to sunday"),
        (Kind::Hourly, "60", "is not a minute of the hour: write 0 to 59"),
        (Kind::Hourly, "-1", "is not a minute of the hour: write 0 to 59"),
        (Kind::Every, "90", "is not an interval: write it like 90m, 2h 30m or 7days"),
        (Kind::Every, "0s", "is not an interval of one or more whole milliseconds"),
        (Kind::Every, "1500us", "is not an interval of one or more whole milliseconds"),
        (Kind::Every, "500000000years", "is too long"),
    ];
    for (kind, value, problem) in cases {
        match Cadence::parse(kind, value) {
            Err(CadenceError::BadValue { problem: found, .. }) => assert_eq!(found, problem),
            other => panic!("{value}: {other:?}"),
        }
    }
    for date in
        ["2026-02-30T09:00:00Z", "2026-11-01 09:00:00", "2026-11-01", "1969-01-01T00:00:00Z"]
    {
        let error = Cadence::parse(Kind::Once, date).unwrap_err().to_string();
        assert!(error.ends_with("write it like 2026-11-01T09:00:00+01:00"), "{error}");
        let json = format!(r#"{{"kind":"once","at":"{date}"}}"#);
        assert!(serde_json::from_str::<Cadence>(&json).is_err(), "{json}");
    }
    let error = Cadence::parse(Kind::Cron, "0 25 * * *").unwrap_err().to_string();
    assert!(error.starts_with("cron expression \"0 25 * * *\": \"25\" is out of range"), "{error}");
}

#[test]
fn json_that_is_no_cadence_is_refused() {
    for json in [
        r#"{"kind":"daily"}"#,
        r#"{"kind":"daily","at":"25:00"}"#,
        r#"{"kind":"daily","at":"09:00","day":"monday"}"#,
        r#"{"kind":"hourly","minute":75}"#,
        r#"{"kind":"hourly","minute":300}"#,
        r#"{"kind":"hourly","minute":"5"}"#,
        r#"{"kind":"weekly","day":"9","at":"09:00"}"#,
        r#"{"kind":"every","interval":"0s"}"#,
        r#"{"kind":"cron","expression":"* * * * * *"}"#,
        r#"{"kind":"teleport","at":"09:00"}"#,
    ] {
        assert!(serde_json::from_str::<Cadence>(json).is_err(), "{json}");
    }
}

#[test]
fn what_fires_too_often_is_refused_whichever_kind_it_is() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let cases = [
        (Kind::Every, "1m", minutes(1), true),
        (Kind::Every, "59s", minutes(1), false),
        (Kind::Every, "1s", Duration::from_secs(1), true),
        (Kind::Cron, "* * * * *", minutes(1), true),
        (Kind::Cron, "* * * * *", minutes(5), false),
        (Kind::Cron, "*/5 * * * *", minutes(5), true),
        (Kind::Cron, "*/7 * * * *", minutes(5), false), // minute 56, then minute 0
        (Kind::Cron, "0,1 9 1 1 *", minutes(5), false),
        (Kind::Hourly, "5", minutes(60), true),
        (Kind::Hourly, "5", minutes(61), false),
        (Kind::Daily, "09:00", minutes(24 * 60 + 1), false),
        (Kind::Weekly, "mon@09:00", minutes(7 * 24 * 60), true),
        (Kind::Once, "2026-11-01T09:00:00Z", minutes(7 * 24 * 60), true),
    ];
    for (kind, value, least, accepted) in cases {
        let checked = parse(kind, value).check_interval(least);
        assert_eq!(checked.is_ok(), accepted, "{kind:?} {value} {least:?}");
    }
    assert_eq!(
        parse(Kind::Every, "10s").check_interval(minutes(1)).unwrap_err().to_string(),
        "every 10s is too often: it may fire 10s apart, and at least 1m are required"
    );
}

proptest! {
    #[test]
    fn any_interval_survives_its_text_form(millis in 1..i64::MAX / 2) {
        let shown = humantime::format_duration(Duration::from_millis(millis.unsigned_abs()));
        let cadence = parse(Kind::Every, &shown.to_string());
        let Cadence::Every { interval } = &cadence else { panic!("{cadence}") };
        prop_assert_eq!(interval.millis(), millis);
        prop_assert_eq!(parse(Kind::Every, &cadence.value()), cadence);
    }

    #[test]
    fn any_text_is_read_or_refused(value in "[ -~]{0,24}", kind in 0..Kind::ALL.len()) {
        let kind = Kind::ALL[kind];
        if let Ok(cadence) = Cadence::parse(kind, &value) {
            prop_assert_eq!(parse(kind, &cadence.value()), cadence);
        }
    }
}
