//! Which system calls a sandbox may make: those that Docker's default profile leaves to a process
//! without capabilities, as two filters in the form that `bwrap --add-seccomp-fd` reads.
//!
//! A filter has one answer for what it names and one for the rest, so there are two. The first names
//! what is allowed and refuses the rest with EPERM. The second refuses `clone3` alone, with ENOSYS:
//! its flags lie in memory, where no filter can read them, and a C library that is told that the
//! call does not exist uses `clone`, whose flags the first one checks. Both look at the architecture
//! first and kill a process that calls by the numbers of another one.

mod calls;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use calls::{ANYWHERE, NEWER, OF_ARCHITECTURE};

/// The two filters, each as the bytes that bwrap reads.
#[derive(Debug)]
pub(super) struct Filters {
    /// What may be called; everything else is EPERM.
    pub(super) allow: Vec<u8>,
    /// That `clone3` does not exist.
    pub(super) no_clone3: Vec<u8>,
}

/// The filters of this machine's architecture, or why there are none.
pub(super) fn filters() -> Result<&'static Filters, String> {
    static FILTERS: OnceLock<Result<Filters, String>> = OnceLock::new();
    FILTERS.get_or_init(compile).as_ref().map_err(Clone::clone)
}

fn compile() -> Result<Filters, String> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| format!("no list of system calls for {}", std::env::consts::ARCH))?;
    let build = |rules, rest, named| {
        SeccompFilter::new(rules, rest, named, architecture)
            .and_then(BpfProgram::try_from)
            .map(|program| bytes(&program))
            .map_err(|error| wrong(&error))
    };
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let unknown = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok(Filters {
        allow: build(allowed()?, refused, SeccompAction::Allow)?,
        no_clone3: build(clone3, SeccompAction::Allow, unknown)?,
    })
}

fn wrong(error: &dyn std::fmt::Display) -> String {
    format!("the list of system calls cannot be compiled: {error}")
}

/// `struct sock_filter`s one after the other, in the order of bytes of this machine.
fn bytes(program: &BpfProgram) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend([instruction.jt, instruction.jf]);
        bytes.extend(instruction.k.to_ne_bytes());
    }
    bytes
}

/// The flags of `clone` that make a namespace.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// What may be asked of `personality`: the usual one, Linux on 32 bits, both also with the version
/// that old programs want to see, and the question.
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

fn allowed() -> Result<BTreeMap<i64, Vec<SeccompRule>>, String> {
    let condition = |argument, comparison, value| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Qword, comparison, value)
            .and_then(|condition| SeccompRule::new(vec![condition]))
            .map_err(|error| wrong(&error))
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ANYWHERE
        .iter()
        .chain(OF_ARCHITECTURE)
        .chain(NEWER)
        .map(|number| (*number, Vec::new()))
        .collect();
    let no_namespace = condition(0, SeccompCmpOp::MaskedEq(NAMESPACES), 0)?;
    rules.insert(libc::SYS_clone, vec![no_namespace]);
    // Sockets between virtual machines belong to no network namespace.
    let vsock = u64::from(libc::AF_VSOCK.cast_unsigned());
    let no_vsock = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, vsock)
        .and_then(|condition| SeccompRule::new(vec![condition]));
    rules.insert(libc::SYS_socket, vec![no_vsock.map_err(|error| wrong(&error))?]);
    let personalities: Result<Vec<_>, _> =
        PERSONALITIES.into_iter().map(|value| condition(0, SeccompCmpOp::Eq, value)).collect();
    rules.insert(libc::SYS_personality, personalities?);
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_are_what_the_kernel_takes() {
        let filters = filters().unwrap();
        for (case, filter) in [("allow", &filters.allow), ("clone3", &filters.no_clone3)] {
            assert_eq!(filter.len() % 8, 0, "{case}");
            assert!(filter.len() / 8 <= 4096, "{case}: BPF_MAXINSNS");
        }
    }

    #[test]
    fn what_needs_a_capability_elsewhere_is_not_allowed_here() {
        let rules = allowed().unwrap();
        for (name, number) in [
            ("mount", libc::SYS_mount),
            ("umount2", libc::SYS_umount2),
            ("pivot_root", libc::SYS_pivot_root),
            ("chroot", libc::SYS_chroot),
            ("unshare", libc::SYS_unshare),
            ("setns", libc::SYS_setns),
            ("bpf", libc::SYS_bpf),
            ("keyctl", libc::SYS_keyctl),
            ("add_key", libc::SYS_add_key),
            ("request_key", libc::SYS_request_key),
            ("perf_event_open", libc::SYS_perf_event_open),
            ("userfaultfd", libc::SYS_userfaultfd),
            ("open_by_handle_at", libc::SYS_open_by_handle_at),
            ("io_uring_setup", 425),
            ("open_tree", 428),
            ("move_mount", 429),
            ("fsopen", 430),
            ("mount_setattr", 442),
            ("init_module", libc::SYS_init_module),
            ("kexec_load", libc::SYS_kexec_load),
            ("reboot", libc::SYS_reboot),
            ("settimeofday", libc::SYS_settimeofday),
            ("kcmp", libc::SYS_kcmp),
        ] {
            assert!(!rules.contains_key(&number), "{name}");
        }
        for (name, number) in [
            ("clone", libc::SYS_clone),
            ("socket", libc::SYS_socket),
            ("personality", libc::SYS_personality),
        ] {
            assert!(!rules[&number].is_empty(), "{name} is allowed with conditions only");
        }
    }
}
