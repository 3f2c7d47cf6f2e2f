//! The sandbox runtime with a real bwrap. Without one the tests say so and pass, unless
//! `TWOBOX_REQUIRE_SANDBOX` is set. The runner is a script named `agent-runner` that does what
//! `plan.sh` in the agent's folder says.
//!
//! As root, the last test plays all others once more as an ordinary user.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use twobox_config::{Config, Containers};
use twobox_runtime::profile::File;
use twobox_runtime::sandbox::Sandbox;
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

/// Whether sandboxes can be made here; says it once if not.
fn bwrap() -> bool {
    static READY: OnceLock<bool> = OnceLock::new();
    *READY.get_or_init(|| {
        let everything = ["--unshare-user", "--ro-bind", "/", "/", "true"];
        let output = Command::new("bwrap").args(everything).output();
        let works = output.is_ok_and(|output| output.status.success());
        let required = std::env::var("TWOBOX_REQUIRE_SANDBOX").is_ok_and(|value| value != "0");
        assert!(works || !required, "no usable bwrap, and TWOBOX_REQUIRE_SANDBOX is set");
        if !works {
            eprintln!("SKIPPED: no usable bwrap");
        }
        works
    })
}

/// A machine with one installation. Whatever is still running at the end is ended.
struct Machine {
    dir: TempDir,
    install: InstallId,
    settings: Containers,
    profile: Profile,
    events: UnboundedReceiver<RuntimeEvent>,
    runtime: Sandbox,
}

impl Machine {
    fn new(plan: &str) -> Self {
        Self::with(plan, InstallId::generate(&SystemIds), Config::default().containers)
    }

    fn with(plan: &str, install: InstallId, settings: Containers) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join("agent-runner");
        fs::write(&binary, RUNNER).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["sessions/group", "program", "agent"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("agent/plan.sh"), plan).unwrap();
        let (sender, events) = unbounded_channel();
        let sessions = dir.path().join("sessions");
        let runtime = Sandbox::new(install, sessions, &settings, binary, sender);
        let profile = Profile::usual(&settings);
        Self { dir, install, settings, profile, events, runtime }
    }

    fn agent(&self, name: &str) -> PathBuf {
        self.dir.path().join("agent").join(name)
    }

    fn folder(&self, session: SessionId) -> PathBuf {
        self.dir.path().join("sessions/group").join(session.to_string())
    }

    fn spec(&self, session: SessionId) -> StartSpec {
        let folder = self.folder(session);
        for half in ["in", "out", "work"] {
            fs::create_dir_all(folder.join(half)).unwrap();
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(folder.join(half), private).unwrap();
        }
        fs::write(folder.join("in/inbound.db"), "mail").unwrap();
        StartSpec {
            incarnation: Incarnation { session, runner: RunnerId::generate(&SystemIds) },
            folder,
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

    async fn start(&self) -> Incarnation {
        let spec = self.spec(SessionId::generate(&SystemIds));
        self.runtime.start(&spec).await.unwrap();
        spec.incarnation
    }

    async fn condition(&self, incarnation: Incarnation) -> Option<Condition> {
        let seen = self.runtime.of_session(incarnation.session).await.unwrap();
        seen.iter().find(|seen| seen.incarnation == incarnation).map(|seen| seen.condition)
    }

    /// Plays the plan to its end and returns what was printed.
    async fn played(&mut self) -> String {
        let incarnation = self.start().await;
        assert_eq!(next(&mut self.events).await, RuntimeEvent::Exited(incarnation));
        fs::read_to_string(self.folder(incarnation.session).join("runner.log")).unwrap()
    }

    /// The next host on the same machine.
    fn next_host(&self) -> (Sandbox, UnboundedReceiver<RuntimeEvent>) {
        let (sender, events) = unbounded_channel();
        let (sessions, binary) =
            (self.dir.path().join("sessions"), self.dir.path().join("agent-runner"));
        (Sandbox::new(self.install, sessions, &self.settings, binary, sender), events)
    }

    /// Every process of this installation that has a number inside of a sandbox, with that.
    fn inside(&self) -> Vec<(Pid, u32)> {
        let mark = self.install.to_string();
        processes(&mark).into_iter().filter_map(|pid| Some((pid, number_inside(pid)?))).collect()
    }

    /// The process that bwrap runs outside, and the one that is number 1 inside.
    fn bwraps(&self) -> (Option<Pid>, Option<Pid>) {
        let all = processes(&self.install.to_string());
        let named = |pid: &&Pid| cmdline(**pid).starts_with("twobox-sandbox:");
        let outer = all.iter().filter(named).find(|pid| number_inside(**pid).is_none());
        let inner = all.iter().find(|pid| number_inside(**pid) == Some(1));
        (outer.copied(), inner.copied())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for pid in processes(&self.install.to_string()) {
            // It may be on its way out already.
            rustix::process::kill_process(pid, Signal::KILL).ok();
        }
    }
}

fn cmdline(pid: Pid) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The live processes that bear `mark` in their arguments or their environment.
fn processes(mark: &str) -> Vec<Pid> {
    let numbers = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let marked = |pid: &Pid| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        cmdline(*pid).contains(mark) || String::from_utf8_lossy(&environ).contains(mark)
    };
    numbers.filter(|pid| *pid != rustix::process::getpid()).filter(marked).collect()
}

