//! `twobox usage`: what agents had models do, by agent, model, day or conversation, and a plot of it.

mod plot;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;
use twobox_gateway::price::usd;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::time::UnixMillis;

use super::Context;
use super::output::{Failure, count, table};
use twobox_slots::zone::Zone;
use twobox_store::Store;
use twobox_store::usage::{By, Day, Line, UnderWay, Used};

/// How many days are shown, this one included, if nobody says since when.
const DAYS: u32 = 7;

/// How many days a plot has at most.
const PLOTTED_MAX: u32 = 366;

/// What is wanted.
#[derive(Debug, Args)]
pub(super) struct UsageArguments {
    /// By what it is added up.
    #[arg(long, value_enum, default_value_t = Word::Agent)]
    by: Word,
    /// From this day on, such as 2026-11-30; without it the last seven days.
    #[arg(long, value_name = "DATE", value_parser = day)]
    since: Option<Day>,
    /// Draw the days as bars into this file, too.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Word {
    Agent,
    Model,
    Day,
    Session,
}

fn day(text: &str) -> Result<Day, String> {
    Day::parse(text).ok_or_else(|| "use a date such as 2026-11-30".to_owned())
}

/// The answer, for programs.
#[derive(Debug, Serialize)]
struct Answer {
    by: By,
    from: Day,
    to: Day,
    /// The zone whose days they are.
    zone: Zone,
    lines: Vec<Line>,
    total: Used,
    reserved: UnderWay,
    usd_per_day: Option<f64>,
    tokens_per_day: Option<u64>,
}

pub(super) fn run(context: &Context, arguments: UsageArguments) -> Result<ExitCode, Failure> {
    let (data, store) = context.look_store()?;
    let config = context.load_config(&data.config())?.0;
    let zone: Zone = config.schedule.timezone.parse().map_err(|error| {
        Failure::new(format!("schedule.timezone, whose days are counted: {error}"))
    })?;
    let now = SystemClock.now();
    let to = Day::before(&zone, now, 0);
    let from = arguments.since.unwrap_or_else(|| Day::before(&zone, now, DAYS - 1));
    if from > to {
        return Err(Failure::usage(format!("{from} is yet to come: today is {to}")));
    }
    let by = match arguments.by {
        Word::Agent => By::Agent,
        Word::Model => By::Model,
        Word::Day => By::Day,
        Word::Session => By::Session,
    };
    let lines = store.usage().report(by, from.clone(), to.clone()).wait()?;
    if let Some(path) = &arguments.svg {
        let days = store.usage().report(By::Day, from.clone(), to.clone()).wait()?;
        let drawn = plot::draw(&each_day(&zone, now, &from, days)?);
        std::fs::write(path, drawn).map_err(|error| {
            Failure::new(format!("could not write {}: {error}", path.display()))
        })?;
    }
    let reserved = store.usage().under_way().wait()?;
    drop::<Store>(store);
    let total = lines.iter().fold(Used::default(), |sum, line| sum.and(&line.used));
    let (usd_per_day, tokens_per_day) = (config.gateway.usd_per_day, config.gateway.tokens_per_day);
    let answer = Answer { by, from, to, zone, lines, total, reserved, usd_per_day, tokens_per_day };
    context.output.show(&answer, text);
    Ok(ExitCode::SUCCESS)
}

/// What was used on each day from `from` to today, also on those without use.
fn each_day(
    zone: &Zone,
    now: UnixMillis,
    from: &Day,
    lines: Vec<Line>,
) -> Result<Vec<(Day, Used)>, Failure> {
    let mut days: Vec<(Day, Used)> = (0..=PLOTTED_MAX)
        .map(|before| Day::before(zone, now, before))
        .take_while(|day| day >= from)
        .map(|day| {
            let line = lines.iter().find(|line| line.key == day.as_str());
            (day, line.map(|line| line.used).unwrap_or_default())
        })
        .collect();
    if days.len() > PLOTTED_MAX as usize {
        let reason = format!("a plot has at most {PLOTTED_MAX} days: say a later --since");
        return Err(Failure::usage(reason));
    }
    days.reverse();
    Ok(days)
}

