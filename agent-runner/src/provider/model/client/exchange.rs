//! One request and its answer, on a connection of their own.
//!
//! A thread writes and reads, and reports words as they come; the turn waits in one place for it and for
//! the main thread, and ends it by shutting the connection down.

use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use twobox_shared::agent_config::Route;

use super::super::super::{Push, TurnHandle};
use super::super::api::{self, Complaint, Progress, Quirks, Reading};
use super::super::conversation::{Answer, Request, Trouble};
use super::{Aside, Heard};
use crate::event::Said;
use crate::host_socket;
use crate::http::{Body, Head, read_head, write_head};
use crate::sse::Events;

/// The most that is read of the body of an error, in bytes.
const ERROR_MAX: u64 = 64 << 10;

/// How long the end of a stream is waited for after all has come that counts. Whoever closes before looks
/// like one who gave up.
const AFTERWORD: Duration = Duration::from_millis(500);

/// The host's word for that it has not seen yet what the container did, on which its answer depends.
const UNSEEN: &str = "unseen";

/// How long is waited where it does not say how long.
const UNTOLD: Duration = Duration::from_secs(1);

/// The longest that is waited for its word.
const LONGEST_TOLD: Duration = Duration::from_secs(30);

/// What came of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// An answer, whole.
    Answer(Answer),
    /// An error of the upstream, or of the host.
    Complaint(Complaint),
    /// Nobody listens.
    NoHost(String),
    /// The connection was closed before anything was said.
    Lost,
    /// The answer was not whole.
    Cut(String),
    /// Nothing came for this long, within which something should have.
    Silent(Duration),
}

/// What is asked, of whom and how.
pub(super) struct Call<'a> {
    pub(super) socket: &'a Path,
    pub(super) key: &'a str,
    pub(super) route: &'a Route,
    pub(super) quirks: Quirks,
    pub(super) request: &'a Request<'a>,
    /// Tells its words from those of other requests.
    pub(super) number: u64,
    /// How long nothing may come before the answer begins.
    pub(super) head: Duration,
    /// How long nothing may come once it has begun.
    pub(super) silence: Duration,
}

/// Asks, and waits for the end of the answer.
///
/// # Errors
/// If the turn was cancelled, or `deadline` came.
pub(super) fn exchange(
    call: &Call<'_>,
    handle: &TurnHandle,
    deadline: Instant,
    aside: &mut Aside,
    hear: &mut dyn FnMut(&str),
) -> Result<Outcome, Trouble> {
    handle.say(Said::Anew);
    let stream = match open(call.socket, call.head, call.silence) {
        Ok(stream) => stream,
        Err(error) => return Ok(Outcome::NoHost(error.to_string())),
    };
    std::thread::scope(|scope| {
        let (stream, pushes) = (&stream, handle.push.clone());
        let work = move || {
            let told = Told { pushes, number: call.number };
            converse(stream, call, &mut |words| told.tell(Heard::Words(words.to_owned())))
        };
        let reader = std::thread::Builder::new().name("model".to_owned());
        let reader = match reader.spawn_scoped(scope, work) {
            Ok(reader) => reader,
            Err(error) => return Ok(Outcome::NoHost(format!("no room for a thread: {error}"))),
        };
        let followed = follow(call.number, handle, deadline, aside, hear);
        if followed.is_err() {
            drop(stream.shutdown(Shutdown::Both)); // it has ended by itself
        }
        let outcome = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        followed.map(|()| outcome)
    })
}

/// Reports what a thread hears, and in any case its end.
struct Told {
    pushes: Sender<Push>,
    number: u64,
}

impl Told {
    fn tell(&self, heard: Heard) {
        drop(self.pushes.send(Push::Model(self.number, heard))); // the turn is gone
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.tell(Heard::Ended);
    }
}

/// Hands words on until the request with this number has ended.
fn follow(
    number: u64,
    handle: &TurnHandle,
    deadline: Instant,
    aside: &mut Aside,
    hear: &mut dyn FnMut(&str),
) -> Result<(), Trouble> {
    loop {
        match handle.next(deadline.saturating_duration_since(Instant::now())) {
            Some(Push::Model(of, Heard::Words(words))) if of == number => hear(&words),
            Some(Push::Model(of, Heard::Ended)) if of == number => return Ok(()),
            Some(push) => aside.keep(push)?,
            None => return Err(Trouble::Unreachable("no answer in the time of the turn".into())),
        }
    }
}

