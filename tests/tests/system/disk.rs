//! Disks that are full or read-only: what cannot be stored is refused and can be said again, what was
//! accepted is answered once, and everything goes on by itself once there is space.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use twobox_tests::faults::disk::{self, Part, SmallDisk};
use twobox_tests::{Chat, Mode, Session, Setup, World, binary, holds_for, on_process, wait_for};

use crate::scripts::{echo, slow};

on_process!(
    a_full_disk_refuses_a_message_and_takes_it_later,
    a_full_disk_refuses_the_first_message_of_all_and_takes_it_later,
    full_session_folders_refuse_a_message_and_take_it_later,
    a_full_host_db_loses_no_message,
    a_disk_that_fills_up_before_the_claim_puts_the_answer_off,
    a_disk_that_fills_up_in_the_middle_of_the_turn_puts_the_answer_off,
    session_folders_that_fill_up_in_the_middle_of_the_turn_put_the_answer_off,
    a_full_host_db_in_the_middle_of_the_turn_loses_nothing,
    a_delivery_that_cannot_be_recorded_is_not_repeated,
    a_full_outbox_puts_the_answer_off_and_nothing_else,
    a_host_that_starts_on_a_full_disk_says_so_or_goes_on_later,
    read_only_session_folders_refuse_a_message_and_take_it_later,
    a_host_that_starts_on_a_read_only_disk_says_so_and_starts_later,
);

/// How large the small disks are, in MiB.
const SMALL: u32 = 12;

/// For how long a fault lasts while nothing is to happen: longer than the pause of a session that
/// waits for an operator.
const WHILE: Duration = Duration::from_secs(6);

/// What every scenario ends with.
#[track_caller]
fn assert_all_answered(world: &World, chat: &Chat, session: &Session, messages: &[(&str, &str)]) {
    for (id, text) in messages {
        chat.wait_accepted(id);
        world.assert_answered_once(chat, session, id, &format!("echo: {text}"));
    }
    assert_eq!(chat.notices(), [], "nothing failed");
    assert_eq!(session.messages().len(), messages.len(), "stored once");
    assert_eq!(chat.deliveries().len(), messages.len(), "delivered once: {:?}", chat.deliveries());
    world.assert_fsck_clean();
}

fn says_what_where_and_what_to_do(world: &World, reason: &str, what: &str, advice: &str) {
    let place = world.data().canonicalize().unwrap();
    for part in [what, place.to_str().unwrap(), advice] {
        assert!(reason.contains(part), "{part:?} is missing in {reason:?}");
    }
}

fn a_full_disk_refuses_a_message_and_takes_it_later(setup: Setup) {
    refuses_while_full(setup, Part::Everything);
}

fn full_session_folders_refuse_a_message_and_take_it_later(setup: Setup) {
    refuses_while_full(setup, Part::Sessions);
}

fn refuses_while_full(setup: Setup, part: Part) {
    if !disk::available() {
        return;
    }
    let world = setup.on_small_disk(part, SMALL).agent("ada", echo()).up();
    let chat = world.chat("ada");
    let first = chat.say("hello");
    let session = world.session("ada");
    world.assert_answered_once(&chat, &session, &first, "echo: hello");
    world.disk().fill();
    // Too long for the room that is left in pages that the inbox has already.
    let long = "x".repeat(20_000);
    let second = chat.hand_in(None, &long);
    let reason = chat.wait_put_off(&second);
    says_what_where_and_what_to_do(&world, &reason, "full", "free some space");
    assert_eq!(session.messages().len(), 1, "nothing of it is stored");
    holds_for(WHILE, "refused", || !chat.is_accepted(&second));
    world.disk().free();
    assert_all_answered(&world, &chat, &session, &[(&first, "hello"), (&second, &long)]);
}

fn a_full_disk_refuses_the_first_message_of_all_and_takes_it_later(setup: Setup) {
    if !disk::available() {
        return;
    }
    let world = setup.on_small_disk(Part::Everything, SMALL).agent("ada", echo()).up();
    let chat = world.chat("ada");
    world.disk().fill();
    let id = chat.hand_in(None, "hello");
    let reason = chat.wait_put_off(&id);
    says_what_where_and_what_to_do(&world, &reason, "full", "free some space");
    world.disk().free();
    chat.wait_accepted(&id);
    assert_all_answered(&world, &chat, &world.session("ada"), &[(&id, "hello")]);
}

