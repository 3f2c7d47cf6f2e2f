//! Runs, and what they cost.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use twobox_shared::ids::RunId;
use twobox_shared::time::UnixMillis;

use super::Api;
use super::error::{ApiError, Code};
use super::extract::{NoBody, Path, Query};
use twobox_schedule::scheduler::ExecuteError;
use twobox_schedule::service::view::{MetricsList, RunPage, RunView};
use twobox_schedule::service::{self, ServiceError};
use twobox_slots::cadence::parse_instant;
use twobox_store::Store;
use twobox_store::schedules::Cancelled;
use twobox_system::blocking::outcome;

/// How many rows are answered when nobody says.
const LIMIT: u32 = 50;

/// Which runs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    #[serde(default = "limit")]
    limit: u32,
    before: Option<RunId>,
}

fn limit() -> u32 {
    LIMIT
}

/// Which metrics.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    #[serde(default = "limit")]
    limit: u32,
    since: Option<String>,
    before: Option<RunId>,
}

/// Whether a run may be one too many.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Force {
    #[serde(default)]
    force: bool,
}

/// Who forces a run, for the audit.
const ACTOR: &str = "api";

/// A run.
#[derive(Debug, Serialize)]
pub(super) struct OneRun {
    run: RunView,
}

pub(super) async fn all(
    State(api): State<Api>,
    Query(Page { limit, before }): Query<Page>,
) -> Result<Json<RunPage>, ApiError> {
    api.ask(move |store| service::runs(store, None, before, limit)).await.map(Json)
}

pub(super) async fn of_schedule(
    State(api): State<Api>,
    Path(schedule): Path<String>,
    Query(Page { limit, before }): Query<Page>,
) -> Result<Json<RunPage>, ApiError> {
    api.ask(move |store| service::runs(store, Some(&schedule), before, limit)).await.map(Json)
}

pub(super) async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<OneRun>, ApiError> {
    let run = api.ask(move |store| service::run(store, &id)).await?;
    Ok(Json(OneRun { run }))
}

pub(super) async fn metrics(
    State(api): State<Api>,
    Path(schedule): Path<String>,
    Query(Since { limit, since, before }): Query<Since>,
) -> Result<Json<MetricsList>, ApiError> {
    let since = match since.as_deref().map(parse_instant) {
        None => UnixMillis(0),
        Some(Ok(since)) => since,
        Some(Err(error)) => {
            return Err(ApiError::new(Code::Invalid, format!("since: {error}")).field("since"));
        }
    };
    let metrics =
        move |store: &Store| service::metrics(store, Some(&schedule), since, before, limit);
    api.ask(metrics).await.map(Json)
}

/// The run in the answer is the one that was started here, whatever else goes on.
pub(super) async fn execute(
    State(api): State<Api>,
    Path(name_or_id): Path<String>,
    Query(Force { force }): Query<Force>,
    NoBody: NoBody,
) -> Result<(StatusCode, Json<OneRun>), ApiError> {
    let schedule = api.ask(move |store| service::find(store, &name_or_id)).await?.id;
    let scheduler = Arc::clone(&api.scheduler);
    // In a task of its own, which goes on when the client leaves: a handler does not.
    let executing =
        tokio::spawn(
            async move { scheduler.execute(schedule, force.then(|| ACTOR.to_owned())).await },
        );
    let error = match outcome(executing).await {
        Ok(run) => return Ok((StatusCode::ACCEPTED, Json(view(&api, run.id).await?))),
        Err(error) => error,
    };
    let message = error.to_string();
    Err(match error {
        ExecuteError::Gone => ApiError::new(Code::ScheduleNotFound, message),
        ExecuteError::Overlaps => ApiError::new(Code::Overlaps, message),
        ExecuteError::Full { slot_eta_sec } => {
            let message = format!("{message}: try again later, or with ?force=true");
            ApiError::new(Code::CapacityFull, message).beside("slot_eta_sec", json!(slot_eta_sec))
        }
        ExecuteError::PrepareFailed { run, .. } => {
            let OneRun { run } = view(&api, run).await?;
            ApiError::new(Code::PrepareFailed, message).beside("run", json!(run))
        }
        ExecuteError::NotNow(_) => ApiError::new(Code::NotReady, message),
    })
}

pub(super) async fn cancel(
    State(api): State<Api>,
    Path(id): Path<String>,
    NoBody: NoBody,
) -> Result<(StatusCode, Json<OneRun>), ApiError> {
    let id = api.ask(move |store| service::run(store, &id)).await?.id;
    match api.scheduler.cancel(id).await.map_err(|error| api.failed(error.into()))? {
        Cancelled::BeforeStart | Cancelled::Requested | Cancelled::RequestedBefore => {
            Ok((StatusCode::ACCEPTED, Json(view(&api, id).await?)))
        }
        Cancelled::Ended => {
            Err(ApiError::new(Code::RunEnded, format!("the run {id} has ended before")))
        }
        Cancelled::Unknown => {
            Err(api.failed(ServiceError::UnknownRun { given: id.to_string() })) // forgotten just now
        }
    }
}

async fn view(api: &Api, id: RunId) -> Result<OneRun, ApiError> {
    let run = api.ask(move |store| service::run(store, &id.to_string())).await?;
    Ok(OneRun { run })
}
