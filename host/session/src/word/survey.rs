//! What a session is at: which messages are worked on, and which wait. Pure.

use twobox_shared::content::KIND_SYSTEM;
use twobox_shared::ids::{MessageId, RunnerId};
use twobox_shared::inbox::{Origin, PendingMessage};
use twobox_shared::outbox::{Ack, AckStatus};
use twobox_shared::time::UnixMillis;

use crate::decide::Acks;

/// What is known of a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) pending: &'a [PendingMessage],
    /// What was taken back last.
    pub(super) withdrawn: &'a [PendingMessage],
    /// What the outbox says of both; `None` if it cannot be read.
    pub(super) acks: Option<&'a Acks>,
    /// The incarnation that may be at work.
    pub(super) living: Option<RunnerId>,
    /// What a person has had stopped last.
    pub(super) told_to_stop: &'a [MessageId],
}

/// What a session is at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Survey {
    /// What people said and is worked on.
    pub(super) at_it: Vec<MessageId>,
    /// What was stopped and is worked on all the same.
    pub(super) stopping: Vec<MessageId>,
    /// Whether a task or a scheduled run is worked on.
    pub(super) at_a_task: bool,
    /// Whether something may be worked on, and nobody can see what.
    pub(super) unseen: bool,
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

/// What a session is at, by what is known of it.
pub(super) fn survey(view: &View<'_>) -> Survey {
    let unseen = view.acks.is_none() && view.living.is_some();
    let mut survey = Survey { unseen, ..Survey::default() };
    for message in view.pending.iter().filter(|message| message.trigger) {
        let ack = view.ack(message);
        if ack.is_some_and(|ack| ack.status == AckStatus::Completed) {
            continue; // answered, and about to be taken in
        }
        match (view.is_held(message), message.of_run || message.of_task) {
            (true, true) => survey.at_a_task = true,
            (true, false) => survey.at_it.push(message.id.clone()),
            (false, true) => {}
            (false, false) if message.kind == KIND_SYSTEM => {} // the host's own answer to the agent
            (false, false) => survey.waits.push(Waits {
                id: message.id.clone(),
                origin: message.origin.clone(),
                until: message.process_after,
            }),
        }
    }
    survey.stopping = match unseen {
        true => view.told_to_stop.to_vec(),
        false => {
            let goes_on = |message: &&PendingMessage| {
                // The claim of a runner that does not say who it is may be that of an earlier one.
                let is_known = view.ack(message).is_some_and(|ack| ack.runner.is_some())
                    || view.told_to_stop.contains(&message.id);
                message.trigger && is_known && view.is_held(message)
            };
            view.withdrawn.iter().filter(goes_on).map(|message| message.id.clone()).collect()
        }
    };
    survey
}

impl View<'_> {
    fn ack(&self, message: &PendingMessage) -> Option<&Ack> {
        self.acks.and_then(|acks| acks.get(&message.id))
    }

    /// Whether the incarnation that may be at work has claimed this attempt of `message`.
    fn is_held(&self, message: &PendingMessage) -> bool {
        self.ack(message).is_some_and(|ack| {
            let runner = ack.runner.or(self.living); // one that does not say is believed to live
            ack.status == AckStatus::Processing
                && ack.attempt.is_none_or(|attempt| attempt >= message.tries)
                && runner.is_some()
                && runner == self.living
        })
    }
}

impl Survey {
    /// What somebody stops at `now` who says so at `origin`: what is worked on, whoever said it, for there is
    /// one turn at a time. Where nothing is, what was said there and waits; nothing of that while what was
    /// stopped before goes on. Where nobody can see, what is due first is believed to be worked on.
    pub(super) fn stops(&self, origin: &Origin, now: UnixMillis) -> Vec<MessageId> {
        if !self.at_it.is_empty() || !self.stopping.is_empty() {
            return self.at_it.clone();
        }
        let ids = |waits: &Waits| waits.id.clone();
        if self.unseen {
            let is_due = |waits: &&Waits| waits.until.is_none_or(|until| until <= now);
            return self.waits.iter().find(is_due).map(ids).into_iter().collect();
        }
        if self.at_a_task {
            return Vec::new();
        }
        self.waits.iter().filter(|waits| waits.origin == *origin).map(ids).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use twobox_shared::ids::SystemIds;
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
            kind: "chat".into(),
            tries: 0,
            forgiven: 0,
            trigger: true,
            process_after: None,
            origin: origin(thread),
            of_run: false,
            of_task: false,
        }
    }

    fn view<'a>(
        pending: &'a [PendingMessage],
        withdrawn: &'a [PendingMessage],
        acks: Option<&'a Acks>,
    ) -> View<'a> {
        View { pending, withdrawn, acks, living: None, told_to_stop: &[] }
    }

    #[test]
    fn what_waits_is_left_alone_while_what_was_stopped_goes_on() {
        let (living, gone) = (RunnerId::generate(&SystemIds), RunnerId::generate(&SystemIds));
        let ack = |status, runner| Ack { status, runner, attempt: Some(0), ..Ack::default() };
        let (stopped, waits) = ([message("a", "1")], [message("b", "1")]);
        let told = [id("a")];
        let cases = [
            ("it goes on", ack(AckStatus::Processing, Some(living)), &[][..], true),
            ("it has ended", ack(AckStatus::Failed, Some(living)), &told[..], false),
            ("its container is gone", ack(AckStatus::Processing, Some(gone)), &told[..], false),
            ("some runner has it", ack(AckStatus::Processing, None), &[][..], false),
            ("that runner was told", ack(AckStatus::Processing, None), &told[..], true),
        ];
        for (case, ack, told_to_stop, goes_on) in cases {
            let acks: Acks = [(id("a"), ack)].into_iter().collect();
            let view = view(&waits, &stopped, Some(&acks));
            let survey = survey(&View { living: Some(living), told_to_stop, ..view });
            assert_eq!(!survey.stopping.is_empty(), goes_on, "{case}");
            let taken_back = survey.stops(&origin("1"), UnixMillis(1));
            assert_eq!(taken_back.is_empty(), goes_on, "{case}");
        }
        let blind = View { living: Some(living), ..view(&waits, &stopped, None) };
        assert_eq!(survey(&blind).stops(&origin("2"), UnixMillis(1)), [id("b")]);
        let again = survey(&View { told_to_stop: &told, ..blind });
        assert_eq!(again.stopping, told);
        assert!(again.stops(&origin("1"), UnixMillis(1)).is_empty());
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
        let of_host = PendingMessage { kind: KIND_SYSTEM.to_owned(), ..message("s", "1") };
        let all = [a, b, elsewhere, context, task, of_host];
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
            let survey = survey(&View { living, ..view(&pending, &[], Some(&acks)) });
            let expected: Vec<_> = expected.iter().map(|name| id(name)).collect();
            assert_eq!(survey.stops(&origin("1"), UnixMillis(1)), expected, "{case}");
            let at_work = case == "one is worked on" || case == "of another thread";
            assert_eq!(!survey.at_it.is_empty(), at_work, "{case}");
            assert_eq!(survey.at_a_task, case == "a task is", "{case}");
        }
    }
}
