//! Giving up rights before the first thread starts, for runners that no container confines.
//!
//! Landlock, as far as this kernel has it: the inbox half read-only, the outbox half and the session's
//! workspace read-write, the program and the system's folders read and execute, the shared folder as
//! the agent's configuration says, and nothing else. Rules only ever add rights, so `/tmp`, which may
//! hold whole sessions, is not among them: temporary files have a folder in the workspace.
//! Of the devices there are those that hold nothing, and of `/run` nothing.
//! Nobody outside can be signalled or reached through an abstract socket, and on kernels that know it,
//! through any unix socket that others have made, but for the way to models in the inbox. The network stays
//! as it is: an agent that calls a model by itself needs it.
//!
//! Rules are made for paths, and whoever could put a link on such a path would choose what it opens.
//! So no path leads through a folder that the agent can write.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope, path_beneath_rules,
};
use twobox_shared::agent_config::{AgentConfig, SharedFolder};
use twobox_shared::errors::chain;
use twobox_shared::outside;

use crate::args::Options;
use crate::say::say;

/// The newest set of rights asked for; an older kernel enforces the part that it knows.
const WANTED: ABI = ABI::V9;

/// The first set with which nobody outside can be signalled.
const SIGNALS: ABI = ABI::V6;

const SYSTEM: &[&str] =
    &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt", "/proc"];

/// Devices that hold nothing and lead to nobody. A terminal is none of them.
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Shared memory, which programs need to run several processes together. The host gives runners one of
/// their own where it can.
const SHARED_MEMORY: &str = "/dev/shm";

/// Often a link to a file elsewhere, without which no name is found.
const RESOLVER: &str = "/etc/resolv.conf";

/// Confines this thread and every thread and process that it will start. A kernel that cannot is
/// reported and tolerated: whoever runs untrusted agents uses a container.
pub(crate) fn apply(options: &Options) {
    if let Some(temp) = options.temp()
        && let Err(error) = std::fs::create_dir_all(&temp)
    {
        say!("could not create {}: {error}", temp.display());
    }
    match restrict(options) {
        Ok(RestrictionStatus {
            landlock: LandlockStatus::Available { effective_abi, .. }, ..
        }) => {
            if effective_abi < SIGNALS {
                say!("--confine: this kernel's Landlock is old: others can be signalled");
            }
        }
        Ok(_) => say!("--confine: this kernel has no Landlock, so the runner is not confined"),
        Err(error) => say!("--confine: not confined: {}", chain(&error)),
    }
}

fn restrict(options: &Options) -> Result<RestrictionStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(WANTED))?
        .scope(Scope::from_all(WANTED))?
        .create()?;
    for (paths, rights) in rules(options) {
        ruleset = ruleset.add_rules(path_beneath_rules(paths, rights))?;
    }
    ruleset.restrict_self()
}

/// What may be done beneath which paths. Those that are not there give nothing.
fn rules(options: &Options) -> Vec<(Vec<PathBuf>, BitFlags<AccessFs>)> {
    let file = AccessFs::Execute | AccessFs::ReadFile;
    let read = AccessFs::from_read(WANTED);
    let devices = AccessFs::ReadFile | AccessFs::WriteFile;
    let memory =
        devices | AccessFs::ReadDir | AccessFs::MakeReg | AccessFs::RemoveFile | AccessFs::Truncate;
    // The way to models is a socket there, which is the host's.
    let inbox = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::ResolveUnix;
    let folders = &options.folders;
    let shared = folders.agent.as_deref().filter(|_| folders.access != SharedFolder::Rw);
    let readable = [Some(&*folders.program), shared, folders.cli.as_deref()].into_iter().flatten();
    let owned = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
    vec![
        (owned(SYSTEM), read),
        (std::env::current_exe().into_iter().collect(), file),
        (Path::new(RESOLVER).canonicalize().into_iter().collect(), AccessFs::ReadFile.into()),
        (program(options).into_iter().collect(), read),
        (readable.map(Path::to_owned).collect(), read),
        (owned(DEVICES), devices),
        (shared_memory(options.paths.in_dir()).into_iter().map(PathBuf::from).collect(), memory),
        (vec![options.paths.in_dir().to_owned()], inbox),
        (writable(options).map(Path::to_owned).collect(), AccessFs::from_all(WANTED)),
    ]
}

