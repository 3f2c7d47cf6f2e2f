//! One run of a program: what it is told on standard input, what it says, and how it ends.
//!
//! It runs in a process group of its own, so that a Ctrl-C at the host's terminal does not reach it,
//! and so that it can be killed with everything that it has started: at the deadline, and when whoever
//! waits for it stops waiting because the host goes down.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{sleep, timeout};
use twobox_shared::ids::{IdSource, SystemIds};

use twobox_system::blocking::blocking;
use twobox_system::proc;

/// How much of its standard output is kept: the beginning.
pub(super) const OUTPUT_MAX: usize = 64 << 10;

/// How much of its standard error is kept: the end.
pub(super) const ERRORS_MAX: usize = 8 << 10;

/// How much it may say as fast as it can. From there on it is listened to now and then: one that never
/// stops talking until its time is over costs nothing but its own time.
const AT_ONCE: usize = 16 << 20;

/// How long a talker waits for 64 KiB to be taken.
const BREATH: Duration = Duration::from_millis(20);

/// How long its output may stay open after it has ended, by something that it left behind.
const LINGER: Duration = Duration::from_secs(1);

/// How long a killed program may take to be gone.
const REAP: Duration = Duration::from_secs(5);

/// The variables of the host's environment that it gets. Nothing else: what is secret to the host
/// stays there.
const ENVIRONMENT: [&str; 3] = ["PATH", "HOME", "LANG"];

/// The variable by which whatever a run has started is known, also what has left its group. Nothing is to
/// be done with it.
const MARK: &str = "TWOBOX_RUN";

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) end: End,
    /// The first [`OUTPUT_MAX`] bytes of its standard output.
    pub(super) output: Vec<u8>,
    /// The last [`ERRORS_MAX`] bytes of its standard error.
    pub(super) errors: Vec<u8>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Exited(i32),
    /// By somebody's signal.
    Signalled(i32),
    /// It was killed at the deadline.
    Late,
    /// The operating system does not say.
    Unknown,
}

/// Runs `program` in `folder` with `input` on its standard input.
///
/// # Errors
/// Why it could not be started. Whatever happens after that is a [`Run`].
pub(super) async fn run(
    program: &Path,
    folder: &Path,
    input: &[u8],
    patience: Duration,
) -> io::Result<Run> {
    let mark = SystemIds.uuid().to_string();
    let mut child = Command::new(program)
        .current_dir(folder)
        .env_clear()
        .env(MARK, &mark)
        .envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let mut group = Group::led_by(&child, mark);
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let end = {
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let talk = async {
            tokio::join!(
                feed(stdin, input),
                read(stdout, |bytes| keep_first(&mut output, bytes)),
                read(stderr, |bytes| keep_last(&mut errors, bytes)),
            )
        };
        tokio::pin!(talk);
        let mut silent = false;
        let ended = timeout(patience, async {
            loop {
                tokio::select! {
                    biased;
                    status = child.wait() => break status,
                    _ = &mut talk, if !silent => silent = true,
                }
            }
        })
        .await;
        match ended {
            Ok(status) => {
                if status.is_ok() {
                    group.forget(); // its number is free again
                }
                if !silent && timeout(LINGER, talk).await.is_err() {
                    tracing::debug!(
                        ?program,
                        "something that it left behind holds its output open"
                    );
                }
                status.map_or(End::Unknown, |status| match (status.code(), status.signal()) {
                    (Some(code), _) => End::Exited(code),
                    (None, Some(signal)) => End::Signalled(signal),
                    (None, None) => End::Unknown,
                })
            }
            Err(_late) => {
                group.end().await;
                if timeout(REAP, child.wait()).await.is_err() {
                    tracing::warn!(?program, "it was killed and is not gone yet");
                }
                End::Late
            }
        }
    };
    Ok(Run { end, output, errors })
}

/// A program that does not read what it is told says by its exit code whether that matters.
async fn feed(stdin: Option<ChildStdin>, input: &[u8]) {
    if let Some(mut stdin) = stdin
        && let Err(error) = stdin.write_all(input).await
    {
        tracing::debug!(%error, "the program did not read all that it was told");
    }
}

