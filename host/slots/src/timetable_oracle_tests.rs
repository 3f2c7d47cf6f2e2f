//! Timetables against an oracle that walks over every minute and knows nothing of patterns, jumps
//! and searches: it looks at what the clock shows in each minute, and remembers how far it has come.

use std::sync::LazyLock;

use jiff::civil::{DateTime, date};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::cadence::Kind;

const MINUTE: i64 = 60_000;

/// What the clock of a zone shows in each minute of a span, in minutes since 1970-01-01T00:00.
struct Clock {
    zone: &'static str,
    from: i64,
    shown: Vec<usize>,
    /// The minutes that do not show the reading after that of the minute before.
    jumps: Vec<usize>,
}

impl Clock {
    fn new(zone: &'static str, from: &str, until: &str) -> Self {
        let parsed: Zone = zone.parse().unwrap();
        let millis = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        let (from, until) = (millis(from) / MINUTE, millis(until) / MINUTE);
        let mut shown = Vec::new();
        for hour in (from..until).step_by(15) {
            // No zone changes its clock within a quarter of an hour, or by less than a minute.
            let instant = Timestamp::from_millisecond(hour * MINUTE).unwrap();
            let reading = parsed.reading(instant);
            let epoch = date(1970, 1, 1).at(0, 0, 0, 0);
            let first = usize::try_from(reading.duration_since(epoch).as_mins()).unwrap();
            shown.extend(first..first + 15);
        }
        let is_jump = |at: &usize| shown[*at] != shown[at - 1] + 1;
        let jumps = (1..shown.len()).filter(is_jump).collect();
        Self { zone, from, shown, jumps }
    }

    fn minute(&self, at: usize) -> UnixMillis {
        UnixMillis((self.from + i64::try_from(at).unwrap()) * MINUTE)
    }

    fn end(&self) -> UnixMillis {
        self.minute(self.shown.len())
    }

    /// The minutes in which a cadence fires that names the readings of `names`.
    fn slots(&self, names: &Names, follows: Follows) -> Vec<Slot> {
        let mut furthest = self.shown[0] - 1;
        let mut slots = Vec::new();
        for (at, &shown) in self.shown.iter().enumerate() {
            let fires = match follows {
                Follows::ElapsedTime => names.contains(shown),
                Follows::Calendar if shown == furthest + 1 => names.contains(shown),
                Follows::Calendar => (furthest + 1..=shown).any(|shown| names.contains(shown)),
            };
            furthest = furthest.max(shown);
            if fires {
                slots.push(Slot(self.minute(at)));
            }
        }
        slots
    }
}

static CLOCKS: LazyLock<Vec<Clock>> = LazyLock::new(|| {
    let two_years = |zone| Clock::new(zone, "2026-01-01T00:00Z", "2028-01-01T00:00Z");
    let mut clocks: Vec<Clock> = [
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kolkata",
        "Africa/Casablanca",
        "Pacific/Apia",
        "UTC",
    ]
    .map(two_years)
    .into();
    clocks.push(Clock::new("Pacific/Apia", "2011-09-01T00:00Z", "2012-06-01T00:00Z"));
    clocks
});

/// Which readings are named: a table for the minutes of a day, and one for the days since 1970.
struct Names {
    times: Vec<bool>,
    days: Vec<bool>,
}

impl Names {
    fn new(time: impl Fn(i64, i64) -> bool, day: impl Fn(&Civil) -> bool) -> Self {
        let days = CALENDAR.iter().map(day).collect();
        let times = (0..24 * 60).map(|minute| time(minute / 60, minute % 60)).collect();
        Self { times, days }
    }

    fn contains(&self, reading: usize) -> bool {
        self.times[reading % (24 * 60)] && self.days[reading / (24 * 60)]
    }
}

/// The dates from 1970 to 2030.
static CALENDAR: LazyLock<Vec<Civil>> = LazyLock::new(|| (0..22_000).map(Civil::new).collect());

/// A date, reckoned from the number of days since 1970.
struct Civil {
    month: i64,
    day: i64,
    weekday: i64,
}

impl Civil {
    fn new(days: i64) -> Self {
        let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let (mut year, mut rest) = (1970, days);
        loop {
            let length = if is_leap(year) { 366 } else { 365 };
            if rest < length {
                break;
            }
            rest -= length;
            year += 1;
        }
        let february = if is_leap(year) { 29 } else { 28 };
        let mut month = 1;
        for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            if rest < length {
                break;
            }
            rest -= length;
            month += 1;
        }
        Self { month, day: rest + 1, weekday: (days + 4) % 7 } // 1970-01-01 was a Thursday
    }
}

