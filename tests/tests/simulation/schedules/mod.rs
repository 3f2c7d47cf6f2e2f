//! Schedules: the scheduler's decisions and the statements that carry them out, on one real `host.db`,
//! with hosts that die between any two steps or go on with what they had read, transactions that fail
//! or only seem to, agents whose runs end well, badly or never, people who change their minds, and
//! clocks that jump. After each step the [`oracle`] holds what is stored against what was done.
//!
//! Modelled are what a host does with its sessions and the order of its steps; all else is the
//! product's own.

mod grid;
mod host;
mod oracle;
mod people;
mod store;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use twobox_model::channel::TERMINAL;
use twobox_shared::clock::Monotonic;
use twobox_shared::ids::{HostId, IdSource, MessageId, SessionId};
use twobox_shared::time::UnixMillis;
use twobox_store::messaging::SessionMode;
use uuid::Uuid;

use self::host::Host;
use self::oracle::{Deed, Oracle, When};
use self::store::Store;
use self::work::{Mood, Work};
use crate::trace::{self, Trace};

/// Seeds that every run of the suite plays: less than half a minute on one core.
const SEEDS: u64 = 400;

/// Collisions among the schedules of one agent are reckoned with each change, which takes its time.
const AGENTS: [&str; 4] = ["ada", "bob", "cyd", "dan"];

const HOSTS: usize = 3;
const FAULTY_STEPS: usize = 400;
const QUIET_STEPS: usize = 20_000;

#[test]
fn each_slot_has_one_row_and_each_run_one_end_whatever_fails() {
    let test = "schedules::each_slot_has_one_row_and_each_run_one_end_whatever_fails";
    trace::play_seeds(test, SEEDS, |trace| World::new(trace).play());
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    trace::assert_repeatable(|trace| World::new(trace).play());
}

/// Ids that count up, as those of the product do with time.
struct Ids(AtomicU64);

impl IdSource for Ids {
    fn uuid(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::Relaxed)))
    }
}

struct World {
    trace: Trace,
    rng: fastrand::Rng,
    now: UnixMillis,
    monotonic: Monotonic,
    ids: Arc<Ids>,
    store: Store,
    oracle: Oracle,
    hosts: Vec<Host>,
    /// How many runs may go on at once.
    cap: u32,
    chat_turns: usize,
    /// A session that some schedules run in.
    home: SessionId,
    home_is_sound: bool,
    /// How the runs of each schedule tend to end.
    moods: BTreeMap<String, Mood>,
    works: BTreeMap<MessageId, Work>,
    faults: bool,
}

impl World {
    fn new(trace: Trace) -> Self {
        let mut rng = trace.dice();
        let (ids, now) = (Arc::new(Ids(AtomicU64::new(1))), UnixMillis(1_800_000_000_000));
        let store = Store::new();
        let db = store.set_up();
        let [agent, ..] = AGENTS.map(|name| {
            db.agents()
                .add(name, SessionMode::Shared, &*ids, now)
                .wait()
                .expect("all have other names")
        });
        let chat = db.wirings().listening(TERMINAL, AGENTS[0]).wait().expect("readable").remove(0);
        let home = db
            .sessions()
            .resolve(agent.id, chat.messaging_group, "", SessionId::generate(&*ids), now)
            .wait();
        store.touched();
        let cap = rng.u32(1..4);
        Self {
            trace,
            rng,
            now,
            monotonic: Monotonic(1),
            ids,
            home: home.expect("writable"),
            home_is_sound: true,
            store,
            oracle: Oracle::default(),
            hosts: Vec::new(),
            cap,
            chat_turns: 0,
            moods: BTreeMap::new(),
            works: BTreeMap::new(),
            faults: true,
        }
    }

    /// Plays the seed to its end and returns the hash of the trace.
    fn play(mut self) -> u64 {
        for _ in 0..FAULTY_STEPS {
            self.pass_time();
            self.step();
        }
        self.calm_down();
        for _ in 0..QUIET_STEPS {
            if self.hosts[0].adopted && self.oracle.is_at_rest(self.now.0) {
                self.check_end();
                return self.trace.hash();
            }
            // The wall clock stands still, so that no more comes due; leases run out all the same.
            self.monotonic = self.monotonic + Duration::from_millis(self.rng.u64(..10_000));
            match self.rng.u8(..) {
                0..40 => self.work_step(),
                _ => self.host_step(0),
            }
        }
        self.fail("nothing comes to rest although the faults have stopped");
    }

