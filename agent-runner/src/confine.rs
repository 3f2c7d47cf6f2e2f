//! Giving up rights before the first thread starts, for runners that no container confines.
//!
//! Landlock, as far as this kernel has it: the inbox half read-only, the outbox half and the session's
//! workspace read-write, the program and the system's folders read and execute, the shared folder as
//! the agent's configuration says, and nothing else. Rules only ever add rights, so `/tmp`, which may
//! hold whole sessions, is not among them: temporary files have a folder in the workspace.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, path_beneath_rules,
};
use twobox_shared::agent_config::{AgentConfig, SharedFolder};

use crate::args::Options;
use crate::say::say;

/// The newest set of rights asked for; an older kernel enforces the part that it knows.
const WANTED: ABI = ABI::V5;

const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc",
    "/opt",
    "/proc",
    "/dev",
    "/run/systemd/resolve", // where /etc/resolv.conf often points
];

/// Confines this thread and every thread and process that it will start. A kernel that cannot is
/// reported and tolerated: whoever runs untrusted agents uses a container.
pub(crate) fn apply(options: &Options) {
    if let Some(temp) = options.temp()
        && let Err(error) = std::fs::create_dir_all(&temp)
    {
        say!("could not create {}: {error}", temp.display());
    }
    match restrict(options) {
        Ok(RulesetStatus::FullyEnforced) => {}
        Ok(RulesetStatus::PartiallyEnforced) => {
            say!("--confine: this kernel's Landlock is old and enforces only a part");
        }
        Ok(RulesetStatus::NotEnforced) => {
            say!("--confine: this kernel has no Landlock, so the runner is not confined");
        }
        Err(error) => say!("--confine: not confined: {}", crate::say::chain(&error)),
    }
}

fn restrict(options: &Options) -> Result<RulesetStatus, RulesetError> {
    let devices: BitFlags<AccessFs> = AccessFs::from_read(WANTED) | AccessFs::WriteFile;
    let folders = &options.folders;
    let (writable, shared) = match folders.access {
        SharedFolder::Rw => (folders.agent.as_deref(), None),
        SharedFolder::Ro | SharedFolder::None => (None, folders.agent.as_deref()),
    };
    let writable =
        [Some(options.paths.out_dir()), folders.work.as_deref(), writable].into_iter().flatten();
    let readable = [Some(&*folders.program), shared].into_iter().flatten();
    Ok(Ruleset::default()
        .handle_access(AccessFs::from_all(WANTED))?
        .create()?
        .add_rules(path_beneath_rules(SYSTEM, AccessFs::from_read(WANTED)))?
        .add_rules(path_beneath_rules(programs(options), AccessFs::from_read(WANTED)))?
        .add_rules(path_beneath_rules(readable, AccessFs::from_read(WANTED)))?
        .add_rules(path_beneath_rules(["/dev"], devices))?
        .add_rules(path_beneath_rules(
            [options.paths.in_dir()],
            AccessFs::ReadFile | AccessFs::ReadDir,
        ))?
        .add_rules(path_beneath_rules(writable, AccessFs::from_all(WANTED)))?
        .restrict_self()?
        .ruleset)
}

/// The folders of this program and of the agent's, which may lie anywhere. A configuration
/// that cannot be read is reported later, by the turn that needs it.
fn programs(options: &Options) -> Vec<PathBuf> {
    let config = AgentConfig::load(&options.paths.agent_config()).unwrap_or_default();
    let command =
        config.command.first().and_then(|program| find(program, &options.folders.program));
    std::env::current_exe()
        .ok()
        .into_iter()
        .chain(command)
        .filter_map(|program| program.canonicalize().ok()?.parent().map(Path::to_owned))
        .collect()
}

fn find(program: &str, folder: &Path) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(folder.join(program));
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}
