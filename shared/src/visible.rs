//! Text that others wrote, made fit for people to read: what would steer a terminal, reorder a line,
//! or hide in it, is shown as an escape.
//!
//! Escaped are the control characters (C0, DEL and C1), the marks and controls of writing direction,
//! the separators of lines and paragraphs, and what has no width and no place in a text: soft
//! hyphens, byte order marks, annotations and tags. What joins letters and emoji stays.

use std::fmt::Write;

/// Whether `c` is escaped wherever people read, line breaks and tabs aside.
pub const fn is_hidden(c: char) -> bool {
    matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' // C0, DEL, C1
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
        | '\u{2028}' | '\u{2029}' // end a line for some programs
        | '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` in one line: line breaks and tabs are escaped as well, as `\n`, `\r` and `\t`.
pub fn line(text: &str) -> String {
    escaped(text, |_| false)
}

/// `text` with its line breaks and tabs. A carriage return before a line break is dropped.
pub fn block(text: &str) -> String {
    escaped(&text.replace("\r\n", "\n"), |c| matches!(c, '\n' | '\t'))
}

/// As [`block`], with `mark` before every line but the first: nobody's line break begins a line that
/// looks like one of ours.
pub fn marked(text: &str, mark: &str) -> String {
    block(text).replace('\n', &format!("\n{mark}"))
}

/// JSON as serialised, with everything escaped in its strings that [`is_hidden`]: the same value. A
/// serialiser escapes C0 by itself, and outside of strings JSON has nothing but white space of these.
pub fn json(serialised: &str) -> String {
    let mut text = String::with_capacity(serialised.len());
    for c in serialised.chars() {
        match c >= '\u{7f}' && is_hidden(c) {
            true => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                write!(text, "\\u{unit:04x}").expect("a String takes everything");
            }),
            false => text.push(c),
        }
    }
    text
}

fn escaped(text: &str, kept: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if !is_hidden(c) || kept(c) => out.push(c),
            c => out.extend(c.escape_default()), // \n, \r, \t, or \u{..}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_reorders_or_hides_is_shown_as_an_escape() {
        let cases = [
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{7f}\u{0}", "\\u{7f}\\u{0}"),
            ("a\u{202e}b\u{2066}c", "a\\u{202e}b\\u{2066}c"),
            ("\u{200e}\u{200f}\u{61c}", "\\u{200e}\\u{200f}\\u{61c}"),
            ("a\u{2028}b\u{2029}", "a\\u{2028}b\\u{2029}"),
            ("a\u{200b}\u{feff}\u{ad}b", "a\\u{200b}\\u{feff}\\u{ad}b"),
            ("\u{e0041}", "\\u{e0041}"),
            ("grüße, 你好, שלום, 👩‍💻", "grüße, 你好, שלום, 👩‍💻"),
            ("a\tb\rc", "a\\tb\\rc"),
            ("a\nb", "a\\nb"),
        ];
        for (given, shown) in cases {
            assert_eq!(line(given), shown, "{given:?}");
            assert_eq!(line(shown), shown, "escaping twice does no more");
        }
        assert_eq!(block("a\r\nb\tc\rd"), "a\nb\tc\\rd");
        assert_eq!(marked("a\nb\n", "| "), "a\n| b\n| ");
    }

    #[test]
    fn json_says_the_same_in_harmless_characters() {
        let mut all: String = (0..0x3000).filter_map(char::from_u32).collect();
        all.push_str("\u{feff}\u{e0041}\"\\👩‍💻");
        let value = serde_json::json!({ "text": all, "a\u{202e}": [1] });
        for serialised in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let shown = json(&serialised);
            assert!(!shown.chars().any(|c| is_hidden(c) && c != '\n'), "{shown}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
    }
}
