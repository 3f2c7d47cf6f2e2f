//! Markdown as lines of IRC: short, without a break in them, and with the few marks that clients show (bold and
//! italic). A line is cut between words, else between characters; what is bold before a cut is so behind it.
//!
//! Source: <https://modern.ircdocs.horse/formatting>.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::split::together;

/// The mark that makes what follows bold, or ends that.
const BOLD: char = '\u{2}';
/// The mark that makes what follows italic, or ends that.
const ITALIC: char = '\u{1d}';

/// The most bytes before the words of a line that is in quotes and lists.
const MARGIN_MAX: usize = 32;

/// How wide a tab is.
const TAB: &str = "    ";

/// `markdown` as lines of at most `most` bytes each, none of which is empty. `most` is well above [`MARGIN_MAX`].
pub fn lines(markdown: &str, most: usize) -> Vec<String> {
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut page = Page { most, ..Page::default() };
    for event in Parser::new_ext(markdown, options) {
        page.take(event);
    }
    page.end_line();
    page.lines
}

/// `text` without marks, colours and other controls, as people read it who see none.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            // A colour, and perhaps one behind it: `\x03FG,BG`, with one or two digits each.
            '\u{3}' => skip_colour(&mut rest, 2, char::is_ascii_digit),
            // The same with six digits of base sixteen.
            '\u{4}' => skip_colour(&mut rest, 6, char::is_ascii_hexdigit),
            '\t' => plain.push('\t'),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

fn skip_colour(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    most: usize,
    is_digit: fn(&char) -> bool,
) {
    let number = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| {
        (0..most).take_while(|_| rest.next_if(is_digit).is_some()).count()
    };
    if number(rest) == 0 {
        return;
    }
    let mut ahead = rest.clone();
    if ahead.next() == Some(',') && ahead.next().is_some_and(|c| is_digit(&c)) {
        rest.next();
        number(rest);
    }
}

/// How a character is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Style {
    bold: bool,
    italic: bool,
}

/// What a line stands in, from the outside in.
#[derive(Debug)]
enum Margin {
    Quote,
    /// An item, with what its first line begins with until that was said.
    Item {
        width: usize,
        mark: Option<String>,
    },
}

/// What is made of the events.
#[derive(Debug, Default)]
struct Page {
    most: usize,
    lines: Vec<String>,
    /// The line that is being written.
    line: Vec<(char, Style)>,
    margins: Vec<Margin>,
    /// The number of the next item of each list that is open; `None` where they have none.
    lists: Vec<Option<u64>>,
    bold: usize,
    italic: usize,
    /// Where the links that are open lead, and where in the line each begins.
    links: Vec<(String, usize)>,
    in_code: bool,
    /// How many cells the row has that is being written.
    cells: usize,
}

