//! The one `host.db` of all hosts: the real statements on a real schema, in memory. A transaction may
//! fail at any of its steps or at its commit, or be durable although its writer is told that it failed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use twobox_store::DbError;

/// What becomes of the next transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    None,
    /// It fails after so many steps of SQLite's machine, or at its commit if it has fewer.
    AfterSteps(i32),
    /// Its commit fails.
    AtCommit,
    /// All of it is there, and its writer is told that it failed.
    Doubtful,
}

impl Trouble {
    /// What the dice say.
    pub(super) fn roll(faults: bool, rng: &mut fastrand::Rng) -> Self {
        match rng.u8(..) {
            0..=3 if faults => Self::AfterSteps(rng.i32(1..200)),
            4..=7 if faults => Self::AtCommit,
            8..=12 if faults => Self::Doubtful,
            _ => Self::None,
        }
    }

    /// The same for what consists of several transactions: nothing fails after it was committed.
    pub(super) fn roll_for_several(faults: bool, rng: &mut fastrand::Rng) -> Self {
        match Self::roll(faults, rng) {
            Self::AfterSteps(_) => Self::AtCommit,
            other => other,
        }
    }
}

/// What became of a transaction.
#[derive(Debug)]
pub(super) enum Written<T> {
    Done(T),
    Doubtful(T),
    Failed,
}

impl<T> Written<T> {
    /// What is true.
    pub(super) fn truth(&self) -> Option<&T> {
        match self {
            Self::Done(value) | Self::Doubtful(value) => Some(value),
            Self::Failed => None,
        }
    }

    /// What its writer knows.
    pub(super) fn told(self) -> Option<T> {
        match self {
            Self::Done(value) => Some(value),
            Self::Doubtful(_) | Self::Failed => None,
        }
    }
}

/// A row that somebody wrote to: its table and its number.
pub(super) type Touched = (String, i64);

pub(super) struct Store {
    db: twobox_store::Store,
    touched: Arc<Mutex<BTreeSet<Touched>>>,
}

impl Store {
    pub(super) fn new() -> Self {
        let db = twobox_store::Store::create(":memory:".as_ref()).expect("a database in memory");
        let touched = Arc::<Mutex<BTreeSet<Touched>>>::default();
        let told = Arc::clone(&touched);
        let hook = move |_, _: &str, table: &str, row| {
            told.lock().expect("nobody panics with it").insert((table.to_owned(), row));
        };
        db.raw().update_hook(Some(hook)).expect("nobody else has one");
        Self { db, touched }
    }

    pub(super) fn read(&self) -> &twobox_store::Store {
        &self.db
    }

    /// Without any trouble, and without being judged.
    pub(super) fn set_up(&self) -> &twobox_store::Store {
        &self.db
    }

    pub(super) fn write<T>(
        &mut self,
        trouble: Trouble,
        act: impl FnOnce(&twobox_store::Store) -> Result<T, DbError>,
    ) -> Written<T> {
        if let Trouble::AfterSteps(steps) = trouble {
            let mut over = false; // once: what undoes it is not interrupted
            let interrupt = move || !std::mem::replace(&mut over, true);
            self.db.raw().progress_handler(steps, Some(interrupt)).expect("nobody else has one");
        }
        // A statement that is interrupted after its last step would be durable.
        if let Trouble::AfterSteps(_) | Trouble::AtCommit = trouble {
            self.db.raw().commit_hook(Some(|| true)).expect("nobody else has one");
        }
        let done = act(&self.db);
        self.db.raw().progress_handler(0, None::<fn() -> bool>).expect("it is ours");
        self.db.raw().commit_hook(None::<fn() -> bool>).expect("it is ours");
        // No disk fails to undo, but what is undone may be what was interrupted.
        if matches!(trouble, Trouble::AfterSteps(_)) && !self.db.raw().is_autocommit() {
            self.db.raw().execute_batch("ROLLBACK").expect("nobody interrupts it now");
        }
        assert!(self.db.raw().is_autocommit(), "a transaction was left open");
        match (done, trouble) {
            (Ok(value), Trouble::Doubtful) => Written::Doubtful(value),
            (Ok(value), _) => Written::Done(value),
            (Err(_), Trouble::AfterSteps(_) | Trouble::AtCommit) => Written::Failed,
            (Err(error), Trouble::None | Trouble::Doubtful) => panic!("host.db: {error:?}"),
        }
    }

    /// The rows that were written to since this was asked last, whether that held or not.
    pub(super) fn touched(&self) -> BTreeSet<Touched> {
        std::mem::take(&mut *self.touched.lock().expect("nobody panics with it"))
    }
}
