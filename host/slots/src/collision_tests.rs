use super::*;
use crate::cadence::{Cadence, Kind};
use crate::timetable::Bounds;

/// 2026-11-02T00:00Z, a Monday.
const MONDAY: UnixMillis = UnixMillis(1_793_577_600_000);

type Written = (&'static str, Kind, &'static str, &'static str, u64);

fn entry((name, kind, value, zone, average_turns): &Written) -> Entry {
    let cadence = Cadence::parse(*kind, value).unwrap();
    let zone = zone.parse().unwrap();
    let timetable = Timetable::new(&cadence, zone, UnixMillis(0), Bounds::default());
    Entry { name: (*name).to_owned(), timetable, average_turns: *average_turns }
}

/// The warnings of the first schedule.
fn warn(schedules: &[Written]) -> Vec<Warning> {
    let entries: Vec<Entry> = schedules.iter().map(entry).collect();
    warnings(&entries[0], &entries[1..], MONDAY)
}

fn names(warnings: &[Warning]) -> Vec<String> {
    let joined = |warning: &Warning| match warning {
        Warning::CronCollision { overlapping_schedules, .. } => overlapping_schedules.join("+"),
        Warning::ShortMissedWindow { .. } => panic!("that is no collision"),
    };
    warnings.iter().map(joined).collect()
}

#[test]
fn a_warning_says_who_meets_when_on_its_clock_and_with_how_many_turns() {
    let report = ("report", Kind::Daily, "09:30", "Asia/Kolkata", 2000);
    let digest = ("digest", Kind::Daily, "04:00", "UTC", 1000);
    let alone = ("alone", Kind::Daily, "12:00", "UTC", 9000);
    let expected = |other: &str, minute: i8, first_at: &str| {
        serde_json::json!([{
            "type": "cron_collision",
            "overlapping_schedules": [other],
            "overlapping_minutes": [minute],
            "estimated_concurrent_steps": 3000,
            "first_at": first_at,
        }])
    };
    let of_report = serde_json::to_value(warn(&[report, digest, alone])).unwrap();
    assert_eq!(of_report, expected("digest", 30, "2026-11-02T09:30:00+05:30"));
    let of_digest = serde_json::to_value(warn(&[digest, report, alone])).unwrap();
    assert_eq!(of_digest, expected("report", 0, "2026-11-02T04:00:00+00:00"));
    assert_eq!(warn(&[alone, digest, report]), []);
}

#[test]
fn only_those_collide_that_come_within_five_minutes_and_want_many_turns() {
    let daily = |name, value, turns| (name, Kind::Daily, value, "UTC", turns);
    let chain = [daily("a", "09:00", 3000), daily("b", "09:04", 3000), daily("c", "09:08", 3000)];
    let cases = [
        ("at once", vec![daily("a", "09:00", 1500), daily("b", "09:00", 1500)], vec!["b"]),
        ("near", vec![daily("a", "08:58", 1500), daily("b", "09:02", 1500)], vec!["b"]),
        ("midnight", vec![daily("a", "23:58", 1500), daily("b", "00:01", 1500)], vec!["b"]),
        ("apart", vec![daily("a", "09:00", 1500), daily("b", "09:05", 1500)], vec![]),
        ("few turns", vec![daily("a", "09:00", 1500), daily("b", "09:00", 1499)], vec![]),
        ("one alone", vec![daily("a", "09:00", 9000)], vec![]),
        (
            "the largest group",
            vec![daily("a", "09:00", 3000), daily("b", "09:01", 3000), daily("c", "09:02", 3000)],
            vec!["b+c"],
        ),
        ("in the middle of a chain", vec![chain[1], chain[0], chain[2]], vec!["a", "c"]),
        ("at the end of a chain", chain.to_vec(), vec!["b"]),
        ("others", vec![daily("d", "12:00", 3000), chain[0], chain[1]], vec![]),
        (
            "no turns",
            vec![
                daily("a", "09:00", 3000),
                ("idle", Kind::Every, "1m", "UTC", 0),
                daily("b", "09:01", 1),
            ],
            vec!["b"],
        ),
        (
            "no turns of its own",
            vec![("idle", Kind::Every, "1m", "UTC", 0), chain[0], chain[1]],
            vec![],
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

/// The same, by looking at each slot of the week and all that follow it.
fn by_hand(own: &Entry, others: &[Entry]) -> Vec<(Vec<String>, BTreeSet<i8>, String)> {
    let entries: Vec<&Entry> = std::iter::once(own).chain(others).collect();
    let mut slots: Vec<(Slot, usize)> = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let all = entry.timetable.slots(MONDAY + MILLI, MONDAY + HORIZON);
        slots.extend(all.map(|slot| (slot, at)));
    }
    slots.sort_unstable();
    let mut groups: BTreeMap<BTreeSet<usize>, (UnixMillis, BTreeSet<i8>)> = BTreeMap::new();
    for (at, (slot, _)) in slots.iter().enumerate() {
        let near = slots[at..].iter().take_while(|(other, _)| other.0.since(slot.0) < WINDOW);
        let group: BTreeSet<usize> = near.map(|(_, entry)| *entry).collect();
        let turns: u64 = group.iter().map(|entry| entries[*entry].average_turns).sum();
        if group.contains(&OWN) && group.len() > 1 && turns >= TURNS {
            let (_, minutes) = groups.entry(group).or_insert((slot.0, BTreeSet::new()));
            minutes.insert(own.timetable.minute_of_hour(*slot));
        }
    }
    let is_whole = |group: &BTreeSet<usize>| {
        groups.keys().all(|other| other == group || !other.is_superset(group))
    };
    let mut whole: Vec<_> = groups.iter().filter(|(group, _)| is_whole(group)).collect();
    whole.sort_by_key(|(_, (first, _))| *first);
    let told = whole.into_iter().map(|(group, (first, minutes))| {
        let others = group.iter().filter(|at| **at != OWN);
        let mut names: Vec<String> = others.map(|at| entries[*at].name.clone()).collect();
        names.sort_unstable();
        (names, minutes.clone(), own.timetable.zone().rfc3339(*first))
    });
    told.collect()
}

#[test]
fn what_is_found_near_its_slots_is_what_a_look_at_all_slots_finds() {
    let mut entries: Vec<Entry> = [
        ("a", Kind::Hourly, "58", "UTC", 900),
        ("b", Kind::Daily, "00:01", "Europe/Berlin", 1100),
        ("c", Kind::Every, "7m", "UTC", 700),
        ("d", Kind::Cron, "*/9 3-5 * * mon-thu", "America/New_York", 1300),
        ("e", Kind::Weekly, "sun@23:59", "UTC", 2500),
        ("f", Kind::Cron, "0,2,59 * * * *", "Asia/Kathmandu", 800),
        ("g", Kind::Every, "43m", "UTC", 400),
        ("h", Kind::Every, "1m", "UTC", 100),
    ]
    .iter()
    .map(entry)
    .collect();
    let mut found_any = 0;
    for _ in 0..entries.len() {
        let found: Vec<_> = warnings(&entries[0], &entries[1..], MONDAY)
            .into_iter()
            .map(|warning| {
                let Warning::CronCollision {
                    overlapping_schedules,
                    overlapping_minutes,
                    first_at,
                    ..
                } = warning
                else {
                    panic!("that is no collision: {warning:?}")
                };
                (overlapping_schedules, overlapping_minutes, first_at)
            })
            .collect();
        found_any += usize::from(!found.is_empty());
        let sorted = |mut found: Vec<(Vec<String>, BTreeSet<i8>, String)>| {
            found.sort();
            found
        };
        let expected = sorted(by_hand(&entries[0], &entries[1..]));
        assert_eq!(sorted(found), expected, "{}", entries[0].name);
        entries.rotate_left(1);
    }
    assert!(found_any > 5, "{found_any}");
}

#[test]
fn only_slots_near_its_own_are_looked_at_and_the_finest_once_a_minute() {
    let near = |own: &Written, others: &[Written]| {
        let entries: Vec<Entry> = std::iter::once(own).chain(others).map(entry).collect();
        Near::new(&entries.iter().collect::<Vec<_>>(), MONDAY).count()
    };
    let each_second = ("a", Kind::Every, "1s", "UTC", 3000);
    let each_minute = ("b", Kind::Every, "1m", "UTC", 3000);
    let daily = ("c", Kind::Daily, "09:00", "UTC", 3000);
    assert_eq!(near(&each_second, &[]), 7 * 24 * 60);
    assert_eq!(near(&daily, &[each_minute]), 7 * (1 + 9), "less than five minutes on each side");
    assert_eq!(near(&daily, &[each_second]), 7 * (1 + 10));
    assert_eq!(near(&daily, &[("d", Kind::Daily, "12:00", "UTC", 3000)]), 7);
}
