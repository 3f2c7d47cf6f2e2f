//! Lists in which one bad row hides no other.

use rusqlite::{Connection, Params, Row};
use serde::Serialize;

/// The rows of a list, and those that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// What was read, in order.
    pub rows: Vec<T>,
    /// What was not: somebody has to be told.
    pub unreadable: Vec<Unreadable>,
    /// The `id` of the last row, read or not.
    pub last: Option<String>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), unreadable: Vec::new(), last: None }
    }
}

/// A row with a value that no build of this version writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// The row's `id`, as it stands there.
    pub id: String,
    /// What is wrong with it.
    pub error: String,
}

/// Reads all rows of `select`, which has a column `id`.
pub(super) fn listed<T>(
    db: &Connection,
    select: &str,
    params: impl Params,
    from_row: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Listed<T>> {
    let mut statement = db.prepare_cached(select)?;
    let mut found = statement.query(params)?;
    let mut listed = Listed::default();
    while let Some(row) = found.next()? {
        let id = row.get_ref("id")?.as_bytes().unwrap_or_default();
        let id = String::from_utf8_lossy(id).into_owned();
        listed.last = Some(id.clone());
        match from_row(row) {
            Ok(read) => listed.rows.push(read),
            Err(error) => listed.unreadable.push(Unreadable { id, error: error.to_string() }),
        }
    }
    Ok(listed)
}
