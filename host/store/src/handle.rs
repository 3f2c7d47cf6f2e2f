//! One connection to `host.db` for the whole daemon, used from async code.

use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;

use super::{DbError, open};
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

/// The daemon's `host.db`. Cloning it shares the connection: statements are short, and one
/// connection needs no retries against itself.
#[derive(Debug, Clone)]
pub struct Db {
    conn: Arc<Mutex<Connection>>,
}

impl Db {
    /// Opens or migrates the file.
    ///
    /// # Errors
    /// As for [`open`].
    pub fn open(path: &Path) -> Result<Self, DbError> {
        Ok(Self { conn: Arc::new(Mutex::new(open(path)?)) })
    }

    /// Runs `work` on the connection, on a thread that may block.
    ///
    /// # Errors
    /// Whatever `work` returns.
    pub async fn call<T, E>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let conn = Arc::clone(&self.conn);
        blocking(move || {
            // A panic in the middle of a statement leaves a transaction that SQLite rolls back.
            work(&mut lock(&conn))
        })
        .await
    }
}
