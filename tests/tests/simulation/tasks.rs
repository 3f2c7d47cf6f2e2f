//! Tasks in the model: the real decisions about requests and about what follows an occurrence, with
//! the guards that the real statements repeat.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::{Value, json};
use twobox_session::decide::{Acks, Action};
use twobox_session::recurrence::{self, Succession};
use twobox_session::requests::{self, Effect};
use twobox_shared::content::KIND_SYSTEM;
use twobox_shared::ids::{MessageId, SessionId};
use twobox_shared::inbox::{Delivery, DeliveryStatus, NewOccurrence, Occurrence, Origin};
use twobox_shared::outbox::AckStatus;
use twobox_shared::time::UnixMillis;

use crate::model::{Boxes, Message, Status};

/// How many series a session has at most, whatever its agent asks for.
const SERIES: usize = 2;

/// What makes a message an occurrence.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) series: String,
    pub(crate) recurrence: Option<String>,
    nominal: UnixMillis,
    generation: i64,
}

/// What is known of the series that ever began.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    /// Whether something follows each occurrence.
    recurs: bool,
    over: bool,
    /// The newest nominal time of each generation.
    nominal: BTreeMap<i64, UnixMillis>,
}

/// A request that an agent may think of.
pub(crate) fn request(boxes: &Boxes, now: UnixMillis, rng: &mut fastrand::Rng) -> Value {
    let later = now + Duration::from_secs(rng.u64(..20));
    let known: Vec<&Message> = boxes.messages.iter().filter(|it| it.task.is_some()).collect();
    let Some(message) = (!known.is_empty()).then(|| known[rng.usize(..known.len())]) else {
        return json!({ "action": "schedule_task", "prompt": "p", "recurrence": "every 30m",
                       "process_after": later });
    };
    let id = message.row.id.as_str();
    let may_begin = boxes.series.len() < SERIES;
    match rng.u8(..9) {
        0 if may_begin => json!({ "action": "schedule_task", "prompt": "p",
                                  "recurrence": "every 30m", "process_after": later }),
        1 if may_begin => {
            json!({ "action": "schedule_task", "prompt": "p", "process_after": later })
        }
        2 => json!({ "action": "update_task", "id": id, "recurrence": "*/20 * * * *" }),
        3 => json!({ "action": "update_task", "id": id, "prompt": "q" }),
        4 => json!({ "action": "pause_task", "id": id }),
        5 => json!({ "action": "cancel_task", "id": id }),
        6 => json!({ "action": "list_tasks" }),
        7 => json!({ "action": "update_task", "id": id, "recurrence": null }),
        _ => json!({ "action": "resume_task", "id": id }),
    }
}

impl Boxes {
    fn occurrences(&self, wanted: impl Fn(&Message, &Task) -> bool) -> Vec<Occurrence> {
        let occurrence = |message: &Message| {
            let task = message.task.as_ref().filter(|task| wanted(message, task))?;
            Some(Occurrence {
                id: message.row.id.clone(),
                seq: message.row.seq,
                series: task.series.clone(),
                status: message.status,
                tries: message.row.tries,
                process_after: message.row.process_after,
                recurrence: task.recurrence.clone(),
                zone: None,
                nominal: Some(task.nominal),
                generation: task.generation,
            })
        };
        self.messages.iter().filter_map(occurrence).collect()
    }

    /// `InboxTx::recurring`.
    pub(crate) fn recurring(&self) -> Vec<Occurrence> {
        self.occurrences(|_, task| task.recurrence.is_some())
    }

    /// Applies what follows `actions`. Returns whether anything does.
    pub(crate) fn go_on(
        &mut self,
        recurring: &[Occurrence],
        actions: &[Action],
        acks: &Acks,
        now: UnixMillis,
    ) -> bool {
        let successions = recurrence::successions(recurring, actions, acks, now);
        for Succession { before, next } in &successions {
            let next = next.as_ref().expect("what the model asks for recurs for ever");
            let message = self.message(before);
            let task = message.task.as_mut().expect("an occurrence");
            let ended = matches!(message.status, Status::Completed | Status::Failed);
            if ended && task.recurrence.take().is_some() {
                self.insert(before, next);
            }
        }
        !successions.is_empty()
    }

    /// `InboxTx::continue_series`.
    fn insert(&mut self, before: &MessageId, next: &NewOccurrence) {
        let message = self.message(before);
        let origin = message.row.origin.clone();
        let series = message.task.as_ref().expect("an occurrence").series.clone();
        self.begin(&series, origin, next);
    }

    fn begin(&mut self, series: &str, origin: Origin, next: &NewOccurrence) {
        let known = self.series.entry(series.to_owned()).or_default();
        assert!(!known.over, "{} follows in a series that was cancelled", next.id);
        known.recurs = next.recurrence.is_some();
        let before = known.nominal.insert(next.generation, next.nominal);
        assert!(before.is_none_or(|before| before < next.nominal), "{} is done twice", next.id);
        assert!(self.messages.iter().all(|it| it.row.id != next.id), "{} is there twice", next.id);
        self.accept(next.id.to_string(), "a", true);
        let message = self.message(&next.id);
        message.row.origin = origin;
        message.row.process_after = Some(next.nominal);
        message.status = if next.paused { Status::Paused } else { Status::Pending };
        message.task = Some(Task {
            series: series.to_owned(),
            recurrence: next.recurrence.clone(),
            nominal: next.nominal,
            generation: next.generation,
        });
    }

