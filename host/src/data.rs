//! The data directory: where everything of one installation lies, and the lock that gives it to
//! one host.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use twobox_shared::ids::{AgentGroupId, SessionId};
use twobox_shared::paths::SessionPaths;

/// One data directory, by its canonical path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    root: PathBuf,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// There is no such directory, or it was never initialised.
    #[error("{path} is not a Twobox data directory: run `twobox --data {path} init` first")]
    NotInitialised {
        /// What was given.
        path: PathBuf,
    },
    /// Another host holds it.
    #[error("{path} belongs to a running host ({holder}): stop that one first")]
    Held {
        /// The data directory.
        path: PathBuf,
        /// What the other host wrote about itself.
        holder: String,
    },
    /// The operating system refused.
    #[error("could not {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl DataDir {
    /// An initialised data directory. The path is made canonical once, here: everything below it is
    /// opened without following links.
    ///
    /// # Errors
    /// [`DataError::NotInitialised`] if there is no `host.db`.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        match path.canonicalize() {
            Ok(root) if root.join("host.db").is_file() => Ok(Self { root }),
            _ => Err(DataError::NotInitialised { path: path.to_owned() }),
        }
    }

    /// Creates the directory and the folders in it, readable by its owner only, and makes the path
    /// canonical. Existing folders stay as they are.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn create(path: &Path) -> Result<Self, DataError> {
        make_private(path)?;
        let root = path.canonicalize().map_err(io_error("resolve", path))?;
        let data = Self { root };
        for folder in [data.sessions(), data.groups(), data.scratch()] {
            make_private(&folder)?;
        }
        Ok(data)
    }

    /// The canonical path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The host's own database.
    pub fn host_db(&self) -> PathBuf {
        self.root.join("host.db")
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.root.join("twobox.toml")
    }

    /// The socket of the terminal channel and of the command line.
    pub fn socket(&self) -> PathBuf {
        self.root.join("host.sock")
    }

    /// All session folders.
    pub fn sessions(&self) -> PathBuf {
        self.root.join("sessions")
    }

    /// All folders of agent groups.
    pub fn groups(&self) -> PathBuf {
        self.root.join("groups")
    }

    /// Private folders for copies of outboxes under repair.
    pub fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// The folder of one session. `group` and `session` are ids of ours, never a container's word.
    pub fn session_folder(&self, group: AgentGroupId, session: SessionId) -> PathBuf {
        self.sessions().join(group.to_string()).join(session.to_string())
    }

    /// The two boxes of one session.
    pub fn session_paths(&self, group: AgentGroupId, session: SessionId) -> SessionPaths {
        SessionPaths::of_folder(&self.session_folder(group, session))
    }

    /// The folder of one agent group.
    pub fn group_folder(&self, folder: &str) -> PathBuf {
        self.groups().join(folder)
    }

    /// Takes the directory for this process, until the returned lock is dropped.
    ///
    /// # Errors
    /// [`DataError::Held`] with what the holder wrote about itself.
    pub fn lock(&self) -> Result<HostLock, DataError> {
        let path = self.root.join("host.lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error("open", &path))?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(io_error("read", &path))?;
                let holder = holder.trim().to_owned();
                return Err(DataError::Held { path: self.root.clone(), holder });
            }
            Err((_, errno)) => return Err(io_error("lock", &path)(errno.into())),
        };
        let host = nix::unistd::gethostname().unwrap_or_default();
        let line = format!("process {} on {}\n", std::process::id(), host.to_string_lossy());
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(line.as_bytes()))
            .map_err(io_error("write", &path))?;
        Ok(HostLock { _lock: lock })
    }
}

/// The right to be the host of a data directory.
#[derive(Debug)]
pub struct HostLock {
    _lock: Flock<File>,
}

/// Creates `path` and its parents; a folder that this call makes is its owner's alone.
fn make_private(path: &Path) -> Result<(), DataError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io_error("create", path))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataError {
    let path = path.to_owned();
    move |source| DataError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_host_is_told_who_holds_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::create(&dir.path().join("data")).unwrap();
        let lock = data.lock().unwrap();
        let refusal = data.lock().unwrap_err().to_string();
        assert!(refusal.contains(&format!("process {}", std::process::id())), "{refusal}");
        drop(lock);
        data.lock().unwrap();
    }

    #[test]
    fn a_directory_without_a_database_names_the_command_that_makes_one() {
        let dir = tempfile::tempdir().unwrap();
        let refusal = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(refusal.contains("init"), "{refusal}");
    }
}
