//! What a page of the web says, as text that a model reads well: no styles, no scripts, links as
//! `[words](address)`. It is meant for reading and not for showing: what is not understood is left out. Pure, and
//! its time grows with the page alone.

mod markup;

use self::markup::{attribute, past_the_end, tag};

/// Elements of which nothing is read.
const UNREAD: [&str; 7] = ["script", "style", "noscript", "template", "svg", "iframe", "object"];

/// Elements that begin a line of their own.
const BLOCKS: [&str; 36] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "br",
    "caption",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "legend",
    "li",
    "main",
    "nav",
    "ol",
    "p",
    "pre",
    "section",
    "table",
    "title",
    "tr",
    "ul",
];

/// The longest address of a link that is told, in bytes.
const LINK_MAX: usize = 300;

/// The longest name of a character, in bytes.
const NAME_MAX: usize = 10;

/// The text of a page.
pub(super) fn text(html: &str) -> String {
    let mut page = Page::default();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        page.words(&rest[..at]);
        rest = match tag(&rest[at..]) {
            Some((name, inner, behind)) => {
                page.tag(name, inner);
                let name = name.to_ascii_lowercase();
                match UNREAD.contains(&name.as_str()) && !inner.ends_with('/') {
                    true => past_the_end(behind, &name),
                    false => behind,
                }
            }
            None => {
                page.words("<");
                &rest[at + 1..]
            }
        };
    }
    page.words(rest);
    page.end()
}

/// A page that is read.
#[derive(Default)]
struct Page {
    text: String,
    /// Whether white space stands as it is.
    kept: usize,
    /// Where the link leads whose words are read, and where in the text those begin. No link is in another.
    link: Option<(String, usize)>,
    gap: bool,
}

impl Page {
    fn words(&mut self, raw: &str) {
        let words = decoded(raw);
        if self.kept > 0 {
            self.text.push_str(&words);
            return;
        }
        for word in words.split_inclusive(char::is_whitespace) {
            let plain = word.trim_end();
            if !plain.is_empty() {
                self.space();
                self.text.push_str(plain);
            }
            self.gap |= plain.len() < word.len();
        }
    }

    fn space(&mut self) {
        if std::mem::take(&mut self.gap)
            && !self.text.is_empty()
            && !self.text.ends_with(['\n', ' '])
        {
            self.text.push(' ');
        }
    }

    fn tag(&mut self, name: &str, inner: &str) {
        let lower = name.to_ascii_lowercase();
        let plain = lower.strip_prefix('/').unwrap_or(&lower);
        if BLOCKS.contains(&plain) {
            self.line();
        }
        match lower.as_str() {
            "li" => self.text.push_str("- "),
            "h1" | "title" => self.text.push_str("# "),
            "h2" | "h3" | "h4" | "h5" | "h6" => self.text.push_str("## "),
            "td" | "th" => {
                self.gap = true;
                if !self.text.is_empty() && !self.text.ends_with('\n') {
                    self.text.push_str(" |");
                }
            }
            "p" | "/p" | "/h1" | "/h2" | "/title" => self.paragraph(),
            "pre" => self.kept += 1,
            "/pre" => self.kept = self.kept.saturating_sub(1),
            "img" => {
                if let Some(says) = attribute(inner, "alt").filter(|it| !it.trim().is_empty()) {
                    self.words(&format!(" (picture: {says}) "));
                }
            }
            "a" => {
                self.end_link();
                self.space();
                let leads = attribute(inner, "href").map(decoded).unwrap_or_default();
                let told = !leads.starts_with(['#']) && !leads.starts_with("javascript:");
                let leads = if told && leads.len() <= LINK_MAX { leads } else { String::new() };
                self.link = Some((leads, self.text.len()));
            }
            "/a" => self.end_link(),
            _ => {}
        }
    }

    fn end_link(&mut self) {
        let Some((leads, begun)) = self.link.take() else { return };
        // What stands there was perhaps shortened since.
        let said = self.text.get(begun..).is_some_and(|it| !it.trim().is_empty());
        if said && !leads.is_empty() {
            self.text.insert(begun, '[');
            self.text.push_str("](");
            self.text.push_str(leads.trim());
            self.text.push(')');
        }
    }

