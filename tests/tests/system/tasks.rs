//! What an agent puts off for later: done at its time, once each, and by nobody but its session.

use std::time::Duration;

use serde_json::{Value, json};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::time::UnixMillis;
use twobox_tests::faults::shim::Shim;
use twobox_tests::{
    Chat, Session, Setup, World, holds_for, on_both_runtimes, on_process, wait_for,
};

on_both_runtimes!(
    a_task_recurs_until_it_is_cancelled,
    a_paused_task_rests_and_goes_on,
    a_task_goes_on_after_a_failure_and_after_the_host_was_killed,
    a_request_that_makes_no_sense_is_answered_with_the_reason,
    an_answer_that_the_agent_waits_for_wakes_it,
);

on_process!(
    a_task_is_done_at_its_time_and_nobody_waits_for_it,
    an_operator_pauses_and_ends_a_task_and_the_agent_is_told,
    an_agent_makes_no_task_against_the_setting,
);

/// A container that has nothing to do leaves soon, and a task may recur each second.
fn brisk(setup: Setup) -> Setup {
    setup.setting("containers.idle", "300ms").setting("schedule.min_interval", "1s")
}

/// Makes `request` when it is asked to, says "it rings" to `ring`, and fails to `fail`.
fn asks(request: &Value) -> Value {
    json!({
        "rules": [
            { "match": "^ring", "do": [{ "reply": "it rings" }] },
            { "match": "^fail", "do": [{ "fail": { "reason": "auth_failed", "retryable": false } }] },
            { "match": "^Refused|^Tasks in", "do": [{ "reply": "{text}" }] },
            { "match": "^ask", "do": [{ "system": request }, { "reply": "as you wish" }] },
        ],
    })
}

/// Has the agent make `request`.
fn ask(world: &World, chat: &Chat, request: &Value) {
    world.set_script("ada", &asks(request));
    assert_eq!(chat.ask("ask"), "as you wish");
}

fn rings(chat: &Chat) -> usize {
    chat.letters().iter().filter(|letter| letter.text == "it rings").count()
}

fn wait_rings(chat: &Chat, count: usize) {
    wait_for(&format!("{count} rings"), || (rings(chat) >= count).then_some(()));
}

/// `twobox sessions tasks`.
fn tasks(world: &World, session: &Session) -> Value {
    serde_json::from_str(&world.twobox(&["--json", "sessions", "tasks", &session.id])).unwrap()
}

/// The task that lives.
fn live(world: &World, session: &Session) -> Value {
    wait_for("one live task", || {
        let live = tasks(world, session)["live"].as_array().unwrap().clone();
        <[Value; 1]>::try_from(live).ok()
    })[0]
        .clone()
}

/// The ids of all occurrences that there ever were, which end with their nominal times.
fn occurrences(session: &Session) -> Vec<String> {
    let tasks = session.messages().into_iter().filter(|message| message.kind == "task");
    tasks.map(|message| message.id).collect()
}

/// What the host answered.
fn answers(session: &Session) -> Vec<Value> {
    let messages = session.messages().into_iter().filter(|message| message.kind == "system");
    messages.map(|message| serde_json::from_str(&message.content).unwrap()).collect()
}

fn daily() -> Value {
    json!({ "action": "schedule_task", "prompt": "ring", "recurrence": "daily 09:00" })
}

fn an_operator_pauses_and_ends_a_task_and_the_agent_is_told(setup: Setup) {
    let world = setup.agent("ada", asks(&daily())).up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("ask"), "as you wish");
    let session = world.session("ada");
    let task = live(&world, &session)["series"].as_str().unwrap().to_owned();
    let listed = || -> Vec<Value> {
        let list = world.twobox(&["--json", "tasks", "list"]);
        let list: Value = serde_json::from_str(&list).unwrap();
        assert_eq!(list["unreadable"], json!([]));
        list["tasks"].as_array().unwrap().clone()
    };
    let only = &listed()[0];
    assert_eq!((&only["series"], &only["session"]), (&json!(task), &json!(session.id)));
    assert_eq!((&only["agent"], &only["prompt"]), (&json!("ada"), &json!("ring")));
    for (verb, said, status) in [
        ("pause", "Paused", Some("paused")),
        ("resume", "Resumed", Some("pending")),
        ("cancel", "Cancelled", None),
    ] {
        let outcome = world.twobox(&["tasks", verb, &task]);
        assert!(outcome.starts_with(said), "{verb}: {outcome}");
        let now: Vec<_> = listed().iter().map(|it| it["status"].clone()).collect();
        let expected: Vec<Value> = status.into_iter().map(Value::from).collect();
        assert_eq!(now, expected, "{verb}");
        let told = answers(&session).pop().unwrap();
        let text = told["text"].as_str().unwrap();
        assert!(text.contains("operator") && text.contains(said), "{verb}: {text}");
    }
    let again = world.run(&["tasks", "cancel", &task]);
    let reason = String::from_utf8(again.stderr).unwrap();
    assert!(!again.status.success() && reason.contains("it is over"), "{reason}");
    world.assert_fsck_clean();
}

