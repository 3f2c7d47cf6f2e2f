//! Settled history, written into the boxes of a session at rest as the product would leave it.

use std::fs::File;

use rusqlite::{Connection, named_params};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::paths::SessionPaths;

use crate::Error;

/// The number of message `i` is `:first + 4 i`, that of its answer one higher: as in a conversation.
const MESSAGES: &str = "
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :rows)
    INSERT INTO messages_in (id, seq, kind, timestamp, status, platform_id, channel_type, content)
    SELECT printf('%08x-past-message', i), :first + 4 * i, 'chat', :now, 'completed', 'assistant',
           'terminal', json_object('text', printf('message number %d of long ago', i)) FROM n";
const DELIVERED: &str = "
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :rows)
    INSERT INTO delivered (message_out_id, status, delivered_at)
    SELECT printf('%08x-past-row', i), 'delivered', :now FROM n WHERE :first > 0";
const CURSOR: &str = "
    UPDATE outbound_cursor SET seq = :first + 4 * :rows - 3, seen = :first + 4 * :rows - 3
    WHERE :now IS NOT NULL";
const ACKS: &str = "
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :rows)
    INSERT INTO processing_ack (message_id, status, status_changed, attempt)
    SELECT printf('%08x-past-message', i), 'completed', :now, 0 FROM n WHERE :first > 0";
const ROWS: &str = "
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :rows)
    INSERT INTO messages_out (id, seq, in_reply_to, timestamp, kind, platform_id, channel_type,
                              content, attempt)
    SELECT printf('%08x-past-row', i), :first + 4 * i + 1, printf('%08x-past-message', i), :now,
           'chat', 'assistant', 'terminal',
           json_object('text', printf('echo: message number %d of long ago', i)), 0 FROM n";

/// Adds `rows` messages with their answers, all settled today, so that none is old enough to be
/// forgotten. Neither side may be at work.
pub(crate) fn add(session: &SessionPaths, rows: i64) -> Result<(), Error> {
    let highest = |path: &std::path::Path, table: &str| -> rusqlite::Result<i64> {
        let select = format!("SELECT ifnull(max(seq), 0) FROM {table}");
        Connection::open(path)?.query_row(&select, [], |row| row.get(0))
    };
    let last = highest(&session.inbound_db(), "messages_in")?
        .max(highest(&session.outbound_db(), "messages_out")?);
    let first = last + 2 - last % 2;
    let now = SystemClock.now().to_rfc3339();
    let parts: [(_, &[&str]); 2] = [
        (session.inbound_db(), &[MESSAGES, DELIVERED, CURSOR]),
        (session.outbound_db(), &[ROWS, ACKS]),
    ];
    for (path, statements) in parts {
        let mut conn = Connection::open(&path)?;
        conn.pragma_update(None, "synchronous", "OFF")?;
        let tx = conn.transaction()?;
        for statement in statements {
            let params = named_params! { ":rows": rows, ":first": first, ":now": now };
            tx.execute(statement, params)?;
        }
        tx.commit()?;
        drop(conn);
        // Or the disk would still be busy with it while something is measured.
        File::open(&path)?.sync_all()?;
    }
    Ok(())
}
