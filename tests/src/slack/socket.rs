//! Socket Mode: connections of the app, over which it is told things and acknowledges them.
//!
//! Source: <https://docs.slack.dev/apis/events-api/using-socket-mode>.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::interval;
use tokio_websockets::{CloseCode, Message, ServerBuilder};

use super::server::Shared;
use super::state::{APP, Line, Say};

/// The most connections of one app.
const LINES_MAX: usize = 10;

/// How often a connection is asked for a sign of life.
const PING: std::time::Duration = std::time::Duration::from_secs(10);

/// Serves one connection to its end.
pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let Ok((request, mut stream)) = ServerBuilder::new().accept(stream).await else { return };
    let query = request.uri().query().unwrap_or_default().to_owned();
    let ticket = query.split('&').find_map(|field| field.strip_prefix("ticket="));
    let (send, mut says) = mpsc::unbounded_channel();
    let joined = shared.change(|state| {
        let index = state.tickets.iter().position(|it| Some(it.as_str()) == ticket)?;
        state.tickets.remove(index);
        let number = state.number();
        if state.lines.len() < LINES_MAX && !state.down {
            state.lines.insert(number, Line { send });
            return Some((number, state.lines.len()));
        }
        None
    });
    let Some((number, lines)) = joined else {
        let why = json!({ "type": "disconnect", "reason": "too_many_websockets" });
        drop(stream.send(Message::text(why.to_string())).await); // it is turned away in any case
        return;
    };
    let hello = json!({
        "type": "hello", "num_connections": lines, "connection_info": { "app_id": APP },
        "debug_info": { "host": "stand-in", "approximate_connection_time": 18060 },
    });
    let mut ping = interval(PING);
    if stream.send(Message::text(hello.to_string())).await.is_ok() {
        shared.wake.notify_one();
        loop {
            tokio::select! {
                said = says.recv() => {
                    let sent = match said {
                        Some(Say::Text(text)) => stream.send(Message::text(text)).await,
                        Some(Say::End { in_order: true }) => {
                            stream.send(Message::close(Some(CloseCode::NORMAL_CLOSURE), "")).await
                        }
                        Some(Say::End { in_order: false }) | None => break,
                    };
                    if sent.is_err() { break }
                }
                heard = stream.next() => match heard {
                    Some(Ok(message)) => {
                        if let Some(text) = message.as_text() {
                            take(&shared, text);
                        } else if message.is_close() {
                            break;
                        }
                    }
                    Some(Err(_)) | None => break,
                },
                _ = ping.tick() => if stream.send(Message::ping("")).await.is_err() { break },
            }
        }
    }
    shared.change(|state| drop(state.lines.remove(&number)));
}

/// The app acknowledges something.
fn take(shared: &Shared, text: &str) {
    let said: Value = serde_json::from_str(text).unwrap_or_default();
    if let Some(envelope) = said["envelope_id"].as_str() {
        shared.change(|state| state.acknowledge(envelope));
    }
}
