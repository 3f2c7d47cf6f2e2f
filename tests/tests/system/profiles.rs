//! Agents that run otherwise than the others.

use std::fs;

use serde_json::Value;
use twobox_tests::{Runtime, Setup, World, on_all_runtimes, on_process};

use crate::scripts::echo;
use crate::workspace::obedient;

on_all_runtimes!(an_agent_runs_by_its_own_profile_from_the_next_turn_on);

on_process!(what_a_runtime_cannot_do_for_an_agent_is_told_at_once_and_mended);

const MIB: u64 = 1 << 20;

fn doctor(world: &World) -> String {
    String::from_utf8(world.run(&["doctor"]).stdout).unwrap()
}

fn an_agent_runs_by_its_own_profile_from_the_next_turn_on(setup: Setup) {
    let runtime = setup.runtime();
    let world = obedient(setup);
    world.up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("variable COLOUR"), "not there");
    let usual = chat.ask("memory");
    assert_ne!(usual, (100 * MIB).to_string());
    assert_eq!(world.starts(), 1);

    world.twobox(&["agents", "edit", "ada", "--memory", "100", "--env", "COLOUR=dark green"]);
    assert_eq!(chat.ask("variable COLOUR"), "dark green");
    let own = chat.ask("memory");
    // From inside of a sandbox no cgroup is seen.
    let is_hidden = runtime == Runtime::Sandbox && doctor(&world).contains("(cgroup ");
    if !is_hidden {
        assert_eq!(own, (100 * MIB).to_string(), "{usual} before");
    }
    assert_eq!(world.starts(), 2);

    let session = world.session("ada");
    let told = fs::read_to_string(session.folder.join("in/agent.json")).unwrap();
    assert!(!told.contains("COLOUR") && !told.contains("memory_mb"), "{told}");
    let shown = world.twobox(&["agents", "show", "ada"]);
    assert!(shown.contains("limits.memory_mb = 100\n"), "{shown}");
    assert!(shown.contains("limits.pids = 256 (default)\n"), "{shown}");
    assert!(shown.contains("environment = COLOUR\n") && !shown.contains("dark green"), "{shown}");
    world.assert_fsck_clean();
}

fn what_a_runtime_cannot_do_for_an_agent_is_told_at_once_and_mended(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    world.twobox(&["agents", "edit", "ada", "--image", "mine:1"]);
    let chat = world.chat("ada");
    let id = chat.say("hello");
    let told = chat.wait_letters(1).remove(0);
    assert!(told.text.contains("ada.json: image: a runner of the process runtime"), "{told:?}");
    assert_eq!(world.starts(), 0);
    let path = world.data().join("agents/ada.json");
    let text = fs::read_to_string(&path).unwrap();
    let found = doctor(&world);
    assert!(found.contains("FAIL  agents          ada: image: "), "{found}");
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config.as_object_mut().unwrap().remove("image");
    fs::write(&path, config.to_string()).unwrap();
    world.assert_answered_once(&chat, &world.session("ada"), &id, "echo: hello");
}
