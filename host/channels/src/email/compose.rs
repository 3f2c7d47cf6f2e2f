//! A mail of ours, as its bytes. It is the same each time that it is made of the same message. Pure.
//!
//! Nothing of what is said gets into a header as it stands: `lettre` encodes what people read, and ids are checked
//! where they come from.

use std::time::SystemTime;

use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Body, Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message};
use twobox_shared::content::{digest16, shorten};
use twobox_shared::visible;

use super::letter::is_id;
use super::origin::LOOP;
use crate::format::html::html;
use crate::media::media_type;

/// The longest subject that is made up, in characters.
const SUBJECT_MAX: usize = 70;

/// The longest name of a file, in characters.
const NAME_MAX: usize = 150;

/// What a mail is made of.
#[derive(Debug, Clone)]
pub(super) struct Draft<'a> {
    pub(super) from: &'a Address,
    pub(super) name: Option<&'a str>,
    pub(super) to: &'a Address,
    /// Its id, without brackets.
    pub(super) id: &'a str,
    pub(super) subject: String,
    /// What came before in its thread, oldest first.
    pub(super) references: Vec<String>,
    /// Which of these it answers.
    pub(super) in_reply_to: Option<String>,
    pub(super) date: SystemTime,
    /// Markdown.
    pub(super) text: &'a str,
    /// Names, and what is in them.
    pub(super) files: Vec<(String, Vec<u8>)>,
}

/// The mail.
///
/// # Errors
/// What is wrong with it, for people.
pub(super) fn mail(draft: &Draft<'_>) -> Result<Vec<u8>, String> {
    let mut builder = Message::builder()
        .from(Mailbox::new(draft.name.map(visible::line), draft.from.clone()))
        .to(Mailbox::new(None, draft.to.clone()))
        .subject(visible::line(&draft.subject))
        .date(draft.date)
        .message_id(Some(format!("<{}>", draft.id)));
    let answers = draft.in_reply_to.iter().map(String::as_str).collect::<Vec<_>>();
    let references = draft.references.iter().map(String::as_str).collect::<Vec<_>>();
    for (name, ids) in [("In-Reply-To", answers), ("References", references)] {
        if let Some(value) = brackets(&ids) {
            builder = builder.raw_header(header(name, value));
        }
    }
    // RFC 3834: no program answers it. A mail that nobody has asked for was not replied to, either.
    let how = if draft.in_reply_to.is_some() { "auto-replied" } else { "auto-generated" };
    builder = builder
        .raw_header(header("Auto-Submitted", how.to_owned()))
        .raw_header(header(LOOP, draft.from.to_string()));
    let said = said(draft);
    let made = match (said, draft.files.is_empty()) {
        (Said::Plain(part), true) => builder.singlepart(part),
        (Said::Both(parts), true) => builder.multipart(parts),
        (said, false) => {
            let mixed = MultiPart::mixed().boundary(boundary(draft, "mixed"));
            let mut mixed = match said {
                Said::Plain(part) => mixed.singlepart(part),
                Said::Both(parts) => mixed.multipart(parts),
            };
            for (name, bytes) in &draft.files {
                mixed = mixed.singlepart(attachment(name, bytes));
            }
            builder.multipart(mixed)
        }
    };
    made.map(|mail| mail.formatted()).map_err(|error| error.to_string())
}

/// What it says: as it stands, and as HTML where there is more to it.
enum Said {
    Plain(SinglePart),
    Both(MultiPart),
}

fn said(draft: &Draft<'_>) -> Said {
    let text: String = draft.text.chars().map(shown).collect();
    let plain = part(&text, ContentType::TEXT_PLAIN);
    match html(&text) {
        Some(html) => {
            let page = format!(
                "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"></head><body>{html}</body></html>\n"
            );
            let both = MultiPart::alternative().boundary(boundary(draft, "both"));
            Said::Both(both.singlepart(plain).singlepart(part(&page, ContentType::TEXT_HTML)))
        }
        None => Said::Plain(plain),
    }
}

/// A text in lines that every server takes, however long its own are.
fn part(text: &str, kind: ContentType) -> SinglePart {
    let (short, long) = (ContentTransferEncoding::QuotedPrintable, ContentTransferEncoding::Base64);
    // A letter that is not ASCII is three times as long as a byte of it then.
    let others = text.bytes().filter(|byte| !byte.is_ascii()).count();
    let encoding = if others * 4 > text.len() { long } else { short };
    let body = Body::new_with_encoding(text.to_owned(), encoding);
    let body = body.unwrap_or_else(Body::new);
    SinglePart::builder().header(kind).body(body)
}

fn attachment(name: &str, bytes: &[u8]) -> SinglePart {
    let name = shorten(&visible::line(name), NAME_MAX);
    let kind = ContentType::parse(media_type(&name)).expect("a media type of ours is one");
    let body = Body::new_with_encoding(bytes.to_vec(), ContentTransferEncoding::Base64);
    Attachment::new(name).body(body.unwrap_or_else(Body::new), kind)
}

/// What no text has by chance, and no text can have: each mail's id is its own, and its texts are encoded.
fn boundary(draft: &Draft<'_>, which: &str) -> String {
    format!("=_{which}_{}", digest16(draft.id))
}

fn header(name: &'static str, value: String) -> HeaderValue {
    let name = HeaderName::new_from_ascii_str(name);
    HeaderValue::dangerous_new_pre_encoded(name, value.clone(), value)
}

