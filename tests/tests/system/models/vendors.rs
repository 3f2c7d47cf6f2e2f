//! What agents have that a vendor's real program answers: tools that a person has to allow, the host's tools, and
//! servers of MCP.

use std::fs;

use serde_json::{Value, json};
use twobox_tests::models::{ModelServer, Step};
use twobox_tests::{Chat, Setup, World, cli, on_process, wait_for};

use super::{KEY, LONG, set_secret, towards};
use crate::approvals::prompt;

on_process!(
    a_shell_of_claude_code_waits_for_a_person_also_for_what_only_looks,
    what_a_person_denies_claude_code_is_not_done_and_its_model_is_told,
    a_server_of_claude_code_runs_in_the_program_folder_and_may_have_to_ask,
    a_runner_that_dies_while_claude_code_waits_asks_no_second_time,
    a_command_of_codex_waits_for_a_person_and_one_that_is_denied_is_not_run,
    a_patch_of_codex_is_shown_before_it_is_applied,
    codex_has_the_hosts_tools_and_may_say_nothing,
    a_model_that_codex_knows_is_told_of_servers_by_a_search,
    a_tool_of_the_host_waits_for_a_person_where_it_has_to,
    a_server_of_codex_runs_in_the_program_folder_and_may_have_to_ask,
    a_required_server_that_does_not_start_costs_a_turn_and_no_conversation,
    what_is_denied_to_codex_is_not_there,
    a_permission_for_a_tool_that_nobody_has_is_refused,
);

const RUN: &str = "echo ran >> runs.txt";

/// A server that says where it runs, and with what.
pub(super) const SERVER: &str = r#"
import json, os, sys
def tool(name):
    return {"name": name, "description": name, "inputSchema": {"type": "object"}}
