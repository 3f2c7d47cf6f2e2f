//! What an agent asks of the host: tasks for later, decided. Pure: the content of a `system` row and
//! the session's live tasks in, a guarded change and the answer to the agent out.
//!
//! Whatever a container writes here reaches the tasks of its own session and nothing else. Fields
//! that nobody knows are refused, for a misspelt `recurrence` would otherwise make another task.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use twobox_shared::content::{Chat, shorten};
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{NewOccurrence, NewTask, Occurrence, Origin, Status};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use super::recurrence::{Recurrence, belongs, occurrence_id, zone_of};
use crate::schedule::zone::Zone;

/// How many live tasks a session has at most.
pub const TASKS_MAX: usize = 100;

/// The longest request, in bytes.
const REQUEST_MAX: usize = 64 << 10;

/// The longest prompt, in bytes.
const PROMPT_MAX: usize = 8 << 10;

/// How many characters of a reason are told.
const REASON_MAX: usize = 500;

/// How many characters of a prompt a list shows.
const PROMPT_SHOWN: usize = 80;

/// A live occurrence and its content.
pub type Live = (Occurrence, String);

/// Everything that the decision depends on.
pub struct View<'a> {
    /// The wall clock.
    pub now: UnixMillis,
    /// The shortest time between two occurrences of a task.
    pub min_interval: Duration,
    /// The id of the series that this request would begin.
    pub series: &'a str,
    /// Where the answers of a task go that this request makes.
    pub origin: &'a Origin,
    /// Why they may not go there, if they may not.
    pub refusal: Option<&'a str>,
    /// The session's live occurrences, oldest first.
    pub tasks: &'a [Live],
    /// Whether an occurrence is being worked on.
    pub at_work: &'a dyn Fn(&Occurrence) -> bool,
}

/// A guarded change of the session's tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// None.
    Nothing,
    /// A new series.
    Begin(NewTask),
    /// Another live occurrence in the place of one, with other content if there is any.
    Replace {
        /// The one that was live. It is finished if it is being worked on, and cancelled otherwise.
        before: MessageId,
        /// Whether it is being worked on.
        at_work: bool,
        /// The one that is live from now on.
        next: NewOccurrence,
        /// Its content, if that changed.
        content: Option<String>,
    },
    /// The live occurrence waits.
    Pause(MessageId),
    /// Nothing follows in a series.
    Cancel {
        /// Which.
        series: String,
        /// Its live occurrences that nobody works on.
        live: Vec<MessageId>,
        /// Those that are being worked on, and are finished.
        at_work: Vec<MessageId>,
    },
}

