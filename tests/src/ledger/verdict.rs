//! What is promised, held against what the witnesses have written down.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::record::Record;
use super::said::{Said, Saying, TASK_OF};

/// What the installation itself shows when everything has come to rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndState {
    /// Messages that wait, and messages whose answers do.
    pub pending: BTreeSet<String>,
    /// Messages that an operator is shown as failed.
    pub failed: BTreeSet<String>,
    /// Messages with something said about them that an operator is shown as `failed` or `uncertain`
    /// to arrive.
    pub undelivered: BTreeSet<String>,
}

/// How the accepted messages ended, and what broke a promise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Messages that the host said are durable.
    pub accepted: usize,
    /// Of these: answered.
    pub answered: usize,
    /// Still queued.
    pub queued: usize,
    /// Failed, and shown as that.
    pub failed: usize,
    /// Their answer was not delivered, or nobody knows, and that is shown.
    pub undelivered: usize,
    /// Messages that came again under a key that was there before: a client drops them.
    pub resends: usize,
    /// Messages of which every try was refused: they may not have been touched.
    pub refused: usize,
    /// Turns that were begun.
    pub turns: usize,
    /// What must not be. Empty, or the promises do not hold.
    pub violations: Vec<Violation>,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// Accepted, not answered, and nobody is told.
    Lost {
        /// The message.
        message: String,
    },
    /// A note that was to be sent before the answer never came.
    NoteLost {
        /// The message.
        message: String,
    },
    /// Answered, or noted, more than once.
    Doubled {
        /// The message.
        message: String,
        /// What was said more than once.
        saying: Saying,
        /// How often it took effect.
        times: usize,
    },
    /// Every try was refused, and it was worked on all the same.
    RefusedButTaken {
        /// The message.
        message: String,
    },
    /// Answered, and shown as failed or waiting.
    AnsweredBut {
        /// The message.
        message: String,
        /// How it is shown.
        shown: &'static str,
    },
    /// An attempt of a message was begun twice.
    StartedTwice {
        /// The message.
        message: String,
        /// The attempt.
        attempt: i64,
    },
    /// A destination was shown something before what was said earlier.
    OutOfOrder {
        /// The destination.
        place: String,
        /// What came too early.
        early: String,
        /// What it overtook.
        late: String,
    },
    /// Two different messages had one key.
    KeyReused {
        /// The key.
        key: String,
    },
    /// Something was said about a message that it does not say it answers, or it says so of one that
    /// the host made: nobody knows that by its id.
    Misattributed {
        /// The message.
        message: String,
    },
    /// What a message had put off was never begun.
    TaskLost {
        /// The message.
        message: String,
    },
    /// What a message had put off was begun as more than one task.
    TaskTwice {
        /// The message.
        message: String,
    },
    /// A message was worked on that nobody handed in.
    Invented {
        /// The message.
        message: String,
    },
    /// A slot of a schedule has no row.
    SlotLost {
        /// The schedule's name.
        schedule: String,
        /// The slot, in milliseconds.
        slot: i64,
    },
    /// A slot of a schedule has more than one row.
    SlotTwice {
        /// The schedule's name.
        schedule: String,
        /// The slot, in milliseconds.
        slot: i64,
    },
    /// A row stands for what is no slot of its schedule.
    SlotInvented {
        /// The schedule's name.
        schedule: String,
        /// What it stands for, in milliseconds.
        slot: i64,
    },
    /// A run has not ended although everything has come to rest.
    RunOpen {
        /// The run.
        run: String,
    },
    /// A run is shown as completed on which nobody worked.
    RunInvented {
        /// The run.
        run: String,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { message } => write!(f, "lost: {message}"),
            Self::NoteLost { message } => write!(f, "lost: the note of {message}"),
            Self::Doubled { message, saying, times } => {
                write!(f, "doubled: {saying:?} to {message} took effect {times} times")
            }
            Self::RefusedButTaken { message } => write!(f, "refused, but worked on: {message}"),
            Self::AnsweredBut { message, shown } => write!(f, "answered, but {shown}: {message}"),
            Self::StartedTwice { message, attempt } => {
                write!(f, "started twice: attempt {attempt} of {message}")
            }
            Self::OutOfOrder { place, early, late } => {
                write!(f, "out of order at {place}: {early:?} came before {late:?}")
            }
            Self::KeyReused { key } => write!(f, "one key for two letters: {key}"),
            Self::Misattributed { message } => {
                write!(f, "a letter names {message} wrongly, or not")
            }
            Self::TaskLost { message } => write!(f, "lost: the task of {message}"),
            Self::TaskTwice { message } => write!(f, "doubled: the task of {message}"),
            Self::Invented { message } => write!(f, "nobody handed in: {message}"),
            Self::SlotLost { schedule, slot } => write!(f, "lost: slot {slot} of {schedule}"),
            Self::SlotTwice { schedule, slot } => {
                write!(f, "doubled: slot {slot} of {schedule} has two rows")
            }
            Self::SlotInvented { schedule, slot } => {
                write!(f, "{slot} is no slot of {schedule}, and has a row")
            }
            Self::RunOpen { run } => write!(f, "not at rest: run {run}"),
            Self::RunInvented { run } => {
                write!(f, "completed, but nobody worked on it: run {run}")
            }
        }
    }
}

