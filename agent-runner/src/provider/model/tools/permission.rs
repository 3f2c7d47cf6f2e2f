//! A tool that a person has to allow.

use super::{Aside, Cancelled, Input, ToolCall, ToolSpec, TurnHandle, gather};
use crate::ask::{self, Decision};

/// What a model is told of a tool that a person has to allow.
pub(super) const ASKED_FIRST: &str = "Each use waits until a person has allowed it.";

/// A tool as a model is told of it that a person has to allow.
pub(super) fn told(spec: ToolSpec) -> ToolSpec {
    ToolSpec { description: format!("{} {ASKED_FIRST}", spec.description), ..spec }
}

/// Asks people whether a tool may be used so, and waits.
pub(super) fn may_use(
    call: &ToolCall,
    handle: &TurnHandle,
    aside: &mut Aside,
) -> Result<Decision, Cancelled> {
    let shown = match &call.input {
        Input::Fields(fields) => ask::arguments(fields),
        Input::Unreadable(text) => text.clone(),
    };
    handle.permission(&call.name, &shown, || gather(handle, aside))
}
