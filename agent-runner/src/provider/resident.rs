//! A program that lives in a runner and speaks JSON lines on its standard streams: for one turn or, as
//! vendors' agents do, for all of the runner's. What it says and what it is told mean is its provider's.
//!
//! It runs in a process group of its own, which is killed as a whole, and which is what stays when all else
//! that a turn has started is ended (`family`); should the runner be killed, the kernel kills the program with
//! the thread that started it. A reader thread turns its output into pushes, so that a turn waits in one
//! place for the program and for the main thread, and the program never waits for us to read.

use std::collections::VecDeque;
use std::io::{BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use serde::Serialize;
use twobox_shared::content::Failure;

use super::{Push, TurnHandle, kill_group};
use crate::mcp::lines::{self, read_line};

/// How often a silent program is looked at: a child of its own may hold its output open after it
/// has ended itself.
const CHECK: Duration = Duration::from_millis(500);

/// How much is kept of what it complains of on standard error, in bytes.
const COMPLAINTS_MAX: usize = 4 << 10;

/// What the reader thread of a program reports.
#[derive(Debug)]
pub(crate) enum Output {
    /// One line, without its end.
    Line(Vec<u8>),
    /// A line that was longer than it may be, of which nothing is kept.
    TooLong,
    /// The output was closed.
    Ended,
}

/// What became of standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Complaints {
    /// The runner's own, which its log has.
    Shared,
    /// The end of it is kept, to be told when the program fails.
    Kept,
}

/// The program, running or not.
pub(crate) struct Resident {
    line_max: usize,
    complaints: Complaints,
    /// Counts the starts, so that the last words of an earlier process are not taken for this one's.
    number: u64,
    running: Option<Running>,
}

struct Running {
    child: Child,
    stdin: ChildStdin,
    said: Arc<Mutex<VecDeque<u8>>>,
}

impl Resident {
    /// One that does not run, and whose lines have at most `line_max` bytes.
    pub(crate) fn new(line_max: usize, complaints: Complaints) -> Self {
        Self { line_max, complaints, number: 0, running: None }
    }

    /// Whether it runs. One that has ended by itself is cleared away.
    pub(crate) fn is_running(&mut self, handle: &TurnHandle) -> bool {
        match self.running.as_ref().map(|running| has_ended(&running.child)) {
            Some(false) => true,
            Some(true) => {
                self.stop(handle, Duration::ZERO);
                false
            }
            None => false,
        }
    }

    /// Whether `stop` was not called since the last start, though it may have ended.
    pub(crate) fn was_started(&self) -> bool {
        self.running.is_some()
    }

