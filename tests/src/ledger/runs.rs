//! Scheduled runs, held against what the witnesses have written down: a run that has begun is a message
//! that the host handed in, and each slot has one row.

use std::collections::{BTreeMap, BTreeSet};

use super::record::Record;
use super::verdict::{EndState, Verdict, Violation};

/// A schedule, as the installation shows it when everything has come to rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The time between two slots.
    pub every_ms: i64,
    /// What they are counted from. It is no slot itself.
    pub anchor_ms: i64,
    /// The slots up to here must have been seen to; `None` if it paused itself, at a time that nobody
    /// outside knows.
    pub settled_ms: Option<i64>,
}

/// A run, or slots that were left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// The id of its schedule.
    pub schedule: String,
    /// Its slot.
    pub slot_ms: i64,
    /// The last slot that it stands for, if these are several.
    pub last_slot_ms: Option<i64>,
    /// The word for how it ended.
    pub status: String,
    /// Its message, if it has begun.
    pub message: Option<String>,
    /// What the agent was told.
    pub prompt: String,
    /// What was said in its end, as it is kept.
    pub output: Option<String>,
    /// Whether that is shown in a chat too.
    pub is_shown: bool,
    /// When it was made, on the ledgers' clock.
    pub made_us: u64,
    /// When it ended, on the ledgers' clock.
    pub ended_us: u64,
}

impl Run {
    fn is(&self, statuses: &[&str]) -> bool {
        statuses.contains(&self.status.as_str())
    }
}

/// What the runs add to the ledgers: who handed their messages in, and what was said and kept.
pub fn as_messages(runs: &[Run]) -> Vec<Record> {
    let records = |run: &Run| {
        let Some(message) = run.message.clone() else { return Vec::new() };
        let (at_us, place, text) = (run.made_us, run.schedule.clone(), run.prompt.clone());
        let mut records = vec![
            Record::Handed { at_us, message: message.clone(), place, text, by_host: true },
            Record::Accepted { at_us, message },
        ];
        if let Some(text) = run.output.clone().filter(|_| !run.is_shown) {
            records.push(Record::Shown {
                at_us: run.ended_us,
                key: format!("run:{}", run.id),
                place: None,
                keyed: true,
                answers: Vec::new(),
                text,
            });
        }
        records
    };
    runs.iter().flat_map(records).collect()
}

/// What the runs add to what is shown: those that ended without success, visibly.
pub fn add_failed(runs: &[Run], end: &mut EndState) {
    let failed = runs.iter().filter(|run| run.is(&["failed", "cancelled"]));
    end.failed.extend(failed.filter_map(|run| run.message.clone()));
}

/// How the slots ended, in the words of a verdict on messages: `accepted` are those that made a run,
/// `answered` those that completed, `failed` those that did not, visibly; `resends` counts the attempts
/// that were begun after the first ones.
pub fn judge_slots(schedules: &[Schedule], runs: &[Run], records: &[Record]) -> Verdict {
    let made: Vec<&Run> = runs.iter().filter(|run| !run.is(&["skipped", "missed"])).collect();
    let count = |statuses: &[&str]| made.iter().filter(|run| run.is(statuses)).count();
    let ours: BTreeSet<&str> = runs.iter().filter_map(|run| run.message.as_deref()).collect();
    let begun: Vec<&str> = records
        .iter()
        .filter_map(|record| match record {
            Record::Started { messages, .. } => Some(messages),
            _ => None,
        })
        .flat_map(|messages| messages.iter().map(|message| message.id.as_str()))
        .filter(|message| ours.contains(message))
        .collect();
    let distinct: BTreeSet<&str> = begun.iter().copied().collect();
    let mut violations: Vec<Violation> = schedules
        .iter()
        .flat_map(|schedule| {
            check_slots(schedule, runs.iter().filter(|run| run.schedule == schedule.id))
        })
        .collect();
    for run in runs {
        let message = run.message.as_deref();
        if run.is(&["queued", "running"]) {
            violations.push(Violation::RunOpen { run: run.id.clone() });
        }
        if run.is(&["completed"]) && !message.is_some_and(|message| distinct.contains(message)) {
            violations.push(Violation::RunInvented { run: run.id.clone() });
        }
    }
    Verdict {
        accepted: made.len(),
        answered: count(&["completed"]),
        queued: count(&["queued", "running"]),
        failed: count(&["failed", "cancelled"]),
        turns: begun.len(),
        resends: begun.len() - distinct.len(),
        violations,
        ..Verdict::default()
    }
}

/// Each slot from the first one on has one row.
fn check_slots<'a>(schedule: &Schedule, runs: impl Iterator<Item = &'a Run>) -> Vec<Violation> {
    let mut times: BTreeMap<i64, usize> = BTreeMap::new();
    for run in runs {
        let last = run.last_slot_ms.unwrap_or(run.slot_ms);
        let step = usize::try_from(schedule.every_ms).expect("some time lies between two slots");
        (run.slot_ms..=last).step_by(step).for_each(|slot| *times.entry(slot).or_default() += 1);
    }
    let newest = times.keys().next_back().copied();
    let Some(end) = newest.max(schedule.settled_ms) else { return Vec::new() };
    let step = usize::try_from(schedule.every_ms).expect("some time lies between two slots");
    let mut violations = Vec::new();
    for slot in (schedule.anchor_ms + schedule.every_ms..=end).step_by(step) {
        let name = schedule.name.clone();
        match times.remove(&slot) {
            None => violations.push(Violation::SlotLost { schedule: name, slot }),
            Some(1) => {}
            Some(_) => violations.push(Violation::SlotTwice { schedule: name, slot }),
        }
    }
    // What is left is no slot of this schedule.
    let invented = |slot| Violation::SlotInvented { schedule: schedule.name.clone(), slot };
    violations.extend(times.into_keys().map(invented));
    violations
}

