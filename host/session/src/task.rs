//! The task of one awake session: the only code that touches its folder and its container.
//!
//! All work on a session is serial, and sessions do not wait for each other. The task takes
//! commands (messages to accept, outcomes of sends) and reasons to look, sweeps, and retires when
//! nothing is left to do. While it waits for the runtime it goes on accepting messages.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{Instrument, Span};
use twobox_shared::clock::Monotonic;
use twobox_shared::ids::{MessageId, SessionId};
use twobox_shared::open::BoxError;
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use super::accept::{Arriving, answer};
use super::approvals::People;
use super::boxes::Boxes;
use super::command::Command;
use super::container::Container;
use super::leaving::{GONE, forward, leave, refuse_all};
use super::looks::{Looks, Waiting};
use super::mark::Mark;
use super::onlookers::Onlookers;
use super::outgoing::Outgoing;
use super::over_budget::BudgetHeld;
use super::refusals::Refusals;
use super::signal::Reason;
use super::sweep_budget::SweepBudget;
use super::trouble::OPERATOR_PAUSE;
pub(crate) use super::trouble::Trouble;
use crate::core::{Core, Handle};
use twobox_model::channel::{Address, Refusal, SCHEDULE_CHANNEL};
use twobox_model::seats::Sender;
use twobox_shared::errors::chain;
use twobox_store::DbError;
use twobox_store::sessions::{DUE_NOW, SessionRecord};
use twobox_store::storage::{explain, passes};
use twobox_system::blocking::{blocking, blocking_timed};

/// A task whose next look is further away than this retires; the safety net wakes it in time.
pub const RETIRE_BEYOND: Duration = Duration::from_secs(60);

/// The state of an awake session.
pub(crate) struct Task {
    pub(crate) core: Arc<Core>,
    pub(crate) id: SessionId,
    pub(crate) record: SessionRecord,
    pub(crate) boxes: Arc<Boxes>,
    pub(crate) reply_address: Address,
    pub(crate) handle: Handle,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) backlog: VecDeque<Command>,
    /// Who wrote first of what no container has begun with, if the channel said.
    pub(super) asker: Option<Sender>,
    /// The container that lives, as far as the task knows.
    pub(crate) container: Option<Container>,
    pub(crate) outgoing: Outgoing,
    /// What people are asked here.
    pub(super) people: People,
    /// Whether the container's commits are reported; otherwise the session polls.
    pub(crate) watched: bool,
    /// The highest number read from the outbox.
    pub(crate) seen: Seq,
    pub(crate) looks: Looks,
    /// When somebody has to look, by `host.db`; the record says what stood there when the task began.
    pub(crate) mark: Mark,
    /// Since when the boxes cannot be read, while a container lives.
    pub(crate) unreadable_since: Option<Monotonic>,
    /// Why the last message could not be stored, until something was done about it.
    pub(super) unstored: Option<BoxError>,
    pub(super) sweep_budget: SweepBudget,
    pub(super) refusals: Refusals,
    /// What a person has had stopped last, in case its container goes on with it.
    pub(super) told_to_stop: Vec<MessageId>,
    /// The last complaint, so that the same one is logged once.
    pub(super) complaint: Option<String>,
    /// Who looks on while its agent works.
    pub(crate) onlookers: Onlookers,
    /// How often in a row the runtime did not answer.
    pub(crate) runtime_silent: u32,
    pub(super) waits_for_look: Waiting,
    /// Whether a run may go on that has cost something: its end has to be said.
    pub(super) may_have_run: bool,
    /// What its agent could use in a day at least, while its container lived.
    pub(super) budget_held: BudgetHeld,
    /// When the session was last looked over for what can be forgotten.
    pub(super) looked_over: Option<Monotonic>,
    pub(crate) closing: bool,
}

