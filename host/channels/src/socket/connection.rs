//! One connection: requests in, events out.
//!
//! Requests are taken up in order and answered in order; many may be under way, so that a client
//! that hands in a thousand messages shares the daemon's transactions. Acknowledgements never wait
//! behind requests. Events leave through a bounded queue and a writer of its own: when the client
//! does not read, this connection stops reading too, and nothing else does.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::stream::FuturesOrdered;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Notify, mpsc, watch};
use twobox_shared::bounds::{self, TooMuch};
use twobox_shared::content::{About, CONTENT_MAX, Chat};
use twobox_shared::ids::MessageId;
use twobox_shared::mend::mended;
use twobox_system::lock::lock;

use super::Seats;
use super::line::{LINE_MAX, Line, LineReader};
use super::protocol::{Chosen, Event, Hello, Request};
use crate::bridge::Seated;
use crate::terminal::{Audience, Listener, ListenerId, Terminal};
use crate::{Intake, Operations};
use twobox_model::channel::{Address, Inbound, Refusal, ScheduleOrder};
use twobox_model::dead_letter::{DeadLetterOrder, ORDER_MAX, Verb};

/// How many requests of one client may be under way.
const UNDER_WAY_MAX: usize = 256;

/// How many events may wait for a client to read them.
const QUEUE: usize = 64;

/// Where a client's requests lead.
#[derive(Clone, Copy)]
pub(super) struct Doors<'a> {
    pub(super) terminal: &'a Terminal,
    pub(super) seats: &'a Seats,
    pub(super) intake: &'a dyn Intake,
    pub(super) operations: &'a dyn Operations,
}

/// Serves one client until it leaves.
pub(super) async fn run(stream: UnixStream, doors: Doors<'_>, mut shutdown: watch::Receiver<bool>) {
    let terminal = doors.terminal;
    let (input, output) = stream.into_split();
    let (queue, events) = mpsc::channel(QUEUE);
    let dismissed = Arc::new(Notify::new());
    let listener = Listener { queue: queue.clone(), dismissed: Arc::clone(&dismissed) };
    let entered = Entered { terminal, id: terminal.enter(listener) };
    let client = Client {
        doors,
        id: entered.id,
        queue: queue.clone(),
        dismissed: Arc::clone(&dismissed),
        seated: Mutex::default(),
    };
    let serving = async {
        let mut lines = LineReader::new(input);
        let mut answers: FuturesOrdered<BoxFuture<'_, Event>> = FuturesOrdered::new();
        let mut closing = false;
        loop {
            let event = tokio::select! {
                biased;
                () = dismissed.notified() => {
                    let reason = "messages were not acknowledged in time: connect again";
                    // Its queue may be full, and it may never read: it is told if that is possible.
                    return drop(queue.try_send(Event::error(reason)));
                }
                _ = shutdown.wait_for(|down| *down), if !closing => {
                    closing = true;
                    Event::Closing
                }
                Some(event) = answers.next() => event,
                line = lines.next(), if answers.len() < UNDER_WAY_MAX => match line {
                    Ok(Some(line)) => {
                        if let Some(answer) = client.take_up(line, closing) {
                            answers.push_back(answer);
                        }
                        continue;
                    }
                    Ok(None) | Err(_) => break, // gone; what it asked for is still carried out
                },
            };
            if queue.send(event).await.is_err() {
                return; // the writer found the client gone
            }
        }
        while let Some(event) = answers.next().await {
            if queue.send(event).await.is_err() {
                return;
            }
        }
    };
    // The writer ends when the client is gone, or when it has written what `serving` left.
    let writing = write(output, events);
    tokio::pin!(writing);
    tokio::select! {
        () = serving => {}
        () = &mut writing => return,
    }
    drop(entered);
    drop(client);
    drop(queue);
    if tokio::time::timeout(super::FAREWELL, writing).await.is_err() {
        tracing::debug!("a client of the socket left without reading");
    }
}

async fn write(output: OwnedWriteHalf, mut events: mpsc::Receiver<Event>) {
    let mut output = BufWriter::new(output);
    while let Some(event) = events.recv().await {
        let mut written = output.write_all(event.to_line().as_bytes()).await;
        if written.is_ok() && events.is_empty() {
            written = output.flush().await;
        }
        if let Err(error) = written {
            tracing::debug!(%error, "a client of the socket is gone");
            return;
        }
    }
}

/// A connection's place in the terminal, given up when the connection ends for whatever reason.
struct Entered<'a> {
    terminal: &'a Terminal,
    id: ListenerId,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.terminal.leave(self.id);
    }
}

/// What a request is carried out with.
struct Client<'a> {
    doors: Doors<'a>,
    id: ListenerId,
    queue: mpsc::Sender<Event>,
    dismissed: Arc<Notify>,
    /// Where it sits, if it is a bridge.
    seated: Mutex<Option<Seated>>,
}

