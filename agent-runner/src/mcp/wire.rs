//! What `agent-runner mcp` and the desk of its runner say to each other: a line with a question and a line
//! with the answer, on a connection for each. Both are the same program, so this has no versions.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What is asked at the desk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Question {
    /// Which tools there are.
    Tools,
    /// To use one.
    Call {
        /// Which.
        name: String,
        /// With what.
        arguments: Map<String, Value>,
    },
}

/// What is answered there.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The tools.
    Tools(Vec<ToolText>),
    /// The tool was used.
    Done(String),
    /// It was not, or could not do it.
    Wrong(String),
}

impl Answer {
    /// What became of a call.
    pub(crate) fn of(outcome: Result<String, String>) -> Self {
        match outcome {
            Ok(text) => Self::Done(text),
            Err(why) => Self::Wrong(why),
        }
    }
}

/// A tool as MCP describes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ToolText {
    /// By which it is called.
    pub(crate) name: String,
    /// What it does.
    pub(crate) description: String,
    /// What it is given, as a JSON schema.
    pub(crate) input_schema: Value,
}

/// Does `work` with a path to `path` that is short enough for the address of a socket, by way of its folder.
///
/// # Errors
/// If its folder cannot be opened, or whatever `work` returns.
pub(crate) fn near<T>(path: &Path, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let none = || io::Error::from(io::ErrorKind::InvalidFilename);
    let (folder, name) = (path.parent().ok_or_else(none)?, path.file_name().ok_or_else(none)?);
    let folder = File::open(folder)?;
    work(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}
