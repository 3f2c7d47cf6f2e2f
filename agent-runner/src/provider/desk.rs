//! The desk: where a program that a provider runs uses the host's tools. It is a unix socket in the container,
//! for this runner's user alone, and `agent-runner mcp` ([`crate::mcp`]) speaks for the program there.
//!
//! A call belongs to the turn that runs when it comes. The main thread does what it says as it does it for any
//! provider: what is sent at once is committed at once, under the turn's claims, and what waits for the
//! turn's end is dropped if the turn fails. Without a turn, and after it, a call is refused. Nothing here is
//! kept from the agent: whoever can connect is the agent, and has these tools in any case.

use std::io::{self, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};
use serde_json::{Map, Value};
use twobox_shared::agent_config::{HOST_SERVER, Permission, Permissions, Servers};

use super::current::{Current, ask};
use super::model::{OVER, Speaks, ToolSpec, host_tools};
use super::{TurnHandle, people};
use crate::args::Options;
use crate::ask::{Asking, Decision};
use crate::event::{Event, Said, TurnNumber};
use crate::mcp::lines::{Line, read_line};
use crate::mcp::wire::{Answer, Question, ToolText, near};
use crate::patience;
use crate::say::say;

/// How many calls may be under way.
const CALLS_MAX: usize = 32;

/// The longest time to wait after connections that could not be taken.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a caller may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest call, in bytes. It has room for a text of the greatest size that can be sent, in JSON.
const CALL_MAX: usize = 8 << 20;

/// How a program's client of MCP is to start the server that has the host's tools.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Launch {
    /// The program,
    pub(crate) command: PathBuf,
    /// and its arguments. It needs nothing of its environment.
    pub(crate) args: Vec<String>,
}

/// An open desk. It is closed when this is dropped.
pub(crate) struct Desk {
    path: PathBuf,
    listener: Arc<UnixListener>,
    closed: Arc<AtomicBool>,
}

/// What those behind the desk work with.
struct Counter {
    work: PathBuf,
    permissions: Permissions,
    current: Arc<Current>,
    events: Sender<Event>,
    busy: AtomicUsize,
}

impl Desk {
    /// Opens the desk of a provider with this handle, for tools that may be used as `permissions` say.
    ///
    /// # Errors
    /// If there is no place for the socket, or no room for a thread.
    pub(crate) fn open(
        handle: &TurnHandle,
        options: &Options,
        permissions: &Permissions,
    ) -> io::Result<Self> {
        let path = place(options);
        let bound = near(&path, |near| UnixListener::bind(near));
        let listener = Arc::new(bound?);
        let closed = Arc::new(AtomicBool::new(false));
        let desk = Self { path, listener: Arc::clone(&listener), closed: Arc::clone(&closed) };
        // Nobody else can since it was made (`shared::private`); this says so where the file is looked at.
        std::fs::set_permissions(&desk.path, PermissionsExt::from_mode(0o600))?;
        let work = options.folders.work.as_deref().unwrap_or(options.paths.out_dir());
        let counter = Arc::new(Counter {
            work: work.to_owned(),
            permissions: permissions.clone(),
            current: Arc::clone(&handle.current),
            events: handle.events.clone(),
            busy: AtomicUsize::new(0),
        });
        let accept = move || listener.accept().map(|(stream, _)| stream);
        let serve = move || serve(accept, &closed, &counter);
        std::thread::Builder::new().name("desk".to_owned()).spawn(serve)?;
        Ok(desk)
    }

    /// How to start what speaks MCP for it.
    ///
    /// # Errors
    /// If this program does not know where it is, or its path or the socket's is no text.
    pub(crate) fn launch(&self) -> io::Result<Launch> {
        let socket = self.path.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
        let args = ["mcp", "--socket", socket].map(str::to_owned).to_vec();
        Ok(Launch { command: std::env::current_exe()?, args })
    }
}

/// How to start `command` as a server in `folder`, for a client that would start it somewhere else.
///
/// # Errors
/// If this program does not know where it is, or its path or the folder's is no text.
pub(crate) fn launch_in(folder: &Path, command: &[String]) -> io::Result<Launch> {
    let folder = folder.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
    let args = ["mcp", "--in", folder].map(str::to_owned);
    let args = args.into_iter().chain(command.iter().cloned()).collect();
    Ok(Launch { command: std::env::current_exe()?, args })
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        drop(std::fs::remove_file(&self.path)); // somebody was faster
        shutdown(self.listener.as_raw_fd(), Shutdown::Both).ok(); // it ends `accept`
    }
}

/// Where the socket is: in the folder for temporary files. Of a confined runner that is in its workspace,
/// where one that was killed may have left its own.
fn place(options: &Options) -> PathBuf {
    match options.temp() {
        Some(own) => {
            let path = own.join("twobox.sock");
            drop(std::fs::remove_file(&path)); // as a rule there is none
            path
        }
        None => std::env::temp_dir().join(format!("twobox-{}.sock", options.runner)),
    }
}

/// Serves whoever comes by `accept`, until the desk is closed. A connection that cannot be taken, or breaks off,
/// costs no other: not more than [`CALLS_MAX`] are open at once, each with one call, which waits for its answer.
fn serve(
    mut accept: impl FnMut() -> io::Result<UnixStream>,
    closed: &AtomicBool,
    counter: &Arc<Counter>,
) {
    let mut unheard = patience::Row::default();
    while !closed.load(Ordering::Relaxed) {
        let stream = match accept() {
            Ok(stream) => stream,
            Err(_) if closed.load(Ordering::Relaxed) => return,
            Err(error) => {
                // Whoever called has gone again, or there is no room for a moment.
                let (is_news, pause) = unheard.failed(error.to_string(), LONGEST_PAUSE);
                if is_news {
                    say!("a call of a tool was not heard: {error}");
                }
                std::thread::sleep(pause);
                continue;
            }
        };
        if let Some(errors) = unheard.succeeded() {
            say!("calls of tools are heard again, after {errors} errors");
        }
        let Some(place) = Place::of(counter) else {
            drop(tell(&stream, &Answer::Wrong("too many calls are under way".to_owned())));
            continue;
        };
        let work = move || drop(place.0.attend(&stream)); // whoever called has gone
        if let Err(error) = std::thread::Builder::new().name("desk-call".to_owned()).spawn(work) {
            say!("a call of a tool was not heard: {error}");
        }
    }
}

