//! What can be chosen of the stand-in.

use std::time::Duration;

/// The options.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens on this machine; 0 is any free port.
    pub port: u16,
    /// The bot's token.
    pub token: String,
    /// Whether the bot may read what people say in servers.
    pub may_read: bool,
    /// How often the gateway wants a sign of life.
    pub beat: Duration,
    /// How many messages may be sent to a channel,
    pub messages: u32,
    /// and in which time.
    pub period: Duration,
    /// For how long a nonce is remembered.
    pub nonce_known: Duration,
    /// For how long a session is remembered that nobody is connected to.
    pub session_known: Duration,
    /// How often somebody may introduce themselves within five seconds.
    pub introductions: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            token: "token.of.the-bot".to_owned(),
            may_read: true,
            beat: Duration::from_secs(41),
            messages: 5,
            period: Duration::from_secs(1),
            nonce_known: Duration::from_secs(3 * 60),
            session_known: Duration::from_secs(3 * 60),
            introductions: 1,
        }
    }
}