impl<'a> Client<'a> {
    /// Begins a request; `None` if there is nothing to answer.
    fn take_up(&self, line: Line, closing: bool) -> Option<BoxFuture<'a, Event>> {
        let line = match line {
            Line::Text(line) => line,
            Line::TooLong => {
                return at_once(Event::error(format!("the line is longer than {LINE_MAX} bytes")));
            }
        };
        if line.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        // What is no text at all is refused: two ids in it might become the same.
        let read = match str::from_utf8(&line) {
            Ok(text) => serde_json::from_str(&mended(text)),
            Err(_) => serde_json::from_slice(&line),
        };
        match read {
            Ok(request) => self.carry_out(request, closing),
            Err(error) => at_once(Event::error(format!("the line is not a request: {error}"))),
        }
    }

    fn carry_out(&self, request: Request, closing: bool) -> Option<BoxFuture<'a, Event>> {
        let Doors { terminal, intake, operations, .. } = self.doors;
        match request {
            Request::Message { id, .. } if closing => {
                let reason = "the host is going down; send it again when it is back".to_owned();
                at_once(Event::Refused { id, retry: true, reason, say: None })
            }
            Request::Message { agent, channel, chat, thread, sender, about, id, text } => {
                let address = check("sender", sender.as_deref())
                    .and_then(|()| about.as_ref().map_or(Ok(()), check_about))
                    .and_then(|()| said_at(agent, channel, chat, thread));
                Some(accept(intake, address, id, Chat { sender, about, ..Chat::text(text) }))
            }
            Request::Listen { agent, thread, progress } => self.listen(agent, thread, progress),
            Request::Ack { key } => {
                if let Err(error) = bounds::OUTBOUND_KEY.check("key", key.len()) {
                    return at_once(Event::error(told(error)));
                }
                if !terminal.acknowledge(self.id, &key) {
                    tracing::debug!(key, "nobody waited for this acknowledgement");
                }
                None
            }
            Request::Bridge(hello) => self.bridge(hello),
            Request::Outcome(told) => {
                if let Err(error) = bounds::OUTBOUND_KEY.check("key", told.key.len()) {
                    return at_once(Event::error(error.to_string()));
                }
                let waited = match &*lock(&self.seated) {
                    Some(seated) => seated.answer(told),
                    None => return at_once(Event::error("outcome: say bridge first")),
                };
                if !waited {
                    tracing::debug!("nobody waited for what a bridge said");
                }
                None
            }
            Request::Status => {
                Some(async move { Event::Status { status: operations.status().await } }.boxed())
            }
            Request::Retry { session, message } => {
                Some(event(operations.retry(session, message), move |count| Event::Retried {
                    session,
                    count,
                }))
            }
            Request::Restart { session } => {
                Some(event(operations.restart(session), move |stopped| Event::Restarted {
                    session,
                    stopped,
                }))
            }
            Request::Stop { session, message, force } => {
                Some(event(operations.stop(session, message.clone(), force), move |outcome| {
                    Event::Stopped { session, message, outcome }
                }))
            }
            Request::Schedules(order) => {
                if let ScheduleOrder::Run { schedule, .. } = &order
                    && let Err(reason) = check("schedule", Some(schedule))
                {
                    return at_once(Event::error(reason));
                }
                Some(event(operations.schedules(order), |answer| Event::Schedules { answer }))
            }
            Request::Decide(order) => {
                Some(event(operations.decide(order), |approval| Event::Decided { approval }))
            }
            Request::Redrive(chosen) => Some(dead(operations, Verb::Redrive, chosen)),
            Request::Drop(chosen) => Some(dead(operations, Verb::Drop, chosen)),
        }
    }

    fn listen(
        &self,
        agent: String,
        thread: Option<String>,
        progress: bool,
    ) -> Option<BoxFuture<'a, Event>> {
        let audience = Audience { agent, thread };
        let listening = check("agent", Some(&audience.agent))
            .and_then(|()| check("thread", audience.thread.as_deref()))
            .and_then(|()| {
                self.doors.terminal.listen(self.id, audience.clone(), progress).map_err(told)
            });
        if let Err(reason) = listening {
            return at_once(Event::error(reason));
        }
        self.doors.intake.ready(&audience.address());
        at_once(Event::Listening { agent: audience.agent, thread: audience.thread })
    }

    fn bridge(&self, hello: Hello) -> Option<BoxFuture<'a, Event>> {
        let channel = hello.channel.clone();
        let named =
            check("channel", Some(&channel)).and_then(|()| check("name", hello.name.as_deref()));
        let mut seated = lock(&self.seated);
        let sitting = named.and_then(|()| {
            if seated.is_some() {
                return Err("this connection is a bridge already: use another".to_owned());
            }
            let seat = self.doors.seats.get(&channel).ok_or_else(|| {
                format!(
                    "no channel {channel:?} of kind \"bridge\" is set: write a section [channels.{channel}] \
                     in twobox.toml, and start the host anew"
                )
            })?;
            seat.sit(hello, self.queue.clone(), Arc::clone(&self.dismissed))
        });
        match sitting {
            Ok(place) => {
                *seated = Some(place);
                None
            }
            Err(reason) => at_once(Event::error(reason)),
        }
    }
}

