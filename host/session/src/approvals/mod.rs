//! What the people in a session's chat are asked, and what comes of it: asking, hearing an answer in the
//! chat (`answers`) or from the operator, ending what nobody decides, and telling whoever asked. What may become what,
//! and what an answer means, is [`twobox_model::approval`]'s.
//!
//! Each step is durable before the next: asked in `host.db` before the request counts as carried out;
//! decided there, by one guarded statement; claimed before the answer is written into the inbox, and
//! recorded after. The answer has an id that follows from the request, so that writing it once more
//! changes nothing.

mod answers;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use twobox_shared::content::answer_id;
use twobox_shared::errors::chain;
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::{ApprovalId, MessageId, SessionId};
use twobox_shared::inbox::{Inbox, NewMessage, Origin};
use twobox_shared::open::BoxError;
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use crate::boxes::{Boxes, make_room};
use crate::command::Command;
use crate::compose::address_of_origin;
use crate::requests::{self, Wanted};
use crate::serving::{Asked, WAKES_MAX};
use crate::signal::Reason;
use crate::task::{Task, Trouble};
use twobox_model::approval::{self, Approval, Kind, Prompt, Status, Verdict};
use twobox_model::channel::Address;
use twobox_model::people::Speaker;
use twobox_store::DbError;
use twobox_store::approvals::{Asking, Bound, Bounds, Decide, NewApproval, Undecided, asked_by};
use twobox_store::sessions::DUE_NOW;
use twobox_system::blocking::blocking;

/// How much may be asked in one conversation: so many things at once, and so many in a day.
const BOUNDS: Bounds = Bounds { pending: 8, day: 100 };

/// The shortest time for which anything is asked: what is over before anybody reads it asks nothing.
const AT_LEAST: Duration = Duration::from_secs(10);

/// What the task knows of what people are asked.
#[derive(Debug, Default)]
pub(crate) struct People {
    /// Whether `open` is all that `host.db` has.
    known: bool,
    /// What is pending, and what whoever asked was not told yet.
    open: Vec<Approval>,
}

impl People {
    /// What is pending and is waited for: its answer starts no turn.
    pub(crate) fn waited_for(&self) -> Vec<Approval> {
        let is = |it: &&Approval| it.status == Status::Pending && !it.wake;
        self.open.iter().filter(is).cloned().collect()
    }

    /// What a channel has to know of the notice about `cause`, if it asks something.
    pub(super) fn prompt(&self, cause: &str) -> Option<Prompt> {
        let id = asked_by(cause)?;
        let is_it = |approval: &&Approval| approval.id == id && approval.status == Status::Pending;
        self.open.iter().find(is_it).map(Prompt::from)
    }
}

/// A person's decision, by another way than the chat.
#[derive(Debug)]
pub struct Decision {
    /// About what.
    pub id: ApprovalId,
    /// The digest of what they were shown.
    pub digest: String,
    /// What they say.
    pub verdict: Verdict,
    /// Who they are.
    pub by: String,
}

impl Task {
    /// Asks people what requests want them to be asked, before the requests count as carried out.
    pub(super) async fn ask_people(
        &mut self,
        asked: &mut [Asked],
        now: UnixMillis,
    ) -> Result<(), Trouble> {
        for asked in asked.iter_mut().filter(|asked| asked.refusal.is_none()) {
            let Some(wanted) = requests::wanted(&asked.content) else { continue };
            let address = address_of_origin(&asked.origin, &self.reply_address);
            let new = self.new_approval(asked, wanted, address, now);
            let (store, ids) = (&self.core.parts.store, &self.core.parts.ids);
            asked.people = Some(match store.approvals().ask(new, BOUNDS, &**ids, now).await? {
                Asking::Known(_) => Ok(()),
                Asking::New(approval) => {
                    self.log_asked(&approval);
                    Ok(())
                }
                Asking::TooMany(bound) => Err(too_many(bound)),
            });
            self.people.known = false;
            self.outgoing.knows_notices = false;
            fault::point(CrashPoint::HostApprovalAsked);
        }
        Ok(())
    }

