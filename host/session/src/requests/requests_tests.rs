use serde_json::json;
use twobox_shared::content::Chat;
use twobox_shared::inbox::Status;
use twobox_shared::seq::Seq;

use super::*;
use crate::recurrence::occurrence_id;

fn at(text: &str) -> UnixMillis {
    UnixMillis::parse(text).unwrap()
}

pub(super) fn now() -> UnixMillis {
    at("2026-03-02T10:00:00Z")
}

/// A daily task in Berlin, due at nine.
pub(super) fn daily() -> Occurrence {
    let nominal = at("2026-03-03T08:00:00Z");
    Occurrence {
        id: occurrence_id("task-a", 0, nominal),
        seq: Seq(4),
        series: "task-a".into(),
        status: Status::Pending,
        tries: 0,
        process_after: Some(nominal),
        recurrence: Some("daily 09:00".into()),
        zone: Some("Europe/Berlin".into()),
        nominal: Some(nominal),
        generation: 0,
    }
}

/// A task that is done once.
fn once() -> Occurrence {
    Occurrence { recurrence: None, ..daily() }
}

fn paused(row: Occurrence) -> Occurrence {
    Occurrence { status: Status::Paused, ..row }
}

pub(super) fn live(row: Occurrence) -> Live {
    (row, Chat::text("read the news").to_json())
}

fn ask_in(tasks: &[Live], at_work: bool, request: Value) -> Response {
    let origin = Origin {
        channel_type: Some("chan".into()),
        platform_id: Some("p".into()),
        thread_id: None,
    };
    let view = RequestView {
        now: now(),
        min_interval: Duration::from_secs(60),
        may_make: true,
        series: "task-new",
        origin: &origin,
        refusal: None,
        tasks,
        asked: None,
        at_work: &|_| at_work,
    };
    respond(&view, &MessageId::parse("r1").unwrap(), &request.to_string())
}

pub(super) fn ask(tasks: &[Live], request: Value) -> Response {
    ask_in(tasks, false, request)
}

fn said(response: &Response) -> Value {
    serde_json::from_str(&response.answer).unwrap()
}

fn begun(request: Value) -> NewTask {
    match ask(&[], request.clone()).effect {
        Effect::Begin(task) => task,
        other => panic!("{request}: {other:?}"),
    }
}

fn replaced(tasks: &[Live], at_work: bool, request: Value) -> (MessageId, bool, NewOccurrence) {
    match ask_in(tasks, at_work, request.clone()) {
        Response { effect: Effect::Replace { before, at_work, next, .. }, .. } => {
            (before, at_work, next)
        }
        other => panic!("{request}: {other:?}"),
    }
}

