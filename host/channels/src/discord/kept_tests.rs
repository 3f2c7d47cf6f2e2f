use serde_json::json;
use twobox_shared::time::UnixMillis;

use super::Progress::{Further, Missing, There};
use super::*;

/// The id of a message that was said so many seconds after the first.
fn id(second: i64) -> Snowflake {
    Snowflake::at(UnixMillis(1_700_000_000_000 + second * 1000))
}

const GUILD: Place = Place { guild: Some(Snowflake(2)), parent: None };
const THREAD: Place = Place { guild: Some(Snowflake(2)), parent: Some(Snowflake(20)) };
const ELSEWHERE: Place = Place { guild: Some(Snowflake(9)), parent: None };
const DIRECT: Place = Place { guild: None, parent: None };

/// A message is heard and taken in.
fn hear(kept: &mut Kept, message: Snowflake, channel: u64, place: Place) {
    assert!(!kept.hear_of(message, Snowflake(channel), place), "{channel} is behind");
    kept.know(Snowflake(channel), place, message);
    kept.done_with(message);
}

fn session() -> Session {
    Session { id: "s3cret".to_owned(), url: "wss://x".to_owned(), last: 1 }
}

fn guild(channels: &[(u64, Snowflake)], threads: &[(u64, Snowflake)]) -> Guild {
    let all = |all: &[(u64, Snowflake)]| -> Vec<_> {
        all.iter()
            .map(|(id, last)| json!({ "id": id.to_string(), "last_message_id": last }))
            .collect()
    };
    let guild = json!({ "id": "2", "channels": all(channels), "threads": all(threads) });
    serde_json::from_value(guild).unwrap()
}

#[test]
fn what_is_written_down_is_read_and_shows_no_session() {
    let dir = tempfile::tempdir().unwrap();
    let folder = folder(dir.path(), "d", Snowflake(7));
    assert_eq!(Kept::read(&folder), Ok(Kept::default()));
    let mut kept = Kept { session: Some(session()), heard: id(5), ..Kept::default() };
    kept.fall_behind(Snowflake(3), id(1), id(2));
    kept.await_guild(Snowflake(2));
    kept.know(Snowflake(4), DIRECT, id(5));
    kept.know(Snowflake(5), THREAD, id(5));
    kept.write(&folder).unwrap();
    assert_eq!(Kept::read(&folder), Ok(kept.clone()));
    let other = super::folder(dir.path(), "d", Snowflake(8));
    assert_eq!(Kept::read(&other), Ok(Kept::default()), "another bot has its own");
    assert!(!format!("{kept:?}").contains("s3cret"));
}

#[test]
fn a_first_life_hears_from_now_on() {
    let mut kept = Kept::default();
    kept.begin(session(), &[Snowflake(2)], id(0));
    kept.take_guild(&guild(&[(20, id(-5))], &[]));
    assert!(kept.behind.is_empty() && kept.awaited.is_empty());
    assert_eq!(kept.heard, id(0));
}

#[test]
fn another_session_looks_for_what_was_said_between() {
    let mut kept = Kept::default();
    kept.begin(session(), &[], id(0));
    for (channel, place) in [(20, GUILD), (30, THREAD), (31, THREAD), (40, DIRECT)] {
        hear(&mut kept, id(100), channel, place);
    }
    assert_eq!(kept.known.len(), 3, "a channel of a guild is told of by itself");
    kept.begin(session(), &[Snowflake(2)], id(500));
    let behind = |kept: &Kept| kept.behind.keys().map(|id| id.0).collect::<Vec<_>>();
    assert_eq!(behind(&kept), [40], "direct chats at once");
    assert_eq!(kept.behind[&Snowflake(40)].after, id(95));
    // Something is said in another guild meanwhile.
    hear(&mut kept, id(510), 90, ELSEWHERE);
    assert!(kept.hear_of(id(511), Snowflake(23), GUILD), "behind what was said before");
    assert_eq!(kept.behind[&Snowflake(23)], Behind { after: id(95), newest: id(511), looks: 0 });
    kept.take_guild(&guild(&[(20, id(300)), (21, id(50)), (22, id(200))], &[(30, id(90))]));
    assert_eq!(behind(&kept), [20, 22, 23, 31, 40], "what is new, and a thread that was closed");
    assert!(kept.hear_of(id(520), Snowflake(20), GUILD), "its turn comes");
    assert_eq!(kept.behind[&Snowflake(20)], Behind { after: id(95), newest: id(520), looks: 0 });
    kept.begin(session(), &[Snowflake(2)], id(600));
    assert_eq!(kept.behind[&Snowflake(20)].after, id(95), "what is behind stays where it is");
}

#[test]
fn a_guild_that_was_away_is_looked_through_and_a_new_one_is_not() {
    let mut kept = Kept::default();
    kept.begin(session(), &[], id(0));
    kept.take_guild(&guild(&[(20, id(300))], &[]));
    assert!(kept.behind.is_empty(), "the bot has just come");
    hear(&mut kept, id(100), 20, GUILD);
    kept.await_guild(Snowflake(2));
    hear(&mut kept, id(400), 90, ELSEWHERE);
    kept.await_guild(Snowflake(2));
    kept.take_guild(&guild(&[(20, id(300))], &[]));
    assert_eq!(kept.behind[&Snowflake(20)].after, id(95));
    kept.know(Snowflake(30), THREAD, id(5));
    kept.fall_behind(Snowflake(30), id(5), id(6));
    kept.forget_guild(Snowflake(2));
    assert!(kept.known.is_empty() && !kept.behind.contains_key(&Snowflake(30)));
}

#[test]
fn a_channel_comes_forward_and_never_back() {
    let mut kept = Kept::default();
    kept.fall_behind(Snowflake(3), id(5), id(9));
    kept.fall_behind(Snowflake(3), id(7), id(8));
    assert_eq!(kept.behind[&Snowflake(3)], Behind { after: id(5), newest: id(9), looks: 0 });
    kept.come_forward(Snowflake(3), id(8));
    kept.come_forward(Snowflake(3), id(6));
    assert_eq!(kept.behind[&Snowflake(3)].after, id(8));
    assert_eq!(kept.heard, Snowflake(0), "elsewhere something may wait that was said before");
}

#[test]
fn a_channel_is_behind_until_everything_is_read_that_was_told_of() {
    let mut kept = Kept::default();
    let channel = Snowflake(3);
    kept.fall_behind(channel, id(5), id(9));
    assert_eq!(kept.progress(channel, false, 3), Further, "a full page");
    kept.come_forward(channel, id(7));
    assert_eq!(kept.progress(channel, true, 3), Further, "it may have come just now");
    assert_eq!(kept.progress(channel, true, 3), Missing);
    kept.come_forward(channel, id(9));
    assert_eq!(kept.progress(channel, true, 3), There);
    assert!(kept.behind.is_empty());
    kept.fall_behind(channel, id(9), id(12));
    let all: Vec<_> = (0..4).map(|_| kept.progress(channel, true, 3)).collect();
    assert_eq!(all, [Further, Missing, Missing, There], "it was deleted");
}

#[test]
fn only_so_many_are_remembered_and_the_oldest_goes() {
    let mut kept = Kept::default();
    for number in 0..=KNOWN_MAX as u64 {
        kept.know(Snowflake(100 + number), DIRECT, id(number as i64));
    }
    assert_eq!(kept.known.len(), KNOWN_MAX);
    assert!(!kept.known.contains_key(&Snowflake(100)));
}
