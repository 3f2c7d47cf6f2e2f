//! What has happened in a turn of Codex, and what follows from it: pure.

use std::collections::BTreeMap;

use twobox_shared::agent_config::HOST_SERVER;
use twobox_shared::ids::MessageId;

use super::question::Change;
use super::wire::{Happening, Item, Over};
use crate::event::Said;
use crate::provider::PromptMessage;

/// The course of one turn of Codex, of which a turn of ours may have several.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// The tools that run, by their ids.
    tools: Vec<String>,
    /// Whether a tool was begun: then the same again is not the same.
    pub(super) used_tools: bool,
    /// What the patches that were begun would do, by their ids.
    patches: BTreeMap<String, Vec<Change>>,
    /// Whether something was said to somebody by a tool.
    sent: bool,
    /// What the model has said last, unless it has used a tool since.
    answer: Option<String>,
    /// What it has said beside its work.
    aside: Option<String>,
    /// How many tokens the thread has used, as it was told last.
    tokens: Option<u64>,
    /// What was given to it while a tool ran, by the id under which it is told that it has them.
    given: Vec<(String, Vec<MessageId>)>,
    /// Whether it has all that was given to it and it has said so.
    pub(super) over: Option<Over>,
}

impl Course {
    /// Takes up what has happened. Returns what is to be said of it.
    pub(super) fn hear(&mut self, event: Happening, timeout: std::time::Duration) -> Vec<Said> {
        match event {
            Happening::Begun(item) => self.begun(item, timeout).into_iter().collect(),
            Happening::Ended(item) => self.ended(item).into_iter().collect(),
            Happening::Used(tokens) => {
                let again = self.tokens.replace(tokens) == Some(tokens);
                if again { Vec::new() } else { vec![Said::Turns(1)] }
            }
            Happening::Over(over) => {
                self.over = Some(over);
                self.tools.clear();
                Vec::new()
            }
        }
    }

    fn begun(&mut self, item: Item, timeout: std::time::Duration) -> Option<Said> {
        let name = item.tool()?;
        self.tools.push(item.id.clone());
        self.used_tools = true;
        let is_sending = |tool: &str| tool.starts_with("send_");
        self.sent |= item.server.as_deref() == Some(HOST_SERVER)
            && item.tool.as_deref().is_some_and(is_sending);
        if !item.changes.is_empty() {
            self.patches.insert(item.id, item.changes);
        }
        self.aside = self.answer.take().or(self.aside.take());
        Some(Said::ToolStarted { name, timeout: Some(timeout) })
    }

    fn ended(&mut self, item: Item) -> Option<Said> {
        match item.kind.as_str() {
            "agentMessage" => {
                let text = item.text.filter(|text| !text.trim().is_empty());
                match item.phase.as_deref() {
                    Some("commentary") => self.aside = text.or(self.aside.take()),
                    _ => self.answer = text.or(self.answer.take()),
                }
                None
            }
            "userMessage" => {
                let client = item.client_id?;
                let at = self.given.iter().position(|(id, _)| *id == client)?;
                // What it had said so far was no answer to this.
                self.aside = self.answer.take().or(self.aside.take());
                Some(Said::Used(self.given.swap_remove(at).1))
            }
            _ => {
                let ran = self.tools.len();
                self.patches.remove(&item.id);
                self.tools.retain(|id| *id != item.id);
                (ran == 1 && self.tools.is_empty()).then_some(Said::ToolFinished)
            }
        }
    }

