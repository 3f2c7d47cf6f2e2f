//! The real binary, without a daemon.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use twobox_shared::content::{Chat, Failure};
use twobox_shared::ids::{MessageId, RunnerId, SessionId, SystemIds};
use twobox_shared::inbox::{Inbox, NewMessage, Origin};
use twobox_shared::outbox::{NewRow, OutboxWriter};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;
use twobox_store::Store;
use twobox_system::data::DataDir;

fn twobox(data: &Path, arguments: &[&str]) -> Output {
    with_env(data, arguments, &[])
}

fn with_env(data: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twobox"))
        .arg("--data")
        .arg(data)
        .args(arguments)
        .env_remove("TWOBOX_DATA")
        .env("DOCKER_HOST", "unix:///nonexistent.sock")
        .envs(env.iter().copied())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

fn ok(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The one line on standard error of a command that fails with `code`.
fn fails(output: &Output, code: i32) -> String {
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{line}");
    assert_eq!(text(&output.stdout), "", "{line}");
    assert_eq!(line.trim_end().lines().count(), 1, "{line}");
    line
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn initialised() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    ok(&twobox(&data, &["init", "--runtime", "process"]));
    (dir, data)
}

#[test]
fn init_makes_everything_and_running_it_again_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let first = ok(&twobox(&data, &["init", "--runtime", "process"]));
    assert!(first.contains("process (as you asked"), "{first}");
    assert!(first.contains("no isolation boundary"), "{first}");
    for file in ["host.db", "twobox.toml", "api.token", "agents/assistant.json"] {
        assert!(data.join(file).is_file(), "{file}");
    }
    std::fs::write(data.join("twobox.toml"), "runtime = 'process'\n# mine\n").unwrap();
    std::fs::write(data.join("agents/assistant.json"), "{\"max_turns\": 7}").unwrap();
    let before: Value = serde_json::from_str(&ok(&twobox(&data, &["--json", "init"]))).unwrap();
    assert_eq!(before["made"], serde_json::json!([]));
    let again = ok(&twobox(&data, &["init", "--runtime", "docker"]));
    assert!(again.contains("change its runtime by hand"), "{again}");
    let after: Value = serde_json::from_str(&ok(&twobox(&data, &["--json", "init"]))).unwrap();
    assert_eq!(before["install_id"], after["install_id"]);
    assert!(std::fs::read_to_string(data.join("twobox.toml")).unwrap().contains("# mine"));
    let agent = std::fs::read_to_string(data.join("agents/assistant.json")).unwrap();
    assert_eq!(agent, "{\"max_turns\": 7}");
}

#[test]
fn agents_are_added_listed_shown_and_removed() {
    let (_dir, data) = initialised();
    let add = ["agents", "add", "bob", "--provider", "command", "--session-mode", "per-thread"];
    ok(&twobox(&data, &[&add[..], &["--", "python3", "agent.py"]].concat()));
    let list = ok(&twobox(&data, &["agents", "list"]));
    assert!(list.contains("assistant") && list.contains("bob"), "{list}");
    let show = ok(&twobox(&data, &["--json", "agents", "show", "bob"]));
    let show: Value = serde_json::from_str(&show).unwrap();
    assert_eq!(show["config"]["command"], serde_json::json!(["python3", "agent.py"]));
    assert_eq!(show["places"][0]["mode"], "per-thread");
    assert!(show["config_file"].as_str().unwrap().ends_with("/agents/bob.json"), "{show}");
    assert!(!data.join("groups/bob/agent.json").exists(), "containers write there");
    let twice = fails(&twobox(&data, &["agents", "add", "bob"]), 1);
    assert!(twice.contains("already an agent"), "{twice}");
    ok(&twobox(&data, &["agents", "remove", "bob"]));
    let gone = fails(&twobox(&data, &["agents", "show", "bob"]), 1);
    assert!(gone.contains("there are: assistant"), "{gone}");
    assert!(data.join("agents/bob.json").is_file());
}

#[test]
fn an_agent_is_given_its_program_and_all_its_folders_are_shown() {
    let (dir, data) = initialised();
    let add = ["agents", "add", "bob", "--provider", "command"];
    let added = ok(&twobox(&data, &[&add[..], &["--", "python3", "agent.py"]].concat()));
    assert!(added.contains("/programs/bob"), "{added}");
    let program = dir.path().join("agent.py");
    std::fs::write(&program, "one").unwrap();
    let program = program.to_str().unwrap();
    let put = ok(&twobox(&data, &["agents", "put", "bob", program]));
    assert!(put.contains("/programs/bob/agent.py"), "{put}");
    ok(&twobox(&data, &["agents", "put", "bob", program, "--as", "lib/other.py"]));
    assert_eq!(std::fs::read_to_string(data.join("programs/bob/lib/other.py")).unwrap(), "one");
    let outside = twobox(&data, &["agents", "put", "bob", program, "--as", "../ann/agent.py"]);
    assert!(fails(&outside, 1).contains("is no place in the program folder"));
    let two = twobox(&data, &["agents", "put", "bob", program, program, "--as", "x"]);
    assert!(fails(&two, 2).contains("--as"));
    let nobody = fails(&twobox(&data, &["agents", "put", "ann", program]), 1);
    assert!(nobody.contains("there are: assistant, bob"), "{nobody}");
    let show = ok(&twobox(&data, &["agents", "show", "bob"]));
    for part in ["/programs/bob", "/groups/bob", "/agents/bob.json", "/ID/work", "(rw)"] {
        assert!(show.contains(part), "{part}: {show}");
    }
}

#[test]
fn how_an_agent_runs_is_set_by_options_and_shown_with_what_is_the_default() {
    let (_dir, data) = initialised();
    let run = |arguments: &[&str], env: &[(&str, &str)]| with_env(&data, arguments, env);
    let add = ["agents", "add", "bob", "--image", "mine:1", "--memory", "64", "--env", "KEY"];
    ok(&run(&add, &[("KEY", "s3cret")]));
    let edit =
        ["agents", "edit", "bob", "--cpus", "0.5", "--env", "COLOUR=a=b", "--network", "none"];
    assert!(ok(&run(&edit, &[])).contains("it counts from the next turn on"));
    assert!(ok(&run(&edit, &[])).contains("stays as it was"));
    let file = data.join("agents/bob.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let written: Value = serde_json::from_str(&text).unwrap();
    let expected = serde_json::json!({
        "provider": {"kind": "echo"}, "max_turns": 50, "turn_timeout_sec": 1800,
        "tool_timeout_sec": 600, "image": "mine:1", "network": "none",
        "limits": {"memory_mb": 64, "cpus": 0.5}, "environment": {"KEY": "s3cret", "COLOUR": "a=b"},
    });
    assert_eq!(written, expected);
    let shown = ok(&run(&["agents", "show", "bob"], &[]));
    for line in ["image = mine:1", "limits.pids = 256 (default)", "environment = COLOUR, KEY"] {
        assert!(shown.contains(&format!("runs      {line}\n")), "{line}: {shown}");
    }
    assert_eq!(shown.matches("provider").count(), 1, "{shown}");
    let json = ok(&run(&["--json", "agents", "show", "bob"], &[]));
    assert!(!format!("{shown}{json}").contains("s3cret"), "{shown}{json}");
    let json: Value = serde_json::from_str(&json).unwrap();
    let image = serde_json::json!({"name": "image", "value": "mine:1", "own": true});
    assert!(json["profile"].as_array().unwrap().contains(&image), "{json}");
    for (arguments, part) in [
        (&["agents", "edit", "bob", "--network", "host"][..], "containers.allow_unsafe"),
        (&["agents", "edit", "bob", "--memory", "1"], "limits.memory_mb: 1 is not"),
        (&["agents", "edit", "bob", "--env", "ABSENT"], "--env ABSENT"),
        (&["agents", "edit", "bob", "--env", "TWOBOX_X=1"], "take another name"),
        (&["agents", "edit", "bob", "script.json", "--image", "x"], "has no such options"),
        (&["agents", "add", "eve", "--image", ""], "image: it names none"),
    ] {
        assert!(fails(&run(arguments, &[]), 2).contains(part), "{arguments:?}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "nothing was changed");
}

#[test]
fn fields_are_set_by_their_names_and_an_agent_is_copied_with_its_program() {
    let (_dir, data) = initialised();
    let model = ["--model", "anthropic/claude-x", "--session-mode", "per-thread"];
    ok(&twobox(&data, &[&["agents", "add", "ann"][..], &model].concat()));
    let set = ["agents", "set", "ann", "budget.usd_per_day=2", "tools.bash=deny"];
    assert!(ok(&twobox(&data, &set)).contains("it counts from the next turn on"));
    assert!(ok(&twobox(&data, &set)).contains("stays as it was"));
    let read = |agent: &str| -> Value {
        let file = data.join("agents").join(agent).with_extension("json");
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
    };
    let ann = read("ann");
    assert_eq!(ann["budget"], serde_json::json!({"usd_per_day": 2.0}));
    assert_eq!(ann["provider"]["tools"], serde_json::json!({"bash": "deny"}));
    for (given, part) in [
        ("budget.usd_per_day=-1", "budget.usd_per_day: -1 is not"),
        ("max_turns=many", "max_turns: invalid type"),
        ("colour=red", "unknown field `colour`"),
    ] {
        let failed = fails(&twobox(&data, &["agents", "set", "ann", "image=other:1", given]), 2);
        assert!(failed.contains(part), "{given}: {failed}");
    }
    let no_value = twobox(&data, &["agents", "set", "ann", "image=other:1", "max_turns"]);
    assert_eq!(no_value.status.code(), Some(2));
    assert!(text(&no_value.stderr).contains("use NAME=VALUE"), "{no_value:?}");
    assert_eq!(read("ann"), ann, "nothing was changed");

    std::fs::create_dir(data.join("programs/ann/skills")).unwrap();
    std::fs::write(data.join("programs/ann/skills/a.md"), "how").unwrap();
    std::fs::write(data.join("groups/ann/notes"), "its own").unwrap();
    assert!(ok(&twobox(&data, &["agents", "copy", "ann", "eve"])).contains("copied ann to eve"));
    assert_eq!(read("eve"), ann);
    let copied = |path: &str| std::fs::read_to_string(data.join(path)).ok();
    assert_eq!(copied("programs/eve/skills/a.md").as_deref(), Some("how"));
    assert_eq!(copied("programs/eve/AGENTS.md"), copied("programs/ann/AGENTS.md"));
    assert_eq!(copied("groups/eve/notes"), None, "what its conversations share stays");
    let wired = ok(&twobox(&data, &["wire", "list"]));
    assert_eq!(wired.matches("per-thread").count(), 2, "{wired}");
    for (from, to, part) in [
        ("ann", "eve", "is there already"),
        ("nobody", "bob", "there are: "),
        ("ann", "../x", "agent name"),
    ] {
        let copy = twobox(&data, &["agents", "copy", from, to]);
        let code = copy.status.code().unwrap();
        assert!(code != 0 && fails(&copy, code).contains(part), "{from} {to}: {copy:?}");
    }
}

#[test]
fn nothing_is_edited_without_a_terminal_or_an_editor() {
    let (_dir, data) = initialised();
    let edit = |more: &[&str]| {
        let arguments = [&["agents", "edit", "assistant"], more].concat();
        fails(&with_env(&data, &arguments, &[("EDITOR", ""), ("VISUAL", "")]), 1)
    };
    let config = edit(&[]);
    assert!(config.contains("no terminal") && config.contains("agents/assistant.json"), "{config}");
    let file = edit(&["script.json"]);
    assert!(file.contains("agents put assistant FILE --as script.json`"), "{file}");
    assert_eq!(std::fs::read_dir(data.join("scratch")).unwrap().count(), 0, "nothing was begun");
}

#[test]
fn an_agent_whose_program_is_missing_is_shown_as_such() {
    let (_dir, data) = initialised();
    let add = ["agents", "add", "bob", "--provider", "command", "--", "no-such-program"];
    ok(&twobox(&data, &add));
    let shown = ok(&twobox(&data, &["agents", "show", "bob"]));
    let trouble = shown.lines().find(|line| line.starts_with("trouble ")).expect("a line");
    assert!(trouble.contains("\"no-such-program\" is in no folder of PATH"), "{shown}");
    assert!(trouble.contains("agents put bob FILE`"), "{shown}");
    let json: Value =
        serde_json::from_str(&ok(&twobox(&data, &["--json", "agents", "show", "assistant"])))
            .unwrap();
    assert!(json["trouble"].is_null() && json.get("trouble").is_some(), "{json}");
}

#[test]
fn a_mistake_in_the_command_line_is_json_for_who_asked_for_that() {
    let (_dir, data) = initialised();
    let cases = [
        (&["--json", "bogus"][..], "unrecognized subcommand 'bogus'"),
        (&["agents", "put", "bob", "--json"], "required arguments were not provided: <FILE>..."),
        (&["schedules", "add", "--json", "--at"], "a value is required for '--at <T>'"),
    ];
    for (arguments, part) in cases {
        let said: Value = serde_json::from_str(&fails(&twobox(&data, arguments), 2)).unwrap();
        assert!(said["error"].as_str().unwrap().contains(part), "{arguments:?}: {said}");
    }
    let people = twobox(&data, &["agents", "add", "--bogus", "--", "--json"]);
    assert!(text(&people.stderr).starts_with("error: "), "it is another program's: {people:?}");
    let help = twobox(&data, &["--json", "--help"]);
    assert!(ok(&help).contains("Usage:"), "help is for people");
}

#[test]
fn what_is_edited_is_checked_and_kept() {
    let (dir, data) = initialised();
    ok(&twobox(&data, &["agents", "add", "bob", "--provider", "scripted"]));
    let config = data.join("agents/bob.json");
    let before = std::fs::read_to_string(&config).unwrap();
    let edit = |editor: &str, more: &[&str]| {
        let arguments = [&["agents", "edit", "bob"], more].concat();
        with_env(&data, &arguments, &[("EDITOR", editor), ("VISUAL", "")])
    };
    // An editor is a command with arguments, which gets the file as its last.
    let changed = ok(&edit("sed -i s/50/7/", &[]));
    assert!(changed.contains("agents/bob.json") && changed.contains("next turn"), "{changed}");
    let after = std::fs::read_to_string(&config).unwrap();
    assert_eq!(after, before.replace("50", "7"));
    assert!(ok(&edit("true", &[])).contains("stays as it was"));

    let wrong = fails(&edit("sed -i s/max_turns/max_turn/", &[]), 1);
    assert!(wrong.contains("unknown field `max_turn`"), "{wrong}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), after);
    let kept = wrong.trim_end().rsplit_once("your text is in ").expect("where it is").1;
    assert!(std::fs::read_to_string(kept).unwrap().contains("\"max_turn\""), "{wrong}");
    let gave_up = fails(&edit("false", &[]), 1);
    assert!(gave_up.contains("nothing was changed"), "{gave_up}");

    let script = data.join("programs/bob/script.json");
    let wrong = fails(&edit("echo '{' >", &["script.json"]), 1);
    assert!(wrong.contains("script.json: EOF") && !script.exists(), "{wrong}");
    let made = ok(&edit("echo '{}' >", &["script.json"]));
    assert!(made.contains("at once"), "{made}");
    assert_eq!(std::fs::read_to_string(&script).unwrap(), "{}\n");
    // Whatever stands there is replaced, and not what it leads to.
    let victim = dir.path().join("victim.json");
    std::fs::rename(&script, &victim).unwrap();
    std::os::unix::fs::symlink(&victim, &script).unwrap();
    let link = fails(&edit("echo '[]' >", &["script.json"]), 1);
    assert!(link.contains("symbolic link"), "{link}");
    assert_eq!(std::fs::read_to_string(victim).unwrap(), "{}\n");
    // Somebody else was faster.
    let other = format!("echo '{{}}' > {}; echo '{{\"max_turns\":9}}' >", config.display());
    let late = fails(&edit(&other, &[]), 1);
    assert!(late.contains("was changed meanwhile"), "{late}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "{}\n");
}

#[test]
fn an_agent_of_an_older_installation_gets_its_program_folder_from_init() {
    let (_dir, data) = initialised();
    let add = ["agents", "add", "bob", "--provider", "command"];
    ok(&twobox(&data, &[&add[..], &["--", "python3", "agent.py"]].concat()));
    std::fs::remove_dir_all(data.join("programs")).unwrap();
    std::fs::write(data.join("groups/bob/agent.py"), "code").unwrap();
    let init = ok(&twobox(&data, &["init"]));
    assert!(init.contains("copied \"agent.py\"") && init.contains("look whether bob's"), "{init}");
    assert_eq!(std::fs::read_to_string(data.join("programs/bob/agent.py")).unwrap(), "code");
    assert!(data.join("programs/assistant").is_dir());
    let again = ok(&twobox(&data, &["init"]));
    assert!(!again.contains("agent.py"), "{again}");
}

#[test]
fn chats_are_wired_listed_and_unwired() {
    let (_dir, data) = initialised();
    ok(&twobox(&data, &["agents", "add", "bob"]));
    let add = twobox(&data, &["wire", "add", "bob", "command", "42", "--name", "family"]);
    assert!(text(&add.stderr).contains("channels.command is not set"), "{add:?}");
    let json = twobox(&data, &["--json", "wire", "add", "bob", "command", "43"]);
    let said: Value = serde_json::from_str(&ok(&json)).unwrap();
    assert_eq!(
        (&said["wiring"]["platform_id"], &said["wiring"]["agent"]),
        (&"43".into(), &"bob".into())
    );
    let warning: Value = serde_json::from_str(&text(&json.stderr)).unwrap();
    assert!(warning["warning"].as_str().unwrap().contains("channels.command"), "{warning}");
    ok(&twobox(&data, &["wire", "remove", "bob", "command", "43"]));
    assert_eq!(ok(&add).trim(), "bob listens to command 42 (shared), and calls it \"family\"");
    std::fs::write(data.join("twobox.toml"), "[channels]\ncommand = '/bin/true'\n").unwrap();
    let mode = ["wire", "add", "assistant", "command", "42", "--session-mode", "per-thread"];
    let add = twobox(&data, &mode);
    assert_eq!((ok(&add).lines().count(), text(&add.stderr).as_str()), (1, ""));
    let list: Value =
        serde_json::from_str(&ok(&twobox(&data, &["--json", "wire", "list"]))).unwrap();
    let listed = |agent: &str| {
        let mine =
            list["wirings"].as_array().unwrap().iter().filter(|wiring| wiring["agent"] == agent);
        mine.map(|wiring| (wiring["name"].clone(), wiring["mode"].clone())).collect::<Vec<_>>()
    };
    let pair = |name: &str, mode: &str| (Value::from(name), Value::from(mode));
    assert_eq!(listed("bob"), [pair("terminal", "shared"), pair("family", "shared")]);
    assert_eq!(listed("assistant"), [pair("terminal", "shared"), pair("family", "per-thread")]);
    let table = ok(&twobox(&data, &["wire", "list"]));
    assert!(table.contains("CHAT") && table.contains("family"), "{table}");
    let unknown = fails(&twobox(&data, &["wire", "add", "carl", "command", "43"]), 1);
    assert!(unknown.contains("there are: assistant, bob"), "{unknown}");
    let taken = twobox(&data, &["wire", "add", "bob", "command", "43", "--name", "terminal"]);
    assert!(fails(&taken, 1).contains("choose another name"));
    ok(&twobox(&data, &["wire", "remove", "bob", "command", "42"]));
    let again = fails(&twobox(&data, &["wire", "remove", "bob", "command", "42"]), 1);
    assert!(again.contains("bob does not listen to command \"42\""), "{again}");
    let table = ok(&twobox(&data, &["wire", "list"]));
    assert!(!table.contains("43") && table.matches("42").count() == 1, "{table}");
}

#[test]
fn doctor_says_when_the_program_of_the_command_channel_cannot_be_run() {
    let (_dir, data) = initialised();
    let check = |program: &str| {
        let config = format!("runtime = 'process'\n[channels]\ncommand = '{program}'\n");
        std::fs::write(data.join("twobox.toml"), config).unwrap();
        let output = twobox(&data, &["--json", "doctor"]);
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        said["checks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|check| check["check"] == "command channel")
            .cloned()
    };
    assert_eq!(check(""), None, "nobody wants it");
    ok(&twobox(&data, &["wire", "add", "assistant", "command", "42"]));
    let lacking = check("").unwrap();
    assert_eq!(lacking["level"], "warn", "{lacking}");
    assert!(lacking["help"].as_str().unwrap().contains("channels.command"), "{lacking}");
    assert_eq!(check("/bin/sh").unwrap()["level"], "ok");
    for bad in ["sh", "/bin", "/nonexistent/program", "/etc/passwd"] {
        let check = check(bad).unwrap();
        assert_eq!(check["level"], "fail", "{check}");
        assert!(check["detail"].as_str().unwrap().contains(bad), "{check}");
    }
}

#[test]
fn doctor_names_every_agent_that_cannot_run_and_why() {
    let (_dir, data) = initialised();
    for (name, command) in [
        ("gone", "./agent.py"),
        ("asleep", "./asleep"),
        ("nowhere", "no-such-program"),
        ("fine", "sh"),
    ] {
        ok(&twobox(&data, &["agents", "add", name, "--provider", "command", "--", command]));
    }
    std::fs::write(data.join("programs/asleep/asleep"), "").unwrap();
    ok(&twobox(&data, &["agents", "add", "torn"]));
    std::fs::write(data.join("agents/torn.json"), "{").unwrap();
    let output = twobox(&data, &["--json", "doctor"]);
    assert_eq!(output.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = said["checks"].as_array().unwrap();
    let agents = checks.iter().find(|check| check["check"] == "agents").unwrap();
    assert_eq!(agents["level"], "fail", "{agents}");
    let detail = agents["detail"].as_str().unwrap();
    for part in [
        "gone: ",
        "agent.py is missing",
        "asleep is not executable",
        "\"no-such-program\" is in no folder of PATH",
        "torn: ",
    ] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    assert!(!detail.contains("fine"), "{detail}");
    // What is in an image cannot be seen from here, what is in the program folder can.
    let toml = data.join("twobox.toml");
    std::fs::write(&toml, "runtime = 'docker'\n").unwrap();
    let said: Value = serde_json::from_slice(&twobox(&data, &["--json", "doctor"]).stdout).unwrap();
    let checks = said["checks"].as_array().unwrap();
    let agents = checks.iter().find(|check| check["check"] == "agents").unwrap();
    let detail = agents["detail"].as_str().unwrap();
    assert!(detail.contains("agent.py is missing") && !detail.contains("no-such"), "{detail}");
}

#[test]
fn a_directory_whose_sockets_nobody_could_reach_is_refused_and_found() {
    let dir = tempfile::tempdir().unwrap();
    let room = 107 - "/host.sock".len() - dir.path().as_os_str().len() - 1;
    let [fits, long] = [room, room + 1].map(|length| dir.path().join("d".repeat(length)));
    let refused = fails(&twobox(&long, &["init", "--runtime", "process"]), 1);
    assert!(refused.contains("108 bytes") && refused.contains("107"), "{refused}");
    assert!(!long.exists(), "nothing was made");
    ok(&twobox(&fits, &["init", "--runtime", "process"]));
    let fine = text(&twobox(&fits, &["doctor"]).stdout);
    assert!(!fine.contains("sockets"), "{fine}");
    std::fs::rename(&fits, &long).unwrap();
    let found = text(&twobox(&long, &["doctor"]).stdout);
    assert!(found.contains("FAIL  sockets") && found.contains("108 bytes"), "{found}");
}

#[test]
fn ids_that_begin_with_a_hyphen_need_no_dashes_before_them() {
    let (_dir, data) = initialised();
    ok(&twobox(&data, &["wire", "add", "assistant", "command", "-1001234", "--name", "family"]));
    assert!(ok(&twobox(&data, &["wire", "list"])).contains("-1001234"));
    ok(&twobox(&data, &["wire", "remove", "assistant", "command", "-1001234"]));
    // A message needs a host: what is refused is not the line.
    let send =
        ["send", "--channel", "command", "--chat", "-1001234", "--id", "-7", "--sender", "-5"];
    let sent = fails(&twobox(&data, &[&send[..], &["--thread", "-3", "-hello"]].concat()), 1);
    assert!(sent.contains("no host answers"), "{sent}");
}

#[test]
fn an_agent_may_be_added_with_the_life_of_its_program() {
    let (_dir, data) = initialised();
    let add = ["agents", "add", "bob", "--provider", "command", "--lifetime", "runner", "--", "a"];
    ok(&twobox(&data, &add));
    let config = std::fs::read_to_string(data.join("agents/bob.json")).unwrap();
    assert!(config.contains("\"lifetime\": \"runner\""), "{config}");
    let bad = ["agents", "add", "eve", "--provider", "command", "--lifetime", "day", "--", "a"];
    assert_eq!(twobox(&data, &bad).status.code(), Some(2));
}

#[test]
fn what_answers_an_agent_is_changed_as_it_is_said_at_first() {
    let (_dir, data) = initialised();
    let model = "anthropic/claude-opus-5-5";
    let provider = || {
        let config = std::fs::read_to_string(data.join("agents/bob.json")).unwrap();
        serde_json::from_str::<Value>(&config).unwrap()["provider"].clone()
    };
    ok(&twobox(&data, &["agents", "add", "bob"]));
    let claude = ["agents", "set", "bob", "model=anthropic/claude-opus-5-5", "provider=claude"];
    ok(&twobox(&data, &claude));
    assert_eq!(provider(), serde_json::json!({"kind": "claude", "model": model}));
    assert!(data.join("programs/bob/AGENTS.md").exists(), "as if it had been added so");
    ok(&twobox(&data, &["agents", "edit", "bob", "--provider", "model"]));
    assert_eq!(provider(), serde_json::json!({"kind": "model", "model": model}));
    ok(&twobox(&data, &["agents", "set", "bob", "tools.bash=deny"]));
    ok(&twobox(
        &data,
        &["agents", "set", "bob", "tools=", "provider=codex", "model=openai/gpt-5.5"],
    ));
    assert_eq!(provider(), serde_json::json!({"kind": "codex", "model": "openai/gpt-5.5"}));
    let program = ["agents", "edit", "bob", "--provider", "command", "--", "python3", "agent.py"];
    ok(&twobox(&data, &program));
    let command = serde_json::json!(["python3", "agent.py"]);
    assert_eq!(provider()["command"], command);
    let before = provider();
    for (change, why) in [
        (&["edit", "bob", "--provider", "claude"][..], "say which one: --model anthropic/"),
        (&["set", "bob", "provider=codex", "model=anthropic/x"], "codex speaks OpenAI's Responses"),
        (&["set", "bob", "provider=claude", "model=nobody/x"], "there is no upstream \"nobody\""),
        (&["set", "bob", "provider=gpt"], "use echo, scripted, command, model, claude, codex"),
        (&["set", "bob", "provider=model", "model=x"], "provider.model: "),
        (&["edit", "bob", "--provider", "echo", "--", "a"], "only provider \"command\""),
    ] {
        let failed = fails(&twobox(&data, &[&["agents"], change].concat()), 2);
        assert!(failed.contains(why), "{change:?}: {failed}");
        assert_eq!(provider(), before, "{change:?}");
    }
    let said = ok(&twobox(&data, &["agents", "set", "bob", "provider=echo"]));
    assert!(said.contains(r#"was ["python3","agent.py"]"#), "what is replaced is said: {said}");
}

#[test]
fn mistakes_in_the_command_line_are_usage_errors() {
    let (_dir, data) = initialised();
    let bad: [&[&str]; 16] = [
        &["agents", "add", "../x"],
        &["agents", "add", "global"],
        &["agents", "add", "x", "--provider", "command"],
        &["agents", "add", "x", "--provider", "gpt"],
        &["send"],
        &["send", "--wait", "soon", "x"],
        &["send", "--channel", "command", "x"],
        &["send", "--chat", "42", "x"],
        &["send", "--channel", "command", "--chat", "42", "--agent", "assistant", "x"],
        &["send", "--channel", "command", "--chat", "42", "--wait", "1", "x"],
        &["send", "--id", "../x", "x"],
        &["wire", "add", "assistant", "command"],
        &["wire", "add", "assistant", "telegraph", "42"],
        &["wire", "add", "assistant", "command", "42", "--name", ""],
        &["wire", "add", "assistant", "command", "42", "--session-mode", "secret"],
        &["dance"],
    ];
    for arguments in bad {
        let output = twobox(&data, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
    assert!(!ok(&twobox(&data, &["agents", "list"])).contains('x'));
    assert!(ok(&twobox(&data, &["--version"])).starts_with("twobox "));
}

#[test]
fn what_is_said_has_to_be_something_and_in_quotes() {
    let (_dir, data) = initialised();
    for empty in ["", " \n\t"] {
        let error = fails(&twobox(&data, &["send", empty]), 2);
        assert!(error.contains("empty"), "{error}");
    }
    assert!(
        fails(&twobox(&data, &["send", "-"]), 2).contains("empty"),
        "nothing on standard input"
    );
    let words = ["send", "--agent", "assistant", "how", "are", "you?"];
    assert!(fails(&twobox(&data, &words), 2).contains("quotes"));
}

#[test]
fn hints_are_about_the_directory_that_was_named_on_the_command_line() {
    let (_dir, data) = initialised();
    let named = format!("`twobox --data {} up`", data.display());
    let unset = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twobox"));
        command.args(arguments).env("TWOBOX_DATA", &data).stdin(std::process::Stdio::null());
        command.env("DOCKER_HOST", "unix:///nonexistent.sock").output().unwrap()
    };
    for arguments in [&["send", "hi"][..], &["chat"], &["status"], &["doctor"]] {
        let told = |output: &Output| text(&output.stdout) + &text(&output.stderr);
        let given = told(&twobox(&data, arguments));
        assert!(given.contains(&named), "{arguments:?}: {given}");
        let from_environment = told(&unset(arguments));
        assert!(from_environment.contains("`twobox up`"), "{arguments:?}: {from_environment}");
    }
    let after = unset(&["send", "--data", data.to_str().unwrap(), "hi"]);
    assert!(text(&after.stderr).contains(&named), "wherever it was said: {after:?}");
    let json = twobox(&data, &["--json", "send", "hi"]);
    assert!(text(&json.stderr).contains(&named), "{json:?}");
}

#[test]
fn a_directory_that_was_not_initialised_names_the_command() {
    let dir = tempfile::tempdir().unwrap();
    for (command, code) in [("up", 78), ("status", 1), ("chat", 1)] {
        let error = fails(&twobox(dir.path(), &[command]), code);
        assert!(error.starts_with("twobox: ") && error.contains("init"), "{command}: {error}");
    }
}

#[test]
fn a_bad_configuration_is_one_error_that_names_the_field() {
    let (_dir, data) = initialised();
    std::fs::write(data.join("twobox.toml"), "[limits]\nmax_tries = 0\n").unwrap();
    let error = fails(&twobox(&data, &["up"]), 78);
    for part in ["twobox.toml", "limits.max_tries = 0", "from 1 to 100"] {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
    let json = fails(&twobox(&data, &["--json", "up"]), 78);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["error"].as_str().unwrap().contains("limits.max_tries"), "{json}");
    std::fs::remove_file(data.join("twobox.toml")).unwrap();
    let error = fails(&with_env(&data, &["up"], &[("TWOBOX_LOG", "a=b=c")]), 78);
    assert!(error.contains("TWOBOX_LOG"), "{error}");
}

#[test]
fn without_a_host_commands_say_how_to_start_one() {
    let (_dir, data) = initialised();
    for arguments in [&["send", "hi"][..], &["chat"], &["send", "--wait", "1", "hi"]] {
        let error = fails(&twobox(&data, arguments), 1);
        assert!(error.contains(" up`"), "{arguments:?}: {error}");
    }
    let status = twobox(&data, &["status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(text(&status.stdout).contains("no host runs"));
    let doctor = ok(&twobox(&data, &["doctor"]));
    let seen =
        ["no damage found", "no host runs", "not an isolation boundary", "Landlock", "file events"];
    for part in seen {
        assert!(doctor.contains(part), "{part} is missing in\n{doctor}");
    }
    let sessions = ok(&twobox(&data, &["sessions", "list"]));
    assert!(sessions.contains("no sessions yet"), "{sessions}");
    assert_eq!(
        ok(&twobox(&data, &["--json", "sessions", "list"])),
        "{\"runs_left_out\":0,\"sessions\":[]}\n"
    );
    let unknown = fails(&twobox(&data, &["sessions", "show", "ffff"]), 1);
    assert!(unknown.contains("sessions list"), "{unknown}");
}

#[test]
fn without_a_default_agent_the_names_are_listed() {
    let (_dir, data) = initialised();
    ok(&twobox(&data, &["agents", "add", "ann"]));
    ok(&twobox(&data, &["agents", "add", "bob"]));
    ok(&twobox(&data, &["agents", "remove", "assistant"]));
    let error = fails(&twobox(&data, &["send", "hi"]), 2);
    assert!(error.contains("ann, bob"), "{error}");
}

/// A session with one answered, one failed and one new message, as the daemon and a runner leave it.
fn with_session(data: &Path) -> String {
    with_session_that_says(data, "", "answer\x1b[2J", "no key")
}

/// As [`with_session`], in which others chose the name of the thread, the answer, and why the second
/// message failed.
fn with_session_that_says(data: &Path, thread: &str, answer: &str, reason: &str) -> String {
    let id = SessionId::generate(&SystemIds);
    let db = Store::create(&data.join("host.db")).unwrap();
    let heard = db.wirings().listening("terminal", "assistant").wait().unwrap().remove(0);
    db.raw().execute(
        "INSERT INTO sessions (id, agent_group_id, messaging_group_id, thread_id, created_at_ms,
           last_active_at_ms) VALUES (?1, ?2, ?3, ?4, 1, 1)",
        rusqlite::params![id, heard.agent, heard.messaging_group, thread],
    )
    .unwrap();
    let paths = DataDir::open(data).unwrap().session_paths(heard.agent, id);
    std::fs::create_dir_all(paths.in_dir()).unwrap();
    std::fs::create_dir_all(paths.out_dir()).unwrap();
    let mut inbox = Inbox::open(&paths.inbound_db()).unwrap();
    let tx = inbox.write().unwrap();
    for name in ["one", "two", "three"] {
        let message = NewMessage {
            id: MessageId::parse(name).unwrap(),
            kind: "chat".to_owned(),
            content: Chat::text(name).to_json(),
            origin: Origin::default(),
            trigger: true,
            process_after: None,
            source_session: None,
            run_id: None,
        };
        tx.accept(&message, Seq(0), UnixMillis(0)).unwrap();
    }
    tx.complete(&MessageId::parse("one").unwrap()).unwrap();
    let failure = Failure::permanent("auth_failed", reason);
    tx.fail(&MessageId::parse("two").unwrap(), 0, &failure).unwrap();
    tx.commit().unwrap();
    let runner = RunnerId::generate(&SystemIds);
    let mut outbox = OutboxWriter::open(&paths.outbound_db(), runner).unwrap();
    let row = NewRow {
        in_reply_to: MessageId::parse("one").ok(),
        kind: "chat".to_owned(),
        destination: Origin::default(),
        content: Chat::text(answer).to_json(),
        deliver_after: None,
        attempt: 0,
        id: MessageId::parse("r1").unwrap(),
    };
    outbox.send(&[], &row, Seq(2), UnixMillis(0)).unwrap();
    id.to_string()
}

#[test]
fn a_session_is_shown_and_tailed_from_its_two_boxes() {
    let (_dir, data) = initialised();
    let id = with_session(&data);
    let (start, end) = (&id[..13], &id[id.len() - 6..]);
    let show = ok(&twobox(&data, &["sessions", "show", start]));
    for part in ["1 completed, 1 failed, 1 pending", "two after 1 try: auth_failed no key"] {
        assert!(show.contains(part), "{show}");
    }
    let tail = ok(&twobox(&data, &["sessions", "tail", end]));
    let texts: Vec<&str> = tail.lines().filter_map(|line| line.split("Z ").nth(1)).collect();
    let expected = ["> one", "< answer\\u{1b}[2J", "> [failed] two", "> [pending] three"];
    assert_eq!(texts, expected, "{tail}");
    let last = ok(&twobox(&data, &["--json", "sessions", "tail", end, "-n", "1"]));
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!((&last["id"], &last["seq"]), (&"three".into(), &6.into()));
    let list = ok(&twobox(&data, &["sessions", "list", "--agent", "assistant"]));
    assert!(list.contains(&id) && list.contains("active"), "{list}");
    let retry = fails(&twobox(&data, &["sessions", "retry", end]), 1);
    assert!(retry.contains(" up`"), "{retry}");
}

#[test]
fn a_list_of_sessions_says_where_they_are_and_when_something_was_said() {
    let (_dir, data) = initialised();
    let id = with_session(&data);
    let db = Store::open(&data.join("host.db")).unwrap();
    let run = SessionId::generate(&SystemIds);
    db.raw()
        .execute_batch(&format!(
            "INSERT INTO messaging_groups (id, channel_type, platform_id, name, created_at_ms)
           VALUES ('g', 'schedule', 's1', 'tidy', 1);
         INSERT INTO sessions (id, agent_group_id, messaging_group_id, thread_id, created_at_ms,
             last_active_at_ms)
           SELECT '{run}', id, 'g', 'r1', 1, 1 FROM agent_groups;
         UPDATE sessions SET last_active_at_ms = 4000000000000;"
        ))
        .unwrap();
    let list = ok(&twobox(&data, &["sessions", "list"]));
    assert!(list.contains("chat  terminal assistant"), "{list}");
    // The message that the runner of the test has written, not the last start.
    assert!(list.contains("1970-01-01T00:00:00.000Z") && !list.contains("2096"), "{list}");
    assert!(!list.contains("tidy"), "{list}");
    assert!(list.contains("1 session was made for scheduled runs: --runs"), "{list}");
    let all = ok(&twobox(&data, &["sessions", "list", "--runs"]));
    assert!(all.contains("run   tidy") && all.contains("r1"), "{all}");
    let json: Value =
        serde_json::from_str(&ok(&twobox(&data, &["--json", "sessions", "list", "--runs"])))
            .unwrap();
    let kinds: Vec<_> = json["sessions"].as_array().unwrap().iter().map(|it| &it["kind"]).collect();
    assert_eq!(kinds, ["run", "chat"], "a session without a message is as old as it is: {json}");
    assert_eq!(json["sessions"][1]["id"], id.as_str());
    let show = ok(&twobox(&data, &["sessions", "show", &id]));
    assert!(show.contains("last       message 1970-01-01T00:00:00.000Z"), "{show}");
}

/// `--json`: one value on one line, an object, and what is listed stands under its name.
#[test]
fn json_has_one_shape_everywhere() {
    let (_dir, data) = initialised();
    let id = with_session(&data);
    let cases: [(&[&str], &str); 14] = [
        (&["agents", "list"], "agents"),
        (&["agents", "show", "assistant"], "agent"),
        (&["wire", "list"], "wirings"),
        (&["sessions", "list"], "sessions"),
        (&["sessions", "show", &id], "session"),
        (&["sessions", "tasks", &id], "live"),
        (&["sessions", "fsck"], "findings"),
        (&["schedules", "list"], "schedules"),
        (&["schedules", "runs"], "runs"),
        (&["schedules", "metrics"], "metrics"),
        (&["dead", "list"], "dead"),
        (&["dead", "show", &id, "two"], "dead"),
        (&["doctor"], "checks"),
        (&["status"], "running"),
    ];
    for (arguments, key) in cases {
        let output = twobox(&data, &[&["--json"], arguments].concat());
        let said = text(&output.stdout);
        assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
        let value: Value = serde_json::from_str(&said).unwrap();
        assert!(value.get(key).is_some(), "{arguments:?} has no {key}: {said}");
    }
    let tail = text(&twobox(&data, &["--json", "sessions", "tail", &id]).stdout);
    for line in tail.lines() {
        assert!(serde_json::from_str::<Value>(line).unwrap().is_object(), "one for each message");
    }
}

#[test]
fn a_damaged_outbox_is_told_and_does_not_hide_the_inbox() {
    let (_dir, data) = initialised();
    let id = with_session(&data);
    let show: Value =
        serde_json::from_str(&ok(&twobox(&data, &["--json", "sessions", "show", &id]))).unwrap();
    let out = Path::new(show["folder"].as_str().unwrap()).join("out/outbound.db");
    std::fs::write(&out, vec![b'x'; 8192]).unwrap();
    let show = ok(&twobox(&data, &["sessions", "show", &id]));
    assert!(show.contains("1 pending") && show.contains("outbox     "), "{show}");
    fails(&twobox(&data, &["sessions", "tail", &id]), 1);
}

/// Clears a terminal in seven and in eight bits, turns a line round, hides, and forges a line of
/// `tail`, one of `show` and one of a table.
const EVIL: &str = "fine\u{1b}[2J\u{9b}2J\u{7}\u{202e}\u{2066}\u{200b}\u{2028}\r\
     \r\n     8 2026-01-01T00:00:00.000Z > transfer it\nstatus     active\nnot read: x";

#[test]
fn what_an_agent_wrote_steers_no_terminal_and_forges_no_line() {
    let hidden = |c: &char| twobox_shared::visible::is_hidden(*c) && *c != '\n';
    let harmless = |output: &Output| {
        let all = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(all.chars().find(hidden), None, "{all:?}");
    };
    let seen = |thread: &str, answer: &str, reason: &str| {
        let (_dir, data) = initialised();
        let id = with_session_that_says(&data, thread, answer, reason);
        let commands: [&[&str]; 6] = [
            &["sessions", "tail", &id],
            &["sessions", "show", &id],
            &["sessions", "list"],
            &["dead", "list"],
            &["dead", "show", &id, "two"],
            &["fsck"],
        ];
        let shown = commands.map(|arguments| {
            let output = twobox(&data, arguments);
            harmless(&output);
            let json = twobox(&data, &[&["--json"], arguments].concat());
            harmless(&json);
            (text(&output.stdout), text(&json.stdout))
        });
        (id, shown)
    };
    let (_, calm) = seen("t", "fine", "no key");
    let (id, evil) = seen(EVIL, EVIL, EVIL);
    let heads = |text: &str| {
        let ours = text.lines().filter(|line| !line.trim_start().starts_with("| "));
        ours.map(|line| line.chars().take(6).collect::<String>()).collect::<Vec<_>>()
    };
    for ((calm, _), (evil, _)) in calm[..2].iter().zip(&evil) {
        assert_eq!(heads(calm), heads(evil), "every further line is set apart:\n{evil}");
    }
    for ((calm, _), (evil, _)) in calm[2..4].iter().zip(&evil[2..]) {
        assert_eq!(calm.lines().count(), evil.lines().count(), "a row is a line:\n{evil}");
    }
    let tail = &evil[0].0;
    assert!(tail.contains("< fine\\u{1b}[2J\\u{9b}2J\\u{7}\\u{202e}\\u{2066}"), "{tail}");
    assert!(tail.contains("\n       |      8 2026-01-01T00:00:00.000Z > transfer it\n"), "{tail}");
    let said: Vec<Value> =
        evil[0].1.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said.iter().any(|entry| entry["text"] == EVIL), "JSON says what was said: {said:?}");
    let shown: Value = serde_json::from_str(&evil[1].1).unwrap();
    assert_eq!(shown["session"]["id"], id.as_str());
}

#[test]
fn what_is_too_long_is_refused_with_its_limit_and_leaves_nothing() {
    let (_dir, data) = initialised();
    let state = || {
        let lists = ["agents", "wire", "schedules"];
        lists.map(|list| ok(&twobox(&data, &["--json", list, "list"])))
    };
    let agent = |length: usize| vec!["agents".into(), "add".into(), "a".repeat(length)];
    let chat = |length: usize| {
        let to = ["wire", "add", "assistant", "command"].map(str::to_owned);
        [&to[..], &["c".repeat(length)]].concat()
    };
    let name = |length: usize| {
        let to = ["wire", "add", "assistant", "command", "42", "--name"].map(str::to_owned);
        [&to[..], &["n".repeat(length)]].concat()
    };
    let schedule = |name: &str, prompt: usize, cron: usize, zone: &str| {
        let prompt = "p".repeat(prompt);
        let cron = format!("0 9 * *{}*", " ".repeat(cron - 8));
        let all = ["schedules", "add", name, "--agent", "assistant", "--prompt", &prompt];
        let when = ["--cron", &cron, "--timezone", zone];
        [&all[..], &when].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    type Case = (&'static str, Vec<String>, Option<Vec<String>>, [&'static str; 3]);
    let cases: [Case; 8] = [
        ("agent", agent(65), Some(agent(64)), ["agent", "65 bytes", "64"]),
        ("chat", chat(256), Some(chat(255)), ["chat", "256 bytes", "255"]),
        ("its name", name(256), Some(name(255)), ["name", "256 bytes", "255"]),
        (
            "schedule",
            schedule(&"s".repeat(65), 9, 9, "UTC"),
            Some(schedule(&"s".repeat(64), 9, 9, "UTC")),
            ["NAME", "65 bytes", "64"],
        ),
        (
            "prompt",
            schedule("p", 65_537, 9, "UTC"),
            Some(schedule("p", 65_536, 9, "UTC")),
            ["--prompt", "65537 bytes", "65536"],
        ),
        (
            "cron",
            schedule("c", 9, 257, "UTC"),
            Some(schedule("c", 9, 256, "UTC")),
            ["--cron", "257 bytes", "256"],
        ),
        // No zone has a name of 64 bytes.
        ("zone", schedule("z", 9, 9, &"Z".repeat(65)), None, ["--timezone", "65 bytes", "64"]),
        (
            "id",
            ["send", "--id", &"i".repeat(256), "x"].map(str::to_owned).to_vec(),
            None, // a message needs a host
            ["--id", "256 bytes", "255"],
        ),
    ];
    for (case, long, fit, told) in cases {
        let before = state();
        let run = |arguments: &[String]| {
            twobox(&data, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let output = run(&long);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{case}: {error}");
        for part in told {
            assert!(error.contains(part), "{case}: {error} lacks {part}");
        }
        assert_eq!(state(), before, "{case}: nothing is kept");
        if let Some(fit) = fit {
            ok(&run(&fit));
            assert_ne!(state(), before, "{case}: what fits is taken");
        }
    }
    let toml = data.join("twobox.toml");
    let configured = std::fs::read_to_string(&toml).unwrap();
    let add = schedule("f", 9, 9, "UTC");
    let add: Vec<&str> = add.iter().map(String::as_str).collect();
    let before = state();
    let long = fails(&with_env(&data, &add, &[("TWOBOX_CONTAINERS_IMAGE", &"x".repeat(4097))]), 1);
    for part in ["TWOBOX_CONTAINERS_IMAGE", "4097 bytes", "4096"] {
        assert!(long.contains(part), "{long}");
    }
    let padded = |length: usize| {
        let room = length - configured.len() - 1;
        std::fs::write(&toml, format!("{configured}#{}", "x".repeat(room))).unwrap();
        assert_eq!(std::fs::metadata(&toml).unwrap().len(), length as u64);
    };
    padded((1 << 20) + 1);
    let long = fails(&twobox(&data, &add), 1);
    for part in ["twobox.toml", "1048577 bytes", "1048576"] {
        assert!(long.contains(part), "{long}");
    }
    assert_eq!(state(), before, "nothing is kept");
    padded(1 << 20);
    ok(&with_env(&data, &add, &[("TWOBOX_CONTAINERS_IMAGE", &"x".repeat(4096))]));
}
