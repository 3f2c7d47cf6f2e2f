//! The host's own notices on their way to a person: which may go now, decided purely, and their
//! sends and outcomes, carried out by the session's task beside the rows of the outbox.

use std::collections::{HashSet, VecDeque};

use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::inbox::{Delivery, DeliveryStatus};
use twobox_shared::time::UnixMillis;

use super::compose;
use super::delivery::{self, ChannelTraits, EXPIRED, Hold, INTERRUPTED};
use super::outgoing::OutboundKind;
use super::task::{Task, Trouble};
use twobox_model::channel::{Address, Outbound, Outcome};
use twobox_store::notices as stored;
use twobox_store::notices::Notice;

/// Everything that the decision depends on.
struct View<'a> {
    now: UnixMillis,
    hold: Hold,
    /// The open notices, oldest first.
    notices: &'a VecDeque<Notice>,
    /// Addresses that a channel call is under way for.
    in_flight: &'a HashSet<Address>,
    /// Addresses whose channel said that nobody is there.
    unavailable: &'a HashSet<Address>,
    /// The channel of a kind, if there is one.
    channel: &'a dyn Fn(&str) -> Option<ChannelTraits>,
}

/// What to do.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// The oldest notice of each destination that is free.
    send: Vec<Notice>,
    /// Notices of which nobody knows whether they arrived.
    uncertain: Vec<Notice>,
    /// Notices that were held for too long.
    expired: Vec<Notice>,
    /// When to look again, if nothing happens before.
    next: Option<UnixMillis>,
    /// Whether there is a last call for any of them.
    last_call: bool,
}

fn plan(view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut taken = view.in_flight.clone();
    for notice in view.notices {
        if taken.contains(&notice.address) {
            continue;
        }
        let channel = (view.channel)(&notice.address.channel_type);
        let honours_keys = channel.is_some_and(|channel| channel.honours_keys);
        if notice.status == DeliveryStatus::Sending && !honours_keys {
            plan.uncertain.push(notice.clone());
            continue;
        }
        let nobody_there = view.unavailable.contains(&notice.address) || channel.is_none();
        let retry = delivery::waits(notice.next_attempt_at, view.now);
        if !nobody_there && retry.is_none() {
            taken.insert(notice.address.clone());
            plan.send.push(notice.clone());
            continue;
        }
        // As for rows: whoever is there by now is asked first.
        let overtime = view.hold.overtime(view.now.since(notice.created_at));
        if overtime.is_some_and(|left| left.is_zero()) {
            plan.expired.push(notice.clone());
            continue;
        }
        plan.last_call |= overtime.is_some();
        let end = overtime.map_or(notice.created_at + view.hold.max, |left| view.now + left);
        let wait_until = retry.filter(|_| !nobody_there).map_or(end, |retry| retry.min(end));
        taken.insert(notice.address.clone()); // a later notice does not overtake it
        plan.next = Some(plan.next.map_or(wait_until, |other| other.min(wait_until)));
    }
    plan
}

impl Task {
    /// Stores a notice, to be delivered with the next outbound messages.
    pub(crate) async fn notify_person(&mut self, notice: Notice) -> Result<(), Trouble> {
        let (id, new) = (self.id, notice.clone());
        if self.core.parts.db.call(move |db| stored::add(db, id, &new)).await? {
            self.outgoing.add_notice(notice);
        }
        Ok(())
    }

