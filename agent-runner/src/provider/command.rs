//! `command`: any program that speaks JSON lines on its standard streams. `docs/providers.md` is
//! the description for people who write one.
//!
//! The program runs in a process group of its own, which is killed as a whole; should the runner be
//! killed, the kernel kills the program with the thread that started it. A reader thread
//! turns its output into pushes, so that the turn waits in one place for the program and for the
//! main thread, and the program never waits for us to read.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::PoisonError;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use twobox_shared::agent_config::Lifetime;
use twobox_shared::content::{Failure, shorten};
use twobox_shared::ids::MessageId;
use twobox_shared::mend::mended;

use super::{Done, Prompt, Provider, Push, TurnHandle, cancelled, kill_group};
use crate::args::{Folders, Options};
use crate::event::{Attachment, Content, Said};
use crate::say::say;

/// The longest line that a program may write, in bytes.
const LINE_MAX: usize = 4 << 20;

/// How long a program may take to leave after its last word, before it is killed.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);

/// How often a silent program is looked at: a child of its own may hold its output open after it
/// has ended itself.
const CHECK: Duration = Duration::from_millis(500);

/// Names the folder that the agent's sessions share.
const AGENT: &str = "TWOBOX_AGENT";

/// What a program's reader thread reports.
#[derive(Debug)]
pub(crate) enum Output {
    /// One line, without its end.
    Line(Vec<u8>),
    /// A line longer than [`LINE_MAX`].
    TooLong,
    /// The output was closed.
    Ended,
}

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
    folders: Folders,
    temp: Option<PathBuf>,
    /// Counts the starts, so that the last words of an earlier process are not taken for this one's.
    number: u64,
    running: Option<Running>,
    /// Whether it was said that what the program writes has to be mended.
    told_mended: bool,
}

struct Running {
    child: Child,
    stdin: ChildStdin,
}

impl Program {
    pub(crate) fn new(command: Vec<String>, lifetime: Lifetime, options: &Options) -> Self {
        Self {
            command,
            lifetime,
            folders: options.folders.clone(),
            temp: options.temp(),
            number: 0,
            running: None,
            told_mended: false,
        }
    }

    /// Where the program finds its folders. Its home is the workspace: it can write there, and none
    /// of its other conversations sees it.
    fn environment(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let Folders { program, work, agent, access: _ } = &self.folders;
        let (work, agent) = (work.as_deref(), agent.as_deref());
        let named = [
            ("TWOBOX_PROGRAM", Some(&**program)),
            ("TWOBOX_WORK", work),
            ("HOME", work),
            (AGENT, agent),
            ("TMPDIR", self.temp.as_deref()),
        ];
        named.into_iter().filter_map(|(name, folder)| Some((name, folder?)))
    }

