//! The engine's events, for as long as the host lives.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::body::INSTALL_LABEL;
use super::engine::{Engine, QUICK};
use super::{NAME, incarnation};
use crate::RuntimeEvent;
use twobox_model::backoff::Backoff;

/// The pauses before the engine is asked again.
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(30) };
/// A stream that has not failed for this long is taken to be open: the engine says nothing when it
/// opens one.
const OPEN_AFTER: Duration = Duration::from_millis(500);
/// How often a silent engine is asked whether it is still there.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// Where the watch is between two streams.
#[derive(Default)]
struct Progress {
    /// How many streams in a row have failed.
    failures: i64,
    /// The host knows that the stream is interrupted: it is told once, not at every attempt.
    told: bool,
}

/// Reports exits, for ever. Whenever events may have been missed, it says so: when a stream ends,
/// and again when the next one is open.
pub(super) async fn run(engine: Engine, events: mpsc::UnboundedSender<RuntimeEvent>) {
    let mut progress = Progress::default();
    while !events.is_closed() {
        // It returns without a reason when nobody listens any more.
        let Err(reason) = follow(&engine, &events, &mut progress).await else { return };
        if progress.told {
            tracing::debug!(runtime = NAME, reason, "the engine's events are still interrupted");
        } else {
            tracing::warn!(runtime = NAME, reason, "the engine's events are interrupted");
            events.send(RuntimeEvent::Interrupted).ok();
            progress.told = true;
        }
        progress.failures += 1;
        tokio::time::sleep(RETRY.after(progress.failures)).await;
    }
}

/// Follows one stream until it ends, which is an error, or until nobody listens.
async fn follow(
    engine: &Engine,
    events: &mpsc::UnboundedSender<RuntimeEvent>,
    progress: &mut Progress,
) -> Result<(), String> {
    let client = engine.renegotiate().await.map_err(|error| error.to_string())?;
    let label = format!("{INSTALL_LABEL}={}", engine.install);
    let filters = HashMap::from([("type", vec!["container"]), ("label", vec![label.as_str()])]);
    let options = EventsOptionsBuilder::new().filters(&filters).build();
    let mut stream = std::pin::pin!(client.events(Some(options)));
    let mut open = false;
    loop {
        let patience = if open { ASK_EVERY } else { OPEN_AFTER };
        let event = match tokio::time::timeout(patience, stream.next()).await {
            Ok(Some(Ok(event))) => Some(event),
            Ok(Some(Err(error))) => return Err(error.to_string()),
            Ok(None) => return Err("the engine closed the stream".to_owned()),
            Err(_silence) => None,
        };
        if open && event.is_none() {
            engine.within(QUICK, client.ping()).await.map_err(|error| error.to_string())?;
        }
        if !open {
            open = true;
            *progress = Progress::default();
            tracing::info!(runtime = NAME, "following the engine's events");
            events.send(RuntimeEvent::Interrupted).ok();
        }
        if let Some(event) = event {
            report(engine, event, events).await;
        }
        if events.is_closed() {
            return Ok(());
        }
    }
}

/// Reports the end of a container, once the engine agrees that it has ended.
async fn report(
    engine: &Engine,
    event: EventMessage,
    events: &mpsc::UnboundedSender<RuntimeEvent>,
) {
    let ended = matches!(event.action.as_deref(), Some("die" | "died"));
    if !ended || event.typ != Some(EventMessageTypeEnum::CONTAINER) {
        return;
    }
    let Some(actor) = event.actor else { return };
    let Some(incarnation) = actor.attributes.as_ref().and_then(incarnation) else { return };
    let said = match engine.await_end(&actor.id.unwrap_or_default()).await {
        Ok(true) => RuntimeEvent::Exited(incarnation),
        // The event was wrong, or nobody knows: let the host look for itself.
        Ok(false) | Err(_) => RuntimeEvent::Interrupted,
    };
    events.send(said).ok();
}