/// Connects to the host's socket at `path`.
fn open(path: &Path, head: Duration, silence: Duration) -> io::Result<UnixStream> {
    let stream = host_socket::reach(path)?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(head))?;
    stream.set_write_timeout(Some(silence))?;
    Ok(stream)
}

/// Writes the request and reads the answer.
fn converse(stream: &UnixStream, call: &Call<'_>, hear: &mut dyn FnMut(&str)) -> Outcome {
    // A host that refuses may do so before it has read everything: its answer counts, if there is one.
    let written = send(stream, call);
    let mut reader = BufReader::new(stream);
    let head = match read_head(&mut reader) {
        Ok(head) => head,
        Err(error) if is_timeout(&error) => return Outcome::Silent(call.head),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            return Outcome::Cut(format!("the host does not speak HTTP: {error}"));
        }
        Err(_) if written.as_ref().is_err_and(is_timeout) => {
            return Outcome::Silent(call.silence);
        }
        Err(_) => return Outcome::Lost,
    };
    drop(stream.set_read_timeout(Some(call.silence))); // else it is the longer one
    let mut body = Body::new(reader, &head);
    if head.status == 200 && !head.json {
        return listen(stream, &mut body, Reading::new(call.route), call.silence, hear);
    }
    let mut bytes = Vec::new();
    drop(body.take(ERROR_MAX).read_to_end(&mut bytes)); // what has come says enough
    let text = String::from_utf8_lossy(&bytes);
    Outcome::Complaint(match head.status {
        200 => Complaint::of_whole(&text),
        status => {
            let (own, not_yet) = (head.own, not_yet(&head));
            Complaint { own, not_yet, ..Complaint::of_status(status, &text) }
        }
    })
}

/// How long to wait until the same is asked again, if the host has not seen yet what it has to know first.
fn not_yet(head: &Head) -> Option<Duration> {
    let is_unseen = head.refusal.as_deref() == Some(UNSEEN);
    is_unseen.then(|| head.retry_after.unwrap_or(UNTOLD).min(LONGEST_TOLD))
}

/// Writes the request. Its body is written twice, the first time to be counted: a conversation is not held
/// in memory once more.
fn send(stream: &UnixStream, call: &Call<'_>) -> io::Result<()> {
    let Call { route, request, quirks, key, .. } = call;
    let mut count = Count(0);
    api::write(request, route, *quirks, &mut count)?;
    let mut out = BufWriter::with_capacity(32 << 10, stream);
    write_head(&mut out, &route.path, key, count.0, api::headers(route.api))?;
    api::write(request, route, *quirks, &mut out)?;
    out.flush()
}

struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += u64::try_from(bytes.len()).expect("a length fits into 64 bits");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a stream of events to its end.
pub(super) fn listen(
    stream: &UnixStream,
    body: &mut impl Read,
    mut reading: Reading,
    silence: Duration,
    hear: &mut dyn FnMut(&str),
) -> Outcome {
    let (mut events, mut room) = (Events::default(), [0; 8 << 10]);
    let why = loop {
        let read = match body.read(&mut room) {
            Ok(0) => break "it ended too early".to_owned(),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if is_timeout(&error) => return Outcome::Silent(silence),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                break "the connection was closed in the middle of it".to_owned();
            }
            Err(error) => break error.to_string(),
        };
        let Ok(whole) = events.read(&room[..read]) else {
            return Outcome::Complaint(Complaint::ours("the answer has an event without an end"));
        };
        for data in whole {
            match reading.event(&data, hear) {
                Ok(Progress::More) => {}
                Ok(Progress::Complete) => {
                    hang_up(stream, body);
                    return answered(reading, "it says that it is whole, and is not");
                }
                Err(complaint) => return Outcome::Complaint(complaint),
            }
        }
    };
    answered(reading, &why)
}

/// What was read, if it is an answer.
fn answered(reading: Reading, why_not: &str) -> Outcome {
    match reading.finish() {
        Some(answer) => Outcome::Answer(answer),
        None => Outcome::Cut(format!("the answer is not whole: {why_not}")),
    }
}

/// Waits a moment for the end of a body of which nothing counts any more.
fn hang_up(stream: &UnixStream, body: &mut impl Read) {
    let end = Instant::now() + AFTERWORD;
    let mut room = [0; 1 << 10];
    drop(stream.set_read_timeout(Some(AFTERWORD))); // else the silence ends it
    while Instant::now() < end && matches!(body.read(&mut room), Ok(1..)) {}
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
