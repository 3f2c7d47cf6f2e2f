//! Asking: who is asked, with what, and what it means for a turn if there is no answer.

use std::time::{Duration, Instant};

use twobox_shared::agent_config::Route;
use twobox_shared::content::{Failure, RUN_IS_OVER_BUDGET};

use super::client::{Aside, Client};
use super::conversation::{Answer, Item, Request, ToolSpec, Trouble};
use super::kept::Kept;
use super::shown::Shown;
use crate::event::Said;
use crate::provider::{Push, TurnHandle, cancelled};

/// The turn was cancelled.
#[derive(Debug)]
pub(super) struct Cancelled;

/// Who asks models.
pub(super) trait Asks {
    /// As [`Client::ask`].
    fn ask(
        &mut self,
        request: &Request<'_>,
        handle: &TurnHandle,
        deadline: Instant,
        aside: &mut Aside,
    ) -> Result<Answer, Trouble>;

    /// As [`Client::route`].
    fn route(&self) -> &Route;
}

impl Asks for Client {
    fn ask(
        &mut self,
        request: &Request<'_>,
        handle: &TurnHandle,
        deadline: Instant,
        aside: &mut Aside,
    ) -> Result<Answer, Trouble> {
        // They are shown to whoever looks on, and count when the answer is whole.
        let mut hear = |words: &str| handle.say(Said::Words(words.to_owned()));
        Self::ask(self, request, handle, deadline, aside, &mut hear)
    }

    fn route(&self) -> &Route {
        Self::route(self)
    }
}

/// Keeps in `aside` what was pushed by now.
///
/// # Errors
/// The turn was cancelled.
pub(super) fn gather(handle: &TurnHandle, aside: &mut Aside) -> Result<(), Cancelled> {
    while let Some(push) = handle.next(Duration::ZERO) {
        match push {
            Push::FollowUp(messages) => aside.follow_ups.extend(messages),
            Push::Notice(detail) => aside.notices.push(detail),
            Push::Cancel => return Err(Cancelled),
            Push::Begin | Push::Program(..) | Push::Model(..) => {} // late words of what is over
        }
    }
    Ok(())
}

/// What all requests of a turn have in common.
pub(super) struct OfTurn<'a> {
    pub(super) handle: &'a TurnHandle,
    pub(super) system: &'a str,
    pub(super) deadline: Instant,
    pub(super) max_output_tokens: u32,
    pub(super) kept: &'a Kept,
    pub(super) shown: Shown,
}

/// Asks to go on with `items`.
///
/// # Errors
/// As [`Client::ask`].
pub(super) fn request(
    asks: &mut impl Asks,
    items: &[Item],
    tools: &[ToolSpec],
    of_turn: &OfTurn<'_>,
    aside: &mut Aside,
) -> Result<Answer, Trouble> {
    let items = of_turn.kept.filled(items, of_turn.shown);
    let request = Request {
        system: of_turn.system,
        tools,
        items: &items,
        max_output_tokens: of_turn.max_output_tokens,
    };
    asks.ask(&request, of_turn.handle, of_turn.deadline, aside)
}

/// How a turn ends that no model answers.
pub(super) fn failure(trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Cancelled => cancelled(),
        Trouble::TooLong(why) => {
            let detail = format!(
                "the conversation is too long for the model, also after it was shortened ({why}); \
                 /new begins a new one"
            );
            Failure::permanent(Failure::PROVIDER_ERROR, detail)
        }
        // It may be something in the conversation, and then every later turn has it too.
        Trouble::Unfit(why) => {
            let detail = format!("{why}; if this goes on, /new begins a new conversation");
            Failure::permanent(Failure::PROVIDER_ERROR, detail)
        }
        Trouble::OverBudget(why) if why.contains(RUN_IS_OVER_BUDGET) => {
            Failure::permanent(Failure::RUN_BUDGET_EXCEEDED, why)
        }
        Trouble::OverBudget(why) => Failure::permanent(Failure::BUDGET_EXCEEDED, why),
        Trouble::Unreachable(why) => Failure::retryable(Failure::PROVIDER_ERROR, why),
        Trouble::Refused(why) => Failure::permanent(Failure::PROVIDER_ERROR, why),
    }
}
