//! Which headers pass between a container and a server of MCP, in either direction: those of the protocol's own
//! transport, each once. Pure.

use hyper::Method;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    LOCATION, TRANSFER_ENCODING, USER_AGENT,
};
use twobox_shared::agent_config::Remote;

use crate::refusal::{Refusal, Why};
use crate::scrub;
use crate::secrets::Secret;

/// Headers that go to a server.
const UP: [&str; 6] =
    ["accept", "last-event-id", "mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id"];

/// How those begin that repeat a tool's arguments, and how many there may be.
const PARAM: &str = "mcp-param-";
const PARAMS_MAX: usize = 32;

/// Headers that come back.
const DOWN: [&str; 3] = ["content-type", "mcp-session-id", "retry-after"];

/// The longest value, in bytes.
const VALUE_MAX: usize = 4096;

/// What a server is asked with, as far as the container says it.
///
/// # Errors
/// If two readers could take it for two things, or it is too long.
pub(crate) fn up(method: &Method, asked: &HeaderMap) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::new();
    let params = asked.keys().filter(|name| name.as_str().starts_with(PARAM));
    let names: Vec<HeaderName> =
        UP.into_iter().map(HeaderName::from_static).chain(params.cloned()).collect();
    if names.len() > UP.len() + PARAMS_MAX {
        return Err(wrong(format!("more than {PARAMS_MAX} headers begin with {PARAM}")));
    }
    for name in names {
        let mut values = asked.get_all(&name).into_iter();
        let (Some(value), more) = (values.next(), values.next()) else { continue };
        if more.is_some() {
            return Err(wrong(format!("{name} is written twice")));
        }
        if value.len() > VALUE_MAX || value.to_str().is_err() {
            return Err(wrong(format!("{name} is too long, or no plain text")));
        }
        headers.insert(name, value.clone());
    }
    headers
        .entry(ACCEPT)
        .or_insert(HeaderValue::from_static("application/json, text/event-stream"));
    if *method == Method::POST {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let agent = HeaderValue::from_static(concat!("Twobox/", env!("CARGO_PKG_VERSION")));
    headers.insert(USER_AGENT, agent);
    Ok(headers)
}

/// Adds what the definition of an agent has `remote` told, with the values of `secrets`.
///
/// # Errors
/// The name of a header that cannot be one.
pub(crate) fn tell(
    headers: &mut HeaderMap,
    remote: &Remote,
    secrets: &[(String, Secret)],
) -> Result<(), String> {
    let value = |wanted: &str| {
        secrets.iter().find(|(name, _)| name == wanted).map(|(_, secret)| secret.text())
    };
    for (name, text) in remote.headers() {
        let value = text.filled(value).and_then(|text| HeaderValue::try_from(text).ok());
        let header = HeaderName::try_from(name).ok();
        let (Some(header), Some(mut value)) = (header, value) else { return Err(name.to_owned()) };
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(())
}

/// What of an answer's head a container is told: nothing that has one of `needles` in it.
pub(crate) fn down(answered: &HeaderMap, needles: &[Vec<u8>]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in DOWN {
        let Some(value) = answered.get(name).filter(|value| value.len() <= VALUE_MAX) else {
            continue;
        };
        if !scrub::has(needles, value.as_bytes()) {
            headers.insert(HeaderName::from_static(name), value.clone());
        }
    }
    headers
}

/// Whether what comes is compressed, though it was asked not to be: then nobody finds a secret in it.
pub(crate) fn is_coded(answered: &HeaderMap) -> bool {
    let is_plain = |coding: &[u8]| {
        ["", "identity", "chunked"].iter().any(|it| coding.eq_ignore_ascii_case(it.as_bytes()))
    };
    let lines =
        [CONTENT_ENCODING, TRANSFER_ENCODING].into_iter().flat_map(|name| answered.get_all(name));
    let mut codings = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    codings.any(|coding| !is_plain(coding.trim_ascii()))
}

/// Where an answer leads, for the log: without `needles`, and without the query, which may have any other secret.
pub(crate) fn place(answered: &HeaderMap, needles: &[Vec<u8>]) -> String {
    let place = answered.get(LOCATION).map_or(&b"nowhere"[..], HeaderValue::as_bytes);
    let end = place.iter().position(|byte| b"?#".contains(byte)).unwrap_or(place.len());
    let place = &place[..end];
    let unescaped = unescaped(place);
    // It is shown as it was written, but where only what that means has a secret.
    let place = match scrub::has(needles, &unescaped) {
        true => scrub::without(needles, &unescaped),
        false => scrub::without(needles, place),
    };
    String::from_utf8_lossy(&place).into_owned()
}

/// `place` without the escapes of addresses, such as `%2F`.
fn unescaped(mut place: &[u8]) -> Vec<u8> {
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let mut out = Vec::with_capacity(place.len());
    while let [first, rest @ ..] = place {
        place = rest;
        let escaped = match (first, rest) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                out.push(high * 16 + low);
                place = &rest[2..];
            }
            None => out.push(*first),
        }
    }
    out
}

