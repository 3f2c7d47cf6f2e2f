//! What the command line says about a schedule, as a draft.

use std::io::Read;

use clap::{Args, ValueEnum};

use twobox_shared::time::UnixMillis;

use crate::cli::output::Failure;
use twobox_schedule::service::{Change, Draft, PROMPT_MAX, WrittenCadence, WrittenChat};
use twobox_slots::cadence::{Kind, refuse_months};

/// `twobox schedules add`.
#[derive(Debug, Args)]
pub(in crate::cli) struct AddArguments {
    /// What to call it: letters, digits, "-", "_" and ".".
    name: String,
    /// The agent that is told, by name or id.
    #[arg(long)]
    agent: String,
    /// What it is told; "-" reads it from standard input.
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    #[command(flatten)]
    flags: Flags,
}

/// `twobox schedules edit`.
#[derive(Debug, Args)]
pub(in crate::cli) struct EditArguments {
    /// Its name or id.
    pub(super) name: String,
    /// A new name.
    #[arg(long = "name", value_name = "NEW NAME")]
    new_name: Option<String>,
    /// What the agent is told; "-" reads it from standard input.
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    #[command(flatten)]
    flags: Flags,
    /// Take back what was said: it has its default again. May be given several times.
    #[arg(long, value_name = "WHAT")]
    clear: Vec<Clear>,
}

/// What may be said in both. Numbers are checked by the schedule service, so that all mistakes read alike.
#[derive(Debug, Args)]
struct Flags {
    #[command(flatten)]
    cadence: CadenceFlags,
    /// The zone in which times are read, like Europe/Berlin. Default: the setting schedule.timezone.
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Run in this session, given by its id or the beginning or end of it.
    #[arg(long, value_name = "ID", conflicts_with = "new_session")]
    session: Option<String>,
    /// Give each run a session of its own: the default.
    #[arg(long)]
    new_session: bool,
    /// Deliver the answers to this chat, named as the agent calls it or by its id; `twobox wire list`
    /// shows both. Without it, and without --session, they are only kept.
    #[arg(long, value_name = "CHAT", allow_hyphen_values = true)]
    to: Option<String>,
    /// The thread in that chat; without it the chat itself.
    #[arg(long, value_name = "THREAD", requires = "to", allow_hyphen_values = true)]
    to_thread: Option<String>,
    /// How many turns a run may take.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_turns: Option<i64>,
    /// How long a run may go on, like 15m, or a number of seconds. Default: the setting
    /// schedule.max_run.
    #[arg(long, value_name = "DUR", value_parser = span, allow_negative_numbers = true)]
    max_run: Option<i64>,
    /// Which slots are run that came while the host was away: skip, latest or all. Default: latest.
    #[arg(long, value_name = "POLICY")]
    missed: Option<String>,
    /// How late such a slot may be, like 6h. Default: 24h.
    #[arg(long, value_name = "DUR", value_parser = seconds)]
    missed_window: Option<i64>,
    /// What a slot does while an earlier run has not ended: skip, queue, replace or allow. Default:
    /// skip.
    #[arg(long, value_name = "POLICY")]
    overlap: Option<String>,
    /// Start up to this much later than the slot, like 5m; the same for a slot whoever asks.
    #[arg(long, value_name = "DUR", value_parser = seconds)]
    jitter: Option<i64>,
    /// No slot before this, as --at takes it.
    #[arg(long, value_name = "T")]
    not_before: Option<String>,
    /// No slot after this, as --at takes it.
    #[arg(long, value_name = "T")]
    not_after: Option<String>,
    /// After so many firings it is over.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_runs: Option<i64>,
}

/// How often it fires: one of these.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct CadenceFlags {
    /// Five fields: minute, hour, day of month, month, day of week.
    #[arg(long, value_name = "EXPR")]
    cron: Option<String>,
    /// On each day at this time.
    #[arg(long, value_name = "HH:MM")]
    daily: Option<String>,
    /// On each day from Monday to Friday at this time.
    #[arg(long, value_name = "HH:MM")]
    weekdays: Option<String>,
    /// On one day of each week, like sunday@23:30.
    #[arg(long, value_name = "DAY@HH:MM")]
    weekly: Option<String>,
    /// In each hour at this minute.
    #[arg(long, value_name = "MM")]
    hourly: Option<String>,
    /// After each interval, like 90m, counted from now.
    #[arg(long, value_name = "DUR")]
    every: Option<String>,
    /// Once: like "2026-12-01 09:00" in the schedule's zone, or 2026-12-01T09:00:00+01:00.
    #[arg(long, value_name = "T")]
    at: Option<String>,
    /// Once, after this time from now, like 20m.
    #[arg(long = "in", value_name = "DUR", value_parser = seconds)]
    after: Option<i64>,
}

/// What `edit` can take back, by the name of its flag.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Clear {
    Timezone,
    Session,
    To,
    MaxTurns,
    MaxRun,
    Missed,
    MissedWindow,
    Overlap,
    Jitter,
    NotBefore,
    NotAfter,
    MaxRuns,
}

/// A duration in whole seconds.
fn seconds(text: &str) -> Result<i64, String> {
    refuse_months(text)?;
    match humantime::parse_duration(text) {
        Ok(span) if span.subsec_nanos() == 0 => {
            i64::try_from(span.as_secs()).map_err(|_| "is too long".to_owned())
        }
        Ok(_) => Err("use whole seconds".to_owned()),
        Err(_) => Err("write it like 90s, 5m or 2h 30m".to_owned()),
    }
}

/// A duration, or a number of seconds; whether that is allowed is said with the other mistakes.
fn span(text: &str) -> Result<i64, String> {
    text.parse().or_else(|_| seconds(text))
}

