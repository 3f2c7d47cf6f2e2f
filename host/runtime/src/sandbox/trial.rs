//! Trying out whether sandboxes can be made, with a program that no session waits for.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::Child;
use std::time::Instant;

use rustix::process::{Pid, Signal};

use super::Shared;
use super::handle::{self, Handle};
use super::line::{Bind, RUNNER, Way};
use super::spawn::{self, Launch};
use super::start::{PATIENCE, PAUSE, memory_file, unavailable};
use crate::{Profile, RuntimeError};

/// How much of what a trial printed is read, in bytes.
const SAID_MAX: u64 = 256 * 1024;

/// What a sandbox is tried out with.
pub(super) struct Trial {
    pub(super) environment: Vec<(&'static str, OsString)>,
    pub(super) binds: Vec<Bind>,
    pub(super) program: Vec<OsString>,
}

impl Shared {
    /// Has the runner say its version in a sandbox that has everything but folders of a session.
    pub(super) fn try_out(&self, way: Way) -> Result<String, RuntimeError> {
        let version = Trial {
            environment: Vec::new(),
            binds: vec![self.runner()],
            program: vec![RUNNER.into(), "--version".into()],
        };
        match self.run(way, version)? {
            (said, Some(0)) => Ok(said.trim().to_owned()),
            (said, _) => Err(RuntimeError::Start { reason: self.explain(&said) }),
        }
    }

    /// Runs a program to its end in a sandbox that no session has. Returns what it printed, and its
    /// exit code.
    pub(super) fn run(
        &self,
        way: Way,
        trial: Trial,
    ) -> Result<(String, Option<i32>), RuntimeError> {
        let refused = |reason: String| RuntimeError::Start { reason };
        let Trial { environment, binds, program } = trial;
        let output = File::from(memory_file()?);
        let mut said = output.try_clone().map_err(|error| unavailable(&error))?;
        let folder = Path::new("trial"); // of no session, so no host takes it for one of its own
        let base = self.launch(way, folder, output)?;
        let mut words = || {
            let mut bytes = Vec::new();
            // What cannot be read is not passed on.
            let read = said.rewind().and_then(|()| (&said).take(SAID_MAX).read_to_end(&mut bytes));
            drop(read);
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let mut child = spawn::spawn(Launch { environment, binds, program, ..base })
            .map_err(|error| refused(self.explain(&format!("{error}\n{}", words()))))?;
        let end = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait().map_err(|error| unavailable(&error))? {
                Some(status) => break status,
                None if Instant::now() > end => self.end_trial(&mut child),
                None => std::thread::sleep(PAUSE),
            }
        };
        let said = words();
        Ok(match status.success() {
            true => (said, Some(0)),
            false => (format!("bwrap: {status}\n{said}"), status.code()),
        })
    }

    /// Ends a trial that takes too long, with whoever is inside.
    fn end_trial(&self, outer: &mut Child) {
        for inner in handle::children(Pid::from_child(outer)) {
            if let Ok(inner) = Handle::open(inner) {
                inner.signal(Signal::KILL).ok();
            }
        }
        // Its end is waited for by the caller.
        outer.kill().ok();
        std::thread::sleep(PAUSE);
    }

    /// One line about what runs, as whom, and within what limits.
    pub(super) fn check(&self) -> Result<String, RuntimeError> {
        self.accepts(&Profile::usual(&self.settings))
            .map_err(|reason| RuntimeError::Start { reason })?;
        let version = self.try_out(self.way()?)?;
        let user = self.user.clone().map_err(|reason| RuntimeError::Start { reason })?;
        let how = match self.way()? {
            Way::Own | Way::Before(_) => format!("as user {user}"),
            Way::Inside(_) => format!("as user {user}, without a user namespace"),
        };
        Ok(format!("{version}, in a sandbox of bubblewrap {how}; {}", self.limits()))
    }
}
