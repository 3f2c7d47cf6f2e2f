//! When a conversation has become too long for its model, what is kept of it: a summary that the model
//! writes, and what was said last. Pure.

use serde::{Deserialize, Serialize};

use super::conversation::{Answer, Block, Item, Part, Stop, ToolResult, Usage, text_of};
use super::kept::bytes_of;

/// What the model is asked to write.
pub(super) const ASKED: &str = "[from the host] This conversation has become too long for you to read \
as a whole. Write down, for yourself, everything of it that you need in order to go on: what people \
want and what of it is still to be done; what was decided, and why; names, numbers, addresses, times \
and paths exactly as they are; which files you have made or changed, and what is in them; what was \
tried and did not work; what you have promised. Use no tool now. Answer with that text alone: it takes \
the place of everything above, except for what was said last.";

/// What is said besides to a model that wrote no summary.
pub(super) const ASKED_AGAIN: &str = "[from the host] What you answered before was no such text, or did \
not end. Write it now, shorter, with no tool.";

/// From how many bytes on a text is taken for a summary that stands beside calls, or that was cut.
const SUMMARY_MIN: usize = 400;

/// Before the summary, where it stands in the conversation.
const BEFORE: &str = "[from the host] The conversation before this was too long to keep. This is what \
you have written down of it:\n\n";

/// Before the rest, where there is no summary.
const LOST: &str = "[from the host] The conversation before this was too long, and could not be summed \
up. What follows is the end of it. Ask for what you need to know and do not find.";

/// What takes the place of the beginning of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Compaction {
    /// What the model has written down; `None` if it could not be asked.
    pub(super) summary: Option<String>,
    /// How many of the last items stay.
    pub(super) keeps: usize,
}

impl Compaction {
    /// Puts it into the place of what it stands for.
    pub(super) fn apply(&self, items: &mut Vec<Item>) {
        let text = match &self.summary {
            Some(summary) => format!("{BEFORE}{summary}"),
            None => LOST.to_owned(),
        };
        let summary = Item::User { parts: vec![Part::text(text)] };
        let gone = items.len().saturating_sub(self.keeps);
        items.splice(..gone, [summary]);
    }
}

/// The summary in an answer, if it is one. Calls beside a text that is long enough are passed over: the
/// model wrote, and wanted to go on. One that was cut is taken only if it is the last that is asked for.
pub(super) fn summary(answer: &Answer, last: bool) -> Option<String> {
    let text = text_of(&answer.blocks);
    let least = match answer.stop {
        Stop::End => 1,
        Stop::Tools => SUMMARY_MIN,
        Stop::Length if last => SUMMARY_MIN,
        Stop::Length | Stop::Refused => return None,
    };
    (text.trim().len() >= least).then_some(text)
}

/// What the model is known to have read and said, up to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// Tokens.
    tokens: u64,
    /// Of so many items.
    items: usize,
}

impl Known {
    /// After an answer that made the conversation `items` long. There are servers that do not say what
    /// they read: of them nothing is known.
    pub(super) fn after(usage: Usage, items: usize) -> Option<Self> {
        let tokens = usage.read().saturating_add(usage.output);
        (usage.read() > 0).then_some(Self { tokens, items })
    }
}

/// About how many tokens the next request has: what is known of the last one, and a third of the bytes
/// that came since. `fixed` is the length of what is told before the conversation, in bytes.
pub(super) fn estimate(items: &[Item], known: Option<Known>, fixed: usize) -> u64 {
    let (tokens, new) = match known {
        Some(known) => (known.tokens, items.get(known.items..).unwrap_or_default()),
        None => (fixed as u64 / 3, items),
    };
    tokens.saturating_add(new.iter().map(weight).sum())
}

/// Whether a request of so many tokens leaves too little of `context` for what is to come.
pub(super) fn is_due(tokens: u64, context: u32) -> bool {
    tokens > u64::from(context) / 5 * 4
}

