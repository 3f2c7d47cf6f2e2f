//! Runners in containers of Docker or Podman, through the Engine API.
//!
//! The engine is the only memory: names, labels and states are read from it each time, so that
//! the next host sees what this one saw. A session's containers all have the same name, so of two
//! starts, in one host or in two, the engine lets one through. An engine that is down makes every
//! question [`RuntimeError::Unavailable`] and nothing else.

mod body;
mod end;
mod engine;
mod facts;
pub(crate) mod folder;
mod image;
mod logs;
mod probe;
mod profile;
mod socket;
mod watch;
mod whose;
mod words;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bollard::models::{ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum as State};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use twobox_shared::ids::{InstallId, RunnerId, SessionId};

use self::body::{Ground, RUNNER_LABEL, SESSION_LABEL};
use self::engine::{Engine, QUICK, is_name_conflict, runs, status};
use self::folder::User;
use self::whose::{Whose, name_of};
use super::probe::Probed;
use super::settings::{self, Caution};
use super::{
    Condition, Incarnation, Profile, Runtime, RuntimeError, RuntimeEvent, Sighting, StartSpec,
};
use twobox_config::Containers;
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

const NAME: &str = "docker";
/// How long the engine may take over each half of a start.
const START: Duration = Duration::from_secs(30);

/// The container runtime.
#[derive(Debug)]
pub struct Docker {
    inner: Arc<Inner>,
    watch: AbortHandle,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    whose: Whose,
    settings: Containers,
    /// What people should know of the settings.
    cautions: Vec<Caution>,
    /// Starts under way here: their containers may be created and not started yet.
    starting: Mutex<HashSet<RunnerId>>,
    /// The ids of images by their names, and when they were asked for.
    images: Mutex<HashMap<String, (Instant, String)>>,
}

impl Docker {
    /// The runtime of `install`, whose sessions lie in `sessions`. Exits go to `events`. The engine need not be there yet. Must be
    /// called within a Tokio runtime.
    ///
    /// # Errors
    /// [`RuntimeError::Misconfigured`] if the settings or `DOCKER_HOST` name something that cannot or
    /// must not be used.
    pub fn connect(
        install: InstallId,
        sessions: &Path,
        settings: &Containers,
        events: mpsc::UnboundedSender<RuntimeEvent>,
    ) -> Result<Self, RuntimeError> {
        let refused = |reason| RuntimeError::Misconfigured { reason };
        let cautions = settings::judge(settings).map_err(refused)?;
        User::choose(&settings.user, User::own()).map_err(refused)?;
        let variable = |name: &str| std::env::var(name).ok();
        let root = User::own().uid == 0;
        let socket =
            socket::find(&settings.socket, root, variable, Path::exists).map_err(refused)?;
        let engine = Engine::new(install, &socket);
        let watch = tokio::spawn(watch::run(engine.clone(), events)).abort_handle();
        let (whose, starting) = (Whose::new(sessions), Mutex::default());
        let (settings, images) = (settings.clone(), Mutex::default());
        let inner = Inner { engine, whose, settings, cautions, starting, images };
        Ok(Self { inner: Arc::new(inner), watch })
    }
}

