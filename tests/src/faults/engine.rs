//! An engine that is away, slow or mad, without touching the real one: a proxy on a unix socket
//! between the host and the engine.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;

use crate::wait::wait_for;

/// The pause before the listener looks again.
const PAUSE: Duration = Duration::from_millis(5);

/// How the engine seems to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// As it is.
    Well,
    /// There is no socket.
    Absent,
    /// There is a socket and nobody listens.
    Refusing,
    /// Every question takes so much longer.
    Slow(Duration),
    /// It takes questions and never answers.
    Silent,
    /// It answers, but no JSON.
    Garbling,
    /// It answers, but no HTTP.
    Babbling,
}

/// A proxy. Gone, with every connection, when dropped.
#[derive(Debug)]
pub struct Proxy {
    dir: TempDir,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    socket: PathBuf,
    upstream: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    engine: Engine,
    /// What the listener has last acted on.
    applied: Option<Engine>,
    ended: bool,
    connections: Vec<Connection>,
    /// How many connections there have been.
    opened: usize,
    /// Answers to the next so many questions that contain this are lost, with the connection.
    lost: (String, usize),
    questions: usize,
}

/// One connection, as its two ends.
#[derive(Debug)]
struct Connection {
    id: usize,
    ends: [UnixStream; 2],
    events: bool,
}

impl Connection {
    fn cut(&self) {
        cut(&self.ends[0], &self.ends[1]);
    }
}

fn cut(one: &UnixStream, other: &UnixStream) {
    for end in [one, other] {
        // It may be closed already.
        end.shutdown(Shutdown::Both).ok();
    }
}

impl Proxy {
    /// Before the engine that `docker` talks to.
    ///
    /// # Panics
    /// If that one is not on a unix socket.
    pub fn start() -> Self {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let upstream = match host.as_str() {
            "" => "/var/run/docker.sock",
            other => other.strip_prefix("unix://").expect("an engine on a unix socket"),
        };
        let dir = tempfile::Builder::new().prefix("twobox-engine-").tempdir().unwrap();
        let shared = Arc::new(Shared {
            socket: dir.path().join("engine.sock"),
            upstream: PathBuf::from(upstream),
            state: Mutex::new(State {
                engine: Engine::Well,
                applied: None,
                ended: false,
                connections: Vec::new(),
                opened: 0,
                lost: (String::new(), 0),
                questions: 0,
            }),
        });
        let theirs = Arc::clone(&shared);
        let listener = Some(std::thread::spawn(move || theirs.listen()));
        let proxy = Self { dir, shared, listener };
        proxy.set(Engine::Well);
        proxy
    }

