//! Starting a container that only looks around, with the body that a session's would have, and
//! comparing what it saw with that body.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use bollard::query_parameters::ListContainersOptionsBuilder;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::probe::{Cgroup, Limit, Report, SeenLimit};

use super::body::{self, Ground, MEMORY, MEMORY_FLAGS, PROBE_LABEL, SHARED_MEMORY};
use super::engine::{QUICK, runs};
use super::{Inner, image, logs, refused};
use crate::probe::{self, Expected, Probed, Room, Tmpfs};
use crate::settings;
use crate::{Profile, RuntimeError};
use twobox_system::blocking::blocking;

/// How long a container that looks around may take from its creation to its end.
const PATIENCE: Duration = Duration::from_secs(60);
/// A container that looked around and is still there after so long, in seconds, was left over by a
/// host that died. Its own host had [`PATIENCE`].
const LEFT_OVER_AFTER: i64 = 10 * 60;
const _: () = assert!(LEFT_OVER_AFTER as u64 > 5 * PATIENCE.as_secs());

impl Inner {
    /// See [`crate::Runtime::probe`]. Runs to its end in a task of its own, so that nothing
    /// is left over when the caller loses patience.
    pub(super) async fn probe(self: Arc<Self>, place: &Path) -> Result<Probed, RuntimeError> {
        let place = place.to_owned();
        let task = tokio::spawn(async move {
            self.remove_left_over().await?;
            let profile = Profile::usual(&self.settings);
            let made = blocking(move || Room::make(&place, profile)).await;
            let room =
                made.map_err(|error| refused(format!("no folder to try a start in: {error}")))?;
            let looked = self.look_around(&room).await;
            blocking(move || drop(room)).await;
            looked
        });
        task.await.unwrap_or_else(|error| Err(refused(error.to_string())))
    }

    async fn look_around(&self, room: &Room) -> Result<Probed, RuntimeError> {
        let spec = room.spec();
        let ground = self.ground().await?;
        self.prepare(spec, ground).await?;
        let body = body::probe(self.engine.install, spec, ground);
        let expected = expected(&body, ground);
        let name = format!("twobox-probe-{}", spec.incarnation.runner);
        let created = self.create(&name, body).await;
        if let Err(RuntimeError::Unavailable { .. }) = created {
            self.discard(&name).await; // it may be there, and only the answer be lost
        }
        let id = created?.ok_or_else(|| refused(format!("{name} is there already")))?;
        let ended = tokio::time::timeout(PATIENCE, self.run_to_end(&id)).await;
        self.discard(&id).await;
        let (printed, found) = ended.unwrap_or_else(|_| {
            let seconds = PATIENCE.as_secs();
            Err(refused(format!("a container that was to look around did not end in {seconds} s")))
        })?;
        let Some(mut report) = Report::find(&printed) else {
            let code = found.state.and_then(|state| state.exit_code);
            let image = &self.settings.image;
            let reason = probe::no_report(&printed, code);
            return Err(refused(format!("image {image}: {reason}: {}", self.build_advice(image))));
        };
        fill_in(&mut report.cgroup, &found);
        let line = format!("a container starts as {} and can write its folders", ground.user);
        let mut probed = Probed::new(line, &expected, report);
        self.remember(&mut probed, ground).await?;
        Ok(probed)
    }

    /// Adds what people should know of the settings and of the image.
    async fn remember(&self, probed: &mut Probed, ground: Ground) -> Result<(), RuntimeError> {
        let rootless = self.engine.facts().await?.rootless;
        let user = (ground.user.uid, ground.user.gid);
        let user = settings::judge_user(&self.settings, user, rootless).map_err(refused)?;
        for caution in self.cautions.iter().chain(&user) {
            match caution.unsafe_ {
                true => probed.warn(caution.what.clone(), caution.help.clone()),
                false => probed.line = format!("{}; {}", probed.line, caution.what),
            }
        }
        let image = image::find(&self.engine, &self.settings.image).await?;
        if let Some((what, help)) = image.and_then(|image| image.doubt()) {
            probed.warn(what, help);
        }
        Ok(())
    }

