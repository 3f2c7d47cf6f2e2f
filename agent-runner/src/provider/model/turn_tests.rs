//! The loop, with somebody in the models' place who answers from a list.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde_json::{Value, json};
use twobox_shared::agent_config::{Api, ModelName, Permission, Route};
use twobox_shared::content::RUN_IS_OVER_BUDGET;
use twobox_shared::ids::SystemIds;

#[path = "turn/fitting_tests.rs"]
mod fitting;

use super::*;
use crate::event::Event;
use crate::provider::model::Foreign;
use crate::provider::model::conversation::{Input, Request, Usage};
use crate::provider::model::kept::Kept;
use crate::provider::model::transcript::Continuation;
use crate::provider::{PromptMessage, Push, Reins};

#[path = "turn_end_tests.rs"]
mod ends;

/// Something that happens in the main thread.
type Meanwhile = Box<dyn FnOnce(&Reins)>;

/// One answer, and what happens while it is waited for.
struct Turnout {
    answer: Result<Answer, Trouble>,
    meanwhile: Option<Meanwhile>,
}

/// Answers from a list, and keeps what it was asked.
struct Listed {
    route: Route,
    answers: VecDeque<Turnout>,
    asked: Vec<Vec<Item>>,
    reins: Reins,
}

impl Asks for Listed {
    fn ask(
        &mut self,
        request: &Request<'_>,
        handle: &TurnHandle,
        _: Instant,
        aside: &mut Aside,
    ) -> Result<Answer, Trouble> {
        self.asked.push(request.items.to_vec());
        let Turnout { answer, meanwhile } =
            self.answers.pop_front().expect("an answer for each request");
        if let Some(meanwhile) = meanwhile {
            meanwhile(&self.reins);
        }
        gather(handle, aside).map_err(|Cancelled| Trouble::Cancelled)?;
        answer
    }

    fn route(&self) -> &Route {
        &self.route
    }
}

/// A conversation of which each turn is played.
struct Stage {
    dir: tempfile::TempDir,
    asks: Listed,
    handle: TurnHandle,
    events: mpsc::Receiver<Event>,
    transcript: Transcript,
    permissions: BTreeMap<String, Permission>,
    max_turns: u32,
}

fn stage(answers: Vec<Turnout>) -> Stage {
    let dir = tempfile::tempdir().unwrap();
    let (handle, reins, events) = TurnHandle::apart();
    let route = Route {
        name: ModelName::try_from("x/y".to_owned()).unwrap(),
        api: Api::Messages,
        path: "/x/v1/messages".to_owned(),
        context_tokens: 100_000,
        max_output_tokens: 1_000,
        images: true,
    };
    let folder = Kept::of(dir.path()).folder("").unwrap();
    let transcript = Transcript::begin(&folder, &SystemIds).unwrap();
    let asks = Listed { route, answers: answers.into(), asked: Vec::new(), reins };
    let permissions = BTreeMap::new();
    Stage { dir, asks, handle, events, transcript, permissions, max_turns: 50 }
}

fn message(id: &str, text: &str) -> PromptMessage {
    PromptMessage {
        id: MessageId::parse(id).unwrap(),
        seq: 2,
        kind: "chat".to_owned(),
        timestamp: "2026-11-30T10:00:00.000Z".to_owned(),
        trigger: true,
        channel: None,
        chat: None,
        thread: None,
        sender: None,
        about: None,
        text: text.to_owned(),
        files: Vec::new(),
    }
}

impl Stage {
    fn play(&mut self, text: &str) -> Result<Done, Failure> {
        let prompt = Prompt {
            attempt: 0,
            messages: vec![message("m1", text)],
            already_sent: Vec::new(),
            continuation: None,
            destinations: Vec::new(),
            max_turns: self.max_turns,
        };
        let kept = Kept::of(self.dir.path());
        let bench = Bench {
            work: self.dir.path().to_owned(),
            program: PathBuf::from("/"),
            agent: None,
            halves: [PathBuf::from("/none/in"), PathBuf::from("/none/out")],
            key: String::new(),
            temp: None,
            way_out: None,
            fetches: None,
            shell: None,
            most: Duration::from_secs(20),
            kept: kept.clone(),
            skills: Vec::new(),
            destinations: Vec::new(),
            foreign: Foreign::default(),
            shows_pictures: true,
            cancelled: AtomicBool::new(false),
            group: Arc::clone(&self.handle.group),
        };
        let talk = Talk {
            asks: &mut self.asks,
            handle: &self.handle,
            prompt: &prompt,
            files: Files {
                inbox: self.dir.path(),
                kept: &kept,
                room: 400_000,
                shown: Cell::default(),
            },
            toolbox: &Toolbox::of(&bench, &self.permissions).unwrap(),
            bench: &bench,
            system: "system",
            transcript: &mut self.transcript,
            deadline: Instant::now() + Duration::from_secs(60),
            max_output_tokens: 1_000,
            aside: Aside::default(),
        };
        talk.run(&[])
    }

