//! The host as a service: what it tells whoever started it, with which code it leaves, and the unit
//! that `scripts/service` writes.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use twobox_tests::{PATIENCE, Setup, World, binary, on_process, on_sandbox, wait_within};

use crate::scripts::{echo, slow};

on_process!(
    a_manager_is_told_when_it_is_ready_that_it_lives_and_when_it_stops,
    a_host_that_stands_still_says_nothing_and_one_that_goes_on_does_again,
    a_host_whose_api_has_no_door_lives_all_the_same,
    a_host_is_not_ready_before_what_is_due_was_woken,
    a_mistake_in_the_configuration_has_a_code_of_its_own,
    what_passes_by_itself_is_no_mistake_in_the_configuration,
);

on_sandbox!(a_runtime_that_is_not_there_is_a_mistake_in_the_configuration);

/// `EX_CONFIG` of sysexits.h.
const CONFIGURATION: i32 = 78;

/// A stand-in for the service manager: a socket, and what came to it.
struct Manager {
    socket: UnixDatagram,
    path: String,
}

impl Manager {
    fn new(world: &World) -> Self {
        let path = world.aside().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path: path.to_str().unwrap().to_owned() }
    }

    /// Starts the host under this manager, which wants a sign of life at least every `watchdog`.
    fn start(&self, world: &World, watchdog: Duration) {
        let usec = watchdog.as_micros().to_string();
        world.start(&[("NOTIFY_SOCKET", &self.path), ("WATCHDOG_USEC", &usec)]);
    }

    /// The next message.
    #[track_caller]
    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a message to the service manager");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// The next message with this line. What came before it.
    #[track_caller]
    fn until(&self, line: &str) -> (Vec<String>, String) {
        let mut before = Vec::new();
        loop {
            let message = self.next();
            if message.lines().any(|it| it == line) {
                return (before, message);
            }
            before.push(message);
        }
    }

    /// Takes what has come already, and says whether there was something.
    fn drain(&self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        let mut any = false;
        while self.socket.recv(&mut [0; 4096]).is_ok() {
            any = true;
        }
        self.socket.set_nonblocking(false).unwrap();
        any
    }
}

fn has(messages: &[String], word: &str) -> bool {
    messages.iter().any(|message| message.lines().any(|line| line.starts_with(word)))
}

fn a_manager_is_told_when_it_is_ready_that_it_lives_and_when_it_stops(setup: Setup) {
    let world = setup.setting("shutdown.grace", "3s").agent("ada", echo()).make();
    let manager = Manager::new(&world);
    manager.start(&world, Duration::from_millis(600));

    let (before, ready) = manager.until("READY=1");
    assert!(!has(&before, "WATCHDOG=1") && !has(&before, "STOPPING=1"), "{before:?}");
    assert!(ready.contains("STATUS="), "{ready}");
    assert!(world.status().is_some(), "whoever waited for it finds the door open");
    assert_eq!(world.chat("ada").ask("hello"), "echo: hello");

    let (before, alive) = manager.until("WATCHDOG=1");
    assert!(!has(&before, "STOPPING=1"), "{before:?}");
    assert!(alive.contains("STATUS="), "{alive}");
    manager.until("WATCHDOG=1");

    world.ask_host_to_stop();
    let (before, stopping) = manager.until("STOPPING=1");
    assert!(!has(&before, "READY=1"), "said once: {before:?}");
    let extended = stopping.lines().find_map(|it| it.strip_prefix("EXTEND_TIMEOUT_USEC="));
    let extended: u64 = extended.unwrap().parse().unwrap();
    assert!(extended >= 3_000_000, "it may take shutdown.grace: {stopping}");
    assert!(world.wait_host_gone().success());
    manager.socket.set_nonblocking(true).unwrap();
    let after = manager.socket.recv(&mut [0; 4096]).map_err(|error| error.kind());
    assert_eq!(after, Err(ErrorKind::WouldBlock), "STOPPING=1 is the last word");
}

fn a_host_that_stands_still_says_nothing_and_one_that_goes_on_does_again(setup: Setup) {
    let world = setup.agent("ada", echo()).make();
    let manager = Manager::new(&world);
    let watchdog = Duration::from_millis(600);
    manager.start(&world, watchdog);
    manager.until("WATCHDOG=1");
    world.freeze_host();
    manager.drain();
    manager.socket.set_read_timeout(Some(watchdog)).unwrap();
    let silence = manager.socket.recv(&mut [0; 4096]).map_err(|error| error.kind());
    assert_eq!(silence, Err(ErrorKind::WouldBlock), "the manager would end it now");
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    world.thaw_host();
    manager.until("WATCHDOG=1");
}

