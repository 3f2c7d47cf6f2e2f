//! Which engine to talk to.

use std::path::Path;

/// Where Docker's engine listens unless told otherwise.
const USUAL: &str = "/var/run/docker.sock";
/// Where root's Podman listens.
const PODMAN: &str = "/run/podman/podman.sock";

/// The path of the engine's socket: the setting, else `DOCKER_HOST`, else Docker's usual place, else
/// those of Podman, of which root's comes first if this is `root`. If none of them exists yet, the
/// usual place, because an engine may come up after the host.
///
/// # Errors
/// Says what to do if the setting or `DOCKER_HOST` names something other than a unix socket.
pub(super) fn find(
    setting: &str,
    root: bool,
    variable: impl Fn(&str) -> Option<String>,
    exists: impl Fn(&Path) -> bool,
) -> Result<String, String> {
    const WHY: &str = "only unix sockets can be used, because session folders are mounted from this \
                       machine";
    if !setting.is_empty() {
        let path = setting.strip_prefix("unix://").unwrap_or(setting);
        return match path.starts_with('/') {
            true => Ok(path.to_owned()),
            false => Err(format!(
                "containers.socket is {setting:?}, and {WHY}: write the whole path of one, as \
                 \"/run/podman/podman.sock\""
            )),
        };
    }
    if let Some(host) = variable("DOCKER_HOST").filter(|host| !host.is_empty()) {
        return match host.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
            Some(path) => Ok(path.to_owned()),
            None => Err(format!(
                "DOCKER_HOST is {host:?}, and {WHY}: unset it or set containers.socket"
            )),
        };
    }
    let runtime_dir = variable("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let own = runtime_dir.map(|dir| format!("{dir}/podman/podman.sock"));
    // A person's own engine comes before root's, which only root may use as a rule.
    let podman = if root { [Some(PODMAN.to_owned()), own] } else { [own, Some(PODMAN.to_owned())] };
    let candidates = [Some(USUAL.to_owned())].into_iter().chain(podman);
    let found = candidates.flatten().find(|path| exists(Path::new(path)));
    Ok(found.unwrap_or_else(|| USUAL.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_is_named_or_exists_is_taken() {
        let own = "/run/user/7/podman/podman.sock";
        let set = |name: &str| (name == "XDG_RUNTIME_DIR").then(|| "/run/user/7".to_owned());
        let host = |name: &str| (name == "DOCKER_HOST").then(|| "unix:///d.sock".to_owned());
        let at = |places: &'static [&str]| {
            move |path: &Path| places.iter().any(|it| path == Path::new(it))
        };
        assert_eq!(find("/a.sock", true, host, |_| true).as_deref(), Ok("/a.sock"));
        assert_eq!(find("unix:///a.sock", true, host, |_| true).as_deref(), Ok("/a.sock"));
        assert_eq!(find("", true, host, |_| true).as_deref(), Ok("/d.sock"));
        for root in [true, false] {
            assert_eq!(find("", root, set, |_| true).as_deref(), Ok(USUAL));
            assert_eq!(
                find("", root, set, at(&["/run/user/7/podman/podman.sock"])).as_deref(),
                Ok(own)
            );
            assert_eq!(find("", root, |_| None, at(&[PODMAN])).as_deref(), Ok(PODMAN));
            assert_eq!(find("", root, set, |_| false).as_deref(), Ok(USUAL));
        }
        let both = at(&[PODMAN, "/run/user/7/podman/podman.sock"]);
        assert_eq!(find("", true, set, both).as_deref(), Ok(PODMAN));
        assert_eq!(find("", false, set, both).as_deref(), Ok(own));
    }

    #[test]
    fn an_engine_elsewhere_is_refused_with_a_way_out() {
        let refused = |setting: &str, host: &str| {
            let variable = |name: &str| (name == "DOCKER_HOST").then(|| host.to_owned());
            find(setting, true, variable, |_| true).unwrap_err()
        };
        for host in ["tcp://10.0.0.1:2375", "unix://", "unix://d.sock", "ssh://x", "/d.sock"] {
            let refusal = refused("", host);
            assert!(
                refusal.contains("DOCKER_HOST") && refusal.contains("containers.socket"),
                "{refusal}"
            );
        }
        for setting in
            ["tcp://10.0.0.1:2375", "http://x", "d.sock", "unix://d.sock", " ", "~/d.sock"]
        {
            let refusal = refused(setting, "");
            assert!(
                refusal.contains("containers.socket") && refusal.contains("whole path"),
                "{refusal}"
            );
        }
    }
}
