//! Servers of MCP that the host asks for a container, and what neither learns of the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use twobox_gateway::{Secret, Secrets};
use twobox_shared::agent_config::Remote;

use super::gateway::Gateway;
use super::upstream::{Step, Upstream, end, piece, plain, stream};

const ASKED: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
const TOKEN: &str = "s3cret/token-of-the-hub";

impl Gateway {
    /// From now on its agent has the server `name` at `url`, with these headers.
    fn let_ask(&self, name: &str, url: &str, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let remote = Remote::of(url.to_owned(), headers.collect(), false).unwrap();
        self.allowed.lock().unwrap().servers = Arc::new([(name.to_owned(), remote)].into());
    }

    fn secrets(&self) -> Secrets {
        Secrets::new(self.socket.parent().unwrap().with_file_name("secrets"), &BTreeMap::new())
    }

    fn post(&self, name: &str, headers: &str) -> String {
        // Closed behind its answer, which need not say how long it is.
        let headers = format!("connection: close\r\n{headers}");
        self.request_to("POST", &format!("/mcp?server={name}"), ASKED, &headers)
    }
}

/// A server, and a gateway whose agent has it under the name `hub`, with the secret `hub`.
async fn hub() -> (Upstream, Gateway) {
    let server = Upstream::start().await;
    let gateway = Gateway::start(&server).await;
    let url = format!("http://{}/a/mcp?of=b", server.address);
    gateway.let_ask("hub", &url, &[("Authorization", "Bearer ${secret:hub}"), ("X-Region", "eu")]);
    gateway.secrets().set("hub", &Secret::of(TOKEN.into()).unwrap()).unwrap();
    (server, gateway)
}

#[tokio::test]
async fn a_server_is_asked_where_the_definition_says_with_what_it_says() {
    let (server, gateway) = hub().await;
    let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#;
    server.answers([plain("200 OK", "mcp-session-id: s-1\r\nset-cookie: a=b\r\n", answer)]);
    let said = gateway
        .answer(&gateway.post("hub", "mcp-session-id: s-0\r\naccept: text/event-stream\r\n"))
        .await;
    assert!(said.starts_with("HTTP/1.1 200") && said.contains(answer), "{said}");
    assert!(said.contains("mcp-session-id: s-1\r\n") && !said.contains("cookie"), "{said}");
    let asked = &server.asked()[0];
    assert!(asked.head.starts_with("POST /a/mcp?of=b HTTP/1.1\r\n"), "{}", asked.head);
    for line in [
        format!("authorization: Bearer {TOKEN}\r\n"),
        format!("host: {}\r\n", server.address),
        "x-region: eu\r\n".to_owned(),
        "mcp-session-id: s-0\r\n".to_owned(),
        "accept: text/event-stream\r\n".to_owned(),
    ] {
        assert!(asked.head.contains(&line), "{line}: {}", asked.head);
    }
    assert!(!asked.head.contains(&gateway.key) && !asked.head.contains("cookie"), "{}", asked.head);
    assert_eq!(asked.body, ASKED.as_bytes());
    assert_eq!(gateway.usage().await.len(), 0, "nothing is bought");
}

