//! Files: reading and writing them. Any path is taken that the place lets: its walls are those of
//! the container, not of these tools.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use twobox_shared::ids::{IdSource, SystemIds};

use super::super::plain;
use super::arguments::{Arguments, Field};
use super::bounded::RESULT_MAX;
use super::{Bench, Made, Run, Tool, words};
use crate::provider::model::kept::sniffed;

/// How many lines are read at once if nothing else is asked for.
const LINES: u64 = 2000;

/// The longest part of a line that is shown, in bytes.
const LINE_MAX: usize = 2000;

pub(super) const READ: Tool = Tool {
    name: "read_file",
    says: "Reads a text file and returns its lines with their numbers; or shows a picture (PNG, JPEG, \
           GIF, WebP) or a PDF.",
    fields: &[
        Field::needed("path", "which file, by its path from your own folder or from the root"),
        Field::number("offset", "the number of the first line to read; 1 if it is left out"),
        Field::number("limit", "how many lines to read; 2000 if it is left out"),
    ],
    run: Run::Beside(read),
};

pub(super) const WRITE: Tool = Tool {
    name: "write_file",
    says: "Writes a text file as a whole. Whatever was there is replaced, and folders that are missing \
           are made. To change a part of a file use edit_file.",
    fields: &[Field::needed("path", "which file"), Field::needed("content", "what is to be in it")],
    run: Run::Alone(write),
};

/// What went wrong with `path`, for the model.
pub(super) fn wrong(path: &Path, why: impl std::fmt::Display) -> String {
    format!("{}: {why}", path.display())
}

/// `path` without links, as far as it is there, and without `..`.
pub(super) fn resolved(path: &Path) -> PathBuf {
    let there = path
        .ancestors()
        .find_map(|above| Some((above.canonicalize().ok()?, path.strip_prefix(above).ok()?)));
    let (mut whole, behind) = there.unwrap_or((PathBuf::new(), path));
    for part in behind.components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            part => whole.push(part),
        }
    }
    whole
}

/// Opens a file. A pipe would be waited for, so only plain ones are taken.
pub(super) fn open(path: &Path) -> Result<File, String> {
    let about = fs::metadata(path).map_err(|error| wrong(path, error))?;
    match (about.is_dir(), about.is_file()) {
        (true, _) => Err(wrong(path, "it is a folder; `glob` shows what is in it")),
        (false, false) => Err(wrong(path, "it is no plain file")),
        (false, true) => plain::open(path).map_err(|error| wrong(path, error)),
    }
}

fn read(bench: &Bench, given: Arguments<'_>) -> Made {
    let path = bench.path(given.needed("path"));
    let file = open(&path)?;
    let mut start = Vec::new();
    (&file).take(8192).read_to_end(&mut start).map_err(|error| wrong(&path, error))?;
    if let Some(media_type) = sniffed(&start) {
        if !bench.shows_pictures {
            return Err(wrong(&path, format!("it is {media_type}, and your model is shown none")));
        }
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        return Ok(vec![bench.kept.show(&path, &name).map_err(|why| wrong(&path, why))?]);
    }
    if start.contains(&0) {
        let length = file.metadata().map_or(0, |about| about.len());
        return Err(wrong(&path, format!("it is no text, but {length} bytes of something else")));
    }
    let first = given.number("offset").unwrap_or(1).max(1);
    let limit = given.number("limit").unwrap_or(LINES).max(1);
    let text = BufReader::new(start.as_slice().chain(file));
    let lines = numbered(text, first, limit, &bench.cancelled);
    lines.map(words).map_err(|error| wrong(&path, error))
}

/// `limit` lines of `text` from `first` on, with their numbers, as many as fit.
fn numbered(
    mut text: impl BufRead,
    first: u64,
    limit: u64,
    cancelled: &AtomicBool,
) -> io::Result<String> {
    let (mut shown, mut number, mut line) = (String::new(), 0, Vec::new());
    loop {
        go_on(cancelled)?;
        line.clear();
        // Of a line that has no end only as much is held as may be shown.
        let limit_of_line = LINE_MAX as u64 + 1;
        if text.by_ref().take(limit_of_line).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let whole = line.ends_with(b"\n") || line.len() <= LINE_MAX;
        if !whole {
            skip_line(&mut text, cancelled)?;
        }
        number += 1;
        if number < first {
            continue;
        }
        if number >= first.saturating_add(limit) || shown.len() > RESULT_MAX {
            shown.push_str(&format!("[… there is more: go on with offset {number} …]"));
            return Ok(shown);
        }
        let end =
            line.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |it| it + 1);
        let cut = if whole { "" } else { " [… the rest of this line is left out …]" };
        let text = String::from_utf8_lossy(&line[..end]);
        shown.push_str(&format!("{number}\t{text}{cut}\n"));
    }
    match (number, shown.is_empty()) {
        (0, _) => Ok("(The file is empty.)".to_owned()),
        (lines, true) => Ok(format!("(The file has only {lines} lines.)")),
        _ => Ok(shown),
    }
}

