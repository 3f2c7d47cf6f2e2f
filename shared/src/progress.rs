//! The progress file: what a turn is at, written by the runner for whoever looks on, and read by the host like
//! everything that a container wrote. It is no message, and nothing depends on it.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use crate::content::shorten;
use crate::ids::MessageId;

/// The most bytes of text that are shown: of what is longer, the end.
pub const TEXT_MAX: usize = 8 << 10;

/// The most bytes of a file that are read. In JSON, a byte of text may take six.
const FILE_MAX: u64 = 64 << 10;

/// How a tool's name begins that stands for a wait: what is behind it is what a person is asked about.
pub const WAITING: &str = "waiting for a person: ";

/// How many characters of a tool's name are shown.
const TOOL_MAX: usize = 80;

/// What a turn is at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The newest message that it answers.
    pub message: MessageId,
    /// Which attempt.
    pub attempt: i64,
    /// What it does.
    pub state: State,
    /// With which tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// What is written so far of an answer that does not count yet.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Whether its beginning is left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// What a turn does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits for a model.
    Thinking,
    /// It uses a tool.
    Tool,
    /// An answer is written.
    Writing,
}

impl Progress {
    /// Of a turn of which nothing is known but that it goes on.
    pub fn thinking(message: MessageId, attempt: i64) -> Self {
        let (tool, text) = (None, String::new());
        Self { message, attempt, state: State::Thinking, tool, text, cut: false }
    }

    /// The file's content.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("text and numbers always serialise")
    }

    /// What `bytes` say, within bounds; `None` if that is nothing.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut progress: Self = serde_json::from_slice(bytes).ok()?;
        progress.tool = progress.tool.map(|tool| shorten(&tool, TOOL_MAX));
        if progress.text.len() > TEXT_MAX {
            return None; // no honest runner writes it
        }
        Some(progress)
    }

    /// What the file at `path` says, in a folder that a container writes; `None` if there is none, or it is
    /// no ordinary small file.
    pub fn read_untrusted(path: &Path) -> Option<Self> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).ok()?;
        let meta = file.metadata().ok()?;
        if !meta.is_file() || meta.nlink() != 1 || meta.len() > FILE_MAX {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(FILE_MAX).read_to_end(&mut bytes).ok()?;
        Self::parse(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_a_small_ordinary_file_with_all_that_is_needed_says_anything() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("progress");
        let good = Progress {
            tool: Some("bash".to_owned()),
            state: State::Tool,
            ..Progress::thinking(MessageId::parse("m").unwrap(), 2)
        };
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Progress::read_untrusted(&path)
        };
        assert_eq!(read(good.to_json().as_bytes()), Some(good.clone()));
        let long = Progress { text: "x".repeat(TEXT_MAX + 1), ..good.clone() }.to_json();
        let huge = format!("{}{}", good.to_json(), " ".repeat(FILE_MAX as usize));
        let torn = &good.to_json()[..20];
        let cases = [
            ("torn", torn.as_bytes()),
            ("empty", b""),
            ("no text", &[0xff, 0xfe]),
            ("a path for an id", br#"{"message":"../m","attempt":0,"state":"tool"}"#),
            ("an unknown state", br#"{"message":"m","attempt":0,"state":"dancing"}"#),
            ("too much text", long.as_bytes()),
            ("too large", huge.as_bytes()),
        ];
        for (case, bytes) in cases {
            assert_eq!(read(bytes), None, "{case}");
        }
        std::fs::write(&path, good.to_json()).unwrap();
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(Progress::read_untrusted(&link), None, "a link");
        std::fs::hard_link(&path, dir.path().join("second")).unwrap();
        assert_eq!(Progress::read_untrusted(&path), None, "two names");
        assert_eq!(Progress::read_untrusted(dir.path()), None, "a folder");
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(Progress::read_untrusted(&pipe), None, "a pipe, which nobody waits for");
    }
}
