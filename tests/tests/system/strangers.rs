//! What other users of this machine can see and hold, and what becomes of commands that are not run
//! as the owner of the data directory.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use twobox_tests::{Setup, World, binary, on_both_runtimes, on_process};

use crate::scripts::echo;

on_both_runtimes!(nothing_that_is_made_is_open_to_others_whatever_the_umask);

on_process!(
    an_installation_that_is_open_is_closed_at_up_and_by_init,
    a_stranger_opens_nothing_and_so_holds_no_lock,
    a_stranger_is_told_whose_the_directory_is_and_how_to_work_in_it,
    a_directory_in_which_others_write_is_refused_by_every_command,
    init_closes_an_empty_directory_and_refuses_a_full_one,
    root_becomes_the_owner_and_leaves_nothing_that_is_not_theirs,
    doctor_finds_what_belongs_to_somebody_else,
    doctor_says_who_could_exchange_the_directory,
);

/// A user of this machine that owns nothing.
const STRANGER: u32 = 65_534;

/// Whether this process can become others; if not, says loudly that a test is not played.
fn can_be_anybody() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        eprintln!("SKIPPED: only root can become another user");
    }
    is_root
}

/// With which code a command leaves that is refused: a host that a person has to help has its own.
fn code(command: &[&str]) -> i32 {
    if command == ["up"] { 78 } else { 1 }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// Everything in and below a folder. What goes meanwhile is left out.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => all.extend(tree(&entry.path())),
            false => all.push(entry.path()),
        }
    }
    all
}

/// What others than its owner may do something with: all but what the container's user reads, its
/// half of a session and the agent's program, in folders that are closed. A probe at the start has
/// both of its own for a moment.
fn open_to_others(data: &Path) -> Vec<(PathBuf, u32)> {
    let of_probe = |path: &Path| {
        path.strip_prefix(data.join("scratch")).is_ok_and(|below| {
            let names: Vec<_> = below.iter().filter_map(|name| name.to_str()).collect();
            let is_probe = names.first().is_some_and(|name| name.starts_with("probe-"));
            is_probe && matches!(names[1..], ["program"] | ["session", "in"])
        })
    };
    let meant = |path: &Path| {
        let is_program = path.parent() != Some(data) && path.starts_with(data.join("programs"));
        is_program
            || of_probe(path)
            || path.strip_prefix(data.join("sessions")).is_ok_and(|below| {
                let names: Vec<_> = below.iter().skip(2).filter_map(|name| name.to_str()).collect();
                matches!(
                    names[..],
                    ["in"] | ["in", "agent.json" | "inbound.db" | "inbound.db-journal"]
                )
            })
    };
    let open = |path: &PathBuf| Some(fs::symlink_metadata(path).ok()?.mode() & 0o7777);
    let all = tree(data).into_iter().filter(|path| !meant(path));
    all.filter_map(|path| open(&path).map(|mode| (path, mode)))
        .filter(|(_, mode)| mode & 0o077 != 0)
        .collect()
}

fn nothing_that_is_made_is_open_to_others_whatever_the_umask(setup: Setup) {
    // What the test itself writes is not what it is about.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let world = setup.umask(0).api().agent("ada", echo()).make();
    // Everything inside is reached by whoever is let in here.
    set_mode(world.aside(), 0o755);
    assert_eq!(open_to_others(&world.data()), [], "after init");
    world.up();
    assert_eq!(world.chat("ada").ask("hello"), "echo: hello");
    assert_eq!(open_to_others(&world.data()), [], "after a conversation");
    world.twobox(&["agents", "add", "bob"]);
    world.twobox(&["wire", "add", "bob", "command", "42"]);
    world.twobox(&["send", "--agent", "bob", "--wait", "30", "hello"]);
    let schedule = ["schedules", "add", "evening", "--agent", "ada", "--prompt", "x"];
    world.twobox(&[&schedule[..], &["--daily", "23:30"]].concat());
    assert_eq!(world.client().ask("GET", "/api/schedules").status, 200);
    world.twobox(&["schedules", "run", "evening"]);
    world.twobox(&["sessions", "fsck"]);
    world.run(&["doctor"]);
    assert_eq!(open_to_others(&world.data()), [], "after everything else");
    world.stop_host();
    assert_eq!(open_to_others(&world.data()), [], "after the host");
}

