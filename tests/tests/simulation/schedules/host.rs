//! A host: what it has read and means to do next. Each step is one thing that it reads or writes, so
//! that it can die, or others can do something, between any two.

use std::collections::BTreeMap;
use std::time::Duration;

use twobox_schedule::scheduler::plan::Known;
use twobox_schedule::scheduler::{judge, plan};
use twobox_schedule::service;
use twobox_shared::clock::Monotonic;
use twobox_shared::ids::{HostId, MessageId, RunId, SessionId};
use twobox_shared::time::UnixMillis;
use twobox_slots::reason::Reason;
use twobox_store::schedules::{
    self, Capacity, Claimed, End, Finished, Load, Phase, Prepared, Run, RunOutcome, Schedule,
    SlotClaim, Start, Started, Status,
};

use super::World;
use super::oracle::Deed;
use super::store::Trouble;
use super::work::Work;

/// How many schedules a host looks at before it looks for others.
const BATCH: u32 = 64;

/// How long a run may take whose schedule does not say.
pub(super) const MAX_RUN_MS: i64 = 90_000;

/// By how much chat puts a firing off.
const CHAT_PAUSE: Duration = Duration::from_secs(30);

pub(super) struct Host {
    pub(super) id: HostId,
    /// Whether it has the data directory. One that lost it goes on with what it had read, but reaches
    /// no session.
    pub(super) has_directory: bool,
    /// Runs of others that it is about to take over.
    left: Option<Vec<Run>>,
    pub(super) adopted: bool,
    /// What is due, and when that was read.
    due: Vec<Schedule>,
    looked_at: UnixMillis,
    /// What the next claim goes by.
    view: Option<(Schedule, Known)>,
    following: BTreeMap<RunId, Following>,
}

/// What is known of a run that is followed.
#[derive(Default)]
struct Following {
    /// As it was read; to be read again if nothing is there.
    seen: Option<Run>,
    /// When its time is over.
    end: Option<Monotonic>,
    /// Whether its message is in its session, so that only its phase is missing.
    stored: bool,
}

impl Host {
    pub(super) fn new(id: HostId, has_directory: bool) -> Self {
        Self {
            id,
            has_directory,
            left: None,
            adopted: false,
            due: Vec::new(),
            looked_at: UnixMillis(0),
            view: None,
            following: BTreeMap::new(),
        }
    }
}

impl World {
    pub(super) fn host_step(&mut self, at: usize) {
        if !self.hosts[at].adopted {
            return self.adopt(at);
        }
        match self.rng.u8(..) {
            0..90 => self.fire(at),
            90..120 => self.start(at),
            120..130 => self.follow_all(at),
            _ => self.follow(at),
        }
    }

    /// Takes over the runs of others, one at a time. What goes wrong has it look again.
    fn adopt(&mut self, at: usize) {
        let (owner, now) = (self.hosts[at].id, self.now);
        let Some(left) = &mut self.hosts[at].left else {
            let listed = self.store.read().runs().left_behind(owner, now).wait().expect("readable");
            assert!(listed.unreadable.is_empty(), "all rows can be read");
            self.hosts[at].left = Some(listed.rows);
            return;
        };
        let Some(run) = left.pop() else {
            self.hosts[at].adopted = true;
            return;
        };
        let hold = run.hold.expect("a running run has an owner");
        let (from, lease) = (hold.owner, hold.lease_until);
        let taken = self.write(format!("host {at} takes {} over", run.id), |db| {
            db.runs().take_over(run.id, from, lease, owner, lease).wait()
        });
        let (run_id, from) = (run.id.to_string(), from.to_string());
        let deed = Deed::TookOver { run: run_id, from, to: owner.to_string() };
        self.judged(if taken.truth() == Some(&true) { deed } else { Deed::Nothing });
        match taken.told() {
            None => self.hosts[at].left = None,
            Some(false) => {}
            Some(true) => self.follow_run(at, run.id),
        }
    }

    fn follow_run(&mut self, at: usize, run: RunId) {
        self.hosts[at].following.entry(run).or_default();
    }