    fn start(&mut self, handle: &TurnHandle) -> Result<(), Failure> {
        if let Some(running) = &mut self.running {
            match running.child.try_wait() {
                Ok(None) => return Ok(()),
                _ => {
                    say!("{} ended between two turns and is started again", self.command[0]);
                    self.stop(handle, Duration::ZERO);
                }
            }
        }
        let program = self.command[0].clone();
        let failed = |error: std::io::Error| {
            let detail = format!("could not start {program:?}: {}", why(&program, &error));
            match is_lasting(&error) {
                true => Failure::permanent(Failure::AGENT_BROKEN, detail),
                false => Failure::retryable(Failure::PROVIDER_ERROR, detail),
            }
        };
        let mut command = Command::new(&self.command[0]);
        command
            .args(&self.command[1..])
            .current_dir(&self.folders.program)
            .env_remove(AGENT) // where the agent's sessions share nothing
            .envs(self.environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0);
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; prctl(2) is one
        // system call, and turning its error into an `io::Error` allocates nothing.
        unsafe {
            command.pre_exec(|| set_pdeathsig(Signal::SIGKILL).map_err(std::io::Error::from));
        }
        let mut child = command.spawn().map_err(&failed)?;
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("Linux numbers fit into i32"));
        *handle.group.lock().unwrap_or_else(PoisonError::into_inner) = Some(pid);
        self.number += 1;
        let stdin = child.stdin.take().expect("standard input was asked for");
        let stdout = child.stdout.take().expect("standard output was asked for");
        self.running = Some(Running { child, stdin });
        let (number, pushes) = (self.number, handle.push.clone());
        std::thread::Builder::new()
            .name("program".to_owned())
            .spawn(move || read(stdout, number, &pushes))
            .map(drop)
            .map_err(failed)
    }

    /// Closes the program's input, gives it `patience` to leave, and kills what is left of its
    /// group. Returns its exit status if it left by itself.
    fn stop(&mut self, handle: &TurnHandle, patience: Duration) -> Option<ExitStatus> {
        let Running { mut child, stdin } = self.running.take()?;
        drop(stdin);
        let end = Instant::now() + patience;
        let mut status = child.try_wait().ok().flatten();
        let mut pause = Duration::from_millis(1);
        while status.is_none() && Instant::now() < end {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
            status = child.try_wait().ok().flatten();
        }
        kill_group(&handle.group);
        *handle.group.lock().unwrap_or_else(PoisonError::into_inner) = None;
        drop(child.wait()); // it was killed, and its status was looked at above
        status
    }

    /// One JSON line. A program that does not read it has ended, which its output will say.
    fn tell(&mut self, line: &impl Serialize) {
        let Some(running) = &mut self.running else { return };
        let mut text = serde_json::to_string(line).expect("keys are strings");
        text.push('\n');
        drop(running.stdin.write_all(text.as_bytes()).and_then(|()| running.stdin.flush()));
    }

    /// Follows the program until it says how the turn ended. A line that is none of the protocol ends
    /// the turn for good: the program would write it again. The flag says whether it may live on.
    fn follow(&mut self, handle: &TurnHandle) -> (Result<Done, Failure>, bool) {
        loop {
            let wrong =
                |detail: String| (Err(Failure::permanent(Failure::PROVIDER_ERROR, detail)), false);
            let output = match handle.next(CHECK) {
                Some(Push::FollowUp(messages)) => {
                    self.tell(&json!({"type": "follow_up", "messages": messages}));
                    continue;
                }
                Some(Push::Notice(detail)) => {
                    self.tell(&json!({"type": "error", "detail": detail}));
                    continue;
                }
                Some(Push::Cancel) => return (Err(cancelled()), false),
                Some(Push::Program(number, output)) if number == self.number => output,
                Some(Push::Begin | Push::Program(..) | Push::Model(..)) => continue,
                None => match self.running.as_mut().map(|running| running.child.try_wait()) {
                    Some(Ok(None)) => continue,
                    _ => Output::Ended,
                },
            };
            let text = match output {
                Output::Line(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Output::TooLong => {
                    return wrong(format!(
                        "the program wrote a line of more than {LINE_MAX} bytes"
                    ));
                }
                Output::Ended => {
                    let status = self.stop(handle, LEAVE_PATIENCE);
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
        let Folders { program, work, .. } = &self.folders;
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
        self.tell(&Turn { kind: "turn", prompt });
        let (outcome, healthy) = self.follow(handle);
        match (healthy, self.lifetime) {
            (true, Lifetime::Runner) => {}
            (true, Lifetime::Turn) => drop(self.stop(handle, LEAVE_PATIENCE)),
            (false, _) => drop(self.stop(handle, Duration::ZERO)),
        }
        outcome
    }

    fn leave(&mut self, handle: &TurnHandle) {
        self.stop(handle, Duration::ZERO);
    }
}

/// Why `program` could not be started. One that is searched for is denied if a single folder of the
/// search is, which nobody would understand.
fn why(program: &str, error: &std::io::Error) -> String {
    let (name, path) = (Path::new(program), std::env::var_os("PATH").unwrap_or_default());
    let bare = name.components().count() == 1;
    match bare && !std::env::split_paths(&path).any(|folder| folder.join(name).exists()) {
        true => format!("there is no such program in {}", path.display()),
        false => error.to_string(),
    }
}

/// Whether a program that could not be started will not be started by another try either: it is not
/// there, or is no program. A machine that has no room for a process may have it later.
fn is_lasting(error: &std::io::Error) -> bool {
    use nix::libc::{
        E2BIG, EACCES, EINVAL, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOEXEC, ENOTDIR, EPERM,
    };
    match error.raw_os_error() {
        Some(code) => matches!(
            code,
            E2BIG
                | EACCES
                | EINVAL
                | EISDIR
                | ELOOP
                | ENAMETOOLONG
                | ENOENT
                | ENOEXEC
                | ENOTDIR
                | EPERM
        ),
        None => true, // a NUL in a name
    }
}

fn read(stdout: ChildStdout, number: u64, pushes: &Sender<Push>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        let limit = u64::try_from(LINE_MAX + 1).expect("a small number");
        let output = match stdout.by_ref().take(limit).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => Output::Ended,
            Ok(length) if length > LINE_MAX => Output::TooLong,
            Ok(_) => Output::Line(line),
        };
        let more = matches!(output, Output::Line(_));
        if pushes.send(Push::Program(number, output)).is_err() || !more {
            return;
        }
    }
}
