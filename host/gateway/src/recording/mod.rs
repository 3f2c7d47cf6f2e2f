//! What models answered, kept if an agent's file says so, and answered from again without a model.
//!
//! A recording is a file of lines, one for each answer that came to its end: when, from whom, the digest of the
//! request and the answer itself. Nothing of a request but its model can be read there, though what is short can be
//! guessed, and no key: it is put on behind this. The files are the host's alone, and bounded.

mod digest;
mod replay;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use twobox_shared::time::UnixMillis;
use twobox_system::lock::lock;
use twobox_system::repeat::warned;

pub use digest::Digest;
pub(crate) use replay::Answered;
pub use replay::{Replay, ReplayError};

/// The longest recording of one conversation, in bytes. What comes then is not recorded.
pub const FILE_MAX: u64 = 32 << 20;

/// The longest answer that is recorded, in bytes.
const ANSWER_MAX: usize = 4 << 20;

/// How much all conversations may have, in bytes: beyond it the oldest are deleted.
const ALL_MAX: u64 = 512 << 20;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    at: UnixMillis,
    upstream: String,
    request: Digest,
    content_type: String,
    answer: String,
}

/// Of an answer that passes, what is to be written when it has come to its end.
#[derive(Debug)]
pub(crate) struct Recorder {
    file: PathBuf,
    at: UnixMillis,
    upstream: String,
    request: Digest,
    content_type: String,
    answer: Vec<u8>,
    too_long: bool,
}

impl Recorder {
    /// Of an answer of `upstream` to `request`, which came at `at`, for the recording in `file`.
    pub(crate) fn new(
        file: PathBuf,
        at: UnixMillis,
        upstream: &str,
        request: Digest,
        content_type: &str,
    ) -> Self {
        let (upstream, content_type) = (upstream.to_owned(), content_type.to_owned());
        let (answer, too_long) = (Vec::new(), false);
        Self { file, at, upstream, request, content_type, answer, too_long }
    }

    pub(crate) fn feed(&mut self, data: &Bytes) {
        self.too_long |= self.answer.len() + data.len() > ANSWER_MAX;
        match self.too_long {
            true => self.answer = Vec::new(),
            false => self.answer.extend_from_slice(data),
        }
    }

    /// The answer has come to its end.
    pub(crate) fn end(self) {
        if let Ok(tokio) = tokio::runtime::Handle::try_current() {
            tokio.spawn_blocking(move || {
                if let Err(error) = self.write()
                    && let Some(before) = warned("gateway.recording", &error.to_string())
                {
                    tracing::warn!(%error, before, "what a model answered was not recorded");
                }
            });
        }
    }

    fn write(self) -> io::Result<()> {
        let Self { file, at, upstream, request, content_type, answer, too_long } = self;
        let unfit = |why: &str| io::Error::other(format!("{}: {why}", file.display()));
        let answer = match (too_long, String::from_utf8(answer)) {
            (false, Ok(answer)) => answer,
            (true, _) => return Err(unfit("an answer is longer than 4 MiB")),
            (_, Err(_)) => return Err(unfit("an answer is no text")),
        };
        let line = Line { at, upstream, request, content_type, answer };
        let line = serde_json::to_string(&line)? + "\n";
        append(&file, &line)
    }
}

/// One at a time: lines of several answers never mix.
static WRITING: Mutex<()> = Mutex::new(());

fn append(file: &Path, line: &str) -> io::Result<()> {
    let _alone = lock(&WRITING);
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = opened(file)?;
    let full = || io::Error::other("the recording of a conversation is as long as it may be");
    let length = file.metadata()?.size();
    if length > FILE_MAX {
        return Err(full());
    }
    let whole = whole_lines(&file, length)?;
    if whole < length {
        file.set_len(whole)?;
    }
    if whole + line.len() as u64 > FILE_MAX {
        return Err(full());
    }
    // What broke off before, on a full disk, is not continued.
    let written = file.write_all(line.as_bytes());
    if written.is_err() {
        file.set_len(whole)?;
    }
    written
}

