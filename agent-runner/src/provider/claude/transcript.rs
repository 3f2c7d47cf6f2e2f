//! What is read of the transcript of a conversation with Claude Code: what it answered to a message. It only grows,
//! and is large, so each turn reads what is new alone.
//!
//! The agent can write there, so all of it may be anything.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::line::PREFIX;
use crate::provider::model::plain;

/// The longest line that is looked at, in bytes.
const LINE_MAX: u64 = 16 << 20;

/// Tools of the host that have done all they do once they have answered. What the others do goes with the end of
/// the turn, and is undone where it never came.
const DONE_AT_ONCE: [&str; 2] = ["send_message", "list_destinations"];

/// Where the messages stand in the transcript that was read last, as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    /// Its device and number.
    file: Option<(u64, u64)>,
    read: u64,
    places: BTreeMap<Uuid, u64>,
}

impl Transcript {
    /// The last words with which `message` was answered in the file at `path`, as [`super::kept::Kept::answer_to`].
    pub(super) fn answer_to(&mut self, path: &Path, message: Uuid) -> Option<String> {
        let mut file = plain::open(path).ok()?;
        self.catch_up(&mut file).ok()?;
        file.seek(SeekFrom::Start(*self.places.get(&message)?)).ok()?;
        let mut lines = BufReader::new(file);
        let mut answer = None::<Answer>;
        while let Some(line) = next_line(&mut lines).ok()? {
            let Ok(entry) = serde_json::from_slice::<Entry>(&line) else { continue };
            let Some(known) = &mut answer else {
                // It stands there, unless somebody has written over it.
                let is_it = entry.kind == "user" && entry.uuid.parse() == Ok(message);
                answer = Some(is_it.then_some(Answer::None)?);
                continue;
            };
            if !known.follow(&entry) {
                break;
            }
        }
        match answer {
            Some(Answer::Last(text)) => Some(text),
            Some(Answer::None | Answer::Shared | Answer::Undone) | None => None,
        }
    }

    /// Reads what was written since the last time; all of a file that is another, or has shrunk.
    fn catch_up(&mut self, file: &mut File) -> io::Result<()> {
        let about = file.metadata()?;
        let id = Some((about.dev(), about.ino()));
        if self.file != id || about.len() < self.read {
            *self = Self { file: id, ..Self::default() };
        }
        file.seek(SeekFrom::Start(self.read))?;
        let mut lines = BufReader::new(file);
        while let Some(line) = next_line(&mut lines)? {
            if line.last() != Some(&b'\n') && (line.len() as u64) < LINE_MAX {
                break; // its end is not written yet
            }
            if let Ok(Head { kind, uuid }) = serde_json::from_slice(&line)
                && kind == "user"
                && let Ok(uuid) = uuid.parse()
            {
                self.places.insert(uuid, self.read);
            }
            self.read += line.len() as u64;
        }
        Ok(())
    }
}

/// The next line with its end, or a piece of one that is too long; `None` at the end.
fn next_line(lines: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = lines.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)?;
    Ok((read > 0).then_some(line))
}

/// What is looked at of every line.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    uuid: String,
}

/// A line of a transcript.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    uuid: String,
    is_sidechain: bool,
    is_meta: bool,
    is_api_error_message: bool,
    message: Value,
}

/// What was answered, as far as was read.
enum Answer {
    None,
    Last(String),
    /// Together with another message, which stands beside it.
    Shared,
    /// After a tool whose work was never committed: what it says of that is not so.
    Undone,
}

