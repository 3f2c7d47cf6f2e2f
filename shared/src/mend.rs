//! JSON that others write almost right. A program that cuts a text in the middle of an emoji, or copies one
//! that somebody else has cut, writes half of a pair of surrogates; one that writes "UTF-8 with a
//! signature" begins with a byte order mark. Neither is JSON, and what is meant is clear.

use std::borrow::Cow;

/// The mark that some programs begin a text with.
const MARK: char = '\u{feff}';

/// `json` without a byte order mark at its beginning, and with U+FFFD for each half of a surrogate pair.
/// Borrowed if nothing was to be mended.
pub fn mended(json: &str) -> Cow<'_, str> {
    let bare = json.trim_start_matches(MARK);
    match mend_halves(bare) {
        Some(mended) => Cow::Owned(mended),
        None => Cow::Borrowed(bare),
    }
}

/// The code unit of an escape `\uXXXX` at the beginning of `text`.
fn escape(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    // A sign is no digit, but `from_str_radix` takes one.
    digits
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then(|| u16::from_str_radix(digits, 16).ok())?
}

/// How long an escape of a code unit is.
const ESCAPE: usize = 6;

fn mend_halves(json: &str) -> Option<String> {
    let (mut mended, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(found) = json[at..].find('\\') {
        at += found;
        let rest = &json[at..];
        let (is_half, length) = match escape(rest) {
            Some(0xD800..=0xDBFF) => match escape(&rest[ESCAPE..]) {
                Some(0xDC00..=0xDFFF) => (false, 2 * ESCAPE),
                _ => (true, ESCAPE),
            },
            Some(0xDC00..=0xDFFF) => (true, ESCAPE),
            Some(_) => (false, ESCAPE),
            // Any other escape: what follows the backslash is part of it, a backslash for example.
            None => (false, 1 + rest[1..].chars().next().map_or(0, char::len_utf8)),
        };
        if is_half {
            mended.push_str(&json[copied..at]);
            mended.push_str("\\ufffd");
            copied = at + length;
        }
        at += length;
    }
    (copied > 0).then(|| mended + &json[copied..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_pairs_and_marks_are_mended_and_nothing_else() {
        let whole = [
            r#"{"text":"a"}"#,
            r#"{"text":"\ud83d\ude00"}"#,
            r#"{"text":"\\ud83d"}"#,
            r#"{"text":"\u00e9\n\"\\"}"#,
            r#"{"text":"\u12"}"#,
            "\\",
            "",
        ];
        for json in whole {
            assert!(matches!(mended(json), Cow::Borrowed(same) if same == json), "{json}");
        }
        let cases = [
            (r#"["\ud83d"]"#, "\u{fffd}"),
            (r#"["a\ud83d b"]"#, "a\u{fffd} b"),
            (r#"["\ude00x"]"#, "\u{fffd}x"),
            (r#"["\ud83d\ud83d\ude00"]"#, "\u{fffd}\u{1f600}"),
            (r#"["\ud83d\n"]"#, "\u{fffd}\n"),
            (r#"["\\\ud83d"]"#, "\\\u{fffd}"),
            (r#"["\uD83D\u0041"]"#, "\u{fffd}A"),
            ("\u{feff}[\"x\"]", "x"),
            ("\u{feff}[\"\\ud83d\"]", "\u{fffd}"),
        ];
        for (json, text) in cases {
            assert!(serde_json::from_str::<[String; 1]>(json).is_err(), "{json}");
            let [read] = serde_json::from_str::<[String; 1]>(&mended(json)).unwrap();
            assert_eq!(read, text, "{json}");
        }
    }
}