/// How much of a file of `length` bytes is whole lines. A host that was killed, or lost its power, leaves a last
/// line that broke off, and what was written behind that could not be read.
fn whole_lines(file: &File, length: u64) -> io::Result<u64> {
    let mut block = [0; 4096];
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let block = &mut block[..usize::try_from(end - start).unwrap_or(usize::MAX)];
        file.read_exact_at(block, start)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn opened(file: &Path) -> io::Result<File> {
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600).custom_flags(nofollow).open(file)
}

/// A recording that a person names.
fn opened_to_read(file: &Path) -> io::Result<File> {
    let file = File::open(file)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no file")),
    }
}

/// Deletes the files in `folder`, with the recordings of each agent in a folder of its own, that were not written to
/// for `keep` before `now`; and of the rest the oldest, as far as there is too much. What cannot be deleted keeps
/// nothing else, and nothing else is deleted in its place. Blocks.
///
/// # Errors
/// The system's, the first of them.
pub fn forget(folder: &Path, keep: Duration, now: SystemTime) -> io::Result<()> {
    forget_by(|file| fs::remove_file(file), folder, keep, now)
}

/// The same, where `remove` deletes a file.
fn forget_by(
    remove: impl Fn(&Path) -> io::Result<()>,
    folder: &Path,
    keep: Duration,
    now: SystemTime,
) -> io::Result<()> {
    let mut failed = None;
    // What is gone meanwhile was to go.
    let mut tell = |place: &Path, error: io::Error| {
        if error.kind() != io::ErrorKind::NotFound {
            let said = format!("{}: {error}", place.display());
            failed.get_or_insert(io::Error::new(error.kind(), said));
        }
    };
    let mut files = Vec::new();
    for agent in entries(folder)? {
        let recordings = entries(&agent).unwrap_or_else(|error| {
            tell(&agent, error);
            Vec::new()
        });
        for file in recordings {
            match fs::symlink_metadata(&file).and_then(|meta| Ok((meta.modified()?, meta))) {
                Ok((written, meta)) if meta.is_file() => files.push((written, meta.len(), file)),
                Ok(_) => {}
                Err(error) => tell(&file, error),
            }
        }
    }
    files.sort();
    let mut all: u64 = files.iter().map(|(_, length, _)| length).sum();
    for (written, length, file) in files {
        let is_old = now.duration_since(written).is_ok_and(|age| age > keep);
        if !is_old && all <= ALL_MAX {
            break;
        }
        if let Err(error) = remove(&file) {
            tell(&file, error);
        }
        all -= length;
    }
    failed.map_or(Ok(()), Err)
}