impl Answer {
    /// Takes in the next line. Returns whether another may change anything.
    fn follow(&mut self, entry: &Entry) -> bool {
        let content = &entry.message["content"];
        let parts = content.as_array().map(Vec::as_slice).unwrap_or_default();
        let undone = parts.iter().filter(|part| part["type"] == "tool_use").any(|part| {
            let tool = part["name"].as_str().and_then(|name| name.strip_prefix(PREFIX));
            tool.is_some_and(|tool| !DONE_AT_ONCE.contains(&tool))
        });
        if undone {
            *self = Self::Undone;
            return false;
        }
        if entry.is_sidechain || entry.is_meta {
            return true;
        }
        let is = |kind: &str| parts.iter().any(|part| part["type"] == kind);
        match entry.kind.as_str() {
            "assistant" => {
                let made_up = entry.is_api_error_message || entry.message["model"] == "<synthetic>";
                let last = entry.message["stop_reason"] == "end_turn" && !made_up;
                let mut texts = parts.iter().rev();
                let text = texts.find_map(|part| part["text"].as_str().map(str::to_owned));
                match text {
                    Some(text) if last => *self = Self::Last(text),
                    _ if is("tool_use") || made_up => *self = Self::None,
                    _ => {}
                }
                true
            }
            "user" if is("tool_result") => {
                *self = Self::None;
                true
            }
            // Another message: behind the answer it is of a later turn.
            "user" => {
                if !matches!(self, Self::Last(_)) {
                    *self = Self::Shared;
                }
                false
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn user(number: u128) -> String {
        let uuid = Uuid::from_u128(number);
        format!(r#"{{"type":"user","uuid":"{uuid}","message":{{"content":"q"}}}}"#)
    }

    fn said(text: &str, stop: &str) -> String {
        format!(
            r#"{{"type":"assistant","uuid":"x","message":{{"model":"m","stop_reason":"{stop}","content":[{{"type":"text","text":"{text}"}}]}}}}"#
        )
    }

    fn tool(name: &str) -> String {
        format!(
            r#"{{"type":"assistant","message":{{"stop_reason":"tool_use","content":[{{"type":"tool_use","name":"{name}"}}]}}}}"#
        )
    }

    const RESULT: &str =
        r#"{"type":"user","uuid":"r","message":{"content":[{"type":"tool_result"}]}}"#;

    #[test]
    fn an_answer_is_found_behind_its_message_and_only_if_it_is_one() {
        let made_up = r#"{"type":"assistant","message":{"model":"<synthetic>","stop_reason":"end_turn","content":[{"type":"text","text":"No response requested."}]}}"#;
        let failed = r#"{"type":"assistant","isApiErrorMessage":true,"message":{"stop_reason":"end_turn","content":[{"type":"text","text":"API Error"}]}}"#;
        let other = r#"{"type":"attachment","uuid":"y"}"#;
        let with = |name: &str| vec![user(1), tool(name), RESULT.into(), said("b", "end_turn")];
        let cases: [(&str, Vec<String>, Option<&str>); 11] = [
            ("answered", vec![user(1), other.into(), said("a", "end_turn")], Some("a")),
            ("not there", vec![user(2), said("a", "end_turn")], None),
            ("not yet", vec![user(1), other.into()], None),
            ("with a tool", with("Bash"), Some("b")),
            (
                "of which a later turn is another's",
                {
                    let mut lines = with("Bash");
                    lines.extend([user(2), said("c", "end_turn")]);
                    lines
                },
                Some("b"),
            ),
            ("with a message that was sent", with("mcp__twobox__send_message"), Some("b")),
            ("with a file that was never sent", with("mcp__twobox__send_file"), None),
            ("in a tool", vec![user(1), said("a", "tool_use"), tool("Bash")], None),
            ("made up", vec![user(1), made_up.into()], None),
            ("failed", vec![user(1), failed.into()], None),
            ("together", vec![user(1), user(2), said("a", "end_turn")], None),
        ];
        for (case, lines, expected) in cases {
            let dir = tempfile::tempdir().unwrap();
            let (mut transcript, path) = (Transcript::default(), dir.path().join("t.jsonl"));
            fs::write(&path, format!("{}\nno json m\n", lines.join("\n"))).unwrap();
            let message = Uuid::from_u128(1);
            assert_eq!(transcript.answer_to(&path, message).as_deref(), expected, "{case}");
        }
    }

    #[test]
    fn a_transcript_that_grows_is_read_on_and_another_from_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let (mut transcript, path) = (Transcript::default(), dir.path().join("t.jsonl"));
        let id = Uuid::from_u128;
        let (first, half) = (said("a", "end_turn"), &user(2)[..40]);
        fs::write(&path, format!("{}\n{first}\n{half}", user(1))).unwrap();
        assert_eq!(transcript.answer_to(&path, id(1)).as_deref(), Some("a"));
        assert_eq!(transcript.answer_to(&path, id(2)), None, "its line is not whole");
        let read = transcript.read;
        assert_eq!(read, (user(1).len() + first.len() + 2) as u64);
        let whole = format!("{}\n{first}\n{}\n{}\n", user(1), user(2), said("b", "end_turn"));
        fs::write(&path, &whole).unwrap();
        assert_eq!(transcript.answer_to(&path, id(2)).as_deref(), Some("b"));
        assert_eq!(transcript.answer_to(&path, id(1)).as_deref(), Some("a"));
        assert_eq!(transcript.read, whole.len() as u64);
        fs::write(&path, format!("{}\n{}\n", user(3), said("c", "end_turn"))).unwrap();
        assert_eq!(transcript.answer_to(&path, id(3)).as_deref(), Some("c"), "it has shrunk");
        assert_eq!(transcript.answer_to(&path, id(1)), None);
    }
}
