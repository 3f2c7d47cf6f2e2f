use std::time::{Duration, Instant};

use twobox_shared::clock::{Clock, SystemClock};
use twobox_tests::Runtime;

use super::Figure;
use crate::client::Clerk;
use crate::installation::{Host, Installation};
use crate::options::Options;
use crate::report::{Report, Row, Unit};
use crate::sample::Sample;
use crate::{Error, process, schedules};

pub(crate) static FIGURE: Figure =
    Figure { name: "schedules", about: "what schedules cost that are not due", measure };

const CPU_MAX_PERCENT: f64 = 1.0;

/// How much more a look may cost for ten thousand schedules than for ten.
const LOOK_RATIO_MAX: f64 = 2.0;

/// A look reads a few pages at most; one that read all schedules would read some MiB.
const LOOK_READ_MAX_MIB: f64 = 1.0 / 16.0;

/// What a look reads from files: no matter of time.
const READ: &str = "read by a look of the scheduler";

/// The number that a look is held against.
const FEW: usize = 10;

/// How long a look may take until the next one is asked for: it would be the same one.
const LOOK: Duration = Duration::from_millis(5);

fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    // Twice as long as the scheduler ever sleeps, and one pass of the safety net.
    let window = options.size(Duration::from_secs(63), Duration::from_secs(1));
    let (mut none, mut few) = (None, None);
    for size in [0, FEW, 10_000] {
        let measured = measure_with(size, window, options)?;
        let Measured { starts, resident, share, read, look, look_read } = &measured;
        let mut add = |row: Row| report.add(&FIGURE, row);
        let label = |what: &str| format!("{what}, {size} schedules");
        let number = |what: &str, unit, value: &f64| Row::number(label(what), unit, *value);
        let beside = |row: Row, name: &str, value: Option<f64>| match value {
            Some(value) => row.beside(name, value),
            None => row,
        };
        let of_none = |value: fn(&Measured) -> f64| none.as_ref().map(value);
        let row = Row::sample(label("start until the socket answers"), starts);
        add(beside(row, "none", of_none(|none| none.starts.p50())));
        let row = number("host, resident", Unit::MiB, resident);
        add(beside(row, "none", of_none(|none| none.resident)));
        let row = number("CPU over a minute", Unit::Percent, share).at_most(CPU_MAX_PERCENT);
        add(beside(row, "none", of_none(|none| none.share)));
        let row = number("read from files meanwhile", Unit::MiB, read);
        add(beside(row, "none", of_none(|none| none.read)));
        let row = number("CPU of a look of the scheduler", Unit::Millis, look);
        add(match few.as_ref().map(|few: &Measured| few.look) {
            Some(few) => row.beside(format!("{FEW} schedules"), few).at_most(LOOK_RATIO_MAX * few),
            None => row,
        });
        add(number(READ, Unit::MiB, look_read).at_most(LOOK_READ_MAX_MIB));
        match size {
            0 => none = Some(measured),
            FEW => few = Some(measured),
            _ => {}
        }
    }
    Ok(())
}

/// What a host costs that has so many schedules.
struct Measured {
    starts: Sample,
    /// MiB.
    resident: f64,
    /// Percent of a core.
    share: f64,
    /// MiB, within the window.
    read: f64,
    /// Milliseconds of a processor's time for one look.
    look: f64,
    /// MiB for one look.
    look_read: f64,
}

fn measure_with(size: usize, window: Duration, options: &Options) -> Result<Measured, Error> {
    let installation = Installation::new(Runtime::Process)?;
    if size > 0 {
        schedules::add_first(&installation, "assistant")?;
        let at = SystemClock.now() + schedules::FAR;
        schedules::copy(&mut installation.host_db()?, size - 1, at)?;
    }
    let starts = (0..options.size(5, 2))
        .map(|_| installation.up().map(|host| host.start()))
        .collect::<Result<_, Error>>()?;
    let host = installation.up()?;
    let (began, cpu, read) =
        (Instant::now(), process::cpu(host.pid())?, process::read(host.pid())?);
    std::thread::sleep(window);
    let used = process::cpu(host.pid())? - cpu;
    let share = used.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    let read = process::read(host.pid())? - read;
    let resident = process::resident(host.pid())?;
    let (look, look_read) = looks(&host, options.rounds)?;
    Ok(Measured { starts, resident, share, read, look, look_read })
}

/// What one look takes of a processor's time, in milliseconds, and reads, in MiB.
fn looks(host: &Host<'_>, rounds: usize) -> Result<(f64, f64), Error> {
    let mut clerk = Clerk::connect(&host.socket())?;
    let (cpu, read) = (process::cpu(host.pid())?, process::read(host.pid())?);
    for _ in 0..rounds {
        clerk.look()?;
        std::thread::sleep(LOOK);
    }
    let used = process::cpu(host.pid())? - cpu;
    let read = process::read(host.pid())? - read;
    Ok((used.as_secs_f64() * 1000.0 / rounds as f64, read / rounds as f64))
}
