//! Changing one section `[channels.ID]` in the text of `twobox.toml`, of which all else stays as a person has
//! written it. Pure. What comes out is read again, and has to say what was wanted and nothing else: a file that is
//! written in another way than this knows is left to the person.

use toml::{Table, Value};

/// Why the text was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SectionError {
    /// It cannot be read.
    #[error("it is not valid TOML: {0}")]
    Syntax(String),
    /// The channel has a section, where none was wanted.
    #[error(
        "there is a channel {0} already: `twobox channels remove {0}`, or choose another id with --id"
    )]
    IsThere(String),
    /// It has none.
    #[error(
        "there is no section [channels.{0}]: `twobox channels list` shows which channels there are"
    )]
    IsNotThere(String),
    /// It is written in another way than `[channels.ID]` and lines below it.
    #[error(
        "[channels.{0}] is written in a way that only a person changes safely: edit it by hand"
    )]
    Strange(String),
}

/// `text` with a section for the channel, at its end.
pub(super) fn add(text: &str, id: &str, section: &Table) -> Result<String, SectionError> {
    let mut wanted = read(text)?;
    let channels = wanted.entry("channels").or_insert_with(|| Value::Table(Table::new()));
    let strange = || SectionError::Strange(id.to_owned());
    let channels = channels.as_table_mut().ok_or_else(strange)?;
    if channels.contains_key(id) {
        return Err(SectionError::IsThere(id.to_owned()));
    }
    channels.insert(id.to_owned(), Value::Table(section.clone()));
    let mut changed = text.trim_end().to_owned();
    if !changed.is_empty() {
        changed.push_str("\n\n");
    }
    changed.push_str(&format!("[channels.{id}]\n"));
    // The kind first, as people write it.
    let kind = section.iter().filter(|(name, _)| *name == "kind");
    for (name, value) in kind.chain(section.iter().filter(|(name, _)| *name != "kind")) {
        changed.push_str(&format!("{name} = {value}\n"));
    }
    confirmed(changed, &wanted, id)
}

/// `text` in which the channel is enabled, or is not.
pub(super) fn enable(text: &str, id: &str, enabled: bool) -> Result<String, SectionError> {
    let mut wanted = read(text)?;
    let section = section_in(&mut wanted, id)?;
    match enabled {
        true => section.remove("enabled"),
        false => section.insert("enabled".to_owned(), false.into()),
    };
    let mut lines: Vec<&str> = text.lines().collect();
    let (head, end) = place(&lines, id)?;
    let is_switch =
        |line: &&str| line.split('=').next().is_some_and(|name| name.trim() == "enabled");
    let switch = lines[head + 1..end].iter().position(is_switch).map(|at| at + head + 1);
    match (switch, enabled) {
        (Some(at), true) => drop(lines.remove(at)),
        (Some(at), false) => lines[at] = "enabled = false",
        (None, true) => {}
        (None, false) => lines.insert(head + 1, "enabled = false"),
    }
    confirmed(joined(&lines), &wanted, id)
}

/// `text` without the section of the channel; and that section.
pub(super) fn remove(text: &str, id: &str) -> Result<(String, String), SectionError> {
    let mut wanted = read(text)?;
    section_in(&mut wanted, id)?;
    let channels = wanted.get_mut("channels").and_then(Value::as_table_mut);
    let is_empty = channels.is_some_and(|channels| {
        channels.remove(id);
        channels.is_empty()
    });
    let lines: Vec<&str> = text.lines().collect();
    let (head, end) = place(&lines, id)?;
    // What stands right above the next section belongs to that.
    let belongs = |line: &&&str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let end = match end == lines.len() {
        true => end,
        false => end - lines[head + 1..end].iter().rev().take_while(belongs).count(),
    };
    let removed = joined(&lines[head..end]);
    let rest: Vec<&str> = lines[..head].iter().chain(&lines[end..]).copied().collect();
    let changed = joined(&rest);
    // The last of them takes the table with it, unless that has a head of its own.
    let left = changed.parse::<Table>();
    if is_empty && left.is_ok_and(|left| !left.contains_key("channels")) {
        wanted.remove("channels");
    }
    Ok((confirmed(changed, &wanted, id)?, removed))
}

fn read(text: &str) -> Result<Table, SectionError> {
    text.parse().map_err(|error: toml::de::Error| SectionError::Syntax(error.message().to_owned()))
}

fn section_in<'a>(table: &'a mut Table, id: &str) -> Result<&'a mut Table, SectionError> {
    let channels = table.get_mut("channels").and_then(Value::as_table_mut);
    let section = channels.and_then(|channels| channels.get_mut(id)).and_then(Value::as_table_mut);
    section.ok_or_else(|| SectionError::IsNotThere(id.to_owned()))
}

