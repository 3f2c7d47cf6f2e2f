//! The loop: look, claim, answer, and leave when there is nothing to do or the host says so.
//!
//! What predecessors left claimed is the host's to charge; nothing here touches it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use twobox_shared::clock::{Clock, Monotonic};
use twobox_shared::content::Failure;
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{Destination, InboundMessage, InboxReader, Look, Purpose};
use twobox_shared::open::BoxError;
use twobox_shared::outbox::{Claim, TurnEnd};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use crate::args::Options;
use crate::event::{Event, TurnNumber};
use crate::exit::Exit;
use crate::family;
use crate::outbox::{Outbox, until_done};
use crate::patience::Patience;
use crate::provider::Worker;
use crate::say::say;
use crate::signals::Stop;
use crate::turn::{Left, Turn, claim_of};
use crate::wake::CLOSE_PATIENCE;

/// How often to look where the kernel announces nothing.
const POLL: Duration = Duration::from_millis(250);

/// How many times in a row a look that nothing announced may find work, before the announcements
/// are no longer believed. Once may be a race between the event and the look.
const SILENT_FINDS_MAX: u32 = 2;

/// How long an answer is kept that cannot be committed. It outlasts a disk that somebody has to make
/// room on, and no runner outlasts it.
const COMMIT_PATIENCE: Duration = Duration::from_secs(60 * 60);

/// Why a runner that ends gives back what it has not begun with.
const LEAVING: &str = "the runner was told to leave";

/// Why the inbox is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// To begin with, or after a turn, which swallowed the announcements.
    Start,
    /// It was announced.
    Event,
    /// A message that was seen before is due now.
    Due,
    /// Nothing: only to be safe.
    Safety,
    /// Nothing: it is the last look before leaving.
    Last,
}

/// The state of the loop, and what it works with.
pub(crate) struct Runner<'a> {
    pub(crate) options: &'a Options,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) stop: Stop,
    pub(crate) events: Receiver<Event>,
    pub(crate) events_in: Sender<Event>,
    /// The provider, once there was a turn.
    pub(crate) worker: Option<Worker>,
    /// Whether the provider has a turn that it has not ended.
    pub(crate) in_turn: bool,
    /// The number of the last turn.
    pub(crate) turns: TurnNumber,
    /// The highest number seen in the inbox.
    pub(crate) floor: Seq,
    /// When the outbox was last looked over for what can be forgotten.
    pub(crate) tidied: Option<Monotonic>,
    /// What the last turn left to be found again, if it was read since.
    pub(crate) continuation: Option<Option<String>>,
    /// Where the agent could send to when the inbox was last read.
    pub(crate) destinations: Vec<Destination>,
    first: bool,
    poll: Option<Duration>,
    silent_finds: u32,
}

impl<'a> Runner<'a> {
    /// A runner that has done nothing yet. Unless the inbox is `watched` by the kernel, it polls.
    pub(crate) fn new(
        options: &'a Options,
        clock: &'a dyn Clock,
        outbox: Arc<Outbox>,
        stop: Stop,
        events_in: Sender<Event>,
        events: Receiver<Event>,
        watched: bool,
    ) -> Self {
        Self {
            options,
            clock,
            outbox,
            stop,
            events,
            events_in,
            worker: None,
            in_turn: false,
            turns: TurnNumber::default(),
            floor: Seq::default(),
            tidied: None,
            continuation: None,
            destinations: Vec::new(),
            first: true,
            poll: options.poll.or((!watched).then_some(POLL)),
            silent_finds: 0,
        }
    }

    /// Serves the session until idle or told to leave.
    ///
    /// # Errors
    /// Any other reason to leave.
    pub(crate) fn run(mut self) -> Result<(), Exit> {
        let result = self.serve();
        match self.worker.take() {
            Some(worker) if self.in_turn => worker.abandon(),
            Some(worker) => worker.dismiss(),
            None => {}
        }
        result
    }

