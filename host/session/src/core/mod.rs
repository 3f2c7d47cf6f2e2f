//! What all sessions share: the host's database, the runtime, the channels, the places for running
//! containers, and the table of sessions that are awake.
//!
//! A session at rest has no task and costs nothing. Whoever needs one asks here, and the task that
//! starts is the only one of its session: it owns the folder and the container until it retires.
//!
//! What others tell it, to be asked by others, is in `facts` and `in_hand`.

mod facts;
mod in_hand;
mod undelivered;

pub use undelivered::{Lost, Undelivered};

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::{mpsc, watch};
use tracing::Span;
use twobox_shared::clock::Clock;
use twobox_shared::ids::{IdSource, InstallId, SessionId};

use self::in_hand::InHand;
use crate::admission::{Admission, AdmissionOrder, Class};
use crate::broken::Broken;
use crate::command::Command;
pub use crate::look_around::LookAround;
use crate::over_budget::OverBudget;
use crate::signal::{Reason, Signal};
use crate::task;
use crate::waiting::Waiting;
use crate::watch::Watch;
use twobox_channels::Channel;
use twobox_config::Config;
use twobox_gateway::Gateway;
use twobox_model::channel::Address;
use twobox_model::seats::{Population, Seat};
use twobox_runtime::Runtime;
use twobox_slots::zone::Zone;
use twobox_store::Store;
use twobox_system::blocking::Background;
use twobox_system::data::DataDir;
use twobox_system::lock::lock;

/// How many commands wait for a session before whoever sends the next one waits too.
const MAILBOX: usize = 1024;

/// The parts that `main` chose.
pub struct Parts {
    /// Where everything lies.
    pub data: DataDir,
    /// Which installation this is.
    pub install: InstallId,
    /// The settings.
    pub config: Config,
    /// The host's database.
    pub store: Store,
    /// What runs the agent-runners.
    pub runtime: Arc<dyn Runtime>,
    /// The way from agents to models.
    pub gateway: Gateway,
    /// The ways out, by the ids of their instances.
    pub channels: HashMap<String, Arc<dyn Channel>>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Where fresh ids come from.
    pub ids: Arc<dyn IdSource>,
    /// The watcher; `None` where events do not come and sessions poll.
    pub watch: Option<Watch>,
}

/// What all sessions share.
pub struct Core {
    /// The parts that `main` chose.
    pub parts: Parts,
    /// In whose days budgets are counted.
    pub(crate) zone: Zone,
    admission: Mutex<Admission>,
    awake: Mutex<HashMap<SessionId, Handle>>,
    stopping: watch::Sender<bool>,
    /// Who waits for a channel.
    waiting: Mutex<Waiting>,
    api: OnceLock<SocketAddr>,
    api_socket: OnceLock<PathBuf>,
    /// What became of the look around at the start.
    probe: Mutex<LookAround>,
    chatting: Mutex<HashSet<SessionId>>,
    /// Agents for which nothing is started.
    pub(crate) broken: Broken,
    /// What waits for the budget of another day.
    pub(crate) over_budget: OverBudget,
    /// What people are asked and channels have in their hands.
    pub(crate) in_hand: InHand,
    /// What was not delivered and never will be.
    pub undelivered: Undelivered,
    /// Moves when a scheduled run may have.
    runs: watch::Sender<()>,
    /// How late the host's own loop was last, in milliseconds.
    lag_ms: AtomicU64,
    /// Threads for sessions that have used up their share; `None` if the system has none to give.
    pub(crate) background: Option<Background>,
}

/// How a session's task is reached.
#[derive(Debug, Clone)]
pub struct Handle {
    /// Commands.
    pub mailbox: mpsc::Sender<Command>,
    /// Reasons to look.
    pub signal: Arc<Signal>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("install", &self.parts.install).finish_non_exhaustive()
    }
}

impl Core {
    /// The names that stand beside the id of `session` in the log, for what is logged of it outside of
    /// its task. Not there if they cannot be read: then the log has the id alone.
    pub async fn names_of(&self, session: SessionId) -> Span {
        match self.parts.store.sessions().find(session).await {
            Ok(Some(record)) => task::names(&record),
            Ok(None) | Err(_) => Span::none(),
        }
    }

