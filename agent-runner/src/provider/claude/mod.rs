//! `claude`: has Claude Code answer, the vendor's program, which lives as long as the runner and is told
//! messages as they come. `docs/providers.md` says what people may expect of it.
//!
//! Its conversation lies in the session's own folder (`kept`), so that another process goes on with it. Each
//! turn's message has an id that follows from the messages and the attempt: what was answered before the
//! runner died is found in the transcript and not asked again. Requests go to the session's way to models
//! (`line`), and what it says is read in `said`.

mod course;
mod kept;
mod line;
mod permission;
mod said;
mod system;
mod transcript;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use twobox_shared::agent_config::{AgentConfig, Claude as Settings};
use twobox_shared::content::{Failure, shorten};
use twobox_shared::ids::{IdSource, MessageId, SystemIds};

use self::course::{Course, Deed, Spans, reply};
use self::kept::{Kept, begun_by, message_id};
use self::line::{LEADS_AWAY, Start, Way};
use self::permission::{DENIED, Verdict, allow, deny, verdict};
use super::desk::{Desk, Launch};
use super::model::{BEGUN_ANEW, SLACK, again, behind, is_new};
use super::people::Undecided;
use super::resident::{Complaints, Output, Resident};
use super::way_out::{self, WayOut};
use super::{Done, Prompt, PromptMessage, Provider, Push, TurnHandle, cancelled};
use crate::args::{Folders, Options};
use crate::event::Said;
use crate::say::say;
use crate::turn::fits_system;

/// The longest line that is read, in bytes. A picture that a tool reads stands in one.
const LINE_MAX: usize = 16 << 20;

/// How long it may take to leave when it is asked to; it takes a fifth of a second.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);

/// The program in the folder that the host gives.
const PROGRAM: &str = "claude";

/// How it says that a conversation cannot be gone on with, or not be begun.
const NO_CONVERSATION: [&str; 2] = ["No conversation found", "is already in use"];

/// An agent whose turns Claude Code answers.
pub(crate) struct Claude {
    settings: Settings,
    /// None if the host has given no way to its model.
    way: Option<Way>,
    options: Options,
    /// Where it uses the host's tools, while it runs.
    desk: Option<Desk>,
    /// Where it works.
    work: PathBuf,
    temp: Option<PathBuf>,
    /// Where the files of messages are.
    inbox: PathBuf,
    turn_timeout: Duration,
    tool_timeout: Duration,
    kept: Kept,
    resident: Resident,
    /// The ids of the messages that the process which runs was told.
    told: BTreeSet<String>,
    way_out: Option<WayOut>,
}

/// What it wants to know in a turn, and nobody has said so far: whether a tool may be used, by its question's id
/// and with what the tool is given.
type Asked = Undecided<(String, Value)>;

impl Claude {
    /// One that has answered nothing yet.
    pub(crate) fn new(
        settings: &Settings,
        config: &AgentConfig,
        options: &Options,
        way_out: Option<WayOut>,
    ) -> Self {
        let work = options.folders.work.as_deref().unwrap_or(options.paths.out_dir());
        let socket = options.paths.gateway_socket();
        Self {
            settings: settings.clone(),
            way: config.gateway.as_ref().and_then(|gateway| Way::of(gateway, socket)),
            options: options.clone(),
            desk: None,
            work: work.to_owned(),
            temp: options.temp(),
            inbox: options.paths.inbox_files(),
            turn_timeout: config.turn_timeout(),
            tool_timeout: config.tool_timeout(),
            kept: Kept::of(work),
            resident: Resident::new(LINE_MAX, Complaints::Kept),
            told: BTreeSet::new(),
            way_out,
        }
    }

