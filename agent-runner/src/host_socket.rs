//! Reaching a unix socket of the host without waiting for it.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

/// Connects at once or not at all: a host whose queue is full does not listen now. The stream is
/// non-blocking.
pub(crate) fn reach(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match UnixAddr::new(path) {
        // Where nothing is mounted, the path of a session can be longer than an address.
        Err(Errno::ENAMETOOLONG) => connect_near(&socket, path)?,
        address => connect(socket.as_raw_fd(), &address?)?,
    }
    Ok(UnixStream::from(socket))
}

/// Connects by way of the folder in which the socket is.
fn connect_near(socket: &OwnedFd, path: &Path) -> io::Result<()> {
    let none = || io::Error::from(ErrorKind::InvalidInput);
    let (folder, name) = (path.parent().ok_or_else(none)?, path.file_name().ok_or_else(none)?);
    let folder = File::open(folder)?;
    let near = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok(connect(socket.as_raw_fd(), &UnixAddr::new(&near)?)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_is_reached_however_long_its_path_is() {
        let dir = tempfile::tempdir().unwrap();
        for length in [1, 60, 150] {
            let folder = dir.path().join("x".repeat(length));
            std::fs::create_dir(&folder).unwrap();
            let short = dir.path().join(length.to_string());
            let _listener = UnixListener::bind(&short).unwrap();
            let path = folder.join("gateway.sock");
            std::fs::rename(short, &path).unwrap();
            let reached = reach(&path);
            assert!(reached.is_ok(), "{length}: {reached:?}");
        }
    }
}
