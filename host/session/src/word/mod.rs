//! What a person says in a chat to the host: `/stop`, `/status`, `/help`. The host stores such a word, settled,
//! so that it is carried out once however often its channel hands it in, and answers with a notice. What
//! it means for the messages is `survey`, what is answered `said`: both pure.

mod said;
mod survey;

use std::sync::Arc;

use tokio::sync::oneshot;
use twobox_shared::content::Chat;
use twobox_shared::errors::chain;
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{Accepted, Inbox, NewMessage, PendingMessage};
use twobox_shared::open::BoxError;
use twobox_shared::outbox::ToolState;
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use self::said::{Budget, Now, Report};
use self::survey::Survey;
use super::allowance;
use super::boxes::{Boxes, Writers};
use super::command::Command;
use super::compose::address_of_origin;
use super::decide::Acks;
use super::run::{RunOrder, RunState};
use super::signal::Reason;
use super::task::{Task, Trouble};
use twobox_gateway::price;
use twobox_model::channel::Refusal;
use twobox_model::chat_word::ChatWord;
use twobox_runtime::Profile;
use twobox_slots::zone::Zone;
use twobox_store::DbError;
use twobox_store::notices::Notice;
use twobox_store::sessions::DUE_NOW;
use twobox_store::usage::{By, Day, Used};
use twobox_system::blocking::blocking;

/// What waits in the inbox, and what the outbox says of it.
#[derive(Debug, Default)]
struct AtWork {
    pending: Vec<PendingMessage>,
    acks: Acks,
    tool: ToolState,
}

impl Boxes {
    fn at_work(&self, writers: Writers) -> Result<AtWork, BoxError> {
        if !self.has_inbox() {
            return Ok(AtWork::default());
        }
        let pending = Inbox::open_to_read(&self.paths().inbound_db())?.read()?.pending()?;
        let read = self.read(writers, |outbox| {
            Ok((outbox.acks(pending.iter().map(|message| &message.id))?, outbox.tool()?))
        })?;
        let (acks, tool) = read.unwrap_or_default();
        Ok(AtWork { pending, acks, tool })
    }

    /// Stores a word and takes back what it stops, both or neither, and once. Returns what was taken back.
    fn accept_word(
        &self,
        word: &NewMessage,
        stops: &[MessageId],
        seen: Seq,
        now: UnixMillis,
    ) -> Result<(Accepted, Vec<MessageId>), BoxError> {
        self.create()?;
        let mut inbox = Inbox::open(&self.paths().inbound_db())?;
        let tx = inbox.write()?;
        let accepted = tx.accept(word, seen, now)?;
        let mut stopped = Vec::new();
        if !accepted.duplicate {
            for message in stops {
                if tx.withdraw(message)? {
                    stopped.push(message.clone());
                }
            }
        }
        tx.commit()?;
        Ok((accepted, stopped))
    }
}

impl Task {
    /// Carries out what a person said to the host, and has them told what came of it.
    pub(super) async fn take_word(&mut self, message: NewMessage) -> Result<Accepted, Refusal> {
        self.takes_messages()?;
        let Some(word) = ChatWord::of(&Chat::from_content(&message.content).text) else {
            let reason = "this is no word that the host knows; /help shows them".to_owned();
            return Err(Refusal::Blocked { reason }); // nobody hands such a thing in
        };
        self.mark(Some(DUE_NOW)).await.map_err(|error| self.not_now(&error))?;
        self.looks.overtake();
        self.handle.signal.raise(Reason::Due);
        match self.carry_out_word(word, message).await {
            Ok(accepted) => {
                self.sweep_budget.earn(1);
                Ok(accepted)
            }
            Err(Trouble::Box(error)) => Err(self.not_now(&error)),
            Err(Trouble::Db(error)) => Err(self.not_now(&error)),
            Err(trouble @ (Trouble::Lives | Trouble::Closed)) => {
                Err(Refusal::TryAgain { reason: chain(&trouble), passes: true })
            }
        }
    }

