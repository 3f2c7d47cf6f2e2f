//! `claude`: has Claude Code answer, the vendor's program, which lives as long as the runner and is told
//! messages as they come. `docs/providers.md` says what people may expect of it.
//!
//! Its conversation lies in the session's own folder (`kept`), so that another process goes on with it. Each
//! turn's message has an id that follows from the messages and the attempt: what was answered before the
//! runner died is found in the transcript and not asked again. Requests go to the session's way to models
//! (`line`), and what it says is read in `said`.

mod kept;
mod line;
mod said;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use twobox_shared::agent_config::{AgentConfig, Claude as Settings, Permission};
use twobox_shared::content::{Failure, shorten};
use twobox_shared::ids::{IdSource, MessageId, SystemIds};
use twobox_shared::visible;

use self::kept::{Kept, begun_by, message_id};
use self::line::{LEADS_AWAY, PREFIX, Way};
use self::said::{Ended, Line, verdict};
use super::desk::{Desk, Launch};
use super::model::{BEGUN_ANEW, SLACK, again, behind, header, is_new, prompt, skills, unbracketed};
use super::resident::{Complaints, Output, Resident};
use super::{Done, Prompt, PromptMessage, Provider, Push, TurnHandle, cancelled};
use crate::args::{Folders, Options};
use crate::event::Said;
use crate::say::say;

/// The longest line that is read, in bytes. A picture that a tool reads stands in one.
const LINE_MAX: usize = 16 << 20;

/// How long it may take to leave when it is asked to; it takes a fifth of a second.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);

/// The program in the folder that the host gives.
const PROGRAM: &str = "claude";

/// Tools that take as long as what they begin, which is bounded by the turn.
const LONG_TOOLS: [&str; 2] = ["Agent", "Task"];

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
}

/// What has happened in a turn so far.
#[derive(Default)]
struct Course {
    /// The ids of the messages that are to be answered, and how far each has come.
    open: BTreeMap<String, Stage>,
    /// The tools that run, by their ids: what each is called, and how long it may take.
    tools: BTreeMap<String, (String, Duration)>,
    /// The answers of models that were heard: pieces of several may come in turns.
    answers: BTreeSet<String>,
    /// Whether something was said to somebody by a tool.
    sent: bool,
    /// Whether saying nothing is meant.
    silent: bool,
}

/// How far a message has come that is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It was told.
    Told,
    /// It is worked on.
    Begun,
    /// It stands in a turn that goes on, beside the result of a tool: the turn's end is about it too.
    Within,
}

impl Course {
    /// What is to be said of the tools once one has begun or ended: the one that may take longest, from now on,
    /// for it may have waited for the others.
    fn at_work(&self) -> Said {
        match self.tools.values().max_by_key(|(_, span)| *span) {
            Some((name, span)) => Said::ToolStarted { name: name.clone(), timeout: Some(*span) },
            None => Said::ToolFinished,
        }
    }
}

impl Claude {
    /// One that has answered nothing yet.
    pub(crate) fn new(settings: &Settings, config: &AgentConfig, options: &Options) -> Self {
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
        let cli = self.options.folders.cli.as_ref().ok_or_else(|| {
            broken("the host has given no Claude Code: it is older than this runner")
        })?;
        let conversation = self.kept.conversation(SystemIds.uuid()).map_err(unkept)?;
        let program = cli.join(PROGRAM);
        let tools = self.tools(handle);
        let way = self.way.as_ref().expect("it was looked at above");
        let mut command = Command::new(program);
        let Folders { program, work, agent, .. } = &self.options.folders;
        command
            .args(line::arguments(&self.settings, &self.system(), conversation, tools.as_ref()))
            .current_dir(&self.work)
            .env("TWOBOX_PROGRAM", program)
            .env("HOME", &self.work);
        for name in LEADS_AWAY.into_iter().chain(["TWOBOX_AGENT"]) {
            command.env_remove(name);
        }
        let named = [("TWOBOX_WORK", work), ("TWOBOX_AGENT", agent)];
        command.envs(named.into_iter().filter_map(|(name, folder)| Some((name, folder.as_ref()?))));
        let (kept, temp) = (self.kept.folder(), self.temp.as_deref());
        command.envs(line::environment(&self.settings, way, kept, temp, self.tool_timeout));
        self.told.clear();
        self.resident.start(command, handle)
    }

    /// How it is to start the server that has the host's tools, for which a desk is opened.
    fn tools(&mut self, handle: &TurnHandle) -> Option<Launch> {
        let denied = self.settings.tools.iter().filter(|(_, may)| **may != Permission::Allow);
        let denied = denied.map(|(name, _)| name.trim_start_matches(PREFIX).to_owned()).collect();
        let opened = match self.desk.take() {
            Some(desk) => Ok(desk),
            None => Desk::open(handle, &self.options, denied),
        };
        let launch = opened.and_then(|desk| self.desk.insert(desk).launch());
        launch.map_err(|error| say!("Claude Code has none of the host's tools: {error}")).ok()
    }

