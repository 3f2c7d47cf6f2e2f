//! What a person is answered who has said something to the host. Pure.

use std::time::Duration;

use twobox_shared::agent_config::Provider;
use twobox_shared::content::shorten;
use twobox_shared::time::UnixMillis;
use twobox_shared::visible;

use super::survey::Survey;
use twobox_gateway::price::usd;
use twobox_slots::zone::Zone;
use twobox_store::usage::{Limit, Used};

/// How many characters of a tool's name are shown, which is the container's word.
const TOOL_SHOWN: usize = 60;

/// What is said where a container does not obey.
pub(super) const FORCED: &str =
    "I did not end when I was told to: my container is being ended, with what I was working on.";

/// What a container is at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Now {
    /// For how long, as far as is known.
    pub(super) span: Option<Duration>,
    /// With which tool.
    pub(super) tool: Option<String>,
}

/// What was used in a day, and may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) used: Used,
    pub(super) limit: Limit,
}

/// All that a status says.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) survey: &'a Survey,
    pub(super) at: Now,
    /// Whether there is a container, or one is being started.
    pub(super) starts: bool,
    pub(super) provider: Option<&'a Provider>,
    /// `None` if it cannot be read.
    pub(super) own: Option<Budget>,
    pub(super) now: UnixMillis,
    pub(super) zone: &'a Zone,
}

/// What was stopped: `count` messages of those that `survey` has.
pub(super) fn stopped(survey: &Survey, count: usize, at: &Now) -> String {
    let what = match (count, survey.at_it.is_empty(), survey.at_a_task) {
        (0, ..) if survey.unseen => {
            "I cannot see now what I am working on; nothing that was said waits for it.".to_owned()
        }
        _ if survey.unseen => {
            "I cannot see now what I am working on: what was said first is given up and not answered. \
             /stop once more ends my container."
                .to_owned()
        }
        (0, _, true) => {
            "I am at something that is scheduled, which /stop leaves alone: whoever runs me can end it \
             with `twobox tasks` or `twobox schedules`."
                .to_owned()
        }
        (0, _, _) => "There is nothing to stop: I am working on nothing.".to_owned(),
        (1, true, _) => "Stopped before I began: your message is taken back.".to_owned(),
        (many, true, _) => format!("Stopped before I began: {many} messages are taken back."),
        (_, false, _) => {
            format!("Stopped: what I was working on{} is given up and not answered.", details(at))
        }
    };
    let left = match survey.at_it.is_empty() {
        true => survey.waits.len().saturating_sub(count),
        false => survey.waits.len(),
    };
    match left {
        0 => what,
        1 => format!("{what} 1 message waits."),
        many => format!("{what} {many} messages wait."),
    }
}

/// What is said of a stop that was carried out before, of which is known that it stopped `count` messages.
pub(super) fn stopped_before(count: usize) -> String {
    match count {
        0 => "Stopped.".to_owned(),
        1 => "Stopped: 1 message is given up and not answered.".to_owned(),
        many => format!("Stopped: {many} messages are given up and not answered."),
    }
}

/// What those are told whose `count` messages somebody else has stopped.
pub(super) fn stopped_elsewhere(count: usize) -> String {
    let what = match count {
        1 => "your message is".to_owned(),
        many => format!("{many} messages are"),
    };
    format!("Somebody has said /stop elsewhere: {what} given up and not answered.")
}

/// ` for 2m 5s (bash)`, as far as that is known.
fn details(at: &Now) -> String {
    let span = at.span.filter(|span| span.as_secs() > 0).map(|span| {
        let span = Duration::from_secs(span.as_secs());
        format!(" for {}", humantime::format_duration(span))
    });
    let tool = at.tool.as_deref().filter(|tool| !tool.trim().is_empty());
    let tool = tool.map(|tool| format!(" ({})", shorten(&visible::line(tool), TOOL_SHOWN)));
    [span, tool].into_iter().flatten().collect()
}

