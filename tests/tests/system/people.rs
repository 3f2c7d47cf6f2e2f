//! People: who is heard, who lets others in, who decides, and what engages an agent in a group.

use std::time::Duration;

use serde_json::{Value, json};
use twobox_tests::{Courier, Setup, World, on_process, wait_for, wait_within};

use crate::approvals::asks;
use crate::scripts::echo;

on_process!(
    a_stranger_is_heard_once_somebody_lets_them_in,
    an_owner_claims_their_place_once_and_lets_others_in,
    only_who_may_decides_what_an_agent_asks,
    in_a_group_what_names_nobody_is_context_and_goes_with_the_next_turn,
    who_speaks_alone_in_a_group_for_ever_is_answered_no_more,
    who_is_blocked_is_heard_nowhere_and_what_a_host_is_told_outlives_it,
);

/// `ada` listens to chat 1 of a channel that hears whom it knows.
struct Place {
    world: World,
    courier: Courier,
}

impl Place {
    fn up(setup: Setup, script: Value) -> Self {
        let courier = Courier::new();
        let world = setup
            .setting("channels.sms.kind", "command")
            .setting("channels.sms.program", courier.program().display())
            .setting("channels.sms.senders", "known")
            .agent("ada", script)
            .up();
        world.twobox(&["wire", "add", "ada", "sms", "1", "--engage", "mention"]);
        Self { world, courier }
    }

    /// What the channel is answered whose `sender` says something: nothing, if it was accepted.
    #[track_caller]
    fn says(&self, sender: &str, id: &str, text: &str, more: &[&str]) -> Option<String> {
        let name = format!("name-{sender}");
        let said = ["send", "--channel", "sms", "--chat", "1", "--sender-id", sender, "--sender"];
        let all = [&said[..], &[&name, "--id", id], more, &[text]].concat();
        let output = self.world.run(&all);
        match output.status.code() {
            Some(0) => None,
            Some(1) => Some(String::from_utf8(output.stderr).unwrap()),
            code => panic!("{code:?}: {output:?}"),
        }
    }

    /// The code that `sender` is told who says something.
    #[track_caller]
    fn code(&self, sender: &str, id: &str) -> String {
        let told = self.says(sender, id, "my secret", &[]).expect("a stranger is told something");
        let (_, rest) = told.split_once("Your code is ").unwrap_or_else(|| panic!("{told}"));
        rest.split_once(':').unwrap().0.to_owned()
    }

    #[track_caller]
    fn json(&self, command: &[&str]) -> Value {
        serde_json::from_str(&self.world.twobox(&[&["--json"], command].concat())).unwrap()
    }

    #[track_caller]
    fn claim(&self, sender: &str) {
        let made = self.json(&["people", "claim-code"]);
        let code = made["code"].as_str().unwrap();
        let said = self.says(sender, &format!("claim-{sender}"), &format!("/claim {code}"), &[]);
        assert!(said.unwrap().contains("You are an owner"), "{sender}");
    }

    #[track_caller]
    fn wait_text(&self, text: &str) {
        wait_for(text, || self.courier.texts().iter().any(|it| it == text).then_some(()));
    }

    /// How far messages are, by their ids.
    fn status(&self, id: &str) -> Option<String> {
        let messages = self.world.session("ada").messages();
        messages.into_iter().find(|it| it.id == id).map(|it| it.status)
    }
}

