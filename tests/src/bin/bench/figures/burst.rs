use super::Figure;
use super::talk::{talk, threads};
use super::throughput::both;
use crate::installation::Installation;
use crate::options::Options;
use crate::report::{Report, Row, Unit};
use crate::{Error, floor};

pub(crate) static FIGURE: Figure =
    Figure { name: "burst", about: "a thousand messages at once for one session", measure };

/// At least so many messages a second, 5000.
const ACCEPTED_MIN: f64 = 5000.0;

fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    let count = options.size(1000, 50);
    for (runtime, durability) in both(options) {
        let mut installation = Installation::new(runtime)?;
        installation.set("DURABILITY", durability.word());
        let host = installation.up()?;
        let to = threads(1);
        talk(&host.socket(), &to, 1)?;
        let commit = floor::commit(installation.aside(), "EXTRA", options.rounds)?;
        let burst = talk(&host.socket(), &to, count)?;
        let rate = |span: std::time::Duration| count as f64 / span.as_secs_f64();
        let name = |what: &str| format!("{what}, {}", durability.word());
        let mut add = |row: Row| report.add(&FIGURE, row.on(runtime));
        add(Row::number(name("accepted"), Unit::PerSecond, rate(burst.span_of_accepting()))
            .beside("a commit for each", 1000.0 / commit.p50())
            .at_least(ACCEPTED_MIN));
        add(Row::number(name("answered"), Unit::PerSecond, rate(burst.span())));
        add(Row::number(name("answers out of order"), Unit::Count, burst.overtakings() as f64)
            .at_most(0.0));
    }
    Ok(())
}
