//! What is said in a chat where something was asked, and decides that. All agents that listen there hear it.
//! Each of their sessions judges it by what all of them ask: what answers one of them is a message to none.
//! What was asked there by a session that hears nothing there, as a run of a schedule, is decided by all who do,
//! of whom one is first.
//! A message is judged once, and is a message or an answer from then on, however often its channel hands it
//! in.

use std::collections::HashSet;
use std::sync::Arc;

use twobox_shared::content::{Chat, KIND_CHAT, KIND_WORD, digest16};
use twobox_shared::ids::{ApprovalId, SessionId};
use twobox_shared::inbox::{Inbox, NewMessage};
use twobox_shared::open::BoxError;

use crate::boxes::Boxes;
use crate::compose::address_of_origin;
use crate::task::Task;
use twobox_model::approval::{
    Approval, Meant, Verdict, has_form_of_answer, is_number, meant, named_code, without_code,
};
use twobox_model::channel::{Address, Refusal};
use twobox_model::people::Speaker;
use twobox_store::DbError;
use twobox_store::approvals::{AskedThere, Decide, Said, SaidIn, There};
use twobox_store::notices::Notice;
use twobox_system::blocking::blocking;

/// What becomes of what was said.
#[derive(Debug, PartialEq, Eq)]
enum Judged {
    /// It is a message to the agent.
    Message,
    /// It is for another agent's session, which hears it too.
    Others,
    /// It decides something that was asked in this conversation, or in one that does not hear it.
    Decides(Box<Approval>, Verdict),
    /// It decides nothing, and whoever said it is told why.
    Tell(String),
}

/// Judges `text`, said in a conversation to whom it is `own`, where all of `there` was asked. Whoever knows a
/// code has seen it, whatever was recorded of that. A number alone says nothing about what was not shown yet;
/// what a channel has `in_hand`, whichever session asks, may have been. So all who hear it judge alike.
fn judge(text: &str, there: &There, own: SessionId, in_hand: &HashSet<ApprovalId>) -> Judged {
    let by_number = is_number(text);
    let is_mine = |asked: &AskedThere| asked.approval.session == own || !asked.hears;
    let was_seen =
        |asked: &AskedThere| !by_number || asked.was_sent() || in_hand.contains(&asked.approval.id);
    let seen: Vec<&AskedThere> = there.asked.iter().filter(|asked| was_seen(asked)).collect();
    let meaning = meant(text, &seen.iter().map(|asked| &asked.approval).collect::<Vec<_>>());
    match (meaning, &there.elsewhere) {
        (Meant::Decide(at, verdict), _) if is_mine(seen[at]) => {
            Judged::Decides(Box::new(seen[at].approval.clone()), verdict)
        }
        (Meant::Unclear(why), _) if seen.iter().any(|asked| is_mine(asked)) => Judged::Tell(why),
        (Meant::Decide(..) | Meant::Unclear(_), _) => Judged::Others,
        // It is a code all the same, which no agent may read.
        (Meant::Nothing, Some(elsewhere)) => Judged::Tell(format!(
            "[{}] was not asked here, and is not decided here: answer where it was asked.",
            elsewhere.code
        )),
        (Meant::Nothing, None) => Judged::Message,
    }
}

/// `message` as one to the host: no agent is given it, and no container can read a code there.
fn as_word(message: &NewMessage) -> NewMessage {
    let mut chat = Chat::from_content(&message.content);
    let text = without_code(&chat.text);
    let content = match text == chat.text {
        true => message.content.clone(),
        false => {
            chat.text = text;
            chat.to_json()
        }
    };
    NewMessage { kind: KIND_WORD.to_owned(), trigger: false, content, ..message.clone() }
}

