//! How a runner is told who it is: the one command line that both runtimes use.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use twobox_shared::durability::Durability;
use twobox_shared::ids::InstallId;

use super::StartSpec;

/// The environment variables by which every process of an incarnation can be recognised.
pub(super) const INSTALL_VARIABLE: &str = "TWOBOX_INSTALL";
/// See [`INSTALL_VARIABLE`].
pub(super) const SESSION_VARIABLE: &str = "TWOBOX_SESSION";
/// See [`INSTALL_VARIABLE`].
pub(super) const RUNNER_VARIABLE: &str = "TWOBOX_RUNNER";
/// Where the folder of the session is, for processes that share this machine's files: a copy of an
/// installation has its ids.
pub(super) const FOLDER_VARIABLE: &str = "TWOBOX_FOLDER";

/// The three folders as the runner sees them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Folders<'a> {
    pub(super) inbox: &'a Path,
    pub(super) outbox: &'a Path,
    pub(super) agent: &'a Path,
}

/// The arguments after the program's name.
pub(super) fn arguments(
    install: InstallId,
    spec: &StartSpec,
    folders: Folders<'_>,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::with_capacity(20);
    let mut pair = |name: &str, value: OsString| arguments.extend([name.into(), value]);
    pair("--install", install.to_string().into());
    pair("--session", spec.incarnation.session.to_string().into());
    pair("--runner", spec.incarnation.runner.to_string().into());
    pair("--in", folders.inbox.into());
    pair("--out", folders.outbox.into());
    pair("--agent", folders.agent.into());
    pair("--idle-ms", spec.idle.as_millis().to_string().into());
    pair("--grace-ms", turn_grace(spec.grace).as_millis().to_string().into());
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
mod tests {

    use twobox_shared::ids::{RunnerId, SessionId, SystemIds};

    use super::*;
    use crate::runtime::Incarnation;

    #[test]
    fn a_runner_is_told_only_what_is_not_usual() {
        let incarnation = Incarnation {
            session: SessionId::generate(&SystemIds),
            runner: RunnerId::generate(&SystemIds),
        };
        let mut spec = StartSpec {
            incarnation,
            folder: "/s".into(),
            agent_folder: "/g".into(),
            idle: Duration::from_secs(1),
            grace: Duration::from_secs(2),
            poll: None,
            durability: Durability::PowerLoss,
        };
        let install = InstallId::generate(&SystemIds);
        let path = Path::new;
        let folders = Folders { inbox: path("/i"), outbox: path("/o"), agent: path("/g") };
        let line = |spec: &StartSpec| arguments(install, spec, folders).join(" ".as_ref());
        let (session, runner) = (incarnation.session, incarnation.runner);
        let expected = format!(
            "--install {install} --session {session} --runner {runner} --in /i --out /o \
             --agent /g --idle-ms 1000 --grace-ms 1500"
        );
        assert_eq!(line(&spec), *expected);
        spec.poll = Some(Duration::from_millis(250));
        assert_eq!(line(&spec), *format!("{expected} --poll-ms 250"));
        (spec.poll, spec.durability) = (None, Durability::ProcessCrash);
        assert_eq!(line(&spec), *format!("{expected} --durability process-crash"));
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
