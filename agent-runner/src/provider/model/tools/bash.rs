//! `bash`: a command line in a shell.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use twobox_shared::ids::{IdSource, SystemIds};

use super::arguments::{Arguments, Field};
use super::bounded::Bounded;
use super::{Bench, Made, Run, Tool, words};
use crate::provider::{kill_group, way_out};

/// The shells that are looked for; the first that is there is used.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// How long the output may go on after the shell has ended: what it has left in the background may hold
/// it open for ever.
const DRAIN: Duration = Duration::from_millis(200);

/// The longest pause between two looks at the shell.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) const TOOL: Tool = Tool {
    name: "bash",
    says: "Runs a command line in a shell and returns what it prints, both streams together, and its \
           exit code if that is not 0. It begins in your own folder each time, with nothing on its \
           standard input. Of a long output the beginning and the end are returned, and the rest is in \
           a file. What it leaves in the background goes on until your turn ends.",
    fields: &[
        Field::needed("command", "the command line"),
        Field::number(
            "timeout_sec",
            "after how many seconds it is ended; as long as tools may run, if it is left out",
        ),
    ],
    run: Run::Alone(run),
};

/// The shell of this place, if it has one.
pub(super) fn shell() -> Option<PathBuf> {
    SHELLS.into_iter().map(PathBuf::from).find(|path| path.exists())
}

/// How long a call may take.
pub(super) fn span(bench: &Bench, given: Arguments<'_>) -> Duration {
    given.number("timeout_sec").map_or(bench.most, |it| Duration::from_secs(it).min(bench.most))
}

fn run(bench: &Bench, given: Arguments<'_>) -> Made {
    let shell = bench.shell.as_deref().ok_or("there is no shell in this place")?;
    let span = span(bench, given);
    // The conversation may name the file for as long as it lasts: no other call is given its name.
    let name = format!("bash-{}", SystemIds.uuid().simple());
    let output = Arc::new(Mutex::new(Bounded::new(&bench.kept, name)));
    let (child, done) = start(bench, shell, given.needed("command"), &output)?;
    let how = wait(bench, child, Instant::now() + span);
    done.recv_timeout(DRAIN).ok(); // whoever still holds it is not waited for
    let text = held(&output).end();
    let with = |remark: String| match text.is_empty() {
        true => remark,
        false => format!("{text}\n[{remark}]"),
    };
    match how {
        How::Ended(Ok(status)) if status.success() => Ok(words(match text.is_empty() {
            true => "(It printed nothing.)".to_owned(),
            false => text,
        })),
        How::Ended(Ok(status)) => Err(with(status.to_string())),
        How::Ended(Err(error)) => Err(with(format!("nobody knows how it ended: {error}"))),
        How::TooLong => {
            let seconds = span.as_secs();
            Err(with(format!("it was ended after {seconds} s; what it did until then is done")))
        }
        How::Cancelled => Err(with("the turn was ended".to_owned())),
    }
}

fn held(output: &Mutex<Bounded>) -> MutexGuard<'_, Bounded> {
    output.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the shell in a process group of its own, which the main thread can kill, and a thread that reads
/// what it prints and says when that is over.
fn start(
    bench: &Bench,
    shell: &Path,
    line: &str,
    output: &Arc<Mutex<Bounded>>,
) -> Result<(Child, mpsc::Receiver<()>), String> {
    let failed = |error: std::io::Error| format!("the shell could not be started: {error}");
    let (mut reader, writer) = std::io::pipe().map_err(failed)?;
    let mut command = Command::new(shell);
    command
        .arg("-c")
        .arg(line)
        .current_dir(&bench.work)
        .env("HOME", &bench.work)
        .env("TWOBOX_WORK", &bench.work)
        .env("TWOBOX_PROGRAM", &bench.program)
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(failed)?)
        .stderr(writer)
        .process_group(0);
    way_out::tell(bench.way_out.as_deref(), &mut command);
    for (name, folder) in [("TMPDIR", &bench.temp), ("TWOBOX_AGENT", &bench.agent)] {
        match folder {
            Some(folder) => command.env(name, folder),
            None => command.env_remove(name),
        };
    }
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; prctl(2) is one
    // system call, and turning its error into an `io::Error` allocates nothing.
    unsafe {
        command.pre_exec(|| set_pdeathsig(Signal::SIGKILL).map_err(std::io::Error::from));
    }
    let child = command.spawn().map_err(failed)?;
    drop(command); // with our ends of its output, which would never be over
    *bench.group.lock().unwrap_or_else(PoisonError::into_inner) = Some(pid(&child));
    let (over, done) = mpsc::channel();
    let output = Arc::clone(output);
    let read = move || {
        let mut chunk = [0; 8192];
        while let Ok(length @ 1..) = reader.read(&mut chunk) {
            held(&output).push(&chunk[..length]);
        }
        over.send(()).ok(); // or nobody waits any more
    };
    let reading = std::thread::Builder::new().name("bash".to_owned()).spawn(read);
    match reading {
        Ok(_) => Ok((child, done)),
        Err(error) => {
            end(bench, child).ok();
            Err(failed(error))
        }
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("Linux numbers fit into i32"))
}

enum How {
    Ended(std::io::Result<ExitStatus>),
    TooLong,
    Cancelled,
}

/// Waits until the shell has ended, its time is over, or the turn is.
fn wait(bench: &Bench, mut child: Child, end_at: Instant) -> How {
    let mut pause = Duration::from_millis(1);
    // It is not reaped here, so that its number is nobody else's as long as the main thread may kill it.
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(WaitStatus::StillAlive) = waitid(Id::Pid(pid(&child)), look) {
        if bench.cancelled.load(Ordering::Relaxed) {
            end(bench, child).ok();
            return How::Cancelled;
        }
        if Instant::now() >= end_at {
            end(bench, child).ok();
            return How::TooLong;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE);
    }
    *bench.group.lock().unwrap_or_else(PoisonError::into_inner) = None;
    let status = child.wait();
    match bench.cancelled.load(Ordering::Relaxed) {
        true => How::Cancelled, // by the main thread, which kills first and tells then
        false => How::Ended(status),
    }
}

/// Ends the shell, with what it has started in its group.
fn end(bench: &Bench, mut child: Child) -> std::io::Result<ExitStatus> {
    kill_group(&bench.group);
    *bench.group.lock().unwrap_or_else(PoisonError::into_inner) = None;
    child.wait()
}
