//! The `slack` channel: a workspace that keeps Slack's published rules, with a person as the witness of what
//! everybody sees.

mod crashes;

use serde_json::{Value, json};
use twobox_tests::slack::{APP_TOKEN, BOT, BOT_TOKEN, Fault, Rules, SlackServer};
use twobox_tests::{Runtime, Setup, World, wait_for};

use crate::approvals::{asks, decisions, tea};
use crate::scripts::echo;

/// An installation whose agent `ada` is in a workspace, with somebody to talk to.
pub(crate) struct Place {
    pub(crate) slack: SlackServer,
    pub(crate) world: World,
    pub(crate) me: String,
}

impl Place {
    /// Makes it, without a host.
    #[track_caller]
    pub(crate) fn make(script: Value) -> Self {
        let slack = SlackServer::start(Rules::default());
        let me = slack.person("Me");
        let world = Setup::new(Runtime::Process).agent("ada", script).make();
        world.set_secret("slack-bot", BOT_TOKEN);
        world.set_secret("slack-app", APP_TOKEN);
        let place = Self { slack, world, me };
        place.set("");
        place
    }

    /// Sets the channel, and `more`.
    pub(crate) fn set(&self, more: &str) {
        let path = self.world.data().join("twobox.toml");
        let before = std::fs::read_to_string(&path).unwrap();
        let before = before.split("[channels.slack]").next().unwrap();
        let section = format!(
            "{before}[channels.slack]\nkind = \"slack\"\napi = \"{}/api\"\nsenders = \"open\"\nbot_token_secret = \"slack-bot\"\n\
             app_token_secret = \"slack-app\"\n{more}",
            self.slack.url()
        );
        std::fs::write(path, section).unwrap();
    }

    /// As [`Place::make`], with a host that runs and a conversation of the two alone, which is wired.
    #[track_caller]
    pub(crate) fn up(script: Value) -> (Self, String) {
        let place = Self::make(script);
        let chat = place.slack.direct(&place.me);
        place.world.up();
        place.wire(&chat);
        place.wait_state("up");
        (place, chat)
    }

    #[track_caller]
    pub(crate) fn wire(&self, chat: &str) {
        self.world.twobox(&["wire", "add", "ada", "slack", chat]);
    }

    pub(crate) fn say(&self, chat: &str, text: &str) -> String {
        self.slack.say(&self.me, chat, text)
    }

    /// Says something and waits for the echo.
    #[track_caller]
    pub(crate) fn ask(&self, chat: &str, text: &str) -> Value {
        self.say(chat, text);
        self.slack.wait_said(chat, &format!("echo: {text}"))
    }

    /// What `twobox status` has of the channel.
    pub(crate) fn state(&self) -> Option<String> {
        let status = self.world.status()?;
        status["channels"]["slack"]["state"].as_str().map(str::to_owned)
    }

    #[track_caller]
    pub(crate) fn wait_state(&self, state: &str) {
        wait_for(&format!("the channel to be {state}"), || (self.state()? == state).then_some(()));
    }

