//! The gateway: a connection over which Discord tells what happens. It is introduced to once, which begins a session,
//! and connected to anew whenever that is wanted; the session then goes on behind what is done with.
//!
//! Reading never waits for what was read: events are taken in by one task of their own kind, in their order, while
//! signs of life go on.

pub(super) mod words;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use tokio::time::{sleep, sleep_until};
use twobox_model::backoff::Backoff;
use twobox_shared::ids::{IdSource, SystemIds};
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;
use url::Url;

use self::words::{Ended, Event, Next, Said};
use super::api::{Question, Token};
use super::kept::{self, Kept};
use super::pace::Route;
use super::trouble::Trouble;
use super::wire::Named;
use super::{Account, DiscordChannel, missing};
use crate::instance::Surroundings;
use crate::websocket::{Fault, Received, WebSocket};

/// The pauses after trouble.
const PAUSE: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };

/// How long a connection may take to be made, and the gateway to greet.
const CONNECT: Duration = Duration::from_secs(20);

/// The most bytes of an event: one tells of all channels of a guild.
const EVENT_MAX: usize = 16 << 20;

/// How many events wait to be taken in before no more are read.
const WAITING_MAX: usize = 1_000;

/// How often an introduction may be made, with a little more than Discord wants.
const INTRODUCTIONS: Duration = Duration::from_millis(5_500);

/// After how many tries in vain a session is given up.
const TRIES_MAX: i64 = 4;

/// Why it does not go on as it is.
enum Stop {
    /// A person has to mend something.
    Refused(String),
    /// Later it may do.
    Later {
        why: String,
        /// Not before this is over.
        wait: Option<Duration>,
    },
}

#[derive(Deserialize)]
struct Door {
    url: String,
    session_start_limit: StartLimit,
}

#[derive(Deserialize)]
struct StartLimit {
    remaining: u64,
    /// In milliseconds.
    reset_after: u64,
}

impl DiscordChannel {
    /// Lives until a person has to mend something.
    ///
    /// # Errors
    /// What, and how.
    pub(super) async fn live(&self, surroundings: &Surroundings) -> Result<(), String> {
        self.failures.store(0, Ordering::Relaxed);
        let account = loop {
            match self.enter().await {
                Ok(account) => break account,
                Err(stop) => self.pause(surroundings, stop).await?,
            }
        };
        loop {
            let ended = match self.follow(surroundings, &account).await {
                Ok(ended) => ended,
                Err(stop) => {
                    self.pause(surroundings, stop).await?;
                    continue;
                }
            };
            tracing::debug!(channel = self.id, %ended, "the gateway");
            let failed = self.failures.load(Ordering::Relaxed);
            match ended.next() {
                Next::Refused(reason) => return Err(format!("{reason} ({ended})")),
                Next::Identify => lock(&self.kept).session = None,
                Next::Resume if failed >= TRIES_MAX => lock(&self.kept).session = None,
                Next::Resume => {}
            }
            match (failed, ended.is_routine()) {
                // A connection that was up and ended, as they do.
                (0, _) => {
                    self.failures.store(1, Ordering::Relaxed);
                    sleep(some_of(PAUSE.first)).await;
                }
                // Discord wants some seconds to pass before another introduction.
                (1, true) => {
                    self.failures.store(2, Ordering::Relaxed);
                    sleep(PAUSE.first + some_of(4 * PAUSE.first)).await;
                }
                _ => {
                    let stop = Stop::Later { why: ended.to_string(), wait: None };
                    self.pause(surroundings, stop).await?;
                }
            }
        }
    }

    /// Waits until it may be tried again.
    ///
    /// # Errors
    /// What a person has to mend.
    async fn pause(&self, surroundings: &Surroundings, stop: Stop) -> Result<(), String> {
        match stop {
            Stop::Refused(reason) => Err(reason),
            Stop::Later { why, wait } => {
                let failed = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
                surroundings.down(why);
                sleep(wait.unwrap_or_default().max(PAUSE.after(failed))).await;
                Ok(())
            }
        }
    }

