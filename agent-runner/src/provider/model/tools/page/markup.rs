//! Tags: where one ends, and what is in it. As the tokenizer of HTML does, but that a quote which was forgotten
//! takes nothing with it: what is lost is an attribute, and not the rest of the page.
//!
//! Source: "tokenization" in <https://html.spec.whatwg.org/multipage/parsing.html>.

/// The tag at the beginning of `text`: its name (with `/` before that of an end), what else is in it, and what is
/// behind it. A comment is a tag without a name.
pub(super) fn tag(text: &str) -> Option<(&str, &str, &str)> {
    if let Some(comment) = text.strip_prefix("<!--") {
        let behind = comment.find("-->").map_or("", |at| &comment[at + 3..]);
        return Some(("", "", behind));
    }
    let inner = &text[1..];
    if !inner.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?')) {
        return None;
    }
    let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '>');
    let length = inner[1..].find(ends).map_or(inner.len(), |at| at + 1);
    let (name, rest) = inner.split_at(length);
    let (inner, behind) = match end(rest) {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, ""),
    };
    Some((name, inner, behind))
}

/// What is behind the end of the element `name`.
pub(super) fn past_the_end<'a>(text: &'a str, name: &str) -> &'a str {
    let mut rest = text;
    while let Some(at) = rest.find("</") {
        rest = &rest[at + 2..];
        if rest.get(..name.len()).is_some_and(|it| it.eq_ignore_ascii_case(name)) {
            return rest.find('>').map_or("", |at| &rest[at + 1..]);
        }
    }
    ""
}

/// The value of the attribute `name` in a tag.
pub(super) fn attribute<'a>(inner: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = inner;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        let end = rest.find(|c: char| c.is_whitespace() || c == '=')?;
        let (own, behind) = (&rest[..end], rest[end..].trim_start());
        let Some(value) = behind.strip_prefix('=') else {
            rest = behind;
            continue;
        };
        let value = value.trim_start();
        let (value, behind) = match value.chars().next()? {
            quote @ ('"' | '\'') => {
                let value = &value[1..];
                match close(value, quote) {
                    Some(end) => (&value[..end], &value[end + 1..]),
                    None => split(value),
                }
            }
            _ => split(value),
        };
        if own.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = behind;
    }
}

/// A value without quotes, and what is behind it.
fn split(value: &str) -> (&str, &str) {
    value.split_at(value.find(char::is_whitespace).unwrap_or(value.len()))
}

/// Where in a tag one is.
enum Place {
    Between,
    Name,
    BehindName,
    BeforeValue,
    Value,
}

/// Where the tag ends in whose attributes `rest` begins. A quote is one only where a value begins.
fn end(rest: &str) -> Option<usize> {
    let (mut place, mut at) = (Place::Between, 0);
    let bytes = rest.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        let is_space = byte.is_ascii_whitespace();
        place = match (place, byte) {
            (_, b'>') => return Some(at),
            (Place::BeforeValue, quote @ (b'"' | b'\'')) => {
                match close(&rest[at + 1..], char::from(quote)) {
                    Some(length) => {
                        at += length + 1;
                        Place::Between
                    }
                    None => Place::Value,
                }
            }
            (Place::Name | Place::BehindName, b'=') => Place::BeforeValue,
            (Place::Name | Place::BehindName, b'/') => Place::Between,
            (Place::Name, _) if is_space => Place::BehindName,
            (Place::Value, _) if is_space => Place::Between,
            (stays @ (Place::Between | Place::BehindName | Place::BeforeValue), _) if is_space => {
                stays
            }
            (Place::Between, b'/') => Place::Between,
            (Place::Between | Place::Name | Place::BehindName, _) => Place::Name,
            (Place::BeforeValue | Place::Value, _) => Place::Value,
        };
        at += 1;
    }
    None
}

/// Where the `quote` is that closes a value; `None` if it was forgotten: there is none, or it opens the value of
/// another tag, which something stands behind and that tag's beginning before.
fn close(value: &str, quote: char) -> Option<usize> {
    let end = value.find(quote)?;
    let behind = value[end + 1..].chars().next();
    let closes = behind.is_none_or(|c| c.is_whitespace() || matches!(c, '/' | '>'));
    (closes || !value[..end].contains('<')).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_ends_where_it_does_whatever_its_quotes_are() {
        let cases = [
            ("<p title='a>b'>c", "c"),
            ("<p title = \"a>b\" >c", "c"),
            ("<p title=don't>c", "c"),
            ("<p don't>c 'd'>e", "c 'd'>e"),
            ("<p \">c\">d", "c\">d"),
            ("<p class=a\"b>c\">d", "c\">d"),
            ("<p class=\"a\"\">c\">d", "c\">d"),
            ("<a href=\"x>never closed", "never closed"),
            ("<a href=\"x>one</a> two <a href=\"y\">three", "one</a> two <a href=\"y\">three"),
            ("<p title=\"a > b\"class=x>c", "c"),
            ("<br/>c", "c"),
            ("<p/class=x>c", "c"),
            ("<p", ""),
            ("</p  x='>'>c", "c"),
        ];
        for (text, behind) in cases {
            assert_eq!(tag(text).map(|(_, _, behind)| behind), Some(behind), "{text}");
        }
    }

    #[test]
    fn the_value_of_an_attribute_is_found_beside_strange_ones() {
        let cases = [
            (" class=x href='/y?a=1'", Some("/y?a=1")),
            (" class=\"x\"\" href=\"y\"", Some("y")),
            (" title=don't HREF=y", Some("y")),
            (" class=\"x\"href=\"y\"", Some("y")),
            (" href=\"x", Some("x")),
            (" href='x y=z", Some("x")),
            (" = href=y", None),
            (" href=", None),
            (" href", None),
            (" xhref=y", None),
        ];
        for (inner, value) in cases {
            assert_eq!(attribute(inner, "href"), value, "{inner}");
        }
    }
}
