//! Changing `twobox.toml`: whole or not at all, and only if nobody else has changed it meanwhile.

use std::fs::{self, File};
use std::io::Write;
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
    let failed = |error: std::io::Error| {
        Failure::new(format!("could not change {}: {error}", path.display()))
    };
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
    fresh.push(".new");
    let mut file = File::create(&fresh).map_err(failed)?;
    file.write_all(changed.as_bytes()).map_err(failed)?;
    file.set_permissions(fs::metadata(&path).map_err(failed)?.permissions()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    if fs::read_to_string(&path).map_err(failed)? != before {
        return Err(Failure::new(format!(
            "{} was changed meanwhile: try again; nothing was changed",
            path.display()
        )));
    }
    fs::rename(&fresh, &path).map_err(failed)
}
