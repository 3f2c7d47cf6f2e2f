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
        return skipped("TWOBOX_REQUIRE_DOCKER", &missing);
    }
    scenario(Setup::new(runtime));
}

/// Says loudly that something cannot be played here.
///
/// # Panics
/// If the variable `required` is set, unless to 0.
pub(crate) fn skipped(required: &str, missing: &str) {
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
