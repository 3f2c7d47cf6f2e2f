use std::collections::HashSet;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn session(n: u128) -> SessionId {
    SessionId::from_uuid(Uuid::from_u128(n))
}

fn group(n: u128) -> AgentGroupId {
    AgentGroupId::from_uuid(Uuid::from_u128(n))
}

/// Each group has a chat of the same number, where it matters only which group it is.
fn seat(of: u128) -> Seat {
    chat(of, of)
}

fn chat(of: u128, chat: u128) -> Seat {
    let chat = MessagingGroupId::from_uuid(Uuid::from_u128(chat));
    Seat { group: group(of), chat, sender: None }
}

fn by(name: &str, seat: Seat) -> Seat {
    Seat { sender: Some(Sender::new("command", name)), ..seat }
}

fn admission(max_running: usize, population: &[(u128, usize)]) -> Admission {
    let mut admission = Admission::new(max_running);
    admission.set_population(population.iter().map(|(of, chats)| (group(*of), *chats)).collect());
    admission
}

fn grants(orders: &[AdmissionOrder]) -> Vec<u128> {
    let granted = orders.iter().filter_map(|order| match order {
        AdmissionOrder::Grant(session) => Some(session.as_uuid().as_u128()),
        AdmissionOrder::Evict(_) => None,
    });
    granted.collect()
}

#[test]
fn the_oldest_waits_least_and_chat_goes_before_scheduled_work() {
    let mut admission = admission(1, &[(1, 1), (2, 1), (9, 1)]);
    admission.adopt(session(9), seat(9));
    admission.request(session(1), seat(1), Class::Scheduled);
    admission.request(session(2), seat(1), Class::Chat);
    admission.request(session(3), seat(2), Class::Chat);
    let mut served = Vec::new();
    for holder in [9, 2, 3] {
        admission.release(session(holder));
        served.extend(admission.orders());
    }
    assert_eq!(served, [2, 3, 1].map(|n| AdmissionOrder::Grant(session(n))));
}

#[test]
fn a_session_that_waits_for_its_run_goes_with_the_chats_once_somebody_chats_there() {
    let mut admission = admission(1, &[]);
    admission.adopt(session(9), seat(9));
    admission.request(session(1), seat(1), Class::Scheduled);
    admission.request(session(2), seat(1), Class::Scheduled);
    admission.request(session(2), seat(1), Class::Chat);
    admission.request(session(2), seat(1), Class::Scheduled); // the person waits all the same
    admission.release(session(9));
    assert_eq!(admission.orders(), [AdmissionOrder::Grant(session(2))]);
    assert_eq!(admission.counts(), (1, 1), "it waits once");
}

#[test]
fn no_group_chat_or_sender_holds_every_place_while_there_may_be_another() {
    type Case = (&'static str, usize, &'static [(u128, usize)], Seat, usize);
    let cases: &[Case] = &[
        ("one group with one chat", 4, &[(1, 1)], seat(1), 4),
        ("several groups", 4, &[(1, 1), (2, 1)], seat(1), 3),
        ("several chats", 4, &[(1, 2)], seat(1), 3),
        ("several of both", 4, &[(1, 2), (2, 1)], seat(1), 2),
        ("one of the senders of a chat", 4, &[(1, 1)], by("ann", seat(1)), 3),
        ("what is left for a chat is left once", 4, &[(1, 2)], by("ann", seat(1)), 3),
        ("a group's only place", 2, &[(1, 2), (2, 1)], by("ann", seat(1)), 1),
        ("a single place is not kept empty", 1, &[(1, 2), (2, 1)], by("ann", seat(1)), 1),
    ];
    for (case, max_running, population, seat, granted) in cases {
        let mut admission = admission(*max_running, population);
        for n in 0..5 {
            admission.request(session(n), *seat, Class::Chat);
        }
        assert_eq!(admission.orders().len(), *granted, "{case}");
    }
}

