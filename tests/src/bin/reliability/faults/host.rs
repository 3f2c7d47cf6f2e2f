//! The host is killed, stands still, or is stopped.

use super::{Fault, Injection};
use crate::site::Site;

/// SIGKILL at any instant; somebody starts it again.
pub(super) struct Kill;

impl Fault for Kill {
    fn name(&self) -> &'static str {
        "host-kill"
    }

    fn kills(&self) -> bool {
        true
    }

    fn inject(&mut self, site: &mut Site<'_>) -> Option<Injection> {
        site.world.kill_host();
        site.pause(0, 150);
        let injection = Injection::over(None);
        site.revive();
        Some(injection)
    }
}

/// SIGSTOP, and SIGCONT after a while.
pub(super) struct Freeze;

impl Fault for Freeze {
    fn name(&self) -> &'static str {
        "host-freeze"
    }

    fn kills(&self) -> bool {
        false
    }

    fn inject(&mut self, site: &mut Site<'_>) -> Option<Injection> {
        site.world.freeze_host();
        site.pause(20, 1500);
        site.world.thaw_host();
        Some(Injection::over(None))
    }
}

/// SIGTERM, as an upgrade does it, with or without stopping the containers.
pub(super) struct Restart;

impl Fault for Restart {
    fn name(&self) -> &'static str {
        "host-restart"
    }

    fn kills(&self) -> bool {
        false
    }

    fn inject(&mut self, site: &mut Site<'_>) -> Option<Injection> {
        site.world.stop_host();
        let injection = Injection::over(None);
        site.revive();
        Some(injection)
    }
}
