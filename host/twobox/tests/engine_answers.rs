//! What the container runtime makes of answers that real engines give rarely, or only some of them:
//! an engine of a few lines behind a unix socket says what a test wants it to say.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::unbounded_channel;
use twobox_config::{Config, Containers};
use twobox_runtime::docker::Docker;
use twobox_runtime::{
    AgentFolders, Condition, Incarnation, Profile, Runtime, RuntimeError, StartSpec,
};
use twobox_shared::agent_config::SharedFolder;
use twobox_shared::durability::Durability;
use twobox_shared::ids::{InstallId, SystemIds};

/// What the engine answers to a method and a path without version and query; `None` if nobody asks
/// that. It is asked with what came before, oldest first.
type Answers = dyn Fn(&str, &[String]) -> Option<(u16, Value)> + Send + Sync;

struct Engine {
    dir: TempDir,
    asked: Arc<Mutex<Vec<String>>>,
    runtime: Docker,
    incarnation: Incarnation,
}

impl Engine {
    fn new(
        answers: impl Fn(&str, &[String]) -> Option<(u16, Value)> + Send + Sync + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["session/in", "session/out", "session/work", "program", "agent"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let socket = dir.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (asked, answers): (Arc<Mutex<Vec<String>>>, Arc<Answers>) =
            (Arc::default(), Arc::new(answers));
        let record = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&record), Arc::clone(&answers)));
            }
        });
        let settings = Containers {
            socket: socket.to_str().unwrap().to_owned(),
            ..Config::default().containers
        };
        let (sender, _nobody_listens) = unbounded_channel();
        let runtime =
            Docker::connect(InstallId::generate(&SystemIds), Path::new("/"), &settings, sender)
                .unwrap();
        let incarnation = Incarnation {
            session: "0192f000-2222-7000-8000-000000000002".parse().unwrap(),
            runner: "0192f000-3333-7000-8000-000000000003".parse().unwrap(),
        };
        Self { dir, asked, runtime, incarnation }
    }

    fn spec(&self) -> StartSpec {
        StartSpec {
            incarnation: self.incarnation,
            folder: self.folder("session"),
            agent: AgentFolders {
                program: self.folder("program"),
                shared: self.folder("agent"),
                access: SharedFolder::Rw,
            },
            profile: Profile::usual(&Config::default().containers),
            idle: Duration::from_secs(60),
            grace: Duration::from_secs(2),
            heartbeat: twobox_config::HEARTBEAT,
            poll: None,
            durability: Durability::PowerLoss,
        }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What was asked that begins so, in order.
    fn asked(&self, start: &str) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|line| line.starts_with(start)).cloned().collect()
    }
}

/// Answers the requests of one connection, one after the other.
async fn serve(mut stream: UnixStream, record: Arc<Mutex<Vec<String>>>, answers: Arc<Answers>) {
    let mut read = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8(read.drain(..end).collect()).unwrap().to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
        while read.len() < length {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        }
        read.drain(..length);
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap().to_uppercase(), words.next().unwrap());
        let path =
            target.strip_prefix("/v1.").map_or(target, |rest| &rest[rest.find('/').unwrap()..]);
        let (short, query) = path.split_once('?').unwrap_or((path, ""));
        let force = if query.contains("force=true") { " by force" } else { "" };
        let question = format!("{method} {short}{force}");
        let before = record.lock().unwrap().clone();
        record.lock().unwrap().push(question.clone());
        let (status, body) = match question.as_str() {
            // It has no events, and says so until the test is over.
            "GET /events" => return std::future::pending().await,
            "GET /version" => (200, version()),
            "GET /info" => (200, json!({ "SecurityOptions": ["name=seccomp,profile=default"] })),
            _ => answers(&question, &before).unwrap_or((404, json!({ "message": "nothing here" }))),
        };
        let body = if status == 204 { String::new() } else { body.to_string() };
        let answer = format!(
            "HTTP/1.1 {status} So\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn version() -> Value {
    let podman = json!({ "Name": "Podman Engine", "Version": "4.3.1" });
    json!({ "Version": "4.3.1", "ApiVersion": "1.41", "Components": [podman] })
}

/// What a list says of the one container.
fn listed(state: &str) -> Value {
    json!([{ "Id": "c0ffee", "State": state, "Labels": {
        "twobox.session": "0192f000-2222-7000-8000-000000000002",
        "twobox.runner": "0192f000-3333-7000-8000-000000000003",
    }}])
}

