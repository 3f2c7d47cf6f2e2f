use std::collections::BTreeSet;

use twobox_model::channel::TERMINAL;
use twobox_model::people::{Engage, Role, Senders};
use twobox_shared::ids::SystemIds;

use super::*;
use crate::Store;
use crate::agents::AgentGroup;
use crate::messaging::NewWiring;
use crate::people::{Granting, Who};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn at_terminal(agent: &str, thread: &str) -> Said {
    let address = Address {
        channel_type: TERMINAL.to_owned(),
        platform_id: agent.to_owned(),
        thread_id: Some(thread.to_owned()),
    };
    Said { address, by: By::Operator, group: false, mentioned: false, form: Form::Text }
}

fn routed(store: &Store, said: Vec<Said>, now: UnixMillis) -> Vec<Found> {
    store.sessions().route(said, 3, Arc::new(SystemIds), now).wait().unwrap()
}

fn begin(store: &Store, agent: &str, threads: &[&str], now: UnixMillis) -> Vec<Found> {
    routed(store, threads.iter().map(|thread| at_terminal(agent, thread)).collect(), now)
}

fn is_heard(found: &Found) -> bool {
    matches!(found, Found::Heard { hearers, .. } if hearers.len() == 1)
}

#[test]
fn a_chat_begins_so_many_sessions_an_hour_and_keeps_those_that_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("host.db");
    let store = Store::create(&path).unwrap();
    for name in ["ann", "bob"] {
        store.agents().add(name, SessionMode::PerThread, &SystemIds, NOW).wait().unwrap();
    }
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let made = begin(&store, "ann", &["a", "b"], NOW);
    let last = begin(&store, "ann", &["c"], NOW + minutes(10));
    assert!(made.iter().chain(&last).all(is_heard));
    drop(store);
    let store = Store::create(&path).unwrap(); // another life of the host
    let full = Found::TooMany { until: NOW + minutes(60) };
    assert_eq!(begin(&store, "ann", &["d", "e"], NOW + minutes(20)), [full.clone(), full]);
    let count: i64 =
        store.raw().query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 3, "nothing of those that were refused");
    assert_eq!(begin(&store, "ann", &["a", "b"], NOW + minutes(20)), made, "they go on");
    let other = begin(&store, "bob", &["d"], NOW + minutes(20));
    assert!(other.iter().all(is_heard), "another chat: {other:?}");
    // Two of three have left the hour.
    let later = begin(&store, "ann", &["d", "e", "f"], NOW + minutes(61));
    let full = Found::TooMany { until: NOW + minutes(70) };
    assert!(is_heard(&later[0]) && is_heard(&later[1]) && later[2] == full, "{later:?}");
    // A clock that was set back locks nobody out.
    let early = begin(&store, "ann", &["g"], UnixMillis(NOW.0 - 86_400_000));
    assert!(is_heard(&early[0]), "{early:?}");
}

#[test]
fn of_several_who_listen_all_get_a_session_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("host.db")).unwrap();
    let all = ["ann", "bob"].map(|name| {
        store.agents().add(name, SessionMode::PerThread, &SystemIds, NOW).wait().unwrap();
        store.wirings().listening("terminal", name).wait().unwrap().remove(0)
    });
    let chat = all[0].messaging_group;
    let resolve = |agents: &[AgentGroupId], thread: &str| {
        let wanted: Vec<_> = agents.iter().map(|agent| (*agent, chat, thread)).collect();
        resolve_all(&mut store.raw(), &wanted, 1, &SystemIds, NOW).unwrap()
    };
    let [ann, bob] = [all[0].agent, all[1].agent];
    resolve(&[bob], "a"); // bob has had his
    assert!(matches!(resolve(&[ann, bob], "b"), Resolved::TooMany { .. }));
    assert!(matches!(resolve(&[ann], "b"), Resolved::All(_)), "ann had none for it");
}

/// `ann` and `bob` listen to one room, in which people have roles.
struct Room {
    _dir: tempfile::TempDir,
    store: Store,
    manner: Arc<Manner>,
}