    /// With nobody awake.
    pub fn new(parts: Parts) -> Arc<Self> {
        let admission = Admission::new(parts.config.containers.max_running);
        let zone = parts.config.schedule.timezone.parse().unwrap_or(Zone::UTC); // the gateway refused it
        Arc::new(Self {
            parts,
            zone,
            admission: Mutex::new(admission),
            awake: Mutex::default(),
            stopping: watch::Sender::new(false),
            waiting: Mutex::default(),
            api: OnceLock::new(),
            api_socket: OnceLock::new(),
            probe: Mutex::default(),
            chatting: Mutex::default(),
            broken: Broken::default(),
            over_budget: OverBudget::default(),
            in_hand: InHand::default(),
            undelivered: Undelivered::default(),
            runs: watch::Sender::new(()),
            lag_ms: AtomicU64::new(0),
            background: Background::start()
                .inspect_err(|error| tracing::warn!(%error, "there are no background threads"))
                .ok(),
        })
    }

    /// Gives `session` a reason to look, waking it if it sleeps.
    pub fn wake(self: &Arc<Self>, session: SessionId, reason: Reason) {
        let mut awake = lock(&self.awake);
        if let Some(handle) = self.handle(&mut awake, session) {
            handle.signal.raise(reason);
        }
    }

    /// Sends a command to the session's task, waking it if it sleeps. While the host stops, a
    /// session that sleeps is not woken: the command is dropped, which is its answer.
    pub async fn send(self: &Arc<Self>, session: SessionId, command: Command) {
        let mut command = command;
        loop {
            let handle = self.handle(&mut lock(&self.awake), session).cloned();
            let Some(handle) = handle else { return };
            match handle.mailbox.send(command).await {
                Ok(()) => return,
                Err(mpsc::error::SendError(returned)) => command = returned, // it retired just now
            }
        }
    }

    /// As [`Core::send`], without waiting. `false` if too many commands wait already, or if the host
    /// stops and nobody takes them any more.
    pub fn offer(self: &Arc<Self>, session: SessionId, command: Command) -> bool {
        let mut command = command;
        loop {
            let handle = self.handle(&mut lock(&self.awake), session).cloned();
            let Some(handle) = handle else { return false };
            match handle.mailbox.try_send(command) {
                Ok(()) => return true,
                Err(mpsc::error::TrySendError::Full(_)) => return false,
                Err(mpsc::error::TrySendError::Closed(returned)) => command = returned,
            }
        }
    }

