//! A message as the events that a room is sent, one for each part. Pure.

use serde_json::{Value, json};
use twobox_shared::content::digest16;

use crate::format::{encoded_len, html::html, split::parts};

/// How many bytes the texts of an event may have, as JSON. A homeserver takes 65,536 of all of it.
pub(super) const TEXT_MAX: usize = 60_000;

/// The field by which the account knows what it has said, whoever forgot the transaction.
pub(super) const MARK: &str = "org.twobox.part";

/// What an event is said about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Relation {
    /// The first event of the thread in which it is said.
    pub(super) thread: Option<String>,
    /// The event that it answers.
    pub(super) reply_to: Option<String>,
}

impl Relation {
    fn to_json(&self) -> Option<Value> {
        let quote = |id: &str| json!({ "event_id": id });
        match (&self.thread, &self.reply_to) {
            (Some(root), reply) => Some(json!({
                "rel_type": "m.thread",
                "event_id": root,
                // Clients without threads show it as an answer to that.
                "is_falling_back": reply.is_none(),
                "m.in_reply_to": quote(reply.as_ref().unwrap_or(root)),
            })),
            (None, Some(reply)) => Some(json!({ "m.in_reply_to": quote(reply) })),
            (None, None) => None,
        }
    }

    /// For what follows the first part.
    pub(super) fn following(&self) -> Self {
        Self { thread: self.thread.clone(), reply_to: None }
    }
}

/// What kind of message an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Somebody says it.
    Text,
    /// A program tells it, and no program answers.
    Notice,
}

/// The texts of `text`, each of which fits into an event.
pub(super) fn texts(text: &str) -> Vec<String> {
    let text: String = text.chars().map(shown).collect();
    let fits = |part: &str| {
        let html = html(part).map_or(0, |html| encoded_len(&html));
        encoded_len(part) + html <= TEXT_MAX
    };
    parts(&text, TEXT_MAX, &fits)
}

/// What of controls is sent: databases behind homeservers do not take all.
fn shown(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// The event that says `text`, under the transaction id `transaction`.
pub(super) fn event(kind: Kind, text: &str, relation: &Relation, transaction: &str) -> Value {
    let msgtype = match kind {
        Kind::Text => "m.text",
        Kind::Notice => "m.notice",
    };
    let mut event = json!({ "msgtype": msgtype, "body": text });
    if let Some(html) = html(text) {
        event["format"] = json!("org.matrix.custom.html");
        event["formatted_body"] = json!(html);
    }
    complete(event, relation, transaction)
}

/// An event with what all have. It calls nobody by a sound, whatever names are in it.
pub(super) fn complete(mut event: Value, relation: &Relation, transaction: &str) -> Value {
    event["m.mentions"] = json!({});
    event[MARK] = json!(mark(transaction));
    if let Some(relation) = relation.to_json() {
        event["m.relates_to"] = relation;
    }
    event
}

/// What stands in the event of this transaction.
pub(super) fn mark(transaction: &str) -> String {
    digest16(transaction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plain_has_no_html_and_relations_are_said() {
        let none = Relation::default();
        let plain = event(Kind::Text, "hello", &none, "t");
        assert_eq!((&plain["msgtype"], &plain["body"]), (&json!("m.text"), &json!("hello")));
        assert!(plain.get("format").is_none() && plain.get("m.relates_to").is_none());
        let rich = event(Kind::Notice, "**hello**", &none, "t");
        assert_eq!(rich["msgtype"], "m.notice");
        assert_eq!(rich["formatted_body"], "<p><strong>hello</strong></p>");
        assert_eq!(plain[MARK], rich[MARK]);
        let some = |id: &str| Some(id.to_owned());
        let both = Relation { thread: some("$root"), reply_to: some("$a") };
        let relates =
            |relation: &Relation| event(Kind::Text, "x", relation, "t")["m.relates_to"].clone();
        let thread = relates(&both);
        assert_eq!(
            (&thread["rel_type"], &thread["is_falling_back"]),
            (&json!("m.thread"), &json!(false))
        );
        assert_eq!(thread["m.in_reply_to"]["event_id"], "$a");
        let following = relates(&both.following());
        assert_eq!(following["is_falling_back"], true);
        assert_eq!(following["m.in_reply_to"]["event_id"], "$root");
        let reply = relates(&Relation { thread: None, reply_to: some("$a") });
        assert_eq!(reply, json!({ "m.in_reply_to": { "event_id": "$a" } }));
    }

    #[test]
    fn every_event_of_a_long_text_is_as_small_as_a_homeserver_wants_it() {
        let whole = ["\"quoted\" & `code` \\ **bold**\n", "ä😀\u{1}\0", "|a|b|\n|-|-|\n|1|2|\n\n"];
        for piece in whole {
            let text = piece.repeat(150_000 / piece.len());
            let texts = texts(&text);
            assert!(texts.len() > 1);
            for text in &texts {
                let event = event(Kind::Text, text, &Relation::default(), "t");
                assert!(event.to_string().len() < 62_000, "{}", event.to_string().len());
                assert!(!text.contains(['\0', '\u{1}']));
            }
        }
        assert_eq!(texts("  \n "), Vec::<String>::new());
    }
}
