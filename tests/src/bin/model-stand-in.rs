//! A stand-in for the servers of model vendors, until it is ended: see `twobox_tests::models`.
//!
//! `model-stand-in [--port N] [--socket PATH] [--key KEY] [--model NAME]... [--context TOKENS] [--script FILE]`
//!
//! The first line that it prints is its URL.

use std::fs;
use std::process::ExitCode;

use twobox_tests::models::{ModelServer, Options, Script};

const USAGE: &str = "usage: model-stand-in [--port N] [--socket PATH] [--key KEY] [--model NAME]... \
                     [--context TOKENS] [--script FILE]";

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(never) => match never {},
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: impl Iterator<Item = String>) -> Result<std::convert::Infallible, String> {
    let (options, script) = read(arguments)?;
    let server =
        ModelServer::open(options).map_err(|error| format!("could not listen: {error}"))?;
    server.script(script);
    println!("{}", server.url());
    loop {
        std::thread::park();
    }
}

fn read(mut arguments: impl Iterator<Item = String>) -> Result<(Options, Script), String> {
    let (mut options, mut script) = (Options::default(), Script::default());
    while let Some(name) = arguments.next() {
        if !["--port", "--socket", "--key", "--model", "--context", "--script"]
            .contains(&name.as_str())
        {
            return Err(format!("{name} is not known\n{USAGE}"));
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
        let wrong = |error: &dyn std::fmt::Display| format!("{name} {value}: {error}");
        match name.as_str() {
            "--port" => options.port = value.parse().map_err(|error| wrong(&error))?,
            "--socket" => options.socket = Some(value.into()),
            "--key" => options.key = Some(value),
            "--model" => options.models.push(value),
            "--context" => {
                options.context_tokens = Some(value.parse().map_err(|error| wrong(&error))?);
            }
            _ => {
                let text = fs::read_to_string(&value).map_err(|error| wrong(&error))?;
                script.extend(serde_json::from_str(&text).map_err(|error| wrong(&error))?);
            }
        }
    }
    Ok((options, script))
}
