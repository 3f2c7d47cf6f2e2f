//! Whether the host lives, and whether it can work. Anybody may ask, so the answers tell no more.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Api;
use super::error::{ApiError, Code};
use twobox_system::blocking::blocking;

/// How long a look into `host.db` may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The process answers.
pub(super) async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// The host works: it does not stop, and `host.db` can be read.
pub(super) async fn readyz(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    if api.core.is_stopping() {
        return Err(ApiError::new(Code::NotReady, "the host is stopping"));
    }
    match timeout(PATIENCE, look(&api)).await {
        Ok(true) => Ok(Json(json!({ "status": "ready" }))),
        Ok(false) | Err(_) => Err(ApiError::new(Code::NotReady, "host.db cannot be read")),
    }
}

async fn look(api: &Api) -> bool {
    // One look at a time, and it goes on when nobody waits any more: threads would pile up behind a
    // database that hangs.
    let turn = Arc::clone(&api.look).acquire_owned().await;
    let look = api.core.parts.store.is_readable();
    blocking(move || {
        let looked = look.wait();
        drop(turn);
        looked.is_ok()
    })
    .await
}
