//! What any store has to keep of what agents had models do.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use twobox_shared::ids::{AgentGroupId, HostId, SessionId, SystemIds};
use twobox_shared::time::UnixMillis;
use twobox_store::messaging::SessionMode;
use twobox_store::usage::{
    By, Day, Limit, Limits, OpenId, Opened, Over, Request, Settled, Tokens, Used, Whose,
};
use twobox_store::{DbError, Store};

struct World {
    dir: tempfile::TempDir,
    agent: AgentGroupId,
    session: SessionId,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("host.db")).unwrap();
        store.installation().id_or_new(&SystemIds, at(1)).wait().unwrap();
        let agent = store.agents().add("ann", SessionMode::Shared, &SystemIds, at(1)).wait();
        let agent = agent.unwrap().id;
        Self { dir, agent, session: SessionId::generate(&SystemIds) }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("host.db")
    }

    fn open(&self) -> Store {
        Store::open(&self.file()).unwrap()
    }

    /// A request of today that can use 100 tokens and 10 nano-USD.
    fn request(&self) -> Request {
        Request {
            day: day("2026-11-30"),
            agent: self.agent,
            session: self.session,
            upstream: "openai".to_owned(),
            model: "m".to_owned(),
            tokens: 100,
            nano_usd: Some(10),
            now: at(5),
        }
    }
}

fn at(ms: i64) -> UnixMillis {
    UnixMillis(ms)
}

fn day(text: &str) -> Day {
    Day::parse(text).unwrap()
}

fn tokens(input: u64, cache_read: u64, cache_write: u64, output: u64) -> Tokens {
    Tokens { input, cache_read, cache_write, output }
}

fn settled(tokens: Tokens, nano_usd: Option<i64>) -> Settled {
    Settled { tokens, nano_usd, failed: false }
}

fn admitted(opened: Opened) -> OpenId {
    match opened {
        Opened::Admitted(id) => id,
        Opened::Over(over) => panic!("{over:?}"),
    }
}

fn reserve(store: &Store, request: Request) -> OpenId {
    admitted(store.usage().open(request, Limits::default()).wait().unwrap())
}

fn whole(store: &Store) -> Used {
    let lines = store.usage().report(By::Agent, day("2000-01-01"), day("2100-01-01"));
    match &lines.wait().unwrap()[..] {
        [] => Used::default(),
        [one] => one.used,
        more => panic!("one agent alone: {more:?}"),
    }
}

#[test]
fn what_a_request_used_is_counted_once_whatever_is_said_again() {
    let world = World::new();
    let store = world.open();
    let [one, failed, lost, unpriced] = [(); 4].map(|()| reserve(&store, world.request()));
    let used = settled(tokens(10, 20, 30, 40), Some(7));
    assert!(store.usage().settle(one, used).wait().unwrap());
    assert!(!store.usage().settle(one, used).wait().unwrap());
    assert!(
        !store.usage().abandon(one).wait().unwrap() && !store.usage().lose(one).wait().unwrap()
    );
    assert!(store.usage().abandon(failed).wait().unwrap());
    assert!(store.usage().lose(lost).wait().unwrap());
    assert!(store.usage().settle(unpriced, settled(tokens(1, 0, 0, 1), None)).wait().unwrap());
    let expected = Used {
        requests: 4,
        tokens: tokens(11, 20, 30, 41),
        nano_usd: 7,
        unpriced: 1,
        failed: 1,
        unknown: 1,
        unknown_tokens: 100,
        unknown_nano_usd: 10,
    };
    assert_eq!(whole(&store), expected);
    let fresh = reserve(&store, world.request());
    assert_ne!(fresh, unpriced, "an id is nobody's again");
    assert_eq!(whole(&world.open()), expected, "what is open is not counted yet");
}

