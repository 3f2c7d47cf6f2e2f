//! A server over HTTP that a script plays, with the host in one.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::{sleep, spawn};

use tempfile::TempDir;

use super::*;
use crate::mcp::client::agree_and_list;

/// How long anything is waited for that has to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the script says to a request.
enum Said {
    /// This, and closes.
    All(String),
    /// This, and nothing more until the client goes.
    Open(String),
}

/// What the host has seen.
#[derive(Default)]
struct Seen {
    /// The heads and bodies of the requests.
    asked: Vec<(String, Value)>,
    /// How many clients have gone that were to hear more.
    left: usize,
}

struct Host {
    folder: TempDir,
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
}

impl Host {
    /// Has `script` say what is said to a request, of which it gets head and body.
    fn start(script: impl Fn(&str, &Value) -> Said + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("host.sock")).unwrap();
        let host = Self { folder, seen: Arc::default(), over: Arc::default() };
        let (seen, over, script) =
            (Arc::clone(&host.seen), Arc::clone(&host.over), Arc::new(script));
        spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
                spawn(move || serve(stream.unwrap(), &seen, &*script));
            }
        });
        host
    }

    fn hosted(&self, may_listen: bool) -> Hosted {
        let socket = self.folder.path().join("host.sock");
        Hosted::new(Door { socket, key: "k".to_owned(), server: "far".to_owned() }, may_listen)
    }

    /// How often it was asked for `method` of HTTP, or of MCP.
    fn count(&self, method: &str) -> usize {
        let is = |(head, body): &&(String, Value)| {
            head.starts_with(&format!("{method} ")) || body["method"] == method
        };
        held(&self.seen).asked.iter().filter(is).count()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        drop(UnixStream::connect(self.folder.path().join("host.sock"))); // which has it look
    }
}

fn serve(mut stream: UnixStream, seen: &Mutex<Seen>, script: &dyn Fn(&str, &Value) -> Said) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap() == 0 {
            return;
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |it| it.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    held(seen).asked.push((head.clone(), body.clone()));
    let said = script(&head, &body);
    let (Said::All(text) | Said::Open(text)) = &said;
    drop(stream.write_all(text.as_bytes())); // it may have gone
    if matches!(said, Said::Open(_)) {
        drop(stream.read(&mut [0])); // until it goes
        held(seen).left += 1;
    }
}

