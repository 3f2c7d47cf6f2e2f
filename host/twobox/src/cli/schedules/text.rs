//! Schedules for people: what will run when, why something did not, and what to do about it.

use std::time::Duration;

use twobox_shared::ids::RunId;
use twobox_shared::time::UnixMillis;

use super::super::output::{self, Output, one, printable, table};
use super::{advice, now};
use twobox_schedule::service::view::{
    BackfillView, ChatView, Detail, MetricsList, PausedView, RemovedView, ResumedView, RunPage,
    RunView, ScheduleList, ScheduleView, Shown, State, Upcoming,
};
use twobox_slots::collision::Warning;
use twobox_slots::{streak, zone};
use twobox_store::schedules::{Status, Unreadable};

/// The answer to `add` and `edit`.
pub(super) fn saved(verb: &str, detail: &Detail) -> String {
    let Detail { schedule, next, warnings } = detail;
    let ScheduleView { name, cadence, time_zone, agent, .. } = schedule;
    let mut lines = vec![format!("{verb} {name}: {} ({time_zone}), agent {agent}", cadence.text)];
    lines.extend(upcoming(next));
    lines.extend(next.is_empty().then(|| format!("next      none: {}", state(schedule))));
    lines.extend(warnings.all().iter().map(warning));
    output::lines(&lines)
}

pub(super) fn list(list: &ScheduleList) -> String {
    let rows: Vec<_> = list
        .schedules
        .iter()
        .map(|listed| {
            let schedule = &listed.schedule;
            let state = match schedule.problem {
                Some(_) => "unreadable",
                None => schedule.state.as_str(),
            };
            [
                schedule.name.clone(),
                schedule.agent.clone(),
                state.to_owned(),
                schedule.next_slot.clone().unwrap_or_else(|| "-".to_owned()),
                listed.last_run.as_ref().map_or_else(|| "-".to_owned(), outcome),
                format!("{} ({})", schedule.cadence.text, schedule.time_zone),
            ]
        })
        .collect();
    let mut lines = vec![match rows.is_empty() {
        true => "no schedules yet: `twobox schedules add` makes one".to_owned(),
        false => table(["NAME", "AGENT", "STATE", "NEXT", "LAST", "FIRES"], &rows),
    }];
    lines.extend(unreadable(&list.unreadable));
    printable(&lines.join("\n"))
}

pub(super) fn shown(shown: &Shown, is_up: bool, at: UnixMillis, output: Output) -> String {
    let Detail { schedule, next, warnings } = &shown.detail;
    // Each of its lines is one, whatever stands in it.
    let mut lines = vec![output::lines(&definition(schedule))];
    lines.extend(now::going_on(shown).iter().map(|line| one(line)));
    let mut next_lines = upcoming(next);
    if let (Some(first), Some(span)) = (next_lines.first_mut(), now::in_how_long(next, at)) {
        first.push_str(&span);
    }
    lines.extend(next_lines);
    lines.extend(warnings.all().iter().map(|it| one(&warning(it))));
    if !shown.runs.is_empty() {
        lines.push("last runs".to_owned());
        lines.push(indented(&run_table(&shown.runs)));
    }
    lines.extend(shown.runs.iter().find_map(answer));
    lines.extend(unreadable(&shown.unreadable));
    let advice = advice::about(shown, is_up);
    if !advice.is_empty() {
        lines.push("what to do".to_owned());
        lines
            .extend(advice.into_iter().map(|advice| format!("  {}", one(&output.advise(&advice)))));
    }
    printable(&lines.join("\n"))
}