/// A place for one call, given back when this is dropped, whatever became of the call.
struct Place(Arc<Counter>);

impl Place {
    fn of(counter: &Arc<Counter>) -> Option<Self> {
        let place = Self(Arc::clone(counter));
        (counter.busy.fetch_add(1, Ordering::Relaxed) < CALLS_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

fn tell(mut stream: &UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line)
}

impl Counter {
    /// Hears one question and answers it.
    fn attend(&self, stream: &UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let answer = match read_line(&mut BufReader::new(stream), CALL_MAX)? {
            Line::Text(text) => match serde_json::from_slice(&text) {
                Ok(Question::Tools) => Answer::Tools(self.tools()),
                Ok(Question::Call { name, arguments }) => Answer::of(self.call(&name, &arguments)),
                Err(error) => Answer::Wrong(format!("this is no question: {error}")),
            },
            Line::TooLong => Answer::Wrong(format!("it has more than {CALL_MAX} bytes")),
            Line::End => return Ok(()),
        };
        tell(stream, &answer)
    }

    fn tools(&self) -> Vec<ToolText> {
        let specs = host_tools::specs(|name| self.permission(name) == Permission::Deny);
        let texts = specs.into_iter().map(|spec| {
            let asked = self.permission(&spec.name) == Permission::Ask;
            let ToolSpec { name, description, schema } =
                if asked { host_tools::asked_first(spec) } else { spec };
            ToolText { name, description, input_schema: schema }
        });
        texts.collect()
    }

    /// What may be done with a tool: by its own name, or by that which vendors' programs give it. The stricter
    /// counts.
    fn permission(&self, name: &str) -> Permission {
        let long = format!("{}{name}", Servers::prefix(HOST_SERVER));
        let said = [name, &long].map(|name| self.permissions.get(name).copied());
        [Permission::Deny, Permission::Ask]
            .into_iter()
            .find(|may| said.contains(&Some(*may)))
            .unwrap_or(Permission::Allow)
    }

    fn call(&self, name: &str, arguments: &Map<String, Value>) -> Result<String, String> {
        let permission = self.permission(name);
        if permission == Permission::Deny {
            return Err(format!("the tool {name} may not be used here"));
        }
        let Some(number) = self.current.number() else {
            return Err("no turn runs, so nothing was done".to_owned());
        };
        let destinations = self.current.destinations();
        let mut turn = Caller { number, events: &self.events };
        if permission == Permission::Ask {
            let given = Value::Object(arguments.clone());
            let Decision { ok, text } = turn.decided(people::permission(name, &given))?;
            if !ok {
                return Err(format!("{text} Nothing was done."));
            }
        }
        let text = host_tools::call(name, arguments, &self.work, &destinations, &mut turn)?;
        if host_tools::is_silence(name) {
            self.current.say_nothing(number);
        }
        Ok(text)
    }
}

/// Speaks in the turn in which a call came.
struct Caller<'a> {
    number: TurnNumber,
    events: &'a Sender<Event>,
}

impl Speaks for Caller<'_> {
    fn done(&mut self, said: Said) -> Result<(), String> {
        let heard = ask(self.events, self.number, said);
        heard.recv().unwrap_or_else(|_| Err(format!("{OVER}, so nothing was done")))
    }

    fn decided(&mut self, asking: Asking) -> Result<Decision, String> {
        let (reply, coming) = mpsc::channel();
        self.done(Said::Ask(asking, reply))?;
        coming.recv().map_err(|_| format!("{OVER} before anybody decided"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::Read;

    use super::*;

    #[test]
    fn a_connection_that_cannot_be_taken_or_breaks_off_costs_no_other() {
        let (handle, _reins, _said) = TurnHandle::apart();
        let counter = Arc::new(Counter {
            work: PathBuf::from("/"),
            permissions: Permissions::new(),
            current: Arc::clone(&handle.current),
            events: handle.events.clone(),
            busy: AtomicUsize::new(0),
        });
        let pair = || UnixStream::pair().unwrap();
        let ((gone, one), (mut asker, other)) = (pair(), pair());
        drop(gone);
        asker.write_all(b"\"tools\"\n").unwrap();
        let aborted = || Err(io::Error::from(io::ErrorKind::ConnectionAborted));
        let mut coming = VecDeque::from([aborted(), Ok(one), aborted(), Ok(other)]);
        let closed = AtomicBool::new(false);
        let accept = || match coming.pop_front() {
            Some(next) => next,
            None => {
                closed.store(true, Ordering::Relaxed);
                Err(io::Error::from(io::ErrorKind::InvalidInput))
            }
        };
        serve(accept, &closed, &counter);
        let mut answer = String::new();
        asker.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("send_message"), "{answer}");
        while counter.busy.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now(); // another thread gives its place back
        }
    }

    #[test]
    fn what_is_known_of_the_hosts_tools_is_what_there_is() {
        let names: Vec<String> =
            host_tools::specs(|_| false).into_iter().map(|spec| spec.name).collect();
        assert_eq!(names, twobox_shared::agent_config::HOST_TOOLS);
    }
}
