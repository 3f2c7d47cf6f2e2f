//! The `matrix` channel: real rooms of a real homeserver, with another account as the witness of what everybody
//! in the room sees.

mod crashes;
mod rooms;

use std::io::Write;

use serde_json::{Value, json};
use twobox_tests::{Pace, Person, Runtime, Setup, Synapse, World, wait_for};

use crate::scripts::echo;

/// An installation whose agent `ada` is on a homeserver, with somebody to talk to.
pub(crate) struct Place {
    pub(crate) synapse: Synapse,
    pub(crate) world: World,
    pub(crate) me: Person,
    /// The account of the host.
    pub(crate) bot: String,
}

impl Place {
    /// Makes it, without a host; `None` where there is no homeserver.
    #[track_caller]
    pub(crate) fn make(pace: Pace, script: Value) -> Option<Self> {
        let synapse = Synapse::begin(pace)?;
        let (me, bot) = (synapse.person("me"), synapse.person("bot"));
        let world = Setup::new(Runtime::Process).agent("ada", script).make();
        let place = Self { synapse, world, me, bot: bot.id.clone() };
        place.set("");
        let mut given = place.world.spawn(&["secrets", "set", "matrix"]);
        given.stdin.take().unwrap().write_all(b"password-bot\n").unwrap();
        assert!(given.wait().unwrap().success());
        Some(place)
    }

    /// Sets the channel, and `more`.
    pub(crate) fn set(&self, more: &str) {
        let path = self.world.data().join("twobox.toml");
        let before = std::fs::read_to_string(&path).unwrap();
        let before = before.split("[channels.matrix]").next().unwrap();
        let (url, bot, me) = (self.synapse.url(), &self.bot, &self.me.id);
        let section = format!(
            "{before}[channels.matrix]\nkind = \"matrix\"\nhomeserver = \"{url}\"\nuser = \"{bot}\"\n\
             password_secret = \"matrix\"\nsenders = [\"{me}\"]\n{more}"
        );
        std::fs::write(path, section).unwrap();
    }

    /// As [`Place::make`], with a host that runs and a room in which the two are alone, which is wired.
    #[track_caller]
    pub(crate) fn up(pace: Pace, script: Value) -> Option<(Self, String)> {
        let place = Self::make(pace, script)?;
        place.world.up();
        let room = place.meet();
        place.wire(&room);
        Some((place, room))
    }

    /// Makes a room, and waits until the account is in it.
    #[track_caller]
    pub(crate) fn meet(&self) -> String {
        let room = self.me.make_room(&[&self.bot], &json!({ "is_direct": true }));
        self.me.wait_for_person(&room, &self.bot);
        room
    }

    #[track_caller]
    pub(crate) fn wire(&self, room: &str) {
        self.world.twobox(&["wire", "add", "ada", "matrix", room]);
    }

    /// What the account has said, oldest first.
    #[track_caller]
    pub(crate) fn answers(&self, room: &str) -> Vec<String> {
        self.me.said_by(room, &self.bot)
    }

    /// Says something and waits for the echo.
    #[track_caller]
    pub(crate) fn ask(&self, room: &str, text: &str) -> Value {
        self.me.say(room, text);
        self.me.wait_said(room, &self.bot, &format!("echo: {text}"))
    }

    /// What `twobox status` has of the channel.
    pub(crate) fn state(&self) -> Option<String> {
        let status = self.world.status()?;
        status["channels"]["matrix"]["state"].as_str().map(str::to_owned)
    }

    #[track_caller]
    pub(crate) fn wait_state(&self, state: &str) {
        wait_for(&format!("the channel to be {state}"), || (self.state()? == state).then_some(()));
    }