/// Shared memory, unless the session lies in it: whoever may write there could write the inbox.
fn shared_memory(inbox: &Path) -> Option<&'static str> {
    let inbox = inbox.canonicalize().unwrap_or_else(|_| inbox.to_owned());
    (!inbox.starts_with(SHARED_MEMORY)).then_some(SHARED_MEMORY)
}

/// The folder of the agent's program, which may lie anywhere, or only the program where that folder
/// holds the session as well. A configuration that cannot be read is reported later, by the turn that
/// needs it.
fn program(options: &Options) -> Option<PathBuf> {
    let config = AgentConfig::load(&options.paths.agent_config()).unwrap_or_default();
    let search = std::env::var_os("PATH");
    let writable: Vec<PathBuf> =
        writable(options).filter_map(|folder| folder.canonicalize().ok()).collect();
    let writable: Vec<&Path> = writable.iter().map(PathBuf::as_path).collect();
    let base = options.folders.program.canonicalize().ok()?;
    let command = config.provider.command().first()?;
    let program = outside::program(command, &base, search.as_deref(), &writable)?;
    let beside = program.parent().filter(|folder| !options.paths.in_dir().starts_with(folder));
    Some(beside.unwrap_or(&program).to_owned())
}

/// The folders in which the agent may do everything. The folders above them are the host's.
fn writable(options: &Options) -> impl Iterator<Item = &Path> {
    let folders = &options.folders;
    let shared = folders.agent.as_deref().filter(|_| folders.access == SharedFolder::Rw);
    [Some(options.paths.out_dir()), folders.work.as_deref(), shared].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_reaches_the_way_to_models_in_its_inbox_and_writes_nothing_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let options = Options {
            session: twobox_shared::ids::SessionId::generate(&twobox_shared::ids::SystemIds),
            runner: twobox_shared::ids::RunnerId::generate(&twobox_shared::ids::SystemIds),
            paths: twobox_shared::paths::SessionPaths::of_mounts(at("in"), at("out")),
            folders: crate::args::Folders {
                program: at("program"),
                work: Some(at("work")),
                agent: Some(at("agent")),
                access: SharedFolder::Ro,
                cli: Some(at("cli")),
            },
            idle: std::time::Duration::ZERO,
            grace: std::time::Duration::ZERO,
            poll: None,
            heartbeat: std::time::Duration::ZERO,
            durability: twobox_shared::durability::Durability::ProcessCrash,
            processes: None,
            confine: true,
        };
        let rules = rules(&options);
        let with = |right: AccessFs| -> Vec<PathBuf> {
            let rules = rules.iter().filter(|(_, rights)| rights.contains(right));
            let paths = rules.flat_map(|(paths, _)| paths.clone());
            paths.filter(|path| path.starts_with(dir.path())).collect()
        };
        assert_eq!(with(AccessFs::ResolveUnix), [at("in"), at("out"), at("work")]);
        assert_eq!(with(AccessFs::WriteFile), [at("out"), at("work")]);
        assert_eq!(with(AccessFs::MakeSock), [at("out"), at("work")]);
        assert_eq!(
            with(AccessFs::ReadFile),
            [at("program"), at("agent"), at("cli"), at("in"), at("out"), at("work")]
        );
    }

    #[test]
    fn shared_memory_is_given_where_the_session_does_not_lie_in_it() {
        assert_eq!(shared_memory(Path::new("/var/lib/twobox/s/in")), Some(SHARED_MEMORY));
        assert_eq!(shared_memory(Path::new("/dev/shm/data/s/in")), None);
        assert_eq!(shared_memory(Path::new("/dev/shmem/s/in")), Some(SHARED_MEMORY));
    }
}
