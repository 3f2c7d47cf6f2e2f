//! The `claude` provider with the real Claude Code, and a test in the place of the host and of its models.
//! What the product leans on of Claude Code's behaviour is a test here, so that another version shows what
//! has moved.

use std::collections::BTreeSet;
use std::sync::mpsc;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use twobox_shared::content::Failure;
use twobox_shared::ids::{RunnerId, SystemIds};
use twobox_shared::outbox::AckStatus;

use crate::clis;
use crate::gateway::{Answer, Gateway};
use crate::session::{Runner, Session, message, wait_for};

/// A session with an agent that Claude Code answers, and what its runner is started with.
pub(crate) struct Talk {
    pub(crate) session: Session,
    pub(crate) gateway: Gateway,
    cli: String,
}

impl Talk {
    pub(crate) fn with(answers: Vec<Answer>, more: Value) -> Option<Self> {
        let cli = clis::folder("claude")?.to_str().unwrap().to_owned();
        let session = Session::new();
        let route = json!({
            "name": "up/m", "api": "messages", "path": "/up/v1/messages",
            "context_tokens": 200_000, "max_output_tokens": 1_000, "images": true,
        });
        let mut config = json!({
            "provider": {"kind": "claude", "model": "up/m"},
            "gateway": {"key": "k", "routes": [route]},
        });
        for (name, value) in more.as_object().unwrap() {
            config[name] = value.clone();
        }
        session.configure(&config.to_string());
        let gateway = Gateway::at(&session.paths.gateway_socket(), answers);
        Some(Self { session, gateway, cli })
    }

    pub(crate) fn new(answers: Vec<Answer>) -> Option<Self> {
        Self::with(answers, json!({}))
    }

    pub(crate) fn start(&self) -> Runner {
        self.start_with(&[])
    }

    pub(crate) fn start_with(&self, env: &[(&str, &str)]) -> Runner {
        let runner = RunnerId::generate(&SystemIds);
        self.session.start_as(runner, &["--cli", &self.cli], env)
    }

    pub(crate) fn answered(&self, name: &str) {
        self.session.wait_ack(name, AckStatus::Completed);
    }

    /// The messages of request `number`, in one text.
    fn asked(&self, number: usize) -> String {
        self.gateway.asked(number)["messages"].to_string()
    }

    pub(crate) fn requests(&self) -> usize {
        self.gateway.bodies().len()
    }

    fn wait_requests(&self, count: usize) {
        wait_for("the request", || (self.requests() >= count).then_some(()));
    }
}

fn bash(line: &str) -> Answer {
    Answer::Wants(vec![("Bash", json!({"command": line}))])
}

/// The numbers and names of all processes below `parent`.
fn below(parent: u32) -> BTreeSet<(u32, String)> {
    let mut found = BTreeSet::new();
    let mut parents = vec![parent];
    while let Some(parent) = parents.pop() {
        let threads = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten();
        for thread in threads.flatten() {
            let listed = std::fs::read_to_string(thread.path().join("children"));
            for pid in listed.unwrap_or_default().split_whitespace() {
                let pid = pid.parse().unwrap();
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                found.insert((pid, name.trim().to_owned()));
                parents.push(pid);
            }
        }
    }
    found
}

/// The numbers of the `claude` below `runner`.
fn programs(runner: &Runner) -> Vec<u32> {
    let claude = |(pid, name): (u32, String)| (name == "claude").then_some(pid);
    below(runner.pid()).into_iter().filter_map(claude).collect()
}

#[test]
fn one_process_answers_turn_after_turn() {
    let Some(talk) = Talk::new(vec![Answer::Says("one"), Answer::Says("two")]) else { return };
    talk.session.program_file("AGENTS.md", "Be brief.");
    talk.session.say("m1", "first");
    let runner = talk.start();
    talk.answered("m1");
    let first = programs(&runner);
    assert_eq!(first.len(), 1);
    talk.session.say("m2", "second");
    talk.answered("m2");
    assert_eq!(talk.session.texts(), ["one", "two"]);
    assert_eq!(programs(&runner), first);
    let asked = talk.gateway.asked(0);
    assert!(asked["system"].to_string().contains("Be brief."), "{asked}");
    assert_eq!(asked["model"], "m");
    assert_eq!(asked["max_tokens"], 1000);
    let asked = talk.asked(1);
    assert!(
        asked.contains("first") && asked.contains("one") && asked.contains("second"),
        "{asked}"
    );
    assert_eq!(talk.requests(), 2, "it asks for nothing else");
    let stderr = runner.stop();
    assert!(!stderr.contains("Claude Code"), "{stderr}");
}

