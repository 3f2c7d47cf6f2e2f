//! Crafted ledgers: what is fine is found fine, and each kind of violation by its name.

use super::*;
use crate::ledger::Given;

/// A ledger under construction; each line is a microsecond after the one before.
#[derive(Default)]
struct Story {
    records: Vec<Record>,
    end: EndState,
}

impl Story {
    fn at_us(&self) -> u64 {
        u64::try_from(self.records.len()).unwrap()
    }

    fn add(mut self, record: impl FnOnce(u64) -> Record) -> Self {
        let at_us = self.at_us();
        self.records.push(record(at_us));
        self
    }

    fn handed(self, message: &str, text: &str) -> Self {
        let (message, place, text) = (message.to_owned(), "ada".to_owned(), text.to_owned());
        self.add(|at_us| Record::Handed { at_us, message, place, text, by_host: false })
    }

    fn accepted(self, message: &str) -> Self {
        let message = message.to_owned();
        self.add(|at_us| Record::Accepted { at_us, message })
    }

    fn refused(self, message: &str) -> Self {
        let message = message.to_owned();
        self.add(|at_us| Record::Refused { at_us, message })
    }

    /// A message that the host took.
    fn sent(self, message: &str, text: &str) -> Self {
        self.handed(message, text).accepted(message)
    }

    fn started(self, turn: u64, attempt: i64, messages: &[&str]) -> Self {
        let given = |id: &&str| Given { id: (*id).to_owned(), text: String::new() };
        let messages = messages.iter().map(given).collect();
        self.add(|at_us| Record::Started { at_us, turn, attempt, pid: 1, messages })
    }

    fn letter(self, key: &str, place: &str, keyed: bool, text: &str, answers: &[&str]) -> Self {
        let (key, place) = (format!("i:s:{key}"), Some(place.to_owned()));
        let (text, answers) = (text.to_owned(), answers.iter().map(|&it| it.to_owned()).collect());
        self.add(|at_us| Record::Shown { at_us, key, place, keyed, answers, text })
    }

    /// A turn for the task that `message` had put off.
    fn task_started(self, turn: u64, task: &str, message: &str) -> Self {
        let messages = vec![Given { id: task.to_owned(), text: format!("{TASK_OF}{message}") }];
        self.add(|at_us| Record::Started { at_us, turn, attempt: 0, pid: 1, messages })
    }

    /// A message of the recording agent, to somebody who honours keys.
    fn shown(self, key: &str, text: &str) -> Self {
        let message = text.split(' ').nth(1).unwrap().to_owned();
        self.letter(key, "ada", true, text, &[&message])
    }

    /// The same on a channel without keys.
    fn called(self, key: &str, text: &str) -> Self {
        let message = text.split(' ').nth(1).unwrap().to_owned();
        self.letter(key, "ada", false, text, &[&message])
    }

    fn ends(
        mut self,
        state: impl FnOnce(&mut EndState) -> &mut BTreeSet<String>,
        id: &str,
    ) -> Self {
        state(&mut self.end).insert(id.to_owned());
        self
    }

    fn verdict(&self) -> Verdict {
        judge(&self.records, &self.end)
    }

    /// A message that was answered as it should be.
    fn good(self) -> Self {
        self.sent("m", "plain").started(10, 0, &["m"]).shown("a", "answer m 10.0")
    }
}

fn m() -> String {
    "m".to_owned()
}

