use twobox_shared::paths::SessionPaths;
use twobox_shared::probe::{Access, Cgroup, Mount};

use std::fs;

use super::*;
use crate::Profile;

const OPEN: Access = Access { read: true, write: true, refusal: None };

/// What was asked for, and a report of somebody who got it.
fn pair() -> (Expected, Report) {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let expected = Expected {
        user: Some((7, 8)),
        writable: set(&["/out"]),
        read_only: set(&["/in"]),
        closed: set(&["/", "/etc"]),
        tmpfs: vec![Tmpfs {
            place: "/tmp".to_owned(),
            bytes: 1 << 20,
            flags: vec!["noexec".to_owned(), "nosuid".to_owned()],
        }],
        limits: [("core".to_owned(), Limit { soft: Some(0), hard: Some(0) })].into(),
        memory: Some(512 << 20),
        pids: Some(256),
        cpus: Some(1.0),
        no_network: true,
        no_capabilities: true,
        no_new_privs: true,
        seccomp: true,
        own_processes: true,
        no_terminal: true,
    };
    let (read, nothing) = (Access { write: false, ..OPEN }, Access::default());
    let report = Report {
        probe: 1,
        uid: Some(7),
        gid: Some(8),
        groups: Some(vec![8]),
        cap_eff: Some(0),
        cap_bnd: Some(0),
        no_new_privs: Some(true),
        seccomp: Some(2),
        folders: [("/out", OPEN), ("/in", read.clone()), ("/", read), ("/etc", nothing)]
            .map(|(folder, access)| (folder.to_owned(), access))
            .into(),
        mounts: [(
            "/tmp".to_owned(),
            Mount {
                kind: "tmpfs".to_owned(),
                // In another order and with more than was asked for.
                options: ["rw", "nosuid", "relatime", "noexec"].map(str::to_owned).into(),
                bytes: Some(1 << 20),
            },
        )]
        .into(),
        limits: [("core".to_owned(), Limit { soft: Some(0), hard: Some(0) })].into(),
        cgroup: Cgroup {
            memory: SeenLimit::Limited(f64::from(512 << 20)),
            pids: SeenLimit::Limited(256.0),
            cpus: SeenLimit::Limited(1.0),
        },
        interfaces: Some(Vec::new()),
        pid: Some(7),
        processes: Some(2),
        terminal: Some(false),
        ..Report::default()
    };
    (expected, report)
}

#[test]
fn who_gets_what_was_asked_for_differs_in_nothing() {
    let (expected, report) = pair();
    assert_eq!(differences(&expected, &report), []);
    let stricter = Report {
        cgroup: Cgroup {
            memory: SeenLimit::Limited(1e6),
            pids: SeenLimit::Limited(9.0),
            ..report.cgroup
        },
        ..report.clone()
    };
    assert_eq!(differences(&expected, &stricter), [], "less is no harm");
    assert_eq!(differences(&Expected::default(), &Report::default()), [], "nothing was asked for");
}

