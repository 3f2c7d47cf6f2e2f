//! What any store has to keep, whatever is behind it. Each promise is asked for through the operations
//! that everybody else has; only [`Backend`] knows where the rows lie.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;
use std::sync::Barrier;
use std::thread;

use twobox_model::channel::{Address, TERMINAL};
use twobox_shared::ids::{
    HostId, IdSource, MessageId, RunId, RunnerId, ScheduleId, SessionId, SystemIds,
};
use twobox_shared::inbox::{DeliveryStatus, Origin};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;
use twobox_slots::{missed, overlap};
use twobox_store::messaging::SessionMode;
use twobox_store::notices::Notice;
use twobox_store::ownership::{HostLife, LEASE};
use twobox_store::schedules::{
    Added, Cancelled, Capacity, Claimed, Counts, Definition, End, Finished, Load, Next, Phase, Run,
    RunOutcome, Schedule, SlotClaim, SlotFate, SlotRow, Start, Started, Status, Streaks, Verdict,
};
use twobox_store::sessions::DUE_NOW;
use twobox_store::{DbError, Store};

/// Where the rows are. Several hosts may have it open at once.
struct Backend {
    dir: tempfile::TempDir,
}

impl Backend {
    fn new() -> Self {
        let backend = Self { dir: tempfile::tempdir().unwrap() };
        let store = Store::create(&backend.file()).unwrap();
        store.installation().id_or_new(&SystemIds, at(1)).wait().unwrap();
        store.agents().add("ann", SessionMode::PerThread, &SystemIds, at(1)).wait().unwrap();
        backend
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("host.db")
    }

    /// What another host has of it.
    fn open(&self) -> Store {
        Store::open(&self.file()).unwrap()
    }

    /// What a machine would find that lost its power at this instant.
    fn after_a_crash(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(self.dir.path()).unwrap().map(Result::unwrap) {
            if file.file_name() != "host.db-shm" {
                std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
            }
        }
        Self { dir }
    }
}

fn at(ms: i64) -> UnixMillis {
    UnixMillis(ms)
}

fn host() -> HostId {
    HostId::generate(&SystemIds)
}

fn session(store: &Store, thread: &str) -> SessionId {
    let heard = store.wirings().listening(TERMINAL, "ann").wait().unwrap().remove(0);
    let (agent, chat) = (heard.agent, heard.messaging_group);
    let fresh = SessionId::generate(&SystemIds);
    store.sessions().resolve(agent, chat, thread, fresh, at(2)).wait().unwrap()
}

/// A schedule whose slots are 1000, 2000 and so on.
fn schedule(store: &Store, name: &str) -> ScheduleId {
    let definition = Definition {
        name: name.to_owned(),
        prompt: "do it".to_owned(),
        cadence_kind: "every".to_owned(),
        cadence_value: "1s".to_owned(),
        time_zone: "UTC".to_owned(),
        anchor: at(0),
        session: None,
        to: Origin::default(),
        max_turns: None,
        max_run_ms: None,
        missed: missed::Policy::Latest,
        missed_window_ms: 86_400_000,
        overlap: overlap::Policy::Allow,
        jitter_ms: 0,
        not_before: None,
        not_after: None,
        max_runs: None,
    };
    let agent = store.agents().find("ann").wait().unwrap().id;
    let id = ScheduleId::generate(&SystemIds);
    let next = Some(Next { slot: at(1000), due: at(1000) });
    let added = store.schedules().add(id, agent, &definition, next, at(3)).wait().unwrap();
    assert_eq!(added, Added::Done);
    id
}

/// The claim of a schedule's next slot as one run, on what is there now.
fn claim(store: &Store, schedule: ScheduleId) -> SlotClaim {
    let known = store.schedules().find(&schedule.to_string()).wait().unwrap().unwrap();
    let slot = known.next.unwrap().slot;
    let open = store.runs().open_of(schedule).wait().unwrap().rows;
    let (id, next) = (RunId::generate(&SystemIds), at(slot.0 + 1000));
    SlotClaim {
        schedule,
        revision: known.revision,
        slot,
        open: open.iter().map(|run| run.id).collect(),
        rows: vec![SlotRow { id, slot, due: slot, fate: SlotFate::Run }],
        replaces: Vec::new(),
        next: Some(Next { slot: next, due: next }),
        now: slot,
    }
}

const CLAIMED: Claimed = Claimed::Done { already: vec![] };

/// A run that waits for its turn.
fn queued(store: &Store, name: &str) -> RunId {
    let claim = claim(store, schedule(store, name));
    let run = claim.rows[0].id;
    assert_eq!(store.schedules().claim_slot(claim).wait().unwrap(), CLAIMED);
    run
}

