//! Measures the warm round trip of a message beside the cost of a commit on the same disk, what
//! an idle host and runner occupy, and what a healthy session notices of hostile ones. Everything in
//! one run, with the real binaries that lie beside this one.
//!
//! `cargo run --release -p twobox-tests --bin bench -- [--runtime process|docker] [--rounds N]
//! [--only round-trip|hostile] [--json FILE]`

mod floor;
mod footprint;
mod host;
mod hostile;
mod sample;

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::host::Host;
use crate::sample::Sample;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    RoundTrip,
    Hostile,
}

struct Options {
    runtimes: Vec<String>,
    rounds: usize,
    only: Option<Scenario>,
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(usage) => {
            eprintln!("bench: {usage}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        runtimes: vec!["process".to_owned(), "docker".to_owned()],
        rounds: 300,
        only: None,
        json: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().ok_or(format!("{name} needs a value"))?;
        match name.as_str() {
            "--runtime" => options.runtimes = vec![value],
            "--rounds" => {
                options.rounds =
                    value.parse().map_err(|_| format!("--rounds {value}: not a number"))?;
            }
            "--only" => {
                options.only = Some(match value.as_str() {
                    "round-trip" => Scenario::RoundTrip,
                    "hostile" => Scenario::Hostile,
                    other => return Err(format!("--only {other}: no such scenario")),
                });
            }
            "--json" => options.json = Some(value.into()),
            _ => return Err(format!("unknown option {name}")),
        }
    }
    Ok(options)
}

fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let mut report = Vec::new();
    println!("{:<9} {:<34} {:>10} {:>10}", "runtime", "figure", "p50", "p99");
    for runtime in &options.runtimes {
        for scenario in [Scenario::RoundTrip, Scenario::Hostile] {
            if options.only.is_some_and(|only| only != scenario) {
                continue;
            }
            let measured = match scenario {
                Scenario::RoundTrip => measure(runtime, options.rounds),
                Scenario::Hostile => hostile::measure(runtime, options.rounds),
            };
            match measured {
                Ok(figures) => report.push(figures),
                // A machine without an engine still gets the figures of the other runtime.
                Err(error) if options.runtimes.len() > 1 => {
                    println!("{runtime:<9} not measured: {error}");
                }
                Err(error) => return Err(error),
            }
        }
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)?;
    }
    Ok(())
}

fn measure(runtime: &str, rounds: usize) -> Result<Value, Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let host = Host::start(&data, runtime)?;
    let mut client = host.client()?;
    for round in 0..rounds.min(20) {
        client.round_trip(&format!("warm-up {round}"))?;
    }
    let commit = floor::commit(&data, rounds)?;
    let (mut accept, mut deliver) = (Sample::default(), Sample::default());
    for round in 0..rounds {
        let trip = client.round_trip(&format!("message {round}"))?;
        accept.add(trip.accept);
        deliver.add(trip.deliver);
    }
    let commit_after = floor::commit(&data, rounds)?;
    let commit = commit.join(commit_after);
    let (host_rss, runner_rss) = footprint::resident(host.pid(), &data)?;

    let ratio = deliver.p50() / (3.0 * commit.p50());
    let row = |figure: &str, sample: &Sample| {
        println!("{runtime:<9} {figure:<34} {:>7.2} ms {:>7.2} ms", sample.p50(), sample.p99());
    };
    row("commit, DELETE/EXTRA (floor)", &commit);
    row("sent to accepted", &accept);
    row("accepted to delivered", &deliver);
    println!("{runtime:<9} {:<34} {ratio:>7.2} x", "  of three commits");
    println!("{runtime:<9} {:<34} {:>6.1} MiB", "host, resident", mib(host_rss));
    println!("{runtime:<9} {:<34} {:>6.1} MiB", "runner, idle, resident", mib(runner_rss));
    Ok(json!({
        "scenario": "round-trip",
        "runtime": runtime,
        "rounds": rounds,
        "commit_ms": commit.to_json(),
        "accept_ms": accept.to_json(),
        "deliver_ms": deliver.to_json(),
        "deliver_per_three_commits": ratio,
        "host_resident_bytes": host_rss,
        "runner_resident_bytes": runner_rss,
    }))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
