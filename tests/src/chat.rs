//! A person at a terminal: speaks the protocol of `host.sock`, comes back when the host does, hands
//! in again what was not accepted, and remembers every single delivery, so that doubles are seen. In
//! a world with a ledger all of that is recorded, each line before the host hears of it.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use twobox_shared::ids::{IdSource, SystemIds};

use crate::ledger::{Ledger, Record, Said, now_us};
use crate::wait::{PATIENCE, wait_for, wait_within};

/// The pause before the host is looked for again.
const PAUSE: Duration = Duration::from_millis(20);

/// One delivery of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbound {
    /// Its key: the same message has the same one each time.
    pub key: String,
    /// The message that it answers.
    pub in_reply_to: Option<String>,
    /// Every message that it answers: one turn may have taken several.
    pub answers: Vec<String>,
    /// What it says.
    pub text: String,
    /// What it asks, if it asks something.
    pub prompt: Value,
    /// Of the host's word that messages have failed: which.
    pub failed: Vec<String>,
}

/// A connection for one agent, and for some of its threads.
#[derive(Debug)]
pub struct Chat {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    socket: PathBuf,
    agent: String,
    threads: Vec<Option<String>>,
    ledger: Option<Arc<Ledger>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stream: Option<UnixStream>,
    listening: usize,
    connections: usize,
    left: bool,
    unaccepted: Vec<(String, Value)>,
    /// What is not handed in again once it was refused.
    impatient: HashSet<String>,
    accepted: HashMap<String, String>,
    refused: HashMap<String, String>,
    /// Refusals that said to try again.
    put_off: Vec<(String, String)>,
    deliveries: Vec<Outbound>,
    errors: Vec<String>,
}

