//! A conversation as it is kept: a file of JSON lines that only grows, and is cut back to what was
//! committed before anything is added to it. The continuation of a turn names the file and how much of it
//! belongs to the turns that ended well.
//!
//! What is in memory is what the next request is made of; what a compaction has replaced is in the file
//! alone.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use twobox_shared::content::shorten;
use twobox_shared::ids::{IdSource, SystemIds};
use twobox_shared::visible;
use uuid::Uuid;

use super::compaction::{Compaction, Known};
use super::conversation::{Input, Item, ToolCall, Usage};
use super::plain;
use super::room;

/// Before and after the id in a transcript's name.
const NAME: (&str, &str) = ("transcript-", ".jsonl");

/// The version of the form of continuations and lines.
const VERSION: &str = "model:1:";

/// How many transcripts are kept: the one in use, and some that `/new` has set aside.
const FILES_MAX: usize = 8;

/// The longest line that is written and read, in bytes.
const LINE_MAX: u64 = 16 << 20;

/// How much of a call is told to a later attempt, in characters.
const CALL_MAX: usize = 200;

/// How many calls are told to a later attempt: the last ones.
const EARLIER_MAX: usize = 50;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    /// A turn begins, with these messages. What earlier attempts at it did stands here, for their own
    /// lines are cut off.
    Turn {
        messages: Vec<String>,
        attempt: i64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        earlier: Vec<String>,
    },
    /// A step of the conversation.
    Item(Item),
    /// Tools begin, each with what it is given, in short. The results follow as an [`Record::Item`]; where they do not, nobody knows.
    Begun(Vec<String>),
    /// What the last item cost.
    Usage { model: String, usage: Usage },
    /// What stands for the beginning from here on.
    Compaction(Compaction),
    /// The longest texts so far are cut, until all have so many bytes.
    Shortened(usize),
}

/// How much of which transcript was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Continuation {
    id: Uuid,
    length: u64,
}

impl Continuation {
    /// Reads what [`Transcript::commit`] has written.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (id, length) = text.strip_prefix(VERSION)?.split_once(':')?;
        Some(Self { id: Uuid::try_parse(id).ok()?, length: length.parse().ok()? })
    }
}

/// Why a transcript cannot be gone on with.
#[derive(Debug)]
pub(super) enum Unusable {
    /// It is not what was committed: another attempt finds the same.
    Broken(String),
    /// The disk's trouble.
    Trouble(io::Error),
}

/// A transcript that is open.
#[derive(Debug)]
pub(super) struct Transcript {
    folder: PathBuf,
    id: Uuid,
    file: File,
    length: u64,
    committed: u64,
    items: Vec<Item>,
    known: Option<Known>,
}

impl Transcript {
    /// Begins an empty one in `folder`. The oldest of many are removed.
    pub(super) fn begin(folder: &Path, ids: &impl IdSource) -> io::Result<Self> {
        for old in listed(folder)?.iter().rev().skip(FILES_MAX - 1) {
            drop(fs::remove_file(old)); // it costs room and nothing else
        }
        let (id, folder) = (ids.uuid(), folder.to_owned());
        let file = created(&folder, id)?;
        Ok(Self { folder, id, file, length: 0, committed: 0, items: Vec::new(), known: None })
    }

