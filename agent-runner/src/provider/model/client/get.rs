//! One GET at the host's socket: what it fetches of the network.

use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::http::{Body, read_head};
use crate::host_socket;

/// How long the host may take until it has an answer, with all redirects, and then between two pieces.
const SILENCE: Duration = Duration::from_secs(200);

/// How often it is looked whether the turn was cancelled.
const LOOK: Duration = Duration::from_millis(100);

/// What came.
pub(crate) struct Got {
    pub(crate) status: u16,
    /// Whether the host says this itself.
    pub(crate) own: bool,
    /// What kind of thing it is, as its server says.
    pub(crate) kind: String,
    /// Where it is, after redirects.
    pub(crate) place: Option<String>,
    pub(crate) body: Vec<u8>,
    /// Whether there was more.
    pub(crate) cut: bool,
}

/// Asks the host at `socket` for `path`, and reads `most` bytes of the body.
///
/// # Errors
/// Why nothing came.
pub(crate) fn get(
    socket: &Path,
    key: &str,
    path: &str,
    most: u64,
    cancelled: &AtomicBool,
) -> io::Result<Got> {
    let mut stream = host_socket::reach(socket)?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(LOOK))?;
    stream.set_write_timeout(Some(SILENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\r\n"
    )?;
    let mut reader = BufReader::new(Patient { stream: &stream, cancelled });
    let head = read_head(&mut reader)?;
    let mut bytes = Vec::new();
    let mut body = Body::new(reader, &head).take(most + 1);
    let ended = body.read_to_end(&mut bytes);
    if cancelled.load(Ordering::Relaxed) {
        return Err(io::ErrorKind::Interrupted.into());
    }
    let too_many = bytes.len() as u64 > most;
    bytes.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    let (kind, place) = (head.kind.unwrap_or_default(), head.place);
    // What came before it broke off is worth reading.
    let cut = too_many || ended.is_err();
    Ok(Got { status: head.status, own: head.own, kind, place, body: bytes, cut })
}

/// A stream that is waited for, unless the turn is over.
struct Patient<'a> {
    stream: &'a UnixStream,
    cancelled: &'a AtomicBool,
}

impl Read for Patient<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let end = Instant::now() + SILENCE;
        loop {
            match self.stream.read(out) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    if self.cancelled.load(Ordering::Relaxed) || Instant::now() > end {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                read => return read,
            }
        }
    }
}