fn an_installation_that_is_open_is_closed_at_up_and_by_init(setup: Setup) {
    let world = setup.agent("ada", echo()).make();
    let data = world.data();
    world.up();
    world.stop_host();
    let loosen = || {
        for (path, mode) in [
            ("", 0o755),
            ("agents", 0o755),
            ("agents/ada.json", 0o644),
            ("host.db", 0o666),
            ("host.lock", 0o644),
            ("twobox.toml", 0o664),
            ("api.token", 0o644),
            ("sessions", 0o711),
        ] {
            set_mode(&data.join(path), mode);
        }
    };
    let ours = |found: Vec<(PathBuf, u32)>| -> Vec<PathBuf> {
        let groups = data.join("groups");
        found.into_iter().map(|(path, _)| path).filter(|path| !path.starts_with(&groups)).collect()
    };
    loosen();
    let said = world.twobox(&["init"]);
    assert_eq!(ours(open_to_others(&data)), Vec::<PathBuf>::new());
    assert!(said.contains("closed ") && said.contains("and 3 more"), "{said}");

    loosen();
    world.twobox(&["agents", "list"]);
    assert_eq!(mode(&data), 0o755, "a command that looks changes nothing");
    world.up();
    assert_eq!(ours(open_to_others(&data)), Vec::<PathBuf>::new());
    let log = world.host_log();
    assert!(log.contains("were open to other users"), "{log}");
    assert!(log.contains("could read the API's token"), "{log}");
    assert_eq!(world.chat("ada").ask("hello"), "echo: hello");
}

/// Whether a stranger can open a file at all, to read or to write: whoever holds a lock, on a file
/// or in a database, has opened it.
fn stranger_opens(path: &Path) -> bool {
    ["9<", "9>>"].into_iter().any(|how| {
        let script = format!("exec {how}\"$1\"");
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &script, "sh"]).arg(path).uid(STRANGER).gid(STRANGER);
        shell.stderr(std::process::Stdio::null());
        shell.status().unwrap().success()
    })
}

fn a_stranger_opens_nothing_and_so_holds_no_lock(setup: Setup) {
    if !can_be_anybody() {
        return;
    }
    let world = setup.umask(0).api().agent("ada", echo()).up();
    assert_eq!(world.chat("ada").ask("hello"), "echo: hello");
    let session = world.session("ada");
    // Somebody has opened the folders by mistake: the files are closed by themselves.
    for folder in ["..", "", "agents", "sessions"] {
        set_mode(&world.data().join(folder), 0o711);
    }
    let open = world.aside().join("open");
    fs::write(&open, "").unwrap();
    set_mode(&open, 0o644);
    assert!(stranger_opens(&open), "the test can tell");
    for file in [
        "host.db",
        "host.db-wal",
        "host.db-shm",
        "host.lock",
        "host.sock",
        "twobox.toml",
        "api.token",
        "agents/ada.json",
    ] {
        let path = world.data().join(file);
        assert!(path.exists(), "{file}");
        assert!(!stranger_opens(&path), "{file}");
    }
    assert!(!stranger_opens(&session.folder.join("in/inbound.db")), "its folder is closed");
}