/// A start with a lease until 6000.
fn start(owner: HostId) -> Start {
    Start {
        owner,
        lease_ms: 1000,
        session: SessionId::generate(&SystemIds),
        message: MessageId::from(SystemIds.uuid()),
        now: at(5000),
    }
}

fn begin(store: &Store, run: RunId, owner: HostId) {
    let started = store.runs().start(run, Capacity::AtMost(100), start(owner)).wait().unwrap();
    assert!(matches!(started, Started::Run(_)), "{started:?}");
}

fn finish(store: &Store, run: RunId, owner: HostId) -> Result<Finished, DbError> {
    let (load, now) = (Load::default(), at(5500));
    let end = End { outcome: RunOutcome::Completed, turns: None, output: None, load, now };
    let leave =
        |_: &Schedule, _: &Run| Verdict { streaks: Streaks::default(), pause: None, news: None };
    store.runs().finish(run, owner, end, leave).wait()
}

/// What each of four hosts has come to that did the same at once.
fn at_once<T: Send>(race: impl Fn() -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let hosts: Vec<_> = (0..HOSTS).map(|_| scope.spawn(&race)).collect();
        hosts.into_iter().map(|host| host.join().unwrap()).collect()
    })
}

const HOSTS: usize = 4;

#[test]
fn what_is_said_again_changes_nothing() {
    let backend = Backend::new();
    let store = backend.open();
    let first = session(&store, "t");
    assert_eq!(session(&backend.open(), "t"), first, "one session, whoever asks");
    for _ in 0..2 {
        store.sessions().mark(first, Some(DUE_NOW)).wait().unwrap();
        assert_eq!(store.sessions().due(at(0)).wait().unwrap(), [first]);
    }
    let address =
        Address { channel_type: TERMINAL.into(), platform_id: "ann".into(), thread_id: None };
    let notice = Notice::held("start".into(), address, "I cannot start".into(), at(5));
    assert!(store.notices().add(first, &notice).wait().unwrap());
    assert!(!store.notices().add(first, &notice).wait().unwrap(), "once for each cause");
    let mut open = store.notices().open(first, Seq(0)).wait().unwrap();
    assert_eq!(open.len(), 1);
    let mut told = open.remove(0).record;
    told.status = DeliveryStatus::Delivered;
    assert!(store.notices().record(first, "start", &told).wait().unwrap());
    assert!(!store.notices().record(first, "start", &told).wait().unwrap(), "settled is final");
    let numbers = [Seq(3), Seq(5)];
    let count = || store.refusals().count(first, &numbers, "no", at(9)).wait().unwrap();
    assert_eq!((count(), count()), (2, 0));
}

#[test]
fn a_run_is_moved_by_whoever_saw_it_as_it_is_and_ended_once() {
    let backend = Backend::new();
    let (store, other) = (backend.open(), backend.open());
    let run = queued(&store, "report");
    let (ours, theirs) = (host(), host());
    assert_eq!(finish(&store, run, ours).unwrap(), Finished::NotOurs, "it did not begin");
    begin(&store, run, ours);
    let advance =
        |store: &Store, owner, from, to| store.runs().advance(run, owner, from, to).wait().unwrap();
    assert!(!advance(&other, theirs, Phase::Claimed, Phase::Prepared), "another owner");
    assert!(!advance(&store, ours, Phase::Prepared, Phase::Executing), "another phase");
    assert!(advance(&store, ours, Phase::Claimed, Phase::Prepared));
    assert!(!advance(&store, ours, Phase::Claimed, Phase::Prepared), "not twice");
    let take = |seen| other.runs().take_over(run, ours, at(seen), theirs, at(9000)).wait().unwrap();
    assert!(!take(5999), "another lease");
    assert!(take(6000));
    assert!(!take(6000), "not twice");
    assert_eq!(finish(&store, run, ours).unwrap(), Finished::NotOurs);
    let ended = Finished::Done { paused: None, teller: None };
    assert_eq!(finish(&other, run, theirs).unwrap(), ended);
    assert_eq!(finish(&other, run, theirs).unwrap(), Finished::NotOurs, "once");
    let cancelled = store.runs().request_cancel(run, at(9)).wait().unwrap();
    assert_eq!(cancelled, Cancelled::Ended);
}

