//! What stands within a paragraph. Slack has no word for "this star is a star". Where one would begin or end
//! something, a space without width keeps it from that; and where something begins or ends in the middle of a
//! word, one stands between, for Slack does not see it otherwise.

use super::escape;

/// Nothing that is seen, between two characters.
const NOTHING: char = '\u{200b}';

/// Where links may lead.
const SCHEMES: [&str; 3] = ["https://", "http://", "mailto:"];

/// The longest address of a link. What is longer is text.
const LINK_MAX: usize = 2_000;

/// A way in which text is set off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Bold,
    Italic,
    Strike,
}

impl Style {
    const fn mark(self) -> char {
        match self {
            Self::Bold => '*',
            Self::Italic => '_',
            Self::Strike => '~',
        }
    }
}

/// The text of a paragraph so far.
#[derive(Debug, Default)]
pub(super) struct Inline {
    out: String,
    /// What is open, outermost first, each once.
    styles: Vec<Style>,
    /// For each style in the text, whether it has its place in `styles`.
    opened: Vec<bool>,
    /// How many of `styles` are written; the others are when there is text for them.
    written: usize,
    /// Whether what was written last has closed something, behind which no letter may stand.
    has_closed: bool,
    /// Where a link leads, and its text.
    link: Option<(String, String)>,
    /// How many links are open, of which the outermost alone is one.
    links: usize,
}

/// `text` with nothing between its characters.
pub(super) fn broken(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        out.push(c);
        out.push(NOTHING);
    }
    out
}

impl Inline {
    /// All of it.
    pub(super) fn end(mut self) -> String {
        self.end_link();
        self.close_written();
        self.out
    }

    pub(super) fn open(&mut self, style: Style) {
        let is_new = !self.styles.contains(&style);
        self.opened.push(is_new);
        if is_new {
            self.styles.push(style);
        }
    }

    /// Closes the style that was opened last.
    pub(super) fn close(&mut self) {
        if self.opened.pop() != Some(true) {
            return;
        }
        if self.written == self.styles.len() {
            self.write_closing();
        }
        self.styles.pop();
    }

    /// Text, in which lines may end.
    pub(super) fn text(&mut self, text: &str) {
        if let Some((_, of_link)) = &mut self.link {
            return of_link.push_str(&text.replace('\n', " "));
        }
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                // Nothing that is set off goes on in the next line.
                self.close_written();
                self.out.push('\n');
                self.has_closed = false;
            }
            self.line(line);
        }
    }

    /// A word in code.
    pub(super) fn code(&mut self, code: &str) {
        let code = code.replace('\n', " ");
        // A mark of code within code would end it.
        if code.contains('`') || self.link.is_some() {
            return self.text(&code);
        }
        if code.trim().is_empty() {
            return;
        }
        self.write_opening();
        if self.has_closed || self.out.ends_with(char::is_alphanumeric) {
            self.out.push(NOTHING);
        }
        self.out.push('`');
        escape(&code, &mut self.out);
        self.out.push('`');
        self.has_closed = true;
    }

    /// Begins a link.
    pub(super) fn link(&mut self, to: &str) {
        if self.links == 0 && may_lead_to(to) {
            self.link = Some((to.to_owned(), String::new()));
        }
        self.links += 1;
    }

    /// Ends the link that was begun last.
    pub(super) fn end_link(&mut self) {
        self.links = self.links.saturating_sub(1);
        if self.links > 0 {
            return;
        }
        let Some((to, text)) = self.link.take() else { return };
        self.write_opening();
        if self.has_closed || self.out.ends_with(char::is_alphanumeric) {
            self.out.push(NOTHING);
        }
        self.out.push('<');
        escape(&to.replace('|', "%7C").replace(' ', "%20"), &mut self.out);
        let text = text.trim();
        if !text.is_empty() && text != to {
            self.out.push('|');
            escape(&text.replace('|', "¦"), &mut self.out);
        }
        self.out.push('>');
        self.has_closed = false;
    }

    /// Closes all that is written, to be opened again when there is text for it.
    fn close_written(&mut self) {
        while self.written > 0 {
            self.write_closing();
        }
    }

    /// Writes what closes the innermost style. A mark behind a space would close nothing.
    fn write_closing(&mut self) {
        self.written -= 1;
        let inner = self.out.trim_end_matches(' ').len();
        let spaces = self.out.split_off(inner);
        self.out.push(self.styles[self.written].mark());
        self.out.push_str(&spaces);
        self.has_closed = spaces.is_empty();
    }

    /// Writes what opens the styles that are not written yet.
    fn write_opening(&mut self) {
        if self.written == self.styles.len() {
            return;
        }
        if self.has_closed || self.out.ends_with(char::is_alphanumeric) {
            self.out.push(NOTHING);
        }
        self.out.extend(self.styles[self.written..].iter().map(|style| style.mark()));
        self.written = self.styles.len();
        self.has_closed = false;
    }

    /// Text without a break.
    fn line(&mut self, line: &str) {
        let text = line.trim_start_matches(' ');
        if text.len() < line.len() {
            self.out.push_str(&line[..line.len() - text.len()]);
            self.has_closed = false;
        }
        if text.is_empty() {
            return;
        }
        self.write_opening();
        if self.has_closed && text.starts_with(char::is_alphanumeric) {
            self.out.push(NOTHING);
        }
        self.has_closed = false;
        for (index, word) in text.split(' ').enumerate() {
            if index > 0 {
                self.out.push(' ');
            }
            // Slack makes links of addresses by itself, of the whole of them.
            match word.contains("://") {
                true => escape(word, &mut self.out),
                false => self.word(word),
            }
        }
    }

    /// A word in which nothing is a mark.
    fn word(&mut self, word: &str) {
        let mut in_word = self.out.ends_with(char::is_alphanumeric);
        let mut text = String::new();
        let mut rest = word.chars().peekable();
        while let Some(c) = rest.next() {
            text.push(c);
            let is_mark = matches!(c, '*' | '_' | '~' | '`');
            // Between two letters a mark is none, but for the one of code; alone it is none, too.
            let between = in_word && rest.peek().is_some_and(|next| next.is_alphanumeric());
            if is_mark && word.len() > 1 && !(between && c != '`') {
                text.push(NOTHING);
            }
            in_word = c.is_alphanumeric();
        }
        escape(&text, &mut self.out);
    }
}

fn may_lead_to(to: &str) -> bool {
    let lower = to.get(..8).unwrap_or(to).to_ascii_lowercase();
    to.len() <= LINK_MAX
        && SCHEMES.iter().any(|scheme| lower.starts_with(scheme))
        && !to.contains(char::is_control)
}
