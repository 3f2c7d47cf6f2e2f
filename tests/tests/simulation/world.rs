//! The world: everything that may happen next, one thing at a time, chosen by the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use twobox_host::admission::{Admission, Class, Order};
use twobox_host::channel::Outcome;
use twobox_host::db::sessions::StopCause;
use twobox_host::session::decide::{self, Acks, Alive, Wake};
use twobox_host::session::limits::Vitals;
use twobox_shared::clock::Monotonic;
use twobox_shared::content::KIND_CHAT;
use twobox_shared::ids::{AgentGroupId, MessageId, RunnerId, SessionId};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;
use uuid::Uuid;

use crate::disk::Commit;
use crate::host::{self, Flight, Phase, Task};
use crate::model::{Boxes, Status};
use crate::runner::{Doing, Runner, Step};

const SESSIONS: usize = 3;
const MESSAGES: usize = 5;
const PLACES: usize = 2;
const FAULTY_STEPS: usize = 400;
const QUIET_STEPS: usize = 60_000;

/// How long everything may take to settle once the faults have stopped: more than any limit of a
/// container that stalls, and less than most jumps of the wall clock, so that none puts anything off.
const QUIET_TIME: Duration = Duration::from_secs(2 * 3600);

/// The longest pause between two starts, as in the product.
const START_PAUSE_MAX: Duration = Duration::from_secs(5 * 60);

struct Session {
    id: SessionId,
    group: AgentGroupId,
    boxes: Boxes,
    task: Option<Task>,
    runners: Vec<Runner>,
    lock: Option<RunnerId>,
    accepted: usize,
}