    fn fire(&mut self, at: usize) {
        let now = self.now;
        let host = &mut self.hosts[at];
        if let Some((schedule, known)) = host.view.take() {
            return self.claim(at, &schedule, &known);
        }
        let Some(schedule) = host.due.pop() else {
            let listed = self.store.read().schedules().due(now, BATCH).wait().expect("readable");
            (host.due, host.looked_at) = (listed.rows, now);
            return;
        };
        let Some(next) = schedule.next else { return };
        let id = schedule.id;
        let (chats, now) = (self.chat_turns, host.looked_at);
        if let Some(until) = plan::put_off(&schedule, next, chats, CHAT_PAUSE, now) {
            let revision = schedule.revision;
            let put_off = self.write(format!("host {at} puts {id} off"), |db| {
                db.schedules().put_off(id, revision, next.slot, until).wait()
            });
            let deed = Deed::PutOff {
                schedule: id.to_string(),
                until: until.0,
                now: self.hosts[at].looked_at.0,
                chats: self.chat_turns,
            };
            return self.judged(if put_off.truth() == Some(&true) { deed } else { Deed::Nothing });
        }
        let open = self.store.read().runs().open_of(id).wait().expect("readable").rows;
        let looked_at = self.hosts[at].looked_at;
        let taken = self.store.read().schedules().taken(id, next.slot, looked_at).wait();
        let known = Known { open, taken: taken.expect("readable") };
        self.hosts[at].view = Some((schedule, known));
    }

    fn claim(&mut self, at: usize, schedule: &Schedule, known: &Known) {
        let now = self.hosts[at].looked_at;
        let timetable =
            service::Times::of(&schedule.definition).expect("as people may say it").timetable;
        let next = schedule.next.expect("it was due");
        let ids = &self.ids;
        let plan = plan::plan(schedule, &timetable, next, known, now, || RunId::generate(&**ids));
        let open: Vec<RunId> = known.open.iter().map(|run| run.id).collect();
        let claim = SlotClaim {
            schedule: schedule.id,
            revision: schedule.revision,
            slot: next.slot,
            open: open.clone(),
            rows: plan.rows,
            replaces: plan.replaces,
            next: plan.next,
            now,
        };
        let what = format!("host {at} claims slot {} of {}", next.slot, schedule.id);
        let claimed = self.write(what, |db| db.schedules().claim_slot(claim).wait());
        let deed = match claimed.truth() {
            Some(Claimed::Done { .. }) => {
                Deed::Claimed { schedule: schedule.id.to_string(), now: now.0 }
            }
            Some(_) | None => Deed::Nothing,
        };
        self.note(format!("  {:?}", claimed.truth()));
        self.judged(deed);
    }

    pub(super) fn fresh_start(&self, owner: HostId) -> Start {
        Start {
            owner,
            lease_ms: MAX_RUN_MS,
            session: SessionId::generate(&*self.ids),
            message: MessageId::parse(&format!("run-{}", RunId::generate(&*self.ids)))
                .expect("a word and a UUID"),
            now: self.now,
        }
    }

    fn start(&mut self, at: usize) {
        let owner = self.hosts[at].id;
        let (cap, start) = (self.cap, self.fresh_start(owner));
        let started = self
            .write(format!("host {at} starts a run"), |db| db.runs().start_next(cap, start).wait());
        let deed = match started.truth() {
            Some(Started::Run(run)) => {
                Deed::Started { run: run.id.to_string(), owner: owner.to_string() }
            }
            Some(Started::Full | Started::Nothing) => Deed::NotStarted,
            None => Deed::Nothing,
        };
        self.judged(deed);
        if let Some(Started::Run(run)) = started.told() {
            self.follow_run(at, run.id);
        }
    }

