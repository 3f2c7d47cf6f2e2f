//! One request at the host's socket for a server of MCP, and its answer as it comes. Each has a connection of its
//! own, and whoever waits for it looks again and again whether to go on.
//!
//! Source: "Streamable HTTP" of the versions that `super` names.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use twobox_shared::agent_config::MCP_PATH;
use twobox_shared::content::shorten;
use twobox_shared::visible;

use super::link::{LOOK, MESSAGE_MAX, Trouble, Until};
use crate::host_socket;
use crate::http::{Body, Head, read_head};
use crate::sse::Events;

/// How long the host may take to read what it is sent.
const WRITE: Duration = Duration::from_secs(30);

/// How long a host is looked for that does not listen: it may be on its way up again.
const HOST: Duration = Duration::from_secs(15);

/// How much is read of an answer that says no, in bytes, and how much of its words is told, in characters.
const NO_MAX: u64 = 64 << 10;
const WORDS_MAX: usize = 300;

/// The host's word for a request that it has sent and that has no whole answer,
const UNANSWERED: &str = "unanswered";
/// and for one that the server forbids.
const FORBIDDEN: &str = "forbidden";

/// Where a server is asked.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    /// The host's socket.
    pub(crate) socket: PathBuf,
    /// By which the host knows the session.
    pub(crate) key: String,
    /// The name of the server.
    pub(crate) server: String,
}

/// A request.
pub(super) struct Letter<'a> {
    pub(super) method: &'static str,
    pub(super) headers: &'a [(String, String)],
    /// Nothing, or a message.
    pub(super) body: &'a str,
}

/// An answer that has begun.
pub(super) struct Opened<'a> {
    pub(super) head: Head,
    body: Body<BufReader<Patient<'a>>>,
    until: Until<'a>,
}

impl Door {
    /// Sends `letter` and waits until its answer begins.
    ///
    /// # Errors
    /// Why there is none. What the host itself says is one, too.
    pub(super) fn send<'a>(
        &self,
        letter: &Letter<'_>,
        until: Until<'a>,
    ) -> Result<Opened<'a>, Trouble> {
        self.send_on(self.open(until)?, letter, until)
    }

    /// As [`Door::send`], on a stream that was opened for it.
    ///
    /// # Errors
    /// As there.
    pub(super) fn send_on<'a>(
        &self,
        stream: UnixStream,
        letter: &Letter<'_>,
        until: Until<'a>,
    ) -> Result<Opened<'a>, Trouble> {
        let broke = |error: io::Error| {
            until.over().unwrap_or_else(|| Trouble::Cut(format!("on the way to the host: {error}")))
        };
        // A host that refuses may do so before it has read everything: its answer counts, if there is one.
        let written = self.write(&stream, letter);
        let mut reader = BufReader::new(Patient { stream, until });
        let head = read_head(&mut reader).map_err(|error| broke(written.err().unwrap_or(error)))?;
        let body = Body::new(reader, &head);
        let mut opened = Opened { head, body, until };
        match opened.head.own {
            true => Err(opened.refused()),
            false => Ok(opened),
        }
    }

    /// A stream to the host, on which whoever reads looks again and again whether to go on.
    ///
    /// # Errors
    /// The host does not listen, or nobody wants it any more.
    pub(super) fn open(&self, until: Until<'_>) -> Result<UnixStream, Trouble> {
        let end = Instant::now() + HOST;
        loop {
            let error = match host_socket::reach(&self.socket).and_then(patient) {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            if let Some(over) = until.over() {
                return Err(over);
            }
            if Instant::now() >= end {
                return Err(Trouble::Unreached(format!("the host does not listen: {error}")));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn write(&self, mut stream: &UnixStream, letter: &Letter<'_>) -> io::Result<()> {
        let Letter { method, headers, body } = letter;
        let (key, server) = (&self.key, &self.server);
        let mut head = format!(
            "{method} {MCP_PATH}?server={server} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\
             authorization: Bearer {key}\r\n"
        );
        for (name, value) in *headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            let length = body.len();
            head.push_str(&format!(
                "content-type: application/json\r\ncontent-length: {length}\r\n"
            ));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())
    }
}

fn patient(stream: UnixStream) -> io::Result<UnixStream> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(LOOK))?;
    stream.set_write_timeout(Some(WRITE))?;
    Ok(stream)
}

