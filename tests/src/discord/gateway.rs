//! The gateway: one connection, from its greeting to its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use tokio_websockets::{CloseCode, Message, ServerBuilder, WebSocketStream};

use super::server::Shared;
use super::state::{GUILDS, INTENTS, PRIVILEGED, Session, State, Told};

/// The most bytes of what is said to it.
const SAID_MAX: usize = 4096;

/// How often somebody may say something within a minute.
const SAID: usize = 120;

/// In which time introductions are counted.
const INTRODUCTIONS: Duration = Duration::from_secs(5);

struct Line {
    shared: Arc<Shared>,
    own: UnboundedSender<Told>,
    /// The session that this connection has.
    session: Option<String>,
    is_compressed: bool,
    has_begun: bool,
}

/// Serves one connection to its end.
pub(super) async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    let Ok((request, mut socket)) = ServerBuilder::new().accept(stream).await else { return };
    let query = request.uri().query().unwrap_or_default();
    let version = query.split('&').any(|it| it == "v=10");
    let is_compressed = query.split('&').any(|it| it == "compress=zlib-stream");
    let (own, told) = unbounded_channel();
    let mut line = Line { shared, own, session: None, is_compressed, has_begun: false };
    let close = match version {
        true => line.serve(&mut socket, told).await,
        false => Some(4012),
    };
    line.leave();
    if let Some(code) = close {
        let code = CloseCode::try_from(code).unwrap();
        drop(socket.send(Message::close(Some(code), "as published")).await);
        drop(timeout(Duration::from_secs(1), socket.close()).await);
    }
}

impl Line {
    /// Returns the code with which the connection is closed, or none if it is cut off.
    async fn serve(
        &mut self,
        socket: &mut WebSocketStream<TcpStream>,
        mut told: UnboundedReceiver<Told>,
    ) -> Option<u16> {
        let beat = self.shared.look(|state| state.options.beat);
        let hello = json!({ "op": 10, "s": null, "t": null, "d": { "heartbeat_interval": beat.as_millis() } });
        self.say(socket, &hello.to_string()).await?;
        let mut heard = Instant::now();
        let mut said: VecDeque<Instant> = VecDeque::new();
        loop {
            // Who gives no sign of life is cut off, with some patience.
            let end = heard + beat * 3 / 2;
            tokio::select! {
                () = tokio::time::sleep_until(end.into()) => return Some(4000),
                next = told.recv() => match next? {
                    Told::Text(text) => self.say(socket, &text).await?,
                    Told::Close(code) => return Some(code),
                    Told::Drop => return None,
                },
                message = socket.next() => {
                    let message = message?.ok()?;
                    if let Some((code, _)) = message.as_close() {
                        let code: u16 = code.into();
                        if [1000, 1001].contains(&code) {
                            self.end_session();
                        }
                        return None;
                    }
                    let Some(text) = message.as_text() else { continue };
                    said.push_back(Instant::now());
                    while said.front().is_some_and(|at| at.elapsed() > Duration::from_secs(60)) {
                        said.pop_front();
                    }
                    if said.len() > SAID {
                        return Some(4008);
                    }
                    let payload: Option<Value> = serde_json::from_str(text).ok();
                    let Some(payload) = payload.filter(|_| text.len() <= SAID_MAX) else {
                        return Some(4002);
                    };
                    match payload["op"].as_u64() {
                        Some(1) => {
                            heard = Instant::now();
                            self.say(socket, "{\"op\":11}").await?;
                        }
                        Some(2) => if let Err(code) = self.identify(&payload["d"]) {
                            return Some(code);
                        },
                        Some(6) => if let Err(code) = self.resume(&payload["d"]) {
                            return Some(code);
                        },
                        Some(3 | 4 | 8) if self.has_begun => {}
                        Some(3 | 4 | 8) => return Some(4003),
                        _ => return Some(4001),
                    }
                }
            }
        }
    }

    async fn say(&self, socket: &mut WebSocketStream<TcpStream>, text: &str) -> Option<()> {
        let message = match self.is_compressed {
            false => Message::text(text.to_owned()),
            true => Message::binary(stored(
                text.as_bytes(),
                self.has_begun || !text.contains("\"op\":10"),
            )),
        };
        socket.send(message).await.ok()
    }

