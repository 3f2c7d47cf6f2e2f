//! `command`: any program that speaks JSON lines on its standard streams. `docs/providers.md` is
//! the description for people who write one.
//!
//! The process itself is [`Resident`]'s.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use twobox_shared::agent_config::{Lifetime, Permissions};
use twobox_shared::content::{Failure, shorten};
use twobox_shared::ids::MessageId;
use twobox_shared::mend::mended;

use super::desk::Desk;
use super::resident::{Complaints, Output, Resident};
use super::way_out::{self, WayOut};
use super::{Done, Prompt, Provider, Push, TurnHandle, cancelled};
use crate::args::{Folders, Options};
use crate::event::{Attachment, Content, Said};
use crate::say::say;

/// The longest line that a program may write, in bytes.
const LINE_MAX: usize = 4 << 20;

/// How long a program may take to leave after its last word, before it is killed.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);

/// Names the folder that the agent's sessions share.
const AGENT: &str = "TWOBOX_AGENT";

/// Says how to start the server that has the host's tools, as clients of MCP are told of one.
const MCP: &str = "TWOBOX_MCP";

/// A line of the program.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Reply {
        text: String,
        #[serde(default)]
        files: Vec<PathBuf>,
    },
    ReplyNow {
        text: String,
    },
    Send {
        to: String,
        text: String,
    },
    System {
        request: Value,
    },
    ToolStarted {
        name: String,
        timeout_ms: Option<u64>,
    },
    ToolFinished {},
    Turns {
        count: u32,
    },
    Used {
        ids: Vec<MessageId>,
    },
    TurnDone {
        continuation: Option<String>,
        #[serde(default)]
        silent: bool,
    },
    Failed(Failure),
}

/// The program, running or not.
pub(crate) struct Program {
    command: Vec<String>,
    lifetime: Lifetime,
    options: Options,
    way_out: Option<WayOut>,
    resident: Resident,
    /// Where it uses the host's tools, once it was started.
    desk: Option<Desk>,
    /// Whether it was said that what the program writes has to be mended.
    told_mended: bool,
}

impl Program {
    pub(crate) fn new(
        command: Vec<String>,
        lifetime: Lifetime,
        options: &Options,
        way_out: Option<WayOut>,
    ) -> Self {
        Self {
            command,
            lifetime,
            options: options.clone(),
            way_out,
            resident: Resident::new(LINE_MAX, Complaints::Shared),
            desk: None,
            told_mended: false,
        }
    }

    /// Where the program finds its folders. Its home is the workspace: it can write there, and none
    /// of its other conversations sees it.
    fn environment(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        let Folders { program, work, agent, .. } = &self.options.folders;
        let (work, agent) = (work.as_deref(), agent.as_deref());
        let named = [
            ("TWOBOX_PROGRAM", Some(&**program)),
            ("TWOBOX_WORK", work),
            ("HOME", work),
            (AGENT, agent),
        ];
        let temp = self.options.temp().map(|temp| ("TMPDIR", temp));
        named.into_iter().filter_map(|(name, folder)| Some((name, folder?.to_owned()))).chain(temp)
    }

    /// How the program starts the server of the host's tools. One that uses none works all the same without.
    fn tools(&mut self, handle: &TurnHandle) -> Option<String> {
        let opened = match self.desk.take() {
            Some(desk) => Ok(desk),
            None => Desk::open(handle, &self.options, &Permissions::new()),
        };
        let launch = opened.and_then(|desk| self.desk.insert(desk).launch());
        let launch = launch.and_then(|launch| Ok(serde_json::to_string(&launch)?));
        launch.map_err(|error| say!("{MCP} is not set: {error}")).ok()
    }

    fn start(&mut self, handle: &TurnHandle) -> Result<(), Failure> {
        let was_started = self.resident.was_started();
        if self.resident.is_running(handle) {
            return Ok(());
        }
        if was_started {
            say!("{} ended between two turns and is started again", self.command[0]);
        }
        let mut command = Command::new(&self.command[0]);
        command
            .envs(self.tools(handle).map(|launch| (MCP, launch)))
            .args(&self.command[1..])
            .current_dir(&self.options.folders.program)
            .env_remove(AGENT) // where the agent's sessions share nothing
            .envs(self.environment());
        way_out::tell(self.way_out.as_ref(), &mut command);
        self.resident.start(command, handle)
    }

