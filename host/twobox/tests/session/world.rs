//! A small world around the real session tasks: real files and a real `host.db`, with a runtime
//! whose containers are closures and a channel that keeps what it is given.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rusqlite::Connection;
use tokio::sync::mpsc;
use twobox_app::intake::Router;
use twobox_app::operations::RunningHost;
use twobox_channels::{Channel, Intake};
use twobox_config::Config;
use twobox_model::channel::{
    Address, Capabilities, Inbound, Outbound, Outcome, Receipt, Refusal, TERMINAL,
};
use twobox_runtime::probe::Probed;
use twobox_runtime::{
    Condition, Incarnation, Runtime, RuntimeError, RuntimeEvent, Sighting, StartSpec,
};
use twobox_schedule::scheduler::Scheduler;
use twobox_session::core::{Core, Parts};
use twobox_session::signal::Reason;
use twobox_session::watch::Watch;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::content::{Chat, Failure, KIND_CHAT};
use twobox_shared::ids::{HostId, MessageId, SessionId, SystemIds};
use twobox_shared::inbox::{Inbox, Origin};
use twobox_shared::outbox::{Claim, NewRow, OutboxWriter, TurnEnd, new_row_id};
use twobox_shared::seq::Seq;
use twobox_store::Store;
use twobox_store::messaging;
use twobox_store::sessions::SessionRecord;
use twobox_system::data::DataDir;

/// What a container does after its work.
pub(crate) enum Then {
    Leaves,
    Stays,
}

type Life = dyn Fn(&StartSpec) -> Then + Send + Sync;
type LastWords = Box<dyn FnOnce() + Send>;

/// A runtime whose containers are closures.
pub(crate) struct FakeRuntime {
    known: Mutex<HashMap<Incarnation, Condition>>,
    life: Mutex<Arc<Life>>,
    pub(crate) down: Mutex<bool>,
    pub(crate) asked: Mutex<usize>,
    pub(crate) starts: Mutex<usize>,
    /// How many starts found another container of their session there.
    pub(crate) occupied: Mutex<usize>,
    /// How long a start takes.
    pub(crate) slow_start: Mutex<Duration>,
    /// Whether a container can be stopped at all.
    pub(crate) unstoppable: Mutex<bool>,
    /// How often a stop was tried.
    pub(crate) stops: Mutex<usize>,
    /// What a container does between being told to leave and its end.
    pub(crate) last_words: Mutex<Option<LastWords>>,
    events: mpsc::UnboundedSender<RuntimeEvent>,
}

impl FakeRuntime {
    /// Puts a container there that nobody started through this host.
    pub(crate) fn plant(&self, incarnation: Incarnation, condition: Condition) {
        self.known.lock().unwrap().insert(incarnation, condition);
    }

    pub(crate) fn lives(&self) -> usize {
        let known = self.known.lock().unwrap();
        known.values().filter(|condition| **condition == Condition::Running).count()
    }

    pub(crate) fn next_life(&self, life: impl Fn(&StartSpec) -> Then + Send + Sync + 'static) {
        *self.life.lock().unwrap() = Arc::new(life);
    }

    fn answer(&self) -> Result<(), RuntimeError> {
        match *self.down.lock().unwrap() {
            true => Err(RuntimeError::Unavailable { runtime: "fake", reason: "down".to_owned() }),
            false => Ok(()),
        }
    }

    /// The container ends.
    pub(crate) fn end(&self, incarnation: Incarnation) {
        if let Some(condition) = self.known.lock().unwrap().get_mut(&incarnation) {
            *condition = Condition::Exited { code: Some(0) };
        }
        self.events.send(RuntimeEvent::Exited(incarnation)).unwrap_or_default(); // the test is over
    }
}

/// The runtime as the host holds it.
pub(crate) struct Hold(pub(crate) Arc<FakeRuntime>);

