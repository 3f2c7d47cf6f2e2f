//! The way to the models: one request, asked of one after the other until one has answered.
//!
//! The host asks upstreams again; here it is asked again only for what the host cannot know of: that it
//! was not there, and that an answer broke off on its way; and where it says itself that it cannot answer yet.

mod exchange;
pub(crate) mod get;
mod judge;

#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod script;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use twobox_shared::agent_config::{Gateway, Route};

use super::super::{PromptMessage, Push, TurnHandle};
use super::api::{Complaint, Quirks};
use super::conversation::{Answer, Request, Trouble};
use crate::say::say;
use exchange::{Call, Outcome, exchange};
pub(super) use judge::{Verdict, judge};

/// How patient a client is.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// How long nothing may come before an answer begins. The host waits for an upstream meanwhile, and
    /// asks it again.
    head: Duration,
    /// How long nothing may come once it has begun.
    silence: Duration,
    /// The pause before the host is looked for again; it doubles.
    pause: Duration,
    /// The longest such pause.
    longest_pause: Duration,
    /// How long a host is asked again that closes the connection without a word, as one does that dies
    /// with the request. (One that does not listen is waited for until the deadline: that costs nothing.)
    losses: Duration,
    /// How long a host is asked again that cannot answer yet. It has looked several times before it says so.
    unseen: Duration,
    /// How often an answer that broke off is asked for again.
    again: u32,
    /// How long a model that did not answer is asked last.
    aversion: Duration,
}

/// How long the host may take until an answer begins: it looks up to three times whether a run is over, asks an
/// upstream up to four times, waits for a pause and as long as it is told to before each, and for the last one's
/// head.
const HOST_WAITS: Duration = Duration::from_secs(3 * (10 + 1) + 4 * (60 + 2) + 600);
const _: () = assert!(PATIENCE.head.as_secs() > HOST_WAITS.as_secs());

const PATIENCE: Patience = Patience {
    head: Duration::from_secs(16 * 60),
    silence: Duration::from_secs(300),
    pause: Duration::from_millis(50),
    longest_pause: Duration::from_secs(2),
    losses: Duration::from_secs(60),
    unseen: Duration::from_secs(300),
    again: 2,
    aversion: Duration::from_secs(60),
};

/// Asks the models of one gateway.
pub(crate) struct Client {
    socket: PathBuf,
    key: String,
    ways: Vec<Way>,
    /// The index of the way by which the last answer came, or of the model to which the last request was
    /// too long; at first the first.
    last: usize,
    /// Counts the requests, so that the words of an earlier one are not taken for this one's.
    number: u64,
    patience: Patience,
}

/// A route, and what is known of it.
struct Way {
    route: Route,
    quirks: Quirks,
    failed: Option<Instant>,
}

/// Why a model did not answer.
struct Unanswered {
    why: String,
    /// Whether it never will, whoever asks it this.
    never: bool,
}

impl Unanswered {
    fn now(why: String) -> Self {
        Self { why, never: false }
    }
}

/// What the thread reports that reads an answer.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Some words, in their order.
    Words(String),
    /// All there is.
    Ended,
}

/// What was pushed while a model was asked.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    /// More messages for the turn.
    pub(crate) follow_ups: Vec<PromptMessage>,
    /// What could not be done of what was said.
    pub(crate) notices: Vec<String>,
}

impl Aside {
    /// Keeps what was pushed for later. What an earlier request or another provider left is dropped.
    ///
    /// # Errors
    /// If the turn was cancelled.
    pub(crate) fn keep(&mut self, push: Push) -> Result<(), Trouble> {
        match push {
            Push::FollowUp(messages) => self.follow_ups.extend(messages),
            Push::Notice(notice) => self.notices.push(notice),
            Push::Cancel => return Err(Trouble::Cancelled),
            Push::Begin | Push::Program(..) | Push::Model(..) => {}
        }
        Ok(())
    }
}

impl Client {
    /// A client that has asked nobody yet. `gateway` names a model at least.
    pub(crate) fn new(gateway: &Gateway, socket: PathBuf) -> Self {
        let way =
            |route: &Route| Way { route: route.clone(), quirks: Quirks::default(), failed: None };
        Self {
            socket,
            key: gateway.key.clone(),
            ways: gateway.routes.iter().map(way).collect(),
            last: 0,
            number: 0,
            patience: PATIENCE,
        }
    }

    /// The model that answered last, or is asked first. After [`Trouble::TooLong`] it is the one that
    /// complained, for it is its room that the conversation has to fit into.
    pub(crate) fn route(&self) -> &Route {
        &self.ways[self.last].route
    }

