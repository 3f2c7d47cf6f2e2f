//! The container runtime against a real engine. Without one the tests say so and pass, unless
//! `TWOBOX_REQUIRE_DOCKER` is set. The image is built from nothing: `probe/main.rs`, linked
//! statically, in an empty image.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use twobox_config::{Config, Containers};
use twobox_runtime::docker::Docker;
use twobox_runtime::profile::File;
use twobox_runtime::{
    AgentFolders, Condition, Incarnation, Profile, Runtime, RuntimeError, RuntimeEvent, Sighting,
    StartSpec,
};
use twobox_shared::agent_config::SharedFolder;
use twobox_shared::durability::Durability;
use twobox_shared::ids::{InstallId, RunnerId, SessionId, SystemIds};

const IMAGE: &str = "twobox-runtime-test:local";

/// Whether there is an engine with the test image; says it once if not.
fn engine() -> bool {
    static READY: OnceLock<bool> = OnceLock::new();
    *READY.get_or_init(|| {
        let answers = Command::new("docker").arg("version").output();
        if !answers.is_ok_and(|output| output.status.success()) {
            let required = std::env::var("TWOBOX_REQUIRE_DOCKER").is_ok_and(|value| value != "0");
            assert!(!required, "no Docker engine, and TWOBOX_REQUIRE_DOCKER is set");
            eprintln!("SKIPPED: no Docker engine");
            return false;
        }
        build_image();
        true
    })
}

fn build_image() {
    let context = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe/main.rs");
    // With the target named, the flag does not apply to what rustc itself runs.
    let host = run("rustc", &["-vV"]);
    let target = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let program = context.path().join("probe");
    run(
        "rustc",
        &[
            "--edition=2024",
            "-Ctarget-feature=+crt-static",
            "--target",
            target,
            "-o",
            program.to_str().unwrap(),
            source.to_str().unwrap(),
        ],
    );
    let recipe = "FROM scratch\nCOPY probe /probe\nENTRYPOINT [\"/probe\"]\n";
    fs::write(context.path().join("Dockerfile"), recipe).unwrap();
    docker(&["build", "--quiet", "--tag", IMAGE, context.path().to_str().unwrap()]);
}

