//! How a session's task ends: it retires, its session is gone, or the host stops.

use std::sync::Arc;

use tokio::sync::mpsc;
use twobox_model::channel::Refusal;
use twobox_shared::ids::SessionId;

use super::accept::answer;
use super::command::Command;
use super::core::Core;
use super::signal::Signal;
use super::task::Task;

/// What whoever wants something of a session that was deleted is told.
pub(super) const GONE: &str = "the session was deleted";

/// Commands that came while the task retired go to the next one.
pub(super) async fn forward(task: Task) {
    let Task { core, id, mut commands, backlog, .. } = task;
    commands.close();
    for command in backlog {
        core.send(id, command).await;
    }
    while let Some(command) = commands.recv().await {
        core.send(id, command).await;
    }
}

/// Takes the task of a session that is not there out of the table. Whoever wants something of it is
/// told `why`.
pub(super) fn leave(
    core: &Arc<Core>,
    id: SessionId,
    signal: &Arc<Signal>,
    commands: &mut mpsc::Receiver<Command>,
    why: &str,
) {
    loop {
        signal.take();
        while let Ok(command) = commands.try_recv() {
            command.refuse(Refusal::Blocked { reason: why.to_owned() });
        }
        if core.retire(id, signal, commands) {
            return;
        }
    }
}

/// The host stops before the task began.
pub(super) async fn refuse_all(commands: &mut mpsc::Receiver<Command>) {
    commands.close();
    while let Some(command) = commands.recv().await {
        command.refuse(Refusal::stopping());
    }
}

impl Task {
    /// Ends what is under way: the container if it has to go, and the sends that channels have.
    pub(super) async fn shut_down(&mut self, stop_container: bool) {
        self.closing = true;
        if stop_container
            && self.container.is_some()
            && let Err(trouble) = self.stop_for_shutdown().await
        {
            self.complain(&trouble);
        }
        loop {
            // Some of it came while the container was being stopped.
            let waiting = self.backlog.pop_front().or_else(|| self.commands.try_recv().ok());
            let command = match waiting {
                Some(command) => Some(command),
                None if self.outgoing.awaits_channels() => self.commands.recv().await,
                None => None,
            };
            match command {
                Some(Command::Sent(sent)) => {
                    if let Err(trouble) = self.take_report(sent).await {
                        self.complain(&trouble);
                    }
                }
                Some(Command::Accept { reply, .. }) => {
                    answer(reply, Err(Refusal::stopping()));
                }
                // Dropped is answered.
                Some(
                    Command::Retry { .. }
                    | Command::Restart { .. }
                    | Command::Run { .. }
                    | Command::Notices
                    | Command::TakeIn { .. }
                    | Command::Forget { .. }
                    | Command::Task { .. }
                    | Command::Dead { .. }
                    | Command::Decide { .. }
                    | Command::Shutdown { .. },
                ) => {}
                None => return,
            }
        }
    }
}
