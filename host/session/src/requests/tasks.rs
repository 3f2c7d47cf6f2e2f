//! The requests about tasks, each decided on the session's live ones.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::{Deserialize, Deserializer};
use twobox_shared::bounds;
use twobox_shared::content::{Chat, shorten};
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{Amended, NewOccurrence, NewTask, Occurrence, Status};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use super::shown::{Shown, sentence, shown, shown_row};
use super::{Done, Effect, Live, View, WORD_MAX};
use crate::recurrence::{Recurrence, belongs, occurrence_id, zone_of};
use twobox_slots::zone::Zone;

/// How many live tasks a session has at most.
pub const TASKS_MAX: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Schedule {
    prompt: String,
    process_after: Option<String>,
    recurrence: Option<String>,
    zone: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Update {
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
pub(super) struct Named {
    pub(super) id: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Empty {}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl View<'_> {
    pub(super) fn schedule(&self, asked: Schedule) -> Result<Done, String> {
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
        check_zone(asked.zone.as_deref())?;
        let zone = zone_of(asked.zone.as_deref()).map_err(|error| error.to_string())?;
        let recurrence = asked.recurrence.map(|text| self.recurrence(&text, &zone)).transpose()?;
        let nominal = match (asked.process_after, &recurrence) {
            (Some(text), _) => self.instant(&text, &zone)?,
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

    pub(super) fn list(&self) -> Done {
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

    pub(super) fn update(&self, asked: Update) -> Result<Done, String> {
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
        check_zone(zone.as_deref())?;
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
        let other_time = match (process_after, &recurrence) {
            (Some(text), _) => Some(self.instant(&text, &zone)?),
            (None, Some(recurrence)) if retimed => {
                let after = if at_work { self.now.max(nominal) } else { self.now };
                Some(self.first_after(recurrence, self.now, after)?)
            }
            (None, Some(recurrence)) if at_work => {
                Some(self.first_after(recurrence, nominal, self.now.max(nominal))?)
            }
            (None, None) if at_work => return Err(busy(&id)),
            (None, _) => None,
        };
        let Some(nominal) = other_time else {
            let recurrence = recurrence.as_ref().map(Recurrence::text);
            let zone = Some(zone.name().to_owned());
            let now_row =
                Occurrence { recurrence: recurrence.clone(), zone: zone.clone(), ..row.clone() };
            let shown = shown_row(&now_row, changed.as_deref().unwrap_or(before));
            let text = format!("Changed: {}.", sentence(&shown));
            let amended = Amended { content: changed, recurrence, zone };
            return Ok((Effect::Amend(row.id.clone(), amended), text, vec![shown]));
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

    pub(super) fn pause(&self, id: &str) -> Result<Done, String> {
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
    pub(super) fn resume(&self, id: &str) -> Result<Done, String> {
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
            _ => {
                let now_row = Occurrence { status: Status::Pending, ..row.clone() };
                let shown = shown_row(&now_row, content);
                let text = format!("Resumed: {}.", sentence(&shown));
                return Ok((Effect::Resume(row.id.clone()), text, vec![shown]));
            }
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

    pub(super) fn cancel(&self, id: &str) -> Result<Done, String> {
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
                shorten(id, WORD_MAX)
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

    /// Reads an instant with its offset, or what the clock of `zone` shows. One that has passed is
    /// now: however long ago it was, nothing is reckoned from it.
    fn instant(&self, text: &str, zone: &Zone) -> Result<UnixMillis, String> {
        let parsed = match text.trim().parse::<Timestamp>() {
            Ok(instant) => Some(instant),
            Err(_) => {
                let reading = text.trim().parse::<DateTime>().ok();
                reading.and_then(|reading| zone.first_instant(reading))
            }
        };
        match parsed.filter(|instant| *instant >= Timestamp::UNIX_EPOCH) {
            Some(instant) => Ok(UnixMillis(instant.as_millisecond()).max(self.now)),
            None => Err(format!(
                "process_after: {:?} is no time: write 2026-11-01T09:00:00+01:00, or \
                 2026-11-01T09:00 in the task's zone",
                shorten(text, WORD_MAX)
            )),
        }
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
    format!(
        "{} is being worked on just now, and is not due again after that",
        shorten(id, WORD_MAX)
    )
}

fn check_zone(zone: Option<&str>) -> Result<(), String> {
    let length = zone.map_or(0, str::len);
    bounds::TIME_ZONE.check("`zone`", length).map_err(|error| error.to_string())
}

fn content(prompt: &str) -> Result<String, String> {
    let prompt = prompt.trim();
    match prompt.len() {
        0 => Err("`prompt` is empty: say what is to be done".to_owned()),
        length => match bounds::TASK_PROMPT.check("`prompt`", length) {
            Ok(()) => Ok(Chat::text(prompt).to_json()),
            Err(error) => Err(error.to_string()),
        },
    }
}