    /// What the patch would do that was begun as `item`; nothing if that is not known.
    pub(super) fn changes(&self, item: &str) -> &[Change] {
        self.patches.get(item).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether something was said to somebody by a tool.
    pub(super) fn has_sent(&self) -> bool {
        self.sent
    }

    /// Whether what comes meanwhile can be given to it now. While a model answers it is not: Codex would
    /// drop the answer, which is paid for, and ask anew.
    pub(super) fn takes_more(&self) -> bool {
        !self.tools.is_empty() && self.over.is_none()
    }

    /// These were given to it under this id.
    pub(super) fn give(&mut self, id: String, messages: &[PromptMessage]) {
        self.given.push((id, messages.iter().map(|message| message.id.clone()).collect()));
    }

    /// What it has to say in the end, if anything.
    pub(super) fn answer(&mut self) -> Option<String> {
        let last = |over: &mut Over| {
            let said = over.items.iter_mut().rev().filter(|item| item.kind == "agentMessage");
            said.filter_map(|item| item.text.take()).find(|text| !text.trim().is_empty())
        };
        let told = self.over.as_mut().and_then(last);
        self.answer.take().or(told).or_else(|| self.aside.take())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn item(kind: &str, id: &str) -> Item {
        Item { kind: kind.to_owned(), id: id.to_owned(), ..Item::default() }
    }

    fn message(text: &str, phase: Option<&str>) -> Happening {
        let (text, phase) = (Some(text.to_owned()), phase.map(str::to_owned));
        Happening::Ended(Item { text, phase, ..item("agentMessage", "m") })
    }

    fn hear(course: &mut Course, event: Happening) -> Vec<Said> {
        course.hear(event, Duration::from_secs(9))
    }

    #[test]
    fn the_answer_is_what_was_said_after_the_last_tool() {
        let mut course = Course::default();
        hear(&mut course, message("I look", None));
        let said = hear(&mut course, Happening::Begun(item("commandExecution", "c")));
        assert!(
            matches!(&said[..], [Said::ToolStarted { name, timeout: Some(_) }] if name == "shell")
        );
        hear(&mut course, Happening::Ended(item("commandExecution", "c")));
        hear(&mut course, message("it rains", None));
        hear(&mut course, message("done looking", Some("commentary")));
        assert_eq!(course.answer().as_deref(), Some("it rains"));
        assert_eq!(course.answer().as_deref(), Some("done looking"), "rather than nothing");
        assert_eq!(course.answer(), None);
    }

    #[test]
    fn tools_that_run_side_by_side_are_one_that_ends_with_the_last() {
        let mut course = Course::default();
        for id in ["a", "b"] {
            hear(&mut course, Happening::Begun(item("mcpToolCall", id)));
        }
        assert!(course.takes_more());
        assert!(hear(&mut course, Happening::Ended(item("mcpToolCall", "a"))).is_empty());
        assert!(hear(&mut course, Happening::Ended(item("reasoning", "r"))).is_empty());
        let said = hear(&mut course, Happening::Ended(item("mcpToolCall", "b")));
        assert!(matches!(said[..], [Said::ToolFinished]) && !course.takes_more());
    }

    #[test]
    fn what_a_patch_would_do_is_known_until_it_is_done_and_what_was_sent_to_the_end() {
        let mut course = Course::default();
        let change = Change { path: "/w/a".to_owned(), ..Change::default() };
        let begun = Item { changes: vec![change], ..item("fileChange", "p") };
        hear(&mut course, Happening::Begun(begun));
        assert_eq!(course.changes("p").len(), 1);
        hear(&mut course, Happening::Ended(item("fileChange", "p")));
        assert!(course.changes("p").is_empty() && !course.has_sent());
        let of = |server: &str| Item {
            server: Some(server.to_owned()),
            tool: Some("send_message".to_owned()),
            ..item("mcpToolCall", server)
        };
        hear(&mut course, Happening::Begun(of("notes")));
        assert!(!course.has_sent());
        hear(&mut course, Happening::Begun(of("twobox")));
        assert!(course.has_sent());
    }

    #[test]
    fn what_was_given_is_used_once_codex_has_it_and_each_answer_is_a_turn() {
        let mut course = Course::default();
        course.given.push(("steer-1".to_owned(), Vec::new()));
        let user = |client: &str| {
            let client_id = Some(client.to_owned());
            Happening::Ended(Item { client_id, ..item("userMessage", "u") })
        };
        hear(&mut course, message("to the first", None));
        assert!(hear(&mut course, user("another")).is_empty());
        assert!(matches!(hear(&mut course, user("steer-1"))[..], [Said::Used(_)]));
        assert!(hear(&mut course, user("steer-1")).is_empty());
        assert_eq!(course.answer, None, "it was no answer to what came then");
        let turns = [18, 18, 36].map(|tokens| hear(&mut course, Happening::Used(tokens)).len());
        assert_eq!(turns, [1, 0, 1], "it tells some twice");
    }
}
