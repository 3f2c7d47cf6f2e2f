//! The claim rule, as pure functions: which message a runner may take up, and which messages go
//! into one turn. The simulation and the explorer (`tests/tests/simulation`) play these very functions,
//! the explorer in every order of things: whoever changes the rule runs both.

use std::ops::ControlFlow;

use crate::inbox::{InboundMessage, Origin};
use crate::outbox::{Ack, AckStatus};

/// How many triggering messages one turn takes at most.
pub const BATCH_MAX: usize = 10;

/// How many context rows accompany a turn at most; the newest ones.
pub const CONTEXT_MAX: usize = 50;

/// Whether a message with `tries` ended attempts may be claimed, given its ack row.
///
/// `completed` of any attempt blocks for ever: its replies are committed with it. Any other ack
/// blocks until the host has charged its attempt, so that an attempt is never run twice. An ack
/// without an attempt, from another implementation's runner, counts as the first.
pub fn claimable(tries: i64, ack: Option<&Ack>) -> bool {
    match ack {
        None => true,
        Some(ack) => ack.status != AckStatus::Completed && ack.attempt.unwrap_or(0) < tries,
    }
}

/// Chooses one turn's messages from claimable ones that are offered oldest first.
///
/// A turn is for one origin, so that its answer has one destination. Context rows never make a
/// turn, they only accompany one. A message that has been tried before goes alone: if it is what
/// kills runners, it takes no other message with it. So does one of a scheduled run, whose limits and
/// end are its own.
#[derive(Debug, Default)]
pub struct Chooser {
    context: Vec<InboundMessage>,
    triggers: Vec<InboundMessage>,
}

