//! The client against a real socket, behind which a script answers.

use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::{sleep, spawn};

use serde_json::json;
use tempfile::TempDir;
use twobox_shared::agent_config::{Api, ModelName};
use twobox_shared::ids::MessageId;

use super::super::super::Reins;
use super::super::api::samples::{route, tools, user, words};
use super::super::conversation::{Item, Stop};
use super::script::{STREAM, Step, answer, begun, chunk, cut, serve, status, whole};
use super::*;

/// A client of two models, a handle for it, and who may push.
struct Bench {
    _folder: TempDir,
    socket: PathBuf,
    client: Client,
    handle: TurnHandle,
    reins: Reins,
    aside: Aside,
    heard: String,
    items: Vec<Item>,
    deadline: Duration,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("gateway.sock");
        let second = ModelName::try_from("other/model".to_owned()).unwrap();
        let routes = vec![
            route(Api::Messages),
            Route { name: second, path: "/other/v1".to_owned(), ..route(Api::Messages) },
        ];
        let gateway =
            Gateway { key: "own-key".to_owned(), routes, egress: false, servers: Vec::new() };
        let mut client = Client::new(&gateway, socket.clone());
        client.patience.pause = Duration::from_millis(1);
        client.patience.longest_pause = Duration::from_millis(20);
        let (handle, reins, _) = TurnHandle::apart();
        let (aside, heard) = (Aside::default(), String::new());
        let (items, deadline) = (vec![user("hello")], Duration::from_secs(20));
        Self { _folder: folder, socket, client, handle, reins, aside, heard, items, deadline }
    }

    fn ask(&mut self) -> Result<Answer, Trouble> {
        self.ask_and(&mut |_| {})
    }

    /// Asks, and calls `on` with each piece of the answer.
    fn ask_and(&mut self, on: &mut dyn FnMut(&Reins)) -> Result<Answer, Trouble> {
        let tools = tools();
        let request =
            Request { system: "be kind", tools: &tools, items: &self.items, max_output_tokens: 99 };
        let Self { client, handle, reins, aside, heard, deadline, .. } = self;
        let deadline = Instant::now() + *deadline;
        client.ask(&request, handle, deadline, aside, &mut |words| {
            heard.push_str(words);
            on(reins);
        })
    }
}

fn said(answered: Result<Answer, Trouble>) -> String {
    match answered.unwrap().blocks.as_slice() {
        [super::super::conversation::Block::Text { text }] => text.clone(),
        other => panic!("{other:?}"),
    }
}

fn is_unreachable(answered: Result<Answer, Trouble>, why: &str) {
    match answered {
        Err(Trouble::Unreachable(told)) if told.contains(why) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_streams_to_whoever_listens() {
    let mut bench = Bench::new();
    let (server, requests) = serve(&bench.socket, vec![answer("hello, you")]);
    assert_eq!(said(bench.ask()), "hello, you");
    assert_eq!(bench.heard, "hello, you");
    server.join().unwrap();
    let (head, body) = requests.recv().unwrap();
    assert!(head.starts_with("POST /up/v1 HTTP/1.1\r\n"), "{head}");
    for line in ["authorization: Bearer own-key\r\n", "anthropic-version: 2023-06-01\r\n"] {
        assert!(head.contains(line), "{head}");
    }
    assert_eq!(body["messages"][0]["content"][0]["text"], "hello");
    assert_eq!(bench.client.route().name.to_string(), "up/some-model");
}

#[test]
fn an_answer_that_broke_off_is_asked_for_again_from_the_beginning() {
    let mut bench = Bench::new();
    let (server, _requests) = serve(&bench.socket, vec![cut("hel"), cut("he"), answer("hello")]);
    assert_eq!(said(bench.ask()), "hello");
    server.join().unwrap();
}

#[test]
fn an_answer_that_breaks_off_again_and_again_is_asked_of_the_next_model() {
    let mut bench = Bench::new();
    let steps = vec![cut("a"), cut("a"), cut("a"), answer("other")];
    let (server, requests) = serve(&bench.socket, steps);
    assert_eq!(said(bench.ask()), "other");
    server.join().unwrap();
    assert!(requests.iter().last().unwrap().0.starts_with("POST /other/v1 "));
    assert_eq!(bench.client.route().name.to_string(), "other/model");
}

#[test]
fn an_error_in_the_stream_is_no_answer() {
    let mut bench = Bench::new();
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}});
    let step = Step::Say(format!("{STREAM}{}", chunk(&format!("data: {error}\n\n"))));
    let (server, _requests) = serve(&bench.socket, vec![step; 6]);
    is_unreachable(bench.ask(), "busy");
    server.join().unwrap();
}

