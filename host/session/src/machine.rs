//! The sweep as a value: one pass over a session, of which each step says what is to be done next, given
//! what came of the step before. Pure: no file, no runtime, no clock. The session's task carries the
//! steps out (`sweep`), and so do the simulation and the explorer, which thereby play this very order.
//!
//! ```text
//! Prepare ─► Look ─► Ask ─► [Enforce] ─► [Look] ─► Plan ─► Settle ─► [Observe | Finish]
//!             │ unreadable                                                   │
//!             └─► HoldUnread ─► end            end ◄─ [Mark] ◄─ Forget ◄─ Deliver ◄─ Start | Rest
//! ```
//!
//! Why in this order: what was read before the runtime confirmed an end is never used to charge an
//! attempt; what a channel with keys may have goes out before the commits, for sending it twice shows
//! it once; nothing starts before it is settled what a predecessor left; and the mark is moved last, so
//! that a death anywhere leaves a session that somebody looks at.

use twobox_shared::content::Failure;
use twobox_shared::ids::RunnerId;
use twobox_shared::inbox::{Delivery, Occurrence, PendingMessage};
use twobox_shared::outbox::OutRow;
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;
use twobox_store::sessions::{DUE_NOW, StopCause};

use super::boxes::{BoxSnapshot, Writers};
use super::decide::{self, Action, Alive, Decision, SweepView, Wake};
use super::delivery::DeliveryPlan;
use super::signal::{Reason, Reasons};
use crate::admission::Class;

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Take in what is known without a look, such as what channels have said.
    Prepare,
    /// Read both boxes. Answered by [`Event::Looked`] or [`Event::Unread`].
    Look(Writers),
    /// Ask the runtime who lives, and stop whoever lives without a record. Answered by
    /// [`Event::Answered`].
    Ask,
    /// The boxes cannot be read, and this is who lives: hold it to what is left of its limits.
    HoldUnread(Alive),
    /// Hold the living container to its limits by [`Sweep::before`]. Answered by [`Event::Answered`].
    Enforce,
    /// Decide what becomes of the rows of the last look, and hand over what a channel with keys may have.
    /// Answered by [`Event::Planned`].
    Plan,
    /// Apply [`Sweep::decision`] in one transaction of the inbox, after people were told of what fails.
    Settle,
    /// The runner lives: take in what the last look shows of it.
    Observe,
    /// Nothing lives, and what it left is settled: record the end of what was recorded to live. Answered
    /// by [`Event::Finished`].
    Finish,
    /// Start a container if there is a place for one.
    Start(Class),
    /// Nothing starts now; at this time something may have to, if at any.
    Rest(Option<UnixMillis>),
    /// Carry out requests, write records, and hand over the rest of what is due. Answered by
    /// [`Event::Delivered`].
    Deliver,
    /// Delete what is old enough.
    Forget,
    /// Say durably when somebody has to look next.
    Mark,
}

/// What came of it.
#[derive(Debug, Clone)]
pub enum Event {
    /// It is done.
    Done,
    /// What a look showed.
    Looked(Box<BoxSnapshot>),
    /// It showed nothing. The sweep ends, unless only a copy of the outbox can be read.
    Unread(Unread),
    /// Who lives.
    Answered(Alive),
    /// What becomes of the rows, and the highest number in the outbox, if an attempt is charged.
    Planned(Box<DeliveryPlan>, Seq),
    /// Whether the end of a container was recorded.
    Finished(bool),
    /// When somebody has to look for what is not delivered.
    Delivered(Option<UnixMillis>),
}

/// Why a look showed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// The outbox is as a dead container left it in the middle of a commit.
    Torn,
    /// Something else, which whoever looked knows.
    Otherwise,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Do this, and say what came of it.
    Do(Effect),
    /// The sweep is over.
    End(End),
}

/// How a sweep ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Everything was done.
    Done,
    /// The last look showed nothing: what the sweep was about has to be done again.
    Unread,
    /// The container broke the protocol, in these words.
    Violation(String),
}

/// What a step depends on that is no part of the sweep.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// The wall clock. A sweep goes by what it was when it was known who lives.
    pub now: UnixMillis,
    /// Why the recorded container was told to leave, if it was.
    pub stop_cause: Option<StopCause>,
    /// Attempts that a message gets.
    pub max_tries: i64,
    /// When the day turns, and there is a budget again.
    pub day_turns: UnixMillis,
    /// Whether the session's agent was removed.
    pub agent_removed: bool,
}

