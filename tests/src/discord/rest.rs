//! The REST API.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::check::{self, Refusal};
use super::control::control;
use super::say::id_of;
use super::server::{Fault, Shared};
use super::state::State;

/// The most bytes of a request.
const BODY_MAX: usize = 25 << 20;

/// Within which time an interaction has to be answered.
const INTERACTION: Duration = Duration::from_secs(3);

/// What is answered: a status and a body, or nothing.
enum Reply {
    Said(u16, Value),
    Empty,
    Limited(Value),
    /// The connection ends without a word.
    Silence,
}

impl From<Refusal> for Reply {
    fn from((status, code, message): Refusal) -> Self {
        Self::Said(status, json!({ "code": code, "message": message }))
    }
}

/// What is asked.
struct Asked<'a> {
    method: &'a Method,
    steps: Vec<&'a str>,
    query: &'a str,
    kind: &'a str,
    body: &'a [u8],
}

/// Answers one request. An error has the connection cut off.
pub(super) async fn handle(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, &'static str> {
    let (head, body) = request.into_parts();
    let body = to_bytes(Body::new(body), BODY_MAX).await.map_err(|_| "too large")?;
    let path = head.uri.path();
    if let Some(what) = path.strip_prefix("/_stand-in/") {
        let said = shared.change(|state| control(state, what, head.uri.query(), &body));
        let (status, body) = said.map_or((404, json!(null)), |body| (200, body));
        return Ok(response(status, Some(&body), &[]));
    }
    let header =
        |name: &str| head.headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let (token, agent, kind) =
        (header("authorization"), header("user-agent"), header("content-type"));
    let steps: Vec<&str> = path.trim_start_matches("/api/v10/").split('/').collect();
    let query = head.uri.query().unwrap_or_default();
    let asked = Asked { method: &head.method, steps, query, kind, body: &body };
    let is_open = asked.steps == ["gateway"] || asked.steps[0] == "interactions";
    let (reply, limits) = shared.change(|state| {
        if !path.starts_with("/api/v10/") {
            return ((404, 0, "404: Not Found").into(), Vec::new());
        }
        // Discord's own library says nothing of itself where it answers an interaction.
        if asked.steps[0] != "interactions" && !agent.starts_with("DiscordBot (") {
            return ((403, 40_333, "internal network error").into(), Vec::new());
        }
        if !is_open && token != format!("Bot {}", state.options.token) {
            return ((401, 0, "401: Unauthorized").into(), Vec::new());
        }
        let (bucket, about) = bucket(&asked);
        let said = state.limits.ask(bucket, about, Instant::now());
        let reply = match said.refusal {
            Some(refusal) => {
                state.counts.limited += 1;
                Reply::Limited(refusal)
            }
            None => answer(state, &asked),
        };
        (reply, said.headers)
    });
    let status = match &reply {
        Reply::Said(status, _) => *status,
        Reply::Empty => 204,
        Reply::Limited(_) => 429,
        Reply::Silence => 0,
    };
    shared.change(|state| state.asked.push((head.method.to_string(), path.to_owned(), status)));
    match reply {
        Reply::Said(status, body) => Ok(response(status, Some(&body), &limits)),
        Reply::Limited(body) => Ok(response(429, Some(&body), &limits)),
        Reply::Empty => Ok(response(204, None, &limits)),
        Reply::Silence => Err("silence"),
    }
}