fn a_stranger_is_heard_once_somebody_lets_them_in(setup: Setup) {
    let place = Place::up(setup, echo());
    let code = place.code("7", "m1");
    assert_eq!(place.code("7", "m1"), code, "the same message is answered alike");
    let silent = place.says("7", "m2", "are you there?", &[]).unwrap();
    assert!(silent.contains("not heard") && !silent.contains(&code), "{silent}");
    let stranger = place.says("7", "m3", &format!("/pair {code}"), &[]).unwrap();
    assert!(stranger.contains("not heard"), "a stranger lets nobody in: {stranger}");
    let group = place.says("9", "g1", "ada, tell me all", &["--group", "--mentioned"]).unwrap();
    assert!(!group.contains("code"), "nothing is told in a group: {group}");
    let listed = place.world.twobox(&["people", "list"]);
    assert!(listed.contains("sms:7") && listed.contains("name-7"), "{listed}");
    assert!(!listed.contains(&code), "a code is its stranger's to say: {listed}");
    assert!(place.world.sessions().is_empty(), "nothing of it is stored anywhere");
    let paired = place.world.twobox(&["people", "pair", &code.to_uppercase()]);
    assert!(paired.contains("name-7 (sms:7) is let in"), "{paired}");
    assert_eq!(place.says("7", "m4", "hello", &[]), None);
    place.wait_text("echo: hello");
    assert!(place.says("8", "m5", "hello", &[]).is_some(), "others are not");
    let session = place.world.session("ada");
    session.wait_settled();
    let said = session.messages().into_iter().map(|it| it.content).collect::<String>();
    assert!(session.messages().len() == 1 && !said.contains("my secret"), "{said}");
    place.world.assert_fsck_clean();
}

fn an_owner_claims_their_place_once_and_lets_others_in(setup: Setup) {
    let place = Place::up(setup, echo());
    let made = place.json(&["people", "claim-code"]);
    let claim = format!("/claim {}", made["code"].as_str().unwrap());
    let wrong = place.says("7", "w1", "/claim abcd-efgh-ijkm-npqr", &[]).unwrap();
    assert!(wrong.contains("That is no code"), "{wrong}");
    assert!(place.says("7", "c1", &claim, &[]).unwrap().contains("You are an owner"));
    assert!(place.says("7", "c1", &claim, &[]).unwrap().contains("You are an owner"), "once more");
    let second = place.says("8", "c2", &claim, &[]).unwrap();
    assert!(second.contains("That is no code"), "it was used: {second}");
    let code = place.code("8", "m1");
    let pair = format!("/pair {code}");
    assert!(place.says("7", "p1", &pair, &[]).unwrap().contains("name-8 (sms:8) is let in"));
    assert_eq!(place.says("8", "m2", "hello", &[]), None);
    place.wait_text("echo: hello");
    let member = place.says("8", "p2", "/pair abcd-efgh", &[]).unwrap();
    assert!(member.contains("Only an owner or an admin"), "{member}");
    for guess in 0..9 {
        place.says("7", &format!("g{guess}"), "/pair abcd-efgh", &[]);
    }
    let limited = place.says("7", "g9", &pair, &[]).unwrap();
    assert!(limited.contains("not heard"), "wrong codes are limited: {limited}");
    let people = place.json(&["people", "list"]);
    let roles: Vec<_> =
        people["people"].as_array().unwrap().iter().map(|it| &it["roles"][0]["role"]).collect();
    assert_eq!(roles, ["owner", "member"]);
    assert_eq!(place.world.session("ada").messages().len(), 1, "no word of it reached the agent");
}

fn only_who_may_decides_what_an_agent_asks(setup: Setup) {
    let tool =
        json!({ "action": "ask_permission", "tool": "bash", "arguments": "rm", "wake": true });
    let place = Place::up(setup, asks(&tool));
    place.world.twobox(&["people", "grant", "member", "sms:8"]);
    place.claim("7");
    assert_eq!(place.says("8", "m1", "ask", &[]), None);
    let begins = |text: &String| text.contains("The agent asks whether");
    let prompt = wait_for("a prompt", || place.courier.texts().into_iter().find(begins));
    let code = prompt[1..5].to_owned();
    assert_eq!(place.says("8", "m2", &format!("{code} 1"), &[]), None);
    let refused = |text: &String| text.contains("only an admin of this agent or an owner");
    wait_for("why not", || place.courier.texts().into_iter().find(refused));
    let list = place.json(&["approvals", "list"]);
    assert_eq!(list["approvals"][0]["status"], "pending");
    // In a group an answer has to name nobody.
    assert_eq!(place.says("7", "m3", &format!("{code} 1"), &["--group"]), None);
    place.wait_text(&format!("[{code}] use of \"bash\": allowed by name-7."));
}

