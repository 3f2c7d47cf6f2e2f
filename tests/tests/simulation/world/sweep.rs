//! The sweep of one session, a step at a time. Between any two of them the host may crash.

use std::time::Duration;

use twobox_session::admission::{Class, Order};
use twobox_session::decide::{self, Acks, Alive, Wake};
use twobox_session::limits::Vitals;
use twobox_shared::clock::Monotonic;
use twobox_shared::ids::RunnerId;
use twobox_shared::time::UnixMillis;
use twobox_store::sessions::StopCause;
use uuid::Uuid;

use super::{Session, World};
use crate::disk::Commit;
use crate::host::{self, Phase, Task};
use crate::runner::Runner;

impl World {
    pub(super) fn host_step(&mut self, at: usize) {
        if !self.host_up {
            if self.rng.u8(..) < 60 {
                self.start_host();
            }
            return;
        }
        let (now, monotonic) = (self.now, self.monotonic);
        let Some(mut task) = self.sessions[at].task.take() else { return };
        task.phase = match std::mem::replace(&mut task.phase, Phase::Idle) {
            Phase::Idle => return self.idle(at, task),
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

    /// Between two sweeps: records what a channel said, and begins a sweep if there is a reason.
    fn idle(&mut self, at: usize, mut task: Task) {
        if let Some((flight, outcomes)) = task.outcomes.pop_front() {
            let commit = Commit::roll(self.faults, &mut self.rng);
            if commit.holds() {
                host::record(&mut self.sessions[at].boxes, &flight, &outcomes, self.now);
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
        let due = task.look_at.is_some_and(|when| when <= self.monotonic);
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
                        self.admission.adopt(session.id, session.seat);
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
            boxes.start_after = Some(now + decide::start_pause(boxes.failed_starts));
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
        if let Some(after) = decide::start_waits(session.boxes.start_after, now) {
            let next = monotonic + after.since(now);
            task.look_at = task.look_at.into_iter().chain([next]).min();
            return;
        }
        self.admission.request(session.id, session.seat, Class::Chat);
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
        for order in self.admission.orders() {
            let (Order::Grant(id) | Order::Evict(id)) = order;
            if let Some(task) =
                self.sessions.iter_mut().find(|it| it.id == id).and_then(|it| it.task.as_mut())
            {
                task.signal = true;
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