    fn serve(&mut self) -> Result<(), Exit> {
        // Opening repairs and migrates; whatever tool a predecessor named does not run any more.
        let now = self.clock.now();
        let stop = self.stop.clone();
        let patience = self.patience();
        let ready = self.outbox.insist(patience, |outbox| outbox.set_tool(None, now))?;
        if ready.is_none() {
            // Nothing was claimed yet.
            return if stop.requested() { Ok(()) } else { Err(self.given_up()) };
        }
        let mut cause = Cause::Start;
        let mut idle_since = self.clock.monotonic();
        let mut carried = Vec::new();
        loop {
            if self.stop.requested() {
                return self.release(&carried, LEAVING);
            }
            let mut next_due = None;
            let mut work = std::mem::take(&mut carried);
            if work.is_empty() {
                let Some(look) = self.look_patiently()? else { continue };
                next_due = look.next_due;
                work = match self.claim(look.chosen)? {
                    Some(work) => work,
                    None if self.stop.requested() => continue,
                    None => return Err(self.given_up()),
                };
            }
            if !work.is_empty() {
                self.note_find(cause);
                let Left { unused, stuck, broken } = Turn::run(self, work)?;
                carried = unused;
                if !stuck {
                    // The provider is at rest, so whatever else lives below is the turn's.
                    family::clear(&self.worker.as_ref().map(Worker::groups).unwrap_or_default());
                }
                if stuck {
                    self.release(&carried, LEAVING)?;
                    return match self.stop.requested() {
                        true => Ok(()),
                        false => {
                            say!("the provider does not stop, so this process leaves");
                            Err(Exit::Stuck)
                        }
                    };
                }
                if broken {
                    self.release(&carried, LEAVING)?;
                    say!("this process leaves, until the configuration or the program has changed");
                    return Err(Exit::Broken);
                }
                idle_since = self.clock.monotonic();
                cause = Cause::Start;
            } else if cause == Cause::Last {
                return Ok(());
            } else {
                self.tidy();
                cause = self.wait(idle_since + self.options.idle, next_due);
            }
        }
    }

    /// How often to look although nothing was announced.
    pub(crate) fn look_interval(&self) -> Duration {
        self.poll.unwrap_or(self.options.heartbeat)
    }

    /// Work that nothing announced shows that announcements get lost, as they do on some mounts.
    fn note_find(&mut self, cause: Cause) {
        match cause {
            Cause::Start | Cause::Due => {}
            Cause::Event => self.silent_finds = 0,
            Cause::Safety | Cause::Last => {
                self.silent_finds += 1;
                if self.silent_finds >= SILENT_FINDS_MAX && self.poll.is_none() {
                    say!("the inbox changes without file events, so it is polled from now on");
                    self.poll = Some(POLL);
                }
            }
        }
    }

    /// Waits for something to look for.
    fn wait(&self, idle_end: Monotonic, next_due: Option<UnixMillis>) -> Cause {
        let now = self.clock.monotonic();
        let due = next_due.map(|due| now + due.since(self.clock.now()));
        let safety = now + self.look_interval();
        let mut closed_by = None;
        loop {
            let now = self.clock.monotonic();
            let next = due.map_or(safety, |due| due.min(safety)).min(idle_end);
            let next = closed_by.map_or(next, |closed| next.min(closed));
            match self.events.recv_timeout(next.since(now)) {
                Ok(Event::Wake | Event::Terminate) => {
                    // One commit announces itself more than once.
                    while self.events.try_recv().is_ok() {}
                    return Cause::Event;
                }
                Ok(Event::Committed) => closed_by = Some(self.clock.monotonic() + CLOSE_PATIENCE),
                Ok(Event::Said(_) | Event::Asked(_) | Event::Ended(_)) => {} // no turn runs, so none can be meant
                Err(RecvTimeoutError::Disconnected) => unreachable!("we hold a sender ourselves"),
                Err(RecvTimeoutError::Timeout) => {
                    let now = self.clock.monotonic();
                    if closed_by.is_some_and(|closed| now >= closed) {
                        return Cause::Event;
                    }
                    if due.is_some_and(|due| now >= due) {
                        return Cause::Due;
                    }
                    if now >= idle_end {
                        return Cause::Last;
                    }
                    if now >= safety {
                        return Cause::Safety;
                    }
                }
            }
        }
    }

    /// One look at the inbox.
    ///
    /// # Errors
    /// Whatever opening or reading either box returns.
    pub(crate) fn look(&mut self, purpose: Purpose<'_>) -> Result<Look, BoxError> {
        let now = self.clock.now();
        // While a turn goes on, what the one before has left is read, and not what this one will leave: the next
        // turn, which may begin without a look, would have forgotten this one.
        let for_a_turn = matches!(purpose, Purpose::Turn { .. });
        let (look, destinations, continuation) = self.outbox.read(|outbox| {
            let inbox = InboxReader::open(&self.options.paths.inbound_db())?;
            let look = inbox.look(outbox, purpose, now)?;
            // Read with what they are for: later the inbox may be locked, or its host dead.
            let (_, destinations) = inbox.routing()?;
            Ok((look, destinations, outbox.continuation()?))
        })?;
        self.destinations = destinations;
        self.continuation = for_a_turn.then_some(continuation);
        self.floor = self.floor.max(look.seq_floor);
        Ok(look)
    }

