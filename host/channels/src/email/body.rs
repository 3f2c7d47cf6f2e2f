//! What a mail says: its text, and the names of what is attached. Pure, and bounded whatever comes.

use mailparse::{DispositionType, ParsedMail, parse_mail};
use twobox_shared::content::shorten;
use twobox_shared::visible;

use super::quoted;
use crate::format::beginning;
use crate::format::plain::plain;
use crate::staged::too_large;

/// The most bytes of a mail that are read for its text, and for what is attached to it.
pub(super) const MAIL_MAX: usize = 4 << 20;
pub(super) const WHOLE_MAX: usize = 40 << 20;

/// How many lines of a mail may look like the end of a part.
const PARTS_MAX: usize = 1000;

/// The most bytes of text that are handed on, and of HTML that is read.
const TEXT_MAX: usize = 128 << 10;
const HTML_MAX: usize = 1 << 20;

/// How many attachments are named, and how long a name is, in characters.
const NAMED_MAX: usize = 50;
const NAME_MAX: usize = 120;

/// What a mail says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Body {
    /// What was written, without what mail programs put below it.
    pub(super) text: String,
    /// What is attached, as people call it.
    pub(super) attached: Vec<String>,
}

/// A file that came with a mail: what its sender calls it, and what is in it, or why that cannot be told.
pub(super) type File = (String, Result<Vec<u8>, String>);

/// What the mail `raw` says.
///
/// # Errors
/// Why it cannot be read, for people.
pub(super) fn body(raw: &[u8]) -> Result<Body, String> {
    let mail = parse(raw)?;
    let mut found = Found::default();
    found.take(&mail);
    let mut text = quoted::written(&found.text);
    if text.len() > TEXT_MAX {
        text.truncate(beginning(&text, TEXT_MAX).len());
        text.push_str("\n[what follows was cut off: it is too long]");
    }
    let named = found.attached.iter().take(NAMED_MAX);
    let attached = named.map(|part| shorten(&visible::line(&file_name(part)), NAME_MAX)).collect();
    Ok(Body { text, attached })
}

/// The files that came with the mail `raw`, each of at most `most` bytes, and as many as `count`.
///
/// # Errors
/// As [`body`].
pub(super) fn files(raw: &[u8], count: usize, most: u64) -> Result<Vec<File>, String> {
    let mail = parse(raw)?;
    let mut found = Found::default();
    found.take(&mail);
    let content = |part: &ParsedMail<'_>| {
        let bytes = part.get_body_raw().map_err(|_| "it cannot be read".to_owned())?;
        match too_large(bytes.len() as u64, most) {
            Some(why) => Err(why),
            None => Ok(bytes),
        }
    };
    // One more than are taken says that there are more.
    let parts = found.attached.iter().take(NAMED_MAX).enumerate();
    Ok(parts
        .map(|(index, part)| {
            let bytes =
                if index < count { content(part) } else { Err("there are too many".to_owned()) };
            (file_name(part), bytes)
        })
        .collect())
}

fn parse(raw: &[u8]) -> Result<ParsedMail<'_>, String> {
    let ends = raw.windows(3).filter(|it| *it == b"\n--").count();
    if ends > PARTS_MAX {
        return Err(format!("it has more than {PARTS_MAX} parts"));
    }
    parse_mail(raw).map_err(|error| visible::line(&error.to_string()))
}

#[derive(Default)]
struct Found<'a, 'b> {
    text: String,
    attached: Vec<&'a ParsedMail<'b>>,
}

