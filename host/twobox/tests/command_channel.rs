//! The `command` channel with real programs: small shell scripts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use twobox_model::channel::{Address, Outbound, Outcome, Shelf};

use serde_json::{Value, json};
use twobox_channels::Channel;
use twobox_channels::command::{CommandChannel, usable};
use twobox_channels::kinds::{self, Setup};
use twobox_channels::parts::{Journal, MemoryJournal};
use twobox_config::Channels;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::ids::MessageId;

/// A deadline that only something that hangs reaches.
const LONG: Duration = Duration::from_secs(60);

struct Post {
    dir: tempfile::TempDir,
    channel: CommandChannel,
}

impl Post {
    fn new(script: &str) -> Self {
        Self::with(script, false, LONG)
    }

    fn with(script: &str, keys: bool, patience: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        write_program(&program, script);
        let channels = Channels {
            command: program.to_str().unwrap().to_owned(),
            command_keys: keys,
            command_timeout: patience,
            ..config()
        };
        let settings = &channels.all()["command"];
        let name_of = |setting: &str| channels.name_of("command", setting);
        let scratch = dir.path().join("letters");
        let (id, folder) = ("command", dir.path());
        let (name_of, scratch) = (&name_of, &scratch);
        let (secrets, journal) = (no_secrets(), nothing_sent());
        let setup =
            Setup { id, settings, name_of, folder, scratch, secrets, journal, file_max: 20 << 20 };
        let channel = CommandChannel::new(&setup).unwrap();
        Self { dir, channel }
    }

