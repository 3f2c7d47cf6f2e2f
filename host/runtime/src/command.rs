//! How a runner is told who it is: the one command line that both runtimes use.

use std::ffi::OsString;
use std::time::Duration;

use twobox_shared::durability::Durability;
use twobox_shared::ids::InstallId;

use super::StartSpec;
use super::mounts::{Room, Seen, mounts};
use twobox_config::HEARTBEAT;

/// The environment variables by which every process of an incarnation can be recognised.
pub(super) const INSTALL_VARIABLE: &str = "TWOBOX_INSTALL";
/// See [`INSTALL_VARIABLE`].
pub(super) const SESSION_VARIABLE: &str = "TWOBOX_SESSION";
/// See [`INSTALL_VARIABLE`].
pub(super) const RUNNER_VARIABLE: &str = "TWOBOX_RUNNER";
/// Where the folder of the session is, for processes that share this machine's files: a copy of an
/// installation has its ids.
pub(super) const FOLDER_VARIABLE: &str = "TWOBOX_FOLDER";

/// The arguments after the program's name.
pub(super) fn arguments(install: InstallId, spec: &StartSpec, seen: Seen) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::with_capacity(20);
    let mut pair = |name: &str, value: OsString| arguments.extend([name.into(), value]);
    pair("--install", install.to_string().into());
    pair("--session", spec.incarnation.session.to_string().into());
    pair("--runner", spec.incarnation.runner.to_string().into());
    for mount in mounts(spec) {
        let name = match mount.room {
            Room::Inbox => "--in",
            Room::Outbox => "--out",
            Room::Shared => "--agent",
            Room::Work | Room::Program | Room::Cli => continue, // in `folders`
            Room::Extra => continue,                            // known to the agent alone
        };
        pair(name, mount.path(seen).into());
    }
    pair("--idle-ms", spec.idle.as_millis().to_string().into());
    pair("--grace-ms", turn_grace(spec.grace).as_millis().to_string().into());
    if spec.heartbeat != HEARTBEAT {
        pair("--heartbeat-ms", spec.heartbeat.as_millis().to_string().into());
    }
    if let Some(poll) = spec.poll {
        pair("--poll-ms", poll.as_millis().to_string().into());
    }
    if spec.durability != Durability::default() {
        pair("--durability", spec.durability.word().into()); // older runners do not know it
    }
    arguments
}

/// How much of the time until SIGKILL a turn may use. The runner commits after it what became of the
/// turn, and one that is killed inside a commit leaves a hot journal behind.
fn turn_grace(grace: Duration) -> Duration {
    grace * 3 / 4
}

