//! Putting files into a program, and replacing what is there.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, RenameFlags, fsync, openat, renameat_with};
use rustix::io::Errno;

use super::copy::{Copier, FOLDER, Refusal, create, make_folder};
use super::stage::{Stage, enter};
use super::{ProgramError, failed};

/// Copies `sources`, files or folders, into the folder `agent` among `programs`: each under its own
/// name, or a single one at the place `target`. What is there under that name is replaced as a whole,
/// a link itself and not what it leads to. All of them are copied before the first is moved into place.
/// Returns where they are now, as paths in the program folder.
///
/// # Errors
/// [`ProgramError`]. Unless it comes from the moves themselves, nothing was changed.
pub fn put(
    programs: &Path,
    agent: &str,
    sources: &[PathBuf],
    target: Option<&Path>,
) -> Result<Vec<PathBuf>, ProgramError> {
    let mut places: Vec<PathBuf> = Vec::with_capacity(sources.len());
    for source in sources {
        let own = source.file_name().map(Path::new);
        let no_place = || ProgramError::NoPlace { path: source.clone() };
        let place = place(target.or(own).ok_or_else(no_place)?)?;
        if places.contains(&place) {
            return Err(ProgramError::Twice { path: place });
        }
        places.push(place);
    }
    let stage = Stage::open(programs)?;
    for (number, source) in sources.iter().enumerate() {
        let (folder, name) = whereabouts(source)?;
        let mut copier = Copier::trusting();
        copier.copy((&folder, name), (&stage.folder, number.to_string().as_ref()), source)?;
        if let Some((path, refusal)) = copier.left.pop() {
            return Err(ProgramError::Refused { path, refusal });
        }
    }
    let program = program(&stage, programs, agent)?;
    for (number, place) in places.iter().enumerate() {
        move_in(&stage, number.to_string().as_ref(), &program, place)?;
    }
    Ok(places)
}

/// Replaces one file of a program by `text`, or makes it. Whether it may be executed stays as it is.
///
/// # Errors
/// As for [`put`].
pub fn write(programs: &Path, agent: &str, target: &Path, text: &[u8]) -> Result<(), ProgramError> {
    const NAME: &str = "written";
    let target = place(target)?;
    let stage = Stage::open(programs)?;
    let program = program(&stage, programs, agent)?;
    let before = look(&program, &target)?.map(|file| file.metadata()).transpose();
    let before = before.map_err(failed("look at", &target))?;
    let executable = before.is_some_and(|meta| meta.permissions().mode() & 0o111 != 0);
    let written = create(&stage.folder, NAME.as_ref()).and_then(|mut file| {
        file.write_all(text)?;
        file.set_permissions(Permissions::from_mode(if executable { 0o755 } else { 0o644 }))?;
        file.sync_all()
    });
    written.map_err(failed("write", &target))?;
    move_in(&stage, NAME.as_ref(), &program, &target)
}

/// What one file of a program says; `None` if it is not there.
///
/// # Errors
/// As for [`put`]; [`ProgramError::Refused`] for what is no file.
pub fn read(programs: &Path, agent: &str, target: &Path) -> Result<Option<Vec<u8>>, ProgramError> {
    let target = place(target)?;
    let folder = programs.join(agent);
    let program = rustix::fs::open(&folder, FOLDER, Mode::empty());
    let Some(mut file) = look(&program.map_err(failed("open", &folder))?, &target)? else {
        return Ok(None);
    };
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(failed("read", &target))?;
    Ok(Some(text))
}

/// The file at `target`, if there is one.
fn look(program: &OwnedFd, target: &Path) -> Result<Option<std::fs::File>, ProgramError> {
    let refused = |refusal| Err(ProgramError::Refused { path: target.to_owned(), refusal });
    let (parent, name) = split(target);
    let folder = match walk(program, parent, false) {
        Ok(folder) => folder,
        Err(ProgramError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(&folder, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return refused(Refusal::Link),
        Err(errno) => return Err(failed("open", target)(errno)),
        Ok(file) => std::fs::File::from(file),
    };
    match file.metadata() {
        Ok(meta) if meta.is_file() => Ok(Some(file)),
        Ok(_) => refused(Refusal::Special),
        Err(error) => Err(failed("look at", target)(error)),
    }
}

/// `path` as a place inside a program folder.
fn place(path: &Path) -> Result<PathBuf, ProgramError> {
    let mut place = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => place.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(ProgramError::NoPlace { path: path.to_owned() });
            }
        }
    }
    match place.as_os_str().is_empty() {
        true => Err(ProgramError::NoPlace { path: path.to_owned() }),
        false => Ok(place),
    }
}

