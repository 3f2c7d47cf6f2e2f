//! The usual design, for comparison, on the same files: both sides poll once a second, each poll
//! reads the whole history, and a sweep opens the databases of every session.
//!
//! It is what such hosts do, in the fewest lines: no limits, no retries, no checks, so that it is
//! if anything faster than a real one. `NOT INDEXED` because the partial indexes are ours. It is
//! part of the benchmark and no mode of the product.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, named_params};
use twobox_shared::ids::{IdSource, SystemIds};
use twobox_shared::paths::SessionPaths;

use crate::Error;
use crate::client::PATIENCE;
use crate::sample::Sample;

/// How often each side looks.
const POLL: Duration = Duration::from_secs(1);

const NOW: &str = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')";

fn open(path: &std::path::Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open(path)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    Ok(conn)
}

fn texts(conn: &Connection, select: &str) -> rusqlite::Result<Vec<String>> {
    conn.prepare(select)?.query_map([], |row| row.get(0))?.collect()
}

/// The runner's poll: what is pending and due, without what was acknowledged.
pub(crate) fn poll_inbox(session: &SessionPaths) -> rusqlite::Result<Vec<String>> {
    let inbox = open(&session.inbound_db())?;
    let due = texts(
        &inbox,
        "SELECT id FROM messages_in NOT INDEXED WHERE status = 'pending'
         AND (process_after IS NULL OR datetime(process_after) <= datetime('now')) ORDER BY seq",
    )?;
    drop(inbox);
    let outbox = open(&session.outbound_db())?;
    let acked: HashSet<String> =
        texts(&outbox, "SELECT message_id FROM processing_ack")?.into_iter().collect();
    Ok(due.into_iter().filter(|id| !acked.contains(id)).collect())
}

/// The runner's claim, its turn, which takes no time, and its answer.
fn answer(session: &SessionPaths, message: &str) -> rusqlite::Result<()> {
    let outbox = open(&session.outbound_db())?;
    let ack = |status: &str| {
        let insert = format!(
            "INSERT INTO processing_ack (message_id, status, status_changed)
             VALUES (:message, :status, {NOW})
             ON CONFLICT (message_id) DO UPDATE SET status = excluded.status"
        );
        outbox.execute(&insert, named_params! { ":message": message, ":status": status })
    };
    ack("processing")?;
    let insert = format!(
        "INSERT INTO messages_out (id, seq, in_reply_to, timestamp, kind, content)
         VALUES (:id, (SELECT ifnull(max(seq), -1) + 2 FROM messages_out), :message, {NOW}, 'chat',
                 '{{}}')"
    );
    outbox.execute(
        &insert,
        named_params! { ":id": SystemIds.uuid().to_string(), ":message": message },
    )?;
    ack("completed").map(drop)
}

/// The host's poll: every row that is due, without those that were delivered.
pub(crate) fn poll_outbox(session: &SessionPaths) -> rusqlite::Result<Vec<(String, String)>> {
    let outbox = open(&session.outbound_db())?;
    let due: Vec<(String, String)> = outbox
        .prepare(
            "SELECT id, in_reply_to FROM messages_out
             WHERE deliver_after IS NULL OR datetime(deliver_after) <= datetime('now')
             ORDER BY timestamp",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    drop(outbox);
    let inbox = open(&session.inbound_db())?;
    let delivered: HashSet<String> =
        texts(&inbox, "SELECT message_out_id FROM delivered")?.into_iter().collect();
    Ok(due.into_iter().filter(|(row, _)| !delivered.contains(row)).collect())
}

fn mark_delivered(session: &SessionPaths, row: &str) -> rusqlite::Result<()> {
    let insert =
        format!("INSERT INTO delivered (message_out_id, delivered_at) VALUES (:row, {NOW})");
    open(&session.inbound_db())?.execute(&insert, named_params! { ":row": row }).map(drop)
}

/// The host's sweep: takes in the acknowledgements of each session and asks whether it is due.
pub(crate) fn sweep(sessions: &[SessionPaths]) -> rusqlite::Result<usize> {
    let mut due = 0;
    for session in sessions {
        let outbox = open(&session.outbound_db())?;
        let done = texts(
            &outbox,
            "SELECT message_id FROM processing_ack WHERE status IN ('completed', 'failed')",
        )?;
        drop(outbox);
        let mut inbox = open(&session.inbound_db())?;
        let tx = inbox.transaction()?;
        for message in done {
            tx.prepare_cached(
                "UPDATE messages_in SET status = 'completed' WHERE id = ?1 AND status = 'pending'",
            )?
            .execute([message])?;
        }
        tx.commit()?;
        let waiting: u32 = inbox.query_row(
            "SELECT count(*) FROM messages_in NOT INDEXED WHERE status = 'pending'
             AND (process_after IS NULL OR datetime(process_after) <= datetime('now'))",
            [],
            |row| row.get(0),
        )?;
        due += usize::from(waiting > 0);
    }
    Ok(due)
}

/// From accepted to delivered, with a runner that is awake: `rounds` messages, whose moments are
/// spread evenly over the second between two polls.
pub(crate) fn round_trips(session: &SessionPaths, rounds: usize) -> Result<Sample, Error> {
    let over = AtomicBool::new(false);
    let (deliver, delivered) = mpsc::channel();
    std::thread::scope(|scope| {
        let repeat = |work: &dyn Fn() -> rusqlite::Result<()>| -> rusqlite::Result<()> {
            while !over.load(Ordering::Relaxed) {
                work()?;
                std::thread::sleep(POLL);
            }
            Ok(())
        };
        let runner = scope.spawn(move || {
            repeat(&|| poll_inbox(session)?.iter().try_for_each(|id| answer(session, id)))
        });
        let host = scope.spawn(move || {
            repeat(&|| {
                for (row, message) in poll_outbox(session)? {
                    // Nobody listens any more once all rounds are over.
                    deliver.send((message, Instant::now())).unwrap_or_default();
                    mark_delivered(session, &row)?;
                }
                Ok(())
            })
        });
        let result = (0..rounds)
            .map(|round| {
                std::thread::sleep(POLL.mul_f64((round as f64 * 0.618_034).fract()));
                let id = SystemIds.uuid().to_string();
                accept(session, &id)?;
                let accepted = Instant::now();
                loop {
                    let (message, when) = delivered.recv_timeout(PATIENCE)?;
                    if message == id {
                        return Ok(when - accepted);
                    }
                }
            })
            .collect();
        over.store(true, Ordering::Relaxed);
        for side in [runner, host] {
            side.join().map_err(|_| "a side of the stand-in panicked")??;
        }
        result
    })
}

fn accept(session: &SessionPaths, id: &str) -> rusqlite::Result<()> {
    let insert = format!(
        "INSERT INTO messages_in (id, seq, kind, timestamp, content)
         VALUES (:id, (SELECT ifnull(max(seq), 0) + 2 FROM messages_in), 'chat', {NOW}, '{{}}')"
    );
    open(&session.inbound_db())?.execute(&insert, named_params! { ":id": id }).map(drop)
}
