//! The vendors' real programs, as `scripts/fetch-cli` fetches them.

use std::path::{Path, PathBuf};

use crate::scenario::skipped;

/// Where they are; `target/clis` without it. As root, the process runtime's agents are another user, for whom
/// nothing in root's home is to be had.
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
    let clis = std::env::var_os(FOLDER).map_or_else(|| top.join("target/clis"), PathBuf::from);
    let folder = clis.join(format!("{name}-{version}"));
    if folder.is_dir() {
        return Some(clis.canonicalize().unwrap());
    }
    let into = clis.display();
    skipped(REQUIRED, &format!("{name} is not here: scripts/fetch-cli --into {into} {name}"));
    None
}
