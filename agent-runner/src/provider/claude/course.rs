//! What has happened in a turn of Claude Code, and what follows from it: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use twobox_shared::content::{Failure, shorten};

use super::line::PREFIX;
use super::said::{Ended, Line, Server};
use crate::event::Said;

/// Tools that take as long as what they begin, which is bounded by the turn.
const LONG_TOOLS: [&str; 2] = ["Agent", "Task"];

/// How long its tools may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spans {
    /// Those that begin others.
    pub(super) turn: Duration,
    /// All else. Their own limit comes first.
    pub(super) tool: Duration,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Deed {
    /// Say this.
    Say(Said),
    /// Answer the question whether a tool may be used.
    Permit { id: String, request: Value },
    /// Tell Claude Code that its question is not known here.
    Refuse(String),
    /// It wants no answer any more to this question.
    Withdraw(String),
    /// Have the log say this.
    Complain(String),
    /// Find what an earlier process has answered to this message.
    Recall(String),
}

/// What has happened in a turn so far.
#[derive(Debug)]
pub(super) struct Course {
    spans: Spans,
    upstream: String,
    /// The servers without which no turn is to go on.
    required: BTreeSet<String>,
    /// The ids of the messages that are to be answered, and how far each has come.
    open: BTreeMap<String, Stage>,
    /// The tools that run, by their ids: what each is called, and how long it may take.
    tools: BTreeMap<String, (String, Duration)>,
    /// The answers of models that were heard: pieces of several may come in turns.
    answers: BTreeSet<String>,
    /// Whether something was said to somebody by a tool.
    sent: bool,
    /// Whether saying nothing is meant.
    silent: bool,
}

/// How far a message has come that is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It was told.
    Told,
    /// It is worked on.
    Begun,
    /// It stands in a turn that goes on, beside the result of a tool: the turn's end is about it too.
    Within,
}

impl Course {
    /// That of a turn in which nothing has happened, which asks a model of `upstream`, and needs these servers.
    pub(super) fn new(upstream: &str, spans: Spans, required: BTreeSet<String>) -> Self {
        Self {
            spans,
            upstream: upstream.to_owned(),
            required,
            open: BTreeMap::new(),
            tools: BTreeMap::new(),
            answers: BTreeSet::new(),
            sent: false,
            silent: false,
        }
    }

    /// It was told the message with this id.
    pub(super) fn told(&mut self, id: String) {
        self.open.insert(id, Stage::Told);
    }

