//! What is answered to a request, without sending it.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};

use super::Api;
use super::caching::{self, Kept, Reading};
use super::check::reasoning::{self, Owed};
use super::check::{chat, messages, responses};
use super::fault::Fault;
use super::ledger::{End, Ledger, Request};
use super::mind::Mind;
use super::newest::newest;
use super::options::Options;
use super::plan::{Act, plan};
use super::script::{Newest, Part, Script, Trouble};
use super::shape::{Event, Said, error_event, output};
use super::tokens::digest;

/// All that the stand-in remembers.
#[derive(Debug, Default)]
pub(super) struct State {
    /// What it is to answer.
    pub(super) script: Script,
    /// What answers where that says nothing.
    pub(super) mind: Option<Mind>,
    /// What it was asked.
    pub(super) ledger: Ledger,
    /// How many answers wait for their release.
    pub(super) stalled: usize,
    kept: Kept,
    owed: Owed,
}

/// A request as it came.
#[derive(Debug)]
pub(super) struct Asked {
    /// Its method.
    pub(super) method: String,
    /// Its path.
    pub(super) path: String,
    /// What stands behind `?`.
    pub(super) query: Option<String>,
    /// Its headers, with names in lower case.
    pub(super) headers: BTreeMap<String, String>,
    /// Its body.
    pub(super) body: Vec<u8>,
}

/// What is answered.
#[derive(Debug)]
pub(super) struct Reply {
    /// The number of the request.
    pub(super) number: u64,
    /// The status.
    pub(super) status: u16,
    /// Its body is a stream of events.
    pub(super) is_stream: bool,
    /// It costs nothing, so that it does not matter how it ends.
    pub(super) is_free: bool,
    /// The header `retry-after`.
    pub(super) retry_after: Option<u32>,
    /// What is made to happen on the way.
    pub(super) trouble: Option<Trouble>,
    /// What is sent.
    pub(super) acts: Vec<Act>,
}

impl State {
    /// One that remembers nothing yet.
    pub(super) fn of(mind: Option<Mind>) -> Self {
        Self { mind, ..Self::default() }
    }

    /// Answers a request for a model's answer.
    pub(super) fn answer(&mut self, api: Api, asked: Asked, options: &Options) -> Reply {
        let (number, came) = (self.ledger.next(), Instant::now());
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or(Value::Null);
        let prepared = match self.admit(api, &asked, &body, options) {
            Ok((newest, reading)) => self.say(api, number, &asked, &body, &newest, reading),
            Err(fault) => Err((fault, None)),
        };
        let mut request = Request {
            number,
            came,
            digest: digest(&asked.body),
            method: asked.method,
            path: asked.path,
            query: asked.query,
            headers: asked.headers,
            body,
            status: 200,
            fault: None,
            tokens: super::tokens::Tokens::default(),
            end: End::Open,
            trouble: None,
        };
        let reply = match prepared {
            Ok((said, reply)) => {
                request.tokens = said.tokens;
                request.trouble = reply.trouble;
                reply
            }
            Err((fault, retry_after)) => {
                request.status = fault.status;
                request.end = End::Free;
                let reply = Reply { retry_after, ..refusal(api, number, &fault) };
                request.fault = Some(fault.message);
                reply
            }
        };
        if options.forgets {
            request.body = json!({"model": request.body["model"]});
        }
        self.ledger.add(request);
        reply
    }

    /// Whether there is anything to answer, and what it costs to read it.
    fn admit(
        &self,
        api: Api,
        asked: &Asked,
        body: &Value,
        options: &Options,
    ) -> Result<(Newest, Reading), Fault> {
        key(api, &asked.headers, options)?;
        match api {
            Api::Messages => {
                messages::check(asked.headers.get("anthropic-version").map(String::as_str), body)?;
                reasoning::messages(body, &self.owed)?;
            }
            Api::Chat => chat::check(body)?,
            Api::Responses => {
                responses::check(body)?;
                reasoning::responses(body, &self.owed)?;
            }
        }
        let newest = newest(api, body);
        options.knows(api, &newest.model)?;
        let reading = read(api, body, &self.kept);
        fits(api, reading.tokens.prompt(), options.context_tokens)?;
        Ok((newest, reading))
    }

