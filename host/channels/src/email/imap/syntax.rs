//! What an IMAP server says (RFC 9051 §9), as values. Pure, and bounded: a server is trusted with mail, and
//! still takes no memory that it may not.

use twobox_shared::visible;

/// The most bytes of an answer without its literals, of all of it, and how deep lists may be.
const LINE_MAX: usize = 4 << 20;
const ANSWER_MAX: usize = 48 << 20;
const DEPTH_MAX: usize = 32;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Response {
    /// What became of a command.
    Done { tag: String, status: Status },
    /// A condition that nobody asked for.
    Told(Status),
    /// What a server says besides.
    Data(Vec<Value>),
    /// It waits for more of a command.
    More,
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    /// `OK`, `NO`, `BAD`, `BYE` or `PREAUTH`.
    pub(super) word: String,
    /// What stands in brackets, in its words.
    pub(super) code: Vec<String>,
    /// The words for people.
    pub(super) text: String,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// A word.
    Atom(String),
    /// A string.
    Text(Vec<u8>),
    /// Several.
    List(Vec<Value>),
}

impl Value {
    pub(super) fn atom(&self) -> Option<&str> {
        match self {
            Self::Atom(word) => Some(word),
            Self::Text(_) | Self::List(_) => None,
        }
    }

    pub(super) fn number(&self) -> Option<u32> {
        self.atom()?.parse().ok()
    }

    pub(super) fn is(&self, word: &str) -> bool {
        self.atom().is_some_and(|it| it.eq_ignore_ascii_case(word))
    }
}

/// How long the answer is that `bytes` begins with, if all of it is there.
///
/// # Errors
/// That it is longer than it may be.
pub(super) fn complete(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    let mut outside = 0;
    loop {
        let Some(end) = bytes[at..].iter().position(|byte| *byte == b'\n') else {
            return match outside + bytes.len() - at > LINE_MAX {
                true => Err("it says more at once than it may".to_owned()),
                false => Ok(None),
            };
        };
        outside += end;
        let line = &bytes[at..at + end];
        at += end + 1;
        match literal(line) {
            Some(length) if length > ANSWER_MAX || at + length > ANSWER_MAX => {
                return Err("it says more at once than it may".to_owned());
            }
            Some(_) if outside > LINE_MAX => {
                return Err("it says more at once than it may".to_owned());
            }
            Some(length) if bytes.len() < at + length => return Ok(None),
            Some(length) => at += length,
            None => return Ok(Some(at)),
        }
    }
}