impl State {
    fn write(&mut self, line: &Value) {
        let Some(stream) = &mut self.stream else { return };
        // A connection that breaks is noticed by its reader.
        stream.write_all(format!("{line}\n").as_bytes()).ok();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn run(&self) {
        while !self.state().left {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => self.talk(stream),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    fn talk(&self, stream: UnixStream) {
        let reader = BufReader::new(stream.try_clone().unwrap());
        {
            let mut state = self.state();
            state.stream = Some(stream);
            state.connections += 1;
            for thread in &self.threads {
                state.write(&json!({ "op": "listen", "agent": self.agent, "thread": thread }));
            }
            for (id, line) in state.unaccepted.clone() {
                self.hand_over(&mut state, &id, &line);
            }
        }
        for line in reader.lines().map_while(Result::ok) {
            let event: Value = serde_json::from_str(&line).expect("the host says JSON lines");
            self.hear(&event);
        }
        let mut state = self.state();
        state.stream = None;
        state.listening = 0;
    }

    fn record(&self, record: &Record) {
        if let Some(ledger) = &self.ledger {
            ledger.append(record).expect("a test can write its ledger");
        }
    }

    /// One try to hand a message in.
    fn hand_over(&self, state: &mut State, id: &str, line: &Value) {
        if state.stream.is_some() {
            let place = place(&self.agent, line["thread"].as_str());
            let text = line["text"].as_str().unwrap_or_default().to_owned();
            self.record(&Record::Handed {
                at_us: now_us(),
                message: id.to_owned(),
                place,
                text,
                by_host: false,
            });
            state.write(line);
        }
    }

    /// The one place that is listened to.
    fn place(&self) -> Option<String> {
        match self.threads.as_slice() {
            [thread] => Some(place(&self.agent, thread.as_deref())),
            _ => None,
        }
    }

    fn hear(&self, event: &Value) {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let mut state = self.state();
        match text("event").as_str() {
            "listening" => state.listening += 1,
            "accepted" => {
                let stored = event["receipts"][0]["id"].as_str().unwrap_or_default().to_owned();
                self.record(&Record::Accepted { at_us: now_us(), message: text("id") });
                state.unaccepted.retain(|(id, _)| *id != text("id"));
                state.accepted.insert(text("id"), stored);
            }
            "refused" if event["retry"] == true && !state.impatient.contains(&text("id")) => {
                state.put_off.push((text("id"), text("reason")));
                self.record(&Record::Refused { at_us: now_us(), message: text("id") });
                drop(state);
                std::thread::sleep(PAUSE);
                let mut state = self.state();
                let again = state.unaccepted.iter().find(|(id, _)| *id == text("id")).cloned();
                if let Some((id, line)) = again {
                    self.hand_over(&mut state, &id, &line);
                }
            }
            "refused" => {
                self.record(&Record::Refused { at_us: now_us(), message: text("id") });
                state.unaccepted.retain(|(id, _)| *id != text("id"));
                state.refused.insert(text("id"), text("reason"));
            }
            "message" => {
                let in_reply_to = event["in_reply_to"].as_str().map(str::to_owned);
                self.record(&Record::Shown {
                    at_us: now_us(),
                    key: text("key"),
                    place: self.place(),
                    keyed: true,
                    answers: answers(event),
                    text: text("text"),
                });
                let letter = Outbound {
                    key: text("key"),
                    in_reply_to,
                    answers: answers(event),
                    text: text("text"),
                    prompt: event["prompt"].clone(),
                    failed: if event["failed"] == true { named(event) } else { Vec::new() },
                };
                state.deliveries.push(letter);
                state.write(&json!({ "op": "ack", "key": text("key") }));
            }
            "error" => state.errors.push(text("reason")),
            _ => {}
        }
    }
}

/// How a place is called in a ledger.
pub(crate) fn place(agent: &str, thread: Option<&str>) -> String {
    match thread {
        Some(thread) if !thread.is_empty() => format!("{agent}/{thread}"),
        _ => agent.to_owned(),
    }
}

/// All messages that a message answers. The host's word that one has failed is no answer.
fn answers(event: &Value) -> Vec<String> {
    match event["failed"] == true {
        true => Vec::new(),
        false => named(event),
    }
}

/// All messages that a message is about.
fn named(event: &Value) -> Vec<String> {
    let listed = event["answers"].as_array().into_iter().flatten();
    listed.chain([&event["in_reply_to"]]).filter_map(|id| Some(id.as_str()?.to_owned())).collect()
}

impl Chat {
    /// Listens, for good: whenever the host is there.
    pub(crate) fn begin(
        socket: PathBuf,
        agent: &str,
        threads: &[Option<&str>],
        ledger: Option<Arc<Ledger>>,
    ) -> Self {
        let shared = Arc::new(Shared {
            socket,
            agent: agent.to_owned(),
            threads: threads.iter().map(|thread| thread.map(str::to_owned)).collect(),
            ledger,
            state: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        let reader = Some(std::thread::spawn(move || theirs.run()));
        Self { shared, reader }
    }

    /// Waits until the host knows that somebody listens.
    #[track_caller]
    pub fn wait_listening(&self) {
        let wanted = self.shared.threads.len();
        wait_for("the host to know the listener", || {
            (self.shared.state().listening >= wanted).then_some(())
        });
    }

    /// Hands a message in without waiting for anything, and returns its id, which stands for `{id}` in
    /// the text.
    pub fn hand_in(&self, thread: Option<&str>, text: &str) -> String {
        self.hand_in_with(thread, text, false)
    }

    /// As [`Chat::hand_in`], but a refusal is the end of it.
    pub fn hand_in_once(&self, thread: Option<&str>, text: &str) -> String {
        self.hand_in_with(thread, text, true)
    }

    fn hand_in_with(&self, thread: Option<&str>, text: &str, impatient: bool) -> String {
        let id = SystemIds.uuid().to_string();
        let (agent, text) = (&self.shared.agent, text.replace("{id}", &id));
        let line =
            json!({ "op": "message", "agent": agent, "thread": thread, "id": id, "text": text });
        let mut state = self.shared.state();
        if impatient {
            state.impatient.insert(id.clone());
        }
        state.unaccepted.push((id.clone(), line.clone()));
        self.shared.hand_over(&mut state, &id, &line);
        id
    }

    /// Says something in the chat itself, and returns its id once the host has accepted it.
    #[track_caller]
    pub fn say(&self, text: &str) -> String {
        self.say_in(None, text)
    }

    /// Says something in a thread.
    #[track_caller]
    pub fn say_in(&self, thread: Option<&str>, text: &str) -> String {
        let id = self.hand_in(thread, text);
        self.wait_accepted(&id);
        id
    }

    /// Waits until a message was accepted.
    #[track_caller]
    pub fn wait_accepted(&self, id: &str) {
        wait_for("the message to be accepted", || {
            let state = self.shared.state();
            if let Some(reason) = state.refused.get(id) {
                panic!("the message was refused: {reason}");
            }
            state.accepted.get(id).map(|stored| assert_eq!(stored, id, "stored under its id"))
        });
    }

    /// Messages that the host has not said anything about, or refused for now.
    pub fn unaccepted(&self) -> usize {
        self.shared.state().unaccepted.len()
    }

    /// Waits until a message was refused for good, and returns why.
    #[track_caller]
    pub fn wait_refused(&self, id: &str) -> String {
        wait_for("the message to be refused", || self.shared.state().refused.get(id).cloned())
    }

    /// Waits until the host has said to try a message again, and returns why. It is handed in again
    /// until it is accepted.
    #[track_caller]
    pub fn wait_put_off(&self, id: &str) -> String {
        wait_for("the message to be put off", || {
            assert!(!self.is_accepted(id), "it was accepted");
            let state = self.shared.state();
            state.put_off.iter().find(|(other, _)| other == id).map(|(_, reason)| reason.clone())
        })
    }

    /// Whether the host has accepted a message.
    pub fn is_accepted(&self, id: &str) -> bool {
        self.shared.state().accepted.contains_key(id)
    }

    /// Waits for an answer to a message.
    #[track_caller]
    pub fn wait_answer(&self, id: &str) -> Outbound {
        self.wait_answer_within(PATIENCE, id)
    }

    /// As [`Chat::wait_answer`], with another limit.
    #[track_caller]
    pub fn wait_answer_within(&self, limit: Duration, id: &str) -> Outbound {
        wait_within(limit, "an answer", || self.answers(id).into_iter().next())
    }

    /// Waits for `count` different messages.
    #[track_caller]
    pub fn wait_letters(&self, count: usize) -> Vec<Outbound> {
        wait_for(&format!("{count} letters"), || {
            Some(self.letters()).filter(|letters| letters.len() >= count)
        })
    }

    /// Says something, and waits for the one answer.
    #[track_caller]
    pub fn ask(&self, text: &str) -> String {
        let id = self.say(text);
        self.wait_answer(&id).text
    }

    /// The different messages that answer a message.
    pub fn answers(&self, id: &str) -> Vec<Outbound> {
        let is_answer = |it: &Outbound| {
            it.in_reply_to.as_deref() == Some(id)
                && it.answers.iter().any(|answered| answered == id)
        };
        self.letters().into_iter().filter(is_answer).collect()
    }

    /// Whether a judged agent's answer to this message was shown.
    pub fn is_answered(&self, id: &str) -> bool {
        let state = self.shared.state();
        state.deliveries.iter().rev().any(|letter| Said::answers(&letter.text, id))
    }

    /// Whether the host has said that this message has failed.
    pub fn is_failed(&self, id: &str) -> bool {
        let state = self.shared.state();
        state.deliveries.iter().flat_map(|letter| &letter.failed).any(|failed| failed == id)
    }

    /// The host's own word.
    pub fn notices(&self) -> Vec<Outbound> {
        self.letters().into_iter().filter(|letter| letter.key.contains(":notice/")).collect()
    }

    /// Every message once, in the order in which each first came.
    pub fn letters(&self) -> Vec<Outbound> {
        let mut seen = HashSet::new();
        self.deliveries().into_iter().filter(|letter| seen.insert(letter.key.clone())).collect()
    }

    /// Every delivery, doubles included.
    pub fn deliveries(&self) -> Vec<Outbound> {
        self.shared.state().deliveries.clone()
    }

    /// How often a connection to a host was made.
    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }

    /// What the host complained about.
    pub fn errors(&self) -> Vec<String> {
        self.shared.state().errors.clone()
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        let stream = {
            let mut state = self.shared.state.lock().unwrap_or_else(|broken| broken.into_inner());
            state.left = true;
            state.stream.take()
        };
        if let Some(stream) = stream {
            // It may be closed already.
            stream.shutdown(Shutdown::Both).ok();
        }
        if let Some(reader) = self.reader.take() {
            // What broke in there shows in what did not arrive.
            reader.join().ok();
        }
    }
}
