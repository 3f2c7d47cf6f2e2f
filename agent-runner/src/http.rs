//! As much of HTTP/1.1 as a request and its answer need: one of them on each connection. Heads are taken
//! apart by `httparse`; here are the three ways in which a body may end. Whatever is read is bounded.
//!
//! Source: RFC 9112.

use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use twobox_shared::agent_config::{LENGTH_HEADER, PLACE_HEADER, REFUSAL_HEADER};

/// The longest head of an answer, in bytes.
const HEAD_MAX: usize = 64 << 10;

/// The most headers of an answer.
const HEADERS_MAX: usize = 100;

/// The longest line that says how long a chunk is, in bytes.
const CHUNK_LINE_MAX: usize = 4 << 10;

/// What is read of the head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Whether the body is JSON, and so no stream.
    pub(crate) json: bool,
    /// Whether the host says this itself.
    pub(crate) own: bool,
    /// The host's word for why, if it says this itself.
    pub(crate) refusal: Option<String>,
    /// How long its sender has us wait before we ask the same again, if it says so in seconds.
    pub(crate) retry_after: Option<Duration>,
    /// What kind of thing the body is.
    pub(crate) kind: Option<String>,
    /// Under which name its sender knows us from now on.
    pub(crate) session: Option<String>,
    /// Where it is, if it was fetched for us.
    pub(crate) place: Option<String>,
    /// How many bytes that has.
    pub(crate) length: Option<u64>,
    framing: Framing,
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With an empty chunk; so many bytes of this one are left, and whether it is the first.
    Chunked { left: u64, first: bool },
    /// With the connection.
    Close,
}

/// Writes the head of a request with a JSON body of `length` bytes.
pub(crate) fn write_head(
    out: &mut impl Write,
    path: &str,
    key: &str,
    length: u64,
    more: &[(&str, &str)],
) -> io::Result<()> {
    write!(
        out,
        "POST {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\naccept: text/event-stream\r\ncontent-length: {length}\r\n"
    )?;
    for (name, value) in more {
        write!(out, "{name}: {value}\r\n")?;
    }
    out.write_all(b"\r\n")
}

/// Reads the head of an answer; those that only announce one (1xx) are passed over.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] if the connection was closed before, [`io::ErrorKind::InvalidData`]
/// if what came is no HTTP, otherwise what reading said.
pub(crate) fn read_head(reader: &mut impl BufRead) -> io::Result<Head> {
    loop {
        let bytes = head_bytes(reader)?;
        let head = parse_head(&bytes)?;
        if !(100..200).contains(&head.status) {
            return Ok(head);
        }
    }
}

fn head_bytes(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        read_line(reader, &mut bytes, HEAD_MAX.saturating_sub(before))?;
        if matches!(&bytes[before..], b"\r\n" | b"\n") {
            return Ok(bytes);
        }
    }
}

/// Appends a line with its end, of `max` bytes at most.
fn read_line(reader: &mut impl BufRead, bytes: &mut Vec<u8>, max: usize) -> io::Result<()> {
    let limit = u64::try_from(max).unwrap_or(u64::MAX);
    let read = reader.by_ref().take(limit).read_until(b'\n', bytes)?;
    match bytes.last() {
        Some(b'\n') if read > 0 => Ok(()),
        _ if read < max => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Err(invalid("a line of its head is too long")),
    }
}

fn parse_head(bytes: &[u8]) -> io::Result<Head> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|error| invalid(&error.to_string()))?;
    let (httparse::Status::Complete(_), Some(status)) = (parsed, response.code) else {
        return Err(invalid("its head is not whole"));
    };
    let header = |name: &str| {
        let named = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case(name);
        response.headers.iter().find(named).and_then(|it| str::from_utf8(it.value).ok())
    };
    let chunked = |value: &str| value.trim().to_ascii_lowercase().ends_with("chunked");
    let framing = match (header("transfer-encoding"), header("content-length")) {
        _ if matches!(status, 204 | 304) => Framing::Length(0),
        (Some(value), _) if chunked(value) => Framing::Chunked { left: 0, first: true },
        (None, Some(length)) => {
            let length = length.trim().parse();
            Framing::Length(length.map_err(|_| invalid("its content-length is no number"))?)
        }
        _ => Framing::Close,
    };
    let json = header("content-type").is_some_and(|it| it.trim().starts_with("application/json"));
    let refusal = header(REFUSAL_HEADER).map(|it| it.trim().to_owned());
    let own = refusal.is_some();
    let retry_after = header("retry-after").and_then(|it| it.trim().parse().ok());
    let retry_after = retry_after.map(Duration::from_secs);
    let kind = header("content-type").map(str::to_owned);
    let place = header(PLACE_HEADER).map(str::to_owned);
    let length = header(LENGTH_HEADER).and_then(|it| it.trim().parse().ok());
    let session = header("mcp-session-id").map(str::to_owned);
    Ok(Head { status, json, own, refusal, retry_after, kind, session, place, length, framing })
}

