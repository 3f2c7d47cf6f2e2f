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

/// Errors in a row of something that is tried again and again.
#[derive(Debug, Default)]
pub(crate) struct Row {
    errors: u32,
    last: String,
}

impl Row {
    /// Takes an error in. Returns whether people have not been told of it, and how long to wait, at most
    /// `longest`, before the same is tried again.
    pub(crate) fn failed(&mut self, text: String, longest: Duration) -> (bool, Duration) {
        let is_news = text != self.last;
        self.last = text;
        self.errors = self.errors.saturating_add(1);
        (is_news, longest.min(FIRST_PAUSE * (1 << (self.errors - 1).min(10))))
    }

    /// It worked. Returns after how many errors, if that is worth telling.
    pub(crate) fn succeeded(&mut self) -> Option<u32> {
        let errors = std::mem::take(self).errors;
        (errors > 1).then_some(errors)
    }
}

/// The errors of one database in a row.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    row: Row,
    corrupt: u32,
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
        let (is_news, pause) = self.row.failed(text.clone(), LONGEST_PAUSE);
        if exit.is_some() || is_news {
            say!("{text}");
        }
        match exit {
            Some(exit) => Err(exit),
            None => Ok(pause),
        }
    }

    /// The operation worked.
    pub(crate) fn succeeded(&mut self) {
        if let Some(errors) = self.row.succeeded() {
            say!("it works again, after {errors} errors");
        }
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_lasts_is_told_once_and_tried_less_and_less_often() {
        let mut row = Row::default();
        let longest = Duration::from_secs(5);
        let (mut news, mut waited) = (0, Vec::new());
        for _ in 0..40 {
            let (is_news, pause) = row.failed("no room".to_owned(), longest);
            news += u32::from(is_news);
            waited.push(pause);
        }
        assert_eq!((news, waited[0], waited[39]), (1, FIRST_PAUSE, longest));
        assert!(waited.is_sorted());
        assert!(row.failed("something else".to_owned(), longest).0);
        assert_eq!((row.succeeded(), row.succeeded()), (Some(41), None));
        assert_eq!(row.failed("no room".to_owned(), longest), (true, FIRST_PAUSE));
        assert_eq!(row.succeeded(), None, "one alone has been told");
    }

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
