//! What the provider has people asked, and what they said.

use std::sync::mpsc::Sender;
use std::time::Duration;

use twobox_shared::content::{Failure, KIND_SYSTEM, answer_id};
use twobox_shared::errors::chain;
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{InboundMessage, InboxReader};
use twobox_shared::open::BoxError;
use twobox_shared::outbox::{Claim, OutboxWriter, Use};
use twobox_shared::progress::WAITING;

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
const USED: &str = "What was allowed by this was done before, so it is a no.";

/// What was allowed to this turn, and is used.
#[derive(Debug)]
pub(super) struct Spent {
    asking: Asking,
    /// How often it was asked in the turn before.
    nth: usize,
}

impl Turn<'_, '_> {
    /// Asks, at once, and remembers who waits for the answer. What an earlier attempt has asked is not
    /// asked again, unless it has used the yes that it got.
    pub(super) fn ask(
        &mut self,
        asking: &Asking,
        reply: Sender<Decision>,
        reins: &Reins,
    ) -> Result<(), Exit> {
        if let Err(why) = self.limits.ask(asking) {
            drop(reply.send(Decision::no(why))); // or the provider waits no longer
            return Ok(());
        }
        let now = self.runner.clock.monotonic();
        let left = self.limits.deadline().since(now);
        let patience = left.saturating_sub(BEFORE_END.min(left / 4));
        let asked_before = self.asked.entry(asking.clone()).or_default();
        let nth = *asked_before;
        *asked_before += 1;
        let first = self.messages.iter().find(|message| message.trigger);
        let message = first.expect("a turn has a message that triggers").id.clone();
        let wall = self.runner.clock.now();
        let claims: Vec<Claim> = self.messages.iter().map(claim_of).collect();
        let written = self.write(|outbox, floor| {
            let (row, used) =
                free_row(|row| outbox.is_used(row), |used| asking.row(&message, nth, used))?;
            let request = asking.request(wall + patience, used).to_string();
            let new = self.answering.row(row.clone(), KIND_SYSTEM, request);
            outbox.send(&claims, &new, floor, wall)?;
            Ok(row)
        })?;
        let Some(row) = written else {
            let detail = "the outbox could not be written";
            self.cut(Failure::retryable(Failure::PROVIDER_ERROR, detail), reins);
            return Ok(());
        };
        self.worked = true;
        // The time of people is not the tool's.
        let name = format!("{WAITING}{}", asking.name());
        let (aside, running) = (self.before_asking.take(), self.limits.tool());
        self.before_asking = set_aside(self.open.is_empty(), aside, running);
        self.show_tool(Some((&name, left)));
        self.shown.tool(Some(&name));
        self.limits.tool_started(name, now, left);
        let until = now + patience + SLACK;
        self.open.push(Open { row, message, asking: asking.clone(), nth, reply, until });
        self.look_for_answers()
    }

    /// Hands on what the host has answered meanwhile. After the cut nobody does anything with it.
    pub(super) fn look_for_answers(&mut self) -> Result<(), Exit> {
        if self.open.is_empty() || self.cut.is_some() {
            return Ok(());
        }
        let session = self.runner.options.session;
        let read = InboxReader::open(&self.runner.options.paths.inbound_db()).and_then(|inbox| {
            let answer = |open: &Open| inbox.system_message(&answer_id(session, &open.row));
            self.open.iter().map(answer).collect::<Result<Vec<_>, _>>()
        });
        let answers = match read {
            Ok(answers) => answers,
            Err(error) => {
                say!("{}", chain(&error)); // the next look sees it
                return Ok(());
            }
        };
        let now = self.runner.clock.monotonic();
        for (open, content) in std::mem::take(&mut self.open).into_iter().zip(answers) {
            let answer = content.and_then(|content| Decision::read(&content, &open.row));
            let late = || (now >= open.until).then(|| Decision::no(IN_VAIN));
            let decision = match answer.or_else(late) {
                Some(yes) if yes.ok && open.asking.is_used_up() => self.used(&open, yes)?,
                other => other,
            };
            match decision {
                Some(decision) => drop(open.reply.send(decision)), // or the provider waits no longer
                None => self.open.push(open),
            }
        }
        if self.open.is_empty() {
            match self.before_asking.take() {
                Some((name, span)) => {
                    self.show_tool(Some((&name, span)));
                    self.shown.tool(Some(&name));
                    self.limits.tool_started(name, self.runner.clock.monotonic(), span);
                }
                None => {
                    self.limits.tool_ended();
                    self.show_tool(None);
                    self.shown.tool(None);
                }
            }
        }
        Ok(())
    }

    /// Notes that `yes` is used, before anything is done by it: whoever hears it goes on at once. `None` if the
    /// turn is over before that could be written. It is noted for each message that a later attempt may be for
    /// first, should those before it be settled by then.
    fn used(&mut self, open: &Open, yes: Decision) -> Result<Option<Decision>, Exit> {
        let Open { row, message, asking, nth, .. } = open;
        let noted = self.note(|outbox| {
            let mut uses = Vec::new();
            for it in self.messages.iter().filter(|it| it.trigger) {
                let is_used = |row: &MessageId| outbox.is_used(row);
                let row = match it.id == *message {
                    true => row.clone(),
                    false => free_row(is_used, |used| asking.row(&it.id, *nth, used))?.0,
                };
                uses.push(Use { claim: claim_of(it), row });
            }
            Ok(uses)
        })?;
        if noted == Some(true) {
            self.spent.push(Spent { asking: asking.clone(), nth: *nth });
        }
        Ok(noted.map(|is_new| {
            fault::point(CrashPoint::RunnerPermissionUsed);
            if is_new { yes } else { Decision::no(USED) }
        }))
    }

