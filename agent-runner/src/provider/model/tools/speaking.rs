//! How a tool of the host speaks: the main thread does what it says, and answers.

use std::sync::mpsc::RecvTimeoutError;

use super::LOOK;
use crate::ask::{Asking, Decision};
use crate::event::Said;
use crate::provider::TurnHandle;
use crate::provider::model::asking::{Cancelled, gather};
use crate::provider::model::client::Aside;

/// What a tool is told whose turn is over.
pub(in crate::provider) const OVER: &str = "the turn was ended";

/// Who speaks in a turn for a tool.
pub(in crate::provider) trait Speaks {
    /// Says something and waits until the main thread has done it.
    ///
    /// # Errors
    /// Why it could not be done.
    fn done(&mut self, said: Said) -> Result<(), String>;

    /// Has people asked, and waits for what they decide.
    ///
    /// # Errors
    /// The turn is over.
    fn decided(&mut self, asking: Asking) -> Result<Decision, String>;
}

/// The turn's own thread, which hears meanwhile what is pushed.
pub(super) struct OfTurn<'a> {
    pub(super) handle: &'a TurnHandle,
    pub(super) aside: &'a mut Aside,
    /// Whether the turn was cancelled meanwhile, which is told once only.
    pub(super) cancelled: bool,
}

impl Speaks for OfTurn<'_> {
    fn done(&mut self, said: Said) -> Result<(), String> {
        self.gather()?;
        let heard = self.handle.ask(said);
        loop {
            match heard.recv_timeout(LOOK) {
                Ok(outcome) => {
                    self.gather()?;
                    return outcome;
                }
                Err(RecvTimeoutError::Timeout) => self.gather()?,
                Err(RecvTimeoutError::Disconnected) => {
                    self.gather()?; // which says so, as a rule
                    return Err(OVER.to_owned());
                }
            }
        }
    }

    fn decided(&mut self, asking: Asking) -> Result<Decision, String> {
        let handle = self.handle;
        handle.decision(asking, || self.gather())
    }
}

impl OfTurn<'_> {
    fn gather(&mut self) -> Result<(), String> {
        gather(self.handle, self.aside).map_err(|Cancelled| {
            self.cancelled = true;
            OVER.to_owned()
        })
    }
}
