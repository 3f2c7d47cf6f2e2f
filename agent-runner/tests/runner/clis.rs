//! The vendors' real programs, as `scripts/fetch-cli` fetches them.

use std::path::PathBuf;

use crate::session::repository;

/// Where they are; `target/clis` without it. As root, the process runtime's agents are another user, for whom
/// nothing in root's home is to be had.
const FOLDER: &str = "TWOBOX_TEST_CLIS";

/// Set, unless to 0, where the tests must not be skipped.
const REQUIRED: &str = "TWOBOX_REQUIRE_CLIS";

/// The folder of the pinned program `name`, or `None` with a loud word where it was not fetched.
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    let pins = std::fs::read_to_string(repository("docker/clis")).unwrap();
    let pin = pins.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
    let version = pin.split_whitespace().nth(1).unwrap();
    let clis = std::env::var_os(FOLDER).map_or_else(|| repository("target/clis"), PathBuf::from);
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
