use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use super::ModelServer;
use crate::models::script::{Part, Rule, Step, Trouble};
use crate::models::{End, Options};

const ALL: [&str; 3] = ["/v1/messages", "/v1/chat/completions", "/v1/responses"];

fn ask(path: &str, text: &str, stream: bool) -> Value {
    let said = json!([{"role": "user", "content": text}]);
    match path {
        "/v1/messages" => {
            json!({"model": "m", "max_tokens": 9, "messages": said, "stream": stream})
        }
        "/v1/responses" => json!({"model": "m", "input": said, "stream": stream}),
        _ => json!({"model": "m", "messages": said, "stream": stream}),
    }
}

fn request(path: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nhost: model\r\nconnection: close\r\nauthorization: Bearer k\r\n\
         anthropic-version: 2023-06-01\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn send(server: &ModelServer, path: &str, body: &Value) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(request(path, body).as_bytes()).unwrap();
    stream
}

/// The whole answer, headers and chunks and all.
fn read(mut stream: impl Read) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn without_a_script_it_repeats_what_was_said() {
    let server = ModelServer::start();
    for path in ALL {
        let answer = read(send(&server, path, &ask(path, "hello", false)));
        assert!(answer.contains("you said: hello"), "{path}: {answer}");
    }
    let requests = server.wait_ended(3);
    assert!(requests.iter().all(|request| request.end == End::Sold), "{requests:?}");
    assert_eq!(requests[0].headers["authorization"], "Bearer k");
    let sold = server.sold()["m"];
    assert_eq!((sold.answers, server.cut().len()), (3, 0));
    assert!(sold.tokens.input > 0 && sold.tokens.output > 0);
}

