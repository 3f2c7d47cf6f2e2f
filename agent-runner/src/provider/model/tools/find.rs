//! Looking for files by their names, and for lines in them.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use regex_lite::{Regex, RegexBuilder};
use twobox_shared::content::shorten;

use super::super::plain;
use super::arguments::{Arguments, Field};
use super::bounded::RESULT_MAX;
use super::files::{go_on, skip_line, wrong};
use super::{Bench, Made, Run, Tool, words};

/// How many files or lines are told of.
const FOUND_MAX: usize = 200;

/// How many entries of folders are looked at.
const ENTRIES_MAX: usize = 100_000;

/// How much of a line is searched, in bytes. Together with [`REGEX_MAX`] it bounds the time that one
/// line takes, in which nothing hears that the turn is over.
const LINE_MAX: u64 = 32 << 10;

/// The largest regular expression, in bytes of memory.
const REGEX_MAX: usize = 256 << 10;

/// How many characters of a line are shown.
const SHOWN_MAX: usize = 400;

/// Folders in which nobody looks for anything.
const PASSED_OVER: [&str; 2] = [".git", ".twobox"];

pub(super) const GLOB: Tool = Tool {
    name: "glob",
    says: "Finds files by their names, those first that were changed last; 200 at most. `*` and `?` stand \
           for what is in a name, `**` for any folders, `{a,b}` for one or the other.",
    fields: &[
        Field::needed("pattern", "such as \"**/*.md\", from the folder in which is looked"),
        Field::text("path", "the folder in which is looked; your own if it is left out"),
    ],
    run: Run::Beside(glob),
};

pub(super) const GREP: Tool = Tool {
    name: "grep",
    says: "Finds lines in text files by a regular expression, as path:line: text; 200 at most. Of a line \
           that is longer than 32 KiB the beginning is looked at.",
    fields: &[
        Field::needed("pattern", "the regular expression, in the manner of Rust or RE2"),
        Field::text(
            "path",
            "a file, or a folder with all that is in it; your own if it is left out",
        ),
        Field::text(
            "glob",
            "which files of the folder, such as \"**/*.py\"; all if it is left out",
        ),
        Field::flag("ignore_case", "whether large and small letters are the same"),
    ],
    run: Run::Beside(grep),
};

fn glob(bench: &Bench, given: Arguments<'_>) -> Made {
    let root = bench.path(given.text("path").unwrap_or("."));
    let pattern = pattern(given.needed("pattern"))?;
    let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
    let complete = walk(bench, &root, &mut |path, relative| {
        if pattern.is_match(relative) {
            let changed = fs::metadata(path).and_then(|about| about.modified());
            found.push((changed.unwrap_or(SystemTime::UNIX_EPOCH), path.to_owned()));
        }
        true
    })?;
    found.sort_unstable_by(|one, other| other.cmp(one));
    let count = found.len();
    let mut text = String::new();
    for (_, path) in found.into_iter().take(FOUND_MAX) {
        text.push_str(&format!("{}\n", path.display()));
    }
    if count > FOUND_MAX {
        text.push_str(&format!("[… {} more …]\n", count - FOUND_MAX));
    }
    Ok(words(told(text, complete)))
}

fn grep(bench: &Bench, given: Arguments<'_>) -> Made {
    let regex = RegexBuilder::new(given.needed("pattern"))
        .case_insensitive(given.flag("ignore_case"))
        .size_limit(REGEX_MAX)
        .build()
        .map_err(|error| {
            format!("the pattern is no regular expression that can be used: {error}")
        })?;
    let wanted = given.text("glob").map(pattern).transpose()?;
    let root = bench.path(given.text("path").unwrap_or("."));
    let mut found = Found { text: String::new(), count: 0 };
    if root.is_file() {
        let complete = search(&root, &regex, &mut found, &bench.cancelled);
        return Ok(words(told(found.text, complete)));
    }
    let complete = walk(bench, &root, &mut |path, relative| {
        if wanted.as_ref().is_none_or(|wanted| wanted.is_match(relative)) {
            search(path, &regex, &mut found, &bench.cancelled);
        }
        found.has_room()
    })?;
    Ok(words(told(found.text, complete)))
}

fn told(text: String, complete: bool) -> String {
    match (text.is_empty(), complete) {
        (true, true) => "(Nothing was found.)".to_owned(),
        (true, false) => "(Nothing was found in what was looked at, which is not all.)".to_owned(),
        (false, true) => text,
        (false, false) => format!("{text}[… not everything was looked at: narrow it down …]"),
    }
}

/// Lines that were found.
struct Found {
    text: String,
    count: usize,
}

