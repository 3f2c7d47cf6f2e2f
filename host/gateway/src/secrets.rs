//! Secrets: what upstreams want to see, by names. A name is looked for, in this order, as a file of the
//! service manager (`$CREDENTIALS_DIRECTORY/NAME`), in the environment (`TWOBOX_SECRET_NAME`, in capitals),
//! and as a file of the data directory (`secrets/NAME`), which is what [`Secrets::set`] writes.
//!
//! A value is shown by nobody: not in errors, not in logs, and no command prints one. Files are read without
//! following links, bounded, and written with a rename: nobody sees half of one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use twobox_shared::time::UnixMillis;

/// The longest value, in bytes.
pub const VALUE_MAX: usize = 64 * 1024;

/// The longest name, in bytes.
const NAME_MAX: usize = 64;

/// How variables begin that hold secrets.
const VARIABLE: &str = "TWOBOX_SECRET_";

/// Where a service manager puts its files with secrets.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Whether a secret, or an upstream, may be called so.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    // Files that begin with a dot are not finished yet.
    (1..=NAME_MAX).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('.')
}

/// The variable of the environment that may hold the secret `name`.
pub fn variable(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("{VARIABLE}{}", name.chars().map(plain).collect::<String>())
}

/// A value. Its text is for the upstream alone: never log it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes `bytes` for one, without the line break at their end.
    ///
    /// # Errors
    /// What is wrong with it, without a word of it.
    pub fn of(bytes: Vec<u8>) -> Result<Self, &'static str> {
        if bytes.len() > VALUE_MAX {
            return Err("is longer than 64 KiB");
        }
        let mut text = String::from_utf8(bytes).map_err(|_| "is no text")?;
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        match text.is_empty() {
            true => Err("is empty"),
            // It is sent as one line.
            false if text.chars().any(|c| c.is_control() || !c.is_ascii()) => {
                Err("has more than one line, or what no key has")
            }
            false => Ok(Self(text)),
        }
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Where a secret is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file of the service manager.
    Credentials(PathBuf),
    /// A variable of the environment.
    Environment(String),
    /// A file of the data directory.
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials(path) | Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(variable) => f.write_str(variable),
        }
    }
}

/// Why there is none, or none could be put there. Nothing of a value is in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Nothing can be called so.
    #[error(
        "{name:?} is no name of a secret: use letters, digits, -, _ and ., and at most 64 of them"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// What is there is no secret.
    #[error("the secret in {origin} {reason}")]
    Malformed {
        /// Where.
        origin: Origin,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The system refused.
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

/// A secret that is there, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// Where it is from.
    pub origin: Origin,
    /// When its file was written.
    pub written_at: Option<UnixMillis>,
}

