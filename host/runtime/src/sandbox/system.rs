//! What of this machine's own programs a sandbox sees: read once, because it does not change while a
//! host runs.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Where programs and libraries are, besides `/usr`. On most machines they are links into it.
const BESIDE_USR: &[&str] = &["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What programs need of `/etc`: none of it says anything about this machine's people or services.
const OF_ETC: &[&str] = &[
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
];

/// What Docker hides in `/proc` as well: files,
const HIDDEN_FILES: &[&str] = &["kcore", "keys", "latency_stats", "sched_debug", "timer_list"];
/// and folders.
const HIDDEN_FOLDERS: &[&str] = &["acpi", "asound", "scsi"];

/// The system's part of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct System {
    /// Folders and files that are bound where they are, to be read.
    pub(super) shown: Vec<PathBuf>,
    /// Links, with where they lead.
    pub(super) links: Vec<(OsString, PathBuf)>,
    /// Files in `/proc` that nobody may read.
    pub(super) hidden_files: Vec<PathBuf>,
    /// Folders in `/proc` that are empty inside.
    pub(super) hidden_folders: Vec<PathBuf>,
}

impl System {
    /// As this machine is. `root` is `/`, but for a test.
    pub(super) fn read(root: &Path) -> Self {
        let below = |path: &str| root.join(path.trim_start_matches('/'));
        let mut system = Self::default();
        for path in ["/usr", "/opt"].iter().chain(BESIDE_USR) {
            let Ok(meta) = fs::symlink_metadata(below(path)) else { continue };
            match fs::read_link(below(path)) {
                Ok(target) => system.links.push((target.into(), path.into())),
                Err(_) if meta.is_dir() => system.shown.push(path.into()),
                Err(_) => {}
            }
        }
        system.shown.extend(OF_ETC.iter().filter(|path| below(path).exists()).map(PathBuf::from));
        let in_proc = |name: &&&str| below("/proc").join(name).exists();
        let hidden = |names: &[&str]| -> Vec<PathBuf> {
            names.iter().filter(in_proc).map(|name| Path::new("/proc").join(name)).collect()
        };
        system.hidden_files = hidden(HIDDEN_FILES);
        system.hidden_folders = hidden(HIDDEN_FOLDERS);
        system
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_links_and_what_is_missing_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for folder in ["usr", "lib64", "etc/alternatives", "proc/acpi", "home"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        symlink("usr/bin", at("bin")).unwrap();
        for file in ["etc/shadow", "etc/ld.so.cache", "proc/keys"] {
            fs::write(at(file), "").unwrap();
        }
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        let expected = System {
            shown: paths(&["/usr", "/lib64", "/etc/alternatives", "/etc/ld.so.cache"]),
            links: vec![("usr/bin".into(), "/bin".into())],
            hidden_files: paths(&["/proc/keys"]),
            hidden_folders: paths(&["/proc/acpi"]),
        };
        assert_eq!(System::read(root.path()), expected);
    }
}