/// `twobox` on `data` as a user of this machine, from a place that everybody reaches.
fn twobox_as(world: &World, uid: u32, data: &Path, arguments: &[&str]) -> Output {
    let program = world.aside().join("twobox");
    if !program.exists() {
        let there = binary("twobox");
        fs::hard_link(&there, &program).or_else(|_| fs::copy(there, &program).map(drop)).unwrap();
    }
    let mut command = Command::new(program);
    command.arg("--data").arg(data).args(arguments).env_clear().current_dir("/");
    if uid != nix::unistd::geteuid().as_raw() {
        command.uid(uid).gid(uid);
    }
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn a_stranger_is_told_whose_the_directory_is_and_how_to_work_in_it(setup: Setup) {
    if !can_be_anybody() {
        return;
    }
    let world = setup.agent("ada", echo()).up();
    set_mode(world.aside(), 0o755);
    let place = world.data().display().to_string();
    let commands: &[&[&str]] = &[
        &["init"],
        &["up"],
        &["status"],
        &["status", "--token"],
        &["send", "hello"],
        &["chat"],
        &["agents", "list"],
        &["agents", "add", "eve"],
        &["wire", "list"],
        &["sessions", "list"],
        &["sessions", "fsck"],
        &["schedules", "list"],
        &["dead", "list"],
        &["doctor"],
    ];
    let refusals = |words: &[&str]| {
        for command in commands {
            let output = twobox_as(&world, STRANGER, &world.data(), command);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(code(command)), "{command:?}: {said}");
            for word in words {
                assert!(said.contains(word), "{command:?}: {word}: {said}");
            }
            assert!(!said.contains("is not a Twobox data directory"), "{command:?}: {said}");
            assert!(!said.contains("init` first"), "{command:?}: {said}");
        }
    };
    let how = format!("sudo -u root twobox --data {place}");
    refusals(&[&format!("{place} belongs to user root, and you are user nobody"), &how]);
    // It may be open: it is somebody else's.
    set_mode(&world.data(), 0o777);
    refusals(&["belongs to user root", &how]);
    set_mode(&world.data(), 0o700);
    // A folder above is closed.
    let above = world.aside().join("closed");
    fs::create_dir(&above).unwrap();
    set_mode(&above, 0o700);
    let there = above.join("data");
    for command in [&["status"][..], &["init"]] {
        let output = twobox_as(&world, STRANGER, &there, command);
        let said = said(&output);
        let words = format!("{} is closed to others than user root", above.display());
        assert!(said.contains(&words) && said.contains("sudo -u root"), "{said}");
    }
    // There is none, and a stranger may not make one.
    let none = world.aside().join("none");
    let status = said(&twobox_as(&world, STRANGER, &none, &["status"]));
    assert!(status.contains("is not a Twobox data directory"), "{status}");
    let init = said(&twobox_as(&world, STRANGER, &none, &["init"]));
    let makes = format!("install -d -m 700 -o nobody {}", none.display());
    assert!(init.contains(&makes), "{init}");
    assert_eq!(world.chat("ada").ask("still there"), "echo: still there");
}

fn a_directory_in_which_others_write_is_refused_by_every_command(setup: Setup) {
    let world = setup.agent("ada", echo()).make();
    for open in [0o770, 0o702, 0o1777] {
        set_mode(&world.data(), open);
        for command in
            [&["init"][..], &["up"], &["status"], &["send", "x"], &["agents", "list"], &["doctor"]]
        {
            let output = world.run(command);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(code(command)), "{command:?}: {said}");
            assert!(said.contains("other users may write in"), "{command:?}: {said}");
            let help = format!("chmod 700 {}", world.data().display());
            assert!(said.contains(&help) && said.contains(&format!("{open:04o}")), "{said}");
        }
        assert_eq!(mode(&world.data()), open, "nothing was changed");
    }
    set_mode(&world.data(), 0o700);
    world.up();
    assert_eq!(world.chat("ada").ask("hello"), "echo: hello");
}