pub(crate) struct World {
    seed: u64,
    rng: fastrand::Rng,
    now: UnixMillis,
    monotonic: Monotonic,
    sessions: Vec<Session>,
    admission: Admission,
    host_up: bool,
    channel_up: bool,
    runtime_up: bool,
    faults: bool,
    flights: Vec<Flight>,
    /// What people saw: for each session and place the rows, each under its key once.
    ledger: BTreeMap<(usize, Option<String>), Vec<Seq>>,
    shown: BTreeSet<(usize, MessageId)>,
    next_runner: u128,
    hash: DefaultHasher,
    trace: Vec<String>,
    pub(crate) print: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let session = |n: usize| Session {
            id: SessionId::from_uuid(Uuid::from_u128(n as u128)),
            group: AgentGroupId::from_uuid(Uuid::from_u128(n as u128 / 2)),
            boxes: Boxes::default(),
            task: None,
            runners: Vec::new(),
            lock: None,
            accepted: 0,
        };
        let mut world = Self {
            seed,
            rng: fastrand::Rng::with_seed(seed),
            now: UnixMillis(1_800_000_000_000),
            monotonic: Monotonic(1),
            sessions: (0..SESSIONS).map(session).collect(),
            admission: Admission::new(PLACES),
            host_up: false,
            channel_up: true,
            runtime_up: true,
            faults: true,
            flights: Vec::new(),
            ledger: BTreeMap::new(),
            shown: BTreeSet::new(),
            next_runner: 1,
            hash: DefaultHasher::new(),
            trace: Vec::new(),
            print: false,
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
                return self.hash.finish();
            }
            self.step();
        }
        self.fail("nothing settles although the faults have stopped");
    }

    fn step(&mut self) {
        self.pass_time();
        let session = self.rng.usize(..SESSIONS);
        match self.rng.u8(..) {
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

    fn note(&mut self, text: String) {
        text.hash(&mut self.hash);
        if self.print {
            eprintln!("{} {text}", self.now);
        }
        self.trace.push(text);
    }

    fn fail(&self, what: &str) -> ! {
        let tail = self.trace.len().saturating_sub(60);
        panic!(
            "{what}\nreplay: TWOBOX_SIM_SEED={} cargo test -p twobox-tests --test simulation\n{}",
            self.seed,
            self.trace[tail..].join("\n")
        );
    }

    fn pass_time(&mut self) {
        let span = Duration::from_millis(self.rng.u64(..700));
        self.now = self.now + span;
        self.monotonic = self.monotonic + span;
        // No fault: whatever runs, the wall clock may be set at any time.
        if self.rng.u16(..) < 200 {
            let hours = self.rng.i64(-30..30);
            self.now = UnixMillis(self.now.0 + hours * 3_600_000);
            self.note(format!("the wall clock jumps by {hours} h"));
        }
    }

    // The host.

    fn start_host(&mut self) {
        self.host_up = true;
        self.admission = Admission::new(PLACES);
        self.note("host starts".into());
        self.safety_net();
    }

    /// The pass at the start and once a minute: sessions that are due, and those that are awake.
    fn safety_net(&mut self) {
        if !self.host_up {
            return;
        }
        for session in &mut self.sessions {
            if session.boxes.due && session.task.is_none() {
                session.task = Some(Task::of(&session.boxes));
            }
            if let Some(task) = &mut session.task {
                task.signal = true;
                task.ask = true;
            }
        }
        // Containers of sessions that sleep are found in the runtime's list.
        for session in &mut self.sessions {
            let lives = session.runners.iter().any(Runner::lives);
            if self.runtime_up && lives && session.task.is_none() {
                session.task = Some(Task::of(&session.boxes));
            }
        }
    }

    fn accept(&mut self, at: usize) {
        let session = &mut self.sessions[at];
        let serial = session.task.as_ref().is_none_or(|task| {
            matches!(task.phase, Phase::Idle | Phase::Ask { .. } | Phase::Start)
        });
        if !self.host_up || !serial || session.accepted == MESSAGES {
            return;
        }
        let task = session.task.get_or_insert_with(|| Task::of(&session.boxes));
        if !task.mark(&mut session.boxes, true, Commit::roll(self.faults, &mut self.rng)) {
            self.note(format!("s{at} cannot be marked, and refuses a message"));
            return;
        }
        if self.faults && self.rng.u8(..) < 8 {
            self.crash_host("between mark and insert");
            return;
        }
        if Commit::roll(self.faults, &mut self.rng) == Commit::Failed {
            self.note(format!("s{at} cannot store a message"));
            return;
        }
        let thread = ["a", "b"][self.rng.usize(..2)];
        let trigger = self.rng.u8(..) > 40 || session.accepted + 1 == MESSAGES;
        let name = format!("s{at}m{}", session.accepted);
        session.boxes.accept(name.clone(), thread, trigger);
        session.accepted += 1;
        self.note(format!("host accepts {name}"));
        if self.faults && self.rng.u8(..) < 8 {
            self.crash_host("after the insert");
            return;
        }
        let session = &mut self.sessions[at];
        let task = session.task.get_or_insert_with(|| Task::of(&session.boxes));
        task.signal = true;
        task.accepted = true;
    }

    fn crash_host(&mut self, when: &str) {
        self.note(format!("HOST CRASHES {when}"));
        self.host_up = false;
        self.flights.clear();
        for session in &mut self.sessions {
            session.task = None;
        }
    }

    fn host_step(&mut self, at: usize) {
        if !self.host_up {
            if self.rng.u8(..) < 60 {
                self.start_host();
            }
            return;
        }
        let (now, monotonic) = (self.now, self.monotonic);
        let Some(mut task) = self.sessions[at].task.take() else { return };
        if let Phase::Idle = task.phase {
            if let Some((flight, outcomes)) = task.outcomes.pop_front() {
                let commit = Commit::roll(self.faults, &mut self.rng);
                if commit.holds() {
                    host::record(&mut self.sessions[at].boxes, &flight, &outcomes, now);
                }
                self.note(format!("s{at} records {} outcomes: {commit:?}", outcomes.len()));
                match commit {
                    Commit::Done => {
                        task.in_flight.remove(&flight.place);
                        task.signal = true;
                    }
                    // It is kept, and its destination stays busy until it is recorded.
                    Commit::Failed | Commit::Doubtful => {
                        task.outcomes.push_front((flight, outcomes));
                    }
                }
            }
            let due = task.look_at.is_some_and(|when| when <= monotonic);
            let watched = task.vitals.is_some();
            if task.signal || due || (watched && self.rng.u8(..) < 3) {
                task.signal = false;
                task.accepted = false;
                task.look_at = None;
                let boxes = &self.sessions[at].boxes;
                let before = boxes.acks_of(&boxes.pending());
                task.phase = Phase::Ask { before };
            } else if task.vitals.is_none() && !task.marked && task.in_flight.is_empty() {
                return; // it retires
            }
            self.sessions[at].task = Some(task);
            return;
        }
        task.phase = match std::mem::replace(&mut task.phase, Phase::Idle) {
            Phase::Idle => unreachable!("handled above"),
            Phase::Ask { before } => {
                let alive = self.ask(at, &mut task, &before, monotonic);
                Phase::Reread { before, alive }
            }
            Phase::Reread { before, alive } => {
                let boxes = &self.sessions[at].boxes;
                let pending = boxes.pending();
                let after = match alive {
                    Alive::Runner(runner)
                        if !decide::has_foreign_claim(&pending, &before, runner) =>
                    {
                        before.clone()
                    }
                    _ => boxes.acks_of(&pending),
                };
                let newest = boxes.newest();
                // Messages accepted since the first read have no ack in it.
                Phase::Settle { before, alive, pending, after, newest }
            }
            Phase::Settle { before, alive, pending, after, newest } => {
                let commit = Commit::roll(self.faults, &mut self.rng);
                let boxes = &mut self.sessions[at].boxes;
                let settled = commit
                    .holds()
                    .then(|| host::settle(boxes, &pending, &before, &after, alive, newest, now));
                let Some((wake, again, actions, goes_on)) =
                    settled.filter(|_| commit == Commit::Done)
                else {
                    return self.cope(at, task, commit);
                };
                task.signal |= again || goes_on;
                task.accepted |= goes_on;
                task.acks = after.clone();
                task.look_again = again;
                task.wake = wake;
                if let Some(vitals) = &task.vitals {
                    task.acked |= after.values().any(|ack| ack.runner == Some(vitals.runner));
                }
                let acked = after.values().any(|ack| ack.runner == boxes.runner);
                self.note(format!("s{at} settles {actions} alive {} wake {wake:?}", name(alive)));
                Phase::End { alive, wake, acked }
            }
            Phase::End { alive, wake, acked } => {
                if alive == Alive::None {
                    self.finish_container(at, &mut task, acked, now);
                }
                match wake {
                    Wake::Start => Phase::Start,
                    Wake::Not { next } => {
                        let next = next.map(|next| monotonic + next.since(now));
                        task.look_at = task.look_at.into_iter().chain(next).min();
                        if self.sessions[at].boxes.runner.is_none() {
                            let session = self.sessions[at].id;
                            self.admission.release(session);
                            self.give_places();
                        }
                        Phase::Deliver
                    }
                }
            }
            Phase::Start => {
                self.start_container(at, &mut task, now, monotonic);
                Phase::Deliver
            }
            Phase::Deliver => {
                let up = self.channel_up;
                let commits = [(); 2].map(|()| Commit::roll(self.faults, &mut self.rng));
                let Session { id, boxes, .. } = &mut self.sessions[at];
                match host::deliver(boxes, &mut task, (at, *id), up, commits, now, monotonic) {
                    Some(flights) => self.flights.extend(flights),
                    None => return self.cope(at, task, commits[1]),
                }
                Phase::Unmark
            }
            Phase::Unmark => {
                let busy = task.accepted
                    || task.vitals.is_some()
                    || self.sessions[at].boxes.runner.is_some()
                    || !task.in_flight.is_empty()
                    || task.wake == Wake::Start
                    || task.look_again
                    || task.look_at.is_some();
                let commit = Commit::roll(self.faults, &mut self.rng);
                if !task.mark(&mut self.sessions[at].boxes, busy, commit) {
                    return self.cope(at, task, commit);
                }
                task.owed = false;
                Phase::Idle
            }
        };
        if self.host_up {
            self.sessions[at].task = Some(task);
            if self.faults && self.rng.u8(..) < 3 {
                self.crash_host("between two steps of a sweep");
            }
        }
    }

    /// Step 2: who lives, and is a limit broken.
    fn ask(&mut self, at: usize, task: &mut Task, before: &Acks, monotonic: Monotonic) -> Alive {
        let pending = self.sessions[at].boxes.pending();
        let foreign = |known: &Vitals| decide::has_foreign_claim(&pending, before, known.runner);
        if task.ask || task.vitals.as_ref().is_none_or(foreign) {
            task.ask = false;
            task.owed = true;
            if !self.runtime_up {
                task.look_at = Some(monotonic + Duration::from_secs(1));
                task.ask = true;
                return Alive::Unknown;
            }
            let session = &self.sessions[at];
            let alive = session.runners.iter().find(|runner| runner.lives()).map(|it| it.id);
            match alive {
                None => {
                    return Alive::None;
                }
                Some(runner) if session.boxes.runner == Some(runner) => {
                    if task.vitals.as_ref().is_none_or(|vitals| vitals.runner != runner) {
                        task.vitals = Some(Vitals::new(runner, monotonic, None));
                        task.acked = true; // its past is unknown
                        self.admission.adopt(session.id, session.group);
                    }
                }
                Some(runner) => {
                    // Somebody else's start: it has to go before anything is decided.
                    self.kill(at, runner, "as nobody recorded its start");
                    task.look_at = Some(monotonic);
                    task.ask = true;
                    return Alive::Unknown;
                }
            }
        }
        let Some(vitals) = &mut task.vitals else { return Alive::None };
        let runner = vitals.runner;
        let beats =
            self.sessions[at].runners.iter().any(|it| it.id == runner && it.lives() && !it.stalled);
        if !host::breaks_limit(vitals, before, monotonic, beats) {
            return Alive::Runner(runner);
        }
        self.sessions[at].boxes.stop_cause.get_or_insert(StopCause::Limit);
        if !self.runtime_up || (self.faults && self.rng.u8(..) < 60) {
            self.note(format!("s{at} STOP FAILS"));
            task.look_at = Some(monotonic + Duration::from_secs(1));
            return Alive::Unknown;
        }
        self.note(format!("s{at} stops its container"));
        self.kill(at, runner, "by the host");
        Alive::None
    }

    fn finish_container(&mut self, at: usize, task: &mut Task, acked: bool, now: UnixMillis) {
        let boxes = &mut self.sessions[at].boxes;
        let started_here = task.vitals.is_some();
        if boxes.runner.is_none() {
            task.vitals = None;
            return;
        }
        let failed = started_here && !acked && !task.acked && boxes.stop_cause.is_none();
        if failed {
            boxes.failed_starts += 1;
            let pause = Duration::from_secs(1) * 2_u32.pow(boxes.failed_starts.min(8) - 1);
            boxes.start_after = Some(now + pause);
        }
        boxes.runner = None;
        boxes.stop_cause = None;
        task.vitals = None;
        task.signal = true;
        let session = self.sessions[at].id;
        self.admission.release(session);
        self.give_places();
    }

    fn start_container(
        &mut self,
        at: usize,
        task: &mut Task,
        now: UnixMillis,
        monotonic: Monotonic,
    ) {
        let session = &self.sessions[at];
        let pause = |after: &UnixMillis| *after > now && after.since(now) <= START_PAUSE_MAX;
        if let Some(after) = session.boxes.start_after.filter(pause) {
            let next = monotonic + after.since(now);
            task.look_at = task.look_at.into_iter().chain([next]).min();
            return;
        }
        self.admission.request(session.id, session.group, Class::Chat);
        let id = session.id;
        self.give_places();
        if !self.admission.holds(id) {
            return;
        }
        let runner = RunnerId::from_uuid(Uuid::from_u128(self.next_runner));
        self.next_runner += 1;
        let commit = Commit::roll(self.faults, &mut self.rng);
        let session = &mut self.sessions[at];
        if commit.holds() {
            session.boxes.runner = Some(runner);
            session.boxes.stop_cause = None;
            session.boxes.due = true;
        }
        if commit != Commit::Done {
            task.look_at = Some(monotonic + Duration::from_secs(5));
            self.note(format!("s{at} cannot record a start: {commit:?}"));
            return;
        }
        task.marked = true;
        if self.faults && self.rng.u8(..) < 12 {
            self.crash_host("with a start recorded");
            return;
        }
        if session.runners.iter().any(Runner::lives) {
            // The container's name is taken; the look at the runtime that follows tells by whom.
            task.ask = true;
            task.look_at = Some(monotonic);
            self.note(format!("s{at} cannot start: somebody else did"));
            return;
        }
        session.runners.push(Runner::new(runner));
        self.note(format!("s{at} starts a container"));
        if self.faults && self.rng.u8(..) < 12 {
            self.crash_host("with a container started");
            return;
        }
        task.vitals = Some(Vitals::new(runner, monotonic, None));
        task.acked = false;
        task.signal = true;
    }

    /// A sweep that could not write ends, and another one follows a little later with the reasons that
    /// this one had.
    fn cope(&mut self, at: usize, mut task: Task, commit: Commit) {
        self.note(format!("s{at} cannot go on: {commit:?}"));
        task.phase = Phase::Idle;
        task.ask |= task.owed;
        let soon = self.monotonic + Duration::from_secs(5);
        task.look_at = task.look_at.into_iter().chain([soon]).min();
        self.sessions[at].task = Some(task);
    }

    fn give_places(&mut self) {
        for order in self.admission.orders(true) {
            let (Order::Grant(id) | Order::Evict(id)) = order;
            if let Some(task) =
                self.sessions.iter_mut().find(|it| it.id == id).and_then(|it| it.task.as_mut())
            {
                task.signal = true;
            }
        }
    }

    // Runners and channels.

    fn runner_step(&mut self, at: usize) {
        let (now, faults) = (self.now, self.faults);
        let session = &mut self.sessions[at];
        let Some(runner) = session.runners.iter_mut().find(|runner| runner.lives()) else { return };
        let id = runner.id;
        match runner.step(&mut session.boxes, &mut session.lock, now, faults, &mut self.rng) {
            Step::Nothing => {}
            Step::Did(what) => {
                self.note(format!("s{at} runner {what}"));
                self.committed(at);
            }
            Step::Died(why) => self.kill(at, id, &why),
        }
    }

    /// A commit to the outbox reaches the task as an event.
    fn committed(&mut self, at: usize) {
        if let Some(task) = &mut self.sessions[at].task {
            task.signal = true;
        }
    }

    fn kill(&mut self, at: usize, runner: RunnerId, why: &str) {
        let lost = self.faults && self.rng.u8(..) < 50;
        self.note(format!("s{at} runner ends: {why}{}", if lost { ", event lost" } else { "" }));
        let session = &mut self.sessions[at];
        for it in session.runners.iter_mut().filter(|it| it.id == runner) {
            it.doing = Doing::Dead;
        }
        session.lock = session.lock.filter(|holder| *holder != runner);
        if !lost && self.host_up {
            let task = session.task.get_or_insert_with(|| Task::of(&session.boxes));
            task.signal = true;
            task.ask = true;
        }
    }

    fn channel_step(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let at = self.rng.usize(..self.flights.len());
        let flight = self.flights.swap_remove(at);
        let mut outcomes = Vec::new();
        for row in &flight.rows {
            if !self.channel_up {
                outcomes.push(Outcome::Unavailable);
                break;
            }
            self.show(&flight, row);
            if self.faults && self.rng.u8(..) < 40 {
                // It was shown, but the channel says that it was not.
                let error = "time-out".to_owned();
                outcomes.push(Outcome::Transient { error, retry_after: None });
                break;
            }
            outcomes.push(Outcome::Delivered { platform_message_id: None });
        }
        self.note(format!("channel takes {} of {}", outcomes.len(), flight.rows.len()));
        if let Some(task) = &mut self.sessions[flight.session].task {
            task.outcomes.push_back((flight, outcomes));
        }
    }

    /// What people see: under one key, once.
    fn show(&mut self, flight: &Flight, row: &MessageId) {
        if !self.shown.insert((flight.session, row.clone())) {
            return;
        }
        let seq = self.sessions[flight.session]
            .boxes
            .rows
            .iter()
            .find(|it| it.id == *row)
            .map(|it| it.seq)
            .expect("only rows of the outbox are sent");
        let queue =
            self.ledger.entry((flight.session, flight.place.thread_id.clone())).or_default();
        if queue.last().is_some_and(|last| *last > seq) {
            self.fail(&format!("{row} overtook another row to the same place, or was overtaken"));
        }
        queue.push(seq);
    }

    // Faults and checks.

    fn fault(&mut self, at: usize) {
        match self.rng.u8(..11) {
            0..=3 => {
                let living = self.sessions[at].runners.iter().find(|runner| runner.lives());
                if let Some(id) = living.map(|runner| runner.id) {
                    self.kill(at, id, "KILLED");
                }
            }
            4 => {
                if let Some(runner) = self.sessions[at].runners.iter_mut().find(|it| it.lives()) {
                    runner.stalled = true;
                    self.note(format!("s{at} runner STALLS"));
                }
            }
            5 if self.host_up => self.crash_host("out of the blue"),
            6 => {
                self.channel_up = !self.channel_up;
                self.note(format!("channel up: {}", self.channel_up));
                self.wake_all();
            }
            7 => {
                self.runtime_up = !self.runtime_up;
                self.note(format!("runtime up: {}", self.runtime_up));
            }
            8 => {
                let id = RunnerId::from_uuid(Uuid::from_u128(self.next_runner));
                let session = &mut self.sessions[at];
                if !session.runners.iter().any(Runner::lives) {
                    self.next_runner += 1;
                    session.runners.push(Runner::new(id));
                    self.note(format!("s{at} SOMEBODY ELSE STARTS A CONTAINER"));
                }
            }
            9 => {
                self.monotonic = self.monotonic + Duration::from_secs(40);
                self.now = self.now + Duration::from_secs(40);
            }
            _ => {}
        }
    }

    fn wake_all(&mut self) {
        for session in &mut self.sessions {
            if session.task.is_none() && session.boxes.due && self.host_up {
                session.task = Some(Task::of(&session.boxes));
            }
            if let Some(task) = &mut session.task {
                task.signal = true;
            }
        }
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

    fn check_always(&mut self) {
        for at in 0..SESSIONS {
            let session = &self.sessions[at];
            if session.runners.iter().filter(|runner| runner.lives()).count() > 1 {
                self.fail("two containers of one session live");
            }
        }
        for session in &self.sessions {
            if let Some(broken) = session.boxes.broken_series() {
                self.fail(&broken);
            }
            for runner in session.runners.iter().filter(|runner| runner.lives()) {
                let claims = runner.doing.claims();
                for claim in claims.iter().filter(|_| session.boxes.holds(claims, runner.id)) {
                    let row = session.boxes.messages.iter().find(|it| it.row.id == claim.message);
                    if row.is_some_and(|it| it.row.tries > claim.attempt) {
                        self.fail("an attempt was charged that a living runner works on");
                    }
                }
            }
        }
        let living = |session: &Session| session.runners.iter().any(Runner::lives);
        let running = self.sessions.iter().filter(|session| living(session)).count();
        // Containers that somebody else started or that were adopted may exceed the places for a
        // while, one for each session.
        if running > SESSIONS {
            self.fail("more containers run than there are places");
        }
    }

    fn settled(&self) -> bool {
        self.sessions.iter().all(|session| session.boxes.settled(self.now))
            && self.flights.is_empty()
    }

    fn check_end(&mut self) {
        for at in 0..SESSIONS {
            let boxes = &self.sessions[at].boxes;
            for message in boxes.messages.iter().filter(|message| message.row.trigger) {
                let told = boxes.notices.contains(&message.row.id);
                let fine = match message.status {
                    Status::Completed => message.answers == 1,
                    Status::Failed => message.answers == 0 && told,
                    // What waits is looked at in time.
                    Status::Pending => {
                        message.task.is_some() && (boxes.due || self.sessions[at].task.is_some())
                    }
                    Status::Paused | Status::Cancelled => message.answers <= 1,
                };
                if !fine {
                    self.fail(&format!("{} ended as {message:?}, told: {told}", message.row.id));
                }
            }
            for row in boxes.rows.iter().filter(|row| row.kind == KIND_CHAT) {
                if !self.shown.contains(&(at, row.id.clone())) {
                    self.fail(&format!("{} was never shown", row.id));
                }
            }
        }
    }
}

fn name(alive: Alive) -> &'static str {
    match alive {
        Alive::Unknown => "unknown",
        Alive::None => "none",
        Alive::Runner(_) => "one",
    }
}