#[tokio::test]
async fn what_is_not_a_plain_request_for_an_own_server_reaches_nobody() {
    let (server, gateway) = hub().await;
    let other = gateway.another("other").await;
    other.let_ask("theirs", &format!("http://{}/", server.address), &[]);
    let own = |rest: &str| gateway.request_to("POST", rest, ASKED, "");
    let no_key = gateway.post("hub", "").replace(&gateway.key, &other.key);
    let two = "mcp-session-id: a\r\nmcp-session-id: b\r\n";
    let folded = "mcp-session-id: a\r\n evil: b\r\n";
    let cases = [
        ("another session's key", no_key, "401"),
        ("no such server", own("/mcp?server=nobody"), "404"),
        ("another agent's server", own("/mcp?server=theirs"), "404"),
        ("no name", own("/mcp"), "400"),
        ("two names", own("/mcp?server=hub&server=theirs"), "400"),
        ("an address", own("/mcp?server=hub&url=http://a/"), "400"),
        ("an upstream that is called so", own("/mcp/hub"), "404"),
        ("another method", gateway.request_to("PUT", "/mcp?server=hub", ASKED, ""), "400"),
        ("a header twice", gateway.post("hub", two), "400"),
        ("a header in a header", gateway.post("hub", folded), "400"),
        (
            "a long header",
            gateway.post("hub", &format!("mcp-name: {}\r\n", "x".repeat(5000))),
            "400",
        ),
        ("a header that is no text", gateway.post("hub", "mcp-name: \u{e4}\r\n"), "400"),
        (
            "too much",
            gateway.post("hub", "").replace("content-length: ", "content-length: 9999999"),
            "413",
        ),
    ];
    for (case, request, status) in cases {
        let answer = gateway.answer(&request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{case}: {answer}");
        assert!(!answer.contains(TOKEN) && !answer.contains("127.0.0.1"), "{case}: {answer}");
    }
    let told = |answer: String| answer.replace("nobody", "X").replace("theirs", "X");
    let [nobody, theirs] = [own("/mcp?server=nobody"), own("/mcp?server=theirs")];
    let body = |answer: &str| answer.split("\r\n\r\n").nth(1).unwrap().to_owned();
    assert_eq!(
        told(body(&gateway.answer(&nobody).await)),
        told(body(&gateway.answer(&theirs).await)),
        "nobody learns what others have"
    );
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}

#[tokio::test]
async fn a_server_that_says_the_secret_back_tells_the_container_nothing() {
    let (server, gateway) = hub().await;
    let (first, second) = TOKEN.split_at(9);
    let in_json = TOKEN.replace('/', "\\/");
    let said = [
        vec![stream(), piece(&format!("data: {first}")), piece(&format!("{second}\n\n")), end()],
        plain(
            "200 OK",
            &format!("mcp-session-id: {TOKEN}\r\n"),
            &format!("{{\"a\":\"{in_json}\"}}"),
        ),
        plain("400 No", "", &format!("no {TOKEN}")),
        plain("401 No", "", &format!("Bearer {TOKEN} is old")),
        plain("403 No", "", TOKEN),
        plain("500 No", "", TOKEN),
        plain("302 Found", &format!("location: /?{TOKEN}\r\n"), ""),
    ];
    for answer in said {
        server.answers([answer.clone()]);
        let said = gateway.answer(&gateway.post("hub", "")).await;
        assert!(!said.contains(TOKEN) && !said.contains(&in_json), "{answer:?}: {said}");
        assert!(!said.contains(first) && !said.contains(second), "{answer:?}: {said}");
    }
    assert_eq!(server.asked().len(), 7, "none is asked twice, and none led anywhere");
}

#[tokio::test]
async fn what_keeps_a_server_from_answering_is_told_apart_and_names_no_address() {
    let (server, gateway) = hub().await;
    let url = format!("http://{}/", server.address);
    let here = url.clone();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let with = [("X-Key", "${secret:hub}")];
    let cases = [
        (plain("401 No", "", "{}"), &url, &with[..], "500", "it does not take the secret hub"),
        (plain("403 No", "", "{}"), &url, &with[..], "403", "who has the secret hub may not"),
        (plain("401 No", "", "{}"), &url, &[][..], "500", "name no secret"),
        (
            plain("307 Go", &format!("location: {here}\r\n"), ""),
            &url,
            &[],
            "502",
            "leads elsewhere",
        ),
        (plain("200 OK", "content-encoding: gzip\r\n", ""), &url, &[], "502", "compressed"),
        (vec![Step::Close], &url, &[], "502", "the connection broke"),
        (vec![], &format!("http://{closed}/"), &[], "502", "cannot be reached"),
        (vec![], &url, &[("X-Key", "${secret:none}")], "500", "`twobox secrets set none`"),
    ];
    for (answer, url, headers, status, expected) in cases {
        gateway.let_ask("hub", url, headers);
        if !answer.is_empty() {
            server.answers([answer]);
        }
        let said = gateway.answer(&gateway.post("hub", "")).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{expected}: {said}");
        assert!(
            said.contains("x-twobox-refusal: ") && said.contains(expected),
            "{expected}: {said}"
        );
        assert!(!said.contains("127.0.0.1"), "{expected}: {said}");
    }
    gateway.let_ask("hub", &url, &[]);
    server.answers([plain("404 Gone", "", r#"{"error":{"code":-32600}}"#)]);
    let said = gateway.answer(&gateway.post("hub", "")).await;
    assert!(said.starts_with("HTTP/1.1 404") && said.ends_with(r#"{"error":{"code":-32600}}"#));
    assert!(!said.contains("x-twobox-refusal"), "it is the server's own word: {said}");
}

#[tokio::test]
async fn a_stream_passes_as_it_comes_and_ends_with_its_client() {
    let (server, gateway) = hub().await;
    server.answers([vec![stream(), piece("data: 1\n\n"), Step::Wait, piece("data: 2\n\n"), end()]]);
    let mut client = gateway.connect().await;
    client.ask(&gateway.request_to("GET", "/mcp?server=hub", "", "last-event-id: 7\r\n")).await;
    client.read_until("data: 1\n\n").await;
    server.go_on();
    client.read_until("data: 2\n\n").await;
    let asked = &server.asked()[0];
    assert!(asked.head.starts_with("GET /a/mcp?of=b HTTP/1.1\r\n"), "{}", asked.head);
    assert!(asked.head.contains("last-event-id: 7\r\n"), "{}", asked.head);

    // As many as there may be are open, and then none of them.
    server.answers(std::iter::repeat_n(vec![stream(), piece("data: 3\n\n"), Step::Wait], 24));
    let mut open = Vec::new();
    for _ in 0..24 {
        let mut client = gateway.connect().await;
        client.ask(&gateway.request_to("GET", "/mcp?server=hub", "", "")).await;
        client.read_until("data: 3\n\n").await;
        open.push(client);
    }
    let refused = gateway.answer(&gateway.post("hub", "")).await;
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    drop(open);
    server.answers([plain("200 OK", "", "{}")]);
    loop {
        let request = gateway.request_to("DELETE", "/mcp?server=hub", "", "connection: close\r\n");
        let answer = gateway.answer(&request).await;
        if answer.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    }
}

#[tokio::test]
async fn what_a_person_changes_counts_for_the_next_request() {
    let (server, gateway) = hub().await;
    server.answers([plain("200 OK", "", "{}"), plain("200 OK", "", "{}")]);
    gateway.secrets().set("hub", &Secret::of(b"another-token".to_vec()).unwrap()).unwrap();
    gateway.answer(&gateway.post("hub", "")).await;
    let asked = server.asked().pop().unwrap();
    assert!(asked.head.contains("authorization: Bearer another-token\r\n"), "{}", asked.head);
    gateway.allowed.lock().unwrap().servers = Arc::default();
    let answer = gateway.answer(&gateway.post("hub", "")).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert_eq!(server.asked().len(), 1);
}
