//! Giving an agent of an older installation its program folder.
//!
//! Until then what an agent is lay in the folder that its conversations share, where each of them
//! could change it. It is copied as it is found, for the host cannot know who wrote it: that is for a
//! person to look at. It is copied like everything that a container wrote, without following a link
//! and within bounds, and stays where it was as well, so that an older build finds it.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{RenameFlags, fsync, renameat_with};
use rustix::io::Errno;
use twobox_shared::agent_config::{AgentConfig, AgentConfigError, Provider};

use super::copy::{Copier, FOLDER, Refusal, make_folder};
use super::exposed::{EXPOSED_HELP, exposed};
use super::stage::{Stage, enter};
use super::{ProgramError, failed};
use crate::profile::File;
use twobox_shared::errors::chain;
use twobox_system::data::DataDir;

/// The most that is copied of a folder which nobody has vouched for.
const ENTRIES_MAX: u64 = 5_000;
/// See [`ENTRIES_MAX`].
const BYTES_MAX: u64 = 256 << 20;

/// How many names a line of the log has.
const NAMES_MAX: usize = 20;

/// What an agent's new program folder was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// Paths in the shared folder whose files were copied.
    pub copied: Vec<PathBuf>,
    /// Paths that were not, and why.
    pub left: Vec<(PathBuf, Refusal)>,
}

/// For people. The names are a container's, so they are quoted.
impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: Vec<String>| {
            let more = names.len().saturating_sub(NAMES_MAX);
            let listed = names[..names.len() - more].join(", ");
            if more == 0 { listed } else { format!("{listed} and {more} more") }
        };
        write!(f, "copied {}", list(self.copied.iter().map(|path| format!("{path:?}")).collect()))?;
        if !self.left.is_empty() {
            let left = self.left.iter().map(|(path, why)| format!("{path:?} ({why})"));
            write!(f, "; left {}", list(left.collect()))?;
        }
        Ok(())
    }
}

/// What is copied of the shared folder.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// These files.
    Files(Vec<PathBuf>),
    /// Everything, or if that is too much, these files.
    All(Vec<PathBuf>),
}

/// A program may read whatever lies beside it; a script is one file.
fn wanted(config: &AgentConfig) -> Wanted {
    match &config.provider {
        Provider::Echo | Provider::Model(_) | Provider::Claude(_) | Provider::Codex(_) => {
            Wanted::Files(Vec::new())
        }
        Provider::Scripted => Wanted::Files(vec!["script.json".into()]),
        Provider::Command { command, .. } => {
            let inside = |path: &Path| {
                let normal =
                    |it: Component<'_>| matches!(it, Component::Normal(_) | Component::CurDir);
                path.components().all(normal) && path.file_name().is_some()
            };
            let words = command.iter().map(Path::new).filter(|word| inside(word));
            Wanted::All(words.map(Path::to_owned).collect())
        }
    }
}

/// Makes the folder `agent` among `programs` out of what `config` needs of `shared`, unless it is
/// there already. `None` if it is, or if there was nothing to copy. Whatever crash comes, the folder is
/// there with everything, or not at all.
///
/// # Errors
/// [`ProgramError`]: there is no program folder, and the same again may help.
pub fn migrate(
    programs: &Path,
    agent: &str,
    shared: &Path,
    config: &AgentConfig,
) -> Result<Option<Migrated>, ProgramError> {
    let path = programs.join(agent);
    if path.symlink_metadata().is_ok() {
        return Ok(None);
    }
    let stage = Stage::open(programs)?;
    let source = match rustix::fs::open(shared, FOLDER, rustix::fs::Mode::empty()) {
        Ok(source) => Some(source),
        Err(Errno::NOENT) => None,
        Err(Errno::LOOP | Errno::NOTDIR) => {
            return Err(ProgramError::InTheWay { path: shared.to_owned() });
        }
        Err(errno) => return Err(failed("open", shared)(errno)),
    };
    let room = make_folder(&stage.folder, agent.as_ref()).map_err(failed("create", &path))?;
    let mut staged = agent.to_owned();
    let copied = match (source, wanted(config)) {
        (None, _) => Migrated { copied: Vec::new(), left: Vec::new() },
        (Some(source), Wanted::Files(files)) => copy_files(&source, &room, &files)?,
        (Some(source), Wanted::All(files)) => match copy_all(&source, &room) {
            Err(ProgramError::Refused { path, refusal: Refusal::TooMuch }) => {
                // Beside what was begun, which is cleared with the stage.
                staged.push_str(".few");
                let few = make_folder(&stage.folder, staged.as_ref());
                let few = few.map_err(failed("create", &path))?;
                let mut migrated = copy_files(&source, &few, &files)?;
                migrated.left.push((path, Refusal::TooMuch));
                migrated
            }
            copied => copied?,
        },
    };
    let into_place =
        renameat_with(&stage.folder, &staged, &stage.programs, agent, RenameFlags::NOREPLACE);
    into_place.and_then(|()| fsync(&stage.programs)).map_err(failed("create", &path))?;
    Ok((!copied.copied.is_empty() || !copied.left.is_empty()).then_some(copied))
}

