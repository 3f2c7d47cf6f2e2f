//! What to tell people about what bwrap says.

use std::path::Path;

/// What helps where there is no bwrap.
pub(super) const NOT_INSTALLED: &str =
    "bwrap is not installed: `apt-get install bubblewrap` (or your distribution's package)";

const IN_CONTAINER: &str = "run Twobox outside of the container, or start the container with \
    `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`";

/// Parts of what bwrap or the child says, and what they mean. The first that fits counts.
const KNOWN: &[(&str, &str)] = &[
    (
        "No permissions to create new namespace",
        "this user may make no user namespaces: `sysctl -w kernel.unprivileged_userns_clone=1` and \
         `sysctl user.max_user_namespaces` (not 0); inside of a container it is the container's \
         seccomp list: run Twobox outside of it, or start it with `--security-opt \
         seccomp=unconfined --security-opt systempaths=unconfined`",
    ),
    (
        "setting up uid map: Permission denied",
        "AppArmor keeps bwrap from making user namespaces, as on Ubuntu since 23.10: give \
         /usr/bin/bwrap a profile with `userns,` in it, or `sysctl -w \
         kernel.apparmor_restrict_unprivileged_userns=0`",
    ),
    (
        "Failed RTM_NEWADDR",
        "AppArmor keeps bwrap from using its user namespace, as on Ubuntu since 23.10: give \
         /usr/bin/bwrap a profile with `userns,` in it, or `sysctl -w \
         kernel.apparmor_restrict_unprivileged_userns=0`",
    ),
    (
        "setting up uid map: Operation not permitted",
        "root lacks capabilities here: run Twobox as an ordinary user, or leave \
         CapabilityBoundingSet= out of its unit",
    ),
    (
        "ENOSPC",
        "too many namespaces: raise `sysctl user.max_user_namespaces` and its like \
         (user.max_pid_namespaces, user.max_net_namespaces, …); 0 means none at all",
    ),
    (
        "Resource temporarily unavailable",
        "this user may have no more processes: see `ulimit -u` (LimitNPROC= in a unit) and end some",
    ),
    (
        "Can't mount proc",
        "/proc is covered: leave ProtectKernelTunables=, ProtectKernelLogs=, ProtectProc= and \
         ProcSubset= out of the unit; in a container add `--security-opt systempaths=unconfined`",
    ),
    ("pivot_root: Operation not permitted", IN_CONTAINER),
    (
        "Unexpected capabilities but not setuid",
        "the host has capabilities without being root: leave AmbientCapabilities= out of its unit, \
         and `setcap -r` the programs that have some",
    ),
    ("Unknown option", "this bwrap is too old: 0.7.0 or newer is needed"),
    ("making a mount namespace failed", IN_CONTAINER),
    (
        "joining its cgroup failed",
        "the cgroup that was delegated cannot be used: see docs/running.md, Limits",
    ),
    ("closing what was open failed", "this kernel is too old: Linux 5.11 or newer is needed"),
];

/// What `words`, from bwrap or from whoever was to start it, mean and what to do.
pub(super) fn explain(words: &str, root: bool, runner: &Path) -> String {
    let said: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let said = said.join("; ");
    let runner_path = runner.display();
    let advice = KNOWN.iter().find(|(part, _)| words.contains(part)).map(|(_, advice)| *advice);
    if let Some(advice) = advice {
        return format!("{said}: {advice}");
    }
    if words.contains("execvp /agent-runner") {
        return format!(
            "{said}: {runner_path} cannot run inside: it needs libraries that are in /usr, or to be \
             linked statically (`scripts/build-image` shows how)"
        );
    }
    if words.contains("execvp /usr/bin/setpriv") {
        return format!("{said}: install setpriv (util-linux)");
    }
    if words.contains("Can't find source path") && words.contains("Permission denied") && !root {
        return format!("{said}: this user may not look into that folder: see its permissions");
    }
    if words.contains("No such file or directory") && words.contains(&*runner.to_string_lossy()) {
        return format!(
            "{said}: build it with `cargo build -p twobox-agent-runner`, or set containers.runner"
        );
    }
    format!("{said}: `bwrap --unshare-user --ro-bind / / true` shows whether bwrap works at all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bwrap_says_becomes_what_to_do() {
        for (said, advice) in [
            ("bwrap: No permissions to create new namespace, likely because", "userns_clone"),
            ("bwrap: No permissions to create new namespace, likely because", "seccomp=unconfined"),
            ("bwrap: setting up uid map: Permission denied", "AppArmor"),
            ("bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted", "AppArmor"),
            ("bwrap: Creating new namespace failed: nesting depth or … (ENOSPC)", "max_user_name"),
            ("bwrap: Creating new namespace failed: Resource temporarily unavailable", "ulimit -u"),
            ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", "systempaths"),
            ("bwrap: pivot_root: Operation not permitted", "outside of the container"),
            ("bwrap: Unexpected capabilities but not setuid, old file caps config?", "Ambient"),
            ("bwrap: setting up uid map: Operation not permitted", "CapabilityBoundingSet"),
            ("bwrap: Unknown option --size", "0.7.0"),
            ("bwrap: execvp /agent-runner: No such file or directory", "linked statically"),
            ("bwrap: execvp /usr/bin/setpriv: No such file or directory", "util-linux"),
            ("bwrap: Can't find source path /d/s: Permission denied", "may not look into"),
            ("/r/agent-runner: No such file or directory (os error 2)", "containers.runner"),
            ("sandbox: making a mount namespace failed", "outside of the container"),
            ("sandbox: closing what was open failed", "5.11"),
            ("bwrap: something new", "whether bwrap works at all"),
        ] {
            let told = explain(
                &format!("bwrap: exit status: 1\n{said}\n"),
                false,
                Path::new("/r/agent-runner"),
            );
            assert!(told.contains(said), "{told}");
            assert!(told.contains(advice), "{told}");
        }
    }
}
