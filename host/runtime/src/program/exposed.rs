//! Whether a conversation could still change what its agent runs.

use std::path::Path;

use twobox_shared::agent_config::{AgentConfig, SharedFolder};
use twobox_shared::paths::container;

/// The word of the command that names something in the folder which `config` lets conversations write:
/// by its place in a container, or on the host, where `shared` is that folder.
pub fn exposed<'c>(config: &'c AgentConfig, shared: &Path) -> Option<&'c str> {
    let in_shared = |word: &&str| {
        let path = Path::new(word);
        path.starts_with(container::AGENT) || path.starts_with(shared)
    };
    let writable = config.shared_folder == SharedFolder::Rw;
    config.provider.command().iter().map(String::as_str).find(|word| writable && in_shared(word))
}

/// What to do about it.
pub const EXPOSED_HELP: &str = "give the file to `twobox agents put`, and name it by its path in the \
                                program folder with `twobox agents edit`";

#[cfg(test)]
mod tests {
    use twobox_shared::agent_config::{Lifetime, Provider};

    use super::*;

    #[test]
    fn a_program_in_the_shared_folder_is_anybodys() {
        let cases = [
            (&["python3", "agent.py"][..], SharedFolder::Rw, None),
            (&["python3", "/workspace/agent/agent.py"], SharedFolder::Rw, Some(1)),
            (&["/data/groups/ann/run", "x"], SharedFolder::Rw, Some(0)),
            (&["/data/groups/anna/run"], SharedFolder::Rw, None),
            (&["python3", "/workspace/agent/agent.py"], SharedFolder::Ro, None),
        ];
        for (words, shared_folder, expected) in cases {
            let config = AgentConfig {
                provider: Provider::Command {
                    command: words.iter().map(|word| (*word).to_owned()).collect(),
                    lifetime: Lifetime::Turn,
                },
                shared_folder,
                ..AgentConfig::default()
            };
            let found = exposed(&config, Path::new("/data/groups/ann"));
            assert_eq!(found, expected.map(|at: usize| words[at]), "{words:?}");
        }
    }
}