#[test]
fn another_runner_goes_on_with_the_conversation_and_with_changed_instructions() {
    let Some(talk) = Talk::new(vec![Answer::Says("one"), Answer::Says("two")]) else { return };
    talk.session.program_file("AGENTS.md", "Be brief.");
    talk.session.say("m1", "first");
    let mut runner = talk.start();
    talk.answered("m1");
    runner.signal(Signal::SIGKILL);
    runner.end();
    talk.session.program_file("AGENTS.md", "Be verbose.");
    talk.session.say("m2", "second");
    let runner = talk.start();
    talk.answered("m2");
    let asked = talk.asked(1);
    assert!(
        asked.contains("first") && asked.contains("one") && asked.contains("second"),
        "{asked}"
    );
    let system = talk.gateway.asked(1)["system"].to_string();
    assert!(system.contains("Be verbose.") && !system.contains("Be brief."), "{system}");
    runner.stop();
}

#[test]
fn what_was_answered_before_the_runner_died_is_not_asked_again() {
    let Some(talk) = Talk::new(vec![Answer::Says("one"), Answer::Says("two")]) else { return };
    talk.session.say("m1", "first");
    let mut runner = talk.start_with(&[("TWOBOX_CRASH_AT", "runner.turn.done")]);
    runner.end();
    assert_eq!((talk.session.texts().len(), talk.requests()), (0, 1));
    talk.session.charge("m1", 0);
    let runner = talk.start();
    talk.answered("m1");
    talk.session.say("m2", "second");
    talk.answered("m2");
    assert_eq!(talk.session.texts(), ["one", "two"]);
    assert_eq!(talk.requests(), 2);
    runner.stop();
}

#[test]
fn a_turn_that_was_killed_is_tried_again_and_answered_once() {
    let Some(talk) = Talk::new(vec![Answer::Stalls, Answer::Says("done")]) else { return };
    talk.session.say("m1", "first");
    let mut runner = talk.start();
    talk.wait_requests(1);
    runner.signal(Signal::SIGKILL);
    runner.end();
    talk.session.charge("m1", 0);
    let runner = talk.start();
    talk.answered("m1");
    assert_eq!(talk.session.texts(), ["done"]);
    assert!(talk.asked(1).contains("An earlier attempt at this was cut short"));
    runner.stop();
}

#[test]
fn what_is_said_during_a_stream_is_answered_behind_it_and_keeps_no_answer_back() {
    let ((go_on, first), (end, second)) = (mpsc::channel(), mpsc::channel());
    let answers = vec![Answer::Held("one", first), Answer::Held("two", second)];
    let Some(talk) = Talk::new(answers) else { return };
    talk.session.say("m1", "first");
    let runner = talk.start();
    talk.wait_requests(1);
    talk.session.accept(&[message("m2", "second"), message("m3", "third")]);
    wait_for("the claim", || talk.session.ack("m3"));
    go_on.send(()).unwrap();
    talk.answered("m1");
    assert_eq!(talk.session.texts(), ["one"], "nothing else was answered");
    talk.wait_requests(2);
    end.send(()).unwrap();
    for name in ["m2", "m3"] {
        talk.answered(name);
    }
    assert_eq!(talk.session.texts(), ["one", "two"]);
    let asked = talk.asked(1);
    assert!(asked.contains("second") && asked.contains("third"), "{asked}");
    assert_eq!(talk.requests(), 2);
    runner.stop();
}

#[test]
fn what_is_said_while_a_tool_runs_stands_beside_its_result() {
    let wait = bash("touch begun; while [ ! -e go ]; do sleep 0.05; done; echo from the shell");
    let Some(talk) = Talk::new(vec![wait, Answer::Says("both")]) else { return };
    let work = talk.session.folder("work");
    talk.session.say("m1", "first");
    let runner = talk.start();
    wait_for("the shell", || work.join("begun").exists().then_some(()));
    assert_eq!(talk.session.tool().as_deref(), Some("Bash"));
    talk.session.say("m2", "second");
    wait_for("the claim", || talk.session.ack("m2"));
    std::fs::write(work.join("go"), "").unwrap();
    talk.answered("m2");
    talk.answered("m1");
    let asked = talk.asked(1);
    assert!(asked.contains("from the shell"), "{asked}");
    assert_eq!(talk.session.tool(), None);
    assert!(talk.session.texts().contains(&"both".to_owned()), "{:?}", talk.session.texts());
    runner.stop();
}