fn docker(arguments: &[&str]) -> String {
    run("docker", arguments)
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// One installation. Its containers are removed at the end, whatever happened.
struct Machine {
    dir: TempDir,
    install: InstallId,
    events: UnboundedReceiver<RuntimeEvent>,
    profile: Profile,
    runtime: Docker,
}

impl Machine {
    fn new(plan: &str) -> Self {
        Self::with(plan, InstallId::generate(&SystemIds), settings())
    }

    fn with(plan: &str, install: InstallId, settings: Containers) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["session/in", "session/out", "session/work", "program", "agent"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(dir.path().join(folder), private).unwrap();
        }
        let inbox = dir.path().join("session/in/inbound.db");
        fs::write(&inbox, "mail").unwrap();
        fs::set_permissions(&inbox, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(dir.path().join("session/in/agent.json"), "{}").unwrap();
        fs::write(dir.path().join("agent/plan"), plan).unwrap();
        let told = dir.path().join("program/told");
        fs::write(&told, "who it is").unwrap();
        fs::set_permissions(&told, fs::Permissions::from_mode(0o600)).unwrap();
        let (sender, events) = unbounded_channel();
        let runtime = Docker::connect(install, dir.path(), &settings, sender).unwrap();
        let profile = Profile::usual(&settings);
        Self { dir, install, events, profile, runtime }
    }

    /// The runtime of another host of the same installation.
    fn next_host(&self) -> Docker {
        let (sender, _nobody_listens) = unbounded_channel();
        Docker::connect(self.install, self.dir.path(), &settings(), sender).unwrap()
    }

    fn spec(&self, session: SessionId) -> StartSpec {
        StartSpec {
            incarnation: Incarnation { session, runner: RunnerId::generate(&SystemIds) },
            folder: self.dir.path().join("session"),
            agent: AgentFolders {
                program: self.dir.path().join("program"),
                shared: self.dir.path().join("agent"),
                access: SharedFolder::Rw,
            },
            profile: self.profile.clone(),
            idle: Duration::from_secs(60),
            grace: Duration::from_secs(2),
            heartbeat: twobox_config::HEARTBEAT,
            poll: None,
            durability: Durability::PowerLoss,
        }
    }

    async fn start(&self) -> Incarnation {
        let spec = self.spec(SessionId::generate(&SystemIds));
        self.runtime.start(&spec).await.unwrap();
        spec.incarnation
    }

    async fn condition(&self, incarnation: Incarnation) -> Option<Condition> {
        let seen = self.runtime.of_session(incarnation.session).await.unwrap();
        seen.iter().find(|seen| seen.incarnation == incarnation).map(|seen| seen.condition)
    }

    /// Waits for the incarnation's end to be reported.
    async fn hear_exit(&mut self, incarnation: Incarnation) {
        let heard = async {
            while self.events.recv().await.unwrap() != RuntimeEvent::Exited(incarnation) {}
        };
        tokio::time::timeout(Duration::from_secs(20), heard).await.expect("an exit event");
    }

    /// Waits until the runtime follows the engine's events.
    async fn hear_stream(&mut self) {
        assert_eq!(self.events.recv().await, Some(RuntimeEvent::Interrupted));
    }

    fn containers(&self) -> Vec<String> {
        let filter = format!("label=twobox.install={}", self.install);
        let ids = docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]);
        ids.lines().map(str::to_owned).collect()
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("session/runner.log")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for id in self.containers() {
            // It may be on its way out already.
            Command::new("docker").args(["rm", "--force", "--volumes", &id]).output().ok();
        }
    }
}

fn settings() -> Containers {
    Containers { image: IMAGE.to_owned(), ..Config::default().containers }
}

