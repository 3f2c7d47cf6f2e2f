//! Changing things back and forth while the host looks, in the hope that it checks one and opens
//! another. They end with the session, or never.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rusqlite::Connection;

use super::{Attack, Done, Ground};

/// For every runtime.
pub static RACES: &[Attack] = &[
    Attack::quarantined("swaps-with-a-link-to-a-host-file", "", "quarantined", |ground| {
        swap(ground, |decoy| Ok(symlink(&ground.victim, decoy)?))
    }),
    Attack::quarantined("swaps-with-a-link-to-the-inbox", "", "quarantined", |ground| {
        swap(ground, |decoy| Ok(symlink("../in/inbound.db", decoy)?))
    }),
    Attack::quarantined("swaps-with-a-fifo", "", "quarantined", |ground| {
        swap(ground, |decoy| Ok(mkfifo(decoy, Mode::S_IRWXU)?))
    }),
    Attack::quarantined("swaps-with-a-folder", "", "quarantined", |ground| {
        swap(ground, |decoy| Ok(fs::create_dir(decoy)?))
    }),
    Attack::quarantined("swaps-its-journal-with-a-fifo", "", "quarantined", |ground| {
        loop {
            fs::write(ground.journal(), "")?;
            ground.poke()?;
            fs::remove_file(ground.journal())?;
            mkfifo(&ground.journal(), Mode::S_IRWXU)?;
            ground.poke()?;
            fs::remove_file(ground.journal())?;
        }
    }),
    Attack::quarantined("turns-wal-mode-on-and-off", "", "quarantined", |ground| {
        wal_and_back(ground)
    }),
    Attack::quarantined("truncates-while-it-is-read", "", "quarantined", |ground| {
        let bytes = fs::read(ground.outbox())?;
        loop {
            let file = OpenOptions::new().write(true).open(ground.outbox())?;
            file.set_len(0)?;
            file.write_all_at(&bytes[..bytes.len() / 2], 0)?;
            drop(file); // said to the host as a commit
            let file = OpenOptions::new().write(true).open(ground.outbox())?;
            file.write_all_at(&bytes, 0)?;
        }
    }),
];

/// Exchanges the outbox with what `make` makes, without end and without a gap.
fn swap(ground: &Ground, make: impl FnOnce(&Path) -> Done) -> Done {
    let decoy = ground.out.join("decoy");
    make(&decoy)?;
    loop {
        renameat2(AT_FDCWD, &ground.outbox(), AT_FDCWD, &decoy, RenameFlags::RENAME_EXCHANGE)?;
    }
}

/// Says WAL and says DELETE again in the header, with the shared memory that SQLite would map and
/// that is cut off under it.
fn wal_and_back(ground: &Ground) -> Done {
    let aside = ground.out.join("wal.db");
    fs::copy(ground.outbox(), &aside)?;
    let conn = Connection::open(&aside)?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.execute_batch("PRAGMA user_version = 1")?;
    fs::copy(ground.out.join("wal.db-shm"), ground.out.join("outbound.db-shm"))?;
    fs::copy(ground.out.join("wal.db-wal"), ground.out.join("hidden-wal"))?;
    drop(conn);
    let (wal, hidden) = (ground.out.join("outbound.db-wal"), ground.out.join("hidden-wal"));
    loop {
        let file = OpenOptions::new().write(true).open(ground.outbox())?;
        file.write_all_at(&[2, 2], 18)?;
        fs::rename(&hidden, &wal)?;
        File::create(ground.out.join("outbound.db-shm"))?.set_len(0)?;
        drop(file); // said to the host as a commit
        fs::rename(&wal, &hidden)?;
        OpenOptions::new().write(true).open(ground.outbox())?.write_all_at(&[1, 1], 18)?;
    }
}