fn a_host_whose_api_has_no_door_lives_all_the_same(setup: Setup) {
    let world = setup.setting("api.listen", "").agent("ada", echo()).make();
    fs::create_dir(world.data().join("api.sock")).unwrap();
    let manager = Manager::new(&world);
    manager.start(&world, Duration::from_millis(600));
    manager.until("READY=1");
    assert!(world.host_log().contains("the API is not served"), "neither by a port nor a socket");
    manager.until("WATCHDOG=1");
    manager.until("WATCHDOG=1");
    world.ask_host_to_stop();
    assert!(world.wait_host_gone().success());
}

/// A message came to its end while no host was there to hear of it.
fn a_host_is_not_ready_before_what_is_due_was_woken(setup: Setup) {
    let world = setup.agent("ada", slow(1500)).make();
    let manager = Manager::new(&world);
    manager.start(&world, Duration::from_secs(60));
    let (before, _) = manager.until("READY=1");
    assert!(before.is_empty(), "{before:?}");
    let chat = world.chat("ada");
    world.occupy(&chat, "ada", "slow");
    world.kill_host();
    manager.drain();

    manager.start(&world, Duration::from_secs(60));
    let (_, ready) = manager.until("READY=1");
    assert!(ready.contains("1 sessions awake"), "{ready}");
    assert!(world.host_log().contains("adopted a runner"), "before it was ready");
}

/// What the host says that leaves at once, with the code for this.
#[track_caller]
fn refused(output: &Output, case: &str, part: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(CONFIGURATION), "{case}: {said}");
    assert!(said.contains(part), "{case}: {said}");
}

fn up(world: &World, change: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(binary("twobox"));
    command.arg("--data").arg(world.data()).arg("up").stdin(Stdio::null());
    change(&mut command);
    let mut host = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let left = wait_within(Duration::from_secs(10), "the host to leave", || {
        host.try_wait().unwrap().map(|_| true).or_else(|| world.status().map(|_| false))
    });
    if !left {
        host.kill().unwrap(); // it is up, which the exit status shows
    }
    host.wait_with_output().unwrap()
}

fn a_mistake_in_the_configuration_has_a_code_of_its_own(setup: Setup) {
    let world = setup.agent("ada", echo()).make();
    let file = world.data().join("twobox.toml");
    let good = fs::read_to_string(&file).unwrap();
    let texts = [
        ("no TOML", "runtime = \"process", "not valid TOML"),
        ("an unknown key", "runtimes = \"process\"", "unknown key runtimes"),
        ("an unknown runtime", "runtime = \"dokcer\"", "dokcer"),
        ("a bad value", "[limits]\nmax_tries = 0", "limits.max_tries"),
        (
            "a runner that is not there",
            "runtime = \"process\"\n[containers]\nrunner = \"/nowhere/agent-runner\"",
            "/nowhere/agent-runner",
        ),
        (
            "an engine that cannot be",
            "runtime = \"docker\"\n[containers]\nsocket = \"tcp://x\"",
            "containers.socket",
        ),
    ];
    for (case, text, part) in texts {
        fs::write(&file, text).unwrap();
        refused(&up(&world, |_| {}), case, part);
    }
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    refused(&up(&world, |_| {}), "it cannot be read", "could not read");
    fs::remove_dir(&file).unwrap();
    fs::write(&file, &good).unwrap();
    let json = up(&world, |up| {
        up.args(["--log-format", "json"]).env("TWOBOX_LOG", "[");
    });
    refused(&json, "a bad filter of the log", "TWOBOX_LOG");
    let word = up(&world, |up| {
        up.env("TWOBOX_RUNTIME", "dokcer");
    });
    refused(&word, "a bad word in the environment", "TWOBOX_RUNTIME");

    refused(&world.copied().run(&["up"]), "a copy", "init --copy");
    let empty = tempfile::tempdir().unwrap();
    let none = Command::new(binary("twobox")).arg("--data").arg(empty.path()).arg("up").output();
    refused(&none.unwrap(), "no init", "init` first");

    fs::set_permissions(world.data(), PermissionsExt::from_mode(0o777)).unwrap();
    refused(&up(&world, |_| {}), "open to others", "chmod 700");
    fs::set_permissions(world.data(), PermissionsExt::from_mode(0o700)).unwrap();
    if nix::unistd::geteuid().is_root() {
        let stranger = up(&world, |up| {
            up.uid(65_534).gid(65_534);
        });
        refused(&stranger, "another user's", "sudo -u");
        chown(world.data().join("host.db"), Some(65_534), None).unwrap();
        refused(&up(&world, |_| {}), "a file of another user's", "chown");
        chown(world.data().join("host.db"), Some(0), None).unwrap();
    }
    world.up(); // which shows that nothing else was wrong
}

