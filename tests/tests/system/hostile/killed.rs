//! The real host and the real runner, killed by SIGKILL inside their commits: while the journal that
//! would undo the commit lies beside the database.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use twobox_tests::{Chat, Setup, holds_for, on_process, wait_for};

use crate::scripts::{echo, slow};

on_process!(
    a_host_that_is_killed_inside_its_commits_loses_and_repeats_nothing,
    a_runner_that_is_killed_inside_its_commits_loses_and_repeats_nothing,
);

/// How many hot journals have to be seen, and how many messages may be needed for that.
const HOT: usize = 3;
const MESSAGES_MAX: usize = 60;

/// Waits for a hot journal, and kills a process at that moment.
struct Marksman {
    thread: JoinHandle<Option<bool>>,
    over: Arc<AtomicBool>,
}

impl Marksman {
    fn aim(at: PathBuf, process: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            while !is_hot(&at) {
                if told.load(Ordering::Relaxed) {
                    return None;
                }
            }
            kill(Pid::from_raw(process.cast_signed()), Signal::SIGKILL).unwrap();
            // One that is dead and not buried has no arguments any more.
            let arguments = format!("/proc/{process}/cmdline");
            while std::fs::read(&arguments).is_ok_and(|it| !it.is_empty()) {}
            Some(is_hot(&at))
        });
        Self { thread, over }
    }

    /// Waits for the shot, unless the answer is there before it. Whether the journal outlived the
    /// process; `None` if no commit was seen in time.
    fn shot(self, chat: &Chat, id: &str) -> Option<bool> {
        wait_for("a shot or an answer", || {
            (self.thread.is_finished() || !chat.answers(id).is_empty()).then_some(())
        });
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Whether SQLite has to roll something back before the database beside it can be read. The header's
/// first bytes are written when everything else in the journal is on the disk.
fn is_hot(journal: &Path) -> bool {
    let mut magic = [0; 8];
    let read = File::open(journal).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic != [0; 8]
}

fn journal_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-journal");
    PathBuf::from(name)
}

fn a_host_that_is_killed_inside_its_commits_loses_and_repeats_nothing(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("hello"), "echo: hello");
    let session = world.session("ada");
    session.wait_settled();
    let container = world.container(&session).expect("it waits for more");
    let journal = journal_of(&session.paths().inbound_db());
    let (mut hot, mut messages) = (0, 0);
    while hot < HOT {
        assert!(messages < MESSAGES_MAX, "only {hot} hot journals in {messages} messages");
        let marksman = Marksman::aim(journal.clone(), world.host_pid());
        let text = format!("message {messages}");
        let id = chat.hand_in(None, &text);
        messages += 1;
        let Some(hit) = marksman.shot(&chat, &id) else { continue };
        world.wait_host_gone();
        if hit {
            hot += 1;
            if hot == 1 {
                let span = Duration::from_millis(500);
                holds_for(span, "the runner waits and repairs nothing", || {
                    container.lives() && is_hot(&journal)
                });
            }
        }
        world.up();
        world.assert_answered_once(&chat, &session, &id, &format!("echo: {text}"));
        wait_for("the host to undo what it had begun", || (!journal.exists()).then_some(()));
    }
    assert_eq!(session.messages().len(), 1 + messages, "each stored once");
    assert_eq!(chat.letters().len(), 1 + messages, "each answered once");
    assert_eq!(world.container(&session), Some(container), "its runner has seen it all");
}

fn a_runner_that_is_killed_inside_its_commits_loses_and_repeats_nothing(setup: Setup) {
    let world = setup.agent("ada", slow(100)).up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("hello"), "echo: hello");
    let session = world.session("ada");
    let journal = journal_of(&session.paths().outbound_db());
    let (mut hot, mut messages) = (0, 0);
    while hot < HOT {
        assert!(messages < MESSAGES_MAX, "only {hot} hot journals in {messages} messages");
        session.wait_settled();
        // A shot that came after the answer has left nobody, and nothing to do.
        let container = wait_for("a container", || {
            let found = world.container(&session).filter(|container| container.lives());
            if found.is_none() {
                let again = chat.say("slow again");
                messages += 1;
                world.assert_answered_once(&chat, &session, &again, "echo: slow again");
            }
            found
        });
        let process: u32 = container.handle.parse().unwrap();
        let text = format!("slow {messages}");
        // Its claim is one commit and its answer another: each is hit by turns.
        let (id, marksman) = match messages % 2 {
            0 => {
                let marksman = Marksman::aim(journal.clone(), process);
                (chat.say(&text), marksman)
            }
            _ => {
                let id = chat.say(&text);
                session.wait_claimed(&id);
                (id, Marksman::aim(journal.clone(), process))
            }
        };
        hot += usize::from(marksman.shot(&chat, &id) == Some(true));
        messages += 1;
        world.assert_answered_once(&chat, &session, &id, &format!("echo: {text}"));
        let message = session.message(&id);
        assert!(message.tries <= 1 && message.forgiven == 0, "{message:?}");
    }
    assert_eq!(chat.letters().len(), 1 + messages, "each answered once");
    assert_eq!(world.session("ada").status, "active");
}