fn response(status: u16, body: Option<&Value>, more: &[(&'static str, String)]) -> Response<Body> {
    let mut response =
        Response::new(body.map_or_else(Body::empty, |body| Body::from(body.to_string())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    for (name, value) in more {
        headers.insert(*name, HeaderValue::from_str(value).unwrap());
    }
    response
}

fn bucket<'a>(asked: &Asked<'a>) -> (&'static str, &'a str) {
    match (asked.method.as_str(), asked.steps.as_slice()) {
        ("POST", ["channels", channel, "messages"]) => ("post", channel),
        ("GET", ["channels", channel, "messages"]) => ("pages", channel),
        ("POST", ["channels", channel, "typing"]) => ("typing", channel),
        _ => ("", ""),
    }
}

fn answer(state: &mut State, asked: &Asked<'_>) -> Reply {
    let bot = state.users[&state.bot].clone();
    match (asked.method.as_str(), asked.steps.as_slice()) {
        ("GET", ["gateway"]) => Reply::Said(200, json!({ "url": state.gateway })),
        ("GET", ["gateway", "bot"]) => {
            let remaining = 1000_u64.saturating_sub(state.counts.identified);
            let limit = json!({
                "total": 1000, "remaining": remaining, "reset_after": 14_400_000, "max_concurrency": 1,
            });
            let url = &state.gateway;
            Reply::Said(200, json!({ "url": url, "shards": 1, "session_start_limit": limit }))
        }
        ("GET", ["users", "@me"]) => Reply::Said(200, bot),
        ("GET", ["applications", "@me"] | ["oauth2", "applications", "@me"]) => {
            let flags = if state.options.may_read { 1 << 19 } else { 0 };
            let id = state.bot.to_string();
            Reply::Said(
                200,
                json!({
                    "id": id, "name": "twobox", "icon": null, "description": "", "bot_public": false,
                    "bot_require_code_grant": false, "bot": bot, "owner": state.users[&state.me], "verify_key": "0",
                    "team": null, "flags": flags, "approximate_guild_count": 1, "interactions_endpoint_url": null,
                }),
            )
        }
        ("POST", ["users", "@me", "channels"]) => {
            let body: Value = serde_json::from_slice(asked.body).unwrap_or_default();
            match id_of(&body["recipient_id"]).filter(|id| state.users.contains_key(id)) {
                Some(user) => {
                    let id = direct(state, user);
                    Reply::Said(200, state.channel(id))
                }
                None => (400, 50_033, "Invalid Recipient(s)").into(),
            }
        }
        ("POST", ["interactions", id, token, "callback"]) => {
            callback(state, id.parse().ok(), token, asked)
        }
        (_, ["channels", id, rest @ ..]) => of_channel(state, asked, id, rest),
        _ => (404, 0, "404: Not Found").into(),
    }
}

/// The direct chat with somebody.
pub(super) fn direct(state: &mut State, user: u64) -> u64 {
    let known = state.channels.iter().find(|(_, channel)| channel.recipient == Some(user));
    match known {
        Some((id, _)) => *id,
        None => state.add_channel(1, "", None, None, Some(user)),
    }
}

fn of_channel(state: &mut State, asked: &Asked<'_>, id: &str, rest: &[&str]) -> Reply {
    let known = id.parse().ok().filter(|id: &u64| state.channels.contains_key(id));
    let Some(id) = known else { return (404, 10_003, "Unknown Channel").into() };
    match state.channels[&id].closed {
        Some(50_001) => return (403, 50_001, "Missing Access").into(),
        Some(code) if asked.method == Method::POST => {
            return (403, code, "Missing Permissions").into();
        }
        _ => {}
    }
    match (asked.method.as_str(), rest) {
        ("GET", []) => Reply::Said(200, state.channel(id)),
        ("POST", ["typing"]) => Reply::Empty,
        ("POST", ["messages"]) => post(state, asked, id),
        ("GET", ["messages"]) => Reply::Said(200, page(state, id, asked.query)),
        ("GET", ["messages", message]) => {
            match message.parse().ok().and_then(|message| state.find(id, message)) {
                Some(message) => Reply::Said(200, message),
                None => (404, 10_008, "Unknown Message").into(),
            }
        }
        _ => (404, 0, "404: Not Found").into(),
    }
}

fn post(state: &mut State, asked: &Asked<'_>, channel: u64) -> Reply {
    let made = check::read(asked.kind, asked.body).and_then(|read| {
        check::check(&read)?;
        Ok(read)
    });
    let read = match made {
        Ok(read) => read,
        Err(refusal) => return refusal.into(),
    };
    let fault = state.faults.pop_front();
    if fault == Some(Fault::Unsent) {
        return Reply::Silence;
    }
    if fault == Some(Fault::Broken) {
        return Reply::Said(502, json!("Bad Gateway"));
    }
    match state.post(channel, &read) {
        Ok(_) if fault == Some(Fault::Silent) => Reply::Silence,
        Ok(message) => Reply::Said(200, message),
        Err(refusal) => refusal.into(),
    }
}

/// A page of what was said, newest first.
fn page(state: &State, channel: u64, query: &str) -> Value {
    let field = |name: &str| -> Option<u64> {
        let mut fields = query.split('&').filter_map(|field| field.split_once('='));
        fields.find(|(field, _)| *field == name)?.1.parse().ok()
    };
    let limit = usize::try_from(field("limit").unwrap_or(50)).unwrap().clamp(1, 100);
    let all = &state.channels[&channel].messages;
    let id = |message: &&Value| id_of(&message["id"]).unwrap();
    let mut page: Vec<Value> = match (field("after"), field("before")) {
        (Some(after), _) => all.iter().filter(|it| id(it) > after).take(limit).cloned().collect(),
        (None, before) => {
            let before = before.unwrap_or(u64::MAX);
            let mut page: Vec<Value> =
                all.iter().rev().filter(|it| id(it) < before).take(limit).cloned().collect();
            page.reverse();
            page
        }
    };
    page.reverse();
    // History is read by whoever may read.
    let may_read = state.options.may_read;
    page.into_iter().map(|it| if may_read { it } else { state.without_content(&it) }).collect()
}

fn callback(state: &mut State, id: Option<u64>, token: &str, asked: &Asked<'_>) -> Reply {
    let answer = check::read(asked.kind, asked.body).map_or(Value::Null, |read| read.message);
    let unknown: Reply = (404, 10_062, "Unknown interaction").into();
    let Some(interaction) = id.and_then(|id| state.interactions.get_mut(&id)) else {
        return unknown;
    };
    if interaction.token != token || interaction.made.elapsed() > INTERACTION {
        return unknown;
    }
    if interaction.answer.is_some() {
        return (400, 40_060, "Interaction has already been acknowledged.").into();
    }
    let kind = answer["type"].as_u64();
    if !kind.is_some_and(|kind| [4, 5, 6, 7].contains(&kind)) {
        return (400, 50_035, "Invalid Form Body: type").into();
    }
    let (channel, message) = (interaction.channel, interaction.message);
    interaction.answer = Some(answer.clone());
    if kind == Some(7) {
        state.change(channel, message, &answer["data"]);
    }
    if asked.query.contains("with_response=") && !asked.query.contains("with_response=0") {
        let id = id.map(|id| id.to_string());
        let said = json!({ "id": id, "type": 3, "response_message_id": message.to_string() });
        let shown = state.find(channel, message);
        let resource = json!({ "type": kind, "message": shown });
        return Reply::Said(200, json!({ "interaction": said, "resource": resource }));
    }
    Reply::Empty
}
