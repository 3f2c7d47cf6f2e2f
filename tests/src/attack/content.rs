//! A sound file with content that no honest runner writes.

use rusqlite::Connection;

use super::{Attack, Done, End, Ground, Then};

const REFUSED: &str = "outbox-refused";

/// Takes every rule away from `messages_out` and puts one good row into it.
const LAWLESS: &str = "
    BEGIN IMMEDIATE;
    DROP TABLE messages_out;
    CREATE TABLE messages_out (id, seq, in_reply_to, timestamp, deliver_after, recurrence, kind,
      platform_id, channel_type, thread_id, content, attempt, runner_id);
    INSERT INTO messages_out (id, seq, timestamp, kind, content)
      VALUES ('r1', 3, '2027-01-15T08:00:00.000Z', 'chat', '{\"text\":\"forged\"}');";

/// For every runtime.
pub static CONTENT: &[Attack] = &[
    Attack::quarantined("trigger", "trigger t", REFUSED, |ground| {
        run(
            ground,
            "CREATE TRIGGER t AFTER INSERT ON messages_out
             BEGIN DELETE FROM processing_ack; END",
        )
    }),
    Attack::quarantined("view", "view messages_out", REFUSED, |ground| {
        run(
            ground,
            "ALTER TABLE messages_out RENAME TO t; CREATE VIEW messages_out AS SELECT * FROM t",
        )
    }),
    Attack::quarantined("virtual-table", "table f", REFUSED, |ground| {
        run(ground, "CREATE VIRTUAL TABLE f USING fts5(a)")
    }),
    Attack::quarantined("generated-column", "generated", REFUSED, |ground| {
        run(
            ground,
            "DROP TABLE processing_ack;
             CREATE TABLE processing_ack (message_id TEXT,
               status TEXT GENERATED ALWAYS AS (printf('%.1000000000c', 'x')))",
        )
    }),
    Attack::quarantined("schema-that-does-not-parse", "malformed", "outbox-corrupt", |ground| {
        run(
            ground,
            "PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = 'CREATE TABLE messages_out ('
             WHERE name = 'messages_out'",
        )
    }),
    Attack::quarantined("seq-as-text", "not an integer", "outbox-seq-invalid", |ground| {
        row(ground, "seq = '3'")
    }),
    Attack::quarantined("seq-even", "not an odd number", "outbox-seq-invalid", |ground| {
        row(ground, "seq = 4")
    }),
    Attack::quarantined("seq-negative", "seq < 1", "outbox-seq-invalid", |ground| {
        row(ground, "seq = -3")
    }),
    Attack::quarantined("seq-missing", "seq IS NULL", "outbox-seq-invalid", |ground| {
        row(ground, "seq = NULL")
    }),
    Attack::quarantined("seq-leaps", "not an odd number", "outbox-seq-implausible", |ground| {
        row(ground, "seq = 3000001")
    }),
    Attack::quarantined("seq-twice", "not unique", "outbox-seq-twice", |ground| {
        more_rows(ground, "SELECT 'r2', 3, 'twice'")
    }),
    Attack::quarantined("id-leads-out", "path separator", REFUSED, |ground| {
        row(ground, "id = '../../../../victim'")
    }),
    Attack::quarantined("id-with-nul", "control character", REFUSED, |ground| {
        row(ground, "id = 'a' || char(0) || 'b'")
    }),
    Attack::quarantined("content-too-large", "larger than", REFUSED, |ground| {
        row(ground, "content = printf('%.1048577c', 'x')")
    }),
    Attack::quarantined("content-larger-still", "too big", "outbox-corrupt", |ground| {
        row(ground, "content = zeroblob(5000000)")
    }),
    Attack::quarantined("content-not-utf-8", "utf-8", REFUSED, |ground| {
        row(ground, "content = CAST(x'c328' AS TEXT)")
    }),
    Attack::quarantined("content-of-another-type", "messages_out", REFUSED, |ground| {
        row(ground, "content = x'00'")
    }),
    Attack::quarantined("recurrence", "recurrence", REFUSED, |ground| {
        row(ground, "recurrence = '* * * * *'")
    }),
    Attack {
        name: "id-twice",
        act: |ground| more_rows(ground, "SELECT 'r1', 5, 'other content'"),
        then: Then::Hangs,
        end: End::Endured,
    },
    Attack {
        name: "a-million-rows",
        act: |ground| {
            let select = format!(
                "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n LIMIT {})
                 SELECT 'm' || i, 2 * i + 1, 'much' FROM n",
                rows()
            );
            at_once(ground, &with_rows(&select))
        },
        then: Then::Hangs,
        end: End::Endured,
    },
    Attack {
        name: "a-million-acks",
        act: |ground| many_acks(ground, rows()),
        then: Then::Hangs,
        end: End::Endured,
    },
];

/// How many rows *a million* is. A file `rows` in the agent's shared folder says something else.
fn rows() -> u64 {
    let asked = std::fs::read_to_string("rows").ok();
    asked.and_then(|text| text.trim().parse().ok()).unwrap_or(1_000_000)
}

pub(super) fn run(ground: &Ground, sql: &str) -> Done {
    let conn = Connection::open(ground.outbox())?;
    conn.busy_timeout(crate::PATIENCE)?;
    Ok(conn.execute_batch(sql)?)
}

/// As [`run`], on a copy that then takes the outbox's place: a commit that takes long would be told
/// as a lock.
fn at_once(ground: &Ground, sql: &str) -> Done {
    ground.replace(|fresh| {
        std::fs::copy(ground.outbox(), fresh)?;
        let conn = Connection::open(fresh)?;
        conn.pragma_update(None, "synchronous", "OFF")?;
        Ok(conn.execute_batch(sql)?)
    })
}

/// Replaces the acks by so many of messages that do not exist, without an index.
pub(super) fn many_acks(ground: &Ground, rows: u64) -> Done {
    let sql = format!(
        "BEGIN IMMEDIATE;
         CREATE TABLE acks (message_id, status, status_changed, attempt, runner_id, failure, turns);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {rows})
         INSERT INTO acks SELECT 'm' || i, 'completed', '', 0, NULL, NULL, 0 FROM n;
         DROP TABLE processing_ack; ALTER TABLE acks RENAME TO processing_ack; COMMIT"
    );
    at_once(ground, &sql)
}

/// The one row of the outbox with a change.
fn row(ground: &Ground, change: &str) -> Done {
    run(ground, &format!("{LAWLESS} UPDATE messages_out SET {change}; COMMIT"))
}

/// More rows than one, none of them due: `select` gives id, seq and content of each.
fn with_rows(select: &str) -> String {
    let due = "'2099-01-15 08:00:00'";
    format!(
        "{LAWLESS} UPDATE messages_out SET deliver_after = {due};
         INSERT INTO messages_out (id, seq, content, timestamp, kind, deliver_after)
           SELECT *, '2027-01-15T08:00:00.000Z', 'chat', {due} FROM ({select}); COMMIT"
    )
}

fn more_rows(ground: &Ground, select: &str) -> Done {
    run(ground, &with_rows(select))
}