fn number_inside(pid: Pid) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

async fn next(events: &mut UnboundedReceiver<RuntimeEvent>) -> RuntimeEvent {
    tokio::time::timeout(Duration::from_secs(20), events.recv()).await.expect("an event").unwrap()
}

/// Waits until a plan has written `path`.
async fn written(path: &Path) {
    until(&format!("{} to be written", path.display()), || path.exists()).await;
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_started_runner_is_listed_until_its_exit_is_cleared() {
    if !bwrap() {
        return;
    }
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
    let again = machine.spec(incarnation.session);
    let occupied = machine.runtime.start(&again).await.unwrap_err();
    assert!(matches!(occupied, RuntimeError::Occupied { .. }), "not cleared yet: {occupied}");

    machine.runtime.clear(incarnation, &log).await.unwrap();
    machine.runtime.clear(incarnation, &log).await.unwrap();
    assert_eq!(machine.runtime.list().await.unwrap(), []);
    assert_eq!(fs::read_to_string(&log).unwrap(), "hello\nworld\n");
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    machine.runtime.start(&again).await.unwrap();
}

#[tokio::test]
async fn from_inside_only_what_was_given_can_be_reached() {
    if !bwrap() {
        return;
    }
    let mut machine = Machine::new(
        r#"try() { if (: >>"$1") 2>/dev/null; then echo "$1 writable"; else echo "$1 closed"; fi; }
           for path in /workspace/in/x /workspace/in/inbound.db /x /usr/x /etc/x /etc/passwd /dev/x \
                       /workspace/x /workspace/program/x /agent-runner /proc/sys/kernel/hostname /workspace/out/x \
                       /workspace/agent/x /workspace/session/x /tmp/x /dev/shm/x /dev/null; do try "$path"; done
           cat /workspace/in/inbound.db; echo
           grep -E '^(CapEff|CapBnd|CapPrm|NoNewPrivs|Seccomp|Uid|Groups|NSpid):' /proc/self/status |
               tr '\t' ' '
           grep -E '^(Seccomp):' /proc/1/status | tr '\t' ' '
           echo net $(cut -d: -f1 -s /proc/net/dev)
           echo fds $(ls /proc/self/fd)
           echo open $(ls /proc/1/root 2>/dev/null)
           env | sort
           tr '\0' '\n' </proc/1/environ | sed 's/^/environ of 1: /'
           ulimit -c; ulimit -n; ulimit -f; umask
           echo root: $(ls /)
           echo hostname $(cat /proc/sys/kernel/hostname)
           df -B1 --output=target,size /tmp /dev/shm | tail -n +2 | tr -s ' '
           ls /proc/keys >/dev/null && cat /proc/keys 2>&1 | sed 's/^/keys: /'
           ps() { for p in /proc/[0-9]*; do echo "process ${p#/proc/}"; done; }; ps
           whoami"#,
    );
    let own = rustix::process::geteuid().as_raw();
    let uid = if own == 0 { 65532 } else { own };
    let seen = machine.played().await;
    let has = |line: &str| assert!(seen.lines().any(|it| it == line), "{line} in\n{seen}");
    for closed in [
        "/workspace/in/x",
        "/workspace/in/inbound.db",
        "/x",
        "/usr/x",
        "/etc/x",
        "/etc/passwd",
        "/dev/x",
        "/workspace/x",
        "/workspace/program/x",
        "/agent-runner",
        "/proc/sys/kernel/hostname",
    ] {
        has(&format!("{closed} closed"));
    }
    for open in [
        "/workspace/out/x",
        "/workspace/agent/x",
        "/workspace/session/x",
        "/tmp/x",
        "/dev/shm/x",
        "/dev/null",
    ] {
        has(&format!("{open} writable"));
    }
    for line in [
        "mail",
        "CapEff: 0000000000000000",
        "CapPrm: 0000000000000000",
        "CapBnd: 0000000000000000",
        "NoNewPrivs: 1",
        "Seccomp: 2",
        &format!("Uid: {uid} {uid} {uid} {uid}"),
        "net lo",
        "fds 0 1 2 3", // the last is the folder that is listed
        "hostname twobox",
        "/tmp 67108864",
        "/dev/shm 67108864",
        "HOME=/tmp",
        "0",
        "1024",
        "0077",
        "process 1",
        "keys: cat: /proc/keys: Permission denied",
        "agent",
    ] {
        has(line);
    }
    assert_eq!(seen.lines().filter(|line| *line == "Seccomp: 2").count(), 2, "{seen}");
    assert!(
        seen.lines().any(|line| line.trim_end() == "Groups:" || line.starts_with("Groups: 65534")),
        "{seen}"
    );
    for absent in ["CARGO", "environ of 1", "/root"] {
        assert!(!seen.contains(absent), "{absent}: {seen}");
    }
    let root = seen.lines().find(|line| line.starts_with("root: ")).unwrap();
    for name in root.split(' ').skip(1) {
        let known = [
            "agent-runner",
            "bin",
            "dev",
            "etc",
            "lib",
            "lib32",
            "lib64",
            "libx32",
            "opt",
            "proc",
            "run",
            "var",
            "sbin",
            "tmp",
            "usr",
            "workspace",
        ];
        assert!(known.contains(&name), "{name} in {root}");
    }
    let folder = machine.agent("x");
    let meta = fs::metadata(folder).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&meta), uid, "outside it is the same user");
}

