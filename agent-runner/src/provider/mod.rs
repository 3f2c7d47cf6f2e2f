//! Who answers a turn.
//!
//! A provider runs in a thread of its own and cannot touch the boxes: it is given a [`Prompt`],
//! speaks through its [`TurnHandle`], and returns how the turn ended. Deadlines, budgets, claims and
//! commits are the main thread's business, which holds the [`Reins`].

mod claude;
mod codex;
mod command;
mod current;
mod desk;
mod echo;
mod model;
mod people;
mod resident;
mod scripted;
mod way_out;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Serialize;
use twobox_shared::agent_config::{AgentConfig, Provider as Kind};
use twobox_shared::content::{About, Chat, Failure};
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{InboundMessage, Origin};

use self::current::Current;
use self::way_out::WayOut;
use crate::args::Options;
use crate::event::{Event, Said, TurnNumber};
use crate::say::say;

/// The failure reason by which a provider says that the continuation is dead or poisoned.
pub(crate) const BAD_CONTINUATION: &str = "bad_continuation";

/// A message as a provider sees it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PromptMessage {
    pub(crate) id: MessageId,
    pub(crate) seq: i64,
    pub(crate) kind: String,
    pub(crate) timestamp: String,
    pub(crate) trigger: bool,
    /// The channel that it came by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) channel: Option<String>,
    /// The chat there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chat: Option<String>,
    /// The thread in that chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thread: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sender: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) about: Option<About>,
    pub(crate) text: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) files: Vec<String>,
}

impl From<&InboundMessage> for PromptMessage {
    fn from(message: &InboundMessage) -> Self {
        let Chat { text, sender, about, files, answers: _ } = Chat::from_content(&message.content);
        let Origin { channel_type, platform_id, thread_id } = message.origin.clone();
        Self {
            channel: channel_type,
            chat: platform_id,
            thread: thread_id,
            id: message.id.clone(),
            seq: message.seq.0,
            kind: message.kind.clone(),
            timestamp: message.timestamp.to_rfc3339(),
            trigger: message.trigger,
            sender,
            about,
            text,
            files,
        }
    }
}

/// What a turn is about.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Prompt {
    /// How often the message was tried before.
    pub(crate) attempt: i64,
    /// Triggers and context, oldest first.
    pub(crate) messages: Vec<PromptMessage>,
    /// What earlier attempts have sent, so that it is not said twice.
    pub(crate) already_sent: Vec<String>,
    /// What the last turn left to be found again.
    pub(crate) continuation: Option<String>,
    /// The names that `send` knows.
    pub(crate) destinations: Vec<String>,
    /// Model turns that this turn may take.
    pub(crate) max_turns: u32,
}

/// How a turn ended well.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// To be found again by the next turn.
    pub(crate) continuation: Option<String>,
    /// Whether saying nothing is meant.
    pub(crate) silent: bool,
}

/// Something that answers turns.
pub(crate) trait Provider: Send {
    /// Answers one turn. Must return soon after [`Push::Cancel`].
    fn turn(&mut self, prompt: &Prompt, handle: &TurnHandle) -> Result<Done, Failure>;

    /// Ends whatever lives longer than a turn.
    fn leave(&mut self, _turn: &TurnHandle) {}
}

/// What reaches a provider in the middle of a turn.
#[derive(Debug)]
pub(crate) enum Push {
    /// A turn begins: what was pushed before this was meant for another.
    Begin,
    /// More messages for this turn, which it may use.
    FollowUp(Vec<PromptMessage>),
    /// Something that was said could not be done.
    Notice(String),
    /// Stop now; nothing that is said from here on counts.
    Cancel,
    /// A line of the program with this number, for providers that have one.
    Program(u64, resident::Output),
    /// What came of the request with this number, for the model provider.
    Model(u64, model::Heard),
}

/// The provider's side of the two channels to the main thread.
pub(crate) struct TurnHandle {
    events: Sender<Event>,
    pushes: Receiver<Push>,
    push: Sender<Push>,
    group: Arc<Mutex<Option<Pid>>>,
    /// Other process groups that live longer than a turn.
    kept: Arc<Mutex<Vec<Pid>>>,
    current: Arc<Current>,
}

