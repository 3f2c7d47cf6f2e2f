//! Finding programs without following anything that an agent could have put in the way: what a
//! path names is looked up through folders that no agent can write, or it is not found.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

/// How many links one path may lead through, as in the kernel.
const LINKS_MAX: usize = 40;

/// What an agent's `program` is: a path, taken from the folder `base` if it is relative, or a name
/// that is looked for in the folders of `search`. `None` if it is not there, or if one of the folders
/// on the way lies in one of `writable`, which are canonical.
pub fn program(
    program: &str,
    base: &Path,
    search: Option<&OsStr>,
    writable: &[&Path],
) -> Option<PathBuf> {
    let found = |path: PathBuf| resolve(&path, writable).filter(|path| path.is_file());
    if program.contains('/') {
        return found(base.join(program));
    }
    std::env::split_paths(search?).find_map(|folder| found(folder.join(program)))
}

/// The absolute `path` without links, under the same condition.
pub fn resolve(path: &Path, writable: &[&Path]) -> Option<PathBuf> {
    if !path.is_absolute() {
        return None;
    }
    let parts = |path: &Path| -> Vec<OsString> {
        path.components().map(|part| part.as_os_str().to_owned()).collect()
    };
    let mut rest = VecDeque::from(parts(path));
    let mut found = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        match Path::new(&part).components().next()? {
            Component::RootDir | Component::Prefix(_) => found = "/".into(),
            Component::CurDir => {}
            Component::ParentDir => drop(found.pop()),
            Component::Normal(name) => {
                if writable.iter().any(|folder| found.starts_with(folder)) {
                    return None;
                }
                let next = found.join(name);
                if !next.symlink_metadata().ok()?.is_symlink() {
                    found = next;
                    continue;
                }
                links += 1;
                if links > LINKS_MAX {
                    return None;
                }
                for part in parts(&next.read_link().ok()?).into_iter().rev() {
                    rest.push_front(part);
                }
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_is_looked_up_where_an_agent_can_write() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for folder in ["program", "shared/bin", "secret", "bin"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in
            ["program/agent", "shared/agent", "shared/bin/agent", "secret/agent", "bin/tool"]
        {
            fs::write(root.join(file), "").unwrap();
        }
        symlink("../secret/agent", root.join("program/elsewhere")).unwrap();
        symlink("agent", root.join("program/alias")).unwrap();
        symlink("loop", root.join("program/loop")).unwrap();
        symlink("../shared/bin/agent", root.join("program/through")).unwrap();
        symlink(root.join("secret/agent"), root.join("shared/link")).unwrap();
        symlink(root.join("secret"), root.join("shared/folder")).unwrap();

        let (base, shared) = (root.join("program"), root.join("shared"));
        let search = root.join("shared/bin").into_os_string();
        let both = std::env::join_paths([root.join("shared/bin"), root.join("bin")]).unwrap();
        let find = |name: &str, search: &OsStr| program(name, &base, Some(search), &[&shared]);
        for (case, name, expected) in [
            ("beside the configuration", "./agent", Some("program/agent")),
            ("a link to it", "./alias", Some("program/agent")),
            ("a link that the operator made", "./elsewhere", Some("secret/agent")),
            ("a link into what an agent writes", "./through", None),
            ("a file that an agent wrote", "../shared/agent", None),
            ("a link that an agent made", "../shared/link", None),
            ("a folder that an agent made", "../shared/folder/agent", None),
            ("back out of it", "../shared/../secret/agent", Some("secret/agent")),
            ("not there", "./none", None),
            ("a circle", "./loop", None),
            ("a folder", "../secret", None),
        ] {
            assert_eq!(find(name, &search), expected.map(|it| root.join(it)), "{case}");
        }
        assert_eq!(find("agent", &search), None, "a search path that an agent fills");
        assert_eq!(find("tool", &both), Some(root.join("bin/tool")));
        assert_eq!(resolve(Path::new("agent"), &[]), None, "relative to nothing");
    }
}
