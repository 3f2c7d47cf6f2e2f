//! One turn: asking a model, doing what it wants done, and asking again, until it has said what there is
//! to say.
//!
//! All that is said and done goes into the transcript as it happens, and counts once the turn has been
//! committed. Nothing here waits without hearing that the turn was cancelled.

mod fitting;

use std::time::Instant;

use twobox_shared::content::Failure;
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::MessageId;

use super::asking::{Asks, Cancelled, OfTurn, failure, gather, request};
use super::client::Aside;
use super::conversation::{
    Answer, Block, Item, Part, Stop, ToolCall, ToolResult, ToolSpec, Trouble, text_of,
};
use super::messages::{Files, is_new};
use super::repetition::{Repetition, Verdict};
use super::room;
use super::tools::{Bench, Toolbox};
use super::transcript::Transcript;
use crate::event::Said;
use crate::provider::{Done, Prompt, TurnHandle, cancelled};

/// How often an answer that was cut may be gone on with.
const CUTS_MAX: u32 = 3;

const GO_ON: &str = "[from the host] Your answer was cut, for it was too long for one piece. Go on with \
the very next character, and do not begin again.";
const CUT: &str = "[My answer is longer than it may be, and ends here.]";
const NOT_RUN: &str = "Your answer was cut at its limit before this call was whole, so nothing was done. \
Use smaller pieces.";
const NOT_ALLOWED: &str = "Your answer was refused in the middle of it, so nothing was done.";
const REFUSED: &str = "[The model refuses to go on from here.]";
const NOTHING: &str =
    "[from the host] You answered nothing. Say to whoever asked what there is to say.";
const CIRCLES: &str = "[from the host] The same calls have had the same results several times in a row. \
Try something else, or say what you cannot do. If they come once more, your turn is ended.";

/// What a turn is made of.
pub(super) struct Talk<'a, A> {
    pub(super) asks: &'a mut A,
    pub(super) handle: &'a TurnHandle,
    pub(super) prompt: &'a Prompt,
    pub(super) files: Files<'a>,
    pub(super) bench: &'a Bench,
    pub(super) toolbox: &'a Toolbox,
    pub(super) system: &'a str,
    pub(super) transcript: &'a mut Transcript,
    /// When the main thread will have ended the turn.
    pub(super) deadline: Instant,
    /// The most tokens of an answer.
    pub(super) max_output_tokens: u32,
    /// What has come before it began.
    pub(super) aside: Aside,
}

/// What has happened in a turn so far.
#[derive(Default)]
struct Course {
    aside: Aside,
    specs: Vec<ToolSpec>,
    turns: u32,
    repetition: Repetition,
    /// An answer that was cut, so far.
    pieces: String,
    cuts: u32,
    /// Whether it was said that nothing was answered.
    reminded: bool,
    /// Whether something was said to somebody.
    sent: bool,
    /// Whether the model has said that it means to say nothing.
    silent: bool,
    /// Whether follow-ups are left for turns of their own.
    closed: bool,
    /// Whether the model is shown no pictures, for it refused them.
    blind: bool,
}

impl<'a, A: Asks> Talk<'a, A> {
    /// Answers the turn.
    ///
    /// # Errors
    /// How it failed. The transcript then has more than was committed.
    pub(super) fn run(mut self, earlier: &[String]) -> Result<Done, Failure> {
        let aside = std::mem::take(&mut self.aside);
        let mut course = Course { aside, specs: self.toolbox.specs(), ..Course::default() };
        let messages = self.prompt.messages.iter().map(|message| message.id.to_string()).collect();
        self.transcript.turn(messages, self.prompt.attempt, earlier).map_err(unwritten)?;
        let parts = self.files.beginning(self.prompt, earlier);
        self.add(Item::User { parts })?;
        loop {
            gather(self.handle, &mut course.aside).map_err(|Cancelled| cancelled())?;
            self.take_up(&mut course)?;
            let answer = self.ask(&mut course)?;
            fault::point(CrashPoint::RunnerAnswerHeard);
            if self.follow(answer, &mut course)? {
                let continuation = self.transcript.commit().map_err(unwritten)?;
                let silent = course.silent;
                return Ok(Done { continuation: Some(continuation), silent });
            }
        }
    }

