//! What a container reaches of the network through its session's socket, and what it does not.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use twobox_gateway::Resolver;

use super::gateway::{Gateway, MESSAGES, Raw};
use super::upstream::{Upstream, plain};

/// A server that says back what it hears, and good bye when the other side has ended.
struct Echo {
    address: SocketAddr,
    came: Arc<AtomicUsize>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let came = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&came);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await?;
                    write.write_all(b"bye").await
                });
            }
        });
        Self { address, came }
    }

    fn came(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }
}

/// Names that stand for what the test says, looked up and counted.
fn names(
    of: impl Fn(&str, usize) -> Vec<IpAddr> + Send + Sync + 'static,
) -> (Resolver, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let kept = Arc::clone(&asked);
    let resolver = move |name: &str| {
        let mut asked = kept.lock().unwrap();
        asked.push(name.to_owned());
        match of(name, asked.len()) {
            none if none.is_empty() => Err(io::ErrorKind::NotFound.into()),
            found => Ok(found),
        }
    };
    (Arc::new(resolver), asked)
}

fn loopback(_: &str, _: usize) -> Vec<IpAddr> {
    vec!["127.0.0.1".parse().unwrap()]
}

impl Gateway {
    fn connect_to(&self, target: &str) -> String {
        let key = &self.key;
        format!(
            "CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nproxy-authorization: Bearer {key}\r\n\r\n"
        )
    }

    /// A tunnel to `target`.
    async fn tunnel(&self, target: &str) -> Raw {
        let mut client = self.connect().await;
        client.ask(&self.connect_to(target)).await;
        let head = client.read_until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
        client
    }
}

#[tokio::test]
async fn a_tunnel_carries_what_both_sides_say_until_both_have_ended() {
    let (upstream, echo) = (Upstream::start().await, Echo::start().await);
    let target = echo.address.to_string();
    let (resolver, asked) = names(loopback);
    let gateway = Gateway::reaching(
        &upstream,
        &[&target, &format!("a.org:{}", echo.address.port())],
        resolver,
    )
    .await;

    let mut client = gateway.tunnel(&target).await;
    let long = vec![7; 1 << 20];
    let (mut read, mut write) = client.stream().split();
    let mut heard = vec![0; long.len()];
    tokio::try_join!(write.write_all(&long), read.read_exact(&mut heard)).unwrap();
    assert!(heard == long, "what was said came back");
    write.shutdown().await.unwrap();
    let mut rest = String::new();
    read.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "bye", "a side that has ended still hears");
    assert!(asked.lock().unwrap().is_empty(), "an address is no name");

    // A name leads there too, for the address stands on the list as well; as an older client asks, with words
    // that it sends at once.
    let given = base64::Engine::encode(
        &base64::prelude::BASE64_STANDARD,
        format!("session:{}", gateway.key),
    );
    let mut client = gateway.connect().await;
    let port = echo.address.port();
    client
        .ask(&format!(
            "CONNECT A.org:{port} HTTP/1.0\r\nProxy-Authorization: Basic {given}\r\n\r\nhello"
        ))
        .await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.0 200"), "{head}");
    client.read_until("hello").await;
    assert_eq!(*asked.lock().unwrap(), ["a.org"]);
}

