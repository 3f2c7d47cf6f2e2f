//! The real socket server over a real unix socket, with a host that only keeps books.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use twobox_channels::socket::{self, Line, LineReader};
use twobox_channels::terminal::Terminal;
use twobox_channels::{Channel, Intake, Operations};
use twobox_model::approval::{Approval, ApprovalOrder};
use twobox_model::channel::{
    Address, Asked, Inbound, Outbound, Outcome, Receipt, Refusal, ScheduleOrder, Stopped,
};
use twobox_model::dead_letter::{self, DeadLetterOrder, Handled, Verb};
use twobox_shared::ids::{MessageId, SessionId, SystemIds};

/// Accepts everything once, in order.
struct FakeHost {
    session: SessionId,
    accepted: Mutex<Vec<(String, String)>>,
    seqs: Mutex<BTreeMap<String, i64>>,
    /// Where the last message was said.
    address: Mutex<Option<Address>>,
    ready: mpsc::UnboundedSender<Address>,
}

impl Intake for FakeHost {
    fn accept(&self, message: Inbound) -> BoxFuture<'_, Result<Vec<Receipt>, Refusal>> {
        Box::pin(async move {
            *self.address.lock().unwrap() = Some(message.address.clone());
            match message.address.platform_id.as_str() {
                "nobody" => {
                    let (channel_type, platform_id) =
                        (message.address.channel_type, message.address.platform_id);
                    return Err(Refusal::NobodyListens { channel_type, platform_id });
                }
                "busy" => {
                    return Err(Refusal::TryAgain { reason: "disk full".to_owned(), passes: true });
                }
                "stuck" => return std::future::pending().await,
                _ => {}
            }
            let mut seqs = self.seqs.lock().unwrap();
            let next = 2 * i64::try_from(seqs.len()).unwrap() + 2;
            let seq = *seqs.entry(message.id.to_string()).or_insert_with(|| {
                let entry = (message.id.to_string(), message.chat.text);
                self.accepted.lock().unwrap().push(entry);
                next
            });
            Ok(vec![Receipt { session: self.session, id: message.id, seq }])
        })
    }

    fn asked<'a>(
        &'a self,
        _address: &'a Address,
        _id: &'a MessageId,
        _text: &'a str,
    ) -> BoxFuture<'a, Asked> {
        Box::pin(async { Asked::Over })
    }

    fn takes_files<'a>(&'a self, _message: &'a Inbound) -> BoxFuture<'a, bool> {
        Box::pin(async { true })
    }

    fn ready(&self, address: &Address) {
        self.ready.send(address.clone()).unwrap();
    }

    fn up(&self, channel: &str) {
        panic!("no {channel} lives here");
    }
}

impl Operations for FakeHost {
    fn status(&self) -> BoxFuture<'_, Value> {
        Box::pin(async { json!({ "running": true }) })
    }

    fn retry(
        &self,
        session: SessionId,
        _message: Option<MessageId>,
    ) -> BoxFuture<'_, Result<usize, String>> {
        let known = session == self.session;
        Box::pin(async move { if known { Ok(2) } else { Err("no such session".to_owned()) } })
    }

    fn restart(&self, session: SessionId) -> BoxFuture<'_, Result<bool, String>> {
        let known = session == self.session;
        Box::pin(async move { if known { Ok(true) } else { Err("no such session".to_owned()) } })
    }

    fn stop(
        &self,
        session: SessionId,
        _message: MessageId,
        force: bool,
    ) -> BoxFuture<'_, Result<Stopped, String>> {
        let known = session == self.session;
        let outcome = if force { Stopped::Stopped } else { Stopped::Told };
        Box::pin(async move { if known { Ok(outcome) } else { Err("no such session".to_owned()) } })
    }

    fn schedules(&self, _order: ScheduleOrder) -> BoxFuture<'_, Result<Value, String>> {
        Box::pin(async { Err("there are no schedules here".to_owned()) })
    }

    fn decide(&self, _order: ApprovalOrder) -> BoxFuture<'_, Result<Approval, String>> {
        Box::pin(async { Err("nothing is asked here".to_owned()) })
    }

    fn dead(
        &self,
        _session: SessionId,
        order: DeadLetterOrder,
    ) -> BoxFuture<'_, Result<Vec<Handled>, String>> {
        let handled = |id| Handled {
            id,
            kind: order.kind,
            outcome: match order.verb {
                Verb::Redrive => dead_letter::DeadLetterOutcome::Redriven,
                Verb::Drop => dead_letter::DeadLetterOutcome::Dropped,
            },
            note: None,
        };
        let results = order.ids.unwrap_or_default().into_iter().map(handled).collect();
        Box::pin(async move { Ok(results) })
    }
}

