//! Taking in the sandboxes that are there and that this host has not started.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::runtime::Handle as Tokio;

use super::find::{Found, Look};
use super::watch::{Processes, Watch};
use super::{Entry, LOOKS, Shared, unavailable};
use crate::child::Ending;
use crate::{Incarnation, RuntimeError};

impl Shared {
    /// Puts every incarnation that is there and not known into the table, and ends what was begun
    /// and came to nothing.
    pub(super) fn adopt(&self, tokio: &Tokio) -> Result<(), RuntimeError> {
        for _ in 0..LOOKS {
            let first = self.table().is_none();
            let look = match first {
                true => self.ours.look_everywhere(),
                false => self.ours.look_at_processes(),
            };
            self.tell_of_strangers(&look);
            let mut table = self.table();
            let table = table.get_or_insert_default();
            let beginning: Vec<_> = look
                .outer
                .into_iter()
                .filter(|(it, _)| !table.contains_key(it) && !look.found.contains_key(it))
                .collect();
            for (incarnation, found) in look.found {
                let gone = |it: &Processes| it.inner.has_ended();
                // Later on, what ends while it is looked at was known before.
                if table.contains_key(&incarnation)
                    || (!first && found.processes.as_ref().is_some_and(gone))
                {
                    continue;
                }
                tracing::info!(
                    session = %incarnation.session, runner = %incarnation.runner,
                    lives = found.processes.is_some(), "adopted a sandbox"
                );
                table.insert(incarnation, self.adopted(incarnation, found, tokio));
            }
            if beginning.is_empty() {
                return Ok(());
            }
            // Their host is gone, and with it whoever would have let them begin. What they have made
            // meanwhile shows in the next look.
            for (incarnation, outer) in beginning {
                tracing::info!(runner = %incarnation.runner, "ending a start that was interrupted");
                outer.signal(Signal::KILL).ok();
                outer.reap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(unavailable("starts that were interrupted do not end".to_owned()))
    }

    fn adopted(&self, incarnation: Incarnation, found: Found, tokio: &Tokio) -> Entry {
        let Found { folder, processes, exit_code } = found;
        match processes {
            Some(processes) => {
                let leaf = self.tree().ok().map(|tree| tree.existing(incarnation.session));
                // Nobody tells what is known already.
                let (_, begun) = tokio::sync::watch::channel(Some(processes.clone()));
                let (ended, ending) = Ending::ahead();
                let watch = Watch {
                    incarnation,
                    folder: folder.clone(),
                    processes,
                    child: None,
                    leaf,
                    ended,
                    events: self.events.clone(),
                };
                tokio.spawn(watch.run());
                Entry { folder, processes: begun, ending }
            }
            None => {
                let (_, processes) = tokio::sync::watch::channel(None);
                Entry { folder, processes, ending: Ending::past(exit_code) }
            }
        }
    }

    fn tell_of_strangers(&self, look: &Look) {
        for folder in &look.strangers {
            let folder = folder.to_string_lossy();
            if let Some(before) = self.told.tell(&folder, Instant::now()) {
                tracing::warn!(
                    %folder, before,
                    "left a sandbox alone that bears this installation's id and works elsewhere: is \
                     there a copy of this data directory?"
                );
            }
        }
    }
}
