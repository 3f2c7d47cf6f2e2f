//! An agent for the `command` provider that records each turn before it begins and then does what
//! the message asks for, always the same way. Each word of a message that is one of these is an
//! order; all others mean nothing.
//!
//! | word | meaning |
//! |---|---|
//! | `note` | send something in the middle of the turn, unless an earlier attempt has |
//! | `list` | ask the host for the tasks when the turn ends |
//! | `later` | have the host hand in `task of <id>` when the turn has ended |
//! | `slow:MS` | take so long |
//! | `fail:N` | fail the first N attempts; they may be tried again |
//! | `die:N` | kill the runner in the first N attempts |
//! | `garbage:N` | break the provider's protocol in the first N attempts |
//! | `hang:N` | never come to an end in the first N attempts |
//! | `reject` | fail for good |
//!
//! The record is `ledger.jsonl` in the folder that the agent's conversations share.
#![expect(clippy::unwrap_used, reason = "an agent that cannot go on fails its turn by ending")]

use std::io::BufRead;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::getppid;
use serde_json::{Value, json};
use twobox_tests::ledger::{Given, Ledger, Record, Said, Saying, TASK_OF, now_us};

/// What a message asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Orders {
    note: bool,
    list: bool,
    later: bool,
    slow: Duration,
    fail: i64,
    die: i64,
    garbage: i64,
    hang: i64,
    reject: bool,
}

impl Orders {
    fn of(text: &str) -> Self {
        let mut orders = Self::default();
        for word in text.split_whitespace() {
            let (word, number) = word.split_once(':').unwrap_or((word, ""));
            let count = number.parse::<i64>();
            match (word, count) {
                ("note", _) => orders.note = true,
                ("list", _) => orders.list = true,
                ("later", _) => orders.later = true,
                ("reject", _) => orders.reject = true,
                ("slow", Ok(ms)) => orders.slow = Duration::from_millis(ms.unsigned_abs()),
                ("fail", Ok(attempts)) => orders.fail = attempts,
                ("die", Ok(attempts)) => orders.die = attempts,
                ("garbage", Ok(attempts)) => orders.garbage = attempts,
                ("hang", Ok(attempts)) => orders.hang = attempts,
                _ => {}
            }
        }
        orders
    }

    /// Whether a turn that is under way already can do it.
    fn is_simple(&self) -> bool {
        *self == Self { note: self.note, ..Self::default() }
    }
}

/// How a turn goes on after what it sent in its middle.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Answer,
    Fail { retryable: bool },
    Die,
    Garbage,
    Hang,
}

/// Several messages share a turn and its failure, so what would fail for good is only put off until
/// it comes alone.
fn ending(all: &[Orders], attempt: i64) -> Ending {
    let any = |holds: fn(&Orders, i64) -> bool| all.iter().any(|orders| holds(orders, attempt));
    match () {
        () if any(|orders, attempt| attempt < orders.die) => Ending::Die,
        () if any(|orders, attempt| attempt < orders.hang) => Ending::Hang,
        () if any(|orders, attempt| attempt < orders.garbage) => Ending::Garbage,
        () if any(|orders, attempt| attempt < orders.fail) => Ending::Fail { retryable: true },
        () if any(|orders, _| orders.reject) => Ending::Fail { retryable: all.len() > 1 },
        () => Ending::Answer,
    }
}

fn main() {
    let (lines, input) = mpsc::channel::<Value>();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.send(serde_json::from_str(&line).unwrap()).is_err() {
                return;
            }
        }
    });
    let shared = std::env::var("TWOBOX_AGENT").unwrap();
    let ledger = Ledger::open(&Path::new(&shared).join("ledger.jsonl")).unwrap();
    while let Ok(line) = input.recv() {
        if line["type"] == "turn" {
            Turn::begin(&ledger, &input, &line).play();
        }
    }
}

fn say(line: &Value) {
    println!("{line}");
}

struct Turn<'a> {
    ledger: &'a Ledger,
    input: &'a Receiver<Value>,
    turn: u64,
    attempt: i64,
    already_sent: Vec<Said>,
    messages: Vec<Given>,
    said: u32,
}

impl<'a> Turn<'a> {
    fn begin(ledger: &'a Ledger, input: &'a Receiver<Value>, line: &Value) -> Self {
        let sent = line["already_sent"].as_array().unwrap();
        let mut turn = Self {
            ledger,
            input,
            turn: now_us(),
            attempt: line["attempt"].as_i64().unwrap(),
            already_sent: sent.iter().filter_map(|it| it.as_str()?.parse().ok()).collect(),
            messages: Vec::new(),
            said: 0,
        };
        turn.take(given(&line["messages"]));
        turn
    }

