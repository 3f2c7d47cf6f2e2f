//! `model`: has a model answer, by the way that the host gives, in a loop with tools.
//!
//! The conversation lies in a transcript in its own folder (`transcript`), and what is sent to a model
//! begins with the same bytes from turn to turn. A turn (`turn`) asks by the `client`, which knows the
//! `api` of each model; what it says to people goes through the [`TurnHandle`], as with every provider.

mod api;
mod asking;
mod client;
mod compaction;
mod conversation;
mod kept;
pub(crate) mod lent;
mod messages;
pub(super) mod plain;
pub(super) mod prompt;
mod repetition;
mod room;
mod servers;
mod shown;
pub(super) mod skills;
mod tools;
mod transcript;
mod turn;

pub(crate) use client::Heard;
pub(super) use conversation::ToolSpec;
pub(super) use messages::{again, header, is_new, unbracketed};
pub(super) use tools::{OVER, SLACK, Speaks, host as host_tools};

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use twobox_shared::agent_config::{AgentConfig, Model as Settings};
use twobox_shared::content::Failure;
use twobox_shared::ids::SystemIds;

use self::client::Aside;
use self::client::Client;
use self::kept::Kept;
use self::messages::Files;
use self::servers::Servers;
use self::tools::{Bench, Foreign, Toolbox};
use self::transcript::{Continuation, Transcript, Unusable};
use self::turn::Talk;
use super::way_out::WayOut;
use super::{BAD_CONTINUATION, Done, Prompt, PromptMessage, Provider, TurnHandle};
use crate::args::{Folders, Options};
use crate::event::Said;
use crate::say::say;
use crate::turn::fits_system;

/// What is answered to the message that begins a new conversation.
pub(super) const BEGUN_ANEW: &str =
    "A new conversation begins here: what was said before is set aside. My files are as they were.";

/// An agent whose turns a model answers.
pub(crate) struct Model {
    settings: Settings,
    /// None if the host has given no way to any model.
    client: Option<Client>,
    folders: Folders,
    /// Where the conversation works and is kept.
    work: PathBuf,
    halves: [PathBuf; 2],
    /// By which the host knows the session; empty if there is no gateway.
    key: String,
    temp: Option<PathBuf>,
    way_out: Option<Arc<WayOut>>,
    /// The host's socket, if it fetches pages of the network.
    fetches: Option<PathBuf>,
    /// Where the files of messages are.
    inbox: PathBuf,
    turn_timeout: Duration,
    tool_timeout: Duration,
    /// Whose tools it has besides.
    servers: Servers,
    /// As the last turn left it.
    transcript: Option<Transcript>,
}

impl Model {
    /// One that has answered nothing yet.
    pub(crate) fn new(
        settings: &Settings,
        config: &AgentConfig,
        options: &Options,
        way_out: Option<WayOut>,
    ) -> Self {
        let way = config.gateway.as_ref().filter(|way| !way.routes.is_empty());
        let socket = options.paths.gateway_socket();
        let temp = options.temp();
        // A host that knows of no workspace has the folder of the outbox.
        let work = options.folders.work.as_deref().unwrap_or(options.paths.out_dir());
        let environment = [
            ("HOME", Some(work)),
            ("TWOBOX_WORK", Some(work)),
            ("TWOBOX_PROGRAM", Some(&*options.folders.program)),
            ("TWOBOX_AGENT", options.folders.agent.as_deref()),
            ("TMPDIR", temp.as_deref()),
        ];
        let environment =
            environment.into_iter().filter_map(|(name, folder)| Some((name, folder?.to_owned())));
        let program = options.folders.program.clone();
        Self {
            servers: Servers::new(
                &settings.mcp,
                config.gateway.as_ref(),
                &socket,
                program,
                environment.collect(),
            ),
            settings: settings.clone(),
            client: way.map(|way| Client::new(way, socket)),
            folders: options.folders.clone(),
            work: work.to_owned(),
            halves: [options.paths.in_dir().to_owned(), options.paths.out_dir().to_owned()],
            key: way.map(|way| way.key.clone()).unwrap_or_default(),
            temp,
            way_out: way_out.map(Arc::new),
            fetches: way.filter(|way| way.egress).map(|_| options.paths.gateway_socket()),
            inbox: options.paths.inbox_files(),
            turn_timeout: config.turn_timeout(),
            tool_timeout: config.tool_timeout(),
            transcript: None,
        }
    }

    fn bench(&self, prompt: &Prompt, handle: &TurnHandle, shows_pictures: bool) -> Bench {
        Bench {
            work: self.work.clone(),
            program: self.folders.program.clone(),
            agent: self.folders.agent.clone(),
            halves: self.halves.clone(),
            key: self.key.clone(),
            temp: self.temp.clone(),
            way_out: self.way_out.clone(),
            fetches: self.fetches.clone(),
            shell: tools::shell(),
            most: self.tool_timeout,
            kept: Kept::of(&self.work),
            skills: skills::found(&self.folders.program),
            destinations: prompt.destinations.clone(),
            foreign: Foreign { names: self.servers.names(), ready: Vec::new() },
            shows_pictures,
            cancelled: AtomicBool::new(false),
            group: Arc::clone(&handle.group),
        }
    }
}

