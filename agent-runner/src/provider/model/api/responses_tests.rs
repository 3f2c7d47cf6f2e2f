use serde_json::{Value, json};
use twobox_shared::agent_config::Api;

use super::super::conversation::{Answer, Item, Part, Stop, ToolResult, Usage};
use super::samples::{
    body, call, media, opaque, read, result, route, survives_anything, user, words,
};
use super::{Complaint, Quirks};

fn sent(items: &[Item]) -> Value {
    body(&route(Api::Responses), Quirks::default(), items)
}

fn conversation() -> Vec<Item> {
    let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [],
        "encrypted_content": "enc"});
    let failed = ToolResult { failed: true, ..result("call_2", "no such file") };
    let seen = ToolResult { parts: vec![media("image/png", "a.png")], ..result("call_3", "") };
    vec![
        Item::User { parts: vec![Part::text("hello"), media("application/pdf", "a.pdf")] },
        Item::Assistant {
            blocks: vec![
                opaque(Api::Responses, "up/some-model", reasoning),
                opaque(Api::Messages, "up/some-model", json!({"type": "thinking"})),
                words("let me see"),
                call("call_1", "bash", json!({"command": "ls"})),
                call("call_2", "grep", json!("{\"pat")),
                call("call_3", "grep", json!({})),
            ],
        },
        Item::Results { results: vec![result("call_1", "a.txt"), failed, seen] },
    ]
}

#[test]
fn a_request_has_everything_where_the_api_wants_it() {
    let sent = sent(&conversation());
    assert_eq!(sent["model"], "some-model");
    assert_eq!(sent["instructions"], "be kind");
    assert_eq!(sent["max_output_tokens"], 4096);
    assert_eq!((&sent["stream"], &sent["store"]), (&json!(true), &json!(false)));
    assert_eq!(sent["include"], json!(["reasoning.encrypted_content"]));
    assert_eq!(
        sent["tools"][1],
        json!({"type": "function", "name": "grep", "description": "does grep",
            "parameters": {"type": "object"}, "strict": false})
    );
    assert_eq!(
        sent["input"],
        json!([
            {"role": "user", "content": [
                {"type": "input_text", "text": "hello"},
                {"type": "input_file", "filename": "a.pdf",
                 "file_data": "data:application/pdf;base64,AAAA"},
            ]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "enc"},
            {"role": "assistant", "content": "let me see"},
            {"type": "function_call", "call_id": "call_1", "name": "bash",
             "arguments": "{\"command\":\"ls\"}"},
            {"type": "function_call", "call_id": "call_2", "name": "grep",
             "arguments": "{\"unreadable\":\"{\\\"pat\"}"},
            {"type": "function_call", "call_id": "call_3", "name": "grep", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "a.txt"},
            {"type": "function_call_output", "call_id": "call_2", "output": "Failed: no such file"},
            {"type": "function_call_output", "call_id": "call_3", "output": [
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
            ]},
        ])
    );
}

#[test]
fn what_was_sent_before_is_sent_again_as_it_was() {
    let mut items = conversation();
    let before = sent(&items);
    items.push(Item::Assistant { blocks: vec![words("done")] });
    items.push(user("more"));
    let after = sent(&items);
    let input = |it: &Value| it["input"].as_array().unwrap().clone();
    let (old, new) = (input(&before), input(&after));
    assert_eq!(old[..], new[..old.len()]);
    assert_eq!(before["prompt_cache_key"], after["prompt_cache_key"]);
    assert_ne!(before["prompt_cache_key"], sent(&[user("another")])["prompt_cache_key"]);
}

#[test]
fn an_upstream_that_keeps_its_reasoning_is_not_asked_for_it_again() {
    let refusal = r#"{"error":{"message":"Encrypted content is not supported with this model.",
        "type":"invalid_request_error","param":"include"}}"#;
    let learn =
        |status| Quirks::default().learn(Api::Responses, &Complaint::of_status(status, refusal));
    let learned = learn(400).unwrap();
    assert!(body(&route(Api::Responses), learned, &conversation())["include"].is_null());
    assert_eq!(learned.learn(Api::Responses, &Complaint::of_status(400, refusal)), None);
    assert_eq!(learn(500), None);
    let refusal = r#"{"error":{"message":"The encrypted content gAAA could not be verified.",
        "code":"invalid_encrypted_content"}}"#;
    let complaint = Complaint::of_status(400, refusal);
    let learned = Quirks::default().learn(Api::Responses, &complaint).unwrap();
    let sent = body(&route(Api::Responses), learned, &conversation());
    assert_eq!(sent["input"][1]["role"], "assistant", "its reasoning is not sent back");
}

