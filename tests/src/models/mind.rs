//! A model that does what messages ask for, as the program `recording-agent` does it, and whose server has
//! its troubles: what storms and the ledger of money need.
//!
//! A message that says `order ID: WORDS` is answered by the line `answer ID …` ([`Said`]), each with its
//! place in the order of requests. Each of its words that is one of these asks for something before that;
//! all others mean nothing.
//!
//! | word | meaning |
//! |---|---|
//! | `note` | send something in the middle of the turn, unless an earlier attempt has |
//! | `tool` | run a command |
//! | `twice` | run two commands, one after the other |

use fastrand::Rng;
use serde_json::{Value, json};

use super::Api;
use super::heard::{Heard, heard};
use super::script::{Step, Trouble};
use crate::ledger::{Said, Saying};

/// What a person writes so that `ID` is answered; [`crate::Chat`] puts the message's id there.
pub const ORDER: &str = "order {id}:";

/// Such a model.
#[derive(Debug, Clone, Copy)]
pub struct Mind {
    /// Decides which requests meet trouble, and which.
    pub seed: u64,
    /// Whether any do.
    pub troubled: bool,
}

impl Mind {
    /// What it answers to the request with this number.
    pub fn step(&self, api: Api, number: u64, body: &Value) -> Step {
        let step = answer(number, &heard(api, body));
        match self.troubled {
            true => trouble(step, &mut Rng::with_seed(self.seed.wrapping_add(number))),
            false => step,
        }
    }
}

struct Order<'a> {
    id: &'a str,
    words: Vec<&'a str>,
}

fn orders(heard: &Heard) -> Vec<Order<'_>> {
    let order = |line: &'_ String| -> Option<(usize, usize)> {
        let rest = line.strip_prefix("order ")?;
        Some((line.len() - rest.len(), line.len() - rest.len() + rest.find(':')?))
    };
    let mut orders: Vec<Order<'_>> = Vec::new();
    for line in &heard.lines {
        let Some((from, to)) = order(line) else { continue };
        let (id, words) = (&line[from..to], line[to + 1..].split_whitespace().collect());
        if orders.iter().all(|other| other.id != id) {
            orders.push(Order { id, words });
        }
    }
    orders
}

/// Does the next thing that was asked for, and answers when there is none.
fn answer(number: u64, heard: &Heard) -> Step {
    let orders = orders(heard);
    let mut said = 0;
    let mut say = |saying, id: &str| {
        said += 1;
        Said { saying, message: id.to_owned(), turn: number, number: said }.to_string()
    };
    for Order { id, words } in &orders {
        let noted = format!("note {id} ");
        let is_noted = heard.calls.iter().chain(&heard.lines).any(|it| it.contains(&noted));
        if words.contains(&"note") && !is_noted {
            let text = say(Saying::Note, id);
            return Step::call("send_message", json!({"to": "terminal", "text": text}));
        }
        let wanted = match () {
            () if words.contains(&"twice") => 2,
            () if words.contains(&"tool") => 1,
            () => 0,
        };
        let ran = format!("echo did {id} ");
        let done = heard.calls.iter().filter(|it| it.contains(&ran)).count();
        if done < wanted {
            return Step::call("bash", json!({"command": format!("{ran}{done}")}));
        }
    }
    if orders.is_empty() {
        return Step::text("there is nothing to answer");
    }
    let answers: Vec<String> = orders.iter().map(|it| say(Saying::Answer, it.id)).collect();
    Step::text(&answers.join("\n"))
}

/// What the server of a vendor does now and then: refuses, breaks off, falls silent for a while.
fn trouble(step: Step, dice: &mut Rng) -> Step {
    let at = dice.usize(..2500); // most answers are shorter, and have told what they cost by then
    match dice.u32(..100) {
        0..5 => Step::rate_limited(1),
        5..9 => Step::refuse(529),
        9..11 => Step::refuse(500),
        11..16 => step.in_pieces(9).with(Trouble::Cut(at)),
        16..18 => step.in_pieces(9).with(Trouble::Short(at)),
        18..21 => step.in_pieces(9).with(Trouble::Error(at)),
        21..40 => step.in_pieces(9).with_pauses(dice.u64(10..400)),
        _ => step.in_pieces(9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::script::Part;

    fn heard(lines: &[&str], calls: &[&str]) -> Heard {
        let owned = |all: &[&str]| all.iter().map(|&it| it.to_owned()).collect();
        Heard { lines: owned(lines), calls: owned(calls) }
    }

    fn said(heard: &Heard) -> String {
        match answer(7, heard).say.remove(0) {
            Part::Call { name, arguments } => format!("{name} {arguments}"),
            Part::Text(text) | Part::Thinking(text) => text,
        }
    }

    #[test]
    fn what_is_asked_for_is_done_once_and_then_answered() {
        let both =
            ["[a line of the host's]", "order m1: note tool", "[another]", "order m2: plain"];
        let note = r#"{"text":"note m1 7.1","to":"terminal"}"#;
        let cases = [
            (heard(&both, &[]), format!("send_message {note}")),
            (heard(&both, &[note]), r#"bash {"command":"echo did m1 0"}"#.to_owned()),
            (
                heard(&both, &[note, r#"{"command":"echo did m1 0"}"#]),
                "answer m1 7.1\nanswer m2 7.2".to_owned(),
            ),
            (heard(&["order m1: note", "> note m1 3.1"], &[]), "answer m1 7.1".to_owned()),
            (heard(&["order m1: note", "order m1: note"], &[note]), "answer m1 7.1".to_owned()),
            (heard(&["hello"], &[]), "there is nothing to answer".to_owned()),
        ];
        for (heard, expected) in cases {
            assert_eq!(said(&heard), expected, "{heard:?}");
        }
    }

    #[test]
    fn a_seed_says_the_same_again() {
        let steps = |seed| -> Vec<Step> {
            let body = json!({"messages": [{"role": "user", "content": "order m1: plain"}]});
            let mind = Mind { seed, troubled: true };
            (0..100).map(|number| mind.step(Api::Chat, number, &body)).collect()
        };
        assert_eq!(steps(1), steps(1));
        assert_ne!(steps(1), steps(2));
    }
}
