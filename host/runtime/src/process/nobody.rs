//! Making nobody of a runner, where the host is root: another user without any capability, in a view
//! of the file system that leaves out what is the host's.
//!
//! A session's folders lie below folders that only root may enter, and that is how it has to stay. So
//! the child, between fork and exec, makes a mount namespace of its own, covers the topmost folder that
//! others may not enter (or the data directory, if all may be) with an empty one, and puts back in
//! their places the few folders that the runner is given. Paths stay what they are.

use std::ffi::CString;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, mknod, umask};
use nix::unistd::{Gid, Uid, chdir, mkdir, setgroups, setresgid, setresuid};

use crate::docker::folder::User;

/// Something that stays in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// Where it is, canonical: a folder or a file.
    pub(super) path: PathBuf,
    /// Whether nothing in it may be changed.
    pub(super) read_only: bool,
}

/// All that the child has to do, worked out before the fork.
#[derive(Debug)]
pub(super) struct Nobody {
    user: User,
    cover: CString,
    /// What to make below the cover, each after what it lies in.
    made: Vec<(CString, bool)>,
    kept: Vec<(CString, bool)>,
    /// Where `kept` is held open while it is covered. Filled by the child.
    held: Vec<Option<OwnedFd>>,
    home: CString,
    /// Whether it gets a [`SHARED_MEMORY`] of its own: not where that would cover what is kept.
    own_memory: bool,
}

/// Files in memory that all users of a machine share. A data directory may lie there.
const SHARED_MEMORY: &str = "/dev/shm";

/// The highest number that a capability may ever have, as the kernel's masks have so many bits.
const CAPABILITIES: libc::c_ulong = 64;

impl Nobody {
    /// Becomes `user`, who sees of the data directory `data` only `kept`, and works in `home`.
    ///
    /// # Errors
    /// Something of that is not there, or lies where nothing can be covered.
    pub(super) fn new(user: User, data: &Path, kept: &[Kept], home: &Path) -> io::Result<Self> {
        let cover = cover(data, |folder| fs::metadata(folder))?;
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from);
        let mut below: Vec<(&Kept, bool)> = Vec::new();
        for kept in kept.iter().filter(|kept| kept.path.starts_with(&cover)) {
            below.push((kept, fs::metadata(&kept.path)?.is_dir()));
        }
        // Whatever lies in something else that is kept is put on top of it.
        below.sort_by_key(|(kept, _)| kept.path.components().count());
        let mut made: Vec<(PathBuf, bool)> = Vec::new();
        for (kept, is_dir) in &below {
            let above = kept.path.ancestors().skip(1).take_while(|it| *it != cover);
            let mut above: Vec<_> = above.map(|folder| (folder.to_owned(), true)).collect();
            above.reverse();
            above.push((kept.path.clone(), *is_dir));
            for entry in above {
                if !made.contains(&entry) {
                    made.push(entry);
                }
            }
        }
        let mut needed = kept.iter().map(|kept| &*kept.path).chain([data, home]);
        Ok(Self {
            user,
            own_memory: !needed.any(|path| path.starts_with(SHARED_MEMORY)),
            cover: text(&cover)?,
            made: made
                .iter()
                .map(|(path, is_dir)| Ok((text(path)?, *is_dir)))
                .collect::<io::Result<_>>()?,
            held: below.iter().map(|_| None).collect(),
            kept: below
                .iter()
                .map(|(kept, _)| Ok((text(&kept.path)?, kept.read_only)))
                .collect::<io::Result<_>>()?,
            home: text(home)?,
        })
    }

    /// Does it, in the child. Only system calls on values that exist already: nothing here allocates.
    /// The child's mask for new files is to be set after it.
    pub(super) fn become_it(&mut self) -> nix::Result<()> {
        const NONE: Option<&str> = None;
        let locked = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        umask(Mode::from_bits_truncate(0o022));
        unshare(CloneFlags::CLONE_NEWNS)?;
        // What is unmounted outside is to go here as well, and nothing that is done here is to show there.
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)?;
        for (held, (path, _)) in self.held.iter_mut().zip(&self.kept) {
            *held = Some(open(path.as_c_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?);
        }
        let cover = self.cover.as_c_str();
        mount(Some("twobox"), cover, Some("tmpfs"), locked, Some("mode=0755,size=1m"))?;
        for (path, is_dir) in &self.made {
            let made = match is_dir {
                true => mkdir(path.as_c_str(), Mode::from_bits_truncate(0o755)),
                false => mknod(path.as_c_str(), SFlag::S_IFREG, Mode::from_bits_truncate(0o444), 0),
            };
            match made {
                // It lies in something that was put back with all that is in it: see below.
                Ok(()) | Err(Errno::EEXIST | Errno::EROFS) => {}
                Err(error) => return Err(error),
            }
            // As soon as its place is there, so that what lies in it finds its own place.
            let Some(at) = self.kept.iter().position(|(kept, _)| kept == path) else { continue };
            let (Some(held), read_only) = (&self.held[at], self.kept[at].1) else { continue };
            let source = Descriptor::new(held.as_raw_fd());
            mount(Some(source.path()), path.as_c_str(), NONE, MsFlags::MS_BIND, NONE)?;
            let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | locked;
            flags.set(MsFlags::MS_RDONLY, read_only);
            mount(NONE, path.as_c_str(), NONE, flags, NONE)?;
        }
        let fixed = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | locked;
        mount(NONE, cover, NONE, fixed, NONE)?;
        if self.own_memory {
            let shm = Some("mode=1777,size=64m");
            // A machine without one has no use for it.
            mount(Some("twobox"), SHARED_MEMORY, Some("tmpfs"), locked, shm).ok();
        }
        // Others' processes are nobody's business. A kernel before 5.8 does not know the word, and all
        // are seen there as before.
        let proc = Some("hidepid=ptraceable");
        mount(Some("proc"), "/proc", Some("proc"), locked | MsFlags::MS_NOEXEC, proc).ok();
        // The working place so far is one outside of this view.
        chdir(self.home.as_c_str())?;
        drop_rights(self.user)
    }
}