/// How many messages find room depends on what is left in the write-ahead log; each one makes a
/// session, which takes some.
fn a_full_host_db_loses_no_message(setup: Setup) {
    if !disk::available() {
        return;
    }
    let threads: Vec<String> = (0..10).map(|n| format!("t{n}")).collect();
    let setup = setup.on_small_disk(Part::HostDb, SMALL);
    let world = setup.agent_with("ada", Mode::PerThread, echo()).up();
    let listened: Vec<_> = threads.iter().map(|thread| Some(thread.as_str())).collect();
    let chat = world.chat_in("ada", &listened);
    world.disk().fill();
    let ids: Vec<String> =
        threads.iter().map(|thread| chat.hand_in(Some(thread), thread)).collect();
    let reason = chat.wait_put_off(ids.last().unwrap());
    says_what_where_and_what_to_do(&world, &reason, "full", "free some space");
    assert!(world.host_log().contains("messages are refused"));
    world.disk().free();
    for (thread, id) in threads.iter().zip(&ids) {
        chat.wait_accepted(id);
        let session = world.session_in("ada", thread);
        world.assert_answered_once(&chat, &session, id, &format!("echo: {thread}"));
    }
    assert_eq!((chat.deliveries().len(), chat.notices().len()), (ids.len(), 0));
    world.assert_fsck_clean();
}

/// A runner that does not begin before the test says so.
struct Gate {
    runner: PathBuf,
    open: PathBuf,
    _dir: tempfile::TempDir,
}

impl Gate {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (runner, open) = (dir.path().join("agent-runner"), dir.path().join("open"));
        let real = binary("agent-runner");
        let script = format!(
            "#!/bin/sh\nwhile [ ! -e {} ]; do sleep 0.02; done\nexec {} \"$@\"\n",
            open.display(),
            real.display()
        );
        fs::write(&runner, script).unwrap();
        fs::set_permissions(&runner, fs::Permissions::from_mode(0o755)).unwrap();
        Self { runner, open, _dir: dir }
    }

    fn open(&self) {
        fs::write(&self.open, "").unwrap();
    }
}

fn a_disk_that_fills_up_before_the_claim_puts_the_answer_off(setup: Setup) {
    if !disk::available() {
        return;
    }
    let gate = Gate::new();
    let world = setup
        .setting("containers.runner", gate.runner.display())
        .on_small_disk(Part::Everything, SMALL)
        .agent("ada", echo())
        .up();
    let chat = world.chat("ada");
    let id = chat.say("hello");
    let session = world.session("ada");
    world.wait_container(&session);
    world.disk().fill();
    gate.open();
    holds_for(WHILE, "unanswered", || chat.deliveries().is_empty());
    world.disk().free();
    assert_all_answered(&world, &chat, &session, &[(&id, "hello")]);
    assert_eq!(session.message(&id).tries, 0, "the same runner went on");
    assert_eq!(world.starts(), 1);
}

fn a_disk_that_fills_up_in_the_middle_of_the_turn_puts_the_answer_off(setup: Setup) {
    fills_up_in_the_turn(setup, Part::Everything);
}

fn session_folders_that_fill_up_in_the_middle_of_the_turn_put_the_answer_off(setup: Setup) {
    fills_up_in_the_turn(setup, Part::Sessions);
}

/// The answer is long, so that no page that is there already has room for it.
fn fills_up_in_the_turn(setup: Setup, part: Part) {
    if !disk::available() {
        return;
    }
    let world = setup.on_small_disk(part, SMALL).agent("ada", slow(500)).up();
    let chat = world.chat("ada");
    let text = format!("slow {}", "x".repeat(20_000));
    let (id, session, _) = world.occupy(&chat, "ada", &text);
    world.disk().fill();
    holds_for(WHILE, "unanswered", || chat.deliveries().is_empty());
    assert!(session.is_claimed(&id), "nothing of the answer is stored");
    world.disk().free();
    assert_all_answered(&world, &chat, &session, &[(&id, &text)]);
    assert_eq!(session.message(&id).tries, 0, "the same runner went on");
}

fn a_full_host_db_in_the_middle_of_the_turn_loses_nothing(setup: Setup) {
    if !disk::available() {
        return;
    }
    let world = setup.on_small_disk(Part::HostDb, SMALL).agent("ada", slow(500)).up();
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "slow one");
    world.disk().fill();
    chat.wait_answer(&id); // nothing of this is in the host's database
    container.kill();
    let second = chat.hand_in(None, "once more");
    wait_for("the trouble to be noticed", || {
        world.host_log().contains("disk is full").then_some(())
    });
    world.disk().free();
    let all = [(id.as_str(), "slow one"), (second.as_str(), "once more")];
    assert_all_answered(&world, &chat, &session, &all);
}

