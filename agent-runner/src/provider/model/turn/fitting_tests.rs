//! The same, where the conversation does not fit its model.

use super::*;
use crate::provider::model::compaction;

#[test]
fn a_conversation_that_is_full_is_summed_up_before_it_is_too_long() {
    let long = "x".repeat(250_000);
    let mut stage = stage(vec![says("noted"), says("the summary"), says("yes")]);
    stage.play(&long).unwrap();
    // A third of the bytes is more than four fifths of the model's context.
    stage.transcript.add(Item::User { parts: vec![Part::text(long)] }).unwrap();
    let done = stage.play("and?").unwrap();
    assert_eq!(stage.last_of(1), [compaction::ASKED]);
    let Item::User { parts } = &stage.asked(2)[0] else { panic!("{:?}", stage.asked(2)) };
    assert!(matches!(&parts[..], [Part::Text { text }] if text.ends_with("the summary")));
    assert!(stage.last_of(2)[0].ends_with("and?"), "{:?}", stage.last_of(2));
    let folder = Kept::of(stage.dir.path()).folder("").unwrap();
    let continuation = Continuation::parse(&done.continuation.unwrap()).unwrap();
    let again = Transcript::resume(&folder, continuation).unwrap();
    assert_eq!(again.items(), stage.transcript.items(), "it is recorded");
}

#[test]
fn a_request_that_is_too_long_is_shortened_once() {
    let too_long = || trouble(Trouble::TooLong("200000 > 100000".to_owned()));
    let mut shortened =
        stage(vec![says("one"), too_long(), too_long(), says("the summary"), says("two")]);
    shortened.play("a").unwrap();
    shortened.asks.route.context_tokens = 100; // so that little stays
    shortened.play("b").unwrap();
    assert_eq!(shortened.said().last().unwrap(), "reply two");
    let mut hopeless = stage(vec![too_long()]);
    let failure = hopeless.play("a").unwrap_err();
    assert!(!failure.retryable && failure.detail.contains("/new"), "{failure:?}");
}

/// A picture that is kept with `stage`.
fn picture(stage: &Stage) -> Item {
    let path = stage.dir.path().join("a.png");
    fs::write(&path, b"\x89PNG\r\n\x1a\nrest").unwrap();
    let part = Kept::of(stage.dir.path()).show(&path, "a.png").unwrap();
    Item::User { parts: vec![part] }
}

fn shows(items: &[Item]) -> bool {
    crate::provider::model::kept::shows(items)
}

#[test]
fn a_picture_that_a_model_does_not_take_ends_no_turn() {
    let unfit = || trouble(Trouble::Unfit("status 400: no picture".to_owned()));
    let mut stage_1 = stage(vec![unfit(), looks(), says("seen"), says("again")]);
    let shown = picture(&stage_1);
    stage_1.transcript.add(shown).unwrap();
    stage_1.play("a").unwrap();
    stage_1.play("b").unwrap();
    let asked: Vec<_> = stage_1.asks.asked.iter().map(|items| shows(items)).collect();
    assert_eq!(asked, [true, false, false, true], "for the rest of that turn");
    let failure = stage(vec![unfit()]).play("a").unwrap_err();
    assert!(!failure.retryable && failure.detail.contains("/new"), "{failure:?}");
}

#[test]
fn pictures_are_left_out_before_anything_is_summed_up() {
    let too_long = trouble(Trouble::TooLong("status 413".to_owned()));
    let mut stage = stage(vec![too_long, says("seen")]);
    let shown = picture(&stage);
    stage.transcript.add(shown).unwrap();
    stage.play("a").unwrap();
    assert!(shows(stage.asked(0)) && !shows(stage.asked(1)));
    assert_eq!(stage.asked(0).len(), stage.asked(1).len());
}

#[test]
fn the_longest_texts_are_cut_where_nothing_else_helps() {
    let too_long = || trouble(Trouble::TooLong("9 > 8".to_owned()));
    let mut stage = stage(vec![too_long(), too_long(), says("so much")]);
    stage.asks.route.context_tokens = 8_000;
    let done = stage.play(&"x".repeat(60_000)).unwrap();
    let length = |number: usize| stage.last_of(number).concat().len();
    assert!(length(0) > 60_000 && (8_000..8_300).contains(&length(1)), "{}", length(1));
    assert!((2_000..2_300).contains(&length(2)), "{}", length(2));
    let folder = Kept::of(stage.dir.path()).folder("").unwrap();
    let continuation = Continuation::parse(&done.continuation.unwrap()).unwrap();
    let again = Transcript::resume(&folder, continuation).unwrap();
    assert_eq!(again.items(), stage.transcript.items(), "it is recorded");
}

#[test]
fn the_results_of_one_answer_leave_room_for_others() {
    let reads = || wants("read_file", json!({"path": "long.txt"}));
    let answers = vec![answer((0..4).map(|_| reads()).collect(), Stop::Tools), says("read")];
    let mut stage = stage(answers);
    stage.asks.route.context_tokens = 32_768;
    fs::write(stage.dir.path().join("long.txt"), "line\n".repeat(6_000)).unwrap();
    stage.play("read").unwrap();
    let lengths: Vec<_> = stage.last_of(1).iter().map(String::len).collect();
    assert!(lengths.iter().all(|it| (8_000..8_400).contains(it)), "{lengths:?}");
}

#[test]
fn what_is_no_summary_is_asked_for_once_more_and_then_of_the_later_half() {
    let cut = || answer(vec![block("I beg")], Stop::Length);
    let answers = vec![says("noted"), looks(), cut(), says("the summary"), says("yes")];
    let mut stage = stage(answers);
    let long = "x".repeat(250_000);
    stage.play(&long).unwrap();
    stage.transcript.add(Item::User { parts: vec![Part::text(long)] }).unwrap();
    stage.play("and?").unwrap();
    assert_eq!(stage.last_of(1), [compaction::ASKED]);
    assert_eq!(stage.last_of(2), [compaction::ASKED, compaction::ASKED_AGAIN]);
    assert!(stage.asked(3).len() < stage.asked(2).len(), "the later half");
    let Item::User { parts } = &stage.asked(4)[0] else { panic!("{:?}", stage.asked(4)) };
    assert!(matches!(&parts[..], [Part::Text { text }] if text.ends_with("the summary")));
}