    /// What the container printed, and what the engine says of it when it has ended.
    async fn run_to_end(
        &self,
        id: &str,
    ) -> Result<(String, ContainerInspectResponse), RuntimeError> {
        self.begin(id).await?;
        loop {
            match self.engine.inspect(id).await? {
                None => {
                    return Err(refused(
                        "somebody removed the container that looked around".into(),
                    ));
                }
                Some(found) if !runs(&found) => {
                    let (printed, read) = logs::tail(&self.engine, id).await?;
                    read?;
                    return Ok((String::from_utf8_lossy(&printed).into_owned(), found));
                }
                Some(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Ends and removes a container in which nobody has anything to lose.
    async fn discard(&self, id: &str) {
        if let Err(error) = self.end_and_remove(id).await {
            tracing::warn!(container = id, %error, "a container that looked around is left over");
        }
    }

    /// Removes what hosts that died have left over. It has no session, so nobody else looks for it.
    async fn remove_left_over(&self) -> Result<(), RuntimeError> {
        let label = std::collections::HashMap::from([("label", vec![PROBE_LABEL])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&label).build();
        let listed = self.engine.client().await?.list_containers(Some(options));
        let now = SystemClock.now().0 / 1000;
        for container in self.engine.within(QUICK, listed).await? {
            if container.created.is_some_and(|created| now - created > LEFT_OVER_AFTER) {
                self.discard(container.id.as_deref().unwrap_or_default()).await;
            }
        }
        Ok(())
    }
}

/// What a container with this body is to see. It is read from the body, so that nothing is compared
/// that was not asked for.
fn expected(body: &ContainerCreateBody, ground: Ground) -> Expected {
    let host = body.host_config.as_ref();
    let mounts = host.and_then(|host| host.mounts.as_deref()).unwrap_or_default();
    let targets = |read_only: bool| {
        let wanted = mounts.iter().filter(move |mount| mount.read_only == Some(read_only));
        wanted.filter_map(|mount| mount.target.clone()).collect()
    };
    let limits = host.and_then(|host| host.ulimits.as_deref()).unwrap_or_default().iter();
    let limits = limits.filter_map(|limit| {
        let number = |limit: Option<i64>| limit.and_then(|limit| u64::try_from(limit).ok());
        Some((limit.name.clone()?, Limit { soft: number(limit.soft), hard: number(limit.hard) }))
    });
    let number = |limit: Option<i64>| limit.and_then(|limit| u64::try_from(limit).ok());
    let memory = MEMORY.iter().map(|(place, size, _)| (*place, *size));
    let tmpfs = memory.chain([("/dev/shm", SHARED_MEMORY)]).map(|(place, size)| Tmpfs {
        place: place.to_owned(),
        bytes: size * 1024 * 1024,
        flags: MEMORY_FLAGS.map(str::to_owned).into(),
    });
    #[expect(clippy::cast_precision_loss, reason = "a number of processors, times 10^9")]
    let cpus = host.and_then(|host| host.nano_cpus).map(|nanos| nanos as f64 / 1e9);
    Expected {
        user: Some((ground.user.uid, ground.user.gid)),
        writable: targets(false),
        read_only: targets(true),
        closed: ["/", "/etc", "/workspace"].map(str::to_owned).into(),
        tmpfs: tmpfs.collect(),
        limits: limits.collect(),
        memory: number(host.and_then(|host| host.memory)),
        pids: number(host.and_then(|host| host.pids_limit)),
        cpus,
        no_network: host.is_some_and(|host| host.network_mode.as_deref() == Some("none")),
        no_capabilities: true,
        no_new_privs: true,
        seccomp: true,
        own_processes: true,
        no_terminal: true,
    }
}

/// Adds what could not be read from inside, as the engine shows it. It shows 0 for a limit that it
/// did not set, whatever it was asked for.
fn fill_in(seen: &mut Cgroup, found: &ContainerInspectResponse) {
    let Some(host) = &found.host_config else { return };
    let fill = |seen: &mut SeenLimit, shown: Option<i64>, unit: f64| {
        #[expect(clippy::cast_precision_loss, reason = "compared with what the kernel rounds too")]
        if let (SeenLimit::Unknown, Some(shown)) = (*seen, shown) {
            *seen = if shown > 0 {
                SeenLimit::Limited(shown as f64 / unit)
            } else {
                SeenLimit::Unlimited
            };
        }
    };
    fill(&mut seen.memory, host.memory, 1.0);
    fill(&mut seen.pids, host.pids_limit, 1.0);
    fill(&mut seen.cpus, host.nano_cpus, 1e9);
}