    /// Begins a session. An error is a close code.
    fn identify(&mut self, data: &Value) -> Result<(), u16> {
        if self.has_begun {
            return Err(4005);
        }
        let own = self.own.clone();
        let begun = self.shared.change(|state| {
            if data["token"] != state.options.token.as_str() {
                return Err(4004_u16);
            }
            let intents =
                data["intents"].as_u64().filter(|it| it & !INTENTS == 0).ok_or(4013_u16)?;
            if intents & PRIVILEGED != 0 && !state.options.may_read {
                return Err(4014);
            }
            while state.introduced.front().is_some_and(|at| at.elapsed() > INTRODUCTIONS) {
                state.introduced.pop_front();
            }
            if state.introduced.len() >= state.options.introductions {
                state.counts.invalid += 1;
                return Ok(None);
            }
            state.introduced.push_back(Instant::now());
            state.counts.identified += 1;
            Ok(Some(begin(state, intents, own)))
        })?;
        self.has_begun = begun.is_some();
        match begun {
            Some(id) => self.session = Some(id),
            None => self.invalid(),
        }
        Ok(())
    }

    /// Goes on with a session. An error is a close code.
    fn resume(&mut self, data: &Value) -> Result<(), u16> {
        if self.has_begun {
            return Err(4005);
        }
        let own = self.own.clone();
        let id = data["session_id"].as_str().unwrap_or_default().to_owned();
        let last = data["seq"].as_u64();
        let goes_on = self.shared.change(|state| {
            if data["token"] != state.options.token.as_str() {
                return Err(4004_u16);
            }
            let known_for = state.options.session_known;
            state.sessions.retain(|_, session| match session.line {
                Ok(_) => true,
                Err(since) => since.elapsed() < known_for,
            });
            let Some(session) = state.sessions.get_mut(&id) else {
                state.counts.invalid += 1;
                return Ok(false);
            };
            let last = last.filter(|last| *last <= session.last).ok_or(4007_u16)?;
            let is_whole = session.events.front().is_none_or(|(first, _)| *first <= last + 1);
            if !is_whole {
                state.sessions.remove(&id);
                state.counts.invalid += 1;
                return Ok(false);
            }
            if let Ok(other) = &session.line {
                drop(other.send(Told::Drop));
            }
            for (_, text) in session.events.iter().filter(|(number, _)| *number > last) {
                drop(own.send(Told::Text(text.clone())));
            }
            session.line = Ok(own);
            session.tell("RESUMED", &json!({}));
            state.counts.resumed += 1;
            Ok(true)
        })?;
        self.has_begun = goes_on;
        match goes_on {
            true => self.session = Some(id),
            false => self.invalid(),
        }
        Ok(())
    }

    fn invalid(&self) {
        drop(self.own.send(Told::Text(json!({ "op": 9, "d": false }).to_string())));
    }

    fn end_session(&mut self) {
        if let Some(id) = self.session.take() {
            self.shared.change(|state| state.sessions.remove(&id));
        }
    }

    /// The connection is over; the session is remembered for a while.
    fn leave(&mut self) {
        let Some(id) = self.session.take() else { return };
        self.shared.change(|state| {
            let own = &self.own;
            if let Some(session) = state.sessions.get_mut(&id)
                && session.line.as_ref().is_ok_and(|line| line.same_channel(own))
            {
                session.line = Err(Instant::now());
            }
        });
    }
}

/// Begins a session, and tells of everything.
fn begin(state: &mut State, intents: u64, own: UnboundedSender<Told>) -> String {
    let id = format!("session-{}", state.id());
    let ready = json!({
        "v": 10, "user": state.users[&state.bot], "session_id": id, "resume_gateway_url": state.gateway,
        "guilds": [{ "id": state.guild.to_string(), "unavailable": true }],
        "application": { "id": state.bot.to_string(), "flags": 1 << 19 },
        "private_channels": [], "session_type": "normal",
    });
    let guild = state.guild();
    let mut session = Session { intents, last: 0, events: VecDeque::new(), line: Ok(own) };
    session.tell("READY", &ready);
    if intents & GUILDS != 0 {
        session.tell("GUILD_CREATE", &guild);
    }
    state.sessions.insert(id.clone(), session);
    id
}

/// A piece of a stream of zlib that is not made any smaller, and ends where a reader has it whole.
fn stored(bytes: &[u8], has_begun: bool) -> Vec<u8> {
    let mut stream = if has_begun { Vec::new() } else { vec![0x78, 0x01] };
    for block in bytes.chunks(usize::from(u16::MAX)) {
        let length = u16::try_from(block.len()).unwrap();
        stream.push(0);
        stream.extend_from_slice(&length.to_le_bytes());
        stream.extend_from_slice(&(!length).to_le_bytes());
        stream.extend_from_slice(block);
    }
    stream.extend_from_slice(&[0, 0, 0, 0xff, 0xff]);
    stream
}
