//! The process dies at every registered crash point, and a second life shows that nothing was lost
//! and nothing was done twice: by the ledgers of those who were there, by the boxes, and by fsck.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::fault::CrashPoint;
use twobox_shared::ids::{MessagingGroupId, SessionId, SystemIds};
use twobox_store::Store;
use twobox_store::schedules::Status;
use twobox_system::data::DataDir;
use twobox_tests::models::ModelServer;
use twobox_tests::{
    Chat, Courier, Lifetime, Mode, Runtime, Session, Setup, World, on_process, wait_for,
};

use crate::approvals::{asks, decisions, heard, prompt, tea};
use crate::models::{MODEL, add, crashes, made, set_secret, tokens, towards, wait_used};
use crate::redrive::{expired, wait_delivered};
use crate::schedules::{Book, Rhythm};
use crate::scripts::echo;

/// What has to happen for a point to be reached, and what must be seen in the end.
enum Plan {
    /// Who dies in a plain round trip of a message that says this.
    RoundTrip(Who, &'static str),
    /// A message fails for good.
    Notice,
    /// The host stops its container.
    Stop,
    /// An agent asks its host for something.
    Request,
    /// A model answers.
    Buy,
    /// An agent asks people, and one of them answers.
    Ask,
    /// A person wants an answer sent once more that nobody took.
    Redrive,
    /// Something settled is older than what is kept.
    Forget(Who),
    /// An answer leaves through a channel that does not honour keys.
    Keyless,
    /// A schedule fires.
    Fire,
    /// The session of a run has come to rest.
    Fold,
    /// A session has outlived the run that it was made for.
    Outlive,
    /// A model has a tool used, which a person may have to allow.
    Model,
}

enum Who {
    Host,
    Runner,
}

/// A new point does not compile before somebody has said here how it is reached.
fn plan(point: CrashPoint) -> Plan {
    use CrashPoint as P;
    match point {
        P::HostAcceptMarked
        | P::HostAcceptCommitted
        | P::HostSettleCommitted
        | P::HostStartRecorded
        | P::HostStartDone
        | P::HostDeliverSent
        | P::HostDeliverRecorded => Plan::RoundTrip(Who::Host, "hello"),
        P::HostSettleNoticed => Plan::Notice,
        P::HostStopDone => Plan::Stop,
        P::HostDeliverAnnounced => Plan::Keyless,
        P::HostSlotClaimed
        | P::HostRunStarted
        | P::HostRunPrepared
        | P::HostRunStored
        | P::HostRunEnded => Plan::Fire,
        P::HostSessionFolded => Plan::Fold,
        P::HostSessionClosed | P::HostSessionRemoved => Plan::Outlive,
        P::RunnerLocked | P::RunnerClaimed | P::RunnerTurnDone | P::RunnerAnswered => {
            Plan::RoundTrip(Who::Runner, "hello")
        }
        P::RunnerSent => Plan::RoundTrip(Who::Runner, "note hello"),
        P::RunnerPermissionUsed | P::RunnerAnswerHeard | P::RunnerToolDone => Plan::Model,
        P::RunnerFailed => Plan::RoundTrip(Who::Runner, "fail:1 hello"),
        P::HostRequestCommitted => Plan::Request,
        P::HostGatewayReserved | P::HostGatewayAnswered => Plan::Buy,
        P::HostApprovalAsked
        | P::HostApprovalDecided
        | P::HostApprovalClaimed
        | P::HostApprovalTold => Plan::Ask,
        P::HostRedriveMarked | P::HostRedriveCommitted => Plan::Redrive,
        P::HostForgot => Plan::Forget(Who::Host),
        P::RunnerForgot => Plan::Forget(Who::Runner),
    }
}

macro_rules! at_each_point {
    ($($test:ident = $point:ident,)+) => {
        $(#[test] fn $test() { survive(CrashPoint::$point); })+

        #[test]
        fn every_point_has_a_test() {
            let tested = [$(CrashPoint::$point),+];
            for point in CrashPoint::ALL {
                assert!(tested.contains(point), "no test for {}", point.name());
            }
        }
    };
}

at_each_point!(
    host_accept_marked = HostAcceptMarked,
    host_accept_committed = HostAcceptCommitted,
    host_settle_noticed = HostSettleNoticed,
    host_settle_committed = HostSettleCommitted,
    host_start_recorded = HostStartRecorded,
    host_start_done = HostStartDone,
    host_stop_done = HostStopDone,
    host_slot_claimed = HostSlotClaimed,
    host_run_started = HostRunStarted,
    host_run_prepared = HostRunPrepared,
    host_run_stored = HostRunStored,
    host_run_ended = HostRunEnded,
    host_deliver_announced = HostDeliverAnnounced,
    host_deliver_sent = HostDeliverSent,
    host_deliver_recorded = HostDeliverRecorded,
    host_approval_asked = HostApprovalAsked,
    host_approval_decided = HostApprovalDecided,
    host_approval_claimed = HostApprovalClaimed,
    host_approval_told = HostApprovalTold,
    host_request_committed = HostRequestCommitted,
    host_gateway_reserved = HostGatewayReserved,
    host_gateway_answered = HostGatewayAnswered,
    host_session_folded = HostSessionFolded,
    host_session_closed = HostSessionClosed,
    host_session_removed = HostSessionRemoved,
    host_redrive_marked = HostRedriveMarked,
    host_redrive_committed = HostRedriveCommitted,
    runner_locked = RunnerLocked,
    runner_claimed = RunnerClaimed,
    runner_sent = RunnerSent,
    runner_permission_used = RunnerPermissionUsed,
    runner_answer_heard = RunnerAnswerHeard,
    runner_tool_done = RunnerToolDone,
    runner_turn_done = RunnerTurnDone,
    runner_answered = RunnerAnswered,
    runner_failed = RunnerFailed,
    host_forgot = HostForgot,
    runner_forgot = RunnerForgot,
);

on_process!(every_point_is_reached_without_dying);

fn survive(point: CrashPoint) {
    let setup = recorded();
    match plan(point) {
        Plan::RoundTrip(who, text) => round_trip(setup, point, &who, text),
        Plan::Notice => notice(setup, point),
        Plan::Stop => stop(setup, point),
        Plan::Request => request(point),
        Plan::Buy => buy(point),
        Plan::Ask => ask(point),
        Plan::Redrive => redrive(point),
        Plan::Forget(who) => forget(point, &who),
        Plan::Keyless => keyless(point),
        Plan::Fire => fire(setup, point),
        Plan::Fold => fold(setup, point),
        Plan::Outlive => outlive(setup, point),
        Plan::Model => crashes::survive(point),
    }
}

/// With an agent that does what the message says and records its turns.
fn recorded() -> Setup {
    Setup::new(Runtime::Process).recording_agent("ada", Mode::Shared, Lifetime::Turn)
}

/// Waits until the one message is answered and nothing is left to do, and shows that each witness has
/// seen what was promised.
#[track_caller]
fn assert_answered(world: &World, chat: &Chat, session: &Session, id: &str) {
    chat.wait_answer(id);
    session.wait_status(id, "completed");
    session.wait_settled();
    let verdict = world.assert_promises();
    assert_eq!((verdict.accepted, verdict.answered), (1, 1), "{verdict:?}");
}

/// Starts a host that dies at `point`.
fn up_armed(world: &World, point: CrashPoint) {
    let log = world.aside().join("points");
    world
        .up_with(&[("TWOBOX_CRASH_AT", point.name()), ("TWOBOX_CRASH_LOG", log.to_str().unwrap())]);
}

/// Waits until the host has died at `point`, and starts one that does not.
#[track_caller]
fn revive(world: &World, point: CrashPoint) {
    let status = world.wait_host_gone();
    assert_eq!(status.signal(), Some(nix::libc::SIGKILL), "the host ended with {status}");
    assert_eq!(points(&world.aside().join("points")).last().unwrap(), point.name());
    world.up();
}

pub(crate) fn points(log: &Path) -> Vec<String> {
    std::fs::read_to_string(log).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn round_trip(setup: Setup, point: CrashPoint, who: &Who, text: &str) {
    let world = setup.make();
    let chat;
    let id;
    match who {
        Who::Host => {
            up_armed(&world, point);
            chat = world.chat("ada");
            id = chat.hand_in(None, text);
            revive(&world, point);
        }
        Who::Runner => {
            // In the agent's folder, because nothing else can be written by a confined runner.
            let log = world.agent_folder("ada").join("points");
            world.up_with(&[
                ("TWOBOX_RUNNER_CRASH_AT", point.name()),
                ("TWOBOX_RUNNER_CRASH_LOG", log.to_str().unwrap()),
            ]);
            chat = world.chat("ada");
            id = chat.hand_in(None, text);
            wait_for("the runner to die", || {
                points(&log).iter().any(|reached| reached == point.name()).then_some(())
            });
            // Its successors would die as well, for they inherit the order.
            world.kill_host();
            world.up();
        }
    }
    chat.wait_accepted(&id);
    let session = world.session("ada");
    assert_answered(&world, &chat, &session, &id);
    assert_eq!(session.messages().len(), 1, "stored once");
    assert!(session.message(&id).tries <= 2, "{:?}", session.message(&id));
}

/// It is asked once, decided once, and whoever asked is told once.
fn ask(point: CrashPoint) {
    let world = Setup::new(Runtime::Process).agent("ada", asks(&tea())).make();
    up_armed(&world, point);
    let chat = world.chat("ada");
    chat.hand_in(None, "ask");
    if point == CrashPoint::HostApprovalAsked {
        revive(&world, point);
    }
    let (_, code) = prompt(&chat);
    let answer = chat.hand_in(None, &format!("{code} 2"));
    if point != CrashPoint::HostApprovalAsked {
        revive(&world, point);
    }
    chat.wait_accepted(&answer);
    let heard = heard(&chat, "heard: A person answered");
    assert!(heard.len() == 1 && heard[0].ends_with("choice 2: black"), "{heard:?}");
    let session = world.session("ada");
    assert_eq!(decisions(&session).len(), 1, "told once");
    let said = |begins: &str| chat.letters().iter().filter(|it| it.text.contains(begins)).count();
    assert_eq!((said("The agent asks"), said("answered by")), (1, 1), "{:?}", chat.letters());
    world.assert_fsck_clean();
}

/// It is answered once, and of the request that was under way nobody says that it cost nothing.
fn buy(point: CrashPoint) {
    let server = ModelServer::start();
    let world = made(Setup::new(Runtime::Process), &server, Mode::Shared, &[MODEL]);
    up_armed(&world, point);
    let chat = world.chat("ada");
    let id = chat.hand_in(None, "hello");
    revive(&world, point);
    chat.wait_accepted(&id);
    chat.wait_answer(&id);
    let session = world.session("ada");
    session.wait_status(&id, "completed");
    session.wait_settled();
    let answers = server.requests().len();
    let answers = server.wait_ended(answers).len();
    assert_eq!(chat.answers(&id).len(), 1, "answered once");
    // What was reserved and never sent, and what was sold and never counted, look alike to whoever comes after.
    let asked = answers + usize::from(point == CrashPoint::HostGatewayReserved);
    let used = wait_used(&world, asked as u64);
    assert_eq!(used["unknown"], 1, "{used}");
    let all = |of: &str| used[of].as_u64().unwrap();
    let counted = ["input", "cache_read", "cache_write", "output", "unknown_tokens"].map(all);
    assert!(counted.iter().sum::<u64>() >= tokens(&server.sold()), "{used}");
    world.assert_fsck_clean();
}

/// The slot has exactly one run, which goes on where it was.
fn fire(setup: Setup, point: CrashPoint) {
    let world = setup.make();
    let book = Book::of(&world);
    // Soon, for a host that dies sooner is never seen to be up.
    let soon = SystemClock.now() + Duration::from_secs(1);
    let tidy = book.add_at("tidy", Rhythm::Once, soon, |_| {});
    up_armed(&world, point);
    revive(&world, point);
    let run = book.wait_ended(tidy);
    assert_eq!((run.status, run.reason), (Status::Completed, None), "{run:?}");
    assert_eq!(book.runs(tidy).len(), 1, "one run for the slot");
    let hold = run.hold.unwrap();
    let session = world.sessions().pop().unwrap();
    assert_eq!(session.id, hold.session.to_string());
    assert_eq!(session.messages().len(), 1, "asked once");
    session.wait_settled();
    world.assert_fsck_clean();
}

/// What was folded is looked at once more, and is what it was.
fn fold(setup: Setup, point: CrashPoint) {
    let world = setup.make();
    let book = Book::of(&world);
    let soon = SystemClock.now() + Duration::from_secs(1);
    let tidy = book.add_at("tidy", Rhythm::Once, soon, |_| {});
    up_armed(&world, point);
    let status = world.wait_host_gone();
    assert_eq!(status.signal(), Some(nix::libc::SIGKILL), "the host ended with {status}");
    let session = world.sessions().pop().unwrap();
    assert!(world.is_marked(&session), "somebody has to look at it");
    world.up();
    let run = book.wait_ended(tidy);
    assert_eq!((run.status, run.reason), (Status::Completed, None), "{run:?}");
    assert_eq!(book.runs(tidy).len(), 1, "one run for the slot");
    wait_for("the session to be at rest", || (!world.is_marked(&session)).then_some(()));
    assert!(!session.folder.join("work").exists() && !session.paths().agent_config().exists());
    assert_eq!(session.messages().len(), 1, "asked once");
    session.wait_settled();
    world.assert_fsck_clean();
}

fn outlive(setup: Setup, point: CrashPoint) {
    let world = setup.make();
    let folder = outlived(&world);
    let log = world.aside().join("points");
    // It dies while it starts, so that nobody sees it up.
    world.start(&[("TWOBOX_CRASH_AT", point.name()), ("TWOBOX_CRASH_LOG", log.to_str().unwrap())]);
    revive(&world, point);
    wait_for("the session to go", || world.sessions().is_empty().then_some(()));
    assert!(!folder.exists(), "and its folder");
    world.chat("ada").ask("hello");
    world.assert_fsck_clean();
}

/// The session of a run that is forgotten, and its folder.
fn outlived(world: &World) -> PathBuf {
    let data = world.data();
    let db = Store::create(&data.join("host.db")).unwrap();
    let (group, session) =
        (MessagingGroupId::generate(&SystemIds), SessionId::generate(&SystemIds));
    let agent = db.agents().find("ada").wait().unwrap().id;
    db.raw()
        .execute(
            "INSERT INTO messaging_groups (id, channel_type, platform_id, name, created_at_ms)
         VALUES (?1, 'schedule', 'gone', 'gone', 1)",
            [group],
        )
        .unwrap();
    db.raw().execute(
        "INSERT INTO sessions (id, agent_group_id, messaging_group_id, thread_id, created_at_ms,
           last_active_at_ms)
         SELECT ?1, ?2, id, 'gone', 1, 1 FROM messaging_groups WHERE platform_id = 'gone'",
        rusqlite::params![session, agent],
    )
    .unwrap();
    let folder = DataDir::open(&data).unwrap().session_folder(agent, session);
    std::fs::create_dir_all(folder.join("out/deep/deeper")).unwrap();
    folder
}

/// The next life cannot know whether the message left, so it does not send it. What comes later is
/// sent, and everybody is told.
fn keyless(point: CrashPoint) {
    let courier = Courier::new();
    let setup = Setup::new(Runtime::Process);
    let world = setup.courier(&courier, false).agent("ada", echo()).make();
    world.wire("ada", "42");
    up_armed(&world, point);
    world.hand_in("42", "m1", "hello");
    revive(&world, point);
    let session = world.session("ada");
    session.wait_delivery("echo: hello", "uncertain");
    world.hand_in("42", "m2", "further");
    session.wait_delivery("echo: further", "delivered");
    session.wait_settled();
    assert_eq!(courier.texts(), ["echo: further"]);
    assert_eq!(session.messages().len(), 3, "two messages, and what the host says of the first");
}

#[test]
fn a_retried_message_is_charged_once_wherever_the_host_dies_first() {
    die_at_each_point(1, 8);
}

#[test]
fn a_retried_message_is_charged_once_wherever_the_host_dies_the_second_time() {
    die_at_each_point(2, 4);
}

/// A runner that dies, and a host that dies when it reaches a point for the `nth` time: while it
/// accepts, starts, charges, starts again, completes or delivers. At least `least` points are passed
/// so often.
fn die_at_each_point(nth: usize, least: usize) {
    let mut deaths = 0;
    for point in CrashPoint::ALL.iter().filter(|point| point.name().starts_with("host.")) {
        let world = recorded().make();
        let order = format!("{}:{nth}", point.name());
        let log = world.aside().join("points");
        let reached = |wanted: CrashPoint| {
            points(&log).into_iter().filter(|name| name == wanted.name()).count()
        };
        world.up_with(&[("TWOBOX_CRASH_AT", &order), ("TWOBOX_CRASH_LOG", log.to_str().unwrap())]);
        let chat = world.chat("ada");
        let id = chat.hand_in(None, "die:1 hello");
        let died = wait_for(&format!("{order} or the end"), || {
            if reached(*point) >= nth {
                return Some(true);
            }
            // The last point that an undisturbed conversation passes.
            (reached(CrashPoint::HostDeliverRecorded) > 0).then_some(false)
        });
        if died {
            deaths += 1;
            assert_eq!(world.wait_host_gone().signal(), Some(nix::libc::SIGKILL));
            world.up();
        }
        let session = wait_for("the session", || world.sessions().pop());
        assert_answered(&world, &chat, &session, &id);
        let message = session.message(&id);
        assert_eq!((message.tries, message.forgiven), (1, 0), "{order}");
        assert_eq!((session.messages().len(), chat.letters().len()), (1, 1), "{order}");
    }
    assert!(deaths >= least, "only {deaths} points were reached {nth} times");
}

fn notice(setup: Setup, point: CrashPoint) {
    let world = setup.make();
    up_armed(&world, point);
    let chat = world.chat("ada");
    let id = chat.hand_in(None, "reject this");
    revive(&world, point);
    chat.wait_letters(1);
    let session = world.session("ada");
    session.wait_status(&id, "failed");
    session.wait_settled();
    let notices = chat.notices();
    assert_eq!(notices.len(), 1, "told once: {notices:?}");
    assert!(notices[0].text.contains("as was asked"), "{notices:?}");
    let verdict = world.assert_promises();
    assert_eq!((verdict.accepted, verdict.failed), (1, 1), "{verdict:?}");
}

fn stop(setup: Setup, point: CrashPoint) {
    let world = setup
        .setting("shutdown.containers", "stop")
        .setting("containers.stop_grace", "500ms")
        .make();
    up_armed(&world, point);
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "hang:1");
    world.ask_host_to_stop();
    revive(&world, point);
    assert!(!container.lives());
    assert_answered(&world, &chat, &session, &id);
    let message = session.message(&id);
    assert_eq!((message.tries, message.forgiven), (1, 1), "the host ended it, nobody is charged");
}

/// The request is carried out once, and what it asked for is done once.
fn request(point: CrashPoint) {
    let world = recorded().make();
    up_armed(&world, point);
    let chat = world.chat("ada");
    let id = chat.hand_in(None, "later please");
    revive(&world, point);
    chat.wait_letters(2);
    let session = world.session("ada");
    session.wait_status(&id, "completed");
    wait_for("the task to be over", || {
        let messages = session.messages();
        let over = messages.iter().all(|it| it.kind != "task" || it.status == "completed");
        (over && session.undelivered().is_empty()).then_some(())
    });
    let messages = session.messages();
    let kinds: Vec<_> = messages.iter().map(|message| message.kind.as_str()).collect();
    assert_eq!(kinds, ["chat", "task", "system"], "one task and one answer: {messages:?}");
    let verdict = world.assert_promises();
    assert_eq!((verdict.accepted, verdict.answered), (2, 2), "{verdict:?}");
}

/// The person who gave the order gets no answer, and repeats it. What was committed is carried out
/// without that.
fn redrive(point: CrashPoint) {
    let setup = Setup::new(Runtime::Process);
    let world = setup.setting("containers.idle", "300ms").agent("ada", echo()).make();
    let (session, row) = expired(&world);
    world.wait_no_containers();
    wait_for("nobody to be going to look at it", || (!world.is_marked(&session)).then_some(()));
    world.stop_host();
    up_armed(&world, point);
    let chat = world.chat("ada");
    let order = ["dead", "redrive", &session.id, &row];
    assert!(!world.run(&order).status.success(), "nobody was left to answer");
    revive(&world, point);
    if point == CrashPoint::HostRedriveMarked {
        assert_eq!(session.deliveries()[0].status, "failed", "nothing was changed");
        world.twobox(&order);
    }
    chat.wait_letters(1);
    wait_delivered(&session);
    assert!(world.twobox(&order).contains("it was delivered"));
    assert_eq!(chat.deliveries().len(), 1);
    world.twobox(&["sessions", "fsck"]);
}

/// A short memory: what was answered is forgotten as soon as its container has left, the host's part
/// then and the runner's with the next message.
fn forget(point: CrashPoint, who: &Who) {
    let world = forgetful(Setup::new(Runtime::Process)).agent("ada", echo()).make();
    let log = world.agent_folder("ada").join("points");
    match who {
        Who::Host => up_armed(&world, point),
        Who::Runner => world.up_with(&[
            ("TWOBOX_RUNNER_CRASH_AT", point.name()),
            ("TWOBOX_RUNNER_CRASH_LOG", log.to_str().unwrap()),
        ]),
    }
    let chat = world.chat("ada");
    let mut ids = vec![chat.say("one")];
    chat.wait_answer(&ids[0]);
    match who {
        Who::Host => revive(&world, point),
        Who::Runner => {
            world.wait_no_containers();
            ids.push(chat.say("two"));
            chat.wait_answer(&ids[1]);
            wait_for("the runner to die", || {
                points(&log).contains(&point.name().to_owned()).then_some(())
            });
            world.kill_host();
            world.up();
        }
    }
    let session = world.session("ada");
    wait_for("the first message to be forgotten", || {
        world.wait_no_containers();
        if session.messages().iter().any(|message| message.id == ids[0]) {
            let id = chat.say("and on");
            chat.wait_answer(&id);
            ids.push(id);
            return None;
        }
        Some(())
    });
    for id in &ids {
        assert_eq!(chat.answers(id).len(), 1, "answered once");
    }
    assert_eq!(chat.letters().len(), ids.len(), "each letter once");
    world.twobox(&["sessions", "fsck"]);
}

/// Containers that leave at once, and no memory.
fn forgetful(setup: Setup) -> Setup {
    setup.setting("containers.idle", "300ms").setting("history.keep", "1ms")
}

/// What the tests above rely on: the points lie on the paths that they take.
fn every_point_is_reached_without_dying(setup: Setup) {
    let (courier, server) = (Courier::new(), ModelServer::start());
    let world = towards(forgetful(setup), &server)
        .setting("containers.idle", "2s")
        .setting("shutdown.containers", "stop")
        .setting("containers.stop_grace", "500ms")
        .courier(&courier, false)
        .recording_agent("ada", Mode::Shared, Lifetime::Turn)
        .agent("bob", asks(&tea()))
        .make();
    world.wire("ada", "42");
    set_secret(&world, "anthropic", "sk-any");
    add(&world, "cleo", Mode::Shared, &[MODEL]);
    outlived(&world);
    let (host, runner) = (world.aside().join("points"), world.agent_folder("ada").join("points"));
    world.up_with(&[
        ("TWOBOX_CRASH_LOG", host.to_str().unwrap()),
        ("TWOBOX_RUNNER_CRASH_LOG", runner.to_str().unwrap()),
    ]);
    let chat = world.chat("ada");
    let first = chat.say("note list hello");
    chat.wait_letters(2);
    world.session("ada").wait_status(&first, "completed"); // chat comes first
    let book = Book::of(&world);
    let home = world.session("ada").id.parse().unwrap();
    let tidy = book.add("tidy", Rhythm::Once, |it| it.session = Some(home));
    book.wait_ended(tidy);
    world.wait_no_containers();
    let second = chat.say("fail:1 once more");
    chat.wait_answer(&second);
    let third = chat.say("reject this");
    world.session("ada").wait_status(&third, "failed");
    world.twobox(&["dead", "redrive", &world.session("ada").id, &third]);
    wait_for("the runner to forget the first message", || {
        points(&runner).contains(&CrashPoint::RunnerForgot.name().to_owned()).then_some(())
    });
    world.occupy(&chat, "ada", "hang:1"); // so that there is a container to be stopped
    world.hand_in("42", "m1", "hello");
    wait_for("the courier's letter to be recorded", || {
        let log = points(&host);
        let announced =
            log.iter().position(|name| *name == CrashPoint::HostDeliverAnnounced.name());
        log[announced?..].contains(&CrashPoint::HostDeliverRecorded.name().to_owned()).then_some(())
    });
    let tomorrow = SystemClock.now() + Duration::from_secs(24 * 3600);
    book.add_at("own", Rhythm::Once, tomorrow, |_| {});
    world.twobox(&["schedules", "run", "own"]);
    wait_for("the session of its own to be folded", || {
        points(&host).contains(&CrashPoint::HostSessionFolded.name().to_owned()).then_some(())
    });
    world.stop_host();
    // Whose runner cannot write where that of the first agent does.
    world.up_with(&[("TWOBOX_CRASH_LOG", host.to_str().unwrap())]);
    let asked = world.chat("bob");
    asked.ask("ask");
    prompt(&asked);
    asked.wait_answer(&asked.say("2"));
    world.chat("cleo").ask("hello");
    heard(&asked, "heard: A person");
    world.stop_host();
    let reached = [points(&host), points(&runner), crashes::reached()].concat();
    for point in CrashPoint::ALL {
        assert!(reached.iter().any(|name| name == point.name()), "{}", point.name());
    }
}