impl Opened<'_> {
    /// Whether the answer is a stream of events.
    pub(super) fn is_stream(&self) -> bool {
        self.is("text/event-stream")
    }

    /// Whether the answer is one message.
    pub(super) fn is_json(&self) -> bool {
        self.is("application/json")
    }

    fn is(&self, kind: &str) -> bool {
        let found = self.head.kind.as_deref().unwrap_or_default();
        let found = found.split(';').next().unwrap_or_default().trim();
        found.eq_ignore_ascii_case(kind)
    }

    /// The one message.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn message(&mut self) -> Result<Value, Trouble> {
        let mut bytes = Vec::new();
        let most = u64::try_from(MESSAGE_MAX).unwrap_or(u64::MAX);
        let read = (&mut self.body).take(most.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| self.broken(&error))?;
        if bytes.len() > MESSAGE_MAX {
            return Err(Trouble::TooLong);
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| Trouble::NoMcp(format!("it is no JSON ({error})")))
    }

    /// Reads on in the stream, and hands the data of each event to `hear`, until that has heard enough. `None` if
    /// the stream ended before.
    ///
    /// # Errors
    /// Why it broke off.
    pub(super) fn events<T>(
        &mut self,
        events: &mut Events,
        mut hear: impl FnMut(&str) -> Option<T>,
    ) -> Result<Option<T>, Trouble> {
        let mut room = [0; 8 << 10];
        loop {
            let read = match self.body.read(&mut room) {
                Ok(0) => return Ok(None),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.broken(&error)),
            };
            for data in events.read(&room[..read]).map_err(|_| Trouble::TooLong)? {
                if let Some(enough) = hear(&data) {
                    return Ok(Some(enough));
                }
            }
            // One that never stops talking is given up, too.
            if let Some(over) = self.until.over() {
                return Err(over);
            }
        }
    }

    /// What an answer says that says no: the message, if it is one, and its words.
    pub(super) fn no(&mut self) -> (Value, String) {
        let mut bytes = Vec::new();
        drop((&mut self.body).take(NO_MAX).read_to_end(&mut bytes)); // what has come says enough
        let message = serde_json::from_slice(&bytes).unwrap_or_default();
        let is_text = self.is("text/plain") || self.is_json();
        let words = if is_text { String::from_utf8_lossy(&bytes) } else { String::new().into() };
        (message, shorten(&visible::line(words.trim()), WORDS_MAX))
    }

    /// What the host says, whose own answer this is.
    fn refused(&mut self) -> Trouble {
        let (said, words) = self.no();
        let said = said["error"]["message"].as_str().map(visible::line);
        let said = said.unwrap_or(words);
        match (self.head.refusal.as_deref(), self.head.status) {
            (Some(UNANSWERED), _) => Trouble::Unanswered(said),
            (Some(FORBIDDEN), _) => Trouble::Forbidden(said),
            // There is no such server, the host has not what it wants to be told, or it cannot be reached.
            (_, 404 | 500 | 502) => Trouble::Unreached(said),
            _ => Trouble::Unasked(said), // it passes, or it is about this request alone
        }
    }

    fn broken(&self, error: &io::Error) -> Trouble {
        self.until.over().unwrap_or_else(|| match error.kind() {
            ErrorKind::UnexpectedEof => Trouble::Cut("in the middle".to_owned()),
            _ => Trouble::Cut(error.to_string()),
        })
    }
}

/// A stream that is waited for as long as anybody wants the answer.
struct Patient<'a> {
    stream: UnixStream,
    until: Until<'a>,
}

impl Read for Patient<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            // Also while there is something to read: what comes byte by byte may never end.
            if self.until.over().is_some() {
                return Err(ErrorKind::TimedOut.into());
            }
            match self.stream.read(out) {
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                read => return read,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// An answer of which `said` has come, and of which more may.
    fn opened<'a>(said: &str, until: Until<'a>) -> (UnixStream, Opened<'a>) {
        let (mut host, stream) = UnixStream::pair().unwrap();
        host.write_all(said.as_bytes()).unwrap();
        let mut reader = BufReader::new(Patient { stream: patient(stream).unwrap(), until });
        let head = read_head(&mut reader).unwrap();
        let body = Body::new(reader, &head);
        (host, Opened { head, body, until })
    }

    fn later(cancelled: &AtomicBool) -> Until<'_> {
        Until { deadline: Instant::now() + Duration::from_secs(60), cancelled }
    }

    #[test]
    fn nobody_is_listened_to_for_longer_than_the_answer_is_wanted_though_more_comes() {
        let cancelled = AtomicBool::new(false);
        let passed = Until { deadline: Instant::now(), cancelled: &cancelled };
        let (mut host, stream) = UnixStream::pair().unwrap();
        host.write_all(b"there is something to read").unwrap();
        let mut reader = Patient { stream: patient(stream).unwrap(), until: passed };
        let read = reader.read(&mut [0; 8]).map_err(|error| error.kind());
        assert_eq!(read, Err(ErrorKind::TimedOut));

        let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n";
        let (mut host, mut opened) = opened(head, later(&cancelled));
        host.write_all(b"{\"and\": \"so on\"").unwrap();
        cancelled.store(true, Ordering::Relaxed);
        assert!(matches!(opened.message(), Err(Trouble::Cancelled)));
    }

    #[test]
    fn the_hosts_refusal_says_whether_the_request_was_sent_and_whether_the_server_is_there() {
        for (status, word, expected) in [
            (502, "unreachable", "Unreached"),
            (502, "unanswered", "Unanswered"),
            (500, "host", "Unreached"),
            (404, "not-found", "Unreached"),
            (400, "request", "Unasked"),
            (403, "not-allowed", "Unasked"),
            (403, "forbidden", "Forbidden"),
            (413, "too-large", "Unasked"),
            (429, "too-many", "Unasked"),
        ] {
            let cancelled = AtomicBool::new(false);
            let body = r#"{"error":{"message":"Twobox: why"}}"#;
            let said = format!(
                "HTTP/1.1 {status} No\r\nx-twobox-refusal: {word}\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            let (_host, mut opened) = opened(&said, later(&cancelled));
            assert!(opened.head.own);
            let told = format!("{:?}", opened.refused());
            assert_eq!(told, format!("{expected}(\"Twobox: why\")"), "{status} {word}");
        }
    }
}
