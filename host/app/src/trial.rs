//! One turn of an agent outside of any conversation: `twobox agents test`.
//!
//! It is started as its runners are for a session, under an id that no host looks for and in a folder
//! of its own that is gone afterwards. Nothing is delivered, and no request carried out: what it said
//! is shown. What it does to the folder that its conversations share is done.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;
use twobox_shared::clock::Clock;
use twobox_shared::content::{Chat, Failure, KIND_CHAT, KIND_SYSTEM};
use twobox_shared::ids::{IdSource, InstallId, MessageId, RunnerId, SessionId};
use twobox_shared::inbox::{Destination, NewMessage, Origin};
use twobox_shared::open::BoxError;
use twobox_shared::outbox::{Ack, AckStatus, OutRow, Source, read_untrusted};
use twobox_shared::seq::Seq;

use twobox_config::Config;
use twobox_gateway::{Allowed, Gateway, Terms, price};
use twobox_runtime as runtime;
use twobox_runtime::{
    AgentFolders, Condition, Incarnation, Profile, RUNNER_LOG, Runtime, RuntimeError, StartSpec,
};
use twobox_session::boxes::Boxes;
use twobox_store::agents::AgentGroup;
use twobox_system::blocking::blocking;
use twobox_system::data::DataDir;
use twobox_system::remove_tree::remove_tree;

/// How often to look how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long after the turn's own limit the runner may take to say so.
const LATE: Duration = Duration::from_secs(10);

/// How long a look at the outbox may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many lines of what the runner printed are shown.
const LOG_LINES: usize = 20;

/// What happened.
#[derive(Debug, Serialize)]
pub struct Trial {
    /// Whether it answered.
    pub answered: bool,
    /// How long that took, with the start of its runner.
    pub took_ms: u64,
    /// How many model turns, by its own word.
    pub turns: Option<i64>,
    /// Why it did not answer.
    pub failure: Option<Failure>,
    /// What it said, in order.
    pub said: Vec<Said>,
    /// The last lines of what its runner and its program printed.
    pub log: Vec<String>,
}

/// One row of what it said.
#[derive(Debug, Serialize)]
pub struct Said {
    /// The name of the destination that it was sent to, if it was not an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The text; of a request to the host, its JSON.
    pub text: String,
    /// Names of attached files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Whether it is a request to the host.
    pub request: bool,
}

/// Why there was no turn.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The agent's configuration or folders cannot be used.
    #[error("{0}")]
    Unfit(String),
    /// The boxes could not be made or read.
    #[error(transparent)]
    Box(#[from] BoxError),
    /// There is no way to models.
    #[error("could not make the socket {}", socket.display())]
    Way {
        /// Where.
        socket: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// No runner could be started or ended.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// The folder of a trial. What is in it is gone when this is dropped.
struct Room(PathBuf);

impl Drop for Room {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "a trial's folder is left over");
        }
    }
}

/// What a trial needs of the installation.
pub struct Ground<'a> {
    /// The settings.
    pub config: &'a Config,
    /// Where everything lies.
    pub data: &'a DataDir,
    /// The way to models.
    pub gateway: &'a Gateway,
    /// Where what they answer is recorded, if a person wants that.
    pub recording: Option<PathBuf>,
}

/// Has `agent`, who may name `destinations`, answer `text`.
///
/// # Errors
/// Why it was not asked. That it did not answer is no error.
pub async fn run(
    Ground { config, data, gateway, recording }: Ground<'_>,
    agent: &AgentGroup,
    destinations: Vec<Destination>,
    text: &str,
    ids: &(impl IdSource + ?Sized),
    clock: &impl Clock,
) -> Result<Trial, TrialError> {
    let (mut profile, folders) = equipment(config, data, agent)?;
    let way = gateway.way(&profile.agent.provider, &profile.egress);
    profile.agent.gateway = way.map_err(TrialError::Unfit)?;
    let way = profile.agent.gateway.clone();
    let incarnation =
        Incarnation { session: SessionId::generate(ids), runner: RunnerId::generate(ids) };
    let room = Room(data.scratch().join(format!("trial-{}", incarnation.runner)));
    let folder = room.0.join(agent.id.to_string()).join(incarnation.session.to_string());
    let boxes =
        Boxes::new(incarnation.session, &folder, &room.0, config.limits.outbox_quota_mb << 20);
    let asked = question(text);
    let message = asked.id.clone();
    let (now, known) = (clock.now(), destinations.clone());
    let told = profile.agent.for_runner();
    let limit = profile.agent.turn_timeout() + LATE;
    let boxes = blocking(move || {
        boxes.create()?;
        boxes.create_work()?;
        boxes.accept(&[asked], Seq::default(), now)?;
        boxes.project_routing(&Origin::default(), &known)?;
        boxes.project_config(&told)?;
        Ok::<_, BoxError>(boxes)
    })
    .await?;
    let socket = boxes.paths().gateway_socket();
    let _door = match way {
        Some(way) => {
            let allowed = Allowed { records: recording.is_some(), ..allowed(&profile) };
            let allowance = Arc::new(OfTrial { allowed, recording });
            let opened = gateway.open(incarnation.session, agent.id, &way, allowance, &socket);
            Some(opened.map_err(|source| TrialError::Way { socket, source })?)
        }
        None => None,
    };
    let spec = StartSpec {
        incarnation,
        folder: folder.clone(),
        agent: folders,
        profile,
        idle: LATE,
        grace: config.containers.stop_grace,
        poll: None,
        heartbeat: config.limits.heartbeat,
        durability: config.durability,
    };
    let (events, _nobody_listens) = mpsc::unbounded_channel();
    let runtime = runtime::build(InstallId::generate(ids), room.0.clone(), config, events)?;
    let begun = Instant::now();
    runtime.start(&spec).await?;
    let followed =
        follow(&*runtime, incarnation, boxes.paths().outbound_db(), &message, limit).await;
    let took = begun.elapsed();
    runtime.stop(incarnation, Duration::ZERO).await?;
    let log = folder.join(RUNNER_LOG);
    runtime.clear(incarnation, &log).await?;
    let (ack, rows) = followed?;
    Ok(Trial {
        answered: ack.as_ref().is_some_and(|ack| ack.status == AckStatus::Completed),
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        turns: ack.as_ref().and_then(|ack| ack.turns),
        failure: ack.and_then(failure_of),
        said: rows.into_iter().map(|row| said(row, &destinations)).collect(),
        log: last_lines(&log),
    })
}

