//! Cutting Markdown into parts that each fit. A cut is made where a reader pauses: between paragraphs, else
//! between lines, else between sentences, else between words, and never inside a character. A block of code
//! that is cut is closed, and opened again in the next part; a link and a word in code go on as a whole.

use std::borrow::Cow;

/// Cuts `text` into parts of at most `most` bytes, each of which `fits`: what fits, fits also if it is
/// shorter. A part that is one character is taken for one that fits. Text of spaces alone is no part.
pub fn parts(text: &str, most: usize, fits: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut parts = Vec::new();
    let (mut rest, mut open): (&str, Option<Fence<'_>>) = (text, None);
    loop {
        let whole = Part::of(open, rest).text(None);
        if whole.len() <= most && fits(&whole) {
            if !rest.trim().is_empty() {
                parts.push(whole.into_owned());
            }
            return parts;
        }
        let taken = |end: usize| {
            let part = Part::of(open, &rest[..end]);
            let text = part.text(part.end);
            text.len() <= most && fits(&text)
        };
        let end = longest(rest, most, &taken);
        let mut cut = nicest(rest, end, open);
        if !taken(cut) {
            cut = end; // closing a block made it longer than it may be
        }
        let part = Part::of(open, &rest[..cut]);
        let text = part.text(part.end);
        if !rest[..cut].trim().is_empty() {
            parts.push(text.trim_end().to_owned());
        }
        open = part.end;
        rest = &rest[cut..];
        rest = match open {
            Some(_) => rest.strip_prefix('\n').unwrap_or(rest),
            None => rest.trim_start_matches(['\n', ' ']),
        };
    }
}

/// A block of code that is open, by its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fence<'a> {
    /// Its first line, without the line break.
    line: &'a str,
    mark: &'a str,
}

impl<'a> Fence<'a> {
    /// The block that `line` begins.
    fn begun_by(line: &'a str) -> Option<Self> {
        let start = line.trim_start_matches(' ');
        let mark = marks(start)?;
        let info = &start[mark.len()..];
        (!(mark.starts_with('`') && info.contains('`'))).then_some(Self { line, mark })
    }

    /// What is open behind `line`, before which `open` is.
    fn behind(open: Option<Self>, line: &'a str) -> Option<Self> {
        match open {
            Some(fence) if fence.is_ended_by(line) => None,
            Some(fence) => Some(fence),
            None => Self::begun_by(line),
        }
    }

    fn is_ended_by(&self, line: &str) -> bool {
        let line = line.trim();
        marks(line).is_some_and(|mark| {
            mark.len() == line.len() && mark.len() >= self.mark.len() && mark[..1] == self.mark[..1]
        })
    }
}

/// The marks that `line` begins with, if they can be those of a block of code.
fn marks(line: &str) -> Option<&str> {
    let mark = line.chars().next().filter(|c| ['`', '~'].contains(c))?;
    let length = line.len() - line.trim_start_matches(mark).len();
    (length >= 3).then_some(&line[..length])
}

/// A piece of the text, with the block that is open where it begins, and where it ends.
struct Part<'a> {
    begin: Option<Fence<'a>>,
    piece: &'a str,
    end: Option<Fence<'a>>,
}

impl<'a> Part<'a> {
    fn of(begin: Option<Fence<'a>>, piece: &'a str) -> Self {
        Self { begin, piece, end: piece.lines().fold(begin, Fence::behind) }
    }

