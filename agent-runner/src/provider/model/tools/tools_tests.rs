use std::fs;
use std::sync::mpsc;
use std::time::Instant;

use serde_json::{Value, json};

use super::permission::ASKED_FIRST;
use super::*;
use crate::ask::Asking;
use crate::event::{Asked, Event, Said};
use crate::provider::Reins;

/// A place to work in.
struct Place {
    dir: tempfile::TempDir,
    bench: Bench,
    toolbox: Toolbox,
    handle: TurnHandle,
    reins: Reins,
    aside: Aside,
}

/// Somebody in the main thread's place, who does all that is said, but for what is for "silence", and lets
/// people allow what is fine.
fn listen(events: mpsc::Receiver<Event>, reins: Reins) {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        while let Ok(event) = events.recv() {
            let (said, answer) = match event {
                Event::Asked(Asked { said, answer, .. }) => (said, answer),
                Event::Said(Said::Ask(asking, reply)) => {
                    reply.send(decision(&asking)).unwrap();
                    continue;
                }
                _ => continue,
            };
            match said {
                Said::Send { to, .. } if to == "nobody" => {
                    answer.send(Err("could not send to \"nobody\"".to_owned())).unwrap();
                }
                Said::Send { to, .. } if to == "silence" => {
                    kept.push(answer);
                    reins.cancel();
                }
                _ => answer.send(Ok(())).unwrap(),
            }
        }
    });
}

/// What people say: what is not shown to be fine is not.
fn decision(asking: &Asking) -> Decision {
    match asking {
        Asking::Permission { tool, arguments } if arguments.contains("fine") => {
            Decision { ok: true, text: format!("A person allowed {tool}.") }
        }
        Asking::Permission { tool, arguments } => {
            Decision::no(format!("A person denied {tool} with {arguments}."))
        }
        Asking::Question { choices, .. } => {
            Decision { ok: true, text: format!("They chose from {}.", choices.replace('\n', ", ")) }
        }
    }
}

fn place_with(permissions: &[(&str, Permission)]) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let (handle, reins, events) = TurnHandle::apart();
    listen(events, reins.clone());
    let bench = Bench {
        work: dir.path().to_owned(),
        program: dir.path().to_owned(),
        agent: None,
        halves: [dir.path().join("in"), dir.path().join("out")],
        key: "secret-key-of-the-session".to_owned(),
        temp: None,
        way_out: None,
        fetches: None,
        shell: shell(),
        most: Duration::from_secs(20),
        kept: Kept::of(dir.path()),
        skills: Vec::new(),
        destinations: vec!["team".to_owned()],
        foreign: Foreign::default(),
        shows_pictures: true,
        cancelled: AtomicBool::new(false),
        group: Arc::clone(&handle.group),
    };
    let permissions = permissions.iter().map(|(name, it)| ((*name).to_owned(), *it)).collect();
    let toolbox = Toolbox::of(&bench, &permissions).unwrap();
    Place { dir, bench, toolbox, handle, reins, aside: Aside::default() }
}

fn place() -> Place {
    place_with(&[])
}

fn call(name: &str, input: Value) -> ToolCall {
    let input = match input {
        Value::Object(fields) => Input::Fields(fields),
        other => Input::Unreadable(other.to_string()),
    };
    ToolCall { id: format!("call-{name}"), name: name.to_owned(), input }
}

impl Place {
    fn use_all(&mut self, calls: &[ToolCall]) -> Result<Vec<ToolResult>, Cancelled> {
        self.toolbox.use_all(&self.bench, calls, &self.handle, &mut self.aside)
    }

