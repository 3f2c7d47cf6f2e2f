//! The vendors' caches of prompts.
//!
//! Anthropic: what stands before a mark `cache_control` is kept under its digest once an answer to it
//! begins. A later request reads the longest prefix that is kept and ends at one of its marks or at most
//! [`LOOK_BACK`] blocks before, and writes what lies between that and its last mark. The order is tools,
//! system, messages; another `tool_choice` or `thinking` begins the messages anew. A mark on the whole
//! request is one on its last block.
//!
//! OpenAI: every prefix is kept, in steps of [`STEP`] tokens.
//!
//! Guesses: the least size of a prefix (1024 tokens and more) does not matter here, nothing is ever
//! forgotten, and OpenAI's routing by `prompt_cache_key` always finds the machine that has it. How many
//! bytes are a token is said in [`tokens`](super::tokens).

use std::collections::BTreeSet;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::tokens::{Tokens, canonical, tokens};

/// How many blocks before a mark are looked at for a prefix that is kept.
pub const LOOK_BACK: usize = 20;

/// The size of OpenAI's steps, in tokens.
pub const STEP: usize = 128;

/// The digests of the prefixes that are kept.
pub type Kept = BTreeSet<[u8; 32]>;

/// What a request reads and writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What it counts, without an answer.
    pub tokens: Tokens,
    /// What is kept once its answer begins.
    pub keeps: Vec<[u8; 32]>,
}

/// A place in a prompt: the end of a block.
struct Place {
    digest: [u8; 32],
    bytes: usize,
    /// The time for which the prefix is to be kept, if the block is marked.
    mark: Option<Mark>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Minutes,
    Hour,
}

/// Reads a request to Anthropic's Messages.
pub fn messages(body: &Value, kept: &Kept) -> Reading {
    let places = places(body);
    let at = |place: Option<&Place>| place.map_or(0, |place| tokens(place.bytes));
    let marks: Vec<usize> = (0..places.len()).filter(|&n| places[n].mark.is_some()).collect();
    let found = |&mark: &usize| {
        let back = mark.saturating_sub(LOOK_BACK);
        (back..=mark).rev().find(|&n| kept.contains(&places[n].digest))
    };
    let read = at(marks.iter().rev().find_map(found).map(|n| &places[n]));
    let (mut until, mut tokens) = (read, Tokens { cache_read: read, ..Tokens::default() });
    for &mark in &marks {
        let more = at(Some(&places[mark])).saturating_sub(until);
        tokens.cache_write += more;
        if places[mark].mark == Some(Mark::Hour) {
            tokens.cache_write_1h += more;
        }
        until += more;
    }
    tokens.input = at(places.last()).saturating_sub(until);
    Reading { tokens, keeps: marks.iter().map(|&mark| places[mark].digest).collect() }
}

fn places(body: &Value) -> Vec<Place> {
    let (mut hash, mut bytes, mut places) = (Sha256::new(), 0, Vec::new());
    hash.update(body["model"].to_string());
    let mut add = |hash: &mut Sha256, block: &Value, head: &str| {
        let text = format!("{head}{}", canonical(block));
        hash.update(&text);
        bytes += text.len();
        let mark = match &block["cache_control"] {
            Value::Null => None,
            mark if mark["ttl"] == "1h" => Some(Mark::Hour),
            _ => Some(Mark::Minutes),
        };
        places.push(Place { digest: hash.clone().finalize().into(), bytes, mark });
    };
    for key in ["tools", "system"] {
        for block in blocks(&body[key]) {
            add(&mut hash, &block, "");
        }
    }
    hash.update(format!("{}{}", body["tool_choice"], body["thinking"]));
    for message in body["messages"].as_array().into_iter().flatten() {
        let mut head = message["role"].as_str().unwrap_or_default().to_owned();
        for block in blocks(&message["content"]) {
            add(&mut hash, &block, &std::mem::take(&mut head));
        }
    }
    if let (Some(last), Value::Object(mark)) = (places.last_mut(), &body["cache_control"]) {
        let hour = mark.get("ttl").is_some_and(|ttl| ttl == "1h");
        last.mark = Some(if hour { Mark::Hour } else { Mark::Minutes });
    }
    places
}

/// A text is one block.
fn blocks(content: &Value) -> Vec<Value> {
    match content {
        Value::Array(blocks) => blocks.clone(),
        Value::String(text) => vec![serde_json::json!({"type": "text", "text": text})],
        _ => Vec::new(),
    }
}

/// How many marks for the cache a request has.
pub fn marks(body: &Value) -> usize {
    places(body).iter().filter(|place| place.mark.is_some()).count()
}