fn what_passes_by_itself_is_no_mistake_in_the_configuration(setup: Setup) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = setup.setting("api.listen", taken.local_addr().unwrap());
    let world = setup.agent("ada", echo()).up();
    assert!(world.host_log().contains("the API is not served"), "a port is given back one day");
    let second = world.run(&["up"]);
    assert_eq!(second.status.code(), Some(1), "the other host leaves one day: {second:?}");
    assert!(String::from_utf8_lossy(&second.stderr).contains("belongs to a running host"));
}

fn a_runtime_that_is_not_there_is_a_mistake_in_the_configuration(setup: Setup) {
    let world = setup.agent("ada", echo()).make();
    let without = up(&world, |up| {
        up.env("PATH", "/nowhere");
    });
    refused(&without, "no bwrap", "bubblewrap");
    world.up();
    assert_eq!(world.chat("ada").ask("hello"), "echo: hello");
}

// The unit.

/// A user that no machine has, so that nothing is known about it.
const OWNER: u32 = 65_412;

/// The figure of `systemd-analyze security`, times ten, that a unit of the system stays within.
const EXPOSURE_MAX: u32 = 30;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/service")
}

/// A data directory as `init` makes it, with nothing in it that a unit does not depend on.
fn data(runtime: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("host.db"), "not empty").unwrap();
    let settings = format!("# runtime = \"none\"\nruntime = \"{runtime}\"\n[api]\nlisten = \"\"\n");
    fs::write(dir.path().join("twobox.toml"), settings).unwrap();
    dir
}

fn service(data: &Path, arguments: &[&str], change: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(script());
    command.args(arguments).arg("--data").arg(data).arg("--twobox").arg(binary("twobox"));
    change(&mut command);
    command.stdin(Stdio::null()).output().unwrap()
}

/// What a script prints that has to succeed.
#[track_caller]
fn said(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr].concat();
    let all = String::from_utf8(all).unwrap();
    assert!(output.status.success(), "{}: {all}", output.status);
    all
}

/// Whether systemd's tools are there; if not, says loudly that a test is not played.
fn systemd_is_here() -> bool {
    let here = Command::new("systemd-analyze").arg("--version").output().is_ok();
    let required = std::env::var("TWOBOX_REQUIRE_SYSTEMD").is_ok_and(|it| it == "1");
    assert!(here || !required, "TWOBOX_REQUIRE_SYSTEMD=1, but there is no systemd-analyze");
    if !here {
        eprintln!("SKIPPED: systemd-analyze is not installed (apt-get install systemd)");
    }
    here
}

#[test]
fn the_unit_is_well_formed_and_exposes_little_for_each_runtime() {
    if !systemd_is_here() {
        return;
    }
    for runtime in ["docker", "sandbox", "process"] {
        let data = data(runtime);
        if nix::unistd::geteuid().is_root() {
            chown(data.path(), Some(OWNER), None).unwrap();
        }
        let printed = service(data.path(), &["install", "--print"], |_| {});
        let aside = tempfile::tempdir().unwrap();
        let unit = aside.path().join("twobox-test.service");
        fs::write(&unit, &printed.stdout).unwrap();
        let text = said(&printed);
        for line in [
            "Type=notify",
            "RestartPreventExitStatus=2 78",
            "OOMPolicy=continue",
            "SystemCallErrorNumber=EPERM",
            "LimitNOFILE=65536",
        ] {
            assert!(text.lines().any(|it| it == line), "{runtime}: {line}: {text}");
        }
        let analyze = |arguments: &[&str]| {
            let mut analyze = Command::new("systemd-analyze");
            said(&analyze.arg("--no-pager").args(arguments).arg(&unit).output().unwrap())
        };
        let wrong = analyze(&["verify"]);
        assert!(!wrong.contains("twobox-test.service:"), "{runtime}: {wrong}");
        let threshold = format!("--threshold={EXPOSURE_MAX}");
        analyze(&["security", "--offline=true", &threshold]);
    }
}