/// The body of an answer. It ends well only where its framing says so; a connection that is closed before
/// is [`io::ErrorKind::UnexpectedEof`].
pub(crate) struct Body<R> {
    reader: R,
    framing: Framing,
}

impl<R: BufRead> Body<R> {
    pub(crate) fn new(reader: R, head: &Head) -> Self {
        Self { reader, framing: head.framing }
    }

    /// Reads what stands before the next chunk, and returns how long it is. After the last, what follows
    /// is passed over.
    fn next_chunk(&mut self, first: bool) -> io::Result<u64> {
        let mut line = Vec::new();
        if !first {
            read_line(&mut self.reader, &mut line, CHUNK_LINE_MAX)?;
            if line.trim_ascii() != b"" {
                return Err(invalid("a chunk of it is longer than it says"));
            }
            line.clear();
        }
        read_line(&mut self.reader, &mut line, CHUNK_LINE_MAX)?;
        let length = match httparse::parse_chunk_size(&line) {
            Ok(httparse::Status::Complete((_, length))) => length,
            _ => return Err(invalid("a chunk of it has no length")),
        };
        if length == 0 {
            head_bytes(&mut self.reader)?; // trailers
        }
        Ok(length)
    }
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if let Framing::Chunked { left: 0, first } = self.framing {
            let left = self.next_chunk(first)?;
            self.framing = match left {
                0 => Framing::Length(0),
                left => Framing::Chunked { left, first: false },
            };
        }
        let left = match &mut self.framing {
            Framing::Length(0) => return Ok(0),
            Framing::Length(left) | Framing::Chunked { left, .. } => left,
            Framing::Close => return self.reader.read(out),
        };
        let most = usize::try_from(*left).unwrap_or(usize::MAX).min(out.len());
        match self.reader.read(&mut out[..most])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                *left -= u64::try_from(read).expect("it is at most what is left");
                Ok(read)
            }
        }
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    /// Reads `answer` with room for `room` bytes at once.
    fn read(answer: &str, room: usize) -> Result<(u16, String), io::ErrorKind> {
        let mut reader = BufReader::with_capacity(room, answer.as_bytes());
        let head = read_head(&mut reader).map_err(|error| error.kind())?;
        let mut body = String::new();
        Body::new(reader, &head).read_to_string(&mut body).map_err(|error| error.kind())?;
        Ok((head.status, body))
    }

    #[test]
    fn a_body_ends_where_its_framing_says() {
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello world", 200, "hello"),
            ("HTTP/1.1 200 OK\r\n\r\nto the end", 200, "to the end"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\na: b\r\n\r\n",
                200,
                "hello world",
            ),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 402 No\r\ncontent-length: 0\r\n\r\n", 402, ""),
            ("HTTP/1.1 204 Nothing\r\n\r\n", 204, ""),
        ];
        for (answer, status, body) in cases {
            for room in [1, 2, 3, 7, 4096] {
                assert_eq!(read(answer, room), Ok((status, body.to_owned())), "{answer} {room}");
            }
        }
    }

    #[test]
    fn what_is_cut_or_no_http_is_told_apart() {
        let eof = io::ErrorKind::UnexpectedEof;
        let invalid = io::ErrorKind::InvalidData;
        let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "x".repeat(HEAD_MAX));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        let cases = [
            ("", eof),
            ("HTTP/1.1 200 OK\r\nContent-Le", eof),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", eof),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello", eof),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", eof),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", eof),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\nhello", invalid),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n", invalid),
            ("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", invalid),
            ("SSH-2.0-OpenSSH\r\n\r\n", invalid),
            (&long, invalid),
            (&many, invalid),
        ];
        for (answer, expected) in cases {
            let shown = &answer[..answer.len().min(90)];
            assert_eq!(read(answer, 4096), Err(expected), "{shown}");
        }
    }
}
