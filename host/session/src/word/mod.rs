//! What a person says in a chat to the host: `/stop`, `/status`, `/help`. The host stores such a word, settled,
//! so that it is carried out once however often its channel hands it in, and answers with a notice. What
//! it means for the messages is `survey`, what is answered `said`: both pure.

mod questions;
mod said;
mod survey;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::oneshot;
use twobox_shared::content::Chat;
use twobox_shared::errors::chain;
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{Accepted, Inbox, NewMessage, Origin, PendingMessage};
use twobox_shared::open::BoxError;
use twobox_shared::outbox::ToolState;
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use self::said::{Budget, Now, Report};
use self::survey::{Survey, View};
use super::allowance;
use super::boxes::{Boxes, Writers};
use super::command::Command;
use super::compose::address_of_origin;
use super::decide::Acks;
use super::run::RunOrder;
use super::signal::Reason;
use super::task::{Task, Trouble};
use twobox_model::channel::Refusal;
use twobox_model::chat_word::ChatWord;
use twobox_runtime::Profile;
use twobox_slots::zone::Zone;
use twobox_store::DbError;
use twobox_store::notices::Notice;
use twobox_store::sessions::DUE_NOW;
use twobox_store::storage::passes;
use twobox_store::usage::{By, Day, Used};
use twobox_system::blocking::blocking;

/// What waits in the inbox, and what the outbox says of it.
#[derive(Debug, Default)]
struct AtWork {
    pending: Vec<PendingMessage>,
    /// What was taken back last.
    withdrawn: Vec<PendingMessage>,
    /// `None` if the outbox cannot be read.
    acks: Option<Acks>,
    tool: ToolState,
}

/// How many messages that were taken back are looked at. A turn has fewer.
const WITHDRAWN_MAX: u32 = 256;

impl Boxes {
    fn at_work(&self, writers: Writers) -> Result<AtWork, BoxError> {
        if !self.has_inbox() {
            return Ok(AtWork { acks: Some(Acks::default()), ..AtWork::default() });
        }
        let mut inbox = Inbox::open_to_read(&self.paths().inbound_db())?;
        let tx = inbox.read()?;
        let (pending, withdrawn) = (tx.pending()?, tx.taken_back(WITHDRAWN_MAX)?);
        let read = self.read(writers, |outbox| {
            let messages = pending.iter().chain(&withdrawn).map(|message| &message.id);
            Ok((outbox.acks(messages)?, outbox.tool()?))
        });
        let (acks, tool) = match read {
            Ok(found) => {
                let (acks, tool) = found.unwrap_or_default();
                (Some(acks), tool)
            }
            // A container that keeps its host from its outbox is stopped all the same.
            Err(error) => {
                tracing::debug!(session = %self.session(), error = chain(&error),
                    "what the container is at cannot be seen");
                (None, ToolState::default())
            }
        };
        Ok(AtWork { pending, withdrawn, acks, tool })
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
        let accepted = self.carry_out_word(word, message).await?;
        self.sweep_budget.earn(1);
        Ok(accepted)
    }

    async fn carry_out_word(
        &mut self,
        word: ChatWord,
        message: NewMessage,
    ) -> Result<Accepted, Refusal> {
        let writers = self.writers();
        let at_work = match word {
            ChatWord::Stop | ChatWord::Status => {
                let boxes = Arc::clone(&self.boxes);
                let at_work = self.at_its_expense(move || boxes.at_work(writers)).await;
                at_work.map_err(|error| self.not_now(&error))?
            }
            ChatWord::Help => AtWork::default(),
        };
        let survey = survey::survey(&View {
            pending: &at_work.pending,
            withdrawn: &at_work.withdrawn,
            acks: at_work.acks.as_ref(),
            living: self.living(),
            told_to_stop: &self.told_to_stop,
        });
        let now = self.now();
        let stops = match word {
            ChatWord::Stop => survey.stops(&message.origin, now),
            ChatWord::Status | ChatWord::Help => Vec::new(),
        };
        let (boxes, seen, stored) = (Arc::clone(&self.boxes), self.seen, message.clone());
        let stored = blocking(move || boxes.accept_word(&stored, &stops, seen, now)).await;
        let (accepted, stopped) = stored.map_err(|error| self.not_now(&error))?;
        if !stopped.is_empty() {
            self.end_run().await;
        }
        let answered =
            self.answer_word(word, &message, &accepted, stopped, &at_work, &survey).await;
        answered.map_err(|trouble| self.unanswered(&trouble))?;
        Ok(accepted)
    }

    /// Whether somebody may be writing into the outbox.
    fn writers(&self) -> Writers {
        match (&self.container, self.record.runner) {
            (None, None) => Writers::None,
            _ => Writers::Possible,
        }
    }