/// Reads to the end, also what is not kept: a program must not block because it says much.
async fn read(stream: Option<impl AsyncRead + Unpin>, mut keep: impl FnMut(&[u8])) {
    let Some(mut stream) = stream else { return };
    let (mut buffer, mut all) = (vec![0; 1 << 16], 0);
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        keep(&buffer[..length]);
        all += length;
        if all > AT_ONCE {
            sleep(BREATH).await;
        }
    }
}

fn keep_first(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = OUTPUT_MAX - kept.len();
    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

fn keep_last(kept: &mut Vec<u8>, bytes: &[u8]) {
    kept.extend_from_slice(bytes);
    let excess = kept.len().saturating_sub(ERRORS_MAX);
    kept.drain(..excess);
}

/// The process group of a program that has not been waited for, so that its number is its own.
struct Group {
    leader: Option<Pid>,
    mark: String,
}

impl Group {
    fn led_by(child: &Child, mark: String) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Self { leader, mark }
    }

    fn forget(&mut self) {
        self.leader = None;
    }

    /// Kills it, and returns when that is done. To look through all processes of the machine takes a
    /// while, in which an async worker has other things to do.
    async fn end(mut self) {
        let Some(leader) = self.leader else { return };
        kill_group(leader);
        let mark = self.mark.clone();
        blocking(move || kill_marked(leader, &mark)).await;
        self.leader = None;
    }
}

/// Whoever waited for the program has stopped waiting, because the host goes down: what is not killed here
/// and now never is.
impl Drop for Group {
    fn drop(&mut self) {
        let Some(leader) = self.leader else { return };
        kill_group(leader);
        kill_marked(leader, &self.mark);
    }
}

fn kill_group(leader: Pid) {
    if let Err(error) = killpg(leader, Signal::SIGKILL) {
        tracing::debug!(%leader, %error, "could not kill a program and what it has started");
    }
}

/// Whoever has left the group may start others while it is looked for, so it is looked for until nobody
/// is found: each look ends all who were there before it. Blocks.
fn kill_marked(leader: Pid, mark: &str) {
    for _ in 0..LOOKS {
        let left = marked(mark);
        if left.is_empty() {
            return;
        }
        for pid in left {
            if let Err(error) = kill(pid, Signal::SIGKILL) {
                tracing::debug!(%pid, %error, "it has ended by itself");
            }
        }
    }
    tracing::warn!(%leader, "a program of the command channel has left processes that do not end");
}

/// How often is looked for what has left the group of a program that is killed.
const LOOKS: usize = 20;

/// The processes of this machine that were started with the mark, and have not ended.
fn marked(mark: &str) -> Vec<Pid> {
    let wanted = format!("{MARK}={mark}");
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // One that has ended, and that its parent has not taken note of, has no environment any more.
    let has_mark = |pid: &i32| {
        let process = rustix::process::Pid::from_raw(*pid);
        process
            .and_then(|process| proc::read(process, "environ").ok())
            .is_some_and(|all| all.split(|byte| *byte == 0).any(|it| it == wanted.as_bytes()))
    };
    pids.filter(has_mark).map(Pid::from_raw).collect()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// The one thread for work that blocks has something else to do at first: else it might be done
    /// before it is asked about.
    #[test]
    fn processes_are_looked_through_on_no_async_worker() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
        let (go_on, told) = std::sync::mpsc::channel();
        runtime.spawn_blocking(move || told.recv());
        runtime.block_on(end_of_a_group(|| go_on.send(()).unwrap()));
    }

    async fn end_of_a_group(go_on: impl FnOnce()) {
        let mark = SystemIds.uuid().to_string();
        let mut child = Command::new("sleep")
            .arg("600")
            .env(MARK, &mark)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut end = std::pin::pin!(Group::led_by(&child, mark.clone()).end());
        assert!(end.as_mut().now_or_never().is_none(), "the worker is free meanwhile");
        go_on();
        end.await;
        assert_eq!(child.wait().await.unwrap().signal(), Some(9));
        assert_eq!(marked(&mark), []);
    }
}
