//! The sweep of one session, a step at a time. Between any two of them the host may crash.

use std::time::Duration;

use twobox_session::admission::{AdmissionOrder, Class};
use twobox_session::boxes::{BoxSnapshot, Writers};
use twobox_session::decide::{self, Alive};
use twobox_session::limits::Vitals;
use twobox_session::machine::{Effect, End, Event, Facts, Left, Step, Sweep, Unread};
use twobox_session::signal::{Reason, Reasons};
use twobox_shared::ids::RunnerId;
use twobox_shared::time::UnixMillis;
use twobox_slots::zone::Zone;
use twobox_store::sessions::{DUE_NOW, StopCause};
use uuid::Uuid;

use super::{Session, World};
use crate::disk::Commit;
use crate::host::{self, Task};
use crate::runner::Runner;

impl World {
    pub(super) fn host_step(&mut self, at: usize) {
        if !self.host_up {
            if self.dice.seldom(60) {
                self.start_host();
            }
            return;
        }
        let Some(mut task) = self.sessions[at].task.take() else { return };
        let Some((mut sweep, effect)) = task.sweep.take() else { return self.idle(at, task) };
        let event = match self.carry_out(at, &mut task, effect, &mut sweep) {
            Ok(event) => event,
            Err(commit) => return self.cope(at, task, &sweep, &format!("{commit:?}")),
        };
        let facts = Facts {
            now: self.now,
            stop_cause: self.sessions[at].boxes.stop_cause,
            max_tries: self.max_tries,
            day_turns: Zone::UTC.day_turns(self.now),
            agent_removed: false,
        };
        match sweep.step(event, &facts) {
            Step::Do(next) => task.sweep = Some((sweep, next)),
            Step::End(End::Done) => {}
            Step::End(End::Unread) => return self.cope(at, task, &sweep, "the outbox is torn"),
            Step::End(End::Violation(why)) => self.fail(&format!("honest runners: {why}")),
        }
        if self.host_up {
            self.sessions[at].task = Some(task);
            if self.faults && self.dice.fault(3) {
                self.crash_host("between two steps of a sweep");
            }
        }
    }

    fn carry_out(
        &mut self,
        at: usize,
        task: &mut Task,
        effect: Effect,
        sweep: &mut Sweep,
    ) -> Result<Event, Commit> {
        match effect {
            Effect::Prepare | Effect::HoldUnread(_) | Effect::Forget => {}
            Effect::Look(writers) => {
                return Ok(self.look(at, writers));
            }
            Effect::Ask => return Ok(Event::Answered(self.ask(at, task))),
            Effect::Enforce => return Ok(Event::Answered(self.enforce(at, task, &sweep.before))),
            Effect::Plan => {
                let (planned, flights) =
                    host::plan(task, &self.sessions[at].boxes, sweep, at, self.channel_up);
                self.flights.extend(flights);
                return Ok(planned);
            }
            Effect::Settle => self.settle(at, task, sweep)?,
            Effect::Observe => {
                task.acked |= has_acked(&sweep.after, self.sessions[at].boxes.runner);
                if task.acked {
                    self.sessions[at].boxes.failed_starts = 0;
                    self.sessions[at].boxes.start_after = None;
                }
            }
            Effect::Finish => {
                let acked = has_acked(&sweep.after, self.sessions[at].boxes.runner);
                let ended = self.sessions[at].boxes.runner.is_some();
                self.finish_container(at, task, acked, sweep.now);
                return Ok(Event::Finished(ended));
            }
            Effect::Start(class) => self.start_container(at, task, class, sweep.now),
            Effect::Rest(next) => {
                if let Some(next) = next {
                    task.look_at(self.monotonic + next.since(sweep.now));
                }
                if task.vitals.is_none() && self.sessions[at].boxes.runner.is_none() {
                    self.admission.release(self.sessions[at].id);
                    self.give_places();
                }
            }
            Effect::Deliver => {
                let commits = [(); 2].map(|()| Commit::roll(self.faults, &mut self.dice));
                let Session { id, boxes, .. } = &mut self.sessions[at];
                if !host::deliver(boxes, task, sweep, *id, commits) {
                    return Err(commits[1]);
                }
                if let Some(next) = sweep.plan.next {
                    task.look_at(self.monotonic + next.since(sweep.now));
                }
                return Ok(Event::Delivered(sweep.plan.next));
            }
            Effect::Mark => {
                let left = Left {
                    accepted: task.accepted,
                    lives: task.vitals.is_some(),
                    recorded: self.sessions[at].boxes.runner.is_some(),
                    sending: !task.in_flight.is_empty(),
                    start_after: self.sessions[at].boxes.start_after,
                };
                if let Some(next) = sweep.next_mark(&left) {
                    let commit = Commit::roll(self.faults, &mut self.dice);
                    if !task.mark(&mut self.sessions[at].boxes, next.is_some(), commit) {
                        return Err(commit);
                    }
                    if let Some(next) = next.filter(|next| *next != DUE_NOW) {
                        task.look_at(self.monotonic + next.since(sweep.now));
                    }
                }
            }
        }
        Ok(Event::Done)
    }

