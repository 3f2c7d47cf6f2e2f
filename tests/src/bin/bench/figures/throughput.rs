use twobox_shared::durability::Durability;
use twobox_tests::Runtime;

use super::Figure;
use super::talk::{talk, threads};
use crate::installation::Installation;
use crate::options::Options;
use crate::report::{Report, Row, Unit};
use crate::{Error, floor};

pub(crate) static FIGURE: Figure = Figure {
    name: "throughput",
    about: "messages per second from sent to answered, all runners awake",
    measure,
};

/// Each runtime with each promise.
pub(super) fn both(options: &Options) -> impl Iterator<Item = (Runtime, Durability)> {
    let choices = [Durability::PowerLoss, Durability::ProcessCrash];
    options.runtimes.iter().flat_map(move |runtime| choices.map(|choice| (*runtime, choice)))
}

fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    for (runtime, durability) in both(options) {
        let sizes: &[(usize, usize)] = match runtime {
            _ if options.quick => &[(1, 20), (3, 5)],
            Runtime::Process | Runtime::Sandbox => &[(1, 500), (10, 100), (100, 20)],
            Runtime::Docker => &[(1, 500), (10, 100)],
        };
        for (sessions, each) in sizes {
            let mut installation = Installation::new(runtime)?;
            installation.set("DURABILITY", durability.word());
            let host = installation.up()?;
            let to = threads(*sessions);
            talk(&host.socket(), &to, 1)?; // now all are awake
            let commit = floor::commit(installation.aside(), "EXTRA", options.rounds)?;
            let many = talk(&host.socket(), &to, *each)?;
            let rate = (sessions * each) as f64 / many.span().as_secs_f64();
            let what = match sessions {
                1 => format!("1 session, {}", durability.word()),
                _ => format!("{sessions} sessions, {}", durability.word()),
            };
            // What one session at a time could do with three commits for each message.
            let one_by_one = 1000.0 / (3.0 * commit.p50());
            let row = Row::number(what, Unit::PerSecond, rate).beside("one by one", one_by_one);
            report.add(&FIGURE, row.on(runtime));
        }
    }
    Ok(())
}
