//! The first configuration file: every key with its meaning and default, commented out, so that it
//! says what can be set and sets only what `init` decided.

use std::fmt::Write;

use super::keys::KEYS;
use super::{Config, RuntimeKind};

/// The text of a new `twobox.toml` that sets `runtime`, and the zone of schedules if that is another than
/// the default, and nothing else.
pub fn template(runtime: RuntimeKind, zone: &str) -> String {
    let default_zone = Config::default().schedule.timezone;
    let mut defaults = Config { runtime, ..Config::default() };
    zone.clone_into(&mut defaults.schedule.timezone);
    let mut text = String::from(
        "# The configuration of this Twobox installation; docs/configuration.md explains it.\n\
         # A line that is commented out shows the default.\n",
    );
    let mut section = "";
    for key in KEYS {
        let (its_section, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if its_section != section {
            section = its_section;
            write!(text, "\n[{section}]\n").expect("a string takes every text");
        }
        let is_set = match key.name {
            "runtime" => true,
            "schedule.timezone" => zone != default_zone,
            _ => false,
        };
        let comment = if is_set { "" } else { "# " };
        write!(text, "\n# {}\n{comment}{name} = {}\n", key.meaning, key.show(&defaults))
            .expect("a string takes every text");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeMap;

    fn load(text: &str) -> Config {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("twobox.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path, &BTreeMap::new()).unwrap().0
    }

    #[test]
    fn the_first_file_sets_the_runtime_and_its_comments_are_the_defaults() {
        for runtime in [RuntimeKind::Docker, RuntimeKind::Sandbox, RuntimeKind::Process] {
            let text = template(runtime, "UTC");
            let expected = Config { runtime, ..Config::default() };
            let there = load(&template(runtime, "Europe/Berlin"));
            assert_eq!(there.schedule.timezone, "Europe/Berlin");
            assert_eq!(load(&text), expected);
            let uncommented: String = text
                .lines()
                .map(|line| match line.strip_prefix("# ") {
                    Some(setting) if setting.contains(" = ") => format!("{setting}\n"),
                    _ => format!("{line}\n"),
                })
                .collect();
            assert_eq!(load(&uncommented), expected);
        }
    }

    /// The struct's fields, as `section.key`.
    fn fields() -> Vec<String> {
        let Value::Object(config) = serde_json::to_value(Config::default()).unwrap() else {
            panic!("a struct is an object")
        };
        config
            .into_iter()
            .flat_map(|(name, value)| match value {
                Value::Object(section) => {
                    section.keys().map(|key| format!("{name}.{key}")).collect()
                }
                _ => vec![name],
            })
            .collect()
    }

    #[test]
    fn every_field_has_a_key_and_every_key_is_documented_with_its_default() {
        let mut keys: Vec<_> = KEYS.iter().map(|key| key.name.to_owned()).collect();
        let mut fields = fields();
        keys.sort();
        fields.sort();
        assert_eq!(keys, fields);
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let page = std::fs::read_to_string(page).unwrap();
        for key in KEYS {
            let row = format!(
                "| `{}` | `{}` | {} | `{}` |",
                key.name,
                key.show(&Config::default()),
                key.meaning,
                key.variable()
            );
            assert!(page.contains(&row), "docs/configuration.md lacks\n{row}");
        }
        let rows = page.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, KEYS.len(), "docs/configuration.md has a row for a key that is gone");
    }
}
