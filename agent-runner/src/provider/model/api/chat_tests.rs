use serde_json::{Value, json};
use twobox_shared::agent_config::Api;

use super::super::conversation::{Answer, Item, Part, Stop, ToolResult, Usage};
use super::samples::{
    body, call, media, opaque, read, read_texts, result, route, survives_anything, user, words,
};
use super::{Complaint, Quirks};

fn sent(items: &[Item]) -> Value {
    body(&route(Api::Chat), Quirks::default(), items)
}

fn conversation() -> Vec<Item> {
    let own = |value| opaque(Api::Chat, "up/some-model", value);
    let seen = ToolResult { parts: vec![media("image/png", "a.png")], ..result("call_2", "") };
    vec![
        Item::User { parts: vec![Part::text("hello"), media("application/pdf", "a.pdf")] },
        Item::Assistant {
            blocks: vec![
                own(json!({"reasoning_content": "hm", "reasoning_details": [{"text": "hm"}]})),
                words("let me see"),
                own(json!({"call": "call_1", "extra_content": {"signature": "s"}})),
                call("call_1", "bash", json!({"command": "ls"})),
                call("call_2", "grep", json!({})),
            ],
        },
        Item::Results { results: vec![result("call_1", "a.txt"), seen] },
        user("and?"),
        Item::Assistant { blocks: vec![words("done")] },
        user("thanks"),
    ]
}

#[test]
fn a_request_has_everything_where_the_api_wants_it() {
    let sent = sent(&conversation());
    assert_eq!((&sent["model"], &sent["stream"]), (&json!("some-model"), &json!(true)));
    assert_eq!(sent["stream_options"], json!({"include_usage": true}));
    assert_eq!((&sent["max_tokens"], &sent["max_completion_tokens"]), (&json!(4096), &json!(null)));
    assert_eq!(
        sent["tools"][1],
        json!({"type": "function", "function": {"name": "grep", "description": "does grep",
            "parameters": {"type": "object"}}})
    );
    let pdf = "hello\n\n[a.pdf (application/pdf) is not shown: this model is not given files of \
               this type.]";
    assert_eq!(
        sent["messages"],
        json!([
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": pdf},
            {"role": "assistant", "content": "let me see", "reasoning_content": "hm",
             "reasoning_details": [{"text": "hm"}], "tool_calls": [
                {"id": "call_1", "type": "function",
                 "function": {"name": "bash", "arguments": "{\"command\":\"ls\"}"},
                 "extra_content": {"signature": "s"}},
                {"id": "call_2", "type": "function",
                 "function": {"name": "grep", "arguments": "{}"}},
            ]},
            {"role": "tool", "tool_call_id": "call_1", "content": "a.txt"},
            {"role": "tool", "tool_call_id": "call_2", "content": "[a.png follows.]"},
            {"role": "user", "content": [
                {"type": "text", "text": "[a.png, from a tool:]"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "text", "text": "and?"},
            ]},
            {"role": "assistant", "content": "done"},
            {"role": "user", "content": "thanks"},
        ])
    );
}

#[test]
fn what_was_sent_before_is_sent_again_as_it_was() {
    let items = conversation();
    let messages = |items: &[Item]| sent(items)["messages"].as_array().unwrap().clone();
    let (old, new) = (messages(&items[..4]), messages(&items));
    assert_eq!(old[..], new[..old.len()]);
}

#[test]
fn what_an_upstream_refuses_is_not_sent_again() {
    let refusal = |message: &str| {
        Complaint::of_status(400, &json!({"error": {"message": message}}).to_string())
    };
    let tokens = refusal(
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use \
         'max_completion_tokens' instead.",
    );
    let options = refusal("unknown field stream_options");
    let learned = Quirks::default().learn(Api::Chat, &tokens).unwrap();
    let learned = learned.learn(Api::Chat, &options).unwrap();
    let sent = body(&route(Api::Chat), learned, &[user("hello")]);
    assert_eq!((&sent["max_tokens"], &sent["max_completion_tokens"]), (&json!(null), &json!(4096)));
    assert!(sent["stream_options"].is_null());
    assert_eq!(learned.learn(Api::Chat, &tokens), None, "it is asked again once");
    assert_eq!(Quirks::default().learn(Api::Chat, &refusal("no")), None);
}

