//! What the service answers, for JSON and for people. All times are RFC 3339 on the clock of the
//! schedule's zone, durations are named by their unit, and words are those of `host.db`. Runs are in `runs`.

mod runs;

use std::collections::HashMap;

use serde::Serialize;
use twobox_shared::ids::{AgentGroupId, RunId, ScheduleId, SessionId};
use twobox_shared::inbox::Origin;
use twobox_shared::time::UnixMillis;

use super::ServiceError;
use super::times::Times;
use super::warnings::Warnings;
use twobox_slots::cadence::Cadence;
use twobox_slots::zone::Zone;
use twobox_slots::{missed, overlap};
use twobox_store::Store;
use twobox_store::schedules::{Next, Schedule, Streaks, Unreadable};

pub use runs::{MetricsList, MetricsView, RunPage, RunView};

twobox_model::words! {
    /// How a schedule is.
    State {
        /// Its next slot will come.
        Enabled = "enabled",
        /// Nothing that its cadence makes starts.
        Paused = "paused",
        /// It has no slot any more.
        Over = "over",
        /// It was removed.
        Removed = "removed",
    }
}

/// A cadence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CadenceView {
    /// Its kind, such as `daily`.
    pub kind: String,
    /// Its value, such as `23:30`.
    pub value: String,
    /// The same for people, such as `every day at 23:30`.
    pub text: String,
}

/// A chat to which answers go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChatView {
    /// The channel's id, such as `command`.
    pub channel: String,
    /// The chat's id on that channel.
    pub chat: String,
    /// The thread; `None` is the chat itself.
    pub thread: Option<String>,
}

impl ChatView {
    fn of(to: Origin) -> Option<Self> {
        let Origin { channel_type, platform_id, thread_id } = to;
        Some(Self { channel: channel_type?, chat: platform_id?, thread: thread_id })
    }
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "they are the fields of `Draft` and of `store::schedules::Schedule`"
)]
pub struct ScheduleView {
    pub id: ScheduleId,
    pub name: String,
    /// The agent group's name.
    pub agent: String,
    pub agent_id: AgentGroupId,
    pub prompt: String,
    pub cadence: CadenceView,
    pub time_zone: String,
    pub session: Option<SessionId>,
    pub to: Option<ChatView>,
    pub max_turns: Option<i64>,
    pub max_run_sec: Option<i64>,
    pub missed: missed::Policy,
    pub missed_window_sec: i64,
    pub overlap: overlap::Policy,
    pub jitter_sec: i64,
    pub not_before: Option<String>,
    pub not_after: Option<String>,
    pub max_runs: Option<i64>,
    pub fired: i64,
    pub state: State,
    pub pause_reason: Option<String>,
    /// What this build cannot read of it, and so why it cannot fire.
    pub problem: Option<String>,
    pub next_slot: Option<String>,
    pub next_due: Option<String>,
    pub streaks: Streaks,
    pub revision: i64,
    pub turns_edited_at: Option<String>,
    pub created_at: String,
    pub updated_at: String,
    pub removed_at: Option<String>,
}

impl ScheduleView {
    pub(super) fn of(store: &Store, schedule: &Schedule) -> Result<Self, ServiceError> {
        let definition = &schedule.definition;
        let agent = store
            .agents()
            .by_id(schedule.agent_group)
            .wait()?
            .map_or_else(|| schedule.agent_group.to_string(), |agent| agent.name);
        let times = Times::of(definition);
        let zone = zone_of(schedule);
        let time = |at: UnixMillis| zone.rfc3339(at);
        let text = match &times {
            // An instant is read on the schedule's clock, as all others.
            Ok(Times { cadence: Cadence::Once { at }, .. }) => format!("once at {}", time(*at)),
            Ok(times) => times.cadence.to_string(),
            Err(_) => format!("{} {}", definition.cadence_kind, definition.cadence_value),
        };
        let state = match (schedule.removed_at, &schedule.pause_reason, schedule.next) {
            (Some(_), _, _) => State::Removed,
            (None, Some(_), _) => State::Paused,
            (None, None, Some(_)) => State::Enabled,
            (None, None, None) => State::Over,
        };
        Ok(Self {
            id: schedule.id,
            name: definition.name.clone(),
            agent,
            agent_id: schedule.agent_group,
            prompt: definition.prompt.clone(),
            cadence: CadenceView {
                kind: definition.cadence_kind.clone(),
                value: definition.cadence_value.clone(),
                text,
            },
            time_zone: definition.time_zone.clone(),
            session: definition.session,
            to: ChatView::of(definition.to.clone()),
            max_turns: definition.max_turns,
            max_run_sec: definition.max_run_ms.map(seconds),
            missed: definition.missed,
            missed_window_sec: seconds(definition.missed_window_ms),
            overlap: definition.overlap,
            jitter_sec: seconds(definition.jitter_ms),
            not_before: definition.not_before.map(time),
            not_after: definition.not_after.map(time),
            max_runs: definition.max_runs,
            fired: schedule.fired,
            state,
            pause_reason: schedule.pause_reason.clone(),
            problem: times.err().map(|problem| problem.to_string()),
            next_slot: schedule.next.map(|next| time(next.slot)),
            next_due: schedule.next.map(|next| time(next.due)),
            streaks: schedule.streaks,
            revision: schedule.revision,
            turns_edited_at: schedule.turns_edited_at.map(time),
            created_at: time(schedule.created_at),
            updated_at: time(schedule.updated_at),
            removed_at: schedule.removed_at.map(time),
        })
    }
}