impl Runtime for Hold {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn start<'a>(&'a self, spec: &'a StartSpec) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(async move {
            self.0.answer()?;
            let (fake, spec) = (Arc::clone(&self.0), spec.clone());
            {
                let mut known = fake.known.lock().unwrap();
                let session = spec.incarnation.session;
                if known.keys().any(|other| other.session == session) {
                    *fake.occupied.lock().unwrap() += 1;
                    return Err(RuntimeError::Occupied { session });
                }
                known.insert(spec.incarnation, Condition::Running);
            }
            let slow = *fake.slow_start.lock().unwrap();
            tokio::time::sleep(slow).await;
            *fake.starts.lock().unwrap() += 1;
            let life = Arc::clone(&fake.life.lock().unwrap());
            tokio::task::spawn_blocking(move || {
                if let Then::Leaves = life(&spec) {
                    fake.end(spec.incarnation);
                }
            });
            Ok(())
        })
    }

    fn stop(
        &self,
        incarnation: Incarnation,
        _: Duration,
    ) -> BoxFuture<'_, Result<(), RuntimeError>> {
        Box::pin(async move {
            self.0.answer()?;
            *self.0.stops.lock().unwrap() += 1;
            if *self.0.unstoppable.lock().unwrap() {
                let (session, reason) = (incarnation.session, "it is beyond reach".to_owned());
                return Err(RuntimeError::Stop { session, reason });
            }
            if let Some(last_words) = self.0.last_words.lock().unwrap().take() {
                last_words();
            }
            self.0.end(incarnation);
            Ok(())
        })
    }

    fn of_session(&self, session: SessionId) -> BoxFuture<'_, Result<Vec<Sighting>, RuntimeError>> {
        Box::pin(async move {
            let all = self.list().await?;
            Ok(all.into_iter().filter(|seen| seen.incarnation.session == session).collect())
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Sighting>, RuntimeError>> {
        Box::pin(async move {
            *self.0.asked.lock().unwrap() += 1;
            self.0.answer()?;
            let known = self.0.known.lock().unwrap();
            Ok(known
                .iter()
                .map(|(incarnation, condition)| Sighting {
                    incarnation: *incarnation,
                    condition: *condition,
                })
                .collect())
        })
    }

    fn clear<'a>(
        &'a self,
        incarnation: Incarnation,
        _: &'a Path,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(async move {
            self.0.answer()?;
            self.0.known.lock().unwrap().remove(&incarnation);
            Ok(())
        })
    }

    fn probe<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, Result<Probed, RuntimeError>> {
        Box::pin(async { unreachable!("nobody has a look around in a fake") })
    }

    fn check(&self) -> BoxFuture<'_, Result<String, RuntimeError>> {
        Box::pin(async { Ok("fake".to_owned()) })
    }
}

/// A channel that keeps what it is given, each key once.
#[derive(Default)]
pub(crate) struct Keeper {
    pub(crate) outbounds: Mutex<Vec<Outbound>>,
    pub(crate) calls: Mutex<usize>,
    /// The key of each message that was handed over, however that ended.
    pub(crate) handed: Mutex<Vec<String>>,
    /// What is said of each message, if it is not taken.
    pub(crate) refusal: Mutex<Option<Outcome>>,
    /// How long a call takes.
    pub(crate) slow: Mutex<Duration>,
    /// Whether it does not honour keys.
    pub(crate) blind: Mutex<bool>,
    /// Threads where nobody is.
    pub(crate) absent: Mutex<HashSet<String>>,
    /// How often messages were handed over for each thread.
    pub(crate) tried: Mutex<HashMap<String, usize>>,
    /// Whether the next call breaks after it has kept its messages.
    pub(crate) breaks: Mutex<bool>,
}

/// The thread that nobody listens to.
pub(crate) const NOBODY: &str = "nobody";

pub(crate) struct Post(pub(crate) Arc<Keeper>);

impl Channel for Post {
    fn capabilities(&self) -> Capabilities {
        let keys = !*self.0.blind.lock().unwrap();
        Capabilities { keys, threads: true, ..Capabilities::TEXT }
    }

    fn deliver<'a>(
        &'a self,
        address: &'a Address,
        outbounds: Vec<Outbound>,
    ) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move {
            if address.thread_id.as_deref() == Some(NOBODY) {
                return vec![Outcome::Unavailable];
            }
            let thread = address.thread_id.clone().unwrap_or_default();
            *self.0.tried.lock().unwrap().entry(thread.clone()).or_default() += 1;
            if self.0.absent.lock().unwrap().contains(&thread) {
                return vec![Outcome::Unavailable];
            }
            *self.0.calls.lock().unwrap() += 1;
            let slow = *self.0.slow.lock().unwrap();
            tokio::time::sleep(slow).await;
            self.0
                .handed
                .lock()
                .unwrap()
                .extend(outbounds.iter().map(|outbound| outbound.key.clone()));
            if let Some(refusal) = self.0.refusal.lock().unwrap().clone() {
                return vec![refusal];
            }
            let outcomes: Vec<_> = {
                let mut kept = self.0.outbounds.lock().unwrap();
                outbounds
                    .into_iter()
                    .map(|outbound| {
                        if kept.iter().all(|other| other.key != outbound.key) {
                            kept.push(outbound);
                        }
                        Outcome::Delivered { platform_message_id: None }
                    })
                    .collect()
            };
            let breaks = std::mem::take(&mut *self.0.breaks.lock().unwrap());
            assert!(!breaks, "as the test wants it");
            outcomes
        })
    }
}

