//! Paths of the client-server API, and transaction ids.

use std::fmt::Write;

/// `text` as one step of a path.
pub(super) fn step(text: &str) -> String {
    escaped(text, '%', |byte| byte.is_ascii_alphanumeric() || b"-._~!$:@".contains(&byte))
}

/// `text` as a value of a query.
pub(super) fn value(text: &str) -> String {
    escaped(text, '%', |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

/// The transaction id of a part of the message with this key. It is another one for each part and key, and has
/// no letter that a proxy before the homeserver may want to read otherwise, above all no slash.
pub(super) fn transaction(key: &str, part: &str) -> String {
    let whole = format!("{key}/{part}");
    escaped(&whole, '~', |byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte))
}

fn escaped(text: &str, mark: char, plain: impl Fn(u8) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match plain(byte) {
            true => escaped.push(char::from(byte)),
            false => write!(escaped, "{mark}{byte:02X}").expect("a string takes all"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_path_is_escaped() {
        assert_eq!(step("!a:x.org/é?"), "!a:x.org%2F%C3%A9%3F");
        assert_eq!(value("{\"a\":1}&"), "%7B%22a%22%3A1%7D%26");
    }

    #[test]
    fn no_two_parts_have_one_transaction_id() {
        let all = [
            ("i:s:row", "1"),
            ("i:s:row", "11"),
            ("i:s:row1", "1"),
            ("i:s:notice/x", "1"),
            ("i:s:notice~2Fx", "1"),
            ("i:s:notice%2Fx", "1"),
            ("i:s:ro w", "1"),
        ];
        let ids: std::collections::BTreeSet<_> =
            all.iter().map(|(key, part)| transaction(key, part)).collect();
        assert_eq!(ids.len(), all.len());
        assert_eq!(transaction("i:s:row", "1"), "i:s:row~2F1");
        assert!(ids.iter().all(|id| !id.contains(['/', '%', ' '])), "{ids:?}");
    }
}