fn whole(status: &str, headers: &str, body: &str) -> Said {
    let length = body.len();
    Said::All(format!(
        "HTTP/1.1 {status}\r\n{headers}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    ))
}

/// A stream that ends behind `events`.
fn stream(events: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{events}")
}

fn result(id: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": {"protocolVersion": "2025-06-18"}}).to_string()
}

/// The answer that begins the session `name`.
fn hello(body: &Value, name: &str) -> Said {
    whole("200 OK", &format!("mcp-session-id: {name}\r\n"), &result(&body["id"]))
}

fn refusal(status: u16, word: &str) -> Said {
    let body = r#"{"error":{"message":"Twobox: why"}}"#;
    whole(&format!("{status} No"), &format!("x-twobox-refusal: {word}\r\n"), body)
}

fn ask(hosted: &Hosted, method: &str) -> Heard {
    let cancelled = AtomicBool::new(false);
    let until = Until { deadline: Instant::now() + PATIENCE, cancelled: &cancelled };
    hosted.ask(Asked { method, ..Asked::default() }, until)
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_there() {
        assert!(Instant::now() < end, "{what} is waited for in vain");
        sleep(LOOK);
    }
}

#[test]
fn a_call_that_was_taken_is_not_made_again_though_its_server_has_forgotten_the_session() {
    for status in ["404 No", "400 No"] {
        let host = Host::start(move |head, body| match body["method"].as_str() {
            Some("initialize") => hello(body, "s-1"),
            Some("tools/call") => Said::All(stream("id: 1\nretry: 20\ndata:\n\n")),
            _ if head.starts_with("GET ") => whole(status, "", "no such session"),
            _ => whole("202 Accepted", "", ""),
        });
        let hosted = host.hosted(false);
        ask(&hosted, "initialize").unwrap();
        let heard = ask(&hosted, "tools/call");
        assert!(matches!(heard, Err(Trouble::Cut(_))), "{status}: {heard:?}");
        let counts = ["tools/call", "initialize", "GET"].map(|method| host.count(method));
        assert_eq!(counts, [1, 1, 1], "{status}");
        assert!(hosted.is_there(), "{status}: the next call finds out");
    }
}

#[test]
fn an_answer_goes_on_as_often_as_it_gets_further_and_behind_no_name_that_is_no_header() {
    let host = Host::start(|head, body| match body["method"].as_str() {
        Some("initialize") => hello(body, "s-1"),
        Some("tools/call") => {
            Said::All(stream(&format!("id: {}\nretry: 20\ndata:\n\n", body["id"])))
        }
        Some("tools/list") => Said::All(stream("id: \u{e4}\nretry: 20\ndata:\n\n")),
        _ if head.starts_with("GET ") => {
            let id = head.lines().find_map(|line| line.strip_prefix("last-event-id: ")).unwrap();
            match id.strip_prefix("again-") {
                Some(id) => Said::All(stream(&format!(
                    "data: {}\n\n",
                    result(&json!(id.parse::<u64>().unwrap()))
                ))),
                None => Said::All(stream(&format!("id: again-{id}\n\n"))),
            }
        }
        _ => whole("202 Accepted", "", ""),
    });
    let hosted = host.hosted(false);
    ask(&hosted, "initialize").unwrap();
    assert_eq!(ask(&hosted, "tools/call").unwrap()["protocolVersion"], "2025-06-18");
    assert_eq!(host.count("GET"), 2);
    assert!(matches!(ask(&hosted, "tools/list"), Err(Trouble::Cut(_))));
    assert_eq!(host.count("GET"), 2, "it is no name for a header");
}

#[test]
fn that_the_host_cannot_go_on_with_an_answer_is_no_word_about_the_call() {
    for (status, word) in [(502, "unreachable"), (502, "unanswered"), (429, "too-many")] {
        let host = Host::start(move |head, body| match body["method"].as_str() {
            Some("initialize") => hello(body, "s-1"),
            Some("tools/call") => Said::All(stream("id: 1\nretry: 20\ndata:\n\n")),
            _ if head.starts_with("GET ") => refusal(status, word),
            _ => whole("202 Accepted", "", ""),
        });
        let hosted = host.hosted(false);
        ask(&hosted, "initialize").unwrap();
        let heard = ask(&hosted, "tools/call");
        assert!(matches!(heard, Err(Trouble::Cut(_))), "{status} {word}: {heard:?}");
        assert_eq!((host.count("GET"), host.count("tools/call")), (3, 1), "{status} {word}");
    }
}

#[test]
fn a_refusal_of_one_request_is_no_loss_of_its_server() {
    for (status, word, is_there) in [
        (400, "request", true),
        (403, "forbidden", true),
        (413, "too-large", true),
        (429, "too-many", true),
        (404, "not-found", false),
        (500, "host", false),
        (502, "unreachable", false),
        (502, "unanswered", false),
    ] {
        let host = Host::start(move |_, body| match body["method"].as_str() {
            Some("initialize") => hello(body, "s-1"),
            Some("tools/call") => refusal(status, word),
            _ => whole("202 Accepted", "", ""),
        });
        let hosted = host.hosted(false);
        ask(&hosted, "initialize").unwrap();
        let trouble = ask(&hosted, "tools/call").unwrap_err();
        assert_eq!(trouble.to_string(), "Twobox: why");
        assert_eq!(trouble.may_be_done(), word == "unanswered", "{word}");
        assert_eq!(hosted.is_there(), is_there, "{status} {word}");
    }
}

#[test]
fn a_server_that_forbids_one_thing_may_be_asked_another() {
    let host = Host::start(|head, body| match body["method"].as_str() {
        Some("server/discover") => refusal(403, "forbidden"),
        Some("initialize") => hello(body, "s-1"),
        Some("tools/list") => whole("200 OK", "", &result(&body["id"])),
        _ if head.starts_with("GET ") => refusal(403, "forbidden"),
        _ => whole("202 Accepted", "", ""),
    });
    let hosted = host.hosted(true);
    let shared = Arc::clone(&hosted.0);
    let deadline = Instant::now() + PATIENCE;
    let cancelled = AtomicBool::new(false);
    let (client, tools) = agree_and_list(Box::new(hosted), "far", deadline, &cancelled).unwrap();
    assert_eq!((tools.len(), client.is_there()), (0, true));
    // The client has it, and this test: whoever listened has gone.
    wait_for("the end of the listener", || Arc::strong_count(&shared) == 2);
    assert_eq!(host.count("GET"), 1, "it was not asked for the same again");
}

#[test]
fn what_was_not_asked_in_a_lost_session_was_not_done_where_no_other_begins() {
    let is_known = Arc::new(AtomicBool::new(true));
    let known = Arc::clone(&is_known);
    let host = Host::start(move |_, body| match body["method"].as_str() {
        Some("initialize") if known.load(Ordering::Relaxed) => hello(body, "s-1"),
        Some("initialize") => whole("500 No", "", "{}"),
        Some("tools/call") => whole("404 No", "", "{}"),
        _ => whole("202 Accepted", "", ""),
    });
    let hosted = host.hosted(false);
    ask(&hosted, "initialize").unwrap();
    is_known.store(false, Ordering::Relaxed);
    let trouble = ask(&hosted, "tools/call").unwrap_err();
    assert!(trouble.to_string().contains("no other can be begun"), "{trouble}");
    assert!(!trouble.may_be_done() && !hosted.is_there());
    assert_eq!(host.count("tools/call"), 1);
}

#[test]
fn one_listens_and_nobody_does_any_more_in_a_session_that_was_lost() {
    let session = Arc::new(AtomicU64::new(0));
    let now = Arc::clone(&session);
    let host = Host::start(move |head, body| {
        let name = format!("mcp-session-id: s-{}\r\n", now.load(Ordering::Relaxed));
        match body["method"].as_str() {
            Some("initialize") => {
                hello(body, &format!("s-{}", now.fetch_add(1, Ordering::Relaxed) + 1))
            }
            _ if !head.contains(&name) => whole("404 No", "", "{}"),
            _ if head.starts_with("GET ") => Said::Open(stream(": hello\n\n")),
            Some("tools/call") => whole("200 OK", "", &result(&body["id"])),
            _ => whole("202 Accepted", "", ""),
        }
    });
    let hosted = host.hosted(true);
    ask(&hosted, "initialize").unwrap();
    hosted.listen(None);
    hosted.listen(None);
    wait_for("a listener", || hosted.hears());
    session.fetch_add(1, Ordering::Relaxed); // it has forgotten
    ask(&hosted, "tools/call").unwrap();
    wait_for("the end of the first", || held(&host.seen).left == 1);
    wait_for("another listener", || hosted.hears());
    assert_eq!((host.count("GET"), host.count("tools/call")), (2, 2));
    drop(hosted);
    wait_for("the end of the last", || held(&host.seen).left == 2);
}

/// How often the thread that listens has given up its processor until now.
fn waits_of_the_listener() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let mut folders = tasks.map(|task| task.unwrap().path());
    let listens =
        |path: &PathBuf| std::fs::read_to_string(path.join("comm")).unwrap() == "mcp-listen\n";
    let status = std::fs::read_to_string(folders.find(listens).unwrap().join("status")).unwrap();
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.unwrap().trim().parse().unwrap()
}

#[test]
fn whoever_listens_to_nothing_costs_nothing_and_leaves_at_once() {
    let host = Host::start(|head, body| match body["method"].as_str() {
        Some("initialize") => hello(body, "s-1"),
        _ if head.starts_with("GET ") => Said::Open(stream(": hello\n\n")),
        _ => whole("202 Accepted", "", ""),
    });
    let hosted = host.hosted(true);
    ask(&hosted, "initialize").unwrap();
    hosted.listen(None);
    wait_for("a listener", || hosted.hears());
    let before = waits_of_the_listener();
    sleep(30 * LOOK);
    let waits = waits_of_the_listener() - before;
    assert!(waits < 10, "it has looked {waits} times");
    let shared = Arc::clone(&hosted.0);
    drop(hosted);
    wait_for("the end of the listener", || Arc::strong_count(&shared) == 1);
    assert_eq!(host.count("GET"), 1);
}

#[test]
fn a_servers_question_is_answered_as_long_as_anybody_wants_its_answer() {
    let host = Host::start(|_, _| whole("202 Accepted", "", ""));
    let hosted = host.hosted(false);
    let session = Session { version: Some("2025-06-18".to_owned()), ..Session::default() };
    let cancelled = AtomicBool::new(false);
    let until = Until { deadline: Instant::now() + PATIENCE, cancelled: &cancelled };
    let asks = |id: Value| {
        let said = json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
        assert!(hosted.0.take(said, Some(1), &session, &mut 0, until).is_none());
        held(&host.seen).asked.len()
    };
    assert_eq!(asks(json!({"a": "name"})), 0);
    assert_eq!(asks(json!("x".repeat(4_000))), 0);
    assert_eq!(asks(json!("p")), 1);
    assert_eq!(asks(json!(7)), 2);
    cancelled.store(true, Ordering::Relaxed);
    assert_eq!(asks(json!(8)), 2);
}
