//! Markdown as plain text with marks beside it, which say where something is bold, code, a link: as Telegram
//! has it. Nothing in the text has to be escaped, and no text can make a mark that is not ours.
//!
//! Marks lie within each other or apart. None lies in code, and no quote or link in another one.
//!
//! Source: "MessageEntity" and "Formatting options" in <https://core.telegram.org/bots/api>.

use std::fmt::Write;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// How deep lists are shown; what is deeper stands below that.
const DEPTH_MAX: usize = 8;

/// The longest name of a language beside a block of code, in bytes.
const LANGUAGE_MAX: usize = 32;

/// The longest address of a link, in bytes: of a longer one the text alone is shown.
const ADDRESS_MAX: usize = 2048;

/// Text with its marks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rich {
    /// The text, which begins and ends with something that is seen.
    pub text: String,
    /// What is marked of it, by where it begins.
    pub marks: Vec<Mark>,
}

/// A piece of a text that is shown in its own way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// How.
    pub kind: Kind,
    /// Where it begins, in units of UTF-16.
    pub offset: usize,
    /// How long it is, in units of UTF-16.
    pub length: usize,
}

/// How a piece of a text is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// In bold.
    Bold,
    /// In italics.
    Italic,
    /// Struck through.
    Struck,
    /// As code, in the line.
    Code,
    /// As a block of code, in a language if one is named.
    Block(Option<String>),
    /// As a link to this address.
    Link(String),
    /// As something that is quoted.
    Quote,
}

impl Kind {
    /// Whether it may lie in another of its own sort, or be cut in two by code.
    const fn is_light(&self) -> bool {
        matches!(self, Self::Bold | Self::Italic | Self::Struck)
    }
}

