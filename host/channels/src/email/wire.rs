//! A connection to a mail server: in the clear or by TLS, with a time limit for everything, and nothing longer
//! than it may be.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper_rustls::ConfigBuilderExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use twobox_shared::content::shorten;
use twobox_shared::errors::chain;
use twobox_shared::visible;
use twobox_system::blocking::blocking;

use super::settings::Server;

/// How long a connection may take to be made, and to become a secret one.
const CONNECT: Duration = Duration::from_secs(15);

/// How much is read at once.
const READ: usize = 64 << 10;

/// The longest word of a server that is repeated, in characters.
const WORDS_MAX: usize = 300;

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection.
pub(super) struct Wire {
    stream: Box<dyn Duplex>,
    /// What was read and not taken.
    buffer: BytesMut,
    /// Whether nobody on the way reads it.
    pub(super) is_secret: bool,
    /// Our own address, as others see it.
    pub(super) local: Option<std::net::IpAddr>,
    server: Server,
}

impl Wire {
    /// Connects, and begins TLS where the server speaks it at once.
    ///
    /// # Errors
    /// Why that is not possible, for people.
    pub(super) async fn open(server: &Server) -> Result<Self, String> {
        let connect = TcpStream::connect((server.host.as_str(), server.port));
        let stream =
            timeout(CONNECT, connect).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(|error| format!("{server} cannot be reached: {error}"))?;
        stream.set_nodelay(true).ok();
        let local = stream.local_addr().ok().map(|it| it.ip());
        let wire = Self {
            stream: Box::new(stream),
            buffer: BytesMut::new(),
            is_secret: false,
            local,
            server: server.clone(),
        };
        match server.implicit {
            true => wire.secure().await,
            false => Ok(wire),
        }
    }

    /// Begins TLS on it. What was said before is worth nothing: whoever is on the way may have said it.
    ///
    /// # Errors
    /// Why that is not possible, for people.
    pub(super) async fn secure(self) -> Result<Self, String> {
        let Self { stream, buffer, server, local, .. } = self;
        if !buffer.is_empty() {
            return Err(format!("{server} goes on in the clear after it has agreed to TLS"));
        }
        let name = ServerName::try_from(server.host.clone())
            .map_err(|_| format!("{server} has no name that a certificate can be for"))?;
        let tls = tls().await?;
        let shaken = timeout(CONNECT, tls.connect(name, stream)).await;
        let stream = shaken
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| format!("{server} cannot be spoken with by TLS: {}", chain(&error)))?;
        Ok(Self {
            stream: Box::new(stream),
            buffer: BytesMut::new(),
            is_secret: true,
            local,
            server,
        })
    }

    /// What was read and not taken yet.
    pub(super) fn read(&self) -> &[u8] {
        &self.buffer
    }

    /// Takes so much of it.
    pub(super) fn take(&mut self, length: usize) -> Bytes {
        self.buffer.split_to(length).freeze()
    }

    /// Reads more. Whoever stops waiting loses nothing.
    ///
    /// # Errors
    /// That the connection has ended.
    pub(super) async fn fill(&mut self) -> Result<(), String> {
        self.buffer.reserve(READ);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(format!("{} has closed the connection", self.server)),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("the connection to {} broke: {error}", self.server)),
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// That the connection has ended: what of it has arrived is not known.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        written.await.map_err(|error| format!("the connection to {} broke: {error}", self.server))
    }

    /// Ends it as TLS wants it.
    pub(super) async fn close(&mut self) {
        drop(timeout(Duration::from_secs(1), self.stream.shutdown()).await);
    }
}

/// Who is known by this machine's certificates. Reading them blocks.
async fn tls() -> Result<TlsConnector, String> {
    let config = blocking(|| {
        let roots = ClientConfig::builder().with_native_roots()?;
        Ok::<_, io::Error>(roots.with_no_client_auth())
    });
    let config = config.await.map_err(|error| {
        format!(
            "this machine has no certificates of authorities: install ca-certificates, or set \
             SSL_CERT_FILE ({error})"
        )
    })?;
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What a server said, in one bounded line that steers nothing.
pub(super) fn words(text: &str) -> String {
    shorten(&visible::line(text.trim()), WORDS_MAX)
}

/// `future`, or that `server` did not do `what` in time.
///
/// # Errors
/// That, or the future's own.
pub(super) async fn within<T>(
    limit: Duration,
    server: &Server,
    future: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    timeout(limit, future)
        .await
        .unwrap_or_else(|_| Err(format!("{server} did not answer within {} s", limit.as_secs())))
}