    /// What is kept of it.
    pub(crate) fn kept(&self) -> Value {
        let path = self.world.data().join("channels/matrix/state.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }
}

#[test]
fn a_room_is_heard_from_when_an_agent_is_wired_and_answers_are_answered_by_nobody() {
    let Some(place) = Place::make(Pace::Free, echo()) else { return };
    place.world.up();
    let room = place.meet();
    place.me.say(&room, "too early");
    let line = format!("`twobox wire add AGENT matrix '{room}'`");
    wait_for("the operator to be told how", || {
        place.world.host_log().contains(&line).then_some(())
    });
    place.wire(&room);
    let answer = place.ask(&room, "hello **you**");
    assert_eq!(answer["content"]["formatted_body"], "<p>echo: hello <strong>you</strong></p>");
    assert!(answer["content"].get("m.relates_to").is_none(), "who is alone quotes nobody");
    for number in 0..5 {
        place.ask(&room, &format!("again {number}"));
    }
    let session = place.world.session("ada");
    session.wait_settled();
    let said = place.answers(&room);
    assert_eq!(said.len(), 6, "in their order, each once, and none to its own word: {said:?}");
    assert_eq!(said[1..], (0..5).map(|number| format!("echo: again {number}")).collect::<Vec<_>>());
    assert_eq!(session.messages().len(), 6);
    let content: Value = serde_json::from_str(&session.messages()[0].content).unwrap();
    let (about, me) = (&content["about"], &place.me.id);
    assert_eq!((&content["sender"], &about["sender_id"]), (&json!("me"), &json!(me)));
    assert_eq!(about["group"], false);
    assert!(about["sent_at"].is_i64() || about["sent_at"].is_string(), "{content}");
    let id = session.messages()[0].id.clone();
    assert!(id.contains('$'), "the platform's own id: {id}");
    assert_eq!(place.world.host_log().matches(&line).count(), 1, "it is told once");
}

#[test]
fn one_device_is_used_for_ever_and_its_token_is_shown_to_nobody() {
    let Some((place, room)) = Place::up(Pace::Free, echo()) else { return };
    place.ask(&room, "one");
    let kept = place.kept();
    let token = kept["token"].as_str().unwrap().to_owned();
    place.world.stop_host();
    place.world.up();
    place.ask(&room, "two");
    assert_eq!(
        (&place.kept()["token"], &place.kept()["device_id"]),
        (&kept["token"], &kept["device_id"])
    );
    // Somebody logs the device out: the host logs in again, as the same.
    let logout = format!(
        "curl -fsS -X POST -H 'Authorization: Bearer {token}' {}/_matrix/client/v3/logout",
        place.synapse.url()
    );
    assert!(std::process::Command::new("sh").args(["-c", &logout]).status().unwrap().success());
    wait_for("another token", || (place.kept()["token"] != *token).then_some(()));
    place.ask(&room, "three");
    assert_eq!(place.kept()["device_id"], kept["device_id"]);
    let log = place.world.host_log();
    let other = place.kept()["token"].as_str().unwrap().to_owned();
    for secret in [token.as_str(), other.as_str(), "password-bot"] {
        assert!(!log.contains(secret), "it is in the log");
    }
    let mode = std::process::Command::new("find")
        .arg(place.world.data().join("channels"))
        .args(["-perm", "/077"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(mode.stdout).unwrap(), "", "it is open to others");
}

#[test]
fn doctor_says_whose_account_it_is_and_what_is_wrong_with_it() {
    let Some(place) = Place::make(Pace::Free, echo()) else { return };
    let doctor = |place: &Place| {
        let said = String::from_utf8(place.world.run(&["--json", "doctor"]).stdout).unwrap();
        let said: Value = serde_json::from_str(&said).unwrap();
        let checks = said["checks"].as_array().unwrap().clone();
        let mut ours = checks.into_iter().filter(|it| it["check"] == "matrix channel");
        ours.next().unwrap_or_else(|| panic!("{said}")).to_string()
    };
    let before = doctor(&place);
    assert!(
        before.contains(&place.bot) && before.contains("a host that starts logs in"),
        "{before}"
    );
    place.world.up();
    let room = place.meet();
    let up = doctor(&place);
    assert!(up.contains("it is let in, and in 1 rooms"), "{up}");
    let secret = json!({ "initial_state": [{
        "type": "m.room.encryption", "state_key": "",
        "content": { "algorithm": "m.megolm.v1.aes-sha2" },
    }] });
    let closed = place.me.make_room(&[&place.bot], &secret);
    place.me.wait_for_person(&closed, &place.bot);
    let warned = doctor(&place);
    assert!(warned.contains(&format!("encrypted rooms are not read: {closed}")), "{warned}");
    assert!(!warned.contains(&room), "{warned}");
    place.world.stop_host();
    place.world.twobox(&["secrets", "remove", "matrix"]);
    let missing = doctor(&place);
    assert!(missing.contains("twobox secrets set matrix"), "{missing}");
}