/// What a person hears of an operation: what came of it, or why nothing did.
fn event<'a, T: 'a>(
    operation: BoxFuture<'a, Result<T, String>>,
    done: impl FnOnce(T) -> Event + Send + 'a,
) -> BoxFuture<'a, Event> {
    operation.map(|outcome| outcome.map_or_else(Event::error, done)).boxed()
}

fn dead(operations: &dyn Operations, verb: Verb, chosen: Chosen) -> BoxFuture<'_, Event> {
    let Chosen { session, kind, ids } = chosen;
    let count = ids.as_ref().map_or(0, Vec::len);
    let reason = match verb {
        _ if count > ORDER_MAX => {
            format!("{count} ids are too many, at most {ORDER_MAX} are taken")
        }
        Verb::Drop if ids.is_none() => "ids: say what to drop".to_owned(),
        Verb::Redrive | Verb::Drop => {
            let order = DeadLetterOrder { verb, kind, ids };
            let handled = move |results| Event::Handled { session, results };
            return event(operations.dead(session, order), handled);
        }
    };
    ready(Event::error(reason)).boxed()
}

fn at_once<'a>(event: Event) -> Option<BoxFuture<'a, Event>> {
    Some(ready(event).boxed())
}

fn accept(
    intake: &dyn Intake,
    address: Result<Address, String>,
    id: MessageId,
    chat: Chat,
) -> BoxFuture<'_, Event> {
    let checked = address.and_then(|address| match chat.to_json().len() {
        _ if chat.text.trim().is_empty() => Err("the message is empty: say something".to_owned()),
        0..=CONTENT_MAX => Ok(address),
        length => Err(format!("the message has {length} bytes, at most {CONTENT_MAX} are taken")),
    });
    let address = match checked {
        Ok(address) => address,
        Err(reason) => {
            return ready(Event::Refused { id, retry: false, reason, say: None }).boxed();
        }
    };
    let inbound = Inbound::new(address, id.clone(), chat);
    async move {
        match intake.accept(inbound).await {
            Ok(receipts) => Event::Accepted { id, receipts },
            Err(refusal) => {
                let retry = matches!(refusal, Refusal::TryAgain { .. });
                let reason = refusal.to_string();
                let say = match refusal {
                    Refusal::Unheard { say } => say,
                    Refusal::TooManyThreads { .. } => Some(reason.clone()),
                    Refusal::NobodyListens { .. }
                    | Refusal::TryAgain { .. }
                    | Refusal::Blocked { .. } => None,
                };
                Event::Refused { id, retry, reason, say }
            }
        }
    }
    .boxed()
}

/// Where a message was said: at the terminal of an agent, or in a chat on a channel.
fn said_at(
    agent: Option<String>,
    channel: Option<String>,
    chat: Option<String>,
    thread: Option<String>,
) -> Result<Address, String> {
    check("thread", thread.as_deref())?;
    check("agent", agent.as_deref())?;
    check("channel", channel.as_deref())?;
    match (agent, channel, chat) {
        (Some(agent), None, None) => Ok(Audience { agent, thread }.address()),
        (None, Some(channel_type), Some(platform_id)) => {
            check("chat", Some(&platform_id))?;
            Ok(Address { channel_type, platform_id, thread_id: thread })
        }
        _ => Err("say either agent, or channel and chat".to_owned()),
    }
}

/// Whether a client may call something so.
///
/// # Errors
/// What it may be called.
pub(crate) fn check(what: &str, name: Option<&str>) -> Result<(), String> {
    let Some(name) = name else { return Ok(()) };
    bounds::NAME.check(what, name.len()).map_err(told)?;
    match !name.is_empty() && !name.contains(char::is_control) {
        true => Ok(()),
        false => {
            let most = bounds::NAME.most;
            Err(format!("{what}: use 1 to {most} bytes without control characters"))
        }
    }
}

/// As [`check`], for what a platform says of a message.
pub(crate) fn check_about(about: &About) -> Result<(), String> {
    check("sender_id", about.sender_id.as_deref())?;
    check("reply_to", about.reply_to.as_deref())
}

fn told(error: TooMuch) -> String {
    error.to_string()
}
