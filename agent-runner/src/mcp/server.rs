//! `agent-runner mcp`: the server. It keeps nothing: which tools there are, and what becomes of a call, the
//! runner's desk says.
//!
//! A call is made in a thread of its own, so that one that waits keeps no other waiting. What a line means is
//! decided by [`read`], which is pure.

use std::io::{self, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use serde_json::{Map, Value, json};

use super::lines::{Line, read_line};
use super::wire::{Answer, Question, ToolText, near};
use super::{HANDSHAKE, META_CAPABILITIES, META_SERVER, META_VERSION, MODERN, code};
use crate::say::say;

/// The longest line of a client, in bytes.
const LINE_MAX: usize = 8 << 20;

/// For how long a client need not ask again which tools there are, in milliseconds. They do not change while
/// the provider lives that has started the client.
const TOOLS_TTL_MS: u64 = 3_600_000;

const NAME: &str = "twobox";

const INSTRUCTIONS: &str = "Tools of the host that this agent lives in: they send messages to other places \
than the one that is answered, attach files to the answer, and have things done later.";

/// Serves the client on the standard streams until it has no more to say.
///
/// # Errors
/// If the client cannot be read any more.
pub(crate) fn serve(socket: &Path) -> io::Result<()> {
    let server = Arc::new(Server { socket: socket.to_owned(), out: Mutex::new(io::stdout()) });
    let mut reader = BufReader::new(io::stdin());
    let mut calls: Vec<JoinHandle<()>> = Vec::new();
    loop {
        let line = match read_line(&mut reader, LINE_MAX)? {
            Line::Text(line) => line,
            Line::TooLong => {
                let text = format!("a line has at most {LINE_MAX} bytes");
                server.say(&error(&Value::Null, code::INVALID_REQUEST, &text, None));
                continue;
            }
            Line::End => break,
        };
        calls.retain(|call| !call.is_finished());
        match read(&line) {
            Meant::Nothing => {}
            Meant::Said(answer) => server.say(&answer),
            Meant::Asked(request, question) => {
                let (server, id) = (Arc::clone(&server), request.id.clone());
                let asker = Arc::clone(&server);
                let work = move || asker.say(&asker.ask(&request, &question));
                match std::thread::Builder::new().name("call".to_owned()).spawn(work) {
                    Ok(call) => calls.push(call),
                    Err(trouble) => {
                        let text = format!("there is no room for another call: {trouble}");
                        server.say(&error(&id, code::INTERNAL, &text, None));
                    }
                }
            }
        }
    }
    for call in calls {
        drop(call.join()); // a panic was reported where it happened
    }
    Ok(())
}

struct Server {
    socket: PathBuf,
    out: Mutex<io::Stdout>,
}

impl Server {
    /// Tells the client something. One that reads no more has ended, and so has this process nothing to do.
    fn say(&self, message: &Value) {
        let mut line = message.to_string();
        line.push('\n');
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        drop(out.write_all(line.as_bytes()).and_then(|()| out.flush()));
    }

    fn ask(&self, request: &Request, question: &Question) -> Value {
        match (self.at_desk(question), question) {
            (Ok(Answer::Tools(tools)), Question::Tools) => request.answer(listed(&tools)),
            (Ok(Answer::Done(text)), Question::Call { .. }) => request.answer(used(&text, false)),
            (Ok(Answer::Wrong(why)), Question::Call { .. }) => request.answer(used(&why, true)),
            (Err(trouble), Question::Call { .. }) => {
                request.answer(used(&format!("the host was not reached: {trouble}"), true))
            }
            (Err(trouble), Question::Tools) => {
                let text = format!("the host was not reached: {trouble}");
                error(&request.id, code::INTERNAL, &text, None)
            }
            (Ok(Answer::Wrong(text)), Question::Tools) => {
                error(&request.id, code::INTERNAL, &text, None)
            }
            (Ok(Answer::Tools(_) | Answer::Done(_)), _) => {
                error(&request.id, code::INTERNAL, "the host answered something else", None)
            }
        }
    }

    /// Asks the runner, which answers when it has done what is asked. One that ends meanwhile closes the
    /// connection, and nobody knows whether it has.
    fn at_desk(&self, question: &Question) -> io::Result<Answer> {
        let mut stream = near(&self.socket, |path| UnixStream::connect(path))?;
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        match read_line(&mut BufReader::new(&stream), LINE_MAX)? {
            Line::Text(line) => Ok(serde_json::from_slice(&line)?),
            Line::TooLong | Line::End => Err(io::Error::other(
                "it ended before it had answered, so nobody knows whether it was done",
            )),
        }
    }
}

/// A request, as far as its answer depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Request {
    id: Value,
    /// Whether it is of the form without a handshake.
    modern: bool,
}

impl Request {
    /// The answer with these fields, in this request's form.
    fn answer(&self, mut fields: Map<String, Value>) -> Value {
        if self.modern {
            fields.insert("resultType".to_owned(), json!("complete"));
            fields.insert("_meta".to_owned(), json!({META_SERVER: about()}));
        } else {
            fields.retain(|name, _| !["ttlMs", "cacheScope"].contains(&name.as_str()));
        }
        json!({"jsonrpc": "2.0", "id": self.id, "result": fields})
    }
}

/// What a line of the client means.
#[derive(Debug)]
enum Meant {
    /// Nothing that wants an answer.
    Nothing,
    /// What can be answered at once, with this.
    Said(Value),
    /// What the runner has to be asked.
    Asked(Request, Question),
}

