use std::time::Duration;

use twobox_tests::Runtime;

use super::Figure;
use crate::commits::{Observer, STAGES};
use crate::installation::Installation;
use crate::options::Options;
use crate::report::{Report, Row};
use crate::sample::Sample;
use crate::{Error, floor, stand_in};

pub(crate) static FIGURE: Figure = Figure {
    name: "round-trip",
    about: "one message to a runner that is awake, and its answer",
    measure,
};

/// What the rows of the stages begin with.
pub(crate) const STAGE: &str = "· ";

/// At most so many times, 1.5, as long as three commits on the same disk.
const COMMITS_MAX: f64 = 1.5;

/// The pause between two messages, in commits: what follows a delivery has ended then. A person
/// leaves a longer one.
const PAUSE: f64 = 6.0;

fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    let mut ours = None;
    for runtime in &options.runtimes {
        let p50 = measure_on(*runtime, options, report)?;
        ours.get_or_insert(p50);
    }
    let installation = Installation::new(Runtime::Process)?;
    let session = {
        let host = installation.up()?;
        let (_, to) = host.warm_client(1)?;
        installation.session(&to)?
    };
    let sample = stand_in::round_trips(&session, options.size(30, 2))?;
    let row = Row::sample("usual design: accepted to delivered", &sample);
    report.add(&FIGURE, row.beside("Twobox", ours.unwrap_or(f64::NAN)));
    Ok(())
}

/// Returns the median time from accepted to delivered.
fn measure_on(runtime: Runtime, options: &Options, report: &mut Report) -> Result<f64, Error> {
    let installation = Installation::new(runtime)?;
    let host = installation.up()?;
    let (mut client, to) = host.warm_client(options.rounds.min(20))?;
    let rounds = options.rounds;
    let before = floor::commit(installation.aside(), "EXTRA", rounds)?;
    let pause = Duration::from_secs_f64(before.p50() * PAUSE / 1000.0);
    let (mut accept, mut deliver) = (Sample::default(), Sample::default());
    for round in 0..rounds {
        std::thread::sleep(pause);
        let trip = client.round_trip(&format!("message {round}"))?;
        accept.add(trip.accepted - trip.sent);
        deliver.add(trip.delivered - trip.accepted);
    }
    let after = floor::commit(installation.aside(), "EXTRA", rounds)?;
    // Apart from the rounds above: watching takes time of its own.
    let observer = Observer::start(&installation.session(&to)?)?;
    let mut stages = STAGES.map(|_| Sample::default());
    for round in 0..rounds {
        let observed = observer.round_trip(&mut client, &format!("watched message {round}"))?;
        for (stage, span) in stages.iter_mut().zip(observed.stages()) {
            stage.add(span);
        }
    }
    let commit = before.join(after);
    let open = floor::open_insert_close(installation.aside(), rounds)?;
    let mut add = |row: Row| report.add(&FIGURE, row.on(runtime));
    add(Row::sample("commit, DELETE/EXTRA", &commit));
    add(Row::sample("open, insert, close", &open));
    add(Row::sample("sent to accepted", &accept).beside("one commit", commit.p50()));
    add(Row::sample("accepted to delivered", &deliver)
        .beside("three commits", 3.0 * commit.p50())
        .at_most(COMMITS_MAX * 3.0 * commit.p50()));
    // What the boxes' rule allows: each commit on a connection of its own.
    add(Row::sample("accepted to delivered, again", &deliver)
        .beside("three of open, insert, close", 3.0 * open.p50())
        .at_most(COMMITS_MAX * 3.0 * open.p50()));
    for (name, sample) in STAGES.iter().zip(&stages) {
        add(Row::sample(format!("{STAGE}{name}"), sample));
    }
    Ok(deliver.p50())
}
