//! A seeded simulation: the host's decisions, the claim rule, delivery and admission are driven by a
//! virtual clock against a model of runners, containers, channels and a host that crash, stall and
//! lose events; and in [`schedules`], the scheduler's decisions and its statements on a real `host.db`
//! against a model of hosts that die or go on with what they had read. One seed gives one trace.
//! Invariants are asserted after every step, and once the faults stop everything has to settle.
//!
//! `TWOBOX_SIM_SEEDS=N` runs N seeds instead of the usual number, `TWOBOX_SIM_SEED=S` runs one and
//! prints its trace.

mod dice;
mod disk;
mod explore;
mod host;
mod model;
mod runner;
mod schedules;
mod tasks;
mod trace;
mod world;

use world::World;

/// Seeds that every run of the suite plays: less than half a minute on one core.
const SEEDS: u64 = 2000;

#[test]
fn nothing_is_lost_or_done_twice_whatever_fails() {
    let test = "nothing_is_lost_or_done_twice_whatever_fails";
    trace::play_seeds(test, SEEDS, |trace| World::new(trace).play());
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    trace::assert_repeatable(|trace| World::new(trace).play());
}
