//! The process runtime with real processes. The runner is a script named `agent-runner` that does
//! what the agent group's `plan.sh` says.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use twobox_config::Config;
use twobox_runtime::process::Process;
use twobox_runtime::profile::File;
use twobox_runtime::{
    AgentFolders, Condition, Incarnation, Profile, Runtime, RuntimeError, RuntimeEvent, Sighting,
    StartSpec,
};
use twobox_shared::agent_config::SharedFolder;
use twobox_shared::durability::Durability;
use twobox_shared::ids::{InstallId, RunnerId, SessionId, SystemIds};

const RUNNER: &str = r#"#!/bin/bash
if [[ $1 == --version ]]; then echo "agent-runner stand-in"; exit; fi
while (($#)); do
    case $1 in --agent) agent=$2 ;; esac
    shift
done
source "$agent/plan.sh"
"#;

/// What an agent's own configuration says.
fn profile(text: &str) -> Profile {
    Profile::of(File::parse(text).unwrap(), &Config::default().containers).unwrap()
}

/// A machine with one installation. Whatever is still running at the end is ended.
struct Machine {
    dir: TempDir,
    install: InstallId,
    events: UnboundedReceiver<RuntimeEvent>,
    runtime: Process,
    profile: Profile,
    started: Vec<RunnerId>,
}

impl Machine {
    fn new(plan: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join("agent-runner");
        fs::write(&binary, RUNNER).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["data/sessions", "program", "agent"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("agent/plan.sh"), plan).unwrap();
        let install = InstallId::generate(&SystemIds);
        let (sender, events) = unbounded_channel();
        let sessions = dir.path().join("data/sessions");
        let runtime = Process::new(install, sessions, binary, "", sender).unwrap();
        let profile = profile("{}");
        Self { dir, install, events, runtime, profile, started: Vec::new() }
    }

    fn agent(&self, name: &str) -> PathBuf {
        self.dir.path().join("agent").join(name)
    }

    fn sessions(&self) -> PathBuf {
        self.dir.path().join("data/sessions")
    }

    fn folder(&self, session: SessionId) -> PathBuf {
        self.sessions().join("group").join(session.to_string())
    }

    fn spec(&mut self, session: SessionId) -> StartSpec {
        let runner = RunnerId::generate(&SystemIds);
        self.started.push(runner);
        for half in ["in", "out", "work"] {
            fs::create_dir_all(self.folder(session).join(half)).unwrap();
        }
        StartSpec {
            incarnation: Incarnation { session, runner },
            folder: self.folder(session),
            agent: AgentFolders {
                program: self.dir.path().join("program"),
                shared: self.dir.path().join("agent"),
                access: SharedFolder::Rw,
            },
            profile: self.profile.clone(),
            idle: Duration::from_secs(60),
            grace: Duration::from_secs(1),
            heartbeat: twobox_config::HEARTBEAT,
            poll: None,
            durability: Durability::PowerLoss,
        }
    }

    async fn start(&mut self) -> Incarnation {
        let spec = self.spec(SessionId::generate(&SystemIds));
        self.runtime.start(&spec).await.unwrap();
        spec.incarnation
    }

    async fn condition(&self, incarnation: Incarnation) -> Option<Condition> {
        let seen = self.runtime.of_session(incarnation.session).await.unwrap();
        seen.iter().find(|seen| seen.incarnation == incarnation).map(|seen| seen.condition)
    }

    /// The next host on the same machine.
    fn next_host(&self) -> (Process, UnboundedReceiver<RuntimeEvent>) {
        let (sender, events) = unbounded_channel();
        let binary = self.dir.path().join("agent-runner");
        (Process::new(self.install, self.sessions(), binary, "", sender).unwrap(), events)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let environment = String::from_utf8_lossy(&environment).into_owned();
            let marked = |runner: &RunnerId| environment.contains(&runner.to_string());
            if self.started.iter().any(marked)
                && let Some(pid) = entry.file_name().to_str().and_then(|pid| pid.parse().ok())
            {
                rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).ok();
            }
        }
    }
}

