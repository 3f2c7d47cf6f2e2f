//! Schedules as they stand: their definition, their next slot, their streaks.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params};
use serde::Serialize;
use twobox_shared::ids::{AgentGroupId, ScheduleId, SessionId};
use twobox_shared::inbox::Origin;
use twobox_shared::time::UnixMillis;

use super::listed::{Listed, listed};
use crate::word::word;
use crate::{Operation, Schedules};
use twobox_slots::streak::Streaks;
use twobox_slots::{missed, overlap};

/// What a person says about a schedule. Stored as it is: whoever calls has checked it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Definition {
    /// What people call it; unique among the schedules that were not removed.
    pub name: String,
    /// What the agent is told.
    pub prompt: String,
    /// The kind of its cadence, such as `daily`.
    pub cadence_kind: String,
    /// The cadence's own text, such as `23:30`.
    pub cadence_value: String,
    /// The IANA name of its zone.
    pub time_zone: String,
    /// What intervals are counted from.
    pub anchor: UnixMillis,
    /// Where it runs; `None` gives each run a session of its own.
    pub session: Option<SessionId>,
    /// The chat to which the answers of its runs go; empty if they are only kept.
    pub to: Origin,
    /// How many turns a run may take.
    pub max_turns: Option<i64>,
    /// How long a run may go on; its lease too.
    pub max_run_ms: Option<i64>,
    /// What becomes of missed slots.
    pub missed: missed::Policy,
    /// How long ago a missed slot may lie and still be run.
    pub missed_window_ms: i64,
    /// What a slot does while an earlier run goes on.
    pub overlap: overlap::Policy,
    /// How far a run may lie after its slot.
    pub jitter_ms: i64,
    /// No slot before this instant.
    pub not_before: Option<UnixMillis>,
    /// No slot after this instant.
    pub not_after: Option<UnixMillis>,
    /// After so many firings it is over.
    pub max_runs: Option<i64>,
}

impl Definition {
    /// What becomes of missed slots, and what one does while an earlier run goes on, in words.
    pub(super) const fn words(&self) -> [&'static str; 2] {
        [self.missed.as_str(), self.overlap.as_str()]
    }

    /// The parameters of the statements that store a definition, with its [`Definition::words`].
    pub(super) fn params<'a>(
        &'a self,
        [missed, overlap]: &'a [&'static str; 2],
    ) -> Vec<(&'static str, &'a dyn ToSql)> {
        vec![
            (":name", &self.name),
            (":prompt", &self.prompt),
            (":cadence_kind", &self.cadence_kind),
            (":cadence_value", &self.cadence_value),
            (":time_zone", &self.time_zone),
            (":anchor", &self.anchor),
            (":session", &self.session),
            (":to_channel", &self.to.channel_type),
            (":to_chat", &self.to.platform_id),
            (":to_thread", &self.to.thread_id),
            (":max_turns", &self.max_turns),
            (":max_run_ms", &self.max_run_ms),
            (":missed", missed),
            (":missed_window_ms", &self.missed_window_ms),
            (":overlap", overlap),
            (":jitter_ms", &self.jitter_ms),
            (":not_before", &self.not_before),
            (":not_after", &self.not_after),
            (":max_runs", &self.max_runs),
        ]
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            name: row.get("name")?,
            prompt: row.get("prompt")?,
            cadence_kind: row.get("cadence_kind")?,
            cadence_value: row.get("cadence_value")?,
            time_zone: row.get("time_zone")?,
            anchor: row.get("anchor_ms")?,
            session: row.get("session_id")?,
            to: to_from_row(row)?,
            max_turns: row.get("max_turns")?,
            max_run_ms: row.get("max_run_ms")?,
            missed: word(row, "missed")?,
            missed_window_ms: row.get("missed_window_ms")?,
            overlap: word(row, "overlap")?,
            jitter_ms: row.get("jitter_ms")?,
            not_before: row.get("not_before_ms")?,
            not_after: row.get("not_after_ms")?,
            max_runs: row.get("max_runs")?,
        })
    }
}

/// Where the answers go of what is in this row: a schedule, or a run.
pub(super) fn to_from_row(row: &Row<'_>) -> rusqlite::Result<Origin> {
    Ok(Origin {
        channel_type: row.get("to_channel_type")?,
        platform_id: row.get("to_platform_id")?,
        thread_id: row.get("to_thread_id")?,
    })
}

