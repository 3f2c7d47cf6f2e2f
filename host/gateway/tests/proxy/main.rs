//! The way from a session's socket to an upstream, with real sockets and a real `host.db`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod egress;
mod gateway;
mod hostile;
mod servers;
mod upstream;

use std::sync::atomic::Ordering;
use std::time::Duration;

use self::gateway::{Gateway, MESSAGES, Raw, sold};
use self::upstream::{Step, Upstream, end, piece, plain, stream};

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":\
    {\"input_tokens\":100,\"cache_read_input_tokens\":40,\"cache_creation_input_tokens\":6,\
    \"output_tokens\":1}}}\n\n";
const STOP: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":\
    {\"output_tokens\":20}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

#[tokio::test]
async fn a_stream_passes_as_it_comes_and_is_counted() {
    let upstream = Upstream::start().await;
    upstream.answers([vec![stream(), piece(START), Step::Wait, piece(STOP), end()]]);
    let gateway = Gateway::start(&upstream).await;
    let mut client = gateway.connect().await;
    client.ask(&gateway.request(MESSAGES, "")).await;
    let begun = client.read_until("message_start\"").await;
    assert!(begun.starts_with("HTTP/1.1 200"), "{begun}");
    assert!(begun.contains("request-id: req_1") && !begun.contains("secret-org"), "{begun}");
    assert!(!begun.contains("message_stop"), "the rest has not been sent");
    upstream.go_on();
    client.read_until("message_stop\"}").await;

    let asked = &upstream.asked()[0];
    assert!(asked.head.starts_with("POST /v1/messages?beta=true HTTP/1.1\r\n"), "{}", asked.head);
    assert!(asked.head.contains("x-api-key: upstream-key\r\n"), "{}", asked.head);
    assert!(!asked.head.contains(&gateway.key), "the session's key stays here: {}", asked.head);
    assert!(!asked.head.contains("cookie"), "{}", asked.head);
    assert_eq!(asked.body, MESSAGES.as_bytes(), "byte for byte");
    gateway.settled(1).await;
    assert_eq!(sold(&gateway.usage().await), (1, [100, 40, 6, 20], 0));
}

#[tokio::test]
async fn nobody_knows_what_a_stream_has_used_that_breaks_off() {
    let upstream = Upstream::start().await;
    upstream.answers([
        vec![stream(), piece(START), Step::Close],
        vec![stream(), piece(START), Step::Wait],
    ]);
    let gateway = Gateway::start(&upstream).await;
    let mut cut = gateway.connect().await;
    cut.ask(&gateway.request(MESSAGES, "")).await;
    let text = cut.read_to_end().await;
    assert!(text.contains("message_start") && !text.ends_with("0\r\n\r\n"), "{text}");
    gateway.settled(1).await;

    let mut left = gateway.connect().await;
    left.ask(&gateway.request(MESSAGES, "")).await;
    left.read_until("message_start\"").await;
    drop(left);
    gateway.settled(2).await;
    let (requests, tokens, unknown) = sold(&gateway.usage().await);
    assert_eq!((requests, tokens, unknown), (2, [0; 4], 2));
    let reserved = 2 * (MESSAGES.len() as u64 + 100);
    assert_eq!(gateway.usage().await[0].used.unknown_tokens, reserved, "the most that they can be");
}

