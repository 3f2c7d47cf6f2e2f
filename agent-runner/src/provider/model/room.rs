//! How much of a model's room one thing may take, and what is left out of what takes more. Pure.

use super::conversation::{Item, Part, ToolResult};

/// What is shown of a text in any case, in bytes.
const LEAST: usize = 500;

/// The most bytes that one message, or the results of one answer, may have with a model of `context`
/// tokens: about a third of its room.
pub(super) fn of_one(context: u32) -> usize {
    usize::try_from(context).unwrap_or(usize::MAX)
}

/// Cuts the longest texts of what people and tools have said, so that all of them have `most` bytes or a
/// little more. The same items become the same. Returns whether something was cut.
pub(super) fn shorten(items: &mut [Item], most: usize) -> bool {
    let texts = items.iter_mut().flat_map(|item| match item {
        Item::User { parts } => parts.iter_mut().collect(),
        Item::Assistant { .. } => Vec::new(),
        Item::Results { results } => results.iter_mut().flat_map(|it| &mut it.parts).collect(),
    });
    cut(texts.filter_map(text).collect(), most)
}

/// The same, of the results of one answer.
pub(super) fn shorten_results(results: &mut [ToolResult], most: usize) -> bool {
    cut(results.iter_mut().flat_map(|it| &mut it.parts).filter_map(text).collect(), most)
}

fn text(part: &mut Part) -> Option<&mut String> {
    match part {
        Part::Text { text } => Some(text),
        Part::Media { .. } => None,
    }
}

fn cut(texts: Vec<&mut String>, most: usize) -> bool {
    let level = level(texts.iter().map(|text| text.len()).collect(), most).max(LEAST);
    let mut any = false;
    for text in texts {
        // A remark in the place of a few bytes would save nothing.
        if text.len() > level.saturating_add(LEAST / 2) {
            *text = without_middle(text, level);
            any = true;
        }
    }
    any
}

/// The length to which the longest are cut, so that all together have `most`.
fn level(mut lengths: Vec<usize>, most: usize) -> usize {
    lengths.sort_unstable();
    let (mut left, count) = (most, lengths.len());
    for (at, length) in lengths.into_iter().enumerate() {
        let share = left / (count - at);
        if length > share {
            return share;
        }
        left -= length;
    }
    usize::MAX
}

/// The beginning and the end of `text`, `most` bytes of it.
fn without_middle(text: &str, most: usize) -> String {
    let head = (0..=most / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let from = text.len() - (most - most / 2);
    let tail = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let (start, end) = (&text[..head], &text[tail..]);
    let left_out = tail - head;
    format!("{start}\n[… {left_out} bytes are left out here: there is no room for them …]\n{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(length: usize) -> Item {
        Item::User { parts: vec![Part::text("é".repeat(length / 2))] }
    }

    fn lengths(items: &[Item]) -> Vec<usize> {
        let length = |item: &Item| match item {
            Item::User { parts } => match &parts[0] {
                Part::Text { text } => text.len(),
                Part::Media { .. } => 0,
            },
            Item::Assistant { .. } | Item::Results { .. } => 0,
        };
        items.iter().map(length).collect()
    }

    #[test]
    fn the_longest_texts_are_cut_until_all_have_room() {
        let mut items = [said(1_000), said(90_000), said(20_000)];
        assert!(!shorten(&mut items, 111_000));
        assert!(shorten(&mut items, 21_000));
        let cut = lengths(&items);
        assert_eq!(cut[0], 1_000, "what is short stays");
        assert!(cut[1..].iter().all(|it| (9_900..10_100).contains(it)), "{cut:?}");
        assert!(!shorten(&mut items, 21_300), "once is enough");
        assert!(shorten(&mut items, 0));
        assert!(lengths(&items).iter().all(|it| (LEAST..LEAST + 100).contains(it)), "{items:?}");
    }
}
