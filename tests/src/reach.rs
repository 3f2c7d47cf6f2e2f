//! What an agent tries to reach: each try is carried out by the program `attacker` where agents run,
//! and says whether it succeeded. Nothing here aims at anything but this machine.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// One thing that an agent tries. Paths and numbers are those of the host, unless they say otherwise.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Try {
    /// To read a file.
    Read(PathBuf),
    /// To list a folder.
    List(PathBuf),
    /// To open a file for writing, without writing.
    Write(PathBuf),
    /// To make a file in a folder.
    Create(PathBuf),
    /// To open a device, for reading or for writing.
    Device(PathBuf),
    /// To see the arguments of a process.
    See(i32),
    /// To be allowed to signal a process. It is sent nothing.
    Signal(i32),
    /// To read the environment of a process, which takes the right to trace it.
    Trace(i32),
    /// To have the host answer at its socket.
    Ask(PathBuf),
    /// To have the API answer at its socket.
    Http(PathBuf),
    /// To connect to a unix socket.
    Connect(PathBuf),
    /// To connect to an abstract unix socket.
    Abstract(String),
    /// To connect to a port of this machine.
    Tcp(u16),
    /// To have a capability now, or to be able to get one.
    Capability,
}

impl Try {
    /// Whether it succeeds here.
    pub fn succeeds(&self) -> bool {
        match self {
            Self::Read(path) => fs::read(path).is_ok(),
            Self::List(path) => {
                fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
            }
            Self::Write(path) => OpenOptions::new().append(true).open(path).is_ok(),
            Self::Create(path) => {
                let path = path.join("made-by-an-attacker");
                let made = fs::File::create_new(&path).is_ok();
                made && fs::remove_file(path).is_ok()
            }
            Self::Device(path) => {
                let open = |write: bool| OpenOptions::new().read(!write).write(write).open(path);
                open(false).is_ok() || open(true).is_ok()
            }
            Self::See(pid) => {
                fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| is_hosts(&line))
            }
            Self::Signal(pid) => kill(Pid::from_raw(*pid), None).is_ok(),
            Self::Trace(pid) => fs::read(format!("/proc/{pid}/environ")).is_ok(),
            Self::Ask(path) => {
                ask(path, "{\"op\":\"status\"}\n", "\"status\":").unwrap_or_default()
            }
            Self::Http(path) => {
                ask(path, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", "200 OK")
                    .unwrap_or_default()
            }
            Self::Connect(path) => UnixStream::connect(path).is_ok(),
            Self::Abstract(name) => SocketAddr::from_abstract_name(name)
                .and_then(|address| UnixStream::connect_addr(&address))
                .is_ok(),
            Self::Tcp(port) => {
                TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, *port).into(), PATIENCE).is_ok()
            }
            Self::Capability => capable(),
        }
    }
}

/// In a container the number may be that of another process, such as this one.
fn is_hosts(cmdline: &[u8]) -> bool {
    let mut arguments = cmdline.split(|byte| *byte == 0);
    arguments.next().is_some_and(|program| program.ends_with(b"/twobox"))
}

/// Whether the first line of the answer to `question` has `word` in it.
fn ask(path: &Path, question: &str, word: &str) -> std::io::Result<bool> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(question.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.contains(word))
}

fn capable() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let none = |name: &str| field(name).is_some_and(|set| set.trim().chars().all(|it| it == '0'));
    let sets = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"];
    !sets.into_iter().all(none) || field("NoNewPrivs:").is_none_or(|it| it.trim() != "1")
}