#[tokio::test]
async fn what_passes_is_asked_again_and_what_does_not_is_told_at_once() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&upstream).await;
    let done = r#"{"usage":{"input_tokens":1,"output_tokens":2}}"#;
    let cases = [
        (vec![plain("503 Busy", "", "{}"), plain("200 OK", "", done)], 2, "HTTP/1.1 200"),
        (
            vec![plain("429 Slow", "retry-after: 0\r\n", "{}"), plain("200 OK", "", done)],
            2,
            "HTTP/1.1 200",
        ),
        (vec![plain("429 Slow", "retry-after: 3600\r\n", "{}")], 1, "HTTP/1.1 429"),
        (
            vec![plain("401 No", "x-twobox-refusal: budget\r\n", r#"{"its":"own words"}"#)],
            1,
            "HTTP/1.1 401",
        ),
        (vec![plain("400 No", "", "{}")], 1, "HTTP/1.1 400"),
        // It may have been bought: nobody knows, and it is not bought again.
        (vec![vec![Step::Close]], 1, "HTTP/1.1 502"),
    ];
    let mut so_far = 0;
    for (answers, requests, status) in cases {
        upstream.answers(answers.clone());
        let answer = gateway.answer(&gateway.request(MESSAGES, "")).await;
        so_far += requests;
        assert!(answer.starts_with(status), "{answers:?}: {answer}");
        let final_ = !status.ends_with("200");
        assert!(!final_ || answer.contains("x-should-retry: false"), "{answers:?}: {answer}");
        let own = status.ends_with("502");
        assert_eq!(answer.contains("x-twobox-refusal"), own, "{answers:?}: {answer}");
        assert_eq!(upstream.asked().len(), so_far, "{answers:?}");
    }
    gateway.settled(6).await;
    let (requests, tokens, unknown) = sold(&gateway.usage().await);
    assert_eq!((requests, tokens[3], unknown), (6, 4, 1), "two answers, and one that nobody knows");
}

#[tokio::test]
async fn every_family_is_asked_with_its_own_credential_and_counted() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&upstream).await;
    let cases = [
        (
            "/local/chat/completions",
            r#"{"model":"small","messages":[],"max_tokens":9}"#,
            r#"{"usage":{"prompt_tokens":10,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}}"#,
        ),
        (
            "/local/responses",
            r#"{"model":"small","input":"x"}"#,
            r#"{"usage":{"input_tokens":10,"output_tokens":3,"input_tokens_details":{"cached_tokens":4}}}"#,
        ),
    ];
    for (path, body, answer) in cases {
        upstream.answers([plain("200 OK", "", answer)]);
        let said = gateway.answer(&gateway.request_to("POST", path, body, "")).await;
        assert!(said.starts_with("HTTP/1.1 200") && said.ends_with(answer), "{said}");
        let asked = upstream.asked().pop().unwrap();
        assert!(asked.head.contains("authorization: Bearer local-key\r\n"), "{}", asked.head);
        assert!(!asked.head.contains(&gateway.key), "{}", asked.head);
    }
    gateway.settled(2).await;
    assert_eq!(sold(&gateway.usage().await), (2, [12, 8, 0, 6], 0));
}

#[tokio::test]
async fn ten_that_ask_at_once_never_spend_more_than_there_is() {
    let upstream = Upstream::start().await;
    // Each may cost 100 tokens of output, and the day has 350, beside what is read.
    let body = r#"{"model":"dear","max_tokens":100,"messages":[]}"#;
    let gateway = Gateway::with_tokens_per_day(&upstream, 3 * (100 + body.len() as u64)).await;
    upstream.answers(std::iter::repeat_n(vec![Step::Wait], 10));
    let mut asking = Vec::new();
    for _ in 0..10 {
        let mut client = gateway.connect().await;
        let request = gateway.request(body, "");
        asking.push(tokio::spawn(async move {
            client.ask(&request).await;
            client.read_until("\r\n\r\n").await
        }));
    }
    let mut refused = 0;
    upstream.wait_for(3).await;
    for task in asking {
        // Those that were let in wait for ever.
        if let Ok(head) = tokio::time::timeout(Duration::from_secs(1), task).await {
            let head = head.unwrap();
            assert!(head.starts_with("HTTP/1.1 402"), "{head}");
            assert!(head.contains("x-should-retry: false"), "{head}");
            refused += 1;
        }
    }
    assert_eq!((refused, upstream.asked().len()), (7, 3));
}

