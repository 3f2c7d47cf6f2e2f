//! Adding, editing, pausing, resuming, removing.

use rusqlite::named_params;
use twobox_shared::ids::{AgentGroupId, ScheduleId, SessionId, SystemIds};
use twobox_shared::inbox::Origin;
use twobox_slots::{missed, overlap};
use twobox_store::messaging::SessionMode;
use twobox_store::schedules::{
    self, Added, Definition, Edited, Paused, Phase, Reason, Removed, Resumed, SlotFate, Status,
    Streaks, Trigger,
};

use super::world::{World, at, definition, dump, end, host_id, leave, next, pause, run_id, world};

#[test]
fn a_schedule_says_what_was_stored_by_name_and_by_id() {
    let mut world = world();
    let full = Definition {
        to: chat("42"),
        max_turns: Some(10),
        max_run_ms: Some(60_000),
        missed: missed::Policy::All,
        overlap: overlap::Policy::Replace,
        jitter_ms: 7,
        not_before: Some(at(900)),
        not_after: Some(at(9000)),
        max_runs: Some(3),
        ..definition("report")
    };
    let id = world.add_as(&full);
    let stored = world.db.schedules().find("report").wait().unwrap().unwrap();
    assert_eq!(stored.definition, full);
    assert_eq!((stored.id, stored.agent_group), (id, world.agent.id));
    assert_eq!((stored.next, stored.revision, stored.fired), (next(1000), 1, 0));
    assert_eq!((stored.pause_reason.as_deref(), stored.removed_at), (None, None));
    assert_eq!(world.schedule(id), stored);
    assert_eq!(world.db.schedules().find("nothing").wait().unwrap(), None);
}

fn chat(id: &str) -> Origin {
    Origin {
        channel_type: Some("command".to_owned()),
        platform_id: Some(id.to_owned()),
        thread_id: Some("t".to_owned()),
    }
}

#[test]
fn a_run_keeps_the_chat_that_its_schedule_named_when_it_was_made() {
    let mut world = world();
    let news = Definition { to: chat("42"), ..definition("news") };
    let id = world.add_as(&news);
    let (first, second) = (run_id(), run_id());
    world.db.runs().enqueue_manual(id, first, at(2)).wait().unwrap();
    let edited = Definition { to: Origin::default(), ..news };
    let next = schedules::NextSlot::Kept;
    world.db.schedules().edit(id, 1, &edited, next, None, at(3)).wait().unwrap();
    world.db.runs().enqueue_manual(id, second, at(4)).wait().unwrap();
    let to = |run| world.db.runs().find(run).wait().unwrap().unwrap().to;
    assert_eq!((to(first), to(second)), (chat("42"), Origin::default()));
}

#[test]
fn what_cannot_be_added_leaves_no_trace() {
    let mut world = world();
    world.add("report");
    let bob =
        world.db.agents().add("bob", SessionMode::Shared, &SystemIds, at(1)).wait().unwrap().id;
    let gone =
        world.db.agents().add("gone", SessionMode::Shared, &SystemIds, at(1)).wait().unwrap().id;
    world.db.agents().remove("gone", at(2)).wait().unwrap();
    let unknown = AgentGroupId::generate(&SystemIds);
    let of_ann =
        || Definition { session: Some(world.session("t")), ..definition("in ann's session") };
    let in_no_session = Definition {
        session: Some(SessionId::generate(&SystemIds)),
        ..definition("in no session")
    };
    let cases = [
        (bob, definition("report"), Added::NameTaken),
        (unknown, definition("other"), Added::NoAgent),
        (gone, definition("other"), Added::NoAgent),
        (bob, of_ann(), Added::NoSession),
        (bob, in_no_session, Added::NoSession),
    ];
    let before = dump(&world.db.raw());
    for (agent, definition, expected) in cases {
        let id = ScheduleId::generate(&SystemIds);
        let added = world.db.schedules().add(id, agent, &definition, next(1000), at(3)).wait();
        assert_eq!(added.unwrap(), expected, "{}", definition.name);
        assert_eq!(dump(&world.db.raw()), before, "{}", definition.name);
    }
}

