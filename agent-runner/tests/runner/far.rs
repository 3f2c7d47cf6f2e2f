//! A server of MCP over HTTP, with the host in one, which is as nasty as its tools are called.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::gateway::{Far, Request};

/// A server, and all that it was asked.
#[derive(Clone, Default)]
pub(crate) struct Server(pub(crate) Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    modern: bool,
    /// What it calls the session that it knows.
    session: u32,
    tools: Vec<&'static str>,
    pub(crate) asked: Vec<Request>,
    /// Where it says what it says by itself.
    pub(crate) listeners: Vec<Sender<String>>,
    /// Answers nothing but this.
    pub(crate) only: Option<String>,
}

const TOOLS: [&str; 12] = [
    "add",
    "stream",
    "resume",
    "cut",
    "forget",
    "forgetful",
    "huge",
    "html",
    "slow",
    "grow",
    "broken",
    "refused",
];

pub(crate) fn json_answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// A piece of a stream.
fn piece(stream: &mut UnixStream, text: &str) -> io::Result<()> {
    write!(stream, "{:x}\r\n{text}\r\n", text.len())
}

pub(crate) fn message(id: &Value, result: Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
}

pub(crate) fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}], "resultType": "complete"})
}

pub(crate) fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

impl Server {
    pub(crate) fn start(modern: bool) -> Self {
        let server = Self::default();
        let mut state = server.0.lock().unwrap();
        (state.modern, state.tools) = (modern, TOOLS.to_vec());
        drop(state);
        server
    }

    pub(crate) fn far(&self) -> Far {
        let server = self.clone();
        Arc::new(move |request, stream| server.serve(request, stream))
    }

    /// What was asked for by `method` of HTTP, or by one of MCP.
    pub(crate) fn asked(&self, method: &str) -> Vec<Request> {
        let state = self.0.lock().unwrap();
        let is = |it: &&Request| {
            let said: Value = serde_json::from_str(&it.body).unwrap_or_default();
            it.line.starts_with(&format!("{method} ")) || said["method"] == method
        };
        state.asked.iter().filter(is).cloned().collect()
    }

    fn serve(&self, request: &Request, stream: &mut UnixStream) -> io::Result<()> {
        let asked: Value = serde_json::from_str(&request.body).unwrap_or_default();
        let mut state = self.0.lock().unwrap();
        state.asked.push(request.clone());
        if let Some(only) = &state.only {
            return stream.write_all(only.as_bytes());
        }
        let (id, method) = (asked["id"].clone(), asked["method"].as_str().unwrap_or_default());
        let is_new = header(request, "mcp-protocol-version") == Some("2026-07-28");
        if is_new != state.modern && method != "initialize" {
            let error = json!({"code": -32600, "message": "Bad Request: no such version"});
            let body = json!({"jsonrpc": "2.0", "id": null, "error": error}).to_string();
            return stream.write_all(json_answer("400 No", "", &body).as_bytes());
        }
        let session = format!("s-{}", state.session);
        let is_known = is_new || header(request, "mcp-session-id") == Some(&session);
        let listens = request.line.starts_with("GET ") || method == "subscriptions/listen";
        match method {
            "initialize" if !state.modern => {
                state.session += 1;
                let session = format!("mcp-session-id: s-{}\r\n", state.session);
                let result = json!({"protocolVersion": "2025-06-18", "capabilities": {}});
                stream.write_all(json_answer("200 OK", &session, &message(&id, result)).as_bytes())
            }
            _ if !is_known => stream.write_all(json_answer("404 Gone", "", "{}").as_bytes()),
            "server/discover" => {
                let result = json!({"supportedVersions": ["2026-07-28"], "capabilities": {}});
                stream.write_all(json_answer("200 OK", "", &message(&id, result)).as_bytes())
            }
            "tools/list" => {
                let schema = json!({"type": "object", "properties": {
                    "a": {"type": "integer", "x-mcp-header": "A"}, "b": {"type": "integer"}}});
                let tool = |name| json!({"name": name, "description": name, "inputSchema": schema});
                let tools: Vec<Value> = state.tools.iter().map(tool).collect();
                let body = message(&id, json!({"tools": tools}));
                stream.write_all(json_answer("200 OK", "", &body).as_bytes())
            }
            "tools/call" => {
                let name = asked["params"]["name"].as_str().unwrap().to_owned();
                call(state, &name, &id, stream)
            }
            _ if listens => {
                let (say, said) = channel();
                if header(request, "last-event-id").is_none() {
                    state.listeners.push(say);
                }
                drop(state);
                go_on(request, said, stream)
            }
            _ => stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"),
        }
    }
}