impl TurnHandle {
    /// Says something about the running turn.
    pub(crate) fn say(&self, said: Said) {
        drop(self.events.send(Event::Said(said))); // nobody listens: the process is leaving
    }

    /// Says something for a tool and returns where to hear what became of it: nothing, if the turn is over.
    fn ask(&self, said: Said) -> Receiver<Result<(), String>> {
        current::ask(&self.events, self.current.number().unwrap_or_default(), said)
    }

    /// Whether the agent has said by a tool that it means to say nothing.
    fn said_nothing(&self) -> bool {
        self.current.said_nothing()
    }

    /// Passes over what was meant for the turn before. What is pushed for this one may be there already, and
    /// stays.
    fn begin(&self) {
        while !matches!(self.pushes.recv(), Ok(Push::Begin) | Err(_)) {}
    }

    /// The next push, or `None` when `patience` is over.
    pub(crate) fn next(&self, patience: Duration) -> Option<Push> {
        match self.pushes.recv_timeout(patience) {
            Ok(push) => Some(push),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Push::Cancel),
        }
    }

    /// Waits for `span`; what is pushed meanwhile is kept in `follow_ups`.
    ///
    /// # Errors
    /// When the turn was cancelled.
    pub(crate) fn sleep(
        &self,
        span: Duration,
        follow_ups: &mut Vec<PromptMessage>,
    ) -> Result<(), Failure> {
        let start = Instant::now();
        while let Some(push) = self.next(span.saturating_sub(start.elapsed())) {
            match push {
                Push::FollowUp(messages) => follow_ups.extend(messages),
                Push::Cancel => return Err(cancelled()),
                Push::Begin | Push::Notice(_) | Push::Program(..) | Push::Model(..) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
impl TurnHandle {
    /// A handle with nothing behind it, who may push into it, and what is said through it.
    pub(crate) fn apart() -> (Self, Reins, Receiver<Event>) {
        let (events, said) = mpsc::channel();
        let (push, pushes) = mpsc::channel();
        let group = Arc::new(Mutex::new(None));
        let reins = Reins { push: push.clone(), group: Arc::clone(&group), gentle: false };
        let current = Arc::new(Current::default());
        current.begin(TurnNumber(1), &[]);
        let kept = Arc::default();
        (Self { events, pushes, push, group, kept, current }, reins, said)
    }
}

/// How a cancelled turn ends. Nobody reads it: whoever cancels knows why.
pub(crate) fn cancelled() -> Failure {
    Failure::retryable(Failure::RELEASED, "cancelled")
}

/// The main thread's side.
#[derive(Clone)]
pub(crate) struct Reins {
    push: Sender<Push>,
    group: Arc<Mutex<Option<Pid>>>,
    /// Whether the program of a turn that is stopped is its provider's to stop.
    gentle: bool,
}

impl Reins {
    /// Hands something to the provider; one that has ended its turn never sees it.
    pub(crate) fn push(&self, push: Push) {
        drop(self.push.send(push)); // the provider panicked; its end was reported
    }

    /// Stops the turn: the provider is told, and its program killed, if that is not to outlive a turn that
    /// is stopped.
    pub(crate) fn cancel(&self) {
        self.push(Push::Cancel);
        if !self.gentle {
            self.kill();
        }
    }

    /// Kills the provider's program with everything that it started.
    pub(crate) fn kill(&self) {
        kill_group(&self.group);
    }
}

/// Kills the process group in `slot`. Its leader is reaped only after the slot was emptied, so the
/// number cannot belong to anybody else.
fn kill_group(slot: &Mutex<Option<Pid>>) {
    if let Some(group) = *slot.lock().unwrap_or_else(PoisonError::into_inner)
        && let Err(errno) = killpg(group, Signal::SIGKILL)
        && errno != Errno::ESRCH
    {
        say!("could not kill process group {group}: {errno}");
    }
}

/// A provider with its handle, in a thread that lives as long as it: a program that the provider starts
/// is killed by the kernel when the thread that started it ends.
pub(crate) struct Worker {
    config: AgentConfig,
    jobs: Sender<(TurnNumber, Prompt)>,
    reins: Reins,
    kept: Arc<Mutex<Vec<Pid>>>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Seats the provider that `config` names.
    ///
    /// # Errors
    /// If there is no room for another thread.
    pub(crate) fn new(
        config: &AgentConfig,
        options: &Options,
        events: Sender<Event>,
    ) -> std::io::Result<Self> {
        let way_out = || WayOut::open(config, options);
        let mut provider: Box<dyn Provider> = match &config.provider {
            Kind::Echo => Box::new(echo::Echo),
            Kind::Scripted => Box::new(scripted::Scripted::new(&options.folders.program)),
            Kind::Command { command, lifetime } => {
                Box::new(command::Program::new(command.clone(), *lifetime, options, way_out()))
            }
            Kind::Model(settings) => {
                Box::new(model::Model::new(settings, config, options, way_out()))
            }
            Kind::Claude(settings) => {
                Box::new(claude::Claude::new(settings, config, options, way_out()))
            }
            Kind::Codex(settings) => {
                Box::new(codex::Codex::new(settings, config, options, way_out()))
            }
        };
        let (push, pushes) = mpsc::channel();
        let group = Arc::new(Mutex::new(None));
        let gentle = matches!(config.provider, Kind::Codex(_));
        let reins = Reins { push: push.clone(), group: Arc::clone(&group), gentle };
        let kept = Arc::new(Mutex::new(Vec::new()));
        let current = Arc::default();
        let handle = TurnHandle { events, pushes, push, group, kept: Arc::clone(&kept), current };
        let (jobs, prompts) = mpsc::channel::<(TurnNumber, Prompt)>();
        let work = move || {
            for (number, prompt) in prompts {
                handle.begin();
                handle.current.begin(number, &prompt.destinations);
                if !answer(provider.as_mut(), &prompt, &handle) {
                    return;
                }
            }
            provider.leave(&handle);
        };
        let thread = std::thread::Builder::new().name("provider".to_owned()).spawn(work)?;
        Ok(Self { config: config.clone(), jobs, reins, kept, thread })
    }

    /// Whether this worker was made for `config` and is still there.
    pub(crate) fn serves(&self, config: &AgentConfig) -> bool {
        self.config == *config && !self.thread.is_finished()
    }

    /// The process groups of its programs that live on between turns.
    pub(crate) fn groups(&self) -> Vec<Pid> {
        let mut groups = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        groups.extend(*self.reins.group.lock().unwrap_or_else(PoisonError::into_inner));
        groups
    }

    /// Lets the provider answer one turn, whose end is reported as an event.
    ///
    /// # Errors
    /// If the provider has gone.
    pub(crate) fn start(&self, number: TurnNumber, prompt: Prompt) -> Result<Reins, Gone> {
        self.reins.push(Push::Begin);
        self.jobs.send((number, prompt)).map(|()| self.reins.clone()).map_err(|_| Gone)
    }

    /// Ends a provider that has no turn, and waits until its program is gone.
    pub(crate) fn dismiss(self) {
        drop(self.jobs);
        drop(self.thread.join()); // a panic was reported where it happened
    }

    /// Ends a provider that may be in the middle of anything.
    pub(crate) fn abandon(self) {
        self.reins.kill();
    }
}

/// The provider's thread has ended.
#[derive(Debug)]
pub(crate) struct Gone;

/// Answers one turn and reports its end. Returns whether the provider is still of use.
fn answer(provider: &mut dyn Provider, prompt: &Prompt, handle: &TurnHandle) -> bool {
    let answered = catch_unwind(AssertUnwindSafe(|| provider.turn(prompt, handle)));
    handle.current.end();
    let sane = answered.is_ok();
    let outcome = answered.unwrap_or_else(|_| {
        kill_group(&handle.group);
        let detail = "the provider panicked; standard error says where";
        Err(Failure::retryable(Failure::PROVIDER_ERROR, detail))
    });
    drop(handle.events.send(Event::Ended(outcome))); // nobody listens: the process is leaving
    sane
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_is_cancelled_before_it_has_begun_hears_of_it() {
        let (handle, reins, _said) = TurnHandle::apart();
        reins.push(Push::Notice("for the turn before".to_owned()));
        reins.push(Push::Begin);
        reins.push(Push::Cancel);
        handle.begin();
        assert!(matches!(handle.next(Duration::ZERO), Some(Push::Cancel)));
        assert!(handle.next(Duration::ZERO).is_none());
    }
}