#[test]
fn an_edit_needs_the_revision_that_was_read() {
    let mut world = world();
    let id = world.add("report");
    world.add("other");
    let edit = |revision, definition: &Definition| {
        let edited = world
            .db
            .schedules()
            .edit(
                id,
                revision,
                definition,
                schedules::NextSlot::Reckoned(next(7000)),
                None,
                at(600),
            )
            .wait()
            .unwrap();
        (edited, world.db.schedules().find(&id.to_string()).wait().unwrap().unwrap())
    };
    let renamed = Definition { prompt: "else".to_owned(), ..definition("renamed") };
    let (edited, schedule) = edit(1, &renamed);
    assert_eq!(edited, Edited::Done { revision: 2 });
    assert_eq!((schedule.definition, schedule.next), (renamed.clone(), next(7000)));
    assert_eq!(schedule.turns_edited_at, None, "the turns are the same");
    let no_session =
        Definition { session: Some(SessionId::generate(&SystemIds)), ..renamed.clone() };
    for (revision, definition, expected) in [
        (1, &renamed, Edited::Stale),
        (2, &definition("other"), Edited::NameTaken),
        (2, &no_session, Edited::NoSession),
    ] {
        let (edited, schedule) = edit(revision, definition);
        assert_eq!(edited, expected);
        assert_eq!((schedule.revision, schedule.definition), (2, renamed.clone()));
    }
    let (edited, schedule) = edit(2, &Definition { max_turns: Some(5), ..renamed.clone() });
    assert_eq!((edited, schedule.turns_edited_at), (Edited::Done { revision: 3 }, Some(at(600))));
    assert_eq!(
        world.db.schedules().remove(id, at(8)).wait().unwrap(),
        Removed::Done { cancelled: 0 }
    );
    let gone = world
        .db
        .schedules()
        .edit(id, 4, &renamed, schedules::NextSlot::Reckoned(next(7000)), None, at(9))
        .wait()
        .unwrap();
    assert_eq!(gone, Edited::Gone);
}

#[test]
fn an_edit_wakes_neither_a_paused_schedule_nor_one_that_is_over() {
    let mut world = world();
    let (paused, over) = (world.add("paused"), world.add("over"));
    world.db.schedules().pause(paused, "ann", None, at(1)).wait().unwrap();
    world.claim(over, &[SlotFate::Run]);
    for id in [paused, over] {
        let schedule = world.schedule(id);
        let edited = Definition { max_runs: Some(1), ..schedule.definition };
        let outcome = world
            .db
            .schedules()
            .edit(
                id,
                schedule.revision,
                &edited,
                schedules::NextSlot::Reckoned(next(9000)),
                None,
                at(2),
            )
            .wait();
        assert!(matches!(outcome.unwrap(), Edited::Done { .. }));
        assert_eq!(world.schedule(id).next, None, "{}", edited.name);
    }
}

#[test]
fn pausing_stops_what_the_cadence_made_and_nothing_else() {
    let mut world = world();
    let id = world.add("report");
    let running = world.fire(id);
    world.begin(running, host_id(), 1000);
    let (queued, manual) = (world.fire(id), run_id());
    world.db.runs().enqueue_manual(id, manual, at(1000)).wait().unwrap();

    let paused = world.db.schedules().pause(id, "by ann", None, at(3000)).wait().unwrap();
    assert_eq!(paused, Paused::Done { cancelled: 1 });
    let schedule = world.schedule(id);
    assert_eq!(schedule.pause_reason.as_deref(), Some("by ann"));
    assert_eq!((schedule.next, schedule.revision), (None, 2));
    let state = |run| (world.run(run).status, world.run(run).reason);
    assert_eq!(state(running), (Status::Running, None));
    assert_eq!(state(queued), (Status::Cancelled, Some(Reason::Paused)));
    assert_eq!(state(manual), (Status::Queued, None));

    let before = dump(&world.db.raw());
    let again = world.db.schedules().pause(id, "by bob", None, at(4000)).wait().unwrap();
    assert_eq!((again, dump(&world.db.raw())), (Paused::Already, before), "the first reason stays");
    let unknown = ScheduleId::generate(&SystemIds);
    assert_eq!(world.db.schedules().pause(unknown, "x", None, at(1)).wait().unwrap(), Paused::Gone);
}

