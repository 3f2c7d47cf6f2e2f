//! What to do when a database cannot be used right now: wait a little longer each time, tell the
//! operator once, and leave only where waiting cannot help.

use std::time::Duration;

use rusqlite::ErrorCode;
use twobox_shared::errors::chain;
use twobox_shared::open::BoxError;

use crate::exit::Exit;
use crate::say::say;

/// How many errors in a row that say *corrupt* are believed. A file that the other side is just
/// replacing looks corrupt for a moment; one that stays so never heals.
pub(crate) const CORRUPT_MAX: u32 = 10;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The errors of one database in a row.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    errors: u32,
    corrupt: u32,
    last: String,
}

impl Patience {
    /// Takes an error in, and returns how long to wait before the same operation is tried again.
    ///
    /// # Errors
    /// The reason to leave, if another try cannot help.
    pub(crate) fn failed(&mut self, error: &BoxError) -> Result<Duration, Exit> {
        let text = chain(error);
        let exit = match error {
            BoxError::Fenced { .. } => Some(Exit::Fenced),
            BoxError::NotDeleteMode { .. } | BoxError::Newer { .. } | BoxError::Refused { .. } => {
                Some(Exit::Data)
            }
            BoxError::Busy { .. } | BoxError::HotJournal | BoxError::Io { .. } => {
                self.corrupt = 0;
                None
            }
            BoxError::Sqlite { source, .. } => {
                let corrupt = matches!(
                    source.sqlite_error_code(),
                    Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
                );
                self.corrupt = if corrupt { self.corrupt + 1 } else { 0 };
                (self.corrupt >= CORRUPT_MAX).then_some(Exit::Data)
            }
        };
        if exit.is_some() || text != self.last {
            say!("{text}");
        }
        self.last = text;
        self.errors = self.errors.saturating_add(1);
        match exit {
            Some(exit) => Err(exit),
            None => Ok(LONGEST_PAUSE.min(FIRST_PAUSE * (1 << (self.errors - 1).min(10)))),
        }
    }

    /// The operation worked.
    pub(crate) fn succeeded(&mut self) {
        if self.errors > 1 {
            say!("it works again, after {} errors", self.errors);
        }
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlite(code: i32) -> BoxError {
        let source = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        BoxError::sqlite("test", source)
    }

    #[test]
    fn only_ten_corrupt_reads_in_a_row_end_the_runner() {
        let corrupt = sqlite(rusqlite::ffi::SQLITE_CORRUPT);
        let mut patience = Patience::default();
        for n in 1..CORRUPT_MAX {
            assert!(patience.failed(&corrupt).is_ok(), "error {n}");
        }
        assert!(patience.failed(&BoxError::HotJournal).is_ok(), "another error starts again");
        for n in 1..CORRUPT_MAX {
            assert!(patience.failed(&corrupt).is_ok(), "error {n} of the second row");
        }
        assert_eq!(patience.failed(&corrupt), Err(Exit::Data));
    }

    #[test]
    fn waiting_is_bounded_and_ends_only_where_it_cannot_help() {
        let mut patience = Patience::default();
        for _ in 0..100 {
            assert!(patience.failed(&sqlite(rusqlite::ffi::SQLITE_FULL)).unwrap() <= LONGEST_PAUSE);
        }
        let fenced = BoxError::Fenced { message: "m".into() };
        assert_eq!(patience.failed(&fenced), Err(Exit::Fenced));
    }
}
