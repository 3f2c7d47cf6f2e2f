//! Handing in what was heard: one after the other for each chat, and no chat waits for another. No server says anything
//! twice, so what nobody takes at the moment is kept, also for a later life, and handed in again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;
use twobox_model::backoff::Backoff;
use twobox_model::channel::{Address, Inbound, Refusal};
use twobox_shared::ids::MessageId;
use twobox_system::lock::lock;
use twobox_system::repeat::warned;

use super::IrcChannel;
use super::kept::{WAITING_MAX, Waiting};
use super::server::room_anywhere;
use super::stay::Order;
use crate::format::irc::lines;
use crate::instance::Surroundings;

/// The pauses before a message is handed in again.
const AGAIN: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };

/// How many lines the host says of itself at once.
const SAYS_MAX: usize = 5;

/// What of a chat is not taken yet. The first is being handed in.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// How often the first was not taken.
    failures: i64,
}

impl IrcChannel {
    /// Hands in what was kept and what is `heard`, until nothing more comes. What nobody has taken by then is kept.
    pub(super) async fn take_all(
        &self,
        surroundings: &Surroundings,
        mut heard: mpsc::Receiver<Waiting>,
    ) {
        let mut chats = BTreeMap::<String, Queue>::new();
        for waiting in lock(&self.kept).waiting.clone() {
            chats.entry(waiting.platform_id.clone()).or_default().waiting.push_back(waiting);
        }
        let ends = watch::Sender::new(false);
        let mut under_way = FuturesUnordered::new();
        let begin = |waiting: Waiting, pause: Duration| {
            let mut ended = ends.subscribe();
            async move {
                tokio::select! {
                    () = sleep(pause) => {}
                    _ = ended.wait_for(|ends| *ends) => {}
                }
                let taken = self.take(surroundings, &waiting).await;
                (waiting.platform_id, taken)
            }
        };
        for queue in chats.values() {
            under_way.extend(queue.waiting.front().map(|it| begin(it.clone(), Duration::ZERO)));
        }
        let mut is_written = !chats.is_empty();
        while !(*ends.borrow() && under_way.is_empty()) {
            tokio::select! {
                one = heard.recv(), if !*ends.borrow() => match one {
                    None => { ends.send_replace(true); }
                    Some(waiting) if self.keep_waiting(&waiting) => {
                        let queue = chats.entry(waiting.platform_id.clone()).or_default();
                        if queue.waiting.is_empty() {
                            under_way.push(begin(waiting.clone(), Duration::ZERO));
                        }
                        queue.waiting.push_back(waiting);
                    }
                    Some(_) => {}
                },
                Some((chat, taken)) = under_way.next() => {
                    let Some(queue) = chats.get_mut(&chat) else { continue };
                    match taken {
                        Ok(()) => {
                            queue.failures = 0;
                            if let Some(done) = queue.waiting.pop_front() {
                                lock(&self.kept).waiting.retain(|it| *it != done);
                            }
                        }
                        Err(why) => {
                            queue.failures += 1;
                            is_written = true;
                            tracing::debug!(channel = self.id, chat, why, "a message is not taken yet");
                        }
                    }
                    // What is on the disk is what would be handed in again: no more than has to be.
                    if is_written {
                        self.write_down().await;
                        is_written = !lock(&self.kept).waiting.is_empty();
                    }
                    match queue.waiting.front() {
                        Some(_) if queue.failures > 0 && *ends.borrow() => {} // it is kept
                        Some(next) => under_way.push(begin(next.clone(), AGAIN.after(queue.failures))),
                        None => { chats.remove(&chat); }
                    }
                }
            }
        }
    }

    /// Remembers a message until it is taken; whether there was room.
    fn keep_waiting(&self, waiting: &Waiting) -> bool {
        let kept = &mut lock(&self.kept).waiting;
        // One chat that is not taken costs the others no line of theirs.
        let of_chat = kept.iter().filter(|it| it.platform_id == waiting.platform_id).count();
        let has_room = kept.len() < WAITING_MAX && of_chat < WAITING_MAX / 4;
        if has_room {
            kept.push(waiting.clone());
        } else if let Some(before) = warned("too many messages wait on irc", &self.id) {
            tracing::warn!(
                channel = self.id,
                before,
                "more messages wait to be taken than are kept; what is too much is not heard"
            );
        }
        has_room
    }

    /// Hands in a message.
    ///
    /// # Errors
    /// Why it is not taken now.
    async fn take(&self, surroundings: &Surroundings, waiting: &Waiting) -> Result<(), String> {
        let Ok(id) = MessageId::parse(&waiting.id) else { return Ok(()) };
        let address = Address {
            channel_type: self.id.clone(),
            platform_id: waiting.platform_id.clone(),
            thread_id: None,
        };
        let inbound = Inbound::new(address, id, waiting.chat.clone());
        match surroundings.intake.accept(inbound).await {
            Ok(_) => {}
            Err(Refusal::NobodyListens { .. }) => self.tell_unwired(&waiting.platform_id),
            Err(Refusal::Unheard { say }) => {
                if let Some(say) = say {
                    self.tell(&waiting.platform_id, &say).await;
                }
            }
            Err(refusal @ Refusal::TooManyThreads { .. }) => {
                self.tell(&waiting.platform_id, &refusal.to_string()).await;
            }
            Err(refusal @ (Refusal::TryAgain { .. } | Refusal::Blocked { .. })) => {
                return Err(refusal.to_string());
            }
        }
        Ok(())
    }

    /// Says something of the host's own in a chat, if that can be done.
    async fn tell(&self, chat: &str, text: &str) {
        let seat = lock(&self.seat).as_ref().map(|seat| (seat.orders.clone(), seat.turn.clone()));
        let Some((orders, turn)) = seat else { return };
        for text in lines(text, room_anywhere(chat)).into_iter().take(SAYS_MAX) {
            let Some(_mine) = turn.come().await else { return };
            let (done, sent) = oneshot::channel();
            let order = Order { target: chat.to_owned(), command: "NOTICE", text, done };
            if orders.send(order).await.is_err() {
                return;
            }
            if !matches!(sent.await, Ok(crate::parts::Sent::Taken(_))) {
                tracing::debug!(channel = self.id, chat, "it was not told");
                return;
            }
        }
    }

    /// Says to the operator, once for each chat, how it can be heard.
    fn tell_unwired(&self, chat: &str) {
        if warned("unwired chat of irc", &format!("{} {chat}", self.id))
            .is_some_and(|before| before == 0)
        {
            tracing::warn!(
                channel = self.id,
                "somebody speaks where no agent listens: `twobox wire add AGENT {} '{}'` has one listen",
                self.id,
                chat.replace('\'', "")
            );
        }
    }
}
