//! The handle on `host.db`, and what can be done through it: named operations, by aggregate.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use rusqlite::Connection;
use twobox_system::lock::lock;

use crate::open::{create, look, open};
use crate::operation::Operation;
use crate::{DbError, failed};

/// `host.db`. Cloning it shares the connection: statements are short, and one connection needs no
/// retries against itself.
#[derive(Debug, Clone)]
pub struct Store {
    conn: Arc<Mutex<Connection>>,
}

impl Store {
    /// Opens or migrates the file. An empty one is no installation but what is left of one.
    ///
    /// # Errors
    /// [`DbError::Newer`] for a file of a newer build, [`DbError::Empty`] for one without tables.
    pub fn open(path: &Path) -> Result<Self, DbError> {
        open(path).map(Self::over)
    }

    /// As [`Store::open`], and makes a new one where there is none or an empty one. Whoever calls this
    /// knows that nothing is lost there.
    ///
    /// # Errors
    /// [`DbError::Newer`] for a file of a newer build.
    pub fn create(path: &Path) -> Result<Self, DbError> {
        create(path).map(Self::over)
    }

    /// Opens it to look at it: nothing is created, migrated or written, and what a killed host left in
    /// the write-ahead log stays there.
    ///
    /// # Errors
    /// [`DbError::Newer`] for a file of a newer build; [`DbError::Sqlite`] for one of an older build
    /// that the host has not brought up to date yet.
    pub fn look(path: &Path) -> Result<Self, DbError> {
        look(path).map(Self::over)
    }

    fn over(conn: Connection) -> Self {
        Self { conn: Arc::new(Mutex::new(conn)) }
    }

    /// The connection itself, for tests that break things and look at what came of it.
    #[doc(hidden)]
    pub fn raw(&self) -> MutexGuard<'_, Connection> {
        lock(&self.conn)
    }

    /// An operation that can fail in one way only: SQLite refuses `action`.
    pub(crate) fn operation<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Operation<T> {
        Operation::new(&self.conn, move |db| work(db).map_err(failed(action)))
    }

    /// An operation that names its own failures.
    pub(crate) fn compound<T, E>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, E> + Send + 'static,
    ) -> Operation<T, E> {
        Operation::new(&self.conn, work)
    }

    /// Reads a little.
    pub fn is_readable(&self) -> Operation<()> {
        self.operation("read", |db| db.query_row("SELECT count(*) FROM install", [], |_| Ok(())))
    }
}

macro_rules! aggregates {
    ($($(#[$doc:meta])* $accessor:ident: $aggregate:ident,)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy)]
            pub struct $aggregate<'s>(pub(crate) &'s Store);
        )*

        impl Store {
            $($(#[$doc])* pub fn $accessor(&self) -> $aggregate<'_> { $aggregate(self) })*
        }
    };
}

aggregates! {
    /// Agent groups: one agent personality each.
    agents: Agents,
    /// Chats, and which agent groups listen to them.
    wirings: Wirings,
    /// Conversations: their records, and when somebody has to look at them.
    sessions: Sessions,
    /// What the host itself has to tell people.
    notices: Notices,
    /// What people are asked.
    approvals: Approvals,
    /// What agents asked or sent, was refused, and is only counted.
    refusals: Refusals,
    /// What was handed to platforms that do not honour keys.
    parts: Parts,
    /// What the operator is told in a chat of theirs.
    alerts: Alerts,
    /// Standing orders, and their slots.
    schedules: Schedules,
    /// What became of slots and of orders to run now.
    runs: Runs,
    /// Who people are, and what they may do.
    people: People,
    /// What agents had models do, and whether there is room for more.
    usage: Usage,
    /// The installation's id and place.
    installation: Installation,
}
