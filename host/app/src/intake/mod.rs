//! The intake: finds the sessions that a message is for, keeps the order of messages, and wakes those who
//! waited for somebody at an address. Who is heard is decided here, before anything of a message is stored.

mod people;
mod streaks;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready, try_join_all};
use tokio::sync::{mpsc, oneshot};
use twobox_shared::content::{Chat, KIND_CHAT, KIND_WORD};
use twobox_shared::ids::{MessageId, SessionId};
use twobox_shared::inbox::{Accepted, NewMessage, Origin};
use twobox_shared::time::UnixMillis;

use twobox_channels::Intake;
use twobox_model::approval::named_code;
use twobox_model::backoff::Backoff;
use twobox_model::channel::{Address, Asked, Inbound, Receipt, Refusal};
use twobox_model::chat_word::ChatWord;
use twobox_model::incoming::{IncomingFile, NamedFile, sorted};
use twobox_model::people::{PeopleWord, Speaker};
use twobox_session::command::Command;
use twobox_session::core::Core;
use twobox_session::signal::Reason;
use twobox_shared::errors::chain;
use twobox_store::routing::{Found, Hearer, Said};
use twobox_store::storage::{explain, passes};

use self::people::Desk;
pub use self::people::{Manners, fresh_claim_code, fresh_pairing_code};
use self::streaks::{Row, Streaks};

/// How many messages are routed with one look into `host.db`.
const ROUTE_BATCH: usize = 256;

/// The pauses before sessions that sleep are looked for once more that nobody could find.
const OUTSTANDING: Backoff =
    Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };

/// The intake of a running host.
#[derive(Debug)]
pub struct Router {
    core: Arc<Core>,
    manners: Arc<Manners>,
    arrivals: mpsc::UnboundedSender<Arrival>,
    /// Whether those with anything outstanding were woken since the start.
    woke_outstanding: AtomicBool,
}

/// A message on its way to the sessions that it is for.
#[derive(Debug)]
struct Arrival {
    message: Inbound,
    /// Gets an answer to wait for from each session.
    routed: oneshot::Sender<Result<Vec<Pending>, Refusal>>,
}

/// What one session will say to a message.
#[derive(Debug)]
struct Pending {
    session: SessionId,
    answer: oneshot::Receiver<Result<Accepted, Refusal>>,
}

impl Router {
    /// In front of `core`, for channels that listen as `manners` says; others are open. Must be called within a
    /// Tokio runtime.
    pub fn new(core: Arc<Core>, manners: Manners) -> Self {
        let (arrivals, arriving) = mpsc::unbounded_channel();
        let manners = Arc::new(manners);
        tokio::spawn(route(Arc::clone(&core), Arc::clone(&manners), arriving));
        Self { core, manners, arrivals, woke_outstanding: AtomicBool::new(false) }
    }

    async fn accept_message(&self, message: Inbound) -> Result<Vec<Receipt>, Refusal> {
        if self.core.is_stopping() {
            return Err(Refusal::stopping());
        }
        let (routed, pending) = oneshot::channel();
        self.arrivals.send(Arrival { message, routed }).map_err(|_| Refusal::stopping())?;
        let pending = pending.await.map_err(|_| Refusal::stopping())??;
        // All of them or an error: a channel that hears an error hands the message in again, and
        // whoever had it already changes nothing.
        try_join_all(pending.into_iter().map(|Pending { session, answer }| async move {
            let accepted = answer.await.map_err(|_| Refusal::stopping())??;
            Ok(Receipt { session, id: accepted.id, seq: accepted.seq.0 })
        }))
        .await
    }
}

impl Intake for Router {
    fn up(&self, channel: &str) {
        self.core.channel_up(channel);
    }

