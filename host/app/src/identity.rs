//! What a data directory is that is found elsewhere: the same installation in a new place, or a copy
//! of one that goes on. A person says which. Each is one transaction of `host.db`, and whoever calls
//! holds the directory, so that no host sees half of it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::Serialize;
use twobox_shared::ids::{IdSource, InstallId, SessionId};
use twobox_shared::time::UnixMillis;

use crate::place::{self, PlaceError, compare};
use crate::token::{Token, TokenError};
use twobox_model::installation::{Place, Verdict, judge};
use twobox_session::boxes::Boxes;
use twobox_session::held::{Held, TORN};
use twobox_shared::errors::{chain, for_a_terminal};
use twobox_store::{DbError, Store, install_of};
use twobox_system::data::{DataDir, DataError, HostLock};

/// Why an installation is not what a person says it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The old directory is there.
    #[error(
        "the installation is still at {old} ({why}): a copy is made with `init --copy`; if this \
         is to be the only one, rename or remove {old} first"
    )]
    OldIsThere {
        /// Where.
        old: PathBuf,
        /// What shows that.
        why: String,
    },
    /// It is where it was.
    #[error(
        "{path} is where this installation has always been, as far as can be seen, so it is no \
         copy. If this whole machine is a clone of another one, say so with --force: then all \
         schedules are paused here and undelivered messages held"
    )]
    NoCopy {
        /// The data directory.
        path: PathBuf,
    },
    /// The files are the original's own.
    #[error(
        "{path} has {links} names: it is a hard link to the file of another directory and no copy \
         of it. Copy the directory with `cp -a`"
    )]
    Linked {
        /// Which file.
        path: PathBuf,
        /// How many.
        links: u64,
    },
    /// The place cannot be told.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// `host.db` refused.
    #[error(transparent)]
    Db(#[from] DbError),
    /// There is no new token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The operating system refused.
    #[error("could not {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// What came of a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Where it was; `None` if it is where it was, or nobody knew.
    pub from: Option<PathBuf>,
    /// Sessions whose containers, if they live, have the old folders and will be stopped.
    pub runners: usize,
}

/// What came of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// The original's id.
    pub original: InstallId,
    /// Its own.
    pub install_id: InstallId,
    /// What was held back in its sessions.
    pub held: Held,
    /// Notices of the host that were held back.
    pub notices: usize,
    /// Schedules that were paused.
    pub schedules: usize,
    /// Scheduled runs that were cancelled.
    pub runs: usize,
    /// Sessions that are out of use because their files cannot be read, with the reason.
    pub broken: Vec<(SessionId, String)>,
}

/// Makes the present place the installation's own.
///
/// # Errors
/// [`IdentityError::OldIsThere`] if the old one can be seen.
pub fn moved(
    data: &DataDir,
    _lock: &HostLock,
    store: &Store,
    now: UnixMillis,
) -> Result<Moved, IdentityError> {
    let (remembered, seen) = compare(store, data)?;
    let from = remembered.filter(|remembered| judge(remembered, &seen) != Verdict::Same);
    if let Some(old) = &from {
        let ours = store.installation().id().wait()?;
        old_is_gone(old, &seen, ours)?;
    }
    let runners = store.installation().move_to(&seen, from.is_some(), now).wait()?;
    Ok(Moved { from: from.map(|old| old.path), runners })
}

/// Refuses if the directory that was left is still one of this installation.
fn old_is_gone(old: &Place, seen: &Place, ours: Option<InstallId>) -> Result<(), IdentityError> {
    if old.path == seen.path {
        return Ok(()); // it was replaced
    }
    let there =
        |why: &str| Err(IdentityError::OldIsThere { old: old.path.clone(), why: why.to_owned() });
    // What is not there, or is something else by now, is in nobody's way.
    let Ok(data) = DataDir::open(&old.path) else { return Ok(()) };
    if place::see(&data).is_ok_and(|there| there.folder == seen.folder) {
        return Ok(()); // this very directory, by another name
    }
    if let Some(holder) = data.holder()? {
        return there(&format!("its host runs: {holder}"));
    }
    match install_of(&data.host_db()) {
        Ok(other) if other != ours => Ok(()),
        Ok(_) => there("its host.db has the same id"),
        Err(error) => there(&format!("and its host.db cannot be read: {}", chain(&error))),
    }
}

/// Makes a copy an installation of its own. What was open is held back, session by session; only
/// then the copy gets its id, in one transaction with everything else. A crash before that leaves a
/// directory that no host starts on, and the same again goes on.
///
/// `quota` is how large an outbox may be, in bytes. `force` also takes a directory for a copy that
/// seems to be where it was.
///
/// # Errors
/// [`IdentityError`]: the directory is as it was, or held back in part.
pub fn copy(
    data: &DataDir,
    _lock: &HostLock,
    store: &Store,
    ids: &(impl IdSource + ?Sized),
    quota: u64,
    force: bool,
    now: UnixMillis,
) -> Result<Copied, IdentityError> {
    let (remembered, seen) = compare(store, data)?;
    let same = remembered.is_some_and(|before| judge(&before, &seen) == Verdict::Same);
    if same && !force {
        return Err(IdentityError::NoCopy { path: seen.path });
    }
    let file = data.host_db();
    let links = file
        .metadata()
        .map_err(|source| IdentityError::Io { action: "look at", path: file.clone(), source })?
        .nlink();
    if links > 1 {
        return Err(IdentityError::Linked { path: file, links });
    }
    let mut held = Held::default();
    let mut broken = Vec::new();
    for (group, session) in store.sessions().folders().wait()? {
        let folder = data.session_folder(group, session);
        match Boxes::new(session, &folder, &data.scratch(), quota).hold(now) {
            Ok(some) => held += some,
            Err(error) => {
                broken.push((session, for_a_terminal(&format!("{TORN}: {}", chain(&error)))));
            }
        }
    }
    // The old one opens the original's door. A directory that is no copy yet may have a new one.
    Token::renew(&data.api_token())?;
    let install_id = InstallId::generate(ids);
    let changed = store.installation().become_copy(install_id, &seen, &broken, now).wait()?;
    Ok(Copied {
        original: changed.original,
        install_id,
        held,
        notices: changed.notices,
        schedules: changed.schedules,
        runs: changed.runs,
        broken,
    })
}
