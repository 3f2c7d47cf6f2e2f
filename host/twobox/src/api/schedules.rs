//! Schedules: each handler asks the schedule service.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use twobox_shared::ids::{ScheduleId, SystemIds};

use super::Api;
use super::error::{ApiError, Code, from_json};
use super::extract::{Body, NoBody, Object, Path, Query};
use twobox_schedule::service::view::{RemovedView, ScheduleList};
use twobox_schedule::service::{self, Draft};
use twobox_store::Store;
use twobox_system::blocking::blocking;

/// Whose schedules.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    agent: Option<String>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Query(filter): Query<Filter>,
) -> Result<Json<ScheduleList>, ApiError> {
    api.ask(move |store| service::list(store, filter.agent.as_deref())).await.map(Json)
}

pub(super) async fn add(
    State(api): State<Api>,
    Body(Object(draft)): Body<Object<Draft>>,
) -> Result<Response, ApiError> {
    let (now, rules) = (api.now(), &api.core.parts.config.schedule);
    let (draft, least) = (draft.in_zone(&rules.timezone, true), rules.min_interval);
    let id = ScheduleId::generate(&*api.core.parts.ids);
    let added = api.write(move |store| service::add(store, id, &draft, least, now)).await?;
    let place = HeaderValue::from_str(&format!("/api/schedules/{id}"));
    let place = place.expect("an id is visible ASCII");
    Ok((StatusCode::CREATED, [(header::LOCATION, place)], written(added).await).into_response())
}

pub(super) async fn show(
    State(api): State<Api>,
    Path(name_or_id): Path<String>,
) -> Result<Response, ApiError> {
    let now = api.now();
    let shown = api.ask(move |store| service::show(store, &name_or_id, now)).await?;
    Ok(written(shown).await)
}

/// An answer with warnings: these are reckoned while it is written, which may take long.
async fn written<T: Serialize + Send + 'static>(answer: T) -> Response {
    blocking(move || Json(answer).into_response()).await
}

/// What is asked of a schedule that is there.
#[derive(Debug)]
enum Patch {
    Edit { draft: Box<Draft>, revision: Option<i64> },
    Pause { reason: Option<String> },
    Resume,
}

impl Patch {
    /// From the fields of a body.
    fn read(mut fields: Map<String, Value>) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Switch {
            enabled: bool,
            reason: Option<String>,
        }
        #[derive(Deserialize)]
        struct Read {
            revision: Option<i64>,
        }
        if !fields.contains_key("enabled") {
            let read = fields.remove_entry("revision").into_iter().collect();
            let Read { revision } = from_json(Value::Object(read))?;
            let draft = Box::new(from_json(Value::Object(fields))?);
            return Ok(Self::Edit { draft, revision });
        }
        if fields.keys().any(|field| !matches!(field.as_str(), "enabled" | "reason")) {
            let message = "goes alone, or with `reason`: edit the schedule in a request of its own";
            return Err(
                ApiError::new(Code::Invalid, format!("enabled: {message}")).field("enabled")
            );
        }
        match from_json(Value::Object(fields))? {
            Switch { enabled: false, reason } => Ok(Self::Pause { reason }),
            Switch { enabled: true, reason: None } => Ok(Self::Resume),
            Switch { enabled: true, reason: Some(_) } => {
                let message = "reason: only a pause has one";
                Err(ApiError::new(Code::Invalid, message).field("reason"))
            }
        }
    }
}

pub(super) async fn patch(
    State(api): State<Api>,
    Path(name_or_id): Path<String>,
    Body(fields): Body<Map<String, Value>>,
) -> Result<Response, ApiError> {
    let (now, rules) = (api.now(), &api.core.parts.config.schedule);
    let least = rules.min_interval;
    Ok(match Patch::read(fields)? {
        Patch::Edit { draft, revision } => {
            let draft = draft.in_zone(&rules.timezone, false);
            let edit = move |store: &Store| {
                service::edit(store, &name_or_id, &draft, revision, least, &SystemIds, now)
            };
            written(api.write(edit).await?).await
        }
        Patch::Pause { reason } => {
            let pause = move |store: &Store| {
                service::pause(store, &name_or_id, reason.as_deref(), &SystemIds, now)
            };
            Json(api.write(pause).await?).into_response()
        }
        Patch::Resume => {
            let resume = move |store: &Store| service::resume(store, &name_or_id, now);
            written(api.write(resume).await?).await
        }
    })
}

pub(super) async fn remove(
    State(api): State<Api>,
    Path(name_or_id): Path<String>,
    NoBody: NoBody,
) -> Result<Json<RemovedView>, ApiError> {
    let now = api.now();
    api.write(move |store| service::remove(store, &name_or_id, now)).await.map(Json)
}
