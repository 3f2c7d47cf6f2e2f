//! The way to the models: one request, asked of one after the other until one has answered.

use std::path::PathBuf;
use std::time::Instant;

use twobox_shared::agent_config::{Gateway, Route};

use super::super::{PromptMessage, TurnHandle};
use super::conversation::{Answer, Request, Trouble};

/// Asks the models of one gateway.
pub(crate) struct Client {
    routes: Vec<Route>,
}

/// What the thread reports that reads an answer.
#[derive(Debug)]
pub(crate) enum Heard {}

/// What was pushed while a model was asked.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    /// More messages for the turn.
    pub(crate) follow_ups: Vec<PromptMessage>,
    /// What could not be done of what was said.
    pub(crate) notices: Vec<String>,
}

impl Client {
    /// A client that has asked nobody yet. `gateway` names a model at least.
    pub(crate) fn new(gateway: &Gateway, _socket: PathBuf) -> Self {
        Self { routes: gateway.routes.clone() }
    }

    /// Asks the models in their order until one answers. Words are handed to `hear` as they stream:
    /// none of them counts before the answer is there. What is pushed meanwhile is kept in `aside`.
    ///
    /// # Errors
    /// [`Trouble`] says whether asking again may help.
    pub(crate) fn ask(
        &mut self,
        _request: &Request<'_>,
        _handle: &TurnHandle,
        _deadline: Instant,
        _aside: &mut Aside,
        _hear: &mut dyn FnMut(&str),
    ) -> Result<Answer, Trouble> {
        Err(Trouble::Refused("this build of the runner cannot ask models".to_owned()))
    }

    /// The model that answered last, or is asked first.
    pub(crate) fn route(&self) -> &Route {
        &self.routes[0]
    }
}
