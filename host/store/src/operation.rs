//! One thing to be done on `host.db`, and how a caller has it done.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

use crate::DbError;

/// One read or one transaction that is still to be done. In async code `.await` has it done on a thread
/// that may block; [`Operation::wait`] does it here, for a command or a thread that may block itself.
/// Either way the arguments are the operation's own, so that it never waits for its caller.
#[must_use = "nothing is done before it is awaited, or waited for"]
pub struct Operation<T, E = DbError> {
    conn: Arc<Mutex<Connection>>,
    work: Work<T, E>,
}

type Work<T, E> = Box<dyn FnOnce(&mut Connection) -> Result<T, E> + Send>;

impl<T, E> Operation<T, E> {
    pub(crate) fn new(
        conn: &Arc<Mutex<Connection>>,
        work: impl FnOnce(&mut Connection) -> Result<T, E> + Send + 'static,
    ) -> Self {
        Self { conn: Arc::clone(conn), work: Box::new(work) }
    }

    /// Does it on this thread, which blocks.
    ///
    /// # Errors
    /// The operation's own.
    pub fn wait(self) -> Result<T, E> {
        // A panic in the middle of a statement leaves a transaction that SQLite rolls back.
        (self.work)(&mut lock(&self.conn))
    }
}

impl<T: Send + 'static, E: Send + 'static> IntoFuture for Operation<T, E> {
    type Output = Result<T, E>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(blocking(move || self.wait()))
    }
}
