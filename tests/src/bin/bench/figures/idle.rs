use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use twobox_shared::ids::{IdSource, SystemIds};
use twobox_shared::paths::{INBOUND_DB, OUTBOUND_DB, SessionPaths};
use twobox_tests::Runtime;

use super::Figure;
use super::talk::{talk, threads};
use crate::client::Address;
use crate::installation::{CROWD, Host, Installation};
use crate::options::Options;
use crate::report::{Report, Row, Unit};
use crate::sample::Sample;
use crate::trace::{Event, Kind, Trace};
use crate::{Error, process, stand_in};

pub(crate) static FIGURE: Figure =
    Figure { name: "idle", about: "what sessions cost in which nothing happens", measure };

/// What the rows are called that are drawn.
pub(crate) const CPU: &str = "CPU over a minute";
pub(crate) const MEMORY: &str = "host, resident";

/// At most so much for ten thousand sessions: 2 s until it is up, 100 MiB, 1 % of a processor.
const START_MAX_MS: f64 = 2000.0;
const MEMORY_MAX_MIB: f64 = 100.0;
const CPU_MAX_PERCENT: f64 = 1.0;

/// How often the usual design sweeps.
const SWEEP: Duration = Duration::from_secs(60);

fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    let sizes: &[usize] = if options.quick { &[5, 20] } else { &[100, 1000, 10_000] };
    // More than a minute, so that one pass of the safety net is in it.
    let window = options.size(Duration::from_secs(63), Duration::from_secs(1));
    for size in sizes {
        let mut installation = Installation::new(Runtime::Process)?;
        installation.set("CONTAINERS_IDLE", "500ms");
        let sessions = settle(&installation, *size)?;
        measure_ours(&installation, &sessions, window, options, report)?;
        let (began, before) = (Instant::now(), process::cpu_of_thread()?);
        stand_in::sweep(&sessions)?;
        let (span, cpu) = (began.elapsed(), process::cpu_of_thread()? - before);
        let trace = watch(&sessions)?;
        stand_in::sweep(&sessions)?;
        let opens = trace.look(|events| opens(events).count())?;
        let share = cpu.as_secs_f64() / SWEEP.as_secs_f64() * 100.0;
        let mut add = |row: Row| report.add(&FIGURE, row);
        add(Row::number(label("usual design: ", CPU, *size), Unit::Percent, share));
        let span = span.as_secs_f64() * 1000.0;
        add(Row::number(label("usual design: ", "one sweep", *size), Unit::Millis, span));
        let what = label("usual design: ", "databases opened by a sweep", *size);
        add(Row::number(what, Unit::Count, opens as f64));
    }
    Ok(())
}

fn measure_ours(
    installation: &Installation,
    sessions: &[SessionPaths],
    window: Duration,
    options: &Options,
    report: &mut Report,
) -> Result<(), Error> {
    let size = sessions.len();
    let starts: Sample = (0..options.size(5, 2))
        .map(|_| installation.up().map(|host| host.start()))
        .collect::<Result<_, Error>>()?;
    let host = installation.up()?;
    let trace = watch(sessions)?;
    let (began, before) = (Instant::now(), process::cpu(host.pid())?);
    std::thread::sleep(window);
    let used = process::cpu(host.pid())? - before;
    let share = used.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    let idle_opens = trace.look(|events| opens(events).count())?;
    let resident = process::resident(host.pid())?;
    let due_opens = opens_for_one_message(installation, &host, &trace)?;
    let mut add = |row: Row| report.add(&FIGURE, row);
    let row = |what: &str, unit, value| Row::number(label("", what, size), unit, value);
    add(Row::sample(label("", "start until the socket answers", size), &starts)
        .at_most(START_MAX_MS));
    add(row(MEMORY, Unit::MiB, resident).at_most(MEMORY_MAX_MIB));
    add(row(CPU, Unit::Percent, share).at_most(CPU_MAX_PERCENT));
    add(row("databases opened meanwhile", Unit::Count, idle_opens as f64).at_most(0.0));
    let (ours, others) = due_opens;
    add(row("databases opened for one message, its session's", Unit::Count, ours as f64));
    add(row("databases opened for one message, others'", Unit::Count, others as f64).at_most(0.0));
    Ok(())
}

fn label(whose: &str, what: &str, size: usize) -> String {
    format!("{whose}{what}, {size} sessions")
}

/// The number of sessions in a label.
pub(crate) fn sessions_of(what: &str) -> Option<f64> {
    what.strip_suffix(" sessions")?.rsplit_once(", ")?.1.parse().ok()
}

/// Makes `count` sessions in which nothing is left to do. The first is the product's own work; the
/// others are copies of its folder, with rows in `host.db` like its own: ten thousand containers
/// would say nothing more about sessions that have none.
fn settle(installation: &Installation, count: usize) -> Result<Vec<SessionPaths>, Error> {
    let first = threads(1).remove(0);
    {
        let host = installation.up()?;
        talk(&host.socket(), std::slice::from_ref(&first), 1)?;
        installation.wait_at_rest()?;
    }
    let mut db = installation.host_db()?;
    let first = installation.session(&first)?;
    let mut sessions = vec![first.clone()];
    let tx = db.transaction()?;
    for number in 1..count {
        let id = SystemIds.uuid().to_string();
        insert(&tx, &id, number)?;
        let folder = folder_of(&first)?.with_file_name(&id);
        copy(folder_of(&first)?, &folder)?;
        sessions.push(SessionPaths::of_folder(&folder));
    }
    tx.commit()?;
    Ok(sessions)
}

fn insert(db: &Connection, id: &str, number: usize) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO sessions (id, agent_group_id, messaging_group_id, thread_id, created_at_ms,
                               last_active_at_ms)
         SELECT ?1, s.agent_group_id, s.messaging_group_id, ?2, s.created_at_ms, s.last_active_at_ms
         FROM sessions s JOIN agent_groups g ON g.id = s.agent_group_id
         WHERE g.name = ?3 AND s.thread_id = 'thread 0'",
    )?
    .execute((id, format!("thread {number}"), CROWD))
    .map(drop)
}

fn folder_of(session: &SessionPaths) -> Result<&Path, Error> {
    session.in_dir().parent().ok_or_else(|| "a session's halves lie in its folder".into())
}

fn copy(from: &Path, to: &PathBuf) -> std::io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => std::fs::copy(entry.path(), &target).map(drop)?,
        }
    }
    Ok(())
}

fn watch(sessions: &[SessionPaths]) -> Result<Trace, Error> {
    let dirs: Vec<&Path> =
        sessions.iter().flat_map(|session| [session.in_dir(), session.out_dir()]).collect();
    Trace::start(&dirs)
}

fn opens(events: &[Event]) -> impl Iterator<Item = &Event> {
    events.iter().filter(|event| {
        event.kind == Kind::Opened && (event.name == *INBOUND_DB || event.name == *OUTBOUND_DB)
    })
}

/// How often a database was opened, by either side, while one message is accepted, answered by a
/// runner that had to be started and left again, and delivered: in its session, and in all others.
fn opens_for_one_message(
    installation: &Installation,
    host: &Host<'_>,
    trace: &Trace,
) -> Result<(usize, usize), Error> {
    trace.clear();
    let to: Vec<Address> = threads(1);
    talk(&host.socket(), &to, 1)?;
    installation.wait_at_rest()?;
    // The first two folders are those of the first session.
    trace.look(|events| {
        let ours = opens(events).filter(|event| event.dir < 2).count();
        (ours, opens(events).count() - ours)
    })
}
