//! What was handed, part by part, to platforms that do not honour keys.

use std::time::Duration;

use rusqlite::{Connection, Row, named_params};
use twobox_shared::time::UnixMillis;

use super::{Operation, Parts};
use twobox_model::channel::{PartRecord, PartState};

/// How long records are kept of a message that is not wholly there. A person may have it sent once more.
pub const KEPT: Duration = Duration::from_secs(60 * 24 * 60 * 60);

impl Parts<'_> {
    /// What is recorded of a message: of parts that left, or may have.
    pub fn of(&self, key: &str) -> Operation<Vec<PartRecord>> {
        let key = key.to_owned();
        self.0.operation("read what was sent of a message", move |db| of(db, &key))
    }

    /// A part is about to leave.
    pub fn begin(&self, key: &str, part: &str, now: UnixMillis) -> Operation<()> {
        let (key, part) = (key.to_owned(), part.to_owned());
        self.0.operation("write down what is sent of a message", move |db| {
            // What was taken is never begun again, whoever asks.
            db.execute(
                "INSERT INTO sent_parts (key, part, state, at_ms) VALUES (:key, :part, 'begun', :now)
                 ON CONFLICT (key, part) DO UPDATE SET state = 'begun', at_ms = :now
                 WHERE state <> 'taken'",
                named_params! { ":key": key, ":part": part, ":now": now },
            )
            .map(drop)
        })
    }

    /// The platform took a part.
    pub fn taken(
        &self,
        key: &str,
        part: &str,
        platform_id: Option<&str>,
        now: UnixMillis,
    ) -> Operation<()> {
        let (key, part) = (key.to_owned(), part.to_owned());
        let platform_id = platform_id.map(str::to_owned);
        self.0.operation("write down what was taken of a message", move |db| {
            db.execute(
                "INSERT INTO sent_parts (key, part, state, platform_id, at_ms)
                 VALUES (:key, :part, 'taken', :id, :now)
                 ON CONFLICT (key, part) DO UPDATE SET state = 'taken', platform_id = :id, at_ms = :now
                 WHERE state <> 'taken'",
                named_params! { ":key": key, ":part": part, ":id": platform_id, ":now": now },
            )
            .map(drop)
        })
    }

    /// A part that was begun has certainly not arrived.
    pub fn undo(&self, key: &str, part: &str) -> Operation<()> {
        let (key, part) = (key.to_owned(), part.to_owned());
        self.0.operation("write down what was not sent of a message", move |db| {
            db.execute(
                "UPDATE sent_parts SET state = 'unsent'
                 WHERE key = :key AND part = :part AND state = 'begun'",
                named_params! { ":key": key, ":part": part },
            )
            .map(drop)
        })
    }

    /// A message is over. Of one that is not wholly there, what was taken stays known, for a person may have it
    /// sent once more; nobody asks any more after what is unknown.
    pub fn forget(&self, key: &str) -> Operation<()> {
        let key = key.to_owned();
        self.0.operation("forget what was sent of a message", move |db| {
            let tx = db.transaction()?;
            let of_key = named_params! { ":key": key };
            tx.execute(
                "DELETE FROM sent_parts WHERE key = :key AND NOT EXISTS
                   (SELECT 1 FROM sent_parts WHERE key = :key AND state <> 'taken')",
                of_key,
            )?;
            tx.execute(
                "UPDATE sent_parts SET state = 'unsent' WHERE key = :key AND state = 'begun'",
                of_key,
            )?;
            tx.commit()
        })
    }

    /// Forgets what is older than [`KEPT`]. Returns how many records.
    pub fn forget_old(&self, now: UnixMillis) -> Operation<usize> {
        let kept = i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX);
        self.0.operation("forget what was sent long ago", move |db| {
            db.execute(
                "DELETE FROM sent_parts WHERE at_ms < :before",
                named_params! { ":before": now.0.saturating_sub(kept) },
            )
        })
    }
}

fn of(db: &Connection, key: &str) -> rusqlite::Result<Vec<PartRecord>> {
    let from_row = |row: &Row<'_>| {
        let state = match row.get::<_, Option<String>>("id_of_taken")? {
            Some(_) => PartState::Taken { platform_id: row.get("platform_id")? },
            None => PartState::Begun { at: row.get("at_ms")? },
        };
        Ok(PartRecord { part: row.get("part")?, state })
    };
    db.prepare_cached(
        "SELECT part, platform_id, at_ms, iif(state = 'taken', part, NULL) AS id_of_taken
         FROM sent_parts WHERE key = :key AND state <> 'unsent' ORDER BY part",
    )?
    .query_map(named_params! { ":key": key }, from_row)?
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    const NOW: UnixMillis = UnixMillis(1_000);

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("host.db")).unwrap();
        (dir, store)
    }

    fn record(part: &str, state: PartState) -> PartRecord {
        PartRecord { part: part.to_owned(), state }
    }

    fn taken(id: &str) -> PartState {
        PartState::Taken { platform_id: Some(id.to_owned()) }
    }

    #[test]
    fn a_part_is_begun_taken_and_never_begun_again() {
        let (_dir, store) = store();
        let parts = store.parts();
        parts.begin("k", "1", NOW).wait().unwrap();
        assert_eq!(parts.of("k").wait().unwrap(), [record("1", PartState::Begun { at: NOW })]);
        parts.taken("k", "1", Some("id"), NOW).wait().unwrap();
        parts.begin("k", "1", NOW).wait().unwrap();
        parts.undo("k", "1").wait().unwrap();
        parts.taken("k", "1", Some("another"), NOW).wait().unwrap();
        assert_eq!(parts.of("k").wait().unwrap(), [record("1", taken("id"))]);
        assert_eq!(parts.of("other").wait().unwrap(), []);
        parts.taken("k", "2", None, NOW).wait().unwrap();
        let nameless = PartState::Taken { platform_id: None };
        assert_eq!(parts.of("k").wait().unwrap()[1], record("2", nameless));
    }

    #[test]
    fn of_a_message_that_is_not_whole_what_was_taken_stays_known() {
        let (_dir, store) = store();
        let parts = store.parts();
        for end in ["unknown", "unsent", "whole"] {
            parts.begin(end, "1", NOW).wait().unwrap();
            parts.taken(end, "1", Some("id"), NOW).wait().unwrap();
            parts.begin(end, "2", NOW).wait().unwrap();
        }
        parts.undo("unsent", "2").wait().unwrap();
        parts.taken("whole", "2", None, NOW).wait().unwrap();
        for end in ["unknown", "unsent", "whole"] {
            parts.forget(end).wait().unwrap();
        }
        let first = [record("1", taken("id"))];
        assert_eq!(parts.of("unknown").wait().unwrap(), first, "a person sends it once more");
        assert_eq!(parts.of("unsent").wait().unwrap(), first);
        assert_eq!(parts.of("whole").wait().unwrap(), []);
        let old = NOW + KEPT;
        assert_eq!(parts.forget_old(old).wait().unwrap(), 0);
        assert_eq!(parts.forget_old(old + Duration::from_millis(1)).wait().unwrap(), 4);
    }
}
