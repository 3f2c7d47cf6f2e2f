//! The host's part, played by a test: a session folder, and the real runner started on it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::Connection;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::content::{Chat, Failure};
use twobox_shared::ids::{MessageId, RunnerId, SystemIds};
use twobox_shared::inbox::{Destination, Inbox, NewMessage, Origin};
use twobox_shared::open::BoxError;
use twobox_shared::outbox::{Ack, AckStatus, OutRow, Source, UntrustedOutbox, read_untrusted};
use twobox_shared::paths::SessionPaths;
use twobox_shared::seq::Seq;
/// Longer than anything takes: a vendor's program has hundreds of megabytes, and is read from the disk at first.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const LABEL: &str = "0190a000-0000-7000-8000-000000000001";

pub(crate) struct Session {
    dir: tempfile::TempDir,
    pub(crate) paths: SessionPaths,
}

pub(crate) fn id(text: &str) -> MessageId {
    MessageId::parse(text).unwrap()
}

pub(crate) fn origin(thread: &str) -> Origin {
    Origin {
        channel_type: Some("terminal".into()),
        platform_id: Some("chat".into()),
        thread_id: Some(thread.into()),
    }
}

/// Waits until `look` finds something, or fails with what it was waited for.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Session {
    pub(crate) fn new() -> Self {
        let session = Self::without_inbox();
        drop(Inbox::open(&session.paths.inbound_db()).unwrap());
        session
    }

    pub(crate) fn without_inbox() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = SessionPaths::of_folder(dir.path());
        for folder in ["in", "out", "work", "program", "agent"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        Self { dir, paths }
    }

    pub(crate) fn scripted(script: &str) -> Self {
        let session = Self::new();
        session.configure(r#"{"provider": "scripted"}"#);
        session.program_file("script.json", script);
        session
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn program_file(&self, name: &str, text: &str) {
        std::fs::write(self.folder("program").join(name), text).unwrap();
    }

    /// Gives the agent its configuration.
    pub(crate) fn configure(&self, text: &str) {
        std::fs::write(self.paths.agent_config(), text).unwrap();
    }

    /// Accepts messages in one transaction.
    pub(crate) fn accept(&self, messages: &[NewMessage]) {
        accept_in(&self.paths.inbound_db(), messages);
    }

    pub(crate) fn say(&self, name: &str, text: &str) {
        self.accept(&[message(name, text)]);
    }

    pub(crate) fn charge(&self, name: &str, attempt: i64) {
        let mut inbox = Inbox::open(&self.paths.inbound_db()).unwrap();
        let tx = inbox.write().unwrap();
        assert!(tx.charge(&id(name), attempt, false, None).unwrap());
        tx.commit().unwrap();
    }

    /// Takes messages back, as a host does that is told to stop them.
    pub(crate) fn take_back(&self, names: &[&str]) {
        let mut inbox = Inbox::open(&self.paths.inbound_db()).unwrap();
        let tx = inbox.write().unwrap();
        for name in names {
            assert!(tx.withdraw(&id(name)).unwrap());
        }
        tx.commit().unwrap();
    }

    pub(crate) fn destination(&self, name: &str) {
        let mut inbox = Inbox::open(&self.paths.inbound_db()).unwrap();
        let tx = inbox.write().unwrap();
        let place = Destination {
            name: name.into(),
            channel_type: "terminal".into(),
            platform_id: "elsewhere".into(),
        };
        tx.project_routing(&origin("a"), &[place]).unwrap();
        tx.commit().unwrap();
    }

    /// The rows of the outbox, in order.
    pub(crate) fn rows(&self) -> Vec<OutRow> {
        self.read(|outbox| outbox.rows(Seq(0), Seq(1_000_000), 1000)).unwrap_or_default().rows
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.rows().iter().map(|row| row.chat().text).collect()
    }

    pub(crate) fn ack(&self, name: &str) -> Option<Ack> {
        let name = id(name);
        self.read(|outbox| outbox.acks([&name])).and_then(|mut acks| acks.remove(&name))
    }

    pub(crate) fn tool(&self) -> Option<String> {
        self.read(|outbox| outbox.tool()).and_then(|tool| tool.current)
    }

    /// `None` while there is no outbox, or its runner is in the middle of a commit.
    fn read<T>(&self, work: impl FnOnce(&UntrustedOutbox<'_>) -> Result<T, BoxError>) -> Option<T> {
        let path = self.paths.outbound_db();
        read_untrusted(&path, Source::Live, Duration::from_secs(2), work).ok().flatten()
    }

    pub(crate) fn wait_ack(&self, name: &str, status: AckStatus) -> Ack {
        wait_for(&format!("{name} to be {status:?}"), || {
            self.ack(name).filter(|ack| ack.status == status)
        })
    }

    pub(crate) fn wait_failed(&self, name: &str) -> Failure {
        self.wait_ack(name, AckStatus::Failed).failure.expect("a failed ack has a failure")
    }

    pub(crate) fn start(&self) -> Runner {
        self.start_with(&[])
    }

    pub(crate) fn start_with(&self, args: &[&str]) -> Runner {
        self.start_as(RunnerId::generate(&SystemIds), args, &[])
    }

    /// Starts one whose files may have so many bytes.
    pub(crate) fn start_limited(&self, bytes: u64) -> Runner {
        let runner = self.start_with(&[]);
        let pid = runner.child.id().to_string();
        let limit = format!("--fsize={bytes}");
        let set = Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap();
        assert!(set.success());
        runner
    }

    pub(crate) fn start_as(&self, runner: RunnerId, args: &[&str], env: &[(&str, &str)]) -> Runner {
        let stderr = self.dir.path().join(format!("stderr-{runner}"));
        let child = Command::new(env!("CARGO_BIN_EXE_agent-runner"))
            .args(["--install", LABEL, "--session", LABEL, "--runner", &runner.to_string()])
            .arg("--in")
            .arg(self.paths.in_dir())
            .arg("--out")
            .arg(self.paths.out_dir())
            .arg("--work")
            .arg(self.folder("work"))
            .arg("--program")
            .arg(self.folder("program"))
            .arg("--agent")
            .arg(self.folder("agent"))
            .args(["--idle-ms", "60000", "--grace-ms", "5000"])
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        Runner { child, runner, stderr }
    }
}

/// Accepts messages in one transaction, in the inbox at `path`.
pub(crate) fn accept_in(path: &Path, messages: &[NewMessage]) {
    let mut inbox = Inbox::open(path).unwrap();
    let tx = inbox.write().unwrap();
    for message in messages {
        tx.accept(message, Seq(0), SystemClock.now()).unwrap();
    }
    tx.commit().unwrap();
}

pub(crate) fn message(name: &str, text: &str) -> NewMessage {
    NewMessage {
        id: id(name),
        kind: "chat".into(),
        content: Chat::text(text).to_json(),
        origin: origin("a"),
        trigger: true,
        process_after: None,
        source_session: None,
        run_id: None,
    }
}

pub(crate) fn context(name: &str) -> NewMessage {
    NewMessage { trigger: false, ..message(name, "context") }
}

/// Leaves the database as one whose writer has died in a commit: copies it and its journal out of the
/// middle of a transaction, and puts both back after it.
pub(crate) fn leave_hot_journal(path: &Path) {
    let journal = path.with_extension("db-journal");
    let conn = Connection::open(path).unwrap();
    conn.pragma_update(None, "cache_size", 1).unwrap();
    conn.execute_batch("BEGIN IMMEDIATE; CREATE TABLE junk (value)").unwrap();
    for _ in 0..200 {
        conn.execute("INSERT INTO junk VALUES (?1)", ["v".repeat(1000)]).unwrap();
    }
    conn.cache_flush().unwrap();
    let (saved, saved_journal) = (std::fs::read(path).unwrap(), std::fs::read(&journal).unwrap());
    drop(conn);
    std::fs::write(path, saved).unwrap();
    std::fs::write(journal, saved_journal).unwrap();
}

/// A started runner; killed when the test ends.
pub(crate) struct Runner {
    child: Child,
    pub(crate) runner: RunnerId,
    stderr: PathBuf,
}

impl Runner {
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    pub(crate) fn running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end: exit code (`None` for a signal) and standard error.
    pub(crate) fn end(&mut self) -> (Option<i32>, String) {
        let status = wait_for("the runner to leave", || self.child.try_wait().unwrap());
        (status.code(), self.stderr())
    }

    /// What it has said so far.
    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap()
    }

    /// SIGTERM, and the end.
    pub(crate) fn stop(mut self) -> String {
        self.terminate();
        let (code, stderr) = self.end();
        assert_eq!(code, Some(0), "{stderr}");
        stderr
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)
}
