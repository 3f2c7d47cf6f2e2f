//! What the disk itself costs: one commit with the settings of the two boxes.

use std::path::Path;
use std::time::Instant;

use crate::sample::Sample;

/// `rounds` inserts of one row each, on the disk of `dir`.
pub(crate) fn commit(dir: &Path, rounds: usize) -> Result<Sample, Box<dyn std::error::Error>> {
    let path = dir.join("floor.db");
    let conn = rusqlite::Connection::open(&path)?;
    conn.pragma_update(None, "journal_mode", "DELETE")?;
    conn.pragma_update(None, "synchronous", "EXTRA")?;
    conn.execute_batch("CREATE TABLE row (id INTEGER PRIMARY KEY, content TEXT) STRICT")?;
    let mut sample = Sample::default();
    for _ in 0..rounds {
        let start = Instant::now();
        conn.execute("INSERT INTO row (content) VALUES (?1)", ["a message of usual length"])?;
        sample.add(start.elapsed());
    }
    drop(conn);
    std::fs::remove_file(&path)?;
    Ok(sample)
}
