//! The daemon: starting and crashing, taking messages, waking sessions.

use super::{World, admission};
use crate::disk::Commit;
use crate::host::Task;
use crate::runner::Runner;

impl World {
    pub(super) fn start_host(&mut self) {
        self.host_up = true;
        self.admission = admission(self.sessions.len());
        self.note("host starts".into());
        self.safety_net();
    }

    /// The pass at the start and once a minute: sessions that are due, and those that are awake.
    pub(super) fn safety_net(&mut self) {
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

    pub(super) fn accept(&mut self, at: usize) {
        let session = &mut self.sessions[at];
        let serial = session.task.as_ref().is_none_or(Task::takes_messages);
        if !self.host_up || !serial || session.accepted == self.messages {
            return;
        }
        let task = session.task.get_or_insert_with(|| Task::of(&session.boxes));
        if !task.mark(&mut session.boxes, true, Commit::roll(self.faults, &mut self.dice)) {
            self.note(format!("s{at} cannot be marked, and refuses a message"));
            return;
        }
        if self.faults && self.dice.fault(8) {
            self.crash_host("between mark and insert");
            return;
        }
        if Commit::roll(self.faults, &mut self.dice) == Commit::Failed {
            self.note(format!("s{at} cannot store a message"));
            return;
        }
        let thread = ["a", "b"][self.dice.pick(2)];
        let trigger = !self.dice.seldom(41) || session.accepted + 1 == self.messages;
        let name = format!("s{at}m{}", session.accepted);
        session.boxes.accept(name.clone(), thread, trigger);
        session.accepted += 1;
        self.note(format!("host accepts {name}"));
        if self.faults && self.dice.fault(8) {
            self.crash_host("after the insert");
            return;
        }
        let session = &mut self.sessions[at];
        let task = session.task.get_or_insert_with(|| Task::of(&session.boxes));
        task.signal = true;
        task.accepted = true;
    }

    pub(super) fn crash_host(&mut self, when: &str) {
        self.note(format!("HOST CRASHES {when}"));
        self.host_up = false;
        self.flights.clear();
        for session in &mut self.sessions {
            session.task = None;
        }
    }

    pub(super) fn wake_all(&mut self) {
        for session in &mut self.sessions {
            if session.task.is_none() && session.boxes.due && self.host_up {
                session.task = Some(Task::of(&session.boxes));
            }
            if let Some(task) = &mut session.task {
                task.signal = true;
            }
        }
    }
}
