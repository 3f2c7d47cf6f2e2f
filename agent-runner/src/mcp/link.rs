//! A server of MCP that this process has started, at the other end of its standard streams.
//!
//! Two threads carry the lines, so that nobody waits longer for a server than they mean to, whether it
//! does not read or does not answer.

use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Map, Value, json};

use super::code;
use super::lines::{Line, read_line};
use crate::say::say;

/// The longest line of a server, in bytes.
const LINE_MAX: usize = 16 << 20;

/// How often whoever waits looks whether to go on.
const LOOK: Duration = Duration::from_millis(20);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The server has refused.
    Refused { code: i64, message: String, data: Value },
    /// It has not answered in time.
    Silent,
    /// It has ended, or closed its output.
    Gone,
    /// Nobody wants the answer any more.
    Cancelled,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { code, message, .. } => write!(f, "it refuses: {message} ({code})"),
            Self::Silent => f.write_str("it does not answer"),
            Self::Gone => f.write_str("it has ended"),
            Self::Cancelled => f.write_str("the turn was ended"),
        }
    }
}

/// How long to wait for an answer.
#[derive(Clone, Copy)]
pub(crate) struct Until<'a> {
    pub(crate) deadline: Instant,
    pub(crate) cancelled: &'a AtomicBool,
}

type Heard = Result<Value, Trouble>;

/// Who waits for which answer; none once the server has ended.
type Waiting = Mutex<Option<HashMap<u64, Sender<Heard>>>>;

/// A server that runs.
pub(crate) struct Link {
    child: Child,
    told: Sender<Value>,
    waiting: Arc<Waiting>,
    changed: Arc<AtomicBool>,
    next: AtomicU64,
}

impl Link {
    /// Starts `command`. It lives no longer than the thread that calls this.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start(mut command: Command, name: &str) -> std::io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; prctl(2) is one
        // system call, and turning its error into an `io::Error` allocates nothing.
        unsafe {
            command.pre_exec(|| set_pdeathsig(Signal::SIGKILL).map_err(std::io::Error::from));
        }
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().expect("standard input was asked for");
        let stdout = child.stdout.take().expect("standard output was asked for");
        let (told, lines) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let changed = Arc::new(AtomicBool::new(false));
        let link = Self {
            child,
            told: told.clone(),
            waiting: Arc::clone(&waiting),
            changed: Arc::clone(&changed),
            next: AtomicU64::new(1),
        };
        let thread = |what: &str| std::thread::Builder::new().name(what.to_owned());
        thread("mcp-write").spawn(move || write(stdin, &lines))?;
        let name = name.to_owned();
        thread("mcp-read").spawn(move || {
            listen(stdout, &name, &told, &waiting, &changed);
            *held(&waiting) = None; // whoever waits hears that it is gone
        })?;
        Ok(link)
    }

    /// The group of its processes.
    pub(crate) fn group(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("Linux numbers fit into i32"))
    }

    /// Whether it has not ended.
    pub(crate) fn is_there(&self) -> bool {
        held(&self.waiting).is_some()
    }

    /// Whether it has said since the last time that it has other tools now.
    pub(crate) fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Relaxed)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn ask(&self, method: &str, params: Map<String, Value>, until: Until<'_>) -> Heard {
        let (answer, heard) = mpsc::channel();
        let id = self.send(method, params, Some(answer))?;
        loop {
            match heard.recv_timeout(LOOK) {
                Ok(outcome) => return outcome,
                Err(RecvTimeoutError::Disconnected) => return Err(Trouble::Gone),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let given_up = match until.cancelled.load(Ordering::Relaxed) {
                true => Trouble::Cancelled,
                false if Instant::now() >= until.deadline => Trouble::Silent,
                false => continue,
            };
            if let Some(waiting) = held(&self.waiting).as_mut() {
                waiting.remove(&id);
            }
            self.tell("notifications/cancelled", &json!({"requestId": id}));
            return Err(given_up);
        }
    }

    /// Asks for something that has no answer for as long as it lasts.
    pub(crate) fn subscribe(&self, method: &str, params: Map<String, Value>) {
        drop(self.send(method, params, None)); // one that has ended has nothing to tell
    }

    /// Says what wants no answer.
    pub(crate) fn tell(&self, method: &str, params: &Value) {
        let line = json!({"jsonrpc": "2.0", "method": method, "params": params});
        drop(self.told.send(line)); // it has ended, which is heard elsewhere
    }

    fn send(
        &self,
        method: &str,
        params: Map<String, Value>,
        answer: Option<Sender<Heard>>,
    ) -> Result<u64, Trouble> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut waiting = held(&self.waiting);
        let waiting = waiting.as_mut().ok_or(Trouble::Gone)?;
        if let Some(answer) = answer {
            waiting.insert(id, answer);
        }
        let line = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.told.send(line).map(|()| id).map_err(|_| Trouble::Gone)
    }
}