    /// Sees to it that it runs, for the conversation that goes on.
    fn start(&mut self, handle: &TurnHandle) -> Result<(), Failure> {
        let broken = |detail: &str| Failure::permanent(Failure::AGENT_BROKEN, detail);
        let was_started = self.resident.was_started();
        if self.resident.is_running(handle) {
            return Ok(());
        }
        if was_started {
            say!("Claude Code ended between two turns and is started again");
        }
        if self.way.is_none() {
            let detail = "the host has given no way to a model that speaks Anthropic's Messages";
            return Err(broken(detail));
        }
        let cli = self.options.folders.cli.clone().ok_or_else(|| {
            broken("the host has given no Claude Code: it is older than this runner")
        })?;
        let conversation = self.kept.conversation(SystemIds.uuid()).map_err(unkept)?;
        let tools = self.tools(handle);
        let way = self.way.as_ref().expect("it was looked at above");
        let mut command = Command::new(cli.join(PROGRAM));
        let folders = &self.options.folders;
        let system = system::text(folders, &self.work, self.way_out.is_some());
        fits_system(&system)?;
        let start = Start {
            system: &system,
            conversation,
            tools: tools.as_ref(),
            program: &folders.program,
            tool_timeout: self.tool_timeout,
        };
        let arguments = line::arguments(&self.settings, &start).map_err(|error| {
            let detail = format!("this program does not know where it is: {error}");
            Failure::retryable(Failure::PROVIDER_ERROR, detail)
        })?;
        let Folders { program, work, agent, .. } = folders;
        command
            .args(arguments)
            .current_dir(&self.work)
            .env("TWOBOX_PROGRAM", program)
            .env("HOME", &self.work);
        for name in LEADS_AWAY.into_iter().chain(["TWOBOX_AGENT"]) {
            command.env_remove(name);
        }
        let named = [("TWOBOX_WORK", work), ("TWOBOX_AGENT", agent)];
        command.envs(named.into_iter().filter_map(|(name, folder)| Some((name, folder.as_ref()?))));
        let (kept, temp) = (self.kept.folder(), self.temp.as_deref());
        let spans = (self.turn_timeout, self.tool_timeout);
        command.envs(line::environment(&self.settings, way, kept, temp, spans));
        way_out::tell(self.way_out.as_ref(), &mut command);
        self.told.clear();
        self.resident.start(command, handle)
    }

    /// How it is to start the server that has the host's tools, for which a desk is opened.
    fn tools(&mut self, handle: &TurnHandle) -> Option<Launch> {
        let opened = match self.desk.take() {
            Some(desk) => Ok(desk),
            None => Desk::open(handle, &self.options, &self.settings.tools),
        };
        let launch = opened.and_then(|desk| self.desk.insert(desk).launch());
        launch.map_err(|error| say!("Claude Code has none of the host's tools: {error}")).ok()
    }

    fn tell(&mut self, id: String, text: String, course: &mut Course) {
        let message = json!({"role": "user", "content": text});
        self.resident.tell(&json!({"type": "user", "uuid": id, "message": message}));
        self.told.insert(id.clone());
        course.told(id);
    }

    /// Follows the program until all that it was told is answered. The flag says whether it may live on.
    fn follow(&mut self, mut course: Course, handle: &TurnHandle) -> (Result<Done, Failure>, bool) {
        let (mut asked, mut aside) = (Asked::default(), Vec::new());
        while !course.is_over() {
            self.give(&mut aside, &mut course, handle);
            for ((id, input), decision) in asked.decided() {
                let verdict = match decision.ok {
                    true => allow(&input),
                    false => deny(&format!("{} Nothing was done.", decision.text)),
                };
                self.answer(&id, &verdict);
            }
            let next = match asked.patience() {
                Some(patience) => self.resident.next_within(handle, patience),
                None => self.resident.next(handle),
            };
            let output = match next {
                Some(Push::FollowUp(messages)) => {
                    aside.extend(messages);
                    continue;
                }
                Some(Push::Cancel) => return (Err(cancelled()), false),
                Some(Push::Program(_, output)) => output,
                Some(Push::Begin | Push::Model(..) | Push::Notice(_)) | None => continue,
            };
            let heard = match output {
                Output::Line(bytes) => self.hear(&bytes, &mut course, &mut asked, handle),
                Output::TooLong => {
                    say!("Claude Code wrote a line of more than {LINE_MAX} bytes");
                    Ok(())
                }
                Output::Ended => return (Err(self.ended(handle)), false),
            };
            if let Err(failure) = heard {
                // Of several messages, which are given back, one may still be worked on.
                return (Err(failure), course.is_over());
            }
        }
        let continuation = self.kept.conversation(SystemIds.uuid()).ok();
        let continuation = continuation.map(|(id, _)| format!("claude:{id}"));
        (Ok(Done { continuation, silent: course.is_silent() }), true)
    }