    fn accept(&self, message: Inbound) -> BoxFuture<'_, Result<Vec<Receipt>, Refusal>> {
        self.accept_message(message).boxed()
    }

    /// What is not known now is fetched: whether it is given to anybody is decided once more as it is accepted.
    fn takes_files<'a>(&'a self, message: &'a Inbound) -> BoxFuture<'a, bool> {
        let heard = self.core.parts.store.sessions().hear(people::said(message, &self.manners));
        async { heard.await.unwrap_or(true) }.boxed()
    }

    fn asked<'a>(
        &'a self,
        address: &'a Address,
        id: &'a MessageId,
        text: &'a str,
    ) -> BoxFuture<'a, Asked> {
        let Some(code) = named_code(text) else { return ready(Asked::Over).boxed() };
        let asked = self.core.parts.store.approvals().said_to(address, &code, id);
        // What cannot be read may still be answered.
        async { asked.await.unwrap_or(Asked::Open) }.boxed()
    }

    /// Whoever waits for somebody there looks at once. Of those who sleep since before this host
    /// nobody knows where they have something to say: the first who comes anywhere wakes them all, once.
    fn ready(&self, address: &Address) {
        self.core.channel_ready(address);
        if self.woke_outstanding.swap(true, Ordering::AcqRel) {
            return;
        }
        let core = Arc::clone(&self.core);
        tokio::spawn(async move {
            let mut stopping = core.stopping();
            for failures in 1.. {
                let error = match core.parts.store.sessions().outstanding().await {
                    Ok(outstanding) => {
                        for session in outstanding {
                            core.wake(session, Reason::Channel);
                        }
                        return;
                    }
                    Err(error) => error,
                };
                tracing::warn!(
                    error = chain(&error),
                    "cannot find the sessions that wait for a channel"
                );
                let stop = stopping.wait_for(|stopping| *stopping);
                if tokio::time::timeout(OUTSTANDING.after(failures), stop).await.is_ok() {
                    return;
                }
            }
        });
    }
}

/// Hands messages to their sessions in the order in which they arrived, which is the order in which
/// a person has said them. It never waits for a session or for a client, so that none holds up
/// another.
async fn route(
    core: Arc<Core>,
    manners: Arc<Manners>,
    mut arrivals: mpsc::UnboundedReceiver<Arrival>,
) {
    let mut batch = Vec::new();
    let mut routing = Routing {
        per_hour: core.parts.config.limits.new_sessions_per_hour,
        desk: Desk::new(Arc::clone(&core)),
        streaks: Streaks::default(),
        complaint: None,
        manners,
        core,
    };
    while arrivals.recv_many(&mut batch, ROUTE_BATCH).await > 0 {
        routing.route(batch.drain(..)).await;
    }
}

/// What the routing of messages needs and remembers.
struct Routing {
    core: Arc<Core>,
    manners: Arc<Manners>,
    desk: Desk,
    streaks: Streaks,
    per_hour: usize,
    /// Why nothing is taken, which is said once, and not for every message.
    complaint: Option<String>,
}

impl Routing {
    async fn route(&mut self, batch: impl Iterator<Item = Arrival>) {
        // What is said about people with a code is no message, and begins nothing.
        let mut waiting: Vec<(Arrival, Said)> = Vec::new();
        for arrival in batch {
            if let Some(word) = PeopleWord::of(&arrival.message.chat.text) {
                // What was said before it was said by whoever they were then.
                self.settle(std::mem::take(&mut waiting)).await;
                let done = self.desk.carry_out(word, &arrival.message).await;
                if let Some(refusal) = done {
                    drop(arrival.routed.send(Err(refusal)));
                    continue;
                }
            }
            let said = people::said(&arrival.message, &self.manners);
            waiting.push((arrival, said));
        }
        self.settle(waiting).await;
    }

    /// Finds for all of `waiting`, with one look, who is to have it.
    async fn settle(&mut self, waiting: Vec<(Arrival, Said)>) {
        if waiting.is_empty() {
            return;
        }
        let (ids, now) = (Arc::clone(&self.core.parts.ids), self.core.parts.clock.now());
        let all = waiting.iter().map(|(_, said)| said.clone()).collect();
        let routing = self.core.parts.store.sessions().route(all, self.per_hour, ids, now);
        let found = routing.await.map_err(|error| {
            let reason = explain(&error, self.core.parts.data.root());
            (format!("the message could not be stored: {reason}"), passes(&error))
        });
        let trouble = found.as_ref().err().map(|(reason, _)| reason);
        if let Some(reason) = trouble.filter(|reason| self.complaint.as_ref() != Some(reason)) {
            tracing::warn!(reason, "messages are refused");
        }
        self.complaint = trouble.cloned();
        for (number, (arrival, said)) in waiting.into_iter().enumerate() {
            let routed = match &found {
                Ok(found) => self.take(&found[number], arrival.message, &said, now).await,
                Err((reason, passes)) => {
                    Err(Refusal::TryAgain { reason: reason.clone(), passes: *passes })
                }
            };
            // Whoever asked may have gone; the message is on its way all the same.
            drop(arrival.routed.send(routed));
        }
    }

