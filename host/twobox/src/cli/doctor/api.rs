//! Whether programs can use the HTTP API: its token, its address, and whether the host answers there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use futures_util::future::FutureExt;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use twobox_shared::errors::chain;

use super::{Check, Finding, status_of};
use crate::api::holder;
use twobox_app::token::{Token, TokenError, is_exposed};
use twobox_system::data::DataDir;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much of an answer is read, in bytes.
const ANSWER_MAX: u64 = 64 * 1024;

/// What helps where nobody can listen.
const ELSEWHERE: &str =
    "set api.listen to another address, or to \"\" for no API, and restart the host";

/// What is to be looked at where `listen` is configured.
pub(super) fn checks(data: &DataDir, listen: Option<SocketAddr>) -> Vec<Check> {
    let host = {
        let data = data.clone();
        async move { answering(&data, listen).await }
    };
    let mut checks = Vec::new();
    if let Some(listen) = listen {
        let data = data.clone();
        checks.push(Check::now("API token", move || token(&data)));
        checks.push(Check::now("API address", move || address(listen)));
    }
    checks.push(Check { name: "HTTP API".into(), run: host.boxed() });
    let data = data.clone();
    checks
        .push(Check { name: "API socket".into(), run: async move { socket(&data).await }.boxed() });
    checks
}

/// Whether there is a token, and nobody else can have read it.
fn token(data: &DataDir) -> Finding {
    let path = data.api_token();
    let place = path.display();
    match (Token::read(&path), is_exposed(&path)) {
        (Ok(None), _) => Finding::warn(
            format!("{place} is missing, so nobody can learn the token"),
            "`twobox token renew` makes one",
        ),
        (Ok(Some(_)), Ok(false)) => Finding::ok(place.to_string()),
        (Ok(Some(_)), Ok(true)) => {
            let mode = std::fs::metadata(&path).map_or(0, |meta| meta.mode() & 0o777);
            Finding::warn(
                format!(
                    "{place} is open to other users (mode {mode:04o}): they may know the token"
                ),
                "`twobox token renew` makes another that only its user can read",
            )
        }
        (Err(error @ TokenError::Malformed { .. }), _) => Finding::fail(
            chain(&error),
            "`twobox token renew` puts one in its place: until then only the socket lets anybody in",
        ),
        (Err(error), _) => Finding::fail(chain(&error), "mend the permissions of the file"),
        (Ok(Some(_)), Err(error)) => {
            Finding::fail(format!("{place}: {error}"), "mend the permissions of the directory")
        }
    }
}

/// Who else reaches it.
fn address(listen: SocketAddr) -> Finding {
    match listen.ip().is_loopback() {
        true => Finding::ok(format!("{listen}, for this machine only")),
        false => Finding::warn(
            format!(
                "{listen} can be reached from other machines, and tokens go there in clear text: \
                 whoever listens in on the network can use the API"
            ),
            "set api.listen to 127.0.0.1:28642, and put a proxy that speaks TLS in front of it",
        ),
    }
}

/// Whether the host that runs here answers as configured, or could if it ran.
async fn answering(data: &DataDir, listen: Option<SocketAddr>) -> Finding {
    let at = match status_of(data).await {
        Ok(status) => status["api"].as_str().and_then(|address| address.parse().ok()),
        Err(_) => {
            return match (data.holder(), listen) {
                (_, None) => Finding::ok("none, as configured"),
                (Ok(None), Some(listen)) => free(listen, bind(listen)),
                _ => Finding::warn("not looked at: the host is silent", "see `daemon`"),
            };
        }
    };
    match (at, listen) {
        (None, None) => Finding::ok("none, as configured"),
        (None, Some(listen)) => absent(listen, bind(listen)),
        (Some(at), _) if !is_as_configured(at, listen) => Finding::warn(
            match listen {
                Some(listen) => format!("the host listens on {at}, and {listen} is configured"),
                None => format!("the host listens on {at}, and no API is configured"),
            },
            "restart the host if the configuration was changed since its start",
        ),
        (Some(at), _) => ask(at).await,
    }
}

