//! What the provider has people asked, and what they said.

use std::sync::mpsc::Sender;
use std::time::Duration;

use twobox_shared::content::{Failure, KIND_SYSTEM, answer_id};
use twobox_shared::errors::chain;
use twobox_shared::inbox::InboxReader;
use twobox_shared::outbox::Claim;

use super::{Turn, claim_of};
use crate::ask::{Asking, Decision, Open};
use crate::exit::Exit;
use crate::provider::Reins;
use crate::say::say;

/// How long before the turn's end nobody waits for people any more: what comes of a no has to be said.
const BEFORE_END: Duration = Duration::from_secs(20);

/// How much longer the host is waited for, whose answer it is that nobody has decided.
const SLACK: Duration = Duration::from_secs(5);

const IN_VAIN: &str = "Nobody decided in time, which is a no.";

impl Turn<'_, '_> {
    /// Asks, at once, and remembers who waits for the answer. What an earlier attempt has asked is not
    /// asked again.
    pub(super) fn ask(
        &mut self,
        asking: &Asking,
        reply: Sender<Decision>,
        reins: &Reins,
    ) -> Result<(), Exit> {
        let now = self.runner.clock.monotonic();
        let left = self.limits.deadline().since(now);
        let patience = left.saturating_sub(BEFORE_END.min(left / 4));
        let nth = self.asked.entry(asking.clone()).or_default();
        let first = self.messages.iter().find(|message| message.trigger);
        let row = asking.row(&first.expect("a turn has a message that triggers").id, *nth);
        *nth += 1;
        let wall = self.runner.clock.now();
        let request = asking.request(wall + patience).to_string();
        let new = self.answering.row(row.clone(), KIND_SYSTEM, request);
        let claims: Vec<Claim> = self.messages.iter().map(claim_of).collect();
        if self.write(|outbox, floor| outbox.send(&claims, &new, floor, wall))?.is_none() {
            let detail = "the outbox could not be written";
            self.cut(Failure::retryable(Failure::PROVIDER_ERROR, detail), reins);
            return Ok(());
        }
        self.worked = true;
        // The time of people is not the tool's.
        let name = format!("waiting for a person: {}", asking.name());
        self.before_asking = self.before_asking.take().or_else(|| self.limits.tool());
        self.show_tool(Some((&name, left)));
        self.limits.tool_started(name, now, left);
        self.open.push(Open { row, reply, until: now + patience + SLACK });
        self.look_for_answers();
        Ok(())
    }

    /// Hands on what the host has answered meanwhile.
    pub(super) fn look_for_answers(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let session = self.runner.options.session;
        let read = InboxReader::open(&self.runner.options.paths.inbound_db()).and_then(|inbox| {
            let answer = |open: &Open| inbox.system_message(&answer_id(session, &open.row));
            self.open.iter().map(answer).collect::<Result<Vec<_>, _>>()
        });
        let answers = match read {
            Ok(answers) => answers,
            Err(error) => return say!("{}", chain(&error)), // the next look sees it
        };
        let mut answers = answers.into_iter();
        let now = self.runner.clock.monotonic();
        self.open.retain(|open| {
            let content = answers.next().flatten();
            let answer = content.and_then(|content| Decision::read(&content, &open.row));
            let late = (now >= open.until).then(|| Decision::no(IN_VAIN));
            match answer.or(late) {
                Some(decision) => {
                    drop(open.reply.send(decision)); // or the provider waits no longer
                    false
                }
                None => true,
            }
        });
        if self.open.is_empty()
            && let Some((name, span)) = self.before_asking.take()
        {
            self.show_tool(Some((&name, span)));
            self.limits.tool_started(name, self.runner.clock.monotonic(), span);
        }
    }
}
