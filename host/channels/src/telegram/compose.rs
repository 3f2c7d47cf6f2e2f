//! A message as what the Bot API is asked to show, one request for each part. Pure.

use serde_json::{Value, json};
use twobox_model::approval::Prompt;
use twobox_shared::content::shorten;

use crate::format::entities::{Kind, Mark, Rich, rich, utf16_len};
use crate::format::split::parts;

/// How many units of UTF-16 a text may have. Telegram counts characters, which are no more.
pub(super) const TEXT_MAX: usize = 4096;

/// How many marks a text may have: Telegram shows no more.
const MARKS_MAX: usize = 100;

/// The most bytes of Markdown that are looked at for one part: addresses of links are no text.
const MARKDOWN_MAX: usize = 16 << 10;

/// The most bytes that a button may carry.
const DATA_MAX: usize = 64;

/// How many buttons a question has at most, and how long what stands on one is, in characters.
const BUTTONS_MAX: usize = 20;
const LABEL_MAX: usize = 60;

/// Where something is said, and what about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) chat: i64,
    pub(super) thread: Option<i64>,
    /// The message that it answers.
    pub(super) reply_to: Option<i64>,
}

impl Target {
    /// As the parameters of a request.
    pub(super) fn parameters(&self) -> Value {
        let mut parameters = json!({ "chat_id": self.chat });
        if let Some(thread) = self.thread {
            parameters["message_thread_id"] = json!(thread);
        }
        if let Some(message) = self.reply_to {
            // It may have been deleted.
            parameters["reply_parameters"] =
                json!({ "message_id": message, "allow_sending_without_reply": true });
        }
        parameters
    }

    /// For what follows the first part.
    pub(super) fn following(self) -> Self {
        Self { reply_to: None, ..self }
    }
}

/// The texts of `text`, each of which fits into a message.
pub(super) fn texts(text: &str) -> Vec<Rich> {
    let text: String = text.chars().map(shown).collect();
    let fits = |part: &str| {
        let rich = shown_as(part);
        utf16_len(&rich.text) <= TEXT_MAX && rich.marks.len() <= MARKS_MAX
    };
    parts(&text, MARKDOWN_MAX, &fits).iter().map(|part| shown_as(part)).collect()
}

/// Markdown of which nothing would be seen is shown as it was written.
fn shown_as(part: &str) -> Rich {
    let rich = rich(part);
    match rich.text.is_empty() {
        true => Rich { text: part.trim().to_owned(), marks: Vec::new() },
        false => rich,
    }
}

