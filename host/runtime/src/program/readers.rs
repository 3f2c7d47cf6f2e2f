//! Letting the user inside a container read a program.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Lets everybody read `folder` and all that is in it, and go into its folders; what somebody may
/// execute, all may. Whoever puts a file there by hand under a careful umask leaves one that the user
/// inside could not read. Nobody else on this machine gets here: `programs/` is closed to them.
///
/// Links are left alone, and what they lead to: only the host and its operator write here.
///
/// # Errors
/// The system's, with the path.
pub fn open_to_readers(folder: &Path) -> io::Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        open(&folder)?;
        for entry in fs::read_dir(&folder).map_err(|error| name(&folder, &error))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                open(&entry.path())?;
            }
        }
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<()> {
    let mode = fs::symlink_metadata(path).map_err(|error| name(path, &error))?.permissions().mode();
    let wanted = readable(mode);
    if wanted == mode {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(wanted)).map_err(|error| name(path, &error))
}

/// `mode` with the rights of all to read, and to execute what somebody may.
fn readable(mode: u32) -> u32 {
    let execute = if mode & 0o111 == 0 { 0 } else { 0o011 };
    mode | 0o044 | execute
}

fn name(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn all_may_read_what_was_put_there_under_a_careful_umask() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        fs::create_dir_all(program.join("skills/deep")).unwrap();
        let private = dir.path().join("private");
        let set = |path: &Path, mode| {
            if !path.is_dir() {
                fs::write(path, "x").unwrap();
            }
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        set(&private, 0o600);
        set(&program.join("agent.py"), 0o600);
        set(&program.join("run"), 0o700);
        set(&program.join("skills/deep/one.md"), 0o640);
        set(&program.join("skills/deep"), 0o700);
        symlink(&private, program.join("link")).unwrap();
        symlink(dir.path(), program.join("folder-link")).unwrap();
        set(&program, 0o700);

        open_to_readers(&program).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&program), 0o755);
        assert_eq!(mode(&program.join("agent.py")), 0o644);
        assert_eq!(mode(&program.join("run")), 0o755);
        assert_eq!(mode(&program.join("skills/deep")), 0o755);
        assert_eq!(mode(&program.join("skills/deep/one.md")), 0o644);
        assert_eq!(mode(&private), 0o600, "links are not followed");
        let missing = open_to_readers(&dir.path().join("gone")).unwrap_err().to_string();
        assert!(missing.contains("gone"), "{missing}");
    }
}
