//! One turn: from claimed messages to one fenced commit.
//!
//! The provider works in its own thread; this one keeps the limits, does what it says, and offers
//! it the messages that arrive meanwhile (`events`), as long as the `limits` allow, and commits how
//! it ended (`commit`). Nothing buffered here survives a turn that fails.

mod asking;
mod commit;
mod events;
mod limits;

use std::collections::HashMap;
use std::time::Duration;

use twobox_shared::agent_config::AgentConfig;
use twobox_shared::clock::Monotonic;
use twobox_shared::content::{Failure, KIND_CHAT, KIND_SYSTEM, RunLimits};
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::InboundMessage;
use twobox_shared::open::BoxError;
use twobox_shared::outbox::{Claim, OutboxWriter};
use twobox_shared::seq::Seq;

use self::asking::Spent;
use self::events::Cut;
use self::limits::Limits;
pub(crate) use self::limits::{INSTRUCTIONS_READ, fits_system};
use crate::ask::{self, Asking, Open};
use crate::drafts::{Answering, Drafts};
use crate::event::TurnNumber;
use crate::exit::Exit;
use crate::progress::Shown;
use crate::provider::{BAD_CONTINUATION, Done, Gone, Prompt, PromptMessage, Reins, Worker};
use crate::run::Runner;
use crate::say::say;

/// The claim on a message that is worked on now.
pub(crate) fn claim_of(message: &InboundMessage) -> Claim {
    Claim { message: message.id.clone(), attempt: message.tries }
}

/// What a turn leaves behind.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Follow-ups that were claimed and that the provider did not use.
    pub(crate) unused: Vec<InboundMessage>,
    /// Whether the provider's thread still runs, so that this process is of no more use.
    pub(crate) stuck: bool,
    /// Whether no turn can work with this configuration and program.
    pub(crate) broken: bool,
}

/// How the provider's part of a turn ended.
enum End {
    Outcome(Result<Done, Failure>),
    Stuck(Failure),
}

pub(crate) struct Turn<'r, 'a> {
    runner: &'r mut Runner<'a>,
    config: AgentConfig,
    /// By which tools say that they mean this turn.
    number: TurnNumber,
    /// What is acked with this turn: what it began with, and the follow-ups that were used.
    messages: Vec<InboundMessage>,
    /// Follow-ups that were claimed and not used so far.
    offered: Vec<InboundMessage>,
    answering: Answering,
    drafts: Drafts,
    /// What was sent at once, in case the turn has to begin again.
    sent: Vec<String>,
    worked: bool,
    /// Without which the turn is for nothing: the message of the scheduled run, if this is its turn,
    /// else what people have said. The host may take all of it back.
    wanted: Vec<MessageId>,
    /// Whether this is the turn of a scheduled run.
    of_run: bool,
    limits: Limits,
    cut: Option<Cut>,
    /// What it is at, for whoever looks on.
    shown: Shown,
    next_look: Monotonic,
    /// How often each thing was asked of people in this turn.
    asked: HashMap<Asking, usize>,
    /// What they have not answered.
    open: Vec<Open>,
    /// What they have allowed, and is used. It stays so where the provider begins afresh.
    spent: Vec<Spent>,
    /// The tool that ran when somebody began to wait for them, and for how long it may.
    before_asking: Option<(String, Duration)>,
}

/// What a provider is shown of `messages`: all but answers that a turn has waited for, and so knows.
fn shown(messages: &[InboundMessage]) -> Vec<PromptMessage> {
    let was_waited_for = |message: &&InboundMessage| {
        message.kind == KIND_SYSTEM && !message.trigger && ask::was_waited_for(&message.content)
    };
    messages.iter().filter(|message| !was_waited_for(message)).map(PromptMessage::from).collect()
}

/// Those of `messages` that the host may take back, and the turn with them. A task that is cancelled
/// is finished, so a turn that has one is wanted in any case.
fn wanted(messages: &[InboundMessage]) -> Vec<MessageId> {
    let ids = |of: &[&InboundMessage]| of.iter().map(|message| message.id.clone()).collect();
    let triggers: Vec<_> = messages.iter().filter(|message| message.trigger).collect();
    match triggers.iter().find(|message| message.run_id.is_some()) {
        Some(run) => ids(&[run]),
        None if triggers.iter().all(|message| message.kind == KIND_CHAT) => ids(&triggers),
        None => Vec::new(),
    }
}