/// How many bytes follow `line` as they are, if some do.
fn literal(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"\r").unwrap_or(line).strip_suffix(b"}")?;
    let open = line.iter().rposition(|byte| *byte == b'{')?;
    let digits = &line[open + 1..];
    let digits = digits.strip_suffix(b"+").unwrap_or(digits);
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Reads one answer that is complete.
///
/// # Errors
/// That it is none.
pub(super) fn read(bytes: &[u8]) -> Result<Response, String> {
    let end = bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len());
    let (tag, rest) = bytes.split_at(end);
    let rest = rest.get(1..).unwrap_or_default();
    let strange = || {
        format!("it answers strangely: {}", visible::line(&lossy(&bytes[..bytes.len().min(80)])))
    };
    match tag {
        b"*" => match status(rest) {
            Some(status) => Ok(Response::Told(status)),
            None => {
                let mut reader = Reader { bytes: rest, at: 0 };
                reader.values(0).map(Response::Data).ok_or_else(strange)
            }
        },
        tag if tag.first() == Some(&b'+') => Ok(Response::More),
        tag => {
            let status = status(rest).ok_or_else(strange)?;
            Ok(Response::Done { tag: lossy(tag), status })
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The condition that `bytes` is, if it is one.
fn status(bytes: &[u8]) -> Option<Status> {
    let text = lossy(bytes);
    let text = text.trim_end();
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let word = word.to_ascii_uppercase();
    if !["OK", "NO", "BAD", "BYE", "PREAUTH"].contains(&word.as_str()) {
        return None;
    }
    let inner = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (code, text) = match inner {
        Some((code, text)) => (code.split_whitespace().map(str::to_owned).collect(), text.trim()),
        None => (Vec::new(), rest),
    };
    Some(Status { word, code, text: text.to_owned() })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// The values up to the end of the list or of the answer.
    fn values(&mut self, depth: usize) -> Option<Vec<Value>> {
        let mut values = Vec::new();
        loop {
            match self.bytes.get(self.at) {
                Some(b' ') => self.at += 1,
                Some(b')') if depth > 0 => {
                    self.at += 1;
                    return Some(values);
                }
                Some(b'\r' | b'\n') | None => return (depth == 0).then_some(values),
                Some(b'(') => {
                    if depth >= DEPTH_MAX {
                        return None;
                    }
                    self.at += 1;
                    values.push(Value::List(self.values(depth + 1)?));
                }
                Some(b'"') => values.push(Value::Text(self.quoted()?)),
                Some(b'{') => values.push(Value::Text(self.literal()?)),
                Some(_) => values.push(Value::Atom(self.word()?)),
            }
        }
    }

    fn quoted(&mut self) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        self.at += 1;
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => return Some(text),
                b'\\' => {
                    text.push(*self.bytes.get(self.at)?);
                    self.at += 1;
                }
                b'\r' | b'\n' => return None,
                byte => text.push(byte),
            }
        }
    }

    fn literal(&mut self) -> Option<Vec<u8>> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let length = literal(&rest[..end])?;
        let begin = self.at + end + 1;
        let text = self.bytes.get(begin..begin.checked_add(length)?)?;
        self.at = begin + length;
        Some(text.to_vec())
    }

    /// A word. What stands in brackets belongs to it, with its spaces and parentheses.
    fn word(&mut self) -> Option<String> {
        let begin = self.at;
        let mut brackets = 0_usize;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'\r' | b'\n' => break,
                b'[' => brackets += 1,
                b']' => brackets = brackets.saturating_sub(1),
                b' ' | b'(' | b')' | b'"' if brackets == 0 => break,
                _ => {}
            }
            self.at += 1;
        }
        (self.at > begin).then(|| lossy(&self.bytes[begin..self.at]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> Vec<Value> {
        assert_eq!(complete(text.as_bytes()), Ok(Some(text.len())), "{text}");
        match read(text.as_bytes()) {
            Ok(Response::Data(values)) => values,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn what_a_server_says_is_read() {
        let text = "* 3 FETCH (UID 7 FLAGS (\\Seen) INTERNALDATE \"30-Nov\" BODY[HEADER.FIELDS (FROM DATE)]<0> {6}\r\na)\r\n\"b RFC822.SIZE 9)\r\n";
        let values = data(text);
        assert_eq!((values[0].number(), values[1].is("fetch")), (Some(3), true));
        let Value::List(list) = &values[2] else { panic!("{values:?}") };
        assert_eq!(list[0..2], [Value::Atom("UID".into()), Value::Atom("7".into())]);
        assert_eq!(list[6].atom(), Some("BODY[HEADER.FIELDS (FROM DATE)]<0>"));
        assert_eq!(list[7], Value::Text(b"a)\r\n\"b".to_vec()));
        assert_eq!(list[9].number(), Some(9));
        assert_eq!(data("* SEARCH 2 5 7\r\n").len(), 4);
        assert_eq!(data("* SEARCH\r\n").len(), 1);
        assert_eq!(data("* LIST () \"/\" \"a \\\"b\"\r\n")[3], Value::Text(b"a \"b".to_vec()));
        let told = read(b"* OK [UIDVALIDITY 17] fine\r\n").unwrap();
        let Response::Told(status) = told else { panic!("{told:?}") };
        assert_eq!(status.code, ["UIDVALIDITY", "17"]);
        let done = read(b"A1 NO [AUTHENTICATIONFAILED] no\r\n").unwrap();
        let Response::Done { tag, status } = done else { panic!("{done:?}") };
        assert_eq!((tag.as_str(), status.word.as_str(), status.text.as_str()), ("A1", "NO", "no"));
        assert_eq!(read(b"+ idling\r\n"), Ok(Response::More));
    }

    #[test]
    fn an_answer_is_read_when_all_of_it_is_there_and_not_when_it_is_too_long() {
        let text = b"* 1 FETCH (BODY[] {3}\r\nabc)\r\n* next";
        for length in 0..30 {
            let expected = (length >= 29).then_some(29);
            assert_eq!(complete(&text[..length]), Ok(expected), "{length}");
        }
        assert!(complete(b"* 1 FETCH (BODY[] {99999999999}\r\n").is_err());
        assert!(complete(&vec![b'a'; LINE_MAX + 1]).is_err());
        let many = "* {1}\r\na".repeat(LINE_MAX / 3);
        assert!(complete(many.as_bytes()).is_err());
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let deep = format!("* {}\r\n", "(".repeat(1000));
        for strange in
            ["HTTP/1.1 400 Bad\r\n", "* (\r\n", "* \"a\r\n", "* )\r\n", deep.as_str(), "\r\n"]
        {
            assert!(read(strange.as_bytes()).is_err(), "{strange}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_breaks_it(text in "(\\* |A1 |\\(|\\)|\\{3\\}\r\n|\"|\\[|\\]|a|\r\n|\\\\| ){0,40}") {
            drop(read(text.as_bytes()));
            if let Ok(Some(length)) = complete(text.as_bytes()) {
                proptest::prop_assert!(length <= text.len());
                drop(read(&text.as_bytes()[..length]));
            }
        }
    }
}
