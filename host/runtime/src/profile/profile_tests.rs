use std::fs;
use std::os::unix::fs::symlink;

use twobox_config::Config;
use twobox_shared::agent_config::{Lifetime, Provider};

use super::*;

fn settings() -> Containers {
    Config::default().containers
}

fn read(text: &str, settings: &Containers) -> Result<Profile, String> {
    File::parse(text).and_then(|file| Profile::of(file, settings))
}

const ALL: &str = r#"{
    "provider": {"kind": "command", "command": ["a"], "lifetime": "runner"},
    "shared_folder": "none", "max_turns": 7,
    "image": "mine:1", "network": "agents", "egress": ["API.github.com", "*.wikipedia.org:8443"],
    "limits": {"memory_mb": 64, "cpus": 2, "pids": 99},
    "budget": {"usd_per_day": 2.5},
    "mounts": [{"source": "/srv/docs", "target": "/mnt/docs"},
               {"source": "/srv/desk", "target": "/mnt/desk", "read_only": false}],
    "environment": {"B_2": "", "COLOUR": "dark green"}
}"#;

#[test]
fn what_an_agent_does_not_say_is_as_the_settings_say() {
    let settings = Containers { memory_mb: 300, image: "all:1".to_owned(), ..settings() };
    let usual = read("{}", &settings).unwrap();
    assert_eq!(usual, Profile::usual(&settings));
    assert!(usual.shown().iter().all(|it| !it.own), "{usual:?}");
    assert_eq!((usual.image.value.as_str(), usual.limits.memory_mb.value), ("all:1", 300));

    let some = read(r#"{"limits": {"cpus": 0.5}}"#, &settings).unwrap();
    assert_eq!(some.limits.cpus, Setting { value: 0.5, own: true });
    assert_eq!(some.limits.memory_mb, Setting { value: 300, own: false });

    let own = read(ALL, &settings).unwrap();
    let command = Provider::Command { command: vec!["a".to_owned()], lifetime: Lifetime::Runner };
    assert_eq!((&own.agent.provider, own.agent.max_turns), (&command, 7));
    let shown: Vec<_> = own.shown().into_iter().map(|it| (it.name, it.value, it.own)).collect();
    let row = |name, value: &str, own| (name, value.to_owned(), own);
    let expected = [
        row("provider", "command a", true),
        row("shared_folder", "none", true),
        row("max_turns", "7", true),
        row("turn_timeout_sec", "1800", false),
        row("tool_timeout_sec", "600", false),
        row("image", "mine:1", true),
        row("network", "agents", true),
        row("egress", "api.github.com, *.wikipedia.org:8443", true),
        row("limits.memory_mb", "64", true),
        row("limits.cpus", "2", true),
        row("limits.pids", "99", true),
        row("budget.usd_per_day", "2.5", true),
        row("budget.tokens_per_day", "none", false),
        row("budget.usd_per_run", "none", false),
        row("record", "false", false),
        row(
            "mounts",
            "/srv/docs at /mnt/docs (read-only), /srv/desk at /mnt/desk (read-write)",
            true,
        ),
        row("environment", "B_2, COLOUR", true),
    ];
    assert_eq!(shown, expected);
    assert_eq!(File::parse(&File::parse(ALL).unwrap().text()), File::parse(ALL), "it is kept");
}

#[test]
fn a_file_of_an_older_build_says_what_it_said() {
    let flat = r#"{"provider": "command", "command": ["a"], "lifetime": "runner", "max_turns": 7}"#;
    let nested = r#"{"provider": {"kind": "command", "command": ["a"], "lifetime": "runner"},
                     "max_turns": 7}"#;
    assert_eq!(read(flat, &settings()).unwrap(), read(nested, &settings()).unwrap());
}

#[test]
fn a_runner_is_told_nothing_of_what_confines_it() {
    let told = read(ALL, &settings()).unwrap().agent.for_runner();
    for kept in ["mine", "agents", "memory", "srv", "github", "COLOUR", "green"] {
        assert!(!told.contains(kept), "{kept}: {told}");
    }
    assert!(AgentConfig::of(serde_json::from_str(&told).unwrap()).is_ok(), "{told}");
}

