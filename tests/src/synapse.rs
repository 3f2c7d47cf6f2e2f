//! A real homeserver, Synapse, and people who have accounts there. It lies where `scripts/fetch-synapse` puts it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::scenario::skipped;
use crate::wait::{PATIENCE, wait_for, wait_within};

/// Where it is, if not in `target/synapse-venv`.
const FOLDER: &str = "TWOBOX_TEST_SYNAPSE";

/// Set where the tests must not be skipped.
const REQUIRED: &str = "TWOBOX_REQUIRE_SYNAPSE";

/// The name of the server in ids.
const NAME: &str = "t.local";

/// How long it may take to begin: it is a program of Python's, on a machine that is busy.
const BEGIN: Duration = Duration::from_secs(90);

/// A homeserver of its own. It ends with its test.
#[derive(Debug)]
pub struct Synapse {
    dir: TempDir,
    python: PathBuf,
    address: SocketAddr,
    process: Option<Child>,
}

/// How many messages an account may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As many as it likes.
    Free,
    /// Ten at once, and then one in five seconds, as a homeserver does by itself.
    Default,
}

impl Synapse {
    /// Begins one; `None` with a loud word where it is not here.
    ///
    /// # Panics
    /// If it is not there and `TWOBOX_REQUIRE_SYNAPSE` is set, unless to 0.
    #[track_caller]
    pub fn begin(pace: Pace) -> Option<Self> {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let venv =
            std::env::var_os(FOLDER).map_or_else(|| top.join("target/synapse-venv"), PathBuf::from);
        let python = venv.join("bin/python");
        if !python.exists() {
            skipped(REQUIRED, "there is no homeserver: run scripts/fetch-synapse");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("twobox-synapse-").tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let synapse = Self { dir, python, address, process: None };
        fs::write(synapse.config(), synapse.settings(pace)).unwrap();
        let keys = synapse.command().arg("--generate-keys").output().unwrap();
        assert!(keys.status.success(), "{}", String::from_utf8_lossy(&keys.stderr));
        let mut synapse = synapse;
        synapse.start();
        Some(synapse)
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("hs.yaml")
    }

    fn settings(&self, pace: Pace) -> String {
        let dir = self.dir.path().display();
        let port = self.address.port();
        let free = "{per_second: 10000, burst_count: 10000}";
        let messages = match pace {
            Pace::Free => format!(
                "rc_message: {free}\nrc_joins: {{local: {free}}}\nrc_room_creation: {free}\n"
            ),
            Pace::Default => String::new(),
        };
        format!(
            "server_name: {NAME}\n\
             listeners: [{{bind_addresses: [127.0.0.1], port: {port}, type: http, tls: false, \
             resources: [{{names: [client]}}]}}]\n\
             database: {{name: sqlite3, args: {{database: {dir}/hs.db}}}}\n\
             media_store_path: {dir}/media\nsigning_key_path: {dir}/key\n\
             macaroon_secret_key: m\nform_secret: f\nreport_stats: false\ntrusted_key_servers: []\n\
             enable_registration: true\nenable_registration_without_verification: true\n\
             max_upload_size: 1M\n\
             rc_registration: {free}\n\
             rc_login: {{address: {free}, account: {free}, failed_attempts: {free}}}\n\
             rc_invites: {{per_room: {free}, per_user: {free}, per_issuer: {free}}}\n{messages}"
        )
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.python);
        command.args(["-m", "synapse.app.homeserver", "-c"]).arg(self.config());
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    /// Starts it and waits until it answers.
    #[track_caller]
    pub fn start(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let mut command = self.command();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        wait_within(BEGIN, "the homeserver to answer", || {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert_eq!(ended, None, "the homeserver ended: {}", self.log());
            TcpStream::connect(self.address).is_ok().then_some(())
        });
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Changes what it keeps, as time does: it is started anew.
    #[track_caller]
    pub fn change_db(&mut self, statements: &str) {
        self.kill();
        let db = rusqlite::Connection::open(self.dir.path().join("hs.db")).unwrap();
        db.execute_batch(statements).unwrap();
        drop(db);
        self.start();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Somebody with an account of this name, and the password `password-NAME`.
    #[track_caller]
    pub fn person(&self, name: &str) -> Person {
        let body = json!({
            "username": name,
            "password": format!("password-{name}"),
            "auth": { "type": "m.login.dummy" },
        });
        let person = Person {
            id: format!("@{name}:{NAME}"),
            address: self.address,
            token: String::new(),
            next: AtomicU64::new(0),
        };
        let registered = person.ask("POST", "/client/v3/register", Some(&body));
        Person { token: registered["access_token"].as_str().unwrap().to_owned(), ..person }
    }
}

impl Drop for Synapse {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let says = |line: &&str| {
                ["Processed request", " - ERROR - ", " - WARNING - "]
                    .iter()
                    .any(|it| line.contains(it))
                    && !line.contains("messages?dir=f&limit=500") // the witness's
            };
            let lines: Vec<&str> = log.lines().filter(says).rev().take(40).collect();
            eprintln!("the homeserver's last words:");
            let short = |line: &str| line.chars().take(300).collect::<String>();
            lines.iter().rev().for_each(|line| eprintln!("  {}", short(line)));
        }
    }
}

/// Somebody who uses the homeserver, and sees what everybody in a room sees.
#[derive(Debug)]
pub struct Person {
    /// Their id.
    pub id: String,
    address: SocketAddr,
    token: String,
    next: AtomicU64,
}

impl Person {
    /// Asks for something below `/_matrix`, and takes a no for an answer.
    pub fn try_ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let (status, bytes) = self.fetch(method, path, body);
        let body = serde_json::from_slice(&bytes);
        (status, body.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&bytes))))
    }

    /// Asks for something below `/_matrix`, whatever it is. Returns the status and the body.
    pub fn fetch(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Vec<u8>) {
        let body = body.map_or_else(String::new, Value::to_string);
        self.hand_over(method, path, "application/json", body.as_bytes())
    }

    /// Puts a file on the homeserver. Returns its address there.
    #[track_caller]
    pub fn upload(&self, content: &[u8]) -> String {
        let (path, kind) = ("/media/v3/upload", "application/octet-stream");
        let (status, answer) = self.hand_over("POST", path, kind, content);
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        answer["content_uri"].as_str().unwrap().to_owned()
    }

    fn hand_over(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let token = match self.token.as_str() {
            "" => String::new(),
            token => format!("authorization: Bearer {token}\r\n"),
        };
        let request = format!(
            "{method} /_matrix{path} HTTP/1.1\r\nhost: {}\r\n{token}\
             content-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        // While it starts, a connection may be closed without a word.
        let mut stream = wait_for("the homeserver", || TcpStream::connect(self.address).ok());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = &bytes[end + 4..];
        let chunked = head.contains("transfer-encoding: chunked");
        (status, if chunked { whole(body) } else { body.to_vec() })
    }

    /// Asks for something.
    ///
    /// # Panics
    /// If the answer is no.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.try_ask(method, path, body);
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    /// Makes a room and invites somebody. Returns its id.
    #[track_caller]
    pub fn make_room(&self, invited: &[&str], more: &Value) -> String {
        let mut body = json!({ "preset": "private_chat", "invite": invited });
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        let room = self.ask("POST", "/client/v3/createRoom", Some(&body));
        room["room_id"].as_str().unwrap().to_owned()
    }

    /// Invites somebody.
    #[track_caller]
    pub fn invite(&self, room: &str, who: &str) {
        let path = format!("/client/v3/rooms/{room}/invite");
        self.ask("POST", &path, Some(&json!({ "user_id": who })));
    }

    /// Goes to a room.
    #[track_caller]
    pub fn join(&self, room: &str) {
        self.ask("POST", &format!("/client/v3/join/{room}"), Some(&json!({})));
    }

    /// Waits until somebody is in a room.
    #[track_caller]
    pub fn wait_for_person(&self, room: &str, who: &str) {
        wait_for(&format!("{who} to be in the room"), || {
            let members = self.ask("GET", &format!("/client/v3/rooms/{room}/joined_members"), None);
            members["joined"][who].is_object().then_some(())
        });
    }

    /// Says something. Returns the id of the event.
    #[track_caller]
    pub fn say(&self, room: &str, text: &str) -> String {
        self.send(room, &json!({ "msgtype": "m.text", "body": text }))
    }

    /// Sends a message with this content. Returns the id of the event.
    #[track_caller]
    pub fn send(&self, room: &str, content: &Value) -> String {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let path = format!("/client/v3/rooms/{room}/send/m.room.message/t{next}");
        let sent = self.ask("PUT", &path, Some(content));
        sent["event_id"].as_str().unwrap().to_owned()
    }

    /// What has happened since, for which the homeserver waits so long.
    #[track_caller]
    pub fn sync(&self, since: Option<&str>, wait: Duration) -> Value {
        let since = since.map_or_else(String::new, |since| format!("&since={since}"));
        self.ask("GET", &format!("/client/v3/sync?timeout={}{since}", wait.as_millis()), None)
    }

    /// All messages of a room, oldest first.
    #[track_caller]
    pub fn events(&self, room: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut from = String::new();
        loop {
            let path = format!("/client/v3/rooms/{room}/messages?dir=f&limit=500{from}");
            let page = self.ask("GET", &path, None);
            let chunk = page["chunk"].as_array().unwrap();
            events.extend(chunk.iter().filter(|it| it["type"] == "m.room.message").cloned());
            match page["end"].as_str() {
                Some(end) => from = format!("&from={end}"),
                None => return events,
            }
        }
    }

    /// What `who` has said in a room, oldest first.
    #[track_caller]
    pub fn said_by(&self, room: &str, who: &str) -> Vec<String> {
        let events = self.events(room);
        let theirs = events.iter().filter(|event| event["sender"] == who);
        theirs.filter_map(|event| Some(event["content"]["body"].as_str()?.to_owned())).collect()
    }

    /// Waits until `who` has said this. Returns the event.
    #[track_caller]
    pub fn wait_said(&self, room: &str, who: &str, text: &str) -> Value {
        wait_within(Duration::from_secs(60), &format!("{who} to say {text:?}"), || {
            let is_it = |event: &Value| event["sender"] == who && event["content"]["body"] == text;
            self.events(room).into_iter().find(is_it)
        })
    }

    /// How often each text was said by `who`.
    #[track_caller]
    pub fn count(&self, room: &str, who: &str) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for text in self.said_by(room, who) {
            *count.entry(text).or_default() += 1;
        }
        count
    }
}

/// The body of an answer that came in chunks.
fn whole(mut chunks: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = chunks.windows(2).position(|two| two == b"\r\n") {
        let length = String::from_utf8(chunks[..end].to_vec()).unwrap();
        let length = usize::from_str_radix(length.trim(), 16).unwrap();
        chunks = &chunks[end + 2..];
        whole.extend_from_slice(&chunks[..length]);
        chunks = &chunks[(length + 2).min(chunks.len())..];
    }
    whole
}