/// Everything that a test needs.
pub(crate) struct World {
    pub(crate) core: Arc<Core>,
    pub(crate) intake: Router,
    pub(crate) operations: RunningHost,
    pub(crate) runtime: Arc<FakeRuntime>,
    pub(crate) post: Arc<Keeper>,
    _dir: tempfile::TempDir,
}

impl World {
    /// With an agent `anna`, whose containers answer everything and leave.
    pub(crate) async fn new(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::create(dir.path()).unwrap();
        for folder in [data.group_folder("anna"), data.program_folder("anna")] {
            std::fs::create_dir(folder).unwrap();
        }
        let mut config = Config::default();
        config.limits.start_grace = Duration::from_millis(1);
        change(&mut config);
        drop(Store::create(&data.host_db()).unwrap());
        let store = Store::open(&data.host_db()).unwrap();
        let now = SystemClock.now();
        let install = store.installation().id_or_new(&SystemIds, now).await.unwrap();
        let mode = messaging::SessionMode::PerThread;
        store.agents().add("anna", mode, &SystemIds, now).await.unwrap();
        let (events, mut reports) = mpsc::unbounded_channel();
        let life: Arc<Life> = Arc::new(|spec: &StartSpec| {
            answer_all(spec);
            Then::Leaves
        });
        let runtime = Arc::new(FakeRuntime {
            known: Mutex::default(),
            life: Mutex::new(life),
            down: Mutex::default(),
            asked: Mutex::default(),
            starts: Mutex::default(),
            occupied: Mutex::default(),
            slow_start: Mutex::default(),
            unstoppable: Mutex::default(),
            stops: Mutex::default(),
            last_words: Mutex::default(),
            events,
        });
        let post = Arc::new(Keeper::default());
        let channel: Arc<dyn Channel> = Arc::new(Post(Arc::clone(&post)));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let environment = std::collections::BTreeMap::new();
        let gateway = twobox_gateway::Gateway::of(
            &config,
            &data,
            &environment,
            store.clone(),
            Arc::clone(&clock),
        )
        .unwrap();
        let core = Core::new(Parts {
            data,
            install,
            config,
            store,
            runtime: Arc::new(Hold(Arc::clone(&runtime))),
            gateway,
            channels: HashMap::from([(TERMINAL.to_owned(), channel)]),
            clock,
            ids: Arc::new(SystemIds),
            watch: Some(Watch::start().unwrap()),
        });
        let waker = Arc::clone(&core);
        tokio::spawn(async move {
            while let Some(RuntimeEvent::Exited(incarnation)) = reports.recv().await {
                waker.wake(incarnation.session, Reason::Runtime);
            }
        });
        Self {
            intake: Router::new(Arc::clone(&core), HashMap::new()),
            operations: RunningHost::new(
                Arc::clone(&core),
                Scheduler::new(Arc::clone(&core), HostId::generate(&SystemIds)),
            ),
            core,
            runtime,
            post,
            _dir: dir,
        }
    }

    /// The chat's thread of this name.
    pub(crate) fn address(thread: &str) -> Address {
        Address {
            channel_type: TERMINAL.to_owned(),
            platform_id: "anna".to_owned(),
            thread_id: Some(thread.to_owned()),
        }
    }

    pub(crate) async fn say(&self, thread: &str, id: &str) -> Result<Receipt, Refusal> {
        self.say_text(thread, id, "hello").await
    }

    /// As [`World::say`], with these words.
    pub(crate) async fn say_text(
        &self,
        thread: &str,
        id: &str,
        text: &str,
    ) -> Result<Receipt, Refusal> {
        let address = Self::address(thread);
        let id = MessageId::parse(id).unwrap();
        let mut receipts = self.intake.accept(Inbound::new(address, id, Chat::text(text))).await?;
        Ok(receipts.remove(0))
    }

    /// As [`World::new`], with a host that soon gives up a container that says nothing of its claims.
    pub(crate) async fn impatient() -> Self {
        Self::new(|config| config.limits.claim_tolerance = Duration::from_millis(300)).await
    }

    /// Waits until no session has a task.
    pub(crate) async fn rest(&self) {
        until("rest", async || self.core.awake().is_empty()).await;
    }

    /// Waits until the channel has kept `count` messages.
    pub(crate) async fn wait_outbounds(&self, count: usize) {
        let outbounds = || self.post.outbounds.lock().unwrap().len();
        until(&format!("{count} outbounds"), async || outbounds() == count).await;
    }

