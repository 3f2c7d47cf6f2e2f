//! A round trip as the files of its session show it: which commit came when.

use std::time::{Duration, Instant};

use twobox_shared::paths::{INBOUND_DB, OUTBOUND_DB, SessionPaths};

use crate::Error;
use crate::client::{Client, Trip};
use crate::trace::{Event, Kind, Trace};

/// One commit: from the journal's creation until the database was closed, its locks gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commit {
    pub(crate) begun: Instant,
    pub(crate) done: Instant,
}

/// What happens between a message that is sent and the answer that is delivered, in order. The
/// commits belong to the side that makes them, the rest is what lies between. `deliver` begins with
/// the waking of the host; its commit that takes the answer in is not among them: nobody waits for it.
pub(crate) const STAGES: [&str; 6] = ["accept", "wake", "claim", "turn", "answer", "deliver"];

/// A round trip with the commits inside it.
pub(crate) struct Observed {
    pub(crate) trip: Trip,
    pub(crate) accept: Commit,
    pub(crate) claim: Commit,
    answer: Commit,
}

impl Observed {
    /// How long each of [`STAGES`] took.
    pub(crate) fn stages(&self) -> [Duration; STAGES.len()] {
        let Self { trip, accept, claim, answer } = self;
        let moments = [
            trip.sent,
            accept.done,
            claim.begun,
            claim.done,
            answer.begun,
            answer.done,
            trip.delivered,
        ];
        // An event may be read a little later than it came, after what followed it.
        std::array::from_fn(|at| moments[at + 1].saturating_duration_since(moments[at]))
    }

    /// From the end of the answer's commit until it is delivered: a sweep and a delivery pass.
    pub(crate) fn sweep(&self) -> Duration {
        self.trip.delivered.saturating_duration_since(self.answer.done)
    }
}

/// Watches one session.
pub(crate) struct Observer(Trace);

const IN: usize = 0;
const OUT: usize = 1;

impl Observer {
    pub(crate) fn start(session: &SessionPaths) -> Result<Self, Error> {
        Trace::start(&[session.in_dir(), session.out_dir()]).map(Self)
    }

    /// One round trip; returns when the host has also recorded that it delivered the answer, so that
    /// nothing of it falls into the next one.
    pub(crate) fn round_trip(&self, client: &mut Client, text: &str) -> Result<Observed, Error> {
        self.0.clear();
        let trip = client.round_trip(text)?;
        self.0.wait_for("the commits of a round trip", |events| {
            let inbox = commits(events, IN, INBOUND_DB);
            let outbox = commits(events, OUT, OUTBOUND_DB);
            // Events come in order: with the record of the delivery, everything before it is here.
            let &[accept, _take_in, _record, ..] = inbox.as_slice() else { return None };
            // The runner may commit something when it starts, so its last two are those of the turn.
            let &[.., claim, answer] = outbox.as_slice() else { return None };
            Some(Observed { trip, accept, claim, answer })
        })
    }
}

fn commits(events: &[Event], dir: usize, database: &str) -> Vec<Commit> {
    let journal = format!("{database}-journal");
    let mut found = Vec::new();
    let (mut begun, mut durable) = (None, false);
    for event in events.iter().filter(|event| event.dir == dir) {
        match event.kind {
            Kind::Created if event.name == *journal => (begun, durable) = (Some(event.at), false),
            Kind::Deleted if event.name == *journal => durable = true,
            Kind::Closed if event.name == *database && durable => {
                found.extend(begun.take().map(|begun| Commit { begun, done: event.at }));
                durable = false;
            }
            Kind::Created | Kind::Deleted | Kind::Closed | Kind::Opened => {}
        }
    }
    found
}
