//! What happens during a turn: what the provider says, what arrives meanwhile, and the limits.

use std::collections::HashSet;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use twobox_shared::clock::Monotonic;
use twobox_shared::content::{Failure, KIND_CHAT, shorten};
use twobox_shared::errors::chain;
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::{MessageId, SystemIds};
use twobox_shared::inbox::{InboundMessage, Origin, Purpose};
use twobox_shared::outbox::{Claim, NewRow, new_row_id};

use super::{End, Turn, claim_of, shown};
use crate::drafts::{Answering, Unstored, check_size};
use crate::event::{Asked, Attachment, Event, Said};
use crate::exit::Exit;
use crate::provider::{Push, Reins};
use crate::say::say;
use crate::wake::CLOSE_PATIENCE;

/// How long a cancelled provider has to come back before the process gives itself up.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// A turn that was cut short, until its provider has come back.
pub(super) struct Cut {
    failure: Failure,
    give_up_at: Monotonic,
}

impl Turn<'_, '_> {
    /// Keeps the limits and does what the provider says, until it has ended the turn.
    pub(super) fn drive(&mut self, reins: &Reins) -> Result<End, Exit> {
        if self.runner.stop.requested() {
            self.begin_grace();
        }
        loop {
            let now = self.runner.clock.monotonic();
            if self.cut.is_none()
                && let Some(failure) = self.limits.reached(now)
            {
                self.cut(failure, reins);
            }
            if let Some(cut) = &self.cut
                && now >= cut.give_up_at
            {
                return Ok(End::Stuck(cut.failure.clone()));
            }
            if now >= self.next_look {
                self.look(reins)?;
            }
            self.shown.write(now);
            let event = match self.runner.events.recv_timeout(self.next_limit().since(now)) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => unreachable!("we hold a sender ourselves"),
            };
            match event {
                Event::Wake => self.look(reins)?,
                Event::Committed => {
                    let closed = self.runner.clock.monotonic() + CLOSE_PATIENCE;
                    self.next_look = self.next_look.min(closed);
                }
                Event::Terminate => self.begin_grace(),
                Event::Said(said) if self.cut.is_none() => {
                    for wrong in self.hear(said, reins)? {
                        reins.push(Push::Notice(wrong));
                    }
                }
                Event::Asked(asked) if self.cut.is_none() && asked.turn == self.number => {
                    self.answer_tool(asked, reins)?;
                }
                Event::Said(_) | Event::Asked(_) => {} // after the cut nothing counts
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
        self.limits.begin_grace(end);
    }

    /// The next instant at which something has to be decided.
    fn next_limit(&self) -> Monotonic {
        match &self.cut {
            Some(cut) => cut.give_up_at,
            None => {
                let next = self.limits.next().min(self.next_look);
                self.shown.due().map_or(next, |due| due.min(next))
            }
        }
    }

    pub(super) fn cut(&mut self, failure: Failure, reins: &Reins) {
        reins.cancel();
        let give_up_at = self.runner.clock.monotonic() + STOP_PATIENCE;
        self.cut = Some(Cut { failure, give_up_at });
    }

    /// Looks at what has happened in the inbox.
    fn look(&mut self, reins: &Reins) -> Result<(), Exit> {
        self.runner.outbox.ground().check()?;
        self.next_look = self.runner.clock.monotonic() + self.runner.look_interval();
        if self.cut.is_none()
            && let Some(failure) = self.taken_back()
        {
            self.cut(failure, reins);
        }
        self.look_for_answers()?;
        match self.of_run {
            true => Ok(()),
            false => self.offer_follow_ups(reins),
        }
    }

    /// How the turn ends, if the host has taken back what it is for. Of something that is one of several
    /// nobody can tell the provider not to answer it: the others are given back, and each gets a turn
    /// without it.
    fn taken_back(&self) -> Option<Failure> {
        let of_people = |message: &&InboundMessage| message.trigger && message.kind == KIND_CHAT;
        let said = self.messages.iter().filter(of_people).map(|message| &message.id);
        let gone = self.runner.taken_back(self.wanted.iter().chain(said.clone()));
        if !self.wanted.is_empty() && self.wanted.iter().all(|id| gone.contains(id)) {
            let detail = "the host has taken back what this turn is for";
            return Some(Failure::permanent(Failure::ABORTED, detail));
        }
        let one_of_several = said.clone().any(|id| gone.contains(id));
        one_of_several.then(|| {
            let detail =
                "the host has taken back a message of this turn; the others are tried again";
            Failure::retryable(Failure::RELEASED, detail)
        })
    }

    /// Claims what has arrived for this conversation and offers it to the provider.
    fn offer_follow_ups(&mut self, reins: &Reins) -> Result<(), Exit> {
        // A message that was tried before has its turn for itself: it may be what kills runners.
        if self.cut.is_some() || self.limits.is_leaving() || self.answering.attempt > 0 {
            return Ok(());
        }
        let origin: Origin = self.answering.origin.clone();
        // What cannot be looked at now is seen by the next look.
        let Ok(look) = self.runner.look(Purpose::FollowUp(&origin)) else { return Ok(()) };
        let claimed = self.runner.claim(look.chosen)?.unwrap_or_default();
        if !claimed.is_empty() {
            reins.push(Push::FollowUp(shown(&claimed)));
            if !self.wanted.is_empty() {
                self.wanted.extend(claimed.iter().map(|message| message.id.clone()));
            }
            self.offered.extend(claimed);
        }
        Ok(())
    }

    /// Does what a tool says. Where that ends the turn, whoever waits hears nothing.
    fn answer_tool(&mut self, asked: Asked, reins: &Reins) -> Result<(), Exit> {
        let Asked { said, answer, .. } = asked;
        let wrong = self.hear(said, reins)?;
        if self.cut.is_none() {
            let outcome = match wrong.as_slice() {
                [] => Ok(()),
                several => Err(several.join("; ")),
            };
            drop(answer.send(outcome)); // whoever asked has gone
        }
        Ok(())
    }

    /// Does what is said, and returns what of it could not be done.
    fn hear(&mut self, said: Said, reins: &Reins) -> Result<Vec<String>, Exit> {
        let (ids, mut wrong) = (&SystemIds, Vec::new());
        match said {
            Said::Reply { text, files, answers } => {
                let one = answers.and_then(|id| Answering::one(&self.messages, &id));
                let answering = one.unwrap_or_else(|| self.answering.clone());
                self.drafts.reply(&answering, text, ids);
                for file in files {
                    wrong.extend(self.attach(&answering, file, reins));
                }
            }
            Said::System(request) => match self.limits.ask_later(&request) {
                Ok(()) => self.drafts.system(&self.answering, request, ids),
                Err(why) => wrong.push(why),
            },
            Said::File(file) => wrong.extend(self.attach(&self.answering.clone(), file, reins)),
            Said::Send { to, text } => wrong.extend(self.send(&to, text, reins)?),
            Said::ReplyNow(text) => {
                let back = self.answering.origin.clone();
                wrong.extend(self.send_at_once("whoever is answered", back, text, reins)?);
            }
            Said::ToolStarted { name, timeout } => {
                let span = timeout.unwrap_or(self.config.tool_timeout());
                let now = self.runner.clock.monotonic();
                self.worked = true;
                // Beside one that waits for a person: its time begins when nobody is waited for any more.
                if !self.open.is_empty() {
                    self.before_asking = Some((name, span));
                    return Ok(wrong);
                }
                self.shown.tool(Some(&name));
                self.show_tool(Some((&name, span)));
                self.limits.tool_started(name, now, span);
            }
            Said::ToolFinished => {
                if !self.open.is_empty() {
                    self.before_asking = None;
                    return Ok(wrong);
                }
                self.shown.tool(None);
                self.limits.tool_ended();
                self.show_tool(None);
            }
            Said::Asks { is_answer } => self.shown.asks(is_answer),
            Said::Anew => self.shown.begin_anew(),
            Said::Words(words) => self.shown.words(&words),
            Said::Turns(count) => {
                if let Err(failure) = self.limits.count(count) {
                    self.cut(failure, reins);
                }
            }
            Said::Ask(asking, reply) => self.ask(&asking, reply, reins)?,
            Said::Used(ids) => self.use_follow_ups(&ids.into_iter().collect(), reins)?,
            Said::Exit(code) => return Err(Exit::Asked(code)),
        }
        Ok(wrong)
    }

    /// Returns why the file cannot be attached, if so.
    fn attach(&mut self, answering: &Answering, file: Attachment, reins: &Reins) -> Option<String> {
        let name = file.name.clone();
        match self.drafts.file(answering, file, &SystemIds) {
            Ok(()) => None,
            // No reason to lose the answer: both sides hear which file is missing, and why.
            Err(Unstored::Unfit(reason)) => {
                let detail = format!("could not attach the file {name:?}: {reason}");
                say!("{detail}");
                let name = shorten(&name, 80);
                let remark = format!("(The file {name:?} could not be attached: {reason}.)");
                self.drafts.remark(answering, &remark, &SystemIds);
                Some(detail)
            }
            Err(Unstored::Trouble(error)) => {
                let detail = format!("could not store the file {name:?}: {error}");
                say!("{detail}");
                self.cut(Failure::retryable(Failure::PROVIDER_ERROR, detail), reins);
                None
            }
        }
    }

    /// The host shows the tool and stretches a limit of its own for it; a turn does not depend on
    /// that, so an error is only reported.
    pub(super) fn show_tool(&self, tool: Option<(&str, Duration)>) {
        let now = self.runner.clock.now();
        if let Err(error) = self.runner.outbox.with(|outbox| outbox.set_tool(tool, now)) {
            say!("{}", chain(&error));
        }
    }

    /// Has follow-ups be of this turn, with all that it has used by now.
    fn use_follow_ups(&mut self, ids: &HashSet<MessageId>, reins: &Reins) -> Result<(), Exit> {
        let (used, rest) = std::mem::take(&mut self.offered)
            .into_iter()
            .partition::<Vec<_>, _>(|message| ids.contains(&message.id));
        self.offered = rest;
        let from = self.messages.len();
        self.messages.extend(used);
        self.answering = Answering::of(&self.messages).expect("a turn only grows");
        self.share_uses(from, reins)
    }

    /// Sends one row now, or returns why not. A name that does not exist does not end the turn.
    fn send(&mut self, to: &str, text: String, reins: &Reins) -> Result<Option<String>, Exit> {
        if !self.runner.destinations.iter().any(|known| known.name == to) {
            // It may be newer than the turn. That there is none is only ever what the inbox says.
            let (stop, clock, deadline) =
                (self.runner.stop.clone(), self.runner.clock, self.limits.deadline());
            let go_on = || !stop.requested() && clock.monotonic() < deadline;
            if !self.runner.read_destinations(go_on)? {
                let detail = "the inbox could not be read";
                self.cut(Failure::retryable(Failure::PROVIDER_ERROR, detail), reins);
                return Ok(None);
            }
        }
        let Some(place) = self.runner.destinations.iter().find(|known| known.name == to) else {
            return Ok(Some(unsent(to, "there is no such destination")));
        };
        let asked = &self.answering.origin;
        let is_here = asked.channel_type.as_ref() == Some(&place.channel_type)
            && asked.platform_id.as_ref() == Some(&place.platform_id);
        let destination = Origin {
            channel_type: Some(place.channel_type.clone()),
            platform_id: Some(place.platform_id.clone()),
            // What is said in a thread about that very chat stays in the thread.
            thread_id: asked.thread_id.clone().filter(|_| is_here),
        };
        self.send_at_once(to, destination, text, reins)
    }

    /// Sends something though the turn goes on, or returns why not. `to` is who that is, for people.
    fn send_at_once(
        &mut self,
        to: &str,
        destination: Origin,
        text: String,
        reins: &Reins,
    ) -> Result<Option<String>, Exit> {
        let content = self.answering.chat(&text, &[]);
        if let Err(reason) = check_size(&content) {
            return Ok(Some(unsent(to, &reason)));
        }
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
        Ok(None)
    }
}

/// Why something is not sent, which the log is told too.
fn unsent(to: &str, reason: &str) -> String {
    let detail = format!("could not send to {to:?}: {reason}");
    say!("{detail}");
    detail
}