    /// The texts of what the agent was told in all conversations, in the order of each.
    pub(crate) fn heard(&self) -> Vec<String> {
        let content = |content: &str| serde_json::from_str::<Value>(content).unwrap();
        let sessions = self.world.sessions().into_iter().filter(|it| it.agent == "ada");
        let messages = sessions.flat_map(|session| session.messages());
        messages
            .map(|message| content(&message.content)["text"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[test]
fn a_conversation_is_heard_from_when_an_agent_is_wired_and_its_own_word_is_answered_by_nobody() {
    let place = Place::make(echo());
    let chat = place.slack.direct(&place.me);
    place.world.up();
    place.wait_state("up");
    place.say(&chat, "too early");
    let line = format!("`twobox wire add AGENT slack {chat}`");
    wait_for("the operator to be told how", || {
        place.world.host_log().contains(&line).then_some(())
    });
    place.wire(&chat);
    place.say(&chat, "hello **you** <https://x.example/|there>");
    place.slack.wait_said(&chat, "echo: hello *you* there (https://x.example/)");
    for number in 0..5 {
        place.ask(&chat, &format!("again {number}"));
    }
    place.slack.wait_acknowledged();
    let session = place.world.session("ada");
    session.wait_settled();
    assert_eq!(place.slack.said(&chat).len(), 6, "each once: {:?}", place.slack.texts(&chat));
    let content: Value = serde_json::from_str(&session.messages()[0].content).unwrap();
    let (about, me) = (&content["about"], &place.me);
    assert_eq!((&content["sender"], &about["sender_id"]), (&json!("Me"), &json!(me)));
    assert_eq!(about["group"], false);
    assert_eq!(place.world.host_log().matches(&line).count(), 1, "it is told once");
    // What was said before stays unheard, also for the next life, which reads the history.
    place.world.stop_host();
    place.world.up();
    place.ask(&chat, "after");
    assert!(!place.heard().contains(&"too early".to_owned()), "{:?}", place.heard());
    let log = place.world.host_log();
    assert!(!log.contains(BOT_TOKEN) && !log.contains(APP_TOKEN), "a token is in the log");
}

#[test]
fn a_channel_is_heard_with_its_threads_and_who_is_named_is_called_so() {
    let place = Place::make(echo());
    let other = place.slack.person("Grace");
    let chat = place.slack.channel("general", &[&place.me, &other]);
    place.world.up();
    place.wire(&chat);
    place.wait_state("up");
    let said = place.say(&chat, &format!("<@{BOT}> tell <@{other}> &lt;b&gt;"));
    place.slack.wait_said(&chat, "echo: @bot tell @Grace &lt;b&gt;");
    let text = format!("<@{BOT}> and here");
    place.slack.reply(&place.me, &chat, &said, &text);
    let answer = place.slack.wait_said(&chat, "echo: @bot and here");
    assert_eq!(answer["thread_ts"], said.as_str(), "what is said in a thread is answered there");
    let session = place.world.session("ada");
    session.wait_settled();
    let messages = session.messages();
    assert_eq!(messages.len(), 2, "an event of each kind is one message");
    let content: Value = serde_json::from_str(&messages[0].content).unwrap();
    assert_eq!(
        (&content["about"]["group"], &content["about"]["mentioned"]),
        (&json!(true), &json!(true))
    );
    assert!(messages[0].id.ends_with(&said), "{}", messages[0].id);
    // A word to the host, which cannot begin with a slash on Slack.
    place.say(&chat, &format!("<@{BOT}> !status"));
    place.slack.wait_count(&chat, 3);
    assert_eq!(session.messages().len(), 3);
}

#[test]
fn answers_go_into_threads_where_that_is_set_and_show_that_somebody_is_at_it() {
    let place = Place::make(crate::scripts::slow(3_000));
    place.set("answers = \"thread\"\ngroups = \"always\"\n");
    let chat = place.slack.channel("general", &[&place.me]);
    place.world.up();
    place.wire(&chat);
    place.wait_state("up");
    let said = place.say(&chat, &format!("<@{BOT}> hello"));
    let answer = place.slack.wait_said(&chat, "echo: @bot hello");
    assert_eq!(answer["thread_ts"], said.as_str());
    place.slack.reply(&place.me, &chat, &said, &format!("<@{BOT}> /new"));
    place.slack.reply(&place.me, &chat, &said, "slow answer");
    wait_for("what is under way to be shown", || {
        let is_shown = |(thread, status): &(String, String)| *thread == said && !status.is_empty();
        place.slack.statuses().iter().any(is_shown).then_some(())
    });
}

#[test]
fn a_pause_that_slack_wants_is_waited_for_and_a_no_is_told() {
    let (place, chat) = Place::up(echo());
    place.slack.fault("chat.postMessage", Fault::Busy(2));
    place.ask(&chat, "later");
    assert_eq!(place.slack.count("chat.postMessage", "ratelimited"), 1, "it is not pressed");
    place.slack.archive(&chat);
    place.say(&chat, "nobody may answer");
    place.slack.wait_asked("chat.postMessage", "is_archived", 1);
    wait_for("the failure", || {
        place.world.twobox(&["dead", "list"]).contains("is_archived").then_some(())
    });
}

#[test]
fn files_are_shared_once_and_what_slack_does_not_take_is_named() {
    let script = json!({ "otherwise": [
        { "file": { "name": "plan.txt", "text": "the plan" } }, { "reply": "here it is" },
    ] });
    let (place, chat) = Place::up(script);
    // Slack has shared it and does not say so: it is known by its name.
    place.slack.fault("files.completeUploadExternal", Fault::Silent);
    place.say(&chat, "the plan, please");
    place.slack.wait_count(&chat, 2);
    place.world.session("ada").wait_settled();
    let shared = |said: &[Value]| -> Vec<Value> {
        said.iter().filter_map(|it| it["files"].as_array().cloned()).flatten().collect()
    };
    wait_for("the files to be delivered", || {
        let said = place.slack.said(&chat);
        let files = shared(&said);
        let [file] = &files[..] else { return None };
        (place.slack.file(file["id"].as_str()?)? == b"the plan").then_some(())
    });
    place
        .slack
        .fault("files.getUploadURLExternal", Fault::Says("file_upload_size_restricted".to_owned()));
    place.say(&chat, "again");
    let why = "Slack refuses it (file_upload_size_restricted)";
    place.slack.wait_said(&chat, &format!("Not sent:\n• `plan.txt`: {why}"));
    assert_eq!(shared(&place.slack.said(&chat)).len(), 1);
}

#[test]
fn a_question_has_buttons_that_count_once_and_then_show_what_was_answered() {
    let (place, chat) = Place::up(asks(&tea()));
    place.say(&chat, "ask");
    let question = wait_for("the question", || {
        let said = place.slack.said(&chat);
        said.into_iter().find(|it| it["blocks"][1]["type"] == "actions")
    });
    let value = question["blocks"][1]["elements"][1]["value"].as_str().unwrap().to_owned();
    let ts = question["ts"].as_str().unwrap();
    // Two clicks before anything is shown of the first.
    place.slack.press(&place.me, &chat, ts, &value);
    place.slack.press(&place.me, &chat, ts, &value);
    place.slack.wait_message(&chat, ts, |it| it["blocks"][1]["type"] == "context");
    let shown = place.slack.message(&chat, ts).unwrap()["blocks"][1].to_string();
    assert!(shown.contains("black") && shown.contains(&place.me), "{shown}");
    place.slack.wait_acknowledged();
    place.world.session("ada").wait_settled();
    assert_eq!(decisions(&place.world.session("ada")).len(), 1);
    place.ask(&chat, "after");
}

#[test]
fn doctor_says_who_the_bot_is_and_what_is_missing() {
    let place = Place::make(echo());
    let doctor = |place: &Place| {
        let said = String::from_utf8(place.world.run(&["--json", "doctor"]).stdout).unwrap();
        let said: Value = serde_json::from_str(&said).unwrap();
        let checks = said["checks"].as_array().unwrap().clone();
        let mut ours = checks.into_iter().filter(|it| it["check"] == "slack channel");
        ours.next().unwrap_or_else(|| panic!("{said}")).to_string()
    };
    let good = doctor(&place);
    assert!(good.contains("it is @bot in the workspace Stand-in"), "{good}");
    assert!(!good.contains("without the scope"), "{good}");
    place.slack.rule(|rules| rules.without = vec!["im:history".to_owned()]);
    let lacks = doctor(&place);
    assert!(lacks.contains("without the scope im:history"), "{lacks}");
    place.world.set_secret("slack-app", "xapp-other");
    let wrong = doctor(&place);
    assert!(wrong.contains("connections:write") && !wrong.contains("xapp-other"), "{wrong}");
    place.world.set_secret("slack-bot", "xapp-stand-in");
    let swapped = doctor(&place);
    assert!(swapped.contains("begins with \\\"xoxb-\\\""), "{swapped}");
}
