//! Waiting for people in the middle of a turn.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use serde_json::Value;
use twobox_shared::visible;

use super::TurnHandle;
use crate::ask::{self, Asking, Decision};
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

/// The question whether `tool` may be used with what it is `given`.
pub(super) fn permission(tool: &str, given: &Value) -> Asking {
    let shown = match given {
        Value::Object(fields) => ask::arguments(fields),
        other => visible::json(&other.to_string()),
    };
    Asking::Permission { tool: tool.to_owned(), arguments: shown }
}

/// What people were asked by a program that goes on meanwhile, each with what is needed to answer the program.
#[derive(Debug)]
pub(super) struct Undecided<T>(Vec<(T, Receiver<Decision>)>);

impl<T> Default for Undecided<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Undecided<T> {
    /// Has people asked, for `about`.
    pub(super) fn ask(&mut self, asking: Asking, about: T, handle: &TurnHandle) {
        self.0.push((about, handle.ask_people(asking)));
    }

    /// How long to wait for something else before looking again; `None` if nobody is waited for.
    pub(super) fn patience(&self) -> Option<Duration> {
        (!self.0.is_empty()).then_some(ASK_LOOK)
    }

    /// Forgets those whose answers the program wants no more.
    pub(super) fn withdraw(&mut self, is_meant: impl Fn(&T) -> bool) {
        self.0.retain(|(about, _)| !is_meant(about));
    }

    /// What was decided meanwhile, once.
    pub(super) fn decided(&mut self) -> Vec<(T, Decision)> {
        let mut decided = Vec::new();
        for (about, coming) in std::mem::take(&mut self.0) {
            match coming.try_recv() {
                Ok(decision) => decided.push((about, decision)),
                Err(TryRecvError::Empty) => self.0.push((about, coming)),
                Err(TryRecvError::Disconnected) => {
                    decided.push((about, Decision::no(NOBODY_ASKED)));
                }
            }
        }
        decided
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::Event;

    #[test]
    fn what_is_hidden_in_what_a_tool_is_given_is_shown_whatever_form_it_has() {
        for (given, expected) in [
            (json!({"a": "x\u{202e}y"}), "a=\"x\\u{202e}y\""),
            (json!(["x\u{202e}y", "\u{1f}"]), "[\"x\\u202ey\",\"\\u001f\"]"),
            (json!("\u{200b}"), "\"\\u200b\""),
        ] {
            let asking = permission("t", &given);
            let Asking::Permission { arguments, .. } = asking else { panic!("{asking:?}") };
            assert_eq!(arguments, expected, "{given}");
        }
    }

    #[test]
    fn each_decision_goes_to_what_it_is_about_and_nobody_is_a_no() {
        let (handle, _reins, said) = TurnHandle::apart();
        let mut undecided = Undecided::default();
        assert_eq!(undecided.patience(), None);
        for number in 1..=4 {
            undecided.ask(permission("t", &json!(number)), number, &handle);
        }
        assert!(undecided.decided().is_empty() && undecided.patience().is_some());
        let mut replies: Vec<_> = said
            .try_iter()
            .map(|event| match event {
                Event::Said(Said::Ask(_, reply)) => reply,
                _ => panic!("nothing else was said"),
            })
            .collect();
        undecided.withdraw(|number| *number == 3);
        let yes = Decision { ok: true, text: "yes".to_owned() };
        replies[1].send(yes.clone()).unwrap();
        assert_eq!(undecided.decided(), [(2, yes)]);
        replies.truncate(3);
        assert_eq!(undecided.decided(), [(4, Decision::no(NOBODY_ASKED))]);
        drop(replies);
        assert_eq!(undecided.decided(), [(1, Decision::no(NOBODY_ASKED))]);
        assert_eq!(undecided.patience(), None);
    }
}