    fn step(&mut self) {
        match self.rng.u8(..) {
            0..150 => match self.any_host() {
                Some(at) => self.host_step(at),
                None => self.start_host(),
            },
            150..190 => self.work_step(),
            190..215 => self.person_step(),
            215..222 => self.chat_turns = self.rng.usize(..2),
            222..225 => self.prune(),
            225..240 => self.host_fault(),
            _ => {}
        }
    }

    fn pass_time(&mut self) {
        let span = Duration::from_millis(self.rng.u64(..1500));
        self.now = self.now + span;
        self.monotonic = self.monotonic + span;
        // The wall clock may be set at any time, and all may stand still.
        match self.rng.u16(..) {
            0..200 => self.set_clock(60_000, 4 * 3_600_000),
            200..230 => self.set_clock(24 * 3_600_000, 30 * 3_600_000),
            230..330 => self.set_clock(-2 * 3_600_000, 0),
            _ => {}
        }
    }

    fn set_clock(&mut self, from: i64, to: i64) {
        let by = self.rng.i64(from..to);
        self.now = UnixMillis(self.now.0 + by);
        self.note(format!("the wall clock jumps by {} s", by / 1000));
    }

    fn any_host(&mut self) -> Option<usize> {
        (!self.hosts.is_empty()).then(|| self.rng.usize(..self.hosts.len()))
    }

    /// The first host has the data directory; the others had it.
    fn start_host(&mut self) {
        if let Some(before) = self.hosts.first_mut() {
            before.has_directory = false;
        }
        let id = HostId::generate(&*self.ids);
        self.note(format!("host {id} starts"));
        self.hosts.insert(0, Host::new(id, true));
    }

    /// A host dies, or loses the data directory without noticing it.
    fn host_fault(&mut self) {
        match self.rng.u8(..) {
            0..100 if self.hosts.len() < HOSTS => self.start_host(),
            _ => {
                if let Some(at) = self.any_host() {
                    let host = self.hosts.remove(at);
                    self.note(format!("host {} dies", host.id));
                }
            }
        }
    }

    fn work_step(&mut self) {
        let going: Vec<MessageId> = self
            .works
            .iter()
            .filter(|(_, work)| **work == Work::Going)
            .map(|(message, _)| message.clone())
            .collect();
        if going.is_empty() {
            return;
        }
        let message = going[self.rng.usize(..going.len())].clone();
        let of = |row: &&oracle::Row| row.message.as_deref() == Some(message.as_str());
        let Some(run) = self.oracle.runs().find(of) else { return };
        let mood = self.moods[&run.schedule];
        if let Some(work) = work::ending(mood, &mut self.rng) {
            self.note(format!("{message} ends: {work:?}"));
            self.works.insert(message, work);
        }
    }

    fn calm_down(&mut self) {
        self.faults = false;
        self.chat_turns = 0;
        self.hosts.clear();
        self.note("the faults stop".to_owned());
        self.start_host();
    }

    /// Everything that may be asserted of what was written since the last time.
    fn judged(&mut self, deed: Deed) {
        let touched = self.store.touched();
        let when = When { now: self.now.0, cap: self.cap as usize };
        if let Err(wrong) = self.oracle.see(&self.store.read().raw(), &touched, &deed, when) {
            self.fail(&format!("{wrong}\nafter {deed:?}"));
        }
        if let Deed::Finished { run, .. } = &deed {
            self.check_truth(run);
        }
    }

    /// A run is recorded as what became of its message.
    fn check_truth(&self, run: &str) {
        let run = self.oracle.runs().find(|row| row.id == run).expect("it is there");
        let message = run.message.as_ref().and_then(|id| MessageId::parse(id).ok());
        let work = message.and_then(|message| self.works.get(&message).copied());
        let fine = match (run.status.as_str(), work) {
            ("completed", work) => work == Some(Work::Completed),
            ("failed", Some(Work::Failed(reason))) => {
                run.reason.as_deref() == Some(reason.as_str())
            }
            ("failed" | "cancelled", work) => matches!(work, None | Some(Work::Withdrawn)),
            _ => false,
        };
        if !fine {
            self.fail(&format!("what became of it is {work:?}: {run:?}"));
        }
    }

    fn check_end(&self) {
        if let Some(work) = self.works.iter().find(|(_, work)| **work == Work::Going) {
            self.fail(&format!("somebody still works on {work:?}"));
        }
    }

    fn note(&mut self, text: String) {
        self.trace.note(self.now, text);
    }

    fn fail(&self, what: &str) -> ! {
        self.trace.fail(what)
    }
}
