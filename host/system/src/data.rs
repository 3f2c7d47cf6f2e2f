//! The data directory: where everything of one installation lies, and the lock that gives it to
//! one host.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use twobox_shared::ids::{AgentGroupId, SessionId};
use twobox_shared::paths::SessionPaths;

pub use crate::data_error::DataError;
use crate::data_error::{cannot_create, io_error, unreachable};
use crate::modes;
use crate::owner::{self, Wrong};

/// How long a host that starts waits for the directory.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// One data directory, by its canonical path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    root: PathBuf,
}

/// How long the path of a unix socket may be, in bytes: `sun_path` without its end.
pub const SOCKET_PATH_MAX: usize = 107;

impl DataDir {
    /// An initialised data directory of this user, in which nobody else may write. The path is made
    /// canonical once, here: everything below it is opened without following links.
    ///
    /// # Errors
    /// [`DataError::NotInitialised`] if there is no `host.db`; otherwise why it is not for this user.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let missing = || DataError::NotInitialised { path: path.to_owned() };
        let root = match path.canonicalize() {
            Err(error) if is_absent(&error) => return Err(missing()),
            root => root.map_err(|error| unreachable(path, error))?,
        };
        let allowed = Self::allowed(&root);
        match std::fs::metadata(root.join("host.db")) {
            Ok(meta) if meta.is_file() => {}
            Ok(_) => return Err(missing()),
            Err(error) if is_absent(&error) => {
                let data = Self { root };
                return Err(if data.was_used() { data.lost() } else { missing() });
            }
            // What keeps us from looking is most likely that it is another user's.
            Err(error) => return Err(allowed.err().unwrap_or_else(|| unreachable(&root, error))),
        }
        allowed?;
        refuse_strays(&root)?;
        Ok(Self { root })
    }

    /// As [`DataDir::open`], of one whose `host.db` need not be there.
    ///
    /// # Errors
    /// As there; [`DataError::NotInitialised`] if there is nothing of an installation.
    pub fn open_without_db(path: &Path) -> Result<Self, DataError> {
        let root = match path.canonicalize() {
            Err(error) if is_absent(&error) => {
                return Err(DataError::NotInitialised { path: path.to_owned() });
            }
            root => root.map_err(|error| unreachable(path, error))?,
        };
        Self::allowed(&root)?;
        refuse_strays(&root)?;
        let data = Self { root };
        match data.was_used() {
            true => Ok(data),
            false => Err(DataError::NotInitialised { path: path.to_owned() }),
        }
    }

    /// Whether there are traces of an installation: sessions, or agents.
    pub fn was_used(&self) -> bool {
        [self.sessions(), self.agents(), self.groups()]
            .iter()
            .any(|folder| folder.is_dir() && !is_empty(folder))
    }

    /// That its database is gone.
    pub fn lost(&self) -> DataError {
        DataError::Lost { path: self.root.clone() }
    }

    /// Creates the directory and the folders in it, readable by its owner only, and makes the path
    /// canonical. One that is there has to be this user's, and nobody else may write in it unless it
    /// is empty: then it is closed to them. Existing folders stay as they are.
    ///
    /// # Errors
    /// Any [`DataError`] but [`DataError::NotInitialised`], [`DataError::Lost`] and [`DataError::Held`].
    pub fn create(path: &Path) -> Result<Self, DataError> {
        // Before anything is made: a host could never be reached there.
        let absolute = std::path::absolute(path).map_err(io_error("resolve", path))?;
        Self { root: absolute }.fits_sockets()?;
        make_private(path).map_err(|error| cannot_create(path, error))?;
        let root = path.canonicalize().map_err(io_error("resolve", path))?;
        Self { root: root.clone() }.fits_sockets()?;
        match Self::allowed(&root) {
            Err(DataError::Writable { .. }) if is_empty(&root) => {
                modes::close(&root).map_err(io_error("close to others", &root))?;
                // Between the look and the lock on the door somebody may have come in.
                if !is_empty(&root) {
                    let mode = std::fs::metadata(&root).map_or(0, |meta| meta.mode() & 0o7777);
                    return Err(DataError::Writable { path: root, mode });
                }
            }
            allowed => allowed?,
        }
        let data = Self { root };
        let folders =
            [data.sessions(), data.groups(), data.programs(), data.agents(), data.scratch()];
        for folder in folders {
            make_private(&folder)?;
        }
        Ok(data)
    }

    /// Closes to others what is open to them among the host's own files. Returns what was.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn close_to_others(&self) -> Result<Vec<PathBuf>, DataError> {
        modes::close(&self.root).map_err(io_error("close to others", &self.root))
    }

    /// Whether this user may work in a directory that is there.
    fn allowed(root: &Path) -> Result<(), DataError> {
        let meta = std::fs::metadata(root).map_err(io_error("look at", root))?;
        let path = root.to_owned();
        owner::judge(meta.uid(), meta.mode(), owner::us()).map_err(|wrong| match wrong {
            Wrong::Foreign(uid) => DataError::Foreign {
                path,
                owner: owner::name(uid),
                us: owner::name(owner::us()),
                sudo: owner::sudo(uid),
            },
            Wrong::Writable(mode) => DataError::Writable { path, mode },
        })
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

    /// Whether the paths of its sockets are as short as the system wants them.
    ///
    /// # Errors
    /// [`DataError::TooLong`].
    pub fn fits_sockets(&self) -> Result<(), DataError> {
        let lengths = [self.socket(), self.api_socket()].map(|path| path.as_os_str().len());
        let length = lengths.into_iter().max().unwrap_or(0);
        match length <= SOCKET_PATH_MAX {
            true => Ok(()),
            false => Err(DataError::TooLong { path: self.root.clone(), length }),
        }
    }

    /// The socket of the terminal channel and of the command line.
    pub fn socket(&self) -> PathBuf {
        self.root.join("host.sock")
    }

    /// The token of the HTTP API.
    pub fn api_token(&self) -> PathBuf {
        self.root.join("api.token")
    }

    /// The socket of the HTTP API.
    pub fn api_socket(&self) -> PathBuf {
        self.root.join("api.sock")
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

    /// The keys of upstreams that people have given to this host, if there are any.
    pub fn secrets(&self) -> PathBuf {
        self.root.join("secrets")
    }

    /// What models answered, of agents for which that is recorded: a folder for each agent.
    pub fn recordings(&self) -> PathBuf {
        self.root.join("recordings")
    }

    /// Private folders for copies of outboxes under repair.
    pub fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// A folder for the files of each message whose program runs.
    pub fn parcels(&self) -> PathBuf {
        self.scratch().join("letters")
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

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Refuses a database that belongs to another user than this one, whose the directory is.
fn refuse_strays(root: &Path) -> Result<(), DataError> {
    for name in ["host.db", "host.db-wal", "host.db-shm"] {
        let file = root.join(name);
        match std::fs::metadata(&file) {
            Ok(meta) if meta.uid() != owner::us() => {
                let (owner, us) = (owner::name(meta.uid()), owner::name(owner::us()));
                return Err(DataError::Stray { file, owner, us });
            }
            Ok(_) | Err(_) => {} // whoever opens it says why that does not work
        }
    }
    Ok(())
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
