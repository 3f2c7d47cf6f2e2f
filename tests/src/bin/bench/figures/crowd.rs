use std::time::Duration;

use twobox_tests::Runtime;

use super::Figure;
use super::talk::{Talk, talk, threads};
use crate::Error;
use crate::installation::Installation;
use crate::options::Options;
use crate::report::{Report, Row, Unit};
use crate::sample::Sample;

pub(crate) static FIGURE: Figure = Figure {
    name: "crowd",
    about: "many sessions that all get a message at the same time, again and again",
    measure,
};

fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    for runtime in &options.runtimes {
        let sessions = match runtime {
            Runtime::Process | Runtime::Sandbox => options.size(watchable()?.min(200), 5),
            Runtime::Docker => options.size(50, 3),
        };
        let waves = options.size(10, 2);
        let installation = Installation::new(*runtime)?;
        let host = installation.up()?;
        let to = threads(sessions);
        let cold = talk(&host.socket(), &to, 1)?;
        let mut waits = vec![Sample::default(); sessions];
        let mut all = Sample::default();
        for _ in 0..waves {
            for (with, wait) in waits_of(&talk(&host.socket(), &to, 1)?) {
                waits[with].add(wait);
                all.add(wait);
            }
        }
        let slowest = waits.iter().map(Sample::p50).fold(0.0, f64::max);
        let mut add = |row: Row| report.add(&FIGURE, row.on(*runtime));
        let first: Sample = waits_of(&cold).map(|(_, wait)| wait).collect();
        add(Row::sample(format!("{sessions} cold starts at once, sent to answered"), &first));
        add(Row::sample(format!("{sessions} awake, sent to answered"), &all));
        add(Row::number("slowest answer of all", Unit::Millis, all.longest())
            .beside("median", all.p50()));
        add(Row::number("median of the slowest session", Unit::Millis, slowest)
            .beside("median", all.p50()));
    }
    Ok(())
}

/// How many processes of one user can watch files here, with room for those that do already. A
/// runner beyond them would poll, which is another figure.
fn watchable() -> Result<usize, Error> {
    const OTHERS: usize = 28;
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_instances")?;
    Ok(limit.trim().parse::<usize>()?.saturating_sub(OTHERS).max(1))
}

fn waits_of(wave: &Talk) -> impl Iterator<Item = (usize, Duration)> {
    wave.answered().iter().map(|answered| (answered.with, answered.delivered - answered.sent))
}
