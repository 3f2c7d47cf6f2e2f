//! The vendors' real programs, as `scripts/fetch-cli` fetches them.

use std::path::{Path, PathBuf};

use crate::scenario::skipped;

/// Where they are; `twobox/clis` in the user's cache without it, as for `.ci/run`.
const FOLDER: &str = "TWOBOX_TEST_CLIS";

/// Set where the tests must not be skipped.
const REQUIRED: &str = "TWOBOX_REQUIRE_CLIS";

/// The folder with the pinned programs, if `name` is there; else `None`, with a loud word.
///
/// # Panics
/// If it is not there and `TWOBOX_REQUIRE_CLIS` is set, unless to 0.
pub fn cli(name: &str) -> Option<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let pins = std::fs::read_to_string(top.join("docker/clis")).unwrap();
    let pin = pins.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
    let version = pin.split_whitespace().nth(1).unwrap();
    let cache = || match std::env::var_os("XDG_CACHE_HOME").filter(|cache| !cache.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
    };
    let clis = std::env::var_os(FOLDER).map_or_else(|| cache().join("twobox/clis"), PathBuf::from);
    let folder = clis.join(format!("{name}-{version}"));
    if folder.is_dir() {
        return Some(clis.canonicalize().unwrap());
    }
    let into = clis.display();
    skipped(REQUIRED, &format!("{name} is not here: scripts/fetch-cli --into {into} {name}"));
    None
}