struct Server {
    _dir: tempfile::TempDir,
    path: PathBuf,
    terminal: Arc<Terminal>,
    host: Arc<FakeHost>,
    ready: mpsc::UnboundedReceiver<Address>,
    shutdown: watch::Sender<bool>,
    task: tokio::task::JoinHandle<Result<(), socket::SocketError>>,
}

impl Server {
    async fn start() -> Self {
        Self::with_patience(Duration::from_secs(10)).await
    }

    async fn with_patience(patience: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.sock");
        std::fs::write(&path, "a stale socket").unwrap();
        let terminal = Arc::new(Terminal::with_patience(patience));
        let (ready, heard) = mpsc::unbounded_channel();
        let host = Arc::new(FakeHost {
            session: SessionId::generate(&SystemIds),
            accepted: Mutex::default(),
            seqs: Mutex::default(),
            address: Mutex::default(),
            ready,
        });
        let (shutdown, down) = watch::channel(false);
        let bound = socket::bind(&path).unwrap();
        let serving = bound.serve(
            Arc::clone(&terminal),
            Arc::clone(&host) as _,
            Arc::clone(&host) as _,
            down,
        );
        let task = tokio::spawn(async {
            serving.await;
            Ok(())
        });
        Self { _dir: dir, path, terminal, host, ready: heard, shutdown, task }
    }

    async fn client(&self) -> Client {
        let (input, output) = UnixStream::connect(&self.path).await.unwrap().into_split();
        Client { input: LineReader::new(input), output }
    }

    async fn listener(&mut self, agent: &str, thread: Option<&str>) -> Client {
        let mut client = self.client().await;
        client.send(json!({ "op": "listen", "agent": agent, "thread": thread })).await;
        assert_eq!(client.next().await["event"], "listening");
        assert_eq!(self.ready.recv().await.unwrap(), address(agent, thread));
        client
    }

    fn deliver(
        &self,
        agent: &str,
        thread: Option<&str>,
        keys: &[&str],
    ) -> tokio::task::JoinHandle<Vec<Outcome>> {
        let (terminal, address) = (Arc::clone(&self.terminal), address(agent, thread));
        let outbounds = keys.iter().map(|key| outbound(key)).collect();
        tokio::spawn(async move { terminal.deliver(&address, outbounds).await })
    }
}

struct Client {
    input: LineReader<OwnedReadHalf>,
    output: OwnedWriteHalf,
}

impl Client {
    async fn send(&mut self, request: Value) {
        self.send_line(&format!("{request}\n")).await;
    }

    async fn send_line(&mut self, line: &str) {
        self.output.write_all(line.as_bytes()).await.unwrap();
    }

    async fn read(&mut self) -> Option<Value> {
        let line = timeout(Duration::from_secs(10), self.input.next()).await.expect("an event");
        match line.unwrap()? {
            Line::Text(line) => Some(serde_json::from_slice(&line).unwrap()),
            Line::TooLong => panic!("the server sent a line that is too long"),
        }
    }

    async fn next(&mut self) -> Value {
        self.read().await.expect("the connection lives")
    }

    async fn ack(&mut self, key: &str) {
        self.send(json!({ "op": "ack", "key": key })).await;
    }
}

fn address(agent: &str, thread: Option<&str>) -> Address {
    Address {
        channel_type: "terminal".to_owned(),
        platform_id: agent.to_owned(),
        thread_id: thread.map(str::to_owned),
    }
}

