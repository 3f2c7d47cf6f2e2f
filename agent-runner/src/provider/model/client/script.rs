//! A host of a few lines, for tests: a script says what becomes of each connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use serde_json::{Value, json};

/// What the script does with a connection.
#[derive(Clone)]
pub(super) enum Step {
    /// Reads the request, says this, and closes.
    Say(String),
    /// Says this before the request is read, and closes.
    SayUnread(String),
    /// Reads the request, says this after a while, and closes.
    SayLate(String),
    /// Reads the request, says this, and then nothing until the client goes.
    Stall(String),
}

pub(super) fn status(status: u16, body: &str) -> Step {
    let length = body.len();
    Step::Say(format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n{body}"))
}

pub(super) const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// `text` as a chunk.
pub(super) fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// The beginning of an answer that says `text`.
pub(super) fn begun(text: &str) -> String {
    let start = json!({"type": "content_block_start", "index": 0,
        "content_block": {"type": "text", "text": ""}});
    let delta = json!({"type": "content_block_delta", "index": 0,
        "delta": {"type": "text_delta", "text": text}});
    format!("event: x\ndata: {start}\n\n: comment\n\ndata: {delta}\n\n")
}

/// A whole answer that says `text`.
pub(super) fn whole(text: &str) -> String {
    let end = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}});
    let stop = json!({"type": "message_stop"});
    format!("{}data: {end}\n\ndata: {stop}\n\n", begun(text))
}

pub(super) fn answer(text: &str) -> Step {
    Step::Say(format!("{STREAM}{}0\r\n\r\n", chunk(&whole(text))))
}

pub(super) fn cut(text: &str) -> Step {
    Step::Say(format!("{STREAM}{}", chunk(&begun(text))))
}

/// Answers one connection for each step, and hands out the requests: heads and bodies.
pub(super) fn serve(path: &Path, steps: Vec<Step>) -> (JoinHandle<()>, Receiver<(String, Value)>) {
    let listener = UnixListener::bind(path).unwrap();
    let (requests, received) = channel();
    let work = move || {
        for step in steps {
            let (mut stream, _) = listener.accept().unwrap();
            if let Step::SayUnread(text) = step {
                stream.write_all(text.as_bytes()).unwrap();
                continue;
            }
            requests.send(request(&stream)).unwrap();
            if matches!(step, Step::SayLate(_)) {
                sleep(Duration::from_millis(200));
            }
            let (Step::Say(text) | Step::SayLate(text) | Step::Stall(text) | Step::SayUnread(text)) =
                &step;
            stream.write_all(text.as_bytes()).unwrap();
            if matches!(step, Step::Stall(_)) {
                drop(stream.read(&mut [0])); // until the client goes
            }
        }
    };
    (spawn(work), received)
}

fn request(stream: &UnixStream) -> (String, Value) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "a whole head");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    (head, serde_json::from_slice(&body).unwrap())
}
