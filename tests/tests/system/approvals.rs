//! What people are asked: shown in the order of the chat, decided once, by whoever sits there or at the
//! command line, and told to whoever asked.

use serde_json::{Value, json};
use twobox_tests::{Chat, Outbound, Session, Setup, World, on_both_runtimes, on_process, wait_for};

on_both_runtimes!(a_question_is_answered_by_its_number_and_wakes_whoever_asked);

on_process!(
    of_two_agents_in_a_chat_the_one_that_asked_hears_the_answer,
    a_permission_needs_its_code_and_counts_once,
    an_operator_decides_beside_the_host_about_what_was_shown,
    what_nobody_decides_is_denied_also_over_a_restart,
    what_is_asked_is_bounded_and_cannot_imitate_the_host,
);

/// Makes `request` when it is asked to, and repeats what the host answers.
pub(crate) fn asks(request: &Value) -> Value {
    json!({
        "rules": [
            { "match": "^ask", "do": [{ "reply": "as you wish" }, { "system": request }] },
            { "match": "^A person|^Nobody", "do": [{ "reply": "heard: {text}" }] },
        ],
        "otherwise": [{ "reply": "echo: {text}" }],
    })
}

pub(crate) fn tea() -> Value {
    json!({ "action": "ask", "question": "Which tea?", "choices": "green\nblack", "wake": true })
}

pub(crate) fn tool() -> Value {
    let arguments = "rm -rf build\n1. allow";
    json!({ "action": "ask_permission", "tool": "bash", "arguments": arguments, "wake": true })
}

/// The letter by which it is asked, and its code.
#[track_caller]
pub(crate) fn prompt(chat: &Chat) -> (Outbound, String) {
    let asks =
        |letter: &Outbound| letter.text.starts_with('[') && letter.text.contains("The agent asks");
    let prompt = wait_for("a prompt", || chat.letters().into_iter().find(asks));
    let code = prompt.text[1..5].to_owned();
    (prompt, code)
}

/// Waits for a letter that begins like this, and says all that do.
#[track_caller]
pub(crate) fn heard(chat: &Chat, begins: &str) -> Vec<String> {
    wait_for(&format!("{begins:?}"), || {
        let texts = chat.letters().into_iter().map(|letter| letter.text);
        let found: Vec<_> = texts.filter(|text| text.starts_with(begins)).collect();
        (!found.is_empty()).then_some(found)
    })
}

/// What the host told the agent of decisions.
pub(crate) fn decisions(session: &Session) -> Vec<Value> {
    let messages = session.messages().into_iter().filter(|message| message.kind == "system");
    let contents = messages.map(|message| serde_json::from_str(&message.content).unwrap());
    contents.filter(|content: &Value| !content["decision"].is_null()).collect()
}

fn listed(world: &World) -> Vec<Value> {
    let list: Value =
        serde_json::from_str(&world.twobox(&["--json", "approvals", "list", "--all"])).unwrap();
    list["approvals"].as_array().unwrap().clone()
}

fn a_question_is_answered_by_its_number_and_wakes_whoever_asked(setup: Setup) {
    let world = setup.agent("ada", asks(&tea())).up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("ask"), "as you wish");
    let (prompt, code) = prompt(&chat);
    assert!(
        prompt.text.contains("Which tea?") && prompt.text.contains("2. \"black\""),
        "{prompt:?}"
    );
    let order: Vec<_> = chat.letters().into_iter().map(|letter| letter.text).collect();
    assert_eq!(order, ["as you wish".to_owned(), prompt.text], "behind what was said before");
    let answer = chat.say("2");
    let told = chat.wait_answer(&answer);
    assert!(told.text.starts_with(&format!("[{code}]")) && told.text.contains("black"), "{told:?}");
    let heard = heard(&chat, "heard: A person answered");
    assert!(heard.len() == 1 && heard[0].ends_with("choice 2: black"), "{heard:?}");
    let session = world.session("ada");
    session.wait_settled();
    let told = &decisions(&session)[..];
    assert_eq!(told.len(), 1);
    assert_eq!(
        told[0]["decision"],
        json!({ "status": "answered", "choice": 2, "chosen": "black" })
    );
    assert_eq!(chat.ask("2"), "echo: 2", "nothing is asked any more, so it is a message");
    world.assert_fsck_clean();
}

fn of_two_agents_in_a_chat_the_one_that_asked_hears_the_answer(setup: Setup) {
    let setup = setup.agent("ada", asks(&tea()));
    let world = setup.agent("bob", json!({ "otherwise": [{ "reply": "bob: {text}" }] })).up();
    world.twobox(&["wire", "add", "bob", "terminal", "ada", "--name", "others"]);
    let chat = world.chat("ada");
    chat.say("ask");
    assert_eq!(heard(&chat, "bob: "), ["bob: ask"]);
    let (_, code) = prompt(&chat);
    let answer = chat.say("2");
    let told = chat.wait_answer(&answer).text;
    assert!(told.starts_with(&format!("[{code}]")) && told.contains("black"), "{told}");
    heard(&chat, "heard: A person answered");
    chat.say("thanks");
    wait_for("bob's answer", || (heard(&chat, "bob: ").len() > 1).then_some(()));
    assert_eq!(heard(&chat, "bob: "), ["bob: ask", "bob: thanks"], "it was no message to him");
    world.assert_fsck_clean();
}

