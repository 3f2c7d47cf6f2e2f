//! Everything that can happen in a small world: one session, one or two messages, as many runners and
//! hosts as die, and a few things that go wrong, each at any moment, in any order. The steps are those of
//! the simulation, so the machine that decides is the product's own; what is asserted is what the
//! simulation asserts after each step and in the end.
//!
//! Time passes only when nothing else can happen.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::world::World;
use crate::world::moves::Move;

/// How often in a row nothing can happen but that time passes, before that is a fault: a container that
/// stalls is stopped within hours, and the daemon looks each minute.
const WAITS_MAX: usize = 600;

/// What was found.
#[derive(Debug, Default)]
struct Explored {
    /// Different worlds.
    states: usize,
    /// Those in which everything had come to its end.
    ends: usize,
    /// Moves that were made.
    moves: usize,
}

/// Every world that `what` can become, by the answers to what it asks of the dice. `None` for what it
/// leaves as it was.
fn become_by(
    world: &World,
    what: Move,
    before: u128,
    explored: &mut Explored,
) -> Vec<(World, u128)> {
    let mut all = Vec::new();
    let mut given = Some(Vec::new());
    while let Some(script) = given {
        let mut next = world.clone();
        let made = catch_unwind(AssertUnwindSafe(|| next.make(what, script)));
        if let Err(panic) = made {
            eprintln!("after this, {what:?}:\n{}", world.story());
            resume_unwind(panic);
        }
        explored.moves += 1;
        given = next.script().clone().next();
        let digest = next.digest();
        if digest != before {
            all.push((next, digest));
        }
    }
    all
}

fn explore(messages: usize, faults: usize) -> Explored {
    let mut explored = Explored::default();
    let first = World::small(messages, faults);
    let mut seen = HashSet::from([first.digest()]);
    let mut open = vec![first];
    while let Some(mut world) = open.pop() {
        explored.states += 1;
        let mut before = world.digest();
        let mut waits = 0;
        let ordinary = loop {
            let moves = Move::ORDINARY.into_iter();
            let all: Vec<_> =
                moves.flat_map(|what| become_by(&world, what, before, &mut explored)).collect();
            if !all.is_empty() || world.is_over() {
                break all;
            }
            waits += 1;
            assert!(waits < WAITS_MAX, "nothing ends any more after\n{}", world.story());
            world.wait();
            before = world.digest();
        };
        if ordinary.is_empty() {
            explored.ends += 1;
            world.check_end();
        }
        let faults = match world.faults_left() {
            0 => Vec::new(),
            _ => Move::FAULTS
                .into_iter()
                .flat_map(|what| become_by(&world, what, before, &mut explored))
                .collect(),
        };
        for (next, digest) in ordinary.into_iter().chain(faults) {
            if seen.insert(digest) {
                open.push(next);
            }
        }
    }
    explored
}

/// How many messages there are, and how many things go wrong: worlds that are soon explored. More of them
/// are in `scripts/reliability`.
const USUAL: [(usize, usize); 2] = [(1, 0), (2, 0)];

/// The worlds in `TWOBOX_EXPLORE`, such as `2/1 1/2`, or the usual ones.
fn worlds() -> Vec<(usize, usize)> {
    let Ok(text) = std::env::var("TWOBOX_EXPLORE") else { return USUAL.to_vec() };
    let world = |word: &str| {
        let (messages, faults) = word.split_once('/').expect("MESSAGES/FAULTS");
        (messages.parse().expect("a number"), faults.parse().expect("a number"))
    };
    text.split_whitespace().map(world).collect()
}

#[test]
fn no_order_of_things_loses_a_message_or_answers_it_twice() {
    for (messages, faults) in worlds() {
        let Explored { states, ends, moves } = explore(messages, faults);
        println!(
            "{messages} messages, {faults} faults: {states} states, {ends} ends, {moves} moves"
        );
        assert!(ends > 0, "it never ends");
    }
}
