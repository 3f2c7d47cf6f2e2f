//! Bringing a session database to this build's version. Only the owner of a file does this; the
//! other side reads the older shape through `columns` meanwhile.

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior};

use crate::columns;
use crate::open::BoxError;

/// One of the two session databases, as far as migration needs to know it.
pub(crate) struct Shape {
    pub(crate) version: u32,
    pub(crate) schema: &'static str,
    pub(crate) tables: &'static [Table],
}

/// How a legacy table is carried over: everything not named in `convert` is copied as it is.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// Columns whose legacy value may break a rule of the new table, with the expression that
    /// mends it. Only columns that the old table has are read.
    pub(crate) convert: &'static [(&'static str, &'static str)],
}

pub(crate) const INBOUND: Shape = Shape {
    version: twobox_schema::INBOUND_VERSION,
    schema: twobox_schema::INBOUND,
    tables: &[
        Table {
            name: "messages_in",
            convert: &[
                ("status", "coalesce(status, 'pending')"),
                ("tries", "max(coalesce(tries, 0), 0)"),
                ("trigger", "coalesce(trigger, 1) <> 0"),
                ("on_wake", "coalesce(on_wake, 0) <> 0"),
            ],
        },
        Table {
            name: "delivered",
            convert: &[
                ("status", "coalesce(status, 'delivered')"),
                ("attempts", "max(coalesce(attempts, 0), 0)"),
            ],
        },
        Table { name: "destinations", convert: &[] },
        Table { name: "session_routing", convert: &[] },
        Table { name: "outbound_cursor", convert: &[] },
        Table { name: "forgotten", convert: &[] },
    ],
};

pub(crate) const OUTBOUND: Shape = Shape {
    version: twobox_schema::OUTBOUND_VERSION,
    schema: twobox_schema::OUTBOUND,
    tables: &[
        Table { name: "messages_out", convert: &[] },
        Table { name: "processing_ack", convert: &[] },
        Table { name: "session_state", convert: &[] },
        Table { name: "container_state", convert: &[] },
    ],
};

/// Creates the tables in an empty file, rebuilds those of a legacy file, leaves a current file
/// alone, and refuses a newer one. One transaction: a file is never half migrated.
pub(crate) fn bring_up(conn: &mut Connection, shape: &Shape) -> Result<(), BoxError> {
    let newer = |found| BoxError::Newer { found, known: shape.version };
    match version_of(conn)? {
        found if found == shape.version => return Ok(()),
        found if found > shape.version => return Err(newer(found)),
        _ => {}
    }
    let tx = conn
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|source| BoxError::sqlite("begin the migration", source))?;
    // Another process of the owner may have migrated between the look and the lock.
    let found = version_of(&tx)?;
    if found > shape.version {
        return Err(newer(found));
    }
    if found < shape.version {
        rebuild(&tx, shape).map_err(explain)?;
    }
    tx.commit().map_err(|source| BoxError::sqlite("commit the migration", source))
}

/// A row that breaks a rule of the new tables is neither dropped nor mended by a guess: the file
/// stays as it was and the message names the rule.
fn explain(source: rusqlite::Error) -> BoxError {
    match source.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => BoxError::Refused {
            reason: format!("a row of the older version breaks a rule of this one: {source}"),
        },
        _ => BoxError::sqlite("migrate the database", source),
    }
}

/// The file's `user_version`.
pub(crate) fn version_of(conn: &Connection) -> Result<u32, BoxError> {
    conn.query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|source| BoxError::sqlite("read the database's version", source))
}

fn rebuild(conn: &Connection, shape: &Shape) -> rusqlite::Result<()> {
    let mut legacy = Vec::new();
    for table in shape.tables {
        let exists: Option<i64> = conn
            .query_row(
                "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1",
                [table.name],
                |row| row.get(0),
            )
            .optional()?;
        if exists.is_some() {
            conn.execute_batch(&format!("ALTER TABLE {0} RENAME TO legacy_{0}", table.name))?;
            drop_indexes(conn, table.name)?;
            legacy.push(table);
        }
    }
    conn.execute_batch(shape.schema)?;
    for table in legacy {
        copy(conn, table)?;
    }
    conn.pragma_update(None, "user_version", shape.version)
}

/// A renamed table keeps its indexes under their old names, which the new schema may want.
fn drop_indexes(conn: &Connection, table: &str) -> rusqlite::Result<()> {
    let names: Vec<String> = conn
        .prepare(
            "SELECT name FROM sqlite_schema
             WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = 'legacy_' || ?1",
        )?
        .query_map([table], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for name in names {
        conn.execute_batch(&format!("DROP INDEX \"{}\"", name.replace('"', "\"\"")))?;
    }
    Ok(())
}

fn copy(conn: &Connection, table: &Table) -> rusqlite::Result<()> {
    let old = legacy_columns(conn, table.name)?;
    let new = columns::of_table(conn, table.name)?;
    let shared: Vec<&String> = old.iter().filter(|name| new.contains_key(*name)).collect();
    let values: Vec<String> = shared
        .iter()
        .map(|name| {
            let convert = table.convert.iter().find(|(column, _)| column == name);
            convert.map_or_else(|| (*name).clone(), |(_, sql)| (*sql).to_owned())
        })
        .collect();
    let names: Vec<&str> = shared.iter().map(|name| name.as_str()).collect();
    // The schema puts a first row into some tables; the file's own row takes its place.
    conn.execute_batch(&format!(
        "DELETE FROM {0} WHERE EXISTS (SELECT 1 FROM legacy_{0});
         INSERT INTO {0} ({1}) SELECT {2} FROM legacy_{0};
         DROP TABLE legacy_{0};",
        table.name,
        names.join(", "),
        values.join(", "),
    ))?;
    if table.name == "messages_in" {
        conn.execute_batch(
            "UPDATE messages_in SET series_id = id
             WHERE recurrence IS NOT NULL AND series_id IS NULL",
        )?;
    }
    Ok(())
}

fn legacy_columns(conn: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    conn.prepare(&format!("PRAGMA table_info(legacy_{table})"))?
        .query_map([], |row| row.get("name"))?
        .collect()
}
