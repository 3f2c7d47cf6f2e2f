use super::Figure;
use crate::commits::Observer;
use crate::installation::Installation;
use crate::options::Options;
use crate::report::{Report, Row};
use crate::sample::Sample;
use crate::{Error, floor};

pub(crate) static FIGURE: Figure = Figure {
    name: "wake",
    about: "from the end of the inbox's commit until a runner that waits claims the message",
    measure,
};

/// At most so many milliseconds, 10, in 99 of 100 cases.
const WAKE_MAX: f64 = 10.0;

fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    for runtime in &options.runtimes {
        let installation = Installation::new(*runtime)?;
        let host = installation.up()?;
        let (mut client, to) = host.warm_client(options.rounds.min(20))?;
        let event = floor::file_event(installation.aside(), options.rounds)?;
        let observer = Observer::start(&installation.session(&to)?)?;
        let (mut begun, mut durable) = (Sample::default(), Sample::default());
        for round in 0..options.rounds * options.size(3, 1) {
            let observed = observer.round_trip(&mut client, &format!("message {round}"))?;
            begun.add(observed.claim.begun.saturating_duration_since(observed.accept.done));
            durable.add(observed.claim.done.saturating_duration_since(observed.accept.done));
        }
        let row = Row::sample("commit to claim", &begun).beside("a file event", event.p50());
        report.add(&FIGURE, row.p99_at_most(WAKE_MAX).on(*runtime));
        report.add(&FIGURE, Row::sample("commit to durable claim", &durable).on(*runtime));
    }
    Ok(())
}