#[test]
fn a_limit_holds_for_what_is_settled_reserved_and_perhaps_used_together() {
    let world = World::new();
    let store = world.open();
    let limit = |nano_usd, tokens| Limit { nano_usd, tokens };
    let ask = |limits: Limits| store.usage().open(world.request(), limits).wait().unwrap();
    let over =
        |whose, money, used, asked, limit| Opened::Over(Over { whose, money, used, asked, limit });
    let agents = Limits { agent: limit(Some(30), None), ..Limits::default() };
    let first = admitted(ask(agents));
    let second = admitted(ask(agents));
    assert!(store.usage().settle(first, settled(tokens(5, 5, 5, 5), Some(4))).wait().unwrap());
    assert!(store.usage().lose(second).wait().unwrap());
    let third = admitted(ask(agents));
    assert_eq!(ask(agents), over(Whose::Agent, true, 24, 10, 30), "4 used, 10 lost, 10 reserved");
    assert!(store.usage().abandon(third).wait().unwrap());
    admitted(ask(agents));
    let cases = [
        (limit(None, Some(319)), Whose::All, false, 220, 100, 319),
        (limit(Some(0), None), Whose::All, true, 24, 10, 0),
    ];
    for (all, whose, money, used, asked, limit) in cases {
        let limits = Limits { all, ..Limits::default() };
        assert_eq!(ask(limits), over(whose, money, used, asked, limit), "{all:?}");
    }
    let just = Limits { all: limit(None, Some(320)), ..Limits::default() };
    admitted(ask(just));
    let ask = |request: Request, all| {
        store.usage().open(request, Limits { all, ..Limits::default() }).wait().unwrap()
    };
    let unpriced = || Request { nano_usd: None, ..world.request() };
    admitted(ask(unpriced(), limit(Some(1), None)));
    assert_eq!(ask(unpriced(), limit(Some(0), None)), over(Whose::All, true, 34, 0, 0));
    let free = Request { nano_usd: Some(0), tokens: 0, day: day("2026-12-02"), ..world.request() };
    assert_eq!(ask(free.clone(), limit(Some(0), None)), over(Whose::All, true, 0, 0, 0));
    assert_eq!(ask(free, limit(None, Some(0))), over(Whose::All, false, 0, 0, 0));
    let tomorrow = Request { day: day("2026-12-01"), ..world.request() };
    admitted(store.usage().open(tomorrow, agents).wait().unwrap());
    let other = Request { agent: AgentGroupId::generate(&SystemIds), ..world.request() };
    admitted(store.usage().open(other, agents).wait().unwrap());
}

#[test]
fn a_run_costs_no_more_than_it_may_and_the_next_one_begins_anew() {
    let world = World::new();
    let store = world.open();
    let limits = |run| Limits { run, ..Limits::default() };
    let ask = |request: Request, run| store.usage().open(request, limits(run)).wait().unwrap();
    let over =
        |used| Opened::Over(Over { whose: Whose::Run, money: true, used, asked: 10, limit: 25 });
    reserve(&store, world.request()); // nobody bounded the run by then, and nobody followed it
    let one = admitted(ask(world.request(), Some(25)));
    let two = admitted(ask(world.request(), Some(25)));
    assert_eq!(ask(world.request(), Some(25)), over(20), "what is reserved counts");
    let elsewhere = Request { session: SessionId::generate(&SystemIds), ..world.request() };
    admitted(ask(elsewhere, Some(25)));
    admitted(ask(Request { nano_usd: None, ..world.request() }, Some(25)));
    assert!(store.usage().settle(one, settled(tokens(1, 1, 1, 1), Some(4))).wait().unwrap());
    assert!(store.usage().lose(two).wait().unwrap());
    let three = admitted(ask(world.request(), Some(25)));
    assert_eq!(ask(world.request(), Some(25)), over(24), "as what is unknown does");
    assert!(store.usage().abandon(three).wait().unwrap());
    assert!(matches!(ask(world.request(), Some(14)), Opened::Over(_)), "lowered");
    let tomorrow = Request { day: day("2026-12-01"), ..world.request() };
    let four = admitted(ask(tomorrow, Some(25)));
    assert_eq!(ask(world.request(), Some(25)), over(24), "a run goes on when the day turns");

    assert!(store.usage().end_run(world.session).wait().unwrap());
    assert!(!store.usage().end_run(world.session).wait().unwrap());
    let five = admitted(ask(world.request(), Some(25)));
    assert_eq!(ask(world.request(), Some(25)), over(20), "what was open goes on in the next");
    for id in [four, five] {
        assert!(store.usage().settle(id, settled(Tokens::default(), Some(3))).wait().unwrap());
    }
    admitted(ask(world.request(), Some(25)));
    assert_eq!(store.usage().take_over().wait().unwrap(), 4, "of a host that died");
    assert_eq!(ask(world.request(), Some(25)), over(16), "6 were used, and 10 may have been");
    let later = day("2026-12-02");
    while store.usage().fold(later.clone()).wait().unwrap() {}
    admitted(ask(world.request(), Some(25)));
    admitted(ask(world.request(), Some(25)));
}

