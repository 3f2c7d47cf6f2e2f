use twobox_tests::Runtime;

use super::Figure;
use crate::commits::Observer;
use crate::installation::Installation;
use crate::options::Options;
use crate::report::{Report, Row, Unit};
use crate::sample::Sample;
use crate::{Error, engine, floor};

pub(crate) static FIGURE: Figure = Figure {
    name: "cold-start",
    about: "from the inbox's commit until a runner that had to be started claims the message",
    measure,
};

/// At most so many milliseconds, 30, may be added to what the runtime's own start takes.
const ADDED_MAX: f64 = 30.0;

fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    for runtime in &options.runtimes {
        let mut installation = Installation::new(*runtime)?;
        installation.set("CONTAINERS_IDLE", "100ms");
        let host = installation.up()?;
        let (mut client, to) = host.warm_client(1)?;
        let observer = Observer::start(&installation.session(&to)?)?;
        let rounds = match runtime {
            Runtime::Process | Runtime::Sandbox => options.size(50, 2),
            Runtime::Docker => options.size(20, 2),
        };
        let mut cold = Sample::default();
        for round in 0..rounds {
            installation.wait_at_rest()?;
            let observed = observer.round_trip(&mut client, &format!("message {round}"))?;
            cold.add(observed.claim.begun.saturating_duration_since(observed.accept.done));
        }
        let (floor, what) = match runtime {
            Runtime::Process | Runtime::Sandbox => {
                (floor::process_start(installation.aside(), rounds)?, "a trivial process")
            }
            Runtime::Docker => {
                (engine::container_start(installation.aside(), rounds)?, "a trivial container")
            }
        };
        let mut add = |row: Row| report.add(&FIGURE, row.on(*runtime));
        add(Row::sample("commit to claim, cold", &cold).beside(what, floor.p50()));
        let added = cold.p50() - floor.p50();
        add(Row::number("added to the runtime's own start", Unit::Millis, added).at_most(ADDED_MAX));
    }
    Ok(())
}