#[test]
fn resuming_begins_anew_from_the_slot_that_is_given() {
    let mut world = world();
    let id = world.add("report");
    let resume = |world: &mut World, revision| {
        world.db.schedules().resume(id, revision, next(8000), at(7500)).wait().unwrap()
    };
    assert_eq!(resume(&mut world, 1), Resumed::Already);
    let owner = host_id();
    let run = world.fire(id);
    world.begin(run, owner, 1000);
    let failed =
        schedules::RunOutcome::Failed { reason: Reason::Timeout, error: "too long".to_owned() };
    let judge = |_: &_, _: &_| schedules::Verdict {
        streaks: Streaks { breaches: 1, failures: 3 },
        pause: Some(pause("3 failures in a row")),
        news: None,
    };
    let end = end(failed, 1500);
    world.db.runs().finish(run, owner, end, judge).wait().unwrap();
    assert_eq!(resume(&mut world, 1), Resumed::Stale);
    assert_eq!(resume(&mut world, 2), Resumed::Done);
    let schedule = world.schedule(id);
    assert_eq!((schedule.next, schedule.streaks), (next(8000), Streaks::default()));
    assert_eq!((schedule.pause_reason, schedule.revision), (None, 3));
    world.db.schedules().remove(id, at(9)).wait().unwrap();
    assert_eq!(resume(&mut world, 4), Resumed::Gone);
}

#[test]
fn removing_cancels_what_waits_and_frees_the_name() {
    let mut world = world();
    let id = world.add("report");
    let running = world.fire(id);
    let owner = host_id();
    world.begin(running, owner, 1000);
    let (queued, manual) = (world.fire(id), run_id());
    world.db.runs().enqueue_manual(id, manual, at(1000)).wait().unwrap();
    let removed = world.db.schedules().remove(id, at(3000)).wait().unwrap();
    assert_eq!(removed, Removed::Done { cancelled: 2 });
    for run in [queued, manual] {
        assert_eq!(world.run(run).reason, Some(Reason::Removed));
    }
    assert_eq!(world.db.schedules().remove(id, at(4000)).wait().unwrap(), Removed::Gone);
    assert_eq!(world.db.schedules().find("report").wait().unwrap(), None);
    assert_eq!(world.schedule(id).removed_at, Some(at(3000)), "its id still names it");
    // What ran ends as ever.
    let end = end(schedules::RunOutcome::Completed, 5000);
    let finished = world.db.runs().finish(running, owner, end, leave).wait().unwrap();
    assert_eq!(finished, schedules::Finished::Done { paused: None, teller: None });
    let successor = world.add("report");
    assert_eq!(world.db.schedules().find("report").wait().unwrap().unwrap().id, successor);
    let listed = world.db.schedules().list(Some(world.agent.id)).wait().unwrap();
    assert_eq!(listed.rows.iter().map(|schedule| schedule.id).collect::<Vec<_>>(), [successor]);
}

#[test]
fn an_agent_that_is_removed_fires_nothing_and_comes_back_paused() {
    let mut world = world();
    let (id, by_hand) = (world.add("report"), world.add("paused by hand"));
    world.db.schedules().pause(by_hand, "ann", None, at(1)).wait().unwrap();
    world.db.agents().remove("ann", at(2)).wait().unwrap();
    assert_eq!(world.db.schedules().due(at(5000), 10).wait().unwrap().rows, []);
    assert_eq!(world.schedule(id).pause_reason.as_deref(), Some("its agent was removed"));
    assert_eq!(world.schedule(by_hand).pause_reason.as_deref(), Some("ann"));
    let resume =
        |db: &twobox_store::Store| db.schedules().resume(id, 2, next(8000), at(7)).wait().unwrap();
    assert_eq!(resume(&world.db), Resumed::Gone);
    world.db.agents().add("ann", SessionMode::Shared, &SystemIds, at(3)).wait().unwrap();
    assert_eq!(resume(&world.db), Resumed::Done);
}