/// Seconds are what people set, so nothing is lost.
const fn seconds(millis: i64) -> i64 {
    millis / 1000
}

/// The zone of a schedule; UTC if this build does not know it.
pub(super) fn zone_of(schedule: &Schedule) -> Zone {
    schedule.definition.time_zone.parse().unwrap_or(Zone::UTC)
}

/// A slot to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Upcoming {
    /// Its nominal time.
    pub slot: String,
    /// When it fires: later by the jitter, or because chat came first.
    pub due: String,
}

impl Upcoming {
    pub(super) fn of(zone: &Zone, next: Next) -> Self {
        Self { slot: zone.rfc3339(next.slot), due: zone.rfc3339(next.due) }
    }
}

/// A schedule, and what is to be expected of it.
#[derive(Debug, Clone, Serialize)]
pub struct Detail {
    /// The schedule.
    pub schedule: ScheduleView,
    /// Its next slots, five at most.
    pub next: Vec<Upcoming>,
    /// With which others it meets.
    pub warnings: Warnings,
}

/// A schedule, and its past too.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// The schedule.
    #[serde(flatten)]
    pub detail: Detail,
    /// How many of its runs wait for their turn.
    pub waiting: usize,
    /// Its last runs, what was left out, and what goes on; the newest first.
    pub runs: Vec<RunView>,
    /// Rows of its runs that this build cannot read.
    pub unreadable: Vec<Unreadable>,
}

/// All schedules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScheduleList {
    /// Those that can be read, by name.
    pub schedules: Vec<ListedSchedule>,
    /// Rows of others that this build cannot read.
    pub unreadable: Vec<Unreadable>,
}

/// A schedule in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedSchedule {
    /// The schedule.
    #[serde(flatten)]
    pub schedule: ScheduleView,
    /// Its newest run, or what was left out after it.
    pub last_run: Option<RunView>,
}

/// What came of a pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PausedView {
    /// The schedule.
    pub schedule: ScheduleView,
    /// Whether it was paused before; then its reason stays.
    pub was_paused: bool,
    /// How many runs that waited for their turn were cancelled.
    pub cancelled: usize,
}

/// What came of resuming.
#[derive(Debug, Clone, Serialize)]
pub struct ResumedView {
    /// The schedule.
    #[serde(flatten)]
    pub detail: Detail,
    /// Whether it was not paused; then nothing changed.
    pub was_enabled: bool,
}

/// What came of removing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemovedView {
    /// By this id it still is known.
    pub id: ScheduleId,
    /// The name, which is free now.
    pub name: String,
    /// How many runs that waited for their turn were cancelled.
    pub cancelled: usize,
}

/// What came of a backfill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackfillView {
    /// The schedule's name.
    pub schedule: String,
    /// How many slots lie in that time.
    pub slots: usize,
    /// The runs that wait for their turn now.
    pub queued: Vec<RunId>,
    /// How many slots were left as they are, because they have a run, or because the row at them
    /// stands for other missed slots too.
    pub kept: usize,
    /// The first of the slots.
    pub first: Option<String>,
    /// The last of them.
    pub last: Option<String>,
}

/// The names and zones of schedules, each looked up once, removed ones too.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<ScheduleId, (String, Zone)>);

impl Names {
    pub(super) fn of(&mut self, store: &Store, id: ScheduleId) -> &(String, Zone) {
        self.0.entry(id).or_insert_with(|| {
            // One that cannot be read is named by its id: its runs are shown all the same.
            let found = store.schedules().find(&id.to_string()).wait().ok().flatten();
            found.map_or_else(
                || (id.to_string(), Zone::UTC),
                |schedule| (schedule.definition.name.clone(), zone_of(&schedule)),
            )
        })
    }
}
