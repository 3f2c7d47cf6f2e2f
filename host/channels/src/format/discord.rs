//! Markdown as Discord shows it. Most of it passes as it stands; what Discord knows not, or otherwise, is changed in
//! its place: tables and other blocks become blocks of code in three backticks, headings have three levels, an
//! underscored word is no underlined one, and nothing becomes a spoiler that was none.
//!
//! Source: "Markdown Text 101" in Discord's help centre, and <https://docs.discord.com/developers/reference>.

use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, LinkType, Options, Parser, Tag, TagEnd};

/// The widest column of a table, in characters.
const COLUMN_MAX: usize = 40;

/// How long `text` is as Discord counts it at most: in units of UTF-16. Its server may count characters, of which
/// there are never more.
pub fn length(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// `markdown` as it is sent to Discord.
pub fn discord(markdown: &str) -> String {
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut page = Page { source: markdown, ..Page::default() };
    for (event, range) in Parser::new_ext(markdown, options).into_offset_iter() {
        page.take(event, range);
    }
    page.whole()
}

/// The source, and what is changed in it.
#[derive(Default)]
struct Page<'a> {
    source: &'a str,
    /// What stands in the place of what; in the order of the source, and none in another.
    edits: Vec<(Range<usize>, String)>,
    /// What is open of what is changed at its end.
    open: Vec<Open>,
    /// Where what was said last ends.
    inner: usize,
    /// It is a block of code that stays as it is.
    in_code: bool,
    block: Option<String>,
    table: Option<Vec<Vec<String>>>,
}

/// What is done at the end of something.
enum Open {
    Nothing,
    /// A heading whose line is underlined.
    Underlined,
    Strong,
    /// A link by a name, to this address.
    Named(String),
    /// A picture of which nothing is said, at this address.
    Bare(String, usize),
}

impl Page<'_> {
    fn edit(&mut self, range: Range<usize>, text: impl Into<String>) {
        self.edits.push((range, text.into()));
    }

    fn take(&mut self, event: Event<'_>, range: Range<usize>) {
        if self.block.is_some() {
            return self.take_of_block(event, range);
        }
        if self.table.is_some() {
            return self.take_of_table(event, range);
        }
        match event {
            Event::Start(tag) => return self.start(tag, range),
            Event::End(tag) => return self.end(tag, range),
            Event::Text(text) if !self.in_code => self.text(&text, range.clone()),
            Event::HardBreak if self.source[range.clone()].starts_with('\\') => {
                self.edit(range.start..range.start + 1, "");
            }
            Event::Rule => {
                let end = range.start + self.source[range.clone()].trim_end().len();
                self.edit(range.start..end, "———");
            }
            Event::TaskListMarker(done) => {
                self.edit(range.clone(), if done { "☑" } else { "☐" });
            }
            _ => {}
        }
        self.inner = range.end;
    }

    fn text(&mut self, text: &str, range: Range<usize>) {
        let source = &self.source[range.clone()];
        if source.starts_with('&') && source != text {
            return self.edit(range, escaped(text));
        }
        let bars: Vec<usize> = source.match_indices("||").map(|(at, _)| range.start + at).collect();
        for at in bars {
            self.edit(at..at, "\\");
        }
    }

    fn start(&mut self, tag: Tag<'_>, range: Range<usize>) {
        let source = &self.source[range.clone()];
        self.inner = range.start;
        let open = match tag {
            Tag::CodeBlock(CodeBlockKind::Fenced(_)) if is_plain_block(source) => {
                self.in_code = true;
                Open::Nothing
            }
            Tag::CodeBlock(kind) => {
                let language = match &kind {
                    CodeBlockKind::Fenced(info) => info.split_whitespace().next(),
                    CodeBlockKind::Indented => None,
                };
                self.block = Some(format!("```{}\n", language.unwrap_or_default()));
                return;
            }
            Tag::Table(_) => {
                self.table = Some(Vec::new());
                return;
            }
            Tag::Heading { level, .. } => {
                let marks = source.len() - source.trim_start_matches('#').len();
                let level = level as usize;
                match marks {
                    0 => {
                        self.edit(range.start..range.start, format!("{} ", "#".repeat(level)));
                        Open::Underlined
                    }
                    4.. => {
                        self.edit(range.start..range.start + marks, "###");
                        Open::Nothing
                    }
                    _ => Open::Nothing,
                }
            }
            Tag::Strong if source.starts_with("__") && source.ends_with("__") => {
                self.edit(range.start..range.start + 2, "**");
                Open::Strong
            }
            Tag::Link { link_type, dest_url, .. } => named(link_type, &dest_url),
            Tag::Image { link_type, dest_url, .. } => {
                let at = self.edits.len();
                self.edit(range.start..range.start + 1, "");
                self.inner = range.start + 2;
                match named(link_type, &dest_url) {
                    Open::Nothing => Open::Bare(dest_url.into_string(), at),
                    named => named,
                }
            }
            _ => Open::Nothing,
        };
        self.open.push(open);
    }

    fn end(&mut self, _tag: TagEnd, range: Range<usize>) {
        let inner = self.inner;
        self.in_code = false;
        match self.open.pop().unwrap_or(Open::Nothing) {
            Open::Nothing => {}
            Open::Underlined => {
                let end = range.start + self.source[range.clone()].trim_end().len();
                self.edit(inner.min(end)..end, "");
            }
            Open::Strong => self.edit(range.end - 2..range.end, "**"),
            Open::Named(address) => self.edit(inner..range.end, format!("]({address})")),
            Open::Bare(address, at) if inner == range.start + 2 => {
                self.edits.truncate(at);
                self.edit(range.clone(), address);
            }
            Open::Bare(..) => {}
        }
        self.inner = range.end;
    }

    fn take_of_block(&mut self, event: Event<'_>, range: Range<usize>) {
        let Some(mut block) = self.block.take() else { return };
        match event {
            Event::Text(text) => block.push_str(&unfenced(&text)),
            Event::End(TagEnd::CodeBlock) => {
                if !block.ends_with('\n') {
                    block.push('\n');
                }
                block.push_str("```");
                return self.put_block(range, block);
            }
            _ => {}
        }
        self.block = Some(block);
    }

    fn take_of_table(&mut self, event: Event<'_>, range: Range<usize>) {
        let Some(mut rows) = self.table.take() else { return };
        match event {
            Event::Start(Tag::TableHead | Tag::TableRow) => rows.push(Vec::new()),
            Event::Start(Tag::TableCell) => {
                if let Some(row) = rows.last_mut() {
                    row.push(String::new());
                }
            }
            Event::Text(text) | Event::Code(text) | Event::Html(text) | Event::InlineHtml(text) => {
                if let Some(cell) = rows.last_mut().and_then(|row| row.last_mut()) {
                    cell.push_str(&unfenced(&text));
                }
            }
            Event::End(TagEnd::Table) => return self.put_block(range, table(&rows)),
            _ => {}
        }
        self.table = Some(rows);
    }

    /// Puts a block in the place of what is at `range`, on lines of its own.
    fn put_block(&mut self, range: Range<usize>, mut block: String) {
        let before = &self.source[..range.start];
        let line = before.rfind('\n').map_or(0, |at| at + 1);
        // An indented block begins behind its indentation.
        let start = if before[line..].trim().is_empty() { line } else { range.start };
        if start > line {
            block.insert(0, '\n');
        }
        let end = start + self.source[start..range.end].trim_end().len();
        if self.source[end..].starts_with(|c| c != '\n' && c != '\r') {
            block.push('\n');
        }
        self.edit(start..end, block);
        self.inner = range.end;
    }

    fn whole(self) -> String {
        let mut whole = String::with_capacity(self.source.len() + 16);
        let mut at = 0;
        for (range, text) in &self.edits {
            // What is inside of something that was changed as a whole is gone with it.
            if range.start < at {
                continue;
            }
            whole.push_str(&self.source[at..range.start]);
            whole.push_str(text);
            at = range.end;
        }
        whole.push_str(&self.source[at..]);
        whole
    }
}