#[tokio::test]
async fn what_the_list_does_not_name_or_leads_inside_is_not_reached() {
    let (upstream, echo) = (Upstream::start().await, Echo::start().await);
    let port = echo.address.port();
    let (resolver, asked) = names(|name, _| match name {
        "inside.org" => vec!["::ffff:127.0.0.1".parse().unwrap(), "10.0.0.1".parse().unwrap()],
        "translated.org" => vec!["64:ff9b::7f00:1".parse().unwrap()],
        "metadata.org" => vec!["169.254.169.254".parse().unwrap()],
        "nowhere.org" => vec![],
        _ => loopback(name, 0),
    });
    let rules = [format!("*:{port}"), "listed.org".to_owned(), format!("[::1]:{port}")];
    let rules: Vec<_> = rules.iter().map(String::as_str).collect();
    let gateway = Gateway::reaching(&upstream, &rules, resolver).await;
    let other = gateway.another("other").await;
    let cases = [
        (format!("localhost:{port}"), "403", "leads to the machine itself"),
        (format!("host.docker.internal:{port}"), "403", "leads to the machine itself"),
        (format!("inside.org:{port}"), "403", "leads to a private address"),
        (format!("translated.org:{port}"), "403", "leads to the machine itself"),
        (format!("metadata.org:{port}"), "403", "leads to a link-local address"),
        (format!("nowhere.org:{port}"), "502", "cannot be resolved"),
        (format!("127.0.0.1:{port}"), "403", "does not name it"),
        (format!("[::ffff:127.0.0.1]:{port}"), "403", "does not name it"),
        (format!("127.1:{port}"), "400", "ends in a number"),
        (format!("2130706433:{port}"), "400", "ends in a number"),
        ("listed.org:22".to_owned(), "403", "does not name it"),
        ("other.org:443".to_owned(), "403", "does not name it"),
        (format!("user@listed.org:{port}"), "400", ""),
        ("listed.org".to_owned(), "400", ""),
        ("/etc/passwd".to_owned(), "400", ""),
        (format!("http://127.0.0.1:{port}/"), "400", ""),
    ];
    for (target, status, words) in cases {
        let answer = gateway.answer(&gateway.connect_to(&target)).await;
        let first = answer.lines().next().unwrap_or_default();
        assert!(first.starts_with(&format!("HTTP/1.1 {status}")), "{target}: {answer}");
        assert!(first.contains(words), "{target}: {first}");
        assert!(!answer.contains("169.254") && !answer.contains("10.0.0.1"), "{target}: {answer}");
    }
    let keys = [
        (String::new(), "no key"),
        ("proxy-authorization: Bearer 0\r\n".to_owned(), "a wrong one"),
        (format!("proxy-authorization: Bearer {}\r\n", other.key), "another session's"),
        (format!("authorization: Bearer {}\r\n", gateway.key), "where upstreams want it"),
    ];
    for (header, case) in keys {
        let request = format!("CONNECT listed.org:443 HTTP/1.1\r\nhost: x\r\n{header}\r\n");
        let answer = gateway.answer(&request).await;
        assert!(answer.starts_with("HTTP/1.1 407"), "{case}: {answer}");
        assert!(answer.contains("proxy-authenticate: Basic"), "{case}: {answer}");
    }
    let long = format!(
        "{}x: {}\r\n\r\n",
        gateway.connect_to("listed.org:443").trim_end(),
        "y".repeat(1 << 20)
    );
    let answer = gateway.answer(&long).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let plain = gateway.request_to("GET", "http://listed.org/", "", "");
    let answer = gateway.answer(&plain).await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("in clear text"), "{answer}");
    assert_eq!(echo.came(), 0, "nobody came");
    let asked = asked.lock().unwrap();
    assert!(!asked.iter().any(|name| name == "other.org" || name == "listed.org"), "{asked:?}");
}

#[tokio::test]
async fn a_name_is_resolved_once_and_just_what_was_judged_is_connected_to() {
    let (upstream, echo) = (Upstream::start().await, Echo::start().await);
    let (port, address) = (echo.address.port(), echo.address.to_string());
    // First what the list has, and ever after somebody else's service.
    let (resolver, asked) = names(|_, times| match times {
        1 => vec!["127.0.0.1".parse().unwrap()],
        _ => vec!["127.0.0.2".parse().unwrap()],
    });
    let gateway =
        Gateway::reaching(&upstream, &[&format!("a.org:{port}"), &address], resolver).await;
    let mut client = gateway.tunnel(&format!("a.org:{port}")).await;
    client.ask("here").await;
    client.read_until("here").await;
    assert_eq!(asked.lock().unwrap().len(), 1);
    let again = gateway.answer(&gateway.connect_to(&format!("a.org:{port}"))).await;
    assert!(again.starts_with("HTTP/1.1 403"), "{again}");
}

#[tokio::test]
async fn what_a_person_takes_back_is_not_reached_and_a_door_that_closes_ends_its_tunnels() {
    let (upstream, echo) = (Upstream::start().await, Echo::start().await);
    let target = echo.address.to_string();
    let (resolver, _) = names(loopback);
    let gateway = Gateway::reaching(&upstream, &[&target], resolver).await;
    let mut open = gateway.tunnel(&target).await;
    gateway.let_reach(&[]);
    let answer = gateway.answer(&gateway.connect_to(&target)).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    drop(gateway.door);
    assert_eq!(open.read_to_end().await, "", "it has ended");
}