#[test]
fn a_slot_has_one_row_whoever_claims_it_at_the_same_time() {
    const SLOTS: usize = 20;
    let backend = Backend::new();
    let id = schedule(&backend.open(), "report");
    let (seen, tried) = (Barrier::new(HOSTS), Barrier::new(HOSTS));
    let won = at_once(|| {
        let store = backend.open();
        let mut won = 0;
        for _ in 0..SLOTS {
            let claim = claim(&store, id);
            seen.wait(); // all of them have read the same
            match store.schedules().claim_slot(claim).wait().unwrap() {
                Claimed::Done { already } => {
                    assert_eq!(already, []);
                    won += 1;
                }
                Claimed::Taken | Claimed::Changed => {}
                other => panic!("{other:?}"),
            }
            tried.wait();
        }
        won
    });
    assert_eq!(won.iter().sum::<usize>(), SLOTS, "{won:?}");
    let store = backend.open();
    let runs = store.runs().page(Some(id), None, 1000).wait().unwrap().rows;
    let mut slots: Vec<_> = runs.iter().map(|run| run.slot.unwrap().0).collect();
    slots.sort_unstable();
    assert_eq!(slots, (1..=20).map(|n| n * 1000).collect::<Vec<_>>());
}

#[test]
fn no_more_runs_go_on_than_may_whoever_starts_them() {
    const CAP: u32 = 3;
    let backend = Backend::new();
    let store = backend.open();
    for n in 0..12 {
        queued(&store, &format!("report {n}"));
    }
    let ready = Barrier::new(HOSTS);
    let begun = at_once(|| {
        let (store, owner) = (backend.open(), host());
        ready.wait();
        let mut begun = 0;
        while let Started::Run(_) = store.runs().start_next(CAP, start(owner)).wait().unwrap() {
            begun += 1;
        }
        begun
    });
    assert_eq!(begun.iter().sum::<u32>(), CAP, "{begun:?}");
    assert_eq!(store.runs().counts().wait().unwrap(), Counts { queued: 9, running: 3 });
    assert_eq!(store.runs().start_next(CAP, start(host())).wait().unwrap(), Started::Full);
}

#[test]
fn a_host_that_was_followed_by_another_changes_nothing_any_more() {
    let backend = Backend::new();
    let (old, new) = (backend.open(), backend.open());
    let before = old.installation().take_over(host(), at(10)).wait().unwrap();
    let (idle, working) = (session(&old, "t"), session(&old, "u"));
    let (waits, goes) = (queued(&old, "waits"), queued(&old, "goes"));
    let claim = claim(&old, schedule(&old, "later"));
    begin(&old, goes, before.owner);
    old.sessions().mark(working, Some(at(7))).wait().unwrap();

    let after = new.installation().take_over(host(), at(20)).wait().unwrap();
    assert_eq!(after.epoch, before.epoch + 1);
    let runner = RunnerId::generate(&SystemIds);
    let refused = [
        ("mark", old.sessions().mark(idle, Some(DUE_NOW)).wait()),
        ("start", old.sessions().record_start(idle, runner, at(21)).wait()),
        ("quarantine", old.sessions().quarantine(idle, "broken").wait().map(drop)),
        ("claim", old.schedules().claim_slot(claim.clone()).wait().map(drop)),
        ("begin", old.runs().start_next(9, start(before.owner)).wait().map(drop)),
        ("finish", finish(&old, goes, before.owner).map(drop)),
        ("cancel", old.runs().request_cancel(waits, at(22)).wait().map(drop)),
        ("count", old.refusals().count(idle, &[Seq(3)], "no", at(9)).wait().map(drop)),
        ("renew", old.installation().renew(before, at(23)).wait()),
    ];
    for (case, outcome) in refused {
        assert!(matches!(outcome, Err(DbError::Fenced { .. })), "{case}: {outcome:?}");
    }
    let words = old.sessions().mark(idle, None).wait().unwrap_err().to_string();
    assert!(words.contains("another host has taken host.db over"), "{words}");
    // It may look, and nothing is other than it was.
    assert_eq!(old.sessions().due(at(i64::MAX)).wait().unwrap(), [working]);
    assert_eq!(old.runs().counts().wait().unwrap(), Counts { queued: 1, running: 1 });
    assert_eq!(new.sessions().find(idle).wait().unwrap().unwrap().runner, None);
    // Who followed works, and so does a command beside it, which has no fence.
    new.sessions().mark(idle, Some(DUE_NOW)).wait().unwrap();
    new.installation().renew(after, at(24)).wait().unwrap();
    assert_eq!(new.schedules().claim_slot(claim).wait().unwrap(), CLAIMED);
    let cancelled = backend.open().runs().request_cancel(waits, at(25)).wait().unwrap();
    assert_eq!(cancelled, Cancelled::BeforeStart);
}