#[test]
fn of_many_at_once_as_many_are_admitted_as_there_is_room_for() {
    const AT_ONCE: usize = 8;
    let world = World::new();
    let limits = Limits {
        all: Limit { nano_usd: Some(30), tokens: None },
        agent: Limit { nano_usd: None, tokens: Some(1000) },
        run: Some(30),
    };
    let barrier = Barrier::new(AT_ONCE);
    let ask = || {
        let store = world.open();
        barrier.wait();
        matches!(store.usage().open(world.request(), limits).wait().unwrap(), Opened::Admitted(_))
    };
    let admitted = thread::scope(|scope| {
        let asked: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().filter(|_| true).map(|it| it.join().unwrap()).filter(|it| *it).count()
    });
    assert_eq!(admitted, 3);
}

#[test]
fn what_a_host_left_open_that_died_is_unknown_and_the_dead_host_counts_nothing_more() {
    let world = World::new();
    let old = world.open();
    old.installation().take_over(HostId::generate(&SystemIds), at(10)).wait().unwrap();
    assert_eq!(old.usage().take_over().wait().unwrap(), 0);
    let past = Request { day: day("2026-11-01"), ..world.request() };
    let past = reserve(&old, past);
    assert!(old.usage().settle(past, settled(Tokens::default(), Some(0))).wait().unwrap());
    let [one, two] = [(); 2].map(|()| reserve(&old, world.request()));
    let new = world.open();
    new.installation().take_over(HostId::generate(&SystemIds), at(20)).wait().unwrap();
    for (case, refused) in [
        ("open", old.usage().open(world.request(), Limits::default()).wait().map(drop)),
        ("settle", old.usage().settle(one, settled(tokens(1, 1, 1, 1), Some(1))).wait().map(drop)),
        ("abandon", old.usage().abandon(two).wait().map(drop)),
        ("fold", old.usage().fold(day("2026-11-30")).wait().map(drop)),
    ] {
        assert!(matches!(refused, Err(DbError::Fenced { .. })), "{case}: {refused:?}");
    }
    assert_eq!(new.usage().take_over().wait().unwrap(), 2);
    let used = whole(&new);
    assert_eq!((used.requests, used.unknown, used.tokens), (3, 2, Tokens::default()));
    assert_eq!((used.unknown_tokens, used.unknown_nano_usd, used.unpriced), (200, 20, 0));
    assert_eq!(new.usage().take_over().wait().unwrap(), 0);
    assert!(!new.usage().settle(one, settled(tokens(1, 1, 1, 1), Some(1))).wait().unwrap());
}

#[test]
fn it_is_added_up_by_agent_model_day_and_conversation() {
    let world = World::new();
    let store = world.open();
    let stranger = AgentGroupId::generate(&SystemIds);
    let spend = |request: Request, nano_usd| {
        let id = reserve(&store, request);
        store.usage().settle(id, settled(tokens(1, 0, 0, 0), Some(nano_usd))).wait().unwrap();
    };
    spend(world.request(), 5);
    spend(Request { day: day("2026-11-29"), ..world.request() }, 1);
    spend(Request { day: day("2026-11-01"), ..world.request() }, 100);
    spend(Request { agent: stranger, model: "a/n".to_owned(), ..world.request() }, 50);
    let report = |by| {
        let lines = store.usage().report(by, day("2026-11-29"), day("2026-11-30")).wait().unwrap();
        let line = |line: twobox_store::usage::Line| (line.key, line.agent, line.used.nano_usd);
        lines.into_iter().map(line).collect::<Vec<_>>()
    };
    let (ann, stranger) = (world.agent.to_string(), stranger.to_string());
    let named = |name: &str| Some(name.to_owned());
    let agents = [(stranger.clone(), named(&stranger), 50), (ann, named("ann"), 6)];
    assert_eq!(report(By::Agent), agents, "the most first");
    let models = [("openai/a/n".to_owned(), None, 50), ("openai/m".to_owned(), None, 6)];
    assert_eq!(report(By::Model), models);
    let days = [("2026-11-29".to_owned(), None, 1), ("2026-11-30".to_owned(), None, 55)];
    assert_eq!(report(By::Day), days, "in their order");
    assert_eq!(report(By::Session).len(), 1);
}