    /// The session's task, started if it has none; `None` if that would be now that the host stops.
    fn handle<'a>(
        self: &Arc<Self>,
        awake: &'a mut HashMap<SessionId, Handle>,
        session: SessionId,
    ) -> Option<&'a Handle> {
        // A task closes its mailbox when it has ended, however it ended.
        if awake.get(&session).is_none_or(|handle| handle.mailbox.is_closed()) {
            if self.is_stopping() {
                return None;
            }
            let (mailbox, commands) = mpsc::channel(MAILBOX);
            let handle = Handle { mailbox, signal: Arc::default() };
            tokio::spawn(task::run(Arc::clone(self), session, handle.clone(), commands));
            awake.insert(session, handle);
        }
        awake.get(&session)
    }

    /// Takes a task that has nothing to do out of the table and closes its mailbox. `false` if
    /// somebody has given it something to do in the meantime.
    ///
    /// A command that slips in just before the mailbox closes goes to the next task here, before
    /// anybody can send that one anything: messages are stored in the order in which they came.
    pub fn retire(
        self: &Arc<Self>,
        session: SessionId,
        signal: &Arc<Signal>,
        commands: &mut mpsc::Receiver<Command>,
    ) -> bool {
        let mut awake = lock(&self.awake);
        if !signal.is_quiet() || !commands.is_empty() {
            return false;
        }
        commands.close();
        if awake.get(&session).is_some_and(|handle| Arc::ptr_eq(&handle.signal, signal)) {
            awake.remove(&session);
            self.set_chatting(session, false);
        }
        while let Ok(command) = commands.try_recv() {
            let Some(handle) = self.handle(&mut awake, session) else { break };
            if handle.mailbox.try_send(command).is_err() {
                // No more than one mailbox full can have been waiting.
                tracing::error!(%session, "a new mailbox is full");
            }
        }
        true
    }

    /// Every session that is awake.
    pub fn awake(&self) -> Vec<(SessionId, Handle)> {
        lock(&self.awake).iter().map(|(session, handle)| (*session, handle.clone())).collect()
    }

    /// Asks for a place for a container. Returns whether the session holds one now; otherwise it is
    /// told when there is one.
    pub fn request_place(self: &Arc<Self>, session: SessionId, seat: Seat, class: Class) -> bool {
        let (orders, holds) = {
            let mut admission = lock(&self.admission);
            admission.request(session, seat, class);
            (admission.orders(), admission.holds(session))
        };
        self.give(orders, Some(session));
        holds
    }

    /// Says for whom places are kept: with several agent groups, none may hold every place, nor may
    /// one chat of an agent that listens to several.
    pub fn set_population(&self, population: Population) {
        lock(&self.admission).set_population(population);
    }

    /// Counts a container that runs already.
    pub fn adopt_place(&self, session: SessionId, seat: Seat) {
        lock(&self.admission).adopt(session, seat);
    }

    /// Gives a place back.
    pub fn release_place(self: &Arc<Self>, session: SessionId) {
        let orders = {
            let mut admission = lock(&self.admission);
            admission.release(session);
            admission.orders()
        };
        self.give(orders, None);
    }

    /// Says whether the session's container has nothing to do.
    pub fn set_idle(self: &Arc<Self>, session: SessionId, idle: bool) {
        let orders = {
            let mut admission = lock(&self.admission);
            admission.set_idle(session, idle);
            admission.orders()
        };
        self.give(orders, None);
    }

    /// How many containers hold a place, and how many starts wait for one.
    pub fn places(&self) -> (usize, usize) {
        lock(&self.admission).counts()
    }

    fn give(self: &Arc<Self>, orders: Vec<AdmissionOrder>, asker: Option<SessionId>) {
        for order in orders {
            match order {
                AdmissionOrder::Grant(session) if Some(session) == asker => {}
                AdmissionOrder::Grant(session) => self.wake(session, Reason::Place),
                AdmissionOrder::Evict(session) => self.wake(session, Reason::Evict),
            }
        }
    }

    /// Somebody at `address` can take outbound messages: whoever waits for that looks, and nobody else.
    pub fn channel_ready(self: &Arc<Self>, address: &Address) {
        let waiting = lock(&self.waiting).take(address);
        for session in waiting {
            self.wake(session, Reason::Channel);
        }
    }

    /// A channel takes messages again: whoever waits for it, at whatever address, looks.
    pub fn channel_up(self: &Arc<Self>, channel: &str) {
        let waiting = lock(&self.waiting).take_channel(channel);
        for session in waiting {
            self.wake(session, Reason::Channel);
        }
    }

    /// The session hands over outbound messages for `address`, where nobody may be.
    pub(crate) fn expect(&self, session: SessionId, address: &Address) {
        lock(&self.waiting).add(session, address);
    }

    /// As [`Waiting::has`].
    pub(crate) fn waits(&self, session: SessionId, address: &Address) -> bool {
        lock(&self.waiting).has(session, address)
    }

    /// As [`Waiting::will_wake`].
    pub(crate) fn will_be_woken(&self, session: SessionId, address: &Address) -> bool {
        lock(&self.waiting).will_wake(session, address)
    }

    /// The session's outbound messages for `address` have found somebody.
    pub(crate) fn relieve(&self, session: SessionId, address: &Address) {
        lock(&self.waiting).remove(session, address);
    }

    /// The session is no more.
    pub(crate) fn forget(&self, session: SessionId) {
        lock(&self.waiting).forget(session);
        self.in_hand.forget(session);
    }
}