/// Where a sweep is: what it waits to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Preparing,
    Looking,
    /// What became of the first look, if it showed nothing.
    Asking(Option<Unread>),
    /// Nothing lives, so the outbox is read through a copy.
    Copying,
    AskingAgain,
    HoldingUnread,
    Enforcing,
    LookingAfter,
    Planning,
    Settling,
    Observing,
    Finishing,
    Resting,
    Delivering,
    Forgetting,
    Marking,
}

/// One pass over a session.
#[derive(Debug, Clone)]
pub struct Sweep {
    state: State,
    /// Why it began.
    pub reasons: Reasons,
    /// Which runner is believed to live.
    believed: Option<RunnerId>,
    /// The instant that it goes by.
    pub now: UnixMillis,
    /// What the first look showed; once it is the one that counts, its acks.
    pub before: BoxSnapshot,
    /// Who lives.
    pub alive: Alive,
    /// What the look showed that counts.
    pub after: BoxSnapshot,
    /// What to do about messages, and whether to start a container.
    pub decision: Decision,
    /// Whether what waits was given up, because the agent was removed.
    pub given_up: bool,
    /// Whether a person waits for an answer.
    pub chatting: bool,
    /// What becomes of the rows.
    pub plan: DeliveryPlan,
    /// The highest number in the outbox, if an attempt is charged.
    pub charged: Seq,
    /// Whether a container's end was recorded.
    pub ended: bool,
    /// When somebody has to look for what is not delivered.
    pub undelivered: Option<UnixMillis>,
}

impl Sweep {
    /// One that begins for `reasons`, with its first step. `believed` is the runner that is believed to
    /// live, for which the runtime is asked only if there is a reason.
    pub fn begin(reasons: Reasons, believed: Option<RunnerId>) -> (Self, Effect) {
        let sweep = Self {
            state: State::Preparing,
            reasons,
            believed,
            now: UnixMillis::default(),
            before: BoxSnapshot::default(),
            alive: Alive::Unknown,
            after: BoxSnapshot::default(),
            decision: Decision::default(),
            given_up: false,
            chatting: false,
            plan: DeliveryPlan::default(),
            charged: Seq::default(),
            ended: false,
            undelivered: None,
        };
        (sweep, Effect::Prepare)
    }

