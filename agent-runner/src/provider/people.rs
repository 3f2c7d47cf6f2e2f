//! Waiting for people in the middle of a turn.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use super::TurnHandle;
use crate::ask::{Asking, Decision};
use crate::event::Said;

/// How often whoever waits for people is left to look for what was pushed.
const ASK_LOOK: Duration = Duration::from_millis(50);

/// What a provider hears whose turn ended before anybody was asked.
const NOBODY_ASKED: &str = "The turn ended before anybody decided, which is a no.";

impl TurnHandle {
    /// Has people asked; what they decide comes from the receiver, in the end always: what nobody decides
    /// in time is a no. A turn that ends meanwhile is told of by a push.
    pub(crate) fn ask_people(&self, asking: Asking) -> Receiver<Decision> {
        let (reply, decision) = mpsc::channel();
        self.say(Said::Ask(asking, reply));
        decision
    }

    /// Asks people whether `tool` may be used with these `arguments`, as they are to be shown, and waits.
    /// `gather` takes what is pushed meanwhile, and says so if the turn was cancelled.
    ///
    /// # Errors
    /// What `gather` says.
    pub(crate) fn permission<E>(
        &self,
        tool: &str,
        arguments: &str,
        gather: impl FnMut() -> Result<(), E>,
    ) -> Result<Decision, E> {
        let (tool, arguments) = (tool.to_owned(), arguments.to_owned());
        self.decision(Asking::Permission { tool, arguments }, gather)
    }

    /// As [`TurnHandle::permission`], for anything.
    ///
    /// # Errors
    /// What `gather` says.
    pub(crate) fn decision<E>(
        &self,
        asking: Asking,
        mut gather: impl FnMut() -> Result<(), E>,
    ) -> Result<Decision, E> {
        let coming = self.ask_people(asking);
        loop {
            gather()?;
            match coming.recv_timeout(ASK_LOOK) {
                Ok(decision) => return Ok(decision),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(Decision::no(NOBODY_ASKED)),
            }
        }
    }
}
