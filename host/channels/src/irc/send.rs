//! Saying one message: its lines, each a part with a record of its own, one after the other as their turns come.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::sleep_until;
use twobox_model::channel::{Address, Outbound, Outcome};
use twobox_shared::time::UnixMillis;
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

use super::pace::Pacer;
use super::server::room_anywhere;
use super::stay::Order;
use super::{IrcChannel, wire};
use crate::format::irc::lines;
use crate::parts::{self, Looked, Part, Platform, Sent};

/// The longest address of anybody.
const TARGET_MAX: usize = 200;

impl IrcChannel {
    /// Says one message, as far as that was not done before.
    pub(super) async fn send(&self, address: &Address, outbound: &Outbound) -> Outcome {
        let target = address.platform_id.as_str();
        if !is_target(target) {
            let error = format!("{target:?} is neither a channel nor somebody's nick");
            return Outcome::Permanent { error };
        }
        let platform = {
            let seat = lock(&self.seat);
            let Some(seat) = &*seat else { return Outcome::Unavailable };
            if let Some(name) = seat.server.channel(target)
                && !seat.inside.contains(&seat.server.folded(name))
            {
                let mut all = self.settings.channels.iter();
                return match all.any(|it| seat.server.alike(it, name)) {
                    true => Outcome::Unavailable, // it tries to be there, and says when it is
                    false => Outcome::Permanent {
                        error: format!(
                            "it is not in {name}, which is not among the `channels` that are set"
                        ),
                    },
                };
            }
            Said {
                orders: seat.orders.clone(),
                turn: seat.turn.clone(),
                mine: Mutex::default(),
                target,
                command: command(outbound),
            }
        };
        let (outbound, most) = (outbound.clone(), self.settings.lines);
        let key = outbound.key.clone();
        let room = room_anywhere(target);
        let parts = blocking(move || parts_of(&outbound, room, most)).await;
        parts::deliver(self.journal.as_ref(), &key, &parts, &platform).await
    }
}

/// Whether that can be the name of a channel or a nick, and of one only.
fn is_target(text: &str) -> bool {
    let strange = |c: char| c.is_control() || [' ', ',', '*', '?', '!'].contains(&c);
    text.len() <= TARGET_MAX
        && wire::is_word(text)
        && !text.starts_with('$')
        && !text.contains(strange)
}

/// By what it is said: the host's own words by what nobody may answer, unless they are a question.
fn command(outbound: &Outbound) -> &'static str {
    match &outbound.prompt {
        None if outbound.is_notice() => "NOTICE",
        Some(_) | None => "PRIVMSG",
    }
}

/// The lines of a message, at most so many, each with `room` bytes. Files are named.
fn parts_of(outbound: &Outbound, room: usize, most: usize) -> Vec<Part<String>> {
    let mut all = lines(&outbound.text, room);
    let left_out = all.len().saturating_sub(most);
    if left_out > 0 {
        all.truncate(most);
        all.push(format!("[{left_out} more lines are not shown]"));
    }
    let files =
        outbound.files.iter().flat_map(|file| lines(&format!("[file: {}]", named(file)), room));
    all.extend(files);
    let part = |(index, what): (usize, String)| Part { name: (index + 1).to_string(), what };
    all.into_iter().enumerate().map(part).collect()
}

/// A name that Markdown makes nothing of.
fn named(file: &str) -> String {
    let escape = |c: char| if c.is_ascii_punctuation() { vec!['\\', c] } else { vec![c] };
    file.chars().flat_map(escape).collect()
}

/// Where the lines of a message are said.
struct Said<'a> {
    orders: mpsc::Sender<Order>,
    turn: Turn,
    /// Held from when a line may be said until it is answered for.
    mine: Mutex<Option<OwnedSemaphorePermit>>,
    target: &'a str,
    command: &'static str,
}

/// Whose line is said next. One at a time is on its way, and the server bears so many in a while.
#[derive(Clone)]
pub(super) struct Turn {
    next: Arc<Semaphore>,
    pub(super) pacer: Arc<Mutex<Pacer>>,
}

impl Turn {
    pub(super) fn new(pacer: Pacer) -> Self {
        Self { next: Arc::new(Semaphore::new(1)), pacer: Arc::new(Mutex::new(pacer)) }
    }

    /// Waits until a line may be said. The next waits until what comes of this is dropped.
    pub(super) async fn come(&self) -> Option<OwnedSemaphorePermit> {
        let mine = Arc::clone(&self.next).acquire_owned().await.ok()?;
        let at = lock(&self.pacer).reserve(Instant::now());
        sleep_until(at.into()).await;
        Some(mine)
    }
}

impl Platform<String> for Said<'_> {
    fn ready<'a>(&'a self, _part: &'a Part<String>) -> BoxFuture<'a, Result<(), Outcome>> {
        Box::pin(async move {
            let mine = tokio::select! {
                mine = self.turn.come() => mine,
                () = self.orders.closed() => None,
            };
            match mine {
                Some(mine) if !self.orders.is_closed() => {
                    *lock(&self.mine) = Some(mine);
                    Ok(())
                }
                Some(_) | None => Err(Outcome::Unavailable),
            }
        })
    }

    fn send<'a>(&'a self, part: &'a Part<String>) -> BoxFuture<'a, Sent> {
        Box::pin(async move {
            let (done, sent) = oneshot::channel();
            let (target, text) = (self.target.to_owned(), part.what.clone());
            let order = Order { target, command: self.command, text, done };
            if self.orders.send(order).await.is_err() {
                let error = "the connection has ended".to_owned();
                return Sent::NotSent { error, retry_after: None };
            }
            let unknown = |_| Sent::Unknown("the connection has ended".to_owned());
            let sent = sent.await.unwrap_or_else(unknown);
            lock(&self.mine).take();
            sent
        })
    }

    fn look<'a>(&'a self, _part: &'a Part<String>, _begun: UnixMillis) -> BoxFuture<'a, Looked> {
        // No server says what was said.
        Box::pin(async { Looked::Unknown })
    }
}