#[test]
fn a_chat_with_many_threads_waits_behind_one_that_has_nothing() {
    let mut admission = admission(4, &[(1, 3)]);
    for n in 0..17 {
        admission.request(session(n), chat(1, 1), Class::Chat);
    }
    assert_eq!(grants(&admission.orders()), [0, 1, 2]);
    admission.request(session(20), chat(1, 2), Class::Chat);
    assert_eq!(grants(&admission.orders()), [20], "its place was kept");
    admission.request(session(21), chat(1, 2), Class::Chat);
    admission.request(session(30), chat(1, 3), Class::Chat);
    let mut served = Vec::new();
    for ended in 0..3 {
        admission.release(session(ended));
        served.extend(grants(&admission.orders()));
    }
    // First who has nothing, then by turns: the first chat was served before the second.
    assert_eq!(served, [30, 3, 21]);
}

#[test]
fn a_sender_in_many_chats_waits_behind_one_who_has_nothing() {
    let mut admission = admission(3, &[(1, 9)]);
    for n in 0..6 {
        admission.request(session(n), by("ann", chat(1, n)), Class::Chat);
    }
    assert_eq!(grants(&admission.orders()), [0, 1], "one place is left for other people");
    admission.request(session(8), by("bob", chat(1, 0)), Class::Chat);
    assert_eq!(grants(&admission.orders()), [8], "though ann has a place in that chat");
    assert_ne!(Sender::new("a", "ann"), Sender::new("b", "ann"), "another platform's ann");
}

#[test]
fn idle_containers_leave_when_places_are_short_and_are_asked_once() {
    let mut admission = admission(2, &[(1, 1), (2, 1)]);
    admission.adopt(session(1), seat(1));
    admission.adopt(session(2), seat(1));
    admission.set_idle(session(2), true);
    admission.request(session(3), seat(2), Class::Chat);
    assert_eq!(admission.orders(), [AdmissionOrder::Evict(session(2))]);
    assert_eq!(admission.orders(), []);
    admission.release(session(2));
    assert_eq!(admission.orders(), [AdmissionOrder::Grant(session(3))]);
}

#[test]
fn of_idle_containers_those_of_the_chat_with_most_leave_first() {
    let mut admission = admission(3, &[(1, 3)]);
    admission.adopt(session(1), chat(1, 1));
    admission.adopt(session(2), chat(1, 2));
    admission.adopt(session(3), chat(1, 2));
    for n in 1..=3 {
        admission.set_idle(session(n), true);
    }
    admission.request(session(4), chat(1, 3), Class::Chat);
    assert_eq!(admission.orders(), [AdmissionOrder::Evict(session(2))]);
}

#[test]
fn who_holds_their_share_gets_a_place_only_from_themselves() {
    let ann = |of| by("ann", chat(1, of));
    let cases = [
        ("a group", admission(3, &[(1, 1), (2, 1)]), [seat(2), seat(1), seat(1)]),
        ("a chat", admission(3, &[(1, 2)]), [chat(1, 2), chat(1, 1), chat(1, 1)]),
        ("a sender", admission(3, &[(1, 4)]), [chat(1, 1), ann(2), ann(3)]),
    ];
    for (case, mut admission, seats) in cases {
        for (n, seat) in (1..).zip(seats) {
            admission.adopt(session(n), seat);
        }
        admission.set_idle(session(1), true);
        admission.request(session(4), seats[2], Class::Chat);
        assert_eq!(admission.orders(), [], "{case}: the other's place would stay empty");
        admission.set_idle(session(3), true);
        assert_eq!(admission.orders(), [AdmissionOrder::Evict(session(3))], "{case}");
    }
}

#[test]
fn asking_twice_takes_one_place() {
    let mut admission = admission(2, &[(1, 1)]);
    admission.request(session(1), seat(1), Class::Chat);
    admission.request(session(1), seat(1), Class::Chat);
    assert_eq!(admission.orders(), [AdmissionOrder::Grant(session(1))]);
    admission.request(session(1), seat(1), Class::Chat);
    assert_eq!((admission.orders().len(), admission.counts()), (0, (1, 0)));
}

/// What happens to a session.
#[derive(Debug, Clone, Copy)]
enum Event {
    Ask,
    AskScheduled,
    Adopt,
    Release,
    Idle(bool),
}

fn event() -> impl Strategy<Value = (u128, Event)> {
    let kind = prop_oneof![
        4 => Just(Event::Ask),
        1 => Just(Event::AskScheduled),
        1 => Just(Event::Adopt),
        3 => Just(Event::Release),
        2 => any::<bool>().prop_map(Event::Idle),
    ];
    (0..36_u128, kind)
}

