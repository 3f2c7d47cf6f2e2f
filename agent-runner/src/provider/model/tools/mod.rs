//! What a model can use. Each tool checks what it is given and says what is wrong with it; none fails a
//! turn.
//!
//! Calls of one answer are done in their order. Those that only look stand beside each other, in threads;
//! what changes something, or runs anything, waits for what was asked before it, and is waited for.

mod arguments;
mod bash;
mod bounded;
mod edit;
mod files;
mod find;
mod foreign;
pub(in crate::provider) mod host;
mod page;
mod permission;
mod skill;
mod speaking;
mod threads;
mod web;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::unistd::Pid;
use serde_json::{Map, Value};
use twobox_shared::agent_config::Permission;

use self::arguments::{Arguments, Field, schema};
pub(in crate::provider::model) use self::foreign::Foreign;
use self::foreign::ForeignTool;
use self::permission::may_use;
use self::speaking::OfTurn;
pub(in crate::provider) use self::speaking::{OVER, Speaks};
use self::threads::{Act, beside, in_threads};
use super::asking::{Cancelled, gather};
use super::client::Aside;
use super::conversation::{Input, Part, ToolCall, ToolResult, ToolSpec};
use super::kept::Kept;
use super::skills::Skill;
use crate::ask::Decision;
use crate::provider::way_out::WayOut;
use crate::provider::{TurnHandle, kill_group};

/// How many tools run beside each other.
const AT_ONCE: usize = 8;

/// How often a running tool is left to look for what was pushed.
const LOOK: Duration = Duration::from_millis(20);

/// The longest text of a result, in bytes, whatever the tool.
const TEXT_MAX: usize = 80_000;

/// How much longer the main thread waits for a shell than the shell's own limit.
pub(in crate::provider) const SLACK: Duration = Duration::from_secs(10);

/// The shortest key that is looked for, in bytes. The host's are longer.
const KEY_MIN: usize = 16;

/// What became of a call: what the model reads, or what was wrong.
type Made = Result<Vec<Part>, String>;

/// What tools work with, in one turn.
pub(super) struct Bench {
    /// The folder in which relative paths begin.
    pub(super) work: PathBuf,
    /// The agent's definition.
    pub(super) program: PathBuf,
    /// What its conversations share, if anything.
    pub(super) agent: Option<PathBuf>,
    /// The halves of the session folder, which the host reads.
    pub(super) halves: [PathBuf; 2],
    /// By which the host knows the session. No model is to read it.
    pub(super) key: String,
    /// For temporary files, where the usual folder is out of reach.
    pub(super) temp: Option<PathBuf>,
    /// The host's socket, if it fetches pages of the network.
    pub(super) fetches: Option<PathBuf>,
    /// How programs reach the network, if they may.
    pub(super) way_out: Option<Arc<WayOut>>,
    /// The shell, if there is one.
    pub(super) shell: Option<PathBuf>,
    /// How long a tool may run.
    pub(super) most: Duration,
    /// Where things are kept.
    pub(super) kept: Kept,
    /// What it can read up on.
    pub(super) skills: Vec<Skill>,
    /// The names that it can send to.
    pub(super) destinations: Vec<String>,
    /// Servers that it can ask.
    pub(super) foreign: Foreign,
    /// Whether the model takes pictures.
    pub(super) shows_pictures: bool,
    /// Whether the turn was cancelled.
    pub(super) cancelled: AtomicBool,
    /// The process group of what runs, for the main thread to kill.
    pub(super) group: Arc<Mutex<Option<Pid>>>,
}

impl Bench {
    /// The path that a model means by `given`.
    fn path(&self, given: &str) -> PathBuf {
        path_in(&self.work, given)
    }

    /// Refuses a place in the session's boxes: what is written there by hand breaks the session. Where
    /// the agent's own folder is within one of them, that folder is its own.
    ///
    /// # Errors
    /// A sentence about the path.
    fn may_write(&self, path: &Path) -> Result<(), String> {
        let path = files::resolved(path);
        let is_box = |half: &PathBuf| {
            let half = files::resolved(half);
            path.starts_with(&half) && !files::resolved(&self.work).starts_with(&half)
        };
        match self.halves.iter().any(is_box) {
            true => {
                Err(files::wrong(&path, "this folder is the host's: nothing may be written there"))
            }
            false => Ok(()),
        }
    }

    /// `text` without the session's key.
    fn masked(&self, text: String) -> String {
        match self.key.len() >= KEY_MIN && text.contains(&self.key) {
            true => text.replace(&self.key, "[the host's key]"),
            false => text,
        }
    }
}

/// The path that a model means by `given` which works in `work`.
fn path_in(work: &Path, given: &str) -> PathBuf {
    work.join(Path::new(given)).components().collect()
}

/// A tool.
struct Tool {
    name: &'static str,
    says: &'static str,
    fields: &'static [Field],
    run: Run,
}