    /// What became of one call, with a mark before it if it failed.
    fn one(&mut self, name: &str, input: Value) -> String {
        let results = self.use_all(&[call(name, input)]).unwrap();
        let [ToolResult { parts, failed, .. }] = results.as_slice() else { panic!("{results:?}") };
        let [Part::Text { text }] = parts.as_slice() else { panic!("{parts:?}") };
        format!("{}{text}", if *failed { "! " } else { "" })
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

#[test]
fn a_shell_says_what_it_prints_and_how_it_ended() {
    let mut place = place();
    let mut bash = |line: &str| place.one("bash", json!({"command": line}));
    assert_eq!(bash("echo a; echo b >&2"), "a\nb\n");
    assert_eq!(bash("true"), "(It printed nothing.)");
    assert_eq!(bash("echo a; exit 3"), "! a\n\n[exit status: 3]");
    assert_eq!(bash("cat"), "(It printed nothing.)", "there is nothing to read");
    assert_eq!(bash("cd /; echo $HOME"), bash("pwd"));
}

#[test]
fn a_shell_is_ended_with_all_that_it_began_when_its_time_is_over() {
    let mut place = place();
    let begun = Instant::now();
    let line = "echo a; (sleep 60; touch late) & sleep 60";
    let said = place.one("bash", json!({"command": line, "timeout_sec": 1}));
    assert!(said.starts_with("! a\n\n[it was ended after 1 s"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn what_is_left_in_the_background_is_not_waited_for() {
    let mut place = place();
    let begun = Instant::now();
    assert_eq!(place.one("bash", json!({"command": "sleep 30 & echo a"})), "a\n");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn a_long_output_is_in_a_file_that_can_be_read() {
    let mut place = place();
    let said = place.one("bash", json!({"command": "seq 1 20000"}));
    assert!(said.starts_with("1\n2\n") && said.ends_with("\n20000\n"), "{said}");
    let (_, rest) = said.split_once("all of it is in ").unwrap();
    let (path, _) = rest.split_once(" …]").unwrap();
    let lines = place.one("read_file", json!({"path": path, "offset": 10_000, "limit": 1}));
    assert!(lines.starts_with("10000\t10000\n[… there is more"), "{lines}");
}

#[test]
fn a_shell_ends_when_the_turn_is_cancelled() {
    let mut place = place();
    let reins = place.reins.clone();
    let cancel = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        reins.cancel();
    });
    let begun = Instant::now();
    let calls = [
        call("bash", json!({"command": "sleep 60"})),
        call("bash", json!({"command": "touch late"})),
    ];
    place.use_all(&calls).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(!place.dir.path().join("late").exists(), "nothing is begun any more");
    cancel.join().unwrap();
}

#[test]
fn calls_that_only_look_stand_beside_each_other_and_all_others_keep_their_order() {
    let mut place = place();
    let calls = [
        call("write_file", json!({"path": "a", "content": "1\n"})),
        call("read_file", json!({"path": "a"})),
        call("grep", json!({"pattern": "1", "path": "a"})),
        call("bash", json!({"command": "echo 2 > a"})),
        call("read_file", json!({"path": "a"})),
    ];
    let results = place.use_all(&calls).unwrap();
    let texts: Vec<_> = results
        .iter()
        .map(|result| match result.parts.as_slice() {
            [Part::Text { text }] => text.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((texts[1], texts[4]), ("1\t1\n", "1\t2\n"));
    assert!(texts[2].ends_with("/a:1: 1\n"), "{}", texts[2]);
    let ids: Vec<_> = results.iter().map(|result| result.call.as_str()).collect();
    let asked: Vec<_> = calls.iter().map(|call| call.id.as_str()).collect();
    assert_eq!(ids, asked);
}

#[test]
fn many_looks_at_once_all_have_their_result() {
    let mut place = place();
    let calls: Vec<_> = (0..20)
        .map(|number| {
            place.file(&number.to_string(), number.to_string());
            call("read_file", json!({"path": number.to_string()}))
        })
        .collect();
    let results = place.use_all(&calls).unwrap();
    let expected = |number: usize| vec![Part::text(format!("1\t{number}\n"))];
    assert!(results.iter().enumerate().all(|(number, it)| it.parts == expected(number)));
}

#[test]
fn files_are_made_changed_and_read() {
    let mut place = place();
    let made = place.one("write_file", json!({"path": "deep/a.txt", "content": "one two\n"}));
    assert!(made.ends_with("deep/a.txt was made: 8 bytes."), "{made}");
    let changed = json!({"path": "deep/a.txt", "old_string": "two", "new_string": "three"});
    assert!(place.one("edit_file", changed).contains("in one place"));
    assert_eq!(place.one("read_file", json!({"path": "deep/a.txt"})), "1\tone three\n");
    place.file("b", [0, 1, 2]);
    let cases = [
        ("deep", "it is a folder"),
        ("none", "No such file"),
        ("b", "no text, but 3 bytes"),
        ("/dev/zero", "no plain file"),
    ];
    for (path, expected) in cases {
        let said = place.one("read_file", json!({"path": path}));
        assert!(said.starts_with("! ") && said.contains(expected), "{path}: {said}");
    }
    let said = place.one("edit_file", json!({"path": "b", "old_string": "x", "new_string": "y"}));
    assert!(said.contains("does not stand there"), "{said}");
}

#[test]
fn the_boxes_of_the_session_are_not_written_and_its_key_is_not_shown() {
    let mut place = place();
    place.file("in/agent.json", r#"{"gateway":{"key":"secret-key-of-the-session","routes":[]}}"#);
    place.file("out/outbound.db", "box");
    std::os::unix::fs::symlink(place.dir.path().join("out"), place.dir.path().join("link"))
        .unwrap();
    for path in ["in/agent.json", "out/x/y", "x/../out/y", "link/y", "link/outbound.db"] {
        let written = place.one("write_file", json!({"path": path, "content": "x"}));
        assert!(written.starts_with("! ") && written.contains("the host's"), "{path}: {written}");
        let edit = json!({"path": path, "old_string": "box", "new_string": "x"});
        let edited = place.one("edit_file", edit);
        assert!(edited.starts_with("! ") && edited.contains("the host's"), "{path}: {edited}");
    }
    assert!(place.one("write_file", json!({"path": "output", "content": "x"})).contains("made"));
    for (name, input) in [
        ("read_file", json!({"path": "in/agent.json"})),
        ("grep", json!({"path": "in", "pattern": "key"})),
        ("bash", json!({"command": "cat in/agent.json"})),
    ] {
        let shown = place.one(name, input);
        assert!(shown.contains("[the host's key]") && !shown.contains("secret"), "{name}: {shown}");
    }
}

#[test]
fn a_picture_is_shown_where_the_model_takes_any() {
    let mut place = place();
    place.file("a.png", b"\x89PNG\r\n\x1a\n");
    let calls = [call("read_file", json!({"path": "a.png"}))];
    let results = place.use_all(&calls).unwrap();
    assert!(matches!(&results[0].parts[..], [Part::Media { name, .. }] if name == "a.png"));
    place.bench.shows_pictures = false;
    assert!(place.one("read_file", json!({"path": "a.png"})).contains("is shown none"));
}

#[test]
fn files_and_lines_are_found() {
    let mut place = place();
    place.file("x/a.md", "One\ntwo\n");
    place.file("b.md", "two\n");
    place.file("c.bin", b"two\0");
    place.file(".git/d.md", "two\n");
    let root = place.dir.path().display().to_string();
    let found = place.one("glob", json!({"pattern": "**/*.md"}));
    let mut lines: Vec<_> = found.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, [format!("{root}/b.md"), format!("{root}/x/a.md")]);
    let all = place.one("grep", json!({"pattern": "two"}));
    assert_eq!(all, format!("{root}/b.md:1: two\n{root}/x/a.md:2: two\n"));
    let some = json!({"pattern": "ONE", "ignore_case": true, "glob": "x/*"});
    assert_eq!(place.one("grep", some), format!("{root}/x/a.md:1: One\n"));
    assert_eq!(place.one("glob", json!({"pattern": "*.rs"})), "(Nothing was found.)");
    assert!(place.one("grep", json!({"pattern": "("})).contains("no regular expression"));
    assert!(place.one("glob", json!({"pattern": "*", "path": "none"})).contains("No such file"));
}

#[test]
fn what_the_host_cannot_do_is_the_result() {
    let mut place = place();
    let send = |to: &str| json!({"to": to, "text": "hi"});
    assert_eq!(place.one("send_message", send("team")), "It was sent.");
    assert_eq!(place.one("send_message", send("nobody")), "! could not send to \"nobody\"");
    assert!(place.aside.notices.is_empty(), "it was told already");
    assert_eq!(place.one("list_destinations", json!({})), "team");
    assert!(place.one("send_file", json!({"path": "none"})).starts_with("! "));
    let later = json!({"prompt": "water the plants", "recurrence": "daily 09:00"});
    assert!(place.one("schedule_task", later).contains("when your turn ends"));
}

#[test]
fn a_turn_that_is_cancelled_while_the_host_is_asked_ends() {
    let mut place = place();
    let calls = [
        call("send_message", json!({"to": "silence", "text": "hi"})),
        call("write_file", json!({"path": "late", "content": ""})),
    ];
    place.use_all(&calls).unwrap_err();
    assert!(!place.dir.path().join("late").exists(), "nothing is begun any more");
}

#[test]
fn a_tool_that_is_denied_or_not_there_is_refused_in_words() {
    let mut place = place_with(&[("bash", Permission::Deny), ("grep", Permission::Allow)]);
    let names: Vec<_> = place.toolbox.specs().into_iter().map(|spec| spec.name).collect();
    assert!(!names.contains(&"bash".to_owned()) && names.contains(&"grep".to_owned()));
    let said = place.one("bash", json!({"command": "touch x"}));
    assert_eq!(said, "! the tool bash may not be used here");
    let said = place.one("fly", json!({}));
    assert!(said.contains("no tool \"fly\"; there are: read_file, write_file,"), "{said}");
    let said = place.one("glob", json!("{broken"));
    assert!(said.contains("a JSON object, and this is none"), "{said}");
    assert!(!place.dir.path().join("x").exists());
}

#[test]
fn what_a_person_has_to_allow_is_used_if_they_do_and_each_call_is_asked_for() {
    let mut place = place_with(&[("bash", Permission::Ask), ("read_file", Permission::Ask)]);
    fs::write(place.dir.path().join("fine"), "text\n").unwrap();
    let specs = place.toolbox.specs();
    let says = |name: &str| &specs.iter().find(|spec| spec.name == name).unwrap().description;
    assert!(says("bash").ends_with(ASKED_FIRST) && !says("glob").contains(ASKED_FIRST));
    let calls = [
        call("bash", json!({"command": "echo fine >> ran"})),
        call("bash", json!({"command": "echo no >> ran"})),
        call("bash", json!({"command": "echo fine >> ran", "timeout_sec": 5})),
        call("read_file", json!({"path": "fine"})),
        call("read_file", json!({"path": "ran"})),
        call("glob", json!({"pattern": "ran"})),
    ];
    let results = place.use_all(&calls).unwrap();
    let failed: Vec<_> = results.iter().map(|result| result.failed).collect();
    assert_eq!(failed, [false, true, false, false, true, false]);
    let told = results[1].parts.iter().map(|part| format!("{part:?}")).collect::<String>();
    let exactly = r#"A person denied bash with command=\"echo no >> ran\". Nothing was done."#;
    assert!(told.contains(exactly), "{told}");
    assert_eq!(fs::read_to_string(place.dir.path().join("ran")).unwrap(), "fine\nfine\n");
    let said = place.one("ask", json!({"question": "Which?", "choices": "a\nb"}));
    assert_eq!(said, "They chose from a, b.");
}

#[test]
fn a_permission_for_a_tool_that_nobody_has_is_a_mistake() {
    let place = place();
    let permission = |name: &str| BTreeMap::from([(name.to_owned(), Permission::Deny)]);
    let error = Toolbox::of(&place.bench, &permission("bsh")).err().unwrap();
    assert!(error.starts_with("there is no tool \"bsh\"; there are: bash, read_file,"), "{error}");
    // One that is only not in this place is none.
    assert!(Toolbox::of(&place.bench, &permission("skill")).is_ok());
}

#[test]
fn tools_are_given_the_time_that_their_calls_ask_for() {
    let place = place();
    let bash = |seconds: u64| call("bash", json!({"command": "x", "timeout_sec": seconds}));
    let look = call("glob", json!({"pattern": "*"}));
    let span = |calls: &[ToolCall]| place.toolbox.span(&place.bench, calls).map(|it| it.as_secs());
    assert_eq!(span(std::slice::from_ref(&look)), None);
    assert_eq!(span(&[bash(3), bash(4)]), Some(3 + 4 + 10));
    assert_eq!(span(&[bash(99), look]), Some(20 + 20 + 10), "no longer than any tool may");
}

#[test]
fn names_and_descriptions_are_fit_for_every_api() {
    for spec in place().toolbox.specs() {
        let fit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        assert!(spec.name.len() <= 64 && spec.name.bytes().all(fit), "{}", spec.name);
        assert!(!spec.description.is_empty() && spec.schema["type"] == "object", "{}", spec.name);
    }
}