/// What is in a folder, if it is there and is one.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(Vec::new())
        }
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn recorder(file: &Path) -> Recorder {
        let request = Digest::of(br#"{"model":"m","messages":[]}"#).unwrap();
        Recorder::new(file.to_owned(), UnixMillis(1), "up", request, "application/json")
    }

    #[test]
    fn a_recording_is_the_hosts_alone_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("recordings/ann/session.jsonl");
        for answer in ["one", "two"] {
            let mut recorder = recorder(&file);
            recorder.feed(&Bytes::from(answer));
            recorder.write().unwrap();
        }
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        let mut long = recorder(&file);
        (0..5).for_each(|_| long.feed(&Bytes::from(vec![b'x'; 1 << 20])));
        assert!(long.write().unwrap_err().to_string().contains("4 MiB"));
        let mut garbled = recorder(&file);
        garbled.feed(&Bytes::from_static(b"\xff"));
        assert!(garbled.write().is_err());
        let whole = File::options().write(true).open(&file).unwrap();
        whole.write_all_at(b"\n", FILE_MAX - 1).unwrap();
        assert!(recorder(&file).write().is_err(), "it is full");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(recorder(&link).write().is_err(), "no link is followed");
    }

    #[test]
    fn what_broke_off_in_the_middle_of_a_line_is_cut_off_and_the_rest_is_answered_from() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("session.jsonl");
        let record = |answer: &str| {
            let mut recorder = recorder(&file);
            recorder.feed(&Bytes::from(answer.to_owned()));
            recorder.write().unwrap();
        };
        record(&"\u{e9}".repeat(10_000));
        let line = fs::read(&file).unwrap();
        let cases = [
            ("a byte", line[..1].to_vec()),
            ("the middle of a sign", line[..line.len() - 8].to_vec()),
            ("what a disk left of a loss of power", vec![0; 10_000]),
        ];
        for (case, broken) in cases {
            fs::write(&file, [&line[..], &broken].concat()).unwrap();
            assert!(Replay::read(&file).is_ok(), "{case}");
            record("two");
            let said = fs::read(&file).unwrap();
            assert!(said.starts_with(&line) && said.ends_with(b"\n"), "{case}");
            assert_eq!(said.split(|it| *it == b'\n').count(), 3, "{case}");
            assert!(Replay::read(&file).is_ok(), "{case}");
            fs::write(&file, &broken).unwrap();
            assert!(matches!(Replay::read(&file), Err(ReplayError::Empty { .. })), "{case}");
            record("two");
            assert!(Replay::read(&file).is_ok(), "{case}, of the first line");
        }
    }

    #[test]
    fn what_cannot_be_deleted_is_told_once_and_keeps_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("ann");
        fs::create_dir_all(agent.join("0-a-persons/folder")).unwrap();
        std::os::unix::fs::symlink("/nowhere", agent.join("1-link")).unwrap();
        // The folder and the link are the oldest by then.
        let now = fs::metadata(&agent).unwrap().modified().unwrap() + Duration::from_secs(1_000);
        let made = |name: &str, age: u64, length: u64| {
            let file = File::create(agent.join(name)).unwrap();
            file.set_len(length).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        };
        made("a", 50, ALL_MAX);
        made("b", 40, 1);
        made("c", 10, 1);
        let immutable = |file: &Path| match file.ends_with("a") {
            true => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
            false => fs::remove_file(file),
        };
        let error = forget_by(immutable, dir.path(), Duration::from_secs(30), now).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("ann/a: "), "{error}");
        let there = |name: &str| agent.join(name).symlink_metadata().is_ok();
        assert!(there("a") && !there("b"));
        assert!(there("c"), "what stays is no reason to delete what is newer");
        forget(dir.path(), Duration::ZERO, now).unwrap();
        assert!(!there("a") && !there("c"));
        assert!(there("0-a-persons/folder") && there("1-link"), "they are no recordings");
    }

    #[test]
    fn what_is_old_or_too_much_is_deleted_from_the_oldest_on() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let folder = dir.path().join("recordings");
        forget(&folder, Duration::ZERO, now).unwrap();
        let agent = folder.join("ann");
        fs::create_dir_all(&agent).unwrap();
        for (name, age, length) in [("a", 50, 9), ("b", 40, 1), ("c", 20, ALL_MAX), ("d", 10, 1)] {
            let file = File::create(agent.join(name)).unwrap();
            file.set_len(length).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        }
        let left = || {
            let mut left = entries(&agent).unwrap();
            left.sort();
            left.iter().map(|it| it.file_name().unwrap().to_owned()).collect::<Vec<_>>()
        };
        forget(&folder, Duration::from_secs(45), now).unwrap();
        assert_eq!(left(), ["d"], "one is too old, and the others with it too much");
        forget(&folder, Duration::from_secs(45), now).unwrap();
        assert_eq!(left(), ["d"]);
        forget(&folder, Duration::from_secs(5), now).unwrap();
        assert!(left().is_empty());
    }
}
