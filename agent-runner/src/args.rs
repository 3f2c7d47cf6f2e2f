//! The command line. Every option may also come from the environment, as `TWOBOX_<OPTION>`; the
//! command line wins.

mod mcp;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use lexopt::{Arg, Parser};
use twobox_shared::agent_config::SharedFolder;
use twobox_shared::durability::Durability;
use twobox_shared::ids::{InstallId, RunnerId, SessionId};
use twobox_shared::paths::{SessionPaths, container};

/// What the process was started for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// To serve a session.
    Run(Box<Options>),
    /// To say what a runner with these options would see.
    Probe(Box<Options>),
    /// To offer the host's tools by MCP, for the runner that listens at this socket.
    Mcp(PathBuf),
    /// To become this program, in this folder, where it is a server of MCP.
    McpOfOthers { folder: PathBuf, command: Vec<OsString> },
    /// To print something and leave.
    Print(String),
}

/// How to serve a session.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Whom it serves.
    pub(crate) session: SessionId,
    /// This incarnation, as the host named it; it stands in every claim.
    pub(crate) runner: RunnerId,
    /// The two boxes.
    pub(crate) paths: SessionPaths,
    /// The folders of the agent and of the session's own work.
    pub(crate) folders: Folders,
    /// How long to stay without work.
    pub(crate) idle: Duration,
    /// How long a running turn may go on after SIGTERM.
    pub(crate) grace: Duration,
    /// How often to look at the inbox, where the kernel announces nothing.
    pub(crate) poll: Option<Duration>,
    /// How often to give a sign of life.
    pub(crate) heartbeat: Duration,
    /// What a commit has to survive.
    pub(crate) durability: Durability,
    /// How many processes and threads there may be, where the host's own are not counted with them.
    pub(crate) processes: Option<u64>,
    /// Whether to give up all rights on the file system that a runner does not need.
    pub(crate) confine: bool,
}

/// Where a provider finds what it works with.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    /// What the agent is. A host that knows no such folder has it in the shared one.
    pub(crate) program: PathBuf,
    /// The session's own workspace, unless the host knows of none.
    pub(crate) work: Option<PathBuf>,
    /// What the agent's sessions share, if anything.
    pub(crate) agent: Option<PathBuf>,
    /// What may be done with it.
    pub(crate) access: SharedFolder,
    /// Where the vendor's program is that answers, if the host gives one.
    pub(crate) cli: Option<PathBuf>,
}

impl Options {
    /// The folders that it was given.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let Folders { program, work, agent, access: _, cli } = &self.folders;
        let always = [self.paths.in_dir(), self.paths.out_dir(), program];
        let others = [work.as_deref(), agent.as_deref(), cli.as_deref()].into_iter().flatten();
        always.into_iter().chain(others).map(Path::to_owned).collect()
    }

    /// The folder for temporary files, where the usual one is out of reach.
    pub(crate) fn temp(&self) -> Option<PathBuf> {
        let room = self.folders.work.as_deref().unwrap_or(self.paths.out_dir());
        self.confine.then(|| room.join("tmp"))
    }
}

const HELP: &str = "\
agent-runner: answers the messages of one session

usage: agent-runner --install UUID --session UUID --runner UUID [options]
       agent-runner mcp --socket PATH
       agent-runner mcp --in DIR PROGRAM [ARGUMENTS]

  --install UUID     the installation, and
  --session UUID     the session: labels by which the host finds this process
  --runner UUID      this incarnation; stands in every claim
  --in DIR           the inbox half of the session folder (/workspace/in)
  --out DIR          the outbox half (/workspace/out)
  --work DIR         the session's own workspace (/workspace/session)
  --program DIR      what the agent is, read-only (/workspace/program)
  --agent DIR        the folder that the agent's sessions share (/workspace/agent)
  --shared-folder W  what they may do with it: rw (default), ro or none
  --cli DIR          where a vendor's program is, for a provider that has one (/workspace/cli)
  --idle-ms N        leave after so long without work (300000)
  --grace-ms N       how long a turn may go on after SIGTERM (10000)
  --heartbeat-ms N   time between signs of life (10000)
  --poll-ms N        look at the inbox so often, where no file events arrive
  --durability WORD  what a commit survives: power-loss (default) or process-crash
  --processes N      have at most so many processes and threads of this user
  --confine          give up all file system rights that are not needed (Landlock)
  --probe            say in one line of JSON what a runner started like this sees, and leave
  --version, --help

