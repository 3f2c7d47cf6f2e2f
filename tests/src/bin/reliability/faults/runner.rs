//! Runners are killed, stand still, or vanish: processes by signals, containers by the engine.

use twobox_tests::Setup;

use super::{Fault, Injection};
use crate::site::Site;

/// SIGKILL, or `docker kill`, at any instant.
pub(super) struct Kill;

impl Fault for Kill {
    fn name(&self) -> &'static str {
        "runner-kill"
    }

    fn kills(&self) -> bool {
        true
    }

    fn inject(&mut self, site: &mut Site<'_>) -> Option<Injection> {
        let (session, container) = site.victim()?;
        container.strike().then(|| Injection::over(Some(session.place())))
    }
}

/// The host and some of its runners at once.
pub(super) struct KillWithHost;

impl Fault for KillWithHost {
    fn name(&self) -> &'static str {
        "both-kill"
    }

    fn kills(&self) -> bool {
        true
    }

    fn inject(&mut self, site: &mut Site<'_>) -> Option<Injection> {
        let (_, first) = site.victim()?;
        let host_first = site.dice.happens(50);
        if host_first {
            site.world.kill_host();
        }
        first.strike();
        for container in site.world.containers() {
            if site.dice.happens(40) {
                container.strike();
            }
        }
        if !host_first {
            site.world.kill_host();
        }
        let injection = Injection::over(None);
        site.revive();
        Some(injection)
    }
}

/// SIGSTOP and SIGCONT, or `docker pause` and `unpause`. Sometimes for so long that the host takes
/// the runner for stuck and ends it: a runner that comes back then must not get a word in.
pub(super) struct Freeze;

impl Fault for Freeze {
    fn name(&self) -> &'static str {
        "runner-freeze"
    }

    fn kills(&self) -> bool {
        false
    }

    fn prepare(&mut self, setup: Setup, _seed: u64) -> Setup {
        setup
            .setting("limits.heartbeat", "2s")
            .setting("limits.claim_tolerance", "2s")
            .setting("limits.start_grace", "2s")
    }

    fn inject(&mut self, site: &mut Site<'_>) -> Option<Injection> {
        let (session, container) = site.victim()?;
        container.freeze().then_some(())?;
        match site.dice.happens(30) {
            true => site.pause(2500, 4500),
            false => site.pause(20, 700),
        }
        container.thaw(); // the host may have ended it
        Some(Injection::over(Some(session.place())))
    }
}

/// Somebody removes a container behind the host's back.
pub(super) struct Remove;

impl Fault for Remove {
    fn name(&self) -> &'static str {
        "container-remove"
    }

    fn kills(&self) -> bool {
        true
    }

    fn inject(&mut self, site: &mut Site<'_>) -> Option<Injection> {
        let (session, container) = site.victim()?;
        container.remove().then(|| Injection::over(Some(session.place())))
    }
}
