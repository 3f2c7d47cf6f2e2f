//! Conversations in which something waits for the budget of another day. When a person has raised a budget that
//! held then, they look at it at once: while the host runs, an agent's own is looked at once a second as long
//! as anybody waits, and a host that starts compares what holds now with what the notices say that held.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use twobox_shared::content::Failure;
use twobox_shared::ids::{AgentGroupId, SessionId};
use twobox_shared::inbox::PendingMessage;
use twobox_shared::time::UnixMillis;

use crate::allowance::{self, Allowance};
use crate::boxes::BoxSnapshot;
use crate::compose::address_of_origin;
use crate::core::Core;
use crate::decide::Action;
use crate::signal::Reason;
use crate::task::{Task, Trouble};
use twobox_gateway::price;
use twobox_slots::zone::Zone;
use twobox_store::DbError;
use twobox_store::notices::{Notice, PutOff};
use twobox_store::usage::{Limit, Limits};
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

/// How soon a change is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Who waits, by agent.
#[derive(Debug, Default)]
pub(crate) struct OverBudget(Mutex<HashMap<AgentGroupId, HashMap<SessionId, Waits>>>);

#[derive(Debug, Clone, Copy)]
struct Waits {
    /// What held when it was put off.
    limits: Limits,
    /// When the day turns, and it goes on by itself.
    until: UnixMillis,
}

impl OverBudget {
    /// A conversation waits. Returns whether nobody looks after its agent yet.
    fn add(&self, agent: AgentGroupId, session: SessionId, waits: Waits) -> bool {
        let mut agents = lock(&self.0);
        let is_new = !agents.contains_key(&agent);
        agents.entry(agent).or_default().insert(session, waits);
        is_new
    }

    /// Who may go on at `now`, as more holds than did; `limits` are `None` if nobody can read them. And whether
    /// anybody waits still: otherwise nobody looks after the agent any more.
    fn look(
        &self,
        agent: AgentGroupId,
        limits: Option<Limits>,
        now: UnixMillis,
    ) -> (Vec<SessionId>, bool) {
        let mut agents = lock(&self.0);
        let Some(waiting) = agents.get_mut(&agent) else { return (Vec::new(), false) };
        let is_raised = |waits: &Waits| limits.is_some_and(|limits| limits.exceed(&waits.limits));
        let raised = waiting.extract_if(|_, waits| is_raised(waits)).map(|(session, _)| session);
        let raised = raised.collect();
        waiting.retain(|_, waits| waits.until > now);
        let somebody_waits = !waiting.is_empty();
        if !somebody_waits {
            agents.remove(&agent);
        }
        (raised, somebody_waits)
    }
}

/// What an agent's budgets were at least, since its container was started or something was put off last: nothing
/// else says under which of them a request was refused that is settled later. The container's way to models notes
/// here what it is told; so it is shared.
#[derive(Debug, Clone, Default)]
pub(crate) struct BudgetHeld(Arc<Mutex<Option<Limits>>>);

impl BudgetHeld {
    /// A container is started, for which this holds. Of one that an earlier host has started nothing is known.
    pub(crate) fn begin(&self, limits: Limits) {
        *lock(&self.0) = Some(limits);
    }

    /// A request is judged by these.
    pub(crate) fn note(&self, limits: Limits) {
        if let Some(held) = &mut *lock(&self.0) {
            *held = held.and(limits);
        }
    }

    /// The least that has held, `now` included: nothing, where nobody knows. From here on it is that of `now`.
    fn take(&self, now: Limits) -> Limits {
        lock(&self.0).replace(now).unwrap_or(Limits::NOTHING).and(now)
    }
}

impl Core {
    /// What holds for an agent whose own limit is `agent`.
    pub(crate) fn limits(&self, agent: Limit) -> Limits {
        let settings = &self.parts.config.gateway;
        Limits {
            all: price::limit(settings.usd_per_day, settings.tokens_per_day),
            agent,
            run: None,
        }
    }

