//! All faults of a runtime, mixed.

use twobox_tests::Setup;

use super::{Fault, Injection};
use crate::site::Site;

/// Each injection is one of the others.
pub(super) struct Storm {
    faults: Vec<Box<dyn Fault>>,
}

impl Storm {
    pub(super) fn of(faults: Vec<Box<dyn Fault>>) -> Self {
        Self { faults }
    }
}

impl Fault for Storm {
    fn name(&self) -> &'static str {
        "storm"
    }

    fn kills(&self) -> bool {
        true
    }

    fn prepare(&self, setup: Setup) -> Setup {
        self.faults.iter().fold(setup, |setup, fault| fault.prepare(setup))
    }

    fn inject(&mut self, site: &mut Site<'_>) -> Option<Injection> {
        // Most of them kill; the others take their time.
        let wanted = site.dice.happens(80);
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
