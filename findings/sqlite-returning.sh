#!/usr/bin/env bash
# UPDATE … RETURNING through rusqlite's query_row: the row comes back, the change does not stay.
#
# One would guess: `query_row` says Ok(row) only if the statement has succeeded, and outside of a
#   transaction a statement that succeeded is committed.
# What happens: SQLite gives out the first row before the statement ends, and commits at its end.
#   `query_row` takes one row and resets the statement without looking at the result of that. If the
#   commit fails there (a reader holds its lock past the busy timeout, or a deferred foreign key is
#   broken), all is rolled back, and the caller has Ok(row). Python's `fetchone()` does the same where
#   the statement has a second row to give. `execute` is the other way about: it says
#   ExecuteReturnedResults, and the row has been inserted.
# Seen with: rusqlite 0.41.1 (SQLite 3.54.1, bundled), crates.io; Python 3.11 with SQLite 3.40.1,
#   Debian 12.
# Why it matters to a host of agents: "claim a job and tell me which" is just this statement, and in
#   rollback-journal mode a reader in another process is an ordinary reason for a commit to fail. Two
#   workers then believe that they have the same job. Claim within an explicit transaction, whose
#   COMMIT is seen to fail, or read the rows to their end.
# Rule: <https://sqlite.org/lang_returning.html> (all changes are made in the first sqlite3_step()),
#   <https://sqlite.org/c3ref/reset.html> (sqlite3_reset() may return an error of its own).
set -euo pipefail

dir=$(mktemp --directory)
trap 'rm -rf -- "$dir"' EXIT
mkdir "$dir/src"

cat >"$dir/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
rusqlite = { version = "=0.41.1", features = ["bundled"] }
TOML

cat >"$dir/src/main.rs" <<'RUST'
use rusqlite::{Connection, Error, Result};
use std::time::Duration;

fn one<T: rusqlite::types::FromSql>(db: &Connection, sql: &str) -> Result<T> {
    db.query_row(sql, [], |row| row.get(0))
}

/// The same as `one`, but goes on until there is no further row.
fn to_the_end(db: &Connection, sql: &str) -> Result<Vec<i64>> {
    db.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

fn short<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result {
        Ok(value) => format!("Ok({value:?})"),
        Err(Error::SqliteFailure(_, Some(text))) => text,
        Err(error) => format!("{error:?}"),
    }
}

fn main() -> Result<()> {
    let path = std::env::args().nth(1).expect("a path");
    let writer = Connection::open(&path)?;
    writer.busy_timeout(Duration::from_millis(100))?;
    writer.execute_batch(
        "CREATE TABLE job(id INTEGER PRIMARY KEY, state TEXT);
         INSERT INTO job VALUES (1, 'queued');
         CREATE TABLE owner(id INTEGER PRIMARY KEY);
         CREATE TABLE pet(id INTEGER PRIMARY KEY,
             owner INTEGER REFERENCES owner(id) DEFERRABLE INITIALLY DEFERRED);
         PRAGMA foreign_keys = ON;",
    )?;
    let claim = "UPDATE job SET state = 'taken' WHERE id = 1 RETURNING id";

    let reader = Connection::open(&path)?;
    reader.execute_batch("BEGIN")?;
    one::<i64>(&reader, "SELECT count(*) FROM job")?;
    println!("beside a reader, query_row:  {}", short(one::<i64>(&writer, claim)));
    println!("beside a reader, to the end: {}", short(to_the_end(&writer, claim)));
    reader.execute_batch("ROLLBACK")?;
    println!("the job afterwards:          {}", one::<String>(&writer, "SELECT state FROM job")?);

    let insert = "INSERT INTO pet VALUES (7, 99) RETURNING id";
    println!("no such owner, query_row:    {}", short(one::<i64>(&writer, insert)));
    println!("no such owner, to the end:   {}", short(to_the_end(&writer, insert)));
    println!("pets afterwards:             {}", one::<i64>(&writer, "SELECT count(*) FROM pet")?);

    let plain = writer.execute("INSERT INTO owner VALUES (5) RETURNING id", []);
    println!("execute with RETURNING:      {}", short(plain));
    println!("owners afterwards:           {}", one::<i64>(&writer, "SELECT count(*) FROM owner")?);
    Ok(())
}
RUST

cat >"$dir/finding.py" <<'PY'
import sqlite3
import sys

writer, reader = (sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0.1) for _ in "wr")
writer.executescript(
    "CREATE TABLE job(id INTEGER PRIMARY KEY, state TEXT);"
    "INSERT INTO job VALUES (1, 'queued'), (2, 'queued');"
)
reader.execute("BEGIN")
reader.execute("SELECT count(*) FROM job").fetchall()
cursor = writer.execute("UPDATE job SET state = 'taken' RETURNING id")
print("Python, beside a reader:    ", cursor.fetchone())
cursor.close()
reader.execute("ROLLBACK")
print("Python, the jobs afterwards:", writer.execute("SELECT state FROM job").fetchall())
PY

expected="beside a reader, query_row:  Ok(1)
beside a reader, to the end: database is locked
the job afterwards:          queued
no such owner, query_row:    Ok(7)
no such owner, to the end:   FOREIGN KEY constraint failed
pets afterwards:             0
execute with RETURNING:      ExecuteReturnedResults
owners afterwards:           1
Python, beside a reader:     (1,)
Python, the jobs afterwards: [('queued',), ('queued',)]"

export CARGO_TARGET_DIR="$dir/target"
cargo build --quiet --manifest-path "$dir/Cargo.toml"
seen=$("$dir/target/debug/finding" "$dir/a.db" && python3 "$dir/finding.py" "$dir/b.db")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