    /// Opens the one that `continuation` names, and cuts it back to what was committed.
    ///
    /// # Errors
    /// [`Unusable`].
    pub(super) fn resume(folder: &Path, continuation: Continuation) -> Result<Self, Unusable> {
        let Continuation { id, length } = continuation;
        let path = path(folder, id);
        let broken = |why: String| Unusable::Broken(format!("{}: {why}", path.display()));
        let open = File::options().read(true).append(true).open(&path);
        let mut file = open.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT) => broken("it is not there".to_owned()),
            // What the agent made of it, which no other attempt would find otherwise.
            Some(
                Errno::EACCES
                | Errno::EPERM
                | Errno::EISDIR
                | Errno::ENOTDIR
                | Errno::ELOOP
                | Errno::ENXIO,
            ) => broken(error.to_string()),
            _ => Unusable::Trouble(error),
        })?;
        let there = file.metadata().map_err(Unusable::Trouble)?;
        if !there.is_file() || there.len() < length {
            let has = there.len();
            return Err(broken(format!("it has {has} bytes, {length} were committed")));
        }
        file.set_len(length).map_err(Unusable::Trouble)?;
        let (items, known) = read(&file).map_err(broken)?;
        file.seek(SeekFrom::End(0)).map_err(Unusable::Trouble)?;
        let folder = folder.to_owned();
        Ok(Self { folder, id, file, length, committed: length, items, known })
    }

    /// Whether this is what `continuation` names, with nothing that was not committed.
    pub(super) fn is_at(&self, continuation: Continuation) -> bool {
        let there = self.file.metadata().is_ok_and(|it| it.len() == self.length);
        there
            && self.length == self.committed
            && continuation == Continuation { id: self.id, length: self.length }
    }

    /// The conversation, for the next request.
    pub(super) fn items(&self) -> &[Item] {
        &self.items
    }

    /// What the last answer has told about its length.
    pub(super) fn known(&self) -> Option<Known> {
        self.known
    }

    /// Notes that a turn begins, and what `earlier` attempts at it did.
    pub(super) fn turn(
        &mut self,
        messages: Vec<String>,
        attempt: i64,
        earlier: &[String],
    ) -> io::Result<()> {
        self.write(&Record::Turn { messages, attempt, earlier: earlier.to_vec() })
    }

    /// Adds what people, or the host, have said, or what came of tools.
    pub(super) fn add(&mut self, item: Item) -> io::Result<()> {
        let record = Record::Item(item);
        self.write(&record)?;
        let Record::Item(item) = record else { unreachable!("it was just made") };
        self.items.push(item);
        Ok(())
    }

    /// Adds what `model` has answered, and what that cost.
    pub(super) fn answered(&mut self, item: Item, model: String, usage: Usage) -> io::Result<()> {
        self.add(item)?;
        self.write(&Record::Usage { model, usage })?;
        self.known = Known::after(usage, self.items.len());
        Ok(())
    }

    /// Notes that tools begin.
    pub(super) fn begun(&mut self, calls: &[ToolCall]) -> io::Result<()> {
        self.write(&Record::Begun(calls.iter().map(in_short).collect()))
    }

    /// Makes durable what stands there, though nothing of it is committed: what is done next is to be known also
    /// after the machine has lost its power.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Puts `compaction` into the place of what it stands for.
    pub(super) fn compact(&mut self, compaction: Compaction) -> io::Result<()> {
        let record = Record::Compaction(compaction);
        self.write(&record)?;
        let Record::Compaction(compaction) = record else { unreachable!("it was just made") };
        compaction.apply(&mut self.items);
        self.known = None;
        Ok(())
    }

    /// Cuts the longest texts, until all have `most` bytes. Returns whether one was longer.
    pub(super) fn shorten(&mut self, most: usize) -> io::Result<bool> {
        let mut items = self.items.clone();
        if !room::shorten(&mut items, most) {
            return Ok(false);
        }
        self.write(&Record::Shortened(most))?;
        self.items = items;
        self.known = None;
        Ok(true)
    }

    /// Makes everything so far durable and returns its continuation. If the file was removed or replaced
    /// meanwhile, as by an agent that tidies its folder up, that is what is in memory, in a new one.
    pub(super) fn commit(&mut self) -> io::Result<String> {
        if !self.is_in_its_place() {
            self.write_anew()?;
        }
        self.file.sync_data()?;
        self.committed = self.length;
        Ok(format!("{VERSION}{}:{}", self.id.hyphenated(), self.length))
    }

    /// Writes elsewhere from now on.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) {
        self.file = file;
    }

    fn is_in_its_place(&self) -> bool {
        let same = |there: fs::Metadata| {
            let ours = self.file.metadata()?;
            Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
        };
        fs::symlink_metadata(path(&self.folder, self.id)).and_then(same).unwrap_or(false)
    }

    fn write_anew(&mut self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let id = SystemIds.uuid();
        self.file = created(&self.folder, id)?;
        (self.id, self.length, self.committed, self.known) = (id, 0, 0, None);
        for item in std::mem::take(&mut self.items) {
            self.add(item)?;
        }
        Ok(())
    }

    /// Writes a line, unless it could not be read again: then the turn fails, and not each one after it.
    fn write(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record).map_err(io::Error::other)?;
        line.push(b'\n');
        if line.len() as u64 > LINE_MAX {
            return Err(io::Error::other(format!("a line has more than {LINE_MAX} bytes")));
        }
        serde_json::from_slice::<Record>(&line).map_err(io::Error::other)?;
        self.file.write_all(&line)?;
        self.length += line.len() as u64;
        Ok(())
    }
}

