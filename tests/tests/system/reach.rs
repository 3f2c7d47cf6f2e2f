//! What an agent reaches in each runtime, found by an agent that tries, and compared with the table in
//! `docs/containers.md`.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use serde_json::json;
use twobox_tests::{Runtime, Setup, Try, World, binary, image_with, on_all_runtimes};

use crate::process::landlock;
use crate::scripts::echo;

on_all_runtimes!(an_agent_reaches_what_the_table_says_and_nothing_else);

const PAGE: &str = include_str!("../../../docs/containers.md");

/// The word of the table for what is reached, and for what is not.
const YES: &str = "yes";
const NO: &str = "no";

/// What is reached by kernels whose Landlock does not know the sockets of others.
const BEFORE_9: &str = "yes, before Landlock 9";

/// The table of the page: for each thing, the word in the column of `runtime`.
fn table(runtime: Runtime) -> BTreeMap<&'static str, &'static str> {
    let cells = |line: &'static str| -> Vec<&'static str> {
        line.trim_matches('|').split('|').map(str::trim).collect()
    };
    let mut lines = PAGE.lines().skip_while(|line| !line.starts_with("| an agent tries "));
    let head = cells(lines.next().expect("the page has the table"));
    let word = format!("`{}`", runtime.word());
    let column = head.iter().position(|cell| *cell == word).expect("a column for each runtime");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|')).map(cells);
    rows.map(|row| (row[0], row[column])).collect()
}

/// What this test holds open so that somebody could reach it.
struct Bait {
    tcp: TcpListener,
    anybody: PathBuf,
    abstract_name: String,
    terminal: PathBuf,
    _kept: (UnixListener, UnixListener, nix::pty::PtyMaster),
}