fn events() -> Vec<Value> {
    let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [], "status": null,
        "encrypted_content": "enc"});
    vec![
        json!({"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": reasoning}),
        json!({"type": "response.output_item.added", "output_index": 1, "item": {}}),
        json!({"type": "response.output_text.delta", "output_index": 1, "delta": "let me "}),
        json!({"type": "response.output_text.delta", "output_index": 1, "delta": "see"}),
        json!({"type": "response.output_item.done", "output_index": 1, "item":
            {"type": "message", "role": "assistant", "content":
                [{"type": "output_text", "text": "let me see", "annotations": []}]}}),
        json!({"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{"}),
        json!({"type": "response.output_item.done", "output_index": 2, "item":
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "bash",
             "arguments": "{\"command\":\"ls\"}", "status": "completed"}}),
        json!({"type": "response.completed", "response": {"status": "completed", "output": [],
            "usage": {"input_tokens": 330, "input_tokens_details": {"cached_tokens": 300},
                "output_tokens": 44}}}),
    ]
}

#[test]
fn an_answer_is_read_with_its_reasoning_and_calls() {
    let (answer, heard) = read(Api::Responses, &events()).unwrap();
    let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [],
        "encrypted_content": "enc"});
    let expected = Answer {
        blocks: vec![
            opaque(Api::Responses, "up/some-model", reasoning),
            words("let me see"),
            call("call_1", "bash", json!({"command": "ls"})),
        ],
        stop: Stop::Tools,
        usage: Usage { input: 30, cache_read: 300, cache_write: 0, output: 44 },
    };
    assert_eq!(answer, Some(expected));
    assert_eq!(heard, "let me see");
}

#[test]
fn an_answer_that_is_told_only_at_the_end_is_read_from_there() {
    let item = json!({"type": "message", "content": [{"type": "output_text", "text": "hi"}]});
    let cut = json!({"type": "function_call", "call_id": "c", "name": "bash", "arguments": "{}",
        "status": "incomplete"});
    let whole = |status: &str, reason: &str, output: &Value| {
        json!({"type": format!("response.{status}"), "response": {"status": status,
            "incomplete_details": {"reason": reason}, "output": [output]}})
    };
    let cases = [
        (whole("completed", "", &item), Stop::End, words("hi")),
        (whole("incomplete", "max_output_tokens", &item), Stop::Length, words("hi")),
        (whole("incomplete", "content_filter", &item), Stop::Refused, words("hi")),
        (
            whole("incomplete", "max_output_tokens", &cut),
            Stop::Length,
            call("c", "bash", json!("{}")),
        ),
    ];
    for (event, stop, block) in cases {
        let answer = read(Api::Responses, &[event]).unwrap().0.unwrap();
        assert_eq!((answer.stop, answer.blocks), (stop, vec![block]));
    }
}

#[test]
fn a_refusal_is_told_in_its_words() {
    let refusal = json!({"type": "message", "content": [{"type": "refusal", "refusal": "no"}]});
    let events = [
        json!({"type": "response.refusal.delta", "delta": "no"}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": refusal}),
        json!({"type": "response.completed", "response": {"status": "completed"}}),
    ];
    let (answer, heard) = read(Api::Responses, &events).unwrap();
    let answer = answer.unwrap();
    assert_eq!((answer.stop, answer.blocks), (Stop::Refused, vec![words("no")]));
    assert_eq!(heard, "no");
}

#[test]
fn an_error_in_the_stream_is_a_complaint() {
    let cases = [
        json!({"type": "error", "code": "server_error", "message": "oops"}),
        json!({"type": "error", "error": {"type": "server_error", "message": "oops"}}),
        json!({"type": "response.failed", "response":
            {"error": {"code": "server_error", "message": "oops"}}}),
    ];
    for event in cases {
        let complaint = read(Api::Responses, std::slice::from_ref(&event)).unwrap_err();
        assert_eq!(complaint.message, "oops", "{event}");
        assert!(complaint.is(&["server_error"]), "{event}");
    }
}

#[test]
fn no_event_is_wrong_enough_to_panic() {
    survives_anything(Api::Responses, &events());
}