impl<'a, 'b> Found<'a, 'b> {
    /// Takes what is in this part.
    fn take(&mut self, part: &'a ParsedMail<'b>) {
        let kind = part.ctype.mimetype.as_str();
        match kind {
            "multipart/alternative" => {
                if let Some(best) = best(&part.subparts) {
                    self.take(best);
                }
            }
            "multipart/encrypted" | "application/pkcs7-mime" => {
                self.say("[this mail is encrypted, and cannot be read]");
            }
            _ if kind.starts_with("multipart/") && !part.subparts.is_empty() => {
                part.subparts.iter().for_each(|it| self.take(it));
            }
            // Signatures say nothing to people.
            "application/pgp-signature"
            | "application/pkcs7-signature"
            | "application/x-pkcs7-signature" => {}
            _ if is_text(part) => {
                let text = text(part);
                self.say(&text);
            }
            _ => self.attached.push(part),
        }
    }

    fn say(&mut self, text: &str) {
        let room = TEXT_MAX * 2;
        if !self.text.is_empty() && !text.trim().is_empty() {
            self.text.push_str("\n\n");
        }
        if self.text.len() < room {
            self.text.push_str(beginning(text, room - self.text.len()).trim_end());
        }
    }
}

/// What its sender calls a file; what it is, where they call it nothing.
fn file_name(part: &ParsedMail<'_>) -> String {
    name(part).unwrap_or_else(|| match part.ctype.mimetype.as_str() {
        "message/rfc822" => "mail.eml".to_owned(),
        kind => kind.replace('/', "."),
    })
}

/// Of several ways to say the same, the one that is read here: the first that is plain, else the last that can be.
fn best<'a, 'b>(parts: &'a [ParsedMail<'b>]) -> Option<&'a ParsedMail<'b>> {
    let is_plain = |part: &&ParsedMail<'_>| {
        part.ctype.mimetype == "text/plain" && is_text(part) && !text(part).trim().is_empty()
    };
    let is_readable =
        |part: &&ParsedMail<'_>| is_text(part) || part.ctype.mimetype.starts_with("multipart/");
    parts.iter().find(is_plain).or_else(|| parts.iter().rev().find(is_readable)).or(parts.last())
}

/// Whether a part is shown as what somebody says.
fn is_text(part: &ParsedMail<'_>) -> bool {
    let disposition = part.get_content_disposition();
    let is_attached = disposition.disposition == DispositionType::Attachment
        || (name(part).is_some() && part.ctype.mimetype != "text/html");
    !is_attached && ["text/plain", "text/html"].contains(&part.ctype.mimetype.as_str())
}

fn name(part: &ParsedMail<'_>) -> Option<String> {
    let disposition = part.get_content_disposition();
    let named = disposition.params.get("filename").or_else(|| part.ctype.params.get("name"));
    named.filter(|it| !it.trim().is_empty()).cloned()
}

