//! One scenario, several runtimes.

use crate::engine;
use crate::setup::Setup;

/// What runs the agent-runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// Child processes.
    Process,
    /// Containers.
    Docker,
}

impl Runtime {
    /// The word for it in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Docker => "docker",
        }
    }
}

/// Plays `scenario`, or says loudly that it cannot be played here.
///
/// # Panics
/// If the scenario fails, or if `TWOBOX_REQUIRE_DOCKER` is set and there is nothing to play it on.
pub fn play(runtime: Runtime, scenario: fn(Setup)) {
    if runtime == Runtime::Docker
        && let Err(missing) = engine::image()
    {
        let required = std::env::var("TWOBOX_REQUIRE_DOCKER").is_ok_and(|value| value != "0");
        assert!(!required, "TWOBOX_REQUIRE_DOCKER is set, but {missing}");
        eprintln!("SKIPPED: {missing}");
        return;
    }
    scenario(Setup::new(runtime));
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
