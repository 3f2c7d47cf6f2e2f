//! `twobox status`: how the daemon is, by its own word.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::client::Client;
use super::doctor::channel_trouble;
use super::output::Failure;
use super::{Context, output};
use twobox_channels::socket::{Event, Request};
use twobox_store::{agents, overview};

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

/// What people want to know first, a line each. What a host says beyond that, or in another way, follows
/// value by value, named by its path: one that is newer than this command hides nothing.
fn readable(status: &Value) -> String {
    let mut rest = status.clone();
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut take = |pointer: &str| {
        let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
        rest.pointer_mut(parent)?.as_object_mut()?.remove(key)
    };
    let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned));
    let number = |value: Option<Value>| value.and_then(|value| value.as_i64());
    let mut tell = |name: &str, value: String| lines.push((name.to_owned(), value));
    if let (Some(version), Some(pid)) = (text(take("/version")), number(take("/pid"))) {
        let stops = take("/stopping") == Some(Value::Bool(true));
        let state = if stops { "is stopping" } else { "runs" };
        tell("host", format!("{state}, version {version}, process {pid}"));
        take("/running");
    }
    if let Some(data) = text(take("/data")) {
        let install = text(take("/install")).map(|id| format!(" (installation {id})"));
        tell("data", format!("{data}{}", install.unwrap_or_default()));
    }
    if let Some(name) = text(take("/runtime/name")) {
        let state = match (take("/runtime/answers"), text(take("/runtime/error"))) {
            (_, Some(error)) => format!("does not answer: {error}"),
            (Some(Value::Bool(false)), None) => "does not answer".to_owned(),
            (_, None) => "answers".to_owned(),
        };
        let known = number(take("/runtime/known"))
            .map(|known| format!(", knows {}", output::count(known, "container", "containers")));
        let limits = text(take("/runtime/limits")).map(|limits| format!("; {limits}"));
        tell(
            "runtime",
            format!("{name}: {state}{}{}", known.unwrap_or_default(), limits.unwrap_or_default()),
        );
    }
    if let Some(state) = text(take("/probe/state")) {
        let at = text(take("/probe/at")).map(|at| format!(" at {at}")).unwrap_or_default();
        let why = text(take("/probe/error")).or(text(take("/probe/seen/line")));
        tell(
            "a start",
            format!("{state}{at}{}", why.map(|it| format!(": {it}")).unwrap_or_default()),
        );
    }
    if let (Some(running), Some(most)) =
        (number(take("/containers/running")), number(take("/containers/max_running")))
    {
        let waiting = number(take("/containers/waiting")).unwrap_or(0);
        let wait = output::count(waiting, "session waits", "sessions wait");
        tell("containers", format!("{running} of at most {most} are at work, {wait} for a place"));
    }
    if let Some(total) = number(take("/sessions/counts/total")) {
        let mut parts = vec![output::count(total, "session", "sessions")];
        for (pointer, what) in [
            ("/sessions/awake", "awake"),
            ("/sessions/counts/due", "with something to do"),
            ("/sessions/counts/quarantined", "out of use"),
        ] {
            parts.extend(number(take(pointer)).map(|count| format!("{count} {what}")));
        }
        tell("sessions", parts.join(", "));
    }
    if let Some(sessions) = number(take("/failed_starts/sessions")) {
        let last = text(take("/failed_starts/last"));
        if sessions > 0 {
            let why = last.map(|last| format!(": {last}")).unwrap_or_default();
            let those = output::count(sessions, "session", "sessions");
            tell("starts", format!("come to nothing for {those}{why}"));
        }
    }
    if let Some(Value::Object(channels)) = take("/channels") {
        for (kind, health) in &channels {
            if let Some(trouble) = channel_trouble(kind, health) {
                tell("channel", trouble);
            } else if let Some(since) = health["calling_since"].as_str() {
                let calls = output::count(health["calls"].as_i64().unwrap_or(0), "call", "calls");
                tell("channel", format!("{kind}: {calls} under way, the longest since {since}"));
            }
        }
    }
    let (address, socket) = (text(take("/api")), text(take("/api_socket")));
    if address.is_some() || socket.is_some() {
        let ways: Vec<String> =
            address.map(|at| format!("http://{at}")).into_iter().chain(socket).collect();
        tell("api", ways.join(" and "));
    }
    if let Some(Value::Bool(come)) = take("/file_events") {
        let state = if come { "come" } else { "do not come: sessions are polled" };
        tell("file events", state.to_owned());
    }
    flatten("", &rest, &mut lines);
    lines.retain(|(_, value)| value != "null");
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
    fn a_status_is_readable_and_nothing_of_it_is_hidden() {
        let status = json!({
            "running": true, "version": "1", "pid": 7, "stopping": false, "data": "/d", "install": "i",
            "runtime": { "name": "docker", "answers": true, "known": 1, "limits": null },
            "probe": { "state": "ok", "at": "T", "seen": { "line": "fine", "differences": [] } },
            "containers": { "running": 2, "waiting": 1, "max_running": 16 },
            "sessions": { "awake": 3, "counts": { "total": 12, "due": 1, "quarantined": 0 } },
            "failed_starts": { "sessions": 0, "last": null }, "api": "127.0.0.1:1",
            "api_socket": "/d/api.sock", "file_events": true, "new": { "thing": [4] },
        });
        let expected = "\
host         runs, version 1, process 7
data         /d (installation i)
runtime      docker: answers, knows 1 container
a start      ok at T: fine
containers   2 of at most 16 are at work, 1 session waits for a place
sessions     12 sessions, 3 awake, 1 with something to do, 0 out of use
api          http://127.0.0.1:1 and /d/api.sock
file events  come
new.thing.0  4";
        assert_eq!(readable(&status), expected);
        let odd = json!({ "version": "1", "containers": { "running": 2 }, "ill": ["a"] });
        assert!(readable(&odd).contains("ill.0"), "{}", readable(&odd));
        let ill = json!({ "failed_starts": { "sessions": 1, "last": "no image" } });
        assert_eq!(readable(&ill), "starts  come to nothing for 1 session: no image");
    }
}
