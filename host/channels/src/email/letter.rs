//! The head of a mail that came in: who, to whom, about what, in which thread. All of it is what its sender
//! has written. Pure.

use lettre::Address;
use mailparse::{MailAddr, MailHeader, addrparse_header, dateparse};
use twobox_shared::content::{digest16, shorten};
use twobox_shared::ids::MessageId;
use twobox_shared::time::UnixMillis;
use twobox_shared::visible;

use crate::format::beginning;

/// The longest id of a mail that is kept, in bytes.
const ID_MAX: usize = 240;

/// How many ids of one header are looked at, and how many addresses.
const IDS_MAX: usize = 100;
const ADDRESSES_MAX: usize = 200;

/// The longest subject that is kept, in characters.
const SUBJECT_MAX: usize = 200;

/// The longest name of a sender, in bytes.
const NAME_MAX: usize = 100;

/// What stands in the id of a mail of ours that begins a thread.
const NEW: &str = "new";

/// The head of a mail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Who has written it, if it is one and can be answered.
    pub(super) from: Option<Correspondent>,
    /// Its own id, without brackets.
    pub(super) id: Option<String>,
    /// What it answers.
    pub(super) in_reply_to: Option<String>,
    /// What came before in its thread, oldest first.
    pub(super) references: Vec<String>,
    /// What it is about, in one line.
    pub(super) subject: String,
    /// When it was written.
    pub(super) date: Option<UnixMillis>,
    /// To whom it is written, and who else gets it.
    pub(super) to: Vec<String>,
    pub(super) cc: Vec<String>,
}

/// Somebody who writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Correspondent {
    /// Their address, in small letters.
    pub(super) address: String,
    /// What they call themselves.
    pub(super) name: Option<String>,
}