    /// A person runs a schedule now.
    pub(super) fn execute(&mut self, at: usize, schedule: &str, forced: bool) {
        let owner = self.hosts[at].id;
        let (cap, start) = (self.cap, self.fresh_start(owner));
        let run = RunId::generate(&*self.ids);
        let capacity = if forced {
            Capacity::Forced { actor: "ann".to_owned() }
        } else {
            Capacity::AtMost(cap)
        };
        let id = schedule.parse().expect("the simulation's own");
        let executed = self.write(format!("ann has host {at} run {schedule}"), |db| {
            db.runs().execute(id, run, capacity, start).wait()
        });
        let deed = match executed.truth() {
            Some(schedules::Executed::Run(_)) => Deed::Executed {
                schedule: schedule.to_owned(),
                run: run.to_string(),
                owner: owner.to_string(),
                forced,
            },
            Some(_) | None => Deed::Nothing,
        };
        self.judged(deed);
        if let Some(schedules::Executed::Run(run)) = executed.told() {
            self.follow_run(at, run.id);
        }
    }

    /// Whatever became of who followed a run, somebody does.
    fn follow_all(&mut self, at: usize) {
        let owner = self.hosts[at].id;
        let running = self.store.read().runs().running().wait().expect("readable").rows;
        let is_ours = |run: &&Run| run.hold.as_ref().is_some_and(|hold| hold.owner == owner);
        for run in running.iter().filter(is_ours) {
            self.follow_run(at, run.id);
        }
    }

    fn follow(&mut self, at: usize) {
        let followed = &self.hosts[at].following;
        if followed.is_empty() {
            return;
        }
        let id = *followed.keys().nth(self.rng.usize(..followed.len())).expect("there are as many");
        let (now, monotonic) = (self.now, self.monotonic);
        let host = &mut self.hosts[at];
        let following = host.following.get_mut(&id).expect("it is followed");
        let Some(run) = following.seen.take() else {
            let read = self.store.read().runs().find(id).wait().expect("readable");
            let is_ours = |run: &Run| {
                run.status == Status::Running
                    && run.hold.as_ref().is_some_and(|hold| hold.owner == host.id)
            };
            match read.filter(is_ours) {
                None => drop(host.following.remove(&id)),
                Some(run) => {
                    let lease = run.hold.as_ref().expect("it runs").lease_until;
                    let whole = run.max_run_ms.unwrap_or(MAX_RUN_MS).unsigned_abs();
                    let whole = Duration::from_millis(whole);
                    following.end.get_or_insert_with(|| monotonic + lease.since(now).min(whole));
                    following.seen = Some(run);
                }
            }
            return;
        };
        let is_expired = following.end.is_some_and(|end| monotonic >= end);
        let phase = run.hold.as_ref().expect("it runs").phase;
        if is_expired || run.cancel_requested_at.is_some() {
            return self.end_early(at, &run, is_expired);
        }
        match phase {
            Phase::Claimed => self.prepare(at, &run),
            Phase::Prepared => self.hand_in(at, &run),
            Phase::Executing => self.settle(at, &run, Reason::Interrupted),
        }
    }

    fn prepare(&mut self, at: usize, run: &Run) {
        let (now, ids) = (self.now, std::sync::Arc::clone(&self.ids));
        let hold = run.hold.as_ref().expect("it runs");
        let prepared = self.write(format!("host {at} prepares {}", run.id), |db| {
            db.runs().prepare(run, hold, &*ids, now).wait()
        });
        let done = prepared.truth() == Some(&Prepared::Done);
        self.judged(if done { advanced(run) } else { Deed::Nothing });
        if let Some(Prepared::Refused(why)) = prepared.told() {
            self.finish(at, run, RunOutcome::Failed { reason: Reason::PrepareFailed, error: why });
        }
    }