impl AddArguments {
    pub(super) fn draft(&self, now: UnixMillis) -> Result<Draft, Failure> {
        Ok(Draft {
            name: Some(self.name.clone()),
            agent: Some(self.agent.clone()),
            prompt: Some(prompt(&self.prompt)?),
            ..self.flags.draft(now)
        })
    }
}

impl EditArguments {
    pub(super) fn draft(&self, now: UnixMillis) -> Result<Draft, Failure> {
        let mut draft = Draft {
            name: self.new_name.clone(),
            prompt: self.prompt.as_deref().map(prompt).transpose()?,
            ..self.flags.draft(now)
        };
        for clear in &self.clear {
            let is_free = match clear {
                Clear::Timezone => reset(&mut draft.time_zone),
                // --new-session says the same.
                Clear::Session => draft.session == Change::Reset || reset(&mut draft.session),
                Clear::To => reset(&mut draft.to),
                Clear::MaxTurns => reset(&mut draft.max_turns),
                Clear::MaxRun => reset(&mut draft.max_run_sec),
                Clear::Missed => reset(&mut draft.missed),
                Clear::MissedWindow => reset(&mut draft.missed_window_sec),
                Clear::Overlap => reset(&mut draft.overlap),
                Clear::Jitter => reset(&mut draft.jitter_sec),
                Clear::NotBefore => reset(&mut draft.not_before),
                Clear::NotAfter => reset(&mut draft.not_after),
                Clear::MaxRuns => reset(&mut draft.max_runs),
            };
            if !is_free {
                let word = clear.to_possible_value();
                let word = word.as_ref().map_or("it", |word| word.get_name());
                return Err(Failure::usage(format!(
                    "--clear {word}: --{word} is given too: use one of them"
                )));
            }
        }
        if draft == Draft::default() {
            return Err(Failure::usage(
                "say what to change, such as --prompt TEXT or --daily HH:MM: `twobox schedules edit \
                 --help` shows what there is",
            ));
        }
        Ok(draft)
    }
}

/// Resets what was not set. Returns whether it could.
fn reset<T>(change: &mut Change<T>) -> bool {
    let is_free = !matches!(change, Change::Set(_));
    if is_free {
        *change = Change::Reset;
    }
    is_free
}

impl Flags {
    fn draft(&self, now: UnixMillis) -> Draft {
        let session = match (&self.session, self.new_session) {
            (Some(id), _) => Change::Set(id.clone()),
            (None, true) => Change::Reset,
            (None, false) => Change::Keep,
        };
        Draft {
            cadence: self.cadence.written(now),
            time_zone: self.timezone.clone().into(),
            session,
            to: self.chat().into(),
            max_turns: self.max_turns.into(),
            max_run_sec: self.max_run.into(),
            missed: self.missed.clone().into(),
            missed_window_sec: self.missed_window.into(),
            overlap: self.overlap.clone().into(),
            jitter_sec: self.jitter.into(),
            not_before: self.not_before.clone().into(),
            not_after: self.not_after.clone().into(),
            max_runs: self.max_runs.into(),
            ..Draft::default()
        }
    }

    fn chat(&self) -> Option<WrittenChat> {
        let chat = self.to.clone()?;
        Some(WrittenChat { chat, channel: None, thread: self.to_thread.clone() })
    }
}

impl CadenceFlags {
    fn written(&self, now: UnixMillis) -> Option<WrittenCadence> {
        let Self { cron, daily, weekdays, weekly, hourly, every, at, after } = self;
        let after =
            after.map(|seconds| UnixMillis(now.0.saturating_add(seconds * 1000)).to_string());
        let said = [
            (Kind::Cron, cron),
            (Kind::Daily, daily),
            (Kind::Weekdays, weekdays),
            (Kind::Weekly, weekly),
            (Kind::Hourly, hourly),
            (Kind::Every, every),
            (Kind::Once, at),
            (Kind::Once, &after),
        ];
        said.into_iter().find_map(|(kind, value)| {
            let value = value.clone()?;
            Some(WrittenCadence { kind: kind.word().to_owned(), value })
        })
    }
}

/// What was said, or for "-" what standard input says. More than `most` bytes are not read to their
/// end. `what` is its name, for people.
pub(super) fn text(said: &str, what: &str, most: usize) -> Result<String, Failure> {
    if said != "-" {
        return Ok(said.to_owned());
    }
    let mut text = String::new();
    let most = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    std::io::stdin().take(most).read_to_string(&mut text).map_err(|error| {
        Failure::new(format!("could not read the {what} from standard input: {error}"))
    })?;
    Ok(text)
}

fn prompt(said: &str) -> Result<String, Failure> {
    text(said, "prompt", PROMPT_MAX)
}

/// How the command line calls a field of the schedule service.
pub(super) fn flag(field: &'static str, draft: Option<&Draft>) -> String {
    match field {
        // Only `add` says an agent, and takes the name without a flag.
        "name" if draft.is_some_and(|draft| draft.agent.is_some()) => "NAME".to_owned(),
        "time_zone" => "--timezone".to_owned(),
        "max_run_sec" => "--max-run".to_owned(),
        "missed_window_sec" => "--missed-window".to_owned(),
        "jitter_sec" => "--jitter".to_owned(),
        "cadence" => match draft.and_then(|draft| draft.cadence.as_ref()) {
            Some(said) if said.kind == Kind::Once.word() => "--at".to_owned(),
            Some(said) => format!("--{}", said.kind),
            None => {
                "--cron, --daily, --weekdays, --weekly, --hourly, --every, --at or --in".to_owned()
            }
        },
        other => format!("--{}", other.replace('_', "-")),
    }
}
