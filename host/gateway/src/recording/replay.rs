//! A recording, from which requests are answered in place of the models that answered then.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use twobox_system::lock::lock;

use super::{Digest, FILE_MAX, Line, opened_to_read};
use crate::refusal::{Refusal, Why};

/// Why a recording cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error("could not read the recording {}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A line is none of a recording.
    #[error("{}, line {line}: {source}", path.display())]
    Malformed {
        /// Where.
        path: PathBuf,
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// There is nothing in it.
    #[error("{} has no answer in it", path.display())]
    Empty {
        /// Where.
        path: PathBuf,
    },
}

/// A recording.
#[derive(Debug)]
pub struct Replay {
    lines: Vec<Line>,
    /// How often each request was made by now.
    made: Mutex<HashMap<String, usize>>,
}

/// What was answered then.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) content_type: String,
    pub(crate) body: String,
}

impl Replay {
    /// Reads the recording in `path`. Blocks.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn read(path: &Path) -> Result<Self, ReplayError> {
        let failed = |source| ReplayError::Io { path: path.to_owned(), source };
        let mut file = BufReader::new(opened_to_read(path).map_err(failed)?.take(FILE_MAX));
        let (mut lines, mut line) = (Vec::new(), Vec::new());
        while file.read_until(b'\n', &mut line).map_err(failed)? > 0 {
            match serde_json::from_slice(&line) {
                Ok(line) => lines.push(line),
                // The last one, of a host that was killed while it wrote, or that writes yet.
                Err(_) if !line.ends_with(b"\n") && file.get_ref().limit() > 0 => {}
                Err(source) => {
                    let (path, line) = (path.to_owned(), lines.len() + 1);
                    return Err(ReplayError::Malformed { path, line, source });
                }
            }
            line.clear();
        }
        match lines.is_empty() {
            true => Err(ReplayError::Empty { path: path.to_owned() }),
            false => Ok(Self { lines, made: Mutex::default() }),
        }
    }

    /// What was answered to the request with `body`. Where the same was asked more than once, the answers come in
    /// their order, and the last one again and again.
    ///
    /// # Errors
    /// [`Why::NotRecorded`], with what differs.
    pub(crate) fn answer(&self, body: &[u8]) -> Result<Answered, Refusal> {
        let refused = |detail: String| Refusal::new(Why::NotRecorded, detail);
        let asked = Digest::of(body)
            .map_err(|error| refused(format!("the body is no request: {error}")))?;
        let same: Vec<&Line> = self.lines.iter().filter(|line| line.request == asked).collect();
        let Some(last) = same.len().checked_sub(1) else {
            // Of several that are as near the last, which says most.
            let near = self.lines.iter().max_by_key(|line| asked.alike(&line.request));
            let differs = near.map(|line| asked.differs_from(&line.request));
            return Err(refused(format!(
                "no request like this one was recorded; from the nearest of {} it differs in this: {}",
                self.lines.len(),
                differs.unwrap_or_default()
            )));
        };
        let key = serde_json::to_string(&asked).unwrap_or_default();
        let mut made = lock(&self.made);
        let count = made.entry(key).or_default();
        let line = same[last.min(*count)];
        *count += 1;
        Ok(Answered { content_type: line.content_type.clone(), body: line.answer.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_shared::time::UnixMillis;

    fn body(said: &str) -> String {
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{said}"}}]}}"#)
    }

    fn line(said: &str, answer: &str) -> String {
        let line = Line {
            at: UnixMillis(1),
            upstream: "up".to_owned(),
            request: Digest::of(body(said).as_bytes()).unwrap(),
            content_type: "application/json".to_owned(),
            answer: answer.to_owned(),
        };
        serde_json::to_string(&line).unwrap() + "\n"
    }

    fn replay(text: &str) -> Result<Replay, ReplayError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Replay::read(file.path())
    }

    #[test]
    fn a_request_is_answered_as_it_was_and_another_one_says_what_differs() {
        let replay = replay(&(line("a", "1") + &line("b", "2") + &line("a", "3"))).unwrap();
        let answer = |said: &str| replay.answer(body(said).as_bytes()).map(|it| it.body);
        let answers = ["a", "b", "a", "b", "a"].map(|said| answer(said).unwrap());
        assert_eq!(answers, ["1", "2", "3", "2", "3"]);
        let refusal = answer("c").unwrap_err();
        assert_eq!(refusal.why, Why::NotRecorded);
        assert!(refusal.detail.contains("messages[0] (user) is another"), "{}", refusal.detail);
    }

    #[test]
    fn what_is_no_recording_is_told_by_its_line() {
        let error = |text: &str| replay(text).unwrap_err().to_string();
        assert!(error("").contains("no answer in it"));
        assert!(error(&(line("a", "1") + "{}\n")).contains("line 2: missing field"));
        let missing = Replay::read(Path::new("/nowhere")).unwrap_err();
        assert!(matches!(missing, ReplayError::Io { .. }));
    }
}