/// Runs the task of `id` until it retires or the host stops.
pub(crate) async fn run(
    core: Arc<Core>,
    id: SessionId,
    handle: Handle,
    commands: mpsc::Receiver<Command>,
) {
    let mut commands = commands;
    let mut backlog = VecDeque::new();
    let Some(record) = find(&core, id, &handle, &mut commands, &mut backlog).await else { return };
    let data = &core.parts.data;
    let folder = data.session_folder(record.agent_group, id);
    let quota = core.parts.config.limits.outbox_quota_mb << 20;
    let boxes = Boxes::new(id, &folder, &data.scratch(), quota);
    let reply_address = record.reply_address();
    let mut task = Task {
        boxes: Arc::new(match reply_address.channel_type == SCHEDULE_CHANNEL {
            true => boxes.small(), // one run is not much
            false => boxes,
        }),
        reply_address,
        id,
        mark: Mark::Known(record.next_due_at),
        record,
        commands,
        backlog,
        asker: None,
        container: None,
        outgoing: Outgoing::default(),
        people: People::default(),
        watched: false,
        seen: Seq::default(),
        looks: Looks::default(),
        unreadable_since: None,
        unstored: None,
        sweep_budget: SweepBudget::default(),
        refusals: Refusals::default(),
        told_to_stop: Vec::new(),
        complaint: None,
        onlookers: Onlookers::default(),
        runtime_silent: 0,
        waits_for_look: Waiting::default(),
        may_have_run: true, // of an earlier life nothing is known
        budget_held: BudgetHeld::default(),
        looked_over: None,
        closing: false,
        handle,
        core,
    };
    let names = names(&task.record);
    let life = async {
        task.watch_outbox().await;
        task.handle.signal.raise(Reason::Runtime); // nothing is known of it yet
        task.live().await;
    };
    life.instrument(names).await;
    if let Some(watch) = &task.core.parts.watch {
        watch.remove(task.boxes.paths().out_dir(), &task.handle.signal);
    }
    match task.closing {
        true => task.commands.close(), // whoever waits for an answer hears that nobody will give it
        false => forward(task).await,
    }
}

/// The record of the session. `None` if it has none or the host stops: then everybody was told.
async fn find(
    core: &Arc<Core>,
    id: SessionId,
    handle: &Handle,
    commands: &mut mpsc::Receiver<Command>,
    backlog: &mut VecDeque<Command>,
) -> Option<SessionRecord> {
    let mut stopping = core.stopping();
    loop {
        let error = match core.parts.store.sessions().find(id).await {
            Ok(Some(record)) => return Some(record),
            Ok(None) => {
                tracing::debug!(session = %id, "there is no such session");
                leave(core, id, &handle.signal, commands, "there is no such session");
                return None;
            }
            Err(error) => error,
        };
        tracing::error!(session = %id, error = chain(&error), "cannot wake the session");
        // Nobody is kept waiting for what may need a person: a run has its place meanwhile.
        if !passes(&error) {
            let reason = explain(&error, core.parts.data.root());
            let why = Refusal::TryAgain { reason, passes: false };
            while let Ok(command) = commands.try_recv() {
                match command.is_asked() {
                    true => command.refuse(why.clone()),
                    false => backlog.push_back(command),
                }
            }
        }
        let stop = stopping.wait_for(|stopping| *stopping);
        if tokio::time::timeout(OPERATOR_PAUSE, stop).await.is_ok() {
            refuse_all(commands).await;
            return None;
        }
    }
}

/// The names that stand beside a session's id in the log. Not a span of `info`: they are wanted in a log
/// of warnings too.
pub(crate) fn names(record: &SessionRecord) -> Span {
    let reply_address = record.reply_address();
    tracing::error_span!(
        "of",
        agent = record.agent_folder,
        channel = reply_address.channel_type,
        chat = reply_address.platform_id,
        thread = reply_address.thread_id
    )
}

impl Task {
    /// Makes the folder and watches it, so that nothing a container writes goes unnoticed. Where
    /// that fails, because a disk is full or the system has no watch left, the session is polled.
    pub(crate) async fn watch_outbox(&mut self) {
        if self.watched {
            return;
        }
        let boxes = Arc::clone(&self.boxes);
        if let Err(error) = blocking(move || boxes.create()).await {
            return self.complain(&error);
        }
        let Some(watch) = &self.core.parts.watch else { return };
        match watch.add(self.boxes.paths().out_dir(), &self.handle.signal) {
            Ok(()) => self.watched = true,
            Err(error) => self.complain(&error),
        }
    }

    async fn live(&mut self) {
        loop {
            self.wait().await;
            if self.take_commands().await.is_break() {
                return;
            }
            if self.takes_progress() {
                self.show_progress().await;
            }
            if let Some(error) = self.unstored.take() {
                self.cope(error.into()).await;
            }
            if let Some(rest) = self.sweep_budget.rest(Instant::now()) {
                self.look_in(rest); // what was raised is kept until then
                continue;
            }
            if !self.handle.signal.is_quiet()
                && let Some(pause) = self.sweep_budget.pause(Instant::now())
            {
                self.while_accepting(tokio::time::sleep(pause)).await;
            }
            let reasons = self.handle.signal.take_looks();
            if !reasons.is_empty() {
                let reasons = self.looks.begin(reasons);
                if let Err(trouble) = self.sweep(reasons).await {
                    self.looks.broke_off(reasons);
                    self.waits_for_look.wait_on();
                    self.cope(trouble).await;
                } else {
                    self.complaint = None;
                    self.waits_for_look.tell_unless(self.record.quarantine.is_some());
                }
            }
            if self.has_nothing_to_do()
                && self.core.retire(self.id, &self.handle.signal, &mut self.commands)
            {
                return;
            }
        }
    }

