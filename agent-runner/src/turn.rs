//! One turn: from claimed messages to one fenced commit.
//!
//! The provider works in its own thread; this one keeps the limits, does what it says, and offers
//! it the messages that arrive meanwhile. Nothing buffered here survives a turn that fails.

use std::collections::HashSet;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use twobox_shared::agent_config::AgentConfig;
use twobox_shared::clock::Monotonic;
use twobox_shared::content::{Failure, KIND_CHAT};
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::{MessageId, SystemIds};
use twobox_shared::inbox::{Destination, InboundMessage, Origin, Purpose};
use twobox_shared::outbox::{Claim, NewRow, TurnEnd, new_row_id};
use twobox_shared::paths::AGENT_CONFIG;
use twobox_shared::seq::Seq;

use crate::drafts::{Answering, Drafts, check_size};
use crate::event::{Event, Said};
use crate::exit::Exit;
use crate::provider::{BAD_CONTINUATION, Done, Gone, Prompt, PromptMessage, Push, Reins, Worker};
use crate::run::Runner;
use crate::say::say;

/// How long a cancelled provider has to come back before the process gives itself up.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

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
}

/// A turn that was cut short, until its provider has come back.
struct Cut {
    failure: Failure,
    give_up_at: Monotonic,
}

/// How the provider's part of a turn ended.
enum End {
    Outcome(Result<Done, Failure>),
    Stuck(Failure),
}