/// The folder that a person's path leads to, and the name in it.
fn whereabouts(source: &Path) -> Result<(OwnedFd, &OsStr), ProgramError> {
    let name = source.file_name().ok_or(ProgramError::NoPlace { path: source.to_owned() })?;
    let parent = source.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(parent, flags, Mode::empty()).map_err(failed("open", parent))?;
    Ok((folder, name))
}

/// The agent's program folder, which is made if it is not there.
fn program(stage: &Stage, programs: &Path, agent: &str) -> Result<OwnedFd, ProgramError> {
    let path = programs.join(agent);
    match enter(&stage.programs, agent.as_ref()) {
        Ok(folder) => Ok(folder),
        Err(Errno::NOENT) => {
            make_folder(&stage.programs, agent.as_ref()).map_err(failed("create", &path))
        }
        Err(Errno::LOOP | Errno::NOTDIR) => Err(ProgramError::InTheWay { path }),
        Err(errno) => Err(failed("open", &path)(errno)),
    }
}

fn split(place: &Path) -> (&Path, &OsStr) {
    let name = place.file_name().expect("a place has a name");
    (place.parent().unwrap_or(Path::new("")), name)
}

/// The folder at `place` in `program`. With `make`, what is missing on the way is made.
fn walk(program: &OwnedFd, place: &Path, make: bool) -> Result<OwnedFd, ProgramError> {
    let mut folder = program.try_clone().map_err(failed("open", place))?;
    let mut so_far = PathBuf::new();
    for name in place {
        so_far.push(name);
        folder = match enter(&folder, name.as_ref()) {
            Ok(deeper) => deeper,
            Err(Errno::NOENT) if make => {
                let made = make_folder(&folder, name).map_err(failed("create", &so_far))?;
                fsync(&folder).map_err(failed("write", &so_far))?;
                made
            }
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(ProgramError::InTheWay { path: so_far });
            }
            Err(errno) => return Err(failed("open", &so_far)(errno)),
        };
    }
    Ok(folder)
}