#[test]
fn homes_and_tmp_are_closed_unless_something_that_the_host_needs_lies_there() {
    let aside = tempfile::tempdir().unwrap();
    let elsewhere = aside.path().join("twobox");
    fs::copy("/bin/true", &elsewhere).unwrap();
    // In no home and not in /tmp.
    let data = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::write(data.path().join("host.db"), "not empty").unwrap();
    let link = data.path().join("twobox");
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    let program = Path::new("/bin/true");
    let cases = [
        ("nothing does", "", program, "yes", true),
        ("a comment", "# [channels]\n# command = \"/home/ann/letters\"\n", program, "yes", true),
        (
            "its program for letters",
            "channels.command = \"/home/ann/letters\"\n",
            program,
            "read-only",
            true,
        ),
        (
            "an engine's socket",
            "[containers]\nsocket = '/run/user/1000/podman.sock'\n",
            program,
            "read-only",
            true,
        ),
        ("its runner", "[containers]\nrunner = \"/tmp/agent-runner\"\n", program, "yes", false),
        ("what its name leads to", "", &link, "yes", false),
    ];
    for (case, settings, program, homes, tmp) in cases {
        fs::write(data.path().join("twobox.toml"), settings).unwrap();
        let mut command = Command::new(script());
        command.args(["install", "--print"]).arg("--data").arg(data.path());
        let unit = said(&command.arg("--twobox").arg(program).output().unwrap());
        let has = |wanted: &str| unit.lines().any(|line| line == wanted);
        assert!(has(&format!("ProtectHome={homes}")), "{case}: {unit}");
        assert_eq!(has("PrivateTmp=yes"), tmp, "{case}: {unit}");
    }
}

#[test]
fn the_unit_leaves_a_sandbox_what_it_is_made_of() {
    let [sandbox, docker] = ["sandbox", "docker"].map(|runtime| {
        let data = data(runtime);
        if nix::unistd::geteuid().is_root() {
            chown(data.path(), Some(OWNER), None).unwrap();
        }
        said(&service(data.path(), &["install", "--print"], |_| {}))
    });
    // Each of these was seen to keep bubblewrap from starting.
    for word in
        ["RestrictNamespaces=", "ProtectKernelTunables=", "ProtectKernelLogs=", "ProtectHostname="]
    {
        let sets = |unit: &str| unit.lines().any(|line| line.starts_with(word));
        assert!(!sets(&sandbox), "{word}: {sandbox}");
        assert!(sets(&docker), "{word}: {docker}");
    }
}

/// Has a command run as somebody who is not root, to whom `folders` then belong.
fn as_somebody(command: &mut Command, folders: &[&Path]) {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    for folder in folders {
        chown(folder, Some(OWNER), Some(OWNER)).unwrap();
        for entry in fs::read_dir(folder).unwrap().flatten() {
            chown(entry.path(), Some(OWNER), Some(OWNER)).unwrap();
        }
    }
    command.uid(OWNER).gid(OWNER);
}

/// A stand-in for `systemctl` of a version, which notes what it is told.
fn systemctl(folder: &Path, version: u32) -> std::ffi::OsString {
    let log = folder.join("calls");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo 'systemd {version} ({version}-1)' && exit\n\
         echo \"$@\" >>{}\n",
        log.display()
    );
    fs::write(folder.join("systemctl"), script).unwrap();
    fs::set_permissions(folder.join("systemctl"), PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).unwrap()
}

#[test]
fn a_unit_is_written_once_and_removed_without_the_data() {
    let (data, aside) = (data("sandbox"), tempfile::tempdir().unwrap());
    let path = systemctl(aside.path(), 254);
    fs::create_dir_all(aside.path().join("run/systemd")).unwrap();
    let run = |arguments: &[&str]| {
        said(&service(data.path(), arguments, |command| {
            command.env("PATH", &path).env("XDG_CONFIG_HOME", aside.path());
            command.env("XDG_RUNTIME_DIR", aside.path().join("run"));
            as_somebody(command, &[data.path(), aside.path()]);
        }))
    };
    let unit = aside.path().join("systemd/user/mine.service");
    let calls = || fs::read_to_string(aside.path().join("calls")).unwrap_or_default();

    let shown = run(&["install", "--user", "--name", "mine", "--print"]);
    assert!(!unit.exists() && calls().is_empty(), "nothing was changed");
    run(&["install", "--user", "--name", "mine"]);
    let written = fs::read_to_string(&unit).unwrap();
    assert_eq!(written, shown);
    assert!(written.contains("\nDelegate=cpu memory pids\nDelegateSubgroup=host\n"), "{written}");
    assert!(!written.contains("\nUser="), "it is the user's own: {written}");
    assert_eq!(
        calls(),
        "--user daemon-reload\n--user enable mine.service\n--user restart mine.service\n"
    );
    let again = run(&["install", "--user", "--name", "mine"]);
    assert!(again.contains("is as it should be"), "{again}");
    assert!(calls().ends_with("--user start mine.service\n"), "a host that runs is left alone");

    run(&["remove", "--user", "--name", "mine"]);
    assert!(!unit.exists());
    assert!(calls().contains("--user disable --now mine.service\n"), "{}", calls());
    assert!(data.path().join("host.db").exists());
    let again = run(&["remove", "--user", "--name", "mine"]);
    assert!(again.contains("nothing to do"), "{again}");
}

