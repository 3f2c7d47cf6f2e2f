//! Making a session's folders usable by the user inside the container. Everything here blocks.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::Mode;
use nix::unistd::UnlinkatFlags;
use rustix::fs::{AtFlags, Dir, FileType, Gid, OFlags, Uid, chownat, openat, statat};
use rustix::io::Errno;
use twobox_shared::paths::SessionPaths;

use super::facts::Facts;
use crate::StartSpec;
use crate::mounts::{Room, mounts};
use crate::program;

/// The user inside when the host is root: nobody on this machine.
const NOBODY: User = User { uid: 65532, gid: 65532 };

/// Who the processes of a container are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

impl User {
    /// The host's own user.
    pub(crate) fn own() -> Self {
        Self { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() }
    }

    /// The user that the setting names, or if it is empty, `own` unless that is root.
    pub(crate) fn choose(setting: &str, own: Self) -> Result<Self, String> {
        if setting.is_empty() {
            return Ok(if own.uid == 0 { NOBODY } else { own });
        }
        let parsed = setting
            .split_once(':')
            .and_then(|(uid, gid)| Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? }));
        parsed.ok_or_else(|| {
            format!("containers.user is {setting:?}: write it as two numbers, like \"1000:1000\"")
        })
    }
}

/// Refuses a mount whose source is not a folder: an engine may make one, of root's, where there is
/// none.
pub(super) fn check_sources<'a>(sources: impl Iterator<Item = &'a str>) -> io::Result<()> {
    for source in sources {
        let found = fs::symlink_metadata(source)
            .map_err(|error| io::Error::new(error.kind(), format!("{source}: {error}")))?;
        if !found.is_dir() {
            return Err(io::Error::other(format!("{source} is not a directory")));
        }
    }
    Ok(())
}

/// How far this process may raise its limits on open files and on processes.
pub(super) fn reach() -> (u64, u64) {
    let hard = |resource| getrlimit(resource).map_or(u64::MAX, |(_, hard)| hard);
    (hard(Resource::RLIMIT_NOFILE), hard(Resource::RLIMIT_NPROC))
}

/// How willingly the kernel ends this process when memory is short.
pub(super) fn oom_score() -> i64 {
    let score = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    score.trim().parse().unwrap_or(0)
}

/// Refuses a `user` that this engine makes somebody else of, who could not write the folders.
/// Rootless engines make the host's own user of root, and of nobody else unless told to.
pub(super) fn check_mapping(facts: &Facts, own: User, user: User) -> Result<(), String> {
    if facts.rootless && own.uid == 0 {
        return Err(
            "the engine is another user's, rootless, and cannot write what is root's: run the \
                    host as that user, or set containers.socket to an engine of root's"
                .to_owned(),
        );
    }
    if facts.rootless && user.uid != 0 && !facts.keeps_id(own, user) {
        let way = match facts.podman {
            true => "leave containers.user empty, which is then the host's own user",
            false => "set containers.user = \"0:0\", which is the host's own user there",
        };
        return Err(format!(
            "the engine is rootless, where user {user} of the containers cannot write its folders: {way}"
        ));
    }
    if facts.rootless {
        return Ok(());
    }
    if facts.remapped {
        return Err(format!(
            "the engine remaps users, so user {user} of the containers cannot write its folders: \
             take userns-remap out of the engine's configuration"
        ));
    }
    match own.uid == 0 || user == own {
        true => Ok(()),
        false => Err(cannot_give(own, user)),
    }
}

pub(crate) fn cannot_give(own: User, user: User) -> String {
    format!(
        "containers run as {user} and the host as {own}, which cannot give them their folders: leave \
         containers.user empty, or run the host as root"
    )
}

/// Lets `user` read the inbox and the program, and write what it is given to write.
pub(crate) fn prepare(spec: &StartSpec, own: User, user: User) -> io::Result<()> {
    let paths = SessionPaths::of_folder(&spec.folder);
    // The folders above stay closed: the container enters by its mounts, nobody else gets here.
    fs::set_permissions(paths.in_dir(), Permissions::from_mode(0o755))?;
    match fs::set_permissions(paths.inbound_db(), Permissions::from_mode(0o644)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if own.uid == 0 {
        for mount in mounts(spec) {
            match mount.room {
                Room::Inbox | Room::Cli | Room::Extra => {} // the operator's are his to give
                Room::Program => program::open_to_readers(&mount.source)?,
                Room::Outbox | Room::Work | Room::Shared => give(&mount.source, user)?,
            }
        }
        let was_roots = |file: &Path| fs::symlink_metadata(file).is_ok_and(|file| file.uid() == 0);
        if user.uid != 0
            && [paths.outbound_db(), paths.runner_lock()].into_iter().any(|file| was_roots(&file))
        {
            // What says that there is something to do comes last.
            hand_over(&SessionPaths::work_of(&spec.folder), user)?;
            hand_over(paths.out_dir(), user)?;
        }
    }
    Ok(())
}

/// How deep folders are handed over. Each level holds a descriptor.
const DEPTH_MAX: u32 = 64;

/// Gives what root owns below `folder`, which is a session's, to `user`: runners were root once, and
/// left files there. A file that is called something else besides, perhaps elsewhere, is left alone,
/// and nothing is followed out of the folder, whoever exchanges what is in it meanwhile.
fn hand_over(folder: &Path, user: User) -> io::Result<()> {
    match rustix::fs::open(folder, FOLDER, rustix::fs::Mode::empty()) {
        Err(Errno::NOENT) => Ok(()),
        opened => hand_over_in(&opened?, user, 0),
    }
}

const FOLDER: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);

