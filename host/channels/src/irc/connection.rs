//! A connection to a server: opened, with TLS unless that is off, and then lines in and lines out. Everything is bounded:
//! how long a line is, and how long anything takes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::ConfigBuilderExt;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
};
use twobox_system::blocking::blocking;

use super::settings::{Settings, Tls};
use super::wire::Message;

/// How long it may take until lines go both ways.
const BEGIN: Duration = Duration::from_secs(30);

/// How long a line may take to leave.
const WRITE: Duration = Duration::from_secs(30);

/// The most bytes of a line that comes in: 8191 of tags, and 512 of the rest.
const LINE_MAX: usize = 8191 + 512;

/// Both directions of a connection.
pub(super) struct Connection {
    pub(super) lines: Lines,
    pub(super) writer: Writer,
}

impl Connection {
    /// Opens one to the server that is set.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub(super) async fn open(settings: &Settings) -> Result<Self, String> {
        let place = settings.place();
        let opened = timeout(BEGIN, open(settings)).await;
        match opened {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(why)) => Err(format!("{place} cannot be reached: {why}")),
            Err(_) => Err(format!("{place} does not answer")),
        }
    }
}

async fn open(settings: &Settings) -> Result<Connection, String> {
    let stream = TcpStream::connect((settings.host.as_str(), settings.port)).await;
    let stream = stream.map_err(|error| error.to_string())?;
    // Each line is its own packet, and waits for none.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let config = match &settings.tls {
        Tls::Off => return Ok(Connection::of(stream)),
        Tls::Authorities => {
            let made = blocking(|| {
                let roots = ClientConfig::builder().with_native_roots()?;
                Ok::<_, io::Error>(roots.with_no_client_auth())
            });
            let why = |error| format!("this machine has no certificates of authorities: {error}");
            made.await.map_err(why)?
        }
        Tls::Pinned(fingerprint) => ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pin::new(*fingerprint)))
            .with_no_client_auth(),
    };
    let name = ServerName::try_from(settings.host.clone()).map_err(|error| error.to_string())?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.map(Connection::of).map_err(|error| match settings.tls {
        Tls::Pinned(_) => format!("{error}; is its certificate another than `fingerprint` says?"),
        Tls::Off | Tls::Authorities => format!(
            "{error}; where the server's certificate is one that it has made itself, set `fingerprint`"
        ),
    })
}

impl Connection {
    /// Lines over `stream`.
    pub(super) fn of(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (read, write) = tokio::io::split(stream);
        let read: Box<dyn AsyncRead + Send + Unpin> = Box::new(read);
        let lines = Lines { inner: BufReader::with_capacity(16 << 10, read), line: Vec::new() };
        Self { lines, writer: Writer(Box::new(write)) }
    }
}

/// Lines as they come.
pub(super) struct Lines {
    inner: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    /// What has come of the next one.
    line: Vec<u8>,
}

impl Lines {
    /// The next line; `None` when the server has closed the connection. May be dropped and called again: what has come
    /// of a line is kept.
    ///
    /// # Errors
    /// The system's reason, or that a line has no end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Message>> {
        loop {
            let come = match self.inner.fill_buf().await {
                Ok(come) => come,
                // Many servers close TLS without a word of it. Whoever has cut the connection can do no more by
                // that: a line counts with its end.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            };
            if come.is_empty() {
                return Ok(None);
            }
            let end = come.iter().position(|it| *it == b'\n');
            let taken = end.map_or(come.len(), |end| end + 1);
            self.line.extend_from_slice(&come[..taken]);
            self.inner.consume(taken);
            if self.line.len() > LINE_MAX {
                return Err(io::Error::other("the server says a line that has no end"));
            }
            if end.is_some() {
                let message = Message::read(&self.line);
                self.line.clear();
                if let Some(message) = message {
                    return Ok(Some(message));
                }
            }
        }
    }
}

/// The way out.
pub(super) struct Writer(Box<dyn AsyncWrite + Send + Unpin>);

impl Writer {
    /// Says a line.
    ///
    /// # Errors
    /// The system's reason. Nobody knows how much of the line has left.
    pub(super) async fn say(&mut self, line: &str) -> io::Result<()> {
        let line = format!("{line}\r\n");
        let said = async {
            self.0.write_all(line.as_bytes()).await?;
            self.0.flush().await
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "it takes no lines any more");
        timeout(WRITE, said).await.map_err(late)?
    }
}

/// Knows a server by its certificate, whoever has signed it.
#[derive(Debug)]
struct Pin {
    fingerprint: [u8; 32],
    crypto: CryptoProvider,
}

impl Pin {
    fn new(fingerprint: [u8; 32]) -> Self {
        Self { fingerprint, crypto: ring::default_provider() }
    }
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        match Sha256::digest(certificate.as_ref()).as_slice() == self.fingerprint {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.crypto.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.crypto.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto.signature_verification_algorithms.supported_schemes()
    }
}