#[test]
fn a_lease_is_renewed_once_half_of_it_is_over() {
    let backend = Backend::new();
    let store = backend.open();
    let life = store.installation().take_over(host(), at(0)).wait().unwrap();
    let lease = || -> i64 {
        store.raw().query_row("SELECT lease_until_ms FROM owner", [], |row| row.get(0)).unwrap()
    };
    let whole = i64::try_from(LEASE.as_millis()).unwrap();
    let half = whole / 2;
    for (now, until) in
        [(0, whole), (half - 1, whole), (half, half + whole), (9 * whole, 10 * whole)]
    {
        store.installation().renew(life, at(now)).wait().unwrap();
        assert_eq!(lease(), until, "at {now}");
    }
    let stranger = HostLife { owner: host(), ..life };
    let refused = store.installation().renew(stranger, at(whole)).wait();
    assert!(matches!(refused, Err(DbError::Fenced { .. })), "{refused:?}");
}

#[test]
fn a_host_adopts_what_earlier_lives_left_and_leaves_alone_what_another_is_at() {
    let backend = Backend::new();
    let store = backend.open();
    let [of_a_build_before, of_the_life_before, of_another] =
        ["a", "b", "c"].map(|name| queued(&store, name));
    begin(&store, of_a_build_before, host());
    let before = store.installation().take_over(host(), at(10)).wait().unwrap();
    begin(&store, of_the_life_before, before.owner);
    let ours = store.installation().take_over(host(), at(20)).wait().unwrap().owner;
    // A host of another installation, which can be only where several work on one store.
    let (theirs, beside) = (host(), backend.open());
    let other = "INSERT INTO owner VALUES ('another', ?1, 1, 1, 1000000)";
    beside.raw().execute(other, [theirs]).unwrap();
    begin(&beside, of_another, theirs);
    let left = |now| -> Vec<RunId> {
        let left = store.runs().left_behind(ours, at(now)).wait().unwrap();
        left.rows.into_iter().map(|run| run.id).collect()
    };
    assert_eq!(left(5999), [of_a_build_before, of_the_life_before]);
    let all = [of_a_build_before, of_the_life_before, of_another];
    assert_eq!(left(6000), all, "the lease of its run is over");
    let lives = "UPDATE runs SET lease_until_ms = 2000000";
    beside.raw().execute(lives, []).unwrap();
    assert_eq!(left(999_999).len(), 2, "it is at it");
    assert_eq!(left(1_000_000), all, "the lease of its host is over");
}

#[test]
fn lists_have_an_order_and_counts_are_those_of_the_lists() {
    let backend = Backend::new();
    let store = backend.open();
    let sessions = ["a", "b", "c"].map(|thread| session(&store, thread));
    for (session, due) in sessions.iter().zip([30, 10, 20]) {
        store.sessions().mark(*session, Some(at(due))).wait().unwrap();
    }
    let [a, b, c] = sessions;
    assert_eq!(store.sessions().due(at(20)).wait().unwrap(), [b, c], "the most urgent first");
    assert_eq!(store.sessions().outstanding().wait().unwrap(), [b, c, a]);
    store.sessions().mark(b, None).wait().unwrap();
    store.sessions().quarantine(c, "broken").wait().unwrap();
    let counts = store.sessions().counts().wait().unwrap();
    assert_eq!((counts.total, counts.due, counts.quarantined), (3, 2, 1));
    let runs = ["a", "b", "c"].map(|name| queued(&store, name));
    let newest = store.runs().page(None, None, 2).wait().unwrap().rows;
    let ids: Vec<_> = newest.iter().map(|run| run.id).collect();
    assert_eq!(ids, [runs[2], runs[1]], "the newest first");
    let rest = store.runs().page(None, Some(runs[1]), 2).wait().unwrap().rows;
    assert_eq!((rest.len(), rest[0].id), (1, runs[0]), "and the page after it");
    begin(&store, runs[1], host());
    assert_eq!(store.runs().counts().wait().unwrap(), Counts { queued: 2, running: 1 });
}

#[test]
fn what_was_answered_for_is_there_after_a_crash_and_nothing_by_halves() {
    let backend = Backend::new();
    let store = backend.open();
    let before = store.installation().take_over(host(), at(10)).wait().unwrap();
    let due = session(&store, "t");
    store.sessions().mark(due, Some(DUE_NOW)).wait().unwrap();
    let run = queued(&store, "report");
    begin(&store, run, before.owner);
    // The machine stops in the middle of the next transaction.
    store.raw().execute_batch("BEGIN IMMEDIATE; DELETE FROM runs; DELETE FROM sessions").unwrap();
    let crashed = backend.after_a_crash();
    let store = crashed.open();
    let run = store.runs().find(run).wait().unwrap().unwrap();
    let life = store.installation().take_over(host(), at(20)).wait().unwrap();
    assert_eq!(store.sessions().due(at(0)).wait().unwrap(), [due]);
    assert_eq!((run.status, run.hold.unwrap().owner), (Status::Running, before.owner));
    assert_eq!(life.epoch, before.epoch + 1);
}