#[test]
fn an_error_that_comes_as_a_success_is_no_answer() {
    let mut bench = Bench::new();
    let body = r#"{"error":{"type":"invalid_request_error","message":"no such model"}}"#;
    let head = format!("content-type: application/json\r\ncontent-length: {}", body.len());
    let step = Step::Say(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}"));
    bench.client.ways.truncate(1);
    let (server, _requests) = serve(&bench.socket, vec![step]);
    assert_eq!(bench.ask(), Err(Trouble::Unfit("no such model".to_owned())));
    server.join().unwrap();
}

#[test]
fn a_cancelled_turn_ends_in_the_middle_of_a_stream() {
    let mut bench = Bench::new();
    let step = Step::Stall(format!("{STREAM}{}", chunk(&begun("hel"))));
    let (server, _requests) = serve(&bench.socket, vec![step, answer("after")]);
    let start = Instant::now();
    assert_eq!(bench.ask_and(&mut |reins| reins.push(Push::Cancel)), Err(Trouble::Cancelled));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(bench.heard, "hel");
    assert_eq!(said(bench.ask()), "after", "nothing is left of the request before");
    server.join().unwrap();
}

#[test]
fn a_turn_ends_at_its_deadline_whatever_the_host_does() {
    let stalls =
        [Step::Stall(String::new()), Step::Stall(format!("{STREAM}{}", chunk(": ping\n")))];
    for step in stalls {
        let mut bench = Bench::new();
        bench.deadline = Duration::from_millis(500);
        let (server, _requests) = serve(&bench.socket, vec![step]);
        is_unreachable(bench.ask(), "no answer in the time of the turn");
        server.join().unwrap();
    }
    let mut bench = Bench::new();
    bench.deadline = Duration::from_millis(500);
    is_unreachable(bench.ask(), "the host does not listen");
}

#[test]
fn a_model_that_says_nothing_is_given_up() {
    let mut bench = Bench::new();
    bench.client.patience.silence = Duration::from_millis(500);
    let steps = vec![Step::Stall(format!("{STREAM}{}", chunk(&begun("hel")))), answer("other")];
    let (server, _requests) = serve(&bench.socket, steps);
    assert_eq!(said(bench.ask()), "other");
    server.join().unwrap();
}

#[test]
fn an_answer_that_has_not_begun_is_waited_for_longer_than_its_next_words() {
    let mut bench = Bench::new();
    bench.client.patience.silence = Duration::from_millis(10);
    let Step::Say(late) = answer("late") else { unreachable!() };
    let (server, _requests) = serve(&bench.socket, vec![Step::SayLate(late)]);
    assert_eq!(said(bench.ask()), "late");
    server.join().unwrap();
    let mut bench = Bench::new();
    bench.client.patience.head = Duration::from_millis(100);
    let steps = vec![Step::Stall(String::new()), answer("other")];
    let (server, _requests) = serve(&bench.socket, steps);
    assert_eq!(said(bench.ask()), "other");
    server.join().unwrap();
}