#[tokio::test]
async fn the_engine_shows_every_confinement() {
    if !engine() {
        return;
    }
    let machine = Machine::new("sleep 60000");
    let incarnation = machine.start().await;
    let install = machine.install.to_string();
    let name = format!("twobox-{}-{}", &install[24..], incarnation.session);
    let shown: Value = serde_json::from_str(&docker(&["inspect", &name])).unwrap();
    let (container, host) = (&shown[0], &shown[0]["HostConfig"]);
    for (key, expected) in [
        ("ReadonlyRootfs", json!(true)),
        ("SecurityOpt", json!(["no-new-privileges"])),
        ("Privileged", json!(false)),
        ("PidsLimit", json!(256)),
        ("Memory", json!(512 << 20)),
        ("MemorySwap", json!(512 << 20)),
        ("NanoCpus", json!(1_000_000_000)),
        ("ShmSize", json!(64 << 20)),
        ("Init", json!(true)),
        ("NetworkMode", json!("none")),
        ("AutoRemove", json!(false)),
    ] {
        assert_eq!(host[key], expected, "{key}");
    }
    // Engines spell these in ways of their own, and add options to what they were asked for.
    assert!(host["CapDrop"].as_array().is_some_and(|dropped| !dropped.is_empty()));
    assert!(host["CapAdd"].as_array().is_none_or(Vec::is_empty), "{}", host["CapAdd"]);
    assert_eq!(host["LogConfig"]["Type"], "json-file");
    for (place, size) in [("/tmp", "size=64m"), ("/var/tmp", "size=64m"), ("/run", "size=1m")] {
        let options = host["Tmpfs"][place].as_str().unwrap_or_default();
        for option in ["rw", "nosuid", "nodev", "noexec", size] {
            assert!(options.split(',').any(|it| it == option), "{place}: {options}");
        }
    }
    let limit = |name: &str| {
        let limits = host["Ulimits"].as_array().unwrap();
        let is = |it: &&Value| it["Name"].as_str().unwrap().to_lowercase().ends_with(name);
        let limit = limits.iter().find(is).unwrap();
        (limit["Soft"].as_i64(), limit["Hard"].as_i64())
    };
    assert_eq!((limit("core"), limit("nofile")), ((Some(0), Some(0)), (Some(1024), Some(4096))));
    assert_eq!(host["RestartPolicy"]["Name"], "no");
    assert!(host["OomScoreAdj"].as_i64() >= Some(500), "{}", host["OomScoreAdj"]);
    let runner = incarnation.runner.to_string();
    assert_eq!(container["Config"]["Labels"]["twobox.runner"], json!(runner));
    assert_eq!(container["Config"]["StopTimeout"], 2);
    let mut mounts: Vec<_> = container["Mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| (mount["Destination"].as_str().unwrap(), mount["RW"].as_bool().unwrap()))
        .collect();
    mounts.sort_unstable();
    let expected = [
        ("/workspace/agent", true),
        ("/workspace/in", false),
        ("/workspace/out", true),
        ("/workspace/program", false),
        ("/workspace/session", true),
    ];
    assert_eq!(mounts, expected);
    let running = Sighting { incarnation, condition: Condition::Running };
    assert_eq!(machine.runtime.list().await.unwrap(), [running]);
}

#[tokio::test]
async fn an_agent_has_the_image_limits_environment_and_folders_of_its_own_profile() {
    if !engine() {
        return;
    }
    let plan = "env COLOUR\nread /mnt/docs/page\nwrite /mnt/docs/x\nwrite /mnt/desk/x\nprint end";
    let usual = Containers { image: "no-such-image:1".to_owned(), ..settings() };
    let mut machine = Machine::with(plan, InstallId::generate(&SystemIds), usual.clone());
    let given = tempfile::tempdir().unwrap();
    let place = given.path().canonicalize().unwrap();
    for name in ["docs", "desk"] {
        fs::create_dir(place.join(name)).unwrap();
        fs::set_permissions(place.join(name), fs::Permissions::from_mode(0o777)).unwrap();
    }
    fs::write(place.join("docs/page"), "a page").unwrap();
    let (docs, desk) = (place.join("docs"), place.join("desk"));
    let text = format!(
        r#"{{"image": "{IMAGE}", "limits": {{"memory_mb": 64, "cpus": 0.5, "pids": 50}},
            "environment": {{"COLOUR": "dark green"}}, "mounts": [
            {{"source": {docs:?}, "target": "/mnt/docs"}},
            {{"source": {desk:?}, "target": "/mnt/desk", "read_only": false}}]}}"#
    );
    let own = Profile::of(File::parse(&text).unwrap(), &usual).unwrap();
    machine.profile = own.with_folders(&machine.dir.path().join("data")).unwrap();
    assert!(machine.runtime.check_profile(&machine.profile).await.is_ok());
    let incarnation = machine.start().await;
    machine.hear_exit(incarnation).await;
    let shown: Value =
        serde_json::from_str(&docker(&["inspect", &machine.containers()[0]])).unwrap();
    let host = &shown[0]["HostConfig"];
    let limits = [&host["Memory"], &host["NanoCpus"], &host["PidsLimit"]];
    assert_eq!(limits, [&json!(64 << 20), &json!(500_000_000), &json!(50)]);
    machine.runtime.clear(incarnation, &machine.log()).await.unwrap();
    let printed = fs::read_to_string(machine.log()).unwrap();
    let seen = ["COLOUR=dark green", "\"a page\"", "docs/x: ReadOnlyFilesystem", "desk/x: written"];
    assert!(seen.iter().all(|part| printed.contains(part)), "{printed}");
    let missing = Profile::of(File::parse(r#"{"image": "nowhere:1"}"#).unwrap(), &usual).unwrap();
    let error = machine.runtime.check_profile(&missing).await.unwrap_err().to_string();
    assert!(error.contains("image nowhere:1 is missing"), "{error}");
}

#[tokio::test]
async fn from_inside_neither_the_inbox_nor_the_program_can_be_written() {
    if !engine() {
        return;
    }
    let mut machine = Machine::new(
        "write /workspace/in/x\nwrite /workspace/in/inbound.db\nwrite /x\n\
         write /workspace/in/agent.json\nwrite /workspace/out/x\nwrite /workspace/agent/x\n\
         write /workspace/session/x\nwrite /workspace/program/x\nread /workspace/program/told\n\
         write /tmp/x\nread /workspace/in/inbound.db\nread /workspace/in/agent.json\n\
         list /sys/class/net\nstatus Uid:\nstatus CapEff:\nstatus NoNewPrivs:\nstatus Seccomp:\n\
         exit 7",
    );
    let incarnation = machine.start().await;
    machine.hear_exit(incarnation).await;
    assert_eq!(machine.condition(incarnation).await, Some(Condition::Exited { code: Some(7) }));

    let log = machine.log();
    fs::write(&log, "earlier\n").unwrap();
    machine.runtime.clear(incarnation, &log).await.unwrap();
    let printed = fs::read_to_string(&log).unwrap();
    let own = rustix::process::geteuid().as_raw();
    let uid = if own == 0 { 65532 } else { own };
    for line in [
        "earlier",
        "/workspace/in/x: ReadOnlyFilesystem",
        "/workspace/in/inbound.db: ReadOnlyFilesystem",
        "/x: ReadOnlyFilesystem",
        "/workspace/in/agent.json: ReadOnlyFilesystem",
        "/workspace/out/x: written",
        "/workspace/agent/x: written",
        "/workspace/session/x: written",
        "/workspace/program/x: ReadOnlyFilesystem",
        "/workspace/program/told: Ok(\"who it is\")",
        "/tmp/x: written",
        "/workspace/in/inbound.db: Ok(\"mail\")",
        "/workspace/in/agent.json: Ok(\"{}\")",
        "/sys/class/net: lo",
        &format!("Uid: {uid} {uid} {uid} {uid}"),
        "CapEff: 0000000000000000",
        "NoNewPrivs: 1",
        "Seccomp: 2",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line} is missing in\n{printed}");
    }

    assert_eq!(machine.runtime.list().await.unwrap(), [], "cleared");
    machine.runtime.clear(incarnation, &log).await.unwrap();
    machine.runtime.stop(incarnation, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn of_two_hosts_that_start_one_session_exactly_one_succeeds() {
    if !engine() {
        return;
    }
    let machine = Machine::new("sleep 60000");
    let other = machine.next_host();
    let session = SessionId::generate(&SystemIds);
    let (one, two) = (machine.spec(session), machine.spec(session));
    let (first, second) = tokio::join!(machine.runtime.start(&one), other.start(&two));
    let refused = [first, second].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(matches!(refused[..], [RuntimeError::Occupied { .. }]), "{refused:?}");
    assert_eq!(machine.containers().len(), 1);
}

#[tokio::test]
async fn a_container_in_the_folder_of_a_copy_is_left_alone() {
    if !engine() {
        return;
    }
    let original = Machine::new("sleep 60000");
    let copy = Machine::with("sleep 60000", original.install, settings());
    let theirs = original.start().await;
    assert_eq!(copy.runtime.list().await.unwrap(), []);
    assert_eq!(copy.runtime.of_session(theirs.session).await.unwrap(), []);
    copy.runtime.stop(theirs, Duration::ZERO).await.unwrap();
    copy.runtime.clear(theirs, &copy.log()).await.unwrap();
    assert_eq!(original.condition(theirs).await, Some(Condition::Running));

    let refused = copy.runtime.start(&copy.spec(theirs.session)).await.unwrap_err().to_string();
    let folder = original.dir.path().join("session/in");
    assert!(refused.contains(folder.to_str().unwrap()), "it says whose the place is: {refused}");
    assert!(refused.contains("init --copy"), "{refused}");
    original.runtime.stop(theirs, Duration::ZERO).await.unwrap();
    let gone = copy.runtime.start(&copy.spec(theirs.session)).await;
    assert!(
        matches!(gone, Err(RuntimeError::Start { .. })),
        "it is not cleared for them: {gone:?}"
    );
    original.runtime.clear(theirs, &original.log()).await.unwrap();
    copy.start().await;
}

#[tokio::test]
async fn a_container_is_ours_when_its_directory_was_renamed_meanwhile() {
    if !engine() {
        return;
    }
    let machine = Machine::new("sleep 60000");
    let incarnation = machine.start().await;
    let [inside, outside] = ["session", "renamed"].map(|name| machine.dir.path().join(name));
    let (sender, _nobody_listens) = unbounded_channel();
    let renamed = Docker::connect(machine.install, &outside, &settings(), sender).unwrap();
    assert_eq!(renamed.list().await.unwrap(), [], "another folder");
    fs::rename(inside, outside).unwrap();
    let running = Sighting { incarnation, condition: Condition::Running };
    assert_eq!(renamed.list().await.unwrap(), [running]);
}

#[tokio::test]
async fn the_next_host_adopts_a_container_and_stops_it() {
    if !engine() {
        return;
    }
    let mut machine = Machine::new("sleep 60000");
    let incarnation = machine.start().await;
    let (sender, events) = unbounded_channel();
    machine.runtime =
        Docker::connect(machine.install, machine.dir.path(), &settings(), sender).unwrap();
    machine.events = events;
    machine.hear_stream().await;
    let running = Sighting { incarnation, condition: Condition::Running };
    assert_eq!(machine.runtime.list().await.unwrap(), [running]);

    let stale = Incarnation { runner: RunnerId::generate(&SystemIds), ..incarnation };
    machine.runtime.stop(stale, Duration::ZERO).await.unwrap();
    assert_eq!(machine.condition(incarnation).await, Some(Condition::Running), "another life");

    machine.runtime.stop(incarnation, Duration::from_secs(5)).await.unwrap();
    let ended = machine.condition(incarnation).await;
    assert_eq!(ended, Some(Condition::Exited { code: Some(143) }));
    machine.hear_exit(incarnation).await;
    let again = machine.spec(incarnation.session);
    let occupied = machine.runtime.start(&again).await.unwrap_err();
    assert!(matches!(occupied, RuntimeError::Occupied { .. }), "not cleared yet: {occupied}");
}

#[tokio::test]
async fn a_start_that_cannot_be_leaves_nothing_behind() {
    if !engine() {
        return;
    }
    let machine = Machine::new("sleep 60000");
    let spec = machine.spec(SessionId::generate(&SystemIds));
    fs::remove_dir(spec.folder.join("out")).unwrap();
    let error = machine.runtime.start(&spec).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Start { .. }), "a missing folder: {error}");
    assert_eq!(machine.containers(), [] as [&str; 0]);

    fs::create_dir(spec.folder.join("out")).unwrap();
    machine.runtime.start(&spec).await.unwrap();
}