fn definition(schedule: &ScheduleView) -> Vec<String> {
    let mut lines = vec![
        format!("name      {}", schedule.name),
        format!("id        {}", schedule.id),
        format!("agent     {}", schedule.agent),
        format!("state     {}", state(schedule)),
        format!("fires     {} ({})", schedule.cadence.text, schedule.time_zone),
        format!("rules     of time zones: {}", zone::rules()),
        format!("says      {}", one_line(&schedule.prompt, 100)),
        match schedule.session {
            Some(session) => format!("runs in   session {session}"),
            None => "runs in   a new session each time".to_owned(),
        },
        format!("answers   {}", answers(schedule)),
        format!(
            "missed    {}, if not later than {}",
            schedule.missed.as_str(),
            duration(schedule.missed_window_sec)
        ),
        format!("overlap   {}", schedule.overlap.as_str()),
    ];
    let limits = [
        schedule.max_turns.map(|most| format!("{most} turns a run")),
        schedule.max_run_sec.map(|most| format!("{} a run", duration(most))),
        schedule.not_before.as_ref().map(|first| format!("not before {first}")),
        schedule.not_after.as_ref().map(|last| format!("not after {last}")),
    ];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    lines.extend((!limits.is_empty()).then(|| format!("limits    {}", limits.join(", "))));
    if schedule.jitter_sec > 0 {
        lines.push(format!("jitter    up to {}", duration(schedule.jitter_sec)));
    }
    let of = schedule.max_runs.map(|most| format!(" of {most}")).unwrap_or_default();
    // Of so many, it is always "times".
    let times = if schedule.fired == 1 && of.is_empty() { "time" } else { "times" };
    lines.push(format!("fired     {}{of} {times}", schedule.fired));
    let streaks = schedule.streaks;
    let in_a_row = [
        (streaks.failures, ["failure", "failures"], streak::FAILURES),
        (
            streaks.breaches,
            ["run that used up its turns", "runs that used up their turns"],
            streak::BREACHES,
        ),
    ];
    let in_a_row = in_a_row.into_iter().filter(|(count, ..)| *count > 0);
    lines.extend(in_a_row.map(|(times, [one, many], most)| {
        format!("in a row  {} ({most} pause it)", output::count(times, one, many))
    }));
    lines
}

/// Where the answers of runs go.
fn answers(schedule: &ScheduleView) -> String {
    match (&schedule.to, schedule.session) {
        (Some(ChatView { channel, chat, thread: None }), _) => format!("go to {channel} {chat}"),
        (Some(ChatView { channel, chat, thread: Some(thread) }), _) => {
            format!("go to {channel} {chat}, thread {thread}")
        }
        (None, Some(_)) => "go into that conversation".to_owned(),
        (None, None) => "are kept with the runs".to_owned(),
    }
}

fn state(schedule: &ScheduleView) -> String {
    if let Some(problem) = &schedule.problem {
        return format!("it cannot be read, so it does not fire: {problem}");
    }
    match (schedule.state, &schedule.pause_reason) {
        (State::Enabled, _) => "enabled".to_owned(),
        (State::Paused, reason) => {
            format!("paused: {}", reason.as_deref().unwrap_or("no reason is known"))
        }
        (State::Over, _) => "over: no slot is left".to_owned(),
        (State::Removed, _) => match &schedule.removed_at {
            Some(at) => format!("removed at {at}"),
            None => "removed".to_owned(),
        },
    }
}

fn upcoming(next: &[Upcoming]) -> Vec<String> {
    next.iter()
        .zip(std::iter::once("next      ").chain(std::iter::repeat("          ")))
        .map(|(next, head)| match next.slot == next.due {
            true => format!("{head}{}", next.slot),
            false => format!("{head}{}, starts {}", next.slot, next.due),
        })
        .collect()
}

/// A length of time in days and less, as it may be typed.
fn days(seconds: u64) -> String {
    let day = 24 * 60 * 60;
    match (seconds / day, seconds % day) {
        (0, rest) => humantime::format_duration(Duration::from_secs(rest)).to_string(),
        (days, 0) => format!("{days}d"),
        (days, rest) => format!("{days}d{}", humantime::format_duration(Duration::from_secs(rest)))
            .replace(' ', ""),
    }
}

