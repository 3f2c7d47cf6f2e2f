//! The other end of the daemon's socket.

use std::io;
use std::path::Path;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::output::Failure;
use twobox_channels::socket::{Event, Line, LineReader, Request};

/// A connection to the daemon.
#[derive(Debug)]
pub(super) struct Client {
    lines: LineReader<OwnedReadHalf>,
    output: OwnedWriteHalf,
}

impl Client {
    pub(super) async fn connect(socket: &Path) -> io::Result<Self> {
        let (input, output) = UnixStream::connect(socket).await?.into_split();
        Ok(Self { lines: LineReader::new(input), output })
    }

    /// As [`Client::connect`]; without a daemon, says how to start one.
    pub(super) async fn reach(socket: &Path) -> Result<Self, Failure> {
        Self::connect(socket).await.map_err(|error| {
            Failure::new(format!(
                "no host answers at {} ({error}): start it with `twobox up`",
                socket.display()
            ))
        })
    }

    /// Writes a request. Dropped in the middle, it leaves half a line: not for a `select!`.
    pub(super) async fn ask(&mut self, request: &Request) -> io::Result<()> {
        self.output.write_all(request.to_line().as_bytes()).await
    }

    /// The next event; `None` when the host is gone. May be dropped and called again.
    pub(super) async fn next(&mut self) -> io::Result<Option<Event>> {
        let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        match self.lines.next().await? {
            None => Ok(None),
            Some(Line::TooLong) => Err(invalid("the host sent a line that is too long".into())),
            Some(Line::Text(line)) => serde_json::from_slice(&line)
                .map(Some)
                .map_err(|error| invalid(format!("the host sent something else: {error}"))),
        }
    }

    /// Asks and takes the answer.
    pub(super) async fn answer(&mut self, request: &Request) -> Result<Event, Failure> {
        self.ask(request).await?;
        match self.next().await? {
            Some(Event::Error { reason }) => Err(Failure::new(reason)),
            Some(event) => Ok(event),
            None => Err(Failure::new("the host went away before it answered: try again")),
        }
    }
}