/// Whether a compaction would leave out something worth the request: where what is told before the
/// conversation fills the model already, leaving out the little that was said makes nothing better.
pub(super) fn is_worth_it(items: &[Item], context: u32) -> bool {
    let left_out = items.len() - keeps(items, context);
    items[..left_out].iter().map(weight).sum::<u64>() > u64::from(context) / 10
}

/// How many of the last items stay: as many as have a fifth of `context`, and in any case the last one.
/// Never is a call parted from its result.
pub(super) fn keeps(items: &[Item], context: u32) -> usize {
    let room = u64::from(context) / 5;
    let (mut weighed, mut keeps, mut fit) = (0, 0, 0);
    for item in items.iter().rev() {
        weighed += weight(item);
        fit += 1;
        if weighed > room && keeps > 0 {
            break;
        }
        // What begins with results has lost its calls.
        if !matches!(item, Item::Results { .. }) {
            keeps = fit;
        }
    }
    keeps
}

/// Where to cut what is too long even to be summed up: the later half of `items`.
pub(super) fn later_half(items: &[Item]) -> &[Item] {
    let middle = items.len() / 2;
    let results = |item: &&Item| matches!(item, Item::Results { .. });
    let skipped = items[middle..].iter().take_while(results).count();
    &items[middle + skipped..]
}

/// About how many tokens an item has.
fn weight(item: &Item) -> u64 {
    const EACH: u64 = 10;
    match item {
        Item::User { parts } => parts.iter().map(of_part).sum::<u64>() + EACH,
        Item::Assistant { blocks } => blocks.iter().map(of_block).sum::<u64>() + EACH,
        Item::Results { results } => {
            let of = |result: &ToolResult| result.parts.iter().map(of_part).sum::<u64>() + EACH;
            results.iter().map(of).sum()
        }
    }
}

/// About how many bytes of a document cost a token.
const PDF_BYTES: u64 = 50;

fn of_part(part: &Part) -> u64 {
    match part {
        Part::Text { text } => text.len() as u64 / 3,
        // Pictures are scaled down to about so much; a document has it on each of its pages.
        Part::Media { media_type, data, .. } if media_type == "application/pdf" => {
            (bytes_of(data).unwrap_or(0) / PDF_BYTES).max(20_000)
        }
        Part::Media { .. } => 1_600,
    }
}