for line in sys.stdin:
    asked = json.loads(line)
    method, id = asked["method"], asked.get("id")
    if id is None:
        continue
    if method == "initialize":
        result = {"protocolVersion": asked["params"]["protocolVersion"], "capabilities": {"tools": {}},
                  "serverInfo": {"name": "notes", "version": "1"}}
    elif method == "tools/list":
        result = {"tools": [tool("look"), tool("drop"), tool("burn")]}
    elif method == "tools/call":
        name = asked["params"]["name"]
        text = f"{name} in {os.getcwd()} with {os.environ.get('OWN')} and {os.environ.get('AGENTS')}"
        result = {"content": [{"type": "text", "text": text}]}
    else:
        print(json.dumps({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no"}}), flush=True)
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": id, "result": result}), flush=True)
"#;

/// An installation in which the program `kind` answers for `ada`, with more in `provider` and in her configuration;
/// `None` where there is no such program.
pub(super) fn up(
    setup: Setup,
    server: &ModelServer,
    kind: &str,
    own: Value,
    more: Value,
) -> Option<World> {
    let (secret, model) = match kind {
        "claude" => ("anthropic", "anthropic/claude-x"),
        _ => ("openai", "openai/gpt-x"),
    };
    let setup = setup.setting("containers.clis", cli(kind)?.display());
    let world = towards(setup, server).make();
    set_secret(&world, secret, KEY);
    world.twobox(&["agents", "add", "ada", "--provider", kind, "--model", model]);
    let mut provider = json!({"kind": kind, "model": model});
    let mut config = json!({"limits": {"memory_mb": 2048}});
    for (into, from) in [(&mut provider, own), (&mut config, more)] {
        for (name, value) in from.as_object().unwrap() {
            into[name] = value.clone();
        }
    }
    config["provider"] = provider;
    world.configure_agent("ada", &config);
    fs::write(world.data().join("programs/ada/notes.py"), SERVER).unwrap();
    world.up();
    Some(world)
}

pub(super) fn notes() -> Value {
    json!({"notes": {"command": ["/usr/bin/python3", "notes.py"], "env": {"OWN": "its own"}}})
}

pub(super) fn bash(line: &str) -> Step {
    Step::call("Bash", json!({"command": line}))
}

pub(super) fn shell(line: &str) -> Step {
    Step::call("exec_command", json!({"cmd": line}))
}

pub(super) fn work(world: &World) -> std::path::PathBuf {
    world.session("ada").folder.join("work")
}

pub(super) fn prompts(chat: &Chat) -> Vec<String> {
    chat.letters()
        .into_iter()
        .map(|it| it.text)
        .filter(|it| it.contains("The agent asks"))
        .collect()
}

/// Waits for the prompt number `count`, and says it and its code.
pub(super) fn nth_prompt(chat: &Chat, count: usize) -> (String, String) {
    let prompt = wait_for("a prompt", || prompts(chat).into_iter().nth(count - 1));
    let code = prompt[1..5].to_owned();
    (prompt, code)
}

/// What was said to the model in request `number`, counted from 0.
pub(super) fn told(server: &ModelServer, number: usize) -> String {
    server.wait_ended(number + 1)[number].body.to_string()
}

fn a_shell_of_claude_code_waits_for_a_person_also_for_what_only_looks(setup: Setup) {
    let server = ModelServer::start();
    let own = json!({"tools": {"Bash": "ask"}});
    let Some(world) = up(setup, &server, "claude", own, json!({})) else { return };
    server.script(vec![bash("ls"), bash(RUN), Step::text("done")]);
    let chat = world.chat("ada");
    let id = chat.say("do it");
    let (looks, code) = nth_prompt(&chat, 1);
    assert!(looks.contains("Bash") && looks.contains("ls"), "{looks}");
    chat.say(&format!("{code} 1"));
    let (runs, code) = nth_prompt(&chat, 2);
    assert!(runs.contains(RUN), "{runs}");
    assert!(!work(&world).join("runs.txt").exists() && server.requests().len() == 2, "it waits");
    chat.say(&format!("{code} 1"));
    assert_eq!(chat.wait_answer_within(LONG, &id).text, "done");
    assert_eq!(fs::read_to_string(work(&world).join("runs.txt")).unwrap(), "ran\n");
    assert_eq!((server.wait_ended(3).len(), prompts(&chat).len()), (3, 2));
    world.assert_fsck_clean();
}

fn what_a_person_denies_claude_code_is_not_done_and_its_model_is_told(setup: Setup) {
    let server = ModelServer::start();
    let own = json!({"tools": {"Bash(echo *)": "ask", "Write": "ask"}});
    let Some(world) = up(setup, &server, "claude", own, json!({})) else { return };
    let write = Step::call("Write", json!({"file_path": "b.txt", "content": "b"}));
    server.script(vec![bash("touch a.txt"), bash(RUN), write, Step::text("I may not")]);
    let chat = world.chat("ada");
    let id = chat.say("do it");
    for count in [1, 2] {
        let (_, code) = nth_prompt(&chat, count);
        world.twobox(&["approvals", "deny", &code]);
    }
    assert_eq!(chat.wait_answer_within(LONG, &id).text, "I may not");
    let told = told(&server, 3);
    assert!(told.contains("A person denied the use of") && told.contains("Nothing was done"));
    let made = |name: &str| work(&world).join(name).exists();
    assert!(made("a.txt"), "no rule is for this");
    assert!(!made("runs.txt") && !made("b.txt"));
}

fn a_server_of_claude_code_runs_in_the_program_folder_and_may_have_to_ask(setup: Setup) {
    let server = ModelServer::start();
    let tools = json!({"mcp__notes__drop": "ask", "mcp__notes__burn": "deny"});
    let own = json!({"mcp": notes(), "tools": tools});
    let more = json!({"environment": {"AGENTS": "the agent's"}});
    let Some(world) = up(setup, &server, "claude", own, more) else { return };
    let call = |name: &str| Step::call(name, json!({}));
    server.script(vec![call("mcp__notes__look"), call("mcp__notes__drop"), Step::text("done")]);
    let chat = world.chat("ada");
    let id = chat.say("do it");
    let (prompt, code) = nth_prompt(&chat, 1);
    assert!(prompt.contains("mcp__notes__drop"), "{prompt}");
    let looked = told(&server, 1);
    assert!(looked.contains("programs/ada with its own and the agent's"), "{looked}");
    assert!(!looked.contains("mcp__notes__burn"), "it is not told of what is denied");
    chat.say(&format!("{code} 1"));
    assert_eq!(chat.wait_answer_within(LONG, &id).text, "done");
    assert!(told(&server, 2).contains("drop in "));
}

fn a_runner_that_dies_while_claude_code_waits_asks_no_second_time(setup: Setup) {
    let server = ModelServer::start();
    let own = json!({"tools": {"Bash": "ask"}});
    let Some(world) = up(setup, &server, "claude", own, json!({})) else { return };
    server.script(vec![bash(RUN), bash(RUN), Step::text("done")]);
    let chat = world.chat("ada");
    let id = chat.say("do it");
    let (_, code) = prompt(&chat);
    world.wait_container(&world.session("ada")).kill();
    server.wait_ended(2);
    world.twobox(&["approvals", "approve", &code]);
    assert_eq!(chat.wait_answer_within(LONG, &id).text, "done");
    assert_eq!(fs::read_to_string(work(&world).join("runs.txt")).unwrap(), "ran\n");
    assert_eq!(prompts(&chat).len(), 1);
}

fn a_command_of_codex_waits_for_a_person_and_one_that_is_denied_is_not_run(setup: Setup) {
    let server = ModelServer::start();
    let own = json!({"tools": {"shell": "ask"}});
    let Some(world) = up(setup, &server, "codex", own, json!({})) else { return };
    server.script(vec![shell(RUN), shell("ls > seen.txt"), Step::text("one of two")]);
    let chat = world.chat("ada");
    let id = chat.say("do it");
    let (runs, code) = nth_prompt(&chat, 1);
    assert!(runs.contains("shell") && runs.contains(RUN), "{runs}");
    assert!(!work(&world).join("runs.txt").exists() && server.requests().len() == 1, "it waits");
    chat.say(&format!("{code} 1"));
    let (_, code) = nth_prompt(&chat, 2);
    chat.say(&format!("{code} 2"));
    assert_eq!(chat.wait_answer_within(LONG, &id).text, "one of two");
    assert_eq!(fs::read_to_string(work(&world).join("runs.txt")).unwrap(), "ran\n");
    assert!(!work(&world).join("seen.txt").exists());
    let told = told(&server, 2);
    assert!(told.contains("rejected by user"), "{told}");
    assert!(told.contains("[from the host]") && told.contains("Nothing was done"), "{told}");
    let tools = server.requests()[0].body["tools"].to_string();
    assert!(!tools.contains("\"tty\""), "nothing is typed into what runs: {tools}");
    // Another process opens the thread, and asks as this one did.
    world.wait_container(&world.session("ada")).kill();
    server.script(vec![shell(RUN), Step::text("again")]);
    let id = chat.say("once more");
    let (_, code) = nth_prompt(&chat, 3);
    chat.say(&format!("{code} 1"));
    assert_eq!(chat.wait_answer_within(LONG, &id).text, "again");
    world.assert_fsck_clean();
}

fn a_patch_of_codex_is_shown_before_it_is_applied(setup: Setup) {
    let server = ModelServer::start();
    let own = json!({"tools": {"apply_patch": "ask"}});
    let Some(world) = up(setup, &server, "codex", own, json!({})) else { return };
    let patch = |name: &str| {
        let patch = format!("*** Begin Patch\n*** Add File: {name}\n+hello\n*** End Patch\n");
        shell(&format!("apply_patch <<'EOF'\n{patch}EOF\n"))
    };
    server.script(vec![shell(RUN), patch("p.txt"), patch("q.txt"), Step::text("patched")]);
    let chat = world.chat("ada");
    let id = chat.say("do it");
    let (shown, code) = nth_prompt(&chat, 1);
    assert!(shown.contains("apply_patch") && shown.contains("p.txt"), "{shown}");
    assert!(shown.contains("|   hello"), "{shown}");
    let made = |name: &str| work(&world).join(name).exists();
    assert!(made("runs.txt") && !made("p.txt"), "a command is allowed");
    chat.say(&format!("{code} 1"));
    let (_, code) = nth_prompt(&chat, 2);
    chat.say(&format!("{code} 2"));
    assert_eq!(chat.wait_answer_within(LONG, &id).text, "patched");
    assert!(made("p.txt") && !made("q.txt"));
}

fn codex_has_the_hosts_tools_and_may_say_nothing(setup: Setup) {
    let server = ModelServer::start();
    let Some(world) = up(setup, &server, "codex", json!({}), json!({})) else { return };
    let task = json!({"prompt": "look", "recurrence": "hourly 00"});
    server.script(vec![
        Step::call("mcp__twobox/send_message", json!({"to": "terminal", "text": "at once"})),
        Step::call("mcp__twobox/schedule_task", task),
        Step::text("it is planned"),
        Step::call("mcp__twobox/say_nothing", json!({})),
        Step::text("hush"),
    ]);
    let chat = world.chat("ada");
    chat.say("plan it");
    let heard = |text: &str| chat.letters().iter().filter(|letter| letter.text == text).count();
    wait_for("the answer", || (heard("it is planned") > 0).then_some(()));
    let tools = server.requests()[0].body["tools"].to_string();
    assert!(tools.contains("send_message") && tools.contains("cancel_task"), "{tools}");
    let told = told(&server, 2);
    assert!(told.contains("It was sent."), "{told}");
    assert_eq!((heard("at once"), heard("it is planned")), (1, 1));
    let session = world.session("ada");
    wait_for("the task", || session.messages().into_iter().find(|message| message.kind == "task"));
    let id = chat.say("not a word");
    session.wait_status(&id, "completed");
    assert_eq!(heard("hush"), 0);
}

fn a_model_that_codex_knows_is_told_of_servers_by_a_search(setup: Setup) {
    let server = ModelServer::start();
    let own = json!({"model": "openai/gpt-5.5"});
    let Some(world) = up(setup, &server, "codex", own, json!({})) else { return };
    let list = Step::call("mcp__twobox/list_destinations", json!({}));
    server.script(vec![list, Step::text("to you")]);
    let chat = world.chat("ada");
    assert_eq!(chat.ask("where to?"), "to you");
    let tools = server.requests()[0].body["tools"].to_string();
    assert!(tools.contains("\"tool_search\"") && !tools.contains("list_destinations"), "{tools}");
    let told = told(&server, 1);
    assert!(told.contains("\"text\":\"terminal\""), "{told}");
}

fn a_tool_of_the_host_waits_for_a_person_where_it_has_to(setup: Setup) {
    let server = ModelServer::start();
    let own = json!({"tools": {"schedule_task": "ask", "send_file": "deny"}});
    let Some(world) = up(setup, &server, "codex", own, json!({})) else { return };
    let task = || {
        let task = json!({"prompt": "look", "recurrence": "hourly 00"});
        Step::call("mcp__twobox/schedule_task", task)
    };
    server.script(vec![task(), task(), Step::text("one of two")]);
    let chat = world.chat("ada");
    let id = chat.say("plan it");
    let (shown, code) = nth_prompt(&chat, 1);
    assert!(shown.contains("schedule_task") && shown.contains("hourly 00"), "{shown}");
    let tools = server.requests()[0].body["tools"].to_string();
    assert!(!tools.contains("send_file") && tools.contains("until a person has allowed it"));
    chat.say(&format!("{code} 2"));
    let (_, code) = nth_prompt(&chat, 2);
    chat.say(&format!("{code} 1"));
    assert_eq!(chat.wait_answer_within(LONG, &id).text, "one of two");
    let tasks = || {
        let messages = world.session("ada").messages();
        messages.into_iter().filter(|message| message.kind == "task").count()
    };
    wait_for("the task", || (tasks() > 0).then_some(()));
    assert_eq!(tasks(), 1);
}

fn a_server_of_codex_runs_in_the_program_folder_and_may_have_to_ask(setup: Setup) {
    let server = ModelServer::start();
    let tools = json!({"mcp__notes__drop": "ask", "mcp__notes__burn": "deny"});
    let own = json!({"mcp": notes(), "tools": tools});
    let more = json!({"environment": {"AGENTS": "the agent's"}});
    let Some(world) = up(setup, &server, "codex", own, more) else { return };
    let call = |name: &str| Step::call(&format!("mcp__notes/{name}"), json!({}));
    server.script(vec![call("look"), call("drop"), call("drop"), Step::text("done")]);
    let chat = world.chat("ada");
    let id = chat.say("do it");
    let (prompt, code) = nth_prompt(&chat, 1);
    assert!(prompt.contains("mcp__notes__drop"), "{prompt}");
    let looked = told(&server, 1);
    assert!(looked.contains("programs/ada with its own and the agent's"), "{looked}");
    assert!(!looked.contains("burn"), "it is not told of what is denied");
    chat.say(&format!("{code} 1"));
    let (_, code) = nth_prompt(&chat, 2);
    chat.say(&format!("{code} 2"));
    assert_eq!(chat.wait_answer_within(LONG, &id).text, "done");
    let told = told(&server, 3);
    assert_eq!(told.matches("drop in ").count(), 1, "{told}");
    server.script(vec![call("look"), Step::text("still there")]);
    let id = chat.say("once more");
    assert_eq!(chat.wait_answer_within(LONG, &id).text, "still there");
    let told = server.wait_ended(6)[5].body.to_string();
    assert_eq!(told.matches("look in ").count(), 2, "it lives on between turns: {told}");
}

fn a_required_server_that_does_not_start_costs_a_turn_and_no_conversation(setup: Setup) {
    let server = ModelServer::start();
    let mut mcp = notes();
    mcp["notes"]["required"] = json!(true);
    let own = json!({"mcp": mcp});
    let Some(world) = up(setup, &server, "codex", own, json!({})) else { return };
    server.script(vec![Step::text("one"), Step::text("two")]);
    let chat = world.chat("ada");
    assert_eq!(chat.ask("alpha centauri"), "one");
    world.wait_container(&world.session("ada")).kill();
    let program = world.data().join("programs/ada/notes.py");
    fs::write(&program, "raise SystemExit(3)").unwrap();
    let id = chat.say("beta hydri");
    let session = world.session("ada");
    wait_for("a try", || (session.message(&id).tries > 0).then_some(()));
    fs::write(&program, SERVER).unwrap();
    assert_eq!(chat.wait_answer_within(LONG, &id).text, "two");
    let input = told(&server, 1);
    assert!(input.contains("alpha centauri") && input.contains("beta hydri"), "{input}");
}

fn what_is_denied_to_codex_is_not_there(setup: Setup) {
    let server = ModelServer::start();
    let tools = json!({"shell": "deny", "view_image": "deny", "apply_patch": "deny"});
    let own = json!({"tools": tools});
    let Some(world) = up(setup, &server, "codex", own, json!({})) else { return };
    server.script(vec![shell(RUN), Step::text("I have none")]);
    let chat = world.chat("ada");
    assert_eq!(chat.ask("do it"), "I have none");
    let tools = server.requests()[0].body["tools"].to_string();
    assert!(!tools.contains("exec_command") && !tools.contains("view_image"), "{tools}");
    assert!(!work(&world).join("runs.txt").exists());
}

fn a_permission_for_a_tool_that_nobody_has_is_refused(setup: Setup) {
    let server = ModelServer::start();
    let world = towards(setup, &server).make();
    world.twobox(&["agents", "add", "ada", "--provider", "codex", "--model", "openai/gpt-x"]);
    let refused = world.run(&["agents", "set", "ada", "tools.Bash=ask"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let why = "provider.tools: there is no tool \"Bash\"; there are: shell, apply_patch";
    assert!(!refused.status.success() && said.contains(why), "{said}");
    world.twobox(&["agents", "set", "ada", "tools.shell=ask"]);
}
