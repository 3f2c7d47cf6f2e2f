//! What an agent asks, as buttons.

use serde_json::{Value, json};
use twobox_tests::telegram::Order;
use twobox_tests::wait_for;

use super::{ME, Place};
use crate::approvals::{asks, decisions, tea, tool};

/// The message by which it is asked in a chat, once it is there.
#[track_caller]
fn question(place: &Place, chat: i64) -> Value {
    wait_for("buttons", || {
        let has = |it: &Value| it["chat"]["id"] == chat && it.get("reply_markup").is_some();
        place.telegram.shown().into_iter().find(has)
    })
}

fn click(place: &Place, asked: &Value, from: i64, button: usize) {
    let (chat, message) =
        (asked["chat"]["id"].as_i64().unwrap(), asked["message_id"].as_i64().unwrap());
    place.telegram.order(Order::Click { chat, message, from, button });
}

/// Waits until the buttons of a question are gone.
#[track_caller]
fn wait_decided(place: &Place, asked: &Value) {
    wait_for("the buttons to be gone", || {
        let is =
            |it: &Value| it["message_id"] == asked["message_id"] && it["chat"] == asked["chat"];
        place.telegram.shown().into_iter().find(is)?.get("reply_markup").is_none().then_some(())
    });
}

#[test]
fn a_button_answers_once_whoever_presses_it_again() {
    let place = Place::up(asks(&tea()));
    place.telegram.say(ME, "ask");
    let asked = question(&place, ME);
    let rows = &asked["reply_markup"]["inline_keyboard"];
    assert_eq!((&rows[0][0]["text"], &rows[1][0]["text"]), (&json!("green"), &json!("black")));
    click(&place, &asked, ME, 1);
    click(&place, &asked, ME, 0);
    wait_for("whoever asked to hear of it", || {
        let heard = |text: &String| text.starts_with("heard: A person") && text.ends_with("black");
        place.telegram.texts(ME).into_iter().find(heard)
    });
    wait_decided(&place, &asked);
    let session = place.world.session("ada");
    session.wait_settled();
    let told = decisions(&session);
    assert_eq!(told.len(), 1, "it counts once: {told:?}");
    assert_eq!(
        told[0]["decision"],
        json!({ "status": "answered", "choice": 2, "chosen": "black" })
    );
    let answered = place.telegram.calls("answerCallbackQuery");
    assert!(answered.len() >= 2, "each that was pressed is answered: {answered:?}");
}

#[test]
fn a_button_that_somebody_may_not_press_stays_for_those_who_may() {
    let place = Place::up(asks(&tool()));
    place.world.twobox(&["people", "grant", "owner", "telegram:7"]);
    place.telegram.say(ME, "ask");
    let asked = question(&place, ME);
    click(&place, &asked, ME, 0);
    wait_for("whoever pressed it to be told", || {
        place.telegram.texts(ME).into_iter().find(|text| text.contains("owner"))
    });
    wait_for("the press to be answered", || {
        (!place.telegram.calls("answerCallbackQuery").is_empty()).then_some(())
    });
    assert_eq!(question(&place, ME)["message_id"], asked["message_id"], "its buttons are there");
    place.world.twobox(&["people", "grant", "owner", &format!("telegram:{ME}")]);
    click(&place, &asked, ME, 0);
    wait_decided(&place, &asked);
    let session = place.world.session("ada");
    wait_for("the decision", || (decisions(&session).len() == 1).then_some(()));
    assert_eq!(decisions(&session)[0]["decision"]["status"], "approved");
}

#[test]
fn a_button_that_is_pressed_while_the_host_is_down_counts_when_it_is_back() {
    let place = Place::up(asks(&tea()));
    place.telegram.say(ME, "ask");
    let asked = question(&place, ME);
    place.world.session("ada").wait_settled();
    place.world.kill_host();
    click(&place, &asked, ME, 0);
    place.world.up();
    wait_decided(&place, &asked);
    let session = place.world.session("ada");
    wait_for("the decision", || (decisions(&session).len() == 1).then_some(()));
}

#[test]
fn an_answer_in_words_takes_the_buttons_away() {
    let place = Place::up(asks(&tea()));
    place.telegram.say(ME, "ask");
    let asked = question(&place, ME);
    let code = &asked["text"].as_str().unwrap()[1..5];
    place.telegram.say(ME, &format!("{code} 2"));
    wait_decided(&place, &asked);
}
