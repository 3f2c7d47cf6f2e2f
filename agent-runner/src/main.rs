//! `agent-runner`: the loop inside a container.
//!
//! It claims messages from an inbox that it cannot write, lets a provider answer them, and commits
//! replies and acks to an outbox that only it writes. It knows nothing about channels, containers,
//! `host.db` or its own supervision, and it has no async code: it has to stay small.

mod args;
mod ask;
mod confine;
mod drafts;
mod event;
mod exit;
mod family;
mod forward;
mod ground;
mod heartbeat;
mod host_socket;
mod http;
mod lock;
mod mcp;
mod outbox;
mod patience;
mod probe;
mod progress;
mod provider;
mod run;
mod say;
mod signals;
mod sse;
mod supervise;
mod tidy;
mod turn;
mod wake;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::{Arc, mpsc};

use twobox_shared::clock::SystemClock;
use twobox_shared::fault::{self, CrashPoint};

use args::{Asked, Options};
use exit::Exit;
use say::say;

fn main() -> ExitCode {
    twobox_shared::private::close_new_files();
    let options = match args::from_process() {
        Ok(Asked::Run(options)) => options,
        Ok(Asked::Probe(options)) => {
            if options.confine {
                confine::apply(&options);
            }
            say::print(&probe::report(&options.folders()));
            return ExitCode::SUCCESS;
        }
        Ok(Asked::Mcp(socket)) => {
            return match mcp::server::run(&socket) {
                true => ExitCode::SUCCESS,
                false => Exit::System.into(),
            };
        }
        Ok(Asked::McpOfOthers { folder, command }) => {
            let error = Command::new(&command[0]).args(&command[1..]).current_dir(folder).exec();
            say!("mcp: {} cannot be started: {error}", command[0].display());
            return Exit::System.into();
        }
        Ok(Asked::Print(text)) => {
            say::print(&text);
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            say!("{wrong} (see --help)");
            return Exit::Usage.into();
        }
    };
    match start(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.into(),
    }
}

/// Builds the pieces and runs the loop until there is a reason to leave.
fn start(options: &Options) -> Result<(), Exit> {
    heed_file_limit();
    options.durability.choose();
    if let Some(processes) = options.processes {
        limit_processes(processes);
    }
    if options.confine {
        supervise::begin().map_err(|error| {
            say!("could not leave anybody behind who ends what is left: {error}");
            Exit::System
        })?;
        confine::apply(options); // before the first thread, for a thread confines only its own
    }
    family::adopt();
    let _lock = lock::take(&options.paths.runner_lock())?;
    fault::point(CrashPoint::RunnerLocked);

    let (events, inbound) = mpsc::channel();
    let stop = signals::listen(events.clone())?;
    let ground = Arc::new(ground::Ground::take(&options.paths)?);
    let outbox = Arc::new(outbox::Outbox::new(options, ground));
    heartbeat::start(options, Arc::clone(&outbox))?;
    let watch = wake::watch(options.paths.in_dir(), events.clone());
    run::Runner::new(options, &SystemClock, outbox, stop, events, inbound, watch.is_some()).run()
}

/// A file that grows beyond the limit is an error where it is written, and no end of this process or of
/// what it starts: a program would take the turn with it, and its attempt.
fn heed_file_limit() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: to ignore a signal runs no code of ours.
    if let Err(error) = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) } {
        say!("a file beyond the limit ends this process: {error}");
    }
}

/// Has the kernel refuse more processes and threads of this user. In a sandbox these are the
/// sandbox's own; one that cannot be limited says so and works all the same.
fn limit_processes(most: u64) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let limited = getrlimit(Resource::RLIMIT_NPROC).and_then(|(_, hard)| {
        let most = most.min(hard);
        setrlimit(Resource::RLIMIT_NPROC, most, most)
    });
    if let Err(error) = limited {
        say!("--processes: not limited: {error}");
    }
}