impl Page {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => self.text(&text),
            Event::Code(code) => {
                // It keeps its marks: no client shows code as such.
                let ticks = "`".repeat(longest_run(&code) + 1);
                self.text(&format!("{ticks}{code}{ticks}"));
            }
            Event::SoftBreak | Event::HardBreak => self.end_line(),
            Event::Rule => {
                self.end_line();
                self.text("───");
                self.end_line();
            }
            Event::TaskListMarker(done) => self.text(if done { "[x] " } else { "[ ] " }),
            Event::FootnoteReference(text) | Event::InlineMath(text) | Event::DisplayMath(text) => {
                self.text(&text);
            }
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Paragraph | Tag::HtmlBlock => self.end_line(),
            Tag::Heading { .. } => {
                self.end_line();
                self.bold += 1;
            }
            Tag::BlockQuote(_) => {
                self.end_line();
                self.margins.push(Margin::Quote);
            }
            Tag::CodeBlock(_) => {
                self.end_line();
                self.in_code = true;
            }
            Tag::List(first) => {
                self.end_line();
                self.lists.push(first);
            }
            Tag::Item => {
                self.end_line();
                let mark = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        let mark = format!("{number}. ");
                        *number = number.saturating_add(1);
                        mark
                    }
                    Some(None) | None => "- ".to_owned(),
                };
                self.margins.push(Margin::Item { width: mark.len(), mark: Some(mark) });
            }
            Tag::TableHead => {
                self.end_line();
                self.cells = 0;
                self.bold += 1;
            }
            Tag::TableRow => {
                self.end_line();
                self.cells = 0;
            }
            Tag::TableCell => {
                if self.cells > 0 {
                    self.text(" | ");
                }
                self.cells += 1;
            }
            Tag::Emphasis => self.italic += 1,
            Tag::Strong => self.bold += 1,
            Tag::Strikethrough => self.text("~~"),
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                self.links.push((dest_url.into_string(), self.line.len()));
            }
            Tag::Table(_)
            | Tag::FootnoteDefinition(_)
            | Tag::DefinitionList
            | Tag::DefinitionListTitle
            | Tag::DefinitionListDefinition
            | Tag::Superscript
            | Tag::Subscript
            | Tag::MetadataBlock(_) => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) | TagEnd::TableHead => {
                self.end_line();
                self.bold -= 1;
            }
            TagEnd::BlockQuote(_) | TagEnd::Item => {
                self.end_line();
                self.margins.pop();
            }
            TagEnd::CodeBlock => {
                self.end_line();
                self.in_code = false;
            }
            TagEnd::List(_) => {
                self.lists.pop();
            }
            TagEnd::Paragraph | TagEnd::HtmlBlock | TagEnd::TableRow => self.end_line(),
            TagEnd::Emphasis => self.italic -= 1,
            TagEnd::Strong => self.bold -= 1,
            TagEnd::Strikethrough => self.text("~~"),
            TagEnd::Link | TagEnd::Image => self.end_link(),
            TagEnd::Table
            | TagEnd::TableCell
            | TagEnd::FootnoteDefinition
            | TagEnd::DefinitionList
            | TagEnd::DefinitionListTitle
            | TagEnd::DefinitionListDefinition
            | TagEnd::Superscript
            | TagEnd::Subscript
            | TagEnd::MetadataBlock(_) => {}
        }
    }

    /// Says where a link leads, unless that is what stands there.
    fn end_link(&mut self) {
        let Some((to, begin)) = self.links.pop() else { return };
        // The line may have ended in the middle of it.
        let shown: String =
            self.line.get(begin..).unwrap_or_default().iter().map(|(c, _)| c).collect();
        if to.is_empty() || shown == to || to.strip_prefix("mailto:") == Some(&shown) {
            return;
        }
        match shown.is_empty() {
            true => self.text(&to),
            false => self.text(&format!(" ({to})")),
        }
    }

    fn text(&mut self, text: &str) {
        let style = Style { bold: self.bold > 0, italic: self.italic > 0 };
        for c in text.chars() {
            match c {
                '\n' => self.end_line(),
                '\r' => {}
                '\t' => self.line.extend(TAB.chars().map(|c| (c, style))),
                // A control is a mark, or worse.
                c if c.is_control() => self.line.push((char::REPLACEMENT_CHARACTER, style)),
                c => self.line.push((c, style)),
            }
        }
    }

    /// What stands before a line: `is_first` of those that it is cut into, or not.
    fn margin(&mut self) -> String {
        let mut margin = String::new();
        for one in &mut self.margins {
            match one {
                Margin::Quote => margin.push_str("> "),
                Margin::Item { width, mark } => match mark.take() {
                    Some(mark) => margin.push_str(&mark),
                    None => margin.push_str(&" ".repeat(*width)),
                },
            }
        }
        if margin.len() > MARGIN_MAX {
            // The innermost says most.
            margin = margin.split_off(margin.len() - MARGIN_MAX);
        }
        margin
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let blank = line.iter().all(|(c, _)| c.is_whitespace());
        let end = line.iter().rposition(|(c, _)| !c.is_whitespace()).map_or(0, |at| at + 1);
        let begin = match self.in_code {
            true => 0,
            false => line.iter().position(|(c, _)| !c.is_whitespace()).unwrap_or(0),
        };
        if blank {
            return;
        }
        let mut rest = &line[begin..end];
        while !rest.is_empty() {
            let margin = self.margin();
            let (cut, next) = cut(rest, self.most.saturating_sub(margin.len()));
            self.lines.push(format!("{margin}{}", encoded(&rest[..cut])));
            rest = &rest[next..];
        }
    }
}

/// How much of `rest` goes into a line of `most` bytes, and where the next begins. One character at least.
fn cut(rest: &[(char, Style)], most: usize) -> (usize, usize) {
    let (mut length, mut before) = (0, Style::default());
    let mut fits = 0;
    for (c, style) in rest {
        length += marks(before, *style).count() + c.len_utf8();
        if length > most {
            break;
        }
        before = *style;
        fits += 1;
    }
    if fits == rest.len() {
        return (fits, fits);
    }
    // A space that does not fit any more is a cut as well.
    let space = rest[..=fits].iter().rposition(|(c, _)| *c == ' ');
    let word = space.filter(|at| rest[..*at].iter().any(|(c, _)| *c != ' '));
    if let Some(at) = word {
        let next = rest[at..].iter().position(|(c, _)| *c != ' ').map_or(rest.len(), |it| at + it);
        return (at, next);
    }
    let text: String = rest.iter().take(fits + 1).map(|(c, _)| c).collect();
    let end = rest[..fits].iter().map(|(c, _)| c.len_utf8()).sum();
    let whole = text[..together(&text, end)].chars().count().max(1);
    (whole, whole)
}

/// The marks between a character that is shown so and one that is shown otherwise.
fn marks(before: Style, after: Style) -> impl Iterator<Item = char> {
    let bold = (before.bold != after.bold).then_some(BOLD);
    let italic = (before.italic != after.italic).then_some(ITALIC);
    bold.into_iter().chain(italic)
}

/// As it is sent. What is bold at the end of a line is so no more in the next, without a word.
fn encoded(line: &[(char, Style)]) -> String {
    let mut text = String::new();
    let mut before = Style::default();
    for (c, style) in line {
        text.extend(marks(before, *style));
        text.push(*c);
        before = *style;
    }
    text
}

/// The longest run of backticks in `code`.
fn longest_run(code: &str) -> usize {
    code.split(|c| c != '`').map(str::len).max().unwrap_or_default()
}

#[cfg(test)]
#[path = "irc_tests.rs"]
mod tests;
