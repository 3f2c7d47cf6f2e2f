//! The decision of the sweep: what the acks of a session mean for its messages, and whether a
//! container has to be started. Pure: a view of the world in, guarded actions out. The rules are those of
//! `schema/PROTOCOL.md`, "A message's life".

use std::collections::HashMap;
use std::time::Duration;

use twobox_shared::claim::claimable;
use twobox_shared::content::Failure;
use twobox_shared::ids::{MessageId, RunnerId};
use twobox_shared::inbox::PendingMessage;
use twobox_shared::outbox::{Ack, AckStatus};
use twobox_shared::time::UnixMillis;

use twobox_model::backoff::Backoff;
use twobox_store::sessions::StopCause;

/// The acks of the pending messages in one read of the outbox.
pub type Acks = HashMap<MessageId, Ack>;

/// How often a runner's word that it released a turn, or has no budget, is believed for one message. Without
/// a bound, a container that always says so would be given the message for ever.
pub const RELEASES_MAX: i64 = 20;

/// What is said of a turn that was released because the host enforced a limit.
const LIMIT: &str = "the host ended the turn, because it broke a limit";

/// The pauses between the attempts of a message, from the second retry on.
const RETRY: Backoff =
    Backoff { first: Duration::from_secs(5), most: Duration::from_secs(5 << 10) };

/// The pauses between starts that led to nothing.
const START: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(5 * 60) };

/// What the runtime said between the two reads of the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alive {
    /// It did not answer: nothing may be charged or started.
    Unknown,
    /// No process of the session lives.
    None,
    /// This incarnation may live.
    Runner(RunnerId),
}

/// Everything that the decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct SweepView<'a> {
    /// The wall clock.
    pub now: UnixMillis,
    /// The pending messages, oldest first.
    pub pending: &'a [PendingMessage],
    /// The paused messages whose acks say that they are answered.
    pub answered: &'a [MessageId],
    /// The acks of the pending ones, read before the runtime was asked.
    pub before: &'a Acks,
    /// Their acks, read after the runtime had answered.
    pub after: &'a Acks,
    /// What it answered.
    pub alive: Alive,
    /// Why the container that ended was told to leave, if it was.
    pub stop_cause: Option<StopCause>,
    /// Attempts that a message gets.
    pub max_tries: i64,
    /// When the day turns, and there is a budget again.
    pub day_turns: UnixMillis,
    /// Whether a budget was raised since something was put off until then.
    pub budget_raised: bool,
}

/// A guarded change of one message. Applying it twice changes nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is answered.
    Complete {
        /// Which.
        message: MessageId,
    },
    /// An attempt ended; there will be another.
    Charge {
        /// Which.
        message: MessageId,
        /// The attempt that ended.
        attempt: i64,
        /// Whether the host or a shutdown ended it.
        forgiven: bool,
        /// The next attempt waits until then.
        process_after: Option<UnixMillis>,
    },
    /// An attempt ended and was the last one.
    Fail {
        /// Which.
        message: MessageId,
        /// The attempt that ended.
        attempt: i64,
        /// Why.
        failure: Failure,
    },
    /// A retry waits for longer than any backoff, or for a budget that was raised: it is due now.
    RetryNow {
        /// Which.
        message: MessageId,
        /// Its ended attempts.
        tries: i64,
    },
}

/// Whether a container has to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// No message waits for one now; the earliest does at this instant, if any does.
    Not {
        /// When.
        next: Option<UnixMillis>,
    },
    /// A message is due and nothing lives.
    Start,
}

