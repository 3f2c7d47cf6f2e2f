use super::super::tests::{NOW, World, draft, world, written};
use super::super::{Change, Draft, pause, show};
use super::*;

use twobox_shared::ids::SystemIds;

/// A schedule at the full hour that may take `turns`.
fn heavy(name: &str, agent: &str, turns: i64) -> Draft {
    Draft {
        agent: Some(agent.to_owned()),
        cadence: written("hourly", "0"),
        max_turns: Change::Set(turns),
        ..draft(name)
    }
}

fn warned(world: &World, name: &str) -> Vec<Warning> {
    show(&world.store, name, NOW).unwrap().detail.warnings.all().to_vec()
}

#[test]
fn a_schedule_is_warned_of_others_of_its_agent_that_it_meets() {
    let mut world = world();
    assert_eq!(world.add(&heavy("a", "ann", 1500)).unwrap().warnings.all(), []);
    let other = world.add(&heavy("c", "bob", 1500)).unwrap();
    assert_eq!(other.warnings.all(), [], "another agent's");
    let often = Draft { cadence: written("every", "1m"), ..draft("often") };
    assert_eq!(world.add(&often).unwrap().warnings.all(), []);
    let added = world.add(&heavy("b", "ann", 1500)).unwrap();
    let Warning::CronCollision { overlapping_schedules, estimated_concurrent_steps, .. } =
        &added.warnings.all()[0]
    else {
        panic!("{:?}", added.warnings)
    };
    assert_eq!(*overlapping_schedules, ["a"], "and of none that takes no turns");
    assert_eq!(*estimated_concurrent_steps, 3000);
    assert_eq!(warned(&world, "often"), []);
    pause(&world.store, "a", None, &SystemIds, NOW).unwrap();
    assert_eq!(warned(&world, "b"), [], "the other is paused");
}

#[test]
fn nothing_is_reckoned_while_the_database_is_read() {
    let mut world = world();
    world.add(&heavy("a", "ann", 2000)).unwrap();
    let added = world.add(&heavy("b", "ann", 2000)).unwrap();
    let shown = show(&world.store, "b", NOW).unwrap();
    drop(world);
    for warnings in [added.warnings, shown.detail.warnings] {
        assert_eq!(warnings.found.get(), None);
        assert_eq!(serde_json::to_value(&warnings).unwrap()[0]["type"], "cron_collision");
        assert_eq!(warnings.found.get().unwrap().len(), 1);
    }
}

#[test]
fn a_window_that_is_shorter_than_the_period_is_warned_of() {
    let mut world = world();
    let day = 24 * 60 * 60;
    let weekly = |name: &str| Draft { cadence: written("weekly", "monday@09:00"), ..draft(name) };
    let cases = [
        ("a day, as without a word", weekly("a"), true),
        ("a week", Draft { missed_window_sec: Change::Set(7 * day), ..weekly("b") }, false),
        ("skipped anyway", Draft { missed: Change::Set("skip".into()), ..weekly("c") }, false),
        ("each day", Draft { cadence: written("daily", "09:00"), ..draft("d") }, false),
        ("once", Draft { cadence: written("once", "2027-01-01T00:00:00Z"), ..draft("e") }, false),
    ];
    for (case, draft, is_warned) in cases {
        let added = world.add(&draft).unwrap();
        let expected = Warning::ShortMissedWindow {
            period_sec: 7 * day.unsigned_abs(),
            window_sec: day.unsigned_abs(),
        };
        let expected: Vec<Warning> = is_warned.then_some(expected).into_iter().collect();
        assert_eq!(added.warnings.all(), expected, "{case}");
    }
}
