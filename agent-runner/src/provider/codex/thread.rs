//! The thread in which a turn goes on, with nothing in it but what was committed.

use serde::Deserialize;
use serde_json::{Value, json};
use twobox_shared::content::Failure;

use super::Codex;
use super::app::Unanswered;
use super::continuation::{Continuation, Point};
use super::permission::with_policy;
use super::wire::Item;
use crate::provider::{BAD_CONTINUATION, Prompt, PromptMessage, TurnHandle};
use crate::say::say;

/// How far back the last turn that counts is looked for. What stands behind it was broken off, and each time
/// it is cut off again.
const TURNS_MAX: usize = 20;

/// How it says that a server of MCP cannot be started without which no thread is to be opened.
const NO_SERVER: &str = "required MCP servers failed";

/// A thread that is open.
pub(super) struct Opened {
    /// Its id.
    pub(super) thread: String,
    /// The tools that earlier attempts have used, as a model is told.
    pub(super) earlier: Vec<String>,
}

/// A turn, as Codex lists it.
#[derive(Debug, Deserialize)]
struct Listed {
    id: String,
    #[serde(default)]
    items: Vec<Item>,
}

impl Codex {
    /// Opens the thread that the prompt's continuation names, or a new one, and cuts off what does not count.
    ///
    /// # Errors
    /// How the turn ends without it.
    pub(super) fn opened(
        &mut self,
        prompt: &Prompt,
        handle: &TurnHandle,
        aside: &mut Vec<PromptMessage>,
    ) -> Result<Opened, Failure> {
        let bad = |detail: String| {
            say!("the conversation so far is lost: {detail}");
            Failure::retryable(BAD_CONTINUATION, detail)
        };
        let point = match &prompt.continuation {
            None => return self.started(handle, aside),
            // That of another provider, perhaps: the agent was given another one.
            Some(text) => match Continuation::parse(text) {
                Some(Continuation::After(point)) => point,
                Some(Continuation::Anew) => return self.started(handle, aside),
                None => return Err(bad("it was not had with codex".to_owned())),
            },
        };
        if self.open.as_ref() == Some(&point) {
            return Ok(Opened { thread: point.thread, earlier: Vec::new() });
        }
        self.refurnish()?;
        let cwd = &self.places.work;
        let params = json!({"threadId": point.thread, "cwd": cwd, "excludeTurns": true});
        let params = with_policy(params, self.asks());
        let resumed = match self.app.call("thread/resume", params, handle, aside) {
            Ok(resumed) => resumed,
            // A server that does not start has nothing to do with the thread, which is needed again.
            Err(Unanswered::Refused(why)) if why.contains(NO_SERVER) => {
                return Err(Unanswered::Refused(why).failure("to go on with a conversation"));
            }
            Err(Unanswered::Refused(why)) => return Err(bad(why)),
            Err(Unanswered::Ends(failure)) => return Err(failure),
        };
        // It begins another where it does not find the one.
        if resumed["thread"]["id"].as_str() != Some(&point.thread) {
            return Err(bad("codex opened another thread".to_owned()));
        }
        let behind = self.behind(&point, handle, aside)?.ok_or_else(|| {
            bad("the last turn that was committed is not among its newest".to_owned())
        })?;
        if let Some(first) = behind.last() {
            let params = json!({"threadId": point.thread, "beforeTurnId": first.id});
            self.app
                .call("thread/revert", params, handle, aside)
                .map_err(|unanswered| unanswered.failure("to cut off what does not count"))?;
        }
        let tools = behind.iter().rev().flat_map(|turn| &turn.items);
        let earlier = match prompt.attempt {
            0 => Vec::new(),
            1.. | i64::MIN..0 => tools.filter_map(Item::told).collect(),
        };
        Ok(Opened { thread: point.thread, earlier })
    }

    fn started(
        &mut self,
        handle: &TurnHandle,
        aside: &mut Vec<PromptMessage>,
    ) -> Result<Opened, Failure> {
        self.refurnish()?;
        let params = with_policy(json!({"cwd": self.places.work}), self.asks());
        let started = self
            .app
            .call("thread/start", params, handle, aside)
            .map_err(|unanswered| unanswered.failure("to begin a conversation"))?;
        match started["thread"]["id"].as_str() {
            Some(thread) => Ok(Opened { thread: thread.to_owned(), earlier: Vec::new() }),
            None => {
                let detail = "codex began a conversation and did not say which";
                Err(Failure::retryable(Failure::PROVIDER_ERROR, detail))
            }
        }
    }

    /// The turns behind `point`, newest first; `None` if it is not found.
    fn behind(
        &mut self,
        point: &Point,
        handle: &TurnHandle,
        aside: &mut Vec<PromptMessage>,
    ) -> Result<Option<Vec<Listed>>, Failure> {
        let params = json!({
            "threadId": point.thread, "limit": TURNS_MAX, "sortDirection": "desc", "itemsView": "full",
        });
        let listed = self
            .app
            .call("thread/turns/list", params, handle, aside)
            .map_err(|unanswered| unanswered.failure("to list its turns"))?;
        Ok(newer(listed, &point.turn))
    }
}

/// Those of the turns in a list, newest first, that are newer than `turn`; `None` if that is not in it.
fn newer(mut listed: Value, turn: &str) -> Option<Vec<Listed>> {
    let mut turns = Vec::<Listed>::deserialize(listed["data"].take()).ok()?;
    let at = turns.iter().position(|it| it.id == turn)?;
    turns.truncate(at);
    Some(turns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_newer_than_the_last_that_counts_is_to_be_cut_off() {
        let list = |ids: &[&str]| json!({"data": ids.iter().map(|id| json!({"id": id})).collect::<Vec<_>>()});
        let newer = |ids: &[&str]| {
            let turns = newer(list(ids), "b")?;
            Some(turns.into_iter().map(|turn| turn.id).collect::<Vec<_>>())
        };
        assert_eq!(newer(&["d", "c", "b", "a"]), Some(vec!["d".to_owned(), "c".to_owned()]));
        assert_eq!(newer(&["b", "a"]), Some(Vec::new()));
        assert_eq!(newer(&["d", "a"]), None);
        assert_eq!(newer(&[]), None);
    }
}
