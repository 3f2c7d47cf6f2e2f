//! A look at the container engine without its client library: one request, one status code.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an engine may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the engine's socket is: as configured, as `DOCKER_HOST` says, or in the usual place.
///
/// # Errors
/// A `DOCKER_HOST` that is no unix socket.
pub(super) fn socket(configured: &str, env: &BTreeMap<String, String>) -> Result<PathBuf, String> {
    let given = match env.get("DOCKER_HOST") {
        _ if !configured.is_empty() => configured,
        Some(host) if !host.is_empty() => host,
        _ => "/var/run/docker.sock",
    };
    match given.split_once("://") {
        None => Ok(PathBuf::from(given)),
        Some(("unix", path)) => Ok(PathBuf::from(path)),
        Some(_) => Err(format!("{given} is not a unix socket: set containers.socket")),
    }
}

/// Whether an engine answers at `socket`.
pub(super) fn ping(socket: &Path) -> io::Result<()> {
    match get(socket, "/_ping")? {
        200 => Ok(()),
        status => Err(io::Error::other(format!("it answered with status {status}"))),
    }
}

/// Whether the engine at `socket` has `image`.
pub(super) fn has_image(socket: &Path, image: &str) -> io::Result<bool> {
    match get(socket, &format!("/images/{image}/json"))? {
        200 => Ok(true),
        404 => Ok(false),
        status => Err(io::Error::other(format!("it answered with status {status}"))),
    }
}

/// The status code of a GET.
fn get(socket: &Path, path: &str) -> io::Result<u16> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n")?;
    // "HTTP/1.x nnn": what follows does not matter.
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    std::str::from_utf8(&head[9..])
        .ok()
        .filter(|_| head.starts_with(b"HTTP/1."))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| io::Error::other("it does not speak HTTP"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn an_engine_is_what_answers_to_ping() {
        let dir = tempfile::tempdir().unwrap();
        let cases: [(&[u8], bool); 3] = [
            (b"HTTP/1.0 200 OK\r\n\r\nOK", true),
            (b"HTTP/1.1 500 Oh\r\n\r\n", false),
            (b"220 mail.example ESMTP\r\n", false),
        ];
        for (number, (answer, expected)) in cases.into_iter().enumerate() {
            let path = dir.path().join(number.to_string());
            let listener = UnixListener::bind(&path).unwrap();
            let engine = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 256];
                let length = stream.read(&mut request).unwrap();
                assert!(request[..length].starts_with(b"GET /_ping HTTP/1.0\r\n"));
                stream.write_all(answer).unwrap();
            });
            assert_eq!(ping(&path).is_ok(), expected, "{answer:?}");
            engine.join().unwrap();
        }
        assert!(ping(&dir.path().join("absent")).is_err());
    }

    #[test]
    fn the_configured_socket_goes_over_the_environment() {
        let env = BTreeMap::from([("DOCKER_HOST".to_owned(), "unix:///run/e.sock".to_owned())]);
        assert_eq!(socket("/x.sock", &env).unwrap(), Path::new("/x.sock"));
        assert_eq!(socket("", &env).unwrap(), Path::new("/run/e.sock"));
        assert_eq!(socket("", &BTreeMap::new()).unwrap(), Path::new("/var/run/docker.sock"));
        assert!(socket("tcp://x:1", &env).is_err());
    }
}
