//! What always holds, and what holds in the end.

use twobox_model::channel::Outbound;
use twobox_shared::content::KIND_CHAT;

use super::{Session, World};
use crate::model::Status;

impl World {
    pub(super) fn check_always(&self) {
        for session in &self.sessions {
            if let Some(broken) = session.boxes.broken_series() {
                self.fail(&broken);
            }
            if session.runners.iter().filter(|runner| runner.lives()).count() > 1 {
                self.fail("two containers of one session live");
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
            // Containers that somebody else started, or that are not adopted yet, have none.
            let known = session.task.as_ref().is_some_and(|task| task.vitals.is_some());
            if known && !self.admission.holds(session.id) {
                self.fail("a container that the host knows runs without a place");
            }
        }
    }

    pub(super) fn settled(&self) -> bool {
        self.sessions.iter().all(|session| session.boxes.settled(self.now))
            && self.flights.is_empty()
    }

    pub(crate) fn check_end(&self) {
        for (at, Session { boxes, .. }) in self.sessions.iter().enumerate() {
            for message in boxes.messages.iter().filter(|message| message.row.trigger) {
                let told = boxes
                    .notices
                    .iter()
                    .any(|notice| notice.failed_message().as_ref() == Some(&message.row.id));
                let fine = match message.status {
                    Status::Completed => message.answers == 1,
                    Status::Failed => message.answers == 0 && told,
                    // What waits is looked at in time.
                    Status::Pending => {
                        message.task.is_some() && (boxes.due || self.sessions[at].task.is_some())
                    }
                    Status::Paused => message.answers == 0,
                    Status::Cancelled => message.answers <= 1,
                };
                if !fine {
                    self.fail(&format!("{} ended as {message:?}, told: {told}", message.row.id));
                }
            }
            let rows = boxes.rows.iter().filter(|row| row.kind == KIND_CHAT);
            let notices = boxes.notices.iter().map(|notice| Outbound::row_of_notice(&notice.cause));
            for key in rows.map(|row| row.id.to_string()).chain(notices) {
                if !self.shown.contains(&(at, key.clone())) {
                    self.fail(&format!("{key} was never shown"));
                }
            }
        }
    }
}