    /// Does with `message` what was found for it.
    async fn take(
        &mut self,
        found: &Found,
        message: Inbound,
        said: &Said,
        now: UnixMillis,
    ) -> Result<Vec<Pending>, Refusal> {
        let (hearers, rules) = match found {
            Found::Heard { hearers, rules } => (hearers, *rules),
            Found::Nobody => {
                let Address { channel_type, platform_id, .. } = message.address;
                return Err(Refusal::NobodyListens { channel_type, platform_id });
            }
            Found::Unheard(why) => return Err(self.desk.unheard(*why, &message).await),
            Found::TooMany { until } => {
                tell_flood(&message.address);
                let minutes = until.since(now).as_secs() / 60 + 1;
                return Err(Refusal::TooManyThreads { most: self.per_hour, minutes });
            }
        };
        if let Some(word) = PeopleWord::of(&message.chat.text) {
            return Err(people::heard(&word));
        }
        let mut hearers = hearers.clone();
        match self.streaks.note(&message, said, (&hearers, rules), now) {
            Row::Short => {}
            Row::Ends => {
                let Address { channel_type: channel, platform_id: chat, .. } = &message.address;
                tracing::warn!(
                    channel,
                    chat,
                    "one and the same speaks alone in a group, as a program that answers an agent: it is answered \
                     no more before somebody else speaks"
                );
                return Err(Refusal::Unheard { say: Some(streaks::told()) });
            }
            Row::Long => hearers.iter_mut().for_each(|hearer| hearer.trigger = false),
        }
        if hearers.is_empty() {
            return Err(Refusal::Unheard { say: None });
        }
        let by = people::speaker(&message, &self.manners);
        hand_over(&self.core, &hearers, message, &by)
    }
}

/// Says that a chat wants more threads than it may begin, now and then with how often it did.
fn tell_flood(Address { channel_type, platform_id, .. }: &Address) {
    let chat = format!("{channel_type} {platform_id:?}");
    if let Some(again) = twobox_system::repeat::warned("too many new threads", &chat) {
        tracing::warn!(chat, again, "a chat begins too many threads: they are refused");
    }
}

/// Names the files that came, in `chat` too, and says there what did not.
fn named(chat: &mut Chat, files: Vec<IncomingFile>) -> Vec<NamedFile> {
    let (files, missing) = sorted(files);
    chat.files = files.iter().map(|file| file.name.clone()).collect();
    for line in missing {
        if !chat.text.is_empty() {
            chat.text.push('\n');
        }
        chat.text.push_str(&line);
    }
    files
}

fn hand_over(
    core: &Arc<Core>,
    hearers: &[Hearer],
    message: Inbound,
    by: &Speaker,
) -> Result<Vec<Pending>, Refusal> {
    let Inbound { address, id, mut chat, files } = message;
    let Address { channel_type, platform_id, thread_id } = address;
    // What is said to the host is no message for a model.
    let is_word = ChatWord::of(&chat.text).is_some() && files.is_empty();
    let files = named(&mut chat, files);
    let new = NewMessage {
        id,
        kind: if is_word { KIND_WORD } else { KIND_CHAT }.to_owned(),
        content: chat.to_json(),
        origin: Origin {
            channel_type: Some(channel_type),
            platform_id: Some(platform_id),
            thread_id,
        },
        trigger: false,
        process_after: None,
        source_session: None,
        run_id: None,
    };
    hearers
        .iter()
        .map(|Hearer { session, trigger }| {
            let (reply, answer) = oneshot::channel();
            let (message, files, by) = (
                NewMessage { trigger: *trigger && !is_word, ..new.clone() },
                files.clone(),
                by.clone(),
            );
            match core.offer(*session, Command::Accept { message, files, by, reply }) {
                true => Ok(Pending { session: *session, answer }),
                false => Err(Refusal::TryAgain {
                    reason: format!("session {session} takes nothing at the moment"),
                    passes: true,
                }),
            }
        })
        .collect()
}
