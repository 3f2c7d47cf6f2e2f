//! What is around the host: runners, a channel, and what goes wrong with them.

use std::time::Duration;

use twobox_model::channel::Outcome;
use twobox_shared::ids::RunnerId;
use uuid::Uuid;

use super::World;
use crate::host::{Flight, Task};
use crate::runner::{Doing, Runner, Step};

impl World {
    pub(super) fn runner_step(&mut self, at: usize) {
        let (now, faults) = (self.now, self.faults);
        let session = &mut self.sessions[at];
        let Some(runner) = session.runners.iter_mut().find(|runner| runner.lives()) else { return };
        let id = runner.id;
        match runner.step(&mut session.boxes, &mut session.lock, now, faults, &mut self.dice) {
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

    pub(super) fn kill(&mut self, at: usize, runner: RunnerId, why: &str) {
        let lost = self.faults && self.dice.fault(50);
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

    pub(super) fn channel_step(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let at = self.dice.pick(self.flights.len());
        let flight = self.flights.swap_remove(at);
        let mut outcomes = Vec::new();
        for key in &flight.keys {
            if !self.channel_up {
                outcomes.push(Outcome::Unavailable);
                break;
            }
            self.show(&flight, key);
            if self.faults && self.dice.fault(40) {
                // It was shown, but the channel says that it was not.
                let error = "time-out".to_owned();
                outcomes.push(Outcome::Transient { error, retry_after: None });
                break;
            }
            outcomes.push(Outcome::Delivered { platform_message_id: None });
        }
        self.note(format!("channel takes {} of {}", outcomes.len(), flight.keys.len()));
        if let Some(task) = &mut self.sessions[flight.session].task {
            task.outcomes.push_back((flight, outcomes));
        }
    }

    /// What people see: under one key, once.
    fn show(&mut self, flight: &Flight, key: &str) {
        if !self.shown.insert((flight.session, key.to_owned())) {
            return;
        }
        let position = self.sessions[flight.session].boxes.position(key);
        let queue =
            self.ledger.entry((flight.session, flight.address.thread_id.clone())).or_default();
        if queue.last().is_some_and(|last| *last > position) {
            self.fail(&format!("{key} overtook something to the same address, or was overtaken"));
        }
        queue.push(position);
    }

    pub(super) fn fault(&mut self, at: usize) {
        match self.dice.seeded().u8(..11) {
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
}
