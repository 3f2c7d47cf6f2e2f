//! The `command` provider, with programs in Python.

use serde_json::Value;
use twobox_shared::content::Chat;
use twobox_shared::ids::{RunnerId, SystemIds};
use twobox_shared::inbox::{Inbox, NewMessage, Origin};
use twobox_shared::outbox::AckStatus;

use crate::session::{Session, leave_hot_journal, message, repository, wait_for};

fn session(program: &str, more: &str) -> Session {
    let session = Session::new();
    session.program_file("agent.py", program);
    let config = format!(r#"{{"provider": "command", "command": ["python3", "agent.py"]{more}}}"#);
    session.configure(&config);
    session
}

/// A program that does `body` for each line; `say` writes a line, `turn` is what came.
fn python(body: &str) -> String {
    let body = body.trim().replace('\n', "\n    ");
    format!(
        "import json, sys, time, os\n\
         def say(**line): print(json.dumps(line), flush=True)\n\
         for line in sys.stdin:\n    turn = json.loads(line)\n    {body}\n"
    )
}

#[test]
fn the_documented_example_answers_in_both_lifetimes() {
    let example = std::fs::read_to_string(repository("docs/examples/agent.py")).unwrap();
    let page = std::fs::read_to_string(repository("docs/providers.md")).unwrap();
    assert!(page.contains(&example), "docs/providers.md does not show docs/examples/agent.py");
    for lifetime in ["turn", "runner"] {
        let session = session(&example, &format!(r#", "lifetime": "{lifetime}""#));
        session.say("m1", "one");
        let runner = session.start();
        session.wait_ack("m1", AckStatus::Completed);
        session.say("m2", "two");
        session.wait_ack("m2", AckStatus::Completed);
        assert_eq!(session.texts(), ["you said: one", "you said: two"], "{lifetime}");
        runner.stop();
    }
}

#[test]
fn a_lifetime_is_one_turn_or_the_runners() {
    let program = python("say(type='reply', text=str(os.getpid()))\nsay(type='turn_done')");
    for (lifetime, same) in [("turn", false), ("runner", true)] {
        let session = session(&program, &format!(r#", "lifetime": "{lifetime}""#));
        session.say("m1", "one");
        let runner = session.start();
        session.wait_ack("m1", AckStatus::Completed);
        session.say("m2", "two");
        session.wait_ack("m2", AckStatus::Completed);
        let pids = session.texts();
        assert_eq!(pids[0] == pids[1], same, "{lifetime}");
        runner.stop();
        let alive = std::path::Path::new("/proc").join(&pids[1]).exists();
        assert!(!alive, "{lifetime}: the program outlived its runner");
    }
}

#[test]
fn a_program_is_told_what_was_sent_before_and_finds_its_continuation() {
    let program = python(
        "\
if turn['attempt'] == 0 and 'first' in turn['messages'][0]['text']:
    say(type='send', to='ops', text='sent once')
    time.sleep(60)
say(type='reply', text=json.dumps(turn))
say(type='turn_done', continuation='thread-7')",
    );
    let session = session(&program, "");
    session.destination("ops");
    session.say("m1", "first");
    let kill = [("TWOBOX_CRASH_AT", "runner.sent")];
    assert_eq!(session.start_as(RunnerId::generate(&SystemIds), &[], &kill).end().0, None);
    assert_eq!(session.texts(), ["sent once"]);
    session.charge("m1", 0);
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    session.say("m2", "second");
    session.wait_ack("m2", AckStatus::Completed);
    let turns: Vec<Value> =
        session.texts()[1..].iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    assert_eq!(turns[0]["attempt"], 1);
    assert_eq!(turns[0]["already_sent"], serde_json::json!(["sent once"]));
    assert_eq!(turns[0]["destinations"], serde_json::json!(["ops"]));
    assert_eq!(turns[0]["continuation"], Value::Null);
    assert_eq!(turns[1]["continuation"], "thread-7");
    assert_eq!(turns[1]["messages"][0]["id"], "m2");
    runner.stop();
}

#[test]
fn a_poisoned_continuation_costs_one_more_try() {
    let program = python(
        "\
if turn['continuation']:
    say(type='failed', reason='bad_continuation', detail='expired')
else:
    say(type='reply', text='fresh')
    say(type='turn_done', continuation='poison')",
    );
    let session = session(&program, "");
    session.say("m1", "x");
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    session.say("m2", "y");
    assert_eq!(session.wait_ack("m2", AckStatus::Completed).attempt, Some(0));
    assert_eq!(session.texts(), ["fresh", "fresh"]);
    runner.stop();
}

#[test]
fn a_follow_up_reaches_the_program() {
    let program = python(
        "\
if turn['type'] == 'turn':
    say(type='tool_started', name='wait')
else:
    say(type='used', ids=[m['id'] for m in turn['messages']])
    say(type='reply', text='both')
    say(type='turn_done')",
    );
    let session = session(&program, "");
    session.say("m1", "x");
    let runner = session.start();
    wait_for("the tool", || session.tool());
    session.say("m2", "y");
    session.wait_ack("m2", AckStatus::Completed);
    assert_eq!(session.ack("m1").unwrap().status, AckStatus::Completed);
    assert_eq!(session.texts(), ["both"]);
    runner.stop();
}

#[test]
fn what_comes_meanwhile_and_is_not_used_is_told_what_that_turn_left() {
    let program = python(
        "\
if turn['type'] == 'follow_up':
    say(type='reply', text='one')
    say(type='turn_done', continuation='after the first')
elif turn['messages'][0]['text'] == 'first':
    say(type='tool_started', name='wait')
else:
    say(type='reply', text=str(turn['continuation']))
    say(type='turn_done')",
    );
    let session = session(&program, r#", "lifetime": "runner""#);
    session.say("m1", "first");
    let runner = session.start();
    wait_for("the tool", || session.tool());
    session.say("m2", "second");
    session.wait_ack("m2", AckStatus::Completed);
    assert_eq!(session.texts(), ["one", "after the first"]);
    runner.stop();
}

#[test]
fn an_unknown_destination_is_told_to_the_program() {
    let program = python(
        "\
if turn['type'] == 'turn':
    say(type='send', to='nobody', text='x')
else:
    say(type='reply', text=turn['type'] + ': ' + turn['detail'])
    say(type='turn_done')",
    );
    let session = session(&program, "");
    session.say("m1", "x");
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    assert!(session.texts()[0].starts_with("error: ") && session.texts()[0].contains("nobody"));
    runner.stop();
}

#[test]
fn a_send_waits_for_an_inbox_whose_host_died_in_a_commit() {
    let program = python(
        "\
if turn['type'] == 'turn':
    while not os.path.exists('go'): time.sleep(0.01)
    say(type='send', to='ops', text='now')
    say(type='reply', text='later')
    say(type='turn_done')",
    );
    let session = session(&program, "");
    session.say("m1", "x");
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Processing);
    // A name that the turn did not know when it began.
    session.destination("ops");
    leave_hot_journal(&session.paths.inbound_db());
    session.program_file("go", "");
    wait_for("the runner to find the journal", || {
        runner.stderr().contains("journal").then_some(())
    });
    drop(Inbox::open(&session.paths.inbound_db()).unwrap()); // the host is back and rolls back
    session.wait_ack("m1", AckStatus::Completed);
    assert_eq!(session.texts(), ["now", "later"], "{}", runner.stderr());
    runner.stop();
}

#[test]
fn files_of_a_reply_are_copied_from_the_workspace_or_the_program() {
    let program = python(
        "\
open(os.environ['HOME'] + '/made.txt', 'w').write('made')
say(type='reply', text='see', files=['made.txt', 'logo.txt'])
say(type='turn_done')",
    );
    let session = session(&program, "");
    session.program_file("logo.txt", "with the program");
    session.say("m1", "x");
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    let row = session.rows().remove(0);
    let copy = |name| session.paths.outbox_files().join(row.id.as_str()).join(name);
    assert_eq!(std::fs::read_to_string(copy("made.txt")).unwrap(), "made");
    assert_eq!(std::fs::read_to_string(copy("logo.txt")).unwrap(), "with the program");
    runner.stop();
}

#[test]
fn nothing_that_a_turn_started_outlives_it_but_the_program_itself() {
    // Each leaves somebody behind in a session of its own, without a parent, and one beside itself.
    const PROGRAM: &str = r#"
        sleep 600 & beside=$!
        while read -r turn; do
            rm -f "$HOME/left"
            setsid sh -c 'sh -c "echo \$\$ >$0.new; mv $0.new $0; exec sleep 600" &' "$HOME/left" &
            while [ ! -s "$HOME/left" ]; do sleep 0.01; done
            echo "{\"type\":\"reply\",\"text\":\"$$ $beside $(cat "$HOME/left")\"}"
            echo '{"type":"turn_done"}'
        done"#;
    let lives = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    for (lifetime, stays) in [("runner", true), ("turn", false)] {
        let session = session("", "");
        session.program_file("agent.sh", PROGRAM);
        session.configure(&format!(
            r#"{{"provider": "command", "command": ["sh", "agent.sh"], "lifetime": "{lifetime}"}}"#
        ));
        let runner = session.start();
        let mut said = Vec::new();
        for name in ["m1", "m2"] {
            session.say(name, "x");
            session.wait_ack(name, AckStatus::Completed);
            let text = session.texts().pop().unwrap();
            let [program, beside, left] = text.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{text}")
            };
            wait_for("who was left behind to be gone", || (!lives(left)).then_some(()));
            wait_for("the rest", || (lives(beside) == stays).then_some(()));
            said.push(program.to_owned());
        }
        assert_eq!(said[0] == said[1], stays, "{lifetime}: {said:?}");
        assert_eq!(lives(&said[1]), stays, "{lifetime}");
        let stderr = runner.stop();
        assert_eq!(stderr.matches("ended what the turn left behind").count(), 2, "{stderr}");
    }
}

#[test]
fn a_file_that_cannot_be_attached_costs_no_answer() {
    let long = "ü".repeat(255);
    let program = python(
        "\
home = os.environ['HOME']
open(home + '/good.txt', 'w').write('good')
open(home + '/two\\nlines', 'w').write('x')
os.mkfifo(home + '/pipe')
files = ['good.txt', 'two\\nlines', chr(252) * 255, 'missing.txt', '..', 'pipe', 'huge']
say(type='reply', text='see', files=files)
errors = [json.loads(sys.stdin.readline()) for _ in files[1:]]
say(type='reply', text=json.dumps([e['detail'] for e in errors], ensure_ascii=False))
say(type='turn_done')",
    );
    let session = session(&program, "");
    session.program_file("huge", &"x".repeat(300_000));
    session.say("m1", "x");
    let runner = session.start_limited(200_000);
    session.wait_ack("m1", AckStatus::Completed);
    let rows = session.rows();
    assert_eq!(rows[0].chat().files, ["good.txt"], "{}", runner.stderr());
    let (told, heard) = (rows[0].chat().text, rows[1].chat().text);
    assert!(told.starts_with("see\n\n(The file "), "{told}");
    for (name, why) in [
        ("two", "control character"),
        (&long[..20], "too long"),
        ("missing.txt", "No such file"),
        ("..", "directory reference"),
        ("pipe", "not a file"),
        ("huge", "larger than 200000 bytes"),
    ] {
        for text in [&told, &heard] {
            assert!(text.contains(name) && text.contains(why), "{name}: {text}");
        }
    }
    assert_eq!(session.ack("m1").unwrap().attempt, Some(0), "at the first attempt");
    runner.stop();
}

#[test]
fn what_a_program_does_wrong_is_quoted() {
    let cases = [
        ("it ended", "os._exit(3)", "exit status: 3", true),
        ("it said nothing", "say(type='turn_done')", "answered nothing", true),
        // It would write that again.
        ("it said no JSON", "print('hello there', flush=True)", "hello there", false),
        ("it said something unknown", "say(type='jump')", "jump", false),
        ("its shell found nothing to run", "os._exit(127)", "cannot run a program", false),
    ];
    for (case, body, expected, retryable) in cases {
        let session = session(&python(body), "");
        session.say("m1", "x");
        let runner = session.start();
        let failure = session.wait_failed("m1");
        assert_eq!(
            (failure.reason.as_str(), failure.retryable),
            ("provider_error", retryable),
            "{case}"
        );
        assert!(failure.detail.contains(expected), "{case}: {failure:?}");
        runner.stop();
    }
}

#[test]
fn a_program_that_cannot_be_started_says_so_once_and_its_runner_leaves() {
    let cases = [
        ("it is not there", r#"["no-such-program"]"#, "there is no such program in /"),
        ("it is not executable", r#"["./agent.py"]"#, "Permission denied"),
        ("it is a folder", r#"["."]"#, "Permission denied"),
    ];
    for (case, command, expected) in cases {
        let session = session("", "");
        session.configure(&format!(r#"{{"provider": "command", "command": {command}}}"#));
        session.say("m1", "x");
        let mut runner = session.start();
        let (code, stderr) = runner.end();
        assert_eq!(code, Some(78), "{case}: {stderr}");
        let failure = session.wait_failed("m1");
        assert_eq!((failure.reason.as_str(), failure.retryable), ("agent_broken", false), "{case}");
        assert!(failure.detail.contains(expected), "{case}: {failure:?}");
    }
}

#[test]
fn a_program_is_told_where_it_may_work() {
    let program = python(
        "\
seen = {name: os.environ.get(name) for name in
        ['TWOBOX_PROGRAM', 'TWOBOX_WORK', 'HOME', 'TWOBOX_AGENT']}
say(type='reply', text=json.dumps([os.getcwd(), seen]))
say(type='turn_done')",
    );
    let session = session(&program, "");
    session.say("m1", "x");
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    runner.stop();
    session.say("m2", "x");
    let stale = [("TWOBOX_AGENT", "/elsewhere")];
    let alone =
        session.start_as(RunnerId::generate(&SystemIds), &["--shared-folder", "none"], &stale);
    session.wait_ack("m2", AckStatus::Completed);
    alone.stop();
    let folder = |name: &str| session.folder(name).canonicalize().unwrap();
    let seen = |agent: Value| {
        let work = folder("work");
        serde_json::json!([folder("program"), {
            "TWOBOX_PROGRAM": folder("program"), "TWOBOX_WORK": work, "HOME": work,
            "TWOBOX_AGENT": agent,
        }])
    };
    let texts: Vec<Value> =
        session.texts().iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    assert_eq!(texts, [seen(serde_json::json!(folder("agent"))), seen(Value::Null)]);
}

#[test]
fn silence_may_be_meant() {
    let session = session(&python("say(type='turn_done', silent=True)"), "");
    session.say("m1", "x");
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    assert!(session.rows().is_empty());
    runner.stop();
}

#[test]
fn a_program_that_hangs_is_killed_with_everything_it_started() {
    let program = "import os, subprocess\n\
                   child = subprocess.Popen(['sleep', '600'])\n\
                   open(os.environ['HOME'] + '/pids', 'w').write(str(child.pid))\n\
                   child.wait()\n";
    let session = session(program, r#", "turn_timeout_sec": 5"#);
    session.accept(&[message("m1", "x")]);
    let mut runner = session.start();
    assert_eq!(session.wait_failed("m1").reason, "timeout");
    let child = std::fs::read_to_string(session.folder("work").join("pids")).unwrap();
    let stat = std::path::Path::new("/proc").join(child).join("stat");
    // Gone, or dead and waiting for somebody to notice.
    wait_for("the grandchild to die", || {
        let state = std::fs::read_to_string(&stat).unwrap_or_default();
        (state.is_empty() || state.contains(") Z ")).then_some(())
    });
    assert!(runner.running(), "a program that was killed costs no restart");
    runner.stop();
}

#[test]
fn what_is_almost_json_costs_no_turn() {
    // As programs write it that cut texts, and those that begin with a mark.
    let program = "import sys\n\
        sys.stdout.reconfigure(encoding='utf-8')\n\
        for line in sys.stdin:\n    \
            print('\\ufeff{\"type\": \"reply\", \"text\": \"cut \\\\ud83d\"}')\n    \
            print('{\"type\": \"reply\", \"text\": \"\\\\ude00 whole \\\\ud83d\\\\ude00\"}')\n    \
            print('{\"type\": \"turn_done\"}', flush=True)\n";
    let session = session(program, "");
    session.say("m1", "hello");
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    assert_eq!(session.texts(), ["cut \u{fffd}", "\u{fffd} whole \u{1f600}"]);
    let errors = runner.stop();
    assert_eq!(errors.matches("halves of surrogate pairs").count(), 1, "{errors}");
}

#[test]
fn an_agent_knows_where_something_was_said_and_may_answer_at_once() {
    let program = python(
        "m = turn['messages'][-1]\n\
         say(type='reply_now', text='a moment')\n\
         say(type='send', to='ops', text='aside')\n\
         say(type='reply', text=' '.join(str(m.get(k)) for k in ['channel', 'chat', 'thread', 'sender']))\n\
         say(type='turn_done')",
    );
    let session = session(&program, "");
    session.destination("ops"); // the chat elsewhere
    let from = |name: &str,
                (channel, chat, thread): (&str, &str, Option<&str>),
                sender: Option<&str>| {
        let chat_of = |it: &str| Some(it.to_owned());
        NewMessage {
            origin: Origin {
                channel_type: chat_of(channel),
                platform_id: chat_of(chat),
                thread_id: thread.map(str::to_owned),
            },
            content: Chat { sender: sender.map(str::to_owned), ..Chat::text("hello") }.to_json(),
            ..message(name, "")
        }
    };
    session.accept(&[from("m1", ("terminal", "elsewhere", Some("t")), Some("ann"))]);
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    session.accept(&[from("m2", ("command", "42", None), None)]);
    session.wait_ack("m2", AckStatus::Completed);
    let rows = session.rows();
    let said: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row.chat().text,
                row.destination.platform_id.clone(),
                row.destination.thread_id.clone(),
            )
        })
        .collect();
    let at = |text: &str, chat: &str, thread: Option<&str>| {
        (text.to_owned(), Some(chat.to_owned()), thread.map(str::to_owned))
    };
    assert_eq!(
        said,
        [
            at("a moment", "elsewhere", Some("t")),
            at("aside", "elsewhere", Some("t")),
            at("terminal elsewhere t ann", "elsewhere", Some("t")),
            at("a moment", "42", None),
            at("aside", "elsewhere", None),
            at("command 42 None None", "42", None),
        ]
    );
    runner.stop();
}