/// What of controls is sent.
fn shown(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// The parameters by which `rich` is said. No page is fetched for a link in it: an agent's link would have Telegram
/// tell whoever is there that it was written.
pub(super) fn text(rich: &Rich, target: &Target, keyboard: Option<&Value>) -> Value {
    let mut parameters = target.parameters();
    parameters["text"] = json!(rich.text);
    parameters["link_preview_options"] = json!({ "is_disabled": true });
    if !rich.marks.is_empty() {
        parameters["entities"] = rich.marks.iter().map(entity).collect();
    }
    if let Some(keyboard) = keyboard {
        parameters["reply_markup"] = keyboard.clone();
    }
    parameters
}

/// The same without its marks.
pub(super) fn plain(mut parameters: Value) -> Value {
    if let Some(parameters) = parameters.as_object_mut() {
        parameters.remove("entities");
    }
    parameters
}

fn entity(mark: &Mark) -> Value {
    let mut entity = json!({ "offset": mark.offset, "length": mark.length });
    let kind = match &mark.kind {
        Kind::Bold => "bold",
        Kind::Italic => "italic",
        Kind::Struck => "strikethrough",
        Kind::Code => "code",
        Kind::Quote => "blockquote",
        Kind::Block(language) => {
            if let Some(language) = language {
                entity["language"] = json!(language);
            }
            "pre"
        }
        Kind::Link(url) => {
            entity["url"] = json!(url);
            "text_link"
        }
    };
    entity["type"] = json!(kind);
    entity
}

/// The buttons of a question; `None` if it is one that no buttons can have.
pub(super) fn keyboard(prompt: &Prompt) -> Option<Value> {
    if prompt.choices.is_empty() || prompt.choices.len() > BUTTONS_MAX {
        return None;
    }
    let button = |(index, choice): (usize, &String)| {
        let data = format!("{} {}", prompt.code, index + 1);
        let label = match choice.trim() {
            "" => (index + 1).to_string(),
            choice => shorten(choice, LABEL_MAX),
        };
        (data.len() <= DATA_MAX).then(|| json!([{ "text": label, "callback_data": data }]))
    };
    let rows: Option<Vec<Value>> = prompt.choices.iter().enumerate().map(button).collect();
    Some(json!({ "inline_keyboard": rows? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Target = Target { chat: -5, thread: Some(9), reply_to: Some(3) };

    #[test]
    fn a_text_is_said_where_it_belongs_with_its_marks() {
        let [rich] = &texts("**b** [x](https://x.example) `c`\n```sh\nls\n```")[..] else {
            panic!()
        };
        let said = text(rich, &HERE, None);
        assert_eq!((&said["chat_id"], &said["message_thread_id"]), (&json!(-5), &json!(9)));
        assert_eq!(said["reply_parameters"]["message_id"], 3);
        assert_eq!(said["link_preview_options"]["is_disabled"], true);
        assert_eq!(said["text"], "b x c\n\nls");
        let expected = json!([
            { "type": "bold", "offset": 0, "length": 1 },
            { "type": "text_link", "offset": 2, "length": 1, "url": "https://x.example" },
            { "type": "code", "offset": 4, "length": 1 },
            { "type": "pre", "offset": 7, "length": 2, "language": "sh" },
        ]);
        assert_eq!(said["entities"], expected);
        assert!(plain(said).get("entities").is_none());
        let next = text(&texts("plain")[0], &HERE.following(), None);
        assert!(next.get("reply_parameters").is_none() && next.get("entities").is_none());
        assert_eq!(texts("[]()")[0].text, "[]()", "something is seen");
        assert!(texts(" \n").is_empty());
        assert_eq!(texts("a\0b")[0].text, "a\u{fffd}b");
    }

    #[test]
    fn no_text_is_longer_or_has_more_marks_than_telegram_takes() {
        for piece in
            ["**b** ", "😀 ", "word. ", "`a` ", "ש\n\n", "[x](https://x.example/123456789) "]
        {
            let texts = texts(&piece.repeat(20_000 / piece.len()));
            assert!(texts.len() > 1);
            for rich in &texts {
                assert!(utf16_len(&rich.text) <= TEXT_MAX && rich.marks.len() <= MARKS_MAX);
                assert!(!rich.text.is_empty());
            }
        }
    }

    #[test]
    fn buttons_carry_the_code_and_the_number() {
        let prompt = |code: &str, choices: &[&str]| Prompt {
            code: code.to_owned(),
            needs_code: true,
            choices: choices.iter().map(|it| (*it).to_owned()).collect(),
        };
        let two = keyboard(&prompt("AB2C3", &["allow", &"long ".repeat(50)])).unwrap();
        let rows = two["inline_keyboard"].as_array().unwrap();
        assert_eq!(rows[0], json!([{ "text": "allow", "callback_data": "AB2C3 1" }]));
        assert_eq!(rows[1][0]["callback_data"], "AB2C3 2");
        assert!(rows[1][0]["text"].as_str().unwrap().chars().count() <= LABEL_MAX + 1);
        assert_eq!(keyboard(&prompt("A", &[])), None);
        assert_eq!(keyboard(&prompt(&"A".repeat(63), &["x"])), None, "it has no room");
        assert_eq!(keyboard(&prompt("A", &["x"; 21])), None);
        assert_eq!(keyboard(&prompt("A", &[" "])).unwrap()["inline_keyboard"][0][0]["text"], "1");
    }
}
