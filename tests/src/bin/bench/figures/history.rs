use std::time::Instant;

use super::Figure;
use crate::commits::Observer;
use crate::installation::Installation;
use crate::options::Options;
use crate::report::{Report, Row, Unit};
use crate::sample::Sample;
use crate::{Error, history, process, stand_in};

pub(crate) static FIGURE: Figure = Figure {
    name: "history",
    about: "what a conversation costs whose boxes hold so many settled messages",
    measure,
};

/// How much more a long history may cost than a short one, which is nothing, before it is called
/// so: two measurements of the same thing differ by this on a busy disk.
const TOLERANCE: f64 = 1.5;

/// The trees of a million rows are deeper by a page or two; a look that read them all would read a
/// hundred times as much.
const READ_TOLERANCE: f64 = 3.0;

/// What both sides read from files for one message and its answer: no matter of time.
const READ: &str = "read by both sides for one message";

/// The history that the others are held against.
const SHORT: i64 = 10;

fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    let sizes: &[i64] = if options.quick { &[SHORT, 10_000] } else { &[SHORT, 10_000, 1_000_000] };
    for runtime in &options.runtimes {
        let (mut first_trip, mut first_sweep) = (None, None);
        let mut first_read = None;
        let (mut first_inbox, mut first_outbox) = (None, None);
        for size in sizes {
            let installation = Installation::new(*runtime)?;
            let session = {
                let host = installation.up()?;
                let (_, to) = host.warm_client(1)?;
                installation.session(&to)?
            };
            history::add(&session, *size)?;
            let (mut trip, mut sweep) = (Sample::default(), Sample::default());
            let read;
            {
                let host = installation.up()?;
                let (mut client, _) = host.warm_client(options.rounds.min(20))?;
                let observer = Observer::start(&session)?;
                let mut sides = installation.runners()?;
                sides.push(host.pid());
                let all_read =
                    || sides.iter().map(|pid| process::read(*pid)).sum::<Result<f64, _>>();
                let before = all_read()?;
                for round in 0..options.rounds {
                    let observed = observer.round_trip(&mut client, &format!("message {round}"))?;
                    trip.add(observed.trip.delivered - observed.trip.accepted);
                    sweep.add(observed.sweep());
                }
                read = (all_read()? - before) / options.rounds as f64;
            }
            let row = Row::number(format!("{READ}, {size} rows"), Unit::MiB, read).on(*runtime);
            let short = *first_read.get_or_insert(read);
            report.add(
                &FIGURE,
                match *size == SHORT {
                    true => row,
                    false => {
                        row.beside(format!("{SHORT} rows"), short).at_most(short * READ_TOLERANCE)
                    }
                },
            );
            let mut add = |what: &str, sample: &Sample, first: &mut Option<f64>, limit: bool| {
                let row = Row::sample(format!("{what}, {size} rows"), sample).on(*runtime);
                let first = *first.get_or_insert(sample.p50());
                let row = match *size == SHORT {
                    true => row,
                    false => row.beside(format!("{SHORT} rows"), first),
                };
                let limited = limit && *size != SHORT;
                let row = if limited { row.at_most(first * TOLERANCE) } else { row };
                report.add(&FIGURE, row);
            };
            add("accepted to delivered", &trip, &mut first_trip, true);
            add("sweep and delivery pass", &sweep, &mut first_sweep, true);
            // The stand-in's boxes are these, and what runs the runner is not its business.
            if *runtime == options.runtimes[0] {
                let polls = options.size(10, 2);
                let inbox = timed(polls, || stand_in::poll_inbox(&session).map(drop))?;
                let outbox = timed(polls, || stand_in::poll_outbox(&session).map(drop))?;
                add("usual design: a poll of the runner", &inbox, &mut first_inbox, false);
                add("usual design: a poll of the host", &outbox, &mut first_outbox, false);
            }
        }
    }
    Ok(())
}

fn timed(rounds: usize, work: impl Fn() -> rusqlite::Result<()>) -> Result<Sample, Error> {
    let mut sample = Sample::default();
    for _ in 0..rounds {
        let start = Instant::now();
        work()?;
        sample.add(start.elapsed());
    }
    Ok(sample)
}