    /// The same message again changes nothing.
    fn hand_in(&mut self, at: usize, run: &Run) {
        let hold = run.hold.as_ref().expect("it runs");
        let refused = self.faults && self.rng.u8(..) < 8;
        let host = &mut self.hosts[at];
        let Some(following) = host.following.get_mut(&run.id) else { return };
        if !following.stored {
            if !host.has_directory {
                return;
            }
            if refused {
                let error = "its session does not take it";
                let outcome =
                    RunOutcome::Failed { reason: Reason::PrepareFailed, error: error.to_owned() };
                if !self.works.contains_key(&hold.message) {
                    self.finish(at, run, outcome);
                }
                return;
            }
            following.stored = true;
            following.seen = Some(run.clone());
            self.works.entry(hold.message.clone()).or_insert(Work::Going);
            return self.note(format!("host {at} hands {} in", hold.message));
        }
        let owner = hold.owner;
        let ours = self.write(format!("host {at} has {} execute", run.id), |db| {
            db.runs().advance(run.id, owner, Phase::Prepared, Phase::Executing).wait()
        });
        self.judged(if ours.truth() == Some(&true) { advanced(run) } else { Deed::Nothing });
    }

    /// Its time is over, or somebody does not want it any more.
    fn end_early(&mut self, at: usize, run: &Run, is_expired: bool) {
        let hold = run.hold.as_ref().expect("it runs");
        let reason = if is_expired { Reason::LeaseExpired } else { Reason::Aborted };
        if hold.phase != Phase::Claimed {
            if !self.hosts[at].has_directory {
                return;
            }
            if let Some(work) = self.works.get_mut(&hold.message)
                && *work == Work::Going
            {
                *work = Work::Withdrawn;
            }
        }
        match self.works.get(&hold.message) {
            None | Some(Work::Going | Work::Withdrawn) => self.give_up(at, run, reason),
            Some(Work::Completed | Work::Failed(_)) => self.settle(at, run, reason),
        }
    }

    fn give_up(&mut self, at: usize, run: &Run, reason: Reason) {
        let outcome = match reason {
            Reason::Aborted => RunOutcome::Cancelled { reason, error: None },
            reason => RunOutcome::Failed { reason, error: "its time was over".to_owned() },
        };
        self.finish(at, run, outcome);
    }

    fn settle(&mut self, at: usize, run: &Run, missing: Reason) {
        if !self.hosts[at].has_directory {
            return;
        }
        let hold = run.hold.as_ref().expect("it runs");
        match self.works.get(&hold.message).copied() {
            Some(Work::Going) => {}
            Some(Work::Completed) => self.finish(at, run, RunOutcome::Completed),
            Some(Work::Failed(reason)) => {
                self.finish(
                    at,
                    run,
                    RunOutcome::Failed { reason, error: "as it was to be".to_owned() },
                );
            }
            Some(Work::Withdrawn) => self.give_up(at, run, Reason::Aborted),
            None => self.finish(
                at,
                run,
                RunOutcome::Failed { reason: missing, error: "missing".to_owned() },
            ),
        }
    }

    fn finish(&mut self, at: usize, run: &Run, outcome: RunOutcome) {
        let (owner, now) = (self.hosts[at].id, self.now);
        let what = format!("host {at} ends {}: {outcome:?}", run.id);
        let end = End { outcome, turns: Some(3), output: None, load: Load::default(), now };
        let teller = SessionId::generate(&*self.ids);
        let finished = self.write(what, |db| {
            db.runs()
                .finish(run.id, owner, end, move |schedule, run| judge(schedule, run, teller))
                .wait()
        });
        let done = matches!(finished.truth(), Some(Finished::Done { .. }));
        let deed = Deed::Finished { run: run.id.to_string(), owner: owner.to_string() };
        self.judged(if done { deed } else { Deed::Nothing });
        if finished.told().is_some() {
            self.hosts[at].following.remove(&run.id);
        }
    }

    /// A transaction of a host, with whatever the dice do to it.
    fn write<T>(
        &mut self,
        what: String,
        act: impl FnOnce(&twobox_store::Store) -> Result<T, twobox_store::DbError>,
    ) -> super::store::Written<T> {
        let trouble = Trouble::roll(self.faults, &mut self.rng);
        self.note(what);
        let written = self.store.write(trouble, act);
        if trouble != Trouble::None {
            self.note(format!("  {trouble:?}"));
        }
        written
    }
}

fn advanced(run: &Run) -> Deed {
    let owner = run.hold.as_ref().expect("it runs").owner.to_string();
    Deed::Advanced { run: run.id.to_string(), owner }
}
