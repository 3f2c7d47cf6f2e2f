//! A data directory of the product's own making, and the host that works on it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;
use twobox_shared::paths::SessionPaths;
use twobox_tests::Runtime;

use crate::client::{self, Address, Client, PATIENCE};
use crate::{Error, process};

/// An agent with a session for each thread, which says everything again.
pub(crate) const CROWD: &str = "crowd";

/// A fresh installation; gone when dropped.
pub(crate) struct Installation {
    dir: TempDir,
    settings: Vec<(String, String)>,
    id: String,
}

impl Installation {
    /// With the product's settings, but for places: no figure is about waiting for one.
    pub(crate) fn new(runtime: Runtime) -> Result<Self, Error> {
        Self::below(&std::env::temp_dir(), runtime)
    }

    /// As [`Installation::new`], in a folder of its own in `parent`.
    pub(crate) fn below(parent: &Path, runtime: Runtime) -> Result<Self, Error> {
        let dir = tempfile::Builder::new().prefix("twobox-bench-").tempdir_in(parent)?;
        let mut new = Self { dir, settings: Vec::new(), id: String::new() };
        new.set("SHUTDOWN_CONTAINERS", "stop");
        new.set("CONTAINERS_MAX_RUNNING", "1000");
        new.set("LIMITS_NEW_SESSIONS_PER_HOUR", "1000000");
        if runtime == Runtime::Docker {
            new.set("CONTAINERS_IMAGE", &twobox_tests::image()?);
        }
        new.twobox(&["init", "--runtime", runtime.word()])?;
        new.twobox(&[
            "agents",
            "add",
            CROWD,
            "--provider",
            "echo",
            "--session-mode",
            "per-thread",
        ])?;
        new.id =
            new.host_db()?.query_row("SELECT install_id FROM install", [], |row| row.get(0))?;
        Ok(new)
    }

    /// Sets a key, by the name of its variable without `TWOBOX_`.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.settings.push((format!("TWOBOX_{key}"), value.to_owned()));
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A folder on the same disk.
    pub(crate) fn aside(&self) -> &Path {
        self.dir.path()
    }

    /// For looking only, unless the host is down.
    pub(crate) fn host_db(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(self.data().join("host.db"), flags)
    }

    fn command(&self, arguments: &[&str]) -> Result<Command, Error> {
        let twobox = std::env::current_exe()?.with_file_name("twobox");
        let mut command = Command::new(twobox);
        let ours = std::env::vars_os().map(|(name, _)| name);
        for name in ours.filter(|name| name.as_encoded_bytes().starts_with(b"TWOBOX_")) {
            command.env_remove(name);
        }
        command.env("TWOBOX_API_LISTEN", ""); // not measured, and only one host has the address
        command.envs(self.settings.iter().cloned());
        command.arg("--data").arg(self.data()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }

    pub(crate) fn twobox(&self, arguments: &[&str]) -> Result<(), Error> {
        let output = self.command(arguments)?.stderr(Stdio::piped()).output()?;
        match output.status.success() {
            true => Ok(()),
            false => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                Err(format!("twobox {arguments:?} failed: {said}").into())
            }
        }
    }

    /// Starts the host and waits until it answers.
    pub(crate) fn up(&self) -> Result<Host<'_>, Error> {
        let log = std::fs::File::create(self.dir.path().join("host.log"))?;
        let began = Instant::now();
        let child = self.command(&["up"])?.stderr(log).spawn()?;
        let mut host = Host { installation: self, child, start: Duration::ZERO };
        let socket = host.socket();
        wait_for("the host to answer", || match host.child.try_wait()? {
            Some(status) => Err(format!("the host ended with {status}").into()),
            None => Ok(UnixStream::connect(&socket).is_ok().then_some(())),
        })?;
        host.start = began.elapsed();
        Ok(host)
    }

    /// The folder of the session with `to`.
    pub(crate) fn session(&self, to: &Address) -> Result<SessionPaths, Error> {
        let select = "SELECT s.agent_group_id, s.id FROM sessions s
                      JOIN agent_groups g ON g.id = s.agent_group_id
                      WHERE g.name = ?1 AND s.thread_id = ?2";
        let thread = to.thread.clone().unwrap_or_default();
        let (group, id): (String, String) =
            self.host_db()?
                .query_row(select, (to.agent, thread), |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(SessionPaths::of_folder(&self.data().join("sessions").join(group).join(id)))
    }

    /// Waits until no session has anything to do and no runner lives.
    pub(crate) fn wait_at_rest(&self) -> Result<(), Error> {
        let db = self.host_db()?;
        let select = "SELECT count(*) FROM sessions
                      WHERE runner_id IS NOT NULL OR next_due_at_ms IS NOT NULL";
        wait_for("all sessions to be at rest", || {
            let busy: i64 = db.query_row(select, [], |row| row.get(0))?;
            Ok((busy == 0).then_some(()))
        })
    }

    /// The processes of the runners.
    pub(crate) fn runners(&self) -> Result<Vec<u32>, Error> {
        process::runners(&self.id)
    }
}

/// A running `twobox up`; stopped, with its containers, when dropped.
pub(crate) struct Host<'a> {
    installation: &'a Installation,
    child: Child,
    start: Duration,
}

impl Host<'_> {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How long it took from the start of the process until the socket answered.
    pub(crate) fn start(&self) -> Duration {
        self.start
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.installation.data().join("host.sock")
    }

    /// Asks the HTTP API for `path`, as somebody who knows the token.
    pub(crate) fn ask_api(&self, path: &str) -> Result<(), Error> {
        let address = client::api(&self.socket())?;
        let token = std::fs::read_to_string(self.installation.data().join("api.token"))?;
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
             connection: close\r\n\r\n",
            token.trim()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.starts_with("HTTP/1.1 200 ") {
            true => Ok(()),
            false => Err(format!("the API does not give {path}: {answer}").into()),
        }
    }

    /// A conversation with the first agent, in which so many messages went to and fro already.
    pub(crate) fn warm_client(&self, rounds: usize) -> Result<(Client, Address), Error> {
        let to = Address { agent: "assistant", thread: None };
        let mut client = Client::connect(&self.socket(), to.clone())?;
        for round in 0..rounds {
            client.round_trip(&format!("warm-up {round}"))?;
        }
        Ok((client, to))
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).expect("process ids fit");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("our child was not waited for yet");
        let left = wait_for("the host to leave", || Ok(self.child.try_wait()?));
        if let Err(error) = left {
            eprintln!("bench: {error}");
            self.child.kill().expect("our child was not waited for yet");
            self.child.wait().expect("our child can be waited for");
        }
    }
}

/// Waits until `look` finds something.
pub(crate) fn wait_for<T>(
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > end {
            return Err(format!("waited {PATIENCE:?} for {what}").into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
