//! Which headers pass, in either direction: a list of what may, for nobody can list what may not. Pure.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use twobox_shared::agent_config::Api;

use crate::secrets::Secret;

/// Headers that go to an upstream. A credential of the container is not among them, nor is what would
/// have the upstream compress its answer, which has to be counted.
const UP: [&str; 10] = [
    "accept",
    "content-type",
    "user-agent",
    "anthropic-version",
    "anthropic-beta",
    "x-app",
    "openai-beta",
    "idempotency-key",
    "x-stainless-retry-count",
    "x-client-request-id",
];

/// How the words of `anthropic-beta` begin that pass. Others may change what a request can cost, or have the
/// upstream reach the network. What Claude Code 2.1.332 sends is among them, for its bodies say what only they
/// mean: of its tools (`advanced-tool-use-` is about those that are told later and found by a search of its own;
/// those that an upstream runs are refused in the body, also in the middle of a conversation), of its conversation, and of thinking.
const BETAS: [&str; 14] = [
    "advanced-tool-use-",
    "claude-code-",
    "context-management-",
    "effort-",
    "extended-cache-ttl-",
    "fine-grained-tool-streaming-",
    "interleaved-thinking-",
    "mid-conversation-tool-changes-",
    "per-turn-control-",
    "prompt-caching-",
    "structured-outputs-",
    "thinking-display-updates-",
    "thinking-token-count-",
    "token-efficient-tools-",
];

/// Headers that come back. Those that name an organisation or a person are not among them.
const DOWN: [&str; 6] = [
    "content-type",
    "cache-control",
    "request-id",
    "x-request-id",
    "retry-after",
    "retry-after-ms",
];