/// As [`migrate`], for every agent, with a line in the log about each that was given a folder, and about
/// each that runs something which its conversations can change all the same. An agent whose configuration cannot be read is left for the next time: until it is mended it starts nothing.
pub fn migrate_all<'a>(data: &DataDir, folders: impl IntoIterator<Item = &'a str>) {
    for folder in folders {
        let (program, shared) = (data.program_folder(folder), data.group_folder(folder));
        let path = data.agent_config(folder);
        let named = |reason| AgentConfigError::new(&path, reason);
        let config = File::load(&path).and_then(|file| file.agent().map_err(named));
        if let Ok(config) = &config
            && let Some(word) = exposed(config, &shared)
        {
            tracing::warn!(
                agent = folder,
                "every conversation can change {word}, which the agent runs: {EXPOSED_HELP}"
            );
        }
        if program.symlink_metadata().is_ok() {
            continue;
        }
        let made = config.map_err(|error| error.to_string()).and_then(|config| {
            migrate(&data.programs(), folder, &shared, &config).map_err(|error| chain(&error))
        });
        match made {
            Ok(None) => tracing::info!(agent = folder, "made its program folder"),
            Ok(Some(migrated)) => tracing::warn!(
                agent = folder, program = %program.display(), %migrated,
                "its conversations could write its program until now: look whether it is as it should be"
            ),
            Err(reason) => tracing::error!(agent = folder, reason, "it has no program folder yet"),
        }
    }
}

fn copy_all(source: &OwnedFd, room: &OwnedFd) -> Result<Migrated, ProgramError> {
    use std::ffi::OsStr;
    use std::os::fd::AsFd;
    use std::os::unix::ffi::OsStrExt;
    let here = Path::new("");
    let mut copier = Copier::wary(ENTRIES_MAX, BYTES_MAX);
    let listed = rustix::fs::Dir::read_from(source.as_fd()).map_err(failed("list", here))?;
    for entry in listed {
        let entry = entry.map_err(failed("list", here))?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            copier.copy((source, name), (room, name), Path::new(name))?;
        }
    }
    fsync(room).map_err(failed("write", here))?;
    Ok(finished(copier))
}

fn copy_files(
    source: &OwnedFd,
    room: &OwnedFd,
    files: &[PathBuf],
) -> Result<Migrated, ProgramError> {
    let mut copier = Copier::wary(ENTRIES_MAX, BYTES_MAX);
    for file in files {
        let name = file.file_name().expect("it was asked for by its name");
        let parent = file.parent().unwrap_or(Path::new(""));
        let io = |source| failed("copy", file)(source);
        let mut from = source.try_clone().map_err(io)?;
        let mut to = room.try_clone().map_err(io)?;
        let mut there = true;
        for part in parent.components().filter(|part| *part != Component::CurDir) {
            match enter(&from, part.as_ref()) {
                Ok(deeper) => from = deeper,
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    copier.left.push((file.clone(), Refusal::Link));
                    there = false;
                    break;
                }
                Err(_) => {
                    there = false; // a word of the command that is no path
                    break;
                }
            }
            to = match enter(&to, part.as_ref()) {
                Err(Errno::NOENT) => {
                    make_folder(&to, part.as_os_str()).map_err(failed("create", file))?
                }
                entered => entered.map_err(failed("open", file))?,
            };
        }
        if !there {
            continue;
        }
        match copier.copy((&from, name), (&to, name), file) {
            Err(ProgramError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::AlreadyExists => {} // said twice
            copied => copied?,
        }
        fsync(&to).map_err(failed("write", file))?;
    }
    fsync(room).map_err(failed("write", Path::new("")))?;
    Ok(finished(copier))
}