impl Head {
    /// What stands in these headers.
    pub(super) fn of(headers: &[MailHeader<'_>]) -> Self {
        let from = all(headers, "From");
        let ids = |name: &str| first(headers, name).map(|it| ids(&raw(it))).unwrap_or_default();
        let subject = first(headers, "Subject").map(MailHeader::get_value).unwrap_or_default();
        let subject = subject.split_whitespace().collect::<Vec<_>>().join(" ");
        let date = first(headers, "Date").and_then(|it| dateparse(&it.get_value()).ok());
        Self {
            // Of two, nobody knows which one a reader is shown.
            from: match from[..] {
                [from] => correspondent(from),
                _ => None,
            },
            id: ids("Message-ID").into_iter().next(),
            in_reply_to: ids("In-Reply-To").into_iter().next(),
            references: ids("References"),
            subject: shorten(&visible::line(&subject), SUBJECT_MAX),
            date: date.and_then(|seconds| Some(UnixMillis(seconds.checked_mul(1000)?))),
            to: addresses(headers, "To"),
            cc: addresses(headers, "Cc"),
        }
    }

    /// The thread that it belongs to. An id of ours says which; otherwise it is told by the first mail of it.
    /// `id` is its own.
    pub(super) fn thread(&self, id: &str, domain: &str) -> String {
        let known = self.in_reply_to.iter().chain(self.references.iter().rev());
        if let Some(thread) = known.filter_map(|id| thread_of(id, domain)).next() {
            return thread;
        }
        let root = self.references.first().or(self.in_reply_to.as_ref());
        digest16(root.map_or(id, String::as_str))
    }

    /// Whether it answers something.
    pub(super) fn is_answer(&self) -> bool {
        self.in_reply_to.is_some() || !self.references.is_empty()
    }
}

/// The id of a mail of ours under this key, in this thread. It is the same each time, and says which thread an
/// answer to it belongs to.
pub(super) fn own_id(key: &str, thread: Option<&str>, domain: &str) -> String {
    let thread = thread.filter(|it| is_digest(it)).unwrap_or(NEW);
    let more = digest16(&format!("mail {key}"));
    format!("{}{more}.{thread}@{domain}", digest16(key))
}

/// The thread in which a mail of ours was sent, if it is one.
fn thread_of(id: &str, domain: &str) -> Option<String> {
    let (local, other) = id.rsplit_once('@')?;
    let (key, thread) = local.split_once('.')?;
    let is_ours = other.eq_ignore_ascii_case(domain) && key.len() == 32 && is_hex(key);
    match thread {
        _ if !is_ours => None,
        NEW => Some(digest16(id)),
        thread => is_digest(thread).then(|| thread.to_owned()),
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 16 && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The id under which the host has the mail with this id.
pub(super) fn handed(id: &str) -> MessageId {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@.-_+=~$!*'{}|^&?#".contains(c);
    let parsed =
        MessageId::parse(id).ok().filter(|_| id.chars().all(plain) && !id.starts_with('.'));
    parsed.unwrap_or_else(|| {
        MessageId::parse(&format!("mail-{}", digest16(id))).expect("letters, digits and a hyphen")
    })
}

/// The ids in a header, without brackets. What is none is passed over: it is written into headers of ours.
pub(super) fn ids(header: &str) -> Vec<String> {
    let between = header.split('<').skip(1).filter_map(|it| Some(it.split_once('>')?.0.trim()));
    between.filter(|it| is_id(it)).take(IDS_MAX).map(str::to_owned).collect()
}

/// Whether `text` can stand in a header as one word.
pub(super) fn is_id(text: &str) -> bool {
    (1..=ID_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"\\".contains(&byte))
}

fn correspondent(from: &MailHeader<'_>) -> Option<Correspondent> {
    let one = addrparse_header(from).ok()?.extract_single_info()?;
    let address = address(&one.addr)?;
    let name = one.display_name.map(|it| visible::line(it.trim())).filter(|it| !it.is_empty());
    let name = name.map(|name| beginning(&name, NAME_MAX).to_owned());
    Some(Correspondent { address, name })
}

/// An address that mail can be sent to, in small letters.
pub(super) fn address(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = text.is_ascii() && text.len() <= twobox_shared::bounds::NAME.most;
    (fits && text.parse::<Address>().is_ok()).then(|| text.to_ascii_lowercase())
}

fn addresses(headers: &[MailHeader<'_>], name: &str) -> Vec<String> {
    let lists = all(headers, name).into_iter().filter_map(|it| addrparse_header(it).ok());
    let all = lists.flat_map(mailparse::MailAddrList::into_inner).flat_map(|one| match one {
        MailAddr::Single(one) => vec![one.addr],
        MailAddr::Group(group) => group.addrs.into_iter().map(|one| one.addr).collect(),
    });
    all.take(ADDRESSES_MAX).map(|it| it.trim().to_lowercase()).collect()
}

/// All headers of this name, from above.
pub(super) fn all<'a, 'b>(headers: &'a [MailHeader<'b>], name: &str) -> Vec<&'a MailHeader<'b>> {
    headers.iter().filter(|it| it.get_key_ref().eq_ignore_ascii_case(name)).collect()
}

pub(super) fn first<'a, 'b>(
    headers: &'a [MailHeader<'b>],
    name: &str,
) -> Option<&'a MailHeader<'b>> {
    headers.iter().find(|it| it.get_key_ref().eq_ignore_ascii_case(name))
}

/// A header as it stands, on one line. Nothing in it is decoded, so that nothing becomes more than it is.
pub(super) fn raw(header: &MailHeader<'_>) -> String {
    let text = String::from_utf8_lossy(header.get_value_raw());
    text.split(['\r', '\n']).map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use mailparse::parse_headers;

    use super::*;

    fn head(text: &str) -> Head {
        let text = text.replace('\n', "\r\n") + "\r\n\r\n";
        Head::of(&parse_headers(text.as_bytes()).unwrap().0)
    }

    #[test]
    fn who_has_written_is_one_or_nobody() {
        let one = head("From: =?utf-8?q?Ad=C3=A4?= <Ada@Example.org>").from.unwrap();
        assert_eq!((one.address.as_str(), one.name.as_deref()), ("ada@example.org", Some("Adä")));
        for nobody in [
            "From: a@x.org, b@x.org",
            "From: a@x.org\nFrom: b@x.org",
            "From: nobody",
            "From: <>",
            "From: ädä@x.org",
            "Subject: nothing",
            "From: g: a@x.org, b@x.org;",
        ] {
            assert_eq!(head(nobody).from, None, "{nobody}");
        }
        let long = head(&format!("From: {} <a@x.org>", "ä".repeat(400))).from.unwrap();
        assert!(long.name.unwrap().len() <= NAME_MAX);
    }

    #[test]
    fn a_thread_is_that_of_its_first_mail_and_of_ours() {
        let root = digest16("root@x");
        let ours = own_id("key", Some(&root), "bot.org");
        let begun = own_id("key", None, "bot.org");
        let cases = [
            ("alone", String::new(), digest16("self@x")),
            (
                "an answer",
                "References: <root@x> <b@x>\nIn-Reply-To: <b@x>".to_owned(),
                root.clone(),
            ),
            ("only that", "In-Reply-To: <root@x>".to_owned(), root.clone()),
            ("an answer to ours", format!("In-Reply-To: <{ours}>"), root.clone()),
            (
                "with all",
                format!("References: <root@x> <{ours}>\nIn-Reply-To: <{ours}>"),
                root.clone(),
            ),
            ("cut", format!("References: <mid@x> <{ours}>"), root),
            ("to one that we began", format!("In-Reply-To: <{begun}>"), digest16(&begun)),
            (
                "later in it",
                format!("References: <{begun}> <b@x>\nIn-Reply-To: <b@x>"),
                digest16(&begun),
            ),
            ("of another domain", format!("In-Reply-To: <{}>", own_id("k", None, "x.org")), {
                digest16(&own_id("k", None, "x.org"))
            }),
        ];
        for (case, text, expected) in cases {
            assert_eq!(head(&text).thread("self@x", "bot.org"), expected, "{case}");
        }
        assert_eq!(
            own_id("key", Some(&digest16("r")), "b"),
            own_id("key", Some(&digest16("r")), "b")
        );
        assert_ne!(own_id("key", None, "b"), own_id("other", None, "b"));
        assert!(
            own_id("k", Some("a\r\nBcc: x"), "b").ends_with(".new@b"),
            "a thread is nobody's text"
        );
    }

    #[test]
    fn what_is_no_id_is_none() {
        assert_eq!(ids("<a@b> (comment) <c d@e> <> <f\u{7}@g> <h@i"), ["a@b"]);
        assert!(ids(&format!("<{}>", "x".repeat(300))).is_empty());
        assert_eq!(handed("a.b@c").as_str(), "a.b@c");
        for odd in ["a/b@c", "a\\b@c", "..", "a%2Fb@c"] {
            let id = handed(odd);
            assert!(id.as_str().starts_with("mail-"), "{id}");
        }
    }

    #[test]
    fn a_subject_is_one_line() {
        let head =
            head("Subject: =?utf-8?q?one=0D=0ABcc:_x?= two\n three\nTo: A <a@x>, g: b@y;\nCc: C@Z");
        assert_eq!(head.subject, "one Bcc: x two three");
        assert_eq!(
            (head.to, head.cc),
            (vec!["a@x".to_owned(), "b@y".to_owned()], vec!["c@z".to_owned()])
        );
    }
}