    /// Has everybody told whom it concerns: first those whose messages were `stopped` from elsewhere, then who
    /// said the word. One that was answered before is not answered again.
    async fn answer_word(
        &mut self,
        word: ChatWord,
        message: &NewMessage,
        accepted: &Accepted,
        stopped: Vec<MessageId>,
        at_work: &AtWork,
        survey: &Survey,
    ) -> Result<(), Trouble> {
        let stopped = match accepted.duplicate {
            false => stopped,
            true => match self.untold(accepted, &at_work.withdrawn).await? {
                Some(untold) if word == ChatWord::Stop => untold,
                Some(_) => Vec::new(),
                None => return Ok(()),
            },
        };
        self.end_questions(message, &stopped).await?;
        let now = self.now();
        let text = match word {
            ChatWord::Stop if accepted.duplicate => said::stopped_before(stopped.len()),
            ChatWord::Stop => self.say_stopped(survey, &at_work.tool, &stopped),
            ChatWord::Status => self.say_status(survey, &at_work.tool, now).await,
            ChatWord::Help => {
                said::help(self.profile().await.as_ref().map(|it| &it.agent.provider))
            }
        };
        let (boxes, ids) = (Arc::clone(&self.boxes), stopped.iter().cloned().collect());
        let mut origins = match stopped.is_empty() {
            true => HashMap::new(),
            false => blocking(move || boxes.origins(ids)).await?,
        };
        // An id is unique where its message was said.
        let (mut here, mut elsewhere) = (Vec::new(), BTreeMap::<Origin, Vec<MessageId>>::new());
        for id in stopped {
            match origins.remove(&id) {
                Some(origin) if origin == message.origin => here.push(id),
                Some(origin) => elsewhere.entry(origin).or_default().push(id),
                None => {} // nobody said it in a chat
            }
        }
        for (origin, messages) in elsewhere {
            let Some((first, others)) = messages.split_first() else { continue };
            let address = address_of_origin(&origin, &self.reply_address);
            let text = said::stopped_elsewhere(messages.len());
            let notice = Notice::stopped_elsewhere(first, others, address, text, now);
            self.notify_person(notice).await?;
        }
        let address = address_of_origin(&message.origin, &self.reply_address);
        self.notify_person(Notice::of_word(&accepted.id, here, address, text, now)).await
    }

    /// Those of the `withdrawn` messages that were there before `word`, and of which nobody was told. `None` if
    /// `word` was answered.
    async fn untold(
        &self,
        word: &Accepted,
        withdrawn: &[PendingMessage],
    ) -> Result<Option<Vec<MessageId>>, DbError> {
        let told = self.core.parts.store.notices().answered(self.id).await?;
        if told.contains(&word.id) {
            return Ok(None);
        }
        let is_untold = |it: &&PendingMessage| it.seq < word.seq && !told.contains(&it.id);
        Ok(Some(withdrawn.iter().filter(is_untold).map(|it| it.id.clone()).collect()))
    }

    /// Says that a word was carried out and could not be answered: handed in again, it is only answered.
    fn unanswered(&self, trouble: &Trouble) -> Refusal {
        tracing::warn!(session = %self.id, error = chain(trouble),
            "what a person said to the host was carried out and could not be answered");
        let passes = match trouble {
            Trouble::Db(error) => passes(error),
            Trouble::Box(error) => passes(error),
            Trouble::Lives | Trouble::Closed => true,
        };
        let reason = "it was carried out, but its answer could not be stored".to_owned();
        Refusal::TryAgain { reason, passes }
    }

    /// What is said of what was `stopped`. Where what was stopped before goes on, its container is ended: as
    /// a command of its own, for nobody who has said something waits for the runtime.
    fn say_stopped(&mut self, survey: &Survey, tool: &ToolState, stopped: &[MessageId]) -> String {
        if let Some(message) = survey.stopping.first().cloned() {
            let (reply, _nobody) = oneshot::channel();
            self.backlog.push_back(Command::Run { message, order: RunOrder::Stop, reply });
            if !survey.unseen {
                self.told_to_stop.clear();
            }
            return said::FORCED.to_owned();
        }
        self.told_to_stop = stopped.to_vec();
        said::stopped(survey, stopped.len(), &self.is_at(tool))
    }

    /// What its container is at, as far as was seen.
    fn is_at(&self, tool: &ToolState) -> Now {
        let now = self.core.parts.clock.monotonic();
        let since = self.container.as_ref().and_then(|container| container.vitals.busy_since());
        Now { span: since.map(|since| now.since(since)), tool: tool.current.clone() }
    }

    async fn say_status(&mut self, survey: &Survey, tool: &ToolState, now: UnixMillis) -> String {
        let zone = &self.core.zone;
        let profile = self.profile().await;
        let limit = profile.as_ref().map(|it| allowance::of(it).limit).unwrap_or_default();
        let own = match self.used_today(zone, now).await {
            Ok(used) => Some(Budget { used, limit }),
            Err(error) => {
                tracing::warn!(session = %self.id, error = chain(&error),
                    "what was used today cannot be read");
                None
            }
        };
        said::status(&Report {
            survey,
            at: self.is_at(tool),
            starts: self.record.runner.is_some() || self.container.is_some(),
            provider: profile.as_ref().map(|it| &it.agent.provider),
            own,
            now,
            zone,
        })
    }

    /// What its agent has used today.
    async fn used_today(&self, zone: &Zone, now: UnixMillis) -> Result<Used, DbError> {
        let (today, usage) = (Day::before(zone, now, 0), self.core.parts.store.usage());
        let lines = usage.report(By::Agent, today.clone(), today).await?;
        let own = self.record.agent_group.to_string();
        let lines = lines.iter().filter(|line| line.key == own);
        Ok(lines.fold(Used::default(), |sum, line| sum.and(&line.used)))
    }

    /// How its agent runs; `None` if nobody can read it, of which others complain.
    pub(super) async fn profile(&self) -> Option<Profile> {
        let source = self.core.parts.data.agent_config(&self.record.agent_folder);
        let settings = self.core.parts.config.containers.clone();
        blocking(move || Profile::load(&source, &settings)).await.ok()
    }
}
