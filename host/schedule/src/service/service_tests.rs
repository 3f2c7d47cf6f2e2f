use std::time::Duration;

use twobox_shared::ids::{RunId, ScheduleId, SystemIds};
use twobox_shared::time::UnixMillis;

use super::view::State;
use super::*;
use twobox_store::Store;
use twobox_store::messaging::SessionMode;

/// 2026-11-01T00:00:00Z
pub(super) const NOW: UnixMillis = UnixMillis(1_793_491_200_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

pub(super) struct World {
    _dir: tempfile::TempDir,
    pub(super) store: Store,
}

pub(super) fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("host.db")).unwrap();
    for name in ["ann", "bob"] {
        store.agents().add(name, SessionMode::Shared, &SystemIds, NOW).wait().unwrap();
    }
    World { _dir: dir, store }
}

pub(super) fn draft(name: &str) -> Draft {
    Draft {
        name: Some(name.to_owned()),
        agent: Some("ann".to_owned()),
        prompt: Some("Report.".to_owned()),
        cadence: written("every", "1h"),
        ..Draft::default()
    }
}

pub(super) fn written(kind: &str, value: &str) -> Option<WrittenCadence> {
    Some(WrittenCadence { kind: kind.to_owned(), value: value.to_owned() })
}

impl World {
    pub(super) fn add(&mut self, draft: &Draft) -> Result<view::Detail, ServiceError> {
        add(&self.store, ScheduleId::generate(&SystemIds), draft, MINUTE, NOW)
    }

    fn edit(&mut self, name: &str, draft: &Draft, now: UnixMillis) -> view::Detail {
        edit(&self.store, name, draft, None, MINUTE, &SystemIds, now).unwrap()
    }

    fn slots(&self, name: &str) -> Vec<String> {
        let next = show(&self.store, name, NOW).unwrap().detail.next;
        next.into_iter().map(|next| next.slot).collect()
    }
}

#[test]
fn adding_answers_with_the_next_five_slots_on_the_clock_of_the_zone() {
    let mut world = world();
    let draft = Draft {
        cadence: written("daily", "02:30"),
        time_zone: Change::Set("Europe/Berlin".to_owned()),
        jitter_sec: Change::Set(600),
        ..draft("report")
    };
    let detail = world.add(&draft).unwrap();
    let slots: Vec<&str> = detail.next.iter().map(|next| next.slot.as_str()).collect();
    let expected = (1..=5).map(|day| format!("2026-11-0{day}T02:30:00+01:00")).collect::<Vec<_>>();
    assert_eq!(slots, expected);
    let due = |next: &view::Upcoming| UnixMillis::parse(&next.due).unwrap();
    let later = |next: &view::Upcoming| due(next).since(UnixMillis::parse(&next.slot).unwrap());
    assert!(detail.next.iter().all(|next| later(next) <= Duration::from_secs(600)));
    assert!(detail.next.iter().any(|next| !later(next).is_zero()));
    assert_eq!(detail.schedule.next_due.as_ref(), Some(&detail.next[0].due));
    let few = Draft { max_runs: Change::Set(2), ..Draft::default() };
    assert_eq!(world.edit("report", &few, NOW).next, detail.next[..2]);
}

#[test]
fn what_is_unknown_or_taken_is_refused_and_nothing_is_stored() {
    let mut world = world();
    let nobody = show(&world.store, "report", NOW).unwrap_err().to_string();
    assert!(nobody.contains("there are none yet"), "{nobody}");
    world.add(&draft("report")).unwrap();
    let taken = world.add(&draft("report")).unwrap_err();
    assert!(matches!(taken, ServiceError::NameTaken { .. }), "{taken}");
    let carl = Draft { agent: Some("carl".to_owned()), ..draft("other") };
    let refused = world.add(&carl).unwrap_err().to_string();
    assert!(refused.contains("agent: ") && refused.contains("there are: ann, bob"), "{refused}");
    let unknown = pause(&world.store, "repport", None, &SystemIds, NOW).unwrap_err().to_string();
    assert!(unknown.contains("there are: report"), "{unknown}");
    let bob = Draft { agent: Some("bob".to_owned()), ..Draft::default() };
    let moved =
        edit(&world.store, "report", &bob, None, MINUTE, &SystemIds, NOW).unwrap_err().to_string();
    assert!(moved.contains("stays with its agent"), "{moved}");
    let stale = edit(&world.store, "report", &Draft::default(), Some(9), MINUTE, &SystemIds, NOW);
    assert!(matches!(stale.unwrap_err(), ServiceError::Stale { .. }));
    assert_eq!(list(&world.store, None).unwrap().schedules.len(), 1);
    assert!(list(&world.store, Some("bob")).unwrap().schedules.is_empty());
    let run = run(&world.store, "no id").unwrap_err();
    assert!(matches!(run, ServiceError::UnknownRun { .. }), "{run}");
}

