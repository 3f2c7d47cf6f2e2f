//! What the process runtime promises although it is no isolation boundary.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use twobox_tests::{Container, Setup, World, on_process, wait_for};

use crate::scripts::echo;

on_process!(
    whoever_left_the_runner_and_its_environment_behind_ends_with_it,
    whoever_is_left_when_a_runner_is_killed_is_ended_as_well,
    an_agent_that_kills_everybody_ends_nobody_but_itself,
    an_agent_is_not_served_at_the_hosts_socket,
    what_bears_our_id_elsewhere_is_told_of_once,
    every_start_says_that_this_is_no_isolation_boundary,
);

/// Leaves a helper behind that has its own session, no environment and no parent, and stays in its turn:
/// after it, the runner would end the helper itself.
const LEAVES_A_HELPER: &str = r#"
    read -r turn
    file=$TMPDIR/helper
    setsid env -i /bin/sh -c '/bin/sh -c "echo \$\$ >$0; exec sleep 600" &' "$file" </dev/null >/dev/null 2>&1 &
    while [ ! -s "$file" ]; do sleep 0.02; done
    exec sleep 600"#;

/// An agent whose program is a shell that runs `script` for each turn.
fn shell(setup: Setup, script: &str) -> World {
    let world = setup.agent("ada", echo()).agent("bob", echo()).make();
    let command = ["/bin/sh", "-c", script];
    let config = json!({ "provider": "command", "command": command, "lifetime": "turn" });
    world.configure_agent("ada", &config);
    world.up();
    world
}

fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| stat.contains(") Z ")) || kill(pid, None).is_err()
}

/// A helper that was left behind, with the runner above which it lives.
fn helper(world: &World) -> (Pid, Container) {
    world.chat("ada").say("leave somebody behind");
    let file = world.session("ada").folder.join("work/tmp/helper");
    let helper = wait_for("the helper", || fs::read_to_string(&file).ok()?.trim().parse().ok());
    let helper = Pid::from_raw(helper);
    assert!(!is_gone(helper), "it lives");
    let environment = fs::read(format!("/proc/{helper}/environ")).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("TWOBOX"), "it says nothing");
    (helper, world.container(&world.session("ada")).expect("it waits for more"))
}

fn whoever_left_the_runner_and_its_environment_behind_ends_with_it(setup: Setup) {
    let world = shell(setup.setting("containers.stop_grace", "500ms"), LEAVES_A_HELPER);
    let (helper, runner) = helper(&world);
    kill(Pid::from_raw(runner.handle.parse().unwrap()), Signal::SIGTERM).unwrap();
    runner.wait_gone();
    assert!(is_gone(helper), "it has ended before whoever ends last");
    wait_for("the host to know", || {
        world.session("ada").messages().iter().any(|message| message.tries > 0).then_some(())
    });
}

fn whoever_is_left_when_a_runner_is_killed_is_ended_as_well(setup: Setup) {
    let world = shell(setup, LEAVES_A_HELPER);
    let (helper, supervisor) = helper(&world);
    // The host sees the one above the runner, and has no say when the runner itself dies.
    let above = supervisor.handle.as_str();
    let children =
        Command::new("pgrep").args(["-P", above, "-x", "agent-runner"]).output().unwrap();
    let runner = String::from_utf8(children.stdout).unwrap();
    world.kill_host();
    kill(Pid::from_raw(runner.trim().parse().expect(&runner)), Signal::SIGKILL).unwrap();
    supervisor.wait_gone();
    assert!(is_gone(helper));
}

fn an_agent_that_kills_everybody_ends_nobody_but_itself(setup: Setup) {
    if landlock() < Some(6) {
        return eprintln!("SKIPPED: the Landlock of this kernel does not know signals");
    }
    let script = r#"
        read -r turn
        case $turn in
            *everybody*) kill -9 -1; sleep 600 ;;
        esac
        echo '{"type":"reply","text":"I am alive"}'
        echo '{"type":"turn_done"}'"#;
    let world = shell(setup, script);
    let chat = world.chat("ada");
    assert_eq!(chat.ask("hello"), "I am alive");
    assert_eq!(world.chat("bob").ask("hello"), "echo: hello");
    let bystander = world.container(&world.session("bob")).expect("it waits");
    let attacker = world.container(&world.session("ada")).expect("it waits");
    chat.say("kill everybody");
    attacker.wait_gone();
    wait_for("the host to charge it", || {
        world.session("ada").messages().iter().any(|message| message.tries > 0).then_some(())
    });
    assert!(world.host_lives());
    assert!(bystander.lives());
    assert_eq!(world.chat("bob").ask("are you there?"), "echo: are you there?");
}