#[tokio::test]
async fn a_run_over_its_budget_is_refused_unless_it_is_over_by_then() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&upstream).await;
    // Each may cost 100 micro-USD, and does cost 20.
    gateway.allowed.lock().unwrap().run = Some(130_000);
    let body = r#"{"model":"priced","max_tokens":100,"messages":[]}"#;
    let done = r#"{"usage":{"input_tokens":1,"output_tokens":20}}"#;
    let mut asked = 0;
    let mut answered = async |expected: &str| {
        upstream.answers([plain("200 OK", "", done)]);
        let answer = gateway.answer(&gateway.request(body, "")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{answer}");
        if expected == "200" {
            asked += 1;
            gateway.settled(asked).await;
        }
        answer
    };
    answered("200").await;
    answered("200").await;
    let refused = answered("402").await;
    let words =
        "the budget of this run is used up: a message may cost 0.0002 USD, 0.0001 USD are used";
    assert!(refused.contains(words) && refused.contains("budget.usd_per_run"), "{refused}");
    assert!(refused.contains("x-twobox-refusal: run-budget"), "{refused}");
    gateway.run_is_over.store(true, Ordering::Relaxed);
    gateway.blind_looks.store(3, Ordering::Relaxed);
    let unseen = answered("503").await;
    assert!(
        unseen.contains("x-twobox-refusal: unseen") && !unseen.contains("this run"),
        "{unseen}"
    );
    assert!(unseen.contains("retry-after: 1") && !unseen.contains("x-should-retry"), "{unseen}");
    assert_eq!(gateway.blind_looks.load(Ordering::Relaxed), 0, "it has looked three times");
    gateway.blind_looks.store(2, Ordering::Relaxed);
    answered("200").await; // the third look has seen it
    assert_eq!(upstream.asked().len(), 3, "what was refused was not asked");
}

#[tokio::test]
async fn a_ninth_request_waits_for_its_turn() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&upstream).await;
    upstream.answers(std::iter::repeat_n(vec![Step::Wait], 8));
    let mut under_way = Vec::new();
    for _ in 0..8 {
        let mut client = gateway.connect().await;
        client.ask(&gateway.request(MESSAGES, "")).await;
        under_way.push(client);
    }
    upstream.wait_for(8).await;
    upstream.answers([plain("200 OK", "", "{}")]);
    let mut ninth = gateway.connect().await;
    ninth.ask(&gateway.request(MESSAGES, "")).await;
    let early = tokio::time::timeout(Duration::from_millis(100), ninth.answer()).await;
    assert!(early.is_err() && upstream.asked().len() == 8, "{early:?}");
    under_way.pop(); // it hangs up
    let answer = tokio::time::timeout(Duration::from_secs(10), ninth.answer()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn whoever_asks_too_fast_is_told_to_wait() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&upstream).await;
    let wrong = "GET /anthropic/api/hello HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut client = gateway.connect().await;
    let mut answers = Vec::new();
    for _ in 0..120 {
        client.ask(wrong).await;
        answers.push(client.answer().await);
    }
    assert!(answers[0].starts_with("HTTP/1.1 401"), "{}", answers[0]);
    let last = answers.last().unwrap();
    assert!(last.starts_with("HTTP/1.1 429") && last.contains("retry-after: 1\r\n"), "{last}");
}

#[tokio::test]
async fn what_is_free_waits_for_no_pause_and_is_of_the_agents_own_models() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&upstream).await;
    let count = |model: &str| {
        let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
        gateway.request_to("POST", "/anthropic/v1/messages/count_tokens", &body, "")
    };
    let answer = gateway.answer(&count("other")).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    upstream.answers([plain("429 Too Many Requests", "retry-after: 30\r\n", "{}")]);
    let mut waits = gateway.connect().await;
    waits.ask(&gateway.request(MESSAGES, "")).await;
    upstream.wait_for(1).await;
    upstream.answers([plain("200 OK", "", "{}")]);
    tokio::time::sleep(Duration::from_millis(50)).await; // the pause begins
    let free = count("large");
    let answer = gateway.answer(&free);
    let answer = tokio::time::timeout(Duration::from_secs(10), answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn what_a_gateway_timed_out_on_may_have_been_bought() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&upstream).await;
    for (status, unknown) in [("500 X", 0), ("502 X", 1), ("504 X", 2)] {
        upstream.answers([plain(status, "", "{}")]);
        let answer = gateway.answer(&gateway.request(MESSAGES, "")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {}", &status[..3])), "{answer}");
        gateway.settled(upstream.asked().len() as u64).await;
        assert_eq!(sold(&gateway.usage().await).2, unknown, "{status}");
    }
    assert_eq!(upstream.asked().len(), 3, "none was sent twice");
}

