//! Which engine to talk to.

use std::path::Path;

/// Where Docker's engine listens unless told otherwise.
const USUAL: &str = "/var/run/docker.sock";

/// The path of the engine's socket: the setting, else `DOCKER_HOST`, else the usual place, else a
/// rootless Podman's. If none of them exists yet, the usual place, because an engine may come up
/// after the host.
///
/// # Errors
/// Says what to do if `DOCKER_HOST` names something other than a unix socket.
pub(super) fn find(
    setting: &str,
    variable: impl Fn(&str) -> Option<String>,
    exists: impl Fn(&Path) -> bool,
) -> Result<String, String> {
    if !setting.is_empty() {
        return Ok(setting.trim_start_matches("unix://").to_owned());
    }
    if let Some(host) = variable("DOCKER_HOST").filter(|host| !host.is_empty()) {
        return match host.strip_prefix("unix://") {
            Some(path) => Ok(path.to_owned()),
            None => Err(format!(
                "DOCKER_HOST is {host:?}, and only unix:// sockets can be used, because session \
                 folders are mounted from this machine: unset it or set containers.socket"
            )),
        };
    }
    let podman = variable("XDG_RUNTIME_DIR").map(|dir| format!("{dir}/podman/podman.sock"));
    let candidates = [Some(USUAL.to_owned()), podman];
    let found = candidates.into_iter().flatten().find(|path| exists(Path::new(path)));
    Ok(found.unwrap_or_else(|| USUAL.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_is_named_or_exists_is_taken() {
        let podman = "/run/user/7/podman/podman.sock";
        let set = |name: &str| (name == "XDG_RUNTIME_DIR").then(|| "/run/user/7".to_owned());
        let host = |name: &str| (name == "DOCKER_HOST").then(|| "unix:///d.sock".to_owned());
        assert_eq!(find("/a.sock", host, |_| true).as_deref(), Ok("/a.sock"));
        assert_eq!(find("unix:///a.sock", host, |_| true).as_deref(), Ok("/a.sock"));
        assert_eq!(find("", host, |_| true).as_deref(), Ok("/d.sock"));
        assert_eq!(find("", set, |_| true).as_deref(), Ok(USUAL));
        assert_eq!(find("", set, |path| path == Path::new(podman)).as_deref(), Ok(podman));
        assert_eq!(find("", set, |_| false).as_deref(), Ok(USUAL));
    }

    #[test]
    fn an_engine_elsewhere_is_refused_with_a_way_out() {
        let tcp = |name: &str| (name == "DOCKER_HOST").then(|| "tcp://10.0.0.1:2375".to_owned());
        let refusal = find("", tcp, |_| true).unwrap_err();
        assert!(refusal.contains("containers.socket"), "{refusal}");
    }
}