    /// Follows the program until it says how the turn ended. A line that is none of the protocol ends
    /// the turn for good: the program would write it again. The flag says whether it may live on.
    fn follow(&mut self, handle: &TurnHandle) -> (Result<Done, Failure>, bool) {
        loop {
            let wrong =
                |detail: String| (Err(Failure::permanent(Failure::PROVIDER_ERROR, detail)), false);
            let output = match self.resident.next(handle) {
                Some(Push::FollowUp(messages)) => {
                    self.resident.tell(&json!({"type": "follow_up", "messages": messages}));
                    continue;
                }
                Some(Push::Notice(detail)) => {
                    self.resident.tell(&json!({"type": "error", "detail": detail}));
                    continue;
                }
                Some(Push::Cancel) => return (Err(cancelled()), false),
                Some(Push::Program(_, output)) => output,
                Some(Push::Begin | Push::Model(..)) | None => continue,
            };
            let text = match output {
                Output::Line(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Output::TooLong => {
                    return wrong(format!(
                        "the program wrote a line of more than {LINE_MAX} bytes"
                    ));
                }
                Output::Ended => {
                    let status = self.resident.stop(handle, LEAVE_PATIENCE);
                    let how = status.map_or("closed its output".to_owned(), |it| it.to_string());
                    let mut detail = format!("the program ended before turn_done: {how}");
                    // As shells say it: there is no such program, or it cannot be run.
                    if matches!(status.and_then(|status| status.code()), Some(126 | 127)) {
                        detail.push_str(", which is how a shell says that it cannot run a program");
                        return wrong(detail);
                    }
                    let failure = Failure::retryable(Failure::PROVIDER_ERROR, detail);
                    return (Err(failure), false);
                }
            };
            if text.trim().is_empty() {
                continue;
            }
            let mended = mended(&text);
            if matches!(mended, Cow::Owned(_)) || mended.len() < text.len() {
                self.tell_mended();
            }
            match serde_json::from_str(&mended) {
                Err(error) => {
                    let line = shorten(text.trim_end(), 200);
                    return wrong(format!(
                        "the program wrote a line that is wrong: {error}: {line}"
                    ));
                }
                Ok(Line::TurnDone { continuation, silent }) => {
                    let silent = silent || handle.said_nothing();
                    return (Ok(Done { continuation, silent }), true);
                }
                Ok(Line::Failed(failure)) => return (Err(failure), true),
                Ok(line) => handle.say(self.said(line)),
            }
        }
    }

    /// Says that what the program wrote is no JSON, once for each program that is started.
    fn tell_mended(&mut self) {
        if !std::mem::replace(&mut self.told_mended, true) {
            say!(
                "the program writes halves of surrogate pairs, or a byte order mark, which is no JSON: \
                 they are read as U+FFFD, and passed over"
            );
        }
    }

    fn said(&self, line: Line) -> Said {
        match line {
            Line::Reply { text, files } => {
                let files = files.iter().map(|file| self.attachment(file)).collect();
                Said::Reply { text, files, answers: None }
            }
            Line::ReplyNow { text } => Said::ReplyNow(text),
            Line::Send { to, text } => Said::Send { to, text },
            Line::System { request } => Said::System(request),
            Line::ToolStarted { name, timeout_ms } => {
                Said::ToolStarted { name, timeout: timeout_ms.map(Duration::from_millis) }
            }
            Line::ToolFinished {} => Said::ToolFinished,
            Line::Turns { count } => Said::Turns(count),
            Line::Used { ids } => Said::Used(ids),
            Line::TurnDone { .. } | Line::Failed(_) => unreachable!("both end the turn"),
        }
    }

    fn attachment(&self, file: &Path) -> Attachment {
        let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        let Folders { program, work, .. } = &self.options.folders;
        // What the turn has made lies in the workspace, what every turn may send with the program.
        let made = work.as_ref().map(|work| work.join(file)).filter(|made| made.exists());
        let path = made.unwrap_or_else(|| program.join(file));
        Attachment { name, source: Content::Path(path) }
    }
}

impl Provider for Program {
    fn turn(&mut self, prompt: &Prompt, handle: &TurnHandle) -> Result<Done, Failure> {
        #[derive(Serialize)]
        struct Turn<'a> {
            #[serde(rename = "type")]
            kind: &'static str,
            #[serde(flatten)]
            prompt: &'a Prompt,
        }
        self.start(handle)?;
        self.resident.tell(&Turn { kind: "turn", prompt });
        let (outcome, healthy) = self.follow(handle);
        match (healthy, self.lifetime) {
            (true, Lifetime::Runner) => {}
            (true, Lifetime::Turn) => drop(self.resident.stop(handle, LEAVE_PATIENCE)),
            (false, _) => drop(self.resident.stop(handle, Duration::ZERO)),
        }
        outcome
    }

    fn leave(&mut self, handle: &TurnHandle) {
        self.resident.stop(handle, Duration::ZERO);
    }
}