/// What comes of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// What is changed.
    pub effect: Effect,
    /// Why it was refused, if it was; then nothing is changed.
    pub refusal: Option<String>,
    /// The answer: a content of the protocol.
    pub answer: String,
    /// Whether the answer starts a turn.
    pub wake: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Schedule {
    prompt: String,
    process_after: Option<String>,
    recurrence: Option<String>,
    zone: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    id: String,
    prompt: Option<String>,
    process_after: Option<String>,
    /// `null` says that it is done once more only.
    #[serde(default, deserialize_with = "given")]
    recurrence: Option<Option<String>>,
    zone: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A task as an answer shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Shown {
    id: String,
    status: Status,
    /// When it is due next, unless it is paused.
    next: Option<UnixMillis>,
    recurrence: Option<String>,
    zone: String,
    prompt: String,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    text: &'a str,
    request: &'a MessageId,
    action: &'a str,
    ok: bool,
    tasks: &'a [Shown],
}

/// What is done, what is said of it, and the tasks that it is about.
type Done = (Effect, String, Vec<Shown>);

/// Decides about the request that the row `id` makes. See the module's contract.
pub fn respond(view: &View<'_>, id: &MessageId, content: &str) -> Response {
    let fields = read(content);
    let word = |fields: &Map<String, Value>| {
        fields.get("action").and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let action = fields.as_ref().map(word).unwrap_or_default();
    let wake = fields.as_ref().is_ok_and(|fields| fields.get("wake") == Some(&Value::Bool(true)));
    let done = fields.and_then(|fields| view.decide(&action, fields));
    let refusal = done.as_ref().err().map(|reason| shorten(reason, REASON_MAX));
    let (effect, text, tasks) = done.unwrap_or_else(|_| {
        let reason = refusal.as_deref().unwrap_or_default();
        let action = if action.is_empty() { "a request" } else { &action };
        let text = format!("Refused: {}: {reason}.", shorten(action, 64));
        (Effect::Nothing, text, Vec::new())
    });
    let ok = refusal.is_none();
    let action = shorten(&action, 64);
    let answer = Answer { text: &text, request: id, action: &action, ok, tasks: &tasks };
    let answer = serde_json::to_string(&answer).expect("strings always serialise");
    Response { effect, refusal, answer, wake }
}

fn read(content: &str) -> Result<Map<String, Value>, String> {
    if content.len() > REQUEST_MAX {
        return Err(format!("a request has at most {REQUEST_MAX} bytes"));
    }
    match serde_json::from_str(content) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err("a request is a JSON object with an `action`".to_owned()),
    }
}

/// The fields that belong to an action.
fn of<T: DeserializeOwned>(mut fields: Map<String, Value>) -> Result<T, String> {
    fields.remove("action");
    match fields.remove("wake") {
        None | Some(Value::Bool(_)) => {}
        Some(_) => return Err("`wake` is true or false".to_owned()),
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())
}

impl View<'_> {
    fn decide(&self, action: &str, fields: Map<String, Value>) -> Result<Done, String> {
        match action {
            "schedule_task" => self.schedule(of(fields)?),
            "list_tasks" => of(fields).map(|Empty {}| self.list()),
            "update_task" => self.update(of(fields)?),
            "pause_task" => self.pause(&of::<Named>(fields)?.id),
            "resume_task" => self.resume(&of::<Named>(fields)?.id),
            "cancel_task" => self.cancel(&of::<Named>(fields)?.id),
            _ => Err("this host knows no such request: write schedule_task, list_tasks, \
                      update_task, pause_task, resume_task or cancel_task"
                .to_owned()),
        }
    }

    fn schedule(&self, asked: Schedule) -> Result<Done, String> {
        if let Some(refusal) = self.refusal {
            return Err(refusal.to_owned());
        }
        if self.tasks.len() >= TASKS_MAX {
            return Err(format!(
                "there are {TASKS_MAX} tasks in this conversation already, and that is the most: \
                 cancel one that is not needed any more"
            ));
        }
        if self.tasks.iter().any(|(row, _)| row.series == self.series) {
            return Err("this task is there already".to_owned());
        }
        let content = content(&asked.prompt)?;
        let zone = zone_of(asked.zone.as_deref()).map_err(|error| error.to_string())?;
        let recurrence = asked.recurrence.map(|text| self.recurrence(&text, &zone)).transpose()?;
        let nominal = match (asked.process_after, &recurrence) {
            (Some(text), _) => instant(&text, &zone)?,
            (None, Some(recurrence)) => self.first_after(recurrence, self.now, self.now)?,
            (None, None) => self.now,
        };
        let first = self.occurrence(self.series, 0, nominal, recurrence.as_ref(), &zone, false);
        let shown = shown(self.series, &first, &content);
        let text = format!("Scheduled as {}.", sentence(&shown));
        let task =
            NewTask { series: self.series.to_owned(), content, origin: self.origin.clone(), first };
        Ok((Effect::Begin(task), text, vec![shown]))
    }

    fn list(&self) -> Done {
        let mut live: BTreeMap<&str, &Live> = BTreeMap::new();
        for task in self.tasks {
            let kept = live.entry(&task.0.series).or_insert(task);
            if rank(&task.0) > rank(&kept.0) {
                *kept = task;
            }
        }
        let mut live: Vec<&Live> = live.into_values().collect();
        live.sort_by_key(|(row, _)| row.seq);
        let tasks: Vec<Shown> =
            live.into_iter().map(|(row, content)| shown_row(row, content)).collect();
        let text = match tasks.is_empty() {
            true => "There are no tasks in this conversation.".to_owned(),
            false => {
                let lines: Vec<String> =
                    tasks.iter().map(|task| format!("\n- {}", sentence(task))).collect();
                format!("Tasks in this conversation: {}.{}", tasks.len(), lines.concat())
            }
        };
        (Effect::Nothing, text, tasks)
    }

    fn update(&self, asked: Update) -> Result<Done, String> {
        let Update { id, prompt, process_after, recurrence, zone } = asked;
        let (row, before) = self.find(&id)?;
        if (&prompt, &process_after, &recurrence, &zone) == (&None, &None, &None, &None) {
            return Err(
                "there is nothing to change: give prompt, process_after, recurrence or zone"
                    .to_owned(),
            );
        }
        let at_work = self.at_work(row);
        let changed = prompt.map(|prompt| content(&prompt)).transpose()?;
        let retimed = recurrence.is_some() || zone.is_some();
        let zone = zone_of(zone.as_deref().or(row.zone.as_deref())).map_err(|e| e.to_string())?;
        let recurrence = match recurrence {
            Some(text) => text.map(|text| self.recurrence(&text, &zone)).transpose()?,
            None => match &row.recurrence {
                Some(text) => {
                    Some(Recurrence::parse(text, zone.clone()).map_err(|error| error.to_string())?)
                }
                None => None,
            },
        };
        let nominal = row.nominal.or(row.process_after).unwrap_or(self.now);
        let nominal = match (process_after, &recurrence) {
            (Some(text), _) => instant(&text, &zone)?,
            (None, Some(recurrence)) if retimed => {
                let after = if at_work { self.now.max(nominal) } else { self.now };
                self.first_after(recurrence, self.now, after)?
            }
            (None, Some(recurrence)) if at_work => {
                self.first_after(recurrence, nominal, self.now.max(nominal))?
            }
            (None, None) if at_work => return Err(busy(&id)),
            (None, _) => nominal,
        };
        let paused = row.status == Status::Paused;
        let generation = row.generation + 1;
        let next =
            self.occurrence(&row.series, generation, nominal, recurrence.as_ref(), &zone, paused);
        let shown = shown(&row.series, &next, changed.as_deref().unwrap_or(before));
        let text = format!("Changed: {}.", sentence(&shown));
        let before = row.id.clone();
        Ok((Effect::Replace { before, at_work, next, content: changed }, text, vec![shown]))
    }

    fn pause(&self, id: &str) -> Result<Done, String> {
        let (row, content) = self.find(id)?;
        let now_shown = Shown { status: Status::Paused, next: None, ..shown_row(row, content) };
        let text = format!("Paused: {}.", sentence(&now_shown));
        if row.status == Status::Paused {
            return Ok((Effect::Nothing, text, vec![now_shown]));
        }
        if !self.at_work(row) {
            return Ok((Effect::Pause(row.id.clone()), text, vec![now_shown]));
        }
        let recurrence = Recurrence::of(row).map_err(|error| error.to_string())?;
        let recurrence = recurrence.ok_or_else(|| busy(id))?;
        let nominal = row.nominal.unwrap_or(self.now);
        let slot = self.first_after(&recurrence, nominal, self.now.max(nominal))?;
        let next = self.occurrence(
            &row.series,
            row.generation + 1,
            slot,
            Some(&recurrence),
            &recurrence.zone,
            true,
        );
        let effect = Effect::Replace { before: row.id.clone(), at_work: true, next, content: None };
        Ok((effect, text, vec![now_shown]))
    }

    /// Nothing that was missed is made up for: the task goes on with the first time to come.
    fn resume(&self, id: &str) -> Result<Done, String> {
        let (row, content) = self.find(id)?;
        if row.status != Status::Paused {
            let shown = shown_row(row, content);
            let text = format!("It is not paused: {}.", sentence(&shown));
            return Ok((Effect::Nothing, text, vec![shown]));
        }
        let recurrence = Recurrence::of(row).map_err(|error| error.to_string())?;
        let nominal = row.nominal.or(row.process_after).unwrap_or(self.now);
        let nominal = match &recurrence {
            Some(recurrence) if nominal <= self.now => {
                self.first_after(recurrence, nominal, self.now)?
            }
            _ => nominal,
        };
        let zone = zone_of(row.zone.as_deref()).map_err(|error| error.to_string())?;
        let generation = row.generation + 1;
        let next =
            self.occurrence(&row.series, generation, nominal, recurrence.as_ref(), &zone, false);
        let shown = shown(&row.series, &next, content);
        let text = format!("Resumed: {}.", sentence(&shown));
        let effect =
            Effect::Replace { before: row.id.clone(), at_work: false, next, content: None };
        Ok((effect, text, vec![shown]))
    }

    fn cancel(&self, id: &str) -> Result<Done, String> {
        let (row, content) = self.find(id)?;
        let of_series = self.tasks.iter().map(|(row, _)| row).filter(|it| it.series == row.series);
        let (at_work, live): (Vec<_>, Vec<_>) = of_series.partition(|it| self.at_work(it));
        let ids = |rows: Vec<&Occurrence>| rows.into_iter().map(|row| row.id.clone()).collect();
        let (at_work, live): (Vec<MessageId>, Vec<MessageId>) = (ids(at_work), ids(live));
        let shown = Shown { status: Status::Cancelled, next: None, ..shown_row(row, content) };
        let rest = match at_work.is_empty() {
            true => "",
            false => " What is being worked on is finished; nothing follows it.",
        };
        let text = format!("Cancelled: {}.{rest}", sentence(&shown));
        Ok((Effect::Cancel { series: row.series.clone(), live, at_work }, text, vec![shown]))
    }

    /// The live occurrence of the series that `id` names.
    fn find(&self, id: &str) -> Result<(&Occurrence, &str), String> {
        let named = self.tasks.iter().find(|(row, _)| belongs(id, row));
        let of_series = |series| self.tasks.iter().filter(move |(row, _)| row.series == series);
        let found = named.and_then(|(named, _)| {
            of_series(named.series.as_str()).max_by_key(|(row, _)| rank(row))
        });
        found.map(|(row, content)| (row, content.as_str())).ok_or_else(|| {
            format!(
                "there is no task {:?} in this conversation, or it is over: list_tasks shows \
                 those that there are",
                shorten(id, 64)
            )
        })
    }

    fn at_work(&self, row: &Occurrence) -> bool {
        row.status == Status::Pending && (self.at_work)(row)
    }

    fn recurrence(&self, text: &str, zone: &Zone) -> Result<Recurrence, String> {
        Recurrence::parse(text, zone.clone())
            .and_then(|recurrence| {
                recurrence.check_interval(self.min_interval)?;
                Ok(recurrence)
            })
            .map_err(|error| error.to_string())
    }

    fn first_after(
        &self,
        recurrence: &Recurrence,
        anchor: UnixMillis,
        after: UnixMillis,
    ) -> Result<UnixMillis, String> {
        recurrence
            .first_after(anchor, after)
            .ok_or_else(|| format!("{} has no further time", recurrence.cadence))
    }

    fn occurrence(
        &self,
        series: &str,
        generation: i64,
        nominal: UnixMillis,
        recurrence: Option<&Recurrence>,
        zone: &Zone,
        paused: bool,
    ) -> NewOccurrence {
        NewOccurrence {
            id: occurrence_id(series, generation, nominal),
            nominal,
            recurrence: recurrence.map(Recurrence::text),
            zone: Some(zone.name().to_owned()),
            generation,
            paused,
        }
    }
}

