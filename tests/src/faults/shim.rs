//! System calls that fail on chosen files, and a wall clock that jumps: a small library that is
//! preloaded into the binaries under test, and the page of memory by which a test steers it.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use tempfile::TempDir;

use crate::binaries::binary;

/// The size of the page.
const PAGE: u64 = 4096;

// Where things are in the page: the layout is that of `struct control` in shim.c.
const CLOCK: u64 = 0;
const CALLS: u64 = 8;
const ERROR: u64 = 12;
const LATE: u64 = 16;
const PASS: u64 = 20;
const FAIL: u64 = 24;
const HITS: u64 = 28;
const SUFFIX: u64 = 32;
const SUFFIX_MAX: usize = 64;

/// A kind of system call; `|` makes a set of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calls(u32);

#[expect(missing_docs, reason = "the calls are named for what they do")]
impl Calls {
    /// Opening for writing.
    pub const OPEN: Self = Self(1);
    pub const READ: Self = Self(2);
    pub const WRITE: Self = Self(4);
    pub const SYNC: Self = Self(8);
    pub const UNLINK: Self = Self(16);
    pub const TRUNCATE: Self = Self(32);
    pub const RENAME: Self = Self(64);
}

impl std::ops::BitOr for Calls {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Which calls fail, and how.
#[derive(Debug, Clone, Copy)]
pub struct Failing<'a> {
    /// Which calls.
    pub calls: Calls,
    /// On files whose path ends so.
    pub suffix: &'a str,
    /// With which error.
    pub error: Errno,
    /// Whether the call does its work all the same.
    pub late: bool,
    /// How many such calls are let through first.
    pub pass: i32,
    /// How many fail after that; `None`: all, until [`Shim::mend`].
    pub count: Option<i32>,
}

impl<'a> Failing<'a> {
    /// These calls on these files fail with EIO from now on.
    pub fn new(calls: Calls, suffix: &'a str) -> Self {
        Self { calls, suffix, error: Errno::EIO, late: false, pass: 0, count: None }
    }
}

/// The library, built, and its page.
#[derive(Debug)]
pub struct Shim {
    dir: TempDir,
    page: File,
}

impl Shim {
    /// Builds the library. Nothing fails yet.
    ///
    /// # Panics
    /// If there is no C compiler, which the product needs too.
    pub fn build() -> Self {
        let dir = tempfile::Builder::new().prefix("twobox-shim-").tempdir().unwrap();
        let source = dir.path().join("shim.c");
        fs::write(&source, include_str!("shim.c")).unwrap();
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let output = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o"])
            .arg(dir.path().join("shim.so"))
            .arg(&source)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the shim does not compile: {errors}");
        let path = dir.path().join("control");
        let page = File::options().create_new(true).read(true).write(true).open(&path).unwrap();
        page.set_len(PAGE).unwrap();
        Self { dir, page }
    }

    fn library(&self) -> PathBuf {
        self.dir.path().join("shim.so")
    }

    fn control(&self) -> PathBuf {
        self.dir.path().join("control")
    }

    /// What a host needs in its environment to be under the shim. It does not pass it on.
    pub fn host_env(&self) -> [(String, String); 2] {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        [
            ("LD_PRELOAD".to_owned(), text(&self.library())),
            ("SHIM_CONTROL".to_owned(), text(&self.control())),
        ]
    }

    /// A program for `containers.runner` that is the real agent-runner under the shim.
    pub fn runner(&self) -> PathBuf {
        let path = self.dir.path().join("runner");
        let (library, control) = (self.library(), self.control());
        let script = format!(
            "#!/bin/sh\nexport LD_PRELOAD={} SHIM_CONTROL={}\nexec {} \"$@\"\n",
            library.display(),
            control.display(),
            binary("agent-runner").display(),
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.page.write_all_at(bytes, at).unwrap();
    }

    /// From now on these calls fail.
    pub fn break_calls(&self, failing: Failing<'_>) {
        assert!(failing.suffix.len() < SUFFIX_MAX);
        self.mend();
        let mut suffix = [0; SUFFIX_MAX];
        suffix[..failing.suffix.len()].copy_from_slice(failing.suffix.as_bytes());
        self.write(SUFFIX, &suffix);
        self.write(ERROR, &(failing.error as i32).to_ne_bytes());
        self.write(LATE, &u32::from(failing.late).to_ne_bytes());
        self.write(PASS, &failing.pass.to_ne_bytes());
        self.write(FAIL, &failing.count.unwrap_or(-1).to_ne_bytes());
        self.write(CALLS, &failing.calls.0.to_ne_bytes()); // last: it switches the rest on
    }

    /// From now on no call fails.
    pub fn mend(&self) {
        self.write(CALLS, &0_u32.to_ne_bytes());
        self.write(HITS, &0_u32.to_ne_bytes());
    }

    /// How many calls have failed since they were last broken.
    pub fn hits(&self) -> u32 {
        let mut bytes = [0; 4];
        self.page.read_exact_at(&mut bytes, HITS).unwrap();
        u32::from_ne_bytes(bytes)
    }

    /// The wall clock goes ahead of the true time by `span`.
    pub fn clock_ahead(&self, span: Duration) {
        self.write(CLOCK, &i64::try_from(span.as_millis()).unwrap().to_ne_bytes());
    }

    /// The wall clock is behind the true time by `span`.
    pub fn clock_behind(&self, span: Duration) {
        self.write(CLOCK, &(-i64::try_from(span.as_millis()).unwrap()).to_ne_bytes());
    }
}
