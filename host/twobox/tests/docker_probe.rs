//! The look around with a real engine, and with the runner's own image, which `TWOBOX_TEST_IMAGE`
//! names. Without these the tests say so and pass, unless `TWOBOX_REQUIRE_DOCKER` is set.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc::unbounded_channel;
use twobox_config::{Config, Containers};
use twobox_runtime::docker::Docker;
use twobox_runtime::probe::Weight;
use twobox_runtime::{Runtime, RuntimeError};
use twobox_shared::ids::{InstallId, SystemIds};
use twobox_shared::probe::SeenLimit;

/// The image to try, or `None` with a word.
fn image() -> Option<String> {
    let image = std::env::var("TWOBOX_TEST_IMAGE").ok().filter(|image| !image.is_empty());
    let required = std::env::var("TWOBOX_REQUIRE_DOCKER").is_ok_and(|value| value != "0");
    assert!(image.is_some() || !required, "TWOBOX_TEST_IMAGE names no image");
    if image.is_none() {
        eprintln!("SKIPPED: TWOBOX_TEST_IMAGE names no image");
    }
    image
}

struct Machine {
    dir: TempDir,
    install: InstallId,
    runtime: Docker,
}

impl Machine {
    fn new(settings: Containers) -> Self {
        let install = InstallId::generate(&SystemIds);
        let dir = tempfile::tempdir().unwrap();
        let (sender, _nobody_listens) = unbounded_channel();
        let runtime = Docker::connect(install, dir.path(), &settings, sender).unwrap();
        Self { dir, install, runtime }
    }

    fn assert_nothing_is_left(&self) {
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 0, "a folder is left over");
        assert_eq!(self.containers(), "", "a container is left over");
    }

    fn containers(&self) -> String {
        let filter = format!("label=twobox.probe={}", self.install);
        let arguments = ["ps", "--all", "--quiet", "--filter", &filter];
        let listed = Command::new("docker").args(arguments).output().unwrap();
        assert!(listed.status.success());
        String::from_utf8(listed.stdout).unwrap()
    }
}

fn settings(image: String) -> Containers {
    Containers { image, ..Config::default().containers }
}

#[tokio::test]
async fn a_container_that_looks_around_sees_what_was_asked_for_and_leaves_nothing() {
    let Some(image) = image() else { return };
    let machine = Machine::new(settings(image));
    let probed = machine.runtime.probe(machine.dir.path()).await.unwrap();
    let fatal: Vec<_> = probed.differences.iter().filter(|it| it.weight == Weight::Fatal).collect();
    assert!(fatal.is_empty(), "{fatal:?}");
    let report = &probed.report;
    assert_eq!((report.cap_eff, report.cap_bnd), (Some(0), Some(0)));
    assert_eq!(report.no_new_privs, Some(true));
    assert_eq!(report.interfaces.as_deref(), Some(&[][..]));
    for place in ["/tmp", "/var/tmp", "/run", "/dev/shm"] {
        let mount = &report.mounts[place];
        assert!(mount.bytes.unwrap() <= 64 << 20, "{place}: {mount:?}");
        for flag in ["noexec", "nosuid", "nodev"] {
            assert!(mount.options.iter().any(|option| option == flag), "{place}: {mount:?}");
        }
    }
    for folder in ["/", "/etc", "/run", "/workspace", "/workspace/in"] {
        assert!(!report.folders[folder].write, "{folder} can be written");
    }
    for folder in ["/tmp", "/var/tmp", "/dev/shm", "/workspace/out"] {
        assert!(report.folders[folder].write, "{folder}: {:?}", report.folders[folder]);
    }
    // Rootless engines drop some of these. Then that is said.
    for (name, soft, hard) in [("core", 0, 0), ("nofile", 1024, 4096)] {
        let seen = (report.limits[name].soft, report.limits[name].hard);
        let said = probed.differences.iter().any(|it| it.what.contains(&format!("`{name}`")));
        assert_eq!(said, seen != (Some(soft), Some(hard)), "{name}: {seen:?}");
    }
    let said = probed.differences.iter().any(|it| it.what.contains("of memory"));
    let limited = report.cgroup.memory == SeenLimit::Limited(f64::from(512 << 20));
    assert_eq!(said, !limited, "{:?}: {:?}", report.cgroup, probed.differences);
    machine.assert_nothing_is_left();
}

#[tokio::test]
async fn a_look_around_goes_to_its_end_when_nobody_waits_for_it() {
    let Some(image) = image() else { return };
    let machine = Machine::new(settings(image));
    let asked = machine.runtime.probe(machine.dir.path());
    assert!(tokio::time::timeout(Duration::from_millis(20), asked).await.is_err(), "too quick");
    for _ in 0..1000 {
        if machine.containers().is_empty() && fs::read_dir(&machine.dir).unwrap().count() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    machine.assert_nothing_is_left();
}

#[tokio::test]
async fn an_image_that_cannot_look_around_is_told_from_one_that_is_missing() {
    let Some(image) = image() else { return };
    let dir = tempfile::tempdir().unwrap();
    let name = |what: &str| format!("twobox-{what}:{}", std::process::id());
    // What an older runner says, and what is none.
    let cases = [
        ("older", "ENTRYPOINT [\"/agent-runner\", \"--no-such-option\"]", "--no-such-option"),
        ("other", "ENTRYPOINT [\"/agent-runner\", \"--version\"]", "agent-runner 0."),
        // Docker's engine finds that out itself, and in Podman the container's init.
        ("broken", "ENTRYPOINT [\"/absent\"]", "no such file or directory"),
    ];
    for (what, entrypoint, expected) in cases {
        let recipe = format!("FROM {image}\n{entrypoint}\n");
        fs::write(dir.path().join("Dockerfile"), recipe).unwrap();
        let image = name(what);
        let built = Command::new("docker")
            .args(["build", "--quiet", "--tag", &image])
            .arg(dir.path())
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let machine = Machine::new(settings(image.clone()));
        let error = machine.runtime.probe(machine.dir.path()).await.unwrap_err();
        Command::new("docker").args(["rmi", "--force", &image]).output().unwrap();
        assert!(matches!(error, RuntimeError::Start { .. }), "{what}: {error}");
        let said = error.to_string().to_lowercase();
        assert!(said.contains(expected), "{what}: {error}");
        machine.assert_nothing_is_left();
    }
    let absent = Machine::new(settings(name("absent")));
    let error = absent.runtime.probe(absent.dir.path()).await.unwrap_err();
    assert!(error.to_string().contains("scripts/build-image"), "{error}");
    absent.assert_nothing_is_left();
}