    /// Reads both boxes. A container that was killed may have left its outbox so that only a copy can be
    /// read, until a runner repairs it.
    fn look(&mut self, at: usize, writers: Writers) -> Event {
        let torn = self.faults
            && writers == Writers::Possible
            && !self.sessions[at].runners.iter().any(Runner::lives)
            && self.dice.fault(30);
        match torn {
            true => Event::Unread(Unread::Torn),
            false => Event::Looked(Box::new(host::look(&self.sessions[at].boxes, writers))),
        }
    }

    fn settle(&mut self, at: usize, task: &mut Task, sweep: &Sweep) -> Result<(), Commit> {
        let commit = Commit::roll(self.faults, &mut self.dice);
        let boxes = &mut self.sessions[at].boxes;
        let goes_on = commit.holds() && host::settle(boxes, sweep, self.max_tries);
        if commit != Commit::Done {
            return Err(commit);
        }
        task.signal |= sweep.decision.look_again || goes_on;
        task.accepted |= goes_on;
        let (actions, wake) = (sweep.decision.actions.len(), sweep.decision.wake);
        self.note(format!("s{at} settles {actions} alive {} wake {wake:?}", name(sweep.alive)));
        Ok(())
    }

    /// Between two sweeps: records what a channel said, and begins a sweep if there is a reason.
    fn idle(&mut self, at: usize, mut task: Task) {
        if let Some((flight, outcomes)) = task.outcomes.pop_front() {
            let commit = Commit::roll(self.faults, &mut self.dice);
            if commit.holds() {
                host::record(&mut self.sessions[at].boxes, &flight, &outcomes, self.now);
            }
            self.note(format!("s{at} records {} outcomes: {commit:?}", outcomes.len()));
            match commit {
                Commit::Done => {
                    task.in_flight.remove(&flight.address);
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
        if task.signal || due || (watched && self.dice.seldom(3)) {
            let reason = if task.ask { Reason::Runtime } else { Reason::Due };
            task.signal = false;
            task.ask = false;
            task.accepted = false;
            task.look_at = None;
            let believed = task.vitals.as_ref().map(|vitals| vitals.runner);
            task.sweep = Some(Sweep::begin(Reasons::default().with(reason), believed));
        } else if task.vitals.is_none() && !task.marked && task.in_flight.is_empty() {
            return; // it retires
        }
        self.sessions[at].task = Some(task);
    }

    /// Who lives, by the runtime's word.
    fn ask(&mut self, at: usize, task: &mut Task) -> Alive {
        let monotonic = self.monotonic;
        if !self.runtime_up {
            task.look_at(monotonic + Duration::from_secs(1));
            task.ask = true;
            return Alive::Unknown;
        }
        let session = &self.sessions[at];
        let alive = session.runners.iter().find(|runner| runner.lives()).map(|it| it.id);
        match alive {
            None => Alive::None,
            Some(runner) if session.boxes.runner == Some(runner) => {
                if task.vitals.as_ref().is_none_or(|vitals| vitals.runner != runner) {
                    task.vitals = Some(Vitals::new(runner, monotonic, None));
                    task.acked = true; // its past is unknown
                    self.admission.adopt(session.id, session.seat);
                }
                Alive::Runner(runner)
            }
            Some(runner) => {
                // Somebody else's start: it has to go before anything is decided.
                self.kill(at, runner, "as nobody recorded its start");
                task.look_at(monotonic);
                task.ask = true;
                Alive::Unknown
            }
        }
    }

    /// Stops the living container if it broke a limit.
    fn enforce(&mut self, at: usize, task: &mut Task, before: &BoxSnapshot) -> Alive {
        let Some(vitals) = &mut task.vitals else { return Alive::None };
        let runner = vitals.runner;
        let beats =
            self.sessions[at].runners.iter().any(|it| it.id == runner && it.lives() && !it.stalled);
        if !host::breaks_limit(vitals, &before.acks, self.monotonic, beats) {
            return Alive::Runner(runner);
        }
        self.sessions[at].boxes.stop_cause.get_or_insert(StopCause::Limit);
        if !self.runtime_up || (self.faults && self.dice.fault(60)) {
            self.note(format!("s{at} STOP FAILS"));
            task.ask = true;
            task.look_at(self.monotonic + Duration::from_secs(1));
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
        let failed = decide::start_failed(started_here, acked || task.acked, boxes.stop_cause);
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

    fn start_container(&mut self, at: usize, task: &mut Task, class: Class, now: UnixMillis) {
        let monotonic = self.monotonic;
        let session = &self.sessions[at];
        if let Some(after) = decide::start_waits(session.boxes.start_after, now) {
            task.look_at(monotonic + after.since(now));
            return;
        }
        self.admission.request(session.id, session.seat, class);
        let id = session.id;
        self.give_places();
        if !self.admission.holds(id) {
            return;
        }
        let runner = RunnerId::from_uuid(Uuid::from_u128(self.next_runner));
        self.next_runner += 1;
        let commit = Commit::roll(self.faults, &mut self.dice);
        let session = &mut self.sessions[at];
        if commit.holds() {
            session.boxes.runner = Some(runner);
            session.boxes.stop_cause = None;
            session.boxes.due = true;
        }
        if commit != Commit::Done {
            task.look_at(monotonic + Duration::from_secs(5));
            self.note(format!("s{at} cannot record a start: {commit:?}"));
            return;
        }
        task.marked = true;
        if self.faults && self.dice.fault(12) {
            self.crash_host("with a start recorded");
            return;
        }
        if session.runners.iter().any(Runner::lives) {
            // The container's name is taken; the look at the runtime that follows tells by whom.
            task.ask = true;
            task.look_at(monotonic);
            self.note(format!("s{at} cannot start: somebody else did"));
            return;
        }
        session.runners.push(Runner::new(runner));
        self.note(format!("s{at} starts a container"));
        if self.faults && self.dice.fault(12) {
            self.crash_host("with a container started");
            return;
        }
        task.vitals = Some(Vitals::new(runner, monotonic, None));
        task.acked = false;
        task.signal = true;
    }

    /// A sweep that could not go on ends, and another one follows a little later with the reasons that
    /// this one had.
    fn cope(&mut self, at: usize, mut task: Task, sweep: &Sweep, why: &str) {
        self.note(format!("s{at} cannot go on: {why}"));
        task.ask |= sweep.reasons.contains(Reason::Runtime);
        task.look_at(self.monotonic + Duration::from_secs(5));
        self.sessions[at].task = Some(task);
    }

    fn give_places(&mut self) {
        for order in self.admission.orders() {
            let (AdmissionOrder::Grant(id) | AdmissionOrder::Evict(id)) = order;
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

fn has_acked(snapshot: &BoxSnapshot, runner: Option<RunnerId>) -> bool {
    runner.is_some() && snapshot.acks.values().any(|ack| ack.runner == runner)
}
