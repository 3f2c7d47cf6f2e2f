//! A message as Discord is given it, one part after the other. Pure.

use std::fmt::Write;

use serde_json::{Value, json};
use twobox_model::approval::Prompt;
use twobox_shared::content::{digest, shorten};
use twobox_shared::visible;

use super::snowflake::Snowflake;
use crate::format::discord::{discord, length};
use crate::format::split::parts;

/// How long a text may be, as [`length`] counts.
const TEXT_MAX: usize = 2_000;

/// The most bytes of such a text.
const BYTES_MAX: usize = TEXT_MAX * 4;

/// How long a nonce is: it has at most 25 characters.
const NONCE: usize = 24;

/// No picture of what is behind a link: Discord would fetch it, wherever an agent was talked into pointing.
const SUPPRESS_EMBEDS: u64 = 1 << 2;

/// How many buttons stand in a row, and how many rows there are.
const ROW: usize = 5;
const ROWS: usize = 5;

/// How long the text on a button is, in characters, and what it stands for.
const LABEL_MAX: usize = 40;
const CUSTOM_ID_MAX: usize = 100;

/// The longest name of a file that is sent, in characters.
const NAME_MAX: usize = 100;

/// The parts of a text, each of which fits into a message.
pub(super) fn texts(text: &str) -> Vec<String> {
    parts(&discord(text), BYTES_MAX, &|part| length(part) <= TEXT_MAX)
}

/// The word by which Discord knows a part that it has taken in the last minutes.
pub(super) fn nonce(key: &str, part: &str) -> String {
    digest(&format!("{key}\n{part}"))[..NONCE].to_owned()
}

/// What is said besides a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extras {
    /// The message that it answers.
    pub(super) reply_to: Option<Snowflake>,
    /// What it asks.
    pub(super) prompt: Option<Prompt>,
}

/// The message that says `text`.
pub(super) fn message(text: &str, nonce: &str, extras: &Extras) -> Value {
    let mut message = json!({
        "content": text,
        "nonce": nonce,
        "enforce_nonce": true,
        // It rings nobody's bell, whatever names an agent was talked into writing.
        "allowed_mentions": { "parse": [], "replied_user": false },
        "flags": SUPPRESS_EMBEDS,
    });
    if let Some(id) = extras.reply_to {
        message["message_reference"] = json!({ "message_id": id, "fail_if_not_exists": false });
    }
    if let Some(prompt) = &extras.prompt {
        message["components"] = buttons(prompt);
    }
    message
}

/// What there is to choose from, as rows of buttons.
fn buttons(prompt: &Prompt) -> Value {
    let button = |(index, choice): (usize, &String)| {
        let number = index + 1;
        let custom_id = format!("{} {number}", prompt.code);
        let label = shorten(&format!("{number}. {}", visible::line(choice)), LABEL_MAX);
        // Blurple for all: which one is dangerous is for whoever reads to say.
        (custom_id.len() <= CUSTOM_ID_MAX)
            .then(|| json!({ "type": 2, "style": 1, "label": label, "custom_id": custom_id }))
    };
    let all: Vec<Value> = prompt.choices.iter().enumerate().filter_map(button).collect();
    let rows = all.chunks(ROW).take(ROWS).map(|row| json!({ "type": 1, "components": row }));
    rows.collect()
}

/// What is answered to whoever pressed the button that stands for `custom_id`: the one button is left, and says who;
/// or nothing changes, where it is not known.
pub(super) fn pressed(shown: &Value, custom_id: &str, by: &str) -> Value {
    let rows = shown.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut all = rows.iter().filter_map(|row| row["components"].as_array()).flatten();
    let label = all.find(|it| it["custom_id"] == custom_id).and_then(|it| it["label"].as_str());
    let Some(label) = label else { return acknowledged() };
    let label = shorten(&visible::line(&format!("{label} — {by}")), 2 * LABEL_MAX - 1);
    let button = json!({
        "type": 2, "style": 2, "label": label, "custom_id": custom_id, "disabled": true,
    });
    let row = json!({ "type": 1, "components": [button] });
    json!({ "type": 7, "data": { "components": [row] } })
}

/// What is answered where nothing changes.
pub(super) fn acknowledged() -> Value {
    json!({ "type": 6 })
}

/// The name under which a file is sent.
pub(super) fn file_name(name: &str) -> String {
    let plain = |c: char| if c == '"' || c == '\\' { '_' } else { c };
    shorten(&visible::line(name), NAME_MAX).chars().map(plain).collect()
}

/// A body with a file beside the message, and its type. `boundary` stands in neither.
pub(super) fn with_file(
    message: &Value,
    (name, kind): (&str, &str),
    bytes: &[u8],
    boundary: &str,
) -> (String, Vec<u8>) {
    let mut message = message.clone();
    message["attachments"] = json!([{ "id": 0, "filename": name }]);
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"payload_json\"\r\n\
         Content-Type: application/json\r\n\r\n{message}\r\n--{boundary}\r\n\
         Content-Disposition: form-data; name=\"files[0]\"; filename=\"{name}\"\r\n\
         Content-Type: {kind}\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    (
        format!("multipart/form-data; boundary={boundary}"),
        [head.as_bytes(), bytes, tail.as_bytes()].concat(),
    )
}