/// How many units of UTF-16 `text` has.
pub fn utf16_len(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// `markdown` as text with marks.
pub fn rich(markdown: &str) -> Rich {
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut page = Page::default();
    for event in Parser::new_ext(markdown, options) {
        page.take(event);
    }
    page.finish()
}

/// Something that was begun.
struct Open {
    /// How it is shown; `None` if as everything else.
    kind: Option<Kind>,
    /// Where it begins, once something of it is there.
    offset: Option<usize>,
}

/// What is made of the events.
#[derive(Default)]
struct Page {
    text: String,
    /// The length of that, in units of UTF-16.
    length: usize,
    marks: Vec<Mark>,
    open: Vec<Open>,
    /// How many line breaks stand between what is there and what comes.
    gap: usize,
    /// What comes is another block, and stands apart.
    is_apart: bool,
    /// What comes is the first of its item, and stands behind its mark.
    is_first: bool,
    /// Of each list that is open the number of its next item, if it has numbers.
    lists: Vec<Option<u64>>,
    /// The block of code that is being read.
    block: Option<String>,
    table: Option<Table>,
}

impl Page {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => match &mut self.block {
                Some(block) => block.push_str(&text),
                None => self.words(&text),
            },
            Event::Code(code) => self.code(&code),
            Event::Html(text) => {
                self.words(text.trim_end_matches('\n'));
                self.gap = self.gap.max(1);
            }
            Event::InlineHtml(text)
            | Event::FootnoteReference(text)
            | Event::InlineMath(text)
            | Event::DisplayMath(text) => self.words(&text),
            // People write a line below the other where they want one.
            Event::SoftBreak | Event::HardBreak => match self.table {
                Some(_) => self.words(" "),
                None => self.gap = self.gap.max(1),
            },
            Event::Rule => {
                self.apart();
                self.words("———");
                self.apart();
            }
            Event::TaskListMarker(done) => self.words(if done { "☑ " } else { "☐ " }),
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        let kind = match tag {
            Tag::Paragraph | Tag::HtmlBlock => {
                self.apart();
                None
            }
            Tag::Heading { .. } => {
                self.apart();
                Some(Kind::Bold)
            }
            Tag::BlockQuote(_) => {
                self.apart();
                (!self.is_in(|kind| *kind == Kind::Quote)).then_some(Kind::Quote)
            }
            Tag::CodeBlock(kind) => {
                self.apart();
                self.block = Some(String::new());
                let language = match &kind {
                    CodeBlockKind::Fenced(info) => language(info).map(str::to_owned),
                    CodeBlockKind::Indented => None,
                };
                Some(Kind::Block(language))
            }
            Tag::List(first) => {
                if self.lists.is_empty() {
                    self.apart();
                }
                self.lists.push(first);
                None
            }
            Tag::Item => {
                self.item();
                None
            }
            Tag::Table(_) => {
                self.apart();
                self.table = Some(Table::default());
                None
            }
            Tag::TableHead | Tag::TableRow => {
                self.with_table(|table| table.rows.push(Vec::new()));
                None
            }
            Tag::TableCell => {
                self.with_table(|table| table.row().push(String::new()));
                None
            }
            Tag::Emphasis => Some(Kind::Italic),
            Tag::Strong => Some(Kind::Bold),
            Tag::Strikethrough => Some(Kind::Struck),
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                let may = is_web(&dest_url) && !self.is_in(|kind| matches!(kind, Kind::Link(_)));
                may.then(|| Kind::Link(dest_url.into_string()))
            }
            Tag::FootnoteDefinition(_)
            | Tag::DefinitionList
            | Tag::DefinitionListTitle
            | Tag::DefinitionListDefinition
            | Tag::Superscript
            | Tag::Subscript
            | Tag::MetadataBlock(_) => None,
        };
        // What is bold in bold is bold.
        let kind = kind.filter(|kind| !(kind.is_light() && self.is_in(|other| other == kind)));
        self.open.push(Open { kind, offset: None });
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::CodeBlock => {
                let block = self.block.take().unwrap_or_default();
                self.begin_line(false);
                self.push(block.trim_end_matches('\n'));
            }
            TagEnd::Table => {
                let lines = self.table.take().unwrap_or_default().lines();
                self.begin_line(false);
                let offset = self.push(&lines);
                self.mark(Kind::Block(None), offset);
            }
            TagEnd::Image => self.name_picture(),
            _ => {}
        }
        if let Some(open) = self.open.pop()
            && let (Some(kind), Some(offset)) = (open.kind, open.offset)
        {
            self.mark(kind, offset);
        }
        match tag {
            TagEnd::Item => self.gap = self.gap.max(1),
            TagEnd::List(_) => {
                self.lists.pop();
                if self.lists.is_empty() {
                    self.apart();
                }
            }
            TagEnd::Paragraph
            | TagEnd::HtmlBlock
            | TagEnd::Heading(_)
            | TagEnd::BlockQuote(_)
            | TagEnd::CodeBlock
            | TagEnd::Table => self.apart(),
            _ => {}
        }
    }

    /// The next item of the list that is open.
    fn item(&mut self) {
        self.gap = self.gap.max(1);
        let (depth, number) = (self.depth(), self.lists.last_mut());
        let mut mark = "  ".repeat(depth.saturating_sub(1));
        match number {
            Some(Some(number)) => {
                write!(mark, "{number}. ").expect("a string takes all");
                *number = number.saturating_add(1);
            }
            _ => mark.push_str("• "),
        }
        self.is_apart = false;
        self.begin_line(false);
        self.push(&mark);
        self.is_first = true;
    }

    /// A picture of which nothing is said is seen by its address.
    fn name_picture(&mut self) {
        let Some(Open { kind: Some(Kind::Link(address)), offset: None }) = self.open.last() else {
            return;
        };
        let address = address.clone();
        self.words(&address);
    }

    fn depth(&self) -> usize {
        self.lists.len().min(DEPTH_MAX)
    }

    /// What comes stands apart from what is there: by an empty line, or in a list in a line of its own.
    fn apart(&mut self) {
        self.is_apart = true;
    }

    fn words(&mut self, text: &str) {
        if self.table.is_some() {
            self.with_table(|table| table.cell().push_str(text));
        } else if !text.is_empty() {
            self.push(text);
        }
    }

    fn code(&mut self, code: &str) {
        // A link has nothing within it, and in a table all is code.
        if self.table.is_some() || self.is_in(|kind| matches!(kind, Kind::Link(_))) {
            return self.words(code);
        }
        self.suspend();
        let offset = self.push_in_code(code);
        self.mark(Kind::Code, offset);
    }

    /// Ends what code cannot lie in; it goes on behind that.
    fn suspend(&mut self) {
        let mut ended = Vec::new();
        for open in &mut self.open {
            if let Some(kind) = open.kind.as_ref().filter(|kind| kind.is_light())
                && let Some(offset) = open.offset.take()
            {
                ended.push((kind.clone(), offset));
            }
        }
        ended.into_iter().for_each(|(kind, offset)| self.mark(kind, offset));
    }

    /// Adds `text`. Returns where it begins.
    fn push(&mut self, text: &str) -> usize {
        self.begin_line(true);
        let here = self.length;
        for open in &mut self.open {
            open.offset.get_or_insert(here);
        }
        self.add(text);
        here
    }

    /// As [`Page::push`], but that what is light does not begin here.
    fn push_in_code(&mut self, text: &str) -> usize {
        self.begin_line(true);
        let here = self.length;
        for open in &mut self.open {
            if !open.kind.as_ref().is_some_and(Kind::is_light) {
                open.offset.get_or_insert(here);
            }
        }
        self.add(text);
        here
    }

    /// Writes the line breaks that are due, unless nothing is there yet, and in a list what stands before a line.
    fn begin_line(&mut self, is_indented: bool) {
        let apart = match (self.is_apart, self.lists.len()) {
            (true, 0) => 2,
            (true, _) if !self.is_first => 1,
            (true | false, _) => 0,
        };
        let gap = self.gap.max(apart);
        (self.gap, self.is_apart, self.is_first) = (0, false, false);
        if self.text.is_empty() || gap == 0 {
            return;
        }
        self.add(&"\n".repeat(gap));
        if is_indented {
            self.add(&"  ".repeat(self.depth()));
        }
    }

    fn add(&mut self, text: &str) {
        self.text.push_str(text);
        self.length += utf16_len(text);
    }

    /// Marks what was added from `offset` on.
    fn mark(&mut self, kind: Kind, offset: usize) {
        if self.length > offset {
            self.marks.push(Mark { kind, offset, length: self.length - offset });
        }
    }

    fn is_in(&self, is: impl Fn(&Kind) -> bool) -> bool {
        self.open.iter().filter_map(|open| open.kind.as_ref()).any(is)
    }

    fn with_table(&mut self, work: impl FnOnce(&mut Table)) {
        if let Some(table) = &mut self.table {
            work(table);
        }
    }

    /// Without the space around it, which nobody sees and platforms take away.
    fn finish(mut self) -> Rich {
        let before = utf16_len(&self.text) - utf16_len(self.text.trim_start());
        let text = self.text.trim().to_owned();
        let length = utf16_len(&text);
        self.marks.retain_mut(|mark| {
            let end = (mark.offset + mark.length).saturating_sub(before).min(length);
            mark.offset = mark.offset.saturating_sub(before);
            mark.length = end.saturating_sub(mark.offset);
            mark.length > 0
        });
        // What lies around something comes before it, and was ended after it.
        self.marks.reverse();
        self.marks.sort_by_key(|mark| (mark.offset, usize::MAX - mark.length));
        Rich { text, marks: self.marks }
    }
}