fn an_agent_makes_no_task_against_the_setting(setup: Setup) {
    let world = setup.setting("schedule.agent_tasks", false).agent("ada", asks(&daily())).up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("ask"), "as you wish");
    let session = world.session("ada");
    let told = wait_for("the answer", || answers(&session).pop());
    assert_eq!(told["ok"], false);
    assert!(told["text"].as_str().unwrap().contains("schedule.agent_tasks"), "{told}");
    assert_eq!(tasks(&world, &session)["live"], json!([]));
}

fn a_task_is_done_at_its_time_and_nobody_waits_for_it(setup: Setup) {
    let shim = Shim::build();
    let setup = brisk(setup).runner_under(&shim);
    let world = setup.agent("ada", asks(&Value::Null)).make();
    let env = shim.host_env();
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    world.up_with(&env);
    let chat = world.chat("ada");
    let due = SystemClock.now() + Duration::from_secs(3600);
    let request = json!({ "action": "schedule_task", "prompt": "ring", "process_after": due });
    ask(&world, &chat, &request);
    let session = world.session("ada");
    world.wait_no_containers();
    wait_for("the session to rest until then", || {
        (world.session("ada").next_due_ms == Some(due.0)).then_some(())
    });
    assert_eq!(
        live(&world, &session)["due"],
        format!("{} UTC", &due.to_string()[..19].replace('T', " "))
    );
    assert_eq!(rings(&chat), 0);
    world.assert_fsck_clean();
    // So far before it that the host is up again and waits for it.
    world.stop_host();
    shim.clock_ahead((due - Duration::from_secs(2)).since(SystemClock.now()));
    world.up_with(&env);
    wait_rings(&chat, 1);
    session.wait_status(
        &format!("{}@0.{}", answers(&session)[0]["tasks"][0]["id"].as_str().unwrap(), due.0),
        "completed",
    );
    world.wait_no_containers();
    wait_for("nobody to be going to look", || (!world.is_marked(&session)).then_some(()));
    assert_eq!((rings(&chat), world.starts()), (1, 2));
    assert_eq!(tasks(&world, &session)["live"], json!([]));
    world.assert_fsck_clean();
}

fn a_task_recurs_until_it_is_cancelled(setup: Setup) {
    let world = brisk(setup).agent("ada", asks(&Value::Null)).up();
    let chat = world.chat("ada");
    let request = json!({ "action": "schedule_task", "prompt": "ring", "recurrence": "every 1s" });
    ask(&world, &chat, &request);
    wait_rings(&chat, 3);
    let session = world.session("ada");
    let first = session.messages().into_iter().find(|it| it.kind == "task").unwrap();
    ask(&world, &chat, &json!({ "action": "cancel_task", "id": first.id }));
    wait_for("the task to be over", || {
        (tasks(&world, &session)["live"] == json!([])).then_some(())
    });
    wait_for("what is being worked on to be finished", || {
        let messages = session.messages();
        messages.iter().all(|it| it.kind != "task" || it.status != "pending").then_some(())
    });
    wait_for("all letters", || session.undelivered().is_empty().then_some(()));
    let heard = rings(&chat);
    holds_for(Duration::from_secs(2), "nothing follows", || rings(&chat) == heard);
    let done: Vec<_> = session
        .messages()
        .into_iter()
        .filter(|it| it.status == "completed" && it.kind == "task")
        .collect();
    // Where a container takes its time to start, one turn may have an occurrence and what was asked.
    for occurrence in &done {
        // The agent's rows say what they answer; the chat, which never saw these ids, is not told.
        let rows = session.rows();
        let names = |row: &&twobox_tests::Row, id: &str| {
            let listed = twobox_shared::content::Chat::from_content(&row.content).answers;
            row.in_reply_to.as_deref() == Some(id) || listed.iter().any(|it| it == id)
        };
        let answers = rows.iter().filter(|row| names(row, &occurrence.id));
        assert_eq!(answers.count(), 1, "once: {occurrence:?} in {rows:?}");
        let quoted = chat.deliveries().iter().any(|letter| letter.answers.contains(&occurrence.id));
        assert!(!quoted, "{occurrence:?}");
    }
    world.assert_fsck_clean();
}