    /// What was said by now, in short.
    fn said(&self) -> Vec<String> {
        let shown = |event: &Event| !matches!(event, Event::Said(Said::Asks { .. }));
        let short = |event| match event {
            Event::Said(Said::Reply { text, .. }) => format!("reply {text}"),
            Event::Said(Said::Turns(count)) => format!("turns {count}"),
            Event::Said(Said::ToolStarted { name, .. }) => format!("begin {name}"),
            Event::Said(Said::ToolFinished) => "end".to_owned(),
            Event::Said(Said::Used(ids)) => format!("used {}", ids[0]),
            _ => "something else".to_owned(),
        };
        self.events.try_iter().filter(shown).map(short).collect()
    }

    /// The texts of the last item that was sent in request `number`.
    fn last_of(&self, number: usize) -> Vec<String> {
        let texts = |parts: &[Part]| {
            let text = |part: &Part| match part {
                Part::Text { text } => text.clone(),
                Part::Media { name, .. } => name.clone(),
            };
            parts.iter().map(text).collect::<Vec<_>>()
        };
        match self.asked(number).last() {
            Some(Item::User { parts }) => texts(parts),
            Some(Item::Results { results }) => {
                results.iter().flat_map(|result| texts(&result.parts)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn asked(&self, number: usize) -> &[Item] {
        &self.asks.asked[number]
    }
}

fn answer(blocks: Vec<Block>, stop: Stop) -> Turnout {
    let usage = Usage { input: 10, cache_read: 0, cache_write: 0, output: 5 };
    Turnout { answer: Ok(Answer { blocks, stop, usage }), meanwhile: None }
}

fn says(text: &str) -> Turnout {
    answer(vec![block(text)], Stop::End)
}

fn block(text: &str) -> Block {
    Block::Text { text: text.to_owned() }
}

fn wants(name: &str, input: Value) -> Block {
    let Value::Object(fields) = input else { panic!("{input}") };
    let input = Input::Fields(fields);
    Block::Call(ToolCall { id: "c".to_owned(), name: name.to_owned(), input })
}

fn looks() -> Turnout {
    answer(vec![block("let me see"), wants("glob", json!({"pattern": "*.x"}))], Stop::Tools)
}

fn meanwhile(turnout: Turnout, what: impl FnOnce(&Reins) + 'static) -> Turnout {
    Turnout { meanwhile: Some(Box::new(what)), ..turnout }
}

fn trouble(trouble: Trouble) -> Turnout {
    Turnout { answer: Err(trouble), meanwhile: None }
}

#[test]
fn tools_are_used_until_the_model_has_said_what_there_is_to_say() {
    let mut stage = stage(vec![looks(), says("there is nothing")]);
    let done = stage.play("look").unwrap();
    let expected = ["turns 1", "begin glob", "end", "turns 1", "reply there is nothing"];
    assert_eq!(stage.said(), expected);
    assert_eq!(stage.last_of(1), ["(Nothing was found.)"]);
    let continuation = Continuation::parse(&done.continuation.unwrap()).unwrap();
    assert!(stage.transcript.is_at(continuation));
    assert_eq!(stage.transcript.items().len(), 4);
}

#[test]
fn what_the_next_turn_sends_begins_with_all_that_this_one_sent() {
    let mut stage = stage(vec![looks(), says("one"), says("two")]);
    stage.play("a").unwrap();
    stage.play("b").unwrap();
    for pair in stage.asks.asked.windows(2) {
        assert!(pair[1].starts_with(&pair[0]), "{pair:?}");
    }
}

#[test]
fn what_comes_meanwhile_stands_beside_results_and_keeps_no_answer_back() {
    let more = |id: &'static str| {
        move |reins: &Reins| reins.push(Push::FollowUp(vec![message(id, "more")]))
    };
    let answers = vec![meanwhile(looks(), more("m2")), meanwhile(says("one"), more("m3"))];
    let mut stage = stage(answers);
    stage.play("a").unwrap();
    let said = stage.said();
    let expected = ["turns 1", "begin glob", "end", "used m2", "turns 1", "reply one"];
    assert_eq!(said, expected, "m3 has a turn of its own");
    assert!(stage.last_of(1)[0].ends_with("]\nmore"), "{:?}", stage.last_of(1));
}

#[test]
fn a_message_that_begins_a_new_conversation_is_left_for_a_turn_of_its_own() {
    let both = |reins: &Reins| {
        reins.push(Push::FollowUp(vec![message("m2", "/new"), message("m3", "more")]));
    };
    let mut stage = stage(vec![meanwhile(looks(), both), says("one")]);
    stage.play("a").unwrap();
    assert!(!stage.said().iter().any(|said| said.starts_with("used")));
}

#[test]
fn a_cancelled_turn_ends_at_once_and_is_not_committed() {
    let mut stage = stage(vec![meanwhile(looks(), Reins::cancel)]);
    let failure = stage.play("a").unwrap_err();
    assert_eq!(failure.reason, Failure::RELEASED);
    assert_eq!(stage.said(), ["turns 1"]);
}

#[test]
fn nothing_is_asked_for_once_more_and_then_told() {
    let nothing = || answer(vec![block(" \n")], Stop::End);
    let mut patient = stage(vec![nothing(), says("well")]);
    patient.play("a").unwrap();
    assert_eq!(patient.last_of(1), [NOTHING]);
    let mut hopeless = stage(vec![nothing(), nothing()]);
    let failure = hopeless.play("a").unwrap_err();
    assert!(failure.retryable && failure.detail.contains("answered nothing"), "{failure:?}");
}

#[test]
fn whoever_goes_round_in_circles_is_told_and_then_stopped() {
    let mut stage = stage((0..6).map(|_| looks()).collect());
    let failure = stage.play("a").unwrap_err();
    assert!(!failure.retryable && failure.detail.contains("circles: glob"), "{failure:?}");
    assert_eq!(stage.last_of(5), [CIRCLES]);
}

#[test]
fn no_more_model_turns_are_taken_than_allowed() {
    let mut stage = stage(vec![looks(), looks()]);
    stage.max_turns = 2;
    let failure = stage.play("a").unwrap_err();
    assert_eq!(failure.reason, Failure::TURN_LIMIT);
    assert_eq!(stage.asks.asked.len(), 2);
}

#[test]
fn troubles_are_told_as_what_they_are() {
    let why = || "why".to_owned();
    let cases = [
        (Trouble::OverBudget(why()), Failure::BUDGET_EXCEEDED, false),
        (Trouble::Unreachable(why()), Failure::PROVIDER_ERROR, true),
        (Trouble::Refused(why()), Failure::PROVIDER_ERROR, false),
    ];
    for (what, reason, retryable) in cases {
        let failure = stage(vec![trouble(what.clone())]).play("a").unwrap_err();
        let told = (failure.reason.as_str(), failure.detail.as_str(), failure.retryable);
        assert_eq!(told, (reason, "why", retryable), "{what:?}");
    }
    let over =
        Trouble::OverBudget(format!("Twobox: {RUN_IS_OVER_BUDGET}: a message may cost 1 USD"));
    let failure = stage(vec![trouble(over)]).play("a").unwrap_err();
    assert_eq!(failure.reason, Failure::RUN_BUDGET_EXCEEDED, "which no other day changes");
    let refused = stage(vec![answer(Vec::new(), Stop::Refused)]).play("a").unwrap_err();
    assert!(!refused.retryable && refused.detail.contains("refuses"), "{refused:?}");
}

#[test]
fn a_transcript_that_cannot_be_written_is_told_as_that() {
    let mut stage = stage(vec![says("one")]);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    stage.transcript.replace_file(full);
    let failure = stage.play("a").unwrap_err();
    assert!(failure.retryable && failure.detail.contains("could not be written"), "{failure:?}");
}