/// The secrets of this host.
#[derive(Clone)]
pub struct Secrets {
    folder: PathBuf,
    credentials: Option<PathBuf>,
    variables: BTreeMap<String, String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Secrets {
    /// Those in `folder`, which need not be there, and those that `environment` has or leads to.
    pub fn new(folder: PathBuf, environment: &BTreeMap<String, String>) -> Self {
        let credentials = environment.get(CREDENTIALS).map(PathBuf::from);
        let variables = environment.iter().filter(|(name, _)| name.starts_with(VARIABLE));
        Self {
            folder,
            credentials,
            variables: variables.map(|(name, value)| (name.clone(), value.clone())).collect(),
        }
    }

    /// Whether a secret may be called so.
    ///
    /// # Errors
    /// [`SecretError::Name`].
    pub fn check(&self, name: &str) -> Result<(), SecretError> {
        checked(name)
    }

    /// The secret `name` as it is now, and where it is from; `None` if nobody has given it. Blocks.
    ///
    /// # Errors
    /// [`SecretError`]: what is there and is no secret is never passed over for another.
    pub fn find(&self, name: &str) -> Result<Option<(Secret, Origin)>, SecretError> {
        checked(name)?;
        if let Some(folder) = &self.credentials {
            let origin = Origin::Credentials(folder.join(name));
            // The manager's files may be links into its own store.
            if let Some(secret) = read(folder, name, OFlags::empty(), origin)? {
                return Ok(Some(secret));
            }
        }
        let variable = variable(name);
        if let Some(value) = self.variables.get(&variable) {
            let origin = Origin::Environment(variable);
            return of(value.clone().into_bytes(), origin).map(Some);
        }
        read(&self.folder, name, OFlags::NOFOLLOW, Origin::File(self.folder.join(name)))
    }

    /// Those that there are, by their names, and of `used` those that are nobody's file: a variable may
    /// stand for several names. What cannot be read as a secret is among them.
    ///
    /// # Errors
    /// [`SecretError::Io`] if the folder cannot be read.
    pub fn list(&self, used: &BTreeSet<String>) -> Result<Vec<Known>, SecretError> {
        let mut names = names_in(&self.folder)?;
        if let Some(folder) = &self.credentials {
            names.extend(names_in(folder)?);
        }
        names.extend(used.iter().cloned());
        let covered: BTreeSet<String> = names.iter().map(|name| variable(name)).collect();
        let others = self.variables.keys().filter(|variable| !covered.contains(*variable));
        let others = others.filter_map(|variable| variable.strip_prefix(VARIABLE));
        names.extend(others.map(str::to_ascii_lowercase));
        Ok(names.into_iter().filter_map(|name| self.known(name)).collect())
    }

    /// Where the secret of that name is from, if it is anywhere.
    fn known(&self, name: String) -> Option<Known> {
        let file = |folder: &Path| {
            let path = folder.join(&name);
            let meta = std::fs::symlink_metadata(&path).ok()?;
            let written = meta.mtime().saturating_mul(1000);
            Some((path, UnixMillis(written.saturating_add(meta.mtime_nsec() / 1_000_000))))
        };
        if let Some((path, at)) = self.credentials.as_deref().and_then(file) {
            return Some(Known { name, origin: Origin::Credentials(path), written_at: Some(at) });
        }
        let variable = variable(&name);
        if self.variables.contains_key(&variable) {
            return Some(Known { name, origin: Origin::Environment(variable), written_at: None });
        }
        let (path, at) = file(&self.folder)?;
        Some(Known { name, origin: Origin::File(path), written_at: Some(at) })
    }

    /// Puts `secret` into the data directory under `name`, in place of what is there. A host that runs has
    /// it from the next request on. Blocks until it is on the disk.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn set(&self, name: &str, secret: &Secret) -> Result<PathBuf, SecretError> {
        checked(name)?;
        let failed = |action| {
            move |errno: Errno| SecretError::Io {
                action,
                path: self.folder.clone(),
                source: errno.into(),
            }
        };
        match rustix::fs::mkdir(&self.folder, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed("create")(errno)),
        }
        let folder = folder(&self.folder, OFlags::NOFOLLOW).map_err(failed("open"))?;
        let mut random = [0_u8; 8];
        getrandom(&mut random, GetRandomFlags::empty()).map_err(failed("write in"))?;
        let fresh = format!(".{name}.{:016x}", u64::from_ne_bytes(random));
        let path = self.folder.join(name);
        put(&folder, &fresh, name, secret).map_err(|source| {
            // What counts is why it could not be put in place.
            rustix::fs::unlinkat(&folder, &fresh, AtFlags::empty()).ok();
            SecretError::Io { action: "write", path: path.clone(), source }
        })?;
        Ok(path)
    }

    /// Removes the file of `name` from the data directory. Returns whether there was one.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn remove(&self, name: &str) -> Result<bool, SecretError> {
        checked(name)?;
        let path = self.folder.join(name);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(SecretError::Io { action: "remove", path, source }),
        }
    }

    /// What of the folder in the data directory others than its owner may read or write, and what in it
    /// is no file: paths, and what is wrong with each.
    ///
    /// # Errors
    /// [`SecretError::Io`] if it cannot be looked at.
    pub fn exposed(&self) -> Result<Vec<(PathBuf, String)>, SecretError> {
        let failed =
            |source| SecretError::Io { action: "look at", path: self.folder.clone(), source };
        let meta = match std::fs::symlink_metadata(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            meta => meta.map_err(failed)?,
        };
        let mut found = Vec::new();
        if !meta.is_dir() {
            found.push((self.folder.clone(), "is no folder".to_owned()));
            return Ok(found);
        }
        let mut judge = |path: &Path, mode: u32| {
            if mode & 0o077 != 0 {
                let reason = format!("is open to other users (mode {:04o})", mode & 0o7777);
                found.push((path.to_owned(), reason));
            }
        };
        judge(&self.folder, meta.mode());
        let mut strange = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            match std::fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_file() => judge(&path, meta.mode()),
                Ok(_) => strange.push((path, "is no file, and is not read".to_owned())),
                Err(_) => {} // gone since
            }
        }
        found.extend(strange);
        Ok(found)
    }
}

fn checked(name: &str) -> Result<(), SecretError> {
    match is_name(name) {
        true => Ok(()),
        false => Err(SecretError::Name { name: name.chars().take(NAME_MAX).collect() }),
    }
}

fn of(bytes: Vec<u8>, origin: Origin) -> Result<(Secret, Origin), SecretError> {
    match Secret::of(bytes) {
        Ok(secret) => Ok((secret, origin)),
        Err(reason) => Err(SecretError::Malformed { origin, reason }),
    }
}

fn folder(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}

/// Reads the file `name` in `place`; `None` if there is none.
fn read(
    place: &Path,
    name: &str,
    flags: OFlags,
    origin: Origin,
) -> Result<Option<(Secret, Origin)>, SecretError> {
    let failed =
        |source: io::Error| SecretError::Io { action: "read", path: place.join(name), source };
    // A pipe that somebody put there would be waited for.
    let how = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = folder(place, flags)
        .and_then(|folder| rustix::fs::openat(&folder, name, how, Mode::empty()));
    let file = match opened {
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => {
            let reason = "is a link, which is not followed: put the file itself there";
            return Err(SecretError::Malformed { origin, reason });
        }
        opened => File::from(opened.map_err(|errno| failed(errno.into()))?),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(SecretError::Malformed { origin, reason: "is no file" });
    }
    let mut bytes = Vec::new();
    file.take(VALUE_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    of(bytes, origin).map(Some)
}

fn put(folder: &OwnedFd, fresh: &str, name: &str, secret: &Secret) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, fresh, flags, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(file);
    writeln!(file, "{}", secret.0)?;
    file.sync_all()?;
    rustix::fs::renameat(folder, fresh, folder, name)?;
    rustix::fs::fsync(folder)?;
    Ok(())
}

/// The names of secrets in a folder, which need not be there.
fn names_in(folder: &Path) -> Result<BTreeSet<String>, SecretError> {
    let failed = |source| SecretError::Io { action: "read", path: folder.to_owned(), source };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries.map_err(failed)?,
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| is_name(name)).collect())
}

#[cfg(test)]
#[path = "secrets_tests.rs"]
mod tests;