#[test]
fn of_a_server_that_the_host_asks_a_runner_is_told_the_name_and_people_where_it_is() {
    let text = r#"{"provider": {"kind": "model", "model": "a/b", "mcp": {
        "hub": {"url": "https://mcp.example/mcp?key=s3cret", "headers": {"X-Own": "s3cret"}},
        "near": {"command": ["python3", "near.py"]}}}}"#;
    let profile = read(text, &settings()).unwrap();
    let told = profile.agent.for_runner();
    assert!(told.contains("near.py") && !told.contains("hub"), "{told}");
    let shown = profile.shown().into_iter().find(|it| it.name == "provider.mcp").unwrap();
    assert_eq!(shown.value, "hub (https://mcp.example/mcp), near (python3 near.py)");
    let all =
        format!("{:?}{}{told}", profile.shown(), serde_json::to_string(&profile.agent).unwrap());
    assert!(!all.contains("s3cret"), "{all}");
    assert_eq!(File::parse(&File::parse(text).unwrap().text()), File::parse(text), "it is kept");
}

#[test]
fn a_secret_is_in_no_word_that_anybody_prints_and_changes_the_text_for_the_stamp() {
    let with = |value: &str| {
        let file =
            File { environment: [("KEY".to_owned(), value.to_owned())].into(), ..File::default() };
        Profile::of(file, &settings()).unwrap()
    };
    let (one, other) = (with("s3cret"), with("other"));
    assert!(!format!("{one:?}{:?}", one.shown()).contains("s3cret"), "{one:?}");
    assert_ne!(one.secret_text(), other.secret_text());
    let more = Containers { pids: 300, ..settings() };
    assert_ne!(
        Profile::usual(&settings()).secret_text(),
        Profile::usual(&more).secret_text(),
        "what the settings say is part of it"
    );
}

