//! What is heard, whatever a homeserver and those who write there do.

use super::*;

const ROOM: &str = "!r:x";

/// An event with so many levels that it is not read.
fn nested() -> Value {
    json!("NESTED")
}

/// `said` with each [`nested`] written out, which no `Value` can hold.
fn deep(said: Option<Said>) -> Option<Said> {
    let Some(Said::Json(text)) = said else { return said };
    let event = format!(
        "{{\"type\":\"m.room.message\",\"event_id\":\"$deep\",\"sender\":\"@eve:x\",\"content\":{}1{}}}",
        "{\"a\":[".repeat(70),
        "]}".repeat(70)
    );
    Some(Said::Json(text.replace("\"NESTED\"", &event)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_read_keeps_no_other_from_being_heard() {
    let half = json!({ "content": "HALF" });
    let place = Place::new(move |asked| {
        let [one, two, three, four] = ["one", "two", "three", "four"].map(said);
        if asked.is_look("s1_0") {
            let events = [one, nested(), half.clone(), two];
            let Some(Said::Json(text)) = deep(news("s2_0", json!({ ROOM: timeline(&events) })))
            else {
                panic!("it is one")
            };
            return Some(Said::Json(text.replace("HALF", "\\ud800")));
        }
        if asked.is_look("s2_0") {
            return news("s3_0", json!({ ROOM: gap() }));
        }
        asked.page_of(ROOM).and_then(|_| deep(page(&[three, nested(), four], None)))
    });
    let _alive = place.live();
    place.wait_heard(&["one", "two", "three", "four"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_of_which_a_page_fails_waits_alone_and_goes_on_where_it_was() {
    let mut failures = 1;
    let place = Place::new(move |asked| {
        let [one, two, late, other] = ["one", "two", "late", "other"].map(said);
        if asked.is_look("s1_0") {
            return news("s2_0", json!({ ROOM: gap() }));
        }
        if asked.is_look("s2_0") {
            return news(
                "s3_0",
                json!({ ROOM: timeline(&[late]), "!other:x": timeline(&[other]) }),
            );
        }
        match asked.page_of(ROOM)? {
            "s1_0" => page(&[one], Some("p2")),
            "p2" if failures > 0 => {
                failures -= 1;
                Some(Said::No(502, json!("a proxy")))
            }
            // Nothing of it is asked for, and it is not the last.
            "p2" => page(&[], Some("p3")),
            "p3" => page(&[two], Some("p4")),
            "p4" => page(&[], None),
            // What came meanwhile from elsewhere stands before what was read.
            "s2_0" => page(&[late], None),
            other => panic!("{other}"),
        }
    });
    let alive = place.live();
    place.wait_heard(&["one", "other", "two", "late"]).await;
    assert_eq!(place.homeserver.pages(ROOM), ["s1_0", "p2", "p2", "p3", "p4", "s2_0"]);
    wait(|| place.kept().behind.is_empty(), || format!("{:?}", place.kept())).await;
    let entered = place.homeserver.asked().iter().filter(|it| it.path.ends_with("whoami")).count();
    assert_eq!((entered, alive.instance.health().life.is_up()), (1, true), "it was never down");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_becomes_encrypted_while_it_is_behind_is_sent_nothing() {
    let place = Place::new(|asked| {
        if asked.is_look("s1_0") {
            return news("s2_0", json!({ ROOM: gap() }));
        }
        if asked.is_look("s2_0") {
            let event = json!({ "type": "m.room.encryption", "sender": "@a:x", "state_key": "" });
            return news("s3_0", json!({ ROOM: timeline(&[event]) }));
        }
        asked.page_of(ROOM).map(|_| Said::No(502, json!("a proxy")))
    });
    let alive = place.live();
    place.wait_asked(|it| it.path.contains("/send/") && it.body.contains("encrypted")).await;
    let outcome = send(&alive.channel, outbound("k")).await;
    assert!(matches!(outcome, Outcome::Permanent { .. }), "{outcome:?}");
    assert!(!place.homeserver.asked().iter().any(|it| it.body.contains("hello")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_homeserver_that_has_forgotten_is_read_from_what_was_heard_last() {
    let no = || Some(Said::No(400, json!({ "errcode": "M_INVALID_PARAM" })));
    let older = || news("s2_0", json!({}));
    for (case, answer) in [("no", &no as &(dyn Fn() -> Option<Said> + Sync)), ("older", &older)] {
        let forgotten = answer();
        let mut forgotten = Some(forgotten);
        let place = Place::new(move |asked| {
            if asked.is_look("s9_0") {
                return forgotten.take().expect("it is asked once");
            }
            if asked.path.contains("/context/$last") {
                let after = json!({ "events_after": [said("one")], "end": "p1" });
                return Some(Said::Json(after.to_string()));
            }
            let events = [said("two")];
            asked
                .page_of(ROOM)
                .and_then(|from| page(if from == "p1" { &events } else { &[] }, None))
        });
        let mut kept = Kept { whose: "@bot:x".to_owned(), ..Kept::default() };
        kept.since = Some("s9_0".to_owned());
        kept.hear(ROOM, "$last");
        kept.write(&place.folder()).unwrap();
        let _alive = place.live();
        place.wait_heard(&["one", "two"]).await;
        wait(|| place.kept().behind.is_empty(), || format!("{case}: {:?}", place.kept())).await;
        assert_eq!(place.kept().since.as_deref(), Some("s1_0"), "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_somebody_listened_is_not_heard_when_it_is_read_again() {
    let place = Place::new(|asked| {
        let [early, now] = ["early", "now"].map(said);
        if asked.is_look("s1_0") {
            return news("s2_0", json!({ ROOM: gap() }));
        }
        if asked.is_look("s2_0") {
            return news("s3_0", json!({ ROOM: timeline(&[early, now]) }));
        }
        asked.page_of(ROOM).and_then(|_| page(&[early], None))
    });
    lock(&place.ear.unwired).push("early".to_owned());
    let _alive = place.live();
    place.wait_heard(&["now"]).await;
}
