//! Skills: texts of the agent's definition that say how something is done, each in a folder of its own,
//! `skills/NAME/SKILL.md`. The model is told of each by its front matter, and reads the text when it
//! needs it.

use std::fs;
use std::path::{Path, PathBuf};

use super::prompt::read_bounded;

/// How many skills are told of.
const MOST: usize = 100;

/// The longest text of a skill that is read, in bytes.
const TEXT_MAX: usize = 64 << 10;

/// The most characters of a description that are told.
const DESCRIPTION_MAX: usize = 1024;

/// One skill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::provider) struct Skill {
    /// As its front matter calls it, or else its folder.
    pub(in crate::provider) name: String,
    /// When it is of use, in one line.
    pub(in crate::provider) description: String,
    /// Where its text is.
    pub(in crate::provider) path: PathBuf,
}

impl Skill {
    /// What it says, without the front matter.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(super) fn text(&self) -> Result<String, String> {
        let text = read_bounded(&self.path, TEXT_MAX).map_err(|error| error.to_string())?;
        Ok(front_matter(&text).1.trim().to_owned())
    }
}

/// The skills of the program folder, by their folders' names.
pub(in crate::provider) fn found(program: &Path) -> Vec<Skill> {
    let entries = fs::read_dir(program.join("skills")).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    folders.sort_unstable();
    folders.into_iter().filter_map(|folder| read(&folder)).take(MOST).collect()
}

fn read(folder: &Path) -> Option<Skill> {
    let path = folder.join("SKILL.md");
    let text = read_bounded(&path, TEXT_MAX).ok()?;
    let (fields, _) = front_matter(&text);
    let field = |name| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
    let named = field("name").filter(|name| !name.is_empty());
    let name = named.or_else(|| Some(folder.file_name()?.to_str()?.to_owned()))?;
    let description = field("description").unwrap_or_default();
    let description = twobox_shared::content::shorten(&description, DESCRIPTION_MAX);
    Some(Skill { name, description, path })
}

/// The fields of a front matter, and the text behind it. Of YAML it knows what skills use: a text behind
/// a colon, perhaps in quotes, perhaps over several lines that are indented.
fn front_matter(text: &str) -> (Vec<(&str, String)>, &str) {
    let body = text.trim_start_matches('\u{feff}');
    let nothing = (Vec::new(), body);
    let Some(rest) = body.strip_prefix("---") else { return nothing };
    let Some((_, rest)) = rest.split_once('\n') else { return nothing };
    let (mut fields, mut at) = (Vec::<(&str, String)>::new(), 0);
    for line in rest.split_inclusive('\n') {
        at += line.len();
        let bare = line.trim();
        if bare == "---" {
            for (_, value) in &mut fields {
                *value = unquoted(value);
            }
            return (fields, &rest[at..]);
        }
        match (line.starts_with([' ', '\t']), fields.last_mut(), bare.split_once(':')) {
            (true, Some((_, value)), _) => {
                value.push(' ');
                value.push_str(bare);
            }
            (false, _, Some((key, value))) => fields.push((key.trim(), value.trim().to_owned())),
            _ => {} // a comment, or an empty line
        }
    }
    nothing
}

/// The text without the quotes around it, or the sign of a text of several lines before it.
fn unquoted(value: &str) -> String {
    let value = value.trim();
    let block = ["|-", ">-", "|", ">"].iter().find_map(|sign| value.strip_prefix(sign));
    let value = block.unwrap_or(value).trim();
    let quoted = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    quoted('"').or_else(|| quoted('\'')).unwrap_or(value).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_front_matter_names_and_describes() {
        let cases = [
            ("---\nname: a\ndescription: b: c\n---\ntext\n", "a", "b: c", "text\n"),
            ("---\r\nname: \"a\"\r\ndescription: 'b'\r\n---\r\ntext", "a", "b", "text"),
            ("---\nname: a\ndescription: >\n  b\n  c\nmore: x\n---\ntext", "a", "b c", "text"),
            ("---\ndescription: b\n  c\n---\n", "", "b c", ""),
            ("---\nname: a\nno end", "", "", "---\nname: a\nno end"),
            ("# a text", "", "", "# a text"),
        ];
        for (text, name, description, body) in cases {
            let (fields, rest) = front_matter(text);
            let get = |key| {
                let found = fields.iter().find(|(it, _)| *it == key);
                found.map_or("", |(_, value)| value.as_str())
            };
            assert_eq!(
                (get("name"), get("description"), rest),
                (name, description, body),
                "{text}"
            );
        }
    }

    #[test]
    fn skills_are_found_in_the_order_of_their_folders() {
        let dir = tempfile::tempdir().unwrap();
        let file = |folder: &str, text: &str| {
            let folder = dir.path().join("skills").join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("SKILL.md"), text).unwrap();
        };
        file("b", "how it is done");
        file("a", "---\nname: first\ndescription: d\n---\nhow\n");
        fs::create_dir_all(dir.path().join("skills/none")).unwrap();
        let skills = found(dir.path());
        let names: Vec<_> = skills.iter().map(|skill| skill.name.as_str()).collect();
        assert_eq!(names, ["first", "b"]);
        assert_eq!(skills[0].text().unwrap(), "how");
        assert_eq!(found(&dir.path().join("skills")), []);
    }
}