    /// Sends what may go now. Returns when to look again, and whether there is a last call.
    pub(super) async fn send_notices(
        &mut self,
        now: UnixMillis,
    ) -> Result<(Option<UnixMillis>, bool), Trouble> {
        if self.outgoing.notices.is_none() {
            let id = self.id;
            let open = self.core.parts.db.call(move |db| stored::open(db, id)).await?;
            self.outgoing.notices = Some(open.into());
        }
        let channels = &self.core.parts.channels;
        let plan = plan(&View {
            now,
            hold: self.hold(),
            notices: self.outgoing.notices.as_ref().unwrap_or(&VecDeque::new()),
            in_flight: &self.outgoing.in_flight,
            unavailable: &self.outgoing.unavailable,
            channel: &|kind| {
                channels
                    .get(kind)
                    .map(|channel| ChannelTraits { honours_keys: channel.honours_keys() })
            },
        });
        for notice in plan.uncertain {
            let uncertain = Notice { status: DeliveryStatus::Uncertain, ..notice };
            self.record_notice(uncertain, Some(INTERRUPTED)).await?;
        }
        for notice in plan.expired {
            let expired = Notice { status: DeliveryStatus::Failed, ..notice };
            self.record_notice(expired, Some(EXPIRED)).await?;
        }
        for notice in plan.send {
            let notice = self.announce(notice).await?;
            let failed = notice.failed_message();
            let outbound = Outbound {
                key: compose::key(
                    self.core.parts.install,
                    self.id,
                    &Outbound::row_of_notice(&notice.cause),
                ),
                in_reply_to: None,
                failed: failed.is_some(),
                answers: failed.into_iter().collect(),
                text: notice.text.clone(),
                files: Vec::new(),
                shelf: None,
            };
            self.hand_over(notice.address.clone(), vec![outbound], OutboundKind::Notice(notice));
        }
        Ok((plan.next, plan.last_call))
    }

    /// Says durably that a notice is about to be sent, if its channel cannot tell a resend.
    async fn announce(&mut self, notice: Notice) -> Result<Notice, Trouble> {
        let channel = self.core.parts.channels.get(notice.address.channel_type.as_str());
        if channel.is_none_or(|channel| channel.honours_keys()) {
            return Ok(notice);
        }
        let announced = Notice { status: DeliveryStatus::Sending, ..notice };
        self.record_notice(announced.clone(), None).await?;
        fault::point(CrashPoint::HostDeliverAnnounced);
        Ok(announced)
    }

    /// Records what a channel said of a notice.
    pub(super) async fn record_notice_sent(
        &mut self,
        notice: &Notice,
        outcomes: &[Outcome],
        now: UnixMillis,
    ) -> Result<(), Trouble> {
        let Some(outcome) = outcomes.first() else { return Ok(()) };
        let record = Delivery {
            status: notice.status,
            attempts: notice.attempts,
            next_attempt_at: notice.next_attempt_at,
            changed_at: notice.created_at,
            error: None,
            platform_message_id: None,
        };
        let after = delivery::after(outcome, Some(&record), now);
        let notice = Notice {
            status: after.status,
            attempts: after.attempts,
            next_attempt_at: after.next_attempt_at,
            ..notice.clone()
        };
        self.record_notice(notice, after.error.as_deref()).await
    }