    /// Whether all is answered that it was told.
    pub(super) fn is_over(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether what it is told now stands beside the result of a tool.
    pub(super) fn takes_more(&self) -> bool {
        !self.tools.is_empty()
    }

    /// Whether saying nothing is meant.
    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    /// Takes in what it says. `said_nothing`: whether its agent has said by a tool that it means to say nothing.
    ///
    /// # Errors
    /// How the turn has failed.
    pub(super) fn hear(&mut self, line: Line, said_nothing: bool) -> Result<Vec<Deed>, Failure> {
        match line {
            Line::Assistant { message, parent_tool_use_id } => {
                let mut deeds = Vec::new();
                if let Some(id) = &message.id
                    && self.answers.insert(id.clone())
                {
                    deeds.push(Deed::Say(Said::Turns(1)));
                }
                self.sent |= message.tools().any(|(_, name)| is_sending(name));
                for (id, name) in message.tools().filter(|_| parent_tool_use_id.is_none()) {
                    let span = match LONG_TOOLS.contains(&name) {
                        true => self.spans.turn,
                        false => self.spans.tool,
                    };
                    self.tools.insert(id.to_owned(), (shorten(name, 80), span));
                    deeds.push(Deed::Say(self.at_work()));
                }
                Ok(deeds)
            }
            Line::User { message, parent_tool_use_id: None } => {
                let before = self.tools.len();
                self.tools.retain(|tool, _| message.results().all(|id| id != tool));
                let fewer = self.tools.len() < before;
                Ok(fewer.then(|| Deed::Say(self.at_work())).into_iter().collect())
            }
            Line::ControlRequest { request_id: id, request } => {
                Ok(vec![match request["subtype"].as_str() {
                    Some("can_use_tool") => Deed::Permit { id, request },
                    _ => Deed::Refuse(id),
                }])
            }
            Line::System { mcp_servers } => self.look_at(&mcp_servers),
            Line::ControlCancelRequest { request_id } => Ok(vec![Deed::Withdraw(request_id)]),
            Line::Result(ended) => Ok(self.settle(&ended, said_nothing)?.into_iter().collect()),
            Line::CommandLifecycle { command_uuid, state } => {
                Ok(self.advance(command_uuid, &state).into_iter().collect())
            }
            Line::User { .. } | Line::Other => Ok(Vec::new()),
        }
    }

    /// Looks which servers of MCP are of no use.
    fn look_at(&self, servers: &[Server]) -> Result<Vec<Deed>, Failure> {
        let useless = servers.iter().filter(|server| server.status == "failed");
        let useless = useless.map(|Server { name, .. }| {
            let detail =
                format!("the MCP server {} is of no use: it has failed", shorten(name, 80));
            match self.required.contains(name) {
                true => Err(Failure::retryable(Failure::PROVIDER_ERROR, detail)),
                false => Ok(Deed::Complain(detail)),
            }
        });
        useless.collect()
    }

    /// What is to be said of the tools once one has begun or ended: the one that may take longest, from now on,
    /// for it may have waited for the others.
    fn at_work(&self) -> Said {
        match self.tools.values().max_by_key(|(_, span)| *span) {
            Some((name, span)) => Said::ToolStarted { name: name.clone(), timeout: Some(*span) },
            None => Said::ToolFinished,
        }
    }

    /// Takes in that a turn of the program's has ended. One that is about none of our messages is its own.
    fn settle(&mut self, ended: &Ended, said_nothing: bool) -> Result<Option<Deed>, Failure> {
        let about = &ended.user_message_uuids;
        let before = self.open.len();
        match about.is_empty() {
            true => self.open.clear(), // a version that does not tell
            false => {
                let is_settled =
                    |id: &String, stage: Stage| stage == Stage::Within || about.contains(id);
                if self.open.keys().any(|id| about.contains(id)) {
                    self.open.retain(|id, stage| !is_settled(id, *stage));
                }
            }
        }
        if self.open.len() == before {
            return Ok(None);
        }
        let text = ended.outcome(&self.upstream)?;
        if said_nothing || (self.sent && text.trim().is_empty()) {
            self.silent = true;
            return Ok(None);
        }
        reply(&text).map(|said| Some(Deed::Say(said)))
    }

    /// Takes in how far a message has come. One that is done with and was never begun was answered by a
    /// process before this one.
    fn advance(&mut self, id: String, state: &str) -> Option<Deed> {
        let stage = self.open.get_mut(&id)?;
        match (state, *stage) {
            ("started", _) => *stage = Stage::Begun,
            ("completed", Stage::Begun) => *stage = Stage::Within,
            ("completed", Stage::Told) => {
                self.open.remove(&id);
                return Some(Deed::Recall(id));
            }
            _ => {}
        }
        None
    }
}

/// Whether the tool `name` says something to somebody.
fn is_sending(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|it| it.starts_with("send_"))
}