`mcp` is the host's tools for an agent that is a program, by MCP on standard input and output. A runner
gives its path and the socket to the programs that it starts. With --in it becomes a server of others, in
that folder, for programs that start theirs where they work themselves.

Each option may also be given in the environment: TWOBOX_RUNNER, TWOBOX_IDLE_MS, TWOBOX_CONFINE=1, ...
Exit codes: 0 idle or told to leave, 2 usage, 65 unusable database, 70 a provider that hangs,
71 the system refused something, 72 the session's folder is gone or another one, 74 the boxes cannot
be read or written, 75 another runner serves the session, 76 the claims were taken away, 78 the agent's
configuration or program cannot be used.";

const VALUED: &[&str] = &[
    "install",
    "session",
    "runner",
    "in",
    "out",
    "work",
    "program",
    "agent",
    "shared-folder",
    "cli",
    "idle-ms",
    "grace-ms",
    "poll-ms",
    "heartbeat-ms",
    "durability",
    "processes",
];

/// The options of this process.
pub(crate) fn from_process() -> Result<Asked, String> {
    parse(Parser::from_env(), |name| std::env::var_os(name), Path::is_dir)
}

fn parse(
    mut parser: Parser,
    env: impl Fn(&str) -> Option<OsString>,
    is_there: impl Fn(&Path) -> bool,
) -> Result<Asked, String> {
    let mut given: Vec<(&str, OsString)> = Vec::new();
    let (mut confine, mut probe) = (false, false);
    while let Some(arg) = parser.next().map_err(|error| error.to_string())? {
        match arg {
            Arg::Value(word) if word == "mcp" && given.is_empty() => return mcp::parse(parser),
            Arg::Long("help") | Arg::Short('h') => return Ok(Asked::Print(HELP.to_owned())),
            Arg::Long("version") | Arg::Short('V') => {
                return Ok(Asked::Print(format!("agent-runner {}", env!("CARGO_PKG_VERSION"))));
            }
            Arg::Long("confine") => confine = true,
            Arg::Long("probe") => probe = true,
            Arg::Long(long) => {
                let Some(name) = VALUED.iter().copied().find(|name| *name == long) else {
                    return Err(format!("unknown option --{long}"));
                };
                let value = parser.value().map_err(|error| error.to_string())?;
                given.push((name, value));
            }
            other => return Err(other.unexpected().to_string()),
        }
    }
    let values = Values { given, env };
    values.id::<InstallId>("install")?;
    let session = values.id::<SessionId>("session")?;
    let options = Box::new(Options {
        session,
        runner: values.id("runner")?,
        paths: SessionPaths::of_mounts(
            values.folder("in", container::IN),
            values.folder("out", container::OUT),
        ),
        folders: values.folders(is_there)?,
        idle: values.span("idle-ms", 0)?.unwrap_or(Duration::from_secs(300)),
        grace: values.span("grace-ms", 0)?.unwrap_or(Duration::from_secs(10)),
        poll: values.span("poll-ms", 1)?,
        heartbeat: values.span("heartbeat-ms", 1)?.unwrap_or(Duration::from_secs(10)),
        durability: values.durability()?,
        processes: values.number("processes", 1)?,
        confine: confine || values.switch("confine")?,
    });
    Ok(if probe { Asked::Probe(options) } else { Asked::Run(options) })
}

/// What was given, on the command line or in the environment.
struct Values<'a, E> {
    given: Vec<(&'a str, OsString)>,
    env: E,
}