fn init_closes_an_empty_directory_and_refuses_a_full_one(setup: Setup) {
    let world = setup.make();
    let place = |name: &str| {
        let path = world.aside().join(name);
        fs::create_dir(&path).unwrap();
        set_mode(&path, 0o777);
        path
    };
    let (empty, full) = (place("empty"), place("full"));
    fs::write(full.join("twobox.toml"), "").unwrap();
    let us = nix::unistd::geteuid().as_raw();
    let output = twobox_as(&world, us, &empty, &["init", "--runtime", "process"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(mode(&empty), 0o700);
    assert_eq!(open_to_others(&empty), []);
    let output = twobox_as(&world, us, &full, &["init"]);
    assert!(said(&output).contains("look at what is in it"), "{output:?}");
    assert_eq!(fs::read_dir(&full).unwrap().count(), 1, "nothing was made");
}

fn root_becomes_the_owner_and_leaves_nothing_that_is_not_theirs(setup: Setup) {
    if !can_be_anybody() {
        return;
    }
    let runner = binary("agent-runner");
    let mut reaches = Command::new("/usr/bin/test");
    reaches.arg("-x").arg(&runner).uid(STRANGER).gid(STRANGER);
    if !reaches.status().unwrap().success() {
        eprintln!("SKIPPED: other users do not reach {}", runner.display());
        return;
    }
    let world = setup.api().agent("ada", echo()).make();
    set_mode(world.aside(), 0o755);
    for path in tree(&world.data()) {
        chown(path, Some(STRANGER), Some(STRANGER)).unwrap();
    }
    world.up();
    assert_eq!(world.chat("ada").ask("hello"), "echo: hello");
    world.twobox(&["agents", "add", "bob"]);
    world.twobox(&["send", "--agent", "bob", "--wait", "30", "hello"]);
    let schedule = ["schedules", "add", "evening", "--agent", "ada", "--prompt", "x"];
    world.twobox(&[&schedule[..], &["--daily", "23:30"]].concat());
    world.twobox(&["init"]);
    world.twobox(&["sessions", "fsck"]);
    let doctor = world.twobox(&["doctor"]);
    assert!(doctor.contains("looked at as user nobody, whose it is"), "{doctor}");
    assert!(world.host_log().contains("running as user nobody"), "{}", world.host_log());
    let host = fs::metadata(format!("/proc/{}/task", world.host_pid())).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", world.host_pid())).unwrap();
    assert!(status.contains(&format!("Uid:\t{STRANGER}\t{STRANGER}\t{STRANGER}\t{STRANGER}")));
    assert!(status.contains("CapEff:\t0000000000000000"), "{status} {host:?}");
    world.stop_host();
    for path in tree(&world.data()) {
        let meta = fs::symlink_metadata(&path).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (STRANGER, STRANGER), "{}", path.display());
    }
}

fn finding(world: &World, check: &str) -> Value {
    let said = world.run(&["--json", "doctor"]);
    let all: Value = serde_json::from_slice(&said.stdout).unwrap();
    let found =
        all["checks"].as_array().unwrap().iter().find(|entry| entry["check"] == check).cloned();
    found.unwrap_or_else(|| panic!("no {check}: {all}"))
}

fn doctor_finds_what_belongs_to_somebody_else(setup: Setup) {
    if !can_be_anybody() {
        return;
    }
    let world = setup.agent("ada", echo()).make();
    assert_eq!(finding(&world, "owners")["level"], "ok");
    let stray = world.data().join("agents/ada.json");
    chown(&stray, Some(STRANGER), None).unwrap();
    let found = finding(&world, "owners");
    assert_eq!(found["level"], "fail");
    let said = found.to_string();
    assert!(said.contains("belongs to user nobody"), "{said}");
    let mend = format!("chown -h root {}", stray.display());
    assert!(found["help"].as_str().unwrap().ends_with(&mend), "{said}");
    // Without its database nothing works, and everything says why.
    let db = world.data().join("host.db");
    chown(&db, Some(STRANGER), None).unwrap();
    for command in [&["status"][..], &["up"], &["send", "x"], &["doctor"]] {
        let output = world.run(command);
        let said = self::said(&output);
        assert_eq!(output.status.code(), Some(code(command)), "{command:?}: {said}");
        assert!(said.contains(&format!("`chown -h root {}`", db.display())), "{command:?}: {said}");
    }
    let help = finding(&world, "owners")["help"].as_str().unwrap().to_owned();
    assert!(help.contains(stray.to_str().unwrap()) && help.contains(db.to_str().unwrap()));
    let command = help.strip_prefix("as root: ").unwrap();
    assert!(Command::new("/bin/sh").args(["-c", command]).status().unwrap().success());
    assert_eq!(finding(&world, "owners")["level"], "ok");
    world.up();
    assert_eq!(world.chat("ada").ask("hello"), "echo: hello");
}

fn doctor_says_who_could_exchange_the_directory(setup: Setup) {
    let world = setup.make();
    assert_eq!(finding(&world, "data directory")["level"], "ok");
    set_mode(world.aside(), 0o777);
    let found = finding(&world, "data directory");
    assert_eq!(found["level"], "warn");
    assert!(found["detail"].as_str().unwrap().contains("every user can put another directory"));
    set_mode(world.aside(), 0o1777);
    assert_eq!(finding(&world, "data directory")["level"], "ok", "sticky");
}