/// The reply with this text.
///
/// # Errors
/// It is none.
pub(super) fn reply(text: &str) -> Result<Said, Failure> {
    let text = text.trim().to_owned();
    if text.is_empty() {
        let detail = "the model answered nothing";
        return Err(Failure::retryable(Failure::PROVIDER_ERROR, detail));
    }
    Ok(Said::Reply { text, files: Vec::new(), answers: None })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::said::read;
    use super::*;

    fn course(told: &[&str]) -> Course {
        let spans = Spans { turn: Duration::from_secs(900), tool: Duration::from_secs(70) };
        let mut course = Course::new("up", spans, BTreeSet::from(["needed".to_owned()]));
        told.iter().for_each(|id| course.told((*id).to_owned()));
        course
    }

    /// What follows from a line, in a word each.
    fn hear(course: &mut Course, line: Value) -> Vec<String> {
        let line = read(line.to_string().as_bytes()).unwrap();
        let word = |deed: Deed| match deed {
            Deed::Say(Said::Turns(count)) => format!("turns {count}"),
            Deed::Say(Said::ToolStarted { name, timeout }) => {
                format!("{name} {}", timeout.unwrap().as_secs())
            }
            Deed::Say(Said::ToolFinished) => "finished".to_owned(),
            Deed::Say(Said::Reply { text, .. }) => format!("reply {text}"),
            Deed::Say(other) => panic!("{other:?}"),
            Deed::Permit { id, .. } => format!("permit {id}"),
            Deed::Refuse(id) => format!("refuse {id}"),
            Deed::Withdraw(id) => format!("withdraw {id}"),
            Deed::Recall(id) => format!("recall {id}"),
            Deed::Complain(what) => what,
        };
        course.hear(line, false).unwrap().into_iter().map(word).collect()
    }

    fn assistant(id: &str, tools: &[(&str, &str)]) -> Value {
        let uses =
            tools.iter().map(|(id, name)| json!({"type": "tool_use", "id": id, "name": name}));
        json!({"type": "assistant", "message": {"id": id, "content": uses.collect::<Vec<_>>()}})
    }

    fn result_of(tool: &str) -> Value {
        let content = json!([{"type": "tool_result", "tool_use_id": tool}]);
        json!({"type": "user", "message": {"content": content}})
    }

    fn lifecycle(id: &str, state: &str) -> Value {
        json!({"type": "command_lifecycle", "command_uuid": id, "state": state})
    }

    fn ended(text: &str, about: &[&str]) -> Value {
        json!({"type": "result", "is_error": false, "result": text, "user_message_uuids": about})
    }

    #[test]
    fn of_tools_that_run_side_by_side_the_longest_that_is_left_is_told_of() {
        let mut course = course(&["m"]);
        let both = assistant("a", &[("t1", "Agent"), ("t2", "Bash")]);
        assert_eq!(hear(&mut course, both), ["turns 1", "Agent 900", "Agent 900"]);
        assert_eq!(hear(&mut course, assistant("a", &[])), [""; 0], "an answer is counted once");
        assert_eq!(hear(&mut course, result_of("t1")), ["Bash 70"]);
        assert_eq!(hear(&mut course, result_of("t3")), [""; 0]);
        assert_eq!(hear(&mut course, result_of("t2")), ["finished"]);
    }

    #[test]
    fn more_is_taken_while_a_tool_runs_and_at_no_other_time() {
        let mut course = course(&["m"]);
        assert!(!course.takes_more(), "it speaks");
        hear(&mut course, assistant("a", &[("t1", "Bash"), ("t2", "Bash")]));
        assert!(course.takes_more());
        hear(&mut course, result_of("t1"));
        assert!(course.takes_more(), "there is another one");
        hear(&mut course, result_of("t2"));
        assert!(!course.takes_more(), "it speaks again");
    }

    #[test]
    fn a_turn_is_over_when_all_that_was_told_is_answered() {
        let mut course = course(&["a", "b", "c"]);
        hear(&mut course, lifecycle("a", "started"));
        assert_eq!(hear(&mut course, ended("another's", &["x"])), [""; 0]);
        hear(&mut course, lifecycle("b", "started"));
        hear(&mut course, lifecycle("b", "completed")); // beside the result of a tool
        assert_eq!(hear(&mut course, ended("to both", &["a"])), ["reply to both"]);
        assert!(!course.is_over());
        assert_eq!(hear(&mut course, lifecycle("c", "completed")), ["recall c"]);
        assert!(course.is_over() && !course.is_silent());
    }

    #[test]
    fn saying_nothing_is_meant_where_a_tool_has_said_it_or_something_was_sent() {
        let end = |course: &mut Course, said_nothing| {
            let line = read(ended(" ", &["m"]).to_string().as_bytes()).unwrap();
            course.hear(line, said_nothing).map(|deeds| (deeds.len(), course.is_silent()))
        };
        assert!(end(&mut course(&["m"]), false).unwrap_err().retryable);
        assert_eq!(end(&mut course(&["m"]), true).unwrap(), (0, true));
        let mut sent = course(&["m"]);
        hear(&mut sent, assistant("a", &[("t", "mcp__twobox__send_message")]));
        assert_eq!(end(&mut sent, false).unwrap(), (0, true));
    }

    #[test]
    fn its_questions_are_told_apart() {
        let mut course = course(&["m"]);
        let asks = |subtype: &str| json!({"type": "control_request", "request_id": "q", "request": {"subtype": subtype}});
        assert_eq!(hear(&mut course, asks("can_use_tool")), ["permit q"]);
        assert_eq!(hear(&mut course, asks("hook_callback")), ["refuse q"]);
        let cancel = json!({"type": "control_cancel_request", "request_id": "q"});
        assert_eq!(hear(&mut course, cancel), ["withdraw q"]);
    }

    #[test]
    fn no_turn_goes_on_without_a_server_that_is_required() {
        let mut course = course(&["m"]);
        let with = |name: &str, status: &str| {
            let servers = json!([{"name": "twobox", "status": "connected"},
                                 {"name": name, "status": status}]);
            json!({"type": "system", "subtype": "init", "mcp_servers": servers})
        };
        assert_eq!(hear(&mut course, with("needed", "connected")), [""; 0]);
        let told = hear(&mut course, with("other", "failed"));
        assert!(told[0].contains("the MCP server other is of no use"), "{told:?}");
        let line = read(with("needed", "failed").to_string().as_bytes()).unwrap();
        let failure = course.hear(line, false).unwrap_err();
        assert!(failure.retryable && failure.detail.contains("needed"), "{failure:?}");
        let other = json!({"type": "system", "subtype": "status", "mcp_servers": null});
        assert_eq!(hear(&mut course, other), [""; 0]);
    }
}