/// Who the processes of an incarnation are, as environment variables.
pub(super) fn marks(install: InstallId, spec: &StartSpec) -> [(&'static str, String); 3] {
    [
        (INSTALL_VARIABLE, install.to_string()),
        (SESSION_VARIABLE, spec.incarnation.session.to_string()),
        (RUNNER_VARIABLE, spec.incarnation.runner.to_string()),
    ]
}

/// Options of the runner that came later than the others, as environment variables: a runner that
/// does not know them leaves them alone, where an argument would make it leave.
pub(super) fn folders(spec: &StartSpec, seen: Seen) -> Vec<(&'static str, OsString)> {
    let mut variables: Vec<(&'static str, OsString)> = mounts(spec)
        .iter()
        .filter_map(|mount| match mount.room {
            Room::Work => Some(("TWOBOX_WORK", mount.path(seen).into())),
            Room::Program => Some(("TWOBOX_PROGRAM", mount.path(seen).into())),
            Room::Cli => Some(("TWOBOX_CLI", mount.path(seen).into())),
            Room::Inbox | Room::Outbox | Room::Shared | Room::Extra => None,
        })
        .collect();
    variables.push(("TWOBOX_SHARED_FOLDER", spec.agent.access.word().into()));
    variables
}

/// Crash points for the runner, in debug builds: a test arms the runner under other names than the
/// host, or the host would die at the runner's points.
pub(super) fn crash_points(
    variable: impl Fn(&str) -> Option<OsString>,
) -> Vec<(&'static str, OsString)> {
    if !cfg!(debug_assertions) {
        return Vec::new();
    }
    [("TWOBOX_RUNNER_CRASH_AT", "TWOBOX_CRASH_AT"), ("TWOBOX_RUNNER_CRASH_LOG", "TWOBOX_CRASH_LOG")]
        .into_iter()
        .filter_map(|(ours, theirs)| Some((theirs, variable(ours)?)))
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use twobox_shared::agent_config::SharedFolder;
    use twobox_shared::ids::{RunnerId, SessionId, SystemIds};

    use super::*;
    use crate::{AgentFolders, Incarnation, Profile};

    /// A start of somebody.
    pub(crate) fn spec() -> StartSpec {
        StartSpec {
            incarnation: Incarnation {
                session: SessionId::generate(&SystemIds),
                runner: RunnerId::generate(&SystemIds),
            },
            folder: "/s".into(),
            agent: AgentFolders {
                program: "/p".into(),
                shared: "/g".into(),
                access: SharedFolder::Rw,
            },
            profile: Profile::usual(&twobox_config::Config::default().containers),
            idle: Duration::from_secs(1),
            grace: Duration::from_secs(2),
            heartbeat: HEARTBEAT,
            poll: None,
            durability: Durability::PowerLoss,
        }
    }

    #[test]
    fn a_runner_is_told_only_what_is_not_usual() {
        let mut spec = spec();
        let install = InstallId::generate(&SystemIds);
        let line = |spec: &StartSpec| arguments(install, spec, Seen::OnTheHost).join(" ".as_ref());
        let Incarnation { session, runner } = spec.incarnation;
        let expected = format!(
            "--install {install} --session {session} --runner {runner} --in /s/in --out /s/out \
             --agent /g --idle-ms 1000 --grace-ms 1500"
        );
        assert_eq!(line(&spec), *expected);
        spec.poll = Some(Duration::from_millis(250));
        assert_eq!(line(&spec), *format!("{expected} --poll-ms 250"));
        (spec.poll, spec.durability) = (None, Durability::ProcessCrash);
        assert_eq!(line(&spec), *format!("{expected} --durability process-crash"));
        spec.agent.access = SharedFolder::None;
        assert!(!line(&spec).to_str().unwrap().contains("--agent"), "it is not there");
    }

    #[test]
    fn what_older_runners_do_not_know_comes_in_the_environment() {
        let mut spec = spec();
        let told = |spec: &StartSpec, seen| -> Vec<(&'static str, String)> {
            let text = |value: OsString| value.into_string().unwrap();
            folders(spec, seen).into_iter().map(|(name, value)| (name, text(value))).collect()
        };
        let expected = |work: &str, program: &str, shared: &str| {
            vec![
                ("TWOBOX_WORK", work.to_owned()),
                ("TWOBOX_PROGRAM", program.to_owned()),
                ("TWOBOX_SHARED_FOLDER", shared.to_owned()),
            ]
        };
        assert_eq!(told(&spec, Seen::OnTheHost), expected("/s/work", "/p", "rw"));
        spec.agent.access = SharedFolder::None;
        let mounted = expected("/workspace/session", "/workspace/program", "none");
        assert_eq!(told(&spec, Seen::Mounted), mounted);
    }

    #[test]
    fn arming_the_host_does_not_arm_the_runner() {
        let variable = |name: &str| {
            name.starts_with("TWOBOX_RUNNER_CRASH_AT").then(|| "runner.claimed".into())
        };
        let expected: &[(&str, OsString)] = if cfg!(debug_assertions) {
            &[("TWOBOX_CRASH_AT", OsString::from("runner.claimed"))]
        } else {
            &[]
        };
        assert_eq!(crash_points(variable), expected);
        assert_eq!(crash_points(|name| (name == "TWOBOX_CRASH_AT").then(OsString::new)), []);
    }
}
