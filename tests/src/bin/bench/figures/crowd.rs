use std::time::Duration;

use twobox_tests::Runtime;

use super::Figure;
use super::talk::{Standing, Talk, talk, threads};
use crate::client::{Address, Listener};
use crate::installation::{Host, Installation};
use crate::options::Options;
use crate::report::{Report, Row, Unit};
use crate::sample::Sample;
use crate::{Error, process};

/// What one who connects may cost, whatever is awake.
const COMER_MAX_MS: f64 = 1.0;

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
        let comers = options.size(100, 5);
        let alone = cost_of_comers(&host, &to[0], comers)?;
        let cold = talk(&host.socket(), &to, 1)?;
        let mut waits = vec![Sample::default(); sessions];
        let (mut all, mut stood) = (Sample::default(), Sample::default());
        let mut standing = Standing::connect(&host.socket(), &to)?;
        for _ in 0..waves {
            for (with, wait) in waits_of(&standing.talk(1)?) {
                waits[with].add(wait);
                stood.add(wait);
            }
        }
        drop(standing);
        for _ in 0..waves {
            for (_, wait) in waits_of(&talk(&host.socket(), &to, 1)?) {
                all.add(wait);
            }
        }
        let beside_all = cost_of_comers(&host, &to[0], comers)?;
        let slowest = waits.iter().map(Sample::p50).fold(0.0, f64::max);
        let mut add = |row: Row| report.add(&FIGURE, row.on(*runtime));
        let first: Sample = waits_of(&cold).map(|(_, wait)| wait).collect();
        add(Row::sample(format!("{sessions} cold starts at once, sent to answered"), &first));
        add(Row::sample(format!("{sessions} awake, sent to answered"), &stood));
        let anew = format!("{sessions} awake, over connections made for each wave");
        add(Row::sample(anew, &all).beside("standing", stood.p50()));
        add(Row::number("slowest answer of all", Unit::Millis, stood.longest())
            .beside("median", stood.p50()));
        add(Row::number("median of the slowest session", Unit::Millis, slowest)
            .beside("median", stood.p50()));
        let comer = format!("the host's processor time for one who connects, {sessions} awake");
        add(Row::number(comer, Unit::Millis, beside_all)
            .beside("nobody awake", alone)
            .at_most(COMER_MAX_MS));
    }
    Ok(())
}

/// The host's processor time for each of so many clients that listen to `to` and leave, in milliseconds.
fn cost_of_comers(host: &Host, to: &Address, comers: usize) -> Result<f64, Error> {
    let before = process::cpu(host.pid())?;
    for _ in 0..comers {
        drop(Listener::connect(&host.socket(), std::slice::from_ref(to))?);
    }
    std::thread::sleep(Duration::from_secs(1)); // what the last of them set off
    Ok((process::cpu(host.pid())? - before).as_secs_f64() * 1000.0 / comers as f64)
}

/// How many processes of one user can watch files here, with room for those that do already. A
/// runner beyond them would poll, which is another figure.
pub(super) fn watchable() -> Result<usize, Error> {
    const OTHERS: usize = 28;
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_instances")?;
    Ok(limit.trim().parse::<usize>()?.saturating_sub(OTHERS).max(1))
}

fn waits_of(wave: &Talk) -> impl Iterator<Item = (usize, Duration)> {
    wave.answered().iter().map(|answered| (answered.with, answered.delivered - answered.sent))
}