    /// Is let in, and says as whom.
    async fn enter(&self) -> Result<Arc<Account>, Stop> {
        let (secrets, name) = (Arc::clone(&self.secrets), self.settings.token_secret.clone());
        let token = match blocking(move || secrets(&name)).await {
            Ok(Some(token)) => Token(token),
            Ok(None) => return Err(Stop::Refused(missing(&self.settings))),
            Err(error) => return Err(Stop::Refused(error)),
        };
        let route = Route::new("GET me", "");
        let me: Result<Named, Trouble> =
            self.api.read(Question::get(route, "users/@me").by(&token)).await;
        let bot = me.map_err(|trouble| self.stop_for(&trouble))?.id;
        let folder = kept::folder(&self.data, &self.id, bot);
        *lock(&self.kept) = blocking(move || Kept::read(&folder)).await.map_err(Stop::Refused)?;
        let account = Arc::new(Account { bot, token });
        *lock(&self.account) = Some(Arc::clone(&account));
        Ok(account)
    }

    fn stop_for(&self, trouble: &Trouble) -> Stop {
        match trouble {
            trouble if trouble.is_about_token() => Stop::Refused(format!(
                "{trouble}; get another one on the page \"Bot\" of the Developer Portal, and \
                 `twobox secrets set {}`",
                self.settings.token_secret
            )),
            Trouble::Busy { wait, .. } => {
                Stop::Later { why: trouble.to_string(), wait: Some(*wait) }
            }
            trouble => Stop::Later { why: trouble.to_string(), wait: None },
        }
    }

    /// Where the gateway is, for a session that goes on or for another one.
    async fn door(&self, account: &Account) -> Result<Url, Stop> {
        let going_on = lock(&self.kept).session.as_ref().map(|session| session.url.clone());
        let url = match going_on {
            Some(url) => url,
            None => {
                let since = lock(&self.introduced).map(|at| at.elapsed());
                sleep(INTRODUCTIONS.saturating_sub(since.unwrap_or(INTRODUCTIONS))).await;
                let question = Question::get(Route::new("GET gateway", ""), "gateway/bot");
                let door: Result<Door, Trouble> = self.api.read(question.by(&account.token)).await;
                let door = door.map_err(|trouble| self.stop_for(&trouble))?;
                if door.session_start_limit.remaining == 0 {
                    let wait = Duration::from_millis(door.session_start_limit.reset_after);
                    let why = "the bot was begun so often today that Discord lets it begin no more for now";
                    return Err(Stop::Later { why: why.to_owned(), wait: Some(wait) });
                }
                door.url
            }
        };
        let mut url =
            Url::parse(&url).ok().filter(|url| self.may_connect(url)).ok_or_else(|| {
                lock(&self.kept).session = None;
                let why =
                    "Discord named an address of its gateway to which no token is sent".to_owned();
                Stop::Later { why, wait: None }
            })?;
        url.set_query(Some("v=10&encoding=json"));
        Ok(url)
    }

    /// Whether a token may be sent there: in the clear only where the API is asked in the clear.
    fn may_connect(&self, url: &Url) -> bool {
        url.scheme() == "wss" || (url.scheme() == "ws" && self.settings.api.scheme() == "http")
    }

    /// Connects, and follows what is told, until the connection ends.
    async fn follow(
        &self,
        surroundings: &Surroundings,
        account: &Arc<Account>,
    ) -> Result<Ended, Stop> {
        let url = self.door(account).await?;
        let mut socket = match WebSocket::connect(&url, CONNECT, EVENT_MAX).await {
            Ok(socket) => socket,
            Err(fault) => return Ok(Ended::NotReached(fault.to_string())),
        };
        let beat = match tokio::time::timeout(CONNECT, next(&mut socket, CONNECT)).await {
            Ok(Ok(Said::Hello(beat))) => beat,
            Ok(Ok(Said::Reconnect)) => return Ok(Ended::Reconnect),
            Ok(Ok(_)) | Err(_) => return Ok(Ended::Lost("it did not greet".to_owned())),
            Ok(Err(ended)) => return Ok(ended),
        };
        let session = lock(&self.kept).session.clone();
        let last = session.as_ref().map(|session| session.last);
        let greeting = match &session {
            Some(session) => words::resume(&account.token.0, &session.id, session.last),
            None => {
                *lock(&self.introduced) = Some(Instant::now());
                words::identify(&account.token.0)
            }
        };
        if let Err(fault) = socket.send(greeting).await {
            return Ok(Ended::Lost(fault.to_string()));
        }
        let mut line = Line { socket, beat, last, answered: true };
        tokio::select! {
            ended = self.listen(surroundings, account, &mut line) => ended,
            () = self.in_doubt.notified() => {
                // Whoever was told may have asked with an older one.
                self.enter().await?;
                Ok(Ended::Lost("the token was in doubt".to_owned()))
            }
        }
    }

