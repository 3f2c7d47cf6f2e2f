//! The servers of MCP that an agent has: started with the first turn that needs them, and again where one has
//! ended; or asked by the host, and agreed with anew where one was lost. One that is of no use costs its tools and,
//! unless it is required, no turn.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use twobox_shared::agent_config::{Gateway, Place, Servers as Wanted};
use twobox_shared::content::Failure;

use super::asking::{Cancelled, gather};
use super::client::Aside;
use crate::mcp::client::{Client, Described, agree_and_list};
use crate::mcp::hosted::Hosted;
use crate::mcp::letter::Door;
use crate::mcp::link::{Link, Trouble, Until};
use crate::mcp::program::Program;
use crate::provider::{TurnHandle, cancelled};
use crate::say::say;

/// How long the servers may take until they have said which tools they have.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often is looked meanwhile for what was pushed.
const LOOK: Duration = Duration::from_millis(10);

/// How many of those that the host asks are listened to. Each holds a connection of the session for as long.
const LISTENED_MAX: usize = 8;

/// How long the tools of one that cannot be listened to are taken for what they were.
const RELIST: Duration = Duration::from_secs(5 * 60);

/// A server that can be asked, and the tools that it has.
pub(super) struct Ready {
    pub(super) name: String,
    pub(super) client: Arc<Client>,
    pub(super) tools: Vec<Described>,
    /// When it has told them.
    listed: Instant,
    /// Whether it was to be asked for them since, and was not: the host had no room for it.
    is_due: bool,
}

struct Server {
    name: String,
    how: How,
    required: bool,
    ready: Option<Arc<Ready>>,
    /// Why it is of no use, as the model was told.
    trouble: Option<String>,
}

/// How a server is reached.
enum How {
    /// By starting it.
    Program { command: Vec<String>, env: BTreeMap<String, String> },
    /// By the host.
    Hosted { door: Door, listened: bool },
}

/// All servers of an agent.
pub(super) struct Servers {
    servers: Vec<Server>,
    /// What all of them have in their environment.
    environment: Vec<(&'static str, PathBuf)>,
    /// Where they run.
    folder: PathBuf,
}

/// What is to be done to have a server ready.
enum Task {
    Agree(Box<dyn Link>),
    List(Arc<Ready>),
}

impl Servers {
    /// None is started yet. What the host asks it asks at `socket`, as `way` says.
    pub(super) fn new(
        wanted: &Wanted,
        way: Option<&Gateway>,
        socket: &Path,
        folder: PathBuf,
        environment: Vec<(&'static str, PathBuf)>,
    ) -> Self {
        let server = |name: &str, how, required| Server {
            name: name.to_owned(),
            how,
            required,
            ready: None,
            trouble: None,
        };
        let programs = wanted.iter().filter_map(|(name, it)| match &it.place {
            Place::Program { command, env } => {
                let how = How::Program { command: command.clone(), env: env.clone() };
                Some(server(name, how, it.required))
            }
            Place::Remote(_) => None, // its runner is told of it in another way
        });
        let hosted =
            way.into_iter().flat_map(|way| way.servers.iter().map(move |it| (it, &way.key)));
        let hosted = hosted.enumerate().map(|(number, (it, key))| {
            let (key, name) = (key.clone(), it.name.clone());
            let door = Door { socket: socket.to_owned(), key, server: name };
            server(&it.name, How::Hosted { door, listened: number < LISTENED_MAX }, it.required)
        });
        Self { servers: programs.chain(hosted).collect(), environment, folder }
    }

    /// Their names, also of those that are of no use now.
    pub(super) fn names(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.name.clone()).collect()
    }