#[test]
fn what_a_turn_leaves_running_is_ended_and_the_program_is_not() {
    let leave = bash("(setsid sleep 600 </dev/null >/dev/null 2>&1 &); echo left");
    let Some(talk) = Talk::new(vec![leave, Answer::Says("one"), Answer::Says("two")]) else {
        return;
    };
    talk.session.say("m1", "first");
    let runner = talk.start();
    talk.answered("m1");
    let first = programs(&runner);
    wait_for("the rest to be ended", || {
        below(runner.pid()).iter().all(|(_, name)| name != "sleep").then_some(())
    });
    let said = || runner.stderr().contains("ended what the turn left behind").then_some(());
    wait_for("the runner to say so", said);
    talk.session.say("m2", "second");
    talk.answered("m2");
    assert_eq!(programs(&runner), first);
    runner.stop();
}

#[test]
fn a_turn_that_is_taken_back_ends_with_its_shell_and_the_next_one_is_answered() {
    let wait = bash("touch begun; sleep 60; touch late");
    let Some(talk) = Talk::new(vec![wait]) else { return };
    talk.session.say("m1", "first");
    let runner = talk.start();
    let work = talk.session.folder("work");
    wait_for("the shell", || work.join("begun").exists().then_some(()));
    talk.session.take_back(&["m1"]);
    assert_eq!(talk.session.wait_failed("m1").reason, Failure::ABORTED);
    wait_for("all to be ended", || below(runner.pid()).is_empty().then_some(()));
    talk.gateway.then([Answer::Says("two")]);
    talk.session.say("m2", "second");
    talk.answered("m2");
    assert_eq!(talk.session.texts(), ["two"]);
    assert!(!work.join("late").exists());
    runner.stop();
}

#[test]
fn what_the_host_refuses_ends_the_turn_at_once_and_says_whether_to_try_again() {
    let cases = [
        (Answer::Refuses(401, None), Failure::PROVIDER_ERROR, false),
        (Answer::Refuses(402, None), Failure::PROVIDER_ERROR, false), // a vendor's
        (Answer::Refuses(403, None), Failure::PROVIDER_ERROR, false),
        (Answer::Refuses(429, Some(3600)), Failure::PROVIDER_ERROR, true),
        (Answer::Refuses(500, None), Failure::PROVIDER_ERROR, true),
        (Answer::Refuses(529, None), Failure::PROVIDER_ERROR, true),
    ];
    let Some(talk) = Talk::new(Vec::new()) else { return };
    let runner = talk.start();
    for (number, (answer, reason, retryable)) in cases.into_iter().enumerate() {
        let Answer::Refuses(status, _) = answer else { unreachable!("all are") };
        talk.gateway.then([answer]);
        let name = format!("m{number}");
        talk.session.say(&name, "hello");
        let failure = talk.session.wait_failed(&name);
        assert_eq!((failure.reason.as_str(), failure.retryable), (reason, retryable), "{status}");
        assert!(failure.detail.contains("not now"), "{status}: {}", failure.detail);
        assert_eq!(talk.requests(), number + 1, "{status}: it is not asked again");
    }
    let lived = programs(&runner);
    assert_eq!(lived.len(), 1, "it lives on");
    talk.gateway.then([Answer::Says("well")]);
    talk.session.say("last", "hello");
    talk.answered("last");
    assert_eq!(talk.session.texts(), ["well"]);
    assert_eq!(programs(&runner), lived);
    runner.stop();
}

#[test]
fn a_stream_that_breaks_off_is_asked_for_again() {
    let Some(talk) = Talk::new(vec![Answer::Breaks, Answer::Says("whole")]) else { return };
    talk.session.say("m1", "hello");
    let runner = talk.start();
    talk.answered("m1");
    assert_eq!(talk.session.texts(), ["whole"]);
    assert_eq!(talk.requests(), 2);
    runner.stop();
}

