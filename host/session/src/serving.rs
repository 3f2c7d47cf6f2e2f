//! Carrying out what an agent asks of the host. What a request does is decided in
//! [`super::requests`]; its effect, its answer and the final record of its row are one transaction of
//! the inbox, so that it is carried out once, whatever crashes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use twobox_shared::content::answer_id;
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{
    Delivery, DeliveryStatus, Inbox, InboxTx, NewMessage, Occurrence, Origin,
};
use twobox_shared::open::BoxError;
use twobox_shared::outbox::AckStatus;
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use super::boxes::{BoxSnapshot, Boxes, make_room};
use super::decide::Acks;
use super::delivery::{self, DeliveryPlan, Entry};
use super::recurrence::series_id;
use super::requests::{self, Effect, Response};
use super::task::{Task, Trouble};
use twobox_model::channel::Address;
use twobox_store::sessions::DUE_NOW;

/// How many answers that start a turn wait at most. Further ones are context.
pub(super) const WAKES_MAX: u32 = 10;

/// A request as it came.
pub(super) struct Asked {
    /// Where it is among the rows of the look.
    index: usize,
    pub(super) row: MessageId,
    pub(super) content: String,
    /// Where the answers of a task go that it makes.
    pub(super) origin: Origin,
    /// Why it may not say so, if it may not.
    pub(super) refusal: Option<String>,
    /// What came of asking people, if it wants that.
    pub(super) people: Option<Result<(), String>>,
    /// Whether the inbox has a record of it. Then it is to have a final one: without, it would be
    /// asked about again and again.
    recorded: bool,
}

/// What all requests of one transaction have in common.
struct Circumstances {
    now: UnixMillis,
    seen: Seq,
    min_interval: Duration,
    may_make: bool,
    /// The attempt that is being worked on, of each message of which one is.
    at_work: HashMap<MessageId, i64>,
    /// How many refusals may be told.
    may_tell: usize,
}

/// What became of requests, by their indexes.
#[derive(Default)]
struct Served {
    /// Records of those that were not settled before.
    records: Vec<(usize, Delivery)>,
    /// Those that were refused and are only counted, with the reason. Nothing was stored of them.
    judged: Vec<(usize, String)>,
}

impl Task {
    /// Carries out the requests of the plan, in their order.
    pub(super) async fn serve(
        &mut self,
        plan: &DeliveryPlan,
        snapshot: &BoxSnapshot,
        now: UnixMillis,
    ) -> Result<(), Trouble> {
        if plan.requests.is_empty() {
            return Ok(());
        }
        let mut requests: Vec<_> = plan.requests.iter().copied().map(Entry::Row).collect();
        self.load_contents(&mut requests, snapshot).await?;
        let indexes = requests.into_iter().filter_map(Entry::row);
        let mut asked: Vec<Asked> = indexes.map(|index| self.asked(index)).collect();
        // First, so that whatever comes between them, somebody looks at what is new in the inbox.
        self.mark(Some(DUE_NOW)).await?;
        self.ask_people(&mut asked, now).await?;
        let circumstances = Circumstances {
            now,
            seen: snapshot.cursor.seen,
            min_interval: self.core.parts.config.schedule.min_interval,
            may_make: self.core.parts.config.schedule.agent_tasks,
            at_work: at_work(&snapshot.acks),
            may_tell: self.refusals.left(self.core.parts.clock.monotonic()),
        };
        let boxes = Arc::clone(&self.boxes);
        let served = self.at_its_expense(move || boxes.serve(&asked, &circumstances)).await?;
        fault::point(CrashPoint::HostRequestCommitted);
        for (index, record) in served.records {
            let (row, known) = &mut self.outgoing.rows[index];
            if let Some(error) = &record.error {
                self.refusals.spend(1);
                if let Some(repeats) = self.refusals.log(error, Instant::now()) {
                    tracing::info!(session = %self.id, row = %row.id, error, repeats,
                        "a request was refused");
                }
            }
            *known = Some(record);
        }
        for (index, refusal) in served.judged {
            self.refusals.judge(self.outgoing.rows[index].0.seq, refusal);
        }
        self.look_once_more();
        Ok(())
    }

    fn asked(&self, index: usize) -> Asked {
        let row = &self.outgoing.rows[index].0;
        let address = delivery::address_of(row, &self.reply_address);
        let refusal = (!self.may_send(&address)).then(|| delivery::not_wired(&address));
        let Address { channel_type, platform_id, thread_id } = address;
        Asked {
            index,
            row: row.id.clone(),
            content: row.content.clone().unwrap_or_default(),
            origin: Origin {
                channel_type: Some(channel_type),
                platform_id: Some(platform_id),
                thread_id,
            },
            refusal,
            people: None,
            recorded: self.outgoing.rows[index].1.is_some(),
        }
    }
}

