//! What a fault may touch.

use std::path::PathBuf;
use std::time::Duration;

use twobox_tests::{Container, Session, World};

use crate::dice::Dice;

/// An installation under load, and the dice of its scenario.
pub(crate) struct Site<'a> {
    pub(crate) world: &'a World,
    pub(crate) dice: Dice,
}

impl Site<'_> {
    /// A runner that lives, with the session that it serves. They are told apart by their places, so
    /// that the dice mean the same in each run.
    pub(crate) fn victim(&mut self) -> Option<(Session, Container)> {
        let sessions = self.world.sessions();
        let mut living: Vec<_> = self
            .world
            .containers()
            .into_iter()
            .filter_map(|container| {
                let session = sessions.iter().find(|it| it.id == container.session)?;
                Some((session.place(), session.clone(), container))
            })
            .collect();
        living.sort_by(|a, b| a.0.cmp(&b.0));
        let (_, session, container) = self.dice.choose(&living)?.clone();
        Some((session, container))
    }

    /// Starts a host again. What it is to do with containers when it is told to stop is left to the
    /// dice.
    pub(crate) fn revive(&mut self) {
        let word = if self.dice.happens(50) { "stop" } else { "leave" };
        self.world.up_with(&[("TWOBOX_SHUTDOWN_CONTAINERS", word)]);
    }

    /// Lets a time of these milliseconds go by.
    pub(crate) fn pause(&mut self, from: u64, to: u64) {
        std::thread::sleep(self.dice.span_ms(from, to));
    }
}

/// Waits until one of these rollback journals exists: somebody is in the middle of a commit. Looks as
/// often as it can, because a commit takes a few milliseconds.
pub(crate) fn wait_for_journal(journals: &[PathBuf], limit: Duration) -> Option<&PathBuf> {
    let begin = std::time::Instant::now();
    while begin.elapsed() < limit {
        if let Some(found) = journals.iter().find(|journal| journal.exists()) {
            return Some(found);
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    None
}
