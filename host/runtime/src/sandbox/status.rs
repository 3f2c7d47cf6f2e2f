//! The file in a session's folder that says which sandbox is its: a line of the host's own, written
//! before the start, and the lines that bwrap adds.
//!
//! It is a regular file and lies where no container reaches: a pipe would end bwrap when the host
//! dies, and what it says decides who is killed. bwrap writes the inner process before it lets any
//! program run inside, so a sandbox that no file names has not run anything yet.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::process::Pid;
use serde::Deserialize;
use serde_json::json;
use twobox_shared::ids::RunnerId;

/// The file's name in a session folder, beside `in/` and `out/`.
const STATUS: &str = "sandbox.status";

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// Whose start it was.
    pub(super) runner: Option<RunnerId>,
    /// Which life of the machine it was.
    pub(super) boot: Option<String>,
    /// The process that is number 1 inside, by its number here,
    pub(super) inner: Option<Pid>,
    /// and the number of the process namespace that it began.
    pub(super) namespace: Option<u64>,
    /// With what the program inside has ended.
    pub(super) exit_code: Option<i64>,
}

/// One line. The host's and bwrap's have different names.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Line {
    runner: Option<RunnerId>,
    boot: Option<String>,
    child_pid: Option<i32>,
    pid_namespace: Option<u64>,
    exit_code: Option<i64>,
}

/// Where the file of the session in `folder` is.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(STATUS)
}

/// Begins a new file for `runner`. An earlier one is no longer in the folder, though its bwrap may
/// still have it open.
pub(super) fn begin(folder: &Path, runner: RunnerId) -> io::Result<File> {
    forget(folder)?;
    let mut file = OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path(folder))?;
    let line = json!({ "runner": runner, "boot": boot_id()? });
    file.write_all(format!("{line}\n").as_bytes())?;
    Ok(file)
}

/// Removes the file, if there is one.
pub(super) fn forget(folder: &Path) -> io::Result<()> {
    match fs::remove_file(path(folder)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What the file in `folder` says; `None` if there is none.
pub(super) fn read(folder: &Path) -> io::Result<Option<Status>> {
    match fs::read(path(folder)) {
        Ok(text) => Ok(Some(Status::parse(&text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Which life of the machine this is: process numbers mean nothing in another.
pub(super) fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

impl Status {
    /// Only whole lines count: bwrap writes its first one piece by piece.
    fn parse(text: &[u8]) -> Self {
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut status = Self::default();
        for line in text[..whole].split(|byte| *byte == b'\n') {
            let Ok(line) = serde_json::from_slice::<Line>(line) else { continue };
            status.runner = status.runner.or(line.runner);
            status.boot = status.boot.or(line.boot);
            status.inner = status.inner.or(line.child_pid.and_then(Pid::from_raw));
            status.namespace = status.namespace.or(line.pid_namespace);
            status.exit_code = status.exit_code.or(line.exit_code);
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use twobox_shared::ids::SystemIds;

    use super::*;

    #[test]
    fn whole_lines_count_and_others_do_not() {
        let runner = RunnerId::generate(&SystemIds);
        let ours = format!("{{\"runner\":\"{runner}\",\"boot\":\"b\"}}\n");
        let child = "{ \"child-pid\": 26976, \"mnt-namespace\": 4, \"pid-namespace\": 7 }\n";
        let of = |parts: &[&str]| Status::parse(parts.concat().as_bytes());
        let begun = Status { runner: Some(runner), boot: Some("b".into()), ..Status::default() };
        assert_eq!(of(&[&ours]), begun);
        assert_eq!(of(&[&ours, "{ \"child-pid\": 26"]), begun, "half a line");
        let runs = Status { inner: Pid::from_raw(26976), namespace: Some(7), ..begun };
        assert_eq!(of(&[&ours, child]), runs);
        let ended = Status { exit_code: Some(137), ..runs };
        assert_eq!(of(&[&ours, child, "{ \"exit-code\": 137 }\n"]), ended);
        assert_eq!(of(&["rubbish\n\n"]), Status::default());
        assert_eq!(of(&[]), Status::default());
    }

    #[test]
    fn a_new_file_takes_the_place_of_an_earlier_one() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = [(); 2].map(|()| RunnerId::generate(&SystemIds));
        let mut earlier = begin(dir.path(), one).unwrap();
        begin(dir.path(), two).unwrap();
        earlier.write_all(b"{ \"exit-code\": 1 }\n").unwrap();
        let status = read(dir.path()).unwrap().unwrap();
        assert_eq!((status.runner, status.exit_code), (Some(two), None));
        assert_eq!(status.boot, Some(boot_id().unwrap()));
        forget(dir.path()).unwrap();
        forget(dir.path()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
    }
}
