//! Which settings of `[containers]`, and which of an agent's own, would take the walls down: pure.
//!
//! What means nothing is refused. What lets an agent out is refused too, unless
//! `containers.allow_unsafe` says that somebody wants it; then it is a [`Caution`], said at every
//! start and by `doctor`.

use twobox_config::Containers;

/// Something that was chosen, and that people should be reminded of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caution {
    /// What it means.
    pub what: String,
    /// What to do instead.
    pub help: String,
    /// It takes a wall down; otherwise it is a choice that this program cannot judge.
    pub unsafe_: bool,
}

/// What is wrong with the settings, as far as it shows without asking an engine.
///
/// # Errors
/// What is refused, and what to write.
pub fn judge(settings: &Containers) -> Result<Vec<Caution>, String> {
    if settings.image.trim().is_empty() {
        return Err("containers.image is empty: name the image of the runner, as \
                    \"twobox-runner:local\""
            .to_owned());
    }
    let judged = network("containers.network", &settings.network, settings.allow_unsafe)?;
    Ok(judged.into_iter().collect())
}

/// What a container of this user may do on an engine that is rootless, where root inside is the
/// host's own user, or is not.
///
/// # Errors
/// What is refused, and what to write.
pub fn judge_user(
    settings: &Containers,
    (uid, gid): (u32, u32),
    rootless: bool,
) -> Result<Option<Caution>, String> {
    if rootless || (uid != 0 && gid != 0) {
        return Ok(None);
    }
    let what = match uid {
        0 => format!("containers.user = {:?}: agents are root inside", settings.user),
        _ => format!("containers.user = {:?}: agents are in the group of root", settings.user),
    };
    let help = "leave containers.user empty";
    allowed(settings.allow_unsafe, what, help.to_owned()).map(Some)
}

/// What is wrong with a network that the setting or the agent's own `field` names.
///
/// # Errors
/// What is refused, and what to write.
pub(crate) fn network(
    field: &str,
    network: &str,
    allow_unsafe: bool,
) -> Result<Option<Caution>, String> {
    let help = format!("make {field} \"none\", or name a network that you made");
    if network.is_empty() || network.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!(
            "{field} is {network:?}, with which an engine would take its usual network: {help}"
        ));
    }
    let (kind, options) = network.split_once(':').unwrap_or((network, ""));
    let shown = format!("{field} = {network:?}");
    match (kind, options) {
        ("none", "") => Ok(None),
        ("host", _) => {
            let what = format!(
                "{shown}: agents reach every service of this machine, also those that listen on \
                 127.0.0.1 alone, and the sockets with abstract names"
            );
            allowed(allow_unsafe, what, help).map(Some)
        }
        ("container" | "ns", _) => {
            let what = format!("{shown}: agents share the network of something else");
            allowed(allow_unsafe, what, help).map(Some)
        }
        // Their options open the machine's own loopback, or its ports.
        ("slirp4netns" | "pasta" | "bridge" | "private", options) if !options.is_empty() => {
            let what =
                format!("{shown}: these options may open this machine's own ports to agents");
            allowed(allow_unsafe, what, help).map(Some)
        }
        _ => Ok(Some(Caution {
            what: format!("{shown}: agents reach whatever that network reaches"),
            help: format!("restrict that network, or make {field} \"none\""),
            unsafe_: false,
        })),
    }
}

/// The caution, if somebody has said that he wants it.
fn allowed(allow_unsafe: bool, what: String, help: String) -> Result<Caution, String> {
    match allow_unsafe {
        true => Ok(Caution { what, help, unsafe_: true }),
        false => {
            Err(format!("{what}: {help}; if you do want this, set containers.allow_unsafe = true"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_config::Config;

    fn with(change: impl FnOnce(&mut Containers)) -> Containers {
        let mut settings = Config::default().containers;
        change(&mut settings);
        settings
    }

    #[derive(Debug, PartialEq)]
    enum Word {
        Fine,
        Choice,
        Unsafe,
        Refused,
    }
    use Word::{Choice, Fine, Refused, Unsafe};

    #[test]
    fn a_network_without_walls_has_to_be_wanted_in_so_many_words() {
        let id = "0".repeat(64);
        let cases = [
            ("none", Fine),
            ("", Refused),
            (" ", Refused),
            (" host", Refused),
            ("none\n", Refused),
            ("host", Unsafe),
            ("host:", Unsafe),
            ("container:db", Unsafe),
            ("container:", Unsafe),
            ("ns:/proc/1/ns/net", Unsafe),
            ("slirp4netns:allow_host_loopback=true", Unsafe),
            ("pasta:-T,auto", Unsafe),
            ("slirp4netns", Choice),
            ("pasta", Choice),
            ("private", Choice),
            ("bridge", Choice),
            ("default", Choice),
            ("agents", Choice),
            ("None", Choice),
            (&id, Choice),
        ];
        for (network, expected) in cases {
            for allow in [false, true] {
                let settings = with(|it| {
                    it.network = network.to_owned();
                    it.allow_unsafe = allow;
                });
                let seen = match judge(&settings).as_deref() {
                    Ok([]) => Fine,
                    Ok([caution]) if caution.unsafe_ => Unsafe,
                    Ok(_) => Choice,
                    Err(reason) => {
                        assert!(reason.contains("containers.network"), "{reason}");
                        let way = reason.contains("containers.allow_unsafe");
                        assert_eq!(way, expected == Unsafe, "{network:?}: {reason}");
                        Refused
                    }
                };
                let expected = match (&expected, allow) {
                    (Unsafe, false) => &Refused,
                    (expected, _) => expected,
                };
                assert_eq!(seen, *expected, "{network:?}, allowed: {allow}");
            }
        }
    }

    #[test]
    fn nobody_is_root_inside_by_a_setting_alone() {
        let cases = [
            ("a person", (7, 8), false, Fine),
            ("root", (0, 0), false, Unsafe),
            ("root of another group", (0, 8), false, Unsafe),
            ("in the group of root", (7, 0), false, Unsafe),
            ("root of a rootless engine is the host's own user", (0, 0), true, Fine),
        ];
        for (case, user, rootless, expected) in cases {
            let judged = |allow| judge_user(&with(|it| it.allow_unsafe = allow), user, rootless);
            match expected {
                Unsafe => {
                    let reason = judged(false).unwrap_err();
                    assert!(reason.contains("containers.allow_unsafe"), "{case}: {reason}");
                    assert!(judged(true).unwrap().is_some_and(|it| it.unsafe_), "{case}");
                }
                _ => assert_eq!((judged(false), judged(true)), (Ok(None), Ok(None)), "{case}"),
            }
        }
    }

    #[test]
    fn an_image_without_a_name_is_refused() {
        for image in ["", " "] {
            let reason = judge(&with(|it| it.image = image.to_owned())).unwrap_err();
            assert!(reason.contains("containers.image"), "{reason}");
        }
    }
}
