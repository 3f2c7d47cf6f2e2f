//! The world: everything that may happen next, one thing at a time, chosen by the seed.

mod around;
mod checks;
mod daemon;
pub(crate) mod moves;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use twobox_model::seats::Seat;
use twobox_session::admission::Admission;
use twobox_shared::clock::Monotonic;
use twobox_shared::ids::{AgentGroupId, MessagingGroupId, RunnerId, SessionId};
use twobox_shared::time::UnixMillis;
use uuid::Uuid;

use crate::dice::Dice;
use crate::host::{Flight, Task};
use crate::model::{Boxes, Position};
use crate::runner::Runner;
use crate::trace::Trace;

const SESSIONS: usize = 3;
const MESSAGES: usize = 5;
const PLACES: usize = 2;
const FAULTY_STEPS: usize = 400;
const QUIET_STEPS: usize = 60_000;

/// How long everything may take to settle once the faults have stopped: more than any limit of a
/// container that stalls, and less than most jumps of the wall clock, so that none puts anything off.
const QUIET_TIME: Duration = Duration::from_secs(2 * 3600);

#[derive(Clone)]
struct Session {
    id: SessionId,
    seat: Seat,
    boxes: Boxes,
    task: Option<Task>,
    runners: Vec<Runner>,
    lock: Option<RunnerId>,
    accepted: usize,
}

/// Two sessions share an agent group, each with a chat of its own.
fn seat(n: usize) -> Seat {
    let chat = MessagingGroupId::from_uuid(Uuid::from_u128(n as u128));
    let group = AgentGroupId::from_uuid(Uuid::from_u128(n as u128 / 2));
    Seat { group, chat, sender: None }
}

fn admission(sessions: usize) -> Admission {
    let mut admission = Admission::new(PLACES);
    let groups = (0..sessions).map(|n| seat(n).group);
    admission.set_population(groups.map(|group| (group, 2)).collect());
    admission
}

#[derive(Clone)]
pub(crate) struct World {
    trace: Trace,
    dice: Dice,
    now: UnixMillis,
    monotonic: Monotonic,
    sessions: Vec<Session>,
    admission: Admission,
    host_up: bool,
    channel_up: bool,
    runtime_up: bool,
    faults: bool,
    flights: Vec<Flight>,
    /// What people saw: for each session and address where it stands in its queue, each
    /// under its key once.
    ledger: BTreeMap<(usize, Option<String>), Vec<Position>>,
    shown: BTreeSet<(usize, String)>,
    next_runner: u128,
    /// How many messages each session gets.
    messages: usize,
    /// How many attempts a message gets.
    max_tries: i64,
}

impl World {
    pub(crate) fn new(trace: Trace) -> Self {
        let dice = Dice::Seed(trace.dice());
        Self { max_tries: 3, ..Self::with(trace, dice, SESSIONS, MESSAGES) }
    }

    fn with(trace: Trace, dice: Dice, sessions: usize, messages: usize) -> Self {
        let session = |n: usize| Session {
            id: SessionId::from_uuid(Uuid::from_u128(n as u128)),
            seat: seat(n),
            boxes: Boxes::default(),
            task: None,
            runners: Vec::new(),
            lock: None,
            accepted: 0,
        };
        let mut world = Self {
            dice,
            trace,
            now: UnixMillis(1_800_000_000_000),
            monotonic: Monotonic(1),
            sessions: (0..sessions).map(session).collect(),
            admission: admission(sessions),
            host_up: false,
            channel_up: true,
            runtime_up: true,
            faults: true,
            flights: Vec::new(),
            ledger: BTreeMap::new(),
            shown: BTreeSet::new(),
            next_runner: 1,
            messages,
            max_tries: 1,
        };
        world.start_host();
        world
    }

    /// Plays the seed to its end and returns the hash of the trace.
    pub(crate) fn play(mut self) -> u64 {
        for _ in 0..FAULTY_STEPS {
            self.step();
        }
        self.calm_down();
        let calm = self.monotonic;
        for _ in 0..QUIET_STEPS {
            if self.monotonic.since(calm) > QUIET_TIME {
                self.fail("what is left takes longer than any pause or limit");
            }
            if self.settled() {
                self.check_end();
                return self.trace.hash();
            }
            self.step();
        }
        self.fail("nothing settles although the faults have stopped");
    }

    fn step(&mut self) {
        self.pass_time();
        let session = self.dice.seeded().usize(..SESSIONS);
        match self.dice.seeded().u8(..) {
            0..=19 => self.accept(session),
            20..=119 => self.host_step(session),
            120..=199 => self.runner_step(session),
            200..=229 => self.channel_step(),
            230..=234 => self.safety_net(),
            _ if self.faults => self.fault(session),
            _ => self.host_step(session),
        }
        self.check_always();
    }

    fn calm_down(&mut self) {
        self.faults = false;
        self.channel_up = true;
        self.runtime_up = true;
        self.note("the faults stop".into());
        if !self.host_up {
            self.start_host();
        }
        self.safety_net();
        self.wake_all();
    }

    fn note(&mut self, text: String) {
        self.trace.note(self.now, text);
    }

    fn fail(&self, what: &str) -> ! {
        self.trace.fail(what)
    }

    fn pass_time(&mut self) {
        let span = Duration::from_millis(self.dice.seeded().u64(..700));
        self.now = self.now + span;
        self.monotonic = self.monotonic + span;
        // No fault: whatever runs, the wall clock may be set at any time.
        if self.dice.seeded().u16(..) < 200 {
            let hours = self.dice.seeded().i64(-30..30);
            self.now = UnixMillis(self.now.0 + hours * 3_600_000);
            self.note(format!("the wall clock jumps by {hours} h"));
        }
    }
}
