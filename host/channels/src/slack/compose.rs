//! A message as what Slack is asked to show. Pure.

use serde_json::{Value, json};
use twobox_model::approval::Prompt;
use twobox_shared::content::{digest16, shorten};
use twobox_shared::visible;

use super::events::Click;
use crate::format::mrkdwn::{escape, mrkdwn};
use crate::format::split::parts;

/// How long the text of a message is at most, as Slack shows it whole: it wants 4,000 characters.
const TEXT_MAX: usize = 3_900;

/// The same for a text that stands over buttons, which may have 3,000.
const BLOCK_MAX: usize = 2_900;

/// The most bytes of Markdown that become one.
const MARKDOWN_MAX: usize = 4 * TEXT_MAX;

/// How many buttons are shown, and how long the text of each is.
const BUTTONS_MAX: usize = 25;
const LABEL_MAX: usize = 70;

/// What a message of ours has beside its text, by which it is found again. Slack has a word for the kind.
const EVENT: &str = "twobox_part";

/// What one part of a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// As mrkdwn.
    pub(super) text: String,
    /// What it asks, with buttons.
    pub(super) prompt: Option<Prompt>,
}

/// The parts of `text`, each as long as Slack shows it whole. The last one has the buttons of `prompt`.
pub(super) fn said(text: &str, prompt: Option<&Prompt>) -> Vec<Said> {
    let prompt = prompt.filter(|it| (1..=BUTTONS_MAX).contains(&it.choices.len()));
    let most = if prompt.is_some() { BLOCK_MAX } else { TEXT_MAX };
    let fits = |part: &str| mrkdwn(part).encode_utf16().count() <= most;
    let texts = parts(text, MARKDOWN_MAX, &fits);
    let mut all: Vec<Said> =
        texts.iter().map(|text| Said { text: mrkdwn(text), prompt: None }).collect();
    if let Some(last) = all.last_mut() {
        last.prompt = prompt.cloned();
    }
    all
}

/// What Slack is asked to show in `chat`, as the part with this mark.
pub(super) fn message(chat: &str, thread: Option<&str>, said: &Said, mark: &str) -> Value {
    let mut message = json!({
        "channel": chat,
        "text": said.text,
        "mrkdwn": true,
        // Slack would fetch what an agent names: nobody is to learn of anything by that.
        "unfurl_links": false,
        "unfurl_media": false,
        "metadata": { "event_type": EVENT, "event_payload": { "part": mark } },
    });
    if let Some(thread) = thread {
        message["thread_ts"] = json!(thread);
    }
    if let Some(prompt) = &said.prompt {
        message["blocks"] = json!([section(&said.text), buttons(prompt)]);
    }
    message
}

/// By which a part of the message with this key is found again.
pub(super) fn mark(key: &str, part: &str) -> String {
    digest16(&format!("{key}\0{part}"))
}

/// The mark in what Slack has of a message beside its text.
pub(super) fn mark_of(metadata: &str) -> Option<String> {
    let metadata: Value = serde_json::from_str(metadata).ok()?;
    let mark = metadata["event_payload"]["part"].as_str()?;
    (metadata["event_type"] == EVENT).then(|| mark.to_owned())
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } })
}

fn buttons(prompt: &Prompt) -> Value {
    let button = |(index, label): (usize, &String)| {
        let number = index + 1;
        let label = visible::line(label);
        let label = if label.trim().is_empty() { number.to_string() } else { label };
        json!({
            "type": "button",
            "action_id": format!("twobox-{number}"),
            "text": { "type": "plain_text", "emoji": false, "text": shorten(&label, LABEL_MAX) },
            "value": format!("{} {number}", prompt.code),
        })
    };
    let elements: Vec<Value> = prompt.choices.iter().enumerate().map(button).collect();
    json!({ "type": "actions", "block_id": "twobox-prompt", "elements": elements })
}

