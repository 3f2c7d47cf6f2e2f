//! The host goes and comes back; conversations go on.

use std::io::{BufRead, BufReader, Write};
use std::sync::mpsc;
use std::time::Duration;

use twobox_tests::{PATIENCE, Setup, on_all_runtimes, on_process, wait_for, wait_within};

use crate::scripts::{echo, hangs_at_first, slow};

on_all_runtimes!(
    a_working_container_is_adopted_after_sigterm,
    a_working_container_is_adopted_after_sigkill,
    a_turn_that_a_shutdown_ends_is_forgiven,
    an_orphaned_claim_wakes_in_the_very_first_pass,
    a_message_accepted_before_a_crash_is_answered_after_it,
    the_second_host_is_told_who_holds_the_directory,
    a_chat_that_reconnects_shows_each_message_once,
    without_waiting_for_the_disk_no_kill_loses_anything,
    whoever_removes_a_data_directory_is_rid_of_its_runners,
);

on_process!(a_host_with_nothing_to_do_stops_at_once, a_host_that_was_followed_by_another_ends,);

fn whoever_removes_a_data_directory_is_rid_of_its_runners(setup: Setup) {
    let world = setup.agent("ada", echo()).agent("bob", hangs_at_first()).up();
    let (ada, bob) = (world.chat("ada"), world.chat("bob"));
    assert_eq!(ada.ask("hello"), "echo: hello");
    let idle = world.container(&world.session("ada")).expect("it waits for more");
    let (_, _, working) = world.occupy(&bob, "bob", "hang");
    world.kill_host();
    std::fs::remove_dir_all(world.data()).unwrap();
    idle.wait_gone();
    working.wait_gone();
}

fn a_working_container_is_adopted_after_sigterm(setup: Setup) {
    let world = setup.agent("ada", slow(2500)).up();
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "slow");
    world.stop_host();
    assert!(container.lives(), "left for the next host");
    world.up();
    assert_eq!(world.container(&session), Some(container.clone()));
    world.assert_answered_once(&chat, &session, &id, "echo: slow");
    assert_eq!(session.message(&id).tries, 0);
    assert_eq!(chat.ask("and on"), "echo: and on");
    assert_eq!(world.container(&session), Some(container), "the same container serves on");
    assert_eq!((chat.deliveries().len(), world.starts()), (2, 1));
}

fn a_working_container_is_adopted_after_sigkill(setup: Setup) {
    let world = setup.agent("ada", slow(2500)).up();
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "slow");
    world.kill_host();
    assert!(container.lives());
    world.up();
    assert_eq!(world.container(&session), Some(container.clone()));
    world.assert_answered_once(&chat, &session, &id, "echo: slow");
    assert_eq!(session.message(&id).tries, 0);
    assert_eq!(chat.ask("and on"), "echo: and on");
    assert_eq!(world.container(&session), Some(container));
    assert_eq!((chat.deliveries().len(), world.starts()), (2, 1));
}

fn a_turn_that_a_shutdown_ends_is_forgiven(setup: Setup) {
    let world = setup
        .setting("shutdown.containers", "stop")
        .setting("containers.stop_grace", "1s")
        .agent("ada", hangs_at_first())
        .up();
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "hang on");
    world.stop_host();
    assert!(!container.lives(), "stopped before the host left");
    let message = session.message(&id);
    let found = (message.status.as_str(), message.tries, message.forgiven);
    assert_eq!(found, ("pending", 1, 1), "released, and nobody is charged");
    world.up();
    world.assert_answered_once(&chat, &session, &id, "echo: hang on");
    assert_eq!(session.message(&id).tries, 1);
}

fn an_orphaned_claim_wakes_in_the_very_first_pass(setup: Setup) {
    let world = setup.agent("ada", hangs_at_first()).up();
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "hang on");
    world.kill_host();
    container.kill();
    assert!(session.is_claimed(&id), "the claim is orphaned");
    assert_eq!(session.message(&id).tries, 0);
    world.up();
    // Any backoff would be 5 s.
    chat.wait_answer_within(Duration::from_secs(4), &id);
    world.assert_answered_once(&chat, &session, &id, "echo: hang on");
    let message = session.message(&id);
    assert_eq!((message.tries, message.forgiven), (1, 0));
    assert_eq!(world.starts(), 2);
}

