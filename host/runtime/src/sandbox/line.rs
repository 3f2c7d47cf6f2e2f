//! The command line of `bwrap`: everything that confines an agent is in [`line`], and nothing turns
//! it off.
//!
//! Order counts: bwrap carries its options out one after the other. What lies below another place
//! comes after it, and a place is closed for writing after everything in it is made.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use twobox_shared::ids::InstallId;

use super::system::System;
use crate::StartSpec;
use crate::command;
use crate::docker::folder::User;
use crate::mounts::Seen;
use crate::profile::Environment;

/// Where the runner is inside.
pub(super) const RUNNER: &str = "/agent-runner";
/// How much each folder in memory holds, in bytes, as in a container:
pub(super) const TEMP_SIZE: u64 = 64 * 1024 * 1024;
/// these are all that there are.
pub(super) const IN_MEMORY: [&str; 4] = ["/dev/shm", "/tmp", "/var/tmp", "/run"];
/// The start of the name under which bwrap runs; the session's folder follows, so that whoever finds
/// the process knows whose it is, and people see it in `ps`.
pub(super) const NAME: &str = "twobox-sandbox:";

/// Who the processes inside are, and how they become it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The host's own user, which is not root.
    Own,
    /// Root becomes this user before bwrap runs, which is then an ordinary user's.
    Before(User),
    /// bwrap runs as root, without a user namespace, for machines that let users make none; the
    /// first program inside becomes this user and gives up everything else.
    Inside(User),
}

impl Way {
    /// Whether the sandbox has a user namespace, in which its processes are counted by themselves.
    pub(super) fn has_namespace(self) -> bool {
        !matches!(self, Self::Inside(_))
    }
}

/// One folder or file of the host that is seen inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bind {
    /// By the name under which bwrap finds it.
    pub(super) source: PathBuf,
    pub(super) target: PathBuf,
    pub(super) read_only: bool,
}

/// The descriptors that bwrap is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptors {
    /// Where it writes the inner process and the exit code.
    pub(super) status: RawFd,
    /// The two filters of system calls.
    pub(super) filters: [RawFd; 2],
    /// The texts of `/etc/passwd` and `/etc/group`.
    pub(super) accounts: [RawFd; 2],
    /// Further arguments, those of [`variables`].
    pub(super) variables: RawFd,
}

/// The name under which the sandbox of the session in `folder` runs.
pub(super) fn name(folder: &Path) -> OsString {
    let mut name = OsString::from(NAME);
    name.push(folder);
    name
}