    /// The socket, for `containers.socket`.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("engine.sock")
    }

    /// From now on the engine seems to be like this, also to whoever is connected. When this
    /// returns, it does.
    pub fn set(&self, engine: Engine) {
        {
            let mut state = self.shared.state();
            state.engine = engine;
            state.applied = None;
        }
        wait_for("the proxy to change", || {
            (self.shared.state().applied == Some(engine)).then_some(())
        });
    }

    /// Ends every connection, as an engine does that is restarted.
    pub fn cut(&self) {
        self.shared.state().connections.drain(..).for_each(|connection| connection.cut());
    }

    /// Ends the connections on which the engine's events come.
    pub fn cut_events(&self) {
        let state = self.shared.state();
        state.connections.iter().filter(|it| it.events).for_each(Connection::cut);
    }

    /// The engine does what the next `times` questions ask that contain `path`, and their answers are
    /// lost.
    pub fn lose_answers(&self, path: &str, times: usize) {
        self.shared.state().lost = (path.to_owned(), times);
    }

    /// How many answers are still to be lost.
    pub fn still_to_lose(&self) -> usize {
        self.shared.state().lost.1
    }

    /// How many questions have come.
    pub fn questions(&self) -> usize {
        self.shared.state().questions
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(|broken| broken.into_inner()).ended = true;
        if let Some(listener) = self.listener.take() {
            // What broke in there shows in what did not arrive.
            listener.join().ok();
        }
        let mut state = self.shared.state.lock().unwrap_or_else(|broken| broken.into_inner());
        state.connections.drain(..).for_each(|connection| connection.cut());
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn listen(self: &Arc<Self>) {
        let mut listener: Option<UnixListener> = None;
        loop {
            let engine = {
                let state = self.state();
                if state.ended {
                    return;
                }
                state.engine
            };
            match engine {
                Engine::Absent | Engine::Refusing => {
                    listener = None;
                    if engine == Engine::Absent {
                        remove(&self.socket);
                    } else if !self.socket.exists() {
                        drop(UnixListener::bind(&self.socket).unwrap());
                    }
                    self.state().connections.drain(..).for_each(|connection| connection.cut());
                }
                _ if listener.is_none() => {
                    remove(&self.socket);
                    let fresh = UnixListener::bind(&self.socket).unwrap();
                    fresh.set_nonblocking(true).unwrap();
                    listener = Some(fresh);
                }
                _ => {}
            }
            {
                let mut state = self.state();
                if state.engine == engine {
                    state.applied = Some(engine);
                }
            }
            match listener.as_ref().map(UnixListener::accept) {
                Some(Ok((client, _))) => self.connect(client),
                Some(Err(error)) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
                _ => std::thread::sleep(PAUSE),
            }
        }
    }

    fn connect(self: &Arc<Self>, client: UnixStream) {
        client.set_nonblocking(false).unwrap();
        let Ok(engine) = UnixStream::connect(&self.upstream) else { return };
        let copy = |stream: &UnixStream| stream.try_clone().unwrap();
        let ends = [copy(&client), copy(&engine)];
        let id = {
            let mut state = self.state();
            state.opened += 1;
            let id = state.opened;
            state.connections.push(Connection { id, ends, events: false });
            id
        };
        let (to_engine, to_client) = (Arc::clone(self), Arc::clone(self));
        let lose = Arc::new(Mutex::new(false));
        let lost = Arc::clone(&lose);
        let (asks, answers) = (copy(&client), copy(&engine));
        std::thread::spawn(move || to_engine.ask(id, asks, engine, &lose));
        std::thread::spawn(move || to_client.answer(answers, client, &lost));
    }

    /// Passes questions on, one at a time as HTTP clients ask them.
    fn ask(&self, id: usize, mut client: UnixStream, mut engine: UnixStream, lose: &Mutex<bool>) {
        let mut buffer = [0; 64 << 10];
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            let question = &buffer[..count];
            let text = String::from_utf8_lossy(question);
            let head = text.lines().next().unwrap_or_default().to_owned();
            let how = {
                let mut state = self.state();
                state.questions += 1;
                if head.contains("/events") {
                    state.connections.iter_mut().filter(|it| it.id == id).for_each(|connection| {
                        connection.events = true;
                    });
                }
                if state.lost.1 > 0 && head.contains(&state.lost.0) {
                    state.lost.1 -= 1;
                    *lose.lock().unwrap() = true;
                }
                state.engine
            };
            let reply: &[u8] = match how {
                Engine::Slow(span) => {
                    std::thread::sleep(span);
                    b""
                }
                Engine::Garbling => {
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n{]\0\xff!"
                }
                Engine::Babbling => b"\x16\x03\x01 what do you mean\r\n\r\n",
                Engine::Silent => continue,
                Engine::Well | Engine::Absent | Engine::Refusing => b"",
            };
            if reply.is_empty() {
                if engine.write_all(question).is_err() {
                    break;
                }
            } else {
                // Whoever asked may have gone.
                client.write_all(reply).ok();
                break;
            }
        }
        cut(&client, &engine);
    }

    fn answer(&self, mut engine: UnixStream, mut client: UnixStream, lose: &Mutex<bool>) {
        let mut buffer = [0; 64 << 10];
        while let Ok(count @ 1..) = engine.read(&mut buffer) {
            if *lose.lock().unwrap() || client.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        cut(&client, &engine);
    }
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
}
