//! A real host on a fresh data directory, and a client of its socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use twobox_shared::ids::{IdSource, SystemIds};

type Error = Box<dyn std::error::Error>;

const PATIENCE: Duration = Duration::from_secs(30);

/// A running `twobox up`; stopped, with its containers, when dropped.
pub(crate) struct Host {
    child: Child,
    socket: PathBuf,
}

impl Host {
    pub(crate) fn start(data: &Path, runtime: &str) -> Result<Self, Error> {
        Self::start_with(data, runtime, |_| Ok(()))
    }

    /// As [`Host::start`], after `prepare` has done what it wants with the command line.
    pub(crate) fn start_with(
        data: &Path,
        runtime: &str,
        prepare: impl FnOnce(&dyn Fn(&[&str]) -> Result<(), Error>) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let twobox = std::env::current_exe()?.with_file_name("twobox");
        let command = |verb: &[&str]| {
            let mut command = Command::new(&twobox);
            command.arg("--data").arg(data).args(verb).stdout(Stdio::null());
            command.env("TWOBOX_SHUTDOWN_CONTAINERS", "stop");
            command
        };
        if !command(&["init", "--runtime", runtime]).status()?.success() {
            return Err("twobox init failed".into());
        }
        prepare(&|verb| match command(verb).status()?.success() {
            true => Ok(()),
            false => Err(format!("twobox {verb:?} failed").into()),
        })?;
        let child = command(&["up"]).stderr(Stdio::null()).spawn()?;
        let host = Self { child, socket: data.join("host.sock") };
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(&host.socket).is_err() {
            if Instant::now() > deadline {
                return Err("the host did not answer".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(host)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A client that listens to the first agent.
    pub(crate) fn client(&self) -> Result<Client, Error> {
        self.client_of("assistant")
    }

    /// A client that listens to an agent.
    pub(crate) fn client_of(&self, agent: &str) -> Result<Client, Error> {
        let stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let lines = BufReader::new(stream.try_clone()?);
        let mut client = Client { agent: agent.to_owned(), lines, stream };
        client.send(&json!({ "op": "listen", "agent": agent }))?;
        client.wait_for(|event| event["event"] == "listening")?;
        Ok(client)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).expect("process ids fit");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("our child was not waited for yet");
        self.child.wait().expect("our child can be waited for");
    }
}

/// One connection to the host's socket.
pub(crate) struct Client {
    agent: String,
    stream: UnixStream,
    lines: BufReader<UnixStream>,
}

/// How long one message took.
pub(crate) struct Trip {
    pub(crate) accept: Duration,
    pub(crate) deliver: Duration,
}

impl Client {
    /// Says `text` and waits for the answer.
    pub(crate) fn round_trip(&mut self, text: &str) -> Result<Trip, Error> {
        let sent = Instant::now();
        let id = self.say(text)?;
        let accepted = Instant::now();
        let answer = self
            .wait_for(|event| event["event"] == "message" && event["in_reply_to"] == id.as_str())?;
        let delivered = Instant::now();
        self.send(&json!({ "op": "ack", "key": answer["key"] }))?;
        Ok(Trip { accept: accepted - sent, deliver: delivered - accepted })
    }

    /// Says `text`, waits until it is accepted, and returns its id.
    pub(crate) fn say(&mut self, text: &str) -> Result<String, Error> {
        let id = SystemIds.uuid().to_string();
        let agent = self.agent.clone();
        self.send(&json!({ "op": "message", "agent": agent, "id": id, "text": text }))?;
        self.wait_for(|event| event["event"] == "accepted")?;
        Ok(id)
    }

    fn send(&mut self, request: &Value) -> Result<(), Error> {
        self.stream.write_all(format!("{request}\n").as_bytes())?;
        Ok(())
    }

    fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value, Error> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line)? == 0 {
                return Err("the host closed the connection".into());
            }
            let event: Value = serde_json::from_str(&line)?;
            if wanted(&event) {
                return Ok(event);
            }
            if event["event"] == "refused" || event["event"] == "error" {
                return Err(event.to_string().into());
            }
        }
    }
}