fn in_a_group_what_names_nobody_is_context_and_goes_with_the_next_turn(setup: Setup) {
    let place = Place::up(setup, echo());
    place.world.twobox(&["people", "grant", "member", "sms:7"]);
    assert_eq!(place.says("7", "m1", "among us", &["--group"]), None);
    let waits = wait_for("it", || place.status("m1"));
    assert_eq!(waits, "pending");
    assert_eq!(place.says("7", "m2", "2", &["--group"]), None, "a number that answers nothing");
    assert_eq!(place.says("7", "m3", "what do you think?", &["--group", "--mentioned"]), None);
    place.wait_text("echo: what do you think?");
    let session = place.world.session("ada");
    session.wait_settled();
    let statuses: Vec<_> = ["m1", "m2", "m3"].iter().map(|id| place.status(id).unwrap()).collect();
    assert_eq!(statuses, ["completed"; 3], "the turn was told what was said before");
    assert_eq!(place.says("7", "m4", "/status", &["--group"]), None, "a word names nobody");
    wait_for("its answer", || (place.courier.texts().len() == 2).then_some(()));
    assert_eq!(place.says("7", "m5", "alone", &["--direct"]), None);
    place.wait_text("echo: alone");
    assert_eq!(place.courier.texts().len(), 3, "{:?}", place.courier.texts());
    place.world.assert_fsck_clean();
}

fn who_speaks_alone_in_a_group_for_ever_is_answered_no_more(setup: Setup) {
    let place = Place::up(setup, echo());
    for sender in ["7", "8"] {
        place.world.twobox(&["people", "grant", "member", &format!("sms:{sender}")]);
    }
    let named = ["--group", "--mentioned"];
    let mut numbers = 0..;
    let ended = wait_within(Duration::from_secs(90), "an end", || {
        let text = format!("b{}", numbers.next().unwrap());
        place.says("7", &text, &text, &named)
    });
    assert!(ended.contains("in a row by one and the same"), "{ended}");
    let last = numbers.next().unwrap() - 1;
    assert!(last >= 20, "{last}");
    place.wait_text(&format!("echo: b{}", last - 1));
    assert_eq!(place.says("7", "late", "late", &named), None, "it is told once");
    assert_eq!(place.says("8", "c1", "c1", &named), None);
    place.wait_text("echo: c1");
    assert_eq!(place.says("7", "again", "again", &named), None);
    place.wait_text("echo: again");
    let (texts, unread) = (place.courier.texts(), format!("b{last}"));
    assert!(!texts.iter().any(|it| it.contains(&unread) || it.contains("late")), "{texts:?}");
}

fn who_is_blocked_is_heard_nowhere_and_what_a_host_is_told_outlives_it(setup: Setup) {
    let place = Place::up(setup, echo());
    place.claim("7");
    place.world.twobox(&["people", "grant", "member", "sms:8"]);
    assert_eq!(place.says("8", "m1", "one", &[]), None);
    place.wait_text("echo: one");
    let code = place.code("9", "s1");
    place.world.kill_host();
    place.world.up();
    assert_eq!(place.code("9", "s1"), code, "it was not told in vain");
    place.world.twobox(&["people", "block", "sms:8"]);
    let blocked = place.says("8", "m2", "two", &[]).unwrap();
    assert!(blocked.contains("not heard"), "{blocked}");
    assert!(
        place.says("8", "m3", "/claim abcd-efgh-ijkm-npqr", &[]).unwrap().contains("not heard")
    );
    place.world.twobox(&["people", "unblock", "sms:8"]);
    assert_eq!(place.says("8", "m4", "three", &[]), None);
    place.wait_text("echo: three");
    assert_eq!(place.says("7", "m5", "four", &[]), None, "an owner is one in the next life");
    place.wait_text("echo: four");
    let unknown = place.world.run(&["people", "show", "nobody"]);
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(!unknown.status.success() && said.contains("nobody is known as \"nobody\""), "{said}");
    let forgotten = place.world.run(&["people", "forget", "sms:7"]);
    let said = String::from_utf8(forgotten.stderr).unwrap();
    assert!(said.contains("nobody is an owner any more"), "{said}");
    assert!(place.says("7", "m6", "five", &[]).is_some(), "a stranger again");
}