pub(crate) struct Turn<'r, 'a> {
    runner: &'r mut Runner<'a>,
    config: AgentConfig,
    /// What is acked with this turn: what it began with, and the follow-ups that were used.
    messages: Vec<InboundMessage>,
    /// Follow-ups that were claimed and not used so far.
    offered: Vec<InboundMessage>,
    answering: Answering,
    destinations: Vec<Destination>,
    drafts: Drafts,
    /// What was sent at once, in case the turn has to begin again.
    sent: Vec<String>,
    worked: bool,
    turns: u32,
    tool: Option<(String, Duration, Monotonic)>,
    deadline: Monotonic,
    grace_end: Option<Monotonic>,
    cut: Option<Cut>,
    next_look: Monotonic,
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
        let config = AgentConfig::load(&runner.options.agent.join(AGENT_CONFIG));
        let now = runner.clock.monotonic();
        let mut turn = Self {
            deadline: now + config.as_ref().map_or(Duration::ZERO, AgentConfig::turn_timeout),
            next_look: now + runner.look_interval(),
            drafts: Drafts::new(runner.options.paths.outbox_files()),
            config: config.as_ref().cloned().unwrap_or_default(),
            messages,
            offered: Vec::new(),
            answering,
            destinations: Vec::new(),
            sent: Vec::new(),
            worked: false,
            turns: 0,
            tool: None,
            grace_end: None,
            cut: None,
            runner,
        };
        let end = match config {
            Ok(_) => turn.answer()?,
            Err(wrong) => {
                let failure = Failure::permanent(Failure::PROVIDER_ERROR, wrong.to_string());
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
                    prompt.continuation = None;
                    prompt.already_sent.append(&mut self.sent);
                    prompt.messages = self.messages.iter().map(PromptMessage::from).collect();
                }
                end => return Ok(end),
            }
        }
    }

    fn prompt(&mut self) -> Result<Option<Prompt>, Exit> {
        // An inbox that cannot be read right now costs the names, not the turn.
        self.destinations = self.runner.destinations().unwrap_or_default();
        let retried: Vec<(Claim, Seq)> = self
            .messages
            .iter()
            .filter(|message| message.tries > 0)
            .map(|message| (claim_of(message), message.seq))
            .collect();
        let read = self.write(|outbox, _| {
            let mut already_sent = Vec::new();
            for (claim, seq) in &retried {
                already_sent.extend(outbox.already_sent(claim, *seq)?);
            }
            Ok((already_sent, outbox.continuation()?))
        })?;
        Ok(read.map(|(already_sent, continuation)| Prompt {
            attempt: self.answering.attempt,
            messages: self.messages.iter().map(PromptMessage::from).collect(),
            already_sent: already_sent.into_iter().map(|chat| chat.text).collect(),
            continuation,
            destinations: self.destinations.iter().map(|it| it.name.clone()).collect(),
            max_turns: self.config.max_turns,
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
        let reins = worker.start(prompt).map_err(|Gone| failed("it has gone"))?;
        self.runner.worker = Some(worker);
        self.runner.in_turn = true;
        Ok(reins)
    }

    /// Keeps the limits and does what the provider says, until it has ended the turn.
    fn drive(&mut self, reins: &Reins) -> Result<End, Exit> {
        if self.runner.stop.requested() {
            self.begin_grace();
        }
        loop {
            let now = self.runner.clock.monotonic();
            self.keep_limits(now, reins);
            if let Some(cut) = &self.cut
                && now >= cut.give_up_at
            {
                return Ok(End::Stuck(cut.failure.clone()));
            }
            if now >= self.next_look {
                self.next_look = now + self.runner.look_interval();
                self.offer_follow_ups(reins)?;
            }
            let event = match self.runner.events.recv_timeout(self.next_limit().since(now)) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => unreachable!("we hold a sender ourselves"),
            };
            match event {
                Event::Wake => self.offer_follow_ups(reins)?,
                Event::Terminate => self.begin_grace(),
                Event::Said(said) if self.cut.is_none() => self.hear(said, reins)?,
                Event::Said(_) => {} // after the cut nothing counts
                Event::Ended(outcome) => {
                    self.runner.in_turn = false;
                    return Ok(End::Outcome(match self.cut.take() {
                        Some(cut) => Err(cut.failure),
                        None => outcome,
                    }));
                }
            }
        }
    }

    fn begin_grace(&mut self) {
        let end = self.runner.clock.monotonic() + self.runner.options.grace;
        self.grace_end.get_or_insert(end);
    }

    /// The next instant at which something has to be decided.
    fn next_limit(&self) -> Monotonic {
        if let Some(cut) = &self.cut {
            return cut.give_up_at;
        }
        let tool = self.tool.as_ref().map(|(_, _, end)| *end);
        [Some(self.deadline), Some(self.next_look), self.grace_end, tool]
            .into_iter()
            .flatten()
            .min()
            .expect("a turn always has a deadline")
    }

    fn keep_limits(&mut self, now: Monotonic, reins: &Reins) {
        if self.cut.is_some() {
            return;
        }
        let failure = if let Some((name, span, end)) = &self.tool
            && now >= *end
        {
            let detail = format!("the tool {name} ran for longer than {} ms", span.as_millis());
            Failure::retryable(Failure::TIMEOUT, detail)
        } else if now >= self.deadline {
            let span = self.config.turn_timeout_sec;
            let during = match &self.tool {
                Some((name, _, _)) => format!(", in the tool {name}"),
                None => String::new(),
            };
            let detail = format!("the turn took longer than {span} s{during}");
            Failure::retryable(Failure::TIMEOUT, detail)
        } else if self.grace_end.is_some_and(|end| now >= end) {
            Failure::retryable(Failure::RELEASED, "the runner was told to leave")
        } else {
            return;
        };
        self.cut(failure, reins);
    }

    fn cut(&mut self, failure: Failure, reins: &Reins) {
        reins.cancel();
        let give_up_at = self.runner.clock.monotonic() + STOP_PATIENCE;
        self.cut = Some(Cut { failure, give_up_at });
    }

    /// Claims what has arrived for this conversation and offers it to the provider.
    fn offer_follow_ups(&mut self, reins: &Reins) -> Result<(), Exit> {
        // A message that was tried before has its turn for itself: it may be what kills runners.
        if self.cut.is_some() || self.grace_end.is_some() || self.answering.attempt > 0 {
            return Ok(());
        }
        let origin: Origin = self.answering.origin.clone();
        // What cannot be looked at now is seen by the next look.
        let Ok(look) = self.runner.look(Purpose::FollowUp(&origin)) else { return Ok(()) };
        let claimed = self.runner.claim(look.chosen)?;
        if !claimed.is_empty() {
            reins.push(Push::FollowUp(claimed.iter().map(PromptMessage::from).collect()));
            self.offered.extend(claimed);
        }
        Ok(())
    }

    fn hear(&mut self, said: Said, reins: &Reins) -> Result<(), Exit> {
        let ids = &SystemIds;
        match said {
            Said::Reply { text, files } => {
                self.drafts.reply(&self.answering, text, ids);
                for file in files {
                    self.attach(file, reins);
                }
            }
            Said::System(request) => self.drafts.system(&self.answering, request, ids),
            Said::File(file) => self.attach(file, reins),
            Said::Send { to, text } => self.send(&to, text, reins)?,
            Said::ToolStarted { name, timeout } => {
                let span = timeout.unwrap_or(self.config.tool_timeout());
                let end = self.runner.clock.monotonic() + span;
                self.worked = true;
                self.show_tool(Some((&name, span)));
                self.tool = Some((name, span, end));
            }
            Said::ToolFinished => {
                self.tool = None;
                self.show_tool(None);
            }
            Said::Turns(count) => {
                self.turns = self.turns.saturating_add(count);
                let (taken, allowed) = (self.turns, self.config.max_turns);
                if taken > allowed {
                    let detail = format!("it took {taken} model turns, {allowed} are allowed");
                    self.cut(Failure::permanent(Failure::TURN_LIMIT, detail), reins);
                }
            }
            Said::Used(ids) => self.use_follow_ups(&ids.into_iter().collect()),
            Said::Exit(code) => return Err(Exit::Asked(code)),
        }
        Ok(())
    }

    fn attach(&mut self, file: crate::event::Attachment, reins: &Reins) {
        let name = file.name.clone();
        if let Err(error) = self.drafts.file(&self.answering, file, &SystemIds) {
            let detail = format!("could not store the file {name:?}: {error}");
            say!("{detail}");
            self.cut(Failure::retryable(Failure::PROVIDER_ERROR, detail), reins);
        }
    }

    /// The host shows the tool and stretches a limit of its own for it; a turn does not depend on
    /// that, so an error is only reported.
    fn show_tool(&self, tool: Option<(&str, Duration)>) {
        let now = self.runner.clock.now();
        if let Err(error) = self.runner.outbox.with(|outbox| outbox.set_tool(tool, now)) {
            say!("{}", crate::say::chain(&error));
        }
    }

    fn use_follow_ups(&mut self, ids: &HashSet<MessageId>) {
        let (used, rest) = std::mem::take(&mut self.offered)
            .into_iter()
            .partition::<Vec<_>, _>(|message| ids.contains(&message.id));
        self.offered = rest;
        self.messages.extend(used);
        self.answering = Answering::of(&self.messages).expect("a turn only grows");
    }

    /// Sends one row now. A name that is not known does not end the turn: the provider is told.
    fn send(&mut self, to: &str, text: String, reins: &Reins) -> Result<(), Exit> {
        let refuse = |reason: String| {
            let detail = format!("could not send to {to:?}: {reason}");
            say!("{detail}");
            reins.push(Push::Notice(detail));
        };
        let content = self.answering.chat(&text, &[]);
        if let Err(reason) = check_size(&content) {
            refuse(reason);
            return Ok(());
        }
        if !self.destinations.iter().any(|known| known.name == to) {
            // It may be newer than the turn.
            self.destinations = self.runner.destinations().unwrap_or_default();
        }
        let Some(place) = self.destinations.iter().find(|known| known.name == to) else {
            refuse("there is no such destination".to_owned());
            return Ok(());
        };
        let destination = Origin {
            channel_type: Some(place.channel_type.clone()),
            platform_id: Some(place.platform_id.clone()),
            thread_id: None,
        };
        let row = NewRow {
            destination,
            ..self.answering.row(new_row_id(&SystemIds), KIND_CHAT, content)
        };
        let claims: Vec<Claim> = self.messages.iter().map(claim_of).collect();
        let now = self.runner.clock.now();
        let sent = self.write(|outbox, floor| outbox.send(&claims, &row, floor, now))?;
        match sent {
            Some(_) => {
                fault::point(CrashPoint::RunnerSent);
                self.worked = true;
                self.sent.push(text);
            }
            None => {
                let failure =
                    Failure::retryable(Failure::PROVIDER_ERROR, "the outbox could not be written");
                self.cut(failure, reins);
            }
        }
        Ok(())
    }

    /// Insists on an operation for as long as this turn may last.
    fn write<T>(
        &self,
        mut work: impl FnMut(
            &mut twobox_shared::outbox::OutboxWriter,
            Seq,
        ) -> Result<T, twobox_shared::open::BoxError>,
    ) -> Result<Option<T>, Exit> {
        let may_go_on =
            || !self.runner.stop.requested() && self.runner.clock.monotonic() < self.deadline;
        self.runner.outbox.insist(may_go_on, |outbox| work(outbox, self.runner.floor))
    }

    /// Commits how the turn ended.
    fn finish(mut self, end: End) -> Result<Left, Exit> {
        let stuck = matches!(end, End::Stuck(_));
        let outcome = match end {
            End::Outcome(outcome) => outcome.and_then(|done| self.result(done)),
            End::Stuck(failure) => Err(failure),
        };
        if self.tool.take().is_some() {
            self.show_tool(None);
        }
        fault::point(CrashPoint::RunnerTurnDone);
        let claims: Vec<Claim> = self.messages.iter().map(claim_of).collect();
        let turns = i64::from(self.turns);
        match &outcome {
            Ok((rows, continuation)) => {
                let continuation = continuation.as_deref();
                let end = TurnEnd { claims: &claims, outcome: Ok(rows), turns, continuation };
                self.runner.end_turn(&end)?;
                fault::point(CrashPoint::RunnerAnswered);
            }
            Err(failure) => {
                let reason = &failure.reason;
                say!("a turn failed ({reason}): {}", failure.detail);
                self.drafts.discard();
                let outcome = Err(failure);
                let end = TurnEnd { claims: &claims, outcome, turns, continuation: None };
                self.runner.end_turn(&end)?;
                fault::point(CrashPoint::RunnerFailed);
            }
        }
        Ok(Left { unused: self.offered, stuck })
    }

    /// What a turn that the provider calls done commits.
    fn result(&mut self, done: Done) -> Result<(Vec<NewRow>, Option<String>), Failure> {
        if self.drafts.is_empty() && !self.worked && !done.silent {
            let detail = "the provider answered nothing";
            return Err(Failure::retryable(Failure::PROVIDER_ERROR, detail));
        }
        let too_large = |reason| {
            Failure::permanent(
                Failure::PROVIDER_ERROR,
                format!("the answer cannot be sent: {reason}"),
            )
        };
        Ok((self.drafts.rows().map_err(too_large)?, done.continuation))
    }
}