    /// Notes what this turn has used in the name of its messages from the one at `from` on, too, which joined it
    /// since: a later attempt may be for one of them first.
    pub(super) fn share_uses(&mut self, from: usize, reins: &Reins) -> Result<(), Exit> {
        let joined = self.messages[from..].iter().filter(|it| it.trigger);
        let joined: Vec<&InboundMessage> = joined.collect();
        if joined.is_empty() || self.spent.is_empty() {
            return Ok(());
        }
        let noted = self.note(|outbox| {
            let mut uses = Vec::new();
            for it in &joined {
                for row in rows_of(&it.id, &self.spent, |row| outbox.is_used(row))? {
                    uses.push(Use { claim: claim_of(it), row });
                }
            }
            Ok(uses)
        })?;
        if noted != Some(true) {
            // Without it, what was done in this turn would be done in their name as if for the first time.
            let detail = "the outbox could not be written";
            self.cut(Failure::retryable(Failure::PROVIDER_ERROR, detail), reins);
        }
        Ok(())
    }

    /// Notes the uses that are chosen, under the claims of this turn, for as long as it may last. They are chosen
    /// once: what is tried again has perhaps been done.
    fn note(
        &self,
        choose: impl Fn(&OutboxWriter) -> Result<Vec<Use>, BoxError>,
    ) -> Result<Option<bool>, Exit> {
        let claims: Vec<Claim> = self.messages.iter().map(claim_of).collect();
        let now = self.runner.clock.now();
        let mut chosen: Option<Vec<Use>> = None;
        self.write(|outbox, _| {
            let uses = match &chosen {
                Some(uses) => uses,
                None => {
                    let uses = choose(outbox)?;
                    chosen.insert(uses)
                }
            };
            outbox.use_yes(&claims, uses, now)
        })
    }
}

/// The tool that goes on once nobody is waited for any more. What runs as the first waits is a tool; what runs as
/// another does is the waiting itself, and nothing to go on with.
fn set_aside<T>(is_first: bool, aside: Option<T>, running: Option<T>) -> Option<T> {
    if is_first { running } else { aside }
}

/// The first of the `rows` that ask the same of which no yes is used, and how many came before it.
fn free_row(
    is_used: impl Fn(&MessageId) -> Result<bool, BoxError>,
    rows: impl Fn(usize) -> MessageId,
) -> Result<(MessageId, usize), BoxError> {
    let mut used = 0;
    loop {
        let row = rows(used);
        if !is_used(&row)? {
            return Ok((row, used));
        }
        used += 1;
    }
}

/// The rows by which a turn for `message` first would ask for what is `spent`: one for each, for the same may have
/// been allowed twice, over a provider that began afresh.
fn rows_of(
    message: &MessageId,
    spent: &[Spent],
    is_used: impl Fn(&MessageId) -> Result<bool, BoxError>,
) -> Result<Vec<MessageId>, BoxError> {
    let mut rows: Vec<MessageId> = Vec::new();
    for Spent { asking, nth } in spent {
        let (row, _) = free_row(
            |row| Ok(rows.contains(row) || is_used(row)?),
            |used| asking.row(message, *nth, used),
        )?;
        rows.push(row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_people_is_never_what_goes_on_behind_it() {
        assert_eq!(set_aside(true, None, Some("bash")), Some("bash"));
        let waiting = format!("{WAITING}bash");
        assert_eq!(set_aside(false, Some("bash"), Some(waiting.as_str())), Some("bash"));
        assert_eq!(
            set_aside(false, None, Some(waiting.as_str())),
            None,
            "its tool has ended meanwhile"
        );
    }

    #[test]
    fn each_use_has_a_row_of_its_own_for_a_message_that_joins_later() {
        let id = |text: &str| MessageId::parse(text).unwrap();
        let asking =
            |line: &str| Asking::Permission { tool: "bash".into(), arguments: line.into() };
        let spent = |line: &str, nth| Spent { asking: asking(line), nth };
        let all = [spent("a", 0), spent("a", 1), spent("b", 0), spent("a", 0)];
        let row = |line: &str, nth, used| asking(line).row(&id("m2"), nth, used);
        let none = rows_of(&id("m2"), &all, |_| Ok(false)).unwrap();
        assert_eq!(none, [row("a", 0, 0), row("a", 1, 0), row("b", 0, 0), row("a", 0, 1)]);
        let before = row("a", 0, 0);
        let some = rows_of(&id("m2"), &all, |row| Ok(*row == before)).unwrap();
        assert_eq!(some, [row("a", 0, 1), row("a", 1, 0), row("b", 0, 0), row("a", 0, 2)]);
    }
}
