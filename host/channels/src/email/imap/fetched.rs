//! What a server tells of mails that it was asked for. Pure.

use mailparse::dateparse;
use twobox_shared::time::UnixMillis;

use super::syntax::Value;

/// The head of a mail in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::email) struct Mail {
    pub(in crate::email) uid: u32,
    /// How many bytes it has.
    pub(in crate::email) size: u32,
    /// When the server got it.
    pub(in crate::email) got: Option<UnixMillis>,
    /// Its headers, or as much of them as is read.
    pub(in crate::email) head: Vec<u8>,
}

/// The mail with this number, if that is told.
pub(super) fn content(values: &[Value], uid: u32) -> Option<Vec<u8>> {
    let items = fetched(values)?;
    (item(items, "UID")?.number()? == uid).then(|| text_of(items, "BODY[]"))?
}

/// What is told of one mail.
fn fetched(values: &[Value]) -> Option<&[Value]> {
    match values {
        [_, word, Value::List(items)] if word.is("FETCH") => Some(items),
        _ => None,
    }
}

fn item<'a>(items: &'a [Value], name: &str) -> Option<&'a Value> {
    let at = items.iter().step_by(2).position(|it| {
        it.atom()
            .is_some_and(|it| it.split('<').next().unwrap_or_default().eq_ignore_ascii_case(name))
    })?;
    items.get(at * 2 + 1)
}

fn text_of(items: &[Value], name: &str) -> Option<Vec<u8>> {
    match item(items, name)? {
        Value::Text(bytes) => Some(bytes.clone()),
        Value::Atom(_) | Value::List(_) => None,
    }
}

/// The head of a mail, if one is told.
pub(super) fn mail(values: &[Value]) -> Option<Mail> {
    let items = fetched(values)?;
    let date = text_of(items, "INTERNALDATE").map(|it| String::from_utf8_lossy(&it).into_owned());
    Some(Mail {
        uid: item(items, "UID")?.number()?,
        size: item(items, "RFC822.SIZE").and_then(Value::number).unwrap_or_default(),
        got: date.and_then(|it| internal_date(&it)),
        head: text_of(items, "BODY[HEADER]")?,
    })
}

/// A date such as ` 1-Dec-2026 10:00:00 +0000`.
fn internal_date(text: &str) -> Option<UnixMillis> {
    let text = text.trim().replacen('-', " ", 2);
    Some(UnixMillis(dateparse(&text).ok()?.checked_mul(1000)?))
}

#[cfg(test)]
mod tests {
    use super::super::syntax::{self, Response};
    use super::*;

    #[test]
    fn a_mail_is_read_whatever_the_order_of_its_items() {
        let text = "* 3 FETCH (BODY[HEADER]<0> {4}\r\nA: b INTERNALDATE \" 1-Dec-2026 10:00:00 +0100\" UID 7 RFC822.SIZE 9)\r\n";
        let Ok(Response::Data(values)) = syntax::read(text.as_bytes()) else { panic!("{text}") };
        let read = mail(&values).unwrap();
        assert_eq!((read.uid, read.size, read.head.as_slice()), (7, 9, b"A: b".as_slice()));
        assert_eq!(read.got.unwrap().to_rfc3339(), "2026-12-01T09:00:00.000Z");
        assert_eq!(mail(&[Value::Atom("3".into()), Value::Atom("FETCH".into())]), None);
    }
}