    /// Starts it, after an earlier one was stopped.
    ///
    /// # Errors
    /// Why it cannot be started: for good if there is no such program.
    pub(crate) fn start(&mut self, command: Command, handle: &TurnHandle) -> Result<(), Failure> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.spawn(command, handle).map_err(|error| {
            let detail = format!("could not start {program:?}: {}", why(&program, &error));
            match is_lasting(&error) {
                true => Failure::permanent(Failure::AGENT_BROKEN, detail),
                false => Failure::retryable(Failure::PROVIDER_ERROR, detail),
            }
        })
    }

    fn spawn(&mut self, mut command: Command, handle: &TurnHandle) -> std::io::Result<()> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        if self.complaints == Complaints::Kept {
            command.stderr(Stdio::piped());
        }
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; prctl(2) is one
        // system call, and turning its error into an `io::Error` allocates nothing.
        unsafe {
            command.pre_exec(|| set_pdeathsig(Signal::SIGKILL).map_err(std::io::Error::from));
        }
        let mut child = command.spawn()?;
        let pid = number(&child);
        *handle.group.lock().unwrap_or_else(PoisonError::into_inner) = Some(pid);
        self.number += 1;
        let stdin = child.stdin.take().expect("standard input was asked for");
        let stdout = child.stdout.take().expect("standard output was asked for");
        let stderr = child.stderr.take();
        let said = Arc::new(Mutex::new(VecDeque::new()));
        self.running = Some(Running { child, stdin, said: Arc::clone(&said) });
        let (number, line_max, pushes) = (self.number, self.line_max, handle.push.clone());
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let reads = thread("program").spawn(move || read(stdout, line_max, number, &pushes));
        let begun = reads.and_then(|_| match stderr {
            Some(stderr) => thread("complaints").spawn(move || keep(stderr, &said)).map(drop),
            None => Ok(()),
        });
        if begun.is_err() {
            self.stop(handle, Duration::ZERO); // or it would run, and nobody would hear it
        }
        begun
    }

    /// Gives one that has closed its output `patience` to end.
    pub(crate) fn wait(&self, patience: Duration) {
        if let Some(running) = &self.running {
            wait(&running.child, patience);
        }
    }

    /// Closes the program's input, gives it `patience` to leave, and kills what is left of its
    /// group. Returns its exit status if it left by itself.
    pub(crate) fn stop(&mut self, handle: &TurnHandle, patience: Duration) -> Option<ExitStatus> {
        let Running { mut child, stdin, said: _ } = self.running.take()?;
        drop(stdin);
        let left = wait(&child, patience);
        // Not reaped so far, it keeps the number of its group from being anybody else's.
        kill_group(&handle.group);
        *handle.group.lock().unwrap_or_else(PoisonError::into_inner) = None;
        child.wait().ok().filter(|_| left)
    }

    /// As [`Resident::stop`], asking with SIGTERM: for a program that may be busy with something.
    pub(crate) fn terminate(
        &mut self,
        handle: &TurnHandle,
        patience: Duration,
    ) -> Option<ExitStatus> {
        if let Some(running) = &mut self.running {
            // It is not reaped, so the number is its own. One that has ended needs no signal.
            kill(number(&running.child), Signal::SIGTERM).ok();
        }
        self.stop(handle, patience)
    }

    /// One JSON line. A program that does not read it has ended, which its output will say.
    pub(crate) fn tell(&mut self, line: &impl Serialize) {
        let Some(running) = &mut self.running else { return };
        let mut text = serde_json::to_string(line).expect("keys are strings");
        text.push('\n');
        drop(running.stdin.write_all(text.as_bytes()).and_then(|()| running.stdin.flush()));
    }

    /// What comes next: a push of the main thread's, or [`Push::Program`] of the process that runs. `None`
    /// if nothing came for a while, which is no sign of anything.
    pub(crate) fn next(&mut self, handle: &TurnHandle) -> Option<Push> {
        self.next_within(handle, CHECK)
    }

    /// As [`Resident::next`], for whoever has something else to look at after `patience`.
    pub(crate) fn next_within(&mut self, handle: &TurnHandle, patience: Duration) -> Option<Push> {
        match handle.next(patience.min(CHECK)) {
            Some(Push::Program(number, _)) if number != self.number => None, // an earlier one's
            Some(push) => Some(push),
            None => match self.running.as_ref().map(|running| has_ended(&running.child)) {
                Some(false) => None,
                Some(true) | None => Some(Push::Program(self.number, Output::Ended)),
            },
        }
    }

    /// The end of what it complained of, one line; empty if that is not kept.
    pub(crate) fn complaints(&self) -> String {
        let Some(running) = &self.running else { return String::new() };
        let said = running.said.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = said.iter().copied().collect();
        String::from_utf8_lossy(&bytes).split_whitespace().collect::<Vec<_>>().join(" ")
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

/// The number of a process, and of the group that it leads.
fn number(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("Linux numbers fit into i32"))
}

/// Whether `child` has ended. It is left to be reaped, so that its number stays its own.
///
/// Source: `WNOWAIT` in waitid(2).
fn has_ended(child: &Child) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(number(child)), flags), Ok(WaitStatus::StillAlive))
}

/// Waits for `child` for `patience`. Returns whether it has ended.
fn wait(child: &Child, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    while !has_ended(child) {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    true
}

fn read(stdout: ChildStdout, line_max: usize, number: u64, pushes: &Sender<Push>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let output = match read_line(&mut stdout, line_max) {
            Ok(lines::Line::Text(line)) => Output::Line(line),
            Ok(lines::Line::TooLong) => Output::TooLong,
            Ok(lines::Line::End) | Err(_) => Output::Ended,
        };
        let more = !matches!(output, Output::Ended);
        if pushes.send(Push::Program(number, output)).is_err() || !more {
            return;
        }
    }
}

