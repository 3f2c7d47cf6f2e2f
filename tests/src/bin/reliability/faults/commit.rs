//! A box's writer is killed in the middle of a commit, so that a hot journal is left: only the
//! writing side may roll it back, and everybody else has to wait for that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Fault, Injection};
use crate::site::{Site, wait_for_journal};

/// How long a commit is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

fn journal_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-journal");
    name.into()
}

/// Whether SQLite takes the file for a journal that has to be rolled back.
fn is_hot(journal: &Path) -> bool {
    std::fs::read(journal).is_ok_and(|bytes| bytes.first().is_some_and(|byte| *byte != 0))
}

fn enough(hot: usize, injections: usize) -> Result<Vec<(&'static str, usize)>, String> {
    match hot == 0 && injections >= 5 {
        true => Err(format!("none of {injections} kills hit a commit")),
        false => Ok(vec![("hot journals", hot)]),
    }
}

/// The host dies in a commit on some inbox.
#[derive(Default)]
pub(super) struct HostInCommit {
    hot: usize,
}

impl Fault for HostInCommit {
    fn name(&self) -> &'static str {
        "host-commit-kill"
    }

    fn kills(&self) -> bool {
        true
    }

    fn inject(&mut self, site: &mut Site<'_>) -> Option<Injection> {
        let sessions = site.world.sessions();
        let journals: Vec<PathBuf> =
            sessions.iter().map(|session| journal_of(&session.paths().inbound_db())).collect();
        wait_for_journal(&journals, PATIENCE)?;
        std::thread::sleep(Duration::from_micros(site.dice.below(600) as u64));
        site.world.kill_host();
        self.hot += usize::from(journals.iter().any(|journal| is_hot(journal)));
        let injection = Injection::over(None);
        site.revive();
        Some(injection)
    }

    fn end(&mut self, injections: usize) -> Result<Vec<(&'static str, usize)>, String> {
        enough(self.hot, injections)
    }
}

/// A runner dies in a commit on its outbox.
#[derive(Default)]
pub(super) struct RunnerInCommit {
    hot: usize,
}

impl Fault for RunnerInCommit {
    fn name(&self) -> &'static str {
        "runner-commit-kill"
    }

    fn kills(&self) -> bool {
        true
    }

    fn inject(&mut self, site: &mut Site<'_>) -> Option<Injection> {
        let (session, container) = site.victim()?;
        let journals = [journal_of(&session.paths().outbound_db())];
        wait_for_journal(&journals, PATIENCE)?;
        std::thread::sleep(Duration::from_micros(site.dice.below(600) as u64));
        container.strike().then_some(())?;
        container.wait_gone();
        // The next runner may have been faster: then it is not counted.
        self.hot += usize::from(is_hot(&journals[0]));
        Some(Injection::over(Some(session.place())))
    }

    fn end(&mut self, injections: usize) -> Result<Vec<(&'static str, usize)>, String> {
        enough(self.hot, injections)
    }
}
