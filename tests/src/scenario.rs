//! One scenario, several runtimes.

use std::process::Command;
use std::sync::OnceLock;

use crate::engine;
use crate::setup::Setup;

/// What runs the agent-runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Runtime {
    /// Child processes.
    Process,
    /// Containers.
    Docker,
    /// Sandboxes of bubblewrap.
    Sandbox,
}

impl Runtime {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Process, Self::Sandbox, Self::Docker];

    /// The one of this name.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|runtime| runtime.word() == word)
    }

    /// The word for it in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Docker => "docker",
            Self::Sandbox => "sandbox",
        }
    }

    /// What is missing to play on it here.
    ///
    /// # Errors
    /// With the variable that makes a failure of it.
    pub fn available(self) -> Result<(), (&'static str, String)> {
        match self {
            Self::Process => Ok(()),
            Self::Docker => {
                engine::image().map(drop).map_err(|missing| ("TWOBOX_REQUIRE_DOCKER", missing))
            }
            Self::Sandbox => bwrap().map_err(|missing| ("TWOBOX_REQUIRE_SANDBOX", missing)),
        }
    }
}

/// Plays `scenario`, or says loudly that it cannot be played here.
///
/// # Panics
/// If the scenario fails, or if `TWOBOX_REQUIRE_DOCKER` or `TWOBOX_REQUIRE_SANDBOX` is set and there is
/// nothing to play it on.
pub fn play(runtime: Runtime, scenario: fn(Setup)) {
    if let Err((required, missing)) = runtime.available() {
        return skipped(required, &missing);
    }
    scenario(Setup::new(runtime));
}

/// Runs `scenario`, or says loudly that there is no such runtime here.
///
/// # Panics
/// As [`play`].
pub fn play_where(runtime: Runtime, scenario: fn()) {
    match runtime.available() {
        Ok(()) => scenario(),
        Err((required, missing)) => skipped(required, &missing),
    }
}

/// Whether bubblewrap can make sandboxes here.
fn bwrap() -> Result<(), String> {
    static WORKS: OnceLock<bool> = OnceLock::new();
    let works = *WORKS.get_or_init(|| {
        let everything = ["--unshare-user", "--ro-bind", "/", "/", "true"];
        let output = Command::new("bwrap").args(everything).output();
        output.is_ok_and(|output| output.status.success())
    });
    works.then_some(()).ok_or_else(|| "bwrap is not installed or makes no sandboxes".to_owned())
}

/// Says loudly that something cannot be played here.
///
/// # Panics
/// If the variable `required` is set, unless to 0.
pub fn skipped(required: &str, missing: &str) {
    let set = std::env::var(required).is_ok_and(|value| value != "0");
    assert!(!set, "{required} is set, but {missing}");
    eprintln!("SKIPPED: {missing}");
}

/// Makes a test of each scenario, in the modules `process` and `docker`.
#[macro_export]
macro_rules! on_both_runtimes {
    ($($name:ident),+ $(,)?) => {
        mod process {
            $(#[test] fn $name() { $crate::play($crate::Runtime::Process, super::$name); })+
        }
        mod docker {
            $(#[test] fn $name() { $crate::play($crate::Runtime::Docker, super::$name); })+
        }
    };
}

/// Makes a test of each scenario, in the modules `process`, `docker` and `sandbox`.
#[macro_export]
macro_rules! on_all_runtimes {
    ($($name:ident),+ $(,)?) => {
        $crate::on_both_runtimes!($($name),+);
        $crate::on_sandbox!($($name),+);
    };
}

/// Makes a test of each scenario for sandboxes.
#[macro_export]
macro_rules! on_sandbox {
    ($($name:ident),+ $(,)?) => {
        mod sandbox {
            $(#[test] fn $name() { $crate::play($crate::Runtime::Sandbox, super::$name); })+
        }
    };
}

/// Makes a test of each scenario for the process runtime only: it needs what only a process of this
/// machine offers, or shows something that is the same in both.
#[macro_export]
macro_rules! on_process {
    ($($name:ident),+ $(,)?) => {
        mod process_only {
            $(#[test] fn $name() { $crate::play($crate::Runtime::Process, super::$name); })+
        }
    };
}

/// Makes a test of each scenario for containers only.
#[macro_export]
macro_rules! on_docker {
    ($($name:ident),+ $(,)?) => {
        mod docker_only {
            $(#[test] fn $name() { $crate::play($crate::Runtime::Docker, super::$name); })+
        }
    };
}