impl Room {
    fn new(senders: Senders, mode: SessionMode) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("host.db")).unwrap();
        for (name, engage) in [("ann", None), ("bob", Some(Engage::Always))] {
            let agent =
                store.agents().add(name, SessionMode::Shared, &SystemIds, NOW).wait().unwrap();
            let new = NewWiring {
                channel_type: "m".to_owned(),
                platform_id: "room".to_owned(),
                name: None,
                mode,
                engage,
            };
            store.wirings().wire(&agent, new, &["m"], &SystemIds, NOW).wait().unwrap();
        }
        let manner = Arc::new(Manner { senders, engage: Engage::Mention });
        Self { _dir: dir, store, manner }
    }

    fn agent(&self, name: &str) -> AgentGroup {
        self.store.agents().find(name).wait().unwrap()
    }

    fn grant(&self, sender: &str, role: Role, agent: Option<&str>) {
        let who = Who::Identity { channel: "m".to_owned(), sender: sender.to_owned() };
        let granting = Granting { role, agent: agent.map(|name| self.agent(name)) };
        self.store.people().grant(who, granting, &SystemIds, NOW).wait().unwrap();
    }

    fn hear(&self, sender: &str, thread: Option<&str>, mentioned: bool) -> Found {
        let said = Said {
            address: Address {
                channel_type: "m".to_owned(),
                platform_id: "room".to_owned(),
                thread_id: thread.map(str::to_owned),
            },
            by: By::Sender(Some(sender.to_owned()), Arc::clone(&self.manner)),
            group: true,
            mentioned,
            form: Form::Text,
        };
        routed(&self.store, vec![said], NOW).remove(0)
    }

    /// Whether `ann` and `bob` hear it, and whether it starts a turn.
    fn triggers(&self, sender: &str, mentioned: bool) -> [Option<bool>; 2] {
        let Found::Heard { hearers, .. } = self.hear(sender, None, mentioned) else {
            return [None, None];
        };
        ["ann", "bob"].map(|name| {
            let id = self.agent(name).id;
            let is_of = |hearer: &&Hearer| {
                let record = self.store.sessions().find(hearer.session).wait().unwrap();
                record.is_some_and(|record| record.agent_group == id)
            };
            hearers.iter().find(is_of).map(|hearer| hearer.trigger)
        })
    }
}

#[test]
fn each_agent_hears_whom_it_may_and_as_its_wiring_says() {
    let room = Room::new(Senders::Known, SessionMode::Shared);
    room.grant("all", Role::Member, None);
    room.grant("anns", Role::Member, Some("ann"));
    assert_eq!(room.triggers("all", false), [Some(false), Some(true)]);
    assert_eq!(room.triggers("all", true), [Some(true), Some(true)]);
    assert_eq!(room.triggers("anns", true), [Some(true), None]);
    assert_eq!(room.hear("nobody", None, true), Found::Unheard(Why::Stranger));
    let rules =
        |sender: &str| matches!(room.hear(sender, None, true), Found::Heard { rules: true, .. });
    room.grant("chief", Role::Owner, None);
    assert_eq!((rules("all"), rules("chief")), (false, true));
}

#[test]
fn nothing_is_stored_of_whoever_is_not_heard() {
    for senders in [Senders::Known, Senders::Members, Senders::Listed(BTreeSet::new())] {
        let room = Room::new(senders, SessionMode::Shared);
        assert!(matches!(room.hear("nobody", None, true), Found::Unheard(_)));
        let sql = "SELECT count(*) FROM sessions";
        let count: i64 = room.store.raw().query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 0);
    }
}

#[test]
fn context_begins_no_conversation_in_a_thread_and_is_heard_where_there_is_one() {
    let room = Room::new(Senders::Open, SessionMode::PerThread);
    let heard = |thread: &str, mentioned| match room.hear("7", Some(thread), mentioned) {
        Found::Heard { hearers, .. } => hearers.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(heard("a", false), 1, "bob answers everything, and ann is not named");
    assert_eq!(heard("a", true), 2);
    assert_eq!(heard("a", false), 2, "ann has a conversation there now");
}
