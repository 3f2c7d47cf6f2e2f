//! Where the data directory was when its host last started. What it means that it is somewhere else now, or
//! another one, is decided by whoever asks.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rusqlite::{Connection, OptionalExtension, Row, named_params};
use twobox_shared::time::UnixMillis;

use super::{DbError, Installation, Operation, failed};
use twobox_model::installation::{FileIdentity, Place};

impl Installation<'_> {
    /// Where it was; `None` if no host has said so yet.
    pub fn place(&self) -> Operation<Option<Place>> {
        self.0.compound(move |db| {
            let mark = |row: &Row<'_>, inode: &str, born: &str| -> rusqlite::Result<FileIdentity> {
                Ok(FileIdentity {
                    inode: row.get::<_, i64>(inode)?.cast_unsigned(),
                    born: row.get(born)?,
                })
            };
            let from_row = |row: &Row<'_>| {
                Ok(Place {
                    path: OsString::from_vec(row.get("path")?).into(),
                    device: row.get::<_, i64>("device")?.cast_unsigned(),
                    folder: mark(row, "folder_inode", "folder_born_ns")?,
                    database: mark(row, "db_inode", "db_born_ns")?,
                    machine: row.get("machine")?,
                })
            };
            db.query_row(
                "SELECT path, device, folder_inode, folder_born_ns, db_inode, db_born_ns, machine
                 FROM place WHERE id = 1",
                [],
                from_row,
            )
            .optional()
            .map_err(failed("read where the installation was"))
        })
    }

    /// Says where it is.
    pub fn remember_place(&self, place: &Place, now: UnixMillis) -> Operation<()> {
        let place = place.to_owned();
        self.0.compound(move |db| remember(db, &place, now))
    }
}

pub(crate) fn remember(db: &Connection, place: &Place, now: UnixMillis) -> Result<(), DbError> {
    db.execute(
        "INSERT OR REPLACE INTO place (id, path, device, folder_inode, folder_born_ns, db_inode,
           db_born_ns, machine, recorded_at_ms)
         VALUES (1, :path, :device, :folder_inode, :folder_born, :db_inode, :db_born, :machine,
           :now)",
        named_params! {
            ":path": place.path.as_os_str().as_bytes(),
            ":device": place.device.cast_signed(),
            ":folder_inode": place.folder.inode.cast_signed(),
            ":folder_born": place.folder.born,
            ":db_inode": place.database.inode.cast_signed(),
            ":db_born": place.database.born,
            ":machine": place.machine,
            ":now": now,
        },
    )
    .map(drop)
    .map_err(failed("record where the installation is"))
}
