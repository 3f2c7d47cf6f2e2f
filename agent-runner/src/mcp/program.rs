//! A server of MCP that this process has started, at the other end of its standard streams.
//!
//! Two threads carry the lines, so that nobody waits longer for a server than they mean to, whether it
//! does not read or does not answer.

use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Map, Value, json};

use super::lines::{Line, read_line};
use super::link::{
    Asked, CHANGED, Heard, LOOK, Link, MESSAGE_MAX, Trouble, Until, is_answered, outcome, reply,
};
use crate::say::say;

/// How many lines wait for a server that does not read. Beyond that it is asked nothing, and what it asks is not
/// answered.
const LINES_MAX: usize = 64;

/// What there is while a server runs, and nothing once it has ended. With this the threads end that carry lines:
/// nobody else can tell the one that writes anything.
type Open = Mutex<Option<Talk>>;

struct Talk {
    told: SyncSender<Value>,
    /// Who waits for which answer.
    waiting: HashMap<u64, Sender<Heard>>,
}

/// A server that runs.
pub(crate) struct Program {
    child: Child,
    open: Arc<Open>,
    changed: Arc<AtomicBool>,
    next: AtomicU64,
}

impl Program {
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
        let (told, lines) = mpsc::sync_channel(LINES_MAX);
        let open = Arc::new(Mutex::new(Some(Talk { told, waiting: HashMap::new() })));
        let changed = Arc::new(AtomicBool::new(false));
        let program = Self {
            child,
            open: Arc::clone(&open),
            changed: Arc::clone(&changed),
            next: AtomicU64::new(1),
        };
        let thread = |what: &str| std::thread::Builder::new().name(what.to_owned());
        thread("mcp-write").spawn(move || write(stdin, &lines))?;
        let name = name.to_owned();
        thread("mcp-read").spawn(move || {
            listen(stdout, &name, &open, &changed);
            *held(&open) = None; // whoever waits hears that it is gone
        })?;
        Ok(program)
    }

    fn group(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("Linux numbers fit into i32"))
    }

    fn send(
        &self,
        method: &str,
        params: &Map<String, Value>,
        answer: Option<Sender<Heard>>,
    ) -> Result<u64, Trouble> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut open = held(&self.open);
        let talk = open.as_mut().ok_or(Trouble::Gone)?;
        if let Some(answer) = answer {
            talk.waiting.insert(id, answer);
        }
        let line = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        talk.told.try_send(line).map(|()| id).map_err(|full| {
            talk.waiting.remove(&id);
            match full {
                TrySendError::Disconnected(_) => Trouble::Gone, // it reads no more
                TrySendError::Full(_) => Trouble::Silent,
            }
        })
    }
}

impl Link for Program {
    fn ask(&self, asked: Asked<'_>, until: Until<'_>) -> Heard {
        let (answer, heard) = mpsc::channel();
        let id = self.send(asked.method, &asked.params, Some(answer))?;
        loop {
            match heard.recv_timeout(LOOK) {
                Ok(outcome) => return outcome,
                // It may have read what it was asked.
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Trouble::Cut("it has ended".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let Some(given_up) = until.over() else { continue };
            if let Some(talk) = held(&self.open).as_mut() {
                talk.waiting.remove(&id);
            }
            self.tell("notifications/cancelled", &json!({"requestId": id}));
            return Err(given_up);
        }
    }

    fn tell(&self, method: &str, params: &Value) {
        let line = json!({"jsonrpc": "2.0", "method": method, "params": params});
        say_to(&self.open, line);
    }

    /// One of the older form says what it has to say unasked.
    fn listen(&self, subscription: Option<Map<String, Value>>) {
        if let Some(params) = subscription {
            drop(self.send("subscriptions/listen", &params, None)); // one that has ended has nothing to tell
        }
    }

    fn hears(&self) -> bool {
        true
    }

    fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Relaxed)
    }

    fn is_there(&self) -> bool {
        held(&self.open).is_some()
    }

    fn group(&self) -> Option<Pid> {
        Some(self.group())
    }

    fn says_beside(&self) -> bool {
        false
    }
}

/// Ends it, with all that it has started in its group.
impl Drop for Program {
    fn drop(&mut self) {
        *held(&self.open) = None; // the thread that writes ends, whoever holds its output open
        // It is reaped behind this, so the number is its own.
        if let Err(errno) = killpg(self.group(), Signal::SIGKILL)
            && errno != Errno::ESRCH
        {
            say!("could not end a server of MCP: {errno}");
        }
        drop(self.child.wait()); // it was killed
    }
}

fn held(open: &Open) -> MutexGuard<'_, Option<Talk>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says what nobody waits for. To one that does not read it is lost.
fn say_to(open: &Open, line: Value) {
    if let Some(talk) = held(open).as_ref() {
        drop(talk.told.try_send(line));
    }
}

/// Writes what is told, until the server reads no more or nobody is left who could tell it anything.
fn write(mut stdin: ChildStdin, lines: &Receiver<Value>) {
    for line in lines {
        if stdin.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdin.flush()).is_err() {
            return; // it reads no more
        }
    }
}

fn listen(stdout: ChildStdout, name: &str, open: &Open, changed: &AtomicBool) {
    let mut reader = BufReader::new(stdout);
    loop {
        let line = match read_line(&mut reader, MESSAGE_MAX) {
            Ok(Line::Text(line)) => line,
            Ok(Line::TooLong) => {
                say!("the MCP server {name} wrote a line of more than {MESSAGE_MAX} bytes");
                continue;
            }
            Ok(Line::End) | Err(_) => return,
        };
        // What is none of the protocol is passed over: some print what they do.
        let Ok(Value::Object(mut message)) = serde_json::from_slice(&line) else { continue };
        let method = message.get("method").and_then(Value::as_str);
        match (method, message.get("id")) {
            (Some(CHANGED), None) => {
                changed.store(true, Ordering::Relaxed);
            }
            (Some(_), None) => {}
            (Some(method), Some(id)) if is_answered(id) => say_to(open, reply(method, id)),
            (Some(_), Some(_)) => {}
            (None, Some(id)) => {
                let id = id.as_u64();
                let asker = id.and_then(|id| held(open).as_mut()?.waiting.remove(&id));
                if let Some(asker) = asker {
                    drop(asker.send(outcome(&mut message))); // who has given up
                }
            }
            (None, None) => {}
        }
    }
}