#[test]
fn due_schedules_are_listed_and_a_bad_row_hides_none() {
    let mut world = world();
    let (late, early, bad) = (world.add("late"), world.add("early"), world.add("bad"));
    let move_to = |id, due: i64| {
        let sql = "UPDATE schedules SET next_slot_ms = :due, next_due_ms = :due WHERE id = :id";
        assert_eq!(
            world.db.raw().execute(sql, named_params! { ":id": id, ":due": due }).unwrap(),
            1
        );
    };
    move_to(late, 3000);
    move_to(early, 1000);
    move_to(bad, 500);
    let spoil = "UPDATE schedules SET id = 'not an id' WHERE name = 'bad'";
    assert_eq!(world.db.raw().execute(spoil, []).unwrap(), 1);
    let due = |now, limit| {
        let listed = world.db.schedules().due(at(now), limit).wait().unwrap();
        let ids: Vec<_> = listed.rows.iter().map(|schedule| schedule.id).collect();
        let bad: Vec<_> = listed.unreadable.into_iter().map(|bad| bad.id).collect();
        (ids, bad)
    };
    let bad = || vec!["not an id".to_owned()];
    assert_eq!(due(499, 10), (vec![], vec![]));
    assert_eq!(due(1000, 10), (vec![early], bad()));
    assert_eq!(due(3000, 10), (vec![early, late], bad()));
    assert_eq!(due(3000, 2), (vec![early], bad()));
    assert_eq!(world.db.schedules().next_due().wait().unwrap(), Some(at(500)));
}

#[test]
fn each_word_is_one_that_the_tables_allow_and_no_other_is() {
    let mut world = world();
    let id = world.add("report");
    let run = world.fire(id);
    world.begin(run, host_id(), 1000);
    let sets = [
        ("schedules", "missed", words(missed::Policy::ALL, missed::Policy::as_str)),
        ("schedules", "overlap", words(overlap::Policy::ALL, overlap::Policy::as_str)),
        ("runs", "trigger", words(Trigger::ALL, Trigger::as_str)),
        ("runs", "status", words(Status::ALL, Status::as_str)),
        ("runs", "phase", words(Phase::ALL, Phase::as_str)),
    ];
    for (table, column, known) in sets {
        let sql: String = world
            .db
            .raw()
            .query_row("SELECT sql FROM sqlite_schema WHERE name = ?1", [table], |row| row.get(0))
            .unwrap();
        let allowed = format!("CHECK ({column} IN ('{}'))", known.join("', '"));
        assert!(sql.contains(&allowed), "{table} has no {allowed}");
        let other = format!("UPDATE {table} SET {column} = 'other'");
        assert!(
            world.db.raw().execute(&other, []).unwrap_err().to_string().contains("CHECK"),
            "{column}"
        );
    }
}

fn words<T: Copy>(all: &[T], word: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|&known| word(known)).collect()
}

#[test]
fn an_edit_that_keeps_the_next_slot_is_stale_once_the_schedule_has_moved_on() {
    use schedules::{Next, NextSlot};
    let mut world = world();
    let id = world.add_as(&Definition { max_runs: Some(2), ..definition("report") });
    let moved = NextSlot::Moved(Next { slot: at(1000), due: at(1700) });
    let edit = |world: &mut World, revision, next| {
        let edited = Definition { max_runs: Some(3), ..definition("report") };
        world.db.schedules().edit(id, revision, &edited, next, None, at(900)).wait().unwrap()
    };
    assert_eq!(edit(&mut world, 1, moved), Edited::Done { revision: 2 });
    assert_eq!(world.schedule(id).next, Some(Next { slot: at(1000), due: at(1700) }));
    world.fire(id);
    assert_eq!(edit(&mut world, 2, moved), Edited::Stale);
    assert_eq!(edit(&mut world, 2, NextSlot::Kept), Edited::Done { revision: 3 });
    assert_eq!(world.schedule(id).next, next(2000));
    world.claim(id, &[SlotFate::Run, SlotFate::Run]);
    assert_eq!(world.schedule(id).next, None, "that was the third");
    assert_eq!(edit(&mut world, 3, NextSlot::Kept), Edited::Stale);
}
