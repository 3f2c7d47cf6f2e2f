//! Reading a table whose file may be older than this build: a column that the file does not have
//! yet reads as its default.

use std::collections::HashMap;

use rusqlite::Connection;

/// A column that a query wants, and the SQL literal that stands in when the file lacks it.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) absent: &'static str,
}

/// A column that every version has, or that reads as NULL before it existed.
pub(crate) const fn column(name: &'static str) -> Column {
    Column { name, absent: "NULL" }
}

/// A column that reads as `absent` before it existed.
pub(crate) const fn column_or(name: &'static str, absent: &'static str) -> Column {
    Column { name, absent }
}

/// What a table has: column names, each with SQLite's `hidden` mark (0 for an ordinary column).
/// Empty if there is no such table.
pub(crate) fn of_table(
    conn: &Connection,
    table: &'static str,
) -> rusqlite::Result<HashMap<String, i64>> {
    conn.prepare(&format!("PRAGMA table_xinfo({table})"))?
        .query_map([], |row| Ok((row.get::<_, String>("name")?, row.get("hidden")?)))?
        .collect()
}

/// `SELECT <columns> FROM table`, with literals in the place of columns that the file lacks.
/// `None` if there is no such table.
pub(crate) fn select(
    conn: &Connection,
    table: &'static str,
    wanted: &[Column],
) -> rusqlite::Result<Option<String>> {
    let present = of_table(conn, table)?;
    if present.is_empty() {
        return Ok(None);
    }
    let list: Vec<String> = wanted
        .iter()
        .map(|column| match present.contains_key(column.name) {
            true => column.name.to_owned(),
            false => format!("{} AS {}", column.absent, column.name),
        })
        .collect();
    Ok(Some(format!("SELECT {} FROM {table}", list.join(", "))))
}
