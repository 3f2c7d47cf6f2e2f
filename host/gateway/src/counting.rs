//! What an upstream says that a request cost, read from its answer as it passes: pure, and bounded
//! whatever the answer is. Nothing of the answer is held back for it.

use serde_json::Value;
use twobox_shared::agent_config::Api;

use twobox_store::usage::Tokens;

/// The longest event, or plain answer, that is looked into. A longer one passes, uncounted.
const LOOKED_INTO_MAX: usize = 4 << 20;

/// Follows one answer.
#[derive(Debug)]
pub struct Counting {
    api: Api,
    form: Form,
    tokens: Option<Tokens>,
    /// Whether the upstream has said the last word about what it cost.
    complete: bool,
    /// Whether the answer has said that it is over.
    ended: bool,
}

/// What became of the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// What the upstream has said so far; `None` if nothing.
    pub tokens: Option<Tokens>,
    /// Whether that is all: if not, the answer broke off, or has no count.
    pub complete: bool,
}

#[derive(Debug)]
enum Form {
    /// One JSON value.
    Plain(Bounded),
    /// Server-sent events.
    Events {
        /// Of the line that has begun.
        line: Bounded,
        /// Of the event that has begun.
        data: Bounded,
        /// Whether the last byte was a carriage return, which a line feed may follow.
        after_return: bool,
    },
}

/// Bytes up to a limit, or that there were more.
#[derive(Debug, Default)]
struct Bounded {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Bounded {
    fn add(&mut self, more: &[u8]) {
        if self.too_long || self.bytes.len() + more.len() > LOOKED_INTO_MAX {
            *self = Self { bytes: Vec::new(), too_long: true };
        } else {
            self.bytes.extend_from_slice(more);
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.too_long = false;
    }
}

impl Counting {
    /// Of an answer whose `content-type` is `content_type`.
    pub fn new(api: Api, content_type: &str) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        let form = match kind.eq_ignore_ascii_case("text/event-stream") {
            true => Form::Events {
                line: Bounded::default(),
                data: Bounded::default(),
                after_return: false,
            },
            false => Form::Plain(Bounded::default()),
        };
        Self { api, form, tokens: None, complete: false, ended: false }
    }

    /// Looks at the bytes that come next.
    pub fn feed(&mut self, bytes: &[u8]) {
        match &mut self.form {
            Form::Plain(body) => body.add(bytes),
            Form::Events { .. } => self.feed_events(bytes),
        }
    }

    fn feed_events(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Form::Events { line, after_return, .. } = &mut self.form else { return };
            if std::mem::take(after_return) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                line.add(bytes);
                return;
            };
            line.add(&bytes[..end]);
            *after_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        let Form::Events { line, data, .. } = &mut self.form else { return };
        let blank = line.bytes.is_empty() && !line.too_long;
        if !blank {
            if line.too_long {
                data.too_long = true;
            } else if let Some(value) = line.bytes.strip_prefix(b"data:") {
                if !data.bytes.is_empty() {
                    data.add(b"\n");
                }
                data.add(value.strip_prefix(b" ").unwrap_or(value));
            }
            line.clear();
            return;
        }
        let event = match data.too_long {
            true => Vec::new(),
            false => std::mem::take(&mut data.bytes),
        };
        data.clear();
        if event == b"[DONE]" {
            self.ended = true;
        } else if let Ok(value) = serde_json::from_slice::<Value>(&event) {
            self.hear(&value);
        }
    }

    /// One event of a stream.
    fn hear(&mut self, event: &Value) {
        let kind = event["type"].as_str().unwrap_or_default();
        match (self.api, kind) {
            (Api::Messages, "message_start") => {
                self.tokens = messages(&event["message"]["usage"], self.tokens);
            }
            // Later totals stand for earlier ones, and leave out what has not changed.
            (Api::Messages, "message_delta") => {
                let told = messages(&event["usage"], self.tokens);
                self.complete = told.is_some() && event["usage"]["output_tokens"].is_u64();
                self.tokens = told.or(self.tokens);
            }
            (Api::Messages, "message_stop") => self.ended = true,
            (Api::Responses, "response.completed" | "response.incomplete" | "response.failed") => {
                self.tokens = responses(&event["response"]["usage"]).or(self.tokens);
                self.complete = self.tokens.is_some();
                self.ended = true;
            }
            (Api::Chat, _) => {
                if let Some(tokens) = chat(&event["usage"]) {
                    self.tokens = Some(tokens);
                    self.complete = true;
                }
            }
            (Api::Messages | Api::Responses, _) => {}
        }
    }

