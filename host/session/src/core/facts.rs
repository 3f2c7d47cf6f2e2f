//! What one part of the host tells the core so that another may ask: where the API listens, how the look around
//! went, how busy the host is, and whether it stops.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use twobox_shared::ids::SessionId;
use twobox_system::lock::lock;

use super::{Core, LookAround};

impl Core {
    /// Says where the API listens.
    pub fn set_api(&self, address: SocketAddr) {
        // Said once, by whoever starts it.
        self.api.get_or_init(|| address);
    }

    /// Says what became of the look around at the start.
    pub fn set_probe(&self, state: LookAround) {
        *lock(&self.probe) = state;
    }

    /// What became of the look around at the start.
    pub fn probe(&self) -> LookAround {
        lock(&self.probe).clone()
    }

    /// Where the API listens, if it does.
    pub fn api(&self) -> Option<SocketAddr> {
        self.api.get().copied()
    }

    /// Says on which socket the API listens.
    pub fn set_api_socket(&self, path: PathBuf) {
        self.api_socket.get_or_init(|| path);
    }

    /// On which socket the API listens, if it does.
    pub fn api_socket(&self) -> Option<&Path> {
        self.api_socket.get().map(PathBuf::as_path)
    }

    /// Something may have become of the message of a scheduled run.
    pub fn run_moved(&self) {
        self.runs.send_replace(());
    }

    /// Changes whenever that happens.
    pub fn run_moves(&self) -> watch::Receiver<()> {
        self.runs.subscribe()
    }

    /// Notes how late the host's own loop is.
    pub fn set_loop_lag(&self, lag: Duration) {
        let lag = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
        self.lag_ms.store(lag, Ordering::Relaxed);
    }

    /// How late it was last.
    pub fn loop_lag(&self) -> Duration {
        Duration::from_millis(self.lag_ms.load(Ordering::Relaxed))
    }

    /// Says whether somebody waits in a chat for the session's answer.
    pub fn set_chatting(&self, session: SessionId, chatting: bool) {
        let mut all = lock(&self.chatting);
        match chatting {
            true => all.insert(session),
            false => all.remove(&session),
        };
    }

    /// In how many sessions somebody waits for an answer.
    pub fn chat_turns(&self) -> usize {
        lock(&self.chatting).len()
    }

    /// Whether the host is about to stop.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// From now on nothing is accepted or started.
    pub fn stop_admitting(&self) {
        self.stopping.send_replace(true);
    }

    /// Becomes `true` when the host is about to stop.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }
}