impl Verdict {
    /// How many accepted messages, notes, tasks or slots are gone.
    pub fn lost(&self) -> usize {
        use Violation as V;
        let lost = |it: &&V| {
            matches!(
                it,
                V::Lost { .. } | V::NoteLost { .. } | V::TaskLost { .. } | V::SlotLost { .. }
            )
        };
        self.violations.iter().filter(lost).count()
    }

    /// How many messages, tasks or slots took effect twice.
    pub fn doubled(&self) -> usize {
        use Violation as V;
        let doubled =
            |it: &&V| matches!(it, V::Doubled { .. } | V::TaskTwice { .. } | V::SlotTwice { .. });
        self.violations.iter().filter(doubled).count()
    }
}

/// What the sender knows of a message.
#[derive(Default)]
struct Sent {
    tries: usize,
    refused: usize,
    accepted: bool,
    noted: bool,
    later: bool,
    /// Nobody said it: the host made it, and no message quotes it.
    by_host: bool,
}

/// A message that took effect.
struct Effect<'a> {
    said: Said,
    session: &'a str,
    place: Option<&'a str>,
    answers: &'a [String],
}

/// Compares what the witnesses have written down with what is shown in the end.
pub fn judge(records: &[Record], end: &EndState) -> Verdict {
    let records = in_time(records);
    let mut verdict = Verdict::default();
    let mut sent = sent(&records);
    let tasks = tasks(&records, &sent);
    for task in tasks.values().flatten() {
        // The host handed it in, so it is judged as what people do.
        sent.insert(task, Sent { tries: 1, accepted: true, by_host: true, ..Sent::default() });
    }
    let effects = effects(&records, &mut verdict);
    let started = started(&records, &mut verdict);
    check_order(&effects, &mut verdict);

    let mut said: BTreeMap<(&str, Saying), usize> = BTreeMap::new();
    let mut invented = BTreeSet::new();
    for effect in &effects {
        let message = &effect.said.message;
        *said.entry((message, effect.said.saying)).or_default() += 1;
        let by_host = sent.get(message.as_str()).is_some_and(|sent| sent.by_host);
        if effect.answers.contains(message) == by_host {
            verdict.violations.push(Violation::Misattributed { message: message.clone() });
        }
        invented.extend((!sent.contains_key(message.as_str())).then_some(message.as_str()));
    }
    invented.extend(started.iter().filter(|message| !sent.contains_key(*message)));
    let invented = invented.into_iter().map(|it| Violation::Invented { message: it.to_owned() });
    verdict.violations.extend(invented);

    for (message, sent) in &sent {
        let message = (*message).to_owned();
        let times = |saying| said.get(&(message.as_str(), saying)).copied().unwrap_or(0);
        let (answers, notes) = (times(Saying::Answer), times(Saying::Note));
        for (saying, times) in [(Saying::Answer, answers), (Saying::Note, notes)] {
            if times > 1 {
                let message = message.clone();
                verdict.violations.push(Violation::Doubled { message, saying, times });
            }
        }
        let refused = !sent.accepted && sent.refused >= sent.tries;
        verdict.refused += usize::from(refused);
        if refused && (answers + notes > 0 || started.contains(message.as_str())) {
            verdict.violations.push(Violation::RefusedButTaken { message: message.clone() });
        }
        let undelivered = end.undelivered.contains(&message);
        if sent.noted && answers > 0 && notes == 0 && !undelivered {
            verdict.violations.push(Violation::NoteLost { message: message.clone() });
        }
        if sent.later && answers > 0 {
            let waits = end.pending.iter().any(|id| id.starts_with("task-"));
            let message = message.clone();
            match tasks.get(message.as_str()).map_or(0, BTreeSet::len) {
                0 if !waits => verdict.violations.push(Violation::TaskLost { message }),
                0 | 1 => {}
                _ => verdict.violations.push(Violation::TaskTwice { message }),
            }
        }
        let (failed, pending) = (end.failed.contains(&message), end.pending.contains(&message));
        for (shown, so) in [("failed", failed), ("pending", pending)] {
            if so && answers > 0 {
                let message = message.clone();
                verdict.violations.push(Violation::AnsweredBut { message, shown });
            }
        }
        if !sent.accepted {
            continue;
        }
        verdict.accepted += 1;
        match () {
            () if answers > 0 => verdict.answered += 1,
            () if failed => verdict.failed += 1,
            () if pending => verdict.queued += 1,
            () if undelivered => verdict.undelivered += 1,
            () => verdict.violations.push(Violation::Lost { message }),
        }
    }
    verdict
}

