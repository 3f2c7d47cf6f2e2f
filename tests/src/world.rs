//! One installation: a data directory, its host, and what the host started.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::binaries::{binary, static_binary};
use crate::boxes::{self, Session};
use crate::chat::Chat;
use crate::container::Container;
use crate::faults::disk::{Part, SmallDisk};
use crate::ledger::Ledger;
use crate::promises::LEDGER;
use crate::scenario::Runtime;
use crate::setup::{Lifetime, Mode, Player, Setup};
use crate::wait::wait_for;

/// How many lines of a log are shown when a test has failed.
const LOG_LINES: usize = 150;

/// The upstreams of [`Setup::models_at`], and what they are shown.
const UPSTREAMS: [&str; 3] = ["anthropic", "openai", "router"];
const STAND_IN_KEY: &str = "sk-stand-in";

/// The program that records its turns.
const RECORDING_AGENT: &str = "recording-agent";

/// One installation. Everything of it is gone when it is dropped; if the test has failed, its logs
/// are printed first.
#[derive(Debug)]
pub struct World {
    runtime: Runtime,
    /// Unmounted before its place is removed.
    disk: Option<SmallDisk>,
    dir: TempDir,
    install: String,
    host: RefCell<Option<Child>>,
    /// What commands are started with, if not with the umask of the test.
    umask: Option<u32>,
    /// What they have open as descriptor 7, as if their shell had left it there.
    inherited: RefCell<Option<PathBuf>>,
    /// Where witnesses of this process write, if there are agents that are judged.
    pub(crate) ledger: Option<Arc<Ledger>>,
}

impl World {
    pub(crate) fn make(setup: Setup) -> Self {
        let dir =
            tempfile::Builder::new().prefix("twobox-test-").tempdir_in(&setup.parent).unwrap();
        let data = dir.path().join("data");
        let host = RefCell::default();
        let (runtime, install) = (setup.runtime, String::new());
        let umask = setup.umask;
        let mut world = Self {
            runtime,
            disk: None,
            dir,
            install,
            host,
            umask,
            inherited: RefCell::default(),
            ledger: None,
        };
        if let Some((Part::Everything, mib)) = setup.disk {
            fs::create_dir(&data).unwrap();
            world.disk = Some(SmallDisk::mount(&data, mib));
        }
        world.twobox(&["init", "--runtime", setup.runtime.word()]);
        let settings: Vec<String> =
            setup.settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        fs::write(data.join("twobox.toml"), settings.concat()).unwrap();
        if setup.stand_in {
            UPSTREAMS.iter().for_each(|upstream| world.set_secret(upstream, STAND_IN_KEY));
        }
        for (name, mode, player) in &setup.agents {
            match player {
                Player::Script(script) => world.add_agent(name, *mode, script),
                Player::Recording(lifetime) => world.add_recording_agent(name, *mode, *lifetime),
                Player::Model(model) => world.add_thinking_agent(name, *mode, model),
            }
        }
        world.install = boxes::install(&data);
        match setup.disk {
            Some((Part::Sessions, mib)) => {
                world.disk = Some(SmallDisk::mount(&data.join("sessions"), mib));
            }
            Some((Part::HostDb, mib)) => {
                let aside = world.dir.path().join("disk");
                fs::create_dir(&aside).unwrap();
                world.disk = Some(SmallDisk::mount(&aside, mib));
                let (here, there) = (data.join("host.db"), aside.join("host.db"));
                fs::copy(&here, &there).unwrap(); // nobody has it open, so there is no log beside it
                fs::remove_file(&here).unwrap();
                std::os::unix::fs::symlink(there, here).unwrap();
                world.twobox(&["init", "--moved"]); // as after any restore
            }
            Some((Part::Everything, _)) | None => {}
        }
        world
    }

    /// A copy of the data directory as it is now, with no host. It has the id of its original until
    /// it is given one of its own, so what is left of it is the original's to clean up:
    /// [`World::take_identity`] says otherwise.
    pub fn copied(&self) -> Self {
        let dir = tempfile::Builder::new().prefix("twobox-test-").tempdir().unwrap();
        let copy = Self {
            runtime: self.runtime,
            disk: None,
            dir,
            install: String::new(),
            host: RefCell::default(),
            umask: self.umask,
            inherited: RefCell::default(),
            ledger: None,
        };
        let status = Command::new("cp").arg("-a").args([self.data(), copy.data()]).status();
        assert!(status.unwrap().success());
        copy
    }

