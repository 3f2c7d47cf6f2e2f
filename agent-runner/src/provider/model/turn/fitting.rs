//! Asking so that the conversation fits its model: what is left out of it, in which order, when it does
//! not.

use super::super::compaction::{self, Compaction};
use super::super::kept;
use super::super::room;
use super::super::shown::Shown;
use super::{Answer, Asks, Course, Failure, Item, OfTurn, Part, Said, Talk, ToolSpec, Trouble};
use super::{failure, request, unwritten};
use crate::say::say;

/// How often what is too long even to be summed up is halved.
const HALVINGS_MAX: u32 = 3;

/// What is tried, one after the other, with a conversation that is too long for its model.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A summary in the place of its beginning.
    Compact,
    /// The longest texts cut, until all have this part of the room of one thing.
    Cut(usize),
}

const STEPS: [Step; 3] = [Step::Compact, Step::Cut(1), Step::Cut(4)];

impl<'a, A: Asks> Talk<'a, A> {
    /// Asks, and shortens the conversation before that if it is too long.
    pub(super) fn ask(&mut self, course: &mut Course) -> Result<Answer, Failure> {
        let fixed = self.system.len() + course.specs.iter().map(spec_len).sum::<usize>();
        let tokens = compaction::estimate(self.transcript.items(), self.transcript.known(), fixed);
        let context = self.context();
        let items = self.transcript.items();
        let mut steps = STEPS.as_slice();
        if compaction::is_due(tokens, context) && compaction::is_worth_it(items, context) {
            self.compact(course)?;
            steps = &steps[1..];
        }
        loop {
            match self.request(None, course)? {
                Err(Trouble::TooLong(why)) => match self.make_room(steps, course)? {
                    Some(left) => steps = left,
                    None => return Err(failure(Trouble::TooLong(why))),
                },
                other => return other.map_err(failure),
            }
        }
    }

    /// How many tokens the model takes.
    pub(super) fn context(&self) -> u32 {
        self.asks.route().context_tokens
    }

    /// Asks to go on with `items`, or with the conversation. Where that is refused for what is in it, it is
    /// asked once more without its pictures and documents, and so is the rest of the turn: one of them that
    /// a model does not take would end every later turn.
    fn request(
        &mut self,
        items: Option<&[Item]>,
        course: &mut Course,
    ) -> Result<Result<Answer, Trouble>, Failure> {
        loop {
            self.count(course)?;
            self.handle.say(Said::Asks { is_answer: items.is_none() });
            let of_turn = self.of_turn(course);
            let items = items.unwrap_or(self.transcript.items());
            match request(self.asks, items, &course.specs, &of_turn, &mut course.aside) {
                Err(Trouble::Unfit(why) | Trouble::TooLong(why))
                    if !course.blind && kept::shows(items) =>
                {
                    say!("asked once more without pictures: {why}");
                    course.blind = true;
                }
                other => return Ok(other),
            }
        }
    }

    /// What all requests of the turn have in common.
    fn of_turn(&self, course: &Course) -> OfTurn<'a> {
        OfTurn {
            handle: self.handle,
            system: self.system,
            deadline: self.deadline,
            max_output_tokens: self.max_output_tokens,
            kept: self.files.kept,
            shown: match course.blind {
                true => Shown::None,
                false => Shown::Newest(self.context()),
            },
        }
    }

    /// Counts a model turn. The main thread counts the same, and would only come later.
    fn count(&self, course: &mut Course) -> Result<(), Failure> {
        self.handle.say(Said::Turns(1));
        course.turns += 1;
        let (taken, allowed) = (course.turns, self.prompt.max_turns);
        if taken <= allowed {
            return Ok(());
        }
        let detail = format!("it took {taken} model turns, {allowed} are allowed");
        Err(Failure::permanent(Failure::TURN_LIMIT, detail))
    }

    /// Takes the first of `steps` that changes something. Returns those that are left, or `None` if none
    /// did.
    fn make_room(
        &mut self,
        steps: &'static [Step],
        course: &mut Course,
    ) -> Result<Option<&'static [Step]>, Failure> {
        for (at, step) in steps.iter().enumerate() {
            let changed = match step {
                Step::Compact => self.compact(course)?,
                Step::Cut(part) => {
                    let most = room::of_one(self.context()) / part;
                    self.transcript.shorten(most).map_err(unwritten)?
                }
            };
            if changed {
                return Ok(Some(&steps[at + 1..]));
            }
        }
        Ok(None)
    }

    /// Has the model write down what is to be kept, and goes on with that. Returns whether there was
    /// something to be left out.
    fn compact(&mut self, course: &mut Course) -> Result<bool, Failure> {
        let items = self.transcript.items();
        let keeps = compaction::keeps(items, self.context());
        if keeps >= items.len() {
            return Ok(false);
        }
        let summary = self.sum_up(course)?;
        let compaction = Compaction { summary, keeps };
        self.transcript.compact(compaction).map_err(unwritten)?;
        Ok(true)
    }

    /// The model's summary. What is no summary is asked for once more, then of the later half alone, as is
    /// what is too long to be summed up.
    fn sum_up(&mut self, course: &mut Course) -> Result<Option<String>, Failure> {
        let mut items = self.transcript.items().to_vec();
        let (mut again, mut halvings) = (false, 0);
        loop {
            let mut parts = vec![Part::text(compaction::ASKED)];
            parts.extend(again.then(|| Part::text(compaction::ASKED_AGAIN)));
            items.push(Item::User { parts });
            let answered = self.request(Some(&items), course)?;
            items.pop();
            match answered {
                Ok(answer) => match compaction::summary(&answer, again) {
                    Some(text) => return Ok(Some(text)),
                    None if !again => {
                        again = true;
                        continue;
                    }
                    None => {}
                },
                Err(Trouble::TooLong(_)) => {}
                Err(other) => return Err(failure(other)),
            }
            if halvings == HALVINGS_MAX {
                return Ok(None);
            }
            halvings += 1;
            items = compaction::later_half(&items).to_vec();
            // A single message may be what is too long.
            room::shorten(&mut items, (2 * room::of_one(self.context())) >> halvings);
        }
    }
}

fn spec_len(spec: &ToolSpec) -> usize {
    spec.description.len() + spec.schema.to_string().len()
}
