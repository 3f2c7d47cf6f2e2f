//! HTML that somebody else has made, as the text that its reader sees. It is not rendered, and nothing of it is
//! fetched or kept but words: links show where they lead. One pass, whatever it is given.

use super::beginning;

/// How deep what is not shown may be nested before it is taken for shown.
const HIDDEN_MAX: usize = 1000;

/// The longest tag, in bytes.
const TAG_MAX: usize = 8 << 10;

/// Elements of which nothing is shown.
const HIDDEN: [&str; 8] =
    ["head", "script", "style", "title", "template", "noscript", "svg", "iframe"];

/// Elements that begin a line.
const LINES: [&str; 15] = [
    "div", "tr", "li", "dt", "dd", "section", "article", "header", "footer", "figure", "form",
    "center", "address", "option", "main",
];

/// Elements with an empty line before and behind.
const BLOCKS: [&str; 13] =
    ["p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table", "pre", "blockquote", "hr"];

/// `html` as text.
pub fn plain(html: &str) -> String {
    let mut page = Page::default();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        page.text(&rest[..start]);
        rest = &rest[start..];
        if let Some(after) = rest.strip_prefix("<!--") {
            rest = after.find("-->").map_or("", |end| &after[end + 3..]);
            continue;
        }
        match tag(rest) {
            Some((tag, after)) => {
                page.tag(&tag);
                rest = skip_raw(&tag, after);
            }
            None => {
                page.text("<");
                rest = &rest[1..];
            }
        }
    }
    page.text(rest);
    page.text.trim().to_owned()
}

/// A tag.
#[derive(Debug, Default)]
struct Tag<'a> {
    /// In small letters.
    name: String,
    closes: bool,
    attributes: &'a str,
}

/// The tag that `text` begins with, and what follows it.
fn tag(text: &str) -> Option<(Tag<'_>, &str)> {
    let inner = text.strip_prefix('<')?;
    let (closes, inner) = match inner.strip_prefix('/') {
        Some(inner) => (true, inner),
        None => (false, inner),
    };
    if inner.starts_with(['!', '?']) {
        let end = near(inner).find('>')?;
        return Some((Tag::default(), &inner[end + 1..]));
    }
    let length = inner.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(inner.len());
    if !inner.starts_with(|c: char| c.is_ascii_alphabetic()) || length > 32 {
        return None;
    }
    let (name, attributes) = inner.split_at(length);
    let end = end_of(near(attributes))?;
    let name = name.to_ascii_lowercase();
    Some((Tag { name, closes, attributes: &attributes[..end] }, &attributes[end + 1..]))
}

/// As much of `text` as a tag may have: what is longer is none, so that no end is looked for again and again.
fn near(text: &str) -> &str {
    beginning(text, TAG_MAX)
}

/// Where a tag ends: a `>` in quotes does not end it.
fn end_of(attributes: &str) -> Option<usize> {
    // Where there is none, that is known before all is looked through for quotes. A quote that nobody closes does
    // not take all that follows.
    let first = attributes.find('>')?;
    let mut quote = None;
    for (index, byte) in attributes.bytes().enumerate() {
        match (byte, quote) {
            (b'>', None) => return Some(index),
            (b'"' | b'\'', None) if attributes[..index].trim_end().ends_with('=') => {
                quote = Some(byte)
            }
            (byte, Some(open)) if byte == open => quote = None,
            _ => {}
        }
    }
    Some(first)
}

/// Behind a tag whose element is no HTML, what follows that.
fn skip_raw<'a>(tag: &Tag<'_>, rest: &'a str) -> &'a str {
    if tag.closes || !["script", "style"].contains(&tag.name.as_str()) {
        return rest;
    }
    let end = rest.match_indices("</").map(|(index, _)| index).find(|index| {
        let name = rest.get(index + 2..index + 2 + tag.name.len());
        name.is_some_and(|name| name.eq_ignore_ascii_case(&tag.name))
    });
    end.map_or("", |end| &rest[end..])
}

/// What is made of it.
#[derive(Default)]
struct Page {
    text: String,
    hidden: usize,
    /// How many `pre` are open.
    kept: usize,
    quotes: usize,
    /// Where the link leads that is open, and where its text begins.
    link: Option<(String, usize)>,
    /// Whether a space is due before the next word.
    space: bool,
}

impl Page {
    fn text(&mut self, text: &str) {
        if self.hidden > 0 || text.is_empty() {
            return;
        }
        let text = entities(text);
        if self.kept > 0 {
            for (index, line) in text.split('\n').enumerate() {
                if index > 0 {
                    self.line();
                }
                self.begin_line();
                self.text.push_str(line.trim_end_matches('\r'));
            }
            return;
        }
        let is_space = |c: char| c.is_whitespace() && c != '\u{a0}';
        self.space |= text.starts_with(is_space);
        for word in text.split(is_space).filter(|word| !word.is_empty()) {
            self.begin_line();
            if self.space && !self.text.is_empty() && !self.text.ends_with(['\n', ' ']) {
                self.text.push(' ');
            }
            self.text.extend(word.chars().map(|c| if c == '\u{a0}' { ' ' } else { c }));
            self.space = true;
        }
        self.space = text.ends_with(is_space);
    }

    /// What stands at the beginning of each line of a quotation.
    fn begin_line(&mut self) {
        if self.quotes > 0 && (self.text.is_empty() || self.text.ends_with('\n')) {
            (0..self.quotes.min(5)).for_each(|_| self.text.push('>'));
            self.text.push(' ');
        }
    }

