use serde_json::{Value, json};
use twobox_shared::agent_config::Api;

use super::super::conversation::{Answer, Block, Input, Item, Part, Stop, ToolResult, Usage};

use super::samples::{
    body, call, media, opaque, read, result, route, survives_anything, user, words,
};
use super::{Complaint, Quirks};

fn sent(items: &[Item]) -> Value {
    body(&route(Api::Messages), Quirks::default(), items)
}

fn mark() -> Value {
    json!({"type": "ephemeral"})
}

/// The same without the marks of the cache, which are no part of what is compared there.
fn unmarked(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            fields.remove("cache_control");
            fields.values_mut().for_each(|it| *it = unmarked(it.take()));
        }
        Value::Array(values) => values.iter_mut().for_each(|it| *it = unmarked(it.take())),
        _ => {}
    }
    value
}

fn conversation() -> Vec<Item> {
    let thought = json!({"type": "thinking", "thinking": "hm", "signature": "c2ln"});
    vec![
        user("hello"),
        Item::Assistant {
            blocks: vec![
                opaque(Api::Messages, "up/some-model", thought),
                opaque(Api::Messages, "up/other", json!({"type": "thinking"})),
                opaque(Api::Chat, "up/some-model", json!({"reasoning_content": "x"})),
                words("let me see"),
                words(" "),
                call("toolu_1", "bash", json!({"command": "ls"})),
                call("odd id!", "grep", json!("{\"pat")),
            ],
        },
        Item::Results { results: vec![result("toolu_1", "a.txt"), result("odd id!", "")] },
        Item::User { parts: vec![Part::text("and this?"), media("image/png", "a.png")] },
    ]
}

