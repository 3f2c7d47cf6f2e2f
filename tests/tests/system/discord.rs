//! The `discord` channel, with the stand-in as the platform and as the witness of what everybody there sees.

mod crashes;
mod gateway;
mod sending;

use serde_json::{Value, json};
use twobox_tests::discord::{Discord, Options};
use twobox_tests::{Runtime, Setup, World, wait_for};

use crate::scripts::echo;

/// An installation whose agent `ada` is on Discord, with somebody to talk to.
pub(crate) struct Place {
    pub(crate) discord: Discord,
    pub(crate) world: World,
    /// A channel of a server.
    pub(crate) channel: String,
}

impl Place {
    /// Makes it, without a host.
    #[track_caller]
    pub(crate) fn make(options: Options, script: Value) -> Self {
        let discord = Discord::start_with(options);
        let world = Setup::new(Runtime::Process).agent("ada", script).make();
        let path = world.data().join("twobox.toml");
        let before = std::fs::read_to_string(&path).unwrap();
        let section = format!(
            "{before}\n[channels.chat]\nkind = \"discord\"\ntoken_secret = \"discord\"\nsenders = \"open\"\napi = \"{}\"\n",
            discord.url()
        );
        std::fs::write(path, section).unwrap();
        world.set_secret("discord", &discord.token());
        let channel = discord.channel();
        Self { discord, world, channel }
    }

    /// As [`Place::make`], with a host that runs and hears the channel.
    #[track_caller]
    pub(crate) fn up(script: Value) -> Self {
        Self::up_with(Options::default(), script)
    }

    #[track_caller]
    pub(crate) fn up_with(options: Options, script: Value) -> Self {
        let place = Self::make(options, script);
        place.wire(&place.channel);
        place.start();
        place
    }

    /// Starts a host, and waits until it listens.
    #[track_caller]
    pub(crate) fn start(&self) {
        self.world.up();
        self.wait_state("up");
    }

    #[track_caller]
    pub(crate) fn wire(&self, channel: &str) {
        self.world.twobox(&["wire", "add", "ada", "chat", channel]);
    }

    /// Says something to the bot and waits for the echo.
    #[track_caller]
    pub(crate) fn ask(&self, channel: &str, text: &str) -> Value {
        self.say(channel, text);
        self.discord.wait_said(channel, &format!("echo: {text}"))
    }

    /// Says something to the bot.
    pub(crate) fn say(&self, channel: &str, text: &str) -> String {
        let named = format!("<@{}> {text}", self.discord.bot());
        self.discord.say(channel, &named)
    }

    /// What the bot has said in the channel, oldest first.
    #[track_caller]
    pub(crate) fn answers(&self) -> Vec<String> {
        self.discord.answers(&self.channel)
    }

    #[track_caller]
    pub(crate) fn wait_state(&self, state: &str) {
        wait_for(&format!("the channel to be {state}"), || {
            (self.health()?["state"].as_str()? == state).then_some(())
        });
    }

    /// What `twobox status` has of the channel.
    pub(crate) fn health(&self) -> Option<Value> {
        Some(self.world.status()?["channels"]["chat"].clone())
    }

    /// What `twobox doctor` says of it.
    pub(crate) fn doctor(&self) -> String {
        let said = String::from_utf8(self.world.run(&["--json", "doctor"]).stdout).unwrap();
        let said: Value = serde_json::from_str(&said).unwrap();
        let checks = said["checks"].as_array().unwrap().clone();
        let mut ours = checks.into_iter().filter(|it| it["check"] == "chat channel");
        ours.next().unwrap_or_else(|| panic!("{said}")).to_string()
    }
}

/// What an agent was told of each message.
fn told(world: &World) -> Vec<Value> {
    let content = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    world.session("ada").messages().into_iter().map(|message| content(message.content)).collect()
}

