//! Which rows of an outbox the host takes. Pure.
//!
//! A runner that was given up and comes back, because something was said to have stopped that had
//! not, is kept from answering by its claims: its commits are fenced. A runner that does not keep to
//! that is fenced here. Whenever the host charges an attempt, it writes down the highest number in
//! the outbox. Whatever is numbered above that and was written by an attempt that had been charged
//! is refused, with one exception: the rows of a turn that was committed as answered. Its message
//! counts as answered whichever attempt did it, so its answer must not be lost.
//!
//! It goes by attempts, of which one runner alone can have each, and not by the runner's id, which
//! is the container's word.

use std::collections::HashMap;

use twobox_shared::ids::MessageId;
use twobox_shared::inbox::PendingMessage;
use twobox_shared::outbox::{Ack, AckStatus, OutRow};
use twobox_shared::seq::Seq;

use super::boxes::BoxSnapshot;
use super::decide::{Acks, Action};

/// How a row stands to the fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may be sent.
    Inside,
    /// Its attempt was charged, and has neither answered nor lost its claim yet.
    Undecided,
    /// Its attempt was charged, and its message is somebody else's.
    Superseded,
}

/// What the decision depends on.
#[derive(Debug)]
pub struct Fence<'a> {
    charged: Seq,
    /// Ended attempts of the messages that are pending.
    tries: HashMap<&'a MessageId, i64>,
    /// And of the tasks that were cancelled or paused, perhaps while somebody worked on them.
    withdrawn: &'a HashMap<MessageId, i64>,
    acks: &'a Acks,
}

impl<'a> Fence<'a> {
    /// The fence after `actions` were applied to what `snapshot` showed.
    pub fn after(snapshot: &'a BoxSnapshot, actions: &'a [Action]) -> Self {
        let tried = |message: &'a PendingMessage| (&message.id, message.tries);
        let mut tries: HashMap<_, _> = snapshot.pending.iter().map(tried).collect();
        let mut charged = snapshot.charged;
        for action in actions {
            match action {
                Action::RetryNow { .. } => {}
                Action::Complete { message } => drop(tries.remove(message)),
                Action::Charge { message, attempt, .. } => {
                    tries.insert(message, attempt + 1);
                    charged = charged.max(snapshot.newest);
                }
                Action::Fail { message, .. } => {
                    tries.remove(message);
                    charged = charged.max(snapshot.newest);
                }
            }
        }
        Self { charged, tries, withdrawn: &snapshot.withdrawn, acks: &snapshot.answers }
    }

    /// The highest number in the outbox when an attempt was charged last.
    pub fn charged(&self) -> Seq {
        self.charged
    }