fn named(link_type: LinkType, address: &str) -> Open {
    match link_type {
        LinkType::Reference | LinkType::Collapsed | LinkType::Shortcut => {
            Open::Named(address.to_owned())
        }
        _ => Open::Nothing,
    }
}

/// Whether Discord shows this block as one: three backticks, in which there are no others.
fn is_plain_block(source: &str) -> bool {
    let mut lines = source.lines();
    let first = lines.next().unwrap_or_default();
    let rest: Vec<&str> = lines.collect();
    let Some((last, inner)) = rest.split_last() else { return false };
    let opens = first.strip_prefix("```").is_some_and(|info| !info.contains(['`', ' ', '\t']));
    opens && last.trim_end() == "```" && !inner.iter().any(|line| line.contains("```"))
}

/// No three backticks in it end a block.
fn unfenced(text: &str) -> String {
    text.replace("```", "`\u{200b}`\u{200b}`")
}

/// Text in which no character means anything.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if c.is_ascii_punctuation() && "\\*_~`|>#-[]()<:@".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A table as a block of code, whose columns stand below each other.
fn table(rows: &[Vec<String>]) -> String {
    let width = |text: &str| text.chars().count();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| width(cell.trim()).min(COLUMN_MAX)).max().unwrap_or(0)
        })
        .collect();
    let mut block = "```\n".to_owned();
    for (index, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (cell, wanted) in row.iter().zip(&widths) {
            let cell = cell.trim();
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', wanted.saturating_sub(width(cell)) + 2));
        }
        block.push_str(line.trim_end());
        block.push('\n');
        if index == 0 {
            let rules: Vec<String> =
                widths.iter().map(|width| "-".repeat((*width).max(1))).collect();
            block.push_str(&rules.join("  "));
            block.push('\n');
        }
    }
    block.push_str("```");
    block
}

#[cfg(test)]
#[path = "discord_tests.rs"]
mod tests;