impl Chooser {
    /// Offers the next claimable message; `Break` means that no later one can change the choice.
    pub fn offer(&mut self, message: InboundMessage) -> ControlFlow<()> {
        if !message.trigger {
            self.context.push(message);
            if self.triggers.is_empty() && self.context.len() > CONTEXT_MAX {
                self.context.remove(0);
            }
            return ControlFlow::Continue(());
        }
        match self.triggers.first() {
            None if message.tries > 0 || message.run_id.is_some() => {
                self.context.clear();
                self.triggers.push(message);
                return ControlFlow::Break(());
            }
            None => self.triggers.push(message),
            Some(first) if may_join(&message, &first.origin) => {
                self.triggers.push(message);
            }
            Some(_) => {}
        }
        match self.triggers.len() < BATCH_MAX {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }

    /// The chosen messages in `seq` order; empty if nothing triggers.
    pub fn finish(mut self) -> Vec<InboundMessage> {
        let (Some(first), Some(last)) = (self.triggers.first(), self.triggers.last()) else {
            return Vec::new();
        };
        let (origin, newest) = (first.origin.clone(), last.seq);
        self.context.retain(|row| {
            row.seq < newest && (row.origin == origin || row.origin.channel_type.is_none())
        });
        let surplus = self.context.len().saturating_sub(CONTEXT_MAX);
        let mut chosen = self.triggers;
        chosen.extend(self.context.drain(surplus..));
        chosen.sort_by_key(|message| message.seq);
        chosen
    }
}

/// Whether a message may join others in a turn for `origin`.
fn may_join(message: &InboundMessage, origin: &Origin) -> bool {
    message.tries == 0 && message.run_id.is_none() && message.origin == *origin
}

/// Whether a message may be pushed into a running turn for `origin`. What is meant for a fresh
/// runner's first look may not.
pub fn may_follow_up(message: &InboundMessage, origin: &Origin) -> bool {
    message.trigger && !message.on_wake && may_join(message, origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::MessageId;
    use crate::seq::Seq;
    use crate::time::UnixMillis;

    fn message(seq: i64, trigger: bool, tries: i64, thread: &str) -> InboundMessage {
        InboundMessage {
            id: MessageId::parse(&format!("m{seq}")).unwrap(),
            seq: Seq(seq),
            kind: "chat".into(),
            timestamp: UnixMillis(0),
            tries,
            trigger,
            on_wake: false,
            origin: Origin {
                channel_type: Some("terminal".into()),
                platform_id: Some("x".into()),
                thread_id: Some(thread.into()),
            },
            content: String::new(),
            run_id: None,
        }
    }

    fn choose(messages: Vec<InboundMessage>) -> Vec<i64> {
        let mut chooser = Chooser::default();
        for message in messages {
            if chooser.offer(message).is_break() {
                break;
            }
        }
        chooser.finish().iter().map(|message| message.seq.0).collect()
    }

    #[test]
    fn p3_a_completed_ack_blocks_whatever_its_attempt() {
        let ack = |status, attempt| Ack { status, attempt, ..Ack::default() };
        let cases = [
            ("never claimed", 0, None, true),
            ("uncharged claim", 0, Some(ack(AckStatus::Processing, Some(0))), false),
            ("charged claim", 1, Some(ack(AckStatus::Processing, Some(0))), true),
            ("failed, uncharged", 1, Some(ack(AckStatus::Failed, Some(1))), false),
            ("failed, charged", 2, Some(ack(AckStatus::Failed, Some(1))), true),
            ("completed, older attempt", 3, Some(ack(AckStatus::Completed, Some(0))), false),
            ("legacy claim, uncharged", 0, Some(ack(AckStatus::Processing, None)), false),
            ("legacy claim, charged", 1, Some(ack(AckStatus::Processing, None)), true),
        ];
        for (case, tries, ack, expected) in cases {
            assert_eq!(claimable(tries, ack.as_ref()), expected, "{case}");
        }
    }

    #[test]
    fn context_rows_alone_make_no_turn() {
        assert!(choose(vec![message(2, false, 0, "a"), message(4, false, 0, "a")]).is_empty());
    }

    #[test]
    fn context_rows_ride_along_up_to_the_newest_trigger() {
        let rows =
            vec![message(2, false, 0, "a"), message(4, true, 0, "a"), message(6, false, 0, "a")];
        assert_eq!(choose(rows), [2, 4]);
    }

    #[test]
    fn p17_a_message_that_was_tried_before_goes_alone() {
        let poison_first =
            vec![message(2, false, 0, "a"), message(4, true, 1, "a"), message(6, true, 0, "a")];
        assert_eq!(choose(poison_first), [4]);
        let poison_later =
            vec![message(2, true, 0, "a"), message(4, true, 1, "a"), message(6, true, 0, "a")];
        assert_eq!(choose(poison_later), [2, 6]);
    }

    #[test]
    fn a_scheduled_run_has_its_turn_for_itself() {
        let run = |seq| InboundMessage { run_id: Some("r".into()), ..message(seq, true, 0, "a") };
        let chat = |seq| message(seq, true, 0, "a");
        assert_eq!(choose(vec![run(2), chat(4)]), [2]);
        assert_eq!(choose(vec![chat(2), run(4), chat(6)]), [2, 6]);
        assert!(may_follow_up(&chat(2), &chat(2).origin));
        assert!(!may_follow_up(&run(2), &run(2).origin));
    }

    #[test]
    fn a_turn_never_mixes_origins() {
        let rows =
            vec![message(2, true, 0, "a"), message(4, true, 0, "b"), message(6, true, 0, "a")];
        assert_eq!(choose(rows), [2, 6]);
    }

    #[test]
    fn a_turn_is_bounded() {
        let rows = (1..=30).map(|n| message(2 * n, true, 0, "a")).collect();
        assert_eq!(choose(rows).len(), BATCH_MAX);
    }

    #[test]
    fn a_thousand_context_rows_do_not_hide_a_message() {
        let mut rows: Vec<_> = (1..=1000).map(|n| message(2 * n, false, 0, "a")).collect();
        rows.push(message(2002, true, 0, "a"));
        let chosen = choose(rows);
        assert_eq!((chosen.len(), chosen.last()), (CONTEXT_MAX + 1, Some(&2002)));
    }
}
