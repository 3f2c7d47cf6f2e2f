//! How a turn ends whose answers are cut, refused, or meant to be none.

use super::*;

#[test]
fn an_answer_that_was_cut_is_gone_on_with_and_said_as_one() {
    let cut = |text| answer(vec![block(text)], Stop::Length);
    let mut stage_1 = stage(vec![cut("one, "), cut("two, "), says("three")]);
    stage_1.play("count").unwrap();
    assert_eq!(stage_1.said().last().unwrap(), "reply one, two, three");
    let mut endless = stage(vec![cut("1"), cut("2"), cut("3"), cut("4")]);
    endless.play("count").unwrap();
    assert_eq!(endless.said().last().unwrap(), &format!("reply 1234\n\n{CUT}"));
}

#[test]
fn a_piece_beside_a_call_belongs_to_the_answer_that_was_cut() {
    let cut = answer(vec![block("A")], Stop::Length);
    let with_call = answer(vec![block("B"), wants("glob", json!({"pattern": "*.x"}))], Stop::Tools);
    let mut stage_1 = stage(vec![cut, with_call, says("C")]);
    stage_1.play("a").unwrap();
    assert_eq!(stage_1.said().last().unwrap(), "reply ABC");
    let mut thoughtful =
        stage(vec![answer(vec![block("A")], Stop::Length), answer(Vec::new(), Stop::Length)]);
    thoughtful.play("a").unwrap();
    assert_eq!(thoughtful.said().last().unwrap(), &format!("reply A\n\n{CUT}"));
}

#[test]
fn nothing_is_done_that_stands_in_an_answer_that_was_refused() {
    let input = json!({"path": "a", "content": "x"});
    let refused = answer(vec![block("so"), wants("write_file", input)], Stop::Refused);
    let mut stage_1 = stage(vec![refused, answer(vec![block("half")], Stop::Refused)]);
    stage_1.play("write").unwrap();
    assert_eq!(stage_1.last_of(1), [NOT_ALLOWED]);
    assert!(!stage_1.dir.path().join("a").exists());
    assert_eq!(stage_1.said().last().unwrap(), &format!("reply half\n\n{REFUSED}"));
}

#[test]
fn whoever_means_to_say_nothing_says_nothing() {
    let nothing = || answer(vec![block("hm"), wants("say_nothing", json!({}))], Stop::Tools);
    let mut stage_1 = stage(vec![nothing()]);
    assert!(stage_1.play("look whether it is there").unwrap().silent);
    assert!(!stage_1.said().iter().any(|said| said.starts_with("reply")));
    let more = |reins: &Reins| reins.push(Push::FollowUp(vec![message("m2", "and?")]));
    let mut asked = stage(vec![meanwhile(nothing(), more), says("yes")]);
    assert!(!asked.play("look").unwrap().silent);
    assert_eq!(asked.said().last().unwrap(), "reply yes");
}

#[test]
fn a_call_that_was_cut_is_not_run() {
    let cut = || {
        let input = Input::Unreadable("{\"path\": \"a\", \"con".to_owned());
        let call = ToolCall { id: "c".to_owned(), name: "write_file".to_owned(), input };
        answer(vec![Block::Call(call)], Stop::Length)
    };
    let mut stage_1 = stage(vec![cut(), says("so be it")]);
    stage_1.play("write").unwrap();
    assert_eq!(stage_1.last_of(1), [NOT_RUN]);
    let mut endless = stage(vec![cut(), cut(), cut(), cut()]);
    assert!(!endless.play("write").unwrap_err().retryable);
}

#[test]
fn a_remark_of_the_host_takes_no_answer_back_that_was_said() {
    let noted = |reins: &Reins| reins.push(Push::Notice("it is late".to_owned()));
    let mut stage_1 = stage(vec![meanwhile(says("the answer"), noted), says("and again?")]);
    stage_1.play("ask").unwrap();
    assert_eq!(stage_1.said().last().unwrap(), "reply the answer");
    assert_eq!(stage_1.asks.asked.len(), 1, "the turn has ended");
    stage_1.play("and").unwrap();
    let told = format!("{:?}", stage_1.asked(1));
    assert!(told.contains("[from the host] it is late"), "{told}");
    // Where nothing is said yet, the model hears of it first.
    let mut silent = stage(vec![meanwhile(answer(Vec::new(), Stop::End), noted), says("so")]);
    silent.play("ask").unwrap();
    assert_eq!(silent.last_of(1), ["[from the host] it is late"]);
    assert_eq!(silent.said().last().unwrap(), "reply so");
}