impl<E: Fn(&str) -> Option<OsString>> Values<'_, E> {
    fn get(&self, name: &str) -> Option<OsString> {
        let last = self.given.iter().rev().find(|(given, _)| *given == name);
        last.map(|(_, value)| value.clone())
            .or_else(|| (self.env)(&variable(name)).filter(|value| !value.is_empty()))
    }

    fn id<T: FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<T, String> {
        let value = self.get(name).ok_or_else(|| {
            format!("--{name} is missing (or {} in the environment)", variable(name))
        })?;
        text(name, &value)?.parse().map_err(|error| format!("--{name}: {error}"))
    }

    fn folder(&self, name: &str, default: &str) -> PathBuf {
        self.get(name).map_or_else(|| PathBuf::from(default), PathBuf::from)
    }

    /// A host before these folders gives neither of the first two, and mounts nothing there.
    fn folders(&self, is_there: impl Fn(&Path) -> bool) -> Result<Folders, String> {
        let given = |name: &str, default: &str| {
            let default = || Some(PathBuf::from(default)).filter(|folder| is_there(folder));
            self.get(name).map(PathBuf::from).or_else(default)
        };
        let access = self.shared_folder()?;
        let shared = access != SharedFolder::None;
        let agent = shared.then(|| self.folder("agent", container::AGENT));
        let program = given("program", container::PROGRAM).or_else(|| agent.clone());
        Ok(Folders {
            program: program.unwrap_or_else(|| container::PROGRAM.into()),
            work: given("work", container::SESSION),
            agent,
            access,
            cli: given("cli", container::CLI),
        })
    }

    fn shared_folder(&self) -> Result<SharedFolder, String> {
        const NAME: &str = "shared-folder";
        let Some(value) = self.get(NAME) else { return Ok(SharedFolder::default()) };
        let value = text(NAME, &value)?;
        let words = SharedFolder::WORDS.join(", ");
        SharedFolder::parse(value).ok_or(format!("--{NAME}: {value:?} is none of {words}"))
    }

    fn span(&self, name: &str, least: u64) -> Result<Option<Duration>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let value = text(name, &value)?;
        match value.parse() {
            Ok(ms) if ms >= least => Ok(Some(Duration::from_millis(ms))),
            _ => {
                Err(format!("--{name}: {value:?} is not a number of milliseconds from {least} up"))
            }
        }
    }

    fn number(&self, name: &str, least: u64) -> Result<Option<u64>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let value = text(name, &value)?;
        match value.parse() {
            Ok(number) if number >= least => Ok(Some(number)),
            _ => Err(format!("--{name}: {value:?} is not a number from {least} up")),
        }
    }

    fn durability(&self) -> Result<Durability, String> {
        const NAME: &str = "durability";
        let Some(value) = self.get(NAME) else { return Ok(Durability::default()) };
        let value = text(NAME, &value)?;
        let words = Durability::WORDS.join(" nor ");
        Durability::parse(value).ok_or(format!("--{NAME}: {value:?} is neither {words}"))
    }

    fn switch(&self, name: &str) -> Result<bool, String> {
        match self.get(name).as_deref().and_then(OsStr::to_str) {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(other) => Err(format!("{}: {other:?} is neither 1 nor 0", variable(name))),
        }
    }
}

fn variable(name: &str) -> String {
    format!("TWOBOX_{}", name.replace('-', "_").to_uppercase())
}