fn delta(delta: Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}], "usage": null})
}

fn finish(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn events() -> Vec<Value> {
    let piece = |piece: Value| delta(json!({"tool_calls": [piece]}));
    vec![
        delta(json!({"role": "assistant", "content": "", "reasoning_content": "h"})),
        delta(json!({"reasoning_content": "m", "reasoning_details": [{"text": "hm"}]})),
        delta(json!({"content": "let me "})),
        delta(json!({"content": "see"})),
        piece(json!({"index": 0, "id": "call_1", "type": "function",
            "function": {"name": "bash", "arguments": ""},
            "extra_content": {"signature": "s"}})),
        piece(json!({"index": 0, "function": {"arguments": "{\"command\":"}})),
        piece(json!({"index": 1, "id": "call_2", "function": {"name": "grep", "arguments": "{"}})),
        piece(json!({"index": 0, "function": {"arguments": "\"ls\"}"}})),
        piece(json!({"index": 1, "function": {"arguments": "}"}})),
        finish("tool_calls"),
        json!({"choices": [], "usage": {"prompt_tokens": 330, "completion_tokens": 44,
            "prompt_tokens_details": {"cached_tokens": 300}}}),
    ]
}

#[test]
fn an_answer_is_read_with_its_thoughts_and_calls() {
    let (answer, heard) = read(Api::Chat, &events()).unwrap();
    let own = |value| opaque(Api::Chat, "up/some-model", value);
    let expected = Answer {
        blocks: vec![
            own(json!({"reasoning_content": "hm", "reasoning_details": [{"text": "hm"}]})),
            words("let me see"),
            own(json!({"call": "call_1", "extra_content": {"signature": "s"}})),
            call("call_1", "bash", json!({"command": "ls"})),
            call("call_2", "grep", json!({})),
        ],
        stop: Stop::Tools,
        usage: Usage { input: 30, cache_read: 300, cache_write: 0, output: 44 },
    };
    assert_eq!(answer, Some(expected));
    assert_eq!(heard, "let me see");
}

#[test]
fn calls_are_told_apart_however_a_server_sends_them() {
    let two = || vec![call("a", "bash", json!({"x": 1})), call("b", "bash", json!({"y": 2}))];
    let unnamed =
        || vec![call("call_0", "bash", json!({"x": 1})), call("call_1", "bash", json!({"y": 2}))];
    let function = |arguments: &str| json!({"name": "bash", "arguments": arguments});
    let (x, y) = (function("{\"x\":1}"), function("{\"y\":2}"));
    let cases = [
        (
            "whole, without an index",
            vec![json!([{"id": "a", "function": x}, {"id": "b", "function": y}])],
            two(),
        ),
        (
            "whole, each under the index 0",
            vec![
                json!([{"index": 0, "id": "a", "function": x}]),
                json!([{"index": 0, "id": "b", "function": y}]),
            ],
            two(),
        ),
        (
            "whole, without ids",
            vec![json!([{"index": 0, "function": x}]), json!([{"index": 0, "function": y}])],
            unnamed(),
        ),
        (
            "whole, without ids and indexes",
            vec![json!([{"function": x}, {"function": y}])],
            unnamed(),
        ),
        (
            "as an object",
            vec![json!([{"id": "a", "function": {"name": "bash", "arguments": {"x": 1}}},
                {"id": "b", "function": {"name": "bash", "arguments": {"y": 2}}}])],
            two(),
        ),
        (
            "with the id and the name in each piece",
            vec![
                json!([{"index": 0, "id": "a", "function": function("{\"x\"")}]),
                json!([{"index": 0, "id": "a", "function": function(":1}")}]),
                json!([{"index": 1, "id": "b", "function": y}]),
            ],
            two(),
        ),
        (
            "in pieces without an index",
            vec![
                json!([{"id": "a", "function": function("{\"x\"")}]),
                json!([{"function": {"arguments": ":1}"}}]),
                json!([{"id": "b", "function": y}]),
            ],
            two(),
        ),
    ];
    for (case, pieces, expected) in cases {
        let mut events: Vec<_> =
            pieces.into_iter().map(|pieces| delta(json!({"tool_calls": pieces}))).collect();
        events.push(finish("stop")); // some say it so
        let answer = read(Api::Chat, &events).unwrap().0.unwrap();
        assert_eq!((answer.blocks, answer.stop), (expected, Stop::Tools), "{case}");
    }
}

#[test]
fn a_reason_to_stop_is_read_as_what_is_to_be_done() {
    let cases = [
        ("stop", Stop::End),
        ("length", Stop::Length),
        ("content_filter", Stop::Refused),
        ("tool_calls", Stop::End), // without a call
    ];
    for (reason, expected) in cases {
        let events = [delta(json!({"content": "hi"})), finish(reason)];
        let answer = read(Api::Chat, &events).unwrap().0.unwrap();
        assert_eq!((answer.stop, answer.blocks), (expected, vec![words("hi")]), "{reason}");
    }
    let unfinished = delta(json!({"content": "hi"}));
    assert_eq!(read(Api::Chat, std::slice::from_ref(&unfinished)).unwrap().0, None);
    let done = [unfinished.to_string(), "[DONE]".to_owned()];
    assert_eq!(read_texts(Api::Chat, &done).unwrap().0.unwrap().stop, Stop::End);
    let refused = [delta(json!({"refusal": "no"})), finish("stop")];
    let answer = read(Api::Chat, &refused).unwrap().0.unwrap();
    assert_eq!((answer.stop, answer.blocks), (Stop::Refused, vec![words("no")]));
}

#[test]
fn arguments_that_are_no_json_are_kept_as_they_are() {
    let piece = json!({"index": 0, "id": "a", "function": {"name": "bash", "arguments": "ls -l"}});
    let events = [delta(json!({"tool_calls": [piece]})), finish("tool_calls")];
    let answer = read(Api::Chat, &events).unwrap().0.unwrap();
    assert_eq!(answer.blocks, [call("a", "bash", json!("ls -l"))]); // Input::Unreadable
}

#[test]
fn an_error_in_the_stream_is_a_complaint() {
    let cases = [
        json!({"error": {"message": "oops", "code": 502}, "choices": []}),
        json!({"error": "oops"}),
        json!({"choices": [{"error": {"message": "oops"}, "finish_reason": "error"}]}),
    ];
    for event in cases {
        assert_eq!(
            read(Api::Chat, std::slice::from_ref(&event)).unwrap_err().message,
            "oops",
            "{event}"
        );
    }
    assert!(read_texts(Api::Chat, &["no JSON".to_owned()]).is_err());
}

#[test]
fn no_event_is_wrong_enough_to_panic() {
    survives_anything(Api::Chat, &events());
}

#[test]
fn what_a_call_is_given_may_come_in_very_many_pieces() {
    let piece = |piece: Value| delta(json!({"tool_calls": [piece]}));
    let begin =
        json!({"index": 0, "id": "c", "function": {"name": "bash", "arguments": "{\"a\":\""}});
    let mut events = vec![piece(begin)];
    events.extend((0..40_000).map(|_| {
        piece(json!({"index": 0, "function": {"arguments": "0123456789012345678901234567890123456789"}}))
    }));
    events.extend([
        piece(json!({"index": 0, "function": {"arguments": "\"}"}})),
        finish("tool_calls"),
    ]);
    let begun = std::time::Instant::now();
    let (answer, _) = read(Api::Chat, &events).unwrap();
    assert_eq!(answer.unwrap().blocks.len(), 1);
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed()); // the square takes minutes
}