/// Ids in brackets, each on a line of its own; `None` if there are none.
fn brackets(ids: &[&str]) -> Option<String> {
    let ids: Vec<String> = ids.iter().filter(|it| is_id(it)).map(|it| format!("<{it}>")).collect();
    (!ids.is_empty()).then(|| ids.join("\r\n "))
}

/// What of controls is sent.
fn shown(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// The subject of an answer in a thread that is about that.
pub(super) fn answer_subject(subject: &str) -> String {
    let bare = bare_subject(subject);
    match bare.is_empty() {
        true => "Re: your mail".to_owned(),
        false => format!("Re: {bare}"),
    }
}

/// A subject without what mail programs put before it.
pub(super) fn bare_subject(subject: &str) -> &str {
    const BEFORE: [&str; 7] = ["re:", "aw:", "fwd:", "fw:", "wg:", "sv:", "antw:"];
    let mut rest = subject.trim();
    while let Some(before) = BEFORE
        .iter()
        .find(|it| rest.get(..it.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(it)))
    {
        rest = rest[before.len()..].trim_start();
    }
    rest
}

/// The subject of a mail that begins a thread: its first words.
pub(super) fn first_words(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| line.contains(char::is_alphanumeric));
    let line = line.unwrap_or_default().trim_start_matches(['#', '>', '*', '-', ' ', '`', '_']);
    let words = line.replace(['*', '`'], "");
    match words.trim().is_empty() {
        true => "A message".to_owned(),
        false => shorten(words.trim(), SUBJECT_MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mailparse::{MailHeaderMap, parse_mail};

    use super::*;

    fn draft<'a>(from: &'a Address, text: &'a str) -> Draft<'a> {
        Draft {
            from,
            name: Some("Bot\r\nBcc: eve@x"),
            to: from,
            id: "a@x",
            subject: "Re: lunch".to_owned(),
            references: vec!["r@x".to_owned(), "bad>\r\nBcc: eve@x".to_owned(), "s@x".to_owned()],
            in_reply_to: Some("s@x".to_owned()),
            date: SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000),
            text,
            files: Vec::new(),
        }
    }

    fn made(draft: &Draft<'_>) -> String {
        String::from_utf8(mail(draft).unwrap()).unwrap()
    }

    #[test]
    fn a_mail_is_what_it_says_and_the_same_each_time() {
        let from: Address = "bot@x.org".parse().unwrap();
        let text = "Hello **you**, ünd\n\n.\n\nFrom here on.";
        let mut draft = draft(&from, text);
        draft.files = vec![("plän.txt".to_owned(), b"the plan".to_vec())];
        let raw = made(&draft);
        assert_eq!(raw, made(&draft));
        let read = parse_mail(raw.as_bytes()).unwrap();
        let header = |name: &str| read.headers.get_first_value(name).unwrap();
        assert_eq!(header("Message-ID"), "<a@x>");
        assert_eq!(header("In-Reply-To"), "<s@x>");
        assert_eq!(header("References"), "<r@x> <s@x>");
        assert_eq!(header("Auto-Submitted"), "auto-replied");
        assert_eq!(header("Subject"), "Re: lunch");
        let parts = &read.subparts[0].subparts;
        assert_eq!(parts[0].get_body().unwrap().replace("\r\n", "\n").trim_end(), text);
        assert!(parts[1].get_body().unwrap().contains("<strong>you</strong>"));
        let file = &read.subparts[1];
        assert_eq!(file.get_content_disposition().params["filename"], "plän.txt");
        assert_eq!(file.get_body().unwrap(), "the plan");
    }

    #[test]
    fn no_text_gets_into_a_header_and_no_line_is_long() {
        let from: Address = "bot@x.org".parse().unwrap();
        let texts = [
            "x".repeat(5000),
            "ä€😀".repeat(3000),
            "a\rb\r\nc\nd\u{0}".to_owned(),
            "\n.\n".repeat(99),
        ];
        for text in &texts {
            let mut draft = draft(&from, text);
            draft.subject = format!("{}\r\nBcc: eve@x\r\n\r\nbody", "sübject ".repeat(40));
            draft.files = vec![("a\r\nBcc: eve@x\"\r\n.txt".to_owned(), vec![7; 3000])];
            let raw = made(&draft);
            let headers = parse_mail(raw.as_bytes()).unwrap().headers.len();
            assert_eq!(headers, 11, "{raw}");
            assert!(raw.is_ascii() && !raw.replace("\r\n", "").contains(['\r', '\n']));
            assert!(raw.lines().all(|line| line.len() < 300), "{raw}");
            assert!(!raw.lines().any(|line| line.starts_with("Bcc")), "{raw}");
        }
    }

    #[test]
    fn a_subject_is_that_of_the_thread_or_the_first_words() {
        assert_eq!(answer_subject("AW: Re: re: lunch"), "Re: lunch");
        assert_eq!(answer_subject(" Re: "), "Re: your mail");
        assert_eq!(bare_subject("Rest"), "Rest");
        assert_eq!(first_words("\n```\n# **Daily** report\nmore"), "Daily report");
        assert_eq!(first_words("---\n\n"), "A message");
        assert_eq!(first_words(&"ä".repeat(100)).chars().count(), SUBJECT_MAX + 1);
    }
}
