//! The vendors' programs that answer for agents: which version of each, and where it lies.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What is pinned, as `scripts/fetch-cli` reads it too.
const PINS: &str = include_str!("../../../../docker/clis");

/// Where the programs are in the data directory, unless the settings name another folder.
const FOLDER: &str = "clis";

/// A vendor's program, in one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cli {
    /// `claude` or `codex`.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The program, in its folder.
    program: &'static str,
    /// Its folder: canonical once the profile is settled, before that below what the settings name.
    pub folder: PathBuf,
}

/// A vendor's program that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// Which, and where it was looked for.
    pub what: String,
    /// What to do.
    pub help: String,
}

impl fmt::Display for Lack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.what, self.help)
    }
}

impl Cli {
    /// The one that is pinned as `name`, in the folder `clis` of the settings.
    pub(crate) fn pinned(name: &str, clis: &str) -> Option<Self> {
        let lines = PINS.lines().filter(|line| !line.starts_with('#'));
        let mut pins = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
        pins.find_map(|pin| match pin.as_slice() {
            &[found, version, _package, _its_version, _digest, _inner, program]
                if found == name =>
            {
                let clis = if clis.is_empty() { FOLDER } else { clis };
                let folder = Path::new(clis).join(format!("{found}-{version}"));
                Some(Self { name: found, version, program, folder })
            }
            _ => None,
        })
    }

    /// Makes its folder canonical, looking for it from `data`, the data directory.
    ///
    /// # Errors
    /// That it is not there, and how to fetch it.
    pub(super) fn settle(&mut self, data: &Path) -> Result<(), Lack> {
        let folder = data.join(&self.folder);
        let into = folder.parent().unwrap_or(&folder).display();
        let Self { name, version, .. } = self;
        let fetch = format!("fetch it: scripts/fetch-cli --into {into} {name}");
        let missing = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => {
                Lack { what: format!("{name} {version} is not in {into}"), help: fetch.clone() }
            }
            _ => Lack {
                what: format!("{name} {version}: {}: {error}", folder.display()),
                help: "let the host's user read it".to_owned(),
            },
        };
        let canonical = folder.canonicalize().map_err(missing)?;
        let program = canonical.join(self.program);
        if !program.metadata().map_err(missing)?.is_file() {
            let what = format!("{} is no program", program.display());
            return Err(Lack { what, help: format!("remove it and {fetch}") });
        }
        self.folder = canonical;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_says_where_its_program_lies_and_what_to_do_if_it_does_not() {
        assert_eq!(Cli::pinned("gpt", ""), None);
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().canonicalize().unwrap();
        for (name, program) in [("claude", "claude"), ("codex", "bin/codex")] {
            let pin = Cli::pinned(name, "").unwrap();
            let folder = data.join(format!("clis/{name}-{}", pin.version));
            let error = pin.clone().settle(&data).unwrap_err().to_string();
            let help = format!("scripts/fetch-cli --into {}/clis {name}", data.display());
            assert!(error.contains(&help), "{error}");
            let file = folder.join(program);
            std::fs::create_dir_all(file.join("a folder")).unwrap();
            let error = pin.clone().settle(&data).unwrap_err().to_string();
            assert!(error.contains("is no program"), "{error}");
            std::fs::remove_dir_all(&file).unwrap();
            std::fs::write(&file, "").unwrap();
            let mut found = pin.clone();
            found.settle(&data).unwrap();
            assert_eq!(found.folder, folder);
            let elsewhere = Cli::pinned(name, "/opt/clis").unwrap();
            assert_eq!(elsewhere.folder, Path::new(&format!("/opt/clis/{name}-{}", pin.version)));
        }
    }
}