fn hand_over_in(folder: &OwnedFd, user: User, depth: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        let meta = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(meta.st_mode);
        if kind == FileType::Directory && depth < DEPTH_MAX {
            let inner = openat(folder, name, FOLDER, rustix::fs::Mode::empty())?;
            hand_over_in(&inner, user, depth + 1)?;
        }
        let is_plain = kind == FileType::RegularFile && meta.st_nlink == 1;
        if meta.st_uid == 0 && (kind == FileType::Directory || is_plain) {
            chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(())
}

/// Makes `user` the owner of the folder itself. What is in it may be a trap of a container's, and
/// is left alone.
fn give(folder: &Path, user: User) -> io::Result<()> {
    let now = fs::symlink_metadata(folder)?;
    if !now.is_dir() {
        return Err(io::Error::other(format!("{} is not a directory", folder.display())));
    }
    if (now.uid(), now.gid()) == (user.uid, user.gid) {
        return Ok(());
    }
    std::os::unix::fs::lchown(folder, Some(user.uid), Some(user.gid))
}

/// Proves in `room`, a folder of ours, that `user` can write a folder that was given to it as an
/// `out/` is: by doing it, as that user.
///
/// # Errors
/// What to change.
pub(super) fn prove_writable(room: &Path, own: User, user: User) -> Result<(), String> {
    // Root inside a rootless engine is the host's own user; elsewhere `check_mapping` refuses it.
    if own.uid != 0 && user != own && user.uid != 0 {
        return Err(cannot_give(own, user));
    }
    let probe = room.join(".out-probe");
    let proof = (|| {
        match fs::create_dir(&probe) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        fs::set_permissions(&probe, Permissions::from_mode(0o700))?;
        if own.uid == 0 {
            give(&probe, user)?;
        }
        write_as(&probe, user)
    })();
    let removed = fs::remove_dir_all(&probe);
    proof.and(removed).map_err(|error| {
        format!(
            "user {user} of the containers cannot write a folder in {}: {error}: put the data \
             directory on a local file system",
            room.display()
        )
    })
}

/// Creates and deletes a file in `folder` with the rights of `user`.
fn write_as(folder: &Path, user: User) -> io::Result<()> {
    // Opened before the rights are given up: a container enters by its mounts, not by the path.
    let entrance = File::open(folder)?;
    let attempt = move || {
        // On Linux these change this thread only, and capabilities go with them. They report no
        // errors; where they do nothing, we are that user already.
        nix::unistd::setfsgid(user.gid.into());
        nix::unistd::setfsuid(user.uid.into());
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY;
        nix::fcntl::openat(&entrance, "probe", flags, Mode::from_bits_truncate(0o600))?;
        nix::unistd::unlinkat(&entrance, "probe", UnlinkatFlags::NoRemoveDir)
    };
    // A thread of its own, which ends with what it has become.
    let ended = std::thread::spawn(attempt).join();
    ended.unwrap_or(Err(nix::errno::Errno::EIO)).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_never_run_as_root_by_accident() {
        let root = User { uid: 0, gid: 0 };
        let person = User { uid: 1000, gid: 100 };
        assert_eq!(User::choose("", root), Ok(NOBODY));
        assert_eq!(User::choose("", person), Ok(person));
        assert_eq!(User::choose("7:8", root), Ok(User { uid: 7, gid: 8 }));
        for bad in ["agent", "7", "7:", "-1:0", "7:8:9"] {
            assert!(User::choose(bad, root).unwrap_err().contains("containers.user"), "{bad}");
        }
    }

    #[test]
    fn an_engine_that_makes_somebody_else_of_the_user_is_refused() {
        let (root, person) = (User { uid: 0, gid: 0 }, User { uid: 1000, gid: 1000 });
        let other = User { uid: 7, gid: 7 };
        let plain =
            Facts { version: String::new(), podman: false, rootless: false, remapped: false };
        let rootless = Facts { rootless: true, ..plain.clone() };
        let podman = Facts { podman: true, ..rootless.clone() };
        let remapped = Facts { remapped: true, ..plain.clone() };
        let cases = [
            ("plain, host is root", &plain, root, NOBODY, None),
            ("plain", &plain, person, person, None),
            ("plain, as root", &plain, person, root, Some("containers.user empty")),
            ("rootless", &rootless, person, person, Some("0:0")),
            ("rootless, as root", &rootless, person, root, None),
            ("somebody else's, rootless", &rootless, root, NOBODY, Some("another user's")),
            ("rootless Podman", &podman, person, person, None),
            ("rootless Podman, as root", &podman, person, root, None),
            ("rootless Podman, as another", &podman, person, other, Some("containers.user empty")),
            ("remapped", &remapped, root, NOBODY, Some("userns-remap")),
        ];
        for (case, facts, own, user, expected) in cases {
            let refusal = check_mapping(facts, own, user).err();
            assert_eq!(refusal.is_some(), expected.is_some(), "{case}");
            let said = refusal.unwrap_or_default();
            assert!(said.contains(expected.unwrap_or_default()), "{case}: {said}");
        }
    }

    #[test]
    fn whether_the_user_inside_can_write_is_tried_and_not_guessed() {
        let dir = tempfile::tempdir().unwrap();
        let own = User::own();
        let inside = User::choose("", own).unwrap();
        prove_writable(dir.path(), own, inside).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
        let person = User { uid: 1000, gid: 1000 };
        let refusal = prove_writable(dir.path(), person, NOBODY).unwrap_err();
        assert!(refusal.contains("containers.user"), "{refusal}");
        if own.uid == 0 {
            // A folder that stays root's, as where the file system does not let it be given away.
            let error = write_as(dir.path(), NOBODY).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
        }
    }
}