    async fn deliver(&self, texts: &[&str]) -> Vec<Outcome> {
        let outbounds = texts.iter().map(|text| outbound(text)).collect();
        self.channel.deliver(&address(), outbounds).await
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    async fn wait_file(&self, name: &str) -> String {
        for _ in 0..3000 {
            let text = self.file(name);
            if text.ends_with('\n') {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} was not written within 30 s");
    }
}

fn write_program(path: &Path, script: &str) {
    // Written under another name: a file that is open for writing cannot be run.
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&fresh, PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::rename(&fresh, path).unwrap();
}

fn address() -> Address {
    Address {
        channel_type: "command".to_owned(),
        platform_id: "room \"1\"".to_owned(),
        thread_id: Some("t".to_owned()),
    }
}

fn outbound(text: &str) -> Outbound {
    Outbound {
        key: format!("install:session:{text}"),
        in_reply_to: Some(MessageId::parse("q2").unwrap()),
        answers: ["q1", "q2"].map(|id| MessageId::parse(id).unwrap()).to_vec(),
        text: text.to_owned(),
        files: vec!["plan.pdf".to_owned()],
        shelf: None,
        failed: false,
        prompt: None,
    }
}

fn delivered() -> Outcome {
    Outcome::Delivered { platform_message_id: None }
}

fn transient(error: &str) -> Outcome {
    Outcome::Transient { error: error.to_owned(), retry_after: None }
}

#[tokio::test]
async fn the_program_reads_one_json_object_and_names_the_platforms_id() {
    let post = Post::new("cat > told; echo '{\"platform_message_id\": \"m7\"}'");
    let outcomes = post.deliver(&["two\nlines \u{1f9ed} $(rm -rf .)"]).await;
    assert_eq!(outcomes, [Outcome::Delivered { platform_message_id: Some("m7".to_owned()) }]);
    let told = post.file("told");
    assert_eq!(told.matches('\n').count(), 1, "one line");
    let told: Value = serde_json::from_str(&told).unwrap();
    let expected = json!({
        "key": "install:session:two\nlines \u{1f9ed} $(rm -rf .)",
        "chat": "room \"1\"",
        "thread": "t",
        "text": "two\nlines \u{1f9ed} $(rm -rf .)",
        "files": ["plan.pdf"], "attachments": [], "failed": false,
        "in_reply_to": "q2",
        "answers": ["q1", "q2"],
    });
    assert_eq!(told, expected);
}

#[tokio::test]
async fn exit_codes_and_last_words_reach_the_host() {
    let later = Some(Duration::from_secs(3));
    let cases = [
        ("exit 0", delivered()),
        ("echo nonsense", delivered()),
        ("echo slow down >&2; exit 75", transient("slow down")),
        (
            "echo '{\"retry_after_secs\": 3}'; echo slow down >&2; exit 75",
            Outcome::Transient { error: "slow down".to_owned(), retry_after: later },
        ),
        (
            "echo first >&2; echo no such room >&2; echo >&2; exit 1",
            Outcome::Permanent { error: "no such room".to_owned() },
        ),
        ("kill -9 $$", Outcome::Uncertain { error: "the program was killed by signal 9".into() }),
    ];
    for (script, expected) in cases {
        assert_eq!(Post::new(script).deliver(&["x"]).await, [expected], "{script}");
    }
}

#[tokio::test]
async fn outbounds_go_one_after_the_other_up_to_the_first_that_does_not_arrive() {
    let post = Post::new(
        "line=$(cat); printf '%s\\n' \"$line\" >> told; case $line in *wait*) exit 75; esac",
    );
    let outcomes = post.deliver(&["one", "two", "wait", "four"]).await;
    let again = transient("the program asks to be run again (exit code 75)");
    assert_eq!(outcomes, [delivered(), delivered(), again]);
    let texts: Vec<Value> = post
        .file("told")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["text"].take())
        .collect();
    assert_eq!(texts, ["one", "two", "wait"]);
}

#[tokio::test]
async fn it_runs_in_the_given_folder_with_a_short_environment_and_a_group_of_its_own() {
    let post = Post::new(
        "pwd > folder; env | cut -d= -f1 | sort > names; cut -d' ' -f1,5 /proc/$$/stat > group",
    );
    assert_eq!(post.deliver(&["x"]).await, [delivered()]);
    let folder = PathBuf::from(post.file("folder").trim());
    assert_eq!(folder.canonicalize().unwrap(), post.dir.path().canonicalize().unwrap());
    // The shell adds some of its own.
    let known = ["HOME", "LANG", "OLDPWD", "PATH", "PWD", "SHLVL", "TWOBOX_RUN", "_"];
    let names = post.file("names");
    assert!(names.lines().any(|name| name == "PATH"), "{names}");
    assert!(names.lines().all(|name| known.contains(&name)), "{names}");
    let group = post.file("group");
    let numbers: Vec<&str> = group.split_whitespace().collect();
    assert_eq!(numbers[0], numbers[1], "it leads its group");
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_everything_that_it_started() {
    for (keys, expected) in [
        (false, Outcome::Uncertain { error: "the program was killed after 1s".into() }),
        (true, transient("the program was killed after 1s")),
    ] {
        let script = "sleep 600 & echo $! > child; echo $$ > leader; wait";
        let post = Post::with(script, keys, Duration::from_secs(1));
        assert_eq!(post.deliver(&["x"]).await, [expected]);
        for name in ["leader", "child"] {
            wait_gone(post.file(name).trim()).await;
        }
    }
}

#[tokio::test]
async fn a_program_that_nobody_waits_for_any_more_is_killed_with_everything_that_it_started() {
    let post = Post::new("sleep 600 & echo $! > child; echo $$ > leader; wait");
    {
        let delivering = post.deliver(&["x"]);
        tokio::select! {
            outcomes = delivering => panic!("it ended with {outcomes:?}"),
            _ = post.wait_file("leader") => {}
        }
    }
    for name in ["leader", "child"] {
        wait_gone(post.wait_file(name).await.trim()).await;
    }
}

#[tokio::test]
async fn so_many_programs_run_at_once_and_further_outbounds_wait() {
    const RUNNING_MAX: usize = 16;
    let post = Post::new("echo x >> started; while [ ! -e go ]; do sleep 0.05; done");
    let started = || post.file("started").lines().count();
    let deliveries = (0..RUNNING_MAX + 4).map(|_| post.deliver(&["x"]));
    let watching = async {
        while started() < RUNNING_MAX {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Nothing tells that one more does not start: it would within this time.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(started(), RUNNING_MAX);
        std::fs::write(post.dir.path().join("go"), "").unwrap();
    };
    let all = async { tokio::join!(futures_util::future::join_all(deliveries), watching).0 };
    let outcomes = tokio::time::timeout(LONG, all).await.unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == [delivered()]), "{outcomes:?}");
    assert_eq!(started(), RUNNING_MAX + 4);
}

#[tokio::test]
async fn what_a_program_leaves_behind_holds_up_nothing() {
    let post = Post::new("sleep 600 & echo $! > child; echo '{\"platform_message_id\": \"m\"}'");
    let outcomes = tokio::time::timeout(LONG / 2, post.deliver(&["x"])).await.unwrap();
    assert_eq!(outcomes, [Outcome::Delivered { platform_message_id: Some("m".to_owned()) }]);
    let child = post.file("child").trim().to_owned();
    assert!(Path::new("/proc").join(&child).exists(), "an end is no reason to kill");
    let child = nix::unistd::Pid::from_raw(child.parse().unwrap());
    nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn a_program_that_reads_nothing_or_says_too_much_is_taken_by_its_exit_code() {
    let huge = "x".repeat(1 << 20);
    assert_eq!(Post::new("exec <&-; exit 0").deliver(&[&huge]).await, [delivered()]);
    let chatty = "yes | head -c 3000000; yes no | head -c 3000000 >&2; echo the end >&2; exit 1";
    let expected = Outcome::Permanent { error: "the end".to_owned() };
    assert_eq!(Post::new(chatty).deliver(&["x"]).await, [expected]);
}

#[tokio::test]
async fn a_program_that_cannot_be_run_keeps_its_outbounds_and_says_what_is_wrong() {
    let post = Post::new("exit 0");
    let program = post.dir.path().join("program");
    let problem = async || match &post.deliver(&["x", "y"]).await[..] {
        [Outcome::Transient { error, retry_after: None }] => error.clone(),
        other => panic!("{other:?}"),
    };
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o600)).unwrap();
    assert!(problem().await.ends_with("is not executable"));
    std::fs::remove_file(&program).unwrap();
    assert!(problem().await.contains("No such file"));
    write_program(&program, "#!");
    std::fs::write(&program, "#!/nonexistent/interpreter\n").unwrap();
    assert!(problem().await.starts_with("could not run "));
    write_program(&program, "exit 0");
    assert_eq!(post.deliver(&["x"]).await, [delivered()]);
    assert!(usable("x", Path::new("program")).unwrap_err().contains("not an absolute path"));
    assert!(usable("x", post.dir.path()).unwrap_err().contains("is not a file"));
}