    async fn carry_out_word(
        &mut self,
        word: ChatWord,
        message: NewMessage,
    ) -> Result<Accepted, Trouble> {
        let writers = match (&self.container, self.record.runner) {
            (None, None) => Writers::None,
            _ => Writers::Possible,
        };
        let boxes = Arc::clone(&self.boxes);
        let at_work = self.at_its_expense(move || boxes.at_work(writers)).await?;
        let survey = survey::survey(&at_work.pending, &at_work.acks, self.living());
        let now = self.now();
        let stops = match word {
            ChatWord::Stop => survey.stops(&message.origin),
            ChatWord::Status | ChatWord::Help => Vec::new(),
        };
        let (boxes, seen, stored) = (Arc::clone(&self.boxes), self.seen, message.clone());
        let (accepted, stopped) =
            blocking(move || boxes.accept_word(&stored, &stops, seen, now)).await?;
        let text = match word {
            ChatWord::Stop if accepted.duplicate => said::STOPPED_BEFORE.to_owned(),
            ChatWord::Stop => self.say_stopped(&survey, &at_work.tool, &stopped).await?,
            ChatWord::Status => self.say_status(&survey, &at_work.tool, now).await?,
            ChatWord::Help => {
                said::help(self.profile().await.as_ref().map(|it| &it.agent.provider))
            }
        };
        // Where an id is unique, and so means the message that was said there.
        let here = |id: &MessageId| {
            at_work.pending.iter().any(|it| it.id == *id && it.origin == message.origin)
        };
        let others = stopped.into_iter().filter(here).collect();
        let address = address_of_origin(&message.origin, &self.reply_address);
        self.notify_person(Notice::of_word(&accepted.id, others, address, text, now)).await?;
        Ok(accepted)
    }

    /// What is said of what was `stopped`. Where that is nothing, and what was stopped before goes on, its
    /// container is ended: as a command of its own, for nobody who has said something waits for the runtime.
    async fn say_stopped(
        &mut self,
        survey: &Survey,
        tool: &ToolState,
        stopped: &[MessageId],
    ) -> Result<String, Trouble> {
        if stopped.is_empty() {
            for message in std::mem::take(&mut self.told_to_stop) {
                if self.run_state(&message).await? == RunState::Going {
                    let (reply, _nobody) = oneshot::channel();
                    self.backlog.push_back(Command::Run { message, order: RunOrder::Stop, reply });
                    return Ok(said::FORCED.to_owned());
                }
            }
        }
        self.told_to_stop = stopped.to_vec();
        Ok(said::stopped(survey, stopped.len(), &self.is_at(tool)))
    }

    /// What its container is at, as far as was seen.
    fn is_at(&self, tool: &ToolState) -> Now {
        let now = self.core.parts.clock.monotonic();
        let since = self.container.as_ref().and_then(|container| container.vitals.busy_since());
        Now { span: since.map(|since| now.since(since)), tool: tool.current.clone() }
    }

    async fn say_status(
        &mut self,
        survey: &Survey,
        tool: &ToolState,
        now: UnixMillis,
    ) -> Result<String, Trouble> {
        let zone: Zone = self.core.parts.config.schedule.timezone.parse().unwrap_or(Zone::UTC);
        let profile = self.profile().await;
        let (own, all) = self.used_today(&zone, now).await?;
        let gateway = &self.core.parts.config.gateway;
        let limit_of_all = price::limit(gateway.usd_per_day, gateway.tokens_per_day);
        let limit = profile.as_ref().map(|it| allowance::of(it).limit).unwrap_or_default();
        Ok(said::status(&Report {
            survey,
            at: self.is_at(tool),
            starts: self.record.runner.is_some() || self.container.is_some(),
            provider: profile.as_ref().map(|it| &it.agent.provider),
            own: Budget { used: own, limit },
            all: Budget { used: all, limit: limit_of_all },
            now,
            zone: &zone,
        }))
    }

    /// What its agent, and what all agents, have used today.
    async fn used_today(&self, zone: &Zone, now: UnixMillis) -> Result<(Used, Used), DbError> {
        let (today, usage) = (Day::before(zone, now, 0), self.core.parts.store.usage());
        let lines = usage.report(By::Agent, today.clone(), today).await?;
        let own = self.record.agent_group.to_string();
        let of = |lines: &mut dyn Iterator<Item = &twobox_store::usage::Line>| {
            lines.fold(Used::default(), |sum, line| sum.and(&line.used))
        };
        Ok((of(&mut lines.iter().filter(|line| line.key == own)), of(&mut lines.iter())))
    }

    /// How its agent runs; `None` if nobody can read it, of which others complain.
    async fn profile(&self) -> Option<Profile> {
        let source = self.core.parts.data.agent_config(&self.record.agent_folder);
        let settings = self.core.parts.config.containers.clone();
        blocking(move || Profile::load(&source, &settings)).await.ok()
    }
}