    fn new_approval(
        &self,
        asked: &Asked,
        wanted: Wanted,
        address: Address,
        now: UnixMillis,
    ) -> NewApproval {
        let latest = now + self.core.parts.config.approvals.expire;
        let due_at = wanted
            .until
            .map_or(latest, |until| until.clamp(now + AT_LEAST, latest.max(now + AT_LEAST)));
        NewApproval {
            session: self.id,
            request: asked.row.clone(),
            subject: wanted.subject,
            address,
            wake: wanted.wake,
            due_at,
            until: clock_time(due_at, now),
            behind: self.seen,
        }
    }

    fn log_asked(&self, approval: &Approval) {
        let Approval { code, subject, due_at, .. } = approval;
        let what = subject.what.as_str();
        match self.core.parts.channels.contains_key(self.reply_address.channel_type.as_str()) {
            true => tracing::info!(session = %self.id, code, what, "a person is asked"),
            false => tracing::warn!(session = %self.id, code, what, until = %due_at,
                "an agent asks for something where nobody can be shown it: decide with `twobox approvals`, \
                 or it is denied"),
        }
    }

    pub(super) async fn load_people(&mut self) -> Result<(), Trouble> {
        if !self.people.known {
            self.people.open = self.core.parts.store.approvals().open(self.id).await?;
            self.people.known = true;
        }
        Ok(())
    }

    /// Ends what nobody has decided in time, and tells whoever asked what became of it. Returns when the
    /// next ends. In quarantine nobody is told before a person has put the session back: there is no agent
    /// that could hear it, and its inbox may be what is broken.
    pub(super) async fn settle_approvals(
        &mut self,
        now: UnixMillis,
    ) -> Result<Option<UnixMillis>, Trouble> {
        self.load_people().await?;
        let is_over = |it: &Approval| it.status == Status::Pending && it.due_at <= now;
        if self.people.open.iter().any(is_over) {
            self.mark(Some(DUE_NOW)).await?;
            for approval in self.core.parts.store.approvals().expire(self.id, now).await? {
                tracing::warn!(session = %self.id, code = approval.code,
                    "nobody decided in time what an agent asked, so it is denied");
            }
            fault::point(CrashPoint::HostApprovalDecided);
            self.people_changed();
            self.load_people().await?;
        }
        if self.record.quarantine.is_none() {
            let decided = self.people.open.iter().filter(|it| it.status != Status::Pending);
            for approval in decided.cloned().collect::<Vec<_>>() {
                self.tell_agent(&approval, now).await?;
            }
        }
        let pending = self.people.open.iter().filter(|it| it.status == Status::Pending);
        Ok(pending.map(|approval| approval.due_at).min())
    }

    /// Both lists have changed in `host.db`, or may have.
    pub(super) fn people_changed(&mut self) {
        self.people.known = false;
        self.outgoing.knows_notices = false;
        self.look_once_more();
    }

    /// Writes what became of an approval into the inbox, once.
    async fn tell_agent(&mut self, approval: &Approval, now: UnixMillis) -> Result<(), Trouble> {
        // First, so that whatever comes between them, somebody looks at what is new in the inbox.
        self.mark(Some(DUE_NOW)).await?;
        let store = self.core.parts.store.clone();
        if store.approvals().claim(approval.id, now).await? {
            fault::point(CrashPoint::HostApprovalClaimed);
            let (boxes, seen) = (Arc::clone(&self.boxes), self.seen);
            let told = approval.clone();
            blocking(move || boxes.tell_decision(&told, seen, now)).await?;
            fault::point(CrashPoint::HostApprovalTold);
            store.approvals().record_told(approval.id, now).await?;
        }
        self.people.open.retain(|open| open.id != approval.id);
        self.look_once_more();
        Ok(())
    }

    /// Carries out a person's decision. The error is a sentence for them.
    pub(super) async fn handle_decision(&mut self, decision: Decision) -> Result<Approval, String> {
        let Decision { id, digest, verdict, by } = decision;
        let speaker = Speaker::Operator;
        let order = Decide { session: self.id, id, digest, verdict, by, speaker, said_in: None };
        match self.decide(order).await {
            Ok(Ok(approval)) => Ok(approval),
            Ok(Err(why)) => Err(why),
            Err(error) => Err(chain(&error)),
        }
    }