    async fn record_notice(&mut self, notice: Notice, error: Option<&str>) -> Result<(), Trouble> {
        let (id, new, error) = (self.id, notice.clone(), error.map(str::to_owned));
        self.core.parts.db.call(move |db| stored::record(db, id, &new, error.as_deref())).await?;
        if notice.status.is_settled() {
            let row = Outbound::row_of_notice(&notice.cause);
            self.outbound_is_over(&notice.address.channel_type, &row);
        }
        if let Some(notices) = &mut self.outgoing.notices {
            match notices.iter_mut().find(|other| other.cause == notice.cause) {
                Some(open) => *open = notice,
                None => notices.push_back(notice),
            }
            notices.retain(|notice| !notice.status.is_settled());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: UnixMillis = UnixMillis(1_000_000);
    const HOLD: Duration = Duration::from_secs(60);

    fn notice(cause: &str, thread: &str) -> Notice {
        let address = Address {
            channel_type: "chan".into(),
            platform_id: "p".into(),
            thread_id: Some(thread.into()),
        };
        Notice::held(cause.to_owned(), address, "sorry".to_owned(), NOW)
    }

    fn plan_at(
        now: UnixMillis,
        notices: Vec<Notice>,
        busy: &[&Notice],
        absent: &[&Notice],
    ) -> Plan {
        plan_in(Hold { max: HOLD, last_call: Duration::ZERO }, now, notices, busy, absent)
    }

    fn plan_in(
        hold: Hold,
        now: UnixMillis,
        notices: Vec<Notice>,
        busy: &[&Notice],
        absent: &[&Notice],
    ) -> Plan {
        let addresses = |of: &[&Notice]| of.iter().map(|notice| notice.address.clone()).collect();
        plan(&View {
            now,
            hold,
            notices: &notices.into(),
            in_flight: &addresses(busy),
            unavailable: &addresses(absent),
            channel: &|kind| {
                ["chan", "blind"]
                    .contains(&kind)
                    .then_some(ChannelTraits { honours_keys: kind == "chan" })
            },
        })
    }

    #[test]
    fn each_free_destination_gets_its_oldest_notice() {
        let [first, second, other] = [notice("1", "a"), notice("2", "a"), notice("3", "b")];
        let all = vec![first.clone(), second, other.clone()];
        assert_eq!(plan_at(NOW, all.clone(), &[], &[]).send, [first.clone(), other.clone()]);
        assert_eq!(plan_at(NOW, all, &[&first], &[]).send, [other]);
    }

    #[test]
    fn a_notice_that_nobody_takes_is_held_and_expires() {
        let held = notice("1", "a");
        let waiting = plan_at(NOW, vec![held.clone()], &[], &[&held]);
        assert_eq!((waiting.send.len(), waiting.next), (0, Some(NOW + HOLD)));
        let later = UnixMillis((NOW + HOLD).0 + 1);
        let called = plan_at(later, vec![held.clone()], &[], &[&held]);
        assert_eq!((called.expired.len(), called.last_call), (0, true));
        assert!(called.next.is_some_and(|end| end > later), "{called:?}");
        let over = Hold { max: HOLD, last_call: HOLD };
        let expired = plan_in(over, later, vec![held.clone()], &[], &[&held]).expired;
        assert_eq!(expired, std::slice::from_ref(&held));
        assert_eq!(plan_at(later, vec![held.clone()], &[], &[]).send, [held], "asked first");
    }

    #[test]
    fn a_retry_waits_for_its_time_and_is_not_overtaken() {
        let retried = Notice { next_attempt_at: Some(UnixMillis(NOW.0 + 5)), ..notice("1", "a") };
        let plan = plan_at(NOW, vec![retried.clone(), notice("2", "a")], &[], &[]);
        assert_eq!((plan.send.len(), plan.next), (0, retried.next_attempt_at), "none overtakes");
        assert_eq!(plan_at(UnixMillis(NOW.0 + 5), vec![retried.clone()], &[], &[]).send.len(), 1);
        let set_back = UnixMillis(NOW.0 - 24 * 3_600_000);
        assert_eq!(plan_at(set_back, vec![retried], &[], &[]).send.len(), 1, "by the clock");
    }

    #[test]
    fn a_send_of_unknown_end_is_repeated_only_where_that_is_harmless() {
        let sending = |channel: &str| {
            let mut notice = Notice { status: DeliveryStatus::Sending, ..notice("1", "a") };
            notice.address.channel_type = channel.to_owned();
            notice
        };
        let known = plan_at(NOW, vec![sending("chan")], &[], &[]);
        assert_eq!((known.send.len(), known.uncertain.len()), (1, 0));
        for channel in ["blind", "gone"] {
            let interrupted = sending(channel);
            let plan = plan_at(NOW, vec![interrupted.clone()], &[], &[]);
            assert_eq!((plan.send.len(), plan.uncertain), (0, vec![interrupted.clone()]));
            let busy = plan_at(NOW, vec![interrupted.clone()], &[&interrupted], &[]);
            assert_eq!(busy, Plan::default(), "its end is not known yet");
        }
    }
}