#[test]
fn a_turn_takes_no_more_model_turns_than_it_may() {
    let answers = vec![bash("true"), bash("true"), bash("true"), Answer::Says("too late")];
    let Some(talk) = Talk::with(answers, json!({"max_turns": 2})) else { return };
    talk.session.say("m1", "go on and on");
    let runner = talk.start();
    assert_eq!(talk.session.wait_failed("m1").reason, Failure::TURN_LIMIT);
    assert!(talk.requests() <= 3, "{}", talk.requests());
    runner.stop();
}

#[test]
fn a_tool_that_is_denied_is_neither_told_of_nor_used() {
    let provider = json!({"kind": "claude", "model": "up/m", "tools": {"Bash": "deny"}});
    let write = Answer::Wants(vec![("Write", json!({"file_path": "b.txt", "content": "b"}))]);
    let answers = vec![bash("touch a.txt"), write, Answer::Says("done")];
    let Some(talk) = Talk::with(answers, json!({"provider": provider})) else { return };
    let work = talk.session.folder("work");
    let path = work.join("b.txt");
    talk.session.say("m1", "both");
    let runner = talk.start();
    talk.answered("m1");
    assert!(!work.join("a.txt").exists());
    let asked = talk.gateway.asked(0);
    let tools =
        asked["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap());
    let tools: Vec<&str> = tools.collect();
    assert!(tools.contains(&"Write") && !tools.contains(&"Bash"), "{tools:?}");
    let waits = ["AskUserQuestion", "EnterPlanMode", "Monitor", "WebSearch", "Workflow"];
    assert!(waits.iter().all(|name| !tools.contains(name)), "{tools:?}");
    assert!(path.exists(), "{}", talk.asked(2));
    runner.stop();
}

#[test]
fn it_has_the_hosts_tools_from_turn_to_turn_and_may_say_nothing() {
    let send = |text: &str| {
        let fields = json!({"to": "elsewhere", "text": text});
        Answer::Wants(vec![("mcp__twobox__send_message", fields)])
    };
    let silence = Answer::Wants(vec![("mcp__twobox__say_nothing", json!({}))]);
    let answers = vec![send("a"), Answer::Says("sent"), send("b"), silence, Answer::Says("hush")];
    let Some(talk) = Talk::new(answers) else { return };
    talk.session.destination("elsewhere");
    talk.session.say("m1", "send it");
    let runner = talk.start();
    talk.answered("m1");
    let tools = talk.gateway.asked(0)["tools"].to_string();
    assert!(tools.contains("mcp__twobox__send_message"), "they are told of at once: {tools}");
    let lived = below(runner.pid());
    talk.session.say("m2", "and again, without a word");
    talk.answered("m2");
    assert_eq!(talk.session.texts(), ["a", "sent", "b"]);
    assert_eq!(below(runner.pid()), lived, "the server of the tools lives on");
    runner.stop();
}

#[test]
fn a_new_conversation_knows_nothing_of_the_old_one() {
    let Some(talk) = Talk::new(vec![Answer::Says("one"), Answer::Says("hello")]) else { return };
    talk.session.say("m1", "marmalade");
    let runner = talk.start();
    talk.answered("m1");
    talk.session.accept(&[message("m2", "/new"), message("m3", "hi")]);
    talk.answered("m3");
    talk.answered("m2");
    let texts = talk.session.texts();
    assert!(texts[1].starts_with("A new conversation begins") && texts[2] == "hello", "{texts:?}");
    let asked = talk.asked(1);
    assert!(!asked.contains("marmalade") && asked.contains("hi"), "{asked}");
    runner.stop();
}

#[test]
fn a_runner_that_is_told_to_leave_takes_the_program_with_it() {
    let Some(talk) = Talk::new(vec![Answer::Says("one")]) else { return };
    talk.session.say("m1", "hello");
    let runner = talk.start();
    talk.answered("m1");
    let pids = programs(&runner);
    assert_eq!(pids.len(), 1);
    runner.stop();
    for pid in pids {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[test]
fn an_agent_without_its_program_or_its_way_is_broken_and_says_so() {
    let session = Session::new();
    session.configure(r#"{"provider": {"kind": "claude", "model": "up/m"}}"#);
    session.say("m1", "hello");
    let mut runner = session.start();
    let failure = session.wait_failed("m1");
    assert_eq!(failure.reason, Failure::AGENT_BROKEN);
    assert!(failure.detail.contains("no way to a model"), "{}", failure.detail);
    assert_eq!(runner.end().0, Some(78));
}
