//! What a person wants done about what ended without success, and what was done. The decision is
//! pure; `session::redrive` carries it out.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use twobox_shared::dead_letter::Fate;

/// How the reason begins why a message of a runner that was given up is not sent.
pub const SUPERSEDED: &str = "superseded";

/// Why a message that is open in a copy of a data directory is not sent.
pub const HELD: &str = "held: this is a copy, and the original may send it";

/// How many things one order may be about: its answer has to fit into a line of the socket. An order
/// for all takes so many, the oldest.
pub const ORDER_MAX: usize = 2000;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Try it once more.
    Redrive,
    /// Give it up for good.
    Drop,
}

/// What kind of thing ended without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A message that was not answered.
    Message,
    /// A row of the outbox that was not delivered.
    Delivery,
    /// A notice of the host that was not delivered.
    Notice,
}

/// What begins the id of a notice, before its cause.
const NOTICE: &str = "notice:";

impl Kind {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Delivery => "delivery",
            Self::Notice => "notice",
        }
    }
}

/// The id under which people know the notice about `cause`.
pub fn notice_id(cause: &str) -> String {
    format!("{NOTICE}{cause}")
}

/// What the notice is about that people know under `id`, if it is the id of one.
pub fn notice_cause(id: &str) -> Option<&str> {
    id.strip_prefix(NOTICE)
}

/// A person's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterOrder {
    /// What to do.
    pub verb: Verb,
    /// Only with things of this kind.
    pub kind: Option<Kind>,
    /// With which, as `twobox dead list` shows them; with everything that is dead, without it.
    pub ids: Option<Vec<String>>,
}

/// How an order about one thing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeadLetterOutcome {
    /// It will be tried once more.
    Redriven,
    /// It was given up.
    Dropped,
    /// It was as wanted before.
    Unchanged,
    /// It cannot be done; nothing was changed.
    Refused,
}

/// What became of an order about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handled {
    /// Its id.
    pub id: String,
    /// What it is, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// How it ended.
    pub outcome: DeadLetterOutcome,
    /// Why, or what to mind, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What is known of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What it is.
    pub kind: Kind,
    /// Its id, as people know it.
    pub id: String,
    /// What became of it.
    pub fate: Fate,
    /// Whether what it says can still be read.
    pub readable: bool,
    /// Whether its channel shows it once, however often it is sent.
    pub honours_keys: bool,
}

/// What to do about one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Change it. The answer says what it will be when that was done.
    Change(Handled),
    /// Nothing, and this is the answer.
    Answer(Handled),
}

/// Decides about everything that an order names, in its order, each thing once.
pub fn steps(order: &DeadLetterOrder, known: &[Known]) -> Vec<Step> {
    let wanted = |thing: &&Known| order.kind.is_none_or(|kind| kind == thing.kind);
    let Some(ids) = &order.ids else {
        let dead = known.iter().filter(wanted).filter(|thing| thing.is_dead());
        return dead.take(ORDER_MAX).map(|thing| step(order.verb, thing)).collect();
    };
    let mut seen = HashSet::new();
    let fresh = ids.iter().filter(|id| seen.insert(id.as_str()));
    fresh
        .map(|id| {
            let named: Vec<&Known> =
                known.iter().filter(wanted).filter(|thing| thing.id == *id).collect();
            let dead: Vec<&Known> = named.iter().copied().filter(|thing| thing.is_dead()).collect();
            match (&dead[..], &named[..]) {
                ([thing], _) | ([], [thing]) => step(order.verb, thing),
                ([], []) => Step::Answer(Handled {
                    id: id.clone(),
                    kind: order.kind,
                    outcome: DeadLetterOutcome::Refused,
                    note: Some("nothing with this id ended without success".to_owned()),
                }),
                _ => Step::Answer(Handled {
                    id: id.clone(),
                    kind: None,
                    outcome: DeadLetterOutcome::Refused,
                    note: Some(several(&named)),
                }),
            }
        })
        .collect()
}

fn several(named: &[&Known]) -> String {
    let kinds: Vec<String> = named.iter().map(|thing| format!("a {}", thing.kind.word())).collect();
    format!("{} have this id: say which with --kind", kinds.join(" and "))
}

fn step(verb: Verb, thing: &Known) -> Step {
    use DeadLetterOutcome::{Dropped, Redriven, Refused, Unchanged};
    let answer = |outcome, note: &str| Step::Answer(thing.handled(outcome, Some(note.to_owned())));
    let (under_way, done) = match thing.kind {
        Kind::Message => ("it is being worked on already", "it was answered"),
        Kind::Delivery | Kind::Notice => ("it is being sent already", "it was delivered"),
    };
    match (verb, &thing.fate) {
        (Verb::Redrive, Fate::Open) => answer(Unchanged, under_way),
        (Verb::Redrive, Fate::Succeeded) => answer(Unchanged, done),
        (Verb::Redrive, Fate::Dropped) => answer(Refused, "it was dropped"),
        (Verb::Redrive, Fate::Dead { uncertain, error }) => {
            if error.as_ref().is_some_and(|error| error.starts_with(SUPERSEDED)) {
                return answer(Refused, "its runner had been given up: the host never sends it");
            }
            if !thing.readable {
                return answer(
                    Refused,
                    "its row is gone from the outbox, so nobody knows what it said",
                );
            }
            let warning = "it may be shown twice: nobody knows whether it arrived";
            let twice = *uncertain && !thing.honours_keys;
            Step::Change(thing.handled(Redriven, twice.then(|| warning.to_owned())))
        }
        (Verb::Drop, Fate::Dead { .. }) => Step::Change(thing.handled(Dropped, None)),
        (Verb::Drop, Fate::Dropped) => answer(Unchanged, "it was dropped before"),
        (Verb::Drop, Fate::Open) => answer(Refused, under_way),
        (Verb::Drop, Fate::Succeeded) => answer(Refused, done),
    }
}

