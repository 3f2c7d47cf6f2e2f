//! What an error of the system says about who can do something about it.

use std::io;

use rustix::io::Errno;

/// Whether the system does not let this user do it, which stays so.
pub fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Whether the host or the machine is out of descriptors or memory, or its disk fails: nothing is wrong
/// with what was asked for, and the same may do later.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_no_fault_of_what_was_asked_for() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO] {
            assert!(is_shortage(&errno.into()) && !is_forbidden(&errno.into()), "{errno}");
        }
        for errno in [Errno::NOENT, Errno::LOOP, Errno::NOTDIR, Errno::ACCESS, Errno::ISDIR] {
            assert!(!is_shortage(&errno.into()), "{errno}");
        }
        assert!(is_forbidden(&Errno::ACCESS.into()) && is_forbidden(&Errno::ROFS.into()));
    }
}
