//! From what a person said to a definition that can be stored: the checks of each field, then those of what
//! is said `together`. Where a run belongs and answers is in `answer`.

mod answer;
mod together;

use std::time::Duration;

use twobox_shared::bounds;
use twobox_shared::ids::AgentGroupId;
use twobox_shared::inbox::Origin;
use twobox_shared::time::UnixMillis;

use self::answer::{destination, session};
use self::together::together;
use super::times::{Times, cadence, short, zone};
use super::{Change, Draft, Mistake, ServiceError};
use twobox_slots::cadence::{Cadence, Kind, parse_instant, parse_reading, refuse_months};
use twobox_slots::{missed, overlap};
use twobox_store::Store;
use twobox_store::schedules::Definition;

/// The longest prompt, in bytes.
pub const PROMPT_MAX: usize = bounds::PROMPT.most;

/// The longest name, in characters.
const NAME_MAX: usize = bounds::SCHEDULE_NAME.most;

const DAY: i64 = 24 * 60 * 60;
const TURNS: (i64, i64) = (1, 1_000_000);
const RUN_SEC: (i64, i64) = (1, 7 * DAY);
const WINDOW_SEC: (i64, i64) = (0, 366 * DAY);
const JITTER_SEC: (i64, i64) = (0, DAY);
const RUNS: (i64, i64) = (1, 1_000_000_000);

/// What a definition says where a person says nothing. Name, prompt and cadence are still to come.
fn blank(now: UnixMillis) -> Definition {
    Definition {
        name: String::new(),
        prompt: String::new(),
        cadence_kind: String::new(),
        cadence_value: String::new(),
        time_zone: "UTC".to_owned(),
        anchor: now,
        session: None,
        to: Origin::default(),
        max_turns: None,
        max_run_ms: None,
        missed: missed::Policy::default(),
        missed_window_ms: DAY * 1000,
        overlap: overlap::Policy::default(),
        jitter_ms: 0,
        not_before: None,
        not_after: None,
        max_runs: None,
    }
}

/// A definition that passed all checks.
pub(super) struct Checked {
    pub(super) definition: Definition,
    pub(super) times: Times,
    /// Whether the slots may be others than before.
    pub(super) has_new_slots: bool,
}

/// Checks what is said about a new schedule of `agent`.
pub(super) fn new(
    store: &Store,
    agent: AgentGroupId,
    draft: &Draft,
    min_interval: Duration,
    now: UnixMillis,
) -> Result<Checked, ServiceError> {
    let needed = [
        ("name", draft.name.is_some(), "say what to call the schedule"),
        ("prompt", draft.prompt.is_some(), "say what the agent is told"),
        ("cadence", draft.cadence.is_some(), "say how often the schedule fires"),
    ];
    if let Some((field, _, problem)) = needed.into_iter().find(|(_, is_there, _)| !is_there) {
        return Err(Mistake::missing(field, problem).into());
    }
    let definition = applied(store, agent, draft, blank(now), now)?;
    Ok(together(draft, definition, true, 0, min_interval, now)?)
}

/// Checks what is said about a schedule of `agent` that was `old` and has fired `fired` times.
pub(super) fn edited(
    store: &Store,
    agent: AgentGroupId,
    draft: &Draft,
    (old, fired): (&Definition, i64),
    min_interval: Duration,
    now: UnixMillis,
) -> Result<Checked, ServiceError> {
    if *draft == Draft::default() {
        return Err(ServiceError::NothingSaid);
    }
    let definition = applied(store, agent, draft, old.clone(), now)?;
    let slots = |of: &Definition| {
        let cadence = (of.cadence_kind.clone(), of.cadence_value.clone(), of.anchor);
        (cadence, of.time_zone.clone(), of.not_before, of.not_after)
    };
    let has_new_slots = slots(&definition) != slots(old);
    Ok(together(draft, definition, has_new_slots, fired, min_interval, now)?)
}

