use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use twobox_tests::{Pace, Person, Runtime, Synapse};

use super::Figure;
use crate::Error;
use crate::client::PATIENCE;
use crate::installation::Installation;
use crate::options::Options;
use crate::report::{Report, Row};
use crate::sample::Sample;

pub(crate) static FIGURE: Figure = Figure {
    name: "matrix",
    about: "a message in a room of a real homeserver, and its answer, beside a bot that does nothing else",
    measure,
};

/// How much longer than by the bare bot one message may take, and many at once.
const ONE_MAX: f64 = 1.25;
const MANY_MAX: f64 = 1.5;

/// How long until a room shows that somebody is at it, in milliseconds.
const SIGN_MAX: f64 = 300.0;

/// How many rooms speak at once.
const ROOMS: usize = 20;

/// What the agent of the sign of life does before it answers.
const SLOW_MS: u64 = 1500;

fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    let Some(synapse) = Synapse::begin(Pace::Free) else { return Ok(()) };
    let [me, bare, bot] = ["me", "bare", "bot"].map(|name| Arc::new(synapse.person(name)));
    let installation = installed(&synapse, &me, &bot)?;
    let host = installation.up()?;
    let many = options.size(ROOMS, 2);
    let bares = rooms(&me, &bare, many);
    bares.iter().for_each(|room| bare.join(room));
    let ours = rooms(&me, &bot, many);
    for room in &ours {
        me.wait_for_person(room, &bot.id);
        installation.twobox(&["wire", "add", "assistant", "matrix", room])?;
    }
    let slow = rooms(&me, &bot, 1).remove(0);
    me.wait_for_person(&slow, &bot.id);
    installation.twobox(&["wire", "add", "slow", "matrix", &slow])?;
    let answering = Loop::begin(Arc::clone(&bare), |bare, seen| {
        if let Seen::Said { room, text, .. } = seen {
            bare.say(&room, &format!("echo: {text}"));
        }
    });
    let (tell, heard) = channel();
    let listening = Loop::begin(Arc::clone(&me), move |_, seen| {
        tell.send((Instant::now(), seen)).ok(); // whoever listened has what it wanted
    });
    let watch = Watch { me: Arc::clone(&me), heard };
    for room in bares.iter().chain(&ours) {
        watch.trip(room, "warm-up")?;
    }
    let rounds = options.rounds.min(100);
    let (mut by_bare, mut by_us) = (Sample::default(), Sample::default());
    for round in 0..rounds {
        by_bare.add(watch.trip(&bares[0], &format!("one {round}"))?);
        by_us.add(watch.trip(&ours[0], &format!("one {round}"))?);
    }
    let (mut all_bare, mut all_us) = (Sample::default(), Sample::default());
    for round in 0..options.size(10, 1) {
        all_bare.add(watch.trips(&bares, &format!("all {round}"))?);
        all_us.add(watch.trips(&ours, &format!("all {round}"))?);
    }
    let mut sign = Sample::default();
    for round in 0..options.size(10, 1) {
        sign.add(watch.sign(&slow, &format!("slow {round}"))?);
    }
    let mut add = |row: Row| report.add(&FIGURE, row.on(Runtime::Process));
    add(Row::sample("said to answered", &by_us)
        .beside("a bare bot", by_bare.p50())
        .at_most(ONE_MAX * by_bare.p50()));
    add(Row::sample(format!("{many} rooms at once, until all are answered"), &all_us)
        .beside("a bare bot", all_bare.p50())
        .at_most(MANY_MAX * all_bare.p50()));
    add(Row::sample("said to a sign of life", &sign).at_most(SIGN_MAX));
    drop(host);
    listening.end();
    answering.end();
    Ok(())
}

fn installed(synapse: &Synapse, me: &Person, bot: &Person) -> Result<Installation, Error> {
    let mut installation = Installation::new(Runtime::Process)?;
    installation.set("SECRET_MATRIX", "password-bot");
    let script = json!({ "otherwise": [{ "sleep_ms": SLOW_MS }, { "reply": "done: {text}" }] });
    installation.twobox(&["agents", "add", "slow", "--provider", "scripted"])?;
    let data = installation.data();
    std::fs::write(data.join("programs/slow/script.json"), script.to_string())?;
    let file = data.join("twobox.toml");
    let before = std::fs::read_to_string(&file)?;
    let section = format!(
        "{before}\n[channels.matrix]\nkind = \"matrix\"\nhomeserver = \"{}\"\nuser = \"{}\"\n\
         password_secret = \"matrix\"\nsenders = [\"{}\"]\n",
        synapse.url(),
        bot.id,
        me.id
    );
    std::fs::write(file, section)?;
    Ok(installation)
}