    /// What is said before every conversation, besides what Claude Code says itself.
    fn system(&self) -> String {
        let instructions = prompt::instructions(&self.options.folders.program);
        let mut text = prompt::system(&prompt::Known {
            instructions: None,
            skills: &[],
            folders: &self.options.folders,
            work: &self.work,
            destinations: &[],
            shell: true,
            reaches: false, // nobody has told its programs of a way
        });
        let skills = skills::found(&self.options.folders.program);
        if !skills.is_empty() {
            text.push_str(
                "\nSkills, which say how something is done. Read the file of one before:\n",
            );
        }
        for skill in &skills {
            let about = format!("{}: {}", skill.name, skill.description);
            writeln!(text, "- {} ({})", visible::line(&about), skill.path.display())
                .expect("a String takes everything");
        }
        if let Some(instructions) = instructions {
            write!(text, "\nThe instructions of your definition:\n\n{}\n", instructions.trim())
                .expect("a String takes everything");
        }
        text
    }

    /// `messages` as it is told them.
    fn text(&self, messages: &[PromptMessage]) -> String {
        let mut parts = Vec::new();
        for message in messages {
            parts.push(format!("{}\n{}", header(message), unbracketed(&message.text)));
            let folder = self.inbox.join(message.id.as_str());
            for name in &message.files {
                let path = folder.join(name);
                parts.push(format!(
                    "[a file came with it: {}]",
                    visible::line(&path.to_string_lossy())
                ));
            }
        }
        parts.join("\n")
    }

    fn tell(&mut self, id: String, text: String, course: &mut Course) {
        let message = json!({"role": "user", "content": text});
        self.resident.tell(&json!({"type": "user", "uuid": id, "message": message}));
        self.told.insert(id.clone());
        course.open.insert(id, Stage::Told);
    }

    /// Follows the program until all that it was told is answered. The flag says whether it may live on.
    fn follow(&mut self, mut course: Course, handle: &TurnHandle) -> (Result<Done, Failure>, bool) {
        while !course.open.is_empty() {
            let output = match self.resident.next(handle) {
                Some(Push::FollowUp(messages)) => {
                    self.take_up(&messages, &mut course, handle);
                    continue;
                }
                Some(Push::Cancel) => return (Err(cancelled()), false),
                Some(Push::Program(_, output)) => output,
                Some(Push::Begin | Push::Model(..) | Push::Notice(_)) | None => continue,
            };
            match output {
                Output::Line(bytes) => match said::read(&bytes) {
                    Ok(line) => {
                        if let Err(failure) = self.hear(line, &mut course, handle) {
                            // Of several messages, which are given back, one may still be worked on.
                            return (Err(failure), course.open.is_empty());
                        }
                    }
                    Err(unreadable) if unreadable.ends => {
                        let detail = format!(
                            "Claude Code ended its turn in words that cannot be read: {}",
                            unreadable.why
                        );
                        let failure = Failure::retryable(Failure::PROVIDER_ERROR, detail);
                        return (Err(failure), false);
                    }
                    Err(unreadable) => {
                        let line = shorten(String::from_utf8_lossy(&bytes).trim(), 200);
                        let why = unreadable.why;
                        say!("Claude Code wrote a line that is passed over: {why}: {line}");
                    }
                },
                Output::TooLong => say!("Claude Code wrote a line of more than {LINE_MAX} bytes"),
                Output::Ended => return (Err(self.ended(handle)), false),
            }
        }
        let continuation = self.kept.conversation(SystemIds.uuid()).ok();
        let continuation = continuation.map(|(id, _)| format!("claude:{id}"));
        (Ok(Done { continuation, silent: course.silent }), true)
    }

    /// Tells it what has come meanwhile. What begins a new conversation is left for a turn of its own, with
    /// all that comes after it.
    fn take_up(&mut self, messages: &[PromptMessage], course: &mut Course, handle: &TurnHandle) {
        let until = messages.iter().position(is_new).unwrap_or(messages.len());
        let messages = &messages[..until];
        if messages.is_empty() {
            return;
        }
        let ids: Vec<MessageId> = messages.iter().map(|message| message.id.clone()).collect();
        let (id, text) = (message_id(ids.iter(), 0), self.text(messages));
        if !self.told.contains(&id) {
            handle.say(Said::Used(ids));
            self.tell(id, text, course);
        }
    }

    fn hear(
        &mut self,
        line: Line,
        course: &mut Course,
        handle: &TurnHandle,
    ) -> Result<(), Failure> {
        match line {
            Line::Assistant { message, parent_tool_use_id } => {
                if let Some(id) = &message.id
                    && course.answers.insert(id.clone())
                {
                    handle.say(Said::Turns(1));
                }
                let sends = |name: &str| {
                    name.strip_prefix(PREFIX).is_some_and(|it| it.starts_with("send_"))
                };
                course.sent |= message.tools().any(|(_, name)| sends(name));
                for (id, name) in message.tools().filter(|_| parent_tool_use_id.is_none()) {
                    let span = match LONG_TOOLS.contains(&name) {
                        true => self.turn_timeout,
                        false => self.tool_timeout + SLACK, // its own limit comes first
                    };
                    course.tools.insert(id.to_owned(), (shorten(name, 80), span));
                    handle.say(course.at_work());
                }
            }
            Line::User { message, parent_tool_use_id: None } => {
                let before = course.tools.len();
                course.tools.retain(|tool, _| message.results().all(|id| id != tool));
                if course.tools.len() < before {
                    handle.say(course.at_work());
                }
            }
            Line::ControlRequest { request_id, request } => self.answer(&request_id, &request),
            Line::Result(ended) => return self.settle(&ended, course, handle),
            Line::CommandLifecycle { command_uuid, state } => {
                return self.advance(&command_uuid, &state, course, handle);
            }
            Line::User { .. } | Line::Other => {}
        }
        Ok(())
    }

