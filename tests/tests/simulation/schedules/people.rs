//! What people do with schedules, through the schedule service, as the command line and the HTTP interface do it.

use std::time::Duration;

use twobox_schedule::service::{self, Change, Draft, ServiceError};
use twobox_shared::ids::ScheduleId;
use twobox_shared::time::UnixMillis;
use twobox_slots::{missed, overlap};
use twobox_store::DbError;
use twobox_store::schedules::Cancelled;

use super::grid::{Grid, Rhythm};
use super::oracle::{Deed, Rule};
use super::store::{Trouble, Written};
use super::work::Mood;
use super::{AGENTS, World};

const SCHEDULES: usize = 4;
const HOUR: i64 = 3_600_000;

/// Two slots may be as near to each other as this.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// What the service refuses is no trouble.
fn refusal<T>(done: Result<T, ServiceError>) -> Result<Option<T>, DbError> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(ServiceError::Db(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

impl World {
    pub(super) fn person_step(&mut self) {
        let known: Vec<String> = self.oracle.schedules.keys().cloned().collect();
        let alive = self.oracle.schedules.values().filter(|kept| !kept.removed).count();
        if alive < SCHEDULES && (known.is_empty() || self.rng.u8(..) < 60) {
            return self.add();
        }
        let id = known[self.rng.usize(..known.len())].clone();
        match self.rng.u8(..) {
            0..60 => self.edit(&id),
            60..90 => self.pause(&id),
            90..150 => self.resume(&id),
            150..156 => self.remove(&id),
            156..190 => self.backfill(&id),
            190..215 => self.cancel(),
            215..220 => self.quarantine(),
            220..230 => drop(self.moods.insert(id, Mood::roll(&mut self.rng))),
            _ => {
                let forced = self.rng.u8(..) < 80;
                if let Some(at) = self.any_host() {
                    self.execute(at, &id, forced);
                }
            }
        }
    }

    fn rhythm(&mut self) -> Rhythm {
        match self.rng.u8(..) {
            0..210 => Rhythm::Every { seconds: [20, 30, 60, 300][self.rng.usize(..4)] },
            210..225 => Rhythm::Hourly { minute: self.rng.i64(0..60) },
            225..240 => Rhythm::Daily { minute: self.rng.i64(0..1440) },
            _ => Rhythm::Once { at: self.now.0 + self.rng.i64(1..HOUR) },
        }
    }

    fn add(&mut self) {
        let rhythm = self.rhythm();
        let jitter = self.jitter(rhythm);
        let grid = Grid { rhythm, anchor: self.now.0, not_before: None, not_after: None };
        let count = self.oracle.schedules.len();
        let agent = AGENTS[count % AGENTS.len()];
        let own = agent != AGENTS[0] || self.rng.bool();
        let rule = Rule {
            grid,
            missed: missed::Policy::ALL[self.rng.usize(..missed::Policy::ALL.len())],
            window_ms: 24 * HOUR,
            overlap: overlap::Policy::ALL[self.rng.usize(..overlap::Policy::ALL.len())],
            jitter_ms: jitter * 1000,
            max_runs: (self.rng.u8(..) < 50).then(|| self.rng.i64(1..9)),
            max_turns: None,
            turns_edited: None,
            is_at_home: !own,
        };
        let id = ScheduleId::generate(&*self.ids);
        let draft = Draft {
            name: Some(format!("s{count}")),
            agent: Some(agent.to_owned()),
            prompt: Some("p".to_owned()),
            cadence: Some(rhythm.written()),
            session: if own { Change::Keep } else { Change::Set(self.home.to_string()) },
            max_run_sec: if own { Change::Keep } else { Change::Set(20) },
            missed: Change::Set(rule.missed.as_str().to_owned()),
            overlap: Change::Set(rule.overlap.as_str().to_owned()),
            jitter_sec: Change::Set(jitter),
            max_runs: Change::from(rule.max_runs),
            ..Draft::default()
        };
        let now = self.now;
        let mood = Mood::roll(&mut self.rng);
        self.moods.insert(id.to_string(), mood);
        let added = self.say(format!("ann adds {id}, {mood:?}: {rule:?}"), |db| {
            refusal(service::add(db, id, &draft, MIN_INTERVAL, now))
        });
        let deed = Deed::Added { schedule: id.to_string(), rule };
        self.judged(if held(&added) { deed } else { Deed::Nothing });
    }

    fn jitter(&mut self, rhythm: Rhythm) -> i64 {
        if self.rng.bool() { 0 } else { self.rng.i64(0..rhythm.shortest().min(40)) }
    }

    fn edit(&mut self, id: &str) {
        let kept = &self.oracle.schedules[id];
        let (mut rule, fired, now) = (kept.rule.clone(), kept.fired, self.now);
        let mut draft = Draft::default();
        match self.rng.u8(..8) {
            0 => {
                let rhythm = self.rhythm();
                draft.cadence = Some(rhythm.written());
                if rhythm != rule.grid.rhythm {
                    (rule.grid.rhythm, rule.grid.anchor) = (rhythm, now.0);
                }
            }
            1 => {
                rule.overlap = overlap::Policy::ALL[self.rng.usize(..4)];
                draft.overlap = Change::Set(rule.overlap.as_str().to_owned());
            }
            2 => {
                rule.missed = missed::Policy::ALL[self.rng.usize(..3)];
                rule.window_ms = [0, HOUR, 24 * HOUR][self.rng.usize(..3)];
                draft.missed = Change::Set(rule.missed.as_str().to_owned());
                draft.missed_window_sec = Change::Set(rule.window_ms / 1000);
            }
            3 => {
                let jitter = self.jitter(rule.grid.rhythm);
                rule.jitter_ms = jitter * 1000;
                draft.jitter_sec = Change::Set(jitter);
            }
            4 => {
                let most = self.rng.i64(1..4);
                if rule.max_turns != Some(most) {
                    (rule.max_turns, rule.turns_edited) = (Some(most), Some(now.0));
                }
                draft.max_turns = Change::Set(most);
            }
            5 => {
                let first = self.rng.bool().then(|| now.0 + self.rng.i64(-HOUR..HOUR));
                let last = self.rng.bool().then(|| now.0 + self.rng.i64(HOUR..2 * HOUR));
                (rule.grid.not_before, rule.grid.not_after) = (first, last);
                let said = |at: Option<i64>| {
                    at.map_or(Change::Reset, |at| Change::Set(UnixMillis(at).to_rfc3339()))
                };
                (draft.not_before, draft.not_after) = (said(first), said(last));
            }
            6 => {
                rule.max_runs = self.rng.bool().then(|| fired + self.rng.i64(1..6));
                draft.max_runs = rule.max_runs.map_or(Change::Reset, Change::Set);
            }
            _ => draft.max_run_sec = Change::Set(self.rng.i64(5..60)),
        }
        let stale = (self.rng.u8(..) < 30).then_some(1);
        let ids = self.ids.clone();
        let edited = self.say(format!("ann edits {id}: {draft:?}"), |db| {
            refusal(service::edit(db, id, &draft, stale, MIN_INTERVAL, &*ids, now))
        });
        let deed = Deed::Edited { schedule: id.to_owned(), rule };
        self.judged(if held(&edited) { deed } else { Deed::Nothing });
    }

    pub(super) fn pause(&mut self, id: &str) {
        let (now, ids) = (self.now, self.ids.clone());
        let paused = self.say(format!("ann pauses {id}"), |db| {
            refusal(service::pause(db, id, None, &*ids, now))
        });
        let done = paused.truth().is_some_and(|it| it.as_ref().is_some_and(|it| !it.was_paused));
        let deed = Deed::Paused { schedule: id.to_owned() };
        self.judged(if done { deed } else { Deed::Nothing });
    }

    fn resume(&mut self, id: &str) {
        let now = self.now;
        let resumed =
            self.say(format!("ann resumes {id}"), |db| refusal(service::resume(db, id, now)));
        let done = resumed.truth().is_some_and(|it| it.as_ref().is_some_and(|it| !it.was_enabled));
        let deed = Deed::Resumed { schedule: id.to_owned() };
        self.judged(if done { deed } else { Deed::Nothing });
    }

    fn remove(&mut self, id: &str) {
        let now = self.now;
        let removed =
            self.say(format!("ann removes {id}"), |db| refusal(service::remove(db, id, now)));
        let deed = Deed::Removed { schedule: id.to_owned() };
        self.judged(if held(&removed) { deed } else { Deed::Nothing });
    }

    fn backfill(&mut self, id: &str) {
        let (ids, now) = (std::sync::Arc::clone(&self.ids), self.now);
        let to = UnixMillis(now.0 - self.rng.i64(0..600_000));
        let from = UnixMillis(to.0 - self.rng.i64(0..300_000));
        let filled = self.say(format!("ann wants {id} from {from} to {to}"), |db| {
            refusal(service::backfill(db, id, (from, to), &*ids, now))
        });
        let deed = Deed::Backfilled { schedule: id.to_owned() };
        self.judged(if held(&filled) { deed } else { Deed::Nothing });
    }

    fn cancel(&mut self) {
        let open: Vec<String> =
            self.oracle.runs().filter(|row| row.is_open()).map(|row| row.id.clone()).collect();
        if open.is_empty() {
            return;
        }
        let run = open[self.rng.usize(..open.len())].clone();
        let (id, now) = (run.parse().expect("its id"), self.now);
        let cancelled =
            self.say(format!("ann cancels {run}"), |db| db.runs().request_cancel(id, now).wait());
        let done = matches!(cancelled.truth(), Some(Cancelled::BeforeStart | Cancelled::Requested));
        self.judged(if done { Deed::Cancelled { run } } else { Deed::Nothing });
    }

    /// The session that some schedules run in cannot be used for a while.
    fn quarantine(&mut self) {
        self.home_is_sound = !self.home_is_sound;
        let (home, sound) = (self.home, self.home_is_sound);
        self.note(format!("the session of some is sound: {sound}"));
        let db = self.store.set_up();
        match sound {
            true => db.sessions().release(home).wait().map(drop),
            false => db.sessions().quarantine(home, "broken").wait().map(drop),
        }
        .expect("writable");
    }

    /// Forgets what is old.
    pub(super) fn prune(&mut self) {
        let before = UnixMillis(self.now.0 - 6 * HOUR);
        let pruned =
            self.say("old runs are forgotten".to_owned(), |db| db.runs().prune(before, 20).wait());
        let done = pruned.truth().is_some();
        self.judged(if done { Deed::Pruned { before: before.0 } } else { Deed::Nothing });
    }

    fn say<T>(
        &mut self,
        what: String,
        act: impl FnOnce(&twobox_store::Store) -> Result<T, DbError>,
    ) -> Written<T> {
        let trouble = Trouble::roll_for_several(self.faults, &mut self.rng);
        self.note(what);
        let written = self.store.write(trouble, act);
        if trouble != Trouble::None {
            self.note(format!("  {trouble:?}"));
        }
        written
    }
}

/// Whether something was changed, whatever its writer was told.
fn held<T>(written: &Written<Option<T>>) -> bool {
    matches!(written.truth(), Some(Some(_)))
}
