//! The container engine, through its command line.

use std::path::Path;
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

/// The image with tools to test with, which `scripts/test` builds, or why there is none.
///
/// # Errors
/// What is missing.
pub fn agent_image() -> Result<String, String> {
    let named = std::env::var("TWOBOX_AGENT_IMAGE");
    let image = named.unwrap_or_else(|_| "twobox-agent:test".to_owned());
    let inspected = Command::new("docker").args(["image", "inspect", &image]).output();
    match inspected.is_ok_and(|output| output.status.success()) {
        true => Ok(image),
        false => Err(format!("no {image}: run `scripts/build-image --debug --agent {image}`")),
    }
}

/// The image to test with, and `program` with the libraries that it needs in it, at `/` and its
/// name. The runner's image has nothing else.
///
/// # Panics
/// If it cannot be built.
pub fn image_with(program: &Path) -> String {
    let base = image().unwrap();
    let name = program.file_name().unwrap().to_str().unwrap();
    let context = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &Path| {
        let to = context.path().join(to.strip_prefix("/").unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    };
    copy(program, &Path::new("/").join(name));
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        copy(Path::new(library), Path::new(library));
    }
    let recipe = context.path().join("Dockerfile");
    std::fs::write(&recipe, format!("FROM {base}\nCOPY . /\n")).unwrap();
    std::fs::write(context.path().join(".dockerignore"), "Dockerfile\n.dockerignore\n").unwrap();
    // Tests of two builds may use one engine at the same time.
    let tag = format!("twobox-{name}:{}", base.rsplit_once(':').map_or("local", |it| it.1));
    docker(&["build", "--quiet", "--tag", &tag, context.path().to_str().unwrap()]);
    tag
}
