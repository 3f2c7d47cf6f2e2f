//! What kind of engine answers, by its own word.

use bollard::models::SystemVersion;

use super::folder::User;

/// What matters of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its version, and that of its interface.
    pub(super) version: String,
    /// It is Podman, and not Docker.
    pub(super) podman: bool,
    /// Root inside is the user whose engine it is.
    pub(super) rootless: bool,
    /// Every user inside is another one outside.
    pub(super) remapped: bool,
}

impl Facts {
    /// From the engine's answers and the owner of its socket. Podman before 4.6 does not list
    /// `rootless` among its options: there the socket tells, which belongs to whoever runs it.
    pub(super) fn of(
        version: SystemVersion,
        options: Option<Vec<String>>,
        socket_owner: Option<u32>,
    ) -> Self {
        let options = options.unwrap_or_default();
        let has = |name: &str| options.iter().any(|option| option.split(',').any(|it| it == name));
        let components = version.components.unwrap_or_default();
        let podman = components.iter().any(|component| component.name.contains("Podman"));
        let known = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
        let (number, api) = (known(version.version), known(version.api_version));
        let name = if podman { "Podman" } else { "engine" };
        let rootless = has("name=rootless") || (podman && socket_owner.is_some_and(|it| it != 0));
        let kind = if rootless { ", rootless" } else { "" };
        Self {
            version: format!("{name} {number} (API {api}{kind})"),
            podman,
            rootless,
            remapped: has("name=userns"),
        }
    }

    /// How to make the host's own user the same inside, where the engine would make somebody else
    /// of it who could not write the folders.
    pub(super) fn keeps_id(&self, own: User, user: User) -> bool {
        self.podman && self.rootless && own.uid != 0 && user == own
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::SystemVersionComponents;

    use super::*;

    #[test]
    fn an_engine_is_known_by_what_it_says() {
        let version = |component: &str| SystemVersion {
            components: Some(vec![SystemVersionComponents {
                name: component.to_owned(),
                ..SystemVersionComponents::default()
            }]),
            version: Some("4.3.1".to_owned()),
            ..SystemVersion::default()
        };
        let person = User { uid: 7, gid: 8 };
        let root = User { uid: 0, gid: 0 };
        let cases = [
            ("Docker", "Engine", "name=seccomp,profile=default", 0, false, false),
            ("Docker, its socket given to a group", "Engine", "name=seccomp", 7, false, false),
            ("rootless Docker", "Engine", "name=rootless", 7, true, false),
            ("Podman of root", "Podman Engine", "name=seccomp", 0, false, false),
            ("rootless Podman 4.3", "Podman Engine", "name=seccomp", 7, true, true),
            ("rootless Podman", "Podman Engine", "name=rootless", 7, true, true),
        ];
        for (case, component, option, owner, rootless, keeps) in cases {
            let options = Some(vec!["name=apparmor".to_owned(), option.to_owned()]);
            let facts = Facts::of(version(component), options, Some(owner));
            assert_eq!(facts.rootless, rootless, "{case}");
            assert_eq!(facts.keeps_id(person, person), keeps, "{case}");
            assert!(!facts.keeps_id(person, root), "{case}: root inside is the person already");
            assert!(!facts.keeps_id(root, User { uid: 65532, gid: 65532 }), "{case}");
            assert!(facts.version.contains("4.3.1"), "{case}: {}", facts.version);
        }
    }
}
