//! Messages of channels of kind `webhook`. Who posts them is known by their signature, and by nothing else: the
//! token is not asked for, and whoever has it cannot do without the secret.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use serde::Serialize;
use twobox_shared::ids::MessageId;

use super::Api;
use super::error::{ApiError, Code};
use super::extract::Path;
use super::guard;
use super::visitor::Visitor;
use twobox_channels::Door;
use twobox_channels::webhook::{Forged, Head, Hook, Posted, Rejected};
use twobox_model::channel::{Receipt, Refusal};
use twobox_system::blocking::outcome;

/// What is durable now.
#[derive(Debug, Serialize)]
pub(super) struct Taken {
    id: MessageId,
    receipts: Vec<Receipt>,
}

/// Nothing of the body is read before its head may be meant, and nothing in it before it is signed.
pub(super) async fn post(
    State(api): State<Api>,
    Path(id): Path<String>,
    Extension(visitor): Extension<Arc<Visitor>>,
    request: Request,
) -> Result<(StatusCode, Json<Taken>), ApiError> {
    let hook = hook(&api, &id)?;
    let headers = request.headers();
    let head = Head::read(|name| headers.get(name).map(|value| value.as_bytes()))
        .map_err(|forged| forged_as(&forged))?;
    hook.glance(&head).map_err(|forged| forged_as(&forged))?;
    let (_, body) = guard::whole(request).await?;
    hook.check(&head, &body).await.map_err(rejected)?;
    if !visitor.recognise().await {
        return Err(ApiError::new(Code::NotReady, "too many are connected: try again"));
    }
    let mut reading = serde_json::Deserializer::from_slice(&body);
    let posted: Posted = serde_path_to_error::deserialize(&mut reading).map_err(unreadable)?;
    reading.end().map_err(|error| no_json(&error))?;
    // In a task of its own, which goes on when the client leaves: a handler does not.
    let accepting = tokio::spawn(async move { hook.accept(&head, posted).await });
    let (id, receipts) = outcome(accepting).await.map_err(rejected)?;
    Ok((StatusCode::ACCEPTED, Json(Taken { id, receipts })))
}

fn hook(api: &Api, id: &str) -> Result<Arc<Hook>, ApiError> {
    match api.core.parts.channels.get(id).and_then(|channel| channel.door()) {
        Some(Door::Webhook(hook)) => Ok(hook),
        Some(Door::Bridge(_)) | None => {
            let message = "there is no channel of kind \"webhook\" with that id";
            Err(ApiError::new(Code::HookNotFound, message))
        }
    }
}

fn forged_as(forged: &Forged) -> ApiError {
    let code = match forged {
        Forged::Malformed(_) | Forged::Wrong => Code::BadSignature,
        Forged::Skewed { .. } => Code::ClockSkew,
    };
    ApiError::new(code, forged.to_string())
}

fn unreadable(error: serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    match error.inner().classify() {
        serde_json::error::Category::Data => (&error).into(),
        _ => no_json(error.inner()),
    }
}

fn no_json(error: &serde_json::Error) -> ApiError {
    ApiError::new(Code::MalformedJson, format!("the body is not JSON: {error}"))
}

fn rejected(rejected: Rejected) -> ApiError {
    match rejected {
        Rejected::Forged(forged) => forged_as(&forged),
        Rejected::Invalid { field, reason } => ApiError::new(Code::Invalid, reason).field(field),
        Rejected::TooLarge(error) => ApiError::new(Code::BodyTooLarge, error.to_string()),
        Rejected::NotReady(reason) => ApiError::new(Code::NotReady, reason),
        Rejected::Refused(refusal) => refused(&refusal),
    }
}

/// Each says whether the same message may be taken later, and after what.
fn refused(refusal: &Refusal) -> ApiError {
    let message = refusal.to_string();
    match refusal {
        Refusal::NobodyListens { .. } => ApiError::new(Code::NobodyListens, message),
        Refusal::Unheard { .. } => ApiError::new(Code::Unheard, message),
        Refusal::TooManyThreads { minutes, .. } => {
            ApiError::new(Code::TooManyThreads, message).after(minutes.saturating_mul(60))
        }
        Refusal::TryAgain { .. } => ApiError::new(Code::NotReady, message),
        Refusal::Blocked { .. } => ApiError::new(Code::Blocked, message),
    }
}