impl<'r, 'a> Turn<'r, 'a> {
    /// Runs one turn for `messages`, which are claimed and of which at least one triggers.
    ///
    /// # Errors
    /// The reason to leave at once.
    pub(crate) fn run(
        runner: &'r mut Runner<'a>,
        messages: Vec<InboundMessage>,
    ) -> Result<Left, Exit> {
        let answering = Answering::of(&messages).expect("a turn has a message that triggers");
        let config = AgentConfig::load(&runner.options.paths.agent_config());
        let now = runner.clock.monotonic();
        let (span, max_turns) = config
            .as_ref()
            .map_or((Duration::ZERO, 0), |config| (config.turn_timeout(), config.max_turns));
        let run = messages.iter().find(|message| message.run_id.is_some());
        let mut limits = Limits::new(now, span, max_turns);
        if let Some(run) = run {
            let own = RunLimits::from_content(&run.content);
            let end = own.deadline.map(|deadline| now + deadline.since(runner.clock.now()));
            limits = limits.of_run(own.max_turns, end);
        }
        let mut turn = Self {
            limits,
            wanted: wanted(&messages),
            of_run: run.is_some(),
            next_look: now + runner.look_interval(),
            shown: Shown::begin(
                &runner.options.paths,
                answering.message.clone(),
                answering.attempt,
                now,
            ),
            drafts: Drafts::new(runner.options.paths.outbox_files()),
            config: config.as_ref().cloned().unwrap_or_default(),
            number: TurnNumber::default(),
            messages,
            offered: Vec::new(),
            answering,
            sent: Vec::new(),
            worked: false,
            cut: None,
            asked: HashMap::new(),
            open: Vec::new(),
            spent: Vec::new(),
            before_asking: None,
            runner,
        };
        let end = match config {
            Ok(_) => turn.answer()?,
            Err(wrong) => {
                let failure = Failure::permanent(Failure::AGENT_BROKEN, wrong.to_string());
                End::Outcome(Err(failure))
            }
        };
        turn.finish(end)
    }

    /// Lets the provider answer. A continuation that it cannot use costs one more try.
    fn answer(&mut self) -> Result<End, Exit> {
        let Some(mut prompt) = self.prompt()? else {
            // Without knowing what was said before, it would be said twice.
            let detail = "the outbox could not be read";
            return Ok(End::Outcome(Err(Failure::retryable(Failure::PROVIDER_ERROR, detail))));
        };
        loop {
            let reins = match self.start(prompt.clone()) {
                Ok(reins) => reins,
                Err(failure) => return Ok(End::Outcome(Err(failure))),
            };
            let end = self.drive(&reins)?;
            match end {
                End::Outcome(Err(failure))
                    if failure.reason == BAD_CONTINUATION && prompt.continuation.is_some() =>
                {
                    say!(
                        "the continuation was refused, so the turn begins afresh: {}",
                        failure.detail
                    );
                    self.write(|outbox, _| outbox.clear_continuation())?;
                    self.drafts.discard();
                    // What is asked again is found as by another attempt.
                    (self.asked, self.open) = (HashMap::new(), Vec::new());
                    prompt.continuation = None;
                    prompt.already_sent.append(&mut self.sent);
                    prompt.messages = shown(&self.messages);
                }
                end => return Ok(end),
            }
        }
    }

    fn prompt(&mut self) -> Result<Option<Prompt>, Exit> {
        let retried: Vec<(Claim, Seq)> = self
            .messages
            .iter()
            .filter(|message| message.tries > 0)
            .map(|message| (claim_of(message), message.seq))
            .collect();
        let read = match self.runner.continuation.take() {
            Some(continuation) if retried.is_empty() => Some((Vec::new(), continuation)),
            _ => self.runner.outbox.insist_on_reading(
                || self.may_go_on(),
                |outbox| {
                    let mut already_sent = Vec::new();
                    for (claim, seq) in &retried {
                        already_sent.extend(outbox.already_sent(claim, *seq)?);
                    }
                    Ok((already_sent, outbox.continuation()?))
                },
            )?,
        };
        Ok(read.map(|(already_sent, continuation)| Prompt {
            attempt: self.answering.attempt,
            messages: shown(&self.messages),
            already_sent: already_sent.into_iter().map(|chat| chat.text).collect(),
            continuation,
            destinations: self.runner.destinations.iter().map(|it| it.name.clone()).collect(),
            max_turns: self.limits.max_turns(),
        }))
    }

    fn start(&mut self, prompt: Prompt) -> Result<Reins, Failure> {
        let failed = |why: &str| {
            let detail = format!("could not start the provider: {why}");
            Failure::retryable(Failure::PROVIDER_ERROR, detail)
        };
        let worker = match self.runner.worker.take() {
            Some(worker) if worker.serves(&self.config) => worker,
            other => {
                if let Some(worker) = other {
                    worker.dismiss(); // it was made for another configuration, or panicked
                }
                let events = self.runner.events_in.clone();
                Worker::new(&self.config, self.runner.options, events)
                    .map_err(|error| failed(&error.to_string()))?
            }
        };
        self.runner.turns.0 += 1;
        self.number = self.runner.turns;
        let reins = worker.start(self.number, prompt).map_err(|Gone| failed("it has gone"))?;
        self.runner.worker = Some(worker);
        self.runner.in_turn = true;
        Ok(reins)
    }

    /// Insists on an operation for as long as this turn may last.
    fn write<T>(
        &self,
        mut work: impl FnMut(&mut OutboxWriter, Seq) -> Result<T, BoxError>,
    ) -> Result<Option<T>, Exit> {
        self.runner.outbox.insist(|| self.may_go_on(), |outbox| work(outbox, self.runner.floor))
    }

    fn may_go_on(&self) -> bool {
        !self.runner.stop.requested() && self.runner.clock.monotonic() < self.limits.deadline()
    }
}