fn a_message_accepted_before_a_crash_is_answered_after_it(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    let chat = world.chat("ada");
    let id = chat.say("hello");
    world.kill_host(); // at whatever it is doing
    world.up();
    let session = world.session("ada");
    world.assert_answered_once(&chat, &session, &id, "echo: hello");
}

fn the_second_host_is_told_who_holds_the_directory(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    let second = world.run(&["up"]);
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains(&format!("process {}", world.host_pid())), "{said}");
    assert_eq!(world.chat("ada").ask("hello"), "echo: hello", "the first one goes on");
}

fn a_chat_that_reconnects_shows_each_message_once(setup: Setup) {
    let world = setup.agent("ada", slow(1500)).up();
    let mut chat = world.spawn(&["chat", "--agent", "ada", "--wait", "30"]);
    let mut input = chat.stdin.take().unwrap();
    let output = BufReader::new(chat.stdout.take().unwrap());
    let (shown, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        output.lines().map_while(Result::ok).for_each(|line| drop(shown.send(line)));
    });
    let mut say = |text: &str| writeln!(input, "{text}").unwrap();
    let next = || lines.recv_timeout(PATIENCE).unwrap();
    say("one");
    assert_eq!(next(), "echo: one");
    for (restart, text) in ["slow two", "slow three"].into_iter().enumerate() {
        say(text);
        let session = world.session("ada");
        wait_for("the turn to begin", || {
            session.acks().iter().any(|ack| ack.status == "processing").then_some(())
        });
        match restart {
            0 => world.kill_host(),
            _ => world.stop_host(),
        }
        world.up();
        assert_eq!(next(), format!("echo: {text}"));
    }
    say("four");
    assert_eq!(next(), "echo: four");
    drop(input);
    assert!(chat.wait().unwrap().success());
    reader.join().unwrap();
    assert_eq!(lines.try_iter().collect::<Vec<_>>(), Vec::<String>::new(), "nothing twice");
}

fn without_waiting_for_the_disk_no_kill_loses_anything(setup: Setup) {
    let world = setup.setting("durability", "process-crash").agent("ada", echo()).up();
    let chat = world.chat("ada");
    chat.ask("hello");
    let session = world.session("ada");
    assert!(world.wait_container(&session).has_argument("process-crash"), "the runner was told");
    let mut said = Vec::new();
    for round in 0..6 {
        let text = format!("message {round}");
        said.push((chat.say(&text), format!("echo: {text}")));
        let container = world.container(&session); // none lives if it was killed with all said
        // Each at whatever it is doing, in turns.
        if round % 3 != 1 {
            world.kill_host();
        }
        if let Some(container) = container.filter(|_| round % 3 != 0) {
            container.kill();
        }
        if round % 3 != 1 {
            world.up();
        }
        chat.wait_answer(&said[round].0);
    }
    for (id, text) in &said {
        world.assert_answered_once(&chat, &session, id, text);
    }
}

fn a_host_with_nothing_to_do_stops_at_once(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    let chat = world.chat("ada");
    chat.ask("hello");
    world.session("ada").wait_settled();
    let begin = std::time::Instant::now();
    world.stop_host();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(5), "it took {took:?}");
}

/// The lock of the directory keeps two hosts apart; where a file system breaks that promise, this does.
fn a_host_that_was_followed_by_another_ends(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    assert_eq!(world.chat("ada").ask("hello"), "echo: hello");
    let follow = "UPDATE owner SET owner = 'somebody else', epoch = epoch + 1";
    let db = rusqlite::Connection::open(world.data().join("host.db")).unwrap();
    assert_eq!(db.execute(follow, []).unwrap(), 1);
    // The host looks once a minute.
    let status = wait_within(PATIENCE + Duration::from_secs(60), "the host to end", || {
        (!world.host_lives()).then(|| world.wait_host_gone())
    });
    assert_eq!(status.code(), Some(1), "systemd starts it again, and then the lock decides");
    let log = world.host_log();
    assert!(log.contains("another host has taken host.db over"), "{log}");
}
