//! Everything that can happen in a small world: one session, one or two messages, as many runners and
//! hosts as die, and a few things that go wrong, each at any moment, in any order. The steps are those of
//! the simulation, so the machine that decides is the product's own; what is asserted is what the
//! simulation asserts after each step and in the end, and that from everywhere things come to an end when
//! nothing more goes wrong.
//!
//! Time passes only when nothing else can happen. Not here: context, tasks, several sessions, channels
//! without keys, a clock that jumps, and who waits for a place (`session::waiting`); of these the
//! simulation plays most, by its seeds.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use crate::world::World;
use crate::world::moves::Move;

/// How long a play may last: a container that stalls is stopped within hours.
const AGE_MAX: Duration = Duration::from_secs(2 * 3600);

/// What is explored.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    messages: usize,
    /// How many things go wrong.
    faults: usize,
    /// How many attempts a message gets.
    tries: i64,
}

/// Worlds that are soon explored. More of them are in `scripts/reliability`.
const USUAL: [Bounds; 2] =
    [Bounds { messages: 1, faults: 0, tries: 1 }, Bounds { messages: 2, faults: 0, tries: 1 }];

/// What was found.
#[derive(Debug, Default)]
struct Explored {
    /// From each state those that follow if nothing goes wrong.
    edges: HashMap<u128, Vec<u128>>,
    /// Those in which everything had come to its end.
    ends: Vec<u128>,
    /// Moves that were made.
    moves: usize,
}

impl Explored {
    /// Every world that `what` can become, by the answers to what it asks of the dice, but for those that
    /// it leaves as they were.
    fn become_by(&mut self, world: &World, what: Move) -> Vec<(World, u128)> {
        let (mut all, before) = (Vec::new(), world.digest());
        let mut given = Some(Vec::new());
        while let Some(script) = given {
            let mut next = world.clone();
            let made = catch_unwind(AssertUnwindSafe(|| next.make(what, script)));
            if let Err(panic) = made {
                eprintln!("after this, {what:?}:\n{}", world.story());
                resume_unwind(panic);
            }
            self.moves += 1;
            given = next.script().clone().next();
            let digest = next.digest();
            if digest != before {
                all.push((next, digest));
            }
        }
        all
    }

    fn go_wrong(&mut self, world: &World) -> Vec<(World, u128)> {
        let faults = Move::FAULTS.into_iter().filter(|what| world.can_go_wrong(*what));
        faults.flat_map(|what| self.become_by(world, what)).collect()
    }

    /// A state from which no end is reached although nothing more goes wrong, if there is one.
    fn endless(&self) -> Option<u128> {
        let mut from: HashMap<u128, Vec<u128>> = HashMap::new();
        for (before, after) in &self.edges {
            for after in after {
                from.entry(*after).or_default().push(*before);
            }
        }
        let mut ending: HashSet<u128> = self.ends.iter().copied().collect();
        let mut open = self.ends.clone();
        while let Some(state) = open.pop() {
            for before in from.get(&state).into_iter().flatten() {
                if ending.insert(*before) {
                    open.push(*before);
                }
            }
        }
        self.edges.keys().find(|state| !ending.contains(state)).copied()
    }
}

fn explore(bounds: Bounds) -> Explored {
    let mut explored = Explored::default();
    let first = World::small(bounds.messages, bounds.faults, bounds.tries);
    let mut seen = HashSet::from([first.digest()]);
    let mut open = vec![first.clone()];
    while let Some(mut world) = open.pop() {
        let state = world.digest();
        let mut faults = explored.go_wrong(&world);
        let ordinary = loop {
            assert!(world.age(&first) < AGE_MAX, "it goes on and on:\n{}", world.story());
            let moves = Move::ORDINARY.into_iter();
            let all: Vec<_> = moves.flat_map(|what| explored.become_by(&world, what)).collect();
            if !all.is_empty() || world.is_over() {
                break all;
            }
            world.wait();
            faults.extend(explored.go_wrong(&world));
        };
        if ordinary.is_empty() {
            explored.ends.push(state);
            world.check_end();
        }
        explored.edges.insert(state, ordinary.iter().map(|(_, digest)| *digest).collect());
        for (next, digest) in ordinary.into_iter().chain(faults) {
            if seen.insert(digest) {
                open.push(next);
            }
        }
    }
    explored
}

/// The worlds in `TWOBOX_EXPLORE`, such as `2/1/1 1/2/2`, or the usual ones.
fn worlds() -> Vec<Bounds> {
    let Ok(text) = std::env::var("TWOBOX_EXPLORE") else { return USUAL.to_vec() };
    let world = |word: &str| {
        let numbers: Vec<_> = word.split('/').map(|number| number.parse().expect(word)).collect();
        let [messages, faults, tries] = numbers[..] else {
            panic!("{word} is not MESSAGES/FAULTS/TRIES")
        };
        let tries = i64::try_from(tries).expect("few");
        Bounds { messages, faults, tries }
    };
    text.split_whitespace().map(world).collect()
}

#[test]
fn no_order_of_things_loses_a_message_or_answers_it_twice_or_goes_on_for_ever() {
    for bounds in worlds() {
        let explored = explore(bounds);
        let (states, ends) = (explored.edges.len(), explored.ends.len());
        let Bounds { messages, faults, tries } = bounds;
        println!(
            "{messages} messages, {faults} faults, {tries} tries: {states} states, {ends} ends, {} moves",
            explored.moves
        );
        assert!(ends > 0, "it never ends");
        assert_eq!(explored.endless(), None, "from there it never ends");
    }
}