#[test]
fn an_edit_moves_the_slots_only_if_they_may_be_others() {
    let mut world = world();
    world.add(&draft("report")).unwrap();
    let before = world.slots("report");
    assert_eq!(before[0], "2026-11-01T01:00:00+00:00");
    // Its slot has come, and has not fired yet.
    let later = NOW + HOUR + MINUTE;
    let prompt = Draft { prompt: Some("Other.".to_owned()), ..Draft::default() };
    let edited = world.edit("report", &prompt, later);
    assert_eq!(
        (edited.schedule.prompt.as_str(), world.slots("report")),
        ("Other.", before.clone())
    );
    assert_eq!(edited.schedule.turns_edited_at, None);
    let turns = Draft { max_turns: Change::Set(9), ..Draft::default() };
    let edited = world.edit("report", &turns, later);
    assert_eq!(edited.schedule.turns_edited_at.as_deref(), Some("2026-11-01T01:01:00+00:00"));
    let jitter = |seconds| Draft { jitter_sec: Change::Set(seconds), ..Draft::default() };
    let due = |detail: &view::Detail| detail.schedule.next_due.clone();
    let late = world.edit("report", &jitter(1800), later);
    assert_ne!(due(&late), late.schedule.next_slot);
    assert_eq!(late.next[0].slot, before[0]);
    let on_time = world.edit("report", &jitter(0), later);
    assert_eq!(due(&on_time).as_ref(), Some(&before[0]), "the slot is the same");
    let cadence = Draft { cadence: written("every", "2h"), ..Draft::default() };
    world.edit("report", &cadence, later);
    assert_eq!(world.slots("report")[0], "2026-11-01T03:01:00+00:00");
}

#[test]
fn a_schedule_is_paused_resumed_from_then_on_and_removed() {
    let mut world = world();
    world.add(&draft("report")).unwrap();
    let paused = pause(&world.store, "report", Some(" on holiday "), &SystemIds, NOW).unwrap();
    assert_eq!(paused.schedule.state, State::Paused);
    assert_eq!(paused.schedule.pause_reason.as_deref(), Some("on holiday"));
    assert!(world.slots("report").is_empty());
    let again = pause(&world.store, "report", Some("other"), &SystemIds, NOW).unwrap();
    assert!(again.was_paused && again.schedule.pause_reason.as_deref() == Some("on holiday"));
    let resumed = resume(&world.store, "report", NOW + 10 * HOUR).unwrap();
    assert_eq!(resumed.detail.next[0].slot, "2026-11-01T11:00:00+00:00");
    assert!(resume(&world.store, "report", NOW).unwrap().was_enabled);
    pause(&world.store, "report", None, &SystemIds, NOW).unwrap();
    world.store.agents().remove("ann", NOW).wait().unwrap();
    let gone = resume(&world.store, "report", NOW).unwrap_err();
    assert!(matches!(gone, ServiceError::AgentGone { .. }), "{gone}");
    let removed = remove(&world.store, "report", NOW).unwrap();
    assert!(matches!(
        remove(&world.store, "report", NOW).unwrap_err(),
        ServiceError::UnknownSchedule { .. }
    ));
    let shown = show(&world.store, &removed.id.to_string(), NOW).unwrap();
    assert_eq!(shown.detail.schedule.state, State::Removed);
}