/// The line of the section's head, and the one behind its last.
fn place(lines: &[&str], id: &str) -> Result<(usize, usize), SectionError> {
    let head = lines.iter().position(|line| {
        let line = line.split('#').next().unwrap_or_default().trim();
        let inner = line.strip_prefix('[').and_then(|line| line.strip_suffix(']'));
        let Some((table, key)) = inner.and_then(|inner| inner.split_once('.')) else {
            return false;
        };
        table.trim() == "channels" && key.trim().trim_matches(['"', '\'']) == id
    });
    let head = head.ok_or_else(|| SectionError::Strange(id.to_owned()))?;
    let next = lines[head + 1..].iter().position(|line| line.trim_start().starts_with('['));
    Ok((head, next.map_or(lines.len(), |next| head + 1 + next)))
}

fn joined(lines: &[&str]) -> String {
    lines.iter().flat_map(|line| [*line, "\n"]).collect()
}

/// `changed`, if it says what is `wanted`.
fn confirmed(changed: String, wanted: &Table, id: &str) -> Result<String, SectionError> {
    match changed.parse::<Table>() {
        Ok(table) if table == *wanted => Ok(changed),
        Ok(_) | Err(_) => Err(SectionError::Strange(id.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# mine\nruntime = \"process\" # fast\n\n[channels]\n# command = \"\"\n\n\
                        # the family\n[channels.sms]   # by phone\nkind = \"command\"\n\
                        program = '/a' # the script\n\n# rooms\n[channels.\"rooms\"]\nkind = 'bridge'\n\n\
                        # how long\n[limits]\nheartbeat = \"1m\"\n";

    fn section() -> Table {
        "kind = 'webhook'\nurl = 'https://h.example/#in'\nkeys = true\nsenders = ['a', \"b'c\"]"
            .parse()
            .unwrap()
    }

    #[test]
    fn a_section_is_added_at_the_end_and_all_else_stays() {
        for text in ["", "\n\n", FILE, FILE.trim_end(), "# only a comment"] {
            let changed = add(text, "hook", &section()).unwrap();
            assert!(changed.starts_with(text.trim_end()), "{changed}");
            let added = changed[text.trim_end().len()..].trim_start();
            assert!(added.starts_with("[channels.hook]\nkind = \"webhook\"\n"), "{added}");
            let read: Table = changed.parse().unwrap();
            assert_eq!(read["channels"]["hook"].as_table().unwrap(), &section());
        }
        let again = add(FILE, "sms", &section());
        assert_eq!(again, Err(SectionError::IsThere("sms".to_owned())));
        let odd = add("channels = 5", "hook", &section());
        assert_eq!(odd, Err(SectionError::Strange("hook".to_owned())));
        let inline = add("channels = { max_file_mb = 5 }", "hook", &section());
        assert_eq!(inline, Err(SectionError::Strange("hook".to_owned())));
        assert!(matches!(add("x = ", "hook", &section()), Err(SectionError::Syntax(_))));
    }

    #[test]
    fn a_channel_is_disabled_and_enabled_by_one_line() {
        for id in ["sms", "rooms"] {
            let off = enable(FILE, id, false).unwrap();
            let read: Table = off.parse().unwrap();
            assert_eq!(read["channels"][id]["enabled"], Value::Boolean(false));
            assert_eq!(off.lines().count(), FILE.lines().count() + 1);
            assert_eq!(enable(&off, id, false).unwrap(), off, "that is no change");
            assert_eq!(enable(&off, id, true).unwrap(), FILE, "as it was");
        }
        assert_eq!(enable(FILE, "x", true), Err(SectionError::IsNotThere("x".to_owned())));
        let strange = SectionError::Strange("a".to_owned());
        for text in [
            "channels.a.kind = 'bridge'",
            "[channels]\na = { kind = 'bridge' }",
            "[channels]\na.kind = 'bridge'",
            "x = '''\n[channels.a]\n'''\n[channels]\na.kind = 'bridge'",
        ] {
            assert_eq!(enable(text, "a", false), Err(strange.clone()), "{text}");
        }
        // A line in a text is no head.
        let text = "[channels.a]\nkind = 'bridge'\ntext = '''\n[x]\nenabled = true\n'''\n";
        let off = enable(text, "a", false).unwrap();
        assert!(off.contains("[x]\nenabled = true\n"), "{off}");
    }

    #[test]
    fn a_section_is_removed_with_its_own_comments_alone() {
        let (changed, removed) = remove(FILE, "sms").unwrap();
        assert_eq!(
            removed,
            "[channels.sms]   # by phone\nkind = \"command\"\nprogram = '/a' # the script\n"
        );
        assert!(changed.contains("\n# rooms\n[channels.\"rooms\"]\n"), "{changed}");
        let (changed, _) = remove(&changed, "rooms").unwrap();
        assert!(changed.contains("# how long\n[limits]\n") && !changed.contains("rooms\"]"));
        let (changed, _) = remove("[channels.a]\nkind = 'bridge'\n# end\n", "a").unwrap();
        assert_eq!(changed, "");
        assert_eq!(remove(FILE, "x"), Err(SectionError::IsNotThere("x".to_owned())));
        // A list whose lines begin as a head does.
        let nested = "[channels.a]\nkind = 'x'\nall = [\n[1],\n[2],\n]\n[limits]\nx = 1\n";
        assert_eq!(remove(nested, "a"), Err(SectionError::Strange("a".to_owned())));
    }
}