#[tokio::test]
async fn system_calls_that_reach_for_the_machine_are_refused() {
    if !bwrap() || !Path::new("/usr/bin/python3").exists() {
        return;
    }
    let mut machine = Machine::new(
        r#"python3 - <<'PYTHON'
import ctypes, errno, os, platform
libc = ctypes.CDLL(None, use_errno=True)
arm = platform.machine() == "aarch64"
calls = {  # name: (x86_64, aarch64)
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "keyctl": (250, 219), "add_key": (248, 217),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "open_tree": (428, 428), "fsopen": (430, 430),
    "open_by_handle_at": (304, 265), "kcmp": (312, 272), "clone3": (435, 435),
    "reboot": (169, 142), "init_module": (175, 105), "mount_setattr": (442, 442),
}
for name, numbers in calls.items():
    result = libc.syscall(numbers[arm], 0x10000000, 0, 0, 0, 0)
    print(name, errno.errorcode.get(ctypes.get_errno(), "0") if result < 0 else "done", flush=True)
result = libc.syscall((56, 220)[arm], 0x10000000 | 17, 0, 0, 0, 0)
if result == 0: os._exit(0)
print("clone", errno.errorcode[ctypes.get_errno()] if result < 0 else "done")
import socket
try: socket.socket(40, socket.SOCK_STREAM); print("vsock done")
except OSError as error: print("vsock", errno.errorcode[error.errno])
print("ptrace of 1", libc.syscall((101, 117)[arm], 16, 4194304, 0, 0))
PYTHON"#,
    );
    let seen = machine.played().await;
    for name in [
        "unshare",
        "setns",
        "mount",
        "umount2",
        "pivot_root",
        "chroot",
        "keyctl",
        "add_key",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "io_uring_setup",
        "open_tree",
        "fsopen",
        "open_by_handle_at",
        "kcmp",
        "reboot",
        "init_module",
        "mount_setattr",
        "clone",
        "vsock",
    ] {
        assert!(seen.contains(&format!("{name} EPERM\n")), "{name}: {seen}");
    }
    assert!(seen.contains("clone3 ENOSYS\n"), "{seen}");
    assert!(seen.contains("ptrace of 1 -1\n"), "no such process: {seen}");
}

