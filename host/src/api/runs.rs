//! Runs, and what they cost.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use twobox_shared::ids::RunId;
use twobox_shared::time::UnixMillis;

use super::Api;
use super::error::{ApiError, Code};
use super::extract::{Path, Query};
use crate::book;
use crate::book::view::{MetricsList, RunPage, RunView};
use crate::schedule::cadence::parse_instant;

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
}

/// A run.
#[derive(Debug, Serialize)]
pub(super) struct OneRun {
    run: RunView,
}

pub(super) async fn all(
    State(api): State<Api>,
    Query(Page { limit, before }): Query<Page>,
) -> Result<Json<RunPage>, ApiError> {
    api.book(move |db| book::runs(db, None, before, limit)).await.map(Json)
}

pub(super) async fn of_schedule(
    State(api): State<Api>,
    Path(schedule): Path<String>,
    Query(Page { limit, before }): Query<Page>,
) -> Result<Json<RunPage>, ApiError> {
    api.book(move |db| book::runs(db, Some(&schedule), before, limit)).await.map(Json)
}

pub(super) async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<OneRun>, ApiError> {
    let run = api.book(move |db| book::run(db, &id)).await?;
    Ok(Json(OneRun { run }))
}

pub(super) async fn metrics(
    State(api): State<Api>,
    Path(schedule): Path<String>,
    Query(Since { limit, since }): Query<Since>,
) -> Result<Json<MetricsList>, ApiError> {
    let since = match since.as_deref().map(parse_instant) {
        None => UnixMillis(0),
        Some(Ok(since)) => since,
        Some(Err(error)) => {
            return Err(ApiError::new(Code::BadRequest, format!("since: {error}")).field("since"));
        }
    };
    api.book(move |db| book::metrics(db, Some(&schedule), since, limit)).await.map(Json)
}
