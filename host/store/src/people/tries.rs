//! Wrong codes: so many are looked at in an hour, of one person and of all, however often a host is started.

use rusqlite::{Connection, named_params};
use twobox_model::people::Tries;
use twobox_shared::time::UnixMillis;

/// How many wrong codes count at `now`. What was said in the future, before the clock was set back, does not.
pub(super) fn tries(
    tx: &Connection,
    (channel, sender): (&str, &str),
    now: UnixMillis,
) -> rusqlite::Result<Tries> {
    tx.query_row(
        "SELECT count(*) FILTER (WHERE channel_id = :channel AND sender_id = :sender) AS own,
                count(*) AS everybody
         FROM wrong_codes WHERE at_ms > :begin AND at_ms <= :now",
        named_params! {
            ":channel": channel, ":sender": sender, ":begin": now - Tries::WITHIN, ":now": now,
        },
        |row| Ok(Tries { own: row.get("own")?, all: row.get("everybody")? }),
    )
}

/// One more was wrong. What does not count any more goes.
pub(super) fn count_wrong(
    tx: &Connection,
    (channel, sender): (&str, &str),
    now: UnixMillis,
) -> rusqlite::Result<()> {
    tx.execute(
        "DELETE FROM wrong_codes WHERE at_ms <= :begin OR at_ms > :now",
        named_params! { ":begin": now - Tries::WITHIN, ":now": now },
    )?;
    tx.execute(
        "INSERT INTO wrong_codes (at_ms, channel_id, sender_id) VALUES (:now, :channel, :sender)",
        named_params! { ":now": now, ":channel": channel, ":sender": sender },
    )
    .map(drop)
}