#[tokio::test]
async fn a_container_that_was_never_started_has_exited() {
    if !engine() {
        return;
    }
    let machine = Machine::new("sleep 60000");
    let incarnation = machine.spec(SessionId::generate(&SystemIds)).incarnation;
    let label = |name: &str, value: String| format!("--label=twobox.{name}={value}");
    docker(&[
        "create",
        &label("install", machine.install.to_string()),
        &label("session", incarnation.session.to_string()),
        &label("runner", incarnation.runner.to_string()),
        IMAGE,
    ]);
    assert_eq!(machine.condition(incarnation).await, Some(Condition::Exited { code: None }));
    machine.runtime.clear(incarnation, &machine.log()).await.unwrap();
    assert_eq!(machine.containers(), [] as [&str; 0]);
}

#[tokio::test]
async fn a_container_of_an_older_host_keeps_its_place_under_its_old_name() {
    if !engine() {
        return;
    }
    let machine = Machine::new("sleep 60000");
    let spec = machine.spec(SessionId::generate(&SystemIds));
    let label = |name: &str, value: String| format!("--label=twobox.{name}={value}");
    let old = format!("twobox-{}-{}", &machine.install.to_string()[..8], spec.incarnation.session);
    docker(&[
        "create",
        "--name",
        &old,
        &label("install", machine.install.to_string()),
        &label("session", spec.incarnation.session.to_string()),
        &label("runner", spec.incarnation.runner.to_string()),
        IMAGE,
    ]);
    let next = machine.spec(spec.incarnation.session);
    let error = machine.runtime.start(&next).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Occupied { .. }), "{error}");
    assert_eq!(machine.containers().len(), 1);
    machine.runtime.clear(spec.incarnation, &machine.log()).await.unwrap();
    machine.runtime.start(&next).await.unwrap();
}

