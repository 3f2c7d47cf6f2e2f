//! An instance of a channel: its id, its life, and how it does. It is in front of the channel and changes
//! nothing of what that says; only while the channel is not up, nobody is there, which costs a message no
//! attempt.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinSet;
use twobox_shared::clock::Clock;
use twobox_shared::progress::Progress;

use crate::health::{Health, Seen};
use crate::life::{Change, Life, failures_after};
use crate::{Channel, Door, Intake};
use twobox_model::backoff::Backoff;
use twobox_model::channel::{Address, Capabilities, Outbound, Outcome};
use twobox_system::lock::lock;
use twobox_system::repeat::Repeats;

/// The pauses before a channel is begun anew that has ended by itself.
const RESTART: Backoff =
    Backoff { first: Duration::from_secs(1), most: Duration::from_secs(5 * 60) };

/// A channel under an id of its own.
pub struct Instance {
    id: String,
    kind: &'static str,
    channel: Arc<dyn Channel>,
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
    /// What the log was told. Errors may quote what an agent said, so a channel has a table of its own.
    logged: Repeats,
    restart: Backoff,
}

/// What a channel lives in.
#[derive(Clone)]
pub struct Surroundings {
    /// Takes what people say.
    pub intake: Arc<dyn Intake>,
    instance: Arc<Instance>,
    stop: watch::Receiver<bool>,
}

impl Surroundings {
    /// The id of the instance, as in [`Address::channel_type`].
    pub fn id(&self) -> &str {
        &self.instance.id
    }

    /// The channel takes messages from now on. Those that were held for it are due.
    pub fn up(&self) {
        if self.instance.change(Change::Up) {
            self.intake.up(&self.instance.id);
        }
    }

    /// The channel takes none until it is up again, for which it tries by itself.
    pub fn down(&self, reason: String) {
        self.instance.change(Change::Down { reason, next_try: None });
    }

    /// Returns when the channel is to end.
    pub async fn stopped(&mut self) {
        // A host that is gone wants nothing more.
        drop(self.stop.wait_for(|stop| *stop).await);
    }
}

/// Instances that live, until they are told to end.
pub struct Lives {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Lives {
    /// Begins the lives of `instances`. Must be called within a Tokio runtime.
    pub fn begin(instances: Vec<Arc<Instance>>, intake: &Arc<dyn Intake>) -> Self {
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for instance in instances {
            tasks.spawn(instance.live(Arc::clone(intake), stop.subscribe()));
        }
        Self { stop, tasks }
    }

    /// Ends them. Those that do not end by themselves within `patience` are cut off.
    pub async fn end(mut self, patience: Duration) {
        self.stop.send_replace(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::warn!("some channels did not end in time");
        }
    }
}

impl Instance {
    /// `channel`, of which nothing is known yet. It takes messages once it is up.
    pub fn new(
        id: impl Into<String>,
        kind: &'static str,
        channel: Arc<dyn Channel>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (seen, logged) = (Mutex::default(), Repeats::default());
        Self { id: id.into(), kind, channel, clock, seen, logged, restart: RESTART }
    }

