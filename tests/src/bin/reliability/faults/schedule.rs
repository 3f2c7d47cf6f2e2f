//! The host is killed anywhere between due and completed: schedules fire each few seconds, with all
//! policies, in sessions of their own and in a conversation.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use twobox_shared::clock::{Clock, SystemClock};
use twobox_tests::ledger::{Run, Schedule, add_failed, as_messages, judge_slots};
use twobox_tests::{Runtime, Setup, StoredSchedule, World};

use super::{Fault, Injection};
use crate::engine::Evidence;
use crate::load::People;
use crate::site::Site;

/// How long something is waited for that schedules do by themselves: chats may put them off.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a run in a given phase is waited for.
const MOMENT: Duration = Duration::from_secs(3);

/// What runs ask the recording agent to do.
const PROMPTS: [&str; 5] = ["plain", "slow:150", "slow:600", "fail:1", "die:1"];

const MISSED: [&str; 3] = ["latest", "all", "skip"];
const OVERLAP: [&str; 4] = ["skip", "queue", "replace", "allow"];

/// SIGKILL, while a run is in some phase.
pub(super) struct Kill {
    count: usize,
    shortest_sec: usize,
    /// Which schedules still went on in the end, and up to when their slots had been seen to.
    settled: (BTreeSet<String>, i64),
    /// How often a run of each phase was there.
    hits: [(&'static str, usize); 4],
}

impl Kill {
    pub(super) fn new(runtime: Runtime) -> Self {
        // A container takes longer to start than a process.
        let (count, shortest_sec) = match runtime {
            Runtime::Process | Runtime::Sandbox => (20, 1),
            Runtime::Docker => (8, 3),
        };
        let phases = ["queued", "claimed", "prepared", "executing"];
        Self { count, shortest_sec, settled: Default::default(), hits: phases.map(|it| (it, 0)) }
    }
}

impl Fault for Kill {
    fn name(&self) -> &'static str {
        "schedule-kill"
    }

    fn kills(&self) -> bool {
        true
    }

    fn prepare(&mut self, setup: Setup, _seed: u64) -> Setup {
        setup.setting("schedule.min_interval", "1s").setting("schedule.max_concurrent", 4)
    }

    /// Chats come first, so people who always talk would leave schedules no moment.
    fn people(&self) -> People {
        People::Few
    }

    fn begin(&mut self, site: &mut Site<'_>) {
        let home = site.world.session("ada").id;
        for n in 0..self.count {
            let (name, every) = (format!("s{n:02}"), format!("{}s", self.shortest_sec + n % 5));
            let agent = ["ada", "bob", "cyd"][n % 3];
            let mut add = vec!["schedules", "add", &name, "--agent", agent, "--every", &every];
            add.extend(["--prompt", PROMPTS[n % PROMPTS.len()]]);
            add.extend(["--missed", MISSED[n / 2 % MISSED.len()]]);
            add.extend(["--overlap", OVERLAP[n % OVERLAP.len()]]);
            if agent == "ada" && n % 2 == 0 {
                add.extend(["--session", &home]);
            }
            site.world.twobox(&add);
        }
    }

    fn inject(&mut self, site: &mut Site<'_>) -> Option<Injection> {
        let at = site.dice.below(self.hits.len() + 1);
        if let Some((phase, hits)) = self.hits.get_mut(at) {
            let begin = Instant::now();
            while !site.world.has_run_in(phase) && begin.elapsed() < MOMENT {
                std::thread::sleep(Duration::from_millis(1));
            }
            *hits += usize::from(begin.elapsed() < MOMENT);
        }
        site.pause(0, 30);
        site.world.kill_host();
        site.pause(0, 1500);
        let injection = Injection::over(None);
        site.revive();
        site.pause(0, 1000);
        Some(injection)
    }

    fn end(&mut self, injections: usize) -> Result<Vec<(&'static str, usize)>, String> {
        match self.hits.iter().all(|(_, hits)| *hits == 0) && injections >= 5 {
            true => Err(format!("none of {injections} kills met a run")),
            false => Ok(self.hits.to_vec()),
        }
    }

    /// The slots up to now are seen to; then the schedules are paused, and what goes on ends.
    fn calm(&mut self, world: &World) -> Result<(), String> {
        let now = SystemClock.now().0;
        wait("the slots to be seen to", || {
            world.schedules().iter().all(|it| it.next_slot_ms.is_none_or(|next| next > now))
        })?;
        // One that pauses itself from here on has been seen to that far as well.
        let going = world.schedules().into_iter().filter(|it| it.enabled);
        self.settled = (going.map(|it| it.id).collect(), now);
        for schedule in world.schedules() {
            world.twobox(&["schedules", "pause", &schedule.name]);
        }
        let open = ["queued", "running"];
        wait("the runs to end", || {
            !world.runs().iter().any(|run| open.contains(&run.status.as_str()))
        })
    }

    fn testify(&self, world: &World, evidence: &mut Evidence) {
        let runs: Vec<Run> = world.runs();
        let schedules: Vec<Schedule> =
            world.schedules().into_iter().map(|it| self.as_judged(it)).collect();
        evidence.slots = Some(judge_slots(&schedules, &runs, &evidence.records));
        evidence.records.extend(as_messages(&runs));
        add_failed(&runs, &mut evidence.end);
    }
}

impl Kill {
    fn as_judged(&self, stored: StoredSchedule) -> Schedule {
        let (going, until) = &self.settled;
        let seconds = stored.every.strip_suffix('s').and_then(|number| number.parse().ok());
        let seconds: i64 = seconds.expect("as it was added");
        Schedule {
            settled_ms: going.contains(&stored.id).then_some(*until),
            id: stored.id,
            name: stored.name,
            every_ms: seconds * 1000,
            anchor_ms: stored.anchor_ms,
        }
    }
}

fn wait(what: &str, is_so: impl Fn() -> bool) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > end {
            return Err(format!("not at rest: waited in vain for {what}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
