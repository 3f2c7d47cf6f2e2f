//! Commits that do not wait for the disk.

use rusqlite::Connection;
use twobox_shared::durability::Durability;

/// Does `work`, whose commits go to the write-ahead log and are not waited for: a power loss may take the
/// last of them, never by halves, and no other commit with them. The next commit of anybody who waits for
/// the disk takes them along.
///
/// It is the same connection, under the same lock and behind the same fence as everything else: a second
/// one would only wait for the first one's transactions in another way, by sleeping.
pub(super) fn lightly<T>(
    db: &mut Connection,
    work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    match Durability::chosen() {
        Durability::ProcessCrash => work(db), // nothing waits there
        Durability::PowerLoss => {
            let restored = Restored(db);
            restored.0.pragma_update(None, "synchronous", "NORMAL")?;
            let done = work(restored.0);
            restored.0.pragma_update(None, "synchronous", "FULL")?;
            done
        }
    }
}

/// Has the connection wait for the disk again, whatever happens.
struct Restored<'c>(&'c mut Connection);

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        // Where it could not be said, `lightly` has said so; here only a panic is left.
        drop(self.0.pragma_update(None, "synchronous", "FULL"));
    }
}