fn rooms(me: &Person, with: &Person, count: usize) -> Vec<String> {
    let room = |_| me.make_room(&[&with.id], &json!({ "is_direct": true }));
    (0..count).map(room).collect()
}

/// What somebody sees in a room.
enum Seen {
    Said { room: String, text: String },
    Typing { room: String },
}

/// Somebody who looks on, and does something with what others say.
struct Loop {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Loop {
    fn begin(who: Arc<Person>, act: impl Fn(&Person, Seen) + Send + 'static) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&ends);
        let mut since = position(&who.sync(None, Duration::ZERO));
        let thread = thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let news = who.sync(Some(&since), Duration::from_secs(2));
                since = position(&news);
                seen(&news, &who.id).into_iter().for_each(|seen| act(&who, seen));
            }
        });
        Self { ends, thread }
    }

    fn end(self) {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().expect("it says why it broke");
    }
}

fn position(news: &Value) -> String {
    news["next_batch"].as_str().expect("every answer says how far it is").to_owned()
}

/// What others did, by an answer of the homeserver.
fn seen(news: &Value, own: &str) -> Vec<Seen> {
    let mut all = Vec::new();
    for (room, joined) in news["rooms"]["join"].as_object().into_iter().flatten() {
        for event in joined["timeline"]["events"].as_array().into_iter().flatten() {
            let text = event["content"]["body"].as_str();
            if let Some(text) = text.filter(|_| event["sender"] != own) {
                all.push(Seen::Said { room: room.clone(), text: text.to_owned() });
            }
        }
        for event in joined["ephemeral"]["events"].as_array().into_iter().flatten() {
            let typing = event["content"]["user_ids"].as_array();
            if typing.is_some_and(|users| users.iter().any(|user| *user != own)) {
                all.push(Seen::Typing { room: room.clone() });
            }
        }
    }
    all
}

/// A person with a clock.
struct Watch {
    me: Arc<Person>,
    heard: Receiver<(Instant, Seen)>,
}

impl Watch {
    /// From when something is said until its answer is seen.
    fn trip(&self, room: &str, text: &str) -> Result<Duration, Error> {
        let began = Instant::now();
        self.me.say(room, text);
        let expected = format!("echo: {text}");
        let is_it = |seen: &Seen| matches!(seen, Seen::Said { room: r, text: t } if r == room && *t == expected);
        Ok(self.wait(is_it)? - began)
    }

    /// From when the same is said in all `rooms` at once until all are answered.
    fn trips(&self, rooms: &[String], text: &str) -> Result<Duration, Error> {
        let ready = Arc::new(Barrier::new(rooms.len() + 1));
        let says = |room: &String| {
            let (me, ready) = (Arc::clone(&self.me), Arc::clone(&ready));
            let (room, text) = (room.clone(), text.to_owned());
            thread::spawn(move || {
                ready.wait();
                me.say(&room, &text);
            })
        };
        let saying: Vec<_> = rooms.iter().map(says).collect();
        ready.wait();
        let began = Instant::now();
        let expected = format!("echo: {text}");
        let mut last = began;
        for _ in rooms {
            last =
                self.wait(|seen| matches!(seen, Seen::Said { text: t, .. } if *t == expected))?;
        }
        for thread in saying {
            thread.join().map_err(|_| "nobody could speak")?;
        }
        Ok(last - began)
    }

    /// From when something is said until the room shows that somebody is at it. Returns when that is answered.
    fn sign(&self, room: &str, text: &str) -> Result<Duration, Error> {
        let began = Instant::now();
        self.me.say(room, text);
        let sign = self.wait(|seen| matches!(seen, Seen::Typing { room: r } if r == room))?;
        let expected = format!("done: {text}");
        self.wait(|seen| matches!(seen, Seen::Said { text: t, .. } if *t == expected))?;
        Ok(sign - began)
    }

    fn wait(&self, is_it: impl Fn(&Seen) -> bool) -> Result<Instant, Error> {
        loop {
            let (at, seen) = self.heard.recv_timeout(PATIENCE).map_err(|_| "nothing came")?;
            if is_it(&seen) {
                return Ok(at);
            }
        }
    }
}