fn warning(warning: &Warning) -> String {
    let (overlapping_schedules, overlapping_minutes, estimated_concurrent_steps, first_at) =
        match warning {
            Warning::CronCollision {
                overlapping_schedules,
                overlapping_minutes,
                estimated_concurrent_steps,
                first_at,
            } => (overlapping_schedules, overlapping_minutes, estimated_concurrent_steps, first_at),
            Warning::ShortMissedWindow { period_sec, window_sec } => {
                let [period, window] = [period_sec, window_sec].map(|seconds| days(*seconds));
                return format!(
                    "warning   a slot that comes while the host is away for more than {window} is not \
                     made up for, and the next may come {period} later: --missed-window {period} would \
                     do it"
                );
            }
        };
    let minutes: Vec<String> = overlapping_minutes.iter().map(ToString::to_string).collect();
    format!(
        "warning   it fires at the same time as {} (minute {} of the hour, first at {first_at}), and \
         together they take about {estimated_concurrent_steps} turns: move one of them by more than \
         5 minutes",
        overlapping_schedules.join(", "),
        minutes.join(", ")
    )
}

pub(super) fn paused(paused: &PausedView) -> String {
    let name = &paused.schedule.name;
    let reason = paused.schedule.pause_reason.as_deref().unwrap_or_default();
    printable(&match (paused.was_paused, paused.cancelled) {
        (true, _) => format!("{name} is paused already: {reason}"),
        (false, 0) => format!("paused {name}"),
        (false, 1) => format!("paused {name}; a run that waited for its turn is cancelled"),
        (false, count) => {
            format!("paused {name}; {count} runs that waited for their turn are cancelled")
        }
    })
}

pub(super) fn resumed(resumed: &ResumedView) -> String {
    match resumed.was_enabled {
        true => format!("{} is not paused", resumed.detail.schedule.name),
        false => saved("resumed", &resumed.detail),
    }
}

pub(super) fn removed(removed: &RemovedView) -> String {
    let RemovedView { id, name, cancelled } = removed;
    let cancelled = match cancelled {
        0 => String::new(),
        1 => ", and a run that waited for its turn is cancelled".to_owned(),
        count => format!(", and {count} runs that waited for their turn are cancelled"),
    };
    format!("removed {name}{cancelled}; `twobox schedules show {id}` still shows what it did")
}

/// After a run was started by hand.
pub(super) fn started(run: &RunView) -> String {
    let session = run.session.map_or_else(|| "-".to_owned(), |session| session.to_string());
    format!("run {} goes on in session {session}", run.id)
}

pub(super) fn runs(page: &RunPage) -> String {
    let mut lines = vec![match page.runs.is_empty() {
        true => "no runs yet".to_owned(),
        false => run_table(&page.runs),
    }];
    lines.extend(older(page.next_before));
    lines.extend(unreadable(&page.unreadable));
    printable(&lines.join("\n"))
}

fn run_table(runs: &[RunView]) -> String {
    let rows: Vec<_> = runs
        .iter()
        .map(|run| {
            let slots = match (&run.slot, &run.last_slot) {
                (Some(first), Some(last)) => format!("{first} to {last}"),
                (Some(slot), None) => slot.clone(),
                (None, _) => format!("{} (by hand)", run.created_at),
            };
            // Only a run that completed has an answer, and only others have a reason.
            let answer = run.output.as_deref().map(|said| one_line(said.trim(), LINE_MAX));
            let why = [run.why, run.error.as_deref()];
            let why: Vec<String> =
                why.into_iter().flatten().map(|why| one_line(why, 120)).collect();
            let said = answer.unwrap_or_else(|| why.join(": "));
            [run.schedule.clone(), slots, outcome(run), said, run.id.to_string()]
        })
        .collect();
    table(["SCHEDULE", "SLOT", "OUTCOME", "ANSWER, OR WHY NOT", "RUN"], &rows)
}

/// How many characters of an answer a list of runs shows.
const LINE_MAX: usize = 60;

