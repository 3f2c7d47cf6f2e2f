//! `twobox up`: builds the pieces, wakes what is due, watches over everything once a minute, and
//! stops in order.

mod keep;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::ids::{HostId, SystemIds};

use crate::api;
use crate::channel_secrets::secret_of;
use crate::service::{self, Vital};
use crate::unpriced;
use twobox_app::alerts;
use twobox_app::intake::Router;
use twobox_app::operations::RunningHost;
use twobox_app::place::{self, PlaceError};
use twobox_app::sent_parts::SentParts;
use twobox_channels::instance::{Instance, Lives};
use twobox_channels::kinds::{self, SettingsError};
use twobox_channels::parts::Journal;
use twobox_channels::socket::{self, Seats, SocketError};
use twobox_channels::terminal::Terminal;
use twobox_channels::{Channel, Door, Intake};
use twobox_config::{Config, OnShutdown, RuntimeKind, WatchMode};
use twobox_gateway::{Gateway, GatewayError};
use twobox_model::channel::{SCHEDULE_CHANNEL, TERMINAL};
use twobox_runtime as runtime;
use twobox_runtime::probe::{Difference, Weight};
use twobox_runtime::{RuntimeError, RuntimeEvent, process, program};
use twobox_schedule::scheduler::{KeptWithRun, Scheduler};
use twobox_session::command::Command;
use twobox_session::core::{Core, LookAround, Parts};
use twobox_session::watch::{self as files, Watch};
use twobox_shared::errors::chain;
use twobox_store::ownership::HostLife;
use twobox_store::{DbError, Store};
use twobox_system::blocking::blocking;
use twobox_system::clock::{self, HostClock};
use twobox_system::data::{DataDir, DataError};

/// The pause before a runtime that does not answer is asked for its list again.
const RUNTIME_PAUSE: Duration = Duration::from_secs(5);

/// The pause before a start is tried again, after a runtime that did not answer, and after one that
/// could not start anything.
const PROBE_PAUSE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(5 * 60));

/// How long channels may take to leave their platforms, once nothing is sent any more.
const CHANNEL_PATIENCE: Duration = Duration::from_secs(2);

/// Why the daemon did not start. [`DaemonError::is_configuration`] says whether a person has to act.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The host's database cannot be used.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The directory is not where its host left it.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The runtime cannot be used as configured.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A channel is set wrongly.
    #[error(transparent)]
    Channel(#[from] SettingsError),
    /// The way to models is set wrongly.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The socket cannot be listened on.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Another host has taken over from this one.
    #[error("stopped: {0}")]
    Followed(#[source] DbError),
    /// The process cannot receive signals.
    #[error("could not listen for signals")]
    Signals(#[source] std::io::Error),
}

impl DaemonError {
    /// Whether it is of no use to start again before a person has changed something.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Data(error) => error.is_configuration(),
            Self::Db(error) => error.is_configuration(),
            Self::Place(error) => error.is_configuration(),
            Self::Runtime(error) => error.is_configuration(),
            Self::Socket(error) => error.is_configuration(),
            Self::Channel(_) | Self::Gateway(_) => true,
            Self::Followed(_) | Self::Signals(_) => false,
        }
    }
}

