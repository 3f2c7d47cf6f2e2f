//! The vendors' real programs, as `scripts/fetch-cli` fetches them.

use std::path::PathBuf;

use crate::session::repository;

/// Where they are; `twobox/clis` in the user's cache without it, as for `.ci/run`.
const FOLDER: &str = "TWOBOX_TEST_CLIS";

/// Set, unless to 0, where the tests must not be skipped.
const REQUIRED: &str = "TWOBOX_REQUIRE_CLIS";

/// The folder of the pinned program `name`, or `None` with a loud word where it was not fetched.
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    let pins = std::fs::read_to_string(repository("docker/clis")).unwrap();
    let pin = pins.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
    let version = pin.split_whitespace().nth(1).unwrap();
    let cache = || match std::env::var_os("XDG_CACHE_HOME").filter(|cache| !cache.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
    };
    let clis = std::env::var_os(FOLDER).map_or_else(|| cache().join("twobox/clis"), PathBuf::from);
    let folder = clis.join(format!("{name}-{version}"));
    if folder.is_dir() {
        return Some(folder);
    }
    let missing = format!(
        "{}: fetch it: scripts/fetch-cli --into {} {name}",
        folder.display(),
        clis.display()
    );
    let required = std::env::var(REQUIRED).is_ok_and(|value| value != "0");
    assert!(!required, "{missing}");
    eprintln!("SKIPPED: {missing}");
    None
}