/// The text of a part.
fn text(part: &ParsedMail<'_>) -> String {
    let decoded = match part.get_body() {
        Ok(text) => text,
        // As far as it goes: somebody's program has cut it.
        Err(_) => match part.get_body_raw() {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => return "[a part of this mail cannot be read]".to_owned(),
        },
    };
    let text = match part.ctype.mimetype.as_str() {
        "text/html" => plain(beginning(&decoded, HTML_MAX)),
        _ => decoded.replace("\r\n", "\n"),
    };
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Body {
        body(text.replace('\n', "\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn the_text_is_what_a_person_has_written() {
        let cases = [
            ("plain", "Subject: x\n\nhello\n", "hello"),
            (
                "a charset",
                "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nh=E4llo=\n you",
                "hällo you",
            ),
            (
                "base64",
                "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\naMOkbGxv\n",
                "hällo",
            ),
            ("HTML", "Content-Type: text/html\n\n<p>one<p>two", "one\n\ntwo"),
            (
                "both",
                "Content-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain\n\nplain\n--b\nContent-Type: text/html\n\n<p>html\n--b--\n",
                "plain",
            ),
            (
                "an empty one",
                "Content-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain\n\n \n--b\nContent-Type: text/html\n\n<p>html\n--b--\n",
                "html",
            ),
            (
                "a charset of nobody",
                "Content-Type: text/plain; charset=x-klingon\n\nhello",
                "hello",
            ),
            ("controls", "Content-Type: text/plain\n\na\u{0}\u{1b}[2Jb", "a[2Jb"),
            (
                "encrypted",
                "Content-Type: multipart/encrypted; boundary=b\n\n--b\n\nx\n--b--",
                "[this mail is encrypted, and cannot be read]",
            ),
            ("no end", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nhello", "hello"),
            ("no part", "Content-Type: multipart/mixed; boundary=b\n\n", ""),
        ];
        for (case, raw, expected) in cases {
            assert_eq!(read(raw).text, expected, "{case}");
        }
    }

    #[test]
    fn what_is_attached_is_named() {
        let mail = "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nsee below\n\
                    --b\nContent-Type: application/pdf; name=\"plan.pdf\"\nContent-Disposition: attachment\n\nx\n\
                    --b\nContent-Type: text/plain\nContent-Disposition: attachment; filename*=utf-8''n%C3%B6te%0A.txt\n\nsecret text\n\
                    --b\nContent-Type: image/png\n\nx\n\
                    --b\nContent-Type: message/rfc822\n\nSubject: inner\n\ninner text\n\
                    --b\nContent-Type: application/pgp-signature\n\nx\n--b--\n";
        let body = read(mail);
        assert_eq!(body.text, "see below");
        assert_eq!(body.attached, ["plan.pdf", "nöte\\n.txt", "image.png", "mail.eml"]);
    }

    #[test]
    fn files_are_what_is_in_them_as_far_as_they_may_be() {
        let file = |name: &str, body: &str| {
            format!(
                "--b\r\nContent-Type: x/y; name={name}\r\nContent-Transfer-Encoding: base64\r\n\r\n{body}\r\n"
            )
        };
        let mail = format!(
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhi\r\n{}{}{}{}--b--\r\n",
            file("a.bin", "AAEC"),
            file("large", "AAAAAAAAAAAAAAAA"),
            file("bad", "!!!"),
            file("fourth", "AAEC"),
        );
        let files = files(mail.as_bytes(), 3, 5).unwrap();
        assert_eq!(files[0], ("a.bin".to_owned(), Ok(vec![0, 1, 2])));
        assert!(files[1].1.as_ref().unwrap_err().contains("are taken"), "{files:?}");
        assert_eq!(files[2].1, Err("it cannot be read".to_owned()));
        assert_eq!(files[3].1, Err("there are too many".to_owned()));
    }

    #[test]
    fn bombs_are_bounded() {
        let begun = std::time::Instant::now();
        let deep: String = (0..3000)
            .map(|at| format!("Content-Type: multipart/mixed; boundary=b{at}\n\n--b{at}\n"))
            .collect();
        assert!(body(deep.as_bytes()).is_err());
        let wide = format!(
            "Content-Type: multipart/mixed; boundary=b\n\n{}",
            "--b\n\nx\n".repeat(100_000)
        );
        assert!(body(wide.as_bytes()).unwrap_err().contains("parts"));
        let long = format!("Subject: x\n\n{}", "ä ".repeat(MAIL_MAX / 3));
        let long = body(long.as_bytes()).unwrap();
        assert!(long.text.len() < TEXT_MAX + 100 && long.text.ends_with("too long]"));
        let names = "--b\nContent-Type: x/y; name=\"n\"\n\n\n".repeat(900);
        let many = read(&format!("Content-Type: multipart/mixed; boundary=b\n\n{names}"));
        assert_eq!(many.attached.len(), NAMED_MAX);
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{:?}", begun.elapsed());
    }

    proptest::proptest! {
        #[test]
        fn nothing_breaks_it(raw in proptest::collection::vec(0..255_u8, 0..300), text in "(Content-Type: |multipart/mixed; boundary=b|--b|--b--|\r\n|text/html|=\\?|x|;){0,40}") {
            let mail = [text.as_bytes(), &raw].concat();
            drop(body(&mail));
        }
    }
}