async fn next(events: &mut UnboundedReceiver<RuntimeEvent>) -> RuntimeEvent {
    tokio::time::timeout(Duration::from_secs(10), events.recv()).await.expect("an event").unwrap()
}

/// The number that a plan wrote into `path`.
async fn pid_in(path: &Path) -> Pid {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if text.ends_with('\n') {
            return Pid::from_raw(text.trim().parse().unwrap()).unwrap();
        }
        assert!(Instant::now() < deadline, "{} was not written", path.display());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process exists that is no zombie.
fn lives(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'))
}

#[tokio::test]
async fn a_started_runner_is_listed_until_its_exit_is_cleared() {
    let mut machine = Machine::new("echo hello; echo world >&2; sleep 0.2; exit 7");
    let incarnation = machine.start().await;
    let running = Sighting { incarnation, condition: Condition::Running };
    assert_eq!(machine.runtime.list().await.unwrap(), [running]);
    assert_eq!(machine.runtime.of_session(incarnation.session).await.unwrap(), [running]);
    let stranger = SessionId::generate(&SystemIds);
    assert_eq!(machine.runtime.of_session(stranger).await.unwrap(), []);

    assert_eq!(next(&mut machine.events).await, RuntimeEvent::Exited(incarnation));
    assert_eq!(machine.condition(incarnation).await, Some(Condition::Exited { code: Some(7) }));
    let log = machine.folder(incarnation.session).join("runner.log");
    let again = StartSpec {
        incarnation: Incarnation { runner: RunnerId::generate(&SystemIds), ..incarnation },
        ..machine.spec(incarnation.session)
    };
    let occupied = machine.runtime.start(&again).await.unwrap_err();
    assert!(matches!(occupied, RuntimeError::Occupied { .. }), "not cleared yet: {occupied}");

    machine.runtime.clear(incarnation, &log).await.unwrap();
    machine.runtime.clear(incarnation, &log).await.unwrap();
    assert_eq!(machine.runtime.list().await.unwrap(), []);
    assert_eq!(fs::read_to_string(&log).unwrap(), "hello\nworld\n");
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn an_agent_has_the_memory_and_environment_of_its_own_profile() {
    let mut machine = Machine::new(r#"{ ulimit -d; echo "$COLOUR"; } >"$agent/seen""#);
    machine.profile =
        profile(r#"{"limits": {"memory_mb": 100}, "environment": {"COLOUR": "dark green"}}"#);
    let incarnation = machine.start().await;
    assert_eq!(next(&mut machine.events).await, RuntimeEvent::Exited(incarnation));
    assert_eq!(fs::read_to_string(machine.agent("seen")).unwrap(), "102400\ndark green\n");
}

#[tokio::test]
async fn what_a_process_cannot_be_for_an_agent_is_refused() {
    let mut machine = Machine::new("exit 0");
    for (text, field) in [
        (r#"{"image": "x"}"#, "image: "),
        (r#"{"network": "none"}"#, "network: "),
        (r#"{"limits": {"cpus": 1}}"#, "limits.cpus: "),
        (r#"{"limits": {"pids": 99}}"#, "limits.pids: "),
        (r#"{"mounts": [{"source": "/srv", "target": "/mnt/srv"}]}"#, "mounts: "),
    ] {
        machine.profile = profile(text);
        let spec = machine.spec(SessionId::generate(&SystemIds));
        let error = machine.runtime.start(&spec).await.unwrap_err().to_string();
        assert!(error.contains(field) && error.contains("leave it out"), "{error}");
        assert_eq!(machine.runtime.list().await.unwrap(), [], "{text}");
    }
}

#[tokio::test]
async fn a_runner_gets_its_own_session_limits_and_a_short_environment() {
    let mut machine = Machine::new(
        r#"{ env; umask; ulimit -c -n -f; cat /proc/$$/stat; ls -l /proc/$$/fd; } >"$agent/seen"
           tr '\0' ' ' </proc/$$/cmdline >"$agent/arguments""#,
    );
    let incarnation = machine.start().await;
    assert_eq!(next(&mut machine.events).await, RuntimeEvent::Exited(incarnation));
    let seen = fs::read_to_string(machine.agent("seen")).unwrap();
    assert!(seen.contains(&format!("TWOBOX_RUNNER={}\n", incarnation.runner)), "{seen}");
    assert!(!seen.contains("\nCARGO"), "{seen}");
    assert!(seen.contains("\n0077\n"), "{seen}");
    assert!(seen.contains("-c) 0\n") && seen.contains("(-n) 1024\n"), "{seen}");
    assert!(seen.contains("-f) 1048576\n"), "{seen}");
    let stat = seen.lines().find(|line| line.contains("(agent-runner)")).expect("stat");
    let fields: Vec<&str> = stat.split(' ').collect();
    assert_eq!((fields[4], fields[5]), (fields[0], fields[0]), "leads its group and session");
    for foreign in ["anon_inode", "socket:", "pipe:"] {
        assert!(!seen.contains(foreign), "a descriptor of the host was inherited: {seen}");
    }
    let arguments = fs::read_to_string(machine.agent("arguments")).unwrap();
    for part in ["--idle-ms 60000", "--grace-ms 750", "--confine", "/in --out "] {
        assert!(arguments.contains(part), "{part} is missing in {arguments}");
    }
}

#[tokio::test]
async fn where_the_host_is_root_a_runner_is_nobody_and_sees_only_its_own_folders() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: this host is not root");
    }
    let mut machine = Machine::new(
        r#"{ cat /proc/self/status; echo "home $HOME"; umask
             for it in "$data" "$data/sessions" "$data/sessions/group"; do echo "$it" $(ls "$it"); done
             cat "$data/host.db" ../host.db "$data/../agent-runner" && echo read
             touch "$out/x" "$agent/x" && echo wrote
             touch "$in/x" || touch "$data/x" || echo refused
             ls -d /proc/[0-9]* | wc -l; ls /dev/shm | wc -l
           } >"$agent/seen" 2>&1"#,
    );
    let session = SessionId::generate(&SystemIds);
    let data = machine.dir.path().join("data");
    for (path, mode) in [("host.db", 0o644), ("sessions/neighbour/secret", 0o644)] {
        let path = data.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "secret").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let spec = machine.spec(session);
    let folder = machine.folder(session);
    let plan = machine.agent("plan.sh");
    let variables = format!(
        "data={}; in={}; out={}
",
        data.display(),
        folder.join("in").display(),
        folder.join("out").display()
    );
    fs::write(&plan, variables + &fs::read_to_string(&plan).unwrap()).unwrap();
    // As a runner that was root has left it.
    fs::write(folder.join("out/outbound.db"), "").unwrap();
    machine.runtime.start(&spec).await.unwrap();
    assert_eq!(next(&mut machine.events).await, RuntimeEvent::Exited(spec.incarnation));

    let seen = fs::read_to_string(machine.agent("seen")).unwrap();
    let line = |name: &str| {
        let found = seen.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_else(|| panic!("{name} in {seen}")).trim()
    };
    for name in ["Uid:", "Gid:"] {
        assert_eq!(line(name), ["65532"; 4].join("\t"));
    }
    assert_eq!((line("Groups:"), line("NoNewPrivs:")), ("", "1"));
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(line(set), "0000000000000000", "{set}");
    }
    let list = |folder: PathBuf| line(&format!("{} ", folder.display())).to_owned();
    assert_eq!(list(data.clone()), "sessions");
    assert_eq!(list(data.join("sessions")), "group");
    assert_eq!(list(data.join("sessions/group")), session.to_string());
    assert!(!seen.contains("secret"), "{seen}");
    assert!(seen.contains("\nwrote\n") && seen.contains("\nrefused\n"), "{seen}");
    assert!(seen.contains("\n0077\n"), "{seen}");
    let owner =
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(folder.join("out/outbound.db")).unwrap());
    assert_eq!(owner, 65532, "it can go on with what was root's");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" twobox "));
}

#[tokio::test]
async fn an_agents_processes_are_told_from_others_by_whom_they_descend_from() {
    let mut machine = Machine::new(
        r#"(env -i setsid bash -c 'echo $$ >"$0"; sleep 600; :' "$agent/helper") & wait"#,
    );
    machine.start().await;
    let helper = pid_in(&machine.agent("helper")).await;
    let is_agent = |pid: Pid| machine.runtime.is_agent(pid.as_raw_nonzero().get());
    assert!(is_agent(helper).unwrap(), "it has left all but its parents behind");
    assert!(!is_agent(rustix::process::getpid()).unwrap(), "the host");
    let mut other = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    assert!(!is_agent(Pid::from_child(&other)).unwrap(), "a child of the host");
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(is_agent(Pid::from_child(&other)).is_err(), "nobody knows any more");
    assert!(!is_agent(Pid::from_raw(1).unwrap()).unwrap());
}

#[tokio::test]
async fn of_two_starts_at_once_one_finds_the_session_occupied() {
    let mut machine = Machine::new("sleep 60");
    let session = SessionId::generate(&SystemIds);
    let (one, two) = (machine.spec(session), machine.spec(session));
    let (first, second) = tokio::join!(machine.runtime.start(&one), machine.runtime.start(&two));
    let occupied = [first, second].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(matches!(occupied[..], [RuntimeError::Occupied { .. }]), "{occupied:?}");
    assert_eq!(machine.runtime.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_runner_that_leaves_when_told_to_keeps_its_exit_code() {
    let mut machine =
        Machine::new(r#"trap 'exit 3' TERM; echo $$ >"$agent/pid"; while :; do sleep 0.02; done"#);
    let incarnation = machine.start().await;
    let runner = pid_in(&machine.agent("pid")).await;
    machine.runtime.stop(incarnation, Duration::from_secs(10)).await.unwrap();
    assert!(!lives(runner));
    assert_eq!(machine.condition(incarnation).await, Some(Condition::Exited { code: Some(3) }));
    assert_eq!(next(&mut machine.events).await, RuntimeEvent::Exited(incarnation));
    machine.runtime.stop(incarnation, Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn a_stop_ends_the_group_and_whoever_escaped_from_it() {
    let mut machine = Machine::new(
        r#"trap '' TERM
           sleep 600 & echo $! >"$agent/child"
           setsid bash -c 'trap "" TERM; echo $$ >"$1/escaped"; sleep 600; :' - "$agent" &
           while :; do sleep 0.02; done"#,
    );
    let incarnation = machine.start().await;
    let child = pid_in(&machine.agent("child")).await;
    let escaped = pid_in(&machine.agent("escaped")).await;
    machine.runtime.stop(incarnation, Duration::from_millis(100)).await.unwrap();
    assert!(!lives(child) && !lives(escaped));
    assert_eq!(machine.condition(incarnation).await, Some(Condition::Exited { code: Some(137) }));
}

#[tokio::test]
async fn an_exit_is_reported_only_when_the_rest_of_the_group_is_gone() {
    let mut machine = Machine::new(
        r#"setsid sleep 600 & echo $! >"$agent/escaped"
           env -i sleep 600 & echo $! >"$agent/unmarked"; exit 5"#,
    );
    let incarnation = machine.start().await;
    assert_eq!(next(&mut machine.events).await, RuntimeEvent::Exited(incarnation));
    assert!(!lives(pid_in(&machine.agent("unmarked")).await), "a member of the group");
    assert!(!lives(pid_in(&machine.agent("escaped")).await), "it left the group");
    assert_eq!(machine.condition(incarnation).await, Some(Condition::Exited { code: Some(5) }));
}

#[tokio::test]
async fn the_next_host_adopts_a_runner_and_hears_of_its_end() {
    let mut machine = Machine::new(r#"echo $$ >"$agent/pid"; while :; do sleep 0.02; done"#);
    let incarnation = machine.start().await;
    let runner = pid_in(&machine.agent("pid")).await;
    let (next_host, mut events) = machine.next_host();
    let running = Sighting { incarnation, condition: Condition::Running };
    assert_eq!(next_host.list().await.unwrap(), [running]);
    let second = machine.spec(incarnation.session);
    let occupied = next_host.start(&second).await.unwrap_err();
    assert!(matches!(occupied, RuntimeError::Occupied { .. }), "{occupied}");

    rustix::process::kill_process(runner, Signal::KILL).unwrap();
    assert_eq!(next(&mut events).await, RuntimeEvent::Exited(incarnation));
    let ended = Sighting { incarnation, condition: Condition::Exited { code: None } };
    assert_eq!(next_host.of_session(incarnation.session).await.unwrap(), [ended]);
}

#[tokio::test]
async fn the_next_host_stops_an_adopted_runner_that_does_not_listen() {
    let mut machine =
        Machine::new(r#"trap '' TERM; echo $$ >"$agent/pid"; while :; do sleep 0.02; done"#);
    let incarnation = machine.start().await;
    let runner = pid_in(&machine.agent("pid")).await;
    let (next_host, _events) = machine.next_host();
    next_host.stop(incarnation, Duration::from_millis(50)).await.unwrap();
    assert!(!lives(runner));
}

#[tokio::test]
async fn whoever_is_left_without_a_runner_is_ended_by_the_next_host() {
    let mut machine = Machine::new("sleep 60");
    let incarnation = Incarnation {
        session: SessionId::generate(&SystemIds),
        runner: RunnerId::generate(&SystemIds),
    };
    machine.started.push(incarnation.runner);
    let mut left = std::process::Command::new("sleep")
        .arg("600")
        .env("TWOBOX_INSTALL", machine.install.to_string())
        .env("TWOBOX_SESSION", incarnation.session.to_string())
        .env("TWOBOX_RUNNER", incarnation.runner.to_string())
        .env("TWOBOX_FOLDER", machine.folder(incarnation.session))
        .spawn()
        .unwrap();
    machine.runtime.list().await.unwrap();
    assert_eq!(next(&mut machine.events).await, RuntimeEvent::Exited(incarnation));
    assert!(!left.wait().unwrap().success());
}

/// A process that says it is the runner of `incarnation`, whose folder is `folder`, or with
/// `by_environment` a descendant of it. It belongs to `uid`.
fn forger(
    machine: &Machine,
    incarnation: Incarnation,
    folder: &Path,
    uid: u32,
    by_environment: bool,
) -> Forger {
    let [install, session, runner] = [
        machine.install.to_string(),
        incarnation.session.to_string(),
        incarnation.runner.to_string(),
    ];
    let mut command = std::process::Command::new("/bin/sh");
    command.arg0("agent-runner").args(["-c", "sleep 600; :", "x"]).current_dir("/").env_clear();
    if by_environment {
        command
            .env("TWOBOX_INSTALL", install)
            .env("TWOBOX_SESSION", session)
            .env("TWOBOX_RUNNER", runner)
            .env("TWOBOX_FOLDER", folder);
    } else {
        command
            .args(["--install", &install, "--session", &session, "--runner", &runner])
            .arg("--in")
            .arg(folder.join("in"))
            .arg("--out")
            .arg(folder.join("out"));
    }
    if uid != rustix::process::geteuid().as_raw() {
        command.uid(uid).gid(uid);
    }
    Forger(command.process_group(0).spawn().unwrap())
}

struct Forger(std::process::Child);

impl Forger {
    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Forger {
    fn drop(&mut self) {
        rustix::process::kill_process_group(Pid::from_child(&self.0), Signal::KILL).ok();
        self.0.wait().ok();
    }
}

/// The session of `forged` is free for a start and a stop, and nobody is harmed by it.
async fn assert_left_alone(machine: &mut Machine, session: SessionId, forgers: &mut [Forger]) {
    for _ in 0..3 {
        assert_eq!(machine.runtime.of_session(session).await.unwrap(), []);
    }
    let spec = machine.spec(session);
    machine.runtime.start(&spec).await.expect("nobody blocks the session");
    machine.runtime.stop(spec.incarnation, Duration::from_millis(50)).await.unwrap();
    assert_eq!(next(&mut machine.events).await, RuntimeEvent::Exited(spec.incarnation));
    assert!(forgers.iter_mut().all(Forger::lives), "they are none of ours");
}

#[tokio::test]
async fn a_strangers_process_blocks_no_session_and_is_not_touched_whatever_it_says() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: only root can start a process of another user");
    }
    let mut machine = Machine::new("sleep 60");
    let incarnation = Incarnation {
        session: SessionId::generate(&SystemIds),
        runner: RunnerId::generate(&SystemIds),
    };
    let folder = machine.folder(incarnation.session);
    let mut forgers = [false, true]
        .map(|by_environment| forger(&machine, incarnation, &folder, 65534, by_environment));
    assert_left_alone(&mut machine, incarnation.session, &mut forgers).await;
}

#[tokio::test]
async fn what_works_for_a_copy_of_the_data_directory_is_left_alone() {
    let mut machine = Machine::new("sleep 60");
    let incarnation = Incarnation {
        session: SessionId::generate(&SystemIds),
        runner: RunnerId::generate(&SystemIds),
    };
    let session = incarnation.session.to_string();
    let copy = machine.dir.path().join("copy/sessions/group").join(session);
    let own = rustix::process::geteuid().as_raw();
    let mut forgers = [false, true]
        .map(|by_environment| forger(&machine, incarnation, &copy, own, by_environment));
    assert_left_alone(&mut machine, incarnation.session, &mut forgers).await;
}

#[tokio::test]
async fn an_agent_that_says_it_is_another_session_stays_what_it_is() {
    let mut machine = Machine::new(
        r#"source "$agent/victim"
           (exec -a agent-runner bash -c 'echo $$ >"$0"; sleep 600; :' "$agent/forger" \
               --install "$install" --session "$session" --runner "$runner" \
               --in "$folder/in" --out "$folder/out") &
           sleep 600"#,
    );
    let victim = Incarnation {
        session: SessionId::generate(&SystemIds),
        runner: RunnerId::generate(&SystemIds),
    };
    let folder = machine.folder(victim.session);
    let text = format!(
        "install={} session={} runner={} folder={}",
        machine.install,
        victim.session,
        victim.runner,
        folder.display()
    );
    fs::write(machine.agent("victim"), text).unwrap();
    let incarnation = machine.start().await;
    let forger = pid_in(&machine.agent("forger")).await;
    let running = Sighting { incarnation, condition: Condition::Running };
    assert_eq!(machine.runtime.list().await.unwrap(), [running], "for this host");
    let (next_host, _events) = machine.next_host();
    assert_eq!(next_host.list().await.unwrap(), [running], "and for the next");
    machine.runtime.stop(incarnation, Duration::from_millis(50)).await.unwrap();
    assert!(!lives(forger));
}

#[tokio::test]
async fn a_zombie_does_not_run() {
    let machine = Machine::new("exit 0");
    let [session, runner] = [(); 2].map(|()| SessionId::generate(&SystemIds).to_string());
    let install = machine.install.to_string();
    let mut zombie = std::process::Command::new(machine.dir.path().join("agent-runner"))
        .args(["--install", &install, "--session", &session, "--runner", &runner])
        .args(["--agent", machine.dir.path().join("agent").to_str().unwrap()])
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&zombie);
    let deadline = Instant::now() + Duration::from_secs(10);
    while lives(pid) {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(machine.runtime.list().await.unwrap(), []);
    zombie.wait().unwrap();
}

#[tokio::test]
async fn a_missing_runner_is_a_start_error_that_says_what_to_do() {
    let mut machine = Machine::new("exit 0");
    assert!(machine.runtime.check().await.unwrap().contains("not an isolation boundary"));
    fs::remove_file(machine.dir.path().join("agent-runner")).unwrap();
    let spec = machine.spec(SessionId::generate(&SystemIds));
    let error = machine.runtime.start(&spec).await.unwrap_err().to_string();
    assert!(error.contains("containers.runner"), "{error}");
    let error = machine.runtime.check().await.unwrap_err().to_string();
    assert!(error.contains("cargo build"), "{error}");
    assert_eq!(machine.runtime.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_look_at_every_process_is_quick() {
    let machine = Machine::new("exit 0");
    machine.runtime.list().await.unwrap();
    let began = Instant::now();
    machine.runtime.list().await.unwrap();
    let took = began.elapsed();
    eprintln!("one look took {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}