#[test]
fn an_answer_that_is_cut_is_begun_and_not_sold() {
    let server = ModelServer::start();
    for path in ALL {
        for stream in [true, false] {
            server.script(Step::text("a long answer").with(Trouble::Cut(100)));
            let answer = read(send(&server, path, &ask(path, "hello", stream)));
            let (_, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(!body.ends_with("\r\n0\r\n\r\n"), "{path}: {answer}");
        }
    }
    server.wait_ended(6);
    assert_eq!((server.sold().len(), server.cut()["m"].answers), (0, 6));
}

/// The body of an answer in chunks, without what frames them.
fn unchunked(answer: &str) -> String {
    let (_, mut rest) = answer.split_once("\r\n\r\n").unwrap();
    let mut body = String::new();
    while let Some((size, chunk)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body += &chunk[..size];
        rest = chunk[size..].trim_start_matches("\r\n");
    }
    body
}

#[test]
fn all_that_comes_before_a_cut_arrives_and_nothing_else() {
    let server = ModelServer::start();
    let ask = |trouble: Option<Trouble>| {
        let step = Step::text("a long answer").in_pieces(1);
        server.script(Step { trouble, ..step });
        unchunked(&read(send(&server, ALL[1], &ask(ALL[1], "hello", true))))
    };
    let whole = ask(None).len();
    for bytes in [1, 100, 1000, whole] {
        assert_eq!(ask(Some(Trouble::Cut(bytes))).len(), bytes);
    }
    assert_eq!(server.wait_ended(5).iter().filter(|one| one.end == End::Sold).count(), 2);
}

#[test]
fn a_body_that_ends_early_ends_properly_and_is_not_sold() {
    let server = ModelServer::start();
    server.script(Step::text("a").with(Trouble::Short(100)));
    let answer = read(send(&server, ALL[0], &ask(ALL[0], "hello", true)));
    assert!(answer.ends_with("\r\n0\r\n\r\n"), "{answer}");
    server.wait_ended(1);
    assert_eq!(server.cut()["m"].answers, 1);
}

#[test]
fn a_stalled_answer_waits_for_its_release() {
    let server = ModelServer::start();
    server.script(Step::text("at last").with(Trouble::Stall(0)));
    let stream = send(&server, ALL[0], &ask(ALL[0], "hello", true));
    server.wait_stalled(1);
    assert_eq!(server.wait_for(1)[0].end, End::Open);
    // One that stalls later has said by then what comes before.
    server.script(Step::text("at once").with(Trouble::Stall(20)));
    let mut begun = send(&server, ALL[0], &ask(ALL[0], "hello", true));
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("event: message_start") {
        let mut next = [0];
        begun.read_exact(&mut next).unwrap();
        seen.push(next[0]);
    }
    drop(begun);
    server.release();
    assert!(read(stream).contains("at last"));
    let ends: Vec<End> = server.wait_ended(2).iter().map(|one| one.end).collect();
    assert_eq!(ends, [End::Sold, End::Cut]);
}

#[test]
fn who_leaves_a_stalled_answer_has_not_bought_it() {
    let server = ModelServer::start();
    server.script(Step::text("never").with(Trouble::Stall(10)));
    let stream = send(&server, ALL[2], &ask(ALL[2], "hello", true));
    server.wait_stalled(1);
    drop(stream);
    assert_eq!(server.wait_ended(1)[0].end, End::Cut);
}

#[test]
fn thoughts_are_demanded_back() {
    let server = ModelServer::start();
    let think = Step::empty().and(Part::Thinking("hm".to_owned()));
    server.script(Rule::text("weather", think.and_call("look", json!({"at": "sea"}))));
    let mut body = ask(ALL[0], "the weather?", false);
    let answer = read(send(&server, ALL[0], &body));
    let (from, to) = (answer.find('{').unwrap(), answer.rfind('}').unwrap());
    let said: Value = serde_json::from_str(&answer[from..=to]).unwrap();
    let blocks = said["content"].as_array().unwrap();
    assert_eq!((blocks[0]["type"].as_str(), blocks.len()), (Some("thinking"), 2));
    let result =
        json!([{"type": "tool_result", "tool_use_id": blocks[1]["id"], "content": "rain"}]);
    for (content, status) in [(blocks, "200 OK"), (&blocks[1..].to_vec(), "400 Bad Request")] {
        body["messages"] = json!([
            {"role": "user", "content": "the weather?"},
            {"role": "assistant", "content": content}, {"role": "user", "content": result},
        ]);
        let answer = read(send(&server, ALL[0], &body));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}

#[test]
fn a_wrong_key_an_unknown_model_and_a_long_prompt_are_refused() {
    let options = Options {
        key: Some("k".to_owned()),
        models: vec!["m".to_owned()],
        context_tokens: Some(50),
        ..Options::default()
    };
    let server = ModelServer::start_with(options);
    for path in ALL {
        let told = |body: &Value| read(send(&server, path, body));
        let mut other = ask(path, "hello", false);
        assert!(told(&other).starts_with("HTTP/1.1 200"), "{path}");
        other["model"] = json!("n");
        assert!(told(&other).starts_with("HTTP/1.1 404"), "{path}");
        let long = told(&ask(path, &"long ".repeat(99), false));
        assert!(long.starts_with("HTTP/1.1 400"), "{path}");
        assert!(long.contains("prompt is too long") || long.contains("context_length_exceeded"));
        let wrong = request(path, &ask(path, "hello", false)).replace("Bearer k", "Bearer x");
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(wrong.as_bytes()).unwrap();
        assert!(read(stream).starts_with("HTTP/1.1 401"), "{path}");
    }
    assert_eq!(server.wait_ended(12).iter().filter(|one| one.end == End::Free).count(), 9);
}

#[test]
fn what_is_too_large_is_refused_and_nothing_of_it_kept() {
    let server = ModelServer::start();
    let body = ask(ALL[0], &"a".repeat(33 * 1024 * 1024), false);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    // It may be refused before all of it was sent.
    drop(stream.write_all(request(ALL[0], &body).as_bytes()));
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"HTTP/1.1 413");
    assert!(server.requests().is_empty());
}

#[test]
fn it_answers_at_a_socket_and_to_other_processes() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("model.sock");
    let options = Options { socket: Some(socket.clone()), ..Options::default() };
    let server = ModelServer::start_with(options);
    let tell = |text: String| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        read(stream)
    };
    let script = json!({"queue": [{"say": [{"text": "from afar"}]}]});
    assert!(tell(request("/_stand-in/script", &script)).starts_with("HTTP/1.1 200"));
    assert!(tell(request(ALL[1], &ask(ALL[1], "hello", true))).contains("from afar"));
    let get =
        |what| format!("GET /_stand-in/{what} HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n");
    server.wait_ended(1);
    assert!(tell(get("requests")).contains("\"end\":\"sold\""));
    assert!(tell(get("sold")).contains("\"answers\":1"));
    let wrong = tell(request("/_stand-in/script", &json!({"steps": []})));
    assert!(wrong.starts_with("HTTP/1.1 400") && wrong.contains("unknown field"), "{wrong}");
    drop(server);
    assert!(!socket.exists());
}
