//! The host, runners or both are killed while models answer, whose servers have troubles of their own: what
//! was sold is held against what the host has counted.

use std::time::{Duration, Instant};

use twobox_tests::models::{Death, Mind, ModelServer, Options, audit};
use twobox_tests::{Mode, Setup, World};

use super::{Fault, Injection};
use crate::engine::Evidence;
use crate::load::{People, THINKERS};
use crate::site::Site;

/// How long requests may take to end when nobody asks anything any more.
const REST: Duration = Duration::from_secs(60);

/// SIGKILL at any instant.
#[derive(Default)]
pub(super) struct Kill {
    server: Option<ModelServer>,
    deaths: Vec<Death>,
    /// How many requests were open when hosts died.
    open: usize,
}

impl Kill {
    fn server(&self) -> &ModelServer {
        self.server.as_ref().expect("it is prepared before anything happens")
    }

    fn strike(&mut self, site: &mut Site<'_>) -> Option<String> {
        let (session, container) = site.victim()?;
        let model = THINKERS.iter().find(|(agent, _)| *agent == session.agent);
        match model.and_then(|(_, model)| model.split_once('/')) {
            Some((_, model)) => {
                let death = container.strike_and_look(self.server(), model)?;
                self.deaths.push(death);
            }
            None => container.strike().then_some(())?,
        }
        Some(session.place())
    }
}

impl Fault for Kill {
    fn name(&self) -> &'static str {
        "model-kill"
    }

    fn kills(&self) -> bool {
        true
    }

    fn prepare(&mut self, setup: Setup, seed: u64) -> Setup {
        let mind = Some(Mind { seed, troubled: true });
        let server = ModelServer::start_with(Options { mind, forgets: true, ..Options::default() });
        let setup = setup.models_at(&server);
        self.server = Some(server);
        THINKERS
            .iter()
            .fold(setup, |setup, (agent, model)| setup.thinking_agent(agent, Mode::Shared, model))
    }

    fn people(&self) -> People {
        People::Thinkers
    }

    fn inject(&mut self, site: &mut Site<'_>) -> Option<Injection> {
        let (host, runner) = *site.dice.choose(&[(true, false), (false, true), (true, true)])?;
        let mut place = None;
        if runner {
            place = Some(self.strike(site)?);
        }
        if host {
            let death = site.world.kill_host_and_look(self.server());
            self.open += death.open.len();
            self.deaths.push(death);
        }
        let injection = Injection::over(place.filter(|_| !host));
        if host {
            site.revive();
        }
        Some(injection)
    }

    fn end(&mut self, injections: usize) -> Result<Vec<(&'static str, usize)>, String> {
        match self.open == 0 && injections >= 10 {
            true => Err(format!("none of {injections} kills met a request to a model")),
            false => Ok(vec![("requests open at a kill", self.open)]),
        }
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        let end = Instant::now() + REST;
        while self.server().is_busy() || world.open_requests() > 0 {
            if Instant::now() > end {
                let open = world.open_requests();
                return Err(format!("not at rest: {open} requests to models are open"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn testify(&self, world: &World, evidence: &mut Evidence) {
        let audit = audit(&self.server().requests(), &world.counted(), &self.deaths);
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        evidence.notes.extend([
            ("tokens sold", count(audit.sold)),
            ("of these counted", count(audit.bought)),
            ("requests unknown", count(audit.unknown)),
        ]);
        evidence.problems.extend(audit.problems.iter().map(|problem| format!("money: {problem}")));
    }
}
