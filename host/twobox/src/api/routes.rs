//! Which request goes where.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use super::error::{ApiError, Code};
use super::{Api, guard, health, hooks, runs, schedules};
use twobox_app::token::TokenFile;

/// A path, and what it does for each of its methods.
struct Route {
    path: &'static str,
    handlers: fn() -> MethodRouter<Api>,
}

/// What anybody may ask.
const OPEN: &[Route] = &[
    Route { path: "/healthz", handlers: || get(health::healthz) },
    Route { path: "/readyz", handlers: || get(health::readyz) },
];

/// What needs a signature.
const SIGNED: &[Route] = &[Route { path: "/hooks/{id}", handlers: || post(hooks::post) }];

/// What needs the token.
const GUARDED: &[Route] = &[
    Route { path: "/api/openapi.json", handlers: || get(description) },
    Route { path: "/api/schedules", handlers: || get(schedules::list).post(schedules::add) },
    Route {
        path: "/api/schedules/{id}",
        handlers: || get(schedules::show).patch(schedules::patch).delete(schedules::remove),
    },
    Route { path: "/api/schedules/{id}/execute", handlers: || post(runs::execute) },
    Route { path: "/api/schedules/{id}/runs", handlers: || get(runs::of_schedule) },
    Route { path: "/api/schedules/{id}/metrics", handlers: || get(runs::metrics) },
    Route { path: "/api/runs", handlers: || get(runs::all) },
    Route { path: "/api/runs/{id}", handlers: || get(runs::show) },
    Route { path: "/api/runs/{id}/cancel", handlers: || post(runs::cancel) },
];

/// Everything that is answered on `at`, or on the socket where that is `None`, to whoever has the
/// token or came by the socket, or has signed what it says.
pub(super) fn app(api: Api, token: TokenFile, at: Option<SocketAddr>) -> Router {
    let guarded = router(GUARDED)
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(guard::take_in_body))
        .layer(DefaultBodyLimit::max(guard::BODY_MAX))
        .layer(from_fn(guard::require_token));
    let open = router(OPEN).method_not_allowed_fallback(wrong_method);
    // A message that is posted here may come by a proxy with a name of its own: who signs it knows the secret.
    let signed = router(SIGNED)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(guard::BODY_MAX));
    guarded
        .merge(open)
        .layer(from_fn_with_state(at, guard::refuse_names))
        .merge(signed)
        .layer(from_fn(guard::refuse_browsers))
        .layer(from_fn_with_state(token, guard::look_who_asks))
        .layer(map_response(forget))
        .with_state(api)
}

fn router(routes: &[Route]) -> Router<Api> {
    let add = |router: Router<Api>, route: &Route| router.route(route.path, (route.handlers)());
    routes.iter().fold(Router::new(), add)
}

async fn unknown(uri: Uri) -> ApiError {
    let message = format!("there is no {}; /api/openapi.json says what there is", uri.path());
    ApiError::new(Code::NotFound, message)
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}; the Allow header says what", uri.path());
    ApiError::new(Code::MethodNotAllowed, message)
}

/// What this API can do, for programs.
async fn description() -> Response {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, JSON)], include_str!("openapi.json")).into_response()
}

/// No answer is kept anywhere on its way.
async fn forget(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
#[path = "description_tests.rs"]
mod description;