    /// Tells it what has come meanwhile, `aside`, while one of its tools runs: it stands beside the result then.
    /// While it speaks it would answer that behind what it says, and this answer would wait for the other, or go
    /// with it. What it is not told is the next turn's, as is what begins a new conversation, with all behind that.
    fn give(&mut self, aside: &mut Vec<PromptMessage>, course: &mut Course, handle: &TurnHandle) {
        let until = aside.iter().position(is_new).unwrap_or(aside.len());
        if until == 0 || !course.takes_more() {
            return;
        }
        let messages: Vec<PromptMessage> = aside.drain(..until).collect();
        let ids: Vec<MessageId> = messages.iter().map(|message| message.id.clone()).collect();
        let id = message_id(ids.iter(), 0);
        if !self.told.contains(&id) {
            handle.say(Said::Used(ids));
            self.tell(id, system::messages(&messages, &self.inbox), course);
        }
    }

    /// Takes in a line, and does what follows from it.
    fn hear(
        &mut self,
        bytes: &[u8],
        course: &mut Course,
        asked: &mut Asked,
        handle: &TurnHandle,
    ) -> Result<(), Failure> {
        let line = match said::read(bytes) {
            Ok(line) => line,
            Err(unreadable) if unreadable.ends => {
                let why = unreadable.why;
                let detail =
                    format!("Claude Code ended its turn in words that cannot be read: {why}");
                return Err(Failure::retryable(Failure::PROVIDER_ERROR, detail));
            }
            Err(unreadable) => {
                let line = shorten(String::from_utf8_lossy(bytes).trim(), 200);
                let why = unreadable.why;
                say!("Claude Code wrote a line that is passed over: {why}: {line}");
                return Ok(());
            }
        };
        for deed in course.hear(line, handle.said_nothing())? {
            match deed {
                Deed::Say(said) => handle.say(said),
                Deed::Permit { id, request } => match verdict(&self.settings.tools, &request) {
                    Verdict::Allow => self.answer(&id, &allow(&request["input"])),
                    Verdict::Deny => self.answer(&id, &deny(DENIED)),
                    Verdict::Ask(asking) => {
                        asked.ask(asking, (id, request["input"].clone()), handle);
                    }
                },
                Deed::Refuse(id) => {
                    let response =
                        json!({"subtype": "error", "request_id": id, "error": "not known here"});
                    self.resident.tell(&json!({"type": "control_response", "response": response}));
                }
                Deed::Withdraw(id) => asked.withdraw(|(of, _)| *of == id),
                Deed::Complain(what) => say!("{what}"),
                Deed::Recall(id) => {
                    let detail = "an earlier attempt at this had ended without an answer";
                    let none = || Failure::retryable(Failure::PROVIDER_ERROR, detail);
                    handle.say(reply(&self.kept.answer_to(&id).ok_or_else(none)?)?);
                }
            }
        }
        Ok(())
    }

    /// Answers a question.
    fn answer(&mut self, id: &str, verdict: &Value) {
        let response = json!({"subtype": "success", "request_id": id, "response": verdict});
        self.resident.tell(&json!({"type": "control_response", "response": response}));
    }