fn wrong(detail: String) -> Refusal {
    Refusal::new(Why::BadRequest, detail)
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
    fn what_is_of_the_protocol_passes_once_and_nothing_else() {
        let asked = headers(&[
            ("authorization", "Bearer session"),
            ("x-api-key", "session"),
            ("cookie", "a=b"),
            ("host", "elsewhere"),
            ("origin", "http://elsewhere"),
            ("x-forwarded-for", "1.2.3.4"),
            ("accept-encoding", "gzip"),
            ("content-type", "text/html"),
            ("mcp-session-id", "s-1"),
            ("mcp-protocol-version", "2025-06-18"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "add"),
            ("mcp-param-region", "eu"),
            ("last-event-id", "7"),
        ]);
        let sent = up(&Method::POST, &asked).unwrap();
        let mut names: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let expected = [
            "accept",
            "accept-encoding",
            "content-type",
            "last-event-id",
            "mcp-method",
            "mcp-name",
            "mcp-param-region",
            "mcp-protocol-version",
            "mcp-session-id",
            "user-agent",
        ];
        assert_eq!(names, expected);
        assert_eq!(sent["content-type"], "application/json");
        assert_eq!(sent["accept-encoding"], "identity");
        assert!(up(&Method::GET, &asked).unwrap().get(CONTENT_TYPE).is_none());
        for name in ["mcp-session-id", "mcp-method", "mcp-param-a", "accept"] {
            let mut twice = HeaderMap::new();
            twice.append(name, HeaderValue::from_static("a"));
            twice.append(name, HeaderValue::from_static("b"));
            assert_eq!(up(&Method::POST, &twice).unwrap_err().why, Why::BadRequest, "{name}");
        }
        let mut long = HeaderMap::new();
        long.insert("mcp-session-id", HeaderValue::try_from("x".repeat(VALUE_MAX + 1)).unwrap());
        assert!(up(&Method::POST, &long).is_err());
        let many = (0..=PARAMS_MAX).map(|n| format!("{PARAM}{n}").parse::<HeaderName>().unwrap());
        let many = many.map(|name| (name, HeaderValue::from_static("x"))).collect();
        assert!(up(&Method::POST, &many).is_err());
    }

    #[test]
    fn a_server_is_told_what_the_definition_says_and_the_container_gets_none_of_it() {
        let told = [("Authorization", "Bearer ${secret:hub}"), ("X-Region", "eu")];
        let told = told.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        let remote = Remote::of("https://a.example/".to_owned(), told, false).unwrap();
        let secrets = [("hub".to_owned(), Secret::of(b"s3cret-token".to_vec()).unwrap())];
        let mut sent = up(&Method::POST, &HeaderMap::new()).unwrap();
        tell(&mut sent, &remote, &secrets).unwrap();
        assert_eq!(sent["authorization"], "Bearer s3cret-token");
        assert_eq!(sent["x-region"], "eu");
        assert!(!format!("{sent:?}").contains("s3cret"), "{sent:?}");
        assert_eq!(tell(&mut sent, &remote, &[]), Err("Authorization".to_owned()));
        let answered = headers(&[
            ("content-type", "text/event-stream"),
            ("mcp-session-id", "is s3cret-token"),
            ("set-cookie", "a=b"),
            ("x-twobox-refusal", "budget"),
            ("www-authenticate", "Bearer"),
        ]);
        let passed = down(&answered, &[b"s3cret-token".to_vec()]);
        assert_eq!(passed.len(), 1, "{passed:?}");
        assert_eq!(passed["content-type"], "text/event-stream");
    }

    #[test]
    fn what_is_compressed_is_known_in_whatever_line_it_says_so() {
        let cases: [(&[(&'static str, &'static str)], bool); 9] = [
            (&[], false),
            (&[("content-encoding", "identity")], false),
            (&[("content-encoding", "")], false),
            (&[("content-encoding", " Identity , identity")], false),
            (&[("content-encoding", "GZIP")], true),
            (&[("content-encoding", "identity, br")], true),
            (&[("content-encoding", "identity"), ("content-encoding", "gzip")], true),
            (&[("transfer-encoding", "chunked")], false),
            (&[("transfer-encoding", "gzip, chunked")], true),
        ];
        for (answered, expected) in cases {
            assert_eq!(is_coded(&headers(answered)), expected, "{answered:?}");
        }
    }

    #[test]
    fn where_an_answer_leads_is_said_without_a_secret() {
        let cases = [
            ("https://a.example/mcp", "https://a.example/mcp"),
            ("https://a.example/a%20b?token=other#part", "https://a.example/a%20b"),
            ("/login#s3cret+token", "/login"),
            ("/s3cret+token/mcp", "/[secret]/mcp"),
            ("/s3cret%2Btoken/m%63p", "/[secret]/mcp"),
            ("/%73%33cret%2btoken%2", "/[secret]%2"),
            ("/%zz%", "/%zz%"),
        ];
        for (place_said, expected) in cases {
            let answered = headers(&[("location", place_said)]);
            assert_eq!(place(&answered, &[b"s3cret+token".to_vec()]), expected, "{place_said}");
        }
        assert_eq!(place(&HeaderMap::new(), &[]), "nowhere");
    }
}
