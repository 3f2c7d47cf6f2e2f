use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use rusqlite::params;
use tempfile::TempDir;
use twobox_model::people::Tries;
use twobox_shared::ids::{MessageId, SystemIds};

use super::*;
use crate::Store;
use crate::agents::AgentGroup;
use crate::messaging::SessionMode;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

fn fresh() -> (TempDir, Store, [AgentGroup; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(&folder.path().join("host.db")).unwrap();
    let agents = ["ann", "bob"]
        .map(|name| store.agents().add(name, SessionMode::Shared, &SystemIds, NOW).wait().unwrap());
    (folder, store, agents)
}

fn stranger(sender: &str) -> Stranger {
    Stranger { channel: "m".to_owned(), sender: sender.to_owned(), name: Some("Eve".to_owned()) }
}

fn id(sender: &str) -> Who {
    Who::Identity { channel: "m".to_owned(), sender: sender.to_owned() }
}

fn invite(
    store: &Store,
    sender: &str,
    message: &str,
    wants: bool,
    code: &str,
    at: UnixMillis,
) -> Option<String> {
    let message = MessageId::parse(message).unwrap();
    let invited = store.people().invite(stranger(sender), &message, wants, code.to_owned(), at);
    invited.wait().unwrap().map(|invited| invited.code)
}

fn pair(store: &Store, by: Let, code: &str, at: UnixMillis) -> Result<Paired, PairError> {
    store.people().pair(by, code, None, &SystemIds, at).wait()
}

fn claim(store: &Store, sender: &str, code: &str, at: UnixMillis) -> Result<Claimed, ClaimError> {
    store.people().claim(stranger(sender), code, &SystemIds, at).wait()
}

fn grant(store: &Store, who: Who, role: Role, agent: Option<&AgentGroup>) -> UserId {
    let granting = Granting { role, agent: agent.cloned() };
    store.people().grant(who, granting, &SystemIds, NOW).wait().unwrap()
}

fn standing(store: &Store, sender: &str, agent: &AgentGroup) -> Standing {
    let known = store.people().known("m", sender).wait().unwrap();
    known.map_or(Standing::Stranger, |known| known.standing(agent.id))
}

fn audited(store: &Store) -> Vec<(String, String, String)> {
    let db = store.raw();
    let mut select = db
        .prepare("SELECT actor, action, detail FROM audit WHERE action LIKE 'people.%' ORDER BY id")
        .unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_stranger_is_told_one_code_and_the_same_message_is_answered_alike() {
    let (_folder, store, _) = fresh();
    let told = |message: &str, wants, code: &str, at| invite(&store, "7", message, wants, code, at);
    assert_eq!(told("a", false, "aaaa-aaaa", NOW), Some("aaaa-aaaa".into()));
    assert_eq!(told("a", false, "bbbb-bbbb", NOW + MINUTE), Some("aaaa-aaaa".into()), "once more");
    assert_eq!(told("b", false, "bbbb-bbbb", NOW + MINUTE), None);
    assert_eq!(told("c", true, "bbbb-bbbb", NOW + MINUTE), None, "it holds");
    assert_eq!(told("d", false, "bbbb-bbbb", NOW + 2 * HOUR), None, "not within a day");
    assert_eq!(told("e", true, "cccc-cccc", NOW + 2 * HOUR), Some("cccc-cccc".into()), "asked for");
    assert_eq!(told("f", false, "dddd-dddd", NOW + 25 * HOUR), None);
    assert_eq!(told("g", false, "dddd-dddd", NOW + 27 * HOUR), Some("dddd-dddd".into()));
    let other = invite(&store, "8", "a", false, "eeee-eeee", NOW + 27 * HOUR);
    assert_eq!(other, Some("eeee-eeee".into()), "another stranger");
    let early = told("h", false, "ffff-ffff", NOW);
    assert_eq!(early, Some("ffff-ffff".into()), "a clock that was set back keeps nobody waiting");
}

#[test]
fn no_more_than_so_many_strangers_are_told_in_an_hour() {
    let (_folder, store, _) = fresh();
    let told = |n: u32, at| invite(&store, &format!("s{n}"), "m", false, &format!("code-{n}"), at);
    let heard = (0..150).filter(|n| told(*n, NOW).is_some()).count();
    assert_eq!(heard, 100);
    assert_eq!(told(200, NOW + 2 * HOUR), Some("code-200".into()));
    told(201, NOW + 25 * HOUR);
    let rows: i64 =
        store.raw().query_row("SELECT count(*) FROM pairings", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 2, "what is a day old has gone, but for the newer ones");
}

#[test]
fn a_code_lets_its_stranger_in_once_and_only_while_it_holds() {
    let (_folder, store, [ann, bob]) = fresh();
    invite(&store, "7", "a", false, "abcd-efgh", NOW);
    invite(&store, "8", "a", false, "bbbb-bbbb", NOW);
    assert_eq!(standing(&store, "7", &ann), Standing::Stranger);
    assert!(matches!(pair(&store, Let::Operator, "nono-nono", NOW), Err(PairError::Wrong)));
    let paired = pair(&store, Let::Operator, "ABCDEFGH", NOW + MINUTE).unwrap();
    assert_eq!((paired.sender.as_str(), paired.name.as_deref()), ("7", Some("Eve")));
    assert!(!paired.again);
    for agent in [&ann, &bob] {
        assert_eq!(standing(&store, "7", agent), Standing::Has(Role::Member));
    }
    let again = pair(&store, Let::Operator, "abcd-efgh", NOW + MINUTE).unwrap();
    assert!(again.again && again.user == paired.user);
    assert!(matches!(pair(&store, Let::Operator, "bbbb-bbbb", NOW + HOUR), Err(PairError::Wrong)));
    let (actor, action, detail) = audited(&store).remove(0);
    assert_eq!((actor.as_str(), action.as_str()), (OPERATOR, "people.pair"));
    assert_eq!(detail, "m:7 is a member for all agents");
    assert_eq!(audited(&store).len(), 1, "once");
}

#[test]
fn an_admin_lets_in_for_their_agent_and_a_member_for_none() {
    let (_folder, store, [ann, bob]) = fresh();
    let by = |sender: &str| Let::Person { channel: "m".to_owned(), sender: sender.to_owned() };
    grant(&store, id("admin"), Role::Admin, Some(&ann));
    grant(&store, id("member"), Role::Member, None);
    grant(&store, id("gone"), Role::Owner, None);
    store.people().block(id("gone"), true, &SystemIds, NOW).wait().unwrap();
    invite(&store, "7", "a", false, "abcd-efgh", NOW);
    for who in ["member", "nobody", "gone"] {
        let refused = pair(&store, by(who), "abcd-efgh", NOW);
        assert!(matches!(refused, Err(PairError::NotAllowed)), "{who}");
    }
    pair(&store, by("admin"), "abcd-efgh", NOW).unwrap();
    assert_eq!(standing(&store, "7", &ann), Standing::Has(Role::Member));
    assert_eq!(standing(&store, "7", &bob), Standing::Stranger);
    assert_eq!(audited(&store).last().unwrap().0, "m:admin");
}

#[test]
fn a_second_channel_of_somebody_is_theirs() {
    let (_folder, store, [ann, _]) = fresh();
    let owner = grant(&store, id("7"), Role::Owner, None);
    invite(&store, "8", "a", false, "abcd-efgh", NOW);
    let paired = store.people().pair(Let::Operator, "abcd-efgh", Some(id("7")), &SystemIds, NOW);
    assert_eq!(paired.wait().unwrap().user, owner);
    assert_eq!(standing(&store, "8", &ann), Standing::Has(Role::Owner));
    let person = store.people().show(id("8")).wait().unwrap();
    assert_eq!(person.identities.len(), 2, "{person:?}");
}

#[test]
fn the_code_of_an_owner_is_used_once_whoever_comes_first() {
    let (_folder, store, [ann, _]) = fresh();
    let code = "abcd-efgh-ijkm-npqr";
    store.people().make_claim(code, NOW).wait().unwrap();
    let kept: String =
        store.raw().query_row("SELECT digest FROM claim", [], |row| row.get(0)).unwrap();
    assert!(!kept.contains("abcd"), "only its digest is kept");
    let barrier = Barrier::new(8);
    let made = thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|n| {
                let (store, barrier) = (store.clone(), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    claim(&store, &format!("s{n}"), code, NOW + MINUTE).is_ok()
                })
            })
            .collect();
        all.into_iter().map(|it| usize::from(it.join().unwrap())).sum::<usize>()
    });
    assert_eq!(made, 1);
    let owner = (0..8)
        .map(|n| format!("s{n}"))
        .find(|sender| standing(&store, sender, &ann) == Standing::Has(Role::Owner));
    let owner = owner.unwrap();
    assert!(claim(&store, &owner, code, NOW + 2 * HOUR).unwrap().again, "the same again");
    assert!(matches!(claim(&store, "late", code, NOW + 2 * HOUR), Err(ClaimError::Wrong)));
    assert_eq!(audited(&store).iter().filter(|it| it.1 == "people.claim").count(), 1);
}