/// A table, which is shown as it would be typed.
#[derive(Default)]
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn row(&mut self) -> &mut Vec<String> {
        if self.rows.is_empty() {
            self.rows.push(Vec::new());
        }
        self.rows.last_mut().expect("there is one")
    }

    fn cell(&mut self) -> &mut String {
        let row = self.row();
        if row.is_empty() {
            row.push(String::new());
        }
        row.last_mut().expect("there is one")
    }

    fn lines(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut lines = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths);
            let cells: Vec<String> = cells.map(|(cell, width)| format!("{cell:width$}")).collect();
            lines.push(cells.join(" | ").trim_end().to_owned());
            if index == 0 {
                let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
                lines.push(rules.join("-+-"));
            }
        }
        lines.join("\n")
    }
}

/// Whether a link may lead there: a page of the web, and nothing that a client would carry out.
fn is_web(address: &str) -> bool {
    let lower = address.get(..8).unwrap_or(address).to_ascii_lowercase();
    let is_web = lower.starts_with("https://") || lower.starts_with("http://");
    is_web && address.len() <= ADDRESS_MAX && !address.contains(char::is_whitespace)
}

/// The language of a block of code, if its first word can be one.
fn language(info: &str) -> Option<&str> {
    let word = info.split([' ', ',', '\t']).next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_+-#.".contains(c);
    (!word.is_empty() && word.len() <= LANGUAGE_MAX && word.chars().all(plain)).then_some(word)
}

#[cfg(test)]
#[path = "entities_tests.rs"]
mod tests;
