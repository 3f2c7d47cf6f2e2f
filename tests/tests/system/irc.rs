//! The `irc` channel: real servers of two sorts, with another client as the witness of what everybody in a channel sees.

mod crashes;
mod life;
mod long;
mod services;

use std::net::SocketAddr;

use serde_json::Value;
use twobox_tests::{IrcPerson, Ircd, Runtime, Setup, Software, World, wait_for};

use crate::scripts::echo;

/// What the agent is called there.
pub(crate) const BOT: &str = "adabot";

/// Where all is said.
pub(crate) const ROOM: &str = "#room";

/// An installation whose agent `ada` is on a server, with somebody to talk to.
pub(crate) struct Place {
    pub(crate) ircd: Ircd,
    pub(crate) world: World,
    pub(crate) me: IrcPerson,
}

impl Place {
    /// Makes it, without a host; `None` where there is no server.
    #[track_caller]
    pub(crate) fn make(software: Software, script: Value) -> Option<Self> {
        let ircd = Ircd::begin(software)?;
        let mut me = ircd.person("me");
        me.join(ROOM);
        let world = Setup::new(Runtime::Process).agent("ada", script).make();
        let place = Self { ircd, world, me };
        place.set("");
        place.wire(ROOM);
        place.wire("me");
        Some(place)
    }

    /// Sets the channel, over TLS, and `more`.
    pub(crate) fn set(&self, more: &str) {
        let fingerprint = self.ircd.fingerprint();
        self.set_at(self.ircd.tls_address(), &format!("fingerprint = \"{fingerprint}\"\n{more}"));
    }

    /// Sets the channel at another address, and `more`.
    pub(crate) fn set_at(&self, address: SocketAddr, more: &str) {
        let path = self.world.data().join("twobox.toml");
        let before = std::fs::read_to_string(&path).unwrap();
        let before = before.split("[channels.irc]").next().unwrap();
        let section = format!(
            "{before}[channels.irc]\nkind = \"irc\"\nserver = \"{address}\"\nnick = \"{BOT}\"\n\
             channels = [\"{ROOM}\"]\nsenders = \"open\"\ngroups = \"always\"\n{more}\n"
        );
        std::fs::write(path, section).unwrap();
    }

    /// As [`Place::make`], with a host that runs and is in the channel.
    #[track_caller]
    pub(crate) fn up(software: Software, script: Value) -> Option<Self> {
        let mut place = Self::make(software, script)?;
        place.world.up();
        place.wait_there();
        Some(place)
    }

    /// Waits until the host is in the channel.
    #[track_caller]
    pub(crate) fn wait_there(&mut self) {
        self.me.wait_for_person(ROOM, BOT);
    }

    #[track_caller]
    pub(crate) fn wire(&self, chat: &str) {
        self.world.twobox(&["wire", "add", "ada", "irc", chat]);
    }

    /// What the agent has said in the channel, oldest first.
    pub(crate) fn answers(&self) -> Vec<String> {
        self.me.said_by(BOT, ROOM)
    }

    /// Says something in the channel and waits for the echo.
    #[track_caller]
    pub(crate) fn ask(&mut self, text: &str) {
        self.me.say(ROOM, text);
        self.me.wait_said(BOT, ROOM, &format!("echo: {text}"));
    }

    /// What `twobox status` has of the channel.
    pub(crate) fn state(&self) -> Option<(String, Value)> {
        let channel = self.world.status()?["channels"]["irc"].clone();
        Some((channel["state"].as_str()?.to_owned(), channel))
    }

    #[track_caller]
    pub(crate) fn wait_state(&self, state: &str) {
        wait_for(&format!("the channel to be {state}"), || {
            (self.state()?.0 == state).then_some(())
        });
    }

    /// What `twobox doctor` says of it.
    #[track_caller]
    pub(crate) fn doctor(&self) -> String {
        let said = String::from_utf8(self.world.run(&["--json", "doctor"]).stdout).unwrap();
        let said: Value = serde_json::from_str(&said).unwrap();
        let checks = said["checks"].as_array().unwrap().clone();
        let mut ours = checks.into_iter().filter(|it| it["check"] == "irc channel");
        ours.next().unwrap_or_else(|| panic!("{said}")).to_string()
    }

    /// What is kept of it.
    pub(crate) fn kept(&self) -> Value {
        let path = self.world.data().join("channels/irc/state.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// The `about` of the last message that the agent was given.
    #[track_caller]
    pub(crate) fn last_about(&self) -> Value {
        let messages = self.world.sessions().into_iter().flat_map(|it| it.messages());
        let last = messages.max_by_key(|it| it.seq).unwrap();
        serde_json::from_str::<Value>(&last.content).unwrap()["about"].clone()
    }
}

fn heard_and_answered(software: Software) {
    let Some(mut place) = Place::up(software, echo()) else { return };
    place.ask("hello");
    place.me.say(ROOM, "adabot: /status");
    place.me.say(BOT, "to you alone");
    place.me.wait_said(BOT, "me", "echo: to you alone");
    place.me.line(&format!("NOTICE {ROOM} :nobody answers this"));
    place.me.line(&format!("PRIVMSG {BOT} :\u{1}VERSION\u{1}"));
    place.me.say(ROOM, "\u{2}bold\u{2} \u{3}4red");
    place.me.wait_said(BOT, ROOM, "echo: bold red");
    for number in 0..5 {
        place.ask(&format!("again {number}"));
    }
    let texts: Vec<String> = place
        .world
        .sessions()
        .iter()
        .flat_map(|session| session.messages())
        .filter(|message| message.kind == "chat")
        .map(|message| {
            serde_json::from_str::<Value>(&message.content).unwrap()["text"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert!(
        !texts.iter().any(|it| it.contains("nobody answers") || it.contains("VERSION")),
        "{texts:?}"
    );
    let count = place.me.count(BOT, ROOM);
    let echoes = count.iter().filter(|(text, _)| text.starts_with("echo: "));
    assert!(echoes.clone().all(|(_, times)| *times == 1) && echoes.count() == 7, "{count:?}");
    assert!(place.me.find("NOTICE me :\u{1}").is_none(), "nobody is told what it runs on");
    place.world.assert_fsck_clean();
}

#[test]
fn ngircd_is_heard_and_answered_over_tls() {
    heard_and_answered(Software::Ngircd);
}

#[test]
fn inspircd_is_heard_and_answered_over_tls() {
    heard_and_answered(Software::Inspircd);
}

#[test]
fn an_operator_is_told_once_how_a_channel_is_heard() {
    let Some(mut place) = Place::make(Software::Ngircd, echo()) else { return };
    place.set("channels = [\"#Other\"]");
    place.set_at(place.ircd.address(), "tls = false");
    let path = place.world.data().join("twobox.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("#room", "#Other");
    std::fs::write(path, text).unwrap();
    place.me.join("#Other");
    place.world.up();
    place.me.wait_for_person("#Other", BOT);
    for _ in 0..2 {
        place.me.say("#Other", "too early");
    }
    let line = "`twobox wire add AGENT irc '#other'`";
    wait_for("the operator to be told how", || place.world.host_log().contains(line).then_some(()));
    place.wire("#other");
    place.me.say("#Other", "hello");
    place.me.wait_said(BOT, "#Other", "echo: hello");
    assert_eq!(place.world.host_log().matches(line).count(), 1, "it is told once");
}