#[tokio::test]
async fn a_thousand_tunnels_keep_neither_the_model_of_a_session_waiting_nor_another_session() {
    let (upstream, echo) = (Upstream::start().await, Echo::start().await);
    let target = echo.address.to_string();
    let (resolver, _) = names(loopback);
    let gateway = Gateway::reaching(&upstream, &[&target], resolver).await;
    let mut held = Vec::new();
    let mut refused = 0;
    while refused == 0 {
        let mut one = gateway.connect().await;
        one.ask(&gateway.connect_to(&target)).await;
        match one.read_until("\r\n\r\n").await {
            head if head.starts_with("HTTP/1.1 200") => held.push(one),
            head => {
                assert!(head.starts_with("HTTP/1.1 429"), "{head}");
                refused += 1;
            }
        }
        assert!(held.len() < 1000, "nothing bounds them");
    }
    assert_eq!(echo.came(), held.len());
    upstream.answers([plain("200 OK", "", "{}"), plain("200 OK", "", "{}")]);
    let answer = gateway.answer(&gateway.request(MESSAGES, "")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "its own model: {answer}");
    // Those that ask for no more than a tunnel that never opens, as many as the kernel lets in.
    for _ in held.len()..1000 {
        match tokio::time::timeout(std::time::Duration::from_millis(20), gateway.try_connect())
            .await
        {
            Ok(Ok(mut one)) => {
                one.ask("CONNECT a").await;
                held.push(one);
            }
            Ok(Err(_)) | Err(_) => break,
        }
    }
    let other = gateway.another("other").await;
    let answer = other.answer(&other.request(MESSAGES, "")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// What the session gets that asks for the page at `url`.
async fn page(gateway: &Gateway, url: &str) -> String {
    let url = url.replace(':', "%3A").replace('/', "%2F");
    gateway.answer(&gateway.request_to("GET", &format!("/fetch?url={url}"), "", "")).await
}

#[tokio::test]
async fn a_page_is_fetched_with_nothing_of_the_session_and_nothing_of_its_server() {
    let upstream = Upstream::start().await;
    let (resolver, _) = names(loopback);
    let address = upstream.address.to_string();
    let gateway = Gateway::reaching(&upstream, &[&address], resolver).await;
    upstream.answers([plain(
        "404 Gone",
        "set-cookie: a=b\r\nx-twobox-refusal: budget\r\n",
        "a page",
    )]);
    let answer = page(&gateway, &format!("http://{address}/a?b")).await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.ends_with("a page"), "{answer}");
    assert!(answer.contains(&format!("x-twobox-url: http://{address}/a?b")), "{answer}");
    assert!(!answer.contains("set-cookie") && !answer.contains("x-twobox-refusal"), "{answer}");
    let asked = upstream.asked().pop().unwrap();
    assert!(asked.head.starts_with("GET /a?b HTTP/1.1\r\n"), "{}", asked.head);
    assert!(asked.head.contains(&format!("host: {address}\r\n")), "{}", asked.head);
    for kept in [&*gateway.key, "authorization", "cookie"] {
        assert!(!asked.head.contains(kept), "{}", asked.head);
    }
    upstream.answers([plain("200 OK", "content-encoding: gzip\r\n", "x")]);
    let answer = page(&gateway, &format!("http://{address}/")).await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("compressed"), "{answer}");
    let without = format!("GET /fetch?url=http%3A%2F%2F{address}%2F HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(gateway.answer(&without).await.starts_with("HTTP/1.1 401"));
    assert_eq!(upstream.asked().len(), 2);
}

#[tokio::test]
async fn a_redirect_leads_nowhere_that_the_list_does_not_name() {
    let (upstream, echo) = (Upstream::start().await, Echo::start().await);
    let (resolver, _) = names(loopback);
    let address = upstream.address.to_string();
    let named = format!("inside.org:{}", echo.address.port());
    let gateway = Gateway::reaching(&upstream, &[&address, &named], resolver).await;
    let from = format!("http://{address}/");
    let leading = |to: &str| plain("302 Found", &format!("location: {to}\r\n"), "");
    let cases = [
        (format!("http://{}/", echo.address), "403", "does not name it"),
        (format!("http://{named}/"), "403", "leads to the machine itself"),
        ("http://2130706433/".to_owned(), "403", "does not name it"),
        ("file:///etc/passwd".to_owned(), "400", "nothing but https"),
        ("/next".to_owned(), "502", "more than 5 redirects"),
    ];
    for (to, status, words) in cases {
        upstream.answers(std::iter::repeat_n(leading(&to), if to == "/next" { 6 } else { 1 }));
        let answer = page(&gateway, &from).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{to}: {answer}");
        assert!(answer.contains(words) && answer.contains("x-twobox-refusal"), "{to}: {answer}");
    }
    upstream.answers([leading("/next"), plain("200 OK", "", "here")]);
    let answer = page(&gateway, &from).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"), "{answer}");
    assert!(answer.contains(&format!("x-twobox-url: http://{address}/next")), "{answer}");
    assert_eq!(echo.came(), 0);
}
