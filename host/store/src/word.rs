//! How a word of the vocabulary (`words!`) stands in SQLite: as text. Any other text cannot be read.

use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use twobox_model::words::Words;

/// The enum is another room's and the trait SQLite's: only a type of our own can bring them together.
struct Word<T>(T);

impl<T: Words> FromSql for Word<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        T::of_word(value.as_str()?).map(Self).ok_or(FromSqlError::InvalidType)
    }
}

/// The word in a column that always has one.
pub(crate) fn word<T: Words>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    row.get(column).map(|Word(value)| value)
}

/// The word in a column that may be NULL.
pub(crate) fn word_or_null<T: Words>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    Ok(row.get::<_, Option<Word<T>>>(column)?.map(|Word(value)| value))
}