#[test]
fn a_code_of_an_owner_ends_with_its_day_or_with_the_next() {
    let (_folder, store, _) = fresh();
    let [first, second] = ["aaaa-aaaa-aaaa-aaaa", "bbbb-bbbb-bbbb-bbbb"];
    assert!(matches!(claim(&store, "7", first, NOW), Err(ClaimError::Wrong)), "there is none");
    store.people().make_claim(first, NOW).wait().unwrap();
    store.people().make_claim(second, NOW).wait().unwrap();
    assert!(matches!(claim(&store, "7", first, NOW), Err(ClaimError::Wrong)), "it was replaced");
    let late = claim(&store, "7", second, NOW + 24 * HOUR);
    assert!(matches!(late, Err(ClaimError::Wrong)), "it is over");
    assert!(!store.people().has_owner().wait().unwrap());
}

#[test]
fn after_a_few_wrong_codes_even_the_right_one_is_not_looked_at_for_an_hour() {
    let (folder, store, _) = fresh();
    let code = "abcd-efgh-ijkm-npqr";
    store.people().make_claim(code, NOW).wait().unwrap();
    let wrong = |store: &Store, sender: &str| claim(store, sender, "nono", NOW);
    for _ in 0..Tries::OWN_MAX {
        assert!(matches!(wrong(&store, "7"), Err(ClaimError::Wrong)));
    }
    assert!(matches!(wrong(&store, "7"), Err(ClaimError::TooMany)));
    drop(store);
    let store = Store::open(&folder.path().join("host.db")).unwrap();
    assert!(matches!(claim(&store, "7", code, NOW), Err(ClaimError::TooMany)), "another life");
    // Whoever has many accounts finds that all of them together have only so many.
    let looked = (0..2_000)
        .filter(|n| matches!(wrong(&store, &format!("e{n}")), Err(ClaimError::Wrong)))
        .count();
    assert_eq!(looked as u32, Tries::ALL_MAX - Tries::OWN_MAX);
    assert!(matches!(claim(&store, "8", code, NOW + 30 * MINUTE), Err(ClaimError::TooMany)));
    let rows = |store: &Store| -> i64 {
        store.raw().query_row("SELECT count(*) FROM wrong_codes", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(rows(&store), i64::from(Tries::ALL_MAX), "no more is kept than counts");
    claim(&store, "7", code, NOW + HOUR).unwrap();
    claim(&store, "9", "nono", NOW + HOUR).unwrap_err();
    assert_eq!(rows(&store), 1);
}

#[test]
fn roles_are_given_and_taken_and_a_blocked_person_has_none_that_counts() {
    let (_folder, store, [ann, bob]) = fresh();
    let user = grant(&store, id("7"), Role::Admin, Some(&ann));
    assert_eq!(grant(&store, id("7"), Role::Admin, Some(&ann)), user, "twice is once");
    assert_eq!(standing(&store, "7", &ann), Standing::Has(Role::Admin));
    assert_eq!(standing(&store, "7", &bob), Standing::Stranger);
    let owner_of_one = Granting { role: Role::Owner, agent: Some(ann.clone()) };
    let refused = store.people().grant(id("7"), owner_of_one, &SystemIds, NOW).wait();
    assert!(matches!(refused, Err(ChangeError::OwnerOfOne)));
    store.people().block(id("7"), true, &SystemIds, NOW).wait().unwrap();
    assert_eq!(standing(&store, "7", &ann), Standing::Blocked);
    store.people().block(id("7"), false, &SystemIds, NOW).wait().unwrap();
    assert_eq!(standing(&store, "7", &ann), Standing::Has(Role::Admin));
    let revoke = |agent: Option<&AgentGroup>| {
        let granting = Granting { role: Role::Admin, agent: agent.cloned() };
        store.people().revoke(id("7"), granting, NOW).wait()
    };
    let error = revoke(None).unwrap_err().to_string();
    assert!(error.contains("m:7 is not admin"), "{error}");
    revoke(Some(&ann)).unwrap();
    assert_eq!(standing(&store, "7", &ann), Standing::Stranger);
    store.people().block(id("never-seen"), true, &SystemIds, NOW).wait().unwrap();
    assert_eq!(standing(&store, "never-seen", &ann), Standing::Blocked, "before they ever spoke");
    store.people().forget(id("never-seen"), NOW).wait().unwrap();
    assert_eq!(standing(&store, "never-seen", &ann), Standing::Stranger);
    let actions: Vec<_> = audited(&store).into_iter().map(|(_, action, _)| action).collect();
    let expected = ["grant", "grant", "block", "unblock", "revoke", "block", "forget"];
    assert_eq!(actions, expected.map(|action| format!("people.{action}")));
}

#[test]
fn people_are_found_by_what_names_one_of_them_only() {
    let (_folder, store, _) = fresh();
    for (sender, message) in [("7", "a"), ("8", "b")] {
        invite(&store, sender, message, false, &format!("aaaa-aaa{sender}"), NOW);
        grant(&store, id(sender), Role::Member, None);
    }
    let show = |who: Who| store.people().show(who).wait();
    assert!(matches!(show(Who::Named("Eve".to_owned())), Err(ChangeError::Several { .. })));
    let seven = show(id("7")).unwrap();
    assert_eq!(seven.name.as_deref(), Some("Eve"), "as they called themselves");
    assert_eq!(show(Who::Named(seven.id.to_string())).unwrap(), seven);
    assert!(matches!(show(id("9")), Err(ChangeError::Unknown { .. })));
    let channels = ["m", "terminal"];
    assert_eq!(Who::read("m:7", &channels), id("7"));
    assert_eq!(Who::read("m:@a:x", &channels), id("@a:x"));
    assert_eq!(Who::read("x:7", &channels), Who::Named("x:7".to_owned()));
    assert_eq!(store.people().waiting(NOW).wait().unwrap().len(), 2);
    grant(&store, id("9"), Role::Owner, None);
    let list = store.people().list().wait().unwrap();
    assert_eq!((list.len(), list[0].identities[0].id.as_str()), (3, "9"), "owners first");
}

#[test]
fn who_may_decide_follows_from_roles_and_from_whether_there_is_an_owner() {
    let (_folder, store, [ann, bob]) = fresh();
    let session = |agent: &AgentGroup| {
        let heard = store.wirings().listening("terminal", &agent.name).wait().unwrap().remove(0);
        let fresh = SessionId::generate(&SystemIds);
        let resolved = store.sessions().resolve(agent.id, heard.messaging_group, "", fresh, NOW);
        resolved.wait().unwrap()
    };
    let sessions = [session(&ann), session(&bob)];
    let may = |sender: Option<&str>, lax: bool| {
        let speaker =
            Speaker::Person { channel: "m".to_owned(), sender: sender.map(str::to_owned), lax };
        let db = store.raw();
        sessions.map(|session| may_decide(&db, &speaker, session, Kind::Permission).unwrap())
    };
    assert_eq!(may(Some("7"), true), [true, true], "nobody has been given anything");
    assert_eq!(may(None, true), [true, true]);
    assert_eq!(may(Some("7"), false), [false, false], "a channel that knows its people");
    grant(&store, id("7"), Role::Admin, Some(&ann));
    assert_eq!(may(Some("7"), false), [true, false]);
    grant(&store, id("8"), Role::Owner, None);
    assert_eq!(may(Some("8"), false), [true, true]);
    assert_eq!(may(Some("9"), true), [false, false], "there is an owner who can give roles");
    assert_eq!(may(None, true), [false, false]);
    let db = store.raw();
    let operator = may_decide(&db, &Speaker::Operator, sessions[0], Kind::Permission);
    assert!(operator.unwrap());
}

#[test]
fn an_id_of_a_channel_is_one_persons() {
    let (_folder, store, _) = fresh();
    let user = grant(&store, id("7"), Role::Member, None);
    let db = store.raw();
    let twice = db.execute(
        "INSERT INTO identities (channel_id, sender_id, user_id, created_at_ms) VALUES ('m', '7', ?, 0)",
        params![user],
    );
    assert!(twice.is_err());
}
