//! The benchmark: what a message, an idle session, a long history, a crowd and schedules cost, with
//! the real binaries that lie beside this one, each figure beside the floor that the same machine and
//! disk set in the same run.
//!
//! `scripts/bench --help` tells the options, `docs/performance.md` how to read the results. The
//! product is a black box here: the benchmark talks to its socket, looks at its files and at
//! `/proc`, and takes the times inside a round trip from the file events of the two boxes.

mod client;
mod commits;
mod engine;
mod figures;
mod floor;
mod history;
mod installation;
mod options;
mod plot;
mod process;
mod report;
mod sample;
mod schedules;
mod stand_in;
mod trace;
mod trivial;

use std::process::ExitCode;

use crate::figures::FIGURES;
use crate::options::{Command, Options};
use crate::report::Report;

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let options = match options::parse(std::env::args().skip(1)) {
        Ok(Command::Measure(options)) => options,
        Ok(Command::Answer(dir)) => return exit(floor::answer(&dir)),
        Ok(Command::Help) => {
            println!("{}", options::USAGE);
            return ExitCode::SUCCESS;
        }
        Ok(Command::List) => {
            for figure in FIGURES {
                println!("{:<12} {}", figure.name, figure.about);
            }
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("bench: {wrong} (see --help)");
            return ExitCode::from(2);
        }
    };
    exit(run(&options))
}

fn exit(result: Result<(), Error>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures every figure that was asked for. One that cannot be measured is reported and the others
/// go on, so that an hour's run is not lost.
fn run(options: &Options) -> Result<(), Error> {
    let mut report = Report::new(options)?;
    let mut failed = Vec::new();
    println!("{}", report.machine());
    for figure in FIGURES.iter().filter(|figure| options.wants(figure.name)) {
        eprintln!("bench: {}", figure.name);
        let before = report.rows().len();
        let result = (figure.measure)(options, &mut report);
        println!("\n{}", report.table(figure, before));
        if let Err(error) = result {
            eprintln!("bench: {}: {error}", figure.name);
            failed.push(figure.name);
        }
        // Saved after each figure: what was measured is not lost with what comes.
        report.save(options)?;
    }
    if let Some(dir) = &options.plots {
        plot::draw(&report, dir)?;
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("not measured: {}", failed.join(", ")).into()),
    }
}