    /// Whether nothing more can come that would change the count.
    pub fn is_final(&self) -> bool {
        self.ended && self.complete
    }

    /// What was said when the answer was over. `whole` is whether its body ended as it should.
    pub fn end(mut self, whole: bool) -> Counted {
        match &self.form {
            Form::Plain(body) if !body.too_long => {
                let value: Value = serde_json::from_slice(&body.bytes).unwrap_or_default();
                self.tokens = match self.api {
                    Api::Messages => messages(&value["usage"], None),
                    Api::Responses => responses(&value["usage"]),
                    Api::Chat => chat(&value["usage"]),
                };
                self.complete = self.tokens.is_some() && whole;
            }
            Form::Plain(_) => {}
            // Some tell the usage so far with each event.
            Form::Events { .. } => self.complete &= self.ended || whole,
        }
        Counted { tokens: self.tokens, complete: self.complete }
    }
}

/// `usage` of Messages, over what was said `before`; `None` unless both what was read and what was
/// written has been said. `iterations` are those of one request that the upstream took in several steps;
/// what stands beside them is of the last alone.
fn messages(usage: &Value, before: Option<Tokens>) -> Option<Tokens> {
    if let Some(steps) = usage["iterations"].as_array().filter(|steps| !steps.is_empty()) {
        return steps.iter().map(|step| messages(step, None)).try_fold(
            Tokens::default(),
            |sum, step| {
                let step = step?;
                Some(Tokens {
                    input: sum.input.saturating_add(step.input),
                    cache_read: sum.cache_read.saturating_add(step.cache_read),
                    cache_write: sum.cache_write.saturating_add(step.cache_write),
                    output: sum.output.saturating_add(step.output),
                })
            },
        );
    }
    let said = |name: &str| usage[name].as_u64();
    let (input, output) = (said("input_tokens"), said("output_tokens"));
    let old = before.unwrap_or_default();
    Some(Tokens {
        input: input.or(before.map(|it| it.input))?,
        cache_read: said("cache_read_input_tokens").unwrap_or(old.cache_read),
        cache_write: said("cache_creation_input_tokens").unwrap_or(old.cache_write),
        output: output.or(before.map(|it| it.output))?,
    })
}

