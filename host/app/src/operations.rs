//! What people may ask of the running host: each wish is passed to the session's task or to the scheduler.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use twobox_shared::ids::{MessageId, SessionId};

use twobox_channels::Operations;
use twobox_model::approval::{Approval, ApprovalOrder};
use twobox_model::channel::{ScheduleOrder, Stopped};
use twobox_model::dead_letter::{DeadLetterOrder, Handled};
use twobox_schedule::scheduler::Scheduler;
use twobox_session::approvals::Decision;
use twobox_session::command::Command;
use twobox_session::core::Core;
use twobox_session::run::{RunOrder, RunState};
use twobox_session::signal::Reason;
use twobox_shared::errors::chain;
use twobox_store::DbError;
use twobox_store::schedules::Cancelled;
use twobox_store::storage::explain;

/// Who decides at the command line.
const OPERATOR: &str = "the operator";

/// A host that runs, as whoever has a wish meets it.
#[derive(Debug, Clone)]
pub struct RunningHost {
    core: Arc<Core>,
    scheduler: Arc<Scheduler>,
}

impl RunningHost {
    /// In front of `core` and its scheduler.
    pub fn new(core: Arc<Core>, scheduler: Arc<Scheduler>) -> Self {
        Self { core, scheduler }
    }

    async fn report(&self) -> Value {
        let parts = &self.core.parts;
        let (running, waiting) = self.core.places();
        let runtime = match parts.runtime.list().await {
            Ok(sightings) => json!({
                "name": parts.runtime.name(), "answers": true, "known": sightings.len(),
                "limits": parts.runtime.limits(),
            }),
            Err(error) => json!({
                "name": parts.runtime.name(), "answers": false, "error": error.to_string(),
            }),
        };
        let counts = match parts.store.sessions().counts().await {
            Ok(counts) => json!(counts),
            Err(error) => json!({ "error": chain(&error) }),
        };
        let failed = match parts.store.sessions().failed_starts().await {
            Ok(failed) => json!(failed),
            Err(error) => json!({ "error": chain(&error) }),
        };
        let channels: serde_json::Map<String, Value> = parts
            .channels
            .iter()
            .filter_map(|(id, channel)| Some((id.clone(), json!(channel.health()?))))
            .collect();
        let approvals = match parts.store.approvals().pending().await {
            Ok(pending) => json!(pending),
            Err(error) => json!({ "error": chain(&error) }),
        };
        let alerts = match parts.store.alerts().open().await {
            Ok(open) => json!(open),
            Err(error) => json!({ "error": chain(&error) }),
        };
        json!({
            "running": true,
            "version": env!("CARGO_PKG_VERSION"),
            "install": parts.install,
            "pid": std::process::id(),
            "data": parts.data.root(),
            "stopping": self.core.is_stopping(),
            "file_events": parts.watch.is_some(),
            "api": self.core.api(),
            "api_socket": self.core.api_socket(),
            "runtime": runtime,
            "probe": self.core.probe(),
            "failed_starts": failed,
            "channels": channels,
            "containers": {
                "running": running,
                "waiting": waiting,
                "max_running": parts.config.containers.max_running,
            },
            "approvals": approvals,
            "alerts": alerts,
            "sessions": { "awake": self.core.awake().len(), "counts": counts },
        })
    }

