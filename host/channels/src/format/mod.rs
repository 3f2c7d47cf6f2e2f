//! What agents say is Markdown; platforms show other things, and only so much at once. Here is how one
//! becomes the other. Pure, and of no platform's own: a channel says how much it takes.

pub mod discord;
pub mod entities;
pub mod html;
pub mod irc;
pub mod mrkdwn;
pub mod plain;
pub mod split;

/// `text`, or as much of it as has at most so many bytes and ends with a whole character.
pub fn beginning(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// How many bytes `text` has as a string of canonical JSON in UTF-8, without its quotes.
pub fn encoded_len(text: &str) -> usize {
    let of = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    };
    text.chars().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_ends_with_a_whole_character() {
        for (text, most, expected) in
            [("äb", 0, ""), ("äb", 1, ""), ("äb", 2, "ä"), ("äb", 3, "äb"), ("äb", 9, "äb")]
        {
            assert_eq!(beginning(text, most), expected, "{most}");
        }
    }

    #[test]
    fn the_length_is_that_of_the_json() {
        for text in ["", "plain", "a\"b\\c", "line\nline\ttab\r", "\u{1}\u{8}\u{c}\u{1f}", "ä€😀"]
        {
            let json = serde_json::to_string(text).unwrap();
            assert_eq!(encoded_len(text) + 2, json.len(), "{text:?}");
        }
    }
}