/// What a container has laid out for one row.
struct Shelves {
    dir: tempfile::TempDir,
}

impl Shelves {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("out/outbox/r1")).unwrap();
        std::fs::write(dir.path().join("secret"), "secret\n").unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("out/outbox/r1").join(name)
    }

    fn outbound(&self, row: &str, files: &[&str]) -> Outbound {
        let within = Path::new("outbox").join(row);
        Outbound {
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            shelf: Some(Shelf { base: self.dir.path().join("out"), within }),
            ..outbound("see there")
        }
    }
}

/// Shows every file that the program is told of, with its rights and those of its folder.
const SHOWS: &str = "cat > told
for file in letters/*/*; do
    [ -e \"$file\" ] && stat -c '%a %F' \"$file\" \"${file%/*}\" && cat \"$file\"
done > seen
exit 0";

#[tokio::test]
async fn files_come_as_copies_that_go_with_the_program() {
    let (post, shelves) = (Post::new(SHOWS), Shelves::new());
    std::fs::write(shelves.path("plan.pdf"), "the plan\n").unwrap();
    std::fs::write(shelves.path("-x $(y)"), "").unwrap();
    let outbound = shelves.outbound("r1", &["plan.pdf", "-x $(y)", "plan.pdf"]);
    assert_eq!(post.channel.deliver(&address(), vec![outbound]).await, [delivered()]);
    let seen = "600 regular empty file\n700 directory\n600 regular file\n700 directory\nthe plan\n";
    assert_eq!(post.file("seen"), seen);
    let told: Value = serde_json::from_str(&post.file("told")).unwrap();
    let attachments = told["attachments"].as_array().unwrap();
    let folder = post.dir.path().join("letters");
    for (attachment, name) in attachments.iter().zip(["plan.pdf", "-x $(y)", "plan.pdf"]) {
        let path = Path::new(attachment["path"].as_str().unwrap());
        assert_eq!((&attachment["name"], path.file_name().unwrap()), (&json!(name), name.as_ref()));
        assert!(path.is_absolute() && path.starts_with(&folder) && !path.exists(), "{path:?}");
    }
    assert_eq!(told["files"], json!(["plan.pdf", "-x $(y)", "plan.pdf"]));
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "nothing is left");
}

#[tokio::test]
async fn an_outbound_that_names_files_without_end_costs_no_more_than_one_with_many() {
    let (post, shelves) = (Post::new(SHOWS), Shelves::new());
    std::fs::write(shelves.path("plan.pdf"), "the plan\n").unwrap();
    let names: Vec<String> = (0..100_000).map(|n| format!("no-{n}")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.insert(0, "plan.pdf");
    let outbound = shelves.outbound("r1", &names);
    assert_eq!(post.channel.deliver(&address(), vec![outbound]).await, [delivered()]);
    let told: Value = serde_json::from_str(&post.file("told")).unwrap();
    let attachments = told["attachments"].as_array().unwrap();
    assert_eq!(attachments.len(), 65, "as many as are looked at, and how many more there are");
    assert!(attachments[0]["path"].is_string(), "{:?}", attachments[0]);
    let last = &attachments[64];
    assert_eq!((&last["name"], &last["path"]), (&json!("99937 more"), &Value::Null));
}

#[tokio::test]
async fn what_is_no_file_is_told_of_and_not_followed() {
    type Lays = fn(&Shelves);
    let cases: [(&str, Lays, &str, &str); 9] = [
        ("link", |_| {}, "link", "no such file"),
        (
            "link",
            |it| std::os::unix::fs::symlink(it.dir.path().join("secret"), it.path("link")).unwrap(),
            "link",
            "symbolic link",
        ),
        (
            "second",
            |it| std::fs::hard_link(it.dir.path().join("secret"), it.path("second")).unwrap(),
            "second",
            "other links",
        ),
        (
            "pipe",
            |it| nix::unistd::mkfifo(&it.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap(),
            "pipe",
            "not a regular file",
        ),
        (
            "folder",
            |it| std::fs::create_dir(it.path("folder")).unwrap(),
            "folder",
            "not a regular file",
        ),
        ("up", |_| {}, "../../../secret", "its name cannot be used"),
        ("whole", |_| {}, "/etc/passwd", "its name cannot be used"),
        (
            "large",
            |it| {
                let file = std::fs::File::create(it.path("large")).unwrap();
                file.set_len((64 << 20) + 1).unwrap();
            },
            "large",
            "more than 67108864 bytes",
        ),
        (
            "its folder",
            |it| {
                let row = it.path("");
                std::fs::remove_dir(&row).unwrap();
                std::os::unix::fs::symlink(it.dir.path(), it.dir.path().join("out/outbox/r1"))
                    .unwrap();
            },
            "secret",
            "symbolic link",
        ),
    ];
    for (case, lay, name, why) in cases {
        let (post, shelves) = (Post::new(SHOWS), Shelves::new());
        lay(&shelves);
        let outbound = shelves.outbound("r1", &[name]);
        assert_eq!(post.channel.deliver(&address(), vec![outbound]).await, [delivered()], "{case}");
        let told: Value = serde_json::from_str(&post.file("told")).unwrap();
        let attachment = &told["attachments"][0];
        let error = attachment["error"].as_str().unwrap_or_default().to_lowercase();
        assert!(attachment["path"].is_null() && error.contains(why), "{case}: {told}");
        assert_eq!(post.file("seen"), "", "{case}");
    }
}

#[tokio::test]
async fn the_files_of_outbounds_that_an_earlier_host_left_are_removed() {
    let post = Post::new(SHOWS);
    let left = post.dir.path().join("letters/old");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("plan.pdf"), "x").unwrap();
    // Also where nobody has set a program any more.
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let none = kinds::build(
        &config(),
        post.dir.path(),
        left.parent().unwrap(),
        &no_secrets(),
        &nothing_sent(),
        &clock,
    );
    assert!(none.unwrap().is_empty() && !left.exists());
}

fn nothing_sent() -> Arc<dyn Journal> {
    Arc::new(MemoryJournal::default())
}

fn no_secrets() -> kinds::SecretOf {
    Arc::new(|_| Ok(None))
}

fn config() -> Channels {
    twobox_config::Config::default().channels
}

/// Waits until a process has ended; somebody else has to collect a child of a killed parent.
async fn wait_gone(pid: &str) {
    let state = || {
        let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).ok()?;
        stat.rsplit_once(')')?.1.trim_start().chars().next()
    };
    for _ in 0..3000 {
        if state().is_none_or(|state| state == 'Z') {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("process {pid} still lives after 30 s");
}

#[tokio::test]
async fn what_left_the_group_of_a_program_is_killed_with_it() {
    // One with a session of its own, one whose parents are gone as well.
    let script = "setsid sh -c 'echo $$ > first; exec sleep 600' & \
                  (setsid sh -c 'echo $$ > second; exec sleep 600' &) ; \
                  while [ ! -s first ] || [ ! -s second ]; do sleep 0.01; done; sleep 600";
    let post = Post::with(script, true, Duration::from_secs(1));
    assert_eq!(post.deliver(&["x"]).await, [transient("the program was killed after 1s")]);
    for name in ["first", "second"] {
        let pid: i32 = post.file(name).trim().parse().unwrap();
        let ended = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Err(_) => true,
            Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim().starts_with('Z')),
        };
        for _ in 0..1000 {
            if ended() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(ended(), "{name} lives");
    }
}

#[tokio::test]
async fn an_endless_talker_is_listened_to_now_and_then() {
    let post = Post::with("exec cat /dev/zero", true, Duration::from_secs(1));
    let before = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    assert_eq!(post.deliver(&["x"]).await, [transient("the program was killed after 1s")]);
    let after = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let spent = (after.user_time() + after.system_time()).tv_sec() * 1000
        + (after.user_time() + after.system_time()).tv_usec() / 1000
        - (before.user_time() + before.system_time()).tv_sec() * 1000
        - (before.user_time() + before.system_time()).tv_usec() / 1000;
    assert!(spent < 300, "{spent} ms of one second");
}
