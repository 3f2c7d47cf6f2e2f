//! The socket of one session, in the half of its folder that the host owns.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};
use twobox_system::lock::lock;

use crate::caller::Caller;
use crate::egress::{self, Tunnel};
use crate::proxy::Proxy;
use crate::reader::Watched;
use crate::tap::PATIENCE;

/// How many connections a session may have. Those beyond wait to be accepted, which is its own affair.
const CONNECTIONS_MAX: usize = 32;

/// How long the head of a request may take, and how long a connection may do nothing.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// The longest head, in bytes.
const HEAD_MAX: usize = 64 << 10;

/// How long nobody is accepted after the system refused a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket that is served until this is dropped.
#[derive(Debug)]
pub struct Door(JoinHandle<()>);

impl Door {
    /// Serves `caller` at `path`, in place of what is there. The caller of this runs inside tokio.
    ///
    /// # Errors
    /// The system's reason.
    pub fn open(proxy: Arc<Proxy>, caller: Caller, path: &Path) -> io::Result<Self> {
        let listener = listen(path)?;
        Ok(Self(tokio::spawn(serve(proxy, Arc::new(caller), listener))))
    }
}

impl Drop for Door {
    /// Ends what is under way there. The socket stays where it is, and refuses: another door may stand there
    /// already.
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes a socket that everybody can connect to who can reach it: nobody but the container's user and the
/// host's can search the folders above it, and none of them has the key but the container's.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let none = || io::Error::from(io::ErrorKind::InvalidInput);
    let (folder, name) = (path.parent().ok_or_else(none)?, path.file_name().ok_or_else(none)?);
    // A session's path may be longer than a socket's address.
    let folder: OwnedFd = std::fs::File::open(folder)?.into();
    let near = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    let mut fresh = name.to_owned();
    fresh.push(".new");
    let fresh = near.join(fresh);
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o666))?;
    std::fs::rename(&fresh, near.join(name))?;
    Ok(listener)
}

async fn serve(proxy: Arc<Proxy>, caller: Arc<Caller>, listener: UnixListener) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(Arc::clone(&proxy), Arc::clone(&caller), stream));
                }
                Err(error) => {
                    tracing::debug!(session = %caller.session, %error, "no connection was accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(proxy: Arc<Proxy>, caller: Arc<Caller>, stream: UnixStream) {
    // Here and not in a task of its own: a tunnel counts as its connection, and ends with the door.
    let tunnel = Arc::<Mutex<Option<(OnUpgrade, Tunnel)>>>::default();
    let answer = service_fn(|mut request: Request<Incoming>| {
        let (proxy, caller, tunnel) =
            (Arc::clone(&proxy), Arc::clone(&caller), Arc::clone(&tunnel));
        async move {
            let answer = match *request.method() == Method::CONNECT {
                false => proxy.serve(&caller, request).await,
                true => {
                    let upgrade = hyper::upgrade::on(&mut request);
                    match proxy.open_tunnel(&caller, &request).await {
                        Ok(opened) => {
                            *lock(&tunnel) = Some((upgrade, opened));
                            egress::opened()
                        }
                        Err(refused) => refused,
                    }
                }
            };
            Ok::<_, Infallible>(answer)
        }
    });
    let stream = Watched::new(stream, PATIENCE.reader);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::trace!(session = %caller.session, %error, "a connection of an agent broke");
    }
    let opened = lock(&tunnel).take();
    if let Some((upgrade, opened)) = opened
        && let Ok(client) = upgrade.await
    {
        opened.carry(client, &caller).await;
    }
}