/// Ends what reads a file that has no end, or nearly none, once the turn is over.
pub(super) fn go_on(cancelled: &AtomicBool) -> io::Result<()> {
    match cancelled.load(Ordering::Relaxed) {
        true => Err(io::Error::other("the turn was ended")),
        false => Ok(()),
    }
}

/// Passes over the rest of a line.
pub(super) fn skip_line(text: &mut impl BufRead, cancelled: &AtomicBool) -> io::Result<()> {
    loop {
        go_on(cancelled)?;
        let there = text.fill_buf()?;
        if there.is_empty() {
            return Ok(());
        }
        let end = there.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(there.len(), |end| end + 1);
        text.consume(length);
        if end.is_some() {
            return Ok(());
        }
    }
}

fn write(bench: &Bench, given: Arguments<'_>) -> Made {
    let path = bench.path(given.needed("path"));
    let content = given.needed("content");
    bench.may_write(&path)?;
    let was_there = path.exists();
    replace(&path, content.as_bytes()).map_err(|error| wrong(&path, error))?;
    let how = if was_there { "replaced" } else { "made" };
    Ok(words(format!("{} was {how}: {} bytes.", path.display(), content.len())))
}

/// Puts `bytes` into the place of the file at `path`, which has the one or the other at each moment.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // What a link names is meant, not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let old = fs::metadata(&path).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        return Err(io::Error::other("it is no plain file"));
    }
    let folder = path.parent().ok_or_else(|| io::Error::other("it is no path of a file"))?;
    fs::create_dir_all(folder)?;
    if path.file_name().is_none() {
        return Err(io::Error::other("it is no path of a file"));
    }
    let mode = old.map_or(0o600, |old| old.mode() & 0o777);
    // A name that nothing has: neither a file of the agent's is written over, nor a link followed.
    let half = folder.join(format!(".{}.half", SystemIds.uuid().simple()));
    let file = File::options().write(true).create_new(true).mode(mode).open(&half)?;
    let written = write_half(file, bytes, mode).and_then(|()| fs::rename(&half, &path));
    if written.is_err() {
        drop(fs::remove_file(&half)); // the error is what is told
    }
    written
}

/// With the rights of the file that was there.
fn write_half(mut file: File, bytes: &[u8], mode: u32) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_and_bounded() {
        let text = "one\ntwo\r\nthree";
        let on = AtomicBool::new(false);
        let read = |first, limit| numbered(text.as_bytes(), first, limit, &on).unwrap();
        assert_eq!(read(1, 9), "1\tone\n2\ttwo\n3\tthree\n");
        assert_eq!(read(2, 1), "2\ttwo\n[… there is more: go on with offset 3 …]");
        assert_eq!(read(9, 1), "(The file has only 3 lines.)");
        assert_eq!(numbered(&b""[..], 1, 1, &on).unwrap(), "(The file is empty.)");
        let long = format!("{}\nnext\n", "x".repeat(100_000));
        let shown = numbered(long.as_bytes(), 1, 9, &on).unwrap();
        assert!(shown.contains("left out …]\n2\tnext\n") && shown.len() < 3_000, "{}", shown.len());
        let many = "0123456789\n".repeat(100_000);
        let shown = numbered(many.as_bytes(), 1, u64::MAX, &on).unwrap();
        assert!(shown.len() < RESULT_MAX + 100 && shown.contains("go on with offset"));
    }

    #[test]
    fn a_text_without_an_end_is_read_until_the_turn_is_over() {
        for byte in [b'\n', b'x'] {
            let cancelled = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let endless = BufReader::new(io::repeat(byte));
                let reading = scope.spawn(|| numbered(endless, u64::MAX, 1, &cancelled));
                std::thread::sleep(std::time::Duration::from_millis(20)); // it is in the middle of it
                cancelled.store(true, Ordering::Relaxed);
                assert!(reading.join().unwrap().is_err(), "{byte}");
            });
        }
    }

    #[test]
    fn a_file_of_the_agent_is_not_written_over_by_half_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let (other, link) = (dir.path().join("other"), dir.path().join(".a.half"));
        fs::write(&other, "kept").unwrap();
        std::os::unix::fs::symlink(&other, &link).unwrap();
        replace(&dir.path().join("a"), b"new").unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"kept");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        // A name may be as long as the folder allows, with nothing before or behind it.
        replace(&dir.path().join("n".repeat(255)), b"new").unwrap();
    }

    #[test]
    fn a_file_is_replaced_with_its_rights_and_through_its_link() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("deep/er/a"), dir.path().join("link"));
        replace(&file, b"one").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        replace(&link, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o755);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(replace(dir.path(), b"x").unwrap_err().to_string().contains("no plain file"));
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing is left");
    }
}
