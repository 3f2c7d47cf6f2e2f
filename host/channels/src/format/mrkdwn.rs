//! Markdown as `mrkdwn`, what Slack shows: bold, italics, strikes, code, quotes and links, and no more. What
//! it has not is written so that it reads well: a heading is bold, a table stands in a block of code, lists have
//! their marks. `inline` is what stands within a paragraph. Pure.
//!
//! Source: <https://docs.slack.dev/messaging/formatting-message-text>.

mod inline;
mod table;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd, TextMergeStream};

use self::inline::{Inline, Style};
use self::table::Table;

/// How deep lists are indented at most.
const DEPTH_MAX: usize = 8;

/// `markdown` as mrkdwn.
pub fn mrkdwn(markdown: &str) -> String {
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut page = Page { blocks: vec![Block::default()], ..Page::default() };
    for event in TextMergeStream::new(Parser::new_ext(markdown, options)) {
        page.take(event);
    }
    page.flush();
    let whole = page.blocks.into_iter().next().unwrap_or_default();
    let lines: Vec<&str> = whole.lines.iter().map(|line| line.text.trim_end()).collect();
    lines.join("\n").trim_end().to_owned()
}

/// `text` so that nothing of it is a word to Slack, such as `<!channel>`, which calls everybody.
pub fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
}

/// A line of the page.
#[derive(Debug)]
struct Line {
    text: String,
    /// It is of a block of code: nothing is put before it.
    is_code: bool,
}

impl Line {
    fn of(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_code: false }
    }
}

/// What holds lines: the page, a quote, an item of a list.
#[derive(Debug, Default)]
struct Block {
    lines: Vec<Line>,
    /// Whether an empty line stands before what comes next.
    is_apart: bool,
}

/// What is made of the events.
#[derive(Default)]
struct Page {
    /// What is open, outermost first. The page itself is never closed.
    blocks: Vec<Block>,
    inline: Inline,
    quotes: usize,
    /// For each list the number of its next item, if it has numbers.
    lists: Vec<Option<u64>>,
    code: Option<String>,
    table: Option<Table>,
}

impl Page {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text)
            | Event::Html(text)
            | Event::InlineHtml(text)
            | Event::FootnoteReference(text)
            | Event::InlineMath(text)
            | Event::DisplayMath(text) => self.text(&text),
            Event::Code(code) => match &mut self.table {
                Some(table) => table.text(&code),
                None => self.inline.code(&code),
            },
            Event::SoftBreak | Event::HardBreak => self.text("\n"),
            Event::Rule => {
                self.flush();
                self.put(vec![Line::of("———")]);
            }
            Event::TaskListMarker(done) => self.text(if done { "☑ " } else { "☐ " }),
        }
    }

    fn text(&mut self, text: &str) {
        match (&mut self.code, &mut self.table) {
            (Some(code), _) => code.push_str(text),
            (None, Some(table)) => table.text(text),
            (None, None) => self.inline.text(text),
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Emphasis => self.inline.open(Style::Italic),
            Tag::Strong => self.inline.open(Style::Bold),
            Tag::Strikethrough => self.inline.open(Style::Strike),
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => self.inline.link(&dest_url),
            Tag::TableHead | Tag::TableRow => self.table.iter_mut().for_each(Table::row),
            Tag::TableCell => self.table.iter_mut().for_each(Table::cell),
            block => {
                self.flush();
                self.start_block(&block);
            }
        }
    }

    fn start_block(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Heading { .. } => self.inline.open(Style::Bold),
            Tag::BlockQuote(_) => {
                self.quotes += 1;
                self.blocks.push(Block::default());
            }
            Tag::CodeBlock(_) => self.code = Some(String::new()),
            Tag::List(first) => self.lists.push(*first),
            Tag::Item => self.blocks.push(Block::default()),
            Tag::Table(_) => self.table = Some(Table::default()),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough => self.inline.close(),
            TagEnd::Link | TagEnd::Image => self.inline.end_link(),
            TagEnd::TableHead | TagEnd::TableRow | TagEnd::TableCell => {}
            TagEnd::Heading(_) => {
                self.inline.close();
                self.flush();
            }
            TagEnd::CodeBlock => {
                let code = self.code.take().unwrap_or_default();
                self.put_code(&code);
            }
            TagEnd::Table => {
                let table = self.table.take().unwrap_or_default();
                self.put_code(&table.to_text());
            }
            TagEnd::BlockQuote(_) => self.end_quote(),
            TagEnd::Item => self.end_item(),
            TagEnd::List(_) => {
                self.flush();
                self.lists.pop();
                self.block().is_apart = true;
            }
            _ => self.flush(),
        }
    }

    /// What is said is a paragraph.
    fn flush(&mut self) {
        let text = std::mem::take(&mut self.inline).end();
        if !text.trim().is_empty() {
            self.put(text.trim_end().split('\n').map(Line::of).collect());
        }
    }

    fn block(&mut self) -> &mut Block {
        self.blocks.last_mut().expect("the page itself is never closed")
    }

    /// Puts lines into what is open, apart from what stands there.
    fn put(&mut self, lines: Vec<Line>) {
        let in_list = !self.lists.is_empty();
        let block = self.block();
        if !block.lines.is_empty() && (block.is_apart || !in_list) {
            block.lines.push(Line::of(""));
        }
        block.lines.extend(lines);
        block.is_apart = !in_list;
    }

    fn put_code(&mut self, code: &str) {
        // A mark of code within code would end it.
        let code = code.replace("```", &inline::broken("```"));
        let mut text = String::new();
        escape(code.trim_end_matches('\n'), &mut text);
        let lines = ["```"].into_iter().chain(text.split('\n')).chain(["```"]);
        self.put(lines.map(|text| Line { text: text.to_owned(), is_code: true }).collect());
    }

    fn end_quote(&mut self) {
        self.flush();
        let mut quote = self.pop();
        self.quotes -= 1;
        if self.quotes == 0 {
            for line in quote.lines.iter_mut().filter(|line| !line.is_code) {
                line.text.insert_str(0, "> ");
            }
        }
        self.put(quote.lines);
    }

    fn end_item(&mut self) {
        self.flush();
        let mut item = self.pop();
        let depth = self.lists.len();
        let mark = match self.lists.last_mut() {
            Some(Some(number)) => {
                let mark = format!("{number}. ");
                *number = number.saturating_add(1);
                mark
            }
            Some(None) | None => "• ".to_owned(),
        };
        if depth <= DEPTH_MAX {
            if item.lines.first().is_none_or(|line| line.is_code) {
                item.lines.insert(0, Line::of(""));
            }
            for (index, line) in item.lines.iter_mut().enumerate().filter(|it| !it.1.is_code) {
                let before = if index == 0 { mark.as_str() } else { "    " };
                line.text.insert_str(0, before);
            }
        }
        let block = self.block();
        if block.is_apart && !block.lines.is_empty() {
            block.lines.push(Line::of(""));
        }
        block.lines.extend(item.lines);
        block.is_apart = false;
    }

    fn pop(&mut self) -> Block {
        match self.blocks.len() {
            0 | 1 => Block::default(), // the parser closes what it opens
            _ => self.blocks.pop().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
#[path = "mrkdwn_tests.rs"]
mod tests;