    /// Until a command, a reason, or the time of the next look.
    async fn wait(&mut self) {
        if !self.backlog.is_empty() {
            return;
        }
        let next_look = self.looks.next();
        let time = async {
            match next_look {
                Some(when) => tokio::time::sleep_until(when).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            command = self.commands.recv() => self.backlog.extend(command),
            () = self.handle.signal.raised() => {}
            () = self.onlookers.due() => self.handle.signal.raise(Reason::Progress),
            () = time => {
                self.looks.forget_time();
                self.handle.signal.raise(Reason::Due);
            }
        }
    }

    fn has_nothing_to_do(&self) -> bool {
        let soon = Instant::now() + RETIRE_BEYOND;
        self.container.is_none()
            && self.record.runner.is_none()
            && self.backlog.is_empty()
            && self.outgoing.is_quiet()
            && self.looks.next().is_none_or(|when| when > soon)
            && self.mark.last() != Some(DUE_NOW)
    }

    /// Does everything that was asked for. Accepting comes first: somebody waits for it. One
    /// function, long as it is, because two commands end it and need what waits behind them.
    async fn take_commands(&mut self) -> ControlFlow<()> {
        while let Ok(command) = self.commands.try_recv() {
            self.backlog.push_back(command);
        }
        let mut others = VecDeque::new();
        let mut accepts = Vec::new();
        for command in std::mem::take(&mut self.backlog) {
            match command {
                Command::Accept { message, files, by, reply } => {
                    accepts.push(Arriving { message, files, by, reply });
                }
                other => others.push_back(other),
            }
        }
        if accepts.iter().any(|arriving| arriving.message.trigger) {
            self.renew().await;
        }
        self.accept(accepts).await;
        while let Some(command) = others.pop_front() {
            match command {
                Command::Accept { .. } => unreachable!("taken out above"),
                Command::Sent(sent) => {
                    if let Err(trouble) = self.take_report(sent).await {
                        self.cope(trouble).await;
                    }
                }
                Command::Retry { message, reply } => {
                    let result = self.retry(message).await;
                    answer(reply, result.map_err(|trouble| chain(&trouble)));
                }
                Command::Restart { reply } => {
                    let stopped = self.restart().await;
                    answer(reply, stopped.map_err(|trouble| chain(&trouble)));
                }
                Command::Run { message, order, reply } => {
                    let state = self.handle_run(message, order).await;
                    answer(reply, state.map_err(|trouble| chain(&trouble)));
                }
                Command::TakeIn { done } => {
                    self.waits_for_look.add(done);
                    self.handle.signal.raise(Reason::Outbox);
                }
                Command::Notices => {
                    self.people_changed(); // or what they decided
                    self.mark = self.mark.doubted();
                    self.handle.signal.raise(Reason::Due);
                }
                Command::Forget { reply } => {
                    self.backlog = std::mem::take(&mut others);
                    let gone = self.handle_forget().await;
                    if gone == Ok(true) {
                        let signal = Arc::clone(&self.handle.signal);
                        leave(&self.core, self.id, &signal, &mut self.commands, GONE);
                        answer(reply, gone);
                        return ControlFlow::Break(());
                    }
                    answer(reply, gone);
                    others = std::mem::take(&mut self.backlog);
                }
                Command::Task { verb, task, reply } => {
                    let done = self.handle_task(verb, task).await;
                    answer(reply, done);
                }
                Command::Dead { order, reply } => {
                    let handled = self.handle_dead(&order).await;
                    answer(reply, handled);
                }
                Command::Decide { decision, reply } => {
                    let decided = self.handle_decision(decision).await;
                    answer(reply, decided);
                }
                Command::Shutdown { stop_container, done } => {
                    self.backlog = others;
                    self.shut_down(stop_container).await;
                    drop(done);
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Says durably when somebody has to look at the session next.
    pub(crate) async fn mark(&mut self, next: Option<UnixMillis>) -> Result<(), DbError> {
        if self.mark.differs(next) {
            // A commit that reports an error may be found by the next host all the same.
            self.mark = self.mark.doubted();
            self.core.parts.store.sessions().mark(self.id, next).await?;
            self.mark = Mark::Known(next);
        }
        Ok(())
    }

    /// Reads or changes the boxes on the session's account: what it takes counts as looks, and one
    /// that has used up its own comes after everything else.
    pub(super) async fn at_its_expense<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let background = self.core.background.as_ref().filter(|_| self.sweep_budget.comes_last());
        let (value, processor) = blocking_timed(background, work).await;
        self.sweep_budget.pay(processor);
        value
    }

    /// Looks again after `pause`, or earlier if something else wants that.
    pub(crate) fn look_in(&mut self, pause: Duration) {
        self.looks.at(Instant::now() + pause);
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.core.parts.clock.now()
    }
}
