//! `twobox status`: how the daemon is, by its own word.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::client::Client;
use super::output::Failure;
use super::{Context, output};
use crate::channel::socket::{Event, Request};
use crate::db::{agents, overview};

pub(super) async fn run(context: &Context) -> Result<ExitCode, Failure> {
    let (data, db) = context.look_db()?;
    let Ok(mut client) = Client::connect(&data.socket()).await else {
        let (agents, sessions) = (agents::list(&db)?.len(), overview::sessions(&db, None)?.len());
        let answer = json!({ "running": false, "agents": agents, "sessions": sessions });
        context.output.show(&answer, |_| {
            context.output.advise(&format!(
                "no host runs on {}: start it with `twobox up`\nagents    {agents}\n\
                 sessions  {sessions}",
                data.root().display()
            ))
        });
        return Ok(ExitCode::FAILURE);
    };
    match client.answer(&Request::Status).await? {
        Event::Status { status } => {
            context.output.show(&status, readable);
            Ok(ExitCode::SUCCESS)
        }
        other => Err(Failure::new(format!("the host answered something else: {other:?}"))),
    }
}

/// One line for each value, named by its path.
fn readable(status: &Value) -> String {
    let mut lines = Vec::new();
    flatten("", status, &mut lines);
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines: Vec<String> =
        lines.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect();
    output::lines(&lines)
}

fn flatten(path: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match value {
        Value::Object(object) => {
            object.iter().for_each(|(name, value)| flatten(&below(name), value, lines));
        }
        Value::Array(array) => {
            let numbered = array.iter().enumerate();
            numbered.for_each(|(n, value)| flatten(&below(&n.to_string()), value, lines));
        }
        Value::String(text) => lines.push((path.to_owned(), text.clone())),
        other => lines.push((path.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_readable_whatever_is_in_it() {
        let status = json!({ "version": "1", "containers": { "running": 2 }, "ill": ["a"] });
        let expected = "containers.running  2\nill.0               a\nversion             1";
        assert_eq!(readable(&status), expected);
    }
}