    /// Carries out the requests at `indexes` of `rows`, as `Boxes::serve` of the product does.
    pub(crate) fn serve(
        &mut self,
        session: SessionId,
        asked: &[(MessageId, String, Origin)],
        acks: &Acks,
        now: UnixMillis,
    ) {
        for (row, content, origin) in asked {
            if self.delivered.contains_key(row) {
                continue;
            }
            let live = self.occurrences(|message, _| message.status.is_live());
            let tasks: Vec<_> =
                live.into_iter().map(|row| (row, r#"{"text":"p"}"#.to_owned())).collect();
            let response = requests::respond(
                &requests::RequestView {
                    may_make: true,
                    now,
                    min_interval: Duration::from_secs(60),
                    series: &recurrence::series_id(session, row),
                    origin,
                    refusal: None,
                    tasks: &tasks,
                    asked: None,
                    at_work: &|row| {
                        acks.get(&row.id).is_some_and(|ack| {
                            ack.status == AckStatus::Processing
                                && ack.attempt.unwrap_or(0) >= row.tries
                        })
                    },
                },
                row,
                content,
            );
            let status = match response.refusal {
                None => DeliveryStatus::Delivered,
                Some(_) => DeliveryStatus::Failed,
            };
            let record = Delivery {
                status,
                attempts: 0,
                next_attempt_at: None,
                changed_at: now,
                error: response.refusal,
                platform_message_id: None,
            };
            self.delivered.insert(row.clone(), record);
            self.carry_out(response.effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Nothing | Effect::Asked => {}
            Effect::Begin(task) => self.begin(&task.series, task.origin, &task.first),
            Effect::Replace { before, at_work, next, .. } => {
                match at_work {
                    true => self.message(&before).task.as_mut().expect("a task").recurrence = None,
                    false => self.cancel(&before),
                }
                self.insert(&before, &next);
            }
            Effect::Amend(id, amended) => {
                let message = self.message(&id);
                assert!(message.status.is_live(), "only what lives is changed");
                let task = message.task.as_mut().expect("a task");
                task.recurrence = amended.recurrence;
                let (series, recurs) = (task.series.clone(), task.recurrence.is_some());
                self.series.get_mut(&series).expect("it began").recurs = recurs;
            }
            Effect::Resume(id) => {
                let message = self.message(&id);
                assert_eq!(message.status, Status::Paused, "only what is paused goes on");
                message.status = Status::Pending;
            }
            Effect::Pause(id) => {
                let message = self.message(&id);
                assert_eq!(message.status, Status::Pending, "only what is pending is paused");
                message.status = Status::Paused;
            }
            Effect::Cancel { series, live, at_work } => {
                live.iter().for_each(|id| self.cancel(id));
                for id in &at_work {
                    let message = self.message(id);
                    assert_eq!(message.status, Status::Pending, "only what is pending is released");
                    message.task = None;
                }
                let tasks = self.messages.iter_mut().filter_map(|message| message.task.as_mut());
                tasks.filter(|task| task.series == series).for_each(|task| task.recurrence = None);
                self.series.get_mut(&series).expect("it began").over = true;
            }
        }
    }

    fn cancel(&mut self, id: &MessageId) {
        let message = self.message(id);
        assert!(message.status.is_live(), "only what lives is cancelled");
        message.status = Status::Cancelled;
        message.row.process_after = None;
        message.task.as_mut().expect("a task").recurrence = None;
    }

    /// A task is done once at each time, however often it is changed meanwhile.
    pub(crate) fn note_done(&mut self, id: &MessageId) {
        let Some(task) = &self.message(id).task else { return };
        let time = (task.series.clone(), task.nominal);
        if let Some(before) = self.done.insert(time, id.clone()) {
            panic!("{id} does what {before} has done");
        }
    }

    /// What is wrong with a series, whatever crashed: one that goes on has one live occurrence.
    pub(crate) fn broken_series(&self) -> Option<String> {
        self.series.iter().find_map(|(series, known)| {
            let live = self.occurrences(|message, task| {
                task.series == *series && task.recurrence.is_some() && message.status.is_live()
            });
            let expected = usize::from(known.recurs && !known.over);
            (live.len() != expected)
                .then(|| format!("{series} has {} live occurrences: {known:?}", live.len()))
        })
    }

    /// `InboxTx::withdrawn`.
    pub(crate) fn withdrawn(&self) -> HashMap<MessageId, i64> {
        let gone =
            |message: &&Message| matches!(message.status, Status::Paused | Status::Cancelled);
        let tries = |message: &Message| (message.row.id.clone(), message.row.tries);
        self.messages.iter().filter(gone).map(tries).collect()
    }

    /// A row that asks the host for something.
    pub(crate) fn ask(&mut self, name: &str, content: &Value) {
        let row = self.rows.iter_mut().find(|row| row.id.as_str() == name);
        let row = row.expect("it was sent");
        row.kind = KIND_SYSTEM.into();
        row.content = Some(content.to_string());
    }
}