/// Each writer's lines in its order, and those of several by the clock.
fn in_time(records: &[Record]) -> Vec<&Record> {
    let mut records: Vec<&Record> = records.iter().collect();
    records.sort_by_key(|record| record.at_us());
    records
}

fn sent<'a>(records: &[&'a Record]) -> BTreeMap<&'a str, Sent> {
    let mut all: BTreeMap<&str, Sent> = BTreeMap::new();
    for record in records {
        match record {
            Record::Handed { message, text, by_host, .. } => {
                let sent = all.entry(message).or_default();
                sent.tries += 1;
                sent.by_host = *by_host;
                sent.noted = text.split_whitespace().any(|word| word == "note");
                sent.later = text.split_whitespace().any(|word| word == "later");
            }
            Record::Accepted { message, .. } => all.entry(message).or_default().accepted = true,
            Record::Refused { message, .. } => all.entry(message).or_default().refused += 1,
            Record::Started { .. } | Record::Shown { .. } | Record::Injected { .. } => {}
        }
    }
    all
}

/// The tasks that were begun, by the message that had them put off.
fn tasks<'a>(
    records: &[&'a Record],
    sent: &BTreeMap<&'a str, Sent>,
) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut tasks: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for record in records {
        let Record::Started { messages, .. } = record else { continue };
        for task in messages {
            if let Some(message) = task.text.strip_prefix(TASK_OF)
                && sent.get(message).is_some_and(|sent| sent.later)
            {
                tasks.entry(message).or_default().insert(&task.id);
            }
        }
    }
    tasks
}

/// The agent's messages that took effect, in the order in which they did.
fn effects<'a>(records: &[&'a Record], verdict: &mut Verdict) -> Vec<Effect<'a>> {
    let mut texts: BTreeMap<&str, &str> = BTreeMap::new();
    let mut effects = Vec::new();
    for record in records {
        let Record::Shown { key, place, keyed, answers, text, .. } = record else { continue };
        let before = texts.insert(key, text);
        match before {
            Some(other) if other != text => {
                verdict.violations.push(Violation::KeyReused { key: key.clone() });
            }
            Some(_) if *keyed => verdict.resends += 1,
            Some(_) | None => {}
        }
        if *keyed && before.is_some() {
            continue; // dropped by whoever honours keys
        }
        let session = key.split(':').nth(1).unwrap_or_default();
        let place = place.as_deref();
        let said = Said::all(text).into_iter();
        effects.extend(said.map(|said| Effect { said, session, place, answers }));
    }
    effects
}

/// The messages that turns were begun for.
fn started<'a>(records: &[&'a Record], verdict: &mut Verdict) -> BTreeSet<&'a str> {
    let mut attempts = BTreeSet::new();
    let mut turns = BTreeSet::new();
    for record in records {
        let Record::Started { turn, attempt, messages, .. } = record else { continue };
        turns.insert(turn);
        for message in messages {
            if !attempts.insert((message.id.as_str(), *attempt)) {
                let message = message.id.clone();
                verdict.violations.push(Violation::StartedTwice { message, attempt: *attempt });
            }
        }
    }
    verdict.turns = turns.len();
    attempts.into_iter().map(|(message, _)| message).collect()
}

/// What one session says to one destination takes effect in the order in which it was said.
fn check_order(effects: &[Effect<'_>], verdict: &mut Verdict) {
    let mut latest: BTreeMap<(&str, &str), &Said> = BTreeMap::new();
    for effect in effects {
        let Some(place) = effect.place else { continue };
        let (said, queue) = (&effect.said, (effect.session, place));
        match latest.get(&queue) {
            // The same again is a doubled effect, not a wrong order.
            Some(early) if (early.turn, early.number) > (said.turn, said.number) => {
                verdict.violations.push(Violation::OutOfOrder {
                    place: place.to_owned(),
                    early: early.to_string(),
                    late: said.to_string(),
                });
            }
            Some(_) | None => drop(latest.insert(queue, said)),
        }
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