fn inspected(status: &str, running: bool, pid: i64) -> Value {
    json!({ "Id": "c0ffee", "State": { "Status": status, "Running": running, "Pid": pid, "ExitCode": 9 } })
}

const IN_USE: &str = "creating container storage: the container name \"x\" is already in use";

#[tokio::test]
async fn a_name_that_something_unseen_holds_is_freed_once() {
    let engine = Engine::new(|question, before| {
        let freed = before.iter().any(|line| line.starts_with("DELETE"));
        Some(match question {
            "GET /containers/json" => (200, json!([])),
            "POST /containers/create" if freed => (201, json!({ "Id": "c0ffee", "Warnings": [] })),
            "POST /containers/create" => (500, json!({ "message": IN_USE })),
            "POST /containers/c0ffee/start" => (204, Value::Null),
            _ if question.starts_with("DELETE /containers/twobox-") => (204, Value::Null),
            _ => return None,
        })
    });
    engine.runtime.start(&engine.spec()).await.unwrap();
    let freed = engine.asked("DELETE");
    assert!(freed.len() == 1 && freed[0].ends_with(" by force"), "{freed:?}");
    assert_eq!(engine.asked("POST /containers/create").len(), 2);
    assert!(engine.asked("GET /containers/twobox-").len() > 1, "it looked for a while first");
}

#[tokio::test]
async fn no_agent_is_given_the_folder_with_the_engines_socket() {
    let engine = Engine::new(|_, _| None);
    let source = engine.folder("").canonicalize().unwrap();
    let text = format!(r#"{{"mounts": [{{"source": {source:?}, "target": "/mnt/x"}}]}}"#);
    let file = twobox_runtime::profile::File::parse(&text).unwrap();
    let profile = Profile::of(file, &Config::default().containers).unwrap();
    let refusal = engine.runtime.accepts(&profile).unwrap_err();
    assert!(refusal.contains("holds the engine's socket"), "{refusal}");
    let error = engine.runtime.start(&StartSpec { profile, ..engine.spec() }).await.unwrap_err();
    assert!(error.to_string().contains(&refusal), "{error}");
    assert_eq!(engine.asked("POST"), Vec::<String>::new(), "nothing was created");
}

#[tokio::test]
async fn a_name_that_stays_taken_is_not_fought_for() {
    let engine = Engine::new(|question, _| {
        Some(match question {
            "GET /containers/json" => (200, json!([])),
            "POST /containers/create" => (500, json!({ "message": IN_USE })),
            _ => return None,
        })
    });
    let error = engine.runtime.start(&engine.spec()).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Occupied { .. }), "{error}");
    assert_eq!(engine.asked("DELETE").len(), 1);
    assert_eq!(engine.asked("POST /containers/create").len(), 2);
}

#[tokio::test]
async fn a_name_whose_container_shows_itself_late_is_left_alone() {
    for status in [409, 500] {
        let engine = Engine::new(move |question, before| {
            let looks = before.iter().filter(|line| line.starts_with("GET /containers/twobox-"));
            Some(match question {
                "GET /containers/json" => (200, json!([])),
                "POST /containers/create" => (status, json!({ "message": IN_USE })),
                _ if question.starts_with("GET /containers/twobox-") && looks.count() > 2 => {
                    (200, inspected("created", false, 0))
                }
                _ => return None,
            })
        });
        let error = engine.runtime.start(&engine.spec()).await.unwrap_err();
        assert!(matches!(error, RuntimeError::Occupied { .. }), "{status}: {error}");
        assert_eq!(engine.asked("DELETE"), [""; 0], "{status}");
    }
}

#[tokio::test]
async fn nothing_is_removed_before_its_processes_have_ended() {
    for (status, running, pid) in
        [("stopping", false, 7), ("running", true, 7), ("paused", true, 7), ("exited", false, 7)]
    {
        let engine = Engine::new(move |question, _| {
            Some(match question {
                "GET /containers/json" => (200, listed(status)),
                "GET /containers/c0ffee/json" => (200, inspected(status, running, pid)),
                "GET /containers/c0ffee/logs" => (200, json!("")),
                "DELETE /containers/c0ffee" => (204, Value::Null),
                _ => return None,
            })
        });
        let seen = engine.runtime.list().await.unwrap();
        assert_eq!(seen[0].condition, Condition::Running, "{status}");
        let log = engine.folder("log");
        let error = engine.runtime.clear(engine.incarnation, &log).await.unwrap_err();
        assert!(matches!(error, RuntimeError::Unavailable { .. }), "{status}: {error}");
        assert_eq!(engine.asked("DELETE"), [""; 0], "{status}");
    }
}