#[tokio::test]
async fn git_and_the_multiprocessing_of_python_work() {
    if !bwrap() || !Path::new("/usr/bin/python3").exists() {
        return;
    }
    let mut machine = Machine::new(
        r#"cd "$agent"
           if command -v git >/dev/null; then
               git init -q repository && cd repository && echo a >a && git add a &&
               git -c user.name=a -c user.email=a@b commit -qm first && git log --oneline | wc -l
           else echo 1; fi
           python3 - <<'PYTHON'
from multiprocessing import Pool, Process, Queue, shared_memory
def square(n): return n * n
def put(queue): queue.put("through a queue")
with Pool(3) as pool: print(pool.map(square, range(4)))
queue = Queue(); child = Process(target=put, args=(queue,)); child.start()
print(queue.get()); child.join()
memory = shared_memory.SharedMemory(create=True, size=16); memory.buf[0] = 7
print("shared", memory.buf[0]); memory.close(); memory.unlink()
PYTHON"#,
    );
    let seen = machine.played().await;
    assert_eq!(seen, "1\n[0, 1, 4, 9]\nthrough a queue\nshared 7\n");
}

#[tokio::test]
async fn each_process_has_a_limit_on_memory_where_no_cgroup_has_one() {
    if !bwrap() || !Path::new("/usr/bin/python3").exists() {
        return;
    }
    let settings = Containers { memory_mb: 100, ..Config::default().containers };
    let plan = r#"python3 -c 'x = bytearray(50 << 20); print("a part")'
                  python3 -c 'x = bytearray(300 << 20); print("too much")' 2>&1 | tail -n 1
                  exit 0"#;
    let mut machine = Machine::with(plan, InstallId::generate(&SystemIds), settings);
    assert_eq!(machine.played().await, "a part\nMemoryError\n");
}

/// What an agent's own configuration says, and the settings where it says nothing.
fn profile(text: &str, settings: &Containers) -> Profile {
    Profile::of(File::parse(text).unwrap(), settings).unwrap()
}