    /// Takes in what came of the last step, and says what follows. Long, and one `match`: read from top to
    /// bottom it is the order of a sweep.
    pub fn step(&mut self, event: Event, facts: &Facts) -> Step {
        match (self.state, event) {
            (State::Preparing, Event::Done) => {
                self.go(State::Looking, Effect::Look(Writers::Possible))
            }
            (State::Looking, Event::Looked(snapshot)) => {
                self.before = *snapshot;
                self.looked(None, facts)
            }
            (State::Looking, Event::Unread(unread)) => self.looked(Some(unread), facts),
            (State::Asking(unread), Event::Answered(alive)) => self.answered(unread, alive, facts),
            (State::Copying, Event::Looked(copy)) => {
                self.before = *copy;
                self.go(State::AskingAgain, Effect::Ask)
            }
            (State::AskingAgain, Event::Answered(alive)) => self.answered(None, alive, facts),
            (State::Enforcing, Event::Answered(alive)) => self.enforced(alive, facts),
            (State::LookingAfter, Event::Looked(snapshot)) => {
                self.after = *snapshot;
                self.decide(facts)
            }
            (State::HoldingUnread, Event::Done)
            | (State::Copying | State::LookingAfter, Event::Unread(_)) => Step::End(End::Unread),
            (State::Planning, Event::Planned(plan, charged)) => {
                self.plan = *plan;
                self.charged = charged;
                self.go(State::Settling, Effect::Settle)
            }
            (State::Settling, Event::Done) => match self.alive {
                Alive::Runner(_) => self.go(State::Observing, Effect::Observe),
                Alive::None => self.go(State::Finishing, Effect::Finish),
                Alive::Unknown => self.rest_or_start(),
            },
            (State::Observing, Event::Done) => self.rest_or_start(),
            (State::Finishing, Event::Finished(ended)) => {
                self.ended = ended;
                self.rest_or_start()
            }
            (State::Resting, Event::Done) => self.go(State::Delivering, Effect::Deliver),
            (State::Delivering, Event::Delivered(next)) => {
                self.undelivered = next;
                self.go(State::Forgetting, Effect::Forget)
            }
            (State::Forgetting, Event::Done) => match self.alive {
                Alive::Runner(_) | Alive::None if !self.decision.look_again => {
                    self.go(State::Marking, Effect::Mark)
                }
                // What is left to do is not known, so the mark stays.
                Alive::Runner(_) | Alive::None | Alive::Unknown => Step::End(End::Done),
            },
            (State::Marking, Event::Done) => Step::End(End::Done),
            (
                State::Preparing
                | State::HoldingUnread
                | State::Settling
                | State::Observing
                | State::Resting
                | State::Forgetting
                | State::Marking,
                event @ (Event::Looked(_)
                | Event::Unread(_)
                | Event::Answered(_)
                | Event::Planned(..)
                | Event::Finished(_)
                | Event::Delivered(_)),
            )
            | (
                State::Looking | State::Copying | State::LookingAfter,
                event @ (Event::Done
                | Event::Answered(_)
                | Event::Planned(..)
                | Event::Finished(_)
                | Event::Delivered(_)),
            )
            | (
                State::Asking(_) | State::AskingAgain | State::Enforcing,
                event @ (Event::Done
                | Event::Looked(_)
                | Event::Unread(_)
                | Event::Planned(..)
                | Event::Finished(_)
                | Event::Delivered(_)),
            )
            | (
                State::Planning,
                event @ (Event::Done
                | Event::Looked(_)
                | Event::Unread(_)
                | Event::Answered(_)
                | Event::Finished(_)
                | Event::Delivered(_)),
            )
            | (
                State::Finishing,
                event @ (Event::Done
                | Event::Looked(_)
                | Event::Unread(_)
                | Event::Answered(_)
                | Event::Planned(..)
                | Event::Delivered(_)),
            )
            | (
                State::Delivering,
                event @ (Event::Done
                | Event::Looked(_)
                | Event::Unread(_)
                | Event::Answered(_)
                | Event::Planned(..)
                | Event::Finished(_)),
            ) => unreachable!("{:?} does not wait for {event:?}", self.state),
        }
    }

    /// The rows that the last look showed, for whoever keeps them while they are sent.
    pub fn take_rows(&mut self) -> Vec<(OutRow, Option<Delivery>)> {
        std::mem::take(&mut self.after.rows)
    }

    /// The occurrences that the last look showed, for whoever reckons what follows them.
    pub fn take_recurring(&mut self) -> Vec<Occurrence> {
        std::mem::take(&mut self.after.recurring)
    }

    /// Where it is, for whoever tells sweeps apart.
    pub fn state(&self) -> impl std::fmt::Debug + use<> {
        self.state
    }

    fn go(&mut self, state: State, effect: Effect) -> Step {
        self.state = state;
        Step::Do(effect)
    }

    /// Who lives, if the runtime need not be asked: a container that is believed to live is believed
    /// further unless there is a reason to ask, or a claim that is not its own.
    fn known_alive(&self) -> Option<Alive> {
        let runner = self.believed?;
        let doubt = self.reasons.contains(Reason::Runtime) || self.shows_another_than(runner);
        (!doubt).then_some(Alive::Runner(runner))
    }

    /// Whether the first look showed a claim of somebody else than `runner`.
    fn shows_another_than(&self, runner: RunnerId) -> bool {
        decide::has_foreign_claim(&self.before.pending, &self.before.acks, runner)
    }

    fn looked(&mut self, unread: Option<Unread>, facts: &Facts) -> Step {
        match self.known_alive() {
            Some(alive) => self.answered(unread, alive, facts),
            None => self.go(State::Asking(unread), Effect::Ask),
        }
    }

    fn answered(&mut self, unread: Option<Unread>, alive: Alive, facts: &Facts) -> Step {
        self.alive = alive;
        self.now = facts.now;
        match (unread, alive) {
            (Some(Unread::Torn), Alive::None) => {
                self.go(State::Copying, Effect::Look(Writers::None))
            }
            (Some(_), _) => self.go(State::HoldingUnread, Effect::HoldUnread(alive)),
            (None, Alive::Runner(_)) => self.go(State::Enforcing, Effect::Enforce),
            (None, Alive::None | Alive::Unknown) => self.enforced(alive, facts),
        }
    }