/// Reads a request to one of OpenAI's interfaces, whose prompt stands under these keys.
pub fn steps(body: &Value, keys: &[&str], kept: &Kept) -> Reading {
    let mut text = String::new();
    for key in keys {
        match &body[*key] {
            Value::Array(items) => items.iter().for_each(|item| text += &canonical(item)),
            Value::Null => {}
            other => text += &canonical(other),
        }
    }
    let mut hash = Sha256::new();
    hash.update(body["model"].to_string());
    let digest = |step: &[u8]| {
        hash.update(step);
        hash.clone().finalize().into()
    };
    let keeps: Vec<[u8; 32]> = text.as_bytes().chunks_exact(STEP * 4).map(digest).collect();
    let read = keeps.iter().take_while(|digest| kept.contains(*digest)).count() * STEP;
    let (read, all) = (read as u64, tokens(text.len()));
    let tokens = Tokens { input: all - read, cache_read: read, ..Tokens::default() };
    Reading { tokens, keeps }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn block(text: &str, marked: bool) -> Value {
        let mut block = json!({"type": "text", "text": text.repeat(100)});
        if marked {
            block["cache_control"] = json!({"type": "ephemeral"});
        }
        block
    }

    fn ask(said: &[Value]) -> Value {
        json!({"model": "m", "system": [block("s", true)], "messages": [{"role": "user", "content": said}]})
    }

    #[test]
    fn a_second_turn_reads_what_the_first_has_written() {
        let mut kept = Kept::new();
        let first = messages(&ask(&[block("a", true)]), &kept);
        assert_eq!((first.tokens.cache_read, first.tokens.input), (0, 0));
        kept.extend(first.keeps);
        let second = messages(&ask(&[block("a", false), block("b", true)]), &kept);
        assert_eq!(second.tokens.cache_read, first.tokens.cache_write);
        assert!(second.tokens.cache_write > 0);
        let other = messages(&ask(&[block("x", false), block("b", false)]), &kept).tokens;
        assert!(0 < other.cache_read && other.cache_read < first.tokens.cache_write);
        assert_eq!((other.cache_write, other.prompt()), (0, second.tokens.prompt()));
    }

    #[test]
    fn nothing_is_read_without_a_mark_nor_beyond_the_look_back() {
        let mut kept = Kept::new();
        kept.extend(messages(&ask(&[block("a", true)]), &kept).keeps);
        let mut plain = ask(&[block("a", false)]);
        plain["system"] = json!([block("s", false)]);
        assert_eq!(messages(&plain, &kept).tokens.cache_read, 0);
        for (between, reads) in [(LOOK_BACK, true), (LOOK_BACK + 1, false)] {
            let mut said = vec![block("a", false)];
            said.extend((1..between).map(|_| block("b", false)));
            said.push(block("c", true));
            let mut body = ask(&said);
            body["system"] = json!([block("s", false)]);
            assert_eq!(messages(&body, &kept).tokens.cache_read > 0, reads, "{between}");
        }
    }

    #[test]
    fn a_mark_on_the_request_is_one_on_its_last_block_and_an_hour_is_told() {
        let mut body = ask(&[block("a", false)]);
        body["cache_control"] = json!({"type": "ephemeral", "ttl": "1h"});
        let read = messages(&body, &Kept::new());
        assert_eq!((read.tokens.input, read.keeps.len()), (0, 2));
        assert!(0 < read.tokens.cache_write_1h);
        assert!(read.tokens.cache_write_1h < read.tokens.cache_write);
    }

    #[test]
    fn another_choice_of_tools_keeps_the_system_and_loses_the_messages() {
        let mut body = ask(&[block("a", true)]);
        let first = messages(&body, &Kept::new());
        body["tool_choice"] = json!({"type": "any"});
        let second = messages(&body, &first.keeps.into_iter().collect()).tokens;
        assert!(second.cache_read > 0 && second.cache_write > 0);
    }

    #[test]
    fn openai_keeps_prefixes_in_steps() {
        let body =
            |said: &str| json!({"model": "m", "messages": [{"role": "user", "content": said}]});
        let first = steps(&body(&"a".repeat(3000)), &["messages"], &Kept::new());
        assert_eq!(first.tokens.cache_read, 0);
        let kept: Kept = first.keeps.into_iter().collect();
        let longer = "a".repeat(3000) + "b";
        let second = steps(&body(&longer), &["messages"], &kept).tokens;
        assert_eq!(second.cache_read, 5 * 128);
        let mut other = body(&longer);
        other["model"] = json!("n");
        assert_eq!(steps(&other, &["messages"], &kept).tokens.cache_read, 0);
    }
}