fn outbound(key: &str) -> Outbound {
    Outbound {
        key: key.to_owned(),
        in_reply_to: None,
        answers: vec![],
        text: format!("<{key}>"),
        files: vec![],
        shelf: None,
        failed: false,
        prompt: None,
    }
}

fn message(agent: &str, id: &str) -> Value {
    json!({ "op": "message", "agent": agent, "id": id, "text": format!("text {id}") })
}

fn delivered() -> Outcome {
    Outcome::Delivered { platform_message_id: None }
}

#[tokio::test]
async fn a_message_that_is_sent_twice_is_accepted_once() {
    let server = Server::start().await;
    for _ in 0..2 {
        let mut client = server.client().await;
        client.send(message("ann", "m1")).await;
        let answer = client.next().await;
        assert_eq!((&answer["event"], &answer["id"]), (&json!("accepted"), &json!("m1")));
        assert_eq!(answer["receipts"][0]["seq"], 2);
    }
    assert_eq!(server.host.accepted.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_burst_is_accepted_in_order_while_one_request_is_stuck_elsewhere() {
    let server = Server::start().await;
    let mut stuck = server.client().await;
    stuck.send(message("stuck", "x")).await;
    let mut client = server.client().await;
    let ids: Vec<String> = (0..1000).map(|n| format!("m{n:04}")).collect();
    let (input, mut output) = (&mut client.input, client.output);
    let burst: String = ids.iter().map(|id| format!("{}\n", message("ann", id))).collect();
    let writing = async { output.write_all(burst.as_bytes()).await.unwrap() };
    let reading = async {
        for id in &ids {
            let Some(Line::Text(line)) = input.next().await.unwrap() else { panic!("no answer") };
            let answer: Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(answer["id"], json!(id));
        }
    };
    timeout(Duration::from_secs(20), async { tokio::join!(writing, reading) }).await.unwrap();
    let accepted: Vec<String> =
        server.host.accepted.lock().unwrap().iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(accepted, ids);
}

#[tokio::test]
async fn refusals_say_whether_to_try_again() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (agent, retry) in [("nobody", false), ("busy", true)] {
        client.send(message(agent, "m")).await;
        let answer = client.next().await;
        assert_eq!((&answer["event"], &answer["retry"]), (&json!("refused"), &json!(retry)));
    }
    for empty in ["", " \n"] {
        client.send(json!({ "op": "message", "agent": "ann", "id": "e", "text": empty })).await;
        let answer = client.next().await;
        assert_eq!((&answer["event"], &answer["retry"]), (&json!("refused"), &json!(false)));
        assert!(answer["reason"].as_str().unwrap().contains("empty"), "{answer}");
    }
    let huge = "x".repeat(1 << 20);
    client.send(json!({ "op": "message", "agent": "ann", "id": "h", "text": huge })).await;
    let answer = client.next().await;
    assert_eq!((&answer["event"], &answer["retry"]), (&json!("refused"), &json!(false)));
}

#[tokio::test]
async fn nonsense_gets_an_error_line_and_the_connection_lives() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let long = format!("{}\n", "x".repeat((2 << 20) + 1));
    let bad_thread = format!("{}\n", json!({ "op": "listen", "agent": "a", "thread": "" }));
    for line in ["{\"op\":\n", "{\"op\":\"shout\"}\n", "[1]\n", "\u{7f}\n", &long, &bad_thread] {
        client.send_line(line).await;
        assert_eq!(client.next().await["event"], "error", "{:.20}", line);
    }
    client.send_line("\n").await; // an empty line is nothing
    client.send(json!({ "op": "status" })).await;
    let answer = client.next().await;
    assert_eq!(answer, json!({ "event": "status", "status": { "running": true } }));
    client.send(json!({ "op": "retry", "session": server.host.session })).await;
    assert_eq!(client.next().await["count"], 2);
    for (verb, outcome) in [("redrive", "redriven"), ("drop", "dropped")] {
        let order = json!({
            "op": verb, "session": server.host.session, "kind": "notice", "ids": ["notice:x"],
        });
        client.send(order).await;
        let results = json!([{ "id": "notice:x", "kind": "notice", "outcome": outcome }]);
        let expected =
            json!({ "event": "handled", "session": server.host.session, "results": results });
        assert_eq!(client.next().await, expected);
    }
    client.send(json!({ "op": "drop", "session": server.host.session })).await;
    assert_eq!(client.next().await["event"], "error", "never everything");
    client.send(json!({ "op": "retry", "session": SessionId::generate(&SystemIds) })).await;
    assert_eq!(client.next().await["reason"], "no such session");
}

