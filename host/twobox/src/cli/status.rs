//! `twobox status`: how the daemon is, by its own word.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::client::Client;
use super::doctor::channel_trouble;
use super::output::Failure;
use super::{Context, output};
use twobox_channels::socket::{Event, Request};

pub(super) async fn run(context: &Context) -> Result<ExitCode, Failure> {
    let (data, store) = context.look_store()?;
    let Ok(mut client) = Client::connect(&data.socket()).await else {
        let (agents, sessions) =
            (store.agents().list().wait()?.len(), store.sessions().list(None).wait()?.len());
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
    let mut reading = Reading { rest: status.clone(), lines: Vec::new() };
    reading.host();
    reading.runtime();
    reading.containers();
    reading.sessions();
    reading.channels();
    reading.ways_in();
    let Reading { rest, mut lines } = reading;
    flatten("", &rest, &mut lines);
    lines.retain(|(_, value)| value != "null");
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines: Vec<String> =
        lines.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect();
    output::lines(&lines)
}

/// What a host says of itself, while it is told.
struct Reading {
    /// What was not told yet.
    rest: Value,
    /// What was told: a name and what is to be said.
    lines: Vec<(String, String)>,
}

impl Reading {
    /// Takes the value at `pointer` (RFC 6901) out of the rest.
    fn take(&mut self, pointer: &str) -> Option<Value> {
        let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
        self.rest.pointer_mut(parent)?.as_object_mut()?.remove(key)
    }

    fn text(&mut self, pointer: &str) -> Option<String> {
        self.take(pointer)?.as_str().map(str::to_owned)
    }

    fn number(&mut self, pointer: &str) -> Option<i64> {
        self.take(pointer)?.as_i64()
    }

    fn tell(&mut self, name: &str, value: String) {
        self.lines.push((name.to_owned(), value));
    }

    fn host(&mut self) {
        if let (Some(version), Some(pid)) = (self.text("/version"), self.number("/pid")) {
            let stops = self.take("/stopping") == Some(Value::Bool(true));
            let state = if stops { "is stopping" } else { "runs" };
            self.tell("host", format!("{state}, version {version}, process {pid}"));
            self.take("/running");
        }
        if let Some(data) = self.text("/data") {
            let install = self.text("/install").map(|id| format!(" (installation {id})"));
            self.tell("data", format!("{data}{}", install.unwrap_or_default()));
        }
    }

    fn runtime(&mut self) {
        if let Some(name) = self.text("/runtime/name") {
            let state = match (self.take("/runtime/answers"), self.text("/runtime/error")) {
                (_, Some(error)) => format!("does not answer: {error}"),
                (Some(Value::Bool(false)), None) => "does not answer".to_owned(),
                (_, None) => "answers".to_owned(),
            };
            let known = self
                .number("/runtime/known")
                .map(|known| format!(", knows {}", output::count(known, "container", "containers")))
                .unwrap_or_default();
            let limits = self.text("/runtime/limits").map(|limits| format!("; {limits}"));
            self.tell("runtime", format!("{name}: {state}{known}{}", limits.unwrap_or_default()));
        }
        if let Some(state) = self.text("/probe/state") {
            let at = self.text("/probe/at").map(|at| format!(" at {at}")).unwrap_or_default();
            let (error, seen) = (self.text("/probe/error"), self.text("/probe/seen/line"));
            let why = error.or(seen).map(|why| format!(": {why}")).unwrap_or_default();
            self.tell("a start", format!("{state}{at}{why}"));
        }
    }

    fn containers(&mut self) {
        let running = self.number("/containers/running");
        let most = self.number("/containers/max_running");
        if let (Some(running), Some(most)) = (running, most) {
            let waiting = self.number("/containers/waiting").unwrap_or(0);
            let wait = output::count(waiting, "session waits", "sessions wait");
            let line = format!("{running} of at most {most} are at work, {wait} for a place");
            self.tell("containers", line);
        }
    }

    fn sessions(&mut self) {
        if let Some(total) = self.number("/sessions/counts/total") {
            let mut parts = vec![output::count(total, "session", "sessions")];
            for (pointer, what) in [
                ("/sessions/awake", "awake"),
                ("/sessions/counts/due", "with something to do"),
                ("/sessions/counts/quarantined", "out of use"),
            ] {
                parts.extend(self.number(pointer).map(|count| format!("{count} {what}")));
            }
            self.tell("sessions", parts.join(", "));
        }
        let (pending, unseen) =
            (self.number("/approvals/pending"), self.number("/approvals/unseen"));
        if let Some(pending) = pending.filter(|pending| *pending > 0) {
            let unseen = match unseen.unwrap_or_default() {
                0 => String::new(),
                unseen => format!(", {unseen} of which nobody was shown"),
            };
            let wait = output::count(pending, "decision waits", "decisions wait");
            self.tell("approvals", format!("{wait} for a person{unseen}: `twobox approvals list`"));
        }
        if let Some(sessions) = self.number("/failed_starts/sessions") {
            let last = self.text("/failed_starts/last");
            if sessions > 0 {
                let why = last.map(|last| format!(": {last}")).unwrap_or_default();
                let those = output::count(sessions, "session", "sessions");
                self.tell("starts", format!("come to nothing for {those}{why}"));
            }
        }
    }

    fn channels(&mut self) {
        let Some(Value::Object(channels)) = self.take("/channels") else { return };
        for (kind, health) in &channels {
            if let Some(trouble) = channel_trouble(kind, health) {
                self.tell("channel", trouble);
            } else if let Some(since) = health["calling_since"].as_str() {
                let calls = output::count(health["calls"].as_i64().unwrap_or(0), "call", "calls");
                self.tell(
                    "channel",
                    format!("{kind}: {calls} under way, the longest since {since}"),
                );
            }
        }
    }

    fn ways_in(&mut self) {
        let address = self.text("/api").map(|address| format!("http://{address}"));
        let ways: Vec<String> = address.into_iter().chain(self.text("/api_socket")).collect();
        if !ways.is_empty() {
            self.tell("api", ways.join(" and "));
        }
        if let Some(Value::Bool(come)) = self.take("/file_events") {
            let state = if come { "come" } else { "do not come: sessions are polled" };
            self.tell("file events", state.to_owned());
        }
    }
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
