//! The folders of an agent and of its conversations: who can change what.

use std::os::unix::fs::MetadataExt;

use serde_json::json;
use twobox_tests::{
    Mode, Runtime, Setup, World, binary, image_with, on_all_runtimes, on_process, wait_for,
};

use crate::scripts::echo;

on_all_runtimes!(
    no_conversation_changes_what_its_agent_is,
    each_conversation_has_a_workspace_of_its_own,
    what_conversations_share_is_what_the_configuration_says,
    what_a_runner_of_root_has_left_is_given_to_its_user,
);

on_process!(
    an_older_installation_keeps_its_agents_and_is_told_to_look_at_them,
    a_data_directory_in_shared_memory_is_served_and_as_closed_as_elsewhere,
);

/// A world with the agent `ada`, which does with files what it is told, and has one conversation for
/// each thread.
pub(crate) fn obedient(setup: Setup) -> World {
    let program = binary("workspace-agent");
    let (setup, command) = match setup.runtime() {
        Runtime::Process => (setup, program.display().to_string()),
        Runtime::Sandbox => (setup, "./workspace-agent".to_owned()),
        Runtime::Docker => {
            (setup.setting("containers.image", image_with(&program)), "/workspace-agent".to_owned())
        }
    };
    let world = setup.agent_with("ada", Mode::PerThread, echo()).make();
    world.configure_agent("ada", &json!({ "provider": "command", "command": [command] }));
    if world.runtime() == Runtime::Sandbox {
        std::fs::copy(program, world.program_folder("ada").join("workspace-agent")).unwrap();
    }
    world
}

/// What a kernel or a mount says to whoever may not write.
const REFUSALS: [&str; 2] = ["PermissionDenied", "ReadOnlyFilesystem"];

fn no_conversation_changes_what_its_agent_is(setup: Setup) {
    let world = obedient(setup);
    let put = world.aside().join("prompt.md");
    std::fs::write(&put, "be kind").unwrap();
    world.twobox(&["agents", "put", "ada", put.to_str().unwrap()]);
    world.up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("read program prompt.md"), "be kind");
    for order in [
        "write program prompt.md be cruel",
        "replace program prompt.md be cruel",
        "remove program prompt.md",
        "write program more.md be cruel",
    ] {
        let said = chat.ask(order);
        assert!(REFUSALS.contains(&said.as_str()), "{order}: {said}");
    }
    assert_eq!(chat.ask("read program prompt.md"), "be kind");
    // A person may, and it counts at once, in a container that has begun with it.
    std::fs::write(&put, "be brief").unwrap();
    world.twobox(&["agents", "put", "ada", put.to_str().unwrap()]);
    assert_eq!(chat.ask("read program prompt.md"), "be brief");
    assert_eq!(world.starts(), 2);
    world.assert_fsck_clean();
}

fn each_conversation_has_a_workspace_of_its_own(setup: Setup) {
    let world = obedient(setup);
    world.up();
    let chat = world.chat_in("ada", &[Some("a"), Some("b")]);
    let ask = |thread: &str, order: &str| {
        let id = chat.say_in(Some(thread), order);
        chat.wait_answer(&id).text
    };
    assert_eq!(ask("a", "write work note mine"), "written");
    assert_eq!(ask("b", "read work note"), "NotFound");
    assert_eq!(ask("b", "write work note other"), "written");
    // It outlives its container.
    let session = world.session_in("ada", "a");
    world.container(&session).expect("it waits for more").kill();
    wait_for("its end", || (!world.session_in("ada", "a").running).then_some(()));
    assert_eq!(ask("a", "read work note"), "mine");
    assert_eq!(std::fs::read_to_string(session.folder.join("work/note")).unwrap(), "mine");
    world.assert_fsck_clean();
}