    /// Asks the models in their order until one answers. Words are handed to `hear` as they stream: none
    /// of them counts before the answer is there, for an answer that breaks off begins anew. What is
    /// pushed meanwhile is kept in `aside`.
    ///
    /// # Errors
    /// [`Trouble`] says whether asking again may help.
    pub(crate) fn ask(
        &mut self,
        request: &Request<'_>,
        handle: &TurnHandle,
        deadline: Instant,
        aside: &mut Aside,
        hear: &mut dyn FnMut(&str),
    ) -> Result<Answer, Trouble> {
        let (mut reasons, mut all_never) = (Vec::new(), true);
        for at in self.order(Instant::now()) {
            let asked = self.ask_one(at, request, handle, deadline, aside, hear);
            if matches!(asked, Err(Trouble::TooLong(_))) {
                self.last = at;
            }
            match asked? {
                Ok(answer) => {
                    self.last = at;
                    self.ways[at].failed = None;
                    return Ok(answer);
                }
                Err(Unanswered { why, never }) => {
                    all_never &= never;
                    let way = &mut self.ways[at];
                    way.failed = Some(Instant::now());
                    say!("{} did not answer: {why}", way.route.name);
                    reasons.push(format!("{}: {why}", way.route.name));
                }
            }
        }
        let why = reasons.join("; ");
        Err(if all_never { Trouble::Refused(why) } else { Trouble::Unreachable(why) })
    }

    /// The ways as they are tried: those that failed a short while ago last.
    fn order(&self, now: Instant) -> Vec<usize> {
        let averted = |at: &usize| {
            let failed = self.ways[*at].failed;
            failed.is_some_and(|then| now.saturating_duration_since(then) < self.patience.aversion)
        };
        let mut order: Vec<_> = (0..self.ways.len()).collect();
        order.sort_by_key(averted); // stable
        order
    }

    /// What follows from a complaint of the model at `at`; `None` if that is asked otherwise from now on.
    fn verdict(&mut self, at: usize, complaint: &Complaint) -> Option<Verdict> {
        let Way { route, quirks, .. } = &mut self.ways[at];
        match quirks.learn(route.api, complaint) {
            Some(learned) => {
                *quirks = learned;
                None
            }
            None => Some(judge(complaint, route.name.upstream())),
        }
    }

    /// Asks one model until there is nothing more to be had of it. The inner error says why another is to
    /// be asked.
    fn ask_one(
        &mut self,
        at: usize,
        request: &Request<'_>,
        handle: &TurnHandle,
        deadline: Instant,
        aside: &mut Aside,
        hear: &mut dyn FnMut(&str),
    ) -> Result<Result<Answer, Unanswered>, Trouble> {
        let Patience { head, silence, pause, longest_pause, losses, unseen, again, .. } =
            self.patience;
        let (mut next_pause, mut cuts, mut lost, mut blind) = (pause, 0, None, None);
        loop {
            self.number += 1;
            let Way { route, quirks, .. } = &self.ways[at];
            let (socket, key, number) = (&self.socket, &*self.key, self.number);
            let call = Call { socket, key, route, quirks: *quirks, request, number, head, silence };
            let why = match exchange(&call, handle, deadline, aside, hear)? {
                Outcome::Answer(answer) => return Ok(Ok(answer)),
                Outcome::Silent(span) => {
                    let why = format!("nothing came for {} s", span.as_secs());
                    return Ok(Err(Unanswered::now(why)));
                }
                Outcome::NoHost(why) => {
                    lost = None;
                    format!("the host does not listen: {why}")
                }
                Outcome::Lost => {
                    let why = "the host closed the connection without an answer".to_owned();
                    if lost.get_or_insert_with(Instant::now).elapsed() > losses {
                        return Ok(Err(Unanswered::now(why)));
                    }
                    why
                }
                Outcome::Complaint(complaint) => match self.verdict(at, &complaint) {
                    None => continue,
                    Some(Verdict::End(trouble)) => return Err(trouble),
                    Some(Verdict::Never(why)) => return Ok(Err(Unanswered { why, never: true })),
                    Some(Verdict::Next(why)) => return Ok(Err(Unanswered::now(why))),
                    Some(Verdict::Wait(why, told)) => {
                        if blind.get_or_insert_with(Instant::now).elapsed() >= unseen {
                            return Err(Trouble::Unreachable(why)); // of whichever model
                        }
                        wait(told, handle, deadline, aside, &why)?;
                        continue;
                    }
                    Some(Verdict::Again(why)) => {
                        cuts += 1;
                        why
                    }
                },
                Outcome::Cut(why) => {
                    lost = None;
                    cuts += 1;
                    why
                }
            };
            if cuts > again {
                return Ok(Err(Unanswered::now(why)));
            }
            wait(next_pause, handle, deadline, aside, &why)?;
            next_pause = (next_pause * 2).min(longest_pause);
        }
    }
}

/// Waits, and keeps what is pushed meanwhile. `why` is told if the time of the turn is over by then.
fn wait(
    pause: Duration,
    handle: &TurnHandle,
    deadline: Instant,
    aside: &mut Aside,
    why: &str,
) -> Result<(), Trouble> {
    let until = (Instant::now() + pause).min(deadline);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match handle.next(left) {
            Some(push) => aside.keep(push)?,
            None if until == deadline => return Err(Trouble::Unreachable(why.to_owned())),
            None => return Ok(()),
        }
    }
}