#[tokio::test]
async fn a_container_that_somebody_removes_has_ended_and_leaves_its_place() {
    if !engine() {
        return;
    }
    let mut machine = Machine::new("sleep 60000");
    machine.hear_stream().await;
    let session = SessionId::generate(&SystemIds);
    // The engine takes its time for each of the steps, and a look may come between any two.
    for round in 0..10 {
        let spec = machine.spec(session);
        machine.runtime.start(&spec).await.unwrap_or_else(|error| panic!("round {round}: {error}"));
        let id = docker(&["ps", "--quiet", "--filter", &format!("label=twobox.session={session}")]);
        let removal = std::thread::spawn(move || docker(&["rm", "--force", id.trim()]));
        machine.hear_exit(spec.incarnation).await;
        let condition = machine.condition(spec.incarnation).await;
        assert_ne!(condition, Some(Condition::Running), "round {round}: its end was reported");
        machine.runtime.clear(spec.incarnation, &machine.log()).await.unwrap();
        removal.join().unwrap();
    }
}

#[tokio::test]
async fn a_missing_image_names_the_command_that_builds_it() {
    if !engine() {
        return;
    }
    let image = "twobox-absent:local".to_owned();
    let absent = Containers { image, ..settings() };
    let machine = Machine::with("exit 0", InstallId::generate(&SystemIds), absent);
    let spec = machine.spec(SessionId::generate(&SystemIds));
    for error in [
        machine.runtime.start(&spec).await.unwrap_err(),
        machine.runtime.check().await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("scripts/build-image"), "{error}");
    }
    let own = Containers { image: "somebodys/agent:2".to_owned(), ..settings() };
    let machine = Machine::with("exit 0", InstallId::generate(&SystemIds), own);
    let error = machine.runtime.check().await.unwrap_err().to_string();
    assert!(error.contains("one of your own") && error.contains("docs/images.md"), "{error}");
    let present = Machine::new("exit 0");
    let line = present.runtime.check().await.unwrap();
    assert!(line.contains(IMAGE), "{line}");
}

#[tokio::test]
async fn an_absent_engine_is_unavailable_and_one_that_comes_up_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    let settings =
        Containers { socket: socket.to_str().unwrap().to_owned(), ..Config::default().containers };
    let (sender, mut events) = unbounded_channel();
    let install = InstallId::generate(&SystemIds);
    let runtime = Docker::connect(install, dir.path(), &settings, sender).unwrap();
    assert_eq!(events.recv().await, Some(RuntimeEvent::Interrupted));
    let error = runtime.list().await.unwrap_err();
    assert!(matches!(error, RuntimeError::Unavailable { .. }), "{error}");

    if engine() {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let engine = host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock");
        std::os::unix::fs::symlink(engine, &socket).unwrap();
        assert_eq!(runtime.list().await.unwrap(), []);
        assert_eq!(events.recv().await, Some(RuntimeEvent::Interrupted), "the stream is open now");
    }
}