/// Moves `name` from the stage to its place. What was there is in the stage then, or gone.
fn move_in(
    stage: &Stage,
    name: &OsStr,
    program: &OwnedFd,
    place: &Path,
) -> Result<(), ProgramError> {
    let (parent, last) = split(place);
    let folder = walk(program, parent, true)?;
    let rename = |flags: RenameFlags| renameat_with(&stage.folder, name, &folder, last, flags);
    let moved = match rename(RenameFlags::NOREPLACE) {
        // A file takes another's place, or a link's, in one step on every file system.
        Err(Errno::EXIST | Errno::INVAL) => match rename(RenameFlags::empty()) {
            Err(Errno::ISDIR | Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST) => {
                rename(RenameFlags::EXCHANGE)
            }
            renamed => renamed,
        },
        renamed => renamed,
    };
    moved.and_then(|()| fsync(&folder)).map_err(failed("replace", place))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::program::stage::STAGE;

    struct Room {
        dir: tempfile::TempDir,
    }

    impl Room {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("programs/ann")).unwrap();
            Self { dir }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            path
        }

        fn put(&self, sources: &[PathBuf], target: Option<&str>) -> Result<Vec<PathBuf>, String> {
            put(&self.path("programs"), "ann", sources, target.map(Path::new))
                .map_err(|error| error.to_string())
        }

        fn reads(&self, name: &str) -> String {
            fs::read_to_string(self.path("programs/ann").join(name)).unwrap()
        }
    }

    #[test]
    fn files_and_folders_get_in_and_all_may_read_them() {
        let room = Room::new();
        let run = room.file("run.sh", "run");
        fs::set_permissions(&run, Permissions::from_mode(0o700)).unwrap();
        let agent = room.file("agent.py", "one");
        let skill = room.file("skills/deep/one.md", "skill");
        room.put(&[run, agent.clone(), room.path("skills")], None).unwrap();
        assert_eq!(room.reads("skills/deep/one.md"), "skill");
        let mode = |name: &str| {
            let path = room.path("programs/ann").join(name);
            fs::metadata(path).unwrap().permissions().mode() & 0o7777
        };
        assert_eq!((mode("run.sh"), mode("agent.py"), mode("skills/deep")), (0o755, 0o644, 0o755));
        // Again, over what is there, and a folder as a whole.
        fs::write(&agent, "two").unwrap();
        fs::remove_dir_all(skill.parent().unwrap()).unwrap();
        room.file("skills/two.md", "other");
        room.put(&[agent.clone(), room.path("skills")], None).unwrap();
        assert_eq!(
            (room.reads("agent.py"), room.reads("skills/two.md")),
            ("two".into(), "other".into())
        );
        assert!(!room.path("programs/ann/skills/deep").exists(), "replaced and not merged");
        // A file where a folder was, somewhere deep.
        let places = room.put(&[agent], Some("skills/more/./a.py")).unwrap();
        assert_eq!(
            (places, room.reads("skills/more/a.py")),
            (vec!["skills/more/a.py".into()], "two".into())
        );
        room.put(&[room.path("agent.py")], Some("skills")).unwrap();
        assert_eq!(room.reads("skills"), "two");
        assert!(!room.path("programs").join(STAGE).exists());
    }

    #[test]
    fn a_link_in_the_way_is_replaced_and_never_written_through() {
        let room = Room::new();
        let victim = room.file("victim", "mine");
        let agent = room.file("agent.py", "new");
        symlink(&victim, room.path("programs/ann/agent.py")).unwrap();
        room.put(std::slice::from_ref(&agent), None).unwrap();
        assert_eq!(room.reads("agent.py"), "new");
        assert!(!room.path("programs/ann/agent.py").symlink_metadata().unwrap().is_symlink());
        // Nor is a folder entered that is somewhere else.
        fs::create_dir(room.path("elsewhere")).unwrap();
        symlink(room.path("elsewhere"), room.path("programs/ann/lib")).unwrap();
        let refusal = room.put(std::slice::from_ref(&agent), Some("lib/agent.py")).unwrap_err();
        assert!(refusal.contains("lib is not a folder"), "{refusal}");
        fs::remove_dir_all(room.path("programs/ann")).unwrap();
        symlink(room.path("elsewhere"), room.path("programs/ann")).unwrap();
        let refusal = room.put(&[agent], None).unwrap_err();
        assert!(refusal.contains("ann is not a folder"), "{refusal}");
        assert_eq!(fs::read_dir(room.path("elsewhere")).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(victim).unwrap(), "mine");
    }

    #[test]
    fn what_cannot_be_put_changes_nothing() {
        let room = Room::new();
        let agent = room.file("agent.py", "new");
        room.file("programs/ann/agent.py", "old");
        room.file("lib/agent.py", "other");
        symlink("/etc/passwd", room.path("link")).unwrap();
        symlink("/etc/passwd", room.path("lib/link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(room.path("socket")).unwrap();
        let cases = [
            (vec![agent.clone(), room.path("link")], None, "link: a symbolic link"),
            (vec![agent.clone(), room.path("lib")], None, "lib/link: a symbolic link"),
            (vec![agent.clone(), room.path("socket")], None, "neither a file nor a folder"),
            (vec![agent.clone(), room.path("gone")], None, "gone"),
            (vec![agent.clone(), room.path("lib/agent.py")], None, "two of these"),
            (vec![agent.clone()], Some("../bob/agent.py"), "no place"),
            (vec![agent.clone()], Some("/agent.py"), "no place"),
            (vec![agent], Some("."), "no place"),
        ];
        for (sources, target, expected) in cases {
            let refusal = room.put(&sources, target).unwrap_err();
            assert!(refusal.contains(expected), "{expected}: {refusal}");
            assert_eq!(room.reads("agent.py"), "old", "{expected}");
            assert_eq!(fs::read_dir(room.path("programs/ann")).unwrap().count(), 1, "{expected}");
        }
    }

    #[test]
    fn what_a_command_left_that_died_before_its_rename_is_cleared_by_the_next() {
        let room = Room::new();
        room.file("programs/ann/agent.py", "old");
        room.file(&format!("programs/{STAGE}/0"), "half of the n");
        let agent = room.file("agent.py", "new");
        assert_eq!(room.reads("agent.py"), "old");
        room.put(&[agent], None).unwrap();
        assert_eq!(room.reads("agent.py"), "new");
        assert!(!room.path("programs").join(STAGE).exists());
    }

    #[test]
    fn an_edited_file_keeps_its_right_to_be_executed_and_links_are_not_read() {
        let room = Room::new();
        let programs = room.path("programs");
        let path = Path::new("bin/run");
        assert_eq!(read(&programs, "ann", path).unwrap(), None);
        write(&programs, "ann", path, b"one").unwrap();
        let there = room.path("programs/ann/bin/run");
        fs::set_permissions(&there, Permissions::from_mode(0o755)).unwrap();
        write(&programs, "ann", path, b"two").unwrap();
        assert_eq!(read(&programs, "ann", path).unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(fs::metadata(there).unwrap().permissions().mode() & 0o777, 0o755);
        symlink("/etc/passwd", room.path("programs/ann/link")).unwrap();
        let refusal = read(&programs, "ann", Path::new("link")).unwrap_err().to_string();
        assert!(refusal.contains("symbolic link"), "{refusal}");
        read(&programs, "ann", Path::new("../../agent.py")).unwrap_err();
    }
}