/// What an agent with `profile` may do.
fn allowed(profile: &Profile) -> Allowed {
    let limit = price::limit(profile.budget.usd_per_day, profile.budget.tokens_per_day);
    let run = profile.budget.usd_per_run.map(price::nano);
    let (egress, servers) =
        (Arc::new(profile.egress.clone()), Allowed::servers_of(&profile.agent.provider));
    Allowed { limit, run, egress, records: false, servers }
}

/// What the requests of a trial depend on.
struct OfTrial {
    allowed: Allowed,
    recording: Option<PathBuf>,
}

impl Terms for OfTrial {
    fn allowed(&self) -> Allowed {
        self.allowed.clone()
    }

    fn recording(&self) -> Option<PathBuf> {
        self.recording.clone()
    }
}

/// How `agent` runs, and with which folders.
fn equipment(
    config: &Config,
    data: &DataDir,
    agent: &AgentGroup,
) -> Result<(Profile, AgentFolders), TrialError> {
    let profile = Profile::load(&data.agent_config(&agent.folder), &config.containers)
        .map_err(|error| TrialError::Unfit(error.to_string()))?
        .with_folders(data.root())
        .map_err(TrialError::Unfit)?;
    let folders = AgentFolders {
        program: data.program_folder(&agent.folder),
        shared: data.group_folder(&agent.folder),
        access: profile.agent.shared_folder,
    };
    folders.check().map_err(TrialError::Unfit)?;
    Ok((profile, folders))
}

fn question(text: &str) -> NewMessage {
    NewMessage {
        id: MessageId::parse("trial").expect("letters"),
        kind: KIND_CHAT.to_owned(),
        content: Chat::text(text).to_json(),
        origin: Origin::default(),
        trigger: true,
        process_after: None,
        source_session: None,
        run_id: None,
    }
}

/// Waits until the message is answered, or its runner gone, or `limit` over.
async fn follow(
    runtime: &dyn Runtime,
    incarnation: Incarnation,
    outbox: PathBuf,
    message: &MessageId,
    limit: Duration,
) -> Result<(Option<Ack>, Vec<OutRow>), TrialError> {
    let end = Instant::now() + limit;
    loop {
        // Asked before the look, so that what it wrote last is read.
        let sightings = runtime.of_session(incarnation.session).await?;
        let lives = sightings.iter().any(|it| it.condition == Condition::Running);
        let is_last = !lives || Instant::now() >= end;
        let (path, id) = (outbox.clone(), message.clone());
        let look = blocking(move || {
            read_untrusted(&path, Source::Live, PATIENCE, |outbox| {
                let ack = outbox.acks([&id])?.remove(&id);
                let ended = ack.as_ref().is_some_and(|ack| ack.status != AckStatus::Processing);
                if !ended && !is_last {
                    return Ok(None); // what it has said so far is of no use yet
                }
                let rows = outbox.rows(Seq::default(), Seq::default(), ROWS_MAX)?.rows;
                Ok(Some((ack, rows)))
            })
        });
        match look.await {
            Ok(Some(Some(found))) => return Ok(found),
            Ok(_) if is_last => return Ok((None, Vec::new())), // there is no outbox
            Ok(_) => {}
            // Its runner is in the middle of a commit, and alone may roll one back.
            Err(BoxError::Busy { .. } | BoxError::HotJournal) if lives && Instant::now() < end => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How many rows are shown.
const ROWS_MAX: u32 = 200;

fn failure_of(ack: Ack) -> Option<Failure> {
    match ack.status {
        AckStatus::Completed => None,
        AckStatus::Failed => ack.failure,
        AckStatus::Processing => {
            let detail = "its runner ended, or the time was over, in the middle of the turn";
            Some(Failure::retryable(Failure::RUNNER_DIED, detail))
        }
    }
}

fn said(row: OutRow, destinations: &[Destination]) -> Said {
    let request = row.kind == KIND_SYSTEM;
    let content = row.content.as_deref().unwrap_or_default();
    let chat = match request {
        true => Chat::text(content),
        false => Chat::from_content(content),
    };
    let to = destinations.iter().find(|it| {
        row.destination.channel_type.as_ref() == Some(&it.channel_type)
            && row.destination.platform_id.as_ref() == Some(&it.platform_id)
    });
    Said { to: to.map(|it| it.name.clone()), text: chat.text, files: chat.files, request }
}

fn last_lines(log: &Path) -> Vec<String> {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].iter().map(|&line| line.to_owned()).collect()
}
