//! Collisions: schedules of one agent group that come at the same time and together want many turns.
//! A person is warned when a schedule is saved.
//!
//! Nominal times count, without jitter: whether two schedules collide must not change with their ids.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use twobox_shared::time::UnixMillis;

use super::Slot;
use super::timetable::Timetable;

/// Slots meet if they are less than this apart.
pub const WINDOW: Duration = Duration::from_secs(5 * 60);

/// So many turns, on average, of the schedules that meet are worth a warning.
pub const TURNS: u64 = 3000;

/// How far ahead slots are looked at. A week shows what meets day by day and week by week, but not
/// each meeting of what comes once in a month or a year.
pub const HORIZON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Slots of one schedule in the same minute count once, so that this bounds the work.
const GRAIN: Duration = Duration::from_secs(60);

/// A schedule of the agent group.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// Its name, which no other of them has.
    pub name: &'a str,
    /// Its slots.
    pub timetable: &'a Timetable,
    /// How many turns its runs take on average.
    pub average_turns: u64,
}

/// What a person is warned of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Warning {
    /// These schedules meet, again and again or once.
    CronCollision {
        /// Their names, in order.
        overlapping_schedules: Vec<String>,
        /// At which minutes of the hour, on the clock of the schedule that comes first then.
        overlapping_minutes: BTreeSet<i8>,
        /// How many turns they take together on average.
        estimated_concurrent_steps: u64,
        /// When they meet first.
        first_at: UnixMillis,
    },
}

