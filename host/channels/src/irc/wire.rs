//! A line as it is on the wire: read, whatever it is, and written, so that nobody's words are another command. Pure.
//!
//! Source: <https://modern.ircdocs.horse/#messages>, <https://ircv3.net/specs/extensions/message-tags>.

use std::borrow::Cow;

/// The most bytes of a line that is sent, without its tags and without the two that end it. Some servers close the
/// connection over one more.
pub(super) const LINE_MAX: usize = 510;

/// How many parameters a command has.
const PARAMS_MAX: usize = 15;

/// A line of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message {
    tags: Vec<(String, String)>,
    /// Who it is from: a server's name, or `nick!user@host`.
    pub(super) source: String,
    /// A word, or a number of three digits.
    pub(super) command: String,
    pub(super) params: Vec<String>,
}

impl Message {
    /// Reads a line without its end. Nothing comes of one that has no command.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let line = String::from_utf8_lossy(line);
        let mut rest = line.trim_end_matches(['\r', '\n']).trim_start_matches(' ');
        let mut message = Self::default();
        if let Some(tagged) = rest.strip_prefix('@') {
            let (tags, after) = word(tagged);
            message.tags = tags.split(';').filter(|tag| !tag.is_empty()).map(tag).collect();
            rest = after;
        }
        if let Some(sourced) = rest.strip_prefix(':') {
            let (source, after) = word(sourced);
            source.clone_into(&mut message.source);
            rest = after;
        }
        let (command, mut rest) = word(rest);
        message.command = command.to_ascii_uppercase();
        while !rest.is_empty() {
            if let Some(last) = rest.strip_prefix(':').or_else(|| {
                let is_last = message.params.len() + 1 == PARAMS_MAX;
                is_last.then_some(rest)
            }) {
                message.params.push(last.to_owned());
                break;
            }
            let (param, after) = word(rest);
            message.params.push(param.to_owned());
            rest = after;
        }
        (!message.command.is_empty()).then_some(message)
    }

    /// The value of a tag, if it is there and has one.
    pub(super) fn tag(&self, name: &str) -> Option<&str> {
        let value = self.tags.iter().rev().find(|(it, _)| it == name);
        value.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether a tag is there.
    pub(super) fn has_tag(&self, name: &str) -> bool {
        self.tags.iter().any(|(it, _)| it == name)
    }

    /// The nick of who it is from.
    pub(super) fn nick(&self) -> &str {
        self.source.split(['!', '@']).next().unwrap_or_default()
    }

    /// A parameter, by its number; empty if it is not there.
    pub(super) fn param(&self, number: usize) -> &str {
        self.params.get(number).map_or("", String::as_str)
    }

    /// The last parameter.
    pub(super) fn last(&self) -> &str {
        self.params.last().map_or("", String::as_str)
    }

    /// The number, if that is what its command is.
    pub(super) fn numeric(&self) -> Option<u16> {
        let is_number =
            self.command.len() == 3 && self.command.bytes().all(|it| it.is_ascii_digit());
        is_number.then(|| self.command.parse().ok()).flatten()
    }
}

/// The word that `text` begins with, and what comes behind it.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (word, rest.trim_start_matches(' '))
}

fn tag(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(':') => plain.push(';'),
                Some('s') => plain.push(' '),
                Some('r') => plain.push('\r'),
                Some('n') => plain.push('\n'),
                Some(c) => plain.push(c),
                None => {}
            },
            c => plain.push(c),
        }
    }
    (name.to_owned(), plain)
}

/// The line of a command, without its end; `None` where no such line can be sent: it is too long, or one of its words
/// is none. The last word may be a text with spaces.
pub(super) fn line(words: &[&str]) -> Option<String> {
    let (last, before) = words.split_last()?;
    if !before.iter().all(|word| is_word(word)) {
        return None;
    }
    let last = match is_word(last) {
        true => Cow::Borrowed(*last),
        false => Cow::Owned(format!(":{last}")),
    };
    let line = before.iter().copied().chain([last.as_ref()]).collect::<Vec<_>>().join(" ");
    (line.len() <= LINE_MAX && !line.contains(['\r', '\n', '\0'])).then_some(line)
}

/// Whether `text` can stand among others.
pub(super) fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(':') && !text.contains([' ', '\r', '\n', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whatever_it_is() {
        let read = |line: &str| Message::read(line.as_bytes());
        let message = read(
            "@time=2026-11-30T00:00:00.000Z;+x=a\\:b\\sc\\\\;y :ada!~a@h PRIVMSG #r :hi  you :)\r\n",
        );
        let message = message.unwrap();
        assert_eq!((message.nick(), message.command.as_str()), ("ada", "PRIVMSG"));
        assert_eq!(message.params, ["#r", "hi  you :)"]);
        assert_eq!(message.tag("+x"), Some("a;b c\\"));
        assert_eq!(
            (message.tag("y"), message.has_tag("y"), message.has_tag("z")),
            (None, true, false)
        );
        let cases: [(&str, &str, &[&str]); 4] = [
            ("PING x", "PING", &["x"]),
            ("ping :x y", "PING", &["x y"]),
            (":s 001 me :", "001", &["me", ""]),
            (":s  CAP  *   LS  :a", "CAP", &["*", "LS", "a"]),
        ];
        for (line, command, params) in cases {
            let read = read(line).unwrap();
            assert_eq!(
                (read.command.as_str(), read.params),
                (command, params.iter().map(|it| (*it).to_owned()).collect()),
                "{line:?}"
            );
        }
        for line in ["", ":only", "@a=b", "   "] {
            assert_eq!(read(line), None, "{line:?}");
        }
        assert_eq!(Message::read(b":s PRIVMSG #r :half \xe2\x82").unwrap().last(), "half \u{fffd}");
        assert_eq!(read(":s 433 * ada :in use").unwrap().numeric(), Some(433));
        assert_eq!(read(&format!("X {}", "a ".repeat(99))).unwrap().params.len(), PARAMS_MAX);
    }

    #[test]
    fn nobodys_words_are_another_command() {
        let cases: &[(&[&str], Option<&str>)] = &[
            (&["PRIVMSG", "#r", "hi you"], Some("PRIVMSG #r :hi you")),
            (&["PRIVMSG", "#r", ":)"], Some("PRIVMSG #r ::)")),
            (&["PRIVMSG", "#r", ""], Some("PRIVMSG #r :")),
            (&["JOIN", "#r"], Some("JOIN #r")),
            (&["PRIVMSG", "#r x", "hi"], None),
            (&["PRIVMSG", "", "hi"], None),
            (&["PRIVMSG", ":x", "hi"], None),
            (&["PRIVMSG", "#r", "hi\r\nQUIT"], None),
            (&["PRIVMSG", "#r\nQUIT", "hi"], None),
            (&["PRIVMSG", "#r", "a\0"], None),
            (&[], None),
        ];
        for (words, expected) in cases {
            assert_eq!(line(words).as_deref(), *expected, "{words:?}");
        }
        let text = |length: usize| "x".repeat(length) + " y";
        assert_eq!(line(&["PRIVMSG", "#r", &text(LINE_MAX - 14)]).unwrap().len(), LINE_MAX);
        assert_eq!(line(&["PRIVMSG", "#r", &text(LINE_MAX - 13)]), None);
    }
}
