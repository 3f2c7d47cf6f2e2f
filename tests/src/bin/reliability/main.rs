//! Storms against real binaries under load, judged by ledgers that the product cannot touch, with one
//! scoreboard in the end.
//!
//! `reliability [--seed N] [--kills N] [--only FAULT] [--runtime process|docker|both] [--json FILE]
//! [--also FILE] [--quick]`; `scripts/reliability` builds what it needs and runs it. The seed decides
//! everything that the tester decides: what is said, whom a fault hits, when and for how long.
//!
//! One [`faults::Fault`] is one way to hurt an installation; a new one is a module in `faults` and a
//! line in its `all`. [`engine`] does the rest for each: load, faults, settling, verdict.
#![expect(clippy::unwrap_used, reason = "a tester that cannot go on has failed")]

mod dice;
mod engine;
mod faults;
mod load;
mod options;
mod scoreboard;
mod site;

use std::process::ExitCode;

use twobox_tests::Runtime;

use crate::engine::Plan;
use crate::options::Options;
use crate::scoreboard::Scoreboard;

fn main() -> ExitCode {
    match Options::read(std::env::args().skip(1)) {
        Ok(options) => run(&options),
        Err(usage) => {
            eprintln!("reliability: {usage}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> ExitCode {
    let mut board = Scoreboard::new(options.seed, options.kills);
    if let Some(path) = &options.also
        && let Err(error) = board.read_parts(path)
    {
        eprintln!("reliability: {}: {error}", path.display());
        return ExitCode::from(2);
    }
    eprintln!("reliability: seed {}", options.seed);
    for plan in plans(options) {
        if let Err((_, missing)) = plan.runtime.available() {
            board.skip(&plan, &missing);
            continue;
        }
        eprintln!("reliability: {} {}", plan.runtime.word(), plan.fault);
        let outcome = engine::run(&plan);
        for problem in &outcome.problems {
            eprintln!("reliability: FAILED {} {}: {problem}", plan.runtime.word(), plan.fault);
        }
        if let Some(folder) = &outcome.kept {
            let (runtime, fault) = (plan.runtime.word(), plan.fault);
            eprintln!(
                "reliability: seed {}, all files are kept in {}",
                plan.seed,
                folder.display()
            );
            eprintln!(
                "reliability: replay: scripts/reliability {}--seed {} --kills {} --runtime \
                 {runtime} --only {fault}",
                if options.quick { "--quick " } else { "" },
                plan.seed,
                options.kills
            );
        }
        board.add(&plan, outcome);
    }
    board.print();
    if let Some(path) = &options.json
        && let Err(error) = std::fs::write(path, board.to_json())
    {
        eprintln!("reliability: {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    match board.is_clean() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// What is run: each fault that the runtimes have, or with `--quick` a storm of them all.
fn plans(options: &Options) -> Vec<Plan> {
    let all: Vec<(Runtime, &'static str, bool)> = options
        .runtimes
        .iter()
        .flat_map(|runtime| {
            let faults = faults::all(*runtime, options.quick);
            faults.into_iter().map(|fault| (*runtime, fault.name(), fault.kills()))
        })
        .collect();
    // Counted before anything is left out, so that one of them alone is what it was among all.
    let killing = all.iter().filter(|(.., kills)| *kills).count().max(1);
    let share = options.kills.div_ceil(killing);
    all.into_iter()
        .filter(|(_, name, _)| options.only.as_deref().is_none_or(|only| only == *name))
        .map(|(runtime, fault, kills)| Plan {
            runtime,
            fault,
            seed: options.seed,
            injections: if kills { share } else { share.div_ceil(2) },
            quick: options.quick,
        })
        .collect()
}