/// How many characters, and lines, of an answer are shown with its schedule.
const ANSWER_MAX: (usize, usize) = (2000, 20);

/// What a run has answered, if it has: its beginning, as lines that look like none of ours.
fn answer(run: &RunView) -> Option<String> {
    let said = run.output.as_deref()?.trim();
    let (most, most_lines) = ANSWER_MAX;
    let begun: String = said.chars().take(most).collect();
    let shown: Vec<&str> = begun.lines().take(most_lines).collect();
    let shown = shown.join("\n");
    let at = run.ended_at.as_deref().unwrap_or("-");
    let mut lines = vec![format!("last answer, of {at}"), indented(&printable(&shown))];
    let whole = run.session.filter(|_| shown.len() < said.len());
    lines.extend(whole.map(|session| {
        format!("  … and more: `twobox sessions tail {session}` shows the whole conversation")
    }));
    Some(lines.join("\n"))
}

/// How a run ended or how far it is.
fn outcome(run: &RunView) -> String {
    let status = run.status.as_str();
    match run.status {
        Status::Missed if run.slot_count > 1 => format!("{status} ({} slots)", run.slot_count),
        Status::Running if run.cancel_requested_at.is_some() => format!("{status}, to be ended"),
        _ => match run.turns {
            Some(turns) => format!("{status}, {turns} turns"),
            None => status.to_owned(),
        },
    }
}

pub(super) fn metrics(list: &MetricsList) -> String {
    let optional = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let rows: Vec<_> = list
        .metrics
        .iter()
        .map(|one| {
            [
                one.schedule.clone(),
                one.at.clone(),
                one.slot_wait_ms.to_string(),
                one.duration_ms.to_string(),
                format!("{}/{}", optional(one.turns), optional(one.max_turns)),
                one.load.host_loop_lag_ms.to_string(),
                one.load.chat_turns_in_flight.to_string(),
                one.load.runs_in_flight.to_string(),
                one.reason.map_or("-", |reason| reason.as_str()).to_owned(),
            ]
        })
        .collect();
    let heads =
        ["SCHEDULE", "ENDED", "WAIT MS", "TOOK MS", "TURNS", "LAG MS", "CHATS", "RUNS", "REASON"];
    let mut lines = vec![match rows.is_empty() {
        true => "no run has ended in that time".to_owned(),
        false => table(heads, &rows),
    }];
    lines.extend(older(list.next_before));
    lines.extend(unreadable(&list.unreadable));
    printable(&lines.join("\n"))
}

/// How to get the next page.
fn older(next_before: Option<RunId>) -> Option<String> {
    next_before.map(|before| format!("older ones: --before {before}"))
}

pub(super) fn backfilled(done: &BackfillView) -> String {
    let BackfillView { schedule, queued, kept, first, last, .. } = done;
    let (Some(first), Some(last)) = (first, last) else {
        return format!("{schedule} has no slot in that time: nothing to do");
    };
    let count = output::count_of;
    let kept = match kept {
        0 => String::new(),
        kept => format!(
            "; {} with a run, or with other missed slots in the same row",
            count(*kept, "slot is left out", "slots are left out")
        ),
    };
    format!(
        "{schedule}: {} now, for slots from {first} to {last}{kept}",
        count(queued.len(), "run waits for its turn", "runs wait for their turn")
    )
}

fn unreadable(rows: &[Unreadable]) -> Option<String> {
    let told: Vec<String> =
        rows.iter().map(|row| format!("not read: {} {}", row.id, row.error)).collect();
    (!told.is_empty()).then(|| output::lines(&told))
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
    lines.join("\n")
}

fn duration(seconds: i64) -> String {
    let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    humantime::format_duration(seconds).to_string()
}

/// The beginning of a text, in one line.
fn one_line(text: &str, most: usize) -> String {
    let line: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    match line.chars().count() > most {
        true => format!("{}…", line.chars().take(most - 1).collect::<String>()),
        false => line,
    }
}
