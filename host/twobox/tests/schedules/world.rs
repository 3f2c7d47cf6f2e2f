//! A `host.db` with one agent, and short ways to what the tests need again and again.

use std::path::PathBuf;

use rusqlite::Connection;
use rusqlite::types::Value;
use twobox_model::channel::TERMINAL;
use twobox_shared::ids::{HostId, IdSource, MessageId, RunId, ScheduleId, SessionId, SystemIds};
use twobox_shared::inbox::Origin;
use twobox_shared::time::UnixMillis;
use twobox_slots::{missed, overlap};
use twobox_store::Store;
use twobox_store::agents::AgentGroup;
use twobox_store::messaging::SessionMode;
use twobox_store::schedules::{
    self, Claimed, Definition, End, Finished, Load, Next, PastSlot, Run, RunOutcome, Schedule,
    SelfPause, SlotClaim, SlotFate, SlotRow, Start, Started, Streaks, Verdict,
};

pub(crate) fn at(ms: i64) -> UnixMillis {
    UnixMillis(ms)
}

pub(crate) fn next(slot: i64) -> Option<Next> {
    Some(Next { slot: at(slot), due: at(slot) })
}

pub(crate) fn run_id() -> RunId {
    RunId::generate(&SystemIds)
}

pub(crate) fn host_id() -> HostId {
    HostId::generate(&SystemIds)
}

pub(crate) struct World {
    pub(crate) path: PathBuf,
    pub(crate) db: Store,
    pub(crate) agent: AgentGroup,
    _dir: tempfile::TempDir,
}

pub(crate) fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("host.db");
    let db = Store::create(&path).unwrap();
    let agent = db.agents().add("ann", SessionMode::PerThread, &SystemIds, at(1)).wait().unwrap();
    World { path, db, agent, _dir: dir }
}

/// A schedule without any limits, whose runs go one after the other.
pub(crate) fn definition(name: &str) -> Definition {
    Definition {
        name: name.to_owned(),
        prompt: format!("do {name}"),
        cadence_kind: "every".to_owned(),
        cadence_value: "1s".to_owned(),
        time_zone: "Europe/Berlin".to_owned(),
        anchor: at(0),
        session: None,
        to: Origin::default(),
        max_turns: None,
        max_run_ms: None,
        missed: missed::Policy::Latest,
        missed_window_ms: 86_400_000,
        overlap: overlap::Policy::Skip,
        jitter_ms: 0,
        not_before: None,
        not_after: None,
        max_runs: None,
    }
}

/// Any start at `now`, with a lease of 100 ms.
pub(crate) fn start(owner: HostId, now: i64) -> Start {
    Start {
        owner,
        lease_ms: 100,
        session: SessionId::generate(&SystemIds),
        message: MessageId::from(SystemIds.uuid()),
        now: at(now),
    }
}

/// The run that was started.
pub(crate) fn started(outcome: Started) -> Run {
    match outcome {
        Started::Run(run) => *run,
        other => panic!("no run was started: {other:?}"),
    }
}

pub(crate) fn end(outcome: RunOutcome, now: i64) -> End {
    End { outcome, turns: None, output: None, load: Load::default(), now: at(now) }
}

/// A slot of the past, of which nobody says what follows it.
pub(crate) fn past(run: RunId, slot: i64) -> PastSlot {
    PastSlot { run, slot: at(slot), following: None }
}

/// A pause that nobody wished.
pub(crate) fn pause(reason: &str) -> SelfPause {
    SelfPause {
        reason: reason.to_owned(),
        text: format!("I have paused it: {reason}."),
        session: SessionId::generate(&SystemIds),
    }
}

/// Counts nothing and pauses nothing.
pub(crate) fn leave(_: &Schedule, _: &Run) -> Verdict {
    Verdict { streaks: Streaks::default(), pause: None, news: None }
}

impl World {
    /// Adds a schedule whose next slot is 1000.
    pub(crate) fn add(&mut self, name: &str) -> ScheduleId {
        self.add_as(&definition(name))
    }