    /// Why it has ended in the middle of a turn.
    fn ended(&mut self, handle: &TurnHandle) -> Failure {
        self.resident.wait(LEAVE_PATIENCE);
        let complaints = self.resident.complaints();
        let status = self.resident.stop(handle, Duration::ZERO);
        if NO_CONVERSATION.iter().any(|words| complaints.contains(words)) {
            say!("the conversation so far is lost: {complaints}");
            self.kept.set_aside(); // another attempt at a `/new` begins one of the same name
            if let Err(error) = self.kept.begin(SystemIds.uuid()) {
                return unkept(error);
            }
        }
        let how = status.map_or("closed its output".to_owned(), |it| it.to_string());
        let why = match complaints.is_empty() {
            true => String::new(),
            false => format!(": {}", shorten(&complaints, 600)),
        };
        let detail = format!("Claude Code ended before its turn did ({how}){why}");
        Failure::retryable(Failure::PROVIDER_ERROR, detail)
    }

    /// What an earlier attempt at the same messages has answered, without anybody having heard of it.
    fn answered(&mut self, ids: &[&MessageId], attempt: i64) -> Option<String> {
        let attempts = (0..=attempt).rev().take(EARLIER_MAX);
        let mut names = attempts.map(|it| message_id(ids.iter().copied(), it));
        names.find_map(|id| self.kept.answer_to(&id))
    }

    /// Begins a new conversation, and says so to whoever wants it. Another attempt at the same finds it again, and
    /// what was answered in it.
    fn begin_anew(&mut self, asked: &PromptMessage, handle: &TurnHandle) -> Result<(), Failure> {
        self.resident.terminate(handle, LEAVE_PATIENCE);
        self.kept.begin(begun_by(&asked.id)).map_err(unkept)?;
        let text = BEGUN_ANEW.to_owned();
        handle.say(Said::Reply { text, files: Vec::new(), answers: Some(asked.id.clone()) });
        Ok(())
    }
}

/// How many earlier attempts are looked for.
const EARLIER_MAX: usize = 8;

impl Provider for Claude {
    fn turn(&mut self, prompt: &Prompt, handle: &TurnHandle) -> Result<Done, Failure> {
        let rest = match prompt.messages.iter().rposition(is_new) {
            None => None,
            Some(at) => {
                self.begin_anew(&prompt.messages[at], handle)?;
                Some(behind(prompt, at))
            }
        };
        let prompt = rest.as_ref().unwrap_or(prompt);
        let triggers = prompt.messages.iter().filter(|message| message.trigger);
        let ids: Vec<&MessageId> = triggers.map(|message| &message.id).collect();
        if ids.is_empty() {
            return Ok(Done::default()); // all of it was a new beginning
        }
        // Only one that was tried, or given back, can be there already.
        if let Some(text) = self.answered(&ids, prompt.attempt) {
            handle.say(reply(&text)?);
            return Ok(Done { continuation: prompt.continuation.clone(), silent: false });
        }
        let id = message_id(ids.iter().copied(), prompt.attempt);
        if self.told.contains(&id) {
            self.resident.terminate(handle, LEAVE_PATIENCE); // or it would not say a word
        }
        self.start(handle)?;
        let mut text = system::messages(&prompt.messages, &self.inbox);
        if let Some(again) = again(prompt, &[]) {
            text = format!("{text}\n{again}");
        }
        let spans = Spans { turn: self.turn_timeout, tool: self.tool_timeout + SLACK };
        let required = self.settings.mcp.iter().filter(|(_, server)| server.required);
        let required = required.map(|(name, _)| name.to_owned()).collect();
        let mut course = Course::new(self.settings.model.upstream(), spans, required);
        self.tell(id, text, &mut course);
        let (outcome, healthy) = self.follow(course, handle);
        if !healthy {
            self.resident.stop(handle, Duration::ZERO);
        }
        outcome
    }

    fn leave(&mut self, handle: &TurnHandle) {
        self.resident.terminate(handle, LEAVE_PATIENCE);
    }
}

fn unkept(error: std::io::Error) -> Failure {
    let detail = format!("the conversation could not be kept in the session's folder: {error}");
    Failure::retryable(Failure::PROVIDER_ERROR, detail)
}