/// Whether a host that listens on `at` may have been configured for `listen`. Port 0 is any.
fn is_as_configured(at: SocketAddr, listen: Option<SocketAddr>) -> bool {
    listen.is_some_and(|listen| listen == at || (listen.port() == 0 && listen.ip() == at.ip()))
}

/// Listens for a moment, as a host would.
fn bind(listen: SocketAddr) -> io::Result<()> {
    TcpListener::bind(listen).map(drop)
}

/// No host runs; `bound` says whether one could listen.
fn free(listen: SocketAddr, bound: io::Result<()>) -> Finding {
    match bound {
        Ok(()) => Finding::ok(format!("no host runs; {listen} is free for it")),
        Err(error) => {
            let reason = refusal(listen, &error);
            Finding::warn(format!("{reason}: a host could not listen there"), ELSEWHERE)
        }
    }
}

/// A host runs and does not listen; `bound` says whether one could by now.
fn absent(listen: SocketAddr, bound: io::Result<()>) -> Finding {
    match bound {
        Ok(()) => Finding::warn(
            format!("the host does not listen on {listen}, though it is free by now"),
            "restart the host; its log says why it could not listen when it started",
        ),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Finding::warn(
            format!(
                "{}: requests that were sent there showed it the token, and the host is not reached",
                refusal(listen, &error)
            ),
            format!("`twobox token renew` if one may have been sent, and {ELSEWHERE}"),
        ),
        Err(error) => {
            let reason = refusal(listen, &error);
            Finding::warn(format!("{reason}: the host does not listen there"), ELSEWHERE)
        }
    }
}

fn refusal(listen: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => match holder::of(listen) {
            Some(holder) => {
                let who = holder::described(Some(&holder), listen.port());
                format!("another program listens on {listen}, {who}")
            }
            None => format!("another program listens on {listen}"),
        },
        io::ErrorKind::AddrNotAvailable => format!("{} is no address of this machine", listen.ip()),
        io::ErrorKind::PermissionDenied => {
            format!("port {} is not for this user", listen.port())
        }
        _ => format!("nobody can listen on {listen} ({error})"),
    }
}

/// Asks the host that says that it listens on `at`. It is not given the token: who answers on a port
/// is never quite certain.
async fn ask(at: SocketAddr) -> Finding {
    let there = SocketAddr::new(reachable(at.ip()), at.port());
    let connected = TcpStream::connect(there);
    match answer(connected, "GET /healthz", &there.to_string()).await {
        Err(error) => Finding::fail(
            format!("the host listens on {at} and does not answer there: {error}"),
            "look at the host's log, and restart it",
        ),
        Ok((200, body)) if body == json!({ "status": "ok" }) => {
            Finding::ok(format!("the host answers on {at}"))
        }
        Ok(_) => Finding::fail(
            format!("what answers on {at} is not this host"),
            "find out what redirects that address, or set api.listen to another one; `twobox token \
             renew`, for what was sent there showed it the token",
        ),
    }
}

/// Whether the host that runs answers on the API's socket.
async fn socket(data: &DataDir) -> Finding {
    let place = data.api_socket().display().to_string();
    let served = match status_of(data).await {
        Ok(status) => !status["api_socket"].is_null(),
        Err(_) => {
            return match data.holder() {
                Ok(None) => Finding::ok("no host runs; the next one makes it"),
                _ => Finding::warn("not looked at: the host is silent", "see `daemon`"),
            };
        }
    };
    if !served {
        let help = "restart the host; its log says why it could not make the socket";
        return Finding::warn(format!("the host does not serve {place}"), help);
    }
    let connected = UnixStream::connect(data.api_socket());
    match answer(connected, "HEAD /api/openapi.json", "localhost").await {
        Ok((200, _)) => Finding::ok(format!("the host answers on {place}")),
        Ok((status, _)) => Finding::fail(
            format!("the host answers {status} on {place}"),
            "look at its log, and restart it",
        ),
        Err(error) => Finding::fail(
            format!("the host does not answer on {place}: {error}"),
            "look at its log, and restart it: the socket may have been removed or replaced",
        ),
    }
}

