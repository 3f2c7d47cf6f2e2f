use std::time::Duration;

use rusqlite::{Connection, named_params};
use serde_json::json;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::time::UnixMillis;
use twobox_tests::Runtime;

use super::Figure;
use crate::client::Clerk;
use crate::installation::{Host, Installation, wait_for};
use crate::options::Options;
use crate::report::{Report, Row, Unit};
use crate::sample::Sample;
use crate::{Error, floor, process, schedules};

pub(crate) static FIGURE: Figure =
    Figure { name: "due", about: "many schedules that are due in the same second", measure };

/// How much longer it may take to claim all slots than as many commits of one row take.
const CLAIMS_RATIO_MAX: f64 = 2.0;

/// Claiming a slot reads few pages, and nothing in the boxes of the runs that go on.
const READ_MAX_MIB: f64 = 1.0 / 64.0;

/// How much longer the slowest of a hundred messages may take for it.
const CHAT_RATIO_MAX: f64 = 2.0;

/// An agent that never answers: the first runs keep all places, and claiming is all that is left.
const SILENT: &str = "silent";

/// From the making of schedules until they are due.
const LEAD: Duration = Duration::from_secs(2);

fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    let count = options.size(1000, 20);
    claims(count, report)?;
    chat(count, options, report)
}

/// All claims, with nothing else to do.
fn claims(count: usize, report: &mut Report) -> Result<(), Error> {
    let installation = installation()?;
    let host = installation.up()?;
    let before = floor::commit_in_wal(installation.aside(), count)?;
    let mut db = installation.host_db()?;
    let at = make_due(&host, &mut db, count)?;
    let (cpu, read) = (process::cpu(host.pid())?, process::read(host.pid())?);
    wait_for("all slots to be claimed", || Ok(is_over(&db, at)?.then_some(())))?;
    let cpu = (process::cpu(host.pid())? - cpu).as_secs_f64() * 1000.0 / count as f64;
    let read = (process::read(host.pid())? - read) / count as f64;
    let after = floor::commit_in_wal(installation.aside(), count)?;
    let last: String = db.query_row("SELECT max(id) FROM runs", [], |row| row.get(0))?;
    let last = made_at(&last).ok_or("a run's id tells no time")?.since(at);
    let commits = (before.total() + after.total()) / 2.0;
    let once: i64 = db.query_row(
        "SELECT count(*) FROM (SELECT 1 FROM runs WHERE slot_ms = :at AND status <> 'skipped'
                               GROUP BY schedule_id HAVING count(*) = 1)",
        named_params! { ":at": at },
        |row| row.get(0),
    )?;
    let mut add = |row: Row| report.add(&FIGURE, row);
    add(Row::sample("commit of one row, WAL/FULL", &before.join(after)));
    let what = format!("the last of {count} slots claimed");
    add(Row::number(what, Unit::Millis, last.as_secs_f64() * 1000.0)
        .beside("as many commits", commits)
        .at_most(CLAIMS_RATIO_MAX * commits));
    add(Row::number("CPU of the host for one slot", Unit::Millis, cpu));
    add(Row::number("read by the host for one slot", Unit::MiB, read).at_most(READ_MAX_MIB));
    add(Row::number("slots with exactly one run", Unit::Count, once as f64).at_least(count as f64));
    Ok(())
}

/// A conversation in which one message follows the other meanwhile.
fn chat(count: usize, options: &Options, report: &mut Report) -> Result<(), Error> {
    let installation = installation()?;
    let host = installation.up()?;
    let (mut client, _) = host.warm_client(options.rounds.min(20))?;
    let mut trip = |sample: &mut Sample| -> Result<(), Error> {
        let trip = client.round_trip("a message among others")?;
        sample.add(trip.delivered - trip.sent);
        Ok(())
    };
    let (mut usual, mut meanwhile) = (Sample::default(), Sample::default());
    for _ in 0..options.rounds {
        trip(&mut usual)?;
    }
    let mut db = installation.host_db()?;
    let at = make_due(&host, &mut db, count)?;
    std::thread::sleep(at.since(SystemClock.now()));
    loop {
        trip(&mut meanwhile)?;
        if is_over(&db, at)? {
            break;
        }
    }
    let mut add = |row: Row| report.add(&FIGURE, row);
    add(Row::sample("sent to delivered, nothing due", &usual));
    add(Row::sample(format!("sent to delivered, while {count} schedules are due"), &meanwhile)
        .beside("nothing due", usual.p50())
        .p99_at_most(CHAT_RATIO_MAX * usual.p99()));
    Ok(())
}

/// With the silent agent, and a schedule of it that is not due.
fn installation() -> Result<Installation, Error> {
    let installation = Installation::new(Runtime::Process)?;
    installation.twobox(&["agents", "add", SILENT, "--provider", "scripted"])?;
    let script = json!({ "otherwise": [{ "hang": true }] });
    let folder = installation.data().join("programs").join(SILENT);
    std::fs::write(folder.join("script.json"), script.to_string())?;
    schedules::add_first(&installation, SILENT)?;
    Ok(installation)
}

/// Adds so many schedules that are due at the instant that is returned, and tells the host.
fn make_due(host: &Host<'_>, db: &mut Connection, count: usize) -> Result<UnixMillis, Error> {
    let at = SystemClock.now() + LEAD;
    schedules::copy(db, count, at)?;
    Clerk::connect(&host.socket())?.look()?;
    match SystemClock.now() < at {
        true => Ok(at),
        false => Err(format!("it took more than {LEAD:?} to add {count} schedules").into()),
    }
}

/// Whether each schedule that was due at `at` was fired, or put off for chat.
fn is_over(db: &Connection, at: UnixMillis) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT NOT EXISTS (SELECT 1 FROM schedules WHERE next_due_ms = :at)")?
        .query_row(named_params! { ":at": at }, |row| row.get(0))
}

/// When an id was made: a UUID v7 (RFC 9562) begins with the time, in milliseconds.
fn made_at(id: &str) -> Option<UnixMillis> {
    let digits: String = id.chars().filter(|digit| *digit != '-').take(12).collect();
    i64::from_str_radix(&digits, 16).ok().map(UnixMillis)
}