impl Found {
    fn has_room(&self) -> bool {
        self.count < FOUND_MAX && self.text.len() < RESULT_MAX
    }
}

/// Looks through one file. One that cannot be read, or is no text, has nothing. Returns whether all of it
/// was looked at, or there is no room for more.
fn search(path: &Path, regex: &Regex, found: &mut Found, cancelled: &AtomicBool) -> bool {
    let Ok(file) = plain::open(path) else { return true };
    let mut reader = BufReader::new(file);
    if reader.fill_buf().is_ok_and(|start| start.contains(&0)) {
        return true;
    }
    let (mut number, mut line) = (0_u64, Vec::new());
    while found.has_room() {
        if go_on(cancelled).is_err() {
            return false;
        }
        line.clear();
        match reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(1..) => number += 1,
            Ok(0) | Err(_) => return true,
        }
        let cut = line.len() as u64 == LINE_MAX && line.last() != Some(&b'\n');
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        if regex.is_match(text) {
            let shown = shorten(text, SHOWN_MAX);
            found.text.push_str(&format!("{}:{number}: {shown}\n", path.display()));
            found.count += 1;
        }
        if cut && skip_line(&mut reader, cancelled).is_err() {
            return false;
        }
    }
    true
}

/// Calls `each` with every plain file below `root`, and its path from there, until it says no. Links to
/// folders are not followed. Returns whether everything was seen.
fn walk(
    bench: &Bench,
    root: &Path,
    each: &mut dyn FnMut(&Path, &str) -> bool,
) -> Result<bool, String> {
    let mut folders = vec![root.to_owned()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if folder == root => return Err(wrong(root, error)),
            Err(_) => continue, // not ours to read
        };
        let mut below = Vec::new();
        for entry in entries.flatten() {
            seen += 1;
            if seen > ENTRIES_MAX || bench.cancelled.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            if kind.is_dir() {
                if !PASSED_OVER.iter().any(|name| entry.file_name() == *name) {
                    below.push(path);
                }
            } else if path.is_file() {
                let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy();
                if !each(&path, &relative) {
                    return Ok(false);
                }
            }
        }
        below.sort_unstable_by(|one, other| other.cmp(one));
        folders.append(&mut below);
    }
    Ok(true)
}

/// What a pattern of names means.
fn pattern(glob: &str) -> Result<Regex, String> {
    let mut regex = "^".to_owned();
    let mut rest = glob.trim_start_matches("./");
    let mut open = 0;
    while let Some(c) = rest.chars().next() {
        if let Some(behind) = rest.strip_prefix("**/") {
            regex.push_str("(?:.*/)?");
            rest = behind;
            continue;
        }
        if let Some(behind) = rest.strip_prefix("**") {
            regex.push_str(".*");
            rest = behind;
            continue;
        }
        match c {
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '{' => {
                open += 1;
                regex.push_str("(?:");
            }
            ',' if open > 0 => regex.push('|'),
            '}' if open > 0 => {
                open -= 1;
                regex.push(')');
            }
            c => regex.push_str(&regex_lite::escape(c.encode_utf8(&mut [0; 4]))),
        }
        rest = &rest[c.len_utf8()..];
    }
    regex.push('$');
    Regex::new(&regex).map_err(|_| format!("{glob:?} is no pattern: a brace has no end, perhaps"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_what_people_expect() {
        let cases = [
            ("*.md", "a.md", true),
            ("*.md", "x/a.md", false),
            ("**/*.md", "a.md", true),
            ("**/*.md", "x/y/a.md", true),
            ("./x/**", "x/y/a.md", true),
            ("a?.{txt,md}", "ab.md", true),
            ("a?.{txt,md}", "ab.rs", false),
            ("a+(b).c", "a+(b).c", true),
            ("a,b}", "a,b}", true),
        ];
        for (glob, path, expected) in cases {
            assert_eq!(pattern(glob).unwrap().is_match(path), expected, "{glob} {path}");
        }
        assert!(pattern("{a").unwrap_err().contains("no pattern"));
    }

    #[test]
    fn a_long_line_is_searched_at_its_beginning_and_nothing_once_the_turn_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, format!("begin {} end\nend\n", "x".repeat(1 << 20))).unwrap();
        let search = |regex: &str, cancelled| {
            let mut found = Found { text: String::new(), count: 0 };
            let regex = Regex::new(regex).unwrap();
            (search(&path, &regex, &mut found, &AtomicBool::new(cancelled)), found.count)
        };
        assert_eq!(search("begin", false), (true, 1));
        assert_eq!(search("end", false), (true, 1), "that of the second line");
        assert_eq!(search("begin", true), (false, 0));
    }
}
