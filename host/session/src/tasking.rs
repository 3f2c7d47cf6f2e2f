//! What a person wants done with a task that an agent has put off: it is ended, paused or let go on, and
//! the agent is told, in one transaction of the inbox. What follows is decided as for the agent's own
//! requests, in [`super::requests`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use twobox_shared::content::Chat;
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{Inbox, InboxTx, NewMessage, Occurrence, Origin};
use twobox_shared::open::BoxError;
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use super::boxes::{Boxes, Writers, make_room};
use super::requests::{self, RequestView};
use super::serving::{apply, at_work};
use super::task::{Task, Trouble};
use twobox_model::channel::TaskVerb;
use twobox_shared::errors::chain;
use twobox_store::sessions::DUE_NOW;

/// What the agent is told besides, where it may make no task.
const NOT_AGAIN: &str = "This host lets no agent put tasks off, so it cannot be made again.";

/// What it is told where it may.
const UNASKED: &str = "Do not undo it unless somebody asks you to.";

/// A person's order, and what it depends on.
struct Wish {
    verb: TaskVerb,
    /// The id of the task, as the person gave it.
    task: String,
    /// The id of the message that tells the agent.
    note: MessageId,
    may_make: bool,
    min_interval: Duration,
    writers: Writers,
    seen: Seq,
    now: UnixMillis,
}

impl Task {
    /// Carries out a person's order about a task of this session. Returns what was done, for people.
    ///
    /// # Errors
    /// Why nothing was.
    pub(super) async fn handle_task(
        &mut self,
        verb: TaskVerb,
        task: String,
    ) -> Result<String, String> {
        self.try_task(verb, task).await.map_err(|trouble| chain(&trouble))?
    }

    async fn try_task(
        &mut self,
        verb: TaskVerb,
        task: String,
    ) -> Result<Result<String, String>, Trouble> {
        // First, so that whatever comes between them, somebody looks at what is new in the inbox.
        self.mark(Some(DUE_NOW)).await?;
        let note = format!("operator-{}", self.core.parts.ids.uuid());
        let schedule = &self.core.parts.config.schedule;
        let wish = Wish {
            verb,
            task,
            note: MessageId::parse(&note).expect("letters, digits and hyphens"),
            may_make: schedule.agent_tasks,
            min_interval: schedule.min_interval,
            writers: match (&self.container, self.record.runner) {
                (None, None) => Writers::None,
                _ => Writers::Possible,
            },
            seen: self.seen,
            now: self.now(),
        };
        let boxes = Arc::clone(&self.boxes);
        let done = self.at_its_expense(move || boxes.carry_out_wish(&wish)).await?;
        self.look_once_more();
        Ok(done)
    }
}

impl Boxes {
    fn carry_out_wish(&self, wish: &Wish) -> Result<Result<String, String>, BoxError> {
        if !self.has_inbox() {
            return Ok(Err("there are no tasks in this conversation".to_owned()));
        }
        let mut inbox = Inbox::open(&self.paths().inbound_db())?;
        let live = inbox.write()?.live_occurrences()?; // nothing is written, and the rest waits for none
        let ids: Vec<MessageId> = live.into_iter().map(|(row, _)| row.id).collect();
        let acks: HashMap<_, _> = self
            .read(wish.writers, |outbox| outbox.acks(&ids))?
            .map(|acks| acks.into_iter().collect())
            .unwrap_or_default();
        let working = at_work(&acks);
        let tx = inbox.write()?;
        let tasks = tx.live_occurrences()?;
        let view = RequestView {
            now: wish.now,
            min_interval: wish.min_interval,
            may_make: true, // the person may
            series: "",
            origin: &Origin::default(),
            refusal: None,
            tasks: &tasks,
            asked: None,
            at_work: &|row: &Occurrence| {
                working.get(&row.id).is_some_and(|attempt| *attempt >= row.tries)
            },
        };
        let request = json!({ "action": wish.verb.action(), "id": wish.task }).to_string();
        let response = requests::respond(&view, &wish.note, &request);
        if let Some(refusal) = response.refusal {
            return Ok(Err(refusal));
        }
        let said: Value = serde_json::from_str(&response.answer).expect("it was just written");
        let said = said["text"].as_str().unwrap_or_default().to_owned();
        apply(&tx, &response.effect, wish.seen, wish.now)?;
        wish.tell(&tx, &said)?;
        tx.commit()?;
        Ok(Ok(said))
    }
}

impl Wish {
    /// Tells the agent: context of its next turn, for which what waits the longest makes room.
    fn tell(&self, tx: &InboxTx<'_>, said: &str) -> Result<(), BoxError> {
        let rest = match (self.verb, self.may_make) {
            (TaskVerb::Resume, _) => "",
            (_, false) => NOT_AGAIN,
            (_, true) => UNASKED,
        };
        let text = format!("The operator of this host has done this, not you. {said} {rest}");
        make_room(tx)?;
        let note = NewMessage::note(self.note.clone(), Chat::text(text.trim_end()).to_json());
        tx.accept(&note, self.seen, self.now).map(drop)
    }
}
