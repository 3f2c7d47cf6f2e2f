//! A stand-in for Slack, until it is ended: see `twobox_tests::slack`.
//!
//! `slack-stand-in [--port N] [--retry-after SECONDS]...`
//!
//! It has a person, a channel and a conversation of the two alone. The first line that it prints is a JSON object
//! with their ids, the tokens, and its URL. Each `--retry-after` is a time after which what is not acknowledged is
//! handed over again; without any they are Slack's own.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use twobox_tests::slack::{APP_TOKEN, BOT, BOT_TOKEN, Rules, SlackServer};

const USAGE: &str = "usage: slack-stand-in [--port N] [--retry-after SECONDS]...";

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(never) => match never {},
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::from(2)
        }
    }
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<std::convert::Infallible, String> {
    let (mut port, mut retries) = (0, Vec::new());
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
        let wrong = |error: std::num::ParseIntError| format!("{name} {value}: {error}");
        match name.as_str() {
            "--port" => port = value.parse().map_err(wrong)?,
            "--retry-after" => retries.push(Duration::from_secs(value.parse().map_err(wrong)?)),
            _ => return Err(format!("{name} is not known\n{USAGE}")),
        }
    }
    let mut rules = Rules::default();
    if !retries.is_empty() {
        rules.retries = retries;
    }
    rules.warning = Duration::from_secs(2);
    let server =
        SlackServer::open(rules, port).map_err(|error| format!("could not listen: {error}"))?;
    let person = server.person("Ada");
    let (channel, direct) = (server.channel("general", &[&person]), server.direct(&person));
    println!(
        "{}",
        json!({
            "url": server.url(), "bot_token": BOT_TOKEN, "app_token": APP_TOKEN, "bot": BOT,
            "person": person, "channel": channel, "direct": direct,
        })
    );
    loop {
        std::thread::park();
    }
}