    pub(crate) async fn record(&self, session: SessionId) -> SessionRecord {
        let found = self.core.parts.store.sessions().find(session).await;
        found.unwrap().unwrap()
    }

    pub(crate) async fn inbound(&self, session: SessionId) -> PathBuf {
        let group = self.record(session).await.agent_group;
        self.core.parts.data.session_paths(group, session).inbound_db()
    }

    pub(crate) async fn outbound(&self, session: SessionId) -> PathBuf {
        let group = self.record(session).await.agent_group;
        self.core.parts.data.session_paths(group, session).outbound_db()
    }
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..3000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not within 30 s");
}

pub(crate) fn open(path: &Path) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.busy_timeout(Duration::from_secs(5)).unwrap();
    conn
}

/// The one number that `select` finds in the database at `path`.
pub(crate) fn number(path: &Path, select: &str) -> i64 {
    open(path).query_row(select, [], |row| row.get(0)).unwrap()
}

pub(crate) fn outbound(spec: &StartSpec) -> PathBuf {
    spec.folder.join("out/outbound.db")
}

/// Claims every pending message and answers it.
pub(crate) fn answer_all(spec: &StartSpec) {
    work(spec, Some(Ok(())));
}

/// As [`answer_all`], as a runner of version 0 does it, which names neither itself nor an attempt.
pub(crate) fn answer_all_as_version_0(spec: &StartSpec) {
    work(spec, Some(Ok(())));
    let outbox = Connection::open(outbound(spec)).unwrap();
    outbox.execute("UPDATE processing_ack SET runner_id = NULL, attempt = NULL", []).unwrap();
}

/// Claims every pending message and fails it for good.
pub(crate) fn reject_all(spec: &StartSpec) {
    fail_all(spec, Failure::permanent("auth_failed", "no key"));
}

/// Claims every pending message and fails it like this.
pub(crate) fn fail_all(spec: &StartSpec, failure: Failure) {
    work(spec, Some(Err(failure)));
}

/// Claims all that is pending and goes no further.
pub(crate) fn claim_all(spec: &StartSpec) {
    work(spec, None);
}

fn work(spec: &StartSpec, answers: Option<Result<(), Failure>>) {
    let inbound = spec.folder.join("in/inbound.db");
    let now = SystemClock.now();
    let mut inbox = Inbox::open_to_read(&inbound).unwrap();
    let tx = inbox.read().unwrap();
    let pending = tx.pending().unwrap();
    let floor = tx.high_water().unwrap();
    drop(tx);
    drop(inbox);
    for message in pending {
        let mut outbox = OutboxWriter::open(&outbound(spec), spec.incarnation.runner).unwrap();
        let claim = Claim { message: message.id.clone(), attempt: message.tries };
        let claims = outbox.claim(&[claim], now).unwrap();
        let Some(answers) = answers.as_ref().filter(|_| !claims.is_empty()) else { continue };
        let reply = NewRow {
            in_reply_to: Some(message.id),
            kind: KIND_CHAT.to_owned(),
            destination: message.origin,
            content: Chat::text("hi").to_json(),
            deliver_after: None,
            attempt: message.tries,
            id: new_row_id(&SystemIds),
        };
        let replies = [reply];
        let outcome = answers.as_ref().map(|()| &replies[..]);
        let end = TurnEnd { claims: &claims, outcome, turns: 1, continuation: None };
        outbox.end_turn(&end, floor, now).unwrap();
    }
}

/// Writes rows to the outbox that belong to no turn.
pub(crate) fn send_rows(spec: &StartSpec, destination: &Origin, count: usize) {
    send_texts(spec, destination, std::iter::repeat_n("spam".to_owned(), count));
}

/// As [`send_rows`], with these texts.
pub(crate) fn send_texts(
    spec: &StartSpec,
    destination: &Origin,
    texts: impl Iterator<Item = String>,
) {
    let mut outbox = OutboxWriter::open(&outbound(spec), spec.incarnation.runner).unwrap();
    let row = |text| NewRow {
        in_reply_to: None,
        kind: KIND_CHAT.to_owned(),
        destination: destination.clone(),
        content: Chat::text(text).to_json(),
        deliver_after: None,
        attempt: 0,
        id: new_row_id(&SystemIds),
    };
    let rows: Vec<_> = texts.map(row).collect();
    let end = TurnEnd { claims: &[], outcome: Ok(&rows), turns: 0, continuation: None };
    outbox.end_turn(&end, Seq::default(), SystemClock.now()).unwrap();
}