/// What people are told of files that could not be sent.
pub(super) fn not_sent(missing: &[(String, String)]) -> String {
    let mut text = "Not sent:".to_owned();
    for (name, why) in missing {
        let name = shorten(&visible::line(name), NAME_MAX).replace('`', "'");
        write!(text, "\n- `{name}`: {why}").expect("a string takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_rings_no_bell_and_has_its_nonce() {
        let nonce = nonce("install:session:row", "1");
        assert!(nonce.len() <= 25 && nonce != super::nonce("install:session:row", "2"));
        let said = message("hello @everyone", &nonce, &Extras::default());
        assert_eq!(said["allowed_mentions"], json!({ "parse": [], "replied_user": false }));
        assert_eq!((&said["nonce"], &said["enforce_nonce"]), (&json!(nonce), &json!(true)));
        assert!(said.get("message_reference").is_none() && said.get("components").is_none());
        let reply = Extras { reply_to: Some(Snowflake(5)), prompt: None };
        let reference = &message("x", &nonce, &reply)["message_reference"];
        assert_eq!(*reference, json!({ "message_id": "5", "fail_if_not_exists": false }));
    }

    #[test]
    fn every_part_is_as_short_as_discord_wants_it() {
        for piece in ["**bold** text. ", "😀", "ä\n\n", "```sh\nls\n```\n", "x"] {
            let texts = texts(&piece.repeat(30_000 / piece.len()));
            assert!(texts.len() > 2, "{piece}");
            assert!(texts.iter().all(|text| length(text) <= 2_000), "{piece}");
        }
        assert_eq!(texts(" \n "), Vec::<String>::new());
        assert_eq!(texts("short"), ["short"]);
    }

    #[test]
    fn what_is_asked_has_buttons_that_say_their_code_and_number() {
        let prompt = |choices: usize| Prompt {
            code: "abcd".to_owned(),
            needs_code: true,
            choices: (0..choices)
                .map(|it| format!("choice\n{it} {}", "long ".repeat(20)))
                .collect(),
        };
        let extras = |choices| Extras { prompt: Some(prompt(choices)), reply_to: None };
        let said = message("which?", "n", &extras(8));
        let rows = said["components"].as_array().unwrap();
        assert_eq!(
            rows.iter().map(|it| it["components"].as_array().unwrap().len()).collect::<Vec<_>>(),
            [5, 3]
        );
        let button = &rows[1]["components"][2];
        assert_eq!(button["custom_id"], "abcd 8");
        let label = button["label"].as_str().unwrap();
        assert!(label.starts_with("8. choice\\n7") && label.chars().count() <= 80, "{label}");
        assert_eq!(message("x", "n", &extras(99))["components"].as_array().unwrap().len(), 5);
    }

    #[test]
    fn a_button_that_was_pressed_is_left_and_says_by_whom() {
        let prompt = Prompt {
            code: "abcd".to_owned(),
            needs_code: true,
            choices: vec!["allow".to_owned(), "deny".to_owned()],
        };
        let extras = Extras { prompt: Some(prompt), reply_to: None };
        let shown = &message("may it?", "n", &extras)["components"];
        let answer = pressed(shown, "abcd 2", &"Ada\n".repeat(99));
        assert_eq!(answer["type"], 7);
        let rows = answer["data"]["components"].as_array().unwrap();
        let left = rows[0]["components"].as_array().unwrap();
        assert_eq!((rows.len(), left.len(), &left[0]["disabled"]), (1, 1, &json!(true)));
        let label = left[0]["label"].as_str().unwrap();
        assert!(label.starts_with("2. deny — Ada\\n") && label.chars().count() <= 80, "{label}");
        assert_eq!(pressed(shown, "abcd 3", "Ada"), acknowledged());
        assert_eq!(pressed(&json!(5), "abcd 1", "Ada"), acknowledged());
    }

    #[test]
    fn a_file_stands_beside_the_message() {
        let name = file_name("a \"plan\"\r\n.txt");
        assert!(!name.contains(['"', '\r', '\n', '\\']), "{name}");
        let message = message("", "n", &Extras::default());
        let (kind, body) = with_file(&message, (&name, "text/plain"), b"the plan", "BOUNDARY");
        assert_eq!(kind, "multipart/form-data; boundary=BOUNDARY");
        let body = String::from_utf8(body).unwrap();
        assert_eq!(body.matches("--BOUNDARY\r\n").count(), 2);
        assert!(body.ends_with("\r\n\r\nthe plan\r\n--BOUNDARY--\r\n"), "{body}");
        let told = not_sent(&[("a`b\n.txt".to_owned(), "it is gone".to_owned())]);
        assert_eq!(told, "Not sent:\n- `a'b\\n.txt`: it is gone");
    }
}
