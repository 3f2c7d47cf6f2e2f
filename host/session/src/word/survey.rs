//! What a session is at: which messages are worked on, and which wait. Pure.

use twobox_shared::ids::{MessageId, RunnerId};
use twobox_shared::inbox::{Origin, PendingMessage};
use twobox_shared::outbox::AckStatus;
use twobox_shared::time::UnixMillis;

use crate::decide::Acks;

/// What a session is at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Survey {
    /// What people said and is worked on.
    pub(super) at_it: Vec<MessageId>,
    /// Whether a task or a scheduled run is worked on.
    pub(super) at_a_task: bool,
    /// What people said and waits.
    pub(super) waits: Vec<Waits>,
}

/// A message that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waits {
    pub(super) id: MessageId,
    /// Where it was said.
    pub(super) origin: Origin,
    /// Not before this instant.
    pub(super) until: Option<UnixMillis>,
}

/// What the `acks` say of the `pending` messages, of a session whose incarnation `living` may be at work.
pub(super) fn survey(pending: &[PendingMessage], acks: &Acks, living: Option<RunnerId>) -> Survey {
    let mut survey = Survey::default();
    for message in pending.iter().filter(|message| message.trigger) {
        let ack = acks.get(&message.id);
        if ack.is_some_and(|ack| ack.status == AckStatus::Completed) {
            continue; // answered, and about to be taken in
        }
        let is_held = ack.is_some_and(|ack| {
            let runner = ack.runner.or(living); // one that does not say is believed to live
            ack.status == AckStatus::Processing
                && ack.attempt.is_none_or(|attempt| attempt >= message.tries)
                && runner.is_some()
                && runner == living
        });
        match (is_held, message.of_run || message.of_task) {
            (true, true) => survey.at_a_task = true,
            (true, false) => survey.at_it.push(message.id.clone()),
            (false, true) => {}
            (false, false) => survey.waits.push(Waits {
                id: message.id.clone(),
                origin: message.origin.clone(),
                until: message.process_after,
            }),
        }
    }
    survey
}

impl Survey {
    /// What somebody stops who says so at `origin`: what is worked on, whoever said it, for there is one turn
    /// at a time. Where nothing is, what was said there and waits.
    pub(super) fn stops(&self, origin: &Origin) -> Vec<MessageId> {
        let said_there = self.waits.iter().filter(|waits| waits.origin == *origin);
        match (self.at_it.is_empty(), self.at_a_task) {
            (false, _) => self.at_it.clone(),
            (true, true) => Vec::new(),
            (true, false) => said_there.map(|waits| waits.id.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use twobox_shared::ids::SystemIds;
    use twobox_shared::outbox::Ack;
    use twobox_shared::seq::Seq;

    fn id(text: &str) -> MessageId {
        MessageId::parse(text).unwrap()
    }

    fn origin(thread: &str) -> Origin {
        Origin { thread_id: Some(thread.to_owned()), ..Origin::default() }
    }

    fn message(name: &str, thread: &str) -> PendingMessage {
        PendingMessage {
            id: id(name),
            seq: Seq(2),
            tries: 0,
            forgiven: 0,
            trigger: true,
            process_after: None,
            origin: origin(thread),
            of_run: false,
            of_task: false,
        }
    }

    #[test]
    fn what_is_worked_on_is_stopped_and_what_waits_only_where_nothing_is() {
        let (living, gone) = (RunnerId::generate(&SystemIds), RunnerId::generate(&SystemIds));
        let ack = |status, runner| Ack { status, runner, attempt: Some(0), ..Ack::default() };
        let held = ack(AckStatus::Processing, Some(living));
        let (a, b) = (message("a", "1"), message("b", "1"));
        let elsewhere = message("c", "2");
        let context = PendingMessage { trigger: false, ..message("d", "1") };
        let task = PendingMessage { of_task: true, ..message("t", "1") };
        let retried = PendingMessage { tries: 1, ..a.clone() };
        let all = [a, b, elsewhere, context, task];
        type Case<'a> =
            (&'a str, Vec<PendingMessage>, Vec<(&'a str, Ack)>, Option<RunnerId>, &'a [&'a str]);
        let cases: [Case<'_>; 8] = [
            ("one is worked on", all.to_vec(), vec![("a", held.clone())], Some(living), &["a"]),
            ("of another thread", all.to_vec(), vec![("c", held.clone())], Some(living), &["c"]),
            ("nothing is", all.to_vec(), vec![], Some(living), &["a", "b"]),
            (
                "by one that is gone",
                all.to_vec(),
                vec![("a", ack(AckStatus::Processing, Some(gone)))],
                Some(living),
                &["a", "b"],
            ),
            ("nobody lives", all.to_vec(), vec![("a", held.clone())], None, &["a", "b"]),
            (
                "it is answered",
                all.to_vec(),
                vec![("a", ack(AckStatus::Completed, Some(living)))],
                Some(living),
                &["b"],
            ),
            ("a task is", all.to_vec(), vec![("t", held.clone())], Some(living), &[]),
            ("that claim was charged", vec![retried], vec![("a", held)], Some(living), &["a"]),
        ];
        for (case, pending, acks, living, expected) in cases {
            let acks: HashMap<_, _> = acks.into_iter().map(|(name, ack)| (id(name), ack)).collect();
            let survey = survey(&pending, &acks, living);
            let expected: Vec<_> = expected.iter().map(|name| id(name)).collect();
            assert_eq!(survey.stops(&origin("1")), expected, "{case}");
            let at_work = case == "one is worked on" || case == "of another thread";
            assert_eq!(!survey.at_it.is_empty(), at_work, "{case}");
            assert_eq!(survey.at_a_task, case == "a task is", "{case}");
        }
    }
}
