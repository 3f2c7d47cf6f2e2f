//! Files: reading, writing and changing them. Any path is taken that the place lets: its walls are those of
//! the container, not of these tools.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::arguments::{Arguments, Field};
use super::bounded::RESULT_MAX;
use super::{Bench, Made, Run, Tool, words};
use crate::provider::model::kept::sniffed;

/// How many lines are read at once if nothing else is asked for.
const LINES: u64 = 2000;

/// The longest part of a line that is shown, in bytes.
const LINE_MAX: usize = 2000;

/// The largest file that is changed, in bytes.
const EDIT_MAX: u64 = 10 << 20;

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

pub(super) const EDIT: Tool = Tool {
    name: "edit_file",
    says: "Replaces a text in a file by another one. The old text has to stand in the file exactly so, \
           with its spaces and line breaks, and once only unless all places are meant.",
    fields: &[
        Field::needed("path", "which file"),
        Field::needed("old_string", "the text that stands there now, without line numbers"),
        Field::needed("new_string", "the text that is to stand there"),
        Field::flag("replace_all", "whether all places are meant, and not one alone"),
    ],
    run: Run::Alone(edit),
};

/// What went wrong with `path`, for the model.
pub(super) fn wrong(path: &Path, why: impl std::fmt::Display) -> String {
    format!("{}: {why}", path.display())
}

/// Opens a file. A pipe would be waited for, so only plain ones are taken.
fn open(path: &Path) -> Result<File, String> {
    let about = fs::metadata(path).map_err(|error| wrong(path, error))?;
    match (about.is_dir(), about.is_file()) {
        (true, _) => Err(wrong(path, "it is a folder; `glob` shows what is in it")),
        (false, false) => Err(wrong(path, "it is no plain file")),
        (false, true) => File::open(path).map_err(|error| wrong(path, error)),
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
    let lines = numbered(BufReader::new(start.as_slice().chain(file)), first, limit);
    lines.map(words).map_err(|error| wrong(&path, error))
}

/// `limit` lines of `text` from `first` on, with their numbers, as many as fit.
fn numbered(mut text: impl BufRead, first: u64, limit: u64) -> io::Result<String> {
    let (mut shown, mut number, mut line) = (String::new(), 0, Vec::new());
    loop {
        line.clear();
        // Of a line that has no end only as much is held as may be shown.
        let limit_of_line = LINE_MAX as u64 + 1;
        if text.by_ref().take(limit_of_line).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let whole = line.ends_with(b"\n") || line.len() <= LINE_MAX;
        if !whole {
            skip_line(&mut text)?;
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

/// Passes over the rest of a line.
pub(super) fn skip_line(text: &mut impl BufRead) -> io::Result<()> {
    loop {
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
    let was_there = path.exists();
    replace(&path, content.as_bytes()).map_err(|error| wrong(&path, error))?;
    let how = if was_there { "replaced" } else { "made" };
    Ok(words(format!("{} was {how}: {} bytes.", path.display(), content.len())))
}

/// Puts `bytes` into the place of the file at `path`, which has the one or the other at each moment.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // What a link names is meant, not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let old = fs::metadata(&path).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        return Err(io::Error::other("it is no plain file"));
    }
    let folder = path.parent().ok_or_else(|| io::Error::other("it is no path of a file"))?;
    fs::create_dir_all(folder)?;
    let name = path.file_name().ok_or_else(|| io::Error::other("it is no path of a file"))?;
    let half = folder.join(format!(".{}.half", name.to_string_lossy()));
    let written = write_half(&half, bytes, old.as_ref()).and_then(|()| fs::rename(&half, &path));
    if written.is_err() {
        drop(fs::remove_file(&half)); // the error is what is told
    }
    written
}

/// With the rights of the file that was there.
fn write_half(half: &Path, bytes: &[u8], old: Option<&fs::Metadata>) -> io::Result<()> {
    let mode = old.map_or(0o600, |old| old.mode() & 0o777);
    let mut file = File::options().write(true).create(true).truncate(true).mode(mode).open(half)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)
}

fn edit(bench: &Bench, given: Arguments<'_>) -> Made {
    let path = bench.path(given.needed("path"));
    let text = whole_text(&path)?;
    let (old, new) = (given.needed("old_string"), given.needed("new_string"));
    let (text, places) =
        changed(&text, old, new, given.flag("replace_all")).map_err(|why| wrong(&path, why))?;
    replace(&path, text.as_bytes()).map_err(|error| wrong(&path, error))?;
    let where_ = if places == 1 { "in one place" } else { "in all places" };
    Ok(words(format!("{} was changed {where_}: {places}.", path.display())))
}

fn whole_text(path: &Path) -> Result<String, String> {
    let file = open(path)?;
    let length = file.metadata().map_err(|error| wrong(path, error))?.len();
    if length > EDIT_MAX {
        return Err(wrong(path, format!("it has {length} bytes; {EDIT_MAX} at most are changed")));
    }
    let mut text = String::new();
    let read = file.take(EDIT_MAX).read_to_string(&mut text);
    read.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => wrong(path, "it is no text in UTF-8"),
        _ => wrong(path, error),
    })?;
    Ok(text)
}