    async fn listen(
        &self,
        surroundings: &Surroundings,
        account: &Arc<Account>,
        line: &mut Line,
    ) -> Result<Ended, Stop> {
        let silence = line.beat * 2 + CONNECT;
        let mut next_beat = Instant::now() + some_of(line.beat);
        let mut waiting: VecDeque<(u64, Event)> = VecDeque::new();
        let mut work: Option<BoxFuture<'_, Result<(), String>>> = None;
        loop {
            if work.is_none() && !waiting.is_empty() {
                let batch = std::mem::take(&mut waiting);
                work = Some(self.take_in(surroundings, account, batch).boxed());
            }
            tokio::select! {
                biased;
                () = sleep_until(next_beat.into()) => {
                    if !line.answered {
                        return Ok(Ended::Lost("it gives no sign of life".to_owned()));
                    }
                    line.answered = false;
                    next_beat = Instant::now() + line.beat;
                    if let Err(ended) = line.give_sign().await {
                        return Ok(ended);
                    }
                }
                done = working(&mut work) => {
                    work = None;
                    // A disk that is full may have room later.
                    done.map_err(|why| Stop::Later { why, wait: None })?;
                }
                said = next(&mut line.socket, silence), if waiting.len() < WAITING_MAX => match said {
                    Ok(Said::Event(number, event)) => {
                        line.last = Some(number);
                        waiting.push_back((number, *event));
                    }
                    Ok(Said::Beat) => if let Err(ended) = line.give_sign().await {
                        return Ok(ended);
                    },
                    Ok(Said::Heard) => line.answered = true,
                    Ok(Said::Reconnect) => return Ok(Ended::Reconnect),
                    Ok(Said::Invalid { resumable }) => return Ok(Ended::Invalid { resumable }),
                    Ok(Said::Hello(_) | Said::Other) => {}
                    Err(ended) => return Ok(ended),
                },
            }
        }
    }
}

/// A connection that was greeted on.
struct Line {
    socket: WebSocket,
    /// How often a sign of life is wanted.
    beat: Duration,
    /// The number of what came last.
    last: Option<u64>,
    /// Whether the last sign was answered.
    answered: bool,
}

impl Line {
    async fn give_sign(&mut self) -> Result<(), Ended> {
        let sent = self.socket.send(words::beat(self.last)).await;
        sent.map_err(|fault| Ended::Lost(fault.to_string()))
    }
}

/// What the gateway says next. Nothing is lost if that is not waited for.
async fn next(socket: &mut WebSocket, silence: Duration) -> Result<Said, Ended> {
    match socket.receive(silence).await {
        // What cannot be read is nothing that could be done anything about.
        Ok(Received::Text(text)) => Ok(words::read(&text).unwrap_or(Said::Other)),
        Ok(Received::Closed { code, reason }) => Err(Ended::Closed { code, reason }),
        Err(fault @ Fault::NotReached(_)) => Err(Ended::NotReached(fault.to_string())),
        Err(fault) => Err(Ended::Lost(fault.to_string())),
    }
}

/// Waits for what is done, for ever if there is nothing.
async fn working(work: &mut Option<BoxFuture<'_, Result<(), String>>>) -> Result<(), String> {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// Some part of a span, by chance: not everybody is to come at the same time.
fn some_of(span: Duration) -> Duration {
    let random =
        u32::from_le_bytes(SystemIds.uuid().as_bytes()[12..].try_into().unwrap_or_default());
    span.mul_f64(f64::from(random) / f64::from(u32::MAX))
}