/// The blocks of a message whose button was pressed, with that in the place of its buttons.
pub(super) fn decided(click: &Click) -> Option<Value> {
    let Value::Array(mut blocks) = serde_json::from_str(&click.blocks).ok()? else { return None };
    let before = blocks.len();
    blocks.retain(|block| block["type"] != "actions");
    if blocks.len() == before {
        return None;
    }
    let mut label = String::new();
    escape(&click.label, &mut label);
    let text = format!("✓ {label} (<@{}>)", click.sender);
    let shown = json!({ "type": "mrkdwn", "text": text });
    blocks.push(json!({ "type": "context", "elements": [shown] }));
    Some(Value::Array(blocks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slack::ts::Ts;

    fn prompt(choices: usize) -> Prompt {
        let choices = (0..choices).map(|number| format!("choice {number}\n<!here>")).collect();
        Prompt { code: "abcd".to_owned(), needs_code: true, choices }
    }

    #[test]
    fn a_message_calls_nobody_fetches_nothing_and_is_known_again() {
        let all = said("**hello** <!channel> https://x.example/", None);
        let [one] = &all[..] else { panic!("{all:?}") };
        let shown = message("C1", Some("1.000000"), one, "m");
        assert_eq!(shown["text"], "*hello* &lt;!channel&gt; https://x.example/");
        assert_eq!((&shown["channel"], &shown["thread_ts"]), (&json!("C1"), &json!("1.000000")));
        assert_eq!(shown["unfurl_links"], false);
        assert_eq!(mark_of(&shown["metadata"].to_string()).as_deref(), Some("m"));
        for other in ["", "5", "{}", r#"{"event_type":"x","event_payload":{"part":"m"}}"#] {
            assert_eq!(mark_of(other), None, "{other}");
        }
        assert_ne!(mark("k", "1"), mark("k", "2"));
        assert!(message("C1", None, one, "m").get("thread_ts").is_none());
    }

    #[test]
    fn each_part_is_as_long_as_slack_shows_it() {
        for piece in ["<&> \"quoted\" `code` **bold**\n", "😀שלום ", "|a|b|\n|-|-|\n|1|2|\n\n"]
        {
            let all = said(&piece.repeat(100_000 / piece.len()), None);
            assert!(all.len() > 10);
            assert!(all.iter().all(|it| it.text.encode_utf16().count() <= 4_000));
        }
        assert_eq!(said("  \n", None), []);
    }

    #[test]
    fn a_question_has_buttons_below_its_last_part_and_then_what_was_answered() {
        let all = said(&"A question.\n\n".repeat(400), Some(&prompt(2)));
        let (last, others) = all.split_last().unwrap();
        assert!(!others.is_empty() && others.iter().all(|it| it.prompt.is_none()));
        assert!(all.iter().all(|it| it.text.len() <= 3_000));
        let shown = message("C1", None, last, "m");
        let elements = &shown["blocks"][1]["elements"];
        assert_eq!(elements[1]["value"], "abcd 2");
        assert_eq!(elements[1]["text"]["text"], "choice 1\\n<!here>");
        let click = Click {
            chat: "C1".to_owned(),
            sender: "U1".to_owned(),
            ts: Ts::parse("1.000000").unwrap(),
            thread: None,
            at: Ts::parse("2.000000").unwrap(),
            value: "abcd 2".to_owned(),
            label: "yes <!here>".to_owned(),
            text: "A question.".to_owned(),
            blocks: shown["blocks"].to_string(),
        };
        let blocks = decided(&click).unwrap();
        assert_eq!(blocks.as_array().unwrap().len(), 2);
        assert_eq!(blocks[1]["elements"][0]["text"], "✓ yes &lt;!here&gt; (<@U1>)");
        let again = Click { blocks: blocks.to_string(), ..click };
        assert_eq!(decided(&again), None, "nothing is left to be pressed");
        assert!(said("many", Some(&prompt(30)))[0].prompt.is_none());
    }
}