    /// Something in a conversation was put off. It is woken with [`Reason::Budget`] when more holds than did.
    pub(crate) fn put_off(self: &Arc<Self>, put_off: PutOff) {
        let PutOff { session, agent, folder, limits, until } = put_off;
        if !self.over_budget.add(agent, session, Waits { limits, until }) {
            return;
        }
        let core = Arc::clone(self);
        tokio::spawn(async move {
            let mut stopping = core.stopping();
            let mut allowance = None;
            loop {
                let limit;
                (allowance, limit) = core.limit_of(&folder, allowance).await;
                let (limits, now) = (limit.map(|it| core.limits(it)), core.parts.clock.now());
                let (raised, somebody_waits) = core.over_budget.look(agent, limits, now);
                for session in raised {
                    tracing::info!(%session, agent = folder,
                        "a budget was raised: what waits for it is looked at now");
                    core.wake(session, Reason::Budget);
                }
                if !somebody_waits {
                    return;
                }
                let stop = stopping.wait_for(|stopping| *stopping);
                if tokio::time::timeout(LOOK_EVERY, stop).await.is_ok() {
                    return;
                }
            }
        });
    }

    /// What the agent whose folder is called `folder` may use in a day, if that can be read. It is read if it
    /// was changed since the last time.
    async fn limit_of(
        &self,
        folder: &str,
        known: Option<Arc<Allowance>>,
    ) -> (Option<Arc<Allowance>>, Option<Limit>) {
        let source = self.parts.data.agent_config(folder);
        let settings = self.parts.config.containers.clone();
        blocking(move || {
            let known = known.or_else(|| Allowance::load(source, settings).ok().map(Arc::new));
            let limit = known.as_ref().map(|it| it.now().limit);
            (known, limit)
        })
        .await
    }

    /// Looks after what an earlier host has put off until a time that has not come.
    ///
    /// # Errors
    /// [`DbError`]: nobody looks after any of it.
    pub async fn mind_budgets(self: &Arc<Self>) -> Result<(), DbError> {
        for put_off in self.parts.store.notices().put_off(self.parts.clock.now()).await? {
            self.put_off(put_off);
        }
        Ok(())
    }
}

impl Task {
    /// Tells whoever waits that what they wait for waits for the next day: each chat once a day, and once more
    /// where other limits hold.
    ///
    /// A budget may have been raised between the refusal and now, and nobody trustworthy says what held then: it is
    /// taken for the least by which any request was judged since the container was started or something was put off
    /// last, and for nothing where nobody knows. What is tried once more for nothing is put off again by what holds
    /// now.
    pub(crate) async fn tell_over_budget(
        &mut self,
        actions: &[Action],
        snapshot: &BoxSnapshot,
        now: UnixMillis,
    ) -> Result<(), Trouble> {
        let mut held: Option<Limits> = None;
        for action in actions {
            if let Action::Charge { message, process_after: Some(until), forgiven: true, .. } =
                action
                && let Some(failure) =
                    snapshot.acks.get(message).and_then(|ack| ack.failure.as_ref())
                && failure.reason == Failure::BUDGET_EXCEEDED
                && let Some(message) = snapshot.pending.iter().find(|other| other.id == *message)
                && message.trigger
            {
                tracing::warn!(session = %self.id, message_id = %message.id, %until,
                    detail = failure.detail, "a message waits for the next day's budget");
                let limits = match held {
                    Some(limits) => limits,
                    None => {
                        let now = self.limits().await;
                        *held.insert(self.budget_held.take(now))
                    }
                };
                let address = address_of_origin(&message.origin, &self.reply_address);
                let text = over_budget_text(message, failure, &self.core.zone, *until);
                self.notify_person(Notice::over_budget(*until, &limits, address, text, now))
                    .await?;
                self.core.put_off(PutOff {
                    session: self.id,
                    agent: self.record.agent_group,
                    folder: self.record.agent_folder.clone(),
                    limits,
                    until: *until,
                });
            }
        }
        Ok(())
    }

    /// What its agent may use in a day. Where that cannot be read it is nothing, so that whatever is read
    /// next is more.
    async fn limits(&self) -> Limits {
        let own = self.profile().await.map(|it| allowance::of(&it).limit);
        let own = own.unwrap_or(Limits::NOTHING.agent);
        self.core.limits(own)
    }
}

