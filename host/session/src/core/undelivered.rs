//! What agents said and was not delivered, as the operator is told of it: how much since the last look, and the last
//! of it. After a restart of the host that is nothing: `twobox dead list` has all of it.

use std::sync::Mutex;

use twobox_system::lock::lock;

/// What was not delivered since somebody looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// How many messages.
    pub count: u64,
    /// Where the last one was to go.
    pub channel: String,
    /// The chat there.
    pub chat: String,
    /// Why it did not.
    pub error: String,
}

/// Counts them.
#[derive(Debug, Default)]
pub struct Undelivered(Mutex<Option<Lost>>);

impl Undelivered {
    /// One more.
    pub(crate) fn note(&self, channel: &str, chat: &str, error: &str) {
        let mut lost = lock(&self.0);
        let count = lost.as_ref().map_or(0, |lost| lost.count) + 1;
        let [channel, chat, error] = [channel, chat, error].map(str::to_owned);
        *lost = Some(Lost { count, channel, chat, error });
    }

    /// What there was since the last time.
    pub fn take(&self) -> Option<Lost> {
        lock(&self.0).take()
    }
}