    /// Those that can be asked in this turn. Of changes the model is told in `aside`.
    ///
    /// # Errors
    /// One that is required is of no use, or the turn was cancelled.
    pub(super) fn ready(
        &mut self,
        handle: &TurnHandle,
        aside: &mut Aside,
    ) -> Result<Vec<Arc<Ready>>, Failure> {
        if self.servers.is_empty() {
            return Ok(Vec::new());
        }
        // They are started in this thread, for the kernel ends them with the one that has started them.
        let tasks: Vec<_> = (0..self.servers.len()).map(|index| self.task(index)).collect();
        let outcomes = carry_out(&self.servers, tasks, handle, aside);
        let outcomes = outcomes.map_err(|Cancelled| cancelled());
        for (server, outcome) in self.servers.iter_mut().zip(outcomes?) {
            match outcome {
                None => {}
                Some(Ok(ready)) => {
                    server.ready = Some(Arc::new(ready));
                    if server.trouble.take().is_some() {
                        aside
                            .notices
                            .push(format!("The MCP server {} is there again.", server.name));
                    }
                }
                Some(Err(why)) => {
                    server.ready = None;
                    server.tell(why, aside)?;
                }
            }
        }
        let groups = self.servers.iter().filter_map(|server| server.ready.as_ref());
        let groups = groups.filter_map(|ready| ready.client.group()).collect();
        *handle.kept.lock().unwrap_or_else(PoisonError::into_inner) = groups;
        Ok(self.servers.iter().filter_map(|server| server.ready.clone()).collect())
    }

    /// What has to be done for a server before this turn.
    fn task(&mut self, index: usize) -> Option<Result<Task, String>> {
        let server = &mut self.servers[index];
        if let Some(ready) = server.ready.as_ref().filter(|ready| ready.client.is_there()) {
            let changed = ready.client.take_changed();
            let is_old = !ready.client.hears() && ready.listed.elapsed() > RELIST;
            let is_due = changed || is_old || ready.is_due;
            return is_due.then(|| Ok(Task::List(Arc::clone(ready))));
        }
        server.ready = None; // which ends what is left of it
        let link: Result<Box<dyn Link>, String> = match &server.how {
            How::Hosted { door, listened } => Ok(Box::new(Hosted::new(door.clone(), *listened))),
            How::Program { command: words, env } => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]).current_dir(&self.folder);
                command
                    .envs(self.environment.iter().map(|(name, folder)| (name, folder)))
                    .envs(env);
                let started = Program::start(command, &server.name);
                let started = started.map(|program| Box::new(program) as Box<dyn Link>);
                started.map_err(|error| format!("{:?} cannot be started: {error}", words[0]))
            }
        };
        Some(link.map(Task::Agree))
    }
}

/// Ends all at once: one that has to be told may be slow to hear it.
impl Drop for Servers {
    fn drop(&mut self) {
        std::thread::scope(|scope| {
            for ready in self.servers.iter_mut().filter_map(|server| server.ready.take()) {
                // Where there is no room for a thread, it ends here.
                let ended = std::thread::Builder::new().name("mcp-end".to_owned());
                drop(ended.spawn_scoped(scope, move || drop(ready)));
            }
        });
    }
}

impl Server {
    fn tell(&mut self, why: String, aside: &mut Aside) -> Result<(), Failure> {
        let name = &self.name;
        if self.required {
            let detail = format!("the MCP server {name}, which is required, is of no use: {why}");
            return Err(Failure::retryable(Failure::PROVIDER_ERROR, detail));
        }
        if self.trouble.as_ref() != Some(&why) {
            say!("the MCP server {name} is of no use: {why}");
            aside.notices.push(format!("The MCP server {name} is of no use now: {why}"));
            self.trouble = Some(why);
        }
        Ok(())
    }
}

type Outcome = Option<Result<Ready, String>>;

