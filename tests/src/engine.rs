//! The container engine, through its command line.

use std::process::Command;
use std::sync::OnceLock;

/// Runs `docker` and returns what it printed.
///
/// # Panics
/// If it fails.
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The image to test with, or why there is none.
///
/// # Errors
/// What is missing.
pub fn image() -> Result<String, String> {
    static IMAGE: OnceLock<Result<String, String>> = OnceLock::new();
    IMAGE.get_or_init(find).clone()
}

fn find() -> Result<String, String> {
    let succeeds = |arguments: &[&str]| {
        Command::new("docker").args(arguments).output().is_ok_and(|output| output.status.success())
    };
    if !succeeds(&["version"]) {
        return Err("no container engine answers".to_owned());
    }
    if let Ok(named) = std::env::var("TWOBOX_TEST_IMAGE") {
        return match succeeds(&["image", "inspect", &named]) {
            true => Ok(named),
            false => Err(format!("TWOBOX_TEST_IMAGE names {named}, which does not exist")),
        };
    }
    ["twobox-runner:test", "twobox-runner:local"]
        .into_iter()
        .find(|image| succeeds(&["image", "inspect", image]))
        .map(str::to_owned)
        .ok_or_else(|| "no image: run `scripts/build-image --debug twobox-runner:test`".to_owned())
}