/// The slot that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Next {
    /// Its nominal time.
    pub slot: UnixMillis,
    /// When somebody has to look: the slot with its jitter, or later when it was put off.
    pub due: UnixMillis,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Schedule {
    /// Its id.
    pub id: ScheduleId,
    /// Whose it is.
    pub agent_group: AgentGroupId,
    /// What a person said.
    #[serde(flatten)]
    pub definition: Definition,
    /// How many of its slots made a run.
    pub fired: i64,
    /// Who or what paused it, if it is paused.
    pub pause_reason: Option<String>,
    /// Raised by everything that a person changes, and by each pause.
    pub revision: i64,
    /// Its next slot; `None` while it is paused and when it is over.
    pub next: Option<Next>,
    /// What went wrong in a row.
    pub streaks: Streaks,
    /// When `max_turns` was changed last.
    pub turns_edited_at: Option<UnixMillis>,
    /// When it was added.
    pub created_at: UnixMillis,
    /// When it was changed, paused or resumed last.
    pub updated_at: UnixMillis,
    /// When it was removed, if it was.
    pub removed_at: Option<UnixMillis>,
}

impl Schedule {
    const SELECT: &str = "
        SELECT id, agent_group_id, name, prompt, cadence_kind, cadence_value, time_zone, anchor_ms,
               session_id, to_channel_type, to_platform_id, to_thread_id, max_turns, max_run_ms, missed, missed_window_ms, overlap, jitter_ms,
               not_before_ms, not_after_ms, max_runs, fired, pause_reason, revision, next_slot_ms,
               next_due_ms, breach_streak, failure_streak, turns_edited_at_ms, created_at_ms,
               updated_at_ms, removed_at_ms
        FROM schedules";

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let slot: Option<UnixMillis> = row.get("next_slot_ms")?;
        let due: Option<UnixMillis> = row.get("next_due_ms")?;
        Ok(Self {
            id: row.get("id")?,
            agent_group: row.get("agent_group_id")?,
            definition: Definition::from_row(row)?,
            fired: row.get("fired")?,
            pause_reason: row.get("pause_reason")?,
            revision: row.get("revision")?,
            next: slot.zip(due).map(|(slot, due)| Next { slot, due }),
            streaks: Streaks {
                breaches: row.get("breach_streak")?,
                failures: row.get("failure_streak")?,
            },
            turns_edited_at: row.get("turns_edited_at_ms")?,
            created_at: row.get("created_at_ms")?,
            updated_at: row.get("updated_at_ms")?,
            removed_at: row.get("removed_at_ms")?,
        })
    }
}

/// The schedule with this id, removed or not.
pub(super) fn by_id(db: &Connection, id: ScheduleId) -> rusqlite::Result<Option<Schedule>> {
    db.prepare_cached(&format!("{} WHERE id = :id", Schedule::SELECT))?
        .query_row(named_params! { ":id": id }, Schedule::from_row)
        .optional()
}

impl Schedules<'_> {
    /// The schedule with this name or id; one that was removed is found by its id only.
    pub fn find(&self, name_or_id: &str) -> Operation<Option<Schedule>> {
        let name_or_id = name_or_id.to_owned();
        self.0.operation("find a schedule", move |db| {
            let select = format!(
                "{} WHERE (name = :given AND removed_at_ms IS NULL) OR id = :given
         ORDER BY name <> :given LIMIT 1",
                Schedule::SELECT
            );
            db.prepare_cached(&select).and_then(|mut select| {
                select
                    .query_row(named_params! { ":given": name_or_id }, Schedule::from_row)
                    .optional()
            })
        })
    }

    /// The schedules of `agent`, or of all agents, that were not removed, by name.
    pub fn list(&self, agent: Option<AgentGroupId>) -> Operation<Listed<Schedule>> {
        self.0.operation("list schedules", move |db| {
            let select = format!(
                "{} WHERE removed_at_ms IS NULL AND (:agent IS NULL OR agent_group_id = :agent)
         ORDER BY name",
                Schedule::SELECT
            );
            listed(db, &select, named_params! { ":agent": agent }, Schedule::from_row)
        })
    }

    /// At most `limit` schedules that somebody has to look at by `now`, the most urgent first.
    pub fn due(&self, now: UnixMillis, limit: u32) -> Operation<Listed<Schedule>> {
        self.0.operation("list due schedules", move |db| {
            let select = format!("{} {DUE}", Schedule::SELECT);
            listed(db, &select, named_params! { ":now": now, ":limit": limit }, Schedule::from_row)
        })
    }

    /// When somebody has to look at a schedule next.
    pub fn next_due(&self) -> Operation<Option<UnixMillis>> {
        self.0.operation("find the next due schedule", move |db| {
            db.prepare_cached(NEXT_DUE)
                .and_then(|mut select| select.query_row([], |row| row.get(0)))
        })
    }
}

/// Which schedules somebody has to look at, the most urgent first.
pub(super) const DUE: &str = "
    WHERE next_due_ms IS NOT NULL AND next_due_ms <= :now ORDER BY next_due_ms LIMIT :limit";

pub(super) const NEXT_DUE: &str =
    "SELECT min(next_due_ms) FROM schedules WHERE next_due_ms IS NOT NULL";