/// What a call wants done, in one line.
fn in_short(call: &ToolCall) -> String {
    let given = match &call.input {
        Input::Fields(fields) => serde_json::to_string(fields).unwrap_or_default(),
        Input::Unreadable(text) => text.clone(),
    };
    visible::line(&shorten(format!("{} {given}", call.name).trim_end(), CALL_MAX))
}

/// What earlier attempts at `message` did, as far as the transcripts in `folder` say: a line for each use
/// of a tool, the newest last, with what is known of its end. It is asked before anything is cut off.
pub(super) fn earlier(folder: &Path, message: &str) -> Vec<String> {
    let newest_first = listed(folder).unwrap_or_default();
    for path in newest_first.iter().rev() {
        let Ok(file) = plain::open(path) else { continue };
        let (mut known, mut begun, mut meant) = (Vec::new(), Vec::new(), false);
        for line in lines(&file) {
            // The last line of a process that was killed may be half of one.
            let Ok(line) = line else { break };
            match serde_json::from_slice(&line) {
                Ok(Record::Turn { messages, earlier, .. }) => {
                    meant = messages.iter().any(|it| it == message);
                    (known, begun) = (earlier, Vec::new());
                }
                Ok(Record::Begun(calls)) => begun = calls,
                Ok(Record::Item(Item::Results { results })) => {
                    let ends = results.iter().map(|it| if it.failed { "failed" } else { "done" });
                    let ended = begun.drain(..).zip(ends);
                    known.extend(ended.map(|(call, end)| format!("{call}: {end}")));
                }
                Ok(
                    Record::Item(_)
                    | Record::Usage { .. }
                    | Record::Compaction(_)
                    | Record::Shortened(_),
                )
                | Err(_) => {}
            }
        }
        if meant {
            known.extend(begun.iter().map(|call| format!("{call}: outcome unknown")));
            let too_many = known.len().saturating_sub(EARLIER_MAX);
            return known.split_off(too_many);
        }
    }
    Vec::new()
}

/// An empty file, of which the name is durable: a continuation is going to name it.
fn created(folder: &Path, id: Uuid) -> io::Result<File> {
    let path = path(folder, id);
    let file = File::options().append(true).create_new(true).mode(0o600).open(path)?;
    File::open(folder)?.sync_all()?;
    Ok(file)
}

fn path(folder: &Path, id: Uuid) -> PathBuf {
    folder.join(format!("{}{}{}", NAME.0, id.hyphenated(), NAME.1))
}

/// The transcripts in `folder`, the oldest first: their ids grow with time.
fn listed(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(NAME.0) && name.ends_with(NAME.1))
    };
    let entries = fs::read_dir(folder)?.flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(is_ours).collect();
    files.sort_unstable();
    Ok(files)
}

/// What is in the whole of `file`.
fn read(file: &File) -> Result<(Vec<Item>, Option<Known>), String> {
    let (mut items, mut known) = (Vec::new(), None);
    for (number, line) in lines(file).enumerate() {
        let at = |what: String| format!("line {}: {what}", number + 1);
        let line = line.map_err(|error| at(error.to_string()))?;
        match serde_json::from_slice(&line).map_err(|error| at(error.to_string()))? {
            Record::Item(item) => items.push(item),
            Record::Usage { usage, .. } => known = Known::after(usage, items.len()),
            Record::Compaction(compaction) => {
                compaction.apply(&mut items);
                known = None;
            }
            Record::Shortened(most) => {
                room::shorten(&mut items, most);
                known = None;
            }
            Record::Turn { .. } | Record::Begun(_) => {}
        }
    }
    Ok((items, known))
}

fn lines(file: &File) -> impl Iterator<Item = io::Result<Vec<u8>>> {
    let mut reader = BufReader::new(file);
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        match reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) if line.last() == Some(&b'\n') => Some(Ok(line)),
            Ok(_) => Some(Err(io::Error::other("it has no end"))),
            Err(error) => Some(Err(error)),
        }
    })
}

#[cfg(test)]
#[path = "transcript_tests.rs"]
mod tests;