fn an_agent_is_not_served_at_the_hosts_socket(setup: Setup) {
    let world = setup.agent("ada", echo()).make();
    // As the host's own user, who may open the socket: what is asked for is who asks.
    let own = format!("{}:{}", nix::unistd::geteuid(), nix::unistd::getegid());
    let program = twobox_tests::binary("attacker");
    let socket = world.data().join("host.sock");
    world.configure_agent("ada", &json!({ "provider": "command", "command": [program] }));
    world.up_with(&[("TWOBOX_CONTAINERS_USER", &own), ("TWOBOX_CONTAINERS_ALLOW_UNSAFE", "true")]);
    let tries = json!([["socket", [{ "Ask": socket }, { "Connect": socket }]]]);
    let found = world.chat("ada").ask(&format!("reach {tries}"));
    assert!(!found.contains("Ask"), "it was served: {found}");
    if found.contains("Connect") {
        // Twice, for the warning is said once.
        assert!(!world.chat("ada").ask(&format!("reach {tries}")).contains("Ask"));
        let log = world.host_log();
        assert_eq!(log.matches("agents may not use the host's socket").count(), 1, "{log}");
    }
}

fn what_bears_our_id_elsewhere_is_told_of_once(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("hello"), "echo: hello");
    let session = world.session("ada");
    let container = world.container(&session).expect("it waits");
    let arguments = fs::read(format!("/proc/{}/cmdline", container.handle)).unwrap();
    let arguments = String::from_utf8(arguments).unwrap();
    let copy = world.aside().join("copy");
    let arguments = arguments.replace(world.data().to_str().unwrap(), copy.to_str().unwrap());
    let status = fs::read_to_string(format!("/proc/{}/status", container.handle)).unwrap();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    let uid: u32 = uid.split_whitespace().next().unwrap().parse().unwrap();

    // A script: its arguments stand after the interpreter and its name.
    let script = world.aside().join("some-runner");
    fs::write(&script, "sleep 600; :").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut of_the_copy = Command::new("/bin/sh");
    of_the_copy.arg(&script).current_dir("/");
    of_the_copy.args(arguments.split_terminator('\0').skip(1)).process_group(0);
    if uid != nix::unistd::geteuid().as_raw() {
        of_the_copy.uid(uid).gid(uid);
    }
    let mut of_the_copy = of_the_copy.spawn().unwrap();
    let forged = of_the_copy.id().to_string();
    container.kill();
    for text in ["one", "two", "three"] {
        assert_eq!(chat.ask(text), format!("echo: {text}"), "nobody blocks the session");
        let of_ours = |it: &Container| it.session == session.id && it.handle != forged;
        wait_for("ours", || world.containers().into_iter().find(of_ours)).kill();
    }
    let left_alone = of_the_copy.try_wait().unwrap().is_none();
    kill(Pid::from_raw(-of_the_copy.id().cast_signed()), Signal::SIGKILL).unwrap();
    of_the_copy.wait().unwrap();
    assert!(left_alone);
    let log = world.host_log();
    assert_eq!(log.matches("left a process alone").count(), 1, "{log}");
}

fn every_start_says_that_this_is_no_isolation_boundary(setup: Setup) {
    let world = setup.agent("ada", echo()).make();
    let said = world.twobox(&["init"]);
    assert!(said.contains("no isolation boundary"), "{said}");
    for start in 1..=2 {
        world.up();
        assert_eq!(world.host_log().matches("no isolation boundary").count(), start);
        world.stop_host();
    }
}

/// The version of this kernel's Landlock.
pub(crate) fn landlock() -> Option<i64> {
    use nix::libc;
    let (no_rules, no_size, ask): (libc::c_long, libc::c_long, libc::c_long) = (0, 0, 1);
    // SAFETY: asked for its version, the kernel reads no memory and makes nothing.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, no_rules, no_size, ask) };
    (abi > 0).then_some(abi)
}
