//! The data directory: where everything of one installation lies, and the lock that gives it to
//! one host.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use twobox_shared::ids::{AgentGroupId, SessionId};
use twobox_shared::paths::SessionPaths;

/// How long a host that starts waits for the directory.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(2);

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
        let folders =
            [data.sessions(), data.groups(), data.programs(), data.agents(), data.scratch()];
        for folder in folders {
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

    /// The token of the HTTP API.
    pub fn api_token(&self) -> PathBuf {
        self.root.join("api.token")
    }

    /// All session folders.
    pub fn sessions(&self) -> PathBuf {
        self.root.join("sessions")
    }

    /// All folders of agent groups.
    pub fn groups(&self) -> PathBuf {
        self.root.join("groups")
    }

    /// All folders with what agents are. Containers only read in them.
    pub fn programs(&self) -> PathBuf {
        self.root.join("programs")
    }

    /// The configurations of agent groups. No container gets to see this folder.
    pub fn agents(&self) -> PathBuf {
        self.root.join("agents")
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

    /// The folder that the sessions of one agent group share.
    pub fn group_folder(&self, folder: &str) -> PathBuf {
        self.groups().join(folder)
    }

    /// The folder with what the agent group is whose folder is called `folder`.
    pub fn program_folder(&self, folder: &str) -> PathBuf {
        self.programs().join(folder)
    }

    /// The configuration of the agent group whose folder is called `folder`. It is not in that
    /// folder, because containers write there.
    pub fn agent_config(&self, folder: &str) -> PathBuf {
        self.agents().join(format!("{folder}.json"))
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("host.lock")
    }

    /// Who holds the directory now, in its own words; `None` if nobody does. A host that starts in
    /// this instant has to wait for the end of the look, as [`DataDir::lock_patiently`] does.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn holder(&self) -> Result<Option<String>, DataError> {
        let path = self.lock_file();
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(io_error("open", &path))?,
        };
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_) => Ok(None), // given back at once; the text is an earlier holder's
            Err((file, nix::errno::Errno::EWOULDBLOCK)) => words_of_holder(file, &path).map(Some),
            Err((_, errno)) => Err(io_error("lock", &path)(errno.into())),
        }
    }

    /// As [`DataDir::lock`], but waits up to [`LOCK_PATIENCE`] for somebody who only looks, or who
    /// is about to leave.
    ///
    /// # Errors
    /// As for [`DataDir::lock`].
    pub fn lock_patiently(&self) -> Result<HostLock, DataError> {
        let end = Instant::now() + LOCK_PATIENCE;
        loop {
            match self.lock() {
                Err(DataError::Held { .. }) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                result => return result,
            }
        }
    }

    /// Takes the directory for this process, until the returned lock is dropped.
    ///
    /// # Errors
    /// [`DataError::Held`] with what the holder wrote about itself.
    pub fn lock(&self) -> Result<HostLock, DataError> {
        let path = self.lock_file();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error("open", &path))?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((file, nix::errno::Errno::EWOULDBLOCK)) => {
                let holder = words_of_holder(file, &path)?;
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

fn words_of_holder(mut file: File, path: &Path) -> Result<String, DataError> {
    let mut holder = String::new();
    file.read_to_string(&mut holder).map_err(io_error("read", path))?;
    Ok(holder.trim().to_owned())
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
    fn a_look_names_the_holder_and_only_delays_a_host_that_starts() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::create(&dir.path().join("data")).unwrap();
        assert_eq!(data.holder().unwrap(), None, "nobody ever");
        let lock = data.lock().unwrap();
        let us = format!("process {}", std::process::id());
        assert!(data.holder().unwrap().is_some_and(|holder| holder.starts_with(&us)));
        drop(lock);
        assert_eq!(data.holder().unwrap(), None, "nobody any more");

        let file = File::open(data.lock_file()).unwrap();
        let look = Flock::lock(file, FlockArg::LockSharedNonblock).unwrap();
        data.lock().unwrap_err();
        let end = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(look);
        });
        data.lock_patiently().unwrap();
        end.join().unwrap();
    }

    #[test]
    fn a_directory_without_a_database_names_the_command_that_makes_one() {
        let dir = tempfile::tempdir().unwrap();
        let refusal = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(refusal.contains("init"), "{refusal}");
    }
}