/// Runs the daemon on `data` until it is told to stop. `warnings` are logged first.
///
/// # Errors
/// [`DaemonError`], before anything was started; or, after an orderly stop, [`DaemonError::Followed`].
// Longer than functions are here: what is begun and in which order it ends are to be read side by side.
pub async fn run(
    data: DataDir,
    config: Config,
    environment: &BTreeMap<String, String>,
    warnings: Vec<String>,
) -> Result<(), DaemonError> {
    config.durability.choose();
    let lock = data.lock_patiently()?; // blocks, but nothing else runs yet
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    let (report, events) = mpsc::unbounded_channel();
    let terminal = Arc::new(Terminal::new());
    let (core, channels, life) =
        build(data, config, environment, Arc::clone(&terminal), report).await?;

    if core.parts.config.runtime == RuntimeKind::Process {
        tracing::warn!("{}", process::WARNING);
    }
    let manners = kinds::manners(&core.parts.config.channels)?;
    let scheduler = Scheduler::new(Arc::clone(&core), life.owner);
    let intake: Arc<dyn Intake> = Arc::new(Router::new(Arc::clone(&core), manners));
    let channels = Lives::begin(channels, &intake);
    let operations = Arc::new(RunningHost::new(Arc::clone(&core), Arc::clone(&scheduler)));
    let path = core.parts.data.socket();
    let socket = socket::bind(&path)?
        .guarded(runtime::guard(&core.parts.runtime))
        .seating(seats(&core.parts.channels));
    let server = tokio::spawn(socket.serve(terminal, intake, operations, core.stopping()));
    let api = start_api(&core, &scheduler).await;
    let (came_round, net) = watch::channel(None);
    let mut keeper = tokio::spawn(keep::keep(Arc::clone(&core), life, events, came_round));
    let ticker = tokio::spawn(tick(Arc::clone(&core)));
    let alerter = tokio::spawn(alerts::tell(Arc::clone(&core)));
    let scheduler = tokio::spawn(scheduler.run());
    let prober = tokio::spawn(look_around(Arc::clone(&core)));
    let tasks = vec![
        ("the socket's server", server.abort_handle()),
        ("the API's server", api.abort_handle()),
        ("the safety net", keeper.abort_handle()),
        ("the clock", ticker.abort_handle()),
        ("the scheduler", scheduler.abort_handle()),
    ];
    let reporter = tokio::spawn(report_to_manager(Arc::clone(&core), Vital { tasks, net }));
    tracing::info!(
        data = %core.parts.data.root().display(),
        runtime = core.parts.runtime.name(),
        install = %core.parts.install,
        "twobox is up"
    );

    let mut end = Ok(());
    tokio::select! {
        _ = terminate.recv() => tracing::info!("stopping on SIGTERM"),
        _ = interrupt.recv() => tracing::info!("stopping on SIGINT"),
        Ok(error) = &mut keeper => {
            tracing::error!(error = chain(&error), "stopping: another host is at work here");
            end = Err(DaemonError::Followed(error));
        }
    }
    core.stop_admitting();
    reporter.abort();
    // Whatever it was about to say has been said, or never is.
    drop(reporter.await);
    service::stopping(&core.parts.config).await;
    keeper.abort();
    prober.abort();
    ticker.abort();
    alerter.abort();
    scheduler.abort();
    stop_sessions(&core).await;
    channels.end(CHANNEL_PATIENCE).await;
    if let Err(error) = server.await {
        tracing::error!(%error, "the socket's server broke");
    }
    if let Err(error) = api.await {
        tracing::error!(%error, "the API's server broke");
    }
    tracing::info!("stopped");
    drop(lock);
    end
}

/// Where programs sit that connect to the socket.
fn seats(channels: &HashMap<String, Arc<dyn Channel>>) -> Seats {
    let seat = |(id, channel): (&String, &Arc<dyn Channel>)| match channel.door()? {
        Door::Bridge(seat) => Some((id.clone(), seat)),
        Door::Webhook(_) => None,
    };
    channels.iter().filter_map(seat).collect()
}

/// Says when the host is ready, and then that it lives.
async fn report_to_manager(core: Arc<Core>, vital: Vital) {
    let mut net = vital.net.clone();
    if net.wait_for(Option::is_some).await.is_ok() {
        service::ready(&core).await;
        service::live(&core, &vital).await;
    }
}

async fn build(
    data: DataDir,
    config: Config,
    environment: &BTreeMap<String, String>,
    terminal: Arc<Terminal>,
    report: mpsc::UnboundedSender<RuntimeEvent>,
) -> Result<(Arc<Core>, Vec<Arc<Instance>>, HostLife), DaemonError> {
    let store = Store::open(&data.host_db())?;
    let (ours, now) = (data.clone(), SystemClock.now());
    let settling = store.clone();
    blocking(move || place::settle(&settling, &ours, now)).await?;
    let install = store.installation().id_or_new(&SystemIds, now).await?;
    let life = store.installation().take_over(HostId::generate(&SystemIds), now).await?;
    let lost = store.usage().take_over().await?;
    store.parts().forget_old(now).await?;
    if lost > 0 {
        tracing::warn!(
            lost,
            "nobody knows what these requests to models used: they count as the most"
        );
    }
    migrate_programs(&data, &store).await?;
    let runtime = runtime::build(install, data.sessions(), &config, report)?;
    let watch = start_watch(&data, config.watch).await;
    let clock: Arc<dyn Clock> = Arc::new(HostClock::default());
    let built_in = |id: &'static str, channel| Instance::new(id, id, channel, Arc::clone(&clock));
    let mut channels =
        vec![built_in(TERMINAL, terminal), built_in(SCHEDULE_CHANNEL, Arc::new(KeptWithRun))];
    let secrets = secret_of(&data, environment);
    let journal: Arc<dyn Journal> = Arc::new(SentParts::new(store.clone(), Arc::clone(&clock)));
    let (root, parcels) = (data.root(), data.parcels());
    let set = kinds::build(&config.channels, root, &parcels, &secrets, &journal, &clock)?;
    channels.extend(set);
    let channels: Vec<_> = channels.into_iter().map(Arc::new).collect();
    let by_id = channels.iter().map(|it| (it.id().to_owned(), Arc::clone(it) as Arc<dyn Channel>));
    let gateway = Gateway::of(&config, &data, environment, store.clone(), Arc::clone(&clock))?;
    warn_of_unpriced(&gateway, &config, &data, &store).await?;
    let core = Core::new(Parts {
        data,
        install,
        config,
        store,
        runtime,
        gateway,
        channels: by_id.collect(),
        clock,
        ids: Arc::new(SystemIds),
        watch,
    });
    Ok((core, channels, life))
}