impl Known {
    fn is_dead(&self) -> bool {
        match self.fate {
            Fate::Dead { .. } => true,
            Fate::Open | Fate::Succeeded | Fate::Dropped => false,
        }
    }

    fn handled(&self, outcome: DeadLetterOutcome, note: Option<String>) -> Handled {
        Handled { id: self.id.clone(), kind: Some(self.kind), outcome, note }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(kind: Kind, id: &str, fate: Fate) -> Known {
        Known { kind, id: id.to_owned(), fate, readable: true, honours_keys: true }
    }

    fn dead(error: &str) -> Fate {
        Fate::Dead { uncertain: false, error: Some(error.to_owned()) }
    }

    fn order(verb: Verb, ids: &[&str]) -> DeadLetterOrder {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        DeadLetterOrder { verb, kind: None, ids: Some(ids) }
    }

    fn handled(step: &Step) -> &Handled {
        match step {
            Step::Change(handled) | Step::Answer(handled) => handled,
        }
    }

    #[test]
    fn only_what_is_dead_is_changed_and_only_as_far_as_it_can_be() {
        use DeadLetterOutcome::{Dropped, Redriven, Refused, Unchanged};
        let gone = Known { readable: false, ..known(Kind::Delivery, "x", dead("expired")) };
        let late = known(Kind::Delivery, "x", dead("superseded: its runner was given up"));
        let cases = [
            ("dead", known(Kind::Delivery, "x", dead("expired")), Redriven, Dropped),
            ("open", known(Kind::Message, "x", Fate::Open), Unchanged, Refused),
            ("succeeded", known(Kind::Notice, "x", Fate::Succeeded), Unchanged, Refused),
            ("dropped", known(Kind::Delivery, "x", Fate::Dropped), Refused, Unchanged),
            ("its text is gone", gone, Refused, Dropped),
            ("of a superseded runner", late, Refused, Dropped),
        ];
        for (case, thing, redriven, dropped) in cases {
            for (verb, expected) in [(Verb::Redrive, redriven), (Verb::Drop, dropped)] {
                let steps = steps(&order(verb, &["x"]), std::slice::from_ref(&thing));
                let changes = matches!(steps[..], [Step::Change(_)]);
                assert_eq!(handled(&steps[0]).outcome, expected, "{case} {verb:?}");
                assert_eq!(changes, matches!(expected, Redriven | Dropped), "{case} {verb:?}");
            }
        }
    }

    #[test]
    fn what_may_be_shown_twice_is_said_and_done() {
        for (uncertain, honours_keys, warned) in
            [(true, false, true), (true, true, false), (false, false, false)]
        {
            let fate = Fate::Dead { uncertain, error: None };
            let thing = Known { honours_keys, ..known(Kind::Delivery, "x", fate) };
            let steps = steps(&order(Verb::Redrive, &["x"]), &[thing]);
            let [Step::Change(handled)] = &steps[..] else { panic!("{steps:?}") };
            assert_eq!(handled.note.is_some(), warned, "{uncertain} {honours_keys}");
        }
    }

    #[test]
    fn an_id_that_a_container_chose_twice_needs_its_kind() {
        let things =
            [known(Kind::Message, "x", dead("")), known(Kind::Delivery, "x", dead("expired"))];
        let both = steps(&order(Verb::Redrive, &["x"]), &things);
        let note = handled(&both[0]).note.as_deref().unwrap();
        assert!(matches!(both[0], Step::Answer(_)) && note.contains("--kind"), "{note}");
        let named = DeadLetterOrder { kind: Some(Kind::Delivery), ..order(Verb::Redrive, &["x"]) };
        let [Step::Change(chosen)] = &steps(&named, &things)[..] else { panic!("one of them") };
        assert_eq!(chosen.kind, Some(Kind::Delivery));
        let answered = [known(Kind::Message, "x", Fate::Succeeded), things[1].clone()];
        let [Step::Change(chosen)] = &steps(&order(Verb::Redrive, &["x"]), &answered)[..] else {
            panic!("only one of them is dead")
        };
        assert_eq!(chosen.kind, Some(Kind::Delivery));
    }

    #[test]
    fn each_thing_is_handled_once_and_all_means_all_that_is_dead() {
        let things = [
            known(Kind::Message, "m", dead("")),
            known(Kind::Delivery, "r", Fate::Open),
            known(Kind::Notice, "notice:n", dead("")),
        ];
        assert_eq!(steps(&order(Verb::Drop, &["m", "m", "?"]), &things).len(), 2);
        let all = DeadLetterOrder { ids: None, ..order(Verb::Redrive, &[]) };
        let ids: Vec<_> = steps(&all, &things).iter().map(|it| handled(it).id.clone()).collect();
        assert_eq!(ids, ["m", "notice:n"]);
        let only = DeadLetterOrder { kind: Some(Kind::Notice), ..all };
        assert_eq!(steps(&only, &things).len(), 1);
    }
}
