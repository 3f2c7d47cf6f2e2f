//! What an upstream says when it refuses, without the key that it was asked with: some repeat it.

use std::borrow::Cow;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HeaderMap};
use tokio::time::timeout;

use crate::tap::PATIENCE;

/// The longest refusal that is passed on, in bytes.
const REFUSAL_MAX: usize = 1 << 20;

/// Stands in the key's place.
const INSTEAD: &[u8] = b"[key]";

/// Reads a refusal to its end, and takes out of it the credential that stands in `asked`. One that is too
/// long, too slow or breaks off is passed on as nothing: its status says enough.
pub(crate) async fn without_key(refusal: Incoming, asked: &HeaderMap) -> Bytes {
    let whole = timeout(PATIENCE.silence, Limited::new(refusal, REFUSAL_MAX).collect()).await;
    let Ok(Ok(whole)) = whole else { return Bytes::new() };
    let whole = whole.to_bytes();
    let header = asked.get("x-api-key").or_else(|| asked.get(AUTHORIZATION));
    let Some(header) = header.map(|value| value.as_bytes()) else { return whole };
    match without(&whole, header.strip_prefix(b"Bearer ").unwrap_or(header)) {
        Cow::Borrowed(_) => whole,
        Cow::Owned(said) => said.into(),
    }
}

/// `text` with [`INSTEAD`] in place of each `key`.
fn without<'t>(text: &'t [u8], key: &[u8]) -> Cow<'t, [u8]> {
    let find = |from: usize| {
        let found = text[from..].windows(key.len().max(1)).position(|part| part == key);
        found.map(|at| from + at)
    };
    let Some(mut next) = find(0) else { return Cow::Borrowed(text) };
    let (mut said, mut from) = (Vec::with_capacity(text.len()), 0);
    loop {
        said.extend_from_slice(&text[from..next]);
        said.extend_from_slice(INSTEAD);
        from = next + key.len();
        match find(from) {
            Some(at) => next = at,
            None => break,
        }
    }
    said.extend_from_slice(&text[from..]);
    Cow::Owned(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_out_wherever_it_stands() {
        let cases = [
            ("", "sk-1", ""),
            ("no key", "sk-1", "no key"),
            ("sk-1", "sk-1", "[key]"),
            ("a sk-1, sk-1sk-1.", "sk-1", "a [key], [key][key]."),
            ("sk-", "sk-1", "sk-"),
            ("anything", "", "anything"),
        ];
        for (text, key, expected) in cases {
            let said = without(text.as_bytes(), key.as_bytes());
            assert_eq!(std::str::from_utf8(&said).unwrap(), expected, "{text:?} {key:?}");
        }
    }
}