/// Of the live rows of a series, the one that goes on is above those that are only being finished.
fn rank(row: &Occurrence) -> (bool, Seq) {
    (row.recurrence.is_some(), row.seq)
}

fn busy(id: &str) -> String {
    format!("{} is being worked on just now, and is not due again after that", shorten(id, 64))
}

fn content(prompt: &str) -> Result<String, String> {
    let prompt = prompt.trim();
    match prompt.len() {
        0 => Err("`prompt` is empty: say what is to be done".to_owned()),
        1..=PROMPT_MAX => Ok(Chat::text(prompt).to_json()),
        _ => Err(format!("`prompt` has more than {PROMPT_MAX} bytes")),
    }
}

/// Reads an instant with its offset, or what the clock of `zone` shows.
fn instant(text: &str, zone: &Zone) -> Result<UnixMillis, String> {
    let parsed = match text.trim().parse::<Timestamp>() {
        Ok(instant) => Some(instant),
        Err(_) => {
            let reading = text.trim().parse::<DateTime>().ok();
            reading.and_then(|reading| zone.first_instant(reading))
        }
    };
    match parsed.filter(|instant| *instant >= Timestamp::UNIX_EPOCH) {
        Some(instant) => Ok(UnixMillis(instant.as_millisecond())),
        None => Err(format!(
            "process_after: {:?} is no time: write 2026-11-01T09:00:00+01:00, or 2026-11-01T09:00 \
             in the task's zone",
            shorten(text, 64)
        )),
    }
}

