//! Agents that a model answers, with a stand-in in the vendor's place: what a person sees, what is asked
//! and paid for, and where the key of the upstream is.

mod answers;
mod budgets;
mod claude;
mod codex;
mod counts;
pub(crate) mod crashes;
mod ends;
mod keys;
mod kills;
mod ledger;
mod network;
mod permissions;
mod planted;
mod recordings;
mod servers;
mod troubles;
mod vendors;

use std::time::Duration;

use serde_json::Value;
use twobox_tests::models::{ModelServer, Sold, Tally};
use twobox_tests::{Mode, Setup, World, wait_for};

/// What the upstreams want to see.
const KEY: &str = "sk-stand-in-7b1c9d0e4f";

/// The model of most agents here.
pub(crate) const MODEL: &str = "anthropic/claude-x";

/// How long a turn may take whose tries are put off.
const LONG: Duration = Duration::from_secs(60);

/// An installation whose upstreams are all `server`.
pub(crate) fn towards(setup: Setup, server: &ModelServer) -> Setup {
    setup.models_at(server)
}

/// The same, with no host yet: every upstream has its key, and `ada` is answered by `models`.
pub(crate) fn made(setup: Setup, server: &ModelServer, mode: Mode, models: &[&str]) -> World {
    let world = towards(setup, server).make();
    for upstream in ["anthropic", "openai", "router"] {
        set_secret(&world, upstream, KEY);
    }
    add(&world, "ada", mode, models);
    world
}

/// With a host, and `ada` answered by [`MODEL`].
fn up(setup: Setup, server: &ModelServer) -> World {
    let world = made(setup, server, Mode::Shared, &[MODEL]);
    world.up();
    world
}

/// Adds an agent that `models` answer, each when those before it do not.
pub(crate) fn add(world: &World, name: &str, mode: Mode, models: &[&str]) {
    let mode = match mode {
        Mode::Shared => "shared",
        Mode::PerThread => "per-thread",
    };
    let models = models.iter().flat_map(|model| ["--model", model]);
    let add = ["agents", "add", name, "--session-mode", mode];
    world.twobox(&add.into_iter().chain(models).collect::<Vec<_>>());
}

pub(crate) fn set_secret(world: &World, name: &str, value: &str) {
    world.set_secret(name, value);
}

/// What the host says was used by all models.
fn used(world: &World) -> Value {
    let said = world.twobox(&["--json", "usage", "--by", "model"]);
    serde_json::from_str::<Value>(&said).unwrap()["total"].clone()
}

/// Waits until the host has counted so many requests that ended, whatever came of them.
#[track_caller]
pub(crate) fn wait_used(world: &World, requests: u64) -> Value {
    wait_for(&format!("{requests} requests to be counted"), || {
        Some(used(world)).filter(|used| used["requests"] == requests)
    })
}

/// All that was sold.
fn whole(sold: &Sold) -> Tally {
    let mut whole = Tally::default();
    for tally in sold.values() {
        whole.answers += tally.answers;
        whole.tokens.add(&tally.tokens);
    }
    whole
}

/// All tokens alike, as budgets see them.
pub(crate) fn tokens(sold: &Sold) -> u64 {
    let tokens = whole(sold).tokens;
    tokens.prompt() + tokens.output
}

/// Shows that the host counted what was sold, and says the counts.
#[track_caller]
fn assert_counted(used: &Value, server: &ModelServer) {
    let sold = whole(&server.sold()).tokens;
    let counted =
        ["input", "cache_read", "cache_write", "output"].map(|of| used[of].as_u64().unwrap());
    assert_eq!(counted, [sold.input, sold.cache_read, sold.cache_write, sold.output], "{used}");
}
