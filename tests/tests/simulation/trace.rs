//! What happened in the play of one seed: a hash to compare plays by, and the lines to show when one
//! fails.

use std::hash::{DefaultHasher, Hash, Hasher};

use twobox_shared::time::UnixMillis;

/// How many lines are shown of a play that failed.
const TAIL: usize = 60;

#[derive(Clone)]
pub(crate) struct Trace {
    seed: u64,
    /// The test that plays such seeds.
    test: &'static str,
    print: bool,
    hash: DefaultHasher,
    lines: Vec<String>,
}

impl Trace {
    pub(crate) fn new(test: &'static str, seed: u64, print: bool) -> Self {
        Self { seed, test, print, hash: DefaultHasher::new(), lines: Vec::new() }
    }

    /// What decides everything that is left to chance.
    pub(crate) fn dice(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed)
    }

    pub(crate) fn note(&mut self, now: UnixMillis, text: String) {
        text.hash(&mut self.hash);
        if self.print {
            eprintln!("{now} {text}");
        }
        self.lines.push(text);
    }

    pub(crate) fn fail(&self, what: &str) -> ! {
        match self.test {
            "" => panic!("{what}\n{}", self.story()), // no seed plays it again
            test => panic!("{what}\n{}\n{}", replay(test, self.seed), self.story()),
        }
    }

    /// The last lines.
    pub(crate) fn story(&self) -> String {
        self.lines[self.lines.len().saturating_sub(TAIL)..].join("\n")
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.finish()
    }
}

/// The line that plays a seed again.
fn replay(test: &str, seed: u64) -> String {
    format!("replay: TWOBOX_SIM_SEED={seed} cargo test -p twobox-tests --test simulation {test}")
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Plays as many seeds as somebody wants, or else `usual`; or the one that somebody wants to see.
pub(crate) fn play_seeds(test: &'static str, usual: u64, play: impl Fn(Trace) -> u64) {
    if let Some(seed) = variable("TWOBOX_SIM_SEED") {
        play(Trace::new(test, seed, true));
        return;
    }
    for seed in 0..variable("TWOBOX_SIM_SEEDS").unwrap_or(usual) {
        // Whatever breaks, in the model or in the product's own code, the seed is what is needed.
        let trace = Trace::new(test, seed, false);
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play(trace)));
        if let Err(panic) = played {
            eprintln!("{}", replay(test, seed));
            std::panic::resume_unwind(panic);
        }
    }
}

/// Shows that a seed says the same each time, and that another one says something else.
pub(crate) fn assert_repeatable(play: impl Fn(Trace) -> u64) {
    let play = |seed| play(Trace::new("", seed, false));
    for seed in [1, 77, 4096] {
        assert_eq!(play(seed), play(seed), "seed {seed}");
    }
    assert_ne!(play(1), play(2));
}