fn shown(series: &str, occurrence: &NewOccurrence, content: &str) -> Shown {
    Shown {
        id: series.to_owned(),
        status: if occurrence.paused { Status::Paused } else { Status::Pending },
        next: (!occurrence.paused).then_some(occurrence.nominal),
        recurrence: occurrence.recurrence.clone(),
        zone: occurrence.zone.clone().unwrap_or_else(|| Zone::UTC.name().to_owned()),
        prompt: shorten(&Chat::from_content(content).text, PROMPT_SHOWN),
    }
}

fn shown_row(row: &Occurrence, content: &str) -> Shown {
    Shown {
        id: row.series.clone(),
        status: row.status,
        next: row.process_after.or(row.nominal).filter(|_| row.status == Status::Pending),
        recurrence: row.recurrence.clone(),
        zone: row.zone.clone().unwrap_or_else(|| Zone::UTC.name().to_owned()),
        prompt: shorten(&Chat::from_content(content).text, PROMPT_SHOWN),
    }
}

/// What a clock in `zone` shows at `instant`, and whose clock it is.
pub fn local_time(instant: UnixMillis, zone: &Zone) -> String {
    match Timestamp::from_millisecond(instant.0) {
        Ok(timestamp) => {
            format!("{} {zone}", zone.reading(timestamp).strftime("%Y-%m-%d %H:%M:%S"))
        }
        Err(_) => instant.to_string(),
    }
}

fn sentence(task: &Shown) -> String {
    let zone = zone_of(Some(&task.zone)).unwrap_or(Zone::UTC);
    let when = match (task.next, task.status) {
        (Some(next), _) => format!(", next at {}", local_time(next, &zone)),
        (None, Status::Paused) => ", paused".to_owned(),
        (None, _) => String::new(),
    };
    let recurrence = task.recurrence.as_ref().map(|text| format!(", {text}")).unwrap_or_default();
    format!("{}{when}{recurrence}: {:?}", task.id, task.prompt)
}

#[cfg(test)]
#[path = "requests_tests.rs"]
mod tests;
