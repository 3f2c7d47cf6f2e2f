//! Files that come with a message: what they are called, and what is said of those that did not come. Their names
//! are a stranger's word. Pure.

use std::collections::HashSet;
use std::path::PathBuf;

use twobox_shared::content::shorten;
use twobox_shared::visible;

/// How many files of one message are taken.
pub const FILES_MAX: usize = 16;

/// The longest name that is kept, in bytes.
const NAME_MAX: usize = 120;

/// The longest ending that stays whole, in bytes, with its dot.
const ENDING_MAX: usize = 16;

/// A file that came with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncomingFile {
    /// What whoever sent it calls it.
    pub name: String,
    /// Where it lies on this machine, until the message is accepted or refused; or, for people, why it did not come.
    pub at: Result<PathBuf, String>,
}

/// A file of this machine that a session is to have under a name that is safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// Its name in its folder: one component of a path, and no other file's there.
    pub name: String,
    /// Where it lies.
    pub at: PathBuf,
}

/// `files` as a session gets them, and a line for each that did not come.
pub fn sorted(files: Vec<IncomingFile>) -> (Vec<NamedFile>, Vec<String>) {
    let (mut named, mut lines, mut taken) = (Vec::new(), Vec::new(), HashSet::new());
    let more = files.len().saturating_sub(FILES_MAX);
    for IncomingFile { name, at } in files.into_iter().take(FILES_MAX) {
        match at {
            Ok(at) => named.push(NamedFile { name: free_name(&name, &mut taken), at }),
            Err(why) => {
                let name = shorten(&visible::line(&name), NAME_MAX);
                lines.push(format!("[a file did not come with it: {name}: {why}]"));
            }
        }
    }
    if more > 0 {
        lines.push(format!("[{more} more files did not come: {FILES_MAX} are taken at most]"));
    }
    (named, lines)
}

/// A name that is safe and that none of `taken` has.
fn free_name(name: &str, taken: &mut HashSet<String>) -> String {
    let name = safe_name(name);
    let (stem, ending) = parts(&name);
    let mut free = name.clone();
    for number in 2.. {
        // Where upper and lower case are one, two such files would be one.
        if taken.insert(free.to_lowercase()) {
            break;
        }
        free = format!("{stem}-{number}{ending}");
    }
    free
}

/// `name` as one component of a path that hides nothing and is no option of a program.
fn safe_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain = |c: char| !c.is_control() && !visible::is_hidden(c) && !"<>:\"|?*`$'".contains(c);
    let name: String = last.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let name = name.trim().trim_start_matches(['.', '-']).trim_end_matches(['.', ' ']);
    if name.is_empty() {
        return "file".to_owned();
    }
    if name.len() <= NAME_MAX {
        return name.to_owned();
    }
    let (stem, ending) = parts(name);
    let fits = NAME_MAX - ending.len();
    let end = (0..=fits).rev().find(|end| stem.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{ending}", &stem[..end])
}

/// A name before its ending, and the ending with its dot.
fn parts(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= ENDING_MAX => name.split_at(at),
        _ => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_component_that_hides_nothing() {
        let cases = [
            ("plan.pdf", "plan.pdf"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\me\\plan.pdf", "plan.pdf"),
            ("..", "file"),
            ("", "file"),
            (" . ", "file"),
            (".bashrc", "bashrc"),
            ("-rf", "rf"),
            ("a\nb\u{202e}fdp.exe", "a_b_fdp.exe"),
            ("$(id)`id`.txt", "_(id)_id_.txt"),
            ("Überblick 2.pdf", "Überblick 2.pdf"),
        ];
        for (name, safe) in cases {
            assert_eq!(safe_name(name), safe, "{name:?}");
        }
        let long = format!("{}.tar.gz", "ä".repeat(200));
        let safe = safe_name(&long);
        assert!(safe.len() <= NAME_MAX && safe.ends_with("ä.gz"), "{safe}");
        assert!(safe_name(&format!("a.{}", "b".repeat(300))).len() <= NAME_MAX);
    }

    #[test]
    fn no_file_takes_anothers_place_and_what_did_not_come_is_told() {
        let file = |name: &str, at: Result<&str, &str>| IncomingFile {
            name: name.to_owned(),
            at: at.map(PathBuf::from).map_err(str::to_owned),
        };
        let files = vec![
            file("a.png", Ok("/1")),
            file("A.png", Ok("/2")),
            file("x/a.png", Ok("/3")),
            file("big\n.iso", Err("it is too large")),
        ];
        let (named, lines) = sorted(files);
        let named: Vec<_> =
            named.iter().map(|it| (it.name.as_str(), it.at.to_str().unwrap())).collect();
        assert_eq!(named, [("a.png", "/1"), ("A-2.png", "/2"), ("a-3.png", "/3")]);
        assert_eq!(lines, ["[a file did not come with it: big\\n.iso: it is too large]"]);
        let many = (0..20).map(|n| file(&format!("{n}"), Ok("/x"))).collect();
        let (named, lines) = sorted(many);
        assert_eq!(named.len(), FILES_MAX);
        assert_eq!(lines, ["[4 more files did not come: 16 are taken at most]"]);
    }
}
