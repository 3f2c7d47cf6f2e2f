//! Time zones by their IANA names, and how their clocks map to instants.
//!
//! The rules of all zones are built in: hosts of the same build agree about every slot, whatever is
//! installed on their machines. The zone of the host plays no part.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};
use twobox_shared::time::UnixMillis;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

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
        Some(name) => format!(": is it {name}?"),
        None => ": write an IANA name such as Europe/Berlin".to_owned(),
    }
}

impl FromStr for Zone {
    type Err = UnknownZone;

    /// Reads an IANA name, in whichever case.
    fn from_str(name: &str) -> Result<Self, UnknownZone> {
        match ZONES.get(name) {
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
    let names = ZONES.available().map(|name| (likeness(name.as_str()), name));
    let (likeness, name) = names.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (likeness >= ALIKE).then(|| name.to_string())
}

impl Zone {
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
}