/// `base` with what `draft` says, each field checked by itself. Long because there are many fields, and
/// one function because their order counts: a time is read in the zone that was said.
fn applied(
    store: &Store,
    agent: AgentGroupId,
    draft: &Draft,
    base: Definition,
    now: UnixMillis,
) -> Result<Definition, ServiceError> {
    let blank = blank(now);
    let mut new = base;
    if let Some(name) = &draft.name {
        check_name(name)?;
        new.name.clone_from(name);
    }
    if let Some(prompt) = &draft.prompt {
        check_prompt(prompt)?;
        new.prompt.clone_from(prompt);
    }
    new.time_zone = match &draft.time_zone {
        Change::Keep => new.time_zone,
        Change::Reset => blank.time_zone,
        Change::Set(name) => zone(name.trim())?.name().to_owned(),
    };
    if let Some(written) = &draft.cadence {
        let cadence = match Kind::from_word(&written.kind) {
            Some(Kind::Once) => {
                Cadence::Once { at: instant_of("cadence", &written.value, &new.time_zone)? }
            }
            Some(Kind::Every) => {
                refuse_months(&written.value).map_err(|problem| {
                    let given: String = written.value.chars().take(64).collect();
                    Mistake::new("cadence", &written.value, format!("{given:?} {problem}"))
                })?;
                cadence(&written.kind, &written.value)?
            }
            _ => cadence(&written.kind, &written.value)?,
        };
        let (kind, value) = (cadence.kind().word().to_owned(), cadence.value());
        // The same said again leaves the slots of an interval where they are.
        if (&kind, &value) != (&new.cadence_kind, &new.cadence_value) {
            (new.cadence_kind, new.cadence_value, new.anchor) = (kind, value, now);
        }
    }
    new.session = match &draft.session {
        Change::Keep => new.session,
        Change::Reset => None,
        Change::Set(part) => Some(session(store, agent, part)?),
    };
    new.to = match &draft.to {
        Change::Keep => new.to,
        Change::Reset => Origin::default(),
        Change::Set(chat) => destination(store, agent, chat)?,
    };
    let Draft { max_turns, max_run_sec, missed_window_sec, jitter_sec, max_runs, .. } = draft;
    new.max_turns = number("max_turns", max_turns, new.max_turns, TURNS, 1)?;
    new.max_run_ms = number("max_run_sec", max_run_sec, new.max_run_ms, RUN_SEC, 1000)?;
    new.missed_window_ms = number(
        "missed_window_sec",
        missed_window_sec,
        Some(new.missed_window_ms),
        WINDOW_SEC,
        1000,
    )?
    .unwrap_or(blank.missed_window_ms);
    new.jitter_ms = number("jitter_sec", jitter_sec, Some(new.jitter_ms), JITTER_SEC, 1000)?
        .unwrap_or(blank.jitter_ms);
    new.max_runs = number("max_runs", max_runs, new.max_runs, RUNS, 1)?;
    new.missed = match &draft.missed {
        Change::Keep => new.missed,
        Change::Reset => blank.missed,
        Change::Set(word) => missed::Policy::parse(word).ok_or_else(|| {
            unknown_word("missed", word, missed::Policy::ALL.iter().map(|known| known.as_str()))
        })?,
    };
    new.overlap = match &draft.overlap {
        Change::Keep => new.overlap,
        Change::Reset => blank.overlap,
        Change::Set(word) => overlap::Policy::parse(word).ok_or_else(|| {
            unknown_word("overlap", word, overlap::Policy::ALL.iter().map(|known| known.as_str()))
        })?,
    };
    new.not_before = instant("not_before", &draft.not_before, new.not_before, &new.time_zone)?;
    new.not_after = instant("not_after", &draft.not_after, new.not_after, &new.time_zone)?;
    Ok(new)
}

/// Checks a schedule's name.
///
/// # Errors
/// A [`Mistake`] in `name`.
pub fn check_name(name: &str) -> Result<(), Mistake> {
    let bad = |reason: &str| {
        let given: String = name.chars().take(NAME_MAX).collect();
        let problem = format!(
            "{given:?} {reason}: use 1 to {NAME_MAX} letters, digits, \"-\", \"_\" or \".\", \
             beginning with a letter or digit"
        );
        Err(Mistake::new("name", name, problem))
    };
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match name.chars().next() {
        None => bad("is empty"),
        Some(_) if name.len() > NAME_MAX => {
            bad(&format!("is too long: it has {} bytes", name.len()))
        }
        Some(_) if !name.chars().all(is_fit) => bad("contains other characters"),
        Some(first) if !first.is_ascii_alphanumeric() => bad("begins with something else"),
        // Where a name is asked for, an id may be given too.
        Some(_) if uuid::Uuid::try_parse(name).is_ok() => bad("looks like an id"),
        Some(_) => Ok(()),
    }
}