    /// Says what the script says, or why not and when to come again.
    fn say(
        &mut self,
        api: Api,
        number: u64,
        asked: &Asked,
        body: &Value,
        newest: &Newest,
        reading: Reading,
    ) -> Result<(Said, Reply), (Fault, Option<u32>)> {
        let mind = |mind: &Mind| mind.step(api, number, body);
        let step = self.script.next(newest).or_else(|| self.mind.as_ref().map(mind));
        let step = step.unwrap_or_default();
        if let Some(refuse) = &step.refuse {
            return Err((Fault::scripted(refuse, api), refuse.retry_after));
        }
        let is_stream = body["stream"] == true;
        let overloaded = overloaded(api);
        if !is_stream && matches!(step.trouble, Some(Trouble::Error(_))) {
            return Err((overloaded, None));
        }
        let parts: Vec<Part> =
            step.say.iter().map(|part| fill(part, newest, &asked.body)).collect();
        let mut tokens = reading.tokens;
        (tokens.output, tokens.thought) = output(&parts);
        let said = Said {
            number,
            model: newest.model.clone(),
            parts,
            length: step.length,
            piece: step.piece,
            tokens,
            usage: body["stream_options"]["include_usage"] == true,
        };
        self.kept.extend(reading.keeps);
        self.owed.extend(said.owed(api));
        let events = match is_stream {
            true => said.stream(api),
            false => {
                let text = said.whole(api).to_string();
                vec![Event { text, paced: false, last_usage: true }]
            }
        };
        let error = |before| error_event(api, &overloaded, &request_id(number), before);
        let acts = plan(events, &step, error);
        let (retry_after, trouble) = (None, step.trouble);
        Ok((
            said,
            Reply { number, status: 200, is_stream, is_free: false, retry_after, trouble, acts },
        ))
    }
}

/// What it costs to read a request.
pub(super) fn read(api: Api, body: &Value, kept: &Kept) -> Reading {
    match api {
        Api::Messages => caching::messages(body, kept),
        Api::Chat => caching::steps(body, &["tools", "messages"], kept),
        Api::Responses => caching::steps(body, &["tools", "instructions", "input"], kept),
    }
}

/// Checks the key that a request gives.
///
/// # Errors
/// None, or another than it has to be.
pub(super) fn key(
    api: Api,
    headers: &BTreeMap<String, String>,
    options: &Options,
) -> Result<(), Fault> {
    let bearer = headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let plain = headers.get("x-api-key").map(String::as_str);
    let (given, missing, wrong) = match api {
        Api::Messages => {
            (plain.or(bearer), "x-api-key header is required", Fault::new(401, "invalid x-api-key"))
        }
        Api::Responses | Api::Chat => (
            bearer,
            "You didn't provide an API key. You need to provide your API key in an Authorization header \
             using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
            Fault::new(401, "Incorrect API key provided.").coded("invalid_api_key"),
        ),
    };
    match (given, &options.key) {
        (None, _) => Err(Fault::new(401, missing)),
        (Some(given), Some(key)) if given != key => Err(wrong),
        (Some(_), _) => Ok(()),
    }
}

fn fits(api: Api, tokens: u64, most: Option<u64>) -> Result<(), Fault> {
    match most.filter(|&most| tokens > most) {
        None => Ok(()),
        Some(most) if api == Api::Messages => Err(Fault::invalid(format!(
            "prompt is too long: {tokens} tokens > {most} maximum"
        ))),
        Some(most) => Err(Fault::invalid(format!(
            "This model's maximum context length is {most} tokens. However, your messages resulted in \
             {tokens} tokens. Please reduce the length of the messages."
        ))
        .of(if api == Api::Chat { "messages" } else { "input" })
        .coded("context_length_exceeded")),
    }
}

fn overloaded(api: Api) -> Fault {
    match api {
        Api::Messages => Fault::new(529, "Overloaded"),
        Api::Responses | Api::Chat => {
            Fault::new(500, "The server had an error while processing your request.")
        }
    }
}

fn fill(part: &Part, newest: &Newest, body: &[u8]) -> Part {
    match part {
        Part::Text(text) if text.contains('{') => {
            Part::Text(text.replace("{digest}", &digest(body)).replace("{text}", &newest.text))
        }
        Part::Text(_) | Part::Thinking(_) | Part::Call { .. } => part.clone(),
    }
}

/// An error as a whole answer.
pub(super) fn refusal(api: Api, number: u64, fault: &Fault) -> Reply {
    plain(number, fault.status, &fault.body(api, &request_id(number)))
}

/// An answer in JSON that costs nothing.
pub(super) fn plain(number: u64, status: u16, body: &Value) -> Reply {
    let acts = vec![Act::Send(body.to_string().into_bytes())];
    let (retry_after, trouble) = (None, None);
    Reply { number, status, is_stream: false, is_free: true, retry_after, trouble, acts }
}

/// The models that are told, in the form of the vendor who is asked.
pub(super) fn models(names: &[String], is_anthropic: bool) -> Value {
    let model = |name: &String| match is_anthropic {
        true => json!({
            "type": "model", "id": name, "display_name": name,
            "created_at": "2025-11-24T00:00:00Z", "lifecycle": "active",
        }),
        false => json!({
            "id": name, "object": "model", "created": super::shape::CREATED, "owned_by": "stand-in",
        }),
    };
    let data: Vec<Value> = names.iter().map(model).collect();
    match is_anthropic {
        true => json!({
            "data": data, "has_more": false, "first_id": names.first(), "last_id": names.last(),
        }),
        false => json!({"object": "list", "data": data}),
    }
}

/// The id of a request.
pub(super) fn request_id(number: u64) -> String {
    format!("req_{number:024}")
}