#[tokio::test]
async fn an_agent_has_the_memory_environment_and_folders_of_its_own_profile() {
    if !bwrap() || !Path::new("/usr/bin/python3").exists() {
        return;
    }
    let plan = r#"python3 -c 'x = bytearray(50 << 20); print("a part")'
                  python3 -c 'x = bytearray(300 << 20); print("too much")' 2>&1 | tail -n 1
                  echo "$COLOUR"; cat /mnt/docs/page; (echo >/mnt/docs/x) 2>/dev/null || echo closed
                  echo new >/mnt/desk/page; : >"$agent/ready"; until [ -e "$agent/go" ]; do sleep 0.02; done
                  exit 0"#;
    let mut machine = Machine::new(plan);
    let given = tempfile::tempdir().unwrap();
    let place = given.path().canonicalize().unwrap();
    for name in ["docs", "desk"] {
        fs::create_dir(place.join(name)).unwrap();
        fs::set_permissions(place.join(name), fs::Permissions::from_mode(0o777)).unwrap();
    }
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(place.join("docs/page"), "a page\n").unwrap();
    let secret = format!("s3cret-{}", machine.install);
    let (docs, desk) = (place.join("docs"), place.join("desk"));
    let text = format!(
        r#"{{"limits": {{"memory_mb": 100}}, "environment": {{"COLOUR": "{secret}"}}, "mounts": [
            {{"source": {docs:?}, "target": "/mnt/docs"}},
            {{"source": {desk:?}, "target": "/mnt/desk", "read_only": false}}]}}"#
    );
    machine.profile =
        profile(&text, &machine.settings).with_folders(&machine.dir.path().join("data")).unwrap();
    let incarnation = machine.start().await;
    written(&machine.agent("ready")).await;
    let mut lines = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        Some(cmdline(Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?))
    });
    assert!(lines.all(|line| !line.contains(&secret)), "everybody can read a command line");
    fs::write(machine.agent("go"), "").unwrap();
    assert_eq!(next(&mut machine.events).await, RuntimeEvent::Exited(incarnation));
    let log = machine.folder(incarnation.session).join("runner.log");
    let printed = fs::read_to_string(log).unwrap();
    let bounded =
        ["MemoryError", "Killed"].map(|last| format!("a part\n{last}\n{secret}\na page\nclosed\n"));
    assert!(bounded.contains(&printed), "{printed}");
    assert_eq!(fs::read_to_string(place.join("desk/page")).unwrap(), "new\n");
}

