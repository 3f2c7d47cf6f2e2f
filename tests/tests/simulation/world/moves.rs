//! What may happen next in a small world, for an explorer that tries all of it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use twobox_session::boxes::BoxSnapshot;
use twobox_session::machine::{Effect, Sweep};
use twobox_shared::ids::RunnerId;
use uuid::Uuid;

use super::World;
use crate::dice::{Dice, Script};
use crate::host::Task;
use crate::runner::Runner;
use crate::trace::Trace;

/// The one session of a small world.
const ONE: usize = 0;

/// How long the daemon lets pass between two looks at everything.
const SAFETY_NET: Duration = Duration::from_secs(60);

/// One thing that may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    /// Somebody says something.
    Say,
    /// The host takes its next step.
    Host,
    /// The living runner takes its next step.
    Runner,
    /// The channel ends one of its calls.
    Channel,
    StartHost,
    RuntimeAnswersAgain,
    ChannelIsBack,
    CrashHost,
    KillRunner,
    StallRunner,
    /// A container comes to life that this host did not record.
    StrangeStart,
    RuntimeIsSilent,
    ChannelIsGone,
}

impl Move {
    /// What goes its way.
    pub(crate) const ORDINARY: [Self; 7] = [
        Self::Say,
        Self::Host,
        Self::Runner,
        Self::Channel,
        Self::StartHost,
        Self::RuntimeAnswersAgain,
        Self::ChannelIsBack,
    ];

    /// What goes wrong.
    pub(crate) const FAULTS: [Self; 6] = [
        Self::CrashHost,
        Self::KillRunner,
        Self::StallRunner,
        Self::StrangeStart,
        Self::RuntimeIsSilent,
        Self::ChannelIsGone,
    ];
}

impl World {
    /// With one session, which gets so many messages with so many attempts each.
    pub(crate) fn small(messages: usize, faults: usize, max_tries: i64) -> Self {
        let trace = Trace::new("", 0, false);
        let dice = Dice::Script(Script::new(Vec::new(), faults));
        Self { max_tries, ..Self::with(trace, dice, 1, messages) }
    }

    /// How long this has lasted since `first`.
    pub(crate) fn age(&self, first: &Self) -> Duration {
        self.monotonic.since(first.monotonic)
    }

    /// Whether this fault would change anything.
    pub(crate) fn can_go_wrong(&self, what: Move) -> bool {
        let living = self.sessions[ONE].runners.iter().find(|runner| runner.lives());
        self.faults_left() > 0
            && match what {
                Move::CrashHost => self.host_up,
                Move::KillRunner => living.is_some(),
                Move::StallRunner => living.is_some_and(|runner| !runner.stalled),
                Move::StrangeStart => living.is_none(),
                Move::RuntimeIsSilent => self.runtime_up,
                Move::ChannelIsGone => self.channel_up,
                Move::Say
                | Move::Host
                | Move::Runner
                | Move::Channel
                | Move::StartHost
                | Move::RuntimeAnswersAgain
                | Move::ChannelIsBack => false,
            }
    }

    /// How many more things may go wrong.
    pub(crate) fn faults_left(&self) -> usize {
        self.script().faults()
    }

    pub(crate) fn script(&self) -> &Script {
        match &self.dice {
            Dice::Script(script) => script,
            Dice::Seed(_) => unreachable!("a small world has a script"),
        }
    }

    /// Makes a move, with these answers to what it asks of the dice.
    pub(crate) fn make(&mut self, what: Move, given: Vec<usize>) {
        let fault = usize::from(Move::FAULTS.contains(&what));
        self.dice = Dice::Script(Script::new(given, self.faults_left() - fault));
        let session = &mut self.sessions[ONE];
        let living = session.runners.iter_mut().find(|runner| runner.lives());
        match what {
            Move::Say => self.accept(ONE),
            Move::Host if self.host_up => self.host_step(ONE),
            Move::Runner => self.runner_step(ONE),
            Move::Channel => self.channel_step(),
            Move::StartHost if !self.host_up => self.start_host(),
            Move::RuntimeAnswersAgain => self.runtime_up = true,
            Move::ChannelIsBack if !self.channel_up => {
                self.channel_up = true;
                self.wake_all();
            }
            Move::CrashHost if self.host_up => self.crash_host("out of the blue"),
            Move::KillRunner => {
                if let Some(id) = living.map(|runner| runner.id) {
                    self.kill(ONE, id, "KILLED");
                }
            }
            Move::StallRunner => {
                if let Some(runner) = living {
                    runner.stalled = true;
                    self.note("the runner STALLS".into());
                }
            }
            Move::StrangeStart => {
                if living.is_none() {
                    let id = RunnerId::from_uuid(Uuid::from_u128(self.next_runner));
                    self.next_runner += 1;
                    self.sessions[ONE].runners.push(Runner::new(id));
                    self.note("SOMEBODY ELSE STARTS A CONTAINER".into());
                }
            }
            Move::RuntimeIsSilent => {
                self.runtime_up = false;
                self.note("the runtime is silent".into());
            }
            Move::ChannelIsGone => {
                self.channel_up = false;
                self.note("the channel is gone".into());
            }
            Move::Host | Move::StartHost | Move::ChannelIsBack | Move::CrashHost => {}
        }
        self.check_always();
    }

