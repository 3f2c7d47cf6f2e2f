//! What tests in other processes ask of the stand-in, and what costs nothing.

use axum::body::Body;
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::Api;
use super::answer::{Asked, Reply, key, models, plain, read, refusal};
use super::check::messages;
use super::fault::Fault;
use super::ledger::End;
use super::script::Script;
use super::serve::Shared;

/// Answers a path under `/_stand-in/`.
pub(super) fn control(shared: &Shared, method: &Method, what: &str, body: &[u8]) -> Response<Body> {
    let total = |end| json!(shared.look(|state| state.ledger.total(end)));
    let (status, body) = match (method.as_str(), what) {
        ("GET", "requests") => {
            (StatusCode::OK, shared.look(|state| json!(state.ledger.requests())))
        }
        ("GET", "sold") => (StatusCode::OK, total(End::Sold)),
        ("GET", "cut") => (StatusCode::OK, total(End::Cut)),
        ("GET", "stalled") => (StatusCode::OK, shared.look(|state| json!(state.stalled))),
        ("POST", "release") => {
            shared.release();
            (StatusCode::OK, Value::Null)
        }
        ("POST", "clear") => {
            shared.change(|state| state.script = Script::default());
            (StatusCode::OK, Value::Null)
        }
        ("POST", "script") => match serde_json::from_slice::<Script>(body) {
            Ok(script) => {
                shared.change(|state| state.script.extend(script));
                (StatusCode::OK, Value::Null)
            }
            Err(error) => (StatusCode::BAD_REQUEST, json!({"error": error.to_string()})),
        },
        _ => (StatusCode::NOT_FOUND, json!({"error": format!("no {method} {what}")})),
    };
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response
}

/// Answers everything that is no request for an answer: lists of models, counts, and what is not there.
/// None of it is written down.
pub(super) fn free(shared: &Shared, asked: &Asked) -> (Api, Reply) {
    let api = match asked.headers.contains_key("anthropic-version") {
        true => Api::Messages,
        false => Api::Chat,
    };
    let found =
        key(api, &asked.headers, &shared.options).and_then(|()| look_up(shared, api, asked));
    let reply = match found {
        Ok(body) => plain(0, 200, &body),
        Err(fault) => refusal(api, 0, &fault),
    };
    (api, reply)
}

fn look_up(shared: &Shared, api: Api, asked: &Asked) -> Result<Value, Fault> {
    let (names, is_anthropic) = (shared.options.told(), api == Api::Messages);
    match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/v1/models") => Ok(models(&names, is_anthropic)),
        ("GET", path) if path.starts_with("/v1/models/") => {
            let name = path["/v1/models/".len()..].to_owned();
            shared.options.knows(api, &name)?;
            Ok(models(&[name], is_anthropic)["data"][0].take())
        }
        ("POST", "/v1/messages/count_tokens") => {
            let mut body: Value = serde_json::from_slice(&asked.body).unwrap_or(Value::Null);
            if let Some(object) = body.as_object_mut() {
                object.insert("max_tokens".to_owned(), json!(1));
            }
            let version = asked.headers.get("anthropic-version").map(String::as_str);
            messages::check(version, &body)?;
            Ok(
                json!({"input_tokens": read(Api::Messages, &body, &super::caching::Kept::new()).tokens.prompt()}),
            )
        }
        (method, path) => Err(Fault::new(404, format!("Invalid URL ({method} {path})"))),
    }
}