    /// Those of `messages` that the host wants nobody to work on any more. What cannot be looked at now
    /// is seen by the next look.
    pub(crate) fn taken_back<'m>(
        &self,
        messages: impl IntoIterator<Item = &'m MessageId>,
    ) -> HashSet<MessageId> {
        let Ok(inbox) = InboxReader::open(&self.options.paths.inbound_db()) else {
            return HashSet::new();
        };
        let is_gone = |id: &&MessageId| inbox.is_pending(id).is_ok_and(|pending| !pending);
        messages.into_iter().filter(is_gone).cloned().collect()
    }

    /// As [`Runner::look`] for a new turn, again and again until it works. `None` when told to leave
    /// meanwhile.
    ///
    /// # Errors
    /// The session's folder is gone, or no look has worked for as long as a runner stays without work.
    fn look_patiently(&mut self) -> Result<Option<Look>, Exit> {
        let (mut patience, go_on) = (Patience::default(), self.patience());
        loop {
            self.outbox.ground().check()?;
            match self.look(Purpose::Turn { first: self.first }) {
                Ok(look) => {
                    patience.succeeded();
                    self.first = false;
                    return Ok(Some(look));
                }
                Err(error) => {
                    let pause = patience.failed(&error)?;
                    // An announcement may be the repair, but it must not make this loop spin.
                    std::thread::sleep(pause);
                    if self.stop.requested() {
                        return Ok(None);
                    }
                    if !go_on() {
                        return Err(self.given_up());
                    }
                }
            }
        }
    }

    /// Says for how long to insist on what no turn waits for: until told to leave, and no longer than
    /// a runner stays without work. A box that is broken for good must not keep it for ever.
    fn patience(&self) -> impl Fn() -> bool + use<'a> {
        let (stop, clock) = (self.stop.clone(), self.clock);
        let end = clock.monotonic() + self.options.idle;
        move || !stop.requested() && clock.monotonic() < end
    }

    fn given_up(&self) -> Exit {
        let idle = self.options.idle.as_millis();
        say!(
            "nothing could be read or written for {idle} ms, the idle time, so this process leaves"
        );
        Exit::Write
    }

    /// Reads anew where the agent may send to, insisting for as long as `go_on` says. Returns whether
    /// it could be read.
    ///
    /// # Errors
    /// The inbox is beyond help.
    pub(crate) fn read_destinations(&mut self, go_on: impl Fn() -> bool) -> Result<bool, Exit> {
        let inbox = self.options.paths.inbound_db();
        let read =
            until_done(self.outbox.ground(), go_on, || InboxReader::open(&inbox)?.routing())?;
        let Some((_, destinations)) = read else { return Ok(false) };
        self.destinations = destinations;
        Ok(true)
    }

    /// Claims `chosen` and returns what was claimed: nothing, or messages of which one triggers. `None`
    /// if the outbox could not be written for too long.
    ///
    /// # Errors
    /// The reason to leave.
    pub(crate) fn claim(
        &mut self,
        chosen: Vec<InboundMessage>,
    ) -> Result<Option<Vec<InboundMessage>>, Exit> {
        if chosen.is_empty() {
            return Ok(Some(chosen));
        }
        let wanted: Vec<Claim> = chosen.iter().map(claim_of).collect();
        let now = self.clock.now();
        let made = self.outbox.insist(self.patience(), |outbox| outbox.claim(&wanted, now))?;
        let Some(made) = made else { return Ok(None) };
        fault::point(CrashPoint::RunnerClaimed);
        let claimed: Vec<_> =
            chosen.into_iter().filter(|message| made.contains(&claim_of(message))).collect();
        if claimed.iter().any(|message| message.trigger) {
            return Ok(Some(claimed));
        }
        self.release(&claimed, "it was context of what another runner got")?; // somebody else got what the context was for
        Ok(Some(Vec::new()))
    }

    /// Gives claimed messages back, and says why: the host tries them again without charging anybody.
    pub(crate) fn release(&self, messages: &[InboundMessage], why: &str) -> Result<(), Exit> {
        if messages.is_empty() {
            return Ok(());
        }
        let claims: Vec<Claim> = messages.iter().map(claim_of).collect();
        let failure = Failure::retryable(Failure::RELEASED, why);
        let outcome = Err(&failure);
        self.end_turn(&TurnEnd { claims: &claims, outcome, turns: 0, continuation: None })
    }

    /// Commits the end of a turn, however long that takes within [`COMMIT_PATIENCE`]: an answer is not
    /// given up because a disk is full. After SIGTERM the time is the grace.
    ///
    /// # Errors
    /// [`Exit::Fenced`] if the claims were taken away, [`Exit::Write`] if there was no time left.
    pub(crate) fn end_turn(&self, end: &TurnEnd<'_>) -> Result<(), Exit> {
        let (stop, clock, grace) = (&self.stop, self.clock, self.options.grace);
        let told_at = std::cell::Cell::new(None);
        let end_of_all = clock.monotonic() + COMMIT_PATIENCE;
        let go_on = || {
            if stop.requested() && told_at.get().is_none() {
                told_at.set(Some(clock.monotonic()));
            }
            let now = clock.monotonic();
            now < end_of_all && told_at.get().is_none_or(|at| now < at + grace)
        };
        let now = clock.now();
        self.outbox.insist(go_on, |outbox| outbox.end_turn(end, self.floor, now))?.ok_or_else(
            || {
                say!("a turn could not be committed, and there is no time left to try again");
                Exit::Write
            },
        )
    }
}