/// What an upstream is asked with.
pub(crate) fn up(api: Api, asked: &HeaderMap, secret: Option<&Secret>) -> Option<HeaderMap> {
    let mut headers = passing(asked, &UP);
    headers.remove("anthropic-beta");
    let betas = betas(asked);
    if !betas.is_empty() {
        headers.insert("anthropic-beta", HeaderValue::from_str(&betas).ok()?);
    }
    if asked.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Some(secret) = secret {
        let (name, text) = match api {
            Api::Messages => (HeaderName::from_static("x-api-key"), secret.text().to_owned()),
            Api::Responses | Api::Chat => {
                (hyper::header::AUTHORIZATION, format!("Bearer {}", secret.text()))
            }
        };
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Some(headers)
}

/// What a container gets. Its client is not to ask again by itself: that is the host's, which has done so.
pub(crate) fn down(answered: &HeaderMap) -> HeaderMap {
    let mut headers = passing(answered, &DOWN);
    headers.insert("x-should-retry", HeaderValue::from_static("false"));
    headers
}

/// The words of `anthropic-beta` that pass.
fn betas(asked: &HeaderMap) -> String {
    let all = asked.get_all("anthropic-beta").into_iter().filter_map(|it| it.to_str().ok());
    let words = all.flat_map(|it| it.split(',')).map(str::trim);
    let passing = |word: &&str| BETAS.iter().any(|known| word.starts_with(known));
    words.filter(passing).collect::<Vec<_>>().join(",")
}

fn passing(headers: &HeaderMap, names: &[&'static str]) -> HeaderMap {
    let mut passed = HeaderMap::new();
    for &name in names {
        for value in headers.get_all(name) {
            passed.append(HeaderName::from_static(name), value.clone());
        }
    }
    passed
}

/// Whether `asked` has `key` as its credential. Takes as long whatever is wrong with it.
pub(crate) fn has_key(asked: &HeaderMap, key: &str) -> bool {
    let bearer = asked
        .get(hyper::header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let own = asked.get("x-api-key").map(HeaderValue::as_bytes);
    [bearer, own].into_iter().flatten().any(|given| same(given, key.as_bytes()))
}

/// Whether `asked` has `key` as its credential at a proxy: as a token, or as the password of anybody.
pub(crate) fn has_proxy_key(asked: &HeaderMap, key: &str) -> bool {
    let given = asked.get(hyper::header::PROXY_AUTHORIZATION).and_then(|it| it.to_str().ok());
    let Some((scheme, given)) = given.and_then(|it| it.split_once(' ')) else {
        return false;
    };
    if scheme.eq_ignore_ascii_case("bearer") {
        return same(given.trim().as_bytes(), key.as_bytes());
    }
    let read = BASE64_STANDARD.decode(given.trim()).unwrap_or_default();
    let password = read.iter().position(|byte| *byte == b':').map(|at| &read[at + 1..]);
    scheme.eq_ignore_ascii_case("basic")
        && password.is_some_and(|password| same(password, key.as_bytes()))
}

fn same(a: &[u8], b: &[u8]) -> bool {
    let differ = a.iter().zip(b).fold(0, |differ, (x, y)| differ | (x ^ y));
    a.len() == b.len() && std::hint::black_box(differ) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for &(name, value) in of {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_what_is_listed_passes_and_the_credential_is_the_hosts() {
        let asked = headers(&[
            ("authorization", "Bearer session"),
            ("x-api-key", "session"),
            ("cookie", "a=b"),
            ("accept-encoding", "gzip"),
            ("host", "elsewhere"),
            ("x-forwarded-for", "1.2.3.4"),
            ("openai-organization", "org"),
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "claude-code-20250219, context-1m-2025-08-07"),
            ("anthropic-beta", "effort-2025-11-24"),
            ("content-type", "application/json"),
        ]);
        let secret = Secret::of(b"upstream".to_vec()).unwrap();
        let sent = up(Api::Messages, &asked, Some(&secret)).unwrap();
        assert_eq!(sent.get("x-api-key").unwrap(), "upstream");
        let betas = sent.get("anthropic-beta").unwrap();
        assert_eq!(betas, "claude-code-20250219,effort-2025-11-24", "those that are known");
        assert_eq!(sent.len(), 4, "{sent:?}");
        assert!(!format!("{sent:?}").contains("upstream"), "a header that is shown");
        let sent = up(Api::Chat, &asked, Some(&secret)).unwrap();
        assert_eq!(sent.get("authorization").unwrap(), "Bearer upstream");
        assert!(sent.get("x-api-key").is_none());
        let sent = up(Api::Chat, &asked, None).unwrap();
        assert!(sent.get("authorization").is_none() && sent.get("x-api-key").is_none());
    }

    #[test]
    fn all_that_claude_code_sends_to_say_how_its_bodies_are_meant_passes() {
        let sent = "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,\
            per-turn-control-2026-07-01,mid-conversation-tool-changes-2026-07-01,\
            thinking-token-count-2026-05-13,advanced-tool-use-2025-11-20,effort-2025-11-24,\
            thinking-display-updates-2026-08-18";
        assert_eq!(betas(&headers(&[("anthropic-beta", sent)])), sent);
    }

    #[test]
    fn an_answer_names_nobody() {
        let answered = headers(&[
            ("content-type", "text/event-stream"),
            ("openai-organization", "user-abc"),
            ("anthropic-organization-id", "8f"),
            ("set-cookie", "__cf=1"),
            ("transfer-encoding", "chunked"),
            ("request-id", "req_1"),
            ("x-should-retry", "true"),
            ("x-twobox-refusal", "budget"),
        ]);
        let passed = down(&answered);
        assert_eq!(passed.len(), 3, "{passed:?}");
        assert_eq!(passed.get("x-should-retry").unwrap(), "false");
    }

    #[test]
    fn a_proxy_is_given_the_key_as_a_token_or_as_a_password() {
        let cases = [
            ("Bearer 0123", true),
            ("bearer  0123", true),
            ("Basic c2Vzc2lvbjowMTIz", true), // session:0123
            ("basic OjAxMjM=", true),         // :0123
            ("Basic MDEyMw==", false),        // 0123
            ("Basic c2Vzc2lvbjowMTIzNA==", false),
            ("Basic 0123", false),
            ("Basic", false),
            ("Digest 0123", false),
            ("0123", false),
        ];
        for (given, expected) in cases {
            let asked = headers(&[("proxy-authorization", given)]);
            assert_eq!(has_proxy_key(&asked, "0123"), expected, "{given}");
        }
        assert!(!has_proxy_key(&headers(&[("authorization", "Bearer 0123")]), "0123"));
    }

    #[test]
    fn the_key_is_known_in_either_header() {
        let key = "0123";
        let cases: [(&[(&'static str, &'static str)], bool); 7] = [
            (&[("authorization", "Bearer 0123")], true),
            (&[("x-api-key", "0123")], true),
            (&[("x-api-key", "wrong"), ("authorization", "Bearer 0123")], true),
            (&[("authorization", "bearer 0123")], false),
            (&[("x-api-key", "01234")], false),
            (&[("x-api-key", "")], false),
            (&[], false),
        ];
        for (given, expected) in cases {
            assert_eq!(has_key(&headers(given), key), expected, "{given:?}");
        }
    }
}