#[test]
fn what_keeps_the_promises_is_found_to_keep_them() {
    type Case = (&'static str, Story, fn(&Verdict) -> usize);
    let fine: Vec<Case> = vec![
        ("answered", Story::default().good(), |it| it.answered),
        ("shown again under its key", Story::default().good().shown("a", "answer m 10.0"), |it| {
            it.resends
        }),
        ("still queued", Story::default().sent("m", "").ends(|end| &mut end.pending, "m"), |it| {
            it.queued
        }),
        ("failed visibly", Story::default().sent("m", "").ends(|end| &mut end.failed, "m"), |it| {
            it.failed
        }),
        (
            "nobody knows, and is told so",
            Story::default().sent("m", "").ends(|end| &mut end.undelivered, "m"),
            |it| it.undelivered,
        ),
        (
            "noted by an attempt that died",
            Story::default()
                .sent("m", "note")
                .started(10, 0, &["m"])
                .shown("n", "note m 10.0")
                .started(20, 1, &["m"])
                .shown("a", "answer m 20.0"),
            |it| it.answered,
        ),
        ("refused, repeated, taken", Story::default().handed("m", "").refused("m").good(), |it| {
            it.accepted
        }),
        ("refused and forgotten", Story::default().handed("m", "").refused("m"), |it| it.refused),
        (
            "two destinations owe each other no order",
            Story::default().good().sent("n", "").letter(
                "b",
                "elsewhere",
                true,
                "answer n 9.0",
                &["n"],
            ),
            |it| it.answered - 1,
        ),
    ];
    for (case, story, count) in fine {
        let verdict = story.verdict();
        assert_eq!(verdict.violations, [], "{case}");
        assert_eq!(count(&verdict), 1, "{case}: {verdict:?}");
    }
}

#[test]
fn a_try_that_nobody_answered_may_have_been_taken_or_not() {
    for taken in [false, true] {
        let story = Story::default().handed("m", "").handed("m", "").refused("m");
        let story =
            if taken { story.started(1, 0, &["m"]).shown("a", "answer m 1.0") } else { story };
        let verdict = story.verdict();
        assert_eq!((verdict.violations.as_slice(), verdict.accepted), (&[][..], 0));
    }
}

#[test]
fn each_broken_promise_is_told() {
    let doubled = |saying| vec![Violation::Doubled { message: m(), saying, times: 2 }];
    let cases: Vec<(&str, Story, Vec<Violation>)> = vec![
        (
            "accepted, and nothing came of it",
            Story::default().sent("m", "plain"),
            vec![Violation::Lost { message: m() }],
        ),
        (
            "the note is missing",
            Story::default().sent("m", "note").shown("a", "answer m 1.0"),
            vec![Violation::NoteLost { message: m() }],
        ),
        (
            "two rows answer it",
            Story::default().good().shown("b", "answer m 20.0"),
            doubled(Saying::Answer),
        ),
        (
            "two rows note it",
            Story::default()
                .sent("m", "note")
                .shown("a", "note m 1.0")
                .shown("b", "note m 2.0")
                .shown("c", "answer m 2.1"),
            doubled(Saying::Note),
        ),
        (
            "sent twice to a channel without keys",
            Story::default()
                .sent("m", "plain")
                .called("a", "answer m 10.0")
                .called("a", "answer m 10.0"),
            doubled(Saying::Answer),
        ),
        (
            "not accepted, but answered twice",
            Story::default().handed("m", "").shown("a", "answer m 1.0").shown("b", "answer m 2.0"),
            doubled(Saying::Answer),
        ),
        (
            "refused and answered",
            Story::default().handed("m", "").refused("m").shown("a", "answer m 1.0"),
            vec![Violation::RefusedButTaken { message: m() }],
        ),
        (
            "refused and begun",
            Story::default().handed("m", "").refused("m").started(1, 0, &["m"]),
            vec![Violation::RefusedButTaken { message: m() }],
        ),
        (
            "answered and shown as failed",
            Story::default().good().ends(|end| &mut end.failed, "m"),
            vec![Violation::AnsweredBut { message: m(), shown: "failed" }],
        ),
        (
            "answered and still waiting",
            Story::default().good().ends(|end| &mut end.pending, "m"),
            vec![Violation::AnsweredBut { message: m(), shown: "pending" }],
        ),
        (
            "one attempt begun twice",
            Story::default().good().started(20, 0, &["m"]),
            vec![Violation::StartedTwice { message: m(), attempt: 0 }],
        ),
        (
            "a letter overtakes an earlier one",
            Story::default().good().sent("n", "").shown("b", "answer n 9.0"),
            vec![Violation::OutOfOrder {
                place: "ada".to_owned(),
                early: "answer m 10.0".to_owned(),
                late: "answer n 9.0".to_owned(),
            }],
        ),
        (
            "one key, two letters",
            Story::default().good().shown("a", "answer m 10.1"),
            vec![Violation::KeyReused { key: "i:s:a".to_owned() }],
        ),
        (
            "the letter names another message",
            Story::default().sent("m", "").letter("a", "ada", true, "answer m 1.0", &["n"]),
            vec![Violation::Misattributed { message: m() }],
        ),
        (
            "an answer to nobody",
            Story::default().shown("a", "answer m 1.0"),
            vec![Violation::Invented { message: m() }],
        ),
    ];
    for (case, story, expected) in cases {
        let verdict = story.verdict();
        assert_eq!(verdict.violations, expected, "{case}");
        assert!(!verdict.violations[0].to_string().is_empty(), "{case}");
    }
    let lost = Story::default().sent("m", "").verdict();
    assert_eq!((lost.lost(), lost.doubled()), (1, 0));
    let twice = Story::default().good().shown("b", "answer m 20.0").verdict();
    assert_eq!((twice.lost(), twice.doubled()), (0, 1));
}

#[test]
fn what_was_put_off_is_done_once() {
    let asked = || {
        Story::default().sent("m", "later please").started(1, 0, &["m"]).shown("r", "answer m 1.1")
    };
    let done = |story: Story, task: &str, turn: u64| {
        let said = format!("answer {task} {turn}.1");
        story.task_started(turn, task, "m").letter(task, "ada", true, &said, &[])
    };
    let verdict = done(asked(), "task-1@0.0", 2).verdict();
    assert_eq!((verdict.accepted, verdict.answered, verdict.violations), (2, 2, vec![]));
    let m = || "m".to_owned();
    let twice = done(done(asked(), "task-1@0.0", 2), "task-2@0.0", 3);
    let never_asked = done(Story::default().sent("m", "now please"), "task-1@0.0", 2);
    let quoted = asked().task_started(2, "task-1@0.0", "m").shown("q", "answer task-1@0.0 2.1");
    for (story, expected) in [
        (quoted, Violation::Misattributed { message: "task-1@0.0".to_owned() }),
        (asked(), Violation::TaskLost { message: m() }),
        (twice, Violation::TaskTwice { message: m() }),
        (never_asked, Violation::Invented { message: "task-1@0.0".to_owned() }),
    ] {
        let found = story.verdict().violations;
        assert!(found.contains(&expected), "{expected} is not in {found:?}");
    }
}