fn a_delivery_that_cannot_be_recorded_is_not_repeated(setup: Setup) {
    if !disk::available() {
        return;
    }
    let world = setup.on_small_disk(Part::Everything, SMALL).agent("ada", slow(500)).up();
    let away = world.chat("ada");
    let ids: Vec<String> = (0..3).map(|n| away.say(&format!("slow {n}"))).collect();
    drop(away);
    let session = world.session("ada");
    wait_for("the answers to be held", || {
        let held = session.deliveries().into_iter().filter(|row| row.status == "held");
        (held.count() == session.rows().len() && !session.rows().is_empty()).then_some(())
    });
    for id in &ids {
        session.wait_status(id, "completed");
    }
    let rows = session.rows().len();
    world.disk().fill();
    let chat = world.chat("ada");
    chat.wait_letters(rows);
    wait_for("the trouble to be noticed", || {
        world.host_log().contains("disk is full").then_some(())
    });
    holds_for(WHILE * 2, "each letter came once", || chat.deliveries().len() == rows);
    world.disk().free();
    session.wait_settled();
    assert_eq!(chat.deliveries().len(), rows, "{:?}", chat.deliveries());
    assert_eq!(chat.ask("and now?"), "echo: and now?");
    session.wait_settled();
    world.assert_fsck_clean();
}

/// Only what the container writes to is full.
fn a_full_outbox_puts_the_answer_off_and_nothing_else(setup: Setup) {
    if !disk::available() {
        return;
    }
    let world = setup.agent("ada", slow(500)).up();
    let chat = world.chat("ada");
    let first = chat.say("hello");
    let session = world.session("ada");
    world.assert_answered_once(&chat, &session, &first, "echo: hello");
    world.stop_host();
    world.containers().iter().for_each(twobox_tests::Container::kill);
    let small = SmallDisk::over(session.paths().out_dir(), SMALL);
    world.up();
    let text = format!("slow {}", "x".repeat(20_000));
    let (second, _, _) = world.occupy(&chat, "ada", &text);
    small.fill();
    let third = chat.say("are you there?"); // the inbox has space
    holds_for(WHILE, "unanswered", || chat.deliveries().len() == 1);
    small.free();
    let all = [(first.as_str(), "hello"), (second.as_str(), &text), (&third, "are you there?")];
    assert_all_answered(&world, &chat, &session, &all);
    assert_eq!(session.message(&second).tries, 0, "the same runner went on");
    drop(world); // before the disk
}

fn a_host_that_starts_on_a_full_disk_says_so_or_goes_on_later(setup: Setup) {
    if !disk::available() {
        return;
    }
    let world = setup.on_small_disk(Part::Everything, SMALL).agent("ada", slow(1000)).up();
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "slow one");
    world.kill_host();
    container.kill();
    world.disk().fill();
    world.start(&[]);
    // A file that went may have left it just enough room for what it had to write. Then it meets the
    // full disk with what is said next.
    let mut more = None;
    let log = wait_for("the host to say what is wrong", || {
        if more.is_none() && world.starts() == 2 {
            world.disk().fill();
            more = Some(chat.hand_in(None, "more"));
        }
        Some(world.host_log()).filter(|log| log.contains("full"))
    });
    assert!(log.contains("free some space") || log.contains("disk is full"), "{log}");
    world.disk().free();
    if !world.host_lives() {
        world.wait_host_gone();
        world.up();
    }
    chat.wait_answer(&id);
    let mut said = vec![(id.as_str(), "slow one")];
    said.extend(more.as_deref().map(|id| (id, "more")));
    assert_all_answered(&world, &chat, &session, &said);
}

fn read_only_session_folders_refuse_a_message_and_take_it_later(setup: Setup) {
    if !disk::available() {
        return;
    }
    let world = setup.on_small_disk(Part::Sessions, SMALL).agent("ada", echo()).up();
    let chat = world.chat("ada");
    let first = chat.say("hello");
    let session = world.session("ada");
    world.assert_answered_once(&chat, &session, &first, "echo: hello");
    world.container(&session).expect("it waits for more").kill();
    wait_for("the host to see its end", || (!world.session("ada").running).then_some(()));
    wait_for("nobody to have a file open for writing", || world.disk().try_read_only());
    let second = chat.hand_in(None, "are you there?");
    let reason = chat.wait_put_off(&second);
    says_what_where_and_what_to_do(&world, &reason, "readonly", "writable");
    holds_for(WHILE, "refused", || !chat.is_accepted(&second));
    world.disk().make_writable();
    let all = [(first.as_str(), "hello"), (second.as_str(), "are you there?")];
    assert_all_answered(&world, &chat, &session, &all);
}

fn a_host_that_starts_on_a_read_only_disk_says_so_and_starts_later(setup: Setup) {
    if !disk::available() {
        return;
    }
    let world = setup.on_small_disk(Part::Everything, SMALL).agent("ada", slow(1000)).up();
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "slow one");
    world.kill_host();
    container.kill();
    wait_for("nobody to have a file open for writing", || world.disk().try_read_only());
    world.start(&[]);
    let status = world.wait_host_gone();
    assert!(!status.success());
    let log = world.host_log().to_lowercase();
    assert!(log.contains("read-only file system"), "{log}");
    world.disk().make_writable();
    world.up();
    chat.wait_answer(&id);
    assert_all_answered(&world, &chat, &session, &[(&id, "slow one")]);
}
