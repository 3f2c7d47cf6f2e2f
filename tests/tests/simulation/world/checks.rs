//! What always holds, and what holds in the end.

use super::{SESSIONS, Session, World};
use crate::model::Status;
use crate::runner::Runner;

impl World {
    pub(super) fn check_always(&mut self) {
        for at in 0..SESSIONS {
            let session = &self.sessions[at];
            if session.runners.iter().filter(|runner| runner.lives()).count() > 1 {
                self.fail("two containers of one session live");
            }
        }
        for session in &self.sessions {
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

    pub(super) fn settled(&self) -> bool {
        self.sessions.iter().all(|session| session.boxes.settled()) && self.flights.is_empty()
    }

    pub(super) fn check_end(&mut self) {
        for at in 0..SESSIONS {
            let boxes = &self.sessions[at].boxes;
            for message in boxes.messages.iter().filter(|message| message.row.trigger) {
                let told = boxes.notices.contains(&message.row.id);
                let fine = match message.status {
                    Status::Completed => message.answers == 1,
                    Status::Failed => message.answers == 0 && told,
                    Status::Pending => false,
                };
                if !fine {
                    self.fail(&format!("{} ended as {message:?}, told: {told}", message.row.id));
                }
            }
            for row in &boxes.rows {
                if !self.shown.contains(&(at, row.id.clone())) {
                    self.fail(&format!("{} was never shown", row.id));
                }
            }
        }
    }
}
