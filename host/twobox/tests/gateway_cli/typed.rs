//! What a person types at a terminal: keys, and what `init` asks.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::{command, initialised, json_of, ok, twobox, upstream};

/// A terminal, with somebody at its keys.
pub(crate) struct Terminal {
    slave: OwnedFd,
    keys: File,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        let pty = nix::pty::openpty(None, None).unwrap();
        let close = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
        nix::fcntl::fcntl(&pty.master, close).unwrap();
        let keys = File::from(pty.master);
        let shown: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (mut screen, theirs) = (keys.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                theirs.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { slave: pty.slave, keys, shown }
    }

    pub(crate) fn run(
        &self,
        data: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Child {
        let end = || Stdio::from(self.slave.try_clone().unwrap());
        let mut command = command(data, arguments);
        command.env_remove("ANTHROPIC_API_KEY").env_remove("OPENAI_API_KEY");
        command.envs(environment.iter().copied());
        command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap()
    }

    /// What was shown since the last [`Terminal::clear`].
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    fn clear(&self) {
        self.shown.lock().unwrap().clear();
    }

    fn echoes(&self) -> bool {
        let modes = tcgetattr(&self.slave).unwrap().local_flags;
        modes.contains(LocalFlags::ECHO | LocalFlags::ICANON)
    }

    #[track_caller]
    pub(crate) fn wait(&self, what: &str, wanted: impl Fn() -> bool) {
        let come = (0..1500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            wanted()
        });
        assert!(come, "{what}: {}", self.shown());
    }

    /// Waits for a question and answers it.
    #[track_caller]
    pub(crate) fn answer(&mut self, question: &str, typed: &str) {
        self.wait(question, || self.shown().contains(question));
        self.clear();
        self.keys.write_all(typed.as_bytes()).unwrap();
    }

    /// The same where nothing of what is typed may be shown.
    #[track_caller]
    pub(crate) fn answer_hidden(&mut self, question: &str, typed: &str) {
        self.wait(question, || self.shown().contains(question));
        self.wait("it is mute", || !self.echoes());
        self.clear();
        self.keys.write_all(typed.as_bytes()).unwrap();
    }
}

#[test]
fn a_secret_that_is_typed_is_not_shown_and_the_terminal_is_as_before() {
    let (_dir, data) = initialised();
    let mut terminal = Terminal::new();
    for (typed, code) in [("sk-hiddenX\u{7f}\r", 0), ("sk-other\u{3}", 1)] {
        let mut child = terminal.run(&data, &["secrets", "set", "router"], &[]);
        terminal.answer_hidden("Enter", typed);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{typed:?}");
        assert!(terminal.echoes(), "{typed:?}");
        assert!(!terminal.shown().contains("sk-"), "{typed:?}");
        terminal.clear();
    }
    let kept = std::fs::read_to_string(data.join("secrets/router")).unwrap();
    assert_eq!(kept, "sk-hidden\n", "what was cancelled changed nothing");
}

/// An installation that is not made yet, whose vendor is at `address`.
fn towards(address: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let settings =
        format!("runtime = 'process'\n[gateway.upstreams.anthropic]\nbase_url = '{address}'\n");
    std::fs::write(data.join("twobox.toml"), settings).unwrap();
    (dir, data)
}

/// The provider of the first agent.
fn provider(data: &Path) -> serde_json::Value {
    let said = json_of(&twobox(data, &["--json", "agents", "show", "assistant"]));
    said["config"]["provider"].clone()
}

const WHO: &str = "a number, or Enter for an echo for now:";
const WHICH: &str = "which model?";
const LIST: &str = r#"{"data":[{"id":"large"},{"id":"small"}]}"#;