#[test]
fn a_task_is_due_when_it_is_asked_for() {
    let cases = [
        ("at once", json!({}), "2026-03-02T10:00:00Z", None, "UTC"),
        (
            "at an instant",
            json!({"process_after": "2026-03-02T12:00:00+01:00"}),
            "2026-03-02T11:00:00Z",
            None,
            "UTC",
        ),
        (
            "at an instant that has passed",
            json!({"process_after": "1970-01-01T00:00Z", "recurrence": "* * * * *"}),
            "2026-03-02T10:00:00Z",
            Some("* * * * *"),
            "UTC",
        ),
        (
            "when a clock shows it",
            json!({"process_after": "2026-07-01T09:00", "zone": "Europe/Berlin"}),
            "2026-07-01T07:00:00Z",
            None,
            "Europe/Berlin",
        ),
        (
            "when a clock jumps over it",
            json!({"process_after": "2026-03-29 02:30", "zone": "europe/berlin"}),
            "2026-03-29T01:00:00Z",
            None,
            "Europe/Berlin",
        ),
        (
            "again and again",
            json!({"recurrence": "0 9 * * 1-5", "zone": "Europe/Berlin"}),
            "2026-03-03T08:00:00Z",
            Some("0 9 * * 1-5"),
            "Europe/Berlin",
        ),
        (
            "from an instant on",
            json!({"recurrence": "every 2h", "process_after": "2026-03-02T10:30:00Z"}),
            "2026-03-02T10:30:00Z",
            Some("every 2h"),
            "UTC",
        ),
        (
            "after an interval",
            json!({"recurrence": "every 2h"}),
            "2026-03-02T12:00:00Z",
            Some("every 2h"),
            "UTC",
        ),
    ];
    for (case, mut request, nominal, recurrence, zone) in cases {
        request["action"] = "schedule_task".into();
        request["prompt"] = " read the news ".into();
        let task = begun(request);
        assert_eq!(task.first.nominal, at(nominal), "{case}");
        assert_eq!(task.first.recurrence.as_deref(), recurrence, "{case}");
        assert_eq!(task.first.zone.as_deref(), Some(zone), "{case}");
        assert_eq!(task.first.id, occurrence_id("task-new", 0, at(nominal)), "{case}");
        assert_eq!(task.content, r#"{"text":"read the news"}"#, "{case}");
        assert_eq!(task.origin.platform_id.as_deref(), Some("p"), "{case}");
        assert!(!task.first.paused && task.series == "task-new", "{case}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_the_reason() {
    let task = |extra: Value| {
        let mut request = json!({"action": "schedule_task", "prompt": "p"});
        request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        request
    };
    let cases = [
        (json!("schedule_task"), "a JSON object"),
        (json!({"prompt": "p"}), "no such request"),
        (json!({"action": 7}), "no such request"),
        (json!({"action": "request_change"}), "no such request"),
        (json!({"action": "schedule_task"}), "prompt"),
        (json!({"action": "schedule_task", "prompt": " \n"}), "empty"),
        (json!({"action": "schedule_task", "prompt": 5}), "string"),
        (
            task(json!({"prompt": "x".repeat(8193)})),
            "`prompt` has 8193 bytes, at most 8192 are taken",
        ),
        (task(json!({"zone": "x".repeat(65)})), "`zone` has 65 bytes, at most 64 are taken"),
        (
            task(json!({"recurrence": format!("{:257}", "daily 09:00")})),
            "the recurrence has 257 bytes, at most 256 are taken",
        ),
        (task(json!({"filler": "x".repeat(65536)})), "bytes, at most 65536 are taken"),
        (task(json!({"recurence": "daily 09:00"})), "recurence"),
        (task(json!({"wake": "yes"})), "wake"),
        (task(json!({"recurrence": "* * *"})), "cron expression"),
        (task(json!({"recurrence": "0 9 31 2 *"})), "cron expression"),
        (task(json!({"recurrence": "every 59s"})), "too often"),
        (task(json!({"recurrence": "once 2027-01-01T00:00:00Z"})), "process_after"),
        (task(json!({"zone": "Europe/Belrin"})), "is it Europe/Berlin?"),
        (task(json!({"process_after": "2026-02-30T09:00:00Z"})), "no time"),
        (task(json!({"process_after": "2026-02-30T09:00"})), "no time"),
        (task(json!({"process_after": "tomorrow"})), "no time"),
        (task(json!({"process_after": "1969-12-31T09:00:00Z"})), "no time"),
        (json!({"action": "list_tasks", "session": "another"}), "session"),
        (json!({"action": "cancel_task"}), "id"),
        (json!({"action": "cancel_task", "id": "task-b"}), "no task"),
        (json!({"action": "cancel_task", "id": "task-a", "session": "another"}), "session"),
        (json!({"action": "update_task", "id": "task-a"}), "nothing to change"),
        (json!({"action": "update_task", "id": "task-a", "recurrence": "every 1s"}), "too often"),
        (json!({"action": "update_task", "id": "task-b", "prompt": "p"}), "no task"),
        (json!({"action": "pause_task", "id": "task-b"}), "no task"),
        (json!({"action": "resume_task", "id": ""}), "no task"),
    ];
    let tasks = [live(daily())];
    for (request, reason) in cases {
        let response = ask(&tasks, request.clone());
        assert_eq!(response.effect, Effect::Nothing, "{request}");
        let refusal = response.refusal.as_deref().unwrap_or_default();
        assert!(refusal.contains(reason), "{request}: {refusal}");
        let answer = said(&response);
        assert_eq!((&answer["ok"], &answer["request"]), (&json!(false), &json!("r1")), "{request}");
        assert!(answer["text"].as_str().unwrap().contains(refusal), "{request}: {answer}");
        assert!(response.answer.len() < 4096, "{request}");
    }
}

#[test]
fn a_session_has_so_many_tasks_and_no_more() {
    let many: Vec<Live> = (0..TASKS_MAX)
        .map(|n| live(Occurrence { series: format!("task-{n}"), ..daily() }))
        .collect();
    let request = json!({"action": "schedule_task", "prompt": "p"});
    assert!(ask(&many[1..], request.clone()).refusal.is_none());
    let refusal = ask(&many, request).refusal.unwrap();
    assert!(refusal.contains("100 tasks") && refusal.contains("cancel"), "{refusal}");
}

#[test]
fn a_task_that_may_not_answer_where_it_was_asked_for_is_refused() {
    let origin = Origin::default();
    let view = RequestView {
        now: now(),
        min_interval: Duration::from_secs(60),
        may_make: true,
        series: "task-new",
        origin: &origin,
        refusal: Some("the agent is not wired to it"),
        tasks: &[],
        asked: None,
        at_work: &|_| false,
    };
    let id = MessageId::parse("r1").unwrap();
    let schedule = respond(&view, &id, r#"{"action":"schedule_task","prompt":"p"}"#);
    assert_eq!(schedule.refusal.as_deref(), view.refusal);
    assert_eq!(respond(&view, &id, r#"{"action":"list_tasks"}"#).refusal, None);
}

#[test]
fn an_answer_wakes_the_agent_if_it_asks_for_that() {
    for (request, wake) in [
        (json!({"action": "list_tasks", "wake": true}), true),
        (json!({"action": "list_tasks", "wake": false}), false),
        (json!({"action": "list_tasks"}), false),
        (json!({"action": "nonsense", "wake": true}), true),
    ] {
        assert_eq!(ask(&[], request.clone()).wake, wake, "{request}");
    }
}

#[test]
fn a_list_shows_each_series_once_with_its_next_time_in_its_zone() {
    let finishing = Occurrence { recurrence: None, seq: Seq(8), ..daily() };
    let other = Occurrence { series: "task-b".into(), seq: Seq(6), ..paused(daily()) };
    let response =
        ask(&[live(daily()), live(other), live(finishing)], json!({"action": "list_tasks"}));
    let answer = said(&response);
    let shown = answer["tasks"].as_array().unwrap();
    assert_eq!(
        (shown.len(), &shown[0]["id"], &shown[1]["id"]),
        (2, &json!("task-a"), &json!("task-b"))
    );
    assert_eq!(shown[0]["next"], "2026-03-03T08:00:00.000Z");
    assert_eq!((&shown[1]["next"], &shown[1]["status"]), (&Value::Null, &json!("paused")));
    let text = answer["text"].as_str().unwrap();
    assert!(text.contains("2026-03-03 09:00:00 Europe/Berlin, daily 09:00"), "{text}");
    assert!(text.contains("task-b, paused, daily 09:00: \"read the news\""), "{text}");
    let none = said(&ask(&[], json!({"action": "list_tasks"})));
    assert_eq!(none["text"], "There are no tasks in this conversation.");
}

fn change(fields: Value) -> Value {
    let mut request = json!({"action": "update_task", "id": "task-a"});
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    request
}

/// It may be at work already: with another id it would be done again.
#[test]
fn what_keeps_its_time_stays_the_same_occurrence() {
    let due = Occurrence { nominal: Some(at("2026-03-02T09:59:59Z")), ..daily() };
    let cases = [
        ("what it says", due.clone(), json!({"prompt": "x"}), Some("daily 09:00"), "Europe/Berlin"),
        ("it is done once more", due.clone(), json!({"recurrence": null}), None, "Europe/Berlin"),
        (
            "where it is done once",
            Occurrence { recurrence: None, ..due },
            json!({"prompt": "x", "zone": "UTC"}),
            None,
            "UTC",
        ),
    ];
    for (case, row, fields, recurrence, zone) in cases {
        for row in [row.clone(), paused(row)] {
            let prompt = fields["prompt"].as_str();
            let response = ask(&[live(row.clone())], change(fields.clone()));
            let Effect::Amend(id, amended) = &response.effect else { panic!("{case}") };
            assert_eq!(*id, row.id, "{case}");
            assert_eq!(amended.content, prompt.map(|text| Chat::text(text).to_json()), "{case}");
            assert_eq!(amended.recurrence.as_deref(), recurrence, "{case}");
            assert_eq!(amended.zone.as_deref(), Some(zone), "{case}");
            let shown = &said(&response)["tasks"][0];
            assert_eq!(shown["prompt"], prompt.unwrap_or("read the news"), "{case}");
            assert_eq!(shown["recurrence"], json!(recurrence), "{case}");
            assert_eq!(shown["status"], json!(row.status), "{case}");
        }
    }
}

#[test]
fn another_time_is_another_occurrence() {
    let cases = [
        (
            "its cadence",
            daily(),
            json!({"recurrence": "daily 12:00"}),
            "2026-03-02T11:00:00Z",
            Some("daily 12:00"),
        ),
        (
            "its zone",
            daily(),
            json!({"zone": "America/New_York"}),
            "2026-03-02T14:00:00Z",
            Some("daily 09:00"),
        ),
        (
            "its next time",
            daily(),
            json!({"process_after": "2026-03-05T09:00"}),
            "2026-03-05T08:00:00Z",
            Some("daily 09:00"),
        ),
        (
            "it is done again",
            once(),
            json!({"recurrence": "every 1h"}),
            "2026-03-02T11:00:00Z",
            Some("every 1h"),
        ),
    ];
    for (case, row, fields, nominal, recurrence) in cases {
        for row in [row.clone(), paused(row)] {
            let is_paused = row.status == Status::Paused;
            let (before, at_work, next) =
                replaced(&[live(row.clone())], false, change(fields.clone()));
            assert_eq!((before, at_work), (row.id, false), "{case}");
            assert_eq!((next.nominal, next.generation), (at(nominal), 1), "{case}");
            assert_eq!(next.recurrence.as_deref(), recurrence, "{case}");
            assert_eq!(next.paused, is_paused, "{case}");
            assert_eq!(next.id, occurrence_id("task-a", 1, at(nominal)), "{case}");
        }
    }
}

#[test]
fn an_occurrence_that_is_worked_on_is_finished_and_what_follows_is_changed() {
    let due = Occurrence { nominal: Some(at("2026-03-02T08:00:00Z")), ..daily() };
    let (before, at_work, next) =
        replaced(&[live(due.clone())], true, json!({"action": "pause_task", "id": "task-a"}));
    assert_eq!((before, at_work, next.paused), (due.id.clone(), true, true));
    assert_eq!(next.nominal, at("2026-03-03T08:00:00Z"));
    let change = json!({"action": "update_task", "id": "task-a", "prompt": "x"});
    let (_, at_work, next) = replaced(&[live(due.clone())], true, change.clone());
    assert_eq!((at_work, next.paused, next.nominal), (true, false, at("2026-03-03T08:00:00Z")));

    let cancel = json!({"action": "cancel_task", "id": "task-a"});
    let cancelled = ask_in(&[live(due)], true, cancel.clone());
    let finish =
        Effect::Cancel { series: "task-a".into(), live: vec![], at_work: vec![daily().id] };
    assert_eq!((&cancelled.effect, &cancelled.refusal), (&finish, &None));
    assert!(cancelled.answer.contains("is finished"), "{}", cancelled.answer);

    let pause = json!({"action": "pause_task", "id": "task-a"});
    for request in [change, pause] {
        let refusal = ask_in(&[live(once())], true, request).refusal.unwrap();
        assert!(refusal.contains("being worked on"), "{refusal}");
    }
    let later = json!({"action": "update_task", "id": "task-a",
                       "process_after": "2026-03-05T09:00:00Z"});
    assert_eq!(replaced(&[live(once())], true, later).2.nominal, at("2026-03-05T09:00:00Z"));
}

#[test]
fn what_is_paused_goes_on_with_the_first_time_to_come() {
    let resume = json!({"action": "resume_task", "id": "task-a"});
    let missed = Occurrence { nominal: Some(at("2026-02-01T08:00:00Z")), ..daily() };
    let row = paused(missed.clone());
    let (before, _, next) = replaced(&[live(row.clone())], false, resume.clone());
    assert_eq!((before, next.paused), (row.id, false));
    assert_eq!((next.nominal, next.generation), (at("2026-03-03T08:00:00Z"), 1));
    let kept = [
        ("none was missed", paused(daily())),
        ("what is done once was missed", Occurrence { recurrence: None, ..paused(missed) }),
    ];
    for (case, row) in kept {
        let response = ask(&[live(row.clone())], resume.clone());
        assert_eq!(response.effect, Effect::Resume(row.id), "{case}: the same one");
        assert_eq!(said(&response)["tasks"][0]["next"], json!(row.process_after), "{case}");
    }
    let running = ask(&[live(daily())], resume);
    assert_eq!((running.effect, running.refusal), (Effect::Nothing, None));
    let pause = json!({"action": "pause_task", "id": "task-a"});
    assert_eq!(ask(&[live(daily())], pause.clone()).effect, Effect::Pause(daily().id));
    assert_eq!(ask(&[live(paused(daily()))], pause).effect, Effect::Nothing);
}

#[test]
fn every_id_of_a_series_reaches_its_live_occurrence_alone() {
    let other = Occurrence {
        series: "task-b".into(),
        id: occurrence_id("task-b", 0, UnixMillis(0)),
        ..daily()
    };
    let finishing = Occurrence {
        recurrence: None,
        seq: Seq(2),
        id: MessageId::parse("old").unwrap(),
        ..daily()
    };
    let tasks = [live(finishing.clone()), live(daily()), live(other)];
    let forgotten = occurrence_id("task-a", 0, at("2020-01-01T00:00:00Z"));
    for id in ["task-a", daily().id.as_str(), "old", forgotten.as_str()] {
        let pause = json!({"action": "pause_task", "id": id});
        assert_eq!(ask(&tasks, pause).effect, Effect::Pause(daily().id), "{id}");
        let cancel = json!({"action": "cancel_task", "id": id});
        let live = vec![finishing.id.clone(), daily().id];
        let expected = Effect::Cancel { series: "task-a".into(), live, at_work: vec![] };
        assert_eq!(ask(&tasks, cancel).effect, expected, "{id}");
    }
}

#[test]
fn what_is_just_not_too_long_is_taken() {
    let with = |field: &str, text: String| {
        let mut request =
            json!({ "action": "schedule_task", "prompt": "p", "recurrence": "daily 09:00" });
        request[field] = json!(text);
        request
    };
    let longest = |field: &str, text: &str, most: usize| with(field, format!("{text:most$}"));
    begun(with("prompt", "x".repeat(8192)));
    begun(longest("recurrence", "daily 09:00", 256));
    let room = 65_536 - with("prompt", String::new()).to_string().len();
    let whole = longest("prompt", "x", room);
    assert_eq!(whole.to_string().len(), 65_536);
    begun(whole);
    let more = ask(&[], longest("prompt", "x", room + 1));
    assert_eq!(more.effect, Effect::Nothing);
    let reason = more.refusal.unwrap();
    assert_eq!(reason, "the request has 65537 bytes, at most 65536 are taken");
    let deep = format!(r#"{{"action":{}0{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
    assert!(read(&deep).is_err());
}
