//! What a container that the real host started may do.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use twobox_tests::{Runtime, Setup, World, docker, image, on_docker, on_process, on_sandbox};

use crate::scripts::echo;

on_docker!(
    the_engine_was_told_every_limit,
    code_inside_cannot_write_the_inbox_or_reach_out,
    an_agent_cannot_change_its_configuration,
);
on_sandbox!(
    code_inside_cannot_write_the_inbox_or_reach_out,
    an_agent_cannot_change_its_configuration,
    tools_work_that_need_more_than_files,
);
on_process!(tools_work_that_need_more_than_files);

fn the_engine_was_told_every_limit(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("hello"), "echo: hello");
    let session = world.session("ada");
    let container = world.container(&session).expect("it waits for more");
    let inspected: Value = serde_json::from_str(&docker(&["inspect", &container.handle])).unwrap();
    let (config, host) = (&inspected[0]["Config"], &inspected[0]["HostConfig"]);

    assert_eq!(host["NetworkMode"], "none");
    // Podman names those that it has dropped one by one; what is left is seen from inside.
    assert!(host["CapDrop"].as_array().is_some_and(|dropped| !dropped.is_empty()));
    assert_eq!(host["CapAdd"].as_array().map_or(0, Vec::len), 0);
    assert_eq!(host["SecurityOpt"], json!(["no-new-privileges"]));
    assert_eq!(host["Privileged"], false);
    assert_eq!(host["ReadonlyRootfs"], true);
    assert_eq!(host["Init"], true);
    assert_eq!(host["RestartPolicy"]["Name"], "no");
    assert_eq!(host["AutoRemove"], false);
    assert_eq!(host["PidsLimit"], 256);
    assert_eq!(host["Memory"], 512 << 20);
    assert_eq!(host["MemorySwap"], 512 << 20, "no swap");
    assert_eq!(host["NanoCpus"], 1_000_000_000);
    // Podman keeps to it and does not show it.
    let log = &host["LogConfig"]["Config"];
    assert!(log.is_null() || log["max-size"] == "1m", "{log}");
    assert!(host["Tmpfs"]["/tmp"].as_str().unwrap().contains("nosuid"));
    assert_eq!(host["Devices"].as_array().map_or(0, Vec::len), 0);
    assert!(["", "private"].contains(&host["PidMode"].as_str().unwrap()));
    assert_ne!(host["IpcMode"], "host");
    let user = config["User"].as_str().unwrap();
    assert!(!user.is_empty() && !user.starts_with("0:") && user != "0", "{user}");
    assert_eq!(config["Labels"]["twobox.session"], session.id.as_str());
    assert_eq!(config["Labels"]["twobox.runner"], container.runner.as_str());

    let mut mounts: Vec<(&str, bool)> = inspected[0]["Mounts"]
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
}