#[test]
fn a_channel_is_heard_from_when_an_agent_is_wired_and_bots_are_heard_by_nobody() {
    let place = Place::make(Options::default(), echo());
    place.start();
    place.say(&place.channel, "too early");
    let line = format!("`twobox wire add AGENT chat {}`", place.channel);
    wait_for("the operator to be told how", || {
        place.world.host_log().contains(&line).then_some(())
    });
    place.wire(&place.channel);
    place.discord.say_as(&place.discord.other_bot(), &place.channel, "a bot speaks");
    let answer = place.ask(&place.channel, "hello **you**");
    let asked = place.discord.messages(&place.channel).into_iter().rev().nth(1).unwrap();
    assert_eq!(answer["message_reference"]["message_id"], asked["id"], "it says what it answers");
    assert_eq!(answer["mentions"], json!([]), "it rings nobody's bell");
    for number in 0..5 {
        place.ask(&place.channel, &format!("again {number}"));
    }
    place.world.session("ada").wait_settled();
    let said = place.answers();
    assert_eq!(said.len(), 6, "in their order, each once, and none to its own word: {said:?}");
    let told = told(&place.world);
    assert_eq!(told.len(), 6);
    let about = &told[0]["about"];
    assert_eq!((&told[0]["text"], &told[0]["sender"]), (&json!("hello **you**"), &json!("me")));
    assert_eq!(about["sender_id"], place.discord.me());
    assert_eq!((&about["group"], &about["mentioned"]), (&json!(true), &json!(true)));
    assert!(about["sent_at"].is_string() || about["sent_at"].is_i64(), "{about}");
    assert_eq!(place.world.host_log().matches(&line).count(), 1, "it is told once");
}

#[test]
fn a_direct_chat_is_one_and_quotes_nobody() {
    let place = Place::up(echo());
    let direct = place.discord.direct();
    place.wire(&direct);
    place.discord.say(&direct, "psst");
    let answer = place.discord.wait_said(&direct, "echo: psst");
    assert!(answer.get("message_reference").is_none(), "who is alone quotes nobody");
    assert_eq!(told(&place.world)[0]["about"]["group"], false);
}

#[test]
fn a_thread_is_a_thread_of_the_channel_that_it_belongs_to() {
    let place = Place::make(Options::default(), echo());
    place.world.twobox(&[
        "wire",
        "add",
        "ada",
        "chat",
        &place.channel,
        "--session-mode",
        "per-thread",
    ]);
    place.start();
    let thread = place.discord.make_thread(&place.channel);
    place.ask(&thread, "in the thread");
    place.ask(&place.channel, "beside it");
    assert_eq!(place.discord.answers(&thread), ["echo: in the thread"], "it stays there");
    assert_eq!(place.answers(), ["echo: beside it"]);
    let session = place.world.session_in("ada", &thread);
    assert_eq!(session.messages().len(), 1, "a conversation of its own");
}

#[test]
fn doctor_says_which_bot_it_is_and_what_is_wrong_with_it() {
    let place = Place::make(Options { may_read: false, ..Options::default() }, echo());
    let closed = place.doctor();
    assert!(closed.contains("Message Content Intent"), "{closed}");
    place.discord.let_read(true);
    let open = place.doctor();
    assert!(open.contains("the bot twobox") && open.contains("it is let in"), "{open}");
    place.world.set_secret("discord", "another");
    let wrong = place.doctor();
    assert!(wrong.contains("does not know the token"), "{wrong}");
    assert!(wrong.contains("twobox secrets set discord"), "{wrong}");
    place.world.twobox(&["secrets", "remove", "discord"]);
    let missing = place.doctor();
    assert!(missing.contains("twobox secrets set discord"), "{missing}");
}

#[test]
fn a_token_is_shown_to_nobody_and_what_is_kept_is_the_owners_alone() {
    let place = Place::up(echo());
    place.ask(&place.channel, "one");
    place.world.stop_host();
    assert!(!place.world.host_log().contains(&place.discord.token()), "it is in the log");
    let found = std::process::Command::new("find")
        .arg(place.world.data().join("channels"))
        .args(["-type", "f"])
        .output()
        .unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    assert_eq!(found.lines().count(), 1, "{found}");
    let kept = std::fs::read_to_string(found.trim()).unwrap();
    assert!(!kept.contains(&place.discord.token()), "it is kept");
    let open = std::process::Command::new("find")
        .arg(place.world.data().join("channels"))
        .args(["-perm", "/077"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(open.stdout).unwrap(), "", "it is open to others");
}
