//! How long a fault was felt.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::record::Record;
use super::said::{Said, Saying};

/// One fault and what came after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// What was done.
    pub fault: String,
    /// From its end to the first answer to a message that was accepted after it; `None` if none was.
    pub took: Option<Duration>,
}

/// For each [`Record::Injected`], in the order in which they ended.
pub fn recoveries(records: &[Record]) -> Vec<Recovery> {
    let mut places = BTreeMap::new();
    let mut accepted = BTreeMap::new();
    let mut answers: Vec<(u64, String)> = Vec::new();
    let mut faults = Vec::new();
    for record in records {
        match record {
            Record::Handed { message, place, .. } => drop(places.insert(message.as_str(), place)),
            Record::Accepted { at_us, message } => drop(accepted.insert(message.as_str(), *at_us)),
            Record::Shown { at_us, text, .. } => {
                let said = Said::all(text).into_iter().filter(|it| it.saying == Saying::Answer);
                answers.extend(said.map(|said| (*at_us, said.message)));
            }
            Record::Injected { until_us, fault, place, .. } => {
                faults.push((*until_us, fault, place.as_ref()));
            }
            Record::Refused { .. } | Record::Started { .. } => {}
        }
    }
    answers.sort();
    let mut seen = BTreeSet::new();
    answers.retain(|(_, message)| seen.insert(message.clone()));
    faults.sort_by_key(|(until, ..)| *until);
    let took = |until: u64, scope: Option<&String>| {
        let first = answers.iter().find(|(_, message)| {
            let message = message.as_str();
            accepted.get(message).is_some_and(|at| *at >= until)
                && scope.is_none_or(|scope| places.get(message) == Some(&scope))
        })?;
        Some(Duration::from_micros(first.0.saturating_sub(until)))
    };
    faults
        .into_iter()
        .map(|(until, fault, scope)| Recovery { fault: fault.clone(), took: took(until, scope) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, place: &str, accepted: u64, answered: u64) -> [Record; 3] {
        let (id, place) = (id.to_owned(), place.to_owned());
        let text = Said { saying: Saying::Answer, message: id.clone(), turn: 1, number: 0 };
        [
            Record::Handed {
                at_us: 0,
                message: id.clone(),
                place,
                text: String::new(),
                by_host: false,
            },
            Record::Accepted { at_us: accepted, message: id.clone() },
            Record::Shown {
                at_us: answered,
                key: format!("i:s:{id}"),
                place: None,
                keyed: true,
                answers: vec![id],
                text: text.to_string(),
            },
        ]
    }

    fn fault(until_us: u64, place: Option<&str>) -> Record {
        let place = place.map(str::to_owned);
        Record::Injected { at_us: until_us, until_us, fault: "kill".to_owned(), place }
    }

    #[test]
    fn only_an_answer_to_a_message_that_was_accepted_later_and_can_feel_it_shows_recovery() {
        let mut records = vec![fault(100, None), fault(100, Some("ada")), fault(900, None)];
        records.extend(message("before", "ada", 50, 150));
        records.extend(message("slow", "bob", 110, 400));
        records.extend(message("other", "bob", 120, 300));
        records.extend(message("ours", "ada", 130, 500));
        // Shown once more later: the first time counts.
        records.extend(message("other", "bob", 120, 950));
        let took: Vec<_> = recoveries(&records).into_iter().map(|it| it.took).collect();
        let us = |us| Some(Duration::from_micros(us));
        assert_eq!(took, [us(200), us(400), None]);
    }
}
