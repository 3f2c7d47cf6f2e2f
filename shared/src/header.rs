//! Whether a database is in WAL mode, read through SQLite's own descriptor before SQLite itself
//! reads anything: once it has, a `-wal` or `-shm` file may lie beside the database. Reading through
//! a descriptor of our own would drop the process's locks on the file when it is closed.
#![expect(unsafe_code, reason = "only SQLite's C interface reaches its file")]

use std::ffi::c_int;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ffi};

/// As much of the header as the read and write versions, bytes 18 and 19, need
/// (<https://sqlite.org/fileformat.html>, "database header").
const LENGTH: c_int = 20;

/// Whether the header names WAL mode, or a write-ahead log lies beside the database at `path`, which
/// makes SQLite use it whatever the header says.
pub(crate) fn says_wal(conn: &Connection, path: &Path) -> bool {
    let mut header = [0_u8; LENGTH as usize];
    let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
    // SAFETY: the connection is open and ours alone; FILE_POINTER stores a pointer that is valid as
    // long as the connection, and xRead fills at most LENGTH bytes of a buffer of that size.
    let read = unsafe {
        let found = ffi::sqlite3_file_control(
            conn.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_FILE_POINTER,
            (&raw mut file).cast(),
        );
        match found {
            ffi::SQLITE_OK if !file.is_null() && !(*file).pMethods.is_null() => {
                match (*(*file).pMethods).xRead {
                    Some(x_read) => x_read(file, header.as_mut_ptr().cast(), LENGTH, 0),
                    None => ffi::SQLITE_IOERR,
                }
            }
            _ => ffi::SQLITE_IOERR,
        }
    };
    // A file that is shorter has no mode yet; one that cannot be read fails at the first statement.
    (read == ffi::SQLITE_OK && (header[18] == 2 || header[19] == 2)) || log_exists(path)
}

/// Whether anything at all stands in the place of the write-ahead log of the database at `path`.
fn log_exists(path: &Path) -> bool {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name).symlink_metadata().is_ok()
}