fn finished(copier: Copier) -> Migrated {
    let (mut copied, mut left) = (copier.copied, copier.left);
    copied.sort();
    left.sort_by(|one, other| one.0.cmp(&other.0));
    Migrated { copied, left }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use twobox_shared::agent_config::Lifetime;

    use super::*;
    use crate::program::stage::STAGE;

    fn command(words: &[&str]) -> AgentConfig {
        AgentConfig {
            provider: Provider::Command {
                command: words.iter().map(|word| (*word).to_owned()).collect(),
                lifetime: Lifetime::Turn,
            },
            ..AgentConfig::default()
        }
    }

    /// A data directory with something in the agent's shared folder.
    struct Old(tempfile::TempDir);

    impl Old {
        fn new(files: &[(&str, &str)]) -> Self {
            let old = Self(tempfile::tempdir().unwrap());
            fs::create_dir(old.shared("")).unwrap();
            for (name, text) in files {
                let path = old.shared(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            old
        }

        fn shared(&self, name: &str) -> PathBuf {
            self.0.path().join("ann").join(name)
        }

        fn program(&self, name: &str) -> PathBuf {
            self.0.path().join("programs/ann").join(name)
        }

        fn migrate(&self, config: &AgentConfig) -> Option<Migrated> {
            migrate(&self.0.path().join("programs"), "ann", &self.shared(""), config).unwrap()
        }
    }

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn an_agent_keeps_what_it_is_made_of() {
        let files = [("script.json", "{}"), ("agent.py", "code"), ("lib/a.py", "lib")];
        let cases = [
            (AgentConfig::default(), paths(&[])),
            (
                AgentConfig { provider: Provider::Scripted, ..AgentConfig::default() },
                paths(&["script.json"]),
            ),
            (command(&["python3", "agent.py"]), paths(&["agent.py", "lib/a.py", "script.json"])),
        ];
        for (config, expected) in cases {
            let old = Old::new(&files);
            let copied = old.migrate(&config).map(|it| it.copied).unwrap_or_default();
            assert_eq!(copied, expected, "{config:?}");
            for path in &copied {
                let name = path.to_str().unwrap();
                assert_eq!(
                    fs::read(old.program(name)).unwrap(),
                    fs::read(old.shared(name)).unwrap()
                );
            }
            assert!(
                old.program("").is_dir() && old.shared("agent.py").is_file(),
                "copied, not moved"
            );
            fs::write(old.shared("late.py"), "x").unwrap();
            assert_eq!(old.migrate(&config), None, "once");
            assert!(!old.program("late.py").exists());
        }
    }

    #[test]
    fn what_a_conversation_planted_is_not_followed() {
        let old = Old::new(&[("agent.py", "code")]);
        let secret = old.0.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        symlink(&secret, old.shared("link.py")).unwrap();
        symlink("..", old.shared("up")).unwrap();
        fs::hard_link(&secret, old.shared("second.py")).unwrap();
        nix::unistd::mkfifo(&old.shared("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let deep: PathBuf = std::iter::repeat_n("d", 40).collect();
        fs::create_dir_all(old.shared("").join(&deep)).unwrap();
        let migrated = old.migrate(&command(&["./agent.py", "link.py"])).unwrap();
        assert_eq!(migrated.copied, paths(&["agent.py"]));
        let left: Vec<_> =
            migrated.left.iter().map(|(path, why)| (path.components().count(), *why)).collect();
        let expected = [
            (33, Refusal::TooDeep),
            (1, Refusal::Link),
            (1, Refusal::Special),
            (1, Refusal::SecondName),
            (1, Refusal::Link),
        ];
        assert_eq!(left, expected, "{migrated}");
        let said = migrated.to_string();
        assert!(said.contains("copied \"agent.py\"; left "), "{said}");
        assert!(said.contains("\"link.py\" (a symbolic link"), "{said}");
        // The folder itself may be one.
        let trap = Old::new(&[]);
        fs::remove_dir(trap.shared("")).unwrap();
        symlink(old.0.path(), trap.shared("").parent().unwrap().join("ann")).unwrap();
        let programs = trap.0.path().join("programs");
        let at = trap.0.path().join("ann");
        migrate(&programs, "ann", &at, &command(&["secret"])).unwrap_err();
        assert!(!trap.program("").exists());
    }

    #[test]
    fn of_too_much_only_what_the_command_names_is_copied() {
        let old = Old::new(&[("bin/agent", "code"), ("agent.py", "more")]);
        fs::create_dir(old.shared("notes")).unwrap();
        for number in 0..=ENTRIES_MAX {
            fs::write(old.shared("notes").join(number.to_string()), "").unwrap();
        }
        let config =
            command(&["bin/agent", "agent.py", "--fast", "/etc/passwd", "../x", "agent.py"]);
        let migrated = old.migrate(&config).unwrap();
        assert_eq!(migrated.copied, paths(&["agent.py", "bin/agent"]));
        assert!(migrated.left.iter().any(|(_, why)| *why == Refusal::TooMuch), "{migrated}");
        assert_eq!(fs::read_to_string(old.program("bin/agent")).unwrap(), "code");
        assert!(!old.program("notes").exists());
        assert!(!old.0.path().join("programs").join(STAGE).exists());
    }

    #[test]
    fn a_host_that_died_in_the_middle_begins_again() {
        let old = Old::new(&[("agent.py", "code")]);
        let stage = old.0.path().join("programs").join(STAGE).join("ann");
        fs::create_dir_all(&stage).unwrap();
        fs::write(stage.join("agent.py"), "half").unwrap();
        old.migrate(&command(&["agent.py"])).unwrap();
        assert_eq!(fs::read_to_string(old.program("agent.py")).unwrap(), "code");
        assert!(!old.0.path().join("programs").join(STAGE).exists());
    }
}
