//! What to tell people when storing does not work: what happened, where, and what to do about it.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::Path;

use rusqlite::ErrorCode;
use twobox_shared::open::{BoxError, Remedy};

use twobox_shared::errors::chain;

/// An error and everything beneath it and, if the disk beneath the data directory `root` is why, what
/// helps. Nothing has to be repeated or restarted after that: whoever failed tries again.
pub fn explain(error: &(dyn Error + 'static), root: &Path) -> String {
    let text = chain(error);
    match advice(error) {
        Some(advice) => format!("{text}; {advice} {}", root.display()),
        None => text,
    }
}

/// Whether an error is likely to be over within seconds, without anybody who mends something: a file
/// is locked, or a disk full.
pub fn passes(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let remedy = error.downcast_ref::<BoxError>().map(BoxError::remedy);
        let code = error.downcast_ref::<rusqlite::Error>().and_then(|it| it.sqlite_error_code());
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(remedy, Some(Remedy::TryAgain | Remedy::Repair))
            || matches!(
                code,
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull)
            )
            || matches!(kind, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
        {
            return true;
        }
        next = error.source();
    }
    false
}

fn advice(error: &(dyn Error + 'static)) -> Option<&'static str> {
    const FULL: &str = "free some space for";
    const READ_ONLY: &str = "make everything writable for the host in";
    const BROKEN: &str = "check the disk and the kernel's log, for it fails in";
    const CLOSED: &str = "check the disk, the permissions and the limit of open files for";
    let mut next = Some(error);
    while let Some(error) = next {
        let code = error.downcast_ref::<rusqlite::Error>().and_then(|it| it.sqlite_error_code());
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        match (code, kind) {
            (Some(ErrorCode::DiskFull), _)
            | (_, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded)) => return Some(FULL),
            (Some(ErrorCode::ReadOnly), _)
            | (_, Some(ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)) => {
                return Some(READ_ONLY);
            }
            (Some(ErrorCode::SystemIoFailure), _) => return Some(BROKEN),
            (Some(ErrorCode::CannotOpen), _) => return Some(CLOSED),
            _ => next = error.source(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    use crate::failed;

    #[test]
    fn an_error_of_the_disk_says_where_and_what_to_do() {
        let sqlite = |code| {
            let source = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            BoxError::Sqlite { action: "store a message", source }
        };
        let io = |errno| BoxError::Io {
            action: "create",
            path: "/data/sessions/x".into(),
            source: io::Error::from_raw_os_error(errno),
        };
        let cases = [
            (sqlite(ffi::SQLITE_FULL), Some("free some space for /data")),
            (sqlite(ffi::SQLITE_READONLY), Some("writable for the host in /data")),
            (sqlite(ffi::SQLITE_IOERR_FSYNC), Some("check the disk")),
            (sqlite(ffi::SQLITE_CANTOPEN), Some("check the disk, the permissions")),
            (sqlite(ffi::SQLITE_CONSTRAINT), None),
            (io(nix::libc::ENOSPC), Some("free some space for /data")),
            (io(nix::libc::EROFS), Some("writable for the host in /data")),
            (io(nix::libc::EMFILE), None),
        ];
        for (error, advice) in cases {
            let text = explain(&error, Path::new("/data"));
            assert!(text.starts_with("could not"), "{text}");
            match advice {
                Some(advice) => assert!(text.contains(advice), "{text}"),
                None => assert!(!text.contains(';'), "{text}"),
            }
        }
    }

    #[test]
    fn what_is_busy_or_full_passes_and_nothing_else() {
        let sqlite =
            |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("why".to_owned()));
        let cases = [
            (ffi::SQLITE_BUSY, true),
            (ffi::SQLITE_BUSY_SNAPSHOT, true),
            (ffi::SQLITE_LOCKED, true),
            (ffi::SQLITE_FULL, true),
            (ffi::SQLITE_CONSTRAINT_TRIGGER, false),
            (ffi::SQLITE_READONLY, false),
            (ffi::SQLITE_IOERR_WRITE, false),
            (ffi::SQLITE_CORRUPT, false),
        ];
        for (code, expected) in cases {
            assert_eq!(passes(&failed("prepare a run")(sqlite(code))), expected, "host.db, {code}");
            let in_a_box = BoxError::sqlite("store a message", sqlite(code));
            assert_eq!(passes(&in_a_box), expected, "a box, {code}");
        }
        let io = |errno| BoxError::Io {
            action: "create",
            path: "/data/sessions/x".into(),
            source: io::Error::from_raw_os_error(errno),
        };
        assert!(passes(&io(nix::libc::ENOSPC)));
        assert!(!passes(&io(nix::libc::EROFS)));
    }
}
