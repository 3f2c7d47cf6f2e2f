//! Asking Discord's REST API, at its own pace.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use hyper::Method;
use hyper::header::{AUTHORIZATION, DATE, USER_AGENT};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::sleep;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::time::UnixMillis;
use twobox_system::lock::lock;
use url::Url;

use super::pace::{Limits, Route};
use super::trouble::Trouble;
use crate::http::{Answer, Ask, Client};

/// How long a question waits at most until Discord takes it.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The most bytes of an answer.
const ANSWER_MAX: usize = 16 << 20;

/// Who asks. Discord wants to know.
const AGENT: &str =
    concat!("DiscordBot (https://crates.io/crates/twobox, ", env!("CARGO_PKG_VERSION"), ")");

/// A bot's token. Its text is for Discord alone.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(pub(super) String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// The API, with what is known of its limits and its clock.
#[derive(Debug)]
pub(super) struct Api {
    client: Client,
    limits: Mutex<Limits>,
    /// How far its clock is ahead of the host's, in milliseconds.
    ahead_ms: AtomicI64,
}

/// What is asked.
pub(super) struct Question {
    route: Route,
    ask: Ask,
    wait_max: Duration,
}

impl Question {
    /// Asks for what is at `path`.
    pub(super) fn get(route: Route, path: &str) -> Self {
        Self::of(route, Ask::get(versioned(path)))
    }

    /// Has something done, as `body` says.
    pub(super) fn post(route: Route, path: &str, body: &Value) -> Self {
        Self::of(route, Ask::post_json(versioned(path), body))
    }

    /// Has something done, with a body of the type `kind`.
    pub(super) fn post_body(route: Route, path: &str, kind: &str, body: Bytes) -> Self {
        Self::of(route, Ask::new(Method::POST, versioned(path)).body(kind, body))
    }

    fn of(route: Route, ask: Ask) -> Self {
        let ask = ask.at_most(ANSWER_MAX).header(USER_AGENT, AGENT);
        Self { route, ask, wait_max: WAIT_MAX }
    }

    /// As the bot that has this token.
    pub(super) fn by(self, token: &Token) -> Self {
        let Token(token) = token;
        Self { ask: self.ask.header(AUTHORIZATION, &format!("Bot {token}")), ..self }
    }

    /// With another patience for the answer.
    pub(super) fn patient(self, patience: Duration) -> Self {
        Self { ask: self.ask.patient(patience), ..self }
    }

    /// Asked now or not at all.
    pub(super) fn now(self) -> Self {
        Self { wait_max: Duration::ZERO, ..self }
    }
}

fn versioned(path: &str) -> String {
    format!("v10/{path}")
}

impl Api {
    pub(super) fn new(base: Url) -> Self {
        Self { client: Client::new(base), limits: Mutex::default(), ahead_ms: AtomicI64::new(0) }
    }

    /// Asks, as soon as that may be.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) async fn ask(&self, question: Question) -> Result<Answer, Trouble> {
        let Question { route, ask, wait_max } = question;
        self.wait(wait_max, |limits, now| limits.ask(&route, now)).await?;
        let answer = self.client.ask(ask).await?;
        self.note_clock(&answer);
        let now = Instant::now();
        let mut limits = lock(&self.limits);
        limits.hear(&route, &answer.headers, now);
        if Trouble::is_invalid(answer.status) {
            limits.refuse(now);
        }
        if answer.is_success() {
            return Ok(answer);
        }
        let trouble = Trouble::of(&answer);
        if let Trouble::Busy { wait, global } = trouble {
            limits.pause(&route, wait, global, now);
        }
        Err(trouble)
    }

    /// Returns when this may be asked.
    ///
    /// # Errors
    /// That it would take too long.
    pub(super) async fn ready(&self, route: &Route) -> Result<(), Trouble> {
        let look = |limits: &mut Limits, now| match limits.pause_before(route, now) {
            Duration::ZERO => Ok(()),
            pause => Err(pause),
        };
        self.wait(WAIT_MAX, look).await
    }

    async fn wait(
        &self,
        most: Duration,
        leave: impl Fn(&mut Limits, Instant) -> Result<(), Duration>,
    ) -> Result<(), Trouble> {
        let end = Instant::now() + most;
        loop {
            let now = Instant::now();
            let leave = leave(&mut lock(&self.limits), now);
            match leave {
                Ok(()) => return Ok(()),
                Err(wait) if now + wait <= end => sleep(wait).await,
                Err(wait) => return Err(Trouble::Busy { wait, global: false }),
            }
        }
    }

    /// Asks, and reads the answer as `T`.
    ///
    /// # Errors
    /// As [`Api::ask`].
    pub(super) async fn read<T: DeserializeOwned>(&self, question: Question) -> Result<T, Trouble> {
        Ok(self.ask(question).await?.json()?)
    }

    fn note_clock(&self, answer: &Answer) {
        let date = answer.headers.get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let since = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok());
        let theirs = since.and_then(|since| i64::try_from(since.as_millis()).ok());
        if let Some(theirs) = theirs {
            // It says seconds: half of one is in the middle.
            let ahead = theirs.saturating_add(500).saturating_sub(SystemClock.now().0);
            self.ahead_ms.store(ahead, Ordering::Relaxed);
        }
    }

    /// How far Discord's clock is ahead of the host's, in milliseconds, by its last answer.
    pub(super) fn ahead_ms(&self) -> i64 {
        self.ahead_ms.load(Ordering::Relaxed)
    }

    /// What Discord's clock said when the host's said `at`.
    pub(super) fn theirs(&self, at: UnixMillis) -> UnixMillis {
        UnixMillis(at.0.saturating_add(self.ahead_ms()))
    }
}
