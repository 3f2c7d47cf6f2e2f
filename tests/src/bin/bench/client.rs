//! A client of the host's socket: one connection that hands in messages, one that gets letters.
//! Two, so that neither direction can hold up the other.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use twobox_shared::ids::{IdSource, SystemIds};

use crate::Error;

/// How long anything may take before the run is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// One end of a connection. Its clone is the same connection.
struct Line {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Line {
    fn connect(socket: &Path) -> Result<Self, Error> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { lines: BufReader::new(stream.try_clone()?), stream })
    }

    fn send(&mut self, request: &Value) -> Result<(), Error> {
        Ok(self.stream.write_all(format!("{request}\n").as_bytes())?)
    }

    fn next(&mut self) -> Result<Value, Error> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => return Err("the host closed the connection".into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(format!("the host said nothing for {PATIENCE:?}").into());
            }
            Err(error) => return Err(error.into()),
        }
        let event: Value = serde_json::from_str(&line)?;
        match event["event"].as_str() {
            Some("refused" | "error" | "closing") => Err(event.to_string().into()),
            _ => Ok(event),
        }
    }
}

/// An agent, or a thread of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) agent: &'static str,
    pub(crate) thread: Option<String>,
}

/// Hands in messages.
pub(crate) struct Speaker(Line);

impl Speaker {
    pub(crate) fn connect(socket: &Path) -> Result<Self, Error> {
        Line::connect(socket).map(Self)
    }

    /// Hands in a message without waiting.
    pub(crate) fn say(&mut self, to: &Address, id: &str, text: &str) -> Result<(), Error> {
        let Address { agent, thread } = to;
        self.0.send(&json!({
            "op": "message", "agent": agent, "thread": thread, "id": id, "text": text,
        }))
    }

    /// Waits until the next message was accepted: they are in the order in which they were sent.
    pub(crate) fn accepted(&mut self) -> Result<Instant, Error> {
        match self.0.next()?["event"].as_str() {
            Some("accepted") => Ok(Instant::now()),
            other => Err(format!("{other:?} instead of an acceptance").into()),
        }
    }

    /// A second handle, for a thread that sends while another one waits.
    pub(crate) fn also(&self) -> Result<Self, Error> {
        let stream = self.0.stream.try_clone()?;
        Ok(Self(Line { lines: BufReader::new(stream.try_clone()?), stream }))
    }
}

/// Gets letters, and acknowledges each at once.
pub(crate) struct Listener(Line);

impl Listener {
    pub(crate) fn connect(socket: &Path, to: &[Address]) -> Result<Self, Error> {
        let mut line = Line::connect(socket)?;
        for Address { agent, thread } in to {
            line.send(&json!({ "op": "listen", "agent": agent, "thread": thread }))?;
            while line.next()?["event"] != "listening" {}
        }
        Ok(Self(line))
    }

    /// The messages that the next letter answers, and when it came.
    pub(crate) fn next(&mut self) -> Result<(Vec<String>, Instant), Error> {
        let letter = self.0.next()?;
        let now = Instant::now();
        self.0.send(&json!({ "op": "ack", "key": letter["key"] }))?;
        let answers = letter["answers"].as_array().into_iter().flatten();
        Ok((answers.filter_map(|id| id.as_str().map(str::to_owned)).collect(), now))
    }

    /// When the answer to `id` came.
    pub(crate) fn answer(&mut self, id: &str) -> Result<Instant, Error> {
        loop {
            let (answers, when) = self.next()?;
            if answers.iter().any(|answered| answered == id) {
                return Ok(when);
            }
        }
    }
}

/// Where the HTTP API of the host listens.
pub(crate) fn api(socket: &Path) -> Result<SocketAddr, Error> {
    let mut line = Line::connect(socket)?;
    line.send(&json!({ "op": "status" }))?;
    let said = line.next()?;
    Ok(said["status"]["api"].as_str().ok_or("this host has no API")?.parse()?)
}

/// Gives orders about schedules.
pub(crate) struct Clerk(Line);

impl Clerk {
    pub(crate) fn connect(socket: &Path) -> Result<Self, Error> {
        Line::connect(socket).map(Self)
    }

    /// Has the scheduler look, and waits until it was told.
    pub(crate) fn look(&mut self) -> Result<(), Error> {
        self.0.send(&json!({ "op": "schedules", "do": "look" }))?;
        match self.0.next()?["event"].as_str() {
            Some("schedules") => Ok(()),
            other => Err(format!("{other:?} instead of an answer about schedules").into()),
        }
    }
}

/// Both, for one conversation in which one message at a time is under way.
pub(crate) struct Client {
    speaker: Speaker,
    listener: Listener,
    to: Address,
}

/// When a message was where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trip {
    pub(crate) sent: Instant,
    pub(crate) accepted: Instant,
    pub(crate) delivered: Instant,
}

impl Client {
    pub(crate) fn connect(socket: &Path, to: Address) -> Result<Self, Error> {
        let listener = Listener::connect(socket, std::slice::from_ref(&to))?;
        Ok(Self { speaker: Speaker::connect(socket)?, listener, to })
    }

    /// Says `text` and waits for the answer.
    pub(crate) fn round_trip(&mut self, text: &str) -> Result<Trip, Error> {
        let id = SystemIds.uuid().to_string();
        let sent = Instant::now();
        self.speaker.say(&self.to, &id, text)?;
        let accepted = self.speaker.accepted()?;
        let delivered = self.listener.answer(&id)?;
        Ok(Trip { sent, accepted, delivered })
    }
}