    fn line(&mut self) {
        self.gap = false;
        self.text.truncate(self.text.trim_end_matches([' ', '\t']).len());
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    fn paragraph(&mut self) {
        self.line();
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    fn end(mut self) -> String {
        self.line();
        self.text.truncate(self.text.trim_end().len());
        self.text
    }
}

/// `raw` with its characters for their names.
fn decoded(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('&') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let end = rest.bytes().take(NAME_MAX).position(|byte| byte == b';');
        match end.and_then(|end| Some((named(&rest[..end])?, end))) {
            Some((character, end)) => {
                text.push(character);
                rest = &rest[end + 1..];
            }
            None => text.push('&'),
        }
    }
    text.push_str(rest);
    text
}

fn named(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code).filter(|it| !it.is_control() || *it == '\n');
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "ndash" => '\u{2013}',
        "mdash" => '\u{2014}',
        "hellip" => '\u{2026}',
        "lsquo" => '\u{2018}',
        "rsquo" => '\u{2019}',
        "ldquo" => '\u{201c}',
        "rdquo" => '\u{201d}',
        "laquo" => '\u{ab}',
        "raquo" => '\u{bb}',
        "middot" => '\u{b7}',
        "bull" => '\u{2022}',
        "copy" => '\u{a9}',
        "euro" => '\u{20ac}',
        "auml" => 'ä',
        "ouml" => 'ö',
        "uuml" => 'ü',
        "Auml" => 'Ä',
        "Ouml" => 'Ö',
        "Uuml" => 'Ü',
        "szlig" => 'ß',
        "eacute" => 'é',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_a_person_would() {
        let html = "<!DOCTYPE html><html><head><title>A &amp; B</title><style>p{}</style>\
            <script>if (a < b) document.write('<p>no</p>')</script></head><body>\n\
            <h1>Head</h1><p>One  <b>two</b>\n three.</p><p>A <a class=x href='/x?a=1&amp;b=2'>link</a>, \
            an <a href=\"#here\">anchor</a>.<br/>New line &lt;tag&gt; &#8364;&#x41; &unknown; AT&T</p>\
            <ul><li>first<li>second</ul><!-- <p>hidden</p> -->\
            <table><tr><td>1</td><td>2</td></tr></table><img alt=\"a cat\" src=x><pre>a\n  b</pre>\
            <SCRIPT >x</ScRiPt>5 < 6";
        let expected = "# A & B\n\n# Head\n\nOne two three.\n\nA [link](/x?a=1&b=2), an anchor.\nNew line <tag> \
            \u{20ac}A &unknown; AT&T\n\n- first\n- second\n1 | 2\n(picture: a cat)\na\n  b\n5 < 6";
        assert_eq!(text(html), expected);
    }

    #[test]
    fn what_is_no_page_is_read_all_the_same() {
        let cases = [
            ("", ""),
            ("just words", "just words"),
            ("<", "<"),
            ("<p", ""),
            ("a<!-- never closed", "a"),
            ("a<script>never closed", "a"),
            ("<a href=\"x>never closed</a> b", "[never closed](x) b"),
            ("</a></pre>b", "b"),
            ("<a href=x></a>b", "b"),
            ("<p title='a>b'>c", "c"),
            ("&", "&"),
            ("&#xD800;&#1;", "&#xD800;&#1;"),
            ("<é>", "<é>"),
            ("</é>a", "a"),
        ];
        for (html, expected) in cases {
            assert_eq!(text(html), expected, "{html}");
        }
    }

    #[test]
    fn a_page_that_means_ill_takes_time_by_its_length_alone() {
        for part in
            ["<", "<a>", "</a", "<script>", "<!--", "&", "<p x=", "<a href='", "<pre>", "<li>a "]
        {
            let page = part.repeat((1 << 20) / part.len());
            assert!(text(&page).len() <= 4 * page.len(), "{part}");
        }
        let nested = format!("{}words{}", "<a href=x>".repeat(1 << 17), "</a>".repeat(1 << 17));
        assert_eq!(text(&nested), "[words](x)");
    }
}