/// Takes another user's place, without a way back.
fn drop_rights(user: User) -> nix::Result<()> {
    for capability in 0..CAPABILITIES {
        // SAFETY: this call changes a set of bits of this thread and touches no memory.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            break; // there are no more
        }
    }
    setgroups(&[])?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setresgid(gid, gid, gid)?;
    // With the last user that is root all permitted, effective and ambient capabilities go.
    setresuid(uid, uid, uid)
}

/// The folder to cover: the topmost above `data` that not everybody may enter, or `data` itself.
fn cover(data: &Path, look: impl Fn(&Path) -> io::Result<Metadata>) -> io::Result<PathBuf> {
    let mut folders: Vec<&Path> = data.ancestors().collect();
    folders.reverse();
    let mut cover = data;
    for folder in folders {
        if look(folder)?.permissions().mode() & 0o001 == 0 {
            cover = folder;
            break;
        }
    }
    match cover.parent() {
        Some(_) => Ok(cover.to_owned()),
        None => Err(io::Error::other("others than root may not enter the root folder")),
    }
}

/// The path of a descriptor of this process, made without allocating.
struct Descriptor([u8; 32], usize);

impl Descriptor {
    fn new(fd: RawFd) -> Self {
        const HEAD: &[u8] = b"/proc/self/fd/";
        let (mut text, mut length) = ([0; 32], HEAD.len());
        text[..length].copy_from_slice(HEAD);
        let (mut digits, mut count, mut rest) = ([0; 10], 0, fd.unsigned_abs());
        loop {
            digits[count] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            count += 1;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        for digit in digits[..count].iter().rev() {
            text[length] = *digit;
            length += 1;
        }
        Self(text, length)
    }

    fn path(&self) -> &Path {
        Path::new(std::ffi::OsStr::from_bytes(&self.0[..self.1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_has_a_path() {
        for (fd, path) in [
            (0, "/proc/self/fd/0"),
            (17, "/proc/self/fd/17"),
            (i32::MAX, "/proc/self/fd/2147483647"),
        ] {
            assert_eq!(Descriptor::new(fd).path(), Path::new(path));
        }
    }

    #[test]
    fn the_topmost_folder_that_is_closed_is_covered() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let data = root.join("a/b/data");
        fs::create_dir_all(&data).unwrap();
        let mode = |path: &str, mode| {
            fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        for path in ["", "a", "a/b", "a/b/data"] {
            mode(path, 0o755);
        }
        let found = || cover(&data, |folder| fs::metadata(folder)).unwrap();
        assert_eq!(found(), data, "all are open");
        mode("a/b/data", 0o700);
        assert_eq!(found(), data);
        mode("a/b", 0o750);
        assert_eq!(found(), root.join("a/b"));
        mode("a", 0o711);
        assert_eq!(found(), root.join("a/b"), "to be entered is enough");
        mode("a", 0o700);
        assert_eq!(found(), root.join("a"));
    }

    #[test]
    fn what_is_kept_is_made_from_the_top_down() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let data = root.join("data");
        fs::create_dir_all(data.join("s/1/in")).unwrap();
        fs::create_dir_all(data.join("s/1/out")).unwrap();
        fs::write(root.join("runner"), "").unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
        let kept = |path: &str, read_only| Kept { path: root.join(path), read_only };
        let user = User { uid: 7, gid: 7 };
        let elsewhere = Kept { path: "/usr".into(), read_only: true };
        let all = [
            kept("data/s/1/out", false),
            kept("data/s/1/in", true),
            kept("runner", true),
            elsewhere,
        ];
        let nobody = Nobody::new(user, &data, &all, &data).unwrap();
        let text = |path: &str| CString::new(root.join(path).as_os_str().as_bytes()).unwrap();
        let made = ["data", "data/s", "data/s/1"].map(|folder| (text(folder), true));
        let mut expected = vec![(text("runner"), false)];
        expected.extend(made);
        expected.extend([(text("data/s/1/out"), true), (text("data/s/1/in"), true)]);
        assert_eq!(nobody.made, expected);
        assert_eq!(nobody.kept.len(), 3, "what is not covered stays");
        Nobody::new(user, &data, &[kept("none", true)], &data).unwrap_err();
    }
}