#[test]
fn a_unit_of_somebody_else_or_of_another_directory_is_neither_replaced_nor_removed() {
    let (ours, theirs, aside) = (data("docker"), data("docker"), tempfile::tempdir().unwrap());
    let path = systemctl(aside.path(), 254);
    let units = aside.path().join("systemd/user");
    fs::create_dir_all(&units).unwrap();
    let run = |data: Option<&Path>, arguments: &[&str]| {
        let mut command = Command::new(script());
        command.args(arguments).args(["--user", "--twobox"]).arg(binary("twobox"));
        command.env("PATH", &path).env("XDG_CONFIG_HOME", aside.path());
        command.env("XDG_RUNTIME_DIR", aside.path().join("run"));
        if let Some(data) = data {
            command.arg("--data").arg(data);
        }
        as_somebody(&mut command, &[ours.path(), theirs.path(), aside.path(), &units]);
        command.stdin(Stdio::null()).output().unwrap()
    };
    let refused = |data: Option<&Path>, arguments: &[&str], part: &str| {
        let output = run(data, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(part) && said.contains("--name"), "{arguments:?}: {said}");
    };
    let written = "[Service]\nExecStart=/usr/bin/true\n";
    let foreign = units.join("ssh.service");
    fs::write(&foreign, written).unwrap();
    refused(None, &["remove", "--name", "ssh"], "was not written by");
    refused(Some(ours.path()), &["remove", "--name", "ssh"], "was not written by");
    refused(Some(ours.path()), &["install", "--name", "ssh"], "was not written by");
    assert_eq!(fs::read_to_string(&foreign).unwrap(), written);

    said(&run(Some(theirs.path()), &["install"]));
    let unit = units.join("twobox.service");
    let before = fs::read_to_string(&unit).unwrap();
    let whose = theirs.path().to_str().unwrap();
    refused(Some(ours.path()), &["install"], whose);
    refused(Some(ours.path()), &["remove"], whose);
    assert_eq!(fs::read_to_string(&unit).unwrap(), before, "the other host goes on");
    said(&run(Some(ours.path()), &["install", "--name", "mine"]));
    refused(Some(ours.path()), &["remove"], "is called mine");

    fs::remove_dir_all(ours.path()).unwrap();
    fs::create_dir(ours.path()).unwrap();
    said(&run(Some(ours.path()), &["remove", "--name", "mine"]));
    said(&run(Some(theirs.path()), &["remove"]));
    assert!(foreign.exists() && !unit.exists() && !units.join("mine.service").exists());
    if Path::new("/usr/lib/systemd/user/systemd-exit.service").exists() {
        refused(Some(theirs.path()), &["install", "--name", "systemd-exit"], "its place");
    }
}

#[test]
fn an_older_systemd_is_given_nothing_that_it_fails_on() {
    let (data, aside) = (data("sandbox"), tempfile::tempdir().unwrap());
    let path = systemctl(aside.path(), 252);
    let unit = said(&service(data.path(), &["install", "--user", "--print"], |command| {
        command.env("PATH", path).env("HOME", aside.path());
        as_somebody(command, &[data.path(), aside.path()]);
    }));
    assert!(!unit.lines().any(|line| line.starts_with("Delegate")), "{unit}");
}

#[test]
fn what_a_unit_cannot_be_made_of_is_refused_with_what_to_do() {
    let refused = |data: &Path, part: &str| {
        let output = service(data, &["install", "--print"], |_| {});
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(part), "{said}");
    };
    let empty = tempfile::tempdir().unwrap();
    refused(empty.path(), "init` makes one");
    refused(&empty.path().join("none"), "init` first");
    refused(data("dokcer").path(), "runtime = \"dokcer\"");
    let odd = tempfile::Builder::new().prefix("a b%").tempdir().unwrap();
    fs::write(odd.path().join("host.db"), "x").unwrap();
    refused(odd.path(), "special in a unit");
    if nix::unistd::geteuid().is_root() {
        refused(data("sandbox").path(), "chown -R twobox:");
        refused(data("process").path(), "chown -R twobox:");
    }
}