    async fn schedules_order(&self, order: ScheduleOrder) -> Result<Value, String> {
        let host_db = |error: DbError| explain(&error, self.core.parts.data.root());
        match order {
            ScheduleOrder::Look => {
                self.scheduler.look();
                let removed = self.core.parts.store.sessions().of_removed_agents().await;
                for session in removed.map_err(host_db)? {
                    self.core.wake(session, Reason::Runtime);
                }
                Ok(json!({}))
            }
            ScheduleOrder::Run { schedule: name, force } => {
                let found = self.core.parts.store.schedules().find(&name).await;
                let Some(schedule) = found.map_err(host_db)? else {
                    return Err(format!(
                        "there is no schedule {name:?}; `twobox schedules list` shows all"
                    ));
                };
                let forced_by = force.then(|| "socket".to_owned());
                let scheduler = Arc::clone(&self.scheduler);
                // In a task of its own, which goes on when the client leaves.
                let executing =
                    tokio::spawn(async move { scheduler.execute(schedule.id, forced_by).await });
                match executing.await {
                    Ok(Ok(run)) => Ok(json!({ "run": run })),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(error) => Err(format!("the host broke: {error}")),
                }
            }
            ScheduleOrder::Task { session, verb, task } => {
                let id = task.clone();
                let command = |reply| Command::Task { verb, task, reply };
                let outcome = self.ask(session, command).await?;
                Ok(json!({ "session": session, "task": id, "outcome": outcome }))
            }
            ScheduleOrder::Cancel { run } => {
                let cancelled = self.scheduler.cancel(run).await.map_err(host_db)?;
                let outcome = match cancelled {
                    Cancelled::BeforeStart => "cancelled before it began",
                    Cancelled::Requested => "told to end",
                    Cancelled::RequestedBefore => "has been told to end before",
                    Cancelled::Ended => "has ended before",
                    Cancelled::Unknown => return Err(format!("there is no run {run}")),
                };
                Ok(json!({ "run": run, "outcome": outcome }))
            }
        }
    }

    /// Has the task of a session that exists do what a person wants.
    async fn ask<T>(
        &self,
        session: SessionId,
        command: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Command,
    ) -> Result<T, String> {
        let known = self.core.parts.store.sessions().find(session).await;
        match known {
            Ok(Some(_)) => {}
            Ok(None) => return Err(format!("there is no session {session}")),
            Err(error) => return Err(chain(&error)),
        }
        let (reply, answer) = oneshot::channel();
        self.core.send(session, command(reply)).await;
        answer.await.unwrap_or_else(|_| Err("the host is stopping".to_owned()))
    }
}

impl Operations for RunningHost {
    fn status(&self) -> BoxFuture<'_, Value> {
        self.report().boxed()
    }

    fn retry(
        &self,
        session: SessionId,
        message: Option<MessageId>,
    ) -> BoxFuture<'_, Result<usize, String>> {
        self.ask(session, |reply| Command::Retry { message, reply }).boxed()
    }

    fn restart(&self, session: SessionId) -> BoxFuture<'_, Result<bool, String>> {
        self.ask(session, |reply| Command::Restart { reply }).boxed()
    }

    fn stop(
        &self,
        session: SessionId,
        message: MessageId,
        force: bool,
    ) -> BoxFuture<'_, Result<Stopped, String>> {
        let order = if force { RunOrder::Stop } else { RunOrder::Withdraw };
        async move {
            let state = self.ask(session, |reply| Command::Run { message, order, reply }).await?;
            Ok(match state {
                RunState::Going => Stopped::Told,
                RunState::Withdrawn { .. } => Stopped::Stopped,
                RunState::Missing | RunState::Completed { .. } | RunState::Failed { .. } => {
                    Stopped::Over
                }
            })
        }
        .boxed()
    }

    fn schedules(&self, order: ScheduleOrder) -> BoxFuture<'_, Result<Value, String>> {
        self.schedules_order(order).boxed()
    }

    fn decide(&self, order: ApprovalOrder) -> BoxFuture<'_, Result<Approval, String>> {
        async move {
            let ApprovalOrder { approval: id, digest, say: verdict } = order;
            let found = self.core.parts.store.approvals().find(id).await;
            let found = found.map_err(|error| explain(&error, self.core.parts.data.root()))?;
            let session = found.ok_or_else(|| format!("there is no approval {id}"))?.session;
            let decision = Decision { id, digest, verdict, by: OPERATOR.to_owned() };
            self.ask(session, |reply| Command::Decide { decision, reply }).await
        }
        .boxed()
    }

    fn dead(
        &self,
        session: SessionId,
        order: DeadLetterOrder,
    ) -> BoxFuture<'_, Result<Vec<Handled>, String>> {
        self.ask(session, |reply| Command::Dead { order, reply }).boxed()
    }
}
