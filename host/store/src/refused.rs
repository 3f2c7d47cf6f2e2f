//! What agents asked or sent, was refused, and is only counted.

use rusqlite::{Connection, OptionalExtension, named_params};
use serde::Serialize;
use twobox_shared::ids::SessionId;
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use super::{DbError, Operation, Refusals, failed};

/// How long one row counts on before there is another, in milliseconds.
const SPAN_MS: i64 = 60 * 60 * 1000;

/// How many rows a session has at most. After that the last one counts on for ever.
const ROWS_MAX: i64 = 100;

/// Rows of an outbox that were refused and that have no records of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The number of the first of them.
    #[serde(rename = "first_seq")]
    pub first: Seq,
    /// That of the last. Between them there may be rows that were not refused.
    #[serde(rename = "last_seq")]
    pub last: Seq,
    /// How many they are.
    pub count: u64,
    /// Why the last of them was refused.
    pub error: String,
    /// When the first was,
    pub first_at: UnixMillis,
    /// and when the last.
    pub last_at: UnixMillis,
}

impl Refused {
    /// Whether a row with this number may be one of them.
    pub fn covers(&self, number: i64) -> bool {
        (self.first.0..=self.last.0).contains(&number)
    }
}

impl Refusals<'_> {
    /// Counts rows that were refused at `now`, by their numbers in order. Those that were counted before
    /// change nothing. Returns how many were not.
    pub fn count(
        &self,
        session: SessionId,
        numbers: &[Seq],
        error: &str,
        now: UnixMillis,
    ) -> Operation<usize> {
        let numbers = numbers.to_owned();
        let error = error.to_owned();
        self.0.compound(move |db| count(db, session, &numbers, &error, now))
    }

    /// What was counted for a session, oldest first.
    pub fn of_session(&self, session: SessionId) -> Operation<Vec<Refused>> {
        self.0.compound(move |db| of_session(db, session))
    }
}

pub(crate) fn count(
    db: &Connection,
    session: SessionId,
    numbers: &[Seq],
    error: &str,
    now: UnixMillis,
) -> Result<usize, DbError> {
    let add = failed("count what was refused");
    let newest: Option<(Seq, Seq, i64)> = db
        .query_row(
            "SELECT first_seq, last_seq, first_at_ms FROM refused WHERE session_id = :session
             ORDER BY first_seq DESC LIMIT 1",
            named_params! { ":session": session },
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()
        .map_err(&add)?;
    let new = |number: &&Seq| newest.is_none_or(|(_, last, _)| **number > last);
    let fresh: Vec<Seq> = numbers.iter().filter(new).copied().collect();
    let (Some(first), Some(last)) = (fresh.first(), fresh.last()) else { return Ok(0) };
    let rows: i64 = db
        .query_row(
            "SELECT count(*) FROM refused WHERE session_id = :session",
            named_params! { ":session": session },
            |row| row.get(0),
        )
        .map_err(&add)?;
    let goes_on =
        newest.filter(|(_, _, began)| rows >= ROWS_MAX || (0..SPAN_MS).contains(&(now.0 - began)));
    let many = i64::try_from(fresh.len()).unwrap_or(i64::MAX);
    let changed = match goes_on {
        Some((begin, before, _)) => db.execute(
            "UPDATE refused SET last_seq = :last, count = count + :many, error = :error,
               last_at_ms = :now
             WHERE session_id = :session AND first_seq = :begin AND last_seq = :before",
            named_params! {
                ":session": session, ":begin": begin, ":before": before, ":last": last,
                ":many": many, ":error": error, ":now": now,
            },
        ),
        None => db.execute(
            "INSERT INTO refused (session_id, first_seq, last_seq, count, error, first_at_ms,
               last_at_ms)
             VALUES (:session, :first, :last, :many, :error, :now, :now)
             ON CONFLICT (session_id, first_seq) DO NOTHING",
            named_params! {
                ":session": session, ":first": first, ":last": last, ":many": many,
                ":error": error, ":now": now,
            },
        ),
    };
    let changed = changed.map_err(add)?;
    Ok(if changed == 1 { fresh.len() } else { 0 })
}

pub(crate) fn of_session(db: &Connection, session: SessionId) -> Result<Vec<Refused>, DbError> {
    db.prepare(
        "SELECT first_seq, last_seq, count, error, first_at_ms, last_at_ms FROM refused
         WHERE session_id = :session ORDER BY first_seq",
    )
    .and_then(|mut select| {
        let rows = select.query_map(named_params! { ":session": session }, |row| {
            Ok(Refused {
                first: row.get(0)?,
                last: row.get(1)?,
                count: row.get::<_, i64>(2)?.cast_unsigned(),
                error: row.get(3)?,
                first_at: row.get(4)?,
                last_at: row.get(5)?,
            })
        })?;
        rows.collect()
    })
    .map_err(failed("list what was refused"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "01a2297c-98df-74b6-bbfb-f9077b2f25c4";

    fn made() -> (Connection, SessionId) {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("../../../schema/host/0007_refused.sql")).unwrap();
        db.pragma_update(None, "foreign_keys", false).unwrap();
        (db, SESSION.parse().unwrap())
    }

    fn numbers(range: std::ops::RangeInclusive<i64>) -> Vec<Seq> {
        range.step_by(2).map(Seq).collect()
    }

    #[test]
    fn what_was_counted_is_not_counted_again() {
        let (db, session) = made();
        let count =
            |range, now| count(&db, session, &numbers(range), "no", UnixMillis(now)).unwrap();
        assert_eq!(count(3..=9, 1000), 4);
        assert_eq!(count(3..=9, 1001), 0, "the host died before the cursor moved");
        assert_eq!(count(7..=13, 1002), 2);
        let [only] = &of_session(&db, session).unwrap()[..] else { panic!("one hour, one row") };
        assert_eq!((only.first, only.last, only.count), (Seq(3), Seq(13), 6));
        assert_eq!((only.first_at, only.last_at), (UnixMillis(1000), UnixMillis(1002)));
    }

    #[test]
    fn each_hour_has_a_row_and_a_session_has_so_many_at_most() {
        let (db, session) = made();
        for hour in 0..ROWS_MAX + 20 {
            let numbers = numbers(2 * hour + 3..=2 * hour + 3);
            assert_eq!(count(&db, session, &numbers, "no", UnixMillis(hour * SPAN_MS)).unwrap(), 1);
        }
        let rows = of_session(&db, session).unwrap();
        assert_eq!(rows.len() as i64, ROWS_MAX);
        assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), (ROWS_MAX + 20) as u64);
        assert_eq!(rows.last().unwrap().last, Seq(2 * (ROWS_MAX + 19) + 3));
        // A clock that was set back begins another row, if there is room for one.
        let (db, session) = made();
        for (at, number) in [(SPAN_MS * 5, 3), (10, 5)] {
            count(&db, session, &[Seq(number)], "no", UnixMillis(at)).unwrap();
        }
        assert_eq!(of_session(&db, session).unwrap().len(), 2);
    }
}