fn text(answer: &Answer) -> String {
    let Answer { by, from, to, zone, lines, total, reserved, .. } = answer;
    let reserved = reserved_now(reserved);
    if lines.is_empty() {
        return format!("no model was asked from {from} to {to} ({zone}){reserved}");
    }
    let row = |name: String, used: &Used| {
        [
            name,
            used.requests.to_string(),
            used.read().to_string(),
            share(used.tokens.cache_read, used.read()),
            used.tokens.output.to_string(),
            cost(used),
            remarks(used),
        ]
    };
    let mut rows: Vec<_> = lines.iter().map(|line| row(name(*by, line), &line.used)).collect();
    if lines.len() > 1 {
        rows.push(row("all".to_owned(), total));
    }
    let first = match by {
        By::Agent => "AGENT",
        By::Model => "MODEL",
        By::Day => "DAY",
        By::Session => "SESSION",
    };
    let heads = [first, "REQUESTS", "READ", "OF CACHE", "WRITTEN", "USD", ""];
    format!("{from} to {to} ({zone}); tokens\n{}{reserved}", table(heads, &rows))
}

/// A line on the requests that are under way; nothing where there are none.
fn reserved_now(reserved: &UnderWay) -> String {
    let UnderWay { requests, tokens, nano_usd } = *reserved;
    if requests == 0 {
        return String::new();
    }
    let money = match nano_usd {
        0 => String::new(),
        nano => format!(" and {} USD", usd(nano)),
    };
    let requests = count(requests, "request", "requests");
    format!("\nreserved now: at most {tokens} tokens{money}, for {requests} under way")
}

fn name(by: By, line: &Line) -> String {
    match (by, &line.agent) {
        (By::Agent, Some(agent)) => agent.clone(),
        (By::Session, None) if line.key.is_empty() => "those of long ago".to_owned(),
        (By::Session, Some(agent)) => format!("{} ({agent})", line.key),
        (By::Agent | By::Session, None) | (By::Model | By::Day, _) => line.key.clone(),
    }
}

/// A part of a whole in percent, rounded down.
fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".to_owned(),
        whole => format!("{} %", u128::from(part) * 100 / u128::from(whole)),
    }
}

/// What is known of the cost.
fn cost(used: &Used) -> String {
    match used.requests > 0 && used.unpriced == used.requests {
        true => "unknown".to_owned(),
        false => usd(used.nano_usd),
    }
}

/// What the numbers do not say.
fn remarks(used: &Used) -> String {
    let mut words = Vec::new();
    if used.failed > 0 {
        words.push(format!("{} failed", used.failed));
    }
    if used.unpriced > 0 {
        words.push(format!("{} without a price", used.unpriced));
    }
    if used.unknown > 0 {
        let lost = count(used.unknown, "request", "requests");
        let most = match used.unknown_nano_usd {
            0 => String::new(),
            nano => format!(" and {} USD", usd(nano)),
        };
        words.push(format!(
            "the end of {lost} is not known: at most {} tokens{most} more",
            used.unknown_tokens
        ));
    }
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_store::usage::Tokens;

    fn used() -> Used {
        let tokens = Tokens { input: 10, cache_read: 90, cache_write: 0, output: 7 };
        Used { requests: 2, tokens, nano_usd: 1_234_500_001, ..Used::default() }
    }

    #[test]
    fn money_is_never_shown_as_less_than_it_was() {
        for (nano, shown) in [
            (0, "0.0000"),
            (1, "0.0001"),
            (100_000, "0.0001"),
            (1_234_500_001, "1.2346"),
            (-1, "0.0000"),
        ] {
            assert_eq!(usd(nano), shown, "{nano}");
        }
        let unpriced = Used { requests: 1, unpriced: 1, ..Used::default() };
        assert_eq!((cost(&unpriced), cost(&used())), ("unknown".to_owned(), "1.2346".to_owned()));
    }

    #[test]
    fn what_is_not_known_is_said_in_words() {
        assert_eq!(remarks(&used()), "");
        let lost = Used {
            failed: 1,
            unpriced: 2,
            unknown: 1,
            unknown_tokens: 500,
            unknown_nano_usd: 2_000_000,
            ..used()
        };
        assert_eq!(
            remarks(&lost),
            "1 failed; 2 without a price; the end of 1 request is not known: at most 500 tokens and \
             0.0020 USD more"
        );
        assert_eq!((share(90, 100), share(0, 0)), ("90 %".to_owned(), "-".to_owned()));
    }
}
