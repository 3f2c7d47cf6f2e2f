//! What was asked for on the command line.

use std::path::PathBuf;

use twobox_tests::Runtime;

use crate::figures::FIGURES;

pub(crate) const USAGE: &str = "\
usage: bench [OPTIONS]

  --only NAME      measure this figure only; may be repeated
  --runtime KIND   process, sandbox or docker; may be repeated (default: those that work here)
  --podman SOCKET  in side-by-side, also the engine that listens there
  --quick          small sizes: shows that every figure can be measured, not what it is
  --rounds N       how often a thing that takes milliseconds is measured (default: 300)
  --json FILE      write the results there as JSON
  --plots DIR      draw idle-cost.svg and latency-split.svg there
  --list           list the figures
  --help           this text

The data lies in TMPDIR, so that names the disk that is measured. The image of the runner is
TWOBOX_TEST_IMAGE, or twobox-runner:test, or twobox-runner:local.";

/// What to do.
pub(crate) enum Command {
    Measure(Options),
    /// The other process of the floor of a file event.
    Answer(PathBuf),
    List,
    Help,
}

/// What to measure, and how often.
pub(crate) struct Options {
    pub(crate) runtimes: Vec<Runtime>,
    pub(crate) quick: bool,
    /// How often a thing that takes milliseconds is measured.
    pub(crate) rounds: usize,
    pub(crate) json: Option<PathBuf>,
    pub(crate) plots: Option<PathBuf>,
    /// The socket of one more engine.
    pub(crate) podman: Option<String>,
    only: Vec<String>,
}

impl Options {
    pub(crate) fn wants(&self, figure: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == figure)
    }

    /// `full`, or `quick` in a run that only shows that everything works.
    pub(crate) fn size<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut args = args;
    let (mut rounds, mut json, mut plots, mut quick) = (None, None, None, false);
    let (mut runtimes, mut only, mut podman) = (Vec::new(), Vec::new(), None);
    while let Some(name) = args.next() {
        let mut value = || args.next().ok_or(format!("{name} needs a value"));
        match name.as_str() {
            "--only" => only.push(known(value()?)?),
            "--runtime" => runtimes.push(runtime(&value()?)?),
            "--podman" => podman = Some(value()?),
            "--quick" => quick = true,
            "--rounds" => {
                let text = value()?;
                let number = text.parse().ok().filter(|number| *number > 0);
                rounds = Some(number.ok_or(format!("--rounds {text}: not a number above zero"))?);
            }
            "--json" => json = Some(value()?.into()),
            "--plots" => plots = Some(value()?.into()),
            "--list" => return Ok(Command::List),
            "--help" | "-h" => return Ok(Command::Help),
            "answer-file-events" => return Ok(Command::Answer(value()?.into())),
            _ => return Err(format!("unknown option {name}")),
        }
    }
    if runtimes.is_empty() {
        for runtime in Runtime::ALL {
            match runtime.available() {
                Ok(()) => runtimes.push(runtime),
                Err((_, missing)) => eprintln!("bench: without {}: {missing}", runtime.word()),
            }
        }
    }
    let rounds = rounds.unwrap_or(if quick { 10 } else { 300 });
    Ok(Command::Measure(Options { runtimes, quick, rounds, json, plots, podman, only }))
}

fn known(name: String) -> Result<String, String> {
    let known = FIGURES.iter().any(|figure| figure.name == name);
    known.then_some(()).ok_or(format!("--only {name}: no such figure, see --list"))?;
    Ok(name)
}

fn runtime(word: &str) -> Result<Runtime, String> {
    Runtime::named(word).ok_or(format!("--runtime {word}: process, sandbox or docker"))
}