    fn add(&mut self, item: Item) -> Result<(), Failure> {
        self.transcript.add(item).map_err(unwritten)
    }

    fn remark(&mut self, text: &str) -> Result<(), Failure> {
        self.add(Item::User { parts: vec![Part::text(text)] })
    }

    /// Puts into the conversation what has come meanwhile. A message that begins a new one is left for a
    /// turn of its own, and what comes after it. Returns whether there was something.
    fn take_up(&mut self, course: &mut Course) -> Result<bool, Failure> {
        let notices = std::mem::take(&mut course.aside.notices);
        let mut parts: Vec<_> =
            notices.iter().map(|text| Part::text(format!("[from the host] {text}"))).collect();
        let mut messages = std::mem::take(&mut course.aside.follow_ups);
        if course.closed {
            messages.clear();
        } else if let Some(first) = messages.iter().position(is_new) {
            messages.truncate(first);
            course.closed = true;
        }
        if !messages.is_empty() {
            let ids: Vec<MessageId> = messages.iter().map(|message| message.id.clone()).collect();
            self.handle.say(Said::Used(ids));
            parts.extend(self.files.said(&messages));
        }
        match parts.is_empty() {
            true => Ok(false),
            false => self.add(Item::User { parts }).map(|()| true),
        }
    }

    /// Does what an answer wants done. Returns whether it was the last one.
    fn follow(&mut self, answer: Answer, course: &mut Course) -> Result<bool, Failure> {
        let Answer { mut blocks, stop, usage } = answer;
        // No API takes a text back that has nothing in it.
        blocks.retain(|it| !matches!(it, Block::Text { text } if text.trim().is_empty()));
        let text = text_of(&blocks);
        let calls: Vec<ToolCall> = blocks.iter().filter_map(call_of).cloned().collect();
        if !text.is_empty() || !calls.is_empty() {
            let model = self.asks.route().name.to_string();
            let item = Item::Assistant { blocks };
            self.transcript.answered(item, model, usage).map_err(unwritten)?;
        }
        match (calls.is_empty(), stop) {
            (false, Stop::Length) => self.leave_undone(&calls, NOT_RUN, course).map(|()| false),
            (false, Stop::Refused) => {
                self.leave_undone(&calls, NOT_ALLOWED, course).map(|()| false)
            }
            (false, Stop::End | Stop::Tools) => {
                self.use_tools(&calls, course)?;
                if course.silent {
                    return self.end_silently(course);
                }
                // Beside a call stands the next piece of what was cut before.
                if !course.pieces.is_empty() {
                    course.pieces.push_str(&text);
                }
                Ok(false)
            }
            (true, Stop::Length) if course.cuts < CUTS_MAX && !text.is_empty() => {
                course.cuts += 1;
                course.pieces.push_str(&text);
                self.remark(GO_ON).map(|()| false)
            }
            (true, Stop::Refused) if text.is_empty() && course.pieces.is_empty() => {
                let detail = "the model refuses to answer this";
                Err(Failure::permanent(Failure::PROVIDER_ERROR, detail))
            }
            (true, Stop::Refused) => self.end(&format!("{text}\n\n{REFUSED}"), course),
            (true, Stop::Length) if !(text.is_empty() && course.pieces.is_empty()) => {
                self.end(&format!("{text}\n\n{CUT}"), course)
            }
            (true, Stop::End | Stop::Tools | Stop::Length) => self.end(&text, course),
        }
    }

