//! What `init` chooses to run agents in.

use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use twobox_tests::{Runtime, binary, image, play_where};

/// `twobox init` on a fresh data directory, with this in the environment.
fn init(env: &[(&str, &str)]) -> (TempDir, Output) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary("twobox"));
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"TWOBOX_"))
    {
        command.env_remove(name);
    }
    command.envs(env.iter().copied());
    command.arg("--data").arg(dir.path().join("data")).args(["--json", "init"]);
    let output = command.output().unwrap();
    (dir, output)
}

fn chosen(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

const NO_ENGINE: (&str, &str) = ("DOCKER_HOST", "unix:///nonexistent/docker.sock");

#[test]
fn docker_is_chosen_where_a_container_starts() {
    play_where(Runtime::Docker, || {
        let image = image().unwrap();
        let (_dir, output) = init(&[("TWOBOX_CONTAINERS_IMAGE", &image)]);
        let made = chosen(&output);
        assert_eq!(made["runtime"], "docker", "{made}");
        assert!(made["why"].as_str().unwrap().contains("a container starts"), "{made}");
    });
}

#[test]
fn a_sandbox_is_chosen_where_no_container_starts() {
    play_where(Runtime::Sandbox, || {
        let (dir, output) = init(&[NO_ENGINE]);
        let made = chosen(&output);
        assert_eq!(made["runtime"], "sandbox", "{made}");
        assert!(made["why"].as_str().unwrap().contains("a sandbox starts"), "{made}");
        let config = std::fs::read_to_string(dir.path().join("data/twobox.toml")).unwrap();
        assert!(config.contains("\nruntime = \"sandbox\"\n"), "{config}");
    });
}

#[test]
fn where_neither_starts_it_is_said_what_to_install_and_nothing_is_chosen() {
    let (dir, output) = init(&[NO_ENGINE, ("PATH", "/nonexistent")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["apt-get install bubblewrap", "/nonexistent/docker.sock", "--runtime process"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!dir.path().join("data/twobox.toml").exists());
}