#[cfg(test)]
mod tests {
    use super::super::record::Given;
    use super::super::said::{Said, Saying};
    use super::super::verdict::judge;
    use super::*;

    fn schedule(settled_ms: Option<i64>) -> Schedule {
        let (id, name) = ("s".to_owned(), "s".to_owned());
        Schedule { id, name, every_ms: 1000, anchor_ms: 500, settled_ms }
    }

    fn slot(slot_ms: i64, status: &str) -> Run {
        let (id, schedule) = (format!("r{slot_ms}"), "s".to_owned());
        Run { id, schedule, slot_ms, status: status.to_owned(), ..Run::default() }
    }

    fn completed(slot_ms: i64, turn: u64) -> Run {
        let message = format!("m{slot_ms}");
        let said = Said { saying: Saying::Answer, message: message.clone(), turn, number: 1 };
        Run { message: Some(message), output: Some(said.to_string()), ..slot(slot_ms, "completed") }
    }

    fn started(message: &str, turn: u64, attempt: i64) -> Record {
        let messages = vec![Given { id: message.to_owned(), text: "p".to_owned() }];
        Record::Started { at_us: turn, turn, attempt, pid: 1, messages }
    }

    #[test]
    fn a_slot_without_a_row_with_two_or_that_never_was_is_found() {
        use Violation::{SlotInvented, SlotLost, SlotTwice};
        let name = || "s".to_owned();
        let missed = Run { last_slot_ms: Some(3500), ..slot(2500, "missed") };
        let whole = vec![slot(1500, "skipped"), missed.clone(), slot(4500, "skipped")];
        let without_last = vec![slot(1500, "skipped"), missed.clone()];
        let twice = [whole.clone(), vec![slot(3500, "skipped")]].concat();
        let invented = [whole.clone(), vec![slot(700, "skipped")]].concat();
        let cases = [
            ("whole", whole.clone(), Some(4600), vec![]),
            (
                "a gap",
                vec![slot(1500, "skipped"), slot(4500, "skipped")],
                None,
                vec![
                    SlotLost { schedule: name(), slot: 2500 },
                    SlotLost { schedule: name(), slot: 3500 },
                ],
            ),
            (
                "the last one",
                without_last.clone(),
                Some(4500),
                vec![SlotLost { schedule: name(), slot: 4500 }],
            ),
            ("it paused itself", without_last, None, vec![]),
            ("twice", twice, None, vec![SlotTwice { schedule: name(), slot: 3500 }]),
            ("never", invented, None, vec![SlotInvented { schedule: name(), slot: 700 }]),
        ];
        for (case, runs, settled, expected) in cases {
            let verdict = judge_slots(&[schedule(settled)], &runs, &[]);
            assert_eq!(verdict.violations, expected, "{case}");
        }
    }

    #[test]
    fn a_run_that_was_not_worked_on_or_has_not_ended_is_found() {
        let runs = [completed(1500, 7), slot(2500, "queued"), completed(3500, 9)];
        let records = [started("m1500", 6, 0), started("m1500", 7, 1)];
        let verdict = judge_slots(&[], &runs, &records);
        let (open, invented) = ("r2500".to_owned(), "r3500".to_owned());
        let expected = [Violation::RunOpen { run: open }, Violation::RunInvented { run: invented }];
        assert_eq!(verdict.violations, expected);
        assert_eq!((verdict.accepted, verdict.answered, verdict.queued), (3, 2, 1));
        assert_eq!((verdict.turns, verdict.resends), (2, 1), "a second attempt");
    }

    #[test]
    fn a_run_is_judged_as_a_message_that_the_host_handed_in() {
        let failed = Run { message: Some("m2500".to_owned()), ..slot(2500, "failed") };
        let silent = Run { output: Some(String::new()), ..completed(3500, 9) };
        let twice = Run { output: Some("answer m4500 8.1".to_owned()), ..completed(4500, 8) };
        let shown = Run { is_shown: true, ..completed(5500, 11) };
        let runs = [completed(1500, 7), failed, silent, twice, shown];
        let mut records = as_messages(&runs);
        records.extend(
            runs.iter()
                .zip(0..)
                .map(|(run, turn)| started(run.message.as_deref().unwrap(), turn, 0)),
        );
        records.push(started("m4500", 99, 0));
        let mut end = EndState::default();
        add_failed(&runs, &mut end);
        let verdict = judge(&records, &end);
        let lost = |message: &str| Violation::Lost { message: message.to_owned() };
        let again = Violation::StartedTwice { message: "m4500".to_owned(), attempt: 0 };
        assert_eq!(verdict.violations, [again, lost("m3500"), lost("m5500")]);
        assert_eq!((verdict.answered, verdict.failed), (2, 1));
    }
}