fn text<'v>(name: &str, value: &'v OsStr) -> Result<&'v str, String> {
    value.to_str().ok_or_else(|| format!("--{name}: {value:?} is not text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0190a000-0000-7000-8000-000000000001";

    fn run(args: &[&str], env: &[(&str, &str)]) -> Result<Asked, String> {
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, it)| it.into());
        parse(Parser::from_args(args), env, |_| false)
    }

    fn options(args: &[&str], env: &[(&str, &str)]) -> Options {
        match run(args, env).unwrap() {
            Asked::Run(options) | Asked::Probe(options) => *options,
            other @ (Asked::Print(_) | Asked::Mcp(_) | Asked::McpOfOthers { .. }) => {
                panic!("{other:?}")
            }
        }
    }

    #[test]
    fn the_environment_fills_in_and_the_command_line_wins() {
        let env = [
            ("TWOBOX_INSTALL", ID),
            ("TWOBOX_SESSION", ID),
            ("TWOBOX_RUNNER", ID),
            ("TWOBOX_IDLE_MS", "7"),
            ("TWOBOX_CONFINE", "1"),
        ];
        let from_env = options(&[], &env);
        assert_eq!((from_env.idle.as_millis(), from_env.confine), (7, true));
        assert_eq!(from_env.paths.in_dir(), container::IN);
        assert_eq!(options(&["--idle-ms", "9"], &env).idle.as_millis(), 9);
        assert_eq!(options(&["--in=/x"], &env).paths.in_dir(), "/x");
        assert_eq!(from_env.durability, Durability::PowerLoss);
        let lesser = options(&["--durability", "process-crash"], &env).durability;
        assert_eq!(lesser, Durability::ProcessCrash);
    }

    #[test]
    fn a_probe_is_started_as_a_runner_is() {
        let ids = ["--install", ID, "--session", ID, "--runner", ID];
        let asked = run(&[&ids[..], &["--probe", "--in", "/x"]].concat(), &[]).unwrap();
        assert!(matches!(asked, Asked::Probe(options) if options.paths.in_dir() == "/x"));
        assert!(matches!(run(&ids, &[]), Ok(Asked::Run(_))));
        let mcp = run(&["mcp", "--socket", "/s"], &[]);
        assert!(matches!(mcp, Ok(Asked::Mcp(socket)) if socket == Path::new("/s")));
        let missing = run(&["--probe"], &[]).unwrap_err();
        assert!(missing.contains("--install is missing"), "{missing}");
    }

    #[test]
    fn a_host_that_knows_only_one_folder_has_the_program_there() {
        let labels = ["--install", ID, "--session", ID, "--runner", ID];
        let folders = |more: &[&str], mounted: &[&str]| {
            let args = [&labels[..], more].concat();
            let is_there = |folder: &Path| mounted.iter().any(|it| Path::new(it) == folder);
            match parse(Parser::from_args(args), |_| None, is_there).unwrap() {
                Asked::Run(options) => options.folders,
                other => panic!("{other:?}"),
            }
        };
        let older = folders(&["--agent", "/g"], &[]);
        assert_eq!((older.program.to_str(), older.work), (Some("/g"), None));
        let mounted = folders(&[], &[container::PROGRAM, container::SESSION]);
        assert_eq!(mounted.program, Path::new(container::PROGRAM));
        assert_eq!(mounted.work.as_deref(), Some(Path::new(container::SESSION)));
        assert_eq!(mounted.agent.as_deref(), Some(Path::new(container::AGENT)));
        let given = folders(&["--agent", "/g", "--program", "/p", "--work", "/w"], &[]);
        assert_eq!((given.program.to_str(), given.work), (Some("/p"), Some("/w".into())));
        let alone = folders(&["--program", "/p", "--shared-folder", "none"], &[]);
        assert_eq!((alone.agent, alone.program.to_str()), (None, Some("/p")));
    }

    #[test]
    fn mistakes_are_named() {
        let labels = [("TWOBOX_INSTALL", ID), ("TWOBOX_SESSION", ID)];
        let cases: [(&[&str], &str); 13] = [
            (&["mcp"], "mcp: --socket is missing"),
            (&["mcp", "--socket"], "missing argument"),
            (&["mcp", "--socket", "/s", "more"], "unexpected argument \"more\""),
            (&["--runner", ID, "--processes", "0"], "--processes: \"0\""),
            (&[], "--runner is missing (or TWOBOX_RUNNER"),
            (&["--runner", "x"], "--runner: \"x\" is not a UUID"),
            (&["--runner", ID, "--idle-ms", "-1"], "--idle-ms: \"-1\""),
            (&["--runner", ID, "--poll-ms", "0"], "--poll-ms: \"0\""),
            (&["--runner", ID, "--shared-folder", "x"], "--shared-folder: \"x\" is none of"),
            (&["--runner", ID, "--durability", "fast"], "--durability: \"fast\" is neither"),
            (&["--runner"], "missing argument"),
            (&["--runer", ID], "unknown option --runer"),
            (&["extra"], "unexpected argument \"extra\""),
        ];
        for (args, expected) in cases {
            let error = run(args, &labels).unwrap_err();
            assert!(error.contains(expected), "{args:?}: {error}");
        }
    }
}