fn compare(clock: &Clock, kind: Kind, value: &str, expected: &[Slot]) {
    let cadence = Cadence::parse(kind, value).unwrap();
    let zone = clock.zone.parse().unwrap();
    let timetable = Timetable::new(&cadence, zone, UnixMillis(0), Bounds::default());
    let (from, before) = (clock.minute(0), clock.end());
    let wrong = timetable
        .slots(from, before)
        .map(Some)
        .chain(std::iter::once(None))
        .zip(expected.iter().copied().map(Some).chain(std::iter::once(None)))
        .find(|(found, expected)| found != expected);
    assert_eq!(wrong, None, "{cadence} in {} (found, expected)", clock.zone);
    let count = u64::try_from(expected.len()).unwrap();
    assert_eq!(timetable.count(from, before), count, "{cadence} in {}", clock.zone);
}

#[test]
fn timetables_agree_with_every_minute_of_two_years() {
    use Follows::{Calendar, ElapsedTime};
    let any = |_: &Civil| true;
    let cases: Vec<(Kind, &str, Follows, Names)> = vec![
        (Kind::Daily, "00:00", Calendar, Names::new(|h, m| h == 0 && m == 0, any)),
        (Kind::Daily, "01:30", Calendar, Names::new(|h, m| h == 1 && m == 30, any)),
        (Kind::Daily, "02:15", Calendar, Names::new(|h, m| h == 2 && m == 15, any)),
        (Kind::Daily, "02:30", Calendar, Names::new(|h, m| h == 2 && m == 30, any)),
        (Kind::Daily, "23:00", Calendar, Names::new(|h, m| h == 23 && m == 0, any)),
        (Kind::Daily, "23:30", Calendar, Names::new(|h, m| h == 23 && m == 30, any)),
        (
            Kind::Weekdays,
            "09:00",
            Calendar,
            Names::new(|h, m| h == 9 && m == 0, |date| (1..=5).contains(&date.weekday)),
        ),
        (
            Kind::Weekly,
            "sunday@02:30",
            Calendar,
            Names::new(|h, m| h == 2 && m == 30, |date| date.weekday == 0),
        ),
        (
            Kind::Weekly,
            "fri@09:00",
            Calendar,
            Names::new(|h, m| h == 9 && m == 0, |date| date.weekday == 5),
        ),
        (Kind::Hourly, "0", ElapsedTime, Names::new(|_, m| m == 0, any)),
        (Kind::Hourly, "45", ElapsedTime, Names::new(|_, m| m == 45, any)),
        (
            Kind::Cron,
            "0,30 1-3 * * *",
            Calendar,
            Names::new(|h, m| (1..=3).contains(&h) && m % 30 == 0, any),
        ),
        (
            Kind::Cron,
            "*/30 1-3 * * *",
            ElapsedTime,
            Names::new(|h, m| (1..=3).contains(&h) && m % 30 == 0, any),
        ),
        (Kind::Cron, "15 */2 * * *", ElapsedTime, Names::new(|h, m| h % 2 == 0 && m == 15, any)),
        (
            Kind::Cron,
            "0 12 1,15 * mon",
            Calendar,
            Names::new(
                |h, m| h == 12 && m == 0,
                |date| date.day == 1 || date.day == 15 || date.weekday == 1,
            ),
        ),
        (
            Kind::Cron,
            "0 12 */10 * mon",
            Calendar,
            Names::new(|h, m| h == 12 && m == 0, |date| date.day % 10 == 1 && date.weekday == 1),
        ),
        (
            Kind::Cron,
            "30 2 31 * *",
            Calendar,
            Names::new(|h, m| h == 2 && m == 30, |date| date.day == 31),
        ),
        (
            Kind::Cron,
            "59 23 * jan,dec 6-7",
            Calendar,
            Names::new(
                |h, m| h == 23 && m == 59,
                |date| date.month % 11 == 1 && date.weekday % 6 == 0,
            ),
        ),
        (
            Kind::Cron,
            "@monthly",
            Calendar,
            Names::new(|h, m| h == 0 && m == 0, |date| date.day == 1),
        ),
    ];
    for clock in CLOCKS.iter() {
        for (kind, value, follows, names) in &cases {
            compare(clock, *kind, value, &clock.slots(names, *follows));
        }
    }
}