    /// As it is sent, with the block `close` closed at its end.
    fn text(&self, close: Option<Fence<'a>>) -> Cow<'a, str> {
        if self.begin.is_none() && close.is_none() {
            return self.piece.into();
        }
        let mut text = self.begin.map_or_else(String::new, |it| format!("{}\n", it.line));
        text.push_str(self.piece);
        if let Some(fence) = close {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(fence.mark);
        }
        text.into()
    }
}

/// The longest beginning of `text` that is `taken`, by its end; one character at least.
fn longest(text: &str, most: usize, taken: &dyn Fn(usize) -> bool) -> usize {
    let floor = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let first = text.chars().next().map_or(0, char::len_utf8);
    let (mut good, mut bad) = (first, text.len().min(most) + 1);
    while bad - good > 1 {
        let middle = floor(good + (bad - good) / 2);
        if middle <= good {
            // No boundary in the lower half: step over the character that is there.
            let next = good + text[good..].chars().next().map_or(1, char::len_utf8);
            if next >= bad || !taken(next) {
                break;
            }
            good = next;
        } else if taken(middle) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    together(text, good)
}

/// Where to cut, at `end` or a little before it.
fn nicest(text: &str, end: usize, begin: Option<Fence<'_>>) -> usize {
    let is_code = |at: usize| Part::of(begin, &text[..at]).end.is_some();
    let mut low = end / 2;
    while !text.is_char_boundary(low) {
        low += 1;
    }
    let window = &text[low..end];
    if let Some(at) = paragraph(&text[..end], low, begin) {
        return at;
    }
    if let Some(at) = window.rfind('\n') {
        return before_empty_block(text, low + at + 1, begin);
    }
    if is_code(end) {
        return end;
    }
    let mut sentence = window.char_indices().filter_map(|(at, c)| {
        let after = at + c.len_utf8();
        let space = window[after..].starts_with(char::is_whitespace);
        ("。！？".contains(c) || (".!?…".contains(c) && space)).then_some(after)
    });
    let word = || window.rfind(char::is_whitespace).map(|at| at + 1);
    let word = || word().filter(|at| window.is_char_boundary(*at));
    match sentence.next_back().or_else(word) {
        Some(at) => whole(text, low + at),
        None => whole(text, end),
    }
}

/// Where the last paragraph of `text` ends that ends behind `low`, with the empty line: none in code.
fn paragraph(text: &str, low: usize, begin: Option<Fence<'_>>) -> Option<usize> {
    let (mut open, mut start, mut found) = (begin, 0, None);
    for line in text.split_inclusive('\n') {
        if line == "\n" && start > low && open.is_none() {
            found = Some(start + 1);
        }
        open = Fence::behind(open, line.trim_end_matches(['\n', '\r']));
        start += line.len();
    }
    found
}

/// `cut`, or the beginning of the block of code of which only the first line is before it.
fn before_empty_block(text: &str, cut: usize, begin: Option<Fence<'_>>) -> usize {
    let line = text[..cut - 1].rfind('\n').map_or(0, |at| at + 1);
    let is_begun = |at: usize| Part::of(begin, &text[..at]).end.is_some();
    let opens = Fence::begun_by(&text[line..cut - 1]).is_some() && !is_begun(line);
    if opens && line > 0 { line } else { cut }
}

/// `cut`, or where the link or the word in code begins in which it is, if anything is before that.
fn whole(text: &str, cut: usize) -> usize {
    let line = text[..cut].rfind('\n').map_or(0, |at| at + 1);
    let end = text[cut..].find('\n').map_or(text.len(), |at| cut + at);
    let before = &text[line..cut];
    let link = before.rfind('[').filter(|at| {
        let rest = &text[line + at..end];
        let closes = rest.find("](").and_then(|at| Some(at + rest[at..].find(')')?));
        closes.is_some_and(|closes| line + at + closes >= cut)
    });
    let code = || match before.matches('`').count() % 2 {
        1 => before.rfind('`'),
        _ => None,
    };
    match link.or_else(code).map(|at| line + at) {
        Some(begin) if begin > 0 => begin,
        _ => cut,
    }
}

/// `cut`, or a little before it: what is shown as one character stays together.
pub(super) fn together(text: &str, cut: usize) -> usize {
    const JOINER: char = '\u{200d}';
    let joins = |c: char| {
        matches!(c, JOINER | '\u{300}'..='\u{36f}' | '\u{591}'..='\u{5c7}' | '\u{610}'..='\u{61a}'
            | '\u{64b}'..='\u{65f}' | '\u{93a}'..='\u{94f}' | '\u{e31}' | '\u{e34}'..='\u{e3a}'
            | '\u{1ab0}'..='\u{1aff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0020}'..='\u{e007f}')
    };
    let mut at = cut;
    // Of what has no end, some is cut.
    for _ in 0..32 {
        let Some(before) = text[..at].chars().next_back() else { return cut };
        let after = text[at..].chars().next();
        if !(after.is_some_and(joins) || before == JOINER) {
            return if at == 0 { cut } else { at };
        }
        at -= before.len_utf8();
    }
    cut
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