impl Task {
    /// Takes those of `messages` that answer what was asked in this chat as words to the host: they
    /// decide, and no agent is given them. One that is handed in once more does so no second time.
    pub(crate) async fn take_answers(
        &mut self,
        messages: Vec<(NewMessage, Speaker)>,
    ) -> Result<Vec<NewMessage>, Refusal> {
        let mut taken: Vec<NewMessage> = Vec::with_capacity(messages.len());
        for (message, by) in messages {
            // Also what is only context: an answer has to name nobody.
            let said = message.run_id.is_none() && message.kind == KIND_CHAT;
            let is_answer = said
                && has_form_of_answer(&Chat::from_content(&message.content).text)
                && !taken.contains(&message)
                && self.take_answer(&message, by).await?;
            taken.push(if is_answer { as_word(&message) } else { message });
        }
        Ok(taken)
    }

    /// Whether it is no message to the agent.
    async fn take_answer(
        &mut self,
        message: &NewMessage,
        speaker: Speaker,
    ) -> Result<bool, Refusal> {
        let address = address_of_origin(&message.origin, &self.reply_address);
        let chat = Chat::from_content(&message.content);
        let digest = digest16(&message.content);
        let said_in = SaidIn { message: message.id.clone(), digest };
        let said = Said {
            session: self.id,
            address: address.clone(),
            said_in: said_in.clone(),
            code: named_code(&chat.text),
        };
        let in_hand = self.core.in_hand.all(); // first: what leaves it meanwhile is recorded
        let there = self.core.parts.store.approvals().asked_at(said).await;
        let there = there.map_err(|error| self.not_now(&error))?;
        // Also what was said in the wrong chat: once it is decided nothing has its code any more.
        if there.asked.is_empty() && there.elsewhere.is_none() && !there.told {
            return Ok(false);
        }
        let (boxes, original) = (Arc::clone(&self.boxes), message.clone());
        let known = blocking(move || boxes.holds(&original)).await;
        if let Some(was_word) = known.map_err(|error| self.not_now(&error))? {
            return Ok(was_word);
        }
        // It was judged, and its session or another's could not store it then.
        if there.told || there.asked.iter().any(|asked| asked.was_decided_in(&said_in)) {
            return Ok(true);
        }
        let done = match judge(&chat.text, &there, self.id, &in_hand) {
            Judged::Message => return Ok(false),
            Judged::Others => Ok(()),
            Judged::Tell(why) => self.tell_unclear(&there, said_in, address, why).await,
            Judged::Decides(approval, verdict) => {
                let Approval { session, id, digest, .. } = *approval;
                let by = chat.sender.unwrap_or_else(|| "the chat".to_owned());
                let said_in = Some(said_in.clone());
                let order = Decide { session, id, digest, verdict, by, speaker, said_in };
                self.take_decision(&there, order, address).await
            }
        };
        done.map(|()| true).map_err(|error| self.not_now(&error))
    }

    async fn take_decision(
        &mut self,
        there: &There,
        order: Decide,
        address: Address,
    ) -> Result<(), DbError> {
        let said_in = order.said_in.clone();
        match (self.decide(order).await?, said_in) {
            (Err(why), Some(said_in)) => self.tell_unclear(there, said_in, address, why).await,
            (Ok(_) | Err(_), _) => Ok(()),
        }
    }

    /// Has whoever said so told why it decides nothing, by one of those who heard it.
    async fn tell_unclear(
        &mut self,
        there: &There,
        said: SaidIn,
        address: Address,
        why: String,
    ) -> Result<(), DbError> {
        let others = there.hear.clone();
        let notice = Notice::unclear(&said, address, why, self.now());
        let notice = Notice { behind: Some(self.seen), ..notice };
        self.core.parts.store.notices().add_for_all(self.id, others, &notice).await?;
        self.people_changed();
        Ok(())
    }
}

impl Boxes {
    /// Whether the inbox has `message`, and if it does, whether as a word to the host.
    fn holds(&self, message: &NewMessage) -> Result<Option<bool>, BoxError> {
        if !self.has_inbox() {
            return Ok(None);
        }
        let mut inbox = Inbox::open_to_read(&self.paths().inbound_db())?;
        let tx = inbox.read()?;
        for message in [&as_word(message), message] {
            if let Some(kind) = tx.accepted_as(message)? {
                return Ok(Some(kind == KIND_WORD));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
#[path = "answers_tests.rs"]
mod tests;