/// Says which agents no budget in USD bounds, although there is one.
async fn warn_of_unpriced(
    gateway: &Gateway,
    config: &Config,
    data: &DataDir,
    store: &Store,
) -> Result<(), DbError> {
    let known = store.agents().list().await?;
    let (config, data) = (config.clone(), data.clone());
    let agents = blocking(move || unpriced::agents(known, &data, &config)).await;
    if let Some(found) = unpriced::unbounded(&agents, gateway.upstreams()) {
        tracing::warn!("{found}: {}", unpriced::HELP);
    }
    Ok(())
}

/// Serves the HTTP API until the host stops. What is in its way is in nobody else's.
async fn start_api(core: &Arc<Core>, scheduler: &Arc<Scheduler>) -> JoinHandle<()> {
    let (bound, troubles) = api::bind(core).await;
    for error in troubles {
        tracing::warn!(error = chain(&error), "the API is not served there until the next start");
    }
    if let Some(address) = bound.address() {
        tracing::info!(%address, "the API is up");
        core.set_api(address);
    }
    if bound.has_socket() {
        core.set_api_socket(core.parts.data.api_socket());
    }
    tokio::spawn(bound.serve(Arc::clone(core), Arc::clone(scheduler)))
}

/// Before anything starts that would look for them.
async fn migrate_programs(data: &DataDir, store: &Store) -> Result<(), DbError> {
    let (agents, data) = (store.agents().list().await?, data.clone());
    let folders = move || agents.into_iter().map(|agent| agent.folder).collect::<Vec<_>>();
    blocking(move || program::migrate_all(&data, folders().iter().map(String::as_str))).await;
    Ok(())
}

/// The watcher, or `None` with a warning where events do not come.
async fn start_watch(data: &DataDir, mode: WatchMode) -> Option<Watch> {
    let scratch = data.scratch();
    let started = match mode {
        WatchMode::Poll => return None,
        WatchMode::Auto => {
            blocking(move || match files::events_come(&scratch) {
                Ok(true) => Watch::start().map(Some),
                Ok(false) => Ok(None),
                Err(error) => Err(error),
            })
            .await
        }
    };
    match started {
        Ok(Some(watch)) => return Some(watch),
        Ok(None) => tracing::warn!("file events do not come in the data directory: polling"),
        Err(error) => tracing::warn!(%error, "files cannot be watched: polling"),
    }
    None
}

/// Tries a start that only looks around, beside everything else, and says what is not as it should
/// be. Until a start succeeds it is tried again: meanwhile messages wait, and nothing else does.
async fn look_around(core: Arc<Core>) {
    let place = core.parts.data.scratch();
    let mut said = String::new();
    loop {
        let probed = core.parts.runtime.probe(&place).await;
        let at = core.parts.clock.now();
        let pause = match probed {
            Ok(probed) if !probed.is_fatal() => {
                for Difference { what, help, .. } in &probed.differences {
                    tracing::warn!(help, "{what}");
                }
                core.set_probe(LookAround::Ok { at, seen: probed });
                return;
            }
            Ok(probed) => {
                for Difference { weight, what, help } in &probed.differences {
                    if *weight == Weight::Fatal && *what != said {
                        tracing::error!(help, "{what}");
                        said.clone_from(what);
                    }
                }
                core.set_probe(LookAround::Failed { at, seen: Some(probed), error: None });
                PROBE_PAUSE.1
            }
            Err(error @ RuntimeError::Unavailable { .. }) => {
                core.set_probe(LookAround::Waiting { at, error: chain(&error) });
                PROBE_PAUSE.0
            }
            Err(error) => {
                let error = chain(&error);
                let failed = LookAround::Failed { at, seen: None, error: Some(error.clone()) };
                core.set_probe(failed);
                if error != said {
                    tracing::error!(error, "no agent can start: messages wait");
                    said = error;
                }
                PROBE_PAUSE.1
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Keeps the host's clock going, and measures how late the host is for it.
async fn tick(core: Arc<Core>) {
    loop {
        core.parts.clock.monotonic();
        let began = Instant::now();
        tokio::time::sleep(clock::TICK).await;
        core.set_loop_lag(began.elapsed().saturating_sub(clock::TICK));
    }
}

/// Ends every task, and with it the sends under way and, if configured, the containers.
async fn stop_sessions(core: &Arc<Core>) {
    let config = &core.parts.config;
    let stop_container = config.shutdown.containers == OnShutdown::Stop;
    let mut pending = Vec::new();
    for (_, handle) in core.awake() {
        let (done, ended) = oneshot::channel();
        let command = Command::Shutdown { stop_container, done };
        pending.push(async move {
            if handle.mailbox.send(command).await.is_ok() {
                drop(ended.await); // an error says the same: the task has ended
            }
        });
    }
    let all = futures_util::future::join_all(pending);
    if tokio::time::timeout(config.stop_patience(), all).await.is_err() {
        tracing::warn!("some sessions did not come to rest in time; the next start goes on there");
    }
}
