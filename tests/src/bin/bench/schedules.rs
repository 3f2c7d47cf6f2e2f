//! Many schedules, as copies of one of the product's own making.

use std::time::Duration;

use rusqlite::{Connection, named_params};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::ids::{IdSource, SystemIds};
use twobox_shared::time::UnixMillis;

use crate::Error;
use crate::installation::Installation;

/// The schedule that the others are copies of.
const FIRST: &str = "first";

/// Nothing that is not due within it comes due while anything is measured.
pub(crate) const FAR: Duration = Duration::from_secs(6 * 60 * 60);

/// Adds a schedule of `agent` that is not due for hours.
pub(crate) fn add_first(installation: &Installation, agent: &str) -> Result<(), Error> {
    let at = (SystemClock.now() + FAR).to_rfc3339();
    // A paragraph, so that ten thousand of them are more than SQLite keeps in memory.
    let prompt = "Sum up what has come in since yesterday and was not answered. ".repeat(8);
    let words = ["--agent", agent, "--prompt", &prompt, "--at", &at];
    installation.twobox(&[&["schedules", "add", FIRST], &words[..]].concat())
}

/// Adds `count` copies of it that fire at `at`, in one commit.
pub(crate) fn copy(db: &mut Connection, count: usize, at: UnixMillis) -> rusqlite::Result<()> {
    let tx = db.transaction()?;
    for number in 0..count {
        tx.prepare_cached(
            "INSERT INTO schedules (id, agent_group_id, name, prompt, cadence_kind, cadence_value,
               time_zone, anchor_ms, missed, missed_window_ms, overlap, jitter_ms, next_slot_ms,
               next_due_ms, created_at_ms, updated_at_ms)
             SELECT :id, agent_group_id, :name, prompt, cadence_kind, :cadence, time_zone, :at,
               missed, missed_window_ms, overlap, jitter_ms, :at, :at, created_at_ms, updated_at_ms
             FROM schedules WHERE name = :first",
        )?
        .execute(named_params! {
            ":id": SystemIds.uuid().to_string(),
            ":name": format!("copy {number}"),
            ":cadence": at.to_rfc3339(),
            ":at": at,
            ":first": FIRST,
        })?;
    }
    tx.commit()
}