impl Provider for Model {
    fn turn(&mut self, prompt: &Prompt, handle: &TurnHandle) -> Result<Done, Failure> {
        let deadline = Instant::now() + self.turn_timeout;
        let Some(route) = self.client.as_ref().map(Client::route) else {
            let detail = "the host has given no way to a model: its settings have none, or it is older \
                          than this runner";
            return Err(Failure::permanent(Failure::AGENT_BROKEN, detail));
        };
        let (shows_pictures, room) = (route.images, room::of_one(route.context_tokens));
        let mut bench = self.bench(prompt, handle, shows_pictures);
        let mut aside = Aside::default();
        bench.foreign.ready = self.servers.ready(handle, &mut aside)?;
        let toolbox = Toolbox::of(&bench, &self.settings.tools).map_err(|wrong| {
            Failure::permanent(Failure::AGENT_BROKEN, format!("provider.tools: {wrong}"))
        })?;
        let folder = bench.kept.folder("").map_err(unkept)?;
        let newest = prompt.messages.iter().rfind(|message| message.trigger);
        let earlier = match (prompt.attempt, newest) {
            (1.., Some(newest)) => transcript::earlier(&folder, newest.id.as_str()),
            _ => Vec::new(),
        };
        let (mut transcript, behind) = match prompt.messages.iter().rposition(is_new) {
            None => (opened(self.transcript.take(), &folder, prompt)?, None),
            Some(at) => {
                (begun_anew(&folder, &prompt.messages[at], handle)?, Some(behind(prompt, at)))
            }
        };
        let prompt = behind.as_ref().unwrap_or(prompt);
        if behind.is_some() && !prompt.messages.iter().any(|message| message.trigger) {
            let continuation = Some(transcript.commit().map_err(unkept)?);
            self.transcript = Some(transcript);
            return Ok(Done { continuation, silent: false });
        }
        bench.kept.prune(transcript.items());
        let instructions = prompt::instructions(&self.folders.program);
        let system = prompt::system(&prompt::Known {
            instructions: instructions.as_deref(),
            skills: &bench.skills,
            folders: &self.folders,
            work: &self.work,
            destinations: &prompt.destinations,
            shell: bench.shell.is_some(),
            reaches: bench.way_out.is_some(),
        });
        fits_system(&system)?;
        let talk = Talk {
            asks: self.client.as_mut().expect("it was looked at above"),
            handle,
            prompt,
            files: Files { inbox: &self.inbox, kept: &bench.kept, room, shown: Cell::default() },
            bench: &bench,
            toolbox: &toolbox,
            system: &system,
            transcript: &mut transcript,
            deadline,
            max_output_tokens: self.settings.max_output_tokens.unwrap_or(u32::MAX),
            aside,
        };
        let done = talk.run(&earlier);
        self.transcript = Some(transcript);
        done
    }
}

/// Answers `asked`, and it alone, that a new conversation begins, and begins it.
fn begun_anew(
    folder: &Path,
    asked: &PromptMessage,
    handle: &TurnHandle,
) -> Result<Transcript, Failure> {
    let transcript = Transcript::begin(folder, &SystemIds).map_err(unkept)?;
    let text = BEGUN_ANEW.to_owned();
    handle.say(Said::Reply { text, files: Vec::new(), answers: Some(asked.id.clone()) });
    Ok(transcript)
}

/// What is left of `prompt` for a conversation that its message `at` begins.
pub(super) fn behind(prompt: &Prompt, at: usize) -> Prompt {
    Prompt { messages: prompt.messages[at + 1..].to_vec(), continuation: None, ..prompt.clone() }
}

/// The transcript that the prompt's continuation names: the one `at_hand`, if it is that, or from the
/// file. Without a continuation an empty one.
fn opened(
    at_hand: Option<Transcript>,
    folder: &Path,
    prompt: &Prompt,
) -> Result<Transcript, Failure> {
    let bad = |detail: String| Failure::retryable(BAD_CONTINUATION, detail);
    let Some(text) = &prompt.continuation else {
        return Transcript::begin(folder, &SystemIds).map_err(unkept);
    };
    // That of another provider, perhaps: the agent was given another one.
    let named = Continuation::parse(text)
        .ok_or_else(|| bad("the conversation before was not had with a model".to_owned()))?;
    if let Some(transcript) = at_hand.filter(|it| it.is_at(named)) {
        return Ok(transcript);
    }
    Transcript::resume(folder, named).map_err(|unusable| match unusable {
        Unusable::Broken(why) => {
            say!("the conversation so far is lost: {why}");
            bad(why)
        }
        Unusable::Trouble(error) => unkept(error),
    })
}

fn unkept(error: std::io::Error) -> Failure {
    let detail = format!("the conversation could not be kept in the session's folder: {error}");
    Failure::retryable(Failure::PROVIDER_ERROR, detail)
}
