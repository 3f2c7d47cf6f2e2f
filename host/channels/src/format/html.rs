//! Markdown as the HTML that Matrix clients show: the tags and attributes that its specification lists, and
//! no others. Whatever else stands in the text, HTML above all, is shown as the text that it is.
//!
//! Source: "m.room.message msgtypes" in <https://spec.matrix.org/v1.16/client-server-api/>.

use std::fmt::Write;

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// How many tags may be open at once. Clients leave out what is deeper than a hundred.
const DEPTH_MAX: usize = 60;

/// How many tags a table is deep.
const TABLE_DEPTH: usize = 3;

/// The longest name of a language beside a block of code, in bytes.
const LANGUAGE_MAX: usize = 32;

/// Where links may lead.
const SCHEMES: [&str; 3] = ["https://", "http://", "mailto:"];

/// `markdown` as HTML; `None` if it is plain text, which needs none.
pub fn html(markdown: &str) -> Option<String> {
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut page = Page::default();
    for event in Parser::new_ext(markdown, options) {
        page.take(event);
    }
    let says_more = page.is_rich || page.plain.trim() != normal(markdown).trim();
    says_more.then_some(page.html)
}

/// The text as a reader of plain text has it: breaks without spaces around them, and one empty line at most.
fn normal(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    for line in text.lines().map(str::trim) {
        if !(line.is_empty() && normal.ends_with("\n\n")) {
            normal.push_str(line);
            normal.push('\n');
        }
    }
    normal
}

/// What is made of the events.
#[derive(Default)]
struct Page {
    html: String,
    /// The same without any tag, to see whether there is more to it.
    plain: String,
    is_rich: bool,
    /// What closes each tag that is open.
    open: Vec<&'static str>,
    in_head: bool,
    in_link: bool,
    /// A table too deep to be shown as one.
    is_flat: bool,
}

impl Page {
    fn take(&mut self, event: Event<'_>) {
        self.is_rich |= match &event {
            Event::Start(tag) => !matches!(tag, Tag::Paragraph),
            Event::End(_) | Event::Text(_) | Event::SoftBreak | Event::HardBreak => false,
            _ => true,
        };
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => self.text(&text),
            Event::Code(code) => {
                self.html.push_str("<code>");
                self.text(&code);
                self.html.push_str("</code>");
            }
            // People write a line below the other where they want one.
            Event::SoftBreak | Event::HardBreak => {
                self.html.push_str("<br>");
                self.plain.push('\n');
            }
            Event::Rule => self.html.push_str("<hr>"),
            Event::TaskListMarker(done) => self.text(if done { "☑ " } else { "☐ " }),
            // Nobody asked for these.
            Event::FootnoteReference(text) | Event::InlineMath(text) | Event::DisplayMath(text) => {
                self.text(&text);
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.plain.push_str(text);
        escape(text, &mut self.html);
    }

    fn start(&mut self, tag: Tag<'_>) {
        let deep = self.open.len() >= DEPTH_MAX;
        let close = match tag {
            _ if deep => "",
            // What is in a table is shown as all of it is.
            Tag::Table(_) if self.open.len() + TABLE_DEPTH > DEPTH_MAX => {
                self.is_flat = true;
                ""
            }
            Tag::TableHead | Tag::TableRow | Tag::TableCell if self.is_flat => "",
            Tag::Paragraph => self.open("<p>", "</p>"),
            Tag::Heading { level, .. } => {
                let (open, close) = heading(level);
                self.open(open, close)
            }
            Tag::BlockQuote(_) => self.open("<blockquote>", "</blockquote>"),
            Tag::CodeBlock(kind) => {
                match kind {
                    CodeBlockKind::Fenced(info) if language(&info).is_some() => {
                        let language = language(&info).unwrap_or_default();
                        write!(self.html, "<pre><code class=\"language-{language}\">").ok();
                    }
                    CodeBlockKind::Fenced(_) | CodeBlockKind::Indented => {
                        self.html.push_str("<pre><code>");
                    }
                }
                "</code></pre>"
            }
            // It is shown as text, and a block of its own.
            Tag::HtmlBlock => self.open("<p>", "</p>"),
            Tag::List(None) => self.open("<ul>", "</ul>"),
            Tag::List(Some(1)) => self.open("<ol>", "</ol>"),
            Tag::List(Some(start)) => {
                write!(self.html, "<ol start=\"{start}\">").ok();
                "</ol>"
            }
            Tag::Item => self.open("<li>", "</li>"),
            Tag::Table(_) => self.open("<table>", "</tbody></table>"),
            Tag::TableHead => {
                self.in_head = true;
                self.open("<thead><tr>", "</tr></thead><tbody>")
            }
            Tag::TableRow => self.open("<tr>", "</tr>"),
            Tag::TableCell if self.in_head => self.open("<th>", "</th>"),
            Tag::TableCell => self.open("<td>", "</td>"),
            Tag::Emphasis => self.open("<em>", "</em>"),
            Tag::Strong => self.open("<strong>", "</strong>"),
            Tag::Strikethrough => self.open("<del>", "</del>"),
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => self.link(&dest_url),
            Tag::FootnoteDefinition(_)
            | Tag::DefinitionList
            | Tag::DefinitionListTitle
            | Tag::DefinitionListDefinition
            | Tag::Superscript
            | Tag::Subscript
            | Tag::MetadataBlock(_) => "",
        };
        self.open.push(close);
    }

    fn open(&mut self, open: &str, close: &'static str) -> &'static str {
        self.html.push_str(open);
        close
    }

    /// A picture is a link to it: only what the homeserver itself has could be shown in its place.
    fn link(&mut self, to: &str) -> &'static str {
        let lower = to.get(..8).unwrap_or(to).to_ascii_lowercase();
        let may = SCHEMES.iter().any(|scheme| lower.starts_with(scheme));
        if !may || self.in_link {
            return "";
        }
        self.in_link = true;
        self.html.push_str("<a href=\"");
        escape(to, &mut self.html);
        self.html.push_str("\">");
        "</a>"
    }

    fn end(&mut self, tag: TagEnd) {
        let close = self.open.pop().unwrap_or_default();
        self.html.push_str(close);
        match tag {
            TagEnd::Paragraph => self.plain.push_str("\n\n"),
            TagEnd::TableHead => self.in_head = false,
            TagEnd::Table => self.is_flat = false,
            TagEnd::Link | TagEnd::Image if !close.is_empty() => self.in_link = false,
            _ => {}
        }
    }
}

const fn heading(level: HeadingLevel) -> (&'static str, &'static str) {
    match level {
        HeadingLevel::H1 => ("<h1>", "</h1>"),
        HeadingLevel::H2 => ("<h2>", "</h2>"),
        HeadingLevel::H3 => ("<h3>", "</h3>"),
        HeadingLevel::H4 => ("<h4>", "</h4>"),
        HeadingLevel::H5 => ("<h5>", "</h5>"),
        HeadingLevel::H6 => ("<h6>", "</h6>"),
    }
}

/// The language of a block of code, if its first word can be one.
fn language(info: &str) -> Option<&str> {
    let word = info.split([' ', ',', '\t']).next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_+-#.".contains(c);
    (!word.is_empty() && word.len() <= LANGUAGE_MAX && word.chars().all(plain)).then_some(word)
}

/// Writes `text` so that no HTML is in it.
fn escape(text: &str, html: &mut String) {
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            c => html.push(c),
        }
    }
}

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
