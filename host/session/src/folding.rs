//! Folding a session that was made for a run, once it is at rest: what only a container needs is taken
//! away. The two boxes stay as they are, and with them everything that was said and what became of it;
//! so does whatever lies in the workspace, and what was logged. Every start lays ready again what it
//! needs, so a folded session is one like any other.
//!
//! A session is folded before the mark that somebody has to look at it is taken away: a host that dies
//! between the two leaves it marked, and the next one folds it again, which changes nothing more.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, open, rmdir, unlinkat};
use rustix::io::Errno;
use twobox_shared::fault::{self, CrashPoint};

use super::boxes::Boxes;
use super::task::Task;
use twobox_model::channel::SCHEDULE_CHANNEL;
use twobox_system::blocking::blocking;

/// A folder, and no link to one.
const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Boxes {
    /// Takes away what only a container needs. None may live, nor be about to.
    ///
    /// # Errors
    /// The system's reason. What is left costs room and nothing else.
    pub(super) fn fold(&self) -> io::Result<()> {
        self.record_stamp(None);
        self.remove_config()?;
        self.remove_socket()?;
        remove_empty(self.work())
    }
}

/// Removes a folder and the one for temporary files in it, each if nothing is in it. The container could
/// write there, so that no link is followed.
fn remove_empty(work: &Path) -> io::Result<()> {
    let inside = match open(work, FOLDER, Mode::empty()) {
        // Something else stands in its place, or nothing: neither is ours to mend.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        opened => opened?,
    };
    for removed in [unlinkat(&inside, c"tmp", AtFlags::REMOVEDIR), rmdir(work)] {
        match removed {
            // It was not there, or something was left in it.
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            removed => removed?,
        }
    }
    Ok(())
}

impl Task {
    /// Whether the session was made for one run.
    pub(super) fn is_made_for_a_run(&self) -> bool {
        self.reply_address.channel_type == SCHEDULE_CHANNEL
    }

    /// Folds a session that was made for a run and of which nobody expects anything more.
    pub(super) async fn fold(&mut self) {
        if !self.is_made_for_a_run() {
            return;
        }
        let boxes = Arc::clone(&self.boxes);
        if let Err(error) = blocking(move || boxes.fold()).await {
            tracing::debug!(session = %self.id, %error, "the session takes more room than it needs");
        }
        fault::point(CrashPoint::HostSessionFolded);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_is_empty_goes_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (work, elsewhere) = (dir.path().join("work"), dir.path().join("elsewhere"));
        fs::create_dir_all(elsewhere.join("tmp")).unwrap();
        type Case<'a> = (&'a str, Box<dyn Fn() + 'a>, bool);
        let cases: [Case<'_>; 6] = [
            ("nothing is there", Box::new(|| {}), false),
            ("it is empty", Box::new(|| fs::create_dir(&work).unwrap()), false),
            ("with its tmp", Box::new(|| fs::create_dir_all(work.join("tmp")).unwrap()), false),
            ("a link", Box::new(|| symlink(&elsewhere, &work).unwrap()), true),
            (
                "a link in it",
                Box::new(|| {
                    fs::create_dir(&work).unwrap();
                    symlink(elsewhere.join("tmp"), work.join("tmp")).unwrap();
                }),
                true,
            ),
            (
                "something was left",
                Box::new(|| {
                    fs::create_dir_all(work.join("tmp")).unwrap();
                    fs::write(work.join("tmp/x"), "1").unwrap();
                }),
                true,
            ),
        ];
        for (case, make, stays) in cases {
            if work.symlink_metadata().is_ok_and(|it| it.is_dir()) {
                fs::remove_dir_all(&work).unwrap();
            } else {
                fs::remove_file(&work).ok(); // most cases leave nothing
            }
            make();
            remove_empty(&work).unwrap();
            remove_empty(&work).unwrap();
            assert_eq!(work.symlink_metadata().is_ok(), stays, "{case}");
            assert!(elsewhere.join("tmp").is_dir(), "{case}");
        }
        assert_eq!(fs::read_to_string(work.join("tmp/x")).unwrap(), "1");
    }
}