fn check_prompt(prompt: &str) -> Result<(), Mistake> {
    if prompt.trim().is_empty() {
        return Err(Mistake::new("prompt", prompt, "is empty: say what the agent is to do"));
    }
    if prompt.len() > PROMPT_MAX {
        let problem = format!(
            "is {} bytes long, and at most {PROMPT_MAX} are allowed: put the rest into a file with \
             `twobox agents put`",
            prompt.len()
        );
        return Err(Mistake::new("prompt", prompt, problem));
    }
    if prompt.contains('\0') {
        return Err(Mistake::new("prompt", "", "contains a NUL character: it has to be text"));
    }
    Ok(())
}

/// A number in its unit, stored as `factor` of smaller ones.
fn number(
    field: &'static str,
    said: &Change<i64>,
    old: Option<i64>,
    (least, most): (i64, i64),
    factor: i64,
) -> Result<Option<i64>, Mistake> {
    match said {
        Change::Keep => Ok(old),
        Change::Reset => Ok(None),
        Change::Set(number) if (least..=most).contains(number) => Ok(Some(number * factor)),
        Change::Set(number) => {
            let problem = format!("{number} is not allowed: use {least} to {most}");
            Err(Mistake::new(field, number, problem))
        }
    }
}

fn instant(
    field: &'static str,
    said: &Change<String>,
    old: Option<UnixMillis>,
    time_zone: &str,
) -> Result<Option<UnixMillis>, Mistake> {
    match said {
        Change::Keep => Ok(old),
        Change::Reset => Ok(None),
        Change::Set(text) => instant_of(field, text, time_zone).map(Some),
    }
}

/// Reads an instant of the past for the parameter `field`: as a draft names one, or as a duration, so long
/// before `now`.
///
/// # Errors
/// What is wrong with it.
pub fn past_instant(
    field: &'static str,
    text: &str,
    time_zone: &str,
    now: UnixMillis,
) -> Result<UnixMillis, Mistake> {
    match humantime::parse_duration(text.trim()) {
        Ok(ago) => {
            refuse_months(text).map_err(|problem| Mistake::new(field, text, problem))?;
            let early = || Mistake::new(field, text, "is before 1970");
            let before = i64::try_from(ago.as_millis()).ok().and_then(|ago| now.0.checked_sub(ago));
            before.filter(|millis| *millis >= 0).map(UnixMillis).ok_or_else(early)
        }
        Err(_) => instant_of(field, text, time_zone).map_err(|mistake| Mistake {
            problem: format!("{}; or so long ago, like 12h", mistake.problem),
            ..mistake
        }),
    }
}

/// Reads an instant, or what a clock in `time_zone` shows then: the first time, if it shows it twice, and
/// right after a gap that leaves it out.
fn instant_of(field: &'static str, text: &str, time_zone: &str) -> Result<UnixMillis, Mistake> {
    short(field, text, bounds::CADENCE)?;
    let read = parse_instant(text.trim());
    let Err(error) = read else {
        return read.map_err(|error| Mistake::new(field, text, error.to_string()));
    };
    let zone = zone(time_zone)?;
    let instant = parse_reading(text.trim()).and_then(|reading| zone.first_instant(reading));
    match instant.map(|instant| instant.as_millisecond()) {
        Some(millis @ 0..) => Ok(UnixMillis(millis)),
        _ => {
            let problem =
                format!("{error}, or without an offset as a clock in {time_zone} shows it");
            Err(Mistake::new(field, text, problem))
        }
    }
}

fn unknown_word<'a>(
    field: &'static str,
    given: &str,
    known: impl Iterator<Item = &'a str>,
) -> Mistake {
    let known: Vec<&str> = known.collect();
    let shown: String = given.chars().take(64).collect();
    let problem = format!("{shown:?} is unknown: use one of {}", known.join(", "));
    Mistake::new(field, given, problem)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