/// What `line` means.
fn read(line: &[u8]) -> Meant {
    let wrong = |id: &Value, code, text: &str| Meant::Said(error(id, code, text, None));
    let message = match serde_json::from_slice(line) {
        Ok(Value::Object(message)) => message,
        Ok(_) => return wrong(&Value::Null, code::INVALID_REQUEST, "this is no object"),
        Err(_) if line.trim_ascii().is_empty() => return Meant::Nothing,
        Err(error) => {
            return wrong(&Value::Null, code::PARSE, &format!("this is no JSON: {error}"));
        }
    };
    let Some(Value::String(method)) = message.get("method") else {
        return Meant::Nothing; // an answer, and nothing was asked
    };
    let id = match message.get("id") {
        None => return Meant::Nothing,
        Some(id @ (Value::String(_) | Value::Number(_))) => id,
        Some(_) => {
            return wrong(&Value::Null, code::INVALID_REQUEST, "an id is a text or a number");
        }
    };
    let empty = Map::new();
    let params = message.get("params").and_then(Value::as_object).unwrap_or(&empty);
    match form(method, params) {
        Ok(modern) => meant(&Request { id: id.clone(), modern }, method, params),
        Err((code, text, data)) => Meant::Said(error(id, code, &text, data)),
    }
}

type Refusal = (i64, String, Option<Value>);

/// Whether a request is of the modern form.
fn form(method: &str, params: &Map<String, Value>) -> Result<bool, Refusal> {
    let meta = params.get("_meta").and_then(Value::as_object);
    let version = meta.and_then(|meta| meta.get(META_VERSION));
    if version.is_none() && method != "server/discover" || method == "initialize" {
        return Ok(false);
    }
    let missing = |name: &str| (code::INVALID_PARAMS, format!("_meta has no {name}"), None);
    match version {
        None => Err(missing(META_VERSION)),
        Some(Value::String(version)) if version == MODERN => {
            match meta.and_then(|meta| meta.get(META_CAPABILITIES)) {
                Some(Value::Object(_)) => Ok(true),
                _ => Err(missing(META_CAPABILITIES)),
            }
        }
        Some(Value::String(other)) => {
            let data = json!({"supported": [MODERN], "requested": other});
            Err((code::UNSUPPORTED_VERSION, "Unsupported protocol version".to_owned(), Some(data)))
        }
        Some(_) => Err((code::INVALID_PARAMS, format!("{META_VERSION} is a text"), None)),
    }
}

/// What a request with this method means.
fn meant(request: &Request, method: &str, params: &Map<String, Value>) -> Meant {
    let (id, modern) = (&request.id, request.modern);
    match method {
        "initialize" => Meant::Said(request.answer(agreed(params))),
        "server/discover" => Meant::Said(request.answer(discovered())),
        "ping" if !modern => Meant::Said(request.answer(Map::new())),
        "tools/list" => Meant::Asked(request.clone(), Question::Tools),
        "tools/call" => {
            let arguments = match params.get("arguments") {
                None | Some(Value::Null) => Some(Map::new()),
                Some(Value::Object(arguments)) => Some(arguments.clone()),
                Some(_) => None,
            };
            match (params.get("name").and_then(Value::as_str), arguments) {
                (Some(name), Some(arguments)) => Meant::Asked(
                    request.clone(),
                    Question::Call { name: name.to_owned(), arguments },
                ),
                _ => {
                    let text = "a call has a name, and arguments that are an object";
                    Meant::Said(error(id, code::INVALID_PARAMS, text, None))
                }
            }
        }
        _ => Meant::Said(error(id, code::NO_METHOD, &format!("Method not found: {method}"), None)),
    }
}

fn about() -> Value {
    json!({"name": NAME, "version": env!("CARGO_PKG_VERSION")})
}

/// The answer to a handshake: the version that the client wants, or the newest that we know.
fn agreed(params: &Map<String, Value>) -> Map<String, Value> {
    let wanted = params.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
    let version = HANDSHAKE.into_iter().find(|known| *known == wanted).unwrap_or(HANDSHAKE[0]);
    fields(json!({
        "protocolVersion": version,
        "capabilities": {"tools": {}},
        "serverInfo": about(),
        "instructions": INSTRUCTIONS,
    }))
}

fn discovered() -> Map<String, Value> {
    fields(json!({
        "supportedVersions": [MODERN],
        "capabilities": {"tools": {}},
        "instructions": INSTRUCTIONS,
        "ttlMs": TOOLS_TTL_MS,
        "cacheScope": "private",
    }))
}

fn listed(tools: &[ToolText]) -> Map<String, Value> {
    fields(json!({"tools": tools, "ttlMs": TOOLS_TTL_MS, "cacheScope": "private"}))
}

fn used(text: &str, failed: bool) -> Map<String, Value> {
    fields(json!({"content": [{"type": "text", "text": text}], "isError": failed}))
}

fn fields(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(fields) => fields,
        other => unreachable!("it was written as an object: {other}"),
    }
}

fn error(id: &Value, code: i64, text: &str, data: Option<Value>) -> Value {
    let mut error = json!({"code": code, "message": text});
    if let (Value::Object(fields), Some(data)) = (&mut error, data) {
        fields.insert("data".to_owned(), data);
    }
    json!({"jsonrpc": "2.0", "id": id, "error": error})
}

/// Serves, and says why not.
pub(crate) fn run(socket: &Path) -> bool {
    match serve(socket) {
        Ok(()) => true,
        Err(trouble) => {
            say!("mcp: standard input could not be read: {trouble}");
            false
        }
    }
}