    pub(super) async fn decide(
        &mut self,
        order: Decide,
    ) -> Result<Result<Approval, String>, DbError> {
        let (by, asker, now) = (order.by.clone(), order.session, self.now());
        // A decision marks whoever asked, so that somebody tells the agent. This one has to know its own mark.
        if asker == self.id {
            self.mark(Some(DUE_NOW)).await?;
        }
        let decided = self.core.parts.store.approvals().decide(order, now).await;
        if let Ok(Ok(approval)) = &decided {
            fault::point(CrashPoint::HostApprovalDecided);
            tracing::info!(session = %asker, code = approval.code, by,
                status = approval.status.as_str(), "a person has decided");
            self.sweep_budget.earn(1);
        }
        // Also after an error: its commit may have been one all the same.
        match asker == self.id {
            true => {
                self.people_changed();
                self.handle.signal.raise(Reason::Due);
            }
            false => self.pass_on(asker),
        }
        Ok(match decided? {
            Ok(approval) => Ok(approval),
            Err(Undecided::Already { approval }) => Ok(*approval),
            Err(why) => Err(why.to_string()),
        })
    }

    /// Has the session that asked look at what was decided, for which it is marked. Nobody waits for that: it may
    /// be about to tell this one something.
    fn pass_on(&self, asker: SessionId) {
        let core = Arc::clone(&self.core);
        tokio::spawn(async move { core.send(asker, Command::Notices).await });
    }
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    text: String,
    request: &'a str,
    action: &'a str,
    ok: bool,
    decision: Told<'a>,
}

#[derive(Debug, Serialize)]
struct Told<'a> {
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    choice: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen: Option<&'a str>,
}

impl Boxes {
    /// Tells the agent what became of what it asked.
    fn tell_decision(
        &self,
        approval: &Approval,
        seen: Seq,
        now: UnixMillis,
    ) -> Result<(), BoxError> {
        let Ok(row) = MessageId::parse(&approval.request) else { return Ok(()) };
        let answer = Answer {
            text: approval::answer(approval),
            request: &approval.request,
            action: match approval.subject.kind {
                Kind::Permission => "ask_permission",
                Kind::Question => "ask",
            },
            ok: matches!(approval.status, Status::Approved | Status::Answered),
            decision: Told {
                status: approval.status,
                choice: approval.choice,
                chosen: approval.chosen(),
            },
        };
        let answer = serde_json::to_string(&answer).expect("strings always serialise");
        let mut inbox = Inbox::open(&self.paths().inbound_db())?;
        let tx = inbox.write()?;
        let trigger = approval.wake && tx.waiting_wakes()? < WAKES_MAX;
        if !trigger {
            make_room(&tx)?;
        }
        let Address { channel_type, platform_id, thread_id } = approval.address();
        let asked_at =
            Origin { channel_type: Some(channel_type), platform_id: Some(platform_id), thread_id };
        let origin = if trigger { asked_at } else { Origin::default() };
        let note = NewMessage::note(answer_id(self.session(), &row), answer);
        tx.accept(&NewMessage { origin, trigger, ..note }, seen, now)?;
        tx.commit()
    }
}

fn too_many(bound: Bound) -> String {
    let Bounds { pending, day } = BOUNDS;
    match bound {
        Bound::Pending => format!(
            "{pending} things are asked in this conversation already, and that is the most: wait until some \
             are decided"
        ),
        Bound::Day => format!(
            "{day} things were asked in this conversation within a day, and that is the most: do without, \
             or ask later"
        ),
    }
}

/// A time as people read it, with its day where that is another one than today.
fn clock_time(instant: UnixMillis, now: UnixMillis) -> String {
    let (text, today) = (instant.to_rfc3339(), now.to_rfc3339());
    let (day, time) = text.split_once('T').unwrap_or_default();
    let time = time.get(..5).unwrap_or_default();
    match today.starts_with(day) {
        true => format!("{time} UTC"),
        false => format!("{day} {time} UTC"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_its_day_if_that_is_not_today() {
        let at = |text: &str| UnixMillis::parse(text).unwrap();
        let now = at("2026-11-30T14:00:00Z");
        assert_eq!(clock_time(at("2026-11-30T14:15:59Z"), now), "14:15 UTC");
        assert_eq!(clock_time(at("2026-12-01T00:05:00Z"), now), "2026-12-01 00:05 UTC");
    }
}