/// What is heard by whoever listens, or goes on with an answer.
fn go_on(request: &Request, said: Receiver<String>, stream: &mut UnixStream) -> io::Result<()> {
    stream.write_all(STREAM.as_bytes())?;
    if let Some(last) = header(request, "last-event-id") {
        let answer = message(&last["r-".len()..].parse::<u64>().unwrap().into(), text("resumed"));
        piece(stream, &format!("id: r-end\ndata: {answer}\n\n"))?;
        return stream.write_all(b"0\r\n\r\n");
    }
    piece(stream, ": hello\n\n")?;
    for text in said {
        piece(stream, &format!("data: {text}\n\n"))?;
    }
    Ok(())
}

fn call(
    mut state: MutexGuard<'_, State>,
    name: &str,
    id: &Value,
    stream: &mut UnixStream,
) -> io::Result<()> {
    let done = |said: &str| json_answer("200 OK", "", &message(id, text(said)));
    match name {
        "stream" => {
            drop(state); // it asks in between
            stream.write_all(STREAM.as_bytes())?;
            let answer = message(id, text("str\u{e9}amed"));
            let other = message(&json!(4711), text("not for you"));
            let said = format!(
                ": hello\r\n\r\nevent: message\r\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{}}}}\r\n\r\n\
                 data: {{\"jsonrpc\":\"2.0\",\"id\":\"p\",\"method\":\"ping\"}}\n\n\
                 data: {{\"jsonrpc\":\"2.0\",\"id\":7,\ndata: \"method\":\"sampling/createMessage\"}}\r\r\
                 data: {other}\n\ndata: no JSON\n\ndata:\n\ndata: {answer}\n\n"
            );
            for byte in said.as_bytes() {
                stream.write_all(b"1\r\n")?;
                stream.write_all(&[*byte])?;
                stream.write_all(b"\r\n")?;
            }
            stream.write_all(b"0\r\n\r\n")
        }
        "resume" => {
            stream.write_all(STREAM.as_bytes())?;
            piece(stream, &format!("id: r-{id}\nretry: 20\ndata:\n\n"))?;
            stream.write_all(b"0\r\n\r\n")
        }
        "cut" => {
            stream.write_all(STREAM.as_bytes())?;
            piece(stream, "data: {\"jsonrpc\":")?;
            stream.shutdown(Shutdown::Both)
        }
        "forget" if state.session == 1 => {
            state.session = 100;
            stream.write_all(json_answer("404 Gone", "", "{}").as_bytes())
        }
        "forgetful" => stream.write_all(json_answer("404 Gone", "", "{}").as_bytes()),
        "huge" => {
            let length = 17 << 20;
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
            )?;
            let some = vec![b' '; 1 << 20];
            (0..17).try_for_each(|_| stream.write_all(&some))
        }
        "html" => {
            let page =
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\n<p/>";
            stream.write_all(page.as_bytes())
        }
        "slow" => {
            drop(state);
            // Until the client has gone.
            io::Read::read_exact(stream, &mut [0])
        }
        "grow" => {
            state.tools.push("grown");
            let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
            state.listeners.retain(|it| it.send(changed.to_string()).is_ok());
            stream.write_all(done("there is more now").as_bytes())
        }
        "broken" => stream.write_all(
            b"HTTP/1.1 500 No\r\ncontent-type: text/plain\r\ncontent-length: 8\r\n\r\nit broke",
        ),
        "refused" => {
            let body =
                json!({"error": {"message": "Twobox: the MCP server far: it cannot be reached"}});
            let own = "x-twobox-refusal: unreachable\r\n";
            stream.write_all(json_answer("502 No", own, &body.to_string()).as_bytes())
        }
        _ => stream.write_all(done("42").as_bytes()),
    }
}
