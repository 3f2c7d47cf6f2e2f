//! The `telegram` channel: chats with a bot, with a stand-in for Telegram that keeps the published rules and is the
//! witness of what everybody in a chat sees.

mod crashes;
mod groups;
mod questions;
mod trouble;

use serde_json::{Value, json};
use twobox_tests::telegram::{Order, TOKEN, Telegram};
use twobox_tests::{Runtime, Setup, World, wait_for};

use crate::scripts::echo;

/// Who speaks with the bot.
pub(crate) const ME: i64 = 42;

/// An installation whose agent `ada` is a bot of Telegram's.
pub(crate) struct Place {
    pub(crate) telegram: Telegram,
    pub(crate) world: World,
}

impl Place {
    /// Makes it, without a host.
    #[track_caller]
    pub(crate) fn make(script: Value) -> Self {
        let telegram = Telegram::start();
        let world = Setup::new(Runtime::Process).agent("ada", script).make();
        let path = world.data().join("twobox.toml");
        let before = std::fs::read_to_string(&path).unwrap();
        let url = telegram.url();
        let section = format!(
            "{before}[channels.telegram]\nkind = \"telegram\"\napi = \"{url}\"\nsenders = \"open\"\ntoken_secret = \"telegram\"\n"
        );
        std::fs::write(path, section).unwrap();
        world.set_secret("telegram", TOKEN);
        Self { telegram, world }
    }

    /// As [`Place::make`], with a host that runs and listens to my chat.
    #[track_caller]
    pub(crate) fn up(script: Value) -> Self {
        let place = Self::make(script);
        place.wire(ME);
        place.world.up();
        place.wait_state("up");
        place
    }

    #[track_caller]
    pub(crate) fn wire(&self, chat: i64) {
        self.world.twobox(&["wire", "add", "ada", "telegram", &chat.to_string()]);
    }

    /// Says something in my chat and waits for the echo.
    #[track_caller]
    pub(crate) fn ask(&self, text: &str) -> Value {
        self.telegram.say(ME, text);
        self.telegram.wait_said(ME, &format!("echo: {text}"))
    }

    /// What `twobox status` has of the channel.
    pub(crate) fn state(&self) -> Option<Value> {
        Some(self.world.status()?["channels"]["telegram"].clone())
    }

    #[track_caller]
    pub(crate) fn wait_state(&self, state: &str) -> Value {
        wait_for(&format!("the channel to be {state}"), || {
            self.state().filter(|it| it["state"] == state)
        })
    }