/// 36 sessions, of which 24 are of group 1; there, half are of one chat, and some have senders.
fn seat_of(n: u128) -> Seat {
    let (of, room) = if n < 24 { (1, if n < 12 { 0 } else { n % 4 }) } else { (2, 9) };
    match n % 3 {
        0 => by(["ann", "bob"][usize::try_from(n % 2).unwrap()], chat(of, room)),
        _ => chat(of, room),
    }
}

proptest! {
    #[test]
    fn places_are_never_exceeded_never_wasted_and_go_to_who_has_least(
        max_running in 1..9_usize,
        population in prop_oneof![
            Just(vec![(1, 1)]), Just(vec![(1, 4)]), Just(vec![(1, 1), (2, 1)]),
            Just(vec![(1, 4), (2, 3)]),
        ],
        events in prop::collection::vec(event(), 1..200),
    ) {
        let mut admission = admission(max_running, &population);
        for (n, event) in events {
            match event {
                Event::Ask => admission.request(session(n), seat_of(n), Class::Chat),
                Event::AskScheduled => {
                    admission.request(session(n), seat_of(n), Class::Scheduled);
                }
                Event::Adopt => admission.adopt(session(n), seat_of(n)),
                Event::Release => admission.release(session(n)),
                Event::Idle(idle) => admission.set_idle(session(n), idle),
            }
            let before: Vec<Waiter> = admission.waiting.clone();
            let mut held = Held::of(admission.holders.values().map(|holder| holder.seat));
            let orders = admission.orders();
            // Whoever is chosen has, among those of the same class who were free to be, least.
            for granted in grants(&orders) {
                let chosen = *before.iter().find(|it| it.session == session(granted)).unwrap();
                prop_assert!(admission.full(chosen.seat, &held).none());
                for other in &before {
                    let waits = admission.waiting.iter().any(|it| it.session == other.session);
                    if waits && admission.full(other.seat, &held).none() {
                        let [ours, theirs] = [chosen, *other]
                            .map(|waiter| (waiter.class, held.most(waiter.seat)));
                        prop_assert!(ours <= theirs, "{chosen:?} before {other:?}");
                    }
                }
                held.count(chosen.seat);
            }
            // Only what ran already may exceed the number.
            if !grants(&orders).is_empty() {
                prop_assert!(admission.holders.len() <= max_running);
            }
            // A place is empty only if it is kept for others of everybody who waits.
            if admission.holders.len() < max_running {
                let now = Held::of(admission.holders.values().map(|holder| holder.seat));
                for waiter in &admission.waiting {
                    prop_assert!(!admission.full(waiter.seat, &now).none(), "{waiter:?}");
                }
            }
            // One that was asked to leave had nothing to do.
            for order in &orders {
                if let AdmissionOrder::Evict(session) = order {
                    prop_assert!(admission.holders[session].idle);
                }
            }
        }
    }

    /// However many threads other chats have waiting, and whosever turn ends: each chat that has no
    /// place is served before any other gets its second since then.
    #[test]
    fn a_chat_without_a_place_waits_for_one_round_at_most(
        max_running in 2..9_usize,
        chats in 2..7_u128,
        ends in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
    ) {
        let mut admission = admission(max_running, &[(1, 9)]);
        for n in 0..chats * 20 {
            admission.request(session(n), chat(1, n / 20), Class::Chat);
        }
        admission.orders();
        admission.request(session(1000), chat(1, 100), Class::Chat);
        let mut served = grants(&admission.orders());
        let mut since = HashSet::new();
        let rounds = ends.len();
        for end in ends {
            if served.contains(&1000) {
                break;
            }
            let mut working: Vec<SessionId> = admission.holders.keys().copied().collect();
            working.sort_unstable();
            admission.release(*end.get(&working));
            served = grants(&admission.orders());
            for other in served.iter().filter(|n| **n != 1000) {
                prop_assert!(since.insert(other / 20), "{other} is of a chat that had its turn");
            }
        }
        prop_assert!(served.contains(&1000) || rounds <= chats as usize);
    }
}
