//! What of a profile a sandbox can do.

use super::Shared;
use super::cgroup::Tree;
use crate::Profile;

impl Shared {
    /// Whether a sandbox can do what `profile` asks for.
    pub(super) fn accepts(&self, profile: &Profile) -> Result<(), String> {
        let available = || Tree::available().ok().map(|tree| tree.limits_processors());
        // `None` where there is no cgroup; otherwise whether it limits processors.
        let cgroup = match self.tree.get() {
            Some(tree) => tree.as_ref().ok().map(Tree::limits_processors),
            None => available(),
        };
        let namespace = self.way.get().is_none_or(|way| way.has_namespace());
        accepts(profile, cgroup, namespace)
    }
}

/// Whether a sandbox can do what `profile` asks for, on a machine with a `cgroup`, which says whether it
/// limits processors, and with or without a user namespace, which counts processes.
fn accepts(profile: &Profile, cgroup: Option<bool>, namespace: bool) -> Result<(), String> {
    let Profile { image, network, limits, .. } = profile;
    if network.value != "none" {
        let field = if network.own { "network" } else { "containers.network in twobox.toml" };
        return Err(format!(
            "{field} is {:?}, and a sandbox has no network: set it to \"none\", or use runtime = \
             \"docker\"",
            network.value
        ));
    }
    if image.own {
        return Err(format!(
            "image is {:?}, and a sandbox has none, it shows this machine's own programs: leave it out, \
             or use runtime = \"docker\"",
            image.value
        ));
    }
    let delegate = "leave it out, or give this host a delegated cgroup, see docs/running.md";
    if limits.cpus.own && cgroup != Some(true) {
        return Err(format!("limits.cpus: nothing here limits processors: {delegate}"));
    }
    if limits.pids.own && cgroup.is_none() && !namespace {
        return Err(format!("limits.pids: nothing here counts processes: {delegate}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use twobox_config::Containers;

    use super::*;
    use crate::profile::File;

    #[test]
    fn an_agent_is_refused_what_a_sandbox_does_not_have_here() {
        let settings = twobox_config::Config::default().containers;
        let open = Containers { network: "agents".to_owned(), ..settings.clone() };
        let (full, memory, none) = (Some(true), Some(false), None);
        let cases = [
            ("{}", &settings, none, false, None),
            ("{}", &open, full, true, Some("containers.network in twobox.toml is \"agents\"")),
            (r#"{"network": "none"}"#, &open, full, true, None),
            (r#"{"network": "agents"}"#, &settings, full, true, Some("network is \"agents\"")),
            (r#"{"image": "x"}"#, &settings, full, true, Some("image is \"x\"")),
            (r#"{"limits": {"cpus": 1}}"#, &settings, full, true, None),
            (r#"{"limits": {"cpus": 1}}"#, &settings, memory, true, Some("limits.cpus")),
            (r#"{"limits": {"cpus": 1}}"#, &settings, none, true, Some("limits.cpus")),
            (r#"{"limits": {"pids": 50}}"#, &settings, none, true, None),
            (r#"{"limits": {"pids": 50}}"#, &settings, memory, false, None),
            (r#"{"limits": {"pids": 50}}"#, &settings, none, false, Some("limits.pids")),
            (r#"{"limits": {"memory_mb": 50}}"#, &settings, none, false, None),
        ];
        for (text, settings, cgroup, namespace, refused) in cases {
            let profile = Profile::of(File::parse(text).unwrap(), settings).unwrap();
            let case = format!("{text}, {cgroup:?}, {namespace}");
            match (accepts(&profile, cgroup, namespace), refused) {
                (Ok(()), None) => {}
                (Err(reason), Some(part)) => assert!(reason.contains(part), "{case}: {reason}"),
                (found, _) => panic!("{case}: {found:?}"),
            }
        }
    }
}