#[test]
fn whoever_refuses_for_good_leaves_it_to_the_next_model() {
    let refused = || status(401, r#"{"error":{"message":"invalid key"}}"#);
    let mut bench = Bench::new();
    let (server, _requests) = serve(&bench.socket, vec![refused(), answer("other")]);
    assert_eq!(said(bench.ask()), "other");
    server.join().unwrap();
    let mut bench = Bench::new();
    let (server, _requests) = serve(&bench.socket, vec![refused(), refused()]);
    match bench.ask() {
        Err(Trouble::Refused(why)) => {
            assert!(why.contains("other refused the host's key"), "{why}")
        }
        other => panic!("{other:?}"),
    }
    server.join().unwrap();
    let mut bench = Bench::new();
    let (server, _requests) = serve(&bench.socket, vec![refused(), status(503, "busy")]);
    is_unreachable(bench.ask(), "busy"); // which another attempt may find well
    server.join().unwrap();
}

#[test]
fn a_host_that_restarts_is_waited_for() {
    let mut bench = Bench::new();
    let socket = bench.socket.clone();
    drop(UnixListener::bind(&socket).unwrap()); // refused from here on
    let later = spawn(move || {
        sleep(Duration::from_millis(100));
        std::fs::remove_file(&socket).unwrap();
        sleep(Duration::from_millis(50));
        let closed = Step::Say(String::new());
        let (server, _requests) = serve(&socket, vec![closed.clone(), closed, answer("back")]);
        server.join().unwrap();
    });
    assert_eq!(said(bench.ask()), "back");
    later.join().unwrap();
}

#[test]
fn a_host_that_dies_with_each_request_is_not_asked_for_ever() {
    let mut bench = Bench::new();
    bench.client.patience.losses = Duration::ZERO;
    let (server, _requests) = serve(&bench.socket, vec![Step::Say(String::new()); 2]);
    is_unreachable(bench.ask(), "the host closed the connection without an answer");
    server.join().unwrap();
}

#[test]
fn a_status_is_told_as_what_follows_from_it() {
    let body = r#"{"error":{"message":"so \u001b[2Jit is"}}"#;
    let message = |status| format!(r"status {status}: so \u{{1b}}[2Jit is");
    let cases = [
        (400, Trouble::Unfit(message(400))),
        (404, Trouble::Refused(format!("up/some-model: {}", message(404)))),
        (413, Trouble::TooLong(message(413))),
    ];
    for (code, expected) in cases {
        let mut bench = Bench::new();
        bench.client.ways.truncate(1);
        let (server, _requests) = serve(&bench.socket, vec![status(code, body)]);
        assert_eq!(bench.ask(), Err(expected));
        server.join().unwrap();
    }
    for code in [429, 500, 529] {
        let mut bench = Bench::new();
        let steps = vec![status(code, body), answer("other"), answer("again"), status(code, body)];
        let (server, requests) = serve(&bench.socket, [steps, vec![status(503, body)]].concat());
        assert_eq!(said(bench.ask()), "other", "{code}");
        assert_eq!(said(bench.ask()), "again", "who failed is asked last for a while");
        is_unreachable(bench.ask(), &message(code));
        server.join().unwrap();
        let paths: Vec<_> = requests.iter().map(|(head, _)| head[5..11].to_owned()).collect();
        assert_eq!(paths, ["/up/v1", "/other", "/other", "/other", "/up/v1"]);
    }
}

#[test]
fn what_is_too_long_for_the_next_model_is_shortened_for_that_one() {
    let mut bench = Bench::new();
    bench.client.ways[1].route.context_tokens = 8_000;
    let steps = vec![status(503, "away"), status(413, "too long")];
    let (server, _requests) = serve(&bench.socket, steps);
    assert!(matches!(bench.ask(), Err(Trouble::TooLong(_))));
    assert_eq!(bench.client.route().context_tokens, 8_000);
    server.join().unwrap();
}

#[test]
fn a_refusal_counts_that_comes_before_the_request_was_read() {
    let mut bench = Bench::new();
    bench.items = vec![user(&"long ".repeat(1 << 20))];
    let body = "the day's budget is used up";
    let Step::Say(text) = status(402, body) else { unreachable!() };
    let text = text.replacen("\r\n", "\r\nx-twobox-refusal: budget\r\n", 1);
    let (server, _requests) = serve(&bench.socket, vec![Step::SayUnread(text)]);
    assert_eq!(bench.ask(), Err(Trouble::OverBudget(format!("status 402: {body}"))));
    server.join().unwrap();
}

#[test]
fn what_the_host_has_not_seen_yet_is_asked_of_the_same_model_again() {
    let Step::Say(text) = status(503, "not seen yet") else { unreachable!() };
    let told = "\r\nx-twobox-refusal: unseen\r\nretry-after: 0\r\n";
    let unseen = Step::Say(text.replacen("\r\n", told, 1));
    let mut bench = Bench::new();
    let steps = vec![unseen.clone(), unseen.clone(), unseen.clone(), answer("now")];
    let (server, requests) = serve(&bench.socket, steps);
    assert_eq!(said(bench.ask()), "now");
    server.join().unwrap();
    assert!(requests.iter().all(|(head, _)| head.starts_with("POST /up/v1 ")));
    let mut bench = Bench::new();
    bench.client.patience.unseen = Duration::ZERO;
    let (server, _requests) = serve(&bench.socket, vec![unseen]);
    is_unreachable(bench.ask(), "not seen yet"); // and no other model is asked for it
    server.join().unwrap();
}

#[test]
fn what_is_pushed_meanwhile_is_kept() {
    let mut bench = Bench::new();
    let step = Step::Say(format!("{STREAM}{}0\r\n\r\n", chunk(&whole("hi"))));
    let (server, _requests) = serve(&bench.socket, vec![cut("h"), step]);
    bench.reins.push(Push::Model(1, Heard::Words("stale".to_owned())));
    bench.client.number = 1; // the request of which the above is left
    let more = PromptMessage {
        id: MessageId::parse("m2").unwrap(),
        seq: 4,
        kind: "chat".to_owned(),
        timestamp: String::new(),
        trigger: true,
        channel: None,
        chat: None,
        thread: None,
        sender: None,
        about: None,
        text: "and this".to_owned(),
        files: Vec::new(),
    };
    let mut told = false;
    let answered = bench.ask_and(&mut |reins| {
        if !std::mem::replace(&mut told, true) {
            reins.push(Push::FollowUp(vec![more.clone()]));
            reins.push(Push::Notice("it was too long".to_owned()));
        }
    });
    assert_eq!(said(answered), "hi");
    assert_eq!(bench.aside.notices, ["it was too long"]);
    assert_eq!(bench.aside.follow_ups[0].text, "and this");
    assert_eq!(bench.heard, "hhi", "an answer that broke off is heard, and begins anew");
    server.join().unwrap();
}

#[test]
fn what_an_upstream_wants_otherwise_is_learned_once() {
    let mut bench = Bench::new();
    bench.client.ways.truncate(1);
    bench.client.ways[0].route = route(Api::Chat);
    let refusal = r#"{"error":{"message":"Use 'max_completion_tokens' instead."}}"#;
    let hi =
        "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\n";
    let hi = Step::Say(format!("HTTP/1.1 200 OK\r\n\r\n{hi}data: [DONE]\n\n"));
    let (server, requests) = serve(&bench.socket, vec![status(400, refusal), hi.clone(), hi]);
    assert_eq!(said(bench.ask()), "hi");
    assert_eq!(said(bench.ask()), "hi");
    server.join().unwrap();
    let limits: Vec<_> = requests.iter().map(|(_, it)| it["max_tokens"].clone()).collect();
    assert_eq!(limits, [json!(99), json!(null), json!(null)]);
}

#[test]
fn an_answer_is_the_same_however_its_stream_is_cut() {
    let chat = "data: {\"choices\":[{\"delta\":{\"content\":\"hä\"}}]}\r\n\r\ndata: \
                {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let responses = "data: {\"type\":\"response.output_item.done\",\"item\":{\"type\":\"message\",\
                     \"content\":[{\"text\":\"hä\"}]}}\n\n\
                     data: {\"type\":\"response.completed\",\"response\":{}}\n\n";
    let (stream, _other) = UnixStream::pair().unwrap();
    for (api, text) in
        [(Api::Messages, &*whole("hä")), (Api::Chat, chat), (Api::Responses, responses)]
    {
        let listen = |mut body: &mut dyn Read| {
            let reading = super::super::api::Reading::new(&route(api));
            exchange::listen(&stream, &mut body, reading, PATIENCE.silence, &mut |_| {})
        };
        for at in 0..=text.len() {
            let (before, after) = text.as_bytes().split_at(at);
            let Outcome::Answer(answer) = listen(&mut before.chain(after)) else {
                panic!("{text} cut at {at}");
            };
            assert_eq!((answer.blocks, answer.stop), (vec![words("hä")], Stop::End), "at {at}");
            match listen(&mut &*before) {
                Outcome::Answer(answer) => assert_eq!(answer.blocks, [words("hä")], "at {at}"),
                Outcome::Cut(_) => {}
                other => panic!("{other:?} at {at}"),
            }
        }
    }
}