    /// The first look is enough while its runner lives; otherwise something may have ended, and only a
    /// look made after the runtime's answer counts.
    fn enforced(&mut self, alive: Alive, facts: &Facts) -> Step {
        self.alive = alive;
        match alive {
            Alive::Runner(runner) if !self.shows_another_than(runner) => {
                self.after = std::mem::take(&mut self.before);
                self.before.acks = self.after.acks.clone();
                self.decide(facts)
            }
            Alive::Runner(_) | Alive::Unknown => {
                self.go(State::LookingAfter, Effect::Look(Writers::Possible))
            }
            Alive::None => self.go(State::LookingAfter, Effect::Look(Writers::None)),
        }
    }

    fn decide(&mut self, facts: &Facts) -> Step {
        let snapshot = &mut self.after;
        self.decision = decide::decide(&SweepView {
            now: self.now,
            pending: &snapshot.pending,
            answered: &snapshot.answered,
            before: &self.before.acks,
            after: &snapshot.acks,
            alive: self.alive,
            stop_cause: facts.stop_cause,
            max_tries: facts.max_tries,
            day_turns: facts.day_turns,
            budget_raised: self.reasons.contains(Reason::Budget),
        });
        if let Some(reason) = self.decision.violation.take() {
            return Step::End(End::Violation(reason));
        }
        self.given_up =
            facts.agent_removed && self.alive == Alive::None && !self.decision.look_again;
        if self.given_up {
            let failure = Failure::permanent(Failure::ABORTED, "the agent was removed");
            decide::give_up(&mut self.decision, &snapshot.pending, &failure);
            snapshot.recurring.clear(); // nothing follows
        }
        self.chatting = somebody_waits(&snapshot.pending, &self.decision.actions, self.now);
        self.go(State::Planning, Effect::Plan)
    }

    fn rest_or_start(&mut self) -> Step {
        let effect = match self.decision.wake {
            Wake::Start if self.chatting => Effect::Start(Class::Chat),
            Wake::Start => Effect::Start(Class::Scheduled),
            Wake::Not { next } => Effect::Rest(next),
        };
        self.go(State::Resting, effect)
    }
}

/// What the mark depends on when a sweep ends.
#[derive(Debug, Clone, Copy)]
pub struct Left {
    /// Whether anything was stored since the sweep began.
    pub accepted: bool,
    /// Whether a container lives.
    pub lives: bool,
    /// Whether one is recorded to live.
    pub recorded: bool,
    /// Whether a channel has outbound messages of which it has not said what became of them.
    pub sending: bool,
    /// Until when a start is put off.
    pub start_after: Option<UnixMillis>,
}

impl Sweep {
    /// When somebody has to look next, `None` within if never; `None` if the session stays due, for
    /// another look follows.
    pub fn next_mark(&self, left: &Left) -> Option<Option<UnixMillis>> {
        if left.accepted || left.lives || left.recorded || left.sending {
            return None;
        }
        let start_after = left.start_after.filter(|after| *after > self.now);
        let due = match self.decision.wake {
            Wake::Start if start_after.is_none() => return Some(Some(DUE_NOW)), // it waits for a place
            Wake::Start => start_after,
            Wake::Not { next } => next,
        };
        Some([due, self.undelivered].into_iter().flatten().min())
    }
}

/// Whether a message of a chat is due that `actions` do not settle. A task is the agent's own: one that
/// hangs, or comes again and again, is no reason to put schedules off.
fn somebody_waits(pending: &[PendingMessage], actions: &[Action], now: UnixMillis) -> bool {
    let is_settled = |message: &PendingMessage| {
        actions.iter().any(|action| match action {
            Action::Complete { message: id } | Action::Fail { message: id, .. } => {
                *id == message.id
            }
            Action::Charge { .. } | Action::RetryNow { .. } => false,
        })
    };
    pending.iter().any(|message| {
        message.trigger
            && !message.of_run
            && !message.of_task
            && message.process_after.is_none_or(|due| due <= now)
            && !is_settled(message)
    })
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
