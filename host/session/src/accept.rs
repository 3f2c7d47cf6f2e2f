//! Accepting messages: the session is marked as due, the messages are committed, and only then are
//! their senders told. Goes on while the task waits for the runtime.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::oneshot;
use twobox_shared::content::{Chat, KIND_WORD};
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::inbox::{Accepted, NewMessage};
use twobox_shared::open::BoxError;

use super::command::Command;
use super::signal::Reason;
use super::task::Task;
use twobox_model::channel::{Address, Refusal};
use twobox_model::incoming::NamedFile;
use twobox_model::people::Speaker;
use twobox_model::seats::Sender;
use twobox_store::sessions::DUE_NOW;
use twobox_store::storage::{explain, passes};
use twobox_system::blocking::blocking;

/// How many messages share one transaction at most.
const ACCEPT_BATCH: usize = 256;

/// A message that somebody waits to be accepted.
#[derive(Debug)]
pub(super) struct Arriving {
    pub(super) message: NewMessage,
    /// The files that came with it.
    pub(super) files: Vec<NamedFile>,
    /// Who says it, for what they may.
    pub(super) by: Speaker,
    pub(super) reply: oneshot::Sender<Result<Accepted, Refusal>>,
}

/// Who wrote a message, if the channel said.
fn sender(message: &NewMessage, reply_address: &Address) -> Option<Sender> {
    let name = Chat::from_content(&message.content).sender?;
    Some(Sender::new(&reply_address.channel_type, &name))
}

/// Answers somebody who may have stopped waiting.
pub(super) fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    drop(reply.send(value));
}

impl Task {
    /// Runs `work` to its end, accepting messages meanwhile. `work` must not touch the boxes.
    pub(crate) async fn while_accepting<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let command = tokio::select! {
                biased;
                result = &mut work => return result,
                Some(command) = self.commands.recv() => command,
            };
            match command {
                Command::Accept { message, files, by, reply } => {
                    let mut batch = vec![Arriving { message, files, by, reply }];
                    while batch.len() < ACCEPT_BATCH
                        && let Ok(command) = self.commands.try_recv()
                    {
                        match command {
                            Command::Accept { message, files, by, reply } => {
                                batch.push(Arriving { message, files, by, reply });
                            }
                            other => self.backlog.push_back(other),
                        }
                    }
                    self.accept(batch).await;
                }
                other => self.backlog.push_back(other),
            }
        }
    }

    /// Stores messages, many in one transaction, and tells their senders.
    pub(super) async fn accept(&mut self, batch: Vec<Arriving>) {
        let mut batch = batch.into_iter().peekable();
        let is_word = |arriving: &Arriving| arriving.message.kind == KIND_WORD;
        while batch.peek().is_some() {
            // What was said to the host comes after what was said before it, and before the rest.
            if let Some(word) = batch.next_if(is_word) {
                let accepted = self.take_word(word.message).await;
                answer(word.reply, accepted);
                continue;
            }
            let said = std::iter::from_fn(|| batch.next_if(|arriving| !is_word(arriving)));
            let (mut messages, mut files, mut replies) = (Vec::new(), Vec::new(), Vec::new());
            for Arriving { message, files: with, by, reply } in said.take(ACCEPT_BATCH) {
                messages.push((message, by));
                files.push(with);
                replies.push(reply);
            }
            match self.store(messages, files).await {
                Ok(accepted) => {
                    for (reply, accepted) in replies.into_iter().zip(accepted) {
                        answer(reply, Ok(accepted));
                    }
                }
                Err(refusal) => {
                    for reply in replies {
                        answer(reply, Err(refusal.clone()));
                    }
                }
            }
        }
    }

    /// Whether anything is taken here now.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn takes_messages(&self) -> Result<(), Refusal> {
        if self.record.quarantine.is_some() {
            // The reason may quote the container, which is nobody's business in a chat.
            let reason = format!(
                "session {} is quarantined; an operator can see why with `twobox sessions show` \
                 and put it back with `twobox sessions retry`",
                self.id
            );
            return Err(Refusal::Blocked { reason });
        }
        if self.record.closed {
            return Err(Refusal::Blocked { reason: format!("session {} was deleted", self.id) });
        }
        if self.record.agent_removed {
            let agent = &self.record.agent_folder;
            let reason =
                format!("agent {agent} was removed; `twobox agents add {agent}` brings it back");
            return Err(Refusal::Blocked { reason });
        }
        if self.closing || self.core.is_stopping() {
            return Err(Refusal::stopping());
        }
        Ok(())
    }

    /// Says that a message could not be stored because of `error`.
    pub(super) fn not_now(&self, error: &(dyn std::error::Error + 'static)) -> Refusal {
        let root = self.core.parts.data.root();
        let why = match error.downcast_ref::<BoxError>() {
            // It may quote the container, which is nobody's business in a chat.
            Some(BoxError::Refused { .. }) => "a file of the session was refused".to_owned(),
            Some(_) | None => explain(error, root),
        };
        let reason = format!("the message could not be stored: {why}");
        Refusal::TryAgain { reason, passes: passes(error) }
    }

    /// Stores `messages`, each with the `files` at its place.
    async fn store(
        &mut self,
        messages: Vec<(NewMessage, Speaker)>,
        files: Vec<Vec<NamedFile>>,
    ) -> Result<Vec<Accepted>, Refusal> {
        self.takes_messages()?;
        self.mark(Some(DUE_NOW)).await.map_err(|error| self.not_now(&error))?;
        fault::point(CrashPoint::HostAcceptMarked);
        self.looks.overtake();
        let messages = self.take_answers(messages).await?;
        let chat = messages.iter().any(|message| message.trigger && message.run_id.is_none());
        if chat && self.container.is_none() && self.asker.is_none() {
            self.asker = messages.iter().find_map(|message| sender(message, &self.reply_address));
        }
        let (boxes, seen, now) = (Arc::clone(&self.boxes), self.seen, self.now());
        match blocking(move || boxes.accept_with(&messages, &files, seen, now)).await {
            Ok(accepted) => {
                fault::point(CrashPoint::HostAcceptCommitted);
                self.sweep_budget.earn(accepted.len());
                if chat {
                    self.core.set_chatting(self.id, true);
                }
                match &self.container {
                    // The runner notices by itself; its next commit is the next reason to look.
                    Some(_) => self.core.set_idle(self.id, false),
                    None => self.handle.signal.raise(Reason::Due),
                }
                Ok(accepted)
            }
            Err(error) => {
                let refusal = self.not_now(&error);
                self.handle.signal.raise(Reason::Due); // the mark was set for nothing
                self.unstored = Some(error);
                Err(refusal)
            }
        }
    }
}