/// `usage` of Responses: `input_tokens` has what was read from the cache in it.
fn responses(usage: &Value) -> Option<Tokens> {
    let input = usage["input_tokens"].as_u64()?;
    let cached = usage["input_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0).min(input);
    let output = usage["output_tokens"].as_u64()?;
    Some(Tokens { input: input - cached, cache_read: cached, cache_write: 0, output })
}

/// `usage` of Chat Completions: `prompt_tokens` has what was read from the cache in it.
fn chat(usage: &Value) -> Option<Tokens> {
    let input = usage["prompt_tokens"].as_u64()?;
    let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0).min(input);
    let output = usage["completion_tokens"].as_u64()?;
    // Some leave what the model thought out of its answer, and count it in the sum alone.
    let total = usage["total_tokens"].as_u64().unwrap_or(0);
    let output = output.max(total.saturating_sub(input));
    Some(Tokens { input: input - cached, cache_read: cached, cache_write: 0, output })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = "event: message_start\n\
        data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":12,\
        \"cache_read_input_tokens\":100,\"cache_creation_input_tokens\":7,\"output_tokens\":1}}}\n\n\
        : a remark\r\nevent: ping\r\ndata: {\"type\":\"ping\"}\r\n\r\n\
        data: {\"type\":\"message_delta\",\n\
        data: \"usage\":{\"output_tokens\":40}}\n\n\
        data: {\"type\":\"message_stop\"}\n\n";
    const RESPONSES: &str = "data: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\n\
        data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":50,\
        \"input_tokens_details\":{\"cached_tokens\":30},\"output_tokens\":4}}}\n\n";
    const CHAT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\r\r\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\r\r\
        data: [DONE]\r\r";

    fn tokens(input: u64, cache_read: u64, cache_write: u64, output: u64) -> Option<Tokens> {
        Some(Tokens { input, cache_read, cache_write, output })
    }

    #[test]
    fn streams_are_counted_however_they_are_cut() {
        let cases = [
            (Api::Messages, MESSAGES, tokens(12, 100, 7, 40)),
            (Api::Responses, RESPONSES, tokens(20, 30, 0, 4)),
            (Api::Chat, CHAT, tokens(9, 0, 0, 2)),
        ];
        for (api, stream, expected) in cases {
            for cut in 0..stream.len() {
                let mut counting = Counting::new(api, "text/event-stream; charset=utf-8");
                counting.feed(&stream.as_bytes()[..cut]);
                counting.feed(&stream.as_bytes()[cut..]);
                assert!(counting.is_final(), "{api:?} at {cut}");
                assert_eq!(
                    counting.end(true),
                    Counted { tokens: expected, complete: true },
                    "{api:?} at {cut}"
                );
            }
        }
    }

    #[test]
    fn a_stream_that_breaks_off_is_counted_as_far_as_it_went() {
        let begun = &MESSAGES[..MESSAGES.find(": a remark").unwrap()];
        let mut counting = Counting::new(Api::Messages, "text/event-stream");
        counting.feed(begun.as_bytes());
        assert!(!counting.is_final());
        assert_eq!(counting.end(false), Counted { tokens: tokens(12, 100, 7, 1), complete: false });
        // Some tell the usage so far with each event: it is not all until the end has come.
        let so_far = "data: {\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}\n\n";
        let mut counting = Counting::new(Api::Chat, "text/event-stream");
        counting.feed(so_far.as_bytes());
        assert!(!counting.end(false).complete);
        let nothing = Counting::new(Api::Chat, "text/event-stream").end(true);
        assert_eq!(nothing, Counted { tokens: None, complete: false });
    }

    #[test]
    fn plain_answers_are_counted_at_their_end() {
        let cases = [
            (
                Api::Messages,
                r#"{"usage":{"input_tokens":3,"cache_creation_input_tokens":2,"output_tokens":5}}"#,
                tokens(3, 0, 2, 5),
            ),
            (
                Api::Responses,
                r#"{"usage":{"input_tokens":3,"output_tokens":5}}"#,
                tokens(3, 0, 0, 5),
            ),
            (
                Api::Chat,
                r#"{"usage":{"prompt_tokens":3,"completion_tokens":5,
                    "prompt_tokens_details":{"cached_tokens":9}}}"#,
                tokens(0, 3, 0, 5),
            ),
            (Api::Chat, r#"{"usage":{"prompt_tokens":-1}}"#, None),
            (Api::Chat, "no JSON", None),
            (Api::Messages, r#"{"usage":{}}"#, None),
            (Api::Messages, r#"{"usage":{"input_tokens":3}}"#, None),
            (Api::Responses, r#"{"usage":{"input_tokens":3}}"#, None),
            (
                Api::Chat,
                r#"{"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":108}}"#,
                tokens(3, 0, 0, 105),
            ),
            (
                Api::Messages,
                r#"{"usage":{"input_tokens":1,"output_tokens":2,"iterations":[
                    {"input_tokens":180000,"output_tokens":3500},{"input_tokens":1,"output_tokens":2}]}}"#,
                tokens(180_001, 0, 0, 3502),
            ),
        ];
        for (api, body, expected) in cases {
            let mut counting = Counting::new(api, "application/json");
            counting.feed(body.as_bytes());
            let complete = expected.is_some();
            assert_eq!(counting.end(true), Counted { tokens: expected, complete }, "{body}");
        }
        let mut cut = Counting::new(Api::Chat, "application/json");
        cut.feed(br#"{"usage":{"prompt_tokens":3,"completion_tokens":5}}"#);
        assert!(!cut.end(false).complete, "its connection broke");
    }

    #[test]
    fn an_endless_event_takes_no_memory_and_hides_no_count() {
        let mut counting = Counting::new(Api::Chat, "text/event-stream");
        counting.feed(b"data: \"");
        let piece = vec![b'x'; 64 << 10];
        for _ in 0..(2 * LOOKED_INTO_MAX / piece.len()) {
            counting.feed(&piece);
        }
        let Form::Events { line, data, .. } = &counting.form else { unreachable!("a stream") };
        assert!(line.bytes.is_empty() && line.too_long && data.bytes.is_empty());
        counting.feed(b"\"\n\n");
        counting.feed(CHAT.as_bytes());
        assert_eq!(counting.end(true).tokens, tokens(9, 0, 0, 2));
    }
}
