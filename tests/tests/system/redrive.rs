//! What ended without success and is tried once more, or given up, on a person's word.

use serde_json::{Value, json};
use twobox_tests::{Session, Setup, World, on_all_runtimes, on_process, wait_for};

use crate::scripts::echo;

on_all_runtimes!(
    an_answer_that_nobody_took_is_sent_once_more_and_once_only,
    everything_that_ended_without_success_is_redriven_at_once,
    what_is_dropped_is_gone_from_the_list_and_stays_unsent,
);

on_process!(what_is_refused_without_end_is_counted_and_told_in_one_line);

/// Messages that nobody takes fail soon.
const HOLDS_SHORTLY: (&str, &str) = ("TWOBOX_DELIVERY_MAX_HOLD", "200ms");

/// Starts a host that keeps messages for a moment only, and lets an answer expire that nobody takes.
pub(crate) fn expired(world: &World) -> (Session, String) {
    world.up_with(&[HOLDS_SHORTLY]);
    let elsewhere = world.chat_in("ada", &[Some("elsewhere")]);
    elsewhere.say("hello");
    let session = world.session("ada");
    let row = wait_for("the answer to expire", || {
        session.deliveries().into_iter().find(|delivery| delivery.status == "failed")
    });
    (session, row.row)
}

/// Waits until every row of the outbox was delivered, by the host's word.
#[track_caller]
pub(crate) fn wait_delivered(session: &Session) {
    wait_for("all rows to be delivered", || {
        let all = session.deliveries();
        let rows = session.rows().len();
        (all.len() == rows && all.iter().all(|it| it.status == "delivered")).then_some(())
    });
}

/// What `twobox dead list` says of a session: kind, id and status.
fn listed(world: &World, session: &Session) -> Vec<(String, String, String)> {
    let list: Value =
        serde_json::from_str(&world.twobox(&["--json", "dead", "list", &session.id])).unwrap();
    let word = |dead: &Value, field: &str| dead[field].as_str().unwrap().to_owned();
    let dead = list["dead"].as_array().unwrap().iter();
    dead.map(|dead| (word(dead, "kind"), word(dead, "id"), word(dead, "status"))).collect()
}

fn outcomes(world: &World, order: &[&str]) -> Vec<String> {
    let said: Value =
        serde_json::from_str(&world.twobox(&[&["--json", "dead"], order].concat())).unwrap();
    let results = said["results"].as_array().unwrap().iter();
    results.map(|result| result["outcome"].as_str().unwrap().to_owned()).collect()
}

fn an_answer_that_nobody_took_is_sent_once_more_and_once_only(setup: Setup) {
    let world = setup.agent("ada", echo()).make();
    let (session, row) = expired(&world);
    let failed = ("delivery".to_owned(), row.clone(), "failed".to_owned());
    assert_eq!(listed(&world, &session), [failed]);
    world.stop_host();
    world.up();
    // Nobody is there yet: what is redriven waits, and a second order changes nothing.
    assert_eq!(outcomes(&world, &["redrive", &session.id, &row]), ["redriven"]);
    assert_eq!(outcomes(&world, &["redrive", &session.id, &row]), ["unchanged"]);
    assert_eq!(listed(&world, &session), []);
    world.kill_host();
    world.twobox(&["sessions", "fsck"]);
    world.up();
    let chat = world.chat("ada");
    let letter = chat.wait_letters(1).remove(0);
    assert!(letter.text == "echo: hello" && letter.key.ends_with(&row), "{letter:?}");
    wait_delivered(&session);
    assert_eq!(outcomes(&world, &["redrive", &session.id, &row]), ["unchanged"]);
    assert_eq!(chat.ask("more"), "echo: more", "and what comes later comes later");
    wait_delivered(&session);
    assert_eq!(chat.deliveries().len(), 2);
    world.twobox(&["sessions", "fsck"]);
}