impl Default for Wake {
    fn default() -> Self {
        Self::Not { next: None }
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// Changes for one inbound transaction.
    pub actions: Vec<Action>,
    /// Whether to start a container after it.
    pub wake: Wake,
    /// A claim moved between the two reads: look again at once, charge nothing for it.
    pub look_again: bool,
    /// The container broke the protocol: quarantine the session.
    pub violation: Option<String>,
}

/// Whether somebody else than `runner` has a claim that was not charged. Only the runtime can tell whose it is.
pub fn has_foreign_claim(pending: &[PendingMessage], acks: &Acks, runner: RunnerId) -> bool {
    pending.iter().any(|message| {
        acks.get(&message.id).is_some_and(|ack| {
            ack.status == AckStatus::Processing
                && ack.runner != Some(runner)
                && ack.attempt.is_none_or(|attempt| attempt >= message.tries)
        })
    })
}

/// Decides. See the module's contract.
pub fn decide(view: &SweepView<'_>) -> Decision {
    let mut decision = Decision {
        actions: view
            .answered
            .iter()
            .cloned()
            .map(|message| Action::Complete { message })
            .collect(),
        wake: Wake::Not { next: None },
        look_again: false,
        violation: None,
    };
    let mut next: Option<UnixMillis> = None;
    for message in view.pending {
        let ack = view.after.get(&message.id);
        let state = match ack {
            Some(ack) => judge(view, message, ack),
            None => Judgement::Unclaimed,
        };
        let (tries, process_after) = match &state {
            Judgement::Unclaimed | Judgement::Charged if waits_too_long(view, message, ack) => {
                let (id, tries) = (message.id.clone(), message.tries);
                decision.actions.push(Action::RetryNow { message: id, tries });
                (tries, None)
            }
            Judgement::Unclaimed | Judgement::Charged => (message.tries, message.process_after),
            Judgement::Live => continue,
            Judgement::Moved => {
                decision.look_again = true;
                continue;
            }
            Judgement::Violation(reason) => {
                decision.violation.get_or_insert_with(|| reason.clone());
                continue;
            }
            Judgement::Ended(action) => {
                decision.actions.push(action.clone());
                match action {
                    Action::Complete { .. } | Action::Fail { .. } | Action::RetryNow { .. } => {
                        continue;
                    }
                    Action::Charge { attempt, process_after, .. } => (attempt + 1, *process_after),
                }
            }
        };
        if !message.trigger || !claimable(tries, ack) {
            continue;
        }
        match process_after {
            Some(due) if due > view.now => next = Some(next.map_or(due, |other| other.min(due))),
            _ if view.alive == Alive::None => decision.wake = Wake::Start,
            _ => {}
        }
    }
    if let Wake::Not { next: at } = &mut decision.wake {
        *at = next;
    }
    decision
}

/// Gives up what `decision` leaves waiting of `pending`, where nothing will live: all but tasks, which are
/// ended as a whole, and context, for which nobody waits.
pub fn give_up(decision: &mut Decision, pending: &[PendingMessage], failure: &Failure) {
    decision.wake = Wake::Not { next: None };
    let fail = |message: &MessageId, attempt: i64| Action::Fail {
        message: message.clone(),
        attempt,
        failure: failure.clone(),
    };
    let mut given_up = Vec::new();
    for message in pending.iter().filter(|message| message.trigger && !message.of_task) {
        let settled = |action: &Action| match action {
            Action::Complete { message: id } | Action::Fail { message: id, .. } => {
                *id == message.id
            }
            Action::Charge { .. } | Action::RetryNow { .. } => false,
        };
        if !decision.actions.iter().any(settled) {
            given_up.push(fail(&message.id, message.tries));
        }
    }
    decision
        .actions
        .retain(|action| matches!(action, Action::Complete { .. } | Action::Fail { .. }));
    decision.actions.append(&mut given_up);
}

/// What one ack means for its message.
enum Judgement {
    /// It says nothing about the present attempt.
    Unclaimed,
    /// Its attempt was charged before.
    Charged,
    /// A runner is at work, or may be.
    Live,
    /// It was not there, or not so, before the runtime was asked.
    Moved,
    /// Its attempt has ended.
    Ended(Action),
    /// No honest runner writes it.
    Violation(String),
}

fn judge(view: &SweepView<'_>, message: &PendingMessage, ack: &Ack) -> Judgement {
    if ack.status == AckStatus::Completed {
        return Judgement::Ended(Action::Complete { message: message.id.clone() });
    }
    let attempt = match ack.attempt {
        Some(attempt) if attempt < message.tries => return Judgement::Charged,
        Some(attempt) if attempt > message.tries => {
            return Judgement::Violation(format!(
                "the outbox claims attempt {attempt} of message {}, which has had {} attempts",
                message.id, message.tries
            ));
        }
        Some(attempt) => attempt,
        // Another implementation's runner names no attempt. Once its claim is charged, the only
        // sign of that is a due time that lies after the claim.
        None if message.process_after.is_some_and(|due| {
            due > view.now || ack.changed_at.is_none_or(|claimed| claimed < due)
        }) =>
        {
            return Judgement::Charged;
        }
        None => message.tries,
    };
    match ack.status {
        AckStatus::Failed => {
            let failure = ack.failure.clone().unwrap_or_else(|| {
                Failure::retryable(Failure::PROVIDER_ERROR, "the turn failed without a reason")
            });
            Judgement::Ended(end_of_attempt(view, message, attempt, failure))
        }
        AckStatus::Processing => match (view.alive, ack.runner) {
            (Alive::Unknown, _) => Judgement::Live,
            (Alive::Runner(_), None) => Judgement::Live,
            (Alive::Runner(alive), Some(runner)) if alive == runner => Judgement::Live,
            (Alive::Runner(_), Some(_)) | (Alive::None, _) => match view.before.get(&message.id) {
                Some(before) if before == ack => {
                    let failure = Failure::retryable(
                        Failure::RUNNER_DIED,
                        "the agent's container ended in the middle of the turn",
                    );
                    Judgement::Ended(end_of_attempt(view, message, attempt, failure))
                }
                _ => Judgement::Moved,
            },
        },
        AckStatus::Completed => unreachable!("taken in above"),
    }
}

fn end_of_attempt(
    view: &SweepView<'_>,
    message: &PendingMessage,
    attempt: i64,
    failure: Failure,
) -> Action {
    let named = view.after.get(&message.id).is_some_and(|ack| ack.attempt.is_some());
    let released = failure.reason == Failure::RELEASED;
    // Of a broken agent a message waits for a change; a run does not, for its schedule comes again.
    let broken = failure.reason == Failure::AGENT_BROKEN && !message.of_run;
    // It waits for the next day, and is not to blame. A run has its own schedule to come again.
    let over_budget = failure.reason == Failure::BUDGET_EXCEEDED && !message.of_run;
    let (forgiven, failure) = match view.stop_cause {
        Some(StopCause::Host) => (true, failure),
        // It obeyed the signal that enforces the limit, which is no merit of its turn.
        Some(StopCause::Limit) if released => (false, Failure::retryable(Failure::TIMEOUT, LIMIT)),
        Some(StopCause::Limit) => (false, failure),
        None => {
            let believed = message.forgiven < RELEASES_MAX;
            ((released || broken || over_budget) && believed, failure)
        }
    };
    let id = message.id.clone();
    let counted = attempt + 1 - message.forgiven;
    let is_final = !failure.retryable && !was_for_several(view, message);
    if !forgiven && (counted >= view.max_tries || is_final) {
        return Action::Fail { message: id, attempt, failure };
    }
    let pause = match (forgiven, named) {
        (false, _) if backoff(counted).is_some() => backoff(counted),
        // Without an attempt number the due time is what marks the claim as charged.
        (_, false) => Some(RETRY.first),
        (_, true) => None,
    };
    let process_after = match forgiven && over_budget {
        true => Some(view.day_turns),
        false => pause.map(|span| view.now + span),
    };
    Action::Charge { message: id, attempt, forgiven, process_after }
}

/// Whether `action` settles one of `pending` that triggers: then a run is over. What is only context, of which a
/// host writes as much as it likes, ends none.
pub fn ends_run(action: &Action, pending: &[PendingMessage]) -> bool {
    match action {
        Action::Complete { message } | Action::Fail { message, .. } => {
            // One that is not among them was a paused task.
            pending.iter().find(|other| other.id == *message).is_none_or(|it| it.trigger)
        }
        Action::Charge { .. } | Action::RetryNow { .. } => false,
    }
}

/// Whether the failed turn of `message` was for several messages that trigger: then nobody knows which
/// of them it was that cannot be answered, and each is tried again, alone, with the context of them
/// all. The acks of a turn are committed together, so that they tell the same instant.
fn was_for_several(view: &SweepView<'_>, message: &PendingMessage) -> bool {
    let Some(own) = view.after.get(&message.id) else { return false };
    let is_of_turn = |other: &&PendingMessage| {
        other.trigger
            && view.after.get(&other.id).is_some_and(|ack| {
                ack.status == AckStatus::Failed
                    && (ack.runner, ack.changed_at) == (own.runner, own.changed_at)
                    && ack.attempt.is_none_or(|attempt| attempt == other.tries)
            })
    };
    view.pending.iter().filter(is_of_turn).nth(1).is_some()
}

/// Whether a retry is due later than any backoff could have put it, which shows that the clock was set back
/// after the charge, or waits for a budget that was raised. What was never tried keeps its time: somebody chose
/// it. So does a claim without an attempt, for which that time is the only sign that it was charged.
fn waits_too_long(view: &SweepView<'_>, message: &PendingMessage, ack: Option<&Ack>) -> bool {
    let longest = backoff(message.tries - message.forgiven).unwrap_or_default().max(RETRY.first);
    let is_too_long = |due: UnixMillis| match due == view.day_turns {
        true => view.budget_raised,
        false => due.since(view.now) > longest,
    };
    message.tries > 0
        && message.process_after.is_some_and(is_too_long)
        && ack.is_none_or(|ack| ack.attempt.is_some())
}

/// How long a message waits after its `ended`-th counted attempt: not at all after the first, so
/// that one crash costs a person nothing, then 5 s, 10 s, 20 s, …
fn backoff(ended: i64) -> Option<Duration> {
    (ended > 1).then(|| RETRY.after(ended - 1))
}

/// Whether a start led to nothing, of a container that has ended: it never claimed or acked anything
/// and was not told to leave. Of one that was not `started_here` the past is unknown, so nothing is held
/// against it.
pub fn start_failed(started_here: bool, acked: bool, stop_cause: Option<StopCause>) -> bool {
    started_here && !acked && stop_cause.is_none()
}

/// How long the next start is put off after `failed` starts in a row that led to nothing: 1 s, 2 s,
/// 4 s, … up to five minutes.
pub fn start_pause(failed: i64) -> Duration {
    START.after(failed.max(1))
}

/// The instant until which a start still has to wait that was put off until `after`. One that lies
/// further off than any pause shows that the clock was set back, and holds nothing up.
pub fn start_waits(after: Option<UnixMillis>, now: UnixMillis) -> Option<UnixMillis> {
    after.filter(|after| *after > now && after.since(now) <= START.most)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