/// Ends it, with all that it has started in its group.
impl Drop for Link {
    fn drop(&mut self) {
        // It is reaped behind this, so the number is its own.
        if let Err(errno) = killpg(self.group(), Signal::SIGKILL)
            && errno != Errno::ESRCH
        {
            say!("could not end a server of MCP: {errno}");
        }
        drop(self.child.wait()); // it was killed
    }
}

fn held(waiting: &Waiting) -> MutexGuard<'_, Option<HashMap<u64, Sender<Heard>>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(mut stdin: ChildStdin, lines: &Receiver<Value>) {
    while let Ok(line) = lines.recv() {
        if stdin.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdin.flush()).is_err() {
            return; // it reads no more
        }
    }
}

fn listen(
    stdout: ChildStdout,
    name: &str,
    told: &Sender<Value>,
    waiting: &Waiting,
    changed: &AtomicBool,
) {
    let mut reader = BufReader::new(stdout);
    loop {
        let line = match read_line(&mut reader, LINE_MAX) {
            Ok(Line::Text(line)) => line,
            Ok(Line::TooLong) => {
                say!("the MCP server {name} wrote a line of more than {LINE_MAX} bytes");
                continue;
            }
            Ok(Line::End) | Err(_) => return,
        };
        // What is none of the protocol is passed over: some print what they do.
        let Ok(Value::Object(mut message)) = serde_json::from_slice(&line) else { continue };
        let method = message.get("method").and_then(Value::as_str);
        match (method, message.get("id")) {
            (Some("notifications/tools/list_changed"), None) => {
                changed.store(true, Ordering::Relaxed);
            }
            (Some(_), None) => {}
            (Some(method), Some(id)) => {
                let answer = match method {
                    "ping" => json!({"jsonrpc": "2.0", "id": id, "result": {}}),
                    _ => {
                        let error = json!({"code": code::NO_METHOD, "message": "Method not found"});
                        json!({"jsonrpc": "2.0", "id": id, "error": error})
                    }
                };
                drop(told.send(answer)); // it reads no more
            }
            (None, Some(id)) => {
                let id = id.as_u64();
                let asker = id.and_then(|id| held(waiting).as_mut()?.remove(&id));
                if let Some(asker) = asker {
                    drop(asker.send(outcome(&mut message))); // who has given up
                }
            }
            (None, None) => {}
        }
    }
}

fn outcome(message: &mut Map<String, Value>) -> Heard {
    if let Some(result) = message.remove("result") {
        return Ok(result);
    }
    let error = message.get("error");
    let field = |name: &str| error.and_then(|error| error.get(name)).cloned().unwrap_or_default();
    let message = twobox_shared::content::shorten(field("message").as_str().unwrap_or("?"), 500);
    Err(Trouble::Refused {
        code: field("code").as_i64().unwrap_or_default(),
        message,
        data: field("data"),
    })
}
