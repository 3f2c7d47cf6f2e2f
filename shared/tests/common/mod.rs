//! What the tests of this folder share: an honest outbox, a picture of a folder, and second
//! processes. POSIX locks belong to a process, so whatever is said about locks needs another one:
//! the test binary runs itself again, with the role in the environment.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use twobox_shared::ids::{MessageId, RunnerId, SystemIds};
use twobox_shared::inbox::{NewMessage, Origin};
use twobox_shared::outbox::{Claim, NewRow, OutboxWriter};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

pub(crate) const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// Far longer than anything here takes, for what must end by itself.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) fn runner() -> RunnerId {
    RunnerId::generate(&SystemIds)
}

pub(crate) fn id(text: &str) -> MessageId {
    MessageId::parse(text).unwrap()
}

pub(crate) fn claim(message: &str, attempt: i64) -> Claim {
    Claim { message: id(message), attempt }
}

pub(crate) fn origin() -> Origin {
    Origin {
        channel_type: Some("terminal".into()),
        platform_id: Some("tty".into()),
        thread_id: None,
    }
}

pub(crate) fn row(row_id: &str, in_reply_to: &str) -> NewRow {
    NewRow {
        in_reply_to: Some(id(in_reply_to)),
        kind: "chat".into(),
        destination: origin(),
        content: format!(r#"{{"text":"{row_id}"}}"#),
        deliver_after: None,
        attempt: 0,
        id: id(row_id),
    }
}

pub(crate) fn message(message_id: &str, content: &str) -> NewMessage {
    NewMessage {
        id: id(message_id),
        kind: "chat".into(),
        content: content.into(),
        origin: origin(),
        trigger: true,
        process_after: None,
        source_session: None,
        run_id: None,
    }
}

/// An outbox with a claim on `m1` and one row, as an honest runner leaves it.
pub(crate) fn honest_outbox(path: &Path) {
    let mut outbox = OutboxWriter::open(path, runner()).unwrap();
    let claims = outbox.claim(&[claim("m1", 0)], NOW).unwrap();
    outbox.send(&claims, &row("r1", "m1"), Seq(2), NOW).unwrap();
}

/// Everything about a folder that a reader may not change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Picture(BTreeMap<PathBuf, (u32, u64, u64, Vec<u8>)>);

pub(crate) fn picture(folder: &Path) -> Picture {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        let bytes = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        (path, (meta.mode(), meta.nlink(), meta.ino(), bytes))
    });
    Picture(entries.collect())
}

/// Runs `work` and shows that it did not take longer than `limit`.
pub(crate) fn within<T>(limit: Duration, case: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let took = start.elapsed();
    assert!(took <= limit, "{case}: took {took:?}, limit {limit:?}");
    result
}

/// A second process of the test binary in the role `role`, which has said that it is ready.
pub(crate) struct Other {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

const ROLE: &str = "TWOBOX_TEST_ROLE";
const ARGUMENT: &str = "TWOBOX_TEST_ARGUMENT";

/// Starts a second process without waiting for it.
pub(crate) fn start(role: &str, argument: &Path) -> Other {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "second_process", "--nocapture"])
        .env(ROLE, role)
        .env(ARGUMENT, argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    Other { child, output }
}

/// Starts a second process that does something and then holds on to it.
pub(crate) fn hold(role: &str, argument: &Path) -> Other {
    let mut other = start(role, argument);
    let said = other.line();
    assert_eq!(said, "ready", "{role}");
    other
}

impl Other {
    /// The next thing that it says, which is marked, because the test harness talks as well.
    pub(crate) fn line(&mut self) -> String {
        self.line_or_end().expect("the second process ended without a word")
    }

    /// As [`Other::line`]; `None` when it has ended, or closed its output.
    pub(crate) fn line_or_end(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some((_, said)) = line.split_once("SAYS ") {
                return Some(said.trim_end().to_owned());
            }
        }
    }

    /// Lets it go.
    pub(crate) fn release(mut self) -> Self {
        drop(self.child.stdin.take());
        self
    }

    /// Lets it go, and waits until it is gone.
    pub(crate) fn finish(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the second process failed: {status}");
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Already gone after `finish` and `kill`; a failed test leaves nothing behind.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A name and what the second process does under it.
pub(crate) type Role = (&'static str, fn(&Path));

/// To be called by the test `second_process` of each binary: does nothing in the first process.
pub(crate) fn play(roles: &[Role]) {
    let Ok(role) = std::env::var(ROLE) else { return };
    let argument = PathBuf::from(std::env::var_os(ARGUMENT).unwrap());
    let (_, act) = roles.iter().find(|(name, _)| *name == role).expect("a known role");
    act(&argument);
}

pub(crate) fn say(what: impl std::fmt::Display) {
    println!("\nSAYS {what}");
}

/// Says that it is ready and waits until the first process lets go.
pub(crate) fn ready_and_wait() {
    say("ready");
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).unwrap();
}