    /// What is kept of it.
    pub(crate) fn kept(&self) -> Value {
        let path = self.world.data().join("channels/telegram/state.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// What doctor says of it.
    pub(crate) fn doctor(&self) -> String {
        let said = String::from_utf8(self.world.run(&["--json", "doctor"]).stdout).unwrap();
        let said: Value = serde_json::from_str(&said).unwrap();
        let checks = said["checks"].as_array().unwrap().clone();
        let mut ours = checks.into_iter().filter(|it| it["check"] == "telegram channel");
        ours.next().unwrap_or_else(|| panic!("{said}")).to_string()
    }

    /// Shows that the token is nowhere that anybody reads.
    #[track_caller]
    pub(crate) fn assert_token_unseen(&self) {
        let secret = TOKEN.split_once(':').unwrap().1;
        let status = self.world.status().unwrap_or_default().to_string();
        for (what, text) in
            [("log", self.world.host_log()), ("status", status), ("doctor", self.doctor())]
        {
            assert!(!text.contains(secret), "the token is in the {what}");
        }
        let found = std::process::Command::new("grep")
            .args(["-rl", secret])
            .arg(self.world.data())
            .output()
            .unwrap();
        let files = String::from_utf8(found.stdout).unwrap();
        let elsewhere: Vec<&str> =
            files.lines().filter(|file| !file.contains("/secrets")).collect();
        assert!(elsewhere.is_empty(), "the token is in {elsewhere:?}");
    }
}

#[test]
fn a_chat_is_heard_from_when_an_agent_is_wired_and_answers_come_in_their_order() {
    let place = Place::make(echo());
    place.world.up();
    place.telegram.say(ME, "/start");
    let line = format!("`twobox wire add AGENT telegram {ME}`");
    wait_for("the operator to be told how", || {
        place.world.host_log().contains(&line).then_some(())
    });
    place.wire(ME);
    place.telegram.say(ME, "hello **you**");
    let answer = place.telegram.wait_said(ME, "echo: hello you");
    assert_eq!(answer["entities"], json!([{ "type": "bold", "offset": 12, "length": 3 }]));
    assert!(answer.get("reply_to_message").is_none(), "who is alone quotes nobody");
    for number in 0..4 {
        place.ask(&format!("again {number}"));
    }
    let session = place.world.session("ada");
    session.wait_settled();
    assert_eq!(place.telegram.texts(ME).len(), 5, "{:?}", place.telegram.texts(ME));
    let messages = session.messages();
    assert_eq!(messages.len(), 5, "what was said to nobody was not kept");
    let content: Value = serde_json::from_str(&messages[0].content).unwrap();
    let about = &content["about"];
    assert_eq!((&content["sender"], &about["sender_id"]), (&json!("Person 42"), &json!("42")));
    assert_eq!(about["group"], false);
    assert!(
        messages[0].id.contains(&format!("{ME}:")),
        "the platform's own id: {}",
        messages[0].id
    );
    assert_eq!(place.world.host_log().matches(&line).count(), 1, "it is told once");
    let typed = place.telegram.calls("sendChatAction");
    assert!(typed.iter().all(|it| it["action"] == "typing" && it["chat_id"] == ME), "{typed:?}");
    wait_for("everything to be confirmed", || (place.telegram.pending() == 0).then_some(()));
    place.assert_token_unseen();
}

#[test]
fn a_long_answer_comes_in_parts_that_fit_at_the_pace_that_is_wanted() {
    let paragraph = "A sentence of an answer that is **long** with `code` and 😀.\n\n";
    let long = paragraph.repeat(400);
    let script = json!({
        "rules": [{ "match": "^long", "do": [{ "reply": long }] }],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let place = Place::up(script);
    place.telegram.say(ME, "long");
    wait_for("all parts", || {
        let words = place.telegram.texts(ME).concat().matches("sentence").count();
        (words == 400).then_some(())
    });
    place.world.session("ada").wait_settled();
    let texts = place.telegram.texts(ME);
    assert!(texts.len() >= 6, "{}", texts.len());
    let whole: Vec<String> = texts.join("\n\n").lines().map(str::to_owned).collect();
    let expected: Vec<String> =
        long.trim().replace("**", "").replace('`', "").lines().map(str::to_owned).collect();
    assert_eq!(whole, expected, "nothing is lost, and nothing is there twice");
    let asked = place.telegram.calls("sendMessage");
    assert_eq!(asked.len(), texts.len(), "none was refused for coming too soon");
}

#[test]
fn files_leave_as_photos_and_documents_and_what_cannot_is_named() {
    let file = |name: &str, text: &str| json!({ "file": { "name": name, "text": text } });
    let script = json!({ "otherwise": [
        { "reply": "here" }, file("plan.txt", "the plan"), file("empty.txt", ""), file("no.png", "x"),
    ] });
    let place = Place::up(script);
    place.telegram.say(ME, "files please");
    wait_for("the files", || {
        let shown = place.telegram.shown();
        (shown.iter().filter(|it| it.get("document").is_some()).count() == 2).then_some(())
    });
    place.world.session("ada").wait_settled();
    let shown = place.telegram.shown();
    let document = |name: &str| shown.iter().find(|it| it["document"]["file_name"] == name);
    assert_eq!(document("plan.txt").unwrap()["_content"], "the plan");
    assert!(document("no.png").is_some(), "what is no photo is a file");
    let told = place.telegram.texts(ME);
    assert!(told.iter().any(|text| text.contains("empty.txt: it is empty")), "{told:?}");
}

#[test]
fn a_file_that_somebody_sends_is_beside_their_message() {
    let place = Place::up(echo());
    place.telegram.order(Order::Put { id: "F1".to_owned(), content: "the plan".to_owned() });
    let document = |id: &str, name: &str| {
        json!({ "text": null, "caption": "look", "document": {
            "file_id": id, "file_unique_id": id, "file_name": name, "file_size": 8,
        } })
    };
    place.telegram.say_in(ME, ME, "", document("F1", "../plan.txt"));
    place.telegram.wait_said(ME, "echo: look");
    place.telegram.say_in(ME, ME, "", document("F2", "gone.txt"));
    let session = place.world.session("ada");
    wait_for("the other message", || (session.messages().len() == 2).then_some(()));
    let content = |index: usize| -> Value {
        serde_json::from_str(&session.messages()[index].content).unwrap()
    };
    assert_eq!(content(0)["files"], json!(["plan.txt"]));
    let found = std::process::Command::new("grep")
        .args(["-rl", "the plan"])
        .arg(place.world.data().join("sessions"))
        .output()
        .unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(found.lines().any(|path| path.ends_with("/plan.txt")), "{found}");
    let text = content(1)["text"].as_str().unwrap().to_owned();
    assert!(text.contains("a file did not come with it: gone.txt"), "{text}");
}

#[test]
fn doctor_says_whose_bot_it_is_and_what_is_wrong_with_it() {
    let place = Place::make(echo());
    let good = place.doctor();
    assert!(good.contains("@two_box_bot") && good.contains("/setprivacy"), "{good}");
    place.world.set_secret("telegram", "7001:another-token-of-it");
    let wrong = place.doctor();
    assert!(
        wrong.contains("does not know the token") && wrong.contains("secrets set telegram"),
        "{wrong}"
    );
    assert!(!wrong.contains("another-token"), "{wrong}");
    place.world.set_secret("telegram", "hunter2");
    let none = place.doctor();
    assert!(none.contains("is no token of a bot") && !none.contains("hunter2"), "{none}");
}