#[tokio::test]
async fn a_budget_that_is_lowered_counts_for_the_next_request() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&upstream).await;
    upstream.answers([plain("200 OK", "", "{}")]);
    let answer = gateway.answer(&gateway.request(MESSAGES, "")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    gateway.allowed.lock().unwrap().limit.tokens = Some(0);
    let answer = gateway.answer(&gateway.request(MESSAGES, "")).await;
    assert!(answer.starts_with("HTTP/1.1 402"), "{answer}");
    assert_eq!(upstream.asked().len(), 1);
}

#[tokio::test]
async fn an_upstream_that_repeats_the_key_tells_nobody() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&upstream).await;
    let says = r#"{"error":{"message":"Incorrect key provided: upstream-key."}}"#;
    let expected = r#"{"error":{"message":"Incorrect key provided: [key]."}}"#;
    let free = gateway.request_to("GET", "/anthropic/v1/models", "", "");
    for request in [gateway.request(MESSAGES, ""), free] {
        upstream.answers([plain("401 No", "", says)]);
        let answer = gateway.answer(&request).await;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.ends_with(expected), "{answer}");
    }
}

#[tokio::test]
async fn who_goes_before_there_is_an_answer_leaves_nothing_reserved() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&upstream).await;
    upstream.answers([vec![Step::Wait]]);
    let mut left = gateway.connect().await;
    left.ask(&gateway.request(MESSAGES, "")).await;
    upstream.wait_for(1).await;
    drop(left);
    gateway.settled(1).await;
    let used = gateway.usage().await[0].used;
    assert_eq!((used.unknown, used.unknown_tokens), (1, MESSAGES.len() as u64 + 100));
}

#[tokio::test]
async fn a_pause_that_one_session_is_told_holds_back_another() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&upstream).await;
    let slow = |seconds| plain("429 Slow", &format!("retry-after: {seconds}\r\n"), "{}");
    // The last of four is passed on, and has been heard by then.
    upstream.answers([slow(0), slow(0), slow(0), slow(50), plain("200 OK", "", "{}")]);
    let answer = gateway.answer(&gateway.request(MESSAGES, "")).await;
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    let other = gateway.another("other").await;
    let mut held_back = other.connect().await;
    held_back.ask(&other.request(MESSAGES, "")).await;
    // What is free waits for no pause; it is asked later, and answered.
    let free = other.answer(&other.request_to("GET", "/anthropic/v1/models", "", "")).await;
    assert!(free.starts_with("HTTP/1.1 200"), "{free}");
    let asked = upstream.asked();
    let heads: Vec<_> = asked.iter().map(|it| it.head.split(' ').next().unwrap()).collect();
    assert_eq!(heads, ["POST", "POST", "POST", "POST", "GET"]);
}

#[tokio::test]
async fn a_session_may_lie_deeper_than_an_address_is_long() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start_in(&upstream, &"d".repeat(150)).await;
    upstream.answers([plain("200 OK", "", "{}")]);
    let answer = gateway.answer(&gateway.request(MESSAGES, "")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(gateway.door);
    // What was waiting to be accepted at that moment is reset.
    while Raw::connect(&gateway.socket).await.err().map(|error| error.kind())
        != Some(std::io::ErrorKind::ConnectionRefused)
    {
        tokio::task::yield_now().await;
    }
}