/// The claims that a runner may be working on.
pub(super) fn at_work(acks: &Acks) -> HashMap<MessageId, i64> {
    let claims = acks.iter().filter(|(_, ack)| ack.status == AckStatus::Processing);
    // One that names no attempt is that of the present one.
    claims.map(|(message, ack)| (message.clone(), ack.attempt.unwrap_or(i64::MAX))).collect()
}

impl Boxes {
    /// Carries out requests in one transaction, and answers them.
    fn serve(&self, asked: &[Asked], circumstances: &Circumstances) -> Result<Served, BoxError> {
        let mut inbox = Inbox::open(&self.paths().inbound_db())?;
        let tx = inbox.write()?;
        let mut served = Served::default();
        let mut told = 0;
        for asked in asked {
            let response = self.respond(&tx, asked, circumstances)?;
            if let Some(refusal) = &response.refusal {
                if told >= circumstances.may_tell && !asked.recorded {
                    served.judged.push((asked.index, refusal.clone()));
                    continue;
                }
                told += 1;
            }
            let record = record(&response, circumstances.now);
            if tx.record_delivery(&asked.row, &record)? {
                apply(&tx, &response.effect, circumstances.seen, circumstances.now)?;
                if response.effect != Effect::Asked {
                    self.answer(&tx, asked, response, circumstances)?;
                }
                served.records.push((asked.index, record));
            }
        }
        tx.commit()?;
        Ok(served)
    }

    fn respond(
        &self,
        tx: &InboxTx<'_>,
        asked: &Asked,
        circumstances: &Circumstances,
    ) -> Result<Response, BoxError> {
        let tasks = tx.live_occurrences()?;
        let view = requests::RequestView {
            now: circumstances.now,
            min_interval: circumstances.min_interval,
            may_make: circumstances.may_make,
            series: &series_id(self.session(), &asked.row),
            origin: &asked.origin,
            refusal: asked.refusal.as_deref(),
            tasks: &tasks,
            asked: asked.people.as_ref().map(|it| it.as_ref().copied().map_err(String::as_str)),
            at_work: &|row: &Occurrence| {
                circumstances.at_work.get(&row.id).is_some_and(|attempt| *attempt >= row.tries)
            },
        };
        Ok(requests::respond(&view, &asked.row, &asked.content))
    }

    /// Tells the agent. A turn is told the newest of what waits as context; what is older than that
    /// makes room.
    fn answer(
        &self,
        tx: &InboxTx<'_>,
        asked: &Asked,
        response: Response,
        circumstances: &Circumstances,
    ) -> Result<(), BoxError> {
        let trigger = response.wake && tx.waiting_wakes()? < WAKES_MAX;
        if !trigger {
            make_room(tx)?;
        }
        let id = answer_id(self.session(), &asked.row);
        let origin = if trigger { asked.origin.clone() } else { Origin::default() };
        let answer = NewMessage { origin, trigger, ..NewMessage::note(id, response.answer) };
        tx.accept(&answer, circumstances.seen, circumstances.now).map(drop)
    }
}

fn record(response: &Response, now: UnixMillis) -> Delivery {
    Delivery {
        status: match response.refusal {
            None => DeliveryStatus::Delivered,
            Some(_) => DeliveryStatus::Failed,
        },
        attempts: 0,
        next_attempt_at: None,
        changed_at: now,
        error: response.refusal.clone(),
        platform_message_id: None,
    }
}

pub(super) fn apply(
    tx: &InboxTx<'_>,
    effect: &Effect,
    seen: Seq,
    now: UnixMillis,
) -> Result<(), BoxError> {
    match effect {
        Effect::Nothing | Effect::Asked => Ok(()),
        Effect::Begin(task) => tx.begin_series(task, seen, now),
        Effect::Replace { before, at_work, next, content } => {
            match at_work {
                true => drop(tx.detach_occurrence(before)?), // done once only, it had none
                false => tx.cancel_occurrence(before)?,
            }
            tx.continue_series(before, next, content.as_deref(), seen, now)
        }
        Effect::Amend(id, amended) => tx.amend_occurrence(id, amended),
        Effect::Pause(id) => tx.pause_occurrence(id),
        Effect::Resume(id) => tx.resume_occurrence(id),
        Effect::Cancel { series, live, at_work } => {
            for id in live {
                tx.cancel_occurrence(id)?;
            }
            for id in at_work {
                tx.release_occurrence(id)?;
            }
            tx.end_series(series).map(drop)
        }
    }
}
