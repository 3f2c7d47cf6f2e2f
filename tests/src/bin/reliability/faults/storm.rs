//! Several faults, mixed.

use twobox_tests::Setup;

use super::{Fault, Injection};
use crate::site::Site;

/// Each injection is one of several faults.
pub(super) struct Storm {
    name: &'static str,
    faults: Vec<Box<dyn Fault>>,
    /// Places for containers; `None` for enough.
    places: Option<usize>,
}

impl Storm {
    /// All of these.
    pub(super) fn of(faults: Vec<Box<dyn Fault>>) -> Self {
        Self { name: "storm", faults, places: None }
    }

    /// These, where conversations wait for each other's places: containers come and go also without
    /// being hurt.
    pub(super) fn in_a_crowd(faults: Vec<Box<dyn Fault>>) -> Self {
        Self { name: "crowd-kill", faults, places: Some(2) }
    }
}

impl Fault for Storm {
    fn name(&self) -> &'static str {
        self.name
    }

    fn kills(&self) -> bool {
        true
    }

    fn prepare(&mut self, setup: Setup, seed: u64) -> Setup {
        let setup = self.faults.iter_mut().fold(setup, |setup, fault| fault.prepare(setup, seed));
        match self.places {
            Some(places) => setup.setting("containers.max_running", places),
            None => setup,
        }
    }

    fn inject(&mut self, site: &mut Site<'_>) -> Option<Injection> {
        // Most of them kill; the others take their time.
        let wanted = site.dice.happens(80);
        let has = |kills: bool| self.faults.iter().any(|fault| fault.kills() == kills);
        let wanted = if has(wanted) { wanted } else { !wanted };
        let fitting: Vec<usize> =
            (0..self.faults.len()).filter(|at| self.faults[*at].kills() == wanted).collect();
        let chosen = *site.dice.choose(&fitting)?;
        self.faults[chosen].inject(site)
    }

    fn end(&mut self, _injections: usize) -> Result<Vec<(&'static str, usize)>, String> {
        // None of them alone had enough injections to be held to anything.
        let notes = self.faults.iter_mut().map(|fault| fault.end(0));
        Ok(notes.collect::<Result<Vec<_>, _>>()?.concat())
    }
}
