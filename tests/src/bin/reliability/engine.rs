//! One scenario: an installation under load, a fault again and again, then peace, and a verdict.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use twobox_tests::ledger::{EndState, Record, Verdict, judge, now_us, recoveries};
use twobox_tests::{Runtime, Setup, World};

use crate::dice::Dice;
use crate::faults::{self, Fault};
use crate::load::{self, Load, People};
use crate::site::Site;

/// How long everything may take to come to rest.
const REST: Duration = Duration::from_secs(120);

/// How often a fault is tried that finds nothing to hit.
const MISSES: usize = 20;

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) runtime: Runtime,
    pub(crate) fault: &'static str,
    pub(crate) seed: u64,
    pub(crate) injections: usize,
    pub(crate) quick: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) injections: usize,
    pub(crate) verdict: Verdict,
    /// How long each fault was felt.
    pub(crate) recovered: Vec<Duration>,
    /// What else is worth knowing.
    pub(crate) notes: BTreeMap<&'static str, usize>,
    /// Everything that must not be. Empty, or the scenario failed.
    pub(crate) problems: Vec<String>,
    /// Where the files of a failed scenario are.
    pub(crate) kept: Option<PathBuf>,
    pub(crate) took: Duration,
}

/// What the verdict is made of.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// What the witnesses wrote down.
    pub(crate) records: Vec<Record>,
    /// What the installation shows.
    pub(crate) end: EndState,
    /// How the slots of schedules ended, where there are any: then the scoreboard tells of them.
    pub(crate) slots: Option<Verdict>,
    /// What else must not be.
    pub(crate) problems: Vec<String>,
    /// What else is worth knowing.
    pub(crate) notes: Vec<(&'static str, usize)>,
}

/// Runs a scenario to its end, whatever happens in it.
pub(crate) fn run(plan: &Plan) -> Outcome {
    let begin = Instant::now();
    let mut outcome = Outcome::default();
    let mut fault = faults::named(plan.fault, plan.runtime, plan.quick);
    let mut world = load::agents(fault.prepare(setup(plan), plan.seed)).make();
    let played = catch_unwind(AssertUnwindSafe(|| {
        let played = play(plan, &mut *fault, &world, &mut outcome);
        outcome.problems.extend(played.err());
        examine(&world, &*fault, &mut outcome);
    }));
    if let Err(panic) = played {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied());
        outcome.problems.push(text.unwrap_or("the tester panicked").to_owned());
    }
    if !outcome.problems.is_empty() {
        outcome.kept = Some(world.keep());
    }
    outcome.took = begin.elapsed();
    outcome
}

fn setup(plan: &Plan) -> Setup {
    let setup = Setup::new(plan.runtime).setting("containers.stop_grace", "1s");
    match plan.quick {
        // A message gets 5 attempts, and waits 35 s between them; with 3 it waits 5 s.
        true => setup.setting("limits.max_tries", 3),
        false => setup,
    }
}

fn play(
    plan: &Plan,
    fault: &mut dyn Fault,
    world: &World,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let dice = Dice::new(plan.seed, &format!("{} {}", plan.runtime.word(), plan.fault));
    let mut site = Site { world, dice };
    site.revive();
    let people = fault.people();
    let patience = people.patience();
    let mut load = Load::begin(world, people, plan.seed);
    load.close(world, patience)?; // each session exists and works before anything breaks
    fault.begin(&mut site);
    let mut misses = 0;
    while outcome.injections < plan.injections && misses < MISSES {
        site.pause(20, 400);
        let at_us = now_us();
        let Some(injection) = fault.inject(&mut site) else {
            misses += 1;
            continue;
        };
        misses = 0;
        outcome.injections += 1;
        let (fault, until_us) = (plan.fault.to_owned(), injection.until_us);
        let place = injection.place.clone();
        world.ledger().append(&Record::Injected { at_us, until_us, fault, place }).unwrap();
        // Otherwise the next one hits what has not recovered yet.
        if people != People::Few && site.dice.happens(60) {
            load.probe(world, injection.place.as_deref(), patience)?;
        }
    }
    if outcome.injections < plan.injections {
        outcome.problems.push(format!("only {} injections hit anything", outcome.injections));
    }
    for (name, count) in fault.end(outcome.injections)? {
        *outcome.notes.entry(name).or_default() += count;
    }
    load.close(world, patience)?;
    load.hush();
    fault.calm(world)?;
    rest(world, &load)?;
    // A host that starts anew finds nothing to do.
    world.stop_host();
    site.revive();
    load.wait_listening();
    rest(world, &load)
}

/// Waits until the host has taken everything and nothing is left to do.
fn rest(world: &World, load: &Load) -> Result<(), String> {
    let end = Instant::now() + REST;
    loop {
        let busy = world.sessions().into_iter().find(|session| !session.is_settled());
        let unaccepted = load.unaccepted();
        if busy.is_none() && unaccepted == 0 {
            return Ok(());
        }
        if Instant::now() > end {
            let busy = busy.map(|session| format!("{} ({})", session.id, session.place()));
            return Err(format!("not at rest: {unaccepted} not accepted, session {busy:?}"));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Holds what the witnesses saw against what was promised.
fn examine(world: &World, fault: &dyn Fault, outcome: &mut Outcome) {
    let mut evidence = Evidence {
        records: world.records(),
        end: world.end_state(),
        slots: None,
        problems: Vec::new(),
        notes: Vec::new(),
    };
    fault.testify(world, &mut evidence);
    outcome.problems.append(&mut evidence.problems);
    outcome.notes.extend(evidence.notes.drain(..));
    outcome.verdict = judge(&evidence.records, &evidence.end);
    if outcome.verdict.queued > 0 {
        outcome.problems.push(format!("{} messages never ended", outcome.verdict.queued));
    }
    if let Some(mut slots) = evidence.slots {
        let all = std::mem::take(&mut outcome.verdict);
        outcome.notes.insert("messages and begun runs", all.accepted);
        outcome.notes.insert("of these answered", all.answered);
        slots.violations.extend(all.violations);
        outcome.verdict = slots;
    }
    outcome.problems.extend(outcome.verdict.violations.iter().map(ToString::to_string));
    outcome.problems.extend(world.fsck().iter().map(|finding| format!("fsck: {finding}")));
    let recoveries = recoveries(&evidence.records).into_iter();
    outcome.recovered = recoveries.filter_map(|it| it.took).collect();
    outcome.recovered.sort();
}