/// All tools, in the order in which models are told of them.
fn all() -> Vec<Tool> {
    let mut tools = vec![bash::TOOL, files::READ, files::WRITE, edit::TOOL, find::GLOB, find::GREP];
    tools.push(web::TOOL);
    tools.push(skill::TOOL);
    tools.extend(host::all());
    tools
}

/// How a tool is used.
#[derive(Clone, Copy)]
enum Run {
    /// Beside others: it only looks.
    Beside(fn(&Bench, Arguments<'_>) -> Made),
    /// By itself.
    Alone(fn(&Bench, Arguments<'_>) -> Made),
    /// By the main thread and the host.
    Host(HostRun),
}

/// What is to be done for a call.
#[derive(Clone, Copy)]
enum Job<'a> {
    Own(Run, Arguments<'a>),
    Foreign(&'a ForeignTool, &'a Map<String, Value>),
}

type HostRun = fn(&mut Requested<'_>, Arguments<'_>) -> Made;

/// What a tool of the host works with.
struct Requested<'a> {
    /// The folder in which relative paths begin.
    work: &'a Path,
    /// The names that can be sent to.
    destinations: &'a [String],
    turn: &'a mut dyn Speaks,
}

/// The shell of this place, if it has one.
pub(super) fn shell() -> Option<PathBuf> {
    bash::shell()
}

/// The tools of an agent.
pub(super) struct Toolbox {
    tools: Vec<Tool>,
    foreign: Vec<ForeignTool>,
    denied: Vec<String>,
    /// Those that are used when a person has allowed it.
    asked: Vec<String>,
}

impl Toolbox {
    /// All that this place has and the agent may use.
    ///
    /// # Errors
    /// A permission is for a tool that nobody has: whoever wrote it believes that something is denied
    /// which is not.
    pub(super) fn of(
        bench: &Bench,
        permissions: &BTreeMap<String, Permission>,
    ) -> Result<Self, String> {
        let mut tools = all();
        if let Some(name) = permissions
            .keys()
            .find(|name| !tools.iter().any(|it| it.name == **name) && !bench.foreign.may_be(name))
        {
            let names: Vec<_> = tools.iter().map(|tool| tool.name).collect();
            return Err(format!("there is no tool {name:?}; there are: {}", names.join(", ")));
        }
        let those = |wanted: Permission| -> Vec<String> {
            let these = permissions.iter().filter(|(_, permission)| **permission == wanted);
            these.map(|(name, _)| name.clone()).collect()
        };
        let (denied, asked) = (those(Permission::Deny), those(Permission::Ask));
        tools.retain(|tool| {
            let is_there = match tool.name {
                name if name == bash::TOOL.name => bench.shell.is_some(),
                name if name == web::TOOL.name => bench.fetches.is_some(),
                name if name == skill::TOOL.name => !bench.skills.is_empty(),
                _ => true,
            };
            is_there && !denied.iter().any(|name| name == tool.name)
        });
        let foreign = bench.foreign.tools(&denied);
        Ok(Self { tools, foreign, denied, asked })
    }

    /// What the model is told of them.
    pub(super) fn specs(&self) -> Vec<ToolSpec> {
        let foreign = self.foreign.iter().map(|tool| tool.spec.clone());
        let told = |spec: ToolSpec| match self.must_ask(&spec.name) {
            true => permission::told(spec),
            false => spec,
        };
        self.tools.iter().map(spec).chain(foreign).map(told).collect()
    }

    /// How long these calls may take together; `None` if none has a limit of its own.
    pub(super) fn span(&self, bench: &Bench, calls: &[ToolCall]) -> Option<Duration> {
        let own = |call: &ToolCall| match &call.input {
            _ if self.foreign(&call.name).is_some() => Some(bench.most),
            Input::Fields(fields) if call.name == bash::TOOL.name => {
                Arguments::of(bash::TOOL.fields, fields).ok().map(|given| bash::span(bench, given))
            }
            Input::Fields(_) if call.name == web::TOOL.name => Some(web::span(bench)),
            Input::Fields(_) | Input::Unreadable(_) => None,
        };
        let spans: Vec<_> = calls.iter().filter_map(own).collect();
        let others = if spans.len() < calls.len() { bench.most } else { Duration::ZERO };
        (!spans.is_empty()).then(|| spans.iter().sum::<Duration>() + others + SLACK)
    }

    fn foreign(&self, name: &str) -> Option<&ForeignTool> {
        self.foreign.iter().find(|tool| tool.spec.name == name)
    }

    /// What is to be done for `call`, or what is wrong with it.
    fn job<'c>(&'c self, call: &'c ToolCall) -> Result<Job<'c>, String> {
        let fields = match &call.input {
            Input::Fields(fields) => Ok(fields),
            Input::Unreadable(text) => {
                let text = twobox_shared::content::shorten(text, 200);
                Err(format!("it has to be given a JSON object, and this is none: {text}"))
            }
        };
        if let Some(tool) = self.foreign(&call.name) {
            return fields.map(|fields| Job::Foreign(tool, fields));
        }
        let Some(tool) = self.tools.iter().find(|tool| tool.name == call.name) else {
            let name = twobox_shared::content::shorten(&call.name, 100);
            if self.denied.contains(&call.name) {
                return Err(format!("the tool {name} may not be used here"));
            }
            let names: Vec<_> = self.specs().into_iter().map(|spec| spec.name).collect();
            return Err(format!("there is no tool {name:?}; there are: {}", names.join(", ")));
        };
        Arguments::of(tool.fields, fields?).map(|given| Job::Own(tool.run, given))
    }

    /// Whether none of `calls` changes anything or runs anything.
    pub(super) fn only_look(&self, calls: &[ToolCall]) -> bool {
        calls.iter().all(|call| matches!(self.job(call), Err(_) | Ok(Job::Own(Run::Beside(_), _))))
    }

    /// Whether a person has to allow this one.
    fn asks(&self, call: &ToolCall) -> bool {
        self.must_ask(&call.name)
    }

    fn must_ask(&self, name: &str) -> bool {
        self.asked.iter().any(|asked| asked == name || foreign::is_of(name, asked))
    }

    /// Does `calls`, and says what became of each, in their order.
    ///
    /// # Errors
    /// The turn was cancelled. What runs then is ended.
    pub(super) fn use_all(
        &self,
        bench: &Bench,
        calls: &[ToolCall],
        handle: &TurnHandle,
        aside: &mut Aside,
    ) -> Result<Vec<ToolResult>, Cancelled> {
        let jobs: Vec<_> = calls.iter().map(|call| self.job(call)).collect();
        let mut made: Vec<Made> = Vec::new();
        let mut allowed = None;
        while let Some(job) = jobs.get(made.len()) {
            let at = made.len();
            if job.is_ok() && self.asks(&calls[at]) && allowed != Some(at) {
                match may_use(&calls[at], handle, aside)? {
                    Decision { ok: true, .. } => allowed = Some(at),
                    Decision { text, .. } => made.push(Err(format!("{text} Nothing was done."))),
                }
                continue;
            }
            let alone = calls[at + 1..].iter().take_while(|call| !self.asks(call)).count() + 1;
            let rest = &jobs[at..at + if self.asks(&calls[at]) { 1 } else { alone }];
            match job {
                Err(wrong) => made.push(Err(wrong.clone())),
                Ok(Job::Own(Run::Host(run), given)) => {
                    let mut turn = OfTurn { handle, aside, cancelled: false };
                    let (work, destinations) = (&*bench.work, &*bench.destinations);
                    let mut request = Requested { work, destinations, turn: &mut turn };
                    made.push(run(&mut request, *given));
                    if turn.cancelled {
                        return Err(Cancelled);
                    }
                    gather(handle, aside)?;
                }
                Ok(Job::Own(Run::Alone(run), given)) => {
                    let work: &dyn Act = &|bench: &Bench| run(bench, *given);
                    made.append(&mut in_threads(bench, &[work], handle, aside)?);
                }
                Ok(Job::Foreign(tool, given)) => {
                    let work: &dyn Act = &|bench: &Bench| tool.call(bench, given);
                    made.append(&mut in_threads(bench, &[work], handle, aside)?);
                }
                Ok(Job::Own(Run::Beside(_), _)) => {
                    let looks: Vec<_> = rest.iter().map_while(beside).take(AT_ONCE).collect();
                    let looks: Vec<&dyn Act> = looks.iter().map(|it| it as &dyn Act).collect();
                    made.append(&mut in_threads(bench, &looks, handle, aside)?);
                }
            }
        }
        Ok(calls.iter().zip(made).map(|(call, made)| result(bench, call, made)).collect())
    }
}

fn spec(tool: &Tool) -> ToolSpec {
    ToolSpec {
        name: tool.name.to_owned(),
        description: tool.says.to_owned(),
        schema: schema(tool.fields),
    }
}

fn result(bench: &Bench, call: &ToolCall, made: Made) -> ToolResult {
    let failed = made.is_err();
    let mut parts = made.unwrap_or_else(words);
    for part in &mut parts {
        let Part::Text { text } = part else { continue };
        *text = bench.masked(std::mem::take(text));
        if text.len() > TEXT_MAX {
            let fits = (0..=TEXT_MAX).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(fits.unwrap_or(0));
            text.push_str("\n[… the rest is left out …]");
        }
    }
    ToolResult { call: call.id.clone(), parts, failed }
}

/// A result that is words alone.
fn words(text: impl Into<String>) -> Vec<Part> {
    vec![Part::text(text)]
}

#[cfg(test)]
#[path = "tools_tests.rs"]
mod tests;
