//! Whether a model goes round in circles: the same calls with the same results, again and again. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::conversation::{Input, ToolCall, ToolResult};

/// How often in a row the same may come of the same.
const MOST: u32 = 5;

/// Whoever waits so long for something may ask again and again.
pub(super) const WAITING: Duration = Duration::from_secs(5);

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    GoOn,
    /// Tell the model.
    Tell,
    /// It was told, and goes on with it: end the turn.
    End,
}

/// The last round of calls, and how often it came in a row.
#[derive(Debug, Default)]
pub(super) struct Repetition {
    last: Option<u64>,
    count: u32,
    told: bool,
}

impl Repetition {
    /// Takes in one round: the calls of an answer, and what came of them after how long. One that took
    /// [`WAITING`] or longer is no step of a circle.
    pub(super) fn round(
        &mut self,
        calls: &[ToolCall],
        results: &[ToolResult],
        took: Duration,
    ) -> Verdict {
        let mut hasher = DefaultHasher::new();
        for (call, result) in calls.iter().zip(results) {
            call.name.hash(&mut hasher);
            match &call.input {
                Input::Fields(fields) => serde_json::to_string(fields).unwrap_or_default(),
                Input::Unreadable(text) => text.clone(),
            }
            .hash(&mut hasher);
            // Not the call's id, which is another each time.
            format!("{:?}", (&result.parts, result.failed)).hash(&mut hasher);
        }
        let this = Some(hasher.finish());
        if self.last != this {
            *self = Self { last: this, ..Self::default() };
        }
        if took >= WAITING {
            return Verdict::GoOn;
        }
        self.count += 1;
        match (self.count >= MOST, self.told) {
            (false, _) => Verdict::GoOn,
            (true, false) => {
                self.told = true;
                Verdict::Tell
            }
            (true, true) => Verdict::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::model::conversation::Part;

    fn play(rounds: &[(&str, &str)]) -> Vec<Verdict> {
        play_slowly(rounds, Duration::ZERO)
    }

    fn play_slowly(rounds: &[(&str, &str)], took: Duration) -> Vec<Verdict> {
        let mut repetition = Repetition::default();
        let round = |(number, (input, output)): (usize, &(&str, &str))| {
            let id = number.to_string();
            let input = Input::Unreadable((*input).to_owned());
            let call = ToolCall { id: id.clone(), name: "t".to_owned(), input };
            let result = ToolResult { call: id, parts: vec![Part::text(*output)], failed: false };
            repetition.round(&[call], &[result], took)
        };
        rounds.iter().enumerate().map(round).collect()
    }

    #[test]
    fn the_fifth_time_is_told_and_the_sixth_ends_the_turn() {
        use Verdict::{End, GoOn, Tell};
        assert_eq!(play(&[("a", "x"); 6]), [GoOn, GoOn, GoOn, GoOn, Tell, End]);
    }

    #[test]
    fn another_call_or_another_result_begins_to_count_anew() {
        let same = [("a", "x"); 4];
        for other in [("b", "x"), ("a", "y")] {
            let rounds = [&same[..], &[other], &same[..]].concat();
            assert!(play(&rounds).iter().all(|it| *it == Verdict::GoOn), "{other:?}");
        }
    }

    #[test]
    fn a_second_circle_is_told_before_it_ends_the_turn() {
        let rounds = [&[("a", "x"); 5][..], &[("b", "x"); 6]].concat();
        let verdicts = play(&rounds);
        assert_eq!(
            (verdicts[4], verdicts[9], verdicts[10]),
            (Verdict::Tell, Verdict::Tell, Verdict::End)
        );
    }

    #[test]
    fn whoever_waits_for_something_may_look_again_and_again() {
        let verdicts = play_slowly(&[("sleep 60; cat status", "not yet"); 20], WAITING);
        assert!(verdicts.iter().all(|it| *it == Verdict::GoOn), "{verdicts:?}");
    }
}