/// Does all tasks at once, and hears meanwhile what is pushed.
fn carry_out(
    servers: &[Server],
    tasks: Vec<Option<Result<Task, String>>>,
    handle: &TurnHandle,
    aside: &mut Aside,
) -> Result<Vec<Outcome>, Cancelled> {
    let (deadline, over) = (Instant::now() + PATIENCE, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let begin = |(server, task): (&Server, Option<Result<Task, String>>)| {
            let (name, over) = (server.name.clone(), &over);
            let work = move || task.map(|task| carry_out_one(task?, name, deadline, over));
            std::thread::Builder::new().name("mcp".to_owned()).spawn_scoped(scope, work)
        };
        let threads: Vec<_> = servers.iter().zip(tasks).map(begin).collect();
        let mut was_cancelled = false;
        while threads.iter().flatten().any(|thread| !thread.is_finished()) {
            if gather(handle, aside).is_err() {
                was_cancelled = true;
                over.store(true, Ordering::Relaxed);
            }
            std::thread::sleep(LOOK);
        }
        let outcome = |thread: std::io::Result<std::thread::ScopedJoinHandle<'_, Outcome>>| {
            let broke = || Some(Err("its client broke".to_owned()));
            match thread {
                Ok(thread) => thread.join().unwrap_or_else(|_| broke()),
                Err(error) => Some(Err(format!("there is no room for it: {error}"))),
            }
        };
        match was_cancelled {
            true => Err(Cancelled),
            false => Ok(threads.into_iter().map(outcome).collect()),
        }
    })
}

fn carry_out_one(
    task: Task,
    name: String,
    deadline: Instant,
    cancelled: &AtomicBool,
) -> Result<Ready, String> {
    let ready = |client, tools, is_due| {
        Ok(Ready { name: name.clone(), client, tools, listed: Instant::now(), is_due })
    };
    match task {
        Task::Agree(link) => {
            let (client, tools) = agree_and_list(link, &name, deadline, cancelled)?;
            ready(Arc::new(client), tools, false)
        }
        Task::List(before) => {
            let client = Arc::clone(&before.client);
            match client.tools(&name, Until { deadline, cancelled }) {
                Ok(tools) => ready(client, tools, false),
                Err(trouble) if passes(&trouble) => {
                    say!("the MCP server {name} is not asked for its tools now: {trouble}");
                    ready(client, before.tools.clone(), true)
                }
                Err(trouble) => Err(trouble.to_string()),
            }
        }
    }
}

/// Whether a server that was not asked, or did not want to be, is no worse for it: its tools are what they were.
fn passes(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Unasked(_) | Trouble::Status(429, _))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use nix::unistd::Pid;
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::mcp::link::Asked;

    /// A server that answers what it is given, one after the other.
    struct Given(Mutex<Vec<Result<Value, Trouble>>>);

    impl Link for Given {
        fn ask(&self, _: Asked<'_>, _: Until<'_>) -> Result<Value, Trouble> {
            self.0.lock().unwrap().remove(0)
        }
        fn tell(&self, _: &str, _: &Value) {}
        fn listen(&self, _: Option<Map<String, Value>>) {}
        fn hears(&self) -> bool {
            true
        }
        fn take_changed(&self) -> bool {
            false
        }
        fn is_there(&self) -> bool {
            true
        }
        fn group(&self) -> Option<Pid> {
            None
        }
        fn says_beside(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_server_that_is_not_asked_now_keeps_the_tools_that_it_had() {
        let versions = json!({"supportedVersions": [crate::mcp::MODERN]});
        let tools = |name: &str| json!({"tools": [{"name": name, "description": name}]});
        let answers = vec![
            Ok(versions),
            Ok(tools("first")),
            Err(Trouble::Unasked("wait a second".to_owned())),
            Err(Trouble::Status(429, String::new())),
            Ok(tools("second")),
            Err(Trouble::Status(500, String::new())),
        ];
        let (deadline, over) = (Instant::now() + PATIENCE, AtomicBool::new(false));
        let carry = |task| carry_out_one(task, "far".to_owned(), deadline, &over);
        let mut ready = carry(Task::Agree(Box::new(Given(Mutex::new(answers))))).unwrap();
        for (name, is_due) in [("first", true), ("first", true), ("second", false)] {
            ready = carry(Task::List(Arc::new(ready))).unwrap();
            assert_eq!((ready.tools[0].name.as_str(), ready.is_due), (name, is_due));
        }
        assert!(carry(Task::List(Arc::new(ready))).is_err());
    }
}