fn a_permission_needs_its_code_and_counts_once(setup: Setup) {
    let world = setup.agent("ada", asks(&tool())).up();
    let chat = world.chat("ada");
    chat.ask("ask");
    let (prompt, code) = prompt(&chat);
    assert!(prompt.text.contains("\n  | 1. allow\n"), "an agent's line is a quote: {prompt:?}");
    let buttons = json!({ "code": code, "needs_code": true, "choices": ["allow", "deny"] });
    assert_eq!(prompt.prompt, buttons, "for a channel that can show more than text");
    let bare = chat.say("1");
    assert!(chat.wait_answer(&bare).text.contains(&format!("`{code} 1`")), "asks for the code");
    assert_eq!(listed(&world)[0]["status"], "pending");
    let first = chat.say(&format!("{code} 2"));
    assert!(chat.wait_answer(&first).text.contains("denied by the chat"));
    let second = chat.say(&format!("{code} 1"));
    let told = chat.wait_answer(&second).text;
    assert!(told.contains("decided before") && told.contains("denied by the chat"), "{told}");
    assert_eq!(listed(&world)[0]["status"], "denied");
    assert_eq!(heard(&chat, "heard: ").len(), 1);
    assert_eq!(decisions(&world.session("ada")).len(), 1);
}

fn an_operator_decides_beside_the_host_about_what_was_shown(setup: Setup) {
    let world = setup.agent("ada", asks(&tool())).up();
    let chat = world.chat("ada");
    chat.ask("ask");
    let (_, code) = prompt(&chat);
    assert!(world.twobox(&["status"]).contains("1 decision waits for a person"));
    let shown = world.twobox(&["approvals", "show", &code]);
    assert!(shown.contains("rm -rf build") && shown.contains("approvals approve"), "{shown}");
    let zeros = "0".repeat(64);
    let refused = |arguments: &[&str], why: &str| {
        let output = world.run(arguments);
        let reason = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && reason.contains(why), "{reason}");
    };
    refused(&["approvals", "approve", &code, "--digest", &zeros], "not what you were shown");
    refused(&["approvals", "answer", &code, "3"], "a yes or a no");
    refused(&["approvals", "approve", "zzzz"], "there is no approval");
    let done = world.twobox(&["approvals", "approve", &code]);
    assert!(done.contains("allowed by the operator"), "{done}");
    refused(&["approvals", "deny", &code], "decided before");
    assert_eq!(heard(&chat, "heard: A person allowed").len(), 1);
    let told = heard(&chat, &format!("[{code}] use of \"bash\": allowed"));
    assert_eq!(told.len(), 1, "the chat is told");
    world.session("ada").wait_settled();
    world.assert_fsck_clean();
}

fn what_nobody_decides_is_denied_also_over_a_restart(setup: Setup) {
    let setup = setup.setting("approvals.expire", "2s").setting("containers.idle", "300ms");
    let world = setup.agent("ada", asks(&tool())).up();
    let chat = world.chat("ada");
    chat.ask("ask");
    let (_, code) = prompt(&chat);
    world.kill_host();
    world.up();
    let heard = heard(&chat, "heard: Nobody decided");
    assert!(heard.len() == 1 && heard[0].contains("denied"), "{heard:?}");
    assert_eq!(listed(&world)[0]["status"], "expired");
    let late = chat.say(&format!("{code} 1"));
    assert!(chat.wait_answer(&late).text.contains("nobody answered in time"));
    assert_eq!(listed(&world)[0]["status"], "expired");
    world.assert_fsck_clean();
}

fn what_is_asked_is_bounded_and_cannot_imitate_the_host(setup: Setup) {
    let ask = |choices: &str| json!({ "system": { "action": "ask", "question": "\u{1b}[2Jq\n[abcd] fine", "choices": choices } });
    let mut steps = vec![ask("one"), ask("same\nSame"), ask("1\n2\n3\n4\n5\n6\n7\n8\n9")];
    steps.extend((0..10).map(|_| ask("yes\nno")));
    steps.push(json!({ "reply": "done" }));
    let script = json!({ "rules": [{ "match": "^ask", "do": steps }] });
    let world = setup.agent("ada", script).up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("ask"), "done");
    let session = world.session("ada");
    let is_refusal = |content: &str| content.contains("Refused: ask");
    wait_for("five refusals: three make no sense, and two are too many", || {
        let messages = session.messages();
        let refused = messages.iter().filter(|message| is_refusal(&message.content)).count();
        (refused == 5).then_some(())
    });
    assert_eq!(listed(&world).len(), 8, "so many may wait in one conversation");
    for letter in chat.wait_letters(9).iter().filter(|letter| letter.text.starts_with('[')) {
        assert!(!letter.text.contains('\u{1b}') && letter.text.contains("\n  | [abcd] fine"));
    }
}
