//! What a runner is given of the file system: one list, from which every runtime derives its own.
//!
//! Directories and never single files: one that is replaced on the host, as editors do, takes the
//! mount on it away, and a database needs the journal beside it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use twobox_shared::agent_config::SharedFolder;
use twobox_shared::paths::{SessionPaths, container as inside};

use super::StartSpec;
use super::profile::ExtraMount;

/// The folders of an agent that its runners are given besides the session's, canonical.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFolders {
    /// What the agent is. Only the host and people write there.
    pub program: PathBuf,
    /// What its sessions share,
    pub shared: PathBuf,
    /// and what they may do with it.
    pub access: SharedFolder,
}

impl AgentFolders {
    /// Whether the folders are there. An engine's own word for a missing one is a riddle, and a link
    /// in its place would lead elsewhere.
    ///
    /// # Errors
    /// Which is not, and what to do.
    pub fn check(&self) -> Result<(), String> {
        let shared = (self.access != SharedFolder::None).then_some(&self.shared);
        for folder in [Some(&self.program), shared].into_iter().flatten() {
            let path = folder.display();
            match folder.symlink_metadata() {
                Ok(meta) if meta.is_dir() => {}
                Ok(_) => {
                    return Err(format!("{path} is not a folder: move it away, and run `init`"));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(format!("{path}: {error}: `twobox init` makes what is missing"));
                }
                Err(error) => {
                    return Err(format!("{path}: {error}: `twobox doctor` says whose it is"));
                }
            }
        }
        Ok(())
    }
}

/// What a mounted folder is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// The inbox half.
    Inbox,
    /// The outbox half.
    Outbox,
    /// The session's own workspace.
    Work,
    /// What the agent is.
    Program,
    /// What the sessions of the agent share.
    Shared,
    /// The vendor's program that answers.
    Cli,
    /// A folder of the machine, as the agent's profile says.
    Extra,
}

/// One folder that a runner is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What for.
    pub room: Room,
    /// Where it is inside.
    pub target: String,
    /// Where it is on the host, canonical.
    pub source: PathBuf,
    /// Whether nothing in it may be changed.
    pub read_only: bool,
}

/// Where a runner finds its folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// At their targets, by mounts.
    Mounted,
    /// Where they are on the host.
    OnTheHost,
}

impl Mount {
    pub(super) fn path(&self, seen: Seen) -> &Path {
        match seen {
            Seen::Mounted => Path::new(&self.target),
            Seen::OnTheHost => &self.source,
        }
    }
}

/// All that the runner of `spec` is given.
pub fn mounts(spec: &StartSpec) -> Vec<Mount> {
    let paths = SessionPaths::of_folder(&spec.folder);
    let mount = |room, target: &str, source: &Path, read_only| Mount {
        room,
        target: target.to_owned(),
        source: source.into(),
        read_only,
    };
    let shared = |read_only| mount(Room::Shared, inside::AGENT, &spec.agent.shared, read_only);
    let mut mounts = vec![
        mount(Room::Inbox, inside::IN, paths.in_dir(), true),
        mount(Room::Outbox, inside::OUT, paths.out_dir(), false),
        mount(Room::Work, inside::SESSION, &SessionPaths::work_of(&spec.folder), false),
        mount(Room::Program, inside::PROGRAM, &spec.agent.program, true),
    ];
    match spec.agent.access {
        SharedFolder::Rw => mounts.push(shared(false)),
        SharedFolder::Ro => mounts.push(shared(true)),
        SharedFolder::None => {}
    }
    let cli = spec.profile.cli.as_ref();
    mounts.extend(cli.map(|cli| mount(Room::Cli, inside::CLI, &cli.folder, true)));
    let extra = |it: &ExtraMount| mount(Room::Extra, &it.target, &it.source, it.read_only);
    mounts.extend(spec.profile.mounts.iter().map(extra));
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::spec;
    use crate::profile::Cli;

    #[test]
    fn what_is_missing_can_be_made_and_what_cannot_be_looked_at_is_somebody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let cases = [
            (dir.path().join("absent"), "`twobox init` makes"),
            (file.join("absent"), "`twobox doctor` says"),
            (file, "is not a folder: move it away"),
        ];
        for (program, advice) in cases {
            let folders = AgentFolders { program, ..spec().agent };
            let error = folders.check().unwrap_err();
            assert!(error.contains(advice), "{error}");
        }
    }

    #[test]
    fn only_the_boxes_half_the_workspace_and_what_is_shared_can_be_written() {
        let cases = [
            (SharedFolder::Rw, vec![("/workspace/agent", "/g", false)]),
            (SharedFolder::Ro, vec![("/workspace/agent", "/g", true)]),
            (SharedFolder::None, vec![]),
        ];
        for (access, shared) in cases {
            let mut spec = spec();
            spec.agent.access = access;
            let mut expected = vec![
                ("/workspace/in", "/s/in", true),
                ("/workspace/out", "/s/out", false),
                ("/workspace/session", "/s/work", false),
                ("/workspace/program", "/p", true),
            ];
            expected.extend(shared);
            let found = mounts(&spec);
            let found: Vec<_> = found
                .iter()
                .map(|it| (it.target.as_str(), it.source.to_str().unwrap(), it.read_only))
                .collect();
            assert_eq!(found, expected, "{access:?}");
        }
    }

    #[test]
    fn a_vendors_program_is_given_as_it_lies_and_nobody_changes_it() {
        let mut spec = spec();
        spec.profile.cli = Cli::pinned("claude", "/opt/clis");
        let found = mounts(&spec);
        let cli = found.last().unwrap();
        assert_eq!((cli.room, cli.target.as_str(), cli.read_only), (Room::Cli, inside::CLI, true));
        assert!(cli.source.starts_with("/opt/clis"), "{cli:?}");
        let told = crate::command::folders(&spec, Seen::Mounted);
        assert!(told.contains(&("TWOBOX_CLI", inside::CLI.into())), "{told:?}");
        let told = crate::command::folders(&spec, Seen::OnTheHost);
        assert!(told.contains(&("TWOBOX_CLI", cli.source.clone().into())), "{told:?}");
    }
}
