//! `codex app-server`, running or not: requests and their answers over a [`Resident`].

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use twobox_shared::content::Failure;

use super::permission::answer;
use super::question::Question;
use super::wire::Heard;
use crate::provider::resident::{Complaints, Output, Resident};
use crate::provider::{PromptMessage, Push, TurnHandle, cancelled};
use crate::say::say;

/// The longest line that is read, in bytes. What is in a line is what a tool has said, or a model.
const LINE_MAX: usize = 16 << 20;

/// How long it may take to leave once its input has ended.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);

/// How long a request may have no answer. None waits for a model, and the slowest reads a long conversation.
const CALL_PATIENCE: Duration = Duration::from_secs(120);

/// What it says to what asks a person something, for there is none beside it.
const NOBODY: &str = "nobody can be asked here: decide by yourself";

/// The request by which a turn begins, during which it may ask.
pub(super) const TURN: &str = "turn/start";

/// The program.
pub(super) struct App {
    resident: Resident,
    /// How long a request may have no answer.
    patience: Duration,
    /// Numbers its requests.
    number: u64,
    /// What happened while the last answer was waited for.
    early: Vec<Heard>,
}

/// What came next.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, for one look")]
pub(super) enum Next {
    /// From the main thread.
    Push(Push),
    /// From Codex.
    Heard(Heard),
    /// Nothing for a while.
    Nothing,
}

/// Why a request was not answered as hoped.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// It was refused, with these words.
    Refused(String),
    /// The turn ends.
    Ends(Failure),
}

impl App {
    pub(super) fn new() -> Self {
        let resident = Resident::new(LINE_MAX, Complaints::Kept);
        Self { resident, patience: CALL_PATIENCE, number: 0, early: Vec::new() }
    }

    /// Whether it runs.
    pub(super) fn is_running(&mut self, handle: &TurnHandle) -> bool {
        self.resident.is_running(handle)
    }

    /// Starts it, and says who asks.
    ///
    /// # Errors
    /// How the turn ends without it.
    pub(super) fn start(
        &mut self,
        command: Command,
        handle: &TurnHandle,
        aside: &mut Vec<PromptMessage>,
    ) -> Result<(), Failure> {
        self.resident.start(command, handle)?;
        let info =
            json!({"name": "twobox", "title": "Twobox", "version": env!("CARGO_PKG_VERSION")});
        self.call("initialize", json!({"clientInfo": info}), handle, aside)
            .map_err(|unanswered| unanswered.failure("initialize"))?;
        self.resident.tell(&json!({"method": "initialized"}));
        Ok(())
    }

    /// Asks for something. The answer comes under the number.
    pub(super) fn ask(&mut self, method: &str, params: Value) -> u64 {
        self.number += 1;
        self.resident.tell(&json!({"id": self.number, "method": method, "params": params}));
        self.number
    }

    /// Asks for something and waits for the answer. Follow-ups that come meanwhile are kept in `aside`, and what
    /// happens is for [`App::early`]. What is asked while no turn is begun is for nobody, and declined. A program that does not answer is ended.
    ///
    /// # Errors
    /// It was refused, or the turn ends.
    pub(super) fn call(
        &mut self,
        method: &str,
        params: Value,
        handle: &TurnHandle,
        aside: &mut Vec<PromptMessage>,
    ) -> Result<Value, Unanswered> {
        self.early.clear();
        let number = self.ask(method, params);
        let end = Instant::now() + self.patience;
        while Instant::now() < end {
            match self.next_within(handle, None).map_err(Unanswered::Ends)? {
                Next::Push(Push::Cancel) => return Err(Unanswered::Ends(cancelled())),
                Next::Push(Push::FollowUp(messages)) => aside.extend(messages),
                Next::Heard(Heard::Answer(of, answer)) if of == number => {
                    return answer.map_err(Unanswered::Refused);
                }
                Next::Heard(Heard::Asks { id, method: asked, params }) if method != TURN => {
                    self.decline(&id, &asked, &params);
                }
                Next::Heard(heard @ (Heard::Happened { .. } | Heard::Asks { .. })) => {
                    self.early.push(heard);
                }
                Next::Push(_) | Next::Heard(_) | Next::Nothing => {}
            }
        }
        self.resident.stop(handle, Duration::ZERO);
        let detail = format!("codex has not answered {method} in {} s", self.patience.as_secs());
        Err(Unanswered::Ends(Failure::retryable(Failure::PROVIDER_ERROR, detail)))
    }

    /// Answers what it has asked.
    pub(super) fn answer(&mut self, id: &Value, result: &Value) {
        self.resident.tell(&json!({"id": id, "result": result}));
    }

    /// Answers no to what it asks, or that it has no answer here.
    fn decline(&mut self, id: &Value, method: &str, params: &Value) {
        match Question::read(method, params, "") {
            Some((_, form)) => self.answer(id, &answer(form, false)),
            None => self.refuse(id, method),
        }
    }

    /// Tells it that what it asks has no answer here.
    pub(super) fn refuse(&mut self, id: &Value, method: &str) {
        say!("codex asks for {method}, and is told that nobody is there");
        let error = json!({"code": -32601, "message": NOBODY});
        self.resident.tell(&json!({"id": id, "error": error}));
    }

