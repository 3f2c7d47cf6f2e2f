//! Many messages at once, in one conversation or in many.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use twobox_shared::ids::{IdSource, SystemIds};

use crate::Error;
use crate::client::{Address, Listener, Speaker};
use crate::installation::CROWD;

/// So many threads of the agent that has a session for each.
pub(crate) fn threads(count: usize) -> Vec<Address> {
    let thread = |number| Address { agent: CROWD, thread: Some(format!("thread {number}")) };
    (0..count).map(thread).collect()
}

/// A message that was answered.
pub(crate) struct Answered {
    /// The place of its conversation.
    pub(crate) with: usize,
    /// Which of its conversation's messages it was.
    number: usize,
    pub(crate) sent: Instant,
    pub(crate) accepted: Instant,
    pub(crate) delivered: Instant,
}

/// What became of many messages, in the order of the answers.
pub(crate) struct Talk(Vec<Answered>);

/// Connections that stand: one that hands in, one that listens to every conversation.
pub(crate) struct Standing<'a> {
    to: &'a [Address],
    listener: Listener,
    speaker: Speaker,
}

/// As [`Standing::talk`], over connections of its own.
pub(crate) fn talk(socket: &Path, to: &[Address], each: usize) -> Result<Talk, Error> {
    Standing::connect(socket, to)?.talk(each)
}

impl<'a> Standing<'a> {
    pub(crate) fn connect(socket: &Path, to: &'a [Address]) -> Result<Self, Error> {
        let listener = Listener::connect(socket, to)?;
        Ok(Self { to, listener, speaker: Speaker::connect(socket)? })
    }

    /// Hands in `each` messages to each conversation as fast as the host takes them, in turn, and
    /// waits for all answers.
    pub(crate) fn talk(&mut self, each: usize) -> Result<Talk, Error> {
        let Self { to, listener, speaker } = self;
        talk_over(listener, speaker, to, each)
    }
}

fn talk_over(
    listener: &mut Listener,
    speaker: &mut Speaker,
    to: &[Address],
    each: usize,
) -> Result<Talk, Error> {
    let mut sender = speaker.also()?;
    let ids: Vec<String> = (0..to.len() * each).map(|_| SystemIds.uuid().to_string()).collect();
    let ids = &ids;
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || -> Result<Vec<Instant>, Error> {
            let messages = ids.iter().zip(to.iter().cycle());
            let mut sent = Vec::with_capacity(ids.len());
            for (id, to) in messages {
                sent.push(Instant::now());
                sender.say(to, id, "one of many messages")?;
            }
            Ok(sent)
        });
        let accepting = scope
            .spawn(move || ids.iter().map(|_| speaker.accepted()).collect::<Result<Vec<_>, _>>());
        let mut answered: HashMap<&String, (usize, Instant)> = HashMap::new();
        while answered.len() < ids.len() {
            let (answers, when) = listener.next()?;
            for id in &answers {
                // What an earlier talk left unread is not ours.
                let Some(ours) = ids.iter().find(|ours| *ours == id) else { continue };
                let order = answered.len();
                answered.entry(ours).or_insert((order, when));
            }
        }
        let sent = sending.join().map_err(|_| "sending panicked")??;
        let accepted = accepting.join().map_err(|_| "accepting panicked")??;
        let mut all: Vec<(usize, Answered)> = Vec::with_capacity(ids.len());
        for (at, id) in ids.iter().enumerate() {
            let (order, delivered) = answered[id];
            let (with, number) = (at % to.len(), at / to.len());
            let (sent, accepted) = (sent[at], accepted[at]);
            all.push((order, Answered { with, number, sent, accepted, delivered }));
        }
        all.sort_by_key(|(order, _)| *order);
        Ok(Talk(all.into_iter().map(|(_, answered)| answered).collect()))
    })
}

impl Talk {
    pub(crate) fn answered(&self) -> &[Answered] {
        &self.0
    }

    /// From the first message sent to the last answer delivered.
    pub(crate) fn span(&self) -> Duration {
        self.until(|answered| answered.delivered)
    }

    /// From the first message sent to the last acceptance.
    pub(crate) fn span_of_accepting(&self) -> Duration {
        self.until(|answered| answered.accepted)
    }

    fn until(&self, end: impl Fn(&Answered) -> Instant) -> Duration {
        let first = self.0.iter().map(|answered| answered.sent).min();
        let last = self.0.iter().map(end).max();
        first.zip(last).map(|(first, last)| last - first).unwrap_or_default()
    }

    /// How many answers came before that to an earlier message of their conversation.
    pub(crate) fn overtakings(&self) -> usize {
        let mut next: HashMap<usize, usize> = HashMap::new();
        let mut count = 0;
        for answered in &self.0 {
            let next = next.entry(answered.with).or_default();
            count += usize::from(answered.number < *next);
            *next = answered.number.max(*next);
        }
        count
    }
}