/// Keeps the end of what is read.
fn keep(mut stderr: ChildStderr, said: &Mutex<VecDeque<u8>>) {
    let mut bytes = [0; 1024];
    while let Ok(length @ 1..) = stderr.read(&mut bytes) {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend(&bytes[..length]);
        let beyond = said.len().saturating_sub(COMPLAINTS_MAX);
        said.drain(..beyond);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn next_line(program: &mut Resident, handle: &TurnHandle) -> Option<String> {
        loop {
            match program.next(handle) {
                Some(Push::Program(_, Output::Line(line))) => {
                    return Some(String::from_utf8(line).unwrap());
                }
                Some(Push::Program(_, Output::TooLong)) => return Some("too long".to_owned()),
                Some(Push::Program(_, Output::Ended)) => return None,
                _ => {}
            }
        }
    }

    #[test]
    fn a_program_answers_line_by_line_until_it_ends_and_its_complaints_are_kept() {
        let (handle, _reins, _said) = TurnHandle::apart();
        let mut program = Resident::new(16, Complaints::Kept);
        let script = "while read -r line; do echo \"got $line\"; done; echo ow >&2; exit 3";
        program.start(of(script), &handle).unwrap();
        assert!(program.is_running(&handle));
        for (told, heard) in [("1", "got 1"), ("\"a b c d e f g h i\"", "too long"), ("2", "got 2")]
        {
            program.tell(&serde_json::from_str::<serde_json::Value>(told).unwrap());
            assert_eq!(next_line(&mut program, &handle).as_deref(), Some(heard));
        }
        let status = program.stop(&handle, Duration::from_secs(20)).unwrap();
        assert_eq!(status.code(), Some(3));
        assert!(!program.was_started() && handle.group.lock().unwrap().is_none());
    }

    #[test]
    fn one_that_ends_by_itself_says_why_and_may_be_started_again() {
        let (handle, _reins, _said) = TurnHandle::apart();
        let mut program = Resident::new(1 << 10, Complaints::Kept);
        program.start(of("echo no way >&2; echo last; exit 1"), &handle).unwrap();
        assert_eq!(next_line(&mut program, &handle).as_deref(), Some("last"));
        assert_eq!(next_line(&mut program, &handle), None);
        while program.complaints() != "no way" {
            std::thread::yield_now(); // another thread reads them
        }
        program.wait(Duration::from_secs(20)); // its streams end before it does
        assert!(!program.is_running(&handle) && !program.was_started());
        program.start(of("echo again"), &handle).unwrap();
        assert_eq!(next_line(&mut program, &handle).as_deref(), Some("again"));
    }

    #[test]
    fn one_that_has_ended_keeps_its_number_until_its_group_is_ended_too() {
        let (handle, _reins, _said) = TurnHandle::apart();
        let mut program = Resident::new(1 << 10, Complaints::Shared);
        program.start(of("sleep 600 & echo $!; exec >&-; exit 4"), &handle).unwrap();
        let left: i32 = next_line(&mut program, &handle).unwrap().parse().unwrap();
        let leader = handle.group.lock().unwrap().unwrap();
        program.wait(Duration::from_secs(20));
        assert_eq!(next_line(&mut program, &handle), None);
        let is_there = |pid: i32| Path::new(&format!("/proc/{pid}")).exists();
        assert!(is_there(leader.as_raw()) && is_there(left), "looking reaps nobody");
        let status = program.stop(&handle, Duration::ZERO).unwrap();
        assert_eq!(status.code(), Some(4));
        assert!(!is_there(leader.as_raw()) && handle.group.lock().unwrap().is_none());
        let runs = |pid: i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.contains(") S ") || stat.contains(") R ")
        };
        while runs(left) {
            std::thread::yield_now(); // it was killed, and is not gone yet
        }
    }

    #[test]
    fn one_that_is_told_to_leave_may_say_a_last_word_and_one_that_does_not_is_killed() {
        let (handle, _reins, _said) = TurnHandle::apart();
        let mut program = Resident::new(1 << 10, Complaints::Shared);
        let polite = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done";
        program.start(of(polite), &handle).unwrap();
        assert_eq!(next_line(&mut program, &handle).as_deref(), Some("ready"));
        let status = program.terminate(&handle, Duration::from_secs(20)).unwrap();
        assert_eq!(status.code(), Some(7));
        program.start(of("trap '' TERM; echo ready; exec sleep 600"), &handle).unwrap();
        assert_eq!(next_line(&mut program, &handle).as_deref(), Some("ready"));
        assert_eq!(program.terminate(&handle, Duration::ZERO), None);
    }
}