/// The text of a field, and which numbers it names.
type Field = (String, Vec<i64>);

fn list(low: i64, high: i64) -> impl Strategy<Value = Field> {
    prop::collection::btree_set(low..=high, 1..4).prop_map(|set| {
        let text: Vec<String> = set.iter().map(i64::to_string).collect();
        (text.join(","), set.into_iter().collect())
    })
}

/// Any field; `stars` of `stars` + 3 begin with a star.
fn field(low: i64, high: i64, stars: u32) -> impl Strategy<Value = Field> {
    let every =
        |low, high, step| (low..=high).filter(|number| (number - low) % step == 0).collect();
    let range = (low..=high, low..=high, 1..4_i64).prop_map(move |(one, other, step)| {
        let (start, end) = (one.min(other), one.max(other));
        (format!("{start}-{end}/{step}"), every(start, end, step))
    });
    let star = (1..(high - low) / 2).prop_map(move |step| {
        let text = if step == 1 { "*".to_owned() } else { format!("*/{step}") };
        (text, every(low, high, step))
    });
    prop_oneof![2 => list(low, high), 1 => range, stars => star]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Around the changes of the clock, where all the rules are.
    #[test]
    fn random_expressions_agree_with_every_minute(
        (minute, minutes) in field(0, 59, 2),
        (hour, hours) in prop_oneof![list(0, 4), field(0, 23, 2)],
        (day, days) in field(1, 31, 4),
        (weekday, weekdays) in field(0, 6, 4),
        at in 0..CLOCKS.len(),
        change in any::<prop::sample::Index>(),
    ) {
        let clock = &CLOCKS[at];
        let middle = match clock.jumps.is_empty() {
            true => 100_000,
            false => *change.get(&clock.jumps),
        };
        let span = middle - 2 * 24 * 60..middle + 2 * 24 * 60;
        let near = Clock {
            zone: clock.zone,
            from: clock.from + i64::try_from(span.start).unwrap(),
            shown: clock.shown[span].to_vec(),
            jumps: Vec::new(),
        };
        let either = !day.starts_with('*') && !weekday.starts_with('*');
        let names = Names::new(
            |hour, minute| hours.contains(&hour) && minutes.contains(&minute),
            |date| {
                let (day, weekday) = (days.contains(&date.day), weekdays.contains(&date.weekday));
                if either { day || weekday } else { day && weekday }
            },
        );
        let elapsed = minute.starts_with('*') || hour.starts_with('*');
        let follows = if elapsed { Follows::ElapsedTime } else { Follows::Calendar };
        let expression = format!("{minute} {hour} {day} * {weekday}");
        compare(&near, Kind::Cron, &expression, &near.slots(&names, follows));
    }

    #[test]
    fn any_instant_has_the_slot_that_follows_it(
        offset in 0..2 * 365 * 24 * 60 * MINUTE,
        value in select(vec!["30 2 * * *", "0,30 1-3 * * sun", "*/45 * * * *", "15 1 1 * *"]),
        at in 0..CLOCKS.len() - 1,
    ) {
        let clock = &CLOCKS[at];
        let cadence = Cadence::parse(Kind::Cron, value).unwrap();
        let timetable = Timetable::new(
            &cadence, clock.zone.parse().unwrap(), UnixMillis(0), Bounds::default(),
        );
        let instant = UnixMillis(clock.minute(0).0 + offset);
        let first = timetable.first_after(instant).unwrap();
        prop_assert!(first.0 > instant);
        prop_assert_eq!(timetable.count(just_after(instant), first.0), 0);
        // A later question, up to the slot itself, has the same answer.
        let between = UnixMillis(instant.0.midpoint(first.0.0 - 1));
        prop_assert_eq!(timetable.first_after(between), Some(first));
        prop_assert!(timetable.next_after(first).unwrap() > first);
    }
}

#[test]
fn the_oracle_knows_its_calendar() {
    for (days, reading) in [(0, "1970-01-01"), (11_016, "2000-02-29"), (20_512, "2026-02-28")] {
        let civil = Civil::new(days);
        let date: DateTime = format!("{reading}T00:00").parse().unwrap();
        assert_eq!((civil.month, civil.day), (date.month().into(), date.day().into()));
        assert_eq!(civil.weekday, i64::from(date.weekday().to_sunday_zero_offset()));
    }
}