#[test]
fn days_long_past_keep_their_sums_and_no_conversation() {
    let world = World::new();
    let store = world.open();
    let spend = |date: &str, times: usize| {
        for _ in 0..times {
            let session = SessionId::generate(&SystemIds);
            let id = reserve(&store, Request { day: day(date), session, ..world.request() });
            store.usage().settle(id, settled(tokens(1, 2, 3, 4), Some(5))).wait().unwrap();
        }
        let session = SessionId::generate(&SystemIds);
        let lost = reserve(&store, Request { day: day(date), session, ..world.request() });
        store.usage().lose(lost).wait().unwrap();
    };
    let lines = |by| store.usage().report(by, day("2026-01-01"), day("2026-12-31")).wait().unwrap();
    let fold = || store.usage().fold(day("2026-11-03")).wait().unwrap();
    spend("2026-11-01", 3);
    spend("2026-11-02", 2);
    spend("2026-11-03", 1);
    let before = lines(By::Day);
    assert_eq!(lines(By::Session).len(), 9);
    assert_eq!([fold(), fold(), fold()], [true, true, false], "a day at a time");
    spend("2026-11-01", 1); // one that ended late
    assert_eq!([fold(), fold()], [true, false]);
    let after = lines(By::Day);
    assert_eq!(after[1..], before[1..]);
    assert_eq!((after[0].used.requests, after[0].used.unknown_tokens), (6, 200));
    let sessions = lines(By::Session);
    assert_eq!(sessions.len(), 3, "{sessions:?}");
    assert_eq!(sessions.iter().find(|it| it.key.is_empty()).unwrap().used.requests, 9);
}

#[test]
fn a_day_has_one_form() {
    for text in ["2026-01-31", "0000-12-01"] {
        assert_eq!(Day::parse(text).unwrap().as_str(), text);
    }
    for text in [
        "",
        "2026-1-31",
        "2026-13-01",
        "2026-00-01",
        "2026-01-32",
        "2026/01/01",
        "2026-01-01T",
        "２026-01-1",
    ] {
        assert_eq!(Day::parse(text), None, "{text}");
    }
}

/// Every other commit waits for the disk as before. The times are printed, not judged.
#[test]
fn counting_does_not_wait_for_the_disk_and_what_follows_does() {
    const TIMES: u32 = 200;
    const CONVERSATIONS: usize = 10_000;
    let world = World::new();
    let store = world.open();
    let synchronous =
        || -> i64 { store.raw().query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap() };
    let before = synchronous();
    let limits = Limits {
        all: Limit { nano_usd: Some(i64::MAX), tokens: Some(i64::MAX) },
        agent: Limit { nano_usd: Some(i64::MAX), tokens: Some(i64::MAX) },
        run: Some(i64::MAX),
    };
    let begun = Instant::now();
    for _ in 0..TIMES {
        let id = admitted(store.usage().open(world.request(), limits).wait().unwrap());
        store.usage().settle(id, settled(tokens(1, 1, 1, 1), Some(1))).wait().unwrap();
    }
    eprintln!("open and settle: {:?} each", begun.elapsed() / TIMES);
    assert_eq!(synchronous(), before);
    assert_eq!(whole(&store).requests, u64::from(TIMES));
    store.raw().execute_batch("BEGIN").unwrap();
    for _ in 0..CONVERSATIONS {
        let day = "INSERT INTO usage_days (day, agent_group_id, session_id, upstream, model)
                   VALUES ('2026-11-30', ?1, ?2, 'u', 'm')";
        store.raw().execute(day, (world.agent, SessionId::generate(&SystemIds))).unwrap();
    }
    store.raw().execute_batch("COMMIT").unwrap();
    let begun = Instant::now();
    admitted(store.usage().open(world.request(), limits).wait().unwrap());
    eprintln!("open on a day with {CONVERSATIONS} conversations: {:?}", begun.elapsed());
}