    /// Answers a question: of each tool whether it may be used.
    fn answer(&mut self, id: &str, request: &Value) {
        let response = match request["subtype"].as_str() {
            Some("can_use_tool") => {
                let tool = request["tool_name"].as_str().unwrap_or_default();
                let verdict = verdict(request, line::is_denied(&self.settings, tool));
                json!({"subtype": "success", "request_id": id, "response": verdict})
            }
            _ => json!({"subtype": "error", "request_id": id, "error": "not known here"}),
        };
        self.resident.tell(&json!({"type": "control_response", "response": response}));
    }

    /// Takes in that a turn of the program's has ended. One that is about none of our messages is its own.
    fn settle(
        &self,
        ended: &Ended,
        course: &mut Course,
        handle: &TurnHandle,
    ) -> Result<(), Failure> {
        let about = &ended.user_message_uuids;
        let before = course.open.len();
        match about.is_empty() {
            true => course.open.clear(), // a version that does not tell
            false => {
                let is_settled =
                    |id: &String, stage: Stage| stage == Stage::Within || about.contains(id);
                if course.open.keys().any(|id| about.contains(id)) {
                    course.open.retain(|id, stage| !is_settled(id, *stage));
                }
            }
        }
        if course.open.len() == before {
            return Ok(());
        }
        let text = ended.outcome(self.settings.model.upstream())?;
        if handle.said_nothing() || (course.sent && text.trim().is_empty()) {
            course.silent = true;
            return Ok(());
        }
        Self::reply(&text, handle)
    }

    /// Takes in how far a message has come. One that is done with and was never begun was answered by a
    /// process before this one.
    fn advance(
        &self,
        id: &str,
        state: &str,
        course: &mut Course,
        handle: &TurnHandle,
    ) -> Result<(), Failure> {
        let Some(stage) = course.open.get_mut(id) else { return Ok(()) };
        match (state, *stage) {
            ("started", _) => *stage = Stage::Begun,
            ("completed", Stage::Begun) => *stage = Stage::Within,
            ("completed", Stage::Told) => {
                course.open.remove(id);
                let detail = "an earlier attempt at this had ended without an answer";
                let none = || Failure::retryable(Failure::PROVIDER_ERROR, detail);
                return Self::reply(&self.kept.answer_to(id).ok_or_else(none)?, handle);
            }
            _ => {}
        }
        Ok(())
    }

    fn reply(text: &str, handle: &TurnHandle) -> Result<(), Failure> {
        let text = text.trim().to_owned();
        if text.is_empty() {
            let detail = "the model answered nothing";
            return Err(Failure::retryable(Failure::PROVIDER_ERROR, detail));
        }
        handle.say(Said::Reply { text, files: Vec::new(), answers: None });
        Ok(())
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
    fn answered(&self, ids: &[&MessageId], attempt: i64) -> Option<String> {
        let attempts = (0..=attempt).rev().take(EARLIER_MAX);
        attempts
            .map(|it| message_id(ids.iter().copied(), it))
            .find_map(|id| self.kept.answer_to(&id))
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
            Self::reply(&text, handle)?;
            return Ok(Done { continuation: prompt.continuation.clone(), silent: false });
        }
        let id = message_id(ids.iter().copied(), prompt.attempt);
        if self.told.contains(&id) {
            self.resident.terminate(handle, LEAVE_PATIENCE); // or it would not say a word
        }
        self.start(handle)?;
        let mut text = self.text(&prompt.messages);
        if let Some(again) = again(prompt, &[]) {
            text = format!("{text}\n{again}");
        }
        let mut course = Course::default();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_tools_that_run_side_by_side_the_longest_that_is_left_is_told_of() {
        let mut course = Course::default();
        for (id, name, seconds) in [("a", "Agent", 900), ("b", "Bash", 70)] {
            course.tools.insert(id.to_owned(), (name.to_owned(), Duration::from_secs(seconds)));
        }
        let told = |course: &Course| match course.at_work() {
            Said::ToolStarted { name, timeout } => Some((name, timeout.unwrap().as_secs())),
            _ => None,
        };
        assert_eq!(told(&course), Some(("Agent".to_owned(), 900)));
        course.tools.remove("a");
        assert_eq!(told(&course), Some(("Bash".to_owned(), 70)));
        course.tools.remove("b");
        assert_eq!(told(&course), None);
    }
}
