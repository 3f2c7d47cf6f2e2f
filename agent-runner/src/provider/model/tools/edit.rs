//! Changing a part of a file.

use std::io::{self, Read};
use std::path::Path;

use super::arguments::{Arguments, Field};
use super::files::{open, replace, wrong};
use super::{Bench, Made, Run, Tool, words};

/// The largest file that is changed, and the largest that may come of it, in bytes.
const EDIT_MAX: u64 = 10 << 20;

/// How many places are told of.
const PLACES_MAX: usize = 10;

pub(super) const TOOL: Tool = Tool {
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

fn edit(bench: &Bench, given: Arguments<'_>) -> Made {
    let path = bench.path(given.needed("path"));
    bench.may_write(&path)?;
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
    let (count, lines) = places(text, old);
    match count {
        0 if text.contains("\r\n") && text.replace("\r\n", "\n").contains(old) => Err(
            "old_string stands there only with other line breaks: the lines of this file end with \
             \\r\\n"
                .to_owned(),
        ),
        0 => Err("old_string does not stand there exactly so; read the file again".to_owned()),
        2.. if !all => {
            let shown: Vec<_> = lines.iter().map(usize::to_string).collect();
            Err(format!(
                "old_string stands there {count} times, in the lines {}{}: give more of what is around \
                 it, or set replace_all",
                shown.join(", "),
                if count > lines.len() { ", …" } else { "" }
            ))
        }
        _ => {
            let length = new.len().saturating_mul(count) + (text.len() - old.len() * count);
            if length as u64 > EDIT_MAX {
                return Err(format!(
                    "it would have {length} bytes; {EDIT_MAX} at most may come of it"
                ));
            }
            Ok((text.replace(old, new), count))
        }
    }
}

/// In how many places `old` stands in `text`, and the lines of the first of them.
fn places(text: &str, old: &str) -> (usize, Vec<usize>) {
    let (mut count, mut lines, mut line, mut counted) = (0, Vec::new(), 1, 0);
    for (at, _) in text.match_indices(old) {
        count += 1;
        if lines.len() < PLACES_MAX {
            line += text[counted..at].matches('\n').count();
            counted = at;
            lines.push(line);
        }
    }
    (count, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn very_many_places_are_counted_once_and_only_some_are_told() {
        let text = "a,\n".repeat(1 << 20);
        let begun = std::time::Instant::now();
        let told = changed(&text, ",", ";", false).unwrap_err();
        assert!(
            told.contains("1048576 times, in the lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …:"),
            "{told}"
        );
        assert_eq!(changed(&text, ",", ";", true).unwrap().1, 1 << 20);
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed()); // the square takes hours
    }

    #[test]
    fn nothing_comes_of_a_change_that_is_larger_than_a_file_may_be() {
        let (text, new) = ("a".repeat(1 << 20), "b".repeat(1 << 20));
        assert!(changed(&text, "a", &new, true).unwrap_err().contains("1099511627776 bytes"));
        assert!(changed(&text, &text, &new, false).is_ok());
    }
}