#[test]
fn a_request_has_everything_where_the_api_wants_it() {
    let sent = sent(&conversation());
    assert_eq!(sent["model"], "some-model");
    assert_eq!(sent["max_tokens"], 4096);
    assert_eq!(sent["stream"], true);
    assert_eq!(
        sent["system"],
        json!([{"type": "text", "text": "be kind", "cache_control": mark()}])
    );
    assert_eq!(
        sent["tools"],
        json!([
            {"name": "bash", "description": "does bash", "input_schema": {"type": "object"}},
            {"name": "grep", "description": "does grep", "input_schema": {"type": "object"},
             "cache_control": mark()},
        ])
    );
    let odd = sent["messages"][1]["content"][3]["id"].clone();
    assert!(odd.as_str().unwrap().starts_with("call_"), "{odd}");
    assert_eq!(
        sent["messages"],
        json!([
            {"role": "user", "content": [
                {"type": "text", "text": "hello", "cache_control": mark()},
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                {"type": "text", "text": "let me see"},
                {"type": "tool_use", "id": "toolu_1", "name": "bash", "input": {"command": "ls"}},
                {"type": "tool_use", "id": odd, "name": "grep", "input": {"unreadable": "{\"pat"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1",
                 "content": [{"type": "text", "text": "a.txt"}]},
                {"type": "tool_result", "tool_use_id": odd,
                 "content": [{"type": "text", "text": "(no output)"}]},
                {"type": "text", "text": "and this?"},
                {"type": "image",
                 "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
                 "cache_control": mark()},
            ]},
        ])
    );
}

#[test]
fn each_call_has_its_result_and_nobody_speaks_twice_in_a_row() {
    let bash = |id: &str| call(id, "bash", json!({}));
    let failed = ToolResult { failed: true, ..result("b", "no") };
    let items = [
        user("one"),
        Item::Assistant { blocks: vec![bash("a"), bash("b")] },
        Item::Results { results: vec![failed, result("nobody", "lost")] },
        Item::Assistant { blocks: vec![words("")] },
        user("two"),
        Item::Assistant { blocks: vec![bash("a")] },
        user("three"),
    ];
    let sent = unmarked(sent(&items));
    let roles: Vec<_> = sent["messages"].as_array().unwrap().iter().map(|it| &it["role"]).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant", "user"]);
    let unknown = "It is not known what became of this call: it was interrupted.";
    assert_eq!(
        sent["messages"][2]["content"],
        json!([
            {"type": "tool_result", "tool_use_id": "a", "is_error": true,
             "content": [{"type": "text", "text": unknown}]},
            {"type": "tool_result", "tool_use_id": "b", "is_error": true,
             "content": [{"type": "text", "text": "no"}]},
            {"type": "text", "text": "two"},
        ])
    );
    let again = &sent["messages"][3]["content"][0]["id"];
    assert!(again.as_str().unwrap().ends_with("_2"), "no name is there twice: {again}");
    assert_eq!(&sent["messages"][4]["content"][0]["tool_use_id"], again);
}

#[test]
fn what_was_sent_before_is_sent_again_as_it_was() {
    let mut items = conversation();
    let before = sent(&items);
    items.push(Item::Assistant { blocks: vec![words("done")] });
    items.push(user("more"));
    let after = sent(&items);
    let messages = |it: &Value| unmarked(it.clone())["messages"].as_array().unwrap().clone();
    let (old, new) = (messages(&before), messages(&after));
    assert_eq!(old[..], new[..old.len()]);
    for part in ["system", "tools"] {
        assert_eq!(before[part].to_string(), after[part].to_string());
    }
    // Where the request before ended, this one has a mark again: all of it is read from the cache.
    let last = |it: &Value, at: usize| {
        it["messages"][at]["content"].as_array().unwrap().last().unwrap()["cache_control"].clone()
    };
    assert_eq!((last(&before, 2), last(&after, 2), last(&after, 4)), (mark(), mark(), mark()));
    assert_eq!(after.to_string().matches("cache_control").count(), 4, "as many as there may be");
}

#[test]
fn a_model_that_takes_no_pictures_is_told_that_there_is_one() {
    let parts = ["image/png", "application/pdf", "video/mp4"].map(|it| media(it, "f"));
    let items = [Item::User { parts: parts.to_vec() }];
    let kinds = |images| {
        let sent = body(
            &twobox_shared::agent_config::Route { images, ..route(Api::Messages) },
            Quirks::default(),
            &items,
        );
        let content = sent["messages"][0]["content"].as_array().unwrap().clone();
        content.iter().map(|it| it["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(true), ["image", "document", "text"]);
    assert_eq!(kinds(false), ["text", "text", "text"]);
}

#[test]
fn thoughts_that_are_not_taken_back_are_left_out_from_there_on() {
    let refusals = [
        "messages.1.content.0: Invalid `signature` in `thinking` block",
        "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified",
    ];
    for message in refusals {
        let body_of = json!({"type": "error",
            "error": {"type": "invalid_request_error", "message": message}});
        let complaint = Complaint::of_status(400, &body_of.to_string());
        let learned = Quirks::default().learn(Api::Messages, &complaint).unwrap();
        let sent = body(&route(Api::Messages), learned, &conversation());
        assert_eq!(sent["messages"][1]["content"][0]["type"], "text", "{message}");
        assert_eq!(learned.learn(Api::Messages, &complaint), None, "it is asked again once");
    }
}

fn events() -> Vec<Value> {
    vec![
        json!({"type": "message_start", "message": {"id": "msg_1", "usage": {
            "input_tokens": 10, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 300,
            "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
        json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "thinking_delta", "thinking": "hm"}}),
        json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "signature_delta", "signature": "c2ln"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1,
            "content_block": {"type": "redacted_thinking", "data": "ZGF0YQ=="}}),
        json!({"type": "ping"}),
        json!({"type": "content_block_start", "index": 2,
            "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 2,
            "delta": {"type": "text_delta", "text": "let me "}}),
        json!({"type": "content_block_delta", "index": 2,
            "delta": {"type": "text_delta", "text": "see"}}),
        json!({"type": "content_block_start", "index": 3,
            "content_block": {"type": "tool_use", "id": "toolu_1", "name": "bash", "input": {}}}),
        json!({"type": "content_block_delta", "index": 3,
            "delta": {"type": "input_json_delta", "partial_json": "{\"command\":"}}),
        json!({"type": "content_block_delta", "index": 3,
            "delta": {"type": "input_json_delta", "partial_json": "\"ls\"}"}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"},
            "usage": {"output_tokens": 44}}),
        json!({"type": "message_stop"}),
    ]
}

#[test]
fn an_answer_is_read_with_its_thoughts_and_calls() {
    let (answer, heard) = read(Api::Messages, &events()).unwrap();
    let own = |value| opaque(Api::Messages, "up/some-model", value);
    let expected = Answer {
        blocks: vec![
            own(json!({"type": "thinking", "thinking": "hm", "signature": "c2ln"})),
            own(json!({"type": "redacted_thinking", "data": "ZGF0YQ=="})),
            words("let me see"),
            call("toolu_1", "bash", json!({"command": "ls"})),
        ],
        stop: Stop::Tools,
        usage: Usage { input: 10, cache_read: 300, cache_write: 20, output: 44 },
    };
    assert_eq!(answer, Some(expected));
    assert_eq!(heard, "let me see");
}

#[test]
fn a_reason_to_stop_is_read_as_what_is_to_be_done() {
    let cases = [
        ("end_turn", Stop::End),
        ("stop_sequence", Stop::End),
        ("tool_use", Stop::End), // without a call
        ("max_tokens", Stop::Length),
        ("model_context_window_exceeded", Stop::Length),
        ("pause_turn", Stop::Length),
        ("refusal", Stop::Refused),
    ];
    for (reason, expected) in cases {
        let events = [json!({"type": "message_delta", "delta": {"stop_reason": reason}})];
        let (answer, _) = read(Api::Messages, &events).unwrap();
        assert_eq!(answer.map(|it| it.stop), Some(expected), "{reason}");
    }
    let unfinished = [json!({"type": "content_block_start", "index": 0,
        "content_block": {"type": "text", "text": "hel"}})];
    assert_eq!(read(Api::Messages, &unfinished).unwrap(), (None, "hel".to_owned()));
}

#[test]
fn a_call_that_was_cut_is_not_taken_for_one() {
    for pieces in [&[][..], &["{\"command\": \"rm -r"]] {
        let mut events = vec![json!({"type": "content_block_start", "index": 0,
            "content_block": {"type": "tool_use", "id": "t", "name": "bash", "input": {}}})];
        events.extend(pieces.iter().map(|piece| {
            json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": piece}})
        }));
        events.push(json!({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}}));
        let answer = read(Api::Messages, &events).unwrap().0.unwrap();
        assert_eq!(answer.stop, Stop::Length);
        let input = match &answer.blocks[..] {
            [Block::Call(call)] => &call.input,
            other => panic!("{other:?}"),
        };
        assert_eq!(input, &Input::Unreadable(pieces.concat()));
    }
}

#[test]
fn an_error_in_the_stream_is_a_complaint() {
    let event = json!({"type": "error",
        "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let complaint = read(Api::Messages, &[event]).unwrap_err();
    assert_eq!(complaint.message, "Overloaded");
    assert!(complaint.is(&["overloaded_error"]));
}

#[test]
fn no_event_is_wrong_enough_to_panic() {
    survives_anything(Api::Messages, &events());
}