    /// Takes note of the id that the installation has now.
    pub fn take_identity(&mut self) {
        self.install = boxes::install(&self.data());
    }

    /// The runtime.
    pub fn runtime(&self) -> Runtime {
        self.runtime
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The small disk, for whoever asked for one.
    #[track_caller]
    pub fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().expect("a small disk")
    }

    /// A folder for what a test needs besides.
    pub fn aside(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves all files where they are, to be looked at, and says where.
    pub fn keep(&mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir.path().to_owned()
    }

    // The command line.

    fn command(&self, arguments: &[&str]) -> Command {
        let mask = self.umask.map(|mask| format!("umask {mask:04o}; "));
        let file = self.inherited.borrow();
        let file = file.as_ref().map(|file| format!("exec 7<'{}'; ", file.display()));
        let mut command = match (mask, file) {
            (None, None) => Command::new(binary("twobox")),
            (mask, file) => {
                let before = mask.unwrap_or_default() + &file.unwrap_or_default();
                let mut shell = Command::new("/bin/sh");
                shell.arg("-c").arg(before + "exec \"$0\" \"$@\"");
                shell.arg(binary("twobox"));
                shell
            }
        };
        let ours = std::env::vars_os().map(|(name, _)| name);
        for name in ours.filter(|name| name.as_encoded_bytes().starts_with(b"TWOBOX_")) {
            command.env_remove(name);
        }
        command.env("TZ", "UTC"); // a schedule without a zone is in the machine's
        command.arg("--data").arg(self.data()).args(arguments);
        command
    }

    /// Has every command from now on started with `file` open.
    pub fn inherit(&self, file: &Path) {
        self.inherited.replace(Some(file.to_owned()));
    }

    /// Runs `twobox` with these arguments to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// As [`World::run`], for what has to succeed. Returns what it printed.
    #[track_caller]
    pub fn twobox(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = [&output.stderr, &output.stdout].map(|said| String::from_utf8_lossy(said));
        assert!(output.status.success(), "twobox {arguments:?}: {}: {said:?}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts `twobox` with pipes.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    // Agents.

    /// Adds an agent that plays `script`.
    pub fn add_agent(&self, name: &str, mode: Mode, script: &Value) {
        let mode = mode.word();
        self.twobox(&["agents", "add", name, "--provider", "scripted", "--session-mode", mode]);
        self.set_script(name, script);
    }

    /// Keeps a secret, as a person does.
    #[track_caller]
    pub fn set_secret(&self, name: &str, value: &str) {
        let mut set = self.spawn(&["secrets", "set", name]);
        writeln!(set.stdin.take().unwrap(), "{value}").unwrap();
        assert!(set.wait().unwrap().success(), "secrets set {name}");
    }

    fn add_thinking_agent(&mut self, name: &str, mode: Mode, model: &str) {
        self.keep_ledger();
        let add = ["agents", "add", name, "--session-mode", mode.word(), "--model", model];
        self.twobox(&add);
    }

    fn keep_ledger(&mut self) {
        if self.ledger.is_none() {
            self.ledger = Some(Arc::new(Ledger::open(&self.aside().join(LEDGER)).unwrap()));
        }
    }

    fn add_recording_agent(&mut self, name: &str, mode: Mode, lifetime: Lifetime) {
        self.keep_ledger();
        let program = match self.runtime {
            Runtime::Process => binary(RECORDING_AGENT),
            // Its program folder is all that it can run of this machine.
            Runtime::Docker | Runtime::Sandbox => Path::new(".").join(RECORDING_AGENT),
        };
        let lifetime = match lifetime {
            Lifetime::Turn => "turn",
            Lifetime::Runner => "runner",
        };
        let add = ["agents", "add", name, "--provider", "command", "--session-mode", mode.word()];
        let rest = ["--lifetime", lifetime, "--", program.to_str().unwrap()];
        self.twobox(&[&add[..], &rest].concat());
        if self.runtime != Runtime::Process {
            let inside = self.program_folder(name).join(RECORDING_AGENT);
            fs::copy(static_binary(RECORDING_AGENT), inside).unwrap();
        }
    }

    /// The folder with what an agent is.
    pub fn program_folder(&self, name: &str) -> PathBuf {
        self.data().join("programs").join(name)
    }

    /// The folder that an agent's sessions share.
    pub fn agent_folder(&self, name: &str) -> PathBuf {
        self.data().join("groups").join(name)
    }

    /// Gives an agent another script. It counts from the next turn on.
    pub fn set_script(&self, name: &str, script: &Value) {
        replace(&self.program_folder(name).join("script.json"), &script.to_string());
    }

    /// Changes keys of an agent's configuration. It counts from the next turn on.
    pub fn configure_agent(&self, name: &str, changes: &Value) {
        let path = self.data().join("agents").join(name).with_extension("json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        replace(&path, &config.to_string());
    }

    /// Has an agent listen to `chat` of the `command` channel.
    #[track_caller]
    pub fn wire(&self, agent: &str, chat: &str) {
        self.twobox(&["wire", "add", agent, "command", chat]);
    }

    /// Hands in a message that was said in `chat` of the `command` channel. Returns when it is
    /// durable.
    #[track_caller]
    pub fn hand_in(&self, chat: &str, id: &str, text: &str) {
        self.twobox(&["send", "--channel", "command", "--chat", chat, "--id", id, text]);
    }

    // The host.

    /// Starts the host and waits until it answers.
    #[track_caller]
    pub fn up(&self) {
        self.up_with(&[]);
    }

    /// As [`World::up`], with more in the environment.
    #[track_caller]
    pub fn up_with(&self, env: &[(&str, &str)]) {
        self.start(env);
        wait_for("the host to answer", || {
            let ended = self.host.borrow_mut().as_mut().unwrap().try_wait().unwrap();
            assert_eq!(ended, None, "the host ended");
            (self.status()?["pid"] == self.host_pid()).then_some(())
        });
    }

    /// Starts the host without waiting for anything: it may die early.
    pub fn start(&self, env: &[(&str, &str)]) {
        assert!(self.host.borrow().is_none(), "a host is there already");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = self.command(&["up"]);
        command
            .env("TWOBOX_LOG", "info,twobox=debug")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0);
        *self.host.borrow_mut() = Some(command.spawn().unwrap());
    }

    /// What the host says about itself, if it answers.
    pub fn status(&self) -> Option<Value> {
        let mut stream = UnixStream::connect(self.data().join("host.sock")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(b"{\"op\":\"status\"}\n").ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        Some(serde_json::from_str::<Value>(&line).ok()?["status"].clone())
    }

    /// The host's process.
    pub fn host_pid(&self) -> u32 {
        self.host.borrow().as_ref().expect("a host").id()
    }

    fn signal_host(&self, signal: Signal) {
        kill(Pid::from_raw(self.host_pid().cast_signed()), signal).unwrap();
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill_host(&self) {
        self.signal_host(Signal::SIGKILL);
        self.wait_host_gone();
    }

    /// SIGTERM, and waits until it is gone.
    #[track_caller]
    pub fn stop_host(&self) {
        self.signal_host(Signal::SIGTERM);
        let status = self.wait_host_gone();
        assert!(status.success(), "the host ended with {status}");
    }

    /// SIGTERM, and nothing more.
    pub fn ask_host_to_stop(&self) {
        self.signal_host(Signal::SIGTERM);
    }

    /// Makes the host stand still.
    pub fn freeze_host(&self) {
        self.signal_host(Signal::SIGSTOP);
    }

    /// Lets the host go on.
    pub fn thaw_host(&self) {
        self.signal_host(Signal::SIGCONT);
    }

    /// Whether the host still runs.
    pub fn host_lives(&self) -> bool {
        self.host.borrow_mut().as_mut().expect("a host").try_wait().unwrap().is_none()
    }

    /// Waits until the host is gone by itself, and returns how it ended.
    #[track_caller]
    pub fn wait_host_gone(&self) -> ExitStatus {
        // It stays here until it has ended: a test that waits in vain leaves no host behind.
        let ended = wait_for("the host to be gone", || {
            self.host.borrow_mut().as_mut().expect("a host").try_wait().unwrap()
        });
        self.host.take();
        ended
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("host.log")
    }

    /// Everything that the hosts of this installation have logged.
    pub fn host_log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// How many containers the hosts of this installation say they have started.
    pub fn starts(&self) -> usize {
        self.host_log().matches("started a container").count()
    }

    // What is there.

    /// A person at a terminal with `agent`.
    #[track_caller]
    pub fn chat(&self, agent: &str) -> Chat {
        self.chat_in(agent, &[None])
    }

    /// A person who listens to several threads of `agent`.
    #[track_caller]
    pub fn chat_in(&self, agent: &str, threads: &[Option<&str>]) -> Chat {
        let socket = self.data().join("host.sock");
        let chat = Chat::begin(socket, agent, threads, self.ledger.clone());
        if self.host.borrow().is_some() {
            chat.wait_listening();
        }
        chat
    }

    /// All sessions.
    pub fn sessions(&self) -> Vec<Session> {
        boxes::sessions(&self.data())
    }

    /// The one session of an agent that has one for all.
    #[track_caller]
    pub fn session(&self, agent: &str) -> Session {
        let mut sessions = self.sessions();
        sessions.retain(|session| session.agent == agent);
        assert_eq!(sessions.len(), 1, "sessions of {agent}");
        sessions.remove(0)
    }

    /// Whether somebody has to look at a session, now or later, by the host's word.
    pub fn is_marked(&self, session: &Session) -> bool {
        boxes::marked(&self.data()).contains(&session.id)
    }

    /// The session of a thread.
    #[track_caller]
    pub fn session_in(&self, agent: &str, thread: &str) -> Session {
        let sessions = self.sessions();
        let found = sessions.into_iter().find(|it| it.agent == agent && it.thread == thread);
        found.unwrap_or_else(|| panic!("{agent} has no session for {thread:?}"))
    }

    /// The runners that live.
    pub fn containers(&self) -> Vec<Container> {
        Container::living(self.runtime, &self.install)
    }

    /// Shows that `fsck` finds nothing.
    #[track_caller]
    pub fn assert_fsck_clean(&self) {
        self.twobox(&["sessions", "fsck"]);
    }

    /// The one runner of a session, if it lives.
    pub fn container(&self, session: &Session) -> Option<Container> {
        let mut containers = self.containers();
        containers.retain(|container| container.session == session.id);
        assert!(containers.len() <= 1, "{containers:?}");
        containers.pop()
    }

    /// Waits until a session has a runner.
    #[track_caller]
    pub fn wait_container(&self, session: &Session) -> Container {
        wait_for("a container", || self.container(session))
    }

    /// Waits until no runner lives.
    #[track_caller]
    pub fn wait_no_containers(&self) {
        wait_for("all containers to be gone", || self.containers().is_empty().then_some(()));
    }

    /// Says something to `agent`, and waits until a runner works on it.
    #[track_caller]
    pub fn occupy(&self, chat: &Chat, agent: &str, text: &str) -> (String, Session, Container) {
        let id = chat.say(text);
        let session = self.session(agent);
        session.wait_claimed(&id);
        let container = self.container(&session).expect("whoever claimed it lives");
        (id, session, container)
    }

    /// Shows that a message was answered with exactly `text`, once, and delivered once to somebody
    /// who knows the keys that were shown.
    #[track_caller]
    pub fn assert_answered_once(&self, chat: &Chat, session: &Session, id: &str, text: &str) {
        chat.wait_answer(id);
        session.wait_settled();
        let texts: Vec<String> = chat.answers(id).into_iter().map(|letter| letter.text).collect();
        assert_eq!(texts, [text], "the answers to {id}");
        assert_eq!(session.message(id).status, "completed");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut host) = self.host.take() {
            // It may have ended by itself.
            host.kill().ok();
            host.wait().ok();
        }
        if !self.install.is_empty() {
            Container::remove_all(self.runtime, &self.install);
        }
        if std::thread::panicking() {
            print_log("the host", &self.log_path());
            for session in boxes::sessions(&self.data()) {
                let about = json!({ "session": session.id, "agent": session.agent });
                print_log(&format!("the runners of {about}"), &session.folder.join("runner.log"));
            }
        }
    }
}

/// Replaces a file as editors do.
fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, text).unwrap();
    fs::rename(fresh, path).unwrap();
}

fn print_log(whose: &str, path: &Path) {
    let Ok(log) = fs::read_to_string(path) else { return };
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(LOG_LINES);
    eprintln!("---- log of {whose}, from line {}", from + 1);
    lines[from..].iter().for_each(|line| eprintln!("{line}"));
    eprintln!("----");
}