fn everything_that_ended_without_success_is_redriven_at_once(setup: Setup) {
    let failure = json!({ "reason": "auth_failed", "detail": "no key", "retryable": false });
    let world = setup.agent("ada", json!({ "otherwise": [{ "fail": failure }] })).make();
    world.up_with(&[HOLDS_SHORTLY]);
    let elsewhere = world.chat_in("ada", &[Some("elsewhere")]);
    elsewhere.say("in vain");
    let session = world.session("ada");
    wait_for("message and notice", || (listed(&world, &session).len() == 2).then_some(()));
    world.set_script("ada", &echo());
    elsewhere.say("hello");
    wait_for("all three", || (listed(&world, &session).len() == 3).then_some(()));
    world.stop_host();
    world.up();
    let chat = world.chat("ada");
    let all = ["redrive", &session.id, "--all"];
    assert_eq!(outcomes(&world, &all), ["redriven", "redriven", "redriven"]);
    chat.wait_letters(3);
    wait_delivered(&session);
    assert_eq!((outcomes(&world, &all).len(), listed(&world, &session).len()), (0, 0));
    let mut texts: Vec<_> = chat.deliveries().into_iter().map(|letter| letter.text).collect();
    texts.sort();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert!(texts[0].contains("no key"), "the notice: {texts:?}");
    assert_eq!(texts[1..], ["echo: hello", "echo: in vain"]);
}

fn what_is_dropped_is_gone_from_the_list_and_stays_unsent(setup: Setup) {
    let world = setup.agent("ada", echo()).make();
    let (session, row) = expired(&world);
    let chat = world.chat("ada");
    assert_eq!(outcomes(&world, &["drop", &session.id, &row]), ["dropped"]);
    assert_eq!(outcomes(&world, &["drop", &session.id, &row]), ["unchanged"]);
    assert_eq!(listed(&world, &session), []);
    let refused = world.run(&["dead", "redrive", &session.id, &row]);
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(!refused.status.success() && said.contains("it was dropped"), "{said}");
    assert_eq!(chat.ask("more"), "echo: more");
    assert_eq!(chat.deliveries().len(), 1);
    world.twobox(&["sessions", "fsck"]);
}

fn what_is_refused_without_end_is_counted_and_told_in_one_line(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    assert_eq!(world.chat("ada").ask("hello"), "echo: hello");
    let session = world.session("ada");
    world.container(&session).expect("it waits for more").kill();
    world.wait_no_containers();
    // As a runner does that has gone astray.
    let outbox = rusqlite::Connection::open(session.folder.join("out/outbound.db")).unwrap();
    let astray = "
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 150)
        INSERT INTO messages_out (id, seq, timestamp, kind, content)
        SELECT 'r' || i, (SELECT max(seq) FROM messages_out) + 2 * i, '2027-01-15T08:00:00.000Z',
          'system', '{}' FROM n";
    assert_eq!(outbox.execute(astray, []).unwrap(), 150);
    drop(outbox);
    assert_eq!(world.chat("ada").ask("more"), "echo: more");
    let list =
        || -> Value { serde_json::from_str(&world.twobox(&["--json", "dead", "list"])).unwrap() };
    let counted = wait_for("all of them to be settled", || {
        let list = list();
        let told = list["dead"].as_array().unwrap().len() as u64;
        let counted = list["counted"][0]["count"].as_u64()?;
        (told + counted == 150).then_some(counted)
    });
    assert!((80..=90).contains(&counted), "{counted}: one more is told in each minute");
    let lines = |arguments: &[&str]| world.twobox(arguments).lines().count();
    let short = world.twobox(&["dead", "list"]);
    assert!(short.contains(&format!("×{}", 150 - counted)), "{short}");
    assert!(short.contains(&format!("only counted: {} ×{counted}", session.id)), "{short}");
    assert_eq!(short.lines().count(), 4, "heading, line, what × means, the counted: {short}");
    assert!(lines(&["dead", "list", "--each"]) > 60);
    world.assert_fsck_clean();
}
