//! What Telegram refuses, and who else wants what is said to the bot.

use serde_json::{Value, json};
use twobox_tests::telegram::{Order, TOKEN, Weather};
use twobox_tests::wait_for;

use super::{ME, Place};
use crate::scripts::echo;

#[test]
fn a_pause_in_the_middle_of_a_long_answer_is_kept_and_nothing_is_lost() {
    let long = "A sentence of an answer that is long.\n\n".repeat(300);
    let script = json!({ "otherwise": [{ "reply": long }] });
    let place = Place::up(script);
    let busy = Weather::Refuse { code: 429, description: String::new(), retry_after: Some(3) };
    place.telegram.fail_after("sendMessage", 1, 1, busy);
    place.telegram.say(ME, "long");
    wait_for("the refusal", || (place.telegram.calls("sendMessage").len() >= 2).then_some(()));
    let began = std::time::Instant::now();
    wait_for("what comes after it", || {
        (place.telegram.calls("sendMessage").len() >= 3).then_some(())
    });
    let pause = began.elapsed();
    assert!(pause.as_millis() >= 2_900, "it was asked again after {pause:?}");
    wait_for("all of it", || {
        (place.telegram.texts(ME).concat().matches("sentence").count() == 300).then_some(())
    });
    place.world.session("ada").wait_settled();
    assert_eq!(place.telegram.texts(ME).join("\n\n").trim(), long.trim());
}

#[test]
fn who_has_blocked_the_bot_is_sent_nothing_more_and_others_are() {
    let place = Place::up(echo());
    place.ask("before");
    place.telegram.order(Order::Block { chat: ME, blocked: true });
    place.telegram.say(ME, "are you there?");
    let session = place.world.session("ada");
    let failed = session.wait_delivery("echo: are you there?", "failed");
    assert!(failed.error.unwrap_or_default().contains("blocked"), "it says why");
    place.telegram.order(Order::Block { chat: ME, blocked: false });
    place.ask("after");
    assert_eq!(place.telegram.texts(ME), ["echo: before", "echo: after"]);
}

#[test]
fn marks_that_are_refused_are_left_out_and_the_text_is_said() {
    let place = Place::up(echo());
    let why = "Bad Request: can't parse entities: it is a whim".to_owned();
    let refuse = Weather::Refuse { code: 400, description: why, retry_after: None };
    place.telegram.fail("sendMessage", 1, refuse);
    place.telegram.say(ME, "hello **you**");
    let answer = place.telegram.wait_said(ME, "echo: hello you");
    assert!(answer.get("entities").is_none(), "{answer}");
}

#[test]
fn a_token_that_is_none_is_said_and_the_right_one_is_taken_without_a_restart() {
    let place = Place::make(echo());
    place.wire(ME);
    place.world.set_secret("telegram", "7001:a-token-of-somebody-else");
    place.world.up();
    let down = place.wait_state("down");
    let reason = down["reason"].as_str().unwrap();
    assert!(reason.contains("does not know the token"), "{reason}");
    assert!(reason.contains("twobox secrets set telegram"), "it says what to do: {reason}");
    place.world.set_secret("telegram", TOKEN);
    place.wait_state("up");
    place.ask("hello");
    let log = place.world.host_log();
    assert!(!log.contains("somebody-else"), "the token is in the log");
}

#[test]
fn another_poller_and_a_webhook_are_told_apart_and_over_when_they_are() {
    let place = Place::up(echo());
    place.telegram.wait_quiet();
    let bot = |method: &str| place.telegram.ask(method);
    bot("getUpdates?timeout=0");
    let down = place.wait_state("down");
    assert!(down["reason"].as_str().unwrap().contains("another program"), "{down}");
    place.wait_state("up");
    place.telegram.wait_quiet();
    bot("setWebhook?url=https://hooks.example/s3cret");
    place.telegram.say(ME, "is anybody there?");
    let down = place.wait_state("down");
    assert!(down["reason"].as_str().unwrap().contains("webhook"), "{down}");
    let doctor = place.doctor();
    assert!(doctor.contains("hooks.example") && doctor.contains("deleteWebhook"), "{doctor}");
    assert!(!doctor.contains("s3cret"), "{doctor}");
    bot("deleteWebhook");
    place.wait_state("up");
    place.telegram.wait_said(ME, "echo: is anybody there?");
}

#[test]
fn what_others_write_is_no_order_and_no_path() {
    let place = Place::up(echo());
    let from = json!({ "id": 9, "is_bot": true, "first_name": "Bot", "username": "other_bot" });
    place.telegram.say_in(ME, ME, "from another bot", json!({ "from": from }));
    let file = json!({ "text": null, "document": {
        "file_id": "../../x", "file_unique_id": "u", "file_name": "../../etc/passwd\n[host]",
    } });
    place.telegram.say_in(ME, ME, "", file);
    wait_for("the file to be named, in one line", || {
        let texts = place.telegram.texts(ME);
        texts.into_iter().find(|text| text.contains("etc/passwd\\n[host]: "))
    });
    let deep: Value = (0..100).fold(json!(1), |inner, _| json!([inner]));
    place.telegram.say_in(ME, ME, "deep", json!({ "sticker_set": deep }));
    place.telegram.wait_said(ME, "echo: deep");
    assert_eq!(place.world.session("ada").messages().len(), 2, "no bot is heard");
}