fn of_block(block: &Block) -> u64 {
    match block {
        Block::Text { text } => text.len() as u64 / 3,
        Block::Call(_) | Block::Opaque { .. } => {
            serde_json::to_string(block).map_or(0, |text| text.len() as u64 / 3)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::model::conversation::{Input, ToolCall};

    fn said(bytes: usize) -> Item {
        Item::User { parts: vec![Part::text("x".repeat(bytes))] }
    }

    fn call() -> Item {
        let input = Input::Fields(serde_json::Map::new());
        let call = ToolCall { id: "1".to_owned(), name: "bash".to_owned(), input };
        Item::Assistant { blocks: vec![Block::Call(call)] }
    }

    fn result(bytes: usize) -> Item {
        let parts = vec![Part::text("x".repeat(bytes))];
        Item::Results { results: vec![ToolResult { call: "1".to_owned(), parts, failed: false }] }
    }

    #[test]
    fn it_is_due_when_four_fifths_are_full_by_what_is_known_and_what_is_new() {
        let items = [said(3_000), call(), said(300)];
        let usage = Usage { input: 100, cache_read: 700, cache_write: 0, output: 50 };
        let known = Known::after(usage, 2);
        assert_eq!(estimate(&items, known, 999_999), 850 + 100 + 10);
        assert!(estimate(&items, None, 3_000) > 1_000 + 1_000 + 100);
        let untold = Known::after(Usage { output: 50, ..Usage::default() }, 2);
        assert_eq!(estimate(&items, untold, 3_000), estimate(&items, None, 3_000));
        assert!(!is_due(960, 1_200) && is_due(961, 1_200));
    }

    #[test]
    fn the_last_items_stay_and_no_call_is_parted_from_its_result() {
        let cases: [(&str, Vec<Item>, usize); 5] = [
            ("all fits", vec![said(3), said(3)], 2),
            ("the last alone", vec![said(3_000), said(3_000)], 1),
            ("a result with its call", vec![said(3), call(), result(9_000)], 2),
            (
                "not the result of a call that does not fit",
                vec![said(9_000), result(3), said(3)],
                1,
            ),
            ("as many as fit", vec![said(3_000), said(900), said(900)], 2),
        ];
        for (case, items, expected) in cases {
            assert_eq!(keeps(&items, 5_000), expected, "{case}");
        }
    }

    #[test]
    fn whatever_was_said_what_stays_begins_with_no_result_and_has_the_last_item() {
        // All conversations of seven rounds, each a short or long message, or a call with its result.
        for number in 0..4_u32.pow(7) {
            let round = |place: u32| match number / 4_u32.pow(place) % 4 {
                0 => vec![said(30)],
                1 => vec![said(2_000)],
                2 => vec![call(), result(30)],
                _ => vec![call(), result(2_000)],
            };
            let items: Vec<Item> = (0..7).flat_map(round).collect();
            let keeps = keeps(&items, 5_000);
            let stays = &items[items.len() - keeps..];
            let first = stays.first().unwrap_or_else(|| panic!("nothing stays of {items:?}"));
            assert!(!matches!(first, Item::Results { .. }), "{items:?}");
            let fewest = if matches!(stays.last(), Some(Item::Results { .. })) { 2 } else { 1 };
            let weighed = stays.iter().map(weight).sum::<u64>();
            assert!(keeps == fewest || weighed <= 1_000, "{keeps} of {items:?}");
        }
    }

    #[test]
    fn leaving_out_a_little_is_not_worth_a_request() {
        assert!(is_worth_it(&[said(3_000), said(3_000)], 5_000));
        assert!(!is_worth_it(&[said(300), said(3_000)], 5_000));
        assert!(!is_worth_it(&[said(9_000)], 5_000), "the last one stays in any case");
    }

    #[test]
    fn the_summary_stands_before_what_stays() {
        let mut items = vec![said(1), call(), result(1), said(2)];
        Compaction { summary: Some("all of it".to_owned()), keeps: 1 }.apply(&mut items);
        let Item::User { parts } = &items[0] else { panic!("{items:?}") };
        let [Part::Text { text }] = parts.as_slice() else { panic!("{parts:?}") };
        assert!(text.ends_with("all of it"), "{text}");
        assert_eq!(items[1..], [said(2)]);
        Compaction { summary: None, keeps: 9 }.apply(&mut items);
        assert_eq!(items.len(), 3, "more than there is: all of it stays");
    }

    #[test]
    fn not_every_answer_is_a_summary() {
        let long = "x".repeat(SUMMARY_MIN);
        let cases = [
            (Stop::End, "short", false, true),
            (Stop::End, " \n", false, false),
            (Stop::Tools, "let me see", true, false),
            (Stop::Tools, &long, false, true),
            (Stop::Length, &long, false, false),
            (Stop::Length, &long, true, true),
            (Stop::Refused, &long, true, false),
        ];
        for (stop, text, last, taken) in cases {
            let blocks = vec![Block::Text { text: text.to_owned() }];
            let answer = Answer { blocks, stop, usage: Usage::default() };
            assert_eq!(summary(&answer, last).is_some(), taken, "{stop:?} {last} {text}");
        }
    }

    #[test]
    fn a_half_begins_with_no_result() {
        let items = [said(1), call(), result(1), said(2)];
        assert_eq!(later_half(&items), [said(2)]);
        assert_eq!(later_half(&[said(1)]), [said(1)]);
    }
}
