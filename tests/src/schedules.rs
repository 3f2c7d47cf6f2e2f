//! Schedules and their runs, as `host.db` shows them. Read-only, as the boxes are.

use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::time::UnixMillis;

use crate::boxes::query;
use crate::ledger::{Run, now_us};
use crate::world::World;

/// A schedule with the cadence `every`, as `host.db` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSchedule {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its interval, as it is written.
    pub every: String,
    /// What its intervals are counted from.
    pub anchor_ms: i64,
    /// Whether it is not paused.
    pub enabled: bool,
    /// Its next slot.
    pub next_slot_ms: Option<i64>,
}

impl World {
    /// All schedules that were not removed.
    pub fn schedules(&self) -> Vec<StoredSchedule> {
        let select = "SELECT id, name, cadence_value, anchor_ms, enabled, next_slot_ms
                      FROM schedules WHERE removed_at_ms IS NULL ORDER BY name";
        query(&self.data().join("host.db"), select, |row| {
            Ok(StoredSchedule {
                id: row.get(0)?,
                name: row.get(1)?,
                every: row.get(2)?,
                anchor_ms: row.get(3)?,
                enabled: row.get(4)?,
                next_slot_ms: row.get(5)?,
            })
        })
    }

    /// What became of the slots of all schedules, as ledgers call it.
    pub fn runs(&self) -> Vec<Run> {
        let (wall, now) = (SystemClock.now(), now_us());
        let on_our_clock = move |at_ms: i64| {
            let ago = wall.since(UnixMillis(at_ms)).as_micros();
            now.saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX))
        };
        let select =
            "SELECT r.id, r.schedule_id, r.slot_ms, r.last_slot_ms, r.status, r.message_id,
                             r.prompt, r.output, s.session_id IS NOT NULL, r.created_at_ms,
                             coalesce(r.ended_at_ms, r.created_at_ms)
                      FROM runs r JOIN schedules s ON s.id = r.schedule_id
                      WHERE r.slot_ms IS NOT NULL ORDER BY r.id";
        query(&self.data().join("host.db"), select, |row| {
            Ok(Run {
                id: row.get(0)?,
                schedule: row.get(1)?,
                slot_ms: row.get(2)?,
                last_slot_ms: row.get(3)?,
                status: row.get(4)?,
                message: row.get(5)?,
                prompt: row.get(6)?,
                output: row.get(7)?,
                is_shown: row.get(8)?,
                made_us: on_our_clock(row.get(9)?),
                ended_us: on_our_clock(row.get(10)?),
            })
        })
    }

    /// Whether a run that has not ended is in this phase, or waits for its turn as `queued`.
    pub fn has_run_in(&self, phase: &str) -> bool {
        let select = "SELECT coalesce(phase, status) FROM runs WHERE ended_at_ms IS NULL";
        let phases: Vec<String> = query(&self.data().join("host.db"), select, |row| row.get(0));
        phases.iter().any(|it| it == phase)
    }
}