    /// Nothing can happen: time passes until something is due, or the daemon looks at everything.
    pub(crate) fn wait(&mut self) {
        let task = self.sessions[ONE].task.as_ref();
        let due = task.and_then(|task| task.look_at).map(|when| when.since(self.monotonic));
        let net = due.is_none_or(|due| due > SAFETY_NET);
        let span = due.unwrap_or(SAFETY_NET).min(SAFETY_NET);
        self.now = self.now + span;
        self.monotonic = self.monotonic + span;
        self.note(format!("{} ms pass", span.as_millis()));
        if net {
            self.safety_net();
        }
    }

    /// Whether everything that was said has come to its end.
    pub(crate) fn is_over(&self) -> bool {
        self.sessions[ONE].accepted == self.messages && self.settled()
    }

    /// What happened so far.
    pub(crate) fn story(&self) -> String {
        self.trace.story()
    }

    /// One number for what is so: two worlds with the same go on in the same ways.
    pub(crate) fn digest(&self) -> u128 {
        let mut text = String::new();
        self.write(&mut text).expect("a string takes everything");
        let half = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, &text).hash(&mut hasher);
            u128::from(hasher.finish())
        };
        half(0) << 64 | half(1)
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Self { now, host_up, channel_up, runtime_up, flights, shown, .. } = self;
        let faults = self.faults_left();
        write!(out, "{now:?} {host_up} {channel_up} {runtime_up} {faults} {flights:?} {shown:?}")?;
        let session = &self.sessions[ONE];
        let holds = self.admission.holds(session.id);
        let (boxes, runners, lock) = (&session.boxes, &session.runners, session.lock);
        write!(out, "{boxes:?} {runners:?} {lock:?} {} {holds}", session.accepted)?;
        let Some(task) = &session.task else { return Ok(()) };
        let Task {
            signal,
            ask,
            accepted,
            marked,
            in_doubt,
            acked,
            outcomes,
            vitals,
            look_at,
            in_flight,
            sweep,
            rows: _, // they follow from what the sweep has looked at
        } = task;
        let look_in = look_at.map(|when| when.since(self.monotonic));
        let mut in_flight: Vec<_> = in_flight.iter().collect();
        in_flight.sort();
        write!(out, "{signal} {ask} {accepted} {marked} {in_doubt} {acked} {outcomes:?}")?;
        write!(out, "{vitals:?} {look_in:?} {in_flight:?}")?;
        match sweep {
            Some((sweep, effect)) => write_sweep(out, sweep, *effect),
            None => Ok(()),
        }
    }
}

fn write_sweep(out: &mut String, sweep: &Sweep, effect: Effect) -> std::fmt::Result {
    let Sweep { reasons, now, alive, decision, plan, charged, ended, undelivered, .. } = sweep;
    write!(out, "{effect:?} {reasons:?} {now:?} {alive:?} {decision:?} {plan:?} {charged:?}")?;
    write!(out, "{ended} {undelivered:?} {:?}", sweep.state())?;
    for BoxSnapshot { pending, acks, answers, cursor, newest, .. } in [&sweep.before, &sweep.after]
    {
        // Their order says nothing.
        let [acks, answers] = [acks, answers].map(|all| all.iter().collect::<BTreeMap<_, _>>());
        write!(out, "{pending:?} {acks:?} {answers:?} {cursor:?} {newest:?}")?;
    }
    Ok(())
}