    /// A line ends here. No more than one is empty.
    fn line(&mut self) {
        self.space = false;
        self.text.truncate(self.text.trim_end_matches(' ').len());
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    /// What follows begins a line, behind an empty one if `apart`.
    fn begin(&mut self, apart: bool) {
        let end = if apart { "\n\n" } else { "\n" };
        while !self.text.trim_end_matches(' ').is_empty() && !self.text.ends_with(end) {
            self.line();
        }
        self.space = false;
    }

    fn tag(&mut self, tag: &Tag<'_>) {
        let name = tag.name.as_str();
        if HIDDEN.contains(&name) {
            self.hidden = match tag.closes {
                true => self.hidden.saturating_sub(1),
                false => (self.hidden + 1).min(HIDDEN_MAX),
            };
            return;
        }
        // A body that was never closed before shows all the same.
        if name == "body" {
            self.hidden = 0;
        }
        if self.hidden > 0 {
            return;
        }
        match name {
            "br" => self.line(),
            name if LINES.contains(&name) => self.begin(false),
            name if BLOCKS.contains(&name) => self.begin(true),
            _ => {}
        }
        let count = |open: usize| if tag.closes { open.saturating_sub(1) } else { open + 1 };
        match name {
            "pre" => self.kept = count(self.kept),
            "blockquote" => self.quotes = count(self.quotes),
            "li" if !tag.closes => {
                self.begin_line();
                self.text.push_str("- ");
            }
            "td" | "th" => self.space = true,
            "hr" => {
                self.text.push_str("---");
                self.begin(true);
            }
            "img" => {
                if let Some(alt) =
                    attribute(tag.attributes, "alt").filter(|it| !it.trim().is_empty())
                {
                    self.text(&format!(" [{}] ", alt.trim()));
                }
            }
            "a" => self.link(tag),
            _ => {}
        }
    }

    /// A link begins or ends. Where it leads is shown, unless its text is that.
    fn link(&mut self, tag: &Tag<'_>) {
        if let Some((target, begin)) = self.link.take() {
            let shown = self.text.get(begin..).unwrap_or_default().trim().to_owned();
            let bare = target.trim_start_matches("mailto:").trim_end_matches('/');
            if !shown.is_empty() && !bare.ends_with(shown.trim_end_matches('/')) {
                self.text.push_str(&format!(" <{target}>"));
            }
        }
        if !tag.closes {
            let target = attribute(tag.attributes, "href").unwrap_or_default();
            let leads = ["http://", "https://", "mailto:"].iter().any(|it| target.starts_with(it));
            let plain = !target.contains(char::is_whitespace) && target.len() <= 2000;
            self.link = (leads && plain).then_some((target, self.text.len()));
        }
    }
}

/// The value of an attribute.
fn attribute(attributes: &str, wanted: &str) -> Option<String> {
    let mut rest = attributes;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        let length = rest.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(rest.len());
        let (name, after) = rest.split_at(length);
        let after = after.trim_start();
        let Some(value) = after.strip_prefix('=') else {
            if name.is_empty() {
                return None;
            }
            rest = after;
            continue;
        };
        let value = value.trim_start();
        let (value, after) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => value[1..].split_once(quote).unwrap_or((&value[1..], "")),
            _ => value.split_at(value.find(char::is_whitespace).unwrap_or(value.len())),
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(entities(value));
        }
        rest = after;
    }
}

/// `text` with the characters that its entities stand for.
fn entities(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        // The longest names are shorter than that; so that a text of ampersands is read once.
        let near = beginning(rest, 32);
        let found = near.find(';').and_then(|end| Some((entity(&near[1..end])?, end + 1)));
        let (c, length) = found.unwrap_or(('&', 1));
        out.push(c);
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

fn entity(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => number.parse(),
        };
        return char::from_u32(code.ok()?);
    }
    const NAMES: [(&str, char); 48] = [
        ("amp", '&'),
        ("lt", '<'),
        ("gt", '>'),
        ("quot", '"'),
        ("apos", '\''),
        ("nbsp", '\u{a0}'),
        ("shy", '\u{ad}'),
        ("ndash", '–'),
        ("mdash", '—'),
        ("hellip", '…'),
        ("bull", '•'),
        ("middot", '·'),
        ("lsquo", '‘'),
        ("rsquo", '’'),
        ("sbquo", '‚'),
        ("ldquo", '“'),
        ("rdquo", '”'),
        ("bdquo", '„'),
        ("laquo", '«'),
        ("raquo", '»'),
        ("euro", '€'),
        ("pound", '£'),
        ("yen", '¥'),
        ("cent", '¢'),
        ("copy", '©'),
        ("reg", '®'),
        ("trade", '™'),
        ("deg", '°'),
        ("sect", '§'),
        ("para", '¶'),
        ("times", '×'),
        ("plusmn", '±'),
        ("auml", 'ä'),
        ("ouml", 'ö'),
        ("uuml", 'ü'),
        ("Auml", 'Ä'),
        ("Ouml", 'Ö'),
        ("Uuml", 'Ü'),
        ("szlig", 'ß'),
        ("eacute", 'é'),
        ("egrave", 'è'),
        ("agrave", 'à'),
        ("ccedil", 'ç'),
        ("ntilde", 'ñ'),
        ("rarr", '→'),
        ("larr", '←'),
        ("zwnj", '\u{200c}'),
        ("zwj", '\u{200d}'),
    ];
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, c)| *c)
}

#[cfg(test)]
#[path = "plain_tests.rs"]
mod tests;
