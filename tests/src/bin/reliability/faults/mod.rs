//! The ways to hurt an installation.

mod commit;
mod host;
mod model;
mod runner;
mod schedule;
mod storm;

use twobox_tests::ledger::now_us;
use twobox_tests::{Runtime, Setup, World};

use self::storm::Storm;
use crate::engine::Evidence;
use crate::load::People;
use crate::site::Site;

/// One way to hurt an installation. What needs more than a live installation, such as a full disk or
/// an engine that restarts, prepares it in [`Fault::prepare`] and mends it in [`Fault::inject`] or
/// [`Fault::end`].
pub(crate) trait Fault {
    /// The word for it, as `--only` and the scoreboard have it.
    fn name(&self) -> &'static str;

    /// Whether each injection kills something.
    fn kills(&self) -> bool;

    /// What the installation has to be like, and all else of it that a seed decides.
    fn prepare(&mut self, setup: Setup, _seed: u64) -> Setup {
        setup
    }

    /// Who talks meanwhile.
    fn people(&self) -> People {
        People::All
    }

    /// Adds what goes on by itself, once every conversation works.
    fn begin(&mut self, _site: &mut Site<'_>) {}

    /// Does it once, and undoes it. `None` if there was nothing to do it to at this moment.
    fn inject(&mut self, site: &mut Site<'_>) -> Option<Injection>;

    /// After the last injection: everything is mended from here on. Returns what is worth knowing
    /// besides, as a name and a number.
    ///
    /// # Errors
    /// Why the injections did not do what they were made for.
    fn end(&mut self, _injections: usize) -> Result<Vec<(&'static str, usize)>, String> {
        Ok(Vec::new())
    }

    /// When nobody talks any more: what goes on by itself comes to its end.
    ///
    /// # Errors
    /// What does not.
    fn calm(&mut self, _world: &World) -> Result<(), String> {
        Ok(())
    }

    /// Adds what only this fault knows to what the verdict is made of.
    fn testify(&self, _world: &World, _evidence: &mut Evidence) {}
}

/// What was done.
pub(crate) struct Injection {
    /// When it was over, on the ledgers' clock.
    pub(crate) until_us: u64,
    /// The one place where it can be felt; `None` for all.
    pub(crate) place: Option<String>,
}

impl Injection {
    /// It is over now.
    fn over(place: Option<String>) -> Self {
        Self { until_us: now_us(), place }
    }
}

/// Every fault of a runtime; `quick` is a storm of them all, but for those that need other people or
/// schedules, and a short one of models where that is cheapest.
pub(crate) fn all(runtime: Runtime, quick: bool) -> Vec<Box<dyn Fault>> {
    let mut all = single(runtime);
    if quick {
        let mut quick: Vec<Box<dyn Fault>> = vec![Box::new(Storm::of(all))];
        if runtime == Runtime::Process {
            quick.push(Box::new(model::Kill::default()));
        }
        return quick;
    }
    all.push(Box::new(model::Kill::default()));
    all.push(Box::new(schedule::Kill::new(runtime)));
    all.push(Box::new(Storm::in_a_crowd(vec![
        Box::new(host::Kill),
        Box::new(runner::Kill),
        Box::new(runner::KillWithHost),
    ])));
    all
}

fn single(runtime: Runtime) -> Vec<Box<dyn Fault>> {
    let mut all: Vec<Box<dyn Fault>> = vec![
        Box::new(host::Kill),
        Box::new(runner::Kill),
        Box::new(runner::KillWithHost),
        Box::new(host::Freeze),
        Box::new(runner::Freeze),
        Box::new(host::Restart),
    ];
    match runtime {
        Runtime::Process | Runtime::Sandbox => {
            all.push(Box::new(commit::HostInCommit::default()));
            all.push(Box::new(commit::RunnerInCommit::default()));
        }
        Runtime::Docker => all.push(Box::new(runner::Remove)),
    }
    all
}

/// The fault of this name.
pub(crate) fn named(name: &str, runtime: Runtime, quick: bool) -> Box<dyn Fault> {
    let found = all(runtime, quick).into_iter().find(|fault| fault.name() == name);
    found.expect("plans are made of the faults that there are")
}