/// The arguments of bwrap after its name. `program` is what runs inside, with its arguments.
pub(super) fn line(
    way: Way,
    system: &System,
    environment: &[(&str, OsString)],
    binds: &[Bind],
    descriptors: Descriptors,
    program: &[OsString],
) -> Vec<OsString> {
    let mut line = Line(Vec::with_capacity(160));
    if way.has_namespace() {
        line.add(["--unshare-user"]);
    }
    // Each by its name: `--unshare-all` leaves out what it may not, and does not say so.
    line.add(["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]);
    line.add(["--unshare-cgroup", "--cap-drop", "ALL"]);
    if let Way::Inside(_) = way {
        for capability in ["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"] {
            line.add(["--cap-add", capability]);
        }
    }
    line.add(["--new-session", "--hostname", "twobox", "--clearenv"]);
    // First, so that it takes the place of nothing that is set here.
    line.descriptor("--args", descriptors.variables);
    for (name, value) in environment {
        line.add([OsStr::new("--setenv"), name.as_ref(), value]);
    }
    line.system(system, descriptors);
    line.add(["--perms", "0755", "--dir", "/workspace"]);
    for bind in binds {
        let option = if bind.read_only { "--ro-bind" } else { "--bind" };
        line.add([option.as_ref(), bind.source.as_os_str(), bind.target.as_os_str()]);
    }
    line.add(["--remount-ro", "/", "--chdir", "/workspace"]);
    line.descriptor("--json-status-fd", descriptors.status);
    for filter in descriptors.filters {
        line.descriptor("--add-seccomp-fd", filter);
    }
    line.add(["--"]);
    if let Way::Inside(user) = way {
        let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
        line.add(["/usr/bin/setpriv", "--reuid", &uid, "--regid", &gid, "--clear-groups"]);
        line.add(["--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs", "--"]);
    }
    line.add(program);
    line.0
}

struct Line(Vec<OsString>);

impl Line {
    fn add<T: AsRef<OsStr>>(&mut self, parts: impl IntoIterator<Item = T>) {
        self.0.extend(parts.into_iter().map(|part| part.as_ref().to_owned()));
    }

    fn descriptor(&mut self, option: &str, number: RawFd) {
        self.add([option, &number.to_string()]);
    }

    fn system(&mut self, system: &System, descriptors: Descriptors) {
        // A parent that bwrap makes by itself is open to its owner only.
        self.add(["--perms", "0755", "--dir", "/etc", "--perms", "0755", "--dir", "/etc/ssl"]);
        for path in &system.shown {
            self.add([OsStr::new("--ro-bind"), path.as_os_str(), path.as_os_str()]);
        }
        for (target, path) in &system.links {
            self.add([OsStr::new("--symlink"), target, path.as_os_str()]);
        }
        let [passwd, group] = descriptors.accounts.map(|number| number.to_string());
        for (number, path) in [(&passwd, "/etc/passwd"), (&group, "/etc/group")] {
            self.add(["--perms", "0444", "--ro-bind-data", number, path]);
        }
        self.add(["--proc", "/proc"]);
        for path in &system.hidden_files {
            self.add([OsStr::new("--ro-bind"), "/dev/null".as_ref(), path.as_os_str()]);
        }
        for path in &system.hidden_folders {
            let path = path.as_os_str();
            self.add(["--perms", "0555", "--size", "4096"]);
            self.add([OsStr::new("--tmpfs"), path, "--remount-ro".as_ref(), path]);
        }
        self.add(["--dev", "/dev"]);
        let [shared_memory, others @ ..] = IN_MEMORY;
        self.temp(shared_memory);
        // Otherwise it holds half of the machine's memory.
        self.add(["--remount-ro", "/dev", "--perms", "0755", "--dir", "/var"]);
        for place in others {
            self.temp(place);
        }
    }

    fn temp(&mut self, path: &str) {
        self.add(["--perms", "1777", "--size", &TEMP_SIZE.to_string(), "--tmpfs", path]);
    }
}

/// The runner's environment: where programs are, a place for what they keep at home, whose process
/// it is, and what else `spec` says.
pub(super) fn environment(
    install: InstallId,
    spec: &StartSpec,
    processes: Option<i64>,
) -> Vec<(&'static str, OsString)> {
    let mut environment: Vec<(&'static str, OsString)> = vec![
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
        ("HOME", "/tmp".into()),
    ];
    let marks = command::marks(install, spec);
    environment.extend(marks.map(|(name, value)| (name, value.into())));
    environment.extend(command::folders(spec, Seen::Mounted));
    environment.extend(processes.map(|limit| ("TWOBOX_PROCESSES", limit.to_string().into())));
    environment.extend(command::crash_points(|name| std::env::var_os(name)));
    environment
}

/// What sets the variables of the agent's own. Everybody on the machine can read a command line, so they
/// do not stand there.
pub(super) fn variables(own: &Environment) -> Vec<u8> {
    let parts = own.variables().flat_map(|(name, value)| ["--setenv", name, value]);
    parts.flat_map(|part| part.bytes().chain([0])).collect()
}

/// The texts of `/etc/passwd` and `/etc/group`: the one user that there is.
pub(super) fn accounts(user: User) -> [String; 2] {
    let User { uid, gid } = user;
    [format!("agent:x:{uid}:{gid}:agent:/tmp:/bin/sh\n"), format!("agent:x:{gid}:\n")]
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIPTORS: Descriptors =
        Descriptors { status: 5, filters: [6, 7], accounts: [8, 9], variables: 10 };

    fn of(way: Way) -> Vec<String> {
        let system = System {
            shown: vec!["/usr".into()],
            links: vec![("usr/lib".into(), "/lib".into())],
            hidden_files: vec!["/proc/keys".into()],
            hidden_folders: vec!["/proc/acpi".into()],
        };
        let bind = |source: &str, target: &str, read_only| Bind {
            source: source.into(),
            target: target.into(),
            read_only,
        };
        let binds = [
            bind("/r", RUNNER, true),
            bind("/s/in", "/workspace/in", true),
            bind("/s/out", "/workspace/out", false),
        ];
        let environment = [("HOME", "/tmp".into())];
        let program = [RUNNER.into(), "--install".into()];
        line(way, &system, &environment, &binds, DESCRIPTORS, &program)
            .into_iter()
            .map(|part| part.into_string().unwrap())
            .collect()
    }

    const REST: &str = "--new-session --hostname twobox --clearenv --args 10 --setenv HOME /tmp \
        --perms 0755 --dir /etc --perms 0755 --dir /etc/ssl \
        --ro-bind /usr /usr --symlink usr/lib /lib \
        --perms 0444 --ro-bind-data 8 /etc/passwd --perms 0444 --ro-bind-data 9 /etc/group \
        --proc /proc --ro-bind /dev/null /proc/keys \
        --perms 0555 --size 4096 --tmpfs /proc/acpi --remount-ro /proc/acpi \
        --dev /dev --perms 1777 --size 67108864 --tmpfs /dev/shm --remount-ro /dev \
        --perms 0755 --dir /var --perms 1777 --size 67108864 --tmpfs /tmp \
        --perms 1777 --size 67108864 --tmpfs /var/tmp \
        --perms 1777 --size 67108864 --tmpfs /run \
        --perms 0755 --dir /workspace --ro-bind /r /agent-runner \
        --ro-bind /s/in /workspace/in --bind /s/out /workspace/out \
        --remount-ro / --chdir /workspace --json-status-fd 5 --add-seccomp-fd 6 \
        --add-seccomp-fd 7 --";

    #[test]
    fn what_may_be_a_secret_is_in_no_argument() {
        let text = r#"{"environment": {"A": "s3cret", "B": ""}}"#;
        let file = crate::profile::File::parse(text).unwrap();
        let settings = twobox_config::Config::default().containers;
        let spec = StartSpec {
            profile: crate::Profile::of(file, &settings).unwrap(),
            ..command::tests::spec()
        };
        let said = variables(&spec.profile.environment);
        assert_eq!(said, b"--setenv\0A\0s3cret\0--setenv\0B\0\0");
        let install = "0192f000-1111-7000-8000-000000000001".parse().unwrap();
        let others = format!("{:?}", environment(install, &spec, None));
        assert!(!others.contains("s3cret"), "{others}");
    }

    #[test]
    fn a_sandbox_is_confined_in_every_way_that_there_is() {
        let namespaces = "--unshare-pid --unshare-net --unshare-ipc --unshare-uts --unshare-cgroup";
        let user = User { uid: 65532, gid: 65533 };
        for way in [Way::Own, Way::Before(user)] {
            let expected = format!(
                "--unshare-user {namespaces} --cap-drop ALL {REST} /agent-runner --install"
            );
            assert_eq!(of(way).join(" "), expected, "{way:?}");
        }
        let expected = format!(
            "{namespaces} --cap-drop ALL --cap-add CAP_SETUID --cap-add CAP_SETGID --cap-add \
             CAP_SETPCAP {REST} /usr/bin/setpriv --reuid 65532 --regid 65533 --clear-groups \
             --bounding-set -all --inh-caps -all --no-new-privs -- /agent-runner --install"
        );
        assert_eq!(of(Way::Inside(user)).join(" "), expected);
    }
}