fn what_conversations_share_is_what_the_configuration_says(setup: Setup) {
    let world = obedient(setup);
    world.up();
    let shared = world.agent_folder("ada");
    let mut number = 0;
    let chat = world.chat_in("ada", &[Some("1"), Some("2"), Some("3"), Some("4")]);
    // Each in a conversation of its own, for the configuration counts from a start on.
    let mut ask = |orders: &[&str]| -> Vec<String> {
        number += 1;
        let thread = number.to_string();
        let said = |order: &&str| chat.wait_answer(&chat.say_in(Some(&thread), order)).text;
        orders.iter().map(said).collect()
    };
    assert_eq!(ask(&["write shared note from one"]), ["written"]);
    assert_eq!(ask(&["read shared note"]), ["from one"], "rw is what counts if nothing is said");
    world.configure_agent("ada", &json!({ "shared_folder": "ro" }));
    let said = ask(&["read shared note", "write shared note from three"]);
    assert_eq!(said[0], "from one");
    assert!(REFUSALS.contains(&said[1].as_str()), "{said:?}");
    world.configure_agent("ada", &json!({ "shared_folder": "none" }));
    assert_eq!(ask(&["read shared note"]), ["no such room"]);
    assert_eq!(std::fs::read_to_string(shared.join("note")).unwrap(), "from one");
}

fn an_older_installation_keeps_its_agents_and_is_told_to_look_at_them(setup: Setup) {
    let world = setup.agent("ada", echo()).agent("bob", echo()).make();
    // As a build before program folders has left it.
    for name in ["ada", "bob"] {
        let script = world.program_folder(name).join("script.json");
        std::fs::rename(script, world.agent_folder(name).join("script.json")).unwrap();
    }
    std::fs::remove_dir_all(world.data().join("programs")).unwrap();
    let planted = world.agent_folder("bob").join("script.json");
    let secret = world.aside().join("secret.json");
    std::fs::rename(&planted, &secret).unwrap();
    std::os::unix::fs::symlink(&secret, &planted).unwrap();
    world.up();
    assert_eq!(world.chat("ada").ask("hello"), "echo: hello");
    assert!(world.program_folder("ada").join("script.json").is_file());
    let log = world.host_log();
    assert!(log.contains("look whether it is as it should be"), "{log}");
    assert!(log.contains("a symbolic link, which is not followed"), "{log}");
    assert_eq!(std::fs::read_dir(world.program_folder("bob")).unwrap().count(), 0);
    assert!(std::fs::metadata(secret).is_ok());
}

fn a_data_directory_in_shared_memory_is_served_and_as_closed_as_elsewhere(setup: Setup) {
    let memory = std::path::Path::new("/dev/shm");
    if !memory.is_dir() {
        return eprintln!("SKIPPED: this machine has no {}", memory.display());
    }
    let world = obedient(setup.below(memory));
    world.up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("write work note mine"), "written");
    assert_eq!(chat.ask("write shared note ours"), "written");
    for order in
        ["write program x y", "write work ../in/inbound.db y", "read work ../../../../host.db"]
    {
        let said = chat.ask(order);
        let hidden = said == "NotFound" && order.starts_with("read");
        assert!(hidden || REFUSALS.contains(&said.as_str()), "{order}: {said}");
    }
    world.assert_fsck_clean();
}

fn what_a_runner_of_root_has_left_is_given_to_its_user(setup: Setup) {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("SKIPPED: only root has runners that are somebody else");
    }
    let world = obedient(setup);
    world.up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("write work note mine"), "written");
    let session = world.session("ada");
    world.container(&session).expect("it waits for more").kill();
    world.wait_no_containers();
    // As the process runtime of an older host did, and with a trap in it.
    let secret = world.aside().join("secret");
    std::fs::write(&secret, "root's").unwrap();
    let (out, work) = (session.folder.join("out"), session.folder.join("work"));
    std::os::unix::fs::symlink(&secret, work.join("link")).unwrap();
    std::fs::hard_link(&secret, work.join("second name")).unwrap();
    for folder in [&out, &work] {
        for entry in std::fs::read_dir(folder).unwrap() {
            std::os::unix::fs::lchown(entry.unwrap().path(), Some(0), Some(0)).unwrap();
        }
    }
    assert_eq!(chat.ask("write work note again"), "written");
    assert_eq!(std::fs::metadata(&secret).unwrap().uid(), 0);
    std::fs::remove_file(work.join("second name")).unwrap();
    world.assert_fsck_clean();
}
