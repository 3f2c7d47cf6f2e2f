//! A ledger's file: one JSON object on each line, only ever appended to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::record::Record;

/// A ledger to write to. Several writers may have the same file.
#[derive(Debug)]
pub struct Ledger {
    file: File,
}

impl Ledger {
    /// The ledger at `path`, which is created if it is not there.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file })
    }

    /// Appends a line and returns when it is durable. It is one write(2), so a writer that is killed
    /// leaves all of the line or nothing.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn append(&self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_string(record).expect("keys are strings");
        line.push('\n');
        (&self.file).write_all(line.as_bytes())?;
        self.file.sync_data()
    }
}

/// What stands in the ledger at `path`; nothing if nobody has written it yet.
///
/// # Errors
/// Whatever the operating system says, and `InvalidData` for a line that is no record: a ledger that
/// cannot be read proves nothing.
pub fn read(path: &Path) -> io::Result<Vec<Record>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            let place = format!("{}:{}", path.display(), number + 1);
            io::Error::new(io::ErrorKind::InvalidData, format!("{place}: {error}: {line}"))
        })
    };
    text.lines().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_writers_append_is_all_read_and_a_torn_line_is_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.jsonl");
        assert_eq!(read(&path).unwrap(), []);
        let record = |at_us| Record::Accepted { at_us, message: "m\n1".to_owned() };
        let (one, two) = (Ledger::open(&path).unwrap(), Ledger::open(&path).unwrap());
        one.append(&record(1)).unwrap();
        two.append(&record(2)).unwrap();
        one.append(&record(3)).unwrap();
        assert_eq!(read(&path).unwrap(), [record(1), record(2), record(3)]);
        (&two.file).write_all(b"{\"what\":\"acc").unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.to_string().contains("ledger.jsonl:4"), "{error}");
    }
}
