//! How large what others say may be: one table, for every door. Each door checks before it keeps
//! anything, and an error names the field, the limit and the length that was given. The table is in
//! `docs/configuration.md`, and a test compares them.
//!
//! Not here: what a running container may do (the host's `session::limits`), and what is merely shown
//! or logged of a long text.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The most of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// What people call it.
    pub what: &'static str,
    /// So many.
    pub most: usize,
    /// Of these.
    pub unit: &'static str,
}

/// More than is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} has {given} {}, at most {} are taken", bound.unit, bound.most)]
pub struct TooMuch {
    /// Which field.
    pub field: String,
    /// What may be.
    pub bound: Bound,
    /// What was given.
    pub given: usize,
}

const fn bytes(what: &'static str, most: usize) -> Bound {
    Bound { what, most, unit: "bytes" }
}

/// Names that a channel gives: its kind, a chat, a thread, a sender, a place's name.
pub const NAME: Bound = bytes("a name of a channel, chat, thread, sender or place", 255);
/// The name of an agent, which is a folder's.
pub const AGENT_NAME: Bound = bytes("an agent's name", 64);
/// The name of a schedule.
pub const SCHEDULE_NAME: Bound = bytes("a schedule's name", 64);
/// How often a schedule fires: a cron expression, a time, an interval.
pub const CADENCE: Bound = bytes("how often a schedule or task fires", 256);
/// The name of a time zone.
pub const TIME_ZONE: Bound = bytes("the name of a time zone", 64);
/// What a schedule says.
pub const PROMPT: Bound = bytes("a schedule's prompt", 64 << 10);
/// What a task of an agent says.
pub const TASK_PROMPT: Bound = bytes("the prompt of an agent's task", 8 << 10);
/// A request of an agent.
pub const REQUEST: Bound = bytes("a request of an agent to the host", 64 << 10);
/// What an agent asks a person, and what there is to choose from.
pub const QUESTION: Bound = bytes("a question of an agent to a person, and its choices", 2 << 10);
/// The name of a tool that an agent asks for.
pub const TOOL: Bound = bytes("the name of a tool that an agent asks to use", 128);
/// What a tool is given, where a person is asked about it: as much as somebody may be expected to read.
pub const TOOL_ARGUMENTS: Bound = bytes("the arguments that a person is asked about", 8 << 10);
/// The id of a message, and of a row of the outbox.
pub const MESSAGE_ID: Bound = bytes("the id of a message", 255);
/// A message, as JSON.
pub const MESSAGE: Bound = bytes("a message, as JSON", 1 << 20);
/// A line of the socket.
pub const SOCKET_LINE: Bound = bytes("a line on the socket", 2 << 20);
/// What one client listens to.
pub const LISTENS: Bound =
    Bound { what: "what one connection listens to", most: 1024, unit: "places" };
/// The key of a letter that was shown.
pub const OUTBOUND_KEY: Bound = bytes("the key of a message that was shown", 1024);
/// The body of a request to the API.
pub const API_BODY: Bound = bytes("the body of a request to the HTTP API", 1 << 20);
/// A configuration file.
pub const CONFIG_FILE: Bound =
    bytes("the file `twobox.toml`, or the configuration of an agent", 1 << 20);
/// An override in the environment.
pub const ENVIRONMENT: Bound =
    bytes("a value of a `TWOBOX_` variable, or of an agent's environment", 4096);

/// What an agent's environment says.
pub const AGENT_VARIABLES: Bound =
    Bound { what: "the environment of an agent", most: 100, unit: "variables" };
/// What an agent is given besides its own folders.
pub const AGENT_MOUNTS: Bound = Bound { what: "what an agent is given", most: 8, unit: "folders" };

/// All of them, in the order in which people read them.
pub const ALL: &[Bound] = &[
    NAME,
    AGENT_NAME,
    SCHEDULE_NAME,
    CADENCE,
    TIME_ZONE,
    PROMPT,
    TASK_PROMPT,
    REQUEST,
    QUESTION,
    TOOL,
    TOOL_ARGUMENTS,
    MESSAGE_ID,
    MESSAGE,
    SOCKET_LINE,
    LISTENS,
    OUTBOUND_KEY,
    API_BODY,
    CONFIG_FILE,
    ENVIRONMENT,
    AGENT_VARIABLES,
    AGENT_MOUNTS,
];

impl Bound {
    /// Checks a length.
    ///
    /// # Errors
    /// [`TooMuch`] of `field`.
    pub fn check(self, field: &str, given: usize) -> Result<(), TooMuch> {
        match given <= self.most {
            true => Ok(()),
            false => Err(TooMuch { field: field.to_owned(), bound: self, given }),
        }
    }

    /// Reads a text file of at most so many bytes; of a larger one no more is read than shows that.
    ///
    /// # Errors
    /// Those of the file; [`io::ErrorKind::FileTooLarge`] with a [`TooMuch`].
    pub fn read_to_string(self, path: &Path) -> io::Result<String> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut text = String::new();
        let most = u64::try_from(self.most).unwrap_or(u64::MAX);
        // What is not a plain file may have more than its length.
        let read = file.take(most.saturating_add(1)).read_to_string(&mut text);
        let given = usize::try_from(length).unwrap_or(usize::MAX).max(text.len());
        self.check("the file", given)
            .map_err(|error| io::Error::new(io::ErrorKind::FileTooLarge, error))?;
        read?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_takes_as_much_as_it_says_and_names_what_is_more() {
        for bound in ALL {
            assert_eq!(bound.check("x", bound.most), Ok(()), "{bound:?}");
            let error = bound.check("x", bound.most + 1).unwrap_err().to_string();
            let told =
                [&bound.most.to_string(), &(bound.most + 1).to_string(), "x has", bound.unit];
            assert!(told.iter().all(|part| error.contains(part)), "{error}");
        }
    }

    #[test]
    fn a_huge_file_is_refused_without_being_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("huge");
        File::create(&path).unwrap().set_len(1 << 30).unwrap();
        let error = CONFIG_FILE.read_to_string(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(error.to_string().contains("has 1073741824 bytes, at most 1048576"), "{error}");
        std::fs::write(&path, "x".repeat(CONFIG_FILE.most)).unwrap();
        assert_eq!(CONFIG_FILE.read_to_string(&path).unwrap().len(), CONFIG_FILE.most);
        let endless = CONFIG_FILE.read_to_string(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(endless.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn the_page_names_them_all() {
        let page = include_str!("../../docs/configuration.md");
        let rows: Vec<String> =
            ALL.iter().map(|it| format!("| {} | {} {} |", it.what, it.most, it.unit)).collect();
        let table = format!("\n| what | at most |\n|---|---|\n{}\n", rows.join("\n"));
        assert!(page.contains(&table), "docs/configuration.md needs this table:\n{table}");
    }
}