    /// What happened before the last request was answered, once.
    pub(super) fn early(&mut self) -> Vec<Heard> {
        std::mem::take(&mut self.early)
    }

    /// What comes next, for whoever has something else to look at after `patience`, if that is given.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn next_within(
        &mut self,
        handle: &TurnHandle,
        patience: Option<Duration>,
    ) -> Result<Next, Failure> {
        let next = match patience {
            Some(patience) => self.resident.next_within(handle, patience),
            None => self.resident.next(handle),
        };
        match next {
            Some(Push::Program(_, output)) => self.heard(output, handle),
            Some(push) => Ok(Next::Push(push)),
            None => Ok(Next::Nothing),
        }
    }

    fn heard(&mut self, output: Output, handle: &TurnHandle) -> Result<Next, Failure> {
        let line = match output {
            Output::Line(line) => line,
            Output::TooLong => {
                say!("codex wrote a line of more than {LINE_MAX} bytes, which is passed over");
                return Ok(Next::Nothing);
            }
            Output::Ended => return Err(self.ended(handle)),
        };
        match Heard::read(&line) {
            Ok(Heard::Complains(what)) => {
                say!("codex complains of its configuration: {what}");
                Ok(Next::Nothing)
            }
            Ok(heard) => Ok(Next::Heard(heard)),
            Err(_) if line.iter().all(u8::is_ascii_whitespace) => Ok(Next::Nothing),
            Err(error) => {
                say!("codex wrote a line that is passed over: {error}");
                Ok(Next::Nothing)
            }
        }
    }

    fn ended(&mut self, handle: &TurnHandle) -> Failure {
        let complaints = self.resident.complaints();
        let status = self.resident.stop(handle, LEAVE_PATIENCE);
        let how = status.map_or("it closed its output".to_owned(), |it| it.to_string());
        let complaints = twobox_shared::errors::for_a_terminal(&complaints);
        let detail = match complaints.is_empty() {
            true => format!("codex ended: {how}"),
            false => format!("codex ended: {how}: {complaints}"),
        };
        Failure::retryable(Failure::PROVIDER_ERROR, detail)
    }

    /// Breaks a turn off, so that the program lives on. One that does not say soon that it has is ended.
    pub(super) fn interrupt(
        &mut self,
        thread: &str,
        turn: &str,
        patience: Duration,
        handle: &TurnHandle,
    ) {
        let params = json!({"threadId": thread, "turnId": turn});
        self.ask("turn/interrupt", params);
        let end = Instant::now() + patience;
        while Instant::now() < end {
            let next = match handle.next(end.saturating_duration_since(Instant::now())) {
                Some(Push::Program(_, output)) => self.heard(output, handle),
                Some(_) => continue,
                None => break,
            };
            match next {
                Ok(Next::Heard(heard)) if heard.ends(turn) => return,
                Ok(_) => {}
                Err(_) => return, // it has ended
            }
        }
        self.resident.stop(handle, Duration::ZERO);
    }

    /// Ends it, if it runs.
    pub(super) fn stop(&mut self, handle: &TurnHandle, gently: bool) {
        self.resident.stop(handle, if gently { LEAVE_PATIENCE } else { Duration::ZERO });
    }
}

#[cfg(test)]
impl App {
    /// One whose program is the shell with this script.
    pub(super) fn played(script: &str, handle: &TurnHandle) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let mut app = Self::new();
        app.resident.start(command, handle).expect("there is a shell");
        app
    }

    /// The same, with so much patience.
    pub(super) fn patient_for(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }
}

impl Unanswered {
    /// How a turn ends for which `what` was needed.
    pub(super) fn failure(self, what: &str) -> Failure {
        match self {
            Self::Ends(failure) => failure,
            Self::Refused(why) => {
                let detail = format!("codex refused {what}: {why}");
                Failure::retryable(Failure::PROVIDER_ERROR, detail)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_answer_holds_no_turn_and_is_ended() {
        let (handle, _reins, _said) = TurnHandle::apart();
        let chatty = r#"while :; do echo '{"method":"warning","params":{}}'; sleep 0.01; done"#;
        let mut app = App::played(chatty, &handle).patient_for(Duration::from_millis(50));
        let unanswered = app.call("thread/start", json!({}), &handle, &mut Vec::new());
        let failure = unanswered.unwrap_err().failure("a thread");
        assert!(failure.retryable && failure.detail.contains("thread/start"), "{failure:?}");
        assert!(!app.is_running(&handle));
    }

    #[test]
    fn what_is_asked_where_no_turn_begins_is_declined_at_once() {
        let (handle, _reins, _said) = TurnHandle::apart();
        let ask =
            r#"{"id":"q","method":"item/fileChange/requestApproval","params":{"itemId":"i"}}"#;
        let script = format!(
            "read -r asked; echo '{ask}'; read -r told; \
             case $told in *'\"decline\"'*) echo '{{\"id\":1,\"result\":\"told\"}}';; esac; read -r more"
        );
        let mut app = App::played(&script, &handle);
        let answered = app.call("thread/resume", json!({}), &handle, &mut Vec::new());
        assert_eq!(answered.unwrap(), "told");
        app.stop(&handle, false);
    }
}