impl Bait {
    fn new(dir: &Path) -> Self {
        let abstract_name = format!("twobox-reach-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let anybody = dir.join("anybody.sock");
        let listeners =
            (UnixListener::bind(&anybody).unwrap(), UnixListener::bind_addr(&address).unwrap());
        for (path, mode) in [(dir, 0o755), (&*anybody, 0o777)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let flags = nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_NOCTTY;
        let master = nix::pty::posix_openpt(flags).unwrap();
        nix::pty::grantpt(&master).unwrap();
        nix::pty::unlockpt(&master).unwrap();
        let terminal = nix::pty::ptsname_r(&master).unwrap().into();
        Self {
            tcp: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
            anybody,
            abstract_name,
            terminal,
            _kept: (listeners.0, listeners.1, master),
        }
    }
}

/// The world's disks, as far as it has any.
fn disks() -> Vec<PathBuf> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    devices.map(|device| Path::new("/dev").join(device.file_name())).collect()
}

/// Every row of the table, with what is tried for it: it is reached if one try succeeds.
fn tries(world: &World, bait: &Bait) -> Vec<(&'static str, Vec<Try>)> {
    let mounted = world.runtime() != Runtime::Process;
    let (own, other) = (world.session("ada"), world.session("bob"));
    let place = |on_the_host: PathBuf, inside: &str| match mounted {
        true => PathBuf::from(inside),
        false => on_the_host,
    };
    let inbox = place(own.paths().in_dir().to_owned(), "/workspace/in");
    let outbox = place(own.paths().out_dir().to_owned(), "/workspace/out");
    let program = place(world.program_folder("ada"), "/workspace/program");
    let shared = place(world.agent_folder("ada"), "/workspace/agent");
    let data = world.data();
    let host = world.host_pid().cast_signed();
    let home = PathBuf::from(std::env::var_os("HOME").unwrap());
    let others = match mounted {
        true => host, // its number is not one of this machine
        false => world.container(&other).expect("it waits").handle.parse().unwrap(),
    };
    let file = |name: &str| data.join(name);
    vec![
        ("to read its inbox", vec![Try::Read(inbox.join("inbound.db"))]),
        (
            "to write its inbox",
            vec![Try::Write(inbox.join("inbound.db")), Try::Create(inbox.clone())],
        ),
        ("to write its outbox", vec![Try::Create(outbox)]),
        (
            "to write its program",
            vec![Try::Create(program.clone()), Try::Write(program.join("note"))],
        ),
        ("to write the folder that its sessions share", vec![Try::Create(shared)]),
        (
            "to read or write the host's database, settings or token",
            ["host.db", "twobox.toml", "api.token"]
                .iter()
                .flat_map(|name| [Try::Read(file(name)), Try::Write(file(name))])
                .collect(),
        ),
        (
            "to reach another session's folder",
            vec![
                Try::Read(other.paths().inbound_db()),
                Try::Read(other.paths().outbound_db()),
                Try::List(other.folder.clone()),
                Try::List(data.join("sessions")),
            ],
        ),
        ("to list the home of the host's user", vec![Try::List(home)]),
        ("to list `/run`", vec![Try::List("/run".into())]),
        (
            "to write the system's folders",
            ["/", "/usr", "/etc", "/usr/bin"].map(|it| Try::Create(it.into())).into(),
        ),
        ("to see the host's process", vec![Try::See(host)]),
        ("to signal the host's process", vec![Try::Signal(host)]),
        ("to trace the host's process", vec![Try::Trace(host)]),
        (
            "to signal or trace another session's processes",
            vec![Try::Signal(others), Try::Trace(others)],
        ),
        (
            "to be served at the host's sockets",
            vec![Try::Ask(file("host.sock")), Try::Http(file("api.sock"))],
        ),
        (
            "to reach Docker's socket",
            ["/var/run/docker.sock", "/run/docker.sock"].map(|it| Try::Connect(it.into())).into(),
        ),
        (
            "to reach a socket that everybody on the machine may use",
            vec![Try::Connect(bait.anybody.clone())],
        ),
        ("to reach an abstract socket", vec![Try::Abstract(bait.abstract_name.clone())]),
        (
            "to open memory, `/dev/kvm` or a disk",
            ["/dev/mem", "/dev/kmsg", "/dev/kvm", "/dev/port", "/dev/fuse", "/dev/loop-control"]
                .map(PathBuf::from)
                .into_iter()
                .chain(disks())
                .map(Try::Device)
                .collect(),
        ),
        (
            "to open a terminal of the machine",
            vec![Try::Device("/dev/tty".into()), Try::Device(bait.terminal.clone())],
        ),
        ("to reach a port of the machine", vec![Try::Tcp(bait.tcp.local_addr().unwrap().port())]),
        ("to have or to get a capability", vec![Try::Capability]),
        (
            "to change the kernel's settings",
            ["kernel/hostname", "kernel/core_pattern", "vm/drop_caches"]
                .map(|it| Try::Write(Path::new("/proc/sys").join(it)))
                .into(),
        ),
    ]
}

fn an_agent_reaches_what_the_table_says_and_nothing_else(setup: Setup) {
    let runtime = setup.runtime();
    if runtime == Runtime::Process && !nix::unistd::geteuid().is_root() {
        return eprintln!("SKIPPED: the table is that of a host that is root");
    }
    let mut setup = setup.agent("ada", echo()).agent("bob", echo());
    let program = match runtime {
        Runtime::Process => binary("attacker"),
        Runtime::Sandbox => "./attacker".into(), // all that it sees is what it is given
        Runtime::Docker => {
            setup = setup.setting("containers.image", image_with(&binary("attacker")));
            "/attacker".into()
        }
    };
    let world = setup.make();
    world.configure_agent("ada", &json!({ "provider": "command", "command": [program] }));
    fs::write(world.program_folder("ada").join("note"), "what it is").unwrap();
    if runtime == Runtime::Sandbox {
        fs::copy(binary("attacker"), world.program_folder("ada").join("attacker")).unwrap();
    }
    world.up();
    assert_eq!(world.chat("bob").ask("hello"), "echo: hello");
    let chat = world.chat("ada");
    assert_eq!(chat.ask("hello"), "echo: hello");
    let dir = tempfile::tempdir().unwrap();
    let bait = Bait::new(dir.path());

    let rows = tries(&world, &bait);
    let found = chat.ask(&format!("reach {}", serde_json::to_string(&rows).unwrap()));
    let found: BTreeMap<String, Vec<Try>> = serde_json::from_str(&found).unwrap();
    let expected = table(runtime);
    let sockets = landlock() >= Some(9);
    let word = |thing: &str| match (found[thing].is_empty(), expected.get(thing)) {
        (false, Some(&BEFORE_9)) if !sockets => BEFORE_9,
        (true, Some(&BEFORE_9)) if sockets => BEFORE_9,
        (true, _) => NO,
        (false, _) => YES,
    };
    let words: BTreeMap<&str, &str> = rows.iter().map(|(thing, _)| (*thing, word(thing))).collect();
    assert_eq!(words, expected, "what succeeded: {found:#?}");
    assert!(world.host_lives());
}