/// What the agent is at, what waits, what answers, and what was used.
pub(super) fn status(report: &Report<'_>) -> String {
    let Report { provider, own, .. } = report;
    let mut lines = vec![works(report)];
    if let Some(provider) = provider {
        let models: Vec<_> = provider.models().iter().map(ToString::to_string).collect();
        lines.push(match (provider, models.is_empty()) {
            (_, true) => format!("Provider: {}.", provider.kind()),
            (Provider::Model(_), false) => format!("Model: {}.", models.join(", else ")),
            (_, false) => format!("Model: {}, by {}.", models.join(", else "), provider.kind()),
        });
    }
    let asks_models = provider.is_some_and(|it| !it.models().is_empty());
    match own {
        Some(own) if asks_models || own.used.requests > 0 || own.limit != Limit::default() => {
            lines.push(format!("Used today: {}.", spent(own)));
        }
        Some(_) => {}
        None => lines.push("What was used today cannot be read now.".to_owned()),
    }
    lines.join("\n")
}

fn works(report: &Report<'_>) -> String {
    let Report { survey, at, starts, now, zone, .. } = report;
    let due = survey.waits.iter().filter(|waits| waits.until.is_none_or(|until| until <= *now));
    let due = due.count();
    let what = match (survey.at_it.is_empty(), survey.at_a_task) {
        _ if survey.unseen => "What I am working on cannot be seen now.".to_owned(),
        _ if !survey.stopping.is_empty() => {
            format!("I am being stopped{}; /stop once more ends my container.", details(at))
        }
        (false, _) => format!("I am working on what you said{}.", details(at)),
        (true, true) => format!("I am working on something that is scheduled{}.", details(at)),
        (true, false) if due > 0 && *starts => "I am about to begin.".to_owned(),
        (true, false) => "I am working on nothing.".to_owned(),
    };
    let until = survey.waits.iter().filter_map(|waits| waits.until).filter(|until| until > now);
    let until = until.min().filter(|_| due == 0);
    let until = until.map(|until| format!(" until {}", clock(zone, until))).unwrap_or_default();
    match survey.waits.len() {
        0 => what,
        many if survey.unseen => format!("{what} Not answered yet: {many}."),
        1 => format!("{what} 1 message waits{until}."),
        many => format!("{what} {many} messages wait{until}."),
    }
}

/// `00:00 (Europe/Berlin)`.
fn clock(zone: &Zone, instant: UnixMillis) -> String {
    let text = zone.rfc3339(instant);
    format!("{} ({})", text.get(11..16).unwrap_or(&text), zone.name())
}

fn spent(budget: &Budget) -> String {
    let Budget { used, limit } = budget;
    let tokens = used.read().saturating_add(used.tokens.output).saturating_add(used.unknown_tokens);
    let of = |what: Option<String>| what.map(|what| format!(" of {what}")).unwrap_or_default();
    let tokens = format!("{tokens} tokens{}", of(limit.tokens.map(|most| most.to_string())));
    let cost = used.nano_usd.saturating_add(used.unknown_nano_usd);
    let unpriced = if used.unpriced > 0 { ", and what has no price" } else { "" };
    match cost == 0 && limit.nano_usd.is_none() && used.unpriced > 0 {
        true => format!("{tokens}; what that costs is not known"),
        false => {
            format!("{tokens}, {} USD{}{unpriced}", usd(cost), of(limit.nano_usd.map(usd)))
        }
    }
}

/// Which words there are, for an agent with `provider`.
pub(super) fn help(provider: Option<&Provider>) -> String {
    let mut lines = vec![
        "/stop: I give up what I am working on, without an answer",
        "/status: what I am working on, what waits, and what was used today",
    ];
    if provider.is_some_and(|it| !it.models().is_empty()) {
        lines.push("/new: I set aside what was said and begin a new conversation");
    }
    lines.push("/help: this");
    lines.push("Everything else is for me to read.");
    lines.join("\n")
}
