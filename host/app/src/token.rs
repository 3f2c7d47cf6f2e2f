//! The token: 32 random bytes in hexadecimal, in a file of the data directory that only its owner
//! may read. Whoever can read it may use the API.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest, Sha256};

use twobox_shared::errors::chain;
use twobox_system::blocking::blocking;

/// How many random bytes a token has.
const BYTES: usize = 32;

/// How much of a file is read to see that it holds something else, in bytes.
const READ_MAX: u64 = 1024;

/// A token. Its text is shown on a person's wish only: never log it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file holds something else.
    #[error("{path} holds no token: delete it, and a new one is made")]
    Malformed {
        /// The file.
        path: PathBuf,
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

impl Token {
    /// The token in the file at `path`; a fresh one is put there if there is no such file. Who makes
    /// one at the same time gets the same.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn at(path: &Path) -> Result<Self, TokenError> {
        if let Some(token) = Self::read(path)? {
            return Ok(token);
        }
        let failed =
            |action| move |source| TokenError::Io { action, path: path.to_owned(), source };
        random().and_then(|bytes| put(path, &Self::from_bytes(&bytes))).map_err(failed("write"))?;
        let token = Self::read(path)?;
        token.ok_or_else(|| failed("read")(io::ErrorKind::NotFound.into()))
    }

    /// The token in the file at `path`; `None` if there is no such file.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn read(path: &Path) -> Result<Option<Self>, TokenError> {
        let failed = |source| TokenError::Io { action: "read", path: path.to_owned(), source };
        let mut text = String::new();
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        match file.take(READ_MAX).read_to_string(&mut text) {
            Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(failed(error)),
            _ => {}
        }
        let text = text.trim_end();
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match text.len() == 2 * BYTES && text.bytes().all(is_hex) {
            true => Ok(Some(Self(text.to_owned()))),
            false => Err(TokenError::Malformed { path: path.to_owned() }),
        }
    }

    /// Puts a fresh token in place of the one at `path`, whatever lies there. From then on nobody is let
    /// in with the old one: a host that runs reads the file for every request.
    ///
    /// # Errors
    /// [`TokenError::Io`].
    pub fn renew(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::Io { action: "write", path: path.to_owned(), source };
        let token = Self::from_bytes(&random().map_err(failed)?);
        place(path, &token, |fresh| fs::rename(fresh, path)).map_err(failed)?;
        Ok(token)
    }

    fn from_bytes(bytes: &[u8; BYTES]) -> Self {
        Self(hex(bytes))
    }

    /// Whether `given` is this token. How long the answer takes tells nothing about the token:
    /// digests are compared, and nobody can choose theirs.
    pub fn is(&self, given: &[u8]) -> bool {
        Sha256::digest(given) == Sha256::digest(&self.0)
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// The file with the token that counts now.
#[derive(Debug, Clone)]
pub struct TokenFile(PathBuf);

impl TokenFile {
    /// The file at this path. It is read whenever somebody shows a token.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Whether `given` is the token that lies in the file now. Where there is none, nothing is.
    pub async fn admits(&self, given: &[u8]) -> bool {
        // Whoever cannot be right costs no look.
        if given.len() != 2 * BYTES {
            return false;
        }
        let path = self.0.clone();
        match blocking(move || Token::read(&path)).await {
            Ok(token) => token.is_some_and(|token| token.is(given)),
            Err(error) => {
                tracing::warn!(error = chain(&error), "nobody can use the API with a token");
                false
            }
        }
    }
}

/// Whether others than the owner may read the file at `path`.
///
/// # Errors
/// The system's reason.
pub fn is_exposed(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.mode() & 0o077 != 0)
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom(&mut bytes, GetRandomFlags::empty())?; // so few come all at once
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts a token in place unless there is one.
fn put(path: &Path, token: &Token) -> io::Result<()> {
    place(path, token, |fresh| match fs::hard_link(fresh, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::remove_file(fresh),
    })
}

/// Writes a token beside `path` and has it `put` there. Nobody sees half of it.
fn place(path: &Path, token: &Token, put: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", hex(&random::<8>()?)));
    let fresh = Path::new(&fresh);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(fresh)
        .and_then(|mut file| writeln!(file, "{}", token.0).and_then(|()| file.sync_all()))
        .and_then(|()| put(fresh));
    if written.is_err() {
        drop(fs::remove_file(fresh)); // what counts is why it could not be put in place
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_made_once_and_nobody_else_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.token");
        assert_eq!(Token::read(&path).unwrap(), None);
        let made: Vec<Token> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| Token::at(&path))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
        });
        for token in &made {
            assert_eq!(*token, made[0], "whoever wins, all have the same");
        }
        assert_eq!(Token::at(&path).unwrap(), made[0]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!is_exposed(&path).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
        let other = Token::at(&dir.path().join("other")).unwrap();
        assert_ne!(other, made[0]);
        assert!(!format!("{other:?}").contains(other.text()));
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let token = Token::from_bytes(&[0xab; BYTES]);
        let text = token.text().to_owned();
        assert_eq!(text.len(), 64);
        assert!(token.is(text.as_bytes()));
        for wrong in ["", &text[1..], &text.to_uppercase(), &format!("{text} "), "ab"] {
            assert!(!token.is(wrong.as_bytes()), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn the_token_that_was_renewed_last_is_the_one_that_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.token");
        let file = TokenFile::new(path.clone());
        let first = Token::at(&path).unwrap();
        assert!(file.admits(first.text().as_bytes()).await);
        let second = Token::renew(&path).unwrap();
        assert_eq!(Token::read(&path).unwrap(), Some(second.clone()));
        assert!(!file.admits(first.text().as_bytes()).await);
        assert!(file.admits(second.text().as_bytes()).await);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
        fs::write(&path, "x").unwrap();
        assert!(!file.admits(second.text().as_bytes()).await);
        let third = Token::renew(&path).unwrap();
        assert!(file.admits(third.text().as_bytes()).await, "whatever lay there");
        fs::remove_file(&path).unwrap();
        assert!(!file.admits(third.text().as_bytes()).await);
    }

    #[test]
    fn a_file_that_holds_no_token_is_never_one_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.token");
        let long = "a".repeat(65);
        for text in ["", "\n", "abc", &"A".repeat(64), &long, &format!("{0}\n{0}", &long[1..])] {
            fs::write(&path, text).unwrap();
            let error = Token::at(&path).unwrap_err().to_string();
            assert!(error.contains("delete it"), "{text:?}: {error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::write(&path, [0xff; 64]).unwrap();
        assert!(matches!(Token::at(&path), Err(TokenError::Malformed { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(is_exposed(&path).unwrap());
    }
}
