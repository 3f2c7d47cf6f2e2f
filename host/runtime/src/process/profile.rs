//! What of a profile a process of this machine can do.

use crate::Profile;

/// Whether a process of this machine can be what the agent's own part of `profile` asks for. What
/// `[containers]` says is for containers.
pub(super) fn accepts(profile: &Profile) -> Result<(), String> {
    let Profile { image, network, limits, mounts, .. } = profile;
    let asked = [
        ("image", image.own, "has no image, it is a program of this machine"),
        ("network", network.own, "has the network of this machine and no other"),
        ("limits.cpus", limits.cpus.own, "has no limit on processors"),
        ("limits.pids", limits.pids.own, "has no limit on processes of its own"),
        ("mounts", !mounts.is_empty(), "has no mounts, it sees folders where they are"),
    ];
    match asked.iter().find(|(_, own, _)| *own) {
        None => Ok(()),
        Some((field, _, why)) => Err(format!(
            "{field}: a runner of the process runtime {why}: leave it out, or use runtime = \"docker\" \
             or \"sandbox\""
        )),
    }
}