#[tokio::test]
async fn outbounds_come_in_order_and_acks_in_any() {
    let mut server = Server::start().await;
    let mut listener = server.listener("ann", None).await;
    let delivery = server.deliver("ann", None, &["k1", "k2", "k3"]);
    for key in ["k1", "k2", "k3"] {
        let outbound = listener.next().await;
        assert_eq!(
            (&outbound["key"], &outbound["text"]),
            (&json!(key), &json!(format!("<{key}>")))
        );
    }
    for key in ["k3", "unheard of", "k1", "k2"] {
        listener.ack(key).await;
    }
    assert_eq!(delivery.await.unwrap(), [delivered(), delivered(), delivered()]);
}

#[tokio::test]
async fn nobody_there_is_unavailable_and_threads_are_apart() {
    let mut server = Server::start().await;
    assert_eq!(server.deliver("ann", None, &["k"]).await.unwrap(), [Outcome::Unavailable]);
    let mut threaded = server.listener("ann", Some("t")).await;
    let _other = server.listener("bob", None).await;
    assert_eq!(server.deliver("ann", None, &["k"]).await.unwrap(), [Outcome::Unavailable]);
    let delivery = server.deliver("ann", Some("t"), &["k"]);
    assert_eq!(threaded.next().await["key"], "k");
    threaded.ack("k").await;
    assert_eq!(delivery.await.unwrap(), [delivered()]);
}

#[tokio::test]
async fn an_outbound_that_was_not_acknowledged_comes_again_to_the_next_listener() {
    let mut server = Server::start().await;
    let mut first = server.listener("ann", None).await;
    let delivery = server.deliver("ann", None, &["k1", "k2"]);
    assert_eq!(first.next().await["key"], "k1");
    assert_eq!(first.next().await["key"], "k2");
    first.ack("k1").await;
    drop(first);
    assert_eq!(delivery.await.unwrap(), [delivered(), Outcome::Unavailable]);
    let mut second = server.listener("ann", None).await;
    let delivery = server.deliver("ann", None, &["k2"]);
    assert_eq!(second.next().await["key"], "k2");
    second.ack("k2").await;
    assert_eq!(delivery.await.unwrap(), [delivered()]);
}

#[tokio::test]
async fn with_two_listeners_both_get_it_and_one_ack_is_enough() {
    let mut server = Server::start().await;
    let mut first = server.listener("ann", None).await;
    let mut second = server.listener("ann", None).await;
    let delivery = server.deliver("ann", None, &["k"]);
    assert_eq!(first.next().await["key"], "k");
    assert_eq!(second.next().await["key"], "k");
    drop(first);
    second.ack("k").await;
    assert_eq!(delivery.await.unwrap(), [delivered()]);
}

#[tokio::test]
async fn a_silent_listener_is_a_transient_failure_once_and_then_disconnected() {
    let mut server = Server::with_patience(Duration::from_millis(50)).await;
    let mut silent = server.listener("ann", None).await;
    let outcomes = server.deliver("ann", None, &["k"]).await.unwrap();
    assert!(matches!(outcomes[..], [Outcome::Transient { .. }]), "{outcomes:?}");
    assert_eq!(silent.next().await["key"], "k");
    assert_eq!(silent.next().await["event"], "error");
    assert_eq!(silent.read().await, None);
    assert_eq!(server.deliver("ann", None, &["k"]).await.unwrap(), [Outcome::Unavailable]);
}