/// Whether the user inside the containers can write what it is given, tried out in `room`, a folder
/// of the data directory. Returns one line for people. Blocks.
///
/// # Errors
/// What to change.
pub fn prove_writable(settings: &Containers, room: &Path) -> Result<String, String> {
    let own = User::own();
    let user = User::choose(&settings.user, own)?;
    folder::prove_writable(room, own, user)?;
    Ok(format!("user {user} of the containers can write its folders"))
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Inner {
    async fn start(&self, spec: &StartSpec) -> Result<(), RuntimeError> {
        let runner = spec.incarnation.runner;
        let starting = || lock(&self.starting);
        starting().insert(runner);
        let started = self.create_and_start(spec).await;
        starting().remove(&runner);
        started
    }

    async fn create_and_start(&self, spec: &StartSpec) -> Result<(), RuntimeError> {
        let session = spec.incarnation.session;
        self.accepts(&spec.profile).map_err(refused)?;
        let ground = self.ground().await?;
        self.prepare(spec, ground).await?;
        // The name keeps two starts apart; a container of an older host may have another name.
        let label = format!("{SESSION_LABEL}={session}");
        if !self.engine.containers(Some(label)).await?.is_empty() {
            return Err(self.occupied(session).await?);
        }
        let body = body::container(self.engine.install, spec, ground);
        let name = body::name(self.engine.install, session);
        let created = match self.create(&name, body.clone()).await? {
            Some(id) => Some(id),
            None if self.engine.await_sight(&name).await? => None,
            None => self.create_in_place_of_the_unseen(&name, body).await?,
        };
        let Some(id) = created else { return Err(self.occupied(session).await?) };
        let begun = self.begin(&id).await;
        if let Err(RuntimeError::Start { .. }) = begun {
            // What never ran must not hold the place. If this fails too, the next look finds it.
            self.end_and_remove(&id).await.ok();
        }
        begun
    }

    /// Frees a name that Podman holds for something that it neither lists nor shows, as what is left
    /// of a creation that broke off, and tries once more. The caller has looked for a while.
    async fn create_in_place_of_the_unseen(
        &self,
        name: &str,
        body: ContainerCreateBody,
    ) -> Result<Option<String>, RuntimeError> {
        tracing::warn!(
            name,
            "the engine holds this name for a container that it does not show: freeing it"
        );
        let options = RemoveContainerOptionsBuilder::new().v(true).force(true).build();
        let freed = self.engine.client().await?.remove_container(name, Some(options));
        if let Err(error) = self.engine.answer(QUICK, freed).await? {
            tracing::warn!(name, %error, "the engine did not free it");
        }
        self.create(name, body).await
    }

    /// Who the processes of a container are, and how this host stands.
    async fn ground(&self) -> Result<Ground, RuntimeError> {
        let (facts, own) = (self.engine.facts().await?, User::own());
        let user = User::choose(&self.settings.user, own).map_err(refused)?;
        settings::judge_user(&self.settings, (user.uid, user.gid), facts.rootless)
            .map_err(refused)?;
        folder::check_mapping(&facts, own, user).map_err(refused)?;
        let keep_id = facts.keeps_id(own, user);
        Ok(Ground { user, keep_id, reach: folder::reach(), oom_score: folder::oom_score() })
    }

    /// Makes the folders usable for the user inside, who may not have any on this engine.
    async fn prepare(&self, spec: &StartSpec, ground: Ground) -> Result<(), RuntimeError> {
        let folders = spec.clone();
        blocking(move || folder::prepare(&folders, User::own(), ground.user))
            .await
            .map_err(|error| refused(format!("{}: {error}", spec.folder.display())))
    }

    /// Creates a container; `None` if another one has the name.
    async fn create(
        &self,
        name: &str,
        body: ContainerCreateBody,
    ) -> Result<Option<String>, RuntimeError> {
        let client = self.engine.client().await?;
        let image = body.image.clone().unwrap_or_default();
        let mounts = body.host_config.as_ref().and_then(|host| host.mounts.clone());
        blocking(move || {
            let sources = mounts.iter().flatten().filter_map(|mount| mount.source.as_deref());
            folder::check_sources(sources)
        })
        .await
        .map_err(|error| refused(error.to_string()))?;
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let created = client.create_container(Some(options), body);
        match self.engine.answer(START, created).await? {
            Ok(created) => Ok(Some(created.id)),
            Err(error) if is_name_conflict(&error) => Ok(None),
            Err(error) if status(&error) == 404 => {
                Err(refused(format!("{error}: {}", self.build_advice(&image))))
            }
            Err(error) => Err(refused(error.to_string())),
        }
    }

    /// Starts a container that was created. Without an answer it may run and work: the next look
    /// finds it, or what is left of it.
    async fn begin(&self, id: &str) -> Result<(), RuntimeError> {
        let begun = self.engine.client().await?.start_container(id, None::<StartContainerOptions>);
        self.engine.answer(START, begun).await?.map_err(|error| refused(error.to_string()))
    }

    /// Why a session's place is taken.
    async fn occupied(&self, session: SessionId) -> Result<RuntimeError, RuntimeError> {
        let found = self.found(Some(format!("{SESSION_LABEL}={session}"))).await?;
        Ok(match found.foreign.first() {
            Some((container, folder)) => refused(format!(
                "container {} has the session's name and works in {}, a folder of another data \
                 directory: one of the two is a copy of the other; `twobox init --copy` gives the \
                 copy an id of its own",
                name_of(container),
                folder.display()
            )),
            None => RuntimeError::Occupied { session },
        })
    }

    /// The containers that have our id and, if one is given, `label` too.
    async fn found(&self, label: Option<String>) -> Result<whose::Found, RuntimeError> {
        let containers = self.engine.containers(label).await?;
        self.whose.sort(&self.engine, containers).await
    }

    async fn sightings(&self, label: Option<String>) -> Result<Vec<Sighting>, RuntimeError> {
        // Read first: a start that ends during the question was still under way when it was asked.
        let starting = lock(&self.starting).clone();
        let mut sightings = Vec::new();
        for container in self.found(label).await?.ours {
            let Some(incarnation) = container.labels.as_ref().and_then(incarnation) else {
                continue; // somebody else's idea of our labels: nothing we could act on
            };
            if let Some(condition) = self.condition(&container, incarnation, &starting).await? {
                sightings.push(Sighting { incarnation, condition });
            }
        }
        Ok(sightings)
    }

    /// How a listed container is; `None` if it is gone by now.
    async fn condition(
        &self,
        container: &ContainerSummary,
        incarnation: Incarnation,
        starting: &HashSet<RunnerId>,
    ) -> Result<Option<Condition>, RuntimeError> {
        match container.state {
            // A start that was interrupted between its halves, unless it is one of ours.
            Some(State::CREATED) if !starting.contains(&incarnation.runner) => {
                Ok(Some(Condition::Exited { code: None }))
            }
            // What is being removed has ended, as a rule, and no event will say so again.
            Some(State::EXITED | State::DEAD | State::REMOVING) => {
                let found =
                    self.engine.inspect(container.id.as_deref().unwrap_or_default()).await?;
                Ok(found.map(|found| match runs(&found) {
                    true => Condition::Running,
                    false => {
                        Condition::Exited { code: found.state.and_then(|state| state.exit_code) }
                    }
                }))
            }
            // Whatever is not surely over may still live.
            Some(
                State::CREATED
                | State::RUNNING
                | State::PAUSED
                | State::RESTARTING
                | State::STOPPING
                | State::EMPTY,
            )
            | None => Ok(Some(Condition::Running)),
        }
    }

    async fn of_incarnation(
        &self,
        incarnation: Incarnation,
    ) -> Result<Vec<ContainerSummary>, RuntimeError> {
        let label = format!("{RUNNER_LABEL}={}", incarnation.runner);
        Ok(self.found(Some(label)).await?.ours)
    }

    async fn check(&self) -> Result<String, RuntimeError> {
        let facts = self.engine.facts().await?;
        let image = self.image(&self.settings.image).await?;
        self.ground().await?;
        Ok(format!("{} at {}, image {image}", facts.version, self.engine.socket))
    }
}

impl Runtime for Docker {
    fn name(&self) -> &'static str {
        NAME
    }

    fn start<'a>(&'a self, spec: &'a StartSpec) -> BoxFuture<'a, Result<(), RuntimeError>> {
        let (inner, spec) = (Arc::clone(&self.inner), spec.clone());
        // Its own task, so that a caller that loses patience does not leave half a start behind.
        let task = async move { tokio::spawn(async move { inner.start(&spec).await }).await };
        task.map(|ended| ended.unwrap_or_else(|error| Err(refused(error.to_string())))).boxed()
    }

    fn stop(
        &self,
        incarnation: Incarnation,
        grace: Duration,
    ) -> BoxFuture<'_, Result<(), RuntimeError>> {
        self.inner.stop(incarnation, grace).boxed()
    }

    fn of_session(&self, session: SessionId) -> BoxFuture<'_, Result<Vec<Sighting>, RuntimeError>> {
        self.inner.sightings(Some(format!("{SESSION_LABEL}={session}"))).boxed()
    }

    fn stamp<'a>(&'a self, profile: &'a Profile) -> BoxFuture<'a, Option<String>> {
        self.inner.image_id(&profile.image.value).boxed()
    }

    fn accepts(&self, profile: &Profile) -> Result<(), String> {
        self.inner.accepts(profile)
    }

    fn check_profile<'a>(
        &'a self,
        profile: &'a Profile,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.inner.check_profile(profile).boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Sighting>, RuntimeError>> {
        self.inner.sightings(None).boxed()
    }

    fn clear<'a>(
        &'a self,
        incarnation: Incarnation,
        log: &'a Path,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.inner.clear(incarnation, log).boxed()
    }

    fn probe<'a>(&'a self, place: &'a Path) -> BoxFuture<'a, Result<Probed, RuntimeError>> {
        Arc::clone(&self.inner).probe(place).boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<String, RuntimeError>> {
        self.inner.check().boxed()
    }
}

/// Whose container it is, by its labels.
fn incarnation(labels: &HashMap<String, String>) -> Option<Incarnation> {
    Some(Incarnation {
        session: labels.get(SESSION_LABEL)?.parse().ok()?,
        runner: labels.get(RUNNER_LABEL)?.parse().ok()?,
    })
}

fn refused(reason: String) -> RuntimeError {
    RuntimeError::Start { reason }
}

/// The engine counts in whole seconds: more patience rather than less.
fn whole_seconds(time: Duration) -> i32 {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX)
}