/// The status and the body, if it is JSON, of the answer to `request`.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    connected: impl Future<Output = io::Result<S>>,
    request: &str,
    host: &str,
) -> io::Result<(u16, Value)> {
    let head = format!("{request} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let conversation = async {
        let mut stream = connected.await?;
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let late =
        |_| io::Error::new(io::ErrorKind::TimedOut, format!("{} s passed", PATIENCE.as_secs()));
    let answer = tokio::time::timeout(PATIENCE, conversation).await.map_err(late)??;
    Ok(parse(&answer))
}

/// An address that leads to whoever listens on `ip`.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

/// The status and the body of an answer; 0 and `null` stand for what is none.
fn parse(answer: &[u8]) -> (u16, Value) {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    (status.unwrap_or(0), serde_json::from_str(body).unwrap_or(Value::Null))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_loopback_is_no_reason_to_warn() {
        for ok in ["127.0.0.1:8642", "127.3.3.3:1", "[::1]:8642"] {
            assert!(matches!(address(at(ok)), Finding::Ok { .. }), "{ok}");
        }
        for open in ["0.0.0.0:8642", "[::]:8642", "192.168.1.7:80"] {
            let Finding::Warn { detail, help } = address(at(open)) else { panic!("{open}") };
            assert!(detail.contains(open) && detail.contains("clear text"), "{detail}");
            assert!(help.contains("TLS"), "{help}");
        }
    }

    #[test]
    fn a_port_of_ones_own_choice_is_any_port() {
        let here = at("127.0.0.1:4000");
        assert!(is_as_configured(here, Some(here)));
        assert!(is_as_configured(here, Some(at("127.0.0.1:0"))));
        for other in [Some(at("127.0.0.1:4001")), Some(at("0.0.0.0:0")), None] {
            assert!(!is_as_configured(here, other), "{other:?}");
        }
    }

    #[test]
    fn what_is_no_answer_of_a_host_is_told_from_one() {
        let ok = b"HTTP/1.1 200 OK\r\nx: y\r\n\r\n{\"status\":\"ok\"}";
        assert_eq!(parse(ok), (200, json!({ "status": "ok" })));
        assert_eq!(parse(b"HTTP/1.1 401 Unauthorized\r\n\r\n"), (401, Value::Null));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n<html>"), (200, Value::Null));
        for other in [&b""[..], b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 ", &[0xff; 40]] {
            assert_eq!(parse(other), (0, Value::Null));
        }
    }

    #[test]
    fn each_reason_not_to_listen_has_words_of_its_own() {
        let here = at("192.0.2.1:80");
        for (kind, words) in [
            (io::ErrorKind::AddrInUse, "another program listens on 192.0.2.1:80"),
            (io::ErrorKind::AddrNotAvailable, "192.0.2.1 is no address of this machine"),
            (io::ErrorKind::PermissionDenied, "port 80 is not for this user"),
            (io::ErrorKind::Other, "nobody can listen on 192.0.2.1:80"),
        ] {
            assert!(refusal(here, &kind.into()).starts_with(words), "{kind}");
        }
    }

    #[tokio::test]
    async fn another_program_gets_no_token_whatever_it_answers() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::create(&dir.path().join("data")).unwrap();
        let token = Token::at(&data.api_token()).unwrap();
        for answer in ["HTTP/1.1 200 OK\r\n\r\n<html>", "HTTP/1.1 401 No\r\n\r\n", "SSH-2.0\r\n"] {
            let other = TcpListener::bind("127.0.0.1:0").unwrap();
            let at = other.local_addr().unwrap();
            let serving = std::thread::spawn(move || {
                let (mut stream, _) = other.accept().unwrap();
                let mut head = [0; 1024];
                let length = stream.read(&mut head).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8_lossy(&head[..length]).into_owned()
            });
            let Finding::Fail { detail, .. } = ask(at).await else { panic!("{answer}") };
            assert!(detail.contains("not this host"), "{answer}: {detail}");
            let asked = serving.join().unwrap();
            assert!(asked.starts_with("GET /healthz ") && !asked.contains(token.text()), "{asked}");
        }
    }
}
