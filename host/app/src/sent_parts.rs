//! The records of what was handed to platforms that do not honour keys: `host.db`'s, as channels have them.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use twobox_channels::parts::Journal;
use twobox_model::channel::PartRecord;
use twobox_shared::clock::Clock;
use twobox_shared::errors::chain;
use twobox_store::{DbError, Operation, Store};

/// The journal of a running host.
pub struct SentParts {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl SentParts {
    /// In `store`, by the time of `clock`.
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }
}

/// Does it, and says for people what is in the way.
fn done<T: Send + 'static>(operation: Operation<T>) -> BoxFuture<'static, Result<T, String>> {
    async { operation.await.map_err(|error: DbError| chain(&error)) }.boxed()
}

impl Journal for SentParts {
    fn of<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Vec<PartRecord>, String>> {
        done(self.store.parts().of(key))
    }

    fn begin<'a>(&'a self, key: &'a str, part: &'a str) -> BoxFuture<'a, Result<(), String>> {
        done(self.store.parts().begin(key, part, self.clock.now()))
    }

    fn taken<'a>(
        &'a self,
        key: &'a str,
        part: &'a str,
        platform_id: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), String>> {
        done(self.store.parts().taken(key, part, platform_id, self.clock.now()))
    }

    fn undo<'a>(&'a self, key: &'a str, part: &'a str) -> BoxFuture<'a, Result<(), String>> {
        done(self.store.parts().undo(key, part))
    }

    fn forget<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), String>> {
        done(self.store.parts().forget(key))
    }
}