/// The collisions among `entries` in the time of [`HORIZON`] from `from` on: one warning for each
/// group of schedules that meet and that are not all part of a larger one.
///
/// The work grows with the number of slots times that of schedules, however many of them meet.
pub fn warnings(entries: &[Entry<'_>], from: UnixMillis) -> Vec<Warning> {
    // Most often all of them together do not want that many.
    if turns(entries, &(0..entries.len()).collect()) < TURNS {
        return Vec::new();
    }
    let slots = slots(entries, from);
    let mut groups: BTreeMap<BTreeSet<usize>, Meetings> = BTreeMap::new();
    let mut window = Window::default();
    let mut following = slots.iter().peekable();
    for (slot, first) in &slots {
        while let Some((_, entry)) = following.next_if(|(other, _)| other.0.since(slot.0) < WINDOW)
        {
            window.enter(*entry);
        }
        if window.group.len() > 1 && turns(entries, &window.group) >= TURNS {
            let minute = entries[*first].timetable.minute_of_hour(*slot);
            match groups.get_mut(&window.group) {
                Some(meetings) => {
                    meetings.minutes.insert(minute);
                }
                None => {
                    let meetings = Meetings { first_at: slot.0, minutes: [minute].into() };
                    groups.insert(window.group.clone(), meetings);
                }
            }
        }
        window.leave(*first);
    }
    let is_part = |group: &BTreeSet<usize>| {
        groups.keys().any(|other| other.len() > group.len() && other.is_superset(group))
    };
    groups
        .iter()
        .filter(|(group, _)| !is_part(group))
        .map(|(group, meetings)| warning(entries, group, meetings))
        .collect()
}

#[derive(Debug)]
struct Meetings {
    first_at: UnixMillis,
    minutes: BTreeSet<i8>,
}

/// The entries of the slots from one on that are less than [`WINDOW`] after it.
#[derive(Debug, Default)]
struct Window {
    group: BTreeSet<usize>,
    /// How many slots of each of them there are.
    slots: BTreeMap<usize, usize>,
}

impl Window {
    fn enter(&mut self, entry: usize) {
        *self.slots.entry(entry).or_default() += 1;
        self.group.insert(entry);
    }

    fn leave(&mut self, entry: usize) {
        if let Some(count) = self.slots.get_mut(&entry) {
            *count -= 1;
            if *count == 0 {
                self.slots.remove(&entry);
                self.group.remove(&entry);
            }
        }
    }
}

/// The slots of all entries in order of time, one for each minute of an entry, each with the index
/// of its entry.
fn slots(entries: &[Entry<'_>], from: UnixMillis) -> Vec<(Slot, usize)> {
    let until = from + HORIZON;
    let of_entry = |(at, entry): (usize, &Entry<'_>)| {
        let timetable = entry.timetable;
        let next = |slot: &Slot| timetable.first_after(slot.0 + GRAIN - Duration::from_millis(1));
        std::iter::successors(timetable.first_after(from), next)
            .take_while(|slot| slot.0 < until)
            .map(|slot| (slot, at))
            .collect::<Vec<_>>()
    };
    let mut slots: Vec<(Slot, usize)> = entries.iter().enumerate().flat_map(of_entry).collect();
    slots.sort_unstable();
    slots
}

fn turns(entries: &[Entry<'_>], group: &BTreeSet<usize>) -> u64 {
    group.iter().fold(0, |sum, at| sum.saturating_add(entries[*at].average_turns))
}

fn warning(entries: &[Entry<'_>], group: &BTreeSet<usize>, meetings: &Meetings) -> Warning {
    let mut names: Vec<String> = group.iter().map(|at| entries[*at].name.to_owned()).collect();
    names.sort_unstable();
    Warning::CronCollision {
        overlapping_schedules: names,
        overlapping_minutes: meetings.minutes.clone(),
        estimated_concurrent_steps: turns(entries, group),
        first_at: meetings.first_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::cadence::{Cadence, Kind};
    use crate::schedule::timetable::Bounds;

    fn timetable(kind: Kind, value: &str, zone: &str) -> Timetable {
        let cadence = Cadence::parse(kind, value).unwrap();
        Timetable::new(&cadence, zone.parse().unwrap(), UnixMillis(0), Bounds::default())
    }

    /// 2026-11-02T00:00Z, a Monday.
    const MONDAY: UnixMillis = UnixMillis(1_793_577_600_000);

    fn warn(schedules: &[(&str, Kind, &str, &str, u64)]) -> Vec<Warning> {
        let timetables: Vec<Timetable> = schedules
            .iter()
            .map(|(_, kind, value, zone, _)| timetable(*kind, value, zone))
            .collect();
        let entries: Vec<Entry<'_>> = schedules
            .iter()
            .zip(&timetables)
            .map(|((name, .., turns), timetable)| Entry { name, timetable, average_turns: *turns })
            .collect();
        warnings(&entries, MONDAY)
    }

    fn names(warnings: &[Warning]) -> Vec<String> {
        warnings
            .iter()
            .map(|Warning::CronCollision { overlapping_schedules, .. }| {
                overlapping_schedules.join("+")
            })
            .collect()
    }

    #[test]
    fn a_warning_says_who_meets_when_and_with_how_many_turns() {
        let warnings = warn(&[
            ("report", Kind::Daily, "09:30", "Asia/Kolkata", 2000),
            ("digest", Kind::Cron, "2 4 * * 1-5", "UTC", 1000),
        ]);
        let json = serde_json::to_value(&warnings).unwrap();
        assert_eq!(
            json,
            serde_json::json!([{
                "type": "cron_collision",
                "overlapping_schedules": ["digest", "report"],
                "overlapping_minutes": [30],
                "estimated_concurrent_steps": 3000,
                "first_at": "2026-11-02T04:00:00.000Z",
            }])
        );
    }

    #[test]
    fn only_those_collide_that_come_within_five_minutes_and_want_many_turns() {
        let daily = |name, value, turns| (name, Kind::Daily, value, "UTC", turns);
        let cases = [
            ("at once", vec![daily("a", "09:00", 1500), daily("b", "09:00", 1500)], vec!["a+b"]),
            ("near", vec![daily("a", "08:58", 1500), daily("b", "09:02", 1500)], vec!["a+b"]),
            (
                "around midnight",
                vec![daily("a", "23:58", 1500), daily("b", "00:01", 1500)],
                vec!["a+b"],
            ),
            ("apart", vec![daily("a", "09:00", 1500), daily("b", "09:05", 1500)], vec![]),
            ("few turns", vec![daily("a", "09:00", 1500), daily("b", "09:00", 1499)], vec![]),
            ("one alone", vec![daily("a", "09:00", 9000)], vec![]),
            (
                "the largest group",
                vec![
                    daily("a", "09:00", 3000),
                    daily("b", "09:01", 3000),
                    daily("c", "09:02", 3000),
                ],
                vec!["a+b+c"],
            ),
            (
                "a chain is two groups",
                vec![
                    daily("a", "09:00", 3000),
                    daily("b", "09:04", 3000),
                    daily("c", "09:08", 3000),
                ],
                vec!["a+b", "b+c"],
            ),
            (
                "other days",
                vec![
                    ("a", Kind::Weekly, "mon@09:00", "UTC", 3000),
                    ("b", Kind::Weekly, "tue@09:00", "UTC", 3000),
                ],
                vec![],
            ),
        ];
        for (case, schedules, expected) in cases {
            assert_eq!(names(&warn(&schedules)), expected, "{case}");
        }
    }

    #[test]
    fn the_finest_schedules_are_looked_at_once_a_minute() {
        let every_second = timetable(Kind::Every, "1s", "UTC");
        let entry = Entry { name: "a", timetable: &every_second, average_turns: 3000 };
        assert_eq!(slots(&[entry], MONDAY).len(), 7 * 24 * 60);
        let warnings =
            warn(&[("a", Kind::Every, "1s", "UTC", 1500), ("b", Kind::Hourly, "30", "UTC", 1500)]);
        assert_eq!(names(&warnings), ["a+b"]);
    }
}
