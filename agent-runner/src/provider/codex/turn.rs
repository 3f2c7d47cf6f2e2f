//! One turn: what is said to Codex, and what comes of it.

use std::time::Duration;

use serde_json::{Value, json};
use twobox_shared::agent_config::Permissions;
use twobox_shared::content::Failure;

use super::app::{App, Next, TURN};
use super::course::Course;
use super::failure::{self, judge};
use super::lent::{self, Places};
use super::permission::{Verdict, answer, verdict, with_policy};
use super::question::{Form, Question};
use super::wire::{Heard, Over};
use crate::ask::Decision;
use crate::event::Said;
use crate::provider::people::Undecided;
use crate::provider::{PromptMessage, Push, TurnHandle, cancelled};
use crate::say::say;

/// How often a turn of Codex goes on whose way to the model broke off.
const AGAIN_MAX: u32 = 2;

/// How long Codex may take to break a turn off: less than the main thread waits for this one.
const INTERRUPT_PATIENCE: Duration = Duration::from_millis(700);

/// What it is told where it cannot be asked the same again, for it has used tools since.
const GO_ON: &str = "[from the host] Your answer broke off on its way. Go on where you were.";

/// What Codex wants to know in a turn, and nobody has said so far: by its question's id, with the form of the answer.
type Asked = Undecided<(Value, Form)>;

/// What a turn is made of.
pub(super) struct Talk<'a> {
    pub(super) app: &'a mut App,
    pub(super) handle: &'a TurnHandle,
    pub(super) places: &'a Places,
    pub(super) thread: &'a str,
    /// The upstream that it asks.
    pub(super) upstream: &'a str,
    /// How long a tool may run.
    pub(super) tool_timeout: Duration,
    /// What its tools may do.
    pub(super) tools: &'a Permissions,
    /// Whether the thread asks for them.
    pub(super) asks: bool,
    /// What has come meanwhile and was not given to it.
    pub(super) aside: Vec<PromptMessage>,
}

impl Talk<'_> {
    /// Says `text` and follows what comes of it. Returns the last turn of Codex, and whether saying nothing is meant.
    ///
    /// # Errors
    /// How the turn failed.
    pub(super) fn run(mut self, text: String) -> Result<(String, bool), Failure> {
        let (mut text, mut again) = (text, 0);
        loop {
            let (turn, mut course) = self.follow(&text)?;
            let Over { status, error, .. } =
                course.over.as_ref().expect("it was followed until it was over");
            let wrong = match (status.as_str(), error) {
                ("completed", _) => {
                    let answer = course.answer().filter(|_| !self.handle.said_nothing());
                    // Without an answer the turn has failed, unless none is meant, and that is seen there.
                    let silent =
                        answer.is_none() && (self.handle.said_nothing() || course.has_sent());
                    if let Some(text) = answer {
                        self.handle.say(Said::Reply { text, files: Vec::new(), answers: None });
                    }
                    return Ok((turn, silent));
                }
                ("failed", Some(wrong)) => wrong,
                (other, _) => {
                    let detail = format!("codex ended its turn by itself: {other}");
                    return Err(Failure::retryable(Failure::PROVIDER_ERROR, detail));
                }
            };
            match judge(wrong, self.upstream) {
                failure::Verdict::End(failure) => return Err(failure),
                failure::Verdict::Again(why) if again == AGAIN_MAX => {
                    return Err(Failure::retryable(Failure::PROVIDER_ERROR, why));
                }
                failure::Verdict::Again(why) => {
                    say!("the way to the model broke off, and is tried again: {why}")
                }
            }
            again += 1;
            match course.used_tools {
                true => text = GO_ON.to_owned(),
                false => self.undo(&turn)?,
            }
        }
    }

    /// Takes a turn back in which nothing was done.
    fn undo(&mut self, turn: &str) -> Result<(), Failure> {
        let params = json!({"threadId": self.thread, "beforeTurnId": turn});
        self.app
            .call("thread/revert", params, self.handle, &mut self.aside)
            .map(drop)
            .map_err(|unanswered| unanswered.failure("to take a turn back"))
    }

    /// Has one turn of Codex, until it is over.
    fn follow(&mut self, text: &str) -> Result<(String, Course), Failure> {
        let input = json!([{"type": "text", "text": text}]);
        let params = json!({"threadId": self.thread, "input": input});
        let params = with_policy(params, self.asks);
        let begun = self
            .app
            .call(TURN, params, self.handle, &mut self.aside)
            .map_err(|unanswered| unanswered.failure("a turn"));
        let turn = begun.and_then(|begun| {
            let detail = "codex began a turn and did not say which";
            let unnamed = || Failure::retryable(Failure::PROVIDER_ERROR, detail);
            begun["turn"]["id"].as_str().map(str::to_owned).ok_or_else(unnamed)
        });
        // It may have begun one all the same, which nobody could break off.
        let turn = turn.inspect_err(|_| self.app.stop(self.handle, false))?;
        let mut course = Course::default();
        let mut early = self.app.early().into_iter();
        let mut asked = Asked::default();
        while course.over.is_none() {
            for ((id, form), decision) in asked.decided() {
                self.decide(&turn, &id, form, &decision);
            }
            let next = match early.next() {
                Some(heard) => Next::Heard(heard),
                None => self.app.next_within(self.handle, asked.patience())?,
            };
            match next {
                Next::Push(Push::Cancel) => {
                    self.app.interrupt(self.thread, &turn, INTERRUPT_PATIENCE, self.handle);
                    return Err(cancelled());
                }
                Next::Push(Push::FollowUp(messages)) => self.aside.extend(messages),
                Next::Heard(Heard::Happened { turn: of, event }) if of == turn => {
                    for said in course.hear(event, self.tool_timeout) {
                        self.handle.say(said);
                    }
                }
                Next::Heard(Heard::Asks { id, method, params }) => {
                    self.permit(id, &method, &params, &course, &mut asked);
                }
                Next::Push(_) | Next::Heard(_) | Next::Nothing => {}
            }
            self.give(&turn, &mut course);
        }
        Ok((turn, course))
    }

    /// Answers a question of Codex, or has people asked.
    fn permit(
        &mut self,
        id: Value,
        method: &str,
        params: &Value,
        course: &Course,
        asked: &mut Asked,
    ) {
        let work = self.places.work.to_string_lossy();
        let Some((question, form)) = Question::read(method, params, &work) else {
            return self.app.refuse(&id, method);
        };
        let changes = match &question {
            Question::Patch { item } => course.changes(item),
            Question::Command { .. } | Question::Server { .. } | Question::Other => &[],
        };
        match verdict(self.tools, &question, changes) {
            Verdict::Allow => self.app.answer(&id, &answer(form, true)),
            Verdict::Deny => self.app.answer(&id, &answer(form, false)),
            Verdict::Ask(asking) => asked.ask(asking, (id, form), self.handle),
        }
    }

    /// Tells Codex what was decided. It says no more to its model than that somebody was against it.
    fn decide(&mut self, turn: &str, id: &Value, form: Form, decision: &Decision) {
        if !decision.ok {
            let text = format!("[from the host] {} Nothing was done.", decision.text);
            self.app.ask(
                "turn/steer",
                json!({
                    "threadId": self.thread, "expectedTurnId": turn,
                    "input": [{"type": "text", "text": text}],
                }),
            );
        }
        self.app.answer(id, &answer(form, decision.ok));
    }

    /// Gives what has come meanwhile to Codex while a tool runs: it then stands beside its result. What
    /// is not given is left for a turn of its own, and so is what begins a new conversation.
    fn give(&mut self, turn: &str, course: &mut Course) {
        if self.aside.is_empty() || !course.takes_more() || lent::begins_anew(&self.aside) {
            return;
        }
        let messages = std::mem::take(&mut self.aside);
        let id = format!("given-{}", messages[0].id);
        course.give(id.clone(), &messages);
        let text = self.places.said(&messages);
        // It refuses what comes after the end of the turn: then nobody has used it, and it gets its own.
        self.app.ask(
            "turn/steer",
            json!({
                "threadId": self.thread, "expectedTurnId": turn, "clientUserMessageId": id,
                "input": [{"type": "text", "text": text}],
            }),
        );
    }
}