#[test]
fn every_difference_says_what_it_is_and_how_bad() {
    use Weight::{Fatal, Warning};
    type Change = fn(&mut Report);
    let cases: &[(&str, Change, Weight)] = &[
        ("so it is root inside", |it| it.uid = Some(0), Fatal),
        ("runs as 9:8 and not as 7:8", |it| it.uid = Some(9), Warning),
        ("in the group of root", |it| it.groups = Some(vec![8, 0]), Warning),
        ("keeps capabilities", |it| it.cap_eff = Some(1 << 21), Fatal),
        ("keeps capabilities", |it| it.cap_bnd = Some(1), Fatal),
        ("not known whether an agent keeps capabilities", |it| it.cap_eff = None, Warning),
        ("setuid", |it| it.no_new_privs = Some(false), Fatal),
        ("no seccomp", |it| it.seccomp = Some(0), Warning),
        ("no seccomp", |it| it.seccomp = None, Warning),
        ("have none: eth0\\u{1b}", |it| it.interfaces = Some(vec!["eth0\x1b".to_owned()]), Fatal),
        ("not known whether an agent has a network", |it| it.interfaces = None, Warning),
        ("processes of the machine", |it| it.processes = Some(90), Fatal),
        ("the terminal of the host", |it| it.terminal = Some(true), Fatal),
        (
            "user 7:8 cannot write /out (Permission denied)",
            |it| {
                let refusal = Some("Permission denied".to_owned());
                it.folders.insert("/out".to_owned(), Access { write: false, refusal, ..OPEN });
            },
            Fatal,
        ),
        (
            "user 7:8 cannot read /in",
            |it| drop(it.folders.insert("/in".to_owned(), Access::default())),
            Fatal,
        ),
        ("user 7:8 cannot read /out", |it| drop(it.folders.remove("/out")), Fatal),
        ("an agent can write /in", |it| drop(it.folders.insert("/in".to_owned(), OPEN)), Fatal),
        ("an agent can write /etc", |it| drop(it.folders.insert("/etc".to_owned(), OPEN)), Fatal),
        (
            "/tmp holds 12037 MiB and not 1 MiB",
            |it| it.mounts.get_mut("/tmp").unwrap().bytes = Some(12_037 << 20),
            Warning,
        ),
        (
            "/tmp is without noexec",
            |it| it.mounts.get_mut("/tmp").unwrap().options.retain(|option| option != "noexec"),
            Warning,
        ),
        (
            "/tmp can be written and is not in memory",
            |it| {
                it.mounts.clear();
                it.folders.insert("/tmp".to_owned(), OPEN);
            },
            Warning,
        ),
        (
            "`core` of a process is no limit and not 0",
            |it| it.limits.get_mut("core").unwrap().hard = None,
            Warning,
        ),
        (
            "any amount of memory; 512 MiB were asked for",
            |it| it.cgroup.memory = SeenLimit::Unlimited,
            Warning,
        ),
        (
            "1024 of processes; 256 were asked for",
            |it| it.cgroup.pids = SeenLimit::Limited(1024.0),
            Warning,
        ),
        (
            "not known whether an agent gets 1.00 of processors",
            |it| it.cgroup.cpus = SeenLimit::Unknown,
            Warning,
        ),
    ];
    for (words, change, weight) in cases {
        let (expected, mut report) = pair();
        change(&mut report);
        let found = differences(&expected, &report);
        assert_eq!(found.len(), 1, "{words}: {found:?}");
        assert!(found[0].what.contains(words), "{words}: {found:?}");
        assert_eq!(found[0].weight, *weight, "{words}");
        assert!(!found[0].help.is_empty(), "{words}");
    }
}

#[test]
fn the_worst_is_said_first() {
    let (expected, mut report) = pair();
    (report.seccomp, report.terminal) = (Some(0), Some(true));
    let weights: Vec<_> = differences(&expected, &report).iter().map(|it| it.weight).collect();
    assert_eq!(weights, [Weight::Fatal, Weight::Warning]);
}

#[test]
fn a_runner_that_knows_no_probe_is_told_from_one_that_failed() {
    let old = no_report("agent-runner: unknown option --probe (see --help)\n", Some(2));
    assert!(old.contains("older than this host"), "{old}");
    let broken = no_report("exec format error\u{9b}31m\n\n", Some(1));
    assert!(broken.contains("code 1 and said") && broken.contains("exec format"), "{broken}");
    assert!(!broken.contains('\u{9b}'), "{broken:?}");
    assert!(no_report("", None).contains("said nothing"));
}

#[test]
fn the_folder_of_a_try_is_gone_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::usual(&twobox_config::Config::default().containers);
    let room = Room::make(dir.path(), profile.clone()).unwrap();
    let out = SessionPaths::of_folder(&room.spec().folder).out_dir().to_owned();
    fs::write(out.join("left"), "x").unwrap();
    drop(room);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(Room::make(&dir.path().join("absent"), profile).is_err());
}