fn a_paused_task_rests_and_goes_on(setup: Setup) {
    let world = brisk(setup).agent("ada", asks(&Value::Null)).up();
    let chat = world.chat("ada");
    let request = json!({ "action": "schedule_task", "prompt": "ring", "recurrence": "every 2s" });
    ask(&world, &chat, &request);
    let session = world.session("ada");
    let id = live(&world, &session)["series"].clone();
    ask(&world, &chat, &json!({ "action": "pause_task", "id": id }));
    wait_for("it to be paused", || (live(&world, &session)["status"] == "paused").then_some(()));
    world.wait_no_containers();
    wait_for("nobody to be going to look", || (!world.is_marked(&session)).then_some(()));
    let heard = rings(&chat);
    holds_for(Duration::from_secs(3), "it is paused", || rings(&chat) == heard);
    world.assert_fsck_clean();
    ask(&world, &chat, &json!({ "action": "update_task", "id": id, "prompt": "ring twice" }));
    let before: Vec<String> = occurrences(&session);
    let asked_at = SystemClock.now();
    ask(&world, &chat, &json!({ "action": "resume_task", "id": id }));
    let resumed = wait_for("what came of it", || {
        answers(&session).into_iter().find(|answer| answer["action"] == "resume_task")
    });
    let next = UnixMillis::parse(resumed["tasks"][0]["next"].as_str().unwrap()).unwrap();
    assert!(next > asked_at, "it goes on with a time to come: {resumed}");
    wait_rings(&chat, heard + 2);
    let fresh = occurrences(&session).into_iter().filter(|it| !before.contains(it));
    let times: Vec<i64> = fresh.map(|it| it.rsplit_once('.').unwrap().1.parse().unwrap()).collect();
    assert_eq!(times.iter().min(), Some(&next.0), "what was missed is not made up for: {times:?}");
    let task = live(&world, &session);
    assert_eq!((&task["prompt"], &task["series"]), (&json!("ring twice"), &id));
    world.assert_fsck_clean();
}

fn a_task_goes_on_after_a_failure_and_after_the_host_was_killed(setup: Setup) {
    let world = brisk(setup).agent("ada", asks(&Value::Null)).up();
    let chat = world.chat("ada");
    let request = json!({ "action": "schedule_task", "prompt": "fail", "recurrence": "every 1s" });
    ask(&world, &chat, &request);
    let session = world.session("ada");
    let failed = || {
        let messages = session.messages().into_iter();
        messages.filter(|it| it.kind == "task" && it.status == "failed").count()
    };
    wait_for("two failures", || (failed() >= 2).then_some(()));
    world.kill_host();
    world.up();
    let so_far = failed();
    wait_for("two more", || (failed() >= so_far + 2).then_some(()));
    let id = live(&world, &session)["series"].clone();
    ask(&world, &chat, &json!({ "action": "update_task", "id": id, "prompt": "ring" }));
    wait_rings(&chat, 2);
    world.kill_host();
    world.up();
    let heard = rings(&chat);
    wait_rings(&chat, heard + 2);
    world.assert_fsck_clean();
}

fn a_request_that_makes_no_sense_is_answered_with_the_reason(setup: Setup) {
    let world = brisk(setup).agent("ada", asks(&Value::Null)).up();
    let chat = world.chat("ada");
    let cases = [
        (json!({ "action": "rule_the_world" }), "no such request"),
        (
            json!({ "action": "schedule_task", "prompt": "p", "recurrence": "0 9 31 2 *" }),
            "0 9 31 2 *",
        ),
        (
            json!({ "action": "schedule_task", "prompt": "p", "recurrence": "every 10ms" }),
            "too often",
        ),
        (json!({ "action": "cancel_task", "id": "task-0123456789abcdef" }), "there is no task"),
    ];
    for (request, _) in &cases {
        ask(&world, &chat, request);
    }
    let session = world.session("ada");
    wait_for("all answers", || (answers(&session).len() == cases.len()).then_some(()));
    for (answer, (request, reason)) in answers(&session).iter().zip(&cases) {
        let text = answer["text"].as_str().unwrap();
        assert!(text.contains(reason) && answer["ok"] == false, "{request}: {answer}");
    }
    let failed = session.deliveries().into_iter().filter(|it| it.status == "failed").count();
    assert_eq!(failed, cases.len());
    assert_eq!(tasks(&world, &session), json!({ "session": session.id, "live": [], "over": [] }));
    world.assert_fsck_clean();
}

fn an_answer_that_the_agent_waits_for_wakes_it(setup: Setup) {
    let world = brisk(setup).agent("ada", asks(&Value::Null)).up();
    let chat = world.chat("ada");
    let far = json!({ "action": "schedule_task", "prompt": "ring", "recurrence": "0 9 1 1 *",
                      "zone": "Asia/Tokyo" });
    ask(&world, &chat, &far);
    ask(&world, &chat, &json!({ "action": "list_tasks", "wake": true }));
    let told = wait_for("the list", || {
        chat.letters().into_iter().find(|letter| letter.text.starts_with("Tasks in"))
    });
    assert!(told.text.contains("09:00:00 Asia/Tokyo, 0 9 1 1 *: \"ring\""), "{}", told.text);
}
