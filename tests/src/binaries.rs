//! Where the binaries under test are.

use std::path::{Path, PathBuf};

/// The binary of this name, in `target/<profile>/`.
///
/// # Panics
/// If it was not built.
pub fn binary(name: &str) -> PathBuf {
    built(&profile().join(name), "run scripts/test, or `cargo build --workspace --bins` first")
}

/// The same, linked statically: it runs in an image without libraries.
///
/// # Panics
/// If it was not built.
pub(crate) fn static_binary(name: &str) -> PathBuf {
    let profile = profile();
    let (target, profile) = (profile.parent().unwrap(), profile.file_name().unwrap());
    let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    let triple = format!("{}-unknown-linux-{libc}", std::env::consts::ARCH);
    built(&target.join(triple).join(profile).join(name), "run scripts/reliability, which builds it")
}

/// Where cargo has put the binaries: a test lies in `deps/` below, and a binary beside them.
fn profile() -> PathBuf {
    let ours = std::env::current_exe().unwrap();
    let folder = ours.parent().expect("a file lies in a folder");
    match folder.ends_with("deps") {
        true => folder.parent().expect("deps/ lies in the profile's folder").to_owned(),
        false => folder.to_owned(),
    }
}

fn built(path: &Path, how: &str) -> PathBuf {
    assert!(path.is_file(), "{} is missing: {how}", path.display());
    path.to_owned()
}
