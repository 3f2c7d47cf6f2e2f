//! What the run costs that goes on in a conversation, of agents with a budget for one.
//!
//! A run lasts from one message that the host settles to the next. Which requests are a message's, only the
//! container could say, and it is not believed: what is asked between the two is of the run, whoever it is for.
//! So a conversation never uses more than its budget for each message that was settled, and for the one that
//! goes on.

use rusqlite::{Connection, named_params};
use twobox_shared::ids::SessionId;

use super::days::MOST;
use super::{Day, Open};

/// What counts against the budget of the run: what it has used, and what open requests can use.
pub(super) fn used(db: &Connection, session: SessionId) -> rusqlite::Result<i64> {
    db.prepare_cached(
        "SELECT CAST(total(nano_usd) AS INTEGER) FROM (
           SELECT nano_usd FROM usage_runs WHERE session_id = :session
           UNION ALL
           SELECT nano_usd FROM usage_open WHERE session_id = :session AND of_run = 1)",
    )?
    .query_row(named_params! { ":session": session }, |row| row.get(0))
}

/// Adds what a request that is open no more has cost, or may have.
pub(super) fn add(db: &Connection, open: &Open, nano_usd: i64) -> rusqlite::Result<()> {
    if !open.of_run || nano_usd == 0 {
        return Ok(());
    }
    let changed = db
        .prepare_cached(
            "INSERT INTO usage_runs (session_id, nano_usd, day) VALUES (:session, :nano_usd, :day)
             ON CONFLICT (session_id) DO UPDATE SET
               nano_usd = min(nano_usd + excluded.nano_usd, :most), day = max(day, excluded.day)",
        )?
        .execute(named_params! {
            ":session": open.session, ":nano_usd": nano_usd.min(MOST), ":day": open.day,
            ":most": i64::MAX / 2,
        })?;
    debug_assert_eq!(changed, 1, "a row is there or is made");
    Ok(())
}

/// Ends the run of `session`. What is open then counts in the next one. Returns whether it had used anything.
pub(super) fn end(db: &Connection, session: SessionId) -> rusqlite::Result<bool> {
    let ended = db
        .prepare_cached("DELETE FROM usage_runs WHERE session_id = :session")?
        .execute(named_params! { ":session": session })?;
    Ok(ended > 0)
}

/// Forgets the runs in which nothing was used since `before`: those of conversations that are gone.
pub(super) fn forget(db: &Connection, before: &Day) -> rusqlite::Result<()> {
    let mut delete = db.prepare("DELETE FROM usage_runs WHERE day < :before")?;
    delete.execute(named_params! { ":before": before }).map(|_| ())
}
