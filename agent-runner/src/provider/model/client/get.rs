//! One GET at the host's socket: what it fetches of the network.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::host_socket;
use crate::http::{Body, read_head};

/// How often it is looked whether the turn was cancelled, or the time is over.
const LOOK: Duration = Duration::from_millis(100);

/// What is asked for, and how much of it.
pub(crate) struct Wanted<'a> {
    pub(crate) path: &'a str,
    /// The most bytes of the body that are read.
    pub(crate) most: u64,
    /// Of which kinds of content the body is read.
    pub(crate) reads: fn(&str) -> bool,
    /// When all of it has to be over: the host's answer, with all redirects, and the body.
    pub(crate) deadline: Instant,
    /// Whether the turn is over.
    pub(crate) cancelled: &'a AtomicBool,
}

/// What came.
pub(crate) struct Got {
    pub(crate) status: u16,
    /// Whether the host says this itself.
    pub(crate) own: bool,
    /// What kind of thing it is, as its server says.
    pub(crate) kind: String,
    /// How many bytes it has, if its server says so.
    pub(crate) length: Option<u64>,
    /// Where it is, after redirects.
    pub(crate) place: Option<String>,
    /// Nothing, if it is of a kind that is not read.
    pub(crate) body: Vec<u8>,
    /// Whether there was more.
    pub(crate) cut: bool,
}

/// Asks the host at `socket`.
///
/// # Errors
/// Why nothing came; [`ErrorKind::TimedOut`] if nothing did in time.
pub(crate) fn get(socket: &Path, key: &str, wanted: &Wanted<'_>) -> io::Result<Got> {
    let mut stream = host_socket::reach(socket)?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(LOOK))?;
    let left = wanted.deadline.saturating_duration_since(Instant::now());
    stream.set_write_timeout(Some(left.max(LOOK)))?;
    write!(
        stream,
        "GET {} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\r\n",
        wanted.path
    )?;
    let mut reader = BufReader::new(Patient { stream: &stream, wanted });
    let head = read_head(&mut reader)?;
    let (kind, mut bytes) = (head.kind.clone().unwrap_or_default(), Vec::new());
    let mut cut = false;
    if head.own || (wanted.reads)(&kind) {
        let ended = Body::new(reader, &head).take(wanted.most + 1).read_to_end(&mut bytes);
        if wanted.cancelled.load(Ordering::Relaxed) {
            return Err(ErrorKind::Interrupted.into());
        }
        // What came before it broke off is worth reading.
        cut = bytes.len() as u64 > wanted.most || ended.is_err();
        bytes.truncate(usize::try_from(wanted.most).unwrap_or(usize::MAX));
    }
    let (status, own, place, length) = (head.status, head.own, head.place, head.length);
    Ok(Got { status, own, kind, length, place, body: bytes, cut })
}

/// A stream that is waited for, until the time is over or the turn is.
struct Patient<'a> {
    stream: &'a UnixStream,
    wanted: &'a Wanted<'a>,
}

impl Read for Patient<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            // Also of a stream that never pauses.
            if self.wanted.cancelled.load(Ordering::Relaxed)
                || Instant::now() >= self.wanted.deadline
            {
                return Err(ErrorKind::TimedOut.into());
            }
            match self.stream.read(out) {
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                read => return read,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Asks a server that answers with `head` and then with `piece` again and again, until nobody listens.
    fn asked(head: &'static str, piece: &'static str, patience: Duration) -> io::Result<Got> {
        asked_if(head, piece, patience, &AtomicBool::new(false))
    }

    fn asked_if(
        head: &'static str,
        piece: &'static str,
        patience: Duration,
        cancelled: &AtomicBool,
    ) -> io::Result<Got> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut written = stream.write_all(head.as_bytes());
            while written.is_ok() && !piece.is_empty() {
                written = stream.write_all(piece.as_bytes());
                std::thread::sleep(Duration::from_millis(5));
            }
            // Until whoever asked has gone.
            drop(stream.read_to_end(&mut Vec::new()));
        });
        let wanted = Wanted {
            path: "/",
            most: 1 << 20,
            reads: |kind| kind.starts_with("text/"),
            deadline: Instant::now() + patience,
            cancelled,
        };
        let got = get(&path, "key", &wanted);
        server.join().unwrap();
        got
    }

    const SOON: Duration = Duration::from_millis(400);
    const NEVER: Duration = Duration::from_secs(3600);

    #[test]
    fn a_page_that_never_ends_is_read_for_as_long_as_it_may_take() {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nbegun";
        let got = asked(head, " and on", SOON).unwrap();
        let text = String::from_utf8(got.body).unwrap();
        assert!(got.cut && text.starts_with("begun and on"), "{text}");
        let got = asked(head, "", SOON).unwrap();
        assert_eq!((got.cut, &*got.body), (true, &b"begun"[..]), "what has come is worth reading");
    }

    #[test]
    fn a_host_that_never_has_an_answer_is_waited_for_as_long_as_may_be() {
        for (head, piece) in
            [("", ""), ("HTTP/1.1 200 OK\r\n", ""), ("HTTP/1.1 200 OK\r\n", "a:b\r\n")]
        {
            let error = asked(head, piece, SOON).err().unwrap();
            assert!(
                matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::InvalidData),
                "{error}"
            );
        }
    }

    #[test]
    fn of_what_is_no_text_nothing_is_read() {
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: image/png\r\nx-twobox-length: 5000000000\r\n\r\n";
        let got = asked(head, "x", NEVER).unwrap();
        assert_eq!((got.length, got.body.len(), got.cut), (Some(5_000_000_000), 0, false));
    }

    #[test]
    fn nobody_waits_for_a_page_when_the_turn_is_over() {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n";
        assert!(asked_if(head, "x", NEVER, &AtomicBool::new(true)).is_err());
    }
}
