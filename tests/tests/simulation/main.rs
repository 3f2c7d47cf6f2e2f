//! A seeded simulation: the host's decisions, the claim rule, delivery and admission are driven by a
//! virtual clock against a model of runners, containers, channels and a host that crash, stall and
//! lose events. One seed gives one trace. Invariants are asserted after every step, and once the
//! faults stop everything has to settle.
//!
//! `TWOBOX_SIM_SEEDS=N` runs N seeds instead of the usual number, `TWOBOX_SIM_SEED=S` runs one and
//! prints its trace.

mod disk;
mod host;
mod model;
mod runner;
mod tasks;
mod world;

use world::World;

/// Seeds that every run of the suite plays: less than half a minute on one core.
const SEEDS: u64 = 2000;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn nothing_is_lost_or_done_twice_whatever_fails() {
    if let Some(seed) = variable("TWOBOX_SIM_SEED") {
        let mut world = World::new(seed);
        world.print = true;
        world.play();
        return;
    }
    for seed in 0..variable("TWOBOX_SIM_SEEDS").unwrap_or(SEEDS) {
        // Whatever breaks, in the model or in the product's own code, the seed is what is needed.
        if let Err(panic) = std::panic::catch_unwind(|| World::new(seed).play()) {
            eprintln!(
                "replay: TWOBOX_SIM_SEED={seed} cargo test -p twobox-tests --test simulation"
            );
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 77, 4096] {
        assert_eq!(World::new(seed).play(), World::new(seed).play(), "seed {seed}");
    }
    assert_ne!(World::new(1).play(), World::new(2).play());
}