/// A program that tries to give its agent another program, and answers a turn with what it could do.
/// It is compiled by the test.
const PROBE: &str = r##"
use std::fs;
fn main() {
    let mut turn = String::new();
    std::io::stdin().read_line(&mut turn).expect("a turn");
    let mut found = Vec::new();
    for path in ["/workspace/in/x", "/workspace/in/inbound.db", "/workspace/in/agent.json", "/x",
                 "/workspace/out/x", "/workspace/agent/x", "/tmp/x",
                 "/workspace/session/x", "/workspace/program/x"] {
        let open = fs::OpenOptions::new().append(true).create(true).open(path);
        found.push(format!("{path} {}", if open.is_ok() { "writable" } else { "closed" }));
    }
    fs::write("/workspace/agent/agent.json", r#"{"provider":"command","command":["/none"]}"#)
        .expect("its own folder is its own");
    let status = fs::read_to_string("/proc/self/status").expect("status");
    for field in ["CapEff", "CapBnd", "NoNewPrivs", "Seccomp:", "Uid"] {
        let line = status.lines().find(|line| line.starts_with(field)).expect("field");
        found.push(line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    let devices = fs::read_to_string("/proc/net/dev").expect("devices");
    let mut names: Vec<_> = devices.lines().filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim()).filter(|name| !name.starts_with("tunl")).collect();
    names.sort();
    found.push(format!("net {}", names.join(" ")));
    let reach = std::net::TcpStream::connect("1.1.1.1:53");
    found.push(format!("reach {}", reach.is_ok()));
    println!("{{\"type\":\"reply\",\"text\":\"{}\"}}", found.join("\\n"));
    println!("{{\"type\":\"turn_done\"}}");
}
"##;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// An agent that is the probe.
fn probed(setup: Setup) -> World {
    let folder = tempfile::tempdir().unwrap();
    let program = compile(folder.path());
    let (setup, command) = match setup.runtime() {
        Runtime::Docker => {
            (setup.setting("containers.image", probe_image(folder.path())), "/probe")
        }
        Runtime::Sandbox | Runtime::Process => (setup, "/workspace/program/probe"),
    };
    let world = setup.agent("ada", echo()).make();
    if world.runtime() != Runtime::Docker {
        std::fs::copy(program, world.program_folder("ada").join("probe")).unwrap();
    }
    world.configure_agent("ada", &json!({ "provider": "command", "command": [command] }));
    world.up();
    world
}

/// The probe, compiled in `folder`.
fn compile(folder: &Path) -> PathBuf {
    let (source, compiled) = (folder.join("probe.rs"), folder.join("probe"));
    std::fs::write(&source, PROBE).unwrap();
    // With the target named, the flag does not apply to what rustc itself runs.
    let about = run("rustc", &["-vV"]);
    let target = about.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let (source, program) = (source.to_str().unwrap(), compiled.to_str().unwrap());
    let fixed = ["--edition=2024", "-Ctarget-feature=+crt-static", "--target", target];
    run("rustc", &[&fixed[..], &["-o", program, source]].concat());
    compiled
}

/// The runner's image with the probe in it, which is in `context`.
fn probe_image(context: &Path) -> String {
    let base = image().unwrap();
    let recipe = format!("FROM {base}\nCOPY probe /probe\n");
    std::fs::write(context.join("Dockerfile"), recipe).unwrap();
    // Tests of two builds may use one engine at the same time.
    let tag = format!("twobox-system-probe:{}", base.rsplit_once(':').map_or("local", |it| it.1));
    docker(&["build", "--quiet", "--tag", &tag, context.to_str().unwrap()]);
    tag
}

fn code_inside_cannot_write_the_inbox_or_reach_out(setup: Setup) {
    let world = probed(setup);
    let found = world.chat("ada").ask("what can you do?");
    let found: Vec<_> = found.lines().collect();
    for expected in [
        "/workspace/in/x closed",
        "/workspace/in/inbound.db closed",
        "/workspace/in/agent.json closed",
        "/x closed",
        "/workspace/out/x writable",
        "/workspace/agent/x writable",
        "/workspace/session/x writable",
        "/workspace/program/x closed",
        "/tmp/x writable",
        "CapEff: 0000000000000000",
        "CapBnd: 0000000000000000",
        "NoNewPrivs: 1",
        "Seccomp: 2",
        "net lo",
        "reach false",
    ] {
        assert!(found.contains(&expected), "{expected}: {found:#?}");
    }
    assert!(!found.contains(&"Uid: 0 0 0 0"), "{found:#?}");
}

fn an_agent_cannot_change_its_configuration(setup: Setup) {
    let world = probed(setup);
    let chat = world.chat("ada");
    let ask_probe = || {
        let found = chat.ask("what can you do?");
        assert!(found.contains("/workspace/in/agent.json closed"), "{found}");
        world.container(&world.session("ada")).expect("it waits for more")
    };
    let first = ask_probe();
    let planted = world.agent_folder("ada").join("agent.json");
    assert!(planted.is_file(), "it wrote one where it can");
    first.kill();
    let second = ask_probe();
    assert_ne!(first.runner, second.runner, "started anew, as before");

    // A person's change counts at once: the container that has the older one goes first.
    world.configure_agent("ada", &json!({ "provider": "scripted", "command": [] }));
    assert_eq!(chat.ask("hello"), "echo: hello");
    let third = world.container(&world.session("ada")).expect("it waits for more");
    assert_ne!(second.runner, third.runner);
    assert!(planted.is_file());
}

/// What an agent's tools use besides files: processes that share memory and semaphores, and locks.
const TOOLS: &str = r#"
read -r turn
said=$({
    cd "$TWOBOX_WORK"
    git init -q repository && cd repository && echo a >a && git add a &&
        git -c user.name=a -c user.email=a@b commit -qm first && git log --oneline | wc -l
    python3 - <<'PYTHON'
from multiprocessing import Pool, Queue, Process, shared_memory
def square(n): return n * n
def put(queue): queue.put("queue")
with Pool(2) as pool: print(sum(pool.map(square, range(4))))
queue = Queue(); child = Process(target=put, args=(queue,)); child.start()
print(queue.get()); child.join()
memory = shared_memory.SharedMemory(create=True, size=16); memory.buf[0] = 7
print("shared", memory.buf[0]); memory.close(); memory.unlink()
PYTHON
} 2>&1 | tr '\n' ' ' | tr -d '"\\')
printf '{"type":"reply","text":"%s"}\n{"type":"turn_done"}\n' "$said"
"#;

fn tools_work_that_need_more_than_files(setup: Setup) {
    for tool in ["git", "/usr/bin/python3"] {
        if Command::new(tool).arg("--version").output().is_err() {
            return eprintln!("SKIPPED: this machine has no {tool}");
        }
    }
    let world = setup.agent("ada", echo()).make();
    std::fs::write(world.program_folder("ada").join("tools.sh"), TOOLS).unwrap();
    world
        .configure_agent("ada", &json!({ "provider": "command", "command": ["bash", "tools.sh"] }));
    world.up();
    assert_eq!(world.chat("ada").ask("work").trim(), "1 14 queue shared 7");
}