    /// Writes down that these messages are worked on from now on.
    fn take(&mut self, messages: Vec<Given>) {
        let record = Record::Started {
            at_us: now_us(),
            turn: self.turn,
            attempt: self.attempt,
            pid: std::process::id(),
            messages: messages.clone(),
        };
        self.ledger.append(&record).unwrap();
        self.messages.extend(messages);
    }

    fn play(mut self) {
        let orders: Vec<Orders> = self.messages.iter().map(|it| Orders::of(&it.text)).collect();
        self.messages.clone().iter().for_each(|message| self.note(message));
        let slow = orders.iter().map(|orders| orders.slow).max().unwrap_or_default();
        let offered = self.wait(slow);
        match ending(&orders, self.attempt) {
            Ending::Answer => {}
            Ending::Fail { retryable } => {
                return say(&json!({
                    "type": "failed", "reason": "provider_error", "detail": "as was asked",
                    "retryable": retryable,
                }));
            }
            Ending::Die => {
                kill(getppid(), Signal::SIGKILL).unwrap();
                self.wait(Duration::MAX);
            }
            Ending::Hang => drop(self.wait(Duration::MAX)),
            Ending::Garbage => return println!("this is no JSON"),
        }
        // What is not simple gets a turn of its own.
        let used: Vec<Given> =
            offered.into_iter().filter(|it| Orders::of(&it.text).is_simple()).collect();
        if !used.is_empty() {
            let ids: Vec<&str> = used.iter().map(|message| message.id.as_str()).collect();
            say(&json!({ "type": "used", "ids": ids }));
            self.take(used.clone());
            used.iter().for_each(|message| self.note(message));
        }
        for message in self.messages.clone() {
            let said = self.next(Saying::Answer, &message);
            say(&json!({ "type": "reply", "text": said.to_string() }));
        }
        if orders.iter().any(|orders| orders.list) {
            say(&json!({ "type": "system", "request": { "action": "list_tasks" } }));
        }
        for message in self.messages.iter().filter(|it| Orders::of(&it.text).later) {
            let prompt = format!("{TASK_OF}{}", message.id);
            let request = json!({ "action": "schedule_task", "prompt": prompt });
            say(&json!({ "type": "system", "request": request }));
        }
        say(&json!({ "type": "turn_done" }));
    }

    fn note(&mut self, message: &Given) {
        let sent = |said: &Said| said.saying == Saying::Note && said.message == message.id;
        if Orders::of(&message.text).note && !self.already_sent.iter().any(sent) {
            let said = self.next(Saying::Note, message);
            say(&json!({ "type": "send", "to": "terminal", "text": said.to_string() }));
        }
    }

    fn next(&mut self, saying: Saying, message: &Given) -> Said {
        self.said += 1;
        Said { saying, message: message.id.clone(), turn: self.turn, number: self.said }
    }

    /// Lets `span` go by and returns what was offered meanwhile. Ends with the input, for then nobody
    /// waits for this turn any more.
    fn wait(&self, span: Duration) -> Vec<Given> {
        let begin = Instant::now();
        let mut offered = Vec::new();
        loop {
            match self.input.recv_timeout(span.saturating_sub(begin.elapsed())) {
                Ok(line) if line["type"] == "follow_up" => offered.extend(given(&line["messages"])),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return offered,
                Err(RecvTimeoutError::Disconnected) => std::process::exit(0),
            }
        }
    }
}

/// The messages that want an answer.
fn given(messages: &Value) -> Vec<Given> {
    let text = |message: &Value, key: &str| message[key].as_str().unwrap().to_owned();
    let triggers = messages.as_array().unwrap().iter().filter(|it| it["trigger"] == true);
    triggers.map(|it| Given { id: text(it, "id"), text: text(it, "text") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_found_among_other_words() {
        let orders = Orders::of("please note slow:200 fail:2 and #17 die:x");
        let slow = Duration::from_millis(200);
        assert_eq!(orders, Orders { note: true, slow, fail: 2, ..Orders::default() });
        assert!(!orders.is_simple());
        assert!(Orders::of("note this").is_simple());
    }

    #[test]
    fn what_is_rejected_fails_for_good_only_when_it_is_alone() {
        let of = |texts: &[&str], attempt| {
            ending(&texts.iter().map(|text| Orders::of(text)).collect::<Vec<_>>(), attempt)
        };
        assert_eq!(of(&["plain", "reject"], 0), Ending::Fail { retryable: true });
        assert_eq!(of(&["reject"], 1), Ending::Fail { retryable: false });
        assert_eq!(of(&["fail:1", "plain"], 0), Ending::Fail { retryable: true });
        assert_eq!(of(&["fail:1"], 1), Ending::Answer);
        assert_eq!((of(&["die:1"], 0), of(&["hang:1"], 0)), (Ending::Die, Ending::Hang));
    }
}
