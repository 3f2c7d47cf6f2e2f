//! What Claude Code had its tools do in a turn that was never committed.

use serde_json::json;

use crate::claude::Talk;
use crate::gateway::Answer;

fn plan() -> Answer {
    let task = json!({"prompt": "look", "recurrence": "hourly 00"});
    Answer::Wants(vec![("mcp__twobox__schedule_task", task)])
}

#[test]
fn an_answer_that_speaks_of_what_was_undone_is_none() {
    let answers = vec![plan(), Answer::Says("planned"), plan(), Answer::Says("planned again")];
    let Some(talk) = Talk::new(answers) else { return };
    talk.session.say("m1", "plan it");
    let mut runner = talk.start_with(&[("TWOBOX_CRASH_AT", "runner.turn.done")]);
    runner.end();
    assert_eq!(talk.requests(), 2);
    talk.session.charge("m1", 0);
    let runner = talk.start();
    talk.answered("m1");
    let texts = talk.session.texts();
    assert!(texts.len() == 2 && texts[0].contains("schedule_task"), "{texts:?}");
    assert_eq!(texts[1], "planned again", "what the first attempt wanted went with it");
    runner.stop();
}

#[test]
fn an_answer_after_something_that_was_sent_at_once_counts() {
    let send = json!({"to": "elsewhere", "text": "now"});
    let send = Answer::Wants(vec![("mcp__twobox__send_message", send)]);
    let Some(talk) = Talk::new(vec![send, Answer::Says("sent")]) else { return };
    talk.session.destination("elsewhere");
    talk.session.say("m1", "send it");
    let mut runner = talk.start_with(&[("TWOBOX_CRASH_AT", "runner.turn.done")]);
    runner.end();
    talk.session.charge("m1", 0);
    let runner = talk.start();
    talk.answered("m1");
    assert_eq!(talk.session.texts(), ["now", "sent"]);
    assert_eq!(talk.requests(), 2);
    runner.stop();
}
