//! The channel of sessions that were made for one run. Nobody listens there: what the agent answers is
//! read from the session when the run ends, and kept with it. The answer goes elsewhere if the schedule
//! names a chat: the run's message then has that one as its origin.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use twobox_channels::Channel;
use twobox_model::channel::{Address, Capabilities, Outbound, Outcome};

/// Takes what is said in the session of a run.
pub struct KeptWithRun;

impl Channel for KeptWithRun {
    fn capabilities(&self) -> Capabilities {
        // Nothing is shown, so nothing is shown twice.
        Capabilities { keys: true, threads: true, ..Capabilities::TEXT }
    }

    fn deliver<'a>(
        &'a self,
        _address: &'a Address,
        outbounds: Vec<Outbound>,
    ) -> BoxFuture<'a, Vec<Outcome>> {
        let taken = |_| Outcome::Delivered { platform_message_id: None };
        let outcomes = outbounds.into_iter().map(taken).collect();
        async move { outcomes }.boxed()
    }
}