#[cfg(test)]
mod tests {
    use twobox_shared::agent_config::SharedFolder;

    use super::*;
    use crate::args::Folders;

    /// Has a turn with a program that does this once it is asked for one, until a line comes that it waits for.
    fn had(script: &str) -> (Result<(String, bool), Failure>, bool) {
        let (handle, _reins, _said) = TurnHandle::apart();
        let dir = tempfile::tempdir().unwrap();
        let folders = Folders {
            program: dir.path().to_owned(),
            work: None,
            agent: None,
            cli: None,
            access: SharedFolder::default(),
        };
        let (work, inbox) = (dir.path().to_owned(), dir.path().to_owned());
        let places = Places { folders, work, inbox };
        let mut app = App::played(&format!("read -r asked; {script}; read -r more"), &handle);
        let talk = Talk {
            app: &mut app,
            handle: &handle,
            places: &places,
            thread: "h",
            upstream: "up",
            tool_timeout: Duration::from_secs(9),
            tools: &Permissions::new(),
            asks: false,
            aside: Vec::new(),
        };
        let outcome = talk.run("hello".to_owned());
        let lives = app.is_running(&handle);
        app.stop(&handle, false);
        (outcome, lives)
    }

    #[test]
    fn what_happens_before_a_turn_has_its_name_is_not_lost() {
        let over =
            r#"{"method":"turn/completed","params":{"turn":{"id":"t","status":"completed"}}}"#;
        let answer = r#"{"id":1,"result":{"turn":{"id":"t"}}}"#;
        let (outcome, lives) = had(&format!("echo '{over}'; echo '{answer}'"));
        assert_eq!((outcome.unwrap(), lives), (("t".to_owned(), false), true));
    }

    #[test]
    fn a_program_that_may_have_begun_a_turn_without_a_name_is_ended() {
        for answer in [r#"{"id":1,"result":{}}"#, r#"{"id":1,"error":{"message":"no"}}"#] {
            let (outcome, lives) = had(&format!("echo '{answer}'"));
            assert!(outcome.unwrap_err().retryable && !lives, "{answer}");
        }
    }
}