#[tokio::test]
async fn a_client_that_never_reads_stalls_nobody() {
    let mut server = Server::start().await;
    let mut deaf = server.listener("ann", None).await;
    // Far more than its queue and the socket's buffer hold.
    let flood: String = (0..200).map(|_| format!("{}\n", json!({ "op": "status" }))).collect();
    let flooding = tokio::spawn(async move {
        loop {
            if deaf.output.write_all(flood.as_bytes()).await.is_err() {
                break;
            }
        }
    });
    let mut attentive = server.listener("ann", None).await;
    for n in 0..100 {
        let key = format!("k{n}");
        let delivery = server.deliver("ann", None, &[&key]);
        assert_eq!(attentive.next().await["key"], json!(key));
        attentive.ack(&key).await;
        let outcomes = timeout(Duration::from_secs(5), delivery).await.unwrap().unwrap();
        assert_eq!(outcomes, [delivered()]);
    }
    flooding.abort();
}

#[tokio::test]
async fn a_host_that_goes_down_says_so_and_refuses_for_now() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start().await;
    let mode = std::fs::metadata(&server.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut client = server.client().await;
    client.send(json!({ "op": "status" })).await;
    client.next().await;
    server.shutdown.send(true).unwrap();
    assert_eq!(client.next().await, json!({ "event": "closing" }));
    client.send(message("ann", "m")).await;
    let answer = client.next().await;
    assert_eq!((&answer["event"], &answer["retry"]), (&json!("refused"), &json!(true)));
    drop(client);
    timeout(Duration::from_secs(1), server.task)
        .await
        .expect("no client is left")
        .unwrap()
        .unwrap();
    assert!(!server.path.exists());
}

#[tokio::test]
async fn a_message_names_an_agent_or_a_chat_and_never_both_or_neither() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut hand_in = async |to: Value| {
        let mut request = json!({ "op": "message", "id": "m", "text": "hi" });
        request.as_object_mut().unwrap().extend(to.as_object().unwrap().clone());
        client.send(request).await;
        client.next().await
    };
    let to = json!({ "channel": "command", "chat": "room 1", "thread": "t" });
    assert_eq!(hand_in(to).await["event"], "accepted");
    let expected = Address {
        channel_type: "command".to_owned(),
        platform_id: "room 1".to_owned(),
        thread_id: Some("t".to_owned()),
    };
    assert_eq!(*server.host.address.lock().unwrap(), Some(expected));
    let bad = [
        json!({}),
        json!({ "channel": "command" }),
        json!({ "chat": "room 1" }),
        json!({ "agent": "ann", "chat": "room 1" }),
        json!({ "agent": "ann", "channel": "command", "chat": "room 1" }),
        json!({ "channel": "command", "chat": "" }),
        json!({ "channel": "command", "chat": "a\nb" }),
        json!({ "channel": "command", "chat": "x".repeat(256) }),
        json!({ "channel": "command", "chat": "room 1", "thread": "" }),
    ];
    for to in bad {
        let answer = hand_in(to.clone()).await;
        assert_eq!(
            (&answer["event"], &answer["retry"]),
            (&json!("refused"), &json!(false)),
            "{to}"
        );
    }
    assert_eq!(server.host.accepted.lock().unwrap().len(), 1);
}

/// Makes a request with a field of so many bytes.
type Make<'a> = &'a dyn Fn(&str, usize) -> Value;

