//! People who keep talking to several agents while things break.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use twobox_tests::models::ORDER;
use twobox_tests::{Chat, Lifetime, Mode, Setup, World};

use crate::dice::Dice;

/// Messages that one person has not been answered yet; more are not said.
const PATIENT_FOR: usize = 5;

/// After this time nobody waits for an answer any more: it may be one that never comes.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

/// How many of their chances few people use: all of them together say something each few seconds.
const FEW_PERCENT: u32 = 1;

/// Agents that differ in what could matter: sessions for each thread or one for all, programs for
/// each turn or one for all.
pub(crate) fn agents(setup: Setup) -> Setup {
    setup
        .recording_agent("ada", Mode::Shared, Lifetime::Turn)
        .recording_agent("bob", Mode::PerThread, Lifetime::Runner)
        .recording_agent("cyd", Mode::Shared, Lifetime::Runner)
}

/// Where somebody talks. What agents send without being asked in a thread comes to the first place of
/// the agent.
const PLACES: [(&str, Option<&str>); 5] =
    [("ada", None), ("bob", None), ("bob", Some("t1")), ("bob", Some("t2")), ("cyd", None)];

/// Agents that models answer, and which: one for each way in which models are spoken to. Each has one session, so
/// that the order of its requests is that of its turns.
pub(crate) const THINKERS: [(&str, &str); 3] =
    [("max", "anthropic/model-max"), ("neo", "openai/model-neo"), ("oda", "router/model-oda")];

/// Who talks, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum People {
    /// All, nearly always.
    All,
    /// Now and then somebody says something that is quickly answered.
    Few,
    /// All, and at the agents of models too.
    Thinkers,
}

impl People {
    /// How long one answer may take while things break: longer than all pauses between the attempts of a
    /// message, and with models than those between the requests of each.
    pub(crate) fn patience(self) -> Duration {
        match self {
            Self::All | Self::Few => Duration::from_secs(60),
            Self::Thinkers => Duration::from_secs(150),
        }
    }
}

/// The people.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    people: Vec<Person>,
    senders: Vec<JoinHandle<()>>,
}

#[derive(Clone)]
struct Person {
    place: String,
    thread: Option<&'static str>,
    /// Whether a model answers there.
    thinks: bool,
    chat: Arc<Chat>,
}

impl Load {
    /// They begin to talk.
    pub(crate) fn begin(world: &World, who: People, seed: u64) -> Self {
        let person = |(agent, thread): (&str, Option<&'static str>), thinks: bool| Person {
            place: thread.map_or(agent.to_owned(), |thread| format!("{agent}/{thread}")),
            thread,
            thinks,
            chat: Arc::new(world.chat_in(agent, &[thread])),
        };
        let thinkers = THINKERS.iter().filter(|_| who == People::Thinkers);
        let thinkers = thinkers.map(|(agent, _)| person((agent, None), true));
        let people: Vec<Person> =
            PLACES.into_iter().map(|place| person(place, false)).chain(thinkers).collect();
        let stop = Arc::<AtomicBool>::default();
        let sender = |person: &Person| {
            let (person, stop) = (person.clone(), Arc::clone(&stop));
            let dice = Dice::new(seed, &person.place);
            std::thread::spawn(move || person.talk(who, dice, &stop))
        };
        let senders = people.iter().map(sender).collect();
        Self { stop, people, senders }
    }

    /// Says something at `place`, or anywhere, and waits until it is answered.
    pub(crate) fn probe(
        &self,
        world: &World,
        place: Option<&str>,
        limit: Duration,
    ) -> Result<(), String> {
        let asked = |person: &&Person| place.is_none_or(|place| person.place == place);
        let person = self.people.iter().find(asked).expect("faults name places that exist");
        let id = person.ask();
        person.wait_answered(world, &id, Instant::now() + limit)
    }

    /// Nobody says anything any more. What was said is still handed in until the host takes it.
    pub(crate) fn hush(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for sender in self.senders.drain(..) {
            sender.join().expect("senders only talk");
        }
    }

    /// Each says a last word, and waits until it is answered: every session works again.
    pub(crate) fn close(&self, world: &World, limit: Duration) -> Result<(), String> {
        let end = Instant::now() + limit;
        let said: Vec<_> = self.people.iter().map(|person| (person, person.ask())).collect();
        said.into_iter().try_for_each(|(person, id)| person.wait_answered(world, &id, end))
    }

    /// Messages that the host has said nothing final about.
    pub(crate) fn unaccepted(&self) -> usize {
        self.people.iter().map(|person| person.chat.unaccepted()).sum()
    }

    /// Waits until the host knows all of them.
    pub(crate) fn wait_listening(&self) {
        self.people.iter().for_each(|person| person.chat.wait_listening());
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.hush();
    }
}

impl Person {
    fn talk(&self, who: People, mut dice: Dice, stop: &AtomicBool) {
        let mut open: Vec<(String, Instant)> = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(dice.span_ms(20, 250));
            if who == People::Few && !dice.happens(FEW_PERCENT) {
                continue;
            }
            open.retain(|(id, since)| {
                since.elapsed() < self.forgets_after() && !self.chat.is_answered(id)
            });
            if open.len() >= PATIENT_FOR {
                continue;
            }
            let text = match (who, self.thinks) {
                (_, true) => order(&mut dice),
                (People::All | People::Thinkers, false) => compose(&mut dice),
                (People::Few, false) => "plain".to_owned(),
            };
            let id = match dice.happens(10) {
                true => self.chat.hand_in_once(self.thread, &text),
                false => self.chat.hand_in(self.thread, &text),
            };
            open.push((id, Instant::now()));
        }
    }

    /// An agent of a model takes longer, and would be asked more and more.
    fn forgets_after(&self) -> Duration {
        match self.thinks {
            true => People::Thinkers.patience(),
            false => FORGOTTEN_AFTER,
        }
    }

    /// Says something that is simply answered.
    fn ask(&self) -> String {
        let text = if self.thinks { format!("{ORDER} plain") } else { "plain".to_owned() };
        self.chat.hand_in(self.thread, &text)
    }

    /// Waits until a message is answered. One to a model may visibly fail: the troubles of its server have no
    /// end that a message knows.
    fn wait_answered(&self, world: &World, id: &str, end: Instant) -> Result<(), String> {
        let is_over = || self.chat.is_answered(id) || self.thinks && self.chat.is_failed(id);
        while !is_over() {
            if Instant::now() > end {
                let known = world.evidence(id);
                return Err(format!("stuck: no answer to {id} at {}: {known}", self.place));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// What people ask an agent to do that a model answers.
fn order(dice: &mut Dice) -> String {
    let words = ["plain", "plain", "tool", "twice", "note", "note tool"];
    format!("{ORDER} {}", words[dice.below(words.len())])
}

/// What people ask the recording agent to do.
fn compose(dice: &mut Dice) -> String {
    let slow = dice.span_ms(30, 400).as_millis();
    match dice.below(100) {
        0..55 => "plain".to_owned(),
        55..68 => "note".to_owned(),
        68..80 => format!("slow:{slow}"),
        80..87 => format!("note slow:{slow}"),
        87..91 => "fail:1".to_owned(),
        91..94 => "note fail:1".to_owned(),
        94..96 => "note die:1".to_owned(),
        96..98 => "garbage:1".to_owned(),
        _ => "reject".to_owned(),
    }
}