    /// With other pauses than [`RESTART`].
    #[cfg(test)]
    fn restarting(self, restart: Backoff) -> Self {
        Self { restart, ..self }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Lives until `stop` becomes true. A channel that ends before that, however it does, is begun anew
    /// after a pause; nobody else waits for it.
    pub async fn live(self: Arc<Self>, intake: Arc<dyn Intake>, stop: watch::Receiver<bool>) {
        let mut failures = 0;
        loop {
            let surroundings = Surroundings {
                intake: Arc::clone(&intake),
                instance: Arc::clone(&self),
                stop: stop.clone(),
            };
            let began = self.clock.monotonic();
            let ended =
                AssertUnwindSafe(self.channel.run(surroundings.clone())).catch_unwind().await;
            let reason = match ended {
                Ok(Ok(())) => "it ended by itself".to_owned(),
                Ok(Err(reason)) => reason,
                Err(_) => "it broke, as the log has it".to_owned(),
            };
            if *stop.borrow() {
                break;
            }
            let lasted = self.clock.monotonic().since(began);
            failures = failures_after(failures, lasted, self.restart.most);
            let pause = self.restart.after(failures);
            let next_try = Some(self.clock.now() + pause);
            self.change(Change::Down { reason, next_try });
            let mut told = surroundings;
            if tokio::time::timeout(pause, told.stopped()).await.is_ok() {
                break;
            }
        }
        self.change(Change::Stop);
    }

    /// How it does.
    pub fn health(&self) -> Health {
        self.seen().health(self.kind, self.channel.capabilities())
    }

    /// Changes its life; returns whether it is up now and was not. An operator is told once of each way.
    fn change(&self, change: Change) -> bool {
        let mut seen = self.seen();
        let was_up = seen.life.is_up();
        let before = std::mem::take(&mut seen.life);
        seen.life = before.after(change, self.clock.now());
        match (&before, &seen.life) {
            (Life::Starting | Life::Up { .. }, Life::Down { reason, .. }) => {
                tracing::warn!(channel = self.id, reason, "a channel is down; its messages wait");
            }
            (Life::Down { down_since, .. }, Life::Up { .. }) => {
                tracing::info!(channel = self.id, since = %down_since, "a channel is up again");
            }
            (
                Life::Starting | Life::Up { .. } | Life::Down { .. } | Life::Stopped,
                Life::Starting | Life::Up { .. } | Life::Down { .. } | Life::Stopped,
            ) => {}
        }
        seen.life.is_up() && !was_up
    }

    /// Every change is one that a panic cannot leave half done.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    fn begin(&self) -> Call<'_> {
        let number = self.seen().begin(self.clock.now());
        Call { instance: self, number }
    }

    fn end(&self, address: &Address, keys: &[String], outcomes: &[Outcome]) {
        let mut seen = self.seen();
        let before = seen.trouble.as_ref().map(|trouble| trouble.times);
        seen.take_in(&address.platform_id, keys, outcomes, self.clock.now());
        match (before, &seen.trouble) {
            (_, Some(trouble)) if before != Some(trouble.times) => {
                if let Some(again) = self.logged.tell(&trouble.error, Instant::now()) {
                    tracing::warn!(
                        channel = self.id,
                        chat = trouble.chat,
                        error = trouble.error,
                        waiting = seen.waiting.len(),
                        since = %trouble.since,
                        again,
                        "a channel did not take a message"
                    );
                }
            }
            (Some(times), None) => {
                tracing::info!(channel = self.id, times, "a channel takes messages again");
            }
            _ => {}
        }
    }
}

/// A call under way, until it is dropped.
struct Call<'a> {
    instance: &'a Instance,
    number: u64,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.instance.seen().end(self.number);
    }
}

impl Channel for Instance {
    fn capabilities(&self) -> Capabilities {
        self.channel.capabilities()
    }

    fn deliver<'a>(
        &'a self,
        address: &'a Address,
        outbounds: Vec<Outbound>,
    ) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move {
            if !self.seen().life.is_up() {
                return vec![Outcome::Unavailable];
            }
            let keys: Vec<String> = outbounds.iter().map(|outbound| outbound.key.clone()).collect();
            let call = self.begin();
            let outcomes = self.channel.deliver(address, outbounds).await;
            drop(call);
            self.end(address, &keys, &outcomes);
            outcomes
        })
    }

    fn is_watched(&self, address: &Address) -> bool {
        self.channel.is_watched(address)
    }

    fn show(&self, address: &Address, progress: Option<&Progress>) {
        self.channel.show(address, progress);
    }

    fn forget(&self, key: &str) {
        self.seen().forget(key);
        self.channel.forget(key);
    }

    fn door(&self) -> Option<Door> {
        self.channel.door()
    }

    fn health(&self) -> Option<Health> {
        Some(self.health())
    }
}

#[cfg(test)]
#[path = "instance_tests.rs"]
mod tests;