fn over_budget_text(
    message: &PendingMessage,
    failure: &Failure,
    zone: &Zone,
    until: UnixMillis,
) -> String {
    let local = zone.rfc3339(until);
    let (clock, zone) = (local.get(11..16).unwrap_or(&local), zone.name());
    let Failure { detail, .. } = failure;
    match message.of_task {
        true => format!(
            "I could not do a task that is due: {detail}. It is kept, and I go on with it at {clock} ({zone}), \
             or when the budget is raised."
        ),
        false => format!(
            "I could not answer yet: {detail}. Your message is kept, and I go on with it at {clock} ({zone}), \
             or when the budget is raised."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_shared::ids::{MessageId, SystemIds};
    use twobox_shared::inbox::Origin;
    use twobox_shared::seq::Seq;

    #[test]
    fn who_waits_goes_on_when_more_holds_than_did_or_the_day_turns() {
        let (budgets, agent) = (OverBudget::default(), AgentGroupId::generate(&SystemIds));
        let [ada, bob] = [0; 2].map(|_| SessionId::generate(&SystemIds));
        let (now, until) = (UnixMillis(1), UnixMillis(9));
        let tokens = |tokens| {
            let agent = Limit { nano_usd: None, tokens: Some(tokens) };
            Limits { all: Limit::default(), agent, run: None }
        };
        let waits = |most| Waits { limits: tokens(most), until };
        let look = |limits, now| budgets.look(agent, limits, now);
        assert_eq!(look(Some(tokens(1)), now), (vec![], false), "nobody waits");
        assert!(budgets.add(agent, ada, waits(10)), "somebody has to look");
        assert!(!budgets.add(agent, bob, waits(20)), "somebody looks already");
        assert_eq!(look(None, now), (vec![], true), "nobody knows");
        assert_eq!(look(Some(tokens(10)), now), (vec![], true), "as it was");
        assert_eq!(look(Some(tokens(5)), now), (vec![], true), "lowered");
        assert_eq!(look(Some(tokens(11)), now), (vec![ada], true));
        assert_eq!(look(Some(tokens(11)), now), (vec![], true), "once");
        assert_eq!(look(Some(Limits::default()), now), (vec![bob], false), "it was taken away");
        assert!(budgets.add(agent, ada, waits(10)), "somebody has to look again");
        assert_eq!(look(Some(tokens(10)), until), (vec![], false), "it goes on by itself");
    }

    #[test]
    fn a_budget_that_was_lowered_and_raised_again_held_lowered_for_what_was_refused() {
        let tokens = |tokens| {
            let agent = Limit { nano_usd: None, tokens: Some(tokens) };
            Limits { all: Limit::default(), agent, run: None }
        };
        let held = BudgetHeld::default();
        let way = held.clone();
        way.note(tokens(30));
        assert_eq!(held.take(tokens(20)), Limits::NOTHING.and(tokens(20)), "nobody knows");
        assert_eq!(held.take(tokens(30)), tokens(20), "as it was then");
        held.begin(tokens(30));
        for judged in [30, 10, 30] {
            way.note(tokens(judged));
        }
        assert_eq!(held.take(tokens(30)), tokens(10), "some request was judged by that");
        assert_eq!(held.take(tokens(30)), tokens(30), "and was told of");
        way.note(tokens(5));
        held.begin(tokens(30));
        assert_eq!(held.take(tokens(30)), tokens(30), "it is another container");
    }

    #[test]
    fn a_task_that_waits_is_not_called_a_message() {
        let message = |of_task| PendingMessage {
            id: MessageId::parse("m").unwrap(),
            seq: Seq(2),
            kind: "chat".into(),
            tries: 0,
            forgiven: 0,
            trigger: true,
            process_after: None,
            origin: Origin::default(),
            of_run: false,
            of_task,
        };
        let failure = Failure::permanent(Failure::BUDGET_EXCEEDED, "it is used up");
        let text =
            |of_task| over_budget_text(&message(of_task), &failure, &Zone::UTC, UnixMillis(0));
        for of_task in [false, true] {
            assert!(
                text(of_task).contains("it is used up") && text(of_task).contains("00:00 (UTC)")
            );
            assert_eq!(text(of_task).contains("Your message"), !of_task);
        }
    }
}