/// The runs of `report`, oldest first: status, reason, and for how many slots they stand.
fn rows(world: &World) -> Vec<(String, String, i64)> {
    let select = "SELECT status, ifnull(reason, ''), slot_count FROM runs ORDER BY slot_ms";
    let raw = world.store.raw();
    let mut select = raw.prepare(select).unwrap();
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    select.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_slot_that_has_come_is_not_forgotten_by_a_change() {
    let away = NOW + 3 * HOUR + MINUTE; // three slots came, and no host was there
    let missed = |reason: &str, count| vec![("missed".to_owned(), reason.to_owned(), count)];

    let mut paused = world();
    paused.add(&draft("report")).unwrap();
    pause(&paused.store, "report", None, &SystemIds, away).unwrap();
    assert_eq!(rows(&paused), missed("paused", 3));

    let mut edited = world();
    edited.add(&draft("report")).unwrap();
    edited.add(&draft("other")).unwrap();
    let cadence = Draft { cadence: written("every", "2h"), ..Draft::default() };
    let taken = Draft { name: Some("other".to_owned()), ..cadence.clone() };
    edit(&edited.store, "report", &taken, None, MINUTE, &SystemIds, away).unwrap_err();
    assert_eq!(rows(&edited), [], "nothing was changed");
    let prompt = Draft { prompt: Some("Report!".to_owned()), ..Draft::default() };
    edited.edit("report", &prompt, away);
    assert_eq!(rows(&edited), [], "its slots are what they were, and are run");
    edited.edit("report", &cadence, away);
    assert_eq!(rows(&edited), missed("edited", 3));
    edited.edit("report", &draft("report"), away);
    assert_eq!(rows(&edited), missed("edited", 3), "once");
}

#[test]
fn missed_slots_that_share_a_row_are_run_after_all_one_by_one() {
    let mut world = world();
    world.add(&draft("report")).unwrap();
    let away = NOW + 5 * HOUR + MINUTE * 2;
    pause(&world.store, "report", None, &SystemIds, away).unwrap();
    let row = |status: &str, reason: &str, count| (status.to_owned(), reason.to_owned(), count);
    assert_eq!(rows(&world), [row("missed", "paused", 5)]);
    let fill = |from, to| {
        let filled = backfill(&world.store, "report", (from, to), &SystemIds, away).unwrap();
        (filled.queued.len(), filled.kept)
    };
    assert_eq!(fill(NOW, NOW + 2 * HOUR + MINUTE), (2, 0));
    let (waits, left) = (row("queued", "", 1), row("missed", "paused", 3));
    assert_eq!(rows(&world), [waits.clone(), waits.clone(), left]);
    let fill = |from, to| {
        let filled = backfill(&world.store, "report", (from, to), &SystemIds, away).unwrap();
        (filled.queued.len(), filled.kept)
    };
    assert_eq!(fill(NOW, away), (3, 2));
    assert_eq!(rows(&world), vec![waits; 5]);
}

#[test]
fn a_backfill_takes_the_slots_of_a_bounded_past_and_each_once() {
    let mut world = world();
    world.add(&draft("report")).unwrap();
    let now = NOW + 5 * HOUR + MINUTE;
    let fill = |from, to| backfill(&world.store, "report", (from, to), &SystemIds, now);
    let done = fill(NOW, NOW + 3 * HOUR).unwrap();
    assert_eq!((done.slots, done.queued.len(), done.kept), (3, 3, 0));
    assert_eq!(done.last.as_deref(), Some("2026-11-01T03:00:00+00:00"), "both ends are included");
    let more = fill(NOW + 2 * HOUR, now).unwrap();
    assert_eq!((more.slots, more.queued.len(), more.kept), (4, 2, 2));
    let none = fill(NOW, NOW).unwrap();
    assert_eq!((none.slots, none.first), (0, None));
    let refused =
        |result: Result<view::BackfillView, ServiceError>| result.unwrap_err().to_string();
    assert!(refused(fill(NOW, now + MINUTE)).contains("has not come yet"));
    assert!(refused(fill(now, NOW)).contains("is later than the end"));
    let years = NOW + 100_000 * HOUR;
    let many = backfill(&world.store, "report", (NOW, years), &SystemIds, years);
    assert!(refused(many).contains("100000 slots"));
    let page = runs(&world.store, Some("report"), None, 2).unwrap();
    let rest = runs(&world.store, Some("report"), page.next_before, 10).unwrap();
    assert_eq!((page.runs.len(), rest.runs.len(), rest.next_before), (2, 3, None));
    assert_eq!(run(&world.store, &rest.runs[0].id.to_string()).unwrap(), rest.runs[0]);
    for limit in [0, PAGE_MAX + 1] {
        assert!(runs(&world.store, None, None::<RunId>, limit).is_err());
        assert!(metrics(&world.store, None, NOW, None, limit).is_err());
    }
}

#[test]
fn a_row_that_cannot_be_read_hides_no_other_and_can_be_mended() {
    let mut world = world();
    world.add(&draft("good")).unwrap();
    world.add(&draft("odd")).unwrap();
    let spoil = |what: &str| {
        let sql = format!("UPDATE schedules SET {what} WHERE name = 'odd'");
        assert_eq!(world.store.raw().execute(&sql, []).unwrap(), 1);
    };
    spoil("cadence_kind = 'lunar'");
    let odd = show(&world.store, "odd", NOW).unwrap().detail;
    assert!(odd.schedule.problem.unwrap().contains("lunar") && odd.next.is_empty());
    let listed = list(&world.store, None).unwrap();
    assert_eq!((listed.schedules.len(), listed.unreadable.len()), (2, 0));
    let fill = backfill(&world.store, "odd", (NOW, NOW), &SystemIds, NOW).unwrap_err();
    assert!(matches!(fill, ServiceError::Unreadable { .. }), "{fill}");
    let cadence = Draft { cadence: written("daily", "01:00"), ..Draft::default() };
    assert_eq!(world.edit("odd", &cadence, NOW).schedule.problem, None);
    world.store.raw().execute("UPDATE schedules SET id = 'x' WHERE name = 'odd'", []).unwrap();
    let listed = list(&world.store, None).unwrap();
    assert_eq!((listed.schedules.len(), listed.unreadable[0].id.as_str()), (1, "x"));
}
