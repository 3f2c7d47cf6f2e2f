//! `scripted`: plays `script.json`. Deterministic, for demonstrations and tests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use regex_lite::Regex;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use twobox_shared::content::Failure;
use twobox_shared::mend::mended;

use super::{Done, Prompt, PromptMessage, Provider, TurnHandle, cancelled};
use crate::event::{Attachment, Content, Said};

const SCRIPT: &str = "script.json";

/// As good as for ever, and still a span that can be added to an instant.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    otherwise: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(rename = "match")]
    pattern: Pattern,
    attempt: Option<i64>,
    #[serde(rename = "do")]
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Pattern(Regex);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Regex::new(&text)
            .map(Self)
            .map_err(|error| serde::de::Error::custom(format!("match: {text:?}: {error}")))
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Step {
    SleepMs(u64),
    Reply(String),
    ReplyNow(String),
    Send {
        to: String,
        text: String,
    },
    Tool {
        name: String,
        timeout_ms: Option<u64>,
        #[serde(default)]
        run_ms: u64,
    },
    Turns(u32),
    System(Value),
    File {
        name: String,
        text: String,
    },
    Fail(Failure),
    Exit(u8),
    Hang(bool),
}

impl Script {
    fn load(path: &Path) -> Result<Self, Failure> {
        let wrong = |reason: String| {
            let detail = format!("{}: {reason}", path.display());
            Failure::permanent(Failure::AGENT_BROKEN, detail)
        };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        serde_json::from_str(&mended(&text)).map_err(|error| wrong(error.to_string()))
    }

    fn steps_for(&self, text: &str, attempt: i64) -> &[Step] {
        let fits = |rule: &&Rule| {
            rule.attempt.is_none_or(|wanted| wanted == attempt) && rule.pattern.0.is_match(text)
        };
        self.rules.iter().find(fits).map_or(&self.otherwise, |rule| &rule.steps)
    }
}

/// Reads its script anew for each turn, so that an edit counts at once.
pub(crate) struct Scripted {
    path: PathBuf,
}

impl Scripted {
    pub(crate) fn new(program: &Path) -> Self {
        Self { path: program.join(SCRIPT) }
    }
}

impl Provider for Scripted {
    fn turn(&mut self, prompt: &Prompt, handle: &TurnHandle) -> Result<Done, Failure> {
        let script = Script::load(&self.path)?;
        let newest = prompt.messages.iter().rev().find(|message| message.trigger);
        let text = newest.map_or("", |message| message.text.as_str());
        let mut follow_ups = Vec::new();
        play(script.steps_for(text, prompt.attempt), text, handle, &mut follow_ups)?;
        loop {
            handle.sleep(Duration::ZERO, &mut follow_ups)?; // whatever has arrived by now
            if follow_ups.is_empty() {
                return Ok(Done { continuation: None, silent: true });
            }
            let PromptMessage { id, text, .. } = follow_ups.remove(0);
            handle.say(Said::Used(vec![id]));
            play(script.steps_for(&text, 0), &text, handle, &mut follow_ups)?;
        }
    }
}

fn play(
    steps: &[Step],
    said: &str,
    handle: &TurnHandle,
    follow_ups: &mut Vec<PromptMessage>,
) -> Result<(), Failure> {
    let fill = |text: &str| text.replace("{text}", said);
    for step in steps.iter().cloned() {
        match step {
            Step::SleepMs(ms) => handle.sleep(Duration::from_millis(ms), follow_ups)?,
            Step::Reply(text) => {
                handle.say(Said::Reply { text: fill(&text), files: Vec::new(), answers: None });
            }
            Step::ReplyNow(text) => handle.say(Said::ReplyNow(fill(&text))),
            Step::Send { to, text } => handle.say(Said::Send { to, text: fill(&text) }),
            Step::Tool { name, timeout_ms, run_ms } => {
                let timeout = timeout_ms.map(Duration::from_millis);
                handle.say(Said::ToolStarted { name, timeout });
                handle.sleep(Duration::from_millis(run_ms), follow_ups)?;
                handle.say(Said::ToolFinished);
            }
            Step::Turns(count) => handle.say(Said::Turns(count)),
            Step::System(request) => handle.say(Said::System(fill_in(request, &fill))),
            Step::File { name, text } => {
                let source = Content::Bytes(fill(&text).into_bytes());
                handle.say(Said::File(Attachment { name, source }));
            }
            Step::Fail(failure) => return Err(failure),
            Step::Exit(code) => {
                handle.say(Said::Exit(code));
                handle.sleep(FOR_EVER, follow_ups)?; // the process ends meanwhile
            }
            Step::Hang(false) => {}
            Step::Hang(true) => {
                handle.sleep(FOR_EVER, follow_ups)?;
                return Err(cancelled());
            }
        }
    }
    Ok(())
}

/// `fill` applied to every text in `value`.
fn fill_in(value: Value, fill: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(fill(&text)),
        Value::Array(items) => items.into_iter().map(|item| fill_in(item, fill)).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(key, item)| (key, fill_in(item, fill))).collect()
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of `docs/providers.md`.
    const EXAMPLE: &str = r#"{"rules": [{"match": "^slow", "attempt": 0, "do": [
        {"sleep_ms": 200}, {"reply": "you said {text}"}, {"send": {"to": "name", "text": "…"}},
        {"tool": {"name": "Bash", "timeout_ms": 90000, "run_ms": 500}}, {"turns": 3},
        {"system": {"action": "schedule_task", "…": "…"}}, {"file": {"name": "a.txt", "text": "…"}},
        {"fail": {"reason": "rate_limited", "retryable": true}}, {"exit": 137}, {"hang": true}]}],
        "otherwise": [{"reply": "echo: {text}"}]}"#;

    #[test]
    fn the_first_rule_that_fits_is_played() {
        let script: Script = serde_json::from_str(EXAMPLE).unwrap();
        assert_eq!(script.steps_for("slow now", 0).len(), 10);
        assert_eq!(script.steps_for("slow now", 1).len(), 1, "another attempt");
        assert_eq!(script.steps_for("not slow", 0).len(), 1, "another text");
    }

    #[test]
    fn mistakes_name_file_line_and_field() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SCRIPT);
        let cases = [
            ("{\n\"rules\": [{\"match\": \"(\", \"do\": []}]}", ["line 2", "match"]),
            ("{\"otherwise\": [\n\n{\"replay\": \"x\"}]}", ["line 3", "replay"]),
            ("{\"rule\": []}", ["line 1", "rule"]),
            ("{\"otherwise\": [{\"sleep_ms\": \"1\"}]}", ["line 1", "expected u64"]),
        ];
        for (text, expected) in cases {
            std::fs::write(&path, text).unwrap();
            let failure = Script::load(&path).unwrap_err();
            assert!(!failure.retryable && failure.detail.contains(SCRIPT), "{failure:?}");
            assert!(expected.iter().all(|part| failure.detail.contains(part)), "{failure:?}");
        }
    }
}