/// `text` with `new` in the place of `old`, and in how many places.
fn changed(text: &str, old: &str, new: &str, all: bool) -> Result<(String, usize), String> {
    if old.is_empty() {
        return Err("old_string is empty; write_file writes a whole file".to_owned());
    }
    if old == new {
        return Err("old_string and new_string are the same".to_owned());
    }
    let lines: Vec<_> =
        text.match_indices(old).map(|(at, _)| text[..at].matches('\n').count() + 1).collect();
    match lines.as_slice() {
        [] if text.contains("\r\n") && text.replace("\r\n", "\n").contains(old) => Err(
            "old_string stands there only with other line breaks: the lines of this file end with \
             \\r\\n"
                .to_owned(),
        ),
        [] => Err("old_string does not stand there exactly so; read the file again".to_owned()),
        [_, _, ..] if !all => {
            let shown: Vec<_> = lines.iter().take(10).map(usize::to_string).collect();
            Err(format!(
                "old_string stands there {} times, in the lines {}{}: give more of what is around \
                 it, or set replace_all",
                lines.len(),
                shown.join(", "),
                if lines.len() > 10 { ", …" } else { "" }
            ))
        }
        lines => Ok((text.replace(old, new), lines.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_and_bounded() {
        let text = "one\ntwo\r\nthree";
        let read = |first, limit| numbered(text.as_bytes(), first, limit).unwrap();
        assert_eq!(read(1, 9), "1\tone\n2\ttwo\n3\tthree\n");
        assert_eq!(read(2, 1), "2\ttwo\n[… there is more: go on with offset 3 …]");
        assert_eq!(read(9, 1), "(The file has only 3 lines.)");
        assert_eq!(numbered(&b""[..], 1, 1).unwrap(), "(The file is empty.)");
        let long = format!("{}\nnext\n", "x".repeat(100_000));
        let shown = numbered(long.as_bytes(), 1, 9).unwrap();
        assert!(shown.contains("left out …]\n2\tnext\n") && shown.len() < 3_000, "{}", shown.len());
        let many = "0123456789\n".repeat(100_000);
        let shown = numbered(many.as_bytes(), 1, u64::MAX).unwrap();
        assert!(shown.len() < RESULT_MAX + 100 && shown.contains("go on with offset"));
    }

    #[test]
    fn a_text_is_changed_where_it_is_clear_which_one_is_meant() {
        let cases = [
            ("a b", "a", "c", false, Ok(("c b", 1))),
            ("a\na", "a", "c", true, Ok(("c\nc", 2))),
            ("a\na", "a", "c", false, Err("2 times, in the lines 1, 2:")),
            ("a", "b", "c", false, Err("does not stand there")),
            ("a\r\nb", "a\nb", "c", false, Err("other line breaks")),
            ("a", "", "c", false, Err("is empty")),
            ("a", "a", "a", false, Err("are the same")),
        ];
        for (text, old, new, all, expected) in cases {
            let done = changed(text, old, new, all);
            match expected {
                Ok((text, places)) => assert_eq!(done, Ok((text.to_owned(), places))),
                Err(part) => {
                    let error = done.unwrap_err();
                    assert!(error.contains(part), "{text:?}: {error}");
                }
            }
        }
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