    /// Says the last words of the turn. Returns whether they were.
    fn end(&mut self, text: &str, course: &mut Course) -> Result<bool, Failure> {
        let whole = std::mem::take(&mut course.pieces) + text;
        let reply = whole.trim();
        if !reply.is_empty() {
            let text = reply.to_owned();
            self.handle.say(Said::Reply { text, files: Vec::new(), answers: None });
            course.sent = true;
            course.cuts = 0;
        }
        // An answer goes out with the end of its turn: it does not wait until what has come since is done,
        // and is not taken back with that.
        course.closed |= course.sent;
        gather(self.handle, &mut course.aside).map_err(|Cancelled| cancelled())?;
        let more = self.take_up(course)?;
        match (course.sent, course.reminded) {
            // What the host has remarked meanwhile is there for the next turn.
            (true, _) => Ok(true),
            (false, _) if more => {
                course.reminded = false; // of what has come
                Ok(false)
            }
            (false, false) => {
                course.reminded = true;
                self.remark(NOTHING).map(|()| false)
            }
            (false, true) => {
                let detail = "the model answered nothing, also when it was asked once more";
                Err(Failure::retryable(Failure::PROVIDER_ERROR, detail))
            }
        }
    }

    /// Ends the turn without a word, unless something has come that may want one. Returns whether it did.
    fn end_silently(&mut self, course: &mut Course) -> Result<bool, Failure> {
        gather(self.handle, &mut course.aside).map_err(|Cancelled| cancelled())?;
        if self.take_up(course)? {
            (course.silent, course.sent, course.reminded) = (false, false, false);
        }
        Ok(course.silent)
    }

    /// Tells that calls were not run which stand in an answer that was cut or refused, and `why`.
    fn leave_undone(
        &mut self,
        calls: &[ToolCall],
        why: &str,
        course: &mut Course,
    ) -> Result<(), Failure> {
        course.cuts += 1;
        if course.cuts > CUTS_MAX {
            let detail =
                "the model's answers were cut or refused before they were whole, again and again";
            return Err(Failure::permanent(Failure::PROVIDER_ERROR, detail));
        }
        let undone = |call: &ToolCall| ToolResult {
            call: call.id.clone(),
            parts: vec![Part::text(why)],
            failed: true,
        };
        self.add(Item::Results { results: calls.iter().map(undone).collect() })
    }

    fn use_tools(&mut self, calls: &[ToolCall], course: &mut Course) -> Result<(), Failure> {
        self.transcript.begun(calls).map_err(unwritten)?;
        if !self.toolbox.only_look(calls) {
            self.transcript.sync().map_err(unwritten)?;
        }
        let timeout = self.toolbox.span(self.bench, calls);
        self.handle.say(Said::ToolStarted { name: names(calls), timeout });
        let begun = Instant::now();
        let used = self.toolbox.use_all(self.bench, calls, self.handle, &mut course.aside);
        let mut results = used.map_err(|Cancelled| cancelled())?;
        fault::point(CrashPoint::RunnerToolDone);
        self.handle.say(Said::ToolFinished);
        course.sent |= calls.iter().zip(&results).any(|(call, result)| {
            !result.failed && matches!(call.name.as_str(), "send_message" | "send_file")
        });
        course.silent |= calls
            .iter()
            .zip(&results)
            .any(|(call, result)| !result.failed && call.name == "say_nothing");
        let verdict = course.repetition.round(calls, &results, begun.elapsed());
        room::shorten_results(&mut results, room::of_one(self.context()));
        self.add(Item::Results { results })?;
        match verdict {
            Verdict::GoOn => Ok(()),
            Verdict::Tell => self.remark(CIRCLES),
            Verdict::End => {
                let detail = format!(
                    "the model went round in circles: {} had the same result again and again",
                    names(calls)
                );
                Err(Failure::permanent(Failure::PROVIDER_ERROR, detail))
            }
        }
    }
}

fn call_of(block: &Block) -> Option<&ToolCall> {
    match block {
        Block::Call(call) => Some(call),
        Block::Text { .. } | Block::Opaque { .. } => None,
    }
}

/// The tools of these calls, each once, for people.
fn names(calls: &[ToolCall]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for call in calls {
        if !names.contains(&call.name.as_str()) {
            names.push(&call.name);
        }
    }
    twobox_shared::content::shorten(&names.join(", "), 80)
}

fn unwritten(error: std::io::Error) -> Failure {
    let detail = format!("the transcript could not be written: {error}");
    Failure::retryable(Failure::PROVIDER_ERROR, detail)
}

#[cfg(test)]
#[path = "turn_tests.rs"]
mod tests;
