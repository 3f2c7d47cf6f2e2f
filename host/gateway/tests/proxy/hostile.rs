//! A container that means ill.

use super::gateway::{Gateway, MESSAGES};
use super::upstream::{Upstream, plain};

#[tokio::test]
async fn what_is_not_a_plain_request_of_this_session_reaches_nobody() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&upstream).await;
    let key = &gateway.key;
    let length = MESSAGES.len();
    let own = format!("x-api-key: {key}\r\ncontent-type: application/json\r\n");
    let cases = [
        (
            "no key",
            format!(
                "POST /anthropic/v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{MESSAGES}"
            ),
            "401",
        ),
        (
            "another key",
            format!(
                "POST /anthropic/v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\ncontent-length: {length}\r\n\r\n{MESSAGES}",
                "0".repeat(48)
            ),
            "401",
        ),
        (
            "an upstream that there is not",
            format!(
                "POST /other/v1/messages HTTP/1.1\r\nhost: x\r\n{own}content-length: {length}\r\n\r\n{MESSAGES}"
            ),
            "404",
        ),
        (
            "an absolute address",
            format!(
                "POST http://{}/v1/messages HTTP/1.1\r\nhost: x\r\n{own}content-length: {length}\r\n\r\n{MESSAGES}",
                upstream.address
            ),
            "404",
        ),
        (
            "a tunnel",
            format!("CONNECT {} HTTP/1.1\r\nhost: x\r\n{own}\r\n", upstream.address),
            "407",
        ),
        (
            "a way out of the path",
            format!(
                "POST /anthropic/../local/chat/completions HTTP/1.1\r\nhost: x\r\n{own}content-length: {length}\r\n\r\n{MESSAGES}"
            ),
            "404",
        ),
        (
            "what is not listed",
            format!(
                "POST /anthropic/v1/files HTTP/1.1\r\nhost: x\r\n{own}content-length: {length}\r\n\r\n{MESSAGES}"
            ),
            "404",
        ),
        (
            "two lengths",
            format!(
                "POST /anthropic/v1/messages HTTP/1.1\r\nhost: x\r\n{own}content-length: {length}\r\ncontent-length: 5\r\n\r\n{MESSAGES}"
            ),
            "400",
        ),
        (
            "a model that is not its agent's",
            format!(
                "POST /anthropic/v1/messages HTTP/1.1\r\nhost: x\r\n{own}content-length: 34\r\n\r\n{{\"model\":\"other\",\"max_tokens\":100}}"
            ),
            "403",
        ),
        (
            "the models of an upstream that is not its agent's",
            format!("GET /openai/models HTTP/1.1\r\nhost: x\r\n{own}\r\n"),
            "403",
        ),
        (
            "a program of the host's machine that nobody spoke of",
            format!("GET /ollama/models HTTP/1.1\r\nhost: x\r\n{own}\r\n"),
            "403",
        ),
        (
            "no JSON",
            format!(
                "POST /anthropic/v1/messages HTTP/1.1\r\nhost: x\r\n{own}content-length: 3\r\n\r\nabc"
            ),
            "400",
        ),
        (
            "too much",
            format!(
                "POST /anthropic/v1/messages HTTP/1.1\r\nhost: x\r\n{own}content-length: 99999999999\r\n\r\n"
            ),
            "413",
        ),
        ("no HTTP", "hello\r\n\r\n".to_owned(), "400"),
        (
            "an endless head",
            format!(
                "POST /anthropic/v1/messages HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
                "y".repeat(1 << 20)
            ),
            "431",
        ),
    ];
    for (case, request, status) in cases {
        let answer = gateway.answer(&request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{case}: {answer}");
        assert!(!answer.contains("upstream-key"), "{case}: {answer}");
        // What is no HTTP is answered before anybody looks at it.
        let unread = ["two lengths", "no HTTP", "an endless head"].contains(&case);
        assert_eq!(answer.contains("x-twobox-refusal: "), !unread, "{case}: {answer}");
    }
    assert!(upstream.asked().is_empty(), "{:?}", upstream.asked());
    assert_eq!(gateway.usage().await.len(), 0, "nothing was bought");
}

#[tokio::test]
async fn a_request_in_another_ones_body_is_not_a_second_one() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&upstream).await;
    upstream.answers([plain("200 OK", "", "{}"), plain("200 OK", "", "{}")]);
    let inner = gateway.request(MESSAGES, "");
    let (key, body) = (&gateway.key, format!("{MESSAGES}{inner}"));
    // Both headers at once: RFC 9112 §6.3 has `transfer-encoding` win, or the request refused.
    let request = format!(
        "POST /anthropic/v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n\
         content-length: {}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        MESSAGES.len(),
        body.len(),
    );
    gateway.answer(&request).await;
    assert!(upstream.asked().is_empty(), "its body is no request: {:?}", upstream.asked());
}

#[tokio::test]
async fn a_body_takes_no_more_room_than_it_has_bytes() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&upstream).await;
    let bodies = [
        format!("{{\"model\":\"large\",\"prompt\":[{}0]}}", "{\"\":0},".repeat(1 << 20)),
        format!("{{\"model\":\"large\",\"tools\":[{}{{}}]}}", "{},".repeat(1 << 20)),
    ];
    let many: String = (0..1 << 20).map(|number| format!("\"{number:08}\":null,")).collect();
    let bodies = bodies.into_iter().chain([format!("{{{many}\"model\":\"large\"}}")]);
    let bodies: Vec<_> = bodies.collect();
    let before = peak();
    for body in bodies {
        let answer = gateway.answer(&gateway.request(&body, "")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let (grown, allowed) = (peak() - before, 100 << 10);
    assert!(
        grown < allowed,
        "{grown} KiB more, of which {allowed} would be bodies and their copies"
    );
    assert!(upstream.asked().is_empty());
}

/// The most that this process has had in memory, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn a_thousand_connections_of_one_session_keep_no_other_waiting() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&upstream).await;
    let other = gateway.another("other").await;
    let mut held = Vec::new();
    for _ in 0..1000 {
        // Those beyond the queue of the socket are refused by the kernel.
        if let Ok(Ok(mut one)) =
            tokio::time::timeout(std::time::Duration::from_millis(20), gateway.try_connect()).await
        {
            one.ask("POST /anthropic/v1/messages HTTP/1.1\r\nhost: x\r\n").await;
            held.push(one);
        } else {
            break;
        }
    }
    assert!(held.len() >= 32, "{}", held.len());
    upstream.answers([plain("200 OK", "", "{}")]);
    let answer = other.answer(&other.request(MESSAGES, "")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