#[tokio::test]
async fn each_field_takes_as_much_as_it_may_and_no_more() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let said = |field: &str, length: usize| {
        let mut request = message("ann", "m1");
        request[field] = json!("x".repeat(length));
        request
    };
    let in_chat = |field: &str, length: usize| {
        let mut request =
            json!({ "op": "message", "channel": "c", "chat": "1", "id": "m1", "text": "hi" });
        request[field] = json!("x".repeat(length));
        request
    };
    let listen = |field: &str, length: usize| {
        let mut request = json!({ "op": "listen", "agent": "ann" });
        request[field] = json!("x".repeat(length));
        request
    };
    let ack = |_: &str, length: usize| json!({ "op": "ack", "key": "x".repeat(length) });
    let run = |_: &str, length: usize| json!({ "op": "schedules", "do": "run", "schedule": "x".repeat(length) });
    // A text is one field of the message, of which the whole is bounded.
    let around = twobox_shared::content::Chat::text("").to_json().len();
    let text = |_: &str, length: usize| said("text", length - around);
    let cases: [(&str, usize, Make<'_>, &str); 11] = [
        ("agent", 255, &said, "accepted"),
        ("thread", 255, &said, "accepted"),
        ("sender", 255, &said, "accepted"),
        ("id", 255, &said, "accepted"),
        ("channel", 255, &in_chat, "accepted"),
        ("chat", 255, &in_chat, "accepted"),
        ("the message", 1 << 20, &text, "accepted"),
        ("agent", 255, &listen, "listening"),
        ("thread", 255, &listen, "listening"),
        ("key", 1024, &ack, "status"), // an acknowledgement has no answer of its own
        ("schedule", 255, &run, "error"),
    ];
    for (n, (field, most, make, event)) in cases.into_iter().enumerate() {
        let before = server.host.accepted.lock().unwrap().len();
        let mut long = make(field, most + 1);
        if field != "id" && long["op"] == "message" {
            long["id"] = json!(format!("too-long-{n}")); // the host would keep it
        }
        client.send(long).await;
        let refusal = client.next().await;
        assert!(
            ["error", "refused"].contains(&refusal["event"].as_str().unwrap()),
            "{refusal:.90}"
        );
        let reason = refusal["reason"].as_str().unwrap();
        for part in [field, &format!("{} bytes", most + 1), &format!("at most {most}")] {
            assert!(reason.contains(part), "{field}: {reason} lacks {part}");
        }
        assert_eq!(server.host.accepted.lock().unwrap().len(), before, "{field}: nothing is kept");
        client.send(make(field, most)).await;
        if event == "status" {
            client.send(json!({ "op": "status" })).await;
        }
        let answer = client.next().await;
        assert_eq!(answer["event"], event, "{field}: {answer:.90}");
        if event == "error" {
            assert_eq!(answer["reason"], "there are no schedules here", "it came to the host");
        }
    }
}

#[tokio::test]
async fn one_connection_listens_to_so_many_places_and_another_to_its_own() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let listen = |n: usize| json!({ "op": "listen", "agent": "ann", "thread": format!("t{n}") });
    for n in 0..1024 {
        client.send(listen(n)).await;
        assert_eq!(client.next().await["event"], "listening", "{n}");
        server.ready.recv().await.unwrap();
    }
    client.send(listen(1024)).await;
    let refusal = client.next().await;
    let reason = refusal["reason"].as_str().unwrap();
    assert_eq!(reason, "this connection has 1025 places, at most 1024 are taken");
    client.send(listen(7)).await;
    assert_eq!(client.next().await["event"], "listening", "that is no further one");
    let other = server.deliver("ann", Some("t1024"), &["k"]);
    assert_eq!(other.await.unwrap(), [Outcome::Unavailable]);
    server.ready.recv().await.unwrap();
    let _another = server.listener("ann", Some("t1024")).await;
}

#[tokio::test]
async fn a_request_that_is_nested_deeply_is_an_error_and_the_connection_lives() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (open, close) in [("[", "]"), ("{\"op\":", "}")] {
        let deep = format!("{}0{}\n", open.repeat(100_000), close.repeat(100_000));
        client.send_line(&deep).await;
        assert_eq!(client.next().await["event"], "error", "{open}");
    }
    let inside = format!(
        "{{\"op\":\"message\",\"agent\":\"ann\",\"id\":\"m\",\"text\":{}0{}}}\n",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    client.send_line(&inside).await;
    assert_eq!(client.next().await["event"], "error");
    assert!(server.host.accepted.lock().unwrap().is_empty());
    client.send(message("ann", "m1")).await;
    assert_eq!(client.next().await["event"], "accepted");
}

#[tokio::test]
async fn a_line_that_is_almost_json_is_understood() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let line =
        "\u{feff}{\"op\":\"message\",\"agent\":\"ann\",\"id\":\"m\",\"text\":\"cut \\ud83d\"}\n";
    client.output.write_all(line.as_bytes()).await.unwrap();
    let answer = client.next().await;
    assert_eq!(answer["event"], "accepted", "{answer}");
    assert_eq!(server.host.accepted.lock().unwrap()[0].1, "cut \u{fffd}");
}
