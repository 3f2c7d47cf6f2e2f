//! Whether the data directory is closed to others, and everything in it the host's own.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use twobox_shared::errors::chain;

use super::{Check, Finding};
use twobox_system::data::{DataDir, DataError};
use twobox_system::owner;

/// How many files a command names.
const NAMED_MAX: usize = 8;

/// The directory cannot be used, for this reason, which says what to do.
pub(super) fn refused(error: &DataError) -> Check {
    let help = match error {
        DataError::NotInitialised { .. } => "run `twobox init`, or name another one with --data",
        _ => "nothing else can be looked at before that",
    };
    let reason = chain(error);
    Check::now("data directory", move || Finding::fail(reason, help))
}

/// Whether others can look into the directory, or put another one in its place. `became` is whom
/// root has become to look.
pub(super) fn closed(data: DataDir, became: Option<u32>) -> Check {
    Check::now("data directory", move || {
        let place = data.root().display().to_string();
        let meta = match std::fs::metadata(data.root()) {
            Ok(meta) => meta,
            Err(error) => return Finding::fail(format!("{place}: {error}"), "run `twobox init`"),
        };
        if meta.mode() & 0o077 != 0 {
            return Finding::warn(
                format!("{place} is open to other users (mode {:04o})", meta.mode() & 0o7777),
                format!("chmod 700 {place}; `twobox up` does it too"),
            );
        }
        if let Some(danger) = owner::exchangeable(data.root(), meta.uid()) {
            let help = "move the data directory to where only root or its owner can do that";
            return Finding::warn(format!("{place} can be exchanged: {danger}"), help);
        }
        Finding::ok(match became {
            Some(uid) => format!("{place}, looked at as user {}, whose it is", owner::name(uid)),
            None => place,
        })
    })
}

/// Whether its sockets can be reached at all; nothing if they can.
pub(super) fn sockets(data: &DataDir) -> Option<Check> {
    let error = data.fits_sockets().err()?;
    let help = "stop the host, move the directory, and `twobox init --moved`";
    Some(Check::now("sockets", move || Finding::fail(chain(&error), help)))
}

/// What in the directory belongs to somebody else, and the command that gives it back; nothing where
/// there is no directory, or one into which we may not look.
pub(super) fn owners(root: &Path) -> Option<Check> {
    let (root, meta) = (root.canonicalize().ok()?, std::fs::metadata(root).ok()?);
    if meta.uid() != owner::us() {
        return None;
    }
    Some(Check::now("owners", move || {
        let owner = owner::name(meta.uid());
        let strays = match owner::strays(&root) {
            Ok(strays) => strays,
            Err(error) => return Finding::warn(format!("not looked at: {error}"), "see above"),
        };
        let Some((first, whose)) = strays.first() else {
            return Finding::ok(format!("what the host has made is user {owner}'s"));
        };
        let (first, whose) = (first.display(), owner::name(*whose));
        let named: Vec<String> =
            strays.iter().take(NAMED_MAX).map(|(path, _)| path.display().to_string()).collect();
        let rest = match strays.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" (and {more} more: ask again then)"),
        };
        Finding::fail(
            format!(
                "the host is user {owner}, and {first} belongs to user {whose}, as if a command was \
                 run as that user ({} in all)",
                strays.len()
            ),
            format!("as root: chown -h {owner} {}{rest}", named.join(" ")),
        )
    }))
}