#[tokio::test]
async fn what_a_sandbox_cannot_do_for_an_agent_is_refused() {
    if !bwrap() {
        return;
    }
    let mut machine = Machine::new("exit 0");
    for (text, part) in [
        (r#"{"image": "x"}"#, "image is \"x\", and a sandbox has none"),
        (r#"{"network": "agents"}"#, "network is \"agents\", and a sandbox has no network"),
    ] {
        machine.profile = profile(text, &machine.settings);
        let spec = machine.spec(SessionId::generate(&SystemIds));
        let error = machine.runtime.start(&spec).await.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(machine.runtime.accepts(&machine.profile).is_err(), "{text}");
        assert_eq!(machine.condition(spec.incarnation).await, None, "{text}");
    }
}

#[tokio::test]
async fn of_two_starts_at_once_one_finds_the_session_occupied() {
    if !bwrap() {
        return;
    }
    let machine = Machine::new("sleep 60");
    let session = SessionId::generate(&SystemIds);
    let (one, two) = (machine.spec(session), machine.spec(session));
    let (first, second) = tokio::join!(machine.runtime.start(&one), machine.runtime.start(&two));
    let occupied = [first, second].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(matches!(occupied[..], [RuntimeError::Occupied { .. }]), "{occupied:?}");
    assert_eq!(machine.runtime.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_runner_that_leaves_when_told_to_keeps_its_exit_code() {
    if !bwrap() {
        return;
    }
    let mut machine =
        Machine::new(r#"trap 'exit 3' TERM; : >"$agent/ready"; while :; do sleep 0.02; done"#);
    let incarnation = machine.start().await;
    written(&machine.agent("ready")).await;
    machine.runtime.stop(incarnation, Duration::from_secs(10)).await.unwrap();
    assert_eq!(machine.inside(), []);
    assert_eq!(machine.condition(incarnation).await, Some(Condition::Exited { code: Some(3) }));
    assert_eq!(next(&mut machine.events).await, RuntimeEvent::Exited(incarnation));
    machine.runtime.stop(incarnation, Duration::from_secs(10)).await.unwrap();
    let stale = Incarnation { runner: RunnerId::generate(&SystemIds), ..incarnation };
    machine.runtime.stop(stale, Duration::ZERO).await.unwrap();
}

const STUBBORN: &str = r#"trap '' TERM
    setsid bash -c 'trap "" TERM; while :; do sleep 0.02; done' &
    env -i setsid sleep 600 &
    : >"$agent/ready"; while :; do sleep 0.02; done"#;

#[tokio::test]
async fn a_stop_ends_everybody_inside() {
    if !bwrap() {
        return;
    }
    let machine = Machine::new(STUBBORN);
    let incarnation = machine.start().await;
    written(&machine.agent("ready")).await;
    machine.runtime.stop(incarnation, Duration::from_millis(50)).await.unwrap();
    assert_eq!(machine.inside(), []);
    assert_eq!(machine.condition(incarnation).await, Some(Condition::Exited { code: Some(137) }));
}

#[tokio::test]
async fn an_exit_is_reported_only_when_nobody_is_left_inside() {
    if !bwrap() {
        return;
    }
    let mut machine = Machine::new("setsid sleep 600 & env -i setsid sleep 600 & exit 5");
    let incarnation = machine.start().await;
    assert_eq!(next(&mut machine.events).await, RuntimeEvent::Exited(incarnation));
    assert_eq!(machine.inside(), []);
    assert_eq!(machine.bwraps(), (None, None));
    assert_eq!(machine.condition(incarnation).await, Some(Condition::Exited { code: Some(5) }));
}

#[tokio::test]
async fn the_next_host_adopts_a_sandbox_and_hears_how_it_ended() {
    if !bwrap() {
        return;
    }
    let machine =
        Machine::new(r#": >"$agent/ready"; until [ -e "$agent/go" ]; do sleep 0.02; done; exit 9"#);
    let incarnation = machine.start().await;
    written(&machine.agent("ready")).await;
    let (next_host, mut events) = machine.next_host();
    let running = Sighting { incarnation, condition: Condition::Running };
    assert_eq!(next_host.of_session(incarnation.session).await.unwrap(), [running]);
    let second = machine.spec(incarnation.session);
    let occupied = next_host.start(&second).await.unwrap_err();
    assert!(matches!(occupied, RuntimeError::Occupied { .. }), "{occupied}");

    fs::write(machine.agent("go"), "").unwrap();
    assert_eq!(next(&mut events).await, RuntimeEvent::Exited(incarnation));
    let ended = Sighting { incarnation, condition: Condition::Exited { code: Some(9) } };
    assert_eq!(next_host.of_session(incarnation.session).await.unwrap(), [ended]);
    let (third_host, _events) = machine.next_host();
    assert_eq!(third_host.list().await.unwrap(), [ended], "until somebody clears it");
    third_host.clear(incarnation, Path::new("/none")).await.unwrap();
    let (fourth_host, _events) = machine.next_host();
    assert_eq!(fourth_host.list().await.unwrap(), []);
}

#[tokio::test]
async fn the_next_host_stops_an_adopted_sandbox_that_does_not_listen() {
    if !bwrap() {
        return;
    }
    let machine = Machine::new(STUBBORN);
    let incarnation = machine.start().await;
    written(&machine.agent("ready")).await;
    let (next_host, _events) = machine.next_host();
    next_host.stop(incarnation, Duration::from_millis(50)).await.unwrap();
    assert_eq!(machine.inside(), []);
}

#[tokio::test]
async fn whoever_kills_a_process_of_bwrap_ends_the_whole_sandbox() {
    if !bwrap() {
        return;
    }
    for (case, outer, signal, code) in [
        ("the outer one is killed", true, Signal::KILL, 137),
        ("the outer one is told to leave", true, Signal::TERM, 143),
        ("the inner one is killed", false, Signal::KILL, 137),
    ] {
        let mut machine = Machine::new(STUBBORN);
        let incarnation = machine.start().await;
        written(&machine.agent("ready")).await;
        let (outside, inside) = machine.bwraps();
        let target = if outer { outside } else { inside };
        rustix::process::kill_process(target.unwrap(), signal).unwrap();
        assert_eq!(next(&mut machine.events).await, RuntimeEvent::Exited(incarnation), "{case}");
        assert_eq!(machine.inside(), [], "{case}");
        let ended = machine.condition(incarnation).await;
        assert_eq!(ended, Some(Condition::Exited { code: Some(code) }), "{case}");
    }
}

#[tokio::test]
async fn whoever_is_left_without_an_outer_process_is_ended_by_the_next_host() {
    if !bwrap() {
        return;
    }
    let machine = Machine::new(STUBBORN);
    let incarnation = machine.start().await;
    written(&machine.agent("ready")).await;
    // A host that stands still does not clean up, as one that was killed.
    let (outer, inner) = machine.bwraps();
    let (outer, inner) = (outer.unwrap(), inner.unwrap());
    let (next_host, mut events) = machine.next_host();
    assert_eq!(next_host.list().await.unwrap().len(), 1);
    rustix::process::kill_process(outer, Signal::KILL).unwrap();
    assert_eq!(next(&mut events).await, RuntimeEvent::Exited(incarnation));
    until("the inner one to be gone", || number_inside(inner).is_none()).await;
}

/// Whatever an agent does to the memory of process 1, which it may, its sandbox is found.
#[tokio::test]
async fn a_sandbox_is_found_whatever_name_it_gives_itself() {
    if !bwrap() || !Path::new("/usr/bin/python3").exists() {
        return;
    }
    let machine = Machine::new(
        r#"python3 - <<'PYTHON'
# Overwrites the arguments of process 1 in its memory, where the kernel reads them.
stat = open("/proc/1/stat").read().rsplit(")", 1)[1].split()
begin, end = int(stat[45]), int(stat[46])
try:
    memory = open("/proc/1/mem", "r+b", 0); memory.seek(begin); memory.write(b"x" * (end - begin))
except OSError as error: print(error)
PYTHON
           : >"$agent/ready"; while :; do sleep 0.02; done"#,
    );
    let incarnation = machine.start().await;
    written(&machine.agent("ready")).await;
    let (next_host, _events) = machine.next_host();
    let running = Sighting { incarnation, condition: Condition::Running };
    assert_eq!(next_host.list().await.unwrap(), [running]);
    next_host.stop(incarnation, Duration::from_millis(20)).await.unwrap();
    assert_eq!(machine.inside(), []);
}

#[tokio::test]
async fn a_copy_of_the_installation_leaves_the_original_alone() {
    if !bwrap() {
        return;
    }
    let machine = Machine::new(r#": >"$agent/ready"; sleep 60"#);
    let incarnation = machine.start().await;
    written(&machine.agent("ready")).await;
    // With the files that say who lives, as `cp -a` makes it.
    let mut copy = Machine::with("sleep 60", machine.install, Config::default().containers);
    let theirs = machine.folder(incarnation.session);
    let ours = copy.folder(incarnation.session);
    copy.spec(incarnation.session);
    fs::copy(theirs.join("sandbox.status"), ours.join("sandbox.status")).unwrap();
    let gone = Sighting { incarnation, condition: Condition::Exited { code: None } };
    assert_eq!(copy.runtime.list().await.unwrap(), [gone]);
    copy.runtime.stop(incarnation, Duration::ZERO).await.unwrap();
    copy.runtime.clear(incarnation, Path::new("/none")).await.unwrap();
    let again = copy.spec(incarnation.session);
    copy.runtime.start(&again).await.unwrap();
    assert_eq!(machine.condition(incarnation).await, Some(Condition::Running));
    copy.runtime.stop(again.incarnation, Duration::ZERO).await.unwrap();
    assert_eq!(next(&mut copy.events).await, RuntimeEvent::Exited(again.incarnation));
    assert_eq!(machine.condition(incarnation).await, Some(Condition::Running));
    let running = Sighting { incarnation, condition: Condition::Running };
    assert_eq!(machine.runtime.list().await.unwrap(), [running], "and the other way round");
}

#[tokio::test]
async fn a_start_that_cannot_be_says_why_and_leaves_nothing() {
    if !bwrap() {
        return;
    }
    let machine = Machine::new("sleep 60");
    assert!(machine.runtime.check().await.unwrap().contains("bubblewrap"));
    let spec = machine.spec(SessionId::generate(&SystemIds));
    fs::remove_dir(spec.folder.join("out")).unwrap();
    let error = machine.runtime.start(&spec).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Start { .. }), "a missing folder: {error}");
    assert_eq!(machine.runtime.list().await.unwrap(), []);
    assert_eq!(machine.bwraps(), (None, None));
    fs::create_dir(spec.folder.join("out")).unwrap();

    let broken = machine.dir.path().join("agent-runner");
    fs::write(&broken, "#!/no/such/interpreter\n").unwrap();
    let error = machine.runtime.start(&spec).await.unwrap_err().to_string();
    assert!(error.contains("cannot run inside"), "{error}");
    fs::remove_file(&broken).unwrap();
    let error = machine.runtime.check().await.unwrap_err().to_string();
    assert!(error.contains("containers.runner"), "{error}");
    let error = machine.runtime.start(&spec).await.unwrap_err().to_string();
    assert!(error.contains("containers.runner"), "{error}");
    assert_eq!(machine.runtime.list().await.unwrap(), []);
    fs::write(&broken, RUNNER).unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    machine.runtime.start(&spec).await.unwrap();
}

#[tokio::test]
async fn a_data_directory_among_the_programs_of_the_machine_is_refused() {
    if !bwrap() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (sender, _events) = unbounded_channel();
    let settings = Config::default().containers;
    let install = InstallId::generate(&SystemIds);
    let runner = dir.path().join("agent-runner");
    let runtime = Sandbox::new(install, "/usr/data/sessions".into(), &settings, runner, sender);
    let error = runtime.check().await.unwrap_err().to_string();
    assert!(error.contains("/usr/data lies in /usr"), "{error}");
}

#[tokio::test]
async fn what_a_sandbox_does_not_have_is_refused() {
    if !bwrap() {
        return;
    }
    for (setting, part) in [
        (Containers { network: "host".into(), ..Config::default().containers }, "no network"),
        (Containers { user: "0:0".into(), ..Config::default().containers }, "containers.user"),
    ] {
        let machine = Machine::with("sleep 60", InstallId::generate(&SystemIds), setting);
        let spec = machine.spec(SessionId::generate(&SystemIds));
        let error = machine.runtime.start(&spec).await.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(machine.runtime.check().await.unwrap_err().to_string().contains(part));
    }
}

#[test]
fn all_the_same_holds_for_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() || !bwrap() {
        return;
    }
    // This program and its files, where that user finds them.
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let room = dir.path().join("room");
    fs::create_dir(&room).unwrap();
    for open in [dir.path(), &program, &room] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let ids = ["--reuid", "34567", "--regid", "34567", "--clear-groups", "--inh-caps", "-all"];
    let output = Command::new("setpriv")
        .args(ids)
        .arg(&program)
        .env("TMPDIR", &room)
        .env("TWOBOX_REQUIRE_SANDBOX", "1")
        .current_dir(&room)
        .output()
        .unwrap();
    let [said, errors] =
        [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    assert!(output.status.success(), "{said}\n{errors}");
}
