//! A table as text in which columns stand below each other, for a platform that has none.

/// How wide a column is made, in characters. A longer text stands out.
const WIDE: usize = 40;

/// The rows of a table, of which the first is its head.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Begins a row.
    pub(super) fn row(&mut self) {
        self.rows.push(Vec::new());
    }

    /// Begins a cell of it.
    pub(super) fn cell(&mut self) {
        if let Some(row) = self.rows.last_mut() {
            row.push(String::new());
        }
    }

    /// More of its text.
    pub(super) fn text(&mut self, text: &str) {
        if let Some(cell) = self.rows.last_mut().and_then(|row| row.last_mut()) {
            cell.push_str(&text.replace('\n', " "));
        }
    }

    /// All of it, with a line below its head.
    pub(super) fn to_text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default().min(WIDE)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let row = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let mut lines: Vec<String> = self.rows.iter().map(row).collect();
        if lines.len() > 1 {
            let line = widths.iter().map(|width| "-".repeat((*width).max(1)));
            lines.insert(1, line.collect::<Vec<_>>().join("  "));
        }
        lines.join("\n")
    }
}