/// The number of the line that offers `what`.
fn number_of(shown: &str, what: &str) -> String {
    let line = shown.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{shown}"));
    line.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn init_asks_who_answers_and_keeps_only_a_key_that_works() {
    let refused = r#"{"error":{"message":"invalid x-api-key"}}"#;
    let (address, serving) = upstream(vec![("401 Unauthorized", refused), ("200 OK", LIST)]);
    let (_dir, data) = towards(&address);
    let mut terminal = Terminal::new();
    let mut child = terminal.run(&data, &["init"], &[]);
    terminal.wait(WHO, || terminal.shown().contains(WHO));
    let shown = terminal.shown();
    assert!(shown.contains("anthropic, which wants a key"), "{shown}");
    let number = number_of(&shown, "anthropic");
    for (typed, told) in
        [("99", "there is no 99"), ("-1", "there is no -1"), ("antropic", "antropic")]
    {
        terminal.answer(WHO, &format!("{typed}\n"));
        terminal
            .wait(told, || terminal.shown().contains(&format!("{told}: type a number from 1 to")));
        terminal.wait("the question again", || terminal.shown().contains(WHO));
    }
    terminal.answer(WHO, &format!("{number}\n"));
    terminal.answer_hidden("the key of anthropic", "sk-wrong\r");
    terminal.wait("the refusal", || terminal.shown().contains("the key was not kept"));
    assert!(terminal.shown().contains("invalid x-api-key"), "{}", terminal.shown());
    assert!(!data.join("secrets/anthropic").exists());
    terminal.answer_hidden("the key of anthropic", "sk-right\r");
    terminal.wait(WHICH, || terminal.shown().contains(WHICH));
    let shown = terminal.shown();
    assert!(shown.contains("the key works") && shown.contains("2  small"), "{shown}");
    terminal.answer(WHICH, "3\n");
    terminal.wait("what there is", || {
        terminal.shown().contains("there is no 3: type a number from 1 to 2")
    });
    terminal.wait("the question again", || terminal.shown().contains(WHICH));
    terminal.answer(WHICH, "smal\n");
    terminal.answer("anthropic does not list smal. Use it all the same?", "\n");
    terminal.answer(WHICH, "2\n");
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", terminal.shown());
    assert!(!terminal.shown().contains("sk-"), "{}", terminal.shown());
    assert_eq!(provider(&data)["model"], "anthropic/small");
    assert_eq!(std::fs::read_to_string(data.join("secrets/anthropic")).unwrap(), "sk-right\n");
    let asked = serving.join().unwrap();
    assert!(asked[0].contains("sk-wrong") && asked[1].contains("sk-right"));

    // The agent is there, and nobody is asked again.
    let mut again = terminal.run(&data, &["init"], &[]);
    assert_eq!(again.wait().unwrap().code(), Some(0));
    assert_eq!(provider(&data)["model"], "anthropic/small");
}

#[test]
fn init_takes_the_key_of_the_environment_if_it_may_and_a_name_that_is_typed() {
    let (address, serving) = upstream(vec![("200 OK", LIST)]);
    let (_dir, data) = towards(&address);
    let mut terminal = Terminal::new();
    let mut child = terminal.run(&data, &["init"], &[("ANTHROPIC_API_KEY", "sk-given")]);
    terminal.wait(WHO, || terminal.shown().contains(WHO));
    let number = number_of(&terminal.shown(), "anthropic");
    terminal.answer(WHO, &format!("{number}\n"));
    terminal.answer("use the key in ANTHROPIC_API_KEY?", "maybe\n");
    terminal.wait("what may be said", || terminal.shown().contains("neither yes nor no"));
    terminal.answer("use the key in ANTHROPIC_API_KEY?", "\n");
    terminal.answer(WHICH, "another-one\n");
    terminal.answer("Use it all the same?", "y\n");
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", terminal.shown());
    assert_eq!(provider(&data)["model"], "anthropic/another-one");
    assert!(serving.join().unwrap()[0].contains("sk-given"));
}

#[test]
fn init_tries_the_same_key_again_where_the_upstream_does_not_answer() {
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_dir, data) = towards(&format!("http://{nowhere}"));
    let mut terminal = Terminal::new();
    let mut child = terminal.run(&data, &["init"], &[]);
    terminal.answer(WHO, "anthropic\n");
    terminal.answer_hidden("the key of anthropic", "sk-right\r");
    terminal.answer("try again? Enter for yes, n for no:", "\n");
    terminal.wait("it is asked again", || terminal.shown().contains("try again?"));
    assert!(!terminal.shown().contains("the key of anthropic"), "{}", terminal.shown());
    terminal.answer("try again?", "n\n");
    terminal.answer(WHO, "\n");
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", terminal.shown());
    assert!(!data.join("secrets/anthropic").exists(), "a key that nobody tried is not kept");
}

#[test]
fn init_leaves_an_echo_where_nobody_is_chosen_or_nobody_can_be_asked() {
    let (_dir, data) = towards("http://127.0.0.1:9");
    let mut terminal = Terminal::new();
    let mut child = terminal.run(&data, &["init"], &[]);
    terminal.answer(WHO, "\n");
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", terminal.shown());
    assert_eq!(provider(&data), "echo");

    let (_dir, data) = towards("http://127.0.0.1:9");
    let mut child = terminal.run(&data, &["init"], &[]);
    terminal.answer(WHO, "\u{4}");
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", terminal.shown());
    let told = "the input ended before a model was chosen";
    terminal.wait(told, || terminal.shown().contains(told));
    assert_eq!(provider(&data), "echo");

    let (_dir, data) = towards("http://127.0.0.1:9");
    ok(&twobox(&data, &["init"]));
    assert_eq!(provider(&data), "echo");
}