#[test]
fn what_cannot_be_is_refused_with_the_field_and_what_to_write() {
    let mount = |source: &str, target: &str| {
        format!(r#"{{"mounts": [{{"source": "{source}", "target": "{target}"}}]}}"#)
    };
    let variable = |name: &str| format!(r#"{{"environment": {{"{name}": "x"}}}}"#);
    let many: Vec<String> =
        (0..9).map(|n| format!(r#"{{"source":"/srv/{n}","target":"/mnt/{n}"}}"#)).collect();
    let cases = [
        (r#"{"image": " "}"#.to_owned(), "image: it names none"),
        (r#"{"image": ""}"#.to_owned(), "image: it names none"),
        (r#"{"image": 7}"#.to_owned(), "image: invalid type: integer `7`"),
        (r#"{"network": ""}"#.to_owned(), "network is \"\""),
        (r#"{"network": "host"}"#.to_owned(), "set containers.allow_unsafe = true"),
        (r#"{"network": "container:x"}"#.to_owned(), "make network \"none\""),
        (r#"{"egress": ["a.org", "https://a.org"]}"#.to_owned(), "egress[1]: \"https://a.org\" has more"),
        (r#"{"egress": "a.org"}"#.to_owned(), "egress: invalid type"),
        (r#"{"limits": {"memory_mb": 15}}"#.to_owned(), "limits.memory_mb: 15 is not a whole number from 16"),
        (r#"{"limits": {"memory_mb": -1}}"#.to_owned(), "limits.memory_mb: invalid value"),
        (r#"{"limits": {"cpus": 0}}"#.to_owned(), "limits.cpus: 0 is not a number from 0.01"),
        (r#"{"limits": {"pids": 1}}"#.to_owned(), "limits.pids: 1 is not a whole number from 16"),
        (r#"{"limits": {"memory": 64}}"#.to_owned(), "unknown field `memory`"),
        (r#"{"budget": {"usd_per_day": -1}}"#.to_owned(), "budget.usd_per_day: -1 is not from 0 to"),
        (r#"{"budget": {"usd_per_run": 1e9}}"#.to_owned(), "budget.usd_per_run: 1000000000 is not from 0 to"),
        (r#"{"budget": {"tokens_per_day": 0.5}}"#.to_owned(), "budget.tokens_per_day: invalid type"),
        (r#"{"budget": {"usd": 1}}"#.to_owned(), "unknown field `usd`"),
        (r#"{"networks": ["x"]}"#.to_owned(), "unknown field `networks`"),
        (r#"{"provider": {"kind": "echo"}} {}"#.to_owned(), "trailing characters"),
        (mount("docs", "/mnt/docs"), "write an absolute path"),
        (mount("/srv/../etc", "/mnt/docs"), "write an absolute path"),
        (mount("/srv/docs", "/mnt"), "mounts: target \"/mnt\": write /mnt/ and one name"),
        (mount("/srv/docs", "/mnt/"), "target"),
        (mount("/srv/docs", "/mnt/.."), "target"),
        (mount("/srv/docs", "/mnt/a/b"), "target"),
        (mount("/srv/docs", "/workspace/in"), "target"),
        (mount("/", "/mnt/a"), "lies in /proc or holds it"),
        (mount("/proc", "/mnt/a"), "lies in /proc or holds it"),
        (mount("/run/user/7", "/mnt/a"), "lies in /run or holds it"),
        (mount("/sys/fs", "/mnt/a"), "lies in /sys or holds it"),
        (mount("/dev", "/mnt/a"), "lies in /dev or holds it"),
        (mount("/etc/ssh", "/mnt/a"), "lies in /etc or holds it"),
        (
            r#"{"mounts": [{"source": "/a", "target": "/mnt/a"}, {"source": "/b", "target": "/mnt/a"}]}"#
                .to_owned(),
            "\"/mnt/a\" is there twice",
        ),
        (format!(r#"{{"mounts": [{}]}}"#, many.join(",")), "mounts has 9 folders, at most 8"),
        (variable(""), "is no name of a variable"),
        (variable("1A"), "is no name of a variable"),
        (variable("A=B"), "is no name of a variable"),
        (variable("TWOBOX_RUNNER"), "environment.TWOBOX_RUNNER: the host says"),
        (variable("LD_PRELOAD"), "how the runner itself is loaded"),
        (variable("HOME"), "environment.HOME: it is the workspace"),
        (variable("PATH"), "environment.PATH: the host looks for"),
        (format!(r#"{{"environment": {{"A": "{}"}}}}"#, "x".repeat(4097)), "environment.A has 4097 bytes"),
        (r#"{"environment": {"A": "\u0000"}}"#.to_owned(), "environment.A: no program can be given a NUL"),
        (r#"{"environment": {"A": 74}}"#.to_owned(), "environment.A: has to be a text"),
        (r#"{"environment": "hunter2"}"#.to_owned(), "environment: has to be a text"),
        (r#"{"max_turns": 0}"#.to_owned(), "max_turns: must be at least 1"),
    ];
    for (text, part) in cases {
        let error = read(&text, &settings()).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
        assert!(!error.contains("74") && !error.contains("hunter2"), "no value is told: {error}");
    }
}

#[test]
fn a_wall_comes_down_only_where_the_settings_allow_it() {
    let text = r#"{"network": "host"}"#;
    let allowed = Containers { allow_unsafe: true, ..settings() };
    let profile = read(text, &allowed).unwrap();
    assert!(profile.caution.is_some_and(|it| it.unsafe_ && it.what.contains("network = \"host\"")));
    let choice = read(r#"{"network": "agents"}"#, &settings()).unwrap();
    assert!(choice.caution.is_some_and(|it| !it.unsafe_));
    let open = Containers { network: "host".to_owned(), ..allowed };
    let closed = read(r#"{"network": "none"}"#, &open).unwrap();
    assert_eq!((closed.network.value.as_str(), closed.caution), ("none", None));
}

#[test]
fn a_folder_is_given_as_it_is_and_never_one_that_leads_to_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let (data, docs) = (root.join("data"), root.join("docs"));
    for folder in [&data.join("sessions"), &docs] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(root.join("file"), "").unwrap();
    let link = |name: &str, to: &Path| symlink(to, root.join(name)).unwrap();
    link("to-docs", &docs);
    link("to-data", &data.join("sessions"));
    link("to-proc", Path::new("/proc/self"));
    let settled = |name: &str| {
        let source = root.join(name);
        let text = format!(r#"{{"mounts": [{{"source": {source:?}, "target": "/mnt/a"}}]}}"#);
        read(&text, &settings()).unwrap().with_folders(&data).map(|it| it.mounts[0].source.clone())
    };
    assert_eq!(settled("docs"), Ok(docs.clone()));
    assert_eq!(settled("to-docs"), Ok(docs));
    for (name, part) in [
        ("data", "/data or holds it"),
        ("data/sessions", "/data or holds it"),
        ("", "/data or holds it"),
        ("to-data", "/data or holds it"),
        ("to-proc", "lies in /proc"),
        ("file", "is no folder"),
        ("absent", "make it"),
        ("file/docs", "name a folder that"),
    ] {
        let error = settled(name).unwrap_err();
        assert!(error.contains(part) && error.starts_with("mounts: source"), "{name}: {error}");
    }
}

#[test]
fn a_file_system_that_is_mounted_in_a_folder_is_seen() {
    let text = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        23 22 0:5 / /srv/do\\040cs rw shared:7 - tmpfs none rw\n\
        24 22 0:6 / /srv/do\\040cs/deep rw - proc proc rw\n";
    let cases = [
        ("/srv", Some("/srv/do cs")),
        ("/srv/do cs", Some("/srv/do cs/deep")),
        ("/srv/do cs/deep", None),
        ("/srv/do", None),
        ("/home", None),
    ];
    for (place, expected) in cases {
        let found = mounts::mounted_below(text, Path::new(place));
        assert_eq!(found.as_deref(), expected.map(Path::new), "{place}");
    }
}