#[tokio::test]
async fn a_stop_is_over_when_the_process_is_and_not_when_the_engine_says_so() {
    // It says 204 at once and is still at it for some looks, and for one it has no word that we know.
    let engine = Engine::new(|question, before| {
        let looks = before.iter().filter(|line| *line == "GET /containers/c0ffee/json").count();
        let ended = looks >= 5;
        Some(match question {
            "GET /containers/json" if ended && before.last().is_some_and(|it| it != question) => {
                (200, listed("stopped"))
            }
            "GET /containers/json" => (200, listed(if ended { "exited" } else { "stopping" })),
            "GET /containers/c0ffee/json" if ended => (200, inspected("exited", false, 0)),
            "GET /containers/c0ffee/json" => (200, inspected("stopping", false, 7)),
            "POST /containers/c0ffee/stop" => (204, Value::Null),
            _ => return None,
        })
    });
    engine.runtime.stop(engine.incarnation, Duration::from_secs(1)).await.unwrap();
    assert!(engine.asked("GET /containers/c0ffee/json").len() > 5);
    assert_eq!(engine.asked("POST /containers/c0ffee/kill"), [""; 0]);
    let seen = engine.runtime.list().await.unwrap();
    assert_eq!(seen[0].condition, Condition::Exited { code: Some(9) });
}

#[tokio::test]
async fn what_cannot_be_stopped_is_killed() {
    for status in [304, 500] {
        let engine = Engine::new(move |question, before| {
            let killed = before.iter().any(|line| line == "POST /containers/c0ffee/kill");
            Some(match question {
                "GET /containers/json" => (200, listed("paused")),
                "GET /containers/c0ffee/json" if killed => (200, inspected("exited", false, 0)),
                "GET /containers/c0ffee/json" => (200, inspected("paused", true, 7)),
                "POST /containers/c0ffee/stop" => (status, json!({ "message": "it is paused" })),
                "POST /containers/c0ffee/kill" => (204, Value::Null),
                _ => return None,
            })
        });
        engine.runtime.stop(engine.incarnation, Duration::ZERO).await.unwrap();
        assert_eq!(engine.asked("POST /containers/c0ffee/kill").len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_folder_that_is_missing_is_not_left_to_the_engine_to_make() {
    let engine = Engine::new(|question, _| match question {
        "GET /containers/json" => Some((200, json!([]))),
        "POST /containers/create" => Some((201, json!({ "Id": "c0ffee", "Warnings": [] }))),
        _ => None,
    });
    std::fs::remove_dir(engine.folder("agent")).unwrap();
    std::fs::write(engine.folder("agent"), "no folder").unwrap();
    let error = engine.runtime.start(&engine.spec()).await.unwrap_err();
    assert!(error.to_string().contains("not a directory"), "{error}");
    assert_eq!(engine.asked("POST /containers/create"), [""; 0]);
}

#[tokio::test]
async fn settings_that_open_a_container_are_refused_before_an_engine_is_asked() {
    type Change = fn(&mut Containers);
    let connect = |change: Change| {
        let mut settings = Config::default().containers;
        change(&mut settings);
        let (sender, _nobody_listens) = unbounded_channel();
        Docker::connect(InstallId::generate(&SystemIds), Path::new("/"), &settings, sender)
            .map(drop)
    };
    let cases: [(Change, &str); 4] = [
        (|it| it.network.clear(), "containers.network"),
        (|it| it.network = "host".to_owned(), "containers.allow_unsafe"),
        (|it| it.socket = "tcp://127.0.0.1:2375".to_owned(), "containers.socket"),
        (|it| it.user = "root".to_owned(), "containers.user"),
    ];
    for (change, words) in cases {
        let error = connect(change).unwrap_err();
        assert!(matches!(error, RuntimeError::Misconfigured { .. }), "{words}: {error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    connect(|it| {
        it.network = "host".to_owned();
        it.allow_unsafe = true;
    })
    .unwrap();
}
