//! Where the binaries under test are.

use std::path::PathBuf;

/// The binary of this name, beside the running test's own folder: `target/<profile>/`.
///
/// # Panics
/// If it was not built.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).expect("a test lies in deps/");
    let path = profile.join(name);
    assert!(
        path.is_file(),
        "{} is missing: run scripts/test, or `cargo build --workspace --bins` first",
        path.display()
    );
    path
}
