//! Runs, and what they cost.

use serde::Serialize;
use twobox_shared::ids::{MessageId, RunId, ScheduleId, SessionId};
use twobox_shared::time::UnixMillis;

use super::{ChatView, seconds};
use crate::service::words;
use twobox_slots::zone::Zone;
use twobox_store::schedules::{Load, Phase, Reason, Run, RunMetrics, Status, Trigger, Unreadable};

/// A run, or slots that were left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "they are the fields of `store::schedules::Run` and its `Hold`")]
pub struct RunView {
    pub id: RunId,
    /// The schedule's name.
    pub schedule: String,
    pub schedule_id: ScheduleId,
    pub trigger: Trigger,
    pub status: Status,
    pub phase: Option<Phase>,
    pub reason: Option<Reason>,
    /// The reason in words.
    pub why: Option<&'static str>,
    pub error: Option<String>,
    pub slot: Option<String>,
    pub slot_count: i64,
    pub last_slot: Option<String>,
    pub due: String,
    pub session: Option<SessionId>,
    pub message: Option<MessageId>,
    pub prompt: String,
    pub to: Option<ChatView>,
    pub max_turns: Option<i64>,
    pub max_run_sec: Option<i64>,
    pub turns: Option<i64>,
    pub output: Option<String>,
    pub cancel_requested_at: Option<String>,
    pub lease_until: Option<String>,
    pub created_at: String,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
}

impl RunView {
    pub(in crate::service) fn of(run: Run, (schedule, zone): &(String, Zone)) -> Self {
        let time = |at: UnixMillis| zone.rfc3339(at);
        let hold = run.hold.as_ref();
        Self {
            id: run.id,
            schedule: schedule.clone(),
            schedule_id: run.schedule,
            trigger: run.trigger,
            status: run.status,
            phase: hold.map(|hold| hold.phase),
            reason: run.reason,
            why: run.reason.map(words::in_words),
            error: run.error,
            slot: run.slot.map(time),
            slot_count: run.slot_count,
            last_slot: run.last_slot.map(time),
            due: time(run.due),
            session: hold.map(|hold| hold.session),
            message: hold.map(|hold| hold.message.clone()),
            lease_until: hold.map(|hold| time(hold.lease_until)),
            started_at: hold.map(|hold| time(hold.started_at)),
            prompt: run.prompt,
            to: ChatView::of(run.to),
            max_turns: run.max_turns,
            max_run_sec: run.max_run_ms.map(seconds),
            turns: run.turns,
            output: run.output,
            cancel_requested_at: run.cancel_requested_at.map(time),
            created_at: time(run.created_at),
            ended_at: run.ended_at.map(time),
        }
    }
}

/// Some runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunPage {
    /// The newest first.
    pub runs: Vec<RunView>,
    /// `before` of the next page, if there may be one.
    pub next_before: Option<RunId>,
    /// Rows that this build cannot read.
    pub unreadable: Vec<Unreadable>,
}

/// What a run cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "they are the fields of `store::schedules::RunMetrics`")]
pub struct MetricsView {
    pub run: RunId,
    /// The schedule's name.
    pub schedule: String,
    pub schedule_id: ScheduleId,
    /// When it ended.
    pub at: String,
    pub slot_wait_ms: i64,
    pub duration_ms: i64,
    pub turns: Option<i64>,
    pub max_turns: Option<i64>,
    #[serde(flatten)]
    pub load: Load,
    pub reason: Option<Reason>,
}

impl MetricsView {
    pub(in crate::service) fn of(metrics: &RunMetrics, (schedule, zone): &(String, Zone)) -> Self {
        Self {
            run: metrics.run,
            schedule: schedule.clone(),
            schedule_id: metrics.schedule,
            at: zone.rfc3339(metrics.at),
            slot_wait_ms: metrics.slot_wait_ms,
            duration_ms: metrics.duration_ms,
            turns: metrics.turns,
            max_turns: metrics.max_turns,
            load: metrics.load,
            reason: metrics.reason,
        }
    }
}

/// What runs cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MetricsList {
    /// Those that ended last first.
    pub metrics: Vec<MetricsView>,
    /// `before` of the next page, if there may be one.
    pub next_before: Option<RunId>,
    /// Rows that this build cannot read.
    pub unreadable: Vec<Unreadable>,
}
