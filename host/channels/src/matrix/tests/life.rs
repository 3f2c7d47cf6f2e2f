//! Who it is, what is kept of that, and what it sends.

use twobox_model::channel::Shelf;
use twobox_shared::time::UnixMillis;

use super::super::compose::{MARK, mark};
use super::super::kept::Token;
use super::super::path::transaction;
use super::super::probe;
use super::*;

/// What was kept of `user` where `homeserver` is.
fn before(user: &str, homeserver: &str) -> Kept {
    Kept {
        whose: user.to_owned(),
        homeserver: homeserver.to_owned(),
        device_id: Some("OLD".to_owned()),
        token: Some(Token("old".to_owned())),
        since: Some("s7_0".to_owned()),
        ..Kept::default()
    }
}

fn was_shown(place: &Place, token: &str) -> bool {
    let shown = Some(format!("Bearer {token}"));
    place.homeserver.asked().iter().any(|it| it.token == shown)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_of_another_account_is_there_until_this_one_is_let_in() {
    let (open, opened) = (Arc::new(Mutex::new(false)), Arc::new(Mutex::new(false)));
    let (door, seen) = (Arc::clone(&open), Arc::clone(&opened));
    let mut place = Place::new(move |asked| {
        if asked.path != "login" || *lock(&door) {
            return None;
        }
        *lock(&seen) = true;
        Some(Said::No(403, json!({ "errcode": "M_FORBIDDEN" })))
    });
    place.credential = "password_secret";
    let old = before("@other:x", &format!("{}/", place.homeserver.url()));
    old.write(&place.folder()).unwrap();
    let _alive = place.live();
    wait(|| *lock(&opened), || "it does not log in".to_owned()).await;
    assert_eq!(place.kept(), old, "it was not let in");
    *lock(&open) = true;
    wait(|| place.kept().since.is_some() && place.kept() != old, || format!("{:?}", place.kept()))
        .await;
    let kept = place.kept();
    assert_eq!((kept.whose.as_str(), kept.since.as_deref()), ("@bot:x", Some("s1_0")));
    assert!(kept.device_id != old.device_id && kept.cautious_since.is_some(), "{kept:?}");
    let aside = std::fs::read(place.folder().join("state.json.before")).unwrap();
    assert_eq!(serde_json::from_slice::<Kept>(&aside).unwrap(), old);
    assert!(!was_shown(&place, "old"));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_another_address_it_is_the_same_device_and_shows_nobody_its_token() {
    let mut place = Place::new(|_| None);
    place.credential = "password_secret";
    let old = before("@bot:x", "https://elsewhere.example/");
    old.write(&place.folder()).unwrap();
    let looked = place.with_setup(|setup| probe::begin(setup).unwrap());
    let what = looked.await.unwrap().what;
    assert!(what.contains("is not shown to this one"), "{what}");
    assert!(!was_shown(&place, "old"), "doctor shows it");
    let alive = place.live();
    wait(|| alive.instance.health().life.is_up(), || "it is never up".to_owned()).await;
    let kept = place.kept();
    let token = kept.token.clone().unwrap().0;
    assert_eq!(
        (token.as_str(), &kept.device_id, &kept.since),
        ("fresh", &old.device_id, &old.since)
    );
    assert!(kept.cautious_since.is_some() && !was_shown(&place, "old"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_does_not_know_is_looked_for_by_a_later_life() {
    let place = Place::new(|asked| {
        asked.path.contains("/send/").then(|| Said::No(504, json!("a gateway")))
    });
    let channel = place.channel();
    channel.let_in("token");
    let outcome = send(&channel, outbound("k")).await;
    assert!(matches!(outcome, Outcome::Transient { .. }), "{outcome:?}");
    assert!(place.kept().unsure.contains_key("k"), "{:?}", place.kept());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_life_has_sent_is_neither_sent_nor_uploaded_again() {
    let place = Place::new(|asked| {
        let event = |part: &str| {
            json!({ "type": "m.room.message", "event_id": format!("${part}"), "sender": "@bot:x",
                    "content": { MARK: mark(&transaction("k", part)) } })
        };
        match (asked.page_of("!r:x")?, asked.query("dir")) {
            ("", "b") => page(&[], Some("p1")),
            ("p1", "b") => page(&[event("1"), event("file-0")], None),
            other => panic!("{other:?}"),
        }
    });
    let channel = place.channel();
    channel.let_in("token");
    lock(&channel.kept).cautious_since = Some(UnixMillis(1));
    let lies = tempfile::tempdir().unwrap();
    std::fs::write(lies.path().join("plan.txt"), "the plan").unwrap();
    let shelf = Shelf { base: lies.path().to_owned(), within: "".into() };
    let outbound =
        Outbound { files: vec!["plan.txt".to_owned()], shelf: Some(shelf), ..outbound("k") };
    let outcome = send(&channel, outbound).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    let asked = place.homeserver.asked();
    assert!(!asked.iter().any(|it| it.path.contains("upload") || it.path.contains("/send/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_long_in_letting_it_in_keeps_no_other_waiting() {
    let place = Place::new(|asked| {
        if asked.is_look("s1_0") {
            let by = |room: &str| {
                json!({ room: { "invite_state": { "events": [
                    { "type": "m.room.member", "sender": "@a:x", "state_key": "@bot:x",
                      "content": { "membership": "invite" } },
                ] } } })
            };
            let mut rooms = by("!far:x");
            rooms["!near:x"] = by("!near:x")["!near:x"].clone();
            let said = json!({ "next_batch": "s2_0", "rooms": { "invite": rooms } });
            return Some(Said::Json(said.to_string()));
        }
        if asked.is_look("s2_0") {
            return news("s3_0", json!({ "!r:x": timeline(&[said("one")]) }));
        }
        asked.path.starts_with("join/!far").then_some(Said::Silence)
    });
    let _alive = place.live();
    place.wait_heard(&["one"]).await;
    place.wait_asked(|it| it.path == "join/!near:x").await;
    let left = || place.kept().invited.into_iter().collect::<Vec<_>>();
    wait(|| left() == ["!far:x"], || format!("{:?}", left())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_looks_at_a_homeserver_in_trouble_stops_at_the_first_of_it_and_says_so() {
    let place = Place::new(|asked| {
        let room = asked.path.strip_suffix("/state/m.room.encryption");
        match (asked.path.as_str(), room.map(|path| path.contains("secret"))) {
            ("joined_rooms", _) => Some(Said::Json(
                json!({ "joined_rooms": ["!open:x", "!secret:x", "!ill:x", "!other:x"] })
                    .to_string(),
            )),
            (path, Some(false)) if path.contains("ill") => Some(Said::No(503, json!("busy"))),
            (_, Some(true)) => Some(Said::Json("{}".to_owned())),
            _ => None,
        }
    });
    let found = place.with_setup(probe::begin).unwrap().await.unwrap();
    let [stopped, encrypted] = found.warnings.as_slice() else { panic!("{found:?}") };
    assert!(stopped.contains("not all rooms were looked at: ") && stopped.contains("503"));
    assert!(encrypted.ends_with("not read: !secret:x"), "{encrypted}");
    let asked = place.homeserver.asked();
    let rooms = asked.iter().filter(|it| it.path.ends_with("/state/m.room.encryption"));
    assert_eq!(rooms.count(), 3, "{asked:#?}");
}