    pub(crate) fn add_as(&mut self, definition: &Definition) -> ScheduleId {
        let id = ScheduleId::generate(&SystemIds);
        let added =
            self.db.schedules().add(id, self.agent.id, definition, next(1000), at(500)).wait();
        assert_eq!(added.unwrap(), schedules::Added::Done);
        id
    }

    pub(crate) fn schedule(&self, id: ScheduleId) -> Schedule {
        self.db.schedules().find(&id.to_string()).wait().unwrap().unwrap()
    }

    pub(crate) fn run(&self, id: RunId) -> Run {
        self.db.runs().find(id).wait().unwrap().unwrap()
    }

    pub(crate) fn open(&self, id: ScheduleId) -> Vec<RunId> {
        self.db.runs().open_of(id).wait().unwrap().rows.iter().map(|run| run.id).collect()
    }

    /// A session of the agent's terminal.
    pub(crate) fn session(&self, thread: &str) -> SessionId {
        let chat =
            self.db.wirings().listening(TERMINAL, &self.agent.name).wait().unwrap().remove(0);
        self.db
            .sessions()
            .resolve(
                self.agent.id,
                chat.messaging_group,
                thread,
                SessionId::generate(&SystemIds),
                at(1),
            )
            .wait()
            .unwrap()
    }

    /// Claims the next slot with these fates for it and the slots after it, 1000 apart.
    pub(crate) fn claim(&mut self, id: ScheduleId, fates: &[SlotFate]) -> Claimed {
        let schedule = self.schedule(id);
        let slot = schedule.next.unwrap().slot;
        let open = self.open(id);
        let rows: Vec<SlotRow> = (0..)
            .zip(fates)
            .map(|(n, &fate)| {
                let slot = at(slot.0 + n * 1000);
                SlotRow { id: run_id(), slot, due: slot, fate }
            })
            .collect();
        let after = slot.0 + 1000 * i64::try_from(fates.len()).unwrap();
        let claim = SlotClaim {
            schedule: id,
            revision: schedule.revision,
            slot,
            open: open.clone(),
            rows: rows.clone(),
            replaces: Vec::new(),
            next: next(after),
            now: slot,
        };
        self.db.schedules().claim_slot(claim).wait().unwrap()
    }

    /// Claims the next slot as a run, which is queued then.
    pub(crate) fn fire(&mut self, id: ScheduleId) -> RunId {
        assert_eq!(self.claim(id, &[SlotFate::Run]), Claimed::Done { already: vec![] });
        let newest = self.db.runs().page(Some(id), None, 1).wait().unwrap();
        newest.rows[0].id
    }

    /// Starts a queued run under `owner`.
    pub(crate) fn begin(&mut self, run: RunId, owner: HostId, now: i64) -> Run {
        let forced = schedules::Capacity::Forced { actor: "the test".to_owned() };
        let outcome = self.db.runs().start(run, forced, start(owner, now)).wait().unwrap();
        started(outcome)
    }

    pub(crate) fn finish(&mut self, run: RunId, owner: HostId, outcome: RunOutcome, now: i64) {
        let finished = self.db.runs().finish(run, owner, end(outcome, now), leave).wait();
        assert_eq!(finished.unwrap(), Finished::Done { paused: None, teller: None });
    }

    pub(crate) fn count(&self, select: &str) -> i64 {
        self.db.raw().query_row(select, [], |row| row.get(0)).unwrap()
    }
}

/// All rows of all tables, as text.
pub(crate) fn dump(db: &Connection) -> Vec<String> {
    let tables: Vec<String> = db
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let mut lines = Vec::new();
    for table in tables {
        let mut select = db.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")).unwrap();
        let columns = select.column_count();
        let mut rows = select.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<Value> = (0..columns).map(|n| row.get(n).unwrap()).collect();
            lines.push(format!("{table} {values:?}"));
        }
    }
    lines
}
