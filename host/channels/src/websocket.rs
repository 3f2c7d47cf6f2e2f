//! A WebSocket, from the side of who connects: over `ws` or, with this machine's certificates, over `wss`.
//! Whole texts go out and come in, within bounds; pings are answered, and a line on which nothing comes, not
//! even a ping, is known for dead.
//!
//! An error never has the address in it, for some platforms put a ticket there.
//!
//! Not here: what is said over it, and when it is connected anew.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, Join, ReadHalf, Take, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_websockets::{
    ClientBuilder, CloseCode, Connector, Error, Limits, MaybeTlsStream, Message, WebSocketStream,
};
use twobox_shared::content::shorten;
use twobox_shared::errors::chain;
use twobox_shared::visible;
use twobox_system::blocking::blocking;
use url::Url;

/// The most bytes of the answer by which a server agrees.
const HEAD_MAX: u64 = 16 << 10;

/// How long a text or a ping may take to leave.
const SENDING: Duration = Duration::from_secs(10);

/// How long somebody is waited for who is told goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// The longest reason for an end that is repeated, in characters.
const REASON_MAX: usize = 200;

type Stream = MaybeTlsStream<TcpStream>;

/// A connection.
#[derive(Debug)]
pub struct WebSocket {
    stream: WebSocketStream<Join<Take<ReadHalf<Stream>>, WriteHalf<Stream>>>,
    /// When something last came.
    heard: Instant,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A text.
    Text(String),
    /// The other side has ended it, with a code if it gave one, and a reason for people, which may be empty.
    Closed {
        /// The code, such as 1000.
        code: Option<u16>,
        /// The reason, bounded.
        reason: String,
    },
}

/// Why there is no connection, or none any more. People read the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nobody is there, or the way there is closed.
    #[error("it cannot be reached: {0}")]
    NotReached(String),
    /// It was there, and nothing is known of it any more.
    #[error("the connection is lost: {0}")]
    Lost(String),
    /// What is there does not speak as it should.
    #[error("it does not answer as it should: {0}")]
    Strange(String),
}

impl WebSocket {
    /// Connects to `url` within `patience`. A message that comes has at most `most` bytes.
    ///
    /// # Errors
    /// [`Fault::NotReached`], or [`Fault::Strange`] if no WebSocket is there.
    pub async fn connect(url: &Url, patience: Duration, most: usize) -> Result<Self, Fault> {
        timeout(patience, Self::open(url, most)).await.unwrap_or_else(|_| {
            Err(Fault::NotReached(format!("nothing came within {} s", patience.as_secs())))
        })
    }

    async fn open(url: &Url, most: usize) -> Result<Self, Fault> {
        let wrong = || Fault::Strange("its address is none of a WebSocket".to_owned());
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(wrong());
        };
        let connector = match url.scheme() {
            "ws" => Connector::Plain,
            "wss" => blocking(Connector::new).await.map_err(|error| not_reached(&error))?,
            _ => return Err(wrong()),
        };
        // A name without brackets, which stand around a number of IPv6 in addresses alone.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tcp = TcpStream::connect((host, port)).await.map_err(Error::Io);
        let tcp = tcp.map_err(|error| not_reached(&error))?;
        tcp.set_nodelay(true).map_err(|error| not_reached(&error))?;
        let stream = connector.wrap(host, tcp).await.map_err(|error| not_reached(&error))?;
        let (reader, writer) = tokio::io::split(stream);
        let bounded = tokio::io::join(reader.take(HEAD_MAX), writer);
        let limits = Limits::default().max_payload_len(Some(most));
        let uri = url.as_str().parse().map_err(|_| wrong())?;
        let agreed = ClientBuilder::from_uri(uri).limits(limits).connect_on(bounded).await;
        let (mut stream, _) = agreed.map_err(|error| match error {
            Error::Io(error) => not_reached(&error),
            error => Fault::Strange(words(&error)),
        })?;
        stream.get_mut().reader_mut().set_limit(u64::MAX);
        Ok(Self { stream, heard: Instant::now() })
    }

    /// Sends a text. It has left this program then; nobody knows whether it arrived.
    ///
    /// # Errors
    /// [`Fault::Lost`]: the connection is of no use any more.
    pub async fn send(&mut self, text: impl Into<String>) -> Result<(), Fault> {
        let text: String = text.into();
        self.put(Message::text(text)).await
    }

    /// Asks the other side for a sign of life, which [`WebSocket::receive`] waits for.
    ///
    /// # Errors
    /// As [`WebSocket::send`].
    pub async fn ping(&mut self) -> Result<(), Fault> {
        self.put(Message::ping("")).await
    }

    async fn put(&mut self, message: Message) -> Result<(), Fault> {
        match timeout(SENDING, self.stream.send(message)).await {
            Ok(sent) => sent.map_err(|error| lost(&error)),
            Err(_) => Err(stuck()),
        }
    }

    /// Waits for what comes next, as long as there are signs of life: not even a ping for `silence` is none.
    /// Who does not wait until the end loses nothing by that.
    ///
    /// # Errors
    /// [`Fault`]: the connection is of no use any more.
    pub async fn receive(&mut self, silence: Duration) -> Result<Received, Fault> {
        loop {
            let left = silence.saturating_sub(self.heard.elapsed());
            let next = timeout(left, self.stream.next()).await;
            let message = match next {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(Error::Io(error)))) => return Err(lost(&error)),
                Ok(Some(Err(error))) => return Err(Fault::Strange(words(&error))),
                Ok(None) => return Err(Fault::Lost("it ended without a word".to_owned())),
                Err(_) => {
                    let seconds = silence.as_secs_f64();
                    return Err(Fault::Lost(format!("nothing came for {seconds} s")));
                }
            };
            self.heard = Instant::now();
            if let Some(text) = message.as_text() {
                return Ok(Received::Text(text.to_owned()));
            }
            if let Some((code, reason)) = message.as_close() {
                let code = (code != CloseCode::NO_STATUS_RECEIVED).then(|| code.into());
                let reason = shorten(&visible::line(reason), REASON_MAX);
                return Ok(Received::Closed { code, reason });
            }
            if message.is_ping() {
                // Who asks and asks, and does not read what is answered, has no answers kept for them.
                match timeout(SENDING, self.stream.flush()).await {
                    Ok(flushed) => flushed.map_err(|error| lost(&error))?,
                    Err(_) => return Err(stuck()),
                }
            }
        }
    }

    /// Says goodbye, if the other side listens.
    pub async fn close(mut self) {
        drop(timeout(GOODBYE, self.stream.close()).await); // it is over, whatever they say
    }
}

fn stuck() -> Fault {
    Fault::Lost(format!("nothing was taken for {} s", SENDING.as_secs()))
}

fn not_reached(error: &dyn std::error::Error) -> Fault {
    Fault::NotReached(words(error))
}

fn lost(error: &dyn std::error::Error) -> Fault {
    Fault::Lost(words(error))
}

/// What a library says, which may quote the other side, in one bounded line.
fn words(error: &dyn std::error::Error) -> String {
    shorten(&visible::line(&chain(error)), REASON_MAX)
}

#[cfg(test)]
#[path = "websocket_tests.rs"]
mod tests;
