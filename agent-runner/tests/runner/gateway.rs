//! The host's way to a model, played by a test: a unix socket at which answers from a list are given, as
//! Anthropic's Messages API streams them.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// One answer.
pub(crate) enum Answer {
    /// Words that end the turn.
    Says(&'static str),
    /// The same, after somebody has let it go on in the middle of its stream.
    Held(&'static str, Receiver<()>),
    /// Words, and no end.
    Stalls,
    /// These tools with these fields.
    Wants(Vec<(&'static str, Value)>),
    /// Words, and the connection breaks off.
    Breaks,
    /// A refusal with this status, and how long to wait.
    Refuses(u16, Option<u32>),
}

/// A request that is for no model.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Its first line.
    pub(crate) line: String,
    /// The rest of its head, with names in small letters.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// Answers requests for servers of MCP.
pub(crate) type Far = Arc<dyn Fn(&Request, &mut UnixStream) -> std::io::Result<()> + Send + Sync>;

/// The socket.
#[derive(Clone)]
pub(crate) struct Gateway {
    far: Option<Far>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    /// Serves at `path` for as long as the test runs.
    pub(crate) fn at(path: &Path, answers: Vec<Answer>) -> Self {
        Self::with(path, answers, None)
    }

    /// The same, where `far` answers what is for servers of MCP.
    pub(crate) fn with(path: &Path, answers: Vec<Answer>, far: Option<Far>) -> Self {
        let gateway =
            Self { far, answers: Arc::new(Mutex::new(answers.into())), bodies: Arc::default() };
        let listener = UnixListener::bind(path).unwrap();
        let serving = gateway.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (serving, stream) = (serving.clone(), stream.unwrap());
                // A client that goes away in the middle is what some tests are about.
                std::thread::spawn(move || drop(serving.serve(stream)));
            }
        });
        gateway
    }

    /// Adds answers to the list.
    pub(crate) fn then(&self, answers: impl IntoIterator<Item = Answer>) {
        self.answers.lock().unwrap().extend(answers);
    }

    /// The bodies of all requests so far.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap().clone()
    }

    /// What request `number` said, as JSON.
    pub(crate) fn asked(&self, number: usize) -> Value {
        serde_json::from_str(&self.bodies()[number]).unwrap()
    }

    fn serve(&self, stream: UnixStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        loop {
            let (mut length, mut line, mut head) = (0, String::new(), Vec::new());
            loop {
                line.clear();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                let lower = line.to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
                head.push(line.trim().to_owned());
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            if let Some(far) = self.far.as_ref().filter(|_| head[0].contains(" /mcp?")) {
                let headers = head[1..].iter().filter_map(|line| line.split_once(": "));
                let request = Request {
                    line: head[0].clone(),
                    headers: headers.map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())).collect(),
                    body: String::from_utf8(body).unwrap(),
                };
                return far(&request, &mut writer);
            }
            self.bodies.lock().unwrap().push(String::from_utf8(body).unwrap());
            let number = self.bodies.lock().unwrap().len();
            let answer = self.answers.lock().unwrap().pop_front();
            reply(&mut writer, answer, number)?;
        }
    }
}

/// A refusal, as the host's gateway passes one on.
fn refuse(
    stream: &mut UnixStream,
    status: u16,
    wait: Option<u32>,
    why: &str,
) -> std::io::Result<()> {
    let body = json!({"type": "error", "error": {"type": "x", "message": why}}).to_string();
    let wait = wait.map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} No\r\nx-should-retry: false\r\n{wait}content-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

fn reply(stream: &mut UnixStream, answer: Option<Answer>, number: usize) -> std::io::Result<()> {
    let answer = match answer {
        None => return refuse(stream, 400, None, "no more answers"),
        Some(Answer::Refuses(status, wait)) => return refuse(stream, status, wait, "not now"),
        Some(answer) => answer,
    };
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n";
    write!(stream, "{head}\r\n")?;
    let usage = json!({"input_tokens": 10, "output_tokens": 1});
    let message = json!({
        "id": format!("msg_{number}"), "type": "message", "role": "assistant", "model": "m",
        "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage,
    });
    event(stream, json!({"type": "message_start", "message": message}))?;
    let stop = match answer {
        Answer::Says(text) => {
            words(stream, text)?;
            "end_turn"
        }
        Answer::Held(text, go_on) => {
            words(stream, text)?;
            go_on.recv().ok(); // or the test is over
            "end_turn"
        }
        Answer::Stalls => {
            words(stream, "I am about to say")?;
            // Until the client has gone.
            return stream.read_exact(&mut [0]);
        }
        Answer::Breaks => {
            words(stream, "I am about to say")?;
            return stream.shutdown(std::net::Shutdown::Both);
        }
        Answer::Refuses(..) => unreachable!("it was answered above"),
        Answer::Wants(tools) => {
            for (index, (name, input)) in tools.iter().enumerate() {
                tool(stream, &format!("toolu_{number}_{index}"), index, name, input)?;
            }
            "tool_use"
        }
    };
    let delta = json!({"stop_reason": stop});
    event(stream, json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 7}}))?;
    event(stream, json!({"type": "message_stop"}))?;
    stream.write_all(b"0\r\n\r\n")
}

fn words(stream: &mut UnixStream, text: &str) -> std::io::Result<()> {
    let block = json!({"type": "text", "text": ""});
    let delta = json!({"type": "text_delta", "text": text});
    block_of(stream, 0, block, delta)
}

fn tool(
    stream: &mut UnixStream,
    id: &str,
    index: usize,
    name: &str,
    input: &Value,
) -> std::io::Result<()> {
    let block = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
    let delta = json!({"type": "input_json_delta", "partial_json": input.to_string()});
    block_of(stream, index, block, delta)
}

fn block_of(
    stream: &mut UnixStream,
    index: usize,
    block: Value,
    delta: Value,
) -> std::io::Result<()> {
    let start = json!({"type": "content_block_start", "index": index, "content_block": block});
    event(stream, start)?;
    event(stream, json!({"type": "content_block_delta", "index": index, "delta": delta}))?;
    event(stream, json!({"type": "content_block_stop", "index": index}))
}

fn event(stream: &mut UnixStream, data: Value) -> std::io::Result<()> {
    let text = format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap());
    write!(stream, "{:x}\r\n{text}\r\n", text.len())?;
    stream.flush()
}