    /// Decides about one row.
    pub fn standing(&self, row: &OutRow) -> Standing {
        let answers = row.in_reply_to.as_deref().and_then(|id| MessageId::parse(id).ok());
        let (Some(message), Some(attempt)) = (answers, row.attempt) else {
            return Standing::Inside; // another implementation's runner, or no turn's row
        };
        if row.seq <= self.charged {
            return Standing::Inside;
        }
        match self.acks.get(&message) {
            Some(Ack { attempt: Some(claimed), status, .. }) if *claimed >= attempt => {
                match (*claimed == attempt, status) {
                    (false, _) => Standing::Superseded,
                    (true, AckStatus::Completed) => Standing::Inside,
                    (true, status) => match self.tries.get(&message) {
                        Some(tries) if *tries <= attempt => Standing::Inside,
                        Some(_) if *status == AckStatus::Processing => Standing::Undecided,
                        _ => match self.withdrawn.get(&message) {
                            Some(tries) if *tries <= attempt => Standing::Inside,
                            _ => Standing::Superseded,
                        },
                    },
                }
            }
            _ => Standing::Inside, // nobody else is known to have had the message
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_shared::content::Failure;
    use twobox_shared::inbox::{Origin, PendingMessage};

    fn id() -> MessageId {
        MessageId::parse("m").unwrap()
    }

    fn row(seq: i64, attempt: Option<i64>) -> OutRow {
        OutRow {
            id: MessageId::parse("r").unwrap(),
            seq: Seq(seq),
            in_reply_to: Some("m".into()),
            timestamp: None,
            deliver_after: None,
            kind: "chat".into(),
            destination: Origin::default(),
            content: None,
            attempt,
            runner: None,
        }
    }

    fn look(tries: Option<i64>, ack: Option<(AckStatus, i64)>) -> BoxSnapshot {
        let pending = tries.map(|tries| PendingMessage {
            id: id(),
            seq: Seq(2),
            kind: "chat".into(),
            tries,
            forgiven: 0,
            trigger: true,
            process_after: None,
            origin: Origin::default(),
            of_run: false,
            of_task: false,
        });
        let ack =
            ack.map(|(status, attempt)| Ack { status, attempt: Some(attempt), ..Ack::default() });
        BoxSnapshot {
            pending: pending.into_iter().collect(),
            answers: ack.map(|ack| (id(), ack)).into_iter().collect(),
            charged: Seq(5),
            newest: Seq(9),
            ..BoxSnapshot::default()
        }
    }

    #[test]
    fn rows_of_a_charged_attempt_are_refused_unless_its_turn_is_what_counts() {
        use AckStatus::{Completed, Failed, Processing};
        use Standing::{Inside, Superseded, Undecided};
        let (first, second) = (Some(0), Some(1));
        let cases = [
            (
                "it was there when the attempt was charged",
                5,
                first,
                second,
                Some((Failed, 0)),
                Inside,
            ),
            ("at work", 7, first, Some(0), Some((Processing, 0)), Inside),
            ("failed just now", 7, first, Some(0), Some((Failed, 0)), Inside),
            ("charged and still claimed", 7, first, second, Some((Processing, 0)), Undecided),
            ("charged and answered", 7, first, second, Some((Completed, 0)), Inside),
            ("charged and failed", 7, first, second, Some((Failed, 0)), Superseded),
            ("claimed anew", 7, first, second, Some((Processing, 1)), Superseded),
            ("answered anew", 7, first, None, Some((Completed, 1)), Superseded),
            ("answered", 7, second, None, Some((Completed, 1)), Inside),
            ("failed for good", 7, second, None, Some((Failed, 1)), Superseded),
            ("no attempt is named", 7, None, second, Some((Processing, 1)), Inside),
            ("nobody claimed it", 7, first, second, None, Inside),
        ];
        for (case, seq, attempt, tries, ack, expected) in cases {
            let snapshot = look(tries, ack);
            let fence = Fence::after(&snapshot, &[]);
            assert_eq!(fence.standing(&row(seq, attempt)), expected, "{case}");
        }
    }

    #[test]
    fn what_is_said_of_a_task_that_is_cancelled_meanwhile_is_sent_until_its_attempt_is_charged() {
        for (tries, expected) in [(0, Standing::Inside), (1, Standing::Superseded)] {
            for status in [AckStatus::Processing, AckStatus::Failed] {
                let withdrawn = HashMap::from([(id(), tries)]);
                let snapshot = BoxSnapshot { withdrawn, ..look(None, Some((status, 0))) };
                assert_eq!(Fence::after(&snapshot, &[]).standing(&row(7, Some(0))), expected);
            }
        }
    }

    #[test]
    fn what_was_written_before_the_charge_is_sent() {
        let snapshot = look(Some(0), Some((AckStatus::Failed, 0)));
        let charge =
            Action::Charge { message: id(), attempt: 0, forgiven: false, process_after: None };
        let failure = Failure::retryable("timeout", "");
        let fail = Action::Fail { message: id(), attempt: 0, failure };
        for action in [charge, fail] {
            let actions = [action];
            let fence = Fence::after(&snapshot, &actions);
            assert_eq!(fence.charged(), Seq(9));
            assert_eq!(fence.standing(&row(9, Some(0))), Standing::Inside);
            assert_eq!(fence.standing(&row(11, Some(0))), Standing::Superseded);
        }
    }
}
