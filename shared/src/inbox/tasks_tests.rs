use super::*;
use crate::inbox::{Inbox, InboxReader, NewMessage, Origin, Status};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const NEXT: UnixMillis = UnixMillis(1_800_000_060_000);

fn id(text: &str) -> MessageId {
    MessageId::parse(text).unwrap()
}

fn occurrence(name: &str, nominal: UnixMillis) -> NewOccurrence {
    NewOccurrence {
        id: id(name),
        nominal,
        recurrence: Some("* * * * *".into()),
        zone: Some("Europe/Berlin".into()),
        generation: 0,
        paused: false,
    }
}

fn task(series: &str, first: NewOccurrence) -> NewTask {
    let origin = Origin { thread_id: Some("t".into()), ..Origin::default() };
    NewTask { series: series.into(), content: r#"{"text":"hi"}"#.into(), origin, first }
}

struct World {
    _dir: tempfile::TempDir,
    inbox: Inbox,
}

impl World {
    /// With a series `s` whose occurrence `s1` is live.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::open(&dir.path().join("inbound.db")).unwrap();
        let mut world = Self { _dir: dir, inbox };
        world.write(|tx| tx.begin_series(&task("s", occurrence("s1", NOW)), Seq(3), NOW).unwrap());
        world
    }

    fn write<T>(&mut self, work: impl FnOnce(&InboxTx<'_>) -> T) -> T {
        let tx = self.inbox.write().unwrap();
        let done = work(&tx);
        tx.commit().unwrap();
        done
    }

    /// Each row of a series: id, state, and whether it carries the recurrence.
    fn rows(&mut self) -> Vec<(String, String, bool)> {
        let tx = self.inbox.read().unwrap();
        tx.conn()
            .prepare("SELECT id, status, recurrence IS NOT NULL FROM messages_in ORDER BY seq")
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }
}

fn row(id: &str, status: &str, recurs: bool) -> (String, String, bool) {
    (id.into(), status.into(), recurs)
}

#[test]
fn a_series_begins_with_an_occurrence_that_waits_for_its_time() {
    let mut world = World::new();
    let tx = world.inbox.read().unwrap();
    let [(live, content)] = &tx.live_occurrences().unwrap()[..] else { panic!("one") };
    assert_eq!((live.id.as_str(), live.series.as_str(), live.seq), ("s1", "s", Seq(4)));
    assert_eq!((live.nominal, live.process_after), (Some(NOW), Some(NOW)));
    assert_eq!((live.zone.as_deref(), live.generation), (Some("Europe/Berlin"), 0));
    assert_eq!(content, r#"{"text":"hi"}"#);
    let pending = tx.pending().unwrap();
    assert!(pending[0].trigger && pending[0].origin.thread_id.as_deref() == Some("t"));
    assert_eq!(tx.recurring().unwrap(), std::slice::from_ref(live));
}

#[test]
fn the_recurrence_passes_on_once_and_only_from_what_has_ended() {
    let mut world = World::new();
    world.write(|tx| assert!(!tx.end_occurrence(&id("s1")).unwrap(), "it is pending"));
    for expected in [true, false] {
        world.write(|tx| {
            tx.complete(&id("s1")).unwrap();
            let ended = tx.end_occurrence(&id("s1")).unwrap();
            assert_eq!(ended, expected);
            if ended {
                let next = occurrence("s2", NEXT);
                tx.continue_series(&id("s1"), &next, None, Seq(9), NOW).unwrap();
            }
        });
    }
    assert_eq!(world.rows(), [row("s1", "completed", false), row("s2", "pending", true)]);
    let tx = world.inbox.read().unwrap();
    let (next, content) = tx.live_occurrences().unwrap().remove(0);
    assert_eq!((next.seq, next.series.as_str(), next.nominal), (Seq(10), "s", Some(NEXT)));
    assert_eq!(content, r#"{"text":"hi"}"#);
    assert_eq!(tx.pending().unwrap()[0].origin.thread_id.as_deref(), Some("t"));
}

#[test]
fn the_nominal_time_outlives_retries() {
    let mut world = World::new();
    world.write(|tx| assert!(tx.charge(&id("s1"), 0, false, Some(NEXT)).unwrap()));
    let tx = world.inbox.read().unwrap();
    let live = &tx.recurring().unwrap()[0];
    assert_eq!((live.tries, live.nominal, live.process_after), (1, Some(NOW), Some(NEXT)));
}

#[test]
fn a_message_of_that_id_does_not_keep_a_series_from_going_on() {
    let mut world = World::new();
    let taken = NewMessage {
        id: id("s2"),
        kind: "chat".into(),
        content: "{}".into(),
        origin: Origin::default(),
        trigger: true,
        process_after: None,
        source_session: None,
        run_id: None,
    };
    world.write(|tx| {
        tx.accept(&taken, Seq(3), NOW).unwrap();
        tx.complete(&id("s1")).unwrap();
        assert!(tx.end_occurrence(&id("s1")).unwrap());
        tx.continue_series(&id("s1"), &occurrence("s2", NEXT), None, Seq(9), NOW).unwrap();
    });
    let live = world.inbox.read().unwrap().live_occurrences().unwrap().remove(0).0;
    assert!(live.id.as_str().starts_with("s2~"), "{}", live.id);
}

#[test]
fn nothing_follows_what_is_cancelled() {
    let mut world = World::new();
    world.write(|tx| {
        assert!(tx.detach_occurrence(&id("s1")).unwrap());
        assert!(!tx.detach_occurrence(&id("s1")).unwrap(), "it has none any more");
        tx.continue_series(&id("s1"), &occurrence("s2", NEXT), Some("new"), Seq(9), NOW).unwrap();
        tx.cancel_occurrence(&id("s2")).unwrap();
        assert!(tx.cancel_occurrence(&id("s2")).is_err(), "it is cancelled");
    });
    assert_eq!(world.rows(), [row("s1", "pending", false), row("s2", "cancelled", false)]);
    world.write(|tx| {
        tx.begin_series(&task("other", occurrence("o1", NOW)), Seq(9), NOW).unwrap();
        assert_eq!(tx.end_series("s").unwrap(), 0);
        assert_eq!(tx.end_series("other").unwrap(), 1);
    });
}

#[test]
fn what_is_released_is_finished_and_is_no_task() {
    let mut world = World::new();
    world.write(|tx| {
        tx.release_occurrence(&id("s1")).unwrap();
        assert!(tx.release_occurrence(&id("s1")).is_err(), "it is none any more");
        assert!(tx.live_occurrences().unwrap().is_empty() && tx.recurring().unwrap().is_empty());
        assert!(tx.complete(&id("s1")).unwrap() && !tx.end_occurrence(&id("s1")).unwrap());
    });
}

#[test]
fn what_is_paused_is_not_looked_at_and_lives() {
    let mut world = World::new();
    world.write(|tx| {
        tx.pause_occurrence(&id("s1")).unwrap();
        assert!(tx.pause_occurrence(&id("s1")).is_err(), "it is not pending any more");
        assert!(
            tx.continue_series(&id("none"), &occurrence("s2", NEXT), None, Seq(9), NOW).is_err()
        );
    });
    let tx = world.inbox.read().unwrap();
    assert!(tx.pending().unwrap().is_empty());
    assert_eq!(tx.live_occurrences().unwrap()[0].0.status, Status::Paused);
}

#[test]
fn what_goes_on_or_is_changed_keeps_its_time_and_its_attempts() {
    let mut world = World::new();
    let amended = Amended {
        content: Some(r#"{"text":"new"}"#.into()),
        recurrence: None,
        zone: Some("UTC".into()),
    };
    world.write(|tx| {
        assert!(tx.resume_occurrence(&id("s1")).is_err(), "it is not paused");
        assert!(tx.charge(&id("s1"), 0, false, Some(NEXT)).unwrap());
        tx.pause_occurrence(&id("s1")).unwrap();
        assert_eq!(tx.paused().unwrap(), [id("s1")]);
        tx.amend_occurrence(&id("s1"), &amended).unwrap();
        tx.resume_occurrence(&id("s1")).unwrap();
        assert!(tx.paused().unwrap().is_empty());
    });
    let live = world.inbox.read().unwrap().live_occurrences().unwrap();
    let [(row, content)] = &live[..] else { panic!("{live:?}") };
    assert_eq!((row.id.as_str(), row.status, row.tries), ("s1", Status::Pending, 1));
    assert_eq!((row.nominal, row.process_after), (Some(NOW), Some(NEXT)));
    assert_eq!((row.recurrence.as_deref(), row.zone.as_deref()), (None, Some("UTC")));
    assert_eq!(content, r#"{"text":"new"}"#);
    let kept = Amended { content: None, ..amended.clone() };
    world.write(|tx| tx.amend_occurrence(&id("s1"), &kept).unwrap());
    assert_eq!(world.inbox.read().unwrap().live_occurrences().unwrap()[0].1, *content);
    world.write(|tx| {
        tx.complete(&id("s1")).unwrap();
        assert!(tx.amend_occurrence(&id("s1"), &amended).is_err(), "it is over");
    });
}

#[test]
fn what_was_answered_although_it_was_paused_is_completed() {
    let mut world = World::new();
    world.write(|tx| {
        tx.pause_occurrence(&id("s1")).unwrap();
        assert!(tx.complete(&id("s1")).unwrap());
        assert!(!tx.complete(&id("s1")).unwrap(), "it is completed");
        assert!(tx.end_occurrence(&id("s1")).unwrap());
    });
    assert_eq!(world.rows(), [row("s1", "completed", false)]);
}

#[test]
fn the_oldest_note_makes_room() {
    let mut world = World::new();
    let note = |name: &str, trigger| NewMessage {
        id: id(name),
        kind: KIND_SYSTEM.into(),
        content: "{\"text\":\"told\"}".into(),
        origin: Origin::default(),
        trigger,
        process_after: None,
        source_session: None,
        run_id: None,
    };
    world.write(|tx| {
        for (name, trigger) in [("wakes", true), ("n1", false), ("n2", false)] {
            tx.accept(&note(name, trigger), Seq(0), NOW).unwrap();
        }
        assert_eq!((tx.waiting_notes().unwrap(), tx.waiting_wakes().unwrap()), (2, 1));
        assert!(tx.drop_oldest_note().unwrap());
    });
    let left: Vec<_> = world.rows().into_iter().filter(|row| row.1 == "pending").collect();
    assert_eq!(left.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(), ["s1", "wakes", "n2"]);
}

#[test]
fn people_see_what_lives_and_the_last_of_what_does_not() {
    let mut world = World::new();
    for n in 1..5 {
        world.write(|tx| {
            let before = id(&format!("s{n}"));
            tx.complete(&before).unwrap();
            tx.end_occurrence(&before).unwrap();
            let next = occurrence(&format!("s{}", n + 1), NEXT);
            tx.continue_series(&before, &next, None, Seq(0), NOW).unwrap();
        });
    }
    let path = world._dir.path().join("inbound.db");
    let ids = |limit| -> Vec<String> {
        let tasks = InboxReader::open(&path).unwrap().tasks(limit).unwrap();
        tasks.into_iter().map(|task| task.id.to_string()).collect()
    };
    drop(world.inbox);
    assert_eq!(ids(2), ["s3", "s4", "s5"]);
    assert_eq!(ids(0), ["s5"]);
}
