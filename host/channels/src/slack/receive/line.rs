//! One connection of Socket Mode. What comes over it is acknowledged over it, and not before it is durable.
//!
//! Source: <https://docs.slack.dev/apis/events-api/using-socket-mode>.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};
use url::Url;

use super::super::enter::Stop;
use super::super::events::{self, Came, What};
use super::super::settings::is_near;
use super::super::{Account, SlackChannel};
use super::chats::Ack;
use super::{LINES_MAX, PAUSE};
use crate::instance::Surroundings;
use crate::websocket::{Received, WebSocket};
use twobox_system::repeat::warned;

/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often Slack is asked for a sign of life, and for how long there may be none.
const PING: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(35);

/// The most bytes of what comes at once.
const MESSAGE_MAX: usize = 4 << 20;

/// How an app is let alone that has too many connections.
const TOO_MANY: Duration = Duration::from_secs(30);

/// How a connection has ended.
#[derive(Debug)]
pub(super) enum End {
    /// Slack has closed it, as it said.
    Closed,
    /// It was lost, and nobody knows what was said meanwhile.
    Lost(String),
    /// No other one will do.
    Stopped(Stop),
}

#[derive(Deserialize)]
struct Opened {
    url: String,
}

impl SlackChannel {
    /// Has a connection until it ends. One that `takes_over` from another is tried again and again: the other
    /// goes on meanwhile.
    pub(super) async fn line(
        &self,
        surroundings: &Surroundings,
        account: &Account,
        failures: &AtomicI64,
        takes_over: bool,
    ) -> End {
        let mut tries = 0;
        let socket = loop {
            match self.open(account).await {
                Ok(socket) => break socket,
                Err(Stop::Trouble { wait, .. }) if takes_over => {
                    tries += 1;
                    sleep(wait.unwrap_or_default().max(PAUSE.after(tries))).await;
                }
                Err(stop) => return End::Stopped(stop),
            }
        };
        match self.speak(surroundings, account, failures, socket).await {
            Ok(end) => end,
            Err(why) => End::Lost(why),
        }
    }

    async fn open(&self, account: &Account) -> Result<WebSocket, Stop> {
        let opened = self.api.form::<Opened>(&account.app, "apps.connections.open", &[]).await;
        let Opened { url } = opened.map_err(|trouble| match trouble.is_access() || trouble.is_final() {
            true => Stop::Refused(format!(
                "no connection is opened for the app's token: {trouble}. Is it one with the scope connections:write, and \
                 is Socket Mode on? Mend it, and `twobox secrets set {}`",
                self.settings.app_token
            )),
            false => trouble.into(),
        })?;
        let strange = || Stop::Trouble {
            why: "Slack has named no address to connect to".to_owned(),
            wait: None,
        };
        let url: Url = url.parse().map_err(|_| strange())?;
        // What is said goes in the clear to nobody, unless the Web API is asked so as well.
        let is_safe =
            url.scheme() == "wss" || is_near(&url) || self.settings.api.scheme() == "http";
        if !is_safe {
            return Err(strange());
        }
        let connected = WebSocket::connect(&url, PATIENCE, MESSAGE_MAX).await;
        connected.map_err(|fault| Stop::Trouble { why: format!("Slack: {fault}"), wait: None })
    }

    /// Speaks over a connection until it ends.
    ///
    /// # Errors
    /// Why it was lost.
    async fn speak(
        &self,
        surroundings: &Surroundings,
        account: &Account,
        failures: &AtomicI64,
        mut socket: WebSocket,
    ) -> Result<End, String> {
        let (done, mut acks) = mpsc::unbounded_channel();
        let mut ping = interval(PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_told = false;
        loop {
            let came = tokio::select! {
                received = socket.receive(SILENCE) => received.map_err(|fault| fault.to_string())?,
                Some(envelope) = acks.recv() => {
                    let ack = json!({ "envelope_id": envelope }).to_string();
                    socket.send(ack).await.map_err(|fault| fault.to_string())?;
                    continue;
                }
                _ = ping.tick() => {
                    socket.ping().await.map_err(|fault| fault.to_string())?;
                    continue;
                }
            };
            let text = match came {
                Received::Text(text) => text,
                Received::Closed { .. } if is_told => return Ok(End::Closed),
                Received::Closed { code, reason } => {
                    let code = code.map_or_else(|| "no code".to_owned(), |code| code.to_string());
                    return Err(format!("Slack has closed the connection ({code} {reason})"));
                }
            };
            match events::read(&text) {
                Came::Hello { connections } => {
                    failures.store(0, Ordering::Relaxed);
                    if self.has_gap.swap(false, Ordering::Relaxed) {
                        self.chats.look_back();
                    }
                    surroundings.up();
                    self.tell_of_others(connections);
                }
                Came::Disconnect { reason } if reason == "too_many_websockets" => {
                    let why = "the app has too many connections: is it used elsewhere?".to_owned();
                    return Ok(End::Stopped(Stop::Trouble { why, wait: Some(TOO_MANY) }));
                }
                Came::Disconnect { reason } if reason == "link_disabled" => {
                    let why = "Socket Mode is switched off for the app: switch it on".to_owned();
                    return Ok(End::Stopped(Stop::Refused(why)));
                }
                Came::Disconnect { reason } => {
                    tracing::debug!(channel = self.id, reason, "Slack closes a connection soon");
                    is_told = true;
                    self.refresh.notify_one();
                }
                Came::Envelope { id, what } => {
                    let ack = Ack { line: done.clone(), envelope: id };
                    match what {
                        Some(What::Message(message)) => {
                            self.take(surroundings, account, message, ack).await;
                        }
                        Some(What::Click(click)) => {
                            self.take_click(surroundings, account, *click, ack).await;
                        }
                        None => ack.send(),
                    }
                }
                Came::Nothing => {}
            }
        }
    }

    /// Slack gives each message to one connection of an app, whoever has it.
    fn tell_of_others(&self, connections: u64) {
        // Later one of ours may count that is over, or is about to be.
        let is_first = !self.has_met.swap(true, Ordering::Relaxed);
        let ours = if is_first { 1 } else { LINES_MAX as u64 };
        if connections > ours
            && let Some(before) = warned("slack connections", &self.id)
        {
            tracing::warn!(
                channel = self.id,
                connections,
                before,
                "the app's token is used elsewhere, too, or an earlier life of this host is not over yet: Slack gives what is said to one of them alone, and what \
                 the other was given is not heard here. Give each installation an app of its own"
            );
        }
    }
}
