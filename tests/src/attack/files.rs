//! Something else in the place of the outbox or its journal.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use rusqlite::Connection;

use super::{Attack, Done, Ground, Then};

const NO_FILE: &str = "not a regular file with one link";

/// As much as a runner may write in the process runtime.
const HUGE: u64 = 1 << 30;

/// For every runtime.
pub static FILES: &[Attack] = &[
    Attack::quarantined("symlink-to-a-host-file", NO_FILE, "symbolic-link", |ground| {
        ground.replace(|fresh| Ok(symlink(&ground.victim, fresh)?))
    }),
    Attack::quarantined("symlink-to-the-inbox", NO_FILE, "symbolic-link", |ground| {
        ground.replace(|fresh| Ok(symlink("../in/inbound.db", fresh)?))
    }),
    Attack::quarantined("fifo", NO_FILE, "wrong-file-type", |ground| ground.replace(fifo)),
    Attack::quarantined("directory", NO_FILE, "wrong-file-type", |ground| {
        ground.replace(|fresh| Ok(fs::create_dir(fresh)?))
    }),
    Attack::quarantined("hard-link", NO_FILE, "hard-link", |ground| {
        fs::hard_link(ground.outbox(), ground.out.join("second-name"))?;
        Ok(ground.poke()?)
    }),
    Attack::quarantined("huge-hole", "not a database", "outbox-corrupt", |ground| {
        ground.replace(|fresh| Ok(File::create(fresh)?.set_len(HUGE)?))
    }),
    Attack::quarantined("noise", "not a database", "outbox-corrupt", |ground| {
        ground.replace(|fresh| Ok(fs::write(fresh, [0x5a; 20_000])?))
    }),
    Attack::quarantined("cut-short", "malformed", "outbox-corrupt", |ground| {
        ground.replace(|fresh| {
            let bytes = fs::read(ground.outbox())?;
            Ok(fs::write(fresh, &bytes[..4096])?)
        })
    }),
    Attack::quarantined("fifo-as-journal", NO_FILE, "wrong-file-type", |ground| {
        fifo(&ground.journal())?;
        Ok(ground.poke()?)
    }),
    Attack::quarantined("directory-as-journal", NO_FILE, "wrong-file-type", |ground| {
        fs::create_dir(ground.journal())?;
        Ok(ground.poke()?)
    }),
    Attack::quarantined("symlink-as-journal", NO_FILE, "symbolic-link", |ground| {
        symlink(&ground.victim, ground.journal())?;
        Ok(ground.poke()?)
    }),
    Attack::quarantined("wal-mode", "WAL mode", "outbox-wrong-journal-mode", |ground| {
        ground.replace(|fresh| {
            fs::copy(ground.outbox(), fresh)?;
            let conn = Connection::open(fresh)?;
            Ok(conn.pragma_update(None, "journal_mode", "WAL")?)
        })
    }),
    Attack::quarantined("wal-beside-it", "WAL mode", "outbox-wrong-journal-mode", |ground| {
        fs::write(ground.out.join("outbound.db-wal"), [0x37; 4096])?;
        Ok(ground.poke()?)
    }),
    Attack::quarantined("newer-version", "update Twobox", "outbox-newer", |ground| {
        let conn = Connection::open(ground.outbox())?;
        Ok(conn.pragma_update(None, "user_version", 99)?)
    }),
    Attack::quarantined("super-journal", "super-journal", "quarantined", |ground| {
        leave_hot_journal(ground, 500)?;
        let name = ground.victim.as_os_str().as_bytes();
        let sum: u32 = name.iter().map(|byte| u32::from(*byte)).sum();
        let mut trailer = 0x4000_0000_u32.to_be_bytes().to_vec();
        trailer.extend(name);
        trailer.extend(u32::try_from(name.len())?.to_be_bytes());
        trailer.extend(sum.to_be_bytes());
        trailer.extend([0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
        Ok(OpenOptions::new().append(true).open(ground.journal())?.write_all(&trailer)?)
    })
    .then(Then::KillsTheRunner),
    Attack::quarantined("more-than-its-quota", "quota", "quarantined", |ground| {
        leave_hot_journal(ground, 4000)
    })
    .then(Then::KillsTheRunner),
];

/// Only where a container may make devices: the process runtime of a host that is root.
pub static DEVICES: &[Attack] =
    &[Attack::quarantined("device", NO_FILE, "wrong-file-type", |ground| {
        // What /dev/zero is.
        ground.replace(|fresh| Ok(mknod(fresh, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5))?))
    })];

fn fifo(path: &Path) -> Done {
    Ok(mkfifo(path, Mode::S_IRWXU)?)
}

/// Leaves a transaction of so many rows of 3 kB unfinished, with its locks and its journal, until
/// this process ends.
fn leave_hot_journal(ground: &Ground, rows: u32) -> Done {
    let conn = Connection::open(ground.outbox())?;
    conn.execute_batch(&format!(
        "PRAGMA cache_size = 1;
         BEGIN IMMEDIATE;
         UPDATE processing_ack SET status = 'completed';
         WITH RECURSIVE n(i) AS (SELECT 200 UNION ALL SELECT i + 1 FROM n LIMIT {rows})
         INSERT INTO messages_out (id, seq, timestamp, kind, content)
           SELECT 'u' || i, 2 * i + 1, '2027-01-15T08:00:00.000Z', 'chat', printf('%.3000c', 'u')
           FROM n"
    ))?;
    std::mem::forget(conn); // only its end may end the transaction
    Ok(())
}
