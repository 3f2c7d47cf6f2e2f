//! Changing `twobox.toml`: whole or not at all, and only if nobody else has changed it meanwhile.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::section::SectionError;
use crate::cli::output::Failure;
use twobox_shared::bounds;

/// Changes the text of the file at `path`, which is replaced as a whole. A link stays one.
///
/// # Errors
/// Why nothing was changed.
pub(super) fn change(
    path: &Path,
    work: impl FnOnce(&str) -> Result<String, SectionError>,
) -> Result<(), Failure> {
    let failed =
        |error: io::Error| Failure::new(format!("could not change {}: {error}", path.display()));
    let path = fs::canonicalize(path).map_err(failed)?;
    let before = bounds::CONFIG_FILE.read_to_string(&path).map_err(failed)?;
    let changed = work(&before).map_err(|error| {
        Failure::new(format!("{}: {error}; nothing was changed", path.display()))
    })?;
    if changed == before {
        return Ok(());
    }
    bounds::CONFIG_FILE
        .check("the file", changed.len())
        .map_err(|error| Failure::new(format!("{error}; nothing was changed")))?;
    let mut fresh = path.as_os_str().to_owned();
    // Another command that changes it has a file of its own.
    fresh.push(format!(".{}.new", std::process::id()));
    let written = write(&path, Path::new(&fresh), &changed).map_err(failed);
    let replaced = written.and_then(|()| {
        if fs::read_to_string(&path).map_err(failed)? != before {
            return Err(Failure::new(format!(
                "{} was changed meanwhile: try again; nothing was changed",
                path.display()
            )));
        }
        fs::rename(&fresh, &path).map_err(failed)
    });
    if replaced.is_err() {
        drop(fs::remove_file(&fresh)); // it may not be there
    }
    replaced
}

/// Writes `text` into `fresh`, which nobody can read but who can read `path`.
fn write(path: &Path, fresh: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(fs::metadata(path)?.permissions())?;
    file.sync_all()
}
